/* vector.c - reading into several buffers, and writing from them, with one call. */
#include "io/message.h"
#include "io/transfer.h"

#include <sley/io.h>

static int transfer_vector(struct sl_call *c, uint8_t code, int fd, const struct iovec *v, int n, sley_time deadline)
{
    struct sl_record *r = c->record;
    size_t bytes = sl_vector_bytes(v, (size_t)n);
    int rc;

    if (sl_record_kind(r) == SL_FD_UNKNOWN && (rc = sl_record_learn(r, fd)) < 0)
        return rc;
    if (sl_record_kind(r) == SL_FD_SOCKET) {
        struct msghdr m = { .msg_iov = (struct iovec *)v, .msg_iovlen = (size_t)n };

        rc = sl_message_transfer(c, code == IORING_OP_READ ? IORING_OP_RECVMSG : IORING_OP_SENDMSG, fd, &m, 0, deadline);
        if (rc != -ENOTSOCK)
            return rc;
        sl_store_relaxed(&r->hints, 0); /* hint: the number has become another descriptor */
        if ((rc = sl_record_learn(r, fd)) < 0)
            return rc;
    }
    return sl_record_kind(r) == SL_FD_FILE ? sl_transfer_file(c, code, fd, v, n, bytes, -1, deadline)
                                           : sl_transfer_stream(c, code, fd, v, n, bytes, -1, deadline);
}

static int call_vector(uint8_t code, int fd, const struct iovec *v, int n, sley_time deadline)
{
    struct sl_call c;
    int rc;

    if (n < 0 || n > IOV_MAX)
        return -EINVAL;
    if (v == NULL && n > 0)
        return -EFAULT;
    rc = sl_call_begin(&c, fd, deadline);
    if (rc < 0)
        return rc;
    rc = n == 1 ? sl_transfer(&c, code, fd, v->iov_base, v->iov_len, -1, deadline) : transfer_vector(&c, code, fd, v, n, deadline);
    sl_call_end(&c);
    return rc;
}

int sley_readv(int fd, const struct iovec *v, int n, sley_time deadline)
{
    return call_vector(IORING_OP_READ, fd, v, n, deadline);
}

int sley_writev(int fd, const struct iovec *v, int n, sley_time deadline)
{
    return call_vector(IORING_OP_WRITE, fd, v, n, deadline);
}
