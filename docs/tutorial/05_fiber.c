/* 05_fiber.c - the same countdowns as fibers: Sley's own scheduler runs them, on all cores. */
#include <sley.h>
#include <stdio.h>

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
        rc = sley_yield(); /* let others run */
    }
    if (rc == 0)
        printf("%s done\n", c->name);
    return rc;
}

/* The first fiber. */
static int start(void *arg)
{
    struct countdown counts[] = { { "a", 3 }, { "b", 2 }, { "c", 1 } };
    sley_scope scope;
    int rc = 0;

    sley_scope_init(&scope, SLEY_FOREVER); /* what is started from here on belongs to it */
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = sley_go(countdown, &counts[i]);
    rc = sley_scope_wait(&scope, rc, SLEY_FOREVER); /* until all of it has ended: so counts is there as long as they need it */
    puts(rc == 0 ? "all have ended" : "something went wrong");
    return rc;
}

int main(void)
{
    return sley_run(NULL, start, NULL) < 0;
}
