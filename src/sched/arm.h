/* arm.h - what select must know of an object: three functions. Each room provides those of its own kinds of object.
 *
 * `n` is one case of a select: kind, object, data and value are the caller's, `result` is to be filled with what the plain call would
 * return (as a value >= 0 or -errno; for a receive 1 or 0). The object is not NULL.
 *
 *   ready   may the arm go? A hint, without the lock, wrong in either direction.
 *   arm     under the object's lock: if the arm can go, do it and set result. Else, SL_ARM_LINK only: link the node.
 *           While others of the same select are linked (SL_ARM_LINK) the fiber must first claim itself: sl_claim_self; and who waits on the
 *           other side must not be the select itself (sl_wait_list_has_live). If a partner that looked live cannot be claimed after
 *           that: SL_ARMED_AGAIN. Whoever was claimed is made ready after the unlock.
 *   disarm  under the object's lock: unlink the node if it is linked.
 *   settle  the arm was claimed: with `why`, SL_ARM_EVENT or SL_ARM_CLOSE; all locks are free. Set result. false: it was not for
 *           good, look at everything again (somebody else was faster). NULL: result is right as it is. */
#ifndef SL_ARM_H
#define SL_ARM_H

#include "sched/park.h"

enum sl_arm_mode {
    SL_ARM_TRY, /* the fiber has begun no wait */
    SL_ARM_LINK /* it has begun one on many */
};

enum sl_armed {
    SL_ARMED_NOT_YET, /* TRY: it cannot go now */
    SL_ARMED_LINKED,  /* LINK: the node is in the object's list */
    SL_ARMED_DONE,    /* it went */
    SL_ARMED_LOST,    /* LINK: another arm has won */
    SL_ARMED_AGAIN    /* LINK: the fiber has claimed itself in vain */
};

struct sl_arm_ops {
    bool (*ready)(struct sl_wait_node *n);
    enum sl_armed (*arm)(struct sl_wait_node *n, struct sl_fiber *f, enum sl_arm_mode mode);
    void (*disarm)(struct sl_wait_node *n);
    bool (*settle)(struct sl_wait_node *n, unsigned why);
};

#endif
