/* test_chan_fd.c - the descriptor of a channel: readable while a receive would not wait, and never silent while there is something. */
#include "scenario.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>

static int is_readable(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    int n = poll(&p, 1, 0);

    EXPECT(n >= 0 && (n == 0 || p.revents == POLLIN));
    return n;
}

static int send_now(sley_chan *ch, long v) { return sley_chan_send(ch, &v, SLEY_NOW); }

static long recv_now(sley_chan *ch) /* the message, or an error, or 0: the end */
{
    long v = -1;
    int rc = sley_chan_recv(ch, &v, SLEY_NOW);

    return rc > 0 ? v : rc;
}

enum kind { UNBUFFERED, BUFFERED, ONE_TO_ONE, KINDS };

static sley_chan *chan_of(enum kind kind)
{
    sley_chan *ch = kind == ONE_TO_ONE ? sley_chan_create_spsc(sizeof(long), 3) : sley_chan_create(sizeof(long), kind == BUFFERED ? 3 : 0);

    EXPECT(ch != NULL);
    return ch;
}

struct call {
    struct actor actor;
    sley_chan *ch;
    sley_time deadline;
    long msg;
};

static int do_send(void *arg)
{
    struct call *c = arg;
    return sley_chan_send(c->ch, &c->msg, c->deadline);
}

static int do_recv(void *arg)
{
    struct call *c = arg;
    return sley_chan_recv(c->ch, &c->msg, c->deadline);
}

static void waiting(struct call *c, sley_fn *fn, sley_chan *ch)
{
    c->ch = ch;
    c->deadline = SLEY_FOREVER;
    actor_start(&c->actor, fn, c);
    actor_waits(&c->actor);
}

static int result(struct call *c) { return actor_result(&c->actor); }

/* --- one after the other ------------------------------------------------------------------------------------------------------ */

SCENARIO(fd_follows_the_messages)
{
    for (enum kind kind = BUFFERED; kind < KINDS; kind++) {
        sley_chan *ch = chan_of(kind);
        long v[3] = { 1, 2, 3 };
        int fd = sley_chan_fd(ch);

        EXPECT(fd >= 0 && !is_readable(fd));
        for (int round = 0; round < 3; round++) {
            EXPECT(send_now(ch, 1) == 0 && is_readable(fd));
            EXPECT(send_now(ch, 2) == 0 && is_readable(fd));
            EXPECT(recv_now(ch) == 1 && is_readable(fd));
            EXPECT(recv_now(ch) == 2 && !is_readable(fd));
            EXPECT(recv_now(ch) == -ETIMEDOUT && !is_readable(fd));
            EXPECT(sley_chan_send_n(ch, v, 3, SLEY_NOW) == 3 && is_readable(fd));
            EXPECT(send_now(ch, 4) == -ETIMEDOUT && is_readable(fd));
            EXPECT(sley_chan_recv_n(ch, v, 3, SLEY_NOW) == 3 && !is_readable(fd));
        }
        sley_chan_destroy(ch);
    }
}

SCENARIO(fd_of_a_channel_that_holds_messages_is_readable)
{
    for (enum kind kind = BUFFERED; kind < KINDS; kind++) {
        sley_chan *ch = chan_of(kind);
        int fd;

        EXPECT(send_now(ch, 1) == 0);
        fd = sley_chan_fd(ch);
        EXPECT(is_readable(fd) && recv_now(ch) == 1 && !is_readable(fd));
        sley_chan_destroy(ch);
    }
}

