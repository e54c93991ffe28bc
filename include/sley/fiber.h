/* sley/fiber.h - fibers. Every fiber belongs to a scope, and always runs its function, even if the scope was cancelled first. */
#ifndef SLEY_FIBER_H
#define SLEY_FIBER_H

#include <sley/base.h>

SLEY_BEGIN_DECLS

#define SLEY_COPY_BYTES_MAX 1024 /* bound of the _copy forms, else -E2BIG; up to 64 bytes cost no allocation */

/* Start fn(arg) in the current scope. Its error goes to the scope, and so does a failure to start it (-ENOMEM), so that who waits for
 * the scope need not check here; who hands something over must. On an attached thread: into the root scope; else -EPERM. */
SLEY_API int sley_go(sley_fn *fn, void *arg);

/* The same, with a copy of *arg that lives in the fiber until fn returns. */
SLEY_API int sley_go_copy(sley_fn *fn, const void *arg, size_t arg_bytes);

SLEY_API int      sley_yield(void);                          /* let others run; -ECANCELED: the scope is cancelled */
SLEY_API uint64_t sley_self(void);                           /* this fiber's number, never reused; 0: not on a fiber */
SLEY_API void     sley_fiber_set_name(const char *name);     /* of this fiber, for dumps; copied, 31 bytes are kept */
SLEY_API void     sley_pin(void);                            /* stay on this worker; nests */
SLEY_API void     sley_unpin(void);

/* Call fn(arg) on a larger stack; its result. It is the same fiber, or plain thread, that goes on there: fn may wait, and scopes that it opens
 * it must close. -EINVAL: 0 bytes, or more than 1 GiB; -ENOMEM. */
SLEY_API int sley_on_big_stack(sley_fn *fn, void *arg, size_t stack_bytes);

/* Fiber-local values; thread-local on a plain thread. At its end, before its scope hears of it, the fiber itself drops what is not NULL, in
 * no particular order; a drop may do what the fiber may: wait, and set values, which are dropped in their turn, four rounds at most. A value
 * that is replaced, or whose key is destroyed, is not dropped. Create: -EAGAIN if all 1024 keys are in use. */
SLEY_API SLEY_MUST_USE int sley_local_create(void (*drop)(void *value)); /* a key >= 0; drop runs at the end of a fiber, may be NULL */
SLEY_API void  sley_local_destroy(int key);                              /* the caller sees to values still set */
SLEY_API int   sley_local_set(int key, void *value);                     /* the fiber owns value from here on */
SLEY_API void *sley_local_get(int key);

SLEY_END_DECLS
#endif
