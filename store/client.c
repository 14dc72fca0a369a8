#include "store/client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/calendar.h"
#include "base/clock.h"
#include "base/json_read.h"
#include "store/control.h"
#include "store/damage.h"
#include "store/ledger_process.h"
#include "store/operations.h"
#include "store/spend.h"
#include "store/state_lock.h"

enum { READ_BYTES = 16384, ANSWER_SECONDS = 120, ZONE_BYTES = 256 };
/* How long a server that is starting, or whose ledger is being replaced, is waited for. */
static const int64_t patience_ns = 10 * NS_PER_S;
static const int64_t pause_ns = 50 * NS_PER_MS;

struct zone {
    char name[ZONE_BYTES];
};

struct client {
    char *state_dir;
    const struct conf *conf; /* NULL for client_connect */
    int fd;                  /* connection to the server, or -1 */
    int lock_fd;             /* the state lock, or -1 */
    struct ledger *ledger;   /* with the lock */
    struct zone zone;        /* of the books; empty when it is not told */
};

/* --- the zone in force is the process's, and only borrowed here --- */

static void note_zone(struct zone *out) {
    const char *name = getenv("TZ");
    (void)span_copy(name != NULL && name[0] != '\0' ? span_text(name) : SPAN_LITERAL("UTC"), out->name,
                    sizeof out->name);
}

static void take_zone(struct zone *before, const struct zone *zone) {
    note_zone(before);
    if (zone->name[0] != '\0') {
        (void)!calendar_use_zone(zone->name);
    }
}

static void give_zone_back(const struct zone *before) { (void)!calendar_use_zone(before->name); }

/* --- connection --- */

static int connect_to(const char *state_dir) {
    struct sockaddr_un address;
    int directory_fd = -1;
    if (!control_address(state_dir, &address, &directory_fd)) {
        return -1;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        (void)close(fd);
        fd = -1;
    }
    if (directory_fd >= 0) {
        (void)close(directory_fd);
    }
    const struct timeval patience = {.tv_sec = ANSWER_SECONDS};
    if (fd >= 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    }
    return fd;
}

static struct client *new_client(const char *state_dir, const struct conf *conf) {
    struct client *client = calloc(1, sizeof *client);
    CHECK(client != NULL);
    *client = (struct client){.conf = conf, .fd = -1, .lock_fd = -1};
    client->state_dir = strdup(state_dir);
    CHECK(client->state_dir != NULL);
    if (conf != NULL && conf->timezone != NULL) {
        (void)span_copy(span_text(conf->timezone), client->zone.name, sizeof client->zone.name);
    }
    return client;
}

struct client *client_connect(const char *state_dir, struct buffer *error) {
    int fd = connect_to(state_dir);
    if (fd < 0) {
        buffer_format(error, "no server answers at %s/control.sock: %s", state_dir, strerror(errno));
        return NULL;
    }
    struct client *client = new_client(state_dir, NULL);
    client->fd = fd;
    return client;
}

/* With the lock held: brings in what a dead server left and opens the books. */
static bool open_books(struct client *client, struct buffer *error) {
    struct zone before;
    take_zone(&before, &client->zone);
    bool opened = ledger_recover(client->conf, error);
    if (opened) {
        damage_expect(client->state_dir);
        client->ledger = ledger_open(client->state_dir, LEDGER_WRITE, error);
        opened = client->ledger != NULL && spend_use_zone(client->ledger, client->conf->timezone, error);
        note_zone(&client->zone);
    }
    give_zone_back(&before);
    return opened;
}

enum attempt { ATTEMPT_DONE, ATTEMPT_BUSY, ATTEMPT_FAILED };

static enum attempt try_open(struct client *client, bool make_state, pid_t *holder, struct buffer *error) {
    client->fd = connect_to(client->state_dir);
    if (client->fd >= 0) {
        return ATTEMPT_DONE;
    }
    switch (state_lock_take(client->state_dir, make_state, &client->lock_fd, holder, error)) {
    case STATE_LOCKED:
        return open_books(client, error) ? ATTEMPT_DONE : ATTEMPT_FAILED;
    case STATE_BUSY:
        return ATTEMPT_BUSY;
    default:
        return ATTEMPT_FAILED;
    }
}

static void take_a_pause(void) { (void)nanosleep(&(struct timespec){.tv_nsec = pause_ns}, NULL); }

struct client *client_open(const struct conf *conf, bool make_state, struct buffer *error) {
    struct client *client = new_client(conf->state_dir, conf);
    int64_t until_mono_ns = clock_mono_ns() + patience_ns;
    pid_t holder = 0;
    enum attempt attempt = try_open(client, make_state, &holder, error);
    while (attempt == ATTEMPT_BUSY && clock_mono_ns() < until_mono_ns) {
        take_a_pause();
        attempt = try_open(client, make_state, &holder, error);
    }
    if (attempt == ATTEMPT_DONE) {
        return client;
    }
    if (attempt == ATTEMPT_BUSY) {
        buffer_format(error, "%s is in use by process %d, which does not answer: try again, or look into its log",
                      conf->state_dir, (int)holder);
    }
    client_close(client);
    return NULL;
}

void client_close(struct client *client) {
    if (client == NULL) {
        return;
    }
    if (client->fd >= 0) {
        (void)close(client->fd);
    }
    ledger_close(client->ledger);
    state_lock_release(client->state_dir, client->lock_fd);
    free(client->state_dir);
    free(client);
}

