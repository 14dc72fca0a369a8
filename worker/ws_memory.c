#include "worker/ws_memory.h"

#include <stdlib.h>

struct ws_turn {
    struct ws_turn *next;
    size_t len;
    char messages[];
};

void ws_memory_init(struct ws_memory *memory, size_t context_bytes_most) {
    *memory = (struct ws_memory){.is_conversation = false};
    buffer_init(&memory->context, context_bytes_most);
}

static void drop_oldest(struct ws_memory *memory) {
    struct ws_turn *turn = memory->first;
    memory->first = turn->next;
    if (memory->first == NULL) {
        memory->last = NULL;
    }
    memory->bytes -= turn->len;
    free(turn);
}

void ws_memory_fini(struct ws_memory *memory) {
    while (memory->first != NULL) {
        drop_oldest(memory);
    }
    buffer_fini(&memory->context);
}

bool ws_memory_set_context(struct ws_memory *memory, struct span messages) {
    if (messages.len > memory->context.cap) {
        return false;
    }
    buffer_fini(&memory->context);
    buffer_append_span(&memory->context, messages);
    memory->is_conversation = true;
    return !memory->context.failed;
}

void ws_memory_add_turn(struct ws_memory *memory, struct span asked, struct span answered) {
    if (asked.len > WS_MEMORY_BYTES || answered.len > WS_MEMORY_BYTES) {
        return;
    }
    size_t comma = asked.len != 0 ? 1 : 0;
    size_t len = asked.len + comma + answered.len;
    struct ws_turn *turn = len <= WS_MEMORY_BYTES ? malloc(sizeof(*turn) + len) : NULL;
    if (turn == NULL) {
        return;
    }
    turn->next = NULL;
    turn->len = len;
    if (comma != 0) {
        memcpy(turn->messages, asked.base, asked.len);
        turn->messages[asked.len] = ',';
    }
    memcpy(turn->messages + asked.len + comma, answered.base, answered.len);
    while (memory->first != NULL && memory->bytes + len > WS_MEMORY_BYTES) {
        drop_oldest(memory);
    }
    *(memory->last != NULL ? &memory->last->next : &memory->first) = turn;
    memory->last = turn;
    memory->bytes += len;
}

void ws_memory_write(const struct ws_memory *memory, struct buffer *out) {
    if (!memory->is_conversation) {
        return;
    }
    if (memory->context.len != 0) {
        buffer_append_span(out, buffer_span(&memory->context));
        buffer_append_byte(out, ',');
    }
    for (const struct ws_turn *turn = memory->first; turn != NULL; turn = turn->next) {
        buffer_append(out, turn->messages, turn->len);
        buffer_append_byte(out, ',');
    }
}
