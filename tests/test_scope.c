/* test_scope.c - scopes: what cancels whom, what every call then returns, what closing returns, and that nobody outlives a scope.
 *
 * A test is played on a runtime of its own; what it expected and did not find is said afterwards, on the main thread. Nobody here sleeps to
 * be in time: who must be parked is asked for, and a deadline that may have passed by itself is looked at before it is relied upon. */
#include "scenario.h"

#include <fcntl.h>
#include <poll.h>

static struct {
    _Atomic(int) begun, count;
    int error; /* this and what follows: of the first one */
    uint64_t fiber;
    char name[32];
} reported; /* to on_error */

static void on_error(void *ctx, uint64_t fiber, const char *name, int error)
{
    (void)ctx;
    if (reported.begun++ == 0) {
        snprintf(reported.name, sizeof reported.name, "%s", name);
        reported.error = error;
        reported.fiber = fiber;
    }
    reported.count++;
}

static void forget_reports(void)
{
    reported.begun = reported.count = 0;
}

static void play_on_fibers(void (*body)(void), size_t stack_bytes)
{
    sley_options options = { .on_error = on_error, .stack_bytes = stack_bytes };

    scene.cast = casts[0]; /* all on fibers */
    scene.unmet = NULL;
    forget_reports();
    assert_int_equal(sley_run(&options, play_body, &body), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

/* Defines the cmocka test `name`, which plays the body that follows on a fiber. */
#define ON_FIBERS(name) ON_FIBERS_WITH(name, 0)
#define ON_FIBERS_WITH(name, stack_bytes) \
    static void name##_body(void); \
    static void name(void **state) { (void)state; play_on_fibers(name##_body, stack_bytes); } \
    static void name##_body(void)

/* Let others run, cancelled or not. */
static void pass(void)
{
    if (sley_self() == 0) {
        sched_yield();
        return;
    }
    sley_shield_begin();
    EXPECT(sley_yield() == 0);
    sley_shield_end();
}

static int return_number(void *arg) { return (int)(intptr_t)arg; }
static void *number(intptr_t n) { return (void *)n; }

static int return_zero(void *arg)
{
    (void)arg;
    return 0;
}

/* --- children --------------------------------------------------------------------------------------------------------------- */

struct kid {
    sley_fn *fn;
    void *arg;
    int result;
    _Atomic(struct sl_fiber *) block;
    _Atomic(int) done;
};

static int kid_main(void *arg)
{
    struct kid *k = arg;
    int rc;

    k->block = sl_current();
    rc = k->result = k->fn(k->arg);
    k->done = 1;
    return rc;
}

static void kid_starts_in(sley_scope *s, struct kid *k, sley_fn *fn, void *arg)
{
    *k = (struct kid){ .fn = fn, .arg = arg };
    EXPECT((s != NULL ? sley_scope_go(s, kid_main, k) : sley_go(kid_main, k)) == 0);
}

static void kid_starts(struct kid *k, sley_fn *fn, void *arg) { kid_starts_in(NULL, k, fn, arg); }

static void kid_ends(struct kid *k)
{
    while (!k->done)
        pass();
}

/* Until it waits, for an object or for the kernel. */
static void kid_parks(struct kid *k)
{
    for (;;) {
        struct sl_fiber *f = k->block;
        unsigned word = f != NULL ? SL_WORD_STATE(sl_load_acquire(&f->word)) : SL_IDLE;

        EXPECT(!k->done);
        if (k->done || word == SL_WAITING || word == SL_WAITING_IO)
            return;
        pass();
    }
}

/* --- every way to wait ------------------------------------------------------------------------------------------------------ */

static struct {
    sley_chan *hand_over, *empty, *full;
    sley_event never;
    sley_waitgroup one;
    sley_sem none;
    sley_mutex mutex;
    sley_cond cond;
    sley_barrier barrier;
    sley_future *pending;
    int pipe[2];
} world;

enum { FULL_OF = 42 };

static void world_begins(void)
{
    int v = FULL_OF;

    world.hand_over = sley_chan_create(sizeof(int), 0);
    world.empty = sley_chan_create(sizeof(int), 2);
    world.full = sley_chan_create(sizeof(int), 1);
    memset(&world.never, 0, sizeof world.never);
    memset(&world.one, 0, sizeof world.one);
    memset(&world.mutex, 0, sizeof world.mutex);
    memset(&world.cond, 0, sizeof world.cond);
    sley_barrier_init(&world.barrier, 1000);
    world.pending = sley_future_create(sizeof(int));
    sley_sem_init(&world.none, 0);
    sley_waitgroup_add(&world.one, 1);
    EXPECT(sley_chan_send(world.full, &v, SLEY_NOW) == 0);
    EXPECT(pipe2(world.pipe, O_CLOEXEC | O_NONBLOCK) == 0);
}

/* A cancelled call has taken nothing, given nothing, and is in nobody's list. */
static void world_ends(void)
{
    int v = 0;

    EXPECT(sley_chan_len(world.empty) == 0 && sley_chan_len(world.full) == 1);
    EXPECT(sley_chan_recv(world.hand_over, &v, SLEY_NOW) == -ETIMEDOUT && sley_chan_send(world.hand_over, &v, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_chan_recv(world.full, &v, SLEY_NOW) == 1 && v == FULL_OF);
    EXPECT(sley_chan_recv(world.full, &v, SLEY_NOW) == -ETIMEDOUT && v == FULL_OF);
    sley_event_fini(&world.never); /* aborts if somebody waits */
    sley_waitgroup_fini(&world.one);
    sley_sem_fini(&world.none);
    EXPECT(sley_mutex_lock(&world.mutex, SLEY_NOW) == 0);
    sley_mutex_unlock(&world.mutex);
    sley_mutex_fini(&world.mutex);
    sley_cond_fini(&world.cond);
    sley_barrier_fini(&world.barrier);
    sley_future_destroy(world.pending);
    sley_chan_destroy(world.hand_over);
    sley_chan_destroy(world.empty);
    sley_chan_destroy(world.full);
    EXPECT(sley_close(world.pipe[0]) == 0 && sley_close(world.pipe[1]) == 0);
}

enum way {
    SLEEP, SLEEP_UNTIL, RECV, RECV_BUFFERED, RECV_TIMED, RECV_N, SEND, SEND_FULL, SEND_N, EVENT, EVENT_TIMED, GROUP, GROUP_TIMED, SEM, COND,
    BARRIER, AWAIT, AWAIT_ANY, SELECT, SELECT_TIMED, SELECT_NOTHING, TICKER, READ, READINESS, INNER_SLEEP, YIELD, COMPUTE, WAYS,
    PARKING_WAYS = YIELD
};

static int do_nothing_but_wait(void *arg) { return sley_event_wait(arg, SLEY_FOREVER); }

static int shielded_wait_for(void *arg)
{
    int rc;

    sley_shield_begin();
    rc = sley_event_wait(arg, SLEY_FOREVER);
    sley_shield_end();
    return rc;
}

static int sleep_for_ever(void *arg)
{
    (void)arg;
    return sley_sleep(SLEY_FOREVER);
}

/* Nothing but a cancel ends it. */
static int wait_as(enum way how)
{
    sley_time far = sley_after(3600 * SLEY_S);
    int v = 7, many[4] = { 0 }, rc;
    sley_case arms[5];
    sley_ticker ticker;
    char byte;

    switch (how) {
    case SLEEP: return sley_sleep(SLEY_FOREVER);
    case SLEEP_UNTIL: return sley_sleep_until(far);
    case RECV: return sley_chan_recv(world.hand_over, &v, SLEY_FOREVER);
    case RECV_BUFFERED: return sley_chan_recv(world.empty, &v, SLEY_FOREVER);
    case RECV_TIMED: return sley_chan_recv(world.empty, &v, far);
    case RECV_N: return sley_chan_recv_n(world.empty, many, 4, SLEY_FOREVER);
    case SEND: return sley_chan_send(world.full, &v, far);
    case SEND_FULL: return sley_chan_send(world.full, &v, SLEY_FOREVER);
    case SEND_N: return sley_chan_send_n(world.full, many, 4, SLEY_FOREVER);
    case EVENT: return sley_event_wait(&world.never, SLEY_FOREVER);
    case EVENT_TIMED: return sley_event_wait(&world.never, far);
    case GROUP: return sley_waitgroup_wait(&world.one, SLEY_FOREVER);
    case GROUP_TIMED: return sley_waitgroup_wait(&world.one, far);
    case SEM: return sley_sem_wait(&world.none, SLEY_FOREVER);
    case COND:
        if (sley_mutex_lock(&world.mutex, SLEY_FOREVER) < 0) /* no point of cancellation */
            return -EIO;
        rc = sley_cond_wait(&world.cond, &world.mutex, SLEY_FOREVER);
        sley_mutex_unlock(&world.mutex);
        return rc;
    case BARRIER: return sley_barrier_wait(&world.barrier, SLEY_FOREVER);
    case AWAIT: return sley_await(world.pending, SLEY_FOREVER);
    case AWAIT_ANY: return sley_wait_any((sley_future *[]){ world.pending, world.pending }, 2, SLEY_FOREVER);
    case SELECT:
    case SELECT_TIMED:
        arms[0] = sley_case_recv(world.hand_over, &v);
        arms[1] = sley_case_send(world.full, &v);
        arms[2] = sley_case_event(&world.never);
        arms[3] = how == SELECT ? sley_case_sem(&world.none) : sley_case_at(far);
        arms[4] = how == SELECT ? sley_case_future(world.pending) : sley_case_recv(world.empty, many);
        return sley_select(arms, 5, how == SELECT ? SLEY_FOREVER : far);
    case SELECT_NOTHING: return sley_select(NULL, 0, SLEY_FOREVER);
    case TICKER:
        sley_ticker_init(&ticker, 3600 * SLEY_S);
        return sley_ticker_wait(&ticker, SLEY_FOREVER);
    case READ: return sley_read(world.pipe[0], &byte, 1, SLEY_FOREVER);
    case READINESS: return sley_fd_wait(world.pipe[0], POLLIN, SLEY_FOREVER);
    case INNER_SLEEP: return sley_scope_run(sleep_for_ever, NULL, far);
    case YIELD:
        while ((rc = sley_yield()) == 0)
            ;
        return rc;
    default:
        while ((rc = sley_cancelled()) == 0)
            pass();
        return rc;
    }
}

static int wait_twice_as(void *arg)
{
    enum way how = (enum way)(intptr_t)arg;
    int first = wait_as(how), second = wait_as(how);

    EXPECT(first == -ECANCELED && second == -ECANCELED); /* a cancel is a level, not an edge */
    return first;
}

/* --- who is where ----------------------------------------------------------------------------------------------------------- */

static int see_scope(void *arg)
{
    sley_scope *expected = arg;
    sley_scope mine;

    EXPECT(sley_scope_current() == expected);
    sley_scope_init_isolated(&mine, SLEY_FOREVER);
    EXPECT(sley_scope_current() == &mine);
    EXPECT(sley_scope_wait(&mine, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_scope_current() == expected);
    return 0;
}

ON_FIBERS(init_makes_a_scope_the_current_one_and_wait_the_outer_one_again)
{
    sley_scope *home = sley_scope_current(), outer, inner;

    EXPECT(home != NULL && home != sley_scope_root());
    sley_scope_init(&outer, SLEY_FOREVER);
    EXPECT(sley_scope_current() == &outer);
    sley_scope_init(&inner, SLEY_FOREVER);
    EXPECT(sley_scope_current() == &inner);
    EXPECT(sley_go(see_scope, &inner) == 0 && sley_scope_go(&outer, see_scope, &outer) == 0 && sley_scope_go(home, see_scope, home) == 0);
    EXPECT(sley_scope_go(sley_scope_root(), see_scope, sley_scope_root()) == 0);
    EXPECT(sley_scope_wait(&inner, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_scope_current() == &outer);
    EXPECT(sley_scope_wait(&outer, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_scope_current() == home);
}

static void a_plain_thread_has_no_current_scope_and_an_attached_one_a_root(void **state)
{
    sley_runtime *rt;

    (void)state;
    assert_null(sley_scope_current());
    assert_null(sley_scope_root());
    assert_int_equal(sley_cancelled(), 0);
    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    assert_int_equal(sley_runtime_attach(rt), 0);
    assert_null(sley_scope_current());
    assert_non_null(sley_scope_root());
    sley_runtime_detach();
    assert_null(sley_scope_root());
    sley_runtime_destroy(rt);
}

/* --- children do not outlive it --------------------------------------------------------------------------------------------- */

enum { FAMILY = 300 };

static int yield_some_and_count(void *arg)
{
    _Atomic(int) *count = arg;

    for (int i = 0; i < 5; i++)
        EXPECT(sley_yield() == 0);
    ++*count;
    return 3; /* more than 0 is no error */
}

ON_FIBERS(wait_returns_when_all_children_have_ended)
{
    sley_scope s;
    _Atomic(int) ended = 0;

    for (int round = 0; round < 10; round++) {
        ended = 0;
        sley_scope_init(&s, SLEY_FOREVER);
        for (int i = 0; i < FAMILY; i++)
            EXPECT(sley_go(yield_some_and_count, &ended) == 0);
        EXPECT(sley_scope_wait(&s, 9, SLEY_FOREVER) == 9);
        EXPECT(ended == FAMILY);
    }
}

struct spawner {
    sley_scope *s;
    int depth;
    _Atomic(int) *ended;
};

static int spawn_two_more(void *arg)
{
    struct spawner mine = *(struct spawner *)arg;

    if (mine.depth-- > 0)
        for (int i = 0; i < 2; i++)
            EXPECT(sley_scope_go_copy(mine.s, spawn_two_more, &mine, sizeof mine) == 0);
    ++*mine.ended;
    return 0;
}

/* The body has long begun to wait; its children still bring more. */
ON_FIBERS(children_may_start_more_while_the_opener_waits)
{
    sley_scope s;
    _Atomic(int) ended = 0;
    struct spawner first = { &s, 8, &ended };

    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_go_copy(spawn_two_more, &first, sizeof first) == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(ended == (1 << 9) - 1);
}

static int go_from_a_thread(void *arg)
{
    struct spawner *s = arg;

    return sley_scope_go_copy(s->s, spawn_two_more, s, sizeof *s);
}

static int go_from_another_runtime(void *arg)
{
    return go_from_a_thread(arg);
}

static int run_another_runtime(void *arg)
{
    return sley_run(&(sley_options){ .workers = 1 }, go_from_another_runtime, arg);
}

ON_FIBERS(fibers_threads_and_other_runtimes_start_children)
{
    sley_scope s;
    _Atomic(int) ended = 0;
    struct spawner from = { &s, 2, &ended };
    struct actor thread, runtime;

    sley_scope_init(&s, SLEY_FOREVER);
    actor_start_as(&thread, 1, go_from_a_thread, &from);
    actor_start_as(&runtime, 1, run_another_runtime, &from);
    EXPECT(actor_result(&thread) == 0 && actor_result(&runtime) == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(ended == 14);
}

static int check_copy(void *arg)
{
    const unsigned char *bytes = arg;

    for (unsigned i = 1; i < bytes[0]; i++)
        EXPECT(bytes[i] == (unsigned char)(i * 3));
    return bytes[0];
}

ON_FIBERS(scope_go_copies_and_refuses_as_go_does)
{
    unsigned char bytes[SLEY_COPY_BYTES_MAX + 1];
    const size_t sizes[] = { 1, 63, 64, 65, 200, SLEY_COPY_BYTES_MAX };
    sley_scope s;

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 3);
    sley_scope_init(&s, SLEY_FOREVER);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        bytes[0] = (unsigned char)(sizes[i] < 200 ? sizes[i] : 200);
        EXPECT(sley_scope_go_copy(&s, check_copy, bytes, sizes[i]) == 0);
    }
    EXPECT(sley_scope_go_copy(&s, return_zero, NULL, 0) == 0);
    EXPECT(sley_scope_go_copy(&s, check_copy, bytes, sizeof bytes) == -E2BIG && sley_scope_go_copy(&s, check_copy, NULL, 1) == -EINVAL);
    EXPECT(sley_scope_go_copy(NULL, check_copy, bytes, 1) == -EINVAL && sley_scope_go_copy(&s, NULL, bytes, 1) == -EINVAL);
    EXPECT(sley_scope_go(NULL, return_number, NULL) == -EINVAL && sley_scope_go(&s, NULL, NULL) == -EINVAL);
    EXPECT(sley_go(NULL, NULL) == -EINVAL);
    EXPECT(sley_scope_wait(NULL, 0, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_cancelled() == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0); /* what was refused is no error of the scope */
}

/* The timer of a fiber stands where its argument was. */
static int sleep_a_little(void *arg)
{
    (void)arg;
    return sley_sleep(SLEY_US) < 0 ? -EIO : 0;
}

ON_FIBERS(no_argument_turns_a_fibers_timer_into_a_scopes)
{
    unsigned char bytes[64];
    sley_scope s;

    for (int pattern = 0; pattern < 4; pattern++) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = pattern == 3 ? 0xff : (i + (size_t)pattern) % 2 == 0;
        sley_scope_init(&s, SLEY_FOREVER);
        for (int i = 0; i < 20; i++)
            EXPECT(sley_go_copy(sleep_a_little, bytes, sizeof bytes) == 0);
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    }
}

/* After the wait the memory is the opener's, whatever its children and who cancelled still had to do. */
static void close_and_dirty(sley_scope *s, int cancel)
{
    memset(s, 0xee, sizeof *s);
    sley_scope_init(s, SLEY_FOREVER);
    for (int i = 0; i < 3; i++)
        sley_go(sleep_a_little, NULL);
    if (cancel)
        sley_scope_cancel(s);
    EXPECT(sley_scope_wait(s, 0, SLEY_FOREVER) == 0 || cancel);
    memset(s, 0xee, sizeof *s);
}

ON_FIBERS(the_memory_of_a_closed_scope_is_not_touched)
{
    sley_scope s[4];

    for (int round = 0; round < 200; round++) {
        close_and_dirty(&s[round % 4], round % 3 == 0);
        EXPECT(round < 4 || is_untouched(s, sizeof s));
    }
}

static int sleep_until_cancelled(void *arg)
{
    _Atomic(int) *cancelled = arg;
    int rc = sley_sleep(SLEY_FOREVER);

    ++*cancelled;
    return rc;
}

/* A fiber that is started always runs its function. */
ON_FIBERS(children_of_a_cancelled_scope_begin_and_find_it_cancelled)
{
    sley_scope s, inner;
    _Atomic(int) cancelled = 0;

    sley_scope_init(&s, SLEY_FOREVER);
    for (int i = 0; i < FAMILY; i++) {
        if (i == FAMILY / 2)
            sley_scope_cancel(&s);
        EXPECT(sley_go(sleep_until_cancelled, (void *)&cancelled) == 0);
    }
    sley_scope_init(&inner, SLEY_FOREVER);
    EXPECT(sley_go(sleep_until_cancelled, (void *)&cancelled) == 0);
    EXPECT(sley_scope_wait(&inner, 0, SLEY_FOREVER) == -ECANCELED);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(cancelled == FAMILY + 1);
}

/* --- errors ----------------------------------------------------------------------------------------------------------------- */

ON_FIBERS(the_first_child_that_fails_cancels_the_scope)
{
    struct kid kids[PARKING_WAYS + 1];
    sley_scope s;

    world_begins();
    sley_scope_init(&s, SLEY_FOREVER);
    for (int i = 0; i < PARKING_WAYS; i++)
        kid_starts(&kids[i], wait_twice_as, number(i));
    for (int i = 0; i < PARKING_WAYS; i++)
        kid_parks(&kids[i]);
    kid_starts(&kids[PARKING_WAYS], return_number, number(-EPIPE));
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == -EPIPE);
    for (int i = 0; i < PARKING_WAYS; i++)
        EXPECT(kids[i].done && kids[i].result == -ECANCELED);
    EXPECT(sley_cancelled() == 0 && reported.count == 0);
    world_ends();
}

static int fail_once_cancelled(void *arg)
{
    EXPECT(sley_sleep(SLEY_FOREVER) == -ECANCELED);
    return (int)(intptr_t)arg;
}

/* What a child makes of its being cancelled comes too late to be the first error, but is one where there was none. */
ON_FIBERS(later_errors_do_not_replace_the_first)
{
    struct kid kid;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    kid_starts(&kid, fail_once_cancelled, number(-ENOSPC));
    kid_parks(&kid);
    EXPECT(sley_scope_wait(&s, -EIO, SLEY_FOREVER) == -EIO);

    sley_scope_init(&s, SLEY_FOREVER);
    kid_starts(&kid, fail_once_cancelled, number(-ENOSPC));
    kid_parks(&kid);
    sley_scope_cancel(&s);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == -ENOSPC);

    sley_scope_init(&s, sley_after(SLEY_US)); /* a deadline too */
    kid_starts(&kid, fail_once_cancelled, number(-ENOSPC));
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == -ENOSPC);
}

ON_FIBERS(an_error_of_the_body_cancels_the_children)
{
    struct kid kids[3];
    sley_scope s;

    for (int isolated = 0; isolated <= 1; isolated++) {
        if (isolated)
            sley_scope_init_isolated(&s, SLEY_FOREVER);
        else
            sley_scope_init(&s, SLEY_FOREVER);
        for (int i = 0; i < 3; i++)
            kid_starts(&kids[i], sleep_for_ever, NULL);
        EXPECT(sley_scope_wait(&s, -EIO, SLEY_FOREVER) == -EIO);
        for (int i = 0; i < 3; i++)
            EXPECT(kids[i].result == -ECANCELED);
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == -EIO && sley_scope_wait(&s, -ENOMEM, SLEY_NOW) == -EIO);
    }
}

/* -ECANCELED where nothing was cancelled is an error like others. */
ON_FIBERS(a_cancelled_that_nobody_caused_is_an_error)
{
    struct kid kid;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    kid_starts(&kid, sleep_for_ever, NULL);
    EXPECT(sley_go(return_number, number(-ECANCELED)) == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == -ECANCELED && kid.result == -ECANCELED);

    sley_scope_init(&s, SLEY_FOREVER);
    kid_starts(&kid, sleep_for_ever, NULL);
    EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == -ECANCELED && kid.result == -ECANCELED);
    EXPECT(sley_cancelled() == 0);
}

static int fail_under_a_name(void *arg)
{
    *(uint64_t *)arg = sley_self();
    sley_fiber_set_name("badger");
    return -EPIPE;
}

ON_FIBERS(an_isolated_scope_reports_errors_and_stops_nobody)
{
    struct kid kid, failing;
    uint64_t who = 0;
    sley_stats before, after;
    sley_event release = { { 0 } };
    sley_scope s;

    EXPECT(sley_stats_read(NULL, &before, sizeof before) >= 0);
    sley_scope_init_isolated(&s, SLEY_FOREVER);
    kid_starts(&kid, do_nothing_but_wait, &release);
    kid_starts(&failing, fail_under_a_name, &who);
    while (reported.count == 0)
        EXPECT(sley_yield() == 0);
    EXPECT(reported.error == -EPIPE && strcmp(reported.name, "badger") == 0 && reported.fiber == who && who != 0);
    for (int i = 0; i < 5; i++)
        EXPECT(sley_go(return_number, number(-EIO)) == 0);
    while (reported.count < 6)
        EXPECT(sley_yield() == 0);
    kid_parks(&kid);
    EXPECT(sley_cancelled() == 0);
    sley_event_set(&release);
    EXPECT(sley_scope_wait(&s, 4, SLEY_FOREVER) == 4 && kid.result == 0);
    EXPECT(sley_stats_read(NULL, &after, sizeof after) >= 0);
    EXPECT(after.fibers_failed == before.fibers_failed + 6);
}

/* --- cancelling: every way to wait, every way to cancel --------------------------------------------------------------------- */

/* Called before it is entered, whatever it is. */
ON_FIBERS(every_wait_in_a_cancelled_scope_is_refused)
{
    sley_scope s, inner;

    world_begins();
    for (int how = 0; how < WAYS; how++) {
        sley_scope_init(&s, SLEY_FOREVER);
        sley_scope_cancel(&s);
        for (int i = 0; i < 3; i++)
            EXPECT(wait_as((enum way)how) == -ECANCELED);
        sley_scope_init(&inner, SLEY_FOREVER); /* and below it */
        EXPECT(wait_as((enum way)how) == -ECANCELED);
        EXPECT(sley_scope_wait(&inner, -ECANCELED, SLEY_FOREVER) == -ECANCELED);
        EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == 0);
        EXPECT(sley_cancelled() == 0 && sley_yield() == 0 && sley_sleep(0) == 0 && sley_sleep(1) == 0);
    }
    world_ends();
}

enum cause {
    BY_OPENER, BY_SIBLING, BY_ITSELF, BY_THREAD, BY_ERROR, BY_DEADLINE, BY_DEADLINE_NOW, BY_THREADS_DEADLINE, BY_GRACE, FROM_ABOVE,
    FAR_FROM_ABOVE, CAUSES
};

static int cancel_scope(void *arg)
{
    sley_scope_cancel(arg);
    return 0;
}

static int end_scope_soon(void *arg)
{
    sley_scope_set_deadline(arg, sley_after(SLEY_US));
    return 0;
}

static int cancel_oneself_and_wait(void *arg)
{
    sley_scope_cancel(arg);
    return sley_sleep(SLEY_FOREVER);
}

/* The opener of `above` and `s`, both innermost but for children, makes s end; what closing s then returns. */
static int end_scope(sley_scope *farther, sley_scope *above, sley_scope *s, enum cause cause)
{
    struct actor thread;
    struct kid kid;

    switch (cause) {
    case BY_SIBLING: kid_starts(&kid, cancel_scope, s); break;
    case BY_ITSELF: kid_starts(&kid, cancel_oneself_and_wait, s); break;
    case BY_THREAD:
    case BY_THREADS_DEADLINE:
        actor_start_as(&thread, 1, cause == BY_THREAD ? cancel_scope : end_scope_soon, s);
        break;
    case BY_ERROR: kid_starts(&kid, return_number, number(-EPIPE)); break;
    case BY_DEADLINE: sley_scope_set_deadline(s, sley_after(200 * SLEY_US)); break;
    case BY_DEADLINE_NOW: sley_scope_set_deadline(s, SLEY_NOW); break;
    case FROM_ABOVE: sley_scope_cancel(above); break;
    case FAR_FROM_ABOVE: sley_scope_cancel(farther); break;
    case BY_GRACE: return sley_scope_wait(s, 0, SLEY_NOW);
    default: sley_scope_cancel(s); break;
    }
    if (cause == BY_THREAD || cause == BY_THREADS_DEADLINE) {
        sley_shield_begin();
        actor_result(&thread);
        sley_shield_end();
    }
    return sley_scope_wait(s, 0, SLEY_FOREVER);
}

static int expected_of(enum cause cause)
{
    switch (cause) {
    case BY_ERROR: return -EPIPE;
    case BY_DEADLINE:
    case BY_DEADLINE_NOW:
    case BY_THREADS_DEADLINE:
    case BY_GRACE: return -ETIMEDOUT;
    case FROM_ABOVE:
    case FAR_FROM_ABOVE: return -ECANCELED;
    default: return 0;
    }
}

static int in_a_scope_of_its_own(void *arg)
{
    sley_scope mine;
    int rc;

    sley_scope_init(&mine, SLEY_FOREVER);
    rc = wait_twice_as(arg);
    return sley_scope_wait(&mine, rc, SLEY_FOREVER);
}

static void cancel_whoever_waits(int parked)
{
    struct kid kids[2 * WAYS];
    int rc;

    for (int cause = 0; cause < CAUSES; cause++) {
        sley_scope farther, above, s;

        world_begins();
        sley_scope_init(&farther, SLEY_FOREVER);
        sley_scope_init(&above, SLEY_FOREVER);
        sley_scope_init(&s, SLEY_FOREVER);
        for (int i = 0; i < 2 * WAYS; i++)
            kid_starts(&kids[i], i % 2 ? in_a_scope_of_its_own : wait_twice_as, number(i / 2));
        for (int i = 0; parked && i < 2 * PARKING_WAYS; i++)
            kid_parks(&kids[i]);
        EXPECT(end_scope(&farther, &above, &s, (enum cause)cause) == expected_of((enum cause)cause));
        for (int i = 0; i < 2 * WAYS; i++)
            EXPECT(kids[i].done && kids[i].result == -ECANCELED);
        rc = cause == FAR_FROM_ABOVE ? -ECANCELED : 0;
        EXPECT(sley_scope_wait(&above, rc, SLEY_FOREVER) == rc);
        EXPECT(sley_scope_wait(&farther, 0, SLEY_FOREVER) == 0);
        EXPECT(sley_cancelled() == 0);
        world_ends();
    }
}

ON_FIBERS(every_wait_under_way_ends_with_its_scope)
{
    cancel_whoever_waits(1);
}

ON_FIBERS(every_wait_that_is_just_beginning_ends_with_its_scope)
{
    for (int round = 0; round < 10; round++)
        cancel_whoever_waits(0);
}

/* One child, cancelled at some moment on its way to its wait, into it or out of it. */
struct racer {
    enum way how;
    _Atomic(int) goes;
};

static int race_into_a_wait(void *arg)
{
    struct racer *r = arg;

    r->goes = 1;
    return wait_as(r->how);
}

ON_FIBERS(a_wait_may_be_cancelled_at_any_moment_of_its_beginning)
{
    world_begins();
    for (int round = 0; round < 40 * PARKING_WAYS; round++) {
        struct racer r = { (enum way)(round % PARKING_WAYS), 0 };
        struct kid kid;
        sley_scope s;

        sley_scope_init(&s, SLEY_FOREVER);
        kid_starts(&kid, race_into_a_wait, &r);
        while (!r.goes)
            pass();
        for (volatile int i = 0; i < round / PARKING_WAYS * 20; i++)
            ;
        sley_scope_cancel(&s);
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
        EXPECT(kid.result == -ECANCELED);
    }
    world_ends();
}

/* A fiber that does one thing after the other, and the k-th finds nobody to do it with: there it is cancelled. What came before has been
 * done; of what comes after, all that would wait is refused. */
enum { STEPS = 9 };

struct steps {
    int stops_at;
    sley_chan *ch;
    sley_event set;
    sley_waitgroup zero;
    _Atomic(int) at;
    int result[STEPS];
};

static int step(struct steps *s, int i)
{
    int v = i, lacks = i == s->stops_at;

    switch (i) {
    case 0: return sley_sleep(lacks ? SLEY_FOREVER : SLEY_US);
    case 1: return sley_chan_send(lacks ? world.full : s->ch, &v, SLEY_FOREVER);
    case 2: return sley_chan_recv(lacks ? world.empty : s->ch, &v, SLEY_FOREVER);
    case 3: return sley_event_wait(lacks ? &world.never : &s->set, SLEY_FOREVER);
    case 4: return sley_waitgroup_wait(lacks ? &world.one : &s->zero, SLEY_FOREVER);
    case 5:
        do
            v = sley_yield();
        while (lacks && v == 0);
        return v;
    case 6: return sley_sleep_until(lacks ? SLEY_FOREVER : sley_after(SLEY_US));
    case 7: return sley_fd_wait(world.pipe[!lacks], lacks ? POLLIN : POLLOUT, SLEY_FOREVER);
    default: return sley_scope_run(lacks ? sleep_for_ever : sleep_a_little, NULL, SLEY_FOREVER);
    }
}

static int walk(void *arg)
{
    struct steps *s = arg;

    for (int i = 0; i < STEPS; i++) {
        s->at = i;
        s->result[i] = step(s, i);
    }
    return 0;
}

ON_FIBERS(a_cancel_at_the_kth_wait_keeps_what_came_before_and_refuses_what_comes_after)
{
    world_begins();
    for (int k = 0; k < STEPS; k++) {
        struct steps steps = { .stops_at = k, .ch = sley_chan_create(sizeof(int), 1) };
        struct kid kid;
        sley_scope s;

        sley_event_set(&steps.set);
        sley_scope_init(&s, SLEY_FOREVER);
        kid_starts(&kid, walk, &steps);
        while (steps.at < k)
            pass();
        if (k != 5)
            kid_parks(&kid);
        sley_scope_cancel(&s);
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
        for (int i = 0; i < STEPS; i++) {
            int rc = steps.result[i], must_wait = i == 0 || i == 5 || i == 6;

            if (i < k)
                EXPECT(rc >= 0);
            else if (i == k || must_wait)
                EXPECT(rc == -ECANCELED);
            else
                EXPECT(rc >= 0 || rc == -ECANCELED || (i == 8 && rc == -EIO)); /* sleep_a_little makes an error of it */
        }
        sley_chan_destroy(steps.ch);
    }
    world_ends();
}

/* --- what is not refused ---------------------------------------------------------------------------------------------------- */

static int receive_one(void *arg)
{
    int v = 0;

    return sley_chan_recv(arg, &v, SLEY_FOREVER) == 1 ? v : -EIO;
}

ON_FIBERS(calls_that_need_not_wait_go_on_and_the_64th_of_them_is_refused)
{
    sley_chan *ch = sley_chan_create(sizeof(int), 8);
    sley_event set = { { 0 } };
    sley_waitgroup zero = { { 0 } };
    sley_sem permits;
    sley_scope s;

    sley_event_set(&set);
    sley_sem_init(&permits, 1000);
    for (int what = 0; what < 6; what++) {
        int calls = 0, rc = 0, v = 1, direct = 0;

        EXPECT(sley_yield() == 0);
        sley_scope_init(&s, SLEY_FOREVER);
        sley_scope_cancel(&s);
        for (; rc >= 0 || rc == -ETIMEDOUT; calls++) {
            switch (what) {
            case 0: rc = calls % 2 ? sley_chan_recv(ch, &v, SLEY_FOREVER) : sley_chan_send(ch, &v, SLEY_FOREVER); break;
            case 1: rc = calls % 2 ? sley_chan_recv_n(ch, &v, 1, SLEY_FOREVER) : sley_chan_send_n(ch, &v, 1, SLEY_FOREVER); break;
            case 2: rc = sley_event_wait(&set, SLEY_FOREVER); break;
            case 3: rc = sley_waitgroup_wait(&zero, SLEY_FOREVER); break;
            case 4: rc = sley_sem_wait(&permits, SLEY_FOREVER); break;
            default: rc = sley_chan_recv(ch, &v, SLEY_NOW); break; /* trying never waits, and -ETIMEDOUT must not be tried for ever */
            }
            direct += rc >= 0 || rc == -ETIMEDOUT;
            if (calls > 1000)
                break;
        }
        EXPECT(rc == -ECANCELED && direct < 64);
        EXPECT(sley_scope_wait(&s, rc, SLEY_FOREVER) == 0);
        while (sley_chan_recv(ch, &v, SLEY_NOW) == 1)
            ;
    }
    sley_chan_destroy(ch);
    sley_sem_fini(&permits);
}

ON_FIBERS(calls_that_give_something_back_are_never_refused)
{
    sley_chan *ch = sley_chan_create(sizeof(int), 1), *other = sley_chan_ref(ch);
    sley_event e = { { 0 } };
    sley_waitgroup w = { { 0 } };
    int fds[2], v = 3;
    sley_scope s, inner;

    EXPECT(pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
    EXPECT(sley_chan_send(ch, &v, SLEY_NOW) == 0);
    sley_waitgroup_add(&w, 1);
    sley_scope_init(&s, SLEY_FOREVER);
    sley_scope_cancel(&s);
    sley_scope_init(&inner, SLEY_FOREVER);
    EXPECT(sley_sleep(SLEY_FOREVER) == -ECANCELED);
    EXPECT(sley_close(fds[0]) == 0 && sley_close(fds[1]) == 0);
    sley_event_set(&e);
    sley_waitgroup_done(&w);
    sley_chan_close(ch);
    sley_chan_destroy(ch);
    EXPECT(sley_go(receive_one, other) == 0); /* what it was given it owns, and its error is its own */
    EXPECT(sley_scope_wait(&inner, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_event_is_set(&e) == 1 && sley_waitgroup_wait(&w, SLEY_NOW) == 0);
    sley_chan_destroy(other);
}

/* Waiting for the end of a scope is not cancelled either: the opener stays until all have ended. */
static int take_ones_time_to_stop(void *arg)
{
    _Atomic(int) *stopped = arg;
    int rc = sley_sleep(SLEY_FOREVER);

    for (int i = 0; i < 20; i++)
        pass();
    sley_shield_begin();
    EXPECT(sley_sleep(SLEY_US) == 0);
    sley_shield_end();
    ++*stopped;
    return rc;
}

ON_FIBERS(closing_waits_however_often_it_is_cancelled)
{
    _Atomic(int) stopped = 0;
    sley_scope s, inner;

    sley_scope_init(&s, SLEY_FOREVER);
    sley_scope_init(&inner, SLEY_FOREVER);
    for (int i = 0; i < 50; i++)
        EXPECT(sley_go(take_ones_time_to_stop, (void *)&stopped) == 0);
    sley_scope_cancel(&s);
    EXPECT(sley_scope_wait(&inner, 0, SLEY_NOW) == -ECANCELED);
    EXPECT(stopped == 50);
    EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_NOW) == 0);
}

static int end_above_and_hold_on(void *arg)
{
    void **scope_and_event = arg;
    int rc;

    sley_shield_begin();
    sley_scope_set_deadline(scope_and_event[0], SLEY_NOW);
    rc = sley_event_wait(scope_and_event[1], SLEY_FOREVER);
    sley_shield_end();
    return rc;
}

static int let_go(void *arg)
{
    void **opener_and_event = arg;
    struct kid *opener = opener_and_event[0];

    kid_parks(opener);
    for (int i = 0; i < 10; i++)
        pass();
    EXPECT(!opener->done);
    sley_event_set(opener_and_event[1]);
    return 0;
}

static int close_over_a_deadline(void *arg)
{
    sley_scope s;
    void *scope_and_event[] = { &s, arg };

    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_go(end_above_and_hold_on, scope_and_event) == 0);
    return sley_scope_wait(&s, 7, SLEY_FOREVER);
}

