/* stress_gen.c - random trees of generators: bodies that resume and delegate to others, wait, open scopes with children and deadlines,
 * raise shields, run on larger stacks, fail, and yield in the middle of all that; consumers that send, throw, close and forget, in scopes
 * that are cancelled meanwhile by fibers and threads; generators that go from fiber to fiber through a channel, and fibers that try to
 * resume what is not theirs.
 *
 * Each generator has a record beside it, so that at every resume can be asked:
 *   what comes out is what the body put in, in order, and what it is told is what its consumer said, or that it is to close
 *   the end is told once, with the error that the body returned
 *   the body runs on its owner, and leaves scope, shields and the consumer's place as they were
 *   a wait is refused only if something around it may have been cancelled, or its own scopes have been once; and never under a shield
 * A cancel that is lost while scopes move leaves a child behind that waits for ever: the test hangs. At the end every body that began has
 * ended, every child too, and what they held is given back. */
#include "../scenario.h"

#if defined(SL_TSAN)
enum { PLAYERS = 3, TREES = 12, NODES_MAX = 20 };
#elif defined(SL_ASAN)
enum { PLAYERS = 5, TREES = 120, NODES_MAX = 40 };
#else
enum { PLAYERS = 6, TREES = 1000, NODES_MAX = 60 };
#endif

enum { SLOTS = 8, STEPS_MAX = 14, DEPTH_MAX = 4, OWN_MAX = 3, ERROR_FIRST = 1000, ERRORS = 50, NOTHING_SENT = -1 };

struct node;

struct place { /* a scope */
    struct place *above;
    struct node *moves;  /* a body's outermost; then `above` is not asked; NULL: another */
    int shielded;        /* `above` is behind a shield */
    _Atomic(int) may_be_cancelled;
    sley_scope scope;
};

struct item {
    int64_t id, number;
};

struct player;

struct node {
    struct player *player; /* whose list it is in; NULL: it goes round */
    struct node *next;     /* in that list */
    sley_gen *g;
    int64_t id;
    uint64_t random, owner;
    int depth;
    int roams;             /* it makes no others and opens nothing, so that it can be handed over */
    struct place *home;
    struct place *consumer;/* where it is resumed */
    struct place *doomed;  /* of the consumer: will be cancelled for certain, and no shield of the consumer's is in between; NULL: none */
    int tainted;           /* the scopes it had open may have been cancelled by one that it was resumed in */
    int shields;           /* its own, begun outside of its scopes */
    int covered;           /* the delegator has a shield open, or another one further out */
    struct place own[OWN_MAX];
    int n_own;
    struct node *delegate, *delegator; /* whom it has handed its consumer to, and who has done so to it */
    int expects;           /* what its yield will return */
    int64_t sent;
    int64_t number;        /* of its last value */
    int begun, ended, returned;
};

struct player {
    uint64_t random;
    struct node *nodes;
    int n_nodes;
    struct place *here;
};

static struct {
    sley_chan *ch, *roaming;
    sley_event never;
    _Atomic(int) stop, playing;
    _Atomic(int) begun, ended, kids_started, kids_ended, held;
    _Atomic(long) resumes, refused, handed, intruded, generators;
    _Atomic(int64_t) next_id;
} world;

static uint64_t seed;

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

/* --- what is lent to others ------------------------------------------------------------------------------------------------------ */

struct slot { /* a scope, or a generator, is in it only while its owner sees to that it stays */
    _Atomic(void *) thing;
    _Atomic(int) users;
};

static struct slot places[SLOTS], gens[SLOTS];

static struct slot *lend(struct slot *slots, void *thing, uint64_t *random)
{
    struct slot *slot = &slots[below(random, SLOTS)];
    void *none = NULL;

    return sl_cas_seq_cst(&slot->thing, &none, thing) ? slot : NULL;
}

static void take_back(struct slot *slot)
{
    if (slot == NULL)
        return;
    slot->thing = NULL;
    while (slot->users > 0)
        pass();
}

