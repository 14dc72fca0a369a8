/* master/master_boot.h - everything the master makes before its first child of the server: state lock, recovery of what
 * a dead server left, sockets, segment, pipes. Used by: the master only. Errors are printed on stderr as "tollgate:
 * WHAT: WHY". Blocking: disk, name look-ups, and a dead server's last children. */
#ifndef TOLLGATE_MASTER_MASTER_BOOT_H
#define TOLLGATE_MASTER_MASTER_BOOT_H

#include "master/master_state.h"

/* Fills in *master for conf, which it takes over. False when the server cannot start; call master_boot_undo then too.
 */
MUST_CHECK bool master_boot(struct master *master, struct conf *conf, const struct master_options *options);

/* Frees all that master_boot made, in reverse. remove_segment: everything in the segment is in the store. */
void master_boot_undo(struct master *master, bool remove_segment);

/* Seats of the segment: room for old generations whose streams are long. */
uint32_t master_boot_seats(int workers, long cores);

#endif