/* Closing is not a call that a deadline cuts short: if nobody else was, the result is the body's. */
ON_FIBERS(a_deadline_that_only_met_the_closing_cut_nothing_short)
{
    for (int round = 0; round < 20; round++) {
        sley_event release = { { 0 } };
        struct kid opener, releaser;
        void *opener_and_event[] = { &opener, &release };
        sley_scope s;

        sley_scope_init(&s, SLEY_FOREVER);
        kid_starts(&opener, close_over_a_deadline, &release);
        kid_starts(&releaser, let_go, opener_and_event);
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && opener.result == 7);
    }
}

/* --- cancelling itself ------------------------------------------------------------------------------------------------------ */

ON_FIBERS(a_cancel_has_effect_once)
{
    struct kid kid;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    kid_starts(&kid, sleep_for_ever, NULL);
    kid_parks(&kid);
    for (int i = 0; i < 5; i++)
        sley_scope_cancel(&s);
    sley_scope_set_deadline(&s, SLEY_NOW); /* what cancelled it first is the cause */
    sley_scope_set_deadline(&s, sley_after(3600 * SLEY_S));
    sley_scope_set_deadline(&s, SLEY_FOREVER);
    EXPECT(sley_yield() == -ECANCELED);
    EXPECT(sley_scope_wait(&s, 0, SLEY_NOW) == 0 && kid.result == -ECANCELED);
}

