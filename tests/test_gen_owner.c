/* test_gen_owner.c - whose a generator is: others are refused, also while they race for it; handing one over to another fiber or thread, in
 * every state and from wherever it is. */
#include "gen_parts.h"

#if defined(SL_ASAN) || defined(SL_TSAN)
enum { ROUNDS = 30 };
#else
enum { ROUNDS = 300 };
#endif

/* ---- whose it is ---- */

struct intruder {
    struct actor actor;
    sley_gen *g;
    _Atomic(int) *over;
    int refused;
};

static int try_to_resume(void *arg)
{
    struct intruder *in = arg;
    sley_gen *g = in->g;
    int v = NOTHING;

    do {
        EXPECT(sley_gen_next(g, &v) == -EALREADY && sley_gen_send(g, &v, &v) == -EALREADY && sley_gen_send(g, NULL, &v) == -EALREADY);
        EXPECT(sley_gen_throw(g, -EIO, &v) == -EALREADY && sley_gen_close(g) == -EALREADY);
        EXPECT(sley_gen_release(g) == -EALREADY && sley_gen_adopt(g) == -EALREADY && v == NOTHING);
        in->refused++;
        give_way();
    } while (!*in->over);
    return 0;
}

static void send_intruder(struct intruder *in, sley_gen *g, _Atomic(int) *over)
{
    *in = (struct intruder){ .g = g, .over = over };
    actor_start(&in->actor, try_to_resume, in);
}

static int wait_in_the_body(void *arg)
{
    int rc = 0;

    for (int i = 0; rc >= 0; i++) {
        give_way();
        rc = sley_gen_yield(&i, NULL);
    }
    return rc;
}

SCENARIO(another_is_refused_in_every_state)
{
    sley_gen *g = sley_gen_create(wait_in_the_body, NULL, sizeof(int));
    _Atomic(int) over = 1;
    struct intruder in;

    for (int state = 0; state < 3; state++) {
        if (state > 0)
            EXPECT((state == 1 ? sley_gen_next(g, NULL) == 1 : sley_gen_close(g) == 0));
        send_intruder(&in, g, &over);
        EXPECT(actor_result(&in.actor) == 0 && in.refused == 1);
    }
    sley_gen_destroy(g);
}

SCENARIO(others_who_race_for_it_are_refused)
{
    sley_gen *g = sley_gen_create(wait_in_the_body, NULL, sizeof(int));
    _Atomic(int) over = 0;
    struct intruder in[3];
    int v;

    for (int i = 0; i < 3; i++)
        send_intruder(&in[i], g, &over);
    for (int i = 0; i < ROUNDS; i++) {
        EXPECT((i % 2 ? sley_gen_next(g, &v) : sley_gen_send(g, i > 0 ? &v : NULL, &v)) == 1 && v == i);
        if (i % 5 == 0)
            give_way();
    }
    over = 1;
    for (int i = 0; i < 3; i++)
        EXPECT(actor_result(&in[i].actor) == 0 && in[i].refused > 0);
    EXPECT(sley_gen_close(g) == 0);
    sley_gen_destroy(g);
}

static int delegate_to_anothers(void *arg)
{
    struct level l = { .inner = arg };
    sley_gen *g = sley_gen_create(delegate, &l, sizeof(int));

    EXPECT(sley_gen_next(g, NULL) == -EALREADY && l.from_inner == -EALREADY);
    sley_gen_destroy(g);
    return 0;
}

SCENARIO(anothers_cannot_be_delegated_to)
{
    struct script s;
    sley_gen *g = started_script(&s, 2, 0);
    struct actor a;

    actor_start(&a, delegate_to_anothers, g);
    EXPECT(actor_result(&a) == 0 && sley_gen_state(g) == SLEY_GEN_SUSPENDED && s.yields == 1);
    sley_gen_destroy(g);
}

/* ---- handing over ---- */

struct handed {
    sley_gen *g, *inner;
    int first, n; /* values expected: n of them, from this one on; then 0, or it is handed back */
    int then_close;
};

static int take_over(void *arg)
{
    struct handed *h = arg;
    int v;

    EXPECT(sley_gen_adopt(h->g) == 0 && sley_gen_adopt(h->g) == -EALREADY);
    EXPECT(h->inner == NULL || sley_gen_adopt(h->inner) == 0);
    for (int i = 0; i < h->n; i++) {
        EXPECT(sley_gen_next(h->g, &v) == 1 && v == h->first + i);
        if (i % 3 == 0)
            give_way();
    }
    if (h->then_close)
        EXPECT(sley_gen_close(h->g) == 0);
    EXPECT(sley_gen_release(h->g) == 0 && (h->inner == NULL || sley_gen_release(h->inner) == 0));
    EXPECT(sley_gen_yield(NULL, NULL) == -EPERM);
    return 0;
}

