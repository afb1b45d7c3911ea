// Shapes of attention, in ONNX's spelling and in com.microsoft's. As engine/shapes.c: whatever a kernel relies on
// is checked here. Source: onnx/onnx docs/Operators.md; onnxruntime docs/ContribOperators.md.
#include "engine/ops.h"

static bool is_f32(const struct array *a)
{
    return a->dtype == ENGINE_F32;
}

// [rows, heads, length, width], or [rows, length, heads * width].
static bool heads_of(const struct array *a, int64_t heads, struct attention_side *s)
{
    if (a->rank == 4) {
        *s = (struct attention_side){a->shape[0], a->shape[1], a->shape[2], a->shape[3]};
        return true;
    }
    if (a->rank != 3 || heads < 1 || a->shape[2] % heads != 0)
        return false;
    *s = (struct attention_side){a->shape[0], heads, a->shape[1], a->shape[2] / heads};
    return true;
}

// Is a broadcast to [rows, heads, queries, keys], but that its last axis may be shorter?
static bool mask_fits(const struct array *m, const struct attention *a)
{
    const int64_t to[4] = {a->q.rows, a->q.heads, a->q.length, a->keys};
    if (m->rank < 1 || m->rank > 4 || (m->dtype != ENGINE_BOOL && !is_f32(m)))
        return false;
    for (unsigned i = 0; i < m->rank; i++) {
        int64_t dim = m->shape[m->rank - 1 - i], want = to[3 - i];
        if (i == 0 ? dim > want : dim != want && dim != 1)
            return false;
    }
    return true;
}

bool attention_of(const struct job *job, struct attention *a, struct engine_error *e)
{
    struct job *j = (struct job *)job;
    const struct array *past_k = job_input(j, 4), *past_v = job_input(j, 5),
                       *valid = job_input(j, 6);
    int64_t q_heads = node_int(j->node, "q_num_heads", 0),
            heads = node_int(j->node, "kv_num_heads", 0);
    memset(a, 0, sizeof(*a));
    for (unsigned i = 0; i < 6; i++) {
        if (i != 3 && job_input(j, i) && !is_f32(j->in[i]))
            return shape_wrong(j, e, "expected floats of 16 or 32 bits");
    }
    if (!heads_of(j->in[0], q_heads, &a->q) || !heads_of(j->in[1], heads, &a->k) ||
        !heads_of(j->in[2], heads, &a->v) || j->in[1]->rank != j->in[0]->rank ||
        j->in[2]->rank != j->in[0]->rank)
        return shape_wrong(j, e,
                           "expected queries, keys and values of three or four dimensions; heads");
    if (a->k.rows != a->q.rows || a->v.rows != a->q.rows || a->k.heads != a->v.heads ||
        a->k.length != a->v.length || a->k.width != a->q.width || a->k.heads < 1 ||
        a->q.heads % a->k.heads != 0 || a->q.width < 1)
        return shape_wrong(j, e, "queries, keys and values do not fit each other");
    if (!past_k != !past_v || (past_k && valid))
        return shape_wrong(j, e, "past: expected both keys and values, and no lengths beside them");
    if (past_k) {
        struct attention_side k, v;
        if (past_k->rank != 4 || past_v->rank != 4 || !heads_of(past_k, 0, &k) ||
            !heads_of(past_v, 0, &v) || k.rows != a->q.rows || v.rows != a->q.rows ||
            k.heads != a->k.heads || v.heads != a->k.heads || k.width != a->k.width ||
            v.width != a->v.width || k.length != v.length)
            return shape_wrong(j, e, "past keys and values do not fit the others");
        a->past = k.length;
    }
    a->keys = a->past + a->k.length;
    if (job_input(j, 3) && !mask_fits(j->in[3], a))
        return shape_wrong(j, e, "mask: expected bools or floats that can be broadcast");
    if (valid && (valid->dtype != ENGINE_I64 || valid->rank != 1 || valid->shape[0] != a->q.rows))
        return shape_wrong(j, e, "lengths: expected one int64 a row");
    return a->keys > 0 || shape_wrong(j, e, "expected keys");
}

