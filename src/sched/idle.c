/* idle.c - the transitions of the idle word. Nothing here blocks or rings; the caller rings the doorbell of a worker it claimed. */
#include "sched/idle.h"

#define SEARCHER ((uint64_t)1 << SL_WORKERS_PER_GROUP)

static _Atomic(uint64_t) *word_of(struct sl_idle *idle, unsigned number)
{
    return &idle->group[number / SL_WORKERS_PER_GROUP].word;
}

static uint64_t bit_of(unsigned number)
{
    return (uint64_t)1 << number % SL_WORKERS_PER_GROUP;
}

static unsigned group_size(const struct sl_idle *idle, unsigned g)
{
    unsigned rest = idle->worker_count - g * SL_WORKERS_PER_GROUP;

    return rest < SL_WORKERS_PER_GROUP ? rest : SL_WORKERS_PER_GROUP;
}

/* I3 */
static bool may_search(uint64_t word, unsigned size)
{
    unsigned searching = (unsigned)(word >> SL_WORKERS_PER_GROUP);
    unsigned awake = size - (unsigned)__builtin_popcountll(word & SL_IDLE_SLEEPERS);

    return 2 * searching < awake - searching + 1;
}

void sl_idle_init(struct sl_idle *idle, unsigned worker_count)
{
    for (unsigned g = 0; g < SL_WORKER_GROUPS; g++)
        sl_store_relaxed(&idle->group[g].word, 0);
    idle->worker_count = worker_count;
    sl_store_relaxed(&idle->watcher, -1);
    sl_store_relaxed(&idle->dormant, 0);
}

int sl_idle_claim(struct sl_idle *idle, unsigned near)
{
    unsigned groups = (idle->worker_count + SL_WORKERS_PER_GROUP - 1) / SL_WORKERS_PER_GROUP;
    int32_t watcher = sl_load_relaxed(&idle->watcher); /* hint: it is claimed last, since somebody must watch in its place */

    for (unsigned i = 0; i < groups; i++) {
        unsigned g = (near / SL_WORKERS_PER_GROUP + i) % groups;
        uint64_t word = sl_load_relaxed(&idle->group[g].word); /* [idle.1] re-checked by the compare-and-swap */

        while ((word & SL_IDLE_SLEEPERS) != 0 && may_search(word, group_size(idle, g))) {
            uint64_t sleepers = word & SL_IDLE_SLEEPERS;

            if (watcher >= 0 && (unsigned)watcher / SL_WORKERS_PER_GROUP == g && (sleepers & ~bit_of((unsigned)watcher)) != 0)
                sleepers &= ~bit_of((unsigned)watcher);
            if (sl_cas_seq_cst(&idle->group[g].word, &word, (word & ~(sleepers & -sleepers)) + SEARCHER))
                return (int)(g * SL_WORKERS_PER_GROUP + (unsigned)__builtin_ctzll(sleepers));
        }
    }
    return -1;
}

bool sl_idle_claim_one(struct sl_idle *idle, unsigned number)
{
    uint64_t word = sl_load_relaxed(word_of(idle, number)); /* re-checked by the compare-and-swap */

    while (word & bit_of(number))
        if (sl_cas_seq_cst(word_of(idle, number), &word, (word & ~bit_of(number)) + SEARCHER))
            return true;
    return false;
}

void sl_idle_announce(struct sl_idle *idle, unsigned number, bool was_searching)
{
    sl_add_seq_cst(word_of(idle, number), bit_of(number) - (was_searching ? SEARCHER : 0)); /* [idle.1] */
}

bool sl_idle_retire(struct sl_idle *idle, unsigned number)
{
    uint64_t had = sl_and_seq_cst(word_of(idle, number), ~bit_of(number)); /* [idle.2] */

    return !(had & bit_of(number));
}

bool sl_idle_search_begin(struct sl_idle *idle, unsigned number)
{
    unsigned size = group_size(idle, number / SL_WORKERS_PER_GROUP);
    uint64_t word = sl_load_relaxed(word_of(idle, number)); /* re-checked by the compare-and-swap */

    while (may_search(word, size))
        if (sl_cas_seq_cst(word_of(idle, number), &word, word + SEARCHER))
            return true;
    return false;
}

bool sl_idle_search_end(struct sl_idle *idle, unsigned number)
{
    return (sl_add_seq_cst(word_of(idle, number), -SEARCHER) - SEARCHER) >> SL_WORKERS_PER_GROUP == 0;
}

bool sl_idle_sleeps(const struct sl_idle *idle, unsigned number)
{
    return sl_load_seq_cst(&idle->group[number / SL_WORKERS_PER_GROUP].word) & bit_of(number);
}

unsigned sl_idle_awake(const struct sl_idle *idle)
{
    unsigned asleep = 0;

    for (unsigned g = 0; g * SL_WORKERS_PER_GROUP < idle->worker_count; g++)
        asleep += (unsigned)__builtin_popcountll(sl_load_seq_cst(&idle->group[g].word) & SL_IDLE_SLEEPERS);
    return idle->worker_count - asleep;
}
