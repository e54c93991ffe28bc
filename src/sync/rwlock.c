/* rwlock.c - many readers or one writer, FIFO: a writer that waits goes before readers that come later, so neither side starves.
 *
 *   L1  All state changes under the lock. `writer`: who holds it alone; `readers`: how many share it; never both.
 *   L2  Nobody enters past the list: who finds nodes there links itself behind them. So the head is a writer that waits for readers or a
 *       writer, or a reader that waits for a writer, or one whose time has just passed.
 *   L3  Whoever changes what the head waits for admits from the head: a writer alone, or all readers before the next writer. So does one
 *       that leaves the list because its time has passed: those behind may have waited for it only.
 *   L4  Admission is a hand-over: `writer` or `readers` count the waiter in before it is made ready. A claim that fails counts nobody.
 *   L5  The last access of an unlock is its last release of the lock, and one that it has admitted is made ready only after that (W1 of
 *       wake.h). So who has locked it last may free it once his unlock has returned, provided that nobody is in a call to lock it.
 *
 * Rejected: barging as in mutex.c. There the holder's next turn is worth it; a reader lock is held by several at a time, and what
 * users fear of it is writers that never come in. Counters per processor for readers: 48 bytes have no room for them.
 *
 * A locker: lock; free for it and nobody waits: count in, unlock. Else ARMING; lock; look again; link; park.
 * An unlocker: lock; count out; admit from the head; unlock; ready. */
#include "base/assert.h"
#include "sync/wake.h"

#include <sley/sync.h>

struct rwlock { /* zeroed memory is valid */
    struct sl_lock      lock;
    uint32_t            readers;
    _Atomic(struct sl_fiber *) writer; /* without the lock only to be compared with oneself */
    struct sl_wait_list waiters;       /* kind: enum how */
};

_Static_assert(sizeof(struct rwlock) <= sizeof(sley_rwlock) && _Alignof(struct rwlock) <= _Alignof(sley_rwlock), "fits the public struct");

enum how { SHARED, ALONE };

static inline struct rwlock *rwlock_of(sley_rwlock *l)
{
    return (struct rwlock *)(void *)l;
}

static inline bool is_free_for(const struct rwlock *l, enum how how) /* under the lock */
{
    return sl_load_relaxed(&l->writer) == NULL && (how == SHARED || l->readers == 0); /* under the lock */
}

static inline void count_in(struct rwlock *l, enum how how, struct sl_fiber *f) /* under the lock */
{
    if (how == ALONE)
        sl_store_relaxed(&l->writer, f); /* under the lock */
    else
        l->readers++;
}

/* The lock is held and is released: admit whoever can come in now (L3). */
static inline void admit_and_release(struct rwlock *l)
{
    struct sl_woken woken = { NULL, NULL };

    for (;;) {
        struct sl_wait_node *n;
        unsigned room = SL_WAKE_ALL_BATCH;
        bool more;

        while ((more = (n = l->waiters.head) != NULL && is_free_for(l, (enum how)n->kind)) && room > 0) {
            enum how how = (enum how)n->kind;

            if (sl_wake_node(&l->waiters, n, &room, &woken))
                count_in(l, how, n->fiber);
        }
        sl_lock_release(&l->lock); /* L5 */
        if (!more)
            break;
        sl_woken_ready_but_last(&woken);
        sl_lock_acquire(&l->lock);
    }
    sl_woken_ready(&woken);
}

/* Under the lock: true: it is f's. */
static inline bool take(struct rwlock *l, enum how how, struct sl_fiber *f)
{
    if (l->waiters.head != NULL || !is_free_for(l, how))
        return false;
    count_in(l, how, f);
    return true;
}

static inline __attribute__((always_inline)) int lock_as(struct rwlock *l, enum how how, sley_time deadline)
{
    struct sl_wait_node node;
    struct sl_fiber *f;
    bool taken;
    int rc;

    if (l == NULL || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    f = sl_current();
    if (sl_load_relaxed(&l->writer) == f) /* nobody else changes that */
        return -EDEADLK;
    sl_lock_acquire(&l->lock);
    taken = take(l, how, f);
    sl_lock_release(&l->lock);
    if (taken)
        return 0;
    sl_store_relaxed(&f->shields, sl_load_relaxed(&f->shields) + 1); /* own: a lock is no point of cancellation */
    rc = sl_wait_begin(f, deadline, SL_WAIT_RWLOCK, l);
    if (rc == 0) {
        sl_lock_acquire(&l->lock);
        if (take(l, how, f)) {
            sl_wait_end(f);
            sl_lock_release(&l->lock);
        } else {
            sl_node_init(&node, f);
            node.kind = how;
            sl_wait_list_push(&l->waiters, &node);
            if (sl_park(&l->lock) != SL_ARM_EVENT) {
                sl_lock_acquire(&l->lock);
                if (sl_node_linked(&node))
                    sl_wait_list_remove(&l->waiters, &node);
                admit_and_release(l);
                rc = -ETIMEDOUT;
            }
        }
    }
    sl_store_relaxed(&f->shields, sl_load_relaxed(&f->shields) - 1); /* own */
    return rc;
}

int sley_rwlock_rdlock(sley_rwlock *l, sley_time deadline)
{
    return lock_as(rwlock_of(l), SHARED, deadline);
}

int sley_rwlock_wrlock(sley_rwlock *l, sley_time deadline)
{
    return lock_as(rwlock_of(l), ALONE, deadline);
}

void sley_rwlock_unlock(sley_rwlock *rwlock)
{
    struct rwlock *l = rwlock_of(rwlock);
    struct sl_fiber *f = sl_current(), *writer;

    SLEY_ASSERT(l != NULL, "sley_rwlock_unlock", "the lock is NULL");
    sl_lock_acquire(&l->lock);
    writer = sl_load_relaxed(&l->writer); /* under the lock */
    if (writer == NULL) {
        SLEY_ASSERT(l->readers > 0, "sley_rwlock_unlock", "the lock is not locked");
        l->readers--;
    } else {
        SLEY_ASSERT(writer == f, "sley_rwlock_unlock", "somebody else holds the lock alone");
        sl_store_relaxed(&l->writer, NULL); /* under the lock */
    }
    admit_and_release(l);
}

void sley_rwlock_fini(sley_rwlock *rwlock)
{
    struct rwlock *l = rwlock_of(rwlock);
    bool held, waited_for;

    if (l == NULL)
        return;
    sl_lock_acquire(&l->lock);
    held = sl_load_relaxed(&l->writer) != NULL || l->readers > 0; /* under the lock */
    waited_for = l->waiters.head != NULL;
    sl_lock_release(&l->lock);
    SLEY_ASSERT(!held, "sley_rwlock_fini", "somebody holds the lock");
    SLEY_ASSERT(!waited_for, "sley_rwlock_fini", "somebody waits for the lock");
}
