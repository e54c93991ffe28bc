/* thread_io.c - calls on a descriptor by a plain thread: it waits in poll(2), on the descriptor and on an eventfd.
 *
 * The protocol is the one of an operation in a ring: the wait word says WAITING_IO, a closer or canceller moves its arm and then makes
 * sure that the waiter looks, here by the eventfd. The eventfds are kept for ever, so a ring of the bell that comes late finds an
 * eventfd, at worst that of another thread, which looks and waits on. There are as many as plain threads ever waited at once.
 *
 * A wait on several objects is one as in park.h: the word says WAITING, others claim, and sl_ready rings the bell. The thread looks at its
 * descriptors itself, and if one is ready claims itself, under that record's lock, in the name of that node.
 * order [thread_io.1]: the eventfd is stored in the block before the word says WAITING_IO, or WAITING. */
#include "io/thread_io.h"
#include "io/arms.h"
#include "io/call.h"
#include "io/fork.h"

#include <stdlib.h>
#include <sys/eventfd.h>

struct bell {
    struct bell *next;
    int          fd;
};

static struct sl_lock lock;
static struct bell *idle_bells; /* under lock */

static struct bell *bell_take(int *error)
{
    struct bell *b;

    sl_lock_acquire(&lock);
    b = idle_bells;
    if (b != NULL)
        idle_bells = b->next;
    sl_lock_release(&lock);
    if (b != NULL)
        return b;

    b = malloc(sizeof(*b));
    if (b == NULL) {
        *error = -ENOMEM;
        return NULL;
    }
    b->fd = sl_sys_eventfd(EFD_CLOEXEC | EFD_NONBLOCK);
    if (b->fd < 0) {
        *error = b->fd;
        free(b);
        return NULL;
    }
    return b;
}

static void bell_give(struct bell *b)
{
    sl_lock_acquire(&lock);
    b->next = idle_bells;
    idle_bells = b;
    sl_lock_release(&lock);
}

void sl_thread_io_wake(struct sl_fiber *f)
{
    uint64_t one = 1;

    sl_sys_write(sl_load_relaxed(&f->op_fd), &one, sizeof(one)); /* [thread_io.1] behind the compare-and-swap of the word */
}

void sl_thread_io_ring(int bell)
{
    uint64_t one = 1;

    sl_sys_write(bell, &one, sizeof(one));
}

/* Until the deadline, as poll wants it; NULL: none. */
static const struct timespec *left_until(int64_t deadline, struct timespec *left)
{
    int64_t ns = deadline - sl_clock_ns();

    if (deadline == SL_TIME_NONE)
        return NULL;
    *left = ns > 0 ? (struct timespec){ .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 } : (struct timespec){ 0 };
    return left;
}

/* Until fd is ready, the arm of the word says otherwise, or the deadline. The events, or -errno. */
static int poll_both(struct sl_fiber *f, int fd, unsigned events, int bell_fd, sley_time deadline)
{
    for (;;) {
        struct pollfd p[2] = { { .fd = fd, .events = (short)events }, { .fd = bell_fd, .events = POLLIN } };
        struct timespec left;
        uint64_t rung;
        int n = sl_sys_poll(p, 2, left_until(deadline, &left));

        if (n == -EINTR)
            sl_signal_point();
        else if (n < 0)
            return n;
        if (n > 0 && p[0].revents != 0)
            return p[0].revents & POLLNVAL ? -EBADF : (unsigned short)p[0].revents;
        if (n > 0)
            sl_sys_read(bell_fd, &rung, sizeof(rung));
        if (SL_WORD_ARM(sl_load_acquire(&f->word)) != 0) /* [park.2] */
            return 0;
        if (n == 0 && deadline != SLEY_FOREVER && sl_clock_ns() >= deadline)
            return -ETIMEDOUT;
    }
}

int sl_thread_poll(struct sl_call *c, int fd, unsigned events, sley_time deadline)
{
    struct sl_fiber *f = c->fiber;
    int rc = 0;
    struct bell *bell = bell_take(&rc);
    uint64_t word;

    if (bell == NULL)
        return rc;
    rc = sl_wait_begin(f, SLEY_FOREVER, SL_WAIT_IO, NULL); /* poll keeps the deadline */
    if (rc < 0)
        goto give_bell;
    rc = sl_call_announce(c, f);
    if (rc == 0 && c->also != NULL)
        rc = sl_call_announce_others(c);
    if (rc < 0) {
        sl_wait_end(f);
        goto give_bell;
    }
    sl_streak_end(f);
    sl_store_relaxed(&f->op_fd, bell->fd);
    sl_store_release(&f->word, SL_WORD(sl_wait_sequence(f), 0, SL_WAITING_IO)); /* order [thread_io.1] */

    rc = poll_both(f, fd, events, bell->fd, deadline);

    sl_store_relaxed(&f->wait_kind, SL_WAIT_NONE);
    word = sl_swap_acq_rel(&f->word, SL_WORD(sl_wait_sequence(f), 0, SL_IDLE)); /* [park.2] */
    if (rc == 0 && SL_WORD_ARM(word) == SL_ARM_CLOSE) {
        rc = -EBADF;
    } else if (rc == 0) {
        sl_scope_note_cut(f);
        rc = -ECANCELED;
    }
give_bell:
    bell_give(bell);
    return rc;
}

