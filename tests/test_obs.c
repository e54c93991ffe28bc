/* test_obs.c - names and numbers of fibers, the list of them, the counters. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <sley.h>

#include "base/atomic.h"

#if defined(SL_ASAN) || defined(SL_TSAN) || defined(SL_MODEL_SIZE)
#define SCALE 50
#else
#define SCALE 1
#endif

/* ---- numbers ---- */

enum { NUMBERS = 1000000 / SCALE };

static struct {
    uint64_t *number;
    _Atomic(int) count;
} numbers;

static int note_number(void *arg)
{
    (void)arg;
    numbers.number[sl_add_acq_rel(&numbers.count, 1)] = sley_self();
    return 0;
}

static int start_by_the_thousand(void *arg) /* blocks are used again and again */
{
    (void)arg;
    for (int i = 0; i < NUMBERS; i++) {
        int rc = sley_go(note_number, NULL);

        if (rc == 0 && i % 1000 == 0)
            rc = sley_yield();
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void numbers_are_never_used_again(void **state)
{
    (void)state;
    numbers.number = calloc(NUMBERS, sizeof *numbers.number);
    assert_non_null(numbers.number);
    assert_int_equal(sley_run(NULL, start_by_the_thousand, NULL), 0);
    assert_int_equal(numbers.count, NUMBERS);
    qsort(numbers.number, NUMBERS, sizeof *numbers.number, by_value);
    assert_true(numbers.number[0] != 0);
    for (int i = 1; i < NUMBERS; i++)
        assert_true(numbers.number[i] != numbers.number[i - 1]);
    free(numbers.number);
}

static int keep_number(void *arg)
{
    int *changed = arg;
    uint64_t mine = sley_self();

    for (int i = 0; i < 100; i++) {
        int rc = i % 2 ? sley_yield() : sley_sleep(1);

        if (rc < 0)
            return rc;
        *changed += sley_self() != mine;
    }
    return 0;
}

static void a_number_stays_as_long_as_its_fiber(void **state)
{
    int changed = 0;

    (void)state;
    assert_int_equal(sley_run(NULL, keep_number, &changed), 0);
    assert_int_equal(changed, 0);
}

/* ---- the list ---- */

static char *dump_of(const sley_runtime *rt) /* to be freed */
{
    FILE *f = tmpfile();
    char *text = NULL;
    size_t n = 0;
    ssize_t got;

    assert_non_null(f);
    assert_int_equal(sley_dump(rt, fileno(f)), 0);
    assert_int_equal(lseek(fileno(f), 0, SEEK_SET), 0);
    do {
        text = realloc(text, n + 65536 + 1);
        assert_non_null(text);
        got = read(fileno(f), text + n, 65536);
        assert_true(got >= 0);
        n += (size_t)got;
    } while (got > 0);
    text[n] = '\0';
    fclose(f);
    return text;
}

/* The line in which `name` stands, ended by a NUL in place; NULL: none. */
static char *line_of(char *text, const char *name)
{
    char quoted[64], *at, *start, *end;

    snprintf(quoted, sizeof quoted, "\"%s\"", name);
    at = strstr(text, quoted);
    if (at == NULL)
        return NULL;
    for (start = at; start > text && start[-1] != '\n';)
        start--;
    end = strchr(at, '\n');
    assert_non_null(end);
    *end = '\0';
    return start;
}

enum { WAITS = 9 };

static struct {
    sley_chan *empty, *full;
    sley_event event;
    sley_waitgroup group;
    int pipe[2];
    _Atomic(uint64_t) number[WAITS];
    int rc[WAITS];
} waits;

static const struct { const char *name, *says; } kinds[WAITS] = {
    { "sender", "waits: send to channel " },
    { "receiver", "waits: receive from channel " },
    { "sleeper", "waits: sleep" },
    { "long sleeper", "waits: sleep" },
    { "eventful", "waits: event " },
    { "grouped", "waits: wait group " },
    { "reader", "waits: " }, /* an operation or readiness: as the descriptor is */
    { "poller", "waits: readiness of descriptor" },
    { "runner", "run" },
};

static int wait_by_name(void *arg)
{
    int i = (int)(intptr_t)arg, rc;
    char byte;

    sley_fiber_set_name("not for long");
    sley_fiber_set_name(kinds[i].name);
    sl_store_release(&waits.number[i], sley_self());
    switch (i) {
    case 0: rc = sley_chan_send(waits.full, "x", SLEY_FOREVER); break;
    case 1: rc = sley_chan_recv(waits.empty, NULL, SLEY_FOREVER); break;
    case 2: rc = sley_sleep(SLEY_FOREVER); break;
    case 3: rc = sley_sleep(3600 * SLEY_S); break;
    case 4: rc = sley_event_wait(&waits.event, SLEY_FOREVER); break;
    case 5: rc = sley_waitgroup_wait(&waits.group, SLEY_FOREVER); break;
    case 6: rc = sley_read(waits.pipe[0], &byte, 1, SLEY_FOREVER); break;
    case 7: rc = sley_fd_wait(waits.pipe[0], POLLIN, SLEY_FOREVER); break;
    default:
        while ((rc = sley_yield()) == 0)
            ;
        break;
    }
    waits.rc[i] = rc;
    return rc;
}

static void the_list_says_who_waits_for_what(void **state)
{
    char object[WAITS][32] = { "", "", "", "", "", "", "", "", "" };
    sley_runtime *rt;
    sley_stats s;

    (void)state;
    memset(&waits, 0, sizeof waits);
    waits.empty = sley_chan_create(1, 0);
    waits.full = sley_chan_create(1, 0);
    sley_waitgroup_add(&waits.group, 1);
    assert_int_equal(pipe(waits.pipe), 0);
    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    for (intptr_t i = 0; i < WAITS; i++)
        assert_int_equal(sley_runtime_submit(rt, wait_by_name, (void *)i), 0);
    {
        char *text = dump_of(rt); /* nobody has begun */

        assert_non_null(strstr(text, "has not begun"));
        assert_null(strstr(text, "waits"));
        free(text);
    }
    assert_int_equal(sley_runtime_start(rt), 0);
    do
        assert_int_equal(sley_stats_read(rt, &s, sizeof s), 0);
    while (s.fibers_parked_now < WAITS - 1);
    snprintf(object[0], sizeof object[0], "%p", (void *)waits.full);
    snprintf(object[1], sizeof object[1], "%p", (void *)waits.empty);
    snprintf(object[4], sizeof object[4], "%p", (void *)&waits.event);
    snprintf(object[5], sizeof object[5], "%p", (void *)&waits.group);
    snprintf(object[6], sizeof object[6], "descriptor");
    for (int i = 0; i < WAITS; i++) {
        char *text = dump_of(rt), *line = line_of(text, kinds[i].name), number[32];

        if (line == NULL)
            fail_msg("no line of %s in:\n%s", kinds[i].name, text);
        snprintf(number, sizeof number, "fiber %llu ", (unsigned long long)sl_load_acquire(&waits.number[i]));
        if (strncmp(line, number, strlen(number)) != 0 || strstr(line, kinds[i].says) == NULL || strstr(line, object[i]) == NULL)
            fail_msg("\"%s\" does not say: %s, %s, %s", line, number, kinds[i].says, object[i]);
        assert_null(strstr(line, "not for long"));
        free(text);
    }
    {
        char *text = dump_of(rt);
        int lines = 0;

        for (char *at = text; (at = strchr(at, '\n')) != NULL; at++)
            lines++;
        assert_int_equal(lines, 1 + WAITS); /* the runtime's, and theirs */
        free(text);
    }
    assert_int_equal(sley_runtime_stop(rt, SLEY_NOW), 0);
    for (int i = 0; i < WAITS; i++)
        assert_int_equal(waits.rc[i], -ECANCELED);
    sley_runtime_destroy(rt);
    sley_chan_destroy(waits.empty);
    sley_chan_destroy(waits.full);
    close(waits.pipe[0]);
    close(waits.pipe[1]);
}

static int dump_itself(void *arg)
{
    static const char long_name[] = "0123456789012345678901234567890123456789";

    sley_fiber_set_name(NULL); /* nothing */
    sley_fiber_set_name(long_name);
    return sley_dump(NULL, *(int *)arg);
}

static void names_are_cut_and_a_fiber_may_dump_its_own_runtime(void **state)
{
    FILE *f = tmpfile();
    char text[1024];
    int fd;
    ssize_t n;

    (void)state;
    assert_non_null(f);
    fd = fileno(f);
    sley_fiber_set_name("nobody"); /* off a fiber: nothing */
    assert_int_equal(sley_run(NULL, dump_itself, &fd), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    n = read(fd, text, sizeof text - 1);
    assert_true(n > 0);
    text[n] = '\0';
    assert_non_null(strstr(text, " \"0123456789012345678901234567890\" "));
    assert_non_null(strstr(text, "runs or is ready"));
    fclose(f);
}

static int do_nothing(void *arg)
{
    (void)arg;
    return 0;
}

static void a_runtime_with_a_very_long_name_is_listed_too(void **state)
{
    char name[2000], *text;
    sley_runtime *rt;

    (void)state;
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(sley_runtime_create(&rt, &(sley_options){ .name = name }), 0);
    assert_int_equal(sley_runtime_submit(rt, do_nothing, NULL), 0);
    text = dump_of(rt);
    assert_ptr_equal(strstr(text, "runtime nnnnnnnnnn"), text);
    assert_true(strspn(text + strlen("runtime "), "n") <= sizeof name - 1);
    assert_non_null(strstr(text, "\nfiber ")); /* in a line of its own */
    free(text);
    sley_runtime_destroy(rt);
}

static int rename_on_and_on(void *arg)
{
    static const char *const names[] = { "abcdefghijklmnopqrstuvwxyz", "z" };
    int rc = 0;

    for (int i = 0; !sl_load_acquire((_Atomic(int) *)arg) && rc == 0; i++) {
        sley_fiber_set_name(names[i % 2]);
        sley_go(do_nothing, NULL); /* so that blocks come and go under the list's feet */
        rc = sley_yield();
    }
    return rc;
}

static void the_list_can_be_had_while_fibers_come_and_go(void **state)
{
    _Atomic(int) over = 0;
    sley_runtime *rt;
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    (void)state;
    assert_true(null >= 0);
    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(sley_runtime_submit(rt, rename_on_and_on, (void *)&over), 0);
    for (int i = 0; i < 200; i++)
        assert_int_equal(sley_dump(rt, null), 0);
    sl_store_release(&over, 1);
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    sley_runtime_destroy(rt);
    close(null);
}

static void a_list_that_cannot_be_written_says_why(void **state)
{
    sley_runtime *rt;
    int pair[2];

    (void)state;
    assert_int_equal(sley_dump(NULL, STDERR_FILENO), -EINVAL); /* no runtime here */
    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    assert_int_equal(sley_runtime_submit(rt, do_nothing, NULL), 0);
    assert_int_equal(sley_dump(rt, -1), -EBADF);
    assert_int_equal(pipe2(pair, O_NONBLOCK), 0);
    while (write(pair[1], pair, sizeof pair) > 0)
        ;
    assert_int_equal(sley_dump(rt, pair[1]), -EAGAIN);
    close(pair[0]);
    close(pair[1]);
    sley_runtime_destroy(rt);
}

/* ---- the counters ---- */

enum { COUNTED = 200, MESSAGES = 50, NAPS = 5 };

static struct {
    sley_event go_on;
    _Atomic(int) inside;
    sley_chan *ch;
} counted;

static int fail_every_fourth(void *arg)
{
    int i = (int)(intptr_t)arg, rc = 0;
    uint64_t x = 1;

    for (int j = 0; j < NAPS && rc == 0; j++)
        rc = sley_sleep(10 * SLEY_US);
    for (int j = 0; j < MESSAGES && rc >= 0; j++)
        rc = i % 2 ? sley_chan_send(counted.ch, &x, SLEY_FOREVER) : sley_chan_recv(counted.ch, &x, SLEY_FOREVER);
    sl_add_acq_rel(&counted.inside, 1);
    if (rc >= 0)
        rc = sley_event_wait(&counted.go_on, SLEY_FOREVER);
    return rc < 0 ? rc : i % 4 == 0 ? -EIO : 0;
}

static void counters_add_up(void **state)
{
    sley_stats s, later;
    sley_runtime *rt;

    (void)state;
    memset(&counted, 0, sizeof counted);
    counted.ch = sley_chan_create(sizeof(uint64_t), 4);
    assert_non_null(counted.ch);
    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    assert_int_equal(sley_stats_read(rt, &s, sizeof s), 0);
    assert_int_equal(s.fibers_now + s.fibers_started + s.fibers_failed + s.switches + s.stacks_now, 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    for (intptr_t i = 0; i < COUNTED; i++)
        assert_int_equal(sley_runtime_submit(rt, fail_every_fourth, (void *)i), 0);
    do
        assert_int_equal(sley_stats_read(rt, &s, sizeof s), 0);
    while (s.fibers_parked_now < COUNTED || sl_load_acquire(&counted.inside) < COUNTED);
    assert_int_equal(sley_stats_read(rt, &s, sizeof s), 0); /* once more, now that nothing happens: it is not one instant */
    assert_true(s.workers_now > 0);
    assert_int_equal(s.fibers_now, COUNTED);
    assert_int_equal(s.fibers_parked_now, COUNTED);
    assert_int_equal(s.fibers_started, COUNTED);
    assert_int_equal(s.fibers_failed, 0);
    assert_true(s.stacks_now >= COUNTED);
    assert_true(s.inject_pushes >= COUNTED);
    assert_true(s.switches >= 2 * COUNTED);
    assert_true(s.timers_fired >= COUNTED * NAPS); /* each nap is ended by its own */
    sley_event_set(&counted.go_on);
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    assert_int_equal(sley_stats_read(rt, &later, sizeof later), 0);
    assert_int_equal(later.fibers_now, 0);
    assert_int_equal(later.fibers_parked_now, 0);
    assert_int_equal(later.fibers_started, COUNTED);
    assert_int_equal(later.fibers_failed, COUNTED / 4);
    assert_true(later.switches >= s.switches && later.wakes >= s.wakes && later.timers_fired >= s.timers_fired);
    assert_int_equal(later.chan_messages, COUNTED / 2 * MESSAGES);
    sley_runtime_destroy(rt);
    sley_chan_destroy(counted.ch);
}

enum { OPERATIONS = 100 };

static int read_and_write(void *arg)
{
    int *end = arg, rc = 0;
    char byte = 'b';

    for (int i = 0; i < OPERATIONS && rc >= 0; i++) {
        rc = sley_write(end[1], &byte, 1, SLEY_FOREVER);
        if (rc >= 0)
            rc = sley_read(end[0], &byte, 1, SLEY_FOREVER);
    }
    return rc < 0 ? rc : 0;
}

static void operations_that_went_in_came_out(void **state)
{
    sley_runtime *rt;
    sley_stats s;
    int end[2];

    (void)state;
    assert_int_equal(pipe(end), 0);
    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    assert_int_equal(sley_runtime_submit(rt, read_and_write, end), 0);
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    assert_int_equal(sley_stats_read(rt, &s, sizeof s), 0);
    assert_int_equal(s.io_submitted, s.io_completed);
    assert_true(s.io_enters > 0 || s.io_submitted == 0);
    sley_runtime_destroy(rt);
    close(end[0]);
    close(end[1]);
}

static int read_own_stats(void *arg)
{
    return sley_stats_read(NULL, arg, sizeof(sley_stats));
}

static void stats_of_other_versions_are_filled_as_far_as_known(void **state)
{
    struct { sley_stats known; uint64_t newer[4]; } large;
    sley_stats s, small;
    unsigned char *bytes = (unsigned char *)&small;
    sley_runtime *rt;

    (void)state;
    assert_int_equal(sley_stats_read(NULL, &s, sizeof s), -EINVAL); /* no runtime here */
    assert_int_equal(sley_run(&(sley_options){ .workers = 3 }, read_own_stats, &s), 0);
    assert_int_equal(s.workers_now, 3);
    assert_int_equal(s.fibers_now, 1);
    assert_int_equal(s.fibers_started, 1);
    assert_int_equal(sley_runtime_create(&rt, &(sley_options){ .workers = 2 }), 0);
    assert_int_equal(sley_stats_read(rt, NULL, sizeof s), -EINVAL);
    for (size_t n = 0; n <= sizeof small; n += 4) {
        memset(&small, 0xee, sizeof small);
        assert_int_equal(sley_stats_read(rt, &small, n), 0);
        if (n >= sizeof(uint64_t))
            assert_int_equal(small.workers_now, 2);
        for (size_t i = n; i < sizeof small; i++)
            assert_int_equal(bytes[i], 0xee);
    }
    memset(&large, 0xee, sizeof large);
    assert_int_equal(sley_stats_read(rt, &large.known, sizeof large), 0);
    assert_int_equal(large.known.workers_now, 2);
    assert_int_equal(large.known.blocking_threads_now, 0);
    for (int i = 0; i < 4; i++)
        assert_true(large.newer[i] == 0 || large.newer[i] == UINT64_C(0xeeeeeeeeeeeeeeee));
    sley_runtime_destroy(rt);
}

static int start_and_end(void *arg)
{
    int left = (int)(intptr_t)arg;

    return left > 0 ? sley_go(start_and_end, (void *)(intptr_t)(left - 1)) : 0;
}

static void fibers_now_is_never_more_than_there_are(void **state)
{
    sley_runtime *rt;
    sley_stats s;

    (void)state;
    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(sley_runtime_submit(rt, start_and_end, (void *)(intptr_t)(20000 / SCALE)), 0);
    do {
        assert_int_equal(sley_stats_read(rt, &s, sizeof s), 0);
        assert_true(s.fibers_now <= s.fibers_started);
        assert_true(s.fibers_started <= 10 * (20000 / SCALE + 1));
    } while (s.fibers_now > 0);
    assert_int_equal(s.fibers_started, 10 * (20000 / SCALE + 1));
    sley_runtime_destroy(rt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_never_used_again),
        cmocka_unit_test(a_number_stays_as_long_as_its_fiber),
        cmocka_unit_test(the_list_says_who_waits_for_what),
        cmocka_unit_test(names_are_cut_and_a_fiber_may_dump_its_own_runtime),
        cmocka_unit_test(a_runtime_with_a_very_long_name_is_listed_too),
        cmocka_unit_test(the_list_can_be_had_while_fibers_come_and_go),
        cmocka_unit_test(a_list_that_cannot_be_written_says_why),
        cmocka_unit_test(counters_add_up),
        cmocka_unit_test(operations_that_went_in_came_out),
        cmocka_unit_test(stats_of_other_versions_are_filled_as_far_as_known),
        cmocka_unit_test(fibers_now_is_never_more_than_there_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
