/* spsc.c - channels of one sender and one receiver at a time: the same ring, and no lock and no read-modify-write for who need not wait.
 *
 *   Q1  The sender alone stores send.passed and what else is on its side, the receiver alone what is on the other; `other_waits` and
 *       `cost_barrier` of a side are written by the other one. `waiters` of both, `flags`, `end` and `ended` change under send.lock, the
 *       only lock.
 *   Q2  Who cannot go on announces itself (other_waits of the other side), locks, looks again, links its node, parks. Who moves a message
 *       looks at other_waits of its own side afterwards; if it is set it locks, claims who is linked, moves for it what can be moved,
 *       unlinks it and withdraws the announcement; if nobody is linked the announcement stays, for whoever made it has yet to lock and
 *       look. A claim succeeds once, so a wait ended by time, cancel or close has moved nothing.
 *   Q3  Announcement, then look; message, then look at the announcement: both sides need a full barrier in between. That of who waits is
 *       its lock. The other side has it for nothing as long as it calls from one thread (`thread`): who waits on that same thread needs
 *       none, from another thread it makes a membarrier for both. Having paid so, it asks (cost_barrier) for fences: the other side, when
 *       it finds that somebody waits, sets `thread` to NULL and makes a fence at each of its next FENCED_CALLS calls, and who waits needs
 *       no membarrier meanwhile. So ping-pong on one worker costs neither, over two workers fences, and a stream of many messages a wait a
 *       membarrier a wait.
 *   Q4  `thread` changes to another than NULL only before a full fence, and to NULL only behind what it was good for. Who waits reads it
 *       behind its own barrier. So if it reads NULL, or its own, what follows there is fenced, or on the same thread.
 *   Q5  A side is busy from before a call touches it to its last access; that of who parked ends with the claim. Who frees the
 *       channel has seen that the other one is not: the receiver of the last message sees it through that message. A call that finds
 *       its side busy is a second sender or receiver.
 *   Q6  close sets CLOSED, makes the barrier, then fixes `end`, under the lock; a sender that finds CLOSED behind its message does so
 *       itself if it is first: either way a message before `end` has gone and one behind has not. Only once the closer has nothing more to
 *       do with the channel (ENDED) a receiver is told of the end; until then it waits. With CLOSED set it takes under the lock, up to
 *       `end`.
 *
 * Without a buffer there is nothing to gain (every message is handed over, and every call may wait): an ordinary channel is made.
 *
 * Rejected: a fence at every call, which costs more than all the rest of it (6 ns of 10). A membarrier at every wait: 150 to 550 ns, dear
 * when every message is waited for. A wake only, upon which who waits looks again: with a buffer of one that is two parks a message, 270 ns
 * against 98 of an ordinary channel.
 *
 * order [spsc.1]: message, full barrier, other_waits; other_waits, full barrier (lock, fence or membarrier), message: Q3.
 * order [spsc.2]: `thread`, full fence, other_waits; other_waits, full barrier, `thread`: Q4.
 * order [spsc.3]: busy is set before passed is stored, and cleared with release by the last access; who frees acquires it. */
#include "chan/chan.h"

#include "plat/cpu.h"

enum sl_spsc_busy { OUT, INSIDE, PARKED };
enum sl_spsc_ended { OPEN, FIXED, ENDED };

#define FENCED_CALLS 128 /* their fences cost about as much as the membarrier that they spare */

ALWAYS_INLINE bool sends(const sley_chan *ch, const struct side *s) { return s == &ch->send; }
ALWAYS_INLINE struct side *other(sley_chan *ch, struct side *s) { return sends(ch, s) ? &ch->recv : &ch->send; }

/* --- the two barriers --------------------------------------------------------------------------------------------------------- */

/* After a message moved: side s is not known to call from thread t alone. */
static __attribute__((noinline)) void fence(struct side *s, struct sl_thread *t)
{
    struct sl_thread *before = sl_load_relaxed(&s->thread); /* own */

    if (before != NULL || (--s->fenced_left == 0 && sl_membarrier_ready()))
        sl_store_relaxed(&s->thread, t); /* [spsc.2] before the fence */
    sl_fence_seq_cst(); /* [spsc.1] [spsc.2] */
}

