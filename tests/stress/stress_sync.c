/* stress_sync.c - all that src/sync has: wakes, timeouts and cancels that race, and memory that is given back as soon as nobody waits. */
#include "../scenario.h"

#include "sync/mutex.h"

enum {
    ROUNDS = 150,
    WAITERS_MAX = 12,
    FULL_BATCH = SL_WAKE_ALL_BATCH + 3, /* some are not woken under the first hold of the lock; or just all of them are */
    PASSES = 300,
    CROWD = SL_WAKE_ALL_BATCH + 16, /* not woken under one hold of the lock */
    OPENINGS = 40
};

static uint64_t seed;

/* --- an event or a group of its own for every round, freed by the last that waited -------------------------------------------- */

struct shared {
    sley_event e;
    sley_waitgroup w;
    _Atomic(int) waiters;
};

struct part {
    struct actor actor;
    struct shared *shared;
    int on_event;
    sley_time after; /* 0: wait for ever */
    uint64_t random;
};

static int wait_and_leave(void *arg)
{
    struct part *p = arg;
    struct shared *s = p->shared;
    sley_time deadline = p->after > 0 ? sley_after(p->after) : SLEY_FOREVER;
    int rc = p->on_event ? sley_event_wait(&s->e, deadline) : sley_waitgroup_wait(&s->w, deadline);

    EXPECT(rc == 0 || (rc == -ETIMEDOUT && p->after > 0));
    if (--s->waiters == 0) {
        memset(s, 0xee, sizeof *s);
        return 1; /* the round frees it, once nothing has been written there */
    }
    return 0;
}

static int release(void *arg)
{
    struct part *p = arg;

    for (uint32_t n = below(&p->random, 4); n > 0; n--)
        give_way();
    if (p->on_event)
        sley_event_set(&p->shared->e);
    else
        sley_waitgroup_done(&p->shared->w);
    return 0;
}

static void rounds(int on_event)
{
    struct part waiters[FULL_BATCH], releasers[3];

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t random = mix(seed + round);
        struct shared *s = calloc(1, sizeof *s);
        int full = round % 8 == 0;
        int count = full ? FULL_BATCH - below(&random, 5) : 1 + below(&random, WAITERS_MAX);
        int dones = on_event ? 1 : 1 + below(&random, 3), last = 0;

        s->waiters = count;
        sley_waitgroup_add(&s->w, dones);
        for (int i = 0; i < count + dones; i++) {
            struct part *p = i < count ? &waiters[i] : &releasers[i - count];
            *p = (struct part){ .shared = s, .on_event = on_event, .random = mix(random + i) };
            if (!full && i > 0 && i < count && below(&random, 2)) /* the first outlives the release */
                p->after = 1 + below(&random, 60) * SLEY_US;
            for (int k = 0; full && i == count && k < count; k++)
                actor_waits(&waiters[k].actor);
            actor_start_as(&p->actor, scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && below(&random, 2)),
                           i < count ? wait_and_leave : release, p);
        }
        for (int i = 0; i < count; i++)
            last += actor_result(&waiters[i].actor);
        for (int i = 0; i < dones; i++)
            EXPECT(actor_result(&releasers[i].actor) == 0);
        EXPECT(last == 1 && is_untouched(s, sizeof *s));
        free(s);
    }
}

SCENARIO(event_stress_may_die_with_the_last_wait)
{
    rounds(1);
}

SCENARIO(waitgroup_stress_may_die_with_the_last_wait)
{
    rounds(0);
}

/* --- one gate opened and shut again and again ---------------------------------------------------------------------------------- */

static struct {
    sley_event e;
    sley_waitgroup w;
    _Atomic(unsigned) changes; /* odd: about to be opened, or open; even: shut again */
    _Atomic(int) waiting;
} gate;

