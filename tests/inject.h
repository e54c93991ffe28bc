/* inject.h - system calls that fail as the kernel may let them fail: a filter (seccomp) sends those named below to a handler of SIGSYS,
 * which either says an error or makes the call. So every call is met, those of the library that no linker can wrap too, and no line of the
 * library is there for it. What a ring tells of an operation is made to fail where the operation is handed over: the kernel is given
 * another in its place that does nothing and ends with the error (IORING_OP_NOP, Linux 6.10), so nothing has happened that could be lost.
 *
 * The program is linked with --wrap=sl_op_park and --wrap=sl_fd_poll_done. */
#ifndef INJECT_H
#define INJECT_H

#include "io_scenario.h"

#include "sched/op.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>

/* What may fail. */
enum inject_what {
    SOFT = 1, /* what nobody may hear of: interrupted, not yet, later */
    HARD = 2, /* want of memory and the like, which a call may say; it has done nothing then */
    PART = 4, /* of what is handed to a ring one is taken */
};

static struct {
    unsigned what;         /* 0: nothing fails */
    uint64_t period;       /* each period-th fails, nearly; 0: */
    uint64_t per_mille;    /* ... so many of a thousand do, by `seed` */
    uint64_t seed;
    _Atomic(uint64_t) met; /* calls and operations that might have failed */
    _Atomic(uint64_t) enters, calls, operations, polls; /* those that have */
    int refused;           /* what the kernel says of everything that is handed to a ring, as an errno; 0: it takes it */
    bool no_operations;    /* the kernel has no operation that ends as it is told to */
} inject;

/* Handlers run in the middle of everything: nothing here is seen by a sanitizer. */
#if defined(__clang__)
#define INJECT_PLAIN __attribute__((disable_sanitizer_instrumentation, noinline))
#else
#define INJECT_PLAIN __attribute__((no_sanitize("thread", "address", "undefined"), noinline))
#endif

/* --- whether it fails, and how --------------------------------------------------------------------------------------------------- */

INJECT_PLAIN static uint64_t inject_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* A number that chooses among the errors; 0: none is due. */
INJECT_PLAIN static uint64_t inject_due(void)
{
    uint64_t n, x;

    if (inject.what == 0)
        return 0;
    n = __atomic_add_fetch((uint64_t *)&inject.met, 1, __ATOMIC_RELAXED);
    x = inject_mix(inject.seed + n * UINT64_C(0x9e3779b97f4a7c15));
    if (inject.period != 0 ? n % inject.period != 0 || x % 16 == 0 : x % 1000 >= inject.per_mille)
        return 0; /* one of sixteen is let go: or a loop of just one period would fail for ever */
    return (x >> 10) | 1;
}

/* One of up to four errors, those behind `hard` only if want of memory is asked for. 0 ends them. */
struct errors {
    short soft[4], hard[3];
};

INJECT_PLAIN static int inject_choose(const struct errors *e, uint64_t due)
{
    unsigned soft = 0, hard = 0, n;

    if (inject.what & SOFT)
        while (soft < 4 && e->soft[soft] != 0)
            soft++;
    if (inject.what & HARD)
        while (hard < 3 && e->hard[hard] != 0)
            hard++;
    if (soft + hard == 0)
        return 0;
    n = (unsigned)((due >> 8) % (soft + hard));
    return n < soft ? -e->soft[n] : -e->hard[n - soft];
}

