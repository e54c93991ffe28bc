/* net.c - accept, connect, receive and send. */
#include "io/descriptor.h"
#include "io/group.h"
#include "io/transfer.h"
#include "io/zerocopy.h"

#include <netinet/in.h>
#include <sley/net.h>

/* --- accept -------------------------------------------------------------------------------------------------------------------- */

/* The connection died while it was in the queue; the next one may be fine. */
static bool died_in_queue(int error)
{
    switch (-error) {
    case ECONNABORTED: case EPROTO: case ENOPROTOOPT: case ENETDOWN: case ENETUNREACH: case EHOSTDOWN: case EHOSTUNREACH: case ENONET:
        return true;
    default:
        return false;
    }
}

static bool out_of_descriptors(int error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOBUFS || error == -ENOMEM;
}

static bool is_nonblocking(int fd)
{
    int flags = sl_sys_fcntl(fd, F_GETFL, 0);

    return flags >= 0 && flags & O_NONBLOCK;
}

/* A plain thread, or whoever has several sockets, looks without waiting: so the listener must not wait either. */
static int make_nonblocking(struct sl_record *r, int fd)
{
    int flags = sl_sys_fcntl(fd, F_GETFL, 0);
    int rc = flags < 0 ? flags : flags & O_NONBLOCK ? 0 : sl_sys_fcntl(fd, F_SETFL, flags | O_NONBLOCK);

    if (rc >= 0)
        sl_record_hint(r, SL_HINT_NONBLOCK);
    return rc;
}

/* One look, or one wait, for a connection. */
SL_INLINE int accept_one(struct sl_call *c, int fd, struct sockaddr *addr, socklen_t *addr_bytes, sley_time deadline)
{
    struct sl_record *r = c->record;
    struct sl_op op = {
        .code = IORING_OP_ACCEPT,
        .fd = fd,
        .addr = (uintptr_t)addr,
        .off = (uintptr_t)addr_bytes,
        .flags = SOCK_CLOEXEC | SOCK_NONBLOCK,
    };
    int n;

    if (sl_on_thread(c) && (n = make_nonblocking(r, fd)) < 0)
        return n;
    /* The hint may be old, and a direct accept on a blocking listener would hold its worker: so it is asked for. */
    if (sl_record_hinted(r, SL_HINT_NONBLOCK) && (deadline == SLEY_NOW || sl_on_thread(c) || sl_record_likely(r)) &&
        (sl_on_thread(c) || is_nonblocking(fd))) {
        do
            n = sl_sys_accept4(fd, addr, addr_bytes, SOCK_CLOEXEC | SOCK_NONBLOCK);
        while (n == -EINTR);
        if (n != -EAGAIN) {
            if (n >= 0)
                sl_record_hit(r);
            return sl_call_direct(c, n);
        }
        sl_record_miss(r);
        if (deadline == SLEY_NOW)
            return -ETIMEDOUT;
    } else if (deadline == SLEY_NOW) {
        if ((n = sl_poll_now(fd, POLLIN)) <= 0)
            return n < 0 ? n : -ETIMEDOUT;
        deadline = sl_clock_ns(); /* the ring's first look succeeds; should another be faster, this passes at once */
    }
    if (sl_on_thread(c))
        n = -EAGAIN;
    else
        n = sl_call_park(c, &op, deadline);
    /* A plain thread, or a non-blocking listener on an old kernel. */
    if (n == -EAGAIN && (n = sl_transfer_retry(c, fd, POLLIN, deadline)) == 0)
        n = -EAGAIN;
    return n;
}

/* The same, of a listener that has a socket for each worker. The one that a program knows may be blocking by now: accept4 would hold the
 * worker. */
static int accept_of_group(struct sl_call *c, int fd, struct sockaddr *addr, socklen_t *addr_bytes, sley_time deadline)
{
    int n = make_nonblocking(c->record, fd);

    return n < 0 ? n : sl_group_accept(c, addr, addr_bytes, deadline);
}

int sley_accept(int fd, struct sockaddr *addr, socklen_t *addr_bytes, sley_time deadline)
{
    struct sl_call c;
    bool wanted = false, is_group;
    uint64_t seen = 0;
    int n = sl_call_begin(&c, fd, deadline);

    if (n < 0)
        return n;
    is_group = __builtin_expect(sl_load_relaxed(&c.record->group) != 0, 0); /* the caller's */
    for (;;) {
        if (wanted)
            seen = sl_descriptor_seen();
        n = is_group ? accept_of_group(&c, fd, addr, addr_bytes, deadline) : accept_one(&c, fd, addr, addr_bytes, deadline);
        if (__builtin_expect(n >= 0, 1)) {
            sl_record_adopt(n, SL_FD_SOCKET | SL_HINT_NONBLOCK);
            break;
        }
        if (out_of_descriptors(n)) {
            int error = n;

            if (!wanted) {
                sl_descriptor_want();
                wanted = true;
            } else if ((n = sl_descriptor_wait(c.fiber, seen, deadline)) < 0) {
                n = n == -ENOMEM ? error : n;
                break;
            }
        } else if (n != -EAGAIN && !died_in_queue(n)) {
            break;
        }
        if ((n = sl_call_again(&c)) < 0)
            break;
    }
    if (is_group)
        sl_group_leave(c.record);
    sl_call_end(&c);
    if (wanted)
        sl_descriptor_unwant();
    return n;
}

/* --- connect ------------------------------------------------------------------------------------------------------------------- */

