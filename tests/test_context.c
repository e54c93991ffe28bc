/* test_context.c - the switch between contexts: what is kept, the order of effects, errno, unwinding. Built twice: for the processor's
 * assembly, and for ucontext.
 *
 * To ThreadSanitizer a switch orders nothing, as the library wants it. So here a lock stands for what fibers hand each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <execinfo.h>

#include "ctx/context.h"
#include "ctx/stack.h"

enum { FRAMES_MAX = 64 };

static struct sl_stack_pool *pool;
static struct sl_stack_cache cache;
static struct sl_context main_context;

/* One context on a stack of its own, and what it saw; assertions run on the main stack. */
struct coroutine {
    struct sl_context context;
    struct sl_stack  *stack;
    void            (*body)(struct coroutine *);
    int               finished;
    /* for the bodies' use */
    int               steps;
    int               errno_seen[4];
    double            sum;
    uint64_t          hash;
    char              text[64];
    int               aligned;
    int               frames[3];
    struct coroutine *other;
};

static struct sl_lock baton;

static void switch_with(struct sl_context *from, struct sl_context *to, sl_arrive_fn *fn, void *arg)
{
    sl_lock_hand_over(&baton);
    sl_context_switch(&errno, from, to, fn, arg);
    sl_lock_acquire(&baton);
    sl_lock_release(&baton);
}

static void to_main(struct coroutine *c)
{
    switch_with(&c->context, &main_context, NULL, NULL);
}

static void run(void *arg)
{
    struct coroutine *c = arg;

    sl_lock_acquire(&baton);
    sl_lock_release(&baton);
    c->body(c);
    c->finished = 1;
    sl_lock_hand_over(&baton);
    sl_context_leave(&errno, &c->context, &main_context, NULL, NULL);
}

static void make(struct coroutine *c, void (*body)(struct coroutine *))
{
    memset(c, 0, sizeof *c);
    assert_int_equal(sl_stack_refill(pool, &cache), 0);
    c->stack = sl_stack_pop(&cache);
    c->body = body;
    sl_context_make(&c->context, c->stack->low, c->stack->top, run, c);
}

static void enter(struct coroutine *c)
{
    switch_with(&main_context, &c->context, NULL, NULL);
}

static void end(struct coroutine *c)
{
    assert_true(c->finished);
    sl_context_fini(&c->context);
    sl_stack_push(pool, &cache, c->stack);
}

static int set_up(void **state)
{
    (void)state;
    pool = sl_stack_pool_create(SL_STACK_BYTES_DEFAULT);
    sl_context_of_thread(&main_context);
    return pool != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    sl_stack_cache_drain(pool, &cache);
    sl_stack_pool_destroy(pool);
    sl_context_fini(&main_context);
    return 0;
}

/* --- what a context keeps -------------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    return x * 0x9e3779b97f4a7c15 + 1;
}

static void count_body(struct coroutine *c)
{
    /* More live values than there are callee-saved registers. */
    uint64_t a = 1, b = 2, d = 3, e = 4, f = 5, g = 6, h = 7, i = 8;
    double x = 0.5, y = 0.25;

    while (c->steps < 1000) {
        a = mix(a + h), b = mix(b + a), d = mix(d + b), e = mix(e + d), f = mix(f + e), g = mix(g + f), h = mix(h + g), i = mix(i + h);
        x += y, y = y * 0.5 + x * 0.125;
        if (x > 1e6)
            x = 0.5;
        c->steps++;
        if (c->other != NULL)
            to_main(c);
    }
    c->hash = a ^ b ^ d ^ e ^ f ^ g ^ h ^ i;
    c->sum = x + y;
}

static void context_keeps_its_variables_over_a_thousand_switches(void **state)
{
    struct coroutine one, two, straight;
    volatile uint64_t mine = 42;

    (void)state;
    make(&straight, count_body);
    enter(&straight); /* never switches */
    end(&straight);
    make(&one, count_body);
    make(&two, count_body);
    one.other = &two;
    two.other = &one;
    while (!one.finished || !two.finished) {
        if (!one.finished)
            enter(&one);
        if (!two.finished)
            enter(&two);
        assert_int_equal(mine, 42);
    }
    end(&one);
    end(&two);
    assert_int_equal(one.steps, 1000);
    assert_true(one.hash == straight.hash && two.hash == straight.hash);
    assert_true(one.sum == straight.sum && two.sum == straight.sum);
}

static void format_body(struct coroutine *c)
{
    _Alignas(16) volatile char local[16] = { 0 };

    c->aligned = (uintptr_t)local % 16 == 0;
    snprintf(c->text, sizeof c->text, "%.3f %Lf", 2.5, (long double)local[0] + 1); /* stores vector registers on the stack */
}

static void stack_of_a_new_context_is_aligned(void **state)
{
    struct coroutine c;

    (void)state;
    make(&c, format_body);
    enter(&c);
    end(&c);
    assert_true(c.aligned);
    assert_string_equal(c.text, "2.500 1.000000");
}

static void local_address_body(struct coroutine *c)
{
    volatile char local = 1;
    char *at = (char *)(uintptr_t)&local;

    c->steps = at >= c->stack->low && at < c->stack->top && local == 1;
}