static const struct filtered { int number; struct errors errors; } filtered[] = {
    /* Of a ring nobody hears: what was not taken is taken later. */
    { __NR_io_uring_enter, { { EINTR, EAGAIN, EBUSY }, { ENOMEM, ENOBUFS } } },
    { __NR_io_uring_register, { { EINTR, EAGAIN }, { ENOMEM } } },
    { __NR_epoll_pwait2, { { EINTR }, { 0 } } },
    { __NR_epoll_ctl, { { 0 }, { ENOMEM, ENOSPC } } },
    { __NR_recvfrom, { { EINTR, EAGAIN }, { ENOMEM, ENOBUFS } } },
    { __NR_recvmsg, { { EINTR, EAGAIN }, { ENOMEM, ENOBUFS } } },
    { __NR_sendto, { { EINTR, EAGAIN }, { ENOMEM, ENOBUFS } } },
    { __NR_sendmsg, { { EINTR, EAGAIN }, { ENOMEM, ENOBUFS } } },
    { __NR_accept4, { { EINTR, EAGAIN }, { EMFILE, ENOMEM } } },
    { __NR_connect, { { EINTR }, { ENOMEM, ENOBUFS } } },
    { __NR_preadv2, { { EINTR }, { ENOMEM, EIO } } },
    { __NR_pwritev2, { { EINTR }, { ENOMEM, ENOSPC } } },
    { __NR_ppoll, { { EINTR }, { ENOMEM } } },
    { __NR_openat, { { EINTR }, { ENOMEM, EMFILE } } },
    { __NR_statx, { { 0 }, { ENOMEM } } },
    { __NR_fsync, { { EINTR }, { EIO } } },
    { __NR_ftruncate, { { EINTR }, { EIO } } },
    { __NR_fallocate, { { EINTR }, { ENOSPC } } },
    { __NR_sendfile, { { EINTR, EAGAIN }, { ENOMEM } } },
    { __NR_splice, { { EINTR }, { ENOMEM } } },
    { __NR_copy_file_range, { { EINTR }, { ENOSPC } } },
    { __NR_flock, { { EINTR }, { ENOMEM } } },
    { __NR_renameat2, { { 0 }, { ENOMEM } } },
    { __NR_unlinkat, { { 0 }, { ENOMEM } } },
    { __NR_close, { { EINTR }, { 0 } } }, /* when it has closed */
};

/* --- the handler --------------------------------------------------------------------------------------------------------------------- */

/* The one place from which such a call passes the filter. */
long inject_syscall(long number, long a, long b, long c, long d, long e, long f);
extern const char inject_passes[];

#if defined(__x86_64__)
#define INJECT_ARCH AUDIT_ARCH_X86_64
__asm__(".text\n.globl inject_syscall, inject_passes\n.hidden inject_syscall, inject_passes\n"
        ".type inject_syscall, @function\ninject_syscall:\n"
        "endbr64\nmov %rdi, %rax\nmov %rsi, %rdi\nmov %rdx, %rsi\nmov %rcx, %rdx\nmov %r8, %r10\nmov %r9, %r8\nmov 8(%rsp), %r9\n"
        "syscall\ninject_passes:\nret\n"
        ".type inject_restore, @function\ninject_restore:\nmov $15, %eax\nsyscall\n"); /* rt_sigreturn */
#define INJECT_NUMBER(u)      ((long)(u)->uc_mcontext.gregs[REG_RAX])
#define INJECT_ARGUMENT(u, i) ((long)(u)->uc_mcontext.gregs[(const int[]){ REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9 }[i]])
#define INJECT_RESULT(u)      (u)->uc_mcontext.gregs[REG_RAX]
#elif defined(__aarch64__)
#define INJECT_ARCH AUDIT_ARCH_AARCH64
__asm__(".text\n.globl inject_syscall, inject_passes\n.hidden inject_syscall, inject_passes\n"
        ".type inject_syscall, %function\ninject_syscall:\n"
        "hint 34\nmov x8, x0\nmov x0, x1\nmov x1, x2\nmov x2, x3\nmov x3, x4\nmov x4, x5\nmov x5, x6\n"
        "svc 0\ninject_passes:\nret\n");
#define INJECT_NUMBER(u)      ((long)(u)->uc_mcontext.regs[8])
#define INJECT_ARGUMENT(u, i) ((long)(u)->uc_mcontext.regs[i])
#define INJECT_RESULT(u)      (u)->uc_mcontext.regs[0]
#endif

INJECT_PLAIN static long injected(long number, const long a[6])
{
    uint64_t due = inject_due();
    long submitted = a[1];
    int error = 0;

    if (number == __NR_io_uring_enter && a[1] > 0 && inject.refused != 0)
        return -inject.refused;
    if (due == 0 || (number == __NR_io_uring_enter && a[1] == 0 && a[2] == 0))
        return inject_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (number == __NR_io_uring_enter && a[1] > 1 && inject.what & PART && due & 2) {
        __atomic_add_fetch((uint64_t *)&inject.enters, 1, __ATOMIC_RELAXED);
        return inject_syscall(number, a[0], 1, 0, a[3], a[4], a[5]);
    }
    for (size_t i = 0; i < sizeof filtered / sizeof *filtered; i++)
        if (filtered[i].number == number)
            error = inject_choose(&filtered[i].errors, due);
    if (number == __NR_io_uring_enter && submitted == 0 && error != 0)
        error = -EINTR; /* there is nothing that the kernel could have no memory for */
    if (error == 0)
        return inject_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    __atomic_add_fetch((uint64_t *)(number == __NR_io_uring_enter ? &inject.enters : &inject.calls), 1, __ATOMIC_RELAXED);
    if (number == __NR_close)
        inject_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    return error;
}

