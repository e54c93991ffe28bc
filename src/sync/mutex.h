/* mutex.h - the inner side of the mutex: what cond.c needs of it. mutex.c has the invariants and the protocol. */
#ifndef SL_MUTEX_H
#define SL_MUTEX_H

#include "plat/cpu.h"
#include "sched/park.h"

#include <sley/sync.h>

struct sl_mutex { /* zeroed memory is valid */
    _Atomic(struct sl_fiber *) owner;
    struct sl_lock      lock;
    _Atomic(uint8_t)    waiting; /* enum sl_mutex_waiting; written under the lock, read by who unlocks */
    uint8_t             woken;   /* a waiter was made ready to compete and has not looked yet; under the lock */
    uint32_t            asking;  /* so many are making a membarrier before they look again; under the lock */
    struct sl_wait_list waiters; /* value: when it began to wait; result: enum told */
};

_Static_assert(sizeof(struct sl_mutex) <= sizeof(sley_mutex) && _Alignof(struct sl_mutex) <= _Alignof(sley_mutex),
               "fits the public struct");

/* ASKED: somebody wants to wait. SETTLED: and a membarrier was made since then, so every unlock that begins now sees it. */
enum sl_mutex_waiting { SL_MUTEX_NOBODY, SL_MUTEX_ASKED, SL_MUTEX_SETTLED };

static inline struct sl_mutex *sl_mutex_of(sley_mutex *m)
{
    return (struct sl_mutex *)(void *)m;
}

/* What f->wait_object is while f unlocks m: no address of an object, nor what an operation leaves there. */
static inline const void *sl_mutex_mark(const struct sl_mutex *m)
{
    return (const void *)((uintptr_t)m | (uintptr_t)1 << (8 * sizeof(uintptr_t) - 1) | 1);
}

/* For f, nobody else: true: it holds m now. */
static inline bool sl_mutex_try(struct sl_mutex *m, struct sl_fiber *f)
{
    struct sl_fiber *nobody = NULL;

    return sl_cas_acq_rel(&m->owner, &nobody, f); /* [mutex.1] */
}

/* Whether f holds m; f is the caller's own, so nobody else changes the answer. */
static inline bool sl_mutex_is_held_by(struct sl_mutex *m, const struct sl_fiber *f)
{
    return sl_load_relaxed(&m->owner) == f;
}

/* f holds m. true: it is unlocked and must not be touched any more. false: somebody waits, m is still held. */
static inline __attribute__((always_inline)) bool sl_mutex_unlock_quick(struct sl_mutex *m, struct sl_fiber *f)
{
    bool quick;

    sl_store_relaxed(&f->wait_object, sl_mutex_mark(m)); /* [mutex.2] */
    if (__builtin_expect(sl_use_membarrier, 1))
        sl_compiler_barrier(); /* [mutex.2] light side */
    else
        sl_fence_seq_cst(); /* [mutex.2] */
    quick = sl_load_relaxed(&m->waiting) == SL_MUTEX_NOBODY; /* [mutex.2] */
    if (__builtin_expect(quick, 1))
        sl_store_release(&m->owner, NULL); /* [mutex.1] [mutex.3] */
    sl_store_release(&f->wait_object, NULL); /* [mutex.3] */
    return quick;
}

void sl_mutex_unlock_slow(struct sl_mutex *m, struct sl_fiber *f);

/* The caller, f, has just found m held by somebody else. 0; with a deadline also -ETIMEDOUT, -ENOMEM. -ECHILD: a forked child. */
int sl_mutex_lock_slow(struct sl_mutex *m, struct sl_fiber *f, sley_time deadline);

#endif
