/* wake.h - waiters that were claimed under an object's lock, on their way to being ready after it.
 *
 * Between claim and sl_ready a fiber is in no queue, so its `next` is the claimer's (F2); a list of them needs no memory. */
#ifndef SL_WAKE_H
#define SL_WAKE_H

#include "sched/park.h"

struct sl_woken {
    struct sl_fiber *first, *last;
};

static inline void sl_woken_add(struct sl_woken *w, struct sl_fiber *f)
{
    if (w->first == NULL)
        w->first = f;
    else
        sl_store_relaxed(&w->last->next, f); /* the claimer's alone */
    w->last = f;
}

/* After the unlock: one waiter was handed something and runs next, several get in line. */
static inline void sl_woken_ready(const struct sl_woken *w)
{
    if (w->first == NULL)
        return;
    if (w->first == w->last) {
        sl_ready(w->first);
    } else {
        sl_store_relaxed(&w->last->next, NULL); /* the claimer's alone */
        sl_ready_list(w->first);
    }
}

/* Under the lock: claim and unlink at most *room waiters from the head of l whose `count` is below `limit`. Those that time or a
 * cancel has claimed are unlinked, and cost no room. True: l holds no more of them. */
static inline bool sl_wake_some(struct sl_wait_list *l, size_t limit, unsigned arm, unsigned *room, struct sl_woken *w)
{
    struct sl_wait_node *n;

    while ((n = l->head) != NULL && n->count < limit) {
        if (*room == 0)
            return false;
        if (sl_claim(n, arm)) {
            sl_woken_add(w, n->fiber);
            --*room;
        }
        sl_wait_list_remove(l, n);
    }
    return true;
}

#endif