static void do_something_to(struct place *p, uint64_t *random)
{
    switch (below(random, 6)) {
    case 0:
        p->may_be_cancelled = 1;
        sley_scope_cancel(&p->scope);
        break;
    case 1:
        p->may_be_cancelled = 1;
        sley_scope_set_deadline(&p->scope, below(random, 2) ? SLEY_NOW : sley_after(below(random, 200) * SLEY_US));
        break;
    default: sley_scope_set_deadline(&p->scope, sley_after((1000 + below(random, 1000)) * SLEY_S)); break;
    }
}

static void *disturb(void *arg)
{
    uint64_t random = mix(seed ^ (uint64_t)(uintptr_t)arg);

    while (!world.stop) {
        struct slot *slot = &places[below(&random, SLOTS)];
        struct place *p;

        slot->users++;
        p = slot->thing;
        if (p != NULL && below(&random, 8) == 0)
            do_something_to(p, &random);
        slot->users--;
        sched_yield();
    }
    return NULL;
}

/* On a fiber or thread of its own: nothing that is lent is its. */
static void intrude(uint64_t *random)
{
    struct slot *slot = &gens[below(random, SLOTS)];
    struct item v = { -7, -7 };
    sley_gen *g;

    slot->users++;
    g = slot->thing;
    if (g != NULL) {
        int rc;

        switch (below(random, 5)) {
        case 0: rc = sley_gen_next(g, &v); break;
        case 1: rc = sley_gen_send(g, &v, &v); break;
        case 2: rc = sley_gen_throw(g, -EIO, &v); break;
        case 3: rc = sley_gen_close(g); break;
        default: rc = below(random, 2) ? sley_gen_release(g) : sley_gen_adopt(g); break;
        }
        EXPECT(rc == -EALREADY && v.id == -7);
        world.intruded++;
    }
    slot->users--;
}

static int intruder(void *arg)
{
    uint64_t random = mix(seed + (uint64_t)(uintptr_t)arg);

    while (!world.stop) {
        intrude(&random);
        pass();
    }
    return 0;
}

static void *intruding_thread(void *arg)
{
    intruder(arg);
    return NULL;
}

/* --- waiting --------------------------------------------------------------------------------------------------------------------- */

static struct place *place_of(const struct node *n);

/* Where n is resumed. */
static struct place *consumer_of(const struct node *n)
{
    const struct node *d = n->delegator;

    return d != NULL && sley_gen_state(d->g) == SLEY_GEN_RUNNING ? place_of(d) : n->consumer;
}

static struct place *place_of(const struct node *n)
{
    return n->n_own > 0 ? (struct place *)(uintptr_t)&n->own[n->n_own - 1] : consumer_of(n);
}

/* Something that reaches who stands in p may have been cancelled. The scopes of a body that is, or was, suspended: in its home too, or
 * where it was resumed before. */
static int may_be_refused(const struct place *p)
{
    while (p != NULL) {
        const struct node *n = p->moves;

        if (p->may_be_cancelled || (n != NULL && n->shields == 0 && (n->tainted || may_be_refused(n->home))))
            return 1;
        if (p->shielded || (n != NULL && sley_gen_state(n->g) != SLEY_GEN_RUNNING))
            return 0;
        p = n != NULL ? consumer_of(n) : p->above;
    }
    return 0;
}

static int wait_somehow(uint64_t *random, int for_ever)
{
    sley_time deadline = for_ever ? SLEY_FOREVER : sley_after(below(random, 60) * SLEY_US);
    sley_case arms[2];
    int v = 1, rc;

    switch (for_ever ? below(random, 3) : below(random, 6)) {
    case 0: rc = sley_event_wait(&world.never, deadline); break;
    case 1: rc = for_ever ? sley_sleep(SLEY_FOREVER) : sley_sleep(below(random, 30) * SLEY_US); break;
    case 2:
        arms[0] = sley_case_event(&world.never);
        arms[1] = sley_case_scope(sley_scope_current());
        rc = for_ever ? sley_select(arms, 1, deadline) : sley_select(arms, 2, deadline);
        break;
    case 3: rc = sley_chan_send(world.ch, &v, deadline); break; /* what comes in goes out again, or its time passes */
    case 4: rc = sley_chan_recv(world.ch, &v, deadline); break;
    default: rc = sley_yield(); break;
    }
    return rc == -ETIMEDOUT || rc > 0 ? 0 : rc;
}

