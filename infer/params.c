#include "infer/params.h"

#include <string.h>

const char PARAMS_NO_MEMORY[] = "out of memory";

static bool has_key(const struct params *l, struct view key)
{
    for (unsigned i = 0; i < l->n; i++)
        if (view_eq(l->at[i].key, key))
            return true;
    return false;
}

static bool grow(struct arena *a, struct params *l)
{
    unsigned cap = l->cap ? 2 * l->cap : 4;
    struct param *at = arena_array(a, cap, sizeof(*at));
    if (!at)
        return false;
    if (l->n)
        memcpy(at, l->at, l->n * sizeof(*at));
    l->at = at;
    l->cap = cap;
    return true;
}

const char *params_add(struct arena *a, const struct params **list, const struct param *p,
                       struct params_sum *sum)
{
    struct params *l = (struct params *)*list; // made here
    sum->bytes += p->key.n + (p->type == PARAM_STRING ? p->s.n : 0);
    if (p->key.n == 0 || p->key.n > PARAMS_KEY_MOST)
        return "expected keys of 1 to 1024 bytes";
    if (l && l->n == INFER_MAX_PARAMS)
        return "more than 64";
    if (++sum->n > PARAMS_MOST || sum->bytes > PARAMS_BYTES_MOST)
        return "more than 1024, or 1 MiB of text, with those of the other tensors";
    if (l && has_key(l, p->key))
        return "duplicate key";
    if (!l && !(l = arena_zalloc(a, sizeof(*l))))
        return PARAMS_NO_MEMORY;
    if (l->n == l->cap && !grow(a, l))
        return PARAMS_NO_MEMORY;
    l->at[l->n++] = *p;
    *list = l;
    return NULL;
}

static struct hash128 param_hash(const struct param *p)
{
    struct {
        struct hash128 key, text;
        uint64_t type, value;
    } all = {.key = hash128(p->key, 1), .type = p->type};
    if (p->type == PARAM_STRING)
        all.text = hash128(p->s, 2);
    else
        all.value = p->type == PARAM_BOOL ? p->b : p->u;
    return hash128(view_of(&all, sizeof(all)), 3);
}

struct hash128 params_hash(const struct param *at, unsigned n)
{
    struct hash128 sum = {0};
    for (unsigned i = 0; i < n; i++) {
        struct hash128 h = param_hash(&at[i]);
        sum.lo += h.lo;
        sum.hi += h.hi;
    }
    return sum;
}

static bool copied(struct arena *a, struct view *v)
{
    bool had = v->n > 0;
    *v = arena_copy(a, *v);
    return !had || v->p;
}

const struct params *params_copy(struct arena *a, const struct params *from)
{
    struct params *l = from ? arena_zalloc(a, sizeof(*l)) : NULL;
    if (!l || !(l->at = arena_array(a, from->n, sizeof(*l->at))))
        return NULL;
    l->n = l->cap = from->n;
    for (unsigned i = 0; i < l->n; i++) {
        struct param *p = &l->at[i];
        *p = from->at[i];
        if (!copied(a, &p->key) || (p->type == PARAM_STRING && !copied(a, &p->s)))
            return NULL;
    }
    return l;
}

static int by_key(struct view a, struct view b)
{
    int order = memcmp(a.n ? a.p : "", b.n ? b.p : "", a.n < b.n ? a.n : b.n);
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

const struct param *params_next(const struct param *at, unsigned n, const struct param *last)
{
    const struct param *next = NULL;
    for (const struct param *p = at; p < at + n; p++) {
        int behind = last ? by_key(p->key, last->key) : 1;
        bool has_gone = behind < 0 || (behind == 0 && p <= last);
        if (!has_gone && (!next || by_key(p->key, next->key) < 0))
            next = p;
    }
    return next;
}
