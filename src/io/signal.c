/* signal.c - signals as something to wait for, by fibers of any runtime and by plain threads.
 *
 * The handler only sets a bit in `arrived` and rings an eventfd. One waiter at a time, the listener, waits on that eventfd; the others
 * park in a list. Whoever comes by hands out what has arrived: everybody who waits for one of the signals gets the lowest. What nobody
 * wants stays in `kept`, for whoever comes next. A listener that leaves makes another waiter the listener.
 *   S1  While somebody waits there is a listener.
 *   S2  A signal in arrived or kept is in no waiter's hands; handing it out removes it under the lock.
 * order [signal.1]: the handler sets the bit, then rings; the listener silences the bell, then takes the bits. A bit set in between rings
 * again.
 * order [signal.2]: the bell is made, then shown; who finds it shown may use it. */
#include "io/fork.h"
#include "io/sys.h"
#include "sched/park.h"

#include <signal.h>
#include <sley/io.h>
#include <sley/process.h>
#include <string.h>
#include <sys/eventfd.h>

#define SIGNALS 64

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
static struct sl_lock    lock;           /* all below */
static uint64_t          installed;      /* signals whose handler is ours */
static struct sigaction  before[SIGNALS];
static uint64_t          kept;           /* arrived while nobody waited */
/* Nodes: data = the set, result = the signal, 0 so far. */
static struct sl_wait_list  waiters;
static struct sl_wait_node *listener;    /* in no list; NULL: nobody waits */

static void on_signal(int signo)
{
    uint64_t one = 1;

    sl_or_acq_rel(&arrived, SLEY_SIG(signo)); /* order [signal.1] */
    sl_sys_write(sl_load_relaxed(&bell), &one, sizeof(one)); /* stored before the handler was installed */
}

/* Under the lock. The lowest signal of set that has come; 0: none. */
static int lowest(uint64_t set)
{
    return kept & set ? __builtin_ctzll(kept & set) + 1 : 0;
}

static void append(struct sl_fiber **first, struct sl_fiber **last, struct sl_fiber *f)
{
    sl_store_relaxed(&f->next, NULL); /* the claimer's, until it is ready */
    if (*last != NULL)
        sl_store_relaxed(&(*last)->next, f);
    else
        *first = f;
    *last = f;
}

/* Under the lock: the lowest signal that n wants and that has come, if it has none yet. Its bit in a set; 0: none. */
static uint64_t give(struct sl_wait_node *n)
{
    uint64_t set = *(const uint64_t *)n->data;

    if (n->result == 0)
        n->result = lowest(set);
    return n->result != 0 ? SLEY_SIG(n->result) : 0;
}

/* Under the lock: give what has come to all who want it: to me, the caller, to the listener, who finds it when the bell wakes it, and to
 * those who park. The list of those to be made ready. */
static struct sl_fiber *hand_out(struct sl_wait_node *me)
{
    struct sl_fiber *first = NULL, *last = NULL;
    struct sl_wait_node *next;
    uint64_t given;

    kept |= sl_swap_acq_rel(&arrived, 0); /* [signal.1] */
    given = give(me);
    if (listener != NULL && listener != me)
        given |= give(listener);
    for (struct sl_wait_node *n = waiters.head; n != NULL; n = next) {
        next = n->next;
        if (lowest(*(const uint64_t *)n->data) == 0)
            continue;
        sl_wait_list_remove(&waiters, n);
        if (sl_claim(n, SL_ARM_EVENT)) {
            given |= give(n);
            append(&first, &last, n->fiber);
        }
    }
    kept &= ~given;
    return first;
}

/* Under the lock, the listener has gone: make one of those who wait the listener. Who is to be made ready; NULL: nobody waits. */
static struct sl_fiber *appoint(void)
{
    struct sl_wait_node *n;

    listener = NULL;
    while (listener == NULL && (n = waiters.head) != NULL) {
        sl_wait_list_remove(&waiters, n);
        if (sl_claim(n, SL_ARM_EVENT))
            listener = n;
    }
    return listener != NULL ? listener->fiber : NULL;
}

