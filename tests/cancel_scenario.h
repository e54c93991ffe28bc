/* cancel_scenario.h - a row a call that waits. The call is ended at every point where it can park, in every way there is, and afterwards
 * what docs/cancellation.md promises of it is checked.
 *
 * A row says how to begin (set_up), what the call is, what brings it one wait further or to its end (step), and what must then hold
 * (check). From that its walks are played:
 *   by itself       every wait is ended by a step
 *   cancelled       at its k-th wait, for k = 1, 2... until it is over before that; the scope it is in, one above it, from a fiber or a
 *                   thread, by the scope's deadline; before it began; under a shield, where nothing may happen
 *   timed out       its own deadline passes at the k-th wait; SLEY_NOW
 *   without waits   in a cancelled scope, with what it wants always at hand: the 64th in a row notices
 *   raced           cancel, or its deadline, against the steps: one of them wins, and nothing is lost or double. SLEY_TEST_ROUNDS says
 *                   how often each (a fifth of it by a thread, and where it costs much), with a line a second
 *   on a thread     attached to a runtime, which stops
 * "It waits" is seen by the wait word: WAITING or WAITING_IO with another sequence than before. */
#ifndef CANCEL_SCENARIO_H
#define CANCEL_SCENARIO_H

#include "io_scenario.h"

#include "plat/cpu.h"

enum traits {
    NO_DEADLINE  = 1, /* the call takes none */
    PASSING      = 2, /* nobody can hold it where it waits, the kernel ends it soon: it may be over before it is cut */
    PARTIAL      = 4, /* cut when some of it was done, it returns that */
    FIBERS_ONLY  = 8, /* on a plain thread it is another call, or a system call that nothing ends */
    SELDOM       = 16, /* its walks cost much: fewer rounds of races */
    WAITS_ANYWAY = 32, /* cancelled before, or with SLEY_NOW, it waits all the same before it says so */
    AT_HAND      = 64, /* what it wants may be at hand, then it is not cut */
    CUT_BEFORE   = 128 /* although no cancel ends its waits, it does not begin in a cancelled scope */
};

#define ALL_WAITS UINT32_MAX
#define LEFT_OUT  INT_MIN

enum { ROUNDS = 150, ROUNDS_SELDOM = 30, PAUSE_MAX = 2000, TRIES = 30 };

struct row {
    const char *name;       /* as in the last column of docs/cancellation.md */
    unsigned traits;
    int done;               /* result, if nothing ends it */
    int now;                /* result with SLEY_NOW; 0: -ETIMEDOUT; LEFT_OUT: not tried */
    uint32_t not_cancelled; /* bit k - 1: its k-th wait is ended by no cancel */
    uint32_t not_timed_out; /* ... by no deadline */
    int waits;              /* PASSING: so many of its waits are cut, one in each walk; 0: the first */
    void (*set_up)(void);
    int (*call)(sley_time deadline);
    void (*step)(void);     /* may be called once too often; NULL: nothing ends its wait but time or the kernel */
    void (*check)(int rc);  /* after it has ended, however */
    int (*is_missing)(void);  /* the kernel lacks what it is about; NULL: it does not */
    void (*make_ready)(void); /* after set_up: 64 calls need not wait. NULL: it always waits */
    void (*tear_down)(void);
};

/* What is being played: rows and walks share it, failures name it. */
static struct {
    const struct row *row;
    const char *walk;
    int k;
    int steps;  /* made so far */
    int racing; /* a row whose wait only time ends makes it short */
    int rc;     /* what the last call returned */
} now_playing;

/* Without RWF_NOWAIT what is at hand in a pipe or a file is waited for all the same, and less may be had of it. */
static int lacks_tries(void) { return !sl_feature_may(SL_FEATURE_RWF_NOWAIT); }

/* Nothing more is played once something was not as it should be, so that now_playing says what was. */
static int begin_walk(const char *walk)
{
    if (scene.unmet != NULL)
        return 0;
    now_playing.walk = walk;
    now_playing.k = 0;
    now_playing.steps = 0;
    return 1;
}

enum way { BY_ITSELF, CANCEL, CANCEL_CHILD, CANCEL_ABOVE, CANCEL_BY_THREAD, SCOPE_DEADLINE, BEFORE, SHIELDED, OWN_DEADLINE, AT_ONCE };

