/* test_sem.c - semaphores: permits are counted, go to who has waited longest, and are neither lost nor doubled by deadlines and cancels. */
#include "scenario.h"

struct call {
    struct actor actor;
    sley_sem *s;
    sley_time deadline;
};

static int do_wait(void *arg)
{
    struct call *c = arg;
    return sley_sem_wait(c->s, c->deadline);
}

static void waiting(struct call *c, sley_sem *s)
{
    c->s = s;
    c->deadline = SLEY_FOREVER;
    actor_start(&c->actor, do_wait, c);
    actor_waits(&c->actor);
}

static int result(struct call *c) { return actor_result(&c->actor); }

SCENARIO(sem_of_zeroed_memory_has_no_permits)
{
    sley_sem s = { { 0 } };

    EXPECT(sley_sem_wait(&s, SLEY_NOW) == -ETIMEDOUT);
    sley_sem_post(&s);
    EXPECT(sley_sem_wait(&s, SLEY_NOW) == 0 && sley_sem_wait(&s, SLEY_NOW) == -ETIMEDOUT);
    sley_sem_fini(&s);
}

SCENARIO(sem_has_the_permits_it_was_given)
{
    sley_sem s;

    memset(&s, 0xee, sizeof s);
    sley_sem_init(&s, 3);
    for (int i = 0; i < 3; i++)
        EXPECT(sley_sem_wait(&s, i % 2 == 0 ? SLEY_FOREVER : SLEY_NOW) == 0);
    EXPECT(sley_sem_wait(&s, SLEY_NOW) == -ETIMEDOUT);
    for (int i = 0; i < 5; i++)
        sley_sem_post(&s);
    for (int i = 0; i < 5; i++)
        EXPECT(sley_sem_wait(&s, SLEY_NOW) == 0);
    EXPECT(sley_sem_wait(&s, SLEY_NOW) == -ETIMEDOUT);
    sley_sem_fini(&s);
}

SCENARIO(sem_counts_up_to_the_largest_number)
{
    sley_sem s;

    sley_sem_init(&s, UINT32_MAX - 1);
    sley_sem_post(&s);
    EXPECT(sley_sem_wait(&s, SLEY_NOW) == 0);
    sley_sem_post(&s);
    sley_sem_fini(&s);
}

/* Whose turn it is stands before the post: the first that came, and nobody else until the next one. */
SCENARIO(sem_permits_go_to_who_has_waited_longest)
{
    enum { WAITERS = 5 };
    struct call c[WAITERS];
    sley_sem s = { { 0 } };

    for (int i = 0; i < WAITERS; i++)
        waiting(&c[i], &s);
    for (int i = 0; i < WAITERS; i++) {
        sley_sem_post(&s);
        EXPECT(sley_sem_wait(&s, SLEY_NOW) == -ETIMEDOUT); /* it is no longer anybody's to take */
        EXPECT(result(&c[i]) == 0);
        for (int later = i + 1; later < WAITERS; later++)
            EXPECT(!c[later].actor.done);
    }
    sley_sem_fini(&s);
}

SCENARIO(sem_wait_ends_at_its_deadline_and_has_taken_nothing)
{
    sley_sem s = { { 0 } };
    sley_time deadline = sley_after(2 * SLEY_MS);

    EXPECT(sley_sem_wait(&s, deadline) == -ETIMEDOUT);
    EXPECT(sley_now() >= deadline);
    EXPECT(sley_sem_wait(&s, deadline) == -ETIMEDOUT);
    sley_sem_fini(&s); /* nobody is left in its list */
    sley_sem_post(&s);
    EXPECT(sley_sem_wait(&s, deadline) == 0); /* what need not wait does not ask the time */
    EXPECT(sley_sem_wait(&s, SLEY_NOW) == -ETIMEDOUT);
}

/* One that gave up stands between two that did not. */
SCENARIO(sem_permit_passes_by_who_has_given_up)
{
    struct call first, hasty = { .deadline = sley_after(2 * SLEY_MS) }, last;
    sley_sem s = { { 0 } };

    waiting(&first, &s);
    hasty.s = &s;
    actor_start(&hasty.actor, do_wait, &hasty);
    actor_waits_or_ended(&hasty.actor);
    waiting(&last, &s);
    EXPECT(result(&hasty) == -ETIMEDOUT);
    sley_sem_post(&s);
    sley_sem_post(&s);
    EXPECT(result(&first) == 0 && result(&last) == 0);
    EXPECT(sley_sem_wait(&s, SLEY_NOW) == -ETIMEDOUT);
    sley_sem_fini(&s);
}