static int pass_through(void *arg)
{
    struct part *p = arg;

    for (int i = 0; i < PASSES;) {
        unsigned before = gate.changes;
        sley_time deadline = below(&p->random, 3) ? SLEY_FOREVER : sley_after(below(&p->random, 40) * SLEY_US);
        int rc = p->on_event ? sley_event_wait(&gate.e, deadline) : sley_waitgroup_wait(&gate.w, deadline);

        EXPECT(rc == 0 || (rc == -ETIMEDOUT && deadline != SLEY_FOREVER));
        EXPECT(rc < 0 || before % 2 == 1 || gate.changes != before); /* who found it shut has seen it opened */
        i += rc == 0;
        if (below(&p->random, 4) == 0)
            give_way();
    }
    gate.waiting--;
    return 0;
}

static void opened_and_shut(int on_event)
{
    struct part p[WAITERS_MAX];
    uint64_t random = mix(seed);

    memset(&gate, 0, sizeof gate);
    gate.waiting = WAITERS_MAX;
    sley_waitgroup_add(&gate.w, 1);
    for (int i = 0; i < WAITERS_MAX; i++) {
        p[i] = (struct part){ .on_event = on_event, .random = mix(random + i) };
        actor_start_as(&p[i].actor, scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && i % 2), pass_through, &p[i]);
    }
    while (gate.waiting > 0) {
        gate.changes++;
        if (on_event) {
            sley_event_set(&gate.e);
            sley_event_reset(&gate.e);
        } else {
            sley_waitgroup_done(&gate.w);
            sley_waitgroup_add(&gate.w, 1);
        }
        gate.changes++;
        give_way();
    }
    for (int i = 0; i < WAITERS_MAX; i++)
        EXPECT(actor_result(&p[i].actor) == 0);
    sley_event_fini(&gate.e);
    sley_waitgroup_fini(&gate.w);
}

SCENARIO(event_stress_pulses_let_pass_only_those_that_waited)
{
    opened_and_shut(1);
}

SCENARIO(waitgroup_stress_rounds_let_pass_only_those_that_waited)
{
    opened_and_shut(0);
}

/* --- a crowd that shuts the gate and waits again while others of it are still being woken --------------------------------------- */

static struct {
    _Atomic(int) openings; /* begun */
    _Atomic(int) shut;     /* openings after which somebody has shut the gate */
    _Atomic(int) passed;   /* by all, in all openings */
} crowd;

static int pass_and_shut(void *arg)
{
    struct part *p = arg;

    for (int i = 1; i <= OPENINGS; i++) {
        int before = i - 1;

        EXPECT((p->on_event ? sley_event_wait(&gate.e, SLEY_FOREVER) : sley_waitgroup_wait(&gate.w, SLEY_FOREVER)) == 0);
        EXPECT(crowd.openings == i); /* once for every opening */
        if (p->on_event) {
            sley_event_reset(&gate.e);
        } else if (crowd.shut == before && sl_cas_acq_rel(&crowd.shut, &before, i)) {
            sley_waitgroup_add(&gate.w, 1);
            crowd.passed++;
            continue;
        } else {
            while (sley_waitgroup_wait(&gate.w, SLEY_NOW) == 0) /* until that one has */
                give_way();
        }
        crowd.passed++;
    }
    return 0;
}

static void shut_by_the_crowd(int on_event)
{
    static struct part p[CROWD];

    memset(&gate, 0, sizeof gate);
    memset(&crowd, 0, sizeof crowd);
    sley_waitgroup_add(&gate.w, 1);
    for (int i = 0; i < CROWD; i++) {
        p[i] = (struct part){ .on_event = on_event };
        actor_start_as(&p[i].actor, scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && i % 2), pass_and_shut, &p[i]);
    }
    for (int opening = 1; opening <= OPENINGS; opening++) {
        for (int i = 0; i < CROWD; i++)
            actor_waits(&p[i].actor);
        crowd.openings++;
        if (on_event)
            sley_event_set(&gate.e);
        else
            sley_waitgroup_done(&gate.w);
        while (crowd.passed < opening * CROWD)
            give_way();
    }
    for (int i = 0; i < CROWD; i++)
        EXPECT(actor_result(&p[i].actor) == 0);
}

