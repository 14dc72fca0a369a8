/* How a request ends as exactly one record, and how budgets stay exact, whoever is killed (shm/README.md, design.md
 * section 3). README.md beside this file says how steps map to code, what the bounds are and what each BREAK does. One
 * step of a process is one d_step; between any two steps any other process may run or the process may be killed. */

#ifndef SEATS
#define SEATS 2 /* rows for workers in the segment: 2 or 3 */
#endif
#ifndef WORKERS
#define WORKERS 2 /* worker processes at a time */
#endif
#ifndef REQUESTS
#define REQUESTS 3
#endif
#ifndef BUDGET
#define BUDGET 3 /* a request holds 1 when it is sent, and 2 when it was extended */
#endif
#ifndef WORKER_KILLS
#define WORKER_KILLS 1
#endif
#ifndef LEDGER_KILLS
#define LEDGER_KILLS 1
#endif
#ifndef DISASTERS
#define DISASTERS 0 /* times that all processes are killed at once */
#endif
#ifndef GIVE_UPS
#define GIVE_UPS 0 /* pauses that end without a recompute: the commit failed, or a worker hung */
#endif
#define RING 2 /* entries; each seat has two slots */

#define SLOT_FREE 0
#define SLOT_LIVE 1
#define SLOT_SETTLING 2

#define SEAT_FREE 0
#define SEAT_ASSIGNED 1
#define SEAT_LIVE 2
#define SEAT_DEAD 3

/* --- the segment --- */

typedef slot_sh {
    byte state;
    byte id;
    byte held;
    byte used;  /* what was counted; the hold caps what of it is owed */
    byte price; /* of the record */
    byte position;
    bit tried /* attempts > 0 */
};

typedef seat_sh {
    byte state;
    byte acknowledged;
    byte head;
    byte tail;
    byte entry_id[RING];
    byte entry_price[RING];
    slot_sh slots[2]
};

seat_sh seat[SEATS];
byte epoch;
byte spent; /* the balance: these two change in one step */
byte held;

/* --- LMDB --- */

byte records[REQUESTS + 1]; /* how often a request was recorded */
byte committed;             /* the fold of the records */
byte position[SEATS];

/* --- the world --- */

bit running[SEATS]; /* a process owns this seat */
bit down;           /* all processes were killed at once and recovery has not finished */
byte asked;         /* requests that came so far */
bit billable[REQUESTS + 1]; /* something went upstream */
byte worker_kills = WORKER_KILLS;
byte ledger_kills = LEDGER_KILLS;
byte disasters = DISASTERS;
byte give_ups = GIVE_UPS;

hidden byte i;
hidden byte j;
hidden byte sum;
hidden byte added;

#define IS_EVEN(n) (((n) & 1) == 0)
#define LIVE_SLOTS(n) ((seat[n].slots[0].state != SLOT_FREE) + (seat[n].slots[1].state != SLOT_FREE))
#if SEATS == 2
#define ANY_SEAT(TEST) (TEST(0) || TEST(1))
#define RUNNING (running[0] + running[1])
#else
#define RUNNING (running[0] + running[1] + running[2])
#define ANY_SEAT(TEST) (TEST(0) || TEST(1) || TEST(2))
#endif
#define IS_DEAD(n) (seat[n].state == SEAT_DEAD)
#define IS_FREE(n) (seat[n].state == SEAT_FREE)
#define IS_RUNNING(n) (running[n] != 0)
#define IS_PENDING(n) (seat[n].head != seat[n].tail)
#define IS_ORPHAN(n) (!running[n] && (seat[n].state == SEAT_ASSIGNED || seat[n].state == SEAT_LIVE))

#ifdef BREAK_PAUSE_WITHOUT_WAITING
#define IS_BUSY(n) (IS_DEAD(n))
#elif defined BREAK_OLD_ACKNOWLEDGEMENT
#define IS_BUSY(n) (IS_DEAD(n) || (seat[n].state == SEAT_LIVE && seat[n].acknowledged == 0))
#elif defined BREAK_DEAD_NEED_NO_SWEEP
#define IS_BUSY(n) (seat[n].state == SEAT_LIVE && seat[n].acknowledged != epoch)
#else
#define IS_BUSY(n) (IS_DEAD(n) || (seat[n].state == SEAT_LIVE && seat[n].acknowledged != epoch))
#endif

