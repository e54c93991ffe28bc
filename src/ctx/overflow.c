/* overflow.c - the report of a stack overflow: which fiber, how large its stack is, what to set.
 *
 * A fault is an overflow if its address lies in the guard of a stack that a fiber has, and the stack pointer in that same stack's address
 * space: a wild pointer that meets a guard is none. Every fault, reported or not, goes on to the handler that was there before; without
 * one it happens again under the default action, so that the core shows the place. The handler calls nothing that is not
 * async-signal-safe, and the slabs' table may be read at any time (K3). */
#include "ctx/stack.h"
#include "plat/vm.h"

#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <ucontext.h>
#include <unistd.h>

struct line {
    char   text[512];
    size_t used;
};

static void put(struct line *l, const char *text, size_t max)
{
    for (; max > 0 && *text != '\0' && l->used < sizeof l->text; max--)
        l->text[l->used++] = *text++;
}

static void put_number(struct line *l, uint64_t number, unsigned base)
{
    char digits[20];
    size_t at = sizeof digits;

    do {
        digits[--at] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number > 0);
    put(l, digits + at, sizeof digits - at);
}

static void put_text(struct line *l, const char *text)
{
    put(l, text, SIZE_MAX);
}

/* own: the fiber's own stack, which says who it is. */
static void put_fiber(struct line *l, const struct sl_stack *own)
{
    char name[SL_NAME_BYTES];

    put_text(l, "fiber ");
    sl_stack_get_name(own, name);
    if (name[0] != '\0') {
        put_text(l, "\"");
        put(l, name, sizeof name);
        put_text(l, "\" ");
    }
    put_text(l, "(number ");
    put_number(l, own->number, 10);
    put_text(l, "), entry function 0x");
    put_number(l, (uintptr_t)own->fn, 16);
}

void sl_overflow_print(const struct sl_stack *s, size_t stack_bytes, size_t guard_bytes)
{
    static const char *const remedies[] = {
        [SL_USE_FIBER] = "; set SLEY_STACK or options.stack_bytes to a larger power of two\n",
        [SL_USE_CALL] = "; call it with more stack_bytes\n",
        [SL_USE_GEN] = "; set SLEY_GEN_STACK or options.gen_stack_bytes to a larger power of two\n",
    };
    struct line l = { .used = 0 };

    put_text(&l, "sley: stack overflow in ");
    if (s->use == SL_USE_FIBER) {
        put_fiber(&l, s);
    } else {
        if (s->owner != NULL)
            put_fiber(&l, s->owner);
        else
            put_text(&l, "a plain thread");
        put_text(&l, s->use == SL_USE_GEN ? ", generator of function 0x" : ", sley_on_big_stack of function 0x");
        put_number(&l, (uintptr_t)s->fn, 16);
    }
    put_text(&l, ", ");
    put_number(&l, stack_bytes, 10);
    put_text(&l, " bytes with a guard of ");
    put_number(&l, guard_bytes, 10);
    put_text(&l, remedies[s->use]);
    if (write(STDERR_FILENO, l.text, l.used) < 0)
        return; /* nobody reads it */
}

#if defined(SL_ASAN) || defined(SL_TSAN)

void sl_overflow_report_install(void) {}

int sl_overflow_stack_init(void **altstack)
{
    *altstack = NULL;
    return 0;
}

void sl_overflow_stack_fini(void *altstack) { (void)altstack; }

#else

static struct sigaction previous; /* written before the handler is in place */

static uintptr_t stack_pointer(const ucontext_t *c)
{
#if defined(__x86_64__)
    return (uintptr_t)c->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    return (uintptr_t)c->uc_mcontext.sp;
#else
    (void)c;
    return 0;
#endif
}

static bool is_overflow(const siginfo_t *info, const ucontext_t *c, struct sl_stack_place *place)
{
    uintptr_t sp = stack_pointer(c);

    return info->si_code > 0 && sl_stack_find(info->si_addr, place) && (char *)info->si_addr < place->base + place->guard_bytes &&
           (sp == 0 || sp - (uintptr_t)place->base < place->stack_bytes) && place->stack->fiber != NULL;
}

static void on_fault(int signal_number, siginfo_t *info, void *context)
{
    struct sl_stack_place place;

    if (is_overflow(info, context, &place))
        sl_overflow_print(place.stack, place.stack_bytes, place.guard_bytes);
    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(signal_number, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(signal_number);
    } else if (info->si_code > 0 || previous.sa_handler == SIG_DFL) { /* a fault cannot be ignored, a signal that was sent can */
        struct sigaction standard = { .sa_handler = SIG_DFL };

        sigaction(signal_number, &standard, NULL);
        if (info->si_code <= 0)
            raise(signal_number); /* nothing will happen again by itself; delivered on return */
    }
}

void sl_overflow_report_install(void)
{
    static struct sl_lock lock;
    static bool installed;
    struct sigaction report;

    sl_lock_acquire(&lock);
    if (!installed) {
        sigaction(SIGSEGV, NULL, &previous);
        report = (struct sigaction){ .sa_sigaction = on_fault, .sa_mask = previous.sa_mask };
        report.sa_flags = SA_SIGINFO | SA_ONSTACK | (previous.sa_flags & (SA_NODEFER | SA_RESTART));
        installed = sigaction(SIGSEGV, &report, NULL) == 0;
    }
    sl_lock_release(&lock);
}

/* What the kernel needs for a frame with all registers, and room for a handler of the program's that we chain to. */
static size_t altstack_bytes(void)
{
    size_t page = sl_vm_page_bytes(), frame = getauxval(AT_MINSIGSTKSZ);

    if (frame < (size_t)MINSIGSTKSZ)
        frame = (size_t)MINSIGSTKSZ;
    return (frame + ((size_t)32 << 10) + page - 1) / page * page;
}

int sl_overflow_stack_init(void **altstack)
{
    stack_t s = { .ss_size = altstack_bytes() };
    int rc = sl_vm_map(&s.ss_sp, s.ss_size);

    if (rc < 0)
        return rc;
    sigaltstack(&s, NULL);
    *altstack = s.ss_sp;
    return 0;
}

void sl_overflow_stack_fini(void *altstack)
{
    const stack_t none = { .ss_flags = SS_DISABLE };

    sigaltstack(&none, NULL);
    sl_vm_unmap(altstack, altstack_bytes());
}

#endif
