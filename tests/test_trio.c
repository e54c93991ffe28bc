/* test_trio.c - cases that a library with the same idea of scopes found worth testing, by their meaning: what docs/tests-trio.md lists, and
 * what of it is covered elsewhere. Where theirs says that a scope has caught the cancel, ours returns 0 (its own call) or -ETIMEDOUT
 * (its deadline); where it goes further out, -ECANCELED. Their shield is a property of a scope, ours is around scopes. */
#include "scenario.h"

#include <fcntl.h>
#include <poll.h>

static void play_on_fibers(void (*body)(void))
{
    sley_options options = { .stack_bytes = (size_t)8 << 20 }; /* thousands of scopes on one stack */

    scene.cast = casts[0]; /* all on fibers */
    scene.unmet = NULL;
    assert_int_equal(sley_run(&options, play_body, &body), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

#define ON_FIBERS(name) \
    static void name##_body(void); \
    static void name(void **state) { (void)state; play_on_fibers(name##_body); } \
    static void name##_body(void)

/* Let others run, cancelled or not. */
static void pass(void)
{
    sley_shield_begin();
    EXPECT(sley_yield() == 0);
    sley_shield_end();
}

static void *number(intptr_t n) { return (void *)n; }
static int return_number(void *arg) { return (int)(intptr_t)arg; }

static int sleep_for_ever(void *arg)
{
    (void)arg;
    return sley_sleep(SLEY_FOREVER);
}

struct sleeper { /* one that is asked whether it sleeps, and how its sleep ended */
    sley_fn *fn;
    void *arg;
    _Atomic(struct sl_fiber *) block;
    _Atomic(int) ended;
    int result;
};

static int sleeper_main(void *arg)
{
    struct sleeper *s = arg;
    int rc;

    s->block = sl_current();
    rc = s->result = s->fn != NULL ? s->fn(s->arg) : sley_sleep(SLEY_FOREVER);
    s->ended = 1;
    return rc;
}

static void starts(struct sleeper *s, sley_fn *fn, void *arg)
{
    *s = (struct sleeper){ .fn = fn, .arg = arg };
    EXPECT(sley_go(sleeper_main, s) == 0);
}

static void sleeps(struct sleeper *s)
{
    for (;;) {
        struct sl_fiber *f = s->block;
        unsigned state = f != NULL ? SL_WORD_STATE(sl_load_acquire(&f->word)) : SL_IDLE;

        EXPECT(!s->ended);
        if (s->ended || state == SL_WAITING || state == SL_WAITING_IO)
            return;
        pass();
    }
}

static void ends(struct sleeper *s)
{
    while (!s->ended)
        pass();
}

/* --- points of cancellation, edges, levels ---------------------------------------------------------------------------------- */

ON_FIBERS(cancel_points_are_free_before_and_refused_after)
{
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER); /* only asked */
    EXPECT(sley_cancelled() == 0);
    sley_scope_cancel(&s);
    EXPECT(sley_cancelled() == -ECANCELED);
    EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == 0);

    sley_scope_init(&s, SLEY_FOREVER); /* giving way */
    EXPECT(sley_yield() == 0);
    sley_scope_cancel(&s);
    EXPECT(sley_yield() == -ECANCELED);
    EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == 0);

    sley_scope_init(&s, SLEY_FOREVER); /* waiting for what never comes */
    sley_scope_cancel(&s);
    EXPECT(sley_sleep(SLEY_FOREVER) == -ECANCELED);
    EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == 0);

    sley_scope_init(&s, SLEY_FOREVER); /* under shields it is free, after them no more */
    sley_scope_cancel(&s);
    pass();
    pass();
    EXPECT(sley_yield() == -ECANCELED);
    EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == 0);
}

ON_FIBERS(two_cancels_are_one_and_a_cancel_is_a_level)
{
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    sley_scope_cancel(&s);
    sley_scope_cancel(&s);
    EXPECT(sley_scope_wait(&s, sley_yield(), SLEY_FOREVER) == 0);

    sley_scope_init(&s, SLEY_FOREVER);
    sley_scope_cancel(&s);
    EXPECT(sley_sleep(SLEY_FOREVER) == -ECANCELED);
    EXPECT(sley_sleep(SLEY_FOREVER) == -ECANCELED);
    EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == 0);
}

