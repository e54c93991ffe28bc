/* test_gen_misuse.c - what one must not do with generators: each bug ends the program with one line that names fiber and call; and a body
 * that overflows its stack is reported as the generator, and the fiber, that it is. Each case is played by a child. */
#include <sley.h>

#include "child.h"

#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>

#include "ctx/stack.h"
#include "sched/park.h"

/* ---- bodies ---- */

static int yield_for_ever(void *arg)
{
    int rc;

    (void)arg;
    while ((rc = sley_gen_yield(NULL, NULL)) >= 0)
        ;
    return rc;
}

static sley_gen *begin(sley_fn *body, void *arg)
{
    sley_gen *g = sley_gen_create(body, arg, 0);

    if (g == NULL || sley_gen_next(g, NULL) != 1)
        _exit(99);
    return g;
}

/* ---- bugs: each aborts ---- */

static int destroy_what_it_is_given(void *arg)
{
    sley_gen_destroy(*(sley_gen **)arg);
    return 0;
}

static int destroy_itself(void *arg)
{
    sley_gen *g = sley_gen_create(destroy_what_it_is_given, &g, 0);

    (void)arg;
    sley_fiber_set_name("suicide");
    return sley_gen_next(g, NULL);
}


static int resume_the_inner_one(void *arg)
{
    return sley_gen_next(*(sley_gen **)arg, NULL);
}

static int destroy_an_outer_one(void *arg)
{
    sley_gen *outer, *inner = sley_gen_create(destroy_what_it_is_given, &outer, 0);

    (void)arg;
    outer = sley_gen_create(resume_the_inner_one, &inner, 0);
    return sley_gen_next(outer, NULL);
}

static int destroy_by_name(void *arg)
{
    sley_fiber_set_name("thief");
    return destroy_what_it_is_given(arg);
}

static int let_another_destroy(void *arg)
{
    sley_gen *g = arg != NULL ? sley_gen_create(yield_for_ever, NULL, 0) : begin(yield_for_ever, NULL);
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    sley_go(destroy_by_name, &g);
    return sley_scope_wait(&s, 0, SLEY_FOREVER);
}

static int let_another_destroy_an_unstarted_one(void *arg)
{
    return let_another_destroy(&arg);
}

static void *destroy_on_a_thread(void *arg)
{
    sley_yield(); /* a thread that has waited has a block, so it can be named */
    sley_gen_destroy(arg);
    return NULL;
}

static int let_a_thread(sley_gen *g)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, destroy_on_a_thread, g) == 0)
        pthread_join(thread, NULL);
    return 1;
}

static int let_a_thread_destroy(void *arg)
{
    (void)arg;
    return let_a_thread(begin(yield_for_ever, NULL));
}

static int let_a_thread_destroy_a_released_one(void *arg)
{
    sley_gen *g = begin(yield_for_ever, NULL);

    (void)arg;
    if (sley_gen_release(g) < 0)
        return 1;
    return let_a_thread(g);
}

static __attribute__((noinline)) int open_and_forget(void *arg)
{
    static sley_scope s;

    (void)arg;
    sley_scope_init(&s, SLEY_FOREVER);
    return 0;
}

static int begin_a_shield(void *arg)
{
    (void)arg;
    sley_shield_begin();
    return 0;
}

static int shield_and_yield(void *arg)
{
    begin_a_shield(arg);
    return yield_for_ever(arg);
}

static int leave_a_scope(void *arg)
{
    sley_gen *g = sley_gen_create(open_and_forget, NULL, 0);

    (void)arg;
    sley_fiber_set_name("forgetful");
    return sley_gen_next(g, NULL);
}

static int leave_a_shield(void *arg)
{
    sley_gen *g = sley_gen_create(begin_a_shield, NULL, 0);

    (void)arg;
    return sley_gen_next(g, NULL);
}

