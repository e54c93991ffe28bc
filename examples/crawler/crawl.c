/* crawl.c - the workers and who waits for them: until every page is done, or somebody has had enough. */
#include "crawler.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define SIGNALS (SLEY_SIG(SIGINT) | SLEY_SIG(SIGTERM))

struct crawl crawl;

static int work(void *arg)
{
    struct queue_entry *e;
    int rc;

    (void)arg;
    sley_fiber_set_name("worker");
    while ((rc = queue_get(&pages_queue, &e, SLEY_FOREVER)) == 0) {
        rc = fetch((struct page *)((char *)e - offsetof(struct page, entry)));
        if (rc < 0)
            break;
        crawl.done++;
        queue_task_done(&pages_queue);
    }
    return rc; /* -ECANCELED: that is how it ends */
}

/* Nothing of a crawl that takes a moment, then a line now and then. */
static int show_progress(void *arg)
{
    sley_time when = crawl.started;
    char line[128];
    int n, rc;

    (void)arg;
    sley_fiber_set_name("progress");
    while ((rc = sley_sleep_until(when += PROGRESS_NS)) == 0) {
        n = snprintf(line, sizeof line, "crawler: %zu urls done, %zu waiting, %lld s\n", crawl.done, queue_length(&pages_queue),
                     (long long)((when - crawl.started) / SLEY_S));
        if (sley_write_all(STDERR_FILENO, line, n, when + PROGRESS_NS) < 0)
            return sley_cancelled(); /* nobody reads them */
    }
    return rc;
}

int crawl_run(void *arg)
{
    sley_case arms[] = { queue_case_join(&pages_queue), sley_case_signal(SIGNALS) };
    sley_scope workers;
    int rc;

    (void)arg;
    if ((rc = sley_signal_wait(SIGNALS, SLEY_NOW)) != -ETIMEDOUT) { /* from here on they are kept for us, and kill nobody */
        crawl.interrupted = rc > 0;
        return rc < 0 ? rc : 0;
    }
    crawl.started = sley_now();
    sley_scope_init(&workers, SLEY_FOREVER);
    for (long i = 0; i < settings.workers; i++)
        sley_go(work, NULL); /* that one cannot start is an error of the scope, and ends the wait below */
    sley_go(show_progress, NULL);
    rc = sley_select_ordered(arms, 2, SLEY_FOREVER);
    crawl.interrupted = rc == 1;
    sley_scope_cancel(&workers);
    rc = sley_scope_wait(&workers, rc < 0 ? rc : 0, SLEY_FOREVER);
    crawl.ended = sley_now();
    sley_signal_release(SIGNALS);
    conns_fini();
    return rc;
}
