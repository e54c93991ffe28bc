/* select.h - for the other files of src/task: select by order. */
#ifndef SL_TASK_SELECT_H
#define SL_TASK_SELECT_H

#include <sley/select.h>

enum sl_select_order { SL_SELECT_ANY, SL_SELECT_FIRST };

int sl_select(sley_case *cases, size_t n, sley_time deadline, enum sl_select_order order);

#endif