/* Who waits on thread t has announced itself to side o: whether it needs a membarrier. */
static bool needs_membarrier(const struct side *o, const struct sl_thread *t)
{
    struct sl_thread *its = sl_load_acquire(&o->thread); /* [spsc.2] */

    return its != NULL && its != t;
}

static void announce(struct side *o)
{
    sl_store_relaxed(&o->other_waits, 1); /* [spsc.1] */
}

static void make_membarrier(struct side *o)
{
    sl_store_relaxed(&o->cost_barrier, 1); /* read when other_waits is */
    sl_membarrier();                       /* [spsc.1] [spsc.2] */
}

void sl_spsc_barrier(sley_chan *ch)
{
    sl_fence_seq_cst();
    if (sl_load_relaxed(&ch->send.thread) != NULL || sl_load_relaxed(&ch->recv.thread) != NULL) /* [spsc.2] */
        sl_membarrier();
}

/* --- one step ----------------------------------------------------------------------------------------------------------------- */

/* Under the lock: messages that a receiver may still take. */
static uint32_t there_are_yet(sley_chan *ch)
{
    struct side *r = &ch->recv;

    r->other_seen = ch->ended == OPEN ? sl_load_acquire(&ch->send.passed) : ch->end; /* [chan.2] */
    return r->other_seen - passed(r);
}

/* Under the lock, n has been claimed and is told everything: its call is out of the channel. */
static void release(struct side *o, struct sl_wait_node *n, int result)
{
    n->result = result;
    if (sl_load_relaxed(&o->busy) == PARKED) /* else it is a select's, which is not in a call */
        sl_store_release(&o->busy, OUT);     /* [spsc.3] for it */
}

/* Under the lock: do for who waits on side o what can be done. All nodes there are of one fiber. */
static void serve(sley_chan *ch, struct side *o, struct sl_woken *woken)
{
    struct sl_wait_node *n;
    uint32_t k;

    while ((n = o->waiters.head) != NULL) {
        if (sends(ch, o))
            k = flags_of(o) & CLOSED ? 0 : room_for(ch, count_of(n));
        else
            k = least(there_are_yet(ch), count_of(n));
        if (k == 0)
            return;
        if (sl_claim(n, SL_ARM_EVENT, woken)) {
            move(ch, o, n->data, k); /* as if it did: nobody else is on its side */
            release(o, n, (int)k);
        }
        sl_wait_list_remove(&o->waiters, n);
    }
    sl_store_relaxed(&other(ch, o)->other_waits, 0); /* Q2 */
}

/* Side s has moved k messages, and there is something to see to: somebody waits, the end, the descriptor. How many of them went. */
static __attribute__((noinline)) int see_to(sley_chan *ch, struct side *s, uint32_t k)
{
    struct sl_woken woken = { NULL, NULL };
    bool watched;
    int rc = (int)k;

    sl_lock_acquire(&ch->send.lock);
    if (sends(ch, s) && (flags_of(s) & CLOSED)) { /* Q6 */
        if (ch->ended == OPEN) {
            ch->end = passed(s);
            ch->ended = FIXED;
        } else if ((int32_t)(passed(s) - ch->end) > 0) {
            sl_store_relaxed(&s->passed, ch->end); /* nobody has looked behind `end` */
            rc = -EPIPE;
        }
    }
    if (sl_load_relaxed(&s->cost_barrier)) { /* set before other_waits was seen, or for the next time */
        sl_store_relaxed(&s->cost_barrier, 0);
        s->fenced_left = FENCED_CALLS;
        sl_store_release(&s->thread, NULL); /* [spsc.2] */
    }
    if (other(ch, s)->waiters.head != NULL) /* else who has announced itself is yet to lock and look */
        serve(ch, other(ch, s), &woken);
    watched = flags_of(s) & WATCHED;
    if (watched)
        sl_watch_hold(ch);
    sl_lock_release(&ch->send.lock);
    if (watched)
        sl_watch_settle(ch);
    sl_woken_ready(&woken);
    return rc;
}