/* At `here`. -ECANCELED if it was refused; what is not kept then is said. */
static int wait_at(struct place *here, uint64_t *random, int for_ever)
{
    int shielded = sl_current()->shields > 0, rc = wait_somehow(random, for_ever && !shielded);

    EXPECT(rc == 0 || rc == -ECANCELED);
    EXPECT(rc == -ECANCELED || !for_ever || shielded);
    if (rc == -ECANCELED) {
        world.refused++;
        EXPECT(!shielded && may_be_refused(here));
        EXPECT(sley_yield() == -ECANCELED && sley_cancelled() == -ECANCELED);
    }
    return rc;
}

/* --- children of bodies' scopes --------------------------------------------------------------------------------------------------- */

struct kid {
    struct place *in;
    uint64_t random;
    int kills; /* cancels the scope sooner or later, in one of the ways there are */
};

static int be_a_kid(void *arg)
{
    struct kid k = *(struct kid *)arg;
    int rc = 0;

    if (k.kills) {
        for (uint32_t i = below(&k.random, 12); i > 0; i--)
            pass();
        switch (below(&k.random, 3)) {
        case 0: sley_scope_cancel(&k.in->scope); break;
        case 1: sley_scope_set_deadline(&k.in->scope, SLEY_NOW); break;
        default: rc = -(int)(ERROR_FIRST + below(&k.random, ERRORS)); break;
        }
    } else {
        while (rc == 0 && below(&k.random, 4))
            rc = wait_somehow(&k.random, 0);
        if (rc == 0)
            rc = wait_somehow(&k.random, 1); /* until it is cancelled, which it will be */
        EXPECT(rc == -ECANCELED);
    }
    world.kids_ended++;
    return rc;
}

static void start_kid(struct place *in, uint64_t *random, int kills)
{
    struct kid k = { in, mix(*random + below(random, 1u << 30)), kills };

    world.kids_started++;
    if (kills)
        in->may_be_cancelled = 1;
    if (sley_scope_go_copy(&in->scope, be_a_kid, &k, sizeof k) < 0)
        abort();
}

/* --- consumers -------------------------------------------------------------------------------------------------------------------- */

static int node_main(void *arg);

static struct node *make_node(struct player *p, struct place *home, int depth, int roams)
{
    struct node *n = calloc(1, sizeof *n);

    if (n == NULL)
        abort();
    n->player = p;
    n->id = world.next_id++;
    n->random = mix(p->random + below(&p->random, 1u << 30));
    n->owner = sley_self();
    n->depth = depth;
    n->roams = roams;
    n->home = home;
    n->sent = NOTHING_SENT;
    n->g = sley_gen_create(node_main, n, sizeof(struct item));
    if (n->g == NULL)
        abort();
    world.generators++;
    if (!roams) {
        n->next = p->nodes;
        p->nodes = n;
        p->n_nodes++;
    }
    return n;
}

/* Who yields if n is resumed and nothing else happens. */
static struct node *source_of(struct node *n)
{
    while (n->delegate != NULL)
        n = n->delegate;
    return n;
}

/* Who is made here counts as closed by p, when that ends. */
static void expect_close_by(struct player *owner, struct place *p)
{
    for (struct node *n = owner->nodes; n != NULL; n = n->next)
        if (n->home == p)
            n->consumer = p;
}

static void check_ended(const struct node *n, int rc)
{
    if (n->begun)
        EXPECT(n->ended && rc == (n->returned < 0 ? n->returned : 0) && sley_gen_result(n->g) == n->returned);
    EXPECT(sley_gen_state(n->g) == SLEY_GEN_CLOSED && sley_gen_next(n->g, NULL) == 0 && sley_gen_close(n->g) == 0);
}

