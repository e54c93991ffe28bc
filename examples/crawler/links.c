/* links.c - the links of a page of HTML, by libxml2's parser, which takes pages as they are.
 *
 * Threads: the handlers only copy, so nothing waits inside the parser, and the fiber cannot move to another thread there: what libxml2
 * keeps for each thread, it finds again. Nothing of that is used here, but it is told to say nothing on standard error on any of them.
 *
 * Stack: elements inside elements take none, and 16 KiB were the most that was measured. But that is mostly what iconv and ICU need, which
 * are called, and loaded, for whatever charset a server names; so it runs on a stack of its own size, whatever SLEY_STACK says.
 *
 * Time: for an end tag the parser goes through all elements that are open, and for an attribute through all before it, so a page made for
 * that could keep a worker busy for half an hour. A page too deep is given up, and so is an element with too many attributes; that
 * shows in the parser's array for them when it reads on, which is why it is given the page piece by piece.
 *
 * Charsets: at a byte that is not of the charset, conversion stops, and with it the page, often without an error. What is left over
 * shows, and then the rest of the links is found by a second reading, of bytes as they are. A NUL would end the page too, so where it
 * is no half of a character it is made a blank. */
#include "crawler.h"
#include <errno.h>
#include <libxml/HTMLparser.h>
#include <libxml/globals.h>
#include <stdlib.h>
#include <string.h>

struct parsing {
    struct links *links;
    htmlParserCtxtPtr ctxt;
    const char *html;
    size_t bytes, read;
    size_t known; /* links that come first and have been added already */
};

static void ignore(void *arg, xmlErrorPtr error)
{
    (void)arg;
    (void)error;
}

void links_begin(void)
{
    xmlInitParser();
    xmlThrDefSetStructuredErrorFunc(NULL, ignore); /* for threads to come */
}

void links_end(void)
{
    xmlCleanupParser();
}

static void add(struct parsing *p, const char *link)
{
    struct links *l = p->links;
    size_t bytes = strlen(link) + 1;

    if (p->known > 0) {
        p->known--;
        return;
    }
    if (bytes > l->bytes_max - l->bytes) {
        size_t bytes_max = 2 * l->bytes_max + bytes + URL_BYTES_MAX;
        char *text = realloc(l->text, bytes_max);
        if (text == NULL) {
            l->error = -ENOMEM;
            return;
        }
        l->text = text;
        l->bytes_max = bytes_max;
    }
    memcpy(l->text + l->bytes, link, bytes);
    l->bytes += bytes;
    l->count++;
}

static bool is_one_of(const char *name, const char *a, const char *b)
{
    return strcmp(name, a) == 0 || strcmp(name, b) == 0;
}

/* Names come in lower case, attributes as name and value in turn; a value may be missing. */
static void on_element(void *arg, const xmlChar *element, const xmlChar **attributes)
{
    struct parsing *p = arg;
    struct links *l = p->links;
    const char *name = (const char *)element;
    const char *wanted = is_one_of(name, "frame", "iframe") ? "src" : "href";

    if (p->ctxt->nameNr > DEPTH_MAX) {
        l->error = -EBADMSG;
        xmlStopParser(p->ctxt);
        return;
    }
    for (const xmlChar **a = attributes; a != NULL && a[0] != NULL; a += 2) {
        const char *value = (const char *)a[1];
        if (value == NULL || strcmp((const char *)a[0], wanted) != 0)
            continue;
        if (strcmp(name, "base") != 0) {
            add(p, value);
        } else if (l->base == NULL && (l->base = strdup(value)) == NULL) {
            l->error = -ENOMEM;
        }
    }
}

/* The parser asks for more. */
static int on_read(void *arg, char *out, int bytes_max)
{
    struct parsing *p = arg;
    size_t bytes = p->bytes - p->read < (size_t)bytes_max ? p->bytes - p->read : (size_t)bytes_max;

    if (p->ctxt->maxatts > 2 * ATTRIBUTES_MAX) { /* names and values */
        p->links->error = -EBADMSG;
        return 0;
    }
    memcpy(out, p->html + p->read, bytes);
    p->read += bytes;
    return (int)bytes;
}

/* 1: some of the page was not read, or not converted. */
static int parse_as(struct parsing *p, const char *charset, int options)
{
    xmlParserInputBufferPtr in;
    int rc;

    p->ctxt = htmlNewParserCtxt();
    if (p->ctxt == NULL)
        return -ENOMEM;
    *p->ctxt->sax = (htmlSAXHandler){ .startElement = on_element, .serror = ignore, .initialized = XML_SAX2_MAGIC };
    p->ctxt->userData = p;
    p->read = 0;
    xmlFreeDoc(htmlCtxtReadIO(p->ctxt, on_read, NULL, p, NULL, charset, options | HTML_PARSE_RECOVER | HTML_PARSE_NONET));
    in = p->ctxt->input != NULL ? p->ctxt->input->buf : NULL;
    if (p->links->error != 0)
        rc = p->links->error;
    else if (p->ctxt->errNo == XML_ERR_NO_MEMORY)
        rc = -ENOMEM;
    else
        rc = p->read < p->bytes || (in != NULL && in->raw != NULL && xmlBufUse(in->raw) > 0);
    htmlFreeParserCtxt(p->ctxt);
    return rc;
}

static int parse(void *arg)
{
    struct parsing *p = arg;
    int rc = parse_as(p, p->links->charset, 0);

    if (rc > 0) {
        p->known = p->links->count;
        rc = parse_as(p, "ISO-8859-1", HTML_PARSE_IGNORE_ENC);
    }
    return rc < 0 ? rc : 0;
}

static void blank_nuls(char *html, size_t bytes, const char *charset)
{
    const char *end = html + bytes;

    if (bytes >= 2 && (memcmp(html, "\xff\xfe", 2) == 0 || memcmp(html, "\xfe\xff", 2) == 0))
        return; /* UTF-16 and UTF-32, by their own mark */
    if (charset != NULL && (strstr(charset, "16") != NULL || strstr(charset, "32") != NULL))
        return; /* or by their name; that of some others has such a number as well, and their NULs stay */
    while ((html = memchr(html, '\0', end - html)) != NULL)
        *html++ = ' ';
}

int links_parse(struct links *l, char *html, size_t bytes, const char *charset)
{
    struct parsing p = { .links = l, .html = html, .bytes = bytes };

    *l = (struct links){ .charset = charset };
    if (bytes == 0)
        return 0;
    blank_nuls(html, bytes, charset);
    return sley_on_big_stack(parse, &p, LINKS_STACK_BYTES);
}

void links_free(struct links *l)
{
    free(l->text);
    free(l->base);
}
