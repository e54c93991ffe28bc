/* test_py_asyncgen.c - what Python's tests of asynchronous generators say, as far as it is true here too: there is one kind of generator
 * here, and its body may wait. docs/tests-generators.md has the list, case by case; generators that do not wait: test_py_gen.c. */
#include "gen_parts.h"

/* What is noted besides values, which are less than 1000. */
enum { END = 1000, CLEANED_UP, NEVER, TOLD, FAILED = 5000 /* and the error */ };

static int waits = 1; /* whether bodies do: what comes out must be the same */

/* Wait for a moment. */
static int pause_for_others(void)
{
    static _Atomic(int) n;

    if (!waits)
        return 0;
    return sl_add_relaxed(&n, 1) % 2 ? sley_sleep(100 * SLEY_US) : sley_yield();
}

static int give(int v)
{
    return sley_gen_yield(&v, NULL);
}

static int give_and_take(int v, int *in)
{
    *in = NOTHING;
    return sley_gen_yield(&v, in);
}

static int divide_by_zero(void)
{
    return -EDOM;
}

/* Waits that must succeed also while it is closed in a cancelled scope. */
static void pause_to_clean_up(void)
{
    sley_shield_begin();
    EXPECT(pause_for_others() == 0 && pause_for_others() == 0);
    sley_shield_end();
}

/* Next after next, each value noted, and how it ends. */
static void drain(sley_gen *g)
{
    int rc, v;

    while ((rc = sley_gen_next(g, &v)) > 0)
        note(v);
    note(rc < 0 ? FAILED - rc : END);
}

static int value_of(sley_gen *g)
{
    int v = NOTHING;

    EXPECT(sley_gen_next(g, &v) == 1);
    return v;
}

static sley_gen *made(sley_fn *body, void *arg)
{
    track.n = 0;
    return sley_gen_create(body, arg, sizeof(int));
}

/* Whether draining it notes exactly this, whether it waits or not. */
static int drains_to(sley_fn *body, const int *wanted, int n)
{
    int rc = 1;

    for (waits = 0; waits < 2; waits++) {
        sley_gen *g = made(body, NULL);

        drain(g);
        rc = noted(wanted, n) && rc;
        drain(g); /* told once */
        rc = NOTED_ARE(END) && rc;
        sley_gen_destroy(g);
    }
    waits = 1;
    return rc;
}

#define DRAINS_TO(body, ...) drains_to(body, (const int[]){ __VA_ARGS__ }, (int)(sizeof(int[]){ __VA_ARGS__ } / sizeof(int)))

/* ---- values and errors ---- */

static int three_with_waits(void *arg)
{
    int rc = 0, in;

    for (int v = 123; v <= 789 && rc >= 0; v += 333) {
        rc = pause_for_others();
        if (rc >= 0)
            rc = give_and_take(v, &in);
        EXPECT(rc != 0 || in == NOTHING);
    }
    return rc;
}

SCENARIO(values_come_through_waits)
{
    EXPECT(DRAINS_TO(three_with_waits, 123, 456, 789, END));
}

static int one_between_waits(void *arg)
{
    int rc = pause_for_others();

    if (rc >= 0)
        rc = give(123);
    return rc < 0 ? rc : pause_for_others();
}

SCENARIO(it_may_wait_before_its_end)
{
    EXPECT(DRAINS_TO(one_between_waits, 123, END));
}

static int fail_in_a_wait(void *arg)
{
    sley_future *f;
    int rc = pause_for_others();

    if (rc >= 0)
        rc = give(123);
    if (rc < 0)
        return rc;
    f = sley_future_create(0);
    EXPECT(sley_future_fail(f, -EBADMSG) == 0);
    rc = sley_await(f, SLEY_FOREVER);
    sley_future_destroy(f);
    return rc < 0 ? rc : give(456);
}

SCENARIO(an_error_of_a_wait_comes_out)
{
    EXPECT(DRAINS_TO(fail_in_a_wait, 123, FAILED + EBADMSG));
}

static int fail_after_a_value(void *arg)
{
    int rc = pause_for_others();

    if (rc >= 0)
        rc = give(123);
    return rc < 0 ? rc : divide_by_zero();
}

