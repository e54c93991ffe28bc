/* whole_file.c - a file as one piece of memory: read it, or put another in its place.
 *
 * A replaced file is the old one or the new one at any time, for whoever opens it and after a crash: the new one is written beside it under
 * a name of its own, brought to the disk, renamed over it, and the folder is brought to the disk. Until the rename every failure, deadline
 * and cancel takes the temporary file away, under a shield. It is made under a shield too: a making that is cut may have made it all the
 * same, and that would not be told. From the rename on nothing cuts the call: it ends when the disk has it. */
#include "io/call.h"
#include "sched/random.h"

#include <sley/fs.h>
#include <sley/io.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES ((size_t)256 << 10) /* one read of what is in memory: 30 microseconds of copying, others wait that long */
#define FIRST_BYTES ((size_t)4 << 10)   /* of a file that does not say how large it is */
#define FILE_BYTES_MAX ((size_t)INT32_MAX)
#define NAME_TRIES  100

/* --- reading ------------------------------------------------------------------------------------------------------------------- */

/* How much room to begin with: a byte more than there is, so that the end is met in the same read. < 0: -errno. */
static int64_t first_room(int fd)
{
    struct statx sx;
    int rc = sl_sys_statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_SIZE, &sx);

    if (rc < 0)
        return rc;
    if (!S_ISREG(sx.stx_mode) || sx.stx_size == 0) /* a file of /proc has a size of 0 */
        return (int64_t)FIRST_BYTES;
    return sx.stx_size <= FILE_BYTES_MAX ? (int64_t)sx.stx_size + 1 : -EFBIG;
}

