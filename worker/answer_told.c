#include "worker/answer_told.h"

#include "base/hash.h"

_Static_assert(ANSWER_CHOICES_MOST <= UINT8_MAX + 1 && ANSWER_CALLS_MOST <= UINT16_MAX,
               "they are kept in small fields");

void answer_told_init(struct answer_told *told) { *told = (struct answer_told){.call_count = 0}; }

bool answer_told_has_room(int64_t choice) { return choice >= 0 && choice < ANSWER_CHOICES_MOST; }

static uint64_t hash_id(struct span id) { return id.len != 0 ? hash_fast(id, 0) | 1 : 0; }

int64_t answer_told_begin_call(struct answer_told *told, int64_t choice, int64_t index, struct span id) {
    if (told->tools[choice] >= ANSWER_CALLS_MOST) {
        return -1;
    }
    uint16_t number = told->tools[choice]++;
    told->calls[told->call_count++ % ANSWER_CALLS_REMEMBERED] =
        (struct answer_told_call){.index = index, .id_hash = hash_id(id), .number = number, .choice = (uint8_t)choice};
    return number;
}

int64_t answer_told_find_call(const struct answer_told *told, int64_t choice, int64_t index, struct span id,
                              bool has_name) {
    uint64_t id_hash = hash_id(id);
    int64_t oldest = told->call_count > ANSWER_CALLS_REMEMBERED ? told->call_count - ANSWER_CALLS_REMEMBERED : 0;
    for (int64_t at = told->call_count - 1; at >= oldest; at--) {
        const struct answer_told_call *call = &told->calls[at % ANSWER_CALLS_REMEMBERED];
        if (call->choice != choice || call->index != index) {
            continue;
        }
        bool is_other = has_name && id_hash != 0 && call->id_hash != 0 && call->id_hash != id_hash;
        return is_other ? -1 : call->number;
    }
    return -1;
}

void answer_told_finish(const struct answer_sink *sink, int64_t choice, enum answer_finish finish,
                        struct span sequence) {
    if (finish == ANSWER_FINISH_NONE || !answer_told_has_room(choice) || sink->told->is_finished[choice]) {
        return;
    }
    sink->told->is_finished[choice] = true;
    const struct answer_part part = {
        .kind = ANSWER_PART_FINISH, .choice = choice, .tool = -1, .text = sequence, .finish = finish};
    sink->on_part(sink->context, &part);
}
