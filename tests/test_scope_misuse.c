/* test_scope_misuse.c - what one must not do with scopes: each bug ends the program with one line that names fiber and call, a length of
 * time passed as a deadline is said and is an error, and who does not stop is listed. Nothing of it hangs. */
#include <sley.h>

#include "child.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include "sched/park.h"

/* ---- bugs: each aborts ---- */

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static int sleep_for_ever(void *arg)
{
    (void)arg;
    return sley_sleep(SLEY_FOREVER);
}

/* What a frame leaves behind is overwritten before anybody looks at it again. */
static __attribute__((noinline)) void overwrite_the_stack(void)
{
    char bytes[4096];

    memset(bytes, 0x77, sizeof bytes);
    __asm__ volatile("" : : "r"(bytes) : "memory");
}

static int close_the_outer_first(void *arg)
{
    sley_scope outer, inner;

    (void)arg;
    sley_fiber_set_name("clumsy");
    sley_scope_init(&outer, SLEY_FOREVER);
    sley_scope_init(&inner, SLEY_FOREVER);
    return sley_scope_wait(&outer, 0, SLEY_FOREVER);
}

static int close_anothers(void *arg)
{
    sley_fiber_set_name("thief");
    return sley_scope_wait(arg, 0, SLEY_FOREVER);
}

static int let_a_child_close(void *arg)
{
    sley_scope s;

    (void)arg;
    sley_scope_init(&s, SLEY_FOREVER);
    sley_go(close_anothers, &s);
    return sley_scope_wait(&s, 0, SLEY_FOREVER);
}

static void *close_on_a_thread(void *arg)
{
    sley_yield(); /* a thread that has waited has a block, so it can be named */
    sley_scope_wait(arg, 0, SLEY_FOREVER);
    return NULL;
}

static int let_a_thread_close(void *arg)
{
    pthread_t thread;
    sley_scope s;

    (void)arg;
    sley_scope_init(&s, SLEY_FOREVER);
    if (pthread_create(&thread, NULL, close_on_a_thread, &s) == 0)
        pthread_join(thread, NULL);
    return 1;
}

static int close_what_was_never_opened(void *arg)
{
    sley_scope s = { { 0 } };

    (void)arg;
    return sley_scope_wait(&s, 0, SLEY_FOREVER);
}

static int close_the_root(void *arg)
{
    (void)arg;
    return sley_scope_wait(sley_scope_root(), 0, SLEY_FOREVER);
}

static int close_the_scope_of_the_function(void *arg)
{
    sley_scope s;

    (void)arg;
    sley_scope_init(&s, SLEY_FOREVER);
    return 0; /* sley_run's own scope is the outer one */
}

static int close_with_a_shield(void *arg)
{
    sley_scope s;

    (void)arg;
    sley_scope_init(&s, SLEY_FOREVER);
    sley_shield_begin();
    return sley_scope_wait(&s, 0, SLEY_FOREVER);
}

static int open_twice(void *arg)
{
    sley_scope s;

    (void)arg;
    sley_scope_init(&s, SLEY_FOREVER);
    sley_scope_init(&s, SLEY_FOREVER);
    return 1;
}

static int open_the_outer_again(void *arg)
{
    sley_scope outer, inner;

    (void)arg;
    sley_scope_init(&outer, SLEY_FOREVER);
    sley_scope_init(&inner, SLEY_FOREVER);
    sley_scope_init_isolated(&outer, SLEY_FOREVER);
    return 1;
}

static int open_null(void *arg)
{
    (void)arg;
    sley_scope_init(NULL, SLEY_FOREVER);
    return 1;
}

static __attribute__((noinline)) void open_and_forget(void)
{
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
}

static int leave_open(void *arg)
{
    sley_fiber_set_name("forgetful");
    open_and_forget();
    overwrite_the_stack();
    return arg != NULL ? -EIO : 0;
}

static int start_one_that_leaves_open(void *arg)
{
    (void)arg;
    sley_go(leave_open, NULL);
    return 0;
}

static int start_one_that_leaves_open_and_fails(void *arg)
{
    sley_go(leave_open, &arg);
    return 0;
}

static int leave_a_shield(void *arg)
{
    (void)arg;
    sley_fiber_set_name("coward");
    sley_shield_begin();
    return 0;
}

static int start_one_that_leaves_a_shield(void *arg)
{
    (void)arg;
    sley_go(leave_a_shield, NULL);
    return 0;
}

