/* `tenant ...` and `credit ...`. */
#include "base/money.h"
#include "master/cli_run.h"

static const struct cli_column tenant_columns[] = {
    {"name", "tenant", CLI_COLUMN_TEXT, false},
    {"state", "state", CLI_COLUMN_TEXT, false},
    {"tier", "tier", CLI_COLUMN_TEXT, false},
    {"rpm", "rpm", CLI_COLUMN_COUNT, false},
    {"tpm", "tpm", CLI_COLUMN_COUNT, false},
    {"concurrent", "concurrent", CLI_COLUMN_COUNT, true},
    {"budgets.day", "budget/day", CLI_COLUMN_MONEY, true},
    {"budgets.month", "budget/month", CLI_COLUMN_MONEY, false},
    {"budgets.total", "budget/total", CLI_COLUMN_MONEY, true},
    {"markup", "markup", CLI_COLUMN_MONEY, true},
    {"credit_usd", "credit USD", CLI_COLUMN_MONEY, false},
    {"spend_usd.day", "spent today", CLI_COLUMN_MONEY, true},
    {"spend_usd.month", "this month", CLI_COLUMN_MONEY, false},
    {"spend_usd.total", "in all", CLI_COLUMN_MONEY, false},
    {"created", "created", CLI_COLUMN_TEXT, true},
};

/* A budget and its period belong together. */
static int check_budget(const struct cli *cli) {
    bool budget = cli_given(cli, CLI_BUDGET) && !cli_is_none(cli, CLI_BUDGET);
    if (budget && !cli_given(cli, CLI_PER)) {
        return cli_misuse(cli, "--budget needs its period: --per day, --per month or --per total");
    }
    if (!cli_given(cli, CLI_BUDGET) && cli_given(cli, CLI_PER)) {
        return cli_misuse(cli, "--per needs the amount: --budget USD");
    }
    return CLI_EXIT_DONE;
}

int cli_add_limits(const struct cli *cli, struct json_writer *json) {
    cli_add_count(cli, json, CLI_RPM, "rpm");
    cli_add_count(cli, json, CLI_TPM, "tpm");
    cli_add_count(cli, json, CLI_CONCURRENT, "concurrent");
    cli_add_amount(cli, json, CLI_BUDGET, "budget");
    cli_add_text(cli, json, CLI_PER, "per");
    return check_budget(cli);
}

/* Runs a tenant operation on the operand, with the settings that are given, and prints the tenant. */
static int run_tenant(struct cli *cli, const char *operation, bool make_state) {
    struct cli_request request;
    struct json_doc doc;
    int result = -1;
    int status = cli_load(cli);
    if (status != CLI_EXIT_DONE) {
        return status;
    }
    cli_request_begin(&request, operation);
    json_write_text(&request.json, "name", cli->operands[0]);
    cli_add_text(cli, &request.json, CLI_TIER, "tier");
    cli_add_amount(cli, &request.json, CLI_CREDIT, "credit");
    cli_add_amount(cli, &request.json, CLI_MARKUP, "markup");
    status = cli_add_limits(cli, &request.json);
    if (status != CLI_EXIT_DONE) {
        buffer_fini(&request.text);
        return status;
    }
    json_doc_init(&doc);
    status = cli_call(cli, &request, make_state, &doc, &result);
    if (status == CLI_EXIT_DONE) {
        status = cli_print_object(cli, &doc, result, tenant_columns, CLI_COUNT_OF(tenant_columns));
    }
    json_doc_fini(&doc);
    return status;
}

int cli_tenant_create(struct cli *cli) { return run_tenant(cli, "tenant.create", true); }
int cli_tenant_show(struct cli *cli) { return run_tenant(cli, "tenant.show", false); }
int cli_tenant_update(struct cli *cli) { return run_tenant(cli, "tenant.update", false); }
int cli_tenant_disable(struct cli *cli) { return run_tenant(cli, "tenant.disable", false); }
int cli_tenant_enable(struct cli *cli) { return run_tenant(cli, "tenant.enable", false); }

int cli_tenant_list(struct cli *cli) {
    return cli_print_list(cli, "tenant.list", true, NULL, tenant_columns, CLI_COUNT_OF(tenant_columns));
}

/* What `credit add` prints: one line for people, the object otherwise. */
static int print_credit(const struct cli *cli, const struct json_doc *doc, int result) {
    static const struct cli_column columns[] = {
        {"applied", "applied", CLI_COLUMN_TEXT, false},
        {"tenant", "tenant", CLI_COLUMN_TEXT, false},
        {"ref", "ref", CLI_COLUMN_TEXT, false},
        {"usd", "USD", CLI_COLUMN_MONEY, false},
        {"credit_usd", "credit USD", CLI_COLUMN_MONEY, false},
    };
    int64_t credit_nusd = 0;
    char credit[NUSD_TEXT_BYTES];
    if (cli->format != CLI_TABLE || !json_money(doc, json_member(doc, result, "credit_usd"), &credit_nusd)) {
        return cli_print_object(cli, doc, result, columns, CLI_COUNT_OF(columns));
    }
    bool applied = json_type_of(doc, json_member(doc, result, "applied")) == JSON_TRUE;
    struct buffer out;
    buffer_init(&out, CLI_ERROR_MOST);
    money_format_short(credit_nusd, credit);
    if (applied) {
        buffer_format(&out, "added %s USD to %s; its credit is now %s USD\n", cli->operands[1], cli->operands[0],
                      credit);
    } else {
        buffer_format(&out, "nothing changed: --ref %s has been added already; the credit of %s is %s USD\n",
                      cli->values[CLI_REF], cli->operands[0], credit);
    }
    bool printed = cli_print(cli, buffer_span(&out));
    buffer_fini(&out);
    return printed ? CLI_EXIT_DONE : CLI_EXIT_FAILED;
}

int cli_credit_add(struct cli *cli) {
    struct cli_request request;
    struct json_doc doc;
    int64_t amount_nusd = 0;
    int result = -1;
    if (!money_parse(span_text(cli->operands[1]), &amount_nusd) || amount_nusd == 0) {
        return cli_misuse(cli, "\"%.80s\" is no amount; use decimal USD such as 25 or 0.50", cli->operands[1]);
    }
    json_doc_init(&doc);
    cli_request_begin(&request, "credit.add");
    json_write_text(&request.json, "tenant", cli->operands[0]);
    json_write_nusd(&request.json, "usd", amount_nusd);
    cli_add_text(cli, &request.json, CLI_REF, "ref");
    int status = cli_call(cli, &request, false, &doc, &result);
    if (status == CLI_EXIT_DONE) {
        status = print_credit(cli, &doc, result);
    }
    json_doc_fini(&doc);
    return status;
}

static void add_credit_tenant(const struct cli *cli, struct json_writer *json) {
    json_write_text(json, "tenant", cli->operands[0]);
}

int cli_credit_history(struct cli *cli) {
    static const struct cli_column columns[] = {
        {"at", "at", CLI_COLUMN_TEXT, false},
        {"usd", "USD", CLI_COLUMN_MONEY, false},
        {"ref", "ref", CLI_COLUMN_TEXT, false},
    };
    return cli_print_list(cli, "credit.history", false, add_credit_tenant, columns, CLI_COUNT_OF(columns));
}