INJECT_PLAIN static void on_filtered(int number, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    long a[6];

    (void)number;
    (void)info;
    for (int i = 0; i < 6; i++)
        a[i] = INJECT_ARGUMENT(u, i);
    INJECT_RESULT(u) = injected(INJECT_NUMBER(u), a);
}

/* 0; -errno: there are no filters here. Before there are threads. */
static int inject_begin(void)
{
    enum { CALLS = sizeof filtered / sizeof *filtered };
    uint64_t passes = (uint64_t)(uintptr_t)inject_passes;
    struct sock_filter code[CALLS + 8];
    struct sock_fprog program = { .filter = code };
    struct { void (*handler)(int, siginfo_t *, void *); unsigned long flags; void (*restore)(void); uint64_t mask; } action = {
        .handler = on_filtered, .flags = SA_SIGINFO | SA_NODEFER,
    };
    unsigned n = 0;

#if defined(__x86_64__)
    extern void inject_restore(void) __attribute__((visibility("hidden")));
    action.flags |= 0x04000000; /* SA_RESTORER */
    action.restore = inject_restore;
#endif
    /* Not libc's: ThreadSanitizer would keep the signal back. */
    if (syscall(SYS_rt_sigaction, SIGSYS, &action, NULL, sizeof action.mask) != 0)
        return -errno;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < CALLS; i++)
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)filtered[i].number, (uint8_t)(CALLS - i), 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)passes, 0, 3);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4);
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(passes >> 32), 0, 1);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    program.len = (unsigned short)n;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return -errno;
    return 0;
}

/* --- operations ------------------------------------------------------------------------------------------------------------------ */

#define NOP_INJECT_RESULT 1 /* IORING_NOP_INJECT_RESULT, Linux 6.10 */

int __real_sl_op_park(struct sl_fiber *f, const struct sl_op *op);
int __wrap_sl_op_park(struct sl_fiber *f, const struct sl_op *op);
void __real_sl_fd_poll_done(int fd, uint32_t tag, int result);
void __wrap_sl_fd_poll_done(int fd, uint32_t tag, int result);

static int operation_error(uint8_t code, uint64_t due)
{
    static const struct errors interrupted = { { EINTR }, { ENOMEM } }, later = { { EINTR, EAGAIN }, { ENOMEM, ENOBUFS } };

    switch (code) {
    case IORING_OP_ACCEPT: case IORING_OP_RECV: case IORING_OP_SEND: case IORING_OP_RECVMSG: case IORING_OP_SENDMSG: case IORING_OP_READ:
    case IORING_OP_WRITE: case IORING_OP_READV: case IORING_OP_WRITEV:
        return inject_choose(&later, due);
    default:
        return inject_choose(&interrupted, due);
    }
}

int __wrap_sl_op_park(struct sl_fiber *f, const struct sl_op *op)
{
    uint64_t due = inject.no_operations ? 0 : inject_due();
    int error = due != 0 ? operation_error(op->code, due) : 0;
    struct sl_op instead = { .code = IORING_OP_NOP, .fd = -1, .flags = NOP_INJECT_RESULT, .len = (uint32_t)error };

    if (error == 0)
        return __real_sl_op_park(f, op);
    inject.operations++;
    return __real_sl_op_park(f, &instead);
}

/* A poll has ended, with readiness or, here, without: who waits looks for itself. */
void __wrap_sl_fd_poll_done(int fd, uint32_t tag, int result)
{
    static const struct errors hard = { { 0 }, { ENOMEM } };
    uint64_t due = result >= 0 ? inject_due() : 0;
    int error = due != 0 ? inject_choose(&hard, due) : 0;

    if (error != 0)
        inject.polls++;
    __real_sl_fd_poll_done(fd, tag, error != 0 ? error : result);
}

/* Does the kernel end a no-op as it is told to? On a worker. */
static int try_operation(void *arg)
{
    struct sl_op op = { .code = IORING_OP_NOP, .fd = -1, .flags = NOP_INJECT_RESULT, .len = (uint32_t)-ENOTTY };
    struct sl_fiber *f = sl_current();

    (void)arg;
    if (f->flags & SL_FIBER_NO_RING || sl_wait_begin(f, SLEY_FOREVER, SL_WAIT_IO, NULL) < 0)
        return 1;
    return __real_sl_op_park(f, &op) != -ENOTTY;
}

#endif