bool shape_attention(struct job *j, struct engine_error *e)
{
    struct attention a;
    int64_t mode = node_int(j->node, "qk_matmul_output_mode", 0);
    if (!attention_of(j, &a, e))
        return false;
    if (mode < 0 || mode > 3 || node_int(j->node, "left_window_size", -1) < -1 ||
        node_int(j->node, "right_window_size", -1) < -1)
        return shape_wrong(j, e, "qk_matmul_output_mode or a window size: out of range");
    int64_t four[4] = {a.q.rows, a.q.heads, a.q.length, a.v.width};
    int64_t three[3] = {a.q.rows, a.q.length, a.q.heads * a.v.width};
    bool flat = j->in[0]->rank == 3;
    return shape_make(j, ENGINE_F32, flat ? 3 : 4, flat ? three : four, e) &&
           shape_make_at(j, 1, ENGINE_F32, 4, (int64_t[]){a.k.rows, a.k.heads, a.keys, a.k.width},
                         e) &&
           shape_make_at(j, 2, ENGINE_F32, 4, (int64_t[]){a.v.rows, a.v.heads, a.keys, a.v.width},
                         e) &&
           shape_make_at(j, 3, ENGINE_F32, 4, (int64_t[]){a.q.rows, a.q.heads, a.q.length, a.keys},
                         e);
}

bool rotary_of(const struct job *job, struct rotary *r, struct engine_error *e)
{
    struct job *j = (struct job *)job;
    const struct array *x = j->in[0], *c = j->in[1], *s = j->in[2], *at = job_input(j, 3);
    int64_t heads = node_int(j->node, "num_heads", 0);
    if (!is_f32(x) || !is_f32(c) || !is_f32(s) || !heads_of(x, heads, &r->x))
        return shape_wrong(j, e,
                           "expected float32 of three dimensions, with num_heads, or of four");
    int64_t width = node_int(j->node, "rotary_embedding_dim", 0);
    r->width = width == 0 ? r->x.width : width;
    unsigned rank = at ? 2 : 3;
    bool fits = c->rank == rank && s->rank == rank && r->width >= 0 && r->width % 2 == 0 &&
                r->width <= r->x.width &&
                memcmp(c->shape, s->shape, rank * sizeof(c->shape[0])) == 0 &&
                c->shape[rank - 1] == r->width / 2;
    if (!fits || (!at && (c->shape[0] != r->x.rows || c->shape[1] != r->x.length)) ||
        (at && (at->dtype != ENGINE_I64 || at->rank != 2 || at->shape[0] != r->x.rows ||
                at->shape[1] != r->x.length)))
        return shape_wrong(j, e, "caches, positions: do not fit the input");
    return true;
}

bool shape_rotary(struct job *j, struct engine_error *e)
{
    struct rotary r;
    return rotary_of(j, &r, e) && shape_make(j, ENGINE_F32, j->in[0]->rank, j->in[0]->shape, e);
}

// ---- com.microsoft -----------------------------------------------------------------------------------

// How a mask of int32 marks keys: lengths [rows], or [rows, keys].
static bool keys_marked(const struct array *m, int64_t rows, int64_t keys)
{
    return m->dtype == ENGINE_I32 && m->shape[0] == rows &&
           (m->rank == 1 || (m->rank == 2 && m->shape[1] == keys));
}

