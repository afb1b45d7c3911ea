#include "base/json_inside.h"

/* White space and strings. Strings: eight bytes at a time up to the next one that needs a look (a quote, a backslash, a control
 * byte, the start of a longer UTF-8 sequence), then one at a time. */

#define ONES 0x0101010101010101u

// The high bit of each byte that needs a look; exact for the lowest such byte, which is all we use.
static uint64_t special(uint64_t x)
{
    uint64_t quote = x ^ ONES * '"', backslash = x ^ ONES * '\\';
    return ((x - ONES * 0x20) | (quote - ONES) | (backslash - ONES) | x) & ONES * 0x80;
}

// Eight bytes at a time while all of them are blanks: a body may be nothing but that.
const char *json_space_run(const char *p, const char *end)
{
    for (;;) {
        uint64_t x;
        while (end - p >= 8 && (memcpy(&x, p, 8), x == ONES * ' '))
            p += 8;
        if (p == end || !json_is_space(*p))
            return p;
        p++;
    }
}

static inline __attribute__((always_inline)) const char *skip_plain(const char *p, const char *end)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    while (end - p >= 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        uint64_t hit = special(x);
        if (hit)
            return p + __builtin_ctzll(hit) / 8;
        p += 8;
    }
#endif
    while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' &&
           *p != '\\')
        p++;
    return p;
}

static bool is_tail(const char *p, unsigned char low, unsigned char high)
{
    return (unsigned char)*p >= low && (unsigned char)*p <= high;
}

unsigned json_utf8_length(const char *p, const char *end)
{
    unsigned char c = (unsigned char)*p;
    size_t left = (size_t)(end - p);
    if (c < 0x80)
        return 1;
    if (c < 0xc2) // a tail byte, or an overlong form of ASCII
        return 0;
    if (c < 0xe0)
        return left >= 2 && is_tail(p + 1, 0x80, 0xbf) ? 2 : 0;
    if (c < 0xf0) {
        unsigned char low = c == 0xe0 ? 0xa0 : 0x80;  // E0: overlong below A0
        unsigned char high = c == 0xed ? 0x9f : 0xbf; // ED: surrogates from A0
        return left >= 3 && is_tail(p + 1, low, high) && is_tail(p + 2, 0x80, 0xbf) ? 3 : 0;
    }
    if (c > 0xf4)
        return 0;
    unsigned char low = c == 0xf0 ? 0x90 : 0x80;  // F0: overlong below 90
    unsigned char high = c == 0xf4 ? 0x8f : 0xbf; // F4: above U+10FFFF from 90
    return left >= 4 && is_tail(p + 1, low, high) && is_tail(p + 2, 0x80, 0xbf) &&
                   is_tail(p + 3, 0x80, 0xbf)
               ? 4
               : 0;
}

// Four hexadecimal digits at p, or -1.
static int hex4(const char *p, const char *end)
{
    if (end - p < 4)
        return -1;
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        v = v * 16 + digit;
    }
    return v;
}

