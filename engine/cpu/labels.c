// Words and numbers that stand for others: LabelEncoder, CategoryMapper, OneHotEncoder of ai.onnx.ml. What is
// looked up stands in a table that is made once, at load.
#include "engine/cpu/labels.h"

#include "base/hash.h"
#include "engine/cpu/cpu.h"

#include <float.h>
#include <math.h>

// ---- the table ---------------------------------------------------------------------------------------

struct label_table {
    struct view *keys;
    uint32_t *slots; // number of a key + 1; 0: free
    size_t mask;
};

static uint32_t *slot_of(const struct label_table *t, struct view key)
{
    size_t at = hash64(key, 0) & t->mask;
    while (t->slots[at] && !view_eq(t->keys[t->slots[at] - 1], key))
        at = (at + 1) & t->mask;
    return &t->slots[at];
}

struct label_table *label_table_new(struct arena *a, struct view *keys, size_t n)
{
    struct label_table *t = arena_alloc(a, sizeof(*t));
    size_t size = 16;
    while (size < 2 * n)
        size *= 2;
    if (!t || !(t->slots = arena_array(a, size, sizeof(*t->slots))))
        return NULL;
    memset(t->slots, 0, size * sizeof(*t->slots));
    t->keys = keys;
    t->mask = size - 1;
    for (size_t i = 0; i < n; i++) {
        uint32_t *slot = slot_of(t, keys[i]);
        if (!*slot) // the first of equal ones counts
            *slot = (uint32_t)i + 1;
    }
    return t;
}

size_t label_find(const struct label_table *t, struct view key)
{
    uint32_t slot = *slot_of(t, key);
    return slot ? slot - 1 : SIZE_MAX;
}

// The bytes of a number that are equal when it is: one zero (which the smallest count as while a plan runs, and keys
// are prepared before), one "not a number".
struct number_key {
    char bytes[8];
};

static struct view number_key(const void *p, enum engine_dtype d, struct number_key *k)
{
    size_t n = dtype_bytes(d);
    float f;
    double g;
    memcpy(k->bytes, p, n);
    if (d == ENGINE_F32) {
        memcpy(&f, p, n);
        f = f != f ? __builtin_nanf("") : fabsf(f) < FLT_MIN ? 0 : f;
        memcpy(k->bytes, &f, n);
    } else if (d == ENGINE_F64) {
        memcpy(&g, p, n);
        g = g != g ? __builtin_nan("") : fabs(g) < DBL_MIN ? 0 : g;
        memcpy(k->bytes, &g, n);
    }
    return view_of(k->bytes, n);
}

static struct view key_at(const void *data, enum engine_dtype d, size_t i, struct number_key *k)
{
    if (d == ENGINE_STRING)
        return ((const struct view *)data)[i];
    return number_key((const char *)data + i * dtype_bytes(d), d, k);
}

// A table of n keys that lie in data.
static struct label_table *table_of(struct arena *a, const void *data, enum engine_dtype d,
                                    size_t n)
{
    struct view *keys = arena_array(a, n + 1, sizeof(*keys));
    struct number_key *numbers = arena_array(a, n + 1, sizeof(*numbers));
    for (size_t i = 0; keys && numbers && i < n; i++)
        keys[i] = key_at(data, d, i, &numbers[i]);
    return keys && numbers ? label_table_new(a, keys, n) : NULL;
}

// ---- what an encoder does ----------------------------------------------------------------------------

struct encoder {
    const struct label_table *table;
    const void *values;    // [n]; NULL: the number of the key is the value
    const void *otherwise; // one value
};

struct column { // a list of one kind
    enum engine_dtype dtype;
    const void *data;
    size_t n;
};

static struct column column_of(const struct node *n, const char *const names[4])
{
    const struct attr *tensor = names[3] ? node_attr(n, names[3]) : NULL;
    struct column c = {.dtype = ENGINE_F32};
    if (tensor) {
        c = (struct column){tensor->tensor.dtype, tensor->tensor.data, 0};
        if (!array_count(&tensor->tensor, &c.n))
            c.n = 0;
        return c;
    }
    c.data = node_floats(n, names[0], &c.n);
    if (c.n == 0 && (c.data = node_ints(n, names[1], &c.n)))
        c.dtype = ENGINE_I64;
    if (c.n == 0 && (c.data = node_strings(n, names[2], &c.n)))
        c.dtype = ENGINE_STRING;
    return c;
}

