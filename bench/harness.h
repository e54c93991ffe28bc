/* harness.h - measure one regime after another, verify each, print a row of each.
 *
 * A row is tab-separated; the first line printed names the columns:
 *   name params workers n unit median p99 cpu allocs samples
 * n operations make a sample; median and p99 (nearest rank) are over the samples, an operation; cpu is the process's processor time
 * an operation in nanoseconds, allocs its calls of malloc and friends an operation ("-" where they cannot be counted).
 * The peers print the same rows. */
#ifndef BENCH_HARNESS_H
#define BENCH_HARNESS_H

#include <stddef.h>
#include <stdint.h>

enum bench_kind {
    BENCH_STEADY, /* a process of its own; one sample to warm up, then those that count */
    BENCH_ROUNDS, /* for each sample a new process that takes two: one row for the first rounds, one for the second */
    BENCH_VALUE,  /* for each sample a new process; it is no time, the sample hands it to bench_report */
};

struct bench {
    const char *name;
    const char *params;      /* what else tells this row from others of its name */
    uint32_t    workers;     /* 0: no runtime, the sample runs on the main thread */
    uint64_t    n;           /* operations a sample */
    uint64_t    n_min;       /* with --check n / 100, but not below this; 0: 1 */
    uint32_t    samples;     /* 0: 25 steady ones, 5 of the other kinds */
    enum bench_kind kind;
    const char *unit;        /* NULL: ns */
    int       (*sample)(const struct bench *b); /* on a fiber: b->n operations; 0, or -errno. It checks what came out by BENCH_CHECK. */
    uint64_t    a, b;        /* the sample's own */
};

/* Run those whose "name params" contain argv's NAME, all without one. --check: one small sample each, to see that they are right. */
int bench_main(int argc, char **argv, const struct bench *benches, size_t count);

void bench_report(double value); /* once in each sample of the kind BENCH_VALUE */

/* A wrong result: say where and end the process, on whatever stack this is. */
#define BENCH_CHECK(condition) ((condition) ? (void)0 : bench_wrong(__FILE__, __LINE__, #condition))
_Noreturn void bench_wrong(const char *file, int line, const char *condition);

#endif
