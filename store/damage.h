/* store/damage.h - turns a crash over a damaged file into a message.
 * Used by: the ledger process while it opens the books; recovery; the command line.
 * LMDB believes the pages it reads: one that holds other bytes can lead it out of the map. verify can't be asked then,
 * and a new try ends the same way, so the process says what to do and exits with CHILD_EXIT_CONFIGURATION. A
 * sanitizer's handlers are left in place. */
#ifndef TOLLGATE_STORE_DAMAGE_H
#define TOLLGATE_STORE_DAMAGE_H

/* From here to damage_forget a crash of this process is taken for a damaged ledger in state_dir. */
void damage_expect(const char *state_dir);
void damage_forget(void);

#endif
