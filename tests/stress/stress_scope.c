/* stress_scope.c - random trees of scopes: fibers that open scopes in scopes, start children, wait, fail, cancel and move the deadlines of
 * whatever is above them, raise shields; threads that do the same to scopes whose opener may be just about to close them.
 *
 * Each scope has a record beside it, in which is noted what may happen to it before it is done. So every result can be asked: may this be?
 *   a call is refused          only if a scope between it and the first shield may have been cancelled; and once it is, all are
 *   closing returns an error   one that somebody inside has returned; none if somebody has not
 *   closing returns -ETIMEDOUT only if a deadline was set that may have passed
 *   closing returns -ECANCELED only if something above, below the first shield, may have been cancelled
 *   closing returns the rest   exactly the result of the body
 * After closing nobody is left inside, and the memory of the scope stays as its opener leaves it. */
#include "../scenario.h"

enum {
    TREES = 400,
    CHILDREN_MAX = 7,
    STEPS_MAX = 8,
    SLOTS = 16,
    THREADS_AT_WORK = 2,
    ERROR_FIRST = 1000,
    ERRORS = 64
};

struct record {
    struct record *above; /* NULL: the function's scope */
    int shielded;         /* `above` is behind a shield */
    int isolated;
    _Atomic(int) may_be_cancelled, may_run_out_of_time;
    _Atomic(uint64_t) errors; /* -(ERROR_FIRST + i) was or will be returned into it */
    _Atomic(int) inside;
    sley_scope scope;
};

static struct {
    sley_chan *ch;
    sley_event never;
    sley_waitgroup one;
    sley_mutex mutex;
    sley_cond cond;
    sley_runtime *rt;
    _Atomic(int) started, ended, reports, reports_expected, stop;
    _Atomic(long) fibers, scopes, refused; /* of all trees */
} world;

static uint64_t seed;

static void on_error(void *ctx, uint64_t fiber, const char *name, int error)
{
    (void)ctx;
    (void)fiber;
    (void)name;
    (void)error;
    world.reports++;
}

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

/* --- scopes lent to the threads ------------------------------------------------------------------------------------------------- */

struct slot { /* a scope is in it only while somebody inside the scope sees to that it stays open */
    _Atomic(struct record *) record;
    _Atomic(int) users;
};

static struct slot slots[SLOTS];

static struct slot *lend(struct record *r, uint64_t *random)
{
    struct slot *slot = &slots[below(random, SLOTS)];
    struct record *none = NULL;

    return sl_cas_seq_cst(&slot->record, &none, r) ? slot : NULL;
}

static void take_back(struct slot *slot)
{
    if (slot == NULL)
        return;
    slot->record = NULL;
    while (slot->users > 0)
        pass();
}

/* --- what is done to a scope ----------------------------------------------------------------------------------------------------- */

static void do_something_to(struct record *r, uint64_t *random)
{
    sley_time when;

    switch (below(random, 8)) {
    case 0:
        r->may_be_cancelled = 1;
        sley_scope_cancel(&r->scope);
        break;
    case 1:
        when = below(random, 2) ? SLEY_NOW : sley_after(below(random, 300) * SLEY_US);
        r->may_run_out_of_time = r->may_be_cancelled = 1;
        sley_scope_set_deadline(&r->scope, when);
        break;
    case 2:
    case 3:
    case 4: sley_scope_set_deadline(&r->scope, sley_after((1000 + below(random, 1000)) * SLEY_S)); break;
    default: sley_scope_set_deadline(&r->scope, SLEY_FOREVER); break;
    }
}

static void *disturb(void *arg)
{
    uint64_t random = mix(seed ^ (uint64_t)(uintptr_t)arg);

    while (!world.stop) {
        struct slot *slot = &slots[below(&random, SLOTS)];
        struct record *r;

        slot->users++;
        r = slot->record;
        if (r != NULL)
            do_something_to(r, &random);
        slot->users--;
        if (below(&random, 4) == 0)
            sched_yield();
    }
    return NULL;
}

/* In and out of the root scope's list of children, and sometimes waiting there. */
static void *attach_and_detach(void *arg)
{
    uint64_t random = mix(seed + 99);

    (void)arg;
    while (!world.stop) {
        EXPECT(sley_runtime_attach(world.rt) == 0);
        if (below(&random, 2))
            EXPECT(sley_event_wait(&world.never, sley_after(below(&random, 100) * SLEY_US)) == -ETIMEDOUT);
        sley_runtime_detach();
    }
    return NULL;
}

/* --- a fiber of the tree ---------------------------------------------------------------------------------------------------------- */

struct node {
    struct record *in;
    uint64_t random;
    int depth, doomed; /* doomed: something between here and the first shield will be cancelled for certain */
};

