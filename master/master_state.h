/* master/master_state.h - what the master knows: its phase, its children, and the generations of configuration they
 * run. Used by: master_*.c only; process-private memory of the master. Ownership: struct master owns everything below
 * it. A generation is freed when its successor serves, though its workers may still drain: they have their own copy of
 * it since fork. */
#ifndef TOLLGATE_MASTER_MASTER_STATE_H
#define TOLLGATE_MASTER_MASTER_STATE_H

#include "master/master.h"
#include "master/master_listen.h"
#include "master/master_log.h"
#include "master/master_signal.h"
#include "master/master_user.h"
#include "shm/heritage.h"

enum master_phase {
    MASTER_BOOT,     /* no children yet */
    MASTER_STARTING, /* the first generation comes up */
    MASTER_RUNNING,
    MASTER_RELOADING, /* the next generation comes up beside the current one */
    MASTER_DRAINING,  /* workers finish their streams */
    MASTER_KILLING,   /* told twice: workers were killed, the ledger still commits */
    MASTER_EXIT
};

/* Where a phase stands. Each waits for one thing. */
enum master_step {
    STEP_NONE,
    STEP_LEDGER_OUT,      /* RELOADING: the old ledger has left */
    STEP_LEDGER_IN,       /* STARTING, RELOADING: the ledger has published its tables */
    STEP_WORKERS_IN,      /* STARTING, RELOADING: every worker and the admin process accept */
    STEP_UNDO_LEDGER_OUT, /* RELOADING has failed: the new ledger has left */
    STEP_UNDO_LEDGER_IN,  /* RELOADING has failed: the old configuration's ledger is back */
    STEP_WORKERS_OUT,     /* DRAINING, KILLING: in this order */
    STEP_ADMIN_OUT,
    STEP_SWEPT, /* the ledger has settled what dead workers left */
    STEP_LEDGER_OUT_LAST
};

enum master_role { ROLE_WORKER, ROLE_LEDGER, ROLE_ADMIN };

/* One living process. */
struct master_child {
    struct master_child *next;
    enum master_role role;
    pid_t pid;
    uint32_t generation;
    uint32_t worker_index;
    uint32_t seat;
    int ready_fd; /* read end; -1 after its byte has come */
    bool ready;
    bool retiring; /* told to end: nobody takes its place */
    bool aborted;  /* hung, and told to abort */
    int64_t started_mono_ns;
    int64_t watched_from_mono_ns; /* silence counts from here at the earliest */
    int64_t kill_at_mono_ns;      /* 0: never */
    struct master_log_stream *stream;
};

/* A place that one child at a time holds. */
struct master_post {
    struct master_child *child; /* NULL: empty */
    int64_t respawn_at_mono_ns;
    int64_t delay_ns; /* of the last respawn */
    int deaths;       /* in this post so far */
    bool given_up;    /* its child said that it must not be started again */
};

struct master_generation {
    uint32_t number;
    struct conf *conf;
    struct master_listen_set listen_set;
    uint32_t upstream_rows[SHM_UPSTREAMS];
    struct master_post *workers;
    int worker_count;
    struct master_post admin;
};

struct master {
    enum master_phase phase;
    enum master_step step;
    int64_t step_deadline_mono_ns; /* 0: none */
    int exit_status;
    int64_t now_mono_ns; /* of this turn of the loop */
    int64_t ticked_mono_ns;
    int64_t notified_mono_ns;
    struct master_options options;
    struct master_signals signals;
    struct master_log log;
    struct master_log_stream *own_stream; /* the master's own lines take the same way as its children's */
    int own_log_fd;
    struct master_user user;
    struct shm_map map;
    char *state_dir;
    int lock_fd;
    int state_fd;
    int epoll_fd;
    int alive_fds[2]; /* children hold the read end */
    int ledger_wake_fd;
    int *seat_wake_fds; /* one a seat of the segment */
    uint32_t seat_wake_count;
    int journal_fd;
    unsigned char ticket_key[HERITAGE_TICKET_KEY_BYTES];
    struct master_child *children;
    struct master_post ledger;
    struct master_generation *ledger_generation; /* whose configuration the ledger runs */
    struct master_generation *current;
    struct master_generation *next; /* NULL but while RELOADING */
    uint32_t last_number;           /* generations are counted, those that failed too */
    bool next_listens;              /* clients can connect to the sockets of `next` */
    bool ledger_ended_well;
    bool watchdog_off;
    struct buffer reload_error;
};

/* Changes phase and step; the only writer of both. timeout_ns 0: the step has no deadline. */
void master_goto(struct master *master, enum master_phase phase, enum master_step step, int64_t timeout_ns);

static inline bool master_is_ending(const struct master *master) { return master->phase >= MASTER_DRAINING; }

/* Has the step waited for longer than it may? */
static inline bool master_step_is_late(const struct master *master) {
    return master->step_deadline_mono_ns != 0 && master->now_mono_ns >= master->step_deadline_mono_ns;
}

#endif