SCENARIO(event_stress_set_wakes_nobody_twice)
{
    shut_by_the_crowd(1);
}

SCENARIO(waitgroup_stress_zero_wakes_nobody_twice)
{
    shut_by_the_crowd(0);
}

/* --- locks, conditions, semaphores, barriers: actors that do one thing again and again, with every kind of deadline ------------- */

enum { ACTORS = 8, TURNS = 400 };

static void cast_of_many(struct actor *a, int n, sley_fn *fn, struct part *p)
{
    uint64_t random = mix(seed);

    for (int i = 0; i < n; i++) {
        p[i] = (struct part){ .random = mix(random + i) };
        actor_start_as(&a[i], scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && i % 2), fn, &p[i]);
    }
    for (int i = 0; i < n; i++)
        EXPECT(actor_result(&a[i]) == 0);
}

/* For ever, now, or soon; a soon may be longer than a mutex lets one wait before it is handed over. */
static sley_time some_deadline(uint64_t *random)
{
    switch (below(random, 4)) {
    case 0:
        return SLEY_NOW;
    case 1:
        return sley_after(below(random, 60) * SLEY_US);
    case 2:
        return sley_after((1 + below(random, 2)) * SLEY_MS);
    default:
        return SLEY_FOREVER;
    }
}

static void some_work(uint64_t *random)
{
    sley_time end;

    switch (below(random, 16)) {
    case 0:
        give_way();
        break;
    case 1:
        for (end = sley_after(below(random, 20) * SLEY_US); sley_now() < end;)
            ;
        break;
    case 2:
        EXPECT(sley_sleep(below(random, 30) * SLEY_US) == 0);
        break;
    }
}

static struct {
    sley_mutex m;
    sley_cond c;
    sley_rwlock l;
    sley_sem s;
    sley_barrier b;
    int turns, tokens;                     /* under the lock in question */
    _Atomic(int) writers, readers, turns_taken;
    _Atomic(int) rounds, passed;
} all;

static int lock_and_unlock(void *arg)
{
    struct part *p = arg;

    for (int i = 0; i < TURNS; i++) {
        sley_time deadline = some_deadline(&p->random);
        int rc = sley_mutex_lock(&all.m, deadline);

        EXPECT(rc == 0 || (rc == -ETIMEDOUT && deadline != SLEY_FOREVER));
        if (rc == 0) {
            EXPECT(++all.writers == 1);
            all.turns++;
            some_work(&p->random);
            EXPECT(--all.writers == 0);
            sley_mutex_unlock(&all.m);
            all.turns_taken++;
        }
        if (below(&p->random, 4) == 0)
            some_work(&p->random);
    }
    return 0;
}

SCENARIO(mutex_stress_lets_one_in_and_forgets_nobody)
{
    struct actor a[ACTORS];
    struct part p[ACTORS];
    struct sl_mutex *m = sl_mutex_of(&all.m);

    memset(&all, 0, sizeof all);
    cast_of_many(a, ACTORS, lock_and_unlock, p);
    EXPECT(all.turns == all.turns_taken);
    EXPECT(m->owner == NULL && m->waiting == SL_MUTEX_NOBODY && !m->woken && m->waiters.head == NULL);
    sley_mutex_fini(&all.m);
}

struct counted {
    sley_mutex m;
    sley_rwlock l;
    int users;
};

