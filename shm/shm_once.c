#include "shm/shm_once.h"

#include "base/hash.h"
#include "shm/shm_journal_layout.h"

/* gcc inlines cmpxchg16b for this builtin, but calls libatomic for the C11 forms (libraries.md). */
typedef unsigned __int128 pair_type;

union pair {
    struct {
        uint64_t tag;
        uint64_t holder;
    } half;
    pair_type word;
};

static struct shm_once_sh *entry_at(const struct shm_journal *journal, uint32_t entry) {
    return &journal->once[entry & (journal->header->once_count - 1)];
}

static union pair load(struct shm_once_sh *entry) {
    union pair seen;
    /* There is no plain 16-byte load: a swap of nothing by nothing reads both halves in one step. */
    seen.word = __sync_val_compare_and_swap((pair_type *)(void *)entry, 0, 0);
    return seen;
}

static bool swap(struct shm_once_sh *entry, union pair seen, uint64_t tag, uint64_t holder) {
    const union pair wanted = {.half = {tag, holder}};
    return __sync_bool_compare_and_swap((pair_type *)(void *)entry, seen.word, wanted.word);
}

static uint64_t holder_of(struct shm_journal_id stream) {
    return (uint64_t)stream.generation << 32 | (uint64_t)(stream.row + 1);
}

static struct shm_journal_id stream_of(uint64_t holder) {
    return (struct shm_journal_id){(uint32_t)holder - 1, (uint32_t)(holder >> 32)};
}

uint64_t shm_once_tag(uint32_t key_index, struct span text) {
    unsigned char hash[SHA256_BYTES];
    uint64_t tag = 0;
    const struct span pieces[] = {span_of((const char *)&key_index, sizeof(key_index)), text};
    hash_sha256_pieces(pieces, 2, hash);
    memcpy(&tag, hash, sizeof(tag));
    return tag != 0 ? tag : 1;
}

/* While the answer is there, so is the entry. */
static int64_t age_ns(const struct shm_journal *journal, struct shm_once_sh *entry, union pair seen,
                      int64_t now_mono_ns) {
    bool is_there = shm_journal_stream(journal, stream_of(seen.half.holder)) != NULL;
    return is_there ? 0 : now_mono_ns - atomic_load(&entry->begun_mono_ns);
}

/* The answer that holds the entry says it itself while it is there; the entry's own copy is for afterwards. */
static void describe(struct shm_journal *journal, uint32_t index, union pair seen, struct shm_once_found *found) {
    struct shm_once_sh *entry = entry_at(journal, index);
    struct shm_journal_answer answer;
    *found = (struct shm_once_found){.once = {seen.half.tag, index}, .stream = stream_of(seen.half.holder)};
    struct shm_journal_stream_sh *stream = shm_journal_stream(journal, found->stream);
    if (stream != NULL) {
        memcpy(found->body_hash, stream->body_hash, sizeof(found->body_hash));
        if (shm_journal_answer_of(journal, found->stream, &answer)) {
            memcpy(found->request_id, answer.request_id, sizeof(found->request_id));
            return;
        }
    }
    memcpy(found->body_hash, entry->body_hash, sizeof(found->body_hash));
    memcpy(found->request_id, entry->request_id, sizeof(found->request_id) - 1);
}

/* The entry of this tag, whether anybody holds it or not. -1: there is none. */
static int64_t find_entry(struct shm_journal *journal, uint64_t tag, int64_t but_not, union pair *seen) {
    for (uint32_t step = 0; step < SHM_ONCE_NEIGHBOURS; step++) {
        uint32_t index = ((uint32_t)tag + step) & (journal->header->once_count - 1);
        *seen = load(entry_at(journal, index));
        if (seen->half.tag == tag && (int64_t)index != but_not) {
            return index;
        }
        if (seen->half.tag == 0) {
            break; /* entries are taken in order and keep their tag */
        }
    }
    return -1;
}

