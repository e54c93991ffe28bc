/* Seed 002, an asynchronous generator: two shoppers at one shelf, and whoever finds it empty waits until it is filled.
 *
 * It is a generator like any other, since every body may wait. While take_potatos waits in one shopper's loop, the other shopper goes on.
 *
 * The shelf has a lock, for fibers may run at the same time. For the order, this program runs on one worker, as the seed runs on one event
 * loop: there whoever began to wait first, for equally long, goes on first. On several workers it is a matter of chance who gets which
 * potato.
 *
 *   $ 10_async_potatoes
 *   Got potato 1...
 *   (19 more lines: of potato 2 to 10 and tomato 1 to 10, always in the same order)
 *   10 10
 */
#include <sley.h>
#include <stdio.h>

static struct {
    sley_mutex lock;
    int all_potatos; /* one is like the other: only their number matters */
    unsigned restocked;
} shelf = { .all_potatos = 2 };

static int pop(void) /* 1: took one; 0: there is none */
{
    int rc = sley_mutex_lock(&shelf.lock, SLEY_FOREVER);

    if (rc < 0)
        return rc;
    if (shelf.all_potatos > 0) {
        shelf.all_potatos -= 1;
        rc = 1;
    }
    sley_mutex_unlock(&shelf.lock);
    return rc;
}

static int ask_for_potato(void)
{
    static const int restock[] = { 3, 1, 2 }; /* the seed's random numbers */
    int rc = sley_sleep(10 * SLEY_MS);

    if (rc == 0 && (rc = sley_mutex_lock(&shelf.lock, SLEY_FOREVER)) == 0) {
        shelf.all_potatos += restock[shelf.restocked++ % 3];
        sley_mutex_unlock(&shelf.lock);
    }
    return rc;
}

static int take_potatos(void *arg)
{
    int num = *(int *)arg, count = 0, rc = 0;

    while (count < num && rc >= 0) {
        while ((rc = pop()) == 0)
            if ((rc = ask_for_potato()) < 0)
                return rc;
        if (rc > 0)
            rc = sley_gen_yield(NULL, NULL); /* yield all_potatos.pop() */
        count += 1;
    }
    return rc;
}

struct shopper {
    const char *what;
    int bucket;
};

static int buy(void *arg)
{
    struct shopper *self = arg;
    int num = 10, rc;
    sley_gen *potatos = sley_gen_create(take_potatos, &num, 0);

    while ((rc = sley_gen_next(potatos, NULL)) > 0) { /* async for p in take_potatos(10) */
        self->bucket += 1;
        printf("Got %s %d...\n", self->what, self->bucket);
    }
    sley_gen_destroy(potatos);
    return rc;
}

static int start(void *arg)
{
    struct shopper a = { "potato", 0 }, b = { "tomato", 0 };
    sley_scope shoppers;
    int rc;

    (void)arg;
    sley_scope_init(&shoppers, SLEY_FOREVER);
    rc = sley_go(buy, &a);
    if (rc == 0)
        rc = sley_yield(); /* asyncio starts tasks in the order they were made in, Sley in any: let a come to its first wait */
    if (rc == 0)
        rc = sley_go(buy, &b);
    rc = sley_scope_wait(&shoppers, rc, SLEY_FOREVER); /* await asyncio.wait(...) */
    if (rc == 0)
        printf("%d %d\n", a.bucket, b.bucket);
    return rc;
}

int main(void)
{
    sley_options one_worker = { .workers = 1 };

    return sley_run(&one_worker, start, NULL) < 0 || fflush(stdout) != 0;
}
