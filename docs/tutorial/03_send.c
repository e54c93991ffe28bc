/* 03_send.c - numbers go into a generator, and answers come out. */
#include <sley.h>
#include <stdio.h>

enum { FULL = 10 };

/* A barrel. What is sent is poured in, what comes back is how much is in it; once it is full the body returns. */
static int barrel(void *arg)
{
    int level = 0, poured, rc;

    while ((rc = sley_gen_yield(&level, &poured)) > 0) { /* hands out level, stands still, comes back with what was sent */
        printf("    the barrel gets %d\n", poured);
        level += poured;
        if (level >= FULL)
            return level;
    }
    return rc;
}

int main(void)
{
    sley_gen *gen = sley_gen_create(barrel, NULL, sizeof(int));
    int level, poured = 1, rc = sley_gen_next(gen, &level); /* up to the first yield: only from there can the body take something */

    for (; rc > 0; poured++) {
        printf("in it: %d, now %d more\n", level, poured);
        rc = sley_gen_send(gen, &poured, &level);
    }
    if (rc == 0)
        printf("full: %d\n", sley_gen_result(gen)); /* what the body returned */
    sley_gen_destroy(gen);
    return rc < 0;
}