/* The kernel has begun to connect and tells of the end by readiness; asked again, it says how that went. */
static int connect_finish(struct sl_call *c, int fd, const struct sockaddr *addr, socklen_t addr_bytes, sley_time deadline)
{
    int n;

    do {
        n = sl_call_poll(c, fd, POLLOUT, deadline);
        if (n >= 0)
            n = sl_sys_connect(fd, addr, addr_bytes);
    } while (n == -EINPROGRESS || n == -EALREADY || n == -EINTR);
    return n == -EISCONN ? 0 : n;
}

/* The queue of a Unix listener is full, and the socket is non-blocking: nothing tells when there is room, but a blocking one waits. */
static int connect_blocking(struct sl_call *c, const struct sl_op *op, sley_time deadline)
{
    int flags = sl_sys_fcntl(op->fd, F_GETFL, 0);
    int n;

    if (flags < 0 || !(flags & O_NONBLOCK))
        return flags < 0 ? flags : -EAGAIN;
    n = sl_sys_fcntl(op->fd, F_SETFL, flags & ~O_NONBLOCK);
    if (n < 0)
        return n;
    n = sl_call_park(c, op, deadline);
    sl_sys_fcntl(op->fd, F_SETFL, flags);
    return n;
}

int sley_connect(int fd, const struct sockaddr *addr, socklen_t addr_bytes, sley_time deadline)
{
    struct sl_op op = { .code = IORING_OP_CONNECT, .fd = fd, .addr = (uintptr_t)addr, .off = addr_bytes };
    struct sl_call c;
    int n = deadline == SLEY_NOW ? -EOPNOTSUPP : sl_call_begin(&c, fd, deadline);

    if (n < 0)
        return n;
    if (sl_on_thread(&c)) {
        n = sl_thread_connect(fd, addr, addr_bytes);
    } else {
        n = sl_call_park(&c, &op, deadline);
        if (n == -EAGAIN)
            n = connect_blocking(&c, &op, deadline);
    }
    if (n == -EINPROGRESS || n == -EALREADY)
        n = connect_finish(&c, fd, addr, addr_bytes, deadline);
    if (n == 0)
        (void)sl_record_take_error(c.record, fd); /* it was the connection's of before */
    sl_call_end(&c);
    return n;
}

/* --- receive and send ---------------------------------------------------------------------------------------------------------- */

/* MSG_WAITALL: on a stream, go on until the buffer is full. What came before an end or an error is returned; the next call tells of it. */
static int receive_whole(struct sl_call *c, int fd, char *buf, size_t bytes, int flags, sley_time deadline)
{
    int type = 0;
    socklen_t type_bytes = sizeof(type);
    size_t done = 0;
    int n = sl_sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_bytes);

    flags &= ~MSG_WAITALL;
    if (n < 0)
        return n;
    if (buf == NULL && bytes > 0)
        return -EFAULT;
    if (type != SOCK_STREAM || flags & (MSG_PEEK | MSG_DONTWAIT | MSG_ERRQUEUE))
        return sl_transfer_socket(c, IORING_OP_RECV, fd, buf, bytes, flags, deadline);
    if (bytes > SL_IO_BYTES_MAX)
        bytes = SL_IO_BYTES_MAX;
    do {
        n = done > 0 ? sl_call_again(c) : 0;
        if (n == 0)
            n = sl_transfer_socket(c, IORING_OP_RECV, fd, buf + done, bytes - done, flags, deadline);
        if (n > 0)
            done += (size_t)n;
    } while (n > 0 && done < bytes);
    if (n < 0 && done > 0)
        sl_record_keep_error(c->record, fd, n);
    return done > 0 ? (int)done : n;
}

int sley_recv(int fd, void *buf, size_t bytes, int flags, sley_time deadline)
{
    struct sl_call c;
    int n = sl_call_begin(&c, fd, deadline);

    if (n < 0)
        return n;
    if (__builtin_expect(flags & MSG_WAITALL, 0))
        n = receive_whole(&c, fd, buf, bytes, flags, deadline);
    else
        n = sl_transfer_socket(&c, IORING_OP_RECV, fd, buf, bytes, flags, deadline);
    sl_call_end(&c);
    return n;
}

int sley_send(int fd, const void *buf, size_t bytes, int flags, sley_time deadline)
{
    struct sl_call c;
    int n = sl_call_begin(&c, fd, deadline);

    if (n < 0)
        return n;
    if (__builtin_expect(flags & MSG_ZEROCOPY, 0))
        n = sl_zerocopy_send(&c, fd, buf, bytes, flags, deadline);
    else
        n = sl_transfer_socket(&c, IORING_OP_SEND, fd, (void *)buf, bytes, flags, deadline);
    sl_call_end(&c);
    return n;
}

int sley_send_all(int fd, const void *buf, size_t bytes, int flags, sley_time deadline)
{
    struct sl_call c;
    size_t done = 0;
    int n = buf == NULL && bytes > 0 ? -EFAULT : sl_call_begin(&c, fd, deadline);

    if (n < 0)
        return n;
    if (__builtin_expect(flags & MSG_ZEROCOPY, 0)) {
        n = sl_zerocopy_send_all(&c, fd, buf, bytes, flags, deadline);
        done = bytes;
    }
    while (done < bytes) {
        if (done > 0 && (n = sl_call_again(&c)) < 0)
            break;
        n = sl_transfer_socket(&c, IORING_OP_SEND, fd, (char *)buf + done, bytes - done, flags, deadline);
        if (n < 0)
            break;
        done += (size_t)n;
    }
    sl_call_end(&c);
    return n < 0 ? n : 0;
}
