/* Seed 000, YieldLoop: a scheduler written on generators, with its CoroutineWrapper and its decorator. What a coroutine yields is kept
 * in its `context` and sent back to it at its next turn. The newest runnable goes first, so one coroutine comes to its end before an older
 * one goes on. (02b_on_workers.c is the same program on Sley's own scheduler.)
 *
 * Python finds out at run time whether a function has made a generator, and what is added is a coroutine. So values carry their type here.
 * CoroutineWrapper's throw, close and __next__ hand on to the generator's; nothing here needs them.
 *
 *   $ 02_coroutine_scheduler
 *   c 1
 *   c done
 *   b 2
 *   b 1
 *   b done
 *   a 3
 *   a 2
 *   a 1
 *   a done
 *   [Coroutinewrapper] error type(<class 'int'>) is not supported
 *   isinstance(coro) != CoroutineWrapper
 */
#include <sley.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct object {
    enum { NONE, INT, GENERATOR, COROUTINE_WRAPPER } type;
    union {
        int i;
        sley_gen *gen;
        struct coroutine_wrapper *coro;
    };
};

static const char *const type_names[] = { "NoneType", "int", "generator", "CoroutineWrapper" };

static char error[96]; /* what the last exception says */

/* ---- class YieldLoop, class CoroutineWrapper ---- */

struct yield_loop {
    struct coroutine_wrapper *runnables; /* the newest */
};

struct coroutine_wrapper {
    struct yield_loop *loop;
    sley_gen *gen;
    struct object context;
    struct coroutine_wrapper *older; /* of the runnables */
};

static struct yield_loop *yield_loop_instance(void)
{
    static struct yield_loop current;

    return &current;
}

static void add_runnables(struct yield_loop *self, struct coroutine_wrapper *coro)
{
    coro->older = self->runnables;
    self->runnables = coro;
}

static int add_coroutine(struct yield_loop *self, struct object coro)
{
    if (coro.type != COROUTINE_WRAPPER) {
        snprintf(error, sizeof error, "isinstance(coro) != CoroutineWrapper");
        return -EINVAL;
    }
    add_runnables(self, coro.coro);
    return 0;
}

static int coroutine_wrapper_send(struct coroutine_wrapper *self, struct object val)
{
    int rc = sley_gen_send(self->gen, val.type == NONE ? NULL : &val, &val); /* val = self.gen.send(val) */

    if (rc > 0) {
        self->context = val;
        add_runnables(self->loop, self);
    }
    return rc;
}

static void coroutine_wrapper_destroy(struct coroutine_wrapper *self)
{
    sley_gen_destroy(self->gen);
    free(self);
}

static int run_coroutine(struct coroutine_wrapper *coro)
{
    int rc = coroutine_wrapper_send(coro, coro->context);

    if (rc <= 0) /* StopIteration, or an error: it is in the loop no more, nor anywhere else */
        coroutine_wrapper_destroy(coro);
    return rc < 0 ? rc : 0;
}

static int run_until_complete(struct yield_loop *self)
{
    int rc = 0;

    while (self->runnables != NULL) {
        struct coroutine_wrapper *coro = self->runnables;

        self->runnables = coro->older;
        if (rc == 0)
            rc = run_coroutine(coro);
        else
            coroutine_wrapper_destroy(coro); /* after an error nobody goes on */
    }
    return rc;
}

/* What a decorated function does when it is called. */
static int coroutine(struct object (*func)(const void *args), const void *args, struct object *coro)
{
    struct object gen = func(args);

    if (gen.type != GENERATOR) {
        snprintf(error, sizeof error, "[Coroutinewrapper] error type(<class '%s'>) is not supported", type_names[gen.type]);
        return -EINVAL;
    }
    *coro = (struct object){ COROUTINE_WRAPPER, { .coro = malloc(sizeof *coro->coro) } };
    if (coro->coro == NULL) {
        sley_gen_destroy(gen.gen);
        return -ENOMEM;
    }
    *coro->coro = (struct coroutine_wrapper){ yield_loop_instance(), gen.gen, { NONE, { 0 } }, NULL };
    return 0;
}

/* ---- the coroutines ---- */

struct countdown {
    const char *name;
    int n;
};

static int countdown_body(void *arg)
{
    struct countdown *self = arg;
    int rc;

    while (self->n > 0) {
        struct object out = { INT, { .i = self->n } }, got;

        printf("%s %d\n", self->name, self->n);
        if ((rc = sley_gen_yield(&out, &got)) < 0) /* got = yield n */
            return rc;
        if (rc == 0 || got.type != INT || got.i != self->n)
            return -EPROTO;
        self->n -= 1;
    }
    printf("%s done\n", self->name);
    return 0;
}

static struct object countdown(const void *args)
{
    sley_gen *gen = sley_gen_create_copy(countdown_body, args, sizeof(struct countdown), sizeof(struct object));

    return (struct object){ GENERATOR, { .gen = gen } };
}

static struct object not_a_generator(const void *args)
{
    (void)args;
    return (struct object){ INT, { .i = 1 } };
}

static int start(void *arg)
{
    static const struct countdown args[] = { { "a", 3 }, { "b", 2 }, { "c", 1 } };
    struct yield_loop *loop = yield_loop_instance();
    struct object coro;
    int rc = 0, ran;

    (void)arg;
    for (int i = 0; i < 3 && rc == 0; i++)
        if ((rc = coroutine(countdown, &args[i], &coro)) == 0)
            rc = add_coroutine(loop, coro);
    ran = run_until_complete(loop);
    if (rc < 0 || ran < 0)
        return rc < 0 ? rc : ran;
    if (coroutine(not_a_generator, NULL, &coro) == -EINVAL)
        puts(error);
    if (add_coroutine(loop, (struct object){ INT, { .i = 42 } }) == -EINVAL)
        puts(error);
    return 0;
}

int main(void)
{
    return sley_run(NULL, start, NULL) < 0 || fflush(stdout) != 0;
}
