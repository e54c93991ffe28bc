/* 06_future.c - results that are not there yet: a future completed by hand, tasks, and a wait with a limit. */
#include <sley.h>
#include <errno.h>
#include <stdio.h>

static int answer(void *arg)
{
    int value = 42;

    return sley_future_complete(arg, &value); /* from here on whoever waits for it goes on */
}

/* What goes into a task, and what comes out. */
struct square {
    int n, result;
};

static int square(void *arg)
{
    struct square *s = arg;
    int rc = sley_sleep(SLEY_MS); /* as if it took some work */

    if (rc == 0 && s->n > 46340)
        rc = -ERANGE; /* no int is as large */
    if (rc == 0)
        s->result = s->n * s->n;
    return rc;
}

static sley_future *start_square(int n)
{
    struct square s = { n, 0 };

    return sley_task_create_copy(square, &s, sizeof s); /* the copy lies in the future, so s may go */
}

static int result_of(sley_future *f)
{
    return ((struct square *)sley_future_value(f))->result;
}

static int endless(void *arg)
{
    int rc = sley_sleep(SLEY_FOREVER);

    puts("the endless one ends");
    return rc;
}

static int start(void *arg)
{
    sley_future *f = sley_future_create(sizeof(int)), *endless_one = sley_task_create(endless, NULL);
    sley_future *squares[] = { start_square(2), start_square(3), start_square(50000) };
    int rc = sley_go(answer, f);

    if (rc == 0 && (rc = sley_await(f, SLEY_FOREVER)) == 0)
        printf("the answer: %d\n", *(int *)sley_future_value(f));
    if (rc == 0 && (rc = sley_gather(squares, 2, SLEY_FOREVER)) == 0)
        printf("the squares: %d and %d\n", result_of(squares[0]), result_of(squares[1]));
    if (rc == 0 && sley_await(squares[2], SLEY_FOREVER) == -ERANGE)
        puts("the third: too large");
    if (sley_wait_for(endless_one, sley_after(10 * SLEY_MS)) == -ETIMEDOUT)
        puts("not within 10 ms");

    for (int i = 0; i < 3; i++)
        sley_future_destroy(squares[i]);
    sley_future_destroy(endless_one);
    sley_future_destroy(f);
    return rc;
}

int main(void)
{
    return sley_run(NULL, start, NULL) < 0;
}
