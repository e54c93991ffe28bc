/* test_limits.c - what the library refuses and what is refused to it: options out of range, arguments too large, and memory, address space,
 * descriptors, threads, io_uring that are not to be had. Each is an error of one call; nothing is lost, nothing hangs, nothing is left.
 *
 * Linked with --wrap, so that the calls below can be made to fail; what would not leave this process as it was is done by a child. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <sley.h>

#include "base/limits.h"
#include "child.h"
#include "ctx/stack.h"
#include "plat/feature.h"
#include "sched/worker.h"

static int return_argument(void *arg)
{
    return (int)(intptr_t)arg;
}

/* ---- calls that can be made to fail ---- */

static struct {
    _Atomic(long) calls, live; /* live: blocks of the heap */
    _Atomic(long) first, last; /* the calls that fail; none if last is 0 */
} fate;

static bool must_fail(void)
{
    long n = sl_add_acq_rel(&fate.calls, 1) + 1;

    return n >= sl_load_relaxed(&fate.first) && n <= sl_load_relaxed(&fate.last);
}

static void fate_set(long first, long last)
{
    fate.calls = 0;
    fate.first = first;
    fate.last = last;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void __real_free(void *p);
void *__real_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
int __real_eventfd(unsigned count, int flags);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);

void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
void __wrap_free(void *p);
void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
int __wrap_eventfd(unsigned count, int flags);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);

static void *counted(void *p)
{
    if (p != NULL)
        sl_add_acq_rel(&fate.live, 1);
    return p;
}

void *__wrap_malloc(size_t bytes)
{
    return must_fail() ? NULL : counted(__real_malloc(bytes));
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    return must_fail() ? NULL : counted(__real_calloc(n, bytes));
}

void *__wrap_realloc(void *old, size_t bytes)
{
    if (must_fail())
        return NULL;
    return old == NULL ? counted(__real_realloc(NULL, bytes)) : __real_realloc(old, bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    return must_fail() ? NULL : counted(__real_aligned_alloc(alignment, bytes));
}

void __wrap_free(void *p)
{
    if (p != NULL)
        sl_add_acq_rel(&fate.live, -1);
    __real_free(p);
}

void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
    if (must_fail()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return __real_mmap64(at, bytes, prot, flags, fd, offset);
}

int __wrap_eventfd(unsigned count, int flags)
{
    if (must_fail()) {
        errno = EMFILE;
        return -1;
    }
    return __real_eventfd(count, flags);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    return must_fail() ? EAGAIN : __real_pthread_create(thread, attr, fn, arg);
}

/* ---- what is left ---- */

static int descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    if (d == NULL)
        return -1;
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

/* Everything said on standard error until said_end goes to `said`. */
static struct {
    FILE *file;
    int saved;
    char text[8192];
} said;

static void said_begin(void)
{
    said.file = tmpfile();
    assert_non_null(said.file);
    said.saved = dup(STDERR_FILENO);
    assert_true(said.saved >= 0);
    assert_true(dup2(fileno(said.file), STDERR_FILENO) >= 0);
}

static void said_end(void)
{
    ssize_t n;

    dup2(said.saved, STDERR_FILENO);
    close(said.saved);
    n = pread(fileno(said.file), said.text, sizeof said.text - 1, 0);
    said.text[n < 0 ? 0 : n] = '\0';
    fclose(said.file);
}

/* ---- options ---- */

/* What the environment says of these is put back after a test, also one that fails. */
static const char *const variables[] = {
    "SLEY_WORKERS", "SLEY_BACKEND", "SLEY_PINNING", "SLEY_RING_ENTRIES", "SLEY_BLOCKING_THREADS", "SLEY_STACK", "SLEY_GEN_STACK",
    "SLEY_DRAIN", "SLEY_CHAOS", "SLEY_LOG", "SLEY_GUARD", "SLEY_DISABLE",
};
static char *values[sizeof variables / sizeof *variables];

static int keep_environment(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        values[i] = getenv(variables[i]) != NULL ? strdup(getenv(variables[i])) : NULL;
    return 0;
}

static int restore_environment(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        if (values[i] != NULL)
            setenv(variables[i], values[i], 1);
        else
            unsetenv(variables[i]);
        __real_free(values[i]); /* strdup is libc's, so its block was not counted */
    }
    return 0;
}

#define WITH_ENVIRONMENT(test) cmocka_unit_test_setup_teardown(test, keep_environment, restore_environment)

/* options are refused with `error` and one line that names `name`. */
static void assert_refused(const sley_options *options, int error, const char *name)
{
    sley_runtime *untouched = (sley_runtime *)&said, *rt = untouched;
    int before = descriptors(), rc;

    said_begin();
    rc = sley_runtime_create(&rt, options);
    said_end();
    if (rc != error || lines_of(said.text) != 1 || strstr(said.text, name) == NULL || strncmp(said.text, "sley: ", 6) != 0)
        fail_msg("%s: %d, and said: %s", name, rc, said.text);
    assert_ptr_equal(rt, untouched);
    said_begin();
    rc = sley_run(options, return_argument, NULL);
    said_end();
    assert_int_equal(rc, error);
    assert_int_equal(lines_of(said.text), 1);
    assert_int_equal(descriptors(), before);
}

