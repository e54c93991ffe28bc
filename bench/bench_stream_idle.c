/* bench_stream_idle.c - bytes of memory that an idle connection costs, page tables included: its fiber, which waits for a line, with the
 * touched page of its stack, its stream, its descriptor's record. The kernel's share is not in it, nor are the peers. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <sley.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FEW = 100, ROUNDS = 3 };

static uint64_t kilobytes(const char *path, const char *key)
{
    char line[256];
    uint64_t kb = 0;
    FILE *f = fopen(path, "re");

    BENCH_CHECK(f != NULL);
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            kb = strtoull(line + strlen(key), NULL, 10);
    fclose(f);
    return kb;
}

static uint64_t memory_bytes(void)
{
    return 1024 * (kilobytes("/proc/self/smaps_rollup", "Rss:") + kilobytes("/proc/self/status", "VmPTE:"));
}

struct crowd {
    int *ends;             /* the connections' own ends; [n + i]: the peer of [i] */
    sley_waitgroup served; /* one for each line that is to come */
};

struct connection {
    struct crowd *crowd;
    int fd;
};

static int serve(void *arg)
{
    struct connection c = *(struct connection *)arg;
    sley_stream *s = sley_stream_create(c.fd);
    char line[256];
    int n;

    BENCH_CHECK(s != NULL);
    while ((n = sley_stream_read_line(s, line, sizeof line, SLEY_FOREVER)) > 0) {
        BENCH_CHECK(strcmp(line, "are you there?\n") == 0);
        sley_waitgroup_done(&c.crowd->served);
    }
    BENCH_CHECK(n == 0);
    sley_stream_destroy(s);
    sley_close(c.fd);
    return 0;
}

/* The peers' descriptors are numbered far away from the others, so that the library keeps no record near them. */
static void make_pairs(int *ends, int n)
{
    struct rlimit limit;

    BENCH_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    BENCH_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= (rlim_t)(2 * n + FEW));
    for (int i = 0; i < n; i++) {
        int pair[2];

        BENCH_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
        ends[i] = pair[0];
        ends[n + i] = fcntl(pair[1], F_DUPFD_CLOEXEC, n + FEW);
        BENCH_CHECK(ends[n + i] >= 0 && close(pair[1]) == 0);
    }
}

static void ask_all(struct crowd *c, int n)
{
    sley_waitgroup_add(&c->served, n);
    for (int i = 0; i < n; i++)
        BENCH_CHECK(write(c->ends[n + i], "are you there?\n", 15) == 15);
    BENCH_CHECK(sley_waitgroup_wait(&c->served, SLEY_FOREVER) == 0);
}

/* Each has served a line or two and waits for the next. */
static int sample(const struct bench *b)
{
    int n = (int)b->n;
    struct crowd c = { .ends = calloc(2 * b->n, sizeof(int)) };
    sley_scope clients;
    uint64_t before;

    BENCH_CHECK(c.ends != NULL);
    make_pairs(c.ends, n);
    before = memory_bytes();
    sley_scope_init(&clients, SLEY_FOREVER);
    for (int i = 0; i < n; i++)
        BENCH_CHECK(sley_go_copy(serve, &(struct connection){ &c, c.ends[i] }, sizeof(struct connection)) == 0);
    for (int round = 0; round < ROUNDS; round++)
        ask_all(&c, n);
    bench_report((double)(memory_bytes() - before) / (double)n);
    for (int i = 0; i < n; i++)
        close(c.ends[n + i]);
    BENCH_CHECK(sley_scope_wait(&clients, 0, SLEY_FOREVER) == 0);
    free(c.ends);
    return 0;
}

static const struct bench benches[] = {
    { .name = "stream-memory", .params = "connection", .workers = 1, .n = 9000, .n_min = 1000, .kind = BENCH_VALUE, .unit = "bytes",
      .sample = sample },
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, benches, sizeof benches / sizeof benches[0]);
}
