/* The resume journal: a writer and its readers in one process and in several, memory that is full, readers that are
 * overtaken, writers that die. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/shm_journal.h"
#include "shm/shm_once.h"

enum { MEMORY_BYTES = 64 * SHM_JOURNAL_BLOCK_BYTES, KEY = 7, KEEP_ALL = 1 << 30 };

static int journal_fd;
static struct shm_journal journal;

static bool is_alive(const void *context, int32_t pid) {
    (void)context;
    return kill(pid, 0) == 0;
}

static void open_journal(int64_t memory_bytes) {
    journal_fd = shm_journal_make(memory_bytes);
    assert_true(journal_fd >= 0);
    assert_true(shm_journal_open(&journal, journal_fd, getpid(), is_alive, NULL));
}

static int set_up(void **state) {
    (void)state;
    open_journal(MEMORY_BYTES);
    return 0;
}

static struct buffer read_text;

static int tear_down(void **state) {
    (void)state;
    buffer_fini(&read_text);
    shm_journal_close(&journal);
    return close(journal_fd);
}

static struct shm_journal_writer begin(const char *id) {
    struct shm_journal_writer writer;
    const struct shm_journal_begin what = {.request_id = id, .key_index = KEY, .seat = 3, .has_ids = true};
    assert_true(shm_journal_begin(&journal, &what, &writer));
    return writer;
}

static void append(struct shm_journal_writer *writer, const char *text, uint64_t keep_bytes) {
    shm_journal_append(&journal, writer, span_text(text), keep_bytes);
}

static struct shm_journal_cursor attach(struct shm_journal_id id, uint32_t after) {
    struct shm_journal_cursor cursor;
    assert_int_equal(shm_journal_attach(&journal, id, after, 1, &cursor), SHM_JOURNAL_ATTACHED);
    return cursor;
}

static enum shm_journal_attach try_attach(struct shm_journal_id id, uint32_t after) {
    struct shm_journal_cursor cursor;
    enum shm_journal_attach result = shm_journal_attach(&journal, id, after, 1, &cursor);
    if (result == SHM_JOURNAL_ATTACHED) {
        (void)shm_journal_detach(&journal, &cursor);
    }
    return result;
}

/* Reads all there is; the text, or "LOST". */
static const char *read_all(struct shm_journal_cursor *cursor) {
    bool wake = false;
    enum shm_journal_read result;
    buffer_fini(&read_text);
    buffer_init(&read_text, 64 << 20);
    do {
        result = shm_journal_read(&journal, cursor, &read_text, 100, &wake);
    } while (result == SHM_JOURNAL_SOME);
    return result == SHM_JOURNAL_LOST ? "LOST" : buffer_text(&read_text);
}

static void test_a_reader_gets_what_follows_its_event(void **state) {
    (void)state;
    struct shm_journal_writer writer = begin("req_a");
    append(&writer, "one ", KEEP_ALL);
    append(&writer, "two ", KEEP_ALL);
    append(&writer, "three ", KEEP_ALL);
    struct shm_journal_id id = shm_journal_find(&journal, KEY, SPAN_LITERAL("req_a"), 1);
    assert_int_equal(id.row, writer.id.row);
    static const char *const rests[] = {"one two three ", "two three ", "three ", ""};
    for (uint32_t after = 0; after < 4; after++) {
        struct shm_journal_cursor cursor = attach(id, after);
        assert_string_equal(read_all(&cursor), rests[after]);
        (void)shm_journal_detach(&journal, &cursor);
    }
    assert_int_equal(try_attach(id, 4), SHM_JOURNAL_NOT_YET);
    struct shm_journal_cursor cursor = attach(id, 3);
    append(&writer, "four ", KEEP_ALL);
    assert_string_equal(read_all(&cursor), "four ");
}

