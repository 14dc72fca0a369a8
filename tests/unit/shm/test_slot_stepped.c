/* I1, exhaustively: a worker is single-stepped through a hand-over and killed after each of its instructions; the sweep
 * then finds exactly one record, whichever it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/shm_slot.h"

#include "segment_testing.h"

enum { NUMBER = 77, STOPS_MOST = 800, STEPS_MOST = 1000000 };

static struct shm_slots slots;
static uint32_t seat;

static int set_up_seat(void **state) {
    int result = set_up(state);
    seat = assign_seat();
    return result;
}

static int make_live(void) {
    shm_slots_init(&slots, &map, seat);
    int slot = shm_slot_take(&slots);
    assert_true(slot >= 0);
    struct shm_slot_sh *shared = shm_slot(&map, seat, (uint32_t)slot);
    shared->record.attempts = 1;
    shared->record.price_nusd = NUMBER;
    shm_slot_go_live(&slots, slot);
    return slot;
}

static void run_worker(int slot) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) {
        _exit(1);
    }
    (void)kill(getpid(), SIGSTOP);
    shm_slot_settle(&slots, slot);
    _exit(0);
}

/* Starts a worker and stops it before its first step. -1: this machine does not let us trace. */
static pid_t start_worker(int slot) {
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        run_worker(slot);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSTOPPED(status) ? pid : -1;
}

/* Lets it do so many instructions. False: it has ended by then. */
static bool step(pid_t pid, int steps) {
    for (int done = 0; done < steps; done++) {
        int status = 0;
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status)) {
            return false;
        }
    }
    return true;
}

static void kill_worker(pid_t pid) {
    int status = 0;
    (void)kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void note_swept(void *context, struct shm_slot_sh *slot) {
    (void)context;
    assert_int_equal(slot->record.price_nusd, NUMBER);
}

static void assert_one_record(int slot, int steps) {
    uint64_t tail = 0;
    uint64_t head = 0;
    (void)shm_slots_sweep(&map, seat, note_swept, NULL);
    shm_ring_bounds(&map, seat, &tail, &head);
    if (head - tail != 1) {
        fail_msg("killed after %d instructions: %d records", steps, (int)(head - tail));
    }
    assert_int_equal(shm_ring_entry(&map, seat, tail)->price_nusd, NUMBER);
    assert_int_equal(shm_slot(&map, seat, (uint32_t)slot)->state, SHM_SLOT_FREE);
    memset(shm_ring_entry(&map, seat, tail), 0, sizeof(struct shm_usage_record_sh));
    shm_ring_release(&map, seat, head);
}

/* How many instructions the whole hand-over is; 0 when it can't be traced. */
static int count_steps(void) {
    int slot = make_live();
    pid_t pid = start_worker(slot);
    int steps = 0;
    while (pid > 0 && steps < STEPS_MOST && step(pid, 1)) {
        steps++;
    }
    assert_true(steps < STEPS_MOST);
    assert_one_record(slot, steps);
    return pid > 0 ? steps : 0;
}

static void I1_killed_after_any_instruction_of_a_hand_over(void **state) {
    (void)state;
    int total = count_steps();
    if (total == 0) {
        skip();
    }
    /* Sanitizers make it long: then not each, but as many. */
    int stride = total / STOPS_MOST + 1;
    for (int steps = 0; steps <= total; steps += stride) {
        int slot = make_live();
        pid_t pid = start_worker(slot);
        assert_true(pid > 0);
        if (step(pid, steps)) {
            kill_worker(pid);
        }
        assert_one_record(slot, steps);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(I1_killed_after_any_instruction_of_a_hand_over)};
    return cmocka_run_group_tests(tests, set_up_seat, tear_down);
}