/* ---- a wait on several objects, some of them descriptors or signals ---- */

#define POLLED_ON_STACK 16

/* The descriptor of n is ready: be claimed by it, as by any other claimer. false: something else has claimed this thread, or n. */
static bool claim_by(struct sl_wait_node *n)
{
    struct sl_record *r = sl_record_find((int)(uint32_t)n->value);
    struct sl_woken self = { NULL, NULL }; /* it is awake */
    bool won;

    sl_lock_acquire(&r->lock);
    won = sl_node_linked(n) && sl_claim(n, SL_ARM_EVENT, &self);
    if (won)
        sl_wait_list_remove(&r->waiters, n);
    sl_lock_release(&r->lock);
    return won;
}

/* The word says WAITING. p[0] is the bell, p[1] the signals' or a negative number, the others are those of the nodes, in their order. Until
 * the thread is claimed, or has claimed itself: 0; or poll's error, once it has claimed itself for that. */
static int poll_all(struct sl_fiber *f, struct sl_wait_node *nodes, struct pollfd *p, unsigned count)
{
    int64_t deadline = sl_load_relaxed(&f->timer.deadline); /* own */

    while (!sl_thread_is_ready(f)) {
        struct timespec left;
        uint64_t rung;
        int rc = sl_sys_poll(p, count, left_until(deadline, &left));

        if (rc == -EINTR) {
            sl_signal_point();
            continue;
        }
        if (rc < 0) {
            if (count > 1 && sl_thread_claim_self(f, SL_ARM_EVENT))
                return rc;
            count = 1;
            sl_thread_yield(); /* claimed: whoever did so is about to make this thread ready */
            continue;
        }
        if (p[0].revents != 0)
            sl_sys_read(p[0].fd, &rung, sizeof(rung));
        if (count > 1 && p[1].revents != 0)
            sl_signal_bell_rang(); /* which may claim this thread, as any other */
        for (unsigned i = 2, at = 0; i < count; i++, at++) {
            while (nodes[at].kind != SLEY_CASE_FD)
                at++;
            if (p[i].revents == 0)
                continue;
            if (claim_by(&nodes[at]))
                return 0;
            count = 1; /* only the bell is of interest now */
        }
        if (deadline != SL_TIME_NONE && sl_clock_ns() >= deadline) {
            deadline = SL_TIME_NONE; /* if the claim fails somebody else's has won, and sl_ready will come */
            if (sl_thread_claim_self(f, SL_ARM_TIMEOUT))
                return 0;
        }
    }
    return 0;
}

/* It cannot wait, for this reason. An arm that has won meanwhile is better than an error. */
static int cannot_wait(struct sl_fiber *f, int error)
{
    bool ended = sl_claim_self(f);
    unsigned why = sl_thread_leave(f);

    return ended ? error : (int)why;
}

int sl_thread_park_polling(struct sl_fiber *f, struct sl_wait_node *nodes, size_t n)
{
    struct pollfd few[POLLED_ON_STACK], *p = few;
    unsigned count = 2;
    bool signals = false;
    struct bell *bell;
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        count += nodes[i].kind == SLEY_CASE_FD;
        signals = signals || nodes[i].kind == SLEY_CASE_SIGNAL;
    }
    if (count == 2 && !signals)
        return (int)sl_park_many();
    bell = bell_take(&rc);
    if (bell == NULL)
        return cannot_wait(f, rc);
    if (count > POLLED_ON_STACK && (p = malloc(count * sizeof(*p))) == NULL) {
        rc = cannot_wait(f, -ENOMEM);
        goto give_bell;
    }
    p[0] = (struct pollfd){ .fd = bell->fd, .events = POLLIN };
    p[1] = (struct pollfd){ .fd = signals ? sl_signal_bell() : -1, .events = POLLIN };
    count = 2;
    for (size_t i = 0; i < n; i++)
        if (nodes[i].kind == SLEY_CASE_FD)
            p[count++] = (struct pollfd){ .fd = (int)(uint32_t)nodes[i].value, .events = (short)((uint64_t)nodes[i].value >> 32) };

    if (sl_thread_commit(f, bell->fd)) /* order [thread_io.1]: the bell is known before the word says WAITING */
        rc = poll_all(f, nodes, p, count);
    if (rc < 0)
        sl_thread_leave(f);
    else
        rc = (int)sl_thread_leave(f);
    if (p != few)
        free(p);
give_bell:
    bell_give(bell);
    return rc;
}

int sl_thread_connect(int fd, const struct sockaddr *addr, socklen_t addr_bytes)
{
    int flags = sl_sys_fcntl(fd, F_GETFL, 0);
    int rc;

    if (flags < 0)
        return flags;
    if (!(flags & O_NONBLOCK) && (rc = sl_sys_fcntl(fd, F_SETFL, flags | O_NONBLOCK)) < 0)
        return rc;
    rc = sl_sys_connect(fd, addr, addr_bytes);
    if (!(flags & O_NONBLOCK))
        sl_sys_fcntl(fd, F_SETFL, flags);
    return rc == -EINTR ? -EINPROGRESS : rc;
}

void sl_thread_io_reset(void)
{
    lock = (struct sl_lock){ 0 };
    idle_bells = NULL; /* the parent's threads ring them */
}