SCENARIO(fd_is_the_same_each_time_and_the_channels_own)
{
    sley_chan *ch = chan_of(BUFFERED);
    int fd = sley_chan_fd(ch);

    EXPECT(fd >= 0 && sley_chan_fd(ch) == fd);
    EXPECT(fcntl(fd, F_GETFD) == FD_CLOEXEC && (fcntl(fd, F_GETFL) & O_NONBLOCK));
    sley_chan_ref(ch);
    sley_chan_destroy(ch);
    EXPECT(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    sley_chan_destroy(ch);
    EXPECT(fcntl(fd, F_GETFD) < 0);
}

SCENARIO(fd_of_a_closed_channel_stays_readable)
{
    for (enum kind kind = UNBUFFERED; kind < KINDS; kind++) {
        sley_chan *ch = chan_of(kind), *later = chan_of(kind);
        int fd = sley_chan_fd(ch);

        EXPECT(!is_readable(fd));
        sley_chan_close(ch);
        EXPECT(is_readable(fd) && recv_now(ch) == 0 && is_readable(fd));
        sley_chan_close(later);
        fd = sley_chan_fd(later);
        EXPECT(is_readable(fd) && recv_now(later) == 0 && is_readable(fd));
        sley_chan_destroy(ch);
        sley_chan_destroy(later);
    }
}

SCENARIO(fd_says_that_a_sender_waits)
{
    for (int late = 0; late < 2; late++) { /* the descriptor before the sender, or after */
        sley_chan *ch = chan_of(UNBUFFERED);
        struct call c[2] = { { .msg = 5 }, { .msg = 6 } };
        int fd = late ? -1 : sley_chan_fd(ch);

        EXPECT(late || (!is_readable(fd) && send_now(ch, 1) == -ETIMEDOUT && !is_readable(fd)));
        waiting(&c[0], do_send, ch);
        waiting(&c[1], do_send, ch);
        fd = sley_chan_fd(ch);
        EXPECT(is_readable(fd) && recv_now(ch) == 5 && is_readable(fd) && recv_now(ch) == 6 && !is_readable(fd));
        EXPECT(result(&c[0]) == 0 && result(&c[1]) == 0);
        sley_chan_destroy(ch);
    }
}

SCENARIO(fd_falls_silent_when_the_sender_gives_up)
{
    for (int late = 0; late < 2; late++) {
        sley_chan *ch = chan_of(UNBUFFERED);
        struct call c = { .ch = ch, .msg = 5, .deadline = sley_after(2 * SLEY_MS) };
        int fd = late ? -1 : sley_chan_fd(ch);

        actor_start(&c.actor, do_send, &c);
        if (late)
            actor_waits_or_ended(&c.actor);
        fd = sley_chan_fd(ch);
        EXPECT(result(&c) == -ETIMEDOUT && !is_readable(fd));
        sley_chan_destroy(ch);
    }
}

SCENARIO(fd_is_silent_when_a_receiver_gets_the_message)
{
    for (enum kind kind = UNBUFFERED; kind < KINDS; kind++) {
        sley_chan *ch = chan_of(kind);
        struct call c = { .msg = 0 };
        int fd = sley_chan_fd(ch);

        waiting(&c, do_recv, ch);
        EXPECT(!is_readable(fd));
        EXPECT(send_now(ch, 9) == 0);
        EXPECT(result(&c) == 1 && c.msg == 9 && !is_readable(fd));
        sley_chan_destroy(ch);
    }
}

SCENARIO(fd_of_a_full_channel_with_a_sender_behind_it)
{
    for (enum kind kind = BUFFERED; kind < KINDS; kind++) {
        sley_chan *ch = chan_of(kind);
        struct call c = { .msg = 4 };
        int fd = sley_chan_fd(ch);

        EXPECT(send_now(ch, 1) == 0 && send_now(ch, 2) == 0 && send_now(ch, 3) == 0);
        waiting(&c, do_send, ch);
        EXPECT(is_readable(fd) && recv_now(ch) == 1);
        EXPECT(result(&c) == 0);
        EXPECT(recv_now(ch) == 2 && recv_now(ch) == 3 && is_readable(fd) && recv_now(ch) == 4 && !is_readable(fd));
        sley_chan_destroy(ch);
    }
}

SCENARIO(fd_of_a_subscription_follows_the_broadcast)
{
    sley_bcast *b = sley_bcast_create(sizeof(long), 2);
    sley_chan *ch = sley_bcast_subscribe(b);
    long v = 7;
    int fd = sley_chan_fd(ch);

    EXPECT(!is_readable(fd) && sley_bcast_send(b, &v, SLEY_NOW) == 0 && is_readable(fd));
    EXPECT(sley_bcast_send(b, &v, SLEY_NOW) == 0 && sley_bcast_send(b, &v, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(recv_now(ch) == 7 && is_readable(fd) && recv_now(ch) == 7 && !is_readable(fd));
    sley_bcast_destroy(b);
    EXPECT(is_readable(fd) && recv_now(ch) == 0);
    sley_chan_destroy(ch);
}

static void fd_of_null_is_einval(void **state)
{
    (void)state;
    assert_int_equal(sley_chan_fd(NULL), -EINVAL);
}

static void fd_that_cannot_be_made_is_the_kernels_answer(void **state)
{
    sley_chan *ch = sley_chan_create(sizeof(long), 3);
    struct rlimit before, none;
    int fd;

    (void)state;
    scene.unmet = NULL;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    fd = sley_chan_fd(ch);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(fd, -EMFILE);
    assert_int_equal(send_now(ch, 3), 0);
    fd = sley_chan_fd(ch);
    assert_true(fd >= 0 && is_readable(fd));
    assert_int_equal(recv_now(ch), 3);
    assert_null(scene.unmet);
    sley_chan_destroy(ch);
}

static void fd_falls_silent_when_the_sender_is_cancelled(void **state)
{
    (void)state;
    scene.unmet = NULL;
    for (int on_thread = 0; on_thread <= 1; on_thread++) {
        sley_chan *ch = sley_chan_create(sizeof(long), 0);
        struct call c = { .ch = ch, .deadline = SLEY_FOREVER, .msg = 1 };
        int fd = sley_chan_fd(ch);

        assert_int_equal(result_of_stopped(on_thread, do_send, &c), -ECANCELED);
        assert_false(is_readable(fd));
        assert_int_equal(recv_now(ch), -ETIMEDOUT);
        sley_chan_destroy(ch);
    }
    assert_null(scene.unmet);
}

/* --- all at once -------------------------------------------------------------------------------------------------------------- */

/* A loop that is not the library's, on the main thread: it waits in poll for as long as it takes, and receives only what it need not wait
 * for. A message without a sign would leave it there. */

enum { SENDERS = 3, EACH = 2000 };

struct source {
    struct actor actor;
    sley_chan *ch;
    sley_bcast *b;
    uint64_t random;
    _Atomic(int) *left;
};

static int send_all(void *arg)
{
    struct source *s = arg;
    int rc = 0;

    for (long i = 0; i < EACH && rc == 0; i++) {
        sley_time deadline = below(&s->random, 4) ? SLEY_FOREVER : sley_after(below(&s->random, 20) * SLEY_US);

        do
            rc = s->b != NULL ? sley_bcast_send(s->b, &i, deadline) : sley_chan_send(s->ch, &i, deadline);
        while (rc == -ETIMEDOUT);
    }
    if (--*s->left == 0) {
        if (s->b != NULL)
            sley_bcast_destroy(s->b);
        else
            sley_chan_close(s->ch);
    }
    return rc;
}

static void foreign_loop(enum cast cast, sley_chan *ch, sley_bcast *b, int senders, uint64_t seed)
{
    struct source s[SENDERS];
    _Atomic(int) left = senders;
    struct pollfd p = { .fd = sley_chan_fd(ch), .events = POLLIN };
    sley_runtime *rt = NULL;
    long came = 0, v;
    int rc = -1;

    assert_true(p.fd >= 0);
    if (cast != THREADS) {
        assert_int_equal(sley_runtime_create(&rt, NULL), 0);
        assert_int_equal(sley_runtime_start(rt), 0);
    }
    for (int i = 0; i < senders; i++) {
        s[i] = (struct source){ .ch = ch, .b = b, .random = mix(seed + i), .left = &left };
        s[i].actor.fn = send_all;
        s[i].actor.arg = &s[i];
        if (cast == THREADS || (cast == FIBER_AND_THREADS && i % 2))
            actor_start_as(&s[i].actor, 1, send_all, &s[i]);
        else
            assert_int_equal(sley_runtime_submit(rt, actor_main, &s[i].actor), 0);
    }
    while (rc != 0) {
        assert_int_equal(poll(&p, 1, -1), 1);
        while ((rc = sley_chan_recv(ch, &v, SLEY_NOW)) > 0)
            came++;
        assert_true(rc == 0 || rc == -ETIMEDOUT);
    }
    for (int i = 0; i < senders; i++)
        assert_int_equal(actor_result(&s[i].actor), 0);
    assert_int_equal(came, senders * EACH);
    if (rt != NULL) {
        sley_runtime_stop(rt, SLEY_FOREVER);
        sley_runtime_destroy(rt);
    }
    sley_chan_destroy(ch);
}

static void fd_wakes_a_loop_that_is_not_the_librarys(void **state)
{
    enum cast cast = *(enum cast *)*state;
    uint64_t seed = test_seed();

    scene.cast = cast;
    scene.unmet = NULL;
    for (enum kind kind = UNBUFFERED; kind < KINDS; kind++)
        foreign_loop(cast, chan_of(kind), NULL, kind == ONE_TO_ONE ? 1 : SENDERS, seed + kind);
    for (int i = 0; i < 2; i++) {
        sley_bcast *b = sley_bcast_create(sizeof(long), 1 + 9 * i);

        foreign_loop(cast, sley_bcast_subscribe(b), b, SENDERS, seed + KINDS + i);
    }
    assert_null(scene.unmet);
}

/* The receiver of the last message frees channel and descriptor while the sender is still about to look at them. */
SCENARIO(fd_channel_may_be_freed_by_who_got_the_last_message)
{
    for (int round = 0; round < 200; round++) {
        struct call c = { .ch = chan_of(round % KINDS), .deadline = SLEY_FOREVER, .msg = round };
        long v = -1;

        EXPECT(sley_chan_fd(c.ch) >= 0);
        actor_start(&c.actor, do_send, &c);
        EXPECT(sley_chan_recv(c.ch, &v, SLEY_FOREVER) == 1 && v == round);
        sley_chan_destroy(c.ch);
        EXPECT(result(&c) == 0);
    }
}

static int do_close(void *arg)
{
    sley_chan_close(arg);
    return 0;
}

SCENARIO(fd_channel_may_be_freed_by_who_saw_its_end)
{
    for (int round = 0; round < 200; round++) {
        sley_chan *ch = chan_of(round % KINDS);
        struct actor closer;
        long v;

        EXPECT(sley_chan_fd(ch) >= 0);
        actor_start(&closer, do_close, ch);
        EXPECT(sley_chan_recv(ch, &v, SLEY_FOREVER) == 0);
        sley_chan_destroy(ch);
        EXPECT(actor_result(&closer) == 0);
    }
}

/* Asked for by several at once, while messages pass. */
static int ask(void *arg)
{
    return sley_chan_fd(arg);
}

SCENARIO(fd_may_be_asked_for_by_several_at_once)
{
    for (int round = 0; round < 60; round++) {
        sley_chan *ch = chan_of(round % KINDS);
        struct actor asks[3];
        struct call c = { .ch = ch, .deadline = SLEY_FOREVER, .msg = round };
        long v;
        int fd;

        for (int i = 0; i < 3; i++)
            actor_start(&asks[i], ask, ch);
        actor_start(&c.actor, do_send, &c);
        EXPECT(sley_chan_recv(ch, &v, SLEY_FOREVER) == 1 && v == round);
        EXPECT(result(&c) == 0);
        fd = actor_result(&asks[0]);
        EXPECT(fd >= 0 && actor_result(&asks[1]) == fd && actor_result(&asks[2]) == fd);
        EXPECT(!is_readable(fd));
        sley_chan_destroy(ch);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(fd_follows_the_messages),
        PLAYED(fd_of_a_channel_that_holds_messages_is_readable),
        PLAYED(fd_is_the_same_each_time_and_the_channels_own),
        PLAYED(fd_of_a_closed_channel_stays_readable),
        PLAYED(fd_says_that_a_sender_waits),
        PLAYED(fd_falls_silent_when_the_sender_gives_up),
        PLAYED(fd_is_silent_when_a_receiver_gets_the_message),
        PLAYED(fd_of_a_full_channel_with_a_sender_behind_it),
        PLAYED(fd_of_a_subscription_follows_the_broadcast),
        cmocka_unit_test(fd_of_null_is_einval),
        cmocka_unit_test(fd_that_cannot_be_made_is_the_kernels_answer),
        cmocka_unit_test(fd_falls_silent_when_the_sender_is_cancelled),
        PLAYED(fd_wakes_a_loop_that_is_not_the_librarys),
        PLAYED(fd_channel_may_be_freed_by_who_got_the_last_message),
        PLAYED(fd_channel_may_be_freed_by_who_saw_its_end),
        PLAYED(fd_may_be_asked_for_by_several_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