ON_FIBERS(a_cancelled_scope_that_cut_nothing_short_returns_what_its_body_did)
{
    sley_scope s;

    for (int rc = 0; rc < 3; rc++) {
        sley_scope_init(&s, SLEY_FOREVER);
        EXPECT(sley_go(return_number, number(5)) == 0);
        sley_scope_cancel(&s);
        EXPECT(sley_scope_wait(&s, rc, SLEY_FOREVER) == rc);
        sley_scope_init(&s, SLEY_NOW);
        EXPECT(sley_go(return_number, number(5)) == 0);
        EXPECT(sley_scope_wait(&s, rc, SLEY_FOREVER) == rc);
    }
}

static int in_a_scope_that_waits_for(void *arg)
{
    return sley_scope_run(do_nothing_but_wait, arg, SLEY_FOREVER);
}

/* Siblings of a scope go on when it is cancelled, and so does what lives in the scopes above it. */
ON_FIBERS(a_cancel_goes_down_and_nowhere_else)
{
    struct kid above, beside, below;
    sley_event release = { { 0 } };
    sley_scope outer, s;

    sley_scope_init(&outer, SLEY_FOREVER);
    kid_starts(&above, do_nothing_but_wait, &release);
    kid_starts(&beside, in_a_scope_that_waits_for, &release);
    sley_scope_init(&s, SLEY_FOREVER);
    kid_starts(&below, sleep_for_ever, NULL);
    kid_parks(&above);
    kid_parks(&beside);
    kid_parks(&below);
    sley_scope_cancel(&s);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && below.result == -ECANCELED);
    EXPECT(!above.done && !beside.done && sley_yield() == 0);
    sley_event_set(&release);
    EXPECT(sley_scope_wait(&outer, 0, SLEY_FOREVER) == 0 && above.result == 0 && beside.result == 0);
}

