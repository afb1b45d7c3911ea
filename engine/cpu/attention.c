// Attention: one query at a time with all its keys, in float32; rotary embeddings; FusedMatMul.
#include "engine/cpu/cpu.h"

#include <math.h>

#define PARTS 8

static float dot(const float *a, const float *b, int64_t n)
{
    float part[PARTS] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + PARTS <= n; i += PARTS) {
        for (unsigned p = 0; p < PARTS; p++)
            part[p] += a[i + p] * b[i + p];
    }
    for (unsigned p = 0; i < n; i++, p++)
        part[p] += a[i] * b[i];
    for (unsigned p = 0; p < PARTS; p++)
        sum += part[p];
    return sum;
}

// ---- one query ---------------------------------------------------------------------------------------

struct side { // where row, head and place begin
    const float *p;
    int64_t row, head, step;
};

static struct side side_of(const float *p, bool flat, const struct attention_side *s)
{
    if (flat)
        return (struct side){p, s->length * s->heads * s->width, s->width, s->heads * s->width};
    return (struct side){p, s->heads * s->length * s->width, s->length * s->width, s->width};
}

static const float *side_at(const struct side *s, int64_t row, int64_t head, int64_t i)
{
    return s->p + row * s->row + head * s->head + i * s->step;
}

// Probabilities of n scores in place. All of them -inf: nobody is looked at.
static void weigh(float *s, int64_t n)
{
    float most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        most = s[i] > most || s[i] != s[i] ? s[i] : most;
    if (most == -INFINITY) {
        memset(s, 0, (size_t)n * sizeof(*s));
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        s[i] = expf(s[i] - most);
        sum += s[i];
    }
    for (int64_t i = 0; i < n; i++)
        s[i] /= sum;
}

static void gather_values(const float *s, const struct side *v, int64_t row, int64_t head,
                          int64_t n, int64_t width, float *y)
{
    memset(y, 0, (size_t)width * sizeof(*y));
    for (int64_t i = 0; i < n; i++) {
        const float *from = side_at(v, row, head, i);
        if (s[i] == 0)
            continue; // what is not looked at may be anything
        for (int64_t c = 0; c < width; c++)
            y[c] += s[i] * from[c];
    }
}

// ---- Attention ---------------------------------------------------------------------------------------

struct attending { // one node
    const struct job *j;
    struct attention a;
    struct side q, k, v;
    float scale, softcap;
    bool causal;
    int64_t left, right, mode;
    float *scores; // [keys], and as many of what is asked for
};

// Past and present, [rows, heads, keys, width], in `to`.
static void join_past(const struct array *past, const struct side *now,
                      const struct attention_side *s, int64_t before, float *to)
{
    for (int64_t row = 0; row < s->rows; row++) {
        for (int64_t head = 0; head < s->heads; head++) {
            const float *from =
                past ? (const float *)past->data + (row * s->heads + head) * before * s->width
                     : NULL;
            if (before > 0)
                memcpy(to, from, (size_t)(before * s->width) * sizeof(*to));
            to += before * s->width;
            for (int64_t i = 0; i < s->length; i++, to += s->width)
                memcpy(to, side_at(now, row, head, i), (size_t)s->width * sizeof(*to));
        }
    }
}

size_t cpu_attention_scratch(const struct job *j)
{
    struct attention a;
    struct engine_error e;
    if (!attention_of(j, &a, &e))
        return 0;
    size_t keys = (size_t)(a.k.rows * a.k.heads * a.keys);
    size_t joined = a.past > 0 ? keys * (size_t)(a.k.width + a.v.width) : 0;
    return (joined + (size_t)a.keys) * sizeof(float);
}

// Keys or values with the past ones before them: where they are asked for, else in scratch.
static struct side joined(const struct job *j, unsigned out, const struct array *past,
                          struct side now, const struct attention_side *s,
                          const struct attention *a, float **scratch)
{
    struct attention_side all = {s->rows, s->heads, a->keys, s->width};
    float *to = j->outs[out] ? j->outs[out]->data : NULL;
    if (!to && a->past == 0)
        return now;
    if (!to) {
        to = *scratch;
        *scratch += s->rows * s->heads * a->keys * s->width;
    }
    join_past(past, &now, s, a->past, to);
    return side_of(to, false, &all);
}

