#include "worker/vocabulary.h"

/* The table file, put into the program when it is built. */
__asm__(".pushsection .rodata\n.balign 64\nvocabulary_file_start:\n.incbin \"" VOCABULARY_FILE
        "\"\nvocabulary_file_end:\n.byte 0\n.popsection\n");
extern const char vocabulary_file_start[] __attribute__((visibility("hidden")));
extern const char vocabulary_file_end[] __attribute__((visibility("hidden")));

static bool is_sound(const struct vocabulary_entry *entry, size_t file_bytes) {
    if (entry->slot_bits == 0 || entry->slot_bits > VOCABULARY_SLOT_BITS_MOST ||
        entry->offset % sizeof(uint64_t) != 0) {
        return false;
    }
    uint64_t slots = UINT64_C(1) << entry->slot_bits;
    /* A full table would be searched without end. */
    return entry->offset >= sizeof(struct vocabulary_header) && entry->offset <= file_bytes &&
           slots * sizeof(uint64_t) <= file_bytes - entry->offset && entry->tokens >= 256 && entry->tokens < slots &&
           entry->tokens < VOCABULARY_NO_RANK && entry->longest_bytes >= 1 &&
           entry->longest_bytes <= VOCABULARY_TOKEN_BYTES_MOST;
}

bool vocabulary_read(struct span file, enum vocabulary_kind kind, struct vocabulary *out) {
    struct vocabulary_header header;
    if (file.len < sizeof(header) || (uintptr_t)file.base % sizeof(uint64_t) != 0) {
        return false;
    }
    memcpy(&header, file.base, sizeof(header));
    const struct vocabulary_entry *entry = &header.entries[kind];
    if (memcmp(header.magic, VOCABULARY_MAGIC, sizeof(header.magic)) != 0 || header.vocabularies != VOCABULARIES ||
        header.file_bytes != file.len || !is_sound(entry, file.len)) {
        return false;
    }
    *out = (struct vocabulary){.slots = (const uint64_t *)(const void *)(file.base + entry->offset),
                               .slot_bits = entry->slot_bits,
                               .longest_bytes = entry->longest_bytes,
                               .tokens = entry->tokens};
    return true;
}

bool vocabulary_get(enum vocabulary_kind kind, struct vocabulary *out) {
    return vocabulary_read(span_of(vocabulary_file_start, (size_t)(vocabulary_file_end - vocabulary_file_start)), kind,
                           out);
}

const char *vocabulary_describe(void) {
    struct vocabulary vocabulary;
    return vocabulary_get(VOCABULARY_O200K, &vocabulary) && vocabulary_get(VOCABULARY_CL100K, &vocabulary)
               ? "o200k, cl100k"
               : "none (token estimates are approximate)";
}

uint32_t vocabulary_rank(const struct vocabulary *vocabulary, const char *text, size_t len) {
    if (len > vocabulary->longest_bytes) {
        return VOCABULARY_NO_RANK;
    }
    uint64_t hash = vocabulary_hash(text, len);
    uint64_t tag = vocabulary_tag(hash);
    uint64_t last = (UINT64_C(1) << vocabulary->slot_bits) - 1;
    for (uint64_t at = vocabulary_home(hash, vocabulary->slot_bits);; at = (at + 1) & last) {
        uint64_t slot = vocabulary->slots[at];
        if (slot == VOCABULARY_FREE_SLOT) {
            return VOCABULARY_NO_RANK;
        }
        if ((slot ^ tag) >> VOCABULARY_RANK_BITS == 0) {
            return (uint32_t)(slot & VOCABULARY_NO_RANK);
        }
    }
}
