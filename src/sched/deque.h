/* deque.h - a worker's ready fibers: a bounded FIFO, one owner, many thieves.
 *
 *   D1  head <= tail <= head + capacity, as wrapping differences.
 *   D2  slots [head, tail) each hold a runnable fiber that no other queue holds.
 *   D3  only the owner stores tail; anyone moves head, and only by compare-and-swap after having read the slots it takes.
 * First in, first out on purpose: a queue that serves some again before others have been served once spoils the tail.
 * Rejected: a ring that grows (thieves may still read the old one); spilling half to a shared queue (p99.9 of 236 ms against 4.5,
 * simulated with 1,000 clients): what does not fit goes to the worker's own overflow list, queue.h.
 *
 * order [deque.1]: the owner stores tail with release after the slot; a thief acquires tail before it reads slots.
 * order [deque.2]: whoever takes moves head with release after reading the slot; the owner acquires head before it reuses the slot. */
#ifndef SL_DEQUE_H
#define SL_DEQUE_H

#include "sched/fiber.h"

struct sl_deque {
    _Alignas(64) _Atomic(uint32_t) head;
    _Alignas(64) _Atomic(uint32_t) tail;
    _Atomic(struct sl_fiber *)     slot[SL_DEQUE_CAP];
};

static inline uint32_t sl_deque_count(const struct sl_deque *d) /* hint unless the owner asks: then too large at most */
{
    return sl_load_relaxed(&d->tail) - sl_load_relaxed(&d->head);
}

/* Owner. false: full. */
static inline bool sl_deque_push(struct sl_deque *d, struct sl_fiber *f)
{
    uint32_t tail = sl_load_relaxed(&d->tail); /* owner only */

    if (tail - sl_load_acquire(&d->head) == SL_DEQUE_CAP) /* [deque.2] */
        return false;
    sl_store_relaxed(&d->slot[tail % SL_DEQUE_CAP], f);
    sl_store_release(&d->tail, tail + 1); /* [deque.1] */
    return true;
}

/* Owner. The oldest, or NULL. */
static inline struct sl_fiber *sl_deque_pop(struct sl_deque *d)
{
    uint32_t head = sl_load_relaxed(&d->head), tail = sl_load_relaxed(&d->tail);

    while (head != tail) {
        struct sl_fiber *f = sl_load_relaxed(&d->slot[head % SL_DEQUE_CAP]);

        if (sl_cas_acq_rel(&d->head, &head, head + 1)) /* [deque.2] */
            return f;
    }
    return NULL;
}

/* Thief: move half of what `from` holds (at least one) into `out`, room for SL_DEQUE_CAP / 2 + 1; how many. */
static inline uint32_t sl_deque_steal(struct sl_deque *from, struct sl_fiber **out)
{
    uint32_t head = sl_load_acquire(&from->head);

    for (;;) {
        uint32_t n = sl_load_acquire(&from->tail) - head; /* [deque.1] */

        n -= n / 2;
        if (n == 0)
            return 0;
        if (n > SL_DEQUE_CAP / 2) { /* head moved between the two loads */
            head = sl_load_acquire(&from->head);
            continue;
        }
        for (uint32_t i = 0; i < n; i++)
            out[i] = sl_load_relaxed(&from->slot[(head + i) % SL_DEQUE_CAP]);
        if (sl_cas_acq_rel(&from->head, &head, head + n)) /* [deque.2] */
            return n;
    }
}

#endif