static void test_only_its_key_finds_it_and_only_in_its_window(void **state) {
    (void)state;
    struct shm_journal_writer writer = begin("req_b");
    assert_int_equal(shm_journal_find(&journal, KEY + 1, SPAN_LITERAL("req_b"), 1).row, SHM_JOURNAL_NO_ROW);
    assert_int_equal(shm_journal_find(&journal, KEY, SPAN_LITERAL("req_"), 1).row, SHM_JOURNAL_NO_ROW);
    shm_journal_end(&journal, &writer, false, 100);
    assert_int_equal(shm_journal_state_of(&journal, writer.id), SHM_JOURNAL_ENDED);
    assert_int_equal(shm_journal_find(&journal, KEY, SPAN_LITERAL("req_b"), 99).row, writer.id.row);
    assert_int_equal(shm_journal_find(&journal, KEY, SPAN_LITERAL("req_b"), 100).row, SHM_JOURNAL_NO_ROW);
    shm_journal_sweep(&journal, 99);
    assert_int_equal(shm_journal_state_of(&journal, writer.id), SHM_JOURNAL_ENDED);
    shm_journal_sweep(&journal, 100);
    assert_int_equal(shm_journal_state_of(&journal, writer.id), SHM_JOURNAL_GONE);
    struct shm_journal_writer next = begin("req_b");
    assert_int_equal(shm_journal_state_of(&journal, writer.id), SHM_JOURNAL_GONE);
    assert_int_equal(shm_journal_state_of(&journal, next.id), SHM_JOURNAL_RUNNING);
}

static void test_records_cross_blocks(void **state) {
    (void)state;
    struct shm_journal_writer writer = begin("req_c");
    struct buffer all;
    buffer_init(&all, 1 << 20);
    for (int i = 0; i < 300; i++) {
        char text[1200];
        memset(text, 'a' + i % 26, sizeof(text));
        struct span record = span_of(text, (size_t)(1 + i * 37 % 1200));
        shm_journal_append(&journal, &writer, record, KEEP_ALL);
        buffer_append_span(&all, record);
    }
    struct shm_journal_cursor cursor = attach(writer.id, 0);
    assert_string_equal(read_all(&cursor), buffer_text(&all));
    buffer_fini(&all);
}

static void test_past_what_is_kept_the_oldest_go(void **state) {
    (void)state;
    struct shm_journal_writer writer = begin("req_d");
    char text[1001];
    memset(text, 'x', 1000);
    text[1000] = '\0';
    for (int i = 0; i < 200; i++) {
        append(&writer, text, 20000);
    }
    assert_int_equal(try_attach(writer.id, 0), SHM_JOURNAL_TOO_OLD);
    assert_int_equal(try_attach(writer.id, 200 - 20), SHM_JOURNAL_TOO_OLD);
    struct shm_journal_cursor cursor = attach(writer.id, 200 - 19);
    assert_int_equal(strlen(read_all(&cursor)), 19000);
    assert_true(shm_journal_used_bytes(&journal) <= 3 * SHM_JOURNAL_BLOCK_BYTES);
}

static void test_a_reader_may_go_back_to_the_oldest(void **state) {
    (void)state;
    struct shm_journal_writer writer = begin("req_back");
    struct shm_journal_cursor early = attach(writer.id, 0);
    shm_journal_rewind(&journal, &early);
    append(&writer, "one ", KEEP_ALL);
    append(&writer, "two ", KEEP_ALL);
    assert_string_equal(read_all(&early), "one two ");
    (void)shm_journal_detach(&journal, &early);
    append(&writer, "three ", 2 * (6 + 8));
    struct shm_journal_cursor cursor = attach(writer.id, 3);
    shm_journal_rewind(&journal, &cursor);
    assert_string_equal(read_all(&cursor), "two three ");
    append(&writer, "four ", KEEP_ALL);
    assert_string_equal(read_all(&cursor), "four ");
}

