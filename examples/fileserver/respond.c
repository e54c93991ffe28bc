/* respond.c - one answer. Header and file go into one buffer and out in one send, several answers together when their requests came
 * together; a large file goes by sendfile behind its header.
 *
 * A file may change at any moment. What was promised in a header is kept or the connection ends: a small file is read before its header
 * leaves, and looked up again when its length is not the expected one; a large one is looked at before, and ends the connection when it
 * turns out short all the same. */
#include "server.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    FILE_TRIES = 3,
    ANSWER_BYTES_MAX = HEAD_BYTES_MAX + (READ_BYTES_MAX > 3 * TARGET_BYTES_MAX ? READ_BYTES_MAX : 3 * TARGET_BYTES_MAX) + 1,
};

static struct pool works = { .bytes = sizeof(struct work) };

void respond_fini(void)
{
    pool_empty(&works);
}

/* Work with room for any answer but a large body. So only the beginning of an answer may find the buffer full and flush it. */
static int begin(struct answers *a)
{
    int rc = 0;

    if (a->work != NULL && a->work->text.bytes + ANSWER_BYTES_MAX > OUT_BYTES)
        rc = respond_flush(a, 0);
    if (rc == 0 && a->work == NULL) {
        a->work = pool_take(&works);
        if (a->work == NULL)
            return -ENOMEM;
        a->work->text = (struct text){ .data = a->work->out, .bytes_max = OUT_BYTES };
    }
    return rc;
}

int respond_flush(struct answers *a, int flags)
{
    struct work *w = a->work;
    int rc = 0;

    if (w == NULL)
        return 0;
    a->work = NULL;
    if (w->text.bytes > 0)
        rc = sley_send_all(a->fd, w->out, w->text.bytes, flags, sley_after(SEND_NS));
    pool_give(&works, w);
    return rc;
}

static void log_answer(const struct answers *a, const struct request *r, const char *base, int status, uint64_t body_bytes)
{
    log_add(&(struct log_entry){ a->client, base, r, status, body_bytes });
}

#define ADD(t, literal) text_add(t, literal, sizeof literal - 1)

static void add_status(struct text *t, int status)
{
    char stamp[STAMP_HTTP_BYTES];

    if (status == 200) {
        ADD(t, "HTTP/1.1 200 OK\r\nServer: sley\r\nDate: ");
    } else {
        ADD(t, "HTTP/1.1 ");
        text_add_number(t, status);
        ADD(t, " ");
        text_add_string(t, http_status_str(status));
        ADD(t, "\r\nServer: sley\r\nDate: ");
    }
    stamp_http(stamp);
    text_add(t, stamp, sizeof stamp);
    ADD(t, "\r\n");
}

/* The last lines of a header. */
static void add_end(struct text *t, struct request *r)
{
    r->keep_alive = r->keep_alive && !atomic_load_explicit(&server.stopping, memory_order_relaxed);
    if (!r->keep_alive)
        ADD(t, "Connection: close\r\n");
    else if (r->minor == 0)
        ADD(t, "Connection: keep-alive\r\n");
    ADD(t, "\r\n");
}

static void add_length(struct text *t, uint64_t bytes)
{
    ADD(t, "Content-Length: ");
    text_add_number(t, bytes);
    ADD(t, "\r\n");
}

/* The rest of an answer without a file: its body names the status. */
static void end_status(struct answers *a, struct request *r, const char *base, int status)
{
    struct text *t = &a->work->text;
    const char *reason = http_status_str(status);
    size_t body_bytes = 4 + strlen(reason) + 1;

    ADD(t, "Content-Type: text/plain; charset=utf-8\r\n");
    add_length(t, body_bytes);
    add_end(t, r);
    if (r->method == HTTP_HEAD && r->headers_done) {
        body_bytes = 0;
    } else {
        text_add_number(t, status);
        ADD(t, " ");
        text_add_string(t, reason);
        ADD(t, "\n");
    }
    log_answer(a, r, base, status, body_bytes);
}

static int answer_status(struct answers *a, struct request *r, const char *base, int status)
{
    add_status(&a->work->text, status);
    if (status == 405)
        ADD(&a->work->text, "Allow: GET, HEAD\r\n");
    end_status(a, r, base, status);
    return 0;
}

static int answer_no_such_range(struct answers *a, struct request *r, const char *base, const struct file *f)
{
    struct text *t = &a->work->text;

    add_status(t, 416);
    ADD(t, "Content-Range: bytes */");
    text_add_number(t, f->bytes);
    ADD(t, "\r\n");
    end_status(a, r, base, 416);
    return 0;
}

/* To the directory that was named without its '/'. */
static int answer_redirect(struct answers *a, struct request *r, const char *base)
{
    const struct target *target = &a->work->target;
    struct text *t = &a->work->text;

    add_status(t, 301);
    ADD(t, "Location: /"); /* one '/': two would name a host */
    text_add_url(t, target->path, target->path_bytes);
    ADD(t, "/");
    text_add(t, target->query, target->query_bytes);
    ADD(t, "\r\n");
    end_status(a, r, base, 301);
    return 0;
}

static int answer_listing(struct answers *a, struct request *r, const char *base, const struct file *dir)
{
    struct text *t = &a->work->text, page;
    int rc = listing_make(dir, &a->work->target, &page);

    if (rc < 0) {
        free(page.data);
        return answer_status(a, r, base, 500);
    }
    add_status(t, 200);
    ADD(t, "Content-Type: text/html; charset=utf-8\r\n");
    add_length(t, page.bytes);
    add_end(t, r);
    if (r->method == HTTP_HEAD)
        page.bytes = 0;
    log_answer(a, r, base, 200, page.bytes);
    if (t->bytes + page.bytes <= OUT_BYTES) {
        text_add(t, page.data, page.bytes);
    } else if ((rc = respond_flush(a, MSG_MORE)) == 0) {
        rc = sley_send_all(a->fd, page.data, page.bytes, 0, sley_after(SEND_NS));
    }
    free(page.data);
    return rc;
}