static int use_and_give_back(void *arg)
{
    struct part *p = arg;
    struct counted *o = (struct counted *)(void *)p->shared;
    int by_mutex = p->on_event, left;

    for (int i = below(&p->random, 3); i > 0; i--) {
        sley_time deadline = some_deadline(&p->random);

        if ((by_mutex ? sley_mutex_lock(&o->m, deadline) : sley_rwlock_rdlock(&o->l, deadline)) == 0) {
            if (below(&p->random, 2))
                give_way();
            if (by_mutex)
                sley_mutex_unlock(&o->m);
            else
                sley_rwlock_unlock(&o->l);
        }
    }
    EXPECT((by_mutex ? sley_mutex_lock(&o->m, SLEY_FOREVER) : sley_rwlock_wrlock(&o->l, SLEY_FOREVER)) == 0);
    left = --o->users;
    if (by_mutex)
        sley_mutex_unlock(&o->m);
    else
        sley_rwlock_unlock(&o->l);
    if (left == 0)
        memset(o, 0xee, sizeof *o);
    return left == 0;
}

static void counted_objects(int by_mutex)
{
    struct part p[ACTORS];

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t random = mix(seed + round);
        struct counted *o = calloc(1, sizeof *o);
        int last = 0;

        o->users = 2 + below(&random, ACTORS - 1);
        for (int i = 0, users = o->users; i < users; i++) {
            p[i] = (struct part){ .shared = (struct shared *)(void *)o, .on_event = by_mutex, .random = mix(random + i) };
            actor_start_as(&p[i].actor, scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && below(&random, 2)),
                           use_and_give_back, &p[i]);
            p[i].after = users;
        }
        for (int i = 0; i < p[0].after; i++)
            last += actor_result(&p[i].actor);
        EXPECT(last == 1 && is_untouched(o, sizeof *o));
        free(o);
    }
}

SCENARIO(mutex_stress_may_die_with_the_last_unlock)
{
    counted_objects(1);
}

SCENARIO(rwlock_stress_may_die_with_the_last_unlock)
{
    counted_objects(0);
}

static int read_or_write(void *arg)
{
    struct part *p = arg;

    for (int i = 0; i < TURNS; i++) {
        sley_time deadline = some_deadline(&p->random);
        int alone = below(&p->random, 4) == 0;
        int rc = alone ? sley_rwlock_wrlock(&all.l, deadline) : sley_rwlock_rdlock(&all.l, deadline);

        EXPECT(rc == 0 || (rc == -ETIMEDOUT && deadline != SLEY_FOREVER));
        if (rc == 0) {
            if (alone) {
                EXPECT(++all.writers == 1 && all.readers == 0);
                all.turns++;
            } else {
                all.readers++;
                EXPECT(all.writers == 0);
            }
            some_work(&p->random);
            if (alone) {
                all.writers--;
                all.turns_taken++;
            } else {
                all.readers--;
            }
            sley_rwlock_unlock(&all.l);
        }
        if (below(&p->random, 4) == 0)
            some_work(&p->random);
    }
    return 0;
}

SCENARIO(rwlock_stress_keeps_writers_alone_and_forgets_nobody)
{
    struct actor a[ACTORS];
    struct part p[ACTORS];

    memset(&all, 0, sizeof all);
    cast_of_many(a, ACTORS, read_or_write, p);
    EXPECT(all.turns == all.turns_taken);
    sley_rwlock_fini(&all.l);
}

/* A token and a signal for each; they are enough, although some signals meet waits whose time is just up. */
static int give_or_take_tokens(void *arg)
{
    struct part *p = arg;
    int gives = (p->random & 1) == 0;

    for (int i = 0; i < TURNS;) {
        EXPECT(sley_mutex_lock(&all.m, SLEY_FOREVER) == 0);
        if (gives) {
            all.tokens++;
            if (below(&p->random, 2))
                sley_cond_signal(&all.c);
            else
                gives = 2;
        } else {
            while (all.tokens == 0) {
                sley_time deadline = below(&p->random, 2) ? SLEY_FOREVER : sley_after(below(&p->random, 60) * SLEY_US);
                int rc = sley_cond_wait(&all.c, &all.m, deadline);

                EXPECT(rc == 0 || (rc == -ETIMEDOUT && deadline != SLEY_FOREVER));
            }
            all.tokens--;
        }
        sley_mutex_unlock(&all.m);
        if (gives == 2) { /* after the unlock will do as well */
            sley_cond_signal(&all.c);
            gives = 1;
        }
        i++;
        if (below(&p->random, 8) == 0)
            some_work(&p->random);
    }
    return 0;
}

