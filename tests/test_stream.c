/* test_stream.c - streams: lines, marks and peeks at every edge of a buffer, writes that are cut, copies, what an idle one holds. */
#include "io_scenario.h"

#include "base/limits.h"
#include "io/stream.h"

#include <sys/uio.h>

enum { BLOCK = SL_STREAM_BYTES, TEXT_BYTES = 24 * BLOCK > 393216 ? 24 * BLOCK : 393216 }; /* more than a descriptor takes at once */

/* --- allocations that can be made to fail --------------------------------------------------------------------------------------- */

static _Atomic(int) allocations_fail;

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    return allocations_fail ? NULL : __real_malloc(bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    return allocations_fail ? NULL : __real_aligned_alloc(alignment, bytes);
}

/* From here on there is no memory: what the cache has for this worker is taken out of it, and the fiber stays here. */
static struct sl_buffer hoard[SL_STREAM_CACHED + 1];

static void memory_ends(void)
{
    if (sley_self() != 0)
        sley_pin();
    allocations_fail = 1;
    for (int i = 0; sl_buffer_take(&hoard[i]) == 0; i++)
        EXPECT(i < SL_STREAM_CACHED);
}

static void memory_comes_back(void)
{
    for (int i = 0; i < SL_STREAM_CACHED; i++)
        sl_buffer_free(&hoard[i]);
    allocations_fail = 0;
    if (sley_self() != 0)
        sley_unpin();
}

/* --- descriptors with a peer ---------------------------------------------------------------------------------------------------- */

enum kind { SOCKETS, TCP, PIPE, NONBLOCKING_PIPE, KINDS };

/* [0] reads, [1] writes. */
static void make_channel(enum kind kind, int fds[2])
{
    int rc = 0;

    if (kind == TCP)
        make_tcp_pair(fds);
    else if (kind == SOCKETS)
        make_pair(fds, SOCK_STREAM);
    else
        rc = pipe2(fds, O_CLOEXEC | (kind == NONBLOCKING_PIPE ? O_NONBLOCK : 0));
    EXPECT(rc == 0);
}

static void close_both(const int fds[2])
{
    EXPECT(sley_close(fds[0]) == 0);
    EXPECT(sley_close(fds[1]) == 0);
}

static void send_text(int fd, const char *text)
{
    EXPECT(sley_write_all(fd, text, strlen(text), SLEY_FOREVER) == 0);
}

/* --- calls by actors ------------------------------------------------------------------------------------------------------------ */

struct stream_call {
    struct actor actor;
    int (*call)(struct stream_call *c);
    sley_stream *s, *other;
    void *buf;
    size_t bytes;
    sley_time deadline;
};

static int does_read(struct stream_call *c) { return sley_stream_read(c->s, c->buf, c->bytes, c->deadline); }
static int does_read_all(struct stream_call *c) { return sley_stream_read_all(c->s, c->buf, c->bytes, c->deadline); }
static int does_read_line(struct stream_call *c) { return sley_stream_read_line(c->s, c->buf, c->bytes, c->deadline); }
static int does_read_until(struct stream_call *c) { return sley_stream_read_until(c->s, c->buf, c->bytes, "\r\n", 2, c->deadline); }
static int does_peek(struct stream_call *c) { return sley_stream_peek(c->s, c->bytes, c->deadline); }
static int does_copy(struct stream_call *c) { return (int)sley_stream_copy(c->other, c->s, INT64_MAX, c->deadline); }

static int stream_call_main(void *arg)
{
    struct stream_call *c = arg;

    return c->call(c);
}

static void call_start(struct stream_call *c)
{
    if (c->deadline == 0)
        c->deadline = SLEY_FOREVER;
    actor_start(&c->actor, stream_call_main, c);
}

/* Start it and go on once it waits. */
static void call_start_and_wait(struct stream_call *c)
{
    call_start(c);
    EXPECT(call_waits(&c->actor));
}

static int call_result(struct stream_call *c) { return actor_result(&c->actor); }

/* Writes the bytes and, if asked to, closes. */
struct source {
    struct actor actor;
    int fd, closes;
    const void *bytes;
    size_t count, piece; /* 0: at once */
};

static int pour(void *arg)
{
    struct source *from = arg;
    size_t piece = from->piece > 0 ? from->piece : from->count;
    int rc = 0;

    for (size_t at = 0; at < from->count && rc == 0; at += piece)
        rc = sley_write_all(from->fd, (const char *)from->bytes + at, from->count - at < piece ? from->count - at : piece, SLEY_FOREVER);
    if (from->closes)
        EXPECT(sley_close(from->fd) == 0);
    return rc;
}

/* Reads to the end; sees that the bytes are the pattern. */
struct sink {
    struct actor actor;
    int fd;
    size_t from, count;
};

static int take_pattern(void *arg)
{
    struct sink *to = arg;
    unsigned char buf[3000];
    int n;

    while ((n = sley_read(to->fd, buf, sizeof buf, SLEY_FOREVER)) > 0) {
        EXPECT(is_pattern(buf, (size_t)n, to->from + to->count));
        to->count += (size_t)n;
    }
    return n;
}

/* --- lines ---------------------------------------------------------------------------------------------------------------------- */

SCENARIO(a_line_comes_with_its_newline_and_a_nul)
{
    for (enum kind kind = 0; kind < KINDS; kind++) {
        char line[16];
        sley_stream *s;
        int fds[2];

        make_channel(kind, fds);
        s = sley_stream_create(fds[0]);
        EXPECT(s != NULL && sley_stream_fd(s) == fds[0]);
        send_text(fds[1], "one\ntwo\n\nlast");
        EXPECT(sley_close(fds[1]) == 0);
        memset(line, 0xee, sizeof line);
        EXPECT(sley_stream_read_line(s, line, sizeof line, SLEY_FOREVER) == 4 && memcmp(line, "one\n", 5) == 0);
        EXPECT(is_untouched(line + 5, sizeof line - 5));
        EXPECT(sley_stream_read_line(s, line, sizeof line, SLEY_NOW) == 4 && strcmp(line, "two\n") == 0);
        EXPECT(sley_stream_read_line(s, line, sizeof line, SLEY_NOW) == 1 && strcmp(line, "\n") == 0);
        EXPECT(sley_stream_read_line(s, line, sizeof line, SLEY_FOREVER) == 4 && strcmp(line, "last") == 0);
        EXPECT(sley_stream_read_line(s, line, sizeof line, SLEY_FOREVER) == 0 && strcmp(line, "last") == 0);
        EXPECT(sley_stream_read_line(s, line, sizeof line, SLEY_FOREVER) == 0);
        sley_stream_destroy(s);
        EXPECT(sley_close(fds[0]) == 0);
    }
}

SCENARIO(a_line_longer_than_the_memory_is_refused_and_stays)
{
    char line[16];
    int fds[2];
    sley_stream *s;

    make_channel(SOCKETS, fds);
    s = sley_stream_create(fds[0]);
    send_text(fds[1], "123456\nrest\n");
    memset(line, 0xee, sizeof line);
    for (size_t bytes = 0; bytes < 8; bytes++)
        EXPECT(sley_stream_read_line(s, line, bytes, SLEY_FOREVER) == -EMSGSIZE);
    EXPECT(is_untouched(line, sizeof line));
    EXPECT(sley_stream_read_line(s, line, 8, SLEY_FOREVER) == 7 && strcmp(line, "123456\n") == 0);
    EXPECT(sley_stream_read_until(s, line, 1, "es", 2, SLEY_FOREVER) == -EMSGSIZE);
    EXPECT(sley_stream_read_until(s, line, 2, "es", 2, SLEY_FOREVER) == -EMSGSIZE);
    EXPECT(sley_stream_read_until(s, line, 3, "es", 2, SLEY_FOREVER) == 3 && memcmp(line, "res", 3) == 0);
    EXPECT(sley_stream_read_until(s, line, 0, "t", 1, SLEY_FOREVER) == -EMSGSIZE);
    EXPECT(sley_stream_read(s, line, 16, SLEY_FOREVER) == 2 && memcmp(line, "t\n", 2) == 0);
    send_text(fds[1], "no end");
    EXPECT(sley_stream_read_line(s, line, 6, SLEY_FOREVER) == -EMSGSIZE); /* five bytes of a line and no more */
    EXPECT(sley_stream_read_line(s, line, 8, SLEY_NOW) == -ETIMEDOUT);    /* seven might do */
    sley_stream_destroy(s);
    close_both(fds);
}

static const size_t lengths[] = { 0, 1, BLOCK - 3, BLOCK - 2, BLOCK - 1, BLOCK, BLOCK + 1, 7, 2 * BLOCK - 2, 2 * BLOCK - 1, 2 * BLOCK,
                                  2 * BLOCK + 1, 0, BLOCK / 4, BLOCK / 2, BLOCK / 2 + 1, 5 * BLOCK, 3 };
static unsigned char text[TEXT_BYTES], taken[TEXT_BYTES];

static unsigned char letter(size_t at) { return (unsigned char)('a' + pattern(at) % 26); }

/* The lines of these lengths, one after the other. How many bytes. */
static size_t make_lines(void)
{
    size_t n = 0;

    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        for (size_t end = n + lengths[i]; n < end; n++)
            text[n] = letter(n);
        text[n++] = '\n';
    }
    return n;
}

static void read_lines(sley_stream *s)
{
    size_t at = 0;

    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        int n = sley_stream_read_line(s, (char *)taken, lengths[i] + 2, SLEY_FOREVER); /* as large as it has to be */

        EXPECT(n == (int)lengths[i] + 1 && memcmp(taken, text + at, (size_t)n) == 0 && taken[n] == '\0');
        at += lengths[i] + 1;
    }
    EXPECT(sley_stream_read_line(s, (char *)taken, sizeof taken, SLEY_FOREVER) == 0);
}

