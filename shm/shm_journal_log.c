/* The log of one stream: its blocks, its writer, its readers (shm_journal.h). */
#include <sys/mman.h>

#include "shm/shm_journal.h"
#include "shm/shm_journal_layout.h"

/* How often a reader that is overtaken looks again. */
enum { RECORD_BYTES = sizeof(struct shm_journal_record_sh), TRIES = 8 };

/* --- blocks --- */

static char *block_base(const struct shm_journal *journal, uint32_t block) {
    return journal->blocks + (size_t)block * SHM_JOURNAL_BLOCK_BYTES;
}

/* The pages go back to the kernel before somebody else can have the block. */
static void free_block(struct shm_journal *journal, uint32_t block) {
    (void)madvise(block_base(journal, block), SHM_JOURNAL_BLOCK_BYTES, MADV_REMOVE);
    atomic_store(&journal->block_rows[block].owner, 0);
    journal->hint = block;
}

static uint32_t take_block(struct shm_journal *journal, uint32_t row) {
    uint32_t count = journal->header->block_count;
    for (uint32_t step = 0; step < count; step++) {
        uint32_t block = (journal->hint + step) % count;
        uint32_t nobody = 0;
        if (atomic_load_explicit(&journal->block_rows[block].owner, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong(&journal->block_rows[block].owner, &nobody, row + 1)) {
            journal->hint = block + 1 < count ? block + 1 : 0;
            return block;
        }
    }
    return SHM_JOURNAL_NO_BLOCK;
}

void shm_journal_free_blocks(struct shm_journal *journal, uint32_t row, bool chain_is_whole) {
    uint32_t count = journal->header->block_count;
    if (chain_is_whole) {
        uint32_t block = atomic_load(&journal->streams[row].first_block);
        while (block < count && atomic_load(&journal->block_rows[block].owner) == row + 1) {
            uint32_t next = atomic_load(&journal->block_rows[block].next);
            free_block(journal, block);
            block = next;
        }
        return;
    }
    for (uint32_t block = 0; block < count; block++) {
        if (atomic_load_explicit(&journal->block_rows[block].owner, memory_order_relaxed) == row + 1) {
            free_block(journal, block);
        }
    }
}

/* The block that holds part `index` of the row's log, from `near` on if that helps. NO_BLOCK: it is not kept. What a
 * reader finds is only right if its place has not been given up meanwhile, which it looks at afterwards. */
static uint32_t find_block(const struct shm_journal *journal, uint32_t row, uint32_t near, uint64_t index) {
    uint32_t count = journal->header->block_count;
    uint32_t block = near;
    if (near >= count || atomic_load(&journal->block_rows[near].owner) != row + 1 ||
        atomic_load(&journal->block_rows[near].index) > index) {
        block = atomic_load(&journal->streams[row].first_block);
    }
    for (uint32_t step = 0; step < count && block < count; step++) {
        struct shm_journal_block_sh *entry = &journal->block_rows[block];
        uint64_t found = atomic_load(&entry->index);
        if (atomic_load(&entry->owner) != row + 1 || found > index) {
            break;
        }
        if (found == index) {
            return block;
        }
        block = atomic_load(&entry->next);
    }
    return SHM_JOURNAL_NO_BLOCK;
}

static bool copy_out(const struct shm_journal *journal, uint32_t row, uint32_t *near, uint64_t position, char *out,
                     size_t len) {
    while (len != 0) {
        size_t offset = (size_t)(position % SHM_JOURNAL_BLOCK_BYTES);
        size_t piece = SHM_JOURNAL_BLOCK_BYTES - offset < len ? SHM_JOURNAL_BLOCK_BYTES - offset : len;
        uint32_t block = find_block(journal, row, *near, position / SHM_JOURNAL_BLOCK_BYTES);
        if (block == SHM_JOURNAL_NO_BLOCK) {
            return false;
        }
        *near = block;
        memcpy(out, block_base(journal, block) + offset, piece);
        position += piece;
        out += piece;
        len -= piece;
    }
    return true;
}

/* --- writing --- */

/* The block for the end of the log; a new one is linked to the last. */
static uint32_t tail_block(struct shm_journal *journal, struct shm_journal_writer *writer, uint64_t index) {
    uint32_t last = writer->last_block;
    if (last != SHM_JOURNAL_NO_BLOCK && atomic_load(&journal->block_rows[last].index) == index) {
        return last;
    }
    uint32_t block = take_block(journal, writer->id.row);
    if (block == SHM_JOURNAL_NO_BLOCK) {
        return block;
    }
    atomic_store(&journal->block_rows[block].index, index);
    atomic_store(&journal->block_rows[block].next, SHM_JOURNAL_NO_BLOCK);
    atomic_store(last != SHM_JOURNAL_NO_BLOCK ? &journal->block_rows[last].next
                                              : &journal->streams[writer->id.row].first_block,
                 block);
    writer->last_block = block;
    return block;
}

/* Gives back the blocks before the oldest record. */
static void free_before(struct shm_journal *journal, const struct shm_journal_writer *writer, uint64_t oldest) {
    struct shm_journal_stream_sh *stream = &journal->streams[writer->id.row];
    uint32_t block = atomic_load(&stream->first_block);
    while (block != writer->last_block && block != SHM_JOURNAL_NO_BLOCK &&
           atomic_load(&journal->block_rows[block].index) < oldest / SHM_JOURNAL_BLOCK_BYTES) {
        uint32_t next = atomic_load(&journal->block_rows[block].next);
        atomic_store(&stream->first_block, next);
        free_block(journal, block);
        block = next;
    }
}

/* Where the record after the oldest stands. */
static uint64_t second_oldest(const struct shm_journal *journal, const struct shm_journal_writer *writer,
                              uint64_t oldest) {
    struct shm_journal_record_sh record;
    uint32_t near = SHM_JOURNAL_NO_BLOCK;
    CHECK(copy_out(journal, writer->id.row, &near, oldest, (char *)&record, RECORD_BYTES));
    return oldest + RECORD_BYTES + record.bytes;
}

/* Drops the oldest records until a block has become free. False: there are none. */
static bool make_room(struct shm_journal *journal, struct shm_journal_writer *writer) {
    struct shm_journal_stream_sh *stream = &journal->streams[writer->id.row];
    uint64_t oldest = atomic_load(&stream->oldest);
    uint64_t block_index = oldest / SHM_JOURNAL_BLOCK_BYTES;
    if (oldest == writer->head) {
        return false;
    }
    while (oldest != writer->head && oldest / SHM_JOURNAL_BLOCK_BYTES == block_index) {
        oldest = second_oldest(journal, writer, oldest);
    }
    atomic_store(&stream->oldest, oldest);
    free_before(journal, writer, oldest);
    return true;
}

static bool copy_in(struct shm_journal *journal, struct shm_journal_writer *writer, uint64_t position,
                    struct span bytes) {
    while (bytes.len != 0) {
        size_t offset = (size_t)(position % SHM_JOURNAL_BLOCK_BYTES);
        size_t room = SHM_JOURNAL_BLOCK_BYTES - offset;
        size_t piece = room < bytes.len ? room : bytes.len;
        uint32_t block = tail_block(journal, writer, position / SHM_JOURNAL_BLOCK_BYTES);
        while (block == SHM_JOURNAL_NO_BLOCK && make_room(journal, writer)) {
            block = tail_block(journal, writer, position / SHM_JOURNAL_BLOCK_BYTES);
        }
        if (block == SHM_JOURNAL_NO_BLOCK) {
            return false;
        }
        memcpy(block_base(journal, block) + offset, bytes.base, piece);
        position += piece;
        bytes = span_skip(bytes, piece);
    }
    return true;
}

/* The lowest place of an attached reader: what comes from there on is still wanted. */
static uint64_t least_wanted(const struct shm_journal *journal, struct shm_journal_stream_sh *stream) {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < SHM_JOURNAL_READERS; i++) {
        struct shm_journal_reader_sh *reader = &stream->readers[i];
        int32_t pid = atomic_load(&reader->pid);
        uint64_t position = atomic_load(&reader->position);
        if (pid != 0 && position < least && (pid == journal->pid || journal->is_alive(journal->context, pid))) {
            least = position;
        }
    }
    return least;
}

