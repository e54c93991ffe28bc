/* test_io_wait.c - waiting for readiness. */
#include "io_scenario.h"

SCENARIO(fd_wait_tells_what_is_ready)
{
    int sv[2];
    char c;

    make_pair(sv, SOCK_STREAM);
    EXPECT(sley_fd_wait(sv[0], POLLIN, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_fd_wait(sv[0], POLLIN, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_fd_wait(sv[0], POLLIN | POLLOUT, SLEY_FOREVER) == POLLOUT);
    EXPECT(send(sv[1], "x", 1, 0) == 1);
    EXPECT(sley_fd_wait(sv[0], POLLIN, SLEY_FOREVER) == POLLIN);
    EXPECT(sley_fd_wait(sv[0], POLLIN, SLEY_NOW) == POLLIN);
    EXPECT(recv(sv[0], &c, 1, 0) == 1 && shutdown(sv[1], SHUT_RDWR) == 0);
    EXPECT(sley_fd_wait(sv[0], 0, SLEY_FOREVER) == POLLHUP);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(fd_wait_wakes_everybody_whose_events_came)
{
    enum { READERS = 40 };
    static struct io_call reader[READERS];
    static unsigned char bytes[1 << 16];
    struct io_call writer = { .call = call_fd_wait, .flags = POLLOUT };
    int sv[2];

    make_pair(sv, SOCK_STREAM);
    while (send(sv[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        ;
    for (int i = 0; i < READERS; i++) {
        reader[i] = (struct io_call){ .call = call_fd_wait, .fd = sv[0], .flags = POLLIN };
        io_call_start(&reader[i]);
        if (i == READERS / 2) {
            writer.fd = sv[0];
            io_call_start(&writer);
        }
    }
    EXPECT(send(sv[1], "x", 1, 0) == 1);
    for (int i = 0; i < READERS; i++)
        EXPECT(io_call_result(&reader[i]) == POLLIN);
    EXPECT(io_call_waits(&writer));
    while (recv(sv[1], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        ;
    EXPECT(io_call_result(&writer) == POLLOUT);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(fd_wait_that_gave_up_leaves_others_waiting)
{
    struct io_call patient = { .call = call_fd_wait, .flags = POLLIN };
    int sv[2];

    make_pair(sv, SOCK_STREAM);
    patient.fd = sv[0];
    EXPECT(sley_fd_wait(sv[0], POLLIN, sley_after(SLEY_MS)) == -ETIMEDOUT);
    io_call_start(&patient);
    for (int i = 0; i < 20; i++)
        EXPECT(sley_fd_wait(sv[0], i % 2 ? POLLIN : POLLIN | POLLPRI, sley_after(200 * SLEY_US)) == -ETIMEDOUT);
    EXPECT(send(sv[1], "x", 1, 0) == 1);
    EXPECT(io_call_result(&patient) == POLLIN);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(fd_wait_again_and_again)
{
    struct io_call c = { .call = call_fd_wait, .flags = POLLIN };
    int sv[2];
    char byte;

    make_tcp_pair(sv);
    c.fd = sv[0];
    for (int i = 0; i < 200; i++) {
        io_call_start(&c);
        EXPECT(send(sv[1], "x", 1, 0) == 1);
        EXPECT(io_call_result(&c) == POLLIN && sley_recv(sv[0], &byte, 1, 0, SLEY_NOW) == 1);
    }
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(fd_wait_on_what_is_no_descriptor)
{
    int fd = dup(0), file = make_file("file", "x", 1);

    EXPECT(close(fd) == 0);
    EXPECT(sley_fd_wait(fd, POLLIN, SLEY_FOREVER) == -EBADF && sley_fd_wait(fd, POLLIN, SLEY_NOW) == -EBADF);
    EXPECT(sley_fd_wait(-1, POLLIN, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_fd_wait(file, POLLIN, SLEY_FOREVER) == POLLIN);
    EXPECT(sley_fd_wait(file, 1 << 20, SLEY_FOREVER) == -EINVAL && sley_fd_wait(file, POLLIN, SLEY_S) == -EINVAL);
    EXPECT(sley_close(file) == 0);
}

/* Each takes the other's poll away, because it wants something that the other's does not report. Not POLLIN and POLLPRI of a TCP socket: a
 * poll(2) that looks while urgent data comes may take it for ordinary data (the kernel reads the two positions one after the other). */
SCENARIO(fd_waits_for_different_events_take_turns)
{
    struct io_call first = { .call = call_fd_wait, .flags = POLLIN }, second = { .call = call_fd_wait, .flags = POLLOUT };
    static char bytes[1 << 16];
    int sv[2], before = count_descriptors();

    make_pair(sv, SOCK_STREAM);
    first.fd = second.fd = sv[0];
    for (int i = 0; i < 50; i++) {
        while (send(sv[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
            ;
        io_call_start(i % 2 ? &first : &second);
        io_call_start(i % 2 ? &second : &first);
        while (recv(sv[1], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
            ;
        EXPECT(io_call_result(&second) == POLLOUT);
        EXPECT(io_call_waits(&first) && send(sv[1], "x", 1, 0) == 1);
        EXPECT(io_call_result(&first) & POLLIN);
        EXPECT(recv(sv[0], bytes, 1, 0) == 1);
    }
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0 && count_descriptors() == before);
}

/* Urgent data is an event of its own. */
SCENARIO(fd_wait_tells_of_urgent_data)
{
    struct io_call c = { .call = call_fd_wait, .flags = POLLPRI };
    int sv[2];
    char byte;

    make_tcp_pair(sv);
    c.fd = sv[0];
    for (int i = 0; i < 20; i++) {
        io_call_start(&c);
        EXPECT(send(sv[1], "u", 1, MSG_OOB) == 1);
        EXPECT(io_call_result(&c) == POLLPRI && recv(sv[0], &byte, 1, MSG_OOB) == 1 && byte == 'u');
        EXPECT(send(sv[1], "x", 1, 0) == 1);
        EXPECT(sley_read(sv[0], &byte, 1, SLEY_FOREVER) == 1 && byte == 'x');
    }
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

/* Two runtimes: one closes a descriptor whose poll lies in the other's ring, just as that one goes. */
static int wait_in_vain(void *arg)
{
    EXPECT(sley_fd_wait(*(int *)arg, POLLIN, sley_after(SLEY_MS)) < 0); /* timed out, closed, or cancelled */
    return 0;
}

static int close_it(void *arg)
{
    EXPECT(sley_close(*(int *)arg) == 0);
    return 0;
}

static void a_poll_is_ended_while_its_runtime_goes(void **state)
{
    sley_runtime *a, *b;
    int sv[2];
    char byte;

    scene.unmet = NULL;
    assert_int_equal(sley_runtime_create(&b, NULL), 0);
    assert_int_equal(sley_runtime_start(b), 0);
    for (int i = 0; i < 30; i++) {
        make_pair(sv, SOCK_STREAM);
        assert_int_equal(sley_runtime_create(&a, NULL), 0);
        assert_int_equal(sley_runtime_start(a), 0);
        assert_int_equal(sley_runtime_submit(a, wait_in_vain, &sv[0]), 0);
        if (i % 3 == 0)
            assert_int_equal(sley_runtime_stop(a, SLEY_FOREVER), 0);
        else
            assert_int_equal(sley_fd_wait(sv[0], POLLIN, sley_after(2 * SLEY_MS)), -ETIMEDOUT);
        assert_int_equal(sley_runtime_submit(b, close_it, &sv[0]), 0);
        sley_runtime_destroy(a);
        assert_int_equal(sley_recv(sv[1], &byte, 1, 0, SLEY_FOREVER), 0);
        assert_int_equal(sley_close(sv[1]), 0);
    }
    assert_int_equal(sley_runtime_stop(b, SLEY_FOREVER), 0);
    sley_runtime_destroy(b);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

/* A thread that belongs to a runtime and never waits, because what it asks for is always there, hears of the stop all the same. */
static struct {
    sley_runtime *rt;
    _Atomic(int) calls;
    int result;
} busy;

static void *never_wait(void *arg)
{
    int file = *(int *)arg;

    if (sley_runtime_attach(busy.rt) != 0)
        return NULL;
    while ((busy.result = sley_fd_wait(file, POLLIN, busy.calls % 3 ? SLEY_FOREVER : SLEY_NOW)) == POLLIN)
        busy.calls++;
    sley_runtime_detach();
    return NULL;
}

static void stopping_a_runtime_reaches_threads_that_never_wait(void **state)
{
    pthread_t thread;
    int file = make_file("busy", "x", 1);

    busy.calls = 0;
    assert_int_equal(sley_runtime_create(&busy.rt, NULL), 0);
    assert_int_equal(sley_runtime_start(busy.rt), 0);
    assert_int_equal(pthread_create(&thread, NULL, never_wait, &file), 0);
    while (busy.calls == 0)
        sched_yield();
    assert_int_equal(sley_runtime_stop(busy.rt, SLEY_NOW), 0);
    pthread_join(thread, NULL);
    assert_int_equal(busy.result, -ECANCELED);
    sley_runtime_destroy(busy.rt);
    assert_int_equal(sley_close(file), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(fd_wait_tells_what_is_ready),
        PLAYED(fd_wait_wakes_everybody_whose_events_came),
        PLAYED(fd_wait_that_gave_up_leaves_others_waiting),
        PLAYED(fd_wait_again_and_again),
        PLAYED(fd_wait_on_what_is_no_descriptor),
        PLAYED(fd_waits_for_different_events_take_turns),
        PLAYED(fd_wait_tells_of_urgent_data),
        cmocka_unit_test(a_poll_is_ended_while_its_runtime_goes),
        cmocka_unit_test(stopping_a_runtime_reaches_threads_that_never_wait),
    };

    return cmocka_run_group_tests_name("io_wait", tests, make_temp_dir, remove_temp_dir);
}
