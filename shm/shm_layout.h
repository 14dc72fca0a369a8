/* shm/shm_layout.h - every struct that lives in the shared segment, its writers and its asserts.
 * Used by: shm/ itself, and the processes for reading the fields their comments allow.
 * Lives in: one file in the state directory, mapped by every process of one server.
 * Crash: each word has one writer or changes in one atomic step, so SIGKILL at any instruction leaves a legal state.
 * Only fixed-width integers, byte arrays and indices: no pointers. Any edit bumps SHM_LAYOUT_VERSION and the map in
 * shm/README.md. */
#ifndef TOLLGATE_SHM_SHM_LAYOUT_H
#define TOLLGATE_SHM_SHM_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/money.h"

#define SHM_MAGIC UINT64_C(0x746f6c6c67617465) /* "tollgate" */
enum {
    SHM_LAYOUT_VERSION = 4,
    SHM_SLOTS_PER_SEAT = 8192,
    SHM_RING_ENTRIES = 16384, /* a power of two */
    SHM_UPSTREAMS = 256,
    SHM_PRICE_ROWS = 8192, /* a power of two */
    SHM_IDS = 1 << 18,     /* a power of two */
    SHM_QUEUES = 256,      /* tenants share them by their number */
    SHM_QUEUE_PLACES = 256,
    SHM_PAIRS = 1 << 16, /* a power of two */
    SHM_PRICES_PER_MODEL = 4,
    SHM_ALLOW_BYTES = 2032,
    SHM_ROW_BYTES_MOST = 2048,
    SHM_NAME_BYTES = 64,
    SHM_MODEL_NAME_BYTES = 96,
    SHM_REQUEST_ID_BYTES = 72,
    SHM_KEY_ID_BYTES = 32,
    SHM_REPORT_BYTES = 8192,
    SHM_LAST_WORDS_BYTES = 256,
    SHM_HISTOGRAM_BUCKETS = 16,
    SHM_CACHE_LINE = 64,
    SHM_FAILURE_ROWS = 1 << 16,    /* a power of two, as the next two */
    SHM_REPLAY_ROWS = 1 << 20,     /* signatures of five and a half minutes */
    SHM_CONNECTION_ROWS = 1 << 14, /* a seat: addresses with connections to its worker */
};

/* Endpoints as records name them. */
enum shm_endpoint {
    SHM_ENDPOINT_CHAT_COMPLETIONS = 1,
    SHM_ENDPOINT_MESSAGES,
    SHM_ENDPOINT_RESPONSES,
    SHM_ENDPOINT_COMPLETIONS,
    SHM_ENDPOINT_EMBEDDINGS,
    SHM_ENDPOINT_WEBSOCKET,
    SHM_ENDPOINT_STREAM,
};

/* Flags of a usage record. */
enum shm_record_flag {
    SHM_RECORD_STREAM = 1,
    SHM_RECORD_ESTIMATED = 2,   /* counts are ours, not the upstream's */
    SHM_RECORD_ERROR_EVENT = 4, /* ended by an error after the answer had begun */
    SHM_RECORD_CLAMPED = 8,     /* the upstream's counts were impossible and were clamped */
    SHM_RECORD_ABORTED = 16,    /* settled by the ledger for a worker that died */
    SHM_RECORD_CLIENT_LEFT = 32,
    SHM_RECORD_CLIENT_ID = 64, /* the id came from the client */
    SHM_RECORD_MODEL_PRICED = 128,
    SHM_RECORD_CAPPED = 256, /* cost more than the budget had left: the price is what was left */
};

/* One request as the ledger will keep it. Filled in the slot by its worker, copied to the ring at settlement.
 * Texts are zero-terminated UTF-8. */
struct shm_usage_record_sh {
    int64_t start_wall_ns;
    int64_t first_byte_wall_ns; /* 0: none was sent */
    int64_t end_wall_ns;
    int64_t wait_ns; /* spent in a queue before the upstream was called */
    uint32_t tenant_id;
    uint32_t key_number;
    struct token_counts tokens;
    struct price price; /* what the tenant owes per million tokens, before the markup */
    struct price cost;
    struct price list_price;
    int64_t markup;
    int64_t price_nusd;
    int64_t cost_nusd;
    int64_t list_nusd;
    uint32_t flags;
    uint16_t status; /* as the client saw it; 499 when it left before any */
    uint8_t endpoint;
    uint8_t attempts; /* tries sent to an upstream; 0: none, then there is no record */
    char id[SHM_REQUEST_ID_BYTES];
    char model_asked[SHM_MODEL_NAME_BYTES];
    char model_served[SHM_MODEL_NAME_BYTES];
    char upstream[SHM_NAME_BYTES];
    char finish_reason[32];
    char end_user[128];
    char client[48]; /* address */
    int64_t reserved_[2];
};
static_assert(sizeof(struct shm_usage_record_sh) == 768, "layout");

