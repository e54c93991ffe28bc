/* test_gen_scope.c - a body that yields with scopes and shields of its own open: they are not the consumer's, its children go on, and
 * cancels and deadlines reach whom they should: from whoever resumes it while it runs, from where it was made while it is suspended. */
#include "gen_parts.h"

#include "sched/scope.h"

enum { DEEP = 3, SAYS = 32 };

/* Let others run, whatever was cancelled. */
static void pass(void)
{
    sley_shield_begin();
    EXPECT(sley_yield() == 0);
    sley_shield_end();
}

/* ---- children ---- */

struct kid {
    sley_event *until;  /* NULL: it waits for ever */
    int returns;        /* 0: what its wait has said */
    int said;
    _Atomic(struct sl_fiber *) block;
    _Atomic(int) over;
};

static int be_a_kid(void *arg)
{
    struct kid *k = arg;

    k->block = sl_current();
    k->said = k->until != NULL ? sley_event_wait(k->until, SLEY_FOREVER) : sley_sleep(SLEY_FOREVER);
    k->over = 1;
    return k->returns != 0 ? k->returns : k->said;
}

static void until_it_waits(struct kid *k)
{
    for (;;) {
        struct sl_fiber *f = k->block;

        if (k->over || (f != NULL && SL_WORD_STATE(sl_load_acquire(&f->word)) == SL_WAITING))
            return;
        pass();
    }
}

static void until_it_is_over(struct kid *k)
{
    while (!k->over)
        pass();
}

/* ---- bodies ---- */

struct weave {
    sley_scope s[DEEP];
    struct kid kid[DEEP];      /* one in each */
    int depth;                 /* how many are open across its yields */
    int yields;
    int isolated;              /* the outermost one */
    int swallows;              /* what its scopes have returned */
    int shields_before, shields_inside; /* begun before the outermost scope, in the innermost one */
    sley_time deadline;        /* of the outermost one; 0: none */
    sley_event *waits;         /* after each yield: for this; NULL: it only tries */
    int quiet;                 /* ... not even that */
    int rc;
    int i;                     /* yields so far */
    int say[SAYS], tried[SAYS];/* what each yield returned, and then the wait */
    int result[DEEP];          /* of the scopes */
    _Atomic(struct sl_fiber *) block;
};

static int weave(void *arg)
{
    struct weave *w = arg;
    int rc = 0;

    for (int i = 0; i < w->shields_before; i++)
        sley_shield_begin();
    for (int d = 0; d < w->depth; d++) {
        sley_time deadline = d == 0 && w->deadline != 0 ? w->deadline : SLEY_FOREVER;

        if (d == 0 && w->isolated)
            sley_scope_init_isolated(&w->s[d], deadline);
        else
            sley_scope_init(&w->s[d], deadline);
        EXPECT(sley_go(be_a_kid, &w->kid[d]) == 0);
        until_it_waits(&w->kid[d]);
    }
    for (int i = 0; i < w->shields_inside; i++)
        sley_shield_begin();
    for (w->i = 0; w->i < w->yields && rc >= 0; w->i++) {
        rc = w->say[w->i % SAYS] = sley_gen_yield(&w->i, NULL);
        EXPECT(w->depth == 0 || sley_scope_current() == &w->s[w->depth - 1]);
        w->block = sl_current();
        if (!w->quiet)
            w->tried[w->i % SAYS] = w->waits != NULL ? sley_event_wait(w->waits, SLEY_FOREVER) : sley_yield();
        w->block = NULL;
    }
    for (int i = 0; i < w->shields_inside; i++)
        sley_shield_end();
    rc = rc < 0 ? rc : w->rc;
    for (int d = w->depth - 1; d >= 0; d--) {
        rc = w->result[d] = sley_scope_wait(&w->s[d], rc, SLEY_FOREVER);
        if (w->swallows)
            rc = 0;
    }
    for (int i = 0; i < w->shields_before; i++)
        sley_shield_end();
    return rc;
}

static sley_gen *woven(struct weave *w, int depth, int yields)
{
    w->depth = depth;
    w->yields = yields;
    return sley_gen_create(weave, w, sizeof(int));
}

/* ... and up to its first yield. */
static sley_gen *begun(struct weave *w, int depth, int yields)
{
    sley_gen *g = woven(w, depth, yields);
    int v = NOTHING;

    EXPECT(sley_gen_next(g, &v) == 1 && v == 0);
    return g;
}

static int cancel_when_it_waits(void *arg)
{
    void **pair = arg;
    struct weave *w = pair[0];
    struct sl_fiber *f;

    do
        pass();
    while ((f = w->block) == NULL || SL_WORD_STATE(sl_load_acquire(&f->word)) != SL_WAITING);
    sley_scope_cancel(pair[1]);
    return 0;
}

/* ---- whose scope it is ---- */

SCENARIO(a_scope_of_the_body_is_not_the_consumers)
{
    struct weave w = { .depth = 0 };
    sley_scope *before = sley_scope_current(), t;
    sley_event e = { { 0 } };
    sley_gen *g;
    struct kid k = { .until = &e };

    w.kid[0].until = w.kid[1].until = &e;
    g = begun(&w, 2, 3);
    EXPECT(sley_scope_current() == before && sley_cancelled() == 0);
    sley_scope_init(&t, SLEY_FOREVER);
    EXPECT(sley_go(be_a_kid, &k) == 0); /* of the consumer's */
    EXPECT(sley_gen_next(g, NULL) == 1 && sley_scope_current() == &t);
    sley_scope_cancel(&w.s[1]);
    sley_scope_cancel(&w.s[0]);
    EXPECT(sley_cancelled() == 0 && sley_yield() == 0);
    until_it_is_over(&w.kid[0]);
    until_it_is_over(&w.kid[1]);
    until_it_waits(&k);
    EXPECT(!k.over && w.kid[0].said == -ECANCELED && w.kid[1].said == -ECANCELED);
    sley_event_set(&e);
    EXPECT(sley_scope_wait(&t, 5, SLEY_FOREVER) == 5 && k.said == 0); /* closed while the body's, opened elsewhere, stay open */
    EXPECT(sley_scope_current() == before && sley_gen_next(g, NULL) == 1 && sley_gen_next(g, NULL) == 0);
    EXPECT(w.tried[0] == 0 && w.tried[1] == -ECANCELED && w.result[1] == -ECANCELED && w.result[0] == 0);
    sley_gen_destroy(g);
    sley_event_fini(&e);
}

