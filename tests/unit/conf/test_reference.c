/* REFERENCE.md says what the settings say. UPDATE=1 rewrites the page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "conf/conf_reader.h"
#include "conf_testing.h"

static void write_page(const struct buffer *page) {
    FILE *file = fopen(REFERENCE_PATH, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(page->base, 1, page->len, file), page->len);
    assert_int_equal(fclose(file), 0);
}

static void test_page_is_up_to_date(void **state) {
    (void)state;
    struct buffer page;
    buffer_init(&page, 1 << 20);
    conf_reference(&page);
    assert_false(page.failed);
    if (getenv("UPDATE") != NULL) {
        write_page(&page);
    }
    size_t len = 0;
    char *written = read_whole_file(REFERENCE_PATH, &len);
    if (len != page.len || memcmp(written, page.base, len) != 0) {
        print_error("conf/REFERENCE.md is out of date; run this test with UPDATE=1\n");
        fail();
    }
    free(written);
    buffer_fini(&page);
}

static void test_every_row_is_on_the_page(void **state) {
    (void)state;
    struct buffer page;
    buffer_init(&page, 1 << 20);
    conf_reference(&page);
    for (size_t i = 0; i < conf_setting_count; i++) {
        char cell[128];
        (void)snprintf(cell, sizeof(cell), "%s` | %s |", conf_settings[i].name, conf_settings[i].kind->label);
        assert_non_null(strstr(buffer_text(&page), cell));
        assert_non_null(strstr(buffer_text(&page), conf_settings[i].help));
    }
    buffer_fini(&page);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_is_up_to_date),
        cmocka_unit_test(test_every_row_is_on_the_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
