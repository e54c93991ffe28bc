/* idle.pml - who sleeps, who searches, who watches.
 *
 * Models src/sched/idle.h and idle.c, go_to_sleep, watch_until, leave_idleness, steal and find of loop.c, sl_wake_one, sl_send_to and
 * sl_inject of ready.c, sl_reap of op.c. A worker has a deque of ready fibers (counted only), a next slot, a mailbox, a ring that knows
 * nothing but doorbells, and its CQ lock; the idle word changes in one step, as by its read-modify-writes. An outsider brings work, round
 * by round, each when the work of the last one is done, whatever the workers do then.
 *
 * What a fiber does is to compute until all fibers of its round have begun: so the round ends only if as many workers run at the same
 * time. Nothing wakes by time but a watcher that is not dormant.
 *
 * Store buffers: a worker's push to its deque is late until its buffer drains, it makes a read-modify-write, or somebody a membarrier; so
 * is the watcher's store to `dormant`. Mailboxes and the inject queue are locked, and who pushes there fences: these have no buffer.
 *
 * Left out: timers, operations, stopping; overflow lists, which are deques to a thief; re-arming the doorbell; the tick (a thief just takes
 * from a next slot, next_slot.pml says how).
 *
 * Shown: work that is visible, with nobody searching and somebody asleep, is not stable (I1); no doorbell is lost; whoever is stuck behind
 * a fiber that computes is found by a watcher.
 *
 *   check SPAWN_2 - two workers: an injected fiber pushes another, two rounds
 *   check SPAWN_3 - three workers: an injected fiber pushes two others
 *   check MAIL - two workers, pinned fibers come by their mailboxes
 *   check HAND_2 - two workers, three rounds: an injected fiber leaves another in its next slot and computes
 *   slow HAND_3 - three workers, the same, once: 92 million states, 4.3 GB, five minutes
 *   bug LOOKS_FIRST in SPAWN_2 - a sleeper looks for work before it announces itself, and not after
 *   bug NO_MEMBARRIER in SPAWN_2 - a sleeper makes no membarrier between its announcement and its look, [idle.1]
 *   bug LAST_IS_SILENT in SPAWN_3 - the last searcher finds work and wakes nobody in its place
 *   bug EATS_DOORBELL in MAIL - a neighbour reaps the ring of one that goes to sleep, without its CQ lock
 *   bug UNFENCED_MAIL in MAIL - who pushes to a mailbox looks for the sleeper before
 *   bug TOKEN_LOST in SPAWN_3 - a sleeper that was claimed does not count as the searcher it was made: nobody is claimed any more
 *   bug NO_DORMANT_FENCE in HAND_2 - the watcher looks who is awake before others can see that it is dormant, [idle.2]
 *   bug DORMANT_STAYS in HAND_2 - who wakes does not ring a dormant watcher
 *   bug WATCHER_IS_GONE in HAND_2 - a watcher that leaves to work wakes nobody to watch in its place
 */
#define SPAWN_2 1
#define SPAWN_3 2
#define MAIL    3
#define HAND_2  4
#define HAND_3  5
#ifndef SCENE
#define SCENE SPAWN_2
#endif

#define LOOKS_FIRST      1
#define NO_MEMBARRIER    2
#define LAST_IS_SILENT   3
#define EATS_DOORBELL    4
#define UNFENCED_MAIL    5
#define TOKEN_LOST       6
#define NO_DORMANT_FENCE 7
#define DORMANT_STAYS    8
#define WATCHER_IS_GONE  9
#ifndef BUG
#define BUG 0
#endif

#if SCENE == SPAWN_3 || SCENE == HAND_3
#define WORKERS 3
#else
#define WORKERS 2
#endif

#if SCENE == SPAWN_3
#define FIBERS 3                /* a round */
#elif SCENE == MAIL
#define FIBERS 1
#else
#define FIBERS 2
#endif

#if SCENE == SPAWN_3 || SCENE == HAND_3
#define ROUNDS 1
#elif SCENE == SPAWN_2
#define ROUNDS 2
#else
#define ROUNDS 3
#endif

#define WATCHES (SCENE == HAND_2 || SCENE == HAND_3)
#define NOBODY  WORKERS

/* The idle word, and who watches. */
byte sleepers, searching;
byte watcher = NOBODY;
bit dormant;
chan dormant_late = [1] of { bit };

#define BIT(w)     (1 << (w))
#define ASLEEP     ((sleepers & 1) + ((sleepers >> 1) & 1) + (sleepers >> 2))
#define AWAKE      (WORKERS - ASLEEP)
#define MAY_SEARCH (2 * searching < AWAKE - searching + 1) /* I3 */

