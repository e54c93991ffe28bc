/* timeout.c - deadlines of waits and of scopes: arming the timer, and what expiry does.
 *
 * A control block has one timer. It stays where it was armed, under that heap's lock; a later deadline is one store (T3), and so is none.
 * Expiry looks at the wait word and then at the deadline (order [timer.1]):
 *   WAITING, deadline passed     claim it with that word; only then may the entry go, because the fiber cannot run
 *   either, no deadline          the entry goes, `heap` last; a fiber that was woken meanwhile finds the key gone, or its word changed
 *                                and the entry put back
 *   WAITING_IO, deadline passed  ask for the operation's cancel, once; the entry stays a little, since the fiber may run at any time
 *   ARMING, deadline passed      comes back a little later
 *   IDLE, WON                    the deadline of a wait that is over, or not yet begun: the entry stays near
 *   parked, deadline not passed  the entry moves there
 * order [timer.2]: key is stored before the fence, the word read after; the fiber was claimed (a change of its word) before it reads
 * key.
 * A scope's timer is simpler: it stands exactly where its deadline is, and expiry takes it out and pins the scope [scope.1]. */
#include "sched/switch.h"

#define EXPIRE_MAX 32 /* claimed under one hold of the heap's lock */

int sl_timer_set(struct sl_fiber *f, sley_time deadline)
{
    struct sl_timer *t = &f->timer;
    struct sl_worker *w = sl_worker_here();
    unsigned number;
    int rc = 0;

    sl_store_relaxed(&t->deadline, deadline);       /* [timer.1] */
    if (w == NULL || f->flags & SL_FIBER_THREAD || deadline >= sl_load_relaxed(&t->key)) /* a thread times its futex; T3 */
        return 0;
    number = sl_load_relaxed(&t->heap); /* re-checked under the lock; only the fiber makes it non-zero */
    if (number != 0 && number != w->timers.number + 1u) {
        struct sl_timer_heap *h = &w->rt->workers[number - 1]->timers;

        sl_lock_acquire(&h->lock);
        if (sl_load_relaxed(&t->heap) == number) {
            sl_timer_heap_remove(h, t);
            sl_store_relaxed(&t->heap, 0);
        }
        sl_lock_release(&h->lock);
    }
    sl_lock_acquire(&w->timers.lock);
    if (sl_load_relaxed(&t->heap) != 0)
        sl_timer_heap_rekey(&w->timers, t, deadline);
    else if ((rc = sl_timer_heap_insert(&w->timers, t, deadline)) == 0)
        sl_store_relaxed(&t->heap, (uint16_t)(w->timers.number + 1));
    sl_lock_release(&w->timers.lock);
    return rc;
}

int sl_timer_move(struct sl_worker *w, struct sl_timer *t, sley_time when, bool *ring)
{
    int64_t first;
    int rc = 0;

    sl_lock_acquire(&w->timers.lock);
    first = sl_load_relaxed(&w->timers.first);
    if (sl_load_relaxed(&t->heap) == 0) {
        if (when != SL_TIME_NONE && (rc = sl_timer_heap_insert(&w->timers, t, when)) == 0)
            sl_store_relaxed(&t->heap, (uint16_t)(w->timers.number + 1));
    } else if (when != SL_TIME_NONE) {
        sl_timer_heap_rekey(&w->timers, t, when);
    } else {
        sl_timer_heap_remove(&w->timers, t);
        sl_store_relaxed(&t->heap, 0);
    }
    sl_lock_release(&w->timers.lock);
    /* It sleeps until `first`. If it is about to, it reads `first` after it has announced that. */
    *ring = rc == 0 && when < first && w != sl_worker_here() && sl_idle_sleeps(&w->rt->idle, w->number);
    return rc;
}

