/* test_select_signal.c - signals as arms of a select: everybody who waits gets one, whether by select or by sley_signal_wait; an arm that
 * loses has taken nothing, and a select that looks again has missed nothing. */
#include "io_scenario.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "io/arms.h"

#define ONE SLEY_SIG(SIGUSR1)
#define TWO SLEY_SIG(SIGUSR2)

enum { ARMS_MAX = 4 };

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

struct wait_call {
    struct actor actor;
    uint64_t set;
};

static int call_wait(void *arg) { return sley_signal_wait(((struct wait_call *)arg)->set, SLEY_FOREVER); }

static void waiting_plainly(struct wait_call *c, uint64_t set)
{
    c->set = set;
    actor_start(&c->actor, call_wait, c);
    actor_waits(&c->actor);
}

/* Send one to the process, and see to it that the handler has run. */
static void deliver(int signo)
{
    sigset_t mask, old;

    sigemptyset(&mask);
    sigaddset(&mask, signo);
    pthread_sigmask(SIG_UNBLOCK, &mask, &old); /* a worker blocks them */
    EXPECT(raise(signo) == 0);
    poll(NULL, 0, 0); /* where ThreadSanitizer runs handlers */
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* Every scenario begins and ends with the signals as they were. */
static void release(void) { sley_signal_release(ONE | TWO | SLEY_SIG(SIGRTMIN)); }

SCENARIO(a_signal_wakes_a_select)
{
    sley_chan *quiet = sley_chan_create(sizeof(uint64_t), 0);
    struct select_call c = { .n = 0 };
    int sv[2];

    make_pair(sv, SOCK_STREAM);
    add(&c, sley_case_recv(quiet, &c.message));
    add(&c, sley_case_signal(ONE | TWO));
    add(&c, sley_case_fd(sv[0], POLLIN));
    for (int i = 0; i < 100; i++) {
        c.deadline = i % 3 == 0 ? sley_after(3600 * SLEY_S) : SLEY_FOREVER;
        c.n = i % 4 < 2 ? 2 : 3;
        waiting(&c);
        EXPECT(kill(getpid(), i % 2 ? SIGUSR1 : SIGUSR2) == 0);
        EXPECT(result(&c) == 1 && c.cases[1].result == (i % 2 ? SIGUSR1 : SIGUSR2));
    }
    EXPECT(sley_select(c.cases, c.n, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
    sley_chan_destroy(quiet);
    release();
}

SCENARIO(a_select_that_ends_otherwise_has_taken_no_signal)
{
    sley_chan *ch = sley_chan_create(sizeof(uint64_t), 0);
    struct select_call c = { .n = 0 };

    add(&c, sley_case_signal(ONE));
    add(&c, sley_case_recv(ch, &c.message));
    EXPECT(sley_select(c.cases, 2, SLEY_NOW) == -ETIMEDOUT && sley_select(c.cases, 2, sley_after(SLEY_MS)) == -ETIMEDOUT);
    for (uint64_t i = 0; i < 50; i++) {
        waiting(&c);
        EXPECT(sley_chan_send(ch, &i, SLEY_FOREVER) == 0);
        EXPECT(result(&c) == 1 && c.message == i);
        deliver(SIGUSR1); /* kept: nobody waits */
        EXPECT(sley_select(c.cases, 2, i % 2 ? SLEY_NOW : SLEY_FOREVER) == 0 && c.cases[0].result == SIGUSR1);
        EXPECT(sley_select(c.cases, 2, SLEY_NOW) == -ETIMEDOUT);
    }
    sley_chan_destroy(ch);
    release();
}

SCENARIO(a_signal_that_is_kept_is_for_the_next_who_waits_in_either_way)
{
    sley_case on = sley_case_signal(ONE | TWO);

    EXPECT(sley_select(&on, 1, SLEY_NOW) == -ETIMEDOUT);
    deliver(SIGUSR2);
    deliver(SIGUSR1);
    deliver(SIGUSR1);
    EXPECT(sley_signal_wait(TWO, SLEY_NOW) == SIGUSR2);
    EXPECT(sley_select(&on, 1, SLEY_FOREVER) == 0 && on.result == SIGUSR1);
    EXPECT(sley_select(&on, 1, SLEY_NOW) == -ETIMEDOUT && sley_signal_wait(ONE | TWO, SLEY_NOW) == -ETIMEDOUT);
    release();
}

/* More than are woken under one hold of the lock, of both kinds, between others who wait for something else. */
SCENARIO(all_who_wait_get_it)
{
    enum { EACH = 45 };
    static struct select_call selects[EACH], others[EACH];
    static struct wait_call waits[EACH];
    uint64_t message;
    sley_chan *quiet = sley_chan_create(sizeof message, 0);

    for (int i = 0; i < EACH; i++) {
        selects[i] = (struct select_call){ .n = 0 };
        add(&selects[i], sley_case_signal(i % 3 ? ONE : ONE | SLEY_SIG(SIGRTMIN)));
        if (i % 2)
            add(&selects[i], sley_case_recv(quiet, &message));
        others[i] = (struct select_call){ .n = 0 };
        add(&others[i], sley_case_signal(TWO));
        waiting(&others[i]);
        waiting(&selects[i]);
        waiting_plainly(&waits[i], ONE | TWO);
    }
    EXPECT(kill(getpid(), SIGUSR1) == 0);
    for (int i = 0; i < EACH; i++)
        EXPECT(result(&selects[i]) == 0 && selects[i].cases[0].result == SIGUSR1 && actor_result(&waits[i].actor) == SIGUSR1);
    for (int i = 0; i < EACH; i++)
        EXPECT(actor_waits_or_ended(&others[i].actor));
    EXPECT(kill(getpid(), SIGUSR2) == 0);
    for (int i = 0; i < EACH; i++)
        EXPECT(result(&others[i]) == 0 && others[i].cases[0].result == SIGUSR2);
    EXPECT(sley_signal_wait(ONE | TWO, SLEY_NOW) == -ETIMEDOUT);
    sley_chan_destroy(quiet);
    release();
}

SCENARIO(one_select_with_several_arms_for_signals_takes_one)
{
    struct select_call c = { .n = 0 };

    add(&c, sley_case_signal(ONE));
    add(&c, sley_case_signal(TWO));
    add(&c, sley_case_signal(ONE | TWO));
    for (int i = 0; i < 50; i++) {
        int rc;

        waiting(&c);
        EXPECT(kill(getpid(), SIGUSR2) == 0);
        rc = result(&c);
        EXPECT((rc == 1 || rc == 2) && c.cases[rc].result == SIGUSR2);
    }
    deliver(SIGUSR1);
    deliver(SIGUSR2);
    EXPECT(sley_select_ordered(c.cases, 3, SLEY_FOREVER) == 0 && c.cases[0].result == SIGUSR1);
    EXPECT(sley_select_ordered(c.cases, 3, SLEY_FOREVER) == 1 && c.cases[1].result == SIGUSR2);
    EXPECT(sley_select(c.cases, 3, SLEY_NOW) == -ETIMEDOUT);
    release();
}

/* Between two of its looks a select is in no list. What is given to others meanwhile is for it too; what was given before is not. */
SCENARIO(a_select_that_looks_again_has_missed_nothing)
{
    struct sl_wait_node n = { .kind = SLEY_CASE_SIGNAL, .value = (int64_t)(ONE | TWO) };
    struct sl_fiber *f = sl_current();

    EXPECT(sley_signal_wait(ONE | TWO, SLEY_NOW) == -ETIMEDOUT);
    for (int mode = SL_ARM_TRY; mode <= SL_ARM_LINK; mode++) {
        deliver(SIGUSR2);
        EXPECT(sley_signal_wait(TWO, SLEY_NOW) == SIGUSR2);
        sl_io_arms_begin(&n, 1);
        EXPECT(!sl_signal_arm.ready(&n) && sl_signal_arm.arm(&n, f, SL_ARM_TRY) == SL_ARMED_NOT_YET);
        if (mode == SL_ARM_LINK) {
            EXPECT(sl_wait_begin_many(f, SLEY_FOREVER, SL_WAIT_SELECT, NULL) == 0);
            sl_node_init(&n, f);
            EXPECT(sl_signal_arm.arm(&n, f, SL_ARM_LINK) == SL_ARMED_LINKED);
            sl_signal_arm.disarm(&n);
            sl_wait_end(f);
        }
        deliver(SIGUSR1);
        EXPECT(sley_signal_wait(ONE, SLEY_NOW) == SIGUSR1);
        deliver(SIGUSR2);
        EXPECT(sley_signal_wait(TWO, SLEY_NOW) == SIGUSR2);
        EXPECT(sl_signal_arm.ready(&n));
        if (mode == SL_ARM_LINK) {
            EXPECT(sl_wait_begin_many(f, SLEY_FOREVER, SL_WAIT_SELECT, NULL) == 0);
            sl_node_init(&n, f);
        }
        EXPECT(sl_signal_arm.arm(&n, f, (enum sl_arm_mode)mode) == SL_ARMED_DONE && n.result == SIGUSR1);
        if (mode == SL_ARM_LINK)
            sl_wait_end(f);
        sl_io_arms_begin(&n, 1);
        EXPECT(!sl_signal_arm.ready(&n) && sl_signal_arm.arm(&n, f, SL_ARM_TRY) == SL_ARMED_NOT_YET);
    }
    release();
}

SCENARIO(impossible_sets_fire_at_once)
{
    uint64_t impossible[] = { 0, SLEY_SIG(SIGKILL), ONE | SLEY_SIG(SIGSTOP), SLEY_SIG(32) };
    uint64_t message;
    sley_chan *quiet = sley_chan_create(sizeof message, 0);
    sley_case on[2] = { sley_case_recv(quiet, &message) };

    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        on[1] = sley_case_signal(impossible[i]);
        EXPECT(sley_select(on, 2, SLEY_FOREVER) == 1 && on[1].result == -EINVAL);
        EXPECT(sley_select(on, 2, SLEY_NOW) == 1 && on[1].result == -EINVAL);
    }
    sley_chan_destroy(quiet);
    release();
}

SCENARIO(a_signal_released_under_a_select_is_nobodys)
{
    sley_case on = sley_case_signal(ONE);
    struct sigaction now;

    EXPECT(sley_select(&on, 1, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler != SIG_DFL);
    deliver(SIGUSR1);
    release();
    EXPECT(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
    EXPECT(sley_select(&on, 1, SLEY_NOW) == -ETIMEDOUT);
    deliver(SIGUSR1);
    EXPECT(sley_select(&on, 1, SLEY_NOW) == 0 && on.result == SIGUSR1);
    release();
}

/* ---- runtimes that go ---- */

static struct {
    sley_runtime *rt;
    _Atomic(struct sl_fiber *) blocks[4];
    int results[4];
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
    sley_case on = sley_case_signal(ONE);

    stage.blocks[at - stage.results] = sl_current();
    if (at == &stage.results[3]) {
        *at = sley_signal_wait(ONE, SLEY_FOREVER);
        return 0;
    }
    *at = sley_select(&on, 1, SLEY_FOREVER);
    if (*at == 0)
        *at = 1000 + on.result;
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

static void start_runtime(sley_runtime **rt)
{
    assert_int_equal(sley_runtime_create(rt, NULL), 0);
    assert_int_equal(sley_runtime_start(*rt), 0);
}

static void stopping_a_runtime_ends_selects_of_fibers_and_attached_threads(void **state)
{
    pthread_t thread;

    memset(&stage, 0, sizeof stage);
    start_runtime(&stage.rt);
    assert_int_equal(sley_runtime_submit(stage.rt, wait_on_stage, &stage.results[0]), 0);
    assert_int_equal(sley_runtime_submit(stage.rt, wait_on_stage, &stage.results[3]), 0);
    assert_int_equal(pthread_create(&thread, NULL, attached, &stage.results[1]), 0);
    for (int place = 0; place < 4; place++)
        if (place != 2)
            waits_on_stage(place);
    assert_int_equal(sley_runtime_stop(stage.rt, SLEY_NOW), 0);
    pthread_join(thread, NULL);
    assert_int_equal(stage.results[0], -ECANCELED);
    assert_int_equal(stage.results[1], -ECANCELED);
    assert_int_equal(stage.results[3], -ECANCELED);
    sley_runtime_destroy(stage.rt);
    release();
}

/* The bell is polled in the ring of the runtime that goes; fibers of another one, and a thread, wait on. */
static void a_runtime_that_goes_leaves_others_waiting(void **state)
{
    struct actor thread;
    sley_runtime *a, *b;

    for (int i = 0; i < 20; i++) {
        memset(&stage, 0, sizeof stage);
        start_runtime(&a);
        start_runtime(&b);
        assert_int_equal(sley_runtime_submit(a, wait_on_stage, &stage.results[0]), 0);
        waits_on_stage(0);
        assert_int_equal(sley_runtime_submit(b, wait_on_stage, &stage.results[1]), 0);
        assert_int_equal(sley_runtime_submit(b, wait_on_stage, &stage.results[3]), 0);
        actor_start_as(&thread, 1, wait_on_stage, &stage.results[2]);
        for (int place = 1; i % 2 && place < 4; place++) /* or they begin to wait while it goes */
            waits_on_stage(place);
        assert_int_equal(sley_runtime_stop(a, SLEY_NOW), 0);
        sley_runtime_destroy(a);
        assert_int_equal(stage.results[0], -ECANCELED);
        for (int place = 1; place < 4; place++)
            waits_on_stage(place);
        assert_int_equal(kill(getpid(), SIGUSR1), 0);
        assert_int_equal(actor_result(&thread), 0);
        assert_int_equal(sley_runtime_stop(b, SLEY_FOREVER), 0);
        assert_int_equal(stage.results[1], 1000 + SIGUSR1);
        assert_int_equal(stage.results[2], 1000 + SIGUSR1);
        assert_int_equal(stage.results[3], SIGUSR1);
        sley_runtime_destroy(b);
        release();
    }
}

static int cancel_selects(void *arg)
{
    sley_case on = sley_case_signal(ONE);
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_scope_go(&s, wait_on_stage, &stage.results[0]) == 0 && sley_scope_go(&s, wait_on_stage, &stage.results[3]) == 0);
    waits_on_stage(0);
    waits_on_stage(3);
    sley_scope_cancel(&s);
    sley_shield_begin();
    EXPECT(sley_select(&on, 1, sley_after(SLEY_MS)) == -ETIMEDOUT && sley_signal_wait(ONE, sley_after(SLEY_MS)) == -ETIMEDOUT);
    deliver(SIGUSR1);
    EXPECT(sley_select(&on, 1, SLEY_FOREVER) == 0 && on.result == SIGUSR1);
    sley_shield_end();
    EXPECT(sley_select(&on, 1, SLEY_FOREVER) == -ECANCELED && sley_signal_wait(ONE, SLEY_FOREVER) == -ECANCELED);
    return sley_scope_wait(&s, 0, SLEY_FOREVER);
}

static void a_cancel_ends_selects_but_not_under_a_shield(void **state)
{
    memset(&stage, 0, sizeof stage);
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, cancel_selects, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
    assert_int_equal(stage.results[0], -ECANCELED);
    assert_int_equal(stage.results[3], -ECANCELED);
    release();
}

/* ---- what it costs ---- */

/* From here on this thread is killed, with the process, when it does with signals what a first wait does, or looks at the bell. */
static int forbid_signals(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ppoll, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigaction, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_eventfd2, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = { sizeof rules / sizeof *rules, rules };

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

enum { LOSSES = 2000, NO_FILTER = 77 };

static int feed(void *arg)
{
    for (uint64_t i = 0; i < LOSSES; i++)
        if (sley_chan_send(arg, &i, SLEY_FOREVER) < 0)
            return -EIO;
    return 0;
}

static int lose(void *arg)
{
    sley_chan *ch = sley_chan_create(sizeof(uint64_t), 0);
    uint64_t message = 0;
    sley_case on[2] = { sley_case_signal(ONE | TWO), sley_case_recv(ch, &message) };
    sley_stats before, after;
    int rc = 0;

    if (sley_select(on, 2, sley_after(SLEY_MS)) != -ETIMEDOUT)
        return -EIO;
    sley_stats_read(NULL, &before, sizeof before);
    if (forbid_signals() != 0) {
        *(int *)arg = NO_FILTER;
        return 0;
    }
    if (sley_go(feed, ch) < 0)
        return -EIO;
    for (uint64_t i = 0; i < LOSSES; i++)
        if (sley_select(on, 2, SLEY_FOREVER) != 1 || message != i)
            rc = -EPROTO;
    sley_stats_read(NULL, &after, sizeof after);
    *(int *)arg = (int)(after.io_submitted - before.io_submitted);
    sley_chan_destroy(ch);
    return rc;
}

static void a_losing_signal_costs_no_system_call(void **state)
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

/* A child that makes a runtime of its own selects on its own bell, whatever the parent waits for. */
static void a_forked_child_selects_on_its_own_signals(void **state)
{
    int status;
    pid_t pid;

    play(a_signal_wakes_a_select_body, THREADS);
    pid = fork();
    if (pid == 0) {
        void (*body)(void) = a_signal_wakes_a_select_body;

        scene.cast = FIBER_AND_THREADS;
        _exit(sley_run(NULL, play_body, &body) != 0 || scene.unmet != NULL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    play(a_signal_wakes_a_select_body, THREADS);
}

/* ---- selects that start over ---- */

/* Listeners select over a signal and a socket. A message wakes them all, but somebody else takes it: those who look too late start over, in
 * the same call. Meanwhile a signal comes, and somebody else takes that too. Who was in a call before, and still is, must hear it. */
enum { LISTENERS = 8, ROUNDS = 200 };

static struct listener {
    struct actor actor;
    int fd, is_plain;
    _Atomic(unsigned) call, heard;
} listeners[LISTENERS];

static _Atomic(int) enough;

static int listen_on(void *arg)
{
    struct listener *l = arg;
    sley_case on[2] = { sley_case_fd(l->fd, POLLIN), sley_case_signal(ONE) };
    char byte;

    while (!enough) {
        int rc = l->is_plain ? sley_signal_wait(ONE, SLEY_FOREVER) : sley_select(on, 2, SLEY_FOREVER);

        if (rc == 0)
            EXPECT(on[0].result == POLLIN && recv(l->fd, &byte, 1, MSG_DONTWAIT) <= 1);
        else if (l->is_plain ? rc == SIGUSR1 : rc == 1 && on[1].result == SIGUSR1)
            l->heard++;
        else
            EXPECT(!"a message or a signal");
        l->call++;
    }
    return 0;
}

SCENARIO(a_select_that_starts_over_hears_signals_given_meanwhile)
{
    uint64_t random = test_seed();
    unsigned heard = 0;
    sley_time hangs;
    char byte;
    int sv[2];

    EXPECT(sley_signal_wait(ONE, SLEY_NOW) == -ETIMEDOUT);
    make_pair(sv, SOCK_DGRAM);
    enough = 0;
    for (int i = 0; i < LISTENERS; i++) {
        struct listener *l = &listeners[i];

        memset(l, 0, sizeof *l);
        l->fd = sv[0];
        l->is_plain = i % 4 == 3;
        actor_start(&l->actor, listen_on, l);
    }
    for (int round = 0; round < ROUNDS && scene.unmet == NULL; round++) {
        unsigned calls[LISTENERS];

        for (int i = 0; i < LISTENERS; i++) {
            calls[i] = listeners[i].call;
            actor_waits(&listeners[i].actor);
        }
        EXPECT(send(sv[1], "x", 1, 0) == 1);
        for (unsigned n = below(&random, 4); n > 0; n--)
            give_way();
        EXPECT(recv(sv[0], &byte, 1, MSG_DONTWAIT) <= 1);
        for (unsigned n = below(&random, 4); n > 0; n--)
            give_way();
        deliver(SIGUSR1);
        for (unsigned n = below(&random, 4); n > 0; n--) {
            int rc = sley_signal_wait(ONE, SLEY_NOW);

            EXPECT(rc == SIGUSR1 || rc == -ETIMEDOUT);
            give_way();
        }
        hangs = sley_after(60 * SLEY_S);
        for (int i = 0; i < LISTENERS; i++)
            while (listeners[i].call == calls[i] && scene.unmet == NULL) {
                EXPECT(sley_now() < hangs);
                give_way();
            }
    }
    enough = 1;
    for (int i = 0; i < LISTENERS; i++) {
        while (!listeners[i].actor.done) {
            deliver(SIGUSR1);
            give_way();
        }
        EXPECT(actor_result(&listeners[i].actor) == 0);
        heard += listeners[i].heard;
    }
    EXPECT(heard > 0);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
    release();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(a_signal_wakes_a_select),
        PLAYED(a_select_that_ends_otherwise_has_taken_no_signal),
        PLAYED(a_signal_that_is_kept_is_for_the_next_who_waits_in_either_way),
        PLAYED(all_who_wait_get_it),
        PLAYED(one_select_with_several_arms_for_signals_takes_one),
        PLAYED(a_select_that_looks_again_has_missed_nothing),
        PLAYED(impossible_sets_fire_at_once),
        PLAYED(a_signal_released_under_a_select_is_nobodys),
        cmocka_unit_test(stopping_a_runtime_ends_selects_of_fibers_and_attached_threads),
        cmocka_unit_test(a_runtime_that_goes_leaves_others_waiting),
        cmocka_unit_test(a_cancel_ends_selects_but_not_under_a_shield),
        cmocka_unit_test(a_losing_signal_costs_no_system_call),
        cmocka_unit_test(a_forked_child_selects_on_its_own_signals),
        PLAYED(a_select_that_starts_over_hears_signals_given_meanwhile),
    };

    return cmocka_run_group_tests_name("select_signal", tests, NULL, NULL);
}
