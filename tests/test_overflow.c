/* test_overflow.c - the overflow report: what it prints, that the process then dies as it would have, and that other faults and other
 * handlers are left alone. Every case runs in a child. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "again.h"
#include "ctx/context.h"
#include "ctx/stack.h"

static struct sl_stack_pool *pool;
static struct sl_stack *stack, *neighbour, *big;
static struct sl_context main_context, context;

/* --- what the children do -------------------------------------------------------------------------------------------------------- */

__attribute__((noinline)) static int descend(volatile char *above, unsigned depth)
{
    volatile char here[512];

    here[0] = above[0];
    return depth > 0 ? descend(here, depth - 1) + here[0] : 0;
}

__attribute__((noinline)) static void big_frame(void)
{
    char here[512 << 10];

    __asm__ volatile("" ::"r"(here) : "memory"); /* it is needed, whole */
}

static int entry(void *arg) /* stands for the fiber's function in the report */
{
    (void)arg;
    return 0;
}

static int big_entry(void *arg) /* for sley_on_big_stack's */
{
    return entry(arg) + 1;
}

static void overflow(void *arg)
{
    volatile char first = 0;

    (void)arg;
    descend(&first, 1U << 20);
    _exit(3);
}

static void overflow_with_a_big_frame(void *arg)
{
    (void)arg;
    big_frame();
    _exit(3);
}

static void touch_null(void *arg)
{
    *(volatile char *)arg = 1; /* arg is NULL */
    _exit(3);
}

static void touch_the_neighbours_guard(void *arg)
{
    (void)arg;
    *(volatile char *)(neighbour->low - 1) = 1;
    _exit(3);
}

static char *place_after;

static void touch_where_the_guard_was(void *arg)
{
    (void)arg;
    *(volatile char *)place_after = 1;
    _exit(3);
}

static void send_the_signal(void *arg)
{
    (void)arg;
    raise(SIGSEGV);
    _exit(0);
}

static void say_chained(void)
{
    if (write(STDERR_FILENO, "chained\n", 8) != 8)
        _exit(4);
    _exit(42);
}

static void chained(int signal_number)
{
    if (signal_number == SIGSEGV)
        say_chained();
}

static void chained_with_info(int signal_number, siginfo_t *info, void *c)
{
    if (signal_number == SIGSEGV && info->si_code > 0 && c != NULL)
        say_chained();
}

enum before { BEFORE_DEFAULT, BEFORE_IGNORE, BEFORE_HANDLER, BEFORE_HANDLER_WITH_INFO };
enum place { ON_STACK, ON_STACK_NAMELESS, ON_STACK_OF_NOBODY, AFTER_THE_POOL, ON_BIG, ON_BIG_OF_THREAD, ON_BIG_OF_NOBODY, AFTER_BIG };

static _Noreturn void be_the_child(void (*act)(void *), enum before before, enum place place)
{
    struct sl_stack_cache cache = { .count = 0 };
    struct sl_context *nobodys = NULL;
    struct sigaction earlier = { .sa_handler = SIG_DFL };
    void *altstack;

    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    if (before == BEFORE_IGNORE)
        earlier.sa_handler = SIG_IGN;
    if (before == BEFORE_HANDLER)
        earlier.sa_handler = chained;
    if (before == BEFORE_HANDLER_WITH_INFO) {
        earlier.sa_sigaction = chained_with_info;
        earlier.sa_flags = SA_SIGINFO;
    }
    sigaction(SIGSEGV, &earlier, NULL);
    sl_overflow_report_install();
    sl_overflow_report_install(); /* again: nothing, and no handler that chains to itself */
    pool = sl_stack_pool_create(SL_STACK_BYTES_DEFAULT);
    if (pool == NULL || sl_overflow_stack_init(&altstack) < 0 || sl_stack_refill(pool, &cache) < 0)
        _exit(5);
    stack = sl_stack_pop(&cache);
    neighbour = sl_stack_pop(&cache);
    if (place == AFTER_THE_POOL) {
        sl_stack_pool_destroy(pool);
        act(NULL);
    }
    if (place != ON_STACK_OF_NOBODY)
        stack->fiber = (struct sl_fiber *)&context; /* only compared with NULL */
    neighbour->fiber = (struct sl_fiber *)&context;
    stack->fn = entry;
    stack->number = UINT64_C(4294967303);
    if (place == ON_STACK || place == ON_BIG)
        sl_stack_set_name(stack, "deep");
    if (place >= ON_BIG) {
        big = sl_stack_map_big((size_t)300 << 10);
        if (big == NULL)
            _exit(5);
        big->owner = place == ON_BIG ? stack : NULL;
        big->fn = big_entry;
        big->fiber = place == ON_BIG_OF_NOBODY ? NULL : (struct sl_fiber *)&context;
        if (place != AFTER_BIG)
            sl_context_call(&nobodys, big->low, big->top, act, NULL);
        place_after = big->low - 1;
        sl_stack_unmap_big(big);
        act(NULL);
    }
    sl_context_of_thread(&main_context);
    sl_context_make(&context, stack->low, stack->top, act, NULL);
    sl_context_switch(&errno, &main_context, &context, NULL, NULL);
    _exit(6);
}

