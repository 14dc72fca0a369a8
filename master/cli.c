#include "master/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/money.h"
#include "conf/conf.h"
#include "master/cli_run.h"
#include "master/process_title.h"

enum { WORD_MOST = 64, NEAR_MOST = 3 };

bool cli_given(const struct cli *cli, enum cli_option_id option) { return cli->values[option] != NULL; }

bool cli_is_none(const struct cli *cli, enum cli_option_id option) {
    return cli_options[option].may_be_none && cli_given(cli, option) && strcmp(cli->values[option], "none") == 0;
}

const struct cli_command *cli_find_command(struct span name) {
    for (size_t i = 0; i < cli_command_count; i++) {
        if (span_is(name, cli_commands[i].name)) {
            return &cli_commands[i];
        }
    }
    return NULL;
}

/* Edits (insert, delete, replace) that turn a into b, both shorter than WORD_MOST. */
static size_t count_edits(struct span a, struct span b) {
    size_t row[WORD_MOST + 1];
    for (size_t j = 0; j <= b.len; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t replaced = diagonal + (a.base[i - 1] == b.base[j - 1] ? 0 : 1);
            size_t added = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = replaced < added ? replaced : added;
        }
    }
    return row[b.len];
}

void cli_nearest_offer(struct cli_nearest *nearest, const char *candidate) {
    struct span name = span_text(candidate);
    if (nearest->wanted.len == 0 || nearest->wanted.len >= WORD_MOST || name.len >= WORD_MOST) {
        return;
    }
    bool begins = nearest->wanted.len >= 2 && name.len > nearest->wanted.len &&
                  memcmp(name.base, nearest->wanted.base, nearest->wanted.len) == 0;
    size_t distance = begins ? 1 : count_edits(nearest->wanted, name);
    bool near = distance <= NEAR_MOST && (begins || distance * 2 <= nearest->wanted.len);
    if (near && (nearest->name == NULL || distance < nearest->distance)) {
        nearest->name = candidate;
        nearest->distance = distance;
    }
}

/* "--name" or "-c" of a text; -1 when it names no option. */
static int find_option(struct span name) {
    for (int i = 0; i < CLI_OPTIONS; i++) {
        bool is_letter = name.len == 1 && name.base[0] == cli_options[i].letter;
        if (is_letter || span_is(name, cli_options[i].name)) {
            return i;
        }
    }
    return -1;
}

static bool is_count(const char *text) {
    int64_t value = 0;
    for (const char *c = text; *c != '\0'; c++) {
        if (*c < '0' || *c > '9' || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *c - '0', &value)) {
            return false;
        }
    }
    return text[0] != '\0';
}

static bool is_one_of(const char *text, const char *const *words) {
    for (; *words != NULL; words++) {
        if (strcmp(text, *words) == 0) {
            return true;
        }
    }
    return false;
}

/* What a value of this kind has to be when `text` is not one; NULL when it is fine. */
static const char *find_fault(enum cli_option_kind kind, const char *text) {
    static const char *const periods[] = {"day", "month", "total", NULL};
    static const char *const formats[] = {"table", "json", "csv", NULL};
    int64_t number = 0;
    switch (kind) {
    case CLI_KIND_FLAG:
        return NULL;
    case CLI_KIND_TEXT:
        return text[0] != '\0' ? NULL : "must not be empty";
    case CLI_KIND_COUNT:
        return is_count(text) ? NULL : "must be a whole number, such as 600";
    case CLI_KIND_AMOUNT:
        return money_parse(span_text(text), &number) && number >= 0 ? NULL : "must be a decimal, such as 12.50";
    case CLI_KIND_PERIOD:
        return is_one_of(text, periods) ? NULL : "must be day, month or total";
    case CLI_KIND_FORMAT:
        return is_one_of(text, formats) ? NULL : "must be table, json or csv";
    case CLI_KIND_PAIR:
        return strchr(text, '=') != NULL && text[0] != '=' ? NULL : "must be NAME=VALUE";
    case CLI_KIND_SPAN:
        return conf_parse_duration(span_text(text), &number) ? NULL : "must be a duration, such as 1h or 30d";
    }
    return NULL;
}