/* sum = what the store and the rings hold together. */
inline add_settled() {
    sum = committed;
    for (i : 0 .. SEATS - 1) {
        j = (position[i] > seat[i].tail -> position[i] : seat[i].tail);
        do
        :: j < seat[i].head ->
            sum = sum + seat[i].entry_price[j % RING];
            j++
        :: else -> break
        od
    }
    i = 0;
    j = 0
}

/* price_of in sweep.c: the hold caps the price, and so does a price that its worker had settled. */
#define LESS(a, b) ((a) < (b) -> (a) : (b))
#define OWED(slot)                                                                                                     \
    (slot.held > 0 -> LESS(slot.used, slot.held) : (slot.price > 0 -> LESS(slot.used, slot.price) : slot.used))

/* I4: if everything ended now, the bill would be within the budget. */
inline check_bill() {
    add_settled();
    for (i : 0 .. SEATS - 1) {
        for (j : 0 .. 1) {
            if
            :: seat[i].slots[j].state == SLOT_LIVE -> sum = sum + OWED(seat[i].slots[j])
            :: seat[i].slots[j].state == SLOT_SETTLING && seat[i].slots[j].position >= seat[i].head ->
                sum = sum + seat[i].slots[j].price
            :: else
            fi
        }
    }
    assert(sum <= BUDGET); /* I4 */
    i = 0;
    j = 0;
    sum = 0
}

inline free_slot(n, slot) {
    seat[n].slots[slot].state = SLOT_FREE;
    seat[n].slots[slot].id = 0;
    seat[n].slots[slot].held = 0;
    seat[n].slots[slot].used = 0;
    seat[n].slots[slot].price = 0;
    seat[n].slots[slot].position = 0;
    seat[n].slots[slot].tried = 0
}

inline mark_settling(n, slot) {
    seat[n].slots[slot].position = seat[n].head;
    seat[n].slots[slot].state = SLOT_SETTLING
}

inline copy_record(n, slot) {
    assert(seat[n].head - seat[n].tail < RING); /* room: the entry was promised when the slot was taken */
    seat[n].entry_id[seat[n].head % RING] = seat[n].slots[slot].id;
    seat[n].entry_price[seat[n].head % RING] = seat[n].slots[slot].price
}

/* --- worker --- */

#define ME seat[_pid]
#define MINE seat[_pid].slots[k]
#define IS_UP (running[_pid] && !down)

/* One step of a worker, or its death. */
#define WORKER_STEP(...)                                                                                               \
    if                                                                                                                 \
    :: d_step { !down -> __VA_ARGS__ }                                                                                 \
    :: atomic { !down && worker_kills > 0 -> worker_kills--; goto killed }                                             \
    :: atomic { down -> goto killed }                                                                                  \
    fi

#ifdef BREAK_NO_PROMISED_ENTRY
#define HAS_ROOM (true)
#else
#define HAS_ROOM (ME.head - ME.tail + LIVE_SLOTS(_pid) < RING)
#endif
#ifdef BREAK_WORK_IN_PAUSE
#define MAY_WORK (IS_UP && ME.state == SEAT_LIVE)
#else
#define MAY_WORK (IS_UP && ME.state == SEAT_LIVE && IS_EVEN(epoch))
#endif
#ifdef BREAK_EXTEND_IN_PAUSE
#define MAY_EXTEND (IS_UP && ME.state == SEAT_LIVE)
#else
#define MAY_EXTEND MAY_WORK
#endif
#define FREE_SLOT (ME.slots[0].state == SLOT_FREE -> 0 : 1)
#define CAN_SEND(n) (ME.slots[n].state == SLOT_LIVE && !ME.slots[n].tried)
#define CAN_EXTEND(n) (ME.slots[n].state == SLOT_LIVE && ME.slots[n].tried && ME.slots[n].held == 1)
#define MAY_ADMIT (asked < REQUESTS && LIVE_SLOTS(_pid) < 2 && HAS_ROOM)

