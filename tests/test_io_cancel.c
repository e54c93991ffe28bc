/* test_io_cancel.c - stopping a runtime: every call that waits ends with -ECANCELED and has taken nothing; closing goes on; what belongs to
 * other runtimes and to plain threads goes on too. */
#include "io_scenario.h"

#include <sys/file.h>
#include <sys/uio.h>

enum { KINDS = 13 };

static struct stage {
    int pair[2], quiet[2], pipe[2], listener, full[2], closing[2];
    int locked[2]; /* two open file descriptions of a file, of which the first has the lock */
    _Atomic(int) running;
    int results[KINDS];
    int closed, later, yielded;
    uint64_t word;
} stage;

static unsigned char filler[1 << 16];

/* The kinds of waits, by number. */
static int wait_as(int kind)
{
    char buf[4];
    struct iovec parts[2] = { { buf, 2 }, { buf + 2, 2 } };
    struct msghdr m = { .msg_iov = parts, .msg_iovlen = 2 };

    switch (kind) {
    case 0: return sley_recv(stage.pair[0], buf, sizeof buf, 0, SLEY_FOREVER);
    case 1: return sley_recv(stage.pair[0], buf, sizeof buf, 0, sley_after(3600 * SLEY_S));
    case 2: return sley_read(stage.pipe[0], buf, sizeof buf, SLEY_FOREVER);
    case 3: return sley_accept(stage.listener, NULL, NULL, SLEY_FOREVER);
    case 4: return sley_fd_wait(stage.quiet[0], POLLIN, SLEY_FOREVER);
    case 5: return sley_fd_wait(stage.quiet[0], POLLIN, sley_after(3600 * SLEY_S));
    case 6: return sley_send_all(stage.full[0], filler, sizeof filler, 0, SLEY_FOREVER);
    case 7: return sley_signal_wait(SLEY_SIG(SIGUSR1), SLEY_FOREVER);
    case 8: return sley_signal_wait(SLEY_SIG(SIGUSR1) | SLEY_SIG(SIGUSR2), SLEY_FOREVER);
    case 9: return sley_readv(stage.pipe[0], parts, 2, SLEY_FOREVER);
    case 10: return sley_recvmsg(stage.pair[0], &m, 0, SLEY_FOREVER);
    case 11: return sley_splice(stage.quiet[0], NULL, stage.pipe[1], NULL, 4, 0, SLEY_FOREVER);
    default: return sley_flock(stage.locked[1], LOCK_EX, SLEY_FOREVER);
    }
}

static int waiter(void *arg)
{
    int kind = *(int *)arg;

    stage.running++;
    stage.results[kind] = wait_as(kind);
    return 0;
}

/* Closes what others wait on, after it was cancelled itself. */
static int closer(void *arg)
{
    char buf[4];

    stage.running++;
    while ((stage.yielded = sley_yield()) == 0)
        ;
    stage.later = sley_recv(stage.closing[0], buf, sizeof buf, 0, SLEY_FOREVER); /* would wait */
    stage.closed = sley_close(stage.closing[0]);
    return 0;
}