/* 0; -EINVAL, -EMFILE... */
static int install(uint64_t set)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK | RESTART };
    int fd = sl_load_acquire(&bell); /* [signal.2] */

    if (set == 0 || set & FORBIDDEN)
        return -EINVAL;
    if (fd < 0) {
        int none = -1;

        fd = sl_sys_eventfd(EFD_CLOEXEC | EFD_NONBLOCK);
        if (fd < 0)
            return fd;
        if (!sl_cas_acq_rel(&bell, &none, fd)) /* [signal.2] */
            sl_sys_close(fd);
    }
    sigfillset(&action.sa_mask);
    sl_lock_acquire(&lock);
    for (uint64_t left = set & ~installed; left != 0; left &= left - 1) {
        int signo = __builtin_ctzll(left) + 1;

        sigaction(signo, &action, &before[signo - 1]); /* cannot fail: the number is good */
        installed |= SLEY_SIG(signo);
    }
    sl_lock_release(&lock);
    return 0;
}

/* The listener waits until something arrives. 0: look again; -errno. */
static int listen_once(sley_time deadline)
{
    int fd = sl_load_relaxed(&bell);
    uint64_t rings;
    int rc = sley_fd_wait(fd, POLLIN, deadline);

    sl_sys_read(fd, &rings, sizeof(rings)); /* [signal.1] */
    return rc < 0 ? rc : 0;
}

int sley_signal_wait(uint64_t set, sley_time deadline)
{
    struct sl_fiber *f = sl_current(), *woken, *successor = NULL;
    struct sl_wait_node node = { .fiber = f, .data = &set };
    int rc = sl_deadline_check(deadline);

    if (rc < 0 || (rc = install(set)) < 0)
        return rc;
    for (;;) {
        int begun = sl_wait_begin(f, deadline, SL_WAIT_EVENT, NULL);
        bool listening;

        sl_lock_acquire(&lock);
        woken = hand_out(&node);
        if (rc == 0)
            rc = begun < 0 ? begun : sl_cancelled(f) ? -ECANCELED : 0;
        if (rc == 0 && node.result == 0 && woken == NULL && listener != NULL && listener != &node) {
            unsigned why;

            node.sequence = sl_wait_sequence(f);
            sl_wait_list_push(&waiters, &node);
            why = sl_park(&lock);
            if (why == SL_ARM_EVENT)
                continue; /* with a result, or as the listener */
            sl_lock_acquire(&lock);
            if (node.linked)
                sl_wait_list_remove(&waiters, &node);
            sl_lock_release(&lock);
            rc = why == SL_ARM_CANCEL ? -ECANCELED : -ETIMEDOUT;
            continue;
        }
        if (begun == 0)
            sl_wait_end(f);
        if (node.result != 0 || rc < 0) {
            if (listener == &node)
                successor = appoint();
            sl_lock_release(&lock);
            break;
        }
        if (listener == NULL)
            listener = &node;
        listening = listener == &node;
        sl_lock_release(&lock);
        if (woken != NULL)
            sl_ready_list(woken);
        if (listening)
            rc = listen_once(deadline);
    }
    if (woken != NULL)
        sl_ready_list(woken);
    if (successor != NULL)
        sl_ready(successor);
    return node.result != 0 ? node.result : rc;
}

void sley_signal_release(uint64_t set)
{
    sl_lock_acquire(&lock);
    for (uint64_t left = set & installed; left != 0; left &= left - 1) {
        int signo = __builtin_ctzll(left) + 1;

        sigaction(signo, &before[signo - 1], NULL);
    }
    installed &= ~set;
    kept = (kept | sl_swap_acq_rel(&arrived, 0)) & ~set; /* [signal.1] */
    sl_lock_release(&lock);
}

void sl_signal_reset(void)
{
    lock = (struct sl_lock){ 0 };
    sl_store_relaxed(&bell, -1); /* one thread. The handlers stay installed, and what arrives is kept */
    waiters = (struct sl_wait_list){ 0 };
    listener = NULL;
}
