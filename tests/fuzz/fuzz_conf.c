/* Configurations: a text gives a configuration or at least one finding, and each finding has a place and no secret. */
#include <stdlib.h>

#include "conf/conf.h"
#include "fuzz.h"

#define CANARY "canary-Zk81mQ-0123456789"

enum { PRINTED_BYTES_MOST = 16 << 20 };

/* What the sample and the seeds ask the environment for; never to be seen in a finding. */
static void set_environment(void) {
    static const char *const names[] = {"OPENAI_API_KEY", "TOLLGATE_ADMIN_TOKEN", "SECRET"};
    for (size_t at = 0; at < sizeof(names) / sizeof(names[0]); at++) {
        (void)setenv(names[at], CANARY, 1);
    }
}

static bool has_canary(struct span text) {
    return text.len != 0 && memmem(text.base, text.len, CANARY, sizeof(CANARY) - 1) != NULL;
}

/* libFuzzer learns the canary from the comparison and writes it into inputs; only one that did not have it tells. */
static void expect_findings(const struct conf_findings *findings, struct span input) {
    struct buffer printed;
    buffer_init(&printed, PRINTED_BYTES_MOST);
    conf_findings_print(findings, &printed);
    CHECK(!printed.failed);
    CHECK(!has_canary(buffer_span(&printed)) || has_canary(input));
    buffer_fini(&printed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct conf_findings findings = {.count = 0};
    set_environment();
    struct conf *conf = conf_parse(fuzz_span(data, size), "fuzz.yaml", NULL, &findings);
    CHECK(conf != NULL || findings.count > 0);
    expect_findings(&findings, fuzz_span(data, size));
    if (conf != NULL) {
        for (int model = 0; model < conf->model_count; model++) {
            CHECK(conf_model_index(conf, span_text(conf->models[model].name)) == model);
            CHECK(conf_model_resolve(conf, model) >= 0);
        }
        conf_free(conf);
    }
    conf_findings_free(&findings);
    return 0;
}