static int note_and_sleep(void *arg)
{
    ++*(_Atomic(int) *)arg;
    return sley_sleep(SLEY_FOREVER);
}

ON_FIBERS(a_child_of_a_cancelled_scope_begins_and_fails_at_its_first_wait)
{
    _Atomic(int) began = 0;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    sley_scope_cancel(&s);
    EXPECT(sley_go(note_and_sleep, (void *)&began) == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && began == 1);
}

/* Some children are cancelled by their own scope, one by the outer scope, and one fails for good: that is all that is left of it. */
ON_FIBERS(cancels_are_absorbed_and_the_real_error_is_what_comes_out)
{
    struct sleeper first[2], late;
    sley_scope outer, nursery;

    sley_scope_init(&outer, SLEY_FOREVER);
    sley_scope_init(&nursery, SLEY_FOREVER);
    starts(&first[0], NULL, NULL);
    starts(&first[1], NULL, NULL);
    sley_scope_cancel(&nursery);
    ends(&first[0]);
    ends(&first[1]);
    starts(&late, NULL, NULL);
    sley_scope_cancel(&outer);
    EXPECT(sley_go(return_number, number(-EBADMSG)) == 0);
    EXPECT(sley_scope_wait(&nursery, 0, SLEY_FOREVER) == -EBADMSG);
    EXPECT(first[0].result == -ECANCELED && first[1].result == -ECANCELED && late.result == -ECANCELED);
    EXPECT(sley_scope_wait(&outer, -EBADMSG, SLEY_FOREVER) == -EBADMSG);
}

ON_FIBERS(an_error_that_is_no_cancel_is_not_taken_for_one)
{
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    sley_scope_cancel(&s);
    EXPECT(sley_scope_wait(&s, -EBADMSG, SLEY_FOREVER) == -EBADMSG);
}

/* --- nesting ---------------------------------------------------------------------------------------------------------------- */

ON_FIBERS(of_two_cancelled_scopes_the_outer_one_catches)
{
    sley_scope one, two, three;
    int rc;

    sley_scope_init(&one, SLEY_FOREVER);
    sley_scope_init(&two, SLEY_FOREVER);
    sley_scope_init(&three, SLEY_FOREVER);
    sley_scope_cancel(&three);
    sley_scope_cancel(&two);
    rc = sley_sleep(SLEY_FOREVER);
    rc = sley_scope_wait(&three, rc, SLEY_FOREVER);
    EXPECT(rc == -ECANCELED); /* not caught here */
    rc = sley_scope_wait(&two, rc, SLEY_FOREVER);
    EXPECT(rc == 0); /* but here */
    EXPECT(sley_yield() == 0);
    EXPECT(sley_scope_wait(&one, rc, SLEY_FOREVER) == 0);
}

ON_FIBERS(a_cancel_that_nobody_met_is_gone_with_its_scope)
{
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    sley_scope_cancel(&s);
    pass();
    EXPECT(sley_scope_wait(&s, 17, SLEY_FOREVER) == 17);
    EXPECT(sley_yield() == 0);
}

static _Atomic(int) pairs_of_leaves;

static int two_leaves(void *arg)
{
    struct sleeper *leaves = arg;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    starts(&leaves[0], NULL, NULL);
    starts(&leaves[1], NULL, NULL);
    pairs_of_leaves++;
    return sley_scope_wait(&s, 0, SLEY_FOREVER);
}

ON_FIBERS(a_cancel_reaches_children_of_children)
{
    struct sleeper leaves[4], workers[2];
    sley_scope s;

    for (int parked = 0; parked <= 1; parked++) {
        pairs_of_leaves = 0;
        sley_scope_init(&s, SLEY_FOREVER);
        starts(&workers[0], two_leaves, &leaves[0]);
        starts(&workers[1], two_leaves, &leaves[2]);
        while (parked && pairs_of_leaves < 2)
            pass();
        for (int i = 0; parked && i < 2; i++)
            sleeps(&workers[i]); /* waits for its leaves */
        for (int i = 0; parked && i < 4; i++)
            sleeps(&leaves[i]);
        sley_scope_cancel(&s);
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
        for (int i = 0; i < 4; i++)
            EXPECT(leaves[i].result == -ECANCELED);
        EXPECT(workers[0].result == -ECANCELED && workers[1].result == -ECANCELED);
    }
}

