/* Commands on a store without a server, with a configuration that has something wrong in it, or none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "master/cli.h"

enum { TEXT_BYTES = 16384 };

static char directory[64];
static char file[96];
static char state_dir[96];
static char out[TEXT_BYTES];
static char err[TEXT_BYTES];

static const char broken_text[] =
    "nonsense: 5\n"
    "workers: many\n"
    "upstreams:\n"
    "  demo: {dialect: demo}\n"
    "  far: {dialect: openai, base_url: https://far.example, api_key: '${TOLLGATE_UNSET}'}\n"
    "models: {m: {routes: [{upstream: demo}, {upstream: far}]}}\n"
    "tiers: {free: {rpm: 5}}\n";

static void write_file(const char *text) {
    FILE *stream = fopen(file, "wb");
    assert_non_null(stream);
    assert_true(fprintf(stream, "state: %s\n%s", state_dir, text) > 0);
    assert_int_equal(fclose(stream), 0);
}

static void read_into(FILE *stream, char text[static TEXT_BYTES]) {
    rewind(stream);
    text[fread(text, 1, TEXT_BYTES - 1, stream)] = '\0';
    (void)fclose(stream);
}

/* Runs the command in a process of its own; returns its exit status and fills out and err. */
static int run(char **argv) {
    FILE *streams[2] = {tmpfile(), tmpfile()};
    int argc = 0;
    int status = 0;
    while (argv[argc] != NULL) {
        argc++;
    }
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(fileno(streams[0]), STDOUT_FILENO);
        (void)dup2(fileno(streams[1]), STDERR_FILENO);
        status = chdir(directory) == 0 ? cli_main(argc, argv) : 99;
        (void)fflush(NULL);
        _exit(status);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    read_into(streams[0], out);
    read_into(streams[1], err);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define RUN(...) run((char *[]){(char *)"tollgate", __VA_ARGS__, NULL})

static int make_directory(void **context) {
    (void)context;
    (void)snprintf(directory, sizeof(directory), "/tmp/tollgate-cli-XXXXXX");
    if (mkdtemp(directory) == NULL || unsetenv("TOLLGATE_UNSET") != 0) {
        return -1;
    }
    (void)snprintf(file, sizeof(file), "%s/t.yaml", directory);
    (void)snprintf(state_dir, sizeof(state_dir), "%s/state", directory);
    return 0;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *place) {
    (void)info;
    (void)kind;
    (void)place;
    return remove(path);
}

static int remove_directory(void **context) {
    (void)context;
    return nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void test_names_are_checked_with_a_warning(void **context) {
    (void)context;
    char warning[512];
    (void)snprintf(warning, sizeof(warning), "tollgate: warning: %s has 2 findings; tollgate check -c %s lists them\n",
                   file, file);
    write_file(broken_text);
    assert_int_equal(RUN("tenant", "create", "acme", "--tier", "free", "-c", file), 0);
    assert_string_equal(err, warning);
    assert_int_equal(RUN("key", "create", "--tenant", "acme", "--models", "m", "-c", file), 0);
    assert_string_equal(err, warning);
    assert_int_equal(RUN("tenant", "create", "other", "--tier", "gold", "-c", file), 2);
    assert_non_null(strstr(err, warning));
}

static void test_others_say_nothing_of_findings(void **context) {
    (void)context;
    write_file(broken_text);
    assert_int_equal(RUN("tenant", "list", "-c", file), 0);
    assert_non_null(strstr(out, "acme"));
    assert_string_equal(err, "");
    assert_int_equal(RUN("credit", "add", "acme", "5", "--ref", "r", "-c", file), 0);
    assert_string_equal(err, "");
    assert_int_equal(RUN("price", "set", "m", "--input", "1", "--output", "2", "-c", file), 0);
    assert_int_equal(RUN("usage", "-c", file), 0);
    assert_int_equal(RUN("requests", "-c", file), 0);
    assert_int_equal(RUN("verify", "-c", file), 0);
    assert_int_equal(RUN("compact", "-c", file), 0);
    assert_string_equal(err, "");
    assert_int_equal(RUN("status", "-c", file), 1);
    assert_int_equal(RUN("drain", "-c", file), 1);
    assert_non_null(strstr(err, "no server runs on"));
}

static void test_variables_that_are_not_set_are_no_finding(void **context) {
    (void)context;
    write_file("upstreams: {far: {dialect: openai, base_url: https://far.example, api_key: '${TOLLGATE_UNSET}'}}\n"
               "models: {m: {routes: [{upstream: far}]}}\n");
    assert_int_equal(RUN("key", "create", "--tenant", "acme", "--models", "m", "-c", file), 0);
    assert_string_equal(err, "");
    assert_int_equal(RUN("check", "-c", file), 2);
    assert_non_null(strstr(out, "TOLLGATE_UNSET"));
}

static void test_serve_check_and_reload_refuse(void **context) {
    (void)context;
    write_file(broken_text);
    assert_int_equal(RUN("serve", "-c", file), 2);
    assert_non_null(strstr(err, "unknown field \"nonsense\""));
    assert_int_equal(RUN("reload", "-c", file), 2);
    assert_non_null(strstr(err, "unknown field \"nonsense\""));
    assert_int_equal(RUN("check", "-c", file), 2);
    assert_non_null(strstr(out, ":3:10: workers: "));
}

static void test_the_state_directory_must_be_told(void **context) {
    (void)context;
    write_file("tiers: {\n");
    assert_int_equal(RUN("tenant", "list", "-c", file), 2);
    assert_non_null(strstr(err, "not valid YAML"));
    assert_int_equal(RUN("tenant", "list", "-c", file, "--state", state_dir), 0);
    assert_non_null(strstr(out, "acme"));
    assert_int_equal(RUN("tenant", "list", "-c", (char *)"/no/such/file.yaml", "--state", state_dir), 0);
    assert_int_equal(RUN("tenant", "list", "-c", (char *)"/no/such/file.yaml"), 2);
    assert_string_equal(out, "");
}

/* Sums of days are those of the zone they were made for, whatever this file says. */
static void test_a_broken_zone_leaves_the_stores(void **context) {
    (void)context;
    write_file("timezone: Asia/Tokyo\n");
    assert_int_equal(RUN("tenant", "create", "east", "-c", file), 0);
    write_file("timezone: Nowhere/Atall\n");
    assert_int_equal(RUN("tenant", "create", "west", "-c", file), 0);
    assert_int_equal(RUN("verify", "-c", file), 0);
    assert_int_equal(RUN("tenant", "list", "-c", file, "--tz", "UTC"), 0);
    assert_non_null(strstr(out, "west"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_checked_with_a_warning),
        cmocka_unit_test(test_others_say_nothing_of_findings),
        cmocka_unit_test(test_variables_that_are_not_set_are_no_finding),
        cmocka_unit_test(test_serve_check_and_reload_refuse),
        cmocka_unit_test(test_the_state_directory_must_be_told),
        cmocka_unit_test(test_a_broken_zone_leaves_the_stores),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