SCENARIO(an_error_between_values_comes_out)
{
    EXPECT(DRAINS_TO(fail_after_a_value, 123, FAILED + EDOM));
}

/* Yields and waits on the way out with an error, in three arrangements. */
static int yield_while_failing(void *arg)
{
    int rc = give(1), again;

    if (rc >= 0)
        rc = divide_by_zero();
    again = give(2);
    if (again >= 0)
        again = give(3);
    return again < 0 ? again : rc;
}

static int fail_while_cleaning_up(void *arg)
{
    int rc = give(1);

    if (rc >= 0)
        rc = pause_for_others();
    if (rc >= 0)
        rc = pause_for_others();
    if (rc >= 0)
        rc = give(2);
    if (rc >= 0)
        rc = divide_by_zero();
    return rc < 0 ? rc : give(3);
}

static int wait_while_failing(void *arg)
{
    int rc = pause_for_others(), again;

    if (rc >= 0)
        rc = give(1);
    if (rc >= 0)
        rc = divide_by_zero();
    again = give(2);
    if (again >= 0)
        again = pause_for_others();
    if (again >= 0)
        again = give(3);
    return again < 0 ? again : rc;
}

SCENARIO(clean_up_that_yields_and_waits_does_not_lose_the_error)
{
    EXPECT(DRAINS_TO(yield_while_failing, 1, 2, 3, FAILED + EDOM));
    EXPECT(DRAINS_TO(fail_while_cleaning_up, 1, 2, FAILED + EDOM));
    EXPECT(DRAINS_TO(wait_while_failing, 1, 2, 3, FAILED + EDOM));
}

static int ten_and_twenty(void *arg)
{
    int rc = give(10);

    return rc < 0 ? rc : give(20);
}

static int throw_the_close_into_another(void *arg)
{
    sley_gen *g = sley_gen_create(ten_and_twenty, NULL, sizeof(int));
    int rc = give(1);

    EXPECT(value_of(g) == 10);
    if (rc >= 0 && sley_gen_throw(g, -ECANCELED, NULL) == -ECANCELED)
        rc = give(2);
    sley_gen_destroy(g);
    return rc < 0 ? rc : give(3);
}

SCENARIO(the_close_may_be_thrown_into_another_one)
{
    EXPECT(DRAINS_TO(throw_the_close_into_another, 1, 2, 3, END));
}

static int two_values(void *arg)
{
    int rc = give(1);

    if (rc >= 0)
        rc = pause_for_others();
    return rc < 0 ? rc : give(2);
}

/* anext with a default: at the end the consumer's value stays as it is, however often it asks. */
SCENARIO(at_the_end_the_consumers_value_is_left_alone)
{
    sley_gen *g = made(two_values, NULL);
    int v = 88;

    EXPECT(sley_gen_state(g) == SLEY_GEN_CREATED && sley_gen_next(g, &v) == 1 && v == 1 && sley_gen_next(g, &v) == 1 && v == 2);
    v = 88;
    for (int i = 0; i < 3; i++)
        EXPECT(sley_gen_next(g, &v) == 0 && v == 88);
    sley_gen_destroy(g);
}

static int fail_before_any_value(void *arg)
{
    int rc = pause_for_others();

    return rc < 0 ? rc : divide_by_zero();
}

SCENARIO(an_error_before_any_value_comes_out)
{
    sley_gen *g = made(fail_before_any_value, NULL);
    int v = 88;

    EXPECT(sley_gen_next(g, &v) == -EDOM && v == 88 && sley_gen_next(g, &v) == 0 && v == 88);
    sley_gen_destroy(g);
}

static int return_early(void *arg)
{
    int rc = give(1);

    if (rc >= 0)
        rc = pause_for_others();
    if (rc >= 0)
        rc = give(2);
    return rc < 0 ? rc : pause_for_others();
}

static int fail_after_two(void *arg)
{
    int rc = return_early(arg);

    return rc < 0 ? rc : divide_by_zero();
}

SCENARIO(it_may_end_or_fail_after_waits)
{
    EXPECT(DRAINS_TO(return_early, 1, 2, END));
    EXPECT(DRAINS_TO(fail_after_two, 1, 2, FAILED + EDOM));
}

