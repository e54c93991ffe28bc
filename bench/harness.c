/* harness.c - see harness.h. */
#include "harness.h"

#include <sley.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STEADY_SAMPLES = 25, NEW_PROCESSES = 5, SAMPLES_MAX = 100 };

_Noreturn void bench_wrong(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: wrong result: %s\n", file, line, condition);
    _exit(1);
}

/* --- allocations ------------------------------------------------------------------------------------------------------------------
 *
 * The program's own malloc stands before jemalloc's for every caller, the library included; it counts and calls jemalloc by the names
 * that only jemalloc has. free stays jemalloc's. */
#ifdef BENCH_JEMALLOC
#include <jemalloc/jemalloc.h>
#include <errno.h>

static _Atomic uint64_t allocations;

static void *allocate(size_t bytes, int flags)
{
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return mallocx(bytes > 0 ? bytes : 1, flags);
}

void *malloc(size_t bytes) { return allocate(bytes, 0); }

void *calloc(size_t count, size_t bytes)
{
    size_t all;

    return __builtin_mul_overflow(count, bytes, &all) ? NULL : allocate(all, MALLOCX_ZERO);
}

void *realloc(void *old, size_t bytes)
{
    if (old == NULL)
        return allocate(bytes, 0);
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return rallocx(old, bytes > 0 ? bytes : 1, 0);
}

void *aligned_alloc(size_t alignment, size_t bytes) { return allocate(bytes, MALLOCX_ALIGN(alignment)); }

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    void *p = allocate(bytes, MALLOCX_ALIGN(alignment));

    if (p == NULL)
        return ENOMEM;
    *out = p;
    return 0;
}

static double allocation_count(void) { return (double)atomic_load_explicit(&allocations, memory_order_relaxed); }
#else
static double allocation_count(void) { return NAN; }
#endif

/* --- measuring --------------------------------------------------------------------------------------------------------------------
 *
 * A row is measured in child processes of one that never had a runtime, so that no row, and no first round, finds what another left. */

struct series {
    double ns[SAMPLES_MAX], cpu_ns[SAMPLES_MAX];
    double allocations;
    size_t count;
};

struct task {
    const struct bench *bench;
    int               (*measure)(struct task *t); /* in the child, on a fiber */
    struct series       series[2];                /* of rounds: first, second */
};

static struct task *task;     /* shared with the children */
static double reported = NAN; /* what the sample said */

void bench_report(double value) { reported = value; }

