/* transfer.h - moving bytes inside a call that has begun: first without waiting where that is likely to succeed, then through the ring. */
#ifndef SL_IO_TRANSFER_H
#define SL_IO_TRANSFER_H

#include "io/call.h"

#include <limits.h>

/* After an operation the ring answered with -EAGAIN: the descriptor is O_NONBLOCK and its driver takes that at its word, or the kernel was
 * short of memory. Wait until it is ready. 0; -errno. */
int sl_transfer_retry(struct sl_call *c, int fd, unsigned events, sley_time deadline);

/* recv(2) or send(2) by `code`, IORING_OP_RECV or IORING_OP_SEND. flags without MSG_WAITALL, for a receive. */
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
        if (sl_on_thread(c)) {
            n = sl_thread_poll(c, fd, events, deadline);
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
            .flags = (uint32_t)flags | (code == IORING_OP_SEND ? MSG_NOSIGNAL : 0),
        };

        n = sl_call_park(c, &op, deadline);
        if (__builtin_expect(n >= 0, 1)) {
            if (op.ioprio != 0 || doubted)
                sl_feature_note(SL_FEATURE_POLL_FIRST, doubted ? -EINVAL : 0);
            if (code == IORING_OP_RECV && (size_t)n == bytes)
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

int sl_transfer_rest_of_file(struct sl_call *c, int fd, void *buf, size_t bytes, int64_t offset, sley_time deadline);
int sl_transfer_wait_file(struct sl_call *c, uint8_t code, int fd, void *buf, size_t bytes, int64_t offset, sley_time deadline);
int sl_transfer_stream(struct sl_call *c, uint8_t code, int fd, void *buf, size_t bytes, int64_t offset, sley_time deadline);

/* read(2), pread(2) or write(2), pwrite(2) by `code`, IORING_OP_READ or IORING_OP_WRITE. offset -1: at the position of the file. */
SL_INLINE int sl_transfer(struct sl_call *c, uint8_t code, int fd, void *buf, size_t bytes, int64_t offset, sley_time deadline)
{
    struct sl_record *r = c->record;
    bool tried = false;
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
    if (bytes > SL_IO_BYTES_MAX)
        bytes = SL_IO_BYTES_MAX;
    if (sl_record_kind(r) != SL_FD_FILE)
        return sl_transfer_stream(c, code, fd, buf, bytes, offset, deadline);

    /* A file. What is in memory is there at once; a write nearly never can be had without waiting, so it is not tried. */
    if (sl_record_hinted(r, SL_HINT_MEMORY)) {
        do
            n = code == IORING_OP_READ ? sl_sys_preadv2(fd, buf, bytes, offset, 0) : sl_sys_pwritev2(fd, buf, bytes, offset, 0);
        while (n == -EINTR);
        return sl_call_direct(c, n);
    }
    if (!sl_record_hinted(r, SL_HINT_NO_TRY) && (code == IORING_OP_READ || deadline == SLEY_NOW)) {
        do
            n = code == IORING_OP_READ ? sl_sys_preadv2(fd, buf, bytes, offset, RWF_NOWAIT)
                                       : sl_sys_pwritev2(fd, buf, bytes, offset, RWF_NOWAIT);
        while (n == -EINTR);
        if (n > 0 && (size_t)n < bytes && code == IORING_OP_READ)
            n += sl_transfer_rest_of_file(c, fd, (char *)buf + n, bytes - (size_t)n, offset == -1 ? -1 : offset + n, deadline);
        if (n != -EAGAIN && n != -EOPNOTSUPP)
            return sl_call_direct(c, n);
        tried = n == -EAGAIN;
        if (n == -EOPNOTSUPP && code == IORING_OP_READ)
            sl_record_hint(r, SL_HINT_NO_TRY);
    }
    if (deadline == SLEY_NOW)
        return tried ? -ETIMEDOUT : -EOPNOTSUPP;
    return sl_transfer_wait_file(c, code, fd, buf, bytes, offset, deadline);
}

#endif
