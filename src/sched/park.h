/* park.h - the only door out of a running fiber.
 *
 * The wait word is (sequence 48, arm 12, state 4). Its sequence grows with every wait, so a claim made for an older wait fails.
 *
 *   IDLE         runs, is ready, or has not begun
 *   ARMING       links itself somewhere; only the fiber changes the word
 *   ARMING_MANY  the same, to several objects, each of which may claim it meanwhile: to WON
 *   WAITING      its context is saved; whoever moves the word to WON owns the right to make it ready
 *   WAITING_IO   its operation is with the kernel; the final completion moves it to WON. `arm` says whether somebody has asked for
 *                the operation's cancel, and why (SL_ARM_TIMEOUT, SL_ARM_CANCEL, SL_ARM_CLOSE; 0: nobody)
 *   WON          claimed; `arm` says by what
 *
 * A wait on an object, from the fiber's side:
 *
 *     if (hint says that there is something) { lock; take; unlock }          the word is not touched
 *     rc = sl_wait_begin(f, deadline, kind, object)                          deadline, then (sequence + 1, ARMING)
 *     lock the object                                                        a full barrier
 *     look again; if it can be had: take, sl_wait_end(f), unlock, return
 *     if (sl_cancelled(f)): sl_wait_end(f), unlock, return -ECANCELED
 *     sl_node_init(&node, f); link it
 *     why = sl_park(&object->lock)                                           WAITING is stored and the lock released after the switch
 *     if (why is SL_ARM_TIMEOUT or SL_ARM_CANCEL): lock; if (sl_node_linked(&node)) unlink; unlock
 *     return -ETIMEDOUT or -ECANCELED
 *
 * From an event's side, under the object's lock: sl_claim(node, arm, &woken); if it fails, unlink the node and try the next one. If it
 * succeeds: copy the value, unlink the node, unlock the object, sl_woken_ready(&woken). After the unlock neither node nor object is
 * touched.
 *
 * A wait on several objects (task/select.c; sync/cond.c, which has to let go of a mutex in between) begins with sl_wait_begin_many, links
 * a node to one object after the other, holding one lock at a time, and parks with sl_park_many:
 *   M1  From the first link on any of the objects may claim it. Who finds ARMING_MANY does not make it ready: the fiber has not left,
 *       its commit (WAITING, by compare-and-swap) fails, and it goes on by itself.
 *   M2  A fiber that finds an arm ready while others are linked claims itself first (sl_claim_self), under that object's lock; if that
 *       fails, another arm has won. So exactly one arm wins.
 *   M3  The claimer says which node has won (SL_NODE_WON; of a select in wait_object) and unlinks it under the object's lock. The fiber
 *       does not leave before it has locked every object it was linked to: so no claimer is still at work.
 *   M4  A failed claim says that the node's owner is leaving or starting over, so unlinking its node loses nothing: one that starts over
 *       looks at every object again.
 *
 * A wait that no cancel may end (locks, close, the end of a scope) raises f->shields around it: cancellers pass it by.
 *
 * order [park.1]: (sequence, WAITING) is stored with release after the context was saved; a claim's compare-and-swap acquires it.
 * order [park.2]: what the claimer wrote for the waiter, after its compare-and-swap, is released by sl_ready (a queue, a mailbox, a plain
 * thread's futex word) and acquired by who takes the fiber from there; so a claimed waiter returns only after sl_ready.
 * order [park.3]: what the claimer of ARMING_MANY wrote is released by the unlock of its object, which the waiter locks (M3).
 *
 * Lock order: one object at a time, and nothing is locked under an object. */
#ifndef SL_PARK_H
#define SL_PARK_H

#include "base/lock.h"
#include "plat/self.h"
#include "sched/fiber.h"
#include "sched/fork.h"
#include "sched/node.h"
#include "sched/scope.h"

#include <errno.h>

enum sl_word_state { SL_IDLE = 0, SL_ARMING = 1, SL_ARMING_MANY = 2, SL_WAITING = 3, SL_WAITING_IO = 4, SL_WON = 5 };

enum sl_arm { SL_ARM_EVENT = 0, SL_ARM_CLOSE = 0xffd, SL_ARM_CANCEL = 0xffe, SL_ARM_TIMEOUT = 0xfff };

