/* epoll.c - the stand-in for a ring where io_uring is refused: polls and the doorbell on an epoll. ring.h has the rules, R4.
 *
 * Rejected: taking a poll out of the epoll when its end is asked for. Between the question and the EPOLL_CTL_DEL the poll may have ended,
 * and another of the same descriptor have been armed; the wrong one would go. */
#include "event/ring.h"
#include "plat/cpu.h"
#include "plat/feature.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SOFT_ENTRIES 512 /* completions that the owner has noted and nobody has reaped */
#define EVENTS_MAX   64  /* taken out of the epoll at once */

_Static_assert(POLLIN == EPOLLIN && POLLPRI == EPOLLPRI && POLLOUT == EPOLLOUT && POLLERR == EPOLLERR && POLLHUP == EPOLLHUP &&
               POLLRDHUP == EPOLLRDHUP, "the same bits");
_Static_assert(SOFT_ENTRIES >= 2 * EVENTS_MAX && SL_REAP_MAX <= EVENTS_MAX, "what one wait finds has room");

int sl_ring_init_epoll(struct sl_ring *r)
{
    memset(r, 0, sizeof *r);
    r->fd = -1;
    r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (r->epoll_fd < 0)
        return -errno;
    r->soft = malloc(SOFT_ENTRIES * sizeof *r->soft);
    if (r->soft == NULL) {
        close(r->epoll_fd);
        r->epoll_fd = -1;
        return -ENOMEM;
    }
    r->cq_entries = SOFT_ENTRIES;
    r->cq_mask = SOFT_ENTRIES - 1;
    r->sq_head = &r->words[0];
    r->sq_tail = &r->words[1];
    r->sq_flags = &r->words[2];
    r->cq_head = &r->words[3];
    r->cq_tail = &r->words[4];
    return 0;
}

void sl_epoll_fini(struct sl_ring *r)
{
    close(r->epoll_fd);
    r->epoll_fd = -1;
    free(r->soft);
}

/* Owner, with room. */
static void note(struct sl_ring *r, struct sl_completion c)
{
    unsigned tail = sl_load_relaxed(r->cq_tail); /* owner only */

    r->soft[tail & r->cq_mask] = c;
    sl_store_release(r->cq_tail, tail + 1); /* [ring.2] */
}

void sl_ring_note(struct sl_ring *r, uint64_t user_data, int32_t result)
{
    note(r, (struct sl_completion){ user_data, result, 0 });
}

/* Not libc's: ThreadSanitizer would take it for an access to fd, which a program may close behind our back. */
static int control(int epoll_fd, int operation, int fd, struct epoll_event *e)
{
    return syscall(__NR_epoll_ctl, epoll_fd, operation, fd, e) == 0 ? 0 : -errno;
}

/* EPOLL_CTL_MOD if fd is there, else ADD. */
static int arm(int epoll_fd, int fd, struct epoll_event *e)
{
    int rc = control(epoll_fd, EPOLL_CTL_MOD, fd, e);

    return rc == -ENOENT ? control(epoll_fd, EPOLL_CTL_ADD, fd, e) : rc;
}

void sl_ring_poll_epoll(struct sl_ring *r, int fd, uint32_t events, uint64_t user_data)
{
    struct epoll_event e = { .events = events | EPOLLONESHOT, .data.u64 = user_data };
    int rc = arm(r->epoll_fd, fd, &e);

    if (rc == -EPERM) /* a file, which is always ready; an io_uring says so at once */
        sl_ring_note(r, user_data, (int32_t)(events & (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM)));
    else if (rc < 0)
        sl_ring_note(r, user_data, rc);
}

int sl_ring_doorbell_epoll(struct sl_ring *r, int fd, uint64_t user_data)
{
    struct epoll_event e = { .events = EPOLLIN | EPOLLET, .data.u64 = user_data };

    return arm(r->epoll_fd, fd, &e);
}

static struct sl_completion completion(const struct epoll_event *e)
{
    return (struct sl_completion){ e->data.u64, (int32_t)e->events, IORING_CQE_F_MORE }; /* of the doorbell: it stays */
}

static int wait_events(const struct sl_ring *r, struct epoll_event *events, int max, int64_t wait_ns)
{
    struct timespec ts = { .tv_sec = wait_ns / 1000000000, .tv_nsec = wait_ns % 1000000000 };
    int64_t ms;
    long rc;

    if (sl_feature_may(SL_FEATURE_EPOLL_PWAIT2)) {
        rc = syscall(__NR_epoll_pwait2, r->epoll_fd, events, max, wait_ns == INT64_MAX ? NULL : &ts, NULL, 0);
        if (rc >= 0 || (errno != ENOSYS && errno != EPERM)) { /* EPERM: profiles of containers say so of calls that they do not know */
            sl_feature_note(SL_FEATURE_EPOLL_PWAIT2, 0);
            return rc < 0 ? -errno : (int)rc;
        }
        sl_feature_note(SL_FEATURE_EPOLL_PWAIT2, -errno);
    }
    ms = wait_ns == INT64_MAX ? -1 : wait_ns / 1000000 + (wait_ns % 1000000 != 0);
    rc = epoll_wait(r->epoll_fd, events, max, ms > INT32_MAX ? INT32_MAX : (int)ms);
    return rc < 0 ? -errno : (int)rc;
}

/* Owner, holding cq_lock. */
int sl_epoll_wait(struct sl_ring *r, int64_t wait_ns)
{
    struct epoll_event events[EVENTS_MAX];
    int n;

    if (sl_ring_has_completions(r))
        return 0;
    n = wait_events(r, events, EVENTS_MAX, wait_ns > 0 ? wait_ns : 0);
    for (int i = 0; i < n; i++)
        note(r, completion(&events[i]));
    return n < 0 ? n : 0;
}

unsigned sl_epoll_reap(struct sl_ring *r, struct sl_completion *out, unsigned max)
{
    struct epoll_event events[EVENTS_MAX];
    int n = max > 0 ? wait_events(r, events, max < EVENTS_MAX ? (int)max : EVENTS_MAX, 0) : 0;

    for (int i = 0; i < n; i++)
        out[i] = completion(&events[i]);
    return n > 0 ? (unsigned)n : 0;
}
