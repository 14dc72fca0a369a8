#include "worker/guard_address.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { TABLE_ROWS = 4096 };

struct entry {
    struct guard_address address;
    int64_t count;
    struct entry *next;
};

struct guard_address_table {
    uint64_t seed; /* clients choose their addresses; they must not choose their row */
    struct entry *rows[TABLE_ROWS];
};

static const struct guard_address not_counted;

static bool is_same(struct guard_address a, struct guard_address b) {
    return memcmp(a.bytes, b.bytes, sizeof(a.bytes)) == 0;
}

static uint64_t mix(uint64_t word) {
    word = (word ^ word >> 32) * UINT64_C(0xd6e8feb86659fd93);
    word = (word ^ word >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return word ^ word >> 32;
}

static size_t find_row(const struct guard_address_table *table, struct guard_address address) {
    uint64_t halves[2];
    memcpy(halves, address.bytes, sizeof(halves));
    return (size_t)(mix(mix(halves[0] ^ table->seed) + halves[1]) % TABLE_ROWS);
}

/* The link that points to the address's entry, or the row's last link when it has none. */
static struct entry **find_link(struct guard_address_table *table, struct guard_address address) {
    struct entry **link = &table->rows[find_row(table, address)];
    while (*link != NULL && !is_same((*link)->address, address)) {
        link = &(*link)->next;
    }
    return link;
}

struct guard_address_table *guard_address_new(void) {
    struct guard_address_table *table = calloc(1, sizeof(*table));
    CHECK(table != NULL);
    CHECK(getrandom(&table->seed, sizeof(table->seed), 0) == sizeof(table->seed));
    return table;
}

void guard_address_free(struct guard_address_table *table) {
    for (size_t row = 0; row < TABLE_ROWS; row++) {
        for (struct entry *entry = table->rows[row], *next; entry != NULL; entry = next) {
            next = entry->next;
            free(entry);
        }
    }
    free(table);
}

struct guard_address guard_address_of(const struct sockaddr *peer, socklen_t len) {
    struct guard_address address = not_counted;
    if (peer->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        address.bytes[10] = 0xff;
        address.bytes[11] = 0xff;
        memcpy(address.bytes + 12, &((const struct sockaddr_in *)(const void *)peer)->sin_addr, 4);
    } else if (peer->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
        memcpy(address.bytes, &((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr, 16);
    }
    return address;
}

bool guard_address_take(struct guard_address_table *table, struct guard_address address, int64_t most) {
    if (is_same(address, not_counted)) {
        return true;
    }
    struct entry **link = find_link(table, address);
    if (*link == NULL) {
        struct entry *entry = calloc(1, sizeof(*entry));
        CHECK(entry != NULL);
        entry->address = address;
        *link = entry;
    }
    if (most != 0 && (*link)->count >= most) {
        return false;
    }
    (*link)->count++;
    return true;
}

void guard_address_return(struct guard_address_table *table, struct guard_address address) {
    if (is_same(address, not_counted)) {
        return;
    }
    struct entry **link = find_link(table, address);
    CHECK(*link != NULL && (*link)->count > 0);
    (*link)->count--;
    if ((*link)->count == 0) {
        struct entry *gone = *link;
        *link = gone->next;
        free(gone);
    }
}

int64_t guard_address_count(const struct guard_address_table *table, struct guard_address address) {
    for (const struct entry *entry = table->rows[find_row(table, address)]; entry != NULL; entry = entry->next) {
        if (is_same(entry->address, address)) {
            return entry->count;
        }
    }
    return 0;
}
