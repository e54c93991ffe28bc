/* test_gen_from.c - sley_gen_yield_from, through several levels and with what can go wrong; arrays and channels as generators. */
#include "gen_parts.h"

#if defined(SL_ASAN) || defined(SL_TSAN)
enum { ROUNDS = 300 };
#else
enum { ROUNDS = 3000 };
#endif

/* ---- delegation ---- */

struct three {
    struct script s;
    struct level level[3];
    sley_gen *g;
};

static void make_three(struct three *t, int n, int rc)
{
    sley_gen *g = begin_script(&t->s, n, rc);

    for (int i = 0; i < 3; i++) {
        t->level[i] = (struct level){ .inner = g };
        g = sley_gen_create(delegate, &t->level[i], sizeof(int));
    }
    t->g = g;
}

static void destroy_three(struct three *t)
{
    sley_gen_destroy(t->g);
    for (int i = 2; i >= 0; i--)
        sley_gen_destroy(t->level[i].inner);
}

SCENARIO(yield_from_hands_on_values_and_results_through_three_levels)
{
    struct three t;
    int v;

    make_three(&t, 4, 33);
    EXPECT(sley_gen_next(t.g, &v) == 1 && v == 0);
    EXPECT(sley_gen_send(t.g, &(int){ 50 }, &v) == 1 && v == 1 && t.s.say[0] == 1 && t.s.in[0] == 50);
    EXPECT(sley_gen_next(t.g, &v) == 1 && v == 2 && t.s.say[1] == 0 && t.s.in[1] == NOTHING);
    v = 51;
    EXPECT(sley_gen_send(t.g, &v, &v) == 1 && v == 3 && t.s.in[2] == 51); /* the same memory */
    v = NOTHING;
    EXPECT(sley_gen_next(t.g, &v) == 0 && v == NOTHING && sley_gen_result(t.g) == 33);
    for (int i = 0; i < 3; i++)
        EXPECT(t.level[i].from_inner == 33 && t.level[i].ended == 1 && sley_gen_state(t.level[i].inner) == SLEY_GEN_CLOSED);
    destroy_three(&t);
}

SCENARIO(yield_from_stands_between_yields_of_each_level)
{
    static const int wanted[] = { 1000, 1000, 1000, 0, 1, 2000, 2000, 2000, 2001 };
    struct three t;
    int v;

    make_three(&t, 2, 0);
    for (int i = 0; i < 3; i++)
        t.level[i].yields_before = t.level[i].yields_after = 1;
    t.level[2].yields_after = 2;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        EXPECT(sley_gen_next(t.g, &v) == 1 && v == wanted[i]);
    EXPECT(sley_gen_next(t.g, &v) == 0);
    destroy_three(&t);
}

SCENARIO(yield_from_throws_through_three_levels)
{
    struct three t;
    int v = NOTHING;

    make_three(&t, 4, 0);
    EXPECT(sley_gen_next(t.g, &v) == 1 && sley_gen_throw(t.g, -EIO, &v) == -EIO && v == 0); /* nobody catches it */
    EXPECT(t.s.say[0] == -EIO && t.level[0].from_inner == -EIO && t.level[2].from_inner == -EIO && sley_gen_result(t.g) == -EIO);
    destroy_three(&t);

    make_three(&t, 4, 9);
    t.s.when_told = GO_ON; /* the innermost goes on */
    EXPECT(sley_gen_next(t.g, &v) == 1 && sley_gen_throw(t.g, -EIO, &v) == 1 && v == 1 && t.s.say[0] == -EIO);
    EXPECT(sley_gen_next(t.g, &v) == 1 && sley_gen_next(t.g, &v) == 1 && v == 3 && sley_gen_next(t.g, &v) == 0);
    EXPECT(sley_gen_result(t.g) == 9);
    destroy_three(&t);

    make_three(&t, 4, 0);
    t.level[1].swallow = 1; /* the one in the middle catches it, and yields something else */
    t.level[1].yields_after = 1;
    t.level[1].rc = 12;
    EXPECT(sley_gen_next(t.g, &v) == 1 && sley_gen_throw(t.g, -EDOM, &v) == 1 && v == 2000);
    EXPECT(sley_gen_next(t.g, &v) == 0 && sley_gen_result(t.g) == 12 && t.level[0].from_inner == -EDOM && t.level[2].from_inner == 12);
    destroy_three(&t);
}