static int leave_a_shield_over_a_yield(void *arg)
{
    (void)arg;
    return sley_gen_close(begin(shield_and_yield, NULL));
}

static int end_a_shield(void *arg)
{
    (void)arg;
    sley_shield_end();
    return 0;
}

static int end_a_shield_of_the_consumer(void *arg)
{
    sley_gen *g = sley_gen_create(end_a_shield, NULL, 0);

    (void)arg;
    sley_shield_begin();
    return sley_gen_next(g, NULL);
}

static int end_a_shield_of_the_body(void *arg)
{
    (void)arg;
    begin(shield_and_yield, NULL);
    sley_shield_end();
    return 1;
}

static int close_what_it_is_given(void *arg)
{
    return sley_scope_wait(arg, 0, SLEY_FOREVER);
}

static int close_the_scope_of_the_consumer(void *arg)
{
    sley_scope s;
    sley_gen *g;

    (void)arg;
    sley_scope_init(&s, SLEY_FOREVER);
    g = sley_gen_create(close_what_it_is_given, &s, 0);
    return sley_gen_next(g, NULL);
}

static int close_it_with_one_of_its_own_open(void *arg)
{
    sley_scope own;

    sley_scope_init(&own, SLEY_FOREVER);
    return sley_scope_wait(arg, 0, SLEY_FOREVER);
}

static int close_the_scope_of_the_consumer_from_one_inside(void *arg)
{
    sley_scope s;
    sley_gen *g;

    (void)arg;
    sley_scope_init(&s, SLEY_FOREVER);
    g = sley_gen_create(close_it_with_one_of_its_own_open, &s, 0);
    return sley_gen_next(g, NULL);
}

static int open_and_yield(void *arg)
{
    sley_scope_init(arg, SLEY_FOREVER);
    return yield_for_ever(NULL);
}

static sley_scope of_the_body;

static int close_the_scope_of_the_body(void *arg)
{
    (void)arg;
    begin(open_and_yield, &of_the_body);
    return sley_scope_wait(&of_the_body, 0, SLEY_FOREVER);
}

static int leave_a_scope_over_a_yield(void *arg)
{
    sley_gen *g = begin(open_and_yield, &of_the_body);
    sley_scope s;

    (void)arg;
    sley_scope_init(&s, SLEY_FOREVER); /* that the consumer has one open is no matter */
    return sley_gen_close(g);
}

static int open_and_yield_on(void *arg)
{
    sley_scope_init(arg, SLEY_FOREVER);
    for (;;)
        if (sley_gen_yield(NULL, NULL) == 1)
            return 0;
}

static int shield_and_yield_on(void *arg)
{
    (void)arg;
    sley_shield_begin();
    for (;;)
        if (sley_gen_yield(NULL, NULL) == 1)
            return 0;
}

static int destroy_one_that_yields_on_with_a_scope(void *arg)
{
    (void)arg;
    sley_gen_destroy(begin(open_and_yield_on, &of_the_body));
    return 1;
}

static int end_a_scope_of_one_that_yields_on_with_a_shield(void *arg)
{
    sley_scope s;

    (void)arg;
    sley_scope_init(&s, SLEY_FOREVER);
    begin(shield_and_yield_on, NULL);
    return sley_scope_wait(&s, 0, SLEY_FOREVER);
}

static int begin_54_shields(void *arg)
{
    for (int i = 0; i < 54; i++)
        sley_shield_begin();
    return yield_for_ever(arg);
}

static int have_255_shields_with_the_bodys(void *arg)
{
    sley_gen *g = begin(begin_54_shields, NULL);

    (void)arg;
    for (int i = 0; i < 201; i++)
        sley_shield_begin();
    return sley_gen_next(g, NULL);
}

static int begin_201_shields(void *arg)
{
    for (int i = 0; i < 201; i++)
        sley_shield_begin();
    return yield_for_ever(arg);
}

