/* flock.c - the helper that waits for a file's lock.
 *
 * Nothing but a signal ends a wait in flock(2). To a thread it must be one with a handler, and comes to nothing if the wait has not begun;
 * a process can be killed. This one shares memory, so that it costs no more than a thread, and the table of descriptors, so that the lock
 * it gets is the open file description's, which is the caller's as well. It runs a few instructions, has no stack of its own and touches no
 * memory, blocks all signals, and dies with the thread that made it. Nobody is told of its end but by the pidfd: the program's own waits
 * for children do not see it, unless they ask for __WALL. A program that is seen from outside has one more process while it waits. */
#include "plat/flock.h"

#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

#define NOT_OURS 255 /* its maker had gone before it could ask to die with it */

/* What happens in the helper happens between two labels, in registers. < 0: -errno. */
#if defined(__x86_64__) && !defined(__ILP32__)
#define HAS_HELPER 1
static long clone_into_flock(int fd, int operation, long maker, int *pidfd)
{
    register long r10 __asm__("r10") = 0;
    register long r8 __asm__("r8") = 0;
    register long r12 __asm__("r12") = fd;
    register long r13 __asm__("r13") = operation;
    register long r14 __asm__("r14") = maker;
    long result;

    __asm__ volatile("syscall\n\t"
                     "testq %%rax, %%rax\n\t"
                     "jnz 2f\n\t"
                     "movl %[prctl], %%eax\n\t"
                     "movl %[pdeathsig], %%edi\n\t"
                     "movl %[sigkill], %%esi\n\t"
                     "syscall\n\t"
                     "movl %[getppid], %%eax\n\t"
                     "syscall\n\t"
                     "movl %[not_ours], %%edi\n\t"
                     "cmpq %%r14, %%rax\n\t"
                     "jne 1f\n\t"
                     "movl %[flock], %%eax\n\t"
                     "movq %%r12, %%rdi\n\t"
                     "movq %%r13, %%rsi\n\t"
                     "syscall\n\t"
                     "negq %%rax\n\t"
                     "movq %%rax, %%rdi\n\t"
                     "1:\n\t"
                     "movl %[exit], %%eax\n\t"
                     "syscall\n\t"
                     "hlt\n\t"
                     "2:"
                     : "=a"(result)
                     : "a"((long)SYS_clone), "D"((long)(CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_PIDFD)), "S"(0L), "d"(pidfd), "r"(r10),
                       "r"(r8), "r"(r12), "r"(r13), "r"(r14), [prctl] "i"(SYS_prctl), [pdeathsig] "i"(PR_SET_PDEATHSIG),
                       [sigkill] "i"(SIGKILL), [getppid] "i"(SYS_getppid), [flock] "i"(SYS_flock), [exit] "i"(SYS_exit),
                       [not_ours] "i"(NOT_OURS)
                     : "rcx", "r11", "cc", "memory");
    return result;
}
#elif defined(__aarch64__)
#define HAS_HELPER 1
static long clone_into_flock(int fd, int operation, long maker, int *pidfd)
{
    register long x8 __asm__("x8") = SYS_clone;
    register long x0 __asm__("x0") = CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_PIDFD;
    register long x1 __asm__("x1") = 0;
    register long x2 __asm__("x2") = (long)pidfd;
    register long x3 __asm__("x3") = 0;
    register long x4 __asm__("x4") = 0;
    register long x9 __asm__("x9") = fd;
    register long x10 __asm__("x10") = operation;
    register long x11 __asm__("x11") = maker;

    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 2f\n\t"
                     "mov x8, %[prctl]\n\t"
                     "mov x0, %[pdeathsig]\n\t"
                     "mov x1, %[sigkill]\n\t"
                     "svc #0\n\t"
                     "mov x8, %[getppid]\n\t"
                     "svc #0\n\t"
                     "cmp x0, x11\n\t"
                     "mov x0, %[not_ours]\n\t"
                     "b.ne 1f\n\t"
                     "mov x8, %[flock]\n\t"
                     "mov x0, x9\n\t"
                     "mov x1, x10\n\t"
                     "svc #0\n\t"
                     "neg x0, x0\n\t"
                     "1:\n\t"
                     "mov x8, %[exit]\n\t"
                     "svc #0\n\t"
                     "brk #1\n\t"
                     "2:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x9), "r"(x10), "r"(x11), [prctl] "i"(SYS_prctl),
                       [pdeathsig] "i"(PR_SET_PDEATHSIG), [sigkill] "i"(SIGKILL), [getppid] "i"(SYS_getppid), [flock] "i"(SYS_flock),
                       [exit] "i"(SYS_exit), [not_ours] "i"(NOT_OURS)
                     : "cc", "memory");
    return x0;
}
#else
#define HAS_HELPER 0
static long clone_into_flock(int fd, int operation, long maker, int *pidfd)
{
    return -ENOSYS;
}
#endif

int sl_flock_start(int fd, int operation, int *pidfd)
{
    uint64_t all = UINT64_MAX, before;
    int saved = errno;
    long rc;

    if (!HAS_HELPER)
        return -ENOSYS;
    /* The helper inherits the mask. Not by sigprocmask: libc leaves its own signals out. */
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof(all));
    rc = clone_into_flock(fd, operation, getpid(), pidfd);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof(before));
    errno = saved;
    return rc < 0 ? (int)rc : 0;
}

void sl_flock_kill(int pidfd)
{
    int saved = errno;

    syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    errno = saved;
}

int sl_flock_end(int pidfd)
{
    siginfo_t end = { 0 };
    int saved = errno;
    long rc;

    do
        rc = syscall(SYS_waitid, P_PIDFD, pidfd, &end, WEXITED | __WALL, NULL);
    while (rc < 0 && errno == EINTR);
    errno = saved;
    if (rc < 0 || end.si_code != CLD_EXITED || end.si_status == NOT_OURS || end.si_status == EINTR)
        return SL_FLOCK_UNKNOWN; /* rc < 0: somebody else has reaped it */
    return -end.si_status;
}