enum { DEEP = 5000 };

static int deeper(int left)
{
    sley_scope s;
    int rc;

    sley_scope_init(&s, SLEY_FOREVER);
    rc = left > 0 ? deeper(left - 1) : sley_yield();
    return sley_scope_wait(&s, rc, SLEY_FOREVER);
}

static int go_deep(void *arg)
{
    sley_scope_cancel(arg);
    return deeper(DEEP);
}

static int go_deep_and_be_cancelled_there(void *arg)
{
    (void)arg;
    return deeper(DEEP);
}

static int cancel_it(void *arg)
{
    sley_scope_cancel(arg);
    return 0;
}

/* Opened under a cancelled one, and cancelled from above once all are open. */
ON_FIBERS(very_deep_nesting_is_no_trouble)
{
    sley_scope s;
    int rc;

    sley_scope_init(&s, SLEY_FOREVER);
    rc = go_deep(&s);
    EXPECT(rc == -ECANCELED);
    EXPECT(sley_scope_wait(&s, rc, SLEY_FOREVER) == 0);

    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_go(cancel_it, &s) == 0);
    do
        rc = go_deep_and_be_cancelled_there(NULL);
    while (rc == 0); /* until it meets one on its way */
    EXPECT(rc == -ECANCELED);
    EXPECT(sley_scope_wait(&s, rc, SLEY_FOREVER) == 0);
}

/* --- shields ---------------------------------------------------------------------------------------------------------------- */

ON_FIBERS(a_shield_protects_from_the_outer_scope_but_not_from_those_inside)
{
    sley_scope outer, inner, innermost;

    sley_scope_init(&outer, SLEY_FOREVER);
    EXPECT(sley_yield() == 0);
    sley_scope_cancel(&outer);
    EXPECT(sley_yield() == -ECANCELED);
    sley_shield_begin();
    EXPECT(sley_yield() == 0);
    sley_scope_init(&inner, SLEY_FOREVER);
    EXPECT(sley_yield() == 0);
    sley_scope_init(&innermost, SLEY_FOREVER);
    sley_scope_cancel(&innermost);
    EXPECT(sley_yield() == -ECANCELED);
    EXPECT(sley_scope_wait(&innermost, -ECANCELED, SLEY_FOREVER) == 0);
    EXPECT(sley_yield() == 0);
    EXPECT(sley_scope_wait(&inner, 0, SLEY_FOREVER) == 0);
    sley_shield_end();
    EXPECT(sley_yield() == -ECANCELED); /* it can end */
    sley_shield_begin();
    EXPECT(sley_yield() == 0); /* and begin again */
    sley_scope_init(&inner, SLEY_FOREVER);
    sley_scope_cancel(&inner);
    EXPECT(sley_yield() == -ECANCELED); /* a scope is not protected from itself */
    EXPECT(sley_scope_wait(&inner, -ECANCELED, SLEY_FOREVER) == 0); /* which catches it */
    sley_shield_end();
    EXPECT(sley_scope_wait(&outer, -ECANCELED, SLEY_FOREVER) == 0);
}

static int sleep_shielded_then_not(void *arg)
{
    int rc;

    sley_shield_begin();
    rc = sley_event_wait(arg, SLEY_FOREVER);
    sley_shield_end();
    EXPECT(rc == 0);
    return sley_sleep(SLEY_FOREVER);
}

/* Under its shield it gets to sleep in a scope that is cancelled; its next sleep is refused. */
ON_FIBERS(when_the_shield_ends_the_cancel_is_still_there)
{
    sley_event go_on = { { 0 } };
    struct sleeper sleeper;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    sley_scope_cancel(&s);
    starts(&sleeper, sleep_shielded_then_not, &go_on);
    sleeps(&sleeper);
    for (int i = 0; i < 10; i++)
        pass();
    EXPECT(!sleeper.ended);
    sley_event_set(&go_on);
    ends(&sleeper);
    EXPECT(sleeper.result == -ECANCELED);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
}

