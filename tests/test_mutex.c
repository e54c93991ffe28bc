/* test_mutex.c - mutexes: one at a time, in whose order, deadlines, no cancels, that the mutex may die with the last unlock, misuse. */
#include "scenario.h"

#include "sync/mutex.h"

struct call {
    struct actor actor;
    sley_mutex *m;
    sley_time deadline;
    int *order, place; /* order: how many came before */
};

static int do_lock(void *arg)
{
    struct call *c = arg;
    int rc = sley_mutex_lock(c->m, c->deadline);

    if (rc == 0) {
        if (c->order != NULL)
            c->place = (*c->order)++;
        sley_mutex_unlock(c->m);
    }
    return rc;
}

static void waiting(struct call *c, sley_mutex *m, int *order)
{
    *c = (struct call){ .m = m, .deadline = SLEY_FOREVER, .order = order };
    actor_start(&c->actor, do_lock, c);
    actor_waits(&c->actor);
}

static int result(struct call *c) { return actor_result(&c->actor); }

static void pass(sley_time length)
{
    sley_time end = sley_after(length);

    while (sley_now() < end)
        give_way();
}

/* Nothing of all that waited has stayed behind. */
static int is_quiet(sley_mutex *m)
{
    struct sl_mutex *in = sl_mutex_of(m);

    return in->owner == NULL && in->waiting == SL_MUTEX_NOBODY && !in->woken && in->waiters.head == NULL && in->waiters.tail == NULL;
}

SCENARIO(mutex_of_zeroed_memory_is_unlocked)
{
    sley_mutex m = { { 0 } };

    EXPECT(sley_mutex_lock(&m, SLEY_NOW) == 0);
    sley_mutex_unlock(&m);
    EXPECT(sley_mutex_lock(&m, SLEY_FOREVER) == 0);
    sley_mutex_unlock(&m);
    sley_mutex_fini(&m);
}

static struct {
    sley_mutex m;
    int inside, turns;
} shared;

enum { EACH = 2000, CROWD = 8 };

static int take_turns(void *arg)
{
    for (int i = 0; i < EACH; i++) {
        EXPECT(sley_mutex_lock(&shared.m, SLEY_FOREVER) == 0);
        EXPECT(shared.inside++ == 0);
        if (i % 64 == (int)(intptr_t)arg)
            give_way();
        shared.turns++;
        EXPECT(--shared.inside == 0);
        sley_mutex_unlock(&shared.m);
        if (i % 16 == 0)
            give_way();
    }
    return 0;
}

SCENARIO(mutex_lets_one_in_at_a_time)
{
    struct actor a[CROWD];

    memset(&shared, 0, sizeof shared);
    for (int i = 0; i < CROWD; i++)
        actor_start_as(&a[i], scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && i % 2), take_turns, (void *)(intptr_t)i);
    for (int i = 0; i < CROWD; i++)
        actor_result(&a[i]);
    EXPECT(shared.turns == CROWD * EACH);
    EXPECT(is_quiet(&shared.m));
    sley_mutex_fini(&shared.m);
}

SCENARIO(mutex_is_not_locked_twice_by_its_holder)
{
    sley_mutex m = { { 0 } };

    EXPECT(sley_mutex_lock(&m, SLEY_FOREVER) == 0);
    EXPECT(sley_mutex_lock(&m, SLEY_FOREVER) == -EDEADLK && sley_mutex_lock(&m, SLEY_NOW) == -EDEADLK);
    EXPECT(sley_mutex_lock(&m, sley_after(SLEY_S)) == -EDEADLK);
    sley_mutex_unlock(&m); /* it was locked once */
    sley_mutex_fini(&m);
}

