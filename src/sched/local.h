/* local.h - fiber-local values (sley/fiber.h): what a fiber's end and a plain thread's owe them. */
#ifndef SL_LOCAL_H
#define SL_LOCAL_H

#include "ctx/stack.h"
#include "plat/self.h"

/* The end of l's fiber or thread, on it: run the drops, then forget every value. l is empty after it. */
void sl_locals_drop(struct sl_locals *l);
void sl_locals_forget(struct sl_locals *l); /* without the drops */

/* The same for plain thread t, the caller's own. */
void sl_locals_thread_ends(struct sl_thread *t);
void sl_locals_thread_forget(struct sl_thread *t);

#endif