enum shm_slot_state { SHM_SLOT_FREE = 0, SHM_SLOT_LIVE = 1, SHM_SLOT_SETTLING = 2 };

/* A live request. Written by the worker that owns the seat; by the ledger once the seat is dead. */
struct shm_slot_sh {
    _Atomic uint32_t state;
    uint32_t key_index;
    uint32_t tenant_index;
    uint32_t upstream_row;  /* SHM_NO_ROW: none */
    uint64_t ring_position; /* valid while SETTLING: where the record was or would have been published */
    int64_t held_nusd;
    uint32_t pair_row; /* SHM_NO_ROW: its model has no limits */
    uint32_t reserved0_;
    int64_t reserved_[1];
    struct shm_usage_record_sh record;
    int64_t padding_[10];
};
static_assert(sizeof(struct shm_slot_sh) == 896 && sizeof(struct shm_slot_sh) % SHM_CACHE_LINE == 0, "layout");
#define SHM_NO_ROW UINT32_MAX

/* Why a seat's record has the writers it has: ownership follows the state.
 * FREE: nobody. ASSIGNED: master, before fork. LIVE, DRAINING: its worker. DEAD: the ledger (the master writes only the
 * state, after waitpid). */
enum shm_seat_state { SHM_SEAT_FREE, SHM_SEAT_ASSIGNED, SHM_SEAT_LIVE, SHM_SEAT_DRAINING, SHM_SEAT_DEAD };

struct shm_histogram_sh {
    _Atomic uint64_t buckets[SHM_HISTOGRAM_BUCKETS];
    _Atomic uint64_t count;
    _Atomic uint64_t sum_ns;
};

enum shm_counter {
#define COUNTER(name, help) SHM_COUNTER_##name,
#include "shm/counters.def"
#undef COUNTER
    SHM_COUNTERS
};

struct shm_seat_sh {
    _Atomic uint32_t state;
    _Atomic int32_t pid;
    uint32_t worker_index;
    uint32_t generation;
    int64_t started_wall_ns;
    _Atomic int64_t heartbeat_mono_ns;
    _Atomic uint64_t acknowledged_epoch;
    _Atomic uint64_t streams; /* open streams, gauge */
    uint64_t padding_[1];
    _Alignas(SHM_CACHE_LINE) _Atomic uint64_t
        ring_head; /* next position to publish; never reset. Writer: the seat's owner */
    _Alignas(SHM_CACHE_LINE) _Atomic uint64_t ring_tail; /* first position not committed; never reset. Writer: ledger */
    _Alignas(SHM_CACHE_LINE) _Atomic uint64_t counters[SHM_COUNTERS];
    struct shm_histogram_sh time_to_first_token;
    struct shm_histogram_sh relay_overhead;
    char last_words[SHM_LAST_WORDS_BYTES];
};

enum shm_key_state { SHM_KEY_NONE, SHM_KEY_LIVE, SHM_KEY_DISABLED, SHM_KEY_REVOKED };
enum shm_window { SHM_WINDOW_DAY, SHM_WINDOW_MONTH, SHM_WINDOW_TOTAL, SHM_WINDOWS };

/* SHA-256 of a secret -> its key. Open addressing by the hash's first 8 bytes. Writer: ledger (even/odd version). */
struct shm_secret_sh {
    _Atomic uint32_t version; /* odd while being written */
    uint32_t key_index;
    uint8_t hash[32];
    int64_t valid_until_wall_ns; /* INT64_MAX: no end; 0: row never used */
    int64_t reserved_[2];
};
static_assert(sizeof(struct shm_secret_sh) == 64, "layout");

struct shm_limits_sh {
    int64_t requests_per_minute; /* 0: none, as for the next two */
    int64_t tokens_per_minute;
    int64_t concurrent;
    int64_t budget_nusd[SHM_WINDOWS]; /* -1: none */
};

enum shm_key_flag { SHM_KEY_REQUIRES_SIGNATURE = 1 };

