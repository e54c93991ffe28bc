/* signal.c - signals as something to wait for, by fibers of any runtime and by plain threads: sley_signal_wait, and arms of a select.
 *
 * The handler only sets a bit in `arrived` and rings an eventfd, the bell. A worker's ring polls the bell while fibers wait, a plain thread
 * that waits polls it itself. Whoever finds it rung silences it and hands out what has come: everybody who waits for one of the signals
 * gets the lowest. What nobody wants stays in `kept`, for whoever comes next.
 *   S1  A signal is in `arrived` until somebody takes the lock, then in `kept` until somebody gets it, who is claimed or does not wait.
 *       So it is lost with no wait that ends otherwise, and is in nobody's hands in between.
 *   S2  `rounds` counts what has come and what was given; given_at says in which round a signal was given last. Every wait knows the round
 *       in which it began, and a node the one in which it was last looked at: what was given since is for it too. So a wait that
 *       looks again, or a select that starts over, has missed nothing.
 *   S3  The list is sorted by these rounds: who joins it has just been looked at, and who is looked at in vain goes to its end. So
 *       whoever hands out works from the head until a node of the present round stands there, SL_WAKE_ALL_BATCH a hold, and several may.
 *   S4  While a fiber is in the list the bell is polled in some ring, or the end of that poll is on its way to sl_signal_poll_done.
 *
 * Rejected: one waiter that listens for the others. It may leave, and must appoint another; a select cannot be it. And a flag a waiter that
 * says it was given something, taken back if something else has won: others that could have had it have gone by then.
 *
 * order [signal.1]: the handler sets the bit, then rings; who listens silences the bell, then takes the bits. A bit set in between rings
 * again.
 * order [signal.2]: the bell is made, then handlers are installed, then they are shown as installed; who finds them so may use the bell. */
#include "io/arms.h"
#include "io/call.h"
#include "io/fork.h"

#include <signal.h>
#include <sley/process.h>
#include <sys/eventfd.h>

#define SIGNALS 64
#define TAG_MASK 0xffffffu
#define ROUND_PAST ((uint32_t)1 << 30) /* further back than that no round is remembered, so that they may wrap */

/* ThreadSanitizer runs a handler when the thread next calls something that it intercepts: the thread must come back for that. */
#ifdef SL_TSAN
#define RESTART 0
#else
#define RESTART SA_RESTART
#endif

/* Not to be had: the two that cannot be caught, and libc's own. */
#define FORBIDDEN (SLEY_SIG(SIGKILL) | SLEY_SIG(SIGSTOP) | SLEY_SIG(32) | SLEY_SIG(33))

static _Atomic(uint64_t) arrived;        /* set by the handler */
static _Atomic(int)      bell = -1;      /* an eventfd, made at the first wait, kept for ever */
static struct sl_lock    lock;           /* all below; without it the atomic ones are hints */
static _Atomic(uint64_t) installed;      /* signals whose handler is ours */
static uint64_t          changing;       /* those whose handler somebody is just changing, without the lock; before[] is his */
static struct sigaction  before[SIGNALS];
static _Atomic(uint64_t) kept;
static _Atomic(uint32_t) rounds;         /* S2; wraps */
static uint32_t          given_at[SIGNALS];
static struct sl_wait_list waiters;      /* nodes: value = the set, result = the round, once claimed the signal or -errno */
static struct sl_worker *poll_worker;    /* whose ring polls the bell; NULL: none */
static uint32_t          poll_tag;

static void on_signal(int signo)
{
    uint64_t one = 1;

    sl_or_acq_rel(&arrived, SLEY_SIG(signo)); /* order [signal.1] */
    sl_sys_write(sl_load_relaxed(&bell), &one, sizeof(one)); /* stored before the handler was installed */
}

/* ---- handlers ---- */