// p stands on a backslash. Sets the character; returns the end of the escape, or NULL with *what.
static const char *scan_escape(const char *p, const char *end, uint32_t *out, const char **what)
{
    static const char meant[256] = {['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
                                    ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t'};
    *what = "unknown escape in a string";
    if (end - p < 2)
        return NULL;
    if (meant[(unsigned char)p[1]]) {
        *out = (unsigned char)meant[(unsigned char)p[1]];
        return p + 2;
    }
    if (p[1] != 'u')
        return NULL;
    int code = hex4(p + 2, end);
    *what = "\\u needs four hexadecimal digits";
    if (code < 0)
        return NULL;
    p += 6;
    if (code >= 0xd800 && code <= 0xdfff) {
        *what = "lone surrogate in a string";
        if (code > 0xdbff || end - p < 2 || p[0] != '\\' || p[1] != 'u')
            return NULL;
        int low = hex4(p + 2, end);
        if (low < 0xdc00 || low > 0xdfff)
            return NULL;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        p += 6;
    }
    *out = (uint32_t)code;
    return p;
}

// p stands on what is not plain. Returns what follows its run, or NULL: r has the error. They come in runs: no
// look beside them, but where the slice ends.
static const char *scan_special(struct json_reader *r, const char *p, const char *limit)
{
    const char *what;
    if ((unsigned char)*p < 0x20) {
        json_error(r, p, "control character in a string");
        return NULL;
    }
    if (*p != '\\') {
        do {
            unsigned n = json_utf8_length(p, r->end);
            if (n == 0) {
                json_error(r, p, "string is not valid UTF-8");
                return NULL;
            }
            p += n;
        } while (p < limit && (unsigned char)*p >= 0x80);
        return p;
    }
    r->escaped = true;
    do {
        uint32_t code;
        const char *next = scan_escape(p, r->end, &code, &what);
        if (next && code == 0 && !r->nul) {
            what = "\\u0000 is not accepted in a string";
            next = NULL;
        }
        if (!next) {
            json_error(r, p, what);
            return NULL;
        }
        p = next;
    } while (p < limit && *p == '\\');
    return p;
}

// p is where the plain run from `begin`, or from the last slice, has ended.
static enum json_token scan_on(struct json_reader *r, const char *p, const char *limit)
{
    for (;; p = skip_plain(p, limit)) {
        if (p >= limit && p < r->end) {
            r->resume = p;
            r->expect_then = r->expect;
            r->expect = EXPECT_REST;
            return JSON_MORE;
        }
        if (p == r->end)
            return json_error(r, p, "text ends inside a string");
        if (*p == '"') {
            r->text = view_of(r->at + 1, (size_t)(p - r->at - 1));
            r->at = p + 1;
            return JSON_STRING;
        }
        p = scan_special(r, p, limit);
        if (!p)
            return JSON_ERROR;
    }
}

static const char *slice_end(const struct json_reader *r, const char *p)
{
    return (size_t)(r->end - p) > r->slice ? p + r->slice : r->end;
}

enum json_token json_scan_string(struct json_reader *r)
{
    const char *begin = r->at + 1, *limit = slice_end(r, begin), *p = skip_plain(begin, limit);
    r->escaped = false;
    if (p == limit || *p != '"')
        return scan_on(r, p, limit);
    r->text = view_of(begin, (size_t)(p - begin)); // nearly every string
    r->at = p + 1;
    return JSON_STRING;
}

enum json_token json_scan_rest(struct json_reader *r)
{
    const char *p = r->resume, *limit = slice_end(r, p);
    r->resume = NULL;
    r->expect = r->expect_then;
    return scan_on(r, skip_plain(p, limit), limit);
}

static char *put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    }
    return out;
}

void json_unescape_some(const char **from, const char *end, char **to, size_t max)
{
    const char *p = *from, *what;
    const char *limit = (size_t)(end - p) > max ? p + max : end;
    while (p < limit) {
        if (*p != '\\') {
            const char *slash = memchr(p, '\\', (size_t)(limit - p));
            size_t plain = (size_t)((slash ? slash : limit) - p);
            memcpy(*to, p, plain);
            *to += plain;
            p += plain;
            continue;
        }
        uint32_t code = 0;
        p = scan_escape(p, end, &code, &what); // the reader has seen that all of them are right
        *to = put_utf8(*to, code);
    }
    *from = p;
}

bool json_unescape(const struct json_reader *r, struct arena *a, struct view *out)
{
    *out = r->text;
    if (!r->escaped)
        return true;
    char *to = arena_alloc_aligned(a, r->text.n, 1); // decoding never lengthens
    out->p = to;
    if (!to)
        return false;
    const char *from = r->text.p;
    json_unescape_some(&from, from + r->text.n, &to, r->text.n);
    out->n = (size_t)(to - out->p);
    return true;
}
