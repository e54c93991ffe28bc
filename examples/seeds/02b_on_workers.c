/* Seed 000, the coroutines of 02_coroutine_scheduler.c on Sley's own workers. What differs:
 *
 *   YieldLoop         is in the library: sley_run starts it, and is run_until_complete too.
 *   add_coroutine     is sley_go. What it is given must be a function of the one type, else the program does not compile: so neither the
 *                     decorator nor the two errors at the end are left. Only a function that is missing shows at run time.
 *   CoroutineWrapper  is the fiber.
 *   yield             is sley_yield. It hands nothing to the loop, which hands nothing back: a `context` is a variable of the coroutine.
 *   the order         is the seed's in each coroutine, but not among them. There the newest goes first and alone; here the coroutines take
 *                     turns, and each core runs one.
 *   an error          of a coroutine is not dropped: it stops the others, and is the result of sley_run.
 *
 *   $ 02b_on_workers
 *   (in any order, but a's lines, b's and c's each in this one)
 *   a 3
 *   a 2
 *   a 1
 *   a done
 *   b 2
 *   b 1
 *   b done
 *   c 1
 *   c done
 */
#include <sley.h>
#include <stdio.h>

struct countdown {
    const char *name;
    int n;
};

static int countdown(void *arg)
{
    struct countdown *self = arg;
    int rc;

    while (self->n > 0) {
        printf("%s %d\n", self->name, self->n);
        if ((rc = sley_yield()) < 0)
            return rc;
        self->n -= 1;
    }
    printf("%s done\n", self->name);
    return 0;
}

static int start(void *arg)
{
    static const struct countdown args[] = { { "a", 3 }, { "b", 2 }, { "c", 1 } };
    int rc = 0;

    (void)arg;
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = sley_go_copy(countdown, &args[i], sizeof args[i]);
    return rc;
}

int main(void)
{
    return sley_run(NULL, start, NULL) < 0 || fflush(stdout) != 0;
}
