#include "worker/bpe.h"

#include "base/check.h"

/* Merging: a piece begins as its bytes, and of all neighbours that together are a token the pair of the lowest rank
 * (the leftmost of equals) becomes one part, until no pair is a token. A heap holds the pairs; entries that a merge
 * has made void stay in it and are skipped when they come up. */

enum {
    PLACE_BITS = 10, /* a heap entry is a rank and a place, smallest first */
    HEAP_MOST = 3 * BPE_PIECE_BYTES
};
_Static_assert(BPE_PIECE_BYTES <= 1 << PLACE_BITS, "a place fits a heap entry");
_Static_assert(VOCABULARY_RANK_BITS + PLACE_BITS <= 32, "a heap entry fits its word");

/* A piece being merged. Parts are known by where they begin. */
struct merge {
    const struct vocabulary *vocabulary;
    struct span piece;
    uint16_t next[BPE_PIECE_BYTES + 1];
    uint16_t previous[BPE_PIECE_BYTES + 1];
    uint32_t rank[BPE_PIECE_BYTES]; /* of the part with the one after it */
    uint32_t heap[HEAP_MOST];
    int heap_count;
};

static void push(struct merge *merge, uint32_t entry) {
    CHECK(merge->heap_count < HEAP_MOST);
    int at = merge->heap_count++;
    for (; at > 0 && merge->heap[(at - 1) / 2] > entry; at = (at - 1) / 2) {
        merge->heap[at] = merge->heap[(at - 1) / 2];
    }
    merge->heap[at] = entry;
}

static uint32_t pop(struct merge *merge) {
    uint32_t least = merge->heap[0];
    uint32_t last = merge->heap[--merge->heap_count];
    int at = 0;
    for (int child = 1; child < merge->heap_count; child = 2 * at + 1) {
        child += child + 1 < merge->heap_count && merge->heap[child + 1] < merge->heap[child];
        if (merge->heap[child] >= last) {
            break;
        }
        merge->heap[at] = merge->heap[child];
        at = child;
    }
    merge->heap[at] = last;
    return least;
}

/* Looks up the pair that begins at `at`, and puts it on the heap when it is a token. */
static void weigh_pair(struct merge *merge, size_t at) {
    size_t second = merge->next[at];
    uint32_t rank = VOCABULARY_NO_RANK;
    if (second < merge->piece.len) {
        rank = vocabulary_rank(merge->vocabulary, merge->piece.base + at, merge->next[second] - at);
    }
    merge->rank[at] = rank;
    if (rank != VOCABULARY_NO_RANK) {
        push(merge, rank << PLACE_BITS | (uint32_t)at);
    }
}

/* Makes the pair at `at` one part. */
static void join(struct merge *merge, size_t at) {
    size_t gone = merge->next[at];
    size_t after = merge->next[gone];
    merge->next[at] = (uint16_t)after;
    merge->previous[after] = (uint16_t)at;
    merge->rank[gone] = VOCABULARY_NO_RANK;
    weigh_pair(merge, at);
    if (at != 0) {
        weigh_pair(merge, merge->previous[at]);
    }
}

static int merge_piece(struct merge *merge) {
    int parts = (int)merge->piece.len;
    for (size_t i = 0; i <= merge->piece.len; i++) {
        merge->next[i] = (uint16_t)(i + 1);
        merge->previous[i] = (uint16_t)(i != 0 ? i - 1 : 0);
    }
    for (size_t i = 0; i < merge->piece.len; i++) {
        weigh_pair(merge, i);
    }
    while (merge->heap_count != 0) {
        uint32_t least = pop(merge);
        size_t at = least & ((1U << PLACE_BITS) - 1);
        if (merge->rank[at] == least >> PLACE_BITS) {
            join(merge, at);
            parts--;
        }
    }
    return parts;
}

int bpe_count_piece(const struct vocabulary *vocabulary, struct span piece) {
    CHECK(piece.len <= BPE_PIECE_BYTES);
    if (piece.len <= 1 || vocabulary_rank(vocabulary, piece.base, piece.len) != VOCABULARY_NO_RANK) {
        return piece.len != 0;
    }
    struct merge merge;
    merge.vocabulary = vocabulary;
    merge.piece = piece;
    merge.heap_count = 0;
    return merge_piece(&merge);
}