/* A key's settings. Writer: ledger (even/odd version). Index = key number. */
struct shm_key_sh {
    _Atomic uint32_t version;
    uint32_t state; /* enum shm_key_state */
    uint32_t tenant_index;
    uint32_t flags;
    uint32_t allow_row; /* index of its allow-lists, or SHM_NO_ROW */
    uint32_t reserved0_;
    int64_t expires_wall_ns; /* INT64_MAX: never */
    struct shm_limits_sh limits;
    int64_t max_wait_ms;
    char id[SHM_KEY_ID_BYTES];
    char name[SHM_NAME_BYTES];
    int64_t reserved_[9];
};
static_assert(sizeof(struct shm_key_sh) == 256, "layout");

/* A tenant's settings, its tier resolved. Writer: ledger (even/odd version). Index = tenant id. */
struct shm_tenant_sh {
    _Atomic uint32_t version;
    uint32_t state;      /* enum shm_key_state, without REVOKED */
    uint32_t allow_row;  /* its tier's models, or SHM_NO_ROW */
    uint32_t has_credit; /* 1: prepaid */
    struct shm_limits_sh limits;
    int64_t max_wait_ms;
    int64_t markup;
    char name[SHM_NAME_BYTES];
    char tier[SHM_NAME_BYTES];
    int64_t reserved_[6];
};
static_assert(sizeof(struct shm_tenant_sh) == 256, "layout");

/* Allow-lists of a key or tier. text holds zero-terminated items one after another: first model_count model names, then
 * network_count networks in CIDR form. Writer: ledger (even/odd version). */
struct shm_allow_sh {
    _Atomic uint32_t version;
    uint32_t in_use;
    uint32_t model_count;
    uint32_t network_count;
    char text[SHM_ALLOW_BYTES];
};
static_assert(sizeof(struct shm_allow_sh) == 2048, "layout");

/* {spent, held} of one window, changed together by a 16-byte compare-and-swap (shm_balance.h). Writers: workers;
 * ledger. */
struct shm_balance_sh {
    _Alignas(16) int64_t spent_nusd;
    int64_t held_nusd;
};

/* What requests change, one row a key and one a tenant, same index as its settings. */
struct shm_account_sh {
    _Atomic uint64_t request_bucket_ns; /* GCRA words, see shm_bucket.h. Writers: workers */
    _Atomic uint64_t token_bucket_ns;
    _Atomic int64_t in_flight; /* requests; recomputed from the slots after a crash. Writers: workers; ledger */
    int64_t reserved0_;
    struct shm_balance_sh balances[SHM_WINDOWS];
    _Atomic int64_t window_start_wall_ns[SHM_WINDOWS]; /* which day and month the balances are of */
    _Atomic int64_t credit_nusd;             /* prepaid in all; spent is balances[SHM_WINDOW_TOTAL]. Writer: ledger */
    _Atomic int64_t spend_nusd[SHM_WINDOWS]; /* as the ledger has committed it. Writer: ledger */
    int64_t reserved_[7];
};
static_assert(sizeof(struct shm_account_sh) == 192, "layout");

struct shm_dated_price_sh {
    int64_t from_wall_ns;
    struct price price;
};

/* Prices set in the price book for one model: open addressing by the name. Rows in rising order of from; the first is
 * the one in force or the next to come. Writer: ledger (even/odd version). */
struct shm_price_sh {
    _Atomic uint32_t version;
    uint32_t count; /* 0: row never used, or the price was removed */
    char model[SHM_MODEL_NAME_BYTES];
    struct shm_dated_price_sh prices[SHM_PRICES_PER_MODEL];
    int64_t padding_[7];
};
static_assert(sizeof(struct shm_price_sh) == 320, "layout");

/* What one key takes of one model that has limits: open addressing by the identity (shm_pair.h). */
struct shm_pair_sh {
    _Atomic uint64_t identity; /* 0: row free */
    _Atomic uint64_t request_bucket_ns;
    _Atomic uint64_t token_bucket_ns;
    _Atomic int64_t in_flight;
};
static_assert(sizeof(struct shm_pair_sh) == 32, "layout");

/* A place in a queue (shm_queue.h). Writers: its worker; the ledger once the worker is dead. */
struct shm_waiter_sh {
    _Atomic uint64_t identity; /* seat + 1 and key; 0: free */
    _Atomic uint64_t ticket;   /* 0: arriving or leaving */
};

struct shm_queue_sh {
    _Alignas(SHM_CACHE_LINE) _Atomic uint64_t last_ticket;
    _Atomic int64_t waiting; /* never less than the places taken */
    struct shm_waiter_sh waiters[SHM_QUEUE_PLACES];
};
static_assert(sizeof(struct shm_queue_sh) == 4160, "layout");

/* What an upstream's own headers say of its limit, as a bucket (shm_learned.h). */
struct shm_learned_sh {
    _Atomic int64_t interval_ns; /* what one permit takes to refill; 0: nothing is known */
    _Atomic int64_t capacity;
    _Atomic uint64_t bucket_ns;
};