active [SEATS] proctype worker() {
    byte k; /* slot at work */
    byte id;
    byte seen; /* epoch */

end_turn: /* between two turns of its loop */
    do
    :: d_step { IS_UP && ME.state == SEAT_ASSIGNED -> ME.state = SEAT_LIVE }
#ifdef BREAK_EPOCH_READ_BEFORE_LIVE
    :: atomic { IS_UP && ME.state == SEAT_ASSIGNED && IS_EVEN(epoch) && MAY_ADMIT ->
                asked++; id = asked; goto live_late }
#endif
    :: atomic { IS_UP && ME.state == SEAT_LIVE && !IS_EVEN(epoch) && ME.acknowledged != epoch ->
                seen = epoch; goto follow }
    :: atomic { MAY_WORK && MAY_ADMIT -> k = FREE_SLOT; asked++; id = asked; goto admit }
    :: atomic { MAY_WORK && CAN_SEND(0) -> k = 0; goto send }
    :: atomic { MAY_WORK && CAN_SEND(1) -> k = 1; goto send }
    :: atomic { MAY_EXTEND && CAN_EXTEND(0) -> k = 0; goto extend }
    :: atomic { MAY_EXTEND && CAN_EXTEND(1) -> k = 1; goto extend }
    :: atomic { MAY_WORK && ME.slots[0].state == SLOT_LIVE -> k = 0; goto settle }
    :: atomic { MAY_WORK && ME.slots[1].state == SLOT_LIVE -> k = 1; goto settle }
    :: atomic { IS_UP && worker_kills > 0 -> worker_kills--; running[_pid] = 0 }
    :: atomic { running[_pid] && down -> running[_pid] = 0 }
    od;

#ifdef BREAK_EPOCH_READ_BEFORE_LIVE
live_late:
    WORKER_STEP(ME.state = SEAT_LIVE);
    goto admit;
#endif

follow: /* follow_epoch: the rest of it */
    WORKER_STEP(ME.acknowledged = seen; seen = 0);
    goto end_turn;

admit:
    if
    :: d_step { !down -> MINE.id = id; MINE.state = SLOT_LIVE; id = 0 } /* sent in the same turn */
    :: d_step { !down -> MINE.id = id; MINE.state = SLOT_LIVE; id = 0; k = 0 }
       goto end_turn /* or later */
    :: atomic { !down && worker_kills > 0 -> worker_kills--; goto killed }
    :: atomic { down -> goto killed }
    fi;

send: /* reserve; the slot's hold; attempts and counts; then the bytes */
#ifdef BREAK_CHECK_THEN_HOLD
    if
    :: atomic { !down && spent + held + 1 <= BUDGET -> skip }
    :: atomic { !down && spent + held + 1 > BUDGET -> goto settle }
    :: atomic { down -> goto killed }
    fi;
    WORKER_STEP(held = held + 1);
#else
    if
    :: d_step { !down && spent + held + 1 <= BUDGET -> held = held + 1 }
    :: atomic { !down && spent + held + 1 > BUDGET -> goto settle }
    :: atomic { !down && worker_kills > 0 -> worker_kills--; goto killed }
    :: atomic { down -> goto killed }
    fi;
#endif
    WORKER_STEP(MINE.held = 1);
#ifdef BREAK_SEND_BEFORE_COUNTED
    WORKER_STEP(billable[MINE.id] = 1);
#endif
    if
    :: d_step { !down -> MINE.used = 1; MINE.tried = 1; billable[MINE.id] = 1; check_bill(); k = 0 }
       goto end_turn
    :: atomic { !down -> goto settle } /* it could not be sent */
    :: atomic { !down && worker_kills > 0 -> worker_kills--; goto killed }
    :: atomic { down -> goto killed }
    fi;

extend: /* one more slice of budget */
    if
    :: d_step { !down && spent + held + 1 <= BUDGET -> held = held + 1 }
    :: d_step { !down && spent + held + 1 > BUDGET -> MINE.used = 2; check_bill() }
       goto settle /* it has cost more than can be held: the budget ends it */
    :: atomic { !down && worker_kills > 0 -> worker_kills--; goto killed }
    :: atomic { down -> goto killed }
    fi;
    WORKER_STEP(MINE.held = 2; MINE.used = 2; check_bill(); k = 0);
    goto end_turn;

settle: /* budget_settle: the price; the balance; the slot's hold */
#ifdef BREAK_PRICE_AFTER_HOLD
    WORKER_STEP(id = LESS(MINE.used, MINE.held); held = held - MINE.held; spent = spent + id);
    WORKER_STEP(MINE.held = 0; check_bill());
    WORKER_STEP(MINE.price = id; id = 0);
#else
    WORKER_STEP(MINE.price = LESS(MINE.used, MINE.held));
    WORKER_STEP(held = held - MINE.held; spent = spent + MINE.price; check_bill());
    WORKER_STEP(MINE.held = 0; check_bill());
#endif
    /* publish() of shm_slot.c */
    if
    :: d_step { !down && !MINE.tried -> free_slot(_pid, k); k = 0 }
       goto end_turn
#ifdef BREAK_NO_SETTLING
    :: atomic { !down && MINE.tried -> skip }
#else
    :: d_step { !down && MINE.tried -> mark_settling(_pid, k) }
#endif
    :: atomic { !down && worker_kills > 0 -> worker_kills--; goto killed }
    :: atomic { down -> goto killed }
    fi;
#ifdef BREAK_HEAD_BEFORE_COPY
    WORKER_STEP(ME.head++);
    WORKER_STEP(ME.head--; copy_record(_pid, k); ME.head++);
    WORKER_STEP(free_slot(_pid, k); k = 0);
#elif defined BREAK_FREE_BEFORE_HEAD
    WORKER_STEP(copy_record(_pid, k));
    WORKER_STEP(free_slot(_pid, k); k = 0);
    WORKER_STEP(ME.head++);
#else
    WORKER_STEP(copy_record(_pid, k));
    WORKER_STEP(ME.head++);
    WORKER_STEP(free_slot(_pid, k); k = 0);
#endif
    goto end_turn;

killed:
    atomic {
        k = 0;
        id = 0;
        seen = 0;
        running[_pid] = 0;
        goto end_turn
    }
}