/* Resume n, which is the caller's, at `here`, in some way; its result. 1: it has yielded. */
static int resume(struct node *n, struct place *here, uint64_t *random, int doomed)
{
    enum sley_gen_state state = sley_gen_state(n->g);
    struct node *source = source_of(n);
    struct sl_fiber *f = sl_current();
    sley_scope *scope = sley_scope_current();
    struct sley_gen *gen = f->gen;
    int shields = f->shields, error = -(int)(ERROR_FIRST + below(random, ERRORS)), rc;
    struct item v = { -1, -1 };
    uint32_t how = below(random, 40);

    EXPECT(state != SLEY_GEN_RUNNING && n->owner == sley_self());
    n->consumer = here;
    source->doomed = doomed && shields == 0 ? here : NULL;
    source->expects = 0;
    source->sent = NOTHING_SENT;
    world.resumes++;
    if (how < 20 || state == SLEY_GEN_CLOSED) {
        rc = sley_gen_next(n->g, &v);
    } else if (how < 36) {
        v.id = source->sent = (int64_t)below(random, 1u << 30);
        source->expects = 1;
        rc = sley_gen_send(n->g, &v, &v);
        if (state == SLEY_GEN_CREATED) {
            EXPECT(rc == -EINVAL && v.id == source->sent && sley_gen_state(n->g) == SLEY_GEN_CREATED);
            return 1;
        }
    } else if (how < 39) {
        source->expects = error;
        rc = sley_gen_throw(n->g, error, &v);
        if (state == SLEY_GEN_CREATED)
            EXPECT(rc == error && !n->begun);
    } else {
        source->expects = -ECANCELED;
        rc = sley_gen_close(n->g);
        EXPECT(rc <= 0 && sley_gen_state(n->g) == SLEY_GEN_CLOSED);
        if (n->begun && state != SLEY_GEN_CLOSED)
            EXPECT(rc == (n->returned >= 0 || n->returned == -ECANCELED ? 0 : n->returned));
        rc = n->begun && n->returned < 0 ? n->returned : 0;
    }
    EXPECT(sley_scope_current() == scope && sl_current() == f && f->shields == shields && f->gen == gen);
    if (may_be_refused(here))
        for (struct node *d = n; d != NULL; d = d->delegate)
            d->tainted = 1;
    if (rc == 1) {
        source = source_of(n);
        EXPECT(v.id == source->id && v.number == source->number && sley_gen_state(n->g) == SLEY_GEN_SUSPENDED);
    } else if (state == SLEY_GEN_CLOSED) {
        EXPECT(rc == 0);
    } else if (state != SLEY_GEN_CREATED || n->begun) {
        check_ended(n, rc);
    }
    return rc;
}

/* --- bodies ----------------------------------------------------------------------------------------------------------------------- */

static struct place *home_for(struct node *n)
{
    return n->n_own > 0 ? &n->own[n->n_own - 1] : n->home;
}

/* Whether the cancel of where it all was resumed comes down to where n stands. */
static int comes_down(const struct node *n)
{
    const struct place *from = n->doomed;

    for (;; n = n->delegator) {
        for (int i = 0; i < n->n_own; i++)
            if (n->own[i].shielded)
                return 0;
        if (n->delegator == NULL || sley_gen_state(n->delegator->g) != SLEY_GEN_RUNNING)
            return n->consumer == from;
        if (n->n_own > 0 && n->covered)
            return 0;
    }
}

static int wait_if_doomed(struct node *n)
{
    return n->doomed != NULL && comes_down(n) ? wait_at(place_of(n), &n->random, 1) : 0;
}

/* 0: go on; else the error to return. */
static int take(struct node *n, int say, int64_t got)
{
    EXPECT(sley_self() == n->owner);
    EXPECT(say == n->expects || say == -ECANCELED);
    if (say == 1)
        EXPECT(got == n->sent);
    if (say >= 0)
        return wait_if_doomed(n);
    return say == -ECANCELED || below(&n->random, 2) ? say : 0;
}

static int yield_once(struct node *n)
{
    struct item out = { n->id, ++n->number }, in = { -9, -9 };
    int say;

    say = sley_gen_yield(&out, &in);
    EXPECT(say == 1 || in.id == -9);
    return take(n, say, in.id);
}

static int steps(struct node *n, int depth);

static int delegate(struct node *n)
{
    struct node *inner = make_node(n->player, home_for(n), n->depth - 1, 0);
    int rc;

    inner->delegator = n;
    inner->covered = n->n_own > 0 ? sl_current()->shields > 0 : n->shields > 0 || n->covered;
    n->delegate = inner; /* which others may resume too, and end */
    rc = sley_gen_yield_from(inner->g);
    n->delegate = inner->delegator = NULL;
    inner->consumer = place_of(n);
    EXPECT(!inner->begun || inner->ended);
    if (below(&n->random, 2)) /* the others are closed with their home, and destroyed later */
        EXPECT(sley_gen_close(inner->g) == 0);
    if (rc == -ECANCELED)
        return rc;
    EXPECT(!inner->begun || rc == inner->returned || rc == inner->expects);
    return rc < 0 && below(&n->random, 2) ? rc : 0;
}

