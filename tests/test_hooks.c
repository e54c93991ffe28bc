/* test_hooks.c - on_error and on_log: which errors nobody waits for, that a hook may call the library, and where the lines go. */
#include "child.h"
#include "scenario.h"

#include <sys/resource.h>

#include "base/limits.h"

/* ---- allocations that can be made to fail ---- */

static _Atomic(int) allocations_fail;

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    return sl_load_relaxed(&allocations_fail) ? NULL : __real_malloc(bytes);
}

/* ---- what the hooks were told ---- */

struct said {
    uint64_t fiber;
    int error;
    char name[40];
    uint64_t on; /* sley_self in the hook */
};

struct told { /* what `ctx` points to */
    pthread_mutex_t lock;
    _Atomic(int) errors, lines;
    struct said said[64];
    char line[8][320];
};

static struct told told = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void note_error(void *ctx, uint64_t fiber, const char *name, int error)
{
    struct told *t = ctx;

    pthread_mutex_lock(&t->lock);
    if (t->errors < 64) {
        t->said[t->errors] = (struct said){ .fiber = fiber, .error = error, .on = sley_self() };
        snprintf(t->said[t->errors].name, sizeof t->said[0].name, "%s", name);
    }
    t->errors++;
    pthread_mutex_unlock(&t->lock);
}

static void note_line(void *ctx, const char *line)
{
    struct told *t = ctx;

    pthread_mutex_lock(&t->lock);
    if (t->lines < 8)
        snprintf(t->line[t->lines], sizeof t->line[0], "%s", line);
    t->lines++;
    pthread_mutex_unlock(&t->lock);
}

static int run_told(const sley_options *options, sley_fn *fn, void *arg)
{
    int rc;

    told.errors = told.lines = 0;
    scene.cast = casts[0];
    scene.unmet = NULL;
    rc = sley_run(options, fn, arg);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
    return rc;
}

static const sley_options both = { .on_error = note_error, .on_log = note_line, .ctx = &told, .name = "weaver" };

static int return_argument(void *arg)
{
    return (int)(intptr_t)arg;
}

static void *number(intptr_t n)
{
    return (void *)n;
}

/* ---- whose errors ---- */

static _Atomic(uint64_t) unlucky;

static int fail_by_name(void *arg)
{
    sley_fiber_set_name("unlucky");
    unlucky = sley_self();
    sley_yield();
    return (int)(intptr_t)arg;
}

static int fail_in_isolation(void *arg)
{
    sley_scope s;

    (void)arg;
    sley_scope_init_isolated(&s, SLEY_FOREVER);
    EXPECT(sley_go(fail_by_name, number(-ENOTTY)) == 0);
    EXPECT(sley_go(return_argument, number(5)) == 0);
    EXPECT(sley_go(return_argument, number(0)) == 0);
    while (told.errors == 0)
        EXPECT(sley_yield() == 0); /* it stops nobody */
    return sley_scope_wait(&s, 6, SLEY_FOREVER);
}

static void error_of_a_child_in_isolation_is_told_and_stops_nobody(void **state)
{
    (void)state;
    assert_int_equal(run_told(&both, fail_in_isolation, NULL), 6);
    assert_int_equal(told.errors, 1);
    assert_int_equal(told.said[0].error, -ENOTTY);
    assert_string_equal(told.said[0].name, "unlucky");
    assert_true(told.said[0].fiber != 0 && told.said[0].fiber == unlucky && told.said[0].on == unlucky);
}

static int fail_under_somebody(void *arg)
{
    return sley_scope_run(return_argument, arg, SLEY_FOREVER) == -EIO ? 0 : -EPROTO;
}

static int start_two(void *arg)
{
    EXPECT(sley_go(return_argument, number(-EIO)) == 0);
    EXPECT(sley_sleep(SLEY_FOREVER) == -ECANCELED);
    return (int)(intptr_t)arg;
}

static int waited_for(void *arg)
{
    sley_scope s;

    (void)arg;
    EXPECT(sley_scope_run(start_two, NULL, SLEY_FOREVER) == -EIO); /* an ordinary scope */
    sley_scope_init_isolated(&s, SLEY_FOREVER);
    for (int i = 0; i < 10; i++)
        EXPECT(sley_go(fail_under_somebody, number(-EIO)) == 0); /* ... inside an isolated one */
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    sley_scope_init_isolated(&s, SLEY_FOREVER);
    EXPECT(sley_scope_wait(&s, -EPIPE, SLEY_FOREVER) == -EPIPE); /* the body's own error is its result */
    return 0;
}

