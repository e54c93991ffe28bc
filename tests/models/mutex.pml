/* mutex.pml - the mutex: a plain store unlocks it while nobody waits, and its memory may be freed at once.
 *
 * Models src/sync/mutex.c and mutex.h as they are written, X1 to X6 there: `owner`, `waiting`, `woken`, `asking`, the lock and under it the
 * list; the mark in the owner's control block, which says "I unlock it". The fibers share an object with a count that the mutex guards.
 * Each locks it several times, or gives up at a deadline; the last time it has none, and takes its reference away. Who finds that it was
 * the last one frees the object after its unlock.
 *
 * Store buffers: the three stores of a quick unlock (mark, owner, no mark) stay in their order in the processor's buffer, which drains at
 * any time, before its own read-modify-writes, and within anybody's membarrier. The look at `waiting` overtakes the mark.
 *
 * Left out: spinning before one waits; the wait word (here `parked`, see wait_word.pml); the variant with fences; the clock: a waiter has
 * waited long, or not, as it comes, but who is older than one that has, has too.
 *
 * Shown: one at a time is inside; nobody stays parked while the mutex is free; a waiter that is linked and has waited long is not
 * overtaken: it gets the mutex by the next unlock (X3); nobody touches the mutex once it is freed (X6); it ends clean.
 *
 *   check TWO - two fibers, three times each
 *   check THREE - three fibers, twice each
 *   bug NO_MEMBARRIER in TWO - a waiter makes none: the owner has looked at `waiting`, its mark is still late
 *   bug NO_MARK in TWO - an unlock does not say that it is under way
 *   bug MARK_AFTER_LOOK in TWO - it says so after the look at `waiting`
 *   bug OWNER_ONCE in TWO - the waiter does not read the owner again after it has seen no mark, [mutex.3]
 *   bug ASKED_WILL_DO in THREE - a waiter relies on the membarrier that another has yet to make
 *   bug ASKING_IGNORED in THREE - `waiting` is cleared while somebody makes a membarrier, who says SETTLED after that
 *   bug SECOND_LOOK in TWO - rejected: instead of a mark, a look at `waiting` after the store of the owner; the mutex may be gone
 *   bug CLEARS_AND_FREES in TWO - an unlock that finds nobody under the lock stores the owner, then releases the lock
 *   bug READY_FIRST in TWO - a waiter is made ready before the lock is released
 *   bug HAND_OVER_FREES in TWO - a hand-over stores owner = NULL as well
 *   bug WOKEN_STAYS in TWO - a woken waiter that has lost does not say so: nobody is woken again
 *   bug TIMEOUT_CLEARS in THREE - a waiter whose time has passed clears `waiting` although another waits
 *   bug FRONT_IS_BACK in THREE - a woken waiter that has lost goes to the end of the list, and its long wait counts for nothing
 */
#define TWO   1
#define THREE 2
#ifndef SCENE
#define SCENE TWO
#endif

#define NO_MEMBARRIER    1
#define NO_MARK          2
#define MARK_AFTER_LOOK  3
#define OWNER_ONCE       4
#define ASKED_WILL_DO    5
#define ASKING_IGNORED  6
#define SECOND_LOOK      7
#define CLEARS_AND_FREES 8
#define READY_FIRST      9
#define HAND_OVER_FREES  10
#define WOKEN_STAYS      11
#define TIMEOUT_CLEARS   12
#define FRONT_IS_BACK    13
#ifndef BUG
#define BUG 0
#endif

#if SCENE == TWO
#define FIBERS 2
#define ROUNDS 3
#else
#define FIBERS 3
#define ROUNDS 2
#endif

/* `waiting` */
#define NOBODY  0
#define ASKED   1
#define SETTLED 2

/* `ready`: was claimed by an unlock and runs again. */
#define WOKEN    1
#define IS_OWNER 2

#define NO_FIBER FIBERS

byte owner;              /* fiber + 1; 0: nobody. As memory has it */
byte waiting, asking;
bit woken, m_lock;
chan list = [FIBERS] of { byte };
bit mark[FIBERS];        /* of a fiber's control block: it unlocks the mutex. As memory has it */

mtype = { MARK, OWNER, NO_MARK_ANY_MORE };
chan late[FIBERS] = [3] of { mtype };

bit parked[FIBERS];      /* may be claimed */
byte ready[FIBERS];

/* What the properties speak of. */
byte inside, count = FIBERS, ended;
bit freed;
bit long_wait[FIBERS];
mtype store;             /* of drain_one; between steps 0 */

