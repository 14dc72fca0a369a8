#include "master/master_reload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "master/master_child.h"
#include "master/master_generation.h"
#include "master/master_notify.h"

#define LEDGER_OUT_MOST_NS (30 * NS_PER_S)
#define LEDGER_IN_MOST_NS (30 * NS_PER_S)
#define WORKERS_IN_MOST_NS (30 * NS_PER_S)
#define ADMIN_OUT_MOST_NS (10 * NS_PER_S)

/* Says how the reload went, for `tollgate reload`; the count of attempts comes last. */
static void report(struct master *master, bool failed) {
    struct shm_header_sh *header = master->map.header;
    span_copy(failed ? buffer_span(&master->reload_error) : SPAN_EMPTY, header->reload_report,
              sizeof(header->reload_report));
    atomic_store(&header->reload_failed, failed);
    atomic_fetch_add_explicit(&header->reload_attempts, 1, memory_order_release);
    if (failed) {
        LOG(LOG_ERROR, "reload_failed", log_span("reason", span_trim(buffer_span(&master->reload_error))));
    } else {
        LOG(LOG_INFO, "reload_done", log_int("generation", master->current->number));
    }
    buffer_clear(&master->reload_error);
    master_notify("READY=1");
}

static struct conf *load(struct master *master) {
    struct conf_findings findings = {0};
    struct conf *conf = conf_load(master->options.config_path, master->options.state_override, &findings);
    conf_findings_print(&findings, &master->reload_error);
    conf_findings_free(&findings);
    return conf;
}

static uint32_t count_free_seats(const struct master *master) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < master->map.header->seat_count; i++) {
        count += atomic_load(&shm_seat(&master->map, i)->state) == SHM_SEAT_FREE;
    }
    return count;
}

