/* What the shared segment costs a request: bucket takes and balance reserves, alone and with eight processes on one
 * key, which must stay exact; key look-ups in small and large tables. bench_shm DIRECTORY (for the segment). */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "bench.h"
#include "shm/shm_balance.h"
#include "shm/shm_bucket.h"
#include "shm/shm_keys.h"

enum { ALONE_ROUNDS = 20000000, PROCESSES = 8, TOGETHER_ROUNDS = 1000000, LOOKUPS = 2000000, HASHES = 200000 };
enum { CONTEST_RATE = 60000, CONTEST_BUDGET = 700003 };
enum { PATH_BYTES = 512, SECRET_BYTES = 45 };

/* So high a rate that every take is granted: more than one permit comes back in a nanosecond. */
static const int64_t rate_per_minute = INT64_C(1000000000000);

static int64_t take_many(_Atomic uint64_t *bucket, int rounds) {
    int64_t begin_ns = clock_mono_ns();
    int64_t granted = 0;
    for (int round = 0; round < rounds; round++) {
        granted += shm_bucket_take(bucket, rate_per_minute, 1, begin_ns + round) ? 1 : 0;
    }
    CHECK(granted > 0);
    return clock_mono_ns() - begin_ns;
}

/* A hold and its settlement, as each request has them; a call is half of that. */
static int64_t reserve_many(_Atomic uint64_t *word, int rounds) {
    struct shm_balance_sh *balance = (struct shm_balance_sh *)(void *)word;
    int64_t begin_ns = clock_mono_ns();
    for (int round = 0; round < rounds; round += 2) {
        CHECK(shm_balance_reserve(balance, INT64_MAX / 2, 5));
        shm_balance_settle(balance, 5, 3);
    }
    return clock_mono_ns() - begin_ns;
}

/* The least that one atomic change can cost. */
static int64_t swap_many(_Atomic uint64_t *word, int rounds) {
    int64_t begin_ns = clock_mono_ns();
    for (int round = 0; round < rounds; round++) {
        uint64_t seen = atomic_load(word);
        while (!atomic_compare_exchange_weak(word, &seen, seen + 1)) {
        }
    }
    return clock_mono_ns() - begin_ns;
}

/* Wall nanoseconds a round, over all processes together. */
static double time_together(int64_t (*many)(_Atomic uint64_t *word, int rounds), _Atomic uint64_t *word) {
    int64_t begin_ns = clock_mono_ns();
    for (int process = 0; process < PROCESSES; process++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            (void)many(word, TOGETHER_ROUNDS);
            _exit(0);
        }
    }
    for (int process = 0; process < PROCESSES; process++) {
        CHECK(wait(NULL) > 0);
    }
    return (double)(clock_mono_ns() - begin_ns) / ((double)PROCESSES * TOGETHER_ROUNDS);
}

static _Atomic uint64_t *map_words(void) {
    _Atomic uint64_t *words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(words != MAP_FAILED);
    return words;
}

static void time_buckets(void) {
    _Atomic uint64_t *word = map_words();
    double swap_ns = (double)swap_many(word, ALONE_ROUNDS) / ALONE_ROUNDS;
    atomic_store(word, 0);
    double take_ns = (double)take_many(word, ALONE_ROUNDS) / ALONE_ROUNDS;
    bench_row("bucket take, one process", take_ns, "ns", "compare-and-swap", swap_ns);
    swap_ns = time_together(swap_many, word);
    atomic_store(word, 0);
    take_ns = time_together(take_many, word);
    bench_row("bucket take, 8 processes on one bucket", take_ns, "ns", "compare-and-swap", swap_ns);
    (void)munmap(word, 4096);
}

static void time_balances(void) {
    _Atomic uint64_t *words = map_words();
    struct shm_balance_sh *balance = (struct shm_balance_sh *)(void *)words;
    const int64_t calls = (int64_t)PROCESSES * TOGETHER_ROUNDS;
    double swap_ns = (double)swap_many(words + 8, ALONE_ROUNDS) / ALONE_ROUNDS;
    double reserve_ns = (double)reserve_many(words, ALONE_ROUNDS) / ALONE_ROUNDS;
    bench_row("balance reserve or settle, one process", reserve_ns, "ns", "compare-and-swap", swap_ns);
    shm_balance_set(balance, 0, 0);
    swap_ns = time_together(swap_many, words + 8);
    reserve_ns = time_together(reserve_many, words);
    bench_row("balance reserve or settle, 8 processes on one key", reserve_ns, "ns", "compare-and-swap", swap_ns);
    struct balance end = shm_balance_read(balance);
    bench_row("nano-USD spent by them", (double)end.spent_nusd, "", "must be", (double)(calls / 2 * 3));
    CHECK(end.spent_nusd == calls / 2 * 3 && end.held_nusd == 0);
    (void)munmap(words, 4096);
}

struct contest {
    _Atomic uint64_t bucket;
    _Atomic int64_t admitted;
    _Alignas(SHM_CACHE_LINE) struct shm_balance_sh balance;
    _Atomic int64_t reserved;
};

static void contend(struct contest *contest, int64_t until_ns) {
    int64_t now_ns = 0;
    while ((now_ns = clock_mono_ns()) < until_ns) {
        if (shm_bucket_take(&contest->bucket, CONTEST_RATE, 1, now_ns)) {
            atomic_fetch_add(&contest->admitted, 1);
        }
        if (shm_balance_reserve(&contest->balance, CONTEST_BUDGET, 7)) {
            atomic_fetch_add(&contest->reserved, 1);
        }
    }
}

