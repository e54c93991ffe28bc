/* test_py_gen.c - what the tests of Python say about generators, about yield from (PEP 380) and about the end of one inside another (PEP
 * 479), as far as it is true here too; where Sley decides otherwise the test says what it does instead. docs/tests-generators.md has the
 * list, case by case; what test_gen.c and its neighbours ask already is not asked again. Those that wait: test_py_asyncgen.c. */
#include "gen_parts.h"

/* What is noted besides values, which are less than 1000. */
enum {
    OUTER_BEGINS = 1000, OUTER_GOES_ON, OUTER_CLEANS_UP, OUTER_ENDS, INNER_BEGINS, INNER_CATCHES, INNER_CLEANS_UP, INNER_ENDS, NEVER,
    GOT = 2000 /* and the value */, INNER_GOT = 3000, RETURNED = 4000, FAILED = 5000 /* and the error */
};

static int give(int v)
{
    return sley_gen_yield(&v, NULL);
}

static int give_and_take(int v, int *in)
{
    *in = NOTHING;
    return sley_gen_yield(&v, in);
}

/* Next after next until it ends, each value noted; what the last one returned. */
static int drain(sley_gen *g)
{
    int rc, v;

    while ((rc = sley_gen_next(g, &v)) > 0)
        note(v);
    return rc;
}

static int drain_and_destroy(sley_gen *g)
{
    int rc = drain(g);

    sley_gen_destroy(g);
    return rc;
}

/* The next value, which there must be. */
static int value_of(sley_gen *g)
{
    int v = NOTHING;

    EXPECT(sley_gen_next(g, &v) == 1);
    return v;
}

static int begin_noting(void)
{
    track.n = 0;
    return 1;
}

/* ---- the tutorial ---- */

static int one_and_two(void *arg)
{
    int rc = give(1);

    return rc < 0 ? rc : give(2);
}

SCENARIO(a_simple_generator_falls_off_its_end)
{
    sley_gen *g = sley_gen_create(one_and_two, NULL, sizeof(int));

    EXPECT(value_of(g) == 1 && value_of(g) == 2 && sley_gen_next(g, NULL) == 0);
    sley_gen_destroy(g);
    begin_noting();
    EXPECT(drain_and_destroy(sley_gen_create(one_and_two, NULL, sizeof(int))) == 0 && NOTED_ARE(1, 2));
}

static int return_early(void *arg)
{
    int rc = give(1);

    if (rc >= 0)
        return 0;
    note(NEVER);
    return give(2);
}

SCENARIO(return_stops_it_for_good)
{
    sley_gen *g = sley_gen_create(return_early, NULL, sizeof(int));

    begin_noting();
    EXPECT(value_of(g) == 1 && sley_gen_next(g, NULL) == 0 && sley_gen_next(g, NULL) == 0 && NOTED_NOTHING);
    sley_gen_destroy(g);
}

/* It has decided to return, and yields once more while it cleans up. */
static int yield_on_the_way_out(void *arg)
{
    int result = 5, rc = give(1);

    return rc < 0 ? rc : result;
}

SCENARIO(a_body_may_yield_on_its_way_out)
{
    sley_gen *g = sley_gen_create(yield_on_the_way_out, NULL, sizeof(int));

    EXPECT(value_of(g) == 1 && sley_gen_next(g, NULL) == 0 && sley_gen_result(g) == 5);
    sley_gen_destroy(g);
}

static int numbers_below(void *arg)
{
    int n = (int)(intptr_t)arg, rc = 0;

    for (int i = 0; i < n && rc >= 0; i++)
        rc = give(i);
    return rc < 0 ? rc : 0;
}

static sley_gen *range(int n)
{
    return sley_gen_create(numbers_below, (void *)(intptr_t)n, sizeof(int));
}

static sley_gen *begin_a_range(void)
{
    sley_gen *g = range(5);

    note(GOT + value_of(g));
    return g;
}

SCENARIO(it_returns_to_whoever_has_resumed_it_last)
{
    begin_noting();
    EXPECT(drain_and_destroy(begin_a_range()) == 0 && NOTED_ARE(GOT + 0, 1, 2, 3, 4));
}

static int pass_numbers_on(void *arg)
{
    sley_gen *g = range((int)(intptr_t)arg);
    int rc, v, say = 0;

    while ((rc = sley_gen_next(g, &v)) > 0 && (say = give(v)) >= 0)
        ;
    sley_gen_destroy(g);
    return say < 0 ? say : rc;
}

SCENARIO(generators_use_other_generators)
{
    begin_noting();
    EXPECT(drain_and_destroy(sley_gen_create(pass_numbers_on, (void *)(intptr_t)5, sizeof(int))) == 0 && NOTED_ARE(0, 1, 2, 3, 4));
}

/* ---- PEP 255 ---- */

static int resume_oneself(void *arg)
{
    int v = 0;

    return sley_gen_next(*(sley_gen **)arg, &v);
}

SCENARIO(it_cannot_be_resumed_while_it_runs)
{
    sley_gen *g = sley_gen_create(resume_oneself, &g, sizeof(int));

    EXPECT(sley_gen_next(g, NULL) == -EALREADY && sley_gen_next(g, NULL) == 0);
    sley_gen_destroy(g);
}

static int divide(int by)
{
    return by == 0 ? -EDOM : 1 / by;
}

static int fail_at_once(void *arg)
{
    int rc = divide(0);

    if (rc < 0)
        return rc;
    note(NEVER);
    return give(42);
}

SCENARIO(an_error_inside_comes_out_and_ends_it)
{
    sley_gen *g = sley_gen_create(fail_at_once, NULL, sizeof(int));

    begin_noting();
    EXPECT(sley_gen_next(g, NULL) == -EDOM && sley_gen_next(g, NULL) == 0 && NOTED_NOTHING);
    sley_gen_destroy(g);
}

/* Errors handled at two levels, and yields in the handlers and in the clean-up. */
static int inner_part(void)
{
    int rc = give(2);

    if (rc >= 0 && (rc = divide(0)) >= 0)
        return give(3); /* never */
    if (rc == -EDOM) {
        if ((rc = give(4)) >= 0 && (rc = give(5)) >= 0)
            rc = -EDOM; /* on to the next handler */
        return rc;
    }
    rc = give(6);
    return rc < 0 ? rc : give(7);
}

static int handle_errors_in_two_levels(void *arg)
{
    int rc = give(1);

    if (rc >= 0)
        rc = inner_part();
    if (rc < 0 && rc != -ECANCELED)
        rc = give(8);
    if (rc >= 0)
        rc = give(9);
    if (rc >= 0)
        rc = give(10); /* the clean-up */
    return rc < 0 ? rc : give(11);
}

SCENARIO(errors_are_handled_and_passed_on_around_yields)
{
    begin_noting();
    EXPECT(drain_and_destroy(sley_gen_create(handle_errors_in_two_levels, NULL, sizeof(int))) == 0);
    EXPECT(NOTED_ARE(1, 2, 4, 5, 8, 9, 10, 11));
}

static int walk_recursively(void *arg)
{
    struct node *n = arg;
    int rc = 0, v;

    if (n == NULL)
        return 0;
    for (int side = 0; side < 2 && rc >= 0; side++) {
        sley_gen *g = sley_gen_create(walk_recursively, side == 0 ? n->left : n->right, sizeof(int));

        if (side == 1)
            rc = give(n->key);
        while (rc >= 0 && (rc = sley_gen_next(g, &v)) > 0)
            rc = give(v);
        sley_gen_destroy(g);
    }
    return rc;
}

static int walk_with_a_stack(void *arg)
{
    struct node *n = arg, *stack[16];
    int used = 0, rc = 0;

    while (rc >= 0 && (n != NULL || used > 0)) {
        for (; n != NULL; n = n->left)
            stack[used++] = n;
        n = stack[--used];
        rc = give(n->key);
        n = n->right;
    }
    return rc < 0 ? rc : 0;
}