static int begin_255_shields_in_the_body(void *arg)
{
    sley_gen *g = sley_gen_create(begin_201_shields, NULL, 0);

    (void)arg;
    for (int i = 0; i < 54; i++)
        sley_shield_begin();
    return sley_gen_next(g, NULL);
}

static const struct {
    const char *name;
    sley_fn *fn;
    const char *says[2]; /* the fiber's name, where it has one; the call and what is wrong */
} bugs[] = {
    { "itself", destroy_itself, { "\"suicide\"", "sley_gen_destroy: the generator runs\n" } },
    { "outer", destroy_an_outer_one, { "", "sley_gen_destroy: the generator runs\n" } },
    { "anothers", let_another_destroy, { "\"thief\"", "sley_gen_destroy: the generator belongs to another fiber\n" } },
    { "anothers-unstarted", let_another_destroy_an_unstarted_one,
      { "\"thief\"", "sley_gen_destroy: the generator belongs to another fiber\n" } },
    { "threads", let_a_thread_destroy, { "plain thread", "sley_gen_destroy: the generator belongs to another fiber\n" } },
    { "threads-released", let_a_thread_destroy_a_released_one,
      { "plain thread", "sley_gen_destroy: the generator was released in another runtime\n" } },
    { "left-scope", leave_a_scope, { "\"forgetful\"", "sley_gen_create: the body has returned with a scope or a shield open\n" } },
    { "left-shield", leave_a_shield, { "", "sley_gen_create: the body has returned with a scope or a shield open\n" } },
    { "left-shield-later", leave_a_shield_over_a_yield, { "", "sley_gen_create: the body has returned with a scope or a shield open\n" } },
    { "consumers-shield", end_a_shield_of_the_consumer, { "", "sley_shield_end: the generator's body has begun no shield\n" } },
    { "bodys-shield", end_a_shield_of_the_body, { "", "sley_shield_end: no shield is open in this scope\n" } },
    { "consumers-scope", close_the_scope_of_the_consumer, { "", "sley_scope_wait: the generator's body has not opened the scope\n" } },
    { "consumers-scope-inside", close_the_scope_of_the_consumer_from_one_inside,
      { "", "sley_scope_wait: a scope opened inside it is still open" } },
    { "bodys-scope", close_the_scope_of_the_body, { "", "sley_scope_wait: a scope opened inside it is still open" } },
    { "left-scope-later", leave_a_scope_over_a_yield,
      { "", "sley_gen_create: the body has returned with a scope or a shield open\n" } },
    { "yields-on", destroy_one_that_yields_on_with_a_scope,
      { "", "sley_gen_destroy: the body yields while it is closed, with a scope or a shield open\n" } },
    { "yields-on-shield", end_a_scope_of_one_that_yields_on_with_a_shield,
      { "", "sley_gen_destroy: the body yields while it is closed, with a scope or a shield open\n" } },
    { "shields", have_255_shields_with_the_bodys, { "", "sley_gen_next: 254 shields are open\n" } },
    { "shields-inside", begin_255_shields_in_the_body, { "", "sley_shield_begin: 254 shields are open\n" } },
};

static void every_bug_aborts_and_names_fiber_and_call(void **state)
{
    struct child c;

    (void)state;
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++) {
        run_child(&c, bugs[i].name, NULL);
        if (!WIFSIGNALED(c.status) || WTERMSIG(c.status) != SIGABRT)
            fail_msg("%s: status %d, said \"%s\"", bugs[i].name, c.status, c.said);
        assert_said(&c, bugs[i].says[0]);
        assert_said(&c, bugs[i].says[1]);
        assert_int_equal(lines_of(c.said), 1);
    }
}

/* ---- not bugs, though they look like the above ---- */

