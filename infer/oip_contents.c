#include "infer/oip_pb.h"
#include <inttypes.h>

/* InferTensorContents: the same values in one of eight repeated fields, packed or not. Packed floats
 * already lie there in raw form; everything else is converted. */

#define ELEMENT_SLICE ((size_t)32 << 10)

static const uint8_t field_of[DT_COUNT] = {
    [DT_BOOL] = 1,   [DT_INT8] = 2,  [DT_INT16] = 2,  [DT_INT32] = 2,
    [DT_INT64] = 3,  [DT_UINT8] = 4, [DT_UINT16] = 4, [DT_UINT32] = 4,
    [DT_UINT64] = 5, [DT_FP32] = 6,  [DT_FP64] = 7,   [DT_BYTES] = 8,
};

static bool wrong(struct oip_contents *c, const char *what, struct error *e)
{
    return error_set(e, STATUS_BAD_REQUEST, "%s[%u].contents: %s", c->at.what, c->at.index, what);
}

// All of the contents are one packed run of floats: no conversion.
static bool is_view(const struct oip_contents *c, struct view contents, struct view *run)
{
    struct pb_reader r;
    struct pb_field f;
    if (c->t->dtype != DT_FP32 && c->t->dtype != DT_FP64)
        return false;
    pb_read(&r, contents);
    if (!pb_next(&r, &f) || f.number != field_of[c->t->dtype] || f.wire != PB_LEN || r.at != r.end)
        return false;
    *run = f.data;
    return f.data.n == c->count * dtype_table[c->t->dtype].bytes;
}

bool oip_contents_begin(struct oip_contents *c, struct arena *a, struct view contents,
                        struct tensor *t, const struct oip_place *at, struct error *e)
{
    char shape[96];
    struct view run;
    *c = (struct oip_contents){.arena = a, .t = t, .at = *at};
    if (!field_of[t->dtype])
        return error_set(e, STATUS_BAD_REQUEST, "%s[%u].contents: %s travels only in raw form",
                         at->what, at->index, dtype_table[t->dtype].name);
    if (!tensor_count(t, &c->count))
        return error_set(e, STATUS_BAD_REQUEST, "%s[%u].shape: the size of %s is out of range",
                         at->what, at->index, oip_shape_text(shape, t));
    pb_read(&c->fields, contents);
    if (c->count <= contents.n && is_view(c, contents, &run)) {
        t->data = run.n ? (const uint8_t *)run.p : NULL;
        t->bytes = run.n;
        c->got = c->count;
        c->fields.at = c->fields.end;
        return true;
    }
    // Every value takes a byte or more; BYTES take two and become four and their bytes.
    if (c->count > contents.n)
        return error_set(e, STATUS_BAD_REQUEST,
                         "%s[%u].contents: shape %s asks for more values than the bytes can hold",
                         at->what, at->index, oip_shape_text(shape, t));
    c->room =
        t->dtype == DT_BYTES ? contents.n + 2 * c->count : c->count * dtype_table[t->dtype].bytes;
    if (c->room && !(c->values = arena_alloc(a, c->room)))
        return error_set(e, STATUS_UNAVAILABLE, "out of memory");
    t->data = c->values;
    return true;
}

static bool narrow(enum dtype dtype, uint64_t *v)
{
    int64_t i = (int32_t)*v; // protobuf's int32: the low 32 bits
    uint64_t u = (uint32_t)*v;
    switch (dtype) {
    case DT_BOOL:
        *v = *v != 0;
        return true;
    case DT_INT8:
        return i >= INT8_MIN && i <= INT8_MAX;
    case DT_INT16:
        return i >= INT16_MIN && i <= INT16_MAX;
    case DT_UINT8:
        return u <= UINT8_MAX;
    case DT_UINT16:
        return u <= UINT16_MAX;
    default:
        return true;
    }
}

