/* All the clients of one of the servers, in one process: an event loop by hand, epoll. See why.h.
 *
 *   $ clients 7777 10000
 *   10000 clients wait, 0 refused, after 310.204 ms; press Enter
 *
 *   10000 answers, after 120.077 ms; press Enter
 *
 * They connect, a few hundred ahead of what the server has taken; when each has got READY, or was hung up on, the first line says how
 * long that took. Then all send a request, no two alike, and the second line says when the last answer had come, every byte checked. With
 * standard input at its end nothing has to be pressed. */
#include "why.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 512, AHEAD = 500 }; /* AHEAD: well below the backlog, since a connection beyond it would be tried again a second later */

struct client {
    int    fd; /* -1: refused */
    size_t got_bytes;
    char   request[REQUEST_BYTES], answer[REQUEST_BYTES];
};

static int epoll_fd;

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void dial(struct client *c, uint16_t port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct linger at_once = { .l_onoff = 1, .l_linger = 0 }; /* leaves no port behind in TIME_WAIT */
    struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
    int one = 1;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0)
        die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e) < 0)
        die("epoll_ctl");
}

/* 1: READY, 0: nothing yet, -1: hung up */
static int hear_ready(struct client *c)
{
    ssize_t n = recv(c->fd, c->answer, 1, MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n == 1 && c->answer[0] != READY) {
        fprintf(stderr, "the server began with another byte than READY\n");
        exit(1);
    }
    if (n == 1)
        return 1;
    close(c->fd);
    c->fd = -1;
    return -1;
}

/* 1: the whole answer */
static int hear_answer(struct client *c)
{
    ssize_t n = recv(c->fd, c->answer + c->got_bytes, REQUEST_BYTES - c->got_bytes, MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n <= 0)
        die("recv: the server hung up on a client that waits for its answer");
    c->got_bytes += (size_t)n;
    if (c->got_bytes < REQUEST_BYTES)
        return 0;
    if (memcmp(c->answer, c->request, REQUEST_BYTES) != 0) {
        fprintf(stderr, "another answer than the request\n");
        exit(1);
    }
    return 1;
}

static void ask(struct client *c, long number)
{
    for (int i = 0; i < REQUEST_BYTES; i++)
        c->request[i] = (char)((number >> i % 32) ^ i); /* no two clients' are alike */
    if (send(c->fd, c->request, REQUEST_BYTES, MSG_NOSIGNAL) != REQUEST_BYTES)
        die("send");
}

/* Call hear for those that have something to read; how many said 1, and those that said -1 in *gone. */
static long hear_all(int (*hear)(struct client *), long *gone)
{
    static struct epoll_event events[EVENTS];
    int n = epoll_wait(epoll_fd, events, EVENTS, -1);
    long done = 0;

    if (n < 0 && errno != EINTR)
        die("epoll_wait");
    for (int i = 0; i < n; i++) {
        int said = hear(events[i].data.ptr);

        done += said > 0;
        *gone += said < 0;
    }
    return done;
}

static void wait_for_enter(void)
{
    int c;

    fflush(stdout);
    while ((c = getchar()) != EOF && c != '\n')
        ;
}

int main(int argc, char **argv)
{
    struct arguments a = read_arguments(argc, argv, NULL);
    struct client *clients = calloc((size_t)a.clients, sizeof *clients);
    long ready = 0, refused = 0, answered = 0;
    int64_t began;

    need_descriptors(a.clients);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (clients == NULL || epoll_fd < 0)
        die("start");

    began = now_ns();
    for (long dialled = 0; ready + refused < a.clients;) {
        while (dialled < a.clients && dialled - ready - refused < AHEAD)
            dial(&clients[dialled++], a.port);
        ready += hear_all(hear_ready, &refused);
    }
    printf("%ld clients wait, %ld refused, after %.3f ms; press Enter\n", ready, refused, (double)(now_ns() - began) / 1e6);
    wait_for_enter();

    began = now_ns();
    for (long i = 0; i < a.clients; i++)
        if (clients[i].fd >= 0)
            ask(&clients[i], i);
    while (answered < ready)
        answered += hear_all(hear_answer, &refused);
    printf("%ld answers, after %.3f ms; press Enter\n", answered, (double)(now_ns() - began) / 1e6);
    wait_for_enter();

    for (long i = 0; i < a.clients; i++)
        if (clients[i].fd >= 0)
            close(clients[i].fd);
    free(clients);
    return 0;
}