enum shm_once_result shm_once_find(struct shm_journal *journal, uint64_t tag, int64_t now_mono_ns,
                                   struct shm_once_found *found) {
    union pair seen;
    int64_t index = find_entry(journal, tag, -1, &seen);
    if (index < 0 || seen.half.holder == 0) {
        return SHM_ONCE_FREE;
    }
    if (age_ns(journal, entry_at(journal, (uint32_t)index), seen, now_mono_ns) >= SHM_ONCE_KEPT_NS) {
        (void)swap(entry_at(journal, (uint32_t)index), seen, tag, 0);
        return SHM_ONCE_FREE;
    }
    describe(journal, (uint32_t)index, seen, found);
    return SHM_ONCE_HELD;
}

/* The entry for a tag: its own; else the first that was never used; else the oldest. All in one look, so that an entry
 * which another process takes for the same tag meanwhile is either seen or makes the swap fail. */
static uint32_t choose_entry(struct shm_journal *journal, uint64_t tag, int64_t now_mono_ns, union pair *seen) {
    uint32_t best = 0;
    int64_t best_rank = -1;
    for (uint32_t step = 0; step < SHM_ONCE_NEIGHBOURS; step++) {
        uint32_t index = ((uint32_t)tag + step) & (journal->header->once_count - 1);
        struct shm_once_sh *entry = entry_at(journal, index);
        union pair found = load(entry);
        bool is_it = found.half.tag == tag || found.half.tag == 0;
        int64_t rank = found.half.holder == 0 ? INT64_MAX : age_ns(journal, entry, found, now_mono_ns);
        if (is_it || rank > best_rank) {
            best = index;
            best_rank = rank;
            *seen = found;
        }
        if (is_it) {
            break;
        }
    }
    return best;
}

static void fill_entry(struct shm_journal *journal, uint32_t index, struct shm_journal_id stream, int64_t now_mono_ns) {
    struct shm_once_sh *entry = entry_at(journal, index);
    const struct shm_journal_stream_sh *row = shm_journal_stream(journal, stream);
    atomic_store(&entry->begun_mono_ns, now_mono_ns);
    if (row != NULL) {
        memcpy(entry->body_hash, row->body_hash, sizeof(entry->body_hash));
        memcpy(entry->request_id, row->request_id, sizeof(entry->request_id));
    }
}

enum shm_once_result shm_once_claim(struct shm_journal *journal, uint64_t tag, struct shm_journal_id stream,
                                    int64_t now_mono_ns, struct shm_once_found *found) {
    for (int tries = 0; tries < SHM_ONCE_NEIGHBOURS; tries++) {
        union pair seen;
        if (shm_once_find(journal, tag, now_mono_ns, found) == SHM_ONCE_HELD) {
            return SHM_ONCE_HELD;
        }
        uint32_t index = choose_entry(journal, tag, now_mono_ns, &seen);
        bool replaces = seen.half.tag != tag && seen.half.tag != 0;
        bool is_held = seen.half.tag == tag && seen.half.holder != 0;
        if (is_held || !swap(entry_at(journal, index), seen, tag, holder_of(stream))) {
            continue;
        }
        fill_entry(journal, index, stream, now_mono_ns);
        found->once = (struct shm_once){tag, index};
        /* Where an older entry had to go another process may have chosen another one to replace: neither runs. */
        if (replaces && find_entry(journal, tag, index, &seen) >= 0) {
            shm_once_release(journal, found->once, stream);
            return SHM_ONCE_BUSY;
        }
        return SHM_ONCE_CLAIMED;
    }
    return SHM_ONCE_BUSY;
}

void shm_once_release(struct shm_journal *journal, struct shm_once once, struct shm_journal_id stream) {
    if (once.tag != 0) {
        const union pair held = {.half = {once.tag, holder_of(stream)}};
        (void)swap(entry_at(journal, once.entry), held, once.tag, 0);
    }
}
