/* A web crawler: a few fibers take URLs from a queue, fetch them, and put the links they find back into it, until it stays empty. After
 * "A Web Crawler With asyncio Coroutines" of the book "500 Lines or Less".
 *
 *   $ crawler http://127.0.0.1:8080/
 *   *** Report ***
 *   http://127.0.0.1:8080/ 200 text/html utf-8 2310 4/4
 *   ...
 *   Finished 6 urls in 0.004 secs (workers=10) (1466.3 urls/sec)
 *   ...
 *
 * It stays on the servers it is given. Ctrl-C: what is under way is cut short, and the report says what there is. crawler.h is the map. */
#include "crawler.h"
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct settings settings = {
    .workers = 10, .max_redirect = 10, .max_tries = 4, .max_bytes = 4 << 20, .max_urls = 100000, .timeout_ns = 30 * SLEY_S,
};

static const char usage[] =
    "usage: crawler [options] URL...\n"
    "Fetch the pages at the URLs, and those that they link to on the same hosts and ports, each once; then print a report.\n"
    "  -w, --workers N          how many to fetch at a time (10)\n"
    "  -a, --allow HOST[:PORT]  follow links to this server too; may be given several times\n"
    "  -r, --max-redirect N     redirects followed in a row (10)\n"
    "  -t, --max-tries N        requests for a page whose connections drop (4)\n"
    "  -T, --timeout SECONDS    for a request, from the connection to the last byte (30)\n"
    "  -b, --max-bytes N        give up a page that is larger (4194304)\n"
    "  -u, --max-urls N         take no more URLs after so many (100000)\n"
    "  -h, --help               this\n"
    "A line of the report: URL, status, type, charset, bytes, links first seen there/links on it. Exit status: 0 the crawl has\n"
    "come to its end, whatever it found; 1 it was interrupted or failed; 2 usage. It does not ask for robots.txt.\n";

static int complain(const char *what, int error)
{
    fprintf(stderr, "crawler: %s: %s\n", what, strerror(-error));
    return error;
}

/* 0 or -errno. Where the text is no URL, and no host and port either: -EINVAL. */
static int allow(const char *text)
{
    char *url;
    int rc = url_resolve(text, NULL, &url);

    if (rc <= 0)
        return rc < 0 ? rc : -EINVAL;
    rc = url_allow(url);
    free(url);
    return rc;
}

static int allow_server(const char *server)
{
    char url[HOST_BYTES_MAX + 32];

    if (strpbrk(server, "/?#@") != NULL || snprintf(url, sizeof url, "http://%s/", server) >= (int)sizeof url)
        return -EINVAL;
    return allow(url);
}

static int add_root(const char *text)
{
    char *url;
    int rc = url_resolve(text, NULL, &url);

    if (rc <= 0)
        return rc < 0 ? rc : -EINVAL;
    rc = url_allow(url);
    if (rc == 0)
        rc = pages_found(url, 0);
    free(url);
    return rc < 0 ? rc : 0;
}

static bool number(const char *text, long min, long max, long *out)
{
    char *end;
    long n = strtol(text, &end, 10);

    if (end == text || *end != '\0' || n < min || n > max) {
        fprintf(stderr, "crawler: '%s' is not a number from %ld to %ld\n", text, min, max);
        return false;
    }
    *out = n;
    return true;
}

enum verdict { RUN, HELP, WRONG };

static enum verdict parse_options(int argc, char **argv)
{
    static const struct option options[] = {
        { "workers", required_argument, NULL, 'w' }, { "allow", required_argument, NULL, 'a' },
        { "max-redirect", required_argument, NULL, 'r' }, { "max-tries", required_argument, NULL, 't' },
        { "timeout", required_argument, NULL, 'T' }, { "max-bytes", required_argument, NULL, 'b' },
        { "max-urls", required_argument, NULL, 'u' }, { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 },
    };
    bool good = true;
    long seconds;
    int opt, rc;

    while (good && (opt = getopt_long(argc, argv, "w:a:r:t:T:b:u:h", options, NULL)) != -1) {
        switch (opt) {
        case 'w': good = number(optarg, 1, WORKERS_MAX, &settings.workers); break;
        case 'a': good = (rc = allow_server(optarg)) == 0 || (complain(optarg, rc), false); break;
        case 'r': good = number(optarg, 0, 1000, &settings.max_redirect); break;
        case 't': good = number(optarg, 1, 1000, &settings.max_tries); break;
        case 'T': good = number(optarg, 1, 86400, &seconds); settings.timeout_ns = seconds * SLEY_S; break;
        case 'b': good = number(optarg, 1, 1 << 30, &settings.max_bytes); break;
        case 'u': good = number(optarg, 1, 100000000, &settings.max_urls); break;
        case 'h': return HELP;
        default: good = false;
        }
    }
    if (good && optind == argc)
        fputs("crawler: which URL?\n", stderr);
    for (int i = optind; good && i < argc; i++)
        good = (rc = add_root(argv[i])) == 0 || (complain(argv[i], rc), false);
    return good && optind < argc ? RUN : WRONG;
}

static int run(void)
{
    int rc = sley_run(NULL, crawl_run, NULL), printed;

    if (rc < 0)
        complain("ended", rc);
    printed = report_print();
    if (printed < 0)
        complain("standard output", printed);
    return rc < 0 || printed < 0 || crawl.interrupted;
}

int main(int argc, char **argv)
{
    int status = 0;

    links_begin();
    queue_init(&pages_queue);
    switch (parse_options(argc, argv)) {
    case RUN:
        status = run();
        break;
    case HELP:
        fputs(usage, stdout);
        break;
    default:
        fputs("Try 'crawler --help'.\n", stderr);
        status = 2;
    }
    pages_fini();
    url_fini();
    links_end();
    return status;
}
