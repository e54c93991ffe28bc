/* A thread a client, and calls that block. See why.h.
 *
 *   $ threads 7777 10000         stacks as large as the system gives them
 *   $ threads 7777 10000 128     128 KiB of address space for each, as much as a fiber has
 */
#include "why.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static atomic_long answered;

static void *serve(void *arg)
{
    char request[REQUEST_BYTES] = { READY };
    int fd = (int)(intptr_t)arg;
    ssize_t n = send(fd, request, 1, MSG_NOSIGNAL) == 1 ? REQUEST_BYTES : -1;

    while (n == REQUEST_BYTES && recv(fd, request, REQUEST_BYTES, MSG_WAITALL) == REQUEST_BYTES)
        if ((n = send(fd, request, REQUEST_BYTES, MSG_NOSIGNAL)) == REQUEST_BYTES)
            answered++;
    close(fd);
    return NULL;
}

/* A thread for each of so many connections; how many threads there are, in threads[0 ...], or -1: said why not. */
static long serve_all(int listener, long clients, const pthread_attr_t *attributes, pthread_t *threads)
{
    long served = 0, refused = 0;

    while (served + refused < clients) {
        int error, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0 && (errno == ECONNABORTED || errno == EINTR))
            continue;
        if (fd < 0) {
            perror("accept");
            return -1;
        }
        error = pthread_create(&threads[served], attributes, serve, (void *)(intptr_t)fd);
        if (error == 0) {
            served++;
            continue;
        }
        if (refused++ == 0)
            print_refused(served, error);
        close(fd);
    }
    return served;
}

int main(int argc, char **argv)
{
    struct arguments a = read_arguments(argc, argv, "STACK_KIB");
    pthread_t *threads = calloc((size_t)a.clients, sizeof *threads);
    pthread_attr_t attributes;
    int listener, error;
    long served;

    need_descriptors(a.clients);
    if (threads == NULL || (error = pthread_attr_init(&attributes)) != 0 ||
        (a.more > 0 && (error = pthread_attr_setstacksize(&attributes, (size_t)a.more * 1024)) != 0)) {
        fprintf(stderr, "%s: %s\n", argv[0], strerror(threads == NULL ? ENOMEM : error));
        return 1;
    }
    if ((listener = listen_at(a.port)) < 0 || (served = serve_all(listener, a.clients, &attributes, threads)) < 0)
        return 1;
    close(listener);
    for (long i = 0; i < served; i++)
        pthread_join(threads[i], NULL);
    pthread_attr_destroy(&attributes);
    free(threads);
    print_served(served, answered);
    return 0;
}