// input, weights, bias, mask.
bool shape_ms_attention(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *w = j->in[1], *b = job_input(j, 2), *mask = job_input(j, 3);
    const struct attr *sizes = node_attr(j->node, "qkv_hidden_sizes");
    int64_t heads = node_int(j->node, "num_heads", 0);
    for (unsigned i = 4; i < j->node->n_inputs; i++) {
        if (j->in[i])
            return shape_wrong(j, e, "past and attention_bias are not supported");
    }
    if (!is_f32(x) || !is_f32(w) || x->rank != 3 || w->rank != 2 || w->shape[0] != x->shape[2] ||
        w->shape[1] % 3 != 0 || sizes)
        return shape_wrong(
            j, e, "expected float32 [rows, length, width], weights of three times a width");
    int64_t hidden = w->shape[1] / 3;
    if (heads < 1 || hidden % heads != 0 || hidden < 1 ||
        (b && (!is_f32(b) || b->rank != 1 || b->shape[0] != w->shape[1])))
        return shape_wrong(j, e, "num_heads, bias: do not fit the weights");
    if (mask && !keys_marked(mask, x->shape[0], x->shape[1]))
        return shape_wrong(j, e, "mask: expected int32, lengths or one a key");
    if (node_int(j->node, "do_rotary", 0) != 0 ||
        node_int(j->node, "past_present_share_buffer", 0) != 0)
        return shape_wrong(j, e, "do_rotary: expected 0");
    return shape_make(j, ENGINE_F32, 3, (int64_t[]){x->shape[0], x->shape[1], hidden}, e);
}

// query, key, value, bias, mask, attention_bias.
bool shape_multi_head(struct job *j, struct engine_error *e)
{
    const struct array *q = j->in[0], *k = job_input(j, 1), *v = job_input(j, 2),
                       *b = job_input(j, 3), *mask = job_input(j, 4), *add = job_input(j, 5);
    int64_t heads = node_int(j->node, "num_heads", 0);
    for (unsigned i = 6; i < j->node->n_inputs; i++) {
        if (j->in[i])
            return shape_wrong(j, e, "past is not supported");
    }
    if (!k || !v || !is_f32(q) || !is_f32(k) || !is_f32(v) || q->rank != 3 || k->rank != 3 ||
        v->rank != 3 || heads < 1 || q->shape[2] % heads != 0 || v->shape[2] % heads != 0 ||
        q->shape[2] != k->shape[2] || q->shape[0] != k->shape[0] || q->shape[0] != v->shape[0] ||
        k->shape[1] != v->shape[1] || q->shape[2] < 1 || k->shape[1] < 1)
        return shape_wrong(
            j, e, "expected float32 queries, keys and values of three dimensions that fit");
    if (b && (!is_f32(b) || b->rank != 1 || b->shape[0] != 2 * q->shape[2] + v->shape[2]))
        return shape_wrong(j, e, "bias: expected one a column of queries, keys and values");
    if (mask && !keys_marked(mask, q->shape[0], k->shape[1]))
        return shape_wrong(j, e, "key_padding_mask: expected int32, lengths or one a key");
    struct attention a = {.q = {q->shape[0], heads, q->shape[1], 0}, .keys = k->shape[1]};
    if (add && (add->rank != 4 || !is_f32(add) || !mask_fits(add, &a) || add->shape[3] != a.keys))
        return shape_wrong(
            j, e, "attention_bias: expected float32 of four dimensions that can be broadcast");
    return shape_make(j, ENGINE_F32, 3, (int64_t[]){q->shape[0], q->shape[1], v->shape[2]}, e);
}

bool fused_of(const struct job *job, struct array *a, struct array *b, struct matmul *m,
              struct engine_error *e)
{
    struct job *j = (struct job *)job;
    struct array *both[] = {a, b};
    static const char *const names[] = {"transA", "transB"};
    for (unsigned k = 0; k < 2; k++) {
        *both[k] = *j->in[k];
        unsigned rank = both[k]->rank;
        if (node_int(j->node, names[k], 0) == 0 || rank < 2)
            continue;
        both[k]->shape[rank - 2] = j->in[k]->shape[rank - 1];
        both[k]->shape[rank - 1] = j->in[k]->shape[rank - 2];
    }
    return matmul_of(j, a, b, m, e);
}

bool shape_fused_matmul(struct job *j, struct engine_error *e)
{
    struct array a, b;
    struct matmul m;
    if (!is_f32(j->in[0]) || !is_f32(j->in[1]))
        return shape_wrong(j, e, "expected float32");
    if (node_int(j->node, "transBatchA", 0) != 0 || node_int(j->node, "transBatchB", 0) != 0)
        return shape_wrong(j, e, "transBatchA, transBatchB: expected 0");
    return fused_of(j, &a, &b, &m, e) && shape_make(j, ENGINE_F32, m.rank, m.shape, e);
}