/* A shield for the clean-up does not make the inner scope catch what the outer one has caused. */
ON_FIBERS(a_shield_on_the_way_out_changes_nothing)
{
    sley_scope outer, inner;
    int rc;

    sley_scope_init(&outer, SLEY_FOREVER);
    sley_scope_init(&inner, SLEY_FOREVER);
    sley_scope_cancel(&outer);
    rc = sley_yield();
    sley_shield_begin();
    EXPECT(sley_sleep(SLEY_US) == 0);
    sley_shield_end();
    rc = sley_scope_wait(&inner, rc, SLEY_FOREVER);
    EXPECT(rc == -ECANCELED);
    EXPECT(sley_scope_wait(&outer, rc, SLEY_FOREVER) == 0);
}

ON_FIBERS(a_deadline_inside_a_shield_is_kept_although_the_outer_scope_is_cancelled)
{
    sley_time deadline;
    sley_scope outer;

    sley_scope_init(&outer, SLEY_FOREVER);
    sley_scope_cancel(&outer);
    sley_shield_begin();
    deadline = sley_after(SLEY_MS);
    EXPECT(sley_scope_run(sleep_for_ever, NULL, deadline) == -ETIMEDOUT && sley_now() >= deadline);
    sley_shield_end();
    EXPECT(sley_yield() == -ECANCELED);
    EXPECT(sley_scope_wait(&outer, -ECANCELED, SLEY_FOREVER) == 0);
}

/* --- a scope that is cancelled early, late, or not where it was opened ------------------------------------------------------ */

struct shared_scope {
    sley_scope s;
    _Atomic(int) opened;
    int result;
};

static int sleep_in_shared_scope(void *arg)
{
    struct shared_scope *shared = arg;
    int rc;

    sley_scope_init(&shared->s, sley_after(3600 * SLEY_S));
    shared->opened = 1;
    rc = sley_sleep(SLEY_FOREVER);
    shared->result = sley_scope_wait(&shared->s, rc, SLEY_FOREVER);
    return shared->result;
}

ON_FIBERS(a_scope_may_be_cancelled_by_who_did_not_open_it)
{
    for (int parked = 0; parked <= 1; parked++) {
        struct shared_scope shared = { .opened = 0 };
        struct sleeper sleeper;
        sley_scope s;

        sley_scope_init(&s, SLEY_FOREVER);
        starts(&sleeper, sleep_in_shared_scope, &shared);
        while (!shared.opened)
            pass();
        if (parked)
            sleeps(&sleeper);
        sley_scope_cancel(&shared.s);
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && shared.result == 0);
    }
}

ON_FIBERS(a_passed_deadline_is_never_undone)
{
    sley_scope s;

    sley_scope_init(&s, sley_after(3600 * SLEY_S));
    EXPECT(sley_cancelled() == 0);
    sley_scope_set_deadline(&s, sley_now());
    EXPECT(sley_cancelled() == -ECANCELED);
    sley_scope_set_deadline(&s, sley_after(3600 * SLEY_S));
    EXPECT(sley_cancelled() == -ECANCELED);
    EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == -ETIMEDOUT);

    sley_scope_init(&s, sley_now()); /* before entry, as it were */
    EXPECT(sley_sleep(SLEY_FOREVER) == -ECANCELED);
    EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == -ETIMEDOUT);
    sley_scope_init(&s, SLEY_FOREVER); /* the memory may be used again once it is closed */
    EXPECT(sley_yield() == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
}

/* --- deadlines -------------------------------------------------------------------------------------------------------------- */