SCENARIO(lines_of_every_length_around_a_buffer_are_whole)
{
    size_t bytes = make_lines();

    for (enum kind kind = 0; kind < KINDS; kind++) {
        for (size_t piece = 0; piece < 2 * BLOCK; piece = piece * 3 + BLOCK / 8 - 1) {
            struct source from = { .bytes = text, .count = bytes, .piece = piece, .closes = 1 };
            int fds[2];
            sley_stream *s;

            make_channel(kind, fds);
            from.fd = fds[1];
            s = sley_stream_create(fds[0]);
            actor_start(&from.actor, pour, &from);
            read_lines(s);
            EXPECT(actor_result(&from.actor) == 0);
            sley_stream_destroy(s);
            EXPECT(sley_close(fds[0]) == 0);
        }
    }
    EXPECT(sl_buffers_held() == 0);
}

SCENARIO(a_file_is_read_by_lines)
{
    int fd = make_file("lines", text, make_lines());
    sley_stream *s = sley_stream_create(fd);

    read_lines(s);
    EXPECT(sl_buffers_held() == 0);
    sley_stream_destroy(s);
    EXPECT(sley_close(fd) == 0);
}

SCENARIO(a_file_is_read_ahead_by_the_buffer)
{
    int fd;
    sley_stream *s;
    char c;

    fill_pattern(text, 3 * BLOCK, 0);
    fd = make_file("ahead", text, 3 * BLOCK);
    s = sley_stream_create(fd);
    EXPECT(sley_stream_read(s, &c, 1, SLEY_FOREVER) == 1 && lseek(fd, 0, SEEK_CUR) == BLOCK);
    EXPECT(sley_stream_read(s, taken, sizeof taken, SLEY_FOREVER) == BLOCK - 1); /* what is there, and no more */
    EXPECT(is_pattern(taken, BLOCK - 1, 1));
    EXPECT(sley_stream_read(s, taken, sizeof taken, SLEY_FOREVER) == 2 * BLOCK); /* straight */
    EXPECT(is_pattern(taken, 2 * BLOCK, BLOCK));
    EXPECT(sley_stream_read(s, taken, sizeof taken, SLEY_FOREVER) == 0);
    sley_stream_destroy(s);
    EXPECT(sley_close(fd) == 0);
}

SCENARIO(a_file_that_grows_after_its_end_is_read_on)
{
    char line[16];
    int fd = make_file("grows", "a\nb", 3), more = open(temp_path("grows"), O_WRONLY | O_APPEND | O_CLOEXEC);
    sley_stream *s = sley_stream_create(fd);

    EXPECT(sley_stream_read_line(s, line, sizeof line, SLEY_FOREVER) == 2);
    EXPECT(sley_stream_read_line(s, line, sizeof line, SLEY_FOREVER) == 1 && strcmp(line, "b") == 0);
    EXPECT(sley_stream_read_line(s, line, sizeof line, SLEY_FOREVER) == 0);
    EXPECT(write(more, "c\n", 2) == 2);
    EXPECT(sley_stream_read_line(s, line, sizeof line, SLEY_FOREVER) == 2 && strcmp(line, "c\n") == 0);
    sley_stream_destroy(s);
    EXPECT(sley_close(fd) == 0 && sley_close(more) == 0);
}

SCENARIO(a_file_that_is_not_in_the_cache_is_read_by_lines)
{
    size_t bytes = make_lines();
    int fd = make_file("cold", text, bytes);
    sley_stream *s = sley_stream_create(fd);

    EXPECT(fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    read_lines(s);
    sley_stream_destroy(s);
    EXPECT(sley_close(fd) == 0);
}

SCENARIO(a_line_that_comes_byte_by_byte_is_whole)
{
    for (enum kind kind = 0; kind < KINDS; kind++) {
        char line[16];
        int fds[2];
        sley_stream *s;
        struct stream_call c = { .call = does_read_line, .buf = line, .bytes = sizeof line };

        make_channel(kind, fds);
        c.s = s = sley_stream_create(fds[0]);
        for (int round = 0; round < 3; round++) {
            call_start_and_wait(&c);
            for (const char *at = "dribble"; *at != '\0'; at++) {
                EXPECT(sley_write_all(fds[1], at, 1, SLEY_FOREVER) == 0);
                EXPECT(call_waits(&c.actor));
            }
            send_text(fds[1], "\n");
            EXPECT(call_result(&c) == 8 && strcmp(line, "dribble\n") == 0);
        }
        sley_stream_destroy(s);
        close_both(fds);
    }
}

SCENARIO(a_deadline_leaves_what_has_come)
{
    for (enum kind kind = 0; kind < KINDS; kind++) {
        char line[16], some[4];
        int fds[2];
        sley_stream *s;

        make_channel(kind, fds);
        s = sley_stream_create(fds[0]);
        EXPECT(sley_stream_read_line(s, line, sizeof line, SLEY_NOW) == -ETIMEDOUT);
        EXPECT(sley_stream_read_line(s, line, sizeof line, sley_after(SLEY_US)) == -ETIMEDOUT);
        send_text(fds[1], "be");
        EXPECT(sley_stream_read_line(s, line, sizeof line, sley_after(SLEY_MS)) == -ETIMEDOUT);
        EXPECT(sley_stream_peek(s, 0, SLEY_NOW) == 2 && memcmp(sley_stream_data(s), "be", 2) == 0);
        EXPECT(sley_stream_peek(s, 3, SLEY_NOW) == -ETIMEDOUT);
        send_text(fds[1], "gin");
        EXPECT(sley_stream_read_until(s, line, sizeof line, "\n", 1, sley_after(SLEY_MS)) == -ETIMEDOUT);
        send_text(fds[1], "\nmore");
        EXPECT(sley_stream_read_line(s, line, sizeof line, SLEY_FOREVER) == 6 && strcmp(line, "begin\n") == 0);
        EXPECT(sley_stream_read_all(s, line, 8, sley_after(SLEY_MS)) == 4 && memcmp(line, "more", 4) == 0); /* as sley_read_all */
        EXPECT(sley_stream_read_all(s, line, 8, sley_after(SLEY_MS)) == -ETIMEDOUT);
        EXPECT(sley_stream_read(s, some, 4, sley_after(SLEY_MS)) == -ETIMEDOUT);
        EXPECT(sl_buffers_held() == 0);
        sley_stream_destroy(s);
        close_both(fds);
    }
}

/* --- marks ---------------------------------------------------------------------------------------------------------------------- */

/* A mark of these bytes at every place where a part of it lies on either side of a buffer's edge, in one piece and in two. */
static void try_mark(const char *mark, size_t mark_bytes, size_t edge)
{
    size_t first = edge > mark_bytes + 1 ? edge - mark_bytes - 1 : 0, stride = mark_bytes > 64 ? mark_bytes / 16 : 1;

    for (size_t before = first; before <= edge + 1; before += stride) {
        struct source from = { .bytes = text, .count = before + mark_bytes + 5, .piece = edge, .closes = 1 };
        int fds[2];
        sley_stream *s;

        memset(text, memchr(mark, 'b', mark_bytes) != NULL ? mark[0] : 'x', before); /* so that it seems to begin everywhere */
        memcpy(text + before, mark, mark_bytes);
        memcpy(text + before + mark_bytes, "after", 5);
        make_channel(PIPE, fds);
        from.fd = fds[1];
        s = sley_stream_create(fds[0]);
        actor_start(&from.actor, pour, &from);
        EXPECT(sley_stream_read_until(s, taken, sizeof taken, mark, mark_bytes, SLEY_FOREVER) == (int)(before + mark_bytes));
        EXPECT(memcmp(taken, text, before + mark_bytes) == 0);
        EXPECT(sley_stream_read_until(s, taken, sizeof taken, mark, mark_bytes, SLEY_FOREVER) == 5 && memcmp(taken, "after", 5) == 0);
        EXPECT(sley_stream_read_until(s, taken, sizeof taken, mark, mark_bytes, SLEY_FOREVER) == 0);
        EXPECT(actor_result(&from.actor) == 0);
        sley_stream_destroy(s);
        EXPECT(sley_close(fds[0]) == 0);
    }
}

SCENARIO(a_mark_is_found_across_every_edge)
{
    static char big[3 * BLOCK + 5];

    try_mark("\n", 1, BLOCK);
    try_mark("\r\n\r\n", 4, BLOCK);
    try_mark("aab", 3, BLOCK);
    try_mark("aab", 3, 2 * BLOCK);
    try_mark("abaabaaab", 9, 10);
    memset(big, 'a', sizeof big);
    big[sizeof big - 1] = 'b';
    try_mark(big, sizeof big, BLOCK);
    try_mark(big + sizeof big - BLOCK, BLOCK, BLOCK);
    EXPECT(sl_buffers_held() == 0);
}

/* --- reads and peeks ------------------------------------------------------------------------------------------------------------ */

SCENARIO(reads_of_every_size_get_every_byte)
{
    static const size_t sizes[] = { 1, 2, 3, 100, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK };

    fill_pattern(text, sizeof text, 0);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct source from = { .bytes = text, .count = sizeof text, .piece = BLOCK / 3, .closes = 1 };
        size_t got = 0;
        int fds[2], n, i = 0;
        sley_stream *s;

        make_channel(kind, fds);
        from.fd = fds[1];
        s = sley_stream_create(fds[0]);
        actor_start(&from.actor, pour, &from);
        for (;;) {
            size_t bytes = sizes[i++ % 8];

            n = i % 3 == 0 ? sley_stream_read_all(s, taken, bytes, SLEY_FOREVER) : sley_stream_read(s, taken, bytes, SLEY_FOREVER);
            EXPECT(n >= 0 && (size_t)n <= bytes && (n < 0 || is_pattern(taken, (size_t)n, got)));
            if (n <= 0)
                break;
            got += (size_t)n;
        }
        EXPECT(got == sizeof text && actor_result(&from.actor) == 0);
        EXPECT(sley_stream_read(s, taken, 0, SLEY_FOREVER) == 0 && sley_stream_read_all(s, taken, 0, SLEY_FOREVER) == 0);
        sley_stream_destroy(s);
        EXPECT(sley_close(fds[0]) == 0);
    }
}

