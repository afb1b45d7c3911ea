#include "gateway/difference.h"

#include "infer/oip.h"
#include <stdio.h>

static bool is_same(const struct tensor *a, const struct tensor *b)
{
    return view_eq(a->name, b->name) && a->dtype == b->dtype && tensor_same_shape(a, b);
}

static bool describe(char out[DIFFERENCE_TEXT], const char *kind, unsigned i,
                     const struct tensor *it, const struct tensor *other)
{
    char got[96], expected[96];
    snprintf(out, DIFFERENCE_TEXT, "%s %u: expected %.*s %s %s as at the others, got %.*s %s %s",
             kind, i, VIEW_ARG(other->name), dtype_table[other->dtype].name,
             oip_shape_text(expected, other), VIEW_ARG(it->name), dtype_table[it->dtype].name,
             oip_shape_text(got, it));
    return true;
}

static bool tensors_differ(char out[DIFFERENCE_TEXT], const char *kind, const struct tensor *it,
                           unsigned n, const struct tensor *others, unsigned n_others)
{
    if (n != n_others) {
        snprintf(out, DIFFERENCE_TEXT, "%ss: expected %u as at the others, got %u", kind, n_others,
                 n);
        return true;
    }
    for (unsigned i = 0; i < n; i++) {
        if (!is_same(&it[i], &others[i]))
            return describe(out, kind, i, &it[i], &others[i]);
    }
    return false;
}

void metadata_difference(char out[DIFFERENCE_TEXT], const struct model_metadata *it,
                         const struct model_metadata *others)
{
    out[0] = '\0';
    if (it->max_batch != others->max_batch)
        snprintf(out, DIFFERENCE_TEXT, "max_batch_size: expected %u as at the others, got %u",
                 others->max_batch, it->max_batch);
    else if (!tensors_differ(out, "input", it->inputs, it->n_inputs, others->inputs,
                             others->n_inputs))
        tensors_differ(out, "output", it->outputs, it->n_outputs, others->outputs,
                       others->n_outputs);
}
