/* 07_channel.c - two pipelines of fibers joined by channels, and one fiber that takes from whichever has something. */
#include <sley.h>
#include <stdio.h>

struct pipeline { /* count -> numbers -> raise_each -> powers */
int exponent;
    sley_chan *numbers, *powers;
};

static int count(void *arg)
{
    const struct pipeline *p = arg;
    int rc = 0;

    for (int n = 1; n <= 3 && rc == 0; n++)
        rc = sley_chan_send(p->numbers, &n, SLEY_FOREVER);
    sley_chan_close(p->numbers); /* that was all */
    return rc;
}

static int raise_each(void *arg)
{
    const struct pipeline *p = arg;
    int n, rc;

    while ((rc = sley_chan_recv(p->numbers, &n, SLEY_FOREVER)) > 0) {
        int power = p->exponent == 2 ? n * n : n * n * n;

        if ((rc = sley_chan_send(p->powers, &power, SLEY_FOREVER)) < 0)
            break;
    }
    sley_chan_close(p->powers); /* so the end goes from stage to stage */
    return rc;
}

static int take(sley_chan *squares, sley_chan *cubes)
{
    int n, i = 0, sum = 0, open = 2;
    sley_case cases[] = { sley_case_recv(squares, &n), sley_case_recv(cubes, &n) };

    while (open > 0 && (i = sley_select(cases, 2, SLEY_FOREVER)) >= 0) { /* the index of one that has something to say */
        if (cases[i].result > 0) {
            printf("%s %d\n", i == 0 ? "square" : "cube", n);
            sum += n;
        } else {
            cases[i] = sley_case_recv(NULL, &n); /* closed and empty; a case of NULL never has anything to say */
            open--;
        }
    }
    printf("sum %d\n", sum);
    return i < 0 ? i : 0;
}

static int start(void *arg)
{
    struct pipeline p[] = { { .exponent = 2 }, { .exponent = 3 } };
    sley_scope scope;
    int rc = 0;

    sley_scope_init(&scope, SLEY_FOREVER);
    for (int i = 0; i < 2 && rc == 0; i++) {
        p[i].numbers = sley_chan_create(sizeof(int), 0);
        p[i].powers = sley_chan_create(sizeof(int), 2);
        if ((rc = sley_go(count, &p[i])) == 0)
            rc = sley_go(raise_each, &p[i]);
    }
    if (rc == 0)
        rc = take(p[0].powers, p[1].powers);
    rc = sley_scope_wait(&scope, rc, SLEY_FOREVER); /* now nobody uses the channels any more */
    for (int i = 0; i < 2; i++) {
        sley_chan_destroy(p[i].numbers);
        sley_chan_destroy(p[i].powers);
    }
    return rc;
}

int main(void)
{
    return sley_run(NULL, start, NULL) < 0;
}
