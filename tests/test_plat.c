/* test_plat.c - the machine's small operations: futex, membarrier, the processor's number, the control group's quota. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic.h"
#include "plat/cpu.h"
#include "plat/futex.h"
#include "plat/quota.h"

/* --- futex ----------------------------------------------------------------------------------------------------------------------- */

static void futex_wait_on_another_value_returns(void **state)
{
    _Atomic(uint32_t) word = 1;

    (void)state;
    errno = 77;
    sl_futex_wait(&word, 0, INT64_MAX);
    assert_int_equal(errno, 77);
}

static void futex_wait_ends_at_its_deadline(void **state)
{
    _Atomic(uint32_t) word = 0;
    int64_t deadline = sl_clock_ns() + 2000000;

    (void)state;
    while (sl_clock_ns() < deadline) /* spurious returns happen */
        sl_futex_wait(&word, 0, deadline);
    sl_futex_wait(&word, 0, deadline); /* passed: returns */
    sl_futex_wait(&word, 0, 0);
    sl_futex_wait(&word, 0, INT64_MIN);
}

static void *wake(void *arg)
{
    _Atomic(uint32_t) *word = arg;

    sl_store_release(word, 1); /* partner: the loop below */
    sl_futex_wake(word, 1);
    return NULL;
}

static void futex_wake_ends_a_wait(void **state)
{
    _Atomic(uint32_t) word = 0;
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, wake, &word), 0);
    while (sl_load_acquire(&word) == 0)
        sl_futex_wait(&word, 0, INT64_MAX);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* --- barriers and processors ----------------------------------------------------------------------------------------------------- */

enum { BARRIER_ROUNDS = 20000 };

/* Two threads store to one word each and look at the other's: at least one must see the other. One side has the membarrier, the other
 * only its compiler's order. */
struct duel {
    _Atomic(uint32_t) mine, theirs, round, done;
    uint32_t          seen_by_thread;
};

static void *light_side(void *arg)
{
    struct duel *d = arg;

    for (uint32_t round = 1; round <= BARRIER_ROUNDS; round++) {
        for (int spins = 0; sl_load_acquire(&d->round) != round; spins++) {
            if (spins < 1000) /* so that the two run at once, where there are two processors */
                sl_cpu_relax();
            else
                sl_thread_yield();
        }
        sl_store_relaxed(&d->theirs, round);
        sl_compiler_barrier();
        d->seen_by_thread = sl_load_relaxed(&d->mine);
        sl_store_release(&d->done, round);
    }
    return NULL;
}

static void membarrier_makes_a_fence_in_the_other_thread(void **state)
{
    static struct duel d;
    pthread_t thread;
    int missed = 0;

    (void)state;
    if (!sl_membarrier_ready())
        skip(); /* ThreadSanitizer, or a kernel that does not offer it */
    assert_int_equal(pthread_create(&thread, NULL, light_side, &d), 0);
    for (uint32_t round = 1; round <= BARRIER_ROUNDS; round++) {
        uint32_t seen;

        sl_store_release(&d.round, round);
        for (volatile uint32_t wait = round % 256; wait > 0; wait--) /* until the other is about to store, for some of the rounds */
            ;
        sl_store_relaxed(&d.mine, round);
        sl_membarrier();
        seen = sl_load_relaxed(&d.theirs);
        while (sl_load_acquire(&d.done) != round)
            sl_thread_yield();
        missed += seen != round && d.seen_by_thread != round;
    }
    pthread_join(thread, NULL);
    assert_int_equal(missed, 0); /* without the membarrier, hundreds on two processors */
}

static void kick_is_harmless_for_any_processor(void **state)
{
    (void)state;
    errno = 77;
    for (int cpu = -2; cpu < 64; cpu++)
        sl_cpu_kick(cpu);
    sl_cpu_kick(1 << 20);
    assert_int_equal(errno, 77);
}

