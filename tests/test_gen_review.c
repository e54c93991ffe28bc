/* test_gen_review.c - generators where they meet the rest: threads that attach and detach, hand-over, closing by force, scopes and shields
 * that move, deadlines. */
#include "scenario.h"

static void play_on_fibers(void (*body)(void))
{
    scene.cast = casts[0]; /* all on fibers */
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, play_body, &body), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

/* Defines the cmocka test `name`, which plays the body that follows on a fiber. */
#define ON_FIBERS(name) \
    static void name##_body(void); \
    static void name(void **state) { (void)state; play_on_fibers(name##_body); } \
    static void name##_body(void)

static int count_up(void *arg)
{
    int x = 0, rc;

    (void)arg;
    while ((rc = sley_gen_yield(&x, NULL)) >= 0)
        x++;
    return rc;
}

static void generator_of_an_attached_thread_outlives_the_runtime(void **state)
{
    sley_runtime *rt;
    sley_gen *begun, *fresh;
    int x = -1;

    (void)state;
    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    assert_int_equal(sley_runtime_attach(rt), 0);
    begun = sley_gen_create(count_up, NULL, sizeof x);
    fresh = sley_gen_create(count_up, NULL, sizeof x);
    assert_int_equal(sley_gen_next(begun, &x), 1);
    sley_runtime_detach();
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    sley_runtime_destroy(rt);

    assert_int_equal(sley_gen_next(begun, &x), 1);
    assert_int_equal(x, 1);
    assert_int_equal(sley_gen_next(fresh, &x), 1);
    assert_int_equal(x, 0);
    sley_gen_destroy(begun);
    sley_gen_destroy(fresh);
}

/* ---- hand-over ---- */

static int resume_twice_and_close(void *arg)
{
    sley_gen *g = arg;
    int x = -1;

    EXPECT(sley_gen_adopt(g) == 0);
    EXPECT(sley_gen_next(g, &x) == 1 && x == 2);
    EXPECT(sley_gen_yield(&x, NULL) == -EPERM); /* in nobody's body */
    EXPECT(sley_gen_next(g, &x) == 1 && x == 3);
    EXPECT(sley_gen_close(g) == 0);
    EXPECT(sley_gen_yield(&x, NULL) == -EPERM);
    return 0;
}

/* g gives 1, 2, 3. Its first owner takes the first and goes on; another fiber takes the rest. */
static void hand_over(sley_gen *g)
{
    struct actor second;
    int x = -1;

    EXPECT(sley_gen_next(g, &x) == 1 && x == 1);
    EXPECT(sley_gen_release(g) == 0);
    actor_start(&second, resume_twice_and_close, g);
    EXPECT(actor_result(&second) == 0);
    EXPECT(sley_gen_yield(&x, NULL) == -EPERM);
    sley_gen_destroy(g);
}

ON_FIBERS(generator_of_a_channel_can_be_handed_over)
{
    sley_chan *ch = sley_chan_create(sizeof(int), 3);

    for (int i = 1; i <= 3; i++)
        EXPECT(sley_chan_send(ch, &i, SLEY_FOREVER) == 0);
    hand_over(sley_gen_from_chan(ch));
    sley_chan_destroy(ch);
}

static int one_two_three(void *arg)
{
    int rc = 0;

    (void)arg;
    for (int i = 1; i <= 3 && rc >= 0; i++)
        rc = sley_gen_yield(&i, NULL);
    return rc;
}

/* A body that delegates, and whose inner generator goes with it. */
static struct {
    sley_gen *inner;
} delegation;

static int delegate(void *arg)
{
    (void)arg;
    return sley_gen_yield_from(delegation.inner);
}

static int adopt_both(void *arg)
{
    EXPECT(sley_gen_adopt(delegation.inner) == 0);
    return resume_twice_and_close(arg);
}

ON_FIBERS(generator_that_delegates_can_be_handed_over_with_the_inner_one)
{
    sley_gen *outer = sley_gen_create(delegate, NULL, sizeof(int));
    struct actor second;
    int x = -1;

    delegation.inner = sley_gen_create(one_two_three, NULL, sizeof(int));
    EXPECT(sley_gen_next(outer, &x) == 1 && x == 1);
    EXPECT(sley_gen_release(delegation.inner) == 0 && sley_gen_release(outer) == 0);
    actor_start(&second, adopt_both, outer);
    EXPECT(actor_result(&second) == 0);
    EXPECT(sley_gen_yield(&x, NULL) == -EPERM);
    sley_gen_destroy(outer);
    sley_gen_destroy(delegation.inner);
}

/* The body is on a large stack when it is handed over, and returns from it in a fiber of another scope. */
static int count_on_a_big_stack(void *arg)
{
    int rc = sley_on_big_stack(one_two_three, arg, 64 << 10);

    EXPECT(sley_yield() == 0); /* saved with the bounds of the body's own stack */
    return rc;
}

static int resume_to_the_end(void *arg)
{
    sley_gen *g = arg;
    sley_scope s;
    int x = -1;

    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_gen_adopt(g) == 0);
    while (sley_gen_next(g, &x) > 0)
        ;
    EXPECT(x == 3 && sley_gen_result(g) == 0);
    return sley_scope_wait(&s, 0, SLEY_FOREVER);
}

ON_FIBERS(generator_can_be_handed_over_on_a_big_stack)
{
    sley_gen *g = sley_gen_create(count_on_a_big_stack, NULL, sizeof(int));
    struct actor second;
    sley_scope s;
    int x = -1;

    EXPECT(sley_gen_next(g, &x) == 1 && x == 1);
    EXPECT(sley_gen_release(g) == 0);
    sley_scope_init(&s, SLEY_FOREVER); /* the first owner goes on elsewhere */
    actor_start(&second, resume_to_the_end, g);
    EXPECT(actor_result(&second) == 0);
    EXPECT(sley_yield() == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    sley_gen_destroy(g);
}

/* ---- errors that nobody asks for ---- */

static char said[4096];

static void note_line(void *ctx, const char *line)
{
    (void)ctx;
    strncat(said, line, sizeof said - strlen(said) - 2);
    strcat(said, "\n");
}

static int fail_when_closed(void *arg)
{
    return sley_gen_yield(arg, NULL) < 0 ? -EIO : 0;
}

static int leave_one_unfinished(void *arg)
{
    int x = 1;
    sley_gen **g = arg;

    sley_fiber_set_name("careless");
    *g = sley_gen_create(fail_when_closed, &x, sizeof x);
    return sley_gen_next(*g, NULL) == 1 ? 0 : -EINVAL;
}

static void *leave_one_unfinished_on_a_thread(void *rt)
{
    int x = 1;
    sley_gen *g = sley_gen_create(fail_when_closed, &x, sizeof x);

    sley_runtime_attach(rt);
    (void)!sley_gen_next(g, NULL);
    sley_gen_destroy(g);
    sley_runtime_detach();
    return NULL;
}

static void error_of_a_generator_that_nobody_asked_for_is_not_called_a_fibers(void **state)
{
    sley_options options = { .on_log = note_line };
    sley_gen *g = NULL;
    sley_runtime *rt;
    pthread_t thread;

    (void)state;
    said[0] = '\0';
    assert_int_equal(sley_run(&options, leave_one_unfinished, &g), 0);
    sley_gen_destroy(g);
    assert_non_null(strstr(said, "of fiber "));
    assert_non_null(strstr(said, " \"careless\" has ended with error 5, and nobody asked for it"));

    said[0] = '\0';
    assert_int_equal(sley_runtime_create(&rt, &options), 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    assert_int_equal(pthread_create(&thread, NULL, leave_one_unfinished_on_a_thread, rt), 0);
    pthread_join(thread, NULL);
    sley_runtime_destroy(rt);
    assert_non_null(strstr(said, "a plain thread's generator "));
    assert_null(strstr(said, "could not be started"));
}

/* ---- forked children ---- */

static int status_of(pid_t child)
{
    int status;

    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void plain_threads_generator_goes_on_in_a_forked_child(void **state)
{
    sley_gen *begun, *fresh;
    sley_runtime *rt;
    int x = -1;
    pid_t pid;

    (void)state;
#ifdef SL_ASAN
    skip(); /* its allocator may be held by a thread that the child does not have */
#endif
    begun = sley_gen_create(count_up, NULL, sizeof(int));
    fresh = sley_gen_create(count_up, NULL, sizeof(int));
    assert_int_equal(sley_runtime_create(&rt, NULL), 0); /* from here on forks are watched */
    assert_int_equal(sley_runtime_start(rt), 0);
    assert_int_equal(sley_runtime_attach(rt), 0);
    assert_int_equal(sley_gen_next(begun, &x), 1);
    pid = fork();
    if (pid == 0) {
        bool good = sley_gen_next(begun, &x) == 1 && x == 1 && sley_gen_next(fresh, &x) == 1 && x == 0;

        sley_gen_destroy(begun);
        sley_gen_destroy(fresh);
        _exit(good && sley_runtime_current() == NULL ? 0 : 1);
    }
    assert_int_equal(status_of(pid), 0);
    assert_int_equal(sley_gen_next(begun, &x), 1);
    assert_int_equal(x, 1);
    sley_gen_destroy(begun);
    sley_gen_destroy(fresh);
    sley_runtime_detach();
    sley_runtime_destroy(rt);
}

static sley_gen *parents;

static int try_in_a_forked_child(void *arg)
{
    int x = -1;
    pid_t pid;

    (void)arg;
#ifdef SL_ASAN
    return 0; /* as above */
#endif
    pid = fork();
    if (pid == 0) {
        sley_gen *own = sley_gen_create(count_up, NULL, sizeof x);
        bool good = sley_gen_next(parents, &x) == -ECHILD && sley_gen_close(parents) == -ECHILD && sley_gen_release(parents) == -ECHILD &&
                    sley_gen_yield(&x, NULL) == -ECHILD && sley_gen_yield_from(own) == -ECHILD && sley_gen_next(own, &x) == 1 && x == 0;

        sley_gen_destroy(own);
        sley_gen_destroy(parents);
        _exit(good ? 0 : 1);
    }
    EXPECT(status_of(pid) == 0);
    return 0;
}

ON_FIBERS(fibers_generators_are_of_no_use_in_a_forked_child)
{
    sley_gen *forking = sley_gen_create(try_in_a_forked_child, NULL, sizeof(int));

    parents = sley_gen_create(count_up, NULL, sizeof(int));
    EXPECT(sley_gen_next(parents, NULL) == 1);
    try_in_a_forked_child(NULL);
    EXPECT(sley_gen_next(forking, NULL) == 0);
    EXPECT(sley_gen_next(parents, NULL) == 1);
    sley_gen_destroy(forking);
    sley_gen_destroy(parents);
}

/* ---- several fibers ---- */

static int sum_of_four(void *arg)
{
    int sum = 0;

    for (int round = 0; round < 3; round++) {
        sley_gen *g = sley_gen_create(count_up, NULL, sizeof(int));
        int x;

        for (int i = 0; i < 4; i++) {
            EXPECT(sley_gen_next(g, &x) == 1);
            sum += x;
            give_way();
        }
        sley_gen_destroy(g);
    }
    *(int *)arg = sum;
    return 0;
}

ON_FIBERS(generators_of_several_fibers_take_their_stacks_from_one_worker)
{
    struct actor actors[8];
    int sums[8] = { 0 };

    for (int i = 0; i < 8; i++)
        actor_start(&actors[i], sum_of_four, &sums[i]);
    for (int i = 0; i < 8; i++)
        EXPECT(actor_result(&actors[i]) == 0 && sums[i] == 3 * 6);
}

/* ---- closing by force ---- */

static int yield_on_and_on(void *arg)
{
    int x = 1;

    (void)arg;
    for (;;)
        (void)!sley_gen_yield(&x, NULL);
    return 0;
}

ON_FIBERS(generator_that_goes_no_further_is_closed_for_every_call)
{
    sley_scope s;
    sley_gen *g, *other;
    int x = -1;

    sley_scope_init(&s, SLEY_FOREVER);
    g = sley_gen_create(yield_on_and_on, NULL, sizeof x);
    EXPECT(sley_gen_next(g, &x) == 1 && x == 1);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    other = sley_gen_create(count_up, NULL, sizeof x); /* on the stack that the first one had */
    EXPECT(sley_gen_next(other, &x) == 1 && x == 0);

    x = -1;
    EXPECT(sley_gen_state(g) == SLEY_GEN_CLOSED && sley_gen_result(g) == -EPROTO);
    EXPECT(sley_gen_next(g, &x) == 0 && sley_gen_send(g, &x, &x) == 0 && sley_gen_close(g) == 0);
    EXPECT(sley_gen_throw(g, -EIO, &x) == -EIO);
    EXPECT(x == -1);
    EXPECT(sley_gen_next(other, &x) == 1 && x == 1);
    sley_gen_destroy(other);
    sley_gen_destroy(g);
}

/* ---- scopes and shields that move ---- */

static struct {
    sley_mutex mutex;
    sley_event locked, never;
} held;

static int hold_until_cancelled(void *arg)
{
    int rc;

    (void)arg;
    EXPECT(sley_mutex_lock(&held.mutex, SLEY_FOREVER) == 0);
    sley_event_set(&held.locked);
    rc = sley_event_wait(&held.never, SLEY_FOREVER);
    sley_mutex_unlock(&held.mutex);
    return rc;
}

/* Yields with a scope open in which a child holds the mutex until it is cancelled. */
static int lend_a_child(void *arg)
{
    sley_scope s;
    int x = 1, rc;

    if (arg != NULL)
        sley_shield_begin();
    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_go(hold_until_cancelled, NULL) == 0);
    EXPECT(sley_event_wait(&held.locked, SLEY_FOREVER) == 0);
    rc = sley_gen_yield(&x, NULL);
    rc = sley_scope_wait(&s, rc, SLEY_FOREVER);
    if (arg != NULL)
        sley_shield_end();
    return rc;
}

ON_FIBERS(shield_of_a_consumer_ends_with_the_resume_for_the_bodys_children)
{
    sley_scope s;
    sley_gen *g;
    int x = -1;

    held.locked = held.never = (sley_event){ 0 };
    sley_scope_init(&s, SLEY_FOREVER);
    g = sley_gen_create(lend_a_child, NULL, sizeof x);
    sley_shield_begin();
    EXPECT(sley_gen_next(g, &x) == 1 && x == 1);
    sley_shield_end();
    sley_scope_cancel(&s);
    EXPECT(sley_mutex_lock(&held.mutex, SLEY_FOREVER) == 0); /* for ever, if the cancel did not reach who holds it */
    sley_mutex_unlock(&held.mutex);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    sley_gen_destroy(g);
}

ON_FIBERS(shield_that_a_body_began_around_its_scope_lasts_while_it_is_suspended)
{
    sley_scope s;
    sley_gen *g;
    int x = -1, shield = 1;

    held.locked = held.never = (sley_event){ 0 };
    sley_scope_init(&s, SLEY_FOREVER);
    g = sley_gen_create(lend_a_child, &shield, sizeof x);
    EXPECT(sley_gen_next(g, &x) == 1 && x == 1);
    sley_scope_cancel(&s);
    for (int i = 0; i < 100; i++)
        EXPECT(sley_yield() == -ECANCELED);
    EXPECT(sley_mutex_lock(&held.mutex, SLEY_NOW) == -ETIMEDOUT); /* it is held still */
    EXPECT(sley_gen_close(g) == 0); /* the body's error cancels its scope */
    EXPECT(sley_mutex_lock(&held.mutex, SLEY_NOW) == 0);
    sley_mutex_unlock(&held.mutex);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    sley_gen_destroy(g);
}

/* Its scope is cancelled from around in the first resume; it waits in the second. */
static int wait_in_the_second_resume(void *arg)
{
    sley_scope s;
    int rc;

    sley_scope_init(&s, SLEY_FOREVER);
    sley_scope_cancel(arg);
    rc = sley_gen_yield(NULL, NULL);
    EXPECT(rc == 0);
    rc = sley_sleep(1000 * SLEY_S);
    EXPECT(rc == -ECANCELED);
    return sley_scope_wait(&s, rc, SLEY_FOREVER);
}

ON_FIBERS(cancel_from_around_in_an_earlier_resume_stays_one_from_above)
{
    for (int shielded = 0; shielded < 2; shielded++) {
        sley_scope s;
        sley_gen *g = sley_gen_create(wait_in_the_second_resume, &s, 0);

        sley_scope_init(&s, SLEY_FOREVER);
        EXPECT(sley_gen_next(g, NULL) == 1);
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
        if (shielded)
            sley_shield_begin();
        EXPECT(sley_gen_next(g, NULL) == -ECANCELED);
        if (shielded)
            sley_shield_end();
        sley_gen_destroy(g);
    }
}

/* ---- closing in a scope that is cancelled ---- */

enum scope_end { CANCELLED, OUT_OF_TIME };

/* Round after round, each in a scope that is cancelled before the round's yield, and another scope inside. */
static int rounds(void *arg)
{
    int x = 0, rc = 0;

    for (; rc >= 0; x++) {
        sley_scope outer, inner;

        sley_scope_init(&outer, SLEY_FOREVER);
        sley_scope_init(&inner, SLEY_FOREVER);
        if (*(enum scope_end *)arg == CANCELLED)
            sley_scope_cancel(&outer);
        else
            sley_scope_set_deadline(&outer, sley_now());
        rc = sley_gen_yield(&x, NULL);
        rc = sley_scope_wait(&inner, rc, SLEY_FOREVER);
        rc = sley_scope_wait(&outer, rc, SLEY_FOREVER);
    }
    EXPECT(rc == -ECANCELED);
    /* Those opened since are nothing special: their own cancel ends with them. */
    sley_scope s;
    sley_scope_init(&s, SLEY_FOREVER);
    sley_scope_cancel(&s);
    EXPECT(sley_scope_wait(&s, sley_sleep(SLEY_S), SLEY_FOREVER) == 0);
    return rc;
}

ON_FIBERS(body_is_told_to_close_through_its_own_cancelled_scopes)
{
    for (enum scope_end end = CANCELLED; end <= OUT_OF_TIME; end++) {
        sley_gen *g = sley_gen_create(rounds, &end, sizeof(int));
        int x = -1;

        EXPECT(sley_gen_next(g, &x) == 1 && x == 0);
        EXPECT(sley_gen_next(g, &x) == 1 && x == 1);
        EXPECT(sley_gen_close(g) == 0);
        EXPECT(sley_gen_result(g) == -ECANCELED);
        sley_gen_destroy(g);
    }
}

/* ---- deadlines around ---- */

static int compute_until_cancelled(void *arg)
{
    (void)arg;
    while (sley_cancelled() == 0)
        ;
    return -ECANCELED;
}

static int nap_and_say_nothing(void *arg)
{
    (void)arg;
    (void)!sley_sleep(1000 * SLEY_S);
    return 0;
}

/* A body, or a function, with a child in a scope of its own. */
static int with_a_child(void *arg)
{
    sley_scope s;
    int rc;

    sley_scope_init(&s, SLEY_FOREVER);
    rc = sley_go(*(sley_fn **)arg, NULL);
    return sley_scope_wait(&s, rc, SLEY_FOREVER);
}

ON_FIBERS(deadline_around_a_body_reaches_a_child_of_its_scope_that_computes)
{
    sley_fn *child = compute_until_cancelled;
    sley_scope s;
    sley_gen *g;

    sley_scope_init(&s, sley_after(SLEY_MS));
    g = sley_gen_create(with_a_child, &child, 0);
    EXPECT(sley_gen_next(g, NULL) == -ECANCELED);
    EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == -ETIMEDOUT);
    sley_gen_destroy(g);
}

ON_FIBERS(deadline_around_a_body_that_cut_a_child_of_its_scope_short_is_told)
{
    sley_fn *child = nap_and_say_nothing;

    for (int in_a_body = 0; in_a_body < 2; in_a_body++) {
        sley_scope s;
        sley_gen *g;
        int rc;

        sley_scope_init(&s, sley_after(SLEY_MS));
        g = sley_gen_create(with_a_child, &child, 0);
        rc = in_a_body ? sley_gen_next(g, NULL) : with_a_child(&child);
        EXPECT(rc == 0);
        EXPECT(sley_scope_wait(&s, rc, SLEY_FOREVER) == -ETIMEDOUT);
        sley_gen_destroy(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generator_of_an_attached_thread_outlives_the_runtime),
        cmocka_unit_test(generator_of_a_channel_can_be_handed_over),
        cmocka_unit_test(generator_that_delegates_can_be_handed_over_with_the_inner_one),
        cmocka_unit_test(generator_can_be_handed_over_on_a_big_stack),
        cmocka_unit_test(error_of_a_generator_that_nobody_asked_for_is_not_called_a_fibers),
        cmocka_unit_test(plain_threads_generator_goes_on_in_a_forked_child),
        cmocka_unit_test(fibers_generators_are_of_no_use_in_a_forked_child),
        cmocka_unit_test(generators_of_several_fibers_take_their_stacks_from_one_worker),
        cmocka_unit_test(generator_that_goes_no_further_is_closed_for_every_call),
        cmocka_unit_test(shield_of_a_consumer_ends_with_the_resume_for_the_bodys_children),
        cmocka_unit_test(shield_that_a_body_began_around_its_scope_lasts_while_it_is_suspended),
        cmocka_unit_test(cancel_from_around_in_an_earlier_resume_stays_one_from_above),
        cmocka_unit_test(body_is_told_to_close_through_its_own_cancelled_scopes),
        cmocka_unit_test(deadline_around_a_body_reaches_a_child_of_its_scope_that_computes),
        cmocka_unit_test(deadline_around_a_body_that_cut_a_child_of_its_scope_short_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
