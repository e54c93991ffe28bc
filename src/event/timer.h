/* timer.h - timers: a 4-ary heap a worker, and one entry a waiter.
 *
 *   T1  A timer is in at most one heap; `at` and `key` change only under that heap's lock. `heap` says which one; it is the
 *       scheduler's (sched/timeout.c), not touched here, and changes only under that heap's lock too.
 *   T2  The waiter stores `deadline`, then its wait word; expiry reads the word, then the deadline. So a deadline that belongs to a
 *       later wait meets a word that a claim with the older one does not match.
 *   T3  `key`, where the entry stands, may be earlier than `deadline`: moving a deadline back is one store, and expiry re-inserts.
 *   T4  Keys are (when, sequence), so that equal times fire in the order in which they were armed. */
#ifndef SL_TIMER_H
#define SL_TIMER_H

#include "base/lock.h"

#include <stdint.h>

#define SL_TIME_NONE INT64_MAX

enum sl_timer_kind { SL_TIMER_FIBER, SL_TIMER_SCOPE }; /* whose: what the scheduler finds around the timer */

struct sl_timer {
    _Atomic(int64_t) deadline; /* of the present wait; SL_TIME_NONE: none. Written by the waiter */
    _Atomic(int64_t) key;      /* where the entry stands; SL_TIME_NONE: in no heap. Written under the heap's lock; hint for the waiter */
    uint32_t         at;       /* index in the heap */
    _Atomic(uint16_t) heap;    /* number of the heap + 1; 0: none */
    uint16_t         kind;     /* enum sl_timer_kind; constant */
};

struct sl_timer_entry {
    int64_t          when;
    uint64_t         sequence;
    struct sl_timer *timer;
};

struct sl_timer_heap {
    struct sl_lock         lock;
    uint16_t               number;
    uint32_t               count, capacity;
    uint64_t               sequence;
    struct sl_timer_entry *entries;
    _Atomic(int64_t)       first; /* `when` of the earliest entry, SL_TIME_NONE if empty; hint for those without the lock */
};

void sl_timer_heap_init(struct sl_timer_heap *h, uint16_t number);
void sl_timer_heap_fini(struct sl_timer_heap *h);

/* The next four hold h->lock. */
int  sl_timer_heap_insert(struct sl_timer_heap *h, struct sl_timer *t, int64_t when); /* 0; -ENOMEM */
void sl_timer_heap_remove(struct sl_timer_heap *h, struct sl_timer *t);
struct sl_timer *sl_timer_heap_top(const struct sl_timer_heap *h, int64_t now);       /* the earliest if it is due by now, else NULL */
void sl_timer_heap_rekey(struct sl_timer_heap *h, struct sl_timer *t, int64_t when);  /* t is in h */

#endif
