/* test_cancel.c - the rows of docs/cancellation.md that are about time, channels, locks and their kin, tasks and scopes. How a row is
 * played: cancel_scenario.h. The rows of descriptors: test_cancel_io.c. */
#include "cancel_scenario.h"

/* What the row that is played works on. */
static struct {
    sley_chan *chan, *full;
    sley_bcast *bcast;
    sley_chan *subscribed[2];
    int heard[2][4], heard_count[2];
    sley_event event;
    sley_waitgroup group;
    sley_sem sem;
    sley_ticker ticker;
    sley_mutex mutex;
    sley_rwlock rwlock;
    sley_cond cond;
    sley_once once;
    sley_barrier barrier;
    sley_future *futures[2];
    struct actor actor;     /* somebody else, who is there before the call, or comes in a step */
    sley_event held, job;   /* what he, and the job of a sley_blocking, wait for */
    _Atomic(int) runs;      /* of a function that must run once, or not at all */
    int begun, holds, completed;
    int arm, won;           /* of a select: which one the step lets go, which one went */
    int put_back;           /* messages that the step took out of `full` */
    unsigned char msg[4];   /* a message that is received; 0xee: untouched */
    int sent, got;          /* messages that steps sent or got; they are 1, 2, 3... */
    sley_time began;
} stage;

static void clear_stage(void)
{
    memset(&stage, 0, sizeof stage);
    memset(stage.msg, 0xee, sizeof stage.msg);
}

static void nothing(void) {}

/* --- sley_sleep, sley_sleep_until, sley_ticker_wait ------------------------------------------------------------------------- */

/* Nothing but time ends these, so they last an hour, or in a race an instant. */
static sley_time a_while(void) { return now_playing.racing ? 20 * SLEY_US : 3600 * SLEY_S; }

static void sleep_set_up(void) { clear_stage(); stage.began = sley_now(); }
static int sleep_call(sley_time deadline) { (void)deadline; return sley_sleep(a_while()); }
static int sleep_until_call(sley_time deadline) { (void)deadline; return sley_sleep_until(sley_after(a_while())); }
static void sleep_check(int rc) { EXPECT(rc != 0 || sley_now() >= stage.began + a_while()); }

static void ticker_set_up(void)
{
    sleep_set_up();
    sley_ticker_init(&stage.ticker, a_while());
}

static int ticker_call(sley_time deadline)
{
    int rc = sley_ticker_wait(&stage.ticker, deadline);

    return rc > 1 ? 1 : rc;
}

static void ticker_check(int rc)
{
    if (rc > 0 || now_playing.racing)
        sleep_check(rc > 0 ? 0 : rc);
    else
        EXPECT(sley_ticker_wait(&stage.ticker, SLEY_NOW) == -ETIMEDOUT);
}

/* --- sley_event_wait, sley_waitgroup_wait, sley_sem_wait -------------------------------------------------------------------- */

static int event_call(sley_time deadline) { return sley_event_wait(&stage.event, deadline); }
static void event_step(void) { sley_event_set(&stage.event); }
static void event_check(int rc) { EXPECT(rc != 0 || sley_event_is_set(&stage.event) == 1); }
static void event_tear_down(void) { sley_event_fini(&stage.event); }

static void group_set_up(void) { clear_stage(); sley_waitgroup_add(&stage.group, 2); }
static int group_call(sley_time deadline) { return sley_waitgroup_wait(&stage.group, deadline); }

static void group_step(void)
{
    if (now_playing.steps > 1)
        return;
    sley_waitgroup_done(&stage.group);
    sley_waitgroup_done(&stage.group);
}

static void group_check(int rc) { EXPECT(rc != 0 || now_playing.steps > 0); }
static void group_tear_down(void) { sley_waitgroup_fini(&stage.group); }
static void group_make_ready(void) { now_playing.steps++; group_step(); }

static int sem_call(sley_time deadline) { return sley_sem_wait(&stage.sem, deadline); }
static void sem_step(void) { sley_sem_post(&stage.sem); }

static void sem_check(int rc)
{
    int permits = rc == 0;

    while (sley_sem_wait(&stage.sem, SLEY_NOW) == 0)
        permits++;
    EXPECT(permits == now_playing.steps);
}

static void sem_make_ready(void)
{
    for (int i = 0; i < 100; i++)
        sley_sem_post(&stage.sem);
}

static void sem_tear_down(void) { sley_sem_fini(&stage.sem); }

/* --- sley_mutex_lock, sley_rwlock_rdlock, _wrlock: the driver holds them ---------------------------------------------------- */

static void mutex_set_up(void)
{
    clear_stage();
    EXPECT(sley_mutex_lock(&stage.mutex, SLEY_FOREVER) == 0);
}

static int mutex_call(sley_time deadline)
{
    int rc = sley_mutex_lock(&stage.mutex, deadline);

    if (rc == 0)
        sley_mutex_unlock(&stage.mutex);
    return rc;
}

