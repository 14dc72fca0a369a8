/* master/cli.h - the command line: one table of commands and options drives parsing, help and usage errors.
 * Used by: the program's entry only, in processes of its own (`serve` becomes the master).
 * Ownership: parsed texts point into argv, which lives as long as the process. Blocking: sockets and disk.
 * Errors: every failure prints "tollgate: WHAT: WHY" on stderr, with what to do, and gives an exit status of enum
 * cli_exit. */
#ifndef TOLLGATE_MASTER_CLI_H
#define TOLLGATE_MASTER_CLI_H

#include <stdint.h>

#include "base/buffer.h"

enum cli_exit { CLI_EXIT_DONE = 0, CLI_EXIT_FAILED = 1, CLI_EXIT_USAGE = 2 };

enum { CLI_OPERANDS_MOST = 4, CLI_TAGS_MOST = 32, CLI_TEXT_MOST = 256 << 20, CLI_ERROR_MOST = 64 << 10 };

enum cli_option_id {
    CLI_CONFIG,
    CLI_STATE,
    CLI_FORMAT,
    CLI_JSON,
    CLI_TZ,
    CLI_HELP,
    CLI_VERSION,
    CLI_TENANT,
    CLI_NAME,
    CLI_TIER,
    CLI_RPM,
    CLI_TPM,
    CLI_CONCURRENT,
    CLI_BUDGET,
    CLI_PER,
    CLI_CREDIT,
    CLI_MARKUP,
    CLI_MODELS,
    CLI_EXPIRES,
    CLI_ALLOW_IP,
    CLI_REQUIRE_SIGNATURE,
    CLI_TAG,
    CLI_GRACE,
    CLI_REF,
    CLI_INPUT,
    CLI_OUTPUT,
    CLI_CACHED_INPUT,
    CLI_CACHE_WRITE,
    CLI_BY,
    CLI_FROM,
    CLI_TO,
    CLI_KEY,
    CLI_MODEL,
    CLI_UPSTREAM,
    CLI_LAST,
    CLI_FOLLOW,
    CLI_ID,
    CLI_ONCE,
    CLI_OPTIONS
};

/* What an option's value has to look like. Checked while parsing. */
enum cli_option_kind {
    CLI_KIND_FLAG,   /* none; "--x=no" takes it back */
    CLI_KIND_TEXT,   /* not empty */
    CLI_KIND_COUNT,  /* a whole number from 0 */
    CLI_KIND_AMOUNT, /* a decimal from 0, at most nine places */
    CLI_KIND_PERIOD, /* day, month or total */
    CLI_KIND_FORMAT, /* table, json or csv */
    CLI_KIND_PAIR,   /* NAME=VALUE; may be repeated where a command sets tags */
    CLI_KIND_SPAN    /* a duration */
};

struct cli_option {
    const char *name;
    char letter; /* of the short form, or 0 */
    enum cli_option_kind kind;
    bool may_be_none;     /* the value `none` removes the setting in an update */
    const char *argument; /* how help calls the value */
    const char *help;
};

#define CLI_BIT(option) (UINT64_C(1) << (option))

struct cli;

struct cli_command {
    const char *name;     /* one or two words */
    const char *operands; /* as help shows them: "NAME", or "" */
    int operands_least;
    int operands_most;
    uint64_t accepts;  /* set of options, CLI_BIT each, besides those every command takes */
    uint64_t requires; /* subset that must be given */
    bool hidden;       /* left out of the list of commands */
    int (*run)(struct cli *cli);
    const char *summary; /* one line */
    const char *details; /* further lines of `help COMMAND`, or NULL */
};

enum cli_format { CLI_TABLE, CLI_JSON_TEXT, CLI_CSV };

struct conf;
struct client;
struct ledger;

/* One run of the program. */
struct cli {
    const struct cli_command *command; /* NULL: none was named */
    const char *operands[CLI_OPERANDS_MOST];
    int operand_count;
    const char *values[CLI_OPTIONS]; /* NULL: not given; a flag has "" */
    const char *tags[CLI_TAGS_MOST]; /* every --tag in order */
    int tag_count;
    enum cli_format format;
    struct conf *conf;
    int finding_count; /* of the configuration, when it was read leniently */
    struct client *client;
    struct ledger *ledger;
    struct buffer answer; /* of the last operation */
};

extern const struct cli_option cli_options[CLI_OPTIONS];
extern const struct cli_command cli_commands[];
extern const size_t cli_command_count;

/* Options that every command takes. */
#define CLI_EVERYWHERE (CLI_BIT(CLI_CONFIG) | CLI_BIT(CLI_STATE) | CLI_BIT(CLI_HELP))

/* Reads argv into *cli by the tables. False with *error set to a usage error's text. With --help or --version nothing
 * else is required to be right. */
MUST_CHECK bool cli_parse(struct cli *cli, int argc, char *const *argv, struct buffer *error);

bool cli_given(const struct cli *cli, enum cli_option_id option);

/* The value is the word `none`: the setting is to be removed. */
bool cli_is_none(const struct cli *cli, enum cli_option_id option);

/* The command of this name ("tenant create"), or NULL. */
const struct cli_command *cli_find_command(struct span name);

/* The nearest of the names that visit hands out, for "did you mean". Fold over candidates, starting with *best NULL. */
struct cli_nearest {
    struct span wanted;
    const char *name; /* NULL: nothing is near */
    size_t distance;
};
void cli_nearest_offer(struct cli_nearest *nearest, const char *candidate);

/* Prints "tollgate: WHAT: WHY" on stderr, WHAT being the command. Returns CLI_EXIT_FAILED or CLI_EXIT_USAGE. */
int cli_fail(const struct cli *cli, const char *why, ...) PRINTF_LIKE(2, 3);
int cli_misuse(const struct cli *cli, const char *why, ...) PRINTF_LIKE(2, 3);

/* `help`, `help COMMAND`, --help and --version. */
int cli_help(struct cli *cli);
void cli_help_print(const struct cli_command *command);
int cli_version(void);

/* The whole program after main. */
int cli_main(int argc, char **argv);

#endif
