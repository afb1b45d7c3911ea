#include "engine/graph.h"

#include "engine/ops.h"

#include <stdarg.h>
#include <stdio.h>

size_t dtype_bytes(enum engine_dtype d)
{
    static const uint8_t bytes[] = {
        [ENGINE_F32] = 4,  [ENGINE_F64] = 8, [ENGINE_I32] = 4, [ENGINE_I64] = 8,
        [ENGINE_BOOL] = 1, [ENGINE_U8] = 1,  [ENGINE_I8] = 1};
    return bytes[d];
}

bool array_count(const struct array *a, size_t *count)
{
    uint64_t n = 1; // a dimension of 0 counts as 1: the others may still be multiplied
    bool none = false;
    for (unsigned i = 0; i < a->rank; i++) {
        none |= a->shape[i] == 0;
        if (a->shape[i] < 0 || a->shape[i] > INT32_MAX ||
            __builtin_mul_overflow(n, (uint64_t)(a->shape[i] ? a->shape[i] : 1), &n) ||
            n > INT32_MAX)
            return false;
    }
    *count = none ? 0 : n;
    return true;
}

bool engine_fail(struct engine_error *e, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (vsnprintf(e->text, sizeof(e->text), format, args) < 0)
        e->text[0] = '\0';
    va_end(args);
    for (char *c = e->text; *c; c++) {
        if (*c < 0x20 || *c > 0x7e)
            *c = '?';
    }
    return false;
}

const char *node_title(const struct node *n, char out[128])
{
    snprintf(out, 128, "%.*s (node \"%.*s\")", VIEW_ARG(n->type),
             (int)(n->name.n < 64 ? n->name.n : 64), n->name.n ? n->name.p : "");
    return out;
}

const struct attr *node_find(const struct node *n, struct view name)
{
    for (unsigned i = 0; i < n->n_attrs; i++) {
        if (view_eq(n->attrs[i].name, name))
            return &n->attrs[i];
    }
    return NULL;
}

const struct attr *node_attr(const struct node *n, const char *name)
{
    return node_find(n, view_of(name, strlen(name)));
}

int64_t node_int(const struct node *n, const char *name, int64_t otherwise)
{
    const struct attr *a = node_attr(n, name);
    return a && a->kind == ATTR_INT ? a->i : otherwise;
}

float node_float(const struct node *n, const char *name, float otherwise)
{
    const struct attr *a = node_attr(n, name);
    return a && a->kind == ATTR_FLOAT ? a->f : otherwise;
}

void graph_free(struct graph *g)
{
    for (unsigned i = 0; i < g->n_nodes; i++) {
        const struct op *op = g->nodes[i].op;
        if (op && op->forget)
            op->forget(&g->nodes[i]);
    }
    arena_deinit(&g->arena);
}