static const char *const way_names[] = {
    "by itself", "cancelled", "cancelled in the scope it was started in", "cancelled from above", "cancelled by a thread",
    "cut by the scope's deadline", "cancelled before it began", "under a shield", "timed out", "not allowed to wait"
};

/* Let other fibers run, also where that says that the scope is cancelled, and soon other threads: the one that is waited for may have none
 * of the processors. */
static void look_away(unsigned *looks)
{
    if (++*looks > 8)
        sched_yield();
    (void)sley_yield();
}

/* --- who calls ------------------------------------------------------------------------------------------------------------------- */

struct player {
    struct actor actor, host;
    const struct row *row;
    enum way way;
    sley_time deadline;
    sley_scope above, own;
    _Atomic(sley_scope *) scope; /* to be cancelled; NULL: not open yet */
    _Atomic(int) may_call, returned, may_close;
    int ask_again;
    int rc, again, cancelled;
    int closed; /* result of the own scope */
};

static int opens_scope(enum way way) { return way != CANCEL_CHILD && way != BY_ITSELF; }
static int is_cut_by_scope(enum way way) { return way >= CANCEL && way <= BEFORE; }

static int player_main(void *arg)
{
    struct player *p = arg;
    unsigned looks = 0;

    if (opens_scope(p->way))
        sley_scope_init(&p->own, SLEY_FOREVER);
    p->scope = opens_scope(p->way) && p->way != CANCEL_ABOVE ? &p->own : &p->above;
    while (!p->may_call)
        look_away(&looks);
    if (p->way == SHIELDED)
        sley_shield_begin();
    p->rc = p->row->call(p->deadline);
    if (p->way == SHIELDED)
        sley_shield_end();
    now_playing.rc = p->rc;
    p->cancelled = sley_cancelled();
    if (p->rc == -ECANCELED && p->ask_again)
        p->again = p->row->call(SLEY_FOREVER);
    p->returned = 1;
    while (!p->may_close)
        look_away(&looks);
    if (opens_scope(p->way)) {
        p->closed = sley_scope_wait(&p->own, p->rc < 0 ? p->rc : 0, SLEY_FOREVER);
        EXPECT(p->way == CANCEL_ABOVE || sley_cancelled() == 0);
    }
    return 0;
}

static int host_main(void *arg)
{
    struct player *p = arg;

    sley_scope_init(&p->above, SLEY_FOREVER);
    actor_start_as(&p->actor, 0, player_main, p);
    return sley_scope_wait(&p->above, 0, SLEY_FOREVER);
}

static void player_start(struct player *p, const struct row *row, enum way way, sley_time deadline)
{
    unsigned looks = 0;

    memset(p, 0, sizeof *p);
    p->row = row;
    p->way = way;
    p->deadline = deadline;
    actor_start_as(&p->host, 0, host_main, p);
    while (p->scope == NULL)
        look_away(&looks);
}

static void player_end(struct player *p)
{
    unsigned looks = 0;

    p->may_close = 1;
    while (!p->host.done)
        look_away(&looks);
    EXPECT(actor_result(&p->host) == 0);
}

/* Until the call waits anew: 1; 0: it has returned. *seen: the sequence of the last wait that the caller knows of. */
static int waits_anew(struct player *p, uint64_t *seen)
{
    for (unsigned looks = 0;;) {
        struct sl_fiber *f = p->actor.block;
        uint64_t word = f != NULL ? sl_load_acquire(&f->word) : 0;
        unsigned state = SL_WORD_STATE(word);

        if (p->returned)
            return 0;
        if ((state == SL_WAITING || state == SL_WAITING_IO) && SL_WORD_SEQUENCE(word) > *seen) {
            *seen = SL_WORD_SEQUENCE(word);
            return 1;
        }
        look_away(&looks);
    }
}

/* Whether it still waits as it did, and nobody has asked for the end of its operation. */
static int waits_on(struct player *p, uint64_t seen)
{
    uint64_t word = sl_load_acquire(&((struct sl_fiber *)p->actor.block)->word);

    return word == SL_WORD(seen, 0, SL_WAITING) || word == SL_WORD(seen, 0, SL_WAITING_IO);
}

/* --- what ends it ---------------------------------------------------------------------------------------------------------------- */

static int cancel_scope(void *arg)
{
    sley_scope_cancel(arg);
    return 0;
}

