#include "infer/oip.h"
#include <inttypes.h>
#include <stdio.h>

const struct view oip_extensions[OIP_EXTENSIONS] = {
    {"binary_tensor_data", 18},  {"model_configuration", 19}, {"schedule_policy", 15},
    {"parameters", 10},          {"statistics", 10},          {"sequence", 8},
    {"sequence(string_id)", 19},
};

void *oip_grown(struct arena *a, void *old, unsigned n, unsigned *cap, size_t size)
{
    if (n < *cap)
        return old;
    unsigned more = *cap ? *cap * 2 : 4;
    void *p = arena_array(a, more, size);
    if (!p)
        return NULL;
    if (n)
        memcpy(p, old, n * size);
    *cap = more;
    return p;
}

static bool is_unsigned(const struct param *p, uint64_t *out)
{
    if (p->type == PARAM_UINT64)
        *out = p->u;
    else if (p->type == PARAM_INT64 && p->i >= 0)
        *out = (uint64_t)p->i;
    else
        return false;
    return true;
}

const char *oip_param_came(const struct param *p)
{
    switch (p->type) {
    case PARAM_BOOL:
        return p->b ? "true" : "false";
    case PARAM_INT64:
        return p->i < 0 ? "a negative integer" : "an integer";
    case PARAM_UINT64:
        return p->u > INT64_MAX ? "an integer of 2^63 or more" : "an integer";
    case PARAM_DOUBLE:
        return "a fraction";
    case PARAM_STRING:
        return "a string";
    }
    return "something else";
}

static bool keep(struct infer_request *r, const struct param *p, struct error *e)
{
    if (r->n_params == INFER_MAX_PARAMS)
        return error_set(e, STATUS_BAD_REQUEST, "parameters: more than %d", INFER_MAX_PARAMS);
    if (p->key.n == 0 || p->key.n > PARAMS_KEY_MOST)
        return error_set(e, STATUS_BAD_REQUEST, "parameters: expected keys of 1 to %d bytes",
                         PARAMS_KEY_MOST);
    r->params[r->n_params++] = *p;
    return true;
}

static bool take_timeout(struct infer_request *r, const struct param *p, struct error *e)
{
    if (!is_unsigned(p, &r->timeout_us))
        return error_set(
            e, STATUS_BAD_REQUEST,
            "parameters.timeout: expected microseconds as a non-negative integer, got %s",
            oip_param_came(p));
    return true;
}

static bool take_priority(struct infer_request *r, const struct param *p, struct error *e)
{
    uint64_t v;
    if (!is_unsigned(p, &v))
        return error_set(e, STATUS_BAD_REQUEST,
                         "parameters.priority: expected a non-negative integer, got %s",
                         oip_param_came(p));
    r->priority = v > 255 ? 255 : (uint8_t)v;
    return true;
}

// Zero and the empty string mean "no sequence".
static bool take_sequence_id(struct infer_request *r, const struct param *p, struct error *e)
{
    uint64_t v = 0;
    if (p->type != PARAM_STRING && !is_unsigned(p, &v))
        return error_set(
            e, STATUS_BAD_REQUEST,
            "parameters.sequence_id: expected a non-negative integer or a string, got %s",
            oip_param_came(p));
    if (p->type == PARAM_STRING ? p->s.n == 0 : v == 0)
        return true;
    struct view id = p->type == PARAM_STRING ? p->s : view_of(&v, sizeof(v));
    r->sequence_id = hash64(id, p->type == PARAM_STRING) | 1; // never 0
    return keep(r, p, e);
}

static bool take_sequence_flag(struct infer_request *r, const struct param *p, struct error *e)
{
    if (p->type != PARAM_BOOL)
        return error_set(e, STATUS_BAD_REQUEST, "parameters.%s: expected true or false, got %s",
                         p->key.n == 14 ? "sequence_start" : "sequence_end", oip_param_came(p));
    if (p->key.n == 14)
        r->sequence_start = p->b;
    else
        r->sequence_end = p->b;
    return !p->b || keep(r, p, e);
}

static bool take_binary_output(struct infer_request *r, const struct param *p, struct error *e)
{
    if (p->type != PARAM_BOOL)
        return error_set(e, STATUS_BAD_REQUEST,
                         "parameters.binary_data_output: expected true or false, got %s",
                         oip_param_came(p));
    r->binary_output = p->b;
    return true;
}

// Its client wants the model that it names, or an error.
static bool take_chain(struct infer_request *r, const struct param *p, struct error *e)
{
    r->no_chain = p->type == PARAM_STRING && view_is(p->s, "none");
    return r->no_chain ||
           error_set(e, STATUS_BAD_REQUEST, "parameters.sluice-chain: expected \"none\"");
}

// Of streamed answers: means nothing for a single one.
static bool take_nothing(struct infer_request *r, const struct param *p, struct error *e)
{
    return true;
}

