/* scenario.h - for tests of what makes fibers and threads wait: a scenario is played by its own fiber or thread and by actors, each a
 * fiber or a plain thread; it records what it expected and did not find, and cmocka hears of that on the main thread. Every scenario is
 * played three times: all on fibers, a fiber against threads, all on threads. */
#ifndef SCENARIO_H
#define SCENARIO_H

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <sley.h>

#include "again.h"
#include "sched/park.h"

enum cast { FIBERS, FIBER_AND_THREADS, THREADS };

static struct {
    enum cast cast;
    _Atomic(const char *) unmet; /* what was expected first and not found */
    _Atomic(int) unmet_line;
} scene;

#define EXPECT(condition) expect((condition), #condition, __LINE__)

static inline void expect(int condition, const char *text, int line)
{
    const char *none = NULL;

    if (!condition && sl_cas_acq_rel(&scene.unmet, &none, text))
        scene.unmet_line = line;
}

static inline void give_way(void)
{
    if (sley_self() == 0)
        sched_yield();
    else if (sley_yield() < 0)
        expect(0, "the scope is not cancelled", __LINE__);
}

/* --- actors ------------------------------------------------------------------------------------------------------------------- */

struct actor {
    sley_fn *fn;
    void *arg;
    int result; /* of fn */
    _Atomic(struct sl_fiber *) block;
    _Atomic(int) done;
    int is_thread;
    pthread_t thread;
};

static inline int actor_main(void *arg)
{
    struct actor *a = arg;

    a->block = sl_current();
    a->result = a->fn(a->arg);
    a->done = 1;
    return 0;
}

static inline void *actor_thread(void *arg)
{
    actor_main(arg);
    return NULL;
}

static inline void actor_start_as(struct actor *a, int is_thread, sley_fn *fn, void *arg)
{
    a->fn = fn;
    a->arg = arg;
    a->block = NULL;
    a->done = 0;
    a->is_thread = is_thread;
    if (is_thread ? pthread_create(&a->thread, NULL, actor_thread, a) : sley_go(actor_main, a)) {
        perror("cannot start an actor");
        abort();
    }
}

static inline void actor_start(struct actor *a, sley_fn *fn, void *arg)
{
    actor_start_as(a, scene.cast != FIBERS, fn, arg);
}

/* Until the actor waits for something: 1; 0: it has ended. */
static inline int actor_waits_or_ended(struct actor *a)
{
    while (!a->done) {
        struct sl_fiber *f = a->block;
        if (f != NULL && SL_WORD_STATE(sl_load_acquire(&f->word)) == SL_WAITING)
            return 1;
        give_way();
    }
    return 0;
}

static inline void actor_waits(struct actor *a)
{
    EXPECT(actor_waits_or_ended(a));
}

static inline int actor_result(struct actor *a)
{
    while (!a->done)
        give_way();
    if (a->is_thread)
        pthread_join(a->thread, NULL);
    return a->result;
}

/* --- what the stress tests need ----------------------------------------------------------------------------------------------- */

/* SLEY_TEST_SEED, or a new one; printed, to be tried again. */
static inline uint64_t test_seed(void)
{
    const char *text = getenv("SLEY_TEST_SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : (uint64_t)sley_now();

    print_message("SLEY_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

static inline uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* A number below n; *random is one actor's own. */
static inline uint32_t below(uint64_t *random, uint32_t n)
{
    *random += UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(mix(*random) % n);
}

/* Once a wait has returned, the memory it was about is the waiter's: filled with 0xee, and still so after the others have ended. */
static inline int is_untouched(const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (((const unsigned char *)p)[i] != 0xee)
            return 0;
    return 1;
}

/* --- playing ------------------------------------------------------------------------------------------------------------------ */

static inline int play_body(void *arg)
{
    (*(void (**)(void))arg)();
    return 0;
}

static inline void play(void (*body)(void), enum cast cast)
{
    scene.cast = cast;
    scene.unmet = NULL;
    if (cast == THREADS)
        body();
    else
        assert_int_equal(sley_run(NULL, play_body, &body), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

/* Defines the cmocka test `name`, which plays the body that follows. */
#define SCENARIO(name) \
    static void name##_body(void); \
    static void name(void **state) { play(name##_body, *(enum cast *)*state); } \
    static void name##_body(void)

static enum cast casts[] = { FIBERS, FIBER_AND_THREADS, THREADS };

#define PLAYED(test) \
    { #test " (fibers)", test, NULL, NULL, &casts[0] }, { #test " (a fiber and threads)", test, NULL, NULL, &casts[1] }, \
    { #test " (threads)", test, NULL, NULL, &casts[2] }

/* --- cancelling ---------------------------------------------------------------------------------------------------------------- */

static inline int actor_attached(void *arg) /* arg: { a runtime, the actor that it is about } */
{
    void **pair = arg;
    struct actor *a = pair[1];
    int rc = sley_runtime_attach(pair[0]);

    return rc < 0 ? rc : actor_main(a);
}

/* Let fn(arg) wait, on a fiber of a runtime or on a thread attached to it, and, once waits() says that it does, stop the runtime. What fn
 * returned. */
static inline int result_of_stopped_when(int (*waits)(struct actor *a), int on_thread, sley_fn *fn, void *arg)
{
    struct actor a = { .fn = fn, .arg = arg }, outer;
    sley_runtime *rt;
    void *pair[2];

    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    pair[0] = rt;
    pair[1] = &a;
    if (on_thread)
        actor_start_as(&outer, 1, actor_attached, pair);
    else
        assert_int_equal(sley_runtime_submit(rt, actor_main, &a), 0);
    assert_true(waits(&a));
    sley_runtime_stop(rt, SLEY_NOW);
    actor_result(&a);
    if (on_thread)
        actor_result(&outer);
    sley_runtime_destroy(rt);
    return a.result;
}

static inline int result_of_stopped(int on_thread, sley_fn *fn, void *arg)
{
    return result_of_stopped_when(actor_waits_or_ended, on_thread, fn, arg);
}

/* --- what ends the process ---------------------------------------------------------------------------------------------------- */

/* Run this program again with `argument`; it must abort, and say `text`. */
static inline void assert_aborts(const char *argument, const char *text)
{
    char said[4096] = "";
    size_t n = 0;
    ssize_t got;
    int out[2], status;
    pid_t pid;

    assert_int_equal(pipe(out), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(out[1], STDERR_FILENO);
        run_again(argument);
    }
    close(out[1]);
    while ((got = read(out[0], said + n, sizeof said - 1 - n)) > 0)
        n += got;
    close(out[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    if (strstr(said, text) == NULL)
        fail_msg("said \"%s\", not \"%s\"", said, text);
}

#endif
