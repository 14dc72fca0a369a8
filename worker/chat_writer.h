/* worker/chat_writer.h - writes what an answer says, told in parts by any dialect's reader, in OpenAI's chat dialect:
 * as chat.completion.chunk events, or gathered as one chat.completion.
 * Used by: the worker, one writer an answer. Pure. What a client has to send back goes with the answer: the signature
 * of reasoning, with the text it vouches for, and reasoning that only its provider can read in OpenRouter's
 * reasoning_details; the signature of a call in Google's extra_content.google.thought_signature. Calls without an id
 * get one, the same whenever the answer is written again. Ownership: the writer owns what it gathers until
 * chat_writer_fini; parts are copied. Bounds: cap_bytes for all that is gathered (a stream gathers only reasoning that
 * may yet be signed, and past the cap leaves it out); ANSWER_CHOICES_MOST choices, parts of others are dropped. */
#ifndef TOLLGATE_WORKER_CHAT_WRITER_H
#define TOLLGATE_WORKER_CHAT_WRITER_H

#include "base/buffer.h"
#include "worker/answer.h"

enum { CHAT_WRITER_ID_BYTES = 64 };

struct chat_writer_choice;

struct chat_writer {
    char id[CHAT_WRITER_ID_BYTES];
    const char *reasoning_format;
    struct buffer head; /* id, object, created, model: what every chunk begins with */
    struct chat_writer_choice *choices;
    int64_t choice_count;
    size_t cap_bytes;
    size_t held_bytes;
    bool is_whole;
    bool failed; /* a cap was passed, or there was no memory */
};

/* Begins an answer. id is "chatcmpl-..." and new for each; reasoning_format names who signs reasoning
 * ("google-gemini-v1", "anthropic-claude-v1": OpenRouter's names), so that its signatures are sent back to no other; it
 * must be a literal, NULL where nobody signs. is_whole: the answer is gathered for chat_writer_write_whole. */
void chat_writer_init(struct chat_writer *writer, const char *id, const char *model, int64_t created_s,
                      const char *reasoning_format, bool is_whole, size_t cap_bytes);
void chat_writer_fini(struct chat_writer *writer);

/* Takes in a part: appends its event to out, or gathers it (then out may be NULL). False when the cap is passed or out
 * failed; then the answer can't be finished. */
MUST_CHECK bool chat_writer_part(struct chat_writer *writer, const struct answer_part *part, struct buffer *out);

/* Ends a stream: appends a finish chunk for each choice that has none yet, with `finish` or, when that is NONE, what
 * fits; when asked for, the usage chunk with its cost (below 0: none); and [DONE]. False when out failed. */
MUST_CHECK bool chat_writer_end(struct chat_writer *writer, enum answer_finish finish, bool with_usage,
                                const struct token_counts *tokens, int64_t cost_nusd, struct buffer *out);

/* Appends the gathered answer. A cost below 0 is left out. False when a cap was passed or out failed. */
MUST_CHECK bool chat_writer_write_whole(struct chat_writer *writer, const struct token_counts *tokens,
                                        int64_t cost_nusd, struct buffer *out);

#endif
