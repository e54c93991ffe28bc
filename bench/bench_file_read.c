/* bench_file_read.c - random reads of 4 KB from a file of 256 MB, one worker; as many at once as there are fibers: nanoseconds a read.
 *
 * buffered: the file lies in the page cache. direct: O_DIRECT, so the device is asked each time; fixed: into sley_iobuf_alloc's memory.
 * The file stays beside the program, so that its peer reads the same one. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sley.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 65536, PIECE = 256 }; /* a piece: so many blocks are written or read at once to make or warm the file */

static char path[PATH_MAX];

/* --- the file: each block is full of its own number ------------------------------------------------------------------------------- */

static int is_made(void)
{
    uint64_t last[BLOCK / sizeof(uint64_t)];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC), made;

    if (fd < 0)
        return 0;
    made = fstat(fd, &st) == 0 && st.st_size == (off_t)BLOCK * BLOCKS && pread(fd, last, BLOCK, (off_t)BLOCK * (BLOCKS - 1)) == BLOCK &&
           last[0] == BLOCKS - 1;
    close(fd);
    return made;
}

static int make_file(void)
{
    size_t words = BLOCK / sizeof(uint64_t);
    uint64_t *piece = malloc((size_t)PIECE * BLOCK);
    char unfinished[PATH_MAX + 8];
    int fd, rc = -1;

    snprintf(unfinished, sizeof unfinished, "%s.part", path);
    fd = open(unfinished, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd >= 0 && piece != NULL) {
        rc = 0;
        for (uint64_t block = 0; block < BLOCKS && rc == 0; block += PIECE) {
            for (size_t i = 0; i < PIECE * words; i++)
                piece[i] = block + i / words;
            rc = write(fd, piece, (size_t)PIECE * BLOCK) == (ssize_t)PIECE * BLOCK ? 0 : -1;
        }
        if (rc == 0 && (rc = fsync(fd)) == 0)
            rc = rename(unfinished, path);
    }
    if (rc < 0) {
        perror(unfinished);
        unlink(unfinished);
    }
    if (fd >= 0)
        close(fd);
    free(piece);
    return rc;
}

static int takes_direct(void)
{
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* --- reading ---------------------------------------------------------------------------------------------------------------------- */

enum { DIRECT = 1, FIXED = 2 };

struct reader {
    int fd;
    uint64_t *buf;
    uint64_t seed, reads;
    sley_waitgroup *done;
};

static int read_some(void *arg)
{
    struct reader *r = arg;
    uint64_t x = r->seed;

    for (uint64_t i = 0; i < r->reads; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        BENCH_CHECK(sley_pread(r->fd, r->buf, BLOCK, (off_t)(x % BLOCKS) * BLOCK, SLEY_FOREVER) == BLOCK);
        BENCH_CHECK(r->buf[0] == x % BLOCKS);
    }
    sley_waitgroup_done(r->done);
    return 0;
}

static int read_all_once(int fd)
{
    char *piece = malloc((size_t)PIECE * BLOCK);
    int rc = piece != NULL ? 0 : -ENOMEM;

    for (off_t at = 0; at < (off_t)BLOCKS * BLOCK && rc >= 0; at += (off_t)PIECE * BLOCK)
        rc = sley_pread(fd, piece, (size_t)PIECE * BLOCK, at, SLEY_FOREVER);
    free(piece);
    return rc;
}

/* b->a: how many at once; b->b: DIRECT, FIXED */
static int sample(const struct bench *b)
{
    static uint64_t turn; /* other blocks in each sample */
    int fd = sley_open(path, O_RDONLY | (b->b & DIRECT ? O_DIRECT : 0), 0, SLEY_FOREVER);
    char *memory = b->b & FIXED ? sley_iobuf_alloc(b->a * BLOCK) : aligned_alloc(BLOCK, b->a * BLOCK);
    struct reader *readers = calloc(b->a, sizeof *readers);
    sley_waitgroup done = { { 0 } };

    BENCH_CHECK(fd >= 0 && memory != NULL && readers != NULL);
    if (turn++ == 0 && !(b->b & DIRECT))
        BENCH_CHECK(read_all_once(fd) >= 0);
    sley_waitgroup_add(&done, (int)b->a);
    for (uint64_t i = 0; i < b->a; i++) {
        uint64_t reads = b->n / b->a + (i < b->n % b->a);

        readers[i] = (struct reader){ fd, (uint64_t *)(memory + i * BLOCK), (turn * 1000 + i + 1) * 0x9e3779b97f4a7c15, reads, &done };
        BENCH_CHECK(sley_go(read_some, &readers[i]) == 0);
    }
    BENCH_CHECK(sley_waitgroup_wait(&done, SLEY_FOREVER) == 0);
    if (b->b & FIXED)
        sley_iobuf_free(memory);
    else
        free(memory);
    free(readers);
    return sley_close(fd);
}

#define ROW(how, depth, flags, count)                                                                                                      \
    {                                                                                                                                      \
        .name = "file-read", .params = how " depth=" #depth, .workers = 1, .n = (count), .n_min = 2 * (depth), .samples = 15,              \
        .sample = sample, .a = (depth), .b = (flags)                                                                                       \
    }

static const struct bench benches[] = {
    ROW("buffered", 1, 0, 100000),
    ROW("buffered", 16, 0, 100000),
    ROW("buffered", 64, 0, 100000),
    ROW("direct", 1, DIRECT, 4000), /* from here on with O_DIRECT alone */
    ROW("direct", 16, DIRECT, 20000),
    ROW("direct", 64, DIRECT, 20000),
    ROW("direct fixed", 1, DIRECT | FIXED, 4000),
    ROW("direct fixed", 16, DIRECT | FIXED, 20000),
    ROW("direct fixed", 64, DIRECT | FIXED, 20000),
};
enum { BUFFERED = 3 };

int main(int argc, char **argv)
{
    size_t count = sizeof benches / sizeof benches[0];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 16);

    if (length < 0)
        return 1;
    snprintf(path + length, sizeof path - (size_t)length, ".data");
    if (!is_made() && make_file() < 0)
        return 1;
    if (!takes_direct()) {
        fprintf(stderr, "%s: its file system has no O_DIRECT, so no such rows\n", path);
        count = BUFFERED;
    }
    return bench_main(argc, argv, benches, count);
}
