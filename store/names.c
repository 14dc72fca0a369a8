#include "store/names.h"

#include <stdlib.h>

#include "base/hash.h"
#include "store/pack.h"

enum { SLOTS_FIRST = 256 };

void names_init(struct names *names) { *names = (struct names){.texts = NULL}; }

void names_fini(struct names *names) {
    names_forget(names, 0);
    free(names->texts);
    free(names->slots);
    names_init(names);
}

void names_digest(struct span text, unsigned char out[static NAME_DIGEST_BYTES]) {
    unsigned char whole[SHA256_BYTES];
    hash_sha256(text, whole);
    memcpy(out, whole, NAME_DIGEST_BYTES);
}

static uint32_t *find_slot(const struct names *names, struct span text) {
    uint32_t at = (uint32_t)hash_fast(text, 0) & (names->slot_count - 1);
    while (names->slots[at] != 0 && !span_is(text, names->texts[names->slots[at] - 1])) {
        at = (at + 1) & (names->slot_count - 1);
    }
    return &names->slots[at];
}

static void build_slots(struct names *names, uint32_t slot_count) {
    free(names->slots);
    names->slots = calloc(slot_count, sizeof *names->slots);
    CHECK(names->slots != NULL);
    names->slot_count = slot_count;
    for (uint32_t number = 0; number < names->count; number++) {
        *find_slot(names, span_text(names->texts[number])) = number + 1;
    }
}

static void remember(struct names *names, struct span text) {
    if (names->count == names->capacity) {
        uint32_t capacity = names->capacity == 0 ? 64 : names->capacity * 2;
        char **texts = reallocarray(names->texts, capacity, sizeof *texts);
        CHECK(texts != NULL);
        names->texts = texts;
        names->capacity = capacity;
    }
    char *copy = malloc(text.len + 1);
    CHECK(copy != NULL);
    (void)span_copy(text, copy, text.len + 1);
    names->texts[names->count++] = copy;
    if (names->count > names->slot_count / 2) {
        build_slots(names, names->slot_count == 0 ? SLOTS_FIRST : names->slot_count * 2);
    } else {
        *find_slot(names, span_text(copy)) = names->count;
    }
}

static struct span key_of(struct pack_key *key, uint32_t number) {
    key->len = 0;
    pack_key_u32(key, number);
    return pack_key_span(key);
}

/* Takes over what has been stored since the last look. */
static void catch_up(struct names *names, struct kv_txn *txn) {
    struct pack_key key = {.len = 0};
    struct span text = SPAN_EMPTY;
    if (names->count == 0) {
        remember(names, SPAN_EMPTY);
    }
    while (kv_get(txn, KV_NAMES, key_of(&key, names->count), &text) && text.len != 0 &&
           text.base[text.len - 1] == '\0') {
        remember(names, span_of(text.base, text.len - 1));
    }
}

const char *names_text(struct names *names, struct kv_txn *txn, uint32_t number) {
    if (number >= names->count) {
        catch_up(names, txn);
    }
    return number < names->count ? names->texts[number] : "";
}

static bool store(struct kv_txn *txn, uint32_t number, struct span text) {
    unsigned char digest[NAME_DIGEST_BYTES];
    struct pack_key by_number = {.len = 0};
    struct pack_key value = {.len = 0};
    char with_end[NAME_BYTES_MOST];
    names_digest(text, digest);
    pack_key_u32(&value, number);
    CHECK(span_copy(text, with_end, sizeof with_end)); /* models, upstreams and tag sets are shorter */
    return kv_put(txn, KV_NAMES, key_of(&by_number, number), span_of(with_end, text.len + 1)) &&
           kv_put(txn, KV_NAME_NUMBERS, span_of((const char *)digest, sizeof digest), pack_key_span(&value));
}

bool names_number(struct names *names, struct kv_txn *txn, struct span text, uint32_t *number) {
    if (names->count == 0) {
        catch_up(names, txn);
    }
    uint32_t slot = *find_slot(names, text);
    if (slot != 0) {
        *number = slot - 1;
        return true;
    }
    catch_up(names, txn);
    slot = *find_slot(names, text);
    if (slot != 0) {
        *number = slot - 1;
        return true;
    }
    if (!store(txn, names->count, text)) {
        return false;
    }
    *number = names->count;
    remember(names, text);
    return true;
}

void names_forget(struct names *names, uint32_t count) {
    while (names->count > count) {
        free(names->texts[--names->count]);
    }
    if (names->slots != NULL) {
        build_slots(names, names->slot_count);
    }
}