static void mutex_step(void)
{
    if (now_playing.steps == 1)
        sley_mutex_unlock(&stage.mutex);
}

static void mutex_check(int rc)
{
    (void)rc;
    if (now_playing.steps == 0)
        sley_mutex_unlock(&stage.mutex);
    EXPECT(sley_mutex_lock(&stage.mutex, SLEY_NOW) == 0);
    sley_mutex_unlock(&stage.mutex);
}

static void mutex_tear_down(void) { sley_mutex_fini(&stage.mutex); }

static void rdlock_set_up(void)
{
    clear_stage();
    EXPECT(sley_rwlock_wrlock(&stage.rwlock, SLEY_FOREVER) == 0);
}

static void wrlock_set_up(void)
{
    clear_stage();
    EXPECT(sley_rwlock_rdlock(&stage.rwlock, SLEY_FOREVER) == 0);
}

static int rwlock_got(int rc)
{
    if (rc == 0)
        sley_rwlock_unlock(&stage.rwlock);
    return rc;
}

static int rdlock_call(sley_time deadline) { return rwlock_got(sley_rwlock_rdlock(&stage.rwlock, deadline)); }
static int wrlock_call(sley_time deadline) { return rwlock_got(sley_rwlock_wrlock(&stage.rwlock, deadline)); }

static void rwlock_step(void)
{
    if (now_playing.steps == 1)
        sley_rwlock_unlock(&stage.rwlock);
}

static void rwlock_check(int rc)
{
    (void)rc;
    if (now_playing.steps == 0)
        sley_rwlock_unlock(&stage.rwlock);
    EXPECT(sley_rwlock_wrlock(&stage.rwlock, SLEY_NOW) == 0);
    sley_rwlock_unlock(&stage.rwlock);
}

static void rwlock_tear_down(void) { sley_rwlock_fini(&stage.rwlock); }

/* --- sley_cond_wait: its first wait is for the signal, its second for the mutex, which the driver then holds ---------------- */

static int cond_call(sley_time deadline)
{
    int rc;

    EXPECT(sley_mutex_lock(&stage.mutex, SLEY_FOREVER) == 0);
    rc = sley_cond_wait(&stage.cond, &stage.mutex, deadline);
    EXPECT(sley_mutex_lock(&stage.mutex, SLEY_NOW) == -EDEADLK); /* held again */
    sley_mutex_unlock(&stage.mutex);
    return rc;
}

static void cond_signal(void)
{
    EXPECT(sley_mutex_lock(&stage.mutex, SLEY_FOREVER) == 0);
    stage.holds = 1;
    sley_cond_signal(&stage.cond);
}

static void cond_unlock(void)
{
    if (stage.holds)
        sley_mutex_unlock(&stage.mutex);
    stage.holds = 0;
}

static void cond_step(void)
{
    if (now_playing.steps == 1)
        cond_signal();
    else
        cond_unlock();
}

static void cond_check(int rc)
{
    cond_unlock();
    EXPECT(rc != 0 || now_playing.steps > 0);
}

static int cond_second(void *arg)
{
    int rc;

    (void)arg;
    EXPECT(sley_mutex_lock(&stage.mutex, SLEY_FOREVER) == 0);
    rc = sley_cond_wait(&stage.cond, &stage.mutex, SLEY_FOREVER);
    sley_mutex_unlock(&stage.mutex);
    return rc;
}

/* The same with another behind it, who must get the signal if the call did not. */
static void cond_step_two(void)
{
    if (now_playing.steps == 1) {
        actor_start(&stage.actor, cond_second, NULL);
        actor_waits(&stage.actor);
    }
    cond_step();
}

static void cond_check_two(int rc)
{
    cond_check(rc);
    if (now_playing.steps == 0)
        return;
    if (rc == 0) {
        EXPECT(!stage.actor.done);
        cond_signal();
        cond_unlock();
    }
    EXPECT(actor_result(&stage.actor) == 0);
}

static void cond_tear_down(void)
{
    sley_cond_fini(&stage.cond);
    sley_mutex_fini(&stage.mutex);
}

/* --- sley_once_run ---------------------------------------------------------------------------------------------------------- */

enum { ONCE_RESULT = 7 };

static int once_fn(void *arg)
{
    int rc;

    (void)arg;
    stage.runs++;
    rc = sley_event_wait(&stage.event, SLEY_FOREVER);
    return rc < 0 ? rc : ONCE_RESULT;
}

static int once_call(sley_time deadline) { return sley_once_run(&stage.once, once_fn, NULL, deadline); }
static int once_runner(void *arg) { (void)arg; return once_call(SLEY_FOREVER); }

static void once_set_up(void)
{
    clear_stage();
    actor_start(&stage.actor, once_runner, NULL);
    actor_waits(&stage.actor);
}

