/* 01_function.c - a countdown as a plain function, then as one that hands out a number a call. */
#include <stdio.h>

/* From its first line to its last in one go: whoever calls it waits until all is said. */
static void countdown(const char *name, int n)
{
    for (; n > 0; n--)
        printf("%s %d\n", name, n);
}

/* A call's variables go when it returns. What must be there at the next call lies here. */
struct countdown {
    const char *name;
    int n;
};

/* 1: the next number is in *out; 0: there is none. */
static int countdown_next(struct countdown *c, int *out)
{
    if (c->n == 0)
        return 0;
    *out = c->n--;
    return 1;
}

static int step(struct countdown *c)
{
    int n, more = countdown_next(c, &n);

    if (more)
        printf("%s %d\n", c->name, n);
    return more;
}

int main(void)
{
    struct countdown a = { "a", 3 }, b = { "b", 2 };
    int more_a = 1, more_b = 1;

    puts("one after the other");
    countdown(a.name, a.n);
    countdown(b.name, b.n);

    puts("in turns");
    while (more_a || more_b) {
        more_a = step(&a);
        more_b = step(&b);
    }
    return 0;
}