static void cut(struct player *p)
{
    struct actor thread;
    unsigned looks = 0;

    switch (p->way) {
    case CANCEL_BY_THREAD:
        actor_start_as(&thread, 1, cancel_scope, p->scope);
        while (!thread.done)
            look_away(&looks);
        actor_result(&thread);
        break;
    case SCOPE_DEADLINE:
        sley_scope_set_deadline(p->scope, sley_after(100 * SLEY_US));
        while (!sl_load_acquire(&((struct sl_scope *)(void *)p->scope)->cancelled))
            look_away(&looks);
        break;
    default:
        sley_scope_cancel(p->scope);
        break;
    }
}

static void one_step(const struct row *row)
{
    now_playing.steps++;
    row->step();
}

/* --- walks ----------------------------------------------------------------------------------------------------------------------- */

/* Whether the call may be over before it is cut: what ends its wait may have come already, from the kernel or with the step before. */
static int may_be_over(const struct row *row)
{
    return row->traits & PASSING || now_playing.steps > 0;
}

static void expect_cut(const struct row *row, int rc, int why)
{
    if (rc == why)
        EXPECT(!(row->traits & PARTIAL) || now_playing.steps == 0 || row->traits & PASSING);
    else
        EXPECT(may_be_over(row) && (rc == row->done || (row->traits & PARTIAL && rc > 0 && rc < row->done)));
}

static int cancel_ends(const struct row *row, enum way way, int k)
{
    return way != SHIELDED && !(row->not_cancelled >> (k - 1) & 1);
}

/* Cancel the call at its k-th wait (0: never). 1: it came to that; 0: it was over before. */
static int walk_to(const struct row *row, enum way way, int k)
{
    struct player p;
    uint64_t seen = 0;
    int at = 0, was_cut = 0, was_over = 0; /* perhaps */

    now_playing.k = k;
    now_playing.steps = 0;
    row->set_up();
    player_start(&p, row, way, SLEY_FOREVER);
    p.ask_again = is_cut_by_scope(way) && !(row->traits & AT_HAND);
    if (way == BEFORE)
        cut(&p);
    p.may_call = 1;
    while (waits_anew(&p, &seen)) {
        if (++at == k) {
            was_over = may_be_over(row);
            p.ask_again = p.ask_again && !was_over; /* what it wants may be at hand */
            cut(&p);
            if (cancel_ends(row, way, k)) {
                was_cut = 1;
                while (waits_anew(&p, &seen))
                    ;
                break;
            }
            EXPECT(waits_on(&p, seen) || was_over || (row->traits & WAITS_ANYWAY && !p.returned));
        }
        if (row->step != NULL && !(way == BEFORE && cancel_ends(row, way, at))) /* it ends by itself; a step would bring what it wants */
            one_step(row);
    }
    if (was_cut) {
        expect_cut(row, p.rc, -ECANCELED);
        EXPECT(p.again == (p.rc == -ECANCELED && p.ask_again ? -ECANCELED : 0));
    } else if (way == BEFORE && (cancel_ends(row, way, 1) || row->traits & CUT_BEFORE)) {
        EXPECT((p.rc == -ECANCELED && p.again == (p.ask_again ? -ECANCELED : 0)) || (p.rc == row->done && row->traits & AT_HAND));
        EXPECT(at == 0 || row->traits & WAITS_ANYWAY);
    } else {
        EXPECT(p.rc == row->done);
    }
    EXPECT(p.cancelled == (way == BEFORE || was_cut || (at >= k && k > 0) ? -ECANCELED : 0) || was_over);
    row->check(p.rc);
    player_end(&p);
    if (p.rc == -ECANCELED)
        EXPECT(p.closed == (way == CANCEL_ABOVE ? -ECANCELED : way == SCOPE_DEADLINE ? -ETIMEDOUT : 0));
    row->tear_down();
    return k > 0 && at >= k;
}

static void walk_all(const struct row *row, enum way way)
{
    int k = 1;

    if (!begin_walk(way_names[way]))
        return;
    while (walk_to(row, way, k) && row->step != NULL && scene.unmet == NULL)
        k++;
    EXPECT(k > 1 || row->step == NULL); /* it did wait */
}

/* The same, of a call that cannot be held: until it was seen waiting, or often. */
static void walk_passing(const struct row *row, enum way way)
{
    if (!begin_walk(way_names[way]))
        return;
    for (int k = 1; k == 1 || k <= row->waits; k++)
        for (int tries = 0; tries < TRIES && scene.unmet == NULL && !walk_to(row, way, k); tries++)
            ;
}