SCENARIO(yield_from_closes_through_three_levels)
{
    struct three t;
    int v = NOTHING;

    make_three(&t, 4, 0);
    EXPECT(sley_gen_next(t.g, &v) == 1 && sley_gen_close(t.g) == 0 && t.s.say[0] == -ECANCELED && t.s.ends == 1);
    for (int i = 0; i < 3; i++)
        EXPECT(t.level[i].from_inner == -ECANCELED && t.level[i].ended == 1 && sley_gen_state(t.level[i].inner) == SLEY_GEN_CLOSED);
    destroy_three(&t);

    make_three(&t, 4, 17); /* the innermost one returns something: it is closed all the same, and so are the others */
    t.s.when_told = SWALLOW;
    EXPECT(sley_gen_next(t.g, &v) == 1 && sley_gen_close(t.g) == 0 && t.level[0].from_inner == -ECANCELED);
    EXPECT(sley_gen_result(t.level[0].inner) == 17 && sley_gen_result(t.g) == -ECANCELED);
    destroy_three(&t);

    make_three(&t, 4, -EIO); /* it fails while it cleans up */
    t.s.when_told = SWALLOW;
    EXPECT(sley_gen_next(t.g, &v) == 1 && sley_gen_close(t.g) == -EIO && t.level[0].from_inner == -EIO && t.level[2].from_inner == -EIO);
    destroy_three(&t);

    make_three(&t, 4, 0); /* it yields while it is closed */
    t.s.when_told = GO_ON;
    EXPECT(sley_gen_next(t.g, &v) == 1 && sley_gen_close(t.g) == -EPROTO && t.level[0].from_inner == -EPROTO);
    EXPECT(sley_gen_state(t.g) == SLEY_GEN_CLOSED && sley_gen_state(t.level[0].inner) == SLEY_GEN_SUSPENDED);
    t.s.when_told = PASS_ON;
    destroy_three(&t);

    make_three(&t, 4, 0); /* throwing -ECANCELED is closing */
    t.s.when_told = SWALLOW;
    EXPECT(sley_gen_next(t.g, &v) == 1 && sley_gen_throw(t.g, -ECANCELED, &v) == -ECANCELED && t.s.ends == 1);
    destroy_three(&t);
}

SCENARIO(yield_from_one_that_fails_at_once_or_later)
{
    struct three t;
    int v = NOTHING;

    for (int n = 0; n < 3; n++) {
        make_three(&t, n, -EBADMSG);
        for (int i = 0; i < n; i++)
            EXPECT(sley_gen_next(t.g, &v) == 1 && v == i);
        EXPECT(sley_gen_next(t.g, &v) == -EBADMSG && t.level[1].from_inner == -EBADMSG && sley_gen_next(t.g, &v) == 0);
        destroy_three(&t);
    }
}

SCENARIO(yield_from_one_that_was_begun_or_has_ended)
{
    struct level l = { .yields_after = 1 };
    struct script s;
    sley_gen *g;
    int v = NOTHING;

    l.inner = started_script(&s, 3, 21);
    EXPECT(sley_gen_next(l.inner, &v) == 1 && v == 1);
    g = sley_gen_create(delegate, &l, sizeof(int));
    EXPECT(sley_gen_next(g, &v) == 1 && v == 2 && sley_gen_next(g, &v) == 1 && v == 2000 && l.from_inner == 21);
    sley_gen_destroy(g);
    g = sley_gen_create(delegate, &l, sizeof(int)); /* it has ended: its result, at once */
    l.from_inner = 0;
    EXPECT(sley_gen_next(g, &v) == 1 && v == 2000 && l.from_inner == 21);
    sley_gen_destroy(g);
    sley_gen_destroy(l.inner);
}

/* The inner one may be resumed by others, or ended by them, while the outer one delegates to it. */
SCENARIO(yield_from_one_that_others_resume_too)
{
    struct level l = { .rc = 0 };
    struct script s;
    sley_gen *g = sley_gen_create(delegate, &l, sizeof(int));
    int v;

    l.inner = begin_script(&s, 5, 3);
    EXPECT(sley_gen_next(g, &v) == 1 && v == 0 && sley_gen_next(l.inner, &v) == 1 && v == 1 && sley_gen_next(g, &v) == 1 && v == 2);
    EXPECT(sley_gen_close(l.inner) == 0 && sley_gen_state(g) == SLEY_GEN_SUSPENDED);
    EXPECT(sley_gen_next(g, &v) == -ECANCELED && l.from_inner == -ECANCELED); /* the result of the inner one */
    sley_gen_destroy(g);
    sley_gen_destroy(l.inner);
}

static int yield_from_bad_ones(void *arg)
{
    struct script s;
    sley_gen *wide = sley_gen_create(follow, &s, 8), *narrow = sley_gen_create(follow, &s, 1);

    (void)arg;
    EXPECT(sley_gen_yield_from(NULL) == -EINVAL && sley_gen_yield_from(wide) == -EINVAL && sley_gen_yield_from(narrow) == -EINVAL);
    EXPECT(sley_gen_state(wide) == SLEY_GEN_CREATED);
    sley_gen_destroy(wide);
    sley_gen_destroy(narrow);
    return 6;
}

