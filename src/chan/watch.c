/* watch.c - a descriptor that polls readable while a receive would not wait, for loops that are not the library's (sley_chan_fd).
 *
 * It is an eventfd, read or written only when what it says must change.
 *   W1  Who changes what a receive would find (a message more or less, a sender that waits, close) does so with WATCHED set in `flags`, or
 *       before it was set, and settles the descriptor before its call returns or parks.
 *   W2  To settle is, under the mutex, to look at the channel and to make the descriptor say what was seen. So it is right, or somebody
 *       who has changed the channel since is about to settle it: when a send has returned the descriptor is readable until somebody
 *       receives. Whoever looks in between may find it readable with nothing there, and looks in vain once.
 *   W3  A hold keeps the channel and this in memory. The users have one as long as they have references; an operation takes another under
 *       the channel's locks (before a partner can be told of what it did) and gives it back when it has settled. The last one frees. The
 *       mutex is a thread's, for system calls are made under it; nothing parks and no lock is taken there.
 *
 * Rejected: the system call under the channel's locks, spinlocks all. And skipping the mutex where the descriptor seems right already: it
 * may be about to be silenced by somebody who looked before the message came.
 *
 * order [watch.1]: a hold is given back with release, after the last look at the channel; the last one acquires and frees. */
#include "chan/chan.h"
#include "io/record.h"
#include "io/sys.h"

#include <sley/io.h>

#include <pthread.h>
#include <sys/eventfd.h>

struct sl_watch {
    pthread_mutex_t   mutex;
    int               fd;    /* constant */
    bool              says;  /* something is there; under the mutex */
    _Atomic(uint32_t) holds; /* W3 */
};

/* Whether a receive would not wait. Seen without the channel's locks: W2. */
static bool is_readable(const sley_chan *ch)
{
    return (flags_of(&ch->recv) & (CLOSED | SENDERS)) || passed(&ch->send) != passed(&ch->recv);
}

void sl_watch_hold(sley_chan *ch)
{
    sl_add_relaxed(&ch->watch->holds, 1); /* there is one already */
}

void sl_watch_drop(sley_chan *ch)
{
    struct sl_watch *w = ch->watch;

    if (sl_sub_acq_rel(&w->holds, 1) > 1) /* [watch.1] */
        return;
    (void)sley_close(w->fd);
    pthread_mutex_destroy(&w->mutex);
    free(w);
    sl_chan_free(ch);
}

void sl_watch_settle(sley_chan *ch)
{
    struct sl_watch *w = ch->watch;
    uint64_t count = 1;
    bool there;

    if (!sl_load_relaxed(&sl_forked)) { /* in a child the descriptor is the parent's too */
        pthread_mutex_lock(&w->mutex);
        there = is_readable(ch);
        if (there && !w->says)
            sl_sys_write(w->fd, &count, sizeof count);
        else if (!there && w->says)
            sl_sys_read(w->fd, &count, sizeof count);
        w->says = there;
        pthread_mutex_unlock(&w->mutex);
    }
    sl_watch_drop(ch);
}

static int create(struct sl_watch **out)
{
    struct sl_watch *w = malloc(sizeof *w);
    int fd;

    if (w == NULL)
        return -ENOMEM;
    fd = sl_sys_eventfd(EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        free(w);
        return fd;
    }
    pthread_mutex_init(&w->mutex, NULL);
    w->fd = sl_record_adopt(fd, SL_FD_STREAM | SL_HINT_NONBLOCK);
    w->says = false;
    sl_store_relaxed(&w->holds, 1); /* nobody else knows it */
    *out = w;
    return 0;
}

static int fd_of(sley_chan *ch) /* -1: there is none so far */
{
    struct sl_watch *w;

    sl_lock_acquire(&ch->send.lock);
    w = ch->watch;
    sl_lock_release(&ch->send.lock);
    return w != NULL ? w->fd : -1;
}

int sley_chan_fd(sley_chan *ch)
{
    struct sl_watch *made;
    int rc;

    if (ch == NULL)
        return -EINVAL;
    if ((rc = fd_of(ch)) >= 0)
        return rc;
    if ((rc = create(&made)) < 0)
        return rc;
    lock_both(ch);
    if (ch->watch == NULL) {
        ch->watch = made;
        set_flags(ch, flags_of(&ch->send) | WATCHED);
        made = NULL;
    }
    unlock_both(ch);
    if (made != NULL) { /* somebody else was faster */
        (void)sley_close(made->fd);
        pthread_mutex_destroy(&made->mutex);
        free(made);
        return fd_of(ch);
    }
    if (is_one_to_one(&ch->send))
        sl_spsc_barrier(ch); /* W1: who has not seen WATCHED has moved its message before */
    sl_watch_hold(ch);
    sl_watch_settle(ch);
    return ch->watch->fd;
}