static double cpu_ns(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return 1e9 * (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e3 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static int take_sample(const struct bench *b, struct series *s)
{
    double allocations_before = allocation_count(), cpu_before = cpu_ns();
    sley_time before = sley_now();
    int rc = b->sample(b);
    sley_time after = sley_now();

    if (s != NULL) {
        s->ns[s->count] = b->kind == BENCH_VALUE ? reported : (double)(after - before) / (double)b->n;
        s->cpu_ns[s->count++] = (cpu_ns() - cpu_before) / (double)b->n;
        s->allocations += (allocation_count() - allocations_before) / (double)b->n;
    }
    return rc;
}

static int measure_once(struct task *t) { return take_sample(t->bench, &t->series[0]); }

static int measure_steadily(struct task *t)
{
    uint32_t samples = t->bench->samples > 0 ? t->bench->samples : STEADY_SAMPLES;
    int rc = take_sample(t->bench, NULL);

    while (rc == 0 && t->series[0].count < samples)
        rc = take_sample(t->bench, &t->series[0]);
    return rc;
}

static int measure_two_rounds(struct task *t)
{
    int rc = take_sample(t->bench, &t->series[0]);

    return rc == 0 ? take_sample(t->bench, &t->series[1]) : rc;
}

static int on_first_fiber(void *arg)
{
    struct task *t = arg;

    return t->measure(t);
}

/* 0: measured. The child has said what is wrong. */
static int run_in_child(const struct bench *b, int (*measure)(struct task *))
{
    sley_options options = { .workers = b->workers };
    int status, rc;
    pid_t child;

    task->bench = b;
    task->measure = measure;
    fflush(NULL);
    child = fork();
    if (child < 0) {
        perror("fork");
        return -1;
    }
    if (child == 0) {
        rc = b->workers == 0 ? on_first_fiber(task) : sley_run(&options, on_first_fiber, task);
        if (rc != 0)
            fprintf(stderr, "%s %s, %u workers: %s\n", b->name, b->params, b->workers, rc < 0 ? strerror(-rc) : "an unexpected result");
        _exit(rc != 0);
    }
    if (waitpid(child, &status, 0) < 0 || status != 0) {
        fprintf(stderr, "%s %s, %u workers: ended with status %d\n", b->name, b->params, b->workers, status);
        return -1;
    }
    return 0;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double nearest_rank(double *values, size_t count, double part)
{
    qsort(values, count, sizeof *values, ascending);
    return values[(size_t)ceil(part * (double)count) - 1];
}

static void print_series(const struct bench *b, const char *round, struct series *s)
{
    printf("%s\t%s%s%s\t%u\t%llu\t", b->name, b->params, b->params[0] != '\0' && round[0] != '\0' ? " " : "", round, b->workers,
           (unsigned long long)b->n);
    printf("%s\t%.2f\t%.2f\t", b->unit != NULL ? b->unit : "ns", nearest_rank(s->ns, s->count, 0.5), nearest_rank(s->ns, s->count, 0.99));
    if (b->kind == BENCH_VALUE)
        printf("-\t-");
    else if (isnan(s->allocations))
        printf("%.2f\t-", nearest_rank(s->cpu_ns, s->count, 0.5));
    else
        printf("%.2f\t%.3f", nearest_rank(s->cpu_ns, s->count, 0.5), s->allocations / (double)s->count);
    printf("\t%zu\n", s->count);
    fflush(stdout);
}

static int run_one(const struct bench *b)
{
    uint32_t processes = b->kind == BENCH_STEADY ? 1 : b->samples > 0 ? b->samples : NEW_PROCESSES;

    task->series[0].count = task->series[1].count = 0;
    task->series[0].allocations = task->series[1].allocations = 0;
    for (uint32_t i = 0; i < processes; i++)
        if (run_in_child(b, b->kind == BENCH_STEADY ? measure_steadily : b->kind == BENCH_ROUNDS ? measure_two_rounds : measure_once) != 0)
            return -1;
    print_series(b, b->kind == BENCH_ROUNDS ? "round=1" : "", &task->series[0]);
    if (b->kind == BENCH_ROUNDS)
        print_series(b, "round=2", &task->series[1]);
    return 0;
}

static int check_one(struct bench b)
{
    uint64_t n_min = b.n_min > 0 ? b.n_min : 1;

    b.n = b.n / 100 > n_min ? b.n / 100 : n_min;
    if (run_in_child(&b, measure_once) != 0)
        return -1;
    printf("%s %s, %u workers: right\n", b.name, b.params, b.workers);
    return 0;
}

static int is_wanted(const struct bench *b, const char *wanted)
{
    char label[192];

    snprintf(label, sizeof label, "%s %s", b->name, b->params);
    return wanted == NULL || strstr(label, wanted) != NULL;
}

int bench_main(int argc, char **argv, const struct bench *benches, size_t count)
{
    int checking = argc > 1 && strcmp(argv[1], "--check") == 0;
    const char *wanted = argc > 1 + checking ? argv[1 + checking] : NULL;

    task = mmap(NULL, sizeof *task, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (task == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    if (!checking)
        puts("name\tparams\tworkers\tn\tunit\tmedian\tp99\tcpu\tallocs\tsamples");
    for (size_t i = 0; i < count; i++)
        if (is_wanted(&benches[i], wanted) && (checking ? check_one(benches[i]) : run_one(&benches[i])) != 0)
            return 1;
    return 0;
}
