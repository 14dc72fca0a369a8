#include "master/master_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

#define ACCESS_MARK '\x01'

enum { READ_BYTES = 65536, READS_A_TURN = 4, PIPE_ROOM_BYTES = 262144, WRITE_BYTES = 4096 };

/* A private file description of descriptor `fd`, so that not waiting is set for us alone and not for the shell that
 * shares the terminal with us. -1 where that is not possible. */
static int reopen_without_waiting(int fd) {
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static enum master_log_target target_of(int fd) {
    struct stat status;
    if (fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode)) {
        return MASTER_LOG_TO_SOCKET;
    }
    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? MASTER_LOG_TO_FILE : MASTER_LOG_TO_STREAM;
}

static void open_sink_on(struct master_log_sink *sink, int fd) {
    *sink = (struct master_log_sink){.fd = fd, .target = target_of(fd)};
    buffer_init(&sink->pending, MASTER_LOG_PENDING_BYTES);
    int own_fd = sink->target == MASTER_LOG_TO_STREAM ? reopen_without_waiting(fd) : -1;
    if (own_fd >= 0) {
        sink->fd = own_fd;
        sink->owned = true;
    }
}

static ssize_t write_some(const struct master_log_sink *sink, const char *base, size_t len) {
    switch (sink->target) {
    case MASTER_LOG_TO_SOCKET:
        return send(sink->fd, base, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    case MASTER_LOG_TO_STREAM:
    case MASTER_LOG_TO_FILE:
        break;
    }
    return write(sink->fd, base, len);
}

/* The longest run of whole lines that a pipe takes in one piece, or the first line when that is longer. */
static size_t next_piece(struct span left) {
    if (left.len <= WRITE_BYTES) {
        return left.len;
    }
    const char *newline = memrchr(left.base, '\n', WRITE_BYTES);
    if (newline == NULL) {
        newline = memchr(left.base, '\n', left.len);
    }
    return newline != NULL ? (size_t)(newline - left.base) + 1 : left.len;
}

static int64_t count_lines(struct span text) {
    int64_t lines = 0;
    for (size_t i = 0; i < text.len; i++) {
        lines += text.base[i] == '\n';
    }
    return lines;
}

static bool flush_sink(struct master_log_sink *sink) {
    size_t done = 0;
    while (done < sink->pending.len) {
        struct span left = span_skip(buffer_span(&sink->pending), done);
        size_t piece = sink->target == MASTER_LOG_TO_FILE ? left.len : next_piece(left);
        ssize_t written = write_some(sink, left.base, piece);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            sink->dropped_lines += count_lines(left);
            done = sink->pending.len;
        }
        if (written <= 0) {
            break;
        }
        done += (size_t)written;
    }
    buffer_consume(&sink->pending, done);
    return sink->pending.len != 0;
}

static void close_sink(struct master_log_sink *sink) {
    if (sink->fd >= 0) {
        flush_sink(sink);
    }
    if (sink->owned) {
        close(sink->fd);
    }
    buffer_fini(&sink->pending);
    sink->fd = -1;
    sink->owned = false;
}

static void add_line(struct master_log_sink *sink, struct span line) {
    if (sink == NULL || sink->fd < 0) {
        return;
    }
    if (sink->pending.len + line.len + 1 > MASTER_LOG_PENDING_BYTES) {
        flush_sink(sink);
    }
    if (sink->pending.len + line.len + 1 > MASTER_LOG_PENDING_BYTES) {
        sink->dropped_lines++;
        return;
    }
    buffer_append_span(&sink->pending, line);
    buffer_append_byte(&sink->pending, '\n');
}

bool master_log_open(struct master_log *log, const char *access, struct buffer *error) {
    *log = (struct master_log){.file.fd = -1};
    buffer_init(&log->file.pending, MASTER_LOG_PENDING_BYTES);
    open_sink_on(&log->output, STDOUT_FILENO);
    open_sink_on(&log->errors, STDERR_FILENO);
    return master_log_set_access(log, access, error);
}

