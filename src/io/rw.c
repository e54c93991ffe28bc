/* rw.c - reading and writing through any descriptor. */
#include "event/buffers.h"
#include "io/transfer.h"

#include <sley/io.h>

int sl_transfer_retry(struct sl_call *c, int fd, unsigned events, sley_time deadline)
{
    int rc = sl_call_turn(c->fiber); /* should it be ready all the time, others run between two looks */

    if (rc == 0)
        rc = sl_call_poll(c, fd, events, deadline);
    return rc < 0 ? rc : 0;
}

/* The operation on a ring for it. Of a single buffer it is the plain one, which the kernel reads no vector for. */
static struct sl_op op_of(uint8_t code, int fd, const struct iovec *v, int n, int64_t offset)
{
    struct sl_op op = { .code = code, .fd = fd, .off = (uint64_t)offset };

    if (n == 1) {
        op.addr = (uintptr_t)v->iov_base;
        op.len = v->iov_len < SL_IO_BYTES_MAX ? (uint32_t)v->iov_len : (uint32_t)SL_IO_BYTES_MAX;
    } else {
        op.code = code == IORING_OP_READ ? IORING_OP_READV : IORING_OP_WRITEV;
        op.addr = (uintptr_t)v;
        op.len = (uint32_t)n;
    }
    return op;
}

/* A file whose bytes are not at hand. */
int sl_transfer_wait_file(struct sl_call *c, uint8_t code, int fd, const struct iovec *v, int n, int64_t offset, sley_time deadline)
{
    struct sl_op op = op_of(code, fd, v, n, offset);
    int rc;

    if (sl_on_thread(c))
        return sl_transfer_try(code, fd, v, n, offset, 0);
    if (n == 1)
        op.slot = (uint16_t)(sl_buffers_find(v->iov_base, op.len) + 1);
    while ((rc = sl_call_park(c, &op, deadline)) == -EAGAIN)
        if ((rc = sl_transfer_retry(c, fd, code == IORING_OP_READ ? POLLIN : POLLOUT, deadline)) < 0)
            break;
    return rc;
}

/* After a read that did not wait gave `done`, less than asked for: the file ends there, or the next pages are not in memory. A read is
 * short at the end alone. How many bytes in all; an error meanwhile is the next call's to tell. The caller's vector may not be changed,
 * so a buffer that is partly full is read into by itself. */
int sl_transfer_rest_of_file(struct sl_call *c, int fd, const struct iovec *v, int n, int done, int64_t offset, sley_time deadline)
{
    size_t within = (size_t)done; /* the first buffer */
    int rc = done;

    while (rc > 0) {
        struct iovec one;
        const struct iovec *at;
        int64_t from = offset == -1 ? -1 : offset + done;
        int count;

        for (; n > 0 && within >= v->iov_len; v++, n--)
            within -= v->iov_len;
        if (n == 0)
            break;
        at = v;
        count = n;
        if (within > 0) {
            one = (struct iovec){ (char *)v->iov_base + within, v->iov_len - within };
            at = &one;
            count = 1;
        }
        rc = sl_transfer_try(IORING_OP_READ, fd, at, count, from, RWF_NOWAIT);
        if (rc == -EAGAIN && deadline != SLEY_NOW)
            rc = sl_transfer_wait_file(c, IORING_OP_READ, fd, at, count, from, deadline);
        if (rc > 0) {
            done += rc;
            within += (size_t)rc;
        }
    }
    return done;
}

/* What a stream that is ready, and cannot be tried, takes without waiting. */
static struct iovec little_of(uint8_t code, const struct iovec *v, int n)
{
    struct iovec some;

    while (n > 1 && v->iov_len == 0) {
        v++;
        n--;
    }
    some = n > 0 ? *v : (struct iovec){ NULL, 0 };
    if (code == IORING_OP_WRITE && some.iov_len > PIPE_BUF)
        some.iov_len = PIPE_BUF;
    return some;
}

