/* A query, and the subprotocols that a browser offers, which may hold a key: what is found lies in the text, decoding
 * never grows it, both ways of decoding agree, and no protocol that holds a key is ever answered with. */
#include "fuzz.h"
#include "worker/query.h"
#include "worker/ws_handshake.h"

enum { SMALL_BYTES = 16 };

static void expect_inside(struct span part, struct span whole) {
    CHECK(part.len == 0 || (part.base >= whole.base && part.base + part.len <= whole.base + whole.len));
}

static void try_value(struct span value, size_t size) {
    char copy[SMALL_BYTES];
    struct buffer text;
    buffer_init(&text, size + 1);
    query_decode(value, &text);
    CHECK(!text.failed && text.len <= value.len);
    bool fits = query_copy(value, copy, sizeof(copy));
    bool has_nul = text.len != 0 && memchr(text.base, '\0', text.len) != NULL;
    CHECK(fits == (!has_nul && text.len < sizeof(copy)));
    CHECK(fits ? span_is(buffer_span(&text), copy) : copy[0] == '\0');
    buffer_fini(&text);
}

static void try_query(struct span query) {
    static const char *const names[] = {"model", "prompt", "api_key", "last_event_id", "resume", "", "a"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct span value;
        if (query_find(query, names[i], &value)) {
            expect_inside(value, query);
            CHECK(value.len == 0 || memchr(value.base, '&', value.len) == NULL);
            try_value(value, query.len);
        } else {
            CHECK(value.len == 0);
        }
    }
    try_value(query, query.len);
}

static void try_protocols(struct span protocols) {
    struct span key = ws_handshake_key(protocols);
    struct span answered = ws_handshake_protocol(protocols);
    expect_inside(key, protocols);
    expect_inside(answered, protocols);
    CHECK(answered.len == 0 || ws_handshake_key(answered).len == 0);
    CHECK(answered.len == 0 || memchr(answered.base, ',', answered.len) == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try_query(fuzz_span(data, size));
    try_protocols(fuzz_span(data, size));
    return 0;
}
