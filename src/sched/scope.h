/* scope.h - what a fiber belongs to: where its errors go and what may tell it to stop. In this version every runtime has one scope,
 * the root; sub-scopes will hang below it.
 *
 * order [cancel.1]: the canceller stores `cancelled`, fences, then looks at each fiber's wait word; a fiber stores (sequence, ARMING),
 * passes a full barrier (the object's lock), then reads `cancelled`. At least one of them sees the other. */
#ifndef SL_SCOPE_H
#define SL_SCOPE_H

#include "base/atomic.h"

struct sley_runtime;

struct sl_scope {
    struct sley_runtime *rt;        /* NULL: sl_scope_nowhere */
    _Atomic(uint8_t)     cancelled; /* [cancel.1] */
    uint8_t              isolated;  /* a child's error stops nobody */
    _Atomic(int)         error;     /* the first error of a child of a scope that is not isolated */
};

extern struct sl_scope sl_scope_nowhere;

/* Cancel s: every fiber of it that waits, or would, gets -ECANCELED. From any thread; again: nothing. */
void sl_scope_cancel(struct sl_scope *s);

#endif