SCENARIO(a_tree_is_walked_by_a_generator_a_node_and_by_one_with_a_stack)
{
    struct node nodes[26], *root = make_tree(nodes, 0, 26);
    sley_gen *a = sley_gen_create(walk_recursively, root, sizeof(int)), *b = sley_gen_create(walk_with_a_stack, root, sizeof(int));

    for (int i = 0; i < 26; i++)
        EXPECT(value_of(a) == i && value_of(b) == i);
    EXPECT(sley_gen_next(a, NULL) == 0 && sley_gen_next(b, NULL) == 0);
    sley_gen_destroy(a);
    sley_gen_destroy(b);
}

/* ---- from the lists ---- */

static int yield_nothing_four_times(void *arg)
{
    int rc = 0;

    for (int i = 0; i < 4 && rc >= 0; i++)
        rc = sley_gen_yield(NULL, NULL);
    return rc;
}

SCENARIO(yielding_nothing_is_not_returning)
{
    sley_gen *g = sley_gen_create(yield_nothing_four_times, NULL, sizeof(int));
    int v = NOTHING, n = 0;

    while (sley_gen_next(g, &v) > 0)
        n++;
    EXPECT(n == 4 && v == NOTHING);
    sley_gen_destroy(g);
}

/* All combinations of k of the numbers from `first` to `last`, as bits. */
struct choice {
    int first, last, k;
};

static int combine(void *arg)
{
    struct choice c = *(struct choice *)arg;
    int rc = 0, v;

    if (c.k > c.last - c.first + 1)
        return 0;
    if (c.k == 0)
        return give(0);
    for (int with = 1; with >= 0 && rc >= 0; with--) {
        struct choice rest = { c.first + 1, c.last, c.k - with };
        sley_gen *g = sley_gen_create_copy(combine, &rest, sizeof rest, sizeof v);

        while (rc >= 0 && (rc = sley_gen_next(g, &v)) > 0)
            rc = give(v | with << c.first);
        sley_gen_destroy(g);
    }
    return rc;
}

SCENARIO(combinations_come_in_order)
{
    static const struct { int n, bits[6]; } wanted[] = {
        { 1, { 0 } }, { 4, { 2, 4, 8, 16 } }, { 6, { 6, 10, 18, 12, 20, 24 } }, { 4, { 14, 22, 26, 28 } }, { 1, { 30 } }, { 0, { 0 } },
    };

    for (int k = 0; k <= 5; k++) {
        struct choice c = { 1, 4, k };

        begin_noting();
        EXPECT(drain_and_destroy(sley_gen_create_copy(combine, &c, sizeof c, sizeof(int))) == 0);
        EXPECT(noted(wanted[k].bits, wanted[k].n));
    }
}

static int look_whether_it_runs(void *arg)
{
    return give((int)sley_gen_state(*(sley_gen **)arg));
}

SCENARIO(it_says_whether_it_runs)
{
    sley_gen *g = sley_gen_create(look_whether_it_runs, &g, sizeof(int));

    EXPECT(sley_gen_state(g) != SLEY_GEN_RUNNING && value_of(g) == SLEY_GEN_RUNNING && sley_gen_state(g) != SLEY_GEN_RUNNING);
    sley_gen_destroy(g);
}

/* Sets that are united; each has a generator that gives its root, through the generators of those above it. */
struct set {
    struct set *parent;
    sley_gen *finds;
    int name;
};

static int find_for_ever(void *arg)
{
    struct set *s = arg;
    int rc = 0, v;

    while (s->parent == NULL && rc >= 0)
        rc = give(s->name);
    while (rc >= 0 && (rc = sley_gen_next(s->parent->finds, &v)) > 0)
        rc = give(v);
    return rc;
}

SCENARIO(sets_are_united_by_generators)
{
    enum { SETS = 13 };
    struct set sets[SETS];
    int root[SETS];
    uint64_t random = 42;

    for (int i = 0; i < SETS; i++) {
        sets[i] = (struct set){ NULL, sley_gen_create(find_for_ever, &sets[i], sizeof(int)), i };
        root[i] = i;
    }
    for (int left = SETS; left > 0; left--) {
        int from, to;

        for (int round = 0; round < 2; round++)
            for (int i = 0; i < SETS; i++)
                EXPECT(value_of(sets[i].finds) == root[i]);
        if (left == 1)
            break;
        do
            from = root[below(&random, SETS)], to = root[below(&random, SETS)];
        while (from == to);
        sets[from].parent = &sets[to];
        for (int i = 0; i < SETS; i++)
            if (root[i] == from)
                root[i] = to;
    }
    for (int i = 0; i < SETS; i++)
        sley_gen_destroy(sets[i].finds);
}

/* ---- for fun ---- */

static int numbers_from(void *arg)
{
    int rc = 0;

    for (int i = (int)(intptr_t)arg; rc >= 0; i++)
        rc = give(i);
    return rc;
}

struct filter {
    int n;
    sley_gen *of;
};

static int no_multiples(void *arg)
{
    struct filter *f = arg;
    int rc, v, say = 0;

    while ((rc = sley_gen_next(f->of, &v)) > 0)
        if (v % f->n != 0 && (say = give(v)) < 0)
            return say;
    return rc;
}

/* The first number is prime; then the primes among those that are no multiples of it. */
static int sieve(void *arg)
{
    struct filter f = { 0, *(sley_gen **)arg };
    sley_gen *rest, *primes;
    int rc = sley_gen_next(f.of, &f.n);

    if (rc <= 0 || (rc = give(f.n)) < 0)
        return rc;
    rest = sley_gen_create(no_multiples, &f, sizeof(int));
    primes = sley_gen_create(sieve, &rest, sizeof(int));
    rc = sley_gen_yield_from(primes);
    sley_gen_destroy(primes);
    sley_gen_destroy(rest);
    return rc;
}

SCENARIO(a_sieve_of_generators_finds_primes)
{
    static const int primes[] = { 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71 };
    sley_gen *numbers = sley_gen_create(numbers_from, (void *)2, sizeof(int)), *g = sley_gen_create(sieve, &numbers, sizeof(int));
    struct filter threes = { 3, NULL };

    for (size_t i = 0; i < sizeof primes / sizeof *primes; i++)
        EXPECT(value_of(g) == primes[i]);
    sley_gen_destroy(g);
    sley_gen_destroy(numbers);
    numbers = threes.of = sley_gen_create(numbers_from, (void *)1, sizeof(int));
    g = sley_gen_create(no_multiples, &threes, sizeof(int));
    EXPECT(value_of(g) == 1 && value_of(g) == 2 && value_of(g) == 4 && value_of(g) == 5 && value_of(g) == 7 && value_of(g) == 8);
    sley_gen_destroy(g);
    sley_gen_destroy(numbers);
}

/* A list that grows as it is asked for, by a generator that reads the list itself. */
struct lazy {
    int n, value[100];
    sley_gen *more;
};

static int lazy_at(struct lazy *l, int i)
{
    while (i >= l->n) {
        int v = value_of(l->more); /* it may have grown meanwhile */

        l->value[l->n++] = v;
    }
    return l->value[i];
}

struct reader { /* of a lazy list: times n */
    struct lazy *list;
    int n;
};

static int times(void *arg)
{
    struct reader *r = arg;
    int rc = 0;

    for (int i = 0; rc >= 0; i++)
        rc = give(r->n * lazy_at(r->list, i));
    return rc;
}

static int merge(void *arg)
{
    sley_gen **of = arg;
    int a = value_of(of[0]), b = value_of(of[1]), rc = 0;

    while (rc >= 0) {
        int least = a < b ? a : b;

        rc = give(least);
        if (a == least)
            a = value_of(of[0]);
        if (b == least)
            b = value_of(of[1]);
    }
    return rc;
}

static int hamming(void *arg)
{
    struct lazy *l = arg;
    struct reader r[] = { { l, 2 }, { l, 3 }, { l, 5 } };
    sley_gen *t[3], *first, *all, *pair[2];
    int rc = give(1);

    if (rc < 0)
        return rc;
    for (int i = 0; i < 3; i++)
        t[i] = sley_gen_create(times, &r[i], sizeof(int));
    first = sley_gen_create(merge, t, sizeof(int));
    pair[0] = first;
    pair[1] = t[2];
    all = sley_gen_create(merge, pair, sizeof(int));
    rc = sley_gen_yield_from(all);
    sley_gen_destroy(all);
    sley_gen_destroy(first);
    for (int i = 0; i < 3; i++)
        sley_gen_destroy(t[i]);
    return rc;
}

