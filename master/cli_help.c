/* `help` and `--version`: all text comes from the table of commands and options. */
#include <stdio.h>
#include <string.h>

#include "master/cli_run.h"
#include "worker/vocabulary.h"

enum { SUMMARY_COLUMN = 46, OPTION_COLUMN = 32, WIDTH = 110 };

int cli_version(void) {
    (void)printf("tollgate %s\n", TOLLGATE_VERSION);
    (void)printf("token vocabularies: %s\n", vocabulary_describe());
    return CLI_EXIT_DONE;
}

/* Prints text from column `indent` on, broken at spaces. `used`: columns of the line already taken. */
static void print_wrapped(const char *text, int used, int indent) {
    int column = used;
    bool begins_line = true;
    if (used >= indent) {
        (void)printf("\n");
        column = 0;
    }
    (void)printf("%*s", indent - column, "");
    column = indent;
    while (*text != '\0') {
        int len = (int)strcspn(text, " ");
        if (!begins_line && column + 1 + len > WIDTH) {
            (void)printf("\n%*s", indent, "");
            column = indent;
            begins_line = true;
        }
        column += printf("%s%.*s", begins_line ? "" : " ", len, text);
        begins_line = false;
        text += len + (text[len] == ' ' ? 1 : 0);
    }
    (void)printf("\n");
}

static void print_option(const struct cli_option *option) {
    char letter[8] = "    ";
    if (option->letter != 0) {
        (void)snprintf(letter, sizeof(letter), "-%c, ", option->letter);
    }
    bool flag = option->kind == CLI_KIND_FLAG;
    int used = printf("  %s--%s%s%s", letter, option->name, flag ? "" : " ", flag ? "" : option->argument);
    print_wrapped(option->help, used, OPTION_COLUMN);
}

static void print_options(uint64_t set) {
    for (int i = 0; i < CLI_OPTIONS; i++) {
        if ((set & CLI_BIT(i)) != 0) {
            print_option(&cli_options[i]);
        }
    }
}

/* The required options belong into the form: "key create --tenant NAME". */
static int print_form(const struct cli_command *command) {
    int used = printf("tollgate %s%s%s", command->name, command->operands[0] != '\0' ? " " : "", command->operands);
    for (int i = 0; i < CLI_OPTIONS; i++) {
        if ((command->requires & CLI_BIT(i)) != 0) {
            used += printf(" --%s %s", cli_options[i].name, cli_options[i].argument);
        }
    }
    return used;
}

void cli_help_print(const struct cli_command *command) {
    (void)print_form(command);
    (void)printf("%s\n\n", command->accepts != 0 ? " [options]" : "");
    print_wrapped(command->summary, 0, 2);
    if (command->details != NULL) {
        (void)printf("\n");
        print_wrapped(command->details, 0, 2);
    }
    if (command->accepts != 0) {
        (void)printf("\nOptions:\n");
        print_options(command->accepts);
    }
    (void)printf("\nOptions of every command:\n");
    print_options(CLI_EVERYWHERE);
}

static void print_line(const struct cli_command *command) {
    (void)printf("  ");
    int used = printf("%s%s%s", command->name, command->operands[0] != '\0' ? " " : "", command->operands);
    print_wrapped(command->summary, used + 2, SUMMARY_COLUMN);
}

static void print_all(void) {
    (void)printf("tollgate %s: a multi-tenant relay for LLM APIs\n\ntollgate COMMAND [options]\n\n", TOLLGATE_VERSION);
    for (size_t i = 0; i < cli_command_count; i++) {
        if (!cli_commands[i].hidden) {
            print_line(&cli_commands[i]);
        }
    }
    (void)printf("\nOptions of every command:\n");
    print_options(CLI_EVERYWHERE | CLI_BIT(CLI_VERSION));
    (void)printf("\nExit status: 0 done, 1 it could not be done, 2 wrong usage or a configuration that is not valid.\n"
                 "More on one command: tollgate help COMMAND\n");
}

/* The commands that begin with this word, such as "key". Returns how many there are. */
static int print_family(const char *word) {
    size_t len = strlen(word);
    int count = 0;
    for (size_t i = 0; i < cli_command_count; i++) {
        const struct cli_command *command = &cli_commands[i];
        if (strncmp(command->name, word, len) == 0 && command->name[len] == ' ') {
            print_line(command);
            count++;
        }
    }
    return count;
}

static int help_on(const struct cli *cli) {
    char name[128];
    (void)snprintf(name, sizeof(name), "%s%s%s", cli->operands[0], cli->operand_count > 1 ? " " : "",
                   cli->operand_count > 1 ? cli->operands[1] : "");
    const struct cli_command *command = cli_find_command(span_text(name));
    if (command != NULL) {
        cli_help_print(command);
        return CLI_EXIT_DONE;
    }
    if (cli->operand_count == 1 && print_family(name) != 0) {
        return CLI_EXIT_DONE;
    }
    struct cli_nearest nearest = {.wanted = span_text(name)};
    for (size_t i = 0; i < cli_command_count; i++) {
        cli_nearest_offer(&nearest, cli_commands[i].name);
    }
    return nearest.name != NULL
               ? cli_misuse(cli, "there is no command \"%.80s\"; did you mean \"%s\"?", name, nearest.name)
               : cli_misuse(cli, "there is no command \"%.80s\"; tollgate help lists them", name);
}

int cli_help(struct cli *cli) {
    if (cli->command != NULL && cli->command->run != cli_help) {
        cli_help_print(cli->command);
        return CLI_EXIT_DONE;
    }
    if (cli->operand_count != 0) {
        return help_on(cli);
    }
    print_all();
    return CLI_EXIT_DONE;
}
