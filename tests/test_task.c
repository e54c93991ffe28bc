/* test_task.c - tasks: their outcome, their place in the scopes, cancelling exactly one of them, what happens to an error that nobody
 * awaits; and the races of completing, cancelling, awaiting and giving back, by many and with a seed. Futures that are no tasks and the
 * waits themselves: test_future.c. */
#include "scenario.h"

#define ON_FIBERS(test) { #test, test, NULL, NULL, &casts[0] }

/* ---- tasks for the tests ---- */

struct job {
    int rc;      /* what it is to return, but for -ECANCELED */
    int runs;    /* how often it has run */
    int waited;  /* what its wait returned */
    uint64_t self;
    sley_event *until; /* waits for it; NULL: for ever */
    _Atomic(struct sl_fiber *) block;
    _Atomic(int) over;
};

static int at_once(void *arg)
{
    struct job *j = arg;

    j->runs++;
    j->self = sley_self();
    return j->rc;
}

/* Waits, and passes on what the wait says. */
static int obedient(void *arg)
{
    struct job *j = arg;

    j->runs++;
    j->self = sley_self();
    j->block = sl_current();
    j->waited = j->until != NULL ? sley_event_wait(j->until, SLEY_FOREVER) : sley_sleep(SLEY_FOREVER);
    j->over = 1;
    return j->waited < 0 ? j->waited : j->rc;
}

/* Waits, and returns its rc whatever the wait said. */
static int stubborn(void *arg)
{
    obedient(arg);
    return ((struct job *)arg)->rc;
}

static void until_it_waits(struct job *j)
{
    for (;;) {
        struct sl_fiber *f = j->block;

        if (f != NULL && SL_WORD_STATE(sl_load_acquire(&f->word)) == SL_WAITING)
            return;
        EXPECT(!j->over);
        give_way();
    }
}

static sley_future *waiting_task(sley_fn *fn, struct job *j)
{
    sley_future *f = sley_task_create(fn, j);

    until_it_waits(j);
    return f;
}

/* ---- outcomes ---- */

SCENARIO(task_outcome_is_what_its_function_returned)
{
    static const int results[] = { 0, 1, INT_MAX, -EIO, -EDOM, INT_MIN };

    for (size_t i = 0; i < sizeof results / sizeof *results; i++) {
        struct job j = { .rc = results[i] };
        sley_future *f = sley_task_create(at_once, &j);

        EXPECT(sley_await(f, SLEY_FOREVER) == results[i] && sley_await(f, SLEY_NOW) == results[i]);
        EXPECT(sley_future_state(f) == (results[i] >= 0 ? SLEY_FUTURE_DONE : SLEY_FUTURE_FAILED));
        EXPECT(sley_future_value(f) == &j && j.runs == 1 && j.self != 0 && j.self != sley_self());
        sley_future_destroy(f);
    }
}

struct sum { int n; long sum; unsigned char more[4096]; };

static int add_up(void *arg)
{
    struct sum *s = arg;

    EXPECT((uintptr_t)s % _Alignof(max_align_t) == 0);
    for (int i = 1; i <= s->n; i++)
        s->sum += i;
    return 0;
}

SCENARIO(task_copy_lives_with_the_future)
{
    static const size_t sizes[] = { offsetof(struct sum, more), 64, 65, 1024, sizeof(struct sum) };

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct sum *s = calloc(1, sizeof *s);
        sley_future *f;

        s->n = 1000;
        memset(s->more, 0x3c, sizeof s->more);
        f = sley_task_create_copy(add_up, s, sizes[i]);
        memset(s, 0xee, sizeof *s);
        free(s);
        EXPECT(sley_await(f, SLEY_FOREVER) == 0);
        s = sley_future_value(f);
        EXPECT(s->sum == 500500);
        for (size_t k = offsetof(struct sum, more); k < sizes[i]; k++)
            EXPECT(((unsigned char *)s)[k] == 0x3c);
        sley_future_destroy(f);
    }
}

static int is_given_nothing(void *arg)
{
    return arg == NULL ? 3 : -EINVAL;
}

SCENARIO(task_of_no_argument_gets_null)
{
    sley_future *f = sley_task_create(is_given_nothing, NULL), *g = sley_task_create_copy(is_given_nothing, &f, 0);

    EXPECT(sley_await(f, SLEY_FOREVER) == 3 && sley_await(g, SLEY_FOREVER) == 3 && sley_future_value(f) == NULL);
    sley_future_destroy(f);
    sley_future_destroy(g);
}

SCENARIO(task_is_completed_by_its_function_alone)
{
    struct job j = { .rc = 5 };
    sley_event e = { { 0 } };
    sley_future *f;

    j.until = &e;
    f = waiting_task(obedient, &j);
    EXPECT(sley_future_complete(f, NULL) == -EINVAL && sley_future_fail(f, -EIO) == -EINVAL);
    EXPECT(sley_future_state(f) == SLEY_FUTURE_PENDING);
    sley_event_set(&e);
    EXPECT(sley_await(f, SLEY_FOREVER) == 5);
    sley_future_destroy(f);
}

/* -ECANCELED without a cancel is an error like others. */
SCENARIO(task_that_says_cancelled_by_itself_has_failed)
{
    struct job j = { .rc = -ECANCELED };
    sley_future *f = sley_task_create(at_once, &j);

    EXPECT(sley_await(f, SLEY_FOREVER) == -ECANCELED && sley_future_state(f) == SLEY_FUTURE_FAILED);
    sley_future_destroy(f);
}

struct awaiting {
    struct actor actor;
    sley_future *f;
};

static int do_await(void *arg) { return sley_await(((struct awaiting *)arg)->f, SLEY_FOREVER); }