/* All 2^i 3^j 5^k in order, from a list that the generator itself reads. */
SCENARIO(a_generator_runs_after_its_own_tail)
{
    static const int wanted[] = { 1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 15, 16, 18, 20, 24, 25, 27, 30, 32, 36, 40, 45, 48, 50, 54, 60, 64, 72 };
    struct lazy l = { .n = 0 };

    l.more = sley_gen_create(hamming, &l, sizeof(int));
    for (int i = 0; i < (int)(sizeof wanted / sizeof *wanted); i++)
        EXPECT(lazy_at(&l, i) == wanted[i]);
    EXPECT(lazy_at(&l, 74) == 675);
    sley_gen_destroy(l.more);
}

static int fibonacci(void *arg)
{
    struct lazy *l = arg;
    int rc = give(1);

    if (rc >= 0)
        rc = give(2);
    for (int i = 0; rc >= 0; i++)
        rc = give(lazy_at(l, i) + lazy_at(l, i + 1));
    return rc;
}

SCENARIO(fibonacci_numbers_from_themselves)
{
    struct lazy l = { .n = 0 };
    int a = 1, b = 2;

    l.more = sley_gen_create(fibonacci, &l, sizeof(int));
    for (int i = 0; i < 17; i++) {
        int next = a + b;

        EXPECT(lazy_at(&l, i) == a);
        a = b;
        b = next;
    }
    EXPECT(lazy_at(&l, 16) == 2584);
    sley_gen_destroy(l.more);
}

/* ---- conjunction ---- */

/* `n` generators one inside the other: each value of one begins the next anew. The values of all are in `value` at each yield. */
struct conjunction {
    int n;
    sley_fn *make[100];  /* the body of each */
    void *context;       /* of all */
    int value[100];
};

static int conjoin_flat(void *arg)
{
    struct conjunction *c = arg;
    sley_gen *g[100];
    int i = 0, rc = 0;

    for (int k = 0; k < c->n; k++)
        g[k] = NULL;
    while (i >= 0 && rc >= 0) {
        if (i == c->n) {
            rc = sley_gen_yield(NULL, NULL);
            i--;
            continue;
        }
        if (g[i] == NULL)
            g[i] = sley_gen_create(c->make[i], c, sizeof(int));
        rc = sley_gen_next(g[i], &c->value[i]);
        if (rc > 0) {
            i++;
        } else {
            sley_gen_destroy(g[i]);
            g[i--] = NULL;
        }
    }
    for (int k = c->n - 1; k >= 0; k--)
        sley_gen_destroy(g[k]);
    return rc < 0 ? rc : 0;
}

struct conjoined { /* the same by recursion: a generator a level, and one for its values */
    struct conjunction *c;
    int from;
};

static int conjoin_from(void *arg)
{
    struct conjoined at = *(struct conjoined *)arg;
    sley_gen *g;
    int rc;

    if (at.from == at.c->n)
        return sley_gen_yield(NULL, NULL);
    g = sley_gen_create(at.c->make[at.from], at.c, sizeof(int));
    while ((rc = sley_gen_next(g, &at.c->value[at.from])) > 0) {
        struct conjoined rest = { at.c, at.from + 1 };
        sley_gen *inner = sley_gen_create_copy(conjoin_from, &rest, sizeof rest, sizeof(int));

        rc = sley_gen_yield_from(inner);
        sley_gen_destroy(inner);
        if (rc < 0)
            break;
    }
    sley_gen_destroy(g);
    return rc;
}

static sley_gen *conjoin(struct conjunction *c, int flat)
{
    struct conjoined whole = { c, 0 };

    return flat ? sley_gen_create(conjoin_flat, c, sizeof(int)) : sley_gen_create_copy(conjoin_from, &whole, sizeof whole, sizeof(int));
}

static int zero_and_one(void *arg)
{
    int rc = give(0);

    return rc < 0 ? rc : give(1);
}

SCENARIO(conjoined_generators_make_all_combinations)
{
    for (int flat = 0; flat < 2; flat++) {
        for (int n = 0; n < (flat ? 10 : 7); n++) {
            struct conjunction c = { .n = n };
            sley_gen *g;
            int count = 0;

            for (int i = 0; i < n; i++)
                c.make[i] = zero_and_one;
            g = conjoin(&c, flat);
            while (sley_gen_next(g, NULL) > 0) {
                for (int i = 0; i < n; i++)
                    EXPECT(c.value[i] == (count >> (n - 1 - i) & 1));
                count++;
            }
            EXPECT(count == 1 << n);
            sley_gen_destroy(g);
        }
    }
}

struct queens {
    uint64_t used;
    int n, row;
};

/* The columns that are free in the next row; taken while it is suspended. */
static int free_columns(void *arg)
{
    struct conjunction *c = arg;
    struct queens *q = c->context;
    int row = q->row++, n = q->n, rc = 0;

    for (int column = 0; column < n && rc >= 0; column++) {
        uint64_t uses = UINT64_C(1) << column | UINT64_C(1) << (n + row - column + n - 1) | UINT64_C(1) << (3 * n - 1 + row + column);

        if (q->used & uses)
            continue;
        q->used |= uses;
        rc = give(column);
        q->used &= ~uses;
    }
    q->row--;
    return rc < 0 ? rc : 0;
}

SCENARIO(eight_queens_have_92_solutions)
{
    static const int first[] = { 0, 4, 7, 5, 2, 6, 1, 3 }, second[] = { 0, 5, 7, 2, 6, 3, 1, 4 };
    struct queens q = { .n = 8 };
    struct conjunction c = { .n = 8, .context = &q };
    sley_gen *g;
    int count = 0;

    for (int i = 0; i < 8; i++)
        c.make[i] = free_columns;
    g = conjoin(&c, 1);
    while (sley_gen_next(g, NULL) > 0) {
        count++;
        if (count <= 2)
            EXPECT(memcmp(c.value, count == 1 ? first : second, sizeof first) == 0);
    }
    EXPECT(count == 92 && q.used == 0);
    sley_gen_destroy(g);
}

/* A closed tour of a knight over the board, by the same means: each move is a generator of the squares that it can go to. */
struct knight {
    int n, moves, last, final;
    int n_succ[100], succ[100][8];
};

static int take_square(struct knight *k, int square) /* 0: a square near it cannot be left any more */
{
    int none = 0, one = 0;

    for (int i = 0; i < k->n_succ[square]; i++) {
        int s = k->succ[square][i], j = 0;

        while (k->succ[s][j] != square)
            j++;
        memmove(&k->succ[s][j], &k->succ[s][j + 1], (size_t)(--k->n_succ[s] - j) * sizeof(int));
        none += k->n_succ[s] == 0;
        one += k->n_succ[s] == 1;
    }
    return none == 0 && one < 2;
}

static void give_square_back(struct knight *k, int square)
{
    for (int i = 0; i < k->n_succ[square]; i++) {
        int s = k->succ[square][i];

        k->succ[s][k->n_succ[s]++] = square;
    }
}

static int first_square(void *arg)
{
    struct knight *k = ((struct conjunction *)arg)->context;
    int rc;

    take_square(k, 0);
    k->last = 0;
    rc = give(0);
    give_square_back(k, 0);
    return rc;
}

static int second_square(void *arg)
{
    struct knight *k = ((struct conjunction *)arg)->context;
    int rc = 0;

    for (int i = 0; i < 2 && rc >= 0; i++) {
        int here = i == 0 ? k->n + 2 : 2 * k->n + 1, final = i == 0 ? 2 * k->n + 1 : k->n + 2;

        k->final = final;
        take_square(k, here);
        k->succ[final][k->n_succ[final]++] = 0;
        k->last = here;
        rc = give(here);
        k->n_succ[final]--;
        give_square_back(k, here);
    }
    return rc < 0 ? rc : 0;
}

