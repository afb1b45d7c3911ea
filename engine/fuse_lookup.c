// A row of a table that is written as a product: numbers are compared with 0, 1, 2 …, what comes of it is cast to float
// and multiplied by the table (what exporters make of an embedding, or of one_hot and a dense layer). It becomes a look
// into the table; a number that is no place in it gives zeros.
#include "engine/plan.h"

#include <math.h>

// The numbers, their places, the table [places, columns]: [.., 1] or [.., places] to [.., columns].
static bool shape_lookup(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *places = j->in[1], *table = j->in[2];
    int64_t shape[ENGINE_MAX_RANK];
    unsigned rank;
    if (x->dtype != places->dtype)
        return shape_wrong(j, e, "expected numbers of the datatype that they are compared with");
    if (!shape_together(j, j->in, 2, shape, &rank, e))
        return false;
    if (shape[rank - 1] != table->shape[0])
        return shape_wrong(j, e, "expected matrices that can be multiplied");
    shape[rank - 1] = table->shape[1];
    return shape_make(j, ENGINE_F32, rank, shape, e);
}

static const struct op op_lookup = {
    .name = "Equal, Cast, MatMul", .min_inputs = 3, .max_inputs = 3, .shape = shape_lookup};

static double number_at(const struct array *a, size_t i)
{
    return a->dtype == ENGINE_F32   ? (double)((const float *)a->data)[i]
           : a->dtype == ENGINE_I32 ? ((const int32_t *)a->data)[i]
                                    : (double)((const int64_t *)a->data)[i];
}

// 0, 1, 2 … along the last of its axes, which is the only one.
static bool is_places(const struct array *a, int64_t n)
{
    size_t count;
    if (!a || a->rank == 0 || a->shape[a->rank - 1] != n || !array_count(a, &count) ||
        (int64_t)count != n ||
        (a->dtype != ENGINE_F32 && a->dtype != ENGINE_I32 && a->dtype != ENGINE_I64))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (number_at(a, i) != (double)i)
            return false;
    }
    return true;
}

// Of finite numbers: the product has each of them, times 0.
static bool is_table(const struct array *a)
{
    size_t count;
    if (!a || a->dtype != ENGINE_F32 || a->rank != 2 || !array_count(a, &count) || count == 0)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(((const float *)a->data)[i]))
            return false;
    }
    return true;
}

bool fuse_lookup(struct graph *g, struct node *n, struct engine_error *e)
{
    struct node *cast = node_only_maker(g, n, 0, "Cast");
    struct node *equal =
        cast && node_int(cast, "to", 0) == 1 ? node_only_maker(g, cast, 0, "Equal") : NULL;
    const struct array *table = node_constant(g, n, 1);
    if (!equal || !is_table(table) || !g->device->ops->kernel(g->device, &op_lookup))
        return true;
    for (unsigned i = 0; i < 2; i++) {
        if (!is_places(node_constant(g, equal, i), table->shape[0]))
            continue;
        const int32_t in[3] = {equal->input[1 - i], equal->input[i], n->input[1]};
        for (unsigned k = 0; k < 3; k++)
            g->values[in[k]].readers++;
        node_release(g, n, 0);
        node_remove(g, cast);
        node_remove(g, equal);
        memcpy(n->input, in, sizeof(in));
        n->n_inputs = 3;
        n->type = view_of(op_lookup.name, strlen(op_lookup.name));
        graph_note(g, ENGINE_FUSED, "Equal, Cast and MatMul into a look into a table");
        return node_set(g, n, &op_lookup, e);
    }
    return true;
}
