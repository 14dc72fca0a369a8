/* What the ledger can take and how fast its reports are: rings of records into the books, beside what the disk needs to
 * keep the same bytes; reports over 30 days of 1,000 keys and 5 models; the deletion of old records. bench_store
 * DIRECTORY (on the disk to measure). */
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/calendar.h"
#include "bench.h"
#include "shm/shm_slot.h"
#include "store/accounts.h"
#include "store/commit.h"
#include "store/report.h"
#include "store/retention.h"

enum { DAYS = 30, KEYS = 1000, TENANTS = 50, MODELS = 5, RECORDS = DAYS * KEYS * MODELS, RETIRED = 100000 };
enum { BATCH = 8000, SINGLE_COMMITS = 40, PATH_BYTES = 512, OUT_BYTES = 512 << 20 };

/* 2026-10-01T00:00:00Z, and a day. */
static const int64_t begin_wall_ns = INT64_C(1790812800) * NS_PER_S;
static const int64_t day_ns = INT64_C(86400) * NS_PER_S;

struct books {
    char state_dir[PATH_BYTES];
    struct shm_map map;
    struct shm_slots slots;
    struct ledger *ledger;
    struct buffer error;
};

static _Noreturn void give_up(const struct books *books, const char *what) {
    (void)fprintf(stderr, "bench_store: %s: %s\n", what, buffer_text(&books->error));
    exit(1);
}

static void store_accounts(struct books *books) {
    struct kv_txn *txn = ledger_begin_write(books->ledger, &books->error);
    struct api_key *key = calloc(1, sizeof(*key));
    CHECK(txn != NULL && key != NULL);
    for (uint32_t id = 0; id < TENANTS; id++) {
        struct tenant tenant = {.id = id, .markup = MARKUP_ONE};
        account_limits_init(&tenant.limits);
        (void)snprintf(tenant.name, sizeof(tenant.name), "tenant%" PRIu32, id);
        CHECK(tenant_store(txn, &tenant));
    }
    for (uint32_t number = 0; number < KEYS; number++) {
        *key = (struct api_key){.number = number,
                                .tenant_id = number % TENANTS,
                                .state = SHM_KEY_LIVE,
                                .expires_wall_ns = INT64_MAX,
                                .tags = "{}"};
        account_limits_init(&key->limits);
        (void)snprintf(key->id, sizeof(key->id), "key_%" PRIu32, number);
        CHECK(api_key_store(txn, key));
    }
    free(key);
    if (ledger_end_write(books->ledger, txn, &books->error) != KV_OK) {
        give_up(books, "accounts");
    }
}

static void open_books(struct books *books, const char *directory) {
    const struct shm_capacity capacity = {.seats = 1, .keys = 1024, .tenants = 64};
    buffer_init(&books->error, 4096);
    (void)snprintf(books->state_dir, sizeof(books->state_dir), "%s/bench-store-XXXXXX", directory);
    if (mkdtemp(books->state_dir) == NULL) {
        perror(directory);
        exit(1);
    }
    if (!shm_map_create(&books->map, books->state_dir, &capacity, &books->error)) {
        give_up(books, "segment");
    }
    int seat = shm_seat_assign(&books->map, 0, 1, &books->error);
    CHECK(seat >= 0);
    shm_slots_init(&books->slots, &books->map, (uint32_t)seat);
    books->ledger = ledger_open(books->state_dir, LEDGER_WRITE, &books->error);
    if (books->ledger == NULL) {
        give_up(books, "ledger");
    }
    store_accounts(books);
}