/* Opens path for appending as the new file sink. */
static bool open_file(struct master_log *log, const char *path, struct buffer *error) {
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
    char *copy = fd >= 0 ? strdup(path) : NULL;
    if (copy == NULL) {
        buffer_format(error, "access log %s: %m", path);
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    close_sink(&log->file);
    log->file = (struct master_log_sink){.fd = fd, .target = target_of(fd), .owned = true};
    buffer_init(&log->file.pending, MASTER_LOG_PENDING_BYTES);
    free(log->access_path);
    log->access_path = copy;
    log->access = &log->file;
    return true;
}

bool master_log_set_access(struct master_log *log, const char *access, struct buffer *error) {
    bool is_stdout = strcmp(access, "stdout") == 0;
    if (!is_stdout && strcmp(access, "off") != 0) {
        return open_file(log, access, error);
    }
    close_sink(&log->file);
    free(log->access_path);
    log->access_path = NULL;
    log->access = is_stdout ? &log->output : NULL;
    return true;
}

bool master_log_reopen(struct master_log *log, struct buffer *error) {
    return log->access_path == NULL || open_file(log, log->access_path, error);
}

void master_log_close(struct master_log *log) {
    close_sink(&log->output);
    close_sink(&log->errors);
    close_sink(&log->file);
    free(log->access_path);
    log->access_path = NULL;
    log->access = NULL;
}

void master_log_print(struct master_log *log, struct span text) {
    if (log->output.fd >= 0) {
        buffer_append_span(&log->output.pending, text);
    }
}

struct master_log_stream *master_log_stream_open(const char *name, int *write_fd) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        return NULL;
    }
    struct master_log_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        close(ends[0]);
        close(ends[1]);
        return NULL;
    }
    /* More room is a favour the kernel may refuse. */
    (void)fcntl(ends[1], F_SETPIPE_SZ, PIPE_ROOM_BYTES);
    stream->fd = ends[0];
    span_copy(span_text(name), stream->name, sizeof(stream->name));
    *write_fd = ends[1];
    return stream;
}

static bool is_capped(struct master_log_stream *stream, int64_t now_mono_ns) {
    if (now_mono_ns - stream->second_mono_ns >= NS_PER_S) {
        stream->second_mono_ns = now_mono_ns;
        stream->lines_this_second = 0;
    }
    if (stream->lines_this_second >= MASTER_LOG_LINES_PER_SECOND) {
        stream->capped_lines++;
        return true;
    }
    stream->lines_this_second++;
    return false;
}

static void relay_line(struct master_log *log, struct master_log_stream *stream, int64_t now_mono_ns) {
    struct span line = span_of(stream->line, stream->line_bytes);
    stream->line_bytes = 0;
    if (line.len != 0 && line.base[0] == ACCESS_MARK) {
        add_line(log->access, span_skip(line, 1));
    } else if (!is_capped(stream, now_mono_ns)) {
        add_line(&log->errors, line);
    }
}

/* Adds bytes without a newline to the unfinished line. A line that grows too long is passed on cut. */
static void gather(struct master_log *log, struct master_log_stream *stream, struct span part, int64_t now_mono_ns) {
    if (stream->skipping) {
        return;
    }
    size_t room = sizeof(stream->line) - stream->line_bytes;
    size_t taken = part.len < room ? part.len : room;
    memcpy(stream->line + stream->line_bytes, part.base, taken);
    stream->line_bytes += taken;
    if (taken < part.len) {
        relay_line(log, stream, now_mono_ns);
        stream->skipping = true;
    }
}

static void split_lines(struct master_log *log, struct master_log_stream *stream, struct span text,
                        int64_t now_mono_ns) {
    while (text.len != 0) {
        const char *newline = memchr(text.base, '\n', text.len);
        size_t part_bytes = newline != NULL ? (size_t)(newline - text.base) : text.len;
        gather(log, stream, span_of(text.base, part_bytes), now_mono_ns);
        if (newline == NULL) {
            return;
        }
        if (!stream->skipping) {
            relay_line(log, stream, now_mono_ns);
        }
        stream->skipping = false;
        text = span_skip(text, part_bytes + 1);
    }
}

bool master_log_stream_read(struct master_log *log, struct master_log_stream *stream, int64_t now_mono_ns) {
    static char bytes[READ_BYTES];
    for (int i = 0; i < READS_A_TURN; i++) {
        ssize_t got = read(stream->fd, bytes, sizeof(bytes));
        if (got > 0) {
            split_lines(log, stream, span_of(bytes, (size_t)got), now_mono_ns);
        } else if (got == 0) {
            return false;
        } else if (errno != EINTR) {
            return errno == EAGAIN;
        }
    }
    return true;
}

void master_log_stream_close(struct master_log *log, struct master_log_stream *stream, int64_t now_mono_ns) {
    /* The writer is dead, so a pipeful is all there can be. */
    int turns = 2;
    while (turns > 0 && master_log_stream_read(log, stream, now_mono_ns)) {
        turns--;
    }
    if (stream->line_bytes != 0) {
        relay_line(log, stream, now_mono_ns);
    }
    close(stream->fd);
    free(stream);
}

bool master_log_flush(struct master_log *log) {
    bool output_left = log->output.fd >= 0 && flush_sink(&log->output);
    bool errors_left = log->errors.fd >= 0 && flush_sink(&log->errors);
    bool file_left = log->file.fd >= 0 && flush_sink(&log->file);
    return output_left || errors_left || file_left;
}

int64_t master_log_take_dropped(struct master_log *log) {
    int64_t dropped = log->output.dropped_lines + log->errors.dropped_lines + log->file.dropped_lines;
    log->output.dropped_lines = 0;
    log->errors.dropped_lines = 0;
    log->file.dropped_lines = 0;
    return dropped;
}
