/* target.c - from the target of a request to a path below the root. The kernel (files.c) has the last word on what is below it. */
#include "server.h"
#include <string.h>
#include <strings.h>

static int hex(unsigned char ch)
{
    return ch >= '0' && ch <= '9' ? ch - '0' : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : ch >= 'A' && ch <= 'F' ? ch - 'A' + 10 : -1;
}

static int decode(const char *s, size_t bytes, char *out, size_t *out_bytes)
{
    size_t n = 0;

    for (size_t i = 0; i < bytes; i++, n++) {
        out[n] = s[i];
        if (s[i] == '%') {
            if (i + 2 >= bytes || hex(s[i + 1]) < 0 || hex(s[i + 2]) < 0)
                return 400;
            out[n] = hex(s[i + 1]) << 4 | hex(s[i + 2]);
            i += 2;
        }
        if (out[n] == '\0')
            return 400;
    }
    *out_bytes = n;
    return 0;
}

/* In place: drop empty and "." parts; ".." is refused, decoded or not: who means another path may name it. */
static int normalise(char *path, size_t *bytes)
{
    size_t out = 0;

    for (size_t at = 0; at < *bytes;) {
        char *slash = memchr(path + at, '/', *bytes - at);
        size_t part = slash != NULL ? (size_t)(slash - path) - at : *bytes - at;

        if (part == 2 && memcmp(path + at, "..", 2) == 0)
            return 400;
        if (part > 0 && !(part == 1 && path[at] == '.')) {
            memmove(path + out, path + at, part);
            out += part;
            if (slash != NULL)
                path[out++] = '/';
        }
        at += part + 1;
    }
    *bytes = out;
    path[out] = '\0';
    return 0;
}

int target_parse(struct target *t, const char *s, size_t bytes)
{
    struct http_parser_url url;
    int status;

    if (bytes == 0 || bytes > TARGET_BYTES_MAX)
        return bytes == 0 ? 400 : 414;
    http_parser_url_init(&url);
    if (http_parser_parse_url(s, bytes, 0, &url) != 0)
        return 400;
    if ((url.field_set & 1 << UF_SCHEMA) != 0 && (url.field_data[UF_SCHEMA].len != 4 || strncasecmp(s, "http", 4) != 0))
        return 400;
    t->query = s;
    t->query_bytes = 0;
    if ((url.field_set & 1 << UF_QUERY) != 0) {
        t->query = s + url.field_data[UF_QUERY].off - 1;
        t->query_bytes = url.field_data[UF_QUERY].len + 1;
    }
    t->path_bytes = 0;
    t->path[0] = '\0';
    if ((url.field_set & 1 << UF_PATH) == 0)
        return 0;
    status = decode(s + url.field_data[UF_PATH].off, url.field_data[UF_PATH].len, t->path, &t->path_bytes);
    return status != 0 ? status : normalise(t->path, &t->path_bytes);
}