ON_FIBERS(a_deadline_counts_from_when_it_is_set_until_the_scope_is_closed)
{
    sley_time soon;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    soon = sley_after(2 * SLEY_MS);
    sley_scope_set_deadline(&s, soon);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_sleep_until(soon + SLEY_MS) == 0); /* over, and nobody minds */
    for (int i = 0; i < 3; i++)
        EXPECT(sley_yield() == 0);

    soon = sley_after(SLEY_MS);
    sley_scope_init(&s, soon);
    EXPECT(sley_sleep(SLEY_FOREVER) == -ECANCELED && sley_now() >= soon);
    EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == -ETIMEDOUT);

    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_yield() == 0);
    sley_scope_set_deadline(&s, sley_after(3600 * SLEY_S));
    EXPECT(sley_yield() == 0);
    sley_scope_set_deadline(&s, sley_now() - 1);
    EXPECT(sley_yield() == -ECANCELED && sley_yield() == -ECANCELED);
    EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == -ETIMEDOUT);
}

ON_FIBERS(giving_way_is_enough_to_notice_a_deadline)
{
    sley_time deadline = sley_after(SLEY_MS);
    sley_scope s;
    int rc;

    sley_scope_init(&s, deadline);
    do
        rc = sley_yield();
    while (rc == 0);
    EXPECT(rc == -ECANCELED && sley_now() >= deadline);
    EXPECT(sley_scope_wait(&s, rc, SLEY_FOREVER) == -ETIMEDOUT);
}

ON_FIBERS(setting_the_same_deadlines_again_and_again_leaves_one)
{
    sley_time now = sley_now();
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    for (int i = 0; i < 3000; i++) {
        sley_scope_set_deadline(&s, now + 9998 * SLEY_S);
        sley_scope_set_deadline(&s, now + 9999 * SLEY_S);
    }
    EXPECT(sley_sleep(SLEY_MS) == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
}

/* What holds is the nearest deadline up to the first shield, and a cancel is nearer than all. Seen by who is cut short. */
enum who { NOBODY, INNER, OUTER, NEITHER };

static enum who who_cuts(sley_time outer_deadline, int shielded, sley_time inner_deadline, sley_time sleep_ns)
{
    sley_scope outer, inner;
    int rc, by_inner;

    sley_scope_init(&outer, outer_deadline);
    if (shielded)
        sley_shield_begin();
    sley_scope_init(&inner, inner_deadline);
    rc = sley_sleep(sleep_ns);
    by_inner = sley_scope_wait(&inner, rc, SLEY_FOREVER);
    if (shielded)
        sley_shield_end();
    rc = sley_scope_wait(&outer, by_inner == -ETIMEDOUT ? 0 : by_inner, SLEY_FOREVER);
    return by_inner == 0 ? NOBODY : by_inner == -ETIMEDOUT ? INNER : by_inner == -ECANCELED && rc == -ETIMEDOUT ? OUTER : NEITHER;
}

ON_FIBERS(the_effective_deadline_is_the_nearest_below_a_shield)
{
    sley_time far = sley_after(3600 * SLEY_S);

    EXPECT(who_cuts(far, 0, far, SLEY_MS) == NOBODY);
    EXPECT(who_cuts(SLEY_NOW, 0, far, SLEY_FOREVER) == OUTER);
    EXPECT(who_cuts(far, 0, SLEY_NOW, SLEY_FOREVER) == INNER);
    EXPECT(who_cuts(SLEY_NOW, 1, far, SLEY_MS) == NOBODY);
    EXPECT(who_cuts(SLEY_NOW, 1, SLEY_NOW, SLEY_FOREVER) == INNER);
    EXPECT(who_cuts(SLEY_NOW, 0, SLEY_NOW, SLEY_FOREVER) == OUTER);
    EXPECT(who_cuts(sley_after(SLEY_MS), 0, SLEY_FOREVER, SLEY_FOREVER) == OUTER);
    EXPECT(who_cuts(SLEY_FOREVER, 0, sley_after(SLEY_MS), SLEY_FOREVER) == INNER);
    EXPECT(who_cuts(sley_after(SLEY_US), 1, SLEY_FOREVER, SLEY_MS) == NOBODY);
}

static int sleep_nothing(void *arg)
{
    (void)arg;
    return sley_sleep(0);
}

/* "Move on" is to ignore -ETIMEDOUT, "fail" is to return it. */
ON_FIBERS(moving_on_and_failing_after_a_time)
{
    sley_time deadline = sley_after(SLEY_MS);

    EXPECT(sley_scope_run(sleep_for_ever, NULL, deadline) == -ETIMEDOUT && sley_now() >= deadline);
    EXPECT(sley_scope_run(sleep_nothing, NULL, sley_after(3600 * SLEY_S)) == 0);
    EXPECT(sley_scope_run(sleep_nothing, NULL, sley_now()) == -ETIMEDOUT); /* a sleep of nothing is a point of cancellation too */
    EXPECT(sley_sleep(0) == 0 && sley_sleep(-1) == 0); /* a negative length is none */
    EXPECT(sley_sleep_until(-1) == -EINVAL && sley_scope_run(sleep_nothing, NULL, -1) == -EINVAL);
    deadline = sley_after(SLEY_MS);
    EXPECT(sley_sleep_until(deadline) == 0 && sley_now() >= deadline);
    deadline = sley_after(SLEY_MS);
    EXPECT(sley_sleep(SLEY_MS) == 0 && sley_now() >= deadline);
}

/* --- what cannot be ended at once ------------------------------------------------------------------------------------------- */

static int lock_and_look(void *arg)
{
    int rc = sley_mutex_lock(arg, SLEY_FOREVER);

    EXPECT(rc == 0); /* a lock is no point of cancellation */
    sley_mutex_unlock(arg);
    return sley_cancelled();
}

ON_FIBERS(a_wait_that_cannot_be_cancelled_goes_on_and_the_next_point_is_refused)
{
    sley_mutex m = { { 0 } };
    struct sleeper stubborn;
    sley_scope s;

    EXPECT(sley_mutex_lock(&m, SLEY_FOREVER) == 0);
    sley_scope_init(&s, SLEY_FOREVER);
    starts(&stubborn, lock_and_look, &m);
    sleeps(&stubborn);
    sley_scope_cancel(&s);
    for (int i = 0; i < 10; i++)
        pass();
    EXPECT(!stubborn.ended);
    sley_mutex_unlock(&m);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && stubborn.result == -ECANCELED);
    sley_mutex_fini(&m);
}

