/* 08_stopping.c - four ways to an end: the deadline of a call, the deadline of a scope, a failure, a cancel. */
#include <sley.h>
#include <errno.h>
#include <stdio.h>

static const char *text(int rc)
{
    return rc == 0 ? "0" : rc == -ETIMEDOUT ? "-ETIMEDOUT" : rc == -ECANCELED ? "-ECANCELED" : rc == -EIO ? "-EIO" : "?";
}

/* Would sleep for ever. */
static int sleeper(void *arg)
{
    int rc = sley_sleep(SLEY_FOREVER);

    printf("    %s: %s\n", (const char *)arg, text(rc)); /* here it cleans up, if there is anything to clean up */
    return rc;
}

static int broken(void *arg)
{
    return -EIO;
}

/* Two more, in a scope of their own. */
static int team(void *arg)
{
    sley_scope scope;
    int rc;

    sley_scope_init(&scope, SLEY_FOREVER);
    if ((rc = sley_go(sleeper, "its sleeper")) == 0)
        rc = sley_go(broken, NULL);
    rc = sley_scope_wait(&scope, rc, SLEY_FOREVER);
    printf("    the team: %s\n", text(rc));
    return rc; /* and so the error goes up */
}

static int with_a_failure(void)
{
    sley_scope scope;
    int rc;

    sley_scope_init(&scope, SLEY_FOREVER);
    if ((rc = sley_go(sleeper, "the other sleeper")) == 0)
        rc = sley_go(team, NULL);
    return sley_scope_wait(&scope, rc, SLEY_FOREVER);
}

static int with_a_cancel(void)
{
    sley_scope scope;
    int rc;

    sley_scope_init(&scope, SLEY_FOREVER);
    rc = sley_go(sleeper, "its sleeper");
    sley_scope_cancel(&scope);
    return sley_scope_wait(&scope, rc, SLEY_FOREVER);
}

static int start(void *arg)
{
    sley_event never = { 0 }; /* nobody will set it */

    printf("a call with a deadline: %s\n", text(sley_event_wait(&never, sley_after(5 * SLEY_MS))));
    printf("a scope with a deadline: %s\n", text(sley_scope_run(sleeper, "its function", sley_after(5 * SLEY_MS))));
    printf("a scope with a failure: %s\n", text(with_a_failure()));
    printf("a scope that was cancelled: %s\n", text(with_a_cancel()));
    return 0;
}

int main(void)
{
    return sley_run(NULL, start, NULL) < 0;
}