#define SL_WORD_STATE(w)      ((unsigned)(w) & 15)
#define SL_WORD_ARM(w)        ((unsigned)((w) >> 4) & 0xfff)
#define SL_WORD_SEQUENCE(w)   ((w) & ~(uint64_t)0xffff)
#define SL_WORD(seq, arm, st) ((seq) | (uint64_t)(arm) << 4 | (uint64_t)(st))
#define SL_SEQUENCE_ONE       ((uint64_t)1 << 16)

/* The fiber that runs here, or this plain thread's block. Fixed for the life of a call, also when the fiber migrates. */
static inline struct sl_fiber *sl_current(void)
{
    return sl_self()->current;
}

extern int64_t sl_process_start_ns;

/* 0; -EINVAL: a length of time passed as a point in time. Every public call with a deadline asks this first. */
static inline int sl_deadline_check(sley_time deadline)
{
    return __builtin_expect(deadline < sl_process_start_ns, 0) && deadline != SLEY_NOW ? -EINVAL : 0;
}

/* Whether f, the caller's own, must stop where it would wait. A true one is noted in the scopes that it comes from (sl_scope_note_cut). */
static inline bool sl_cancelled(struct sl_fiber *f)
{
    return __builtin_expect(sl_load_relaxed(&f->scope->cancelled), 0) && /* [cancel.1] behind the barrier of the object's lock */
           sl_scope_note_cut(f);
}

/* The same as a question only. */
static inline bool sl_cancel_is_due(const struct sl_fiber *f)
{
    return sl_load_relaxed(&f->scope->cancelled) && sl_load_relaxed(&f->shields) == 0; /* [cancel.1] as above; own */
}

/* A wait that could have been cancelled has ended: the count begins anew. */
static inline void sl_streak_end(struct sl_fiber *f)
{
    if (__builtin_expect(sl_load_relaxed(&f->shields) == 0, 1)) /* own */
        f->streak = 0;
}

/* Asked at the beginning of a call that may not have to wait: the 64th in a row notices a cancel all the same. */
static inline bool sl_streak_cancelled(struct sl_fiber *f)
{
    if (__builtin_expect(++f->streak < SL_DIRECT_STREAK, 1))
        return false;
    f->streak = 0;
    return sl_cancelled(f) || sl_scope_overdue(f);
}

int sl_timer_set(struct sl_fiber *f, sley_time deadline); /* sched/timeout.c: 0; -ENOMEM */

/* Begin a wait: deadline, then (sequence + 1, ARMING). 0; -ETIMEDOUT: the deadline is SLEY_NOW; -ENOMEM: no room for the timer; -ECHILD: a
 * forked child. */
static inline __attribute__((always_inline)) int
sl_wait_begin_as(struct sl_fiber *f, sley_time deadline, enum sl_wait_kind kind, const void *object, enum sl_word_state state)
{
    if (__builtin_expect(sl_load_relaxed(&sl_forked), 0))
        return -ECHILD;
    if (deadline == SLEY_FOREVER) {
        sl_store_relaxed(&f->timer.deadline, SL_TIME_NONE); /* [timer.1] */
    } else {
        int rc = deadline == SLEY_NOW ? -ETIMEDOUT : sl_timer_set(f, deadline);
        if (rc < 0)
            return rc;
    }
    sl_store_relaxed(&f->wait_kind, (uint8_t)kind);
    sl_store_relaxed(&f->wait_object, object);
    /* order [timer.1]: the deadline is stored before the word; expiry reads the word (acquire), then the deadline. */
    sl_store_release(&f->word, SL_WORD(SL_WORD_SEQUENCE(sl_load_relaxed(&f->word)) + SL_SEQUENCE_ONE, 0, state));
    return 0;
}

static inline int sl_wait_begin(struct sl_fiber *f, sley_time deadline, enum sl_wait_kind kind, const void *object)
{
    return sl_wait_begin_as(f, deadline, kind, object, SL_ARMING);
}

static inline int sl_wait_begin_many(struct sl_fiber *f, sley_time deadline, enum sl_wait_kind kind, const void *object)
{
    return sl_wait_begin_as(f, deadline, kind, object, SL_ARMING_MANY);
}

static inline uint64_t sl_wait_sequence(const struct sl_fiber *f)
{
    return SL_WORD_SEQUENCE(sl_load_relaxed(&f->word)); /* own word, nobody else changes the sequence */
}

