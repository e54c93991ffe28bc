/* queue.c - a queue that knows when its work is done, like Python's queue.Queue and asyncio.Queue: who gets an entry says task_done when
 * he is through with it, and join waits until that has been said of every entry.
 *
 * It has no bound: the workers that take from it are those that put into it, and all of them at once could wait for room. The list is
 * made of the entries themselves, so to put one takes no memory and cannot fail.
 *
 *   Q1  under no lock: the permits of `ready` are no more than the entries of the list, so who has taken one finds an entry.
 *   Q2  under the lock: `finished` is set if and only if unfinished is 0. */
#include "crawler.h"
#include <stdio.h>
#include <stdlib.h>

void queue_init(struct queue *q)
{
    *q = (struct queue){ .last = &q->first };
    sley_event_set(&q->finished);
}

void queue_put(struct queue *q, struct queue_entry *e)
{
    e->next = NULL;
    sley_mutex_lock(&q->lock, SLEY_FOREVER);
    *q->last = e;
    q->last = &e->next;
    q->length++;
    if (q->unfinished++ == 0)
        sley_event_reset(&q->finished);
    sley_mutex_unlock(&q->lock);
    sley_sem_post(&q->ready);
}

int queue_get(struct queue *q, struct queue_entry **out, sley_time deadline)
{
    int rc = sley_sem_wait(&q->ready, deadline);

    if (rc < 0)
        return rc;
    sley_mutex_lock(&q->lock, SLEY_FOREVER);
    *out = q->first;
    q->first = q->first->next;
    if (q->first == NULL)
        q->last = &q->first;
    q->length--;
    sley_mutex_unlock(&q->lock);
    return 0;
}

void queue_task_done(struct queue *q)
{
    sley_mutex_lock(&q->lock, SLEY_FOREVER);
    if (q->unfinished == 0) {
        fputs("queue_task_done: said more often than entries were put\n", stderr);
        abort();
    }
    if (--q->unfinished == 0)
        sley_event_set(&q->finished);
    sley_mutex_unlock(&q->lock);
}

int queue_join(struct queue *q, sley_time deadline)
{
    return sley_event_wait(&q->finished, deadline);
}

sley_case queue_case_join(struct queue *q)
{
    return sley_case_event(&q->finished);
}

size_t queue_length(struct queue *q)
{
    size_t length;

    sley_mutex_lock(&q->lock, SLEY_FOREVER);
    length = q->length;
    sley_mutex_unlock(&q->lock);
    return length;
}
