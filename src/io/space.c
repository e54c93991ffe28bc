/* space.c - how large a file is, what of it has a place on the disk, and what of it will be wanted. */
#include "event/uring_abi.h"
#include "io/call.h"

#include <sley/fs.h>

static int change(int fd, const struct sl_op *op, sley_time deadline)
{
    struct sl_call c;
    int rc = deadline == SLEY_NOW ? -EOPNOTSUPP : sl_call_begin(&c, fd, deadline);

    if (rc < 0)
        return rc;
    rc = sl_call_perform(&c, op, deadline);
    sl_call_end(&c);
    return rc;
}

int sley_fallocate(int fd, int mode, off_t offset, off_t bytes, sley_time deadline)
{
    struct sl_op op = {
        .code = IORING_OP_FALLOCATE,
        .fd = fd,
        .addr = (uint64_t)bytes,
        .off = (uint64_t)offset,
        .len = (uint32_t)mode,
    };

    return change(fd, &op, deadline);
}

int sley_ftruncate(int fd, off_t bytes, sley_time deadline)
{
    struct sl_op op = { .code = SL_OP_FTRUNCATE, .fd = fd, .off = (uint64_t)bytes };

    return bytes < 0 ? -EINVAL : change(fd, &op, deadline);
}

/* It only notes something in the open file. The others start reading, or drop pages. */
static bool is_only_noted(int advice)
{
    return advice == POSIX_FADV_NORMAL || advice == POSIX_FADV_RANDOM || advice == POSIX_FADV_SEQUENTIAL || advice == POSIX_FADV_NOREUSE;
}

int sley_fadvise(int fd, off_t offset, off_t bytes, int advice, sley_time deadline)
{
    struct sl_op op = {
        .code = IORING_OP_FADVISE,
        .fd = fd,
        .off = (uint64_t)offset,
        .len = (uint32_t)bytes,
        .flags = (uint32_t)advice,
    };
    struct sl_call c;
    int rc;

    if (bytes < 0)
        return -EINVAL;
    if (bytes > UINT32_MAX) { /* as with sync_file_range; newer kernels have another word for it, but do not say so */
        op.code = SL_OP_FADVISE;
        op.addr = (uint64_t)bytes;
    }
    if (!is_only_noted(advice))
        return change(fd, &op, deadline);
    rc = sl_call_begin(&c, fd, deadline);
    if (rc < 0)
        return rc;
    rc = sl_call_direct(&c, sl_perform(&op, NULL));
    sl_call_end(&c);
    return rc;
}
