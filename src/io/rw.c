/* rw.c - reading and writing through any descriptor. */
#include "io/transfer.h"

#include <sley/io.h>

int sl_transfer_retry(struct sl_call *c, int fd, unsigned events, sley_time deadline)
{
    int rc = sl_call_turn(c->fiber); /* should it be ready all the time, others run between two looks */

    if (rc == 0)
        rc = sl_call_poll(c, fd, events, deadline);
    return rc < 0 ? rc : 0;
}

/* A file whose bytes are not at hand. */
int sl_transfer_wait_file(struct sl_call *c, uint8_t code, int fd, void *buf, size_t bytes, int64_t offset, sley_time deadline)
{
    struct sl_op op = { .code = code, .fd = fd, .addr = (uintptr_t)buf, .off = (uint64_t)offset, .len = (uint32_t)bytes };
    int n;

    if (sl_on_thread(c)) {
        do
            n = code == IORING_OP_READ ? sl_sys_preadv2(fd, buf, bytes, offset, 0) : sl_sys_pwritev2(fd, buf, bytes, offset, 0);
        while (n == -EINTR);
        return n;
    }
    while ((n = sl_call_park(c, &op, deadline)) == -EAGAIN)
        if ((n = sl_transfer_retry(c, fd, code == IORING_OP_READ ? POLLIN : POLLOUT, deadline)) < 0)
            break;
    return n;
}

/* After a read that did not wait gave less than asked for: the file ends there, or the next pages are not in memory. A read is short at
 * the end alone. How many bytes more; an error meanwhile is the next call's to tell. */
int sl_transfer_rest_of_file(struct sl_call *c, int fd, void *buf, size_t bytes, int64_t offset, sley_time deadline)
{
    size_t done = 0;
    int n;

    do {
        do
            n = sl_sys_preadv2(fd, (char *)buf + done, bytes - done, offset == -1 ? -1 : offset + (int64_t)done, RWF_NOWAIT);
        while (n == -EINTR);
        if (n == -EAGAIN && deadline != SLEY_NOW)
            n = sl_transfer_wait_file(c, IORING_OP_READ, fd, (char *)buf + done, bytes - done,
                                      offset == -1 ? -1 : offset + (int64_t)done, deadline);
        if (n > 0)
            done += (size_t)n;
    } while (n > 0 && done < bytes);
    return (int)done;
}

/* A pipe, a terminal, an eventfd...: something that is ready or not. */
int sl_transfer_stream(struct sl_call *c, uint8_t code, int fd, void *buf, size_t bytes, int64_t offset, sley_time deadline)
{
    struct sl_record *r = c->record;
    unsigned events = code == IORING_OP_READ ? POLLIN : POLLOUT;
    bool try_first = deadline == SLEY_NOW || sl_on_thread(c) || code == IORING_OP_WRITE || sl_record_likely(r);
    int n;

    if (offset != -1 && (n = (int)sl_sys_lseek(fd, 0, SEEK_CUR)) == -ESPIPE)
        return n; /* a ring would take the offset for none */
    for (;;) {
        if (try_first && !sl_record_hinted(r, SL_HINT_NO_TRY)) {
            do
                n = code == IORING_OP_READ ? sl_sys_preadv2(fd, buf, bytes, offset, RWF_NOWAIT)
                                           : sl_sys_pwritev2(fd, buf, bytes, offset, RWF_NOWAIT);
            while (n == -EINTR);
            if (n == -EOPNOTSUPP) {
                sl_record_hint(r, SL_HINT_NO_TRY);
            } else if (n != -EAGAIN) {
                if (code == IORING_OP_READ)
                    sl_record_hit(r);
                return sl_call_direct(c, n);
            } else if (code == IORING_OP_READ) {
                sl_record_miss(r);
            }
        }
        if (deadline == SLEY_NOW) {
            if (!sl_record_hinted(r, SL_HINT_NO_TRY) || sl_poll_now(fd, events) == 0)
                return -ETIMEDOUT;
            deadline = sl_clock_ns(); /* it is ready, so the ring's first look succeeds; should another be faster, this passes at once */
        }
        if (!sl_on_thread(c)) {
            struct sl_op op = { .code = code, .fd = fd, .addr = (uintptr_t)buf, .off = (uint64_t)offset, .len = (uint32_t)bytes };

            n = sl_call_park(c, &op, deadline);
            if (n != -EAGAIN) {
                if (code == IORING_OP_READ && (size_t)n == bytes)
                    sl_record_hit(r);
                return n;
            }
            if ((n = sl_transfer_retry(c, fd, events, deadline)) < 0)
                return n;
            continue;
        }
        if ((n = sl_thread_poll(c, fd, events, deadline)) < 0)
            return n;
        if (!sl_record_hinted(r, SL_HINT_NO_TRY))
            continue;
        if (code == IORING_OP_WRITE && bytes > PIPE_BUF)
            bytes = PIPE_BUF; /* what a descriptor that is ready takes without waiting */
        do
            n = code == IORING_OP_READ ? sl_sys_preadv2(fd, buf, bytes, offset, 0) : sl_sys_pwritev2(fd, buf, bytes, offset, 0);
        while (n == -EINTR);
        if (n != -EAGAIN)
            return n;
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
    int n;

    if (bytes > INT_MAX)
        bytes = INT_MAX;
    n = sl_call_begin(&c, fd, deadline);
    if (n < 0)
        return n;
    while (done < bytes) {
        if (done > 0 && (n = sl_call_again(&c)) < 0)
            break;
        n = sl_transfer(&c, IORING_OP_READ, fd, (char *)buf + done, bytes - done, -1, deadline);
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    sl_call_end(&c);
    return done > 0 ? (int)done : n;
}

int sley_write_all(int fd, const void *buf, size_t bytes, sley_time deadline)
{
    struct sl_call c;
    size_t done = 0;
    int n = sl_call_begin(&c, fd, deadline);

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
