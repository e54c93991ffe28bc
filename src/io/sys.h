/* sys.h - the system calls made directly, as -errno. libc's wrappers set errno, which is not ours to touch, and some are points of thread
 * cancellation; these are neither. None of them waits: the caller asks for that (MSG_DONTWAIT, RWF_NOWAIT), or knows it. */
#ifndef SL_IO_SYS_H
#define SL_IO_SYS_H

#include "base/atomic.h"
#include "plat/feature.h"
#include "plat/self.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__) && !defined(__ILP32__)
static inline __attribute__((always_inline)) long
sl_sys6(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;

    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
static inline __attribute__((always_inline)) long
sl_sys6(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#else
static inline long sl_sys6(long number, long a, long b, long c, long d, long e, long f)
{
    int *slot = sl_self()->errno_slot; /* nothing parks between here and the end */
    int before = *slot;
    long result = syscall(number, a, b, c, d, e, f);

    if (result < 0)
        result = -*slot;
    *slot = before;
    return result;
}
#endif

/* SIGPIPE: workers block it, any other thread may not. A send can ask for none, what else writes to a pipe or socket cannot: it is held
 * back, and one that has come is dropped. */
struct sl_sigpipe {
    uint64_t mask;    /* of before */
    bool     is_held; /* false: nothing is to be done */
};

void sl_sigpipe_hold_slow(struct sl_sigpipe *h); /* sigpipe.c */
void sl_sigpipe_drop_slow(const struct sl_sigpipe *h);

static inline void sl_sigpipe_hold(struct sl_sigpipe *h)
{
    const struct sl_thread *here = sl_self_or_null();

    h->is_held = false;
    if (__builtin_expect(here == NULL || here->worker == NULL, 0))
        sl_sigpipe_hold_slow(h);
}

static inline void sl_sigpipe_drop(const struct sl_sigpipe *h)
{
    if (__builtin_expect(h->is_held, 0))
        sl_sigpipe_drop_slow(h);
}

/* The kernel's own -ETIMEDOUT, of a peer or a device that no longer answers. In Sley that word is the deadline's. The ring's results are
 * sl_op_park's to translate. */
static inline int sl_sys_result(long n)
{
    return __builtin_expect(n == -ETIMEDOUT, 0) ? -ECONNRESET : (int)n;
}

#ifdef SL_TSAN
/* ThreadSanitizer keeps a note of each descriptor that a call of libc made: one that it does not see closed, it takes for shared with the
 * number's next owner. Not looked at itself, since errno is the worker's, and to it a fiber is another thread. */
static __attribute__((noinline, unused, no_sanitize("thread"))) int sl_sys_close(int fd)
{
    return close(fd) < 0 ? -errno : 0;
}
#else
static inline int sl_sys_close(int fd)
{
    return (int)sl_sys6(SYS_close, fd, 0, 0, 0, 0, 0);
}
#endif

static inline int sl_sys_read(int fd, void *buf, size_t bytes)
{
    return (int)sl_sys6(SYS_read, fd, (long)buf, (long)bytes, 0, 0, 0);
}

static inline int sl_sys_write(int fd, const void *buf, size_t bytes)
{
    return (int)sl_sys6(SYS_write, fd, (long)buf, (long)bytes, 0, 0, 0);
}

/* What a call with RWF_NOWAIT has said: files differ in whether they take it, so it counts as missing only as long as none did. -ENOSYS:
 * the call itself is missing, in a sandbox or an emulator of Linux; or the file says so, and then the call that waits says it again. */
static inline int sl_nowait_said(int n)
{
    if (__builtin_expect(n == -ENOSYS, 0))
        n = -EOPNOTSUPP;
    if (__builtin_expect(sl_feature_found(SL_FEATURE_RWF_NOWAIT) != SL_FOUND_USED, 0) && (n >= 0 || n == -EAGAIN || n == -EOPNOTSUPP))
        sl_feature_note(SL_FEATURE_RWF_NOWAIT, n == -EOPNOTSUPP ? n : 0);
    return n;
}

/* offset -1: at the file's own position. flags: RWF_NOWAIT or 0, for which the older calls do. */
static inline int sl_sys_preadv2(int fd, const struct iovec *v, int n, int64_t offset, int flags)
{
    if (!(flags & RWF_NOWAIT))
        return sl_sys_result(sl_sys6(offset == -1 ? SYS_readv : SYS_preadv, fd, (long)v, n, (long)offset, 0, 0));
    if (!sl_feature_allowed(SL_FEATURE_RWF_NOWAIT))
        return -EOPNOTSUPP;
    return sl_nowait_said(sl_sys_result(sl_sys6(SYS_preadv2, fd, (long)v, n, (long)offset, 0, flags)));
}

static inline int sl_sys_pwritev2(int fd, const struct iovec *v, int n, int64_t offset, int flags)
{
    struct sl_sigpipe held;
    int rc;

    if (flags & RWF_NOWAIT && !sl_feature_allowed(SL_FEATURE_RWF_NOWAIT))
        return -EOPNOTSUPP;
    sl_sigpipe_hold(&held);
    if (flags & RWF_NOWAIT)
        rc = (int)sl_sys6(SYS_pwritev2, fd, (long)v, n, (long)offset, 0, flags);
    else
        rc = (int)sl_sys6(offset == -1 ? SYS_writev : SYS_pwritev, fd, (long)v, n, (long)offset, 0, 0);
    rc = sl_sys_result(rc);
    sl_sigpipe_drop(&held);
    return flags & RWF_NOWAIT ? sl_nowait_said(rc) : rc;
}

static inline int sl_sys_recv(int fd, void *buf, size_t bytes, int flags)
{
    return sl_sys_result(sl_sys6(SYS_recvfrom, fd, (long)buf, (long)bytes, flags, 0, 0));
}

static inline int sl_sys_send(int fd, const void *buf, size_t bytes, int flags)
{
    return sl_sys_result(sl_sys6(SYS_sendto, fd, (long)buf, (long)bytes, flags, 0, 0));
}

static inline int sl_sys_recvmsg(int fd, struct msghdr *m, int flags)
{
    return sl_sys_result(sl_sys6(SYS_recvmsg, fd, (long)m, flags, 0, 0, 0));
}

static inline int sl_sys_sendmsg(int fd, const struct msghdr *m, int flags)
{
    return sl_sys_result(sl_sys6(SYS_sendmsg, fd, (long)m, flags, 0, 0, 0));
}

static inline int sl_sys_accept4(int fd, struct sockaddr *addr, socklen_t *addr_bytes, int flags)
{
    return (int)sl_sys6(SYS_accept4, fd, (long)addr, (long)addr_bytes, flags, 0, 0);
}

static inline int sl_sys_connect(int fd, const struct sockaddr *addr, socklen_t addr_bytes)
{
    int rc = (int)sl_sys6(SYS_connect, fd, (long)addr, addr_bytes, 0, 0, 0);

    return rc == -ETIMEDOUT ? -EHOSTUNREACH : rc; /* as sl_sys_result, of a host that has not answered at all */
}

static inline int sl_sys_getsockopt(int fd, int level, int name, void *value, socklen_t *value_bytes)
{
    return (int)sl_sys6(SYS_getsockopt, fd, level, name, (long)value, (long)value_bytes, 0);
}

static inline int sl_sys_setsockopt(int fd, int level, int name, const void *value, socklen_t value_bytes)
{
    return (int)sl_sys6(SYS_setsockopt, fd, level, name, (long)value, value_bytes, 0);
}

static inline int sl_sys_getsockname(int fd, struct sockaddr *addr, socklen_t *addr_bytes)
{
    return (int)sl_sys6(SYS_getsockname, fd, (long)addr, (long)addr_bytes, 0, 0, 0);
}

static inline int sl_sys_getpeername(int fd, struct sockaddr *addr, socklen_t *addr_bytes)
{
    return (int)sl_sys6(SYS_getpeername, fd, (long)addr, (long)addr_bytes, 0, 0, 0);
}

static inline int sl_sys_socket(int family, int type, int protocol)
{
    return (int)sl_sys6(SYS_socket, family, type, protocol, 0, 0, 0);
}

static inline int sl_sys_bind(int fd, const struct sockaddr *addr, socklen_t addr_bytes)
{
    return (int)sl_sys6(SYS_bind, fd, (long)addr, addr_bytes, 0, 0, 0);
}

static inline int sl_sys_listen(int fd, int backlog)
{
    return (int)sl_sys6(SYS_listen, fd, backlog, 0, 0, 0, 0);
}

static inline int sl_sys_unlink(const char *path)
{
    return (int)sl_sys6(SYS_unlinkat, AT_FDCWD, (long)path, 0, 0, 0, 0);
}

static inline int sl_sys_fcntl(int fd, int command, long argument)
{
    return (int)sl_sys6(SYS_fcntl, fd, command, argument, 0, 0, 0);
}

static inline int64_t sl_sys_lseek(int fd, int64_t offset, int whence)
{
    return sl_sys6(SYS_lseek, fd, (long)offset, whence, 0, 0, 0);
}

static inline int sl_sys_sendfile(int out_fd, int in_fd, int64_t *offset, size_t bytes)
{
    struct sl_sigpipe held;
    int rc;

    sl_sigpipe_hold(&held);
    rc = sl_sys_result(sl_sys6(SYS_sendfile, out_fd, in_fd, (long)offset, (long)bytes, 0, 0));
    sl_sigpipe_drop(&held);
    return rc;
}

/* NULL: at the position. */
static inline int sl_sys_splice(int in_fd, int64_t *in_offset, int out_fd, int64_t *out_offset, size_t bytes, unsigned flags)
{
    struct sl_sigpipe held;
    int rc;

    sl_sigpipe_hold(&held);
    rc = sl_sys_result(sl_sys6(SYS_splice, in_fd, (long)in_offset, out_fd, (long)out_offset, (long)bytes, flags));
    sl_sigpipe_drop(&held);
    return rc;
}

static inline int sl_sys_statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *out)
{
    return (int)sl_sys6(SYS_statx, dirfd, (long)path, flags, mask, (long)out, 0);
}

static inline int sl_sys_fstatfs(int fd, struct statfs *out)
{
    return (int)sl_sys6(SYS_fstatfs, fd, (long)out, 0, 0, 0, 0);
}

static inline int sl_sys_openat2(int dirfd, const char *path, const void *how, size_t how_bytes)
{
    return (int)sl_sys6(SYS_openat2, dirfd, (long)path, (long)how, (long)how_bytes, 0, 0);
}

static inline int sl_sys_eventfd(unsigned flags)
{
    return (int)sl_sys6(SYS_eventfd2, 0, flags, 0, 0, 0, 0);
}

/* ThreadSanitizer holds the handlers of signals back until the thread calls something that it intercepts. */
static inline void sl_signal_point(void)
{
#ifdef SL_TSAN
    poll(NULL, 0, 0);
#endif
}

/* timeout NULL: no limit. */
static inline int sl_sys_poll(struct pollfd *fds, unsigned count, const struct timespec *timeout)
{
    struct timespec left = timeout != NULL ? *timeout : (struct timespec){ 0 }; /* the kernel writes what is left */
#ifdef SL_TSAN
    /* As in sl_futex_wait: a signal that comes just before the wait would be kept for ever. So it ends soon, and the caller looks again. */
    const struct timespec soon = { .tv_nsec = 10000000 };

    if (timeout == NULL || left.tv_sec > 0 || left.tv_nsec > 0)
        sl_signal_point();
    if (timeout == NULL || left.tv_sec > 0 || left.tv_nsec > soon.tv_nsec) {
        left = soon;
        timeout = &left;
    }
#endif

    return (int)sl_sys6(SYS_ppoll, (long)fds, count, (long)(timeout != NULL ? &left : NULL), 0, 0, 0);
}

#endif