static int read_byte(void *arg)
{
    char byte;
    int rc = sley_read(*(int *)arg, &byte, 1, SLEY_FOREVER);

    EXPECT(sley_yield() == -ECANCELED);
    pass();
    return rc;
}

/* The kernel has it and must be asked to give it back, once, however many scopes are cancelled meanwhile. */
ON_FIBERS(a_wait_that_takes_time_to_cancel_is_cancelled_once)
{
    struct sleeper reader;
    sley_scope outer, middle, s;
    int fds[2];

    EXPECT(pipe2(fds, O_CLOEXEC) == 0);
    for (int round = 0; round < 20; round++) {
        sley_scope_init(&outer, SLEY_FOREVER);
        sley_scope_init(&middle, SLEY_FOREVER);
        sley_scope_init(&s, SLEY_FOREVER);
        starts(&reader, read_byte, &fds[0]);
        if (round % 2)
            sleeps(&reader);
        sley_scope_cancel(&s);
        sley_scope_cancel(&middle);
        sley_scope_cancel(&outer);
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == -ECANCELED && reader.result == -ECANCELED);
        EXPECT(sley_scope_wait(&middle, -ECANCELED, SLEY_FOREVER) == -ECANCELED);
        EXPECT(sley_scope_wait(&outer, -ECANCELED, SLEY_FOREVER) == 0);
    }
    EXPECT(sley_write(fds[1], "x", 1, SLEY_FOREVER) == 1); /* nobody took anything, and it still works */
    EXPECT(sley_read(fds[0], (char[1]){ 0 }, 1, SLEY_FOREVER) == 1);
    EXPECT(sley_close(fds[0]) == 0 && sley_close(fds[1]) == 0);
}

/* --- errors of children ----------------------------------------------------------------------------------------------------- */

ON_FIBERS(an_error_of_the_body_with_nobody_else_is_just_that)
{
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_scope_wait(&s, -EBADMSG, SLEY_FOREVER) == -EBADMSG);
}

