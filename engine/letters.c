// StringNormalizer: stopwords leave, letters become large or small. By the C library's own table of Unicode, whatever
// the process's locale is.
#include "engine/cpu/labels.h"
#include "engine/pattern.h"

#include <locale.h>
#include <wctype.h>

static unsigned utf8_put(char *to, uint32_t c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    unsigned more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const unsigned char first[] = {0, 0xc0, 0xe0, 0xf0};
    to[0] = (char)(first[more] | c >> (6 * more));
    for (unsigned i = 1; i <= more; i++)
        to[i] = (char)(0x80 | (c >> (6 * (more - i)) & 0x3f));
    return more + 1;
}

typedef wint_t changer(wint_t c, locale_t l);

// A change makes two bytes three at the most (U+023A).
static bool change_case(const struct job *j, struct view x, changer *change, locale_t l,
                        struct view *y)
{
    const unsigned char *at = (const unsigned char *)x.p, *end = at + x.n;
    char *to = x.n <= SIZE_MAX / 2 ? job_text(j, x.n + x.n / 2) : NULL;
    size_t n = 0;
    while (to && at < end) {
        uint32_t c = utf8_next(&at, end);
        if (c == UINT32_MAX) {
            *j->failure = "a string is not UTF-8";
            return false;
        }
        n += utf8_put(to + n, change(c, l));
    }
    *y = view_of(to, n);
    return to != NULL;
}

struct normalizer {
    changer *change, *compare; // NULL: as they are
    locale_t letters;
    const struct label_table *stopwords; // NULL: none
};

// The stopwords, in the letters in which they are compared. False with j's failure.
static bool find_stopwords(const struct job *j, struct normalizer *z, struct arena *a)
{
    size_t n;
    const struct view *words = node_strings(j->node, "stopwords", &n);
    if (n == 0)
        return true;
    struct view *keys = arena_array(a, n, sizeof(*keys));
    for (size_t i = 0; keys && i < n; i++) {
        keys[i] = words[i];
        if (z->compare && !change_case(j, words[i], z->compare, z->letters, &keys[i]))
            return false;
    }
    z->stopwords = keys ? label_table_new(a, keys, n) : NULL;
    if (!z->stopwords)
        *j->failure = "out of memory";
    return z->stopwords != NULL;
}

static bool keep_string(const struct job *j, const struct normalizer *z, struct view x,
                        struct view *y, size_t *kept)
{
    struct view compared = x, changed = x;
    if (z->stopwords && z->compare && !change_case(j, x, z->compare, z->letters, &compared))
        return false;
    if (z->stopwords && label_find(z->stopwords, compared) != SIZE_MAX)
        return true;
    if (z->stopwords && z->compare == z->change)
        changed = compared;
    else if (z->change && !change_case(j, x, z->change, z->letters, &changed))
        return false;
    y[(*kept)++] = changed;
    return true;
}

bool normalize_strings(const struct job *j, struct view *y, size_t *kept)
{
    struct view action = node_string(j->node, "case_change_action", VIEW("NONE"));
    const struct view *x = j->in[0]->data;
    struct normalizer z = {.change = view_is(action, "LOWER")   ? towlower_l
                                     : view_is(action, "UPPER") ? towupper_l
                                                                : NULL};
    struct arena own;
    size_t n = 0;
    z.compare = node_int(j->node, "is_case_sensitive", 0) != 0 ? NULL
                : z.change                                     ? z.change
                                                               : towlower_l;
    *kept = 0;
    if (!array_count(j->in[0], &n))
        return true;
    arena_init(&own, 0);
    z.letters = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (!z.letters)
        *j->failure = "the system has no table of letters (C.UTF-8)";
    bool ok = z.letters && find_stopwords(j, &z, &own);
    for (size_t i = 0; ok && i < n; i++)
        ok = keep_string(j, &z, x[i], y, kept);
    if (z.letters)
        freelocale(z.letters);
    arena_deinit(&own);
    return ok;
}