#define TOUCH           assert(!freed)
#define LONG_IN_LIST(f) (list??[eval(f)] && long_wait[f])
#if FIBERS == 2
#define ANY_LONG (LONG_IN_LIST(0) || LONG_IN_LIST(1))
#else
#define ANY_LONG (LONG_IN_LIST(0) || LONG_IN_LIST(1) || LONG_IN_LIST(2))
#endif

inline drain_one(f)
{
    late[f]?store;
    if
    :: store == MARK -> mark[f] = 1
    :: store == OWNER -> owner = 0
    :: else -> mark[f] = 0
    fi;
    store = 0
}

inline drain(f)
{
    do
    :: len(late[f]) > 0 -> drain_one(f)
    :: else -> break
    od
}

inline membarrier()
{
#if BUG == NO_MEMBARRIER
    skip
#else
    d_step {
        drain(0);
        drain(1);
#if FIBERS > 2
        drain(2)
#endif
    }
#endif
}

inline lock()
{
    atomic { m_lock == 0 -> TOUCH; m_lock = 1; drain(me) }
}

inline unlock()
{
    d_step { TOUCH; m_lock = 0 }
}

/* sl_mutex_try */
inline try()
{
    d_step {
        TOUCH;
        drain(me);
        taken = (owner == 0);
        if
        :: taken -> owner = me + 1; assert(!ANY_LONG)
        :: else
        fi
    }
}

inline clear_waiting()
{
    if
#if BUG == ASKING_IGNORED
    :: len(list) == 0 && !woken -> waiting = NOBODY
#else
    :: len(list) == 0 && !woken && asking == 0 -> waiting = NOBODY
#endif
    :: else
    fi
}

inline settle()
{
    d_step {
        if
        :: waiting == NOBODY -> waiting = ASKED
        :: else
        fi;
        asking++;
        TOUCH;
        m_lock = 0
    }
    membarrier();
    lock();
    d_step { asking--; waiting = SETTLED }
}

/* taken: the mutex is ours; else we may link ourselves. */
inline take_or_settle()
{
    taken = 0;
    do
    :: o = owner;
        if
        :: o == 0 ->
            try();
            if
            :: taken -> break
            :: else
            fi
#if BUG == ASKED_WILL_DO
        :: o != 0 && waiting == NOBODY -> settle()
        :: o != 0 && waiting != NOBODY ->
#else
        :: o != 0 && waiting != SETTLED -> settle()
        :: o != 0 && waiting == SETTLED ->
#endif
            if
#if BUG != SECOND_LOOK
            :: mark[o - 1] -> unlock(); lock()
            :: !mark[o - 1] ->
#else
            :: true ->
#endif
#if BUG == OWNER_ONCE
                break
#else
                if
                :: owner == o -> break
                :: else
                fi
#endif
            fi
        fi
    od;
    o = 0
}

inline link_in_front()
{
#if BUG == FRONT_IS_BACK
    list!me
#else
    o = len(list);
    list!me;
    do
    :: o > 0 -> list?who; list!who; o--
    :: else -> break
    od;
    who = NO_FIBER
#endif
}

/* sl_mutex_unlock_quick */
inline unlock_quick()
{
#if BUG != NO_MARK && BUG != MARK_AFTER_LOOK && BUG != SECOND_LOOK
    late[me]!MARK;
#endif
    atomic { TOUCH; quick = (waiting == NOBODY) }
#if BUG == MARK_AFTER_LOOK
    late[me]!MARK;
#endif
    if
    :: quick -> late[me]!OWNER
    :: else
    fi;
#if BUG == SECOND_LOOK
    if
    :: quick ->
        atomic { TOUCH; quick = (waiting == NOBODY) }
        if
        :: !quick -> /* take it back; else the next owner sees `waiting` */
            try();
            quick = !taken
        :: else
        fi
    :: else
    fi;
#endif
    late[me]!NO_MARK_ANY_MORE
}