static bool store_value(struct cli *cli, int id, const char *value, struct buffer *error) {
    const struct cli_option *option = &cli_options[id];
    bool none = option->may_be_none && strcmp(value, "none") == 0;
    const char *fault = none ? NULL : find_fault(option->kind, value);
    if (fault != NULL) {
        buffer_format(error, "--%s %s", option->name, fault);
        return false;
    }
    if (id == CLI_TAG) {
        if (cli->tag_count == CLI_TAGS_MOST) {
            buffer_format(error, "--tag may be given %d times at most", CLI_TAGS_MOST);
            return false;
        }
        cli->tags[cli->tag_count++] = value;
    } else if (cli->values[id] != NULL) {
        buffer_format(error, "--%s is given twice", option->name);
        return false;
    }
    cli->values[id] = value;
    return true;
}

/* A flag: "--x", "--x=yes" or "--x=no". */
static bool store_flag(struct cli *cli, int id, const char *value, struct buffer *error) {
    static const char *const yes[] = {"", "yes", "true", NULL};
    static const char *const no[] = {"no", "false", NULL};
    value = value != NULL ? value : "";
    if (!is_one_of(value, yes) && !is_one_of(value, no)) {
        buffer_format(error, "--%s takes no value but yes or no", cli_options[id].name);
        return false;
    }
    cli->values[id] = is_one_of(value, yes) ? "" : "no";
    return true;
}

static void refuse_unknown(const struct cli *cli, struct span name, struct buffer *error) {
    struct cli_nearest nearest = {.wanted = name};
    uint64_t accepted = cli->command != NULL ? cli->command->accepts | CLI_EVERYWHERE : ~UINT64_C(0);
    for (int i = 0; i < CLI_OPTIONS; i++) {
        if ((accepted & CLI_BIT(i)) != 0) {
            cli_nearest_offer(&nearest, cli_options[i].name);
        }
    }
    buffer_format(error, "there is no option %s%.*s", name.len > 1 ? "--" : "-", (int)(name.len < 80 ? name.len : 80),
                  name.base);
    if (nearest.name != NULL) {
        buffer_format(error, "; did you mean --%s?", nearest.name);
    }
}

/* Takes the option at argv[*at] with its value; moves *at to the last argument used. */
static bool take_option(struct cli *cli, int argc, char *const *argv, int *at, struct buffer *error) {
    const char *argument = argv[*at];
    bool is_long = argument[1] == '-';
    const char *equals = is_long ? strchr(argument, '=') : NULL;
    const char *base = argument + (is_long ? 2 : 1);
    struct span name = equals != NULL ? span_of(base, (size_t)(equals - base)) : span_text(base);
    const char *value = equals != NULL ? equals + 1 : NULL;
    int id = find_option(name);
    if (id < 0 && !is_long && name.len > 1) {
        id = find_option(span_of(base, 1)); /* -cFILE */
        value = base + 1;
    }
    if (id < 0 || (is_long && name.len == 1)) {
        refuse_unknown(cli, name, error);
        return false;
    }
    if (cli_options[id].kind == CLI_KIND_FLAG) {
        return store_flag(cli, id, value, error);
    }
    if (value == NULL && *at + 1 >= argc) {
        buffer_format(error, "--%s needs a value: %s", cli_options[id].name, cli_options[id].argument);
        return false;
    }
    return store_value(cli, id, value != NULL ? value : argv[++*at], error);
}

/* Is it an option, rather than an operand such as "-" or "-5"? */
static bool is_option(const char *argument) {
    return argument[0] == '-' && argument[1] != '\0' && !(argument[1] >= '0' && argument[1] <= '9');
}

static bool begins_command(struct span word) {
    for (size_t i = 0; i < cli_command_count; i++) {
        struct span name = span_text(cli_commands[i].name);
        if (name.len > word.len && name.base[word.len] == ' ' && memcmp(name.base, word.base, word.len) == 0) {
            return true;
        }
    }
    return false;
}

