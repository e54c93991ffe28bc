/* without_ring.c - operations where there is no ring: the epoll backend's half that concerns descriptors.
 *
 * What a descriptor can be waited for is tried, without waiting; if it is not ready the fiber waits for the poll of its record (wait.c),
 * as sley_fd_wait does, and tries again: so closing, cancels and deadlines are that wait's. Everything else goes to the pool of
 * sley_blocking. */
#include "io/call.h"

#include <limits.h>

/* For what a descriptor must be ready before op can be tried; 0: no readiness tells. */
static unsigned events_of(const struct sl_op *op)
{
    switch (op->code) {
    case IORING_OP_POLL_ADD:
        return op->flags;
    case IORING_OP_READ: case IORING_OP_READV: case IORING_OP_RECV: case IORING_OP_RECVMSG: case IORING_OP_ACCEPT:
        return POLLIN;
    case IORING_OP_WRITE: case IORING_OP_WRITEV: case IORING_OP_SEND: case IORING_OP_SENDMSG:
        return POLLOUT;
    default:
        return 0;
    }
}

static bool is_nonblocking(int fd)
{
    int flags = sl_sys_fcntl(fd, F_GETFL, 0);

    return flags >= 0 && flags & O_NONBLOCK;
}

/* A listener that blocks cannot be tried: the connection that made it ready may be gone. It becomes one that does not. */
static int try_accept(const struct sl_op *op)
{
    int flags = sl_sys_fcntl(op->fd, F_GETFL, 0), rc;

    if (flags < 0)
        return flags;
    if (!(flags & O_NONBLOCK) && (rc = sl_sys_fcntl(op->fd, F_SETFL, flags | O_NONBLOCK)) < 0)
        return rc;
    return sl_sys_accept4(op->fd, (struct sockaddr *)(uintptr_t)op->addr, (socklen_t *)(uintptr_t)op->off, (int)op->flags);
}

/* Without waiting. -EAGAIN: not ready; -EOPNOTSUPP: that cannot be tried. */
static int try_once(const struct sl_op *op)
{
    void *buf = (void *)(uintptr_t)op->addr;
    struct iovec one = { buf, op->len };

    switch (op->code) {
    case IORING_OP_POLL_ADD: {
        int n = sl_poll_now(op->fd, op->flags);
        return n == 0 ? -EAGAIN : n;
    }
    case IORING_OP_ACCEPT:
        return try_accept(op);
    case IORING_OP_RECV:
        return sl_sys_recv(op->fd, buf, op->len, (int)op->flags | MSG_DONTWAIT);
    case IORING_OP_SEND:
        return sl_sys_send(op->fd, buf, op->len, (int)op->flags | MSG_DONTWAIT | MSG_NOSIGNAL);
    case IORING_OP_RECVMSG:
        return sl_sys_recvmsg(op->fd, buf, (int)op->flags | MSG_DONTWAIT);
    case IORING_OP_SENDMSG:
        return sl_sys_sendmsg(op->fd, buf, (int)op->flags | MSG_DONTWAIT | MSG_NOSIGNAL);
    case IORING_OP_READ:
        return sl_sys_preadv2(op->fd, &one, 1, (int64_t)op->off, RWF_NOWAIT);
    case IORING_OP_WRITE:
        return sl_sys_pwritev2(op->fd, &one, 1, (int64_t)op->off, RWF_NOWAIT);
    case IORING_OP_READV:
        return sl_sys_preadv2(op->fd, buf, (int)op->len, (int64_t)op->off, RWF_NOWAIT);
    case IORING_OP_WRITEV:
        return sl_sys_pwritev2(op->fd, buf, (int)op->len, (int64_t)op->off, RWF_NOWAIT);
    default:
        return -EOPNOTSUPP;
    }
}

/* It is ready, and cannot be tried: a non-blocking descriptor does it here, one that may block all the same on the pool. */
static int do_ready(struct sl_call *c, const struct sl_op *op, sley_time deadline)
{
    struct sl_op piece = *op;

    if (is_nonblocking(op->fd))
        return sl_perform(op, NULL);
    if (op->code == IORING_OP_WRITE && piece.len > PIPE_BUF)
        piece.len = PIPE_BUF; /* what a descriptor that is ready takes without waiting */
    return sl_call_perform_on_pool(c, &piece, deadline);
}

int sl_call_without_ring(struct sl_call *c, const struct sl_op *op, sley_time deadline)
{
    unsigned events = events_of(op);
    bool is_file = c->record != NULL && sl_record_kind(c->record) == SL_FD_FILE && op->code != IORING_OP_POLL_ADD;
    bool can_try = true;
    int n;

    if (op->code == IORING_OP_CONNECT) {
        n = sl_thread_connect(op->fd, (const struct sockaddr *)(uintptr_t)op->addr, (socklen_t)op->off);
        if (n != -EAGAIN)
            return n;
    }
    if ((events == 0 && op->code != IORING_OP_POLL_ADD) || is_file || c->record == NULL)
        return sl_call_perform_on_pool(c, op, deadline);
    for (;;) {
        if (can_try) {
            do
                n = try_once(op);
            while (n == -EINTR);
            if (n != -EAGAIN && n != -EOPNOTSUPP)
                return n;
            can_try = n == -EAGAIN;
            if (!can_try && (n = sl_call_mode(op->fd, events)) < 0) /* the writing end of a pipe is never ready to be read */
                return n;
        }
        if (can_try || (n = sl_poll_now(op->fd, events)) == 0) {
            if ((n = sl_call_wait_ready(c, op->fd, events, deadline)) < 0)
                return n;
            continue;
        }
        if (n < 0)
            return n;
        n = do_ready(c, op, deadline);
        if (n != -EAGAIN)
            return n;
        if ((n = sl_call_turn(c->fiber)) < 0)
            return n;
    }
}
