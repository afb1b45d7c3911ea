#include "infer/oip_data.h"
#include <inttypes.h>
#include <stdio.h>

#define STRING_SLICE ((size_t)64 << 10) // bytes of a string copied between two such looks
#define CHUNK 2048 // values read between two looks at the budget: at most 400 bytes each

const char *oip_json_came(enum json_token token)
{
    static const char *const words[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array", [JSON_STRING] = "a string",
        [JSON_NUMBER] = "a number",  [JSON_TRUE] = "true",      [JSON_FALSE] = "false",
        [JSON_NULL] = "null",
    };
    bool known = token >= 0 && (size_t)token < sizeof(words) / sizeof(words[0]) && words[token];
    return known ? words[token] : "something else";
}

// With the datatype that the values should have.
static bool say(struct oip_data *d, struct error *e, const char *what, size_t byte)
{
    return error_set(e, STATUS_BAD_REQUEST, "%s[%u].%s: %s (%s, byte %zu)", d->at.what, d->at.index,
                     d->at.field, what, dtype_table[d->t->dtype].name, byte);
}

static bool wrong(struct oip_data *d, struct error *e, const char *what)
{
    return say(d, e, what, d->r->token_at);
}

static bool expected(struct oip_data *d, struct error *e, const char *what, enum json_token got)
{
    char text[96];
    snprintf(text, sizeof(text), "expected %s, got %s", what, oip_json_came(got));
    return wrong(d, e, text);
}

// The reader has stopped. Where it stands before a value of another kind, that is what came.
static bool broken(struct oip_data *d, struct error *e)
{
    static const struct {
        struct view begins;
        enum json_token token;
    } others[] = {
        {{"true", 4}, JSON_TRUE}, {{"false", 5}, JSON_FALSE}, {{"null", 4}, JSON_NULL},
        {{"{", 1}, JSON_OBJECT},  {{"[", 1}, JSON_ARRAY},
    };
    const struct json_reader *r = d->r;
    const char *at = r->start + r->error_at;
    size_t left = (size_t)(r->end - at);
    char text[96];
    for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        struct view v = others[i].begins;
        if (left < v.n || memcmp(at, v.p, v.n) != 0)
            continue;
        snprintf(text, sizeof(text), "%s, got %s", r->error, oip_json_came(others[i].token));
        return say(d, e, text, r->error_at);
    }
    return say(d, e, r->error, r->error_at);
}

static bool no_memory(struct error *e)
{
    return error_set(e, STATUS_UNAVAILABLE, "out of memory");
}

static bool is_float(const struct tensor *t)
{
    return t->dtype == DT_FP32 || t->dtype == DT_FP64;
}

static void start_pass(struct oip_data *d)
{
    d->got = 0;
    d->bytes = 0;
    d->depth = 1;
    d->leaf = 0;
    memset(d->seen, 0, sizeof(d->seen));
    memset(d->width, -1, sizeof(d->width));
}

bool oip_data_begin(struct oip_data *d, struct json_reader *r, struct arena *a, struct tensor *t,
                    const struct oip_place *at, struct error *e)
{
    d->r = r;
    d->arena = a;
    d->t = t;
    d->at = *at;
    d->values = NULL;
    d->over = false;
    d->until = NULL;
    d->measuring = t->dtype == DT_BYTES;
    r->nul = t->dtype == DT_BYTES;
    r->words = is_float(t);
    d->opened = *r;
    start_pass(d);
    char shape[96];
    if (!dtype_table[t->dtype].json)
        return error_set(e, STATUS_BAD_REQUEST,
                         "%s[%u].data: %s has no JSON form, send it with binary_data_size",
                         at->what, at->index, dtype_table[t->dtype].name);
    uint64_t room = (uint64_t)(r->end - r->at) / 2 + 1; // a value and its comma
    if (!tensor_count(t, &d->count))
        return error_set(e, STATUS_BAD_REQUEST, "%s[%u].shape: the size of %s is out of range",
                         at->what, at->index, oip_shape_text(shape, t));
    if (d->count > room)
        return error_set(e, STATUS_BAD_REQUEST,
                         "%s[%u].data: expected %" PRIu64
                         " %s values for shape %s, the body has room for at most %" PRIu64,
                         at->what, at->index, d->count, dtype_table[t->dtype].name,
                         oip_shape_text(shape, t), room);
    if (d->count && !d->measuring) {
        d->values = arena_array(a, d->count, dtype_table[t->dtype].bytes);
        if (!d->values)
            return no_memory(e);
    }
    return true;
}

// ---- the shape of the nesting --------------------------------------------------------------------------