static void once_check(int rc)
{
    (void)rc;
    sley_event_set(&stage.event);
    EXPECT(actor_result(&stage.actor) == ONCE_RESULT && stage.runs == 1);
    EXPECT(once_call(SLEY_NOW) == ONCE_RESULT);
}

static void once_make_ready(void) { once_check(0); }
static void once_running_check(int rc) { EXPECT(stage.runs == 1 && once_call(SLEY_NOW) == rc); }

/* --- sley_barrier_wait: the driver is the other party ----------------------------------------------------------------------- */

static void barrier_set_up(void)
{
    clear_stage();
    sley_barrier_init(&stage.barrier, 2);
}

static int barrier_call(sley_time deadline) { return sley_barrier_wait(&stage.barrier, deadline); }

static void barrier_step(void)
{
    if (!stage.completed)
        stage.completed = sley_barrier_wait(&stage.barrier, SLEY_NOW) == 1;
}

/* Who was cut has not come: another one is not let through. */
static void barrier_check(int rc)
{
    EXPECT((rc == 0) == stage.completed);
    EXPECT(sley_barrier_wait(&stage.barrier, SLEY_NOW) == -ETIMEDOUT);
}

static void barrier_tear_down(void) { sley_barrier_fini(&stage.barrier); }

/* --- futures ---------------------------------------------------------------------------------------------------------------- */

enum { VALUE = 0x5eed };

static void futures_set_up(void)
{
    clear_stage();
    for (int i = 0; i < 2; i++)
        stage.futures[i] = sley_future_create(sizeof(int));
}

static void complete(int i)
{
    int value = VALUE, rc = sley_future_complete(stage.futures[i], &value);

    EXPECT(rc == 0 || rc == -EALREADY);
}

static void complete_first(void) { complete(0); }
static void complete_second(void) { complete(1); }
static void complete_both(void) { complete(0); complete(1); }

static void complete_one_by_one(void)
{
    complete(now_playing.steps == 1 ? 0 : 1);
}

static void fail_second(void) { sley_future_fail(stage.futures[1], -EIO); }
static int await_call(sley_time deadline) { return sley_await(stage.futures[0], deadline); }
static int wait_any_call(sley_time deadline) { return sley_wait_any(stage.futures, 2, deadline); }
static int wait_all_call(sley_time deadline) { return sley_wait_all(stage.futures, 2, deadline); }
static int gather_call(sley_time deadline) { return sley_gather(stage.futures, 2, deadline); }

/* Whatever has ended the wait, those without an outcome go on, and get theirs. */
static void futures_check(int rc)
{
    if (now_playing.steps == 0)
        EXPECT(rc < 0 && sley_future_state(stage.futures[0]) == SLEY_FUTURE_PENDING);
    for (int i = 0; i < 2; i++) {
        complete(i);
        if (sley_future_state(stage.futures[i]) == SLEY_FUTURE_DONE)
            EXPECT(*(int *)sley_future_value(stage.futures[i]) == VALUE);
        else
            EXPECT(rc == -EIO || (now_playing.racing && now_playing.steps > 0));
    }
}

static void futures_tear_down(void)
{
    for (int i = 0; i < 2; i++)
        sley_future_destroy(stage.futures[i]);
}

/* sley_wait_for cancels what it waited for. */
static int wait_for_call(sley_time deadline) { return sley_wait_for(stage.futures[0], deadline); }

static void wait_for_check(int rc)
{
    EXPECT(sley_future_state(stage.futures[0]) == (rc < 0 ? SLEY_FUTURE_CANCELLED : SLEY_FUTURE_DONE));
}

/* --- sley_blocking: the pool has one thread --------------------------------------------------------------------------------- */

enum { JOB_RESULT = 9 };

static int hold_the_thread(void *arg)
{
    (void)arg;
    stage.begun = 1;
    return sley_event_wait(&stage.held, SLEY_FOREVER);
}

static int hold_the_pool(void *arg) { return sley_blocking(hold_the_thread, arg, SLEY_FOREVER); }

static void blocking_set_up(void)
{
    clear_stage();
    actor_start(&stage.actor, hold_the_pool, NULL);
    actor_waits(&stage.actor);
}

static int job(void *arg)
{
    (void)arg;
    stage.runs++;
    return sley_event_wait(&stage.job, SLEY_FOREVER) < 0 ? -EIO : JOB_RESULT;
}

static int blocking_call(sley_time deadline) { return sley_blocking(job, NULL, deadline); }
static void blocking_begun_step(void) { sley_event_set(&stage.job); }

static void blocking_step(void)
{
    if (now_playing.steps == 1)
        sley_event_set(&stage.held);
    else
        sley_event_set(&stage.job);
}

static void blocking_begun_check(int rc) { EXPECT(stage.runs == (rc == JOB_RESULT)); }

