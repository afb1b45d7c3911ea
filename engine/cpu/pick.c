// What is picked by its data: NonZero, Compress, Unique, NonMaxSuppression.
#include "engine/cpu/cpu.h"

#include <math.h>

// ---- NonZero, Compress -------------------------------------------------------------------------------

void cpu_nonzero(const struct job *j)
{
    const struct array *x = j->in[0];
    size_t n = (size_t)j->out->shape[1], all = count_all(x), k = 0;
    int64_t *y = j->out->data;
    for (size_t i = 0; i < all && k < n; i++) {
        size_t rest = i;
        if (!array_nonzero(x, i))
            continue;
        for (unsigned d = x->rank; d-- > 0;) {
            y[d * n + k] = (int64_t)(rest % (size_t)x->shape[d]);
            rest /= (size_t)x->shape[d];
        }
        k++;
    }
}

void cpu_compress(const struct job *j)
{
    const struct array *x = j->in[0], *yes = j->in[1];
    const struct attr *given = node_attr(j->node, "axis");
    unsigned axis = given ? (unsigned)shape_axis(j, 0) : 0;
    size_t outer = given ? count_between(x, 0, axis) : 1,
           inner = dtype_bytes(x->dtype) * (given ? count_from(x, axis + 1) : 1),
           n = given ? (size_t)x->shape[axis] : count_all(x);
    const uint8_t *chosen = yes->data;
    char *to = j->out->data;
    for (size_t o = 0; o < outer; o++) {
        for (size_t i = 0; i < n && i < (size_t)yes->shape[0]; i++) {
            if (!chosen[i])
                continue;
            memcpy(to, (const char *)x->data + (o * n + i) * inner, inner);
            to += inner;
        }
    }
}

// ---- order -------------------------------------------------------------------------------------------

// Less than 0: element a stands before element b; what is not a number stands behind all.
#define ORDER(name, T)                                                                             \
    static int name(const void *x, size_t a, size_t b)                                             \
    {                                                                                              \
        T v = ((const T *)x)[a], w = ((const T *)x)[b];                                            \
        return v < w ? -1 : v > w ? 1 : (v != v) - (w != w);                                       \
    }
ORDER(order_f32, float)
ORDER(order_f64, double)
ORDER(order_i8, int8_t)
ORDER(order_i16, int16_t)
ORDER(order_i32, int32_t)
ORDER(order_i64, int64_t)
ORDER(order_u8, uint8_t)
ORDER(order_u16, uint16_t)
ORDER(order_u32, uint32_t)
ORDER(order_u64, uint64_t)

typedef int compare(const void *x, size_t a, size_t b);

static compare *order_of(enum engine_dtype d)
{
    static compare *const orders[ENGINE_DTYPES] = {
        [ENGINE_F32] = order_f32, [ENGINE_F64] = order_f64, [ENGINE_BOOL] = order_u8,
        [ENGINE_I8] = order_i8,   [ENGINE_I16] = order_i16, [ENGINE_I32] = order_i32,
        [ENGINE_I64] = order_i64, [ENGINE_U8] = order_u8,   [ENGINE_U16] = order_u16,
        [ENGINE_U32] = order_u32, [ENGINE_U64] = order_u64};
    return orders[d];
}

// ---- Unique ------------------------------------------------------------------------------------------

struct slices { // along an axis, each of outer * inner elements
    const struct array *x;
    compare *before;
    size_t outer, n, inner;
};

static int compare_slices(const struct slices *s, size_t a, size_t b)
{
    for (size_t o = 0; o < s->outer; o++) {
        for (size_t i = 0; i < s->inner; i++) {
            int way =
                s->before(s->x->data, (o * s->n + a) * s->inner + i, (o * s->n + b) * s->inner + i);
            if (way != 0)
                return way;
        }
    }
    return 0;
}

// [from, from + n) in order, equal ones as they stood; spare: as many.
static void sort_slices(const struct slices *s, int64_t *at, int64_t *spare, size_t n)
{
    size_t half = n / 2, a = 0, b = half;
    if (n < 2)
        return;
    sort_slices(s, at, spare, half);
    sort_slices(s, at + half, spare, n - half);
    memcpy(spare, at, n * sizeof(*at));
    for (size_t i = 0; i < n; i++) {
        bool first =
            b == n || (a < half && compare_slices(s, (size_t)spare[a], (size_t)spare[b]) <= 0);
        at[i] = spare[first ? a++ : b++];
    }
}

static struct slices slices_of(const struct job *j)
{
    const struct array *x = j->in[0];
    const struct attr *given = node_attr(j->node, "axis");
    unsigned axis = given ? (unsigned)shape_axis(j, 0) : 0;
    struct slices s = {.x = x, .before = order_of(x->dtype), .outer = 1, .inner = 1};
    s.n = given ? (size_t)x->shape[axis] : count_all(x);
    if (given) {
        s.outer = count_between(x, 0, axis);
        s.inner = count_from(x, axis + 1);
    }
    return s;
}

size_t cpu_unique_scratch(const struct job *j)
{
    return 4 * slices_of(j).n * sizeof(int64_t);
}

static int64_t *output_data(const struct job *j, unsigned i)
{
    return i < j->node->n_outputs && j->outs[i] ? j->outs[i]->data : NULL;
}