// One value of dtype d for what is not found, in the arena.
static const void *default_of(const struct node *n, struct arena *a, enum engine_dtype d)
{
    const struct attr *tensor = node_attr(n, "default_tensor");
    struct {
        float f;
        int64_t i;
        struct view s;
        double zero;
    } *v = arena_zalloc(a, sizeof(*v));
    if (!v || (tensor && tensor->kind == ATTR_TENSOR))
        return v ? tensor->tensor.data : NULL;
    v->f = node_float(n, "default_float", -0.0f);
    v->i = node_int(n, "default_int64", -1);
    v->s = node_string(n, "default_string", VIEW("_Unused"));
    return d == ENGINE_F32      ? (const void *)&v->f
           : d == ENGINE_I64    ? (const void *)&v->i
           : d == ENGINE_STRING ? (const void *)&v->s
                                : (const void *)&v->zero;
}

static const int64_t *counted(struct arena *a, size_t n)
{
    int64_t *v = arena_array(a, n + 1, sizeof(*v));
    for (size_t i = 0; v && i < n; i++)
        v[i] = (int64_t)i;
    return v;
}

// to: the datatype of the output.
static struct encoder *label_encoder(const struct node *n, struct arena *a, enum engine_dtype to)
{
    static const char *const key_names[] = {"keys_floats", "keys_int64s", "keys_strings",
                                            "keys_tensor"};
    static const char *const value_names[] = {"values_floats", "values_int64s", "values_strings",
                                              "values_tensor"};
    struct column keys, values = column_of(n, value_names);
    struct encoder *e = arena_zalloc(a, sizeof(*e));
    const struct view *classes = node_strings(n, "classes_strings", &keys.n);
    if (classes) { // version 1
        const void *numbers = counted(a, keys.n);
        keys.dtype = to == ENGINE_I64 ? ENGINE_STRING : ENGINE_I64;
        keys.data = to == ENGINE_I64 ? (const void *)classes : numbers;
        values.data = to == ENGINE_I64 ? numbers : (const void *)classes;
    } else {
        keys = column_of(n, key_names);
    }
    if (!e || !keys.data || !values.data)
        return NULL;
    e->table = table_of(a, keys.data, keys.dtype, keys.n);
    e->values = values.data;
    e->otherwise = default_of(n, a, classes ? to : values.dtype);
    return e->table && e->otherwise ? e : NULL;
}

static struct encoder *category_mapper(const struct node *n, struct arena *a, enum engine_dtype to)
{
    struct encoder *e = arena_zalloc(a, sizeof(*e));
    size_t count;
    const void *ints = node_ints(n, "cats_int64s", &count),
               *strings = node_strings(n, "cats_strings", &count);
    bool out = to == ENGINE_STRING; // from numbers to strings
    if (!e)
        return NULL;
    e->table = table_of(a, out ? ints : strings, out ? ENGINE_I64 : ENGINE_STRING, count);
    e->values = out ? strings : ints;
    e->otherwise = default_of(n, a, to);
    return e->table && e->otherwise ? e : NULL;
}

static struct encoder *one_hot_encoder(const struct node *n, struct arena *a, enum engine_dtype to)
{
    struct encoder *e = arena_zalloc(a, sizeof(*e));
    size_t count;
    const struct view *strings = node_strings(n, "cats_strings", &count);
    (void)to;
    if (!e)
        return NULL;
    e->table = strings ? table_of(a, strings, ENGINE_STRING, count)
                       : table_of(a, node_ints(n, "cats_int64s", &count), ENGINE_I64, count);
    return e->table ? e : NULL;
}

typedef struct encoder *maker(const struct node *n, struct arena *a, enum engine_dtype to);

struct
    encoders { // what a node is prepared to be: from strings or to them, which a node may leave open
    struct encoder *to_string, *to_other;
};