/* --- ledger, and recovery --- */

#define DYING(n) seat[s].slots[n]
#define SWEPT_SLOT(n) seat[s].slots[n].state
#define HAS_SWEPT(wanted_state) (SWEPT_SLOT(0) == wanted_state || SWEPT_SLOT(1) == wanted_state)
#define FIND_SWEPT(wanted_state) (SWEPT_SLOT(0) == wanted_state -> 0 : 1)
#define IS_MY_TIME (down == recovering)

/* One step of the ledger, or of recovery, or its death. */
#define LEDGER_STEP(...)                                                                                               \
    if                                                                                                                 \
    :: d_step { IS_MY_TIME -> __VA_ARGS__ }                                                                            \
    :: atomic { IS_MY_TIME && ledger_kills > 0 -> ledger_kills--; goto killed }                                        \
    :: atomic { !IS_MY_TIME -> goto killed }                                                                           \
    fi

#ifdef BREAK_ONLY_FINISH_ODD
#define WANTED_AT_START (!IS_EVEN(epoch))
#elif defined BREAK_LEAVE_ODD
#define WANTED_AT_START (0)
#else
#define WANTED_AT_START (1)
#endif

#if SEATS == 2
#define FIND_DEAD (IS_DEAD(0) -> 0 : 1)
#else
#define FIND_DEAD (IS_DEAD(0) -> 0 : (IS_DEAD(1) -> 1 : 2))
#endif

#ifdef BREAK_LIVE_BEFORE_SETTLING
#define NEXT_SWEPT (HAS_SWEPT(SLOT_LIVE) -> FIND_SWEPT(SLOT_LIVE) : FIND_SWEPT(SLOT_SETTLING))
#else
#define NEXT_SWEPT (HAS_SWEPT(SLOT_SETTLING) -> FIND_SWEPT(SLOT_SETTLING) : FIND_SWEPT(SLOT_LIVE))
#endif
/* Published already, or never sent: nothing to publish. */
#define IS_OVER(n)                                                                                                     \
    (DYING(n).state == SLOT_SETTLING && DYING(n).position < seat[s].head ||                                            \
     DYING(n).state == SLOT_LIVE && !DYING(n).tried)

/* A seat's uncommitted records into the store. */
inline commit_ring(n) {
#ifdef BREAK_IGNORE_POSITION
    j = seat[n].tail;
#else
    j = (position[n] > seat[n].tail && position[n] <= seat[n].head -> position[n] : seat[n].tail);
#endif
    do
    :: j < seat[n].head ->
        assert(seat[n].entry_id[j % RING] != 0); /* I1 */
        records[seat[n].entry_id[j % RING]]++;
        assert(records[seat[n].entry_id[j % RING]] == 1); /* I1 */
        committed = committed + seat[n].entry_price[j % RING];
        added++;
        j++
    :: else -> break
    od;
#ifndef BREAK_POSITION_APART
    position[n] = seat[n].head;
#endif
    j = 0
}