/* ---- throw ---- */

static int catch_at_two(void *arg)
{
    int rc = give(1);

    if (rc >= 0)
        rc = pause_for_others();
    if (rc >= 0) {
        rc = give(2);
        if (rc >= 0)
            rc = give(3);
        if (rc == -EDOM)
            rc = give(100);
    }
    if (rc >= 0)
        rc = pause_for_others();
    return rc < 0 ? rc : give(4);
}

SCENARIO(an_error_that_is_thrown_is_caught_and_answered)
{
    sley_gen *g;
    int v = NOTHING;

    EXPECT(DRAINS_TO(catch_at_two, 1, 2, 3, 4, END));
    g = made(catch_at_two, NULL);
    EXPECT(value_of(g) == 1 && value_of(g) == 2 && sley_gen_throw(g, -EDOM, &v) == 1 && v == 100 && value_of(g) == 4);
    EXPECT(sley_gen_next(g, &v) == 0);
    sley_gen_destroy(g);
}

static int answer_with_what_was_sent(void *arg)
{
    int in, rc = give_and_take(1, &in);

    if (rc >= 0)
        rc = give_and_take(in, &in);
    return rc < 0 ? rc : give(in * 100);
}

SCENARIO(what_is_sent_is_answered)
{
    sley_gen *g = made(answer_with_what_was_sent, NULL);
    int v = NOTHING;

    EXPECT(sley_gen_send(g, NULL, &v) == 1 && v == 1);
    EXPECT(sley_gen_send(g, &(int){ 10 }, &v) == 1 && v == 10 && sley_gen_send(g, &(int){ 12 }, &v) == 1 && v == 1200);
    EXPECT(sley_gen_next(g, &v) == 0);
    sley_gen_destroy(g);
}

/* Whatever comes, it ends well. */
static int end_well(void *arg)
{
    int rc = sley_gen_yield(NULL, NULL);

    note(rc == 0 ? END : rc == -ECANCELED ? CLEANED_UP : TOLD);
    return 0;
}

SCENARIO(a_body_that_swallows_everything_ends)
{
    sley_gen *g = made(end_well, NULL);

    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_next(g, NULL) == 0 && NOTED_ARE(END));
    sley_gen_destroy(g);
    g = made(end_well, NULL);
    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_throw(g, -EDOM, NULL) == 0 && NOTED_ARE(TOLD));
    sley_gen_destroy(g);
    g = made(end_well, NULL);
    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_close(g) == 0 && NOTED_ARE(CLEANED_UP));
    sley_gen_destroy(g);
}

static int answer_the_error(void *arg)
{
    int rc = give(1);

    return rc == -EDOM ? give(2) : rc;
}

SCENARIO(an_error_is_answered_with_a_value)
{
    sley_gen *g = made(answer_the_error, NULL);
    int v = NOTHING;

    EXPECT(value_of(g) == 1 && sley_gen_throw(g, -EDOM, &v) == 1 && v == 2 && sley_gen_send(g, NULL, &v) == 0);
    sley_gen_destroy(g);
}

/* ---- close ---- */

static int yield_in_the_clean_up(void *arg)
{
    int rc = give(1);

    if (rc >= 0)
        rc = divide_by_zero();
    pause_to_clean_up();
    rc = give(12);
    return rc;
}

SCENARIO(one_that_yields_in_its_clean_up_is_told_apart)
{
    sley_gen *g = made(yield_in_the_clean_up, NULL);

    EXPECT(value_of(g) == 1 && sley_gen_close(g) == -EPROTO && sley_gen_close(g) == 0);
    sley_gen_destroy(g);
}

static int clean_up_with_waits(void *arg)
{
    int rc = give(1);

    pause_to_clean_up();
    note(CLEANED_UP);
    if (rc >= 0)
        note(NEVER);
    return rc;
}

SCENARIO(the_clean_up_may_wait)
{
    sley_gen *g = made(clean_up_with_waits, NULL);

    EXPECT(value_of(g) == 1 && sley_gen_close(g) == 0 && NOTED_ARE(CLEANED_UP));
    sley_gen_destroy(g);
}

