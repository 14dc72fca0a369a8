#include "worker/demo_answer.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/json_write.h"

/* How much of the user's message is quoted back. */
enum { QUOTE_BYTES = 160 };

static const char *const openings[] = {
    "Thank you for asking.",
    "Good question, let me think about it step by step.",
    "Here is a short answer, then a longer one.",
    "Happy to help with that.",
};

static const char *const paragraphs[] = {
    "This answer comes from the demo upstream that is built into tollgate. No model was asked, nothing left this "
    "machine, and "
    "yet every part of the way is the real one: your key was checked, its limits and its budget were looked at, and "
    "each of "
    "these words arrives as an event of its own, at about the pace of a large model.",
    "A relay like tollgate stands between the people who use language models and the companies that serve them. It "
    "gives each "
    "tenant keys, counts tokens as they stream by, and turns them into money exactly once, so that at the end of the "
    "month "
    "the bill and the books say the same.",
    "When you are ready for a real model, name an upstream in the configuration and give it a key of its own. The "
    "request "
    "stays as it is, the path stays as it is, and the words will be better than these.",
    "While this text is streaming you can look at the console to see the request as it runs, or ask the command line "
    "for the "
    "usage of the last hour. Both read the same ledger, and neither will slow the stream down.",
    "Three things are worth trying next: stop this stream in the middle and see what was billed, send the same request "
    "with "
    "a small max_tokens to see it end early, and ask for two choices at once to see their events take turns.",
    "If you wonder how fast this could be, the answer is much faster. The demo waits a little before each word, "
    "because an "
    "answer that is read by people should look like one that is written for them.",
};
enum { OPENINGS = sizeof(openings) / sizeof(openings[0]), PARAGRAPHS = sizeof(paragraphs) / sizeof(paragraphs[0]) };

/* The text of the last user message, in the document of the request; unescaped into out, "" when there is none. */
static void read_question(const struct json_doc *doc, struct buffer *out) {
    int messages = json_member(doc, 0, "messages");
    int content = -1;
    for (int message = json_first(doc, messages); message >= 0; message = json_next(doc, message)) {
        if (json_string_is(doc, json_member(doc, message, "role"), "user")) {
            content = json_member(doc, message, "content");
        }
    }
    for (int part = json_type_of(doc, content) == JSON_ARRAY ? json_first(doc, content) : -1; part >= 0;
         part = json_next(doc, part)) {
        if (json_type_of(doc, json_member(doc, part, "text")) == JSON_STRING) {
            content = json_member(doc, part, "text");
            break;
        }
    }
    if (!json_string(doc, content, out)) {
        buffer_clear(out);
    }
}

/* Appends the question's first line, cut between two characters, in quotes. */
static void quote_question(struct span question, struct buffer *out) {
    const char *line_end = memchr(question.base, '\n', question.len);
    size_t len = line_end != NULL ? (size_t)(line_end - question.base) : question.len;
    bool is_cut = len > QUOTE_BYTES || line_end != NULL;
    len = len > QUOTE_BYTES ? QUOTE_BYTES : len;
    while (len != 0 && len < question.len && ((unsigned char)question.base[len] & 0xC0U) == 0x80U) {
        len--;
    }
    buffer_append_text(out, " You wrote: \"");
    buffer_append(out, question.base, len);
    buffer_append_text(out, is_cut ? "...\"\n\n" : "\"\n\n");
}

/* Says everything a choice may say: an opening, the question, what this is, and other paragraphs as the seed chooses.
 */
static void compose(struct demo_answer *answer, struct span question, uint64_t seed) {
    buffer_append_text(&answer->text, openings[seed % OPENINGS]);
    if (question.len != 0) {
        quote_question(question, &answer->text);
    } else {
        buffer_append_text(&answer->text, "\n\n");
    }
    size_t first = (size_t)(seed / OPENINGS % PARAGRAPHS);
    size_t count = 2 + (size_t)(seed / OPENINGS / PARAGRAPHS % 3);
    for (size_t i = 0; i < count; i++) {
        buffer_append_text(&answer->text, i != 0 ? "\n\n" : "");
        buffer_append_text(&answer->text, paragraphs[i == 0 ? 0 : 1 + (first + i) % (PARAGRAPHS - 1)]);
    }
}

/* The next word of text with the blanks before it; empty at the end. */
static struct span next_word(struct span text) {
    size_t len = 0;
    while (len < text.len && (text.base[len] == ' ' || text.base[len] == '\n')) {
        len++;
    }
    while (len < text.len && text.base[len] != ' ' && text.base[len] != '\n') {
        len++;
    }
    return span_of(text.base, len);
}

/* Counts the words and cuts the text behind the last that max_tokens (0: none) allows. */
static void cap_text(struct demo_answer *answer, int64_t max_tokens) {
    struct span rest = buffer_span(&answer->text);
    for (struct span word = next_word(rest); word.len != 0; word = next_word(rest)) {
        if (max_tokens != 0 && answer->choice_tokens == max_tokens) {
            answer->is_capped = true;
            answer->text.len = (size_t)(word.base - answer->text.base);
            return;
        }
        answer->choice_tokens++;
        rest = span_skip(rest, word.len);
    }
}

