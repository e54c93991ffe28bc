/* select.pml - a wait for the first of several arms, against others of its kind, plain waits, close and time.
 *
 * Models M1 to M4 of src/sched/park.h, sl_park_many of src/sched/ready.c, src/task/select.c and the arms of unbuffered channels: the fiber
 * locks one object at a time, may be claimed from the first link on, and claims itself before it takes an arm. Channels A and B have a
 * lock, a list of senders and one of receivers. A fiber sends or receives one message, plainly or as one of the two arms of a select, which
 * it visits in either order.
 *
 * Left out: the sequence (under an object's lock a node is of its fiber's present wait; what the sequence is for is in wait_word.pml); the
 * first look without a wait; the cancel flag; messages in a buffer. `winner` is what the fiber's wait_object says. Not shown: that two
 * selects that meet crosswise and undo each other stop doing so; the order drawn anew sees to that.
 *
 * Shown: exactly one arm fires; a message goes exactly once, is whole when its receiver reads it, and its sender has not returned before
 * it is read; a fiber is made ready only while it is parked, and once; nobody stays parked when a partner or a close is there; no node is
 * left linked.
 *
 *   check CROSSWISE - two selects, each sends where the other receives
 *   check SAME - two selects, each sends and receives on one channel
 *   check CROWD - two crosswise selects, a plain sender and a plain receiver
 *   check CLOSE - two crosswise selects; the channels are closed, and the deadline of one select passes
 *   bug TAKES_UNCLAIMED in CLOSE - an arm is taken although another one may have been claimed
 *   bug PLAIN_COMMIT in CROSSWISE - WAITING is stored over a claim made while arming
 *   bug READS_EARLY in CROSSWISE - claimed while arming, it does not wait for the claimer under the lock of the arm that won
 *   bug WAKES_ARMING in CLOSE - a closer makes a fiber ready that has not parked
 *   bug MEETS_ITSELF in SAME - a select takes its own node for a partner
 *   bug STAYS_LINKED in CROWD - the winner leaves its other node in the list
 *   bug KEEPS_NODES in CROWD - it starts over without unlinking: the same node is linked twice
 */
#define CROSSWISE 1
#define SAME      2
#define CROWD     3
#define CLOSE     4
#ifndef SCENE
#define SCENE CROSSWISE
#endif

#define TAKES_UNCLAIMED 1
#define PLAIN_COMMIT    2
#define READS_EARLY     3
#define WAKES_ARMING    4
#define MEETS_ITSELF    5
#define STAYS_LINKED    6
#define KEEPS_NODES     7
#ifndef BUG
#define BUG 0
#endif

#if SCENE == CROWD
#define FIBERS 4
#else
#define FIBERS 2
#endif

/* A place is a side of a channel: where a fiber links itself. Its partner's is `place ^ 1`, its channel `place >> 1`. */
#define SEND_A  0
#define RECV_A  1
#define SEND_B  2
#define RECV_B  3
#define NOWHERE 4
#define SENDS(place) (((place) & 1) == 0)

/* A node is fiber times 2 plus arm. */
#define NODES    (2 * FIBERS)
#define FIBER(n) ((n) >> 1)
#define ARM(n)   ((n) & 1)

mtype = { IDLE, ARMING, ARMING_MANY, WAITING, WON_EVENT, WON_CLOSE, WON_TIME };

mtype word[FIBERS] = IDLE;
bit object_lock[2], closed[2];
chan list[4] = [FIBERS] of { byte };
byte winner[FIBERS] = NODES; /* NODES: nobody has said */
byte outbox[FIBERS];         /* the message that the fiber offers; 0: its frame is gone */
byte inbox[FIBERS];          /* the message that a sender gave it */

/* What the properties speak of. */
bit parked[FIBERS], ready[FIBERS];
byte fired[FIBERS];          /* arms of the fiber */
byte gone[FIBERS];           /* how often its message went */
bit sent[FIBERS], received[FIBERS];
byte ended;
hidden byte i;

#define LOCK(place)   atomic { object_lock[(place) >> 1] == 0 -> object_lock[(place) >> 1] = 1 }
#define UNLOCK(place) object_lock[(place) >> 1] = 0