// What is added for the key: a mask's number; of bools and of what it does not reach -inf.
static float mask_at(const struct array *m, const int64_t *at)
{
    size_t place = 0, size = 1;
    for (unsigned i = 0; i < m->rank; i++) {
        int64_t dim = m->shape[m->rank - 1 - i], k = at[3 - i];
        if (i == 0 && k >= dim)
            return -INFINITY;
        place += dim == 1 && i > 0 ? 0 : (size_t)k * size;
        size *= (size_t)dim;
    }
    if (m->dtype == ENGINE_BOOL)
        return ((const uint8_t *)m->data)[place] ? 0 : -INFINITY;
    return ((const float *)m->data)[place];
}

static float bias_at(const struct attending *t, int64_t row, int64_t head, int64_t i, int64_t k)
{
    const struct array *mask = job_input(t->j, 3), *valid = job_input(t->j, 6);
    int64_t length = valid ? ((const int64_t *)valid->data)[row] : 0;
    int64_t offset = valid ? length - t->a.q.length : t->a.past, apart = i + offset - k;
    if ((t->causal && apart < 0) || (t->left >= 0 && apart > t->left) ||
        (t->right >= 0 && -apart > t->right) || (valid && k >= length))
        return -INFINITY;
    return mask ? mask_at(mask, (int64_t[]){row, head, i, k}) : 0;
}

static void attend(const struct attending *t, int64_t row, int64_t head, int64_t i, float *y)
{
    const struct attention *a = &t->a;
    int64_t shared = head / (a->q.heads / a->k.heads);
    const float *q = side_at(&t->q, row, head, i);
    float *kept = t->j->outs[3] ? (float *)t->j->outs[3]->data +
                                      ((row * a->q.heads + head) * a->q.length + i) * a->keys
                                : NULL;
    for (int64_t k = 0; k < a->keys; k++) {
        float v = dot(q, side_at(&t->k, row, shared, k), a->q.width) * t->scale;
        v = t->softcap > 0 ? tanhf(v / t->softcap) * t->softcap : v;
        float bias = bias_at(t, row, head, i, k);
        if (kept)
            kept[k] = t->mode == 2 ? v + bias : v;
        t->scores[k] = bias == -INFINITY ? bias : v + bias;
    }
    weigh(t->scores, a->keys);
    if (kept && t->mode == 3)
        memcpy(kept, t->scores, (size_t)a->keys * sizeof(*kept));
    gather_values(t->scores, &t->v, row, shared, a->keys, a->v.width, y);
}

void cpu_attention(const struct job *j)
{
    struct attending t = {.j = j,
                          .softcap = node_float(j->node, "softcap", 0),
                          .causal = node_int(j->node, "is_causal", 0) != 0,
                          .left = node_int(j->node, "left_window_size", -1),
                          .right = node_int(j->node, "right_window_size", -1),
                          .mode = node_int(j->node, "qk_matmul_output_mode", 0)};
    struct engine_error e;
    float *scratch = j->scratch;
    bool flat = j->in[0]->rank == 3;
    if (!attention_of(j, &t.a, &e))
        return; // the plan has asked the same and was answered
    t.scores = scratch;
    scratch += t.a.keys;
    t.scale = node_float(j->node, "scale", 1 / sqrtf((float)t.a.q.width));
    t.q = side_of(j->in[0]->data, flat, &t.a.q);
    t.k = joined(j, 1, job_input(j, 4), side_of(j->in[1]->data, flat, &t.a.k), &t.a.k, &t.a,
                 &scratch);
    t.v = joined(j, 2, job_input(j, 5), side_of(j->in[2]->data, flat, &t.a.v), &t.a.v, &t.a,
                 &scratch);
    struct attention_side out = {t.a.q.rows, t.a.q.heads, t.a.q.length, t.a.v.width};
    struct side y = side_of(j->out->data, flat, &out);
    for (int64_t row = 0; row < out.rows; row++) {
        for (int64_t head = 0; head < out.heads; head++) {
            for (int64_t i = 0; i < out.length; i++)
                attend(&t, row, head, i, (float *)side_at(&y, row, head, i));
        }
    }
}

// ---- RotaryEmbedding ---------------------------------------------------------------------------------

static void rotate(const float *x, const float *c, const float *s, int64_t half, bool pairs,
                   float *y)
{
    for (int64_t i = 0; i < half; i++) {
        int64_t a = pairs ? 2 * i : i, b = pairs ? 2 * i + 1 : i + half;
        float real = c[i] * x[a] - s[i] * x[b], imaginary = s[i] * x[a] + c[i] * x[b];
        y[a] = real;
        y[b] = imaginary;
    }
}

