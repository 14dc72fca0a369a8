#include "store/damage.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shm/heritage.h"

enum { TEXT_BYTES = 4096 + 256 };
static const int crashes[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE};

/* What the handler says: it may not make texts. One ledger is opened a process. */
static char last_words[TEXT_BYTES];

static void say_and_exit(int number) {
    (void)number;
    (void)!write(STDERR_FILENO, last_words, strlen(last_words));
    _exit(CHILD_EXIT_CONFIGURATION);
}

static void exchange(void (*from)(int), void (*to)(int)) {
    for (size_t at = 0; at < sizeof crashes / sizeof crashes[0]; at++) {
        struct sigaction now;
        if (sigaction(crashes[at], NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == from) {
            now = (struct sigaction){.sa_handler = to};
            (void)sigaction(crashes[at], &now, NULL);
        }
    }
}

void damage_expect(const char *state_dir) {
    (void)snprintf(last_words, sizeof last_words,
                   "tollgate: the ledger in %s cannot be read: it is damaged: restore a backup, or move the directory "
                   "away to start empty\n",
                   state_dir);
    exchange(SIG_DFL, say_and_exit);
}

void damage_forget(void) { exchange(say_and_exit, SIG_DFL); }