SCENARIO(task_is_awaited_by_fibers_and_threads)
{
    struct job j = { .rc = 11 };
    struct awaiting a[8];
    sley_event e = { { 0 } };

    j.until = &e;
    a[0].f = waiting_task(obedient, &j);
    for (int i = 0; i < 8; i++) {
        a[i].f = a[0].f;
        actor_start_as(&a[i].actor, i % 2, do_await, &a[i]);
        actor_waits(&a[i].actor);
    }
    sley_event_set(&e);
    for (int i = 0; i < 8; i++)
        EXPECT(actor_result(&a[i].actor) == 11);
    sley_future_destroy(a[0].f);
}

/* ---- its place ---- */

struct place {
    sley_scope *here;
    sley_future *inner;
    struct job child, task;
};

static int look_around(void *arg)
{
    struct place *p = arg;
    sley_scope s;

    p->here = sley_scope_current();
    EXPECT(sley_go(at_once, &p->child) == 0);
    p->inner = sley_task_create(at_once, &p->task);
    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_scope_current() == &s);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_scope_current() == p->here);
    return 0;
}

/* What a task starts belongs to the scope that the task is in, and may outlive the task. */
SCENARIO(task_belongs_to_the_current_scope)
{
    struct place p = { .here = NULL };
    sley_scope s;
    sley_future *f;

    sley_scope_init(&s, SLEY_FOREVER);
    f = sley_task_create(look_around, &p);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_future_state(f) == SLEY_FUTURE_DONE); /* no child outlives its scope */
    EXPECT(p.here == &s && p.child.runs == 1 && p.task.runs == 1);
    EXPECT(sley_await(p.inner, SLEY_NOW) == 0 && sley_await(f, SLEY_NOW) == 0);
    sley_future_destroy(p.inner);
    sley_future_destroy(f);
}

SCENARIO(task_error_does_not_go_to_the_scope)
{
    struct job failing = { .rc = -EIO }, waiting = { .rc = 1 };
    sley_event e = { { 0 } };
    sley_future *f, *g;
    sley_scope s;

    waiting.until = &e;
    sley_scope_init(&s, SLEY_FOREVER);
    g = waiting_task(obedient, &waiting);
    f = sley_task_create(at_once, &failing);
    EXPECT(sley_await(f, SLEY_FOREVER) == -EIO);
    EXPECT(sley_cancelled() == 0 && !waiting.over);
    sley_event_set(&e);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_await(g, SLEY_NOW) == 1);
    sley_future_destroy(f);
    sley_future_destroy(g);
}

SCENARIO(task_given_back_at_once_goes_on)
{
    struct job j = { .rc = 0 };
    sley_event e = { { 0 } };
    sley_scope s;

    j.until = &e;
    sley_scope_init(&s, SLEY_FOREVER);
    sley_future_destroy(sley_task_create(obedient, &j));
    until_it_waits(&j);
    sley_event_set(&e);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(j.runs == 1 && j.waited == 0);
}

static sley_future *from_a_thread;
static struct job of_a_thread = { .rc = 8 };

static int create_on_a_thread(void *arg)
{
    struct job ignored = { .rc = 0 };

    EXPECT(sley_task_create(at_once, &ignored) == NULL && sley_task_create_copy(at_once, &ignored, sizeof ignored) == NULL);
    EXPECT(sley_runtime_attach(arg) == 0);
    from_a_thread = sley_task_create(at_once, &of_a_thread); /* into the root scope, as sley_go */
    EXPECT(sley_await(from_a_thread, SLEY_FOREVER) == 8);
    sley_future_destroy(from_a_thread);
    sley_runtime_detach();
    return 0;
}

SCENARIO(task_can_be_started_on_attached_threads_alone)
{
    struct actor a;

    actor_start_as(&a, 1, create_on_a_thread, sley_runtime_current());
    EXPECT(actor_result(&a) == 0 && of_a_thread.runs == 1);
    EXPECT(sley_await(NULL, SLEY_FOREVER) == -EINVAL); /* where a task that could not be started shows */
}

/* ---- cancelling ---- */

SCENARIO(task_cancelled_before_it_begins_runs_all_the_same)
{
    struct job j = { .rc = 4 };
    sley_future *f;

    sley_pin(); /* so that it has not begun: nobody else takes it before this fiber waits, but another worker may */
    f = sley_task_create(obedient, &j);
    EXPECT(sley_future_cancel(f) == 0);
    sley_unpin();
    EXPECT(sley_await(f, SLEY_FOREVER) == -ECANCELED && sley_future_state(f) == SLEY_FUTURE_CANCELLED);
    EXPECT(j.runs == 1 && j.waited == -ECANCELED);
    EXPECT(sley_future_cancel(f) == -EALREADY);
    sley_future_destroy(f);
}

SCENARIO(task_cancelled_while_it_waits)
{
    struct job j = { .rc = 4 };
    sley_future *f = waiting_task(obedient, &j);
    int again;

    EXPECT(sley_future_cancel(f) == 0);
    again = sley_future_cancel(f); /* it may have ended by now */
    EXPECT(again == 0 || again == -EALREADY);
    EXPECT(sley_await(f, SLEY_FOREVER) == -ECANCELED && sley_future_state(f) == SLEY_FUTURE_CANCELLED);
    EXPECT(sley_future_cancel(f) == -EALREADY);
    sley_future_destroy(f);
}

static int computes(void *arg)
{
    struct job *j = arg;

    j->block = sl_current();
    while (sley_cancelled() == 0)
        sley_yield();
    j->waited = sley_sleep(0);
    return j->waited;
}

