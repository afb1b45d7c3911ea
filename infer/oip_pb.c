#include "infer/oip_pb.h"
#include "base/json_inside.h" // json_utf8_length

bool oip_text(struct view v)
{
    if (v.n == 0) // .p may be NULL, to which nothing may be added
        return true;
    if (v.n > OIP_MAX_TEXT)
        return false;
    for (const char *p = v.p, *end = v.p + v.n; p < end;) {
        unsigned n = json_utf8_length(p, end);
        if (n == 0)
            return false;
        p += n;
    }
    return true;
}

// ---- parameters ----------------------------------------------------------------------------------------

static bool param_value(struct view message, struct param *out)
{
    struct pb_reader r;
    struct pb_field f;
    bool has = false;
    pb_read(&r, message);
    for (unsigned n = 0; pb_next(&r, &f); n++) {
        if (n == OIP_MAX_ENTRY)
            return false;
        if (f.number < 1 || f.number > 5)
            continue;
        static const struct {
            enum pb_wire wire;
            enum param_type type;
        } choice[6] = {[1] = {PB_VARINT, PARAM_BOOL},
                       [2] = {PB_VARINT, PARAM_INT64},
                       [3] = {PB_LEN, PARAM_STRING},
                       [4] = {PB_I64, PARAM_DOUBLE},
                       [5] = {PB_VARINT, PARAM_UINT64}};
        if (f.wire != choice[f.number].wire)
            return false;
        has = true;
        out->type = choice[f.number].type;
        out->s = f.data;
        if (out->type == PARAM_BOOL)
            out->b = f.value != 0;
        else
            memcpy(&out->u, &f.value, sizeof(out->u)); // i, u and d are 8 bytes in one union
    }
    return !r.error && has && (out->type != PARAM_STRING || oip_text(out->s));
}

bool oip_pb_param(struct view entry, struct param *out)
{
    struct pb_reader r;
    struct pb_field f;
    struct view value = {0};
    *out = (struct param){0};
    pb_read(&r, entry);
    for (unsigned n = 0; pb_next(&r, &f); n++) {
        if (n == OIP_MAX_ENTRY)
            return false;
        if (f.number > 2)
            continue;
        if (f.wire != PB_LEN)
            return false;
        *(f.number == 1 ? &out->key : &value) = f.data;
    }
    return !r.error && oip_text(out->key) && param_value(value, out);
}

static size_t value_size(const struct param *p)
{
    switch (p->type) {
    case PARAM_BOOL:
        return 2;
    case PARAM_INT64:
        return pb_uint_size(2, (uint64_t)p->i);
    case PARAM_STRING:
        return pb_len_size(3, p->s.n);
    case PARAM_DOUBLE:
        return 9;
    case PARAM_UINT64:
        return pb_uint_size(5, p->u);
    }
    return 0;
}

static uint8_t *w_value(uint8_t *at, const struct param *p)
{
    switch (p->type) {
    case PARAM_BOOL:
        return pb_w_uint(at, 1, p->b);
    case PARAM_INT64:
        return pb_w_uint(at, 2, (uint64_t)p->i);
    case PARAM_STRING:
        return pb_w_bytes(at, 3, p->s);
    case PARAM_DOUBLE:
        at = pb_w_tag(at, 4, PB_I64);
        memcpy(at, &p->d, sizeof(p->d));
        return at + sizeof(p->d);
    case PARAM_UINT64:
        return pb_w_uint(at, 5, p->u);
    }
    return at;
}

static size_t entry_size(const struct param *p)
{
    return pb_len_size(1, p->key.n) + pb_len_size(2, value_size(p));
}

size_t oip_pb_param_size(uint32_t field, const struct param *p)
{
    return pb_len_size(field, entry_size(p));
}

uint8_t *oip_pb_w_param(uint8_t *at, uint32_t field, const struct param *p)
{
    at = pb_w_len(at, field, entry_size(p));
    at = pb_w_bytes(at, 1, p->key);
    at = pb_w_len(at, 2, value_size(p));
    return w_value(at, p);
}

size_t oip_pb_params_size(uint32_t field, const struct params *l)
{
    size_t n = 0;
    for (unsigned i = 0; l && i < l->n; i++)
        n += oip_pb_param_size(field, &l->at[i]);
    return n;
}

uint8_t *oip_pb_w_params(uint8_t *at, uint32_t field, const struct params *l)
{
    for (unsigned i = 0; l && i < l->n; i++)
        at = oip_pb_w_param(at, field, &l->at[i]);
    return at;
}

// ---- tensors -------------------------------------------------------------------------------------------

struct pb_tensor { // one that is being read
    struct arena *arena;
    struct tensor *t;
    struct view *contents;
    struct params_sum *sum;
    const struct oip_place *at;
    unsigned dims; // that came
};

static bool add_dim(struct pb_tensor *d, uint64_t v, struct error *e)
{
    d->dims++;
    if ((int64_t)v < 0)
        return error_set(e, STATUS_BAD_REQUEST,
                         "%s[%u].shape: expected non-negative integers, got a negative one",
                         d->at->what, d->at->index);
    return d->dims > TENSOR_MAX_RANK || tensor_add_dim(d->arena, d->t, (int64_t)v) ||
           error_set(e, STATUS_UNAVAILABLE, "out of memory");
}