static int hand_over(struct handed *h, int n)
{
    struct actor a;
    int rc;

    h->n = n;
    actor_start(&a, take_over, h);
    rc = actor_result(&a);
    h->first += n;
    return rc;
}

SCENARIO(a_generator_is_handed_over_in_every_state)
{
    struct script s;
    struct handed h = { .g = begin_script(&s, 20, 11) };
    int v;

    EXPECT(sley_gen_release(h.g) == 0 && sley_gen_release(h.g) == -EALREADY); /* not started */
    EXPECT(hand_over(&h, 0) == 0 && hand_over(&h, 4) == 0 && hand_over(&h, 5) == 0);
    EXPECT(sley_gen_next(h.g, &v) == -EALREADY && sley_gen_close(h.g) == -EALREADY && sley_gen_throw(h.g, -EIO, &v) == -EALREADY);
    EXPECT(sley_gen_adopt(h.g) == 0 && sley_gen_next(h.g, &v) == 1 && v == 9 && sley_gen_release(h.g) == 0);
    h.then_close = 1;
    h.first = 10;
    EXPECT(hand_over(&h, 3) == 0 && s.ends == 1 && s.say[12] == -ECANCELED);
    EXPECT(sley_gen_adopt(h.g) == 0 && sley_gen_next(h.g, &v) == 0 && sley_gen_result(h.g) == -ECANCELED); /* closed */
    EXPECT(sley_gen_release(h.g) == 0);
    sley_gen_destroy(h.g);
}

SCENARIO(one_that_is_released_is_nobodys_and_may_be_destroyed)
{
    struct script s;

    for (int started = 0; started < 2; started++) {
        sley_gen *g = begin_script(&s, 3, 0);

        EXPECT(!started || sley_gen_next(g, NULL) == 1);
        EXPECT(sley_gen_release(g) == 0);
        sley_gen_destroy(g);
        EXPECT(s.ends == started && s.say[0] == (started ? -ECANCELED : 0));
    }
}

static int adopt_in_vain(void *arg)
{
    return sley_gen_adopt(arg);
}

SCENARIO(one_that_is_not_released_cannot_be_adopted)
{
    struct script s;
    sley_gen *g = started_script(&s, 3, 0);
    struct actor a;

    EXPECT(sley_gen_adopt(g) == -EALREADY);
    actor_start(&a, adopt_in_vain, g);
    EXPECT(actor_result(&a) == -EALREADY && sley_gen_next(g, NULL) == 1);
    sley_gen_destroy(g);
}

SCENARIO(a_channel_as_a_generator_is_handed_over)
{
    sley_chan *ch = sley_chan_create(sizeof(int), 40);
    struct handed h = { .g = sley_gen_from_chan(ch) };
    int v;

    for (int i = 0; i < 40; i++)
        EXPECT(sley_chan_send(ch, &i, SLEY_FOREVER) == 0);
    for (int i = 0; i < 3; i++)
        EXPECT(sley_gen_next(h.g, &v) == 1 && v == i);
    EXPECT(sley_gen_release(h.g) == 0);
    h.first = 3;
    EXPECT(hand_over(&h, 7) == 0 && hand_over(&h, 10) == 0);
    EXPECT(sley_gen_adopt(h.g) == 0 && sley_gen_next(h.g, &v) == 1 && v == 20 && sley_gen_yield(NULL, NULL) == -EPERM);
    sley_gen_destroy(h.g);
    sley_chan_destroy(ch);
}

SCENARIO(one_that_delegates_is_handed_over_together_with_the_inner_one)
{
    struct level l = { .rc = 0 };
    struct script s;
    struct handed h = { .g = sley_gen_create(delegate, &l, sizeof(int)), .inner = begin_script(&s, 20, 5) };
    int v;

    l.inner = h.inner;
    EXPECT(sley_gen_next(h.g, &v) == 1 && v == 0 && sley_gen_next(h.g, &v) == 1 && v == 1);
    EXPECT(sley_gen_release(h.g) == 0 && sley_gen_release(h.inner) == 0);
    h.first = 2;
    EXPECT(hand_over(&h, 6) == 0 && hand_over(&h, 6) == 0);
    EXPECT(sley_gen_adopt(h.g) == 0 && sley_gen_adopt(h.inner) == 0);
    EXPECT(sley_gen_send(h.g, &(int){ 6 }, &v) == 1 && v == 14 && s.in[13] == 6 && sley_gen_yield(NULL, NULL) == -EPERM);
    sley_gen_destroy(h.g);
    sley_gen_destroy(h.inner);
}

static int follow_on_a_larger_stack(void *arg)
{
    EXPECT(use_stack(400 << 10, 1) == 0);
    return follow(arg);
}

