/* uring_abi.h - bounds of the kernel's side of a ring, and constants that the header of liburing 2.3 lacks. Those stand in
 * include/uapi/linux/io_uring.h of the kernel named. Whether the kernel at hand has them is asked for, see plat/feature.h. */
#ifndef SL_URING_ABI_H
#define SL_URING_ABI_H

#define SL_IOWQ_BOUNDED   4  /* kernel workers a ring for regular files */
#define SL_IOWQ_UNBOUNDED 16 /* kernel workers a ring for everything that may wait without bound */

#define SL_OP_FTRUNCATE   55 /* IORING_OP_FTRUNCATE, Linux 6.9 */

#endif
