/* scope.h - for the other files of src/task: opening and closing a scope in the library's own frames. */
#ifndef SL_TASK_SCOPE_H
#define SL_TASK_SCOPE_H

#include "sched/arm.h"

/* Open s, without a deadline, inside the innermost scope of f, the running fiber. */
void sl_scope_open(struct sl_scope *s, struct sl_fiber *f, enum sl_scope_kind kind);

/* Close it: as sley_scope_wait. */
int sl_scope_close(struct sl_scope *s, struct sl_fiber *f, int rc, sley_time deadline);

extern const struct sl_arm_ops sl_scope_arm;

#endif
