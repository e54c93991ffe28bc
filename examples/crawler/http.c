/* http.c - one request, and its answer out of bytes. libhttp-parser knows the grammar, chunks and where a body ends; this file keeps the
 * three headers that matter and what of the body is wanted, and refuses what is beyond bounds. */
#include "crawler.h"
#include <errno.h>
#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct value { /* of a header, as far as it fits; one too long keeps its beginning */
    char *data;
    size_t bytes, bytes_max;
    bool is_cut;
};

struct reading {
    http_parser parser;
    struct answer *answer;
    struct value location, type, coding, nothing, *value; /* value: that of the header being read, NULL: none yet */
    char field[sizeof "Content-Encoding"];                /* its name, cut */
    size_t field_bytes;
    size_t body_bytes_max; /* of the memory */
    int interim, error;    /* error: why the parser was stopped */
    bool done;
};

static int refuse(struct reading *r, int error)
{
    r->error = error;
    return -1; /* for on_headers_complete 1 would mean: no body */
}

/* --- headers --------------------------------------------------------------------------------------------------------------------- */

static int on_message_begin(http_parser *parser) /* again after an interim answer */
{
    struct reading *r = parser->data;

    r->location.bytes = r->type.bytes = r->coding.bytes = 0;
    r->location.is_cut = false;
    r->value = NULL;
    r->field_bytes = 0;
    return 0;
}

static int on_header_field(http_parser *parser, const char *at, size_t bytes)
{
    struct reading *r = parser->data;
    size_t room = sizeof r->field - r->field_bytes;

    if (r->value != NULL) {
        r->value = NULL;
        r->field_bytes = 0;
        room = sizeof r->field;
    }
    memcpy(r->field + r->field_bytes, at, bytes < room ? bytes : room);
    r->field_bytes += bytes < room ? bytes : room;
    return 0;
}

static bool field_is(const struct reading *r, const char *name)
{
    return r->field_bytes == strlen(name) && strncasecmp(r->field, name, r->field_bytes) == 0;
}

static int on_header_value(http_parser *parser, const char *at, size_t bytes)
{
    struct reading *r = parser->data;
    size_t room;

    if (r->value == NULL) {
        r->value = field_is(r, "Location") ? &r->location : field_is(r, "Content-Type") ? &r->type :
                   field_is(r, "Content-Encoding") ? &r->coding : &r->nothing;
        r->value->bytes = 0; /* of several, the last */
        r->value->is_cut = false;
    }
    room = r->value->bytes_max - r->value->bytes;
    r->value->is_cut |= bytes > room;
    memcpy(r->value->data + r->value->bytes, at, bytes < room ? bytes : room);
    r->value->bytes += bytes < room ? bytes : room;
    return 0;
}

/* A word of a header, in lower case; what is not printable does not belong there, and ends it. */
static void copy_word(char *out, const char *s, const char *ends)
{
    while (*s > ' ' && *s < 0x7f && strchr(ends, *s) == NULL)
        *out++ = to_lower(*s++);
    *out = '\0';
}

static void take_type(struct answer *a)
{
    char *charset = strcasestr(a->type, "charset=");

    a->charset[0] = '\0';
    if (charset != NULL) {
        charset += strlen("charset=");
        copy_word(a->charset, charset + (*charset == '"' || *charset == '\''), ";,\"'");
    }
    copy_word(a->type, a->type, ";,");
    a->is_html = strcmp(a->type, "text/html") == 0 || strcmp(a->type, "application/xhtml+xml") == 0;
}

static void end_value(struct value *v)
{
    v->data[v->bytes] = '\0'; /* there is room for it behind bytes_max */
}

