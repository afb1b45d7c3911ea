#include "base/date.h"
#include "net/log.h"
#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

const char *const log_level_name[LOG_LEVELS] = {"debug", "info", "warn", "error"};

bool log_level_parse(struct view name, enum log_level *out)
{
    for (unsigned i = 0; i < LOG_LEVELS; i++) {
        if (view_is(name, log_level_name[i])) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

#define ESCAPED 6 // \u00XX, the longest form of a byte

// Length of the UTF-8 sequence at p (RFC 3629, section 4: no overlong forms, no surrogates), 0: invalid.
static unsigned utf8_len(const uint8_t *p, size_t n)
{
    uint8_t c = p[0];
    if (c < 0x80)
        return 1;
    unsigned len = c >= 0xc2 && c <= 0xdf   ? 2
                   : (c & 0xf0) == 0xe0     ? 3
                   : c >= 0xf0 && c <= 0xf4 ? 4
                                            : 0;
    if (len == 0 || len > n)
        return 0;
    for (unsigned i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) || (c == 0xf0 && p[1] < 0x90) ||
        (c == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

// One character; returns where the output goes on. C1 controls (U+0080..9F) move terminals too.
static uint8_t *escape_one(uint8_t *out, const uint8_t *p, unsigned len)
{
    static const char hex[] = "0123456789abcdef";
    bool c1 = len == 2 && p[0] == 0xc2 && p[1] < 0xa0;
    if (len == 0) {
        memcpy(out, "\\ufffd", ESCAPED);
        return out + ESCAPED;
    }
    if (len == 1 && (*p == '"' || *p == '\\')) {
        *out++ = '\\';
        *out++ = *p;
        return out;
    }
    if (c1 || (len == 1 && (*p < 0x20 || *p == 0x7f))) {
        uint8_t c = c1 ? p[1] : p[0];
        memcpy(out, "\\u00", 4);
        out[4] = (uint8_t)hex[c >> 4];
        out[5] = (uint8_t)hex[c & 15];
        return out + ESCAPED;
    }
    memcpy(out, p, len);
    return out + len;
}

bool log_escape(struct buffer *out, struct view v)
{
    const uint8_t *p = (const uint8_t *)v.p;
    size_t n = v.n < LOG_FIELD_MAX ? v.n : LOG_FIELD_MAX;
    uint8_t *start = buffer_reserve(out, n * ESCAPED + 4);
    if (!start)
        return false;
    uint8_t *at = start;
    size_t i = 0;
    while (i < n) {
        unsigned len = utf8_len(p + i, v.n - i);
        if (i + (len ? len : 1) > n)
            break; // the cut does not divide a character
        at = escape_one(at, p + i, len);
        i += len ? len : 1;
    }
    if (i < v.n) {
        memcpy(at, "\u2026", 3);
        at += 3;
    }
    buffer_commit(out, (size_t)(at - start));
    return true;
}

uint64_t log_wall_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

void log_time(char out[28], uint64_t wall_us)
{
    date_print(out, wall_us);
    out[DATE_TEXT] = '\0';
}

static bool add(struct buffer *b, const char *s)
{
    return buffer_append(b, s, strlen(s));
}

static bool add_field(struct buffer *b, const struct log_field *f)
{
    char num[24];
    bool ok = add(b, ",\"") && add(b, f->key) && add(b, "\":");
    if (f->type == LOG_INT) {
        snprintf(num, sizeof num, "%lld", (long long)f->num);
        return ok && add(b, num);
    }
    return ok && add(b, "\"") && log_escape(b, f->str) && add(b, "\"");
}

bool log_format(struct buffer *b, enum log_level level, uint64_t wall_us, const char *event,
                const struct log_field *fields, unsigned n)
{
    char time[28];
    log_time(time, wall_us);
    buffer_reset(b);
    bool ok = add(b, "{\"time\":\"") && add(b, time) && add(b, "\",\"level\":\"") &&
              add(b, log_level_name[level]) && add(b, "\",\"event\":\"") &&
              log_escape(b, view_str(event)) && add(b, "\"");
    for (unsigned i = 0; i < n && ok; i++)
        ok = add_field(b, &fields[i]);
    return ok && add(b, "}\n");
}

void log_line_fd(int fd, enum log_level level, uint64_t wall_us, const char *event,
                 const struct log_field *fields, unsigned n)
{
    struct buffer b;
    buffer_init(&b);
    if (log_format(&b, level, wall_us, event, fields, n)) {
        while (buffer_len(&b)) {
            ssize_t put_n = write(fd, b.data + b.at, buffer_len(&b));
            if (put_n < 0 && errno == EINTR)
                continue;
            if (put_n <= 0)
                break; // nobody can be told
            buffer_consume(&b, (size_t)put_n);
        }
    }
    buffer_deinit(&b);
}
