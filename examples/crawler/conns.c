/* conns.c - connections, and those that are kept until somebody has another request for the same server. Of one server no more are kept
 * than there are workers, for more are never in use at once. Of all together no more than twice as many, which is enough for two
 * servers; the one kept longest makes room. */
#include "crawler.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    sley_mutex lock;
    struct conn *first; /* the last kept is the first taken: servers close those that are silent for long */
    long count;
} kept;

/* "HOST:PORT" for sley_net_dial. A host of the name "unix" would be a path there. */
static int address_of(const char *url, char *address, size_t address_bytes)
{
    size_t bytes;
    const char *authority = url_authority(url, &bytes);
    const char *colon = memrchr(authority, ':', bytes);
    bool has_port = colon != NULL && (authority[0] != '[' || colon[-1] == ']');

    snprintf(address, address_bytes, "%.*s%s", (int)bytes, authority, has_port ? "" : ":80");
    return strncmp(address, "unix:", strlen("unix:")) == 0 ? -EHOSTUNREACH : 0;
}

static struct conn *take_out(const char *address)
{
    struct conn **link = &kept.first, *c;

    sley_mutex_lock(&kept.lock, SLEY_FOREVER);
    while (*link != NULL && strcmp((*link)->address, address) != 0)
        link = &(*link)->next;
    c = *link;
    if (c != NULL) {
        *link = c->next;
        kept.count--;
    }
    sley_mutex_unlock(&kept.lock);
    return c;
}

/* Nothing may come before the next request: neither bytes nor the end. */
static bool is_quiet(struct conn *c)
{
    return sley_recv(c->fd, c->buf, 1, MSG_PEEK, SLEY_NOW) == -ETIMEDOUT;
}

struct conn *conn_take(const char *url)
{
    char address[sizeof((struct conn *)NULL)->address];
    struct conn *c;

    if (address_of(url, address, sizeof address) < 0)
        return NULL;
    while ((c = take_out(address)) != NULL && !is_quiet(c))
        conn_close(c);
    return c;
}

int conn_dial(const char *url, sley_time deadline, struct conn **out)
{
    struct conn *c = malloc(sizeof *c);
    int rc;

    if (c == NULL)
        return -ENOMEM;
    if ((rc = address_of(url, c->address, sizeof c->address)) == 0)
        rc = sley_net_dial(c->address, deadline);
    if (rc < 0) {
        free(c);
        return rc;
    }
    c->fd = rc;
    *out = c;
    return 0;
}

void conn_keep(struct conn *c)
{
    struct conn *oldest = NULL;

    sley_mutex_lock(&kept.lock, SLEY_FOREVER);
    c->next = kept.first;
    kept.first = c;
    if (++kept.count > 2 * settings.workers) {
        struct conn **link = &kept.first;
        while ((*link)->next != NULL)
            link = &(*link)->next;
        oldest = *link;
        *link = NULL;
        kept.count--;
    }
    sley_mutex_unlock(&kept.lock);
    if (oldest != NULL)
        conn_close(oldest);
}

void conn_close(struct conn *c)
{
    sley_close(c->fd);
    free(c);
}

void conns_fini(void)
{
    for (struct conn *c; (c = kept.first) != NULL;) {
        kept.first = c->next;
        conn_close(c);
    }
}
