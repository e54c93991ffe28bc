/* test_gen_end.c - generators that nobody has finished: closed youngest first, on their owner, by the end of the scope they were made in,
 * of the fiber, of the task, of the thread; what closing them may do, and who hears of their errors. */
#include "gen_parts.h"

#include "base/limits.h"
#include "sched/worker.h"

#if defined(SL_ASAN) || defined(SL_TSAN)
enum { MANY = 60 };
#else
enum { MANY = 1000 };
#endif

/* ---- what is noted ---- */

static struct {
    _Atomic(int) errors, lines;
    struct { uint64_t fiber; int error; char name[40]; uint64_t on; } said[16];
    char line[320];
    sley_gen *made; /* by the hook */
    int makes, key;
} told;

struct part {
    int number;
    int rc;           /* what it returns when it is closed; 0: -ECANCELED */
    int yields;       /* while it is closed, that often */
    sley_event *sets; /* when it is closed */
    sley_event *waits;/* then: for this, and notes what the wait says */
    int under_shield;
    uint64_t self;    /* who is to close it */
    pthread_t thread;
    sley_gen *others[3];
    int n_others, makes;
    struct part *made;
    sley_gen *g;
};

static int live(void *arg);

static sley_gen *make(struct part *p, int number)
{
    *p = (struct part){ .number = number, .self = sley_self(), .thread = pthread_self() };
    return p->g = sley_gen_create(live, p, sizeof(int));
}

static sley_gen *made(struct part *p, int number)
{
    sley_gen *g = make(p, number);

    EXPECT(sley_gen_next(g, NULL) == 1);
    return g;
}

/* Yields for ever; closed, it notes its number, and does what its part says. */
static int live(void *arg)
{
    struct part *p = arg;
    int rc;

    while ((rc = sley_gen_yield(&p->number, NULL)) == 0)
        ;
    EXPECT(rc == -ECANCELED && sley_self() == p->self && (p->self != 0 || pthread_equal(p->thread, pthread_self())));
    note(p->number);
    if (p->sets != NULL)
        sley_event_set(p->sets);
    if (p->under_shield)
        sley_shield_begin();
    if (p->waits != NULL)
        note(sley_event_wait(p->waits, SLEY_FOREVER));
    if (p->under_shield)
        sley_shield_end();
    for (int i = 0; i < p->n_others; i++)
        sley_gen_destroy(p->others[i]);
    for (int i = 0; i < p->makes; i++)
        p->others[i] = made(&p->made[i], p->made[i].number);
    for (int i = 0; i < p->yields; i++)
        note(sley_gen_yield(&p->number, NULL));
    return p->rc != 0 ? p->rc : rc;
}

static void destroy_all(sley_gen **g, int n)
{
    for (int i = 0; i < n; i++)
        sley_gen_destroy(g[i]);
}

static void on_error(void *ctx, uint64_t fiber, const char *name, int error)
{
    static struct part part;
    int i = sl_add_acq_rel(&told.errors, 1);

    (void)ctx;
    if (i < 16) {
        told.said[i].fiber = fiber;
        told.said[i].error = error;
        told.said[i].on = sley_self();
        snprintf(told.said[i].name, sizeof told.said[i].name, "%s", name);
    }
    if (told.makes > 0) {
        told.makes--;
        told.made = made(&part, 900 + told.makes);
    }
}

static void on_log(void *ctx, const char *line)
{
    (void)ctx;
    if (strstr(line, "generator") == NULL) /* of the start and the stop */
        return;
    told.lines++;
    snprintf(told.line, sizeof told.line, "%s", line);
}

static const sley_options hooked = { .on_error = on_error, .on_log = on_log, .name = "loom" };

static void run_hooked(sley_fn *fn, int result)
{
    memset(&told, 0, sizeof told);
    track.n = 0;
    run_scene(&hooked, fn, result);
}

/* fn(arg) on a fiber of its own, until that has wholly ended. */
static int on_a_fiber(sley_fn *fn, void *arg)
{
    sley_scope s;

    sley_scope_init_isolated(&s, SLEY_FOREVER);
    EXPECT(sley_go(fn, arg) == 0);
    return sley_scope_wait(&s, 0, SLEY_FOREVER);
}

/* ---- the end of a scope ---- */

SCENARIO(the_end_of_a_scope_closes_what_was_made_in_it_youngest_first)
{
    struct part p[6];
    sley_gen *g[6];
    sley_scope s;

    track.n = 0;
    sley_scope_init(&s, SLEY_FOREVER);
    for (int i = 0; i < 6; i++)
        g[i] = i == 2 ? make(&p[i], i) : made(&p[i], i); /* one has not started */
    EXPECT(sley_gen_close(g[4]) == 0 && NOTED_ARE(4));   /* one is closed already */
    EXPECT(sley_scope_wait(&s, 7, SLEY_FOREVER) == 7);
    EXPECT(NOTED_ARE(5, 3, 1, 0));
    for (int i = 0; i < 6; i++)
        EXPECT(sley_gen_state(g[i]) == SLEY_GEN_CLOSED && sley_gen_result(g[i]) == -ECANCELED && sley_gen_next(g[i], NULL) == 0);
    destroy_all(g, 6); /* closed is not freed */
    EXPECT(NOTED_NOTHING);
}

