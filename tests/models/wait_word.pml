/* wait_word.pml - the wait word of one fiber against an event, its timer and a canceller.
 *
 * Models src/sched/park.h, scope.h and scope.c, timeout.c, sleep.c. The fiber waits WAITS times in a row: for a value of an object (lock,
 * queue of values, one node), or it sleeps. Each wait has a deadline: already due, later, or none; time stands still, so a wait whose
 * deadline is not due may not be ended by it. Processes: the fiber; a sender that brings as many values as there are waits; the timer
 * heap of the worker, which looks at the fiber's entry whenever that is due; a canceller, which comes or does not.
 *
 * Store buffers: of the fiber's stores to the word, of the canceller's to the flag, of the timer's to `key`, the last one may be late. A
 * fence, a lock and a compare-and-swap wait until the own buffer has drained; so does an unlock, for the stores before it are seen first.
 *
 * Left out: WAITING_IO (its final completion claims as an event does); ARMING_MANY (select.pml); more than one waiter on the object;
 * several heaps; scopes inside scopes.
 *
 * Shown: each wait is ended by exactly one claim, made for that wait; the fiber is made ready only while it is parked, and once; a wait
 * ends by time only if its deadline has passed, and by a cancel only without a shield; a due deadline ends a wait that nothing else ends;
 * a cancelled fiber does not stay parked, nor one for which a value is there; every value is received once or still in the queue; no node
 * is left linked.
 *
 *   check TIMES - an event and the timer, three waits
 *   check CANCEL - an event, the timer and a canceller, two waits
 *   slow BOTH - all of them, three waits: 27 million states, 1.2 GB, a minute
 *   bug NO_SEQUENCE in TIMES - a claim made for an old wait ends a later one
 *   bug DEADLINE_FIRST in TIMES - expiry reads the deadline before the word, [timer.1]
 *   bug ARMING_ONCE in CANCEL - the canceller does not look again at a fiber that is arming
 *   bug FLAG_FIRST in CANCEL - the fiber looks at the flag before it stores ARMING
 *   bug NO_FIBER_FENCE in CANCEL - nothing between the fiber's store of ARMING and its look at the flag, [cancel.1]
 *   bug NO_CANCEL_FENCE in CANCEL - nothing between the canceller's store of the flag and its look at the word, [cancel.1]
 *   bug NO_TIMER_FENCE in TIMES - nothing between the timer's store of key and its second look at the word, [timer.2]
 *   bug NO_SECOND_LOOK in TIMES - the timer drops an entry without looking at the word again, [timer.2]
 *   bug SHIELDS_FIRST in CANCEL - the canceller reads `shields` before the word, [S5 of scope.h]
 *   bug STAYS_LINKED in TIMES - a fiber claimed by time leaves its node in the list
 */
#define TIMES  1
#define CANCEL 2
#define BOTH   3
#ifndef SCENE
#define SCENE TIMES
#endif

#if SCENE == CANCEL
#define WAITS 2
#else
#define WAITS 3
#endif

#define NO_SEQUENCE     1
#define DEADLINE_FIRST  2
#define ARMING_ONCE     3
#define FLAG_FIRST      4
#define NO_FIBER_FENCE  5
#define NO_CANCEL_FENCE 6
#define NO_TIMER_FENCE  7
#define NO_SECOND_LOOK  8
#define STAYS_LINKED    9
#define SHIELDS_FIRST   10
#ifndef BUG
#define BUG 0
#endif

/* The wait word: sequence times 8, and the state; WON carries its arm. */
#define IDLE        0
#define ARMING      1
#define WAITING     3
#define WON_EVENT   5
#define WON_TIMEOUT 6
#define WON_CANCEL  7
#if BUG == NO_SEQUENCE
#define WORD(sequence, state) (state)
#else
#define WORD(sequence, state) ((sequence) * 8 + (state))
#endif
#define STATE(word)    ((word) & 7)
#define SEQUENCE(word) ((word) >> 3)
#define CLAIM(word, arm) ((word) - WAITING + (arm))

byte word;
chan word_late = [1] of { byte };

