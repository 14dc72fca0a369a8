/* master/master.h - the master process: makes what children inherit, starts them, watches them, reloads and ends.
 * Used by: the command line's `serve`. The master never touches LMDB, a request or a lock of the store.
 * Signals: SIGTERM and SIGINT drain (a second one ends at once), SIGHUP reloads, SIGUSR1 reopens the access log.
 * Ownership: master_serve takes over the configuration and frees it. */
#ifndef TOLLGATE_MASTER_MASTER_H
#define TOLLGATE_MASTER_MASTER_H

#include "conf/conf.h"

/* How the configuration was found, so that a reload can read it again. Both texts must outlive master_serve. */
struct master_options {
    const char *config_path;
    const char *state_override; /* of --state; NULL when it was not given */
};

/* Runs the server in the foreground until it is told to end. Call once, without threads, before anything else has made
 * descriptors or children. Faults before the ready line are printed on stderr as "tollgate: WHAT: WHY". Returns the
 * exit status: 0 ended as told, 1 it could not be done, 2 a child found the configuration unusable. */
int master_serve(struct conf *conf, const struct master_options *options);

#endif