SCENARIO(task_cancelled_while_it_computes)
{
    struct job j = { .rc = 4 };
    sley_future *f = sley_task_create(computes, &j);

    while (j.block == NULL)
        give_way();
    EXPECT(sley_future_cancel(f) == 0);
    EXPECT(sley_await(f, SLEY_FOREVER) == -ECANCELED && j.waited == -ECANCELED);
    sley_future_destroy(f);
}

/* A cancel asks; what the task makes of it is its outcome. */
SCENARIO(task_may_end_as_it_likes_though_cancelled)
{
    static const int results[] = { 0, 6, -EIO };

    for (int i = 0; i < 3; i++) {
        struct job j = { .rc = results[i] };
        sley_future *f = waiting_task(stubborn, &j);

        EXPECT(sley_future_cancel(f) == 0);
        EXPECT(sley_await(f, SLEY_FOREVER) == results[i] && j.waited == -ECANCELED);
        EXPECT(sley_future_state(f) == (i < 2 ? SLEY_FUTURE_DONE : SLEY_FUTURE_FAILED));
        sley_future_destroy(f);
    }
}

struct family {
    struct job child, inside, isolated;
    int inside_rc, isolated_rc;
    sley_event *until;
};

static int parent(void *arg)
{
    struct family *m = arg;
    sley_scope s, i;
    int rc;

    m->child.until = m->until;
    EXPECT(sley_go(obedient, &m->child) == 0);
    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_go(obedient, &m->inside) == 0);
    sley_scope_init_isolated(&i, SLEY_FOREVER);
    EXPECT(sley_go(obedient, &m->isolated) == 0);
    m->isolated_rc = sley_scope_wait(&i, 0, SLEY_FOREVER);
    rc = m->inside_rc = sley_scope_wait(&s, m->isolated_rc, SLEY_FOREVER);
    return rc;
}

/* The fiber and the scopes it has opened; nobody else: not its siblings, not what it has started into the scope around it. */
SCENARIO(task_cancel_reaches_its_fiber_and_the_scopes_it_opened)
{
    struct family m = { .inside_rc = 1 };
    struct job sibling = { .rc = 2 };
    sley_event e = { { 0 } };
    sley_future *f, *g;
    sley_scope s;

    m.until = sibling.until = &e;
    sley_scope_init(&s, SLEY_FOREVER);
    g = waiting_task(obedient, &sibling);
    f = sley_task_create(parent, &m);
    until_it_waits(&m.child);
    until_it_waits(&m.inside);
    until_it_waits(&m.isolated);
    EXPECT(sley_future_cancel(f) == 0);
    EXPECT(sley_await(f, SLEY_FOREVER) == -ECANCELED && sley_future_state(f) == SLEY_FUTURE_CANCELLED);
    EXPECT(m.inside.waited == -ECANCELED && m.isolated.waited == -ECANCELED && m.inside_rc == -ECANCELED && m.isolated_rc == -ECANCELED);
    EXPECT(!m.child.over && !sibling.over && sley_cancelled() == 0);
    sley_event_set(&e);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(m.child.waited == 0 && sley_await(g, SLEY_NOW) == 2);
    sley_future_destroy(f);
    sley_future_destroy(g);
}

static int shielded(void *arg)
{
    struct job *j = arg;

    sley_shield_begin();
    obedient(j);
    EXPECT(j->waited == 0);
    sley_shield_end();
    return sley_sleep(0);
}

SCENARIO(task_under_a_shield_is_cancelled_behind_it)
{
    struct job j = { .rc = 0 };
    sley_event e = { { 0 } };
    sley_future *f;

    j.until = &e;
    f = waiting_task(shielded, &j);
    EXPECT(sley_future_cancel(f) == 0);
    EXPECT(sley_await(f, sley_after(SLEY_MS)) == -ETIMEDOUT && !j.over);
    sley_event_set(&e);
    EXPECT(sley_await(f, SLEY_FOREVER) == -ECANCELED && sley_future_state(f) == SLEY_FUTURE_CANCELLED);
    sley_future_destroy(f);
}

struct own {
    sley_future *f;
    sley_event started;
    int rc[6];
};

static int cancels_itself(void *arg)
{
    struct own *o = arg;

    o->rc[0] = sley_event_wait(&o->started, SLEY_FOREVER);
    o->rc[1] = sley_future_cancel(o->f);
    o->rc[2] = sley_cancelled();
    return o->rc[3] = sley_sleep(SLEY_FOREVER);
}

SCENARIO(task_may_cancel_itself)
{
    struct own o = { .f = NULL };

    o.f = sley_task_create(cancels_itself, &o);
    sley_event_set(&o.started);
    EXPECT(sley_await(o.f, SLEY_FOREVER) == -ECANCELED && sley_future_state(o.f) == SLEY_FUTURE_CANCELLED);
    EXPECT(o.rc[0] == 0 && o.rc[1] == 0 && o.rc[2] == -ECANCELED && o.rc[3] == -ECANCELED);
    sley_future_destroy(o.f);
}

SCENARIO(task_is_cancelled_with_its_scope)
{
    struct job j = { .rc = 4 }, late = { .rc = 4 };
    sley_future *f, *g;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    f = waiting_task(obedient, &j);
    sley_scope_cancel(&s);
    g = sley_task_create(obedient, &late);
    EXPECT(sley_await(f, SLEY_FOREVER) == -ECANCELED); /* the wait's own */
    EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == 0);
    EXPECT(sley_future_state(f) == SLEY_FUTURE_CANCELLED && sley_future_state(g) == SLEY_FUTURE_CANCELLED);
    EXPECT(late.runs == 1 && sley_await(g, SLEY_NOW) == -ECANCELED);
    sley_future_destroy(f);
    sley_future_destroy(g);
}