/* --- deadlines -------------------------------------------------------------------------------------------------------------- */

ON_FIBERS(a_deadline_cuts_short_body_and_children_and_is_reported_where_the_scope_is_closed)
{
    for (int who = 1; who <= 3; who++) {
        sley_time deadline = sley_after(2 * SLEY_MS);
        struct kid kid;
        sley_scope s;
        int rc = 6;

        sley_scope_init(&s, deadline);
        if (who & 1)
            kid_starts(&kid, in_a_scope_of_its_own, number(EVENT));
        if (who & 2)
            rc = sley_sleep(SLEY_FOREVER);
        EXPECT(rc == (who & 2 ? -ECANCELED : 6));
        EXPECT(sley_scope_wait(&s, rc, SLEY_FOREVER) == -ETIMEDOUT);
        EXPECT(sley_now() >= deadline && sley_cancelled() == 0);
        EXPECT(!(who & 1) || kid.result == -ECANCELED);
    }
}

/* Whether the cut call's result was passed on or not. */
ON_FIBERS(a_deadline_that_cut_a_call_short_is_reported_whatever_became_of_the_call)
{
    sley_scope s;

    sley_scope_init(&s, SLEY_NOW);
    EXPECT(sley_yield() == -ECANCELED);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == -ETIMEDOUT);
    sley_scope_init(&s, sley_after(-1));
    EXPECT(sley_cancelled() == -ECANCELED);
    EXPECT(sley_scope_wait(&s, 8, SLEY_FOREVER) == -ETIMEDOUT);
    sley_scope_init(&s, SLEY_NOW);
    EXPECT(sley_scope_run(sleep_for_ever, NULL, SLEY_FOREVER) == -ECANCELED); /* deep inside */
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == -ETIMEDOUT);
}

static int compute_until_cancelled(void *arg)
{
    while (sley_cancelled() == 0)
        ++*(unsigned long *)arg;
    return sley_cancelled();
}

static int pass_messages_to_oneself(void *arg)
{
    sley_chan *ch = arg;
    int v = 0, rc;

    while ((rc = sley_chan_send(ch, &v, SLEY_FOREVER)) >= 0 && (rc = sley_chan_recv(ch, &v, SLEY_FOREVER)) >= 0)
        ;
    return rc;
}

static int try_again_and_again(void *arg)
{
    int v, rc;

    while ((rc = sley_chan_recv(arg, &v, SLEY_NOW)) == -ETIMEDOUT)
        ;
    return rc;
}

static int wait_for_what_is_set(void *arg)
{
    int rc;

    while ((rc = sley_event_wait(arg, SLEY_FOREVER)) == 0)
        ;
    return rc;
}

/* With nobody to look at the timers but the one who does not come to it: as many of them as there are workers, or more. */
static int keep_all_busy(void *arg)
{
    sley_event set = { { 0 } };
    sley_scope s;
    unsigned long rounds[20] = { 0 };
    sley_chan *ch[20];

    sley_event_set(&set);
    for (int i = 0; i < 20; i++)
        ch[i] = sley_chan_create(sizeof(int), 2);
    sley_scope_init(&s, SLEY_FOREVER);
    for (int i = 0; i < 20; i++) {
        struct kid *kids = arg;

        switch (i % 4) {
        case 0: kid_starts(&kids[i], compute_until_cancelled, &rounds[i]); break;
        case 1: kid_starts(&kids[i], pass_messages_to_oneself, ch[i]); break;
        case 2: kid_starts(&kids[i], try_again_and_again, ch[i]); break;
        default: kid_starts(&kids[i], wait_for_what_is_set, &set); break;
        }
    }
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == -ECANCELED);
    for (int i = 0; i < 20; i++)
        sley_chan_destroy(ch[i]);
    return -ECANCELED;
}

ON_FIBERS(a_deadline_is_noticed_by_who_never_waits)
{
    struct kid kids[20];
    unsigned long rounds = 0;

    EXPECT(sley_scope_run(compute_until_cancelled, &rounds, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_scope_run(keep_all_busy, kids, sley_after(SLEY_MS)) == -ETIMEDOUT);
    for (int i = 0; i < 20; i++)
        EXPECT(kids[i].done && kids[i].result == -ECANCELED);
}

ON_FIBERS(the_nearest_deadline_of_nested_scopes_counts)
{
    sley_scope outer, inner;
    sley_time soon = sley_after(SLEY_MS);

    sley_scope_init(&outer, soon);
    sley_scope_init(&inner, sley_after(3600 * SLEY_S));
    EXPECT(sley_sleep(SLEY_FOREVER) == -ECANCELED && sley_now() >= soon);
    EXPECT(sley_scope_wait(&inner, -ECANCELED, SLEY_FOREVER) == -ECANCELED);
    EXPECT(sley_scope_wait(&outer, -ECANCELED, SLEY_FOREVER) == -ETIMEDOUT);

    soon = sley_after(SLEY_MS);
    sley_scope_init(&outer, sley_after(3600 * SLEY_S));
    sley_scope_init(&inner, soon);
    EXPECT(sley_sleep(SLEY_FOREVER) == -ECANCELED && sley_now() >= soon);
    EXPECT(sley_scope_wait(&inner, -ECANCELED, SLEY_FOREVER) == -ETIMEDOUT);
    EXPECT(sley_yield() == 0 && sley_sleep(1) == 0);
    EXPECT(sley_scope_wait(&outer, 0, SLEY_FOREVER) == 0);
}

/* A call's own deadline and its scope's are told apart. */
ON_FIBERS(a_calls_own_deadline_is_its_own)
{
    sley_event never = { { 0 } };
    sley_scope s;

    sley_scope_init(&s, sley_after(3600 * SLEY_S));
    EXPECT(sley_event_wait(&never, sley_after(SLEY_US)) == -ETIMEDOUT && sley_event_wait(&never, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_cancelled() == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    sley_scope_init(&s, SLEY_NOW);
    EXPECT(sley_event_wait(&never, sley_after(3600 * SLEY_S)) == -ECANCELED);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == -ETIMEDOUT);
}

ON_FIBERS(a_deadline_moves_both_ways)
{
    sley_scope s;

    for (int round = 0; round < 20; round++) {
        sley_time first = sley_after(20 * SLEY_MS), second = round % 2 ? SLEY_FOREVER : sley_after(3600 * SLEY_S);

        sley_scope_init(&s, first);
        sley_scope_set_deadline(&s, second); /* later */
        if (sley_now() < first && round < 2) { /* it was moved in time */
            EXPECT(sley_sleep_until(first + SLEY_MS) == 0);
            EXPECT(sley_cancelled() == 0);
        }
        sley_scope_set_deadline(&s, sley_after(50 * SLEY_US)); /* sooner */
        EXPECT(sley_sleep(SLEY_FOREVER) == -ECANCELED);
        sley_scope_set_deadline(&s, second); /* too late */
        EXPECT(sley_sleep(SLEY_FOREVER) == -ECANCELED);
        EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == -ETIMEDOUT);
    }
}

struct mover {
    sley_scope *s;
    _Atomic(int) stop;
};

static int move_deadline_about(void *arg)
{
    struct mover *m = arg;
    uint64_t random = 1;

    while (!m->stop) {
        sley_scope_set_deadline(m->s, below(&random, 4) ? sley_after((1000 + below(&random, 1000)) * SLEY_S) : SLEY_FOREVER);
        if (sley_self() != 0)
            EXPECT(sley_yield() == 0);
    }
    return 0;
}

ON_FIBERS(fibers_and_threads_may_move_a_deadline_at_once)
{
    for (int round = 0; round < 5; round++) {
        struct actor threads[2];
        struct mover m;
        struct kid kids[2];
        sley_scope outer, s;

        m = (struct mover){ &s, 0 };
        sley_scope_init(&outer, SLEY_FOREVER);
        sley_scope_init(&s, SLEY_FOREVER);
        for (int i = 0; i < 2; i++) {
            actor_start_as(&threads[i], 1, move_deadline_about, &m);
            kid_starts_in(&outer, &kids[i], move_deadline_about, &m);
        }
        for (int i = 0; i < 50; i++)
            EXPECT(sley_yield() == 0);
        EXPECT(sley_cancelled() == 0);
        m.stop = 1;
        for (int i = 0; i < 2; i++) {
            actor_result(&threads[i]);
            kid_ends(&kids[i]);
        }
        sley_scope_set_deadline(&s, sley_after(SLEY_US));
        EXPECT(sley_sleep(SLEY_FOREVER) == -ECANCELED);
        EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == -ETIMEDOUT);
        EXPECT(sley_scope_wait(&outer, 0, SLEY_FOREVER) == 0);
    }
}

