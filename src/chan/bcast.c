/* bcast.c - broadcast: every subscriber gets every later message, each through a channel of its own.
 *
 *   B1  One sender at a time has the turn (`sending`); the others wait for it in the order they came. It looks at every subscription: if
 *       one is full it waits until none is. Then it gives all of them the message. Nobody else sends into them, so room once seen stays,
 *       and the giving cannot fail: a message goes to all or, if the wait ends before, to none.
 *   B2  A subscription found full is marked WANTED under its locks, and counted in `wanted`, under ours. A receiver that makes room in it
 *       takes the mark away, under its locks, and then counts down, under ours; whoever counts to zero wakes the sender. The marks of a
 *       sender that gave up stay and are right: the next one finds the same subscriptions full.
 *   B3  A subscription is in the list until its owner closes or destroys it, or the broadcast ends; before that it is not freed. So under
 *       our lock every subscription in the list may be touched. Its owner leaves before it closes or frees anything.
 *   B4  The walks hold our lock for at most SL_WAKE_ALL_BATCH subscriptions; in between `cursor` stands at the next one, and who leaves
 *       moves it on. There is one cursor, for there is one turn.
 *   B5  This stays in memory as long as there is the user's handle or a subscription, linked or not.
 * Locks: ours, then one subscription's.
 *
 * The sender:  turn; walk: all have room? else park until `wanted` is 0; walk: give; pass the turn on.
 * A receiver:  takes, finds WANTED, takes the mark away; unlocks; locks ours, counts, claims the sender.
 *
 * Rejected: one ring for all, with a place in it for each: half the copies, but a receiver then shares its cache lines with all others,
 * and everything that a channel can do would be there twice. Waiting in the full subscription's own list: as many parks as there are full
 * ones.
 *
 * order [bcast.1]: a reference is given back with release; the last one acquires it and frees. */
#include "chan/chan.h"

struct sley_bcast {
    struct sl_lock      lock;
    bool                sending;  /* B1 */
    uint32_t            wanted;   /* B2 */
    uint32_t            capacity; /* of each subscription; constant */
    size_t              elem_bytes; /* constant */
    struct sl_wait_list turn;     /* senders that wait for theirs */
    struct sl_wait_list room;     /* the sender that waits for room */
    sley_chan          *oldest, *youngest, *cursor;
    _Atomic(uint32_t)   refs;     /* B5 */
};

/* --- under the lock ----------------------------------------------------------------------------------------------------------- */

static void claim_all(struct sl_wait_list *l, struct sl_woken *woken) /* one at most */
{
    struct sl_wait_node *n;

    while ((n = l->head) != NULL) {
        sl_claim(n, SL_ARM_EVENT, woken);
        sl_wait_list_remove(l, n);
    }
}

static void unwant(sley_bcast *b, struct sl_woken *woken)
{
    if (--b->wanted == 0)
        claim_all(&b->room, woken);
}

/* The turn is over: it is the next one's. */
static void pass_turn(sley_bcast *b, struct sl_woken *woken)
{
    struct sl_wait_node *n;

    b->sending = false;
    while (!b->sending && (n = b->turn.head) != NULL) {
        b->sending = sl_claim(n, SL_ARM_EVENT, woken);
        sl_wait_list_remove(&b->turn, n);
    }
}

static void unlink_subscription(sley_bcast *b, sley_chan *ch)
{
    if (b->cursor == ch)
        b->cursor = ch->younger;
    if (ch->older != NULL)
        ch->older->younger = ch->younger;
    else
        b->oldest = ch->younger;
    if (ch->younger != NULL)
        ch->younger->older = ch->older;
    else
        b->youngest = ch->older;
    ch->older = ch->younger = NULL;
}

static bool is_linked(const sley_bcast *b, const sley_chan *ch)
{
    return ch->older != NULL || b->oldest == ch;
}

static bool is_full(const sley_chan *ch)
{
    return passed(&ch->send) - sl_load_acquire(&ch->recv.passed) >= ch->send.capacity; /* [chan.3] */
}

static void want_if_full(sley_bcast *b, sley_chan *ch)
{
    if (!is_full(ch)) /* B1: and will not be */
        return;
    lock_both(ch);
    if (is_full(ch) && !(flags_of(&ch->send) & WANTED)) {
        set_flags(ch, flags_of(&ch->send) | WANTED);
        b->wanted++;
    }
    unlock_both(ch);
}

