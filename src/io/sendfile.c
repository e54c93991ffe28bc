/* sendfile.c - from a file to a descriptor. sendfile(2) itself, where it cannot wait: the pages are in the page cache and the receiver is
 * non-blocking. Pages that are not are read through the ring first; a receiver that blocks is fed from a buffer. So is every receiver of an
 * O_DIRECT file, which sendfile(2) would read from the disk, if at all: it is read in whole blocks, into memory that is as aligned. */
#include "io/transfer.h"
#include "plat/vm.h"

#include <sley/io.h>
#include <stdlib.h>

#define DIRECT_BYTES ((size_t)256 << 10) /* one sendfile(2): 30 microseconds of copying, others wait that long */
#define BUFFER_BYTES ((size_t)64 << 10)
#define ALIGN_BYTES  ((size_t)4096) /* O_DIRECT: no disk has larger blocks */

struct copy {
    struct sl_call out, in;
    int      out_fd, in_fd;
    int64_t  at;         /* where in the file the next byte comes from */
    int64_t  cold_until; /* up to here some of it may not be in the cache: see bring_in */
    size_t   block;      /* what is read begins and ends at multiples of it */
    char    *buf;        /* BUFFER_BYTES; NULL until needed */
    sley_time deadline;
};

/* The next piece into the buffer: how many bytes of it, which begin at *piece. */
static int read_piece(struct copy *k, size_t bytes, char **piece)
{
    size_t before = (size_t)k->at % k->block; /* so many bytes lie before those wanted */
    size_t wanted = bytes < BUFFER_BYTES - before ? bytes : BUFFER_BYTES - before, whole = before + wanted + k->block - 1;
    int n;

    if (k->buf == NULL && (k->buf = aligned_alloc(ALIGN_BYTES, BUFFER_BYTES)) == NULL)
        return -ENOMEM;
    n = sl_transfer(&k->in, IORING_OP_READ, k->in_fd, k->buf, whole - whole % k->block, k->at - (int64_t)before, k->deadline);
    if (n < 0)
        return n;
    *piece = k->buf + before;
    if ((size_t)n <= before)
        return 0;
    return (size_t)n - before < wanted ? n - (int)before : (int)wanted;
}

/* Whether the byte at `at` is in the cache. 1; 0: the file ends before it; -EAGAIN: it is not; -errno. */
static int probe(const struct copy *k, int64_t at)
{
    char byte;
    struct iovec one = { &byte, 1 };
    int n;

    do
        n = sl_sys_preadv2(k->in_fd, &one, 1, at, RWF_NOWAIT);
    while (n == -EINTR);
    return n;
}

/* Of a piece whose first byte is in the cache: how many bytes it has. If its last one is there too, all are, most probably. -EAGAIN: it is
 * not. */
static int at_hand(const struct copy *k, size_t bytes)
{
    int last = probe(k, (int64_t)((uint64_t)k->at + bytes - 1));
    struct statx st;

    if (last == 0 && sl_sys_statx(k->in_fd, "", AT_EMPTY_PATH, STATX_SIZE, &st) == 0 && st.stx_size > (uint64_t)k->at) {
        if (st.stx_size - (uint64_t)k->at < bytes)
            bytes = (size_t)(st.stx_size - (uint64_t)k->at);
        last = probe(k, k->at + (int64_t)bytes - 1);
    }
    return last == -EAGAIN ? last : (int)bytes;
}

/* See to it that the pages of the next piece are in the cache. How many bytes of it are; 0: the end of the file. A look may have the
 * kernel fetch the page that it missed, so until the end of a piece whose last byte was missed no further look tells of what is between. */
static int bring_in(struct copy *k, size_t bytes)
{
    size_t of_page = sl_vm_page_bytes() - (size_t)k->at % sl_vm_page_bytes();
    char *piece;
    int n = probe(k, k->at);

    if (n != 1 && n != -EAGAIN)
        return n == -EOPNOTSUPP ? (int)bytes : n;
    if (n == 1 && k->at >= k->cold_until) {
        int there = at_hand(k, bytes);

        if (there > 0)
            return there;
        k->cold_until = (int64_t)((uint64_t)k->at + bytes);
    }
    if (k->deadline != SLEY_NOW)
        return read_piece(k, bytes, &piece);
    return n != 1 ? -ETIMEDOUT : of_page < bytes ? (int)of_page : (int)bytes;
}