static int make_bell(void)
{
    int none = -1, fd;

    if (sl_load_acquire(&bell) >= 0) /* [signal.2] */
        return 0;
    fd = sl_sys_eventfd(EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return fd;
    if (!sl_cas_acq_rel(&bell, &none, fd)) /* [signal.2] */
        sl_sys_close(fd);
    return 0;
}

/* Take the signals of set, for a change of their handlers, from whoever else changes some: those that are installed or not, as asked for.
 * Called and returns with the lock held. */
static uint64_t begin_change(uint64_t set, bool are_installed)
{
    for (;;) {
        uint64_t mine = are_installed ? set & sl_load_relaxed(&installed) : set & ~sl_load_relaxed(&installed); /* under the lock */

        if (!(set & changing)) {
            changing |= mine;
            return mine;
        }
        sl_lock_release(&lock);
        sl_thread_yield();
        sl_lock_acquire(&lock);
    }
}

/* 0; -EINVAL, -EMFILE... */
static int install(uint64_t set)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK | RESTART };
    uint64_t mine;
    int rc;

    if (set == 0 || set & FORBIDDEN)
        return -EINVAL;
    if (!(set & ~sl_load_acquire(&installed)) && sl_load_relaxed(&bell) >= 0) /* [signal.2] only a forked child has no bell then */
        return 0;
    if ((rc = make_bell()) < 0)
        return rc;
    sigfillset(&action.sa_mask);
    sl_lock_acquire(&lock);
    mine = begin_change(set, false);
    sl_lock_release(&lock);
    for (uint64_t left = mine; left != 0; left &= left - 1) {
        int signo = __builtin_ctzll(left) + 1;
        struct sigaction old;

        sigaction(signo, &action, &old); /* cannot fail: the number is good */
        if (old.sa_handler != on_signal) /* a fork may have cut this short */
            before[signo - 1] = old;
    }
    sl_lock_acquire(&lock);
    sl_store_release(&installed, sl_load_relaxed(&installed) | mine); /* order [signal.2] */
    changing &= ~mine;
    sl_lock_release(&lock);
    return 0;
}

/* ---- giving; all of it under the lock ---- */

static void next_round(void)
{
    uint32_t now = sl_load_relaxed(&rounds) + 1; /* under the lock */

    sl_store_relaxed(&rounds, now); /* under the lock */
    if (now % ROUND_PAST == 0)
        for (int i = 0; i < SIGNALS; i++)
            if (now - given_at[i] > ROUND_PAST)
                given_at[i] = now - ROUND_PAST;
}

/* What the handler has seen becomes part of what is kept. */
static void collect(void)
{
    uint64_t come = sl_swap_acq_rel(&arrived, 0); /* [signal.1] */

    if (come == 0)
        return;
    sl_store_relaxed(&kept, sl_load_relaxed(&kept) | come); /* under the lock */
    next_round();
}

/* The lowest signal that has come for n; 0: none. */
static int come_for(const struct sl_wait_node *n)
{
    for (uint64_t left = (uint64_t)n->value; left != 0; left &= left - 1) {
        int i = __builtin_ctzll(left);

        if (sl_load_relaxed(&kept) >> i & 1 || (int32_t)(given_at[i] - (uint32_t)n->result) > 0) /* under the lock */
            return i + 1;
    }
    return 0;
}

static void give(struct sl_wait_node *n, int signo)
{
    uint64_t all = sl_load_relaxed(&kept); /* under the lock */

    if (all & SLEY_SIG(signo)) {
        sl_store_relaxed(&kept, all & ~SLEY_SIG(signo)); /* under the lock */
        next_round();
        given_at[signo - 1] = sl_load_relaxed(&rounds); /* under the lock */
    }
    n->result = signo;
}

static void looked_at(struct sl_wait_node *n)
{
    n->result = (int32_t)sl_load_relaxed(&rounds); /* under the lock */
}