static void context_runs_on_its_own_stack(void **state)
{
    struct coroutine c;

    (void)state;
    make(&c, local_address_body);
    enter(&c);
    end(&c);
#ifndef SL_ASAN /* which may keep locals elsewhere */
    assert_true(c.steps);
#endif
}

/* --- fn -------------------------------------------------------------------------------------------------------------------------- */

struct arrival {
    struct sl_context *from;
    void              *sp_before;
    struct coroutine  *target;
    int                calls, saved, on_target, body_had_run;
};

__attribute__((no_sanitize("address"))) static void note_arrival(void *arg)
{
    struct arrival *a = arg;
    volatile char local = 0;
    char *at = (char *)(uintptr_t)&local;

    a->calls++;
    a->saved = a->from->sp != a->sp_before;
    a->on_target = at >= a->target->stack->low && at < a->target->stack->top;
    a->body_had_run = a->target->steps;
}

static void two_steps_body(struct coroutine *c)
{
    c->steps = 1;
    to_main(c);
    c->steps = 2;
}

static void fn_runs_once_on_the_targets_stack_after_the_save_and_before_the_target(void **state)
{
    struct coroutine c;

    (void)state;
    make(&c, two_steps_body);
    for (int round = 0; round < 2; round++) { /* into a new context, and into one that was left */
        struct arrival a = { .from = &main_context, .target = &c, .sp_before = NULL };

        main_context.sp = NULL;
        switch_with(&main_context, &c.context, note_arrival, &a);
        assert_int_equal(a.calls, 1);
        assert_true(a.saved);
        assert_true(a.on_target);
        assert_int_equal(a.body_had_run, round);
        assert_int_equal(c.steps, round + 1);
    }
    end(&c);
}

static void note_thread_arrival(void *arg)
{
    int *calls = arg;

    (*calls)++;
}

static void leaving_body(struct coroutine *c)
{
    switch_with(&c->context, &main_context, note_thread_arrival, &c->steps);
}

static void fn_runs_on_the_way_back_too(void **state)
{
    struct coroutine c;

    (void)state;
    make(&c, leaving_body);
    enter(&c);
    assert_int_equal(c.steps, 1);
    enter(&c);
    assert_int_equal(c.steps, 1);
    end(&c);
}

/* --- errno ----------------------------------------------------------------------------------------------------------------------- */

static void errno_body(struct coroutine *c)
{
    c->errno_seen[0] = errno;
    errno = 7;
    to_main(c);
    c->errno_seen[1] = errno;
    errno = 9;
}

static void errno_belongs_to_the_context(void **state)
{
    struct coroutine c;
    int seen[2];

    (void)state;
    make(&c, errno_body);
    errno = 5;
    enter(&c);
    seen[0] = errno;
    errno = 6;
    enter(&c);
    seen[1] = errno;
    end(&c);
    assert_int_equal(c.errno_seen[0], 0);
    assert_int_equal(c.errno_seen[1], 7);
    assert_int_equal(seen[0], 5);
    assert_int_equal(seen[1], 6);
}

/* --- unwinding ------------------------------------------------------------------------------------------------------------------- */

__attribute__((noinline)) static int unwind(void)
{
    void *frames[FRAMES_MAX];
    int n = backtrace(frames, FRAMES_MAX);

    __asm__ volatile("" ::: "memory"); /* no tail call */
    return n;
}

__attribute__((noinline)) static int unwind_deeper(int depth)
{
    int n = depth > 0 ? unwind_deeper(depth - 1) : unwind();

    __asm__ volatile("" ::: "memory");
    return n;
}

static void unwind_on_arrival(void *arg)
{
    int *n = arg;

    *n = unwind();
}

static void unwind_body(struct coroutine *c)
{
    c->frames[0] = unwind();
    c->frames[1] = unwind_deeper(10);
    to_main(c);
    c->frames[2] = unwind();
}

static void unwinding_sees_every_frame_and_stops_at_the_base(void **state)
{
    struct coroutine c;
    int on_first_arrival = 0, on_arrival = 0;

    (void)state;
    unwind(); /* loads the unwinder, which needs more stack than a fiber has */
    make(&c, unwind_body);
    switch_with(&main_context, &c.context, unwind_on_arrival, &on_first_arrival);
    switch_with(&main_context, &c.context, unwind_on_arrival, &on_arrival);
    end(&c);
    /* unwind, unwind_body, run, and what lies below: at most three frames of the base. */
    assert_in_range(c.frames[0], 3, 6);
    assert_int_equal(c.frames[1], c.frames[0] + 11);
    assert_int_equal(c.frames[2], c.frames[0]);
    /* From within the switch: unwind, unwind_on_arrival, the switch itself, the frames of what is entered. */
    assert_in_range(on_first_arrival, 3, 9);
    assert_in_range(on_arrival, c.frames[0] + 1, c.frames[0] + 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(context_keeps_its_variables_over_a_thousand_switches),
        cmocka_unit_test(stack_of_a_new_context_is_aligned),
        cmocka_unit_test(context_runs_on_its_own_stack),
        cmocka_unit_test(fn_runs_once_on_the_targets_stack_after_the_save_and_before_the_target),
        cmocka_unit_test(fn_runs_on_the_way_back_too),
        cmocka_unit_test(errno_belongs_to_the_context),
        cmocka_unit_test(unwinding_sees_every_frame_and_stops_at_the_base),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
