#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/key_format.h"

static void check_hex(const unsigned char *digest, const char *expected) {
    char hex[SHA256_HEX_BYTES];
    hash_hex(digest, SHA256_BYTES, hex);
    assert_string_equal(hex, expected);
}

static void test_sha256(void **state) {
    (void)state;
    unsigned char digest[SHA256_BYTES];
    hash_sha256(SPAN_EMPTY, digest);
    check_hex(digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    hash_sha256(SPAN_LITERAL("abc"), digest);
    check_hex(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const struct span pieces[] = {SPAN_LITERAL("a"), SPAN_EMPTY, SPAN_LITERAL("bc")};
    hash_sha256_pieces(pieces, 3, digest);
    check_hex(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hash_sha256_pieces(pieces, 0, digest);
    check_hex(digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/* The cases of RFC 4231. */
static void test_hmac(void **state) {
    (void)state;
    unsigned char digest[SHA256_BYTES];
    char key[131];
    hash_hmac_sha256(SPAN_LITERAL("Jefe"), SPAN_LITERAL("what do ya want for nothing?"), digest);
    check_hex(digest, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof(key));
    hash_hmac_sha256(span_of(key, sizeof(key)), SPAN_LITERAL("Test Using Larger Than Block-Size Key - Hash Key First"),
                     digest);
    check_hex(digest, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    hash_hmac_sha256(SPAN_EMPTY, SPAN_EMPTY, digest);
    check_hex(digest, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void test_crc32(void **state) {
    (void)state;
    assert_int_equal(hash_crc32(SPAN_EMPTY), 0);
    assert_int_equal(hash_crc32(SPAN_LITERAL("123456789")), 0xCBF43926);
    char all[256];
    for (int i = 0; i < 256; i++) {
        all[i] = (char)i;
    }
    assert_int_equal(hash_crc32(span_of(all, sizeof(all))), 0x29058C73);
}

static void test_fast_hash_spreads(void **state) {
    (void)state;
    int used[256] = {0};
    int empty = 0;
    for (int i = 0; i < 4096; i++) {
        used[hash_fast(span_of((const char *)&i, sizeof(i)), 1) & 255]++;
    }
    for (int i = 0; i < 256; i++) {
        empty += used[i] == 0 ? 1 : 0;
        assert_true(used[i] < 64);
    }
    assert_int_equal(empty, 0);
    assert_true(hash_fast(SPAN_LITERAL("a"), 1) != hash_fast(SPAN_LITERAL("a"), 2));
    assert_true(hash_fast(SPAN_LITERAL("a"), 1) == hash_fast(SPAN_LITERAL("a"), 1));
}

static void test_equal(void **state) {
    (void)state;
    assert_true(hash_equal("abc", "abc", 3));
    assert_false(hash_equal("abc", "abd", 3));
    assert_true(hash_equal("abc", "abd", 2));
    assert_true(hash_equal(NULL, NULL, 0));
}

static void test_random(void **state) {
    (void)state;
    char text[62001];
    int counts[128] = {0};
    random_base62(text, 62000);
    assert_int_equal(strlen(text), 62000);
    for (size_t i = 0; i < 62000; i++) {
        counts[(unsigned char)text[i]]++;
    }
    /* A thousand each are expected; 250 either way is eight standard deviations. */
    for (const char *c = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"; *c != '\0'; c++) {
        assert_in_range(counts[(unsigned char)*c], 750, 1250);
    }
    unsigned char a[32] = {0};
    unsigned char b[32] = {0};
    random_bytes(a, sizeof(a));
    random_bytes(b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    random_base62(text, 0);
    assert_string_equal(text, "");
}

static void test_keys_are_valid_and_differ(void **state) {
    (void)state;
    char before[API_KEY_TEXT_BYTES] = "";
    for (int i = 0; i < 1000; i++) {
        char key[API_KEY_TEXT_BYTES];
        key_format_make(key);
        assert_int_equal(strlen(key), API_KEY_BYTES);
        assert_true(key_format_valid(span_text(key)));
        assert_string_not_equal(key, before);
        memcpy(before, key, sizeof(key));
    }
}

/* Checksums reckoned with another program (zlib's crc32, then base 62). */
static void test_known_keys(void **state) {
    (void)state;
    assert_true(key_format_valid(SPAN_LITERAL("sk-tg-0000000000000000000000000000000023Xxen")));
    assert_true(key_format_valid(SPAN_LITERAL("sk-tg-abcdefghijklmnopqrstuvwxyzABCDEF3G25F9")));
}

static void test_key_garbage(void **state) {
    (void)state;
    char key[API_KEY_TEXT_BYTES + 1];
    key_format_make(key);
    for (size_t at = 0; at < API_KEY_BYTES; at++) {
        char saved = key[at];
        key[at] = saved == 'a' ? 'b' : 'a';
        assert_false(key_format_valid(span_text(key)));
        key[at] = '\xff';
        assert_false(key_format_valid(span_of(key, API_KEY_BYTES)));
        key[at] = saved;
    }
    assert_false(key_format_valid(span_of(key, API_KEY_BYTES - 1)));
    key[API_KEY_BYTES] = '0';
    assert_false(key_format_valid(span_of(key, API_KEY_BYTES + 1)));
    assert_false(key_format_valid(SPAN_EMPTY));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256),      cmocka_unit_test(test_hmac),
        cmocka_unit_test(test_crc32),       cmocka_unit_test(test_fast_hash_spreads),
        cmocka_unit_test(test_equal),       cmocka_unit_test(test_random),
        cmocka_unit_test(test_known_keys),  cmocka_unit_test(test_keys_are_valid_and_differ),
        cmocka_unit_test(test_key_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