SCENARIO(what_was_opened_in_a_scope_of_the_consumer_outlives_it)
{
    for (int depth = 1; depth <= DEEP; depth++) {
        struct weave w = { .depth = 0 };
        sley_event e = { { 0 } };
        sley_scope t;
        sley_gen *g;

        for (int d = 0; d < depth; d++)
            w.kid[d].until = &e;
        g = woven(&w, depth, 3);
        sley_scope_init(&t, SLEY_FOREVER);
        EXPECT(sley_gen_next(g, NULL) == 1); /* they are opened in t */
        EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0);
        memset(&t, 0xee, sizeof t);
        EXPECT(sley_gen_next(g, NULL) == 1 && w.tried[0] == 0);
        sley_scope_init_isolated(&t, SLEY_FOREVER);
        EXPECT(sley_gen_next(g, NULL) == 1 && w.tried[1] == 0);
        EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0);
        memset(&t, 0xee, sizeof t);
        for (int d = 0; d < depth; d++)
            EXPECT(!w.kid[d].over);
        sley_event_set(&e);
        EXPECT(sley_gen_next(g, NULL) == 0 && w.result[0] == 0);
        for (int d = 0; d < depth; d++)
            EXPECT(w.kid[d].over && w.kid[d].said == 0);
        EXPECT(is_untouched(&t, sizeof t));
        sley_gen_destroy(g);
        sley_event_fini(&e);
    }
}

struct counter {
    _Atomic(int) count, wanted;
    sley_event reached;
    sley_gen *g;
};

static int count_up(void *arg)
{
    struct counter *c = arg;
    int rc = 0;

    while (rc == 0) {
        rc = sley_yield();
        if (++c->count >= c->wanted && c->wanted > 0) {
            c->wanted = 0;
            sley_event_set(&c->reached);
        }
    }
    return rc;
}

static int yield_with_a_counting_child(void *arg)
{
    struct counter *c = arg;
    sley_scope s;
    int rc;

    sley_scope_init(&s, SLEY_FOREVER);
    rc = sley_go(count_up, c);
    for (int i = 0; i < 5 && rc >= 0; i++)
        rc = sley_gen_yield(&i, NULL);
    sley_scope_cancel(&s);
    return sley_scope_wait(&s, rc, SLEY_FOREVER);
}

SCENARIO(children_go_on_while_the_body_is_suspended)
{
    struct counter c = { .count = 0 };
    sley_gen *g = sley_gen_create(yield_with_a_counting_child, &c, sizeof(int));

    for (int i = 0; i < 5; i++) {
        EXPECT(sley_gen_next(g, NULL) == 1);
        c.wanted = c.count + 10;
        EXPECT(sley_event_wait(&c.reached, SLEY_FOREVER) == 0);
        sley_event_reset(&c.reached);
    }
    EXPECT(sley_gen_next(g, NULL) == 0 && sley_gen_result(g) == 0);
    sley_gen_destroy(g);
    sley_event_fini(&c.reached);
}

static int start_a_kid(void *arg)
{
    EXPECT(sley_go(be_a_kid, arg) == 0);
    return sley_gen_yield(NULL, NULL);
}

/* Without a scope of its own, a body starts fibers where it is resumed. */
SCENARIO(other_fibers_belong_to_the_scope_that_is_current)
{
    struct kid k = { .until = NULL };
    sley_gen *g = sley_gen_create(start_a_kid, &k, 0);
    sley_scope t;

    sley_scope_init(&t, SLEY_FOREVER);
    EXPECT(sley_gen_next(g, NULL) == 1);
    sley_scope_cancel(&t);
    EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0 && k.over && k.said == -ECANCELED);
    EXPECT(sley_gen_next(g, NULL) == 0);
    sley_gen_destroy(g);
}

/* ---- cancels while it runs ---- */

SCENARIO(a_cancel_of_the_consumers_scope_reaches_a_body_that_waits)
{
    for (int depth = 0; depth <= DEEP; depth++) {
        struct weave w = { .depth = 0 };
        sley_event never = { { 0 } };
        sley_scope t, canceller;
        void *pair[] = { &w, &t };
        sley_gen *g;

        w.waits = &never;
        g = begun(&w, depth, 9);
        sley_scope_init(&canceller, SLEY_FOREVER);
        EXPECT(sley_go(cancel_when_it_waits, pair) == 0);
        sley_scope_init(&t, SLEY_FOREVER);
        EXPECT(sley_gen_next(g, NULL) == 1 && w.tried[0] == -ECANCELED); /* it ignores that, and yields */
        EXPECT(sley_cancelled() == -ECANCELED);
        for (int d = 0; d < depth; d++) {
            until_it_is_over(&w.kid[d]);
            EXPECT(w.kid[d].said == -ECANCELED);
        }
        EXPECT(sley_gen_next(g, NULL) == 1 && w.tried[1] == -ECANCELED); /* in the same scope: it stays so */
        EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0 && sley_scope_wait(&canceller, 0, SLEY_FOREVER) == 0);
        w.waits = NULL;
        EXPECT(sley_gen_next(g, NULL) == 1); /* outside: its own scopes have been cancelled, and stay so; else it may wait again */
        EXPECT(w.tried[2] == (depth > 0 ? -ECANCELED : 0));
        w.yields = 4;
        EXPECT(sley_gen_next(g, NULL) == 0 || depth > 0);
        if (depth > 0) /* cut short from above: passed on */
            EXPECT(w.result[0] == -ECANCELED && w.result[depth - 1] == -ECANCELED && sley_gen_result(g) == -ECANCELED);
        sley_gen_destroy(g);
        sley_event_fini(&never);
    }
}