SCENARIO(cond_stress_loses_no_signal)
{
    struct actor a[ACTORS];
    struct part p[ACTORS];

    memset(&all, 0, sizeof all);
    for (int i = 0; i < ACTORS; i++) {
        p[i] = (struct part){ .random = mix(seed + i) / 2 * 2 + i / 2 % 2 };
        actor_start_as(&a[i], scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && i % 2), give_or_take_tokens, &p[i]);
    }
    for (int i = 0; i < ACTORS; i++)
        EXPECT(actor_result(&a[i]) == 0);
    EXPECT(all.tokens == 0);
    sley_cond_fini(&all.c);
    sley_mutex_fini(&all.m);
}

enum { PERMITS = 3 };

static int take_and_post(void *arg)
{
    struct part *p = arg;

    for (int i = 0; i < TURNS; i++) {
        sley_time deadline = some_deadline(&p->random);
        int rc = sley_sem_wait(&all.s, deadline);

        EXPECT(rc == 0 || (rc == -ETIMEDOUT && deadline != SLEY_FOREVER));
        if (rc == 0) {
            EXPECT(++all.readers <= PERMITS);
            some_work(&p->random);
            all.readers--;
            sley_sem_post(&all.s);
        }
        if (below(&p->random, 4) == 0)
            some_work(&p->random);
    }
    return 0;
}

SCENARIO(sem_stress_keeps_the_number_of_permits)
{
    struct actor a[ACTORS];
    struct part p[ACTORS];

    memset(&all, 0, sizeof all);
    sley_sem_init(&all.s, PERMITS);
    cast_of_many(a, ACTORS, take_and_post, p);
    for (int i = 0; i < PERMITS; i++)
        EXPECT(sley_sem_wait(&all.s, SLEY_NOW) == 0);
    EXPECT(sley_sem_wait(&all.s, SLEY_NOW) == -ETIMEDOUT);
    sley_sem_fini(&all.s);
}

/* Some come for good, until there have been enough rounds, some lose patience. Whoever passes is one of as many as are asked for. */
enum { PARTIES = 3, BARRIER_ROUNDS = 200 };

static int come_and_pass(void *arg)
{
    struct part *p = arg;

    while (all.rounds < BARRIER_ROUNDS) {
        int rc = sley_barrier_wait(&all.b, sley_after(below(&p->random, 100) * SLEY_US));

        EXPECT(rc == 0 || rc == 1 || rc == -ETIMEDOUT);
        if (rc == 1)
            all.rounds++;
        if (rc >= 0)
            all.passed++;
        if (below(&p->random, 4) == 0)
            some_work(&p->random);
    }
    return 0;
}

SCENARIO(barrier_stress_lets_pass_as_many_as_are_asked_for)
{
    struct actor a[ACTORS];
    struct part p[ACTORS];

    memset(&all, 0, sizeof all);
    sley_barrier_init(&all.b, PARTIES);
    cast_of_many(a, ACTORS, come_and_pass, p);
    EXPECT(all.passed == all.rounds * PARTIES);
    sley_barrier_fini(&all.b);
}

static struct {
    sley_once once[ROUNDS];
    _Atomic(int) runs[ROUNDS];
} onces;

static int run_once(void *arg)
{
    int i = (int)(intptr_t)arg;

    onces.runs[i]++;
    if (i % 3 == 0)
        give_way();
    return i;
}

static int run_all_onces(void *arg)
{
    struct part *p = arg;

    for (int i = 0; i < ROUNDS; i++) {
        int rc;

        do
            rc = sley_once_run(&onces.once[i], run_once, (void *)(intptr_t)i, some_deadline(&p->random));
        while (rc == -ETIMEDOUT);
        EXPECT(rc == i && onces.runs[i] == 1);
    }
    return 0;
}