static void test_how_a_cancelled_stream_ended(void **state) {
    const struct token_counts tokens = {.input_tokens = 3, .output_tokens = 4};
    struct shm_journal_answer answer;
    (void)state;
    struct shm_journal_writer writer = begin("req_cancelled");
    struct shm_journal_writer other = begin("req_whole");
    shm_journal_cancel(&journal, writer.id);
    shm_journal_cancel(&journal, other.id);
    assert_true(shm_journal_is_cancelled(&journal, writer.id));
    shm_journal_owes(&journal, &writer, &tokens, 5);
    shm_journal_end(&journal, &writer, true, 100);
    assert_true(shm_journal_answer_of(&journal, writer.id, &answer) && answer.is_broken && answer.is_cancelled);
    assert_memory_equal(&answer.tokens, &tokens, sizeof(tokens));
    assert_int_equal(answer.cost_nusd, 5);
    shm_journal_end(&journal, &other, false, 100); /* it was over before anybody looked */
    assert_true(shm_journal_answer_of(&journal, other.id, &answer) && !answer.is_broken && !answer.is_cancelled);
    struct shm_journal_writer broken = begin("req_broken");
    shm_journal_end(&journal, &broken, true, 100);
    shm_journal_cancel(&journal, broken.id);
    assert_true(shm_journal_answer_of(&journal, broken.id, &answer) && answer.is_broken && !answer.is_cancelled);
    shm_journal_drop(&journal, &writer);
    shm_journal_cancel(&journal, writer.id);
    assert_false(shm_journal_is_cancelled(&journal, writer.id));
    struct shm_journal_writer next = begin("req_cancelled"); /* perhaps in the same row */
    assert_false(shm_journal_is_cancelled(&journal, next.id));
}

static void test_what_an_attached_reader_wants_stays(void **state) {
    (void)state;
    struct shm_journal_writer writer = begin("req_e");
    append(&writer, "first ", 10);
    struct shm_journal_cursor cursor = attach(writer.id, 1);
    for (int i = 0; i < 50; i++) {
        append(&writer, "more ", 10);
    }
    assert_true(shm_journal_behind_bytes(&journal, &writer, true) >= 250);
    bool wake = false;
    struct buffer text;
    buffer_init(&text, 4096);
    assert_int_equal(shm_journal_read(&journal, &cursor, &text, 4096, &wake), SHM_JOURNAL_SOME);
    assert_true(wake);
    assert_int_equal(text.len, 250);
    buffer_fini(&text);
    assert_int_equal(shm_journal_behind_bytes(&journal, &writer, false), 0);
    append(&writer, "last ", 10);
    assert_string_equal(read_all(&cursor), "last ");
    assert_int_equal(try_attach(writer.id, 2), SHM_JOURNAL_TOO_OLD);
}

static void test_a_waiting_reader_is_named_once(void **state) {
    (void)state;
    uint32_t seats[SHM_JOURNAL_READERS];
    struct shm_journal_writer writer = begin("req_f");
    struct shm_journal_cursor cursor;
    assert_int_equal(shm_journal_attach(&journal, writer.id, 0, 5, &cursor), SHM_JOURNAL_ATTACHED);
    append(&writer, "a", KEEP_ALL);
    assert_int_equal(shm_journal_take_waiting(&journal, &writer, seats), 0);
    assert_string_equal(read_all(&cursor), "a");
    shm_journal_wait(&journal, &cursor);
    assert_int_equal(shm_journal_take_waiting(&journal, &writer, seats), 1);
    assert_int_equal(seats[0], 5);
    assert_int_equal(shm_journal_take_waiting(&journal, &writer, seats), 0);
}

static void test_places_are_bounded_and_given_back(void **state) {
    (void)state;
    struct shm_journal_cursor cursors[SHM_JOURNAL_READERS];
    struct shm_journal_writer writer = begin("req_g");
    for (int i = 0; i < SHM_JOURNAL_READERS; i++) {
        cursors[i] = attach(writer.id, 0);
    }
    assert_int_equal(try_attach(writer.id, 0), SHM_JOURNAL_TOO_MANY);
    (void)shm_journal_detach(&journal, &cursors[3]);
    assert_int_equal(try_attach(writer.id, 0), SHM_JOURNAL_ATTACHED);
    shm_journal_end(&journal, &writer, false, 1);
    shm_journal_sweep(&journal, 2); /* somebody still reads it */
    assert_int_equal(shm_journal_state_of(&journal, writer.id), SHM_JOURNAL_ENDED);
    for (int i = 0; i < SHM_JOURNAL_READERS; i++) {
        (void)shm_journal_detach(&journal, &cursors[i]);
    }
    shm_journal_sweep(&journal, 2);
    assert_int_equal(shm_journal_state_of(&journal, writer.id), SHM_JOURNAL_GONE);
}

static uint64_t file_bytes(void) {
    struct stat status;
    assert_int_equal(fstat(journal_fd, &status), 0);
    return (uint64_t)status.st_blocks * 512;
}