/* The deadline of a scope of the consumer: to its own result, by way of the body's. */
SCENARIO(a_deadline_of_the_consumers_scope_reaches_a_body_that_waits)
{
    for (int depth = 0; depth <= DEEP; depth++) {
        struct weave w = { .depth = 0 };
        sley_event never = { { 0 } };
        sley_scope t;
        sley_gen *g;
        int rc;

        w.waits = &never;
        g = begun(&w, depth, 2);
        w.yields = 1;
        sley_scope_init(&t, sley_after(SLEY_MS));
        rc = sley_gen_next(g, NULL);
        EXPECT(w.tried[0] == -ECANCELED && rc == (depth > 0 ? -ECANCELED : 0));
        EXPECT(depth == 0 || w.result[0] == -ECANCELED);
        EXPECT(sley_scope_wait(&t, rc, SLEY_FOREVER) == -ETIMEDOUT);
        sley_gen_destroy(g);
        sley_event_fini(&never);
    }
}

/* The body does not wait, and makes nothing of what its scopes return. But a deadline of the consumer's scope has cut its child short. */
SCENARIO(a_deadline_that_has_cut_short_a_child_of_the_body_is_told)
{
    for (int depth = 1; depth <= DEEP; depth++) {
        struct weave w = { .swallows = 1, .quiet = 1 };
        sley_scope t, u;
        sley_gen *g = woven(&w, depth, 1);

        sley_scope_init(&t, SLEY_FOREVER);
        sley_scope_init(&u, SLEY_FOREVER);
        EXPECT(sley_gen_next(g, NULL) == 1);
        sley_scope_set_deadline(&t, SLEY_NOW);
        for (int i = 0; i < 10; i++)
            pass();
        for (int d = 0; d < depth; d++) /* it is suspended: they are not inside of t */
            EXPECT(!w.kid[d].over);
        EXPECT(sley_gen_next(g, NULL) == 0 && w.result[0] == -ECANCELED && w.kid[0].said == -ECANCELED);
        EXPECT(sley_scope_wait(&u, 2, SLEY_FOREVER) == 2); /* it has cut nothing short by itself */
        EXPECT(sley_scope_wait(&t, 3, SLEY_FOREVER) == -ETIMEDOUT);
        sley_gen_destroy(g);
    }
}

SCENARIO(a_cancel_of_an_outer_scope_reaches_a_body_that_runs)
{
    struct weave w = { .depth = 0 };
    sley_event never = { { 0 } };
    sley_scope outer, middle, inner;
    void *pair[] = { &w, &outer };
    sley_gen *g;

    w.waits = &never;
    sley_scope_init(&outer, SLEY_FOREVER);
    g = begun(&w, 2, 9);
    EXPECT(sley_go(cancel_when_it_waits, pair) == 0);
    sley_scope_init(&middle, SLEY_FOREVER);
    sley_scope_init(&inner, SLEY_FOREVER);
    EXPECT(sley_gen_next(g, NULL) == 1 && w.tried[0] == -ECANCELED);
    EXPECT(sley_scope_wait(&inner, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_scope_wait(&middle, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_gen_close(g) == 0 && w.result[0] == -ECANCELED && w.result[1] == -ECANCELED && w.kid[1].said == -ECANCELED);
    EXPECT(sley_scope_wait(&outer, 0, SLEY_FOREVER) == 0);
    sley_gen_destroy(g);
    sley_event_fini(&never);
}

/* ---- cancels while it is suspended ---- */

SCENARIO(a_cancel_of_its_home_reaches_its_children_while_it_is_suspended)
{
    for (int depth = 1; depth <= DEEP; depth++) {
        struct weave w = { .depth = 0 };
        sley_scope home, t;
        sley_gen *g;

        sley_scope_init(&home, SLEY_FOREVER);
        g = woven(&w, depth, 9);
        sley_scope_init(&t, SLEY_FOREVER);
        EXPECT(sley_gen_next(g, NULL) == 1);
        EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0);
        sley_scope_cancel(&home);
        for (int d = 0; d < depth; d++) {
            until_it_is_over(&w.kid[d]); /* it has not run meanwhile */
            EXPECT(w.kid[d].said == -ECANCELED);
        }
        EXPECT(sley_gen_next(g, NULL) == 1 && w.tried[0] == -ECANCELED);
        EXPECT(sley_scope_wait(&home, 0, SLEY_FOREVER) == 0);
        EXPECT(sley_gen_result(g) == -ECANCELED && w.result[0] == -ECANCELED);
        sley_gen_destroy(g);
    }
}

/* ... also if who resumed it last had a shield open, for which the shield was. */
SCENARIO(a_cancel_of_its_home_reaches_its_children_though_it_was_resumed_under_a_shield)
{
    for (int again = 0; again < 2; again++) {
        struct weave w = { .depth = 0 };
        sley_scope home;
        sley_gen *g;

        sley_scope_init(&home, SLEY_FOREVER);
        g = woven(&w, 2, 9);
        if (again)
            EXPECT(sley_gen_next(g, NULL) == 1); /* opened without, resumed with one */
        sley_shield_begin();
        EXPECT(sley_gen_next(g, NULL) == 1);
        sley_shield_end();
        sley_scope_cancel(&home);
        until_it_is_over(&w.kid[0]);
        until_it_is_over(&w.kid[1]);
        EXPECT(w.kid[0].said == -ECANCELED && w.kid[1].said == -ECANCELED);
        EXPECT(sley_gen_close(g) == 0);
        sley_gen_destroy(g);
        EXPECT(sley_scope_wait(&home, 0, SLEY_FOREVER) == 0);
    }
}

SCENARIO(a_home_that_is_cancelled_already_reaches_what_the_body_leaves_there)
{
    struct weave w = { .depth = 0 };
    sley_scope home;
    sley_gen *g;

    sley_scope_init(&home, SLEY_FOREVER);
    g = woven(&w, 2, 9);
    sley_scope_cancel(&home);
    sley_shield_begin();
    EXPECT(sley_gen_next(g, NULL) == 1); /* the children run: it is under a shield */
    sley_shield_end();
    until_it_is_over(&w.kid[0]); /* suspended it is not */
    until_it_is_over(&w.kid[1]);
    EXPECT(w.kid[0].said == -ECANCELED && w.kid[1].said == -ECANCELED && sley_gen_close(g) == 0);
    sley_gen_destroy(g);
    EXPECT(sley_scope_wait(&home, 0, SLEY_FOREVER) == 0);
}

SCENARIO(a_cancel_of_where_it_was_resumed_is_no_matter_once_it_is_suspended)
{
    struct weave w = { .depth = 0 };
    sley_event e = { { 0 } };
    sley_scope t;
    sley_gen *g;

    w.kid[0].until = w.kid[1].until = &e;
    g = woven(&w, 2, 9);
    sley_scope_init(&t, SLEY_FOREVER);
    EXPECT(sley_gen_next(g, NULL) == 1);
    sley_scope_cancel(&t);
    EXPECT(sley_yield() == -ECANCELED);
    EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_gen_next(g, NULL) == 1 && w.tried[0] == 0 && !w.kid[0].over && !w.kid[1].over);
    w.yields = 2;
    sley_event_set(&e);
    EXPECT(sley_gen_next(g, NULL) == 0 && w.result[0] == 0 && w.kid[0].said == 0 && w.kid[1].said == 0);
    sley_gen_destroy(g);
    sley_event_fini(&e);
}

