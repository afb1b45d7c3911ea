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
    if (!tensors_differ(out, "input", it->inputs, it->n_inputs, others->inputs, others->n_inputs))
        tensors_differ(out, "output", it->outputs, it->n_outputs, others->outputs,
                       others->n_outputs);
}

// ---- what fits ---------------------------------------------------------------------------------------------

static bool dims_fit(const struct tensor *a, const struct tensor *b)
{
    if (a->rank != b->rank)
        return false;
    for (unsigned i = 0; i < a->rank; i++) {
        int64_t x = tensor_dim(a, i), y = tensor_dim(b, i);
        if (x != y && x != -1 && y != -1)
            return false;
    }
    return true;
}

static const struct tensor *find(const struct tensor *list, unsigned n, struct view name)
{
    for (unsigned i = 0; i < n; i++)
        if (view_eq(list[i].name, name))
            return &list[i];
    return NULL;
}

// ---- requests --------------------------------------------------------------------------------------------

bool request_fits(char why[DIFFERENCE_TEXT], const struct infer_request *r,
                  const struct model_metadata *m)
{
    char want[96], got[96];
    for (unsigned i = 0; i < r->n_inputs; i++) {
        const struct tensor *t = &r->inputs[i];
        bool in_place = i < m->n_inputs && view_eq(m->inputs[i].name, t->name);
        const struct tensor *w = in_place ? &m->inputs[i] : find(m->inputs, m->n_inputs, t->name);
        if (!w || dims_fit(w, t) || (w->rank == 0 && t->rank == 1 && tensor_dim(t, 0) == 1))
            continue; // a single value is as often sent as a list of one: Triton's configurations know no other form
        snprintf(why, DIFFERENCE_TEXT, "input %.*s: shape: expected %s, got %s", VIEW_ARG(w->name),
                 oip_shape_text(want, w), oip_shape_text(got, t));
        return false;
    }
    return true;
}

// ---- steps of chains -----------------------------------------------------------------------------------

// Each of `wanted` is among those that are there.
static bool all_fit(char why[DIFFERENCE_TEXT], const char *kind, const struct tensor *wanted,
                    unsigned n_wanted, const struct tensor *there, unsigned n)
{
    char want[96], got[96];
    for (unsigned i = 0; i < n_wanted; i++) {
        const struct tensor *w = &wanted[i], *t = find(there, n, w->name);
        if (t && t->dtype == w->dtype && dims_fit(t, w))
            continue;
        if (t)
            snprintf(why, DIFFERENCE_TEXT, "%s %.*s: expected %s %s, got %s %s", kind,
                     VIEW_ARG(w->name), dtype_table[w->dtype].name, oip_shape_text(want, w),
                     dtype_table[t->dtype].name, oip_shape_text(got, t));
        else
            snprintf(why, DIFFERENCE_TEXT, "%s %.*s: there is none", kind, VIEW_ARG(w->name));
        return false;
    }
    return true;
}

bool metadata_fits(char why[DIFFERENCE_TEXT], const struct model_metadata *step,
                   const struct model_metadata *asked)
{
    return all_fit(why, "input", step->inputs, step->n_inputs, asked->inputs, asked->n_inputs) &&
           all_fit(why, "input", asked->inputs, asked->n_inputs, step->inputs, step->n_inputs) &&
           all_fit(why, "output", asked->outputs, asked->n_outputs, step->outputs, step->n_outputs);
}

bool outputs_fit(char why[DIFFERENCE_TEXT], const struct tensor *outputs, unsigned n,
                 const struct model_metadata *asked)
{
    return all_fit(why, "output", outputs, n, asked->outputs, asked->n_outputs);
}