static int on_headers_complete(http_parser *parser)
{
    struct reading *r = parser->data;
    struct answer *a = r->answer;
    bool has_length = (parser->flags & F_CONTENTLENGTH) != 0;

    if (parser->http_major != 1 || parser->upgrade)
        return refuse(r, -EPROTO);
    if (parser->status_code < 200)
        return ++r->interim > INTERIM_MAX ? refuse(r, -EPROTO) : 1;
    if (r->location.is_cut)
        return refuse(r, -EMSGSIZE);
    end_value(&r->location);
    end_value(&r->type);
    end_value(&r->coding);
    a->status = parser->status_code;
    a->keep_alive = http_should_keep_alive(parser);
    a->is_coded = r->coding.bytes > 0 && strcasecmp(r->coding.data, "identity") != 0;
    take_type(a);
    if (a->status == 204 || a->status == 304)
        return 1;
    return has_length && parser->content_length > (uint64_t)settings.max_bytes ? refuse(r, -EFBIG) : 0;
}

/* --- body ------------------------------------------------------------------------------------------------------------------------ */

static int on_body(http_parser *parser, const char *at, size_t bytes)
{
    struct reading *r = parser->data;
    struct answer *a = r->answer;

    if (bytes > settings.max_bytes - a->bytes)
        return refuse(r, -EFBIG);
    if (a->status == 200 && a->is_html) {
        if (bytes > r->body_bytes_max - a->bytes) {
            size_t bytes_max = a->bytes + bytes > 2 * r->body_bytes_max ? a->bytes + bytes : 2 * r->body_bytes_max;
            char *body = realloc(a->body, bytes_max);
            if (body == NULL)
                return refuse(r, -ENOMEM);
            a->body = body;
            r->body_bytes_max = bytes_max;
        }
        memcpy(a->body + a->bytes, at, bytes);
    }
    a->bytes += bytes;
    return 0;
}

static int on_message_complete(http_parser *parser)
{
    struct reading *r = parser->data;

    if (parser->status_code < 200)
        return 0; /* the next answer is to the same request */
    r->done = true;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings callbacks = {
    .on_message_begin = on_message_begin,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

static int error_of(const struct reading *r)
{
    switch (HTTP_PARSER_ERRNO(&r->parser)) {
    case HPE_OK:
    case HPE_PAUSED:
        return 0;
    case HPE_INVALID_EOF_STATE:
        return -ECONNRESET;
    case HPE_HEADER_OVERFLOW:
        return -EMSGSIZE;
    default:
        return r->error != 0 ? r->error : -EPROTO;
    }
}

/* --- the exchange ---------------------------------------------------------------------------------------------------------------- */

static int send_request(struct conn *c, const char *url, sley_time deadline)
{
    size_t authority_bytes;
    const char *authority = url_authority(url, &authority_bytes);
    int n = snprintf(c->buf, sizeof c->buf,
                     "GET %s HTTP/1.1\r\nHost: %.*s\r\n"
                     "User-Agent: sley-crawler\r\nAccept: text/html, */*\r\nAccept-Encoding: identity\r\n\r\n",
                     url_target(url), (int)authority_bytes, authority);

    return sley_send_all(c->fd, c->buf, n, 0, deadline); /* no URL is too long for the buffer */
}

int http_get(struct conn *c, const char *url, struct answer *a, sley_time deadline)
{
    char coding[32], nothing[1];
    struct reading r = {
        .answer = a,
        .location = { .data = a->location, .bytes_max = sizeof a->location - 1 },
        .type = { .data = a->type, .bytes_max = sizeof a->type - 1 },
        .coding = { .data = coding, .bytes_max = sizeof coding - 1 },
        .nothing = { .data = nothing },
    };
    int rc = send_request(c, url, deadline), n;

    *a = (struct answer){ .status = 0 };
    http_parser_init(&r.parser, HTTP_RESPONSE);
    r.parser.data = &r;
    while (rc == 0 && !r.done) {
        rc = n = sley_recv(c->fd, c->buf, sizeof c->buf, 0, deadline);
        if (n >= 0) {
            size_t taken = http_parser_execute(&r.parser, &callbacks, c->buf, n);
            a->keep_alive &= taken == (size_t)n; /* who sends more than was asked for is not to be trusted with another request */
            rc = error_of(&r);
            if (rc == 0 && n == 0 && !r.done)
                rc = -ECONNRESET;
        }
    }
    if (rc < 0) {
        free(a->body);
        a->body = NULL;
    }
    return rc == -EPIPE ? -ECONNRESET : rc;
}
