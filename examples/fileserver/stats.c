/* stats.c - once a second what happened since the start, and what there is now, on standard output. */
#include "server.h"
#include <stdio.h>
#include <errno.h>
#include <unistd.h>

int stats_run(void *arg)
{
    sley_time when = sley_now();
    char line[256];
    sley_stats s;
    int n, rc;

    (void)arg;
    sley_fiber_set_name("stats");
    do {
        rc = sley_event_wait(&server.ended, when += SLEY_S);
        if (sley_stats_read(NULL, &s, sizeof s) < 0)
            break;
        n = snprintf(line, sizeof line,
                     "requests=%llu connections=%ld fibers=%llu steals=%llu completions=%llu wakes=%llu log_dropped=%llu\n",
                     atomic_load(&server.requests), atomic_load(&server.connections_now), (unsigned long long)s.fibers_now,
                     (unsigned long long)s.steals, (unsigned long long)s.io_completed, (unsigned long long)s.wakes,
                     atomic_load(&server.log_dropped));
        if (sley_write_all(STDOUT_FILENO, line, n, SLEY_FOREVER) < 0)
            break; /* nobody reads them */
    } while (rc == -ETIMEDOUT);
    return 0;
}
