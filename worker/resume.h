/* worker/resume.h - what requests ask of the journal: resumable streams (x-tollgate-resume, GET /v1/stream),
 * coming back to one (Last-Event-ID), and Idempotency-Key.
 * Used by: admission and the endpoints. */
#ifndef TOLLGATE_WORKER_RESUME_H
#define TOLLGATE_WORKER_RESUME_H

#include "worker/request.h"

/* Before the body is read: makes the body of GET /v1/stream out of its query, and copies one that must outlive its
 * client. Sets request->input.body then. */
struct verdict resume_keep_body(struct request *request);

/* When the request is understood, before anything is taken for it: puts a journal front between it and its client if it
 * is resumable or has an Idempotency-Key; or makes it a reader (request->reader) of the answer it repeats. */
struct verdict resume_begin(struct request *request);

/* Does a GET /v1/stream come back to a stream it had? */
bool resume_is_asked(const struct request *request);

/* GET /v1/streams/{id}, and GET /v1/stream when resume_is_asked: request->reader is set, or it is answered. */
struct verdict resume_answer(struct request *request);

/* For any front: makes the request a reader of its key's stream `request_id` from behind event `after` on. With
 * *is_over that event was the last one and nothing was attached. */
struct verdict resume_follow(struct request *request, struct span request_id, uint32_t after, bool *is_over);

#endif
