/* A static file server: HTTP/1.1 with keep-alive, pipelining, ranges, conditions, directory pages and an access log; one fiber a client.
 *
 *   $ fileserver --port 8080 docs
 *   listening on http://127.0.0.1:8080/
 *   ^Cdrained: 12 requests, 3 connections, 0 log lines dropped
 *
 * A file that changes is served as it was for at most a second more (files.c). Ctrl-C: no new clients, idle ones go, answers under way
 * are finished; a second Ctrl-C ends at once. server.h is the map. */
#include "server.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

struct server server = { .root = -1, .idle_ns = 60 * SLEY_S, .header_ns = 10 * SLEY_S, .drain_ns = 10 * SLEY_S };

static struct settings {
    const char *address, *port, *log, *directory;
    bool stats;
    long connections_max;
} settings = { .address = "127.0.0.1", .port = "8080" };

static const char usage[] =
    "usage: fileserver [options] DIRECTORY\n"
    "  -p, --port N             0: one that is free (8080)\n"
    "  -a, --address ADDRESS    numeric, or * (127.0.0.1)\n"
    "  -l, --log FILE           access log in the combined format; -: standard output\n"
    "  -s, --stats              a line of counters a second\n"
    "      --idle SECONDS       close connections that ask for nothing (60)\n"
    "      --header SECONDS     refuse requests that take longer to arrive (10)\n"
    "      --drain SECONDS      at the end, cut off clients that take longer (10)\n";

#define SIGNALS (SLEY_SIG(SIGINT) | SLEY_SIG(SIGTERM))

static int complain(const char *what, int error)
{
    fprintf(stderr, "fileserver: %s: %s\n", what, strerror(-error));
    return error;
}

/* Each connection is a descriptor, and so is each open file: some are left for these. */
static void raise_limits(void)
{
    struct rlimit limit = { .rlim_cur = 1024 };

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit); /* without it there are fewer connections, that is all */
        getrlimit(RLIMIT_NOFILE, &limit);
    }
    settings.connections_max = limit.rlim_cur > 2 * SPARE_FDS ? limit.rlim_cur - SPARE_FDS : limit.rlim_cur / 2;
}

static int listen_and_tell(void)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } bound = { .any.sa_family = AF_UNSPEC };
    bool brackets = strchr(settings.address, ':') != NULL; /* an IPv6 address */
    char address[300];
    socklen_t bound_bytes = sizeof bound;
    int fd, port;

    snprintf(address, sizeof address, brackets ? "[%s]:%s" : "%s:%s", settings.address, settings.port);
    fd = sley_net_listen(address, NULL);
    if (fd < 0)
        return complain(address, fd);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)); /* inherited; without it answers wait for acknowledgements */
    if (getsockname(fd, &bound.any, &bound_bytes) < 0) {
        sley_close(fd);
        return complain(address, -EADDRNOTAVAIL);
    }
    port = ntohs(bound.any.sa_family == AF_INET6 ? bound.in6.sin6_port : bound.in.sin_port);
    printf(brackets ? "listening on http://[%s]:%d/\n" : "listening on http://%s:%d/\n", settings.address, port);
    fflush(stdout);
    return fd;
}

static int accept_all(void *arg)
{
    int listener = *(int *)arg, rc;
    struct accepted a;

    sley_fiber_set_name("accept");
    while ((rc = conn_wait_room(settings.connections_max)) == 0) {
        socklen_t bytes = sizeof a.from;
        a.fd = rc = sley_accept(listener, &a.from.any, &bytes, SLEY_FOREVER);
        if (rc < 0)
            break;
        conn_begin();
        if (sley_go_copy(conn_run, &a, sizeof a) < 0) { /* no memory: for this client, now */
            conn_end();
            sley_close(a.fd);
        }
    }
    return rc == -EBADF ? 0 : rc; /* the listener was closed: that is how it ends */
}

/* No more connections come: first those that are idle go, then all. */
static int stop(void)
{
    int rc;

    sley_signal_release(SIGNALS);
    atomic_store(&server.stopping, true);
    conn_stop_idle();
    rc = conn_wait_none(sley_after(server.drain_ns));
    if (rc == -ETIMEDOUT) {
        conn_stop_all();
        rc = conn_wait_none(SLEY_FOREVER);
    }
    return rc;
}

