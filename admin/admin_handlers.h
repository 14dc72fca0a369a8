/* admin/admin_handlers.h - the handlers of the routing table, one family a file.
 * Used by: admin_api.c. Each fills the call's answer. Those of LANE_OPERATIONS and LANE_STORE may wait for the ledger
 * and the disk; the others never wait. */
#ifndef TOLLGATE_ADMIN_ADMIN_HANDLERS_H
#define TOLLGATE_ADMIN_ADMIN_HANDLERS_H

#include "admin/admin_call.h"

/* admin_console.c: the console's files, by call->path. LANE_NONE. */
void admin_console(struct admin_call *call, struct admin_tools *tools);

/* admin_console.c: where the relay listens, for the playground. LANE_NONE. */
void admin_playground(struct admin_call *call, struct admin_tools *tools);

/* admin_status.c: what the segment says about the server. LANE_NONE. */
void admin_health(struct admin_call *call, struct admin_tools *tools);
void admin_status(struct admin_call *call, struct admin_tools *tools);

/* admin_operation.c: one operation of store/client.h. LANE_OPERATIONS. */
void admin_operation(struct admin_call *call, struct admin_tools *tools);

/* admin_usage.c: the usage report and single requests. LANE_STORE. */
void admin_usage(struct admin_call *call, struct admin_tools *tools);
void admin_requests(struct admin_call *call, struct admin_tools *tools);
void admin_request(struct admin_call *call, struct admin_tools *tools);

/* admin_openai.c: usage and costs in OpenAI's form. LANE_STORE. */
void admin_openai_usage(struct admin_call *call, struct admin_tools *tools);
void admin_openai_costs(struct admin_call *call, struct admin_tools *tools);

/* admin_metrics.c: Prometheus text. LANE_STORE. */
void admin_metrics(struct admin_call *call, struct admin_tools *tools);

#endif
