/* uring_abi.h - bounds of the kernel's side of a ring, and constants that the header of liburing 2.3 lacks (none so far is needed:
 * POLL_FIRST, SYNC_CANCEL, multishot poll are in it). */
#ifndef SL_URING_ABI_H
#define SL_URING_ABI_H

#define SL_IOWQ_BOUNDED   4  /* kernel workers a ring for regular files */
#define SL_IOWQ_UNBOUNDED 16 /* kernel workers a ring for everything that may wait without bound */

#endif
