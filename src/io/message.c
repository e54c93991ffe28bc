/* message.c - messages with an address, several buffers, or something beside the bytes: descriptors, credentials, errors.
 *
 * A descriptor that comes with a message is in the kernel's message until a receive succeeds, and in the caller's hands after that. A
 * receive that is cut has not succeeded, so it took none. */
#include "io/message.h"
#include "io/transfer.h"
#include "io/zerocopy.h"

#include <sley/net.h>
#include <string.h>

#define SCM_PIDFD_NUMBER 0x04 /* SCM_PIDFD of include/linux/socket.h, Linux 6.5 */
#define NOT_OF_STREAM (MSG_PEEK | MSG_DONTWAIT | MSG_ERRQUEUE | MSG_OOB) /* MSG_WAITALL means nothing beside these */

/* What tells that a message is there. An error in the error queue is announced whether asked for or not. */
static unsigned events_of(int flags)
{
    return flags & MSG_ERRQUEUE ? 0 : flags & MSG_OOB ? POLLPRI : POLLIN;
}

/* After a try in vain: until it is ready. If it is, and was when it was tried before, that is a Unix datagram for a receiver that is full,
 * from a socket that is not connected to it: nothing tells when there is room, so it is tried again after a while. */
static int wait_for_room(struct sl_call *c, int fd, bool again, sley_time deadline)
{
    int rc;

    if (!again || (rc = sl_poll_now(fd, POLLOUT)) == 0)
        return sl_transfer_retry(c, fd, POLLOUT, deadline);
    return rc < 0 ? rc : sl_call_pause(c, fd, deadline);
}

int sl_message_transfer(struct sl_call *c, uint8_t code, int fd, struct msghdr *m, int flags, sley_time deadline)
{
    struct sl_record *r = c->record;
    bool receives = code == IORING_OP_RECVMSG;
    bool try_first = !receives || deadline == SLEY_NOW || flags & MSG_DONTWAIT || sl_on_thread(c) || sl_record_likely(r);
    bool ready_first = !(c->fiber->flags & SL_FIBER_NO_RING), doubted = false;
    bool again = false;
    int n;

    if (receives && !(flags & SL_NOT_IN_LINE) && (n = sl_record_take_error(r, fd)) < 0)
        return n;
    flags |= receives ? MSG_CMSG_CLOEXEC : MSG_NOSIGNAL;
    for (;;) {
        if (try_first) {
            do
                n = receives ? sl_sys_recvmsg(fd, m, flags | MSG_DONTWAIT) : sl_sys_sendmsg(fd, m, flags | MSG_DONTWAIT);
            while (n == -EINTR);
            if (n != -EAGAIN) {
                if (receives && n > 0)
                    sl_record_hit(r);
                return sl_call_direct(c, n);
            }
            if (flags & MSG_DONTWAIT)
                return -EAGAIN;
            if (deadline == SLEY_NOW)
                return -ETIMEDOUT;
            if (receives)
                sl_record_miss(r);
        }
        if (!receives || sl_on_thread(c)) { /* a send: see sl_transfer_socket */
            n = receives ? sl_thread_poll(c, fd, events_of(flags), deadline) : wait_for_room(c, fd, again, deadline);
            if (n < 0)
                return n;
            again = true;
            continue;
        }

        struct sl_op op = {
            .code = code,
            .ioprio = ready_first && sl_feature_may(SL_FEATURE_POLL_FIRST) ? IORING_RECVSEND_POLL_FIRST : 0,
            .fd = fd,
            .addr = (uintptr_t)m,
            .len = 1,
            .flags = (uint32_t)flags,
        };

        n = sl_call_park(c, &op, deadline);
        if (n >= 0) {
            if (op.ioprio != 0 || doubted)
                sl_feature_note(SL_FEATURE_POLL_FIRST, doubted ? -EINVAL : 0);
            return n;
        }
        if (n == -EINVAL && op.ioprio != 0 && sl_feature_found(SL_FEATURE_POLL_FIRST) != SL_FOUND_USED)
            doubted = true; /* as sl_transfer_socket */
        else if (n != -EAGAIN)
            return n;
        else if ((n = sl_transfer_retry(c, fd, events_of(flags), deadline)) < 0)
            return n;
        ready_first = false;
    }
}

/* --- receiving ----------------------------------------------------------------------------------------------------------------- */

static int type_of(int fd)
{
    int type = 0;
    socklen_t type_bytes = sizeof(type);
    int rc = sl_sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_bytes);

    return rc < 0 ? rc : type;
}

/* MSG_WAITALL on a stream: go on until the buffers are full, or something has come beside the bytes. The first receive, with *first, has
 * given `done` bytes; m tells of it, and then of the last one. What came before an end or an error is returned; the next call tells. */
