#include "engine/device.h"
#include "engine/onnx_inner.h"
#include "engine/small.h"
#include <stdarg.h>
#include <stdio.h>

enum {
    TENSOR_DIMS = 1,
    TENSOR_TYPE = 2,
    TENSOR_FLOATS = 4,
    TENSOR_INT32 = 5,
    TENSOR_STRINGS = 6,
    TENSOR_INT64 = 7,
    TENSOR_NAME = 8,
    TENSOR_RAW = 9,
    TENSOR_DOUBLES = 10,
    TENSOR_UINT64 = 11,
    TENSOR_EXTERNAL = 13,
    TENSOR_LOCATION = 14
};

enum engine_dtype dtype_from_onnx(uint64_t type)
{
    static const enum engine_dtype types[] = {
        [1] = ENGINE_F32,         [2] = ENGINE_U8,      [3] = ENGINE_I8,
        [4] = ENGINE_U16,         [5] = ENGINE_I16,     [6] = ENGINE_I32,
        [7] = ENGINE_I64,         [8] = ENGINE_STRING,  [9] = ENGINE_BOOL,
        [10] = ENGINE_F16,        [11] = ENGINE_F64,    [12] = ENGINE_U32,
        [13] = ENGINE_U64,        [16] = ENGINE_BF16,   [17] = ENGINE_F8E4M3FN,
        [18] = ENGINE_F8E4M3FNUZ, [19] = ENGINE_F8E5M2, [20] = ENGINE_F8E5M2FNUZ,
        [21] = ENGINE_U4,         [22] = ENGINE_I4,     [23] = ENGINE_F4E2M1,
        [24] = ENGINE_F8E8M0,     [25] = ENGINE_U2,     [26] = ENGINE_I2};
    return type < sizeof(types) / sizeof(types[0]) ? types[type] : ENGINE_NONE;
}

__attribute__((format(printf, 3, 4))) static bool
tensor_fail(const struct import *im, const struct raw_tensor *t, const char *format, ...)
{
    char what[sizeof(im->e->text)];
    va_list args;
    va_start(args, format);
    if (vsnprintf(what, sizeof(what), format, args) < 0)
        what[0] = '\0';
    va_end(args);
    return engine_fail(im->e, "tensor \"%.*s\": %s", VIEW_ARG(t->name), what);
}

// ---- its fields --------------------------------------------------------------------------------------

static bool read_dims(struct raw_tensor *t, const struct pb_field *f)
{
    struct varints s;
    uint64_t d;
    varints_of(&s, f);
    while (varints_next(&s, &d)) {
        if (t->array.rank == ENGINE_MAX_RANK || (int64_t)d < 0)
            return false;
        t->array.shape[t->array.rank++] = (int64_t)d;
    }
    return s.packed.error == NULL;
}

static bool read_field(struct import *im, struct raw_tensor *t, const struct pb_field *f,
                       uint64_t *type)
{
    switch (f->number) {
    case TENSOR_DIMS:
        return read_dims(t, f) ||
               tensor_fail(im, t, "dims: expected at most %d, none negative", ENGINE_MAX_RANK);
    case TENSOR_TYPE:
        *type = f->value;
        return true;
    case TENSOR_NAME:
        t->name = f->data;
        return true;
    case TENSOR_RAW:
        t->raw = f->data;
        t->has_raw = true;
        return true;
    case TENSOR_LOCATION:
        t->external |= f->value != 0;
        return true;
    case TENSOR_EXTERNAL:
        t->external = true;
        return external_entry(&t->where, f->data) ||
               tensor_fail(im, t, "external_data cannot be read");
    default:
        return true;
    }
}

// All but the typed fields of its data; *count: of its elements.
static bool read_head(struct import *im, struct view message, struct raw_tensor *t, size_t *count)
{
    struct pb_reader r;
    struct pb_field f;
    uint64_t type = 0;
    *t = (struct raw_tensor){0};
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (!read_field(im, t, &f, &type))
            return false;
    }
    if (r.error)
        return engine_fail(im->e, "tensor: %s", r.error);
    t->array.dtype = dtype_from_onnx(type);
    if (t->array.dtype == ENGINE_NONE)
        return tensor_fail(im, t, "data type %llu is not supported", (unsigned long long)type);
    return array_count(&t->array, count) || tensor_fail(im, t, "dims: too many elements");
}

// ---- its data ----------------------------------------------------------------------------------------

// Which of the typed fields (float_data, …) a data type's elements stand in.
static uint32_t typed_field(enum engine_dtype d)
{
    return d == ENGINE_F32                      ? TENSOR_FLOATS
           : d == ENGINE_F64                    ? TENSOR_DOUBLES
           : d == ENGINE_I64                    ? TENSOR_INT64
           : d == ENGINE_U32 || d == ENGINE_U64 ? TENSOR_UINT64
                                                : TENSOR_INT32;
}

// One field's floats or doubles behind the *n there are. False: too many, or half of one.
static bool copy_fixed(const struct pb_field *f, size_t size, uint8_t *out, size_t *n, size_t count)
{
    struct view v = fixed_of(f, size);
    if (v.n % size != 0 || v.n / size > count - *n)
        return false;
    if (v.n > 0)
        memcpy(out + *n * size, v.p, v.n);
    *n += v.n / size;
    return true;
}

// One field's whole numbers behind the *n there are. False: too many.
static bool copy_whole(const struct pb_field *f, size_t size, uint8_t *out, size_t *n, size_t count)
{
    struct varints s;
    uint64_t v;
    varints_of(&s, f);
    while (varints_next(&s, &v)) {
        if (*n == count)
            return false;
        memcpy(out + (*n)++ * size, &v, size); // little-endian: the low bytes
    }
    return true;
}

