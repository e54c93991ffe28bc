/* test_select_fd.c - descriptors as arms of a select: what is reported, several waits on one descriptor, closing under them, and that an
 * arm which loses costs no system call. */
#include "io_scenario.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "io/arms.h"
#include "io/record.h"

enum { ARMS_MAX = 40 };

struct select_call {
    struct actor actor;
    sley_case cases[ARMS_MAX];
    size_t n;
    sley_time deadline;
    uint64_t message; /* where receive cases put theirs */
};

static int call_select(void *arg)
{
    struct select_call *c = arg;
    return sley_select(c->cases, c->n, c->deadline);
}

static void add(struct select_call *c, sley_case one) { c->cases[c->n++] = one; }

/* Start c, without a deadline if none was set, and go on once it waits. */
static void waiting(struct select_call *c)
{
    if (c->deadline == 0)
        c->deadline = SLEY_FOREVER;
    actor_start(&c->actor, call_select, c);
    actor_waits(&c->actor);
}

static int result(struct select_call *c) { return actor_result(&c->actor); }

static void drain(int fd)
{
    static char bytes[1 << 16];

    while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        ;
}

static void fill(int fd)
{
    static char bytes[1 << 16];

    while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        ;
}

/* ---- what is reported ---- */

SCENARIO(select_tells_what_is_ready)
{
    sley_case on[3];
    int sv[2];

    make_pair(sv, SOCK_STREAM);
    on[0] = sley_case_fd(sv[0], POLLIN);
    on[1] = sley_case_fd(sv[1], POLLIN | POLLOUT);
    EXPECT(sley_select(on, 1, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_select(on, 1, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_select(on, 2, SLEY_NOW) == 1 && on[1].result == POLLOUT);
    EXPECT(sley_select(on, 2, SLEY_FOREVER) == 1 && on[1].result == POLLOUT);
    EXPECT(send(sv[1], "x", 1, 0) == 1);
    EXPECT(sley_select(on, 1, SLEY_FOREVER) == 0 && on[0].result == POLLIN);
    EXPECT(sley_select(on, 1, SLEY_NOW) == 0 && on[0].result == POLLIN);
    EXPECT(sley_select_ordered(on, 2, SLEY_FOREVER) == 0 && on[0].result == POLLIN);
    drain(sv[0]);
    EXPECT(sley_select_ordered(on, 2, SLEY_FOREVER) == 1);
    EXPECT(shutdown(sv[1], SHUT_RDWR) == 0);
    on[2] = sley_case_fd(sv[0], 0);
    EXPECT(sley_select(on + 2, 1, SLEY_FOREVER) == 0 && on[2].result == POLLHUP);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(select_of_what_is_no_descriptor_fires_at_once)
{
    sley_case on[2];
    int sv[2];

    make_pair(sv, SOCK_STREAM);
    on[0] = sley_case_fd(sv[0], POLLIN);
    for (int bad = 0; bad < 4; bad++) {
        int numbers[] = { -1, INT_MIN, INT_MAX, 4096 };

        for (int i = 0; i < 2; i++) {
            on[1] = sley_case_fd(numbers[bad], POLLIN);
            EXPECT(sley_select(on + i, 2 - (size_t)i, i ? SLEY_NOW : SLEY_FOREVER) == 1 - i && on[1].result == -EBADF);
        }
    }
    on[1] = sley_case_fd(sv[1], 1 << 20);
    EXPECT(sley_select(on, 2, SLEY_FOREVER) == 1 && on[1].result == -EINVAL);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(select_is_woken_by_a_descriptor)
{
    sley_chan *quiet = sley_chan_create(sizeof(uint64_t), 0);
    struct select_call c = { .n = 0 };
    int sv[2];

    make_tcp_pair(sv);
    add(&c, sley_case_recv(quiet, &c.message));
    add(&c, sley_case_fd(sv[0], POLLIN));
    for (int i = 0; i < 200; i++) {
        c.deadline = i % 3 == 0 ? sley_after(3600 * SLEY_S) : SLEY_FOREVER;
        waiting(&c);
        EXPECT(send(sv[1], "x", 1, 0) == 1);
        EXPECT(result(&c) == 1 && c.cases[1].result == POLLIN);
        drain(sv[0]);
    }
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
    sley_chan_destroy(quiet);
}

SCENARIO(select_is_woken_by_another_arm_and_the_descriptor_loses_nothing)
{
    sley_chan *ch = sley_chan_create(sizeof(uint64_t), 0);
    struct select_call c = { .n = 0 };
    int sv[2];

    make_pair(sv, SOCK_STREAM);
    add(&c, sley_case_fd(sv[0], POLLIN));
    add(&c, sley_case_recv(ch, &c.message));
    for (uint64_t i = 0; i < 100; i++) {
        waiting(&c);
        EXPECT(sley_chan_send(ch, &i, SLEY_FOREVER) == 0);
        EXPECT(result(&c) == 1 && c.cases[1].result == 1 && c.message == i);
    }
    EXPECT(send(sv[1], "x", 1, 0) == 1);
    EXPECT(sley_select(c.cases, 2, SLEY_FOREVER) == 0 && c.cases[0].result == POLLIN);
    drain(sv[0]);
    EXPECT(sley_select(c.cases, 2, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
    sley_chan_destroy(ch);
}

/* More than a plain thread keeps on its stack. */
SCENARIO(select_over_many_descriptors)
{
    struct select_call c = { .n = 0 };
    int sv[ARMS_MAX][2];

    for (int i = 0; i < ARMS_MAX; i++) {
        make_pair(sv[i], SOCK_STREAM);
        add(&c, i % 7 == 3 ? sley_case_make(SLEY_CASE_NEVER, NULL, NULL, 0) : sley_case_fd(sv[i][0], POLLIN));
    }
    for (int i = 0; i < ARMS_MAX; i++) {
        if (i % 7 == 3)
            continue;
        waiting(&c);
        EXPECT(send(sv[i][1], "x", 1, 0) == 1);
        EXPECT(result(&c) == i && c.cases[i].result == POLLIN);
        drain(sv[i][0]);
    }
    for (int i = 0; i < ARMS_MAX; i++)
        EXPECT(sley_close(sv[i][0]) == 0 && sley_close(sv[i][1]) == 0);
}

/* ---- several waits on one descriptor ---- */

SCENARIO(selects_and_waits_on_one_descriptor_want_different_events)
{
    enum { EACH = 12 };
    static struct select_call reads[EACH], writes[EACH];
    static struct io_call waits_in[EACH], waits_out[EACH];
    int sv[2];

    make_pair(sv, SOCK_STREAM);
    fill(sv[0]);
    for (int i = 0; i < EACH; i++) {
        reads[i] = (struct select_call){ .n = 0 };
        writes[i] = (struct select_call){ .n = 0 };
        waits_in[i] = (struct io_call){ .call = call_fd_wait, .fd = sv[0], .flags = POLLIN };
        waits_out[i] = (struct io_call){ .call = call_fd_wait, .fd = sv[0], .flags = POLLOUT };
        add(&reads[i], sley_case_fd(sv[0], POLLIN | (i % 2 ? POLLPRI : 0)));
        add(&writes[i], sley_case_fd(sv[0], POLLOUT));
        if (i % 3 == 0)
            add(&writes[i], sley_case_fd(sv[1], POLLPRI));
        waiting(&reads[i]);
        io_call_start(&waits_out[i]);
        waiting(&writes[i]);
        io_call_start(&waits_in[i]);
    }
    EXPECT(send(sv[1], "x", 1, 0) == 1);
    for (int i = 0; i < EACH; i++)
        EXPECT(result(&reads[i]) == 0 && reads[i].cases[0].result == POLLIN && io_call_result(&waits_in[i]) == POLLIN);
    for (int i = 0; i < EACH; i++)
        EXPECT(actor_waits_or_ended(&writes[i].actor) && io_call_waits(&waits_out[i]));
    drain(sv[0]);
    drain(sv[1]);
    for (int i = 0; i < EACH; i++)
        EXPECT(result(&writes[i]) == 0 && writes[i].cases[0].result == POLLOUT && io_call_result(&waits_out[i]) == POLLOUT);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

/* Both cases of one select may be about the same descriptor. */
SCENARIO(one_select_twice_on_one_descriptor)
{
    struct select_call c = { .n = 0 };
    int sv[2];

    make_pair(sv, SOCK_STREAM);
    fill(sv[0]);
    add(&c, sley_case_fd(sv[0], POLLIN));
    add(&c, sley_case_fd(sv[0], POLLOUT));
    add(&c, sley_case_fd(sv[0], POLLIN));
    for (int i = 0; i < 50; i++) {
        int rc;

        waiting(&c);
        if (i % 2 == 0) {
            EXPECT(send(sv[1], "x", 1, 0) == 1);
            rc = result(&c);
            EXPECT((rc == 0 || rc == 2) && c.cases[rc].result == POLLIN);
            drain(sv[0]);
        } else {
            drain(sv[1]);
            EXPECT(result(&c) == 1 && c.cases[1].result == POLLOUT);
            fill(sv[0]);
        }
    }
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

/* Several are woken by one message, one gets it; the others wait on, or time out, and none is told of readiness that was gone by then. */
enum { RIVALS = 6, PRIZES = 150 };

static struct {
    int fd;
    sley_chan *end;
    _Atomic(int) won, in_vain;
} race;

static int rival(void *arg)
{
    sley_case on[2] = { sley_case_fd(race.fd, POLLIN), sley_case_recv(race.end, arg) };
    char byte;
    int rc;

    while ((rc = sley_select(on, 2, SLEY_FOREVER)) == 0) {
        EXPECT(on[0].result == POLLIN);
        if (recv(race.fd, &byte, 1, MSG_DONTWAIT) == 1)
            race.won++;
        else
            race.in_vain++;
    }
    EXPECT(rc == 1 && on[1].result == 0);
    return 0;
}

SCENARIO(rivals_for_one_message)
{
    struct actor actors[RIVALS];
    uint64_t message;
    int sv[2];

    make_pair(sv, SOCK_DGRAM);
    race.fd = sv[0];
    race.end = sley_chan_create(sizeof message, 0);
    race.won = race.in_vain = 0;
    for (int i = 0; i < RIVALS; i++)
        actor_start(&actors[i], rival, &message);
    for (int i = 0; i < PRIZES; i++) {
        while (send(sv[1], "x", 1, MSG_DONTWAIT) != 1)
            give_way();
        if (i % 10 == 0)
            while (race.won <= i)
                give_way();
    }
    while (race.won < PRIZES)
        give_way();
    sley_chan_close(race.end);
    for (int i = 0; i < RIVALS; i++)
        EXPECT(actor_result(&actors[i]) == 0);
    EXPECT(race.won == PRIZES);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
    sley_chan_destroy(race.end);
}

/* ---- closing ---- */

SCENARIO(close_ends_selects)
{
    enum { MANY = 40 }; /* more than are claimed under one hold of the lock */
    static struct select_call calls[MANY];
    char byte;
    int sv[2], quiet[2];

    make_pair(sv, SOCK_STREAM);
    make_pair(quiet, SOCK_STREAM);
    for (int i = 0; i < MANY; i++) {
        calls[i] = (struct select_call){ .n = 0 };
        add(&calls[i], sley_case_fd(quiet[0], POLLIN));
        add(&calls[i], sley_case_fd(sv[0], i % 2 ? POLLIN : POLLPRI));
        waiting(&calls[i]);
    }
    EXPECT(sley_close(sv[0]) == 0 && fcntl(sv[0], F_GETFD) < 0);
    EXPECT(recv(sv[1], &byte, 1, MSG_DONTWAIT) == 0);
    for (int i = 0; i < MANY; i++)
        EXPECT(result(&calls[i]) == 1 && calls[i].cases[1].result == -EBADF);
    EXPECT(sley_close(sv[1]) == 0 && sley_close(quiet[0]) == 0 && sley_close(quiet[1]) == 0);
}

/* The poll of a losing arm stays armed; closing takes it along. */
SCENARIO(close_takes_the_poll_of_a_losing_arm_along)
{
    struct select_call c = { .n = 0 };
    char byte;
    int sv[2];

    for (int i = 0; i < 20; i++) {
        make_tcp_pair(sv);
        c = (struct select_call){ .deadline = sley_after(100 * SLEY_US) };
        add(&c, sley_case_fd(sv[0], POLLIN));
        actor_start(&c.actor, call_select, &c);
        EXPECT(result(&c) == -ETIMEDOUT);
        EXPECT(sley_close(sv[0]) == 0 && recv(sv[1], &byte, 1, 0) == 0 && sley_close(sv[1]) == 0);
    }
}

/* Give the number fd, which is free, to one end of a new pair that has something to read; its other end. */
static int occupy(int fd)
{
    int sv[2];

    make_pair(sv, SOCK_STREAM);
    EXPECT(send(sv[1], "x", 1, 0) == 1);
    if (sv[1] == fd) { /* the lower number is that of the first */
        int other = dup(sv[0]);

        EXPECT(send(sv[0], "x", 1, 0) == 1);
        close(sv[0]);
        return other;
    }
    if (sv[0] != fd) {
        EXPECT(dup2(sv[0], fd) == fd);
        close(sv[0]);
    }
    return sv[1];
}

/* Between two of its looks a select is in no list: a descriptor that is closed then, and its number given away, is -EBADF all the same. */
SCENARIO(a_number_that_was_given_away_is_not_looked_at)
{
    struct sl_fiber *f = sl_current();

    for (int step = 0; step < 4; step++) {
        struct sl_wait_node n = { .kind = SLEY_CASE_FD };
        int sv[2], other;

        make_pair(sv, SOCK_STREAM);
        n.value = sley_case_fd(sv[0], POLLIN).value;
        sl_io_arms_begin(&n, 1);
        EXPECT(!sl_fd_arm.ready(&n));
        EXPECT(sley_close(sv[0]) == 0);
        other = occupy(sv[0]);
        switch (step) {
        case 0:
            EXPECT(sl_fd_arm.arm(&n, f, SL_ARM_TRY) == SL_ARMED_DONE && n.result == -EBADF);
            break;
        case 1:
            sl_fd_arm.arm(&n, f, SL_ARM_TRY); /* uses up what ready has seen */
            sl_io_arms_begin(&n, 1);
            EXPECT(sl_fd_arm.ready(&n) && sl_fd_arm.arm(&n, f, SL_ARM_TRY) == SL_ARMED_DONE && n.result == POLLIN);
            break;
        case 2:
            EXPECT(sl_wait_begin_many(f, SLEY_FOREVER, SL_WAIT_SELECT, NULL) == 0);
            sl_node_init(&n, f);
            EXPECT(sl_fd_arm.arm(&n, f, SL_ARM_LINK) == SL_ARMED_DONE && n.result == -EBADF);
            sl_wait_end(f);
            break;
        default:
            EXPECT(sl_fd_arm.settle(&n, SL_ARM_EVENT) && n.result == -EBADF);
        }
        EXPECT(sley_close(sv[0]) == 0 && sley_close(other) == 0 && sley_close(sv[1]) == 0);
    }
}

/* Somebody has closed a descriptor behind the library's back, and the library was given its number: for a connection without anything to
 * read, for a thread that waits may only now be about to ask poll(2) for that number. */
SCENARIO(a_number_that_comes_back_cuts_off_who_waited_on_the_old_one)
{
    struct select_call c = { .n = 0 };
    int sv[2], listener = sley_net_listen("127.0.0.1:0", NULL), client = connect_to(listener), server;

    make_pair(sv, SOCK_STREAM);
    add(&c, sley_case_fd(sv[0], POLLIN));
    waiting(&c);
    EXPECT(close(sv[0]) == 0);
    server = sley_accept(listener, NULL, NULL, SLEY_FOREVER);
    EXPECT(server == sv[0]);
    EXPECT(result(&c) == 0 && c.cases[0].result == -EBADF);
    EXPECT(sley_close(server) == 0 && sley_close(client) == 0 && sley_close(listener) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(descriptors_are_all_given_back)
{
    int before = count_descriptors();

    close_ends_selects_body();
    selects_and_waits_on_one_descriptor_want_different_events_body();
    a_number_that_was_given_away_is_not_looked_at_body();
    EXPECT(count_descriptors() == before);
}

/* ---- ends of other kinds ---- */

static struct {
    int pair[2];
    sley_runtime *rt;
    sley_chan *quiet;
    _Atomic(struct sl_fiber *) blocks[3];
    int results[3];
} stage;

/* Until who has this place on the stage waits. */
static void waits_on_stage(int place)
{
    struct sl_fiber *f;

    while ((f = stage.blocks[place]) == NULL || SL_WORD_STATE(sl_load_acquire(&f->word)) != SL_WAITING)
        give_way();
}

static int wait_on_stage(void *arg)
{
    int *at = arg;
    uint64_t message;
    sley_case on[] = { sley_case_recv(stage.quiet, &message), sley_case_fd(stage.pair[0], POLLIN) };

    stage.blocks[at - stage.results] = sl_current();
    *at = sley_select(on, 2, SLEY_FOREVER);
    if (*at == 1)
        *at = 1000 + on[1].result;
    return 0;
}

static void *attached(void *arg)
{
    if (sley_runtime_attach(stage.rt) != 0)
        return NULL;
    wait_on_stage(arg);
    sley_runtime_detach();
    return NULL;
}

static void open_stage(void)
{
    memset(&stage, 0, sizeof stage);
    make_pair(stage.pair, SOCK_STREAM);
    stage.quiet = sley_chan_create(sizeof(uint64_t), 0);
}

static void close_stage(void)
{
    assert_int_equal(sley_close(stage.pair[0]), 0);
    assert_int_equal(sley_close(stage.pair[1]), 0);
    sley_chan_destroy(stage.quiet);
}

static void start_runtime(sley_runtime **rt)
{
    assert_int_equal(sley_runtime_create(rt, NULL), 0);
    assert_int_equal(sley_runtime_start(*rt), 0);
}

static void stopping_a_runtime_ends_selects_of_fibers_and_attached_threads(void **state)
{
    pthread_t thread;

    open_stage();
    start_runtime(&stage.rt);
    assert_int_equal(sley_runtime_submit(stage.rt, wait_on_stage, &stage.results[0]), 0);
    assert_int_equal(pthread_create(&thread, NULL, attached, &stage.results[1]), 0);
    waits_on_stage(0);
    waits_on_stage(1);
    assert_int_equal(sley_runtime_stop(stage.rt, SLEY_NOW), 0);
    pthread_join(thread, NULL);
    assert_int_equal(stage.results[0], -ECANCELED);
    assert_int_equal(stage.results[1], -ECANCELED);
    sley_runtime_destroy(stage.rt);
    close_stage();
}

/* Two runtimes and a thread wait for the same readiness; the poll lies in the ring of the one that goes. */
static void a_runtime_that_goes_leaves_others_waiting(void **state)
{
    struct actor thread;
    sley_runtime *a, *b;

    for (int with_thread = 0; with_thread < 2; with_thread++) {
        open_stage();
        start_runtime(&a);
        start_runtime(&b);
        assert_int_equal(sley_runtime_submit(a, wait_on_stage, &stage.results[0]), 0);
        waits_on_stage(0);
        assert_int_equal(sley_runtime_submit(b, wait_on_stage, &stage.results[1]), 0);
        if (with_thread)
            actor_start_as(&thread, 1, wait_on_stage, &stage.results[2]);
        for (int place = 1; place < 2 + with_thread; place++)
            waits_on_stage(place);
        assert_int_equal(sley_runtime_stop(a, SLEY_NOW), 0);
        sley_runtime_destroy(a);
        assert_int_equal(stage.results[0], -ECANCELED);
        assert_int_equal(send(stage.pair[1], "x", 1, 0), 1);
        if (with_thread)
            assert_int_equal(actor_result(&thread), 0);
        assert_int_equal(sley_runtime_stop(b, SLEY_FOREVER), 0);
        assert_int_equal(stage.results[1], 1000 + POLLIN);
        assert_int_equal(stage.results[2], with_thread ? 1000 + POLLIN : 0);
        sley_runtime_destroy(b);
        close_stage();
    }
}

/* A scope's cancel ends it; under a shield it does not. */
static int select_in_a_cancelled_scope(void *arg)
{
    sley_case on = sley_case_fd(stage.pair[0], POLLIN);
    int rc;

    while (sley_yield() == 0)
        ;
    EXPECT(sley_select(&on, 1, SLEY_FOREVER) == -ECANCELED && sley_fd_wait(stage.pair[0], POLLIN, SLEY_FOREVER) == -ECANCELED);
    sley_shield_begin();
    rc = sley_select(&on, 1, sley_after(SLEY_MS));
    EXPECT(rc == -ETIMEDOUT && sley_fd_wait(stage.pair[0], POLLIN, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(send(stage.pair[1], "x", 1, 0) == 1);
    EXPECT(sley_select(&on, 1, SLEY_FOREVER) == 0 && on.result == POLLIN);
    sley_shield_end();
    drain(stage.pair[0]);
    *(int *)arg = 1;
    return -ECANCELED;
}

static int cancel_selects(void *arg)
{
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_scope_go(&s, select_in_a_cancelled_scope, &stage.results[0]) == 0);
    EXPECT(sley_scope_go(&s, wait_on_stage, &stage.results[1]) == 0);
    waits_on_stage(1);
    sley_scope_cancel(&s);
    return sley_scope_wait(&s, 0, SLEY_FOREVER);
}

static void a_cancel_ends_selects_but_not_under_a_shield(void **state)
{
    open_stage();
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, cancel_selects, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
    assert_int_equal(stage.results[0], 1);
    assert_int_equal(stage.results[1], -ECANCELED);
    close_stage();
}

/* ---- what it costs ---- */

/* From here on this thread is killed, with the process, when it polls or enters the ring otherwise than its worker does. */
static int forbid_polling(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ppoll, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof rules / sizeof *rules, rules };

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

enum { LOSSES = 2000, NO_FILTER = 77 };

static int feed(void *arg)
{
    sley_chan *ch = arg;

    for (uint64_t i = 0; i < LOSSES; i++)
        if (sley_chan_send(ch, &i, SLEY_FOREVER) < 0)
            return -EIO;
    return 0;
}

/* A descriptor loses to a channel, by a fiber that waits each time, then by one that never does. */
static int lose(void *arg)
{
    sley_chan *bare = sley_chan_create(sizeof(uint64_t), 0), *full = sley_chan_create(sizeof(uint64_t), LOSSES);
    uint64_t message = 0;
    sley_case on[4];
    sley_stats before, after;
    int sv[2], rc = 0;

    make_pair(sv, SOCK_STREAM);
    on[0] = sley_case_fd(sv[0], POLLIN);
    on[1] = sley_case_recv(bare, &message);
    on[2] = sley_case_fd(sv[1], POLLIN);
    on[3] = sley_case_recv(full, &message);
    if (sley_select(on, 3, sley_after(SLEY_MS)) != -ETIMEDOUT || feed(full) < 0) /* from here on the polls are armed */
        return -EIO;
    sley_stats_read(NULL, &before, sizeof before);
    if (forbid_polling() != 0) {
        *(int *)arg = NO_FILTER;
        return 0;
    }
    if (sley_go(feed, bare) < 0)
        return -EIO;
    for (uint64_t i = 0; i < LOSSES; i++)
        if (sley_select(on, 3, i % 2 ? SLEY_FOREVER : sley_after(3600 * SLEY_S)) != 1 || message != i)
            rc = -EPROTO;
    for (uint64_t i = 0; i < LOSSES; i++)
        if (sley_select(on + 2, 2, SLEY_FOREVER) != 1 || message != i)
            rc = -EPROTO;
    sley_stats_read(NULL, &after, sizeof after);
    *(int *)arg = (int)(after.io_submitted - before.io_submitted);
    sley_chan_destroy(bare);
    sley_chan_destroy(full);
    sley_close(sv[0]);
    sley_close(sv[1]);
    return rc;
}

static void a_losing_descriptor_costs_no_system_call(void **state)
{
    sley_options options = { .workers = 1 };
    int status, submitted = 0;
    pid_t pid = fork();

    if (pid == 0) {
        if (sley_run(&options, lose, &submitted) != 0)
            _exit(1);
        _exit(submitted == NO_FILTER ? NO_FILTER : submitted != 0 ? 2 : 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_FILTER)
        skip();
    assert_false(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* An arm that never gets as far as waiting, because another can always go, is looked at a few times; then a poll is armed for it. And what
 * comes then is seen, although the fiber never waits. */
static int never_wait(void *arg)
{
    uint64_t message = 0;
    sley_chan *full = sley_chan_create(sizeof message, 1);
    int sv[2], rc = 0, sent = 0, high;
    sley_case on[2];

    make_pair(sv, SOCK_STREAM);
    high = fcntl(sv[0], F_DUPFD_CLOEXEC, 5 * SL_RECORD_CHUNK); /* nobody has used such a number before */
    if (high >= 0) {
        close(sv[0]);
        sv[0] = high;
    }
    on[0] = sley_case_fd(sv[0], POLLIN);
    on[1] = sley_case_recv(full, &message);
    for (int i = 0; rc != 1000; i++) {
        if (sley_chan_send(full, &message, SLEY_NOW) < 0)
            EXPECT(!"room for one");
        if (i == 20)
            EXPECT(sl_record_covers(sl_record_find(sv[0]), POLLIN));
        if (i >= 1000 && !sent++)
            EXPECT(send(sv[1], "x", 1, 0) == 1);
        rc = sley_select(on, 2, SLEY_FOREVER);
        if (rc == 0) {
            EXPECT(on[0].result == POLLIN && sent);
            rc = 1000;
        }
    }
    sley_chan_destroy(full);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
    return 0;
}

static void a_descriptor_is_not_starved_by_an_arm_that_can_always_go(void **state)
{
    sley_options options = { .workers = 1 };

    scene.unmet = NULL;
    assert_int_equal(sley_run(&options, never_wait, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

/* ---- a thread that cannot poll ---- */

static int bells_short(void)
{
    struct rlimit all, few;
    sley_runtime *rt;
    sley_case on;
    int sv[2], rc;

    if (sley_runtime_create(&rt, NULL) != 0) /* so that a child of fork may wait */
        return 1;
    sley_runtime_destroy(rt);
    make_pair(sv, SOCK_STREAM);
    on = sley_case_fd(sv[0], POLLIN);
    getrlimit(RLIMIT_NOFILE, &all);
    few = all;
    rc = dup(sv[0]);
    close(rc);
    few.rlim_cur = (rlim_t)rc;
    if (setrlimit(RLIMIT_NOFILE, &few) != 0)
        return 2;
    if (sley_select(&on, 1, SLEY_FOREVER) != -EMFILE)
        return 3;
    if (setrlimit(RLIMIT_NOFILE, &all) != 0 || send(sv[1], "x", 1, 0) != 1)
        return 4;
    if (sley_select(&on, 1, SLEY_FOREVER) != 0 || on.result != POLLIN)
        return 5;
    return sley_close(sv[0]) || sley_close(sv[1]) ? 6 : 0;
}

static void a_thread_without_a_bell_is_told_so(void **state)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(bells_short());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- traffic ---- */

/* Readers select over a socket, a channel and a deadline, and each byte and each message arrives once; meanwhile others wait for the same
 * sockets, and sockets are closed under them. */
enum { READERS = 4, BYTES = 400, MESSAGES = 400 };

static struct traffic {
    struct actor reader, writer, onlooker;
    int sv[2];
    sley_chan *ch;
    uint64_t seed;
    int bytes, messages, looks;
    _Atomic(int) closed;
} traffic[READERS];

static int read_both(void *arg)
{
    struct traffic *t = arg;
    uint64_t message, next = 0, random = t->seed;
    sley_case on[2] = { sley_case_fd(t->sv[0], POLLIN), sley_case_recv(t->ch, &message) };
    char c;

    while (t->bytes < BYTES || t->messages < MESSAGES) {
        int rc = sley_select(on, 2, below(&random, 3) ? SLEY_FOREVER : sley_after(below(&random, 50) * SLEY_US));

        if (rc == 0) {
            EXPECT(on[0].result > 0);
            if (recv(t->sv[0], &c, 1, MSG_DONTWAIT) == 1)
                t->bytes++;
        } else if (rc == 1) {
            EXPECT(on[1].result == 1 && message == next);
            next++;
            t->messages++;
        } else {
            EXPECT(rc == -ETIMEDOUT);
        }
    }
    EXPECT(sley_close(t->sv[0]) == 0);
    t->closed = 1;
    return 0;
}

static int write_both(void *arg)
{
    struct traffic *t = arg;
    uint64_t random = t->seed + 1, next = 0;
    int bytes = 0;

    while (bytes < BYTES || next < MESSAGES) {
        if (bytes < BYTES && (below(&random, 2) || next == MESSAGES)) {
            EXPECT(sley_send(t->sv[1], "x", 1, 0, SLEY_FOREVER) == 1);
            bytes++;
        } else if (next < MESSAGES) {
            EXPECT(sley_chan_send(t->ch, &next, SLEY_FOREVER) == 0);
            next++;
        }
        if (below(&random, 8) == 0)
            give_way();
    }
    return 0;
}

/* Until the reader closes. */
static int look_on(void *arg)
{
    struct traffic *t = arg;
    uint64_t random = t->seed + 2;
    sley_case on[2] = { sley_case_fd(t->sv[0], POLLPRI), sley_case_fd(t->sv[0], POLLIN) };

    while (!t->closed) {
        int wide = (int)below(&random, 2);
        int rc = sley_select(on, 1 + (size_t)wide, sley_after(below(&random, 100) * SLEY_US));

        if (rc >= 0 && on[rc].result == -EBADF)
            break;
        EXPECT(rc == -ETIMEDOUT || (rc == 1 && on[1].result > 0) || (rc == 0 && on[0].result > 0));
        t->looks++;
        give_way();
    }
    return 0;
}

SCENARIO(traffic_over_sockets_and_channels_arrives)
{
    uint64_t random = test_seed();
    int before = count_descriptors();

    for (int i = 0; i < READERS; i++) {
        struct traffic *t = &traffic[i];

        memset(t, 0, sizeof *t);
        make_pair(t->sv, i % 2 ? SOCK_STREAM : SOCK_SEQPACKET);
        t->ch = sley_chan_create(sizeof(uint64_t), (size_t)i);
        t->seed = random + (uint64_t)i * 7;
        actor_start(&t->onlooker, look_on, t);
        actor_start(&t->reader, read_both, t);
        actor_start(&t->writer, write_both, t);
    }
    for (int i = 0; i < READERS; i++) {
        struct traffic *t = &traffic[i];

        EXPECT(actor_result(&t->writer) == 0 && actor_result(&t->reader) == 0 && actor_result(&t->onlooker) == 0);
        EXPECT(t->bytes == BYTES && t->messages == MESSAGES);
        EXPECT(sley_close(t->sv[1]) == 0);
        sley_chan_destroy(t->ch);
    }
    EXPECT(count_descriptors() == before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_without_a_bell_is_told_so),
        cmocka_unit_test(a_losing_descriptor_costs_no_system_call),
        PLAYED(select_tells_what_is_ready),
        PLAYED(select_of_what_is_no_descriptor_fires_at_once),
        PLAYED(select_is_woken_by_a_descriptor),
        PLAYED(select_is_woken_by_another_arm_and_the_descriptor_loses_nothing),
        PLAYED(select_over_many_descriptors),
        PLAYED(selects_and_waits_on_one_descriptor_want_different_events),
        PLAYED(one_select_twice_on_one_descriptor),
        PLAYED(rivals_for_one_message),
        PLAYED(close_ends_selects),
        PLAYED(close_takes_the_poll_of_a_losing_arm_along),
        PLAYED(a_number_that_was_given_away_is_not_looked_at),
        PLAYED(a_number_that_comes_back_cuts_off_who_waited_on_the_old_one),
        PLAYED(descriptors_are_all_given_back),
        cmocka_unit_test(stopping_a_runtime_ends_selects_of_fibers_and_attached_threads),
        cmocka_unit_test(a_runtime_that_goes_leaves_others_waiting),
        cmocka_unit_test(a_cancel_ends_selects_but_not_under_a_shield),
        cmocka_unit_test(a_descriptor_is_not_starved_by_an_arm_that_can_always_go),
        PLAYED(traffic_over_sockets_and_channels_arrives),
    };

    return cmocka_run_group_tests_name("select_fd", tests, NULL, NULL);
}
