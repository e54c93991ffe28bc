/* dir.c - what is in a directory. The kernel has no operation for it, so a buffer of entries at a time is read on the pool, and handed out
 * from there without waiting. One fiber at a time uses a sley_dir. */
#include "io/call.h"

#include <sley/fs.h>
#include <sley/io.h>
#include <stdlib.h>
#include <string.h>

#define DIR_BYTES 32768 /* as libc's: some hundred entries */

struct entry { /* linux_dirent64 */
    uint64_t inode;
    int64_t  offset;
    uint16_t bytes;
    uint8_t  type;
    char     name[];
};

struct sley_dir {
    int      fd;
    uint32_t at, end; /* of what is left in buf */
    _Alignas(8) char buf[DIR_BYTES];
};

int sley_dir_open(sley_dir **out, int dirfd, const char *path, sley_time deadline)
{
    sley_dir *d;
    int fd;

    if (out == NULL)
        return -EINVAL;
    d = malloc(sizeof(*d));
    if (d == NULL)
        return -ENOMEM;
    fd = sley_openat(dirfd, path, O_RDONLY | O_DIRECTORY, 0, deadline);
    if (fd < 0) {
        free(d);
        return fd;
    }
    d->fd = fd;
    d->at = d->end = 0;
    *out = d;
    return 0;
}

static int read_more(sley_dir *d, sley_time deadline)
{
    struct sl_op op = { .code = SL_OP_GETDENTS, .fd = d->fd, .addr = (uintptr_t)d->buf, .len = sizeof(d->buf) };
    struct sl_call c;
    int n = deadline == SLEY_NOW ? -EOPNOTSUPP : sl_call_begin(&c, d->fd, deadline);

    if (n < 0)
        return n;
    n = sl_call_perform(&c, &op, deadline);
    sl_call_end(&c);
    if (n > 0) {
        d->at = 0;
        d->end = (uint32_t)n;
    }
    return n;
}

static bool is_itself_or_above(const char *name)
{
    return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

int sley_dir_next(sley_dir *d, sley_dirent *out, sley_time deadline)
{
    const struct entry *e;
    int rc;

    if (d == NULL || out == NULL || (rc = sl_deadline_check(deadline)) < 0)
        return -EINVAL;
    if (sl_current()->streak >= SL_DIRECT_STREAK && (rc = sl_call_turn(sl_current())) < 0)
        return rc;
    do {
        if (d->at >= d->end && (rc = read_more(d, deadline)) <= 0)
            return rc == -ENOENT ? 0 : rc; /* it has been removed: nothing is in it */
        e = (const struct entry *)(const void *)(d->buf + d->at);
        d->at += e->bytes;
    } while (is_itself_or_above(e->name));
    if (strlen(e->name) >= sizeof(out->name))
        return -ENAMETOOLONG; /* not of a file system of this kernel; the next call goes on behind it */
    out->inode = e->inode;
    out->type = e->type;
    strcpy(out->name, e->name);
    sl_current()->streak++;
    return 1;
}

void sley_dir_close(sley_dir *d)
{
    if (d == NULL)
        return;
    sley_close(d->fd);
    free(d);
}
