#include "admin/admin_handlers.h"
#include "shm/shm_status.h"

void admin_health(struct admin_call *call, struct admin_tools *tools) {
    (void)tools;
    buffer_append_text(&call->answer, "{\"status\":\"ok\"}");
    call_done(call, 200);
}

void admin_status(struct admin_call *call, struct admin_tools *tools) {
    shm_status_write(&call->answer, tools->map);
    call_done(call, 200);
}
