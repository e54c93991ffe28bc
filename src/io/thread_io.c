/* thread_io.c - calls on a descriptor by a plain thread: it waits in poll(2), on the descriptor and on an eventfd.
 *
 * The protocol is the one of an operation in a ring: the wait word says WAITING_IO, a closer or canceller moves its arm and then makes
 * sure that the waiter looks, here by the eventfd. The eventfds are kept for ever, so a ring of the bell that comes late finds an
 * eventfd, at worst that of another thread, which looks and waits on. There are as many as plain threads ever waited at once.
 * order [thread_io.1]: the eventfd is stored in the block before the word says WAITING_IO. */
#include "io/thread_io.h"
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

/* Until fd is ready, the arm of the word says otherwise, or the deadline. The events, or -errno. */
static int poll_both(struct sl_fiber *f, int fd, unsigned events, int bell_fd, sley_time deadline)
{
    for (;;) {
        struct pollfd p[2] = { { .fd = fd, .events = (short)events }, { .fd = bell_fd, .events = POLLIN } };
        struct timespec left = { 0 };
        uint64_t rung;
        int n;

        if (deadline != SLEY_FOREVER) {
            int64_t ns = deadline - sl_clock_ns();

            if (ns > 0)
                left = (struct timespec){ .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
        }
        n = sl_sys_poll(p, 2, deadline != SLEY_FOREVER ? &left : NULL);
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
    struct sl_record *r = c->record;
    int rc = 0;
    struct bell *bell = bell_take(&rc);
    uint64_t word;

    if (bell == NULL)
        return rc;
    rc = sl_wait_begin(f, SLEY_FOREVER, SL_WAIT_IO, NULL); /* poll keeps the deadline */
    if (rc < 0)
        goto give_bell;
    sl_lock_acquire(&r->lock);
    if (r->phase != SL_PHASE_OPEN || sl_cancelled(f)) {
        rc = r->phase != SL_PHASE_OPEN ? -EBADF : -ECANCELED;
    } else {
        c->sequence = sl_wait_sequence(f);
        c->cut = false;
    }
    sl_lock_release(&r->lock);
    if (rc < 0) {
        sl_wait_end(f);
        goto give_bell;
    }
    sl_store_relaxed(&f->op_fd, bell->fd);
    sl_store_release(&f->word, SL_WORD(sl_wait_sequence(f), 0, SL_WAITING_IO)); /* order [thread_io.1] */

    rc = poll_both(f, fd, events, bell->fd, deadline);

    sl_store_relaxed(&f->wait_kind, SL_WAIT_NONE);
    word = sl_swap_acq_rel(&f->word, SL_WORD(sl_wait_sequence(f), 0, SL_IDLE)); /* [park.2] */
    if (rc == 0)
        rc = SL_WORD_ARM(word) == SL_ARM_CLOSE ? -EBADF : -ECANCELED;
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
