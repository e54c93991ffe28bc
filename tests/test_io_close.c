/* test_io_close.c - closing a descriptor under calls: they end with -EBADF, the peer sees the end, the number is free. */
#include "io_scenario.h"

/* Close c->fd under the waiting call. */
static void close_under(struct io_call *c)
{
    EXPECT(sley_close(c->fd) == 0);
    EXPECT(fcntl(c->fd, F_GETFD) < 0);
    EXPECT(io_call_result(c) == -EBADF);
}

/* The other end is told at once: close has waited for everything that held the file. */
static int sees_the_end(int fd)
{
    char c;
    return recv(fd, &c, 1, MSG_DONTWAIT) == 0;
}

SCENARIO(close_ends_a_receive)
{
    char buf[4];
    int sv[2];
    struct io_call c = { .call = call_recv, .buf = buf, .bytes = sizeof buf };

    make_tcp_pair(sv);
    c.fd = sv[0];
    io_call_start(&c);
    close_under(&c);
    EXPECT(sees_the_end(sv[1]) && sley_close(sv[1]) == 0);
}

SCENARIO(close_ends_calls_of_every_kind)
{
    static unsigned char big[1 << 22];
    char buf[4];
    int sv[2], p[2], listener = sley_net_listen("127.0.0.1:0", NULL);
    struct io_call accepts = { .call = call_accept, .fd = listener };
    struct io_call reads = { .call = call_read, .buf = buf, .bytes = sizeof buf };
    struct io_call sends = { .call = call_send_all, .buf = big, .bytes = sizeof big };
    struct io_call waits = { .call = call_fd_wait, .flags = POLLIN };

    io_call_start(&accepts);
    close_under(&accepts);

    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    reads.fd = p[0];
    io_call_start(&reads);
    close_under(&reads);
    EXPECT(sley_close(p[1]) == 0);

    make_pair(sv, SOCK_STREAM);
    sends.fd = sv[0];
    io_call_start(&sends);
    close_under(&sends);

    waits.fd = sv[1];
    while (recv(sv[1], big, sizeof big, MSG_DONTWAIT) > 0)
        ;
    EXPECT(sees_the_end(sv[1]) && sley_close(sv[1]) == 0);
    make_pair(sv, SOCK_STREAM);
    waits.fd = sv[0];
    io_call_start(&waits);
    close_under(&waits);
    EXPECT(sees_the_end(sv[1]) && sley_close(sv[1]) == 0);
}

enum { MANY = 50 }; /* more than are cut off under one hold of the lock */

SCENARIO(close_ends_many_calls)
{
    static struct io_call receives[MANY], waits[MANY];
    static char bytes[MANY];
    int sv[2];

    make_pair(sv, SOCK_STREAM);
    for (int i = 0; i < MANY; i++) {
        receives[i] = (struct io_call){ .call = call_recv, .fd = sv[0], .buf = &bytes[i], .bytes = 1 };
        waits[i] = (struct io_call){ .call = call_fd_wait, .fd = sv[0], .flags = POLLIN };
        io_call_start(&receives[i]);
        io_call_start(&waits[i]);
    }
    EXPECT(sley_close(sv[0]) == 0 && sees_the_end(sv[1]));
    for (int i = 0; i < MANY; i++)
        EXPECT(io_call_result(&receives[i]) == -EBADF && io_call_result(&waits[i]) == -EBADF);
    EXPECT(sley_close(sv[1]) == 0);
}

SCENARIO(what_was_received_before_a_close_is_not_lost)
{
    char buf[4];
    int sv[2];
    struct io_call c = { .call = call_recv, .buf = buf, .bytes = sizeof buf };

    for (int i = 0; i < 200; i++) {
        int n;

        make_pair(sv, SOCK_STREAM);
        c.fd = sv[0];
        io_call_start(&c);
        EXPECT(send(sv[1], "x", 1, 0) == 1);
        EXPECT(sley_close(sv[0]) == 0);
        n = io_call_result(&c);
        EXPECT((n == 1 && buf[0] == 'x') || n == -EBADF);
        EXPECT(sley_close(sv[1]) == 0);
    }
}

