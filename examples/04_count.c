/* wc and grep -c over a directory tree: every file is read by one of many fibers, the results come through a channel.
 * For each regular file: lines, words, bytes and, with -p, lines that hold the string, as wc and grep -acF have it in the C locale; at
 * last their sums.
 *
 *   $ 04_count -p sley examples | tail -1
 *   <lines> <words> <bytes> <matching lines> total
 */
#include <sley.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIBERS = 64, BLOCK_BYTES = 65536, PATTERN_BYTES_MAX = 1024 };

struct count {
    char *path; /* malloc'ed, and handed on with the message */
    unsigned long lines, words, bytes, matches;
    int error;
};

static const char *pattern; /* NULL: none */
static sley_chan *paths, *counts;
static sley_waitgroup counters;
static _Atomic int errors;

static void complain(const char *path, int error)
{
    fprintf(stderr, "%s: %s\n", path, strerror(error));
    errors++;
}

/* data[0, n) ends in the middle of a line more often than not: *in_word and *in_match carry over to the next block. */
static void count_block(struct count *c, const char *data, size_t n, int *in_word)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char ch = data[i];
        if (ch == ' ' || (ch >= '\t' && ch <= '\r')) {
            c->words += *in_word;
            *in_word = 0;
            c->lines += ch == '\n';
        } else if (ch > ' ' && ch < 0x7f) { /* as in wc, what is not printable neither begins nor ends a word */
            *in_word = 1;
        }
    }
    c->bytes += n;
}

/* Look at data[0, n); returns how many bytes at its end must stand before the next block: the beginning of a match may be in them. */
static size_t match_block(struct count *c, const char *data, size_t n, int *in_match)
{
    size_t pattern_bytes = strlen(pattern);
    const char *end = data + n, *newline;

    for (; (newline = memchr(data, '\n', end - data)) != NULL || data < end; data = newline + 1) {
        size_t piece = (newline != NULL ? newline : end) - data;
        if (!*in_match && memmem(data, piece, pattern, pattern_bytes) != NULL) {
            *in_match = 1;
            c->matches++;
        }
        if (newline == NULL)
            return piece < pattern_bytes ? piece : pattern_bytes - 1;
        *in_match = 0;
    }
    return 0;
}

static int count_file(struct count *c, char *buf)
{
    int fd = sley_open(c->path, O_RDONLY, 0, SLEY_FOREVER);
    size_t kept = 0;
    int in_word = 0, in_match = 0, n;

    if (fd < 0)
        return fd;
    while ((n = sley_read(fd, buf + kept, BLOCK_BYTES, SLEY_FOREVER)) > 0) {
        count_block(c, buf + kept, n, &in_word);
        if (pattern != NULL) {
            size_t keep = match_block(c, buf, kept + n, &in_match);
            memmove(buf, buf + kept + n - keep, keep);
            kept = keep;
        }
    }
    c->words += in_word;
    sley_close(fd);
    return n;
}

static int counter(void *arg)
{
    char *buf = malloc(BLOCK_BYTES + PATTERN_BYTES_MAX);
    struct count c = { 0 };
    int rc = buf != NULL ? 0 : -ENOMEM;

    (void)arg;
    while (rc == 0 && (rc = sley_chan_recv(paths, &c.path, SLEY_FOREVER)) > 0) {
        c = (struct count){ .path = c.path };
        c.error = count_file(&c, buf);
        if ((rc = sley_chan_send(counts, &c, SLEY_FOREVER)) < 0)
            free(c.path);
    }
    free(buf);
    sley_waitgroup_done(&counters);
    return rc;
}

/* The next entry, NULL at the end. Apart, since a function that parks may come back on another thread, and must not use errno. */
static __attribute__((noinline)) FTSENT *next_entry(FTS *tree, int *error)
{
    FTSENT *entry;

    errno = 0;
    entry = fts_read(tree);
    *error = -errno;
    return entry;
}

/* The tree is walked by libc: the kernel has no asynchronous form of getdents, and a block of entries is a matter of microseconds. */
static int walk(void *arg)
{
    char *root[] = { arg, NULL };
    FTS *tree = fts_open(root, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    FTSENT *entry;
    int rc = 0, error = 0;

    while (rc == 0 && tree != NULL && (entry = next_entry(tree, &error)) != NULL) {
        if (entry->fts_info == FTS_F) {
            char *path = strdup(entry->fts_path);
            if ((rc = path != NULL ? sley_chan_send(paths, &path, SLEY_FOREVER) : -ENOMEM) < 0)
                free(path);
        } else if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS) {
            complain(entry->fts_path, entry->fts_errno);
        }
    }
    if (tree == NULL || fts_close(tree) < 0)
        rc = rc < 0 ? rc : -EIO;
    sley_chan_close(paths);
    rc = rc < 0 ? rc : error < 0 ? error : sley_waitgroup_wait(&counters, SLEY_FOREVER);
    sley_chan_close(counts); /* nobody is left who could send */
    return rc;
}

static void print_count(const struct count *c, const char *name)
{
    printf("%lu %lu %lu ", c->lines, c->words, c->bytes);
    if (pattern != NULL)
        printf("%lu ", c->matches);
    printf("%s\n", name);
}

static int start(void *arg)
{
    struct count c, total = { 0 };
    int rc;

    sley_waitgroup_add(&counters, FIBERS);
    for (int i = 0; i < FIBERS; i++)
        if ((rc = sley_go(counter, NULL)) < 0)
            return rc;
    if ((rc = sley_go(walk, arg)) < 0)
        return rc;
    while ((rc = sley_chan_recv(counts, &c, SLEY_FOREVER)) > 0) {
        if (c.error < 0)
            complain(c.path, -c.error);
        else
            print_count(&c, c.path);
        total.lines += c.lines;
        total.words += c.words;
        total.bytes += c.bytes;
        total.matches += c.matches;
        free(c.path);
    }
    if (rc == 0)
        print_count(&total, "total");
    return rc;
}

int main(int argc, char **argv)
{
    int opt, rc, bad = 0;

    while ((opt = getopt(argc, argv, "p:")) != -1) {
        pattern = optarg;
        bad |= opt != 'p' || *optarg == '\0' || strlen(optarg) > PATTERN_BYTES_MAX || strchr(optarg, '\n') != NULL;
    }
    if (bad || optind + 1 != argc) {
        fprintf(stderr, "usage: %s [-p STRING] DIRECTORY\n", argv[0]);
        return 2;
    }
    paths = sley_chan_create(sizeof(char *), FIBERS);
    counts = sley_chan_create(sizeof(struct count), FIBERS);
    rc = sley_run(NULL, start, argv[optind]); /* without memory for the channels: -EINVAL at their first use */
    sley_chan_destroy(paths);
    sley_chan_destroy(counts);
    if (rc < 0)
        fprintf(stderr, "%s: %s\n", argv[0], strerror(-rc));
    return rc < 0 || errors > 0;
}