static int end_a_shield_that_is_none(void *arg)
{
    (void)arg;
    sley_shield_end();
    return 1;
}

static int end_a_shield_of_the_outer_scope(void *arg)
{
    sley_scope s;

    (void)arg;
    sley_shield_begin();
    sley_scope_init(&s, SLEY_FOREVER);
    sley_shield_end();
    return 1;
}

static int begin_255_shields(void *arg)
{
    (void)arg;
    for (int i = 0; i < 255; i++)
        sley_shield_begin();
    return 1;
}

static sley_scope closed; /* static: a closed one is looked at */

static void close_it(void)
{
    sley_scope_init(&closed, SLEY_FOREVER);
    sley_scope_wait(&closed, 0, SLEY_FOREVER);
}

static int go_into_closed(void *arg)
{
    (void)arg;
    close_it();
    return sley_scope_go(&closed, nothing, NULL);
}

static int go_copy_into_closed(void *arg)
{
    close_it();
    return sley_scope_go_copy(&closed, nothing, &arg, sizeof arg);
}

static int cancel_closed(void *arg)
{
    (void)arg;
    close_it();
    sley_scope_cancel(&closed);
    return 1;
}

static int move_deadline_of_closed(void *arg)
{
    (void)arg;
    close_it();
    sley_scope_set_deadline(&closed, SLEY_FOREVER);
    return 1;
}

static int cancel_null(void *arg)
{
    (void)arg;
    sley_scope_cancel(NULL);
    return 1;
}

static const struct {
    const char *name;
    sley_fn *fn;
    const char *says[2]; /* the fiber's name, where it has one; the call and what is wrong */
} bugs[] = {
    { "outer-first", close_the_outer_first, { "\"clumsy\"", "sley_scope_wait: a scope opened inside it is still open: close that" } },
    { "anothers", let_a_child_close, { "\"thief\"", "sley_scope_wait: another fiber has opened the scope\n" } },
    { "threads", let_a_thread_close, { "plain thread", "sley_scope_wait: another fiber has opened the scope\n" } },
    { "never-opened", close_what_was_never_opened, { "", "sley_scope_wait: the scope is not open\n" } },
    { "root", close_the_root, { "", "sley_scope_wait: another fiber has opened the scope\n" } },
    { "function", close_the_scope_of_the_function, { "", "sley_scope_wait: a scope opened inside it is still open" } },
    { "with-shield", close_with_a_shield, { "", "sley_scope_wait: a shield begun inside the scope is still open\n" } },
    { "twice", open_twice, { "", "sley_scope_init: the scope is open already\n" } },
    { "outer-again", open_the_outer_again, { "", "sley_scope_init_isolated: the scope is open already\n" } },
    { "null", open_null, { "", "sley_scope_init: the scope is NULL\n" } },
    { "left-open", start_one_that_leaves_open, { "\"forgetful\"", "sley_scope_init: the fiber has ended with a scope open" } },
    { "left-open-failing", start_one_that_leaves_open_and_fails,
      { "\"forgetful\"", "sley_scope_init: the fiber has ended with a scope open" } },
    { "left-shield", start_one_that_leaves_a_shield, { "\"coward\"", "sley_shield_begin: the fiber has ended with a shield open\n" } },
    { "shield-end", end_a_shield_that_is_none, { "", "sley_shield_end: no shield is open in this scope\n" } },
    { "outer-shield", end_a_shield_of_the_outer_scope, { "", "sley_shield_end: no shield is open in this scope\n" } },
    { "shields", begin_255_shields, { "", "sley_shield_begin: 254 shields are open\n" } },
    { "go-closed", go_into_closed, { "", "sley_scope_go: the scope is not open\n" } },
    { "go-copy-closed", go_copy_into_closed, { "", "sley_scope_go_copy: the scope is not open\n" } },
    { "cancel-closed", cancel_closed, { "", "sley_scope_cancel: the scope is not open\n" } },
    { "deadline-closed", move_deadline_of_closed, { "", "sley_scope_set_deadline: the scope is not open\n" } },
    { "cancel-null", cancel_null, { "", "sley_scope_cancel: the scope is not open\n" } },
};