struct awaiting {
    sley_future *f;
    _Atomic(struct sl_fiber *) waits; /* who waits for it */
};

static int wait_for_what_never_comes(void *arg)
{
    struct awaiting *a = arg;
    int rc = give(1);

    if (rc >= 0) {
        rc = sley_await(a->f, SLEY_FOREVER);
        note(NEVER);
    }
    pause_to_clean_up();
    note(CLEANED_UP);
    return rc;
}

SCENARIO(closed_before_it_waits_it_does_not_wait)
{
    struct awaiting a = { .f = sley_future_create(0) };
    sley_gen *g = made(wait_for_what_never_comes, &a);

    EXPECT(value_of(g) == 1 && sley_gen_close(g) == 0 && NOTED_ARE(CLEANED_UP));
    sley_gen_destroy(g);
    sley_future_destroy(a.f);
}

static int give_ones(void *arg)
{
    int rc;

    while ((rc = give(1)) >= 0)
        ;
    pause_to_clean_up();
    note(CLEANED_UP);
    return rc;
}

static int begin_and_forget(void *arg)
{
    sley_gen *g = sley_gen_create(give_ones, NULL, sizeof(int));

    EXPECT(value_of(g) == 1 && value_of(g) == 1);
    *(sley_gen **)arg = g;
    return 0;
}

SCENARIO(one_that_is_forgotten_is_closed_and_may_wait_for_that)
{
    sley_gen *g;

    track.n = 0;
    EXPECT(sley_scope_run(begin_and_forget, &g, SLEY_FOREVER) == 0 && NOTED_ARE(CLEANED_UP));
    sley_gen_destroy(g);
}

static int swallow_the_close_and_yield(void *arg)
{
    int rc = sley_gen_yield(NULL, NULL);

    rc = sley_gen_yield(NULL, NULL);
    note(rc == -ECANCELED ? CLEANED_UP : NEVER);
    return rc;
}

SCENARIO(one_that_swallows_the_close_and_yields_is_told_apart)
{
    sley_gen *g = made(swallow_the_close_and_yield, NULL);

    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_close(g) == -EPROTO && NOTED_NOTHING);
    sley_gen_destroy(g);
    EXPECT(NOTED_ARE(CLEANED_UP));
}

static int fail_after_a_while(void *arg)
{
    int rc = pause_for_others();

    return rc < 0 ? rc : divide_by_zero();
}

static int await_a_task_in_the_clean_up(void *arg)
{
    sley_future *task = sley_task_create(fail_after_a_while, NULL);
    int rc = give(1);

    if (sley_await(task, SLEY_FOREVER) == -EDOM)
        note(CLEANED_UP);
    sley_future_destroy(task);
    return rc;
}

SCENARIO(the_clean_up_may_await_a_task_that_fails)
{
    sley_gen *g = made(await_a_task_in_the_clean_up, NULL);

    EXPECT(value_of(g) == 1 && sley_gen_close(g) == 0 && NOTED_ARE(CLEANED_UP));
    sley_gen_destroy(g);
}

SCENARIO(closing_again_or_after_the_end_does_nothing)
{
    sley_gen *g = made(two_values, NULL);

    EXPECT(sley_gen_close(g) == 0 && sley_gen_close(g) == 0);
    sley_gen_destroy(g);
    g = made(two_values, NULL);
    drain(g);
    EXPECT(NOTED_ARE(1, 2, END) && sley_gen_close(g) == 0);
    sley_gen_destroy(g);
}

/* ---- send and throw between waits ---- */

static int double_what_is_sent(void *arg)
{
    int in, rc = pause_for_others();

    if (rc >= 0)
        rc = give_and_take(1, &in);
    if (rc >= 0)
        rc = pause_for_others();
    if (rc >= 0)
        rc = give(in * 2);
    if (rc >= 0)
        rc = pause_for_others();
    pause_to_clean_up();
    note(CLEANED_UP);
    return rc;
}