SCENARIO(resumed_in_a_cancelled_scope_its_own_scopes_are_cancelled_for_good)
{
    struct weave w = { .depth = 0 };
    sley_scope t;
    sley_gen *g = begun(&w, 2, 9);

    sley_scope_init(&t, SLEY_FOREVER);
    sley_scope_cancel(&t);
    EXPECT(sley_gen_next(g, NULL) == 1 && w.tried[0] == -ECANCELED);
    until_it_is_over(&w.kid[0]);
    until_it_is_over(&w.kid[1]);
    EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_gen_next(g, NULL) == 1 && w.tried[1] == -ECANCELED && sley_cancelled() == 0);
    EXPECT(sley_gen_close(g) == 0 && w.result[0] == -ECANCELED);
    sley_gen_destroy(g);
}

SCENARIO(its_own_deadline_passes_while_it_is_suspended)
{
    for (int depth = 1; depth <= DEEP; depth++) {
        struct weave w = { .deadline = sley_after(2 * SLEY_MS) };
        sley_gen *g = begun(&w, depth, 2);

        w.yields = 1;
        for (int d = 0; d < depth; d++) {
            until_it_is_over(&w.kid[d]);
            EXPECT(w.kid[d].said == -ECANCELED);
        }
        EXPECT(sley_now() >= w.deadline && sley_cancelled() == 0);
        EXPECT(sley_gen_next(g, NULL) == -ETIMEDOUT && w.tried[0] == -ECANCELED && w.result[0] == -ETIMEDOUT);
        sley_gen_destroy(g);
    }
}

SCENARIO(its_own_deadline_is_moved_while_it_is_suspended)
{
    struct weave w = { .deadline = sley_after(3600 * SLEY_S) };
    sley_gen *g = begun(&w, 2, 2);

    w.yields = 1;
    sley_scope_set_deadline(&w.s[0], SLEY_NOW);
    until_it_is_over(&w.kid[0]);
    until_it_is_over(&w.kid[1]);
    EXPECT(sley_gen_next(g, NULL) == -ETIMEDOUT && w.result[1] == -ECANCELED && w.result[0] == -ETIMEDOUT);
    sley_gen_destroy(g);
}

SCENARIO(an_error_of_its_child_is_the_bodys_business)
{
    for (int suspended = 0; suspended < 2; suspended++) {
        struct weave w = { .depth = 0 };
        sley_event e = { { 0 } }, never = { { 0 } };
        sley_gen *g;

        w.kid[0].until = &e;
        w.kid[0].returns = -EBADMSG;
        w.waits = suspended ? NULL : &never;
        g = begun(&w, 2, 9);
        sley_event_set(&e);
        if (suspended) {
            until_it_is_over(&w.kid[0]);
            until_it_is_over(&w.kid[1]); /* cancelled by the error of the other */
            EXPECT(w.kid[1].said == -ECANCELED);
        }
        w.yields = 1;
        EXPECT(sley_cancelled() == 0 && sley_gen_next(g, NULL) == -EBADMSG && w.tried[0] == -ECANCELED && w.result[0] == -EBADMSG);
        EXPECT(sley_cancelled() == 0);
        sley_gen_destroy(g);
        sley_event_fini(&e);
        sley_event_fini(&never);
    }
}

static _Atomic(int) errors_told;

static void on_error(void *ctx, uint64_t fiber, const char *name, int error)
{
    (void)ctx;
    (void)fiber;
    (void)name;
    errors_told += error == -EBADMSG;
}

static int have_an_isolated_scope(void *arg)
{
    struct weave w = { .isolated = 1 };
    sley_event e = { { 0 } };
    sley_gen *g;

    (void)arg;
    w.kid[0].until = &e;
    w.kid[0].returns = -EBADMSG;
    g = begun(&w, 1, 2);
    sley_event_set(&e);
    while (errors_told == 0)
        pass();
    EXPECT(sley_gen_next(g, NULL) == 1 && w.tried[0] == 0 && sley_gen_next(g, NULL) == 0 && w.result[0] == 0);
    sley_gen_destroy(g);
    sley_event_fini(&e);
    return 0;
}