#define CLAIMABLE(f) (word[f] == WAITING || word[f] == ARMING_MANY)
#if BUG == MEETS_ITSELF
#define OTHER(n) true
#else
#define OTHER(n) (FIBER(n) != me)
#endif

/* Is there somebody at `place` who can be claimed? sl_wait_list_has_live */
inline look_for_partner(place)
{
    found = 0;
    for (i : 0 .. NODES - 1) {
        if
        :: list[place]??[eval(i)] && OTHER(i) && CLAIMABLE(FIBER(i)) -> found = 1
        :: else
        fi
    }
    i = 0
}

/* sl_claim: the fiber of node n, for `why`. won: it is ours; wake: it must be made ready. */
inline claim(n, why)
{
    d_step {
        won = CLAIMABLE(FIBER(n));
        if
        :: won ->
            wake = (word[FIBER(n)] == WAITING);
            word[FIBER(n)] = why;
            fired[FIBER(n)]++;
            assert(fired[FIBER(n)] <= 1)
        :: else
        fi
    }
    if
    :: won -> winner[FIBER(n)] = n
    :: else
    fi
}

inline make_ready(f)
{
    atomic { assert(parked[f] && !ready[f]); ready[f] = 1 }
}

/* Node n out of the list at `place`, where it may not be any more. The lock is held. */
inline unlink(place, n)
{
    d_step {
        if
        :: list[place]??[eval(n)] -> list[place]??eval(n)
        :: else
        fi
    }
}

inline disarm(place, n)
{
    LOCK(place);
    unlink(place, n);
    UNLOCK(place)
}

inline disarm_all()
{
    disarm(place0, 2 * me);
    if
    :: is_select -> disarm(place1, 2 * me + 1)
    :: else
    fi
}

/* Under the lock: of those who wait on the other side of `place`, the first that can be claimed gets our message, or we get its. */
inline meet(place)
{
    foreign = 0;
    do
    :: d_step { nempty(list[(place) ^ 1]) -> list[(place) ^ 1]?<node>; partner = FIBER(node); foreign = foreign || partner != me }
        claim(node, WON_EVENT);
        if
        :: won ->
            d_step {
                fired[me]++;
                if
                :: SENDS(place) -> inbox[partner] = outbox[me]; gone[me]++; sent[me] = 1
                :: else -> assert(outbox[partner] == partner + 1); gone[partner]++; received[me] = 1
                fi
            }
            unlink((place) ^ 1, node);
            break
        :: else -> unlink((place) ^ 1, node)
        fi
    :: empty(list[(place) ^ 1]) -> won = 0; break
    od
}

/* Another has claimed us and made us ready, or we have been under its lock since. */
inline read_result()
{
    d_step {
        if
        :: why == WON_EVENT ->
            assert(winner[me] != NODES);
            place = (ARM(winner[me]) == 0 -> place0 : place1);
            if
            :: SENDS(place) -> sent[me] = 1
            :: else -> assert(inbox[me] != 0); received[me] = 1
            fi
        :: else
        fi
    }
}

