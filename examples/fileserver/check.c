/* check.c - conditions and ranges, in the order of RFC 9110, 13.2.2. What cannot be understood is as if it were not there. */
#include "server.h"
#include <string.h>

static bool is(const char *s, size_t bytes, const char *what, size_t what_bytes)
{
    return bytes == what_bytes && memcmp(s, what, bytes) == 0;
}

/* Is f's tag in the list? A weak one, W/"...", is as good for If-None-Match, and no match for If-Match. */
static bool list_has_tag(const char *s, size_t bytes, const struct file *f, bool weak_matches)
{
    const char *end = s + bytes;

    if (is(s, bytes, "*", 1))
        return true;
    while (s < end) {
        bool weak = end - s > 2 && s[0] == 'W' && s[1] == '/';
        const char *tag = weak ? s + 2 : s, *close;

        if (*tag != '"') {
            s++;
            continue;
        }
        close = memchr(tag + 1, '"', end - tag - 1);
        if (close == NULL)
            return false;
        if ((!weak || weak_matches) && is(tag, close + 1 - tag, f->etag, f->etag_bytes))
            return true;
        s = close + 1;
    }
    return false;
}

/* -1: later than the date, 0: it is no date, 1: not later. */
static int modified_by(const char *s, size_t bytes, const struct file *f)
{
    time_t when;

    if (is(s, bytes, f->date, STAMP_HTTP_BYTES))
        return 1;
    return !stamp_parse(s, bytes, &when) ? 0 : f->modified.tv_sec <= when ? 1 : -1;
}

/* A number at *s, not beyond end, at most UINT64_MAX; *s is left behind it. */
static bool number(const char **s, const char *end, uint64_t *n)
{
    const char *first = *s;

    for (*n = 0; *s < end && **s >= '0' && **s <= '9'; ++*s)
        if (__builtin_mul_overflow(*n, 10, n) || __builtin_add_overflow(*n, (uint64_t)(**s - '0'), n))
            *n = UINT64_MAX;
    return *s > first;
}

/* 206, 416, or 200 for what is not one range of bytes: to answer several with everything is allowed, and this does. */
static int check_range(const char *s, size_t bytes, const struct file *f, struct part *part)
{
    const char *end = s + bytes;
    uint64_t first, last;
    bool has_first, has_last;

    if (bytes < 6 || memcmp(s, "bytes=", 6) != 0)
        return 200;
    s += 6;
    has_first = number(&s, end, &first);
    if (s == end || *s++ != '-')
        return 200;
    has_last = number(&s, end, &last);
    if (s != end || (!has_first && !has_last) || (has_first && has_last && last < first))
        return 200;
    if (!has_first) { /* the last so many bytes */
        if (last == 0)
            return 416;
        if (f->bytes == 0)
            return 200;
        first = last < f->bytes ? f->bytes - last : 0;
        last = f->bytes - 1;
    } else if (first >= f->bytes) {
        return 416;
    } else if (!has_last || last >= f->bytes) {
        last = f->bytes - 1;
    }
    *part = (struct part){ first, last - first + 1 };
    return 206;
}

int check_request(const struct request *r, const char *base, const struct file *f, struct part *part)
{
    *part = (struct part){ 0, f->bytes };

    if (r->if_match.at != 0) {
        if (!list_has_tag(base + r->if_match.at, r->if_match.bytes, f, false))
            return 412;
    } else if (r->if_unmodified_since.at != 0) {
        if (modified_by(base + r->if_unmodified_since.at, r->if_unmodified_since.bytes, f) < 0)
            return 412;
    }
    if (r->if_none_match.at != 0) {
        if (list_has_tag(base + r->if_none_match.at, r->if_none_match.bytes, f, true))
            return 304;
    } else if (r->if_modified_since.at != 0) {
        if (modified_by(base + r->if_modified_since.at, r->if_modified_since.bytes, f) > 0)
            return 304;
    }
    if (r->range.at == 0 || r->method != HTTP_GET)
        return 200;
    if (r->if_range.at != 0 && !is(base + r->if_range.at, r->if_range.bytes, f->etag, f->etag_bytes) &&
        !is(base + r->if_range.at, r->if_range.bytes, f->date, STAMP_HTTP_BYTES))
        return 200; /* the client holds a part of something else */
    return check_range(base + r->range.at, r->range.bytes, f, part);
}
