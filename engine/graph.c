#include "engine/graph.h"

#include "base/mem.h"
#include "base/printable.h"
#include "engine/device.h"
#include "engine/ops.h"
#include "engine/small.h"

#include <stdarg.h>
#include <stdio.h>

size_t dtype_bytes(enum engine_dtype d)
{
    static const uint8_t bytes[ENGINE_DTYPES] = {
        [ENGINE_F32] = 4,  [ENGINE_F64] = 8,
        [ENGINE_I32] = 4,  [ENGINE_I64] = 8,
        [ENGINE_BOOL] = 1, [ENGINE_U8] = 1,
        [ENGINE_I8] = 1,   [ENGINE_U16] = 2,
        [ENGINE_I16] = 2,  [ENGINE_U32] = 4,
        [ENGINE_U64] = 8,  [ENGINE_F16] = 2,
        [ENGINE_BF16] = 2, [ENGINE_STRING] = sizeof(struct view)};
    return dtype_is_small(d) ? 1 : bytes[d];
}

enum engine_dtype dtype_inside(enum engine_dtype d)
{
    return d == ENGINE_F16 || d == ENGINE_BF16 ? ENGINE_F32 : d;
}

// Numbers too small for an exponent of their own are multiples of 2^-24.
static float float_of_f16(uint16_t bits)
{
    uint32_t exponent = bits >> 10 & 31, fraction = bits & 0x3ff,
             sign = (uint32_t)(bits & 0x8000) << 16;
    uint32_t whole = exponent == 31 ? sign | 0x7f800000 | fraction << 13
                                    : sign | (exponent + 112) << 23 | fraction << 13;
    float f = (float)fraction / (1 << 24);
    if (exponent > 0)
        memcpy(&f, &whole, sizeof(f));
    return exponent > 0 || sign == 0 ? f : -f;
}

float float_of_half(enum engine_dtype d, uint16_t bits)
{
    uint32_t whole = (uint32_t)bits << 16;
    float f;
    memcpy(&f, &whole, sizeof(f));
    return d == ENGINE_BF16 ? f : float_of_f16(bits);
}

static uint32_t round_bits(uint32_t v, unsigned drop)
{
    uint32_t half = 1u << (drop - 1), odd = v >> drop & 1;
    return (v + half - 1 + odd) >> drop;
}

static uint16_t f16_of_float(uint32_t bits)
{
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    uint32_t size = bits & 0x7fffffff;
    if (size > 0x7f800000)
        return sign | 0x7e00;
    if (size >= 0x477ff000) // rounds to 65536 or more
        return sign | 0x7c00;
    if (size >= 0x38800000) // 2^-14: has an exponent of its own
        return sign | (uint16_t)(round_bits(size, 13) - (112 << 10));
    unsigned shift = 126 - (size >> 23); // 2^-24 is 1
    return sign | (uint16_t)(shift > 24 ? 0 : round_bits((size & 0x7fffff) | 0x800000, shift));
}