/* The call's own deadline passes at its k-th wait. If it has passed before, once more with a later one. 0: it was over before. */
static int walk_until(const struct row *row, int k, sley_time length)
{
    int at, at_k = 0;

    do {
        struct player p;
        uint64_t seen = 0;
        unsigned looks = 0;

        now_playing.k = k;
        now_playing.steps = at = 0;
        row->set_up();
        player_start(&p, row, OWN_DEADLINE, sley_after(length));
        p.may_call = 1;
        while (waits_anew(&p, &seen)) {
            if (++at == k && !(row->not_timed_out >> (k - 1) & 1)) {
                at_k = 1;
                while (waits_anew(&p, &seen))
                    ;
                break;
            }
            while (at == k && sley_now() < p.deadline + SLEY_MS)
                look_away(&looks);
            EXPECT(at != k || !p.returned || may_be_over(row)); /* it may have begun to wait anew */
            if (row->step != NULL)
                one_step(row);
        }
        if (at_k)
            expect_cut(row, p.rc, -ETIMEDOUT);
        else
            EXPECT(p.rc == row->done || p.rc == -ETIMEDOUT || (row->traits & PARTIAL && p.rc > 0));
        EXPECT(p.cancelled == 0);
        row->check(p.rc);
        player_end(&p);
        row->tear_down();
        length *= 2;
        if (p.rc == row->done)
            return at >= k;
    } while (!at_k && scene.unmet == NULL);
    return 1;
}

static void walk_deadlines(const struct row *row)
{
    int k = 1;

    if (!begin_walk(way_names[OWN_DEADLINE]))
        return;
    while (walk_until(row, k, row->traits & PASSING ? 10 * SLEY_US : SLEY_MS) && row->step != NULL && scene.unmet == NULL)
        k++;
}

static void walk_now(const struct row *row)
{
    struct player p;
    uint64_t seen = 0;

    if (!begin_walk(way_names[AT_ONCE]))
        return;
    row->set_up();
    player_start(&p, row, AT_ONCE, SLEY_NOW);
    p.may_call = 1;
    EXPECT(!waits_anew(&p, &seen) || row->traits & WAITS_ANYWAY);
    while (waits_anew(&p, &seen))
        ;
    EXPECT(p.rc == (row->now != 0 ? row->now : -ETIMEDOUT) || (lacks_tries() && p.rc == -EOPNOTSUPP));
    row->check(p.rc);
    player_end(&p);
    row->tear_down();
}

/* Calls that need not wait, in a cancelled scope. */
struct streak {
    const struct row *row;
    sley_time deadline;
    int left_out; /* results that do not count as an end */
    int count, rc;
};

static int streak_main(void *arg)
{
    struct streak *s = arg;
    sley_scope own;

    sley_scope_init(&own, SLEY_FOREVER);
    sley_scope_cancel(&own);
    for (s->count = 0; s->count <= SL_DIRECT_STREAK; s->count++)
        if ((s->rc = s->row->call(s->deadline)) < 0 && s->rc != s->left_out)
            break;
    return sley_scope_wait(&own, 0, SLEY_FOREVER);
}

static void walk_streak(const struct row *row)
{
    struct streak s = { .row = row, .deadline = SLEY_FOREVER };
    struct actor actor;

    if (!begin_walk("without waits in a cancelled scope"))
        return;
    row->set_up();
    row->make_ready();
    actor_start_as(&actor, 0, streak_main, &s);
    EXPECT(actor_result(&actor) == 0);
    EXPECT(s.rc == -ECANCELED && s.count <= SL_DIRECT_STREAK && s.count >= SL_DIRECT_STREAK - 1);
    row->tear_down();
}

/* Looking again and again with SLEY_NOW is not waiting either. */
static void walk_streak_of_tries(const struct row *row)
{
    struct streak s = { .row = row, .deadline = SLEY_NOW, .left_out = row->now != 0 ? row->now : -ETIMEDOUT };
    struct actor actor;

    if (!begin_walk("tried again and again in a cancelled scope"))
        return;
    row->set_up();
    actor_start_as(&actor, 0, streak_main, &s);
    EXPECT(actor_result(&actor) == 0);
    EXPECT(s.rc == -ECANCELED && s.count <= SL_DIRECT_STREAK);
    row->check(s.rc);
    row->tear_down();
}

