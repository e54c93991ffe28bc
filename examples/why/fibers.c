/* A fiber a client, and the same straight line of calls, which here park the fiber and not the thread. See why.h.
 *
 *   $ fibers 7777 10000
 */
#include "why.h"
#include <sley.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static struct arguments arguments;
static atomic_long answered;

static int serve(void *arg)
{
    char request[REQUEST_BYTES] = { READY };
    int fd = *(int *)arg, rc = sley_send_all(fd, request, 1, 0, SLEY_FOREVER);

    while (rc == 0 && (rc = sley_read_all(fd, request, REQUEST_BYTES, SLEY_FOREVER)) == REQUEST_BYTES)
        if ((rc = sley_send_all(fd, request, REQUEST_BYTES, 0, SLEY_FOREVER)) == 0)
            answered++;
    sley_close(fd);
    return rc;
}

static int start(void *arg)
{
    int listener = *(int *)arg, fd = 0, rc;
    long served = 0, refused = 0;
    sley_scope clients;

    sley_scope_init_isolated(&clients, SLEY_FOREVER); /* an error of one client is no error of the others */
    while (served + refused < arguments.clients && (fd = sley_accept(listener, NULL, NULL, SLEY_FOREVER)) >= 0) {
        if ((rc = sley_go_copy(serve, &fd, sizeof fd)) == 0) {
            served++;
            continue;
        }
        if (refused++ == 0)
            print_refused(served, -rc);
        sley_close(fd);
    }
    sley_close(listener);
    rc = sley_scope_wait(&clients, fd < 0 ? fd : 0, SLEY_FOREVER);
    if (rc == 0)
        print_served(served, answered);
    return rc;
}

int main(int argc, char **argv)
{
    int listener, rc;

    arguments = read_arguments(argc, argv, NULL);
    need_descriptors(arguments.clients);
    if ((listener = listen_at(arguments.port)) < 0)
        return 1;
    if ((rc = sley_run(NULL, start, &listener)) < 0)
        fprintf(stderr, "%s: %s\n", argv[0], strerror(-rc));
    return rc < 0;
}
