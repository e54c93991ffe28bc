/* text.c - strings one behind the other, and the three ways to make foreign bytes harmless. */
#include "server.h"
#include <stdlib.h>
#include <string.h>

static bool make_room(struct text *t, size_t bytes)
{
    size_t more = t->bytes_max * 2 > t->bytes + bytes ? t->bytes_max * 2 : t->bytes + bytes + 4096;
    char *data = t->grows && !t->full ? realloc(t->data, more) : NULL;

    if (data == NULL) {
        t->full = true;
        return false;
    }
    t->data = data;
    t->bytes_max = more;
    return true;
}

void text_add(struct text *t, const char *s, size_t bytes)
{
    if (bytes > t->bytes_max - t->bytes && !make_room(t, bytes))
        return;
    memcpy(t->data + t->bytes, s, bytes);
    t->bytes += bytes;
}

void text_add_string(struct text *t, const char *s)
{
    text_add(t, s, strlen(s));
}

void text_add_number(struct text *t, uint64_t n)
{
    char digits[20];
    size_t at = sizeof digits;

    do
        digits[--at] = '0' + n % 10;
    while ((n /= 10) > 0);
    text_add(t, digits + at, sizeof digits - at);
}

static void add_hex(struct text *t, const char *prefix, unsigned char ch)
{
    static const char hex[] = "0123456789ABCDEF";
    char two[2] = { hex[ch >> 4], hex[ch & 15] };

    text_add_string(t, prefix);
    text_add(t, two, 2);
}

static bool is_plain_in_url(unsigned char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') || (ch != '\0' && strchr("-._~/", ch) != NULL);
}

void text_add_url(struct text *t, const char *s, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (is_plain_in_url(s[i]))
            text_add(t, &s[i], 1);
        else
            add_hex(t, "%", s[i]);
    }
}

void text_add_html(struct text *t, const char *s, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        switch (s[i]) {
        case '&': text_add_string(t, "&amp;"); break;
        case '<': text_add_string(t, "&lt;"); break;
        case '>': text_add_string(t, "&gt;"); break;
        case '"': text_add_string(t, "&quot;"); break;
        case '\'': text_add_string(t, "&#39;"); break;
        default: text_add(t, &s[i], 1);
        }
    }
}

void text_add_log(struct text *t, const char *s, size_t bytes)
{
    size_t plain = 0; /* s[plain, i) is harmless and not yet added: nearly always that is all of it */

    for (size_t i = 0; i < bytes; i++) {
        unsigned char ch = s[i];
        if (ch >= ' ' && ch != '"' && ch != '\\' && ch < 0x7f)
            continue;
        text_add(t, s + plain, i - plain);
        add_hex(t, "\\x", ch);
        plain = i + 1;
    }
    text_add(t, s + plain, bytes - plain);
}