/* Scopes whose deadline passes just as they are closed: either is right, and nothing is touched afterwards. */
ON_FIBERS(a_deadline_may_pass_while_the_scope_is_closed)
{
    for (int round = 0; round < 1000; round++) {
        sley_scope s;
        int rc;

        sley_scope_init(&s, sley_after((round % 50) * SLEY_US));
        if (round % 3 == 0)
            sley_go(return_number, NULL);
        if (round % 5 == 0)
            pass();
        rc = sley_scope_wait(&s, 2, SLEY_FOREVER);
        EXPECT(rc == 2);
        memset(&s, 0xee, sizeof s);
        EXPECT(sley_yield() == 0);
        EXPECT(is_untouched(&s, sizeof s));
    }
}

ON_FIBERS(a_passed_grace_cancels_the_children_and_waits_on)
{
    sley_time grace;
    struct kid kid;
    sley_scope s;

    for (int isolated = 0; isolated <= 1; isolated++) {
        if (isolated)
            sley_scope_init_isolated(&s, SLEY_FOREVER);
        else
            sley_scope_init(&s, SLEY_FOREVER);
        kid_starts(&kid, sleep_for_ever, NULL);
        grace = sley_after(SLEY_MS);
        EXPECT(sley_scope_wait(&s, 3, grace) == -ETIMEDOUT && kid.result == -ECANCELED && sley_now() >= grace);
        EXPECT(sley_scope_wait(&s, 3, SLEY_FOREVER) == -ETIMEDOUT);
    }
    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_go(sleep_a_little, NULL) == 0);
    EXPECT(sley_scope_wait(&s, 3, sley_after(3600 * SLEY_S)) == 3); /* in time */
    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_scope_wait(&s, 4, SLEY_NOW) == 4); /* nobody there who needs it */
}

/* Waiting for the end of the children in a select is a wait like others, closing is not. */
ON_FIBERS(a_select_on_the_end_of_a_scope_can_be_cancelled_and_closing_cannot)
{
    sley_event release = { { 0 } };
    struct kid kid;
    sley_scope s;
    sley_case end;

    for (int cancelled = 0; cancelled <= 1; cancelled++) {
        sley_event_reset(&release);
        sley_scope_init(&s, SLEY_FOREVER);
        kid_starts(&kid, shielded_wait_for, &release);
        kid_parks(&kid);
        end = sley_case_scope(&s);
        if (cancelled) {
            sley_scope_cancel(&s);
            EXPECT(sley_select(&end, 1, SLEY_FOREVER) == -ECANCELED && !kid.done);
            sley_event_set(&release);
        } else {
            EXPECT(sley_select(&end, 1, sley_after(SLEY_US)) == -ETIMEDOUT && !kid.done);
            sley_event_set(&release);
            EXPECT(sley_select(&end, 1, SLEY_FOREVER) == 0 && end.result == 0);
        }
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && kid.done && kid.result == 0);
    }
}

/* --- run -------------------------------------------------------------------------------------------------------------------- */

static int start_one_that_fails(void *arg)
{
    EXPECT(sley_go(return_number, arg) == 0);
    return 11;
}

ON_FIBERS(run_is_init_call_and_wait)
{
    EXPECT(sley_scope_run(return_number, number(5), SLEY_FOREVER) == 5);
    EXPECT(sley_scope_run(return_number, number(-EIO), SLEY_FOREVER) == -EIO);
    EXPECT(sley_scope_run(start_one_that_fails, number(0), SLEY_FOREVER) == 11);
    EXPECT(sley_scope_run(start_one_that_fails, number(-EPIPE), SLEY_FOREVER) == -EPIPE);
    EXPECT(sley_scope_run(sleep_for_ever, NULL, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_scope_run(sleep_for_ever, NULL, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_scope_run(return_number, number(5), SLEY_NOW) == 5); /* it waited for nothing */
    EXPECT(sley_scope_run(NULL, NULL, SLEY_FOREVER) == -EINVAL && sley_scope_run(return_number, NULL, 5 * SLEY_MS) == -EINVAL);
    EXPECT(sley_scope_run(return_number, NULL, -1) == -EINVAL);
    EXPECT(sley_cancelled() == 0);
}

/* --- shields ---------------------------------------------------------------------------------------------------------------- */

ON_FIBERS(a_shield_keeps_cancellation_away_until_it_ends)
{
    sley_event never = { { 0 } };
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    sley_shield_begin();
    sley_scope_cancel(&s);
    EXPECT(sley_cancelled() == 0 && sley_yield() == 0 && sley_sleep(1) == 0 && sley_event_wait(&never, sley_after(SLEY_US)) == -ETIMEDOUT);
    sley_shield_begin(); /* they nest */
    sley_shield_end();
    EXPECT(sley_cancelled() == 0 && sley_yield() == 0);
    sley_shield_end();
    EXPECT(sley_cancelled() == -ECANCELED && sley_yield() == -ECANCELED && sley_sleep(1) == -ECANCELED);
    sley_shield_begin();
    EXPECT(sley_sleep(1) == 0);
    for (int i = 1; i < 254; i++)
        sley_shield_begin();
    for (int i = 1; i < 254; i++)
        sley_shield_end();
    EXPECT(sley_yield() == 0);
    sley_shield_end();
    EXPECT(sley_event_wait(&never, SLEY_FOREVER) == -ECANCELED);
    EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == 0);
}

static int shielded_wait(void *arg)
{
    int rc;

    sley_shield_begin();
    rc = sley_event_wait(arg, SLEY_FOREVER);
    sley_shield_end();
    EXPECT(sley_sleep(SLEY_FOREVER) == -ECANCELED);
    return rc;
}

ON_FIBERS(a_wait_under_a_shield_is_not_ended_by_a_cancel)
{
    enum { N = 40 };
    sley_event release = { { 0 } };
    struct kid kids[N];
    sley_scope s;

    for (int by_deadline = 0; by_deadline <= 1; by_deadline++) {
        sley_event_reset(&release);
        sley_scope_init(&s, SLEY_FOREVER);
        for (int i = 0; i < N; i++)
            kid_starts(&kids[i], shielded_wait, &release);
        for (int i = 0; i < N; i++)
            kid_parks(&kids[i]);
        if (by_deadline)
            sley_scope_set_deadline(&s, SLEY_NOW);
        else
            sley_scope_cancel(&s);
        for (int i = 0; i < 20; i++)
            pass();
        for (int i = 0; i < N; i++)
            EXPECT(!kids[i].done);
        sley_event_set(&release);
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == (by_deadline ? -ETIMEDOUT : 0));
        for (int i = 0; i < N; i++)
            EXPECT(kids[i].result == 0);
    }
}

ON_FIBERS(scopes_opened_under_a_shield_are_shielded_but_not_from_themselves)
{
    sley_event release = { { 0 } };
    struct kid kid, cut;
    sley_scope outer, s, inner;

    sley_scope_init(&outer, SLEY_FOREVER);
    sley_shield_begin();
    sley_scope_init(&s, SLEY_FOREVER);
    sley_scope_init(&inner, SLEY_FOREVER); /* under it by way of s */
    kid_starts(&kid, do_nothing_but_wait, &release);
    kid_starts_in(&outer, &cut, sleep_for_ever, NULL); /* not in it */
    kid_parks(&kid);
    sley_scope_cancel(&outer);
    kid_ends(&cut);
    EXPECT(cut.result == -ECANCELED && !kid.done && sley_yield() == 0 && sley_sleep(1) == 0);
    sley_event_set(&release);
    EXPECT(sley_scope_wait(&inner, 2, SLEY_FOREVER) == 2 && kid.result == 0);
    EXPECT(sley_yield() == 0);
    sley_scope_cancel(&s); /* its own cancel is no cancel from above */
    EXPECT(sley_yield() == -ECANCELED);
    EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == 0);
    EXPECT(sley_yield() == 0);
    sley_scope_init(&s, SLEY_FOREVER); /* opened after the cancel */
    EXPECT(sley_yield() == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_scope_run(sleep_for_ever, NULL, sley_after(SLEY_MS)) == -ETIMEDOUT);
    sley_shield_end();
    EXPECT(sley_yield() == -ECANCELED);
    sley_scope_init(&s, SLEY_FOREVER); /* and without the shield */
    EXPECT(sley_yield() == -ECANCELED);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_scope_wait(&outer, 0, SLEY_FOREVER) == 0);
}

/* A shield is the fiber's and its new scopes'; what it starts in the scope that is there already is not under it. */
ON_FIBERS(children_started_under_a_shield_stand_where_their_scope_stands)
{
    struct kid kid;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    sley_shield_begin();
    kid_starts(&kid, sleep_for_ever, NULL);
    sley_scope_cancel(&s);
    kid_ends(&kid);
    EXPECT(kid.result == -ECANCELED && sley_yield() == 0);
    sley_shield_end();
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
}

/* A deadline above does not count under a shield, in the calls that never wait either. */
ON_FIBERS(a_shield_keeps_deadlines_away_too)
{
    sley_scope outer, s;
    int v = 0;

    sley_scope_init(&outer, sley_after(SLEY_US));
    sley_shield_begin();
    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_sleep(SLEY_MS) == 0);
    for (int i = 0; i < 200; i++)
        v += sley_cancelled();
    EXPECT(v == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_cancelled() == 0);
    sley_shield_end();
    EXPECT(sley_cancelled() == -ECANCELED);
    EXPECT(sley_scope_wait(&outer, 0, SLEY_FOREVER) == -ETIMEDOUT);
}

/* --- many at once ----------------------------------------------------------------------------------------------------------- */

struct canceller {
    sley_scope *s;
    _Atomic(int) *go;
};

static int cancel_when_told(void *arg)
{
    struct canceller *c = arg;

    while (!*c->go)
        pass();
    sley_scope_cancel(c->s);
    return 0;
}

/* Four scopes inside one another, each with children, all cancelled at once by threads and fibers. */
ON_FIBERS(nested_scopes_may_be_cancelled_from_several_threads_at_once)
{
    enum { DEEP = 4, EACH = 5 };

    for (int round = 0; round < 60; round++) {
        struct kid kids[DEEP][EACH], fibers[DEEP];
        struct actor threads[DEEP];
        struct canceller what[DEEP];
        _Atomic(int) go = 0;
        sley_scope outer, s[DEEP];

        sley_scope_init(&outer, SLEY_FOREVER);
        for (int d = 0; d < DEEP; d++) {
            sley_scope_init(&s[d], SLEY_FOREVER);
            for (int i = 0; i < EACH; i++)
                kid_starts(&kids[d][i], i % 2 ? in_a_scope_of_its_own : wait_twice_as, number(i == 0 ? SLEEP : YIELD));
        }
        for (int d = 0; d < DEEP; d++) {
            what[d] = (struct canceller){ &s[d], &go };
            actor_start_as(&threads[d], 1, cancel_when_told, &what[d]);
            kid_starts_in(&outer, &fibers[d], cancel_when_told, &what[d]);
        }
        go = 1;
        for (int d = 0; d < DEEP; d++) {
            sley_shield_begin();
            actor_result(&threads[d]);
            sley_shield_end();
            kid_ends(&fibers[d]);
        }
        for (int d = DEEP; d-- > 0;)
            EXPECT(sley_scope_wait(&s[d], 0, SLEY_FOREVER) == (d > 0 ? -ECANCELED : 0)); /* all but the first: from above too */
        EXPECT(sley_scope_wait(&outer, 0, SLEY_FOREVER) == 0);
        for (int d = 0; d < DEEP; d++)
            for (int i = 0; i < EACH; i++)
                EXPECT(kids[d][i].result == -ECANCELED);
    }
}

/* Children that open and close scopes of their own without an end, until the outer one is cancelled in the middle of it. */
static int open_and_close(void *arg)
{
    _Atomic(int) *going = arg;

    for (;;) {
        sley_scope s;
        int rc;

        sley_scope_init(&s, SLEY_FOREVER);
        rc = sley_scope_wait(&s, 1, SLEY_FOREVER);
        memset(&s, 0xee, sizeof s);
        EXPECT(rc == 1);
        *going = 1;
        if (sley_cancelled() < 0)
            return 0;
        EXPECT(is_untouched(&s, sizeof s));
        pass();
    }
}

ON_FIBERS(a_cancel_from_above_meets_scopes_that_open_and_close)
{
    for (int round = 0; round < 300; round++) {
        _Atomic(int) going[3] = { 0 };
        sley_scope s;

        sley_scope_init(&s, SLEY_FOREVER);
        for (int i = 0; i < 3; i++)
            EXPECT(sley_go(open_and_close, (void *)&going[i]) == 0);
        while (!going[0] || !going[1] || !going[2])
            pass();
        for (volatile int i = 0; i < round % 100; i++)
            ;
        sley_scope_cancel(&s);
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    }
}