SCENARIO(it_is_sent_to_between_waits)
{
    sley_gen *g = made(double_what_is_sent, NULL);
    int v = NOTHING;

    EXPECT(sley_gen_send(g, NULL, &v) == 1 && v == 1 && sley_gen_send(g, &(int){ 100 }, &v) == 1 && v == 200);
    EXPECT(sley_gen_send(g, NULL, &v) == 0 && NOTED_ARE(CLEANED_UP));
    sley_gen_destroy(g);
}

/* What it waits for after the first value fails, or is cancelled. */
static int await_in_between(void *arg)
{
    struct awaiting *a = arg;
    int in, rc = pause_for_others();

    if (rc >= 0)
        rc = give_and_take(1, &in);
    if (rc >= 0) {
        a->waits = sl_current();
        rc = sley_await(a->f, SLEY_FOREVER);
        if (rc >= 0)
            note(NEVER);
    }
    pause_to_clean_up();
    note(CLEANED_UP);
    return rc;
}

SCENARIO(what_it_waits_for_fails_after_a_send)
{
    struct awaiting a = { .f = sley_future_create(0) };
    sley_gen *g = made(await_in_between, &a);

    EXPECT(sley_gen_send(g, NULL, NULL) == 1 && sley_future_fail(a.f, -EDOM) == 0);
    EXPECT(sley_gen_send(g, &(int){ 100 }, NULL) == -EDOM && NOTED_ARE(CLEANED_UP));
    sley_gen_destroy(g);
    sley_future_destroy(a.f);
}

/* Once somebody waits for it. */
static int cancel_it(void *arg)
{
    struct awaiting *a = arg;
    struct sl_fiber *f;

    while ((f = a->waits) == NULL || SL_WORD_STATE(sl_load_acquire(&f->word)) != SL_WAITING)
        give_way();
    return sley_future_cancel(a->f);
}

SCENARIO(what_it_waits_for_is_cancelled_after_a_send)
{
    struct awaiting a = { .f = sley_future_create(0) };
    sley_gen *g = made(await_in_between, &a);
    struct actor canceller;

    EXPECT(sley_gen_send(g, NULL, NULL) == 1);
    actor_start(&canceller, cancel_it, &a);
    EXPECT(sley_gen_send(g, &(int){ 100 }, NULL) == -ECANCELED && NOTED_ARE(CLEANED_UP) && sley_gen_result(g) == -ECANCELED);
    EXPECT(actor_result(&canceller) == 0);
    sley_gen_destroy(g);
    sley_future_destroy(a.f);
}

static int catch_between_waits(void *arg)
{
    struct awaiting *a = arg;
    int in, rc = pause_for_others();

    if (rc >= 0)
        rc = give_and_take(1, &in);
    if (rc == -EDOM) {
        in = 1000;
        rc = a->f != NULL ? sley_await(a->f, SLEY_FOREVER) : pause_for_others();
    }
    if (rc >= 0)
        rc = give(in * 2);
    pause_to_clean_up();
    note(CLEANED_UP);
    return rc;
}

SCENARIO(an_error_is_caught_between_waits)
{
    struct awaiting a = { .f = NULL };
    sley_gen *g = made(catch_between_waits, &a);
    int v = NOTHING;

    EXPECT(sley_gen_next(g, &v) == 1 && v == 1 && sley_gen_throw(g, -EDOM, &v) == 1 && v == 2000 && NOTED_NOTHING);
    EXPECT(sley_gen_next(g, &v) == 0 && NOTED_ARE(CLEANED_UP));
    sley_gen_destroy(g);

    a.f = sley_future_create(0); /* ... and what the handler waits for is cancelled */
    EXPECT(sley_future_cancel(a.f) == 0);
    g = made(catch_between_waits, &a);
    EXPECT(sley_gen_next(g, &v) == 1 && sley_gen_throw(g, -EDOM, &v) == -ECANCELED && NOTED_ARE(CLEANED_UP));
    sley_gen_destroy(g);
    sley_future_destroy(a.f);
}

/* Waits for a future that fails, handles that, and waits for another one; then it ends without a value. */
static int handle_a_failed_wait(void *arg)
{
    sley_future **f = arg;
    int rc = sley_await(f[0], SLEY_FOREVER);

    note(rc < 0 ? FAILED - rc : NEVER);
    return sley_await(f[1], SLEY_FOREVER);
}