/* --- races ----------------------------------------------------------------------------------------------------------------------- */

static void pause_a_little(uint64_t *random)
{
    for (uint32_t left = below(random, PAUSE_MAX); left > 0; left--)
        sl_cpu_relax();
}

struct canceller {
    struct actor actor;
    struct player *player;
    uint64_t random;
    _Atomic(int) fire;
};

static int canceller_main(void *arg)
{
    struct canceller *c = arg;
    unsigned looks = 0;

    while (!c->fire)
        look_away(&looks);
    pause_a_little(&c->random);
    sley_scope_cancel(c->player->scope);
    return 0;
}

static void race_once(const struct row *row, enum way way, uint64_t *random)
{
    struct canceller c = { .random = *random + 1 };
    struct player p;
    uint64_t seen = 0;
    unsigned looks = 0;
    int why = way == OWN_DEADLINE ? -ETIMEDOUT : -ECANCELED;

    now_playing.steps = 0;
    row->set_up();
    player_start(&p, row, way, way == OWN_DEADLINE ? sley_after(below(random, 150) * SLEY_US) : SLEY_FOREVER);
    c.player = &p;
    if (way != OWN_DEADLINE)
        actor_start_as(&c.actor, way == CANCEL_BY_THREAD, canceller_main, &c);
    p.may_call = 1;
    if (below(random, 2) == 0)
        waits_anew(&p, &seen);
    c.fire = 1;
    pause_a_little(random);
    if (row->step != NULL && !p.returned)
        one_step(row);
    while (waits_anew(&p, &seen))
        if (row->step != NULL)
            one_step(row);
    EXPECT(p.rc == row->done || (row->traits & PARTIAL && p.rc > 0 && p.rc < row->done) ||
           (p.rc == why && (row->traits & CUT_BEFORE || ~(way == OWN_DEADLINE ? row->not_timed_out : row->not_cancelled))));
    row->check(p.rc);
    while (way != OWN_DEADLINE && !c.actor.done)
        look_away(&looks);
    if (way != OWN_DEADLINE)
        actor_result(&c.actor);
    player_end(&p);
    row->tear_down();
}

static void race(const struct row *row, enum way way, const char *walk, uint64_t *random)
{
    const char *text = getenv("SLEY_TEST_ROUNDS");
    int rounds = row->traits & SELDOM || way == CANCEL_BY_THREAD ? ROUNDS_SELDOM : ROUNDS; /* a thread comes late */
    sley_time said = sley_now(), now;

    if (!begin_walk(walk))
        return;
    if (text != NULL)
        rounds = atoi(text) / (rounds == ROUNDS_SELDOM ? ROUNDS / ROUNDS_SELDOM : 1);
    now_playing.racing = 1;
    do {
        now_playing.k++;
        race_once(row, way, random);
        if (text != NULL && (now = sley_now()) >= said + SLEY_S) {
            fprintf(stderr, "%s, %s: %d of %d\n", row->name, walk, now_playing.k, rounds);
            said = now;
        }
    } while (now_playing.k < rounds && scene.unmet == NULL);
    now_playing.racing = 0;
}

/* --- a plain thread -------------------------------------------------------------------------------------------------------------- */

struct attached {
    struct player player;
    sley_runtime *runtime;
};

static int attached_main(void *arg)
{
    struct attached *a = arg;
    int rc = sley_runtime_attach(a->runtime);

    if (rc == 0) {
        a->player.rc = a->player.row->call(SLEY_FOREVER);
        now_playing.rc = a->player.rc;
        a->player.cancelled = sley_cancelled();
        a->player.returned = 1;
        sley_runtime_detach();
    }
    return rc;
}

