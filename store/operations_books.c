#include "store/backup.h"
#include "store/operation.h"
#include "store/verify.h"

bool operation_flush(struct operation *op) {
    struct json_writer json = json_writer_on(op->result);
    int64_t lag_records = op->on->flush == NULL ? 0 : op->on->flush(op->on->context);
    if (lag_records < 0) {
        return operation_fail(op, "unavailable", NULL, "the ledger cannot commit: its log says why");
    }
    json_begin_object(&json, NULL);
    json_write_int(&json, "lag_records", lag_records);
    json_end_object(&json);
    return true;
}

/* These take as long as the books are big; beside a server they run in the caller's own process (client.c). */
static bool refuse_in_server(struct operation *op, const char *name) {
    return op->on->publisher == NULL ||
           operation_fail(op, "unavailable", NULL, "%s does not run in the server: use the command line", name);
}

bool operation_verify(struct operation *op) {
    struct json_writer json = json_writer_on(op->result);
    struct buffer error;
    uint64_t records = 0;
    if (!refuse_in_server(op, "verify")) {
        return false;
    }
    buffer_init(&error, 4096);
    json_begin_object(&json, NULL);
    json_begin_array(&json, "problems");
    int64_t problem_count = verify_books(op->on->ledger, &json, &records, &error);
    if (problem_count > VERIFY_PROBLEMS_SHOWN) {
        json_write_text(&json, NULL, "and more");
    }
    json_end_array(&json);
    json_write_int(&json, "problem_count", problem_count);
    json_write_int(&json, "records", (int64_t)records);
    json_end_object(&json);
    bool done = problem_count >= 0 || operation_fail(op, "unavailable", NULL, "%s", buffer_text(&error));
    buffer_fini(&error);
    return done;
}

bool operation_backup(struct operation *op) {
    struct json_writer json = json_writer_on(op->result);
    struct buffer error;
    char dir[3072];
    if (!refuse_in_server(op, "backup") || !operation_text(op, "dir", dir, sizeof dir)) {
        return false;
    }
    buffer_init(&error, 4096);
    bool done =
        backup_to(op->on->ledger, dir, &error) || operation_fail(op, "unavailable", "dir", "%s", buffer_text(&error));
    json_begin_object(&json, NULL);
    json_write_text(&json, "dir", dir);
    json_end_object(&json);
    buffer_fini(&error);
    return done;
}

bool operation_compact(struct operation *op) {
    struct json_writer json = json_writer_on(op->result);
    struct buffer error;
    int64_t before_bytes = 0;
    int64_t after_bytes = 0;
    buffer_init(&error, 4096);
    bool done = backup_compact(op->on->ledger, &before_bytes, &after_bytes, &error) ||
                operation_fail(op, "unavailable", NULL, "%s", buffer_text(&error));
    json_begin_object(&json, NULL);
    json_write_int(&json, "before_bytes", before_bytes);
    json_write_int(&json, "after_bytes", after_bytes);
    json_end_object(&json);
    buffer_fini(&error);
    return done;
}