static void an_error_in_an_isolated_scope_of_the_body_stops_nobody(void **state)
{
    (void)state;
    errors_told = 0;
    run_scene(&(sley_options){ .on_error = on_error }, have_an_isolated_scope, 0);
    assert_int_equal(errors_told, 1);
}

/* ---- deeper and deeper ---- */

struct descent {
    sley_gen *g;
    struct weave w;
    int depth, cancel_at;
};

static void resume_deeper(struct descent *d, int depth)
{
    sley_scope t;
    int v;

    if (depth == d->depth)
        return;
    if (depth % 2)
        sley_scope_init(&t, SLEY_FOREVER);
    else
        sley_scope_init_isolated(&t, sley_after(3600 * SLEY_S));
    EXPECT(sley_gen_next(d->g, &v) == 1 && sley_scope_current() == &t);
    if (depth == d->cancel_at)
        sley_scope_cancel(&t);
    resume_deeper(d, depth + 1);
    EXPECT(sley_gen_next(d->g, &v) == 1 && sley_scope_current() == &t); /* on the way back too */
    EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0);
    memset(&t, 0xee, sizeof t);
}

SCENARIO(it_is_resumed_in_deeper_and_deeper_scopes)
{
    enum { LEVELS = 12 };

    for (int cancel_at = -1; cancel_at < LEVELS; cancel_at += 4) {
        struct descent d = { .depth = LEVELS, .cancel_at = cancel_at };
        sley_event e = { { 0 } };

        d.w.kid[0].until = d.w.kid[1].until = &e;
        d.g = begun(&d.w, 2, 1000);
        resume_deeper(&d, 0);
        for (int i = 0; i < 2 * LEVELS; i++)
            EXPECT(d.w.tried[i] == (cancel_at >= 0 && i > cancel_at ? -ECANCELED : 0));
        if (cancel_at >= 0)
            until_it_is_over(&d.w.kid[0]);
        else
            EXPECT(!d.w.kid[0].over);
        d.w.yields = d.w.i + 1;
        sley_event_set(&e);
        EXPECT(sley_gen_next(d.g, NULL) == (cancel_at >= 0 ? -ECANCELED : 0));
        sley_gen_destroy(d.g);
        sley_event_fini(&e);
    }
}

/* Open in one place, closed in another; a new one each time. */
static int open_and_close_over_yields(void *arg)
{
    int rc = 0;

    (void)arg;
    for (int i = 0; rc >= 0; i++) {
        sley_scope s;

        if (i % 2)
            sley_shield_begin();
        sley_scope_init(&s, SLEY_FOREVER);
        for (int k = 0; k < i % 4 && rc >= 0; k++)
            rc = sley_gen_yield(&i, NULL);
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
        if (rc >= 0 && i % 3 == 0)
            rc = sley_gen_yield(&i, NULL);
        if (i % 2)
            sley_shield_end();
    }
    return rc;
}

SCENARIO(a_scope_may_be_opened_in_one_place_and_closed_in_another)
{
    sley_gen *g = sley_gen_create(open_and_close_over_yields, NULL, sizeof(int));
    int last = 0, v;

    for (int round = 0; round < 60; round++) {
        sley_scope t, u;

        sley_scope_init(&t, SLEY_FOREVER);
        EXPECT(sley_gen_next(g, &v) == 1 && v >= last);
        if (round % 3 == 0) {
            sley_shield_begin();
            sley_scope_init(&u, SLEY_FOREVER);
            EXPECT(sley_gen_next(g, &v) == 1 && v >= last);
            EXPECT(sley_scope_wait(&u, 0, SLEY_FOREVER) == 0);
            sley_shield_end();
        }
        last = v;
        EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0);
        EXPECT(sley_yield() == 0);
    }
    EXPECT(last > 20);
    sley_gen_destroy(g);
}

/* ---- shields ---- */

SCENARIO(a_shield_of_the_body_is_not_the_consumers)
{
    for (int where = 0; where < 4; where++) {
        struct weave w = { .shields_before = where == 0 || where == 2 ? 2 : 0, .shields_inside = where == 1 || where == 2 ? 3 : 0 };
        int depth = where == 0 ? 0 : 1;
        sley_event e = { { 0 } };
        sley_scope t;
        sley_gen *g;

        if (where == 3) { /* a shield, then a scope: what concerns the consumer does not come down */
            w.shields_before = 1;
            depth = 2;
        }
        w.kid[0].until = w.kid[1].until = &e;
        g = begun(&w, depth, 3);
        sley_scope_init(&t, SLEY_FOREVER);
        sley_scope_cancel(&t);
        EXPECT(sley_yield() == -ECANCELED && sley_cancelled() == -ECANCELED);
        EXPECT(sley_gen_next(g, NULL) == 1 && w.tried[0] == 0); /* in its shield */
        EXPECT(sley_yield() == -ECANCELED && sley_cancelled() == -ECANCELED);
        EXPECT(sley_gen_next(g, NULL) == 1 && w.tried[1] == 0);
        if (where == 1) /* its child is in the scope, outside of that shield */
            until_it_is_over(&w.kid[0]);
        else
            EXPECT(!w.kid[0].over);
        EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0);
        sley_event_set(&e);
        EXPECT(sley_gen_next(g, NULL) == (where == 1 ? -ECANCELED : 0));
        sley_gen_destroy(g);
        sley_event_fini(&e);
    }
}

SCENARIO(a_shield_of_the_consumer_covers_the_body_while_it_runs)
{
    for (int depth = 0; depth <= 2; depth++) {
        struct weave w = { .depth = 0 };
        sley_event e = { { 0 } };
        sley_scope t;
        sley_gen *g;

        w.kid[0].until = w.kid[1].until = &e;
        g = begun(&w, depth, 9);
        sley_scope_init(&t, SLEY_FOREVER);
        sley_scope_cancel(&t);
        sley_shield_begin();
        EXPECT(sley_gen_next(g, NULL) == 1 && w.tried[0] == 0);
        sley_shield_begin();
        EXPECT(sley_gen_next(g, NULL) == 1 && w.tried[1] == 0);
        sley_shield_end();
        EXPECT(sley_gen_next(g, NULL) == 1 && w.tried[2] == 0 && (depth == 0 || !w.kid[0].over));
        sley_shield_end();
        EXPECT(sley_gen_next(g, NULL) == 1 && w.tried[3] == -ECANCELED);
        EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0);
        sley_event_set(&e);
        sley_gen_destroy(g);
        sley_event_fini(&e);
    }
}

