/* fetch.c - one page: ask until there is an answer, then make of it what it is, a redirect, a page with links, or something else. */
#include "crawler.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One request. A kept connection that the server is just closing looks like one that it drops, and costs a try; so the last try is made
 * on a new one. */
static int try_once(struct page *p, struct answer *a)
{
    sley_time deadline = sley_after(settings.timeout_ns);
    struct conn *c = p->tries < settings.max_tries ? conn_take(p->url) : NULL;
    int rc = c == NULL ? conn_dial(p->url, deadline, &c) : 0;

    if (rc < 0)
        return rc;
    rc = http_get(c, p->url, a, deadline);
    if (rc == 0 && a->keep_alive)
        conn_keep(c);
    else
        conn_close(c);
    return rc;
}

static int try(struct page *p, struct answer *a)
{
    int rc;

    for (p->tries = 1; (rc = try_once(p, a)) == -ECONNRESET && p->tries < settings.max_tries; p->tries++)
        if ((rc = sley_sleep(RETRY_NS << (p->tries < 6 ? p->tries - 1 : 5))) < 0)
            break;
    return rc;
}

/* --- what became of it ------------------------------------------------------------------------------------------------------------ */

static bool is_redirect(const struct answer *a)
{
    switch (a->status) {
    case 301: case 302: case 303: case 307: case 308:
        return a->location[0] != '\0';
    default:
        return false;
    }
}

static int follow(struct page *p, const struct answer *a)
{
    char *next;
    int rc = url_resolve(a->location, p->url, &next);

    if (rc == 0 && (next = url_escape(a->location)) == NULL)
        rc = -ENOMEM;
    if (rc < 0)
        return rc;
    if (rc > 0 && url_is_allowed(next))
        return pages_redirect(p, next);
    pages_leave(p, next);
    return 0;
}

static int add_link(struct page *p, const char *link, const char *base)
{
    char *url;
    int rc = url_resolve(link, base, &url);

    if (rc <= 0)
        return rc;
    if (url_is_allowed(url)) {
        p->links++;
        rc = pages_found(url, 0);
        if (rc > 0)
            p->new_links++;
    }
    free(url);
    return rc;
}

static int add_links(struct page *p, const struct links *l)
{
    char *base = NULL;
    int rc = l->base != NULL ? url_resolve(l->base, p->url, &base) : 0;

    for (size_t at = 0; rc >= 0 && at < l->bytes; at += strlen(l->text + at) + 1)
        rc = add_link(p, l->text + at, base != NULL ? base : p->url);
    free(base);
    return rc < 0 ? rc : 0;
}

static int read_page(struct page *p, const struct answer *a)
{
    struct links links;
    int rc;

    if (a->is_coded)
        return -EOPNOTSUPP;
    rc = links_parse(&links, a->body, a->bytes, p->charset);
    if (rc == 0)
        rc = add_links(p, &links);
    links_free(&links);
    return rc;
}

static int copy(char **out, const char *word)
{
    if (word[0] != '\0' && (*out = strdup(word)) == NULL)
        return -ENOMEM;
    return 0;
}

static int note(struct page *p, const struct answer *a)
{
    int rc;

    p->status = a->status;
    p->bytes = a->bytes;
    p->is_html = a->is_html;
    if ((rc = copy(&p->type, a->type)) < 0 || (rc = copy(&p->charset, a->charset)) < 0)
        return rc;
    return is_redirect(a) ? follow(p, a) : a->status == 200 && a->is_html ? read_page(p, a) : 0;
}

int fetch(struct page *p)
{
    struct answer a = { .body = NULL };
    int rc = try(p, &a);

    if (rc == 0) {
        rc = note(p, &a);
        free(a.body);
    }
    if (rc == -ECANCELED)
        return rc;
    p->error = rc;
    p->done = true;
    return 0;
}