/* --- walks, for who has the turn ---------------------------------------------------------------------------------------------- */

/* The subscriptions of one hold of the lock: up to SL_WAKE_ALL_BATCH from the cursor on. NULL: no more. */
static sley_chan *next_of_batch(sley_bcast *b, unsigned *room)
{
    sley_chan *ch = b->cursor;

    if (ch == NULL || *room == 0)
        return NULL;
    --*room;
    b->cursor = ch->younger;
    return ch;
}

/* Called and returns with the lock held: true: nobody is full. */
static bool look_for_room(sley_bcast *b)
{
    b->cursor = b->oldest;
    for (;;) {
        unsigned room = SL_WAKE_ALL_BATCH;
        sley_chan *ch;

        while ((ch = next_of_batch(b, &room)) != NULL)
            want_if_full(b, ch);
        if (b->cursor == NULL)
            return b->wanted == 0;
        sl_lock_release(&b->lock);
        sl_lock_acquire(&b->lock);
    }
}

/* Called with the lock held, which is released; everybody has room. Passes the turn on. */
static void give_all(sley_bcast *b, const void *msg)
{
    bool more = true;

    b->cursor = b->oldest;
    while (more) {
        struct sl_woken woken = { NULL, NULL };
        sley_chan *watched[SL_WAKE_ALL_BATCH], *ch;
        unsigned room = SL_WAKE_ALL_BATCH, watched_count = 0;
        uint64_t went = 0;

        while ((ch = next_of_batch(b, &room)) != NULL) {
            lock_both(ch);
            went += give_open(ch, (char *)msg, 1, &woken);
            if (flags_of(&ch->send) & WATCHED) {
                sl_watch_hold(ch);
                watched[watched_count++] = ch;
            }
            unlock_both(ch);
        }
        more = b->cursor != NULL;
        if (!more)
            pass_turn(b, &woken);
        sl_lock_release(&b->lock);
        for (unsigned i = 0; i < watched_count; i++)
            sl_watch_settle(watched[i]);
        sl_count_chan_messages(went);
        sl_woken_ready(&woken);
        if (more)
            sl_lock_acquire(&b->lock);
    }
}

/* --- sending ------------------------------------------------------------------------------------------------------------------ */

static void give_up_turn(sley_bcast *b)
{
    struct sl_woken woken = { NULL, NULL };

    sl_lock_acquire(&b->lock);
    pass_turn(b, &woken);
    sl_lock_release(&b->lock);
    sl_woken_ready(&woken);
}

/* A wait has ended by `why`, not by an event. */
static int stop_waiting(sley_bcast *b, struct sl_wait_list *l, struct sl_wait_node *n, unsigned why)
{
    sl_lock_acquire(&b->lock);
    if (sl_node_linked(n))
        sl_wait_list_remove(l, n);
    sl_lock_release(&b->lock);
    return why == SL_ARM_TIMEOUT ? -ETIMEDOUT : -ECANCELED;
}

static bool may_go(sley_bcast *b, const struct sl_wait_list *l) /* under the lock */
{
    return l == &b->turn ? !b->sending : b->wanted == 0;
}

/* Wait in l, unless there is no need any more. 0: the lock is held, and it is our turn, or everybody has room. Inlined, so that only the
 * public call stands above sl_park. */
ALWAYS_INLINE int wait_in(sley_bcast *b, struct sl_wait_list *l, sley_time deadline)
{
    struct sl_fiber *f = sl_current();
    struct sl_wait_node node;
    unsigned why;
    int rc = sl_wait_begin(f, deadline, SL_WAIT_SEND, b);

    if (rc < 0)
        return rc;
    sl_lock_acquire(&b->lock);
    if (may_go(b, l)) {
        sl_wait_end(f);
        b->sending = true;
        return 0;
    }
    if (sl_cancelled(f)) {
        sl_wait_end(f);
        sl_lock_release(&b->lock);
        return -ECANCELED;
    }
    sl_node_init(&node, f);
    sl_wait_list_push(l, &node);
    why = sl_park(&b->lock);
    if (why != SL_ARM_EVENT)
        return stop_waiting(b, l, &node, why);
    sl_lock_acquire(&b->lock);
    return 0;
}

