/* mutex.c - a mutex whose unlock is a plain store while nobody waits. A free mutex goes to whoever comes first (barging: who runs now
 * loses no time to one that must be woken); but who has waited for HAND_OVER_NS gets it from the hand of who unlocks, in FIFO order.
 *
 *   X1  `owner` goes from NULL to a fiber by compare-and-swap, and away from a fiber by that fiber's store. A hand-over stores the next
 *       owner, who was claimed before: so there is never an owner that does not know it.
 *   X2  `waiting` is not NOBODY while a node is linked, `woken` is set or somebody is `asking`. All four change under the lock.
 *   X3  A fiber links itself only if `waiting` is SETTLED, somebody owns the mutex, and that owner's unlock cannot be a quick one any more
 *       (below). So every unlock from then on goes through the lock and finds the node.
 *   X4  `woken`: one waiter at most is on its way to compete. It looks under the lock: either it takes the mutex, or it links itself at the
 *       front again, with the time at which it began to wait. Until it has looked no other is woken; the mutex may be free meanwhile.
 *   X5  A claim that fails says that the waiter's time has passed; the node is unlinked and the next one tried. Claims come before `owner`
 *       is stored, so nothing has to be undone. A waiter whose time has passed unlinks itself and leaves no trace.
 *   X6  Unlock's last access to the mutex is the store of `owner` (quick), or the release of the lock while somebody waits, who is inside
 *       the mutex himself. So a mutex may be freed by who has locked it last, as soon as his own unlock has returned, whoever
 *       unlocked it before: provided, of course, that nobody is in a call to lock it.
 *
 * The quick unlock, and who comes to wait:
 *     unlock: own block: "I unlock m" [mutex.2]; compiler barrier; waiting is NOBODY? owner = NULL; own block: "no more" [mutex.3]
 *     waiter: under the lock: waiting = ASKED, one more is asking; unlock the lock; membarrier; lock; one less; waiting = SETTLED;
 *             o = owner; o's block does not say "I unlock m"; owner is still o: link and park
 * Control blocks are never unmapped, so the waiter may look into o's whatever has become of o.
 * order [mutex.2]: the membarrier falls somewhere into the owner's instructions. If it falls before the look at `waiting`, that look sees
 * the waiter, and the unlock goes through the lock. If behind, the block's "I unlock m" came before too, and the waiter sees it, or
 * what came after it: "no more".
 * order [mutex.3]: who reads "no more" sees the owner's store before it; then `owner` is read again and is not o, or it is o once more,
 * whose next look at `waiting` is behind the barrier. While the waiter reads "I unlock m" it waits for the few instructions that are left.
 * Without membarrier, and under ThreadSanitizer, unlock has a full fence in the middle, and so does the waiter.
 * order [mutex.1]: what was done under the mutex is released by the store of `owner`; the next one's compare-and-swap acquires it. After a
 * hand-over it comes by [park.2].
 *
 * ASKED and SETTLED: while somebody is asking nobody clears `waiting`. So whoever comes back from his membarrier may say SETTLED: every
 * unlock that begins now sees it. A waiter that finds ASKED makes a membarrier of its own, so that no parked waiter depends on one that
 * has yet to look.
 *
 * Unlock while somebody waits: lock; the oldest has waited long: it is the owner. Otherwise owner = NULL, and if none is woken, the oldest
 * is. If nobody is left: waiting = NOBODY, unlock the lock, and once more from the start: after owner = NULL nothing may be touched.
 *
 * Rejected: owner and waiting in one word and a compare-and-swap in unlock: twice the price. A second look at `waiting` behind the
 * store of `owner`: by then somebody may have locked, unlocked and freed the mutex. A restartable sequence (rseq) around look and store:
 * a third dearer than the marks, and not everywhere. Hand-over always: each turn then costs a switch.
 * Checked as tests/models/mutex.pml. */
#include "base/assert.h"
#include "sync/mutex.h"

#define HAND_OVER_NS SLEY_MS

enum told { WOKEN, IS_OWNER }; /* in a node's result */

/* ---- waiting ---- */

/* Who finds the mutex held by somebody who runs looks again a few times before it parks: parking and being woken cost microseconds, and
 * from then on every unlock takes the long way. Between two looks it leaves the line alone, ever longer, so that the owner can lock many
 * times in a row, see base/lock.c. With critical sections of a few nanoseconds about every third look finds it free. */
#define SPIN_NS         (20 * SLEY_US)
#define SPIN_PAUSES_MIN 32
#define SPIN_PAUSES_MAX 128