static void test_full_memory_and_its_return(void **state) {
    (void)state;
    static char block[SHM_JOURNAL_BLOCK_BYTES - 8];
    memset(block, 'f', sizeof(block));
    uint64_t before = file_bytes();
    struct shm_journal_writer first = begin("req_full");
    for (int i = 0; i < 64; i++) {
        shm_journal_append(&journal, &first, span_of(block, sizeof(block)), KEEP_ALL);
    }
    assert_int_equal(shm_journal_used_bytes(&journal), MEMORY_BYTES);
    /* A stream that finds no block goes on, and what it had is gone. */
    struct shm_journal_writer poor = begin("req_poor");
    append(&poor, "a", KEEP_ALL);
    append(&poor, "b", KEEP_ALL);
    assert_int_equal(try_attach(poor.id, 0), SHM_JOURNAL_TOO_OLD);
    assert_int_equal(try_attach(poor.id, 2), SHM_JOURNAL_ATTACHED);
    /* One that holds them all lives on its own oldest. */
    shm_journal_append(&journal, &first, span_of(block, sizeof(block)), KEEP_ALL);
    assert_int_equal(try_attach(first.id, 0), SHM_JOURNAL_TOO_OLD);
    assert_int_equal(try_attach(first.id, 1), SHM_JOURNAL_ATTACHED);
    /* A record that fits nowhere at all takes everything with it, and the next one is kept again. */
    char *huge = calloc(1, MEMORY_BYTES + 1);
    assert_non_null(huge);
    shm_journal_append(&journal, &first, span_of(huge, MEMORY_BYTES + 1), KEEP_ALL);
    free(huge);
    assert_int_equal(try_attach(first.id, 65), SHM_JOURNAL_TOO_OLD);
    append(&first, "after", KEEP_ALL);
    struct shm_journal_cursor cursor = attach(first.id, 66);
    assert_string_equal(read_all(&cursor), "after");
    (void)shm_journal_detach(&journal, &cursor);
    append(&poor, "c", KEEP_ALL);
    cursor = attach(poor.id, 2);
    assert_string_equal(read_all(&cursor), "c");
    (void)shm_journal_detach(&journal, &cursor);
    shm_journal_end(&journal, &first, false, 1);
    shm_journal_end(&journal, &poor, false, 1);
    shm_journal_sweep(&journal, 1);
    assert_int_equal(shm_journal_used_bytes(&journal), 0);
    assert_true(file_bytes() <= before + (256 << 10)); /* rows that were touched */
}

static void test_no_memory_at_all(void **state) {
    (void)state;
    (void)tear_down(NULL);
    open_journal(0);
    struct shm_journal_writer writer = begin("req_none");
    append(&writer, "a", KEEP_ALL);
    assert_int_equal(try_attach(writer.id, 0), SHM_JOURNAL_TOO_OLD);
    shm_journal_end(&journal, &writer, false, 1);
    shm_journal_sweep(&journal, 1);
    assert_int_equal(shm_journal_state_of(&journal, writer.id), SHM_JOURNAL_GONE);
}

static void test_a_reader_whose_memory_went_is_told(void **state) {
    (void)state;
    static char block[SHM_JOURNAL_BLOCK_BYTES - 8];
    struct shm_journal_writer writer = begin("req_lost");
    append(&writer, "a", KEEP_ALL);
    struct shm_journal_cursor cursor = attach(writer.id, 0);
    for (int i = 0; i < 70; i++) { /* memory is full: even what a reader wants must go */
        shm_journal_append(&journal, &writer, span_of(block, sizeof(block)), KEEP_ALL);
    }
    assert_string_equal(read_all(&cursor), "LOST");
    struct shm_journal_cursor gone = attach(writer.id, 71);
    shm_journal_drop(&journal, &writer);
    assert_string_equal(read_all(&gone), "LOST");
}

/* --- several processes --- */

/* A process of its own with its own mapping. */
static void become_other(void) {
    shm_journal_close(&journal);
    if (!shm_journal_open(&journal, journal_fd, getpid(), is_alive, NULL)) {
        _exit(99);
    }
}

