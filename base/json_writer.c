#include "base/json_inside.h"
#include "base/pen.h"

void json_write(struct json_writer *w, struct buffer *out)
{
    *w = (struct json_writer){.out = out};
}

// Room for `bytes` behind the comma that the value may need; NULL once memory ran out.
static inline char *begin(struct json_writer *w, size_t bytes)
{
    uint8_t *at = w->failed ? NULL : buffer_room(w->out, bytes + 1);
    if (!at) {
        w->failed = true;
        return NULL;
    }
    if (w->comma) {
        *at++ = ',';
        buffer_commit(w->out, 1);
    }
    w->comma = true;
    return (char *)at;
}

static void put(struct json_writer *w, struct view text)
{
    char *at = begin(w, text.n);
    if (!at)
        return;
    memcpy(at, text.p, text.n);
    buffer_commit(w->out, text.n);
}

void json_w_raw(struct json_writer *w, struct view value)
{
    put(w, value);
}

void json_w_object(struct json_writer *w)
{
    put(w, VIEW("{"));
    w->comma = false;
}

void json_w_array(struct json_writer *w)
{
    put(w, VIEW("["));
    w->comma = false;
}

void json_w_object_end(struct json_writer *w)
{
    w->comma = false;
    put(w, VIEW("}"));
}

void json_w_array_end(struct json_writer *w)
{
    w->comma = false;
    put(w, VIEW("]"));
}

// Not zero: some of these eight bytes may need an escape or a look at their UTF-8 (Mycroft's test for a zero
// byte, for '"' and '\\' after exclusive-or; with the sign bit left in, what is >= 0x80 shows as well).
static uint64_t special(uint64_t eight)
{
    const uint64_t ones = 0x0101010101010101, high = 0x8080808080808080;
    uint64_t quote = eight ^ ones * '"', slash = eight ^ ones * '\\';
    return (eight | (eight - ones * 0x20) | (quote - ones) | (slash - ones)) & high;
}

// One to seven bytes: some twice, and where they are few, harmless ones beside them.
static bool copy_few(char *at, const char *p, size_t n)
{
    uint32_t low, high;
    if (n >= sizeof(low)) {
        memcpy(&low, p, sizeof(low));
        memcpy(&high, p + n - sizeof(high), sizeof(high));
        memcpy(at, &low, sizeof(low));
        memcpy(at + n - sizeof(high), &high, sizeof(high));
        return !special(low | (uint64_t)high << 32);
    }
    const unsigned char *u = (const unsigned char *)p;
    at[0] = p[0];
    at[n / 2] = p[n / 2];
    at[n - 1] = p[n - 1];
    return !special(0x6161616161000000 | (uint64_t)u[0] << 16 | (uint64_t)u[n / 2] << 8 | u[n - 1]);
}

// Copies the text, eight bytes at a time, the last ones some of them twice. False: not all of it can stand in a string
// as it is, and what was copied is of no use.
static bool copy_plain(char *at, struct view v)
{
    uint64_t eight, found = 0;
    if (v.n < sizeof(eight))
        return v.n == 0 || copy_few(at, v.p, v.n);
    for (size_t i = 0; i < v.n - sizeof(eight); i += sizeof(eight)) {
        memcpy(&eight, v.p + i, sizeof(eight));
        memcpy(at + i, &eight, sizeof(eight));
        found |= special(eight);
    }
    memcpy(&eight, v.p + v.n - sizeof(eight), sizeof(eight));
    memcpy(at + v.n - sizeof(eight), &eight, sizeof(eight));
    return !(found | special(eight));
}

// Bytes of s from i on that can stand in a string as they are.
static size_t plain_run(struct view s, size_t i)
{
    size_t from = i;
    for (uint64_t eight; s.n - i >= sizeof(eight); i += sizeof(eight)) {
        memcpy(&eight, s.p + i, sizeof(eight));
        if (special(eight))
            break;
    }
    while (i < s.n) {
        unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20 || c == '"' || c == '\\')
            break;
        unsigned n = c < 0x80 ? 1 : json_utf8_length(s.p + i, s.p + s.n);
        if (n == 0)
            break;
        i += n;
    }
    return i - from;
}