static int wait_for_the_cleanup(void *arg)
{
    sley_event *e = arg;
    int rc = sley_event_wait(e, SLEY_FOREVER);

    note(100);
    return rc;
}

SCENARIO(they_are_closed_before_the_scope_waits_for_its_children)
{
    sley_event e = { { 0 } };
    struct part p;
    sley_scope s;
    sley_gen *g;

    track.n = 0;
    sley_scope_init(&s, SLEY_FOREVER);
    g = made(&p, 1);
    p.sets = &e;
    EXPECT(sley_go(wait_for_the_cleanup, &e) == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && NOTED_ARE(1, 100));
    sley_gen_destroy(g);
    sley_event_fini(&e);
}

/* An error cancels the scope first: what the clean-up waits for, it waits for in a cancelled scope. */
SCENARIO(they_are_closed_in_the_scope_that_ends)
{
    sley_event set = { { 0 } }, never = { { 0 } };
    struct part p[2];
    sley_gen *g[2];
    sley_scope s;

    track.n = 0;
    sley_event_set(&set);
    sley_scope_init(&s, SLEY_FOREVER);
    g[0] = made(&p[0], 1);
    p[0].waits = &set;
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && NOTED_ARE(1, 0));
    sley_gen_destroy(g[0]);

    for (int how = 0; how < 3; how++) {
        int result;

        sley_scope_init(&s, SLEY_FOREVER);
        g[0] = made(&p[0], 1);
        g[1] = made(&p[1], 2);
        p[0].waits = &never;
        p[1].waits = &set;
        p[1].under_shield = 1;
        if (how == 1)
            sley_scope_cancel(&s);
        else if (how == 2)
            sley_scope_set_deadline(&s, SLEY_NOW);
        result = sley_scope_wait(&s, how == 0 ? -EDOM : 0, SLEY_FOREVER);
        EXPECT(result == (how == 0 ? -EDOM : how == 1 ? 0 : -ETIMEDOUT));
        EXPECT(NOTED_ARE(2, 0, 1, -ECANCELED));
        destroy_all(g, 2);
    }
    sley_event_fini(&set);
    sley_event_fini(&never);
}

SCENARIO(only_those_that_were_made_in_the_scope_are_closed)
{
    struct part outer, inner, later;
    sley_gen *g, *h, *i;
    sley_scope s, t;

    track.n = 0;
    sley_scope_init(&s, SLEY_FOREVER);
    g = make(&outer, 1);
    sley_scope_init(&t, SLEY_FOREVER);
    EXPECT(sley_gen_next(g, NULL) == 1); /* where it is resumed is no matter */
    h = made(&inner, 2);
    EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0 && NOTED_ARE(2));
    EXPECT(sley_gen_state(g) == SLEY_GEN_SUSPENDED && sley_gen_next(g, NULL) == 1);
    i = made(&later, 3);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && NOTED_ARE(3, 1));
    sley_gen_destroy(g);
    sley_gen_destroy(h);
    sley_gen_destroy(i);
}

static int make_and_resume(void *arg)
{
    struct part *p = arg;

    EXPECT(made(p, 1) != NULL);
    return 0;
}

SCENARIO(scopes_of_every_kind_close_them)
{
    struct part p;
    sley_scope s;
    sley_gen *g;

    track.n = 0;
    sley_scope_init_isolated(&s, SLEY_FOREVER);
    g = made(&p, 5);
    EXPECT(sley_scope_wait(&s, 0, SLEY_NOW) == 0 && NOTED_ARE(5));
    sley_gen_destroy(g);
    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_scope_run(make_and_resume, &p, SLEY_FOREVER) == 0 && NOTED_ARE(1));
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && NOTED_NOTHING);
    sley_gen_destroy(p.g);
}

static struct {
    struct part p[3];
    sley_gen *g[3];
} child;

static int make_three_and_end(void *arg)
{
    for (int i = 0; i < 3; i++)
        child.g[i] = made(&child.p[i], i);
    return (int)(intptr_t)arg;
}

/* In a scope that another fiber has opened, they live as long as the fiber. */
SCENARIO(in_a_scope_opened_by_another_they_are_closed_at_the_end_of_the_fiber)
{
    sley_scope s;

    track.n = 0;
    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(on_a_fiber(make_three_and_end, NULL) == 0 && NOTED_ARE(2, 1, 0));
    for (int i = 0; i < 3; i++)
        EXPECT(sley_gen_state(child.g[i]) == SLEY_GEN_CLOSED);
    destroy_all(child.g, 3);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
}

static int fail_with_one_that_waits(void *arg)
{
    child.g[0] = made(&child.p[0], 0);
    child.p[0].waits = arg;
    return -EDOM;
}

SCENARIO(the_fibers_error_is_told_after_they_are_closed)
{
    sley_event set = { { 0 } };
    sley_scope s;

    track.n = 0;
    sley_event_set(&set);
    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_go(fail_with_one_that_waits, &set) == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == -EDOM && NOTED_ARE(0, 0)); /* its scope was not cancelled yet */
    sley_gen_destroy(child.g[0]);
    sley_event_fini(&set);
}