inline commit_rings() {
    added = 0;
    for (i : 0 .. SEATS - 1) {
        commit_ring(i)
    }
    i = 0;
#ifdef BREAK_RECOVERY_NEEDS_RECORDS
    assert(!recovering || added > 0); /* else the server refuses to start with nothing wrong */
#endif
    added = 0
}

inline release_ring(n) {
    seat[n].tail = (position[n] > seat[n].tail -> position[n] : seat[n].tail)
}

inline add_holds(n) {
#ifdef BREAK_SKIP_DEAD_HOLDS
    if
    :: seat[n].state == SEAT_LIVE ->
#else
    if
    :: seat[n].state != SEAT_FREE ->
#endif
        for (j : 0 .. 1) {
            held = held + (seat[n].slots[j].state == SLOT_LIVE -> seat[n].slots[j].held : 0)
        }
    :: else
    fi;
    j = 0
}

/* The end of a pause: everybody is parked. */
inline check_balance() {
    add_settled();
    assert(spent == sum); /* I2 */
    sum = 0;
    for (i : 0 .. SEATS - 1) {
        for (j : 0 .. 1) {
            sum = sum + (seat[i].slots[j].state == SLOT_LIVE -> seat[i].slots[j].held : 0);
            assert(seat[i].slots[j].state != SLOT_SETTLING)
        }
    }
    assert(held == sum); /* I3 */
    assert(spent + held <= BUDGET); /* I4 */
    i = 0;
    j = 0;
    sum = 0
}

inline new_segment() {
    for (i : 0 .. SEATS - 1) {
        for (j : 0 .. 1) {
            free_slot(i, j)
        }
        for (j : 0 .. RING - 1) {
            seat[i].entry_id[j] = 0;
            seat[i].entry_price[j] = 0
        }
        seat[i].state = SEAT_FREE;
        seat[i].head = 0;
        seat[i].tail = 0;
        seat[i].acknowledged = 0
    }
    epoch = 0;
    held = 0;
    spent = committed;
    i = 0;
    j = 0
}