static int next_square(void *arg)
{
    struct knight *k = ((struct conjunction *)arg)->context;
    int n = 0, rc = 0, candidate[8], from = k->last;

    for (int i = 0; i < k->n_succ[from]; i++) { /* those that have the fewest ways on come first */
        int s = k->succ[from][i], at = n;

        if (k->n_succ[s] == 1) {
            candidate[0] = s;
            n = 1;
            break;
        }
        while (at > 0 && (k->n_succ[candidate[at - 1]] > k->n_succ[s] ||
                          (k->n_succ[candidate[at - 1]] == k->n_succ[s] && candidate[at - 1] > s))) {
            candidate[at] = candidate[at - 1];
            at--;
        }
        candidate[at] = s;
        n++;
    }
    for (int i = 0; i < n && rc >= 0; i++) {
        int s = candidate[i];

        if (s == k->final)
            continue;
        if (take_square(k, s)) {
            k->last = s;
            rc = give(s);
        }
        give_square_back(k, s);
    }
    return rc < 0 ? rc : 0;
}

static int last_square(void *arg)
{
    struct knight *k = ((struct conjunction *)arg)->context;

    return give(k->final);
}

SCENARIO(a_knight_tours_the_board)
{
    static const int step[8][2] = { { 1, 2 }, { 2, 1 }, { 2, -1 }, { 1, -2 }, { -1, -2 }, { -2, -1 }, { -2, 1 }, { -1, 2 } };
    struct knight *k = calloc(1, sizeof *k);
    struct conjunction *c = calloc(1, sizeof *c);
    sley_gen *g;

    k->n = 10;
    c->n = 100;
    c->context = k;
    for (int s = 0; s < 100; s++) {
        for (int i = 0; i < 8; i++) {
            int y = s / 10 + step[i][0], x = s % 10 + step[i][1];

            if (y >= 0 && y < 10 && x >= 0 && x < 10)
                k->succ[s][k->n_succ[s]++] = 10 * y + x;
        }
        c->make[s] = s == 0 ? first_square : s == 1 ? second_square : s == 99 ? last_square : next_square;
    }
    g = conjoin(c, 1);
    for (int round = 0; round < 2; round++) {
        char seen[100] = "";

        EXPECT(sley_gen_next(g, NULL) == 1 && c->value[0] == 0);
        for (int i = 0; i < 100; i++) {
            int a = c->value[i], b = c->value[(i + 1) % 100], dy = abs(a / 10 - b / 10), dx = abs(a % 10 - b % 10);

            EXPECT(dx * dy == 2 && !seen[a]);
            seen[a] = 1;
        }
    }
    sley_gen_destroy(g); /* a hundred of them are suspended inside it */
    for (int s = 0; s < 100; s++) /* each has put back what it had taken */
        EXPECT(k->n_succ[s] >= 2);
    free(k);
    free(c);
}

/* ---- coroutines: send, throw, close ---- */

static int note_what_comes_in(void *arg)
{
    int in, rc = give_and_take(1, &in);

    note(rc == 1 ? GOT + in : rc);
    return rc < 0 ? rc : give(2);
}

SCENARIO(a_value_is_sent_into_one_that_has_begun)
{
    sley_gen *g = sley_gen_create(note_what_comes_in, NULL, sizeof(int));
    int v = NOTHING;

    begin_noting();
    EXPECT(value_of(g) == 1 && sley_gen_send(g, &(int){ 42 }, &v) == 1 && v == 2 && NOTED_ARE(GOT + 42));
    sley_gen_destroy(g);
}

static int sum_up(void *arg)
{
    int count = 0, in, rc = 0;

    while (count < 200 && (rc = sley_gen_yield(NULL, &in)) > 0)
        note(count += in);
    return rc < 0 ? rc : 0;
}

SCENARIO(what_is_sent_is_summed_up)
{
    sley_gen *g = sley_gen_create(sum_up, NULL, sizeof(int));

    begin_noting();
    EXPECT(sley_gen_next(g, NULL) == 1 && NOTED_NOTHING);
    for (int i = 0; i < 3; i++)
        EXPECT(sley_gen_send(g, &(int){ 10 }, NULL) == 1);
    EXPECT(NOTED_ARE(10, 20, 30));
    EXPECT(sley_gen_send(g, &(int){ 170 }, NULL) == 0 && NOTED_ARE(200));
    sley_gen_destroy(g);
}

/* Catches one error, for ever; any other ends it. */
static int catch_one_error(void *arg)
{
    int in, rc;

    for (;;) {
        rc = sley_gen_yield(NULL, &in);
        if (rc == -EDOM)
            note(FAILED + EDOM);
        else if (rc < 0)
            return rc;
        else
            note(GOT + (rc == 1 ? in : 0));
    }
}

SCENARIO(an_error_is_caught_again_and_again_and_another_ends_it)
{
    sley_gen *g = sley_gen_create(catch_one_error, NULL, sizeof(int));

    begin_noting();
    EXPECT(sley_gen_next(g, NULL) == 1);
    for (int i = 0; i < 5; i++)
        EXPECT(sley_gen_throw(g, -EDOM, NULL) == 1 && NOTED_ARE(FAILED + EDOM));
    EXPECT(sley_gen_throw(g, 0, NULL) == -EINVAL && sley_gen_throw(g, 7, NULL) == -EINVAL && NOTED_NOTHING); /* no errors */
    EXPECT(sley_gen_send(g, &(int){ 1 }, NULL) == 1 && NOTED_ARE(GOT + 1));
    EXPECT(sley_gen_throw(g, -ENOTTY, NULL) == -ENOTTY && sley_gen_state(g) == SLEY_GEN_CLOSED);
    EXPECT(sley_gen_send(g, &(int){ 2 }, NULL) == 0);
    EXPECT(sley_gen_throw(g, -EDOM, NULL) == -EDOM); /* one that has ended catches nothing */
    sley_gen_destroy(g);
    g = sley_gen_create(catch_one_error, NULL, sizeof(int));
    EXPECT(sley_gen_throw(g, -EDOM, NULL) == -EDOM && NOTED_NOTHING); /* one that has just been made neither */
    sley_gen_destroy(g);
}

static int replace_the_error(void *arg)
{
    int rc = give(1);

    return rc < 0 ? -ENOTTY : 0;
}

SCENARIO(throw_after_none_exc_type)
{
    sley_gen *g = sley_gen_create(replace_the_error, NULL, sizeof(int));

    EXPECT(value_of(g) == 1 && sley_gen_throw(g, -EDOM, NULL) == -ENOTTY && sley_gen_result(g) == -ENOTTY);
    sley_gen_destroy(g);
}

/* Kept over two more yields, and returned in the end. */
static int keep_the_error(void *arg)
{
    int error = sley_gen_yield(NULL, NULL), rc;

    rc = sley_gen_yield(NULL, NULL);
    if (rc >= 0)
        rc = sley_gen_yield(NULL, NULL);
    return rc < 0 ? rc : error;
}

SCENARIO(except_throw)
{
    sley_gen *g = sley_gen_create(keep_the_error, NULL, sizeof(int));

    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_throw(g, -EDOM, NULL) == 1 && sley_gen_next(g, NULL) == 1);
    EXPECT(sley_gen_next(g, NULL) == -EDOM && sley_gen_next(g, NULL) == 0);
    sley_gen_destroy(g);
}

static int note_its_clean_up(void *arg)
{
    int rc = sley_gen_yield(NULL, NULL);

    note(rc == -ECANCELED ? OUTER_CLEANS_UP : NEVER);
    return rc;
}