/* anext_iter: how a wait of the body ends is the body's business, and the consumer hears of what it makes of that. */
SCENARIO(a_body_handles_the_end_of_its_waits)
{
    for (int second_fails = 0; second_fails < 2; second_fails++) {
        sley_future *f[2] = { sley_future_create(0), sley_future_create(0) };
        sley_gen *g = made(handle_a_failed_wait, f);
        int v = 88;

        EXPECT((second_fails ? sley_future_cancel(f[0]) : sley_future_fail(f[0], -EDOM)) == 0);
        EXPECT((second_fails ? sley_future_fail(f[1], -EBADMSG) : sley_future_complete(f[1], NULL)) == 0);
        EXPECT(sley_gen_next(g, &v) == (second_fails ? -EBADMSG : 0) && v == 88);
        EXPECT(second_fails ? NOTED_ARE(FAILED + ECANCELED) : NOTED_ARE(FAILED + EDOM));
        sley_gen_destroy(g);
        sley_future_destroy(f[0]);
        sley_future_destroy(f[1]);
    }
}

/* ---- cancelled, and the end of everything ---- */

struct iterating {
    sley_gen *g;
    _Atomic(struct sl_fiber *) block;
};

static int sleep_long_and_give(void *arg)
{
    struct iterating *i = arg;
    int rc;

    i->block = sl_current();
    rc = sley_sleep(SLEY_FOREVER);
    if (rc >= 0)
        rc = give(1);
    sley_shield_begin();
    EXPECT(sley_yield() == 0);
    sley_shield_end();
    note(CLEANED_UP);
    return rc;
}

static int iterate_until_cancelled(void *arg)
{
    struct iterating *i = arg;

    i->g = sley_gen_create(sleep_long_and_give, i, sizeof(int));
    return sley_gen_next(i->g, NULL);
}

SCENARIO(a_cancel_of_the_task_that_iterates_ends_the_wait_of_the_body)
{
    struct iterating i[2] = { { .g = NULL } };
    sley_future *task[2];

    track.n = 0;
    for (int k = 0; k < 2; k++)
        task[k] = sley_task_create(iterate_until_cancelled, &i[k]);
    for (int k = 0; k < 2; k++) {
        struct sl_fiber *f;

        while ((f = i[k].block) == NULL || SL_WORD_STATE(sl_load_acquire(&f->word)) != SL_WAITING)
            give_way();
        EXPECT(sley_future_cancel(task[k]) == 0);
        EXPECT(sley_await(task[k], SLEY_FOREVER) == -ECANCELED && sley_future_state(task[k]) == SLEY_FUTURE_CANCELLED);
        EXPECT(sley_gen_state(i[k].g) == SLEY_GEN_CLOSED && sley_gen_result(i[k].g) == -ECANCELED);
        sley_gen_destroy(i[k].g);
        sley_future_destroy(task[k]);
    }
    EXPECT(NOTED_ARE(CLEANED_UP, CLEANED_UP));
}

static _Atomic(int) errors_told, last_error;

static void on_error(void *ctx, uint64_t fiber, const char *name, int error)
{
    (void)ctx;
    (void)fiber;
    (void)name;
    last_error = error;
    errors_told++;
}

static const sley_options hooked = { .on_error = on_error };
static sley_gen *left;

static int break_at_the_first(void *arg)
{
    left = sley_gen_create(two_values, arg, sizeof(int));
    EXPECT(value_of(left) == 1);
    return 0;
}

/* asyncio_shutdown_02, nonstarted_hooks_are_cancellable */
static void one_that_is_left_in_the_middle_is_closed_at_the_end_and_that_is_no_error(void **state)
{
    (void)state;
    errors_told = 0;
    waits = 1;
    run_scene(&hooked, break_at_the_first, 0);
    assert_int_equal(sley_gen_state(left), SLEY_GEN_CLOSED);
    assert_int_equal(errors_told, 0);
    sley_gen_destroy(left);
}