/* --- what is seen of them -------------------------------------------------------------------------------------------------------- */

struct outcome {
    int  status;
    char text[1024];
};

static struct outcome outcome_of(void (*act)(void *), enum before before, enum place place)
{
    struct outcome o = { .status = -1 };
    size_t used = 0;
    ssize_t n;
    int ends[2];
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        be_the_child(act, before, place);
    }
    close(ends[1]);
    while ((n = read(ends[0], o.text + used, sizeof o.text - 1 - used)) > 0)
        used += (size_t)n;
    close(ends[0]);
    forget_emulator(o.text);
    assert_int_equal(waitpid(child, &o.status, 0), child);
    return o;
}

static const char *report(const char *name)
{
    static char text[512];

    snprintf(text, sizeof text,
             "sley: stack overflow in fiber %s(number 4294967303), entry function 0x%llx, 131072 bytes with a guard of 16384; "
             "set SLEY_STACK or options.stack_bytes to a larger power of two\n",
             name, (unsigned long long)(uintptr_t)entry);
    return text;
}

static const char *big_report(const char *who)
{
    static char text[512];

    snprintf(text, sizeof text, "sley: stack overflow in %s, sley_on_big_stack of function 0x%llx, 327680 bytes with a guard of 16384; "
             "call it with more stack_bytes\n", who, (unsigned long long)(uintptr_t)big_entry);
    return text;
}

static void assert_killed_by(int status, int signal_number)
{
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), signal_number);
}

static void assert_exited_with(int status, int code)
{
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), code);
}

static void overflow_is_reported_and_kills_with_sigsegv(void **state)
{
    struct outcome o = outcome_of(overflow, BEFORE_DEFAULT, ON_STACK);

    (void)state;
    assert_string_equal(o.text, report("\"deep\" "));
    assert_killed_by(o.status, SIGSEGV);
}

static void overflow_of_a_nameless_fiber_is_reported(void **state)
{
    struct outcome o = outcome_of(overflow, BEFORE_DEFAULT, ON_STACK_NAMELESS);

    (void)state;
    assert_string_equal(o.text, report(""));
    assert_killed_by(o.status, SIGSEGV);
}

static void overflow_is_reported_with_a_guard_of_mprotect(void **state)
{
    struct outcome o;

    (void)state;
    setenv("SLEY_GUARD", "mprotect", 1);
    o = outcome_of(overflow, BEFORE_DEFAULT, ON_STACK);
    unsetenv("SLEY_GUARD");
    assert_string_equal(o.text, report("\"deep\" "));
    assert_killed_by(o.status, SIGSEGV);
}

static void frame_larger_than_the_stack_meets_the_guard(void **state)
{
    struct outcome o = outcome_of(overflow_with_a_big_frame, BEFORE_DEFAULT, ON_STACK);

    (void)state;
    assert_string_equal(o.text, report("\"deep\" "));
    assert_killed_by(o.status, SIGSEGV);
}

static void earlier_handler_is_called_after_the_report(void **state)
{
    struct outcome o = outcome_of(overflow, BEFORE_HANDLER, ON_STACK);
    char wanted[600];

    (void)state;
    snprintf(wanted, sizeof wanted, "%schained\n", report("\"deep\" "));
    assert_string_equal(o.text, wanted);
    assert_exited_with(o.status, 42);
    o = outcome_of(overflow, BEFORE_HANDLER_WITH_INFO, ON_STACK);
    assert_string_equal(o.text, wanted);
    assert_exited_with(o.status, 42);
}

static void null_dereference_is_no_overflow(void **state)
{
    struct outcome o = outcome_of(touch_null, BEFORE_DEFAULT, ON_STACK);

    (void)state;
    assert_string_equal(o.text, "");
    assert_killed_by(o.status, SIGSEGV);
    o = outcome_of(touch_null, BEFORE_HANDLER_WITH_INFO, ON_STACK);
    assert_string_equal(o.text, "chained\n");
    assert_exited_with(o.status, 42);
}