static void trim(struct shm_journal *journal, struct shm_journal_writer *writer, uint64_t keep_bytes) {
    struct shm_journal_stream_sh *stream = &journal->streams[writer->id.row];
    uint64_t oldest = atomic_load(&stream->oldest);
    if (writer->head - oldest <= keep_bytes) {
        return;
    }
    uint64_t wanted = least_wanted(journal, stream);
    while (writer->head - oldest > keep_bytes) {
        uint64_t next = second_oldest(journal, writer, oldest);
        if (next > wanted) {
            break;
        }
        oldest = next;
    }
    atomic_store(&stream->oldest, oldest);
    free_before(journal, writer, oldest);
}

void shm_journal_append(struct shm_journal *journal, struct shm_journal_writer *writer, struct span bytes,
                        uint64_t keep_bytes) {
    struct shm_journal_stream_sh *stream = shm_journal_stream(journal, writer->id);
    if (stream == NULL || bytes.len > UINT32_MAX) {
        return;
    }
    const struct shm_journal_record_sh record = {(uint32_t)bytes.len, ++writer->count};
    uint64_t end = writer->head + RECORD_BYTES + bytes.len;
    bool kept = copy_in(journal, writer, writer->head, span_of((const char *)&record, RECORD_BYTES)) &&
                copy_in(journal, writer, writer->head + RECORD_BYTES, bytes);
    writer->head = end;
    if (!kept) {
        /* No memory even for this one: all that came before it went for nothing. What follows may be kept again. */
        atomic_store(&stream->oldest, end);
        shm_journal_free_blocks(journal, writer->id.row, true);
        atomic_store(&stream->first_block, SHM_JOURNAL_NO_BLOCK);
        writer->last_block = SHM_JOURNAL_NO_BLOCK;
    }
    atomic_store(&stream->count, writer->count);
    atomic_store(&stream->head, end);
    if (kept) {
        trim(journal, writer, keep_bytes);
    }
}