int sley_bcast_send(sley_bcast *b, const void *msg, sley_time deadline)
{
    int rc;

    if (b == NULL || (msg == NULL && b->elem_bytes > 0) || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    if (sl_streak_cancelled(sl_current()))
        return -ECANCELED;
    sl_lock_acquire(&b->lock);
    if (b->sending) {
        sl_lock_release(&b->lock);
        if ((rc = wait_in(b, &b->turn, deadline)) < 0)
            return rc;
    }
    b->sending = true;
    if (!look_for_room(b)) {
        sl_lock_release(&b->lock);
        if ((rc = wait_in(b, &b->room, deadline)) < 0) {
            give_up_turn(b);
            return rc;
        }
    }
    give_all(b, msg);
    return 0;
}

/* --- subscriptions ------------------------------------------------------------------------------------------------------------ */

void sl_bcast_room(sley_bcast *b)
{
    struct sl_woken woken = { NULL, NULL };

    sl_lock_acquire(&b->lock);
    unwant(b, &woken);
    sl_lock_release(&b->lock);
    sl_woken_ready(&woken);
}

/* Under our lock and both of the subscription's: it is out. */
static void forget(sley_bcast *b, sley_chan *ch, struct sl_woken *woken)
{
    unlink_subscription(b, ch);
    if (flags_of(&ch->send) & WANTED) {
        set_flags(ch, flags_of(&ch->send) & ~WANTED);
        unwant(b, woken);
    }
}

void sl_bcast_leave(sley_chan *ch)
{
    struct sl_woken woken = { NULL, NULL };
    sley_bcast *b = ch->bcast;

    sl_lock_acquire(&b->lock);
    if (is_linked(b, ch)) {
        lock_both(ch);
        forget(b, ch, &woken);
        unlock_both(ch);
    }
    sl_lock_release(&b->lock);
    sl_woken_ready(&woken);
}

sley_chan *sley_bcast_subscribe(sley_bcast *b)
{
    sley_chan *ch = b == NULL ? NULL : sl_chan_create(b->elem_bytes, b->capacity, SUBSCRIBED);

    if (ch == NULL)
        return NULL;
    ch->bcast = b;
    sl_add_relaxed(&b->refs, 1); /* the caller's use of b keeps it */
    sl_lock_acquire(&b->lock);
    ch->older = b->youngest;
    if (b->youngest != NULL)
        b->youngest->younger = ch;
    else
        b->oldest = ch;
    b->youngest = ch;
    sl_lock_release(&b->lock);
    return ch;
}

/* --- create, destroy ---------------------------------------------------------------------------------------------------------- */

sley_bcast *sley_bcast_create(size_t elem_bytes, size_t capacity)
{
    sley_bcast *b = capacity > 0 && capacity <= UINT32_MAX ? calloc(1, sizeof *b) : NULL;

    if (b == NULL)
        return NULL;
    b->elem_bytes = elem_bytes;
    b->capacity = (uint32_t)capacity;
    sl_store_relaxed(&b->refs, 1); /* nobody else knows it */
    return b;
}

void sl_bcast_drop(sley_bcast *b)
{
    if (sl_sub_acq_rel(&b->refs, 1) == 1) /* [bcast.1] */
        free(b);
}

/* Under the lock: close the oldest subscription, or wake some of those who wait for it. */
static void close_oldest(sley_bcast *b, struct sl_woken *woken, sley_chan **watched)
{
    sley_chan *ch = b->oldest;

    lock_both(ch);
    if (flags_of(&ch->send) & WATCHED) {
        sl_watch_hold(ch);
        *watched = ch;
    }
    if (sl_chan_close_some(ch, woken))
        forget(b, ch, woken);
    unlock_both(ch);
}

void sley_bcast_destroy(sley_bcast *b)
{
    if (b == NULL)
        return;
    sl_lock_acquire(&b->lock);
    SLEY_ASSERT(!b->sending && b->turn.head == NULL, "sley_bcast_destroy", "somebody is sending");
    while (b->oldest != NULL) {
        struct sl_woken woken = { NULL, NULL };
        sley_chan *watched = NULL;

        close_oldest(b, &woken, &watched); /* B3 */
        sl_lock_release(&b->lock);
        if (watched != NULL)
            sl_watch_settle(watched);
        sl_woken_ready(&woken);
        sl_lock_acquire(&b->lock);
    }
    sl_lock_release(&b->lock);
    sl_bcast_drop(b);
}
