#include "master/master_listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 4096 };

struct socket_address {
    struct sockaddr_storage storage;
    socklen_t len;
};

/* errno is 0 when the host could not be found. */
static void complain(struct buffer *error, const struct conf_address *address, int error_number) {
    bool is_v6 = strchr(address->host, ':') != NULL;
    buffer_format(error, "cannot listen on %s%s%s:%d: ", is_v6 ? "[" : "", address->host, is_v6 ? "]" : "",
                  address->port);
    if (error_number == 0) {
        buffer_append_text(error, "no such host; use an address such as 127.0.0.1");
        return;
    }
    buffer_append_text(error, strerror(error_number));
    if (error_number == EADDRINUSE) {
        buffer_append_text(error, "; end what listens there or configure another port");
    } else if (error_number == EACCES) {
        buffer_append_text(error, "; ports below 1024 need root or CAP_NET_BIND_SERVICE");
    }
}

/* False with errno 0 when there is no such host. */
static bool resolve(const char *host, int port, struct socket_address *out) {
    char service[16];
    snprintf(service, sizeof(service), "%d", port);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host[0] != '\0' ? host : "0.0.0.0", service, &hints, &found) != 0) {
        errno = 0;
        return false;
    }
    memcpy(&out->storage, found->ai_addr, found->ai_addrlen);
    out->len = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

static bool set_option(int fd, int level, int name) {
    const int on = 1;
    return setsockopt(fd, level, name, &on, sizeof(on)) == 0;
}

/* A bound socket, or -1 with errno set. */
static int bind_socket(const struct socket_address *address, bool shared) {
    int family = address->storage.ss_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if (set_option(fd, SOL_SOCKET, SO_REUSEADDR) && (!shared || set_option(fd, SOL_SOCKET, SO_REUSEPORT)) &&
        (family != AF_INET6 || set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY)) &&
        bind(fd, (const struct sockaddr *)&address->storage, address->len) == 0) {
        return fd;
    }
    int saved_errno = errno;
    close(fd);
    errno = saved_errno;
    return -1;
}

/* Sockets that share a port would happily share it with a stranger's: only one that does not share sees him. */
static bool is_taken(const struct socket_address *address) {
    int fd = bind_socket(address, false);
    if (fd < 0) {
        return true;
    }
    close(fd);
    return false;
}

static int bound_port(int fd) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = {.v6 = {0}};
    socklen_t len = sizeof(address);
    if (getsockname(fd, &address.any, &len) != 0) {
        return -1;
    }
    return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}

/* Makes room for `more` descriptors. */
static bool reserve(struct master_listener *listener, int more) {
    int *fds = calloc((size_t)(listener->fd_count + more) + 1, sizeof(*fds));
    if (fds == NULL) {
        return false;
    }
    for (int i = 0; i < listener->fd_count; i++) {
        fds[i] = listener->fds[i];
    }
    free(listener->fds);
    listener->fds = fds;
    return true;
}

/* Appends a descriptor, for which there is room, unless making it has failed. */
static bool add_socket(struct master_listener *listener, int fd) {
    if (fd >= 0) {
        listener->fds[listener->fd_count++] = fd;
    }
    return fd >= 0;
}

static void close_listener(struct master_listener *listener) {
    for (int i = 0; i < listener->fd_count; i++) {
        if (listener->fds[i] >= 0) {
            close(listener->fds[i]);
        }
    }
    free(listener->fds);
    free(listener->host);
    *listener = (struct master_listener){0};
}

/* Shares every socket that `old` has open. */
static bool share_sockets(struct master_listener *listener, const struct master_listener *old) {
    for (int i = 0; i < old->fd_count; i++) {
        if (old->fds[i] >= 0 && !add_socket(listener, fcntl(old->fds[i], F_DUPFD_CLOEXEC, 0))) {
            return false;
        }
    }
    return true;
}

/* Binds sockets until the listener has `count`. */
static bool bind_sockets(struct master_listener *listener, int count, bool shared) {
    struct socket_address address;
    while (listener->fd_count < count) {
        if (!resolve(listener->host, listener->port, &address)) {
            return false;
        }
        if (shared && listener->fd_count == 0 && listener->port != 0 && is_taken(&address)) {
            return false;
        }
        if (!add_socket(listener, bind_socket(&address, shared))) {
            return false;
        }
        listener->port = bound_port(listener->fds[0]);
    }
    return true;
}

static bool open_listener(struct master_listener *listener, const struct conf_address *address, int count, bool shared,
                          const struct master_listener *old, struct buffer *error) {
    *listener =
        (struct master_listener){.host = strdup(address->host), .conf_port = address->port, .port = address->port};
    errno = 0;
    if (listener->host != NULL && reserve(listener, count + (old != NULL ? old->fd_count : 0))) {
        listener->port = old != NULL ? old->port : address->port;
        if ((old == NULL || share_sockets(listener, old)) && bind_sockets(listener, count, shared)) {
            return true;
        }
    }
    complain(error, address, errno);
    close_listener(listener);
    return false;
}

static bool is_at(const struct master_listener *listener, const char *host, int conf_port) {
    return listener->host != NULL && listener->conf_port == conf_port && strcmp(listener->host, host) == 0;
}