SCENARIO(the_end_of_a_task_closes_them_before_the_outcome_is_known)
{
    sley_event set = { { 0 } };
    sley_future *f;

    track.n = 0;
    f = sley_task_create(make_three_and_end, (void *)(intptr_t)4);
    EXPECT(sley_await(f, SLEY_FOREVER) == 4 && NOTED_ARE(2, 1, 0));
    destroy_all(child.g, 3);
    sley_future_destroy(f);

    sley_event_set(&set);
    f = sley_task_create(fail_with_one_that_waits, &set);
    EXPECT(sley_await(f, SLEY_FOREVER) == -EDOM && NOTED_ARE(0, 0));
    sley_gen_destroy(child.g[0]);
    sley_future_destroy(f);
    sley_event_fini(&set);
}

static int make_one_and_sleep(void *arg)
{
    child.g[0] = made(&child.p[0], 0);
    child.p[0].waits = arg;
    child.g[1] = made(&child.p[1], 1);
    child.p[1].under_shield = 1;
    child.p[1].waits = arg;
    sley_event_set((sley_event *)arg + 1);
    return sley_sleep(SLEY_FOREVER);
}

SCENARIO(in_a_cancelled_task_they_are_closed_as_cancelled_ones)
{
    sley_event set[2] = { { { 0 } }, { { 0 } } };
    sley_future *f;

    track.n = 0;
    f = sley_task_create(make_one_and_sleep, set);
    EXPECT(sley_event_wait(&set[1], SLEY_FOREVER) == 0);
    EXPECT(sley_future_cancel(f) == 0);
    sley_event_set(&set[0]);
    EXPECT(sley_await(f, SLEY_FOREVER) == -ECANCELED && sley_future_state(f) == SLEY_FUTURE_CANCELLED);
    EXPECT(track.n == 4 && track.what[0] == 1 && track.what[1] == 0 && track.what[2] == 0);
    destroy_all(child.g, 2);
    sley_future_destroy(f);
    sley_event_fini(&set[0]);
    sley_event_fini(&set[1]);
}

/* ---- what is made in a body ---- */

struct maker {
    struct part p[2];
    sley_gen *g[2];
    int in_own_scope, result;
};

static int make_in_the_body(void *arg)
{
    struct maker *m = arg;
    sley_scope s;
    int rc;

    if (m->in_own_scope)
        sley_scope_init(&s, SLEY_FOREVER);
    for (int i = 0; i < 2; i++)
        m->g[i] = made(&m->p[i], 10 + i);
    rc = sley_gen_yield(NULL, NULL);
    note(rc == 0 ? 20 : 21);
    if (m->in_own_scope)
        m->result = sley_scope_wait(&s, 0, SLEY_FOREVER);
    return rc;
}

SCENARIO(one_that_is_made_in_a_body_lives_as_long_as_the_outer_one)
{
    struct maker m = { .in_own_scope = 0 };
    struct part before, after;
    sley_scope s, t;
    sley_gen *g, *b, *a;

    track.n = 0;
    sley_scope_init(&s, SLEY_FOREVER);
    b = made(&before, 1);
    g = sley_gen_create(make_in_the_body, &m, 0);
    sley_scope_init(&t, SLEY_FOREVER);
    EXPECT(sley_gen_next(g, NULL) == 1); /* the inner ones are made while a scope further in is current */
    EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0 && NOTED_NOTHING);
    EXPECT(sley_gen_next(m.g[0], NULL) == 1 && sley_gen_next(g, NULL) == 0 && NOTED_ARE(20));
    EXPECT(sley_gen_next(m.g[1], NULL) == 1); /* the outer one has ended, its place has not */
    a = made(&after, 2);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && NOTED_ARE(2, 11, 10, 1));
    destroy_all(m.g, 2);
    sley_gen_destroy(g);
    sley_gen_destroy(b);
    sley_gen_destroy(a);
}

SCENARIO(one_that_is_made_in_a_scope_of_the_body_ends_with_that)
{
    struct maker m = { .in_own_scope = 1 };
    sley_gen *g = sley_gen_create(make_in_the_body, &m, 0);

    track.n = 0;
    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_next(m.g[0], NULL) == 1);
    EXPECT(sley_gen_next(g, NULL) == 0 && NOTED_ARE(20, 11, 10) && m.result == 0);
    sley_gen_destroy(g);
    destroy_all(m.g, 2);
    g = sley_gen_create(make_in_the_body, &m, 0);
    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_close(g) == 0 && NOTED_ARE(21, 11, 10));
    sley_gen_destroy(g);
    destroy_all(m.g, 2);
}

SCENARIO(those_of_a_body_are_closed_with_it_at_the_end_of_its_scope)
{
    for (int own = 0; own < 2; own++) {
        struct maker m = { .in_own_scope = own };
        sley_scope s;
        sley_gen *g;

        track.n = 0;
        sley_scope_init(&s, SLEY_FOREVER);
        g = sley_gen_create(make_in_the_body, &m, 0);
        EXPECT(sley_gen_next(g, NULL) == 1);
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
        EXPECT(own ? NOTED_ARE(21, 11, 10) : NOTED_ARE(11, 10, 21));
        sley_gen_destroy(g);
        destroy_all(m.g, 2);
    }
}

