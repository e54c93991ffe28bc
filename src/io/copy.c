/* copy.c - from one file to another, in the kernel: copy_file_range(2), which io_uring does not have, on the pool. Piece by piece, because
 * a thread of the pool that has begun is not stopped: so a deadline, a cancel or a close is heeded between two pieces. */
#include "io/call.h"

#include <sley/fs.h>

#define PIECE_BYTES ((size_t)16 << 20)

static int copy_pieces(struct sl_call *c, struct sl_op *op, size_t bytes, sley_time deadline)
{
    size_t done = 0;
    int rc;

    do {
        op->len = (uint32_t)(bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES);
        rc = sl_call_perform(c, op, deadline);
        if (rc <= 0)
            break;
        done += (size_t)rc;
        if (op->addr != UINT64_MAX)
            op->addr += (uint64_t)rc;
        if (op->off != UINT64_MAX)
            op->off += (uint64_t)rc;
    } while (done < bytes);
    return done > 0 ? (int)done : rc;
}

int sley_copy_file_range(int in_fd, off_t *in_offset, int out_fd, off_t *out_offset, size_t bytes, unsigned flags, sley_time deadline)
{
    struct sl_op op = {
        .code = SL_OP_COPY_FILE_RANGE,
        .fd = out_fd,
        .fd_in = in_fd,
        .addr = in_offset != NULL ? (uint64_t)*in_offset : UINT64_MAX,
        .off = out_offset != NULL ? (uint64_t)*out_offset : UINT64_MAX,
        .flags = flags,
    };
    struct sl_call in, out;
    int rc;

    if ((in_offset != NULL && *in_offset < 0) || (out_offset != NULL && *out_offset < 0))
        return -EINVAL;
    if (deadline == SLEY_NOW)
        return -EOPNOTSUPP;
    if ((rc = sl_call_begin(&in, in_fd, deadline)) < 0)
        return rc;
    if ((rc = sl_call_begin(&out, out_fd, deadline)) < 0)
        goto end_in;
    sl_call_join(&in, &out);
    rc = copy_pieces(&out, &op, bytes < SL_IO_BYTES_MAX ? bytes : SL_IO_BYTES_MAX, deadline);
    sl_call_end(&out);
    if (rc > 0 && in_offset != NULL)
        *in_offset += rc;
    if (rc > 0 && out_offset != NULL)
        *out_offset += rc;
end_in:
    sl_call_end(&in);
    return rc;
}
