/* report.c - at the end, on the main thread: every page in the order of the URLs, then how many there are of each kind.
 *
 * A page is of one kind: html, other, redirect, error (a status that says so) or fail (no whole answer, or one that is of no use). Which
 * redirects lead back to themselves shows only here, where all of them are known. */
#include "crawler.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum kind { HTML, OTHER, REDIRECT, ERROR, FAIL, KINDS };

static struct {
    size_t count[KINDS], bytes[KINDS], status[1000], error[256];
    size_t done, todo, outside, loops, too_many;
    unsigned walk;
} report;

/* --- redirects that lead to themselves --------------------------------------------------------------------------------------------- */

static struct page *after(struct page *p)
{
    return p != NULL && p->next != NULL && !p->leaves ? pages_look_up(p->next) : NULL;
}

/* Every page has at most one after it: who comes to a page of his own walk has found a loop. */
static void find_loop(struct page *start, void *arg)
{
    struct page *p = start;

    (void)arg;
    report.walk++;
    for (; p != NULL && p->walk == 0; p = after(p))
        p->walk = report.walk;
    if (p != NULL && p->walk == report.walk)
        for (; !p->loops; p = after(p))
            p->loops = true;
}

/* --- lines ------------------------------------------------------------------------------------------------------------------------- */

static void count(enum kind kind, const struct page *p)
{
    report.count[kind]++;
    report.bytes[kind] += p->bytes;
}

static void print_redirect(const struct page *p)
{
    const char *why = "";

    count(REDIRECT, p);
    if (p->loops) {
        report.loops++;
        why = " (a loop)";
    } else if (p->leaves) {
        report.outside++;
        why = " (outside)";
    } else if (p->hops >= settings.max_redirect) {
        report.too_many++;
        why = " (too many)";
    }
    printf("%s %d redirect %s%s\n", p->url, p->status, p->next, why);
}

static void print_page(struct page *p, void *arg)
{
    (void)arg;
    if (!p->done) {
        report.todo++;
        return;
    }
    report.done++;
    if (p->error < 0) {
        count(FAIL, p);
        report.error[-p->error & 255]++;
        printf("%s error %s (%d %s)\n", p->url, strerror(-p->error), p->tries, p->tries == 1 ? "try" : "tries");
    } else if (p->next != NULL) {
        print_redirect(p);
    } else {
        enum kind kind = p->status != 200 ? ERROR : p->is_html ? HTML : OTHER;
        count(kind, p);
        if (kind == ERROR)
            report.status[p->status % 1000]++;
        printf("%s %d %s %s %zu", p->url, p->status, p->type != NULL ? p->type : "-", p->charset != NULL ? p->charset : "-", p->bytes);
        if (kind == HTML)
            printf(" %u/%u", p->new_links, p->links);
        putchar('\n');
    }
}

static void print_count(const char *name, size_t n)
{
    if (n > 0)
        printf("%10zu  %s\n", n, name);
}

static void print_counts(void)
{
    char name[64];

    print_count("html", report.count[HTML]);
    print_count("html_bytes", report.bytes[HTML]);
    print_count("other", report.count[OTHER]);
    print_count("other_bytes", report.bytes[OTHER]);
    print_count("redirect", report.count[REDIRECT]);
    print_count("redirect_loop", report.loops);
    print_count("redirect_outside", report.outside);
    print_count("redirect_too_many", report.too_many);
    print_count("error", report.count[ERROR]);
    print_count("error_bytes", report.bytes[ERROR]);
    for (size_t i = 0; i < sizeof report.status / sizeof report.status[0]; i++) {
        snprintf(name, sizeof name, "status_%zu", i);
        print_count(name, report.status[i]);
    }
    print_count("fail", report.count[FAIL]);
    for (size_t i = 0; i < sizeof report.error / sizeof report.error[0]; i++) {
        const char *error = strerrorname_np((int)i);
        snprintf(name, sizeof name, "fail_%s", error != NULL ? error : "?");
        print_count(name, report.error[i]);
    }
}

int report_print(void)
{
    double seconds = (double)(crawl.ended - crawl.started) / (double)SLEY_S;

    pages_each(find_loop, NULL);
    puts("*** Report ***");
    pages_each(print_page, NULL);
    if (crawl.interrupted)
        puts("Interrupted");
    printf("Finished %zu urls in %.3f secs (workers=%ld) (%.1f urls/sec)\n", report.done, seconds, settings.workers,
           seconds > 0 ? (double)report.done / seconds : 0.0);
    print_counts();
    if (pages_left_out() > 0)
        printf("Left out, for there are %ld urls: %zu links\n", settings.max_urls, pages_left_out());
    printf("Todo: %zu\nDone: %zu\n", report.todo, report.done);
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : -EIO;
}