static int receive_rest(struct sl_call *c, int fd, struct msghdr *m, struct msghdr *first, int done, int flags, sley_time deadline)
{
    const struct iovec *v = m->msg_iov;
    size_t n = m->msg_iovlen, within = (size_t)done;
    int rc = done;

    while (rc > 0 && m->msg_controllen == 0 && !(m->msg_flags & MSG_CTRUNC)) {
        struct msghdr more = *first;
        struct iovec one;

        for (; n > 0 && within >= v->iov_len; v++, n--)
            within -= v->iov_len;
        if (n == 0 || (rc = sl_call_again(c)) < 0)
            break;
        more.msg_name = NULL;
        more.msg_namelen = 0;
        more.msg_iov = (struct iovec *)v;
        more.msg_iovlen = n;
        if (within > 0) {
            one = (struct iovec){ (char *)v->iov_base + within, v->iov_len - within };
            more.msg_iov = &one;
            more.msg_iovlen = 1;
        }
        rc = sl_message_transfer(c, IORING_OP_RECVMSG, fd, &more, flags, deadline);
        if (rc > 0) {
            done += rc;
            within += (size_t)rc;
        }
        if (rc >= 0) {
            m->msg_controllen = more.msg_controllen;
            m->msg_flags = more.msg_flags;
        }
    }
    if (rc < 0)
        sl_record_keep_error(c->record, fd, rc);
    return done;
}

static int receive(struct sl_call *c, int fd, struct msghdr *m, int flags, sley_time deadline)
{
    struct msghdr first = *m;
    int type, n;

    if (!(flags & MSG_WAITALL))
        return sl_message_transfer(c, IORING_OP_RECVMSG, fd, m, flags, deadline);
    flags &= ~MSG_WAITALL;
    type = type_of(fd);
    if (type < 0)
        return type;
    n = sl_message_transfer(c, IORING_OP_RECVMSG, fd, m, flags, deadline);
    if (n <= 0 || type != SOCK_STREAM || flags & NOT_OF_STREAM || sl_vector_bytes(m->msg_iov, m->msg_iovlen) > SL_IO_BYTES_MAX)
        return n;
    return receive_rest(c, fd, m, &first, n, flags, deadline);
}

/* Descriptors are among what has come: their numbers are new. */
static void adopt_descriptors(struct msghdr *m)
{
    for (struct cmsghdr *one = CMSG_FIRSTHDR(m); one != NULL; one = CMSG_NXTHDR(m, one)) {
        const unsigned char *data = CMSG_DATA(one), *end = (const unsigned char *)one + one->cmsg_len;

        if (one->cmsg_level != SOL_SOCKET || (one->cmsg_type != SCM_RIGHTS && one->cmsg_type != SCM_PIDFD_NUMBER))
            continue;
        for (; data + sizeof(int) <= end; data += sizeof(int)) {
            int fd;

            memcpy(&fd, data, sizeof(fd));
            if (fd >= 0)
                sl_record_adopt(fd, 0);
        }
    }
}

int sley_recvmsg(int fd, struct msghdr *msg, int flags, sley_time deadline)
{
    struct sl_call c;
    int n = msg == NULL ? -EFAULT : sl_call_begin(&c, fd, deadline);

    if (n < 0)
        return n;
    n = receive(&c, fd, msg, flags, deadline);
    sl_call_end(&c);
    if (n < 0)
        return n;
    if (!(flags & MSG_CMSG_CLOEXEC))
        msg->msg_flags &= ~MSG_CMSG_CLOEXEC; /* the library's own */
    adopt_descriptors(msg);
    return n;
}

int sley_recvfrom(int fd, void *buf, size_t bytes, int flags, struct sockaddr *addr, socklen_t *addr_bytes, sley_time deadline)
{
    struct iovec one = { buf, bytes < SL_IO_BYTES_MAX ? bytes : SL_IO_BYTES_MAX };
    struct msghdr m = { .msg_name = addr, .msg_iov = &one, .msg_iovlen = 1 };
    struct sl_call c;
    int n;

    if (addr == NULL)
        return sley_recv(fd, buf, bytes, flags, deadline);
    if (addr_bytes == NULL)
        return -EFAULT;
    m.msg_namelen = *addr_bytes;
    n = sl_call_begin(&c, fd, deadline);
    if (n < 0)
        return n;
    n = receive(&c, fd, &m, flags, deadline);
    sl_call_end(&c);
    if (n >= 0)
        *addr_bytes = m.msg_namelen;
    return n;
}

/* --- sending ------------------------------------------------------------------------------------------------------------------- */

int sley_sendmsg(int fd, const struct msghdr *msg, int flags, sley_time deadline)
{
    struct sl_call c;
    int n = msg == NULL ? -EFAULT : sl_call_begin(&c, fd, deadline);

    if (n < 0)
        return n;
    if (__builtin_expect(flags & MSG_ZEROCOPY, 0))
        n = sl_zerocopy_sendmsg(&c, fd, msg, flags, deadline);
    else
        n = sl_message_transfer(&c, IORING_OP_SENDMSG, fd, (struct msghdr *)msg, flags, deadline);
    sl_call_end(&c);
    return n;
}

int sley_sendto(int fd, const void *buf, size_t bytes, int flags, const struct sockaddr *addr, socklen_t addr_bytes, sley_time deadline)
{
    struct iovec one = { (void *)buf, bytes < SL_IO_BYTES_MAX ? bytes : SL_IO_BYTES_MAX };
    struct msghdr m = { .msg_name = (struct sockaddr *)addr, .msg_namelen = addr_bytes, .msg_iov = &one, .msg_iovlen = 1 };

    return addr == NULL ? sley_send(fd, buf, bytes, flags, deadline) : sley_sendmsg(fd, &m, flags, deadline);
}
