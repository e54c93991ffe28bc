/* zerocopy.c - MSG_ZEROCOPY: the kernel sends from the caller's memory, and the call returns when it has let go of it.
 *
 * The ring's send (IORING_OP_SEND_ZC, IORING_OP_SENDMSG_ZC) completes twice: with its result, when the bytes are in the socket's queue, and
 * with a notice when the last of them has left it, which over TCP means that the peer has acknowledged it. Both are waited for:
 *   Z1  While a notice is due the call does not return, whatever happens: the memory may be on the caller's stack.
 *   Z2  Until the result has come the wait is that of any operation. A deadline, a cancel or a close ends it with nothing taken, or with
 *       the count of what was.
 *   Z3  After that nothing in the kernel takes bytes back out of a socket's queue, and a peer that acknowledges nothing keeps them there
 *       for a quarter of an hour, or, as long as it only does not read, for ever. So a deadline, a cancel or a close that comes then
 *       breaks the connection (connect(2) to AF_UNSPEC): the queue is dropped, the peer gets a reset, the notice comes, and the call says
 *       -ETIMEDOUT, -ECANCELED or -EBADF. It does not say the count: what of it has arrived nobody knows, and on this connection
 *       nothing can be sent twice any more: so who is told why finds it broken. If the notice was faster the call has its result, as ever.
 *   Z4  A send that has taken nothing breaks nothing: its notice does not depend on the peer.
 *
 * What breaks the connection is the fiber itself, never who cuts it: the fiber is in the descriptor's list of calls, so the number is not
 * given to another connection meanwhile.
 *
 * Where it cannot pay the bytes are copied: few of them, a plain thread, no ring or one without the operation. Where it would wait for
 * more than the peer, too: a call that may not wait, bytes held back for more (MSG_MORE). And where Z3 does not hold: sockets other than
 * TCP, which alone can be broken so.
 *
 * Rejected: going on waiting after a deadline or cancel. The stop of a server would be up to its slowest client.
 * Rejected: returning early, with the bytes in a buffer of the library's. It would have to be copied there before every send.
 * Rejected: returning the count from a send that broke its connection. That it was not in time would be said by nobody. */
#include "io/zerocopy.h"
#include "io/message.h"
#include "io/transfer.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#define FEW_BYTES 16384  /* pinning their pages and waiting for the peer costs more than copying them */
#define BREAK_AGAIN_NS SLEY_MS

/* More would be wanted of the socket than to send the bytes as they are. */
#define MAY_HAVE (MSG_ZEROCOPY | MSG_NOSIGNAL | MSG_WAITALL | MSG_EOR)

static bool is_tcp(int fd)
{
    int value;
    socklen_t bytes = sizeof(value);

    return sl_sys_getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &bytes) == 0; /* of others only MPTCP has it, which refuses the send */
}

static bool can_pay(struct sl_call *c, uint8_t code, int fd, size_t bytes, int flags, sley_time deadline)
{
    return bytes >= FEW_BYTES && !(flags & ~MAY_HAVE) && !sl_on_thread(c) && sl_op_is_known(code) &&
           (deadline == SLEY_FOREVER || deadline > sl_clock_ns()) && is_tcp(fd);
}

/* It took nothing, and copying may do: a layer on top of TCP cannot (TLS), no more memory may be pinned, or the kernel is short of it. */
static bool is_refusal(int error)
{
    switch (-error) {
    case EOPNOTSUPP: case ENOMEM: case ENOBUFS: case EAGAIN: case EBUSY:
        return true;
    default:
        return false;
    }
}

/* ---- the notices ---- */

struct zerocopy { /* of one call */
    struct sl_call    *call;
    int                fd;
    size_t             lent; /* bytes that were taken without a copy */
    struct sl_notices  notices;
};

static void begin(struct zerocopy *z, struct sl_call *c, int fd)
{
    *z = (struct zerocopy){ .call = c, .fd = fd };
    if (!sl_on_thread(c))
        sl_notices_are(c->fiber, &z->notices);
}

static bool all_have_come(struct zerocopy *z)
{
    bool all;

    sl_lock_acquire(&z->notices.lock);
    all = z->notices.due == 0;
    sl_lock_release(&z->notices.lock);
    return all;
}

/* The wait that the fiber has begun: SL_ARM_EVENT: all have come; else what cut it. */
static unsigned park(struct zerocopy *z)
{
    struct sl_notices *n = &z->notices;
    struct sl_wait_node node = { 0 };
    unsigned why;

    sl_lock_acquire(&n->lock);
    if (n->due == 0) {
        sl_wait_end(z->call->fiber);
        sl_lock_release(&n->lock);
        return SL_ARM_EVENT;
    }
    sl_node_init(&node, z->call->fiber);
    n->waiter = &node;
    why = sl_park(&n->lock);
    sl_lock_acquire(&n->lock);
    n->waiter = NULL;
    sl_lock_release(&n->lock);
    return why;
}