static void error_that_somebody_waits_for_is_not_told(void **state)
{
    (void)state;
    assert_int_equal(run_told(&both, waited_for, NULL), 0);
    assert_int_equal(told.errors, 0);
}

static int sleep_on(void *arg)
{
    (void)arg;
    return sley_sleep(SLEY_FOREVER);
}

static int cancelled(void *arg)
{
    sley_scope s;

    (void)arg;
    sley_scope_init_isolated(&s, SLEY_FOREVER);
    for (int i = 0; i < 10; i++)
        EXPECT(sley_go(sleep_on, NULL) == 0);
    EXPECT(sley_go(return_argument, number(-ECANCELED)) == 0); /* before any cancel: an error like others */
    while (told.errors == 0)
        EXPECT(sley_yield() == 0);
    sley_scope_cancel(&s);
    EXPECT(sley_go(return_argument, number(-EIO)) == 0);
    return sley_scope_wait(&s, 0, SLEY_FOREVER);
}

static void consequence_of_a_cancel_is_not_told(void **state)
{
    (void)state;
    assert_int_equal(run_told(&both, cancelled, NULL), 0);
    assert_int_equal(told.errors, 2);
    assert_int_equal(told.said[0].error, -ECANCELED);
    assert_int_equal(told.said[1].error, -EIO);
}

static int start_in_root(void *arg)
{
    EXPECT(sley_scope_go(sley_scope_root(), return_argument, arg) == 0);
    return 0;
}

static void error_in_the_root_scope_is_told(void **state)
{
    sley_runtime *rt;

    (void)state;
    assert_int_equal(run_told(&both, start_in_root, number(-ENODEV)), 0);
    assert_int_equal(told.errors, 1);
    assert_int_equal(told.said[0].error, -ENODEV);
    assert_string_equal(told.said[0].name, "");

    told.errors = 0;
    assert_int_equal(sley_runtime_create(&rt, &both), 0);
    assert_int_equal(sley_runtime_submit(rt, return_argument, number(-ENOLINK)), 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    assert_int_equal(sley_runtime_attach(rt), 0);
    assert_int_equal(sley_go(return_argument, number(-EBADMSG)), 0);
    sley_runtime_detach();
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    assert_int_equal(told.errors, 2);
    assert_int_equal(sley_runtime_submit(rt, return_argument, number(-EIO)), -ECANCELED); /* too late: no error of the program's */
    assert_int_equal(told.errors, 2);
    sley_runtime_destroy(rt);
}

/* ---- fibers that could not be started ---- */

static int not_started(void *arg)
{
    char large[200] = "";
    sley_scope s;

    (void)arg;
    allocations_fail = 1;
    sley_scope_init_isolated(&s, SLEY_FOREVER);
    EXPECT(sley_go_copy(return_argument, large, sizeof large) == -ENOMEM);
    EXPECT(told.errors == 1 && told.said[0].on == sley_self());
    EXPECT(sley_scope_go_copy(sley_scope_root(), return_argument, large, sizeof large) == -ENOMEM && told.errors == 2);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_go_copy(return_argument, large, sizeof large) == -ENOMEM && told.errors == 2);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == -ENOMEM); /* an error of the scope */
    EXPECT(sley_go_copy(return_argument, large, SLEY_COPY_BYTES_MAX + 1) == -E2BIG && told.errors == 2); /* one of the call */
    allocations_fail = 0;
    return 0;
}

static void fiber_that_could_not_be_started_is_told_as_number_zero(void **state)
{
    (void)state;
    assert_int_equal(run_told(&both, not_started, NULL), 0);
    assert_int_equal(told.errors, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(told.said[i].fiber, 0);
        assert_int_equal(told.said[i].error, -ENOMEM);
        assert_string_equal(told.said[i].name, "");
    }
}

/* ---- what a hook may do ---- */

static struct {
    _Atomic(int) done, dropped;
    int key;
} busy;

static void drop(void *value)
{
    (void)value;
    sl_add_acq_rel(&busy.dropped, 1);
}

static int add_one(void *arg)
{
    sl_add_acq_rel((_Atomic(int) *)arg, 1);
    return 0;
}

