/* server.h - the parts of the file server and what they say to each other.
 *
 *   main.c     options, start, accept, stop            target.c   the path of a request
 *   conn.c     one connection: its fiber, its buffers  text.c     strings into bounded or growing memory, escapes
 *   parse.c    a request out of bytes (libhttp-parser) check.c    conditions and ranges
 *   respond.c  one answer                              mime.c     content types
 *   files.c    open files, kept for a second           stamp.c    dates
 *   listing.c  the page of a directory                 stats.c    the line of counters
 *   log.c      the access log                          pool.c     buffers
 *
 * A plain mutex may be held only where nothing parks; it guards a few loads and stores in pool.c, files.c and conn.c. */
#ifndef SERVER_H
#define SERVER_H

#include <sley.h>
#include <http_parser.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

/* --- bounds, in one place ------------------------------------------------------------------------------------------------------- */

enum {
    HEAD_IN_BYTES_MAX = 16384,  /* a request's line and headers; 414 or 431 beyond */
    TARGET_BYTES_MAX = 4096,    /* 414 */
    HEADERS_MAX = 100,          /* 431 */
    BODY_BYTES_MAX = 16384,     /* read, and of no use; 413 beyond */
    OUT_BYTES = 32768,          /* answers that go in one send */
    HEAD_BYTES_MAX = 1024,      /* status line and headers of an answer, but for a redirect's Location */
    READ_BYTES_MAX = 16384,     /* a file up to here is read behind its header; a larger one goes by sendfile */
    SENDFILE_BYTES = 1 << 20,   /* a piece; each has SEND_NS */
    LINGER_BYTES_MAX = 262144,
    LISTING_ENTRIES_MAX = 10000,
    SPARE_FDS = 512,            /* not for connections: open files, the log, the rings */
};

#define SEND_NS   (30 * SLEY_S) /* for the client to take one buffer, or something of a file */
#define LINGER_NS (2 * SLEY_S)  /* for the client to read an error before the connection is reset */
#define FRESH_NS  SLEY_S        /* how long an open file is served without another look at its name */

/* --- the server ----------------------------------------------------------------------------------------------------------------- */

struct server {
    int root;                  /* descriptor of the directory served */
    sley_time idle_ns;         /* how long a client may stay silent between requests */
    sley_time header_ns;       /* how long a request may take to the end of its headers, and then to that of its body; 408 */
    sley_time drain_ns;        /* for requests under way when the server stops */
    atomic_ullong requests, connections, log_dropped;
    atomic_long connections_now;
    atomic_bool stopping;      /* set once; conn.c says how connections learn of it */
    sley_event ended;          /* set when the last connection has ended */
};

extern struct server server;

/* --- pool.c: the most recently used is the warmest ------------------------------------------------------------------------------- */

struct pool {
    size_t bytes;
    struct free_buffer *free;
    int free_count;
};

void *pool_take(struct pool *p); /* NULL: no memory */
void pool_give(struct pool *p, void *buf);
void pool_empty(struct pool *p);

/* --- text.c: memory that is written from front to end --------------------------------------------------------------------------- */

struct text {
    char *data;
    size_t bytes, bytes_max;
    bool grows; /* data is malloc'ed, and the caller frees it */
    bool full;  /* something did not fit and was left out */
};

void text_add(struct text *t, const char *s, size_t bytes);
void text_add_string(struct text *t, const char *s);
void text_add_number(struct text *t, uint64_t n);
void text_add_url(struct text *t, const char *s, size_t bytes);  /* percent-encoded; '/' is kept */
void text_add_html(struct text *t, const char *s, size_t bytes); /* escaped */
void text_add_log(struct text *t, const char *s, size_t bytes);  /* quotes, backslashes and controls as \xHH */

/* --- parse.c -------------------------------------------------------------------------------------------------------------------- */

struct slice { /* of a request, counted from its first byte; at 0: absent */
    uint16_t at, bytes;
};

struct request {
    struct slice target, field, value;
    struct slice host, range, if_range, if_match, if_none_match, if_modified_since, if_unmodified_since, referer, user_agent, expect;
    uint32_t body_bytes;
    uint16_t headers;
    uint16_t status; /* 0, or why it is refused */
    uint8_t method, major, minor;
    bool keep_alive, has_body, headers_done, done, expects_continue;
};

struct parse {
    http_parser parser;
    const char *base; /* where the request begins; the bytes may move between calls */
    struct request request;
};

void parse_init(struct parse *p);
void parse_next(struct parse *p); /* the next request begins */

/* Feed base[at, at + bytes), the next bytes of the request that begins at base. Stops where the request ends, and where its headers
 * end if a body follows. Returns how many bytes were taken; request.status tells of an error. */
