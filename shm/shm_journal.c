#include "shm/shm_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "shm/shm_journal_layout.h"
#include "shm/shm_once.h"

enum { PAGE_BYTES = 4096 };

/* --- the memory file --- */

static uint64_t place(uint64_t *end, uint64_t bytes) {
    uint64_t at = (*end + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    *end = at + bytes;
    return at;
}

static void lay_out(struct shm_journal_header_sh *header, int64_t memory_bytes) {
    uint64_t end = sizeof(*header);
    header->magic = SHM_JOURNAL_MAGIC;
    header->block_count = (uint32_t)(memory_bytes / SHM_JOURNAL_BLOCK_BYTES);
    header->row_count = SHM_JOURNAL_ROWS_LEAST;
    while (header->row_count / 2 < header->block_count && header->row_count < (UINT32_C(1) << 22)) {
        header->row_count *= 2;
    }
    header->once_count = SHM_ONCE_ENTRIES;
    header->words_offset = place(&end, sizeof(uint64_t) * (uint64_t)header->row_count);
    header->names_offset = place(&end, sizeof(uint64_t) * (uint64_t)header->row_count);
    header->block_rows_offset = place(&end, sizeof(struct shm_journal_block_sh) * (uint64_t)header->block_count);
    header->streams_offset = place(&end, sizeof(struct shm_journal_stream_sh) * (uint64_t)header->row_count);
    header->once_offset = place(&end, sizeof(struct shm_once_sh) * (uint64_t)header->once_count);
    header->blocks_offset = place(&end, SHM_JOURNAL_BLOCK_BYTES * (uint64_t)header->block_count);
    header->bytes = (end + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

int shm_journal_make(int64_t memory_bytes) {
    struct shm_journal_header_sh header = {.magic = 0};
    lay_out(&header, memory_bytes);
    int fd = memfd_create("tollgate-journal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -1;
    }
    if (ftruncate(fd, (off_t)header.bytes) != 0 || pwrite(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        int saved_errno = errno;
        close(fd);
        errno = saved_errno;
        return -1;
    }
    return fd;
}

bool shm_journal_open(struct shm_journal *journal, int fd, int32_t pid,
                      bool (*is_alive)(const void *context, int32_t pid), const void *context) {
    struct stat status;
    *journal = (struct shm_journal){.pid = pid, .is_alive = is_alive, .context = context};
    if (fstat(fd, &status) != 0) {
        return false;
    }
    char *base = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        return false;
    }
    (void)madvise(base, (size_t)status.st_size, MADV_DONTDUMP);
    struct shm_journal_header_sh *header = (void *)base;
    CHECK(header->magic == SHM_JOURNAL_MAGIC && header->bytes == (uint64_t)status.st_size);
    journal->header = header;
    journal->bytes = (size_t)status.st_size;
    journal->words = (void *)(base + header->words_offset);
    journal->names = (void *)(base + header->names_offset);
    journal->streams = (void *)(base + header->streams_offset);
    journal->block_rows = (void *)(base + header->block_rows_offset);
    journal->once = (void *)(base + header->once_offset);
    journal->blocks = base + header->blocks_offset;
    return true;
}

void shm_journal_close(struct shm_journal *journal) {
    if (journal->header != NULL) {
        (void)munmap(journal->header, journal->bytes);
        journal->header = NULL;
    }
}

uint64_t shm_journal_used_bytes(const struct shm_journal *journal) {
    uint64_t blocks = 0;
    for (uint32_t i = 0; i < journal->header->block_count; i++) {
        blocks += atomic_load_explicit(&journal->block_rows[i].owner, memory_order_relaxed) != 0;
    }
    return blocks * SHM_JOURNAL_BLOCK_BYTES;
}

/* --- rows --- */

static uint64_t name_of(uint32_t key_index, struct span request_id) {
    uint64_t name = hash_fast(request_id, key_index);
    return name != 0 ? name : 1;
}

static uint32_t row_at(const struct shm_journal *journal, uint64_t name, uint32_t step) {
    return (uint32_t)(name + step) & (journal->header->row_count - 1);
}

static bool is_dead(const struct shm_journal *journal, uint64_t word) {
    int32_t pid = shm_journal_word_pid(word);
    return pid != journal->pid && !journal->is_alive(journal->context, pid);
}

struct shm_journal_stream_sh *shm_journal_stream(const struct shm_journal *journal, struct shm_journal_id id) {
    if (journal->header == NULL || id.row >= journal->header->row_count) {
        return NULL;
    }
    uint64_t word = atomic_load(&journal->words[id.row]);
    enum shm_journal_row_state state = shm_journal_word_state(word);
    bool is_there = shm_journal_word_generation(word) == id.generation &&
                    (state == SHM_JOURNAL_ROW_LIVE || state == SHM_JOURNAL_ROW_ENDED);
    return is_there ? &journal->streams[id.row] : NULL;
}

static void fill_row(struct shm_journal_stream_sh *stream, const struct shm_journal_begin *begin) {
    atomic_store(&stream->head, 0);
    atomic_store(&stream->oldest, 0);
    atomic_store(&stream->count, 0);
    atomic_store(&stream->first_block, SHM_JOURNAL_NO_BLOCK);
    atomic_store(&stream->status, 0);
    atomic_store(&stream->is_whole, 0);
    atomic_store(&stream->is_broken, 0);
    atomic_store(&stream->held_back, 0);
    atomic_store(&stream->is_cancelled, 0);
    atomic_store(&stream->expires_mono_ns, INT64_MAX);
    stream->key_index = begin->key_index;
    stream->seat = begin->seat;
    stream->has_ids = begin->has_ids ? 1 : 0;
    stream->form = begin->form;
    memcpy(stream->body_hash, begin->body_hash, sizeof(stream->body_hash));
    (void)span_copy(span_text(begin->request_id), stream->request_id, sizeof(stream->request_id));
    stream->model[0] = stream->upstream[0] = stream->cost[0] = '\0';
    stream->tokens = (struct token_counts){0};
    stream->cost_nusd = 0;
    for (int i = 0; i < SHM_JOURNAL_READERS; i++) {
        atomic_store(&stream->readers[i].waits, 0);
        atomic_store(&stream->readers[i].pid, 0);
    }
}

bool shm_journal_begin(struct shm_journal *journal, const struct shm_journal_begin *begin,
                       struct shm_journal_writer *writer) {
    uint64_t name = name_of(begin->key_index, span_text(begin->request_id));
    writer->id.row = SHM_JOURNAL_NO_ROW;
    for (uint32_t step = 0; journal->header != NULL && step < SHM_JOURNAL_NEIGHBOURS; step++) {
        uint32_t row = row_at(journal, name, step);
        uint64_t word = atomic_load(&journal->words[row]);
        uint32_t generation = shm_journal_word_generation(word) + 1;
        if (shm_journal_word_state(word) != SHM_JOURNAL_ROW_FREE ||
            !atomic_compare_exchange_strong(&journal->words[row], &word,
                                            shm_journal_word(SHM_JOURNAL_ROW_MAKING, journal->pid, generation))) {
            continue;
        }
        fill_row(&journal->streams[row], begin);
        atomic_store(&journal->names[row], name);
        atomic_store(&journal->words[row], shm_journal_word(SHM_JOURNAL_ROW_LIVE, journal->pid, generation));
        *writer = (struct shm_journal_writer){.id = {row, generation}, .last_block = SHM_JOURNAL_NO_BLOCK};
        return true;
    }
    return false;
}

/* Gives a row back if its word is still the one seen. Several processes may notice; one does it. */
static void free_row(struct shm_journal *journal, uint32_t row, uint64_t seen) {
    uint32_t generation = shm_journal_word_generation(seen);
    bool is_ended = shm_journal_word_state(seen) == SHM_JOURNAL_ROW_ENDED;
    if (!atomic_compare_exchange_strong(&journal->words[row], &seen,
                                        shm_journal_word(SHM_JOURNAL_ROW_FREEING, journal->pid, generation))) {
        return;
    }
    shm_journal_free_blocks(journal, row, is_ended);
    atomic_store(&journal->names[row], 0);
    atomic_store(&journal->words[row], shm_journal_word(SHM_JOURNAL_ROW_FREE, 0, generation));
}

void shm_journal_drop(struct shm_journal *journal, const struct shm_journal_writer *writer) {
    shm_journal_end(journal, writer, true, 0);
    if (shm_journal_stream(journal, writer->id) != NULL) {
        free_row(journal, writer->id.row, shm_journal_word(SHM_JOURNAL_ROW_ENDED, journal->pid, writer->id.generation));
    }
}

/* --- what an answer is --- */

void shm_journal_answer_is(struct shm_journal *journal, const struct shm_journal_writer *writer, uint32_t status,
                           bool is_whole, const char *model, const char *upstream, const char *cost) {
    struct shm_journal_stream_sh *stream = shm_journal_stream(journal, writer->id);
    if (stream == NULL) {
        return;
    }
    (void)span_copy(span_text(model), stream->model, sizeof(stream->model));
    (void)span_copy(span_text(upstream), stream->upstream, sizeof(stream->upstream));
    (void)span_copy(span_text(cost), stream->cost, sizeof(stream->cost));
    atomic_store(&stream->is_whole, is_whole ? 1 : 0);
    atomic_store(&stream->status, status);
}

void shm_journal_owes(struct shm_journal *journal, const struct shm_journal_writer *writer,
                      const struct token_counts *tokens, int64_t cost_nusd) {
    struct shm_journal_stream_sh *stream = shm_journal_stream(journal, writer->id);
    if (stream != NULL) {
        stream->tokens = *tokens;
        stream->cost_nusd = cost_nusd;
    }
}

void shm_journal_end(struct shm_journal *journal, const struct shm_journal_writer *writer, bool is_broken,
                     int64_t expires_mono_ns) {
    struct shm_journal_stream_sh *stream = shm_journal_stream(journal, writer->id);
    if (stream != NULL) {
        atomic_store(&stream->is_broken, is_broken ? 1 : 0);
        atomic_store(&stream->expires_mono_ns, expires_mono_ns);
        atomic_store(&journal->words[writer->id.row],
                     shm_journal_word(SHM_JOURNAL_ROW_ENDED, journal->pid, writer->id.generation));
    }
}

void shm_journal_expire(struct shm_journal *journal, const struct shm_journal_writer *writer) {
    struct shm_journal_stream_sh *stream = shm_journal_stream(journal, writer->id);
    if (stream != NULL) {
        atomic_store(&stream->expires_mono_ns, 0);
    }
}

bool shm_journal_answer_of(const struct shm_journal *journal, struct shm_journal_id id,
                           struct shm_journal_answer *out) {
    struct shm_journal_stream_sh *stream = shm_journal_stream(journal, id);
    if (stream == NULL) {
        return false;
    }
    *out = (struct shm_journal_answer){.status = atomic_load(&stream->status)};
    out->is_whole = atomic_load(&stream->is_whole) != 0;
    out->is_broken = atomic_load(&stream->is_broken) != 0;
    out->is_cancelled = out->is_broken && atomic_load(&stream->is_cancelled) != 0;
    out->has_ids = stream->has_ids != 0;
    out->form = stream->form;
    /* Bounded copies: the row may be given away meanwhile, which the last look finds. */
    memcpy(out->request_id, stream->request_id, sizeof(out->request_id) - 1);
    memcpy(out->model, stream->model, sizeof(out->model) - 1);
    memcpy(out->upstream, stream->upstream, sizeof(out->upstream) - 1);
    memcpy(out->cost, stream->cost, sizeof(out->cost) - 1);
    out->tokens = stream->tokens;
    out->cost_nusd = stream->cost_nusd;
    atomic_thread_fence(memory_order_seq_cst);
    return shm_journal_stream(journal, id) != NULL;
}

/* --- finding --- */

struct shm_journal_id shm_journal_find(struct shm_journal *journal, uint32_t key_index, struct span request_id,
                                       int64_t now_mono_ns) {
    const struct shm_journal_id none = {SHM_JOURNAL_NO_ROW, 0};
    uint64_t name = name_of(key_index, request_id);
    for (uint32_t step = 0; journal->header != NULL && step < SHM_JOURNAL_NEIGHBOURS; step++) {
        uint32_t row = row_at(journal, name, step);
        if (atomic_load(&journal->names[row]) != name) {
            continue;
        }
        struct shm_journal_id id = {row, shm_journal_word_generation(atomic_load(&journal->words[row]))};
        struct shm_journal_answer answer;
        if (shm_journal_answer_of(journal, id, &answer) && span_is(request_id, answer.request_id) &&
            journal->streams[row].key_index == key_index && !shm_journal_has_expired(journal, id, now_mono_ns) &&
            shm_journal_state_of(journal, id) != SHM_JOURNAL_DEAD) {
            return id;
        }
    }
    return none;
}

enum shm_journal_state shm_journal_state_of(const struct shm_journal *journal, struct shm_journal_id id) {
    if (shm_journal_stream(journal, id) == NULL) {
        return SHM_JOURNAL_GONE;
    }
    uint64_t word = atomic_load(&journal->words[id.row]);
    if (shm_journal_word_generation(word) != id.generation) {
        return SHM_JOURNAL_GONE;
    }
    switch (shm_journal_word_state(word)) {
    case SHM_JOURNAL_ROW_LIVE:
        return is_dead(journal, word) ? SHM_JOURNAL_DEAD : SHM_JOURNAL_RUNNING;
    case SHM_JOURNAL_ROW_ENDED:
        return SHM_JOURNAL_ENDED;
    default:
        return SHM_JOURNAL_GONE;
    }
}

bool shm_journal_has_expired(const struct shm_journal *journal, struct shm_journal_id id, int64_t now_mono_ns) {
    const struct shm_journal_stream_sh *stream = shm_journal_stream(journal, id);
    return stream == NULL || now_mono_ns >= atomic_load(&stream->expires_mono_ns);
}

bool shm_journal_is_of(const struct shm_journal *journal, struct shm_journal_id id, uint32_t key_index,
                       const uint8_t body_hash[static SHM_JOURNAL_BODY_HASH_BYTES]) {
    const struct shm_journal_stream_sh *stream = shm_journal_stream(journal, id);
    return stream != NULL && stream->key_index == key_index &&
           memcmp(stream->body_hash, body_hash, SHM_JOURNAL_BODY_HASH_BYTES) == 0;
}

void shm_journal_cancel(struct shm_journal *journal, struct shm_journal_id id) {
    struct shm_journal_stream_sh *stream = shm_journal_stream(journal, id);
    if (stream != NULL && shm_journal_state_of(journal, id) == SHM_JOURNAL_RUNNING) {
        atomic_store(&stream->is_cancelled, 1);
    }
}

bool shm_journal_is_cancelled(const struct shm_journal *journal, struct shm_journal_id id) {
    const struct shm_journal_stream_sh *stream = shm_journal_stream(journal, id);
    return stream != NULL && atomic_load(&stream->is_cancelled) != 0;
}

uint32_t shm_journal_count(const struct shm_journal *journal, struct shm_journal_id id) {
    const struct shm_journal_stream_sh *stream = shm_journal_stream(journal, id);
    return stream != NULL ? atomic_load(&stream->count) : 0;
}

uint32_t shm_journal_seat_of(const struct shm_journal *journal, struct shm_journal_id id) {
    const struct shm_journal_stream_sh *stream = shm_journal_stream(journal, id);
    return stream != NULL ? stream->seat : UINT32_MAX;
}

/* --- upkeep --- */

/* Does anybody still read it? */
static bool has_readers(const struct shm_journal *journal, struct shm_journal_stream_sh *stream) {
    for (int i = 0; i < SHM_JOURNAL_READERS; i++) {
        int32_t pid = atomic_load(&stream->readers[i].pid);
        if (pid != 0 && (pid == journal->pid || journal->is_alive(journal->context, pid))) {
            return true;
        }
    }
    return false;
}

static bool is_over(const struct shm_journal *journal, uint32_t row, uint64_t word, int64_t now_mono_ns) {
    struct shm_journal_stream_sh *stream = &journal->streams[row];
    switch (shm_journal_word_state(word)) {
    case SHM_JOURNAL_ROW_FREE:
        return false;
    case SHM_JOURNAL_ROW_ENDED:
        return now_mono_ns >= atomic_load(&stream->expires_mono_ns) && !has_readers(journal, stream);
    default:
        return is_dead(journal, word);
    }
}

void shm_journal_sweep(struct shm_journal *journal, int64_t now_mono_ns) {
    for (uint32_t row = 0; journal->header != NULL && row < journal->header->row_count; row++) {
        uint64_t word = atomic_load_explicit(&journal->words[row], memory_order_relaxed);
        if (is_over(journal, row, word, now_mono_ns)) {
            free_row(journal, row, word);
        }
    }
}
