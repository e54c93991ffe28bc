/* arms.h - the objects of this room as arms of a select (sched/arm.h). */
#ifndef SL_SYNC_ARMS_H
#define SL_SYNC_ARMS_H

#include "sched/arm.h"

extern const struct sl_arm_ops sl_event_arm; /* result 0: it is set, and stays so */
extern const struct sl_arm_ops sl_sem_arm;   /* result 0: one permit was taken */

#endif
