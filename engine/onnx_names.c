#include "base/hash.h"
#include "engine/onnx_inner.h"

struct name {
    struct view name;
    int32_t value; // -1: the slot is free
};

static struct name *slot_of(const struct import *im, struct view name)
{
    unsigned at = (unsigned)hash64(name, 0) & (im->table_size - 1);
    while (im->table[at].value >= 0 && !view_eq(im->table[at].name, name))
        at = (at + 1) & (im->table_size - 1);
    return &im->table[at];
}

// At most half of the slots are taken.
static bool grow_table(struct import *im)
{
    const struct name *old = im->table;
    unsigned n = im->table_size, more = n > 0 ? 2 * n : 64;
    if (2 * im->n_names < n)
        return true;
    struct name *table = arena_array(&im->g->arena, more, sizeof(*table));
    if (!table)
        return false;
    for (unsigned i = 0; i < more; i++)
        table[i].value = -1;
    im->table = table;
    im->table_size = more;
    for (unsigned i = 0; i < n; i++) {
        if (old[i].value >= 0)
            *slot_of(im, old[i].name) = old[i];
    }
    return true;
}

bool names_bind(struct import *im, struct view name, int32_t v)
{
    if (!grow_table(im))
        return false;
    struct name *slot = slot_of(im, name);
    if (slot->value >= 0)
        return false;
    *slot = (struct name){name, v};
    im->n_names++;
    return true;
}

void names_rebind(struct import *im, struct view name, int32_t v)
{
    slot_of(im, name)->value = v;
}

int32_t names_own(const struct import *im, struct view name)
{
    return im->table_size > 0 ? slot_of(im, name)->value : -1;
}

int32_t value_add(struct graph *g)
{
    if (g->root->all_values == GRAPH_MAX_VALUES)
        return -1;
    struct value *values =
        graph_room(g, g->values, g->n_values, &g->cap_values, sizeof(*g->values));
    if (!values)
        return -1;
    g->values = values;
    g->root->all_values++;
    g->values[g->n_values] = (struct value){.name = VIEW(""), .maker = -1};
    return (int32_t)g->n_values++;
}

int32_t names_add(struct import *im, struct view name)
{
    struct view copy = arena_copy(&im->g->arena, name);
    if (name.n > 0 && !copy.p)
        return -1;
    int32_t v = value_add(im->g);
    if (v < 0 || !names_bind(im, copy, v))
        return -1;
    im->g->values[v].name = copy;
    return v;
}

static bool add_capture(struct graph *g, struct capture c)
{
    struct capture *captures =
        graph_room(g, g->captures, g->n_captures, &g->cap_captures, sizeof(*g->captures));
    if (!captures)
        return false;
    g->captures = captures;
    g->captures[g->n_captures++] = c;
    return true;
}

int32_t names_find(struct import *im, struct view name)
{
    int32_t own = names_own(im, name);
    if (own >= 0 || !im->outer)
        return own;
    int32_t outer = names_find(im->outer, name);
    if (outer < 0 || outer == LEFT_OUT)
        return outer; // nothing to capture
    int32_t v = names_add(im, name);
    return v >= 0 && add_capture(im->g, (struct capture){outer, v}) ? v : -1;
}
