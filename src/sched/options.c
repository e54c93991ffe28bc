/* options.c - see options.h. An option of the caller beats the variable; every value is checked wherever it came from. */
#include "sched/options.h"

#include "base/limits.h"
#include "plat/cpu.h"
#include "plat/feature.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRAIN_DEFAULT_NS      (5 * SLEY_S)

static int bad(const char *name, const char *value, const char *want)
{
    char shown[64];
    size_t n = 0;

    for (; value[n] != '\0' && n < sizeof shown - 1; n++) /* one line, whatever the value */
        shown[n] = (unsigned char)value[n] < ' ' || value[n] == 127 ? '?' : value[n];
    shown[n] = '\0';
    fprintf(stderr, "sley: %s=%s: %s\n", name, shown, want);
    return -EINVAL;
}

static int bad_number(const char *name, unsigned long long value, const char *want)
{
    char text[32];

    snprintf(text, sizeof text, "%llu", value);
    return bad(name, text, want);
}

/* A whole number with a suffix of the table, the first of which is the one left out. */
struct suffix { const char *text; uint64_t factor; };

static const struct suffix no_suffix[] = { { "", 1 }, { NULL, 0 } };
static const struct suffix byte_suffixes[] = { { "", 1 }, { "K", 1024 }, { "M", 1024 * 1024 }, { NULL, 0 } };
static const struct suffix time_suffixes[] = {
    { "", SLEY_S }, { "s", SLEY_S }, { "ms", SLEY_MS }, { "us", SLEY_US }, { "ns", 1 }, { NULL, 0 },
};

static int read_number(const char *name, uint64_t *out, const struct suffix *suffixes, const char *want)
{
    const char *text = getenv(name);
    unsigned long long n;
    char *end;

    if (text == NULL || *text == '\0')
        return 0;
    errno = 0;
    n = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *text < '0' || *text > '9')
        return bad(name, text, want);
    for (; suffixes->text != NULL; suffixes++)
        if (strcmp(end, suffixes->text) == 0 && n <= INT64_MAX / suffixes->factor) {
            *out = n * suffixes->factor;
            return *out == 0 ? bad(name, text, want) : 0;
        }
    return bad(name, text, want);
}

static int read_word(const char *name, uint32_t *out, const char *const *words, const char *want)
{
    const char *text = getenv(name);

    if (text == NULL || *text == '\0')
        return 0;
    for (uint32_t i = 0; words[i] != NULL; i++)
        if (strcmp(text, words[i]) == 0) {
            *out = i;
            return 0;
        }
    return bad(name, text, want);
}

static int read_features(void)
{
    const char *list = getenv("SLEY_DISABLE");
    char want[1024] = "names separated by commas, of ";
    size_t n = strlen(want);
    int rc = sl_feature_disable(list);

    if (rc == 0)
        return 0;
    if (rc == -EBUSY)
        return bad("SLEY_DISABLE", list, "membarrier is decided when the library is loaded, so the variable must be set before");
    sl_feature_names(want + n, sizeof want - n);
    return bad("SLEY_DISABLE", list, want);
}

static bool stack_size_ok(uint64_t bytes)
{
    return bytes >= SL_STACK_BYTES_MIN && bytes <= SL_STACK_BYTES_MAX && (bytes & (bytes - 1)) == 0;
}

#define WANT_WORKERS  "a number of workers from 1 to 768"
#define WANT_RING     "a number of ring entries from 4 to 32768"
#define WANT_STACK    "a power of two from 16K to 8M"
#define WANT_BLOCKING "a number of threads from 1 to 4096"
#define WANT_DRAIN    "a length of time such as 5s or 250ms"