static int be_allowed(void *arg)
{
    sley_gen *outer, *inner = begin(yield_for_ever, NULL), *many;

    (void)arg;
    outer = sley_gen_create(destroy_what_it_is_given, &inner, 0); /* a suspended one, in the body of another */
    if (sley_gen_next(outer, NULL) != 0)
        return 2;
    sley_gen_destroy(outer);
    many = begin(begin_54_shields, NULL);
    for (int i = 0; i < 200; i++)
        sley_shield_begin();
    if (sley_gen_next(many, NULL) != 1 || sl_current()->shields != 200) /* 254 in all */
        return 3;
    for (int i = 0; i < 200; i++)
        sley_shield_end();
    _exit(42); /* the body leaves its shields */
}

static void what_is_allowed_goes_on(void **state)
{
    struct child c;

    (void)state;
    run_child(&c, "allowed", NULL);
    assert_true(WIFEXITED(c.status));
    assert_int_equal(WEXITSTATUS(c.status), 42);
    assert_string_equal(c.said, "");
}

/* ---- overflow ---- */

#if !defined(SL_ASAN) && !defined(SL_TSAN)
__attribute__((noinline)) static int without_end(volatile char *above)
{
    volatile char frame[512];

    frame[0] = above[0];
    sley_yield(); /* so that it overflows on whatever worker */
    return frame[0] == 0 ? without_end(frame) + frame[0] : 0;
}

static int overflow(void *arg)
{
    volatile char first = 0;

    sley_gen_yield(NULL, NULL);
    (void)arg;
    return without_end(&first);
}

static int overflow_in_a_call(void *arg)
{
    volatile char first = 0;

    (void)arg;
    return without_end(&first);
}

static int call_and_overflow(void *arg)
{
    return sley_on_big_stack(overflow_in_a_call, arg, 64 << 10);
}

static int overflow_by_name(void *arg)
{
    sley_gen *g = begin(overflow, arg);

    sley_fiber_set_name("recursive"); /* the name that it has then */
    return sley_gen_next(g, NULL);
}

static int overflow_inside(void *arg)
{
    sley_gen *inner = begin(overflow, arg), *outer = sley_gen_create(resume_the_inner_one, &inner, 0);

    sley_fiber_set_name("outermost");
    return sley_gen_next(outer, NULL);
}

static int overflow_on_a_big_stack(void *arg)
{
    sley_gen *g = sley_gen_create(call_and_overflow, arg, 0);

    sley_fiber_set_name("caller");
    return sley_gen_next(g, NULL);
}

static int adopt_and_overflow(void *arg)
{
    sley_fiber_set_name("adoptive");
    return sley_gen_adopt(*(sley_gen **)arg) == 0 ? sley_gen_next(*(sley_gen **)arg, NULL) : -EBADMSG;
}

static int overflow_after_handing_over(void *arg)
{
    static sley_gen *g;

    sley_fiber_set_name("first");
    g = begin(overflow, arg);
    if (sley_gen_release(g) < 0)
        return 1;
    return sley_go(adopt_and_overflow, &g);
}

static const struct {
    const char *name;
    sley_fn *fn;
    const char *who;   /* overflows */
    const char *kind;
    const char *remedy;
} overflows[] = {
    { "overflow", overflow_by_name, "fiber \"recursive\" (number ", "generator",
      " bytes with a guard of 16384; set SLEY_GEN_STACK or options.gen_stack_bytes to a larger power of two\n" },
    { "overflow-inside", overflow_inside, "fiber \"outermost\" (number ", "generator", "set SLEY_GEN_STACK" },
    { "overflow-adopted", overflow_after_handing_over, "fiber \"adoptive\" (number ", "generator", "set SLEY_GEN_STACK" },
    { "overflow-big", overflow_on_a_big_stack, "fiber \"caller\" (number ", "sley_on_big_stack",
      "; call it with more stack_bytes\n" },
};

