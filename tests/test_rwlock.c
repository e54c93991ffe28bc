/* test_rwlock.c - reader-writer locks: who may be inside together, in which order they come in, deadlines, no cancels, misuse. */
#include "scenario.h"

enum how { SHARED, ALONE };

struct call {
    struct actor actor;
    sley_rwlock *l;
    enum how how;
    sley_time deadline;
    _Atomic(int) inside; /* it has the lock */
    _Atomic(int) leave;  /* it is to give it back */
};

static int lock_as(sley_rwlock *l, enum how how, sley_time deadline)
{
    return how == ALONE ? sley_rwlock_wrlock(l, deadline) : sley_rwlock_rdlock(l, deadline);
}

static int go_in_and_out(void *arg)
{
    struct call *c = arg;
    int rc = lock_as(c->l, c->how, c->deadline);

    if (rc == 0) {
        c->inside = 1;
        while (!c->leave)
            give_way();
        sley_rwlock_unlock(c->l);
    }
    return rc;
}

static void start(struct call *c, sley_rwlock *l, enum how how, sley_time deadline)
{
    c->l = l;
    c->how = how;
    c->deadline = deadline;
    c->inside = c->leave = 0;
    actor_start(&c->actor, go_in_and_out, c);
}

static void waiting(struct call *c, sley_rwlock *l, enum how how)
{
    start(c, l, how, SLEY_FOREVER);
    actor_waits(&c->actor);
}

static void comes_in(struct call *c)
{
    while (!c->inside)
        give_way();
}

static void entered(struct call *c, sley_rwlock *l, enum how how)
{
    start(c, l, how, SLEY_FOREVER);
    comes_in(c);
}

static int leave(struct call *c)
{
    c->leave = 1;
    return actor_result(&c->actor);
}

SCENARIO(rwlock_of_zeroed_memory_is_unlocked)
{
    sley_rwlock l = { { 0 } };

    for (int i = 0; i < 2; i++) {
        EXPECT(sley_rwlock_wrlock(&l, SLEY_NOW) == 0);
        sley_rwlock_unlock(&l);
        EXPECT(sley_rwlock_rdlock(&l, SLEY_NOW) == 0);
        EXPECT(sley_rwlock_rdlock(&l, SLEY_FOREVER) == 0); /* while no writer waits a reader may come in twice */
        sley_rwlock_unlock(&l);
        sley_rwlock_unlock(&l);
    }
    sley_rwlock_fini(&l);
}

