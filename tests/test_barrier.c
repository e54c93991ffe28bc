/* test_barrier.c - barriers: nobody goes on before all have come, one of them is told 1, round after round; who gives up has not come. */
#include "scenario.h"

struct call {
    struct actor actor;
    sley_barrier *b;
    sley_time deadline;
};

static int do_wait(void *arg)
{
    struct call *c = arg;
    return sley_barrier_wait(c->b, c->deadline);
}

static void waiting(struct call *c, sley_barrier *b)
{
    c->b = b;
    c->deadline = SLEY_FOREVER;
    actor_start(&c->actor, do_wait, c);
    actor_waits(&c->actor);
}

static int result(struct call *c) { return actor_result(&c->actor); }

enum { MANY = 3 * SL_WAKE_ALL_BATCH + 5 }; /* more than are woken under one hold of the lock */

SCENARIO(barrier_opens_when_all_have_come)
{
    static struct call c[MANY];
    sley_barrier b;

    memset(&b, 0xee, sizeof b);
    sley_barrier_init(&b, MANY + 1);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++)
            waiting(&c[i], &b);
        for (int i = 0; i < MANY; i++)
            EXPECT(!c[i].actor.done);
        EXPECT(sley_barrier_wait(&b, round % 2 == 0 ? SLEY_FOREVER : SLEY_NOW) == 1); /* the last one */
        for (int i = 0; i < MANY; i++)
            EXPECT(result(&c[i]) == 0);
    }
    sley_barrier_fini(&b);
}

SCENARIO(barrier_of_one_is_always_open)
{
    sley_barrier b;

    sley_barrier_init(&b, 1);
    for (int i = 0; i < 3; i++)
        EXPECT(sley_barrier_wait(&b, SLEY_NOW) == 1 && sley_barrier_wait(&b, SLEY_FOREVER) == 1);
    sley_barrier_fini(&b);
}

SCENARIO(barrier_wait_ends_at_its_deadline_and_has_not_come)
{
    sley_barrier b;
    struct call c;
    sley_time deadline = sley_after(2 * SLEY_MS);

    sley_barrier_init(&b, 2);
    EXPECT(sley_barrier_wait(&b, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_barrier_wait(&b, deadline) == -ETIMEDOUT);
    EXPECT(sley_now() >= deadline);
    sley_barrier_fini(&b); /* nobody is left in its list */
    waiting(&c, &b);
    EXPECT(!c.actor.done);
    EXPECT(sley_barrier_wait(&b, deadline) == 1); /* what need not wait does not ask the time */
    EXPECT(result(&c) == 0);
    EXPECT(sley_barrier_wait(&b, SLEY_NOW) == -ETIMEDOUT);
    sley_barrier_fini(&b);
}

SCENARIO(barrier_lets_others_come_in_the_place_of_who_gave_up)
{
    struct call first, hasty, last;
    sley_barrier b;

    sley_barrier_init(&b, 3);
    waiting(&first, &b);
    hasty = (struct call){ .b = &b, .deadline = sley_after(2 * SLEY_MS) };
    actor_start(&hasty.actor, do_wait, &hasty);
    EXPECT(result(&hasty) == -ETIMEDOUT);
    waiting(&last, &b);
    EXPECT(!first.actor.done);
    EXPECT(sley_barrier_wait(&b, SLEY_NOW) == 1);
    EXPECT(result(&first) == 0 && result(&last) == 0);
    sley_barrier_fini(&b);
}

/* Five at a barrier of three: a round, and two that wait for the next one. */
SCENARIO(barrier_more_than_asked_for_form_the_next_round)
{
    struct call c[5];
    sley_barrier b;
    int leaders = 0, waits = 0;

    sley_barrier_init(&b, 3);
    for (int i = 0; i < 5; i++) {
        c[i] = (struct call){ .b = &b, .deadline = SLEY_FOREVER };
        actor_start(&c[i].actor, do_wait, &c[i]);
    }
    for (int i = 0; i < 5; i++)
        actor_waits_or_ended(&c[i].actor);
    while (waits != 2) { /* three of them are on their way out */
        waits = 0;
        for (int i = 0; i < 5; i++)
            waits += !c[i].actor.done;
        give_way();
    }
    EXPECT(sley_barrier_wait(&b, SLEY_NOW) == 1);
    for (int i = 0; i < 5; i++)
        leaders += result(&c[i]);
    EXPECT(leaders == 1);
    sley_barrier_fini(&b);
}

SCENARIO(barrier_refuses_bad_arguments)
{
    sley_barrier b = { { 0 } };

    EXPECT(sley_barrier_wait(&b, SLEY_FOREVER) == -EINVAL && sley_barrier_wait(NULL, SLEY_FOREVER) == -EINVAL);
    sley_barrier_init(&b, 0);
    EXPECT(sley_barrier_wait(&b, SLEY_NOW) == -EINVAL);
    sley_barrier_init(&b, 1);
    EXPECT(sley_barrier_wait(&b, 1) == -EINVAL && sley_barrier_wait(&b, -1) == -EINVAL && sley_barrier_wait(&b, 5 * SLEY_MS) == -EINVAL);
    sley_barrier_fini(NULL);
}

/* --- many rounds --------------------------------------------------------------------------------------------------------------- */

enum { PARTIES = 5, ROUNDS = 300 };

static struct {
    sley_barrier b;
    _Atomic(int) came[ROUNDS], leaders[ROUNDS];
} race;

static int run_rounds(void *arg)
{
    for (int round = 0; round < ROUNDS; round++) {
        int rc;

        race.came[round]++;
        rc = sley_barrier_wait(&race.b, SLEY_FOREVER);
        EXPECT(rc == 0 || rc == 1);
        EXPECT(race.came[round] == PARTIES);
        race.leaders[round] += rc;
    }
    (void)arg;
    return 0;
}

SCENARIO(barrier_holds_in_every_round)
{
    struct actor a[PARTIES];

    memset(&race, 0, sizeof race);
    sley_barrier_init(&race.b, PARTIES);
    for (int i = 0; i < PARTIES; i++)
        actor_start_as(&a[i], scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && i % 2), run_rounds, NULL);
    for (int i = 0; i < PARTIES; i++)
        EXPECT(actor_result(&a[i]) == 0);
    for (int round = 0; round < ROUNDS; round++)
        EXPECT(race.leaders[round] == 1);
    sley_barrier_fini(&race.b);
}

