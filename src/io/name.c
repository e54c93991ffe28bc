/* name.c - what changes or reads the names of files: rename, link, symlink, readlink, unlink, mkdir. Each of them walks paths, and may wait
 * for a disk at every step of the walk; the paths are the caller's, who is parked until it is done. */
#include "io/call.h"

#include <sley/fs.h>

/* An operation on one path, or on a path with a string that concerns nothing. */
static int perform_at(int dirfd, const char *path, const struct sl_op *op, sley_time deadline)
{
    struct sl_call c;
    int rc = deadline == SLEY_NOW ? -EOPNOTSUPP : sl_call_begin_at(&c, dirfd, path, deadline);

    if (rc < 0)
        return rc;
    rc = sl_call_perform(&c, op, deadline);
    sl_call_end(&c);
    return rc;
}

/* The same on two. */
static int perform_at_two(int dirfd, const char *path, int dirfd2, const char *path2, const struct sl_op *op, sley_time deadline)
{
    struct sl_call c, d;
    int rc = deadline == SLEY_NOW ? -EOPNOTSUPP : sl_call_begin_at(&c, dirfd, path, deadline);

    if (rc < 0)
        return rc;
    rc = sl_call_begin_at(&d, dirfd2, path2, deadline);
    if (rc < 0)
        goto end_first;
    sl_call_join(&c, &d);
    rc = sl_call_perform(&c, op, deadline);
    sl_call_end(&d);
end_first:
    sl_call_end(&c);
    return rc;
}

int sley_renameat2(int old_dirfd, const char *old_path, int new_dirfd, const char *new_path, unsigned flags, sley_time deadline)
{
    struct sl_op op = {
        .code = IORING_OP_RENAMEAT,
        .fd = old_dirfd,
        .addr = (uintptr_t)old_path,
        .off = (uintptr_t)new_path,
        .len = (uint32_t)new_dirfd,
        .flags = flags,
    };

    return perform_at_two(old_dirfd, old_path, new_dirfd, new_path, &op, deadline);
}

int sley_linkat(int old_dirfd, const char *old_path, int new_dirfd, const char *new_path, int flags, sley_time deadline)
{
    struct sl_op op = {
        .code = flags & AT_EMPTY_PATH ? SL_OP_LINKAT_FD : IORING_OP_LINKAT,
        .fd = old_dirfd,
        .addr = (uintptr_t)old_path,
        .off = (uintptr_t)new_path,
        .len = (uint32_t)new_dirfd,
        .flags = (uint32_t)flags,
    };

    return perform_at_two(old_dirfd, old_path, new_dirfd, new_path, &op, deadline);
}

int sley_symlinkat(const char *target, int dirfd, const char *path, sley_time deadline)
{
    struct sl_op op = { .code = IORING_OP_SYMLINKAT, .fd = dirfd, .addr = (uintptr_t)target, .off = (uintptr_t)path };

    return perform_at(dirfd, path, &op, deadline);
}

int sley_readlinkat(int dirfd, const char *path, char *buf, size_t bytes, sley_time deadline)
{
    struct sl_op op = {
        .code = SL_OP_READLINKAT,
        .fd = dirfd,
        .addr = (uintptr_t)path,
        .off = (uintptr_t)buf,
        .len = bytes < INT32_MAX ? (uint32_t)bytes : INT32_MAX,
    };

    return perform_at(dirfd, path, &op, deadline);
}

int sley_unlinkat(int dirfd, const char *path, int flags, sley_time deadline)
{
    struct sl_op op = { .code = IORING_OP_UNLINKAT, .fd = dirfd, .addr = (uintptr_t)path, .flags = (uint32_t)flags };

    return perform_at(dirfd, path, &op, deadline);
}

int sley_mkdirat(int dirfd, const char *path, mode_t mode, sley_time deadline)
{
    struct sl_op op = { .code = IORING_OP_MKDIRAT, .fd = dirfd, .addr = (uintptr_t)path, .len = mode };

    return perform_at(dirfd, path, &op, deadline);
}