ON_FIBERS(a_child_that_fails_wakes_the_parent_wherever_it_waits)
{
    sley_scope s;
    int rc;

    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_go(return_number, number(-EBADMSG)) == 0);
    rc = sley_sleep(SLEY_FOREVER); /* in the body, not in the wait */
    EXPECT(rc == -ECANCELED);
    EXPECT(sley_scope_wait(&s, rc, SLEY_FOREVER) == -EBADMSG);
}

static int loop_until_cancelled(void *arg)
{
    int rc;

    while ((rc = sley_yield()) == 0)
        ;
    ++*(_Atomic(int) *)arg;
    return rc;
}

ON_FIBERS(a_child_that_fails_stops_its_loops_of_siblings)
{
    _Atomic(int) stopped = 0;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    for (int i = 0; i < 3; i++)
        EXPECT(sley_go(loop_until_cancelled, (void *)&stopped) == 0);
    EXPECT(sley_go(return_number, number(-EBADMSG)) == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == -EBADMSG && stopped == 3);
}

ON_FIBERS(when_body_and_child_or_two_children_fail_one_error_comes_out)
{
    sley_scope s;
    int rc;

    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_go(return_number, number(-EDOM)) == 0);
    rc = sley_scope_wait(&s, -EBADMSG, SLEY_FOREVER);
    EXPECT(rc == -EBADMSG || rc == -EDOM); /* the first; where theirs gives both, the other is only counted */

    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_go(return_number, number(-EDOM)) == 0 && sley_go(return_number, number(-EBADMSG)) == 0);
    rc = sley_scope_wait(&s, 0, SLEY_FOREVER);
    EXPECT(rc == -EBADMSG || rc == -EDOM);
}

static int fail_below(void *arg)
{
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_go(return_number, arg) == 0);
    EXPECT(sley_sleep(SLEY_FOREVER) == -ECANCELED);
    return sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER);
}

static int crash(void *arg)
{
    (void)arg;
    EXPECT(sley_go(fail_below, number(-EBADMSG)) == 0);
    return sley_sleep(SLEY_FOREVER);
}

/* All the way up, scope by scope, and out of the program's first function. */
static void an_error_goes_up_through_all_scopes_and_out_of_run(void **state)
{
    (void)state;
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, crash, NULL), -EBADMSG);
    assert_int_equal(sley_run(NULL, return_number, number(-EBADMSG)), -EBADMSG);
    assert_null(scene.unmet);
}

static int run_inside(void *arg)
{
    return sley_run(NULL, return_number, arg);
}

static void run_does_not_nest(void **state)
{
    (void)state;
    assert_int_equal(sley_run(NULL, run_inside, NULL), -EDEADLK);
}

struct late_joiner {
    sley_scope *s;
    _Atomic(int) joined;
};

static int join_in(void *arg)
{
    struct late_joiner *j = arg;

    j->joined = 1;
    return 0;
}

static int bring_one_in(void *arg)
{
    struct late_joiner *j = arg;

    for (int i = 0; i < 10; i++)
        EXPECT(sley_yield() == 0);
    return sley_scope_go(j->s, join_in, j);
}

ON_FIBERS(a_scope_takes_children_until_the_last_has_ended)
{
    sley_scope s;
    struct late_joiner j = { &s, 0 };

    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_go(bring_one_in, &j) == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && j.joined);
}

struct server { /* "start": the starter goes on once the child says that it is up */
    sley_chan *up;
    int fails;
};

static int serve(void *arg)
{
    struct server *s = arg;
    int v = 1, rc;

    if (s->fails)
        return -EADDRINUSE;
    rc = sley_chan_send(s->up, &v, SLEY_FOREVER);
    return rc < 0 ? rc : sley_sleep(SLEY_FOREVER);
}