/* The record of one day, key and model: each once, days in order, so that commits come as time goes. */
static void make_record(uint32_t number, struct shm_usage_record_sh *record) {
    uint32_t of_day = number % (KEYS * MODELS);
    uint32_t key = of_day / MODELS;
    int64_t end_ns = begin_wall_ns + (int64_t)(number / (KEYS * MODELS)) * day_ns + (int64_t)of_day * 17 * NS_PER_S;
    *record = (struct shm_usage_record_sh){
        .start_wall_ns = end_ns - NS_PER_S,
        .first_byte_wall_ns = end_ns - NS_PER_S / 2,
        .end_wall_ns = end_ns,
        .tenant_id = key % TENANTS,
        .key_number = key,
        .tokens = {.input_tokens = 1200 + number % 700, .cached_input_tokens = 300, .output_tokens = 20 + number % 900},
        .price = {2000000000, 500000000, 2000000000, 8000000000},
        .cost = {1000000000, 250000000, 1000000000, 4000000000},
        .markup = MARKUP_ONE,
        .price_nusd = 4000000 + number,
        .cost_nusd = 2000000 + number,
        .flags = SHM_RECORD_STREAM | SHM_RECORD_MODEL_PRICED,
        .status = 200,
        .endpoint = SHM_ENDPOINT_CHAT_COMPLETIONS,
        .attempts = 1,
        .upstream = "openai",
        .finish_reason = "stop",
        .client = "192.0.2.17",
    };
    (void)snprintf(record->id, sizeof(record->id), "req_%020" PRIu32, number);
    (void)snprintf(record->model_asked, sizeof(record->model_asked), "model-%" PRIu32, of_day % MODELS);
    (void)snprintf(record->model_served, sizeof(record->model_served), "model-%" PRIu32, of_day % MODELS);
}

/* Settles records [from, from + count) as a worker does. */
static void settle(struct books *books, uint32_t from, uint32_t count) {
    for (uint32_t number = from; number < from + count; number++) {
        int slot = shm_slot_take(&books->slots);
        CHECK(slot >= 0);
        make_record(number, &shm_slot(&books->map, books->slots.seat, (uint32_t)slot)->record);
        shm_slot_go_live(&books->slots, slot);
        shm_slot_settle(&books->slots, slot);
    }
}

/* Commits what the ring holds; returns how long it took. */
static int64_t commit(struct books *books, int64_t expected) {
    int64_t begin_ns = clock_mono_ns();
    if (commit_rings(books->ledger, &books->map, NULL, NULL, &books->error) != expected) {
        give_up(books, "commit");
    }
    return clock_mono_ns() - begin_ns;
}

/* What the disk needs to keep `size` bytes, a few times over. */
static double time_disk(const struct books *books, size_t size, int times) {
    char path[PATH_BYTES + 8];
    char *bytes = calloc(1, size);
    (void)snprintf(path, sizeof(path), "%s/plain", books->state_dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && bytes != NULL);
    CHECK(pwrite(fd, bytes, size, 0) == (ssize_t)size && fsync(fd) == 0);
    int64_t begin_ns = clock_mono_ns();
    for (int at = 0; at < times; at++) {
        memset(bytes, at, size);
        CHECK(pwrite(fd, bytes, size, 0) == (ssize_t)size && fdatasync(fd) == 0);
    }
    int64_t taken_ns = clock_mono_ns() - begin_ns;
    (void)close(fd);
    free(bytes);
    return (double)taken_ns / times;
}

static double time_commits(struct books *books) {
    int64_t taken_ns = 0;
    uint32_t done = 0;
    while (RECORDS - done > SINGLE_COMMITS) {
        uint32_t count = RECORDS - done - SINGLE_COMMITS < BATCH ? RECORDS - done - SINGLE_COMMITS : BATCH;
        settle(books, done, count);
        taken_ns += commit(books, count);
        done += count;
    }
    bench_row("records committed, batches of 8,000", (double)done * NS_PER_S / (double)taken_ns, "records/s", NULL, 0);
    double disk_ns = time_disk(books, (size_t)BATCH * sizeof(struct shm_usage_record_sh), 4);
    double batch_ns = (double)taken_ns / done * BATCH;
    bench_row("commit of 8,000 records", batch_ns / NS_PER_MS, "ms", "write and fdatasync of their bytes",
              disk_ns / NS_PER_MS);
    double all_ms = (double)taken_ns / NS_PER_MS;
    taken_ns = 0;
    for (; done < RECORDS; done++) {
        settle(books, done, 1);
        taken_ns += commit(books, 1);
    }
    disk_ns = time_disk(books, 4096, SINGLE_COMMITS);
    bench_row("commit of 1 record", (double)taken_ns / SINGLE_COMMITS / NS_PER_MS, "ms", "write and fdatasync of 4 KiB",
              disk_ns / NS_PER_MS);
    return all_ms;
}