/* Children come while the scope is cancelled: each begins, and each is cancelled. */
struct crowd {
    sley_scope *s;
    _Atomic(int) started, cancelled, stop;
};

static int join_the_crowd(void *arg)
{
    struct crowd *c = arg;

    if (sley_sleep(SLEY_FOREVER) == -ECANCELED)
        c->cancelled++;
    return 0;
}

static int bring_more(void *arg)
{
    struct crowd *c = arg;

    while (!c->stop) {
        if (sley_scope_go(c->s, join_the_crowd, c) == 0)
            c->started++;
        pass();
    }
    return 0;
}

ON_FIBERS(a_cancel_meets_fibers_that_are_being_started)
{
    for (int round = 0; round < 20; round++) {
        struct crowd c = { .stop = 0 };
        struct actor thread;
        struct kid kids[2];
        sley_scope outer, s;

        c.s = &s;
        sley_scope_init(&outer, SLEY_FOREVER);
        sley_scope_init(&s, SLEY_FOREVER);
        for (int i = 0; i < 2; i++)
            kid_starts_in(&outer, &kids[i], bring_more, &c);
        actor_start_as(&thread, 1, bring_more, &c);
        while (c.started < 20 + round)
            EXPECT(sley_yield() == 0);
        sley_scope_cancel(&s);
        while (c.started < 60)
            pass();
        c.stop = 1;
        kid_ends(&kids[0]);
        kid_ends(&kids[1]);
        sley_shield_begin();
        actor_result(&thread);
        sley_shield_end();
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
        EXPECT(sley_scope_wait(&outer, 0, SLEY_FOREVER) == 0);
        EXPECT(c.cancelled == c.started);
    }
}

enum { LEVELS = 10, LEAVES = 1000 };

static struct {
    _Atomic(int) asleep, cancelled, levels_cancelled;
} forest;

static int leaf(void *arg)
{
    int rc;

    (void)arg;
    forest.asleep++;
    rc = sley_sleep(SLEY_FOREVER);
    if (rc == -ECANCELED)
        forest.cancelled++;
    return rc;
}

static int level(void *arg)
{
    int left = *(int *)arg - 1, rc;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    for (int i = 0; i < LEAVES; i++)
        EXPECT(sley_go(leaf, NULL) == 0);
    if (left > 0)
        EXPECT(sley_go_copy(level, &left, sizeof left) == 0);
    rc = sley_scope_wait(&s, 0, SLEY_FOREVER);
    if (rc == -ECANCELED)
        forest.levels_cancelled++;
    return rc;
}

static int by_time(const void *a, const void *b)
{
    sley_time x = *(const sley_time *)a, y = *(const sley_time *)b;

    return x < y ? -1 : x > y;
}

ON_FIBERS(ten_levels_of_a_thousand_children_are_cancelled)
{
    enum { ROUNDS = 5 };
    sley_time took[ROUNDS];

    for (int round = 0; round < ROUNDS; round++) {
        int levels = LEVELS;
        sley_scope s;

        forest.asleep = forest.cancelled = forest.levels_cancelled = 0;
        sley_scope_init(&s, SLEY_FOREVER);
        EXPECT(sley_go_copy(level, &levels, sizeof levels) == 0);
        while (forest.asleep < LEVELS * LEAVES)
            EXPECT(sley_yield() == 0);
        took[round] = sley_now();
        sley_scope_cancel(&s);
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
        took[round] = sley_now() - took[round];
        EXPECT(forest.cancelled == LEVELS * LEAVES && forest.levels_cancelled == LEVELS);
    }
    qsort(took, ROUNDS, sizeof *took, by_time);
    sley_time median = took[ROUNDS / 2];

    print_message("ten levels of 1,000 children: %.1f ms from the cancel to the last end\n", (double)median / 1e6);
}

enum { CHAIN = 1000 };

static int link_of_fibers(void *arg)
{
    int left = *(int *)arg - 1, rc;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    if (left > 0)
        EXPECT(sley_go_copy(link_of_fibers, &left, sizeof left) == 0);
    else
        EXPECT(sley_go(leaf, NULL) == 0);
    rc = sley_scope_wait(&s, 0, SLEY_FOREVER);
    if (rc == -ECANCELED)
        forest.levels_cancelled++;
    return rc;
}

/* The same on one stack: all scopes are open at once, and the innermost body waits. */
static int link_of_frames(int left)
{
    sley_scope s;
    int rc;

    sley_scope_init(&s, SLEY_FOREVER);
    if (left > 1)
        rc = link_of_frames(left - 1);
    else
        rc = leaf(NULL);
    rc = sley_scope_wait(&s, rc, SLEY_FOREVER);
    if (rc == -ECANCELED)
        forest.levels_cancelled++;
    return rc;
}

static int frames(void *arg) { return link_of_frames((int)(intptr_t)arg); }

ON_FIBERS_WITH(a_chain_of_a_thousand_scopes_is_cancelled, (size_t)1 << 20)
{
    for (int round = 0; round < 6; round++) {
        int left = CHAIN;
        sley_scope s;

        forest.asleep = forest.cancelled = forest.levels_cancelled = 0;
        sley_scope_init(&s, SLEY_FOREVER);
        EXPECT(round % 2 ? sley_go(frames, number(CHAIN)) == 0 : sley_go_copy(link_of_fibers, &left, sizeof left) == 0);
        while (forest.asleep < 1)
            EXPECT(sley_yield() == 0);
        if (round < 4)
            sley_scope_cancel(&s);
        EXPECT(sley_scope_wait(&s, 0, round < 4 ? SLEY_FOREVER : SLEY_NOW) == (round < 4 ? 0 : -ETIMEDOUT));
        EXPECT(forest.cancelled == 1 && forest.levels_cancelled == CHAIN);
    }
}

/* Many siblings with scopes of their own, cancelled several times over on the way. */
static int bush(void *arg)
{
    int depth = *(int *)arg - 1, rc;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    for (int i = 0; i < 6; i++)
        EXPECT(depth > 0 ? sley_go_copy(bush, &depth, sizeof depth) == 0 : sley_go(leaf, NULL) == 0);
    rc = sley_sleep(SLEY_FOREVER);
    return sley_scope_wait(&s, rc, SLEY_FOREVER);
}

ON_FIBERS(a_bush_of_scopes_is_cancelled)
{
    for (int round = 0; round < 5; round++) {
        int depth = 4;
        sley_scope s;

        forest.asleep = forest.cancelled = 0;
        sley_scope_init(&s, SLEY_FOREVER);
        EXPECT(sley_go_copy(bush, &depth, sizeof depth) == 0);
        while (forest.asleep < (round % 2 ? 1 : 6 * 6 * 6 * 6)) /* all of it, or in the middle of growing */
            EXPECT(sley_yield() == 0);
        sley_scope_cancel(&s);
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
        EXPECT(forest.cancelled == forest.asleep && forest.asleep == 6 * 6 * 6 * 6);
    }
}

/* --- what closing returns: every combination against a plain reading of the header ------------------------------------------ */

enum reaction { NOBODY, PASSES_ON, SWALLOWS, FAILS, REACTIONS }; /* of a child that is cut short */
enum table_cause { NONE, CALL, DEADLINE, GRACE, ABOVE, CALL_THEN_ABOVE, DEADLINE_THEN_ABOVE, ABOVE_THEN_DEADLINE, TABLE_CAUSES };

struct combination {
    int isolated, body_rc, early, body_waits;
    enum reaction reaction;
    enum table_cause cause;
};

struct reacting {
    enum reaction reaction;
    sley_event *release;
    _Atomic(int) *reacted;
};

static int react(enum reaction reaction, int rc)
{
    return reaction == FAILS ? -ENOSPC : reaction == SWALLOWS ? 0 : rc;
}

static int wait_and_react(void *arg)
{
    struct reacting r = *(struct reacting *)arg;
    int rc = sley_event_wait(r.release, SLEY_FOREVER);

    ++*r.reacted;
    return react(r.reaction, rc);
}

/* What may come out; two, where two errors meet. */
static void read_the_header(const struct combination *c, int result[2], int *reports)
{
    int body_fails, first = 0, second = 0, cancelled, by_deadline, above, cut_body, cut_child;

    *reports = 0;
    if (c->early) {
        if (c->isolated)
            ++*reports;
        else
            first = -EPIPE;
    }
    above = c->cause == ABOVE || c->cause == CALL_THEN_ABOVE || c->cause == DEADLINE_THEN_ABOVE || c->cause == ABOVE_THEN_DEADLINE;
    cancelled = first != 0 || (c->cause != NONE && c->cause != GRACE); /* when it is closed */
    body_fails = c->body_rc < 0 && !(c->body_rc == -ECANCELED && cancelled);
    if (first == 0 && body_fails)
        first = c->body_rc;
    if (c->reaction == FAILS) {
        if (c->isolated)
            ++*reports;
        else if (first == 0)
            first = -ENOSPC;
        else if (cancelled && !c->early)
            second = -ENOSPC; /* body and child fail side by side */
        else if (c->cause == NONE)
            second = -ENOSPC;
    }
    if (c->early && !c->isolated)
        second = 0;
    result[0] = first;
    result[1] = second != 0 ? second : first;
    if (first != 0)
        return;
    /* No error. Was a call cut short, and by whom? */
    by_deadline = c->cause == DEADLINE || c->cause == GRACE || c->cause == DEADLINE_THEN_ABOVE;
    cut_child = c->cause != NONE && c->reaction != NOBODY;
    cut_body = c->cause != NONE && c->cause != GRACE && c->body_waits;
    if (above && ((cut_child && c->reaction == PASSES_ON) || c->body_rc == -ECANCELED))
        result[0] = -ECANCELED;
    else if (by_deadline && (cut_child || cut_body || c->body_rc == -ECANCELED))
        result[0] = -ETIMEDOUT;
    else
        result[0] = c->body_rc == -ECANCELED ? 0 : c->body_rc;
    result[1] = result[0];
}

static void try_combination(const struct combination *c)
{
    sley_event release = { { 0 } };
    _Atomic(int) reacted = 0;
    struct reacting r = { c->reaction, &release, &reacted };
    sley_scope outer, s;
    int result, allowed[2], reports, rc, ok;

    read_the_header(c, allowed, &reports);
    forget_reports();
    sley_scope_init(&outer, SLEY_FOREVER);
    if (c->isolated)
        sley_scope_init_isolated(&s, SLEY_FOREVER);
    else
        sley_scope_init(&s, SLEY_FOREVER);
    if (c->reaction != NOBODY)
        EXPECT(sley_go_copy(wait_and_react, &r, sizeof r) == 0);
    if (c->early) {
        EXPECT(sley_go(return_number, number(-EPIPE)) == 0);
        while (c->isolated ? reported.count == 0 : sley_cancelled() == 0)
            pass();
    }
    switch (c->cause) {
    case NONE: sley_event_set(&release); break;
    case GRACE: break;
    case ABOVE: sley_scope_cancel(&outer); break;
    case CALL:
    case CALL_THEN_ABOVE: sley_scope_cancel(&s); break;
    case ABOVE_THEN_DEADLINE: sley_scope_cancel(&outer); sley_scope_set_deadline(&s, SLEY_NOW); break;
    default: sley_scope_set_deadline(&s, SLEY_NOW); break;
    }
    while (c->cause != GRACE && c->reaction != NOBODY && reacted == 0)
        pass();
    if (c->cause == CALL_THEN_ABOVE || c->cause == DEADLINE_THEN_ABOVE)
        sley_scope_cancel(&outer);
    if (c->body_waits) {
        int is_cancelled = (c->early && !c->isolated) || (c->cause != NONE && c->cause != GRACE);
        int may_be = c->cause == NONE && c->reaction == FAILS && !c->isolated; /* the child's error is on its way */
        rc = sley_sleep(SLEY_US);
        EXPECT(rc == (is_cancelled ? -ECANCELED : 0) || (may_be && rc == -ECANCELED));
    }
    result = sley_scope_wait(&s, c->body_rc, c->cause == GRACE ? SLEY_NOW : SLEY_FOREVER);
    ok = result == allowed[0] || result == allowed[1];
    if (!ok)
        print_error("isolated %d, body %d, early %d, body waits %d, child %d, cause %d: %d, not %d\n", c->isolated, c->body_rc, c->early,
                    c->body_waits, (int)c->reaction, (int)c->cause, result, allowed[0]);
    EXPECT(ok);
    EXPECT(reported.count == reports);
    EXPECT(sley_scope_wait(&s, 77, SLEY_NOW) == result);
    rc = sley_scope_wait(&outer, result == -ECANCELED ? result : 0, SLEY_FOREVER);
    EXPECT(rc == 0 || (rc == -ECANCELED && c->cause != ABOVE)); /* who was cancelled absorbs it; an error that says so is passed on */
    EXPECT(sley_cancelled() == 0);
}

