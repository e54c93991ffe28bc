/* 02_generator.c - the countdown as a generator: a function that stops in the middle of its loop, and goes on from there. */
#include <sley.h>
#include <stdio.h>

static sley_gen *gen; /* here, so that the body too can ask for its state */

static void show(const char *when)
{
    static const char *const names[] = {
        [SLEY_GEN_CREATED] = "created", [SLEY_GEN_RUNNING] = "running", [SLEY_GEN_SUSPENDED] = "suspended", [SLEY_GEN_CLOSED] = "closed",
    };

    printf("%s: %s\n", when, names[sley_gen_state(gen)]);
}

/* The body. It hands out each number by a yield, and stands still in it until it is asked for the next. */
static int countdown(void *arg)
{
    int n = *(int *)arg, rc = 0;

    show("in the body");
    for (; n > 0 && rc == 0; n--)
        rc = sley_gen_yield(&n, NULL);
    puts(rc == 0 ? "the body is at its end" : "the body has been told to stop");
    return rc;
}

int main(void)
{
    int three = 3, n, rc;

    if ((gen = sley_gen_create(countdown, &three, sizeof n)) == NULL)
        return 1;
    show("before the first next");
    while ((rc = sley_gen_next(gen, &n)) > 0) {
        printf("got %d\n", n);
        if (n == three)
            show("between two");
    }
    show("after the last");
    sley_gen_destroy(gen);
    if (rc < 0 || (gen = sley_gen_create(countdown, &three, sizeof n)) == NULL)
        return 1;

    puts("and once more, but two are enough");
    for (int i = 0; i < 2 && (rc = sley_gen_next(gen, &n)) > 0; i++)
        printf("got %d\n", n);
    sley_gen_destroy(gen); /* closes it first */
    return rc < 0;
}
