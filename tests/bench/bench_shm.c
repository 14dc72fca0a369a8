/* What the shared segment costs a request: bucket takes, alone and with eight processes on one bucket, and key look-ups
 * in small and large tables. bench_shm DIRECTORY (for the segment). */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "bench.h"
#include "shm/shm_bucket.h"
#include "shm/shm_keys.h"

enum { ALONE_ROUNDS = 20000000, PROCESSES = 8, TOGETHER_ROUNDS = 1000000, LOOKUPS = 2000000, HASHES = 200000 };
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

static void time_buckets(void) {
    _Atomic uint64_t *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(word != MAP_FAILED);
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
    double hash_ns = time_hashes();
    time_keys(state_dir, 1000, hash_ns);
    time_keys(state_dir, 100000, hash_ns);
    return rmdir(state_dir);
}