/* --- cancelling, misuse -------------------------------------------------------------------------------------------------------- */

static void barrier_wait_ends_with_its_runtime_and_has_not_come(void **state)
{
    (void)state;
    for (int on_thread = 0; on_thread <= 1; on_thread++) {
        sley_barrier b;
        struct call c = { .b = &b, .deadline = SLEY_FOREVER };

        sley_barrier_init(&b, 2);
        assert_int_equal(result_of_stopped(on_thread, do_wait, &c), -ECANCELED);
        assert_int_equal(sley_barrier_wait(&b, SLEY_NOW), -ETIMEDOUT);
        sley_barrier_fini(&b);
    }
}

static int fini_under_a_waiter(void *arg)
{
    static struct call c;
    static sley_barrier b;

    (void)arg;
    scene.cast = FIBERS;
    sley_barrier_init(&b, 2);
    waiting(&c, &b);
    sley_barrier_fini(&b);
    return 0;
}

static void barrier_fini_while_somebody_waits_aborts(void **state)
{
    (void)state;
    assert_aborts("fini", "sley_barrier_fini: somebody waits for the barrier");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        PLAYED(barrier_opens_when_all_have_come),
        PLAYED(barrier_of_one_is_always_open),
        PLAYED(barrier_wait_ends_at_its_deadline_and_has_not_come),
        PLAYED(barrier_lets_others_come_in_the_place_of_who_gave_up),
        PLAYED(barrier_more_than_asked_for_form_the_next_round),
        PLAYED(barrier_refuses_bad_arguments),
        PLAYED(barrier_holds_in_every_round),
        cmocka_unit_test(barrier_wait_ends_with_its_runtime_and_has_not_come),
        cmocka_unit_test(barrier_fini_while_somebody_waits_aborts),
    };

    if (argc > 1 && strcmp(argv[1], "fini") == 0)
        return sley_run(&(sley_options){ .workers = 1 }, fini_under_a_waiter, NULL) < 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