static void open_stage(void)
{
    char name[] = "/tmp/sley-test-locked-XXXXXX";
    int small = 4096;

    memset(&stage, 0, sizeof stage);
    make_pair(stage.pair, SOCK_STREAM);
    make_pair(stage.quiet, SOCK_STREAM);
    make_pair(stage.closing, SOCK_STREAM);
    make_pair(stage.full, SOCK_STREAM);
    setsockopt(stage.full[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    while (send(stage.full[0], filler, sizeof filler, MSG_DONTWAIT) > 0)
        ;
    assert_int_equal(pipe2(stage.pipe, O_CLOEXEC), 0);
    stage.listener = sley_net_listen("127.0.0.1:0", NULL);
    assert_true(stage.listener >= 0);
    stage.locked[0] = mkostemp(name, O_CLOEXEC);
    stage.locked[1] = open(name, O_RDWR | O_CLOEXEC);
    assert_true(stage.locked[0] >= 0 && stage.locked[1] >= 0 && unlink(name) == 0 && flock(stage.locked[0], LOCK_EX) == 0);
}

static void close_stage(int with_closing)
{
    int fds[] = { stage.pair[0], stage.pair[1], stage.quiet[0], stage.quiet[1], stage.full[0], stage.full[1], stage.pipe[0], stage.pipe[1],
                  stage.listener, stage.closing[1], stage.locked[0], stage.locked[1] };

    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        assert_int_equal(sley_close(fds[i]), 0);
    if (with_closing)
        assert_int_equal(sley_close(stage.closing[0]), 0);
    sley_signal_release(SLEY_SIG(SIGUSR1) | SLEY_SIG(SIGUSR2));
}

static void stopping_a_runtime_ends_every_wait(void **state)
{
    sley_runtime *rt;
    int kinds[KINDS], before = count_descriptors();

    open_stage();
    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    for (int i = 0; i < KINDS; i++) {
        kinds[i] = i;
        assert_int_equal(sley_runtime_submit(rt, waiter, &kinds[i]), 0);
    }
    assert_int_equal(sley_runtime_submit(rt, closer, NULL), 0);
    while (stage.running < KINDS + 1)
        sched_yield();
    assert_int_equal(sley_runtime_stop(rt, SLEY_NOW), 0);
    for (int i = 0; i < KINDS; i++)
        assert_int_equal(stage.results[i], -ECANCELED);
    assert_int_equal(stage.yielded, -ECANCELED);
    assert_int_equal(stage.later, -ECANCELED);
    assert_int_equal(stage.closed, 0);
    assert_int_equal(recv(stage.closing[1], filler, 1, MSG_DONTWAIT), 0);
    sley_runtime_destroy(rt);
    close_stage(0);
    assert_int_equal(count_descriptors(), before);
}

/* A fiber that never waits, because its data is always there, hears of the cancel all the same. */
static int busy_reader(void *arg)
{
    char zero[8];
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC), n;

    stage.running++;
    while ((n = sley_read(fd, zero, sizeof zero, SLEY_FOREVER)) > 0)
        ;
    stage.results[0] = n;
    return sley_close(fd);
}

static void a_cancel_reaches_calls_that_never_wait(void **state)
{
    sley_runtime *rt;

    memset(&stage, 0, sizeof stage);
    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    assert_int_equal(sley_runtime_submit(rt, busy_reader, NULL), 0);
    while (stage.running < 1)
        sched_yield();
    assert_int_equal(sley_runtime_stop(rt, SLEY_NOW), 0);
    assert_int_equal(stage.results[0], -ECANCELED);
    sley_runtime_destroy(rt);
}

/* Two runtimes wait for the same readiness; the poll lies in the ring of the one that goes. */
static void a_runtime_that_goes_leaves_others_waiting(void **state)
{
    sley_runtime *a, *b;
    int kinds[2] = { 4, 5 };

    open_stage();
    assert_int_equal(sley_runtime_create(&a, NULL), 0);
    assert_int_equal(sley_runtime_create(&b, NULL), 0);
    assert_int_equal(sley_runtime_start(a), 0);
    assert_int_equal(sley_runtime_start(b), 0);
    assert_int_equal(sley_runtime_submit(a, waiter, &kinds[0]), 0);
    while (stage.running < 1)
        sched_yield();
    assert_int_equal(sley_fd_wait(stage.quiet[0], POLLIN, sley_after(5 * SLEY_MS)), -ETIMEDOUT);
    assert_int_equal(sley_runtime_submit(b, waiter, &kinds[1]), 0);
    while (stage.running < 2)
        sched_yield();
    assert_int_equal(sley_fd_wait(stage.quiet[0], POLLIN, sley_after(5 * SLEY_MS)), -ETIMEDOUT);
    assert_int_equal(sley_runtime_stop(a, SLEY_NOW), 0);
    sley_runtime_destroy(a);
    assert_int_equal(stage.results[4], -ECANCELED);
    assert_int_equal(send(stage.quiet[1], "x", 1, 0), 1);
    assert_int_equal(sley_runtime_stop(b, SLEY_FOREVER), 0);
    assert_int_equal(stage.results[5], POLLIN);
    sley_runtime_destroy(b);
    close_stage(1);
}

/* Plain threads that attached to a runtime end their waits when it stops. */
static void *attached(void *arg)
{
    int kind = *(int *)arg;

    if (sley_runtime_attach((sley_runtime *)(uintptr_t)stage.word) != 0)
        return NULL;
    stage.running++;
    stage.results[kind] = wait_as(kind);
    sley_runtime_detach();
    return NULL;
}

static void stopping_a_runtime_ends_the_waits_of_attached_threads(void **state)
{
    pthread_t threads[KINDS];
    sley_runtime *rt;
    int kinds[KINDS];

    open_stage();
    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    stage.word = (uintptr_t)rt;
    for (int i = 0; i < KINDS; i++) {
        kinds[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, attached, &kinds[i]), 0);
    }
    while (stage.running < KINDS)
        sched_yield();
    assert_int_equal(sley_runtime_stop(rt, SLEY_NOW), 0);
    for (int i = 0; i < KINDS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < KINDS; i++)
        assert_int_equal(stage.results[i], -ECANCELED);
    sley_runtime_destroy(rt);
    close_stage(1);
}

