/* blocking.h - the pool of threads behind sley_blocking: one a runtime, threads made on demand. */
#ifndef SL_BLOCKING_H
#define SL_BLOCKING_H

#include "base/lock.h"
#include "sched/node.h"

#include <sley/base.h>

struct sley_runtime;
struct sl_pool_thread;

struct sl_blocking { /* all under the lock but what says otherwise */
    struct sl_lock         lock;
    uint32_t               threads_max; /* fixed */
    int64_t                idle_ns;     /* after which a thread without a job leaves; fixed but in tests */
    const char            *name;        /* of the runtime, for the threads' names; fixed */
    struct sl_wait_list    queue;       /* jobs that no thread has taken; B1 */
    struct sl_pool_thread *idle;        /* the one that went idle last stands first */
    struct sl_pool_thread *ended;       /* the one that left last: still to be joined */
    uint32_t               made;        /* threads ever, for their names */
    _Atomic(uint32_t)      threads;     /* that are there or being made; written under the lock */
    _Atomic(uint64_t)      calls;       /* begun */
    uint32_t               shared;      /* of sl_blocking_share_begin */
};

/* sley_blocking, on a fiber, of a call that may be ended while it waits for its turn, and after it has begun: by the deadline, a cancel,
 * and by sl_op_cancel, which finds the wait by its sequence. Before each wait, with no lock held, arm(ctx) hears of it, and may refuse
 * it with an error. Once it has begun, to end it means to set *interrupted and to signal its thread until fn returns: fn's result
 * counts, unless that is -EINTR. -ETIMEDOUT, -ECANCELED; -EBADF: by SL_ARM_CLOSE. */
int sl_blocking_call(sley_fn *fn, void *arg, sley_time deadline, int (*arm)(void *ctx), void *ctx, _Atomic(uint8_t) *interrupted);

/* On a fiber: take part of the half of the pool that calls may have which wait for other fibers of the program. false: it is taken. */
bool sl_blocking_share_begin(void);
void sl_blocking_share_end(void); /* in the same runtime */

void sl_blocking_init(struct sl_blocking *p, uint32_t threads_max, const char *name);

/* No fiber is left: let the threads end, and join them. */
void sl_blocking_stop(struct sl_blocking *p);

#endif
