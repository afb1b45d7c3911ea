#include "engine/small.h"

#include <math.h>

struct format {
    const char *title;
    uint8_t bits;
    bool is_float, is_signed;
    // Of floats: bits of the fraction, the exponent's bias; the largest number, and what stands for infinity and
    // for what is not a number (0: nothing does).
    uint8_t fraction, bias, most, infinite, nan;
    bool no_negative_zero; // its place is nan's
};

static const struct format formats[ENGINE_DTYPES] = {
    [ENGINE_F8E4M3FN] = {"FLOAT8E4M3FN", 8, true, true, 3, 7, 0x7e, 0, 0x7f, false},
    [ENGINE_F8E4M3FNUZ] = {"FLOAT8E4M3FNUZ", 8, true, true, 3, 8, 0x7f, 0, 0x80, true},
    [ENGINE_F8E5M2] = {"FLOAT8E5M2", 8, true, true, 2, 15, 0x7b, 0x7c, 0x7e, false},
    [ENGINE_F8E5M2FNUZ] = {"FLOAT8E5M2FNUZ", 8, true, true, 2, 16, 0x7f, 0, 0x80, true},
    [ENGINE_F8E8M0] = {"FLOAT8E8M0", 8, true, false, 0, 127, 0xfe, 0, 0xff, false},
    [ENGINE_F4E2M1] = {"FLOAT4E2M1", 4, true, true, 1, 1, 0x07, 0, 0, false},
    [ENGINE_I4] = {.title = "INT4", .bits = 4, .is_signed = true},
    [ENGINE_U4] = {.title = "UINT4", .bits = 4},
    [ENGINE_I2] = {.title = "INT2", .bits = 2, .is_signed = true},
    [ENGINE_U2] = {.title = "UINT2", .bits = 2}};

bool dtype_is_small(enum engine_dtype d)
{
    return formats[d].bits > 0;
}

bool dtype_is_small_float(enum engine_dtype d)
{
    return formats[d].is_float;
}

const char *dtype_title(enum engine_dtype d)
{
    return formats[d].title;
}

enum engine_dtype dtype_at_port(enum engine_dtype d)
{
    if (!dtype_is_small(d))
        return d;
    return !formats[d].is_float && formats[d].is_signed ? ENGINE_I8 : ENGINE_U8;
}

size_t dtype_file_bytes(enum engine_dtype d, size_t count)
{
    return dtype_is_small(d) ? (count * formats[d].bits + 7) / 8 : count * dtype_bytes(d);
}

void small_unpack(enum engine_dtype d, const uint8_t *from, uint8_t *to, size_t count)
{
    unsigned bits = formats[d].bits, each = 8 / bits;
    for (size_t i = 0; i < count; i++) {
        uint8_t v = (uint8_t)(from[i / each] >> i % each * bits);
        to[i] = formats[d].is_float ? (uint8_t)(v & ((1u << bits) - 1)) : small_of_whole(d, v);
    }
}

// ---- whole numbers -----------------------------------------------------------------------------------

uint8_t small_of_whole(enum engine_dtype d, uint64_t v)
{
    unsigned bits = formats[d].bits, all = 1u << bits, low = (unsigned)(v & (all - 1));
    return (uint8_t)(formats[d].is_signed && low >= all / 2 ? low - all : low);
}

void small_range(enum engine_dtype d, int32_t *least, int32_t *most)
{
    unsigned bits = formats[d].bits - formats[d].is_signed;
    *most = (1 << bits) - 1;
    *least = formats[d].is_signed ? -(1 << bits) : 0;
}

bool small_holds(enum engine_dtype d, uint8_t element)
{
    if (dtype_is_small_float(d))
        return element >> (formats[d].bits - 1) <= 1;
    int32_t least, most, v = formats[d].is_signed ? (int8_t)element : element;
    small_range(d, &least, &most);
    return v >= least && v <= most;
}

// ---- floats ------------------------------------------------------------------------------------------

bool small_rounding_of(const struct node *n, struct small_rounding *r)
{
    const struct attr *mode = node_attr(n, "round_mode");
    *r = (struct small_rounding){node_int(n, "saturate", 1) != 0, SMALL_UP};
    if (!mode || view_is(mode->s, "up"))
        return true;
    r->mode = view_is(mode->s, "down") ? SMALL_DOWN : SMALL_NEAREST;
    return r->mode == SMALL_DOWN || view_is(mode->s, "nearest");
}