static int exit_of(pid_t pid) {
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Record n is n, a colon, and n modulo 97 letters derived from n. */
static size_t make_record(uint32_t number, char out[static 128]) {
    int len = snprintf(out, 128, "%u:", number);
    size_t letters = number % 97;
    memset(out + len, 'a' + (int)(number % 26), letters);
    out[(size_t)len + letters] = '\n';
    return (size_t)len + letters + 1;
}

/* Checks that text is records in order from *next on. */
static bool check_records(struct span text, uint32_t *next) {
    char expected[128];
    while (text.len != 0) {
        size_t len = make_record(*next, expected);
        if (text.len < len || memcmp(text.base, expected, len) != 0) {
            return false;
        }
        text = span_skip(text, len);
        (*next)++;
    }
    return true;
}

/* Comes and goes at random places until the stream has ended; 0 when all it read was right. */
static int read_stream(struct shm_journal_id id, unsigned seed) {
    struct buffer text;
    struct shm_journal_cursor cursor;
    uint32_t next = 1;
    bool wake = false;
    buffer_init(&text, 1 << 20);
    for (;;) {
        bool ended = shm_journal_state_of(&journal, id) == SHM_JOURNAL_ENDED;
        enum shm_journal_attach attached = shm_journal_attach(&journal, id, next - 1, 0, &cursor);
        if (attached == SHM_JOURNAL_TOO_OLD) {
            next = shm_journal_count(&journal, id) + 1; /* overtaken: go on from the newest */
            continue;
        }
        if (attached != SHM_JOURNAL_ATTACHED) {
            return 1;
        }
        for (unsigned reads = 0; reads < 1 + seed % 7; reads++) {
            buffer_clear(&text);
            enum shm_journal_read result = shm_journal_read(&journal, &cursor, &text, 300, &wake);
            if (result == SHM_JOURNAL_LOST) {
                break;
            }
            if (!check_records(buffer_span(&text), &next)) {
                return 2;
            }
            if (result == SHM_JOURNAL_NOTHING && ended) {
                return next == 20001 ? 0 : 3;
            }
        }
        seed = seed * 1103515245 + 12345;
        (void)shm_journal_detach(&journal, &cursor);
    }
}

static void test_readers_in_other_processes_see_records_whole_and_in_order(void **state) {
    (void)state;
    struct shm_journal_writer writer = begin("req_many");
    pid_t pids[6];
    for (unsigned i = 0; i < 6; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            become_other();
            _exit(read_stream(writer.id, i));
        }
    }
    char text[128];
    for (uint32_t number = 1; number <= 20000; number++) {
        size_t len = make_record(number, text);
        shm_journal_append(&journal, &writer, span_of(text, len), 5000);
    }
    shm_journal_end(&journal, &writer, false, INT64_MAX);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(exit_of(pids[i]), 0);
    }
    shm_journal_drop(&journal, &writer);
    assert_int_equal(shm_journal_used_bytes(&journal), 0);
}

/* Streams that come and go in several processes at once, in memory that is too small for them all. */
static int write_streams(unsigned seed) {
    char text[128];
    for (unsigned round = 0; round < 200; round++) {
        char id[32];
        struct shm_journal_writer writer;
        struct shm_journal_cursor cursor;
        (void)snprintf(id, sizeof(id), "req_%u_%u", seed, round);
        const struct shm_journal_begin what = {.request_id = id, .key_index = seed, .has_ids = true};
        if (!shm_journal_begin(&journal, &what, &writer) ||
            shm_journal_attach(&journal, writer.id, 0, 0, &cursor) != SHM_JOURNAL_ATTACHED) {
            return 1;
        }
        for (uint32_t number = 1; number <= 2000; number++) {
            size_t len = make_record(number, text);
            shm_journal_append(&journal, &writer, span_of(text, len), KEEP_ALL);
        }
        struct buffer read;
        bool wake = false;
        uint32_t next = 1;
        buffer_init(&read, 1 << 20);
        enum shm_journal_read result = shm_journal_read(&journal, &cursor, &read, 1 << 20, &wake);
        if (result == SHM_JOURNAL_SOME && (!check_records(buffer_span(&read), &next) || next != 2001)) {
            return 2;
        }
        buffer_fini(&read);
        (void)shm_journal_detach(&journal, &cursor);
        shm_journal_drop(&journal, &writer);
    }
    return 0;
}