/* ---- what closing may do ---- */

SCENARIO(a_body_that_is_closed_may_destroy_others_and_make_new_ones)
{
    struct part p[4], made_late[2] = { { .number = 50 }, { .number = 51 } };
    sley_gen *g[4];
    sley_scope s;

    track.n = 0;
    sley_scope_init(&s, SLEY_FOREVER);
    for (int i = 0; i < 4; i++)
        g[i] = made(&p[i], i);
    p[3].others[0] = g[1]; /* not the next one */
    p[3].others[1] = g[2]; /* the next one */
    p[3].n_others = 2;
    p[0].made = made_late;
    p[0].makes = 2;
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && NOTED_ARE(3, 1, 2, 0, 51, 50));
    EXPECT(sley_gen_state(p[0].others[0]) == SLEY_GEN_CLOSED);
    destroy_all(p[0].others, 2);
    sley_gen_destroy(g[0]);
    sley_gen_destroy(g[3]);
}

SCENARIO(they_are_found_whatever_was_made_and_destroyed_in_between)
{
    static struct part p[MANY];
    static sley_gen *g[MANY];
    uint64_t random = 7;
    sley_scope s;
    int live_now = 0, order[MANY], n = 0;

    track.n = 0;
    memset(g, 0, sizeof g);
    sley_scope_init(&s, SLEY_FOREVER);
    for (int round = 0; round < 4 * MANY; round++) {
        int i = (int)below(&random, MANY);

        if (g[i] == NULL) {
            g[i] = below(&random, 4) ? made(&p[i], i) : make(&p[i], i);
            live_now++;
        } else {
            track.n = 0;
            EXPECT(below(&random, 2) || sley_gen_close(g[i]) == 0);
            sley_gen_destroy(g[i]);
            g[i] = NULL;
            live_now--;
        }
    }
    track.n = 0;
    for (int i = 0; i < MANY; i++)
        n += g[i] != NULL && sley_gen_state(g[i]) == SLEY_GEN_SUSPENDED;
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && track.n == n && live_now > 0);
    memcpy(order, track.what, (size_t)n * sizeof *order);
    for (int i = 0; i < n; i++) /* each once */
        for (int k = 0; k < i; k++)
            EXPECT(order[i] != order[k]);
    for (int i = 0; i < MANY; i++) {
        EXPECT(g[i] == NULL || sley_gen_state(g[i]) == SLEY_GEN_CLOSED);
        sley_gen_destroy(g[i]);
    }
}

/* ---- who hears of errors ---- */

static int leave_ones_that_fail(void *arg)
{
    struct part p[5];
    sley_gen *g[5];
    sley_scope s;

    (void)arg;
    sley_fiber_set_name("weaver");
    sley_scope_init(&s, SLEY_FOREVER);
    for (int i = 0; i < 5; i++)
        g[i] = made(&p[i], i);
    p[0].rc = -EIO;
    p[1].rc = 3;
    p[2].rc = -EDOM;
    p[3].rc = -ECANCELED;
    EXPECT(sley_scope_wait(&s, 2, SLEY_FOREVER) == 2); /* no error of the scope */
    EXPECT(told.errors == 2 && told.said[0].error == -EDOM && told.said[1].error == -EIO && told.said[0].fiber == sley_self());
    EXPECT(told.said[0].on == sley_self() && strcmp(told.said[0].name, "weaver") == 0);
    EXPECT(sley_gen_result(g[0]) == -EIO && sley_gen_result(g[1]) == 3);
    destroy_all(g, 5);

    g[0] = made(&p[0], 0); /* destroy: nobody has asked either */
    p[0].rc = -ENXIO;
    sley_gen_destroy(g[0]);
    EXPECT(told.errors == 3 && told.said[2].error == -ENXIO);
    g[0] = made(&p[0], 0); /* close: who has asked is told, and nobody else */
    p[0].rc = -ENXIO;
    EXPECT(sley_gen_close(g[0]) == -ENXIO);
    sley_gen_destroy(g[0]);
    EXPECT(told.errors == 3 && told.lines == 0);
    return 0;
}

static void an_error_that_nobody_asked_for_goes_to_the_hook(void **state)
{
    (void)state;
    run_hooked(leave_ones_that_fail, 0);
}

static int fail_at_the_end(void *arg)
{
    struct part *p = arg;

    EXPECT(made(p, 1) != NULL);
    p->rc = -ENOTTY;
    return 0;
}

static int fail_on_fibers_and_tasks(void *arg)
{
    static struct part p[2];
    sley_future *f;

    (void)arg;
    EXPECT(on_a_fiber(fail_at_the_end, &p[0]) == 0);
    EXPECT(told.errors == 1 && told.said[0].error == -ENOTTY && told.said[0].fiber == p[0].self && told.said[0].on == p[0].self);
    f = sley_task_create(fail_at_the_end, &p[1]);
    EXPECT(sley_await(f, SLEY_FOREVER) == 0 && told.errors == 2 && told.said[1].fiber == p[1].self);
    sley_future_destroy(f);
    sley_gen_destroy(p[0].g);
    sley_gen_destroy(p[1].g);
    return 0;
}

