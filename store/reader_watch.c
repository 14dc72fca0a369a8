#include "store/reader_watch.h"

#include <signal.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/sweep.h"

static const int64_t patience_ns = 60 * NS_PER_S;

static void warn(struct reader_watch *watch, uint64_t grown_bytes) {
    LOG(LOG_WARN, "reader_holds_books", log_int("reader", watch->reader.pid),
        log_int("grown_bytes", (int64_t)grown_bytes),
        log_text("effect", "the ledger's file grows while this process reads; end it if it is stopped or hangs"));
    watch->warned = true;
}

static bool end_reader(struct reader_watch *watch, uint64_t grown_bytes) {
    pid_t pid = watch->reader.pid;
    if (!sweep_is_ours(pid) || kill(pid, SIGKILL) != 0) {
        if (!watch->warned) {
            warn(watch, grown_bytes);
        }
        return false;
    }
    LOG(LOG_WARN, "reader_ended", log_int("reader", pid), log_int("grown_bytes", (int64_t)grown_bytes),
        log_text("why", "it kept one snapshot so long that the ledger's file grew too much"));
    watch->reader.pid = 0;
    return true;
}

/* As kv_oldest_reader, after freeing the slot of one that died. */
static bool find_oldest(struct kv *kv, struct kv_reader *oldest) {
    bool found = kv_oldest_reader(kv, oldest);
    if (!found || !sweep_is_gone(oldest->pid)) {
        return found;
    }
    (void)kv_check_readers(kv);
    return kv_oldest_reader(kv, oldest);
}

bool reader_watch_step(struct reader_watch *watch, struct kv *kv, int64_t now_mono_ns, uint64_t growth_bytes) {
    struct kv_reader oldest;
    if (!find_oldest(kv, &oldest)) {
        watch->reader.pid = 0;
        return false;
    }
    uint64_t used_bytes = kv_used_bytes(kv);
    if (oldest.pid != watch->reader.pid || oldest.snapshot != watch->reader.snapshot) {
        *watch = (struct reader_watch){.reader = oldest, .since_mono_ns = now_mono_ns, .used_bytes = used_bytes};
        return false;
    }
    uint64_t grown_bytes = used_bytes > watch->used_bytes ? used_bytes - watch->used_bytes : 0;
    if (grown_bytes > growth_bytes && grown_bytes > watch->used_bytes) {
        return end_reader(watch, grown_bytes);
    }
    if (!watch->warned && now_mono_ns - watch->since_mono_ns >= patience_ns) {
        warn(watch, grown_bytes);
    }
    return false;
}