static bool malformed(const struct oip_place *at, const char *why, struct error *e)
{
    return error_set(e, STATUS_BAD_REQUEST, "%s[%u]: %s", at->what, at->index,
                     why ? why : "a field has another wire type");
}

static bool read_dims(struct pb_tensor *d, const struct pb_field *f, struct error *e)
{
    struct pb_reader run;
    uint64_t v;
    if (d->dims >= OIP_RANK_COUNTED)
        return true;
    if (f->wire == PB_VARINT)
        return add_dim(d, f->value, e);
    if (f->wire != PB_LEN)
        return malformed(d->at, NULL, e);
    pb_read(&run, f->data);
    while (d->dims < OIP_RANK_COUNTED && pb_packed_varint(&run, &v)) {
        if (!add_dim(d, v, e))
            return false;
    }
    return !run.error || malformed(d->at, run.error, e);
}

static bool tensor_param(struct pb_tensor *d, struct view entry, struct error *e)
{
    struct param p;
    if (!oip_pb_param(entry, &p))
        return malformed(d->at, "a parameter cannot be read", e);
    if (oip_is_shared_memory(p.key))
        return malformed(d->at, "shared memory is not served over a network", e);
    return oip_is_framing(p.key) || oip_add_param(d->arena, &d->t->params, &p, d->sum, d->at, e);
}

static bool tensor_field(struct pb_tensor *d, const struct pb_field *f, struct error *e)
{
    if (f->number > 5)
        return true;
    if (f->number == 3)
        return read_dims(d, f, e);
    if (f->wire != PB_LEN)
        return malformed(d->at, NULL, e);
    switch (f->number) {
    case 1:
        d->t->name = f->data;
        return true;
    case 2:
        d->t->dtype = dtype_of(f->data);
        return true;
    case 4:
        return tensor_param(d, f->data, e);
    default:
        if (d->contents->p)
            return malformed(d->at, "has contents twice", e);
        *d->contents = f->data;
        return true;
    }
}

static bool check_tensor(const struct pb_tensor *d, struct error *e)
{
    const struct oip_place *at = d->at;
    char came[16];
    if (d->dims > TENSOR_MAX_RANK)
        return error_set(e, STATUS_BAD_REQUEST,
                         "%s[%u].shape: expected at most %d dimensions, got %s", at->what,
                         at->index, TENSOR_MAX_RANK, oip_rank_text(came, d->dims));
    if (d->t->name.n == 0 || !oip_text(d->t->name))
        return error_set(e, STATUS_BAD_REQUEST, "%s[%u].name: expected a name", at->what,
                         at->index);
    if (d->t->dtype == DT_INVALID)
        return error_set(e, STATUS_BAD_REQUEST,
                         "%s[%u].datatype: expected a known datatype, got another text", at->what,
                         at->index);
    return true;
}

bool oip_pb_tensor(struct arena *a, struct view message, struct tensor *t, struct view *contents,
                   struct params_sum *sum, const struct oip_place *at, struct error *e)
{
    struct pb_tensor d = {.arena = a, .t = t, .contents = contents, .sum = sum, .at = at};
    struct pb_reader r;
    struct pb_field f;
    *t = (struct tensor){0};
    *contents = (struct view){0};
    pb_read(&r, message);
    for (unsigned n = 0; pb_next(&r, &f); n++) {
        if (n == OIP_MAX_FIELDS)
            return malformed(at, "has too many fields", e);
        if (!tensor_field(&d, &f, e))
            return false;
    }
    if (r.error)
        return malformed(at, r.error, e);
    return check_tensor(&d, e);
}

static uint64_t dim(const struct tensor *t, unsigned i, int64_t first)
{
    return (uint64_t)(i == 0 && first > 0 ? first : tensor_dim(t, i));
}

static size_t dims_size(const struct tensor *t, int64_t first)
{
    size_t n = 0;
    for (unsigned i = 0; i < t->rank; i++)
        n += pb_varint_size(dim(t, i, first));
    return n;
}

static struct view dtype_name(const struct tensor *t)
{
    return view_str(dtype_table[t->dtype].name);
}

static size_t tensor_body_size(const struct tensor *t, int64_t first)
{
    return pb_len_size(1, t->name.n) + pb_len_size(2, dtype_name(t).n) +
           (t->rank ? pb_len_size(3, dims_size(t, first)) : 0) + oip_pb_params_size(4, t->params);
}

size_t oip_pb_tensor_size(uint32_t field, const struct tensor *t, int64_t first)
{
    return pb_len_size(field, tensor_body_size(t, first));
}

uint8_t *oip_pb_w_tensor(uint8_t *at, uint32_t field, const struct tensor *t, int64_t first)
{
    at = pb_w_len(at, field, tensor_body_size(t, first));
    at = pb_w_bytes(at, 1, t->name);
    at = pb_w_bytes(at, 2, dtype_name(t));
    if (t->rank)
        at = pb_w_len(at, 3, dims_size(t, first));
    for (unsigned i = 0; i < t->rank; i++)
        at = pb_w_varint(at, dim(t, i, first));
    return oip_pb_w_params(at, 4, t->params);
}