SCENARIO(closing_cleans_up_once_and_closing_again_does_nothing)
{
    sley_gen *g = sley_gen_create(note_its_clean_up, NULL, sizeof(int));

    begin_noting();
    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_close(g) == 0 && NOTED_ARE(OUTER_CLEANS_UP));
    EXPECT(sley_gen_close(g) == 0 && NOTED_NOTHING);
    sley_gen_destroy(g);
    g = sley_gen_create(note_its_clean_up, NULL, sizeof(int));
    EXPECT(sley_gen_close(g) == 0 && NOTED_NOTHING); /* just made */
    sley_gen_destroy(g);
    g = sley_gen_create(note_its_clean_up, NULL, sizeof(int)); /* forgotten: the end of it closes it */
    EXPECT(sley_gen_next(g, NULL) == 1);
    sley_gen_destroy(g);
    EXPECT(NOTED_ARE(OUTER_CLEANS_UP));
}

/* Being closed is no error like others: a handler of those lets it pass. */
static int handle_errors_but_not_the_end(void *arg)
{
    int rc = sley_gen_yield(NULL, NULL);

    if (rc < 0 && rc != -ECANCELED)
        note(NEVER);
    note(OUTER_CLEANS_UP);
    return rc;
}

SCENARIO(a_handler_of_errors_does_not_catch_the_close)
{
    sley_gen *g = sley_gen_create(handle_errors_but_not_the_end, NULL, sizeof(int));

    begin_noting();
    EXPECT(sley_gen_next(g, NULL) == 1);
    sley_gen_destroy(g);
    EXPECT(NOTED_ARE(OUTER_CLEANS_UP));
}

static int ignore_the_first_close(void *arg)
{
    int rc = sley_gen_yield(NULL, NULL);

    return rc == -ECANCELED ? sley_gen_yield(NULL, NULL) : rc;
}

SCENARIO(an_ill_behaved_one_is_told_apart_and_can_be_closed_then)
{
    sley_gen *g = sley_gen_create(ignore_the_first_close, NULL, sizeof(int));

    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_close(g) == -EPROTO && sley_gen_close(g) == 0);
    sley_gen_destroy(g);
}

static int fail_when_closed(void *arg)
{
    int rc = sley_gen_yield(NULL, NULL);

    return rc == -ECANCELED ? -ENOTTY : rc;
}

SCENARIO(an_error_thrown_while_closing_comes_out)
{
    sley_gen *g = sley_gen_create(fail_when_closed, NULL, sizeof(int));

    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_close(g) == -ENOTTY && sley_gen_close(g) == 0);
    sley_gen_destroy(g);
}

static int give_one_take_result(void *arg)
{
    int in, rc = give_and_take(1, &in);

    return rc == 1 ? in : rc;
}

static int delegate_to_give_one(void *arg)
{
    sley_gen *g = sley_gen_create(give_one_take_result, NULL, sizeof(int));
    int rc = sley_gen_yield_from(g);

    sley_gen_destroy(g);
    return rc;
}

/* lambda_generator, return_tuple, return_stopiteration: what is sent is the result, straight or through another one. */
SCENARIO(what_is_sent_comes_back_as_the_result)
{
    sley_fn *bodies[] = { give_one_take_result, delegate_to_give_one };

    for (int i = 0; i < 2; i++) {
        sley_gen *g = sley_gen_create(bodies[i], NULL, sizeof(int));

        EXPECT(value_of(g) == 1 && sley_gen_send(g, &(int){ 2 }, NULL) == 0 && sley_gen_result(g) == 2);
        sley_gen_destroy(g);
    }
}

/* refcycle: it is sent itself, and keeps that; the end of its scope closes it all the same. */
static int keep_what_is_sent(void *arg)
{
    sley_gen *in = NULL;
    int rc = sley_gen_yield(NULL, &in);

    if (rc == 1)
        rc = sley_gen_yield(&in, NULL);
    note(rc == -ECANCELED ? OUTER_CLEANS_UP : NEVER);
    EXPECT(in == arg || arg == NULL);
    return rc;
}

static int keep_itself(void *arg)
{
    sley_gen *g = sley_gen_create(keep_what_is_sent, NULL, sizeof(sley_gen *)), *out = NULL;

    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_send(g, &g, &out) == 1 && out == g);
    *(sley_gen **)arg = g;
    return 0;
}

SCENARIO(one_that_holds_itself_is_closed_all_the_same)
{
    sley_gen *g;

    begin_noting();
    EXPECT(sley_scope_run(keep_itself, &g, SLEY_FOREVER) == 0 && NOTED_ARE(OUTER_CLEANS_UP));
    sley_gen_destroy(g);
}

/* refleaks: it yields itself for ever. */
static int yield_itself(void *arg)
{
    int rc;

    while ((rc = sley_gen_yield(arg, NULL)) >= 0)
        ;
    note(OUTER_CLEANS_UP);
    return rc;
}

static int begin_one_that_yields_itself(void *arg)
{
    sley_gen **g = arg, *out = NULL;

    *g = sley_gen_create(yield_itself, g, sizeof(sley_gen *));
    EXPECT(sley_gen_next(*g, &out) == 1 && out == *g);
    return 0;
}

SCENARIO(one_that_yields_itself_is_closed_with_its_scope)
{
    sley_gen *g;

    begin_noting();
    EXPECT(sley_scope_run(begin_one_that_yields_itself, &g, SLEY_FOREVER) == 0 && NOTED_ARE(OUTER_CLEANS_UP));
    sley_gen_destroy(g);
}

/* ---- yield from ---- */

/* Two levels: the outer one yields `before`, delegates, yields `after`. */
struct pair {
    int before, after;      /* 0: nothing */
    sley_fn *inner;
    void *inner_arg;
    int result;             /* of the inner one */
    int cleans_up;          /* the outer one notes its end however it ends */
    sley_gen *self, *other;
};

static int outer_body(void *arg)
{
    struct pair *p = arg;
    int rc = 0, in;

    note(OUTER_BEGINS);
    if (p->before) {
        rc = give_and_take(p->before, &in);
        if (rc == 1)
            note(GOT + in);
    }
    if (rc >= 0) {
        sley_gen *g = sley_gen_create(p->inner, p->inner_arg, sizeof(int));

        rc = p->result = sley_gen_yield_from(g);
        sley_gen_destroy(g);
    }
    if (rc >= 0 && p->after) {
        rc = give_and_take(p->after, &in);
        if (rc == 1)
            note(GOT + in);
    }
    if (rc >= 0 || p->cleans_up)
        note(rc >= 0 ? OUTER_ENDS : OUTER_CLEANS_UP);
    return rc < 0 ? rc : 0;
}

static sley_gen *make_pair(struct pair *p, sley_fn *inner, int before, int after)
{
    *p = (struct pair){ .before = before, .after = after, .inner = inner, .cleans_up = 1 };
    begin_noting();
    return p->self = sley_gen_create(outer_body, p, sizeof(int));
}

static int inner_21(void *arg)
{
    int rc;

    note(INNER_BEGINS);
    rc = give(21);
    note(rc >= 0 ? INNER_ENDS : INNER_CLEANS_UP);
    return rc;
}

SCENARIO(delegation_of_initial_next_to_subgenerator)
{
    struct pair p;

    EXPECT(drain_and_destroy(make_pair(&p, inner_21, 0, 0)) == 0);
    EXPECT(NOTED_ARE(OUTER_BEGINS, INNER_BEGINS, 21, INNER_ENDS, OUTER_ENDS));
}

static int inner_fails(void *arg)
{
    note(INNER_BEGINS);
    note(INNER_CLEANS_UP);
    return -EDOM;
}

SCENARIO(raising_exception_in_initial_next_call)
{
    struct pair p;

    EXPECT(drain_and_destroy(make_pair(&p, inner_fails, 0, 0)) == -EDOM && p.result == -EDOM);
    EXPECT(NOTED_ARE(OUTER_BEGINS, INNER_BEGINS, INNER_CLEANS_UP, OUTER_CLEANS_UP));
}

static int inner_21_22(void *arg)
{
    int rc, in;

    note(INNER_BEGINS);
    for (int v = 21; v <= 22; v++) {
        rc = give_and_take(v, &in);
        if (rc == 1)
            note(INNER_GOT + in);
        if (rc < 0) {
            note(INNER_CLEANS_UP);
            return rc;
        }
    }
    note(INNER_ENDS);
    return (int)(intptr_t)arg;
}