/* Would the access log open? It is switched only when the new generation serves. */
static bool can_open_access_log(const char *access, struct buffer *error) {
    if (strcmp(access, "stdout") == 0 || strcmp(access, "off") == 0) {
        return true;
    }
    int fd = open(access, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
    if (fd < 0) {
        buffer_format(error, "access log %s: %s", access, strerror(errno));
        return false;
    }
    close(fd);
    return true;
}

/* What a running server cannot change, or has no room for. */
static bool is_possible(struct master *master, const struct conf *conf) {
    struct buffer *error = &master->reload_error;
    if (strcmp(conf->state_dir, master->current->conf->state_dir) != 0) {
        buffer_format(error, "state: a running server cannot move from %s to %s; restart it",
                      master->current->conf->state_dir, conf->state_dir);
        return false;
    }
    uint32_t free_seats = count_free_seats(master);
    if (free_seats < (uint32_t)conf->workers) {
        buffer_format(
            error,
            "%d workers are wanted but only %u of %u seats are free: workers of earlier generations still have "
            "streams, or the server was started for fewer workers; try again later, or restart it",
            conf->workers, free_seats, master->map.header->seat_count);
        return false;
    }
    return can_open_access_log(conf->log.access, error);
}

static struct master_generation *prepare(struct master *master) {
    struct conf *conf = load(master);
    if (conf == NULL) {
        return NULL;
    }
    if (!is_possible(master, conf)) {
        conf_free(conf);
        return NULL;
    }
    struct master_generation *next = master_generation_new(master, conf, master->current, &master->reload_error);
    if (next != NULL && !master_generation_claim(master, next, &master->reload_error)) {
        master_generation_free(next);
        next = NULL;
    }
    return next;
}

static void retire_ledger(struct master *master) {
    for (struct master_child *child = master->children; child != NULL; child = child->next) {
        if (child->role == ROLE_LEDGER) {
            master_child_retire(master, child, SIGTERM, LEDGER_OUT_MOST_NS);
        }
    }
    master->ledger = (struct master_post){0};
}

void master_reload_begin(struct master *master) {
    LOG(LOG_INFO, "reload_started", log_text("file", master->options.config_path));
    master_notify("RELOADING=1");
    master->next = prepare(master);
    if (master->next == NULL) {
        report(master, true);
        return;
    }
    master->next_listens = false;
    retire_ledger(master);
    master_goto(master, MASTER_RELOADING, STEP_LEDGER_OUT, 0);
}

static void free_next(struct master *master) {
    uint32_t number = master->next->number;
    master_child_retire_all(master, ROLE_WORKER, number, SIGQUIT, 0);
    master_child_retire_all(master, ROLE_ADMIN, number, SIGTERM, ADMIN_OUT_MOST_NS);
    if (master->next_listens) {
        int workers = master_listen_adopt(&master->current->listen_set, &master->next->listen_set);
        master_generation_grow(master->current, workers);
    }
    master_generation_free(master->next);
    master->next = NULL;
}

/* Puts the old configuration back. New workers that served already finish their streams. */
static void undo(struct master *master, const char *reason) {
    buffer_append_text(&master->reload_error, reason);
    master->ledger_generation = master->current;
    free_next(master);
    retire_ledger(master);
    master_goto(master, MASTER_RELOADING, STEP_UNDO_LEDGER_OUT, 0);
}

static void start_ledger_of(struct master *master, struct master_generation *generation, enum master_step step) {
    master->ledger = (struct master_post){0};
    master->ledger_generation = generation;
    master_goto(master, MASTER_RELOADING, step, LEDGER_IN_MOST_NS);
}

static void let_ledger_in(struct master *master) {
    if (master->ledger.given_up || master_step_is_late(master)) {
        undo(master, "the ledger could not start with the new configuration; the log says why");
        return;
    }
    if (!master_child_ledger_ready(master)) {
        return;
    }
    master->next_listens = true;
    if (!master_listen_start(&master->next->listen_set, &master->reload_error)) {
        undo(master, "");
        return;
    }
    master_goto(master, MASTER_RELOADING, STEP_WORKERS_IN, WORKERS_IN_MOST_NS);
}

/* The next generation serves: it becomes the current one. */
static void commit(struct master *master) {
    struct master_generation *old = master->current;
    const struct conf *conf = master->next->conf;
    master->current = master->next;
    master->next = NULL;
    for (struct master_child *child = master->children; child != NULL; child = child->next) {
        if (child->generation != master->current->number && child->role == ROLE_WORKER && !child->retiring) {
            master_child_retire(master, child, child->ready ? SIGQUIT : SIGKILL, 0);
        }
    }
    master_child_retire_all(master, ROLE_ADMIN, old->number, SIGTERM, ADMIN_OUT_MOST_NS);
    log_set_up(conf->log.level, conf->log.format, "master");
    struct buffer error;
    buffer_init(&error, 4096);
    if (!master_log_set_access(&master->log, conf->log.access, &error)) {
        LOG(LOG_ERROR, "access_log_not_opened", log_text("reason", buffer_text(&error)));
    }
    buffer_fini(&error);
    master_generation_free(old);
    atomic_store_explicit(&master->map.header->generation, master->current->number, memory_order_release);
    master_goto(master, MASTER_RUNNING, STEP_NONE, 0);
    report(master, false);
}

static void let_workers_in(struct master *master) {
    if (master_child_all_ready(master->next) && !master_child_any_given_up(master->next)) {
        commit(master);
    } else if (master_child_any_given_up(master->next)) {
        undo(master, "a process could not start with the new configuration; the log says why");
    } else if (master_step_is_late(master)) {
        undo(master, "the new workers did not come up in time; the log says why");
    }
}

static void end_undo(struct master *master) {
    if (master_child_ledger_ready(master) || master->ledger.given_up || master_step_is_late(master)) {
        master_goto(master, MASTER_RUNNING, STEP_NONE, 0);
        report(master, true);
    }
}

void master_reload_advance(struct master *master) {
    switch (master->step) {
    case STEP_LEDGER_OUT:
        if (master_child_count(master, ROLE_LEDGER, 0) == 0) {
            start_ledger_of(master, master->next, STEP_LEDGER_IN);
        }
        break;
    case STEP_LEDGER_IN:
        let_ledger_in(master);
        break;
    case STEP_WORKERS_IN:
        let_workers_in(master);
        break;
    case STEP_UNDO_LEDGER_OUT:
        if (master_child_count(master, ROLE_LEDGER, 0) == 0) {
            start_ledger_of(master, master->current, STEP_UNDO_LEDGER_IN);
        }
        break;
    case STEP_UNDO_LEDGER_IN:
        end_undo(master);
        break;
    default:
        CHECK(false);
    }
}

void master_reload_abandon(struct master *master) {
    if (master->next != NULL) {
        master->ledger_generation = master->current;
        master_generation_free(master->next);
        master->next = NULL;
        buffer_append_text(&master->reload_error, "the server was told to end before the reload was through");
        report(master, true);
    }
}