bool demo_answer_init(struct demo_answer *answer, struct json_doc *scratch, struct span body, int64_t created_s,
                      const char **error) {
    struct chat_request request;
    struct chat_verdict verdict;
    *error = NULL;
    if (!chat_request_read(scratch, body, &request, &verdict)) {
        *error = "The body is no chat completions request.";
        return false;
    }
    uint64_t seed = hash_fast(body, 0);
    *answer = (struct demo_answer){.created_s = created_s,
                                   .include_usage = request.include_usage,
                                   .choices = request.choices,
                                   .prompt_tokens = request.prompt_tokens};
    (void)snprintf(answer->id, sizeof(answer->id), "chatcmpl-demo%016" PRIx64, hash_fast(body, (uint64_t)created_s));
    (void)span_copy(span_text(request.model), answer->model, sizeof(answer->model));
    buffer_init(&answer->text, DEMO_TEXT_MOST);
    struct buffer question;
    buffer_init(&question, body.len);
    read_question(scratch, &question);
    compose(answer, buffer_span(&question), seed);
    buffer_fini(&question);
    CHECK(!answer->text.failed);
    cap_text(answer, request.max_tokens);
    return true;
}

void demo_answer_fini(struct demo_answer *answer) { buffer_fini(&answer->text); }

int64_t demo_answer_tokens(const struct demo_answer *answer) { return answer->choice_tokens * answer->choices; }

static void write_usage(const struct demo_answer *answer, int64_t completion_tokens, struct json_writer *writer) {
    json_begin_object(writer, "usage");
    json_write_int(writer, "prompt_tokens", answer->prompt_tokens);
    json_write_int(writer, "completion_tokens", completion_tokens);
    json_write_int(writer, "total_tokens", answer->prompt_tokens + completion_tokens);
    json_begin_object(writer, "prompt_tokens_details");
    json_write_int(writer, "cached_tokens", 0);
    json_end_object(writer);
    json_begin_object(writer, "completion_tokens_details");
    json_write_int(writer, "reasoning_tokens", 0);
    json_end_object(writer);
    json_end_object(writer);
}

static void write_head(const struct demo_answer *answer, const char *object, struct json_writer *writer) {
    json_begin_object(writer, NULL);
    json_write_text(writer, "id", answer->id);
    json_write_text(writer, "object", object);
    json_write_int(writer, "created", answer->created_s);
    json_write_text(writer, "model", answer->model);
    json_write_text(writer, "system_fingerprint", "fp_demo");
}

/* One choice of a chunk: the role, a word, or why it ends (finish not NULL). */
static void write_delta(const struct demo_answer *answer, struct span word, const char *finish,
                        struct json_writer *writer) {
    json_begin_array(writer, "choices");
    json_begin_object(writer, NULL);
    json_write_int(writer, "index", answer->choice);
    json_begin_object(writer, "delta");
    if (answer->step == DEMO_ROLE) {
        json_write_text(writer, "role", "assistant");
        json_write_text(writer, "content", "");
    } else if (answer->step == DEMO_TEXT) {
        json_write_span(writer, "content", word);
    }
    json_end_object(writer);
    json_write_null(writer, "logprobs");
    json_write_text(writer, "finish_reason", finish);
    json_end_object(writer);
    json_end_array(writer);
    if (answer->include_usage) {
        json_write_null(writer, "usage");
    }
}

static void write_chunk(const struct demo_answer *answer, struct buffer *out) {
    struct span word = next_word(span_skip(buffer_span(&answer->text), answer->word_at));
    const char *finish = answer->is_capped ? "length" : "stop";
    struct json_writer writer = json_writer_on(out);
    write_head(answer, "chat.completion.chunk", &writer);
    if (answer->step == DEMO_USAGE) {
        json_begin_array(&writer, "choices");
        json_end_array(&writer);
        write_usage(answer, answer->sent_tokens, &writer);
    } else {
        write_delta(answer, word, answer->step == DEMO_FINISH ? finish : NULL, &writer);
    }
    json_end_object(&writer);
}

/* Moves on: the choices take turns; each step is made for all of them before the next. */
static void advance(struct demo_answer *answer) {
    if (answer->step < DEMO_USAGE && ++answer->choice < answer->choices) {
        return;
    }
    answer->choice = 0;
    if (answer->step == DEMO_TEXT) {
        answer->word_at += next_word(span_skip(buffer_span(&answer->text), answer->word_at)).len;
        if (++answer->word < answer->choice_tokens) {
            return;
        }
    }
    answer->step++;
    if (answer->step == DEMO_USAGE && !answer->include_usage) {
        answer->step = DEMO_DONE;
    }
}

bool demo_answer_next(struct demo_answer *answer, struct buffer *out, bool *is_token) {
    *is_token = answer->step == DEMO_TEXT;
    if (answer->step == DEMO_OVER || out->failed) {
        return false;
    }
    answer->sent_tokens += *is_token;
    buffer_append_text(out, "data: ");
    if (answer->step == DEMO_DONE) {
        buffer_append_text(out, "[DONE]");
    } else {
        write_chunk(answer, out);
    }
    buffer_append_text(out, "\n\n");
    advance(answer);
    return !out->failed;
}

static void write_choice(const struct demo_answer *answer, int64_t index, struct json_writer *writer) {
    json_begin_object(writer, NULL);
    json_write_int(writer, "index", index);
    json_begin_object(writer, "message");
    json_write_text(writer, "role", "assistant");
    json_write_span(writer, "content", buffer_span(&answer->text));
    json_write_null(writer, "refusal");
    json_end_object(writer);
    json_write_null(writer, "logprobs");
    json_write_text(writer, "finish_reason", answer->is_capped ? "length" : "stop");
    json_end_object(writer);
}

void demo_answer_whole(struct demo_answer *answer, struct buffer *out) {
    struct json_writer writer = json_writer_on(out);
    write_head(answer, "chat.completion", &writer);
    json_begin_array(&writer, "choices");
    for (int64_t i = 0; i < answer->choices; i++) {
        write_choice(answer, i, &writer);
    }
    json_end_array(&writer);
    write_usage(answer, demo_answer_tokens(answer), &writer);
    json_end_object(&writer);
    answer->step = DEMO_OVER;
}
