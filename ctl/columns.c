#include "ctl/columns.h"

#include "base/check.h"
#include <stdarg.h>
#include <stdio.h>

void columns_init(struct columns *t, const char *const *heads)
{
    *t = (struct columns){0};
    buffer_init(&t->text);
    for (; heads[t->n]; t->n++) {
        invariant(t->n < COLUMNS_MOST);
        t->heads[t->n] = heads[t->n];
    }
}

void columns_deinit(struct columns *t)
{
    buffer_deinit(&t->text);
}

void columns_cell(struct columns *t, const char *text)
{
    if (!text || !*text)
        text = "-";
    t->failed |= !buffer_append(&t->text, text, strlen(text) + 1);
    t->cells++;
}

void columns_cellf(struct columns *t, const char *format, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    columns_cell(t, text);
}

static bool is_control(const unsigned char *p, size_t n)
{
    return *p < 0x20 || *p == 0x7f || (n > 1 && *p == 0xc2 && p[1] < 0xa0); // C1: U+0080 to U+009F
}

static bool continues(char c) // a character of UTF-8 that has begun
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

bool columns_clean(struct buffer *out, struct view text)
{
    for (size_t i = 0; i < text.n; i++) {
        const unsigned char *p = (const unsigned char *)text.p + i;
        bool bad = is_control(p, text.n - i);
        if (!buffer_append(out, bad ? "?" : text.p + i, 1))
            return false;
        i += bad && *p == 0xc2;
    }
    return true;
}

static size_t width_of(struct view text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++)
        n += !continues(text.p[i]);
    return n; // a C1 control has one, as its '?'
}

static struct view head_of(const struct columns *t, unsigned column)
{
    return view_str(t->heads[column] + (t->heads[column][0] == '>'));
}

static bool put_spaces(struct buffer *out, size_t n)
{
    bool ok = true;
    while (n-- > 0)
        ok = ok && buffer_append(out, " ", 1);
    return ok;
}

static bool put_cell(const struct columns *t, unsigned column, struct view text, size_t width,
                     struct buffer *out)
{
    size_t pad = width - width_of(text);
    bool right = t->heads[column][0] == '>', last = column + 1 == t->n;
    return put_spaces(out, right ? pad : 0) && columns_clean(out, text) &&
           put_spaces(out, right || last ? 0 : pad) &&
           buffer_append(out, last ? "\n" : "  ", last ? 1 : 2);
}

bool columns_print(const struct columns *t, struct buffer *out)
{
    size_t width[COLUMNS_MOST];
    unsigned rows = t->n ? t->cells / t->n : 0;
    const char *at = (const char *)t->text.data;
    bool ok = !t->failed;
    if (!ok || rows == 0)
        return ok;
    for (unsigned c = 0; c < t->n; c++)
        width[c] = width_of(head_of(t, c));
    for (unsigned i = 0; i < rows * t->n; i++, at += strlen(at) + 1) {
        size_t w = width_of(view_str(at));
        if (w > width[i % t->n])
            width[i % t->n] = w;
    }
    for (unsigned c = 0; c < t->n; c++)
        ok = ok && put_cell(t, c, head_of(t, c), width[c], out);
    at = (const char *)t->text.data;
    for (unsigned i = 0; ok && i < rows * t->n; i++, at += strlen(at) + 1)
        ok = put_cell(t, i % t->n, view_str(at), width[i % t->n], out);
    return ok;
}