static void wild_pointer_into_another_guard_is_no_overflow(void **state)
{
    struct outcome o = outcome_of(touch_the_neighbours_guard, BEFORE_DEFAULT, ON_STACK);

    (void)state;
    assert_string_equal(o.text, "");
    assert_killed_by(o.status, SIGSEGV);
}

static void stack_without_a_fiber_is_not_reported(void **state)
{
    struct outcome o = outcome_of(overflow, BEFORE_DEFAULT, ON_STACK_OF_NOBODY);

    (void)state;
    assert_string_equal(o.text, "");
    assert_killed_by(o.status, SIGSEGV);
}

static void fault_after_the_pool_is_gone_finds_no_table_entry(void **state)
{
    struct outcome o = outcome_of(touch_null, BEFORE_HANDLER, AFTER_THE_POOL);

    (void)state;
    assert_string_equal(o.text, "chained\n");
    assert_exited_with(o.status, 42);
    o = outcome_of(touch_the_neighbours_guard, BEFORE_DEFAULT, AFTER_THE_POOL);
    assert_string_equal(o.text, "");
    assert_killed_by(o.status, SIGSEGV);
}

static void signal_that_was_sent_acts_as_before(void **state)
{
    struct outcome o = outcome_of(send_the_signal, BEFORE_DEFAULT, ON_STACK);

    (void)state;
    assert_string_equal(o.text, "");
    assert_killed_by(o.status, SIGSEGV);
    o = outcome_of(send_the_signal, BEFORE_IGNORE, ON_STACK);
    assert_exited_with(o.status, 0);
    o = outcome_of(overflow, BEFORE_IGNORE, ON_STACK); /* a fault cannot be ignored */
    assert_string_equal(o.text, report("\"deep\" "));
    assert_killed_by(o.status, SIGSEGV);
}

static void overflow_of_a_big_stack_is_its_fibers(void **state)
{
    char fiber[200];
    struct outcome o;

    (void)state;
    snprintf(fiber, sizeof fiber, "fiber \"deep\" (number 4294967303), entry function 0x%llx", (unsigned long long)(uintptr_t)entry);
    o = outcome_of(overflow, BEFORE_DEFAULT, ON_BIG);
    assert_string_equal(o.text, big_report(fiber));
    assert_killed_by(o.status, SIGSEGV);
    o = outcome_of(overflow_with_a_big_frame, BEFORE_DEFAULT, ON_BIG);
    assert_string_equal(o.text, big_report(fiber));
    assert_killed_by(o.status, SIGSEGV);
}

static void overflow_of_a_threads_big_stack_is_reported(void **state)
{
    struct outcome o = outcome_of(overflow, BEFORE_DEFAULT, ON_BIG_OF_THREAD);

    (void)state;
    assert_string_equal(o.text, big_report("a plain thread"));
    assert_killed_by(o.status, SIGSEGV);
}

static void big_stack_that_is_free_or_gone_is_not_reported(void **state)
{
    struct outcome o = outcome_of(overflow, BEFORE_DEFAULT, ON_BIG_OF_NOBODY);

    (void)state;
    assert_string_equal(o.text, "");
    assert_killed_by(o.status, SIGSEGV);
    o = outcome_of(touch_where_the_guard_was, BEFORE_DEFAULT, AFTER_BIG);
    assert_string_equal(o.text, "");
    assert_killed_by(o.status, SIGSEGV);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overflow_is_reported_and_kills_with_sigsegv),
        cmocka_unit_test(overflow_of_a_nameless_fiber_is_reported),
        cmocka_unit_test(overflow_is_reported_with_a_guard_of_mprotect),
        cmocka_unit_test(frame_larger_than_the_stack_meets_the_guard),
        cmocka_unit_test(earlier_handler_is_called_after_the_report),
        cmocka_unit_test(null_dereference_is_no_overflow),
        cmocka_unit_test(wild_pointer_into_another_guard_is_no_overflow),
        cmocka_unit_test(stack_without_a_fiber_is_not_reported),
        cmocka_unit_test(fault_after_the_pool_is_gone_finds_no_table_entry),
        cmocka_unit_test(signal_that_was_sent_acts_as_before),
        cmocka_unit_test(overflow_of_a_big_stack_is_its_fibers),
        cmocka_unit_test(overflow_of_a_threads_big_stack_is_reported),
        cmocka_unit_test(big_stack_that_is_free_or_gone_is_not_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