SCENARIO(once_stress_runs_each_once)
{
    struct actor a[ACTORS];
    struct part p[ACTORS];

    memset(&onces, 0, sizeof onces);
    cast_of_many(a, ACTORS, run_all_onces, p);
}

/* --- waits that are cancelled -------------------------------------------------------------------------------------------------- */

/* In scopes that run out of time: the semaphore keeps its permits, locks are held when they say so. */
static int be_cut_short(void *arg)
{
    struct part *p = arg;

    for (int i = 0; i < TURNS; i++) {
        sley_scope scope;
        int rc;

        sley_scope_init(&scope, sley_after(below(&p->random, 80) * SLEY_US));
        rc = sley_sem_wait(&all.s, SLEY_FOREVER);
        EXPECT(rc == 0 || rc == -ECANCELED);
        if (rc == 0) {
            EXPECT(sley_mutex_lock(&all.m, SLEY_FOREVER) == 0); /* though the scope may be cancelled by now */
            rc = sley_cond_wait(&all.c, &all.m, below(&p->random, 2) ? SLEY_FOREVER : sley_after(50 * SLEY_US));
            EXPECT(rc == 0 || rc == -ECANCELED || rc == -ETIMEDOUT);
            EXPECT(sley_mutex_lock(&all.m, SLEY_NOW) == -EDEADLK);
            sley_cond_signal(&all.c);
            sley_mutex_unlock(&all.m);
            sley_sem_post(&all.s);
        }
        rc = sley_barrier_wait(&all.b, SLEY_FOREVER);
        EXPECT(rc == 0 || rc == 1 || rc == -ECANCELED);
        if (rc >= 0)
            all.passed++;
        all.rounds += rc == 1;
        rc = sley_scope_wait(&scope, 0, SLEY_FOREVER);
        EXPECT(rc == 0 || rc == -ETIMEDOUT);
    }
    return 0;
}

static int cut_many_short(void *arg)
{
    static struct actor a[ACTORS];
    static struct part p[ACTORS];

    (void)arg;
    scene.cast = FIBERS;
    memset(&all, 0, sizeof all);
    sley_sem_init(&all.s, PERMITS);
    sley_barrier_init(&all.b, PARTIES);
    cast_of_many(a, ACTORS, be_cut_short, p);
    for (int i = 0; i < PERMITS; i++)
        EXPECT(sley_sem_wait(&all.s, SLEY_NOW) == 0);
    EXPECT(sley_sem_wait(&all.s, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(all.passed == all.rounds * PARTIES);
    sley_sem_fini(&all.s);
    sley_mutex_fini(&all.m);
    sley_cond_fini(&all.c);
    sley_barrier_fini(&all.b);
    return 0;
}

static void sync_stress_cancels_take_nothing_with_them(void **state)
{
    (void)state;
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, cut_many_short, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(event_stress_may_die_with_the_last_wait),
        PLAYED(waitgroup_stress_may_die_with_the_last_wait),
        PLAYED(event_stress_pulses_let_pass_only_those_that_waited),
        PLAYED(waitgroup_stress_rounds_let_pass_only_those_that_waited),
        PLAYED(event_stress_set_wakes_nobody_twice),
        PLAYED(waitgroup_stress_zero_wakes_nobody_twice),
        PLAYED(mutex_stress_lets_one_in_and_forgets_nobody),
        PLAYED(mutex_stress_may_die_with_the_last_unlock),
        PLAYED(rwlock_stress_may_die_with_the_last_unlock),
        PLAYED(rwlock_stress_keeps_writers_alone_and_forgets_nobody),
        PLAYED(cond_stress_loses_no_signal),
        PLAYED(sem_stress_keeps_the_number_of_permits),
        PLAYED(barrier_stress_lets_pass_as_many_as_are_asked_for),
        PLAYED(once_stress_runs_each_once),
        cmocka_unit_test(sync_stress_cancels_take_nothing_with_them),
    };

    seed = test_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
