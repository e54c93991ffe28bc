/* An echo server, one fiber a client. Ctrl-C: no new clients; those there are may finish.
 *
 *   $ 03_echo_server 127.0.0.1:7777
 *   listening on 127.0.0.1:7777
 *   ^Cdrained
 */
#include <sley.h>
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static int echo(void *arg)
{
    int fd = *(int *)arg;
    char buf[2048]; /* of the fiber's stack: with it a waiting client still costs one page */
    int n;

    while ((n = sley_recv(fd, buf, sizeof buf, 0, SLEY_FOREVER)) > 0)
        if ((n = sley_send_all(fd, buf, n, 0, SLEY_FOREVER)) < 0)
            break;
    sley_close(fd);
    return n;
}

static int serve(void *arg)
{
    int listener = *(int *)arg, fd;
    sley_scope clients;

    sley_scope_init_isolated(&clients, SLEY_FOREVER); /* an error of one client is no error of the others */
    while ((fd = sley_accept(listener, NULL, NULL, SLEY_FOREVER)) >= 0)
        if (sley_go_copy(echo, &fd, sizeof fd) < 0)
            sley_close(fd);
    return sley_scope_wait(&clients, fd == -EBADF ? 0 : fd, SLEY_FOREVER); /* EBADF: closed under us, and that is how the server ends */
}

static int announce(int listener)
{
    struct sockaddr_storage ss;
    struct sockaddr_in *in = (struct sockaddr_in *)&ss;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;
    socklen_t len = sizeof ss;
    char host[INET6_ADDRSTRLEN] = "a unix socket";
    int port = 0;

    if (getsockname(listener, (struct sockaddr *)&ss, &len) < 0)
        return -ENOTSOCK;
    if (ss.ss_family == AF_INET && inet_ntop(AF_INET, &in->sin_addr, host, sizeof host) != NULL)
        port = ntohs(in->sin_port);
    else if (ss.ss_family == AF_INET6 && inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host) != NULL)
        port = ntohs(in6->sin6_port);
    printf(ss.ss_family == AF_INET6 ? "listening on [%s]:%d\n" : "listening on %s:%d\n", host, port);
    return fflush(stdout) == 0 ? 0 : -EIO;
}

static int start(void *arg)
{
    uint64_t signals = SLEY_SIG(SIGINT) | SLEY_SIG(SIGTERM);
    int listener, rc;

    if ((rc = sley_signal_wait(signals, SLEY_NOW)) != -ETIMEDOUT) /* from here on they are kept for us, and kill nobody */
        return rc < 0 ? rc : 0;
    if ((listener = sley_net_listen(arg, NULL)) < 0)
        return listener;
    if ((rc = announce(listener)) == 0 && (rc = sley_go_copy(serve, &listener, sizeof listener)) == 0)
        rc = sley_signal_wait(signals, SLEY_FOREVER);
    sley_close(listener); /* ends accept; sley_run waits for the clients */
    return rc < 0 ? rc : 0;
}

int main(int argc, char **argv)
{
    int rc = sley_run(NULL, start, argc > 1 ? argv[1] : "127.0.0.1:7777");

    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", argv[0], strerror(-rc));
        return 1;
    }
    puts("drained");
    return 0;
}