// Little-endian: the low bytes are the value.
static bool put(struct oip_contents *c, uint64_t v, struct error *e)
{
    size_t size = dtype_table[c->t->dtype].bytes;
    if (c->got == c->count) {
        c->at.field = "contents";
        return oip_wrong_count(e, &c->at, c->t, UINT64_MAX);
    }
    if (!narrow(c->t->dtype, &v))
        return error_set(e, STATUS_BAD_REQUEST,
                         "%s[%u].contents: number is out of range (%s, element %" PRIu64 ")",
                         c->at.what, c->at.index, dtype_table[c->t->dtype].name, c->got);
    memcpy(c->values + c->bytes, &v, size);
    c->bytes += size;
    c->got++;
    return true;
}

static bool put_bytes(struct oip_contents *c, struct view v, struct error *e)
{
    uint32_t n = (uint32_t)v.n;
    if (c->got == c->count) {
        c->at.field = "contents";
        return oip_wrong_count(e, &c->at, c->t, UINT64_MAX);
    }
    if (v.n > UINT32_MAX || 4 + v.n > c->room - c->bytes)
        return wrong(c, "an element is too long", e);
    memcpy(c->values + c->bytes, &n, sizeof(n));
    c->bytes += 4;
    c->element = v;
    c->got++;
    return true;
}

// The element's bytes, a slice at a time.
static size_t step_element(struct oip_contents *c)
{
    size_t n = c->element.n < ELEMENT_SLICE ? c->element.n : ELEMENT_SLICE;
    memcpy(c->values + c->bytes, c->element.p, n);
    c->bytes += n;
    c->element = view_of(c->element.p + n, c->element.n - n);
    return n;
}

static bool on_field(struct oip_contents *c, const struct pb_field *f, struct error *e)
{
    enum dtype dtype = c->t->dtype;
    if (f->number > 8)
        return true;
    if (f->number != field_of[dtype])
        return f->wire == PB_LEN && f->data.n == 0 ? true
                                                   : wrong(c, "values of another datatype", e);
    if (dtype == DT_BYTES)
        return f->wire == PB_LEN ? put_bytes(c, f->data, e)
                                 : wrong(c, "a field has another wire type", e);
    if (f->wire == PB_LEN) {
        pb_read(&c->run, f->data);
        c->in_run = true;
        return true;
    }
    enum pb_wire one = dtype == DT_FP32 ? PB_I32 : dtype == DT_FP64 ? PB_I64 : PB_VARINT;
    return f->wire == one ? put(c, f->value, e) : wrong(c, "a field has another wire type", e);
}

// One value of the packed run; false with the run ended and no error, or with e.
static bool step_run(struct oip_contents *c, struct error *e)
{
    uint64_t v = 0;
    size_t size = c->t->dtype == DT_FP32 ? 4 : c->t->dtype == DT_FP64 ? 8 : 0;
    if (c->run.at == c->run.end) {
        c->in_run = false;
        return true;
    }
    if (!size)
        return pb_packed_varint(&c->run, &v) ? put(c, v, e) : wrong(c, c->run.error, e);
    if ((size_t)(c->run.end - c->run.at) < size)
        return wrong(c, "fixed-size field is cut off", e);
    memcpy(&v, c->run.at, size);
    c->run.at += size;
    return put(c, v, e);
}

enum oip_step oip_contents_step(struct oip_contents *c, size_t max_bytes, struct error *e)
{
    struct pb_field f;
    size_t work = 0;
    while (c->in_run || c->element.n || c->fields.at != c->fields.end) {
        if (work >= max_bytes)
            return OIP_MORE;
        if (c->element.n) {
            work += step_element(c);
            continue;
        }
        if (c->in_run) {
            const uint8_t *before = c->run.at;
            if (!step_run(c, e))
                return OIP_ERROR;
            work += (size_t)(c->run.at - before);
            continue;
        }
        if (!pb_next(&c->fields, &f)) {
            wrong(c, c->fields.error, e);
            return OIP_ERROR;
        }
        work += 2;
        if (!on_field(c, &f, e))
            return OIP_ERROR;
    }
    if (c->got != c->count) {
        c->at.field = "contents";
        oip_wrong_count(e, &c->at, c->t, c->got);
        return OIP_ERROR;
    }
    if (c->values) {
        c->t->bytes = c->bytes;
        c->t->data = c->bytes ? c->values : NULL;
    }
    return OIP_DONE;
}