byte deque[WORKERS], late[WORKERS], next[WORKERS], mailbox[WORKERS], inject;
bit rung[WORKERS];              /* a doorbell's completion is in the ring */
bit cq_lock[WORKERS];

/* The work of this round. */
byte begun, finished;

inline drain(w) { deque[w] = deque[w] + late[w]; late[w] = 0 }

inline drain_all()
{
    drain(0);
    drain(1);
#if WORKERS > 2
    drain(2)
#endif
}

/* sl_idle_claim: a sleeper, the watcher last; NOBODY */
inline claim(claimed)
{
    claimed = NOBODY;
    if
    :: sleepers != 0 && MAY_SEARCH ->
        claimed = 0;
        do
        :: (sleepers & BIT(claimed)) && (claimed != watcher || sleepers == BIT(claimed)) -> break
        :: else -> claimed++
        od;
        sleepers = sleepers - BIT(claimed);
        searching++
    :: else
    fi
}

/* sl_idle_claim_one */
inline claim_one(w, claimed)
{
    if
    :: sleepers & BIT(w) -> sleepers = sleepers - BIT(w); searching++; claimed = w
    :: else -> claimed = NOBODY
    fi
}

inline ring(claimed)
{
    if
    :: atomic { claimed != NOBODY -> rung[claimed] = 1; claimed = NOBODY }
    :: else
    fi
}

inline look_for_sleepers()
{
    d_step {
        claim(who);
        if
        :: who != NOBODY -> drain(me)
        :: else
        fi
    }
    ring(who)
}

#define NEIGHBOURS (SCENE == MAIL || SCENE == SPAWN_2) /* elsewhere nobody looks at a neighbour's ring, and so nobody takes a CQ lock */

/* --- one worker --- */

inline leave_idleness()
{
    atomic {
        if
        :: is_searching ->
            is_searching = 0;
            drain(me);
            searching--;
#if BUG != LAST_IS_SILENT
            look = (searching == 0)
#endif
        :: else
        fi
    }
#if WATCHES
    if
    :: slept && watcher == me ->
        slept = 0;
        dormant_late!0;
        empty(dormant_late);
        watcher = NOBODY;
#if BUG != WATCHER_IS_GONE
        look = 1
#endif
    :: slept && watcher != me ->
        slept = 0;
#if BUG != DORMANT_STAYS
        if
        :: atomic { dormant -> dormant = 0 }
            atomic { who = watcher; ring(who) }
        :: else
        fi
#endif
    :: !slept
    fi;
#endif
    if
    :: look -> look = 0; look_for_sleepers()
    :: else
    fi
}

/* Until when: limited is set if it may wake by time. */
inline watch_until()
{
#if WATCHES
    if
    :: atomic { watcher == NOBODY || watcher == me -> watcher = me; limited = 1 }
        if
        :: AWAKE == 0 -> /* for a while */
            dormant_late!1;
#if BUG != NO_DORMANT_FENCE
            empty(dormant_late);
#endif
            if
            :: AWAKE == 0 -> limited = 0
            :: else -> dormant_late!0
            fi
        :: true
        fi
    :: else
    fi
#else
    skip
#endif
}

/* found: is there work anywhere? */
inline work_anywhere()
{
    atomic { found = next[me] > 0 || mailbox[me] > 0 || inject > 0 || rung[me]; v = 0 }
    do
    :: atomic { !found && v < WORKERS -> found = (v != me && deque[v] > 0); v++ }
    :: else -> break
    od
}

inline go_to_sleep()
{
#if NEIGHBOURS
    atomic { cq_lock[me] == 0 -> cq_lock[me] = 1 }
#endif
#if BUG == LOOKS_FIRST
    work_anywhere();
#endif
    atomic { /* sl_idle_announce */
        drain(me);
        sleepers = sleepers | BIT(me);
        if
        :: is_searching -> searching--; is_searching = 0
        :: else
        fi
    }
#if BUG != NO_MEMBARRIER
    if
    :: AWAKE > 0 -> d_step { drain_all() }
    :: else
    fi;
#endif
#if BUG != LOOKS_FIRST
    work_anywhere();
#endif
    if
    :: found
    :: else ->
        watch_until();
end_asleep:
        if
        :: rung[me]
        :: limited
        fi
    fi;
    atomic { /* sl_idle_retire */
        limited = 0;
        found = 0;
        v = 0;
        if
        :: sleepers & BIT(me) -> sleepers = sleepers - BIT(me)
#if BUG == TOKEN_LOST
        :: else
#else
        :: else -> is_searching = 1 /* I2 */
#endif
        fi;
        slept = WATCHES
    }
    atomic { rung[me] = 0; cq_lock[me] = 0 }
}

