/* dump.c - the list of fibers (sley/obs.h). It reads running fibers' blocks from outside: each line is true of some moment, and a fiber
 * that ends meanwhile is left out (its generation has moved on when its line is checked). */
#include "io/sys.h"
#include "sched/worker.h"

#include "plat/cpu.h"

#include <stdio.h>
#include <string.h>

#include <sley/obs.h>

static const char *const kinds[] = {
    [SL_WAIT_NONE] = "", [SL_WAIT_SEND] = "send to channel", [SL_WAIT_RECV] = "receive from channel", [SL_WAIT_SLEEP] = "sleep",
    [SL_WAIT_EVENT] = "event", [SL_WAIT_GROUP] = "wait group", [SL_WAIT_IO] = "operation on descriptor",
    [SL_WAIT_FD] = "readiness of descriptor", [SL_WAIT_CLOSE] = "close of descriptor", [SL_WAIT_DESCRIPTOR] = "a free descriptor",
    [SL_WAIT_SCOPE] = "end of scope", [SL_WAIT_SELECT] = "select", [SL_WAIT_MUTEX] = "mutex", [SL_WAIT_RWLOCK] = "rwlock",
    [SL_WAIT_COND] = "condition", [SL_WAIT_SEM] = "semaphore", [SL_WAIT_ONCE] = "once", [SL_WAIT_BARRIER] = "barrier",
    [SL_WAIT_FUTURE] = "future", [SL_WAIT_BLOCKING] = "blocking call", [SL_WAIT_SIGNAL] = "signal", [SL_WAIT_TICKER] = "ticker",
    [SL_WAIT_NOTICE] = "end of a zero-copy send",
};

/* The line of f if it is a fiber of rt; its length, or 0. */
static int describe(const sley_runtime *rt, struct sl_fiber *f, char *line, size_t bytes)
{
    uint32_t generation = sl_load_acquire(&f->generation);
    uint64_t word = sl_load_acquire(&f->word);
    unsigned state = SL_WORD_STATE(word), kind = sl_load_relaxed(&f->wait_kind);
    bool begun = f->flags & SL_FIBER_BEGUN;
    char name[SL_NAME_BYTES] = "", what[80] = "", where[24];
    const struct sl_scope *scope = sl_volatile_read(&f->scope); /* not looked into: it may be gone */
    uint32_t now_ms = (uint32_t)(sl_clock_ns() / 1000000);
    struct sl_stack *stack;

    if (!(generation & 1) || f->rt != rt || f->flags & (SL_FIBER_THREAD | SL_FIBER_SYSTEM))
        return 0;
    if (begun) {
        stack = *(struct sl_stack *volatile *)&f->stack;
        sl_fence_seq_cst();
        if (sl_load_acquire(&f->generation) != generation)
            return 0; /* then `stack` may have been something else */
        sl_stack_get_name(stack, name); /* mapped as long as the runtime */
    }
    if ((state == SL_WAITING || state == SL_WAITING_IO) && kind < sizeof kinds / sizeof *kinds) {
        int n = kind == SL_WAIT_IO ? snprintf(what, sizeof what, "%s %d", kinds[kind], sl_load_relaxed(&f->op_fd))
              : kind == SL_WAIT_SLEEP ? snprintf(what, sizeof what, "%s", kinds[kind])
              : snprintf(what, sizeof what, "%s %p", kinds[kind], sl_load_relaxed(&f->wait_object));

        snprintf(what + n, sizeof what - (size_t)n, ", %u ms", now_ms - sl_load_relaxed(&f->parked_ms));
    }
    if (scope == &rt->root)
        snprintf(where, sizeof where, "root");
    else
        snprintf(where, sizeof where, "%p", (const void *)scope);
    return snprintf(line, bytes, "fiber %llu \"%s\" scope %s %s%s\n", (unsigned long long)((uint64_t)generation << 32 | f->index), name,
                    where, what[0] != '\0' ? "waits: " : begun ? "runs or is ready" : "has not begun", what);
}

static int write_all(int fd, const char *text, int n)
{
    for (int done = 0; done < n;) {
        struct iovec rest = { (char *)text + done, (size_t)(n - done) };
        int rc = sl_sys_pwritev2(fd, &rest, 1, -1, 0);

        if (rc < 0 && rc != -EINTR)
            return rc;
        done += rc > 0 ? rc : 0;
    }
    return 0;
}

/* The first line: the runtime, and who allocates. jemalloc is the program's choice; if it is there, its own figures too. */
extern int mallctl(const char *name, void *old, size_t *old_bytes, void *new, size_t new_bytes) __attribute__((weak));

static int describe_runtime(const sley_runtime *rt, char *line, size_t bytes)
{
    size_t allocated = 0, resident = 0, size = sizeof allocated;
    uint64_t epoch = 1;
    size_t epoch_bytes = sizeof epoch;
    char allocator[96] = "libc";

    if (mallctl != NULL && mallctl("epoch", &epoch, &epoch_bytes, &epoch, sizeof epoch) == 0 &&
        mallctl("stats.allocated", &allocated, &size, NULL, 0) == 0 && mallctl("stats.resident", &resident, &size, NULL, 0) == 0)
        snprintf(allocator, sizeof allocator, "jemalloc, %zu bytes allocated, %zu resident", allocated, resident);
    return snprintf(line, bytes, "runtime %.64s: %u workers, %s; malloc: %s\n", rt->options.name, rt->worker_count, rt->backend, allocator);
}

int sley_dump(const sley_runtime *rt, int fd)
{
    uint32_t end = sl_fiber_index_end();
    char line[384];
    int n, rc;

    if (rt == NULL)
        rt = sley_runtime_current();
    if (rt == NULL)
        return -EINVAL;
    n = describe_runtime(rt, line, sizeof line);
    for (uint32_t i = 0; i < end && n >= 0; i++) {
        rc = write_all(fd, line, n);
        if (rc < 0)
            return rc;
        n = describe(rt, sl_fiber_at(i), line, sizeof line);
    }
    return write_all(fd, line, n);
}