static int resume_others(struct node *n)
{
    struct node *inner = make_node(n->player, home_for(n), n->depth - 1, 0);
    int rc = 0;

    for (uint32_t i = below(&n->random, 6); i > 0 && rc == 0; i--) {
        if (resume(inner, place_of(n), &n->random, 0) != 1)
            break;
        if (below(&n->random, 3) == 0)
            rc = yield_once(n); /* it stays suspended meanwhile */
    }
    return rc;
}

static int open_a_scope(struct node *n, int depth)
{
    struct place *p = &n->own[n->n_own];
    int rc = 0, result, kids, kills = below(&n->random, 4) == 0, shields = 0;
    struct slot *slot;

    *p = (struct place){ .above = place_of(n), .shielded = n->n_own > 0 && sl_current()->shields > 0 };
    if (below(&n->random, 4) == 0) {
        shields = 1;
        sley_shield_begin();
    }
    if (n->n_own == 0) {
        n->shields += shields;
        n->tainted = 0;
    }
    p->shielded = p->shielded || shields || (n->n_own == 0 && n->shields > 0);
    p->moves = n->n_own == 0 ? n : NULL;
    if (below(&n->random, 5) == 0) {
        p->may_be_cancelled = 1;
        sley_scope_init(&p->scope, sley_after(below(&n->random, 300) * SLEY_US));
    } else {
        sley_scope_init(&p->scope, below(&n->random, 2) ? SLEY_FOREVER : sley_after(3600 * SLEY_S));
    }
    n->n_own++;
    for (kids = (int)below(&n->random, 3); kids > 0; kids--)
        start_kid(p, &n->random, 0);
    if (kills)
        start_kid(p, &n->random, 1);
    slot = lend(places, p, &n->random);
    rc = steps(n, depth - 1);
    if (below(&n->random, 4) == 0) {
        sley_shield_begin();
        EXPECT(wait_at(p, &n->random, 0) == 0);
        sley_shield_end();
    }
    take_back(slot);
    if (!kills) { /* else somebody else does that, and if it is lost the children wait for ever */
        p->may_be_cancelled = 1;
        sley_scope_cancel(&p->scope);
    }
    expect_close_by(n->player, p);
    result = sley_scope_wait(&p->scope, rc, SLEY_FOREVER);
    memset(&p->scope, 0xee, sizeof p->scope);
    n->n_own--;
    if (n->n_own == 0)
        n->shields -= shields;
    if (shields)
        sley_shield_end();
    EXPECT(is_untouched(&p->scope, sizeof p->scope));
    if (rc <= -ERROR_FIRST && !kills)
        EXPECT(result == rc); /* the first error in it */
    return rc == -ECANCELED ? rc : result < 0 && below(&n->random, 2) ? result : 0;
}

struct nested_steps {
    struct node *n;
    int depth;
};

static int steps_inside(void *arg)
{
    struct nested_steps *s = arg;

    return steps(s->n, s->depth);
}

static int steps(struct node *n, int depth)
{
    struct nested_steps inside = { n, depth - 1 };
    int rc = 0;

    for (uint32_t i = below(&n->random, STEPS_MAX); i > 0 && rc == 0; i--) {
        switch (below(&n->random, 12)) {
        case 0:
        case 1:
        case 2:
        case 3: rc = yield_once(n); break;
        case 4:
            if (n->depth > 0 && !n->roams && n->player->n_nodes < NODES_MAX)
                rc = delegate(n);
            break;
        case 5:
            if (n->depth > 0 && !n->roams && n->player->n_nodes < NODES_MAX)
                rc = resume_others(n);
            break;
        case 6:
            if (depth > 0 && !n->roams && n->n_own < OWN_MAX)
                rc = open_a_scope(n, depth);
            break;
        case 7:
            if (depth > 0 && below(&n->random, 3) == 0)
                rc = sley_on_big_stack(steps_inside, &inside, 200 << 10);
            break;
        case 8:
            if (depth > 0 && !n->roams) { /* a shield across whatever comes */
                int outside = n->n_own == 0;

                sley_shield_begin();
                n->shields += outside;
                rc = steps(n, depth - 1);
                n->shields -= outside;
                sley_shield_end();
            }
            break;
        case 9:
            if (below(&n->random, 6) == 0)
                rc = -(int)(ERROR_FIRST + below(&n->random, ERRORS));
            break;
        default: rc = wait_at(place_of(n), &n->random, 0); break;
        }
    }
    return rc;
}

