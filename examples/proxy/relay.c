/* relay.c - one connection: bytes from the client to upstream on one fiber, and back on another, until both sides have ended.
 *
 * An end of one side is passed on as an end, so either may go on alone. Whatever else ends a connection (a reset, a time limit, the end of
 * the proxy) is passed on to both as a reset: nobody may take an answer that was cut off for a whole one.
 *
 * The idle limit is the connection's: as long as bytes move one way, the other may be silent. While nothing comes from a side, its stream
 * holds no buffer. */
#include "proxy.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

struct relay {
    sley_stream *client, *upstream;
    _Atomic sley_time moved;       /* when bytes went on, either way */
    _Atomic(const char *) culprit; /* whose fault the first error is */
};

static int blame(struct relay *r, const char *who, int error)
{
    const char *nobody = NULL;

    atomic_compare_exchange_strong(&r->culprit, &nobody, who);
    return error;
}

static sley_time silent_until(struct relay *r)
{
    return atomic_load(&r->moved) + proxy.idle_ns;
}

/* How many bytes are here, at least one; 0: the end; -errno. */
static int wait_for_bytes(struct relay *r, sley_stream *from)
{
    sley_time deadline;
    int n;

    do {
        deadline = silent_until(r);
        n = sley_stream_peek(from, 1, deadline);
    } while (n == -ETIMEDOUT && silent_until(r) > deadline); /* meanwhile bytes moved the other way */
    return n;
}

/* Pass on n bytes that are here, or as many as go: more than 0; -errno. */
static int pass_on(struct relay *r, sley_stream *to, sley_stream *from, int n)
{
    sley_time deadline;
    int64_t sent;

    do {
        deadline = silent_until(r);
        sent = sley_stream_copy(to, from, n, deadline);
    } while (sent == -ETIMEDOUT && silent_until(r) > deadline);
    if (sent > 0)
        atomic_store(&r->moved, sley_now());
    return (int)sent;
}

static int to_upstream(void *arg)
{
    struct relay *r = arg;
    int n;

    while ((n = wait_for_bytes(r, r->client)) > 0)
        if ((n = pass_on(r, r->upstream, r->client, n)) < 0)
            return blame(r, proxy.to, n);
    if (n < 0)
        return blame(r, "client", n);
    shutdown(sley_stream_fd(r->upstream), SHUT_WR); /* fails if it has gone already: the other way sees to that */
    return 0;
}

static int to_client(struct relay *r)
{
    int n;

    while ((n = wait_for_bytes(r, r->upstream)) > 0)
        if ((n = pass_on(r, r->client, r->upstream, n)) < 0)
            return blame(r, "client", n);
    if (n < 0)
        return blame(r, proxy.to, n);
    shutdown(sley_stream_fd(r->client), SHUT_WR);
    return 0;
}

static int carry(struct relay *r, int client, int upstream)
{
    sley_scope both;
    int rc = -ENOMEM;

    r->client = sley_stream_create(client);
    r->upstream = sley_stream_create(upstream);
    if (r->client != NULL && r->upstream != NULL) {
        atomic_store(&r->moved, sley_now());
        sley_scope_init(&both, SLEY_FOREVER); /* an error of one way ends the other */
        sley_go(to_upstream, r); /* if it cannot start, the scope says so */
        rc = sley_scope_wait(&both, to_client(r), SLEY_FOREVER);
    }
    sley_stream_destroy(r->client);
    sley_stream_destroy(r->upstream);
    return rc;
}

static void end(int fd, int rc)
{
    if (rc < 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1 }, sizeof(struct linger)); /* closing resets */
    sley_close(fd);
}

int relay_run(void *arg)
{
    int client = *(int *)arg, upstream, rc;
    struct relay r = { .culprit = NULL };
    char name[SLEY_NET_TEXT_BYTES];

    if (sley_net_peer(client, name, sizeof name) < 0)
        snprintf(name, sizeof name, "a client that has gone");
    rc = upstream = sley_net_dial(proxy.to, sley_after(proxy.connect_ns));
    if (upstream < 0) {
        blame(&r, proxy.to, rc);
    } else {
        setsockopt(upstream, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)); /* of a Unix socket refused, and not needed */
        rc = carry(&r, client, upstream);
        end(upstream, rc);
    }
    if (rc < 0) {
        const char *culprit = atomic_load(&r.culprit);

        complain(name, rc == -ECANCELED ? "cut off" : culprit != NULL ? culprit : "proxy", rc); /* the proxy's own: no memory */
        atomic_fetch_add(&proxy.failed, 1);
    }
    end(client, rc);
    atomic_fetch_add(&proxy.connections, 1);
    sley_sem_post(&proxy.room);
    return 0; /* what went wrong is this client's affair */
}