/* Receive from a channel with CLOSED set. -EPIPE: this is the end; 0: not yet. */
static __attribute__((noinline)) int take_rest(sley_chan *ch, char *msgs, uint32_t n)
{
    struct side *r = &ch->recv;
    uint32_t k;
    int rc;

    sl_lock_acquire(&ch->send.lock);
    k = least(there_are_yet(ch), n);
    rc = k > 0 ? (int)k : ch->ended == ENDED ? -EPIPE : 0;
    sl_lock_release(&ch->send.lock);
    if (k > 0)
        move(ch, r, msgs, k); /* nobody waits for room any more, and a descriptor stays readable */
    return rc;
}

/* What side s can do without waiting: how many of n messages were moved; -EPIPE: closed, and for a receiver empty. */
ALWAYS_INLINE int step(sley_chan *ch, struct side *s, struct sl_thread *t, char *msgs, uint32_t n)
{
    uint32_t k = sends(ch, s) ? room_for(ch, n) : there_are(ch, n);

    if (__builtin_expect(flags_of(s) & CLOSED, 0)) /* behind the look at the other's passed: what is behind `end` is not taken */
        return sends(ch, s) ? -EPIPE : take_rest(ch, msgs, n);
    if (k == 0)
        return 0;
    move(ch, s, msgs, k);
    if (__builtin_expect(sl_load_relaxed(&s->thread) == t, 1)) /* own */
        sl_compiler_barrier(); /* [spsc.1] the light side */
    else
        fence(s, t);
    if (__builtin_expect(sl_load_relaxed(&s->other_waits) || flags_of(s) != ONE_TO_ONE, 0)) /* [spsc.1] */
        return see_to(ch, s, k);
    return (int)k;
}

/* Under the lock: whether step would do something. */
static bool can_step(sley_chan *ch, struct side *s)
{
    if (!(flags_of(s) & CLOSED))
        return (sends(ch, s) ? room_for(ch, 1) : there_are(ch, 1)) > 0;
    return sends(ch, s) || ch->ended == ENDED || there_are_yet(ch) > 0;
}

/* --- in and out of a call ------------------------------------------------------------------------------------------------------- */

static const char *const call_of[] = { "sley_chan_recv", "sley_chan_send" };
static const char *const bug_of[] = { "a second receiver at the same time, on a channel made for one",
                                      "a second sender at the same time, on a channel made for one" };

ALWAYS_INLINE void enter(sley_chan *ch, struct side *s)
{
    SLEY_ASSERT(sl_load_relaxed(&s->busy) == OUT, call_of[sends(ch, s)], bug_of[sends(ch, s)]); /* own, or it is the bug */
    sl_store_relaxed(&s->busy, INSIDE); /* [spsc.3] before passed is stored */
}

ALWAYS_INLINE void leave(struct side *s)
{
    sl_store_release(&s->busy, OUT); /* [spsc.3] */
}

void sl_spsc_wait_unused(sley_chan *ch)
{
    for (struct side *s = &ch->send;; s = &ch->recv) {
        uint8_t busy;

        while ((busy = sl_load_acquire(&s->busy)) != OUT) { /* [spsc.3] */
            SLEY_ASSERT(busy != PARKED, "sley_chan_destroy", "somebody waits for the channel");
            sl_thread_yield();
        }
        if (s == &ch->recv)
            return;
    }
}

/* --- waiting -------------------------------------------------------------------------------------------------------------------- */

/* Under the lock. */
static void link_waiter(sley_chan *ch, struct side *s, struct sl_wait_node *n, const struct sl_fiber *f)
{
    SLEY_ASSERT(s->waiters.head == NULL || s->waiters.head->fiber == f, call_of[sends(ch, s)], bug_of[sends(ch, s)]);
    sl_wait_list_push(&s->waiters, n);
}

