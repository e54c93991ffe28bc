/* stress_sync.c - events and wait groups: sets, resets and timeouts that race, and memory that is given back as soon as nobody waits. */
#include "../scenario.h"

enum {
    ROUNDS = 150,
    WAITERS_MAX = 12,
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
    struct part waiters[WAITERS_MAX], releasers[3];

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t random = mix(seed + round);
        struct shared *s = calloc(1, sizeof *s);
        int count = 1 + below(&random, WAITERS_MAX), dones = on_event ? 1 : 1 + below(&random, 3), last = 0;

        s->waiters = count;
        sley_waitgroup_add(&s->w, dones);
        for (int i = 0; i < count + dones; i++) {
            struct part *p = i < count ? &waiters[i] : &releasers[i - count];
            *p = (struct part){ .shared = s, .on_event = on_event, .random = mix(random + i) };
            if (i > 0 && i < count && below(&random, 2)) /* the first outlives the release */
                p->after = 1 + below(&random, 60) * SLEY_US;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(event_stress_may_die_with_the_last_wait),
        PLAYED(waitgroup_stress_may_die_with_the_last_wait),
        PLAYED(event_stress_pulses_let_pass_only_those_that_waited),
        PLAYED(waitgroup_stress_rounds_let_pass_only_those_that_waited),
        PLAYED(event_stress_set_wakes_nobody_twice),
        PLAYED(waitgroup_stress_zero_wakes_nobody_twice),
    };

    seed = test_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
