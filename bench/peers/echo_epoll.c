/* echo_epoll.c - the echo server as an event loop by hand: one thread, epoll, level-triggered. usage: echo_epoll PORT */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 512, BUFFER_BYTES = 2048 };

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) < 0 || listen(fd, SOMAXCONN) < 0)
        die("listen");
    return fd;
}

static void take_all(int epoll_fd, int listener)
{
    int fd, one = 1;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };

        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0)
            die("epoll_ctl");
    }
}

/* A client that does not read what it gets is hung up on: enough for closed loops of small messages. */
static void echo(int fd)
{
    char buffer[BUFFER_BYTES];
    ssize_t n = recv(fd, buffer, sizeof buffer, 0);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 || send(fd, buffer, (size_t)n, MSG_NOSIGNAL) != n)
        close(fd);
}

int main(int argc, char **argv)
{
    int listener = listen_on((uint16_t)strtoul(argc > 1 ? argv[1] : "7777", NULL, 10));
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[EVENTS], e = { .events = EPOLLIN, .data.fd = listener };

    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e) < 0)
        die("epoll");
    puts("listening");
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener)
                take_all(epoll_fd, listener);
            else
                echo(events[i].data.fd);
        }
    }
}