/* Times: what is due is at most DUE. `key` at NONE: the entry is in no heap. */
#define DUE   1
#define LATER 2
#define NONE  3
byte deadline = NONE;           /* of the present wait; written by the fiber before the word */
byte at = NONE;                 /* where the entry stands in the heap, under its lock */
byte key = NONE;                /* the same, as the fiber may read it without the lock */
chan key_late = [1] of { byte };
bit heap_lock;

bit cancelled;
bit shields;                    /* of the fiber; constant while a wait lasts */
chan cancelled_late = [1] of { bit };

/* The object. */
bit object_lock, linked;
byte node;                      /* the word that a claim expects */
byte handed;                    /* the value that a claimer gave to the waiter */
chan values = [WAITS] of { byte };

/* What the properties speak of. */
bit cancel_comes, parked, ready, fiber_ended, sender_ended;
byte wait;                      /* which one it is */
byte node_wait;                 /* for which one the node was linked */
byte received;                  /* a bit a value */

inline lock(l) { atomic { l == 0 -> l = 1 } }

inline unlink() { d_step { linked = 0; node = 0; node_wait = 0 } }

inline make_ready()
{
    atomic { assert(parked && !ready); ready = 1 }
}

inline got(value)
{
    assert(value > 0 && !(received & (1 << value)));
    received = received | (1 << value)
}

/* --- the fiber --- */

inline fiber_fence() { empty(word_late) }

/* sl_timer_set */
inline set_timer()
{
    deadline = until;
    if
    :: until >= key /* T3: the entry stands early enough, or there is no deadline */
    :: else ->
        lock(heap_lock);
        d_step { at = until; key = until }
        heap_lock = 0
    fi
}

inline begin_wait()
{
    set_timer();
#if BUG == FLAG_FIRST
    seen_cancelled = cancelled && !shields;
#endif
    word_late!WORD(wait, ARMING)
}

inline end_wait()
{
    word_late!WORD(wait, IDLE)
}

inline look_at_flag() /* sl_cancelled */
{
#if BUG != FLAG_FIRST
    seen_cancelled = cancelled && !shields
#else
    skip
#endif
}

active proctype fiber()
{
    byte until, state;
    bit seen_cancelled;

    do
    :: wait == WAITS || seen_cancelled -> break
    :: else ->
        wait++;
        if
        :: until = DUE
        :: until = LATER
        :: until = NONE
        fi;
#if SCENE != TIMES
        if
        :: shields = 0
        :: shields = 1
        fi;
#endif
        if
        :: /* receive: there will be values enough */
            begin_wait();
            lock(object_lock);
#if BUG != NO_FIBER_FENCE
            fiber_fence();
#endif
            look_at_flag();
            if
            :: nempty(values) ->
                atomic { values?state; got(state); state = 0 }
                end_wait();
                object_lock = 0
            :: empty(values) && seen_cancelled ->
                end_wait();
                object_lock = 0
            :: empty(values) && !seen_cancelled ->
                atomic { linked = 1; node = WORD(wait, WAITING); node_wait = wait }
                atomic { word_late!WORD(wait, WAITING); parked = 1 } /* arrive_parked */
                fiber_fence();
                object_lock = 0;
                atomic { ready -> ready = 0; parked = 0; state = STATE(word) }
                end_wait();
                if
                :: state == WON_EVENT ->
                    atomic { assert(!linked); got(handed); handed = 0 }
                :: else ->
#if BUG != STAYS_LINKED
                    lock(object_lock);
                    unlink();
                    object_lock = 0
#else
                    skip
#endif
                fi
            fi
        :: until == DUE || (cancel_comes && !shields) -> /* sleep: there is no object whose lock would be the fence */
            begin_wait();
#if BUG != NO_FIBER_FENCE
            fiber_fence();
#endif
            look_at_flag();
            if
            :: seen_cancelled -> end_wait()
            :: else ->
                atomic { word_late!WORD(wait, WAITING); parked = 1 }
                atomic { ready -> ready = 0; parked = 0; state = STATE(word) }
                assert(state != WON_EVENT);
                end_wait()
            fi
        fi;
        atomic {
            assert(state != WON_TIMEOUT || until == DUE);
            assert(state != WON_CANCEL || (cancelled && !shields));
            state = 0;
            until = 0
        }
    od;
    lock(heap_lock); /* sl_timer_forget */
    at = NONE;
    heap_lock = 0;
    assert(!linked && !ready);
    fiber_ended = 1
}

