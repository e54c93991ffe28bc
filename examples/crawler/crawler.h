/* crawler.h - the parts of the crawler and what they say to each other.
 *
 *   main.c    options, start, end                http.c    one request and its answer (libhttp-parser)
 *   crawl.c   the workers, Ctrl-C, progress      conns.c   connections, kept for the next request to the same server
 *   queue.c   what is still to be fetched        links.c   links out of a page (libxml2)
 *   pages.c   every URL seen, each once          url.c     from a link to a URL
 *   fetch.c   one page: tries, what became of it report.c  all pages, and counts by kind
 *
 * The set of pages, the queue and the kept connections are shared; each has its lock, under which nothing waits for a peer. All else of
 * a page is its worker's until the runtime has stopped; then it is the report's. */
#ifndef CRAWLER_H
#define CRAWLER_H

#include <sley.h>
#include <stdbool.h>
#include <stddef.h>

/* --- bounds, in one place ------------------------------------------------------------------------------------------------------- */

enum {
    URL_BYTES_MAX = 4096,          /* a longer link is none */
    HOST_BYTES_MAX = 255,
    TYPE_BYTES_MAX = 255,          /* of a Content-Type; the rest is not looked at */
    IN_BYTES = 16384,              /* one receive */
    INTERIM_MAX = 16,              /* answers of status 1xx before the one that counts */
    LINKS_STACK_BYTES = 1 << 18,   /* see links.c */
    DEPTH_MAX = 2000,              /* of elements in each other; links.c says why there is a bound, and one for their attributes */
    ATTRIBUTES_MAX = 1000,         /* roughly */
    WORKERS_MAX = 300,             /* with twice as many kept connections still below the usual 1,024 descriptors */
};

#define RETRY_NS    (100 * SLEY_MS) /* before the second try, twice as long before the third */
#define PROGRESS_NS (3 * SLEY_S)    /* from one line of progress to the next */

struct settings {
    long workers;
    long max_redirect;
    long max_tries;
    long max_bytes;  /* of a body */
    long max_urls;
    sley_time timeout_ns; /* of one request, from the connection to the last byte */
};

extern struct settings settings;

/* The functions of <ctype.h> look into memory of the thread, for its locale: no fiber needs that, and URLs know none. */
static inline bool is_digit(char ch) { return ch >= '0' && ch <= '9'; }
static inline bool is_upper(char ch) { return ch >= 'A' && ch <= 'Z'; }
static inline char to_lower(char ch) { return is_upper(ch) ? ch - 'A' + 'a' : ch; }

/* --- queue.c -------------------------------------------------------------------------------------------------------------------- */

struct queue_entry {
    struct queue_entry *next;
};

struct queue {
    sley_mutex lock;
    sley_sem ready;             /* a permit for each entry in the list */
    sley_event finished;        /* set while unfinished is 0 */
    struct queue_entry *first, **last;
    size_t length, unfinished;  /* unfinished: put, and task_done has not been said of it */
};

void queue_init(struct queue *q);
void queue_put(struct queue *q, struct queue_entry *e); /* never waits and cannot fail; e is the queue's until somebody gets it */
int queue_get(struct queue *q, struct queue_entry **out, sley_time deadline); /* the oldest; waits for one */
void queue_task_done(struct queue *q);                  /* once for each entry got, when all that follows from it has been put */
int queue_join(struct queue *q, sley_time deadline);    /* until every entry ever put is done */
sley_case queue_case_join(struct queue *q);             /* the same in a select */
size_t queue_length(struct queue *q);

/* --- url.c ---------------------------------------------------------------------------------------------------------------------- */

/* The URL that `link` means where `base` is the page's, or by itself if base is NULL: 1 and *out, which the caller frees; 0: not one
 * that can be fetched by HTTP; -ENOMEM. It is "http://HOST[:PORT]/PATH[?QUERY]" in one spelling: no fragment, no port 80, host in lower
 * case, no "." and ".." and empty parts, nothing escaped that need not be, all else escaped in capitals. */
int url_resolve(const char *link, const char *base, char **out);

