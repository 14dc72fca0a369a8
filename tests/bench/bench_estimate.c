/* What token estimates cost: a byte of a prompt, an event of a stream, a prompt as long as may be. Beside each, what
 * the guess that needs no vocabulary costs. bench_estimate */
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "worker/estimate.h"

enum { TEXT_BYTES = 64 << 10, ROUNDS = 64, LONG_BYTES = 16 << 20, EVENTS = 200000, DELTA_BYTES = 20, TOKEN_BYTES = 5 };

/* Words of all lengths, of a vocabulary of a few thousand, with signs and numbers among them. */
static void make_text(char *out, size_t len) {
    static const char *const parts[] = {"the",     " of",  "ing",     " re", "lay", " count", "er",
                                        " stream", "s",    " budget", ", ",  ". ",  " 12",    "\n",
                                        " A",      "tion", " token",  "un",  "ed",  " is",    " that"};
    uint32_t seed = 1;
    for (size_t at = 0; at < len;) {
        seed = seed * 1103515245U + 12345U;
        const char *part = parts[(seed >> 16) % (sizeof(parts) / sizeof(parts[0]))];
        size_t part_bytes = strlen(part) < len - at ? strlen(part) : len - at;
        memcpy(out + at, part, part_bytes);
        at += part_bytes;
    }
}

static double count_byte_ns(struct span text) {
    int64_t tokens = 0;
    int64_t begin_ns = clock_mono_ns();
    for (int round = 0; round < ROUNDS; round++) {
        tokens += estimate_text(SPAN_LITERAL("gpt-4o"), text);
    }
    CHECK(tokens > 0);
    return (double)(clock_mono_ns() - begin_ns) / ((double)ROUNDS * (double)text.len);
}

static double guess_byte_ns(struct span text) {
    struct guess guess = {.token_thousandths = 0};
    int64_t begin_ns = clock_mono_ns();
    for (int round = 0; round < ROUNDS; round++) {
        guess_add(&guess, text);
    }
    CHECK(guess_thousandths(&guess) > 0);
    return (double)(clock_mono_ns() - begin_ns) / ((double)ROUNDS * (double)text.len);
}

/* An event adds a piece and asks for the sum. */
static double event_ns(struct span text, size_t piece_bytes) {
    struct estimate estimate;
    int64_t tokens = 0;
    estimate_init(&estimate, SPAN_LITERAL("gpt-4o"));
    int64_t begin_ns = clock_mono_ns();
    for (int event = 0; event < EVENTS; event++) {
        size_t at = (size_t)event * piece_bytes % (text.len - piece_bytes);
        if (estimate.counted_bytes + (int64_t)piece_bytes > ESTIMATE_EXACT_BYTES - ESTIMATE_SAMPLE_BYTES) {
            estimate_init(&estimate, SPAN_LITERAL("gpt-4o"));
        }
        estimate_add_json(&estimate, span_of(text.base + at, piece_bytes));
        tokens += estimate_tokens(&estimate);
    }
    CHECK(tokens > 0);
    return (double)(clock_mono_ns() - begin_ns) / EVENTS;
}

static double long_ms(char *text) {
    int64_t begin_ns = clock_mono_ns();
    CHECK(estimate_text(SPAN_LITERAL("gpt-4o"), span_of(text, LONG_BYTES)) > 0);
    return (double)(clock_mono_ns() - begin_ns) / NS_PER_MS;
}

int main(void) {
    char *text = malloc(LONG_BYTES);
    CHECK(text != NULL);
    make_text(text, LONG_BYTES);
    struct span start = span_of(text, TEXT_BYTES);
    bench_row("tokens of a text, a byte", count_byte_ns(start), "ns", "guess", guess_byte_ns(start));
    bench_row("tokens of an event, 20 bytes", event_ns(start, DELTA_BYTES), "ns", NULL, 0);
    bench_row("tokens of an event, 5 bytes", event_ns(start, TOKEN_BYTES), "ns", NULL, 0);
    bench_row("tokens of a prompt of 16 MiB", long_ms(text), "ms", NULL, 0);
    memset(text, 'a', LONG_BYTES);
    bench_row("the same, of one letter", long_ms(text), "ms", NULL, 0);
    free(text);
    return 0;
}