/* How many bytes went; 0: the end of the file; -EOPNOTSUPP: not this way. */
static int send_direct(struct copy *k, size_t bytes)
{
    int64_t at = k->at;
    int n = bring_in(k, bytes < DIRECT_BYTES ? bytes : DIRECT_BYTES);

    if (n <= 0)
        return n;
    bytes = (size_t)n;
    for (;;) {
        do
            n = sl_sys_sendfile(k->out_fd, k->in_fd, &at, bytes);
        while (n == -EINTR);
        if (n != -EAGAIN)
            return sl_call_direct(&k->out, n == -EINVAL || n == -ENOSYS ? -EOPNOTSUPP : n);
        if (k->deadline == SLEY_NOW)
            return -ETIMEDOUT;
        if ((n = sl_call_poll(&k->out, k->out_fd, POLLOUT, k->deadline)) < 0)
            return n;
    }
}

/* The same through a buffer. A piece that has been read is sent to its end or to an error: *sent of it. 0; -errno; 1: the end. */
static int send_copied(struct copy *k, size_t bytes, size_t *sent)
{
    char *piece;
    int n = read_piece(k, bytes, &piece);
    size_t have = (size_t)n;

    *sent = 0;
    if (n <= 0)
        return n == 0 ? 1 : n;
    while (*sent < have) {
        if ((n = sl_call_again(&k->out)) < 0)
            return n;
        n = sl_transfer(&k->out, IORING_OP_WRITE, k->out_fd, piece + *sent, have - *sent, -1, k->deadline);
        if (n < 0)
            return n;
        *sent += (size_t)n;
    }
    return 0;
}

static int copy_file(struct copy *k, size_t bytes, size_t *done)
{
    int flags = sl_sys_fcntl(k->out_fd, F_GETFL, 0), in_flags = flags < 0 ? flags : sl_sys_fcntl(k->in_fd, F_GETFL, 0);
    bool past_cache = in_flags >= 0 && in_flags & O_DIRECT, direct = in_flags >= 0 && flags & O_NONBLOCK && !past_cache;
    int n = in_flags < 0 ? in_flags : 0;

    *done = 0;
    k->block = past_cache ? ALIGN_BYTES : 1;
    while (n >= 0 && *done < bytes) {
        size_t sent = 0;

        if ((n = sl_call_again(&k->out)) < 0)
            break;
        if (direct) {
            n = send_direct(k, bytes - *done);
            if (n == -EOPNOTSUPP) {
                direct = false;
                n = 0;
                continue;
            }
            sent = n > 0 ? (size_t)n : 0;
            if (n == 0)
                break;
        } else {
            n = send_copied(k, bytes - *done, &sent);
        }
        *done += sent;
        k->at += (int64_t)sent;
        if (!direct && n == 1)
            break;
    }
    return n;
}

int sley_sendfile(int out_fd, int in_fd, off_t *offset, size_t bytes, sley_time deadline)
{
    struct copy k = { .out_fd = out_fd, .in_fd = in_fd, .deadline = deadline };
    size_t done;
    int rc;

    if (bytes > SL_IO_BYTES_MAX)
        bytes = SL_IO_BYTES_MAX;
    if ((rc = sl_call_begin(&k.out, out_fd, deadline)) < 0)
        return rc;
    if ((rc = sl_call_begin(&k.in, in_fd, deadline)) < 0)
        goto end_out;
    sl_call_join(&k.out, &k.in);
    k.at = offset != NULL ? *offset : sl_sys_lseek(in_fd, 0, SEEK_CUR);
    if (k.at < 0) {
        rc = offset != NULL || k.at == -ESPIPE ? -EINVAL : (int)k.at;
        goto end_in;
    }
    rc = copy_file(&k, bytes, &done);
    free(k.buf);
    if (done > 0) {
        if (offset != NULL)
            *offset = k.at;
        else
            sl_sys_lseek(in_fd, k.at, SEEK_SET);
        rc = (int)done;
    } else if (rc > 0) {
        rc = 0;
    }
end_in:
    sl_call_end(&k.in);
end_out:
    sl_call_end(&k.out);
    return rc;
}