active proctype ledger() {
    byte s; /* seat at work */
    byte k;
    bit wanted = 1;
    bit recovering;

end_loop:
    do
    :: d_step { IS_MY_TIME && !recovering && wanted && IS_EVEN(epoch) -> epoch++ } /* begin_pause */
    :: atomic { IS_MY_TIME && ANY_SEAT(IS_DEAD) -> s = FIND_DEAD; goto sweep }
    :: atomic { IS_MY_TIME && ANY_SEAT(IS_PENDING) -> goto commit }
#ifdef BREAK_RECOMPUTE_UNCOMMITTED
    :: atomic { IS_MY_TIME && !recovering && wanted && !IS_EVEN(epoch) && !ANY_SEAT(IS_BUSY) -> goto recompute }
#else
    :: atomic { IS_MY_TIME && !recovering && wanted && !IS_EVEN(epoch) && !ANY_SEAT(IS_BUSY) && !ANY_SEAT(IS_PENDING) ->
                goto recompute }
#endif
    :: d_step { IS_MY_TIME && !recovering && wanted && !IS_EVEN(epoch) && give_ups > 0 -> give_ups--; epoch++ }
    :: atomic { IS_MY_TIME && !recovering && wanted && ledger_kills > 0 -> ledger_kills--; goto killed }
    :: atomic { down && !recovering && !ANY_SEAT(IS_RUNNING) -> recovering = 1; wanted = 0; s = 0; goto recover }
    :: atomic { down && recovering && !ANY_SEAT(IS_DEAD) && !ANY_SEAT(IS_PENDING) -> goto restart }
    od;

sweep: /* shm_slots_sweep: the slot that was being settled first, then the live ones */
    if
    :: d_step { IS_MY_TIME && !HAS_SWEPT(SLOT_LIVE) && !HAS_SWEPT(SLOT_SETTLING) ->
                seat[s].state = SEAT_FREE; wanted = 1; s = 0 }
       goto end_loop
    :: d_step { IS_MY_TIME && IS_OVER(NEXT_SWEPT) -> k = NEXT_SWEPT; free_slot(s, k); k = 0 }
       goto sweep
    :: d_step { IS_MY_TIME && (HAS_SWEPT(SLOT_LIVE) || HAS_SWEPT(SLOT_SETTLING)) && !IS_OVER(NEXT_SWEPT) ->
                k = NEXT_SWEPT;
                DYING(k).price = (DYING(k).state == SLOT_LIVE -> OWED(DYING(k)) : DYING(k).price);
                mark_settling(s, k) }
    :: atomic { IS_MY_TIME && ledger_kills > 0 -> ledger_kills--; goto killed }
    :: atomic { !IS_MY_TIME -> goto killed }
    fi;
    LEDGER_STEP(copy_record(s, k));
    LEDGER_STEP(seat[s].head++);
    LEDGER_STEP(free_slot(s, k); k = 0);
    goto sweep;

commit: /* one transaction, then the tails one by one */
#ifdef BREAK_TAIL_BEFORE_COMMIT
    LEDGER_STEP(for (i : 0 .. SEATS - 1) { seat[i].tail = seat[i].head } i = 0);
    LEDGER_STEP(for (i : 0 .. SEATS - 1) { sum = seat[i].tail; seat[i].tail = position[i]; commit_ring(i);
                                           seat[i].tail = sum; sum = 0; added = 0 } i = 0);
#else
    LEDGER_STEP(commit_rings());
#ifdef BREAK_POSITION_APART
    LEDGER_STEP(for (i : 0 .. SEATS - 1) { position[i] = seat[i].head } i = 0);
#endif
    LEDGER_STEP(release_ring(0));
    LEDGER_STEP(release_ring(1));
#if SEATS == 3
    LEDGER_STEP(release_ring(2));
#endif
#endif
    goto end_loop;

recompute: /* reset_accounts, add_live_slots, end_pause */
    LEDGER_STEP(spent = committed; held = 0; for (i : 0 .. SEATS - 1) { add_holds(i) } i = 0);
    LEDGER_STEP(check_balance(); epoch++; wanted = 0);
    goto end_loop;

recover: /* sweep_mark_all; then the loop above sweeps and commits */
#ifdef BREAK_RECOVERY_SKIPS_SLOTS
    LEDGER_STEP(for (i : 0 .. SEATS - 1) { seat[i].state = (IS_DEAD(i) -> SEAT_DEAD : SEAT_FREE) } i = 0);
#else
    LEDGER_STEP(for (i : 0 .. SEATS - 1) { seat[i].state = (IS_FREE(i) -> SEAT_FREE : SEAT_DEAD) } i = 0);
#endif
    goto end_loop;

restart: /* commit_forget_others; then the old segment is removed and a new server begins */
    LEDGER_STEP(for (i : 0 .. SEATS - 1) { position[i] = 0 } i = 0);
    LEDGER_STEP(new_segment(); recovering = 0; wanted = 1; down = 0);
    goto end_loop;

killed:
    atomic {
        s = 0;
        k = 0;
        recovering = 0;
        wanted = WANTED_AT_START;
#ifdef BREAK_LOWER_WITHOUT_RECOMPUTE
        wanted = IS_EVEN(epoch);
        epoch = (IS_EVEN(epoch) -> epoch : epoch + 1);
#endif
        goto end_loop
    }
}

/* --- master, and fate --- */

active proctype master() {
end_loop:
    do
    :: d_step {
            !down && ANY_SEAT(IS_ORPHAN) -> /* waitpid */
            for (i : 0 .. SEATS - 1) {
                seat[i].state = (IS_ORPHAN(i) -> SEAT_DEAD : seat[i].state)
            }
            i = 0
        }
    :: d_step {
            !down && ANY_SEAT(IS_FREE) && RUNNING < WORKERS -> /* shm_seat_assign, fork */
            i = (IS_FREE(0) -> 0 : (IS_FREE(1) -> 1 : SEATS - 1));
            seat[i].acknowledged = 0;
            seat[i].state = SEAT_ASSIGNED;
            running[i] = 1;
            i = 0
        }
    :: d_step { !down && disasters > 0 -> disasters--; down = 1 }
    od
}

/* When nobody can do anything more, everything must be settled: else somebody waits for ever. */
active proctype monitor() {
    atomic {
        timeout ->
        assert(!down && IS_EVEN(epoch)); /* nobody waits for ever */
        for (i : 0 .. SEATS - 1) {
            assert(seat[i].state == SEAT_FREE || seat[i].state == SEAT_LIVE);
            assert(seat[i].head == seat[i].tail);
            assert(LIVE_SLOTS(i) == 0)
        }
        for (i : 1 .. REQUESTS) {
            assert(records[i] == billable[i]) /* I1 */
        }
        assert(held == 0);          /* I3 */
        assert(spent == committed); /* I2 */
        assert(spent <= BUDGET)     /* I4 */
    }
}
