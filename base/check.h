/* base/check.h - always-on assertions for states that must be impossible.
 * Used by: every process. A failed CHECK prints one line to stderr and aborts; the master logs the death and respawns.
 * Never use CHECK for input, for the environment (system calls, disks, networks) or for anything a client can cause. */
#ifndef TOLLGATE_BASE_CHECK_H
#define TOLLGATE_BASE_CHECK_H

/* Prints "tollgate: check failed: CONDITION (FILE:LINE FUNCTION)" and aborts. Never returns. */
_Noreturn void check_failed(const char *condition, const char *file, int line, const char *function);

#define CHECK(condition) ((condition) ? (void)0 : check_failed(#condition, __FILE__, __LINE__, __func__))

/* Marks a result the caller has to look at. */
#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_index, first_argument) __attribute__((format(printf, format_index, first_argument)))

#endif