static int may_be_refused(const struct record *r)
{
    for (; r != NULL; r = r->shielded ? NULL : r->above)
        if (r->may_be_cancelled)
            return 1;
    return 0;
}

static int wait_somehow(struct node *n, int for_ever)
{
    sley_time deadline = for_ever ? SLEY_FOREVER : sley_after(below(&n->random, 100) * SLEY_US);
    sley_case arms[4];
    int v = 1, rc;

    switch (below(&n->random, 10)) {
    case 0: rc = sley_event_wait(&world.never, deadline); break;
    case 1: rc = sley_waitgroup_wait(&world.one, deadline); break;
    case 2: rc = for_ever ? sley_sleep(SLEY_FOREVER) : sley_sleep(below(&n->random, 50) * SLEY_US); break;
    case 3: rc = sley_chan_send(world.ch, &v, deadline); break; /* what comes in goes out again, or its time passes */
    case 4: rc = sley_chan_recv(world.ch, &v, deadline); break;
    case 5: rc = sley_yield(); break;
    case 6:
    case 7:
        arms[0] = sley_case_recv(world.ch, &v);
        arms[1] = sley_case_event(&world.never);
        arms[2] = sley_case_send(world.ch, &v);
        arms[3] = sley_case_at(for_ever ? sley_after(3600 * SLEY_S) : deadline);
        rc = sley_select(arms, for_ever ? 2 : 4, deadline);
        break;
    case 8:
        rc = sley_mutex_lock(&world.mutex, SLEY_FOREVER);
        EXPECT(rc == 0);
        rc = sley_cond_wait(&world.cond, &world.mutex, deadline);
        sley_mutex_unlock(&world.mutex);
        break;
    default: rc = sley_cancelled(); break;
    }
    return rc == -ETIMEDOUT || rc > 0 ? 0 : rc;
}

/* A wait in scope r, `shielded` or not. -ECANCELED if it was refused; what is not kept then is said. */
static int wait_in(struct node *n, struct record *r, int shielded, int for_ever)
{
    int rc = wait_somehow(n, for_ever && !shielded);

    EXPECT(rc == 0 || rc == -ECANCELED);
    if (rc == 0)
        return 0;
    world.refused++;
    EXPECT(!shielded && may_be_refused(r));
    EXPECT(sley_yield() == -ECANCELED && sley_sleep(SLEY_US) == -ECANCELED && sley_cancelled() == -ECANCELED);
    EXPECT(sley_event_wait(&world.never, SLEY_FOREVER) == -ECANCELED);
    return rc;
}

static int node_main(void *arg);

static void start_child(struct node *n, struct record *r, int doomed)
{
    struct node child = { r, mix(n->random + below(&n->random, 1u << 30)), n->depth - 1, doomed };

    r->inside++;
    world.started++;
    if (sley_scope_go_copy(&r->scope, node_main, &child, sizeof child) < 0) {
        perror("cannot start a fiber");
        abort();
    }
}

/* What is returned into scope `r`: noted before. */
static int fail_into(struct record *r, uint64_t *random)
{
    uint32_t i = below(random, ERRORS);

    if (r->isolated) {
        world.reports_expected++;
    } else {
        r->may_be_cancelled = 1;
        sl_or_acq_rel(&r->errors, (uint64_t)1 << i);
    }
    return -(int)(ERROR_FIRST + i);
}

/* Cancels the scope it is started in, sooner or later, in one of the ways there are. */
static int doom(void *arg)
{
    struct node n = *(struct node *)arg;
    struct record *r = n.in;
    int rc = 0;

    for (uint32_t i = below(&n.random, 20); i > 0; i--)
        pass();
    switch (below(&n.random, r->isolated ? 2 : 3)) {
    case 0:
        r->may_be_cancelled = 1;
        sley_scope_cancel(&r->scope);
        break;
    case 1: /* a deadline could be moved away again by others before it passes; one that has passed cannot */
        r->may_run_out_of_time = r->may_be_cancelled = 1;
        sley_scope_set_deadline(&r->scope, SLEY_NOW);
        break;
    default: rc = fail_into(r, &n.random); break;
    }
    r->inside--;
    world.ended++;
    return rc;
}

static void check_result(const struct record *r, int body_rc, int result)
{
    uint64_t errors = r->errors;
    int from_above = !r->shielded && may_be_refused(r->above);

    EXPECT(r->inside == 0);
    if (result <= -ERROR_FIRST) {
        EXPECT(errors >> (-result - ERROR_FIRST) & 1);
        return;
    }
    EXPECT(errors == 0);
    if (result == -ETIMEDOUT)
        EXPECT(r->may_run_out_of_time);
    else if (result == -ECANCELED)
        EXPECT(from_above);
    else
        EXPECT(result == (body_rc == -ECANCELED ? 0 : body_rc));
    if (!r->may_be_cancelled && !from_above)
        EXPECT(result == body_rc);
}

