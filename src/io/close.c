/* close.c - giving a descriptor back while others may be in calls on it.
 *
 * From the closer's side: phase CLOSING; readiness waiters are woken; each operation in flight is asked to end; the poll too; wait until
 * the record is idle; phase RELEASING; close(2); phase OPEN, unless somebody has got the number meanwhile. Nothing of this is ever
 * cancelled: the wait is under a shield.
 * From a call's side: it links itself only while OPEN. Before it waits it looks at the phase under the lock, where it also says
 * which operation it begins: so it sees CLOSING, or the closer sees the operation. The last one out claims the closer.
 *
 * close(2) of a socket that lingers (SO_LINGER) waits for the peer, for as long as it was told. On a fiber the number is given back first,
 * which a copy makes quick; the copy is closed on the pool. */
#include "base/assert.h"
#include "io/call.h"
#include "io/descriptor.h"
#include "io/group.h"
#include "sched/blocking.h"

#include <sley/io.h>

#define CUT_BATCH 16

/* Wake those who wait for readiness. Called and returns with the lock held. */
static void cut_waiters(struct sl_record *r)
{
    while (r->waiters.head != NULL) {
        struct sl_woken woken = { NULL, NULL };

        sl_record_claim_waiters(r, 0, -EBADF, SL_WAKE_ALL_BATCH, &woken);
        sl_lock_release(&r->lock);
        sl_woken_ready(&woken);
        sl_lock_acquire(&r->lock);
    }
}

/* Ask for the end of every operation in flight. The lock is not held over that, it may enter the kernel; so the list is walked anew
 * until all are marked. Called and returns with the lock held. */
static void cut_calls(struct sl_record *r)
{
    struct { struct sl_fiber *fiber; uint64_t sequence; } batch[CUT_BATCH];
    unsigned count;

    do {
        count = 0;
        for (struct sl_call *c = r->calls; c != NULL && count < CUT_BATCH; c = c->next) {
            if (c->sequence == 0 || c->cut)
                continue;
            c->cut = true;
            batch[count].fiber = c->fiber;
            batch[count++].sequence = c->sequence;
        }
        if (count > 0) {
            sl_lock_release(&r->lock);
            for (unsigned i = 0; i < count; i++)
                sl_op_cancel(batch[i].fiber, batch[i].sequence, SL_ARM_CLOSE);
            sl_lock_acquire(&r->lock);
        }
    } while (count == CUT_BATCH);
}

static void cut_poll(struct sl_record *r, int fd)
{
    struct sl_retired_poll poll = sl_record_retire_poll(r, fd);

    if (poll.worker != NULL) {
        sl_lock_release(&r->lock);
        sl_record_end_poll(&poll);
        sl_lock_acquire(&r->lock);
    }
}

/* The slow half of closing: cut everybody off and wait until they have left. Called and returns with the lock held. */
static void cut_and_wait(struct sl_fiber *f, struct sl_record *r, int fd, uint32_t generation)
{
    struct sl_wait_node node;

    cut_waiters(r);
    cut_calls(r);
    cut_poll(r, fd);
    sl_lock_release(&r->lock);
    sl_descriptor_freed(); /* an accept may sit there */

    sl_store_relaxed(&f->shields, sl_load_relaxed(&f->shields) + 1); /* own: closing is never cancelled */
    for (;;) {
        int rc = sl_wait_begin(f, SLEY_FOREVER, SL_WAIT_CLOSE, r);

        sl_lock_acquire(&r->lock);
        if (sl_load_relaxed(&r->generation) != generation || sl_record_is_idle(r)) { /* under the lock */
            if (rc == 0)
                sl_wait_end(f);
            break;
        }
        if (rc < 0) { /* in a forked child nobody waits: the calls are about to end */
            sl_lock_release(&r->lock);
            sl_thread_yield();
            continue;
        }
        sl_node_init(&node, f);
        sl_wait_list_push(&r->waiters, &node);
        sl_park(&r->lock);
    }
    sl_store_relaxed(&f->shields, sl_load_relaxed(&f->shields) - 1); /* own */
}

/* A copy of fd, to be closed where it may wait. -1: fd does not linger, or there is no room for a copy. */
static int copy_if_lingers(const struct sl_fiber *f, const struct sl_record *r, int fd)
{
    struct linger linger = { 0 };
    socklen_t bytes = sizeof(linger);

    if (f->flags & SL_FIBER_THREAD || sl_record_kind(r) == SL_FD_FILE || sl_record_kind(r) == SL_FD_STREAM)
        return -1;
    if (sl_sys_getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &bytes) < 0 || !linger.l_onoff || linger.l_linger == 0)
        return -1;
    return sl_sys_fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static int close_copy(void *arg)
{
    int *fd = arg, rc = sl_sys_close(*fd);

    *fd = -1;
    return rc;
}

/* Not earlier than close(2) would have returned. */
static int linger(struct sl_fiber *f, int fd)
{
    int rc;

    sl_shield_begin(f);
    rc = sl_blocking_call(close_copy, &fd, SLEY_FOREVER, NULL, NULL, NULL);
    sl_shield_end(f);
    return fd < 0 ? rc : close_copy(&fd); /* no thread is to be had: here */
}

int sley_close(int fd)
{
    struct sl_fiber *f = sl_current();
    uint32_t generation;
    int rc = 0, copy;
    struct sl_record *r = sl_record_at(fd, &rc);

    if (r == NULL)
        return rc == -EBADF ? rc : sl_sys_close(fd); /* no memory for a record: so nobody is in a call */
    sl_lock_acquire(&r->lock);
    while (r->phase == SL_PHASE_RELEASING) { /* another descriptor of this number has just been given back */
        sl_lock_release(&r->lock);
        sl_thread_yield();
        sl_lock_acquire(&r->lock);
    }
    if (r->phase == SL_PHASE_CLOSING) {
        sl_lock_release(&r->lock);
        return -EBADF;
    }
    generation = sl_load_relaxed(&r->generation); /* under the lock */
    r->phase = SL_PHASE_CLOSING;
    if (!sl_record_is_idle(r) || r->waiters.head != NULL)
        cut_and_wait(f, r, fd, generation);
    if (sl_load_relaxed(&r->generation) == generation && sl_load_relaxed(&r->group) != 0) { /* the closer's */
        sl_lock_release(&r->lock);
        sl_group_close(r);
        sl_lock_acquire(&r->lock);
    }
    if (sl_load_relaxed(&r->generation) != generation) { /* closed behind our back, and the number given to somebody else */
        sl_lock_release(&r->lock);
        return -EBADF;
    }
    r->phase = SL_PHASE_RELEASING;
    sl_store_relaxed(&r->generation, ++generation); /* R3, under the lock */
    sl_lock_release(&r->lock);

    copy = copy_if_lingers(f, r, fd);
    rc = sl_sys_close(fd);

    sl_lock_acquire(&r->lock);
    if (sl_load_relaxed(&r->generation) == generation) { /* under the lock */
        r->phase = SL_PHASE_OPEN;
        sl_store_relaxed(&r->hints, 0);  /* hint */
        sl_store_relaxed(&r->error, 0);  /* under the lock */
        sl_store_relaxed(&r->misses, 0); /* hint */
        sl_store_relaxed(&r->looks, 0);  /* hint */
    }
    sl_lock_release(&r->lock);
    if (copy >= 0)
        rc = linger(f, copy);
    sl_descriptor_freed();
    return rc == -EINTR ? 0 : rc; /* Linux has closed it all the same */
}