/* Eight processes that all want more than there is, of one bucket and one budget: what they get is exact. */
static void check_exactness(void) {
    struct contest *contest = (struct contest *)(void *)map_words();
    int64_t begin_ns = clock_mono_ns();
    for (int process = 0; process < PROCESSES; process++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            contend(contest, begin_ns + NS_PER_S / 2);
            _exit(0);
        }
    }
    for (int process = 0; process < PROCESSES; process++) {
        int status = 0;
        CHECK(wait(&status) > 0 && status == 0);
    }
    int64_t most = CONTEST_RATE + (clock_mono_ns() - begin_ns) * CONTEST_RATE / (60 * NS_PER_S);
    int64_t admitted = atomic_load(&contest->admitted);
    int64_t reserved = atomic_load(&contest->reserved);
    bench_row("permits of 60,000 a minute that 8 processes got", (double)admitted, "", "capacity and refill",
              (double)most);
    bench_row("holds of 7 in a budget of 700,003 that they got", (double)reserved, "", "must be", CONTEST_BUDGET / 7);
    CHECK(admitted >= CONTEST_RATE && admitted <= most);
    CHECK(reserved == CONTEST_BUDGET / 7 && shm_balance_read(&contest->balance).held_nusd == reserved * 7);
    (void)munmap(contest, 4096);
}

static void hash_secret(uint32_t number, unsigned char hash[static SHA256_BYTES]) {
    char secret[SECRET_BYTES];
    int len = snprintf(secret, sizeof(secret), "sk-tg-%038" PRIu32, number);
    hash_sha256(span_of(secret, (size_t)len), hash);
}

static double time_hashes(void) {
    unsigned char hash[SHA256_BYTES];
    int64_t begin_ns = clock_mono_ns();
    for (uint32_t number = 0; number < HASHES; number++) {
        hash_secret(number, hash);
    }
    return (double)(clock_mono_ns() - begin_ns) / HASHES;
}

static void publish_keys(const struct shm_map *map, unsigned char *hashes, uint32_t keys) {
    for (uint32_t number = 0; number < keys; number++) {
        struct shm_key_sh row = {.state = SHM_KEY_LIVE, .allow_row = SHM_NO_ROW, .expires_wall_ns = INT64_MAX};
        hash_secret(number, hashes + (size_t)number * SHA256_BYTES);
        CHECK(shm_secret_publish(map, hashes + (size_t)number * SHA256_BYTES, number, INT64_MAX));
        shm_key_publish(map, number, &row);
    }
}

/* Finds keys in a scattered order and copies their rows, as AUTH does. */
static double time_lookups(const struct shm_map *map, const unsigned char *hashes, uint32_t keys) {
    struct shm_key_sh row;
    uint32_t number = 1;
    int64_t begin_ns = clock_mono_ns();
    for (int round = 0; round < LOOKUPS; round++) {
        number = (uint32_t)(((uint64_t)number * 48271) % 2147483647);
        int index = shm_key_find(map, hashes + (size_t)(number % keys) * SHA256_BYTES, 1);
        CHECK(index >= 0 && shm_key_read(map, (uint32_t)index, &row));
    }
    return (double)(clock_mono_ns() - begin_ns) / LOOKUPS;
}

static void time_keys(const char *state_dir, uint32_t keys, double hash_ns) {
    struct shm_map map;
    struct buffer error;
    char what[64];
    const struct shm_capacity capacity = {.seats = 1, .keys = keys, .tenants = 16};
    unsigned char *hashes = malloc((size_t)keys * SHA256_BYTES);
    CHECK(hashes != NULL);
    buffer_init(&error, 1024);
    if (!shm_map_create(&map, state_dir, &capacity, &error)) {
        (void)fprintf(stderr, "bench_shm: %s\n", buffer_text(&error));
        exit(1);
    }
    publish_keys(&map, hashes, keys);
    (void)snprintf(what, sizeof(what), "key look-up and read, %" PRIu32 " keys", keys);
    bench_row(what, time_lookups(&map, hashes, keys), "ns", "SHA-256 of a key", hash_ns);
    (void)snprintf(what, sizeof(what), "segment a key, without seats, %" PRIu32 " keys", keys);
    bench_row(what, (double)map.header->slots_offset / keys, "bytes", NULL, 0);
    shm_map_close(&map);
    shm_map_remove(state_dir);
    buffer_fini(&error);
    free(hashes);
}

int main(int count, char **arguments) {
    if (count != 2) {
        (void)fprintf(stderr, "usage: bench_shm DIRECTORY\n");
        return 2;
    }
    char state_dir[PATH_BYTES];
    (void)snprintf(state_dir, sizeof(state_dir), "%s/bench-shm-XXXXXX", arguments[1]);
    if (mkdtemp(state_dir) == NULL) {
        perror(arguments[1]);
        return 1;
    }
    time_buckets();
    time_balances();
    check_exactness();
    double hash_ns = time_hashes();
    time_keys(state_dir, 1000, hash_ns);
    time_keys(state_dir, 1000000, hash_ns);
    return rmdir(state_dir);
}
