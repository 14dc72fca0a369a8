/* worker/answer_told.h - what a sink has been told of an answer: which tool calls have begun, how each choice ended.
 * Used by: dialect_openai and dialect_gemini, whose events don't say it; whoever makes a sink for them adds one, begun
 * anew for each answer. Pure, owns nothing, bounded: of more than ANSWER_CALLS_REMEMBERED calls the oldest are
 * forgotten, and choices past ANSWER_CHOICES_MOST are not told at all. */
#ifndef TOLLGATE_WORKER_ANSWER_TOLD_H
#define TOLLGATE_WORKER_ANSWER_TOLD_H

#include "worker/answer.h"

enum { ANSWER_CHOICES_MOST = 128, ANSWER_CALLS_REMEMBERED = 64, ANSWER_CALLS_MOST = 1 << 15 };

/* A tool call that has begun. */
struct answer_told_call {
    int64_t index;    /* the upstream's number for it */
    uint64_t id_hash; /* 0: it gave no id */
    uint16_t number;  /* ours */
    uint8_t choice;
};

struct answer_told {
    uint8_t finish[ANSWER_CHOICES_MOST]; /* enum answer_finish, the last that was heard */
    bool is_finished[ANSWER_CHOICES_MOST];
    uint16_t tools[ANSWER_CHOICES_MOST]; /* calls begun */
    struct answer_told_call calls[ANSWER_CALLS_REMEMBERED];
    int64_t call_count; /* ever; the last of them are in calls, as a ring */
};

/* Nothing was told yet. */
void answer_told_init(struct answer_told *told);

/* Is the choice one that can be told? */
bool answer_told_has_room(int64_t choice);

/* Begins a call in a choice and returns its number within it; -1 when there are too many. */
int64_t answer_told_begin_call(struct answer_told *told, int64_t choice, int64_t index, struct span id);

/* The number of the call that a piece belongs to; -1 when it begins a new one. Some servers give all calls of an answer
 * the same index: a named piece with another id than the call's is a new call. */
int64_t answer_told_find_call(const struct answer_told *told, int64_t choice, int64_t index, struct span id,
                              bool has_name);

/* Tells the sink that the choice ended, unless it was told before. */
void answer_told_finish(const struct answer_sink *sink, int64_t choice, enum answer_finish finish,
                        struct span sequence);

#endif