static int count_shields(void *arg)
{
    int *counts = arg;
    sley_scope s;

    counts[0] = sl_current()->shields;
    sley_shield_begin();
    sley_shield_begin();
    EXPECT(sley_gen_yield(NULL, NULL) == 0);
    counts[1] = sl_current()->shields;
    sley_scope_init(&s, SLEY_FOREVER);
    sley_shield_begin();
    EXPECT(sley_gen_yield(NULL, NULL) == 0);
    counts[2] = sl_current()->shields;
    sley_shield_end();
    EXPECT(sley_gen_yield(NULL, NULL) == 0);
    counts[3] = sl_current()->shields;
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    counts[4] = sl_current()->shields;
    EXPECT(sley_gen_yield(NULL, NULL) == 0);
    counts[5] = sl_current()->shields;
    sley_shield_end();
    EXPECT(sley_gen_yield(NULL, NULL) == 0);
    sley_shield_end();
    counts[6] = sl_current()->shields;
    EXPECT(sley_gen_yield(NULL, NULL) == 0);
    counts[7] = sl_current()->shields;
    return 0;
}

/* How many are open, for each resume under another number of the consumer's. */
SCENARIO(shields_are_counted_right_through_every_yield)
{
    static const struct { int resume, of_body, in_own_scope; } wanted[] = { /* of the body, in its innermost scope */
        { 0, 0, 0 }, { 1, 2, 0 }, { 2, 1, 1 }, { 3, 0, 1 }, { 3, 2, 0 }, { 4, 2, 0 }, { 5, 0, 0 }, { 6, 0, 0 },
    };

    for (int k = 0; k < 3; k++) {
        int counts[8], around[7];
        sley_gen *g = sley_gen_create(count_shields, counts, 0);

        for (int i = 0; i < 7; i++) {
            around[i] = k == 0 ? 0 : k == 1 ? i % 3 : (7 - i) % 4;
            for (int n = 0; n < around[i]; n++)
                sley_shield_begin();
            EXPECT(sley_gen_next(g, NULL) == (i < 6) && sl_current()->shields == around[i]);
            for (int n = 0; n < around[i]; n++)
                sley_shield_end();
        }
        for (int i = 0; i < 8; i++)
            EXPECT(counts[i] == wanted[i].of_body + (wanted[i].in_own_scope ? 0 : around[wanted[i].resume]));
        sley_gen_destroy(g);
    }
}

/* ---- results ---- */

static int fail_in_own_scope(void *arg)
{
    sley_scope s;
    int rc;

    sley_scope_init(&s, SLEY_FOREVER);
    rc = sley_gen_yield(NULL, NULL);
    (void)arg;
    return sley_scope_wait(&s, rc < 0 ? rc : -EDOM, SLEY_FOREVER);
}

SCENARIO(an_error_of_the_body_is_the_result_of_its_scope)
{
    sley_gen *g = sley_gen_create(fail_in_own_scope, NULL, 0);
    sley_scope t;

    sley_scope_init(&t, SLEY_FOREVER);
    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_next(g, NULL) == -EDOM && sley_cancelled() == 0);
    sley_gen_destroy(g);
    g = sley_gen_create(fail_in_own_scope, NULL, 0);
    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_throw(g, -EIO, NULL) == -EIO && sley_cancelled() == 0);
    sley_gen_destroy(g);
    g = sley_gen_create(fail_in_own_scope, NULL, 0);
    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_close(g) == 0 && sley_cancelled() == 0);
    sley_gen_destroy(g);
    EXPECT(sley_scope_wait(&t, 1, SLEY_FOREVER) == 1);
}

static int yield_in_a_run(void *arg)
{
    struct kid *k = arg;
    int rc = sley_go(be_a_kid, k);

    for (int i = 0; i < 3 && rc >= 0; i++)
        rc = sley_gen_yield(&i, NULL);
    return rc;
}

static int run_a_scope(void *arg)
{
    return sley_scope_run(yield_in_a_run, arg, SLEY_FOREVER);
}

SCENARIO(a_scope_run_yields_too)
{
    sley_event e = { { 0 } };
    struct kid k = { .until = &e };
    sley_gen *g = sley_gen_create(run_a_scope, &k, sizeof(int));
    int v;

    for (int i = 0; i < 3; i++)
        EXPECT(sley_gen_next(g, &v) == 1 && v == i && !k.over);
    sley_event_set(&e);
    EXPECT(sley_gen_next(g, &v) == 0 && k.said == 0);
    sley_gen_destroy(g);
    k = (struct kid){ .until = NULL };
    g = sley_gen_create(run_a_scope, &k, sizeof(int));
    EXPECT(sley_gen_next(g, &v) == 1 && sley_gen_close(g) == 0 && k.over && k.said == -ECANCELED);
    sley_gen_destroy(g);
    sley_event_fini(&e);
}

SCENARIO(closing_it_at_any_of_its_yields_ends_its_children)
{
    for (int depth = 1; depth <= DEEP; depth++) {
        for (int stop = 1; stop < 4; stop++) {
            struct weave w = { .shields_inside = stop % 2, .shields_before = stop / 2 };
            sley_gen *g = woven(&w, depth, 9);

            for (int i = 0; i < stop; i++)
                EXPECT(sley_gen_next(g, NULL) == 1);
            if (stop == 3)
                EXPECT(sley_gen_throw(g, -EIO, NULL) == -EIO && w.result[0] == -EIO);
            sley_gen_destroy(g);
            for (int d = 0; d < depth; d++)
                EXPECT(w.kid[d].over && w.kid[d].said == -ECANCELED);
        }
    }
}