/* Open a scope inside `in`, live in it, close it; what came out, noted in `in` if it is an error that goes on. */
static int live_in_a_scope(struct node *n, int doomed, int under_shield)
{
    struct record r = { .above = n->in, .isolated = below(&n->random, 3) == 0, .shielded = under_shield };
    struct node mine = *n;
    sley_time deadline = SLEY_FOREVER, grace = SLEY_FOREVER;
    struct slot *slot;
    int rc = 0, result, raises = below(&n->random, 5) == 0;

    if (raises) {
        r.shielded = 1;
        sley_shield_begin();
    }
    doomed = doomed && !r.shielded;
    if (below(&n->random, 4) == 0) {
        deadline = sley_after(below(&n->random, 400) * SLEY_US);
        r.may_run_out_of_time = r.may_be_cancelled = 1;
    } else if (below(&n->random, 4) == 0) {
        deadline = sley_after(3600 * SLEY_S);
    }
    if (r.isolated)
        sley_scope_init_isolated(&r.scope, deadline);
    else
        sley_scope_init(&r.scope, deadline);
    world.scopes++;
    mine.in = &r;
    if (below(&n->random, 3) == 0) {
        struct node killer = { &r, mix(n->random + 7), 0, 0 };
        r.inside++;
        world.started++;
        if (sley_go_copy(doom, &killer, sizeof killer) < 0)
            abort();
        doomed = 1;
    }
    if (n->depth > 0)
        for (uint32_t i = below(&n->random, CHILDREN_MAX); i > 0; i--)
            start_child(n, &r, doomed);
    slot = lend(&r, &n->random);
    for (uint32_t i = below(&n->random, STEPS_MAX); i > 0 && rc == 0; i--) {
        int shielded = below(&n->random, 5) == 0;
        if (shielded)
            sley_shield_begin();
        if (below(&n->random, 6) == 0)
            do_something_to(&r, &n->random);
        if (n->depth > 0 && below(&n->random, 6) == 0) {
            mine.depth = n->depth - 1;
            mine.random = mix(n->random);
            rc = live_in_a_scope(&mine, doomed, shielded);
        } else {
            rc = wait_in(n, &r, shielded, doomed && below(&n->random, 2));
        }
        if (shielded)
            sley_shield_end();
        if (rc == 0 && below(&n->random, 12) == 0) {
            rc = fail_into(&r, &n->random);
            if (r.isolated) { /* of the body it is an error all the same, and not reported */
                world.reports_expected--;
                r.may_be_cancelled = 1;
                sl_or_acq_rel(&r.errors, (uint64_t)1 << (-rc - ERROR_FIRST));
            }
        }
    }
    take_back(slot);
    if (rc == -ETIMEDOUT) /* of a scope inside: not passed on */
        rc = 0;
    if (rc <= -ERROR_FIRST) { /* from a scope inside, perhaps: now it is this one's */
        r.may_be_cancelled = 1;
        sl_or_acq_rel(&r.errors, (uint64_t)1 << (-rc - ERROR_FIRST));
    }
    if (rc == 0 && below(&n->random, 3) == 0)
        rc = (int)below(&n->random, 5);
    if (below(&n->random, 4) == 0) {
        grace = below(&n->random, 2) ? SLEY_NOW : sley_after(below(&n->random, 200) * SLEY_US);
        r.may_run_out_of_time = r.may_be_cancelled = 1;
    }
    result = sley_scope_wait(&r.scope, rc, grace);
    check_result(&r, rc, result);
    EXPECT(sley_scope_wait(&r.scope, 99, SLEY_NOW) == result);
    memset(&r.scope, 0xee, sizeof r.scope);
    pass();
    EXPECT(is_untouched(&r.scope, sizeof r.scope));
    if (raises)
        sley_shield_end();
    return result > 0 ? 0 : result;
}

/* A fiber: its child's view of the scope it was started in is that the scope stays open until it ends. */
static int node_main(void *arg)
{
    struct node n = *(struct node *)arg;
    struct record *in = n.in;
    struct slot *slot = lend(in, &n.random);
    int rc = 0;

    for (uint32_t i = below(&n.random, STEPS_MAX); i > 0 && rc == 0; i--) {
        switch (below(&n.random, 5)) {
        case 0:
        case 1: rc = live_in_a_scope(&n, n.doomed, 0); break;
        case 2:
            if (n.depth > 0 && below(&n.random, 3) == 0)
                start_child(&n, in, n.doomed); /* a sibling */
            else if (below(&n.random, 8) == 0)
                do_something_to(in, &n.random);
            break;
        default: rc = wait_in(&n, in, 0, n.doomed && below(&n.random, 3) == 0); break;
        }
    }
    if (rc <= -ERROR_FIRST || (rc == 0 && below(&n.random, 20) == 0))
        rc = fail_into(in, &n.random); /* its own, or what came out of a scope, under a number of its own */
    else if (rc == -ETIMEDOUT || below(&n.random, 4) == 0)
        rc = 0; /* swallowed */
    take_back(slot);
    EXPECT(in->inside > 0);
    in->inside--;
    world.ended++;
    return rc;
}