static void every_bug_aborts_and_names_fiber_and_call(void **state)
{
    struct child c;

    (void)state;
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++) {
        run_child(&c, bugs[i].name, NULL);
        if (!WIFSIGNALED(c.status) || WTERMSIG(c.status) != SIGABRT)
            fail_msg("%s: status %d, said \"%s\"", bugs[i].name, c.status, c.said);
        assert_said(&c, bugs[i].says[0]);
        assert_said(&c, bugs[i].says[1]);
        if (strcmp(bugs[i].name, "threads") != 0)
            assert_ptr_equal(strstr(c.said, "sley: fiber "), c.said);
        assert_int_equal(lines_of(c.said), 1);
    }
}

/* ---- the same on a plain thread: there are no scopes ---- */

static void open_off_a_fiber(const char *how)
{
    sley_scope s;

    if (strcmp(how, "thread-init") == 0)
        sley_scope_init(&s, SLEY_FOREVER);
    else if (strcmp(how, "thread-isolated") == 0)
        sley_scope_init_isolated(&s, SLEY_FOREVER);
    else if (strcmp(how, "thread-run") == 0)
        sley_scope_run(nothing, NULL, SLEY_FOREVER);
}

static void a_scope_opened_off_a_fiber_aborts(void **state)
{
    static const char *const how[][2] = {
        { "thread-init", "sley_scope_init: a scope can only be opened on a fiber\n" },
        { "thread-isolated", "sley_scope_init_isolated: a scope can only be opened on a fiber\n" },
        { "thread-run", "sley_scope_run: a scope can only be opened on a fiber\n" },
    };
    struct child c;

    (void)state;
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
        run_child(&c, how[i][0], NULL);
        assert_true(WIFSIGNALED(c.status) && WTERMSIG(c.status) == SIGABRT);
        assert_said(&c, how[i][1]);
        assert_int_equal(lines_of(c.said), 1);
    }
}

/* ---- a length of time where a point in time is wanted: said, and an error that closing returns ---- */

static int length_to_init(void *arg)
{
    sley_scope s;
    int rc;

    (void)arg;
    sley_scope_init(&s, 5 * SLEY_S);
    sley_go(sleep_for_ever, NULL); /* not to be waited for until the end of time */
    rc = sley_cancelled();
    return sley_scope_wait(&s, 0, SLEY_FOREVER) == -EINVAL && rc == -ECANCELED ? 0 : 2;
}

static int length_to_isolated(void *arg)
{
    sley_scope s;

    (void)arg;
    sley_scope_init_isolated(&s, -1);
    sley_go(sleep_for_ever, NULL);
    return sley_scope_wait(&s, 0, SLEY_FOREVER) == -EINVAL && sley_cancelled() == 0 ? 0 : 2;
}

static int length_to_set_deadline(void *arg)
{
    sley_scope s;

    (void)arg;
    sley_scope_init(&s, SLEY_FOREVER);
    sley_go(sleep_for_ever, NULL);
    sley_scope_set_deadline(&s, 20 * SLEY_MS);
    return sley_scope_wait(&s, 3, SLEY_FOREVER) == -EINVAL && sley_cancelled() == 0 ? 0 : 2;
}

static int length_to_wait(void *arg)
{
    sley_scope s;
    int rc;

    (void)arg;
    sley_scope_init(&s, SLEY_FOREVER);
    sley_go(sleep_for_ever, NULL);
    rc = sley_scope_wait(&s, 3, 5 * SLEY_MS); /* closing is not refused: it is closed, with an error */
    return rc == -EINVAL && sley_scope_wait(&s, 0, SLEY_FOREVER) == -EINVAL && sley_cancelled() == 0 ? 0 : 2;
}

static int length_to_wait_after_an_error(void *arg)
{
    sley_scope s;

    (void)arg;
    sley_scope_init(&s, SLEY_FOREVER);
    sley_go(sleep_for_ever, NULL);
    return sley_scope_wait(&s, -EIO, 5 * SLEY_MS) < 0 && sley_cancelled() == 0 ? 0 : 2;
}

static int length_to_the_root(void *arg)
{
    (void)arg;
    sley_scope_set_deadline(sley_scope_root(), SLEY_S);
    return sley_cancelled() == 0 ? 0 : 2; /* the whole runtime is not stopped for it */
}

static void *set_length_on_a_thread(void *arg)
{
    sley_scope_set_deadline(arg, SLEY_S);
    return NULL;
}