static void an_error_at_the_end_of_a_fiber_or_task_goes_to_the_hook(void **state)
{
    (void)state;
    run_hooked(fail_on_fibers_and_tasks, 0);
}

static int end_with_error(void *arg)
{
    (void)arg;
    return -EBADMSG;
}

/* The hook may make generators: they end with the fiber that it runs on. */
static int let_the_hook_make_some(void *arg)
{
    struct part *p = arg;
    sley_scope s;
    sley_gen *g;

    told.makes = 1;
    EXPECT(on_a_fiber(end_with_error, NULL) == 0 && told.errors == 1 && NOTED_ARE(900));
    EXPECT(sley_gen_state(told.made) == SLEY_GEN_CLOSED);
    sley_gen_destroy(told.made);

    told.makes = 1;
    sley_scope_init(&s, SLEY_FOREVER); /* called while a scope closes some */
    g = made(p, 1);
    p->rc = -EIO;
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && NOTED_ARE(1, 900));
    sley_gen_destroy(g);
    sley_gen_destroy(told.made);

    told.makes = 1;
    EXPECT(on_a_fiber(fail_at_the_end, p) == 0 && NOTED_ARE(1, 900)); /* while a fiber does */
    sley_gen_destroy(told.made);
    sley_gen_destroy(p->g);
    return 0;
}

static int begin_to_let_the_hook_make_some(void *arg)
{
    static struct part p;

    (void)arg;
    return let_the_hook_make_some(&p);
}

static void generators_made_by_the_hook_are_closed_with_their_fiber(void **state)
{
    (void)state;
    run_hooked(begin_to_let_the_hook_make_some, 0);
}

/* ---- bodies that yield while they are closed ---- */

static int leave_ones_that_yield(void *arg)
{
    static struct part p[3];
    sley_gen *g[3];
    sley_scope s;
    int v = NOTHING;

    (void)arg;
    sley_fiber_set_name("spinner");
    sley_scope_init(&s, SLEY_FOREVER);
    for (int i = 0; i < 3; i++)
        g[i] = made(&p[i], i);
    p[1].yields = 1;
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && NOTED_ARE(2, 1, 0)); /* what stands behind the yield is never reached */
    EXPECT(told.errors == 1 && told.said[0].error == -EPROTO && told.said[0].fiber == sley_self());
    EXPECT(told.lines == 1 && strncmp(told.line, "loom: a generator yields while it is closed", 43) == 0);
    EXPECT(sley_gen_state(g[1]) == SLEY_GEN_CLOSED && sley_gen_result(g[1]) == -EPROTO);
    EXPECT(sley_gen_next(g[1], &v) == 0 && sley_gen_send(g[1], &v, &v) == 0 && sley_gen_close(g[1]) == 0 && v == NOTHING);
    EXPECT(sley_gen_throw(g[1], -EIO, &v) == -EIO && sley_gen_result(g[1]) == -EPROTO && NOTED_NOTHING);
    destroy_all(g, 3);
    EXPECT(told.errors == 1 && told.lines == 1);

    g[0] = made(&p[0], 7);
    p[0].yields = 1;
    sley_gen_destroy(g[0]);
    EXPECT(NOTED_ARE(7) && told.errors == 2 && told.said[1].error == -EPROTO && told.lines == 2);
    return 0;
}

static void one_that_yields_while_it_is_closed_goes_no_further(void **state)
{
    (void)state;
    run_hooked(leave_ones_that_yield, 0);
}

static int leave_many_that_yield(void *arg)
{
    static struct part p;
    sley_stats before = { 0 }, after = { 0 };
    sley_gen *g;

    (void)arg;
    sley_pin(); /* one worker's cache of stacks */
    for (int i = 0; i < MANY; i++) {
        if (i == 10)
            sley_stats_read(NULL, &before, sizeof before);
        g = made(&p, 1);
        p.yields = 1;
        sley_gen_destroy(g);
    }
    sley_stats_read(NULL, &after, sizeof after);
    EXPECT(after.stacks_now == before.stacks_now && told.errors == MANY);
    sley_unpin();
    return 0;
}

/* The generator and its stack: their memory is used again. */
static void one_that_yields_while_it_is_closed_costs_no_memory(void **state)
{
    (void)state;
    run_hooked(leave_many_that_yield, 0);
}

static void *leave_on_a_thread(void *arg)
{
    static struct part p;
    sley_gen *g = made(&p, 3);

    (void)arg;
    p.yields = 1;
    sley_gen_destroy(g);
    g = made(&p, 4);
    p.rc = -EIO; /* a thread of no runtime has nobody to tell */
    sley_gen_destroy(g);
    return NULL;
}

static void on_a_thread_of_no_runtime_nobody_is_told(void **state)
{
    pthread_t thread;

    (void)state;
    scene.unmet = NULL;
    track.n = 0;
    assert_int_equal(pthread_create(&thread, NULL, leave_on_a_thread, NULL), 0);
    pthread_join(thread, NULL);
    assert_true(NOTED_ARE(3, 4));
    assert_null(scene.unmet);
}

