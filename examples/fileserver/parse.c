/* parse.c - requests out of bytes. libhttp-parser knows the grammar; this file keeps where in the request the parts lie, and decides
 * which requests are refused before anybody looks for a file.
 *
 * Parts are offsets from the first byte of the request, for the buffer may move while a request is incomplete. */
#include "server.h"
#include <ctype.h>
#include <string.h>
#include <strings.h>

static int refuse(struct parse *p, int status)
{
    p->request.status = status;
    return 1; /* makes the parser stop */
}

/* Parts come in pieces where one read ended and the next began; anything else between two pieces was a folded line. */
static int extend(struct parse *p, struct slice *s, const char *at, size_t bytes)
{
    size_t offset = at - p->base;

    if (offset + bytes > HEAD_IN_BYTES_MAX)
        return refuse(p, 431);
    if (s->at == 0)
        *s = (struct slice){ offset, 0 };
    else if (offset != (size_t)s->at + s->bytes)
        return refuse(p, 400);
    s->bytes += bytes;
    return 0;
}

static int on_url(http_parser *parser, const char *at, size_t bytes)
{
    struct parse *p = parser->data;

    if (p->request.target.bytes + bytes > TARGET_BYTES_MAX)
        return refuse(p, 414);
    return extend(p, &p->request.target, at, bytes);
}

/* A header is complete: keep it if it is one of those that matter here. */
static int end_header(struct parse *p)
{
    static const struct {
        const char *name;
        size_t bytes, offset;
    } known[] = {
#define KNOWN(name, member) { name, sizeof name - 1, offsetof(struct request, member) }
        KNOWN("Host", host), KNOWN("Range", range), KNOWN("If-Range", if_range), KNOWN("If-Match", if_match),
        KNOWN("If-None-Match", if_none_match), KNOWN("If-Modified-Since", if_modified_since),
        KNOWN("If-Unmodified-Since", if_unmodified_since), KNOWN("Referer", referer), KNOWN("User-Agent", user_agent),
        KNOWN("Expect", expect),
#undef KNOWN
    };
    struct request *r = &p->request;
    const char *name = p->base + r->field.at;

    if (memchr(name, ' ', r->field.bytes) != NULL) /* Debian's parser is built lenient; proxies disagree on what this would mean */
        return refuse(p, 400);
    while (r->value.bytes > 0 && strchr(" \t", p->base[r->value.at + r->value.bytes - 1]) != NULL)
        r->value.bytes--;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        struct slice *s = (struct slice *)((char *)r + known[i].offset);
        if (r->field.bytes != known[i].bytes || strncasecmp(name, known[i].name, known[i].bytes) != 0)
            continue;
        if (s == &r->host && s->at != 0)
            return refuse(p, 400);
        *s = r->value; /* of several, the last */
        break;
    }
    r->field = r->value = (struct slice){ 0, 0 };
    return 0;
}

static int on_header_field(http_parser *parser, const char *at, size_t bytes)
{
    struct parse *p = parser->data;
    struct request *r = &p->request;

    if (r->headers_done)
        return 0; /* behind a body: says nothing that matters here */
    if (r->value.at != 0 && end_header(p) != 0)
        return 1;
    if (r->field.at == 0 && ++r->headers > HEADERS_MAX)
        return refuse(p, 431);
    return extend(p, &r->field, at, bytes);
}

static int on_header_value(http_parser *parser, const char *at, size_t bytes)
{
    struct parse *p = parser->data;

    return p->request.headers_done ? 0 : extend(p, &p->request.value, at, bytes);
}

static int on_headers_complete(http_parser *parser)
{
    struct parse *p = parser->data;
    struct request *r = &p->request;

    if (r->value.at != 0 && end_header(p) != 0)
        return -1; /* 1 would mean: no body */
    r->method = parser->method;
    r->major = parser->http_major;
    r->minor = parser->http_minor;
    r->keep_alive = http_should_keep_alive(parser);
    r->has_body = (parser->flags & F_CHUNKED) != 0 || ((parser->flags & F_CONTENTLENGTH) != 0 && parser->content_length > 0);
    r->headers_done = true;

    r->expects_continue = r->expect.at != 0 && r->minor > 0 && r->has_body;

    if (r->major != 1)
        r->status = 505;
    else if (r->minor > 0 && r->host.at == 0)
        r->status = 400;
    else if ((parser->flags & F_CONTENTLENGTH) != 0 && parser->content_length > BODY_BYTES_MAX)
        r->status = 413;
    else if (r->expect.at != 0 && (r->expect.bytes != 12 || strncasecmp(p->base + r->expect.at, "100-continue", 12) != 0))
        r->status = 417;
    else if (r->method == HTTP_CONNECT || (r->expects_continue && r->method != HTTP_GET && r->method != HTTP_HEAD))
        r->status = 405; /* at once, instead of an invitation to send the body */
    if (r->status != 0)
        return -1;
    if (r->has_body)
        http_parser_pause(parser, 1);
    return 0;
}

static int on_body(http_parser *parser, const char *at, size_t bytes)
{
    struct parse *p = parser->data;

    (void)at;
    p->request.body_bytes += bytes;
    return p->request.body_bytes > BODY_BYTES_MAX ? refuse(p, 413) : 0;
}

static int on_message_complete(http_parser *parser)
{
    struct parse *p = parser->data;

    p->request.done = true;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* The parser knows many methods, and says the same of any other as of garbage. */
static int status_of_error(enum http_errno error, const char *base, size_t bytes)
{
    size_t i = 0;

    switch (error) {
    case HPE_HEADER_OVERFLOW:
        return 431;
    case HPE_INVALID_METHOD:
        while (i < bytes && isupper((unsigned char)base[i]))
            i++;
        return i > 0 && i < bytes && base[i] == ' ' ? 501 : 400;
    default:
        return 400;
    }
}

void parse_init(struct parse *p)
{
    http_parser_init(&p->parser, HTTP_REQUEST);
    p->parser.data = p;
    parse_next(p);
}

void parse_next(struct parse *p)
{
    p->request = (struct request){ 0 };
}

size_t parse_feed(struct parse *p, const char *base, size_t at, size_t bytes)
{
    enum http_errno error;
    size_t taken;

    p->base = base;
    http_parser_pause(&p->parser, 0);
    taken = http_parser_execute(&p->parser, &settings, base + at, bytes);
    error = HTTP_PARSER_ERRNO(&p->parser);
    if (error != HPE_OK && error != HPE_PAUSED && p->request.status == 0)
        p->request.status = status_of_error(error, base, at + bytes);
    return taken;
}
