/* log.c - the access log in the combined format. Connections put lines into a channel and never wait; one fiber takes them out and
 * writes them, many at a time. A line that finds the queue full is dropped and counted, and so is one that cannot be written. */
#include "server.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LINE_BYTES = 240,     /* longer lines are malloc'ed */
    FIELD_BYTES_MAX = 1024,
    QUEUE_LINES = 16384,  /* more than there are connections ready at a time: the writer has its turn once a round */
    TAKE_LINES = 32,
    BUFFER_BYTES = 65536,
};

#define FLUSH_NS (200 * SLEY_MS) /* the longest that a line stays in the buffer */

struct line {
    char *more;     /* not NULL: here it is, not in text */
    uint32_t bytes;
    char text[LINE_BYTES - sizeof(char *) - sizeof(uint32_t)];
};

static int log_fd = -1;
static sley_chan *lines;
static struct text buffer;   /* of log_run, and so is count: */
static unsigned buffer_lines;

int log_open(const char *path)
{
    int fd = strcmp(path, "-") == 0 ? STDOUT_FILENO : sley_open(path, O_WRONLY | O_CREAT | O_APPEND, 0644, SLEY_FOREVER);

    if (fd < 0)
        return fd;
    lines = sley_chan_create(sizeof(struct line), QUEUE_LINES);
    buffer = (struct text){ .data = malloc(BUFFER_BYTES), .bytes_max = BUFFER_BYTES };
    if (lines == NULL || buffer.data == NULL)
        return -ENOMEM;
    log_fd = fd;
    return 0;
}

static void add_field(struct text *t, const char *base, struct slice s)
{
    text_add_string(t, " \"");
    if (s.bytes == 0)
        text_add_string(t, "-");
    else
        text_add_log(t, base + s.at, s.bytes < FIELD_BYTES_MAX ? s.bytes : FIELD_BYTES_MAX);
    text_add_string(t, "\"");
}

static void format(struct text *t, const struct log_entry *e)
{
    const struct request *r = e->request;
    char stamp[STAMP_LOG_BYTES];

    stamp_log(stamp);
    text_add_string(t, e->client);
    text_add_string(t, " - - [");
    text_add(t, stamp, sizeof stamp);
    text_add_string(t, "] \"");
    if (r->headers_done) { /* before that the method is not known to be one */
        text_add_string(t, http_method_str(r->method));
        text_add_string(t, " ");
        text_add_log(t, e->base + r->target.at, r->target.bytes);
        text_add_string(t, " HTTP/");
        text_add_number(t, r->major);
        text_add_string(t, ".");
        text_add_number(t, r->minor);
    } else {
        text_add_string(t, "-");
    }
    text_add_string(t, "\" ");
    text_add_number(t, e->status);
    text_add_string(t, " ");
    text_add_number(t, e->body_bytes);
    add_field(t, e->base, r->referer);
    add_field(t, e->base, r->user_agent);
    text_add_string(t, "\n");
}

void log_add(const struct log_entry *e)
{
    struct line line = { .more = NULL };
    struct text t = { .data = line.text, .bytes_max = sizeof line.text };

    if (lines == NULL)
        return;
    format(&t, e);
    if (t.full) {
        t = (struct text){ .grows = true };
        format(&t, e);
        line.more = t.data;
    }
    line.bytes = t.bytes;
    if (t.full || sley_chan_send(lines, &line, SLEY_NOW) < 0) {
        atomic_fetch_add(&server.log_dropped, 1);
        free(line.more);
    }
}

static void flush(void)
{
    int rc = sley_write_all(log_fd, buffer.data, buffer.bytes, SLEY_FOREVER);

    if (rc < 0)
        atomic_fetch_add(&server.log_dropped, buffer_lines);
    buffer.bytes = 0;
    buffer_lines = 0;
}

static void buffer_line(const struct line *line)
{
    const char *text = line->more != NULL ? line->more : line->text;

    if (buffer.bytes + line->bytes > buffer.bytes_max)
        flush();
    text_add(&buffer, text, line->bytes); /* no line is longer than the buffer */
    buffer_lines++;
    free(line->more);
}

int log_run(void *arg)
{
    static struct line taken[TAKE_LINES];
    sley_time flush_at = SLEY_FOREVER;
    int n;

    (void)arg;
    sley_fiber_set_name("log");
    while ((n = sley_chan_recv_n(lines, taken, TAKE_LINES, flush_at)) != 0) {
        for (int i = 0; i < n; i++)
            buffer_line(&taken[i]);
        if (n == -ETIMEDOUT) {
            flush();
            flush_at = SLEY_FOREVER;
        } else if (n < 0) {
            break;
        } else if (flush_at == SLEY_FOREVER) {
            flush_at = sley_after(FLUSH_NS);
        }
        if (n < TAKE_LINES && sley_yield() < 0) /* no more are there: let a round of others make some, and take them together */
            break;
    }
    flush();
    if (log_fd != STDOUT_FILENO)
        sley_close(log_fd);
    free(buffer.data);
    sley_chan_destroy(lines);
    return 0;
}

void log_stop(void)
{
    sley_chan_close(lines);
}