uint64_t shm_journal_behind_bytes(struct shm_journal *journal, const struct shm_journal_writer *writer,
                                  bool will_wait) {
    struct shm_journal_stream_sh *stream = shm_journal_stream(journal, writer->id);
    if (stream == NULL) {
        return 0;
    }
    if (will_wait) {
        atomic_store(&stream->held_back, 1);
    }
    uint64_t wanted = least_wanted(journal, stream);
    return wanted < writer->head ? writer->head - wanted : 0;
}

int shm_journal_take_waiting(struct shm_journal *journal, const struct shm_journal_writer *writer,
                             uint32_t seats[static SHM_JOURNAL_READERS]) {
    struct shm_journal_stream_sh *stream = shm_journal_stream(journal, writer->id);
    int count = 0;
    for (int i = 0; stream != NULL && i < SHM_JOURNAL_READERS; i++) {
        struct shm_journal_reader_sh *reader = &stream->readers[i];
        if (atomic_load(&reader->waits) != 0 && atomic_exchange(&reader->waits, 0) != 0) {
            seats[count++] = atomic_load(&reader->seat);
        }
    }
    return count;
}

/* --- reading --- */

static int take_place(struct shm_journal *journal, struct shm_journal_stream_sh *stream, uint32_t seat) {
    for (int i = 0; i < SHM_JOURNAL_READERS; i++) {
        struct shm_journal_reader_sh *reader = &stream->readers[i];
        int32_t pid = atomic_load(&reader->pid);
        bool is_free = pid == 0 || (pid != journal->pid && !journal->is_alive(journal->context, pid));
        if (is_free && atomic_compare_exchange_strong(&reader->pid, &pid, journal->pid)) {
            atomic_store(&reader->seat, seat);
            atomic_store(&reader->waits, 0);
            return i;
        }
    }
    return SHM_JOURNAL_NO_READER;
}