static bool prepare(struct graph *g, struct node *n, maker *make, struct engine_error *e)
{
    if (labels_wrong(n))
        return true;
    struct encoders *both = arena_alloc(&g->arena, sizeof(*both));
    if (both)
        *both =
            (struct encoders){make(n, &g->arena, ENGINE_STRING), make(n, &g->arena, ENGINE_I64)};
    if (!both || !both->to_string || !both->to_other)
        return engine_fail(e, "out of memory");
    n->prepared = both;
    return graph_charge_arena(g, e);
}

// For constants, which nothing was prepared for, made in *own for this run alone.
static const struct encoder *encoder_of(const struct job *j, maker *make, struct arena *own)
{
    const struct encoders *both = j->node->prepared;
    arena_init(own, 0);
    const struct encoder *e = !both                            ? make(j->node, own, j->out->dtype)
                              : j->out->dtype == ENGINE_STRING ? both->to_string
                                                               : both->to_other;
    if (!e)
        *j->failure = "out of memory";
    return e;
}

static void encode(const struct job *j, maker *make)
{
    const struct array *x = j->in[0];
    size_t n = 0, size = dtype_bytes(j->out->dtype);
    struct number_key number;
    struct arena own;
    const struct encoder *e = encoder_of(j, make, &own);
    char *to = j->out->data;
    if (!array_count(x, &n))
        n = 0;
    for (size_t i = 0; e && i < n; i++, to += size) {
        size_t k = label_find(e->table, key_at(x->data, x->dtype, i, &number));
        memcpy(to, k == SIZE_MAX ? e->otherwise : (const char *)e->values + k * size, size);
    }
    arena_deinit(&own); // strings that were copied to the output are the node's
}

bool cpu_label_encoder_prepare(struct graph *g, struct node *n, struct engine_error *e)
{
    return prepare(g, n, label_encoder, e);
}

void cpu_label_encoder(const struct job *j)
{
    encode(j, label_encoder);
}

bool cpu_category_mapper_prepare(struct graph *g, struct node *n, struct engine_error *e)
{
    return prepare(g, n, category_mapper, e);
}

void cpu_category_mapper(const struct job *j)
{
    encode(j, category_mapper);
}

bool cpu_one_hot_encoder_prepare(struct graph *g, struct node *n, struct engine_error *e)
{
    return prepare(g, n, one_hot_encoder, e);
}

// Number i of x as a whole one. False: it is none.
static bool whole_at(const struct array *x, size_t i, int64_t *v)
{
    double d = x->dtype == ENGINE_F32   ? (double)((const float *)x->data)[i]
               : x->dtype == ENGINE_F64 ? ((const double *)x->data)[i]
                                        : 0;
    if (x->dtype == ENGINE_I32)
        *v = ((const int32_t *)x->data)[i];
    else if (x->dtype == ENGINE_I64)
        *v = ((const int64_t *)x->data)[i];
    else if (d > -9e18 && d < 9e18) // towards 0, as it is looked up elsewhere too
        *v = (int64_t)d;
    else
        return false;
    return true;
}

void cpu_one_hot_encoder(const struct job *j)
{
    const struct array *x = j->in[0];
    size_t n = 0, columns = (size_t)j->out->shape[j->out->rank - 1];
    bool zeros = node_int(j->node, "zeros", 1) != 0;
    struct arena own;
    const struct encoder *e = encoder_of(j, one_hot_encoder, &own);
    float *y = j->out->data;
    if (!array_count(x, &n))
        n = 0;
    memset(y, 0, n * columns * sizeof(*y));
    for (size_t i = 0; e && i < n; i++, y += columns) {
        int64_t v;
        size_t k = SIZE_MAX;
        if (x->dtype == ENGINE_STRING)
            k = label_find(e->table, ((const struct view *)x->data)[i]);
        else if (whole_at(x, i, &v))
            k = label_find(e->table, view_of(&v, sizeof(v)));
        if (k != SIZE_MAX)
            y[k] = 1;
        else if (!zeros)
            *j->failure = "a value is in no category";
    }
    arena_deinit(&own);
}