SCENARIO(delegation_of_next_call_to_subgenerator)
{
    struct pair p;

    EXPECT(drain_and_destroy(make_pair(&p, inner_21_22, 11, 12)) == 0);
    EXPECT(NOTED_ARE(OUTER_BEGINS, 11, INNER_BEGINS, 21, 22, INNER_ENDS, 12, OUTER_ENDS));
}

static int inner_21_and_fails(void *arg)
{
    int rc, in;

    note(INNER_BEGINS);
    rc = give_and_take(21, &in);
    if (rc == 1)
        note(INNER_GOT + in);
    note(INNER_CLEANS_UP);
    return rc < 0 ? rc : -EDOM;
}

SCENARIO(raising_exception_in_delegated_next_call)
{
    struct pair p;

    EXPECT(drain_and_destroy(make_pair(&p, inner_21_and_fails, 11, 12)) == -EDOM);
    EXPECT(NOTED_ARE(OUTER_BEGINS, 11, INNER_BEGINS, 21, INNER_CLEANS_UP, OUTER_CLEANS_UP));
}

/* The first value by next, then 1, 2, 3, ... are sent until it ends. */
static int send_numbers(sley_gen *g)
{
    int v, rc;

    EXPECT(sley_gen_next(g, &v) == 1);
    for (int i = 1; (rc = sley_gen_send(g, &i, &v)) > 0; i++)
        note(v);
    return rc;
}

SCENARIO(delegation_of_send)
{
    struct pair p;
    sley_gen *g = make_pair(&p, inner_21_22, 11, 12);

    EXPECT(send_numbers(g) == 0);
    EXPECT(NOTED_ARE(OUTER_BEGINS, GOT + 1, INNER_BEGINS, 21, INNER_GOT + 2, 22, INNER_GOT + 3, INNER_ENDS, 12, GOT + 4, OUTER_ENDS));
    sley_gen_destroy(g);
}

SCENARIO(handling_exception_while_delegating_send)
{
    struct pair p;
    sley_gen *g = make_pair(&p, inner_21_and_fails, 11, 12);

    EXPECT(send_numbers(g) == -EDOM);
    EXPECT(NOTED_ARE(OUTER_BEGINS, GOT + 1, INNER_BEGINS, 21, INNER_GOT + 2, INNER_CLEANS_UP, OUTER_CLEANS_UP));
    sley_gen_destroy(g);
}

SCENARIO(delegating_close)
{
    struct pair p;
    sley_gen *g = make_pair(&p, inner_21_22, 11, 12);

    note(value_of(g));
    note(value_of(g));
    EXPECT(sley_gen_close(g) == 0 && NOTED_ARE(OUTER_BEGINS, 11, INNER_BEGINS, 21, INNER_CLEANS_UP, OUTER_CLEANS_UP));
    sley_gen_destroy(g);
}

static int inner_21_and_fails_when_closed(void *arg)
{
    int rc = inner_21_22(arg);

    return rc < 0 ? -EBADMSG : rc;
}

SCENARIO(handing_exception_while_delegating_close)
{
    struct pair p;
    sley_gen *g = make_pair(&p, inner_21_and_fails_when_closed, 11, 12);

    note(value_of(g));
    note(value_of(g));
    EXPECT(sley_gen_close(g) == -EBADMSG && p.result == -EBADMSG);
    EXPECT(NOTED_ARE(OUTER_BEGINS, 11, INNER_BEGINS, 21, INNER_CLEANS_UP, OUTER_CLEANS_UP));
    sley_gen_destroy(g);
}

SCENARIO(delegating_throw)
{
    struct pair p;
    sley_gen *g = make_pair(&p, inner_21_22, 11, 12);

    note(value_of(g));
    note(value_of(g));
    EXPECT(sley_gen_throw(g, -EBADMSG, NULL) == -EBADMSG && p.result == -EBADMSG);
    EXPECT(NOTED_ARE(OUTER_BEGINS, 11, INNER_BEGINS, 21, INNER_CLEANS_UP, OUTER_CLEANS_UP));
    sley_gen_destroy(g);
}

static int delegate_with_results(void *arg)
{
    static const int results[] = { 0, 1, 77, INT_MAX };
    int rc = give(11);

    for (int i = 0; i < 4 && rc >= 0; i++) {
        sley_gen *g = sley_gen_create(inner_21_22, (void *)(intptr_t)results[i], sizeof(int));

        rc = sley_gen_yield_from(g);
        sley_gen_destroy(g);
        if (rc >= 0)
            note(rc == results[i] ? RETURNED + i : NEVER);
    }
    return rc < 0 ? rc : give(12);
}

SCENARIO(generator_return_value)
{
    begin_noting();
    EXPECT(drain_and_destroy(sley_gen_create(delegate_with_results, NULL, sizeof(int))) == 0);
    EXPECT(NOTED_ARE(11, INNER_BEGINS, 21, 22, INNER_ENDS, RETURNED, INNER_BEGINS, 21, 22, INNER_ENDS, RETURNED + 1,
                     INNER_BEGINS, 21, 22, INNER_ENDS, RETURNED + 2, INNER_BEGINS, 21, 22, INNER_ENDS, RETURNED + 3, 12));
}

static const int three[] = { 0, 1, 2 };

static int delegate_to_an_array(void *arg)
{
    sley_gen *g = sley_gen_from_array(three, 3, sizeof(int));
    int rc = sley_gen_yield_from(g);

    sley_gen_destroy(g);
    note(rc >= 0 ? OUTER_ENDS : OUTER_CLEANS_UP);
    return rc;
}

SCENARIO(delegation_to_what_is_no_generator)
{
    sley_gen *g;
    int v;

    begin_noting();
    EXPECT(drain_and_destroy(sley_gen_create(delegate_to_an_array, NULL, sizeof(int))) == 0 && NOTED_ARE(0, 1, 2, OUTER_ENDS));
    g = sley_gen_create(delegate_to_an_array, NULL, sizeof(int)); /* sending nothing is next */
    for (int i = 0; i < 3; i++)
        EXPECT(sley_gen_send(g, NULL, &v) == 1 && v == i);
    EXPECT(sley_gen_send(g, NULL, &v) == 0 && NOTED_ARE(OUTER_ENDS));
    sley_gen_destroy(g);
    g = sley_gen_create(delegate_to_an_array, NULL, sizeof(int));
    EXPECT(value_of(g) == 0 && sley_gen_close(g) == 0 && NOTED_ARE(OUTER_CLEANS_UP));
    sley_gen_destroy(g);
    g = sley_gen_create(delegate_to_an_array, NULL, sizeof(int));
    EXPECT(value_of(g) == 0 && value_of(g) == 1 && sley_gen_throw(g, -EDOM, NULL) == -EDOM && NOTED_ARE(OUTER_CLEANS_UP));
    sley_gen_destroy(g);
    g = sley_gen_create(delegate_to_an_array, NULL, sizeof(int)); /* Python's cannot be sent to; what is sent here is dropped */
    EXPECT(value_of(g) == 0 && sley_gen_send(g, &(int){ 42 }, &v) == 1 && v == 1);
    sley_gen_destroy(g);
}

static int delegate_to_one_in_a_loop(void *arg)
{
    struct pair *p = arg;
    int rc;

    note(INNER_BEGINS);
    rc = give(21);
    if (rc >= 0)
        rc = sley_gen_yield_from(p->self);
    note(INNER_CLEANS_UP);
    return rc;
}

SCENARIO(attempted_yield_from_loop)
{
    struct pair p;
    sley_gen *g = make_pair(&p, delegate_to_one_in_a_loop, 11, 0);

    p.inner_arg = &p;
    EXPECT(drain(g) == -EALREADY && NOTED_ARE(OUTER_BEGINS, 11, INNER_BEGINS, 21, INNER_CLEANS_UP, OUTER_CLEANS_UP));
    sley_gen_destroy(g);
}