SCENARIO(a_closed_number_comes_back_clean)
{
    char buf[4];
    int sv[2], again[2];
    struct io_call c = { .call = call_recv, .buf = buf, .bytes = sizeof buf };

    make_pair(sv, SOCK_STREAM);
    c.fd = sv[0];
    io_call_start(&c);
    close_under(&c);
    EXPECT(sley_close(sv[1]) == 0);
    make_pair(again, SOCK_STREAM);
    EXPECT(again[0] == sv[0] || again[1] == sv[0] || again[0] == sv[1]);
    c.fd = again[0];
    io_call_start(&c);
    EXPECT(sley_send(again[1], "ab", 2, 0, SLEY_FOREVER) == 2);
    EXPECT(io_call_result(&c) == 2);
    EXPECT(sley_close(again[0]) == 0 && sley_close(again[1]) == 0);
}

SCENARIO(only_one_of_many_closers_closes)
{
    static struct io_call c[8];
    int sv[2], closed = 0;

    for (int round = 0; round < 50; round++) {
        make_pair(sv, SOCK_STREAM);
        for (int i = 0; i < 8; i++) {
            c[i] = (struct io_call){ .call = call_close, .fd = sv[0] };
            actor_start(&c[i].actor, io_call_main, &c[i]);
        }
        for (int i = 0; i < 8; i++) {
            int rc = io_call_result(&c[i]);

            EXPECT(rc == 0 || rc == -EBADF);
            closed += rc == 0;
        }
        EXPECT(closed == round + 1 && sees_the_end(sv[1]));
        EXPECT(sley_close(sv[1]) == 0);
    }
}

SCENARIO(closing_what_is_not_open_is_ebadf)
{
    int fd = dup(0);

    EXPECT(sley_close(fd) == 0 && sley_close(fd) == -EBADF && sley_close(-1) == -EBADF && sley_close(INT_MAX) == -EBADF);
}

/* The poll of a wait that was given up stays armed; closing takes it along. */
SCENARIO(close_takes_an_armed_poll_along)
{
    int sv[2];

    make_tcp_pair(sv);
    EXPECT(sley_fd_wait(sv[0], POLLIN, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_close(sv[0]) == 0 && sees_the_end(sv[1]) && sley_close(sv[1]) == 0);
}

/* A scope that is cancelled ends the calls in it, but neither closing, nor what closing waits for, nor what a shield covers. */
static struct {
    int call[2], poll[2], quiet[2];
    _Atomic(int) waits;
    int results[4];
} doomed;

static int receive_shielded(void *arg)
{
    char byte;

    sley_shield_begin();
    doomed.waits++;
    doomed.results[0] = sley_recv(doomed.call[0], &byte, 1, 0, SLEY_FOREVER);
    sley_shield_end();
    return 0;
}

static int wait_shielded(void *arg)
{
    sley_shield_begin();
    doomed.waits++;
    doomed.results[1] = sley_fd_wait(doomed.poll[0], POLLIN, SLEY_FOREVER);
    sley_shield_end();
    return 0;
}

static int close_cancelled(void *arg)
{
    char byte;

    doomed.waits++;
    while (sley_yield() == 0)
        ;
    doomed.results[2] = sley_recv(doomed.quiet[0], &byte, 1, 0, SLEY_FOREVER);
    EXPECT(sley_close(doomed.call[0]) == 0 && sees_the_end(doomed.call[1]));
    EXPECT(sley_close(doomed.poll[0]) == 0 && sees_the_end(doomed.poll[1]));
    doomed.results[3] = sley_recv(doomed.quiet[0], &byte, 1, 0, SLEY_FOREVER);
    return doomed.results[3];
}

static int close_in_a_scope(void *arg)
{
    sley_scope s;

    make_tcp_pair(doomed.call);
    make_tcp_pair(doomed.poll);
    make_pair(doomed.quiet, SOCK_STREAM);
    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_scope_go(&s, receive_shielded, NULL) == 0 && sley_scope_go(&s, wait_shielded, NULL) == 0);
    EXPECT(sley_scope_go(&s, close_cancelled, NULL) == 0);
    while (doomed.waits < 3)
        sley_yield();
    sley_scope_cancel(&s);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(doomed.results[0] == -EBADF && doomed.results[1] == -EBADF);
    EXPECT(doomed.results[2] == -ECANCELED && doomed.results[3] == -ECANCELED);
    EXPECT(sley_close(doomed.call[1]) == 0 && sley_close(doomed.poll[1]) == 0);
    EXPECT(sley_close(doomed.quiet[0]) == 0 && sley_close(doomed.quiet[1]) == 0);
    return 0;
}