SCENARIO(a_peek_shows_what_is_buffered_and_a_skip_drops_it)
{
    struct source from = { .bytes = text, .count = 5 * BLOCK, .closes = 1 };
    int fds[2];
    sley_stream *s;
    struct stream_call c = { .call = does_peek, .bytes = 3 };

    make_channel(SOCKETS, fds);
    c.s = s = sley_stream_create(fds[0]);
    EXPECT(sley_stream_data(s) == NULL && sley_stream_peek(s, 0, SLEY_FOREVER) == 0 && sley_stream_peek(s, 1, SLEY_NOW) == -ETIMEDOUT);
    sley_stream_skip(s, 0);
    call_start_and_wait(&c);
    send_text(fds[1], "ab");
    EXPECT(call_waits(&c.actor));
    send_text(fds[1], "cd");
    EXPECT(call_result(&c) == 4 && memcmp(sley_stream_data(s), "abcd", 4) == 0);
    EXPECT(sley_stream_peek(s, 4, SLEY_NOW) == 4 && sley_stream_peek(s, 1, SLEY_NOW) == 4);
    sley_stream_skip(s, 3);
    EXPECT(sley_stream_peek(s, 0, SLEY_NOW) == 1 && *(const char *)sley_stream_data(s) == 'd');
    sley_stream_skip(s, 1);
    EXPECT(sley_stream_data(s) == NULL && sl_buffers_held() == 0);

    fill_pattern(text, 5 * BLOCK, 0); /* more than a buffer */
    from.fd = fds[1];
    actor_start(&from.actor, pour, &from);
    for (size_t at = 0; at < 5 * BLOCK; at += BLOCK / 2) {
        int n = sley_stream_peek(s, 2 * BLOCK + 1, SLEY_FOREVER);

        EXPECT(n > (int)(2 * BLOCK) || n == (int)(5 * BLOCK - at)); /* fewer at the end alone */
        EXPECT(is_pattern(sley_stream_data(s), (size_t)n, at));
        sley_stream_skip(s, BLOCK / 2);
    }
    EXPECT(sley_stream_peek(s, 1, SLEY_FOREVER) == 0 && sley_stream_peek(s, SL_STREAM_BYTES_MAX + 1, SLEY_FOREVER) == -EMSGSIZE);
    EXPECT(actor_result(&from.actor) == 0);
    sley_stream_destroy(s);
    EXPECT(sley_close(fds[0]) == 0);
}

/* --- errors --------------------------------------------------------------------------------------------------------------------- */

