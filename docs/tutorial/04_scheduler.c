/* 04_scheduler.c - a scheduler of thirty lines: generators wait in a queue, and a loop lets each of them go one step. */
#include <sley.h>
#include <errno.h>
#include <stdio.h>

enum { ROOM = 8 };

/* A ring: taken from at head, added to behind the last. */
static struct {
    sley_gen *gens[ROOM];
    int head, count;
} queue;

/* Make a generator, and put it at the end of the queue. */
static int spawn(sley_fn *body, void *arg)
{
    sley_gen *gen = queue.count < ROOM ? sley_gen_create(body, arg, 0) : NULL;

    if (gen == NULL)
        return -ENOMEM;
    queue.gens[(queue.head + queue.count++) % ROOM] = gen;
    return 0;
}

static int run_all(void)
{
    int error = 0;

    while (queue.count > 0) {
        sley_gen *gen = queue.gens[queue.head];
        int rc = sley_gen_next(gen, NULL); /* one step: from where it stood to its next yield */

        queue.head = (queue.head + 1) % ROOM;
        queue.count--;
        if (rc > 0) {
            queue.gens[(queue.head + queue.count++) % ROOM] = gen; /* it wants to go on: at the end of the queue */
            continue;
        }
        if (error == 0)
            error = rc; /* the first one is kept */
        sley_gen_destroy(gen);
    }
    return error;
}

struct countdown {
    const char *name;
    int n;
};

static int countdown(void *arg)
{
    const struct countdown *c = arg;
    int rc = 0;

    for (int n = c->n; n > 0 && rc == 0; n--) {
        printf("%s %d\n", c->name, n);
        rc = sley_gen_yield(NULL, NULL); /* hands out nothing: let others run */
    }
    if (rc == 0)
        printf("%s done\n", c->name);
    return rc;
}

int main(void)
{
    struct countdown counts[] = { { "a", 3 }, { "b", 2 }, { "c", 1 } };
    int spawned = 0, ran;

    for (int i = 0; i < 3 && spawned == 0; i++)
        spawned = spawn(countdown, &counts[i]);
    ran = run_all();
    return spawned < 0 || ran < 0;
}
