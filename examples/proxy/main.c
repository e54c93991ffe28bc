/* A reverse proxy for TCP: what clients send goes to one other address, and what comes back to them; two fibers a connection.
 *
 *   $ proxy --listen 127.0.0.1:8081 --to 127.0.0.1:8080
 *   listening on 127.0.0.1:8081
 *   ^Cdrained: 12 connections, 0 failed
 *
 * Addresses are those of sley_net_listen and sley_net_dial, Unix sockets among them. What goes wrong is told on stderr. Ctrl-C: no new
 * clients; those there are may finish for a while; a second Ctrl-C ends at once. relay.c does the work. */
#include "proxy.h"
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { SPARE_FDS = 64 };

struct proxy proxy = { .idle_ns = 60 * SLEY_S, .connect_ns = 5 * SLEY_S };

static struct settings {
    const char *listen;
    sley_time drain_ns;
    long connections_max;
} settings = { .listen = "127.0.0.1:8081", .drain_ns = 10 * SLEY_S, .connections_max = 1000 };

static sley_scope clients;

static const char usage[] =
    "usage: proxy [options] --to ADDRESS\n"
    "  -l, --listen ADDRESS     HOST:PORT or unix:PATH; port 0: one that is free (127.0.0.1:8081)\n"
    "  -t, --to ADDRESS         where the connections go on to\n"
    "  -n, --connections N      as many at once; who comes then waits (1000)\n"
    "      --idle SECONDS       break off connections on which nothing moves (60)\n"
    "      --connect SECONDS    how long the other address may take to accept (5)\n"
    "      --drain SECONDS      at the end, cut off those that take longer (10)\n";

#define SIGNALS (SLEY_SIG(SIGINT) | SLEY_SIG(SIGTERM))

void complain(const char *who, const char *what, int error)
{
    char line[512];
    int n = snprintf(line, sizeof line, "proxy: %s: %s: %s\n", who, what, strerror(-error));

    if ((size_t)n >= sizeof line)
        n = sizeof line - 1;
    sley_shield_begin(); /* who is cut off may say so */
    n = sley_write_all(STDERR_FILENO, line, (size_t)n, sley_after(SLEY_S));
    (void)n; /* if nobody reads it, there is nowhere else to say so */
    sley_shield_end();
}

/* Two descriptors a connection. */
static int fit_limits(void)
{
    struct rlimit limit;
    long fit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 0;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    fit = limit.rlim_cur > 2L * INT32_MAX ? INT32_MAX : ((long)limit.rlim_cur - SPARE_FDS) / 2;
    if (settings.connections_max <= fit)
        return 0;
    fprintf(stderr, "proxy: the limit of open files (ulimit -n) is enough for %ld connections\n", fit > 0 ? fit : 0);
    return -EMFILE;
}

static int accept_all(void *arg)
{
    int listener = *(int *)arg, fd, rc;

    while ((rc = sley_sem_wait(&proxy.room, SLEY_FOREVER)) == 0) {
        rc = fd = sley_accept(listener, NULL, NULL, SLEY_FOREVER);
        if (rc < 0)
            break;
        if ((rc = sley_scope_go_copy(&clients, relay_run, &fd, sizeof fd)) < 0) {
            complain(settings.listen, "a connection", rc);
            sley_close(fd);
            sley_sem_post(&proxy.room);
        }
    }
    return rc;
}

/* Until a signal comes: 0; or what ended it before that. */
static int serve(int listener)
{
    sley_scope accepting;
    int rc;

    sley_scope_init(&accepting, SLEY_FOREVER);
    sley_go(accept_all, &listener);
    rc = sley_signal_wait(SIGNALS, SLEY_FOREVER);
    sley_scope_cancel(&accepting);
    rc = sley_scope_wait(&accepting, rc, SLEY_FOREVER);
    return rc < 0 ? rc : 0;
}

static int start(void *arg)
{
    char name[SLEY_NET_TEXT_BYTES];
    int listener, rc;

    (void)arg;
    if ((rc = sley_signal_wait(SIGNALS, SLEY_NOW)) != -ETIMEDOUT) /* from here on they are kept for us, and kill nobody */
        return rc < 0 ? rc : 0;
    listener = sley_net_listen(settings.listen, NULL);
    if (listener < 0) {
        complain(settings.listen, "cannot listen", listener);
        return listener;
    }
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)); /* inherited; of a Unix socket refused, and not needed */
    if ((rc = sley_net_local(listener, name, sizeof name)) >= 0) {
        printf("listening on %s\n", name);
        fflush(stdout);
        sley_scope_init_isolated(&clients, SLEY_FOREVER); /* an error of one client is no error of the others */
        rc = serve(listener);
        sley_signal_release(SIGNALS);
        sley_close(listener);
        sley_scope_set_deadline(&clients, sley_after(settings.drain_ns));
        rc = sley_scope_wait(&clients, rc, SLEY_FOREVER);
        return rc == -ETIMEDOUT ? 0 : rc; /* who was cut off has been told */
    }
    sley_close(listener);
    return rc;
}

static bool number(const char *text, long max, long *out)
{
    char *after;

    *out = strtol(text, &after, 10);
    return after > text && *after == '\0' && *out > 0 && *out <= max;
}

static bool seconds(const char *text, sley_time *ns)
{
    long n;
    bool good = number(text, 86400, &n);

    *ns = n * SLEY_S;
    return good;
}

static bool parse_options(int argc, char **argv)
{
    enum { IDLE = 256, CONNECT, DRAIN };
    static const struct option options[] = {
        { "listen", required_argument, NULL, 'l' }, { "to", required_argument, NULL, 't' }, { "connections", required_argument, NULL, 'n' },
        { "idle", required_argument, NULL, IDLE }, { "connect", required_argument, NULL, CONNECT },
        { "drain", required_argument, NULL, DRAIN }, { NULL, 0, NULL, 0 },
    };
    bool good = true;
    int opt;

    while (good && (opt = getopt_long(argc, argv, "l:t:n:", options, NULL)) != -1) {
        switch (opt) {
        case 'l': settings.listen = optarg; break;
        case 't': proxy.to = optarg; break;
        case 'n': good = number(optarg, 1000000, &settings.connections_max); break;
        case IDLE: good = seconds(optarg, &proxy.idle_ns); break;
        case CONNECT: good = seconds(optarg, &proxy.connect_ns); break;
        case DRAIN: good = seconds(optarg, &settings.drain_ns); break;
        default: good = false;
        }
    }
    return good && proxy.to != NULL && optind == argc;
}

int main(int argc, char **argv)
{
    int rc;

    if (!parse_options(argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    if (fit_limits() < 0)
        return 1;
    sley_sem_init(&proxy.room, (uint32_t)settings.connections_max);
    rc = sley_run(NULL, start, NULL);
    if (rc < 0) {
        fprintf(stderr, "proxy: %s\n", strerror(-rc));
        return 1;
    }
    printf("drained: %lu connections, %lu failed\n", atomic_load(&proxy.connections), atomic_load(&proxy.failed));
    return 0;
}
