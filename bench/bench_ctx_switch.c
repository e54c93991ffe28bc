/* bench_ctx_switch.c - the bare switch between two contexts parked by the same call chain: nanoseconds a switch. No scheduler. */
#include "harness.h"

#include "ctx/context.h"

#include <errno.h>
#include <stdlib.h>

enum { STACK_BYTES = 64 * 1024 };

static struct sl_context main_context, side[2];
static uint64_t arrivals[2], arrivals_wanted;
static int *errno_slot; /* one thread: its errno stays where it is */

static __attribute__((noinline)) void go_across(int from, int to)
{
    sl_context_switch(errno_slot, &side[from], &side[to], NULL, NULL);
}

static void bounce(void *arg)
{
    int me = (int)(intptr_t)arg;

    for (;;) {
        if (++arrivals[me] >= arrivals_wanted)
            sl_context_switch(errno_slot, &side[me], &main_context, NULL, NULL);
        go_across(me, !me);
    }
}

static int sample(const struct bench *b)
{
    static void *stacks[2];

    errno_slot = &errno;
    arrivals[0] = arrivals[1] = 0;
    arrivals_wanted = b->n / 2;
    sl_context_of_thread(&main_context);
    for (int i = 0; i < 2; i++) {
        if (stacks[i] == NULL)
            BENCH_CHECK((stacks[i] = aligned_alloc(4096, STACK_BYTES)) != NULL);
        sl_context_make(&side[i], stacks[i], (char *)stacks[i] + STACK_BYTES, bounce, (void *)(intptr_t)i);
    }
    sl_context_switch(errno_slot, &main_context, &side[0], NULL, NULL);
    BENCH_CHECK(arrivals[0] == arrivals_wanted && arrivals[1] >= arrivals_wanted - 1);
    return 0;
}

static const struct bench benches[] = {
    { .name = "switch", .params = "", .workers = 0, .n = 2000000, .sample = sample },
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, benches, sizeof benches / sizeof benches[0]);
}