/* Under the lock: the fiber waits no more on side s. */
static void withdraw(sley_chan *ch, struct side *s)
{
    if (s->waiters.head == NULL) /* else there is another node of the same select */
        sl_store_relaxed(&other(ch, s)->other_waits, 0);
}

enum { PARK = 0, LOOK_AGAIN = 1 };

/* Step has found nothing to do. PARK: the node is linked, the lock is held; or LOOK_AGAIN, -ETIMEDOUT... */
static int prepare_to_park(sley_chan *ch, struct side *s, struct sl_thread *t, struct sl_wait_node *n, sley_time deadline)
{
    struct side *o = other(ch, s);
    struct sl_fiber *f = t->current;
    bool has_membarrier;
    int rc;

    if (deadline != SLEY_NOW)
        announce(o);
    has_membarrier = deadline != SLEY_NOW && needs_membarrier(o, t); /* hint, asked again behind the lock */
    if (has_membarrier)
        make_membarrier(o);
    rc = sl_wait_begin(f, deadline, sends(ch, s) ? SL_WAIT_SEND : SL_WAIT_RECV, ch);
    sl_lock_acquire(&ch->send.lock); /* [spsc.1] */
    if (rc == PARK) {
        if ((!has_membarrier && needs_membarrier(o, t)) || can_step(ch, s))
            rc = LOOK_AGAIN;
        else if (sl_cancelled(f))
            rc = -ECANCELED;
        if (rc == PARK) {
            sl_node_init(n, f);
            link_waiter(ch, s, n, f);
            sl_store_relaxed(&s->busy, PARKED);
            return PARK;
        }
        sl_wait_end(f);
    }
    withdraw(ch, s);
    sl_lock_release(&ch->send.lock);
    return rc;
}

/* Under the lock: the wait is over, by whatever. */
static void unlink_waiter(sley_chan *ch, struct side *s, struct sl_wait_node *n)
{
    if (sl_node_linked(n))
        sl_wait_list_remove(&s->waiters, n);
    withdraw(ch, s);
}

static void stop_waiting(sley_chan *ch, struct side *s, struct sl_wait_node *n)
{
    sl_lock_acquire(&ch->send.lock);
    unlink_waiter(ch, s, n);
    sl_lock_release(&ch->send.lock);
}

