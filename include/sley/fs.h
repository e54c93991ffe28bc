/* sley/fs.h - files by name. Rule of io.h; only the at forms exist (AT_FDCWD for a plain path), except open.
 *
 * Opening a FIFO on a fiber does not wait for its other end: it is as with O_NONBLOCK, and without a reader -ENXIO. With SLEY_NOW an open
 * is -ETIMEDOUT unless everything lies in the kernel's caches; O_CREAT, O_TRUNC, statx by path and all other calls here cannot be tried
 * so, and are -EOPNOTSUPP, but where they say something else. -EAGAIN: the kernel lacks the operation, and no thread can be made for it
 * (see sley_blocking). */
#ifndef SLEY_FS_H
#define SLEY_FS_H

#include <sley/base.h>

SLEY_BEGIN_DECLS

struct open_how;
struct statx;

SLEY_API SLEY_MUST_USE int sley_open(const char *path, int flags, mode_t mode, sley_time deadline); /* a descriptor; sley_close it */
SLEY_API SLEY_MUST_USE int sley_openat(int dirfd, const char *path, int flags, mode_t mode, sley_time deadline);
SLEY_API SLEY_MUST_USE int sley_openat2(int dirfd, const char *path, const struct open_how *how, size_t how_bytes, sley_time deadline); /* RESOLVE_BENEATH... */
SLEY_API SLEY_MUST_USE int sley_statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *out, sley_time deadline);
SLEY_API SLEY_MUST_USE int sley_fsync(int fd, sley_time deadline);
SLEY_API SLEY_MUST_USE int sley_fdatasync(int fd, sley_time deadline);
SLEY_API SLEY_MUST_USE int sley_sync_file_range(int fd, off_t offset, off_t bytes, unsigned flags, sley_time deadline);
SLEY_API SLEY_MUST_USE int sley_fallocate(int fd, int mode, off_t offset, off_t bytes, sley_time deadline);
SLEY_API SLEY_MUST_USE int sley_ftruncate(int fd, off_t bytes, sley_time deadline);
SLEY_API int sley_fadvise(int fd, off_t offset, off_t bytes, int advice, sley_time deadline); /* with SLEY_NOW too, but WILLNEED and DONTNEED */
SLEY_API SLEY_MUST_USE int sley_copy_file_range(int in_fd, off_t *in_offset, int out_fd, off_t *out_offset, size_t bytes, unsigned flags, sley_time deadline); /* short at the end, or when an error came after it */

/* flock(2): LOCK_SH, LOCK_EX or LOCK_UN, and LOCK_NB: -EAGAIN where it would wait. LOCK_UN is never refused, whatever the deadline.
 * The lock is the open file description's: descriptors that are copies of one another have it together. From shared to exclusive, or
 * back, it is given up first; so a call that fails has lost the lock that was there before. */
SLEY_API SLEY_MUST_USE int sley_flock(int fd, int operation, sley_time deadline);

SLEY_API SLEY_MUST_USE int sley_renameat2(int old_dirfd, const char *old_path, int new_dirfd, const char *new_path, unsigned flags, sley_time deadline);
SLEY_API SLEY_MUST_USE int sley_linkat(int old_dirfd, const char *old_path, int new_dirfd, const char *new_path, int flags, sley_time deadline);
SLEY_API SLEY_MUST_USE int sley_symlinkat(const char *target, int dirfd, const char *path, sley_time deadline);
SLEY_API SLEY_MUST_USE int sley_readlinkat(int dirfd, const char *path, char *buf, size_t bytes, sley_time deadline); /* how many bytes; no NUL */
SLEY_API SLEY_MUST_USE int sley_unlinkat(int dirfd, const char *path, int flags, sley_time deadline); /* AT_REMOVEDIR: a directory */
SLEY_API SLEY_MUST_USE int sley_mkdirat(int dirfd, const char *path, mode_t mode, sley_time deadline);

/* Whole files. read: whatever its size says, as in /proc; -EFBIG: more than INT_MAX bytes; out_bytes may be NULL.
 * replace: all or nothing, on disk on return. Until the new file has the name, whatever goes wrong leaves the old one as it was, and nothing
 * beside it; from then on nothing cuts the call. The mode is the new file's, whatever the umask; a symbolic link is replaced itself. */
SLEY_API SLEY_MUST_USE int sley_file_read(int dirfd, const char *path, void **out, size_t *out_bytes, sley_time deadline); /* free() it; one NUL follows */
SLEY_API SLEY_MUST_USE int sley_file_replace(int dirfd, const char *path, const void *data, size_t bytes, mode_t mode, sley_time deadline);

/* Directories. One fiber or thread at a time uses a sley_dir. What is made or removed meanwhile may be seen or not. With SLEY_NOW an entry
 * comes only out of those that have been read already: some hundred at a time. */
typedef struct sley_dir sley_dir;
typedef struct sley_dirent { uint64_t inode; unsigned char type; char name[256]; } sley_dirent; /* type: DT_REG, DT_DIR...; DT_UNKNOWN: ask sley_statx */
SLEY_API SLEY_MUST_USE int sley_dir_open(sley_dir **out, int dirfd, const char *path, sley_time deadline);
SLEY_API SLEY_MUST_USE int sley_dir_next(sley_dir *d, sley_dirent *out, sley_time deadline); /* 1: an entry, never . or ..; 0: no more */
SLEY_API void sley_dir_close(sley_dir *d);

SLEY_END_DECLS
#endif
