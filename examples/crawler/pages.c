/* pages.c - every URL that was seen, once, in a tree of libc's (tsearch); whoever is first to see one puts its page into the queue.
 *
 * How many redirects led to a page depends on the way to it, and which way is found first is chance. So that the limit is not: hops is the
 * number on the shortest way, and when a shorter one turns up later, what lies behind the page is counted, and if need be queued, anew. */
#include "crawler.h"
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

struct queue pages_queue;

static struct {
    sley_mutex lock;
    void *tree; /* of url members */
    size_t count, left_out;
} pages;

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

static struct page *page_of(void *url)
{
    return (struct page *)((char *)url - offsetof(struct page, url));
}

struct page *pages_look_up(const char *url)
{
    void **found = tfind(url, &pages.tree, compare);

    return found != NULL ? page_of(*found) : NULL;
}

/* Under the lock. */
static int add(const char *url, int hops)
{
    size_t bytes = strlen(url) + 1;
    struct page *p;

    if (pages.count >= (size_t)settings.max_urls) {
        pages.left_out++;
        return 0;
    }
    p = calloc(1, sizeof *p + bytes);
    if (p == NULL)
        return -ENOMEM;
    memcpy(p->url, url, bytes);
    p->hops = hops;
    if (tsearch(p->url, &pages.tree, compare) == NULL) {
        free(p);
        return -ENOMEM;
    }
    pages.count++;
    queue_put(&pages_queue, &p->entry);
    return 1;
}

/* Under the lock. */
static int found(const char *url, int hops)
{
    while (url != NULL && hops <= settings.max_redirect) {
        struct page *p = pages_look_up(url);
        if (p == NULL)
            return add(url, hops);
        if (p->hops <= hops)
            break;
        p->hops = hops++;
        url = p->leaves ? NULL : p->next;
    }
    return 0;
}

int pages_found(const char *url, int hops)
{
    int rc;

    sley_mutex_lock(&pages.lock, SLEY_FOREVER);
    rc = found(url, hops);
    sley_mutex_unlock(&pages.lock);
    return rc;
}

int pages_redirect(struct page *p, char *next)
{
    int rc;

    sley_mutex_lock(&pages.lock, SLEY_FOREVER);
    p->next = next;
    rc = found(next, p->hops + 1);
    sley_mutex_unlock(&pages.lock);
    return rc < 0 ? rc : 0;
}

void pages_leave(struct page *p, char *next)
{
    sley_mutex_lock(&pages.lock, SLEY_FOREVER);
    p->next = next;
    p->leaves = true;
    sley_mutex_unlock(&pages.lock);
}

struct each {
    void (*fn)(struct page *p, void *arg);
    void *arg;
};

static void visit(const void *node, VISIT order, void *arg)
{
    struct each *e = arg;

    if (order == postorder || order == leaf) /* libc's name for the middle of the three times it comes by */
        e->fn(page_of(*(void *const *)node), e->arg);
}

void pages_each(void (*fn)(struct page *p, void *arg), void *arg)
{
    struct each each = { fn, arg };

    twalk_r(pages.tree, visit, &each);
}

size_t pages_left_out(void)
{
    return pages.left_out;
}

static void free_page(void *url)
{
    struct page *p = page_of(url);

    free(p->next);
    free(p->type);
    free(p->charset);
    free(p);
}

void pages_fini(void)
{
    tdestroy(pages.tree, free_page);
}