static void count_piece(struct bpe_counter *counter, const struct vocabulary *vocabulary, struct span piece,
                        bool is_number) {
    if (is_number) {
        counter->extra_digits += (int64_t)piece.len - 1;
    }
    counter->tokens += bpe_count_piece(vocabulary, piece);
    counter->ended_bytes += (int64_t)piece.len;
}

/* Counts the pieces that have ended at the start of text; a piece too long is made to end. Returns the bytes counted.
 */
static size_t count_ended(struct bpe_counter *counter, const struct vocabulary *vocabulary, enum vocabulary_kind kind,
                          struct span text, bool is_last) {
    size_t at = 0;
    while (at < text.len) {
        struct span rest = span_skip(text, at);
        size_t window = rest.len < BPE_PIECE_BYTES ? rest.len : BPE_PIECE_BYTES;
        bool is_number = false;
        size_t len = pretoken_next(kind, span_of(rest.base, window), is_last && window == rest.len, &is_number);
        if (len == 0) {
            if (rest.len < BPE_PIECE_BYTES) {
                break;
            }
            window = pretoken_cut(rest, BPE_PIECE_BYTES);
            len = pretoken_next(kind, span_of(rest.base, window), true, &is_number);
        }
        count_piece(counter, vocabulary, span_of(rest.base, len), is_number);
        at += len;
    }
    return at;
}

/* Ends pieces that begin in what was open, with the help of the text after it. Returns how much of the text was used.
 */
static size_t close_open(struct bpe_counter *counter, const struct vocabulary *vocabulary, enum vocabulary_kind kind,
                         struct span text) {
    size_t used = 0;
    while (counter->open_bytes != 0 && used < text.len) {
        size_t room = BPE_PIECE_BYTES - counter->open_bytes;
        size_t taken = text.len - used < room ? text.len - used : room;
        size_t before = counter->open_bytes;
        memcpy(counter->open + before, text.base + used, taken);
        size_t counted = count_ended(counter, vocabulary, kind, span_of(counter->open, before + taken), false);
        if (counted >= before) {
            counter->open_bytes = 0;
            return used + counted - before;
        }
        memmove(counter->open, counter->open + counted, before + taken - counted);
        counter->open_bytes = (uint32_t)(before + taken - counted);
        used += taken;
    }
    return used;
}

void bpe_add(struct bpe_counter *counter, const struct vocabulary *vocabulary, enum vocabulary_kind kind,
             struct span text) {
    struct span rest = span_skip(text, close_open(counter, vocabulary, kind, text));
    rest = span_skip(rest, count_ended(counter, vocabulary, kind, rest, false));
    if (rest.len != 0) {
        CHECK(rest.len < BPE_PIECE_BYTES && counter->open_bytes == 0);
        memcpy(counter->open, rest.base, rest.len);
        counter->open_bytes = (uint32_t)rest.len;
    }
}

void bpe_break(struct bpe_counter *counter, const struct vocabulary *vocabulary, enum vocabulary_kind kind) {
    (void)count_ended(counter, vocabulary, kind, span_of(counter->open, counter->open_bytes), true);
    counter->open_bytes = 0;
}

int64_t bpe_tokens(const struct bpe_counter *counter, const struct vocabulary *vocabulary, enum vocabulary_kind kind) {
    int64_t tokens = counter->tokens;
    if (counter->open_bytes > BPE_OPEN_BYTES) {
        return counter->ended_bytes < BPE_OPEN_BYTES
                   ? tokens + (counter->open_bytes + 2) / 3
                   : tokens + (counter->open_bytes * counter->tokens + counter->ended_bytes - 1) / counter->ended_bytes;
    }
    struct span rest = span_of(counter->open, counter->open_bytes);
    while (rest.len != 0) {
        bool is_number = false;
        size_t len = pretoken_next(kind, rest, true, &is_number);
        tokens += bpe_count_piece(vocabulary, span_of(rest.base, len));
        rest = span_skip(rest, len);
    }
    return tokens;
}

void bpe_copy(struct bpe_counter *to, const struct bpe_counter *from) {
    to->tokens = from->tokens;
    to->extra_digits = from->extra_digits;
    to->ended_bytes = from->ended_bytes;
    to->open_bytes = from->open_bytes;
    memcpy(to->open, from->open, from->open_bytes);
}