static int catch_and_give_more(void *arg)
{
    int rc;

    note(INNER_BEGINS);
    rc = give(21);
    if (rc >= 0)
        rc = give(22);
    if (rc == -EDOM) {
        note(INNER_CATCHES);
        rc = give(23);
        if (rc >= 0)
            rc = give(24);
    }
    return rc;
}

SCENARIO(returning_value_from_delegated_throw)
{
    struct pair p;
    sley_gen *g = make_pair(&p, catch_and_give_more, 11, 12);
    int v = NOTHING;

    note(value_of(g));
    note(value_of(g));
    EXPECT(sley_gen_throw(g, -EDOM, &v) == 1 && v == 23);
    EXPECT(drain(g) == 0 && NOTED_ARE(OUTER_BEGINS, 11, INNER_BEGINS, 21, INNER_CATCHES, 24, 12, OUTER_ENDS));
    sley_gen_destroy(g);
}

static int return_the_argument(void *arg)
{
    int in, rc = give_and_take(1, &in);

    if (rc == 1)
        note(GOT + in);
    return rc < 0 ? rc : (int)(intptr_t)arg;
}

SCENARIO(next_or_send_and_return_with_value)
{
    for (int sends = 0; sends < 2; sends++) {
        for (int result = 0; result < 4; result++) {
            sley_gen *g = sley_gen_create(return_the_argument, (void *)(intptr_t)result, sizeof(int));

            begin_noting();
            EXPECT(value_of(g) == 1 && (sends ? sley_gen_send(g, &(int){ 5 }, NULL) : sley_gen_next(g, NULL)) == 0);
            EXPECT(sley_gen_result(g) == result && (sends ? NOTED_ARE(GOT + 5) : NOTED_NOTHING));
            sley_gen_destroy(g);
        }
    }
}

static int catch_and_return(void *arg)
{
    int rc = give(1);

    if (rc == -EDOM)
        note(INNER_CATCHES);
    return rc == -ECANCELED ? rc : 2;
}

static int give_the_result(void *arg)
{
    sley_gen *g = sley_gen_create(catch_and_return, NULL, sizeof(int));
    int rc = sley_gen_yield_from(g);

    sley_gen_destroy(g);
    return rc < 0 ? rc : give(rc);
}

SCENARIO(catching_exception_from_subgen_and_returning)
{
    sley_gen *g = sley_gen_create(give_the_result, NULL, sizeof(int));
    int v = NOTHING;

    begin_noting();
    EXPECT(value_of(g) == 1 && sley_gen_throw(g, -EDOM, &v) == 1 && v == 2 && NOTED_ARE(INNER_CATCHES));
    sley_gen_destroy(g);
}

/* raise_and_yield_from: the innermost one catches it, and its result is that of all. */
static int delegate_once_more(void *arg)
{
    sley_gen *g = sley_gen_create(catch_and_return, NULL, sizeof(int));
    int rc = sley_gen_yield_from(g);

    sley_gen_destroy(g);
    return rc;
}

SCENARIO(an_error_goes_to_the_innermost_of_a_chain)
{
    sley_gen *g = sley_gen_create(delegate_once_more, NULL, sizeof(int));

    begin_noting();
    EXPECT(value_of(g) == 1 && sley_gen_throw(g, -EDOM, NULL) == 0 && sley_gen_result(g) == 2 && NOTED_ARE(INNER_CATCHES));
    sley_gen_destroy(g);
}

static int return_when_closed(void *arg)
{
    int rc;

    note(INNER_BEGINS);
    rc = sley_gen_yield(NULL, NULL);
    return rc == -ECANCELED ? 0 : give(NEVER);
}

static int yield_when_closed(void *arg)
{
    int rc;

    note(INNER_BEGINS);
    rc = sley_gen_yield(NULL, NULL);
    return rc == -ECANCELED ? sley_gen_yield(NULL, NULL) : rc;
}

static int fail_otherwise_when_closed(void *arg)
{
    int rc;

    note(INNER_BEGINS);
    rc = sley_gen_yield(NULL, NULL);
    return rc == -ECANCELED ? -EBADMSG : rc;
}

/* Throwing what closing says: the inner one is closed, whatever it makes of it, and then the outer one is told. */
SCENARIO(throwing_the_close_into_a_subgenerator)
{
    static const struct { sley_fn *inner; int says; } cases[] = {
        { return_when_closed, -ECANCELED }, { yield_when_closed, -EPROTO }, { fail_otherwise_when_closed, -EBADMSG },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pair p;
        sley_gen *g = make_pair(&p, cases[i].inner, 0, 0);

        EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_throw(g, -ECANCELED, NULL) == cases[i].says && p.result == cases[i].says);
        EXPECT(NOTED_ARE(OUTER_BEGINS, INNER_BEGINS, OUTER_CLEANS_UP));
        sley_gen_destroy(g);
    }
}

static int delegate_to_nothing(void *arg)
{
    sley_gen *g = sley_gen_from_array(NULL, 0, sizeof(int));
    int rc = sley_gen_yield_from(g);

    sley_gen_destroy(g);
    return rc;
}

SCENARIO(yield_from_empty)
{
    sley_gen *g = sley_gen_create(delegate_to_nothing, NULL, sizeof(int));

    EXPECT(sley_gen_next(g, NULL) == 0 && sley_gen_result(g) == 0);
    sley_gen_destroy(g);
}

/* 0, then the inner one: 1, an attempt to delegate to the outer one, 2; then 3. Errors that are thrown in are dropped. */
static int go_on_over_errors(int rc)
{
    return rc == -EDOM ? 0 : rc;
}

static int in_the_middle(void *arg)
{
    struct pair *p = arg;
    int rc = go_on_over_errors(give(1));

    if (rc >= 0) {
        EXPECT(sley_gen_state(p->self) == SLEY_GEN_RUNNING && sley_gen_yield_from(p->self) == -EALREADY);
        rc = go_on_over_errors(give(2));
    }
    return rc;
}

static int around_the_middle(void *arg)
{
    sley_gen *g;
    int rc = go_on_over_errors(give(0));

    if (rc < 0)
        return rc;
    g = sley_gen_create(in_the_middle, arg, sizeof(int));
    rc = sley_gen_yield_from(g);
    sley_gen_destroy(g);
    return rc < 0 ? rc : go_on_over_errors(give(3));
}

static int look_at_the_outer_when_closed(void *arg)
{
    struct pair *p = arg;
    int rc = give(42);

    EXPECT(rc == -ECANCELED && sley_gen_state(p->self) == SLEY_GEN_RUNNING && sley_gen_next(p->self, NULL) == -EALREADY);
    note(INNER_CLEANS_UP);
    return rc;
}

SCENARIO(delegating_generators_claim_to_be_running)
{
    for (int how = 0; how < 3; how++) {
        struct pair p = { .before = 0 };
        int v, rc;

        p.self = sley_gen_create(around_the_middle, &p, sizeof(int));
        begin_noting();
        note(value_of(p.self));
        do {
            rc = how == 0   ? sley_gen_next(p.self, &v)
                 : how == 1 ? sley_gen_send(p.self, &(int){ 42 }, &v)
                            : sley_gen_throw(p.self, -EDOM, &v);
            if (rc > 0)
                note(v);
        } while (rc > 0);
        EXPECT(rc == 0 && NOTED_ARE(0, 1, 2, 3));
        sley_gen_destroy(p.self);
    }
}

SCENARIO(one_that_delegates_runs_while_the_inner_one_is_closed)
{
    struct pair p;
    sley_gen *g = make_pair(&p, look_at_the_outer_when_closed, 0, 0);

    p.inner_arg = &p;
    EXPECT(value_of(g) == 42 && sley_gen_close(g) == 0 && NOTED_ARE(OUTER_BEGINS, INNER_CLEANS_UP, OUTER_CLEANS_UP));
    sley_gen_destroy(g);
}

static int end_at_once(void *arg)
{
    return 42;
}

SCENARIO(custom_iterator_return)
{
    struct pair p;

    EXPECT(drain_and_destroy(make_pair(&p, end_at_once, 0, 0)) == 0 && p.result == 42);
}