SCENARIO(mutex_lock_ends_at_its_deadline)
{
    struct call hasty = { .deadline = SLEY_NOW }, slow = { .deadline = 0 };
    sley_mutex m = { { 0 } };

    EXPECT(sley_mutex_lock(&m, SLEY_FOREVER) == 0);
    hasty.m = slow.m = &m;
    actor_start(&hasty.actor, do_lock, &hasty);
    EXPECT(result(&hasty) == -ETIMEDOUT);
    slow.deadline = sley_after(2 * SLEY_MS);
    actor_start(&slow.actor, do_lock, &slow);
    EXPECT(result(&slow) == -ETIMEDOUT);
    EXPECT(sley_now() >= slow.deadline);
    actor_start(&slow.actor, do_lock, &slow); /* a time that has passed is like SLEY_NOW */
    EXPECT(result(&slow) == -ETIMEDOUT);
    sley_mutex_unlock(&m);
    EXPECT(is_quiet(&m));
    actor_start(&slow.actor, do_lock, &slow); /* what need not wait does not ask the time */
    EXPECT(result(&slow) == 0);
    sley_mutex_fini(&m);
}

SCENARIO(mutex_refuses_bad_arguments)
{
    sley_mutex m = { { 0 } };

    EXPECT(sley_mutex_lock(&m, 1) == -EINVAL && sley_mutex_lock(&m, -1) == -EINVAL && sley_mutex_lock(&m, 5 * SLEY_MS) == -EINVAL);
    EXPECT(sley_mutex_lock(NULL, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_mutex_lock(&m, SLEY_NOW) == 0); /* refused: not locked */
    sley_mutex_unlock(&m);
    sley_mutex_fini(NULL);
}

/* Each of them has waited for more than a millisecond when it is its turn. */
SCENARIO(mutex_goes_in_order_to_those_that_have_waited_long)
{
    enum { WAITERS = 5 };
    struct call c[WAITERS];
    sley_mutex m = { { 0 } };
    int order = 0;

    EXPECT(sley_mutex_lock(&m, SLEY_FOREVER) == 0);
    for (int i = 0; i < WAITERS; i++)
        waiting(&c[i], &m, &order);
    pass(2 * SLEY_MS);
    sley_mutex_unlock(&m);
    for (int i = 0; i < WAITERS; i++)
        EXPECT(result(&c[i]) == 0 && c[i].place == i);
    EXPECT(is_quiet(&m));
}

static int lock_and_hold(void *arg)
{
    struct call *c = arg;
    return sley_mutex_lock(c->m, SLEY_FOREVER);
}

static struct {
    _Atomic(int) holds, told;
} holder;

static int hold_until_told(void *arg)
{
    struct call *c = arg;
    int rc = lock_and_hold(c);

    holder.holds = 1;
    while (!holder.told)
        give_way();
    sley_mutex_unlock(c->m);
    return rc;
}

/* Not even who unlocks can overtake: at no time is it free. */
SCENARIO(mutex_is_handed_over_to_who_has_waited_long)
{
    struct call c = { .m = NULL };
    sley_mutex m = { { 0 } };

    holder.holds = holder.told = 0;
    EXPECT(sley_mutex_lock(&m, SLEY_FOREVER) == 0);
    c.m = &m;
    actor_start(&c.actor, hold_until_told, &c);
    actor_waits(&c.actor);
    pass(2 * SLEY_MS);
    sley_mutex_unlock(&m);
    EXPECT(sley_mutex_lock(&m, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sl_mutex_of(&m)->owner == c.actor.block);
    holder.told = 1;
    EXPECT(result(&c) == 0);
    EXPECT(is_quiet(&m));
}

/* Who unlocks while somebody has waited for a short time may lock again at once. How long it takes until the waiter has parked is not for
 * this test to say: it tries until it was fast enough. */
SCENARIO(mutex_stays_free_for_the_first_while_nobody_has_waited_long)
{
    sley_mutex m = { { 0 } };
    int again = -ETIMEDOUT;

    while (again != 0) {
        struct call c;

        EXPECT(sley_mutex_lock(&m, SLEY_FOREVER) == 0);
        waiting(&c, &m, NULL);
        sley_mutex_unlock(&m);
        again = sley_mutex_lock(&m, SLEY_NOW);
        if (again == 0)
            sley_mutex_unlock(&m);
        EXPECT(result(&c) == 0); /* it was not forgotten */
    }
    EXPECT(is_quiet(&m));
}

/* The one that was woken loses against who locks again and again, but not for ever. */
SCENARIO(mutex_waiter_gets_its_turn_from_one_that_locks_without_pause)
{
    sley_mutex m = { { 0 } };
    struct call c;

    EXPECT(sley_mutex_lock(&m, SLEY_FOREVER) == 0);
    waiting(&c, &m, NULL);
    while (!c.actor.done) {
        give_way(); /* with the mutex held */
        sley_mutex_unlock(&m);
        EXPECT(sley_mutex_lock(&m, SLEY_FOREVER) == 0);
    }
    sley_mutex_unlock(&m);
    EXPECT(result(&c) == 0 && is_quiet(&m));
}

SCENARIO(mutex_passes_by_who_has_given_up)
{
    struct call first, hasty, last;
    sley_mutex m = { { 0 } };
    int order = 0;

    EXPECT(sley_mutex_lock(&m, SLEY_FOREVER) == 0);
    waiting(&first, &m, &order);
    hasty = (struct call){ .m = &m, .deadline = sley_after(2 * SLEY_MS) };
    actor_start(&hasty.actor, do_lock, &hasty);
    actor_waits_or_ended(&hasty.actor);
    waiting(&last, &m, &order);
    EXPECT(result(&hasty) == -ETIMEDOUT);
    pass(2 * SLEY_MS);
    sley_mutex_unlock(&m);
    EXPECT(result(&first) == 0 && result(&last) == 0 && first.place == 0 && last.place == 1);
    EXPECT(is_quiet(&m));
}

/* Counted objects: who takes the count to zero frees the object, mutex and all, though the other's unlock may not have returned. */
struct counted {
    sley_mutex m;
    int count;
};

static int give_back(void *arg)
{
    struct counted *o = arg;
    int left;

    EXPECT(sley_mutex_lock(&o->m, SLEY_FOREVER) == 0);
    left = --o->count;
    sley_mutex_unlock(&o->m);
    if (left == 0)
        memset(o, 0xee, sizeof *o);
    return left == 0;
}

SCENARIO(mutex_may_be_freed_by_who_locked_it_last)
{
    for (int round = 0; round < 300; round++) {
        struct counted *o = calloc(1, sizeof *o);
        struct actor a[3];
        int last = 0;

        o->count = 3;
        for (int i = 0; i < 3; i++)
            actor_start(&a[i], give_back, o);
        for (int i = 0; i < 3; i++)
            last += actor_result(&a[i]);
        EXPECT(last == 1 && is_untouched(o, sizeof *o));
        free(o);
    }
}

/* --- cancelling ---------------------------------------------------------------------------------------------------------------- */

static struct {
    sley_scope scope;
    int by_itself;
    _Atomic(int) open;
} cancelled;

static int lock_in_scope(void *arg)
{
    int rc;

    sley_scope_init(&cancelled.scope, SLEY_FOREVER);
    if (cancelled.by_itself)
        sley_scope_cancel(&cancelled.scope);
    cancelled.open = 1;
    rc = do_lock(arg);
    EXPECT(sley_cancelled() == -ECANCELED);
    EXPECT(sley_scope_wait(&cancelled.scope, 0, SLEY_FOREVER) == 0);
    return rc;
}

static int cancel_who_locks(void *arg)
{
    sley_mutex m = { { 0 } };
    struct call c = { .m = &m, .deadline = SLEY_FOREVER };

    scene.cast = FIBERS;
    for (int by_itself = 0; by_itself <= 1; by_itself++) {
        uint64_t word;

        cancelled.open = 0;
        cancelled.by_itself = by_itself;
        EXPECT(sley_mutex_lock(&m, SLEY_FOREVER) == 0);
        actor_start(&c.actor, lock_in_scope, &c);
        while (!cancelled.open)
            give_way();
        actor_waits(&c.actor);
        word = sl_load_acquire(&c.actor.block->word);
        if (!by_itself)
            sley_scope_cancel(&cancelled.scope);
        EXPECT(sl_load_acquire(&c.actor.block->word) == word);
        sley_mutex_unlock(&m);
        EXPECT(result(&c) == 0);
    }
    EXPECT(is_quiet(&m));
    (void)arg;
    return 0;
}

static void mutex_lock_is_no_point_of_cancellation(void **state)
{
    (void)state;
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, cancel_who_locks, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

/* --- forked children ----------------------------------------------------------------------------------------------------------- */

static int hold_and_fork(void *arg)
{
    static struct call c;
    static sley_mutex m, mine;
    int status;
    pid_t pid;

    (void)arg;
    scene.cast = FIBERS;
    holder.holds = holder.told = 0;
    c.m = &m;
    actor_start(&c.actor, hold_until_told, &c);
    while (!holder.holds)
        give_way();
    pid = fork();
    if (pid == 0) {
        int rc = sley_mutex_lock(&m, SLEY_FOREVER);
        int timed = sley_mutex_lock(&m, sley_after(SLEY_S)), tried = sley_mutex_lock(&m, SLEY_NOW);

        if (sley_mutex_lock(&mine, SLEY_FOREVER) != 0)
            _exit(2);
        sley_mutex_unlock(&mine);
        _exit(rc != -ECHILD || timed != -ECHILD || tried != -ETIMEDOUT);
    }
    EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    holder.told = 1;
    return result(&c);
}

static void mutex_lock_that_would_wait_in_a_forked_child_is_refused(void **state)
{
    (void)state;
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, hold_and_fork, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

/* --- misuse -------------------------------------------------------------------------------------------------------------------- */

static int unlock_unlocked(void *arg)
{
    static sley_mutex m;

    (void)arg;
    sley_fiber_set_name("clumsy");
    sley_mutex_unlock(&m);
    return 0;
}

static int unlock_anothers(void *arg)
{
    static struct call c;
    static sley_mutex m;

    (void)arg;
    sley_fiber_set_name("thief");
    scene.cast = FIBERS;
    c = (struct call){ .m = &m };
    actor_start(&c.actor, lock_and_hold, &c);
    EXPECT(actor_result(&c.actor) == 0);
    sley_mutex_unlock(&m);
    return 0;
}

static int fini_held(void *arg)
{
    static sley_mutex m;

    (void)arg;
    if (sley_mutex_lock(&m, SLEY_FOREVER) == 0)
        sley_mutex_fini(&m);
    return 0;
}

static void mutex_misuse_names_fiber_and_call(void **state)
{
    (void)state;
    assert_aborts("unlocked", "\"clumsy\" on worker 0: sley_mutex_unlock: the mutex is not locked");
    assert_aborts("anothers", "\"thief\" on worker 0: sley_mutex_unlock: somebody else holds the mutex");
    assert_aborts("fini", "sley_mutex_fini: somebody holds the mutex");
}

static const struct {
    const char *name;
    sley_fn *fn;
} bugs[] = { { "unlocked", unlock_unlocked }, { "anothers", unlock_anothers }, { "fini", fini_held } };

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        PLAYED(mutex_of_zeroed_memory_is_unlocked),
        PLAYED(mutex_lets_one_in_at_a_time),
        PLAYED(mutex_is_not_locked_twice_by_its_holder),
        PLAYED(mutex_lock_ends_at_its_deadline),
        PLAYED(mutex_refuses_bad_arguments),
        PLAYED(mutex_goes_in_order_to_those_that_have_waited_long),
        PLAYED(mutex_is_handed_over_to_who_has_waited_long),
        PLAYED(mutex_stays_free_for_the_first_while_nobody_has_waited_long),
        PLAYED(mutex_waiter_gets_its_turn_from_one_that_locks_without_pause),
        PLAYED(mutex_passes_by_who_has_given_up),
        PLAYED(mutex_may_be_freed_by_who_locked_it_last),
        cmocka_unit_test(mutex_lock_is_no_point_of_cancellation),
        cmocka_unit_test(mutex_lock_that_would_wait_in_a_forked_child_is_refused),
        cmocka_unit_test(mutex_misuse_names_fiber_and_call),
    };

    for (size_t i = 0; argc == 2 && i < sizeof bugs / sizeof *bugs; i++)
        if (strcmp(argv[1], bugs[i].name) == 0)
            return sley_run(&(sley_options){ .workers = 1 }, bugs[i].fn, NULL) < 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