/* Is what was read from `position` on what stood there? */
static bool was_kept(const struct shm_journal *journal, const struct shm_journal_cursor *cursor, uint64_t position) {
    atomic_thread_fence(memory_order_seq_cst);
    struct shm_journal_stream_sh *stream = shm_journal_stream(journal, cursor->id);
    return stream != NULL && atomic_load(&stream->oldest) <= position;
}

/* Sets the reader to the oldest record, which cannot go any more from then on. */
static void settle_place(struct shm_journal_stream_sh *stream, struct shm_journal_cursor *cursor) {
    struct shm_journal_reader_sh *reader = &stream->readers[cursor->slot];
    do {
        cursor->position = atomic_load(&stream->oldest);
        atomic_store(&reader->position, cursor->position);
    } while (atomic_load(&stream->oldest) != cursor->position);
}

/* Does the stream go on behind record `after` where the cursor stands? */
static bool goes_on(const struct shm_journal *journal, struct shm_journal_stream_sh *stream,
                    struct shm_journal_cursor *cursor) {
    struct shm_journal_record_sh record;
    if (cursor->position == atomic_load(&stream->head)) {
        return atomic_load(&stream->count) <= cursor->number;
    }
    return copy_out(journal, cursor->id.row, &cursor->block, cursor->position, (char *)&record, RECORD_BYTES) &&
           record.number <= cursor->number + 1;
}

enum shm_journal_attach shm_journal_attach(struct shm_journal *journal, struct shm_journal_id id, uint32_t after,
                                           uint32_t seat, struct shm_journal_cursor *cursor) {
    struct shm_journal_stream_sh *stream = shm_journal_stream(journal, id);
    *cursor = (struct shm_journal_cursor){
        .id = id, .number = after, .slot = SHM_JOURNAL_NO_READER, .block = SHM_JOURNAL_NO_BLOCK};
    if (stream == NULL) {
        return SHM_JOURNAL_TOO_OLD;
    }
    if (atomic_load(&stream->count) < after) {
        return SHM_JOURNAL_NOT_YET;
    }
    cursor->slot = take_place(journal, stream, seat);
    if (cursor->slot == SHM_JOURNAL_NO_READER) {
        return SHM_JOURNAL_TOO_MANY;
    }
    for (int tries = 0; tries < TRIES; tries++) {
        settle_place(stream, cursor);
        bool ok = goes_on(journal, stream, cursor);
        if (was_kept(journal, cursor, cursor->position)) {
            if (ok) {
                return SHM_JOURNAL_ATTACHED;
            }
            break;
        }
    }
    (void)shm_journal_detach(journal, cursor);
    return SHM_JOURNAL_TOO_OLD;
}

void shm_journal_rewind(const struct shm_journal *journal, struct shm_journal_cursor *cursor) {
    struct shm_journal_record_sh record;
    struct shm_journal_stream_sh *stream = shm_journal_stream(journal, cursor->id);
    if (stream != NULL && cursor->position != atomic_load(&stream->head) &&
        copy_out(journal, cursor->id.row, &cursor->block, cursor->position, (char *)&record, RECORD_BYTES) &&
        was_kept(journal, cursor, cursor->position) && record.number <= cursor->number) {
        cursor->number = record.number - 1;
    }
}