static int length_from_a_thread(void *arg)
{
    pthread_t thread;
    sley_scope s;

    (void)arg;
    sley_scope_init(&s, SLEY_FOREVER);
    sley_go(sleep_for_ever, NULL);
    if (pthread_create(&thread, NULL, set_length_on_a_thread, &s) != 0)
        return 3;
    pthread_join(thread, NULL);
    return sley_scope_wait(&s, 0, SLEY_FOREVER) == -EINVAL ? 0 : 2;
}

static const struct {
    const char *name;
    sley_fn *fn;
    const char *says;
} lengths[] = {
    { "length-init", length_to_init, ": sley_scope_init: " },
    { "length-isolated", length_to_isolated, ": sley_scope_init_isolated: " },
    { "length-set", length_to_set_deadline, ": sley_scope_set_deadline: " },
    { "length-wait", length_to_wait, ": sley_scope_wait: " },
    { "length-wait-error", length_to_wait_after_an_error, ": sley_scope_wait: " },
    { "length-root", length_to_the_root, ": sley_scope_set_deadline: " },
    { "length-thread", length_from_a_thread, ": sley_scope_set_deadline: " },
};

static void a_length_of_time_as_a_deadline_is_said_and_is_an_error(void **state)
{
    struct child c;

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        run_child(&c, lengths[i].name, NULL);
        if (!WIFEXITED(c.status) || WEXITSTATUS(c.status) != 0)
            fail_msg("%s: status %d, said \"%s\"", lengths[i].name, c.status, c.said);
        assert_ptr_equal(strstr(c.said, "sley: "), c.said);
        assert_said(&c, lengths[i].says);
        assert_said(&c, "a length of time");
        assert_int_equal(lines_of(c.said), 1);
    }
}

/* ---- who does not stop ---- */

/* What was said so far goes into a file of memory, where the fibers can look for it, and at the end to the standard error that was. */
static int said_fd, real_stderr;

static void begin_to_listen(void)
{
    real_stderr = dup(STDERR_FILENO);
    said_fd = memfd_create("said", MFD_CLOEXEC);
    dup2(said_fd, STDERR_FILENO);
}

static int is_said(const char *text)
{
    char said[8192];
    ssize_t n = pread(said_fd, said, sizeof said - 1, 0);

    said[n > 0 ? n : 0] = '\0';
    return strstr(said, text) != NULL;
}

static void pass_on_what_was_said(void)
{
    char said[8192];
    ssize_t n = pread(said_fd, said, sizeof said, 0);

    if (n > 0 && write(real_stderr, said, (size_t)n) != n)
        abort();
}

static struct {
    sley_event release;
    sley_chan *empty;
    _Atomic(struct sl_fiber *) on_event, on_channel;
    _Atomic(int) ignores, obeyed;
} stubborn;

static int is_parked(struct sl_fiber *f)
{
    return f != NULL && SL_WORD_STATE(sl_load_acquire(&f->word)) == SL_WAITING;
}

static int hold_on_to_an_event(void *arg)
{
    (void)arg;
    sley_fiber_set_name("mule");
    sley_shield_begin();
    stubborn.on_event = sl_current();
    if (sley_event_wait(&stubborn.release, SLEY_FOREVER) < 0)
        abort();
    sley_shield_end();
    return sley_yield();
}

static int hold_on_to_a_channel(void *arg)
{
    char byte;

    (void)arg;
    sley_fiber_set_name("donkey");
    sley_shield_begin();
    stubborn.on_channel = sl_current();
    if (sley_chan_recv(stubborn.empty, &byte, SLEY_FOREVER) != 0)
        abort();
    sley_shield_end();
    return sley_yield();
}

static int ignore_it(void *arg)
{
    (void)arg;
    sley_fiber_set_name("ostrich");
    stubborn.ignores = 1;
    while (!is_said("\"ostrich\"")) { /* a computation that does not ask */
        sley_shield_begin();
        sley_yield();
        sley_shield_end();
    }
    sley_event_set(&stubborn.release);
    sley_chan_close(stubborn.empty);
    return 0;
}

static int obey(void *arg)
{
    (void)arg;
    stubborn.obeyed = sley_sleep(SLEY_FOREVER) == -ECANCELED;
    return 0;
}