static int node_main(void *arg)
{
    struct node *n = arg;
    char *held = malloc(64);
    int rc = 0;

    EXPECT(!n->begun && sley_self() == n->owner);
    n->begun = 1;
    world.begun++;
    world.held++;
    memset(held, (int)n->id, 64);
    rc = wait_if_doomed(n);
    if (rc == 0)
        rc = steps(n, DEPTH_MAX);
    if (rc == 0)
        rc = (int)below(&n->random, 3);
    for (int i = 0; i < 64; i++)
        EXPECT(held[i] == (char)n->id);
    free(held);
    world.held--;
    EXPECT(n->n_own == 0 && n->shields == 0 && n->delegate == NULL);
    n->returned = rc;
    n->ended = 1;
    world.ended++;
    return rc;
}

/* --- players ---------------------------------------------------------------------------------------------------------------------- */

/* Take one that goes round, use it, and pass it on or end it. */
static void use_a_roaming_one(struct player *p)
{
    struct node *n;
    int rc = 1;

    sley_shield_begin();
    if (below(&p->random, 3) == 0) {
        n = make_node(p, p->here, 0, 1);
        n->player = NULL;
    } else {
        if (sley_chan_recv(world.roaming, &n, SLEY_NOW) != 1)
            n = NULL;
        if (n != NULL) {
            EXPECT(sley_gen_adopt(n->g) == 0);
            n->owner = sley_self();
            n->home = p->here;
        }
    }
    if (n != NULL) {
        struct slot *slot = lend(gens, n->g, &p->random);

        for (uint32_t i = below(&p->random, 5); i > 0 && rc == 1; i--)
            rc = resume(n, p->here, &p->random, 0);
        take_back(slot);
        if (rc != 1 || below(&p->random, 8) == 0) {
            sley_gen_destroy(n->g);
            EXPECT(!n->begun || n->ended);
            free(n);
        } else {
            EXPECT(sley_gen_release(n->g) == 0);
            if (sley_chan_send(world.roaming, &n, SLEY_NOW) < 0) { /* it is full */
                sley_gen_destroy(n->g);
                EXPECT(!n->begun || n->ended);
                free(n);
            } else {
                world.handed++;
            }
        }
    }
    sley_shield_end();
}

static void resume_some(struct player *p, int depth, int doomed)
{
    for (uint32_t i = below(&p->random, 8); i > 0; i--) {
        struct node *n = p->nodes;

        switch (below(&p->random, 12)) {
        case 0: use_a_roaming_one(p); break;
        case 1:
            if (p->n_nodes < NODES_MAX)
                make_node(p, p->here, DEPTH_MAX - 1, 0);
            break;
        case 2: wait_at(p->here, &p->random, 0); break;
        case 3:
            if (depth > 0) { /* further inside, in a scope or under a shield */
                struct place in = { .above = p->here, .shielded = sl_current()->shields > 0 };
                struct place *before = p->here;
                int killed = below(&p->random, 3) == 0, shields = below(&p->random, 4) == 0;
                struct slot *slot;

                if (shields) {
                    sley_shield_begin();
                    in.shielded = 1;
                }
                sley_scope_init(&in.scope, SLEY_FOREVER);
                p->here = &in;
                if (killed)
                    start_kid(&in, &p->random, 1);
                slot = lend(places, &in, &p->random);
                resume_some(p, depth - 1, killed);
                take_back(slot);
                sley_scope_wait(&in.scope, 0, SLEY_FOREVER);
                memset(&in.scope, 0xee, sizeof in.scope);
                p->here = before;
                pass();
                EXPECT(is_untouched(&in.scope, sizeof in.scope));
                if (shields)
                    sley_shield_end();
            }
            break;
        default:
            for (uint32_t k = below(&p->random, 8); k > 0 && n != NULL && n->next != NULL; k--)
                n = n->next;
            if (n != NULL) {
                struct slot *slot = lend(gens, n->g, &p->random);
                resume(n, p->here, &p->random, doomed && p->here->may_be_cancelled);
                take_back(slot);
            }
            break;
        }
    }
}