void cpu_rotary(const struct job *j)
{
    const struct array *at = job_input(j, 3);
    bool flat = j->in[0]->rank == 3, pairs = node_int(j->node, "interleaved", 0) != 0;
    struct rotary r;
    struct engine_error e;
    if (!rotary_of(j, &r, &e))
        return; // the plan has asked the same and was answered
    struct side x = side_of(j->in[0]->data, flat, &r.x), y = side_of(j->out->data, flat, &r.x);
    for (int64_t row = 0; row < r.x.rows; row++) {
        for (int64_t i = 0; i < r.x.length; i++) {
            int64_t place = row * r.x.length + i;
            if (at)
                place = ((const int64_t *)at->data)[place];
            if (at && (place < 0 || place >= j->in[1]->shape[0])) {
                *j->failure = "a position is out of range";
                return;
            }
            const float *c = (const float *)j->in[1]->data + place * (r.width / 2);
            const float *s = (const float *)j->in[2]->data + place * (r.width / 2);
            for (int64_t head = 0; head < r.x.heads; head++) {
                const float *from = side_at(&x, row, head, i);
                float *to = (float *)side_at(&y, row, head, i);
                rotate(from, c, s, r.width / 2, pairs, to);
                memcpy(to + r.width, from + r.width, (size_t)(r.x.width - r.width) * sizeof(*to));
            }
        }
    }
}

// ---- com.microsoft -----------------------------------------------------------------------------------

struct plain_attention {
    struct side q, k, v, y;
    int64_t rows, heads, queries, keys, width, v_width;
    const struct array *mask, *add; // int32 that marks keys; float32 that is added
    float scale, hidden;            // hidden: what is added for a key that is not marked
    bool causal;
    float *scores;
};

static bool is_marked(const struct plain_attention *p, int64_t row, int64_t k)
{
    const int32_t *m = p->mask ? p->mask->data : NULL;
    if (!m)
        return true;
    return p->mask->rank == 1 ? k < m[row] : m[row * p->keys + k] != 0;
}

static void attend_plainly(const struct plain_attention *p, int64_t row, int64_t head, int64_t i)
{
    const float *q = side_at(&p->q, row, head, i);
    for (int64_t k = 0; k < p->keys; k++) {
        float v = dot(q, side_at(&p->k, row, head, k), p->width) * p->scale;
        if (p->add)
            v += mask_at(p->add, (int64_t[]){row, head, i, k});
        if (!is_marked(p, row, k) || (p->causal && k > i))
            v += p->hidden;
        p->scores[k] = v;
    }
    weigh(p->scores, p->keys);
    gather_values(p->scores, &p->v, row, head, p->keys, p->v_width,
                  (float *)side_at(&p->y, row, head, i));
}

static void attend_all(const struct plain_attention *p)
{
    for (int64_t row = 0; row < p->rows; row++) {
        for (int64_t head = 0; head < p->heads; head++) {
            for (int64_t i = 0; i < p->queries; i++)
                attend_plainly(p, row, head, i);
        }
    }
}

static void set_options(const struct job *j, struct plain_attention *p)
{
    p->heads = node_int(j->node, "num_heads", 1);
    p->hidden = node_float(j->node, "mask_filter_value", -10000);
    p->causal = node_int(j->node, "unidirectional", 0) != 0;
    p->scale = node_float(j->node, "scale", 0);
    p->scale = p->scale != 0 ? p->scale : 1 / sqrtf((float)p->width);
}

// Queries, keys and values of all rows, [rows * length, 3 * hidden], and a row of scores.
size_t cpu_ms_attention_scratch(const struct job *j)
{
    const int64_t *x = j->in[0]->shape;
    return (size_t)(x[0] * x[1] * j->in[1]->shape[1] + x[1]) * sizeof(float);
}

void cpu_ms_attention(const struct job *j)
{
    const struct array *x = j->in[0], *b = job_input(j, 2);
    int64_t n = x->shape[1], cols = j->in[1]->shape[1], hidden = cols / 3;
    float *qkv = j->scratch;
    struct product all = {.x = x->data,
                          .w = j->in[1]->data,
                          .bias = b ? b->data : NULL,
                          .y = qkv,
                          .rows = (size_t)(x->shape[0] * n),
                          .depth = (size_t)x->shape[2],
                          .cols = (size_t)cols,
                          .x_step = (size_t)x->shape[2],
                          .w_step = (size_t)cols,
                          .y_step = (size_t)cols};
    cpu_product(&all);
    struct plain_attention p = {
        .rows = x->shape[0], .queries = n, .keys = n, .mask = job_input(j, 3)};
    p.width = p.v_width = hidden / node_int(j->node, "num_heads", 1);
    set_options(j, &p);
    p.q = (struct side){qkv, n * cols, p.width, cols};
    p.k = (struct side){qkv + hidden, n * cols, p.width, cols};
    p.v = (struct side){qkv + 2 * hidden, n * cols, p.width, cols};
    p.y = (struct side){j->out->data, n * hidden, p.width, hidden};
    p.scores = qkv + x->shape[0] * n * cols;
    attend_all(&p);
}

