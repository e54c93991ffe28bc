/* scope.h - for the other files of src/task: opening and closing a scope in the library's own frames. */
#ifndef SL_TASK_SCOPE_H
#define SL_TASK_SCOPE_H

#include "sched/arm.h"

/* Open s, without a deadline, inside the innermost scope of f, the running fiber. */
void sl_scope_open(struct sl_scope *s, struct sl_fiber *f, enum sl_scope_kind kind);

/* Close it: as sley_scope_wait. */
int sl_scope_close(struct sl_scope *s, struct sl_fiber *f, int rc, sley_time deadline);

/* The body of a generator steps out, to yield: f, which stands in the innermost of the body's own scopes, of which `outermost` is the
 * first, stands around them again, and they move into home, which is open. `shields`: how many are open around them, from now on f's.
 * Returns how many are open in the innermost. Stepping in is the reverse, into the scope where f stands then. */
uint8_t sl_scope_step_out(struct sl_fiber *f, struct sl_scope *outermost, struct sl_scope *home, uint8_t shields);
void sl_scope_step_in(struct sl_fiber *f, struct sl_scope *outermost, struct sl_scope *innermost, uint8_t shields);

extern const struct sl_arm_ops sl_scope_arm;

#endif