/* May the owner unlock while f, which waits, keeps its processor? Not if it is parked, nor if it waits for this very worker. A hint. */
static bool owner_may_run(const struct sl_fiber *owner, const struct sl_fiber *f)
{
    unsigned state = SL_WORD_STATE(sl_load_relaxed(&owner->word)); /* hint */

    if (state == SL_WAITING || state == SL_WAITING_IO)
        return false;
    return f->flags & SL_FIBER_THREAD || sl_load_relaxed(&owner->worker) != sl_load_relaxed(&f->worker); /* hint */
}

static bool spin(struct sl_mutex *m, struct sl_fiber *f, int64_t end)
{
    unsigned pauses = SPIN_PAUSES_MIN;

    do {
        struct sl_fiber *owner = sl_load_relaxed(&m->owner); /* hint */

        if (owner == NULL && sl_mutex_try(m, f))
            return true;
        if (owner != NULL && !owner_may_run(owner, f))
            return false;
        for (unsigned i = 0; i < pauses; i++)
            sl_cpu_relax();
        if (pauses < SPIN_PAUSES_MAX)
            pauses *= 2;
    } while (sl_clock_ns() < end);
    return false;
}

/* Called and returns with the lock held: waiting is SETTLED. */
static void settle(struct sl_mutex *m)
{
    if (sl_load_relaxed(&m->waiting) == SL_MUTEX_NOBODY) /* under the lock */
        sl_store_relaxed(&m->waiting, SL_MUTEX_ASKED); /* [mutex.2] */
    m->asking++; /* nobody makes it NOBODY again meanwhile */
    sl_lock_release(&m->lock);
    if (sl_use_membarrier)
        sl_membarrier(); /* [mutex.2] heavy side */
    else
        sl_fence_seq_cst(); /* [mutex.2] */
    sl_lock_acquire(&m->lock);
    m->asking--;
    sl_store_relaxed(&m->waiting, SL_MUTEX_SETTLED); /* under the lock */
}

/* Called and returns with the lock held. true: the mutex is f's. false: f may link itself (X3). */
static bool take_or_settle(struct sl_mutex *m, struct sl_fiber *f)
{
    for (;;) {
        struct sl_fiber *owner = sl_load_relaxed(&m->owner); /* looked at again below */

        if (owner == NULL) {
            if (sl_mutex_try(m, f))
                return true;
        } else if (sl_load_relaxed(&m->waiting) != SL_MUTEX_SETTLED) { /* under the lock */
            settle(m);
        } else if (sl_load_acquire(&owner->wait_object) == sl_mutex_mark(m)) { /* [mutex.2] [mutex.3] */
            sl_lock_release(&m->lock);
            sl_cpu_relax();
            sl_thread_yield(); /* its processor may be somebody else's */
            sl_lock_acquire(&m->lock);
        } else if (sl_load_relaxed(&m->owner) == owner) { /* [mutex.3] */
            return false;
        }
    }
}

/* Under the lock (X2). */
static void clear_waiting(struct sl_mutex *m)
{
    if (m->waiters.head == NULL && !m->woken && m->asking == 0)
        sl_store_relaxed(&m->waiting, SL_MUTEX_NOBODY); /* under the lock */
}

int sl_mutex_lock_slow(struct sl_mutex *m, struct sl_fiber *f, sley_time deadline)
{
    struct sl_wait_node node;
    bool was_woken = false;
    int rc = 0;

    if (deadline == SLEY_NOW)
        return -ETIMEDOUT;
    node.value = sl_clock_ns();
    if (spin(m, f, node.value + SPIN_NS))
        return 0;
    sl_store_relaxed(&f->shields, sl_load_relaxed(&f->shields) + 1); /* own: a lock is no point of cancellation */
    for (;;) {
        bool taken;
        unsigned why;

        rc = sl_wait_begin(f, deadline, SL_WAIT_MUTEX, m);
        if (rc < 0 && !was_woken)
            break;
        sl_lock_acquire(&m->lock);
        taken = rc < 0 ? sl_mutex_try(m, f) : take_or_settle(m, f); /* a woken one does not go without having looked (X4) */
        if (was_woken)
            m->woken = 0;
        if (taken || rc < 0) {
            clear_waiting(m);
            if (rc == 0)
                sl_wait_end(f);
            sl_lock_release(&m->lock);
            rc = taken ? 0 : rc;
            break;
        }
        sl_node_init(&node, f);
        node.result = WOKEN;
        if (was_woken)
            sl_wait_list_push_front(&m->waiters, &node);
        else
            sl_wait_list_push(&m->waiters, &node);
        why = sl_park(&m->lock);
        if (why == SL_ARM_EVENT) {
            if (node.result == IS_OWNER)
                break;
            was_woken = true;
            continue;
        }
        sl_lock_acquire(&m->lock);
        if (sl_node_linked(&node))
            sl_wait_list_remove(&m->waiters, &node);
        clear_waiting(m);
        sl_lock_release(&m->lock);
        rc = -ETIMEDOUT;
        break;
    }
    sl_store_relaxed(&f->shields, sl_load_relaxed(&f->shields) - 1); /* own */
    return rc;
}

