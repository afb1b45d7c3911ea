#include "engine/strings.h"
#include "engine/small.h"

#include "engine/device.h"
#include <stdio.h>

static bool next(const char **at, const char *end, struct view *s)
{
    uint32_t n;
    if (end - *at < 4)
        return false;
    memcpy(&n, *at, 4);
    *at += 4;
    if (n > (size_t)(end - *at))
        return false;
    *s = view_of(*at, n);
    *at += n;
    return true;
}

bool strings_read(const void *data, size_t bytes, size_t count, struct view *out)
{
    const char *at = data, *end = bytes > 0 ? at + bytes : at;
    struct view s;
    for (size_t i = 0; i < count; i++) {
        if (!next(&at, end, out ? &out[i] : &s))
            return false;
    }
    return at == end;
}

size_t strings_skip(const void *data, size_t count)
{
    size_t at = 0;
    uint32_t n;
    for (size_t i = 0; i < count; i++, at += 4 + (size_t)n)
        memcpy(&n, (const char *)data + at, 4);
    return at;
}

bool strings_bytes(const struct view *s, size_t count, size_t most, size_t *bytes)
{
    size_t left = most;
    for (size_t i = 0; i < count; i++) {
        if (left < 4 || s[i].n > left - 4 || s[i].n > UINT32_MAX)
            return false;
        left -= 4 + s[i].n;
    }
    *bytes = most - left;
    return true;
}

void strings_write(const struct view *s, size_t count, char *to)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t n = (uint32_t)s[i].n;
        memcpy(to, &n, 4);
        if (n > 0)
            memcpy(to + 4, s[i].p, n);
        to += 4 + (size_t)n;
    }
}

size_t strings_least(const struct array *a)
{
    size_t n = 0;
    if (a->dtype != ENGINE_STRING)
        return array_bytes(a);
    return array_count(a, &n) ? 4 * n : 0;
}

// Ops whose kernels move whole elements, or know strings.
bool op_takes_strings(const struct op *op)
{
    static const char *const ops[] = {"ArrayFeatureExtractor",
                                      "Cast",
                                      "CategoryMapper",
                                      "Compress",
                                      "Concat",
                                      "Constant",
                                      "Equal",
                                      "Expand",
                                      "Flatten",
                                      "Gather",
                                      "GatherElements",
                                      "GatherND",
                                      "Identity",
                                      "LabelEncoder",
                                      "LinearClassifier",
                                      "OneHotEncoder",
                                      "Reshape",
                                      "SVMClassifier",
                                      "Shape",
                                      "Size",
                                      "Slice",
                                      "Split",
                                      "Squeeze",
                                      "StringConcat",
                                      "StringNormalizer",
                                      "StringNormalizer, stopwords",
                                      "TfIdfVectorizer",
                                      "Tile",
                                      "Tokenizer",
                                      "Tokenizer, TfIdfVectorizer",
                                      "Transpose",
                                      "TreeEnsembleClassifier",
                                      "Unsqueeze",
                                      "Where"};
    for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        if (strcmp(op->name, ops[i]) == 0)
            return true;
    }
    return false;
}

// Of what most ops know nothing.
static bool may_take(struct job *j, const struct array *a, struct engine_error *e)
{
    if (a && a->dtype == ENGINE_STRING && !op_takes_strings(j->node->op))
        return shape_wrong(j, e, "strings are not supported");
    if (a && dtype_is_small(a->dtype) && !op_takes_small(j->node->op))
        return shape_wrong(j, e, "floats of 8 bits, and numbers of 4 and 2, are not supported");
    return true;
}

bool op_shape(struct job *j, struct engine_error *e)
{
    for (unsigned i = 0; i < j->node->n_inputs; i++) {
        if (!may_take(j, j->in[i], e))
            return false;
    }
    if (!j->node->op->shape(j, e))
        return false;
    for (unsigned i = 0; i < j->node->n_outputs; i++) {
        if (!may_take(j, j->outs[i], e))
            return false;
    }
    return true;
}

char *job_text(const struct job *j, size_t n)
{
    const struct text *t = j->text;
    char *p = t && t->arena->bytes <= t->most && n <= t->most - t->arena->bytes
                  ? arena_alloc(t->arena, n + 1)
                  : NULL;
    if (!p)
        *j->failure = "its strings take more memory than there is";
    return p;
}

void strings_note(const struct graph *g)
{
    char title[128], labels[256];
    for (unsigned i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        size_t count, used = 0;
        if (!view_is(n->type, "ZipMap") || !n->op)
            continue;
        const struct view *names = node_strings(n, "classlabels_strings", &count);
        labels[0] = '\0';
        for (size_t k = 0; k < count && used < sizeof(labels); k++)
            used += (size_t)snprintf(labels + used, sizeof(labels) - used, "%s%.*s",
                                     k > 0 ? ", " : "", VIEW_ARG(names[k]));
        const int64_t *numbers = node_ints(n, "classlabels_int64s", &count);
        for (size_t k = 0; numbers && k < count && used < sizeof(labels); k++)
            used += (size_t)snprintf(labels + used, sizeof(labels) - used, "%s%lld",
                                     k > 0 ? ", " : "", (long long)numbers[k]);
        graph_note(g, ENGINE_CHANGED, "%s: the maps are served as a tensor, a column a label: %s%s",
                   node_title(n, title), labels, used >= sizeof(labels) ? " ..." : "");
    }
}

// ---- attributes --------------------------------------------------------------------------------------

static const struct attr *list_attr(const struct node *n, const char *name, enum attr_kind kind,
                                    size_t *count)
{
    const struct attr *a = node_attr(n, name);
    a = a && a->kind == kind && a->n > 0 ? a : NULL;
    *count = a ? a->n : 0;
    return a;
}

const struct view *node_strings(const struct node *n, const char *name, size_t *count)
{
    const struct attr *a = list_attr(n, name, ATTR_STRINGS, count);
    return a ? a->strings : NULL;
}

const int64_t *node_ints(const struct node *n, const char *name, size_t *count)
{
    const struct attr *a = list_attr(n, name, ATTR_INTS, count);
    return a ? a->ints : NULL;
}

const float *node_floats(const struct node *n, const char *name, size_t *count)
{
    const struct attr *a = list_attr(n, name, ATTR_FLOATS, count);
    return a ? a->floats : NULL;
}

struct view node_string(const struct node *n, const char *name, struct view otherwise)
{
    const struct attr *a = node_attr(n, name);
    return a && a->kind == ATTR_STRING ? a->s : otherwise;
}