static void play_a_tree(struct player *p)
{
    struct place home = { .above = NULL };
    struct slot *slot;
    struct node *n;

    sley_scope_init(&home.scope, SLEY_FOREVER);
    p->here = &home;
    for (uint32_t i = 1 + below(&p->random, 3); i > 0; i--)
        make_node(p, &home, DEPTH_MAX, 0);
    slot = lend(places, &home, &p->random);
    for (uint32_t i = below(&p->random, 20); i > 0; i--)
        resume_some(p, 3, 0);
    take_back(slot);
    expect_close_by(p, &home);
    sley_scope_wait(&home.scope, 0, SLEY_FOREVER);
    while ((n = p->nodes) != NULL) {
        p->nodes = n->next;
        EXPECT(sley_gen_state(n->g) == SLEY_GEN_CLOSED && (!n->begun || n->ended));
        sley_gen_destroy(n->g);
        free(n);
    }
    p->n_nodes = 0;
    EXPECT(sley_yield() == 0);
}

static int player_main(void *arg)
{
    struct player p = { .random = mix(seed + (uint64_t)(uintptr_t)arg * 77) };

    for (int i = 0; i < TREES && scene.unmet == NULL; i++)
        play_a_tree(&p);
    world.playing--;
    return 0;
}

static int play_trees(void *arg)
{
    pthread_t threads[3];
    sley_scope intruders, players;
    struct node *n;

    (void)arg;
    memset(&world, 0, sizeof world);
    world.ch = sley_chan_create(sizeof(int), 2);
    world.roaming = sley_chan_create(sizeof(struct node *), 12);
    for (uintptr_t i = 0; i < 3; i++)
        if (pthread_create(&threads[i], NULL, i < 2 ? disturb : intruding_thread, (void *)(i + 1)) != 0)
            abort();
    sley_scope_init(&intruders, SLEY_FOREVER);
    EXPECT(sley_go(intruder, (void *)(uintptr_t)9) == 0);
    sley_scope_init(&players, SLEY_FOREVER);
    world.playing = PLAYERS;
    for (uintptr_t i = 0; i < PLAYERS; i++)
        EXPECT(sley_go(player_main, (void *)(i + 1)) == 0);
    EXPECT(sley_scope_wait(&players, 0, SLEY_FOREVER) == 0 && world.playing == 0);
    world.stop = 1;
    EXPECT(sley_scope_wait(&intruders, 0, SLEY_FOREVER) == 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    sley_chan_close(world.roaming);
    while (sley_chan_recv(world.roaming, &n, SLEY_FOREVER) > 0) { /* nobody's: destroyed by whoever comes */
        n->owner = sley_self();
        sley_gen_destroy(n->g);
        EXPECT(!n->begun || n->ended);
        free(n);
    }
    sley_chan_destroy(world.roaming);
    sley_chan_destroy(world.ch);
    sley_event_fini(&world.never);
    return 0;
}

static void on_error(void *ctx, uint64_t fiber, const char *name, int error)
{
    (void)ctx;
    (void)name;
    EXPECT(fiber != 0 && error <= -ERROR_FIRST && error > -ERROR_FIRST - ERRORS); /* of bodies that were closed by the end of a scope */
}

static void gen_stress_random_trees(void **state)
{
    sley_options options = { .on_error = on_error };

    (void)state;
    scene.cast = casts[0]; /* all on fibers */
    scene.unmet = NULL;
    assert_int_equal(sley_run(&options, play_trees, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
    assert_int_equal(world.begun, world.ended);
    assert_int_equal(world.kids_started, world.kids_ended);
    assert_int_equal(world.held, 0);
    print_message("%ld generators, %ld resumes, %ld refused waits, %ld handed over, %ld refused intrusions\n", world.generators,
                  world.resumes, world.refused, world.handed, world.intruded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gen_stress_random_trees),
    };

    seed = test_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