static void one_tree(uint64_t random)
{
    struct record top = { .above = NULL };
    struct node n = { &top, random, 4, 0 };
    int result;

    world.started = world.ended = world.reports = world.reports_expected = 0;
    sley_scope_init(&top.scope, SLEY_FOREVER);
    for (int i = 0; i < 4; i++)
        start_child(&n, &top, 0);
    result = sley_scope_wait(&top.scope, 0, SLEY_FOREVER);
    check_result(&top, 0, result);
    world.fibers += world.started;
    EXPECT(world.started == world.ended && world.reports == world.reports_expected);
    EXPECT(sley_yield() == 0);
}

static int play_trees(void *arg)
{
    pthread_t threads[THREADS_AT_WORK], attached;

    (void)arg;
    world.ch = sley_chan_create(sizeof(int), 2);
    world.rt = sley_runtime_current();
    world.stop = 0;
    sley_waitgroup_add(&world.one, 1);
    for (uintptr_t i = 0; i < THREADS_AT_WORK; i++)
        if (pthread_create(&threads[i], NULL, disturb, (void *)(i + 1)) != 0)
            abort();
    if (pthread_create(&attached, NULL, attach_and_detach, NULL) != 0)
        abort();
    for (int i = 0; i < TREES && scene.unmet == NULL; i++)
        one_tree(mix(seed + (uint64_t)i));
    world.stop = 1;
    for (int i = 0; i < THREADS_AT_WORK; i++)
        pthread_join(threads[i], NULL);
    pthread_join(attached, NULL);
    sley_chan_destroy(world.ch);
    sley_mutex_fini(&world.mutex);
    sley_cond_fini(&world.cond);
    sley_event_fini(&world.never);
    sley_waitgroup_fini(&world.one);
    return 0;
}

static void scope_stress_random_trees(void **state)
{
    sley_options options = { .on_error = on_error };

    (void)state;
    scene.cast = casts[0]; /* all on fibers */
    scene.unmet = NULL;
    assert_int_equal(sley_run(&options, play_trees, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
    print_message("%ld fibers, %ld scopes, %ld refused calls\n", world.fibers, world.scopes, world.refused);
}

/* --- nothing but opening and closing, under cancels and deadlines from above ------------------------------------------------------ */

struct closer {
    uint64_t random;
    _Atomic(int) *closed;
};

static int open_and_close(void *arg)
{
    struct closer c = *(struct closer *)arg;

    while (sley_cancelled() == 0) {
        sley_scope s, inner;

        sley_scope_init(&s, below(&c.random, 2) ? sley_after(below(&c.random, 20) * SLEY_US) : SLEY_FOREVER);
        sley_scope_init(&inner, below(&c.random, 4) ? SLEY_FOREVER : sley_after(below(&c.random, 10) * SLEY_US));
        EXPECT(sley_scope_wait(&inner, 4, SLEY_FOREVER) == 4);
        EXPECT(sley_scope_wait(&s, 5, SLEY_FOREVER) == 5);
        memset(&inner, 0xee, sizeof inner);
        memset(&s, 0xee, sizeof s);
        ++*c.closed;
        if (below(&c.random, 4) == 0)
            pass();
        EXPECT(is_untouched(&s, sizeof s) && is_untouched(&inner, sizeof inner));
    }
    return 0;
}

static int play_closers(void *arg)
{
    uint64_t random = seed;

    (void)arg;
    for (int round = 0; round < 1500 && scene.unmet == NULL; round++) {
        _Atomic(int) closed = 0;
        sley_scope s;
        int enough;

        sley_scope_init(&s, SLEY_FOREVER);
        for (int i = 0; i < 3; i++) {
            struct closer c = { mix(random + (uint64_t)i), &closed };
            EXPECT(sley_go_copy(open_and_close, &c, sizeof c) == 0);
        }
        enough = (int)below(&random, 20);
        while (closed < enough)
            pass();
        if (below(&random, 2))
            sley_scope_cancel(&s);
        else
            sley_scope_set_deadline(&s, SLEY_NOW);
        EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) <= 0);
    }
    return 0;
}

static void scope_stress_close_against_cancel(void **state)
{
    (void)state;
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, play_closers, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scope_stress_random_trees),
        cmocka_unit_test(scope_stress_close_against_cancel),
    };

    seed = test_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