static int in_a_scope(void *arg)
{
    EXPECT(sley_go(add_one, arg) == 0);
    return sley_sleep(SLEY_US);
}

static void do_much(void *ctx, uint64_t fiber, const char *name, int error)
{
    _Atomic(int) n = 0;
    char text[64];

    note_error(ctx, fiber, name, error);
    snprintf(text, sizeof text, "%.20s failed", name);
    sley_fiber_set_name(text);
    EXPECT(sley_yield() == 0);
    EXPECT(sley_scope_run(in_a_scope, (void *)&n, SLEY_FOREVER) == 0 && n == 1);
    EXPECT(sley_blocking(add_one, (void *)&n, SLEY_FOREVER) == 0 && n == 2);
    EXPECT(sley_on_big_stack(add_one, (void *)&n, 1 << 20) == 0 && n == 3);
    EXPECT(sley_local_set(busy.key, &busy) == 0);
    EXPECT(sley_scope_go(sley_scope_root(), add_one, (void *)&busy.done) == 0);
}

static int fail_much(void *arg)
{
    sley_scope s;

    (void)arg;
    sley_scope_init_isolated(&s, SLEY_FOREVER);
    for (int i = 0; i < 20; i++)
        EXPECT(sley_go(fail_by_name, number(-EIO)) == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(told.errors == 20 && busy.dropped == 20); /* before the scope hears of the ends */
    return 0;
}

static void error_hook_may_do_what_the_fiber_may(void **state)
{
    sley_options o = { .on_error = do_much, .ctx = &told };

    (void)state;
    busy.key = sley_local_create(drop);
    busy.done = busy.dropped = 0;
    assert_int_equal(run_told(&o, fail_much, NULL), 0);
    assert_int_equal(busy.done, 20);
    sley_local_destroy(busy.key);
}

static sley_scope left_open;

static void leave_a_scope(void *ctx, uint64_t fiber, const char *name, int error)
{
    (void)ctx, (void)fiber, (void)name, (void)error;
    sley_scope_init(&left_open, SLEY_FOREVER);
}

static void scope_left_open_by_a_hook_aborts(void **state)
{
    (void)state;
    assert_aborts("scope", "sley_scope_init");
}

static sley_runtime *in_hook;

static void stop_in_the_hook(void *ctx, const char *line)
{
    sley_stats stats;

    note_line(ctx, line);
    if (strstr(line, "workers") == NULL)
        return;
    assert_int_equal(sley_runtime_submit(in_hook, return_argument, number(3)), 0);
    assert_int_equal(sley_stats_read(in_hook, &stats, sizeof stats), 0);
    assert_int_equal(sley_runtime_start(in_hook), -EALREADY);
    assert_int_equal(sley_runtime_stop(in_hook, SLEY_FOREVER), 0); /* would not return if the caller held the lock of start and stop */
}

static void log_hook_may_stop_the_runtime(void **state)
{
    sley_options o = { .on_log = stop_in_the_hook, .ctx = &told };

    (void)state;
    told.lines = 0;
    assert_int_equal(sley_runtime_create(&in_hook, &o), 0);
    assert_int_equal(sley_runtime_start(in_hook), 0);
    assert_int_equal(told.lines, 2);
    assert_string_equal(told.line[1], "sley: stopped");
    sley_runtime_destroy(in_hook);
    assert_int_equal(told.lines, 2);
}

/* ---- lines ---- */

static void lines_carry_the_runtimes_name_and_no_end(void **state)
{
    (void)state;
    assert_int_equal(run_told(&both, return_argument, number(0)), 0);
    assert_int_equal(told.lines, 2);
    assert_int_equal(strncmp(told.line[0], "weaver: ", 8), 0);
    assert_non_null(strstr(told.line[0], "workers"));
    assert_string_equal(told.line[1], "weaver: stopped");
    for (int i = 0; i < told.lines; i++)
        assert_null(strchr(told.line[i], '\n'));
}

static void without_an_error_hook_errors_are_lines(void **state)
{
    sley_options o = both;
    char wanted[200];

    (void)state;
    o.on_error = NULL;
    assert_int_equal(run_told(&o, start_in_root, number(0)), 0);
    assert_int_equal(told.lines, 2);
    unlucky = 0;
    assert_int_equal(sley_runtime_create(&in_hook, &o), 0);
    told.lines = 0;
    assert_int_equal(sley_runtime_submit(in_hook, fail_by_name, number(-ENOTTY)), 0);
    assert_int_equal(sley_runtime_start(in_hook), 0);
    assert_int_equal(sley_runtime_stop(in_hook, SLEY_FOREVER), 0);
    assert_int_equal(told.lines, 3);
    snprintf(wanted, sizeof wanted, "weaver: fiber %llu \"unlucky\" has ended with error %d, and nobody waits for it",
             (unsigned long long)unlucky, ENOTTY);
    assert_true(strcmp(told.line[0], wanted) == 0 || strcmp(told.line[1], wanted) == 0); /* it may have been faster than start's own */
    sley_runtime_destroy(in_hook);
}

static int ignore_cancel(void *arg)
{
    int rc;

    sley_shield_begin();
    rc = sley_event_wait(arg, SLEY_FOREVER);
    sley_shield_end();
    return rc;
}

static void stop_that_fails_is_a_line(void **state)
{
    sley_options o = both;
    sley_event e = { { 0 } };

    (void)state;
    o.drain_ns = 1;
    told.lines = 0;
    assert_int_equal(sley_runtime_create(&in_hook, &o), 0);
    assert_int_equal(sley_runtime_start(in_hook), 0);
    assert_int_equal(sley_runtime_submit(in_hook, ignore_cancel, &e), 0);
    assert_int_equal(sley_runtime_stop(in_hook, SLEY_NOW), -EBUSY);
    assert_int_equal(told.lines, 2);
    assert_string_equal(told.line[1], "weaver: not stopped: fibers that were told to stop have not");
    sley_event_set(&e);
    assert_int_equal(sley_runtime_stop(in_hook, SLEY_FOREVER), 0);
    assert_int_equal(sley_runtime_stop(in_hook, SLEY_FOREVER), 0);
    assert_int_equal(told.lines, 3);
    sley_runtime_destroy(in_hook);
}

static void lines_go_to_standard_error_if_asked_for(void **state)
{
    static const char *const to_stderr[] = { "SLEY_LOG=stderr", NULL }, *const nowhere[] = { "SLEY_LOG=none", NULL };
    struct child c;

    (void)state;
    run_child(&c, "plain", to_stderr);
    assert_said(&c, "weaver: ");
    assert_said(&c, " workers, ");
    assert_said(&c, "weaver: stopped\n");
    assert_said(&c, "has ended with error 19, and nobody waits for it\n");
    assert_int_equal(lines_of(c.said), 3);
    run_child(&c, "plain", nowhere);
    assert_string_equal(c.said, "");
    run_child(&c, "plain", NULL);
    assert_string_equal(c.said, "");
    run_child(&c, "hooked", to_stderr);
    assert_string_equal(c.said, "");
    assert_true(WIFEXITED(c.status));
    assert_int_equal(WEXITSTATUS(c.status), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_of_a_child_in_isolation_is_told_and_stops_nobody),
        cmocka_unit_test(error_that_somebody_waits_for_is_not_told),
        cmocka_unit_test(consequence_of_a_cancel_is_not_told),
        cmocka_unit_test(error_in_the_root_scope_is_told),
        cmocka_unit_test(fiber_that_could_not_be_started_is_told_as_number_zero),
        cmocka_unit_test(error_hook_may_do_what_the_fiber_may),
        cmocka_unit_test(scope_left_open_by_a_hook_aborts),
        cmocka_unit_test(log_hook_may_stop_the_runtime),
        cmocka_unit_test(lines_carry_the_runtimes_name_and_no_end),
        cmocka_unit_test(without_an_error_hook_errors_are_lines),
        cmocka_unit_test(stop_that_fails_is_a_line),
        cmocka_unit_test(lines_go_to_standard_error_if_asked_for),
    };

    if (argc > 1 && strcmp(argv[1], "scope") == 0) {
        sley_options o = { .on_error = leave_a_scope };

        return sley_run(&o, start_in_root, number(-EIO)) < 0;
    }
    if (argc > 1 && strcmp(argv[1], "plain") == 0)
        return sley_run(&(sley_options){ .name = "weaver" }, start_in_root, number(-ENODEV)) < 0;
    if (argc > 1 && strcmp(argv[1], "hooked") == 0)
        return sley_run(&both, start_in_root, number(-ENODEV)) < 0 || told.errors != 1 || told.lines != 2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