static void blocking_check(int rc)
{
    sley_event_set(&stage.held);
    EXPECT(actor_result(&stage.actor) == 0);
    EXPECT(stage.runs == (rc == JOB_RESULT));
}

static void blocking_tear_down(void)
{
    if (!stage.actor.done)
        blocking_check(0);
}

/* --- channels --------------------------------------------------------------------------------------------------------------- */

enum { CAP = 128 };

/* Messages are numbered in the order in which they were sent. */
static int send_numbered(int last)
{
    int rc = 0, number;

    while (stage.sent < last && rc == 0) {
        number = stage.sent + 1;
        if ((rc = sley_chan_send(stage.chan, &number, SLEY_NOW)) == 0)
            stage.sent = number;
    }
    return rc;
}

/* Take one; if there is one it is the next. */
static int take_numbered(void)
{
    int number, rc = sley_chan_recv(stage.chan, &number, SLEY_NOW);

    if (rc > 0)
        EXPECT(number == ++stage.got);
    return rc;
}

static void make_chan(size_t cap)
{
    clear_stage();
    stage.chan = sley_chan_create(sizeof(int), cap);
}

static void make_spsc(void)
{
    clear_stage();
    stage.chan = sley_chan_create_spsc(sizeof(int), CAP);
}

static void make_full_spsc(void) { make_spsc(); send_numbered(CAP); }

static void chan_tear_down(void) { sley_chan_destroy(stage.chan); }
static void chan_set_up(void) { make_chan(CAP); }
static void chan_set_up_unbuffered(void) { make_chan(0); }
static void chan_set_up_full(void) { make_chan(CAP); send_numbered(CAP); }

static int chan_send_call(sley_time deadline)
{
    int number = stage.sent + 1, rc = sley_chan_send(stage.chan, &number, deadline);

    if (rc == 0)
        stage.sent++;
    return rc;
}

static int chan_send_n_call(sley_time deadline)
{
    int numbers[3], rc;

    for (int i = 0; i < 3; i++)
        numbers[i] = stage.sent + 1 + i;
    rc = sley_chan_send_n(stage.chan, numbers, 3, deadline);
    if (rc > 0)
        stage.sent += rc;
    return rc;
}

static void chan_take_step(void) { take_numbered(); }
static void chan_drain(void)
{
    while (take_numbered() > 0)
        ;
}

static void stream_of_messages_check(void)
{
    chan_drain();
    EXPECT(stage.got == stage.sent);
}

static void chan_send_check(int rc) { (void)rc; stream_of_messages_check(); }

static int chan_recv_call(sley_time deadline)
{
    int number, rc;

    memcpy(&number, stage.msg, sizeof number);
    rc = sley_chan_recv(stage.chan, &number, deadline);
    if (rc > 0)
        EXPECT(number == ++stage.got);
    else
        EXPECT(is_untouched(&number, sizeof number));
    return rc;
}

static int chan_recv_n_call(sley_time deadline)
{
    int numbers[3], rc;

    memset(numbers, 0xee, sizeof numbers);
    rc = sley_chan_recv_n(stage.chan, numbers, 3, deadline);
    for (int i = 0; i < rc; i++)
        EXPECT(numbers[i] == ++stage.got);
    EXPECT(is_untouched(numbers + (rc > 0 ? rc : 0), sizeof numbers - sizeof(int) * (size_t)(rc > 0 ? rc : 0)));
    return rc;
}

static void chan_send_step(void) { send_numbered(stage.sent + 1); }
static void chan_recv_check(int rc) { chan_send_check(rc); }
static void chan_fill(void) { send_numbered(CAP); }

/* --- sley_bcast_send: whatever has ended it, all subscribers have got the same ------------------------------------------------------ */

enum { SUBSCRIBERS = 2, BCASTS_MAX = 4, FIRST_BCAST = 100, CALLS_BCAST = 101, ANOTHERS_BCAST = 102 };

static void bcast_set_up(void)
{
    int first = FIRST_BCAST;

    clear_stage();
    stage.bcast = sley_bcast_create(sizeof(int), 1);
    for (int i = 0; i < SUBSCRIBERS; i++)
        stage.subscribed[i] = sley_bcast_subscribe(stage.bcast);
    EXPECT(sley_bcast_send(stage.bcast, &first, SLEY_NOW) == 0); /* now they are full */
}

static int bcast_another(void *arg)
{
    int message = ANOTHERS_BCAST;

    (void)arg;
    return sley_bcast_send(stage.bcast, &message, SLEY_FOREVER);
}

static void bcast_set_up_behind_another(void)
{
    bcast_set_up();
    actor_start(&stage.actor, bcast_another, NULL);
    actor_waits(&stage.actor);
}

static int bcast_call(sley_time deadline)
{
    int message = CALLS_BCAST;

    return sley_bcast_send(stage.bcast, &message, deadline);
}

