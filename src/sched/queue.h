/* queue.h - an unbounded FIFO of fibers under a lock: overflow lists, mailboxes, the inject queue, starved fibers.
 *
 *   Q1  `count` changes only under the lock; read without it, it is a hint that is exact when nobody is changing the queue.
 * order [queue.1]: count is stored with release under the lock and acquired by those who look without it. */
#ifndef SL_QUEUE_H
#define SL_QUEUE_H

#include "sched/fiber.h"

struct sl_queue {
    struct sl_lock    lock;
    _Atomic(uint32_t) count;
    struct sl_fiber  *head, *tail;
};

static inline uint32_t sl_queue_count(const struct sl_queue *q)
{
    return sl_load_acquire(&q->count); /* [queue.1] */
}

static inline void sl_queue_push(struct sl_queue *q, struct sl_fiber *f)
{
    sl_store_relaxed(&f->next, NULL);
    sl_lock_acquire(&q->lock);
    if (q->tail != NULL)
        sl_store_relaxed(&q->tail->next, f); /* under the lock */
    else
        q->head = f;
    q->tail = f;
    sl_store_release(&q->count, sl_load_relaxed(&q->count) + 1); /* [queue.1] */
    sl_lock_release(&q->lock);
}

/* Take up to max from the front as a list linked by `next`; *taken of them. */
static inline struct sl_fiber *sl_queue_take(struct sl_queue *q, uint32_t max, uint32_t *taken)
{
    struct sl_fiber *first, *last;
    uint32_t n = 0;

    *taken = 0;
    if (max == 0 || sl_queue_count(q) == 0)
        return NULL;
    sl_lock_acquire(&q->lock);
    first = last = q->head;
    if (first != NULL) {
        for (n = 1; n < max && sl_load_relaxed(&last->next) != NULL; n++)
            last = sl_load_relaxed(&last->next);
        q->head = sl_load_relaxed(&last->next);
        if (q->head == NULL)
            q->tail = NULL;
        sl_store_relaxed(&last->next, NULL);
        sl_store_release(&q->count, sl_load_relaxed(&q->count) - n); /* [queue.1] */
    }
    sl_lock_release(&q->lock);
    *taken = n;
    return first;
}

#endif