SCENARIO(the_end_of_its_home_closes_it_with_its_scopes)
{
    for (int depth = 0; depth <= DEEP; depth++) {
        struct weave w = { .shields_before = depth % 2 };
        sley_scope home, t;
        sley_gen *g;

        sley_scope_init(&home, SLEY_FOREVER);
        g = woven(&w, depth, 9);
        sley_scope_init(&t, SLEY_FOREVER);
        EXPECT(sley_gen_next(g, NULL) == 1);
        EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0);
        EXPECT(sley_scope_wait(&home, 4, SLEY_FOREVER) == 4);
        EXPECT(sley_gen_state(g) == SLEY_GEN_CLOSED && w.say[0] == -ECANCELED);
        for (int d = 0; d < depth; d++)
            EXPECT(w.kid[d].over && w.kid[d].said == -ECANCELED && w.result[d] == -ECANCELED);
        sley_gen_destroy(g);
    }
}

/* ---- scopes of generators in generators ---- */

struct pair {
    struct weave outer, inner;
    sley_gen *g; /* the inner one */
};

/* Weaves, and resumes the inner one before each of its yields. */
static int weave_around(void *arg)
{
    struct pair *p = arg;
    struct weave *w = &p->outer;
    int rc = 0;

    sley_scope_init(&w->s[0], SLEY_FOREVER);
    EXPECT(sley_go(be_a_kid, &w->kid[0]) == 0);
    until_it_waits(&w->kid[0]);
    for (w->i = 0; w->i < w->yields && rc >= 0; w->i++) {
        EXPECT(sley_gen_next(p->g, NULL) == 1 && sley_scope_current() == &w->s[0]);
        rc = w->say[w->i] = sley_gen_yield(&w->i, NULL);
        w->tried[w->i] = sley_yield();
    }
    w->result[0] = sley_scope_wait(&w->s[0], rc, SLEY_FOREVER);
    return w->result[0];
}

SCENARIO(bodies_with_scopes_resume_each_other)
{
    for (int how = 0; how < 4; how++) {
        struct pair p = { .g = NULL };
        sley_event e = { { 0 } };
        sley_scope t;
        sley_gen *g;

        p.outer.kid[0].until = p.inner.kid[0].until = p.inner.kid[1].until = &e;
        p.g = woven(&p.inner, 2, 9);
        g = sley_gen_create(weave_around, &p, sizeof(int));
        p.outer.yields = 5;
        for (int i = 0; i < 2; i++) {
            EXPECT(sley_gen_next(g, NULL) == 1);
            sley_scope_init(&t, SLEY_FOREVER);
            EXPECT(sley_gen_next(p.g, NULL) == 1); /* now here, now there */
            EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0);
        }
        for (int i = 0; i < 3; i++)
            EXPECT(p.inner.tried[i] == 0);
        EXPECT(p.outer.tried[0] == 0 && !p.outer.kid[0].over && !p.inner.kid[0].over && !p.inner.kid[1].over);
        if (how == 0) { /* the scope of the outer one reaches the inner one when it is resumed there, not before */
            sley_scope_cancel(&p.outer.s[0]);
            until_it_is_over(&p.outer.kid[0]);
            EXPECT(!p.inner.kid[0].over && sley_gen_next(p.g, NULL) == 1 && p.inner.tried[3] == 0);
            EXPECT(sley_gen_next(g, NULL) == 1 && p.outer.tried[1] == -ECANCELED && p.inner.tried[4] == -ECANCELED);
            until_it_is_over(&p.inner.kid[0]);
            until_it_is_over(&p.inner.kid[1]);
        } else if (how == 1) { /* that of the inner one is its own */
            sley_scope_cancel(&p.inner.s[0]);
            until_it_is_over(&p.inner.kid[0]);
            until_it_is_over(&p.inner.kid[1]);
            EXPECT(sley_gen_next(g, NULL) == 1 && p.outer.tried[1] == 0 && p.inner.tried[3] == -ECANCELED && !p.outer.kid[0].over);
        } else if (how == 2) { /* that of the consumer reaches both */
            sley_scope_init(&t, SLEY_FOREVER);
            sley_scope_cancel(&t);
            EXPECT(sley_gen_next(g, NULL) == 1 && p.outer.tried[1] == -ECANCELED && p.inner.tried[3] == -ECANCELED);
            EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0);
        }
        sley_event_set(&e);
        EXPECT(sley_gen_close(g) == 0 && sley_gen_close(p.g) == 0);
        sley_gen_destroy(g);
        sley_gen_destroy(p.g);
        sley_event_fini(&e);
    }
}

/* An inner one that is made in a scope of the outer body has its home there, which moves. */
static int make_inside_and_weave(void *arg)
{
    struct pair *p = arg;
    struct weave *w = &p->outer;
    int rc = 0;

    sley_scope_init(&w->s[0], SLEY_FOREVER);
    p->g = woven(&p->inner, 2, 9);
    EXPECT(sley_gen_next(p->g, NULL) == 1);
    for (w->i = 0; w->i < w->yields && rc >= 0; w->i++)
        rc = sley_gen_yield(&w->i, NULL);
    w->result[0] = sley_scope_wait(&w->s[0], rc, SLEY_FOREVER);
    return w->result[0];
}