static void bcast_step(void)
{
    for (int i = 0; i < SUBSCRIBERS; i++)
        if (stage.heard_count[i] < BCASTS_MAX &&
            sley_chan_recv(stage.subscribed[i], &stage.heard[i][stage.heard_count[i]], SLEY_NOW) > 0)
            stage.heard_count[i]++;
}

static void bcast_check(int rc)
{
    int of_call = 0;

    bcast_step();
    bcast_step();
    EXPECT(stage.heard_count[0] == stage.heard_count[1] && stage.heard_count[0] >= 1 + (rc == 0));
    for (int i = 0; i < stage.heard_count[0]; i++) {
        EXPECT(stage.heard[0][i] == stage.heard[1][i]);
        of_call += stage.heard[0][i] == CALLS_BCAST;
    }
    EXPECT(of_call == (rc == 0));
}

static void bcast_check_behind_another(int rc)
{
    while (!stage.actor.done) {
        bcast_step();
        give_way();
    }
    EXPECT(actor_result(&stage.actor) == 0);
    bcast_check(rc);
    EXPECT(stage.heard_count[0] == 2 + (rc == 0));
}

static void bcast_tear_down(void)
{
    for (int i = 0; i < SUBSCRIBERS; i++)
        sley_chan_destroy(stage.subscribed[i]);
    sley_bcast_destroy(stage.bcast);
}

/* --- sley_select, sley_select_ordered: each walk's step lets another arm go ----------------------------------------------------------- */

enum { RECV, SEND, EVENT, SEM, FUTURE, STEP_ARMS, AT = STEP_ARMS, TICK, NEVER, ARMS };

enum { FULL = 3 };

static void select_set_up(void)
{
    static int walks;
    int zero = 0;

    chan_set_up();
    stage.arm = walks++ % STEP_ARMS;
    stage.won = -1;
    stage.full = sley_chan_create(sizeof(int), FULL);
    for (int i = 0; i < FULL; i++)
        EXPECT(sley_chan_send(stage.full, &zero, SLEY_NOW) == 0);
    stage.futures[0] = sley_future_create(sizeof(int));
    sley_ticker_init(&stage.ticker, 3600 * SLEY_S);
}

static int select_with(int (*call)(sley_case *, size_t, sley_time), sley_time deadline)
{
    int number = -1, one = 1, rc;
    sley_case cases[ARMS] = {
        [RECV] = sley_case_recv(stage.chan, &number), [SEND] = sley_case_send(stage.full, &one),
        [EVENT] = sley_case_event(&stage.event),      [SEM] = sley_case_sem(&stage.sem),
        [FUTURE] = sley_case_future(stage.futures[0]), [AT] = sley_case_at(sley_after(3600 * SLEY_S)),
        [TICK] = sley_case_tick(&stage.ticker),       [NEVER] = sley_case_recv(NULL, NULL),
    };

    rc = call(cases, ARMS, deadline);
    if (rc < 0)
        return rc;
    stage.won = rc;
    EXPECT(rc < STEP_ARMS && cases[rc].result == (rc == RECV));
    if (rc == RECV)
        EXPECT(number == ++stage.got);
    return 0;
}

static int select_call(sley_time deadline) { return select_with(sley_select, deadline); }
static int select_ordered_call(sley_time deadline) { return select_with(sley_select_ordered, deadline); }

static void select_step(void)
{
    switch (stage.arm) {
    case RECV:
        chan_send_step();
        break;
    case SEND:
        stage.put_back += sley_chan_recv(stage.full, NULL, SLEY_NOW) > 0;
        break;
    case EVENT:
        event_step();
        break;
    case SEM:
        sem_step();
        break;
    default:
        complete_first();
        break;
    }
}

/* One arm went, the one that could, or none; the others have done nothing. */
static void select_check(int rc)
{
    int left = 0, permits = 0;

    EXPECT(stage.won == (rc == 0 ? stage.arm : -1));
    stream_of_messages_check();
    while (sley_chan_recv(stage.full, NULL, SLEY_NOW) > 0)
        left++;
    EXPECT(left == FULL - stage.put_back + (stage.won == SEND));
    while (sley_sem_wait(&stage.sem, SLEY_NOW) == 0)
        permits++;
    EXPECT(permits == (stage.arm == SEM ? now_playing.steps : 0) - (stage.won == SEM));
    EXPECT(sley_ticker_wait(&stage.ticker, SLEY_NOW) == -ETIMEDOUT);
}

static void select_make_ready(void)
{
    stage.arm = EVENT;
    event_step();
}

static void select_tear_down(void)
{
    sley_event_fini(&stage.event);
    sley_sem_fini(&stage.sem);
    sley_future_destroy(stage.futures[0]);
    sley_chan_destroy(stage.full);
    chan_tear_down();
}

/* --- scopes ----------------------------------------------------------------------------------------------------------------- */

