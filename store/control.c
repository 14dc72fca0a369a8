#include "store/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/state_lock.h"

enum { READ_BYTES = 65536 };
static const int64_t patience_ns = 30 * NS_PER_S;

struct control_client {
    int fd; /* -1: free */
    struct buffer request;
    struct buffer answer;
    int64_t progress_mono_ns;
};

struct control {
    struct operations *operations;
    char *state_dir;
    int fd;
    ino_t inode; /* of the socket's file, to remove no other's */
    struct control_client clients[CONTROL_CLIENTS_MOST];
    int polled[CONTROL_CLIENTS_MOST]; /* client of each poll entry after the first */
};

bool control_address(const char *state_dir, struct sockaddr_un *out, int *directory_fd) {
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    *directory_fd = -1;
    int len = snprintf(out->sun_path, sizeof out->sun_path, "%s/control.sock", state_dir);
    if (len > 0 && (size_t)len < sizeof out->sun_path) {
        return true;
    }
    *directory_fd = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    (void)snprintf(out->sun_path, sizeof out->sun_path, "/proc/self/fd/%d/control.sock", *directory_fd);
    return *directory_fd >= 0;
}

static bool listen_at(struct control *control, const struct sockaddr_un *address) {
    struct stat made;
    control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    (void)unlink(address->sun_path);
    mode_t before = umask(0177);
    bool bound = control->fd >= 0 && bind(control->fd, (const struct sockaddr *)address, sizeof *address) == 0;
    (void)umask(before);
    if (!bound || stat(address->sun_path, &made) != 0 || listen(control->fd, CONTROL_CLIENTS_MOST) != 0) {
        return false;
    }
    control->inode = made.st_ino;
    return true;
}

struct control *control_open(const char *state_dir, struct operations *operations, struct buffer *error) {
    struct sockaddr_un address;
    int directory_fd = -1;
    struct control *control = calloc(1, sizeof *control);
    CHECK(control != NULL);
    *control = (struct control){.operations = operations, .fd = -1};
    control->state_dir = strdup(state_dir);
    CHECK(control->state_dir != NULL);
    for (int at = 0; at < CONTROL_CLIENTS_MOST; at++) {
        control->clients[at].fd = -1;
    }
    bool opened = control_address(state_dir, &address, &directory_fd) && listen_at(control, &address);
    if (!opened) {
        buffer_format(error, "cannot listen on %s/control.sock: %s", state_dir, strerror(errno));
    }
    if (directory_fd >= 0) {
        (void)close(directory_fd);
    }
    if (!opened) {
        control_close(control);
        return NULL;
    }
    state_hand_over(state_dir, "control.sock");
    return control;
}

static void wipe(struct buffer *buffer) {
    if (buffer->base != NULL) {
        explicit_bzero(buffer->base, buffer->size); /* new keys' secrets pass here */
    }
    buffer_fini(buffer);
}

static void drop_client(struct control_client *client) {
    (void)close(client->fd);
    client->fd = -1;
    wipe(&client->request);
    wipe(&client->answer);
}

static void remove_socket(const struct control *control) {
    struct sockaddr_un address;
    struct stat now;
    int directory_fd = -1;
    if (control_address(control->state_dir, &address, &directory_fd) && stat(address.sun_path, &now) == 0 &&
        now.st_ino == control->inode) {
        (void)unlink(address.sun_path);
    }
    if (directory_fd >= 0) {
        (void)close(directory_fd);
    }
}

void control_close(struct control *control) {
    if (control == NULL) {
        return;
    }
    for (int at = 0; at < CONTROL_CLIENTS_MOST; at++) {
        if (control->clients[at].fd >= 0) {
            drop_client(&control->clients[at]);
        }
    }
    if (control->fd >= 0) {
        remove_socket(control);
        (void)close(control->fd);
    }
    free(control->state_dir);
    free(control);
}

/* In the middle of something: part of a request came, or part of an answer has not gone. */
static bool is_busy(const struct control_client *client) { return client->request.len != 0 || client->answer.len != 0; }