static void test_many_writers_in_little_memory(void **state) {
    (void)state;
    (void)tear_down(NULL);
    open_journal(20 * SHM_JOURNAL_BLOCK_BYTES); /* each wants seven blocks */
    pid_t pids[4];
    for (unsigned i = 0; i < 4; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            become_other();
            _exit(write_streams(i));
        }
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(exit_of(pids[i]), 0);
    }
    assert_int_equal(shm_journal_used_bytes(&journal), 0);
}

static void test_writers_that_are_killed_leave_nothing(void **state) {
    (void)state;
    char text[128];
    for (int round = 0; round < 50; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t pid = fork();
        if (pid == 0) {
            become_other();
            struct shm_journal_writer writer = begin("req_killed");
            (void)!write(ends[1], &writer.id, sizeof(writer.id));
            for (uint32_t number = 1;; number++) {
                size_t len = make_record(number, text);
                shm_journal_append(&journal, &writer, span_of(text, len), 100000);
            }
        }
        struct shm_journal_id id;
        assert_int_equal(read(ends[0], &id, sizeof(id)), sizeof(id));
        struct shm_journal_cursor cursor;
        enum shm_journal_attach attached = shm_journal_attach(&journal, id, 0, 1, &cursor);
        const struct timespec moment = {.tv_nsec = 1000L * (round * 37 % 1000)};
        nanosleep(&moment, NULL);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(exit_of(pid), 128 + SIGKILL);
        assert_int_equal(shm_journal_state_of(&journal, id), SHM_JOURNAL_DEAD);
        assert_int_equal(shm_journal_find(&journal, KEY, SPAN_LITERAL("req_killed"), 1).row, SHM_JOURNAL_NO_ROW);
        shm_journal_sweep(&journal, 1);
        assert_int_equal(shm_journal_state_of(&journal, id), SHM_JOURNAL_GONE);
        if (attached == SHM_JOURNAL_ATTACHED) {
            assert_string_equal(read_all(&cursor), "LOST");
            (void)shm_journal_detach(&journal, &cursor);
        }
        assert_int_equal(shm_journal_used_bytes(&journal), 0);
        close(ends[0]);
        close(ends[1]);
    }
}

static void test_a_dead_reader_holds_nothing(void **state) {
    (void)state;
    struct shm_journal_writer writer = begin("req_dead_reader");
    append(&writer, "a", KEEP_ALL);
    pid_t pid = fork();
    if (pid == 0) {
        become_other();
        struct shm_journal_cursor cursor;
        _exit(shm_journal_attach(&journal, writer.id, 0, 0, &cursor) == SHM_JOURNAL_ATTACHED ? 0 : 1);
    }
    assert_int_equal(exit_of(pid), 0);
    assert_int_equal(shm_journal_behind_bytes(&journal, &writer, false), 0);
    shm_journal_end(&journal, &writer, false, 1);
    shm_journal_sweep(&journal, 1);
    assert_int_equal(shm_journal_state_of(&journal, writer.id), SHM_JOURNAL_GONE);
}

/* --- once --- */

static enum shm_once_result claim(uint64_t tag, struct shm_journal_id id, int64_t now, struct shm_once_found *found) {
    return shm_once_claim(&journal, tag, id, now, found);
}

static void test_a_key_is_used_once(void **state) {
    (void)state;
    struct shm_once_found found;
    struct shm_journal_writer first = begin("req_first");
    struct shm_journal_writer second = begin("req_second");
    uint64_t tag = shm_once_tag(KEY, SPAN_LITERAL("my-key"));
    assert_true(tag != shm_once_tag(KEY + 1, SPAN_LITERAL("my-key")));
    assert_int_equal(shm_once_find(&journal, tag, 1, &found), SHM_ONCE_FREE);
    assert_int_equal(claim(tag, first.id, 1, &found), SHM_ONCE_CLAIMED);
    struct shm_once once = found.once;
    assert_int_equal(claim(tag, second.id, 2, &found), SHM_ONCE_HELD);
    assert_string_equal(found.request_id, "req_first");
    assert_int_equal(found.stream.row, first.id.row);
    shm_once_release(&journal, once, second.id); /* not its own */
    assert_int_equal(shm_once_find(&journal, tag, 3, &found), SHM_ONCE_HELD);
    shm_once_release(&journal, once, first.id);
    assert_int_equal(shm_once_find(&journal, tag, 3, &found), SHM_ONCE_FREE);
    assert_int_equal(claim(tag, second.id, 4, &found), SHM_ONCE_CLAIMED);
    shm_journal_drop(&journal, &second); /* the answer goes, the entry stays for a day */
    assert_int_equal(shm_once_find(&journal, tag, SHM_ONCE_KEPT_NS, &found), SHM_ONCE_HELD);
    assert_string_equal(found.request_id, "req_second");
    assert_int_equal(shm_once_find(&journal, tag, SHM_ONCE_KEPT_NS + 4, &found), SHM_ONCE_FREE);
}