/* A connect to a full Unix queue goes to and fro in the kernel, between task work and its own workers, before it comes to rest. A cancel
 * that comes meanwhile finds nothing (-ENOENT), and must be asked for again. */
static struct {
    struct sockaddr_un address;
    socklen_t address_bytes;
    uint64_t random;
    _Atomic(int) timed_out, other;
} crowd;

enum { CALLERS = 8, CALLS = 40 };

static int call_in_vain(void *arg)
{
    uint64_t random = *(uint64_t *)arg;

    for (int i = 0; i < CALLS; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int rc = sley_connect(fd, (struct sockaddr *)&crowd.address, crowd.address_bytes, sley_after(below(&random, 300) * SLEY_US));

        if (rc == -ETIMEDOUT)
            crowd.timed_out++;
        else
            crowd.other++;
        sley_close(fd);
    }
    return 0;
}

static int call_a_full_queue(void *arg)
{
    char text[64];
    int listener, there[2];

    (void)arg;
    snprintf(text, sizeof text, "unix:@sley-test-cancel-%d", getpid());
    crowd.address.sun_family = AF_UNIX;
    strcpy(crowd.address.sun_path + 1, text + 6);
    crowd.address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(text) - 5);
    listener = sley_net_listen(text, &(sley_listen_options){ .backlog = 1 });
    for (int i = 0; i < 2; i++) {
        there[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (sley_connect(there[i], (struct sockaddr *)&crowd.address, crowd.address_bytes, SLEY_FOREVER) < 0)
            return -ECONNREFUSED;
    }
    for (int i = 0; i < CALLERS; i++) {
        uint64_t random = crowd.random + (uint64_t)i;

        sley_go_copy(call_in_vain, &random, sizeof random);
    }
    while (crowd.timed_out + crowd.other < CALLERS * CALLS)
        sley_sleep(SLEY_MS);
    return sley_close(there[0]) | sley_close(there[1]) | sley_close(listener);
}

static void an_operation_that_moves_about_in_the_kernel_is_cancelled_all_the_same(void **state)
{
    (void)state;
    crowd.random = test_seed();
    assert_int_equal(sley_run(NULL, call_a_full_queue, NULL), 0);
    assert_int_equal(crowd.timed_out, CALLERS * CALLS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_operation_that_moves_about_in_the_kernel_is_cancelled_all_the_same),
        cmocka_unit_test(stopping_a_runtime_ends_every_wait),
        cmocka_unit_test(a_cancel_reaches_calls_that_never_wait),
        cmocka_unit_test(a_runtime_that_goes_leaves_others_waiting),
        cmocka_unit_test(stopping_a_runtime_ends_the_waits_of_attached_threads),
    };

    return cmocka_run_group_tests_name("io_cancel", tests, NULL, NULL);
}