static bool on_open(struct oip_data *d, struct error *e)
{
    if (d->leaf && d->depth >= d->leaf)
        return wrong(d, e, "ragged: an array where a value stood before");
    if (d->depth >= (d->t->rank ? d->t->rank : 1))
        return wrong(d, e, "nested deeper than the shape");
    d->seen[d->depth++]++;
    d->seen[d->depth] = 0;
    return true;
}

static bool on_close(struct oip_data *d, struct error *e)
{
    if (!d->leaf)
        d->leaf = d->depth;
    if (d->width[d->depth] < 0)
        d->width[d->depth] = d->seen[d->depth];
    else if (d->width[d->depth] != d->seen[d->depth])
        return wrong(d, e, "ragged: arrays of one depth differ in length");
    d->depth--;
    return true;
}

static bool on_values(struct oip_data *d, size_t n, struct error *e)
{
    if (n == 0)
        return true;
    if (!d->leaf)
        d->leaf = d->depth;
    else if (d->leaf != d->depth)
        return wrong(d, e, "ragged: a value where an array stood before");
    d->seen[d->depth] += (int64_t)n;
    d->got += n;
    return true;
}

// ---- values --------------------------------------------------------------------------------------------

static const struct {
    int64_t low, high;
} narrow[DT_COUNT] = {
    [DT_UINT8] = {0, UINT8_MAX},         [DT_UINT16] = {0, UINT16_MAX},
    [DT_UINT32] = {0, UINT32_MAX},       [DT_INT8] = {INT8_MIN, INT8_MAX},
    [DT_INT16] = {INT16_MIN, INT16_MAX}, [DT_INT32] = {INT32_MIN, INT32_MAX},
};

// Little-endian: the low bytes are the narrow value.
static enum json_token read_narrow(struct oip_data *d, uint8_t *out, size_t max, size_t *n)
{
    int64_t wide[256];
    enum dtype dtype = d->t->dtype;
    size_t size = dtype_table[dtype].bytes;
    enum json_token token = json_numbers_i64(d->r, wide, max < 256 ? max : 256, n);
    for (size_t i = 0; i < *n; i++) {
        if (wide[i] < narrow[dtype].low || wide[i] > narrow[dtype].high) {
            *n = i;
            d->over = true;
            return JSON_ERROR;
        }
        memcpy(out + i * size, &wide[i], size);
    }
    return token;
}

static enum json_token read_numbers(struct oip_data *d, size_t *n)
{
    uint8_t *out = d->values + d->got * dtype_table[d->t->dtype].bytes;
    uint64_t left = d->count - d->got;
    size_t max = left < CHUNK ? (size_t)left : CHUNK;
    switch (d->t->dtype) {
    case DT_FP32:
        return json_numbers_f32(d->r, (float *)out, max, n);
    case DT_FP64:
        return json_numbers_f64(d->r, (double *)out, max, n);
    case DT_INT64:
        return json_numbers_i64(d->r, (int64_t *)out, max, n);
    case DT_UINT64:
        return json_numbers_u64(d->r, (uint64_t *)out, max, n);
    default:
        return read_narrow(d, out, max, n);
    }
}

// The three strings that stand for floats without a JSON form.
static bool take_not_finite(struct oip_data *d, struct error *e)
{
    double v;
    if (!is_float(d->t))
        return expected(d, e, "a number", JSON_STRING);
    if (view_is(d->r->text, "NaN"))
        v = __builtin_nan("");
    else if (view_is(d->r->text, "Infinity"))
        v = __builtin_inf();
    else if (view_is(d->r->text, "-Infinity"))
        v = -__builtin_inf();
    else
        return wrong(
            d, e, "expected a number, \"NaN\", \"Infinity\" or \"-Infinity\", got another string");
    if (d->got == d->count)
        return oip_wrong_count(e, &d->at, d->t, UINT64_MAX);
    float f = (float)v;
    if (d->t->dtype == DT_FP32)
        memcpy(d->values + d->got * sizeof(f), &f, sizeof(f));
    else
        memcpy(d->values + d->got * sizeof(v), &v, sizeof(v));
    return on_values(d, 1, e);
}

// A string's bytes into the values, a slice at a time; their number before them when it is known.
static bool copy_string(struct oip_data *d, struct error *e)
{
    char *begin = (char *)d->values + d->bytes + 4;
    json_unescape_some(&d->from, d->until, &d->to, STRING_SLICE);
    if (d->from < d->until)
        return true;
    d->until = NULL;
    uint32_t n = (uint32_t)(d->to - begin);
    memcpy(begin - 4, &n, sizeof(n));
    d->bytes += 4 + n;
    return on_values(d, 1, e);
}

