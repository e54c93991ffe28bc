/* transfer.h - moving bytes inside a call that has begun: first without waiting where that is likely to succeed, then through the ring. */
#ifndef SL_IO_TRANSFER_H
#define SL_IO_TRANSFER_H

#include "io/call.h"

#include <limits.h>

/* After an operation the ring answered with -EAGAIN: the descriptor is O_NONBLOCK and its driver takes that at its word, or the kernel was
 * short of memory. Wait until it is ready. 0; -errno. */
int sl_transfer_retry(struct sl_call *c, int fd, unsigned events, sley_time deadline);

/* recv(2) or send(2) by `code`, IORING_OP_RECV or IORING_OP_SEND. flags without MSG_WAITALL, for a receive.
 * A send waits for room in a poll, and is then made directly. Of io_uring's own send the kernel forgets where it began: one that finds a
 * Unix datagram's receiver full has used up its bytes, and is tried again with none (seen with 6.18: empty messages, reported as sent). */
SL_INLINE int sl_transfer_socket(struct sl_call *c, uint8_t code, int fd, void *buf, size_t bytes, int flags, sley_time deadline)
{
    unsigned events = code == IORING_OP_RECV ? POLLIN : POLLOUT;
    /* A send finds room nearly always. */
    bool try_first = code == IORING_OP_SEND || deadline == SLEY_NOW || flags & MSG_DONTWAIT || sl_on_thread(c) ||
                     sl_record_likely(c->record);
    bool ready_first = !(c->fiber->flags & SL_FIBER_NO_RING), doubted = false;
    int n;

    if (bytes > SL_IO_BYTES_MAX)
        bytes = SL_IO_BYTES_MAX;
    if (code == IORING_OP_RECV && !(flags & SL_NOT_IN_LINE) && (n = sl_record_take_error(c->record, fd)) < 0)
        return n;
    for (;;) {
        if (try_first) {
            do
                n = code == IORING_OP_RECV ? sl_sys_recv(fd, buf, bytes, flags | MSG_DONTWAIT)
                                           : sl_sys_send(fd, buf, bytes, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
            while (n == -EINTR);
            if (n != -EAGAIN) {
                if (code == IORING_OP_RECV && n > 0)
                    sl_record_hit(c->record);
                return sl_call_direct(c, n);
            }
            if (flags & MSG_DONTWAIT)
                return -EAGAIN;
            if (deadline == SLEY_NOW)
                return -ETIMEDOUT;
            if (code == IORING_OP_RECV)
                sl_record_miss(c->record);
        }
        if (sl_on_thread(c) || code == IORING_OP_SEND) {
            n = sl_transfer_retry(c, fd, events, deadline);
            if (n < 0)
                return n;
            continue;
        }

        struct sl_op op = {
            .code = code,
            .ioprio = ready_first && sl_feature_may(SL_FEATURE_POLL_FIRST) ? IORING_RECVSEND_POLL_FIRST : 0,
            .fd = fd,
            .addr = (uintptr_t)buf,
            .len = (uint32_t)bytes,
            .flags = (uint32_t)flags,
        };

        n = sl_call_park(c, &op, deadline);
        if (__builtin_expect(n >= 0, 1)) {
            if (op.ioprio != 0 || doubted)
                sl_feature_note(SL_FEATURE_POLL_FIRST, doubted ? -EINVAL : 0);
            if ((size_t)n == bytes)
                sl_record_hit(c->record); /* a full buffer: more is probably there */
            return n;
        }
        if (n == -EINVAL && op.ioprio != 0 && sl_feature_found(SL_FEATURE_POLL_FIRST) != SL_FOUND_USED)
            doubted = true; /* a kernel without POLL_FIRST, or the call is wrong: then the next answer is the same */
        else if (n != -EAGAIN)
            return n;
        else if ((n = sl_transfer_retry(c, fd, events, deadline)) < 0)
            return n;
        ready_first = false;
    }
}

/* --- files and streams: into or from the n buffers of v, `bytes` in all ------------------------------------------------------------ */

int sl_transfer_rest_of_file(struct sl_call *c, int fd, const struct iovec *v, int n, int done, int64_t offset, sley_time deadline);
int sl_transfer_wait_file(struct sl_call *c, uint8_t code, int fd, const struct iovec *v, int n, int64_t offset, sley_time deadline);
int sl_transfer_stream(struct sl_call *c, uint8_t code, int fd, const struct iovec *v, int n, size_t bytes, int64_t offset,
                       sley_time deadline);

/* How many bytes v has; more than SL_IO_BYTES_MAX: beyond the kernel's bound of a transfer, by however much. */
SL_INLINE size_t sl_vector_bytes(const struct iovec *v, size_t n)
{
    size_t bytes = 0;

    for (size_t i = 0; i < n && bytes <= SL_IO_BYTES_MAX; i++)
        bytes += v[i].iov_len <= SL_IO_BYTES_MAX ? v[i].iov_len : SL_IO_BYTES_MAX + 1;
    return bytes;
}

/* preadv2(2) or pwritev2(2) by `code`, IORING_OP_READ or IORING_OP_WRITE. */
SL_INLINE int sl_transfer_try(uint8_t code, int fd, const struct iovec *v, int n, int64_t offset, int flags)
{
    int rc;

    do
        rc = code == IORING_OP_READ ? sl_sys_preadv2(fd, v, n, offset, flags) : sl_sys_pwritev2(fd, v, n, offset, flags);
    while (rc == -EINTR);
    return rc;
}

/* A file. What is in memory is there at once; a write nearly never can be had without waiting, so it is not tried. */
SL_INLINE int sl_transfer_file(struct sl_call *c, uint8_t code, int fd, const struct iovec *v, int n, size_t bytes, int64_t offset,
                               sley_time deadline)
{
    struct sl_record *r = c->record;
    bool tried = false;
    int rc;

    if (sl_record_hinted(r, SL_HINT_MEMORY))
        return sl_call_direct(c, sl_transfer_try(code, fd, v, n, offset, 0));
    if (!sl_record_hinted(r, SL_HINT_NO_TRY) && (code == IORING_OP_READ || deadline == SLEY_NOW)) {
        rc = sl_transfer_try(code, fd, v, n, offset, RWF_NOWAIT);
        if (rc > 0 && (size_t)rc < bytes && bytes <= SL_IO_BYTES_MAX && code == IORING_OP_READ)
            rc = sl_transfer_rest_of_file(c, fd, v, n, rc, offset, deadline);
        if (rc != -EAGAIN && rc != -EOPNOTSUPP)
            return sl_call_direct(c, rc);
        tried = rc == -EAGAIN;
        if (rc == -EOPNOTSUPP && code == IORING_OP_READ)
            sl_record_hint(r, SL_HINT_NO_TRY);
    }
    if (deadline == SLEY_NOW)
        return tried ? -ETIMEDOUT : -EOPNOTSUPP;
    return sl_transfer_wait_file(c, code, fd, v, n, offset, deadline);
}

/* read(2), pread(2) or write(2), pwrite(2) by `code`, IORING_OP_READ or IORING_OP_WRITE. offset -1: at the position of the file. */
SL_INLINE int sl_transfer(struct sl_call *c, uint8_t code, int fd, void *buf, size_t bytes, int64_t offset, sley_time deadline)
{
    struct sl_record *r = c->record;
    struct iovec one = { buf, bytes };
    int n;

    if (sl_record_kind(r) == SL_FD_UNKNOWN && (n = sl_record_learn(r, fd)) < 0)
        return n;
    if (sl_record_kind(r) == SL_FD_SOCKET && offset == -1) {
        n = sl_transfer_socket(c, code == IORING_OP_READ ? IORING_OP_RECV : IORING_OP_SEND, fd, buf, bytes, 0, deadline);
        if (n != -ENOTSOCK)
            return n;
        sl_store_relaxed(&r->hints, 0); /* hint: the number has become another descriptor */
        if ((n = sl_record_learn(r, fd)) < 0)
            return n;
    }
    if (one.iov_len > SL_IO_BYTES_MAX)
        one.iov_len = SL_IO_BYTES_MAX;
    return sl_record_kind(r) == SL_FD_FILE ? sl_transfer_file(c, code, fd, &one, 1, one.iov_len, offset, deadline)
                                           : sl_transfer_stream(c, code, fd, &one, 1, one.iov_len, offset, deadline);
}

#endif
