#include "infer/likeness.h"

#include <math.h>

// An output, whose elements may lie in several parts. Read forward.
struct likeness_scan {
    const struct slice *part;
    unsigned k;
    struct tensor t;   // its elements in that part
    uint64_t first, n; // those are [first, first + n)
    size_t at;         // BYTES: where the next one begins
};

static uint64_t elements_of(const struct tensor *t)
{
    uint64_t n;
    return tensor_count(t, &n) ? n : 0;
}

static void enter_part(struct likeness_scan *s, const struct slice *part, uint64_t first)
{
    s->part = part;
    s->t = slice_output(part, s->k);
    s->first = first;
    s->n = elements_of(&s->t);
    s->at = 0;
}

static bool skip_parts(struct likeness_scan *s, uint64_t i)
{
    while (i >= s->first + s->n) {
        if (!s->part->next)
            return false;
        enter_part(s, s->part->next, s->first + s->n);
    }
    return true;
}

// The i-th element, or those that are shorter than they should be: none.
static struct view element_at(struct likeness_scan *s, uint64_t i)
{
    size_t size = dtype_table[s->t.dtype].bytes;
    if (!skip_parts(s, i) || size > s->t.bytes / (i - s->first + 1))
        return (struct view){0};
    return view_of((const char *)s->t.data + (i - s->first) * size, size);
}

// The i-th text, when the one before it was the last that was asked for.
static struct view text_at(struct likeness_scan *s, uint64_t i)
{
    if (!skip_parts(s, i) || s->t.bytes - s->at < 4)
        return (struct view){0};
    size_t n = load_u32(s->t.data + s->at), left = s->t.bytes - s->at - 4;
    struct view text = view_of((const char *)s->t.data + s->at + 4, n < left ? n : left);
    s->at += 4 + text.n;
    return text;
}

// ---- numbers -----------------------------------------------------------------------------------------

static double half_of(uint16_t bits)
{
    unsigned exponent = bits >> 10 & 31, fraction = bits & 1023;
    double v = exponent == 31  ? (fraction ? NAN : INFINITY)
               : exponent == 0 ? ldexp(fraction, -24)
                               : ldexp(1024 + fraction, (int)exponent - 25);
    return bits >> 15 ? -v : v;
}

static float bfloat_of(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    return load_f32(&wide);
}

static bool has_fraction(enum dtype d)
{
    return d == DT_FP16 || d == DT_BF16 || d == DT_FP32 || d == DT_FP64;
}

static double number_of(enum dtype d, const void *p)
{
    uint16_t bits;
    memcpy(&bits, p, sizeof(bits));
    switch (d) {
    case DT_FP16:
        return half_of(bits);
    case DT_BF16:
        return (double)bfloat_of(bits);
    case DT_FP32:
        return (double)load_f32(p);
    default:
        return load_f64(p);
    }
}

static bool numbers_agree(struct likeness *l, double a, double b, double tolerance)
{
    if (!isfinite(a) || !isfinite(b))
        return (isnan(a) && isnan(b)) || a == b;
    double apart = fabs(a - b), larger = fmax(fabs(a), fabs(b));
    l->max_abs = fmax(l->max_abs, apart);
    l->max_rel = fmax(l->max_rel, larger > 0 ? apart / larger : 0);
    return apart <= tolerance * fmax(1, larger);
}

// ---- one output --------------------------------------------------------------------------------------

static void compare_texts(struct likeness *l, struct likeness_scan *a, struct likeness_scan *b,
                          uint64_t n, uint64_t most, size_t most_bytes)
{
    size_t bytes = 0;
    for (uint64_t i = 0; i < n && i < most && bytes < most_bytes; i++) {
        struct view x = text_at(a, i), y = text_at(b, i);
        l->elements++;
        l->equal += view_eq(x, y);
        bytes += x.n;
    }
}

static void compare_elements(struct likeness *l, struct likeness_scan *a, struct likeness_scan *b,
                             uint64_t n, uint64_t most, double tolerance)
{
    uint64_t stride = n > most ? n / most + (n % most != 0) : 1;
    bool fraction = has_fraction(a->t.dtype);
    for (uint64_t i = 0; i < n; i += stride) {
        struct view x = element_at(a, i), y = element_at(b, i);
        bool both = x.n > 0 && x.n == y.n;
        l->elements++;
        if (both && fraction)
            l->equal +=
                numbers_agree(l, number_of(a->t.dtype, x.p), number_of(a->t.dtype, y.p), tolerance);
        else
            l->equal += both && view_eq(x, y);
    }
}

// outputs: those that share the bound.
static void compare_output(struct likeness *l, const struct slice *a, unsigned ka,
                           const struct slice *b, unsigned kb, double tolerance, unsigned outputs)
{
    struct tensor x = slice_whole(a, ka), y = slice_whole(b, kb);
    struct likeness_scan sa = {.k = ka}, sb = {.k = kb};
    uint64_t n = elements_of(&x);
    if (x.dtype != y.dtype || !tensor_same_shape(&x, &y)) {
        l->kind = x.dtype != y.dtype ? LIKE_DTYPE : LIKE_SHAPE;
        return;
    }
    enter_part(&sa, a, 0);
    enter_part(&sb, b, 0);
    if (x.dtype == DT_BYTES)
        compare_texts(l, &sa, &sb, n, LIKENESS_ELEMENTS / outputs, LIKENESS_BYTES / outputs);
    else
        compare_elements(l, &sa, &sb, n, LIKENESS_ELEMENTS / outputs, tolerance);
}

// a->n_outputs: it has none of that name.
static unsigned find_output(const struct answer *a, struct view name)
{
    unsigned k = 0;
    while (k < a->n_outputs && !view_eq(a->outputs[k].name, name))
        k++;
    return k;
}

unsigned likeness_find(const struct slice *a, const struct slice *b, double tolerance,
                       struct likeness out[LIKENESS_OUTPUTS])
{
    const struct answer *x = a->answer, *y = b->answer;
    unsigned n = 0, outputs = x->n_outputs < LIKENESS_OUTPUTS ? x->n_outputs : LIKENESS_OUTPUTS;
    for (unsigned k = 0; k < x->n_outputs && n < LIKENESS_OUTPUTS; k++) {
        struct likeness *l = &out[n++];
        unsigned other = find_output(y, x->outputs[k].name);
        *l = (struct likeness){.name = x->outputs[k].name};
        if (other == y->n_outputs)
            l->kind = LIKE_MISSING;
        else
            compare_output(l, a, k, b, other, tolerance, outputs);
    }
    for (unsigned k = 0; k < y->n_outputs && n < LIKENESS_OUTPUTS; k++)
        if (find_output(x, y->outputs[k].name) == x->n_outputs)
            out[n++] = (struct likeness){.name = y->outputs[k].name, .kind = LIKE_MISSING};
    return n;
}
