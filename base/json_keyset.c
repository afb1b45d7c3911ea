#include "base/hash.h"
#include "base/json.h"

#define KEYSET_MIN 16

void json_keyset_init(struct json_keyset *s, struct arena *a)
{
    *s = (struct json_keyset){.arena = a};
}

// The key's slot, or the free one where it belongs. Never full: see json_keyset_add.
static struct view *find(const struct json_keyset *s, struct view key)
{
    uint32_t mask = s->cap - 1;
    for (uint32_t i = (uint32_t)hash64(key, 0) & mask;; i = (i + 1) & mask)
        if (!s->slot[i].p || view_eq(s->slot[i], key))
            return &s->slot[i];
}

static bool grow(struct json_keyset *s)
{
    struct json_keyset bigger = *s;
    bigger.cap = s->cap ? s->cap * 2 : KEYSET_MIN;
    bigger.slot = arena_array(s->arena, bigger.cap, sizeof(struct view));
    if (bigger.cap < s->cap || !bigger.slot)
        return false;
    memset(bigger.slot, 0, bigger.cap * sizeof(struct view));
    for (uint32_t i = 0; i < s->cap; i++)
        if (s->slot[i].p)
            *find(&bigger, s->slot[i]) = s->slot[i];
    *s = bigger;
    return true;
}

enum json_seen json_keyset_add(struct json_keyset *s, struct view key)
{
    if (!key.p)
        key = VIEW("");
    if (s->used >= s->cap / 2 && !grow(s)) // half of the slots stay free
        return JSON_SEEN_ERROR;
    struct view *slot = find(s, key);
    if (slot->p)
        return JSON_SEEN_BEFORE;
    *slot = key;
    s->used++;
    return JSON_SEEN_NEW;
}