// What the first of each kind says in their order: sorted, or as they stand in x.
static void answer_unique(const struct job *j, const struct slices *s, const int64_t *firsts,
                          size_t kinds)
{
    size_t bytes = s->inner * dtype_bytes(s->x->dtype);
    const struct attr *given = node_attr(j->node, "axis");
    j->out->shape[given ? shape_axis(j, 0) : 0] = (int64_t)kinds;
    for (size_t o = 0; o < s->outer; o++) {
        for (size_t k = 0; k < kinds; k++)
            memcpy((char *)j->out->data + (o * kinds + k) * bytes,
                   (const char *)s->x->data + (o * s->n + (size_t)firsts[k]) * bytes, bytes);
    }
    if (output_data(j, 1)) {
        memcpy(output_data(j, 1), firsts, kinds * sizeof(*firsts));
        j->outs[1]->shape[0] = (int64_t)kinds;
    }
    if (output_data(j, 3))
        j->outs[3]->shape[0] = (int64_t)kinds;
}

void cpu_unique(const struct job *j)
{
    struct slices s = slices_of(j);
    int64_t *at = j->scratch, *spare = at + s.n, *kind_of = spare + s.n, *firsts = kind_of + s.n;
    int64_t *inverse = output_data(j, 2), *counts = output_data(j, 3);
    size_t kinds = 0;
    for (size_t i = 0; i < s.n; i++)
        at[i] = (int64_t)i;
    sort_slices(&s, at, spare, s.n);
    for (size_t i = 0; i < s.n; i++) { // equal ones stand beside each other, the first one first
        if (i == 0 || compare_slices(&s, (size_t)at[i - 1], (size_t)at[i]) != 0)
            firsts[kinds++] = at[i];
        kind_of[at[i]] = (int64_t)kinds - 1;
    }
    if (node_int(j->node, "sorted", 1) == 0) { // renamed in the order in which they are met
        size_t met = 0;
        for (size_t k = 0; k < kinds; k++)
            spare[k] = -1;
        for (size_t i = 0; i < s.n; i++) {
            int64_t *name = &spare[kind_of[i]];
            if (*name < 0) {
                *name = (int64_t)met;
                firsts[met++] = (int64_t)i;
            }
            kind_of[i] = *name;
        }
    }
    for (size_t k = 0; counts && k < kinds; k++)
        counts[k] = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (inverse)
            inverse[i] = kind_of[i];
        if (counts)
            counts[kind_of[i]]++;
    }
    answer_unique(j, &s, firsts, kinds);
}

// ---- NonMaxSuppression -------------------------------------------------------------------------------

struct corners {
    float low[2], high[2];
};

static struct corners corners_of(const float *box, bool centers)
{
    struct corners c;
    for (unsigned i = 0; i < 2; i++) {
        float a = box[i], b = box[2 + i];
        c.low[i] = centers ? a - b / 2 : fminf(a, b);
        c.high[i] = centers ? a + b / 2 : fmaxf(a, b);
    }
    return c;
}

static float area_of(const struct corners *c)
{
    return (c->high[0] - c->low[0]) * (c->high[1] - c->low[1]);
}

static bool overlaps(const struct corners *a, const struct corners *b, float most)
{
    float side[2];
    for (unsigned i = 0; i < 2; i++)
        side[i] = fminf(a->high[i], b->high[i]) - fmaxf(a->low[i], b->low[i]);
    if (!(side[0] > 0 && side[1] > 0) || !(area_of(a) > 0) || !(area_of(b) > 0))
        return false;
    float both = side[0] * side[1];
    return both / (area_of(a) + area_of(b) - both) > most;
}

size_t cpu_suppression_scratch(const struct job *j)
{
    size_t boxes = (size_t)j->in[0]->shape[1];
    return boxes * (sizeof(size_t) + sizeof(int64_t) + sizeof(struct corners));
}

// The boxes of one class and image that are left, in order of their scores, in `chosen`.
static size_t suppress(const struct suppression *s, const float *boxes, const float *scores,
                       size_t *order, int64_t *chosen, struct corners *kept)
{
    size_t n = 0, kinds = (size_t)s->boxes;
    cpu_largest(scores, order, kinds);
    for (size_t i = 0; i < kinds && n < (size_t)s->most; i++) {
        float score = scores[order[i]];
        if (score != score || (s->has_least && !(score > s->least)))
            continue;
        struct corners c = corners_of(boxes + 4 * order[i], s->centers);
        bool hidden = false;
        for (size_t k = 0; k < n && !hidden; k++)
            hidden = overlaps(&c, &kept[k], s->overlap);
        if (hidden)
            continue;
        kept[n] = c;
        chosen[n++] = (int64_t)order[i];
    }
    return n;
}

void cpu_suppression(const struct job *j)
{
    struct suppression s;
    struct engine_error e;
    if (!suppression_of(j, &s, &e))
        return; // the shape function has asked the same and was answered
    size_t *order = j->scratch;
    int64_t *chosen = (int64_t *)(void *)(order + s.boxes), *to = j->out->data;
    struct corners *kept = (struct corners *)(void *)(chosen + s.boxes);
    j->out->shape[0] = 0;
    for (int64_t i = 0; i < s.images * s.classes; i++) {
        int64_t image = i / s.classes;
        size_t n = suppress(&s, (const float *)j->in[0]->data + image * s.boxes * 4,
                            (const float *)j->in[1]->data + i * s.boxes, order, chosen, kept);
        for (size_t k = 0; k < n; k++) {
            *to++ = image;
            *to++ = i % s.classes;
            *to++ = chosen[k];
        }
        j->out->shape[0] += (int64_t)n;
    }
}