bool client_is_remote(const struct client *client) { return client->lock_fd < 0; }

/* --- calls --- */

static bool fail(struct buffer *answer, const char *message) {
    operations_write_failure(answer, "unavailable", NULL, message);
    return false;
}

static bool send_all(int fd, const char *bytes, size_t len) {
    while (len != 0) {
        ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent <= 0) {
            return false;
        }
        bytes += sent;
        len -= (size_t)sent;
    }
    return true;
}

/* Appends one line, without its end. */
static bool receive_line(int fd, struct buffer *answer) {
    char bytes[READ_BYTES];
    bool complete = false;
    ssize_t got = 0;
    while (!complete && !answer->failed) {
        got = recv(fd, bytes, sizeof bytes, 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            break;
        }
        complete = bytes[got - 1] == '\n';
        buffer_append(answer, bytes, complete ? (size_t)got - 1 : (size_t)got);
    }
    explicit_bzero(bytes, sizeof bytes);
    return complete && !answer->failed;
}

/* Forgets what came of an answer that did not come whole. */
static void cut_back(struct buffer *answer, size_t len) {
    answer->len = len;
    if (answer->base != NULL) {
        answer->base[len] = '\0';
    }
}

/* A connection on which anything is to be read between calls was closed by a ledger that ended. */
static bool is_stale(int fd) {
    struct pollfd now = {.fd = fd, .events = POLLIN};
    return poll(&now, 1, 0) != 0;
}

static bool connect_again(struct client *client) {
    int64_t until_mono_ns = clock_mono_ns() + patience_ns;
    if (client->fd >= 0 && !is_stale(client->fd)) {
        return true;
    }
    if (client->fd >= 0) {
        (void)close(client->fd);
    }
    client->fd = connect_to(client->state_dir);
    while (client->fd < 0 && clock_mono_ns() < until_mono_ns && state_lock_holder(client->state_dir) != 0) {
        take_a_pause();
        client->fd = connect_to(client->state_dir);
    }
    return client->fd >= 0;
}

static bool is_done(const struct buffer *answer, size_t start) {
    return span_starts_with(span_skip(buffer_span(answer), start), "{\"ok\":true");
}

/* The server takes one line a request; between JSON's tokens a line's end is a space like any other. */
static bool call_server(struct client *client, struct span request, struct buffer *answer) {
    struct buffer line;
    size_t start = answer->len;
    if (request.len >= OPERATION_REQUEST_BYTES_MOST) {
        return fail(answer, "the request is too long");
    }
    if (!connect_again(client)) {
        return fail(answer, "the server does not answer");
    }
    buffer_init(&line, OPERATION_REQUEST_BYTES_MOST + 1);
    buffer_append_span(&line, request);
    for (size_t at = 0; at < line.len; at++) {
        line.base[at] = line.base[at] == '\n' || line.base[at] == '\r' ? ' ' : line.base[at];
    }
    buffer_append_byte(&line, '\n');
    bool answered = !line.failed && send_all(client->fd, line.base, line.len) && receive_line(client->fd, answer);
    buffer_fini(&line);
    if (!answered) {
        (void)close(client->fd);
        client->fd = -1;
        cut_back(answer, start);
        return fail(answer, "the server ended before it answered: look whether it was done, then try again");
    }
    return is_done(answer, start);
}

static bool run_here(struct client *client, struct ledger *ledger, struct span request, struct buffer *answer) {
    struct operations operations = {.ledger = ledger, .conf = client->conf};
    struct zone before;
    take_zone(&before, &client->zone);
    bool done = operations_run(&operations, request, answer);
    give_zone_back(&before);
    return done;
}

/* Verify and backup read the books beside the server, with the caller's rights and in its own time. */
static bool run_beside_server(struct client *client, struct span request, struct buffer *answer) {
    struct buffer scratch;
    if (client->conf == NULL) {
        return fail(answer, "this operation is for the command line");
    }
    buffer_init(&scratch, OPERATION_ANSWER_BYTES_MOST);
    bool done = call_server(client, SPAN_LITERAL("{\"op\":\"flush\"}"), &scratch);
    buffer_clear(&scratch);
    damage_expect(client->state_dir);
    struct ledger *ledger = ledger_open(client->state_dir, LEDGER_READ, &scratch);
    if (ledger == NULL) {
        done = fail(answer, buffer_text(&scratch));
    } else {
        done = run_here(client, ledger, request, answer);
        ledger_close(ledger);
    }
    buffer_fini(&scratch);
    return done;
}

static bool runs_beside_server(struct span request) {
    struct json_doc doc;
    json_doc_init(&doc);
    bool beside = json_parse(&doc, request) && (json_string_is(&doc, json_member(&doc, 0, "op"), "verify") ||
                                                json_string_is(&doc, json_member(&doc, 0, "op"), "backup"));
    json_doc_fini(&doc);
    return beside;
}

bool client_call(struct client *client, struct span request, struct buffer *answer) {
    if (!client_is_remote(client)) {
        return run_here(client, client->ledger, request, answer);
    }
    return runs_beside_server(request) ? run_beside_server(client, request, answer)
                                       : call_server(client, request, answer);
}