SCENARIO(a_home_may_move)
{
    for (int how = 0; how < 3; how++) {
        struct pair p = { .g = NULL };
        sley_scope home, t;
        sley_gen *g;

        sley_scope_init(&home, SLEY_FOREVER);
        g = sley_gen_create(make_inside_and_weave, &p, sizeof(int));
        p.outer.yields = 5;
        sley_scope_init(&t, SLEY_FOREVER);
        EXPECT(sley_gen_next(g, NULL) == 1);
        EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0);
        EXPECT(!p.inner.kid[0].over && sley_gen_next(p.g, NULL) == 1 && p.inner.tried[0] == 0);
        if (how == 0) {
            sley_scope_cancel(&home); /* both are suspended: from the home of one to the home of the other */
            until_it_is_over(&p.inner.kid[0]);
            until_it_is_over(&p.inner.kid[1]);
        } else if (how == 1) {
            sley_scope_cancel(&p.outer.s[0]);
            until_it_is_over(&p.inner.kid[0]);
            until_it_is_over(&p.inner.kid[1]);
        }
        EXPECT(sley_scope_wait(&home, 0, SLEY_FOREVER) == 0);
        EXPECT(sley_gen_state(g) == SLEY_GEN_CLOSED && sley_gen_state(p.g) == SLEY_GEN_CLOSED && p.inner.kid[1].said == -ECANCELED);
        sley_gen_destroy(g);
        sley_gen_destroy(p.g);
    }
}

/* ---- handing over ---- */

static int yield_with_something_open(void *arg)
{
    int *what = arg;
    sley_scope s;

    for (int i = 0; i < 3; i++) {
        *what = i;
        if (i == 0)
            sley_shield_begin();
        else
            sley_scope_init(&s, SLEY_FOREVER);
        if (sley_gen_yield(NULL, NULL) < 0)
            *what = -1;
        if (i == 0)
            sley_shield_end();
        else
            EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
        if (*what < 0 || sley_gen_yield(NULL, NULL) < 0)
            return -ECANCELED;
    }
    return 0;
}

static int adopt_and_go_on(void *arg)
{
    sley_gen *g = arg;

    EXPECT(sley_gen_adopt(g) == 0 && sley_gen_next(g, NULL) == 1);
    EXPECT(sley_gen_release(g) == -EBUSY); /* the next thing is open */
    EXPECT(sley_gen_next(g, NULL) == 1);
    return sley_gen_release(g);
}

SCENARIO(with_a_scope_or_shield_open_it_cannot_be_handed_over)
{
    int what = NOTHING;
    sley_gen *g = sley_gen_create(yield_with_something_open, &what, 0);
    struct actor a;

    EXPECT(sley_gen_next(g, NULL) == 1 && what == 0);
    for (int i = 0; i < 2; i++)
        EXPECT(sley_gen_release(g) == -EBUSY && sley_gen_adopt(g) == -EALREADY);
    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_release(g) == 0);
    actor_start(&a, adopt_and_go_on, g);
    EXPECT(actor_result(&a) == 0 && what == 1);
    EXPECT(sley_gen_adopt(g) == 0 && sley_gen_next(g, NULL) == 1 && what == 2 && sley_gen_release(g) == -EBUSY);
    sley_gen_destroy(g);
    EXPECT(what == -1);
}

static int shield_across_a_yield(void *arg)
{
    (void)arg;
    sley_shield_begin();
    EXPECT(sley_gen_yield(NULL, NULL) == 0);
    sley_shield_end();
    return 0;
}

SCENARIO(a_shield_across_a_yield_on_a_thread)
{
    sley_gen *g = sley_gen_create(shield_across_a_yield, NULL, 0);

    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_release(g) == -EBUSY && sl_current()->shields == 0);
    EXPECT(sley_gen_next(g, NULL) == 0 && sl_current()->shields == 0);
    sley_gen_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_FIBERS(a_scope_of_the_body_is_not_the_consumers),
        ON_FIBERS(what_was_opened_in_a_scope_of_the_consumer_outlives_it),
        ON_FIBERS(children_go_on_while_the_body_is_suspended),
        ON_FIBERS(other_fibers_belong_to_the_scope_that_is_current),
        ON_FIBERS(a_cancel_of_the_consumers_scope_reaches_a_body_that_waits),
        ON_FIBERS(a_deadline_of_the_consumers_scope_reaches_a_body_that_waits),
        ON_FIBERS(a_deadline_that_has_cut_short_a_child_of_the_body_is_told),
        ON_FIBERS(a_cancel_of_an_outer_scope_reaches_a_body_that_runs),
        ON_FIBERS(a_cancel_of_its_home_reaches_its_children_while_it_is_suspended),
        ON_FIBERS(a_cancel_of_its_home_reaches_its_children_though_it_was_resumed_under_a_shield),
        ON_FIBERS(a_home_that_is_cancelled_already_reaches_what_the_body_leaves_there),
        ON_FIBERS(a_cancel_of_where_it_was_resumed_is_no_matter_once_it_is_suspended),
        ON_FIBERS(resumed_in_a_cancelled_scope_its_own_scopes_are_cancelled_for_good),
        ON_FIBERS(its_own_deadline_passes_while_it_is_suspended),
        ON_FIBERS(its_own_deadline_is_moved_while_it_is_suspended),
        ON_FIBERS(an_error_of_its_child_is_the_bodys_business),
        cmocka_unit_test(an_error_in_an_isolated_scope_of_the_body_stops_nobody),
        ON_FIBERS(it_is_resumed_in_deeper_and_deeper_scopes),
        ON_FIBERS(a_scope_may_be_opened_in_one_place_and_closed_in_another),
        ON_FIBERS(a_shield_of_the_body_is_not_the_consumers),
        ON_FIBERS(a_shield_of_the_consumer_covers_the_body_while_it_runs),
        ON_FIBERS(shields_are_counted_right_through_every_yield),
        ON_FIBERS(an_error_of_the_body_is_the_result_of_its_scope),
        ON_FIBERS(a_scope_run_yields_too),
        ON_FIBERS(closing_it_at_any_of_its_yields_ends_its_children),
        ON_FIBERS(the_end_of_its_home_closes_it_with_its_scopes),
        ON_FIBERS(bodies_with_scopes_resume_each_other),
        ON_FIBERS(a_home_may_move),
        ON_FIBERS(with_a_scope_or_shield_open_it_cannot_be_handed_over),
        ON_BOTH(a_shield_across_a_yield_on_a_thread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
