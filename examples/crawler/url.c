/* url.c - from a link to a URL in one spelling, so that a page with many names is fetched once.
 *
 * libxml2 knows what a relative link means (xmlBuildURI). But it takes what is escaped in a path for what it stands for, and "a%2Fb" is not
 * "a/b". So every '%' is itself escaped before, which is undone after: what libxml2 meanwhile does to escapes is to those alone. It
 * drops empty parts of some paths, and so they are dropped from all: most servers do the same. */
#include "crawler.h"
#include <errno.h>
#include <libxml/uri.h>
#include <libxml/xmlerror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static struct {
    char **urls; /* up to the path they say which host and port */
    size_t count;
} allowed;

enum { GUARDED_BYTES = sizeof "%25XX" - 1 };

static bool is_unreserved(char ch)
{
    return is_digit(ch) || is_upper(ch) || (ch >= 'a' && ch <= 'z') || (ch != '\0' && strchr("-._~", ch) != NULL);
}

static bool may_stay(char ch)
{
    return is_unreserved(ch) || (ch != '\0' && strchr(":/?@!$&'()*+,;=", ch) != NULL);
}

static int hex(char ch)
{
    ch = to_lower(ch);
    return is_digit(ch) ? ch - '0' : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

/* A copy of the link for xmlBuildURI, without what no URL has: surrounding blanks, line breaks, the fragment. All but the plainest
 * characters become escapes, and every escape is guarded. NULL: no memory. */
static char *guard(const char *link)
{
    size_t bytes = strlen(link);
    char *guarded = malloc(bytes * GUARDED_BYTES + 1), *out = guarded;
    bool in_address = false; /* of IPv6, the one place where brackets may stand */

    if (guarded == NULL)
        return NULL;
    while (bytes > 0 && (unsigned char)link[bytes - 1] <= ' ')
        bytes--;
    while (bytes > 0 && (unsigned char)*link <= ' ')
        link++, bytes--;
    for (const char *end = link + bytes; link < end && *link != '#'; link++) {
        unsigned char ch = *link;
        bool is_escape = ch == '%' && end - link > 2 && hex(link[1]) >= 0 && hex(link[2]) >= 0;
        if (ch == '\t' || ch == '\n' || ch == '\r')
            continue;
        if (is_escape) {
            ch = hex(link[1]) << 4 | hex(link[2]);
            link += 2;
        }
        if (ch == '[' && !is_escape)
            in_address = out - guarded >= 2 && memcmp(out - 2, "//", 2) == 0;
        if (is_escape ? is_unreserved(ch) : may_stay(ch) || (in_address && (ch == '[' || ch == ']')))
            *out++ = ch;
        else
            out += sprintf(out, "%%25%02X", ch);
        in_address = in_address && ch != ']';
    }
    *out = '\0';
    return guarded;
}

/* In one spelling; NULL: no memory. */
static char *format(xmlURIPtr uri)
{
    char port[16] = "", *url, *slash;
    int n;

    if (uri->port > 0 && uri->port != 80)
        snprintf(port, sizeof port, ":%d", uri->port);
    n = asprintf(&url, "http://%s%s%s%s%s", uri->server, port, uri->path != NULL && uri->path[0] == '/' ? uri->path : "/",
                 uri->query_raw != NULL ? "?" : "", uri->query_raw != NULL ? uri->query_raw : "");
    if (n < 0)
        return NULL;
    slash = strchr(url + strlen("http://"), '/');
    for (char *ch = url; ch < slash; ch++)
        *ch = to_lower(*ch);
    return url;
}

static bool is_http(xmlURIPtr uri)
{
    return uri->scheme != NULL && strcasecmp(uri->scheme, "http") == 0 && uri->server != NULL && uri->server[0] != '\0' &&
           strlen(uri->server) <= HOST_BYTES_MAX && strchr(uri->server, '%') == NULL && uri->port <= 65535;
}

/* Failures of libxml2 look alike; what kind the last was, it says to the thread. No fiber waits between the failure and this. */
static int why_nothing(void)
{
    const xmlError *e = xmlGetLastError();

    return e != NULL && e->code == XML_ERR_NO_MEMORY ? -ENOMEM : 0;
}

static int normalise(const char *text, char **out)
{
    xmlURIPtr uri = xmlParseURIRaw(text, 1);
    int rc = 0;

    if (uri == NULL)
        return why_nothing();
    if (is_http(uri) && (uri->path == NULL || xmlNormalizeURIPath(uri->path) == 0)) {
        char *url = format(uri);
        rc = url == NULL ? -ENOMEM : strlen(url) <= URL_BYTES_MAX;
        if (rc > 0)
            *out = url;
        else
            free(url);
    }
    xmlFreeURI(uri);
    return rc;
}

int url_resolve(const char *link, const char *base, char **out)
{
    char *guarded, *guarded_base = NULL, *text;
    xmlChar *built = NULL;
    int rc = 0;

    if (strnlen(link, URL_BYTES_MAX + 1) > URL_BYTES_MAX)
        return 0;
    guarded = guard(link);
    if (base != NULL)
        guarded_base = guard(base);
    if (guarded == NULL || (base != NULL && guarded_base == NULL)) {
        rc = -ENOMEM;
    } else {
        xmlResetLastError();
        built = xmlBuildURI((xmlChar *)guarded, (xmlChar *)guarded_base);
        text = built != NULL ? xmlURIUnescapeString((char *)built, 0, NULL) : NULL;
        rc = text != NULL ? normalise(text, out) : why_nothing();
        xmlFree(text);
        xmlFree(built);
    }
    free(guarded_base);
    free(guarded);
    return rc;
}

char *url_escape(const char *link)
{
    xmlChar *escaped = xmlURIEscapeStr((const xmlChar *)link, (const xmlChar *)":/?#[]@!$&'()*+,;=%");
    char *copy = escaped != NULL ? strdup((char *)escaped) : NULL;

    xmlFree(escaped);
    return copy;
}

const char *url_authority(const char *url, size_t *bytes)
{
    const char *authority = url + strlen("http://");

    *bytes = strchr(authority, '/') - authority;
    return authority;
}

const char *url_target(const char *url)
{
    return strchr(url + strlen("http://"), '/');
}

int url_allow(const char *url)
{
    char **urls = realloc(allowed.urls, (allowed.count + 1) * sizeof *urls);

    if (urls == NULL)
        return -ENOMEM;
    allowed.urls = urls;
    urls[allowed.count] = strdup(url);
    if (urls[allowed.count] == NULL)
        return -ENOMEM;
    allowed.count++;
    return 0;
}

bool url_is_allowed(const char *url)
{
    size_t bytes = url_target(url) + 1 - url;

    for (size_t i = 0; i < allowed.count; i++)
        if (strncmp(allowed.urls[i], url, bytes) == 0)
            return true;
    return false;
}

void url_fini(void)
{
    for (size_t i = 0; i < allowed.count; i++)
        free(allowed.urls[i]);
    free(allowed.urls);
}
