/* Seeds 001 and 002, tasks as futures: results and exceptions gathered, a callback, cancellation and a time limit as the awaiter sees them.
 *
 * A task's argument and result are one struct, of which the task has a copy. Its exception is an error number, and here a text in that
 * struct. What Python raises when something is awaited is what the await returns.
 *
 *   $ 12_gather
 *   [1, 4]
 *   4 ValueError('three')
 *   1 1
 *   forever cancelled
 *   callback True
 *   awaiter saw the cancellation
 *   forever cancelled
 *   timeout
 */
#include <sley.h>
#include <errno.h>
#include <stdio.h>

#define VALUE_ERROR (-EDOM)

struct child {
    int n, result;
    const char *exception;
};

static int child(void *arg)
{
    struct child *self = arg;
    int rc = sley_sleep(10 * SLEY_MS * self->n);

    if (rc == 0 && self->n == 3) {
        self->exception = "ValueError('three')";
        rc = VALUE_ERROR;
    } else if (rc == 0) {
        self->result = self->n * self->n;
    }
    return rc;
}

static sley_future *create_child(int n)
{
    return sley_task_create_copy(child, &(struct child){ .n = n }, sizeof(struct child));
}

static struct child *value(sley_future *f)
{
    return sley_future_value(f);
}

static int forever(void *arg)
{
    int rc = sley_sleep(3600 * SLEY_S);

    (void)arg;
    if (rc == -ECANCELED)
        puts("forever cancelled");
    return rc; /* raise */
}

static int callback(void *f)
{
    printf("callback %s\n", sley_future_state(f) == SLEY_FUTURE_CANCELLED ? "True" : "False");
    return 0;
}

/* ---- main(), in four parts ---- */

static int results(void)
{
    sley_future *t[] = { create_child(1), create_child(2) };
    int rc = sley_gather(t, 2, SLEY_FOREVER);

    if (rc == 0)
        printf("[%d, %d]\n", value(t[0])->result, value(t[1])->result);
    sley_future_destroy(t[0]);
    sley_future_destroy(t[1]);
    return rc;
}

static int exceptions(void)
{
    sley_future *t[] = { create_child(2), create_child(3) };
    int rc = sley_wait_all(t, 2, SLEY_FOREVER); /* gather(..., return_exceptions=True) */

    if (rc == 0 && (rc = sley_await(t[0], SLEY_NOW)) == 0 && (rc = sley_await(t[1], SLEY_NOW)) == VALUE_ERROR) {
        printf("%d %s\n", value(t[0])->result, value(t[1])->exception);
        rc = 0;
    }
    sley_future_destroy(t[0]);
    sley_future_destroy(t[1]);
    return rc;
}

static int cancellation(void)
{
    sley_future *t[] = { sley_task_create(forever, NULL), create_child(1) };
    int rc = sley_future_on_done(t[0], callback, t[0]), done = 0;

    if (rc == 0 && (rc = sley_wait_any(t, 2, SLEY_FOREVER)) >= 0) { /* FIRST_COMPLETED */
        for (int i = 0; i < 2; i++)
            done += sley_future_state(t[i]) != SLEY_FUTURE_PENDING;
        printf("%d %d\n", done, 2 - done);
        rc = sley_future_cancel(t[0]);
    }
    if (rc == 0 && (rc = sley_await(t[0], SLEY_FOREVER)) == -ECANCELED && sley_future_state(t[0]) == SLEY_FUTURE_CANCELLED) {
        puts("awaiter saw the cancellation");
        rc = 0;
    }
    sley_future_destroy(t[0]);
    sley_future_destroy(t[1]);
    return rc;
}

static int timeout(void)
{
    sley_future *t = sley_task_create(forever, NULL);
    int rc = sley_wait_for(t, sley_after(20 * SLEY_MS));

    if (rc == -ETIMEDOUT) {
        puts("timeout");
        rc = 0;
    }
    sley_future_destroy(t);
    return rc;
}

static int start(void *arg)
{
    int rc;

    (void)arg;
    if ((rc = results()) < 0 || (rc = exceptions()) < 0 || (rc = cancellation()) < 0)
        return rc;
    return timeout();
}

int main(void)
{
    return sley_run(NULL, start, NULL) < 0 || fflush(stdout) != 0;
}
