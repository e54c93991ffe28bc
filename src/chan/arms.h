/* arms.h - the channels' arms of a select (sched/arm.h). */
#ifndef SL_CHAN_ARMS_H
#define SL_CHAN_ARMS_H

#include "sched/arm.h"

extern const struct sl_arm_ops sl_chan_recv_arm, sl_chan_send_arm;

#endif