static bool refuse_command(struct span words, struct buffer *error) {
    struct cli_nearest nearest = {.wanted = words};
    for (size_t i = 0; i < cli_command_count; i++) {
        if (!cli_commands[i].hidden) {
            cli_nearest_offer(&nearest, cli_commands[i].name);
        }
    }
    buffer_format(error, "there is no command \"%.*s\"", (int)(words.len < 80 ? words.len : 80), words.base);
    if (nearest.name != NULL) {
        buffer_format(error, "; did you mean \"%s\"?", nearest.name);
    } else {
        buffer_append_text(error, "; see tollgate help");
    }
    return false;
}

/* Names the command by the first operands (one or two words) and takes them off. */
static bool take_command(struct cli *cli, const char **words, int *count, struct buffer *error) {
    char name[2 * WORD_MOST];
    cli->command = NULL;
    if (*count == 0) {
        return true;
    }
    int used = *count >= 2 && begins_command(span_text(words[0])) ? 2 : 1;
    int len = snprintf(name, sizeof(name), "%s%s%s", words[0], used == 2 ? " " : "", used == 2 ? words[1] : "");
    cli->command = len > 0 && (size_t)len < sizeof(name) ? cli_find_command(span_text(name)) : NULL;
    if (cli->command != NULL) {
        *count -= used;
        memmove(words, words + used, sizeof(*words) * (size_t)*count);
        return true;
    }
    if (used == 1 && begins_command(span_text(words[0]))) {
        buffer_format(error, "\"%s\" needs a further word; see tollgate help %s", words[0], words[0]);
        return false;
    }
    return refuse_command(span_text(name), error);
}

static bool check_options(const struct cli *cli, struct buffer *error) {
    const struct cli_command *command = cli->command;
    for (int i = 0; i < CLI_OPTIONS; i++) {
        bool given = cli_given(cli, (enum cli_option_id)i);
        if (given && ((command->accepts | CLI_EVERYWHERE) & CLI_BIT(i)) == 0) {
            buffer_format(error, "this command takes no --%s; see tollgate help %s", cli_options[i].name,
                          command->name);
            return false;
        }
        if (!given && (command->requires & CLI_BIT(i)) != 0) {
            buffer_format(error, "--%s %s is needed", cli_options[i].name, cli_options[i].argument);
            return false;
        }
    }
    return true;
}

static bool check_operands(const struct cli *cli, int count, const char *const *words, struct buffer *error) {
    const struct cli_command *command = cli->command;
    if (count > command->operands_most) {
        buffer_format(error, "\"%.80s\" is too much; the form is: tollgate %s%s%s", words[command->operands_most],
                      command->name, command->operands[0] != '\0' ? " " : "", command->operands);
        return false;
    }
    if (count < command->operands_least) {
        buffer_format(error, "%s is needed: tollgate %s %s", command->operands, command->name, command->operands);
        return false;
    }
    return true;
}

static void choose_format(struct cli *cli) {
    const char *format = cli->values[CLI_FORMAT];
    bool json = (cli_given(cli, CLI_JSON) && strcmp(cli->values[CLI_JSON], "no") != 0) ||
                (format != NULL && strcmp(format, "json") == 0);
    cli->format = json ? CLI_JSON_TEXT : format != NULL && strcmp(format, "csv") == 0 ? CLI_CSV : CLI_TABLE;
}

/* Splits argv into options (stored) and words. */
static bool split_arguments(struct cli *cli, int argc, char *const *argv, const char **words, int *count,
                            struct buffer *error) {
    bool options_end = false;
    for (int i = 1; i < argc; i++) {
        if (!options_end && strcmp(argv[i], "--") == 0) {
            options_end = true;
        } else if (!options_end && is_option(argv[i])) {
            if (!take_option(cli, argc, argv, &i, error)) {
                return false;
            }
        } else {
            words[(*count)++] = argv[i];
        }
    }
    return true;
}