SCENARIO(yield_from_refuses_null_and_values_of_another_size)
{
    sley_gen *g = sley_gen_create(yield_from_bad_ones, NULL, sizeof(int));

    EXPECT(sley_gen_next(g, NULL) == 0 && sley_gen_result(g) == 6);
    sley_gen_destroy(g);
}

/* A tree, with a generator a node. */
static int walk_by_generators(void *arg)
{
    struct node *n = *(struct node **)arg;
    sley_gen *g;
    int rc = 0;

    for (int side = 0; side < 2 && rc >= 0; side++) {
        struct node *child = side == 0 ? n->left : n->right;

        if (side == 1)
            rc = sley_gen_yield(&n->key, NULL);
        if (child == NULL || rc < 0)
            continue;
        g = sley_gen_create_copy(walk_by_generators, &child, sizeof(struct node *), sizeof(int));
        rc = sley_gen_yield_from(g);
        sley_gen_destroy(g);
    }
    return rc < 0 ? rc : 0;
}

SCENARIO(yield_from_walks_a_tree_with_a_generator_a_node)
{
    enum { NODES = 60 };
    struct node nodes[NODES], *root = make_tree(nodes, 0, NODES);
    sley_gen *g;
    int v;

    for (int stop = 0; stop <= NODES; stop++) { /* closed at every place */
        g = sley_gen_create(walk_by_generators, &root, sizeof v);
        for (int i = 0; i < stop; i++)
            EXPECT(sley_gen_next(g, &v) == 1 && v == i);
        EXPECT(stop < NODES || sley_gen_next(g, &v) == 0);
        sley_gen_destroy(g);
    }
}

static int delegate_on_a_big_stack(void *arg)
{
    return sley_on_big_stack(delegate, arg, 300 << 10);
}

SCENARIO(yield_from_works_on_a_larger_stack)
{
    struct level l = { .rc = 0 };
    struct script s;
    sley_gen *g = sley_gen_create(delegate_on_a_big_stack, &l, sizeof(int));
    int v = 3;

    l.inner = begin_script(&s, 2, 4);
    EXPECT(sley_gen_next(g, &v) == 1 && v == 0);
    v = 8;
    EXPECT(sley_gen_send(g, &v, &v) == 1 && v == 1 && s.in[0] == 8);
    EXPECT(sley_gen_next(g, &v) == 0 && sley_gen_result(g) == 4);
    sley_gen_destroy(g);
    sley_gen_destroy(l.inner);
}

/* ---- other things as generators ---- */

SCENARIO(an_array_is_walked)
{
    static const size_t sizes[] = { 1, 4, 8, 24, 4096 };

    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t bytes = sizes[k];
        unsigned char *array = malloc(10 * bytes), *v = malloc(bytes);
        sley_gen *g = sley_gen_from_array(array, 10, bytes);

        for (unsigned i = 0; i < 10; i++)
            fill(array + i * bytes, bytes, i);
        for (unsigned i = 0; i < 10; i++) {
            memset(v, 0xee, bytes);
            EXPECT((i % 2 ? sley_gen_send(g, v, v) : sley_gen_next(g, v)) == 1 && is_filled(v, bytes, i)); /* what is sent is dropped */
        }
        EXPECT(sley_gen_next(g, v) == 0 && sley_gen_result(g) == 0 && is_filled(v, bytes, 9));
        sley_gen_destroy(g);
        free(array);
        free(v);
    }
}

SCENARIO(an_array_ends_early_and_may_be_empty)
{
    int array[] = { 1, 2, 3 }, v = NOTHING;
    sley_gen *g = sley_gen_from_array(array, 3, sizeof v);

    EXPECT(sley_gen_send(g, &v, &v) == -EINVAL && sley_gen_next(g, &v) == 1 && v == 1 && sley_gen_throw(g, -EIO, &v) == -EIO);
    sley_gen_destroy(g);
    g = sley_gen_from_array(array, 3, sizeof v);
    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_next(g, &v) == 1 && v == 2 && sley_gen_close(g) == 0);
    sley_gen_destroy(g);
    g = sley_gen_from_array(NULL, 0, sizeof v);
    EXPECT(sley_gen_next(g, &v) == 0 && v == 2);
    sley_gen_destroy(g);
    g = sley_gen_from_array(array, 2, 0); /* elements of nothing */
    EXPECT(sley_gen_next(g, &v) == 1 && sley_gen_next(g, &v) == 1 && sley_gen_next(g, &v) == 0 && v == 2);
    sley_gen_destroy(g);
}