static int read_to_end(int fd, char **out, size_t *out_bytes, sley_time deadline)
{
    int64_t first = first_room(fd);
    size_t room = (size_t)first, have = 0;
    char *buf, *more;
    int n;

    if (first < 0)
        return (int)first;
    buf = malloc(room + 1);
    if (buf == NULL)
        return -ENOMEM;
    for (;;) {
        if (have == room) {
            n = room > FILE_BYTES_MAX ? -EFBIG : -ENOMEM;
            room = room < FILE_BYTES_MAX / 2 ? room * 2 : FILE_BYTES_MAX + 1;
            if (n == -EFBIG || (more = realloc(buf, room + 1)) == NULL)
                goto undo_buf;
            buf = more;
        }
        n = sley_read(fd, buf + have, room - have < PIECE_BYTES ? room - have : PIECE_BYTES, deadline);
        if (n < 0)
            goto undo_buf;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    if (have > FILE_BYTES_MAX) {
        n = -EFBIG;
        goto undo_buf;
    }
    buf[have] = '\0';
    if (room > have + 1 && (more = realloc(buf, have + 1)) != NULL)
        buf = more;
    *out = buf;
    *out_bytes = have;
    return 0;

undo_buf:
    free(buf);
    return n;
}

int sley_file_read(int dirfd, const char *path, void **out, size_t *out_bytes, sley_time deadline)
{
    char *buf;
    size_t bytes;
    int fd, rc;

    if (out == NULL)
        return -EINVAL;
    fd = sley_openat(dirfd, path, O_RDONLY | O_NOCTTY, 0, deadline);
    if (fd < 0)
        return fd;
    rc = read_to_end(fd, &buf, &bytes, deadline);
    sley_close(fd);
    if (rc < 0)
        return rc;
    *out = buf;
    if (out_bytes != NULL)
        *out_bytes = bytes;
    return 0;
}

/* --- replacing ----------------------------------------------------------------------------------------------------------------- */

struct replacement {
    int         folder, fd;
    const char *name;      /* in the folder */
    char        temp[40];
    mode_t      mode;
};

/* The folder of path, opened; *name: what is left. -errno. */
static int open_folder(int dirfd, const char *path, const char **name, sley_time deadline)
{
    const char *slash;
    char *folder;
    int fd;

    if (path == NULL)
        return -EFAULT;
    slash = strrchr(path, '/');
    *name = slash != NULL ? slash + 1 : path;
    if (path[0] == '\0')
        return -ENOENT;
    if ((*name)[0] == '\0' || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0)
        return -EISDIR;
    if (strlen(*name) > NAME_MAX)
        return -ENAMETOOLONG;
    if (slash == NULL)
        return sley_openat(dirfd, ".", O_RDONLY | O_DIRECTORY, 0, deadline);
    folder = malloc((size_t)(slash - path) + 2);
    if (folder == NULL)
        return -ENOMEM;
    memcpy(folder, path, (size_t)(slash - path) + 1);
    folder[slash - path + 1] = '\0'; /* with its slash, so that "/" is one */
    fd = sley_openat(dirfd, folder, O_RDONLY | O_DIRECTORY, 0, deadline);
    free(folder);
    return fd;
}

/* Make the temporary file; under a shield. */
static int make_temporary(struct replacement *r)
{
    int fd = -EEXIST;

    for (int tries = 0; fd == -EEXIST && tries < NAME_TRIES; tries++) {
        snprintf(r->temp, sizeof(r->temp), ".sley-%llx-%x.tmp", (unsigned long long)sl_clock_ns(), sl_random_below(UINT32_MAX));
        fd = sley_openat(r->folder, r->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, r->mode, SLEY_FOREVER);
    }
    return fd;
}

/* Take the temporary file away; under a shield. If the ring cannot take it now, without the ring. */
static void unlink_temporary(const struct replacement *r)
{
    struct sl_op op = { .code = IORING_OP_UNLINKAT, .fd = r->folder, .addr = (uintptr_t)r->temp };

    if (sley_unlinkat(r->folder, r->temp, 0, SLEY_FOREVER) == -EAGAIN)
        sl_perform(&op, NULL);
}

/* The mode that was asked for, which the umask, or the folder, may have changed. */
static int apply_mode(const struct replacement *r, sley_time deadline)
{
    struct sl_op op = { .code = SL_OP_FCHMOD, .fd = r->fd, .len = r->mode };
    struct statx sx;
    struct sl_call c;
    int rc = sl_sys_statx(r->fd, "", AT_EMPTY_PATH, STATX_MODE, &sx);

    if (rc < 0 || (sx.stx_mode & 07777) == r->mode)
        return rc;
    rc = sl_call_begin(&c, r->fd, deadline);
    if (rc < 0)
        return rc;
    rc = sl_call_perform(&c, &op, deadline);
    sl_call_end(&c);
    return rc;
}

static int fill_temporary(const struct replacement *r, const void *data, size_t bytes, sley_time deadline)
{
    int rc = sley_write_all(r->fd, data, bytes, deadline);

    if (rc == 0)
        rc = apply_mode(r, deadline);
    return rc == 0 ? sley_fsync(r->fd, deadline) : rc;
}

/* Put it in the place of the old one; under a shield. An error of the last step leaves the new file there: whole, but perhaps not on the
 * disk. Some file systems cannot bring a folder to the disk (-EINVAL), and need not be asked to. */
static int put_in_place(const struct replacement *r)
{
    int rc = sley_renameat2(r->folder, r->temp, r->folder, r->name, 0, SLEY_FOREVER);

    if (rc < 0) {
        unlink_temporary(r);
        return rc;
    }
    rc = sley_fsync(r->folder, SLEY_FOREVER);
    return rc == -EINVAL ? 0 : rc;
}

static int replace_in_folder(struct replacement *r, const void *data, size_t bytes, sley_time deadline)
{
    struct sl_fiber *f = sl_current();
    int rc, closed;

    sl_shield_begin(f);
    r->fd = make_temporary(r);
    sl_shield_end(f);
    if (r->fd < 0)
        return r->fd;
    rc = fill_temporary(r, data, bytes, deadline);
    closed = sley_close(r->fd);
    if (rc == 0)
        rc = closed;
    sl_shield_begin(f);
    if (rc == 0)
        rc = put_in_place(r);
    else
        unlink_temporary(r);
    sl_shield_end(f);
    return rc;
}

int sley_file_replace(int dirfd, const char *path, const void *data, size_t bytes, mode_t mode, sley_time deadline)
{
    struct replacement r = { .mode = mode & 07777 };
    int rc = deadline == SLEY_NOW ? -EOPNOTSUPP : sl_deadline_check(deadline);

    if (rc < 0)
        return rc;
    if (data == NULL && bytes > 0)
        return -EFAULT;
    if (sl_cancelled(sl_current()))
        return -ECANCELED;
    r.folder = open_folder(dirfd, path, &r.name, deadline);
    if (r.folder < 0)
        return r.folder;
    rc = replace_in_folder(&r, data, bytes, deadline);
    sley_close(r.folder);
    return rc;
}