/* A free place; when there is none, that of a client that has asked nothing for the longest. */
static struct control_client *find_place(struct control *control) {
    struct control_client *idle = NULL;
    for (int at = 0; at < CONTROL_CLIENTS_MOST; at++) {
        struct control_client *client = &control->clients[at];
        if (client->fd < 0) {
            return client;
        }
        if (!is_busy(client) && (idle == NULL || client->progress_mono_ns < idle->progress_mono_ns)) {
            idle = client;
        }
    }
    if (idle != NULL) {
        drop_client(idle);
    }
    return idle;
}

static void accept_clients(struct control *control) {
    for (;;) {
        int fd = accept4(control->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        struct control_client *client = find_place(control);
        if (client == NULL) {
            (void)close(fd);
            continue;
        }
        *client = (struct control_client){.fd = fd, .progress_mono_ns = clock_mono_ns()};
        buffer_init(&client->request, OPERATION_REQUEST_BYTES_MOST + 1);
        buffer_init(&client->answer, OPERATION_ANSWER_BYTES_MOST + 4096);
    }
}

static bool send_answer(struct control_client *client) {
    while (client->answer.len != 0) {
        ssize_t sent = send(client->fd, client->answer.base, client->answer.len, MSG_NOSIGNAL);
        if (sent < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        buffer_consume(&client->answer, (size_t)sent);
        client->progress_mono_ns = clock_mono_ns();
    }
    return true;
}

/* Runs the request that is complete, if one is. False when the client is to go. */
static bool run_request(struct control *control, struct control_client *client) {
    const char *end = client->request.len == 0 ? NULL : memchr(client->request.base, '\n', client->request.len);
    if (end == NULL || client->answer.len != 0) {
        return client->request.len <= OPERATION_REQUEST_BYTES_MOST;
    }
    size_t len = (size_t)(end - client->request.base);
    (void)operations_run(control->operations, span_of(client->request.base, len), &client->answer);
    buffer_append_byte(&client->answer, '\n');
    buffer_consume(&client->request, len + 1);
    return !client->answer.failed && send_answer(client);
}

static bool read_request(struct control_client *client) {
    size_t room = OPERATION_REQUEST_BYTES_MOST + 1 - client->request.len;
    room = room < READ_BYTES ? room : READ_BYTES;
    char *at = room == 0 ? NULL : buffer_reserve(&client->request, room);
    ssize_t got = at == NULL ? 0 : recv(client->fd, at, room, 0);
    if (got < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    buffer_added(&client->request, (size_t)got);
    client->progress_mono_ns = clock_mono_ns();
    return got > 0;
}

int control_poll_set(struct control *control, struct pollfd fds[static CONTROL_FDS_MOST]) {
    int64_t stale_mono_ns = clock_mono_ns() - patience_ns;
    int count = 0;
    fds[count++] = (struct pollfd){.fd = control->fd, .events = POLLIN};
    for (int at = 0; at < CONTROL_CLIENTS_MOST; at++) {
        struct control_client *client = &control->clients[at];
        if (client->fd >= 0 && is_busy(client) && client->progress_mono_ns < stale_mono_ns) {
            drop_client(client);
        }
        if (client->fd >= 0) {
            control->polled[count - 1] = at;
            fds[count++] = (struct pollfd){.fd = client->fd, .events = client->answer.len != 0 ? POLLOUT : POLLIN};
        }
    }
    return count;
}

static bool handle_client(struct control *control, struct control_client *client, short events) {
    if ((events & POLLOUT) != 0 && !send_answer(client)) {
        return false;
    }
    if (client->answer.len == 0 && (events & (POLLIN | POLLHUP | POLLERR)) != 0 && !read_request(client)) {
        return false;
    }
    return run_request(control, client);
}

void control_handle(struct control *control, const struct pollfd *fds, int count) {
    for (int at = 1; at < count; at++) {
        struct control_client *client = &control->clients[control->polled[at - 1]];
        if (fds[at].revents != 0 && client->fd == fds[at].fd && !handle_client(control, client, fds[at].revents)) {
            drop_client(client);
        }
    }
    if (fds[0].revents != 0) {
        accept_clients(control);
    }
}