static int wait_for_event(void *arg) { (void)arg; return sley_event_wait(&stage.event, SLEY_FOREVER); }

static int wait_for_event_shielded(void *arg)
{
    int rc;

    (void)arg;
    sley_shield_begin();
    rc = sley_event_wait(&stage.event, SLEY_FOREVER);
    sley_shield_end();
    return rc;
}

static int scope_wait_with(sley_fn *child, sley_time deadline)
{
    sley_scope s;
    int rc;

    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_go(child, NULL) == 0);
    rc = sley_scope_wait(&s, 0, deadline);
    EXPECT(sley_scope_wait(&s, 0, deadline) == rc);
    return rc;
}

static int scope_wait_call(sley_time deadline) { return scope_wait_with(wait_for_event, deadline); }
static int scope_wait_stubborn_call(sley_time deadline) { return scope_wait_with(wait_for_event_shielded, deadline); }
static int scope_run_call(sley_time deadline) { return sley_scope_run(wait_for_event, NULL, deadline); }

/* --- sley_wait_for, of tasks: one that can be cancelled, one that does not stop --------------------------------------------- */

static void task_set_up(void) { clear_stage(); stage.futures[0] = sley_task_create(wait_for_event, NULL); }
static void stubborn_task_set_up(void) { clear_stage(); stage.futures[0] = sley_task_create(wait_for_event_shielded, NULL); }

/* --- rows ------------------------------------------------------------------------------------------------------------------- */