/* Finds the command ahead of time, so that a misspelt option is compared with that command's own. */
static void foresee_command(struct cli *cli, int argc, char *const *argv) {
    for (int i = 1; i < argc; i++) {
        struct span first = span_text(argv[i]);
        char name[2 * WORD_MOST];
        if (is_option(argv[i])) {
            continue;
        }
        cli->command = cli_find_command(first);
        if (cli->command == NULL && i + 1 < argc && begins_command(first) &&
            snprintf(name, sizeof(name), "%s %s", argv[i], argv[i + 1]) < (int)sizeof(name)) {
            cli->command = cli_find_command(span_text(name));
        }
        if (cli->command != NULL) {
            return;
        }
    }
}

bool cli_parse(struct cli *cli, int argc, char *const *argv, struct buffer *error) {
    *cli = (struct cli){.command = NULL};
    buffer_init(&cli->answer, CLI_TEXT_MOST);
    const char **words = calloc((size_t)argc + 1, sizeof(*words));
    CHECK(words != NULL);
    int count = 0;
    foresee_command(cli, argc, argv);
    bool done = split_arguments(cli, argc, argv, words, &count, error);
    bool asks_help = cli_given(cli, CLI_HELP) || cli_given(cli, CLI_VERSION);
    if (done) {
        done = take_command(cli, words, &count, error) || asks_help;
    }
    if (done && cli->command != NULL && !asks_help) {
        done = check_options(cli, error) && check_operands(cli, count, words, error);
    }
    for (int i = 0; done && i < count && i < CLI_OPERANDS_MOST; i++) {
        cli->operands[cli->operand_count++] = words[i];
    }
    choose_format(cli);
    free(words);
    return done;
}

static void print_fault(const struct cli *cli, const char *why, va_list arguments) {
    const char *what = cli->command != NULL ? cli->command->name : "usage";
    char text[CLI_ERROR_MOST];
    (void)vsnprintf(text, sizeof(text), why, arguments);
    (void)fflush(stdout);
    (void)fprintf(stderr, "tollgate: %s: %s\n", what, text);
}

int cli_fail(const struct cli *cli, const char *why, ...) {
    va_list arguments;
    va_start(arguments, why);
    print_fault(cli, why, arguments);
    va_end(arguments);
    return CLI_EXIT_FAILED;
}

int cli_misuse(const struct cli *cli, const char *why, ...) {
    va_list arguments;
    va_start(arguments, why);
    print_fault(cli, why, arguments);
    va_end(arguments);
    return CLI_EXIT_USAGE;
}

/* Keys given as arguments must not stay readable in ps. */
static void hide_secrets(int argc, char *const *argv) {
    for (int i = 1; i < argc; i++) {
        if (strstr(argv[i], "sk-tg-") != NULL) {
            process_title_set("tollgate (arguments hidden)");
            return;
        }
    }
}

static int run(struct cli *cli, const struct buffer *error, bool parsed) {
    if (cli_given(cli, CLI_VERSION)) {
        return cli_version();
    }
    if (parsed && cli_given(cli, CLI_HELP)) {
        return cli_help(cli);
    }
    if (!parsed) {
        return cli_misuse(cli, "%s", buffer_text(error));
    }
    if (cli->command == NULL) {
        return cli_misuse(cli, "a command is needed; see tollgate help");
    }
    return cli->command->run(cli);
}

int cli_main(int argc, char **argv) {
    struct cli cli;
    struct buffer error;
    buffer_init(&error, CLI_ERROR_MOST);
    hide_secrets(argc, argv);
    log_set_up(LOG_WARN, LOG_TEXT_FORMAT, "cli");
    bool parsed = cli_parse(&cli, argc, argv, &error);
    int status = run(&cli, &error, parsed);
    cli_close(&cli);
    buffer_fini(&error);
    if (fflush(stdout) != 0 && status == CLI_EXIT_DONE) {
        status = cli_fail(&cli, "standard output: %m");
    }
    return status;
}