SCENARIO(task_cut_short_by_a_deadline_of_its_scope)
{
    struct job j = { .rc = 4 };
    sley_future *f;
    sley_scope s;

    sley_scope_init(&s, sley_after(2 * SLEY_MS));
    f = sley_task_create(obedient, &j);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == -ETIMEDOUT); /* it has cut a call short */
    EXPECT(sley_future_state(f) == SLEY_FUTURE_CANCELLED && j.waited == -ECANCELED);
    sley_future_destroy(f);
}

static int awaits_another(void *arg)
{
    struct awaiting *a = arg;
    return sley_await(a->f, SLEY_FOREVER);
}

/* Awaiting never cancels: a task that is cancelled in an await leaves the other alone. */
SCENARIO(task_cancelled_in_an_await_leaves_the_other_alone)
{
    struct job j = { .rc = 9 };
    struct awaiting a;
    sley_event e = { { 0 } };
    sley_future *outer;

    j.until = &e;
    a.f = waiting_task(obedient, &j);
    outer = sley_task_create(awaits_another, &a);
    while (sley_await(outer, sley_after(SLEY_MS)) != -ETIMEDOUT)
        EXPECT(0);
    EXPECT(sley_future_cancel(outer) == 0);
    EXPECT(sley_await(outer, SLEY_FOREVER) == -ECANCELED && sley_future_state(a.f) == SLEY_FUTURE_PENDING);
    sley_event_set(&e);
    EXPECT(sley_await(a.f, SLEY_FOREVER) == 9);
    sley_future_destroy(outer);
    sley_future_destroy(a.f);
}

/* ---- waiting for it, and cancelling it ---- */

static int cleans_up(void *arg)
{
    struct job *j = arg;
    int rc = obedient(j);

    sley_shield_begin();
    for (int i = 0; i < 10; i++)
        sley_yield();
    sley_shield_end();
    j->over = 2;
    return rc;
}

SCENARIO(wait_for_returns_when_the_task_has_ended)
{
    sley_time deadlines[] = { sley_after(2 * SLEY_MS), SLEY_NOW };

    for (int i = 0; i < 2; i++) {
        struct job j = { .rc = 4 };
        sley_future *f = sley_task_create(cleans_up, &j);

        EXPECT(sley_wait_for(f, deadlines[i]) == -ETIMEDOUT);
        EXPECT(j.over == 2 && sley_future_state(f) == SLEY_FUTURE_CANCELLED);
        sley_future_destroy(f);
    }
}

SCENARIO(wait_for_gives_the_outcome_of_a_task_that_ends_otherwise)
{
    static const int results[] = { 0, 3, -EIO };

    for (int i = 0; i < 3; i++) {
        struct job j = { .rc = results[i] };
        sley_future *f = waiting_task(stubborn, &j);

        EXPECT(sley_wait_for(f, sley_after(SLEY_MS)) == results[i] && j.waited == -ECANCELED);
        EXPECT(sley_wait_for(f, SLEY_NOW) == results[i]);
        sley_future_destroy(f);
    }
}

struct waiting_for {
    sley_future *f;
    int rc;
    _Atomic(struct sl_fiber *) block;
};

static int waits_for(void *arg)
{
    struct waiting_for *w = arg;

    w->block = sl_current();
    return w->rc = sley_wait_for(w->f, SLEY_FOREVER);
}

/* Cancelled from outside: it cancels, waits for the end under a shield, and says so. */
SCENARIO(wait_for_that_is_cancelled_cancels)
{
    for (int i = 0; i < 2; i++) {
        struct job j = { .rc = 4 };
        struct waiting_for w = { .f = waiting_task(i == 0 ? cleans_up : stubborn, &j) };
        sley_future *outer = sley_task_create(waits_for, &w);

        while (w.block == NULL || SL_WORD_STATE(sl_load_acquire(&w.block->word)) != SL_WAITING)
            give_way();
        EXPECT(sley_future_cancel(outer) == 0);
        EXPECT(sley_await(outer, SLEY_FOREVER) == (i == 0 ? -ECANCELED : 4));
        EXPECT(j.over == (i == 0 ? 2 : 1) && sley_future_state(w.f) == (i == 0 ? SLEY_FUTURE_CANCELLED : SLEY_FUTURE_DONE));
        sley_future_destroy(outer);
        sley_future_destroy(w.f);
    }
}

/* ---- itself ---- */

static int awaits_itself(void *arg)
{
    struct own *o = arg;
    sley_case one;

    EXPECT(sley_event_wait(&o->started, SLEY_FOREVER) == 0);
    one = sley_case_future(o->f);
    o->rc[0] = sley_await(o->f, SLEY_FOREVER);
    o->rc[1] = sley_wait_for(o->f, SLEY_FOREVER);
    o->rc[2] = sley_wait_any(&o->f, 1, SLEY_FOREVER);
    o->rc[3] = sley_wait_all(&o->f, 1, SLEY_FOREVER);
    o->rc[4] = sley_gather(&o->f, 1, SLEY_FOREVER);
    o->rc[5] = sley_select(&one, 1, SLEY_FOREVER) == 0 ? one.result : 1;
    return sley_cancelled();
}

SCENARIO(task_that_waits_for_itself_is_refused)
{
    struct own o = { .f = NULL };

    o.f = sley_task_create(awaits_itself, &o);
    sley_event_set(&o.started);
    EXPECT(sley_await(o.f, SLEY_FOREVER) == 0); /* nothing was cancelled */
    for (int i = 0; i < 6; i++)
        EXPECT(o.rc[i] == -EDEADLK);
    sley_future_destroy(o.f);
}

/* ---- callbacks ---- */

struct called {
    struct job *job;
    sley_future *f;
    int calls, state, slept;
    uint64_t self;
};

