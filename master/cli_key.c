/* `key ...`. A key's secret passes through here twice: new ones are printed once, and KEY may be a secret. */
#include <stdio.h>

#include "base/key_format.h"
#include "master/cli_run.h"

enum { KEY_LINE_BYTES = 256, SECRET_BYTES = 128 };

static const struct cli_column key_columns[] = {
    {"id", "key", CLI_COLUMN_TEXT, false},
    {"name", "name", CLI_COLUMN_TEXT, false},
    {"tenant", "tenant", CLI_COLUMN_TEXT, false},
    {"state", "state", CLI_COLUMN_TEXT, false},
    {"expires", "expires", CLI_COLUMN_TEXT, false},
    {"rpm", "rpm", CLI_COLUMN_COUNT, false},
    {"tpm", "tpm", CLI_COLUMN_COUNT, false},
    {"concurrent", "concurrent", CLI_COLUMN_COUNT, true},
    {"budgets.day", "budget/day", CLI_COLUMN_MONEY, true},
    {"budgets.month", "budget/month", CLI_COLUMN_MONEY, false},
    {"budgets.total", "budget/total", CLI_COLUMN_MONEY, true},
    {"models", "models", CLI_COLUMN_LIST, true},
    {"allow_ip", "networks", CLI_COLUMN_LIST, true},
    {"require_signature", "signed", CLI_COLUMN_TEXT, true},
    {"tags", "tags", CLI_COLUMN_LIST, true},
    {"spend_usd.day", "spent today", CLI_COLUMN_MONEY, true},
    {"spend_usd.month", "this month", CLI_COLUMN_MONEY, false},
    {"spend_usd.total", "in all", CLI_COLUMN_MONEY, false},
    {"created", "created", CLI_COLUMN_TEXT, true},
};

/* Reads a key from the first line of stdin. */
static bool read_key(char out[static KEY_LINE_BYTES]) {
    if (fgets(out, KEY_LINE_BYTES, stdin) == NULL) {
        return false;
    }
    out[strcspn(out, "\r\n")] = '\0';
    return out[0] != '\0';
}

int cli_add_key(const struct cli *cli, struct json_writer *json, const char *key) {
    char line[KEY_LINE_BYTES];
    if (strcmp(key, "-") != 0) {
        json_write_text(json, "key", key);
        return CLI_EXIT_DONE;
    }
    if (!read_key(line)) {
        return cli_misuse(cli, "- reads the key from stdin, and there was none");
    }
    json_write_text(json, "key", line);
    explicit_bzero(line, sizeof(line));
    return CLI_EXIT_DONE;
}

/* --tag NAME=VALUE ... as {"NAME": "VALUE"}; `none` alone removes all. */
static void add_tags(const struct cli *cli, struct json_writer *json) {
    if (cli->tag_count == 0) {
        return;
    }
    if (cli->tag_count == 1 && cli_is_none(cli, CLI_TAG)) {
        json_write_null(json, "tags");
        return;
    }
    json_begin_object(json, "tags");
    for (int i = 0; i < cli->tag_count; i++) {
        char name[64];
        const char *equals = strchr(cli->tags[i], '=');
        size_t len = equals != NULL ? (size_t)(equals - cli->tags[i]) : 0;
        if (equals != NULL && span_copy(span_of(cli->tags[i], len), name, sizeof(name))) {
            json_write_text(json, name, equals + 1);
        }
    }
    json_end_object(json);
}

static int check_tags(const struct cli *cli) {
    for (int i = 0; i < cli->tag_count; i++) {
        size_t len = strcspn(cli->tags[i], "=");
        if (len > 63) {
            return cli_misuse(cli, "--tag: a tag's name has at most 63 characters");
        }
        if (cli->tag_count > 1 && strcmp(cli->tags[i], "none") == 0) {
            return cli_misuse(cli, "--tag none removes all tags and stands alone");
        }
        for (int j = 0; j < i; j++) {
            if (strncmp(cli->tags[i], cli->tags[j], len + 1) == 0) {
                return cli_misuse(cli, "--tag %.*s is given twice", (int)len, cli->tags[i]);
            }
        }
    }
    return CLI_EXIT_DONE;
}

