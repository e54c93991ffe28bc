/* sley/gen.h - generators. The body runs on its own stack inside the fiber that resumes it: it may call anything, and wait.
 *
 * The body is a plain function that calls sley_gen_yield, at any depth; "yield from" another body is calling it. Values in both
 * directions have elem_bytes. next, send and throw return 1: a value was written to out (NULL: dropped); 0: the body has
 * returned; -errno: its error, once, then 0. They take no deadline: they run your code; put a scope around them.
 * -EALREADY: it is running, or belongs to another fiber. -ENOMEM, at the first resume: no stack for it; it can be tried again.
 * -ECHILD: a forked child; the parent's fibers' generators are of no use there, destroying them does nothing, a thread's own go on.
 *
 * A generator belongs to the fiber, or plain thread, that made it, and runs in whatever scope it is resumed in: what cancels that
 * scope ends the waits of the body too. It is closed, youngest first, when the scope it was made in ends, before that scope waits for its
 * children, or else when its fiber or thread ends: what the body uses must last as long, and a function's frame does not. One made by a
 * generator's body counts as made where that generator was. One that has not started is closed without running its body. An error of a
 * body that nobody asked for goes to on_error. Closed is not freed: destroy it all the same.
 *
 * Scopes and shields that a body opens are its own: it may yield with them open, and they do not become the consumer's; while it is
 * suspended, the scope belongs to the one that the generator was made in. Other fibers started by a body belong to the scope that
 * is current there. A pin (sley_pin) is the fiber's, a fiber-local value too. */
#ifndef SLEY_GEN_H
#define SLEY_GEN_H

#include <sley/base.h>

SLEY_BEGIN_DECLS

typedef struct sley_gen sley_gen;

enum sley_gen_state { SLEY_GEN_CREATED, SLEY_GEN_RUNNING, SLEY_GEN_SUSPENDED, SLEY_GEN_CLOSED };

SLEY_API SLEY_MUST_USE sley_gen *sley_gen_create(sley_fn *body, void *arg, size_t elem_bytes); /* NULL: no memory */
/* The same, with a copy of *arg that lives as long as the generator; at most SLEY_COPY_BYTES_MAX. */
SLEY_API SLEY_MUST_USE sley_gen *sley_gen_create_copy(sley_fn *body, const void *arg, size_t arg_bytes, size_t elem_bytes);
/* Close and free. A body that yields while it is closed goes no further: one line in the log, -EPROTO to on_error, and what it held is
 * lost; with a scope or a shield of its own open: abort, at the end of a scope too. A generator that runs, is another fiber's, or was
 * released in another runtime: abort. */
SLEY_API void sley_gen_destroy(sley_gen *g);

SLEY_API SLEY_MUST_USE int sley_gen_next(sley_gen *g, void *out);
SLEY_API SLEY_MUST_USE int sley_gen_send(sley_gen *g, const void *in, void *out); /* -EINVAL: not started yet. in NULL: as next */
/* The body's yield returns error, less than 0. One that has not started is closed, and one that has ended stays so: result is error. */
SLEY_API SLEY_MUST_USE int sley_gen_throw(sley_gen *g, int error, void *out);
/* The body's yield returns -ECANCELED, it cleans up and returns: 0, or its error if that is another one; -EPROTO: it yielded, and is as
 * it was before. It runs in the present scope; in a cancelled one its waits fail, as everywhere. */
SLEY_API int  sley_gen_close(sley_gen *g);
SLEY_API enum sley_gen_state sley_gen_state(const sley_gen *g);
SLEY_API int  sley_gen_result(const sley_gen *g); /* what the body returned; -EAGAIN: it has not; -ECANCELED: closed before it started */

/* In a body. 1: a value was sent, now in *in; 0: plain next; -errno: thrown in, or -ECANCELED: closing; -EPERM: not in a body.
 * out NULL: no value; the consumer's stays as it is. *in is written only if the result is 1; NULL: what is sent is dropped. */
SLEY_API int  sley_gen_yield(const void *out, void *in);
/* Hand next, send, throw on to inner until it ends; its result. -ECANCELED closes inner first. -EINVAL: values of another size. */
SLEY_API SLEY_MUST_USE int sley_gen_yield_from(sley_gen *inner);

/* Hand a generator over to another fiber. The owner releases it: from then on it is nobody's, no scope closes it, and only adopt and
 * destroy may be called. -EBUSY: its body has a scope or a shield open. Who adopts it owns it, in the current scope. What orders the
 * two, a channel for instance, is the caller's. One that has started is to be adopted or destroyed before its runtime is destroyed. Others
 * that its body has made stay the first owner's. -EALREADY: it is not released; -EXDEV: it has started in another runtime, or on a plain
 * thread and this is a fiber, or the other way round. Both may be called of a generator that has ended. */
SLEY_API SLEY_MUST_USE int sley_gen_release(sley_gen *g);
SLEY_API SLEY_MUST_USE int sley_gen_adopt(sley_gen *g);

/* Iterate other things as generators; what is sent to them is dropped. */
SLEY_API SLEY_MUST_USE sley_gen *sley_gen_from_array(const void *base, size_t n, size_t elem_bytes); /* base is borrowed */
struct sley_chan;
SLEY_API SLEY_MUST_USE sley_gen *sley_gen_from_chan(struct sley_chan *ch); /* until ch is closed and empty; ch is borrowed */

SLEY_END_DECLS

#include <sley/gen_inline.h>

#endif