/* Inlined into the four functions below, which alone stand above sl_park. As step, but never 0; and -ETIMEDOUT... */
ALWAYS_INLINE int step_or_wait(sley_chan *ch, struct side *s, char *msgs, size_t n, sley_time deadline)
{
    struct sl_thread *t = sl_self();
    struct sl_wait_node node;
    int rc;

    if ((sends(ch, s) && msgs == NULL && s->elem_bytes > 0) || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    if (sl_streak_cancelled(t->current))
        return -ECANCELED;
    enter(ch, s);
    while ((rc = step(ch, s, t, msgs, least(n, INT_MAX))) == 0) {
        unsigned why;

        node.data = msgs;
        node.value = least(n, INT_MAX);
        rc = prepare_to_park(ch, s, t, &node, deadline);
        if (rc == LOOK_AGAIN)
            continue;
        if (rc < 0)
            break;
        why = sl_park(&ch->send.lock);
        if (why == SL_ARM_EVENT || why == SL_ARM_CLOSE) { /* Q5: the channel may be gone */
            if (sends(ch, s) && node.result > 0)
                sl_count_chan_messages(node.result);
            return node.result == -EPIPE && !sends(ch, s) ? 0 : node.result;
        }
        sl_store_relaxed(&s->busy, INSIDE);
        stop_waiting(ch, s, &node);
        rc = why == SL_ARM_TIMEOUT ? -ETIMEDOUT : -ECANCELED;
        break;
    }
    leave(s);
    if (rc > 0 && sends(ch, s))
        sl_count_chan_messages(rc);
    return rc == -EPIPE && !sends(ch, s) ? 0 : rc;
}

static __attribute__((noinline)) int send_one(sley_chan *ch, char *msg, size_t one, sley_time deadline)
{
    int rc = step_or_wait(ch, &ch->send, msg, one, deadline);

    return rc > 0 ? 0 : rc;
}

static __attribute__((noinline)) int send_n(sley_chan *ch, char *msgs, size_t n, sley_time deadline)
{
    return step_or_wait(ch, &ch->send, msgs, n, deadline);
}

static __attribute__((noinline)) int recv_n(sley_chan *ch, char *msgs, size_t n, sley_time deadline)
{
    return step_or_wait(ch, &ch->recv, msgs, n, deadline);
}

static __attribute__((noinline)) int see_to_and_leave(sley_chan *ch, struct side *s, uint32_t k, int success)
{
    int rc = see_to(ch, s, k);

    leave(s);
    if (rc > 0 && sends(ch, s))
        sl_count_chan_messages(rc);
    return rc > 0 ? success : rc;
}

/* --- calls ------------------------------------------------------------------------------------------------------------------------ */

typedef int long_way(sley_chan *ch, char *msgs, size_t n, sley_time deadline);
enum answer { COUNT, ZERO }; /* when it went well */

/* What most calls come to, and without a frame. Whatever is not as usual goes the long way, from the beginning. */
ALWAYS_INLINE int
short_way(sley_chan *ch, struct side *s, char *msgs, size_t n, sley_time deadline, long_way *way, enum answer answer)
{
    struct sl_thread *t = sl_self_or_null();
    struct sl_fiber *f;
    unsigned streak;
    uint32_t k;

    if (__builtin_expect(t == NULL || sl_load_relaxed(&s->thread) != t, 0)) /* own */
        return way(ch, msgs, n, deadline);
    f = t->current;
    streak = f->streak + 1u;
    k = sends(ch, s) ? room_for(ch, least(n, INT_MAX)) : there_are(ch, least(n, INT_MAX));
    if (__builtin_expect(k == 0 || flags_of(s) != ONE_TO_ONE || streak >= SL_DIRECT_STREAK || sl_load_relaxed(&s->busy) != OUT ||
                         (sends(ch, s) && msgs == NULL) || sl_deadline_check(deadline) < 0, 0))
        return way(ch, msgs, n, deadline);
    f->streak = (uint8_t)streak;
    sl_store_relaxed(&s->busy, INSIDE); /* [spsc.3] before passed is stored */
    move(ch, s, msgs, k);
    sl_compiler_barrier(); /* [spsc.1] the light side */
    if (__builtin_expect(sl_load_relaxed(&s->other_waits) || flags_of(s) != ONE_TO_ONE, 0)) /* [spsc.1] */
        return see_to_and_leave(ch, s, k, answer == ZERO ? 0 : (int)k);
    leave(s);
    if (sends(ch, s) && t->worker != NULL)
        sl_owner_add(&t->worker->counters.chan_messages, k);
    return answer == ZERO ? 0 : (int)k;
}

int sl_spsc_send(sley_chan *ch, const void *msg, sley_time deadline)
{
    return short_way(ch, &ch->send, (char *)msg, 1, deadline, send_one, ZERO);
}

int sl_spsc_recv(sley_chan *ch, void *msg, sley_time deadline)
{
    return short_way(ch, &ch->recv, msg, 1, deadline, recv_n, COUNT);
}

int sl_spsc_send_n(sley_chan *ch, const void *msgs, size_t n, sley_time deadline)
{
    return short_way(ch, &ch->send, (char *)msgs, n, deadline, send_n, COUNT);
}

int sl_spsc_recv_n(sley_chan *ch, void *msgs, size_t n, sley_time deadline)
{
    return short_way(ch, &ch->recv, msgs, n, deadline, recv_n, COUNT);
}

/* --- arms of a select ----------------------------------------------------------------------------------------------------------- */

static int try_step(sley_chan *ch, struct side *s, char *msg)
{
    int rc;

    enter(ch, s);
    rc = step(ch, s, sl_self(), msg, 1);
    leave(s);
    return rc;
}

enum sl_armed sl_spsc_arm(sley_chan *ch, struct side *s, struct sl_wait_node *n, struct sl_fiber *f, enum sl_arm_mode mode, int *rc)
{
    struct side *o = other(ch, s);
    struct sl_thread *t = sl_self();
    bool has_membarrier;

    if (mode == SL_ARM_TRY)
        return (*rc = try_step(ch, s, n->data)) != 0 ? SL_ARMED_DONE : SL_ARMED_NOT_YET;
    announce(o);
    has_membarrier = needs_membarrier(o, t); /* hint, asked again behind the lock */
    if (has_membarrier)
        make_membarrier(o);
    sl_lock_acquire(&ch->send.lock); /* [spsc.1] */
    if (!has_membarrier && needs_membarrier(o, t)) {
        sl_lock_release(&ch->send.lock);
        make_membarrier(o);
        sl_lock_acquire(&ch->send.lock);
    }
    if (!can_step(ch, s)) {
        link_waiter(ch, s, n, f);
        expect_disarm(ch);
        sl_lock_release(&ch->send.lock);
        return SL_ARMED_LINKED;
    }
    withdraw(ch, s);
    if (!sl_claim_self(f)) {
        sl_lock_release(&ch->send.lock);
        return SL_ARMED_LOST;
    }
    sl_lock_release(&ch->send.lock);
    *rc = try_step(ch, s, n->data); /* nobody else could take what was seen */
    sl_assert(*rc != 0);
    return *rc != 0 ? SL_ARMED_DONE : SL_ARMED_AGAIN;
}

void sl_spsc_disarm(sley_chan *ch, struct side *s, struct sl_wait_node *n)
{
    bool is_last;

    sl_lock_acquire(&ch->send.lock);
    unlink_waiter(ch, s, n);
    is_last = is_last_to_come(ch);
    sl_lock_release(&ch->send.lock);
    if (is_last)
        sl_chan_drop(ch);
}

/* --- close, create -------------------------------------------------------------------------------------------------------------- */

/* Under the lock. */
static void tell_of_end(struct side *s, struct sl_woken *woken)
{
    struct sl_wait_node *n;

    while ((n = s->waiters.head) != NULL) {
        if (sl_claim(n, SL_ARM_CLOSE, woken))
            release(s, n, -EPIPE);
        sl_wait_list_remove(&s->waiters, n);
    }
}

void sl_spsc_close(sley_chan *ch)
{
    struct sl_woken woken = { NULL, NULL };
    bool was_closed, watched;

    sl_lock_acquire(&ch->send.lock);
    was_closed = flags_of(&ch->send) & CLOSED;
    set_flags(ch, flags_of(&ch->send) | CLOSED);
    sl_lock_release(&ch->send.lock);
    if (was_closed)
        return;
    sl_fence_seq_cst(); /* [spsc.1] CLOSED as an announcement to the sender */
    if (needs_membarrier(&ch->send, sl_self()))
        sl_membarrier(); /* [spsc.1] */
    sl_lock_acquire(&ch->send.lock);
    if (ch->ended == OPEN)
        ch->end = sl_load_acquire(&ch->send.passed); /* [chan.2] */
    ch->ended = ENDED;
    serve(ch, &ch->recv, &woken); /* a message that has just come */
    tell_of_end(&ch->send, &woken);
    tell_of_end(&ch->recv, &woken);
    watched = flags_of(&ch->send) & WATCHED;
    if (watched)
        sl_watch_hold(ch);
    sl_lock_release(&ch->send.lock);
    if (watched)
        sl_watch_settle(ch);
    sl_woken_ready(&woken);
}

sley_chan *sley_chan_create_spsc(size_t elem_bytes, size_t capacity)
{
    sley_chan *ch = sl_chan_create(elem_bytes, capacity, capacity > 0 ? ONE_TO_ONE : 0);

    if (ch != NULL)
        ch->send.fenced_left = ch->recv.fenced_left = 1; /* the first call says on which thread it is */
    return ch;
}