static const struct row rows[] = {
    { "sleep", NO_DEADLINE, .set_up = sleep_set_up, .call = sleep_call, .check = sleep_check, .tear_down = nothing },
    { "sleep_until", NO_DEADLINE, .set_up = sleep_set_up, .call = sleep_until_call, .check = sleep_check, .tear_down = nothing },
    { "ticker", .done = 1, .set_up = ticker_set_up, .call = ticker_call, .check = ticker_check, .tear_down = nothing },
    { "event", .set_up = clear_stage, .call = event_call, .step = event_step, .check = event_check, .make_ready = event_step,
      .tear_down = event_tear_down },
    { "waitgroup", .set_up = group_set_up, .call = group_call, .step = group_step, .check = group_check, .make_ready = group_make_ready,
      .tear_down = group_tear_down },
    { "sem", .set_up = clear_stage, .call = sem_call, .step = sem_step, .check = sem_check, .make_ready = sem_make_ready,
      .tear_down = sem_tear_down },
    { "send", .set_up = chan_set_up_full, .call = chan_send_call, .step = chan_take_step, .check = chan_send_check,
      .make_ready = chan_drain, .tear_down = chan_tear_down },
    { "send unbuffered", .set_up = chan_set_up_unbuffered, .call = chan_send_call, .step = chan_take_step, .check = chan_send_check,
      .tear_down = chan_tear_down },
    { "send_n", .done = 1, .set_up = chan_set_up_full, .call = chan_send_n_call, .step = chan_take_step, .check = chan_send_check,
      .tear_down = chan_tear_down },
    { "recv", .done = 1, .set_up = chan_set_up, .call = chan_recv_call, .step = chan_send_step, .check = chan_recv_check,
      .make_ready = chan_fill, .tear_down = chan_tear_down },
    { "recv unbuffered", .done = 1, .set_up = chan_set_up_unbuffered, .call = chan_recv_call, .step = chan_send_step,
      .check = chan_recv_check, .tear_down = chan_tear_down },
    { "recv_n", .done = 1, .set_up = chan_set_up, .call = chan_recv_n_call, .step = chan_send_step, .check = chan_recv_check,
      .tear_down = chan_tear_down },
    { "send spsc", .set_up = make_full_spsc, .call = chan_send_call, .step = chan_take_step, .check = chan_send_check,
      .make_ready = chan_drain, .tear_down = chan_tear_down },
    { "send_n spsc", .done = 1, .set_up = make_full_spsc, .call = chan_send_n_call, .step = chan_take_step, .check = chan_send_check,
      .tear_down = chan_tear_down },
    { "recv spsc", .done = 1, .set_up = make_spsc, .call = chan_recv_call, .step = chan_send_step, .check = chan_recv_check,
      .make_ready = chan_fill, .tear_down = chan_tear_down },
    { "recv_n spsc", .done = 1, .set_up = make_spsc, .call = chan_recv_n_call, .step = chan_send_step, .check = chan_recv_check,
      .tear_down = chan_tear_down },
    { "bcast_send", .set_up = bcast_set_up, .call = bcast_call, .step = bcast_step, .check = bcast_check, .tear_down = bcast_tear_down },
    { "bcast_send behind another", .set_up = bcast_set_up_behind_another, .call = bcast_call, .step = bcast_step,
      .check = bcast_check_behind_another, .tear_down = bcast_tear_down },
    { "mutex", .not_cancelled = ALL_WAITS, .set_up = mutex_set_up, .call = mutex_call, .step = mutex_step, .check = mutex_check,
      .tear_down = mutex_tear_down },
    { "rdlock", .not_cancelled = ALL_WAITS, .set_up = rdlock_set_up, .call = rdlock_call, .step = rwlock_step, .check = rwlock_check,
      .tear_down = rwlock_tear_down },
    { "wrlock", .not_cancelled = ALL_WAITS, .set_up = wrlock_set_up, .call = wrlock_call, .step = rwlock_step, .check = rwlock_check,
      .tear_down = rwlock_tear_down },
    { "cond_wait", .not_cancelled = 2, .not_timed_out = 2, .set_up = clear_stage, .call = cond_call, .step = cond_step,
      .check = cond_check, .tear_down = cond_tear_down },
    { "cond_wait with another behind it", .not_cancelled = 2, .not_timed_out = 2, .set_up = clear_stage, .call = cond_call,
      .step = cond_step_two, .check = cond_check_two, .tear_down = cond_tear_down },
    { "once", .done = ONCE_RESULT, .set_up = once_set_up, .call = once_call, .step = event_step, .check = once_check,
      .make_ready = once_make_ready, .tear_down = event_tear_down },
    { "once by who runs it", WAITS_ANYWAY, .done = ONCE_RESULT, .not_timed_out = ALL_WAITS, .now = LEFT_OUT, .set_up = clear_stage,
      .call = once_call, .step = event_step, .check = once_running_check, .tear_down = event_tear_down },
    { "barrier", .set_up = barrier_set_up, .call = barrier_call, .step = barrier_step, .check = barrier_check,
      .tear_down = barrier_tear_down },
    { "await", .set_up = futures_set_up, .call = await_call, .step = complete_first, .check = futures_check,
      .make_ready = complete_first, .tear_down = futures_tear_down },
    { "wait_for", .set_up = futures_set_up, .call = wait_for_call, .step = complete_first, .check = wait_for_check,
      .make_ready = complete_first, .tear_down = futures_tear_down },
    { "wait_for a task", FIBERS_ONLY | WAITS_ANYWAY, .set_up = task_set_up, .call = wait_for_call, .step = event_step,
      .check = wait_for_check, .tear_down = futures_tear_down },
    { "wait_for a task that does not stop", FIBERS_ONLY | WAITS_ANYWAY, .not_cancelled = ALL_WAITS, .not_timed_out = ALL_WAITS,
      .now = LEFT_OUT, .set_up = stubborn_task_set_up, .call = wait_for_call, .step = event_step, .check = wait_for_check,
      .tear_down = futures_tear_down },
    { "wait_any", .done = 1, .set_up = futures_set_up, .call = wait_any_call, .step = complete_second, .check = futures_check,
      .make_ready = complete_second, .tear_down = futures_tear_down },
    { "wait_all", .set_up = futures_set_up, .call = wait_all_call, .step = complete_one_by_one, .check = futures_check,
      .make_ready = complete_both, .tear_down = futures_tear_down },
    { "gather", .set_up = futures_set_up, .call = gather_call, .step = complete_both, .check = futures_check,
      .make_ready = complete_both, .tear_down = futures_tear_down },
    { "gather of which one fails", .done = -EIO, .set_up = futures_set_up, .call = gather_call, .step = fail_second, .check = futures_check,
      .tear_down = futures_tear_down },
    { "blocking", FIBERS_ONLY | SELDOM, .done = JOB_RESULT, .not_cancelled = 2, .not_timed_out = 2, .set_up = blocking_set_up,
      .call = blocking_call, .step = blocking_step, .check = blocking_check, .tear_down = blocking_tear_down },
    { "blocking that has begun", FIBERS_ONLY | SELDOM | CUT_BEFORE, .done = JOB_RESULT, .not_cancelled = ALL_WAITS,
      .not_timed_out = ALL_WAITS, .now = LEFT_OUT, .set_up = clear_stage, .call = blocking_call, .step = blocking_begun_step,
      .check = blocking_begun_check, .tear_down = nothing },
    { "select", .set_up = select_set_up, .call = select_call, .step = select_step, .check = select_check, .make_ready = select_make_ready,
      .tear_down = select_tear_down },
    { "select_ordered", .set_up = select_set_up, .call = select_ordered_call, .step = select_step, .check = select_check,
      .make_ready = select_make_ready, .tear_down = select_tear_down },
    { "scope_wait", FIBERS_ONLY | WAITS_ANYWAY, .set_up = clear_stage, .call = scope_wait_call, .step = event_step, .check = event_check,
      .tear_down = event_tear_down },
    { "scope_wait for a child that does not stop", FIBERS_ONLY | WAITS_ANYWAY, .not_cancelled = ALL_WAITS,
      .not_timed_out = ALL_WAITS, .now = LEFT_OUT, .set_up = clear_stage, .call = scope_wait_stubborn_call, .step = event_step,
      .check = event_check, .tear_down = event_tear_down },
    { "scope_run", FIBERS_ONLY, .set_up = clear_stage, .call = scope_run_call, .step = event_step, .check = event_check,
      .tear_down = event_tear_down },
};

