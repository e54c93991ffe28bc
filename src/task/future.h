/* future.h - for the other files of src/task: a future as an arm of a select (sched/arm.h). */
#ifndef SL_TASK_FUTURE_H
#define SL_TASK_FUTURE_H

#include "sched/arm.h"

extern const struct sl_arm_ops sl_future_arm; /* its outcome; -EDEADLK: it is the task that selects */

#endif