size_t cpu_multi_head_scratch(const struct job *j)
{
    size_t biased =
        job_input(j, 3) ? count_all(j->in[0]) + count_all(j->in[1]) + count_all(j->in[2]) : 0;
    return (biased + (size_t)j->in[1]->shape[1]) * sizeof(float);
}

// [rows, length, columns] with a bias a column, in *room when there is one.
static struct side biased(const struct array *a, const float *bias, int64_t heads, float **room)
{
    int64_t cols = a->shape[2];
    size_t n = count_all(a);
    const float *x = a->data;
    for (size_t i = 0; bias && i < n; i++)
        (*room)[i] = x[i] + bias[i % (size_t)cols];
    struct side s = {bias ? *room : x, a->shape[1] * cols, cols / heads, cols};
    *room += bias ? n : 0;
    return s;
}

void cpu_multi_head(const struct job *j)
{
    const struct array *q = j->in[0], *k = j->in[1], *v = j->in[2], *b = job_input(j, 3);
    int64_t heads = node_int(j->node, "num_heads", 1), hidden = q->shape[2];
    const float *bias = b ? b->data : NULL;
    float *room = (float *)j->scratch + k->shape[1];
    struct plain_attention p = {.rows = q->shape[0],
                                .queries = q->shape[1],
                                .keys = k->shape[1],
                                .width = hidden / heads,
                                .v_width = v->shape[2] / heads,
                                .mask = job_input(j, 4),
                                .add = job_input(j, 5),
                                .scores = j->scratch};
    set_options(j, &p);
    p.q = biased(q, bias, heads, &room);
    p.k = biased(k, bias ? bias + hidden : NULL, heads, &room);
    p.v = biased(v, bias ? bias + 2 * hidden : NULL, heads, &room);
    p.y = (struct side){j->out->data, q->shape[1] * v->shape[2], p.v_width, v->shape[2]};
    attend_all(&p);
}

// ---- FusedMatMul -------------------------------------------------------------------------------------

size_t cpu_fused_matmul_scratch(const struct job *j)
{
    return (count_all(j->in[0]) + count_all(j->in[1])) * sizeof(float);
}

// Matrices of a turned, `rows` by `cols` as they will be; as they are, where they are.
static const float *turned(const struct array *a, bool turn, int64_t rows, int64_t cols, float *to)
{
    const float *x = a->data;
    size_t n = count_all(a), size = (size_t)(rows * cols);
    for (size_t m = 0; turn && m < n; m += size) {
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t c = 0; c < cols; c++)
                to[m + (size_t)(r * cols + c)] = x[m + (size_t)(c * rows + r)];
        }
    }
    return turn ? to : x;
}

void cpu_fused_matmul(const struct job *j)
{
    float alpha = node_float(j->node, "alpha", 1), *scratch = j->scratch;
    bool ta = node_int(j->node, "transA", 0) != 0 && j->in[0]->rank > 1;
    bool tb = node_int(j->node, "transB", 0) != 0 && j->in[1]->rank > 1;
    struct array a, b;
    struct matmul m;
    struct engine_error e;
    if (!fused_of(j, &a, &b, &m, &e))
        return; // the plan has asked the same and was answered
    const float *x = turned(j->in[0], ta, m.rows, m.depth, scratch);
    const float *w = turned(j->in[1], tb, m.depth, m.cols, scratch + count_all(j->in[0]));
    for (int64_t i = 0; i < m.batch; i++) {
        int64_t at_a, at_b;
        matmul_place(&m, i, &at_a, &at_b);
        struct product p = {.x = x + at_a,
                            .w = w + at_b,
                            .y = (float *)j->out->data + i * m.rows * m.cols,
                            .rows = (size_t)m.rows,
                            .depth = (size_t)m.depth,
                            .cols = (size_t)m.cols,
                            .x_step = (size_t)m.depth,
                            .w_step = (size_t)m.cols,
                            .y_step = (size_t)m.cols};
        cpu_product(&p);
    }
    size_t n = count_all(j->out);
    for (size_t i = 0; i < n && alpha != 1; i++)
        ((float *)j->out->data)[i] *= alpha;
}