static int is_called(void *arg)
{
    struct called *c = arg;

    c->calls++;
    c->self = sley_self();
    c->state = sley_future_state(c->f);
    c->slept = sley_sleep(1);
    return 0;
}

/* On the task's fiber, behind the task: a cancel of the task does not reach them. */
SCENARIO(task_callbacks_run_on_its_fiber_in_the_scope_around)
{
    for (int cancel = 0; cancel < 2; cancel++) {
        struct job j = { .rc = 7 };
        struct called c = { .job = &j };
        sley_event e = { { 0 } };

        j.until = &e;
        c.f = waiting_task(obedient, &j);
        EXPECT(sley_future_on_done(c.f, is_called, &c) == 0);
        if (cancel)
            EXPECT(sley_future_cancel(c.f) == 0);
        else
            sley_event_set(&e);
        EXPECT(sley_await(c.f, SLEY_FOREVER) == (cancel ? -ECANCELED : 7));
        EXPECT(c.calls == 1 && c.self == j.self && c.slept == 0);
        EXPECT(c.state == (cancel ? SLEY_FUTURE_CANCELLED : SLEY_FUTURE_DONE));
        sley_future_destroy(c.f);
    }
}

static int drops(void *arg)
{
    struct called *c = arg;

    c->calls++;
    sley_future_destroy(c->f);
    return 0;
}

SCENARIO(task_callback_may_give_the_last_reference_back)
{
    struct job j = { .rc = 7 };
    struct called c = { .job = &j };
    sley_event e = { { 0 } };
    sley_scope s;

    j.until = &e;
    sley_scope_init(&s, SLEY_FOREVER);
    c.f = waiting_task(obedient, &j);
    EXPECT(sley_future_on_done(c.f, drops, &c) == 0);
    sley_event_set(&e);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && c.calls == 1);
}

/* ---- several ---- */

SCENARIO(gather_of_many_tasks)
{
    enum { N = 1000 };
    static struct job j[N];
    static sley_future *f[N];

    for (int i = 0; i < N; i++) {
        j[i] = (struct job){ .rc = i };
        f[i] = sley_task_create(at_once, &j[i]);
    }
    EXPECT(sley_gather(f, N, SLEY_FOREVER) == 0 && sley_wait_all(f, N, SLEY_NOW) == 0);
    for (int i = 0; i < N; i++) {
        EXPECT(sley_await(f[i], SLEY_NOW) == i);
        sley_future_destroy(f[i]);
    }
}

SCENARIO(gather_leaves_the_other_tasks_alone)
{
    struct job failing = { .rc = -EIO }, slow = { .rc = 2 };
    sley_event e = { { 0 } };
    sley_future *f[2];

    slow.until = &e;
    f[0] = waiting_task(obedient, &slow);
    f[1] = sley_task_create(at_once, &failing);
    EXPECT(sley_gather(f, 2, SLEY_FOREVER) == -EIO && !slow.over);
    sley_event_set(&e);
    EXPECT(sley_wait_all(f, 2, SLEY_FOREVER) == 0 && sley_await(f[0], SLEY_NOW) == 2);
    sley_future_destroy(f[0]);
    sley_future_destroy(f[1]);
}

/* ---- failures that nobody looked at ---- */

static struct {
    _Atomic(int) count;
    int error;
    uint64_t fiber;
    char name[32];
} told;

static void on_error(void *ctx, uint64_t fiber, const char *name, int error)
{
    (void)ctx;
    told.error = error;
    told.fiber = fiber;
    snprintf(told.name, sizeof told.name, "%s", name);
    told.count++;
}

static int fails_by_name(void *arg)
{
    struct job *j = arg;

    sley_fiber_set_name("the failing one");
    return at_once(j);
}

static int nobody_looks(void *arg)
{
    struct job j = { .rc = -EIO };
    sley_future *f;
    sley_scope s;

    (void)arg;
    sley_scope_init(&s, SLEY_FOREVER); /* given back before it ends: the fiber tells */
    sley_future_destroy(sley_task_create(fails_by_name, &j));
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(told.count == 1 && told.error == -EIO && told.fiber == j.self && strcmp(told.name, "the failing one") == 0);

    j = (struct job){ .rc = -EDOM }; /* given back after its end */
    f = sley_task_create(fails_by_name, &j);
    EXPECT(sley_wait_all(&f, 1, SLEY_FOREVER) == 0);
    sley_future_destroy(f);
    while (told.count == 1)
        give_way(); /* the fiber may be the last to give its reference back */
    EXPECT(told.count == 2 && told.error == -EDOM && told.fiber == j.self && strcmp(told.name, "the failing one") == 0);

    j = (struct job){ .rc = -EIO };
    f = sley_task_create(at_once, &j); /* looked at */
    EXPECT(sley_await(f, SLEY_FOREVER) == -EIO);
    sley_future_destroy(f);

    j = (struct job){ .rc = -EIO };
    sley_scope_init(&s, SLEY_FOREVER); /* cancelled: no failure */
    f = sley_task_create(obedient, &j);
    EXPECT(sley_future_cancel(f) == 0);
    sley_future_destroy(f);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    return 0;
}