/* ---- values of the fiber ---- */

static struct {
    int key, other_key, drops;
    struct part p;
    sley_gen *made;
    void *found;
} local;

static void drop_by_making_one(void *value)
{
    local.drops++;
    EXPECT(sley_gen_state(value) == SLEY_GEN_CLOSED); /* the function's own are closed before */
    sley_gen_destroy(value);
    local.made = made(&local.p, 60);
}

static int own_a_generator(void *arg)
{
    static struct part p;

    (void)arg;
    EXPECT(sley_local_set(local.key, made(&p, 59)) == 0);
    return 0;
}

static void *own_on_a_thread(void *arg)
{
    own_a_generator(arg);
    return NULL;
}

SCENARIO(the_drop_of_a_value_may_make_and_destroy_generators)
{
    pthread_t thread;

    memset(&local, 0, sizeof local);
    track.n = 0;
    local.key = sley_local_create(drop_by_making_one);
    if (sley_self() != 0) {
        EXPECT(on_a_fiber(own_a_generator, NULL) == 0);
    } else {
        EXPECT(pthread_create(&thread, NULL, own_on_a_thread, NULL) == 0);
        pthread_join(thread, NULL);
    }
    EXPECT(local.drops == 1 && NOTED_ARE(59, 60) && sley_gen_state(local.made) == SLEY_GEN_CLOSED);
    sley_gen_destroy(local.made);
    sley_local_destroy(local.key);
}

static void drop_by_counting(void *value)
{
    (void)value;
    local.drops++;
}

/* Closed, it sets a value. */
static int set_a_value_when_closed(void *arg)
{
    int rc = sley_gen_yield(NULL, NULL);

    EXPECT(sley_local_set(local.other_key, arg) == 0);
    return rc;
}

static void drop_by_making_one_that_sets(void *value)
{
    local.made = sley_gen_create(set_a_value_when_closed, value, 0);
    EXPECT(sley_gen_next(local.made, NULL) == 1);
}

static int leave_a_value_that_makes_one(void *arg)
{
    EXPECT(sley_local_set(local.key, &local) == 0);
    return (int)(intptr_t)arg;
}

static int look_for_a_value(void *arg)
{
    (void)arg;
    if (sley_local_get(local.other_key) != NULL)
        local.found = sley_local_get(local.other_key);
    return 0;
}

static void *leave_on_its_thread(void *arg)
{
    leave_a_value_that_makes_one(arg);
    return NULL;
}

/* A value that is set while the last of them are closed is dropped too, and no other fiber finds it. */
SCENARIO(a_value_set_by_one_that_is_closed_at_the_very_end_is_dropped)
{
    memset(&local, 0, sizeof local);
    local.key = sley_local_create(drop_by_making_one_that_sets);
    local.other_key = sley_local_create(drop_by_counting);
    for (int round = 0; round < 4; round++) {
        if (sley_self() != 0) {
            EXPECT(on_a_fiber(leave_a_value_that_makes_one, (void *)(intptr_t)(round % 2 ? -EIO : 0)) == 0);
            for (int i = 0; i < 40; i++)
                EXPECT(on_a_fiber(look_for_a_value, NULL) == 0);
        } else {
            pthread_t thread;

            EXPECT(pthread_create(&thread, NULL, leave_on_its_thread, NULL) == 0);
            pthread_join(thread, NULL);
        }
        sley_gen_destroy(local.made);
    }
    EXPECT(local.drops == 4 && local.found == NULL);
    sley_local_destroy(local.key);
    sley_local_destroy(local.other_key);
}

/* ---- plain threads ---- */

static void *make_three_on_a_thread(void *arg)
{
    make_three_and_end(arg);
    return NULL;
}