static int walk_thread_to(const struct row *row, int k)
{
    struct attached a = { .player.row = row };
    uint64_t seen = 0;
    int at = 0, was_cut = 0, was_over = 0;

    now_playing.k = k;
    now_playing.steps = 0;
    assert_int_equal(sley_runtime_create(&a.runtime, &(sley_options){ .workers = 1 }), 0);
    assert_int_equal(sley_runtime_start(a.runtime), 0);
    row->set_up();
    actor_start_as(&a.player.actor, 1, attached_main, &a);
    while (waits_anew(&a.player, &seen)) {
        if (++at == k) {
            was_over = may_be_over(row);
            EXPECT(sley_runtime_stop(a.runtime, SLEY_NOW) == 0);
            if (cancel_ends(row, CANCEL, k)) {
                was_cut = 1;
                while (waits_anew(&a.player, &seen))
                    ;
                break;
            }
            EXPECT(waits_on(&a.player, seen) || was_over);
        }
        if (row->step != NULL)
            one_step(row);
    }
    EXPECT(actor_result(&a.player.actor) == 0);
    if (was_cut)
        expect_cut(row, a.player.rc, -ECANCELED);
    else
        EXPECT(a.player.rc == row->done || (lacks_tries() && a.player.rc > 0 && a.player.rc < row->done));
    EXPECT(a.player.cancelled == (at >= k ? -ECANCELED : 0) || was_over);
    row->check(a.player.rc);
    row->tear_down();
    sley_runtime_destroy(a.runtime);
    return at >= k;
}

static void walk_thread(const struct row *row)
{
    int k = 1;

    if (!begin_walk("on a thread whose runtime stops"))
        return;
    scene.cast = THREADS;
    while (walk_thread_to(row, k) && row->step != NULL && scene.unmet == NULL)
        k++;
}

/* --- all of them ----------------------------------------------------------------------------------------------------------------- */

static uint64_t race_seed;

static int walk_on_fibers(void *arg)
{
    const struct row *row = arg;
    uint64_t random = race_seed;

    if ((row->step != NULL || row->traits & PASSING) && begin_walk(way_names[BY_ITSELF]))
        walk_to(row, BY_ITSELF, 0);
    for (enum way way = CANCEL; way <= SCOPE_DEADLINE; way++)
        row->traits & PASSING ? walk_passing(row, way) : walk_all(row, way);
    if (begin_walk(way_names[BEFORE]))
        walk_to(row, BEFORE, 0);
    if (row->traits & PASSING)
        walk_passing(row, SHIELDED);
    else if (row->step != NULL)
        walk_all(row, SHIELDED);
    if (!(row->traits & NO_DEADLINE)) {
        walk_deadlines(row);
        if (row->now != LEFT_OUT)
            walk_now(row);
        if (row->now == 0 && row->not_cancelled == 0 && !lacks_tries())
            walk_streak_of_tries(row);
    }
    if (row->make_ready != NULL && !lacks_tries())
        walk_streak(row);
    race(row, CANCEL, "cancelled while it ends", &random);
    race(row, CANCEL_BY_THREAD, "cancelled by a thread while it ends", &random);
    if (!(row->traits & NO_DEADLINE))
        race(row, OWN_DEADLINE, "timed out while it ends", &random);
    return 0;
}

/* The test of a row: *state is the row. */
static void play_row(void **state)
{
    const struct row *row = *state;
    int before = count_descriptors();

    if (row->is_missing != NULL && row->is_missing())
        skip();
    now_playing.row = row;
    scene.cast = FIBERS;
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, walk_on_fibers, (void *)row), 0);
    if (scene.unmet == NULL && !(row->traits & FIBERS_ONLY))
        walk_thread(row);
    if (scene.unmet != NULL)
        fail_msg("%s, %s, at wait or round %d, steps %d, result %d: line %d: expected %s", row->name, now_playing.walk, now_playing.k,
                 now_playing.steps, now_playing.rc, scene.unmet_line, scene.unmet);
    assert_int_equal(count_descriptors(), before);
}

/* Run the tests of `rows`, or only the one that is named on the command line, and then these others. */
static inline int run_rows(const char *name, const struct row *rows, size_t row_count, const struct CMUnitTest *others, size_t other_count,
                           int argc, char **argv)
{
    struct CMUnitTest tests[128];
    size_t n = 0;

    assert_true(row_count + other_count <= sizeof tests / sizeof *tests);
    race_seed = test_seed();
    for (size_t i = 0; i < row_count; i++)
        if (argc < 2 || strcmp(argv[1], rows[i].name) == 0)
            tests[n++] = (struct CMUnitTest){ rows[i].name, play_row, NULL, NULL, (void *)&rows[i] };
    for (size_t i = 0; i < other_count; i++)
        if (argc < 2 || strcmp(argv[1], others[i].name) == 0)
            tests[n++] = others[i];
    return _cmocka_run_group_tests(name, tests, n, make_temp_dir, remove_temp_dir);
}

#endif