static int start(void)
{
    int listener, rc;

    if ((rc = sley_signal_wait(SIGNALS, SLEY_NOW)) != -ETIMEDOUT) /* from here on they are kept for us, and kill nobody */
        return rc;
    server.root = sley_open(settings.directory, O_RDONLY | O_DIRECTORY, 0, SLEY_FOREVER);
    if (server.root < 0)
        return complain(settings.directory, server.root);
    if (settings.log != NULL && (rc = log_open(settings.log)) < 0)
        return complain(settings.log, rc);
    if ((listener = listen_and_tell()) < 0)
        return listener;

    if ((rc = sley_go_copy(accept_all, &listener, sizeof listener)) == 0 && (rc = sley_go(files_sweep, NULL)) == 0 &&
        (settings.log == NULL || (rc = sley_go(log_run, NULL)) == 0) && (!settings.stats || (rc = sley_go(stats_run, NULL)) == 0))
        rc = sley_signal_wait(SIGNALS, SLEY_FOREVER);
    sley_close(listener);
    rc = rc > 0 ? stop() : rc;
    sley_event_set(&server.ended);
    files_stop();
    if (settings.log != NULL)
        log_stop();
    return rc;
}

struct first {
    int        result;
    sley_event ended;
};

static int run_first(void *arg)
{
    struct first *f = arg;

    f->result = start();
    sley_event_set(&f->ended);
    return 0;
}

/* Not sley_run, whose fibers stand and fall together: in the root scope of a runtime an error is its fiber's own. */
static int run(void)
{
    struct first first = { 0 };
    sley_runtime *rt;
    int rc = sley_runtime_create(&rt, NULL);

    if (rc < 0)
        return rc;
    if ((rc = sley_runtime_start(rt)) == 0 && (rc = sley_runtime_submit(rt, run_first, &first)) == 0 &&
        (rc = sley_event_wait(&first.ended, SLEY_FOREVER)) == 0) {
        sley_runtime_stop(rt, SLEY_FOREVER);
        rc = first.result;
    }
    sley_runtime_destroy(rt);
    return rc;
}

static bool seconds(const char *text, sley_time *ns)
{
    char *end;
    long n = strtol(text, &end, 10);

    *ns = n * SLEY_S;
    return end > text && *end == '\0' && n > 0 && n <= 86400;
}

static bool parse_options(int argc, char **argv)
{
    enum { IDLE = 256, HEADER, DRAIN };
    static const struct option options[] = {
        { "port", required_argument, NULL, 'p' }, { "address", required_argument, NULL, 'a' }, { "log", required_argument, NULL, 'l' },
        { "stats", no_argument, NULL, 's' }, { "idle", required_argument, NULL, IDLE }, { "header", required_argument, NULL, HEADER },
        { "drain", required_argument, NULL, DRAIN }, { NULL, 0, NULL, 0 },
    };
    bool good = true;
    int opt;

    while (good && (opt = getopt_long(argc, argv, "p:a:l:s", options, NULL)) != -1) {
        switch (opt) {
        case 'p': settings.port = optarg; break;
        case 'a': settings.address = optarg; break;
        case 'l': settings.log = optarg; break;
        case 's': settings.stats = true; break;
        case IDLE: good = seconds(optarg, &server.idle_ns); break;
        case HEADER: good = seconds(optarg, &server.header_ns); break;
        case DRAIN: good = seconds(optarg, &server.drain_ns); break;
        default: good = false;
        }
    }
    settings.directory = argv[optind];
    return good && optind + 1 == argc;
}

int main(int argc, char **argv)
{
    int rc;

    if (!parse_options(argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    raise_limits();
    tzset(); /* libc reads a file for it: not at the first date, on a worker */
    rc = run();
    if (server.root >= 0)
        sley_close(server.root);
    respond_fini();
    if (rc < 0)
        return complain("ended", rc) != 0;
    printf("drained: %llu requests, %llu connections, %llu log lines dropped\n", atomic_load(&server.requests),
           atomic_load(&server.connections), atomic_load(&server.log_dropped));
    return 0;
}