int sl_options_resolve(sley_options *out, const sley_options *given, bool *chaos, bool *log_stderr)
{
    static const char *const backends[] = { "auto", "uring", "epoll", NULL };
    static const char *const pinnings[] = { "none", "cpu", NULL };
    static const char *const chaoses[] = { "none", "migrate", NULL };
    static const char *const logs[] = { "none", "stderr", NULL };
    static const struct { const char *name, *want; const struct suffix *suffixes; } numbers[] = {
        { "SLEY_WORKERS", WANT_WORKERS, no_suffix },
        { "SLEY_RING_ENTRIES", WANT_RING, no_suffix },
        { "SLEY_BLOCKING_THREADS", WANT_BLOCKING, no_suffix },
        { "SLEY_STACK", WANT_STACK, byte_suffixes },
        { "SLEY_GEN_STACK", WANT_STACK, byte_suffixes },
        { "SLEY_DRAIN", WANT_DRAIN, time_suffixes },
    };
    sley_options o = { 0 };
    uint64_t value[6];
    uint32_t word[4] = { 0 };

    if (given != NULL)
        o = *given;
    for (size_t i = 0; i < sizeof o.reserved / sizeof *o.reserved; i++)
        if (o.reserved[i] != 0)
            return bad_number("options.reserved", o.reserved[i], "must be zero: is the struct initialised?");
    if (o.reserved32 != 0)
        return bad_number("options.reserved32", o.reserved32, "must be zero: is the struct initialised?");

    value[0] = o.workers;
    value[1] = o.ring_entries;
    value[2] = o.blocking_threads_max;
    value[3] = o.stack_bytes;
    value[4] = o.gen_stack_bytes;
    value[5] = (uint64_t)o.drain_ns;
    for (size_t i = 0; i < 6; i++)
        if (value[i] == 0 && read_number(numbers[i].name, &value[i], numbers[i].suffixes, numbers[i].want) < 0)
            return -EINVAL;
    word[0] = o.backend;
    word[1] = o.pinning;
    if ((word[0] == 0 && read_word("SLEY_BACKEND", &word[0], backends, "auto, uring or epoll") < 0) ||
        (word[1] == 0 && read_word("SLEY_PINNING", &word[1], pinnings, "none or cpu") < 0) ||
        read_word("SLEY_CHAOS", &word[2], chaoses, "none or migrate") < 0 || read_word("SLEY_LOG", &word[3], logs, "none or stderr") < 0 ||
        read_features() < 0)
        return -EINVAL;

    if (value[0] > SL_WORKERS_MAX)
        return bad_number("SLEY_WORKERS", value[0], WANT_WORKERS);
    if (value[1] != 0 && (value[1] < SL_RING_SQ_MIN || value[1] > SL_RING_SQ_MAX))
        return bad_number("SLEY_RING_ENTRIES", value[1], WANT_RING);
    if (value[2] > SL_BLOCKING_THREADS_MAX)
        return bad_number("SLEY_BLOCKING_THREADS", value[2], WANT_BLOCKING);
    if (value[3] != 0 && !stack_size_ok(value[3]))
        return bad_number("SLEY_STACK", value[3], WANT_STACK);
    if (value[4] != 0 && !stack_size_ok(value[4]))
        return bad_number("SLEY_GEN_STACK", value[4], WANT_STACK);
    if (o.drain_ns < 0)
        return bad("SLEY_DRAIN", "(negative)", WANT_DRAIN);
    if (word[0] > SLEY_BACKEND_EPOLL)
        return bad_number("SLEY_BACKEND", word[0], "auto, uring or epoll");
    if (word[1] > SLEY_PINNING_CPU)
        return bad_number("SLEY_PINNING", word[1], "none or cpu");

    o.workers = value[0] != 0 ? (uint32_t)value[0] : sl_cpu_count();
    if (o.workers > SL_WORKERS_MAX)
        o.workers = SL_WORKERS_MAX;
    o.ring_entries = value[1] != 0 ? (uint32_t)value[1] : SL_RING_SQ_DEFAULT;
    o.blocking_threads_max = value[2] != 0 ? (uint32_t)value[2] : SL_BLOCKING_THREADS_DEFAULT;
    o.stack_bytes = value[3] != 0 ? (size_t)value[3] : SL_STACK_BYTES_DEFAULT;
    o.gen_stack_bytes = value[4] != 0 ? (size_t)value[4] : SL_STACK_BYTES_DEFAULT;
    o.drain_ns = value[5] != 0 ? (sley_time)value[5] : DRAIN_DEFAULT_NS;
    o.backend = word[0];
    o.pinning = word[1];
    if (o.name == NULL)
        o.name = "sley";
    *chaos = word[2] == 1;
    *log_stderr = word[3] == 1;
    *out = o;
    return 0;
}
