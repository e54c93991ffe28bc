/* wait.c - waiting for readiness. It belongs to the descriptor's record, not to the waiter: one poll stays armed there for all, and a
 * waiter that gives up only unlinks itself.
 *
 * From a waiter's side: look (poll(2) with no time); else, under the record's lock, see to it that a poll for these events is armed, link,
 * park; once woken, look again, because another may have been faster. A poll that is armed for too few events is asked to end; its end
 * arms one for everybody.
 * From the poll's side (sl_fd_poll_done): disarm, claim whom the events concern, arm again if somebody is left: rule R4. */
#include "io/call.h"

#include <sley/io.h>

#define TAG_MASK 0xffffffu
#define ALWAYS   (POLLERR | POLLHUP | POLLNVAL) /* reported whether asked for or not */

static unsigned wanted_events(const struct sl_record *r)
{
    unsigned events = 0;

    for (const struct sl_wait_node *n = r->waiters.head; n != NULL; n = n->next)
        events |= (unsigned)n->count & ~(unsigned)ALWAYS;
    return events;
}

/* Under the lock, after sl_poll_reserve. */
static void arm(struct sl_record *r, int fd, unsigned events)
{
    r->poll_tag = (r->poll_tag + 1) & TAG_MASK;
    r->poll_events = (uint16_t)events;
    r->poll_stale = false;
    r->poll_worker = sl_poll_arm(fd, events, r->poll_tag);
}

void sl_fd_poll_done(int fd, uint32_t tag, int result)
{
    struct sl_record *r = sl_record_find(fd);
    struct sl_fiber *woken = NULL, *closer = NULL;

    sl_poll_reserve(1);
    sl_lock_acquire(&r->lock);
    if (r->poll_worker == NULL || r->poll_tag != tag) {
        sl_lock_release(&r->lock);
        return;
    }
    r->poll_worker = NULL;
    if (r->phase != SL_PHASE_OPEN) {
        closer = sl_record_claim_closer(r);
    } else {
        if (result >= 0)
            woken = sl_record_claim_waiters(r, (unsigned)result, 0, SL_WAKE_ALL_BATCH);
        else if (result != -ECANCELED) /* the descriptor cannot be polled any more */
            woken = sl_record_claim_waiters(r, 0, result, SL_WAKE_ALL_BATCH);
        if (r->waiters.head != NULL)
            arm(r, fd, wanted_events(r));
    }
    sl_lock_release(&r->lock);
    if (closer != NULL)
        sl_ready(closer);
    if (woken != NULL)
        sl_ready_list(woken);
}

void sl_fd_runtime_gone(struct sley_runtime *rt)
{
    for (int at = 0; at < SL_RECORD_CHUNKS; at++) {
        struct sl_record *r = sl_record_find(at * SL_RECORD_CHUNK);

        for (int i = 0; r != NULL && i < SL_RECORD_CHUNK; i++) {
            struct sl_record *one = &r[i];
            struct sl_fiber *woken = NULL;

            sl_lock_acquire(&one->lock);
            if (one->poll_worker != NULL && ((struct sl_thread *)one->poll_worker)->rt == rt) {
                one->poll_worker = NULL;
                /* Waiters of other runtimes look again, and arm a poll of their own; so does a closer. */
                woken = sl_record_claim_waiters(one, 0, 0, UINT32_MAX);
            }
            sl_lock_release(&one->lock);
            if (woken != NULL)
                sl_ready_list(woken);
        }
    }
}

/* Wait for one end of the poll. 0: look again; -errno. */
static int wait_once(struct sl_call *c, int fd, unsigned events, sley_time deadline)
{
    struct sl_fiber *f = c->fiber;
    struct sl_record *r = c->record;
    struct sl_wait_node node = { .fiber = f, .count = events | ALWAYS };
    unsigned why;
    int rc;

    sl_poll_reserve(1);
    rc = sl_wait_begin(f, deadline, SL_WAIT_FD, r);
    if (rc < 0)
        return rc;
    sl_lock_acquire(&r->lock);
    if (r->phase != SL_PHASE_OPEN || sl_cancelled(f)) {
        rc = r->phase != SL_PHASE_OPEN ? -EBADF : -ECANCELED;
        sl_wait_end(f);
        sl_lock_release(&r->lock);
        return rc;
    }
    if (r->poll_worker != NULL && !r->poll_stale && events & ~(r->poll_events | (unsigned)ALWAYS)) {
        struct sl_worker *worker = r->poll_worker;
        uint32_t tag = r->poll_tag;

        r->poll_stale = true;
        sl_wait_end(f);
        sl_lock_release(&r->lock);
        sl_poll_cancel(worker, fd, tag);
        return 0;
    }
    if (r->poll_worker == NULL)
        arm(r, fd, events & ~(unsigned)ALWAYS);
    node.sequence = sl_wait_sequence(f);
    sl_wait_list_push(&r->waiters, &node);
    why = sl_park(&r->lock);
    if (why == SL_ARM_EVENT)
        return node.result;
    sl_lock_acquire(&r->lock);
    if (node.linked)
        sl_wait_list_remove(&r->waiters, &node);
    sl_lock_release(&r->lock);
    return why == SL_ARM_CANCEL ? -ECANCELED : -ETIMEDOUT;
}

int sley_fd_wait(int fd, int events, sley_time deadline)
{
    struct sl_call c;
    int n = events & ~0xffff ? -EINVAL : sl_call_begin(&c, fd, deadline);

    if (n < 0)
        return n;
    if (deadline == SLEY_NOW) {
        n = sl_poll_now(fd, (unsigned)events);
        n = sl_call_direct(&c, n == 0 ? -ETIMEDOUT : n);
    } else if (sl_on_thread(&c)) {
        n = sl_thread_poll(&c, fd, (unsigned)events, deadline);
    } else {
        while ((n = sl_poll_now(fd, (unsigned)events)) == 0) {
            if ((n = wait_once(&c, fd, (unsigned)events, deadline)) < 0)
                break;
        }
        if (n > 0)
            sl_call_direct(&c, n);
    }
    sl_call_end(&c);
    return n;
}
