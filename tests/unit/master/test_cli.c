/* Parsing of the command line by its table: commands, options, usage errors and what they suggest. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "master/cli.h"

struct parsed {
    struct cli cli;
    struct buffer error;
    bool done;
};

#define PARSE(name, ...) struct parsed name = parse((char *[]){"tollgate", __VA_ARGS__, NULL})

static struct parsed parse(char **argv) {
    struct parsed parsed;
    int argc = 0;
    while (argv[argc] != NULL) {
        argc++;
    }
    buffer_init(&parsed.error, CLI_ERROR_MOST);
    parsed.done = cli_parse(&parsed.cli, argc, argv, &parsed.error);
    return parsed;
}

static void expect_command(struct parsed *parsed, const char *name) {
    if (!parsed->done) {
        print_message("%s\n", buffer_text(&parsed->error));
    }
    assert_true(parsed->done);
    assert_non_null(parsed->cli.command);
    assert_string_equal(parsed->cli.command->name, name);
    buffer_fini(&parsed->error);
}

static void expect_fault(struct parsed *parsed, const char *part) {
    assert_false(parsed->done);
    if (strstr(buffer_text(&parsed->error), part) == NULL) {
        fail_msg("\"%s\" does not hold \"%s\"", buffer_text(&parsed->error), part);
    }
    buffer_fini(&parsed->error);
}

static void takes_options_before_and_after_operands(void **state) {
    (void)state;
    PARSE(p, "-c", "a.yaml", "tenant", "--tier=pro", "create", "acme", "--rpm", "60", "--state", "/s");
    expect_command(&p, "tenant create");
    assert_int_equal(p.cli.operand_count, 1);
    assert_string_equal(p.cli.operands[0], "acme");
    assert_string_equal(p.cli.values[CLI_CONFIG], "a.yaml");
    assert_string_equal(p.cli.values[CLI_TIER], "pro");
    assert_string_equal(p.cli.values[CLI_RPM], "60");
    assert_string_equal(p.cli.values[CLI_STATE], "/s");
}

static void takes_a_short_option_with_its_value_attached(void **state) {
    (void)state;
    PARSE(p, "-ca.yaml", "check");
    expect_command(&p, "check");
    assert_string_equal(p.cli.values[CLI_CONFIG], "a.yaml");
}

static void an_options_value_is_no_command(void **state) {
    (void)state;
    PARSE(p, "-c", "serve");
    assert_true(p.done);
    assert_null(p.cli.command);
    buffer_fini(&p.error);
}

static void two_dashes_end_options(void **state) {
    (void)state;
    PARSE(p, "tenant", "show", "--", "--rpm");
    expect_command(&p, "tenant show");
    assert_string_equal(p.cli.operands[0], "--rpm");
}

static void a_dash_and_a_negative_number_are_operands(void **state) {
    (void)state;
    PARSE(p, "credit", "add", "acme", "-5", "--ref", "r1");
    expect_command(&p, "credit add");
    assert_string_equal(p.cli.operands[1], "-5");
    PARSE(q, "key", "show", "-");
    expect_command(&q, "key show");
    assert_string_equal(q.cli.operands[0], "-");
}

static void names_the_wrong_option_and_the_nearest(void **state) {
    (void)state;
    PARSE(p, "tenant", "create", "acme", "--teir", "pro");
    expect_fault(&p, "no option --teir; did you mean --tier?");
}

static void an_unlike_option_suggests_nothing(void **state) {
    (void)state;
    PARSE(p, "tenant", "create", "acme", "--zzzzzz", "1");
    assert_null(strstr(buffer_text(&p.error), "did you mean"));
    expect_fault(&p, "no option --zzzzzz");
}

static void refuses_another_commands_option(void **state) {
    (void)state;
    PARSE(p, "tenant", "create", "acme", "--input", "1");
    expect_fault(&p, "takes no --input");
}

static void names_the_nearest_command(void **state) {
    (void)state;
    PARSE(p, "tenant", "craete", "acme");
    expect_fault(&p, "did you mean \"tenant create\"?");
    PARSE(q, "statsu");
    expect_fault(&q, "did you mean \"status\"?");
}

static void half_a_command_is_not_one(void **state) {
    (void)state;
    PARSE(p, "key");
    expect_fault(&p, "needs a further word");
}

static void refuses_too_few_and_too_many_operands(void **state) {
    (void)state;
    PARSE(p, "tenant", "create");
    expect_fault(&p, "NAME is needed");
    PARSE(q, "tenant", "create", "a", "b");
    expect_fault(&q, "\"b\" is too much");
}

static void needs_what_a_command_requires(void **state) {
    (void)state;
    PARSE(p, "credit", "add", "acme", "5");
    expect_fault(&p, "--ref REF is needed");
    PARSE(q, "key", "create");
    expect_fault(&q, "--tenant NAME is needed");
}

static void refuses_values_of_the_wrong_kind(void **state) {
    (void)state;
    char *bad[][2] = {{"--rpm", "many"},
                      {"--rpm", "-1"},
                      {"--rpm", "9223372036854775808"},
                      {"--rpm", "1.5"},
                      {"--rpm", ""},
                      {"--budget", "1e3"},
                      {"--budget", "-1"},
                      {"--per", "week"},
                      {"--format", "xml"},
                      {"--markup", "1.0000000001"},
                      {"--tier", ""}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        PARSE(p, "tenant", "update", "acme", bad[i][0], bad[i][1]);
        expect_fault(&p, bad[i][0]);
    }
}

static void none_removes_a_setting(void **state) {
    (void)state;
    PARSE(p, "tenant", "update", "acme", "--rpm", "none", "--budget=none");
    expect_command(&p, "tenant update");
    assert_true(cli_is_none(&p.cli, CLI_RPM));
    assert_true(cli_is_none(&p.cli, CLI_BUDGET));
    assert_false(cli_is_none(&p.cli, CLI_TPM));
    PARSE(q, "price", "set", "m", "--input", "none", "--output", "1");
    expect_fault(&q, "--input");
}

static void refuses_an_option_given_twice_but_not_tags(void **state) {
    (void)state;
    PARSE(p, "tenant", "create", "a", "--rpm", "1", "--rpm=2");
    expect_fault(&p, "--rpm is given twice");
    PARSE(q, "key", "create", "--tenant", "a", "--tag", "x=1", "--tag", "y=2");
    expect_command(&q, "key create");
    assert_int_equal(q.cli.tag_count, 2);
}

static void a_tag_needs_a_name_and_a_value(void **state) {
    (void)state;
    PARSE(p, "key", "create", "--tenant", "a", "--tag", "team");
    expect_fault(&p, "NAME=VALUE");
    PARSE(q, "key", "create", "--tenant", "a", "--tag", "=x");
    expect_fault(&q, "NAME=VALUE");
}

static void a_missing_value_is_named(void **state) {
    (void)state;
    PARSE(p, "usage", "--by");
    expect_fault(&p, "--by needs a value");
}

static void chooses_the_format(void **state) {
    (void)state;
    PARSE(p, "usage", "--json");
    expect_command(&p, "usage");
    assert_int_equal(p.cli.format, CLI_JSON_TEXT);
    PARSE(q, "usage", "--format", "csv");
    expect_command(&q, "usage");
    assert_int_equal(q.cli.format, CLI_CSV);
}

static void a_flag_can_be_taken_back(void **state) {
    (void)state;
    PARSE(p, "key", "update", "k", "--require-signature=no");
    expect_command(&p, "key update");
    assert_string_equal(p.cli.values[CLI_REQUIRE_SIGNATURE], "no");
    PARSE(q, "key", "update", "k", "--require-signature=maybe");
    expect_fault(&q, "--require-signature");
}

static void help_needs_nothing_else_to_be_right(void **state) {
    (void)state;
    PARSE(p, "tenant", "create", "--help");
    expect_command(&p, "tenant create");
    assert_true(cli_given(&p.cli, CLI_HELP));
}

static void every_option_stands_in_the_table(void **state) {
    (void)state;
    for (int i = 0; i < CLI_OPTIONS; i++) {
        assert_non_null(cli_options[i].name);
        assert_non_null(cli_options[i].help);
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(cli_options[i].name, cli_options[j].name);
        }
    }
    for (size_t i = 0; i < cli_command_count; i++) {
        const struct cli_command *command = &cli_commands[i];
        assert_non_null(command->run);
        assert_ptr_equal(cli_find_command(span_text(command->name)), command);
        assert_int_equal(command->requires & ~command->accepts, 0);
        assert_true(command->operands_most <= CLI_OPERANDS_MOST);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_options_before_and_after_operands),
        cmocka_unit_test(takes_a_short_option_with_its_value_attached),
        cmocka_unit_test(an_options_value_is_no_command),
        cmocka_unit_test(two_dashes_end_options),
        cmocka_unit_test(a_dash_and_a_negative_number_are_operands),
        cmocka_unit_test(names_the_wrong_option_and_the_nearest),
        cmocka_unit_test(an_unlike_option_suggests_nothing),
        cmocka_unit_test(refuses_another_commands_option),
        cmocka_unit_test(names_the_nearest_command),
        cmocka_unit_test(half_a_command_is_not_one),
        cmocka_unit_test(refuses_too_few_and_too_many_operands),
        cmocka_unit_test(needs_what_a_command_requires),
        cmocka_unit_test(refuses_values_of_the_wrong_kind),
        cmocka_unit_test(none_removes_a_setting),
        cmocka_unit_test(refuses_an_option_given_twice_but_not_tags),
        cmocka_unit_test(a_tag_needs_a_name_and_a_value),
        cmocka_unit_test(a_missing_value_is_named),
        cmocka_unit_test(chooses_the_format),
        cmocka_unit_test(a_flag_can_be_taken_back),
        cmocka_unit_test(help_needs_nothing_else_to_be_right),
        cmocka_unit_test(every_option_stands_in_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
