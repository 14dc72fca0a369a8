/* master/master_log.h - relays the lines children write to their log pipes: access lines to log.access, the rest to
 * stderr. Used by: the master only. A line that begins with the byte 0x01 is an access line; the byte is not passed on.
 * Nothing here waits: a target that is a pipe, a terminal or a socket gets whole lines as it takes them; what does not
 * fit in PENDING_BYTES meanwhile is dropped and counted. A child may write LINES_PER_SECOND other lines, further ones
 * are counted only. */
#ifndef TOLLGATE_MASTER_MASTER_LOG_H
#define TOLLGATE_MASTER_MASTER_LOG_H

#include <stdint.h>

#include "base/buffer.h"

enum {
    MASTER_LOG_LINE_BYTES = 8192, /* longer lines are cut */
    MASTER_LOG_PENDING_BYTES = 1048576,
    MASTER_LOG_LINES_PER_SECOND = 2000,
    MASTER_LOG_NAME_BYTES = 24,
};

/* The read end of one child's pipe and its unfinished line. */
struct master_log_stream {
    int fd; /* owned; -1 once closed */
    char name[MASTER_LOG_NAME_BYTES];
    char line[MASTER_LOG_LINE_BYTES];
    size_t line_bytes;
    bool skipping; /* inside a line that was cut */
    int64_t second_mono_ns;
    int64_t lines_this_second;
    int64_t capped_lines; /* since they were last reported */
};

enum master_log_target { MASTER_LOG_TO_FILE, MASTER_LOG_TO_STREAM, MASTER_LOG_TO_SOCKET };

struct master_log_sink {
    int fd; /* -1: off */
    enum master_log_target target;
    bool owned;
    struct buffer pending;
    int64_t dropped_lines; /* since they were last reported */
};

struct master_log {
    struct master_log_sink output;  /* standard output: the ready line, and access lines if so configured */
    struct master_log_sink errors;  /* standard error */
    struct master_log_sink file;    /* log.access when it is a path */
    struct master_log_sink *access; /* one of the above, or NULL when off */
    char *access_path;
};

/* Takes standard output and error as targets, and `access` ("stdout", "off" or a path) for access lines. False with
 * *error set when the path cannot be opened. */
MUST_CHECK bool master_log_open(struct master_log *log, const char *access, struct buffer *error);

/* Sends access lines elsewhere from now on; a path is opened (again). False, changing nothing, with *error set. */
MUST_CHECK bool master_log_set_access(struct master_log *log, const char *access, struct buffer *error);

/* Opens the access log's path again, after somebody moved the file away. Nothing to do is success. */
MUST_CHECK bool master_log_reopen(struct master_log *log, struct buffer *error);

/* Tries to pass on what is left, frees everything. */
void master_log_close(struct master_log *log);

/* Queues text for standard output. */
void master_log_print(struct master_log *log, struct span text);

/* A pipe for a child: *write_fd for it (close-on-exec, never blocks), the stream for the master. NULL with errno set.
 */
MUST_CHECK struct master_log_stream *master_log_stream_open(const char *name, int *write_fd);

/* Reads what has come, at most about 256 KiB. Returns false when the pipe's writers are all gone. */
bool master_log_stream_read(struct master_log *log, struct master_log_stream *stream, int64_t now_mono_ns);

/* Reads the rest, passes on an unfinished line, and frees the stream. */
void master_log_stream_close(struct master_log *log, struct master_log_stream *stream, int64_t now_mono_ns);

/* Writes out what the targets take now. Returns true while something is left: call again in some milliseconds. */
bool master_log_flush(struct master_log *log);

/* Access and other lines dropped because their target was too slow, since the last call. */
int64_t master_log_take_dropped(struct master_log *log);

#endif
