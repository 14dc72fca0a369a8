#include "master/master_signal.h"

#include <sys/signalfd.h>
#include <unistd.h>

static const int taken_signals[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};
static const int ignored_in_child[] = {SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE};

bool master_signal_open(struct master_signals *signals) {
    *signals = (struct master_signals){.fd = -1};
    sigset_t taken;
    sigemptyset(&taken);
    for (size_t i = 0; i < sizeof(taken_signals) / sizeof(taken_signals[0]); i++) {
        sigaddset(&taken, taken_signals[i]);
        /* A signal that was ignored when we were started (nohup) would never reach the descriptor. */
        signal(taken_signals[i], SIG_DFL);
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &taken, &signals->old_mask) != 0) {
        return false;
    }
    signals->fd = signalfd(-1, &taken, SFD_NONBLOCK | SFD_CLOEXEC);
    return signals->fd >= 0;
}

static void note(struct master_signals *signals, uint32_t number) {
    switch (number) {
    case SIGCHLD:
        signals->child_ended = true;
        break;
    case SIGTERM:
    case SIGINT:
        signals->terminate_count++;
        break;
    case SIGHUP:
        signals->reload = true;
        break;
    case SIGUSR1:
        signals->reopen = true;
        break;
    case SIGUSR2:
        signals->upgrade = true;
        break;
    }
}

void master_signal_read(struct master_signals *signals) {
    struct signalfd_siginfo info;
    while (read(signals->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        note(signals, info.ssi_signo);
    }
}

void master_signal_close(struct master_signals *signals) {
    close(signals->fd);
    sigprocmask(SIG_SETMASK, &signals->old_mask, NULL);
}

void master_signal_reset_in_child(const struct master_signals *signals) {
    for (size_t i = 0; i < sizeof(taken_signals) / sizeof(taken_signals[0]); i++) {
        signal(taken_signals[i], SIG_DFL);
    }
    signal(SIGQUIT, SIG_DFL);
    for (size_t i = 0; i < sizeof(ignored_in_child) / sizeof(ignored_in_child[0]); i++) {
        signal(ignored_in_child[i], SIG_IGN);
    }
    sigset_t mask = signals->old_mask;
    for (size_t i = 0; i < sizeof(taken_signals) / sizeof(taken_signals[0]); i++) {
        sigdelset(&mask, taken_signals[i]);
    }
    sigprocmask(SIG_SETMASK, &mask, NULL);
}