/* One record at the cursor; those that the reader has already are passed over. */
static bool read_record(const struct shm_journal *journal, struct shm_journal_cursor *cursor, uint64_t head,
                        struct buffer *out) {
    struct shm_journal_record_sh record;
    uint64_t position = cursor->position;
    size_t before = out->len;
    if (!copy_out(journal, cursor->id.row, &cursor->block, position, (char *)&record, RECORD_BYTES) ||
        !was_kept(journal, cursor, position) || record.bytes > head - position - RECORD_BYTES ||
        record.number > cursor->number + 1) {
        return false;
    }
    if (record.number == cursor->number + 1) {
        char *room = buffer_reserve(out, record.bytes);
        if (room == NULL ||
            !copy_out(journal, cursor->id.row, &cursor->block, position + RECORD_BYTES, room, record.bytes) ||
            !was_kept(journal, cursor, position)) {
            buffer_truncate(out, before);
            return false;
        }
        buffer_added(out, record.bytes);
        cursor->number = record.number;
    }
    cursor->position = position + RECORD_BYTES + record.bytes;
    return true;
}

/* Reads up to about_bytes. False: the place is gone. A writer that trims may pass a reader that has only just come: it
 * goes on from the oldest record, whose number says whether any was missed. */
static bool read_records(const struct shm_journal *journal, struct shm_journal_stream_sh *stream,
                         struct shm_journal_cursor *cursor, struct buffer *out, size_t most_len) {
    int tries = 0;
    uint64_t head = atomic_load(&stream->head);
    while (cursor->position != head && out->len < most_len) {
        if (read_record(journal, cursor, head, out)) {
            continue;
        }
        uint64_t oldest = atomic_load(&stream->oldest);
        if (out->failed || oldest <= cursor->position || tries++ == TRIES) {
            return false;
        }
        settle_place(stream, cursor);
        head = atomic_load(&stream->head);
    }
    return true;
}

enum shm_journal_read shm_journal_read(struct shm_journal *journal, struct shm_journal_cursor *cursor,
                                       struct buffer *out, size_t about_bytes, bool *wake_writer) {
    struct shm_journal_stream_sh *stream = shm_journal_stream(journal, cursor->id);
    size_t before = out->len;
    if (stream == NULL || cursor->slot == SHM_JOURNAL_NO_READER) {
        return SHM_JOURNAL_LOST;
    }
    struct shm_journal_reader_sh *reader = &stream->readers[cursor->slot];
    if (!read_records(journal, stream, cursor, out, before + about_bytes)) {
        return SHM_JOURNAL_LOST;
    }
    atomic_store(&reader->position, cursor->position);
    *wake_writer =
        *wake_writer || (atomic_load(&stream->held_back) != 0 && atomic_exchange(&stream->held_back, 0) != 0);
    return out->len != before ? SHM_JOURNAL_SOME : SHM_JOURNAL_NOTHING;
}

void shm_journal_wait(struct shm_journal *journal, const struct shm_journal_cursor *cursor) {
    struct shm_journal_stream_sh *stream = shm_journal_stream(journal, cursor->id);
    if (stream != NULL && cursor->slot != SHM_JOURNAL_NO_READER) {
        atomic_store(&stream->readers[cursor->slot].waits, 1);
    }
}

bool shm_journal_detach(struct shm_journal *journal, struct shm_journal_cursor *cursor) {
    if (cursor->slot == SHM_JOURNAL_NO_READER || cursor->id.row >= journal->header->row_count) {
        return false;
    }
    struct shm_journal_stream_sh *stream = &journal->streams[cursor->id.row];
    struct shm_journal_reader_sh *reader = &stream->readers[cursor->slot];
    int32_t mine = journal->pid;
    cursor->slot = SHM_JOURNAL_NO_READER;
    if (shm_journal_stream(journal, cursor->id) == NULL) {
        return false; /* the row, with all its places, is somebody else's by now */
    }
    atomic_store(&reader->waits, 0);
    (void)atomic_compare_exchange_strong(&reader->pid, &mine, 0);
    return atomic_exchange(&stream->held_back, 0) != 0;
}