static int start_them(void *arg)
{
    sley_scope *root = sley_scope_root();

    (void)arg;
    sley_scope_go(root, hold_on_to_an_event, NULL);
    sley_scope_go(root, hold_on_to_a_channel, NULL);
    sley_scope_go(root, ignore_it, NULL);
    sley_scope_go(root, obey, NULL);
    while (!is_parked(stubborn.on_event) || !is_parked(stubborn.on_channel) || !stubborn.ignores)
        sley_yield();
    return 42;
}

static int run_with_stubborn_ones(void)
{
    int rc;

    begin_to_listen();
    stubborn.empty = sley_chan_create(1, 0);
    rc = sley_run(&(sley_options){ .workers = 2, .drain_ns = SLEY_MS }, start_them, NULL);
    sley_chan_destroy(stubborn.empty);
    pass_on_what_was_said();
    return rc == 42 && stubborn.obeyed ? 0 : 2;
}

/* The same without sley_run: -EBUSY each time, until they do stop. */
static int stop_with_stubborn_ones(void)
{
    sley_options options = { .workers = 2, .drain_ns = SLEY_MS };
    sley_runtime *rt;
    int first, last;

    begin_to_listen();
    stubborn.empty = sley_chan_create(1, 0);
    if (sley_runtime_create(&rt, &options) < 0 || sley_runtime_start(rt) < 0 || sley_runtime_submit(rt, hold_on_to_an_event, NULL) < 0 ||
        sley_runtime_submit(rt, hold_on_to_a_channel, NULL) < 0 || sley_runtime_submit(rt, obey, NULL) < 0)
        return 3;
    while (!is_parked(stubborn.on_event) || !is_parked(stubborn.on_channel))
        sched_yield();
    first = sley_runtime_stop(rt, SLEY_NOW);
    sley_event_set(&stubborn.release);
    sley_chan_close(stubborn.empty);
    last = sley_runtime_stop(rt, SLEY_FOREVER);
    sley_runtime_destroy(rt);
    sley_chan_destroy(stubborn.empty);
    pass_on_what_was_said();
    return first == -EBUSY && last == 0 && stubborn.obeyed ? 0 : 2;
}

/* The line that names `name`; NULL: none. */
static char *line_of(struct child *c, const char *name)
{
    char *at = strstr(c->said, name), *end;

    if (at == NULL)
        return NULL;
    end = strchr(at, '\n');
    if (end != NULL)
        *end = '\0';
    return at;
}

static void assert_listed(struct child *c, const char *name, const char *waits_for)
{
    char *line = line_of(c, name);

    if (line == NULL || strstr(line, waits_for) == NULL)
        fail_msg("%s is not listed with \"%s\": \"%s\"", name, waits_for, line != NULL ? line : c->said);
    line[strlen(line)] = '\n';
}

static void who_does_not_stop_is_listed_by_name_with_what_it_waits_for(void **state)
{
    static const char *const how[] = { "run", "stop" };
    struct child c;

    (void)state;
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
        run_child(&c, how[i], NULL);
        if (!WIFEXITED(c.status) || WEXITSTATUS(c.status) != 0)
            fail_msg("%s: status %d, said \"%s\"", how[i], c.status, c.said);
        assert_said(&c, "told to stop");
        assert_listed(&c, "\"mule\"", "waits: event");
        assert_listed(&c, "\"donkey\"", "waits: receive from channel");
        if (i == 0)
            assert_listed(&c, "\"ostrich\"", "runs");
    }
}

/* ---- main ---- */

static int play(const char *name)
{
    alarm(50); /* ends a hang, so that it is known whose it was */
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++)
        if (strcmp(name, bugs[i].name) == 0)
            return sley_run(&(sley_options){ .workers = 1 }, bugs[i].fn, NULL);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        if (strcmp(name, lengths[i].name) == 0)
            return sley_run(NULL, lengths[i].fn, NULL);
    if (strcmp(name, "run") == 0)
        return run_with_stubborn_ones();
    if (strcmp(name, "stop") == 0)
        return stop_with_stubborn_ones();
    open_off_a_fiber(name);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bug_aborts_and_names_fiber_and_call),
        cmocka_unit_test(a_scope_opened_off_a_fiber_aborts),
        cmocka_unit_test(a_length_of_time_as_a_deadline_is_said_and_is_an_error),
        cmocka_unit_test(who_does_not_stop_is_listed_by_name_with_what_it_waits_for),
    };

    return argc == 2 ? play(argv[1]) : cmocka_run_group_tests(tests, NULL, NULL);
}