bool oip_take_param(struct infer_request *r, const struct param *p, struct error *e)
{
    static const struct {
        struct view key;
        bool (*take)(struct infer_request *, const struct param *, struct error *);
    } known[] = {
        {{"timeout", 7}, take_timeout},
        {{"priority", 8}, take_priority},
        {{"sequence_id", 11}, take_sequence_id},
        {{"sequence_start", 14}, take_sequence_flag},
        {{"sequence_end", 12}, take_sequence_flag},
        {{"binary_data_output", 18}, take_binary_output},
        {{"sluice-chain", 12}, take_chain},
        {{"triton_enable_empty_final_response", 34}, take_nothing},
    };
    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (view_eq(p->key, known[i].key))
            return known[i].take(r, p, e);
    if (p->key.n >= 7 && memcmp(p->key.p, "triton_", 7) == 0)
        return error_set(e, STATUS_BAD_REQUEST,
                         "parameters: keys that start with triton_ are reserved");
    return keep(r, p, e);
}

bool oip_add_param(struct arena *a, const struct params **list, const struct param *p,
                   struct params_sum *sum, const struct oip_place *at, struct error *e)
{
    const char *why = params_add(a, list, p, sum);
    if (!why)
        return true;
    if (why == PARAMS_NO_MEMORY)
        return error_set(e, STATUS_UNAVAILABLE, "out of memory");
    if (!at)
        return error_set(e, STATUS_BAD_REQUEST, "parameters: %s", why);
    return error_set(e, STATUS_BAD_REQUEST, "%s[%u].parameters: %s", at->what, at->index, why);
}

bool oip_is_shared_memory(struct view key)
{
    return key.n >= 14 && memcmp(key.p, "shared_memory_", 14) == 0;
}

bool oip_is_framing(struct view key)
{
    return view_is(key, "binary_data_size") || view_is(key, "binary_data");
}

const char *oip_rank_text(char out[16], unsigned came)
{
    snprintf(out, 16, "%u%s", came, came < OIP_RANK_COUNTED ? "" : " or more");
    return out;
}

const char *oip_shape_text(char out[96], const struct tensor *t)
{
    unsigned n = 0;
    out[n++] = '[';
    for (unsigned i = 0; i < t->rank; i++) {
        if (n > 70) { // room for one more number of 20 digits and the end
            n += (unsigned)snprintf(out + n, 96 - n, ",...");
            break;
        }
        n += (unsigned)snprintf(out + n, 96 - n, "%s%" PRId64, i ? "," : "", tensor_dim(t, i));
    }
    out[n++] = ']';
    out[n] = 0;
    return out;
}

bool oip_wrong_count(struct error *e, const struct oip_place *at, const struct tensor *t,
                     uint64_t got)
{
    char shape[96];
    uint64_t count = 0;
    tensor_count(t, &count);
    oip_shape_text(shape, t);
    const char *dtype = dtype_table[t->dtype].name;
    if (got == UINT64_MAX)
        return error_set(e, STATUS_BAD_REQUEST,
                         "%s[%u].%s: expected %" PRIu64 " %s values for shape %s, got more",
                         at->what, at->index, at->field, count, dtype, shape);
    return error_set(e, STATUS_BAD_REQUEST,
                     "%s[%u].%s: expected %" PRIu64 " %s values for shape %s, got %" PRIu64,
                     at->what, at->index, at->field, count, dtype, shape, got);
}

bool oip_check_raw(struct error *e, const struct oip_place *at, const struct tensor *t)
{
    char shape[96];
    uint64_t want;
    if (t->dtype == DT_BYTES) {
        uint64_t count;
        if (tensor_count(t, &count) && count <= t->bytes / 4)
            return true;
        return error_set(e, STATUS_BAD_REQUEST,
                         "%s[%u].%s: %zu bytes cannot hold BYTES of shape %s", at->what, at->index,
                         at->field, t->bytes, oip_shape_text(shape, t));
    }
    if (!tensor_size(t, &want))
        return error_set(e, STATUS_BAD_REQUEST, "%s[%u].shape: the size of %s %s is out of range",
                         at->what, at->index, dtype_table[t->dtype].name, oip_shape_text(shape, t));
    if (want != t->bytes)
        return error_set(e, STATUS_BAD_REQUEST,
                         "%s[%u].%s: expected %" PRIu64 " bytes for %s %s, got %zu", at->what,
                         at->index, at->field, want, dtype_table[t->dtype].name,
                         oip_shape_text(shape, t), t->bytes);
    return true;
}

bool oip_check_names(const struct infer_request *r, const char *inputs, struct error *e)
{
    for (unsigned i = 1; i < r->n_inputs; i++)
        for (unsigned k = 0; k < i; k++)
            if (view_eq(r->inputs[i].name, r->inputs[k].name))
                return error_set(e, STATUS_BAD_REQUEST, "%s[%u].name: same name as %s[%u]", inputs,
                                 i, inputs, k);
    for (unsigned i = 1; i < r->n_outputs; i++)
        for (unsigned k = 0; k < i; k++)
            if (view_eq(r->outputs[i].name, r->outputs[k].name))
                return error_set(e, STATUS_BAD_REQUEST,
                                 "outputs[%u].name: same name as outputs[%u]", i, k);
    return true;
}

bool oip_seal(struct infer_request *r, struct error *e)
{
    request_seal(r);
    return r->bytes > 0 || r->rows <= INFER_MAX_EMPTY_ROWS ||
           error_set(e, STATUS_BAD_REQUEST, "inputs[0].shape: %u rows without data, at most %d",
                     r->rows, INFER_MAX_EMPTY_ROWS);
}
