/* master/master_notify.h - tells systemd what the server is doing (sd_notify's protocol), when it was started by it.
 * Used by: the master only. Without NOTIFY_SOCKET in the environment everything here does nothing. Never blocks. */
#ifndef TOLLGATE_MASTER_MASTER_NOTIFY_H
#define TOLLGATE_MASTER_MASTER_NOTIFY_H

#include <stdint.h>

/* Sends a state such as "READY=1" or "STOPPING=1". */
void master_notify(const char *state);

/* Half of the interval in which systemd wants to hear from us; 0 when it does not. */
int64_t master_notify_watchdog_ns(void);

#endif