static void test_a_full_neighbourhood_loses_its_oldest(void **state) {
    (void)state;
    struct shm_once_found found;
    struct shm_journal_writer writer = begin("req_x");
    struct shm_journal_id gone = writer.id;
    shm_journal_drop(&journal, &writer);
    for (uint64_t i = 0; i <= SHM_ONCE_NEIGHBOURS; i++) {
        uint64_t tag = (i + 1) << 32 | 5; /* one place */
        assert_int_equal(claim(tag, gone, 10 + (int64_t)i, &found), SHM_ONCE_CLAIMED);
    }
    assert_int_equal(shm_once_find(&journal, UINT64_C(1) << 32 | 5, 100, &found), SHM_ONCE_FREE);
    for (uint64_t i = 1; i <= SHM_ONCE_NEIGHBOURS; i++) {
        assert_int_equal(shm_once_find(&journal, (i + 1) << 32 | 5, 100, &found), SHM_ONCE_HELD);
    }
}

/* Eight processes fight for each of many keys. How many of them run it is counted in shared memory. */
static void test_of_simultaneous_claims_one_wins(void **state) {
    (void)state;
    enum { KEYS = 500, PROCESSES = 8 };
    _Atomic uint32_t *winners =
        mmap(NULL, (KEYS + 1) * sizeof(*winners), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(winners != MAP_FAILED);
    pid_t pids[PROCESSES];
    for (unsigned i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            become_other();
            char id[32];
            (void)snprintf(id, sizeof(id), "req_%u", i);
            struct shm_journal_writer writer = begin(id);
            (void)atomic_fetch_add(&winners[KEYS], 1);
            while (atomic_load(&winners[KEYS]) < PROCESSES) {
            }
            for (uint64_t key = 0; key < KEYS; key++) {
                struct shm_once_found found;
                uint64_t tag = (key + 1) << 32 | (key % 20) << 8;
                (void)atomic_fetch_add(&winners[key], claim(tag, writer.id, 1, &found) == SHM_ONCE_CLAIMED);
            }
            _exit(0);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        assert_int_equal(exit_of(pids[i]), 0);
    }
    for (int key = 0; key < KEYS; key++) {
        assert_int_equal(atomic_load(&winners[key]), 1);
    }
    (void)munmap(winners, (KEYS + 1) * sizeof(*winners));
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_a_reader_gets_what_follows_its_event),
        TEST(test_only_its_key_finds_it_and_only_in_its_window),
        TEST(test_records_cross_blocks),
        TEST(test_past_what_is_kept_the_oldest_go),
        TEST(test_a_reader_may_go_back_to_the_oldest),
        TEST(test_how_a_cancelled_stream_ended),
        TEST(test_what_an_attached_reader_wants_stays),
        TEST(test_a_waiting_reader_is_named_once),
        TEST(test_places_are_bounded_and_given_back),
        TEST(test_full_memory_and_its_return),
        TEST(test_no_memory_at_all),
        TEST(test_a_reader_whose_memory_went_is_told),
        TEST(test_readers_in_other_processes_see_records_whole_and_in_order),
        TEST(test_many_writers_in_little_memory),
        TEST(test_writers_that_are_killed_leave_nothing),
        TEST(test_a_dead_reader_holds_nothing),
        TEST(test_a_key_is_used_once),
        TEST(test_a_full_neighbourhood_loses_its_oldest),
        TEST(test_of_simultaneous_claims_one_wins),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
