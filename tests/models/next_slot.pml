/* next_slot.pml - the next slot's claim: an owner with plain loads and stores, and thieves that pay with a membarrier.
 *
 * Models src/sched/next.h and next.c as they are written: sl_next_exchange, sl_next_settle, sl_next_steal; the unit is a fiber. The owner
 * exchanges the slot EXCHANGES times, putting in nothing or a fiber that is not in it, so also one that a thief has taken out and run
 * meanwhile while the slot still shows it (N2). Two thieves try at any time with what they saw there.
 *
 * Store buffer: the owner's stores to slot and claim stay in it in their order; it drains at any time, and before the owner's own
 * compare-and-swap, and within anybody's membarrier. Thieves only do read-modify-writes.
 *
 * Left out: the tick and the two looks (they only make an attempt rarer); the variant that exchanges on both sides.
 *
 * Shown: a fiber that was put in comes out exactly once, to the owner or to one thief; at the end none is left behind; the fiber that
 * TAKEN names is one that the owner knows of.
 *
 *   check TWO_THIEVES - an owner, two thieves, two fibers
 *   bug NO_MEMBARRIER in TWO_THIEVES - the thief looks at the slot again without one: a fiber runs twice
 *   bug CLAIM_FIRST in TWO_THIEVES - the owner looks at claim before it stores the slot
 *   bug MARKS_ALIKE in TWO_THIEVES - all attempts have the same mark
 *   bug TAKEN_IS_OLD in TWO_THIEVES - the owner takes TAKEN to mean the old fiber: the new one runs twice, the old one is lost
 *   bug BEGINS_ANYWAY in TWO_THIEVES - a thief begins while claim is not 0, [N2]
 *   bug NEW_STAYS in TWO_THIEVES - the new one was taken, and the owner leaves it in the slot
 */
#define TWO_THIEVES 2
#ifndef SCENE
#define SCENE TWO_THIEVES
#endif

#define NO_MEMBARRIER  1
#define CLAIM_FIRST    2
#define MARKS_ALIKE    3
#define TAKEN_IS_OLD   4
#define BEGINS_ANYWAY  5
#define NEW_STAYS      6
#ifndef BUG
#define BUG 0
#endif

#define EXCHANGES 4
#define ATTEMPTS  2             /* of each thief */
#define FIBERS    2             /* 1 and 2; 0: none */

/* claim: 0, TAKEN + fiber, or a mark. */
#define TAKEN         64
#define IS_TAKEN(c)   ((c) & TAKEN)

byte slot, claim;
byte attempts;

#define SLOT  0
#define CLAIM 1
chan late = [3] of { bit, byte }; /* the owner's stores */

bit inside[FIBERS + 1];         /* put in and not yet come out */
byte thieves_ended;

inline put_in(f)
{
    d_step {
        if
        :: f != 0 -> assert(!inside[f]); inside[f] = 1
        :: else
        fi
    }
}

inline comes_out(f)
{
    d_step {
        if
        :: f != 0 -> assert(inside[f]); inside[f] = 0
        :: else
        fi
    }
}

/* The owner's load of claim: from its own buffer, if its store is still there. */
#define OWN_CLAIM (late??[CLAIM, 0] -> 0 : claim)

inline settle() /* seen: what the owner has loaded from claim, not 0 */
{
    if
    :: !IS_TAKEN(seen) ->
        empty(late);
        d_step {
            if
            :: claim == seen -> claim = 0; seen = 0
            :: else -> seen = claim
            fi
        }
    :: else
    fi;
    if
    :: IS_TAKEN(seen) ->
        seen = seen - TAKEN;
        assert(seen == had || seen == put);
        if
#if BUG == TAKEN_IS_OLD
        :: true -> had = 0
#else
        :: seen == had -> had = 0
        :: else ->
            mine = 0;
#if BUG != NEW_STAYS
            late!SLOT, 0
#endif
#endif
        fi;
        late!CLAIM, 0
    :: else
    fi
}

inline exchange()
{
    had = mine;                 /* the slot; only the owner stores it */
#if BUG == CLAIM_FIRST
    seen = OWN_CLAIM;
#endif
    atomic { put_in(put); mine = put; late!SLOT, put }
#if BUG != CLAIM_FIRST
    seen = OWN_CLAIM;
#endif
    if
    :: seen != 0 -> settle()
    :: else
    fi;
    comes_out(had)
}

active proctype owner()
{
    byte mine, had, put, seen, n;

    do
    :: n == EXCHANGES -> break
    :: n < EXCHANGES ->
        n++;
        if
        :: put = 0
        :: !inside[1] -> put = 1
        :: !inside[2] -> put = 2
        fi;
        exchange();
        atomic { had = 0; put = 0; seen = 0 }
    od;
    thieves_ended == 2;
    exchange();
    empty(late);
    assert(!inside[1] && !inside[2] && slot == 0)
}

active [2] proctype thief()
{
    byte tries, seen, mark;
    bit won;

    do
    :: tries == ATTEMPTS -> break
    :: true -> break
    :: atomic { tries < ATTEMPTS && slot != 0 -> seen = slot; tries++ }
        /* sl_next_steal */
        atomic {
#if BUG == MARKS_ALIKE
            mark = 1;
#else
            attempts++;
            mark = attempts;
#endif
#if BUG == BEGINS_ANYWAY
            won = 1;
            claim = mark
#else
            won = (claim == 0);
            if
            :: won -> claim = mark
            :: else
            fi
#endif
        }
        if
        :: won ->
#if BUG != NO_MEMBARRIER
            empty(late); /* membarrier: there is a moment at which the owner's earlier stores are all out */
#endif
            if
            :: slot == seen ->
                d_step {
                    if
                    :: claim == mark -> claim = TAKEN + seen; comes_out(seen)
                    :: else /* the owner has settled it */
                    fi
                }
            :: else ->
                d_step {
                    if
                    :: claim == mark -> claim = 0
                    :: else
                    fi
                }
            fi
        :: else
        fi;
        atomic { seen = 0; mark = 0; won = 0 }
    od;
    thieves_ended++
}

active proctype memory()
{
    bit which;
    byte value;

end:
    do
    :: atomic { late?which, value ->
        if
        :: which == SLOT -> slot = value
        :: else -> claim = value
        fi;
        which = 0; value = 0 }
    od
}
