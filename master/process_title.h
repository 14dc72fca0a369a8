/* master/process_title.h - the name a process shows in ps and top.
 * Used by: main before anything else; the master and its children after fork.
 * Global: where the kernel put argv and the environment, and the copies. Both are copied to the heap and the
 * environment's first bytes are wiped, so that no secret stays readable in /proc/PID/environ. */
#ifndef TOLLGATE_MASTER_PROCESS_TITLE_H
#define TOLLGATE_MASTER_PROCESS_TITLE_H

/* Points argv[0 .. argc - 1] and environ at copies and remembers the room their texts took. Call once, first in main.
 */
void process_title_init(int argc, char **argv);

/* Shows title, such as "tollgate: worker 0", cut to the room there is. Does nothing before process_title_init. */
void process_title_set(const char *title);

#endif
