/* conn.c - one connection: a fiber that reads requests and has them answered until somebody ends it.
 *
 * A request is read where the stream has it: `parsed` of `have` bytes were looked at, all of them whenever more is waited for. It leaves
 * the stream once it has been answered. While the client has asked for nothing the fiber holds no memory but its stack and an empty
 * stream.
 *
 * Stopping. A connection says idle, then looks at stopping; the server sets stopping, then looks at idle. Both are sequentially
 * consistent, so at least one sees the other, and no connection waits for a request that nobody will answer. */
#include "server.h"
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

struct conn {
    struct conn *prev, *next; /* under registry_lock */
    atomic_bool idle;         /* waits for the first byte of a request */
    struct answers answers;
    struct parse parse;
    sley_stream *in;
    size_t parsed, have;      /* of the request that is being read, and perhaps of the next ones */
    sley_time deadline;       /* of the headers, or of the body; 0: nobody has waited for them yet */
};

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct conn *registry;
static sley_waitgroup all;    /* one each connection, from conn_begin on */
static sley_event ended;      /* set whenever one has */

static void enlist(struct conn *c)
{
    pthread_mutex_lock(&registry_lock);
    c->prev = NULL;
    c->next = registry;
    if (registry != NULL)
        registry->prev = c;
    registry = c;
    pthread_mutex_unlock(&registry_lock);
}

static void delist(struct conn *c) /* before the descriptor is closed: the number may belong to another at once */
{
    pthread_mutex_lock(&registry_lock);
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        registry = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    pthread_mutex_unlock(&registry_lock);
}

static void shut_down(bool all_of_them, int how)
{
    pthread_mutex_lock(&registry_lock);
    for (struct conn *c = registry; c != NULL; c = c->next)
        if (all_of_them || atomic_load(&c->idle))
            shutdown(c->answers.fd, how); /* fails for who has left already */
    pthread_mutex_unlock(&registry_lock);
}

void conn_stop_idle(void)
{
    shut_down(false, SHUT_RD); /* what has arrived can still be read, then comes the end */
}

void conn_stop_all(void)
{
    shut_down(true, SHUT_RDWR);
}

void conn_begin(void)
{
    atomic_fetch_add(&server.connections, 1);
    atomic_fetch_add(&server.connections_now, 1);
    sley_waitgroup_add(&all, 1);
}

void conn_end(void)
{
    atomic_fetch_sub(&server.connections_now, 1);
    sley_event_set(&ended);
    sley_waitgroup_done(&all);
}

int conn_wait_none(sley_time deadline)
{
    return sley_waitgroup_wait(&all, deadline);
}

int conn_wait_room(long max)
{
    int rc = 0;

    while (rc == 0 && atomic_load(&server.connections_now) >= max) {
        sley_event_reset(&ended);
        if (atomic_load(&server.connections_now) >= max)
            rc = sley_event_wait(&ended, SLEY_FOREVER);
    }
    return rc;
}

/* --- reading --------------------------------------------------------------------------------------------------------------------- */

/* 1: there is more; 0: the end; -errno; -ETIMEDOUT: the client was too slow. */
static int read_more(struct conn *c)
{
    bool idle = c->have == 0;
    int n;

    if (idle)
        c->deadline = 0;
    else if (c->deadline == 0)
        c->deadline = sley_after(server.header_ns);
    atomic_store(&c->idle, idle);
    if (idle && atomic_load(&server.stopping))
        return 0;
    n = sley_stream_peek(c->in, c->have + 1, idle ? sley_after(server.idle_ns) : c->deadline);
    atomic_store_explicit(&c->idle, false, memory_order_relaxed);
    if (n < 0 || (size_t)n == c->have)
        return n < 0 ? n : 0;
    c->have = n;
    return 1;
}

/* --- requests -------------------------------------------------------------------------------------------------------------------- */

/* Parse what is here and answer the request if it is complete. */
static int advance(struct conn *c)
{
    struct request *r = &c->parse.request;
    const char *base = sley_stream_data(c->in);
    bool had_headers = r->headers_done;
    int rc = 0;

    c->parsed += parse_feed(&c->parse, base, c->parsed, c->have - c->parsed);
    if (r->headers_done && !had_headers) {
        c->deadline = 0;
        if (r->expects_continue && r->status == 0)
            rc = respond_continue(&c->answers);
    }
    if (rc == 0 && (r->done || r->status != 0))
        rc = respond(&c->answers, r, base);
    return rc;
}

static void next_request(struct conn *c)
{
    parse_next(&c->parse);
    sley_stream_skip(c->in, c->parsed);
    c->have -= c->parsed;
    c->parsed = 0;
    c->deadline = 0;
}

/* The client has been refused, or may be sending still: closing now would reset the connection and destroy the answer on its way. */
static void linger(struct conn *c)
{
    sley_time deadline = sley_after(LINGER_NS);
    int left = LINGER_BYTES_MAX, n = shutdown(c->answers.fd, SHUT_WR);

    sley_stream_skip(c->in, c->have);
    while (n >= 0 && left > 0 && (n = sley_stream_peek(c->in, 1, deadline)) > 0) {
        sley_stream_skip(c->in, n);
        left -= n;
    }
}

static void serve(struct conn *c)
{
    struct request *r = &c->parse.request;
    int rc = 0, n, status;

    for (;;) {
        while (rc == 0 && c->parsed < c->have && !r->done && r->status == 0)
            rc = advance(c);
        if (rc == 0 && r->done && r->keep_alive) {
            next_request(c);
            continue;
        }
        if (rc < 0 || r->done || r->status != 0)
            break;
        if ((rc = respond_flush(&c->answers, 0)) < 0)
            break;
        status = r->headers_done || c->have < HEAD_IN_BYTES_MAX ? 0 : r->headers == 0 ? 414 : 431;
        n = status == 0 ? read_more(c) : 0;
        if (n == -ETIMEDOUT && c->have > 0)
            status = 408;
        if (status != 0) {
            r->status = status;
            rc = respond(&c->answers, r, sley_stream_data(c->in));
            break;
        }
        if (n <= 0)
            return; /* the client's end, or a connection that is lost */
    }
    if (respond_flush(&c->answers, 0) == 0 && rc == 0 && (!r->done || c->parsed < c->have || atomic_load(&server.stopping)))
        linger(c);
}

/* The client's address for the log. inet_ntop would do for both, but it needs another page of the fiber's stack. */
static void name_client(const struct accepted *from, char name[INET6_ADDRSTRLEN])
{
    const unsigned char *byte = (const unsigned char *)&from->from.in.sin_addr;
    struct text t = { .data = name, .bytes_max = INET6_ADDRSTRLEN };

    if (from->from.any.sa_family == AF_INET) {
        for (int i = 0; i < 4; i++) {
            text_add_number(&t, byte[i]);
            text_add(&t, i < 3 ? "." : "", 1);
        }
    } else if (inet_ntop(AF_INET6, &from->from.in6.sin6_addr, name, INET6_ADDRSTRLEN) == NULL) {
        strcpy(name, "-");
    }
}

int conn_run(void *arg)
{
    const struct accepted *accepted = arg;
    struct conn c = { .idle = false, .answers = { .fd = accepted->fd }, .in = sley_stream_create(accepted->fd) };

    name_client(accepted, c.answers.client);
    parse_init(&c.parse);
    enlist(&c);
    if (c.in != NULL)
        serve(&c);
    delist(&c);
    sley_stream_destroy(c.in);
    sley_close(c.answers.fd);
    conn_end();
    return 0; /* what went wrong is this client's affair */
}