static void the_end_of_a_thread_closes_them_youngest_first(void **state)
{
    pthread_t thread;

    (void)state;
    scene.unmet = NULL;
    track.n = 0;
    assert_int_equal(pthread_create(&thread, NULL, make_three_on_a_thread, NULL), 0);
    pthread_join(thread, NULL);
    assert_true(NOTED_ARE(2, 1, 0));
    for (int i = 0; i < 3; i++)
        assert_int_equal(sley_gen_state(child.g[i]), SLEY_GEN_CLOSED);
    destroy_all(child.g, 3);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

struct attached {
    sley_runtime *rt, *other;
    int how;
};

/* Made while attached; used, and left, afterwards. */
static void *make_while_attached(void *arg)
{
    struct attached *a = arg;
    struct part p[2];
    sley_gen *g;

    EXPECT(sley_runtime_attach(a->rt) == 0);
    for (int i = 0; i < 3; i++)
        child.g[i] = made(&child.p[i], i);
    g = made(&p[0], 7);
    if (a->how == 0) { /* it ends attached, as it should not */
        sley_gen_destroy(g);
        return NULL;
    }
    sley_runtime_detach();
    if (a->how > 1)
        sley_runtime_destroy(a->rt);
    if (a->how > 2)
        EXPECT(sley_runtime_attach(a->other) == 0);
    EXPECT(sley_gen_next(g, NULL) == 1);
    for (int i = 0; i < 3; i++)
        EXPECT(sley_gen_next(child.g[i], NULL) == 1);
    sley_gen_destroy(g);
    g = made(&p[1], 8);
    EXPECT(sley_gen_close(g) == 0);
    sley_gen_destroy(g);
    if (a->how > 2)
        sley_runtime_detach();
    return NULL;
}

static void what_an_attached_thread_has_made_lives_as_long_as_the_thread(void **state)
{
    (void)state;
    for (int how = 0; how < 4; how++) {
        struct attached a = { .how = how };
        pthread_t thread;

        scene.unmet = NULL;
        track.n = 0;
        assert_int_equal(sley_runtime_create(&a.rt, NULL), 0);
        assert_int_equal(sley_runtime_create(&a.other, NULL), 0);
        assert_int_equal(sley_runtime_start(a.rt), 0);
        assert_int_equal(pthread_create(&thread, NULL, make_while_attached, &a), 0);
        pthread_join(thread, NULL);
        assert_true(how == 0 ? NOTED_ARE(7, 2, 1, 0) : NOTED_ARE(7, 8, 2, 1, 0));
        destroy_all(child.g, 3);
        if (how < 2)
            sley_runtime_destroy(a.rt);
        sley_runtime_destroy(a.other);
        if (scene.unmet != NULL)
            fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
    }
}

static void *fail_while_attached(void *arg)
{
    struct part p;
    sley_gen *g;

    EXPECT(sley_runtime_attach(arg) == 0);
    g = made(&p, 1);
    p.rc = -EIO;
    sley_gen_destroy(g);
    g = made(&p, 2);
    p.yields = 1;
    sley_gen_destroy(g);
    sley_runtime_detach();
    return NULL;
}

static void an_attached_thread_tells_its_runtime(void **state)
{
    sley_runtime *rt;
    pthread_t thread;

    (void)state;
    memset(&told, 0, sizeof told);
    scene.unmet = NULL;
    track.n = 0;
    assert_int_equal(sley_runtime_create(&rt, &hooked), 0);
    assert_int_equal(pthread_create(&thread, NULL, fail_while_attached, rt), 0);
    pthread_join(thread, NULL);
    sley_runtime_destroy(rt);
    assert_int_equal(told.errors, 2);
    assert_int_equal(told.said[0].error, -EIO);
    assert_int_equal(told.said[0].fiber, 0);
    assert_int_equal(told.said[1].error, -EPROTO);
    assert_true(NOTED_ARE(1, 2));
    assert_null(scene.unmet);
}

static int sleep_in_the_body(void *arg)
{
    struct actor *a = arg;

    a->block = sl_current();
    return a->result = sley_sleep(SLEY_FOREVER);
}

static void *wait_attached(void *arg)
{
    struct attached *a = ((void **)arg)[0];
    struct actor *in = ((void **)arg)[1];
    sley_gen *g;

    EXPECT(sley_runtime_attach(a->rt) == 0);
    g = sley_gen_create(sleep_in_the_body, in, 0);
    EXPECT(sley_gen_next(g, NULL) == -ECANCELED);
    sley_gen_destroy(g);
    in->done = 1;
    sley_runtime_detach();
    return NULL;
}

static void the_stop_of_a_runtime_ends_the_waits_of_an_attached_threads_body(void **state)
{
    struct attached a = { .how = 0 };
    struct actor in = { .fn = NULL };
    void *pair[] = { &a, &in };
    pthread_t thread;

    (void)state;
    scene.cast = THREADS;
    scene.unmet = NULL;
    assert_int_equal(sley_runtime_create(&a.rt, NULL), 0);
    assert_int_equal(sley_runtime_start(a.rt), 0);
    assert_int_equal(pthread_create(&thread, NULL, wait_attached, pair), 0);
    assert_true(actor_waits_or_ended(&in));
    sley_runtime_stop(a.rt, SLEY_NOW);
    pthread_join(thread, NULL);
    sley_runtime_destroy(a.rt);
    assert_int_equal(in.result, -ECANCELED);
    assert_null(scene.unmet);
}

/* ---- the end of a runtime ---- */

static int leave_them_at_the_end(void *arg)
{
    make_three_and_end(NULL);
    return *(int *)arg;
}

static void the_end_of_a_run_closes_them(void **state)
{
    (void)state;
    for (int rc = -5; rc < 2; rc += 5) {
        scene.unmet = NULL;
        track.n = 0;
        assert_int_equal(sley_run(NULL, leave_them_at_the_end, &rc), rc);
        assert_true(NOTED_ARE(2, 1, 0));
        destroy_all(child.g, 3);
        assert_null(scene.unmet);
    }
}

static sley_event stop_set[2];

static int wait_until_stopped(void *arg)
{
    make_one_and_sleep(arg);
    return 0;
}

static void the_stop_of_a_runtime_closes_them_in_cancelled_scopes(void **state)
{
    sley_runtime *rt;

    (void)state;
    scene.unmet = NULL;
    track.n = 0;
    memset(stop_set, 0, sizeof stop_set);
    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    assert_int_equal(sley_runtime_submit(rt, wait_until_stopped, stop_set), 0);
    assert_int_equal(sley_event_wait(&stop_set[1], SLEY_FOREVER), 0);
    sley_event_set(&stop_set[0]);
    assert_int_equal(sley_runtime_stop(rt, SLEY_NOW), 0);
    sley_runtime_destroy(rt);
    assert_int_equal(track.n, 4);
    assert_int_equal(track.what[0], 1);
    assert_int_equal(track.what[1], 0); /* under a shield it could wait */
    assert_int_equal(track.what[2], 0);
    destroy_all(child.g, 2);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

static int make_one_and_release_it(void *arg)
{
    struct part *p = arg;

    child.g[0] = make(p, 1);
    return sley_gen_release(child.g[0]);
}

/* Nobody's: no end closes it. */
static void one_that_is_released_outlives_its_fiber_and_runtime(void **state)
{
    static struct part p;

    (void)state;
    scene.unmet = NULL;
    track.n = 0;
    assert_int_equal(sley_run(NULL, make_one_and_release_it, &p), 0);
    assert_int_equal(sley_gen_state(child.g[0]), SLEY_GEN_CREATED);
    assert_int_equal(sley_gen_adopt(child.g[0]), 0);
    p.self = 0;
    p.thread = pthread_self();
    assert_int_equal(sley_gen_next(child.g[0], NULL), 1);
    sley_gen_destroy(child.g[0]);
    assert_true(NOTED_ARE(1));
    assert_null(scene.unmet);
}

SCENARIO(one_that_was_adopted_belongs_to_the_scope_it_was_adopted_in)
{
    struct part p;
    sley_scope s, t;
    sley_gen *g;

    track.n = 0;
    sley_scope_init(&s, SLEY_FOREVER);
    g = made(&p, 1);
    sley_scope_init(&t, SLEY_FOREVER);
    EXPECT(sley_gen_release(g) == 0 && sley_gen_adopt(g) == 0);
    EXPECT(sley_scope_wait(&t, 0, SLEY_FOREVER) == 0 && NOTED_ARE(1));
    sley_gen_destroy(g);
    g = made(&p, 2);
    EXPECT(sley_gen_release(g) == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && NOTED_NOTHING);
    EXPECT(sley_gen_adopt(g) == 0 && sley_gen_next(g, NULL) == 1);
    sley_gen_destroy(g);
    EXPECT(NOTED_ARE(2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_FIBERS(the_end_of_a_scope_closes_what_was_made_in_it_youngest_first),
        ON_FIBERS(they_are_closed_before_the_scope_waits_for_its_children),
        ON_FIBERS(they_are_closed_in_the_scope_that_ends),
        ON_FIBERS(only_those_that_were_made_in_the_scope_are_closed),
        ON_FIBERS(scopes_of_every_kind_close_them),
        ON_FIBERS(in_a_scope_opened_by_another_they_are_closed_at_the_end_of_the_fiber),
        ON_FIBERS(the_fibers_error_is_told_after_they_are_closed),
        ON_FIBERS(the_end_of_a_task_closes_them_before_the_outcome_is_known),
        ON_FIBERS(in_a_cancelled_task_they_are_closed_as_cancelled_ones),
        ON_FIBERS(one_that_is_made_in_a_body_lives_as_long_as_the_outer_one),
        ON_FIBERS(one_that_is_made_in_a_scope_of_the_body_ends_with_that),
        ON_FIBERS(those_of_a_body_are_closed_with_it_at_the_end_of_its_scope),
        ON_FIBERS(a_body_that_is_closed_may_destroy_others_and_make_new_ones),
        ON_FIBERS(they_are_found_whatever_was_made_and_destroyed_in_between),
        cmocka_unit_test(an_error_that_nobody_asked_for_goes_to_the_hook),
        cmocka_unit_test(an_error_at_the_end_of_a_fiber_or_task_goes_to_the_hook),
        cmocka_unit_test(generators_made_by_the_hook_are_closed_with_their_fiber),
        cmocka_unit_test(one_that_yields_while_it_is_closed_goes_no_further),
        cmocka_unit_test(one_that_yields_while_it_is_closed_costs_no_memory),
        cmocka_unit_test(on_a_thread_of_no_runtime_nobody_is_told),
        ON_BOTH(the_drop_of_a_value_may_make_and_destroy_generators),
        ON_BOTH(a_value_set_by_one_that_is_closed_at_the_very_end_is_dropped),
        cmocka_unit_test(the_end_of_a_thread_closes_them_youngest_first),
        cmocka_unit_test(what_an_attached_thread_has_made_lives_as_long_as_the_thread),
        cmocka_unit_test(an_attached_thread_tells_its_runtime),
        cmocka_unit_test(the_stop_of_a_runtime_ends_the_waits_of_an_attached_threads_body),
        cmocka_unit_test(the_end_of_a_run_closes_them),
        cmocka_unit_test(the_stop_of_a_runtime_closes_them_in_cancelled_scopes),
        cmocka_unit_test(one_that_is_released_outlives_its_fiber_and_runtime),
        ON_FIBERS(one_that_was_adopted_belongs_to_the_scope_it_was_adopted_in),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