static int fail_in_the_clean_up(void *arg)
{
    int rc = give(1);

    if (rc >= 0)
        rc = give(2);
    pause_to_clean_up();
    return divide_by_zero();
}

static int break_at_the_first_of_one_that_fails(void *arg)
{
    left = sley_gen_create(fail_in_the_clean_up, arg, sizeof(int));
    EXPECT(value_of(left) == 1);
    return 0;
}

/* asyncio_shutdown_exception_01 and _02 */
static void an_error_while_it_is_closed_at_the_end_is_told(void **state)
{
    (void)state;
    errors_told = 0;
    waits = 1;
    run_scene(&hooked, break_at_the_first_of_one_that_fails, 0);
    assert_int_equal(errors_told, 1);
    assert_int_equal(last_error, -EDOM);
    assert_int_equal(sley_gen_result(left), -EDOM);
    sley_gen_destroy(left);
}

/* ---- generators of generators, with waits ---- */

static int numbers_with_waits(void *arg)
{
    int rc = 0;

    for (int i = 0; i < 10 && rc >= 0; i++) {
        rc = pause_for_others();
        if (rc >= 0)
            rc = give(i);
    }
    return rc;
}

static int twice_each(void *arg)
{
    sley_gen *g = sley_gen_create(numbers_with_waits, NULL, sizeof(int));
    int rc, v;

    while ((rc = sley_gen_next(g, &v)) > 0 && (rc = give(2 * v)) >= 0)
        ;
    sley_gen_destroy(g);
    return rc;
}

static int is_wanted(int n)
{
    EXPECT(pause_for_others() == 0);
    return n != 0;
}

static int twice_those_that_are_wanted(void *arg)
{
    int rc = 0;

    for (int i = 0; i < 10 && rc >= 0; i++)
        if (is_wanted(i))
            rc = give(2 * i);
    return rc;
}

SCENARIO(expressions_over_generators_that_wait)
{
    EXPECT(DRAINS_TO(twice_each, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, END));
    EXPECT(DRAINS_TO(twice_those_that_are_wanted, 2, 4, 6, 8, 10, 12, 14, 16, 18, END));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(values_come_through_waits),
        ON_BOTH(it_may_wait_before_its_end),
        ON_BOTH(an_error_of_a_wait_comes_out),
        ON_BOTH(an_error_between_values_comes_out),
        ON_BOTH(clean_up_that_yields_and_waits_does_not_lose_the_error),
        ON_BOTH(the_close_may_be_thrown_into_another_one),
        ON_BOTH(at_the_end_the_consumers_value_is_left_alone),
        ON_BOTH(an_error_before_any_value_comes_out),
        ON_BOTH(it_may_end_or_fail_after_waits),
        ON_BOTH(an_error_that_is_thrown_is_caught_and_answered),
        ON_BOTH(what_is_sent_is_answered),
        ON_BOTH(a_body_that_swallows_everything_ends),
        ON_BOTH(an_error_is_answered_with_a_value),
        ON_BOTH(one_that_yields_in_its_clean_up_is_told_apart),
        ON_BOTH(the_clean_up_may_wait),
        ON_BOTH(closed_before_it_waits_it_does_not_wait),
        ON_FIBERS(one_that_is_forgotten_is_closed_and_may_wait_for_that),
        ON_BOTH(one_that_swallows_the_close_and_yields_is_told_apart),
        ON_FIBERS(the_clean_up_may_await_a_task_that_fails),
        ON_BOTH(closing_again_or_after_the_end_does_nothing),
        ON_BOTH(it_is_sent_to_between_waits),
        ON_BOTH(what_it_waits_for_fails_after_a_send),
        PLAYED(what_it_waits_for_is_cancelled_after_a_send),
        ON_BOTH(an_error_is_caught_between_waits),
        ON_BOTH(a_body_handles_the_end_of_its_waits),
        ON_FIBERS(a_cancel_of_the_task_that_iterates_ends_the_wait_of_the_body),
        cmocka_unit_test(one_that_is_left_in_the_middle_is_closed_at_the_end_and_that_is_no_error),
        cmocka_unit_test(an_error_while_it_is_closed_at_the_end_is_told),
        ON_BOTH(expressions_over_generators_that_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
