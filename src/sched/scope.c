/* scope.c - cancelling a scope: its flag, one fence, then a look at each of its fibers ([cancel.1]).
 *
 * IDLE sees the flag by itself before it waits; ARMING is looked at again; WAITING is claimed; WAITING_IO gets a cancel request. */
#include "sched/scope.h"

#include "plat/cpu.h"
#include "sched/op.h"
#include "sched/worker.h"

struct sl_scope sl_scope_nowhere;

static void poke(const struct sl_scope *s, struct sl_fiber *f)
{
    for (;;) {
        uint64_t word = sl_load_acquire(&f->word); /* [cancel.1] before whose it is: should the block change hands, its sequence moves on */

        if (!(sl_load_acquire(&f->generation) & 1) || f->scope != s || f->flags & SL_FIBER_SYSTEM)
            return;
        switch (SL_WORD_STATE(word)) {
        case SL_IDLE:
        case SL_WON:
            return;
        case SL_WAITING:
            if (sl_cas_acq_rel(&f->word, &word, SL_WORD(SL_WORD_SEQUENCE(word), SL_ARM_CANCEL, SL_WON))) { /* [park.1] [park.2] */
                sl_ready(f);
                return;
            }
            break;
        case SL_WAITING_IO:
            sl_op_cancel(f, SL_WORD_SEQUENCE(word), SL_ARM_CANCEL);
            return;
        default:
            sl_cpu_relax();
            sl_thread_yield();
        }
    }
}

void sl_scope_cancel(struct sl_scope *s)
{
    uint32_t end;

    if (sl_swap_acq_rel(&s->cancelled, 1))
        return;
    sl_fence_seq_cst(); /* [cancel.1] */
    end = sl_fiber_index_end();
    for (uint32_t i = 0; i < end; i++)
        poke(s, sl_fiber_at(i));
    sl_runtime_news(s->rt); /* sley_run counts the grace from here */
}