/* Hand out what has come to those in the list. The lock is held, and is released. */
static void hand_out(void)
{
    for (;;) {
        struct sl_woken woken = { NULL, NULL };
        struct sl_wait_node *n;
        unsigned room = SL_WAKE_ALL_BATCH;
        int signo;

        while ((n = waiters.head) != NULL && (uint32_t)n->result != sl_load_relaxed(&rounds) && room-- > 0) { /* S3; under the lock */
            sl_wait_list_remove(&waiters, n);
            if ((signo = come_for(n)) == 0) {
                looked_at(n);
                sl_wait_list_push(&waiters, n);
            } else if (sl_claim(n, SL_ARM_EVENT, &woken)) {
                give(n, signo);
            }
        }
        if (n == NULL || (uint32_t)n->result == sl_load_relaxed(&rounds)) { /* under the lock */
            sl_lock_release(&lock);
            sl_woken_ready(&woken);
            return;
        }
        sl_lock_release(&lock);
        sl_woken_ready(&woken);
        sl_lock_acquire(&lock);
    }
}

/* Claim the fibers in the list, who have been given nothing. error 0: by SL_ARM_CLOSE, they are to start over. */
static void turn_out(int error, struct sl_woken *woken)
{
    struct sl_wait_node *next;

    for (struct sl_wait_node *n = waiters.head; n != NULL; n = next) {
        next = n->next;
        if (n->fiber->flags & SL_FIBER_THREAD)
            continue;
        if (sl_claim(n, error != 0 ? SL_ARM_EVENT : SL_ARM_CLOSE, woken) && error != 0)
            n->result = error;
        sl_wait_list_remove(&waiters, n);
    }
}

/* ---- the bell ---- */

static void silence(void)
{
    uint64_t rings;

    sl_sys_read(sl_load_relaxed(&bell), &rings, sizeof(rings)); /* order [signal.1]; made before anybody could wait */
}

int sl_signal_bell(void)
{
    return sl_load_relaxed(&bell); /* made before an arm was linked */
}

void sl_signal_bell_rang(void)
{
    silence();
    sl_lock_acquire(&lock);
    collect();
    hand_out();
}

/* Under the lock, after sl_poll_reserve. */
static void poll_bell(void)
{
    poll_tag = (poll_tag + 1) & TAG_MASK;
    poll_worker = sl_poll_arm(sl_load_relaxed(&bell), POLLIN, poll_tag);
}

bool sl_signal_poll_done(int fd, uint32_t tag, int result)
{
    struct sl_woken woken = { NULL, NULL };

    if (fd != sl_load_relaxed(&bell)) /* whose poll it is was armed after it was made */
        return false;
    silence();
    sl_poll_reserve(1);
    sl_lock_acquire(&lock);
    if (poll_worker != NULL && poll_tag == tag) {
        poll_worker = NULL;
        if (result < 0 && result != -ECANCELED) /* it cannot be polled any more */
            turn_out(result, &woken);
        else if (waiters.head != NULL) /* S4; a thread's node is reason enough: threads that wait are few */
            poll_bell();
    }
    collect();
    hand_out();
    sl_woken_ready(&woken);
    return true;
}

void sl_signal_runtime_gone(struct sley_runtime *rt)
{
    struct sl_woken woken = { NULL, NULL };

    sl_lock_acquire(&lock);
    if (poll_worker != NULL && ((struct sl_thread *)poll_worker)->rt == rt) {
        poll_worker = NULL;
        turn_out(0, &woken); /* those of other runtimes poll the bell themselves */
    }
    sl_lock_release(&lock);
    sl_woken_ready(&woken);
}

/* ---- as an arm of a select ---- */

void sl_signal_arm_begin(struct sl_wait_node *n)
{
    looked_at(n); /* without the lock: a round that this thread knows to be over is seen to be */
}

static bool signal_ready(struct sl_wait_node *n)
{
    uint64_t set = (uint64_t)n->value;

    return set & (sl_load_relaxed(&kept) | sl_load_relaxed(&arrived)) || (uint32_t)n->result != sl_load_relaxed(&rounds) || /* hints */
           set == 0 || set & ~sl_load_relaxed(&installed); /* hint: to be installed, or refused */
}

static enum sl_armed signal_arm(struct sl_wait_node *n, struct sl_fiber *f, enum sl_arm_mode mode)
{
    int rc = install((uint64_t)n->value), signo;
    bool on_thread = f->flags & SL_FIBER_THREAD;
    enum sl_armed armed = SL_ARMED_DONE;