SCENARIO(rwlock_readers_are_inside_together_and_a_writer_is_not)
{
    struct call reader[3], other = { .l = NULL };
    sley_rwlock l = { { 0 } };

    for (int i = 0; i < 3; i++)
        entered(&reader[i], &l, SHARED);
    EXPECT(sley_rwlock_rdlock(&l, SLEY_NOW) == 0);
    sley_rwlock_unlock(&l);
    EXPECT(sley_rwlock_wrlock(&l, SLEY_NOW) == -ETIMEDOUT);
    waiting(&other, &l, ALONE);
    for (int i = 0; i < 3; i++) {
        EXPECT(!other.inside);
        EXPECT(leave(&reader[i]) == 0);
    }
    comes_in(&other);
    EXPECT(sley_rwlock_wrlock(&l, SLEY_NOW) == -ETIMEDOUT && sley_rwlock_rdlock(&l, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(leave(&other) == 0);
    sley_rwlock_fini(&l);
}

SCENARIO(rwlock_writer_that_waits_goes_before_new_readers)
{
    struct call first, writer, late;
    sley_rwlock l = { { 0 } };

    entered(&first, &l, SHARED);
    waiting(&writer, &l, ALONE);
    EXPECT(sley_rwlock_rdlock(&l, SLEY_NOW) == -ETIMEDOUT);
    waiting(&late, &l, SHARED);
    EXPECT(leave(&first) == 0);
    comes_in(&writer);
    EXPECT(!late.inside);
    EXPECT(leave(&writer) == 0);
    comes_in(&late);
    EXPECT(leave(&late) == 0);
    sley_rwlock_fini(&l);
}

/* In the order in which they came: readers up to the next writer, then that one alone, and so on. */
SCENARIO(rwlock_is_handed_over_in_order)
{
    static const enum how hows[] = { SHARED, SHARED, ALONE, SHARED, ALONE, ALONE, SHARED, SHARED, SHARED };
    enum { CALLS = sizeof hows / sizeof *hows };
    static struct call c[CALLS];
    sley_rwlock l = { { 0 } };

    EXPECT(sley_rwlock_wrlock(&l, SLEY_FOREVER) == 0);
    for (int i = 0; i < CALLS; i++)
        waiting(&c[i], &l, hows[i]);
    sley_rwlock_unlock(&l);
    for (int i = 0, end; i < CALLS; i = end) {
        for (end = i + 1; hows[i] == SHARED && end < CALLS && hows[end] == SHARED; end++)
            ;
        for (int k = i; k < end; k++)
            comes_in(&c[k]);
        for (int k = end; k < CALLS; k++)
            EXPECT(!c[k].inside);
        for (int k = i; k < end; k++)
            EXPECT(leave(&c[k]) == 0);
    }
    sley_rwlock_fini(&l);
}

enum { MANY = 3 * SL_WAKE_ALL_BATCH + 5 }; /* more than are woken under one hold of the lock */

SCENARIO(rwlock_admits_any_number_of_readers)
{
    static struct call c[MANY], writer;
    sley_rwlock l = { { 0 } };

    EXPECT(sley_rwlock_wrlock(&l, SLEY_FOREVER) == 0);
    for (int i = 0; i < MANY; i++)
        waiting(&c[i], &l, SHARED);
    waiting(&writer, &l, ALONE);
    sley_rwlock_unlock(&l);
    for (int i = 0; i < MANY; i++)
        comes_in(&c[i]); /* none of them leaves before all are in */
    EXPECT(!writer.inside);
    for (int i = 0; i < MANY; i++)
        EXPECT(leave(&c[i]) == 0);
    comes_in(&writer);
    EXPECT(leave(&writer) == 0);
    sley_rwlock_fini(&l);
}

SCENARIO(rwlock_is_not_locked_again_by_its_writer)
{
    sley_rwlock l = { { 0 } };

    EXPECT(sley_rwlock_wrlock(&l, SLEY_FOREVER) == 0);
    for (int how = SHARED; how <= ALONE; how++)
        EXPECT(lock_as(&l, how, SLEY_FOREVER) == -EDEADLK && lock_as(&l, how, SLEY_NOW) == -EDEADLK);
    sley_rwlock_unlock(&l);
    sley_rwlock_fini(&l);
}

SCENARIO(rwlock_lock_ends_at_its_deadline)
{
    struct call holder, slow = { .l = NULL };
    sley_rwlock l = { { 0 } };

    for (int held = SHARED; held <= ALONE; held++)
        for (int how = held == SHARED ? ALONE : SHARED; how <= ALONE; how++) {
            sley_time deadline = sley_after(2 * SLEY_MS);
            entered(&holder, &l, held);
            start(&slow, &l, how, deadline);
            EXPECT(actor_result(&slow.actor) == -ETIMEDOUT && sley_now() >= deadline);
            EXPECT(lock_as(&l, how, deadline) == -ETIMEDOUT);
            EXPECT(leave(&holder) == 0);
            EXPECT(lock_as(&l, how, deadline) == 0); /* what need not wait does not ask the time */
            sley_rwlock_unlock(&l);
            sley_rwlock_fini(&l);
        }
}

static int waits_or_is_inside(struct call *c) /* 1 or 0 */
{
    for (;;) {
        struct sl_fiber *f = c->actor.block;

        if (c->inside)
            return 0;
        if (f != NULL && SL_WORD_STATE(sl_load_acquire(&f->word)) == SL_WAITING)
            return 1;
        give_way();
    }
}

/* Readers that wait for nothing but a writer that waits come in when that one gives up. */
SCENARIO(rwlock_writer_that_gives_up_lets_readers_in)
{
    struct call holder, writer, reader[2];
    sley_rwlock l = { { 0 } };

    for (;;) { /* until the readers have come before its time */
        sley_time deadline = sley_after(5 * SLEY_MS);
        int waited;

        entered(&holder, &l, SHARED);
        start(&writer, &l, ALONE, deadline);
        waited = actor_waits_or_ended(&writer.actor);
        for (int i = 0; i < 2; i++) {
            start(&reader[i], &l, SHARED, SLEY_FOREVER);
            waited = waits_or_is_inside(&reader[i]) && waited;
        }
        EXPECT(actor_result(&writer.actor) == -ETIMEDOUT);
        for (int i = 0; i < 2; i++)
            comes_in(&reader[i]);
        for (int i = 0; i < 2; i++)
            EXPECT(leave(&reader[i]) == 0);
        EXPECT(leave(&holder) == 0);
        sley_rwlock_fini(&l);
        if (waited)
            return;
    }
}

SCENARIO(rwlock_refuses_bad_arguments)
{
    sley_rwlock l = { { 0 } };

    for (int how = SHARED; how <= ALONE; how++) {
        EXPECT(lock_as(&l, how, 1) == -EINVAL && lock_as(&l, how, -1) == -EINVAL && lock_as(&l, how, 5 * SLEY_MS) == -EINVAL);
        EXPECT(lock_as(NULL, how, SLEY_FOREVER) == -EINVAL);
    }
    EXPECT(sley_rwlock_wrlock(&l, SLEY_NOW) == 0); /* refused: not locked */
    sley_rwlock_unlock(&l);
    sley_rwlock_fini(NULL);
}

struct counted {
    sley_rwlock l;
    _Atomic(int) count;
};

static int give_back_as_writer(void *arg)
{
    struct counted *o = arg;
    int left;

    EXPECT(sley_rwlock_wrlock(&o->l, SLEY_FOREVER) == 0);
    left = --o->count;
    sley_rwlock_unlock(&o->l);
    if (left == 0)
        memset(o, 0xee, sizeof *o);
    return left == 0;
}

/* Whoever's unlock has returned before may still be on his way out. */
SCENARIO(rwlock_may_be_freed_by_who_locked_it_last)
{
    for (int round = 0; round < 300; round++) {
        struct counted *o = calloc(1, sizeof *o);
        struct actor a[3];
        int last = 0;

        o->count = 3;
        for (int i = 0; i < 3; i++)
            actor_start(&a[i], give_back_as_writer, o);
        for (int i = 0; i < 3; i++)
            last += actor_result(&a[i]);
        EXPECT(last == 1 && is_untouched(o, sizeof *o));
        free(o);
    }
}

/* --- cancelling ---------------------------------------------------------------------------------------------------------------- */

static struct {
    sley_scope scope;
    _Atomic(int) open;
} cancelled;

static int go_in_and_out_in_scope(void *arg)
{
    int rc;

    sley_scope_init(&cancelled.scope, SLEY_FOREVER);
    cancelled.open = 1;
    rc = go_in_and_out(arg);
    EXPECT(sley_cancelled() == -ECANCELED);
    EXPECT(sley_scope_wait(&cancelled.scope, 0, SLEY_FOREVER) == 0);
    return rc;
}

static int cancel_who_locks(void *arg)
{
    sley_rwlock l = { { 0 } };
    struct call c = { .l = &l, .deadline = SLEY_FOREVER, .leave = 1 };

    (void)arg;
    scene.cast = FIBERS;
    for (int how = SHARED; how <= ALONE; how++) {
        uint64_t word;

        c.how = how;
        cancelled.open = 0;
        EXPECT(sley_rwlock_wrlock(&l, SLEY_FOREVER) == 0);
        actor_start(&c.actor, go_in_and_out_in_scope, &c);
        while (!cancelled.open)
            give_way();
        actor_waits(&c.actor);
        word = sl_load_acquire(&c.actor.block->word);
        sley_scope_cancel(&cancelled.scope);
        EXPECT(sl_load_acquire(&c.actor.block->word) == word);
        sley_rwlock_unlock(&l);
        EXPECT(actor_result(&c.actor) == 0);
    }
    return 0;
}

static void rwlock_lock_is_no_point_of_cancellation(void **state)
{
    (void)state;
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, cancel_who_locks, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

/* --- misuse -------------------------------------------------------------------------------------------------------------------- */

static sley_rwlock misused;

static int unlock_unlocked(void *arg)
{
    (void)arg;
    sley_fiber_set_name("clumsy");
    sley_rwlock_unlock(&misused);
    return 0;
}

static int lock_alone(void *arg)
{
    return sley_rwlock_wrlock(arg, SLEY_FOREVER);
}

static int unlock_anothers(void *arg)
{
    static struct actor a;

    (void)arg;
    sley_fiber_set_name("thief");
    actor_start_as(&a, 0, lock_alone, &misused);
    EXPECT(actor_result(&a) == 0);
    sley_rwlock_unlock(&misused);
    return 0;
}

static int fini_read_locked(void *arg)
{
    (void)arg;
    if (sley_rwlock_rdlock(&misused, SLEY_FOREVER) == 0)
        sley_rwlock_fini(&misused);
    return 0;
}

static int fini_locked(void *arg)
{
    (void)arg;
    if (sley_rwlock_wrlock(&misused, SLEY_FOREVER) == 0)
        sley_rwlock_fini(&misused);
    return 0;
}

static void rwlock_misuse_names_fiber_and_call(void **state)
{
    (void)state;
    assert_aborts("unlocked", "\"clumsy\" on worker 0: sley_rwlock_unlock: the lock is not locked");
    assert_aborts("anothers", "\"thief\" on worker 0: sley_rwlock_unlock: somebody else holds the lock alone");
    assert_aborts("fini-read", "sley_rwlock_fini: somebody holds the lock");
    assert_aborts("fini", "sley_rwlock_fini: somebody holds the lock");
}

static const struct {
    const char *name;
    sley_fn *fn;
} bugs[] = { { "unlocked", unlock_unlocked }, { "anothers", unlock_anothers }, { "fini-read", fini_read_locked }, { "fini", fini_locked } };

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        PLAYED(rwlock_of_zeroed_memory_is_unlocked),
        PLAYED(rwlock_readers_are_inside_together_and_a_writer_is_not),
        PLAYED(rwlock_writer_that_waits_goes_before_new_readers),
        PLAYED(rwlock_is_handed_over_in_order),
        PLAYED(rwlock_admits_any_number_of_readers),
        PLAYED(rwlock_is_not_locked_again_by_its_writer),
        PLAYED(rwlock_lock_ends_at_its_deadline),
        PLAYED(rwlock_writer_that_gives_up_lets_readers_in),
        PLAYED(rwlock_refuses_bad_arguments),
        PLAYED(rwlock_may_be_freed_by_who_locked_it_last),
        cmocka_unit_test(rwlock_lock_is_no_point_of_cancellation),
        cmocka_unit_test(rwlock_misuse_names_fiber_and_call),
    };

    for (size_t i = 0; argc == 2 && i < sizeof bugs / sizeof *bugs; i++)
        if (strcmp(argv[1], bugs[i].name) == 0)
            return sley_run(&(sley_options){ .workers = 1 }, bugs[i].fn, NULL) < 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