static int add_settings(const struct cli *cli, struct json_writer *json) {
    cli_add_text(cli, json, CLI_NAME, "name");
    cli_add_list(cli, json, CLI_MODELS, "models");
    cli_add_list(cli, json, CLI_ALLOW_IP, "allow_ip");
    if (cli_given(cli, CLI_REQUIRE_SIGNATURE)) {
        json_write_bool(json, "require_signature", strcmp(cli->values[CLI_REQUIRE_SIGNATURE], "no") != 0);
    }
    int status = check_tags(cli);
    if (status == CLI_EXIT_DONE) {
        add_tags(cli, json);
        status = cli_add_moment(cli, json, CLI_EXPIRES, "expires", true);
    }
    return status == CLI_EXIT_DONE ? cli_add_limits(cli, json) : status;
}

/* Prints the new secret alone, or the whole object as JSON. */
static int print_secret(const struct cli *cli, const struct json_doc *doc, int result) {
    char secret[SECRET_BYTES];
    if (cli->format == CLI_JSON_TEXT) {
        return cli_print_object(cli, doc, result, key_columns, CLI_COUNT_OF(key_columns));
    }
    if (!json_string_copy(doc, json_member(doc, result, "secret"), secret, sizeof(secret) - 1)) {
        return cli_fail(cli, "the ledger gave no key; is the server of another version?");
    }
    size_t len = strlen(secret);
    secret[len] = '\n';
    bool printed = cli_print(cli, span_of(secret, len + 1));
    explicit_bzero(secret, sizeof(secret));
    return printed ? CLI_EXIT_DONE : CLI_EXIT_FAILED;
}

/* Ends the request, runs it and prints what came. */
static int finish(struct cli *cli, struct cli_request *request, int status, bool prints_secret) {
    struct json_doc doc;
    int result = -1;
    if (status != CLI_EXIT_DONE) {
        buffer_fini(&request->text);
        return status;
    }
    json_doc_init(&doc);
    status = cli_call(cli, request, false, &doc, &result);
    if (status == CLI_EXIT_DONE) {
        status = prints_secret ? print_secret(cli, &doc, result)
                               : cli_print_object(cli, &doc, result, key_columns, CLI_COUNT_OF(key_columns));
    }
    json_doc_fini(&doc);
    return status;
}

int cli_key_create(struct cli *cli) {
    struct cli_request request;
    int status = cli_load(cli);
    if (status != CLI_EXIT_DONE) {
        return status;
    }
    cli_request_begin(&request, "key.create");
    cli_add_text(cli, &request.json, CLI_TENANT, "tenant");
    return finish(cli, &request, add_settings(cli, &request.json), true);
}

/* An operation on the key that the operand names. */
static int run_key(struct cli *cli, const char *operation, bool prints_secret) {
    struct cli_request request;
    int status = cli_load(cli);
    if (status != CLI_EXIT_DONE) {
        return status;
    }
    cli_request_begin(&request, operation);
    status = cli_add_key(cli, &request.json, cli->operands[0]);
    cli_add_text(cli, &request.json, CLI_TENANT, "tenant");
    cli_add_text(cli, &request.json, CLI_GRACE, "grace");
    if (status == CLI_EXIT_DONE) {
        status = add_settings(cli, &request.json);
    }
    return finish(cli, &request, status, prints_secret);
}

int cli_key_show(struct cli *cli) { return run_key(cli, "key.show", false); }
int cli_key_update(struct cli *cli) { return run_key(cli, "key.update", false); }
int cli_key_rotate(struct cli *cli) { return run_key(cli, "key.rotate", true); }
int cli_key_disable(struct cli *cli) { return run_key(cli, "key.disable", false); }
int cli_key_enable(struct cli *cli) { return run_key(cli, "key.enable", false); }
int cli_key_revoke(struct cli *cli) { return run_key(cli, "key.revoke", false); }

static void add_tenant(const struct cli *cli, struct json_writer *json) {
    cli_add_text(cli, json, CLI_TENANT, "tenant");
}

int cli_key_list(struct cli *cli) {
    return cli_print_list(cli, "key.list", true, add_tenant, key_columns, CLI_COUNT_OF(key_columns));
}
