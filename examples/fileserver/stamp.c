/* stamp.c - dates. Those of now are made once a second by each thread that needs them. Thread-local memory is right only because no
 * function here parks, or may be inlined into one that does: a fiber may go on on another thread after it has parked. */
#include "server.h"
#include <string.h>

#define ON_ONE_THREAD __attribute__((noinline))

static _Thread_local struct {
    time_t second;
    char http[STAMP_HTTP_BYTES + 1];
    char log[STAMP_LOG_BYTES + 1];
} now;

static void make_now(void)
{
    struct timespec ts;
    struct tm tm;

    clock_gettime(CLOCK_REALTIME_COARSE, &ts);
    if (ts.tv_sec == now.second)
        return;
    now.second = ts.tv_sec;
    stamp_format(ts.tv_sec, now.http);
    gmtime_r(&ts.tv_sec, &tm);
    strftime(now.log, sizeof now.log, "%d/%b/%Y:%H:%M:%S +0000", &tm);
}

ON_ONE_THREAD void stamp_http(char *out)
{
    make_now();
    memcpy(out, now.http, STAMP_HTTP_BYTES);
}

ON_ONE_THREAD void stamp_log(char *out)
{
    make_now();
    memcpy(out, now.log, STAMP_LOG_BYTES);
}

void stamp_format(time_t when, char *out)
{
    struct tm tm;

    if (gmtime_r(&when, &tm) == NULL || strftime(out, STAMP_HTTP_BYTES + 1, "%a, %d %b %Y %H:%M:%S GMT", &tm) == 0)
        memcpy(out, "Thu, 01 Jan 1970 00:00:00 GMT", STAMP_HTTP_BYTES + 1);
}

bool stamp_parse(const char *s, size_t bytes, time_t *when)
{
    static const char *const forms[] = { "%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y" };
    char copy[64];

    if (bytes >= sizeof copy)
        return false;
    memcpy(copy, s, bytes);
    copy[bytes] = '\0';
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct tm tm = { 0 };
        const char *end = strptime(copy, forms[i], &tm);
        if (end != NULL && *end == '\0') {
            *when = timegm(&tm);
            return true;
        }
    }
    return false;
}