/* ---- unlocking ---- */

/* Under the lock, by the owner, who gives it up unless nobody waits: false. *woken gets who is to be made ready. */
static bool give_up(struct sl_mutex *m, struct sl_woken *woken)
{
    struct sl_wait_node *n;
    int64_t now = 0;

    while ((n = m->waiters.head) != NULL) {
        bool long_enough, claimed;

        if (now == 0)
            now = sl_clock_ns();
        long_enough = now - n->value >= HAND_OVER_NS;
        if (!long_enough && m->woken)
            break;
        claimed = sl_claim(n, SL_ARM_EVENT, woken);
        sl_wait_list_remove(&m->waiters, n);
        if (!claimed) /* X5 */
            continue;
        if (long_enough) {
            n->result = IS_OWNER;
            sl_store_relaxed(&m->owner, n->fiber); /* X1; it reads it after [park.2], and others only compare */
            clear_waiting(m);
            return true;
        }
        n->result = WOKEN;
        m->woken = 1;
        break;
    }
    clear_waiting(m);
    if (sl_load_relaxed(&m->waiting) == SL_MUTEX_NOBODY) /* under the lock */
        return false;
    sl_store_release(&m->owner, NULL); /* [mutex.1] */
    return true;
}

void sl_mutex_unlock_slow(struct sl_mutex *m, struct sl_fiber *f)
{
    struct sl_woken woken = { NULL, NULL };
    bool given_up;

    do {
        sl_lock_acquire(&m->lock);
        given_up = give_up(m, &woken);
        sl_lock_release(&m->lock); /* X6 */
    } while (!given_up && !sl_mutex_unlock_quick(m, f));
    sl_woken_ready(&woken);
}

/* ---- the calls ---- */

int sley_mutex_lock(sley_mutex *mutex, sley_time deadline)
{
    struct sl_mutex *m = sl_mutex_of(mutex);
    struct sl_fiber *f;

    if (__builtin_expect(m == NULL || sl_deadline_check(deadline) < 0, 0))
        return -EINVAL;
    f = sl_current();
    if (__builtin_expect(sl_mutex_try(m, f), 1))
        return 0;
    if (sl_mutex_is_held_by(m, f))
        return -EDEADLK;
    return sl_mutex_lock_slow(m, f, deadline);
}

static _Noreturn void die_unlocking(struct sl_mutex *m)
{
    if (m == NULL)
        sl_die_caller("sley_mutex_unlock", "the mutex is NULL");
    sl_die_caller("sley_mutex_unlock", sl_load_relaxed(&m->owner) == NULL ? "the mutex is not locked" : "somebody else holds the mutex");
}

void sley_mutex_unlock(sley_mutex *mutex)
{
    struct sl_mutex *m = sl_mutex_of(mutex);
    struct sl_fiber *f = sl_current();

    if (__builtin_expect(m == NULL || !sl_mutex_is_held_by(m, f), 0))
        die_unlocking(m);
    if (__builtin_expect(!sl_mutex_unlock_quick(m, f), 0))
        sl_mutex_unlock_slow(m, f);
}

void sley_mutex_fini(sley_mutex *mutex)
{
    struct sl_mutex *m = sl_mutex_of(mutex);
    bool waited_for;

    if (m == NULL)
        return;
    SLEY_ASSERT(sl_load_relaxed(&m->owner) == NULL, "sley_mutex_fini", "somebody holds the mutex"); /* hint: nobody may be about to */
    sl_lock_acquire(&m->lock);
    waited_for = m->waiters.head != NULL || m->woken || m->asking > 0;
    sl_lock_release(&m->lock);
    SLEY_ASSERT(!waited_for, "sley_mutex_fini", "somebody waits for the mutex");
}
