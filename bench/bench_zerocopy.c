/* bench_zerocopy.c - sley_send_all over a loopback TCP connection, with and without MSG_ZEROCOPY: nanoseconds a call, until the peer has
 * read it all. Over loopback the kernel copies at the receiver what it did not copy at the sender, so this shows what the rest of the way
 * costs: pinning pages, and waiting until the peer has acknowledged; what is saved is to be seen where a network card fetches the bytes. */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sley.h>
#include <stdlib.h>
#include <string.h>

enum { COPIED = 0, ZEROCOPY = MSG_ZEROCOPY, READ_BYTES = 256 << 10 };

static void connect_pair(int fds[2])
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t bytes = sizeof a;
    int listener = sley_net_listen("127.0.0.1:0", NULL);

    BENCH_CHECK(listener >= 0 && getsockname(listener, (struct sockaddr *)&a, &bytes) == 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    BENCH_CHECK(fds[0] >= 0 && sley_connect(fds[0], (struct sockaddr *)&a, bytes, SLEY_FOREVER) == 0);
    fds[1] = sley_accept(listener, NULL, NULL, SLEY_FOREVER);
    BENCH_CHECK(fds[1] >= 0 && sley_close(listener) == 0);
}

struct reader {
    int            fd;
    uint64_t       bytes;
    sley_waitgroup ended;
};

static int read_all(void *arg)
{
    struct reader *r = arg;
    char *buf = malloc(READ_BYTES);
    int n;

    BENCH_CHECK(buf != NULL);
    while ((n = sley_recv(r->fd, buf, READ_BYTES, 0, SLEY_FOREVER)) > 0)
        r->bytes += (uint64_t)n;
    BENCH_CHECK(n == 0);
    free(buf);
    sley_waitgroup_done(&r->ended);
    return 0;
}

static int sample(const struct bench *b)
{
    struct reader r = { .bytes = 0 };
    char *memory = malloc(b->a);
    int fds[2];

    BENCH_CHECK(memory != NULL);
    memset(memory, 'x', b->a);
    connect_pair(fds);
    r.fd = fds[1];
    sley_waitgroup_add(&r.ended, 1);
    BENCH_CHECK(sley_go(read_all, &r) == 0);
    for (uint64_t i = 0; i < b->n; i++)
        BENCH_CHECK(sley_send_all(fds[0], memory, b->a, (int)b->b, SLEY_FOREVER) == 0);
    BENCH_CHECK(sley_close(fds[0]) == 0 && sley_waitgroup_wait(&r.ended, SLEY_FOREVER) == 0);
    BENCH_CHECK(r.bytes == b->n * b->a && sley_close(fds[1]) == 0);
    free(memory);
    return 0;
}

#define ROWS(size, kilobytes, calls) \
    { .name = "send-all", .params = size, .workers = 1, .n = calls, .n_min = 2, .samples = 11, .sample = sample, .a = (kilobytes) << 10, \
      .b = COPIED }, \
    { .name = "send-all", .params = size " zerocopy", .workers = 1, .n = calls, .n_min = 2, .samples = 11, .sample = sample, \
      .a = (kilobytes) << 10, .b = ZEROCOPY }

static const struct bench benches[] = {
    ROWS("16KB", 16, 2000),
    ROWS("64KB", 64, 1000),
    ROWS("256KB", 256, 500),
    ROWS("1MB", 1024, 200),
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, benches, sizeof benches / sizeof benches[0]);
}