static bool count_rollup(void *context, const struct ledger_rollup *rollup) {
    *(int64_t *)context += rollup->requests;
    return true;
}

/* Reading every row of the days and doing nothing with it. */
static double time_walk(struct books *books) {
    int64_t requests = 0;
    int64_t begin_ns = clock_mono_ns();
    if (!ledger_each_day_rollup(books->ledger, begin_wall_ns, begin_wall_ns + DAYS * day_ns, count_rollup, &requests,
                                &books->error)) {
        give_up(books, "walk");
    }
    CHECK(requests == RECORDS);
    return (double)(clock_mono_ns() - begin_ns) / NS_PER_MS;
}

static void time_report(struct books *books, const char *by, const char *tenant, double walk_ms) {
    struct report_group groups[REPORT_GROUPS_MOST];
    struct report_filter filter = {
        .from_wall_ns = begin_wall_ns, .to_wall_ns = begin_wall_ns + DAYS * day_ns, .tenant = tenant};
    struct buffer out;
    char what[96];
    buffer_init(&out, OUT_BYTES);
    int count = report_parse_groups(span_text(by), groups, &books->error);
    CHECK(count > 0);
    int64_t begin_ns = clock_mono_ns();
    if (!report_usage_json(books->ledger, &filter, groups, count, NULL, &out, &books->error)) {
        give_up(books, "report");
    }
    double taken_ms = (double)(clock_mono_ns() - begin_ns) / NS_PER_MS;
    (void)snprintf(what, sizeof(what), "report by %s%s, %.1f MB", by, tenant != NULL ? " of one tenant" : "",
                   (double)out.len / 1e6);
    bench_row(what, taken_ms, "ms", "reading the 150,000 rows", walk_ms);
    buffer_fini(&out);
}

static void time_reports(struct books *books) {
    (void)time_walk(books); /* brings the pages in */
    double walk_ms = time_walk(books);
    time_report(books, "month", NULL, walk_ms);
    time_report(books, "day,model", NULL, walk_ms);
    time_report(books, "key", NULL, walk_ms);
    time_report(books, "day,key,model", "tenant7", walk_ms);
    time_report(books, "day,key,model", NULL, walk_ms);
}

/* The oldest RETIRED records, in batches as the ledger deletes them, beside what their commits took. */
static void time_retention(struct books *books, double commit_ms) {
    int64_t before_ns = begin_wall_ns + RETIRED / (KEYS * MODELS) * day_ns;
    int64_t longest_ns = 0;
    int deleted = 0;
    int64_t begin_ns = clock_mono_ns();
    for (int batch = 1; batch > 0; deleted += batch) {
        int64_t batch_begin_ns = clock_mono_ns();
        batch = retention_delete(books->ledger, before_ns, RETENTION_BATCH, &books->error);
        int64_t batch_ns = clock_mono_ns() - batch_begin_ns;
        longest_ns = batch_ns > longest_ns ? batch_ns : longest_ns;
    }
    double taken_ms = (double)(clock_mono_ns() - begin_ns) / NS_PER_MS;
    if (deleted != RETIRED) {
        give_up(books, "retention");
    }
    bench_row("retention of 100,000 records", taken_ms, "ms", "their commits", commit_ms * RETIRED / RECORDS);
    bench_row("longest batch of it", (double)longest_ns / NS_PER_MS, "ms", NULL, 0);
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *place) {
    (void)status, (void)kind, (void)place;
    return remove(path);
}

int main(int count, char **arguments) {
    static struct books books;
    if (count != 2) {
        (void)fprintf(stderr, "usage: bench_store DIRECTORY\n");
        return 2;
    }
    CHECK(calendar_use_zone("UTC"));
    open_books(&books, arguments[1]);
    double commit_ms = time_commits(&books);
    time_reports(&books);
    time_retention(&books, commit_ms);
    ledger_close(books.ledger);
    shm_map_close(&books.map);
    buffer_fini(&books.error);
    return nftw(books.state_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