SCENARIO(a_channel_is_drained_until_it_is_closed_and_empty)
{
    sley_chan *ch = sley_chan_create(sizeof(int), 8);
    sley_gen *g = sley_gen_from_chan(ch);
    int v = NOTHING;

    for (int i = 0; i < 5; i++)
        EXPECT(sley_chan_send(ch, &i, SLEY_FOREVER) == 0);
    EXPECT(sley_gen_send(g, &v, &v) == -EINVAL);
    for (int i = 0; i < 3; i++)
        EXPECT(sley_gen_next(g, &v) == 1 && v == i);
    sley_chan_close(ch);
    EXPECT(sley_gen_send(g, &(int){ 77 }, &v) == 1 && v == 3); /* dropped */
    EXPECT(sley_gen_next(g, NULL) == 1);                       /* 4, which nobody wanted */
    EXPECT(sley_gen_next(g, &v) == 0 && v == 3 && sley_gen_result(g) == 0);
    sley_gen_destroy(g);
    sley_chan_destroy(ch);
}

SCENARIO(a_channel_loses_nothing_when_its_generator_ends_early)
{
    sley_chan *ch = sley_chan_create(sizeof(int), 100);
    int v = NOTHING, wanted = 0;

    for (int i = 0; i < 100; i++)
        EXPECT(sley_chan_send(ch, &i, SLEY_FOREVER) == 0);
    for (int round = 0; round < 5; round++) {
        sley_gen *g = sley_gen_from_chan(ch);

        for (int i = 0; i < 10; i++)
            EXPECT(sley_gen_next(g, &v) == 1 && v == wanted++);
        if (round == 1)
            EXPECT(sley_gen_close(g) == 0);
        else if (round == 2)
            EXPECT(sley_gen_throw(g, -EDOM, &v) == -EDOM);
        sley_gen_destroy(g);
        EXPECT(sley_chan_recv(ch, &v, SLEY_NOW) == 1 && v == wanted++);
    }
    EXPECT(sley_chan_len(ch) == 45);
    sley_chan_destroy(ch);
}

static int send_some(void *arg)
{
    struct relay *r = arg;

    for (int i = 0; i < ROUNDS; i++)
        if (sley_chan_send(r->in, &i, SLEY_FOREVER) < 0)
            return -EBADMSG;
    sley_chan_close(r->in);
    return 0;
}

/* A receiver that is cut short again and again, with a capacity of nothing and of some. */
static void cut_short_again_and_again(size_t capacity)
{
    struct relay r = { .in = sley_chan_create(sizeof(int), capacity) };
    struct actor sender;
    int wanted = 0, rc = 1, v;

    actor_start(&sender, send_some, &r);
    for (int round = 0; rc != 0; round++) {
        sley_gen *g;
        sley_scope s;

        sley_scope_init(&s, sley_after(round % 7 * (10 + round) * SLEY_US)); /* longer and longer: in the end it gets something */
        g = sley_gen_from_chan(r.in);
        while ((rc = sley_gen_next(g, &v)) > 0)
            EXPECT(v == wanted++);
        EXPECT(rc == 0 || rc == -ECANCELED);
        EXPECT(sley_gen_state(g) == SLEY_GEN_CLOSED);
        sley_gen_destroy(g);
        sley_scope_wait(&s, 0, SLEY_FOREVER);
    }
    EXPECT(wanted == ROUNDS && actor_result(&sender) == 0);
    sley_chan_destroy(r.in);
}

SCENARIO(a_channel_loses_nothing_when_the_scope_is_cancelled)
{
    cut_short_again_and_again(0);
    cut_short_again_and_again(3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(yield_from_hands_on_values_and_results_through_three_levels),
        ON_BOTH(yield_from_stands_between_yields_of_each_level),
        ON_BOTH(yield_from_throws_through_three_levels),
        ON_BOTH(yield_from_closes_through_three_levels),
        ON_BOTH(yield_from_one_that_fails_at_once_or_later),
        ON_BOTH(yield_from_one_that_was_begun_or_has_ended),
        ON_BOTH(yield_from_one_that_others_resume_too),
        ON_BOTH(yield_from_refuses_null_and_values_of_another_size),
        ON_BOTH(yield_from_walks_a_tree_with_a_generator_a_node),
        ON_BOTH(yield_from_works_on_a_larger_stack),
        ON_BOTH(an_array_is_walked),
        ON_BOTH(an_array_ends_early_and_may_be_empty),
        ON_BOTH(a_channel_is_drained_until_it_is_closed_and_empty),
        ON_BOTH(a_channel_loses_nothing_when_its_generator_ends_early),
        ON_FIBERS(a_channel_loses_nothing_when_the_scope_is_cancelled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