/* --- what is no row --------------------------------------------------------------------------------------------------------- */

/* A wait that no cancel ends is no occasion to notice one: the calls around it that do not wait are counted on. */
struct hidden {
    sley_fn *wait;
    int calls, rc;
};

static int set_soon(void *arg) { sley_event_set(arg); return 0; }

static int wait_shielded(void *arg)
{
    sley_event e = { { 0 } };
    int rc;

    (void)arg;
    EXPECT(sley_scope_go(sley_scope_root(), set_soon, &e) == 0);
    sley_shield_begin();
    rc = sley_event_wait(&e, SLEY_FOREVER);
    sley_shield_end();
    return rc;
}

/* Holds the mutex until the other waits for it. */
static int hold_the_mutex(void *arg)
{
    struct sl_fiber *other = arg;

    EXPECT(sley_mutex_lock(&stage.mutex, SLEY_FOREVER) == 0);
    stage.runs = 1;
    while (SL_WORD_STATE(sl_load_acquire(&other->word)) != SL_WAITING)
        (void)sley_yield();
    sley_mutex_unlock(&stage.mutex);
    return 0;
}

static int wait_for_mutex(void *arg)
{
    (void)arg;
    stage.runs = 0;
    EXPECT(sley_scope_go(sley_scope_root(), hold_the_mutex, sl_current()) == 0);
    while (!stage.runs)
        (void)sley_yield();
    EXPECT(sley_mutex_lock(&stage.mutex, SLEY_FOREVER) == 0);
    sley_mutex_unlock(&stage.mutex);
    return 0;
}

static int wait_and_send(void *arg)
{
    struct hidden *h = arg;
    sley_scope s;
    int number = 0;

    sley_scope_init(&s, SLEY_FOREVER);
    sley_scope_cancel(&s);
    for (h->calls = 0; h->calls <= 3 * SL_DIRECT_STREAK; h->calls++) {
        EXPECT(h->wait(NULL) == 0);
        if ((h->rc = sley_chan_send(stage.chan, &number, SLEY_FOREVER)) < 0)
            break;
    }
    return sley_scope_wait(&s, 0, SLEY_FOREVER);
}

static void play_hidden(sley_fn *wait)
{
    struct hidden h = { .wait = wait };

    clear_stage();
    scene.cast = FIBERS;
    scene.unmet = NULL;
    stage.chan = sley_chan_create(sizeof(int), 1000);
    assert_int_equal(sley_run(NULL, wait_and_send, &h), 0);
    sley_chan_destroy(stage.chan);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
    assert_int_equal(h.rc, -ECANCELED);
    assert_true(h.calls <= SL_DIRECT_STREAK);
}

static void a_shielded_wait_does_not_hide_the_cancel(void **state)
{
    (void)state;
    play_hidden(wait_shielded);
}

static void a_wait_for_a_lock_does_not_hide_the_cancel(void **state)
{
    (void)state;
    play_hidden(wait_for_mutex);
}

static _Atomic(int) others_have_run;

static int run_once(void *arg)
{
    (void)arg;
    others_have_run = 1;
    return 0;
}

static int yield_cancelled(void *arg)
{
    int *results = arg;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    results[0] = sley_yield();
    sley_scope_cancel(&s);
    sley_go(run_once, NULL);
    do
        results[1] = sley_yield();
    while (!others_have_run && results[1] == -ECANCELED);
    results[2] = sley_yield();
    sley_shield_begin();
    results[3] = sley_yield();
    sley_shield_end();
    results[4] = sley_scope_wait(&s, 0, SLEY_FOREVER);
    results[5] = sley_yield();
    return 0;
}

static void yield_tells_of_a_cancel_and_lets_others_run(void **state)
{
    int results[6];

    (void)state;
    others_have_run = 0;
    assert_int_equal(sley_run(NULL, yield_cancelled, results), 0);
    for (int i = 0; i < 6; i++)
        assert_int_equal(results[i], i == 1 || i == 2 ? -ECANCELED : 0);
}

static const struct CMUnitTest others[] = {
    cmocka_unit_test(yield_tells_of_a_cancel_and_lets_others_run),
    cmocka_unit_test(a_shielded_wait_does_not_hide_the_cancel),
    cmocka_unit_test(a_wait_for_a_lock_does_not_hide_the_cancel),
};

int main(int argc, char **argv)
{
    setenv("SLEY_BLOCKING_THREADS", "1", 1);
    return run_rows("cancel", rows, sizeof rows / sizeof *rows, others, sizeof others / sizeof *others, argc, argv);
}
