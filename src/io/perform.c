/* perform.c - an operation done by the thread that is here, with the system call that it stands for: on a thread of the pool where the ring
 * has no such operation, on a plain thread always. It waits for whatever it waits for. */
#include "event/uring_abi.h"
#include "io/call.h"

static long perform_once(const struct sl_op *op)
{
    struct iovec one = { (void *)(uintptr_t)op->addr, op->len };
    int fd = op->fd, flags = (int)op->flags;
    long addr = (long)op->addr, off = (long)op->off, len = (long)op->len;
    int64_t in = (int64_t)op->addr, out = (int64_t)op->off; /* offsets that the kernel moves */

    switch (op->code) {
    case IORING_OP_READ:
        return sl_sys_preadv2(fd, &one, 1, off, 0);
    case IORING_OP_WRITE:
        return sl_sys_pwritev2(fd, &one, 1, off, 0);
    case IORING_OP_READV:
        return sl_sys_preadv2(fd, (const struct iovec *)addr, (int)op->len, off, 0);
    case IORING_OP_WRITEV:
        return sl_sys_pwritev2(fd, (const struct iovec *)addr, (int)op->len, off, 0);
    case IORING_OP_CONNECT:
        return sl_sys_connect(fd, (const struct sockaddr *)addr, (socklen_t)op->off);
    case IORING_OP_OPENAT:
        return sl_sys6(SYS_openat, fd, addr, flags, len, 0, 0);
    case IORING_OP_OPENAT2:
        return sl_sys6(SYS_openat2, fd, addr, off, len, 0, 0);
    case IORING_OP_STATX:
        return sl_sys6(SYS_statx, fd, addr, flags, len, off, 0);
    case IORING_OP_FSYNC:
        return sl_sys6(op->flags & IORING_FSYNC_DATASYNC ? SYS_fdatasync : SYS_fsync, fd, 0, 0, 0, 0, 0);
    case IORING_OP_SYNC_FILE_RANGE:
        return sl_sys6(SYS_sync_file_range, fd, off, len, flags, 0, 0);
    case SL_OP_SYNC_FILE_RANGE:
        return sl_sys6(SYS_sync_file_range, fd, off, addr, flags, 0, 0);
    case IORING_OP_FALLOCATE:
        return sl_sys6(SYS_fallocate, fd, (int)op->len, off, addr, 0, 0);
    case SL_OP_FTRUNCATE:
        return sl_sys6(SYS_ftruncate, fd, off, 0, 0, 0, 0);
    case IORING_OP_FADVISE:
        return sl_sys6(SYS_fadvise64, fd, off, len, flags, 0, 0);
    case SL_OP_FADVISE:
        return sl_sys6(SYS_fadvise64, fd, off, addr, flags, 0, 0);
    case IORING_OP_RENAMEAT:
        return sl_sys6(SYS_renameat2, fd, addr, (int)op->len, off, flags, 0);
    case IORING_OP_LINKAT:
    case SL_OP_LINKAT_FD:
        return sl_sys6(SYS_linkat, fd, addr, (int)op->len, off, flags, 0);
    case IORING_OP_SYMLINKAT:
        return sl_sys6(SYS_symlinkat, addr, fd, off, 0, 0, 0);
    case IORING_OP_UNLINKAT:
        return sl_sys6(SYS_unlinkat, fd, addr, flags, 0, 0, 0);
    case IORING_OP_MKDIRAT:
        return sl_sys6(SYS_mkdirat, fd, addr, len, 0, 0, 0);
    case SL_OP_READLINKAT:
        return sl_sys6(SYS_readlinkat, fd, addr, off, len, 0, 0);
    case IORING_OP_SPLICE:
        return sl_sys_splice(op->fd_in, in == -1 ? NULL : &in, fd, out == -1 ? NULL : &out, op->len, op->flags);
    case SL_OP_COPY_FILE_RANGE:
        return sl_sys6(SYS_copy_file_range, op->fd_in, in == -1 ? 0 : (long)&in, fd, out == -1 ? 0 : (long)&out, len, flags);
    case SL_OP_FLOCK:
        return sl_sys6(SYS_flock, fd, flags, 0, 0, 0, 0);
    case SL_OP_FCHMOD:
        return sl_sys6(SYS_fchmod, fd, len, 0, 0, 0, 0);
    case SL_OP_GETDENTS:
        return sl_sys6(SYS_getdents64, fd, addr, len, 0, 0, 0);
    default:
        return -ENOSYS;
    }
}

int sl_perform(const struct sl_op *op, const _Atomic(uint8_t) *interrupted)
{
    long rc;

    do
        rc = perform_once(op);
    while (rc == -EINTR && (interrupted == NULL || !sl_load_relaxed(interrupted))); /* asked again, with another signal, until seen */
    return sl_sys_result(rc);
}