ON_FIBERS(closing_returns_what_the_header_says)
{
    static const int body_rcs[] = { 0, 7, -EIO, -ECANCELED };
    struct combination c;

    for (c.isolated = 0; c.isolated <= 1; c.isolated++)
        for (int rc = 0; rc < 4; rc++)
            for (c.early = 0; c.early <= 1; c.early++)
                for (c.body_waits = 0; c.body_waits <= 1; c.body_waits++)
                    for (int reaction = 0; reaction < REACTIONS; reaction++)
                        for (int cause = 0; cause < TABLE_CAUSES; cause++) {
                            c.body_rc = body_rcs[rc];
                            c.reaction = (enum reaction)reaction;
                            c.cause = (enum table_cause)cause;
                            try_combination(&c);
                        }
}

/* --- one fiber, scopes inside scopes, and a model of them that knows no concurrency ----------------------------------------- */

enum { DEPTH = 7, KIDS = 6, SCRIPTS = 400, SCRIPT_STEPS = 60 };

struct model_kid {
    enum reaction reaction;
    int in_own_scope;
    sley_event *never;
    _Atomic(int) *reacted;
};

struct model_scope {
    int isolated, shielded, shields, cancelled, by_deadline, cut, cut_child, error, other_error;
    int kids[REACTIONS]; /* that wait in it, by what they will do */
};

struct model {
    struct model_scope at[DEPTH + 1]; /* 0: the one that the test runs in */
    int depth, reacted, reports;
};

static void model_cut(struct model *m, int d) /* a call in scope d is refused: noted wherever the cancel came through */
{
    m->at[d].cut = 1;
    while (d > 0 && !m->at[d].shielded && m->at[d - 1].cancelled)
        m->at[--d].cut = 1;
}

static void model_error(struct model_scope *s, int rc)
{
    if (s->error == 0)
        s->error = rc;
    else if (s->other_error == 0)
        s->other_error = rc;
}

static void model_react(struct model *m, int d, enum reaction reaction)
{
    struct model_scope *s = &m->at[d];

    m->reacted++;
    model_cut(m, d);
    if (reaction == PASSES_ON)
        s->cut_child = 1;
    else if (reaction == FAILS && s->isolated)
        m->reports++;
    else if (reaction == FAILS)
        model_error(s, -ENOSPC);
}

static void model_cancel(struct model *m, int d, int by_deadline)
{
    if (m->at[d].cancelled)
        return;
    m->at[d].cancelled = 1;
    m->at[d].by_deadline = by_deadline;
    for (int i = d + 1; i <= m->depth && !m->at[i].shielded; i++)
        m->at[i].cancelled = 1;
    for (int i = d; i <= m->depth; i++)
        for (int r = 0; m->at[i].cancelled && r < REACTIONS; r++)
            while (m->at[i].kids[r] > 0) {
                m->at[i].kids[r]--;
                model_react(m, i, (enum reaction)r);
            }
}

static int model_close(struct model *m, int rc, int *other)
{
    struct model_scope *s = &m->at[m->depth];
    int above = !s->shielded && m->at[m->depth - 1].cancelled, left = 0, result;

    if (rc < 0 && !(rc == -ECANCELED && s->cancelled)) {
        model_error(s, rc);
        model_cancel(m, m->depth, 0);
    }
    for (int r = 0; r < REACTIONS; r++)
        left += s->kids[r];
    if (left > 0)
        model_cancel(m, m->depth, 1); /* the test gives them no grace */
    if (rc == -ECANCELED)
        s->cut_child = 1;
    if (s->error != 0)
        result = s->error;
    else if (!s->cancelled)
        result = rc;
    else if (above && s->cut_child)
        result = -ECANCELED;
    else if (s->by_deadline && (s->cut || s->cut_child))
        result = -ETIMEDOUT;
    else
        result = rc == -ECANCELED ? 0 : rc;
    *other = s->other_error != 0 ? s->other_error : result;
    m->depth--;
    return result;
}

static int wait_for_nothing(void *arg) { return sley_event_wait(arg, SLEY_FOREVER); }

static int model_kid_main(void *arg)
{
    struct model_kid k = *(struct model_kid *)arg;
    int rc = k.in_own_scope ? sley_scope_run(wait_for_nothing, k.never, SLEY_FOREVER) : sley_event_wait(k.never, SLEY_FOREVER);

    ++*k.reacted;
    return react(k.reaction, rc);
}

static int probe(uint32_t how, sley_event *never, sley_chan *empty)
{
    int v, rc;

    switch (how) {
    case 0: return sley_yield();
    case 1: return sley_cancelled();
    case 2: return sley_sleep(0);
    case 3: return sley_sleep(1);
    case 4: rc = sley_event_wait(never, sley_after(SLEY_US)); break;
    default: rc = sley_chan_recv(empty, &v, sley_after(SLEY_US)); break;
    }
    return rc == -ETIMEDOUT ? 0 : rc;
}

static void play_script(uint64_t random)
{
    struct model m = { .depth = 0 };
    sley_scope s[DEPTH + 1];
    sley_event never = { { 0 } };
    sley_chan *empty = sley_chan_create(sizeof(int), 1);
    _Atomic(int) reacted = 0;

    forget_reports();
    for (int i = 0; i < SCRIPT_STEPS || m.depth > 0; i++) {
        struct model_scope *top = &m.at[m.depth];
        uint32_t what = i < SCRIPT_STEPS ? below(&random, 16) : 3;
        int d = m.depth > 0 ? 1 + (int)below(&random, (uint32_t)m.depth) : 0;

        if (what < 3 && m.depth < DEPTH) {
            int isolated = below(&random, 3) == 0;
            struct model_scope *above = top;
            top = &m.at[++m.depth];
            *top = (struct model_scope){ .isolated = isolated, .shielded = above->shields > 0 };
            top->cancelled = above->cancelled && !top->shielded;
            if (isolated)
                sley_scope_init_isolated(&s[m.depth], SLEY_FOREVER);
            else
                sley_scope_init(&s[m.depth], SLEY_FOREVER);
        } else if (what < 5 && m.depth > 0) {
            static const int rcs[] = { 0, 5, -EIO, -ECANCELED };
            int rc = rcs[below(&random, 4)], expected, other, got;
            for (; top->shields > 0; top->shields--)
                sley_shield_end();
            expected = model_close(&m, rc, &other);
            got = sley_scope_wait(&s[m.depth + 1], rc, SLEY_NOW);
            if (got != expected && got != other)
                print_error("step %d, scope %d closed with %d: %d, not %d\n", i, m.depth + 1, rc, got, expected);
            EXPECT(got == expected || got == other);
        } else if (what < 7 && d > 0) {
            int by_deadline = below(&random, 2) == 0;
            model_cancel(&m, d, by_deadline);
            if (by_deadline)
                sley_scope_set_deadline(&s[d], SLEY_NOW);
            else
                sley_scope_cancel(&s[d]);
        } else if (what == 7 && d > 0) {
            sley_scope_set_deadline(&s[d], below(&random, 2) ? SLEY_FOREVER : sley_after((1000 + below(&random, 1000)) * SLEY_S));
        } else if (what == 8) {
            top->shields++;
            sley_shield_begin();
        } else if (what == 9 && top->shields > 0) {
            top->shields--;
            sley_shield_end();
        } else if (what < 13 && d > 0) {
            struct model_kid k = { (enum reaction)(1 + below(&random, REACTIONS - 1)), (int)below(&random, 2), &never, &reacted };
            EXPECT(sley_scope_go_copy(&s[d], model_kid_main, &k, sizeof k) == 0);
            if (m.at[d].cancelled)
                model_react(&m, d, k.reaction);
            else
                m.at[d].kids[k.reaction]++;
        } else {
            int refused = top->cancelled && top->shields == 0;
            if (refused)
                model_cut(&m, m.depth);
            EXPECT(probe(below(&random, 6), &never, empty) == (refused ? -ECANCELED : 0));
        }
        while (reacted < m.reacted)
            pass();
        EXPECT(reacted == m.reacted);
    }
    for (; m.at[0].shields > 0; m.at[0].shields--)
        sley_shield_end();
    EXPECT(reported.count == m.reports);
    EXPECT(sley_cancelled() == 0);
    sley_event_fini(&never);
    sley_chan_destroy(empty);
}

static uint64_t script_seed;

ON_FIBERS(random_scripts_agree_with_a_model_without_concurrency_body)
{
    for (int i = 0; i < SCRIPTS && scene.unmet == NULL; i++)
        play_script(mix(script_seed + (uint64_t)i));
}

static void random_scripts_agree_with_a_model_without_concurrency(void **state)
{
    script_seed = test_seed();
    random_scripts_agree_with_a_model_without_concurrency_body(state);
}

/* --- the runtime's own scope ------------------------------------------------------------------------------------------------ */

struct home {
    _Atomic(int) started, ended;
    int result_of_root_fiber, starter_saw;
    struct kid in_root;
};

static int outlive_the_starter(void *arg)
{
    struct home *h = arg;

    h->started = 1;
    h->result_of_root_fiber = sley_sleep(SLEY_FOREVER);
    h->ended = 1;
    return -EIO;
}

static int start_in_root(void *arg)
{
    return sley_scope_go(sley_scope_root(), outlive_the_starter, arg);
}

static int leave_one_behind(void *arg)
{
    struct home *h = arg;

    EXPECT(sley_scope_run(start_in_root, h, SLEY_FOREVER) == 0); /* and it does not wait for that one */
    while (!h->started)
        EXPECT(sley_yield() == 0);
    EXPECT(!h->ended);
    return 21;
}

static void what_lives_in_the_root_scope_is_cancelled_when_the_function_has_ended(void **state)
{
    struct home h = { .started = 0 };

    (void)state;
    scene.unmet = NULL;
    forget_reports();
    assert_int_equal(sley_run(&(sley_options){ .on_error = on_error }, leave_one_behind, &h), 21);
    assert_null(scene.unmet);
    assert_int_equal(h.ended, 1);
    assert_int_equal(h.result_of_root_fiber, -ECANCELED);
    assert_int_equal(reported.count, 1); /* its error goes to on_error, and nowhere else */
    assert_int_equal(reported.error, -EIO);
}

static int start_late(void *arg)
{
    for (int i = 0; i < 50; i++)
        EXPECT(sley_yield() == 0);
    ++*(_Atomic(int) *)arg;
    return 0;
}

static int start_and_leave(void *arg)
{
    for (int i = 0; i < 20; i++)
        EXPECT(sley_go(start_late, arg) == 0);
    return 13;
}

static void run_waits_for_what_its_function_has_started(void **state)
{
    _Atomic(int) ended = 0;

    (void)state;
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, start_and_leave, (void *)&ended), 13);
    assert_null(scene.unmet);
    assert_int_equal(ended, 20);
}

static int cancel_everything(void *arg)
{
    struct kid kid;
    int rc;

    (void)arg;
    kid_starts(&kid, sleep_for_ever, NULL);
    kid_parks(&kid);
    sley_scope_cancel(sley_scope_root());
    kid_ends(&kid);
    EXPECT(kid.result == -ECANCELED);
    rc = sley_sleep(SLEY_FOREVER);
    EXPECT(rc == -ECANCELED);
    return rc;
}

static void the_root_scope_may_be_cancelled_by_the_program(void **state)
{
    (void)state;
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, cancel_everything, NULL), -ECANCELED); /* it came from above the function's scope */
    assert_null(scene.unmet);
}

static int hold_out(void *arg)
{
    _Atomic(int) *release = arg;

    sley_shield_begin();
    ++*release;
    while (*release < 2)
        EXPECT(sley_yield() == 0);
    sley_shield_end();
    EXPECT(sley_yield() == -ECANCELED);
    return 0;
}

