/* file.c - opening files by name, and looking at them.
 *
 * What walks a path or writes to a disk may wait long, so it goes through the ring; what surely does not is done directly: looking at
 * an open file, and opening what all lies in the kernel's caches (RESOLVE_CACHED) if the open itself cannot wait either. */
#include "io/call.h"

#include <linux/openat2.h>
#include <sley/fs.h>
#include <string.h>

#define MAKES_FILES (O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))

/* Opening it cannot wait: not for the other end of a FIFO, not for a terminal's line, not for a disk. */
static bool opens_at_once(uint64_t flags)
{
    return (flags & O_ACCMODE) == O_RDONLY && !(flags & MAKES_FILES) && flags & (O_PATH | O_DIRECTORY | O_NONBLOCK);
}

/* Whether the kernel knows RESOLVE_CACHED. What it says of a caller's flags does not tell, so it is asked for what always exists. */
static bool knows_cached(void)
{
    struct open_how root = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_CACHED };
    int fd;

    if (!sl_feature_may(SL_FEATURE_RESOLVE_CACHED))
        return false;
    if (sl_feature_found(SL_FEATURE_RESOLVE_CACHED) == SL_FOUND_USED)
        return true;
    fd = sl_sys_openat2(AT_FDCWD, "/", &root, sizeof(root));
    if (fd >= 0)
        sl_sys_close(fd);
    if (fd == -EINVAL || fd == -ENOSYS || fd == -EPERM) /* EPERM: profiles of containers say so of calls that they do not know */
        sl_feature_note(SL_FEATURE_RESOLVE_CACHED, fd);
    else if (fd >= 0 || fd == -EAGAIN)
        sl_feature_note(SL_FEATURE_RESOLVE_CACHED, 0);
    return fd >= 0 || fd == -EAGAIN;
}

/* Open what lies in the caches, without waiting. -EAGAIN: it does not; -EOPNOTSUPP: that cannot be tried. */
static int open_cached(int dirfd, const char *path, const struct open_how *how)
{
    struct open_how cached = *how;
    int fd, rc;

    if (how->flags & MAKES_FILES || !knows_cached())
        return -EOPNOTSUPP;
    cached.resolve |= RESOLVE_CACHED;
    if (!(how->flags & O_PATH))
        cached.flags |= O_NONBLOCK;
    fd = sl_sys_openat2(dirfd, path, &cached, sizeof(cached));
    if (fd < 0 || how->flags & (O_PATH | O_NONBLOCK))
        return fd;
    rc = sl_sys_fcntl(fd, F_GETFL, 0);
    if (rc >= 0)
        rc = sl_sys_fcntl(fd, F_SETFL, rc & ~O_NONBLOCK);
    if (rc < 0) {
        sl_sys_close(fd);
        return rc;
    }
    return fd;
}

/* op is the operation for a ring, how the same for a direct call. */
static int open_with(int dirfd, const char *path, const struct open_how *how, const struct sl_op *op, sley_time deadline)
{
    struct sl_call c;
    int fd = sl_call_begin_at(&c, dirfd, path, deadline);

    if (fd < 0)
        return fd;
    if (deadline == SLEY_NOW) {
        fd = open_cached(dirfd, path, how);
        if (fd == -EAGAIN)
            fd = -ETIMEDOUT;
    } else {
        fd = opens_at_once(how->flags) ? sl_call_direct(&c, open_cached(dirfd, path, how)) : -EAGAIN;
        if (fd == -EAGAIN || fd == -EINVAL || fd == -EOPNOTSUPP) /* openat2 refuses flags that openat ignores */
            fd = sl_call_perform(&c, op, deadline);
    }
    sl_call_end(&c);
    return fd < 0 ? fd : sl_record_adopt(fd, 0);
}

int sley_openat(int dirfd, const char *path, int flags, mode_t mode, sley_time deadline)
{
    unsigned all = (unsigned)flags | O_CLOEXEC;
    bool creates = all & O_CREAT || (all & O_TMPFILE) == O_TMPFILE;
    struct open_how how = { .flags = all, .mode = creates ? mode & 07777 : 0 };
    struct sl_op op = { .code = IORING_OP_OPENAT, .fd = dirfd, .addr = (uintptr_t)path, .len = creates ? mode : 0, .flags = all };

    return open_with(dirfd, path, &how, &op, deadline);
}

int sley_open(const char *path, int flags, mode_t mode, sley_time deadline)
{
    return sley_openat(AT_FDCWD, path, flags, mode, deadline);
}

int sley_openat2(int dirfd, const char *path, const struct open_how *how, size_t how_bytes, sley_time deadline)
{
    struct open_how mine = { 0 };
    struct sl_op op = { .code = IORING_OP_OPENAT2, .fd = dirfd, .addr = (uintptr_t)path, .off = (uintptr_t)&mine, .len = sizeof(mine) };

    if (how == NULL || how_bytes < sizeof(mine))
        return -EINVAL;
    for (size_t i = sizeof(mine); i < how_bytes; i++)
        if (((const unsigned char *)how)[i] != 0)
            return -E2BIG; /* as openat2(2) says to a caller newer than itself */
    memcpy(&mine, how, sizeof(mine));
    mine.flags |= O_CLOEXEC;
    return open_with(dirfd, path, &mine, &op, deadline);
}

int sley_statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *out, sley_time deadline)
{
    struct sl_op op = {
        .code = IORING_OP_STATX,
        .fd = dirfd,
        .addr = (uintptr_t)path,
        .off = (uintptr_t)out,
        .len = mask,
        .flags = (uint32_t)flags,
    };
    struct sl_call c;
    bool open_file = flags & AT_EMPTY_PATH && (path == NULL || path[0] == '\0');
    int rc = sl_call_begin_at(&c, dirfd, path, deadline);

    if (rc < 0)
        return rc;
    if (open_file || sl_on_thread(&c))
        rc = sl_call_direct(&c, sl_sys_statx(dirfd, path != NULL ? path : "", flags, mask, out));
    else
        rc = deadline == SLEY_NOW ? -EOPNOTSUPP : sl_call_perform(&c, &op, deadline);
    sl_call_end(&c);
    return rc;
}
