/* mime.c - content types by the end of the name. Text is said to be UTF-8; what is unknown is bytes. */
#include "server.h"
#include <string.h>
#include <strings.h>

static const struct {
    const char *end, *type;
} types[] = {
    { "html", "text/html; charset=utf-8" }, { "htm", "text/html; charset=utf-8" }, { "css", "text/css; charset=utf-8" },
    { "js", "text/javascript; charset=utf-8" }, { "mjs", "text/javascript; charset=utf-8" }, { "txt", "text/plain; charset=utf-8" },
    { "md", "text/markdown; charset=utf-8" }, { "csv", "text/csv; charset=utf-8" }, { "log", "text/plain; charset=utf-8" },
    { "c", "text/plain; charset=utf-8" }, { "h", "text/plain; charset=utf-8" }, { "py", "text/plain; charset=utf-8" },
    { "sh", "text/plain; charset=utf-8" }, { "conf", "text/plain; charset=utf-8" }, { "ics", "text/calendar; charset=utf-8" },
    { "vtt", "text/vtt; charset=utf-8" }, { "xml", "text/xml; charset=utf-8" }, { "json", "application/json" },
    { "map", "application/json" }, { "webmanifest", "application/manifest+json" }, { "xhtml", "application/xhtml+xml" },
    { "atom", "application/atom+xml" }, { "rss", "application/rss+xml" }, { "pdf", "application/pdf" }, { "wasm", "application/wasm" },
    { "zip", "application/zip" }, { "gz", "application/gzip" }, { "tgz", "application/gzip" }, { "bz2", "application/x-bzip2" },
    { "xz", "application/x-xz" }, { "zst", "application/zstd" }, { "tar", "application/x-tar" }, { "7z", "application/x-7z-compressed" },
    { "epub", "application/epub+zip" }, { "rtf", "application/rtf" }, { "svg", "image/svg+xml" }, { "png", "image/png" },
    { "jpg", "image/jpeg" }, { "jpeg", "image/jpeg" }, { "gif", "image/gif" }, { "webp", "image/webp" }, { "avif", "image/avif" },
    { "ico", "image/x-icon" }, { "bmp", "image/bmp" }, { "tif", "image/tiff" }, { "tiff", "image/tiff" }, { "woff", "font/woff" },
    { "woff2", "font/woff2" }, { "ttf", "font/ttf" }, { "otf", "font/otf" }, { "mp3", "audio/mpeg" }, { "ogg", "audio/ogg" },
    { "oga", "audio/ogg" }, { "opus", "audio/opus" }, { "flac", "audio/flac" }, { "m4a", "audio/mp4" }, { "wav", "audio/wav" },
    { "mp4", "video/mp4" }, { "m4v", "video/mp4" }, { "webm", "video/webm" }, { "ogv", "video/ogg" }, { "mov", "video/quicktime" },
    { "mkv", "video/x-matroska" },
};

const char *mime_type(const char *name, size_t bytes)
{
    const char *dot = memrchr(name, '.', bytes);
    size_t end_bytes = dot != NULL ? bytes - (dot + 1 - name) : 0;

    for (size_t i = 0; i < sizeof types / sizeof types[0] && end_bytes > 0; i++)
        if (strlen(types[i].end) == end_bytes && strncasecmp(types[i].end, dot + 1, end_bytes) == 0)
            return types[i].type;
    return "application/octet-stream";
}