SCENARIO(sem_refuses_bad_arguments)
{
    sley_sem s;

    sley_sem_init(&s, 1);
    EXPECT(sley_sem_wait(&s, 1) == -EINVAL && sley_sem_wait(&s, -1) == -EINVAL && sley_sem_wait(&s, 5 * SLEY_MS) == -EINVAL);
    EXPECT(sley_sem_wait(NULL, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_sem_wait(&s, SLEY_NOW) == 0); /* refused: not taken */
    sley_sem_fini(NULL);
}

static int do_post(void *arg)
{
    sley_sem_post(arg);
    return 0;
}

/* Once the wait has returned the memory is the waiter's, whatever the post still has to do. */
SCENARIO(sem_may_be_freed_by_who_got_the_last_permit)
{
    for (int round = 0; round < 200; round++) {
        sley_sem *s = calloc(1, sizeof *s);
        struct actor poster;

        actor_start(&poster, do_post, s);
        EXPECT(sley_sem_wait(s, SLEY_FOREVER) == 0);
        memset(s, 0xee, sizeof *s);
        EXPECT(actor_result(&poster) == 0);
        EXPECT(is_untouched(s, sizeof *s));
        free(s);
    }
}

static int wait_in_cancelled_scope(void *arg)
{
    sley_sem s;
    sley_scope scope;
    int taken = 0, rc;

    (void)arg;
    sley_sem_init(&s, 1000);
    sley_scope_init(&scope, SLEY_FOREVER);
    sley_scope_cancel(&scope);
    while ((rc = sley_sem_wait(&s, SLEY_FOREVER)) == 0)
        taken++;
    EXPECT(rc == -ECANCELED && taken <= 64);
    sley_shield_begin();
    while (sley_sem_wait(&s, SLEY_NOW) == 0)
        taken++;
    sley_shield_end();
    EXPECT(taken == 1000);
    EXPECT(sley_sem_wait(&s, SLEY_FOREVER) == -ECANCELED);
    EXPECT(sley_scope_wait(&scope, 0, SLEY_FOREVER) == 0);
    return 0;
}

static void sem_wait_that_need_not_wait_notices_a_cancel_in_time(void **state)
{
    (void)state;
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, wait_in_cancelled_scope, NULL), 0);
    assert_null(scene.unmet);
}

static void sem_wait_ends_with_its_runtime(void **state)
{
    (void)state;
    for (int on_thread = 0; on_thread <= 1; on_thread++) {
        sley_sem s = { { 0 } };
        struct call c = { .s = &s, .deadline = SLEY_FOREVER };

        assert_int_equal(result_of_stopped(on_thread, do_wait, &c), -ECANCELED);
        sley_sem_post(&s);
        assert_int_equal(sley_sem_wait(&s, SLEY_NOW), 0);
        sley_sem_fini(&s);
    }
}

static int fini_under_a_waiter(void *arg)
{
    static struct call c;
    static sley_sem s;

    (void)arg;
    scene.cast = FIBERS;
    waiting(&c, &s);
    sley_sem_fini(&s);
    return 0;
}

static int post_without_end(void *arg)
{
    static sley_sem s;

    (void)arg;
    sley_sem_init(&s, UINT32_MAX);
    sley_sem_post(&s);
    return 0;
}

static void sem_fini_while_somebody_waits_aborts(void **state)
{
    (void)state;
    assert_aborts("fini", "sley_sem_fini");
}

static void sem_post_beyond_the_largest_number_aborts(void **state)
{
    (void)state;
    assert_aborts("post", "sley_sem_post");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        PLAYED(sem_of_zeroed_memory_has_no_permits),
        PLAYED(sem_has_the_permits_it_was_given),
        PLAYED(sem_counts_up_to_the_largest_number),
        PLAYED(sem_permits_go_to_who_has_waited_longest),
        PLAYED(sem_wait_ends_at_its_deadline_and_has_taken_nothing),
        PLAYED(sem_permit_passes_by_who_has_given_up),
        PLAYED(sem_refuses_bad_arguments),
        PLAYED(sem_may_be_freed_by_who_got_the_last_permit),
        cmocka_unit_test(sem_wait_that_need_not_wait_notices_a_cancel_in_time),
        cmocka_unit_test(sem_wait_ends_with_its_runtime),
        cmocka_unit_test(sem_fini_while_somebody_waits_aborts),
        cmocka_unit_test(sem_post_beyond_the_largest_number_aborts),
    };

    if (argc > 1 && strcmp(argv[1], "fini") == 0)
        return sley_run(NULL, fini_under_a_waiter, NULL) < 0;
    if (argc > 1 && strcmp(argv[1], "post") == 0)
        return sley_run(NULL, post_without_end, NULL) < 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