// What stands for a byte that cannot stand for itself; at most 6 bytes.
static size_t put_escape(char *at, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    static const char short_form[0x20] = {
        ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    if (c >= 0x80) {
        memcpy(at, "\xef\xbf\xbd", 3); // U+FFFD
        return 3;
    }
    at[0] = '\\';
    at[1] = c < 0x20 ? short_form[c] : (char)c;
    if (at[1])
        return 2;
    memcpy(at + 1, "u00", 3);
    at[4] = hex[c >> 4];
    at[5] = hex[c & 15];
    return 6;
}

char *pen_json(char *at, struct view v)
{
    *at++ = '"';
    if (copy_plain(at, v)) { // nearly always
        at[v.n] = '"';
        return at + v.n + 1;
    }
    for (size_t i = 0; i < v.n;) {
        size_t run = plain_run(v, i);
        at = pen_view(at, view_of(v.p + i, run));
        i += run;
        if (i < v.n)
            at += put_escape(at, (unsigned char)v.p[i++]);
    }
    *at = '"';
    return at + 1;
}

// The string, and behind it `tail` (0: nothing).
static void put_string(struct json_writer *w, struct view v, char tail)
{
    char *at = begin(w, v.n + 3);
    if (!at)
        return;
    *at++ = '"';
    if (copy_plain(at, v)) { // nearly always
        at[v.n] = '"';
        at[v.n + 1] = tail;
        buffer_commit(w->out, v.n + 2 + (tail != 0));
        return;
    }
    buffer_commit(w->out, 1);
    for (size_t i = 0;;) {
        size_t run = plain_run(v, i);
        at = (char *)buffer_reserve(w->out, run + 6 + 2);
        if (!at) {
            w->failed = true;
            return;
        }
        if (run)
            memcpy(at, v.p + i, run);
        buffer_commit(w->out, run);
        i += run;
        if (i == v.n) {
            at[run] = '"';
            at[run + 1] = tail;
            buffer_commit(w->out, 1 + (tail != 0));
            return;
        }
        buffer_commit(w->out, put_escape(at + run, (unsigned char)v.p[i++]));
    }
}

void json_w_string(struct json_writer *w, struct view v)
{
    put_string(w, v, 0);
}

void json_w_key(struct json_writer *w, struct view key)
{
    put_string(w, key, ':');
    w->comma = false;
}

void json_w_i64(struct json_writer *w, int64_t v)
{
    char *at = begin(w, PEN_NUMBER);
    if (at)
        buffer_commit(w->out, num_print_i64(at, v));
}

void json_w_u64(struct json_writer *w, uint64_t v)
{
    char *at = begin(w, PEN_NUMBER);
    if (at)
        buffer_commit(w->out, num_print_u64(at, v));
}

// JSON has no form for them; these strings are what both sides agree on.
static unsigned print_not_finite(char *at, double v)
{
    struct view text = v != v  ? VIEW("\"NaN\"")
                       : v > 0 ? VIEW("\"Infinity\"")
                               : VIEW("\"-Infinity\"");
    memcpy(at, text.p, text.n);
    return (unsigned)text.n;
}

static unsigned print_f32(char *at, float v)
{
    return __builtin_isfinite(v) ? num_print_f32(at, v) : print_not_finite(at, (double)v);
}

char *pen_json_f64(char *at, double v)
{
    return at + (__builtin_isfinite(v) ? num_print_f64(at, v) : print_not_finite(at, v));
}

void json_w_f64(struct json_writer *w, double v)
{
    char *at = begin(w, PEN_NUMBER);
    if (at)
        buffer_commit(w->out, (size_t)(pen_json_f64(at, v) - at));
}

void json_w_f32(struct json_writer *w, float v)
{
    char *at = begin(w, PEN_NUMBER);
    if (at)
        buffer_commit(w->out, print_f32(at, v));
}

void json_w_bool(struct json_writer *w, bool v)
{
    put(w, v ? VIEW("true") : VIEW("false"));
}

void json_w_null(struct json_writer *w)
{
    put(w, VIEW("null"));
}

void json_w_f32_array(struct json_writer *w, const void *bytes, size_t n)
{
    enum { SLICE = 128 }; // floats for which room is made at once
    json_w_array(w);
    const char *from = bytes;
    for (size_t i = 0; i < n && !w->failed;) {
        size_t until = n - i < SLICE ? n : i + SLICE;
        char *start = (char *)buffer_reserve(w->out, (until - i) * (PEN_NUMBER + 1)), *at = start;
        if (!start) {
            w->failed = true;
            return;
        }
        for (; i < until; i++) {
            uint32_t bits;
            memcpy(&bits, from + 4 * i, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
            bits = __builtin_bswap32(bits);
#endif
            float v;
            memcpy(&v, &bits, 4);
            if (i)
                *at++ = ',';
            at += print_f32(at, v);
        }
        buffer_commit(w->out, (size_t)(at - start));
    }
    json_w_array_end(w);
}