static int call_and_follow(void *arg)
{
    return sley_on_big_stack(follow_on_a_larger_stack, arg, 1 << 20);
}

struct begun {
    sley_gen *g;
    struct script s;
    int stop;
};

static int begin_and_release(void *arg)
{
    struct begun *b = arg;
    int v;

    b->s = (struct script){ .n = 12, .rc = 2 };
    b->g = sley_gen_create(call_and_follow, &b->s, sizeof v);
    for (int i = 0; i < b->stop; i++)
        EXPECT(sley_gen_next(b->g, &v) == 1 && v == i);
    return sley_gen_release(b->g);
}

/* The call returns on another fiber or thread than it was made on, which may be in another scope, or have ended. */
SCENARIO(one_that_is_inside_a_call_on_a_larger_stack_is_handed_over)
{
    for (int stop = 1; stop < 8; stop++) {
        struct begun b = { .stop = stop };
        struct handed h = { .first = stop };
        struct actor first;
        int v;

        if (stop % 3 == 0) {
            actor_start(&first, begin_and_release, &b);
            EXPECT(actor_result(&first) == 0);
        } else {
            EXPECT(begin_and_release(&b) == 0);
        }
        h.g = b.g;
        if (sley_self() != 0) {
            sley_scope s;

            sley_scope_init(&s, SLEY_FOREVER);
            EXPECT(hand_over(&h, 2) == 0);
            h.then_close = stop % 2;
            EXPECT(hand_over(&h, h.then_close ? 1 : 11 - stop - 2) == 0);
            EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
        } else {
            EXPECT(hand_over(&h, 2) == 0);
            h.then_close = stop % 2;
            EXPECT(hand_over(&h, h.then_close ? 1 : 11 - stop - 2) == 0);
        }
        EXPECT(sley_gen_adopt(h.g) == 0);
        if (!h.then_close)
            EXPECT(sley_gen_next(h.g, &v) == 1 && v == 11 && sley_gen_next(h.g, &v) == 0 && sley_gen_result(h.g) == 2);
        else
            EXPECT(sley_gen_next(h.g, &v) == 0 && sley_gen_result(h.g) == -ECANCELED);
        sley_gen_destroy(h.g);
    }
}

struct with_inner {
    struct script s;
    sley_gen *inner;
    int said; /* what resuming the inner one has returned, after the hand-over */
};

static int make_one_and_use_it_later(void *arg)
{
    struct with_inner *w = arg;
    int v;

    w->inner = started_script(&w->s, 5, 0);
    EXPECT(sley_gen_yield(&(int){ 0 }, NULL) == 0);
    w->said = sley_gen_next(w->inner, &v);
    return sley_gen_yield(&(int){ 1 }, NULL);
}

SCENARIO(what_a_body_has_made_stays_with_the_first_owner)
{
    struct with_inner w = { .said = NOTHING };
    struct handed h = { .g = sley_gen_create(make_one_and_use_it_later, &w, sizeof(int)), .first = 1, .then_close = 1 };
    int v;

    EXPECT(sley_gen_next(h.g, &v) == 1 && v == 0 && sley_gen_release(h.g) == 0);
    EXPECT(hand_over(&h, 1) == 0 && w.said == -EALREADY);
    EXPECT(sley_gen_next(w.inner, &v) == 1 && v == 1);
    sley_gen_destroy(w.inner);
    sley_gen_destroy(h.g);
}

static int resume_in_another_runtime(void *arg)
{
    struct handed *h = arg;
    int v;

    EXPECT(sley_gen_adopt(h->g) == (h->n > 0 ? -EXDEV : 0));
    if (h->n == 0) {
        EXPECT(sley_gen_next(h->g, &v) == 1 && v == 0);
        EXPECT(sley_gen_close(h->g) == 0 && sley_gen_release(h->g) == 0);
    }
    return 0;
}

static void *run_another_runtime(void *arg)
{
    EXPECT(sley_run(&(sley_options){ .workers = 1 }, resume_in_another_runtime, arg) == 0);
    return NULL;
}

SCENARIO(one_that_has_started_does_not_change_the_runtime)
{
    for (int started = 0; started < 2; started++) {
        struct script s;
        struct handed h = { .g = begin_script(&s, 3, 0), .n = started };
        pthread_t thread;

        EXPECT(!started || sley_gen_next(h.g, NULL) == 1);
        EXPECT(sley_gen_release(h.g) == 0);
        EXPECT(pthread_create(&thread, NULL, run_another_runtime, &h) == 0);
        pthread_join(thread, NULL);
        EXPECT(sley_gen_adopt(h.g) == 0 && sley_gen_state(h.g) == (started ? SLEY_GEN_SUSPENDED : SLEY_GEN_CLOSED));
        sley_gen_destroy(h.g);
    }
}