/* A pipe, a terminal, an eventfd...: something that is ready or not. */
int sl_transfer_stream(struct sl_call *c, uint8_t code, int fd, const struct iovec *v, int n, size_t bytes, int64_t offset,
                       sley_time deadline)
{
    struct sl_record *r = c->record;
    unsigned events = code == IORING_OP_READ ? POLLIN : POLLOUT;
    bool try_first = deadline == SLEY_NOW || sl_on_thread(c) || code == IORING_OP_WRITE || sl_record_likely(r);
    int rc;

    if (offset != -1 && sl_sys_lseek(fd, 0, SEEK_CUR) == -ESPIPE)
        return -ESPIPE; /* a ring would take the offset for none */
    for (;;) {
        if (try_first && !sl_record_hinted(r, SL_HINT_NO_TRY)) {
            rc = sl_transfer_try(code, fd, v, n, offset, RWF_NOWAIT);
            if (rc == -EOPNOTSUPP) {
                sl_record_hint(r, SL_HINT_NO_TRY);
            } else if (rc != -EAGAIN) {
                if (code == IORING_OP_READ)
                    sl_record_hit(r);
                return sl_call_direct(c, rc);
            } else if (code == IORING_OP_READ) {
                sl_record_miss(r);
            }
        }
        if (sl_record_hinted(r, SL_HINT_NO_TRY) && (deadline == SLEY_NOW || sl_on_thread(c)) && (rc = sl_call_mode(fd, events)) < 0)
            return rc; /* the writing end of a pipe is never ready to be read */
        if (deadline == SLEY_NOW) {
            if (!sl_record_hinted(r, SL_HINT_NO_TRY) || sl_poll_now(fd, events) == 0)
                return -ETIMEDOUT;
            deadline = sl_clock_ns(); /* it is ready, so the ring's first look succeeds; should another be faster, this passes at once */
        }
        if (!sl_on_thread(c)) {
            struct sl_op op = op_of(code, fd, v, n, offset);

            rc = sl_call_park(c, &op, deadline);
            if (rc != -EAGAIN) {
                if (code == IORING_OP_READ && (size_t)rc == bytes)
                    sl_record_hit(r);
                return rc;
            }
            if ((rc = sl_transfer_retry(c, fd, events, deadline)) < 0)
                return rc;
            continue;
        }
        if ((rc = sl_thread_poll(c, fd, events, deadline)) < 0)
            return rc;
        if (sl_record_hinted(r, SL_HINT_NO_TRY)) {
            struct iovec some = little_of(code, v, n);

            rc = sl_transfer_try(code, fd, &some, 1, offset, 0);
            if (rc != -EAGAIN)
                return rc;
        }
    }
}

int sley_read(int fd, void *buf, size_t bytes, sley_time deadline)
{
    struct sl_call c;
    int n = sl_call_begin(&c, fd, deadline);

    if (n < 0)
        return n;
    n = sl_transfer(&c, IORING_OP_READ, fd, buf, bytes, -1, deadline);
    sl_call_end(&c);
    return n;
}

int sley_write(int fd, const void *buf, size_t bytes, sley_time deadline)
{
    struct sl_call c;
    int n = sl_call_begin(&c, fd, deadline);

    if (n < 0)
        return n;
    n = sl_transfer(&c, IORING_OP_WRITE, fd, (void *)buf, bytes, -1, deadline);
    sl_call_end(&c);
    return n;
}

int sley_pread(int fd, void *buf, size_t bytes, off_t offset, sley_time deadline)
{
    struct sl_call c;
    int n = offset < 0 ? -EINVAL : sl_call_begin(&c, fd, deadline);

    if (n < 0)
        return n;
    n = sl_transfer(&c, IORING_OP_READ, fd, buf, bytes, offset, deadline);
    sl_call_end(&c);
    return n;
}

int sley_pwrite(int fd, const void *buf, size_t bytes, off_t offset, sley_time deadline)
{
    struct sl_call c;
    int n = offset < 0 ? -EINVAL : sl_call_begin(&c, fd, deadline);

    if (n < 0)
        return n;
    n = sl_transfer(&c, IORING_OP_WRITE, fd, (void *)buf, bytes, offset, deadline);
    sl_call_end(&c);
    return n;
}

/* The _all forms are one call from begin to end: the descriptor stays theirs between two transfers. */

int sley_read_all(int fd, void *buf, size_t bytes, sley_time deadline)
{
    struct sl_call c;
    size_t done = 0;
    int n = buf == NULL && bytes > 0 ? -EFAULT : sl_call_begin(&c, fd, deadline);

    if (n < 0)
        return n;
    if (bytes > INT_MAX)
        bytes = INT_MAX;
    while (done < bytes) {
        if (done > 0 && (n = sl_call_again(&c)) < 0)
            break;
        n = sl_transfer(&c, IORING_OP_READ, fd, (char *)buf + done, bytes - done, -1, deadline);
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    if (n < 0 && done > 0)
        sl_record_keep_error(c.record, fd, n);
    sl_call_end(&c);
    return done > 0 ? (int)done : n;
}

int sley_write_all(int fd, const void *buf, size_t bytes, sley_time deadline)
{
    struct sl_call c;
    size_t done = 0;
    int n = buf == NULL && bytes > 0 ? -EFAULT : sl_call_begin(&c, fd, deadline);

    if (n < 0)
        return n;
    while (done < bytes) {
        if (done > 0 && (n = sl_call_again(&c)) < 0)
            break;
        n = sl_transfer(&c, IORING_OP_WRITE, fd, (char *)buf + done, bytes - done, -1, deadline);
        if (n == 0)
            n = -EIO; /* a device that takes nothing and says nothing */
        if (n < 0)
            break;
        done += (size_t)n;
    }
    sl_call_end(&c);
    return n < 0 ? n : 0;
}