uint16_t half_of_float(enum engine_dtype d, float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    if (d == ENGINE_F16)
        return f16_of_float(bits);
    return (bits & 0x7fffffff) > 0x7f800000 ? (uint16_t)(bits >> 16 | 0x40)
                                            : (uint16_t)round_bits(bits, 16);
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

size_t array_bytes(const struct array *a)
{
    size_t n;
    return array_count(a, &n) ? n * dtype_bytes(a->dtype) : 0;
}

bool engine_fail(struct engine_error *e, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (vsnprintf(e->text, sizeof(e->text), format, args) < 0)
        e->text[0] = '\0';
    va_end(args);
    printable(e->text);
    return false;
}

void graph_note(const struct graph *g, enum engine_note what, const char *format, ...)
{
    char text[512];
    va_list args;
    const struct engine_source *s = g->root->source;
    if (!s || !s->note)
        return;
    va_start(args, format);
    if (vsnprintf(text, sizeof(text), format, args) < 0)
        text[0] = '\0';
    va_end(args);
    printable(text);
    s->note(s->ctx, what, text);
}

const char *node_title(const struct node *n, char out[128])
{
    snprintf(out, 128, "%.*s (node \"%.*s\")", VIEW_ARG(n->type),
             (int)(n->name.n < 64 ? n->name.n : 64), n->name.n ? n->name.p : "");
    return out;
}

bool node_fail(const struct node *n, struct engine_error *e, const char *format, ...)
{
    char title[128], what[sizeof(e->text)];
    va_list args;
    va_start(args, format);
    if (vsnprintf(what, sizeof(what), format, args) < 0)
        what[0] = '\0';
    va_end(args);
    return engine_fail(e, "%s: %s", node_title(n, title), what);
}

bool node_set(const struct graph *g, struct node *n, const struct op *op, struct engine_error *e)
{
    const struct device_ops *d = g->device->ops;
    n->op = op;
    bool nothing = op->alias || op->control;
    n->kernel = nothing ? NULL : d->kernel(g->device, op);
    return nothing || n->kernel || node_fail(n, e, "the device %s does not have this op", d->name);
}

static const struct value *input_value(const struct graph *g, const struct node *n, unsigned i)
{
    return i < n->n_inputs && n->input[i] >= 0 ? &g->values[n->input[i]] : NULL;
}

const struct array *node_constant(const struct graph *g, const struct node *n, unsigned i)
{
    const struct value *v = input_value(g, n, i);
    return v && v->constant ? &v->array : NULL;
}

struct node *node_maker(const struct graph *g, const struct node *n, unsigned i, const char *type)
{
    const struct value *v = input_value(g, n, i);
    struct node *m = v && v->maker >= 0 ? &g->nodes[v->maker] : NULL;
    return m && m->op && view_is(m->type, type) ? m : NULL;
}

struct node *node_only_maker(const struct graph *g, const struct node *n, unsigned i,
                             const char *type)
{
    const struct value *v = input_value(g, n, i);
    return v && v->readers == 1 ? node_maker(g, n, i, type) : NULL;
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

// ---- constants ---------------------------------------------------------------------------------------

struct graph_block { // stands before its data
    _Alignas(64) struct graph_block *next;
    struct graph_block **link; // what points to this one
    size_t bytes;
};

bool graph_charge(struct graph *body, size_t bytes, struct engine_error *e)
{
    struct graph *g = body->root;
    if (bytes > g->limits.bytes - g->bytes)
        return engine_fail(e, "the model's constants take more than %zu MiB",
                           g->limits.bytes >> 20);
    g->bytes += bytes;
    return true;
}

bool graph_charge_arena(struct graph *g, struct engine_error *e)
{
    size_t more = g->arena.bytes - g->charged;
    g->charged = g->arena.bytes;
    return graph_charge(g, more, e);
}

void *graph_alloc(struct graph *g, size_t bytes, struct engine_error *e)
{
    if (!graph_charge(g, bytes, e))
        return NULL;
    struct graph_block *b = mem_alloc_aligned(sizeof(*b) + bytes, 64);
    if (!b) {
        g->root->bytes -= bytes;
        engine_fail(e, "out of memory");
        return NULL;
    }
    *b = (struct graph_block){.next = g->blocks, .link = &g->blocks, .bytes = bytes};
    if (b->next)
        b->next->link = &b->next;
    g->blocks = b;
    return b + 1;
}

void graph_drop(struct graph *g, void *data)
{
    if (!data)
        return;
    struct graph_block *b = (struct graph_block *)data - 1;
    *b->link = b->next;
    if (b->next)
        b->next->link = b->link;
    g->root->bytes -= b->bytes;
    mem_free(b);
}

static void free_one(struct graph *g)
{
    for (unsigned i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        if (n->op && n->kernel && n->kernel->forget)
            n->kernel->forget(&g->nodes[i]);
    }
    const struct device_ops *d = g->device->ops;
    for (unsigned v = 0; v < g->n_values && !d->shared; v++)
        d->release(g->device, g->values[v].on_device);
    while (g->blocks)
        graph_drop(g, g->blocks + 1);
    arena_deinit(&g->arena);
}

void graph_free(struct graph *g)
{
    for (struct graph *b = g->bodies, *next; b; b = next) {
        next = b->next;
        free_one(b);
        mem_free(b);
    }
    free_one(g);
}

void graph_init(struct graph *g, struct device *d, struct engine_limits limits)
{
    *g = (struct graph){.device = d, .limits = limits, .root = g};
    arena_init(&g->arena, 64 << 10);
}

void *graph_room(struct graph *g, void *list, unsigned n, unsigned *cap, size_t size)
{
    if (n < *cap)
        return list;
    unsigned more = *cap ? *cap * 2 : 16;
    void *grown = arena_array(&g->arena, more, size);
    if (grown && n > 0)
        memcpy(grown, list, n * size);
    *cap = grown ? more : *cap;
    return grown;
}

struct graph *graph_body(struct graph *root)
{
    struct graph *b = mem_alloc(sizeof(*b));
    if (!b)
        return NULL;
    *b = (struct graph){.device = root->device, .root = root, .next = root->bodies};
    b->opset = root->opset;
    b->limits = root->limits;
    arena_init(&b->arena, 4 << 10);
    root->bodies = b;
    return b;
}

struct graph *node_body(const struct node *n, unsigned i)
{
    for (unsigned k = 0; k < n->n_attrs; k++) {
        if (n->attrs[k].kind == ATTR_GRAPH && i-- == 0)
            return n->attrs[k].graph;
    }
    return NULL;
}

const int32_t *node_captures(const struct node *n, const struct graph *body)
{
    const struct graph *b;
    const int32_t *at = n->captures;
    for (unsigned k = 0; (b = node_body(n, k)) && b != body; k++)
        at += b->n_captures;
    return at;
}

void value_set(struct graph *g, struct value *v, void *data)
{
    if (v->lent)
        g->root->bytes -= array_bytes(&v->array);
    else if (!v->borrowed)
        graph_drop(g, v->array.data);
    v->lent = false;
    v->array.data = data;
}

static void value_drop(struct graph *g, struct value *v)
{
    value_set(g, v, NULL);
}

bool graph_own(struct graph *g, struct engine_error *e)
{
    for (unsigned i = 0; i < g->n_values; i++) {
        struct value *v = &g->values[i];
        size_t bytes = array_bytes(&v->array);
        if (!v->lent)
            continue;
        g->root->bytes -= bytes; // for a moment: the copy is counted in its place
        void *data = graph_alloc(g, bytes, e);
        g->root->bytes += bytes;
        if (!data)
            return false;
        memcpy(data, v->array.data, bytes);
        value_set(g, v, data);
    }
    return true;
}

bool node_reads(const struct node *n, unsigned i)
{
    return n->input[i] >= 0 && (i == 0 || !n->prepared || (n->reads >> i & 1));
}

void graph_readers(struct graph *g)
{
    for (unsigned v = 0; v < g->n_values; v++)
        g->values[v].readers = 0;
    for (unsigned i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        for (unsigned k = 0; n->op && k < n->n_inputs; k++) {
            if (node_reads(n, k))
                g->values[n->input[k]].readers++;
        }
        for (unsigned k = 0; n->op && k < n->n_captures; k++)
            g->values[n->captures[k]].readers++;
    }
    for (unsigned i = 0; i < g->n_outputs; i++)
        g->values[g->outputs[i]].readers++;
    for (unsigned v = 0; v < g->n_values; v++) {
        if (g->values[v].readers == 0 && g->values[v].constant)
            value_drop(g, &g->values[v]);
    }
}

void node_release(struct graph *g, const struct node *n, unsigned first)
{
    for (unsigned k = first; k < n->n_inputs; k++) {
        bool released = n->input[k] >= 0 && !(n->reads >> k & 1);
        struct value *v = released ? &g->values[n->input[k]] : NULL;
        if (v && --v->readers == 0 && v->constant)
            value_drop(g, v);
    }
}

void node_remove(struct graph *g, struct node *n)
{
    node_release(g, n, 0);
    for (unsigned i = 0; i < n->n_attrs; i++) {
        graph_drop(g, n->attrs[i].tensor.data);
        n->attrs[i].tensor.data = NULL;
    }
    n->op = NULL;
}
