/* sem.c - a number of permits that can be waited for, FIFO: a permit goes to who has waited longest, directly.
 *
 *   S1  `permits` and the list change under the lock.
 *   S2  Who waits is linked only while there are no permits, and a permit that is given while somebody waits is the waiter's as soon as it
 *       is claimed: it never passes through `permits`. So nobody overtakes, and a wait that time or a cancel has ended has taken none.
 *   S3  A post's last access is its unlock, and a wait that returned 0 has held the lock after it, or was made ready after it. So who got
 *       the last permit that will ever be given may free the semaphore, whatever that post still has to do.
 *
 * Rejected: `permits` as an atomic that a wait decrements without the lock. A post that finds it negative takes the lock of a semaphore
 * that may be gone, see S3; and both cost one read-modify-write.
 *
 * A post: lock; claim the oldest waiter and unlink it, or one permit more; unlock; ready.
 * A wait: lock; take a permit, unlock. Else ARMING; lock; look again; link; park, which unlocks. */
#include "base/assert.h"
#include "sched/park.h"
#include "sync/arms.h"

#include <sley/sync.h>

struct sem { /* zeroed memory is valid */
    struct sl_lock      lock;
    _Atomic(uint32_t)   permits; /* without the lock a hint, wrong in either direction */
    struct sl_wait_list waiters;
};

_Static_assert(sizeof(struct sem) <= sizeof(sley_sem) && _Alignof(struct sem) <= _Alignof(sley_sem), "fits the public struct");

static inline struct sem *sem_of(sley_sem *s)
{
    return (struct sem *)(void *)s;
}

static inline bool take(struct sem *s) /* under the lock */
{
    uint32_t permits = sl_load_relaxed(&s->permits); /* under the lock */

    if (permits == 0)
        return false;
    sl_store_relaxed(&s->permits, permits - 1); /* under the lock */
    return true;
}

void sley_sem_init(sley_sem *s, uint32_t permits)
{
    SLEY_ASSERT(s != NULL, "sley_sem_init", "the semaphore is NULL");
    *s = (sley_sem){ { 0 } };
    sl_store_relaxed(&sem_of(s)->permits, permits); /* nobody else knows it */
}

int sley_sem_wait(sley_sem *sem, sley_time deadline)
{
    struct sem *s = sem_of(sem);
    struct sl_wait_node node;
    struct sl_fiber *f;
    unsigned why;
    bool taken;
    int rc;

    if (s == NULL || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    f = sl_current();
    if (sl_streak_cancelled(f))
        return -ECANCELED;
    if (sl_load_relaxed(&s->permits) > 0) { /* hint */
        sl_lock_acquire(&s->lock);
        taken = take(s);
        sl_lock_release(&s->lock);
        if (taken)
            return 0;
    }
    if ((rc = sl_wait_begin(f, deadline, SL_WAIT_SEM, s)) < 0)
        return rc;
    sl_lock_acquire(&s->lock);
    taken = take(s);
    if (taken || sl_cancelled(f)) {
        sl_wait_end(f);
        sl_lock_release(&s->lock);
        return taken ? 0 : -ECANCELED;
    }
    sl_node_init(&node, f);
    sl_wait_list_push(&s->waiters, &node);
    why = sl_park(&s->lock);
    if (why == SL_ARM_EVENT)
        return 0;
    sl_lock_acquire(&s->lock);
    if (sl_node_linked(&node))
        sl_wait_list_remove(&s->waiters, &node);
    sl_lock_release(&s->lock);
    return why == SL_ARM_TIMEOUT ? -ETIMEDOUT : -ECANCELED;
}

void sley_sem_post(sley_sem *sem)
{
    struct sl_woken woken = { NULL, NULL };
    struct sem *s = sem_of(sem);
    struct sl_wait_node *n;
    bool given = false;

    SLEY_ASSERT(s != NULL, "sley_sem_post", "the semaphore is NULL");
    sl_lock_acquire(&s->lock);
    while (!given && (n = s->waiters.head) != NULL) {
        given = sl_claim(n, SL_ARM_EVENT, &woken);
        if (given)
            n->result = 0;
        sl_wait_list_remove(&s->waiters, n);
    }
    if (!given) {
        uint32_t permits = sl_load_relaxed(&s->permits); /* under the lock */

        SLEY_ASSERT(permits < UINT32_MAX, "sley_sem_post", "more permits than can be counted");
        sl_store_relaxed(&s->permits, permits + 1); /* under the lock */
    }
    sl_lock_release(&s->lock);
    sl_woken_ready(&woken);
}

void sley_sem_fini(sley_sem *sem)
{
    struct sem *s = sem_of(sem);
    bool waited_for;

    if (s == NULL)
        return;
    sl_lock_acquire(&s->lock);
    waited_for = s->waiters.head != NULL;
    sl_lock_release(&s->lock);
    SLEY_ASSERT(!waited_for, "sley_sem_fini", "somebody waits for the semaphore");
}

/* ---- as an arm of a select ---- */

static bool arm_ready(struct sl_wait_node *n)
{
    struct sem *s = n->object;

    return sl_load_relaxed(&s->permits) > 0; /* hint */
}

static enum sl_armed arm(struct sl_wait_node *n, struct sl_fiber *f, enum sl_arm_mode mode)
{
    enum sl_armed armed = SL_ARMED_DONE;
    struct sem *s = n->object;

    sl_lock_acquire(&s->lock);
    if (sl_load_relaxed(&s->permits) == 0) { /* under the lock */
        armed = mode == SL_ARM_TRY ? SL_ARMED_NOT_YET : SL_ARMED_LINKED;
        if (mode == SL_ARM_LINK)
            sl_wait_list_push(&s->waiters, n);
    } else if (mode == SL_ARM_LINK && !sl_claim_self(f)) {
        armed = SL_ARMED_LOST;
    } else {
        take(s);
        n->result = 0;
    }
    sl_lock_release(&s->lock);
    return armed;
}

static void disarm(struct sl_wait_node *n)
{
    struct sem *s = n->object;

    sl_lock_acquire(&s->lock);
    if (sl_node_linked(n))
        sl_wait_list_remove(&s->waiters, n);
    sl_lock_release(&s->lock);
}

const struct sl_arm_ops sl_sem_arm = { arm_ready, arm, disarm, NULL };