static void overflow_of_a_body_is_reported_as_the_generators(void **state)
{
    static const char *const settings[][3] = {
        { "SLEY_GUARD=madvise", NULL, NULL },
        { "SLEY_GUARD=mprotect", "SLEY_GEN_STACK=65536", NULL },
    };

    (void)state;
    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < sizeof overflows / sizeof *overflows; i++) {
            char function[64];
            struct child c;

            run_child(&c, overflows[i].name, settings[k]);
            assert_said(&c, "sley: stack overflow in ");
            assert_said(&c, overflows[i].who);
            snprintf(function, sizeof function, ", %s of function 0x", overflows[i].kind);
            assert_said(&c, function);
            assert_said(&c, overflows[i].remedy);
            if (strcmp(overflows[i].kind, "generator") == 0)
                assert_said(&c, k == 0 ? ", 131072 bytes with" : ", 65536 bytes with");
            assert_int_equal(lines_of(c.said), 1);
            assert_true(WIFSIGNALED(c.status));
            assert_int_equal(WTERMSIG(c.status), SIGSEGV);
        }
    }
}

static int step_into_the_guard(void *arg)
{
    struct sl_stack_place place;

    (void)arg;
    if (!sl_stack_find(__builtin_frame_address(0), &place) || place.stack->use != SL_USE_GEN)
        _exit(3);
    *(uint64_t *)(void *)(place.stack->low - sizeof(uint64_t)) = 1; /* where the canary is */
    return 0;
}

static int damage(void *arg)
{
    sley_gen *g = sley_gen_create(step_into_the_guard, arg, 0);

    sley_fiber_set_name("careless");
    return sley_gen_next(g, NULL);
}

static void *damage_on_a_thread(void *arg)
{
    return (void *)(intptr_t)damage(arg);
}

static int let_a_thread_damage(void *arg)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, damage_on_a_thread, arg) == 0)
        pthread_join(thread, NULL);
    return 1;
}

static void overflow_of_a_body_without_a_guard_is_found_at_its_end(void **state)
{
    static const char *const settings[] = { "SLEY_GUARD=canary", NULL };
    static const char *const who[][2] = { { "damage", "fiber \"careless\" (number " }, { "damage-thread", "a plain thread" } };

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct child c;

        run_child(&c, who[i][0], settings);
        assert_said(&c, "sley: stack overflow in ");
        assert_said(&c, who[i][1]);
        assert_said(&c, ", generator of function 0x");
        assert_said(&c, "set SLEY_GEN_STACK or options.gen_stack_bytes");
        assert_int_equal(lines_of(c.said), 1);
        assert_true(WIFSIGNALED(c.status));
        assert_int_equal(WTERMSIG(c.status), SIGABRT);
    }
}
#endif

/* ---- main ---- */

static int play(const char *name)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    alarm(50); /* ends a hang, so that it is known whose it was */
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++)
        if (strcmp(name, bugs[i].name) == 0)
            return sley_run(&(sley_options){ .workers = 1 }, bugs[i].fn, NULL);
    if (strcmp(name, "allowed") == 0)
        return sley_run(NULL, be_allowed, NULL);
#if !defined(SL_ASAN) && !defined(SL_TSAN)
    for (size_t i = 0; i < sizeof overflows / sizeof *overflows; i++)
        if (strcmp(name, overflows[i].name) == 0)
            return sley_run(NULL, overflows[i].fn, NULL);
    if (strcmp(name, "damage") == 0)
        return sley_run(NULL, damage, NULL);
    if (strcmp(name, "damage-thread") == 0)
        return sley_run(NULL, let_a_thread_damage, NULL);
#endif
    return 98;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bug_aborts_and_names_fiber_and_call),
        cmocka_unit_test(what_is_allowed_goes_on),
#if !defined(SL_ASAN) && !defined(SL_TSAN)
        cmocka_unit_test(overflow_of_a_body_is_reported_as_the_generators),
        cmocka_unit_test(overflow_of_a_body_without_a_guard_is_found_at_its_end),
#endif
    };

    return argc == 2 ? play(argv[1]) : cmocka_run_group_tests(tests, NULL, NULL);
}
