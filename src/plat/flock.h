/* flock.h - waiting in flock(2) so that it can be given up at any time: in a helper, a process that can be killed. */
#ifndef SL_FLOCK_H
#define SL_FLOCK_H

#define SL_FLOCK_UNKNOWN 1

/* Let a helper wait for the lock of fd. *pidfd, the caller's to close, becomes readable when it has ended. 0; -errno: it could not be made;
 * -ENOSYS: not on this machine. */
int sl_flock_start(int fd, int operation, int *pidfd);

void sl_flock_kill(int pidfd);

/* Reap it; waits for its end. 0: it has got the lock; -errno: flock's own; SL_FLOCK_UNKNOWN: it was killed, before or after it got it. */
int sl_flock_end(int pidfd);

#endif