// The typed field when there is no raw_data: one pass to copy what is there, counted.
static bool copy_typed(const struct raw_tensor *t, struct view message, uint8_t *out, size_t count)
{
    struct pb_reader r;
    struct pb_field f;
    uint32_t field = typed_field(t->array.dtype);
    bool fixed = field == TENSOR_FLOATS || field == TENSOR_DOUBLES;
    size_t n = 0, size = dtype_bytes(t->array.dtype);
    pb_read(&r, message);
    while (field_next(&r, field, &f)) {
        if (!(fixed ? copy_fixed : copy_whole)(&f, size, out, &n, count))
            return false;
    }
    return n == count;
}

static bool unpack(struct import *im, struct array *a, size_t count)
{
    uint8_t *to = graph_alloc(im->g, count, im->e);
    if (!to)
        return false;
    small_unpack(a->dtype, a->data, to, count);
    graph_drop(im->g, a->data);
    a->data = to;
    return true;
}

// 16-bit floats become float32, packed numbers one a byte; all else stays.
static bool widen(struct import *im, struct array *a, size_t count)
{
    const uint16_t *bits = a->data;
    if (dtype_is_small(a->dtype))
        return unpack(im, a, count);
    if (dtype_inside(a->dtype) == a->dtype)
        return true;
    float *wide = graph_alloc(im->g, count * sizeof(*wide), im->e);
    if (!wide)
        return false;
    for (size_t i = 0; i < count; i++)
        wide[i] = float_of_half(a->dtype, bits[i]);
    graph_drop(im->g, a->data);
    a->data = wide;
    a->dtype = ENGINE_F32;
    return true;
}

// t->raw, which is as long as its shape says.
static bool copy_raw(struct import *im, struct raw_tensor *t, size_t count)
{
    t->array.data = graph_alloc(im->g, t->raw.n, im->e);
    if (!t->array.data)
        return false;
    if (t->raw.n > 0)
        memcpy(t->array.data, t->raw.p, t->raw.n);
    return widen(im, &t->array, count);
}

// Every element costs at least a byte of the message: nothing is allocated that is not backed.
static bool read_numbers(struct import *im, struct raw_tensor *t, struct view message, size_t count)
{
    size_t bytes = dtype_file_bytes(t->array.dtype, count), size = dtype_bytes(t->array.dtype);
    if (t->has_raw ? t->raw.n != bytes : bytes / size > message.n)
        return tensor_fail(im, t, "expected %zu bytes of data, got %zu", bytes,
                           t->has_raw ? t->raw.n : message.n);
    if (t->has_raw)
        return copy_raw(im, t, count);
    t->array.data = graph_alloc(im->g, bytes, im->e);
    if (!t->array.data)
        return false;
    if (!copy_typed(t, message, t->array.data, bytes / size)) // packed ones: so many bytes
        return tensor_fail(im, t, "expected %zu elements of its data type", count);
    return widen(im, &t->array, count);
}

// Data of another file is used where it lies until the load has ended, when it lies well: kernels that want
// it in another form make that of it, and nothing was copied.
static bool read_external(struct import *im, struct raw_tensor *t, size_t count)
{
    size_t bytes = dtype_file_bytes(t->array.dtype, count);
    if (t->has_raw)
        return tensor_fail(im, t, "has data here and elsewhere");
    if (!external_find(im->external, im->g->root, t->name, &t->where, bytes, &t->raw, im->e))
        return false;
    enum engine_dtype d = t->array.dtype;
    bool as_it_is = dtype_inside(d) == d && !dtype_is_small(d);
    bool lies_well = bytes > 0 && (uintptr_t)t->raw.p % 64 == 0;
    t->lent = as_it_is && lies_well && im->g == im->g->root;
    if (!t->lent)
        return copy_raw(im, t, count);
    t->array.data = (void *)t->raw.p; // constants are only read
    return graph_charge(im->g, bytes, im->e);
}

static bool read_text(struct import *im, struct raw_tensor *t, struct view message, size_t count)
{
    struct pb_reader r;
    struct pb_field f;
    size_t n = 0;
    if (t->external || t->has_raw || count > message.n || !im->g->device->ops->shared)
        return tensor_fail(im, t, "expected %zu strings in string_data, on a device that has them",
                           count);
    struct view *to = t->array.data = graph_alloc(im->g, count * sizeof(*to), im->e);
    if (!to)
        return false;
    pb_read(&r, message);
    while (field_next(&r, TENSOR_STRINGS, &f)) {
        if (n == count || f.wire != PB_LEN)
            return tensor_fail(im, t, "expected %zu strings", count);
        to[n] = arena_copy(&im->g->arena, f.data);
        if (to[n++].n != f.data.n)
            return engine_fail(im->e, "out of memory");
    }
    return n == count || tensor_fail(im, t, "expected %zu strings, got %zu", count, n);
}

bool import_tensor(struct import *im, struct view message, struct raw_tensor *t)
{
    size_t count;
    if (!read_head(im, message, t, &count))
        return false;
    if (t->array.dtype == ENGINE_STRING)
        return read_text(im, t, message, count);
    return t->external ? read_external(im, t, count) : read_numbers(im, t, message, count);
}

bool import_initializer(struct import *im, struct view message)
{
    struct raw_tensor t;
    if (!import_tensor(im, message, &t))
        return false;
    int32_t v = names_add(im, t.name);
    if (v < 0)
        return engine_fail(im->e, "initializer \"%.*s\": the name exists twice", VIEW_ARG(t.name));
    im->g->values[v].array = t.array;
    im->g->values[v].constant = true;
    im->g->values[v].lent = t.lent;
    return true;
}