ON_FIBERS(waiting_until_a_child_is_up_is_a_message_and_ends_with_its_failure)
{
    for (int how = 0; how < 3; how++) { /* it comes up; fails before; is cancelled before */
        struct server server = { sley_chan_create(sizeof(int), 0), how == 1 };
        sley_scope s;
        int v = 0, rc;

        sley_scope_init(&s, SLEY_FOREVER);
        if (how == 2)
            sley_scope_cancel(&s);
        EXPECT(sley_go(serve, &server) == 0);
        rc = sley_chan_recv(server.up, &v, SLEY_FOREVER);
        EXPECT(how == 0 ? rc == 1 : rc == -ECANCELED);
        if (how == 0)
            sley_scope_cancel(&s);
        EXPECT(sley_scope_wait(&s, rc, SLEY_FOREVER) == (how == 0 ? 1 : how == 1 ? -EADDRINUSE : 0));
        sley_chan_destroy(server.up);
    }
}

/* --- what lives beside the program: their system tasks, our root scope ------------------------------------------------------ */

static struct {
    _Atomic(int) cancelled, reported;
} beside;

static void report(void *ctx, uint64_t fiber, const char *name, int error)
{
    (void)ctx;
    (void)fiber;
    (void)name;
    beside.reported += error == -EBADMSG;
}

static int live_beside(void *arg)
{
    if (arg != NULL)
        return -EBADMSG;
    beside.cancelled += sley_sleep(SLEY_FOREVER) == -ECANCELED;
    return -ECANCELED; /* that it was cancelled at the end is no error */
}

static int start_beside(void *arg)
{
    EXPECT(sley_scope_go(sley_scope_root(), live_beside, NULL) == 0);
    EXPECT(sley_scope_go(sley_scope_root(), live_beside, arg) == 0);
    while (beside.reported == 0)
        EXPECT(sley_yield() == 0); /* it goes on */
    return 9;
}

static void an_error_beside_the_program_is_reported_and_stops_nobody(void **state)
{
    (void)state;
    scene.unmet = NULL;
    assert_int_equal(sley_run(&(sley_options){ .on_error = report }, start_beside, number(1)), 9);
    assert_int_equal(beside.cancelled, 1);
    assert_int_equal(beside.reported, 1);
    assert_null(scene.unmet);
}

int main(void)
{
#define T(test) cmocka_unit_test(test)
    const struct CMUnitTest tests[] = {
        T(cancel_points_are_free_before_and_refused_after),
        T(two_cancels_are_one_and_a_cancel_is_a_level),
        T(a_child_of_a_cancelled_scope_begins_and_fails_at_its_first_wait),
        T(cancels_are_absorbed_and_the_real_error_is_what_comes_out),
        T(an_error_that_is_no_cancel_is_not_taken_for_one),
        T(of_two_cancelled_scopes_the_outer_one_catches),
        T(a_cancel_that_nobody_met_is_gone_with_its_scope),
        T(a_cancel_reaches_children_of_children),
        T(very_deep_nesting_is_no_trouble),
        T(a_shield_protects_from_the_outer_scope_but_not_from_those_inside),
        T(when_the_shield_ends_the_cancel_is_still_there),
        T(a_shield_on_the_way_out_changes_nothing),
        T(a_deadline_inside_a_shield_is_kept_although_the_outer_scope_is_cancelled),
        T(a_scope_may_be_cancelled_by_who_did_not_open_it),
        T(a_passed_deadline_is_never_undone),
        T(a_deadline_counts_from_when_it_is_set_until_the_scope_is_closed),
        T(giving_way_is_enough_to_notice_a_deadline),
        T(setting_the_same_deadlines_again_and_again_leaves_one),
        T(the_effective_deadline_is_the_nearest_below_a_shield),
        T(moving_on_and_failing_after_a_time),
        T(a_wait_that_cannot_be_cancelled_goes_on_and_the_next_point_is_refused),
        T(a_wait_that_takes_time_to_cancel_is_cancelled_once),
        T(an_error_of_the_body_with_nobody_else_is_just_that),
        T(a_child_that_fails_wakes_the_parent_wherever_it_waits),
        T(a_child_that_fails_stops_its_loops_of_siblings),
        T(when_body_and_child_or_two_children_fail_one_error_comes_out),
        T(an_error_goes_up_through_all_scopes_and_out_of_run),
        T(run_does_not_nest),
        T(a_scope_takes_children_until_the_last_has_ended),
        T(waiting_until_a_child_is_up_is_a_message_and_ends_with_its_failure),
        T(an_error_beside_the_program_is_reported_and_stops_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
