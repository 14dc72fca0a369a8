/* tests/unit/worker/fixture_testing.h - the recorded provider answers and their index, for the unit tests of the
 * worker. Include after cmocka.h. All texts live until fixtures_free. */
#ifndef TOLLGATE_TESTS_UNIT_WORKER_FIXTURE_TESTING_H
#define TOLLGATE_TESTS_UNIT_WORKER_FIXTURE_TESTING_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_read.h"

enum { FIXTURE_PATH_BYTES = 512, FIXTURE_BYTES_MOST = 16 << 20 };

struct fixtures {
    struct buffer index_text;
    struct json_doc index;
    int files; /* the array */
};

/* Reads a fixture's bytes into out, which is made here. */
static inline void fixture_read(const char *name, struct buffer *out) {
    char path[FIXTURE_PATH_BYTES];
    char block[65536];
    (void)snprintf(path, sizeof(path), "%s/%s", FIXTURES_DIR, name);
    buffer_init(out, FIXTURE_BYTES_MOST);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fail_msg("cannot open %s", path);
        return;
    }
    for (size_t got = fread(block, 1, sizeof(block), file); got != 0; got = fread(block, 1, sizeof(block), file)) {
        buffer_append(out, block, got);
    }
    (void)fclose(file);
    assert_false(out->failed);
}

static inline void fixtures_load(struct fixtures *fixtures) {
    fixture_read("INDEX.json", &fixtures->index_text);
    json_doc_init(&fixtures->index);
    assert_true(json_parse(&fixtures->index, buffer_span(&fixtures->index_text)));
    fixtures->files = json_member(&fixtures->index, 0, "files");
    assert_true(json_size(&fixtures->index, fixtures->files) > 100);
}

static inline void fixtures_free(struct fixtures *fixtures) {
    json_doc_fini(&fixtures->index);
    buffer_fini(&fixtures->index_text);
}

/* Is the file's member `name` the text `is`? */
static inline bool fixture_is(const struct fixtures *fixtures, int file, const char *name, const char *is) {
    return json_string_is(&fixtures->index, json_member(&fixtures->index, file, name), is);
}

/* Reads the fixture of an index entry; its name goes into name. */
static inline void fixture_open(const struct fixtures *fixtures, int file, char name[static FIXTURE_PATH_BYTES],
                                struct buffer *out) {
    assert_true(
        json_string_copy(&fixtures->index, json_member(&fixtures->index, file, "file"), name, FIXTURE_PATH_BYTES));
    fixture_read(name, out);
}

/* An expected count, -1 when the fixture states none. */
static inline int64_t fixture_expected(const struct fixtures *fixtures, int file, const char *name) {
    int64_t value = 0;
    int expected = json_member(&fixtures->index, file, "expected");
    return json_int(&fixtures->index, json_member(&fixtures->index, expected, name), &value) ? value : -1;
}

#endif