proctype fiber(byte me; byte place0; byte place1)
{
    byte node, first, k, place, partner;
    bit found, won, wake, foreign, is_select;
    mtype why;

    is_select = (place1 != NOWHERE);
    outbox[me] = me + 1;

start_over:
    atomic {
        place = 0; node = 0; partner = 0; found = 0; wake = 0; foreign = 0;
        if
        :: is_select -> word[me] = ARMING_MANY
        :: else -> word[me] = ARMING
        fi;
        k = 0;
        if
        :: first = 0
        :: is_select -> first = 1
        fi
    }
    do
    :: k > is_select -> break
    :: else ->
        place = ((first ^ k) == 0 -> place0 : place1);
        LOCK(place);
        d_step { look_for_partner(place ^ 1) }
        if
        :: is_select && (found || closed[place >> 1]) -> /* sl_claim_self */
#if BUG == TAKES_UNCLAIMED
            word[me] = WON_EVENT;
#else
            if
            :: atomic { word[me] == ARMING_MANY -> word[me] = WON_EVENT }
            :: else -> UNLOCK(place); goto claimed
            fi;
#endif
            skip
        :: else
        fi;
        if
        :: closed[place >> 1] -> fired[me]++; UNLOCK(place); goto done
        :: found && !closed[place >> 1] ->
            meet(place);
            if
            :: won ->
                UNLOCK(place);
                if
                :: wake -> make_ready(partner)
                :: else
                fi;
                goto done
            :: !won && is_select -> /* claimed itself in vain */
                assert(foreign);
                UNLOCK(place);
                word[me] = IDLE;
#if BUG != KEEPS_NODES
                disarm_all();
#endif
                goto start_over
            :: else
            fi
        :: else
        fi;
        atomic {
            assert(!list[place]??[eval(2 * me + (first ^ k))]);
            list[place]!(2 * me + (first ^ k));
            if
            :: is_select
            :: else -> word[me] = WAITING; parked[me] = 1
            fi;
            UNLOCK(place);
            k++;
            place = 0; node = 0; partner = 0; found = 0; wake = 0; foreign = 0
        }
    od;
    if
    :: is_select -> /* commit_many */
#if BUG == PLAIN_COMMIT
        atomic { word[me] = WAITING; parked[me] = 1 }
#else
        if
        :: atomic { word[me] == ARMING_MANY -> word[me] = WAITING; parked[me] = 1 }
        :: else -> goto claimed
        fi
#endif
    :: else
    fi;
    atomic { ready[me] -> ready[me] = 0; parked[me] = 0 }
claimed:
    atomic { why = word[me]; word[me] = IDLE }
#if BUG == READS_EARLY
    read_result();
    disarm_all();
#elif BUG == STAYS_LINKED
    read_result();
#else
    if
    :: is_select || why == WON_TIME -> disarm_all()
    :: else
    fi;
    read_result();
#endif
    goto out;
done: /* it has won by itself */
    assert(fired[me] == 1);
    word[me] = IDLE;
    if
    :: is_select -> disarm_all()
    :: else
    fi;
out:
    atomic { outbox[me] = 0; ended++ }
}

#if SCENE == CLOSE
/* sley_chan_close */
proctype closer()
{
    byte channel, place, node, f;
    bit won, wake, wake_it[FIBERS];

    do
    :: channel == 2 -> break
    :: else ->
        LOCK(2 * channel);
        closed[channel] = 1;
        place = 2 * channel;
        do
        :: nempty(list[place]) ->
            list[place]?<node>;
            claim(node, WON_CLOSE);
            if
#if BUG == WAKES_ARMING
            :: won -> wake_it[FIBER(node)] = 1
#else
            :: won -> wake_it[FIBER(node)] = wake
#endif
            :: else
            fi;
            unlink(place, node)
        :: empty(list[place]) && !(place & 1) -> place++
        :: empty(list[place]) && (place & 1) -> break
        od;
        UNLOCK(2 * channel);
        f = 0;
        do
        :: f == FIBERS -> f = 0; node = 0; place = 0; won = 0; wake = 0; break
        :: f < FIBERS && wake_it[f] -> wake_it[f] = 0; make_ready(f)
        :: f < FIBERS && !wake_it[f] -> f++
        od;
        channel++
    od
}

/* The deadline of fiber 1 passes, or does not. */
proctype timer()
{
    if
    :: atomic { word[1] == WAITING -> word[1] = WON_TIME; fired[1]++; assert(fired[1] == 1) }
        make_ready(1)
    :: true
    fi
}
#endif

init {
    atomic {
#if SCENE == CROSSWISE
        run fiber(0, SEND_A, RECV_B);
        run fiber(1, RECV_A, SEND_B);
#elif SCENE == SAME
        run fiber(0, SEND_A, RECV_A);
        run fiber(1, SEND_A, RECV_A);
#elif SCENE == CROWD
        run fiber(0, SEND_A, RECV_B);
        run fiber(1, RECV_A, SEND_B);
        run fiber(2, SEND_A, NOWHERE);
        run fiber(3, RECV_A, NOWHERE);
#else
        run fiber(0, SEND_A, RECV_B);
        run fiber(1, RECV_A, SEND_B);
        run closer();
        run timer();
#endif
    }
    ended == FIBERS;
    d_step {
        assert(empty(list[0]) && empty(list[1]) && empty(list[2]) && empty(list[3]));
        for (i : 0 .. FIBERS - 1) {
            assert(fired[i] == 1 && gone[i] == sent[i] && sent[i] + received[i] <= 1);
#if SCENE != CLOSE
            assert(sent[i] + received[i] == 1)
#endif
        }
    }
}
