#include "engine/refuse.h"

#include "base/hash.h"

#include <stdio.h>

static bool new_kind(struct refusals *r, const struct node *n, const char *why)
{
    uint64_t hash = hash64(view_str(why), 0);
    for (unsigned i = 0; i < r->n_kinds; i++) {
        if (r->whys[i] == hash && view_eq(r->types[i], n->type))
            return false;
    }
    if (r->n_kinds == REFUSED_KINDS) {
        r->left_out++;
        return false;
    }
    r->types[r->n_kinds] = n->type;
    r->whys[r->n_kinds++] = hash;
    return true;
}

void refuse_node(struct refusals *r, const struct node *n, const char *why)
{
    char title[128], one[256];
    node_title(n, title);
    if (++r->nodes <= REFUSED_TOLD)
        graph_note(r->graph, ENGINE_REFUSED, "%s: %s", title,
                   why ? why : "the op is not supported");
    if (!new_kind(r, n, why ? why : ""))
        return;
    r->ops_only = (r->n_kinds == 1 || r->ops_only) && !why;
    int size = snprintf(one, sizeof(one), "%s%s%s%s", r->used > 0 ? ", " : "", title,
                        why ? ": " : "", why ? why : "");
    if (size > 0 && (size_t)size < sizeof(r->text) - r->used) {
        memcpy(r->text + r->used, one, (size_t)size + 1);
        r->used += (size_t)size;
    } else {
        r->left_out++;
    }
}

bool refuse_all(struct refusals *r, struct engine_error *e)
{
    char more[32] = "";
    if (r->nodes == 0)
        return true;
    if (r->left_out > 0)
        snprintf(more, sizeof(more), " and %u more", r->left_out);
    if (r->n_kinds == 1)
        return engine_fail(e, r->ops_only ? "op %s is not supported" : "%s", r->text);
    return engine_fail(e, "%s%s%s",
                       r->ops_only ? "ops that are not supported: " : "refused: ", r->text, more);
}