double small_value(enum engine_dtype d, uint8_t element)
{
    const struct format *f = &formats[d];
    if (!f->is_float)
        return f->is_signed ? (int8_t)element : element;
    if (f->nan && element == f->nan)
        return NAN;
    if (d == ENGINE_F8E8M0)
        return ldexp(1, element - f->bias);
    unsigned sign = 1u << (f->bits - 1), size = element & (sign - 1);
    if (size > f->most)
        return size != f->infinite ? NAN : element & sign ? -INFINITY : INFINITY;
    int fraction = (int)(size & ((1u << f->fraction) - 1)), exponent = (int)(size >> f->fraction);
    double v = exponent > 0 ? ldexp(fraction + (1 << f->fraction), exponent - f->bias - f->fraction)
                            : ldexp(fraction, 1 - f->bias - f->fraction);
    return element & sign ? -v : v;
}

// A power of two, without a sign; what is below 0 has none.
static uint8_t power_of_float(double v, struct small_rounding r)
{
    const struct format *f = &formats[ENGINE_F8E8M0];
    int exponent;
    if (isnan(v) || v < 0 || (v == 0 && !r.saturate))
        return f->nan;
    if (v == 0)
        return 0;
    double half_to_one = isinf(v) ? 1 : frexp(v, &exponent);
    if (isinf(v))
        exponent = 1000;
    exponent += f->bias - 1; // of the power of two that is not above v
    if (r.mode == SMALL_UP)
        exponent += half_to_one > 0.5;
    else if (r.mode == SMALL_NEAREST)
        exponent += half_to_one >= 0.75;
    if (exponent >= 0 && exponent <= f->most)
        return (uint8_t)exponent;
    return !r.saturate ? f->nan : exponent < 0 ? 0 : f->most;
}

// The magnitude's place among those of the type, from 0 up: numbers follow each other as their bits do.
static int place_of(const struct format *f, double size)
{
    int exponent, least = 1 - f->bias;
    if (size == 0)
        return 0;
    frexp(size, &exponent);
    exponent = exponent - 1 < least ? least : exponent - 1;
    if (exponent > 128)
        return f->most + 1;
    return (int)rint(ldexp(size, f->fraction - exponent)) + ((exponent - least) << f->fraction);
}

uint8_t small_of_float(enum engine_dtype d, double v, struct small_rounding r)
{
    const struct format *f = &formats[d];
    if (d == ENGINE_F8E8M0)
        return power_of_float(v, r);
    unsigned sign = signbit(v) ? 1u << (f->bits - 1) : 0;
    if (isnan(v))
        return (uint8_t)(f->nan | (f->nan ? sign : 0));
    int place = isinf(v) ? f->most + 1 : place_of(f, fabs(v));
    if (place <= f->most)
        return (uint8_t)(place == 0 && f->no_negative_zero ? 0 : (unsigned)place | sign);
    if (r.saturate || !f->nan)
        return (uint8_t)(f->most | sign);
    return (uint8_t)((f->infinite ? f->infinite : f->nan) | sign);
}

// ---- ops ---------------------------------------------------------------------------------------------

bool op_takes_small(const struct op *op)
{
    static const char *const ops[] = {"Cast",      "CastLike", "Concat",           "Constant",
                                      "Flatten",   "Gather",   "DequantizeLinear", "Identity",
                                      "Reshape",   "Shape",    "QuantizeLinear",   "Size",
                                      "Slice",     "Split",    "Squeeze",          "Transpose",
                                      "Unsqueeze", "Dropout"};
    for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        if (strcmp(op->name, ops[i]) == 0)
            return true;
    }
    return op == &op_small_port;
}

// In: from what the port has; out: to it.
static bool shape_small_port(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    enum engine_dtype small = (enum engine_dtype)node_int(j->node, "port", 0);
    bool in = x->dtype == dtype_at_port(small);
    if (!in && x->dtype != small)
        return shape_wrong(j, e, "the file says another datatype of this output");
    return shape_make(j, in ? small : dtype_at_port(small), x->rank, x->shape, e);
}

const struct op op_small_port = {
    .name = "a port of small numbers", .min_inputs = 1, .max_inputs = 1, .shape = shape_small_port};
