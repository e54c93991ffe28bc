/* Seed 001, two GETs at once: Future, Task and a selector, and in the middle generators that wait for readiness by yielding a future.
 * (11b_fetch_two_fibers.c is the same with fibers, where none of the three is needed.)
 *
 * The selector is sley_select over the descriptors; the calls on sockets are such as never wait, which is what SLEY_NOW says. A connect
 * that has failed shows at the send after it.
 *
 *   $ 11_fetch_two 8080
 *   (the first line of each answer, as they come)
 *   took 0.01 seconds
 */
#include <sley.h>
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JOBS = 2, REQUEST_BYTES = 100, CHUNK_BYTES = 1000 };

static long port;
static int n_jobs;

struct task {
    sley_gen *coro;
};

struct future {
    int (*callback)(struct task *self);
    struct task *self;
};

static int resolve(struct future *f)
{
    return f->callback(f->self);
}

/* ---- selector ---- */

static struct {
    sley_case events[JOBS];
    struct future *data[JOBS];
    int fd[JOBS];
    size_t n;
} selector;

static void register_fd(int fd, int events, struct future *data)
{
    selector.events[selector.n] = sley_case_fd(fd, events);
    selector.data[selector.n] = data;
    selector.fd[selector.n++] = fd;
}

static void unregister_fd(int fd)
{
    size_t i = 0, last = selector.n - 1;

    while (selector.fd[i] != fd)
        i++;
    selector.events[i] = selector.events[last];
    selector.data[i] = selector.data[last];
    selector.fd[i] = selector.fd[last];
    selector.n--;
}

/* f = Future(); selector.register(fd, events, f); await f; selector.unregister(fd) */
static int await_ready(int fd, int events)
{
    struct future *f = &(struct future){ NULL, NULL };
    int rc;

    register_fd(fd, events, f);
    rc = sley_gen_yield(&f, NULL);
    unregister_fd(fd);
    return rc;
}

/* ---- class Task ---- */

static int step(struct task *self)
{
    struct future *f;
    int rc = sley_gen_send(self->coro, NULL, &f);

    if (rc > 0) {
        f->callback = step;
        f->self = self;
    }
    return rc < 0 ? rc : 0;
}

/* ---- async def get(path) ---- */

static int read_all(int s, char **buf)
{
    size_t bytes = 0;
    int rc;

    do {
        char *more = realloc(*buf, bytes + CHUNK_BYTES + 1);
        if (more == NULL)
            return -ENOMEM;
        *buf = more;
        if ((rc = await_ready(s, POLLIN)) < 0)
            return rc;
        if ((rc = sley_recv(s, *buf + bytes, CHUNK_BYTES, 0, SLEY_NOW)) < 0)
            return rc;
        bytes += (size_t)rc;
    } while (rc > 0);
    (*buf)[bytes] = '\0';
    return 0;
}

static int exchange(int s, const char *path, char **buf)
{
    struct sockaddr_in localhost = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
    char request[REQUEST_BYTES];
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\n\r\n", path), rc;

    if (connect(s, (struct sockaddr *)&localhost, sizeof localhost) < 0 && errno != EINPROGRESS)
        return -errno;
    if ((rc = await_ready(s, POLLOUT)) < 0)
        return rc;
    rc = sley_send(s, request, (size_t)n, 0, SLEY_NOW);
    if (rc != n)
        return rc < 0 ? rc : -EPIPE;
    return read_all(s, buf);
}

static int get(void *path)
{
    int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), rc = s < 0 ? -errno : 0;
    char *buf = NULL;

    n_jobs += 1;
    if (rc == 0 && (rc = exchange(s, path, &buf)) == 0) {
        buf[strcspn(buf, "\n")] = '\0';
        puts(buf);
    }
    free(buf);
    sley_close(s);
    n_jobs -= 1;
    return rc;
}

static int start(void *arg)
{
    sley_time begin = sley_now();
    struct task foo = { sley_gen_create(get, "/foo", sizeof(struct future *)) };
    struct task bar = { sley_gen_create(get, "/bar", sizeof(struct future *)) };
    int rc;

    (void)arg;
    if ((rc = step(&foo)) == 0)
        rc = step(&bar);
    while (n_jobs > 0 && rc == 0)
        if ((rc = sley_select(selector.events, selector.n, SLEY_FOREVER)) >= 0)
            rc = resolve(selector.data[rc]);
    sley_gen_destroy(foo.coro);
    sley_gen_destroy(bar.coro);
    if (rc == 0)
        printf("took %.2f seconds\n", (double)(sley_now() - begin) / SLEY_S);
    return rc;
}

int main(int argc, char **argv)
{
    int rc;

    port = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
    if (port < 1 || port > 65535) {
        fprintf(stderr, "usage: %s PORT\n", argv[0]);
        return 2;
    }
    rc = sley_run(NULL, start, NULL);
    if (rc < 0)
        fprintf(stderr, "%s: %s\n", argv[0], strerror(-rc));
    return rc < 0 || fflush(stdout) != 0;
}
