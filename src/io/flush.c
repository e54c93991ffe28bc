/* flush.c - bringing what was written to the disk. None of these can be taken back half-way, so a call that is cut may still be at it. */
#include "io/call.h"

#include <sley/fs.h>

static int flush(int fd, const struct sl_op *op, sley_time deadline)
{
    struct sl_call c;
    int rc = deadline == SLEY_NOW ? -EOPNOTSUPP : sl_call_begin(&c, fd, deadline);

    if (rc < 0)
        return rc;
    rc = sl_call_perform(&c, op, deadline);
    sl_call_end(&c);
    return rc;
}

int sley_fsync(int fd, sley_time deadline)
{
    struct sl_op op = { .code = IORING_OP_FSYNC, .fd = fd };

    return flush(fd, &op, deadline);
}

int sley_fdatasync(int fd, sley_time deadline)
{
    struct sl_op op = { .code = IORING_OP_FSYNC, .fd = fd, .flags = IORING_FSYNC_DATASYNC };

    return flush(fd, &op, deadline);
}

int sley_sync_file_range(int fd, off_t offset, off_t bytes, unsigned flags, sley_time deadline)
{
    struct sl_op op = {
        .code = IORING_OP_SYNC_FILE_RANGE,
        .fd = fd,
        .off = (uint64_t)offset,
        .len = (uint32_t)bytes,
        .flags = flags,
    };

    if (bytes < 0)
        return -EINVAL;
    if (bytes > UINT32_MAX) { /* the ring's operation has 32 bits for it */
        op.code = SL_OP_SYNC_FILE_RANGE;
        op.addr = (uint64_t)bytes;
    }
    return flush(fd, &op, deadline);
}