static void close_in_a_cancelled_scope_closes_and_waits(void **state)
{
    int before = count_descriptors();

    for (int i = 0; i < 20; i++) {
        memset(&doomed, 0, sizeof doomed);
        scene.unmet = NULL;
        assert_int_equal(sley_run(NULL, close_in_a_scope, NULL), 0);
        if (scene.unmet != NULL)
            fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
    }
    assert_int_equal(count_descriptors(), before);
}

/* A socket that lingers until its peer has read all. */
static struct {
    int ends[2];
    _Atomic int closed; /* 1 + the result */
} lingering;

static int close_lingering(void *arg)
{
    (void)arg;
    lingering.closed = 1 + sley_close(lingering.ends[0]);
    return 0;
}

static int let_one_linger(void *arg)
{
    static char big[1 << 20];
    struct linger for_long = { .l_onoff = 1, .l_linger = 3600 };
    sley_scope s;
    int n;

    (void)arg;
    make_tcp_pair(lingering.ends);
    while (sley_send(lingering.ends[0], big, sizeof big, 0, SLEY_NOW) > 0)
        ;
    EXPECT(setsockopt(lingering.ends[0], SOL_SOCKET, SO_LINGER, &for_long, sizeof for_long) == 0);
    sley_scope_init(&s, SLEY_FOREVER);
    sley_go(close_lingering, NULL);
    while (fcntl(lingering.ends[0], F_GETFD) >= 0) /* it runs, and so does this fiber, be there but one worker */
        EXPECT(sley_yield() == 0);
    EXPECT(lingering.closed == 0);
    while ((n = sley_recv(lingering.ends[1], big, sizeof big, 0, SLEY_FOREVER)) > 0)
        ;
    EXPECT(n == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && lingering.closed == 1);
    EXPECT(sley_close(lingering.ends[1]) == 0);
    return 0;
}

static void a_close_that_lingers_holds_up_nobody(void **state)
{
    int before = count_descriptors();

    for (int i = 0; i < 20; i++) {
        lingering.closed = 0;
        scene.unmet = NULL;
        assert_int_equal(sley_run(NULL, let_one_linger, NULL), 0);
        if (scene.unmet != NULL)
            fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
    }
    assert_int_equal(count_descriptors(), before);
}

SCENARIO(descriptors_are_all_given_back)
{
    int before = count_descriptors();

    close_ends_calls_of_every_kind_body();
    close_ends_many_calls_body();
    EXPECT(count_descriptors() == before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(close_ends_a_receive),
        PLAYED(close_ends_calls_of_every_kind),
        PLAYED(close_ends_many_calls),
        PLAYED(what_was_received_before_a_close_is_not_lost),
        PLAYED(a_closed_number_comes_back_clean),
        PLAYED(only_one_of_many_closers_closes),
        PLAYED(closing_what_is_not_open_is_ebadf),
        PLAYED(close_takes_an_armed_poll_along),
        cmocka_unit_test(close_in_a_cancelled_scope_closes_and_waits),
        cmocka_unit_test(a_close_that_lingers_holds_up_nobody),
        PLAYED(descriptors_are_all_given_back),
    };

    return cmocka_run_group_tests_name("io_close", tests, NULL, NULL);
}