size_t parse_feed(struct parse *p, const char *base, size_t at, size_t bytes);

/* --- target.c ------------------------------------------------------------------------------------------------------------------- */

#define INDEX "index.html" /* what stands for its directory */

struct target {
    size_t path_bytes;
    const char *query;           /* with its '?', as it came */
    size_t query_bytes;
    char path[TARGET_BYTES_MAX + sizeof INDEX]; /* decoded, relative, no "." or empty parts; of a directory it ends in '/'; root: "" */
};

int target_parse(struct target *t, const char *s, size_t bytes); /* 0 or an HTTP status */

/* --- files.c -------------------------------------------------------------------------------------------------------------------- */

struct file { /* does not change, but for refs */
    atomic_int refs;
    int fd;
    bool is_directory;
    uint64_t bytes;
    struct timespec modified;
    sley_time opened_at;
    char etag[48];    /* with its quotes */
    char date[32];    /* of Last-Modified */
    char head[256];   /* the header lines that depend on the file alone */
    size_t etag_bytes, head_bytes, key_bytes;
    char key[];       /* the path it was opened for */
};

/* The file at a path of struct target; for a directory its index.html, if it has one, else itself. 0 and *out, or -errno. */
int file_open(struct target *t, struct file **out);
void file_close(struct file *f);  /* give one reference back */
void file_forget(struct file *f); /* it is not what it was; the next file_open looks again */
bool file_is_same(const struct file *f); /* by length and date, as of now */
int files_sweep(void *arg);       /* fiber: closes what is not asked for any more; ends after files_stop */
void files_stop(void);

/* --- check.c, mime.c, stamp.c, listing.c ---------------------------------------------------------------------------------------- */

struct part {
    uint64_t first, bytes;
};

/* The status of the answer, 200, 206, 304, 412 or 416; for 200 and 206 *part is what is to be sent. */
int check_request(const struct request *r, const char *base, const struct file *f, struct part *part);

const char *mime_type(const char *name, size_t bytes);

enum { STAMP_HTTP_BYTES = 29, STAMP_LOG_BYTES = 26 };
void stamp_http(char *out);                    /* now, "Fri, 20 Nov 2026 10:00:00 GMT" */
void stamp_log(char *out);                     /* now, "20/Nov/2026:10:00:00 +0000" */
void stamp_format(time_t when, char *out);     /* as stamp_http, and a NUL */
bool stamp_parse(const char *s, size_t bytes, time_t *when);

int listing_make(const struct file *dir, const struct target *t, struct text *page); /* 0 or -errno; the caller frees page->data */

/* --- log.c ---------------------------------------------------------------------------------------------------------------------- */

struct log_entry {
    const char *client, *base;
    const struct request *request;
    int status;
    uint64_t body_bytes;
};

int log_open(const char *path);          /* "-": standard output; 0 or -errno. Without it there is no log. */
int log_run(void *arg);                  /* fiber */
void log_add(const struct log_entry *e); /* never waits; a line that finds the queue full is dropped and counted */
void log_stop(void);                     /* after the last log_add: log_run writes the rest and ends */

/* --- respond.c ------------------------------------------------------------------------------------------------------------------ */

struct work { /* what answering takes, from a pool: an idle connection has none */
    struct text text;
    struct target target;
    char out[OUT_BYTES];
};

struct answers {
    int fd;
    struct work *work; /* from the first answer to the next flush */
    char client[INET6_ADDRSTRLEN];
};

/* Answer r, or refuse it if it has a status. The answer may still be in work. 0, or -errno: the connection is of no use any more.
 * Clears r->keep_alive when the answer says that the connection ends. */
int respond(struct answers *a, struct request *r, const char *base);
int respond_continue(struct answers *a);         /* 100, for a client that waits for it before its body */
int respond_flush(struct answers *a, int flags); /* send what is there and give work back */
void respond_fini(void);

/* --- conn.c, stats.c ------------------------------------------------------------------------------------------------------------ */

struct accepted {
    int fd;
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } from;
};

void conn_begin(void);                    /* one more, before its fiber starts */
void conn_end(void);                      /* it has ended, or its fiber could not start */
int conn_run(void *accepted);             /* fiber */
void conn_stop_idle(void);                /* end connections that wait for a request; the others end after their answer */
void conn_stop_all(void);                 /* end all */
int conn_wait_none(sley_time deadline);   /* until there is none */
int conn_wait_room(long max);             /* until there are fewer than max; of one fiber */

int stats_run(void *arg);                 /* fiber; ends with the server */

#endif