static bool take_string(struct oip_data *d, struct error *e)
{
    struct view v = d->r->text;
    if (d->measuring) {
        d->bytes += 4 + v.n; // decoding only makes it shorter
        return on_values(d, 1, e);
    }
    d->from = v.p;
    d->until = v.p + v.n;
    d->to = (char *)d->values + d->bytes + 4;
    return copy_string(d, e);
}

// One token of BOOL or BYTES, or of numbers when no more are expected.
static bool step_token(struct oip_data *d, struct error *e)
{
    enum json_token token = json_next(d->r);
    switch (token) {
    case JSON_ERROR:
        return broken(d, e);
    case JSON_ARRAY:
        return on_open(d, e);
    case JSON_ARRAY_END:
        return on_close(d, e);
    case JSON_MORE:
        return true;
    default:
        break;
    }
    bool boolean = token == JSON_TRUE || token == JSON_FALSE;
    if (d->t->dtype == DT_BOOL && !boolean)
        return expected(d, e, "true or false", token);
    if (d->t->dtype == DT_BYTES && token != JSON_STRING)
        return expected(d, e, "a string", token);
    if (d->got == d->count)
        return oip_wrong_count(e, &d->at, d->t, UINT64_MAX);
    if (d->t->dtype == DT_BYTES)
        return take_string(d, e);
    d->values[d->got] = token == JSON_TRUE;
    return on_values(d, 1, e);
}

static bool step_numbers(struct oip_data *d, struct error *e)
{
    size_t n;
    enum json_token token = read_numbers(d, &n);
    if (!on_values(d, n, e))
        return false;
    switch (token) {
    case JSON_ARRAY_END:
        return on_close(d, e);
    case JSON_ARRAY:
        return on_open(d, e);
    case JSON_NULL: // the chunk is full
        return true;
    case JSON_STRING:
        return take_not_finite(d, e);
    case JSON_MORE:
        return expected(d, e, "a number", JSON_STRING);
    default:
        return d->over ? error_set(e, STATUS_BAD_REQUEST,
                                   "%s[%u].%s: number is out of range (%s, element %" PRIu64 ")",
                                   d->at.what, d->at.index, d->at.field,
                                   dtype_table[d->t->dtype].name, d->got)
                       : broken(d, e);
    }
}

static bool finish(struct oip_data *d, struct error *e)
{
    struct tensor *t = d->t;
    if (d->got != d->count)
        return oip_wrong_count(e, &d->at, t, d->got);
    for (unsigned i = 0; d->leaf > 1 && d->leaf == t->rank && i < t->rank; i++) {
        char shape[96];
        if (d->width[i + 1] >= 0 && d->width[i + 1] != tensor_dim(t, i))
            return error_set(e, STATUS_BAD_REQUEST,
                             "%s[%u].%s: nested arrays do not follow shape %s", d->at.what,
                             d->at.index, d->at.field, oip_shape_text(shape, t));
    }
    if (t->dtype != DT_BYTES)
        d->bytes = d->count * dtype_table[t->dtype].bytes;
    t->bytes = d->bytes;
    t->data = d->bytes ? d->values : NULL;
    return true;
}

// BYTES: the size is known now; read once more, this time into memory.
static bool second_pass(struct oip_data *d, struct error *e)
{
    if (d->got != d->count)
        return oip_wrong_count(e, &d->at, d->t, d->got);
    if (d->bytes && !(d->values = arena_alloc(d->arena, d->bytes)))
        return no_memory(e);
    *d->r = d->opened;
    d->measuring = false;
    start_pass(d);
    return true;
}

static bool step_values(struct oip_data *d, struct error *e)
{
    if (d->until)
        return copy_string(d, e);
    bool tokens = d->t->dtype == DT_BOOL || d->t->dtype == DT_BYTES;
    return tokens || d->got == d->count ? step_token(d, e) : step_numbers(d, e);
}

enum oip_step oip_data_step(struct oip_data *d, size_t max_bytes, struct error *e)
{
    const char *start = d->r->at;
    for (;;) {
        while (d->depth) {
            if ((size_t)(d->r->at - start) >= max_bytes)
                return OIP_MORE;
            if (!step_values(d, e))
                return OIP_ERROR;
            if (d->until || d->r->resume) // a slice was a step's work
                return OIP_MORE;
        }
        if (!d->measuring)
            return finish(d, e) ? OIP_DONE : OIP_ERROR;
        if (!second_pass(d, e))
            return OIP_ERROR;
        return OIP_MORE; // `start` lies ahead of the reader now
    }
}