enum shm_upstream_error {
    SHM_UPSTREAM_CONNECT,
    SHM_UPSTREAM_TIMEOUT,
    SHM_UPSTREAM_RESET,
    SHM_UPSTREAM_STATUS,
    SHM_UPSTREAM_LIMITED,
    SHM_UPSTREAM_INVALID,
    SHM_UPSTREAM_ERRORS
};

/* An upstream's limits and health. Claimed by name by the master before fork; writers of the rest: workers. */
struct shm_upstream_sh {
    char name[SHM_NAME_BYTES]; /* empty: row free */
    _Atomic uint64_t request_bucket_ns;
    _Atomic uint64_t token_bucket_ns;
    _Atomic int64_t in_flight;
    _Atomic uint64_t breaker; /* see shm_breaker.h */
    _Atomic int64_t breaker_open_until_mono_ns;
    _Atomic uint64_t errors[SHM_UPSTREAM_ERRORS];
    _Atomic uint64_t requests;
    _Atomic int64_t blocked_until_mono_ns; /* it said 429 */
    struct shm_learned_sh learned_requests;
    struct shm_learned_sh learned_tokens;
    int64_t reserved_[5];
};
static_assert(sizeof(struct shm_upstream_sh) == 256, "layout");

/* The wrong keys of one address (shm_failures.h). Writers: workers. */
struct shm_failure_sh {
    _Atomic uint64_t fingerprint; /* of the address; 0: row never used */
    _Atomic uint64_t bucket_ns;   /* GCRA word */
};
static_assert(sizeof(struct shm_failure_sh) == 16, "layout");

/* The row being written, as it was before (shm_row.h). Writer: ledger. */
struct shm_undo_sh {
    _Atomic uint32_t turn; /* odd while this is being filled */
    uint32_t bytes;
    _Atomic uint64_t row_offset; /* in the segment; 0: none yet */
    _Atomic uint64_t words[SHM_ROW_BYTES_MOST / 8];
};

/* Head of the segment. Written by the master before anyone else maps it, except where noted. */
struct shm_header_sh {
    uint64_t magic;
    uint32_t layout_version;
    uint32_t reserved0_;
    uint64_t fingerprint; /* folds every size and capacity */
    uint64_t bytes;
    uint64_t incarnation; /* random; names this segment in the ledger's ring positions */
    int64_t created_wall_ns;
    char boot_id[40]; /* stays at this offset in every layout */
    uint32_t seat_count;
    uint32_t key_capacity;    /* rows of keys and of their accounts; a power of two */
    uint32_t secret_capacity; /* twice key_capacity */
    uint32_t tenant_capacity;
    uint32_t allow_capacity;
    uint32_t reserved1_;
    uint64_t seats_offset, slots_offset, rings_offset, secrets_offset, keys_offset, tenants_offset, key_accounts_offset,
        tenant_accounts_offset, allows_offset, prices_offset, upstreams_offset, ids_offset, queues_offset, pairs_offset,
        failures_offset, replays_offset, connections_offset;
    _Atomic int32_t master_pid;
    _Atomic int32_t ledger_pid;       /* writer: master */
    _Atomic int32_t admin_pid;        /* writer: master */
    _Atomic uint32_t ledger_ready;    /* generation whose tables are published. Writer: ledger */
    _Atomic uint32_t generation;      /* newest generation whose workers all accept. Writer: master */
    _Atomic uint32_t draining;        /* 1: the server is ending. Writer: master */
    _Atomic uint32_t reload_attempts; /* reloads finished, well or not. Writer: master */
    _Atomic uint32_t reload_failed;   /* 1: the last one failed; reload_report says why. Writer: master */
    _Atomic uint32_t worker_restarts; /* writer: master */
    _Atomic uint32_t pairs_full;      /* 1: the ledger should free pairs nobody uses. Writers: workers; ledger */
    _Atomic uint32_t budget_warnings; /* budgets that passed their warning mark. Writer: ledger */
    _Atomic uint32_t ledger_refuses;  /* 1: the ledger cannot commit; admit nothing. Writer: ledger */
    _Atomic uint64_t epoch;           /* odd: admissions pause (design.md section 3). Writer: ledger */
    _Atomic int64_t ledger_heartbeat_mono_ns; /* writer: ledger */
    _Atomic uint64_t records_committed;       /* since the segment was made. Writer: ledger */
    struct shm_undo_sh undo;
    char reload_report[SHM_REPORT_BYTES];
};

#endif