static void rseq_slot_holds_the_processor_of_this_thread(void **state)
{
    const uint32_t *slot = sl_rseq_cpu_slot();
    cpu_set_t before, one;
    int cpu = sched_getcpu();

    (void)state;
    if (slot == NULL)
        skip(); /* an older libc, or switched off by its tunable */
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(sl_volatile_read(slot), cpu);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static void processor_count_follows_the_affinity_mask(void **state)
{
    cpu_set_t before, one;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_in_range(sl_cpu_count(), 1, CPU_COUNT(&before));
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(sl_cpu_count(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

/* --- quota: a made-up machine below a directory ---------------------------------------------------------------------------------- */

static char machine[] = "/tmp/sley-quota-XXXXXX";

static void write_file(const char *path, const char *text)
{
    char full[512];
    FILE *f;

    snprintf(full, sizeof full, "%s%s", machine, path);
    for (char *slash = strchr(full + sizeof machine, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(full, 0777);
        *slash = '/';
    }
    f = fopen(full, "w");
    assert_non_null(f);
    assert_int_equal(fputs(text, f) < 0, 0);
    assert_int_equal(fclose(f), 0);
}

static int forget(const char *path, const struct stat *s, int kind, struct FTW *where)
{
    (void)s, (void)kind, (void)where;
    return remove(path);
}

static int new_machine(void **state)
{
    (void)state;
    strcpy(machine, "/tmp/sley-quota-XXXXXX");
    return mkdtemp(machine) != NULL ? 0 : -1;
}

static int remove_machine(void **state)
{
    (void)state;
    return nftw(machine, forget, 8, FTW_DEPTH | FTW_PHYS);
}

static const char v2_mount[] = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
static const char v1_mounts[] = "24 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
                                "32 31 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
                                "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";

static void no_files_are_no_quota(void **state)
{
    (void)state;
    assert_int_equal(sl_quota_cpus(machine), 0);
    write_file("/proc/self/mountinfo", v2_mount);
    assert_int_equal(sl_quota_cpus(machine), 0);
    write_file("/proc/self/cgroup", "0::/user.slice\n");
    assert_int_equal(sl_quota_cpus(machine), 0);
}

static void quota_of_v2_is_the_smallest_up_to_the_root(void **state)
{
    (void)state;
    write_file("/proc/self/mountinfo", v2_mount);
    write_file("/proc/self/cgroup", "0::/a/b/c\n");
    write_file("/sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
    assert_int_equal(sl_quota_cpus(machine), 0);
    write_file("/sys/fs/cgroup/a/b/cpu.max", "800000 100000\n");
    assert_int_equal(sl_quota_cpus(machine), 8);
    write_file("/sys/fs/cgroup/a/cpu.max", "250000 100000\n"); /* two and a half: three */
    assert_int_equal(sl_quota_cpus(machine), 3);
    write_file("/sys/fs/cgroup/a/b/c/cpu.max", "50000 100000\n");
    assert_int_equal(sl_quota_cpus(machine), 1);
}

static void quota_of_v2_in_a_container_is_at_the_mount_point(void **state)
{
    (void)state;
    write_file("/proc/self/mountinfo", v2_mount);
    write_file("/proc/self/cgroup", "0::/\n");
    write_file("/sys/fs/cgroup/cpu.max", "400000 100000\n");
    assert_int_equal(sl_quota_cpus(machine), 4);
    /* Without a namespace of its own the mount shows only the container's group. */
    write_file("/proc/self/mountinfo", "30 24 0:26 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
    write_file("/proc/self/cgroup", "0::/docker/x/worker\n");
    write_file("/sys/fs/cgroup/worker/cpu.max", "200000 100000\n");
    assert_int_equal(sl_quota_cpus(machine), 2);
    write_file("/proc/self/cgroup", "0::/docker/xy/worker\n"); /* another group */
    assert_int_equal(sl_quota_cpus(machine), 4);
}

static void quota_of_v1_is_quota_by_period(void **state)
{
    (void)state;
    write_file("/proc/self/mountinfo", v1_mounts);
    write_file("/proc/self/cgroup", "3:cpuset:/\n2:cpu,cpuacct:/job\n0::/elsewhere\n");
    write_file("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
    write_file("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
    assert_int_equal(sl_quota_cpus(machine), 0);
    write_file("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "150000\n");
    assert_int_equal(sl_quota_cpus(machine), 2);
}

static void garbage_is_no_quota(void **state)
{
    (void)state;
    write_file("/proc/self/mountinfo", "x\n\n - \n30 24 0:26 / /sys/fs/cgroup rw - cgroup2\n"
                                       "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 c rw\n");
    write_file("/proc/self/cgroup", "\n:\n0:\n0::/a//b/\n");
    write_file("/sys/fs/cgroup/a/b/cpu.max", "many some\n");
    write_file("/sys/fs/cgroup/a/cpu.max", "0 0\n");
    write_file("/sys/fs/cgroup/cpu.max", "");
    assert_int_equal(sl_quota_cpus(machine), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(futex_wait_on_another_value_returns),
        cmocka_unit_test(futex_wait_ends_at_its_deadline),
        cmocka_unit_test(futex_wake_ends_a_wait),
        cmocka_unit_test(membarrier_makes_a_fence_in_the_other_thread),
        cmocka_unit_test(kick_is_harmless_for_any_processor),
        cmocka_unit_test(rseq_slot_holds_the_processor_of_this_thread),
        cmocka_unit_test(processor_count_follows_the_affinity_mask),
        cmocka_unit_test_setup_teardown(no_files_are_no_quota, new_machine, remove_machine),
        cmocka_unit_test_setup_teardown(quota_of_v2_is_the_smallest_up_to_the_root, new_machine, remove_machine),
        cmocka_unit_test_setup_teardown(quota_of_v2_in_a_container_is_at_the_mount_point, new_machine, remove_machine),
        cmocka_unit_test_setup_teardown(quota_of_v1_is_quota_by_period, new_machine, remove_machine),
        cmocka_unit_test_setup_teardown(garbage_is_no_quota, new_machine, remove_machine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
