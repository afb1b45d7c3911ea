#include "gateway/pins.h"

#include "base/mem.h"
#include "gateway/file.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_MOST (1u << 20)

__attribute__((format(printf, 2, 3))) static bool refuse(char why[PINS_ERROR], const char *format,
                                                         ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(why, PINS_ERROR, format, ap);
    va_end(ap);
    return false;
}

// ---- the list ----------------------------------------------------------------------------------------

struct pin *pins_find(const struct pins *p, struct view model)
{
    for (struct pin *pin = p->first; pin; pin = pin->next)
        if (view_is(model, pin->model))
            return pin;
    return NULL;
}

bool pins_set(struct pins *p, const struct pin *pin)
{
    struct pin *at = pins_find(p, view_str(pin->model));
    if (!at) {
        if (p->n >= PINS_MOST || !(at = mem_zalloc(sizeof(*at))))
            return false;
        at->next = p->first;
        p->first = at;
        p->n++;
    }
    struct pin *next = at->next;
    *at = *pin;
    at->next = next;
    return true;
}

bool pins_clear(struct pins *p, struct view model)
{
    for (struct pin **at = &p->first; *at; at = &(*at)->next) {
        struct pin *pin = *at;
        if (!view_is(model, pin->model))
            continue;
        *at = pin->next;
        mem_free(pin);
        p->n--;
        return true;
    }
    return false;
}

void pins_free(struct pins *p)
{
    while (p->first) {
        struct pin *pin = p->first;
        p->first = pin->next;
        mem_free(pin);
    }
    p->n = 0;
}

// ---- as JSON -----------------------------------------------------------------------------------------

void pin_show(struct json_writer *w, const struct pin *pin)
{
    json_w_object(w);
    if (pin->model[0]) {
        json_w_key(w, VIEW("model"));
        json_w_string(w, view_str(pin->model));
    }
    json_w_key(w, VIEW("level"));
    json_w_u64(w, pin->level);
    json_w_key(w, VIEW("until_ms"));
    json_w_u64(w, pin->until_us / 1000);
    json_w_key(w, VIEW("why"));
    json_w_string(w, view_str(pin->why));
    json_w_object_end(w);
}

static bool read_text(struct json_reader *r, struct view key, char *out, size_t most,
                      char why[PINS_ERROR])
{
    struct arena a;
    struct view text;
    if (json_next(r) != JSON_STRING)
        return refuse(why, "%.*s: expected a text", VIEW_ARG(key));
    arena_init(&a, 0);
    bool ok = json_unescape(r, &a, &text) && text.n > 0 && text.n <= most;
    if (ok)
        memcpy(out, text.p, text.n);
    out[ok ? text.n : 0] = '\0';
    arena_deinit(&a);
    return ok || refuse(why, "%.*s: expected 1 to %zu bytes", VIEW_ARG(key), most);
}

static bool read_number(struct json_reader *r, struct view key, uint64_t most, uint64_t *out,
                        char why[PINS_ERROR])
{
    char digits[24] = "", *end = digits;
    bool ok = json_next(r) == JSON_NUMBER && r->text.n < sizeof(digits);
    if (ok)
        memcpy(digits, r->text.p, r->text.n);
    *out = ok && digits[0] != '-' ? strtoull(digits, &end, 10) : 0;
    if (ok && end != digits && !*end && *out <= most)
        return true;
    return refuse(why, "%.*s: expected a whole number from 0 to %llu", VIEW_ARG(key),
                  (unsigned long long)most);
}

enum { HAS_MODEL = 1, HAS_LEVEL = 2, HAS_UNTIL = 4, HAS_WHY = 8 };

static bool read_member(struct json_reader *r, struct pin *out, unsigned *has, char why[PINS_ERROR])
{
    struct view key = r->text;
    uint64_t n = 0;
    unsigned is = view_is(key, "model")      ? HAS_MODEL
                  : view_is(key, "level")    ? HAS_LEVEL
                  : view_is(key, "until_ms") ? HAS_UNTIL
                  : view_is(key, "why")      ? HAS_WHY
                                             : 0;
    if (is == 0 || *has & is)
        return refuse(why, "expected model, level, until_ms and why, each once");
    *has |= is;
    if (is == HAS_MODEL)
        return read_text(r, key, out->model, PIN_NAME, why);
    if (is == HAS_WHY)
        return read_text(r, key, out->why, PIN_WHY, why);
    bool ok = read_number(r, key, is == HAS_LEVEL ? 4 : UINT64_MAX / 1000, &n, why);
    if (is == HAS_LEVEL)
        out->level = (uint8_t)n;
    else
        out->until_us = n * 1000;
    return ok;
}

// The object's first token has been read.
static bool read_members(struct json_reader *r, struct pin *out, char why[PINS_ERROR])
{
    unsigned has = 0, needs = HAS_LEVEL | HAS_UNTIL | HAS_WHY;
    enum json_token t;
    *out = (struct pin){0};
    while ((t = json_next(r)) == JSON_KEY)
        if (!read_member(r, out, &has, why))
            return false;
    if (t != JSON_OBJECT_END)
        return refuse(why, "expected an object");
    return (has & needs) == needs || refuse(why, "expected level, until_ms and why");
}

// ---- its file ----------------------------------------------------------------------------------------

static bool read_all(struct pins *p, struct view text, char why[PINS_ERROR])
{
    struct json_reader r;
    struct pin pin;
    enum json_token t;
    json_read(&r, text);
    if (json_next(&r) != JSON_ARRAY)
        return refuse(why, "expected a list");
    while ((t = json_next(&r)) == JSON_OBJECT) {
        if (!read_members(&r, &pin, why))
            return false;
        if (!pins_set(p, &pin))
            return refuse(why, "more than %d, or out of memory", PINS_MOST);
    }
    if (t == JSON_ARRAY_END && json_next(&r) == JSON_END)
        return true;
    return refuse(why, "%s", r.error ? r.error : "expected objects in one list");
}

bool pins_load(struct pins *p, const char *dir, char why[PINS_ERROR])
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/pins.json", dir) >= PATH_MAX)
        return refuse(why, "the path is too long");
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT || refuse(why, "%s", strerror(errno));
    char *text = mem_alloc(FILE_MOST);
    ssize_t n = text ? read(fd, text, FILE_MOST) : -1;
    bool ok = n < 0           ? refuse(why, "%s", text ? strerror(errno) : "out of memory")
              : n < FILE_MOST ? read_all(p, view_of(text, (size_t)n), why)
                              : refuse(why, "longer than 1 MiB");
    close(fd);
    mem_free(text);
    return ok;
}

bool pins_save(const struct pins *p, const char *dir, char why[PINS_ERROR])
{
    struct buffer text;
    struct json_writer w;
    buffer_init(&text);
    json_write(&w, &text);
    json_w_array(&w);
    for (const struct pin *pin = p->first; pin; pin = pin->next)
        pin_show(&w, pin);
    json_w_array_end(&w);
    bool ok = w.failed ? refuse(why, "out of memory")
                       : file_replace(dir, "pins.json", buffer_view(&text)) ||
                             refuse(why, "%s", strerror(errno));
    buffer_deinit(&text);
    return ok;
}
