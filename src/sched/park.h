/* park.h - the only door out of a running fiber.
 *
 * The wait word is (sequence 48, arm 12, state 4). Its sequence grows with every wait, so a claim made for an older wait fails.
 *
 *   IDLE        runs, is ready, or has not begun
 *   ARMING      links itself somewhere; only the fiber changes the word
 *   2           kept for waits on several objects at once, which may be claimed while they arm
 *   WAITING     its context is saved; whoever moves the word to WON owns the right to make it ready
 *   WAITING_IO  its operation is with the kernel; the final completion moves it to WON. `arm` says whether somebody has asked for
 *               the operation's cancel, and why (SL_ARM_TIMEOUT, SL_ARM_CANCEL, SL_ARM_CLOSE; 0: nobody)
 *   WON         claimed; `arm` says by what
 *
 * A wait on an object, from the fiber's side:
 *
 *     if (hint says that there is something) { lock; take; unlock }          the word is not touched
 *     rc = sl_wait_begin(f, deadline, kind, object)                          deadline, then (sequence + 1, ARMING)
 *     lock the object                                                        a full barrier
 *     look again; if it can be had: take, sl_wait_end(f), unlock, return
 *     if (sl_cancelled(f)): sl_wait_end(f), unlock, return -ECANCELED
 *     node = { .fiber = f, .sequence = sl_wait_sequence(f) }; link it
 *     why = sl_park(&object->lock)                                           WAITING is stored and the lock released after the switch
 *     if (why is SL_ARM_TIMEOUT or SL_ARM_CANCEL): lock; if (node.linked) unlink; unlock
 *     return -ETIMEDOUT or -ECANCELED
 *
 * From an event's side, under the object's lock: sl_claim(node); if it fails, unlink the node and try the next one. If it succeeds:
 * copy the value, unlink the node, unlock the object, sl_ready(fiber). After the unlock neither node nor object is touched.
 *
 * order [park.1]: (sequence, WAITING) is stored with release after the context was saved; a claim's compare-and-swap acquires it.
 * order [park.2]: what the claimer wrote for the waiter, after its compare-and-swap, is released by sl_ready (a queue, a mailbox, a plain
 * thread's futex word) and acquired by who takes the fiber from there; so a claimed waiter returns only after sl_ready.
 *
 * Lock order: one object at a time, and nothing is locked under an object. */
#ifndef SL_PARK_H
#define SL_PARK_H

#include "base/lock.h"
#include "plat/self.h"
#include "sched/fiber.h"
#include "sched/fork.h"
#include "sched/scope.h"

#include <errno.h>

enum sl_word_state { SL_IDLE = 0, SL_ARMING = 1, SL_WAITING = 3, SL_WAITING_IO = 4, SL_WON = 5 };

enum sl_arm { SL_ARM_EVENT = 0, SL_ARM_CLOSE = 0xffd, SL_ARM_CANCEL = 0xffe, SL_ARM_TIMEOUT = 0xfff };

#define SL_WORD_STATE(w)      ((unsigned)(w) & 15)
#define SL_WORD_ARM(w)        ((unsigned)((w) >> 4) & 0xfff)
#define SL_WORD_SEQUENCE(w)   ((w) & ~(uint64_t)0xffff)
#define SL_WORD(seq, arm, st) ((seq) | (uint64_t)(arm) << 4 | (uint64_t)(st))
#define SL_SEQUENCE_ONE       ((uint64_t)1 << 16)

/* A waiter in an object's list; on the waiter's stack, under the object's lock. */
struct sl_wait_node {
    struct sl_wait_node *next, *prev;
    struct sl_fiber     *fiber;
    uint64_t             sequence; /* of the wait, as SL_WORD_SEQUENCE gives it */
    void                *data;     /* the object's own: where the value goes to or comes from */
    size_t               count;    /* the object's own */
    int                  result;   /* the object's own: what the claimer tells the waiter */
    bool                 linked;
};

struct sl_wait_list { /* zeroed memory is an empty list */
    struct sl_wait_node *head, *tail;
};

static inline void sl_wait_list_push(struct sl_wait_list *l, struct sl_wait_node *n)
{
    n->next = NULL;
    n->prev = l->tail;
    n->linked = true;
    if (l->tail != NULL)
        l->tail->next = n;
    else
        l->head = n;
    l->tail = n;
}

static inline void sl_wait_list_remove(struct sl_wait_list *l, struct sl_wait_node *n)
{
    if (n->prev != NULL)
        n->prev->next = n->next;
    else
        l->head = n->next;
    if (n->next != NULL)
        n->next->prev = n->prev;
    else
        l->tail = n->prev;
    n->linked = false;
}

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

static inline bool sl_cancelled(const struct sl_fiber *f)
{
    return sl_load_relaxed(&f->scope->cancelled); /* [cancel.1] behind the barrier of the object's lock */
}

int sl_timer_set(struct sl_fiber *f, sley_time deadline); /* sched/timeout.c: 0; -ENOMEM */

/* Begin a wait: deadline, then (sequence + 1, ARMING). 0; -ETIMEDOUT: the deadline is SLEY_NOW; -ENOMEM: no room for the timer; -ECHILD: a
 * forked child. */
static inline int sl_wait_begin(struct sl_fiber *f, sley_time deadline, enum sl_wait_kind kind, const void *object)
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
    sl_store_release(&f->word, SL_WORD(SL_WORD_SEQUENCE(sl_load_relaxed(&f->word)) + SL_SEQUENCE_ONE, 0, SL_ARMING));
    return 0;
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

/* Claim the waiter of `n` for an event; under the object's lock. true: it is the caller's to make ready. */
static inline bool sl_claim(const struct sl_wait_node *n, unsigned arm)
{
    uint64_t expected = SL_WORD(n->sequence, 0, SL_WAITING);

    return sl_cas_acq_rel(&n->fiber->word, &expected, SL_WORD(n->sequence, arm, SL_WON)); /* [park.1] [park.2] */
}

/* Park the running fiber, or block the plain thread, until it is claimed. *lock is held and is released once the context is saved;
 * NULL: none. Returns the claimer's arm; the word is IDLE again. After it everything thread-local must be read anew. */
unsigned sl_park(struct sl_lock *lock);

/* The claimed fiber f may run. The caller has just handed it something: on its own worker it runs next. From any thread. */
void sl_ready(struct sl_fiber *f);

/* A list of claimed fibers, linked by `next`: they run in this order, after what is queued. */
void sl_ready_list(struct sl_fiber *first);

#endif