/* A running fiber's worker looks at a neighbour. */
#define OTHER (1 - me)
inline help()
{
    if
    :: !(sleepers & BIT(OTHER)) && rung[OTHER] ->
#if BUG == EATS_DOORBELL
        rung[OTHER] = 0
#else
        if
        :: atomic { cq_lock[OTHER] == 0 -> cq_lock[OTHER] = 1 }
            rung[OTHER] = 0;
            cq_lock[OTHER] = 0
        :: else
        fi
#endif
    :: true
    fi
}

proctype worker(byte me)
{
    byte v, who, n;
    bit is_searching, slept, look, found, limited, first;

    who = NOBODY;
again:
    atomic { /* choose, look_around */
        v = 0;
        n = 0;
        if
        :: next[me] > 0 -> next[me] = 0; goto found_one
        :: next[me] == 0 && deque[me] + late[me] > 0 -> drain(me); deque[me]--; goto found_one
        :: next[me] == 0 && deque[me] + late[me] == 0 && mailbox[me] > 0 -> mailbox[me]--; goto found_one
        :: next[me] == 0 && deque[me] + late[me] == 0 && mailbox[me] == 0 && inject > 0 -> inject--; goto found_one
        :: else
        fi;
        if
        :: rung[me] && !cq_lock[me] -> rung[me] = 0
        :: else
        fi
    }
    /* steal */
    if
    :: is_searching
    :: atomic { !is_searching && MAY_SEARCH -> drain(me); searching++; is_searching = 1 }
    :: else -> goto sleep
    fi;
    do
    :: atomic { v < WORKERS && v != me && deque[v] > 0 -> n = deque[v] - deque[v] / 2; deque[v] = deque[v] - n }
        late[me] = late[me] + n;
        goto again
    :: atomic { v < WORKERS && (v == me || deque[v] == 0) -> v++ }
    :: atomic { v == WORKERS -> v = 0; break }
    od;
#if WATCHES
    do
    :: atomic { v < WORKERS && v != me && next[v] > 0 -> next[v] = 0 }
        late[me]++;
        goto again
    :: atomic { v < WORKERS && (v == me || next[v] == 0) -> v++ }
    :: atomic { v == WORKERS -> v = 0; break }
    od;
#endif
    if
    :: inject > 0 -> goto again
    :: else
    fi;
sleep:
    go_to_sleep();
    goto again;

found_one:
    leave_idleness();
    if
    :: deque[me] + late[me] > 0 -> look_for_sleepers()
    :: else
    fi;
    atomic { first = (begun == 0); begun++; v = 0; n = 0 }
    if
#if SCENE == SPAWN_2 || SCENE == SPAWN_3
    :: first ->
        n = 1;
        do
        :: n == FIBERS -> n = 0; break
        :: else -> late[me]++; look_for_sleepers(); n++
        od
#elif WATCHES
    :: first -> next[me] = 1 /* wakes nobody */
#endif
    :: else
    fi;
#if NEIGHBOURS
    help();
#endif
    atomic { begun == FIBERS -> finished++; first = 0; v = 0 }
    goto again
}

/* What a worker's processor does by itself. */
proctype memory()
{
end:
    do
    :: atomic { late[0] > 0 -> late[0]--; deque[0]++ }
    :: atomic { late[1] > 0 -> late[1]--; deque[1]++ }
#if WORKERS > 2
    :: atomic { late[2] > 0 -> late[2]--; deque[2]++ }
#endif
    :: atomic { dormant_late?dormant }
    od
}

/* A thread that is no worker: sl_inject, sl_send_to. */
proctype outsider()
{
    byte rounds, who;

    do
    :: rounds == ROUNDS -> break
    :: else ->
        rounds++;
#if SCENE == MAIL
        byte to;
        if
        :: to = 0
        :: to = 1
        fi;
#if BUG == UNFENCED_MAIL
        d_step { claim_one(to, who) }
        mailbox[to]++;
#else
        mailbox[to]++;
        d_step { claim_one(to, who) }
#endif
        to = 0;
#else
        inject++;
        d_step { claim(who) }
#endif
        ring(who);
        atomic { finished == FIBERS -> finished = 0; begun = 0 }
    od
}

init {
    atomic {
        run memory();
        run outsider();
        run worker(0);
        run worker(1);
#if WORKERS > 2
        run worker(2)
#endif
    }
}
