/* master/cli_run.h - what the commands share: the configuration, operations through the client, the ledger, arguments.
 * Used by: master/cli_*.c. Ownership: what is opened here is kept in struct cli and closed by cli_close.
 * Errors: functions that fail have printed why; they return an exit status, or false with *status set. */
#ifndef TOLLGATE_MASTER_CLI_RUN_H
#define TOLLGATE_MASTER_CLI_RUN_H

#include "base/json_read.h"
#include "base/json_write.h"
#include "conf/conf.h"
#include "master/cli.h"
#include "master/cli_render.h"
#include "shm/shm_map.h"
#include "store/client.h"
#include "store/ledger.h"

/* Loads the configuration into cli->conf and puts the time zone in force. What is wrong in it does not matter, as long
 * as it tells the state directory, or --state does. */
MUST_CHECK int cli_load(struct cli *cli);

/* The same for commands that need a configuration without findings; they go to stderr. */
MUST_CHECK int cli_load_strictly(struct cli *cli);

/* Prints the findings of the configuration at path, and frees them. Returns CLI_EXIT_USAGE. */
int cli_refuse_findings(const struct cli *cli, const char *path, struct conf_findings *findings);

/* The state directory: of --state, or of the configuration. NULL with *status set. */
MUST_CHECK const char *cli_state_dir(struct cli *cli, int *status);

/* Releases all that a command opened and wipes the last answer. */
void cli_close(struct cli *cli);

/* A request in the making: the object is open, arguments are added, cli_call ends it. */
struct cli_request {
    struct buffer text;
    struct json_writer json;
};
void cli_request_begin(struct cli_request *request, const char *operation);

/* Runs the operation (opening the client first when there is none), parses its answer into *doc and frees the request.
 * make_state as in client_open. Returns CLI_EXIT_DONE with *result the value of "result". */
MUST_CHECK int cli_call(struct cli *cli, struct cli_request *request, bool make_state, struct json_doc *doc,
                        int *result);

/* Has the server commit what it has counted, and opens the ledger for reading (closing the client). */
MUST_CHECK int cli_open_ledger(struct cli *cli);

/* Adds the option to the request: nothing when it was not given, null for `none`. */
void cli_add_text(const struct cli *cli, struct json_writer *json, enum cli_option_id option, const char *field);
void cli_add_count(const struct cli *cli, struct json_writer *json, enum cli_option_id option, const char *field);
void cli_add_amount(const struct cli *cli, struct json_writer *json, enum cli_option_id option, const char *field);
/* A list with commas between. */
void cli_add_list(const struct cli *cli, struct json_writer *json, enum cli_option_id option, const char *field);

/* The whole number of a CLI_KIND_COUNT option that was given. */
int64_t cli_count(const struct cli *cli, enum cli_option_id option);

/* A moment given as date, duration or RFC 3339 into *wall_ns; future: durations count forward. Usage error otherwise.
 */
MUST_CHECK int cli_moment(const struct cli *cli, enum cli_option_id option, bool future, int64_t *wall_ns);
/* The same, added as RFC 3339 text. */
MUST_CHECK int cli_add_moment(const struct cli *cli, struct json_writer *json, enum cli_option_id option,
                              const char *field, bool future);

/* --rpm, --tpm, --concurrent, --budget with --per. Usage error when budget and period do not come together. */
MUST_CHECK int cli_add_limits(const struct cli *cli, struct json_writer *json);

/* Adds a "key": an id, a name or a secret as given, or the line on stdin for "-". */
MUST_CHECK int cli_add_key(const struct cli *cli, struct json_writer *json, const char *key);

/* Calls a list operation and prints all its rows; page by page when it is `paged` (takes limit and after).
 * add_arguments may be NULL. */
MUST_CHECK int cli_print_list(struct cli *cli, const char *operation, bool paged,
                              void (*add_arguments)(const struct cli *cli, struct json_writer *json),
                              const struct cli_column *columns, int column_count);

/* Prints the result of an operation as one object. */
int cli_print_object(const struct cli *cli, const struct json_doc *doc, int object, const struct cli_column *columns,
                     int column_count);

/* Attaches the segment of the server that runs on this state directory, read-only, and tells the master's pid. */
MUST_CHECK int cli_attach_server(struct cli *cli, struct shm_map *map, int32_t *master_pid);

/* Writes everything of `text` to stdout. False (with why on stderr) when that fails. */
bool cli_print(const struct cli *cli, struct span text);

#define CLI_COUNT_OF(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* The commands. Each returns the exit status. */
int cli_serve(struct cli *cli);
int cli_check(struct cli *cli);
int cli_status(struct cli *cli);
int cli_top(struct cli *cli);
int cli_reload(struct cli *cli);
int cli_drain(struct cli *cli);
int cli_stop(struct cli *cli);
int cli_reference(struct cli *cli);
int cli_tenant_create(struct cli *cli);
int cli_tenant_list(struct cli *cli);
int cli_tenant_show(struct cli *cli);
int cli_tenant_update(struct cli *cli);
int cli_tenant_disable(struct cli *cli);
int cli_tenant_enable(struct cli *cli);
int cli_credit_add(struct cli *cli);
int cli_credit_history(struct cli *cli);
int cli_key_create(struct cli *cli);
int cli_key_list(struct cli *cli);
int cli_key_show(struct cli *cli);
int cli_key_update(struct cli *cli);
int cli_key_rotate(struct cli *cli);
int cli_key_disable(struct cli *cli);
int cli_key_enable(struct cli *cli);
int cli_key_revoke(struct cli *cli);
int cli_price_list(struct cli *cli);
int cli_price_set(struct cli *cli);
int cli_price_import(struct cli *cli);
int cli_usage(struct cli *cli);
int cli_requests(struct cli *cli);
int cli_verify(struct cli *cli);
int cli_backup(struct cli *cli);
int cli_compact(struct cli *cli);

#endif
