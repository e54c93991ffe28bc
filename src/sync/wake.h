/* wake.h - claiming many waiters of an object, a bounded number a hold of its lock.
 *
 *   W1  Between two holds the object must still be there, although everybody who has been woken may free it. So the waiter that was claimed
 *       last is kept back until the next hold, or the end: it is inside its wait, and who frees an object sees to it that nobody is. */
#ifndef SL_WAKE_H
#define SL_WAKE_H

#include "sched/park.h"

/* Under the lock: claim and unlink at most *room waiters from the head of l, and tell them 0. Those that time or a cancel has claimed are
 * unlinked, and cost no room. True: l is empty. */
static inline bool sl_wake_some(struct sl_wait_list *l, unsigned arm, unsigned *room, struct sl_woken *w)
{
    struct sl_wait_node *n;

    while ((n = l->head) != NULL) {
        if (*room == 0)
            return false;
        if (sl_claim(n, arm, w)) {
            n->result = 0;
            --*room;
        }
        sl_wait_list_remove(l, n);
    }
    return true;
}

/* The same for one node: true: it was claimed, and its waiter has left for good, or waits to be made ready (then it costs room). */
static inline bool sl_wake_node(struct sl_wait_list *l, struct sl_wait_node *n, unsigned *room, struct sl_woken *w)
{
    bool claimed = sl_claim(n, SL_ARM_EVENT, w);

    if (claimed)
        *room -= w->last == n->fiber; /* others do not wait yet, and cannot be kept back */
    sl_wait_list_remove(l, n);
    return claimed;
}

/* After the unlock, when there are more to come: all but the one claimed last (W1). */
static inline void sl_woken_ready_but_last(struct sl_woken *w)
{
    struct sl_woken most = { w->first, w->first };

    if (w->first == w->last)
        return;
    while (sl_load_relaxed(&most.last->next) != w->last) /* the claimer's alone */
        most.last = sl_load_relaxed(&most.last->next);   /* the same */
    w->first = w->last;
    sl_woken_ready(&most);
}

#endif