/* close_with_cleared_frame: three, of which the middle one is older than the outer one; each holds the next, and all end together. */
static int hold_and_delegate(void *arg)
{
    sley_gen *next = NULL;
    int rc = sley_gen_yield(NULL, &next);

    if (rc == 1)
        rc = sley_gen_yield_from(next);
    note((int)(intptr_t)arg);
    return rc;
}

static int hold_each_other(void *arg)
{
    sley_gen **g = arg, *innermost = sley_gen_create(yield_nothing_four_times, NULL, sizeof(sley_gen *));

    g[0] = sley_gen_create(hold_and_delegate, (void *)1, sizeof(sley_gen *)); /* the middle one */
    g[1] = sley_gen_create(hold_and_delegate, (void *)2, sizeof(sley_gen *));
    g[2] = innermost;
    EXPECT(sley_gen_next(g[1], NULL) == 1 && sley_gen_next(g[0], NULL) == 1);
    EXPECT(sley_gen_send(g[0], &innermost, NULL) == 1 && sley_gen_send(g[1], &g[0], NULL) == 1 && sley_gen_next(g[1], NULL) == 1);
    return 0;
}

SCENARIO(those_that_hold_each_other_end_together)
{
    sley_gen *g[3];

    begin_noting();
    EXPECT(sley_scope_run(hold_each_other, g, SLEY_FOREVER) == 0);
    EXPECT(NOTED_ARE(1, 2)); /* the youngest is the outer one, and closes the one it delegates to first */
    for (int i = 0; i < 3; i++) {
        EXPECT(sley_gen_state(g[i]) == SLEY_GEN_CLOSED);
        sley_gen_destroy(g[i]);
    }
}

struct quad {
    int n[4];
};

static int note_a_quad(void *arg)
{
    struct quad in = { { 0 } };
    int rc = sley_gen_yield(NULL, &in);

    for (int i = 0; rc == 1 && i < 4; i++)
        note(in.n[i]);
    return rc < 0 ? rc : 0;
}

static int delegate_quads(void *arg)
{
    sley_gen *g = sley_gen_create(note_a_quad, NULL, sizeof(struct quad));
    int rc = sley_gen_yield_from(g);

    sley_gen_destroy(g);
    return rc;
}

SCENARIO(a_whole_value_is_sent_through)
{
    sley_gen *g = sley_gen_create(delegate_quads, NULL, sizeof(struct quad));

    begin_noting();
    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_send(g, &(struct quad){ { 1, 2, 3, 4 } }, NULL) == 0 && NOTED_ARE(1, 2, 3, 4));
    sley_gen_destroy(g);
}

/* generator_gi_yieldfrom */
static int look_while_delegated_to(void *arg)
{
    struct pair *p = arg;
    int rc;

    EXPECT(sley_gen_state(p->self) == SLEY_GEN_RUNNING);
    rc = sley_gen_yield(NULL, NULL);
    EXPECT(sley_gen_state(p->self) == SLEY_GEN_RUNNING);
    return rc;
}

SCENARIO(the_state_of_one_that_delegates)
{
    struct pair p;
    sley_gen *g = make_pair(&p, look_while_delegated_to, 0, 12);

    p.inner_arg = &p;
    EXPECT(sley_gen_state(g) == SLEY_GEN_CREATED && sley_gen_next(g, NULL) == 1 && sley_gen_state(g) == SLEY_GEN_SUSPENDED);
    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_state(g) == SLEY_GEN_SUSPENDED);
    EXPECT(sley_gen_next(g, NULL) == 0 && sley_gen_state(g) == SLEY_GEN_CLOSED);
    sley_gen_destroy(g);
}

/* ---- PEP 479 ---- */

static int ask_one_that_has_ended(void)
{
    sley_gen *empty = sley_gen_from_array(NULL, 0, sizeof(int));
    int v = NOTHING, rc = sley_gen_next(empty, &v);

    sley_gen_destroy(empty);
    return rc;
}

/* That another one has ended is no error here, and ends nobody: who took it for a value would see that it has none. */
static int use_one_that_has_ended(void *arg)
{
    int rc = ask_one_that_has_ended();

    note(rc == 0 ? OUTER_GOES_ON : NEVER);
    rc = give(1);
    return rc < 0 ? rc : give(2);
}

SCENARIO(the_end_of_another_does_not_end_it)
{
    begin_noting();
    EXPECT(drain_and_destroy(sley_gen_create(use_one_that_has_ended, NULL, sizeof(int))) == 0 && NOTED_ARE(OUTER_GOES_ON, 1, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(a_simple_generator_falls_off_its_end),
        ON_BOTH(return_stops_it_for_good),
        ON_BOTH(a_body_may_yield_on_its_way_out),
        ON_BOTH(it_returns_to_whoever_has_resumed_it_last),
        ON_BOTH(generators_use_other_generators),
        ON_BOTH(it_cannot_be_resumed_while_it_runs),
        ON_BOTH(an_error_inside_comes_out_and_ends_it),
        ON_BOTH(errors_are_handled_and_passed_on_around_yields),
        ON_BOTH(a_tree_is_walked_by_a_generator_a_node_and_by_one_with_a_stack),
        ON_BOTH(yielding_nothing_is_not_returning),
        ON_BOTH(combinations_come_in_order),
        ON_BOTH(it_says_whether_it_runs),
        ON_BOTH(sets_are_united_by_generators),
        ON_BOTH(a_sieve_of_generators_finds_primes),
        ON_BOTH(a_generator_runs_after_its_own_tail),
        ON_BOTH(fibonacci_numbers_from_themselves),
        ON_BOTH(conjoined_generators_make_all_combinations),
        ON_BOTH(eight_queens_have_92_solutions),
        ON_BOTH(a_knight_tours_the_board),
        ON_BOTH(a_value_is_sent_into_one_that_has_begun),
        ON_BOTH(what_is_sent_is_summed_up),
        ON_BOTH(an_error_is_caught_again_and_again_and_another_ends_it),
        ON_BOTH(throw_after_none_exc_type),
        ON_BOTH(except_throw),
        ON_BOTH(closing_cleans_up_once_and_closing_again_does_nothing),
        ON_BOTH(a_handler_of_errors_does_not_catch_the_close),
        ON_BOTH(an_ill_behaved_one_is_told_apart_and_can_be_closed_then),
        ON_BOTH(an_error_thrown_while_closing_comes_out),
        ON_BOTH(what_is_sent_comes_back_as_the_result),
        ON_FIBERS(one_that_holds_itself_is_closed_all_the_same),
        ON_FIBERS(one_that_yields_itself_is_closed_with_its_scope),
        ON_BOTH(delegation_of_initial_next_to_subgenerator),
        ON_BOTH(raising_exception_in_initial_next_call),
        ON_BOTH(delegation_of_next_call_to_subgenerator),
        ON_BOTH(raising_exception_in_delegated_next_call),
        ON_BOTH(delegation_of_send),
        ON_BOTH(handling_exception_while_delegating_send),
        ON_BOTH(delegating_close),
        ON_BOTH(handing_exception_while_delegating_close),
        ON_BOTH(delegating_throw),
        ON_BOTH(generator_return_value),
        ON_BOTH(delegation_to_what_is_no_generator),
        ON_BOTH(attempted_yield_from_loop),
        ON_BOTH(returning_value_from_delegated_throw),
        ON_BOTH(next_or_send_and_return_with_value),
        ON_BOTH(catching_exception_from_subgen_and_returning),
        ON_BOTH(an_error_goes_to_the_innermost_of_a_chain),
        ON_BOTH(throwing_the_close_into_a_subgenerator),
        ON_BOTH(yield_from_empty),
        ON_BOTH(delegating_generators_claim_to_be_running),
        ON_BOTH(one_that_delegates_runs_while_the_inner_one_is_closed),
        ON_BOTH(custom_iterator_return),
        ON_FIBERS(those_that_hold_each_other_end_together),
        ON_BOTH(a_whole_value_is_sent_through),
        ON_BOTH(the_state_of_one_that_delegates),
        ON_BOTH(the_end_of_another_does_not_end_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