static void *adopt_on_a_thread(void *arg)
{
    struct handed *h = arg;

    EXPECT(sley_gen_adopt(h->g) == (h->n > 0 ? -EXDEV : 0));
    EXPECT(h->n > 0 || (sley_gen_next(h->g, NULL) == 1 && sley_gen_release(h->g) == 0));
    return NULL;
}

static void *destroy_on_a_thread(void *arg)
{
    sley_gen_destroy(arg);
    return NULL;
}

SCENARIO(one_that_has_started_on_a_fiber_does_not_go_on_on_a_thread_nor_the_other_way_round)
{
    struct script s;
    struct handed h = { .g = started_script(&s, 3, 0), .n = 1 };
    pthread_t thread;

    EXPECT(sley_gen_release(h.g) == 0);
    EXPECT(pthread_create(&thread, NULL, adopt_on_a_thread, &h) == 0);
    pthread_join(thread, NULL);
    EXPECT(sley_gen_adopt(h.g) == 0 && sley_gen_next(h.g, NULL) == 1);
    sley_gen_destroy(h.g);

    h = (struct handed){ .g = begin_script(&s, 3, 0) };
    EXPECT(sley_gen_release(h.g) == 0);
    EXPECT(pthread_create(&thread, NULL, adopt_on_a_thread, &h) == 0); /* not started: it begins there, and stays there */
    pthread_join(thread, NULL);
    EXPECT(sley_gen_adopt(h.g) == -EXDEV && sley_gen_adopt(h.g) == -EXDEV);
    EXPECT(pthread_create(&thread, NULL, destroy_on_a_thread, h.g) == 0);
    pthread_join(thread, NULL);
    EXPECT(s.ends == 1);
}

static int pass_along(void *arg)
{
    struct relay *r = arg;
    sley_gen *g;
    int rc, v;

    while ((rc = sley_chan_recv(r->in, &g, SLEY_FOREVER)) > 0) {
        EXPECT(sley_gen_adopt(g) == 0);
        rc = sley_gen_next(g, &v);
        if (rc > 0)
            sl_add_acq_rel(&r->seen, 1);
        EXPECT(sley_gen_release(g) == 0);
        if (rc == 0) { /* it has ended */
            sley_gen_destroy(g);
            if (sl_sub_acq_rel(&r->left, 1) == 1)
                sley_chan_close(r->in);
        } else if (sley_chan_send(r->in, &g, SLEY_FOREVER) < 0) {
            return -EBADMSG;
        }
    }
    return rc;
}

/* A channel orders the two sides: many generators go round among several fibers or threads. */
SCENARIO(generators_go_round_through_a_channel)
{
    enum { GENERATORS = 12, PASSERS = 4, VALUES = 25 };
    struct relay r = { .in = sley_chan_create(sizeof(sley_gen *), GENERATORS), .left = GENERATORS };
    struct script s[GENERATORS];
    struct actor passer[PASSERS];

    for (int i = 0; i < GENERATORS; i++) {
        sley_gen *g = begin_script(&s[i], VALUES, 0);

        EXPECT(sley_gen_release(g) == 0 && sley_chan_send(r.in, &g, SLEY_FOREVER) == 0);
    }
    for (int i = 0; i < PASSERS; i++)
        actor_start(&passer[i], pass_along, &r);
    for (int i = 0; i < PASSERS; i++)
        EXPECT(actor_result(&passer[i]) == 0);
    EXPECT(r.seen == GENERATORS * VALUES && r.left == 0);
    for (int i = 0; i < GENERATORS; i++)
        EXPECT(s[i].ends == 1 && s[i].begins == 1);
    sley_chan_destroy(r.in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(another_is_refused_in_every_state),
        PLAYED(others_who_race_for_it_are_refused),
        PLAYED(anothers_cannot_be_delegated_to),
        ON_BOTH(a_generator_is_handed_over_in_every_state),
        ON_BOTH(one_that_is_released_is_nobodys_and_may_be_destroyed),
        PLAYED(one_that_is_not_released_cannot_be_adopted),
        ON_BOTH(a_channel_as_a_generator_is_handed_over),
        ON_BOTH(one_that_delegates_is_handed_over_together_with_the_inner_one),
        ON_BOTH(one_that_is_inside_a_call_on_a_larger_stack_is_handed_over),
        ON_BOTH(what_a_body_has_made_stays_with_the_first_owner),
        ON_BOTH(one_that_has_started_does_not_change_the_runtime),
        ON_FIBERS(one_that_has_started_on_a_fiber_does_not_go_on_on_a_thread_nor_the_other_way_round),
        ON_BOTH(generators_go_round_through_a_channel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