SCENARIO(what_came_before_a_reset_is_read_and_the_reset_stays)
{
    struct linger at_once = { .l_onoff = 1 };
    struct pollfd reset = { .events = POLLIN };
    char line[16];
    int fds[2];
    sley_stream *s;

    make_channel(TCP, fds);
    s = sley_stream_create(fds[0]);
    send_text(fds[1], "half a li");
    EXPECT(sley_stream_peek(s, 9, SLEY_FOREVER) == 9);
    EXPECT(setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0 && sley_close(fds[1]) == 0);
    reset.fd = fds[0];
    while (poll(&reset, 1, -1) == 1 && !(reset.revents & POLLERR))
        ;
    for (int i = 0; i < 3; i++)
        EXPECT(sley_stream_read_line(s, line, sizeof line, SLEY_FOREVER) == -ECONNRESET);
    EXPECT(sley_stream_peek(s, 9, SLEY_FOREVER) == 9 && sley_stream_peek(s, 10, SLEY_FOREVER) == -ECONNRESET);
    EXPECT(sley_stream_read_all(s, line, sizeof line, SLEY_FOREVER) == 9 && memcmp(line, "half a li", 9) == 0);
    EXPECT(sley_stream_read_all(s, line, sizeof line, SLEY_FOREVER) == -ECONNRESET); /* the kernel says now that this is the end */
    EXPECT(sley_stream_read(s, line, sizeof line, SLEY_FOREVER) == -ECONNRESET);
    EXPECT(sley_recv(fds[0], line, sizeof line, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_stream_write(s, "x", 1, SLEY_FOREVER) == 0 && sley_stream_flush(s, SLEY_FOREVER) == -EPIPE);
    sley_stream_destroy(s);
    EXPECT(sley_close(fds[0]) == 0);
}

/* The peer is as if unplugged, and the kernel gives up: its own word for that would be the deadline's. */
SCENARIO(a_peer_that_does_not_answer_is_no_deadline)
{
    struct stream_call c = { .call = does_read, .buf = taken, .bytes = 100 };
    int fds[2];
    sley_stream *s;

    make_channel(TCP, fds);
    be_impatient(fds[0]);
    c.s = s = sley_stream_create(fds[0]);
    if (unplug(fds[1])) {
        call_start_and_wait(&c);
        EXPECT(sley_stream_write(s, "x", 1, SLEY_FOREVER) == 0 && sley_stream_flush(s, SLEY_FOREVER) == 0);
        EXPECT(call_result(&c) == -ECONNRESET);
        EXPECT(sley_stream_read(s, taken, 100, SLEY_FOREVER) == -ECONNRESET);
        EXPECT(sley_recv(fds[0], taken, 100, 0, SLEY_FOREVER) == 0); /* what the kernel says now */
    }
    sley_stream_destroy(s);
    close_both(fds);
}

SCENARIO(bad_arguments_are_errors)
{
    struct iovec v = { .iov_base = text, .iov_len = 1 };
    char buf[4];
    int fd = make_file("bad", "0123", 4), dir = open(temp_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int readonly = open(temp_path("bad"), O_RDONLY | O_CLOEXEC), writeonly = open(temp_path("bad"), O_WRONLY | O_CLOEXEC);
    sley_stream *s;

    EXPECT(sley_stream_fd(NULL) == -EINVAL && sley_stream_data(NULL) == NULL);
    EXPECT(sley_stream_read(NULL, buf, 4, SLEY_FOREVER) == -EINVAL && sley_stream_read_all(NULL, buf, 4, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_stream_read_line(NULL, buf, 4, SLEY_FOREVER) == -EINVAL && sley_stream_peek(NULL, 4, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_stream_read_until(NULL, buf, 4, "x", 1, SLEY_FOREVER) == -EINVAL && sley_stream_flush(NULL, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_stream_write(NULL, buf, 4, SLEY_FOREVER) == -EINVAL && sley_stream_writev(NULL, &v, 1, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_stream_printf(NULL, "x") == -EINVAL && sley_stream_copy(NULL, NULL, 1, SLEY_FOREVER) == -EINVAL);
    sley_stream_destroy(NULL);

    s = sley_stream_create(fd);
    EXPECT(sley_stream_read_until(s, buf, 4, "", 0, SLEY_FOREVER) == -EINVAL && sley_stream_writev(s, &v, -1, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_stream_read(s, buf, 4, SLEY_S) == -EINVAL && sley_stream_write(s, buf, 4, SLEY_S) == -EINVAL); /* lengths of time */
    EXPECT(sley_stream_copy(s, s, -1, SLEY_FOREVER) == -EINVAL && sley_stream_copy(NULL, s, 1, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_stream_copy(s, s, 0, SLEY_FOREVER) == 0 && sley_stream_writev(s, NULL, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_stream_read(s, NULL, BLOCK, SLEY_FOREVER) == -EFAULT && sley_stream_read(s, buf, 4, SLEY_FOREVER) == 4);
    sley_stream_destroy(s);

    s = sley_stream_create(-1);
    EXPECT(sley_stream_fd(s) == -1 && sley_stream_read(s, buf, 4, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_stream_write(s, buf, 4, SLEY_FOREVER) == 0 && sley_stream_flush(s, SLEY_FOREVER) == -EBADF);
    sley_stream_destroy(s);
    s = sley_stream_create(dir);
    EXPECT(sley_stream_read_line(s, buf, 4, SLEY_FOREVER) == -EISDIR && sley_stream_read_line(s, buf, 4, SLEY_FOREVER) == -EISDIR);
    sley_stream_destroy(s);
    s = sley_stream_create(writeonly);
    EXPECT(sley_stream_read(s, buf, 4, SLEY_FOREVER) == -EBADF);
    sley_stream_destroy(s);
    s = sley_stream_create(readonly);
    EXPECT(sley_stream_write(s, buf, 4, SLEY_FOREVER) == 0 && sley_stream_flush(s, SLEY_FOREVER) == -EBADF);
    sley_stream_destroy(s);
    EXPECT(sl_buffers_held() == 0);
    EXPECT(sley_close(fd) == 0 && sley_close(dir) == 0 && sley_close(readonly) == 0 && sley_close(writeonly) == 0);
}

static int (*const waiting_reads[])(struct stream_call *) = {
    does_read, does_read_all, does_read_line, does_read_until, does_peek, does_copy
};

enum { WAITING_READS = sizeof waiting_reads / sizeof *waiting_reads };

SCENARIO(a_close_ends_a_call_and_the_next_owner_of_the_number_is_left_alone)
{
    for (int i = 0; i < WAITING_READS; i++) {
        int fds[2], others[2], devnull = open("/dev/null", O_WRONLY | O_CLOEXEC), number;
        struct stream_call c = { .call = waiting_reads[i], .buf = taken, .bytes = 100, .other = sley_stream_create(devnull) };

        make_channel(SOCKETS, fds);
        c.s = sley_stream_create(fds[0]);
        EXPECT(sley_stream_write(c.s, "unsent", 6, SLEY_FOREVER) == 0);
        call_start_and_wait(&c);
        EXPECT(sley_close(fds[0]) == 0);
        EXPECT(call_result(&c) == -EBADF);
        make_channel(PIPE, others);
        number = others[0] == fds[0] ? others[0] : dup2(others[0], fds[0]);
        EXPECT(number == fds[0]);
        send_text(others[1], "theirs");
        c.deadline = SLEY_FOREVER;
        EXPECT(c.call(&c) == -EBADF && sley_stream_flush(c.s, SLEY_FOREVER) == -EBADF);
        EXPECT(read(number, taken, 100) == 6 && memcmp(taken, "theirs", 6) == 0);
        sley_stream_destroy(c.s);
        sley_stream_destroy(c.other);
        if (number != others[0])
            EXPECT(sley_close(number) == 0);
        close_both(others);
        EXPECT(sley_close(fds[1]) == 0 && sley_close(devnull) == 0);
    }
}

/* --- what an idle stream holds -------------------------------------------------------------------------------------------------- */

SCENARIO(a_stream_that_waits_for_the_first_bytes_holds_no_buffer)
{
    for (enum kind kind = 0; kind < KINDS; kind++) {
        for (int i = 0; i < WAITING_READS; i++) {
            int fds[2], devnull = open("/dev/null", O_WRONLY | O_CLOEXEC);
            struct stream_call c = { .call = waiting_reads[i], .buf = taken, .bytes = 4, .other = sley_stream_create(devnull) };

            c.bytes += c.call == does_read_line; /* for its NUL */
            make_channel(kind, fds);
            c.s = sley_stream_create(fds[0]);
            for (int round = 0; round < 5; round++) { /* whether or not a direct look is thought to be worth it */
                call_start_and_wait(&c);
                EXPECT(sl_buffers_held() == 0);
                send_text(fds[1], "ab\r\n");
                if (c.call == does_copy)
                    break;
                EXPECT(call_result(&c) == 4);
                if (c.call == does_peek)
                    sley_stream_skip(c.s, 4);
                EXPECT(sl_buffers_held() == 0);
            }
            EXPECT(sley_close(fds[1]) == 0);
            if (c.call == does_copy)
                EXPECT(call_result(&c) == 4);
            EXPECT(sl_buffers_held() == 0);
            sley_stream_destroy(c.s);
            sley_stream_destroy(c.other);
            EXPECT(sley_close(fds[0]) == 0 && sley_close(devnull) == 0);
        }
    }
}

SCENARIO(a_terminal_is_read_by_lines_and_holds_no_buffer_meanwhile)
{
    char name[64], line[16];
    int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), fd;
    struct stream_call c = { .call = does_read_line, .buf = line, .bytes = sizeof line };

    EXPECT(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0 && ptsname_r(terminal, name, sizeof name) == 0);
    fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    c.s = sley_stream_create(fd);
    for (int round = 0; round < 5; round++) {
        EXPECT(sley_stream_read_line(c.s, line, sizeof line, SLEY_NOW) == -ETIMEDOUT);
        call_start_and_wait(&c);
        EXPECT(sl_buffers_held() == 0);
        EXPECT(write(terminal, "typed\n", 6) == 6);
        EXPECT(call_result(&c) == 6 && strcmp(line, "typed\n") == 0);
        EXPECT(sl_buffers_held() == 0);
    }
    EXPECT(write(terminal, "no\004", 3) == 3); /* ends no line, but is handed on */
    EXPECT(sley_stream_peek(c.s, 2, SLEY_FOREVER) == 2);
    EXPECT(write(terminal, "\004", 1) == 1); /* the end */
    EXPECT(sley_stream_read_line(c.s, line, sizeof line, SLEY_FOREVER) == 2 && strcmp(line, "no") == 0);
    EXPECT(write(terminal, "\004on\n", 4) == 4); /* and no end of the terminal */
    EXPECT(sley_stream_read_line(c.s, line, sizeof line, SLEY_FOREVER) == 0);
    EXPECT(sley_stream_read_line(c.s, line, sizeof line, SLEY_FOREVER) == 3 && strcmp(line, "on\n") == 0);
    sley_stream_destroy(c.s);
    EXPECT(sley_close(fd) == 0 && sley_close(terminal) == 0);
}

SCENARIO(devices_that_are_always_ready_are_read_and_written)
{
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    sley_stream *from = sley_stream_create(zero), *to = sley_stream_create(null);

    for (int round = 0; round < 3; round++) {
        taken[0] = taken[99] = 1;
        EXPECT(sley_stream_peek(from, 10, SLEY_FOREVER) >= 10);
        EXPECT(sley_stream_read_all(from, taken, 100, SLEY_FOREVER) == 100 && taken[0] == 0 && taken[99] == 0);
        EXPECT(sley_stream_copy(to, from, 100000, SLEY_FOREVER) == 100000);
        EXPECT(sley_stream_read(to, taken, 100, SLEY_FOREVER) == 0);
        sley_stream_skip(from, (size_t)sley_stream_peek(from, 0, SLEY_NOW));
    }
    sley_stream_destroy(from);
    sley_stream_destroy(to);
    EXPECT(sley_close(zero) == 0 && sley_close(null) == 0);
}

/* --- writing -------------------------------------------------------------------------------------------------------------------- */

SCENARIO(a_small_write_waits_for_the_flush)
{
    struct iovec v[4] = {
        { .iov_base = "b", .iov_len = 1 }, { .iov_len = 0 }, { .iov_base = "cd", .iov_len = 2 }, { .iov_base = "e", .iov_len = 1 }
    };
    char buf[16];

    for (enum kind kind = 0; kind < KINDS; kind++) {
        int fds[2];
        sley_stream *s;

        make_channel(kind, fds);
        s = sley_stream_create(fds[1]);
        EXPECT(sley_stream_flush(s, SLEY_NOW) == 0);
        EXPECT(sley_stream_write(s, "a", 1, SLEY_NOW) == 0 && sley_stream_writev(s, v, 4, SLEY_NOW) == 0);
        EXPECT(sley_stream_write(s, "", 0, SLEY_NOW) == 0);
        EXPECT(sley_stream_printf(s, "%s%d", "f", 1) == 2 && sley_stream_printf(s, "%s", "") == 0);
        EXPECT(sley_read(fds[0], buf, sizeof buf, SLEY_NOW) == -ETIMEDOUT && sl_buffers_held() == 1);
        EXPECT(sley_stream_flush(s, SLEY_FOREVER) == 0 && sl_buffers_held() == 0);
        EXPECT(sley_read(fds[0], buf, sizeof buf, SLEY_FOREVER) == 7 && memcmp(buf, "abcdef1", 7) == 0);
        EXPECT(sley_stream_write(s, "dropped", 7, SLEY_NOW) == 0);
        sley_stream_destroy(s);
        EXPECT(sl_buffers_held() == 0 && sley_close(fds[1]) == 0); /* the descriptor was still ours to close */
        EXPECT(sley_read(fds[0], buf, sizeof buf, SLEY_FOREVER) == 0);
        EXPECT(sley_close(fds[0]) == 0);
    }
}

/* Writes of all sizes in a row, in one piece or in several; the last bytes by a flush. */
static size_t write_sizes(sley_stream *s)
{
    static const size_t sizes[] = { 1, 100, BLOCK - 101, 1, BLOCK, 3, BLOCK - 1, BLOCK + 1, 10, 4 * BLOCK, BLOCK - 1, 2 * BLOCK, 1 };
    size_t put = 0;

    for (size_t i = 0; i < 2 * sizeof sizes / sizeof *sizes; i++) {
        size_t bytes = sizes[i % (sizeof sizes / sizeof *sizes)];
        int rc;

        if (i % 2) {
            struct iovec v[5] = { { .iov_base = text + put, .iov_len = 1 },
                                  { .iov_base = text + put + 1, .iov_len = bytes / 2 },
                                  { .iov_base = text + put + 1 + bytes / 2, .iov_len = 0 },
                                  { .iov_base = text + put + 1 + bytes / 2, .iov_len = bytes - bytes / 2 } };

            rc = sley_stream_writev(s, v, 4, SLEY_FOREVER);
            bytes++;
        } else {
            rc = sley_stream_write(s, text + put, bytes, SLEY_FOREVER);
        }
        EXPECT(rc == 0);
        put += bytes;
    }
    EXPECT(sley_stream_flush(s, SLEY_FOREVER) == 0);
    EXPECT(put <= sizeof text);
    return put;
}

SCENARIO(writes_of_every_size_arrive_in_order)
{
    fill_pattern(text, sizeof text, 0);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct sink to = { .from = 0 };
        size_t put;
        int fds[2];
        sley_stream *s;

        make_channel(kind, fds);
        to.fd = fds[0];
        s = sley_stream_create(fds[1]);
        actor_start(&to.actor, take_pattern, &to);
        put = write_sizes(s);
        sley_stream_destroy(s);
        EXPECT(sley_close(fds[1]) == 0);
        EXPECT(actor_result(&to.actor) == 0 && to.count == put);
        EXPECT(sley_close(fds[0]) == 0);
    }
    EXPECT(sl_buffers_held() == 0);
}

SCENARIO(a_file_is_written)
{
    struct sink to = { .from = 0 };
    int fd;
    sley_stream *s;
    size_t put;

    fill_pattern(text, sizeof text, 0);
    to.fd = fd = make_file("written", "", 0);
    s = sley_stream_create(fd);
    put = write_sizes(s);
    EXPECT(lseek(fd, 0, SEEK_END) == (off_t)put && lseek(fd, 0, SEEK_SET) == 0);
    EXPECT(take_pattern(&to) == 0 && to.count == put);
    sley_stream_destroy(s);
    EXPECT(sley_close(fd) == 0);
}

SCENARIO(more_pieces_than_the_kernel_takes_at_once_are_written)
{
    enum { PIECES = 3000 };
    static struct iovec v[PIECES];
    struct sink to = { .from = 0 };
    int fds[2];
    sley_stream *s;

    fill_pattern(text, sizeof text, 0);
    for (int i = 0; i < PIECES; i++)
        v[i] = (struct iovec){ .iov_base = text + 3 * i, .iov_len = 3 };
    make_channel(SOCKETS, fds);
    to.fd = fds[0];
    s = sley_stream_create(fds[1]);
    actor_start(&to.actor, take_pattern, &to);
    EXPECT(sley_stream_writev(s, v, PIECES, SLEY_FOREVER) == 0 && sley_stream_flush(s, SLEY_FOREVER) == 0);
    sley_stream_destroy(s);
    EXPECT(sley_close(fds[1]) == 0);
    EXPECT(actor_result(&to.actor) == 0 && to.count == 3 * PIECES);
    EXPECT(sley_close(fds[0]) == 0);
}

/* How many bytes of the pattern from 0 on are in the channel; and it is empty. */
static size_t take_all(int fd, size_t from)
{
    size_t got = 0;
    int n;

    while ((n = sley_read(fd, taken, sizeof taken, SLEY_NOW)) > 0) {
        EXPECT(is_pattern(taken, (size_t)n, from + got));
        got += (size_t)n;
    }
    EXPECT(n == -ETIMEDOUT || n == 0);
    return got;
}

static void make_small_channel(enum kind kind, int fds[2])
{
    int small = 1;

    make_channel(kind, fds);
    if (kind >= PIPE)
        EXPECT(fcntl(fds[1], F_SETPIPE_SZ, 4096) == 4096);
    else
        EXPECT(setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
}

/* Fill it with the pattern from 0 on. */
static size_t fill_channel(int fd)
{
    size_t put = 0;
    int n;

    while ((n = sley_write(fd, text + put, 4096, SLEY_NOW)) > 0 || (n = sley_write(fd, text + put, 1, SLEY_NOW)) > 0) {
        put += (size_t)n;
        EXPECT(put + 4096 < sizeof text);
        if (put + 4096 >= sizeof text)
            break;
    }
    EXPECT(n == -ETIMEDOUT);
    return put;
}

SCENARIO(a_write_that_is_cut_has_taken_nothing)
{
    fill_pattern(text, sizeof text, 0);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        size_t put, got;
        int fds[2];
        sley_stream *s;

        if (kind == TCP)
            continue; /* what it takes is no fixed amount */
        make_small_channel(kind, fds);
        put = fill_channel(fds[1]);
        s = sley_stream_create(fds[1]);
        EXPECT(sley_stream_write(s, text + put, BLOCK - 10, SLEY_NOW) == 0);
        EXPECT(sley_stream_write(s, "not taken, for want of time", 27, SLEY_NOW) == -ETIMEDOUT);
        EXPECT(sley_stream_write(s, taken, BLOCK, sley_after(SLEY_MS)) == -ETIMEDOUT);
        EXPECT(sley_stream_write(s, taken, 3 * BLOCK, sley_after(SLEY_MS)) == -ETIMEDOUT);
        EXPECT(sley_stream_writev(s, (struct iovec[]){ { .iov_base = "fits", .iov_len = 4 }, { .iov_base = taken, .iov_len = BLOCK } }, 2,
                                  SLEY_NOW) == -ETIMEDOUT); /* the first piece has to leave again */
        EXPECT(sley_stream_printf(s, "%s", "0123456789") == -ENOBUFS);
        EXPECT(sley_stream_flush(s, SLEY_NOW) == -ETIMEDOUT && sley_stream_flush(s, sley_after(SLEY_MS)) == -ETIMEDOUT);
        EXPECT(sley_stream_write(s, text + put + BLOCK - 10, 10, SLEY_NOW) == 0);
        put += BLOCK;
        for (got = 0; sley_stream_flush(s, SLEY_NOW) == -ETIMEDOUT;)
            got += take_all(fds[0], got);
        got += take_all(fds[0], got);
        EXPECT(got == put && sl_buffers_held() == 0);
        sley_stream_destroy(s);
        close_both(fds);
    }
}

SCENARIO(a_flush_that_is_cut_goes_on_where_it_stopped)
{
    fill_pattern(text, sizeof text, 0);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        size_t put = 0, got = 0, cuts = 0;
        int fds[2];
        sley_stream *s;

        make_small_channel(kind, fds);
        s = sley_stream_create(fds[1]);
        while (put < TEXT_BYTES - BLOCK) {
            size_t bytes = 1 + (put * 7) % BLOCK;
            int rc = sley_stream_write(s, text + put, bytes, put % 2 ? SLEY_NOW : sley_after(20 * SLEY_US));

            EXPECT(rc == 0 || rc == -ETIMEDOUT);
            put += rc == 0 ? bytes : 0;
            if (rc != 0)
                cuts += sley_stream_flush(s, SLEY_NOW) == -ETIMEDOUT;
            if (rc != 0 || put % 3 == 0) {
                int n = sley_read(fds[0], taken, 1000, SLEY_NOW);

                EXPECT((n > 0 && is_pattern(taken, (size_t)n, got)) || n == -ETIMEDOUT);
                got += n > 0 ? (size_t)n : 0;
            }
        }
        while (sley_stream_flush(s, SLEY_NOW) == -ETIMEDOUT)
            got += take_all(fds[0], got);
        sley_stream_destroy(s);
        EXPECT(sley_close(fds[1]) == 0);
        while (got < put) {
            int n = sley_read(fds[0], taken, sizeof taken, SLEY_FOREVER);

            EXPECT(n > 0 && is_pattern(taken, (size_t)n, got));
            if (n <= 0)
                break;
            got += (size_t)n;
        }
        EXPECT(cuts > 0 && got == put && sley_read(fds[0], taken, 1, SLEY_FOREVER) == 0);
        EXPECT(sley_close(fds[0]) == 0);
    }
}

SCENARIO(what_follows_a_torn_write_is_not_sent)
{
    fill_pattern(text, sizeof text, 0);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct iovec v[2] = { { .iov_base = text + 100, .iov_len = 5 }, { .iov_base = text + 105, .iov_len = TEXT_BYTES - 105 } };
        size_t got;
        int fds[2];
        sley_stream *s;

        make_small_channel(kind, fds);
        s = sley_stream_create(fds[1]);
        EXPECT(sley_stream_write(s, text, 100, SLEY_FOREVER) == 0);
        EXPECT(sley_stream_writev(s, v, 2, sley_after(SLEY_MS)) == -ETIMEDOUT);
        EXPECT(sley_stream_write(s, "x", 1, SLEY_FOREVER) == -EPIPE && sley_stream_writev(s, v, 2, SLEY_FOREVER) == -EPIPE);
        EXPECT(sley_stream_printf(s, "x") == -EPIPE && sley_stream_flush(s, SLEY_FOREVER) == -EPIPE);
        EXPECT(sley_stream_copy(s, s, 1, SLEY_FOREVER) == -EPIPE && sl_buffers_held() == 0);
        sley_stream_destroy(s);
        EXPECT(sley_close(fds[1]) == 0);
        for (got = 0;;) {
            int n = sley_read(fds[0], taken, sizeof taken, SLEY_FOREVER);

            EXPECT(n >= 0 && (n < 0 || is_pattern(taken, (size_t)n, got)));
            if (n <= 0)
                break;
            got += (size_t)n;
        }
        EXPECT(got > 100 && got < TEXT_BYTES);
        EXPECT(sley_close(fds[0]) == 0);
    }
}

SCENARIO(printf_fills_the_buffer_and_never_waits)
{
    static char big[BLOCK + 1];
    int fds[2], n = 0;
    sley_stream *s;

    fill_pattern(text, sizeof text, 0);
    make_small_channel(PIPE, fds);
    fill_channel(fds[1]);
    s = sley_stream_create(fds[1]);
    memset(big, 'x', BLOCK);
    EXPECT(sley_stream_printf(s, "%s", big) == -EMSGSIZE && sl_buffers_held() == 0); /* with its NUL it never fits */
    big[BLOCK - 1] = '\0';
    EXPECT(sley_stream_printf(s, "%s", big) == BLOCK - 1 && sley_stream_printf(s, "y") == -ENOBUFS && sley_stream_printf(s, "%s", "") == 0);
    EXPECT(sley_stream_write(s, "y", 1, SLEY_NOW) == 0 && sley_stream_write(s, "z", 1, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_stream_printf(s, "z") == -ENOBUFS);
    take_all(fds[0], 0);
    while (sley_stream_flush(s, SLEY_NOW) == -ETIMEDOUT)
        while (sley_read(fds[0], taken, sizeof taken, SLEY_NOW) > 0)
            ;
    while (sley_stream_printf(s, "line %d\n", n) > 0)
        n++;
    EXPECT(n > BLOCK / 12 && sley_stream_printf(s, "line %d\n", n) == -ENOBUFS);
    sley_stream_destroy(s);
    close_both(fds);
}

SCENARIO(a_full_device_loses_nothing)
{
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    sley_stream *s = sley_stream_create(fd);

    EXPECT(sley_stream_write(s, "abc", 3, SLEY_FOREVER) == 0);
    EXPECT(sley_stream_flush(s, SLEY_FOREVER) == -ENOSPC && sley_stream_flush(s, SLEY_FOREVER) == -ENOSPC);
    EXPECT(sley_stream_write(s, taken, 2 * BLOCK, SLEY_FOREVER) == -ENOSPC);
    EXPECT(sl_buffered(&s->out.buffer) == 3 && memcmp(s->out.buffer.base + s->out.buffer.at, "abc", 3) == 0);
    sley_stream_destroy(s);
    EXPECT(sley_close(fd) == 0);
}

/* On plain threads, too, and with the signal's default, which is to end the process. */
SCENARIO(a_peer_that_is_gone_is_epipe_and_no_signal)
{
    int file = make_file("unsent", "some bytes", 10);

    for (enum kind kind = 0; kind < KINDS; kind++) {
        sigset_t pipe_signal, before;
        int fds[2];
        sley_stream *s, *from, *to;

        make_channel(kind, fds);
        s = sley_stream_create(fds[1]);
        EXPECT(sley_close(fds[0]) == 0);
        EXPECT(sley_stream_write(s, "abc", 3, SLEY_FOREVER) == 0);
        while (sley_stream_flush(s, SLEY_FOREVER) == 0) /* a TCP socket has to hear of it first */
            EXPECT(kind == TCP && sley_stream_write(s, "abc", 3, SLEY_FOREVER) == 0);
        EXPECT(sley_stream_flush(s, SLEY_FOREVER) == -EPIPE);
        EXPECT(sley_stream_write(s, text, 2 * BLOCK, SLEY_FOREVER) == -EPIPE);
        from = sley_stream_create(file);
        EXPECT(sley_stream_copy(s, from, 100, SLEY_FOREVER) == -EPIPE);
        sley_stream_destroy(from);
        from = sley_stream_create(file);
        to = sley_stream_create(fds[1]);
        EXPECT(sley_stream_copy(to, from, 100, SLEY_FOREVER) == -EPIPE && lseek(file, 0, SEEK_CUR) == 0);
        sley_stream_destroy(from);
        sley_stream_destroy(to);

        sigemptyset(&pipe_signal); /* one that is pending already is left alone */
        sigaddset(&pipe_signal, SIGPIPE);
        if (sley_self() == 0) {
            pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
            raise(SIGPIPE);
            EXPECT(sley_stream_flush(s, SLEY_FOREVER) == -EPIPE);
            EXPECT(sigtimedwait(&pipe_signal, NULL, &(struct timespec){ 0 }) == SIGPIPE);
            pthread_sigmask(SIG_SETMASK, &before, NULL);
            EXPECT(!sigismember(&before, SIGPIPE));
        }
        sley_stream_destroy(s);
        EXPECT(sley_close(fds[1]) == 0);
    }
    EXPECT(sley_close(file) == 0);
}

/* --- copying -------------------------------------------------------------------------------------------------------------------- */

SCENARIO(a_copy_brings_every_byte_from_anything_to_anything)
{
    fill_pattern(text, sizeof text, 0);
    for (int from_kind = 0; from_kind <= KINDS; from_kind++) {
        for (int to_kind = 0; to_kind <= KINDS; to_kind++) {
            struct source source = { .bytes = text + 10, .count = sizeof text - 20, .piece = BLOCK / 2 + 5, .closes = 1 };
            struct sink sink = { .from = 0 };
            int in[2] = { -1, -1 }, out[2] = { -1, -1 };
            sley_stream *from, *to;

            if (from_kind == KINDS)
                in[0] = make_file("from", text + 10, source.count);
            else
                make_channel((enum kind)from_kind, in);
            if (to_kind == KINDS)
                out[1] = make_file("to", "", 0);
            else
                make_channel((enum kind)to_kind, out);
            from = sley_stream_create(in[0]);
            to = sley_stream_create(out[1]);
            source.fd = in[1];
            sink.fd = out[0];
            if (from_kind < KINDS)
                actor_start(&source.actor, pour, &source);
            if (to_kind < KINDS)
                actor_start(&sink.actor, take_pattern, &sink);
            EXPECT(sley_stream_write(to, text, 10, SLEY_FOREVER) == 0); /* goes first */
            EXPECT(sley_stream_peek(from, 5, SLEY_FOREVER) >= 5);       /* is not left behind */
            EXPECT(sley_stream_copy(to, from, 3, SLEY_FOREVER) == 3);
            EXPECT(sley_stream_copy(to, from, BLOCK + 1, SLEY_FOREVER) == BLOCK + 1);
            EXPECT(sley_stream_copy(to, from, INT64_MAX, SLEY_FOREVER) == (int64_t)source.count - 3 - (BLOCK + 1));
            EXPECT(sley_stream_copy(to, from, INT64_MAX, SLEY_FOREVER) == 0 && sl_buffers_held() == 0);
            sley_stream_destroy(from);
            sley_stream_destroy(to);
            EXPECT(sley_close(in[0]) == 0);
            EXPECT(to_kind < KINDS || lseek(out[1], 0, SEEK_SET) == 0);
            sink.fd = to_kind < KINDS ? out[0] : out[1];
            if (to_kind == KINDS)
                EXPECT(take_pattern(&sink) == 0);
            EXPECT(sley_close(out[1]) == 0);
            if (to_kind < KINDS)
                EXPECT(actor_result(&sink.actor) == 0 && sley_close(out[0]) == 0);
            if (from_kind < KINDS)
                EXPECT(actor_result(&source.actor) == 0);
            EXPECT(sink.count == sizeof text - 10);
        }
    }
}

/* Read-ahead and the position of the file, which a copy moves too, are one place. */
SCENARIO(a_copy_from_a_file_begins_where_the_reader_is)
{
    int fd, out[2];
    sley_stream *from, *to;

    fill_pattern(text, 4 * BLOCK, 0);
    fd = make_file("place", text, 4 * BLOCK);
    make_channel(SOCKETS, out);
    from = sley_stream_create(fd);
    to = sley_stream_create(out[1]);
    EXPECT(sley_stream_read(from, taken, 10, SLEY_FOREVER) == 10 && is_pattern(taken, 10, 0));
    EXPECT(sley_stream_copy(to, from, BLOCK, SLEY_FOREVER) == BLOCK); /* ten of them not read ahead */
    EXPECT(sley_read_all(out[0], taken, BLOCK, SLEY_FOREVER) == BLOCK && is_pattern(taken, BLOCK, 10));
    EXPECT(sl_buffers_held() == 0 && lseek(fd, 0, SEEK_CUR) == BLOCK + 10);
    EXPECT(sley_stream_read(from, taken, 10, SLEY_FOREVER) == 10 && is_pattern(taken, 10, BLOCK + 10));
    EXPECT(sley_stream_copy(to, from, 5, SLEY_FOREVER) == 5);
    EXPECT(sley_read_all(out[0], taken, 5, SLEY_FOREVER) == 5 && is_pattern(taken, 5, BLOCK + 20));
    EXPECT(sley_stream_read_all(from, taken, sizeof taken, SLEY_FOREVER) == 3 * BLOCK - 25);
    EXPECT(is_pattern(taken, 3 * BLOCK - 25, BLOCK + 25));
    EXPECT(sley_stream_copy(to, from, 5, SLEY_FOREVER) == 0);
    sley_stream_destroy(from);
    sley_stream_destroy(to);
    EXPECT(sley_close(fd) == 0);
    close_both(out);
}

/* Its length is not known before, and it is in no page cache. */
SCENARIO(a_file_that_the_kernel_makes_up_is_copied)
{
    int fd = open("/proc/self/limits", O_RDONLY | O_CLOEXEC), out[2];
    ssize_t bytes = pread(fd, text, sizeof text, 0);
    sley_stream *from = sley_stream_create(fd), *to;

    make_channel(SOCKETS, out);
    to = sley_stream_create(out[1]);
    EXPECT(bytes > 100 && sley_stream_copy(to, from, INT64_MAX, SLEY_FOREVER) == bytes);
    EXPECT(sley_read(out[0], taken, sizeof taken, SLEY_FOREVER) == bytes && memcmp(taken, text, (size_t)bytes) == 0);
    sley_stream_destroy(from);
    sley_stream_destroy(to);
    EXPECT(sley_close(fd) == 0);
    close_both(out);
}

SCENARIO(a_copy_hands_on_what_has_come_before_it_waits_for_more)
{
    int in[2], out[2];
    char buf[8];
    struct stream_call c = { .call = does_copy };
    struct source source = { .bytes = text, .count = sizeof text };

    fill_pattern(text, sizeof text, 0);
    make_channel(SOCKETS, in);
    make_channel(PIPE, out);
    c.s = sley_stream_create(in[0]);
    c.other = sley_stream_create(out[1]);
    EXPECT(sley_stream_write(c.other, "<", 1, SLEY_FOREVER) == 0);
    call_start_and_wait(&c);
    EXPECT(sley_read(out[0], buf, sizeof buf, SLEY_FOREVER) == 1 && buf[0] == '<');
    for (int i = 0; i < 10; i++) {
        send_text(in[1], "ping");
        EXPECT(sley_read(out[0], buf, sizeof buf, SLEY_FOREVER) == 4 && memcmp(buf, "ping", 4) == 0);
    }
    source.fd = in[1];
    actor_start(&source.actor, pour, &source);
    EXPECT(sley_read_all(out[0], taken, sizeof text, SLEY_FOREVER) == sizeof text && memcmp(taken, text, sizeof text) == 0);
    while (sl_buffers_held() > 0) /* it waits again, and then it holds none, however large the last ones were */
        give_way();
    EXPECT(actor_result(&source.actor) == 0 && sley_close(in[1]) == 0 && call_result(&c) == 40 + sizeof text);
    sley_stream_destroy(c.s);
    sley_stream_destroy(c.other);
    EXPECT(sley_close(in[0]) == 0);
    close_both(out);
}

SCENARIO(a_copy_that_is_cut_has_counted_what_went_and_keeps_the_rest)
{
    fill_pattern(text, sizeof text, 0);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct source source = { .bytes = text, .count = sizeof text, .closes = 1 };
        size_t got = 0;
        int64_t copied = 0, n;
        int in[2], out[2], cuts = 0;
        sley_stream *from, *to;

        make_channel(SOCKETS, in);
        make_small_channel(kind, out);
        from = sley_stream_create(in[0]);
        to = sley_stream_create(out[1]);
        EXPECT(sley_stream_copy(to, from, 1, SLEY_NOW) == -ETIMEDOUT);
        source.fd = in[1];
        actor_start(&source.actor, pour, &source);
        EXPECT(sley_stream_peek(from, 1, SLEY_FOREVER) > 0);
        while ((n = sley_stream_copy(to, from, INT64_MAX, cuts % 2 ? SLEY_NOW : sley_after(100 * SLEY_US))) != 0) {
            EXPECT(n > 0 || n == -ETIMEDOUT);
            copied += n > 0 ? n : 0;
            cuts++;
            if (kind != TCP)
                got += take_all(out[0], got);
            else if (sley_fd_wait(out[0], POLLIN, SLEY_NOW) > 0)
                got += take_all(out[0], got);
            EXPECT(kind == TCP ? (int64_t)got <= copied : (int64_t)got == copied);
        }
        EXPECT(copied == sizeof text && cuts > 1);
        EXPECT(sley_stream_write(to, text, 1, SLEY_FOREVER) == 0 && sley_stream_flush(to, SLEY_FOREVER) == 0);
        EXPECT(actor_result(&source.actor) == 0);
        sley_stream_destroy(from);
        sley_stream_destroy(to);
        EXPECT(sley_close(in[0]) == 0);
        close_both(out);
    }
}

SCENARIO(a_copy_to_a_peer_that_is_gone_keeps_what_it_could_not_send)
{
    int in[2], out[2];
    char buf[8];
    sley_stream *from, *to;

    make_channel(SOCKETS, in);
    make_channel(PIPE, out);
    from = sley_stream_create(in[0]);
    to = sley_stream_create(out[1]);
    send_text(in[1], "kept");
    EXPECT(sley_close(out[0]) == 0);
    EXPECT(sley_stream_copy(to, from, INT64_MAX, SLEY_FOREVER) == -EPIPE && sley_stream_copy(to, from, INT64_MAX, SLEY_FOREVER) == -EPIPE);
    EXPECT(sley_stream_read(from, buf, sizeof buf, SLEY_NOW) == 4 && memcmp(buf, "kept", 4) == 0);
    sley_stream_destroy(from);
    sley_stream_destroy(to);
    close_both(in);
    EXPECT(sley_close(out[1]) == 0);
}

/* One stream, its reading side copied into its writing side. */
SCENARIO(a_stream_can_be_its_own_echo)
{
    int fds[2];
    struct stream_call c = { .call = does_copy };
    struct source source = { .bytes = text, .count = sizeof text };
    size_t got = 0;

    fill_pattern(text, sizeof text, 0);
    make_channel(TCP, fds);
    c.s = c.other = sley_stream_create(fds[0]);
    source.fd = fds[1];
    call_start(&c);
    actor_start(&source.actor, pour, &source);
    while (got < sizeof text) {
        int n = sley_recv(fds[1], taken, sizeof taken, 0, SLEY_FOREVER);

        EXPECT(n > 0 && is_pattern(taken, (size_t)n, got));
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    EXPECT(actor_result(&source.actor) == 0);
    EXPECT(shutdown(fds[1], SHUT_WR) == 0);
    EXPECT(call_result(&c) == (int)sizeof text);
    sley_stream_destroy(c.s);
    close_both(fds);
}

/* One reads and another writes, on one stream at both ends. */
SCENARIO(the_two_sides_of_a_stream_are_used_at_once)
{
    enum { MESSAGES = 2000 };
    int fds[2];
    sley_stream *ends[2];
    struct stream_call readers[2];
    static char buf[2][100 * MESSAGES];

    make_channel(SOCKETS, fds);
    fill_pattern(text, sizeof text, 0);
    for (int i = 0; i < 2; i++) {
        ends[i] = sley_stream_create(fds[i]);
        readers[i] = (struct stream_call){ .call = does_read_all, .s = ends[i], .buf = buf[i], .bytes = sizeof buf[i] };
        call_start(&readers[i]);
    }
    for (size_t at = 0; at < sizeof buf[0]; at += 100) {
        for (int i = 0; i < 2; i++) {
            EXPECT(sley_stream_write(ends[i], text + at % 1000, 100, SLEY_FOREVER) == 0);
            EXPECT(at % 700 || sley_stream_flush(ends[i], SLEY_FOREVER) == 0);
        }
    }
    for (int i = 0; i < 2; i++)
        EXPECT(sley_stream_flush(ends[i], SLEY_FOREVER) == 0);
    for (int i = 0; i < 2; i++) {
        EXPECT(call_result(&readers[i]) == sizeof buf[i]);
        for (size_t at = 0; at < sizeof buf[i]; at += 100)
            EXPECT(is_pattern((unsigned char *)buf[i] + at, 100, at % 1000));
    }
    for (int i = 0; i < 2; i++)
        sley_stream_destroy(ends[i]);
    close_both(fds);
}

/* --- without memory ------------------------------------------------------------------------------------------------------------- */

SCENARIO(without_memory_a_read_fails_and_loses_nothing)
{
    for (enum kind kind = 0; kind < KINDS; kind++) {
        int fds[2], held;
        sley_stream *s;

        fill_pattern(text, 3 * BLOCK, 0);
        make_channel(kind, fds);
        s = sley_stream_create(fds[0]);
        send_text(fds[1], "one\ntwo\n");
        memory_ends();
        held = (int)sl_buffers_held();
        EXPECT(sley_stream_create(fds[0]) == NULL);
        EXPECT(sley_stream_read_line(s, (char *)taken, 100, SLEY_FOREVER) == -ENOMEM);
        EXPECT(sley_stream_peek(s, 1, SLEY_NOW) == -ENOMEM);
        EXPECT(sley_stream_copy(s, s, 1, SLEY_FOREVER) == -ENOMEM && (int)sl_buffers_held() == held);
        memory_comes_back();
        EXPECT(sley_stream_read_line(s, (char *)taken, 100, SLEY_FOREVER) == 4 && strcmp((char *)taken, "one\n") == 0);
        EXPECT(sley_stream_read_line(s, (char *)taken, 100, SLEY_NOW) == 4 && strcmp((char *)taken, "two\n") == 0);

        EXPECT(sley_write_all(fds[1], text, BLOCK, SLEY_FOREVER) == 0); /* a buffer that would have to grow */
        EXPECT(sley_stream_peek(s, BLOCK, SLEY_FOREVER) == BLOCK);
        EXPECT(sley_write_all(fds[1], text + BLOCK, BLOCK, SLEY_FOREVER) == 0);
        memory_ends();
        EXPECT(sley_stream_peek(s, BLOCK + 1, SLEY_FOREVER) == -ENOMEM && sley_stream_peek(s, 0, SLEY_NOW) == BLOCK);
        sley_stream_skip(s, 1); /* room for one byte is room */
        EXPECT(sley_stream_peek(s, BLOCK, SLEY_FOREVER) == BLOCK && sley_stream_peek(s, BLOCK + 1, SLEY_FOREVER) == -ENOMEM);
        EXPECT(sley_stream_read(s, taken, BLOCK, SLEY_FOREVER) == BLOCK && is_pattern(taken, BLOCK, 1)); /* gives its buffer back */
        memory_comes_back();
        EXPECT(sley_stream_read_all(s, taken, BLOCK - 1, SLEY_FOREVER) == BLOCK - 1 && is_pattern(taken, BLOCK - 1, BLOCK + 1));
        sley_stream_destroy(s);
        close_both(fds);
    }
    EXPECT(sl_buffers_held() == 0);
}

SCENARIO(without_memory_a_read_into_large_memory_works)
{
    int fds[2];
    sley_stream *s;

    make_channel(SOCKETS, fds);
    s = sley_stream_create(fds[0]);
    send_text(fds[1], "straight");
    memory_ends();
    EXPECT(sley_stream_read(s, taken, BLOCK, SLEY_FOREVER) == 8 && memcmp(taken, "straight", 8) == 0);
    memory_comes_back();
    sley_stream_destroy(s);
    close_both(fds);
}

SCENARIO(without_memory_a_write_fails_and_has_taken_nothing)
{
    int fds[2];
    sley_stream *s;

    fill_pattern(text, 3 * BLOCK, 0);
    make_channel(SOCKETS, fds);
    s = sley_stream_create(fds[1]);
    memory_ends();
    EXPECT(sley_stream_write(s, "x", 1, SLEY_FOREVER) == -ENOMEM && sley_stream_printf(s, "x") == -ENOMEM);
    EXPECT(sley_stream_writev(s, &(struct iovec){ .iov_base = "x", .iov_len = 1 }, 1, SLEY_FOREVER) == -ENOMEM);
    EXPECT(sley_stream_flush(s, SLEY_FOREVER) == 0);
    EXPECT(sley_stream_write(s, text, BLOCK + 1, SLEY_FOREVER) == 0); /* what is longer than a buffer needs none */
    memory_comes_back();
    EXPECT(sley_stream_flush(s, SLEY_FOREVER) == 0);
    EXPECT(sley_read_all(fds[0], taken, BLOCK + 1, SLEY_FOREVER) == BLOCK + 1 && is_pattern(taken, BLOCK + 1, 0));
    EXPECT(sley_read(fds[0], taken, 1, SLEY_NOW) == -ETIMEDOUT);
    sley_stream_destroy(s);
    close_both(fds);
}

/* The rest of a long write is kept in a buffer; without one it goes as it is. */
SCENARIO(without_memory_the_rest_of_a_long_write_is_sent_all_the_same)
{
    struct sink to = { .from = 0 };
    int fds[2];
    sley_stream *s;

    fill_pattern(text, sizeof text, 0);
    make_small_channel(SOCKETS, fds);
    s = sley_stream_create(fds[1]);
    to.fd = fds[0];
    actor_start(&to.actor, take_pattern, &to);
    memory_ends();
    EXPECT(sley_stream_write(s, text, sizeof text, SLEY_FOREVER) == 0 && sl_buffered(&s->out.buffer) == 0);
    memory_comes_back();
    sley_stream_destroy(s);
    EXPECT(sley_close(fds[1]) == 0 && actor_result(&to.actor) == 0 && to.count == sizeof text);
    EXPECT(sley_close(fds[0]) == 0);
}

/* --- in a cancelled scope ------------------------------------------------------------------------------------------------------- */

struct counted {
    sley_stream *s;
    int reads, rc;
};

static int read_on_cancelled(void *arg)
{
    struct counted *c = arg;
    sley_scope own;
    char line[8];

    sley_scope_init(&own, SLEY_FOREVER);
    sley_scope_cancel(&own);
    while ((c->rc = sley_stream_read_line(c->s, line, sizeof line, SLEY_FOREVER)) > 0)
        c->reads++;
    return sley_scope_wait(&own, 0, SLEY_FOREVER);
}

static int write_on_cancelled(void *arg)
{
    struct counted *c = arg;
    sley_scope own;

    sley_scope_init(&own, SLEY_FOREVER);
    sley_scope_cancel(&own);
    while ((c->rc = sley_stream_write(c->s, "x", 1, SLEY_FOREVER)) == 0)
        c->reads++;
    return sley_scope_wait(&own, 0, SLEY_FOREVER);
}

static int stream_of_lines(void *arg)
{
    struct counted c = { 0 };
    struct actor a;
    int fds[2];

    (void)arg;
    make_channel(SOCKETS, fds);
    for (int i = 0; i < 200; i++)
        EXPECT(write(fds[1], "\n", 1) == 1);
    c.s = sley_stream_create(fds[0]);
    actor_start_as(&a, 0, read_on_cancelled, &c);
    EXPECT(actor_result(&a) == 0 && c.rc == -ECANCELED && c.reads >= SL_DIRECT_STREAK - 1 && c.reads <= SL_DIRECT_STREAK);
    c.reads = 0;
    actor_start_as(&a, 0, write_on_cancelled, &c);
    EXPECT(actor_result(&a) == 0 && c.rc == -ECANCELED && c.reads >= SL_DIRECT_STREAK - 1 && c.reads <= SL_DIRECT_STREAK);
    sley_stream_destroy(c.s);
    close_both(fds);
    return 0;
}

static void a_row_of_buffered_calls_notices_a_cancel(void **state)
{
    (void)state;
    scene.unmet = NULL;
    scene.cast = FIBERS;
    assert_int_equal(sley_run(NULL, stream_of_lines, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

static void the_stop_of_the_runtime_ends_a_wait(void **state)
{
    int fds[2];
    struct stream_call c = { .call = does_read_line, .buf = taken, .bytes = 100, .deadline = SLEY_FOREVER };

    (void)state;
    for (int on_thread = 0; on_thread < 2; on_thread++) {
        struct actor a = { .fn = stream_call_main, .arg = &c }, outer;
        sley_runtime *rt;
        void *pair[2];

        make_pair(fds, SOCK_STREAM);
        c.s = sley_stream_create(fds[0]);
        assert_int_equal(sley_runtime_create(&rt, NULL), 0);
        assert_int_equal(sley_runtime_start(rt), 0);
        pair[0] = rt;
        pair[1] = &a;
        if (on_thread)
            actor_start_as(&outer, 1, actor_attached, pair);
        else
            assert_int_equal(sley_runtime_submit(rt, actor_main, &a), 0);
        assert_true(call_waits(&a));
        sley_runtime_stop(rt, SLEY_NOW);
        actor_result(&a);
        if (on_thread)
            actor_result(&outer);
        sley_runtime_destroy(rt);
        assert_int_equal(a.result, -ECANCELED);
        sley_stream_destroy(c.s);
        close(fds[0]);
        close(fds[1]);
    }
}

/* --- bugs of the caller --------------------------------------------------------------------------------------------------------- */

static sley_stream *victim;
static int victim_fds[2];

static int reads_meanwhile(void *arg)
{
    char c;

    (void)arg;
    return sley_stream_read(victim, &c, 1, SLEY_FOREVER);
}

static int writes_meanwhile(void *arg)
{
    (void)arg;
    return sley_stream_write(victim, text, sizeof text, SLEY_FOREVER);
}

static int misuse(void *arg)
{
    const char *how = arg;
    struct actor a;

    make_small_channel(SOCKETS, victim_fds);
    victim = sley_stream_create(victim_fds[1]);
    if (strcmp(how, "skip") == 0) {
        sley_stream_skip(victim, 1);
        return 0;
    }
    actor_start_as(&a, 0, strstr(how, "writer") ? writes_meanwhile : reads_meanwhile, NULL);
    call_waits(&a);
    if (strcmp(how, "second reader") == 0)
        return sley_stream_read_line(victim, (char *)taken, 100, SLEY_FOREVER);
    if (strcmp(how, "second writer") == 0)
        return sley_stream_flush(victim, SLEY_FOREVER);
    if (strcmp(how, "print beside a writer") == 0)
        return sley_stream_printf(victim, "x");
    if (strcmp(how, "copy beside a reader") == 0)
        return (int)sley_stream_copy(victim, victim, 1, SLEY_FOREVER);
    if (strcmp(how, "skip beside a reader") == 0)
        sley_stream_skip(victim, 0);
    else
        sley_stream_destroy(victim);
    return 0;
}

static const char *const misuses[][2] = {
    { "second reader", "sley_stream_read_line: somebody else is in a read" },
    { "second writer", "sley_stream_flush: somebody else is in a write" },
    { "print beside a writer", "sley_stream_printf: somebody else is in a write" },
    { "copy beside a reader", "sley_stream_copy: somebody else is in a read" },
    { "skip beside a reader", "sley_stream_skip: somebody else is in a read" },
    { "destroy beside a reader", "sley_stream_destroy: somebody else is in a read" },
    { "destroy beside a writer", "sley_stream_destroy: somebody else is in a write" },
    { "skip", "sley_stream_skip: more bytes than are buffered" },
};

static void two_users_of_a_side_and_skips_too_far_abort(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof misuses / sizeof *misuses; i++)
        assert_aborts(misuses[i][0], misuses[i][1]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        PLAYED(a_line_comes_with_its_newline_and_a_nul),
        PLAYED(a_line_longer_than_the_memory_is_refused_and_stays),
        PLAYED(lines_of_every_length_around_a_buffer_are_whole),
        PLAYED(a_file_is_read_by_lines),
        PLAYED(a_file_is_read_ahead_by_the_buffer),
        PLAYED(a_file_that_grows_after_its_end_is_read_on),
        PLAYED(a_file_that_is_not_in_the_cache_is_read_by_lines),
        PLAYED(a_line_that_comes_byte_by_byte_is_whole),
        PLAYED(a_deadline_leaves_what_has_come),
        PLAYED(a_mark_is_found_across_every_edge),
        PLAYED(reads_of_every_size_get_every_byte),
        PLAYED(a_peek_shows_what_is_buffered_and_a_skip_drops_it),
        PLAYED(what_came_before_a_reset_is_read_and_the_reset_stays),
        PLAYED(a_peer_that_does_not_answer_is_no_deadline),
        PLAYED(bad_arguments_are_errors),
        PLAYED(a_close_ends_a_call_and_the_next_owner_of_the_number_is_left_alone),
        PLAYED(a_stream_that_waits_for_the_first_bytes_holds_no_buffer),
        PLAYED(a_terminal_is_read_by_lines_and_holds_no_buffer_meanwhile),
        PLAYED(devices_that_are_always_ready_are_read_and_written),
        PLAYED(a_small_write_waits_for_the_flush),
        PLAYED(writes_of_every_size_arrive_in_order),
        PLAYED(a_file_is_written),
        PLAYED(more_pieces_than_the_kernel_takes_at_once_are_written),
        PLAYED(a_write_that_is_cut_has_taken_nothing),
        PLAYED(a_flush_that_is_cut_goes_on_where_it_stopped),
        PLAYED(what_follows_a_torn_write_is_not_sent),
        PLAYED(printf_fills_the_buffer_and_never_waits),
        PLAYED(a_full_device_loses_nothing),
        PLAYED(a_peer_that_is_gone_is_epipe_and_no_signal),
        PLAYED(a_copy_brings_every_byte_from_anything_to_anything),
        PLAYED(a_copy_from_a_file_begins_where_the_reader_is),
        PLAYED(a_file_that_the_kernel_makes_up_is_copied),
        PLAYED(a_copy_hands_on_what_has_come_before_it_waits_for_more),
        PLAYED(a_copy_that_is_cut_has_counted_what_went_and_keeps_the_rest),
        PLAYED(a_copy_to_a_peer_that_is_gone_keeps_what_it_could_not_send),
        PLAYED(a_stream_can_be_its_own_echo),
        PLAYED(the_two_sides_of_a_stream_are_used_at_once),
        PLAYED(without_memory_a_read_fails_and_loses_nothing),
        PLAYED(without_memory_a_read_into_large_memory_works),
        PLAYED(without_memory_a_write_fails_and_has_taken_nothing),
        PLAYED(without_memory_the_rest_of_a_long_write_is_sent_all_the_same),
        cmocka_unit_test(a_row_of_buffered_calls_notices_a_cancel),
        cmocka_unit_test(the_stop_of_the_runtime_ends_a_wait),
        cmocka_unit_test(two_users_of_a_side_and_skips_too_far_abort),
    };

    if (argc > 1)
        return sley_run(NULL, misuse, argv[1]);
    return cmocka_run_group_tests_name("stream", tests, make_temp_dir, remove_temp_dir);
}