/* Leave a wait that was begun and did not park. */
static inline void sl_wait_end(struct sl_fiber *f)
{
    sl_store_relaxed(&f->wait_kind, SL_WAIT_NONE);
    sl_store_release(&f->word, SL_WORD(sl_wait_sequence(f), 0, SL_IDLE)); /* [timer.1] */
}

static inline void sl_node_init(struct sl_wait_node *n, struct sl_fiber *f) /* for the wait that f has begun */
{
    n->fiber = f;
    n->tag = sl_wait_sequence(f);
}

static inline bool sl_node_linked(const struct sl_wait_node *n) /* under the object's lock */
{
    return n->tag & SL_NODE_LINKED;
}

/* Waiters that were claimed under an object's lock, on their way to being ready after it. Between claim and sl_ready a fiber is in no
 * queue, so its `next` is the claimer's (F2); a list of them needs no memory. */
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

/* Claim the waiter of `n`, under the object's lock; `arm`: SL_ARM_EVENT, or SL_ARM_CLOSE if the object is at its end. true: it is the
 * caller's, who gives it what it waits for, unlinks the node and, after the unlock, makes *woken ready (M1: it may not be on it). */
static inline bool sl_claim(struct sl_wait_node *n, unsigned arm, struct sl_woken *woken)
{
    uint64_t sequence = SL_WORD_SEQUENCE(n->tag), word = SL_WORD(sequence, 0, SL_WAITING);

    while (!sl_cas_acq_rel(&n->fiber->word, &word, SL_WORD(sequence, arm, SL_WON))) /* [park.1] [park.2] [park.3] */
        if (word != SL_WORD(sequence, 0, SL_WAITING) && word != SL_WORD(sequence, 0, SL_ARMING_MANY))
            return false;
    n->tag |= SL_NODE_WON;
    if (n->tag & SL_NODE_MANY)
        sl_store_relaxed(&n->fiber->wait_object, n); /* [park.2] [park.3] */
    if (SL_WORD_STATE(word) == SL_WAITING)
        sl_woken_add(woken, n->fiber);
    return true;
}

/* Whether the waiter of `n` can still be claimed; under the object's lock. A true one may be wrong by the time it is used. */
static inline bool sl_node_is_live(const struct sl_wait_node *n)
{
    uint64_t word = sl_load_relaxed(&n->fiber->word), sequence = SL_WORD_SEQUENCE(n->tag); /* hint: a claim tells */

    return word == SL_WORD(sequence, 0, SL_WAITING) || word == SL_WORD(sequence, 0, SL_ARMING_MANY);
}

/* Under the object's lock: whether somebody else than f waits in l. Nodes that nobody can claim any more, at its head, are unlinked. */
static inline bool sl_wait_list_has_live(struct sl_wait_list *l, const struct sl_fiber *f)
{
    struct sl_wait_node *n = l->head;

    while (n != NULL && !sl_node_is_live(n)) {
        sl_wait_list_remove(l, n);
        n = l->head;
    }
    for (; n != NULL; n = n->next)
        if (n->fiber != f && sl_node_is_live(n))
            return true;
    return false;
}

/* The fiber's own claim (M2), under the lock of the object whose arm it wants to take. false: another arm has won. */
static inline bool sl_claim_self(struct sl_fiber *f)
{
    uint64_t sequence = sl_wait_sequence(f), word = SL_WORD(sequence, 0, SL_ARMING_MANY);

    return sl_cas_acq_rel(&f->word, &word, SL_WORD(sequence, SL_ARM_EVENT, SL_WON)); /* [park.3] */
}

/* Park the running fiber, or block the plain thread, until it is claimed. *lock is held and is released once the context is saved;
 * NULL: none. Returns the claimer's arm; the word is IDLE again. After it everything thread-local must be read anew. */
unsigned sl_park(struct sl_lock *lock);

/* The same at the end of a wait on several objects, no lock held. It may not park at all (M1). */
unsigned sl_park_many(void);

/* The claimed fiber f may run. The caller has just handed it something: on its own worker it runs next. From any thread. */
void sl_ready(struct sl_fiber *f);

/* A list of claimed fibers, linked by `next`: they run in this order, after what is queued. */
void sl_ready_list(struct sl_fiber *first);

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

#endif