void sl_timer_forget(struct sl_fiber *f)
{
    unsigned number = sl_load_relaxed(&f->timer.heap); /* only the fiber makes it non-zero */
    struct sl_timer_heap *h;

    if (number == 0)
        return;
    h = &f->rt->workers[number - 1]->timers;
    sl_lock_acquire(&h->lock);
    if (sl_load_relaxed(&f->timer.heap) == number) {
        sl_timer_heap_remove(h, &f->timer);
        sl_store_relaxed(&f->timer.heap, 0);
    }
    sl_lock_release(&h->lock);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Entry t of h is due. true: its fiber was claimed and is the caller's to make ready. *cancel: ask for that operation's cancel. */
static bool expire_one(struct sl_timer_heap *h, struct sl_timer *t, int64_t now, uint64_t *cancel)
{
    struct sl_fiber *f = (struct sl_fiber *)(void *)((char *)t - offsetof(struct sl_fiber, timer));
    uint64_t word = sl_load_acquire(&f->word);        /* [timer.1] */
    int64_t deadline = sl_load_relaxed(&t->deadline); /* [timer.1] */
    unsigned state = SL_WORD_STATE(word);

    *cancel = 0;
    if (deadline > now && deadline != SL_TIME_NONE) {
        sl_timer_heap_rekey(h, t, deadline); /* stores key */
        sl_fence_seq_cst();                  /* [timer.2] */
        if ((state != SL_WAITING && state != SL_WAITING_IO) || sl_load_relaxed(&f->word) != word)
            sl_timer_heap_rekey(h, t, earlier(deadline, now + SL_TIMER_RUNNING_NS)); /* the next wait may rely on the old key (T3) */
        return false;
    }
    if (state == SL_WAITING && deadline <= now) {
        if (sl_cas_acq_rel(&f->word, &word, SL_WORD(SL_WORD_SEQUENCE(word), SL_ARM_TIMEOUT, SL_WON))) { /* [park.1] [park.2] */
            sl_timer_heap_remove(h, t);
            sl_store_relaxed(&t->heap, 0);
            return true;
        }
    } else if (deadline == SL_TIME_NONE && (state == SL_WAITING || state == SL_WAITING_IO)) {
        sl_timer_heap_remove(h, t); /* stores key */
        sl_fence_seq_cst();         /* [timer.2] */
        if (sl_load_relaxed(&f->word) == word) {
            sl_store_relaxed(&t->heap, 0);
        } else if (sl_timer_heap_insert(h, t, now + SL_TIMER_RUNNING_NS) < 0) {
            sl_store_relaxed(&t->heap, 0); /* cannot be: a place has just become free */
        }
        return false;
    } else if (state == SL_WAITING_IO && deadline <= now && SL_WORD_ARM(word) == SL_ARM_EVENT) {
        if (sl_cas_acq_rel(&f->word, &word, SL_WORD(SL_WORD_SEQUENCE(word), SL_ARM_TIMEOUT, SL_WAITING_IO))) /* O3 */
            *cancel = word;
    }
    if ((state == SL_ARMING || state == SL_ARMING_MANY) && deadline <= now)
        sl_timer_heap_rekey(h, t, now + SL_TIMER_ARMING_NS);
    else
        sl_timer_heap_rekey(h, t, now + SL_TIMER_RUNNING_NS);
    return false;
}

void sl_timers_expire(struct sl_worker *w, struct sl_timer_heap *h, int64_t now)
{
    struct { struct sl_worker *of; uint64_t user_data; } cancel[EXPIRE_MAX];
    struct sl_scope *scopes[EXPIRE_MAX]; /* pinned */
    struct sl_fiber *ready = NULL, **tail = &ready;
    unsigned done, cancels, scope_count;

    do {
        struct sl_timer *t;

        done = cancels = scope_count = 0;
        sl_lock_acquire(&h->lock);
        while (done < EXPIRE_MAX && (t = sl_timer_heap_top(h, now)) != NULL) {
            struct sl_fiber *f = (struct sl_fiber *)(void *)((char *)t - offsetof(struct sl_fiber, timer));
            uint64_t word;

            done++;
            if (t->kind == SL_TIMER_SCOPE) {
                struct sl_scope *s = (struct sl_scope *)(void *)((char *)t - offsetof(struct sl_scope, timer));

                sl_timer_heap_remove(h, t);
                sl_add_relaxed(&s->pins, 1);
                sl_store_release(&t->heap, 0); /* [scope.1] */
                scopes[scope_count++] = s;
            } else if (expire_one(h, t, now, &word)) {
                sl_store_relaxed(&f->next, NULL);
                *tail = f;
                tail = (struct sl_fiber **)(void *)&f->next;
            } else if (word != 0) {
                cancel[cancels].of = w->rt->workers[sl_load_relaxed(&f->op_ring)]; /* of this operation: its word stood before and after */
                cancel[cancels++].user_data = sl_op_user_data(f, word);
            }
        }
        sl_lock_release(&h->lock);
        for (unsigned i = 0; i < cancels; i++)
            sl_ring_cancel(cancel[i].of, cancel[i].user_data);
        for (unsigned i = 0; i < scope_count; i++)
            sl_scope_cancel_pinned(scopes[i], SL_CAUSE_DEADLINE);
        sl_owner_add(&w->counters.timers_fired, done);
    } while (done == EXPIRE_MAX);
    while (ready != NULL) {
        struct sl_fiber *next = sl_load_relaxed(&ready->next);

        sl_tsan_release(ready); /* [park.2] */
        sl_push_ready(w, ready);
        ready = next;
    }
    /* The owner went to sleep while this worker had its heap in hand: an entry put back may be earlier than its alarm. */
    if (h != &w->timers && sl_idle_sleeps(&w->rt->idle, h->number))
        sl_doorbell_ring(w->rt->workers[h->number]);
}