static void stopping_waits_for_shields_as_long_as_it_is_told_to(void **state)
{
    _Atomic(int) release = 0;
    sley_options options = { .drain_ns = SLEY_MS };
    int old = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    sley_runtime *rt;

    (void)state;
    scene.unmet = NULL;
    assert_int_equal(sley_runtime_create(&rt, &options), 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    assert_int_equal(sley_runtime_submit(rt, hold_out, (void *)&release), 0);
    while (release < 1)
        sched_yield();
    dup2(null, STDERR_FILENO); /* it lists who is left; what it says: test_scope_misuse.c */
    assert_int_equal(sley_runtime_stop(rt, SLEY_NOW), -EBUSY);
    dup2(old, STDERR_FILENO);
    close(old);
    close(null);
    release = 2;
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    sley_runtime_destroy(rt);
    assert_null(scene.unmet);
}

struct asleep {
    _Atomic(sley_scope *) scope;
    _Atomic(struct sl_fiber *) block;
    _Atomic(int) result;
};

static int sleep_in_a_scope(void *arg)
{
    struct asleep *a = arg;
    sley_scope s;
    int rc;

    sley_scope_init(&s, SLEY_FOREVER);
    a->block = sl_current();
    a->scope = &s;
    rc = sley_sleep(SLEY_FOREVER);
    a->result = sley_scope_wait(&s, rc, SLEY_FOREVER);
    return 0;
}

/* Nothing runs any more, and the workers sleep until a timer that was not there: they must be told. */
static void a_thread_may_set_a_deadline_while_all_workers_sleep(void **state)
{
    sley_runtime *rt;

    (void)state;
    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    for (int round = 0; round < 40; round++) {
        struct asleep a = { .result = 0 };

        assert_int_equal(sley_runtime_submit(rt, sleep_in_a_scope, &a), 0);
        while (a.scope == NULL || SL_WORD_STATE(sl_load_acquire(&a.block->word)) != SL_WAITING)
            sched_yield();
        for (int i = 0; i < round * 50; i++)
            sched_yield();
        sley_scope_set_deadline(a.scope, sley_after((round % 4) * 100 * SLEY_US + 1));
        while (a.result == 0)
            sched_yield();
        assert_int_equal(a.result, -ETIMEDOUT);
    }
    sley_runtime_destroy(rt);
}

/* --- attached threads ------------------------------------------------------------------------------------------------------- */

struct attached {
    sley_runtime *rt;
    sley_event release;
    _Atomic(struct sl_fiber *) block;
    int under_shield, after, cancelled;
};

static void *wait_attached(void *arg)
{
    struct attached *a = arg;

    sley_runtime_attach(a->rt);
    sley_shield_begin();
    a->block = sl_current();
    a->under_shield = sley_event_wait(&a->release, SLEY_FOREVER);
    sley_shield_end();
    a->cancelled = sley_cancelled();
    a->after = sley_sleep(SLEY_FOREVER);
    sley_runtime_detach();
    if (sley_cancelled() != 0 || sley_yield() != 0)
        a->after = 1;
    return NULL;
}

static void a_shield_on_an_attached_thread_outlasts_the_stop(void **state)
{
    struct attached a = { .rt = NULL };
    pthread_t thread;

    (void)state;
    assert_int_equal(sley_runtime_create(&a.rt, NULL), 0);
    assert_int_equal(sley_runtime_start(a.rt), 0);
    assert_int_equal(pthread_create(&thread, NULL, wait_attached, &a), 0);
    while (a.block == NULL || SL_WORD_STATE(sl_load_acquire(&a.block->word)) != SL_WAITING)
        sched_yield();
    assert_int_equal(sley_runtime_stop(a.rt, SLEY_FOREVER), 0);
    assert_int_equal(SL_WORD_STATE(sl_load_acquire(&a.block->word)), SL_WAITING);
    sley_event_set(&a.release);
    assert_int_equal(pthread_join(thread, NULL), 0);
    sley_runtime_destroy(a.rt);
    assert_int_equal(a.under_shield, 0);
    assert_int_equal(a.cancelled, -ECANCELED);
    assert_int_equal(a.after, -ECANCELED);
}

enum { ATTACHED = 8 };

static void *attach_and_wait(void *arg)
{
    struct attached *a = arg;

    for (int i = 0; i < 50; i++) { /* in and out of the root scope's list while fibers come and go */
        sley_runtime_attach(a->rt);
        sley_runtime_detach();
    }
    sley_runtime_attach(a->rt);
    a->block = sl_current();
    a->after = sley_event_wait(&a->release, SLEY_FOREVER);
    sley_runtime_detach();
    return NULL;
}

static void every_attached_thread_is_told_of_the_stop(void **state)
{
    struct attached a[ATTACHED];
    pthread_t threads[ATTACHED];
    sley_runtime *rt;

    (void)state;
    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    for (int i = 0; i < ATTACHED; i++) {
        a[i] = (struct attached){ .rt = rt };
        assert_int_equal(pthread_create(&threads[i], NULL, attach_and_wait, &a[i]), 0);
    }
    for (int i = 0; i < 200; i++)
        assert_int_equal(sley_runtime_submit(rt, return_number, NULL), 0);
    for (int i = 0; i < ATTACHED; i++) /* at any moment of its way there: no need for it to wait already */
        while (i % 2 && (a[i].block == NULL || SL_WORD_STATE(sl_load_acquire(&a[i].block->word)) != SL_WAITING))
            sched_yield();
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    for (int i = 0; i < ATTACHED; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(a[i].after, -ECANCELED);
    }
    sley_runtime_destroy(rt);
}

/* --- what it costs ---------------------------------------------------------------------------------------------------------- */

static _Atomic(long) allocations;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *p, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *p, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);

static _Atomic(size_t) refused_bytes; /* an allocation of so many fails */

void *__wrap_malloc(size_t bytes)
{
    allocations++;
    return bytes == refused_bytes && bytes > 0 ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes) { allocations++; return __real_calloc(n, bytes); }
void *__wrap_realloc(void *p, size_t bytes) { allocations++; return __real_realloc(p, bytes); }
void *__wrap_aligned_alloc(size_t alignment, size_t bytes) { allocations++; return __real_aligned_alloc(alignment, bytes); }

static void use_scopes(sley_time deadline)
{
    sley_scope s, inner;

    sley_scope_init(&s, deadline);
    sley_scope_set_deadline(&s, sley_after(1800 * SLEY_S));
    sley_scope_init_isolated(&inner, deadline);
    for (int i = 0; i < 10; i++)
        EXPECT(sley_go(sleep_for_ever, NULL) == 0 && sley_scope_go_copy(&s, sleep_for_ever, &i, sizeof i) == 0);
    sley_shield_begin();
    sley_shield_end();
    EXPECT(sley_scope_run(return_number, number(1), deadline) == 1);
    sley_scope_cancel(&s);
    EXPECT(sley_scope_wait(&inner, 0, SLEY_FOREVER) == -ECANCELED);
    EXPECT(sley_scope_wait(&s, 0, deadline) == 0);
}

static int use_scopes_twice(void *arg)
{
    sley_time deadline = sley_after(3600 * SLEY_S);
    long before;

    (void)arg;
    for (int i = 0; i < 20; i++)
        use_scopes(deadline); /* blocks of fibers, their stacks, and places in the heap of timers are there from now on */
    before = allocations;
    for (int i = 0; i < 100; i++)
        use_scopes(deadline);
    return (int)(allocations - before);
}

static void a_scope_costs_no_allocation(void **state)
{
    (void)state;
    scene.unmet = NULL;
    assert_int_equal(sley_run(&(sley_options){ .workers = 1 }, use_scopes_twice, NULL), 0);
    assert_null(scene.unmet);
    assert_int_equal(sizeof(sley_scope), 160);
}

/* Who waits for the scope need not look at what sley_go returned. */
ON_FIBERS(a_child_that_cannot_be_started_is_an_error_of_the_scope)
{
    enum { BYTES = 937 };
    char arg[BYTES] = { 0 };
    struct kid kid;
    sley_scope s;

    for (int how = 0; how < 4; how++) {
        int isolated = how % 2, by_name = how / 2, rc;

        forget_reports();
        if (isolated)
            sley_scope_init_isolated(&s, SLEY_FOREVER);
        else
            sley_scope_init(&s, SLEY_FOREVER);
        kid_starts(&kid, sleep_for_ever, NULL);
        kid_parks(&kid);
        refused_bytes = BYTES;
        rc = by_name ? sley_scope_go_copy(&s, return_zero, arg, BYTES) : sley_go_copy(return_zero, arg, BYTES);
        refused_bytes = 0;
        EXPECT(rc == -ENOMEM);
        EXPECT(sley_cancelled() == (isolated ? 0 : -ECANCELED));
        if (isolated) {
            EXPECT(reported.count == 1 && reported.error == -ENOMEM && reported.fiber == 0);
            sley_scope_cancel(&s);
        }
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == (isolated ? 0 : -ENOMEM));
        EXPECT(kid.result == -ECANCELED);
    }
}

int main(void)
{
#define T(test) cmocka_unit_test(test)
    const struct CMUnitTest tests[] = {
        T(init_makes_a_scope_the_current_one_and_wait_the_outer_one_again),
        T(a_plain_thread_has_no_current_scope_and_an_attached_one_a_root),
        T(wait_returns_when_all_children_have_ended),
        T(children_may_start_more_while_the_opener_waits),
        T(fibers_threads_and_other_runtimes_start_children),
        T(scope_go_copies_and_refuses_as_go_does),
        T(no_argument_turns_a_fibers_timer_into_a_scopes),
        T(the_memory_of_a_closed_scope_is_not_touched),
        T(children_of_a_cancelled_scope_begin_and_find_it_cancelled),
        T(the_first_child_that_fails_cancels_the_scope),
        T(later_errors_do_not_replace_the_first),
        T(an_error_of_the_body_cancels_the_children),
        T(a_cancelled_that_nobody_caused_is_an_error),
        T(an_isolated_scope_reports_errors_and_stops_nobody),
        T(every_wait_in_a_cancelled_scope_is_refused),
        T(every_wait_under_way_ends_with_its_scope),
        T(every_wait_that_is_just_beginning_ends_with_its_scope),
        T(a_wait_may_be_cancelled_at_any_moment_of_its_beginning),
        T(a_cancel_at_the_kth_wait_keeps_what_came_before_and_refuses_what_comes_after),
        T(calls_that_need_not_wait_go_on_and_the_64th_of_them_is_refused),
        T(calls_that_give_something_back_are_never_refused),
        T(closing_waits_however_often_it_is_cancelled),
        T(a_deadline_that_only_met_the_closing_cut_nothing_short),
        T(a_cancel_has_effect_once),
        T(a_cancelled_scope_that_cut_nothing_short_returns_what_its_body_did),
        T(a_cancel_goes_down_and_nowhere_else),
        T(a_deadline_cuts_short_body_and_children_and_is_reported_where_the_scope_is_closed),
        T(a_deadline_that_cut_a_call_short_is_reported_whatever_became_of_the_call),
        T(a_deadline_is_noticed_by_who_never_waits),
        T(the_nearest_deadline_of_nested_scopes_counts),
        T(a_calls_own_deadline_is_its_own),
        T(a_deadline_moves_both_ways),
        T(fibers_and_threads_may_move_a_deadline_at_once),
        T(a_deadline_may_pass_while_the_scope_is_closed),
        T(a_passed_grace_cancels_the_children_and_waits_on),
        T(a_select_on_the_end_of_a_scope_can_be_cancelled_and_closing_cannot),
        T(run_is_init_call_and_wait),
        T(a_shield_keeps_cancellation_away_until_it_ends),
        T(a_wait_under_a_shield_is_not_ended_by_a_cancel),
        T(scopes_opened_under_a_shield_are_shielded_but_not_from_themselves),
        T(children_started_under_a_shield_stand_where_their_scope_stands),
        T(a_shield_keeps_deadlines_away_too),
        T(nested_scopes_may_be_cancelled_from_several_threads_at_once),
        T(a_cancel_from_above_meets_scopes_that_open_and_close),
        T(a_cancel_meets_fibers_that_are_being_started),
        T(ten_levels_of_a_thousand_children_are_cancelled),
        T(a_chain_of_a_thousand_scopes_is_cancelled),
        T(a_bush_of_scopes_is_cancelled),
        T(closing_returns_what_the_header_says),
        T(random_scripts_agree_with_a_model_without_concurrency),
        T(what_lives_in_the_root_scope_is_cancelled_when_the_function_has_ended),
        T(run_waits_for_what_its_function_has_started),
        T(the_root_scope_may_be_cancelled_by_the_program),
        T(stopping_waits_for_shields_as_long_as_it_is_told_to),
        T(a_thread_may_set_a_deadline_while_all_workers_sleep),
        T(a_shield_on_an_attached_thread_outlasts_the_stop),
        T(every_attached_thread_is_told_of_the_stop),
        T(a_scope_costs_no_allocation),
        T(a_child_that_cannot_be_started_is_an_error_of_the_scope),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