static void options_out_of_range_are_refused_by_name(void **state)
{
    static const struct { sley_options options; const char *name; } bad[] = {
        { { .workers = 769 }, "SLEY_WORKERS=769" },
        { { .workers = UINT32_MAX }, "SLEY_WORKERS=4294967295" },
        { { .backend = 3 }, "SLEY_BACKEND=3" },
        { { .backend = UINT32_MAX }, "SLEY_BACKEND" },
        { { .pinning = 2 }, "SLEY_PINNING=2" },
        { { .pinning = UINT32_MAX }, "SLEY_PINNING" },
        { { .ring_entries = 1 }, "SLEY_RING_ENTRIES=1" },
        { { .ring_entries = 3 }, "SLEY_RING_ENTRIES=3" },
        { { .ring_entries = 32769 }, "SLEY_RING_ENTRIES=32769" },
        { { .ring_entries = UINT32_MAX }, "SLEY_RING_ENTRIES" },
        { { .blocking_threads_max = 4097 }, "SLEY_BLOCKING_THREADS=4097" },
        { { .blocking_threads_max = UINT32_MAX }, "SLEY_BLOCKING_THREADS" },
        { { .stack_bytes = 1 }, "SLEY_STACK=1" },
        { { .stack_bytes = 8192 }, "SLEY_STACK=8192" },
        { { .stack_bytes = 131073 }, "SLEY_STACK=131073" },
        { { .stack_bytes = (size_t)16 << 20 }, "SLEY_STACK=16777216" },
        { { .stack_bytes = (size_t)1 << 63 }, "SLEY_STACK" },
        { { .stack_bytes = SIZE_MAX }, "SLEY_STACK" },
        { { .gen_stack_bytes = 100000 }, "SLEY_GEN_STACK=100000" },
        { { .gen_stack_bytes = SIZE_MAX }, "SLEY_GEN_STACK" },
        { { .drain_ns = -1 }, "SLEY_DRAIN" },
        { { .drain_ns = INT64_MIN }, "SLEY_DRAIN" },
        { { .reserved32 = 1 }, "reserved32" },
        { { .reserved = { 1 } }, "reserved" },
        { { .reserved = { 0, 0, 0, 0, 0, 0, 0, UINT64_MAX } }, "reserved" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(&bad[i].options, -EINVAL, bad[i].name);
}

static void variables_out_of_range_are_refused_by_name(void **state)
{
    static const char *const bad[][2] = {
        { "SLEY_WORKERS", "0" }, { "SLEY_WORKERS", "-1" }, { "SLEY_WORKERS", "+1" }, { "SLEY_WORKERS", " 1" }, { "SLEY_WORKERS", "1 " },
        { "SLEY_WORKERS", "769" }, { "SLEY_WORKERS", "4294967297" }, { "SLEY_WORKERS", "18446744073709551617" },
        { "SLEY_WORKERS", "99999999999999999999999999999999999999999" }, { "SLEY_WORKERS", "two" }, { "SLEY_WORKERS", "2x" },
        { "SLEY_WORKERS", "0x10" }, { "SLEY_WORKERS", "2.5" }, { "SLEY_WORKERS", "1e3" }, { "SLEY_WORKERS", "2K" },
        { "SLEY_RING_ENTRIES", "0" }, { "SLEY_RING_ENTRIES", "3" }, { "SLEY_RING_ENTRIES", "32769" }, { "SLEY_RING_ENTRIES", "4294967552" },
        { "SLEY_BLOCKING_THREADS", "0" }, { "SLEY_BLOCKING_THREADS", "4097" }, { "SLEY_BLOCKING_THREADS", "many" },
        { "SLEY_STACK", "0" }, { "SLEY_STACK", "1" }, { "SLEY_STACK", "8K" }, { "SLEY_STACK", "100K" }, { "SLEY_STACK", "16M" },
        { "SLEY_STACK", "128k" }, { "SLEY_STACK", "128KB" }, { "SLEY_STACK", "1G" }, { "SLEY_STACK", "K" }, { "SLEY_STACK", "-128K" },
        { "SLEY_STACK", "18014398509481984K" }, { "SLEY_STACK", "18446744073709551615M" },
        { "SLEY_GEN_STACK", "0" }, { "SLEY_GEN_STACK", "17K" },
        { "SLEY_DRAIN", "0" }, { "SLEY_DRAIN", "0ms" }, { "SLEY_DRAIN", "-5s" }, { "SLEY_DRAIN", "5 s" }, { "SLEY_DRAIN", "5min" },
        { "SLEY_DRAIN", "ms" }, { "SLEY_DRAIN", "9223372037" }, { "SLEY_DRAIN", "9223372036854775808ns" }, { "SLEY_DRAIN", "forever" },
        { "SLEY_BACKEND", "Auto" }, { "SLEY_BACKEND", "io_uring" }, { "SLEY_BACKEND", "0" }, { "SLEY_BACKEND", " uring" },
        { "SLEY_PINNING", "cpus" }, { "SLEY_PINNING", "1" }, { "SLEY_CHAOS", "yes" }, { "SLEY_CHAOS", "migrate " },
        { "SLEY_LOG", "stdout" }, { "SLEY_LOG", "1" },
        { "SLEY_GUARD", "none" }, { "SLEY_GUARD", "1" },
        { "SLEY_DISABLE", "all" }, { "SLEY_DISABLE", "io" }, { "SLEY_DISABLE", "rseq2" }, { "SLEY_DISABLE", "Rseq" },
        { "SLEY_DISABLE", "," }, { "SLEY_DISABLE", "rseq," }, { "SLEY_DISABLE", ",rseq" }, { "SLEY_DISABLE", "rseq,,ext_arg" },
        { "SLEY_DISABLE", "rseq, ext_arg" }, { "SLEY_DISABLE", "rseq;ext_arg" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        restore_environment(NULL);
        keep_environment(NULL);
        assert_int_equal(setenv(bad[i][0], bad[i][1], 1), 0);
        assert_refused(NULL, -EINVAL, bad[i][0]);
    }
}

static void a_value_of_several_lines_is_refused_in_one(void **state)
{
    (void)state;
    setenv("SLEY_LOG", "std\nerr", 1);
    assert_refused(NULL, -EINVAL, "SLEY_LOG");
}

static void a_very_long_value_is_refused_in_one_line(void **state)
{
    static char value[5000];

    (void)state;
    memset(value, 'x', sizeof value - 1);
    setenv("SLEY_BACKEND", value, 1);
    assert_refused(NULL, -EINVAL, "SLEY_BACKEND");
}

static void assert_backend(const sley_options *options, const char *begins_with)
{
    sley_runtime *rt;

    assert_int_equal(sley_runtime_create(&rt, options), 0);
    if (strncmp(sley_runtime_backend(rt), begins_with, strlen(begins_with)) != 0)
        fail_msg("%s, not %s", sley_runtime_backend(rt), begins_with);
    assert_int_equal(sley_runtime_start(rt), 0);
    sley_runtime_destroy(rt);
}

/* Or the kernel refuses io_uring; then the epoll backend says why. */
static int has_rings(void)
{
    sley_runtime *rt;
    int has;

    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    has = strncmp(sley_runtime_backend(rt), "epoll: io_uring ", 16) != 0;
    sley_runtime_destroy(rt);
    return has;
}

static void the_backend_is_the_one_asked_for_and_the_option_counts(void **state)
{
    (void)state;
    if (!has_rings())
        skip();
    assert_backend(NULL, "io_uring: ");
    assert_backend(&(sley_options){ .backend = SLEY_BACKEND_EPOLL }, "epoll: ");
    setenv("SLEY_BACKEND", "epoll", 1);
    assert_backend(NULL, "epoll: ");
    assert_backend(&(sley_options){ .backend = SLEY_BACKEND_URING }, "io_uring: ");
    setenv("SLEY_BACKEND", "auto", 1);
    assert_backend(NULL, "io_uring: ");
}

static void features_are_switched_off_for_the_runtimes_made_meanwhile(void **state)
{
    char plain[128];

    (void)state;
    unsetenv("SLEY_BACKEND");
    if (!has_rings())
        skip();
    setenv("SLEY_DISABLE", "sync_cancel,coop_taskrun", 1);
    snprintf(plain, sizeof plain, "io_uring: %d submissions, %d completions a worker, task work that interrupts", SL_RING_SQ_DEFAULT,
             SL_RING_SQ_DEFAULT * SL_RING_CQ_PER_SQ);
    assert_backend(NULL, plain);
    assert_false(sl_feature_allowed(SL_FEATURE_SYNC_CANCEL));
    setenv("SLEY_DISABLE", "io_uring", 1);
    assert_backend(NULL, "epoll: io_uring switched off (SLEY_DISABLE)");
    assert_refused(&(sley_options){ .backend = SLEY_BACKEND_URING }, -ENOSYS, "SLEY_DISABLE");
    setenv("SLEY_DISABLE", "ext_arg", 1);
    assert_backend(NULL, "epoll: io_uring without ext_arg (SLEY_DISABLE)");
    setenv("SLEY_DISABLE", "", 1);
    assert_backend(NULL, "io_uring: ");
    assert_true(sl_feature_allowed(SL_FEATURE_SYNC_CANCEL));
}

/* Others may already rely on it; a process that begins with the variable is a run of the suite 'disable'. */
static void membarrier_cannot_be_switched_off_later(void **state)
{
    (void)state;
    if (!sl_feature_allowed(SL_FEATURE_MEMBARRIER))
        skip();
    setenv("SLEY_DISABLE", "rseq,membarrier", 1);
    assert_refused(NULL, -EINVAL, "SLEY_DISABLE");
    assert_true(sl_feature_allowed(SL_FEATURE_RSEQ));
}

static void a_wrong_feature_is_told_the_right_ones(void **state)
{
    (void)state;
    setenv("SLEY_DISABLE", "io_uring,warp_drive", 1);
    assert_refused(NULL, -EINVAL, "SLEY_DISABLE");
    for (int f = 0; f < SL_FEATURES; f++)
        assert_non_null(strstr(said.text, sl_feature_infos[f].name));
    assert_true(sl_feature_allowed(SL_FEATURE_IO_URING));
}

static uint64_t workers_of(const sley_options *options)
{
    sley_runtime *rt;
    sley_stats s;

    assert_int_equal(sley_runtime_create(&rt, options), 0);
    assert_int_equal(sley_stats_read(rt, &s, sizeof s), 0);
    sley_runtime_destroy(rt);
    return s.workers_now;
}

static int count_own_cpus(void *arg)
{
    cpu_set_t mask;

    (void)arg;
    return sched_getaffinity(0, sizeof mask, &mask) == 0 ? CPU_COUNT(&mask) : -EIO;
}

static int own_stack_bytes(void *arg)
{
    struct sl_stack_place place;

    (void)arg;
    return sl_stack_find(__builtin_frame_address(0), &place) ? (int)place.stack_bytes : -EIO;
}

static void good_values_are_kept_to_and_an_option_beats_its_variable(void **state)
{
    sley_runtime *rt;

    (void)state;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
    assert_in_range(workers_of(NULL), 1, (uint64_t)count_own_cpus(NULL));
    assert_int_equal(workers_of(&(sley_options){ .workers = 5 }), 5);
    setenv("SLEY_WORKERS", "3", 1);
    assert_int_equal(workers_of(NULL), 3);
    assert_int_equal(workers_of(&(sley_options){ .workers = 5 }), 5);
    setenv("SLEY_WORKERS", "", 1); /* as if it were not set */
    assert_in_range(workers_of(NULL), 1, (uint64_t)count_own_cpus(NULL));
    setenv("SLEY_STACK", "64K", 1);
    assert_int_equal(sley_run(NULL, own_stack_bytes, NULL), 64 << 10);
    setenv("SLEY_STACK", "1M", 1);
    assert_int_equal(sley_run(NULL, own_stack_bytes, NULL), 1 << 20);
    setenv("SLEY_STACK", "32768", 1);
    assert_int_equal(sley_run(NULL, own_stack_bytes, NULL), 32 << 10);
    assert_int_equal(sley_run(&(sley_options){ .stack_bytes = (size_t)8 << 20 }, own_stack_bytes, NULL), 8 << 20);
    unsetenv("SLEY_STACK");
    assert_int_equal(sley_run(NULL, own_stack_bytes, NULL), 128 << 10);
    setenv("SLEY_RING_ENTRIES", "64", 1);
    if (has_rings()) {
        assert_int_equal(sley_runtime_create(&rt, NULL), 0);
        assert_non_null(strstr(sley_runtime_backend(rt), "io_uring: 64 submissions"));
        sley_runtime_destroy(rt);
        assert_int_equal(sley_runtime_create(&rt, &(sley_options){ .ring_entries = 4 }), 0);
        assert_non_null(strstr(sley_runtime_backend(rt), "io_uring: 4 submissions"));
        sley_runtime_destroy(rt);
    }
    assert_string_equal(sley_runtime_backend(NULL), "");
    setenv("SLEY_PINNING", "cpu", 1);
    assert_int_equal(sley_run(NULL, count_own_cpus, NULL), 1);
    setenv("SLEY_PINNING", "none", 1);
    assert_int_equal(sley_run(NULL, count_own_cpus, NULL), count_own_cpus(NULL));
}

static void the_log_goes_to_stderr_on_request_and_names_the_runtime(void **state)
{
    (void)state;
    unsetenv("SLEY_LOG");
    said_begin();
    assert_int_equal(sley_run(&(sley_options){ .name = "loom" }, return_argument, NULL), 0);
    said_end();
    assert_string_equal(said.text, "");
    setenv("SLEY_LOG", "stderr", 1);
    said_begin();
    assert_int_equal(sley_run(&(sley_options){ .name = "loom", .workers = 2 }, return_argument, NULL), 0);
    said_end();
    assert_ptr_equal(strstr(said.text, has_rings() ? "loom: 2 workers, io_uring: " : "loom: 2 workers, epoll: io_uring "), said.text);
}

static void more_workers_than_processors_run(void **state)
{
    (void)state;
    assert_int_equal(workers_of(&(sley_options){ .workers = SL_WORKERS_MAX, .ring_entries = 4 }), SL_WORKERS_MAX);
#if !defined(SL_ASAN) && !defined(SL_TSAN)
    assert_int_equal(sley_run(&(sley_options){ .workers = 100, .ring_entries = 4 }, return_argument, (void *)5), 5);
#endif
}

/* ---- sley_go_copy ---- */

struct copy_check {
    _Atomic(int) wrong, ran;
    size_t size;
};

static struct copy_check copies;

static int check_copy(void *arg)
{
    const unsigned char *b = arg;
    unsigned char first = copies.size > 0 ? b[0] : 0;
    int rc = 0;

    if ((uintptr_t)arg % alignof(max_align_t) != 0)
        sl_add_acq_rel(&copies.wrong, 1);
    for (int round = 0; round < 2 && rc == 0; round++) { /* before and after others ran with their own */
        for (size_t i = 0; i < copies.size; i++)
            if (b[i] != (unsigned char)(first + i * 7))
                sl_add_acq_rel(&copies.wrong, 1);
        rc = sley_yield();
    }
    memset(arg, 0xff, copies.size); /* one's own to write to */
    sl_add_acq_rel(&copies.ran, 1);
    return rc;
}

static int start_copies(void *arg)
{
    unsigned char mine[SLEY_COPY_BYTES_MAX];

    (void)arg;
    for (int n = 0; n < 10; n++) {
        int rc;

        for (size_t i = 0; i < copies.size; i++)
            mine[i] = (unsigned char)(n * 31 + (int)i * 7);
        rc = sley_go_copy(check_copy, copies.size > 0 ? mine : NULL, copies.size);
        if (rc < 0)
            return rc;
        memset(mine, 0, sizeof mine);
    }
    return 0;
}

static void copies_of_every_size_are_aligned_and_each_fibers_own(void **state)
{
    (void)state;
    for (size_t size = 0; size <= SLEY_COPY_BYTES_MAX; size += size < 66 || size > 1020 ? 1 : 53) {
        memset(&copies, 0, sizeof copies);
        copies.size = size;
        assert_int_equal(sley_run(&(sley_options){ .workers = 2 }, start_copies, NULL), 0);
        assert_int_equal(copies.wrong, 0);
        assert_int_equal(copies.ran, 10);
    }
}

static int copy_too_much(void *arg)
{
    static unsigned char bytes[SLEY_COPY_BYTES_MAX + 1];
    int *rc = arg;

    rc[0] = sley_go_copy(return_argument, bytes, sizeof bytes);
    rc[1] = sley_go_copy(return_argument, bytes, SIZE_MAX);
    rc[2] = sley_go_copy(return_argument, NULL, 1);
    rc[3] = sley_go_copy(NULL, bytes, 1);
    rc[4] = sley_go(NULL, bytes);
    return 0;
}

static void copies_too_large_are_refused(void **state)
{
    int rc[5];

    (void)state;
    assert_int_equal(sley_run(NULL, copy_too_much, rc), 0);
    assert_int_equal(rc[0], -E2BIG);
    assert_int_equal(rc[1], -E2BIG);
    assert_int_equal(rc[2], -EINVAL);
    assert_int_equal(rc[3], -EINVAL);
    assert_int_equal(rc[4], -EINVAL);
}

/* ---- whatever is refused, at every call ---- */

static struct {
    _Atomic(int) started, ran, refused;
    int wrong; /* an error that is none of the expected */
} trial;

static int is_shortage(int rc)
{
    return rc == -ENOMEM || rc == -EAGAIN || rc == -EMFILE;
}

static int be_tried(void *arg)
{
    int rc = sley_sleep(10 * SLEY_US);

    (void)arg;
    sl_add_acq_rel(&trial.ran, 1);
    return rc;
}

static void note_go(int rc)
{
    if (rc == 0)
        sl_add_acq_rel(&trial.started, 1);
    else
        sl_add_acq_rel(&trial.refused, 1);
    if (rc != 0 && !is_shortage(rc))
        trial.wrong = rc;
}

static int try_everything(void *arg)
{
    unsigned char large[SLEY_COPY_BYTES_MAX] = { 0 };
    sley_chan *ch = sley_chan_create(8, 16);

    (void)arg;
    for (int i = 0; i < 20; i++) {
        note_go(sley_go(be_tried, NULL));
        note_go(sley_go_copy(be_tried, large, sizeof large));
        note_go(sley_go_copy(be_tried, large, 16));
    }
    sley_chan_destroy(ch);
    return ch == NULL ? -ENOMEM : 0;
}

/* A whole life with the calls from `first` to `last` failing; false: there were not so many. */
static bool try_run(long first, long last)
{
    int before = descriptors(), rc;
    long live = fate.live;
    bool reached;

    memset(&trial, 0, sizeof trial);
    said_begin();
    fate_set(first, last);
    rc = sley_run(&(sley_options){ .workers = 3 }, try_everything, NULL);
    reached = fate.calls >= first;
    fate_set(0, 0);
    said_end();
    if ((rc != 0 && !is_shortage(rc)) || trial.wrong != 0 || (rc == 0 && (trial.refused > 0 || trial.ran != 60)))
        fail_msg("call %ld: %d, wrong %d, %d refused, %d ran; said: %s", first, rc, trial.wrong, trial.refused, trial.ran, said.text);
    if (trial.ran != trial.started || lines_of(said.text) > 1 || fate.live != live || descriptors() != before)
        fail_msg("call %ld: %d started, %d ran, %ld blocks and %d descriptors more than before; said: %s", first, trial.started, trial.ran,
                 fate.live - live, descriptors() - before, said.text);
    return reached;
}

static int try_embedded(long first, long last, int *started_it)
{
    unsigned char large[100] = { 0 };
    sley_runtime *rt;
    int rc;

    fate_set(first, last);
    rc = sley_runtime_create(&rt, &(sley_options){ .workers = 3 });
    if (rc == 0) {
        rc = sley_runtime_attach(rt);
        for (int i = 0; i < 5; i++) {
            int submitted = sley_runtime_submit(rt, be_tried, NULL);

            note_go(submitted);
            if (rc == 0)
                note_go(sley_go_copy(be_tried, large, sizeof large));
        }
        rc = sley_runtime_start(rt);
        *started_it = rc == 0;
        for (int i = 0; i < 5 && rc == 0; i++)
            note_go(sley_runtime_submit(rt, be_tried, NULL));
        if (rc == 0)
            rc = sley_runtime_stop(rt, SLEY_FOREVER);
        sley_runtime_detach();
        sley_runtime_destroy(rt);
    }
    return rc;
}

/* The same for a runtime that is embedded, and used before its start: if it cannot start, nothing that was submitted may be left. */
static bool try_embedding(long first, long last)
{
    int before = descriptors(), rc, started_it = 0;
    long live = fate.live;
    bool reached;

    memset(&trial, 0, sizeof trial);
    said_begin();
    rc = try_embedded(first, last, &started_it);
    reached = fate.calls >= first;
    fate_set(0, 0);
    said_end();
    if ((rc != 0 && !is_shortage(rc)) || trial.wrong != 0)
        fail_msg("call %ld: %d, wrong %d; said: %s", first, rc, trial.wrong, said.text);
    if ((started_it && trial.ran != trial.started) || lines_of(said.text) > 1 || fate.live != live || descriptors() != before)
        fail_msg("call %ld: %d started, %d ran, %ld blocks and %d descriptors more than before; said: %s", first, trial.started, trial.ran,
                 fate.live - live, descriptors() - before, said.text);
    assert_int_equal(workers_of(NULL) > 0, 1); /* walks over all control blocks: none may belong to what is gone */
    return reached;
}

static void sweep(bool (*one)(long first, long last), const char *what)
{
    long n;

    sley_runtime *rt[8];

    assert_int_equal(sley_sleep(1), 0); /* the main thread's own block is there from now on */
    for (int i = 0; i < 8; i++) { /* and so are as many records of mappings as will be needed at once */
        assert_int_equal(sley_runtime_create(&rt[i], NULL), 0);
        assert_int_equal(sley_runtime_submit(rt[i], return_argument, NULL), 0);
    }
    for (int i = 0; i < 8; i++)
        sley_runtime_destroy(rt[i]);
    for (n = 1; one(n, n); n++)
        ;
    print_message("%s: each of %ld calls failed once\n", what, n - 1);
    for (long first = n - 1; first > 0; first--)
        one(first, LONG_MAX);
}

static void a_run_survives_the_failure_of_any_call(void **state)
{
    (void)state;
    sweep(try_run, "sley_run");
}

static void an_embedded_runtime_survives_the_failure_of_any_call(void **state)
{
    (void)state;
    sweep(try_embedding, "create to destroy");
}

/* ---- stacks that cannot be had for a while ---- */

static struct {
    sley_event open;
    _Atomic(int) came;
} hungry;

static int come_and_wait(void *arg)
{
    (void)arg;
    sl_add_acq_rel(&hungry.came, 1);
    return sley_event_wait(&hungry.open, SLEY_FOREVER);
}

static int start_hungry(void *arg)
{
    int rc = 0;

    (void)arg;
    sl_stack_fail_carves(300);
    for (int i = 0; i < 200 && rc == 0; i++)
        rc = sley_go(come_and_wait, NULL);
    while (rc == 0 && sl_load_acquire(&hungry.came) < 200)
        rc = sley_yield();
    sley_event_set(&hungry.open);
    return rc;
}

static void fibers_without_a_stack_wait_for_one_and_go_on(void **state)
{
    (void)state;
    memset(&hungry, 0, sizeof hungry);
    assert_int_equal(sley_run(NULL, start_hungry, NULL), 0);
    assert_int_equal(hungry.came, 200);
    memset(&hungry, 0, sizeof hungry);
    sl_stack_fail_carves(3); /* the first fiber of all */
    assert_int_equal(sley_run(NULL, return_argument, (void *)9), 9);
    sl_stack_fail_carves(0);
}

/* ---- children ---- */

static void set_limit(int resource, rlim_t n)
{
    const struct rlimit limit = { n, n };

    if (setrlimit(resource, &limit) != 0) {
        perror("setrlimit");
        _exit(99);
    }
}

static int64_t status_kilobytes(const char *key)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    long long n = -1;

    while (f != NULL && n < 0 && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            n = strtoll(line + strlen(key), NULL, 10);
    if (f != NULL)
        fclose(f);
    return n;
}

static struct {
    sley_event never;
    int started, refused_with;
    _Atomic(int) ran, cancelled;
} crowd;

static int wait_to_be_cancelled(void *arg)
{
    int rc;

    (void)arg;
    sl_add_acq_rel(&crowd.ran, 1);
    rc = sley_event_wait(&crowd.never, SLEY_FOREVER);
    if (rc == -ECANCELED)
        sl_add_acq_rel(&crowd.cancelled, 1);
    return rc;
}

static int start_until_refused(void *arg)
{
    int rc = 0;

    (void)arg;
    while ((rc = sley_go(wait_to_be_cancelled, NULL)) == 0)
        crowd.started++;
    crowd.refused_with = rc;
    return 0;
}

static int in_little_address_space(void)
{
    int rc;

    set_limit(RLIMIT_AS, ((rlim_t)status_kilobytes("VmSize:") << 10) + ((rlim_t)96 << 20));
    if (mmap(NULL, (size_t)1 << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED)
        return 99; /* qemu-user does not keep to the limit */
    rc = sley_run(&(sley_options){ .workers = 2 }, start_until_refused, NULL);
    if (rc != crowd.refused_with || (rc != -EAGAIN && rc != -ENOMEM) || crowd.started == 0 || crowd.ran != crowd.started ||
        crowd.cancelled != crowd.started) {
        fprintf(stderr, "run %d, refused with %d, %d started, %d ran, %d cancelled\n", rc, crowd.refused_with, crowd.started, crowd.ran,
                crowd.cancelled);
        return 1;
    }
    return sley_run(&(sley_options){ .workers = 2 }, return_argument, (void *)42); /* everything has been given back */
}

static void become_nobody(void)
{
    if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0) {
        perror("setresuid");
        _exit(99);
    }
}

static int with_locked_memory(rlim_t n)
{
    int rc;

    if (geteuid() == 0)
        become_nobody();
    set_limit(RLIMIT_MEMLOCK, n);
    rc = sley_run(&(sley_options){ .workers = 4 }, return_argument, (void *)42);
    return rc < 0 ? 43 : rc; /* 43: one clear line has been said */
}

static int with_64k_of_locked_memory(void)
{
    return with_locked_memory((rlim_t)64 << 10);
}

static int without_locked_memory(void)
{
    return with_locked_memory(0);
}

/* The first limit that is enough for two workers must be preceded by clear refusals only. */
static int with_few_descriptors(void)
{
    int before = descriptors(), first = dup(STDERR_FILENO), n = 0, rc;

    close(first);
    do {
        const struct rlimit limit = { (rlim_t)(first + n), 4096 };

        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            return 99;
        rc = sley_run(&(sley_options){ .workers = 2 }, return_argument, (void *)42);
        if (rc != 42 && (rc != -EMFILE || n > 20)) {
            fprintf(stderr, "%d more descriptors: %d\n", n, rc);
            return 1;
        }
        n++;
    } while (rc != 42);
    return descriptors() == before ? n - 1 : 1;
}

static void to_stderr(void *ctx, const char *line)
{
    (void)ctx;
    fprintf(stderr, "%s\n", line);
}

/* As the profiles of containers do. What insists on it gets a line, everybody else an epoll. */
static int refuse_io_uring(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof filter / sizeof *filter, filter };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        perror("seccomp");
        return 99;
    }
    if (sley_run(&(sley_options){ .backend = SLEY_BACKEND_URING }, return_argument, NULL) != -EPERM)
        return 1;
    return sley_run(&(sley_options){ .on_log = to_stderr }, return_argument, (void *)42);
}

static int without_threads(void)
{
    sley_runtime *rt;
    int before = descriptors(), rc;

    if (geteuid() == 0)
        become_nobody();
    set_limit(RLIMIT_NPROC, 0);
    rc = sley_run(NULL, return_argument, NULL);
    if (rc != -EAGAIN) {
        fprintf(stderr, "sley_run: %d\n", rc);
        return 1;
    }
    if (sley_runtime_create(&rt, NULL) != 0)
        return 2;
    rc = sley_runtime_start(rt);
    if (rc != -EAGAIN) {
        fprintf(stderr, "sley_runtime_start: %d\n", rc);
        return 3;
    }
    sley_runtime_destroy(rt);
    return descriptors() == before ? 42 : 4;
}

static int deeper(int depth)
{
    volatile char frame[1000];

    memset((void *)(uintptr_t)frame, depth, sizeof frame);
    return depth == INT_MAX ? 0 : deeper(depth + 1) + frame[depth % 1000];
}

static int overflow(void *arg)
{
    (void)arg;
    sley_fiber_set_name("bottomless");
    return deeper(0);
}

static int overflow_among_others(void *arg)
{
    for (int i = 0; i < 10; i++)
        sley_go(come_and_wait, NULL);
    return sley_go(overflow, arg);
}

static int overflow_a_stack(void)
{
    return sley_run(NULL, overflow_among_others, NULL);
}

static const struct { const char *name; int (*fn)(void); } children[] = {
    { "address-space", in_little_address_space }, { "memlock-64k", with_64k_of_locked_memory }, { "memlock-0", without_locked_memory },
    { "descriptors", with_few_descriptors }, { "seccomp", refuse_io_uring }, { "threads", without_threads },
    { "overflow", overflow_a_stack },
};

static struct child child;

/* Let the child `name` do its thing; it exits with a code. */
static int code_of(const char *name)
{
    run_child(&child, name, NULL);
    if (!WIFEXITED(child.status))
        fail_msg("status %x, said: %s", child.status, child.said);
    if (WEXITSTATUS(child.status) == 99)
        skip(); /* this machine does not let us */
    return WEXITSTATUS(child.status);
}

static void little_address_space_refuses_fibers_and_loses_none(void **state)
{
    (void)state;
#if defined(SL_ASAN) || defined(SL_TSAN)
    skip(); /* a sanitizer's shadow is address space */
#endif
    if (code_of("address-space") != 42)
        fail_msg("said: %s", child.said);
}

static void little_locked_memory_gives_smaller_rings_or_one_clear_line(void **state)
{
    static const char *const names[] = { "memlock-64k", "memlock-0" };

    (void)state;
    for (int i = 0; i < 2; i++) {
        int code = code_of(names[i]);

        if (code != 42 && (code != 43 || lines_of(child.said) != 1 || strstr(child.said, "RLIMIT_MEMLOCK") == NULL))
            fail_msg("%d, said: %s", code, child.said);
        print_message("%s: %s", names[i], code == 42 ? "runs\n" : child.said);
    }
}

static void few_descriptors_are_one_clear_line_and_leave_none_open(void **state)
{
    int lines;

    (void)state;
    assert_in_range(lines = code_of("descriptors"), 2, 20);
    assert_int_equal(lines_of(child.said), lines); /* one for each limit that was too small */
    assert_said(&child, "RLIMIT_NOFILE");
}

static void io_uring_forbidden_is_one_clear_line_or_an_epoll_that_says_why(void **state)
{
    (void)state;
    if (code_of("seccomp") != 42)
        fail_msg("said: %s", child.said);
    assert_int_equal(lines_of(child.said), 3); /* refused; started; stopped */
    assert_said(&child, "io_uring is refused (EPERM)");
    assert_said(&child, "workers, epoll: io_uring refused (EPERM)");
}

static void no_threads_is_an_error_that_gives_everything_back(void **state)
{
    (void)state;
#if defined(SL_TSAN)
    skip(); /* it has a thread of its own */
#endif
    if (code_of("threads") != 42)
        fail_msg("said: %s", child.said);
}

static void a_stack_overflow_is_reported_by_name_and_ends_the_process(void **state)
{
    (void)state;
#if defined(SL_ASAN) || defined(SL_TSAN)
    skip(); /* they report it themselves */
#endif
    run_child(&child, "overflow", NULL);
    assert_true(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGSEGV);
    assert_said(&child, "\"bottomless\"");
    assert_said(&child, "SLEY_STACK");
    assert_int_equal(lines_of(child.said), 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_out_of_range_are_refused_by_name),
        WITH_ENVIRONMENT(variables_out_of_range_are_refused_by_name),
        WITH_ENVIRONMENT(a_value_of_several_lines_is_refused_in_one),
        WITH_ENVIRONMENT(a_very_long_value_is_refused_in_one_line),
        WITH_ENVIRONMENT(the_backend_is_the_one_asked_for_and_the_option_counts),
        WITH_ENVIRONMENT(features_are_switched_off_for_the_runtimes_made_meanwhile),
        WITH_ENVIRONMENT(membarrier_cannot_be_switched_off_later),
        WITH_ENVIRONMENT(a_wrong_feature_is_told_the_right_ones),
        WITH_ENVIRONMENT(good_values_are_kept_to_and_an_option_beats_its_variable),
        WITH_ENVIRONMENT(the_log_goes_to_stderr_on_request_and_names_the_runtime),
        cmocka_unit_test(more_workers_than_processors_run),
        cmocka_unit_test(copies_of_every_size_are_aligned_and_each_fibers_own),
        cmocka_unit_test(copies_too_large_are_refused),
        cmocka_unit_test(a_run_survives_the_failure_of_any_call),
        cmocka_unit_test(an_embedded_runtime_survives_the_failure_of_any_call),
        cmocka_unit_test(fibers_without_a_stack_wait_for_one_and_go_on),
        cmocka_unit_test(little_address_space_refuses_fibers_and_loses_none),
        cmocka_unit_test(little_locked_memory_gives_smaller_rings_or_one_clear_line),
        cmocka_unit_test(few_descriptors_are_one_clear_line_and_leave_none_open),
        cmocka_unit_test(io_uring_forbidden_is_one_clear_line_or_an_epoll_that_says_why),
        cmocka_unit_test(no_threads_is_an_error_that_gives_everything_back),
        cmocka_unit_test(a_stack_overflow_is_reported_by_name_and_ends_the_process),
    };

    for (size_t i = 0; argc == 2 && i < sizeof children / sizeof *children; i++)
        if (strcmp(argv[1], children[i].name) == 0)
            _exit(children[i].fn()); /* a leak sanitizer would start a thread at exit, which may be refused by then */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