    if (rc < 0) {
        if (mode == SL_ARM_LINK && !sl_claim_self(f))
            return SL_ARMED_LOST;
        n->result = rc;
        return SL_ARMED_DONE;
    }
    if (mode == SL_ARM_LINK && !on_thread)
        sl_poll_reserve(1);
    sl_lock_acquire(&lock);
    collect();
    signo = come_for(n);
    if (signo == 0) {
        armed = mode == SL_ARM_LINK ? SL_ARMED_LINKED : SL_ARMED_NOT_YET;
        looked_at(n);
        if (mode == SL_ARM_LINK) {
            sl_wait_list_push(&waiters, n);
            if (!on_thread && poll_worker == NULL)
                poll_bell();
        }
    } else if (mode == SL_ARM_LINK && !sl_claim_self(f)) {
        armed = SL_ARMED_LOST;
    } else {
        give(n, signo);
    }
    hand_out(); /* others may wait for what was collected, or for what was given */
    return armed;
}

static void signal_disarm(struct sl_wait_node *n)
{
    sl_lock_acquire(&lock);
    if (sl_node_linked(n))
        sl_wait_list_remove(&waiters, n);
    sl_lock_release(&lock);
}

static bool signal_settle(struct sl_wait_node *n, unsigned why)
{
    (void)n;
    return why != SL_ARM_CLOSE;
}

const struct sl_arm_ops sl_signal_arm = { signal_ready, signal_arm, signal_disarm, signal_settle };

/* ---- sley_signal_wait: a select over one arm ---- */

int sley_signal_wait(uint64_t set, sley_time deadline)
{
    struct sl_fiber *f = sl_current();
    struct sl_wait_node node = { .kind = SLEY_CASE_SIGNAL, .value = (int64_t)set };
    int rc = sl_deadline_check(deadline);

    if (rc < 0)
        return rc;
    if (sl_streak_cancelled(f))
        return -ECANCELED;
    sl_signal_arm_begin(&node);
    if (signal_arm(&node, f, SL_ARM_TRY) == SL_ARMED_DONE)
        return node.result;
    for (;;) {
        rc = sl_wait_begin_many(f, deadline, SL_WAIT_SIGNAL, NULL);
        if (rc < 0)
            return rc;
        sl_node_init(&node, f);
        if (signal_arm(&node, f, SL_ARM_LINK) == SL_ARMED_DONE) { /* there is no other arm to lose to */
            sl_wait_end(f);
            return node.result;
        }
        sl_fence_seq_cst(); /* [cancel.1] */
        if (sl_cancel_is_due(f) && sl_claim_self(f)) {
            sl_wait_end(f);
            sl_scope_note_cut(f);
            rc = -ECANCELED;
        } else {
            rc = sl_park_many_on(f, &node, 1);
        }
        signal_disarm(&node);
        if (rc < 0)
            return rc;
        if (rc == SL_ARM_TIMEOUT)
            return -ETIMEDOUT;
        if (rc == SL_ARM_CANCEL)
            return -ECANCELED;
        if (rc == SL_ARM_EVENT)
            return node.result;
    }
}

void sley_signal_release(uint64_t set)
{
    uint64_t mine;

    sl_lock_acquire(&lock);
    mine = begin_change(set, true);
    sl_lock_release(&lock);
    for (uint64_t left = mine; left != 0; left &= left - 1) {
        int signo = __builtin_ctzll(left) + 1;

        sigaction(signo, &before[signo - 1], NULL);
    }
    sl_lock_acquire(&lock);
    collect();
    sl_store_relaxed(&kept, sl_load_relaxed(&kept) & ~set); /* under the lock */
    sl_store_relaxed(&installed, sl_load_relaxed(&installed) & ~mine); /* under the lock */
    changing &= ~mine;
    hand_out();
}

void sl_signal_reset(void)
{
    lock = (struct sl_lock){ 0 };
    sl_store_relaxed(&bell, -1); /* one thread. The handlers stay installed, and what arrives is kept */
    changing = 0;
    waiters = (struct sl_wait_list){ 0 };
    poll_worker = NULL;
}
