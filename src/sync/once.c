/* once.c - a function that runs once, whoever comes first, and whose result everybody gets.
 *
 *   O1  `state` goes NEW, RUNNING, DONE, under the lock. Who makes it RUNNING is the runner: it calls the function with no lock held, in
 *       its own scope, and no deadline of a call reaches it.
 *   O2  `result` is stored before DONE and never changes. Who reads DONE, without the lock even, reads it [once.1]; waiters are given it.
 *   O3  A waiter links itself only while the function runs, so nobody comes to the list after DONE.
 *   O4  An error is a result like any other: the function does not run again.
 * A once may be freed when every call on it has returned.
 *
 * order [once.1]: the result, and whatever the function did, before DONE is stored; who finds DONE acquires it. */
#include "base/assert.h"
#include "sync/wake.h"

#include <sley/sync.h>

struct once { /* zeroed memory is valid */
    struct sl_lock      lock;
    _Atomic(uint8_t)    state;  /* enum state; [once.1] */
    int32_t             result;
    _Atomic(struct sl_fiber *) runner; /* while RUNNING; without the lock only to be compared with oneself */
    struct sl_wait_list waiters;
};

_Static_assert(sizeof(struct once) <= sizeof(sley_once) && _Alignof(struct once) <= _Alignof(sley_once), "fits the public struct");

enum state { NEW, RUNNING, DONE };

/* state is RUNNING: wait for the result. rc gets what the call returns. */
static inline __attribute__((always_inline)) int wait_for_runner(struct once *o, struct sl_fiber *f, sley_time deadline)
{
    struct sl_wait_node node;
    unsigned why;
    int rc = sl_wait_begin(f, deadline, SL_WAIT_ONCE, o);

    if (rc < 0)
        return rc;
    sl_lock_acquire(&o->lock);
    if (sl_load_relaxed(&o->state) == DONE || sl_cancelled(f)) { /* under the lock */
        rc = sl_load_relaxed(&o->state) == DONE ? o->result : -ECANCELED; /* under the lock */
        sl_wait_end(f);
        sl_lock_release(&o->lock);
        return rc;
    }
    sl_node_init(&node, f);
    sl_wait_list_push(&o->waiters, &node);
    why = sl_park(&o->lock);
    if (why == SL_ARM_EVENT)
        return node.result;
    sl_lock_acquire(&o->lock);
    if (sl_node_linked(&node))
        sl_wait_list_remove(&o->waiters, &node);
    sl_lock_release(&o->lock);
    return why == SL_ARM_TIMEOUT ? -ETIMEDOUT : -ECANCELED;
}

static void finish(struct once *o, int result)
{
    struct sl_woken woken = { NULL, NULL };
    struct sl_wait_node *n;

    sl_lock_acquire(&o->lock);
    o->result = result;
    sl_store_relaxed(&o->runner, NULL);
    sl_store_release(&o->state, DONE); /* [once.1] */
    for (;;) {
        unsigned room = SL_WAKE_ALL_BATCH;

        while ((n = o->waiters.head) != NULL && room > 0)
            if (sl_wake_node(&o->waiters, n, &room, &woken))
                n->result = result;
        sl_lock_release(&o->lock);
        if (n == NULL)
            break;
        sl_woken_ready_but_last(&woken);
        sl_lock_acquire(&o->lock);
    }
    sl_woken_ready(&woken);
}

int sley_once_run(sley_once *once, sley_fn *fn, void *arg, sley_time deadline)
{
    struct once *o = (struct once *)(void *)once;
    struct sl_fiber *f;
    unsigned state;
    int rc;

    if (o == NULL || fn == NULL || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    f = sl_current();
    if (sl_streak_cancelled(f))
        return -ECANCELED;
    if (sl_load_acquire(&o->state) == DONE) /* [once.1] */
        return o->result;
    if (sl_load_relaxed(&o->runner) == f) /* nobody else changes that */
        return -EDEADLK;
    sl_lock_acquire(&o->lock);
    state = sl_load_relaxed(&o->state); /* under the lock */
    if (state == NEW) {
        sl_store_relaxed(&o->state, RUNNING); /* under the lock */
        sl_store_relaxed(&o->runner, f);      /* under the lock */
    }
    sl_lock_release(&o->lock);
    if (state != NEW)
        return wait_for_runner(o, f, deadline);
    rc = fn(arg);
    finish(o, rc);
    return rc;
}
