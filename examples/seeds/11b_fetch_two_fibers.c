/* Seed 001, two GETs at once as straight-line code: a fiber for each. A call that would have to wait parks its fiber, so there is no
 * Future to yield, no Task to step it and no selector to ask.
 *
 *   $ 11b_fetch_two_fibers 8080
 *   (the first line of each answer, as they come)
 *   took 0.01 seconds
 */
#include <sley.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REQUEST_BYTES = 100, CHUNK_BYTES = 1000 };

static char address[32];

static int read_all(int s, char **buf)
{
    size_t bytes = 0;
    int rc;

    do {
        char *more = realloc(*buf, bytes + CHUNK_BYTES + 1);
        if (more == NULL)
            return -ENOMEM;
        *buf = more;
        if ((rc = sley_recv(s, *buf + bytes, CHUNK_BYTES, 0, SLEY_FOREVER)) < 0)
            return rc;
        bytes += (size_t)rc;
    } while (rc > 0);
    (*buf)[bytes] = '\0';
    return 0;
}

static int get(void *path)
{
    char request[REQUEST_BYTES], *buf = NULL;
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\n\r\n", (const char *)path);
    int s = sley_net_dial(address, SLEY_FOREVER), rc = s < 0 ? s : 0;

    if (rc == 0 && (rc = sley_send_all(s, request, (size_t)n, 0, SLEY_FOREVER)) == 0 && (rc = read_all(s, &buf)) == 0) {
        buf[strcspn(buf, "\n")] = '\0';
        puts(buf);
    }
    free(buf);
    sley_close(s);
    return rc;
}

static int start(void *arg)
{
    sley_time begin = sley_now();
    sley_scope jobs;
    int rc;

    (void)arg;
    sley_scope_init(&jobs, SLEY_FOREVER);
    sley_go(get, "/foo");
    sley_go(get, "/bar");
    rc = sley_scope_wait(&jobs, 0, SLEY_FOREVER); /* while n_jobs; its result is also that of a start that failed */
    if (rc == 0)
        printf("took %.2f seconds\n", (double)(sley_now() - begin) / SLEY_S);
    return rc;
}

int main(int argc, char **argv)
{
    long port = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
    int rc;

    if (port < 1 || port > 65535) {
        fprintf(stderr, "usage: %s PORT\n", argv[0]);
        return 2;
    }
    snprintf(address, sizeof address, "127.0.0.1:%ld", port);
    rc = sley_run(NULL, start, NULL);
    if (rc < 0)
        fprintf(stderr, "%s: %s\n", argv[0], strerror(-rc));
    return rc < 0 || fflush(stdout) != 0;
}