/* --- the others --- */

active proctype sender()
{
    byte value;
    bit won;

    do
    :: value == WAITS -> break
    :: else ->
        value++;
        lock(object_lock);
        if
        :: linked ->
            d_step { /* sl_claim */
                won = (word == node);
                if
                :: won -> word = CLAIM(node, WON_EVENT); assert(wait == node_wait)
                :: else
                fi
            }
            if
            :: won -> handed = value
            :: else -> values!value
            fi;
            unlink()
        :: else -> values!value
        fi;
        object_lock = 0;
        if
        :: won -> make_ready(); won = 0
        :: else
        fi
    od;
    sender_ended = 1
}

/* Entry of the fiber in the heap to `when`, NONE: out of it. */
inline put_entry(when) { atomic { at = when; key_late!when } }

/* sl_timers_expire, expire_one */
active proctype timer()
{
    byte seen, until;
    bit won;

end:
    do
    :: at <= DUE ->
        lock(heap_lock);
        if
        :: at <= DUE ->
#if BUG == DEADLINE_FIRST
            until = deadline;
            seen = word;
#else
            seen = word;
            until = deadline;
#endif
            if
            :: STATE(seen) == WAITING && until <= DUE ->
                empty(key_late);
                d_step {
                    won = (word == seen);
                    if
                    :: won -> word = CLAIM(seen, WON_TIMEOUT)
                    :: else
                    fi
                }
                if
                :: won -> put_entry(NONE)
                :: else
                fi
            :: until == LATER || (until == NONE && STATE(seen) == WAITING) -> /* where it belongs, or out */
                put_entry(until);
#if BUG != NO_TIMER_FENCE
                empty(key_late);
#endif
#if BUG != NO_SECOND_LOOK
                if
                :: STATE(seen) == WAITING && word == seen
                :: else -> put_entry(DUE) /* the next wait may rely on the old key */
                fi
#endif
            :: else /* stays near */
            fi
        :: else
        fi;
        empty(key_late);
        atomic { heap_lock = 0; seen = 0; until = 0 }
        if
        :: won -> make_ready(); won = 0
        :: else
        fi
    od
}

inline claim_for_cancel()
{
    empty(cancelled_late);
    d_step {
        won = (word == seen);
        if
        :: won -> word = CLAIM(seen, WON_CANCEL)
        :: else
        fi
    }
    if
    :: won -> make_ready(); goto away
    :: else
    fi
}

/* sl_scope_cancel */
active proctype canceller()
{
    byte seen, first;
    bit won, seen_shields;

    if
#if SCENE != TIMES
    :: cancel_comes = 1
#endif
    :: goto away
    fi;
    cancelled_late!1;
#if BUG != NO_CANCEL_FENCE
    empty(cancelled_late);
#endif
    /* poke */
#if BUG == SHIELDS_FIRST
    seen_shields = shields;
    first = word;
#else
    first = word;
    seen_shields = shields;
#endif
    if
    :: seen_shields -> goto away /* S5 */
    :: !seen_shields && STATE(first) == WAITING -> seen = first; claim_for_cancel(); goto away
#if BUG != ARMING_ONCE
    :: !seen_shields && STATE(first) == ARMING
#endif
    :: else -> goto away
    fi;
    /* look_again */
    do
    :: seen = word;
        if
        :: SEQUENCE(seen) != SEQUENCE(first) -> break
        :: SEQUENCE(seen) == SEQUENCE(first) && STATE(seen) == WAITING -> claim_for_cancel()
        :: SEQUENCE(seen) == SEQUENCE(first) && STATE(seen) == ARMING
        :: else -> break
        fi
    od;
away:
    atomic { seen = 0; first = 0; seen_shields = 0; won = 0 }
}

active proctype memory()
{
end:
    do
    :: atomic { word_late?word }
    :: atomic { key_late?key }
    :: atomic { cancelled_late?cancelled }
    od
}

active proctype afterwards()
{
    byte i;

    fiber_ended && sender_ended;
    d_step {
        do
        :: nempty(values) -> values?i; got(i)
        :: empty(values) -> break
        od;
        assert(handed == 0 && received == (1 << (WAITS + 1)) - 2)
    }
}