/* Under the lock, by the owner. given_up: the mutex is another's or free; woken_one: who is to be made ready, and as what. */
inline give_up()
{
    do
    :: empty(list) -> break
    :: nempty(list) ->
        atomic {
            list?<who>;
            if
            :: !long_wait[who] -> long_wait[who] = 1 /* it is found to have waited long, or not */
            :: true
            fi
        }
        if
        :: !long_wait[who] && woken -> who = NO_FIBER; break
        :: else
        fi;
        d_step { list?who; claimed = parked[who]; parked[who] = 0 } /* sl_claim; it fails if its time has passed */
        if
        :: claimed -> break
        :: else -> who = NO_FIBER
        fi
    od;
    if
    :: who != NO_FIBER && long_wait[who] ->
        told = IS_OWNER;
        owner = who + 1;
#if BUG == HAND_OVER_FREES
        owner = 0;
#endif
        clear_waiting();
        given_up = 1
    :: else ->
        if
        :: who != NO_FIBER -> told = WOKEN; woken = 1
        :: else
        fi;
        clear_waiting();
        if
#if BUG == CLEARS_AND_FREES
        :: true -> owner = 0; given_up = 1
#else
        :: waiting == NOBODY -> given_up = 0
        :: waiting != NOBODY -> owner = 0; given_up = 1
#endif
        fi
    fi
}

inline make_ready()
{
    if
    :: atomic { who != NO_FIBER -> ready[who] = told; who = NO_FIBER; told = 0 }
    :: else
    fi
}

proctype fiber(byte me)
{
    byte who, o, rounds, told;
    bit taken, quick, claimed, given_up, was_woken, has_deadline, cannot_begin, last;

    who = NO_FIBER;
    do
    :: rounds == ROUNDS -> break
    :: else ->
        rounds++;
        if
        :: has_deadline = 0
        :: rounds < ROUNDS -> has_deadline = 1
        fi;

        /* --- sley_mutex_lock --- */
        try();
        if
        :: taken -> goto locked
        :: else
        fi;
compete:
        lock();
        if
        :: was_woken && has_deadline -> cannot_begin = 1; try() /* its next wait: there is no room for the timer */
        :: take_or_settle()
        fi;
        atomic {
            if
#if BUG != WOKEN_STAYS
            :: was_woken -> woken = 0
#endif
            :: else
            fi
        }
        if
        :: taken || cannot_begin ->
            atomic { was_woken = 0; cannot_begin = 0; clear_waiting() }
            unlock();
            if
            :: taken -> goto locked
            :: else -> goto timed_out
            fi
        :: else
        fi;
        atomic {
            if
            :: was_woken ->
                was_woken = 0;
                if
                :: ANY_LONG || long_wait[me] -> long_wait[me] = 1
                :: long_wait[me] = 1
                :: !ANY_LONG && !long_wait[me]
                fi;
                link_in_front()
            :: else ->
                if
                :: len(list) == 0 -> long_wait[me] = 1
                :: true
                fi;
                list!me
            fi;
            parked[me] = 1;
            unlock()
        }
        if
        :: ready[me] == WOKEN -> ready[me] = 0; was_woken = 1; goto compete
        :: ready[me] == IS_OWNER -> ready[me] = 0; goto locked
        :: atomic { has_deadline && parked[me] -> parked[me] = 0 }
            lock();
            atomic {
                if
                :: list??[eval(me)] -> list??eval(me)
                :: else
                fi;
#if BUG == TIMEOUT_CLEARS
                waiting = NOBODY;
#else
                clear_waiting();
#endif
                unlock()
            }
            goto timed_out
        fi;
locked:
        atomic { inside++; assert(inside == 1); long_wait[me] = 0; taken = 0 }
        atomic {
            inside--;
            if
            :: rounds == ROUNDS -> count--; last = (count == 0)
            :: else
            fi
        }

        /* --- sley_mutex_unlock --- */
        unlock_quick();
        do
        :: quick -> break
        :: else ->
            lock();
            give_up();
#if BUG == READY_FIRST
            make_ready();
#endif
            unlock();
            if
            :: given_up -> break
            :: else -> unlock_quick()
            fi
        od;
        make_ready();
        if
        :: last -> freed = 1
        :: else
        fi;
timed_out:
        atomic { long_wait[me] = 0; quick = 0; given_up = 0; claimed = 0; has_deadline = 0 }
    od;
    ended++
}

/* The buffers drain at any time. */
active proctype memory()
{
end:
    do
    :: atomic { len(late[0]) > 0 -> drain_one(0) }
    :: atomic { len(late[1]) > 0 -> drain_one(1) }
#if FIBERS > 2
    :: atomic { len(late[2]) > 0 -> drain_one(2) }
#endif
    od
}

init {
    atomic {
        run fiber(0);
        run fiber(1);
#if FIBERS > 2
        run fiber(2);
#endif
    }
    ended == FIBERS;
    empty(late[0]) && empty(late[1]);
#if FIBERS > 2
    empty(late[2]);
#endif
    assert(owner == 0 && !m_lock && empty(list) && freed);
#if BUG == 0
    assert(waiting == NOBODY && !woken)
#endif
}