static void add_file_head(struct text *t, struct request *r, const struct file *f, int status, const struct part *part)
{
    add_status(t, status);
    text_add(t, f->head, f->head_bytes);
    if (status != 304)
        add_length(t, part->bytes);
    if (status == 206) {
        ADD(t, "Content-Range: bytes ");
        text_add_number(t, part->first);
        ADD(t, "-");
        text_add_number(t, part->first + part->bytes - 1);
        ADD(t, "/");
        text_add_number(t, f->bytes);
        ADD(t, "\r\n");
    }
    add_end(t, r);
}

/* Read bytes, and in passing more, should the file have grown. A read may be short in the middle of a file, where only the beginning was
 * in memory. */
static int read_part(const struct file *f, char *buf, size_t bytes, size_t more, uint64_t at)
{
    size_t done = 0;
    int n;

    do {
        n = sley_pread(f->fd, buf + done, bytes + more - done, at + done, SLEY_FOREVER);
        done += n > 0 ? n : 0;
    } while (n > 0 && done < bytes);
    return n < 0 ? n : (int)done;
}

/* -ESTALE: the length is not what it was; nothing has been answered. Reading one byte more than there should be shows growth. */
static int answer_small(struct answers *a, struct request *r, const char *base, const struct file *f, int status, const struct part *part,
                        bool last_try)
{
    bool to_end = part->first + part->bytes == f->bytes && !last_try;
    struct text *t = &a->work->text;
    size_t before = t->bytes;
    int n;

    add_file_head(t, r, f, status, part);
    n = read_part(f, t->data + t->bytes, part->bytes, to_end, part->first);
    if (n < 0 || (size_t)n != part->bytes) {
        t->bytes = before;
        return n < 0 ? answer_status(a, r, base, 500) : -ESTALE;
    }
    t->bytes += n;
    log_answer(a, r, base, status, n);
    return 0;
}

static int answer_large(struct answers *a, struct request *r, const char *base, const struct file *f, int status, const struct part *part,
                        bool last_try)
{
    uint64_t left = part->bytes;
    off_t at = part->first;
    int rc;

    if (!last_try && !file_is_same(f))
        return -ESTALE;
    add_file_head(&a->work->text, r, f, status, part);
    rc = respond_flush(a, MSG_MORE);
    while (rc >= 0 && left > 0) {
        rc = sley_sendfile(a->fd, f->fd, &at, left < SENDFILE_BYTES ? left : SENDFILE_BYTES, sley_after(SEND_NS));
        if (rc == 0)
            rc = -EIO; /* it has shrunk: the length in the header cannot be kept */
        else if (rc > 0)
            left -= rc;
    }
    log_answer(a, r, base, status, part->bytes - left);
    return rc < 0 ? rc : 0;
}

static int answer_file(struct answers *a, struct request *r, const char *base, const struct file *f, bool last_try)
{
    struct part part;
    int status;

    if (f->is_directory && f->key_bytes > 0 && f->key[f->key_bytes - 1] != '/')
        return answer_redirect(a, r, base);
    if (f->is_directory)
        return answer_listing(a, r, base, f);

    status = check_request(r, base, f, &part);
    if (status == 412)
        return answer_status(a, r, base, 412);
    if (status == 416)
        return answer_no_such_range(a, r, base, f);
    if (status == 304 || r->method == HTTP_HEAD) {
        add_file_head(&a->work->text, r, f, status, &part);
        log_answer(a, r, base, status, 0);
        return 0;
    }
    if (part.bytes <= READ_BYTES_MAX)
        return answer_small(a, r, base, f, status, &part, last_try);
    return answer_large(a, r, base, f, status, &part, last_try);
}

static int status_of(int error)
{
    switch (error) {
    case -ENOENT: case -ENOTDIR: case -ENAMETOOLONG:
        return 404;
    case -EACCES: case -EPERM: case -ELOOP: case -EXDEV: case -ENXIO: /* EXDEV: outside of the root; ENXIO: a socket */
        return 403;
    case -EMFILE: case -ENFILE: case -ENOMEM: case -EAGAIN:
        return 503;
    default:
        return 500;
    }
}

int respond(struct answers *a, struct request *r, const char *base)
{
    int status = r->status, rc = begin(a);

    if (rc < 0)
        return rc;
    atomic_fetch_add_explicit(&server.requests, 1, memory_order_relaxed);
    if (status != 0)
        r->keep_alive = false;
    else if (r->method != HTTP_GET && r->method != HTTP_HEAD)
        status = 405;
    else
        status = target_parse(&a->work->target, base + r->target.at, r->target.bytes);
    if (status != 0)
        return answer_status(a, r, base, status);

    rc = -ESTALE;
    for (int tries = 1; rc == -ESTALE && tries <= FILE_TRIES; tries++) {
        struct file *f;
        if ((rc = file_open(&a->work->target, &f)) < 0)
            return answer_status(a, r, base, status_of(rc));
        rc = answer_file(a, r, base, f, tries == FILE_TRIES); /* one that never stops growing is sent as long as it was */
        if (rc == -ESTALE)
            file_forget(f);
        file_close(f);
    }
    return rc == -ESTALE ? answer_status(a, r, base, 500) : rc;
}

int respond_continue(struct answers *a)
{
    int rc = begin(a);

    if (rc < 0)
        return rc;
    ADD(&a->work->text, "HTTP/1.1 100 Continue\r\n\r\n");
    return respond_flush(a, 0);
}