/* Until all have come: 0; or the wait is cut: -errno. */
static int wait_for_all(struct zerocopy *z, sley_time deadline)
{
    struct sl_fiber *f = z->call->fiber;
    int rc = sl_wait_begin(f, deadline, SL_WAIT_NOTICE, z);

    if (rc < 0)
        return rc;
    rc = sl_call_announce(z->call, f);
    if (rc < 0) {
        sl_wait_end(f);
        return rc;
    }
    switch (park(z)) {
    case SL_ARM_EVENT:
        return 0;
    case SL_ARM_TIMEOUT:
        return -ETIMEDOUT;
    case SL_ARM_CLOSE:
        return -EBADF;
    default:
        return -ECANCELED;
    }
}

/* Z3. 0; -errno: not yet, since a thread waits in the connection (a few kernels around 6.5). */
static int break_connection(int fd)
{
    struct sockaddr nobody = { .sa_family = AF_UNSPEC };

    return sl_sys_connect(fd, &nobody, sizeof(nobody));
}

/* Break the connection if something was lent, and wait until all have come, which does not depend on the peer any more; nothing cuts
 * this. false: they have come before it could be broken. */
static bool wait_for_end(struct zerocopy *z)
{
    struct sl_fiber *f = z->call->fiber;
    bool is_whole = z->lent > 0;

    sl_shield_begin(f);
    for (;;) {
        if (is_whole)
            is_whole = break_connection(z->fd) < 0;
        if (all_have_come(z))
            break;
        if (sl_wait_begin(f, is_whole ? sl_clock_ns() + BREAK_AGAIN_NS : SLEY_FOREVER, SL_WAIT_NOTICE, z) == 0)
            park(z);
        else
            sl_thread_yield(); /* no memory for the timer */
    }
    sl_shield_end(f);
    return !is_whole;
}

/* The end of the call, whose result would be n. */
static int settle(struct zerocopy *z, int n, sley_time deadline)
{
    int rc = 0;

    if (!all_have_come(z)) {
        if (z->lent > 0)
            rc = wait_for_all(z, deadline);
        if (rc < 0 && rc != -ECANCELED && all_have_come(z))
            rc = 0; /* a cancel stands: its scopes have been told that it cut the call */
        else if ((rc < 0 || z->lent == 0) && !wait_for_end(z))
            rc = 0;
    }
    return n < 0 || rc == 0 ? n : rc;
}

/* ---- sending ---- */

/* By op without a copy, or else with one. */
static int send_once(struct zerocopy *z, const struct sl_op *op, size_t bytes, sley_time deadline)
{
    void *memory = (void *)(uintptr_t)op->addr;
    int flags = (int)op->flags, n = -EOPNOTSUPP;

    if (can_pay(z->call, op->code, z->fd, bytes, flags, deadline)) {
        n = sl_call_park(z->call, op, deadline);
        if (n > 0)
            z->lent += (size_t)n;
    }
    if (!is_refusal(n))
        return n;
    flags &= ~(MSG_ZEROCOPY | MSG_WAITALL);
    return op->code == IORING_OP_SENDMSG_ZC ? sl_message_transfer(z->call, IORING_OP_SENDMSG, z->fd, memory, flags, deadline)
                                            : sl_transfer_socket(z->call, IORING_OP_SEND, z->fd, memory, bytes, flags, deadline);
}

static int send_piece(struct zerocopy *z, const void *buf, size_t bytes, int flags, sley_time deadline)
{
    struct sl_op op = { .code = IORING_OP_SEND_ZC, .fd = z->fd, .addr = (uintptr_t)buf, .flags = (uint32_t)flags };

    op.len = (uint32_t)(bytes < SL_IO_BYTES_MAX ? bytes : SL_IO_BYTES_MAX);
    return send_once(z, &op, op.len, deadline);
}

int sl_zerocopy_send(struct sl_call *c, int fd, const void *buf, size_t bytes, int flags, sley_time deadline)
{
    struct zerocopy z;

    begin(&z, c, fd);
    return settle(&z, send_piece(&z, buf, bytes, flags, deadline), deadline);
}

int sl_zerocopy_send_all(struct sl_call *c, int fd, const void *buf, size_t bytes, int flags, sley_time deadline)
{
    struct zerocopy z;
    size_t done = 0;
    int n = 0;

    begin(&z, c, fd);
    while (done < bytes) {
        if (done > 0 && (n = sl_call_again(c)) < 0)
            break;
        /* MSG_WAITALL: the ring goes on by itself, so that the peer need not acknowledge one piece before the next is sent. */
        n = send_piece(&z, (const char *)buf + done, bytes - done, flags | MSG_WAITALL, deadline);
        if (n < 0)
            break;
        done += (size_t)n;
    }
    return settle(&z, n < 0 ? n : 0, deadline);
}

int sl_zerocopy_sendmsg(struct sl_call *c, int fd, const struct msghdr *m, int flags, sley_time deadline)
{
    struct sl_op op = { .code = IORING_OP_SENDMSG_ZC, .fd = fd, .addr = (uintptr_t)m, .len = 1, .flags = (uint32_t)flags };
    size_t bytes = m->msg_name == NULL && m->msg_control == NULL ? sl_vector_bytes(m->msg_iov, m->msg_iovlen) : 0;
    struct zerocopy z;

    begin(&z, c, fd);
    return settle(&z, send_once(&z, &op, bytes, deadline), deadline);
}