static int count_at(const struct master_listen_set *set, int count, const char *host, int conf_port) {
    int found = 0;
    for (int i = 0; i < count; i++) {
        found += is_at(&set->listeners[i], host, conf_port);
    }
    return found;
}

/* The listener at an address, passing over `skipped` of them: only port 0 may stand there several times. */
static struct master_listener *find(const struct master_listen_set *set, const char *host, int conf_port, int skipped) {
    for (int i = 0; set != NULL && i < set->count; i++) {
        if (is_at(&set->listeners[i], host, conf_port) && skipped-- == 0) {
            return &set->listeners[i];
        }
    }
    return NULL;
}

static bool fits_heritage(const struct conf *conf, const struct master_listen_set *set, struct buffer *error) {
    int64_t most = 0;
    for (int i = 0; i < set->count; i++) {
        most += (set->listeners[i].fd_count + conf->workers - 1) / conf->workers;
    }
    if (most > HERITAGE_LISTENERS_MOST) {
        buffer_format(error,
                      "each worker would have %lld listening sockets, at most %d are possible; use fewer addresses or "
                      "more workers, or restart",
                      (long long)most, HERITAGE_LISTENERS_MOST);
        return false;
    }
    return true;
}

bool master_listen_open(struct master_listen_set *set, const struct conf *conf, const struct master_listen_set *old,
                        struct buffer *error) {
    *set = (struct master_listen_set){.listeners = calloc((size_t)conf->listen_count + 1, sizeof(*set->listeners))};
    if (set->listeners == NULL) {
        buffer_append_text(error, "out of memory");
        return false;
    }
    bool ok = true;
    while (ok && set->count < conf->listen_count) {
        const struct conf_address *address = &conf->listens[set->count].address;
        int skipped = count_at(set, set->count, address->host, address->port);
        ok = open_listener(&set->listeners[set->count], address, conf->workers, true,
                           find(old, address->host, address->port, skipped), error);
        set->count += ok;
    }
    const struct conf_address *admin = &conf->admin_address;
    bool kept = old != NULL && is_at(&old->admin, admin->host, admin->port);
    ok = ok && fits_heritage(conf, set, error) &&
         open_listener(&set->admin, admin, 1, false, kept ? &old->admin : NULL, error);
    if (!ok) {
        master_listen_close(set);
    }
    return ok;
}

static bool start_listener(const struct master_listener *listener, struct buffer *error) {
    for (int i = 0; i < listener->fd_count; i++) {
        if (listener->fds[i] >= 0 && listen(listener->fds[i], BACKLOG) != 0) {
            const struct conf_address address = {.host = listener->host, .port = listener->port};
            complain(error, &address, errno);
            return false;
        }
    }
    return true;
}

bool master_listen_start(struct master_listen_set *set, struct buffer *error) {
    for (int i = 0; i < set->count; i++) {
        if (!start_listener(&set->listeners[i], error)) {
            return false;
        }
    }
    return start_listener(&set->admin, error);
}

void master_listen_close(struct master_listen_set *set) {
    for (int i = 0; i < set->count; i++) {
        close_listener(&set->listeners[i]);
    }
    close_listener(&set->admin);
    free(set->listeners);
    *set = (struct master_listen_set){0};
}

static void adopt_surplus(struct master_listener *listener, struct master_listener *other) {
    int first = listener->fd_count;
    if (other->fd_count <= first || !reserve(listener, other->fd_count - first)) {
        return;
    }
    for (int i = first; i < other->fd_count; i++) {
        add_socket(listener, other->fds[i]);
        other->fds[i] = -1;
    }
}

int master_listen_adopt(struct master_listen_set *set, struct master_listen_set *from) {
    int most = 0;
    for (int i = 0; i < set->count; i++) {
        struct master_listener *listener = &set->listeners[i];
        int skipped = count_at(set, i, listener->host, listener->conf_port);
        struct master_listener *other = find(from, listener->host, listener->conf_port, skipped);
        if (other != NULL) {
            adopt_surplus(listener, other);
        }
        most = listener->fd_count > most ? listener->fd_count : most;
    }
    return most;
}

void master_listen_share(const struct master_listen_set *set, int worker_index, int worker_count,
                         struct heritage *heritage) {
    for (int i = 0; i < set->count; i++) {
        const struct master_listener *listener = &set->listeners[i];
        for (int j = worker_index; j < listener->fd_count; j += worker_count) {
            if (listener->fds[j] >= 0 && heritage->listener_count < HERITAGE_LISTENERS_MOST) {
                heritage->listeners[heritage->listener_count++] = (struct heritage_listener){listener->fds[j], i};
            }
        }
    }
}

void master_listen_abandon(struct master_listen_set *set, int worker_index, int worker_count) {
    for (int i = 0; i < set->count; i++) {
        struct master_listener *listener = &set->listeners[i];
        for (int j = worker_index; j < listener->fd_count; j += worker_count) {
            if (listener->fds[j] >= 0) {
                close(listener->fds[j]);
                listener->fds[j] = -1;
            }
        }
    }
}

void master_listen_print(const struct master_listener *listener, bool tls, struct buffer *out) {
    bool is_v6 = strchr(listener->host, ':') != NULL;
    buffer_format(out, "%s://%s%s%s:%d", tls ? "https" : "http", is_v6 ? "[" : "", listener->host, is_v6 ? "]" : "",
                  listener->port);
}