char *url_escape(const char *link); /* what is no URL, fit to be printed; the caller frees it. NULL: no memory */
const char *url_authority(const char *url, size_t *bytes); /* "HOST[:PORT]" inside a URL of url_resolve */
const char *url_target(const char *url);                   /* from the path on */
int url_allow(const char *url);                            /* its host and port are to be crawled; before the workers start; 0, -ENOMEM */
bool url_is_allowed(const char *url);
void url_fini(void);

/* --- pages.c -------------------------------------------------------------------------------------------------------------------- */

struct page {
    struct queue_entry entry;
    char *next;                /* of a redirect, under the lock of pages.c: where to; its own memory */
    int hops;                  /* under the lock: redirects that led here since the last link, on the shortest way */
    int status, error, tries;  /* error: 0, or -errno that kept us from the page */
    bool done, is_html, leaves;/* leaves: next is not to be crawled */
    bool loops;                /* report.c: it redirects, in the end, to itself */
    unsigned walk;             /* report.c */
    unsigned links, new_links; /* on it, to allowed hosts; those first seen on it */
    size_t bytes;
    char *type, *charset;      /* NULL: not said */
    char url[];
};

/* The URL was found: by a link (hops 0), or at the end of so many redirects. 1: it, or one behind it, is new and now in the queue; 0: it
 * is known, or beyond a limit; -ENOMEM. */
int pages_found(const char *url, int hops);
int pages_redirect(struct page *p, char *next); /* p is a redirect, and owns next from here on; 0 or -ENOMEM */
void pages_leave(struct page *p, char *next);   /* the same, to where nobody shall go; next need not be a URL */
struct page *pages_look_up(const char *url);    /* NULL: not seen. Not beside the others */
void pages_each(void (*fn)(struct page *p, void *arg), void *arg); /* in the order of their URLs. Not beside the others */
size_t pages_left_out(void);                    /* times that max_urls kept a URL out */
void pages_fini(void);

extern struct queue pages_queue; /* of struct page, by their entry */

/* --- conns.c -------------------------------------------------------------------------------------------------------------------- */

struct conn {
    struct conn *next;
    int fd;
    char address[HOST_BYTES_MAX + sizeof ":65535"];
    char buf[IN_BYTES];
};

struct conn *conn_take(const char *url);      /* one that was kept, and that the server has not closed since; NULL: none */
int conn_dial(const char *url, sley_time deadline, struct conn **out);
void conn_keep(struct conn *c);               /* an answer has ended, another may come on it */
void conn_close(struct conn *c);
void conns_fini(void);

/* --- http.c --------------------------------------------------------------------------------------------------------------------- */

struct answer {
    int status;
    bool keep_alive, is_html, is_coded;  /* coded: compressed, though nobody has asked for it */
    char location[URL_BYTES_MAX + 1];    /* "": none */
    char type[TYPE_BYTES_MAX + 1];       /* "text/html", in lower case; "": none */
    char charset[TYPE_BYTES_MAX + 1];
    size_t bytes;                        /* of the body */
    char *body;                          /* of a page of HTML with status 200; else NULL. The caller frees it */
};

/* Ask for url, and read all of the answer. 0, or -errno, and then c is of no more use: -ECONNRESET the connection ended before the answer;
 * -EPROTO not HTTP; -EMSGSIZE its headers are too long; -EFBIG its body is. */
int http_get(struct conn *c, const char *url, struct answer *a, sley_time deadline);

/* --- links.c -------------------------------------------------------------------------------------------------------------------- */

struct links {
    const char *charset;
    char *text;  /* as they stand in the page, each with a NUL behind it */
    size_t bytes, bytes_max, count;
    char *base;  /* what the page says they are relative to; NULL: nothing */
    int error;
};

void links_begin(void); /* around everything else here */
void links_end(void);
int links_parse(struct links *l, char *html, size_t bytes, const char *charset); /* writes into html; 0 or -errno; then links_free */
void links_free(struct links *l);

/* --- fetch.c, crawl.c, report.c ------------------------------------------------------------------------------------------------- */

int fetch(struct page *p); /* 0: p is done, however it went; -ECANCELED: it is not */

struct crawl {
    sley_time started, ended;
    _Atomic(size_t) done;
    bool interrupted;
};

extern struct crawl crawl;

int crawl_run(void *arg);  /* fiber: until nothing is left to fetch, or a signal */
int report_print(void);    /* 0, or -errno: standard output did not take it */

#endif
