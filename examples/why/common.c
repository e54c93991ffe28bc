/* What the three programs in C share; nothing here waits. */
#include "why.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static bool read_number(const char *text, long max, long *number)
{
    char *end;

    errno = 0;
    *number = strtol(text, &end, 10);
    return end > text && *end == '\0' && errno == 0 && *number >= 0 && *number <= max;
}

struct arguments read_arguments(int argc, char **argv, const char *more)
{
    struct arguments a = { 0 };
    long port = 0;

    if (argc < 3 || argc > (more != NULL ? 4 : 3) || !read_number(argv[1], UINT16_MAX, &port) ||
        !read_number(argv[2], 1000000, &a.clients) || a.clients == 0 || (argc > 3 && !read_number(argv[3], 1 << 20, &a.more))) {
        fprintf(stderr, more != NULL ? "usage: %s PORT CLIENTS [%s]\n" : "usage: %s PORT CLIENTS\n", argv[0], more);
        exit(2);
    }
    a.port = (uint16_t)port;
    return a;
}

void need_descriptors(long clients)
{
    rlim_t need = (rlim_t)clients + SPARE_FDS;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max >= need) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
            return;
    }
    fprintf(stderr, "%ld clients need %llu descriptors in this process, and its hard limit is %llu: ask for fewer clients, or raise the "
            "limit as root (ulimit -Hn %llu; for good: nofile in /etc/security/limits.conf, or LimitNOFILE= of a systemd unit)\n",
            clients, (unsigned long long)need, (unsigned long long)limit.rlim_max, (unsigned long long)need);
    exit(1);
}

int listen_at(uint16_t port)
{
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t here_bytes = sizeof here;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0 || /* inherited by what is accepted */
        bind(fd, (struct sockaddr *)&here, sizeof here) < 0 || listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)&here, &here_bytes) < 0) {
        fprintf(stderr, "cannot listen on 127.0.0.1:%d: %s\n", port, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    printf("listening on 127.0.0.1:%d\n", ntohs(here.sin_port));
    fflush(stdout);
    return fd;
}

void print_refused(long served, int error)
{
    printf("%ld clients are served, the next is refused: %s\n", served, strerror(error));
    fflush(stdout);
}

void print_served(long served, long answered)
{
    printf("%ld clients served, %ld requests answered\n", served, answered);
}