static void failure_of_a_task_that_nobody_awaited_is_reported(void **state)
{
    sley_options options = { .on_error = on_error };

    (void)state;
    scene.unmet = NULL;
    scene.cast = FIBERS;
    assert_int_equal(sley_run(&options, nobody_looks, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
    assert_int_equal(told.count, 2);
}

static int ends(void *arg)
{
    sley_await(arg, SLEY_FOREVER);
    sley_future_destroy(arg);
    return 0;
}

static sley_future *outlives;

static int leaves_one_behind(void *arg)
{
    outlives = sley_task_create(at_once, arg);
    return 0;
}

/* The future outlives its runtime: what it holds is its own. */
static void task_outlives_its_runtime_as_a_future(void **state)
{
    struct job j = { .rc = -EIO };

    (void)state;
    assert_int_equal(sley_run(NULL, leaves_one_behind, &j), 0);
    assert_int_equal(sley_await(outlives, SLEY_FOREVER), -EIO);
    assert_int_equal(sley_future_state(outlives), SLEY_FUTURE_FAILED);
    assert_ptr_equal(sley_future_value(outlives), &j);
    assert_int_equal(sley_future_cancel(outlives), -EALREADY);
    assert_int_equal(sley_run(NULL, ends, outlives), 0);
}

/* ---- bugs ---- */

static int leaves_a_scope_open(void *arg)
{
    (void)arg;
    sley_scope_init(malloc(sizeof(sley_scope)), SLEY_FOREVER);
    return 0;
}

static int leaves_a_shield_open(void *arg)
{
    (void)arg;
    sley_shield_begin();
    return 0;
}

static int run_task(void *arg)
{
    return sley_await(sley_task_create(*(sley_fn **)arg, NULL), SLEY_FOREVER);
}

static void task_that_leaves_something_open_aborts(void **state)
{
    (void)state;
    assert_aborts("scope", "sley_scope_init");
    assert_aborts("shield", "sley_shield_begin");
}

static int awaits_itself_loudly(void *arg)
{
    sley_future *f;

    while ((f = *(sley_future *volatile *)arg) == NULL)
        sley_yield();
    sley_fiber_set_name("narcissus");
    if (sley_await(f, SLEY_FOREVER) == -EDEADLK)
        abort(); /* the message stands before */
    return 0;
}

static int run_loud_task(void *arg)
{
    static sley_future *f;

    (void)arg;
    f = sley_task_create(awaits_itself_loudly, &f);
    return sley_await(f, SLEY_FOREVER);
}

static void task_that_waits_for_itself_is_told_so(void **state)
{
    (void)state;
    assert_aborts("itself", "\"narcissus\": sley_await: a task that waits for its own end");
}

/* ---- races ---- */

/* Several at once: a waiter or two, a canceller, who gives back; the task itself ends by itself, sooner or later. */
struct race {
    sley_future *f;
    uint64_t random;
    int kind;         /* of this one */
    int task_rc;
    int got;
    struct actor actor;
};

enum racer { AWAITS, AWAITS_SHORTLY, WAITS_FOR, WAITS_ANY, GATHERS, SELECTS, CANCELS, GIVES_BACK, CALLS_BACK, COMPLETES, FAILS, RACERS };

static _Atomic(int) callbacks_due, callbacks_run;

static int count_callback(void *arg)
{
    (void)arg;
    callbacks_run++;
    return 0;
}

static void dawdle(uint64_t *random)
{
    unsigned n = below(random, 6);

    if (n == 5 && below(random, 8) == 0) {
        if (sley_sleep(below(random, 30) * SLEY_US) < 0)
            return;
    }
    for (; n > 0; n--)
        if (sley_self() != 0)
            sley_yield();
        else
            sched_yield();
}

static int racing_task(void *arg)
{
    struct race *r = arg;

    dawdle(&r->random);
    if (r->kind == 0)
        return r->task_rc;
    if (r->kind == 1)
        return sley_sleep(below(&r->random, 50) * SLEY_US) < 0 ? -ECANCELED : r->task_rc;
    sley_sleep(below(&r->random, 50) * SLEY_US);
    return r->task_rc; /* cancelled or not */
}

static int is_possible(int got, const struct race *r)
{
    return got == r->task_rc || got == -ECANCELED || got == 0;
}

static int racer(void *arg) /* each has a reference and gives it back */
{
    struct race *r = arg;
    sley_future *pair[2] = { r->f, r->f };
    sley_case one = sley_case_future(r->f);
    int rc;

    dawdle(&r->random);
    switch ((enum racer)r->kind) {
    case AWAITS:
        EXPECT(is_possible(sley_await(r->f, SLEY_FOREVER), r));
        break;
    case AWAITS_SHORTLY:
        rc = sley_await(r->f, sley_after(below(&r->random, 40) * SLEY_US));
        EXPECT(rc == -ETIMEDOUT || is_possible(rc, r));
        break;
    case WAITS_FOR:
        rc = sley_wait_for(r->f, sley_after(below(&r->random, 40) * SLEY_US));
        EXPECT((rc == -ETIMEDOUT || is_possible(rc, r)) && sley_future_state(r->f) != SLEY_FUTURE_PENDING);
        break;
    case WAITS_ANY:
        rc = sley_wait_any(pair, 2, sley_after(below(&r->random, 60) * SLEY_US));
        EXPECT(rc == -ETIMEDOUT || ((rc == 0 || rc == 1) && sley_future_state(r->f) != SLEY_FUTURE_PENDING));
        break;
    case GATHERS:
        rc = sley_gather(pair, 2, SLEY_FOREVER);
        EXPECT(is_possible(rc, r) || rc == 0);
        break;
    case SELECTS:
        rc = sley_select(&one, 1, sley_after(below(&r->random, 60) * SLEY_US));
        EXPECT(rc == -ETIMEDOUT || (rc == 0 && is_possible(one.result, r)));
        break;
    case CANCELS:
        rc = sley_future_cancel(r->f);
        EXPECT(rc == 0 || rc == -EALREADY);
        break;
    case GIVES_BACK:
        break;
    case CALLS_BACK:
        callbacks_due++;
        EXPECT(sley_future_on_done(r->f, count_callback, NULL) == 0);
        break;
    case COMPLETES:
        rc = sley_future_complete(r->f, NULL);
        EXPECT(rc == 0 || rc == -EALREADY || rc == -EINVAL);
        break;
    case FAILS:
        rc = sley_future_fail(r->f, r->task_rc < 0 ? r->task_rc : -EIO);
        EXPECT(rc == 0 || rc == -EALREADY || rc == -EINVAL);
        break;
    case RACERS:
        break;
    }
    sley_future_destroy(r->f);
    return 0;
}

enum { ACTORS = 7, ROUNDS = 250 };

static void race_once(uint64_t *random, int plain)
{
    static const int results[] = { 0, 1, -EIO, -EDOM };
    struct race task = { .random = mix(*random), .kind = (int)below(random, 3), .task_rc = results[below(random, 4)] };
    struct race r[ACTORS];
    sley_scope s;
    sley_future *f;

    if (plain && task.task_rc >= 0)
        task.task_rc = -EIO;
    sley_scope_init(&s, SLEY_FOREVER);
    f = plain ? sley_future_create(0) : sley_task_create(racing_task, &task);
    for (int i = 0; i < ACTORS; i++) {
        r[i] = (struct race){ .f = sley_future_ref(f), .random = mix(*random + (uint64_t)i), .kind = (int)below(random, RACERS),
                              .task_rc = task.task_rc };
        if (plain && i == 0)
            r[i].kind = (int[]){ COMPLETES, FAILS, CANCELS }[below(random, 3)]; /* else some would wait for ever */
        actor_start_as(&r[i].actor, below(random, 12) == 0, racer, &r[i]);
    }
    sley_future_destroy(f);
    for (int i = 0; i < ACTORS; i++)
        actor_result(&r[i].actor);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
}

static uint64_t seed;

SCENARIO(task_races_end_well)
{
    uint64_t random = seed;

    callbacks_due = callbacks_run = 0;
    for (int round = 0; round < ROUNDS; round++)
        race_once(&random, 0);
    EXPECT(callbacks_due == callbacks_run);
}

SCENARIO(future_races_end_well)
{
    uint64_t random = seed + 1;

    callbacks_due = callbacks_run = 0;
    for (int round = 0; round < ROUNDS; round++)
        race_once(&random, 1);
    EXPECT(callbacks_due == callbacks_run);
}

static int ends_soon(void *arg)
{
    uint64_t random = *(uint64_t *)arg;

    dawdle(&random);
    return 0;
}

static int is_not_cancelled(void *arg)
{
    int rc = 0;

    (void)arg;
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = sley_yield();
    return rc;
}

static int cancels_at_the_end(void *arg)
{
    uint64_t random = *(uint64_t *)arg;

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t start = mix(random + (uint64_t)round);
        sley_future *f = sley_task_create_copy(ends_soon, &start, sizeof start), *g;

        dawdle(&random);
        sley_future_cancel(f);
        g = sley_task_create(is_not_cancelled, NULL);
        EXPECT(sley_await(g, SLEY_FOREVER) == 0);
        EXPECT(sley_await(f, SLEY_FOREVER) == 0);
        sley_future_destroy(f);
        sley_future_destroy(g);
    }
    return 0;
}

static int waits_for_its_cancel(void *arg)
{
    (void)arg;
    return sley_sleep(SLEY_FOREVER);
}

static int cancels_at_the_beginning(void *arg)
{
    uint64_t random = *(uint64_t *)arg;

    for (int round = 0; round < ROUNDS; round++) {
        sley_future *f = sley_task_create(waits_for_its_cancel, NULL);

        if (below(&random, 3) == 0)
            sley_yield();
        for (uint32_t n = below(&random, 2000); n > 0; n--)
            sl_compiler_barrier();
        EXPECT(sley_future_cancel(f) == 0);
        EXPECT(sley_await(f, SLEY_FOREVER) == -ECANCELED && sley_future_state(f) == SLEY_FUTURE_CANCELLED);
        sley_future_destroy(f);
    }
    return 0;
}

/* One that meets the beginning is not lost: else this would wait for ever. */
SCENARIO(task_cancelled_as_it_begins)
{
    struct actor a[4];
    uint64_t random[4];

    for (int i = 0; i < 4; i++) {
        random[i] = mix(seed + 7 + (uint64_t)i);
        actor_start_as(&a[i], 0, cancels_at_the_beginning, &random[i]);
    }
    for (int i = 0; i < 4; i++)
        EXPECT(actor_result(&a[i]) == 0);
}

/* A cancel that meets the very end of its task finds nobody else in its place: stacks are soon another task's. */
SCENARIO(task_cancelled_at_its_end_and_nobody_else)
{
    struct actor a[4];
    uint64_t random[4];

    for (int i = 0; i < 4; i++) {
        random[i] = mix(seed + 3 + (uint64_t)i);
        actor_start_as(&a[i], 0, cancels_at_the_end, &random[i]);
    }
    for (int i = 0; i < 4; i++)
        EXPECT(actor_result(&a[i]) == 0);
}

/* Several futures, several who wait for any, all, or the first error of them, and completers that cancel, complete and fail. */
struct crowd {
    sley_future **f;
    size_t n;
    uint64_t random;
    int kind;
    struct actor actor;
};

static int waits_in_the_crowd(void *arg)
{
    struct crowd *c = arg;
    sley_time deadline = below(&c->random, 3) == 0 ? sley_after(below(&c->random, 100) * SLEY_US) : SLEY_FOREVER;
    int rc;

    dawdle(&c->random);
    switch (c->kind) {
    case 0:
        rc = sley_wait_any(c->f, c->n, deadline);
        EXPECT(rc == -ETIMEDOUT || (rc >= 0 && (size_t)rc < c->n && sley_future_state(c->f[rc]) != SLEY_FUTURE_PENDING));
        break;
    case 1:
        rc = sley_wait_all(c->f, c->n, deadline);
        EXPECT(rc == 0 || rc == -ETIMEDOUT);
        for (size_t i = 0; i < c->n && rc == 0; i++)
            EXPECT(sley_future_state(c->f[i]) != SLEY_FUTURE_PENDING);
        break;
    default:
        rc = sley_gather(c->f, c->n, deadline);
        EXPECT(rc == 0 || rc == -ETIMEDOUT || rc == -EIO || rc == -ECANCELED);
        for (size_t i = 0; i < c->n && rc == 0; i++)
            EXPECT(sley_await(c->f[i], SLEY_NOW) >= 0);
    }
    return 0;
}

static int completes_the_crowd(void *arg)
{
    struct crowd *c = arg;
    size_t start = below(&c->random, (uint32_t)c->n);

    for (size_t i = 0; i < c->n; i++) {
        sley_future *f = c->f[(start + i) % c->n];

        if (below(&c->random, 4) == 0)
            dawdle(&c->random);
        switch (below(&c->random, c->kind)) {
        case 0: case 1: case 2: case 3:
            (void)sley_future_complete(f, NULL);
            break;
        case 4:
            sley_future_fail(f, -EIO);
            break;
        default:
            sley_future_cancel(f);
        }
    }
    return 0;
}

SCENARIO(crowds_of_futures_and_waiters_end_well)
{
    enum { FUTURES = 24, WAITERS = 6, COMPLETERS = 2 };
    uint64_t random = seed + 2;

    for (int round = 0; round < 150; round++) {
        sley_future *f[FUTURES];
        struct crowd c[WAITERS + COMPLETERS];
        size_t n = 1 + below(&random, FUTURES);
        int kind = 4 + (int)below(&random, 3);

        for (size_t i = 0; i < n; i++)
            f[i] = sley_future_create(0);
        for (int i = 0; i < WAITERS + COMPLETERS; i++) {
            c[i] = (struct crowd){ .f = f, .n = n, .random = mix(random + (uint64_t)i),
                                   .kind = i < WAITERS ? (int)below(&random, 3) : kind };
            actor_start_as(&c[i].actor, below(&random, 12) == 0, i < WAITERS ? waits_in_the_crowd : completes_the_crowd, &c[i]);
        }
        for (int i = 0; i < WAITERS + COMPLETERS; i++)
            actor_result(&c[i].actor);
        for (size_t i = 0; i < n; i++)
            sley_future_destroy(f[i]);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        ON_FIBERS(task_outcome_is_what_its_function_returned),
        ON_FIBERS(task_copy_lives_with_the_future),
        ON_FIBERS(task_of_no_argument_gets_null),
        ON_FIBERS(task_is_completed_by_its_function_alone),
        ON_FIBERS(task_that_says_cancelled_by_itself_has_failed),
        ON_FIBERS(task_is_awaited_by_fibers_and_threads),
        ON_FIBERS(task_belongs_to_the_current_scope),
        ON_FIBERS(task_error_does_not_go_to_the_scope),
        ON_FIBERS(task_given_back_at_once_goes_on),
        ON_FIBERS(task_can_be_started_on_attached_threads_alone),
        ON_FIBERS(task_cancelled_before_it_begins_runs_all_the_same),
        ON_FIBERS(task_cancelled_while_it_waits),
        ON_FIBERS(task_cancelled_while_it_computes),
        ON_FIBERS(task_may_end_as_it_likes_though_cancelled),
        ON_FIBERS(task_cancel_reaches_its_fiber_and_the_scopes_it_opened),
        ON_FIBERS(task_under_a_shield_is_cancelled_behind_it),
        ON_FIBERS(task_may_cancel_itself),
        ON_FIBERS(task_is_cancelled_with_its_scope),
        ON_FIBERS(task_cut_short_by_a_deadline_of_its_scope),
        ON_FIBERS(task_cancelled_in_an_await_leaves_the_other_alone),
        ON_FIBERS(wait_for_returns_when_the_task_has_ended),
        ON_FIBERS(wait_for_gives_the_outcome_of_a_task_that_ends_otherwise),
        ON_FIBERS(wait_for_that_is_cancelled_cancels),
        ON_FIBERS(task_that_waits_for_itself_is_refused),
        ON_FIBERS(task_callbacks_run_on_its_fiber_in_the_scope_around),
        ON_FIBERS(task_callback_may_give_the_last_reference_back),
        ON_FIBERS(gather_of_many_tasks),
        ON_FIBERS(gather_leaves_the_other_tasks_alone),
        cmocka_unit_test(failure_of_a_task_that_nobody_awaited_is_reported),
        cmocka_unit_test(task_outlives_its_runtime_as_a_future),
        cmocka_unit_test(task_that_leaves_something_open_aborts),
        cmocka_unit_test(task_that_waits_for_itself_is_told_so),
        ON_FIBERS(task_races_end_well),
        ON_FIBERS(future_races_end_well),
        ON_FIBERS(task_cancelled_as_it_begins),
        ON_FIBERS(task_cancelled_at_its_end_and_nobody_else),
        ON_FIBERS(crowds_of_futures_and_waiters_end_well),
    };
    sley_fn *open_one = leaves_a_scope_open, *open_two = leaves_a_shield_open;

    if (argc > 1 && strcmp(argv[1], "scope") == 0)
        return sley_run(NULL, run_task, &open_one) < 0;
    if (argc > 1 && strcmp(argv[1], "shield") == 0)
        return sley_run(NULL, run_task, &open_two) < 0;
    if (argc > 1 && strcmp(argv[1], "itself") == 0)
        return sley_run(NULL, run_loud_task, NULL) < 0;
    seed = test_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
