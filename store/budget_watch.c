#include "store/budget_watch.h"

#include "base/log.h"

enum { PERCENT = 100 };

/* The limit of one window, -1: none. Credit is a limit on what a tenant spends in all. */
static int64_t limit_of(const struct shm_map *map, bool of_tenant, uint32_t account, enum shm_window window) {
    const struct shm_limits_sh *limits = of_tenant ? &shm_tenant(map, account)->limits : &shm_key(map, account)->limits;
    int64_t limit_nusd = limits->budget_nusd[window];
    if (of_tenant && window == SHM_WINDOW_TOTAL && shm_tenant(map, account)->has_credit != 0) {
        int64_t credit_nusd = atomic_load(&shm_tenant_account(map, account)->credit_nusd);
        limit_nusd = limit_nusd < 0 || credit_nusd < limit_nusd ? credit_nusd : limit_nusd;
    }
    return limit_nusd;
}

void budget_watch_spend(const struct shm_map *map, const struct conf *conf, bool of_tenant, uint32_t account,
                        enum shm_window window, int64_t before_nusd, int64_t after_nusd) {
    static const char *const names[SHM_WINDOWS] = {"day", "month", "total"};
    int64_t limit_nusd = limit_of(map, of_tenant, account, window);
    if (conf->budget_warning_percent == 0 || limit_nusd <= 0) {
        return;
    }
    int64_t mark_nusd = limit_nusd / PERCENT * conf->budget_warning_percent +
                        limit_nusd % PERCENT * conf->budget_warning_percent / PERCENT;
    if (before_nusd >= mark_nusd || after_nusd < mark_nusd) {
        return;
    }
    const char *tenant =
        of_tenant ? shm_tenant(map, account)->name : shm_tenant(map, shm_key(map, account)->tenant_index)->name;
    atomic_fetch_add(&map->header->budget_warnings, 1);
    LOG(LOG_WARN, "budget_warning", log_text("tenant", tenant),
        log_text("key", of_tenant ? "" : shm_key(map, account)->id), log_text("window", names[window]),
        log_nusd("spent_usd", after_nusd), log_nusd("budget_usd", limit_nusd),
        log_int("warns_at_percent", conf->budget_warning_percent));
}
