/* base/view.h: a borrowed run of bytes: never owned, never NUL-terminated, may hold any byte.
 * Whoever hands out a view says how long the bytes stay. Thread: any. */
#ifndef SLUICE_BASE_VIEW_H
#define SLUICE_BASE_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct view {
    const char *p; // may be NULL only when n == 0
    size_t n;      // bytes
};

// A view of a string literal (its NUL not counted).
#define VIEW(lit) ((struct view){(lit), sizeof(lit) - 1})
// printf("%.*s", VIEW_ARG(v))
#define VIEW_ARG(v) (int)(v).n, (v).n ? (v).p : ""

static inline struct view view_of(const void *p, size_t n)
{
    return (struct view){(const char *)p, n};
}

static inline struct view view_str(const char *s)
{
    return (struct view){s, s ? strlen(s) : 0};
}

static inline bool view_eq(struct view a, struct view b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool view_is(struct view a, const char *s)
{
    return view_eq(a, view_str(s));
}

static inline bool view_is_word(struct view v, size_t most, const char *more)
{
    if (v.n == 0 || v.n > most || view_is(v, ".") || view_is(v, ".."))
        return false;
    for (size_t i = 0; i < v.n; i++) {
        char c = v.p[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-' || (c != 0 && strchr(more, c));
        if (!ok)
            return false;
    }
    return true;
}

// [A-Za-z0-9._-]{1,most}, and not "." or "..", which are names of directories: safe in paths and log lines.
static inline bool view_is_name(struct view v, size_t most)
{
    return view_is_word(v, most, "");
}

// The same with '+', '@' and '~', which repositories of models have, too. Not ':', which parts keys, nor what parts lists.
static inline bool view_is_model_name(struct view v, size_t most)
{
    return view_is_word(v, most, "+@~");
}

#endif
