// RNN, GRU and LSTM. For each direction one product gives what the inputs of all steps add to the gates; then step
// after step one product of the states, and the gates element by element. A row's sums have one order, whatever
// other rows there are. Formulas: onnx/onnx docs/Operators.md (RNN, GRU, LSTM).
#include "engine/recurrent.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/curves.h"

#include <math.h>

struct turned { // weights as products want them, of all directions: [D, I or H, G H]
    float *w, *r;
};

struct pass { // one direction
    const struct recurrent *r;
    size_t direction, gates; // G H
    bool backwards;
    const float *w, *wr;   // [I, G H], [H, G H]
    const float *own_bias; // [G H] of the state's, NULL: 0
    const float *peep;     // [3 H]; NULL: 0
    float *bias;           // [G H]
    float *from_x;         // [T N, G H], in the order of x
    float *from_h;         // [N, G H]
    float *h, *c, *reset;  // [N, H]
    const struct activation *f;
    const struct job *j;
};

// ---- weights -----------------------------------------------------------------------------------------

static void turn(const float *from, size_t rows, size_t cols, float *to)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < cols; c++)
            to[c * rows + r] = from[r * cols + c];
    }
}

static void turn_all(const struct recurrent *r, float *w, float *wr)
{
    size_t gates = r->gates * r->states;
    for (size_t d = 0; d < r->directions; d++) {
        turn((const float *)r->w->data + d * gates * r->inputs, gates, r->inputs,
             w + d * gates * r->inputs);
        turn((const float *)r->r->data + d * gates * r->states, gates, r->states,
             wr + d * gates * r->states);
    }
}

bool cpu_recurrent_prepare(struct graph *g, struct node *n, struct engine_error *e)
{
    const struct value *w = &g->values[n->input[1]], *wr = &g->values[n->input[2]];
    struct recurrent r = {.w = &w->array, .r = &wr->array};
    if (!w->constant || !wr->constant || w->array.rank != 3 || wr->array.rank != 3 ||
        w->array.dtype != ENGINE_F32 || wr->array.dtype != ENGINE_F32 ||
        w->array.shape[0] != wr->array.shape[0] || w->array.shape[1] != wr->array.shape[1])
        return true; // in each run; or it is refused there
    r.directions = (size_t)w->array.shape[0];
    r.states = (size_t)wr->array.shape[2];
    r.inputs = (size_t)w->array.shape[2];
    r.gates = r.states > 0 ? (size_t)wr->array.shape[1] / r.states : 0;
    if (r.gates * r.states != (size_t)wr->array.shape[1])
        return true;
    struct turned *t = arena_alloc(&g->arena, sizeof(*t));
    if (!t)
        return engine_fail(e, "out of memory");
    t->w = graph_alloc(g, array_bytes(&w->array), e);
    t->r = t->w ? graph_alloc(g, array_bytes(&wr->array), e) : NULL;
    if (!t->r)
        return false;
    turn_all(&r, t->w, t->r);
    n->prepared = t;
    n->reads = ~(uint64_t)6; // all but W and R
    return true;
}

// ---- scratch -----------------------------------------------------------------------------------------

static size_t padded(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

size_t cpu_recurrent_scratch(const struct job *j)
{
    struct recurrent r;
    struct engine_error e;
    if (!recurrent_of((struct job *)j, &r, &e))
        return 0; // the plan has asked the same and was answered
    size_t gates = r.gates * r.states;
    size_t all = padded(gates) + padded(r.steps * r.rows * gates) + padded(r.rows * gates) +
                 3 * padded(r.rows * r.states);
    if (!j->node->prepared)
        all += r.directions * gates * (r.inputs + r.states) + 16;
    return all * sizeof(float);
}

// ---- activations -------------------------------------------------------------------------------------

static float curve_at(const struct activation *a, float x)
{
    switch (a->kind) {
    case ACTIVATION_AFFINE:
        return a->alpha * x + a->beta;
    case ACTIVATION_ELU:
        return x < 0 ? a->alpha * expm1f(x) : x;
    case ACTIVATION_HARD_SIGMOID:
        x = a->alpha * x + a->beta;
        return x < 0 ? 0 : x > 1 ? 1 : x;
    case ACTIVATION_LEAKY_RELU:
        return x < 0 ? a->alpha * x : x;
    case ACTIVATION_RELU:
        return x < 0 ? 0 : x;
    case ACTIVATION_SCALED_TANH:
        return a->alpha * tanhf(a->beta * x);
    case ACTIVATION_SOFTPLUS:
        return x > 0 ? x + log1pf(expf(-x)) : log1pf(expf(x));
    case ACTIVATION_SOFTSIGN:
        return x / (1 + fabsf(x));
    case ACTIVATION_THRESHOLDED_RELU:
        return x > a->alpha ? x : x != x ? x : 0;
    case ACTIVATION_SIGMOID:
    case ACTIVATION_TANH:
        break;
    }
    return x; // as arrays
}

// v[0..n) in place; clip: what they are held to first.
static void activate(const struct activation *a, float clip, float *v, size_t n)
{
    for (size_t i = 0; clip < INFINITY && i < n; i++)
        v[i] = v[i] > clip ? clip : v[i] < -clip ? -clip : v[i];
    if (a->kind == ACTIVATION_SIGMOID)
        curve_sigmoid(v, n);
    else if (a->kind == ACTIVATION_TANH)
        curve_tanh(v, n);
    else
        for (size_t i = 0; i < n; i++)
            v[i] = curve_at(a, v[i]);
}

static void add(float *v, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        v[i] += x[i];
}

static void add_product(float *v, const float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        v[i] += x[i] * y[i];
}

// ---- one row at one step -----------------------------------------------------------------------------

// x: what the inputs add to the gates; what the states add stands in from_h, where the gates are made. The states
// become the next ones.
static void rnn_row(const struct pass *p, size_t n, const float *x)
{
    size_t H = p->r->states;
    float *gate = p->from_h + n * p->gates;
    add(gate, x, H);
    activate(&p->f[0], p->r->clip, gate, H);
    memcpy(p->h + n * H, gate, H * sizeof(float));
}

// Gates stand there as input, output, forget, candidate.
static void lstm_row(const struct pass *p, size_t n, const float *x)
{
    const struct recurrent *r = p->r;
    size_t H = r->states;
    float *in = p->from_h + n * p->gates, *out = in + H, *forget = in + 2 * H, *made = in + 3 * H;
    float *state = p->h + n * H, *cell = p->c + n * H;
    const float *peep = p->peep;
    add(in, x, 4 * H);
    if (peep) {
        add_product(in, peep, cell, H);
        add_product(forget, peep + 2 * H, cell, H);
    }
    activate(&p->f[0], r->clip, in, H);
    activate(&p->f[0], r->clip, forget, H);
    activate(&p->f[1], r->clip, made, H);
    for (size_t i = 0; r->input_forget && i < H; i++)
        forget[i] = 1 - in[i];
    for (size_t i = 0; i < H; i++)
        cell[i] = forget[i] * cell[i] + in[i] * made[i];
    if (peep)
        add_product(out, peep + H, cell, H);
    activate(&p->f[0], r->clip, out, H);
    memcpy(made, cell, H * sizeof(float));
    activate(&p->f[2], INFINITY, made, H);
    for (size_t i = 0; i < H; i++)
        state[i] = out[i] * made[i];
}

// Gates stand there as update, reset, hidden. What of the states the hidden gate is given.
static void gru_reset(const struct pass *p, size_t n, const float *x)
{
    const struct recurrent *r = p->r;
    size_t H = r->states;
    float *update = p->from_h + n * p->gates, *reset = update + H, *hidden = update + 2 * H;
    const float *given = p->h + n * H;
    add(update, x, 2 * H);
    activate(&p->f[0], r->clip, update, 2 * H);
    if (r->linear_before_reset) {
        if (p->own_bias)
            add(hidden, p->own_bias + 2 * H, H);
        given = hidden;
    }
    for (size_t i = 0; i < H; i++)
        p->reset[n * H + i] = reset[i] * given[i];
}

static void gru_row(const struct pass *p, size_t n, const float *x)
{
    const struct recurrent *r = p->r;
    size_t H = r->states;
    float *update = p->from_h + n * p->gates, *hidden = update + 2 * H, *state = p->h + n * H;
    if (r->linear_before_reset)
        memcpy(hidden, p->reset + n * H, H * sizeof(float));
    add(hidden, x + 2 * H, H);
    activate(&p->f[1], r->clip, hidden, H);
    for (size_t i = 0; i < H; i++)
        state[i] = (1 - update[i]) * hidden[i] + update[i] * state[i];
}

// ---- steps -------------------------------------------------------------------------------------------

// Columns [first, first + cols) of the states' weights.
static void product(const struct pass *p, const float *x, size_t rows, size_t depth, const float *w,
                    size_t first, size_t cols, const float *bias, float *y)
{
    struct product q = {.x = x,
                        .w = w + first,
                        .bias = bias,
                        .y = y + first,
                        .rows = rows,
                        .depth = depth,
                        .cols = cols,
                        .x_step = depth,
                        .w_step = p->gates,
                        .y_step = p->gates,
                        .padded = cols % PRODUCT_PAD == 0};
    cpu_product(&q);
}

static size_t length_of(const struct recurrent *r, size_t n)
{
    return r->len ? (size_t)((const int32_t *)r->len->data)[n] : r->steps;
}

// Where row n's step s stands in time; false: it has none.
static bool time_of(const struct pass *p, size_t n, size_t s, size_t *t)
{
    size_t len = length_of(p->r, n);
    *t = p->backwards ? len - 1 - s : s;
    return s < len;
}

static const float *gates_at(const struct pass *p, size_t n, size_t t)
{
    const struct recurrent *r = p->r;
    return p->from_x + (r->rows_first ? n * r->steps + t : t * r->rows + n) * p->gates;
}

static float *answer_at(const struct pass *p, size_t n, size_t t)
{
    const struct recurrent *r = p->r;
    size_t at = r->rows_first ? (n * r->steps + t) * r->directions + p->direction
                              : (t * r->directions + p->direction) * r->rows + n;
    return (float *)p->j->out->data + at * r->states;
}

static void step(const struct pass *p, size_t s)
{
    const struct recurrent *r = p->r;
    bool later = r->kind == RECURRENT_GRU && !r->linear_before_reset;
    size_t t;
    product(p, p->h, r->rows, r->states, p->wr, 0, later ? 2 * r->states : p->gates, NULL,
            p->from_h);
    for (size_t n = 0; r->kind == RECURRENT_GRU && n < r->rows; n++) {
        if (time_of(p, n, s, &t))
            gru_reset(p, n, gates_at(p, n, t));
    }
    if (later)
        product(p, p->reset, r->rows, r->states, p->wr, 2 * r->states, r->states, NULL, p->from_h);
    for (size_t n = 0; n < r->rows; n++) {
        if (!time_of(p, n, s, &t))
            continue;
        const float *x = gates_at(p, n, t);
        if (r->kind == RECURRENT_LSTM)
            lstm_row(p, n, x);
        else if (r->kind == RECURRENT_GRU)
            gru_row(p, n, x);
        else
            rnn_row(p, n, x);
        memcpy(answer_at(p, n, t), p->h + n * r->states, r->states * sizeof(float));
    }
}

// Row n's part of a tensor of states.
static size_t state_at(const struct pass *p, size_t n)
{
    const struct recurrent *r = p->r;
    return (r->rows_first ? n * r->directions + p->direction : p->direction * r->rows + n) *
           r->states;
}

static void load_states(const struct pass *p, const struct array *a, float *to)
{
    size_t bytes = p->r->states * sizeof(float);
    for (size_t n = 0; n < p->r->rows; n++) {
        if (a)
            memcpy(to + n * p->r->states, (const float *)a->data + state_at(p, n), bytes);
        else
            memset(to + n * p->r->states, 0, bytes);
    }
}

static void store_states(const struct pass *p, const float *from, unsigned output)
{
    struct array *a = output < p->j->node->n_outputs ? p->j->outs[output] : NULL;
    for (size_t n = 0; a && n < p->r->rows; n++)
        memcpy((float *)a->data + state_at(p, n), from + n * p->r->states,
               p->r->states * sizeof(float));
}

// What both biases add, but the state's of a GRU's hidden gate where that is reset with it.
static void add_biases(struct pass *p)
{
    const struct recurrent *r = p->r;
    const float *b = r->b ? (const float *)r->b->data + p->direction * 2 * p->gates : NULL;
    bool apart = r->kind == RECURRENT_GRU && r->linear_before_reset;
    p->own_bias = b ? b + p->gates : NULL;
    for (size_t i = 0; i < p->gates; i++)
        p->bias[i] = !b ? 0 : b[i] + (apart && i >= 2 * r->states ? 0 : p->own_bias[i]);
}

static void run_pass(struct pass *p)
{
    const struct recurrent *r = p->r;
    add_biases(p);
    load_states(p, r->h, p->h);
    if (r->kind == RECURRENT_LSTM)
        load_states(p, r->c, p->c);
    product(p, r->x->data, r->steps * r->rows, r->inputs, p->w, 0, p->gates, p->bias, p->from_x);
    for (size_t s = 0; s < r->steps; s++)
        step(p, s);
    store_states(p, p->h, 1);
    if (r->kind == RECURRENT_LSTM)
        store_states(p, p->c, 2);
}

static float *take(float **scratch, size_t floats)
{
    float *at = *scratch;
    *scratch += padded(floats);
    return at;
}

static bool lengths_fit(const struct recurrent *r)
{
    for (size_t n = 0; r->len && n < r->rows; n++) {
        int32_t len = ((const int32_t *)r->len->data)[n];
        if (len < 1 || (size_t)len > r->steps)
            return false;
    }
    return true;
}

void cpu_recurrent(const struct job *j)
{
    struct recurrent r;
    struct engine_error e;
    if (!recurrent_of((struct job *)j, &r, &e))
        return; // the plan has asked the same and was answered
    if (!lengths_fit(&r)) {
        *j->failure = "sequence_lens: expected 1 to the number of steps";
        return;
    }
    float *scratch = j->scratch, *w, *wr;
    const struct turned *t = j->node->prepared;
    struct pass p = {.r = &r, .gates = r.gates * r.states, .j = j};
    p.bias = take(&scratch, p.gates);
    p.from_x = take(&scratch, r.steps * r.rows * p.gates);
    p.from_h = take(&scratch, r.rows * p.gates);
    p.h = take(&scratch, r.rows * r.states);
    p.c = take(&scratch, r.rows * r.states);
    p.reset = take(&scratch, r.rows * r.states);
    w = t ? t->w : scratch;
    wr = t ? t->r : scratch + r.directions * p.gates * r.inputs;
    if (!t)
        turn_all(&r, w, wr);
    if (r.len) // behind a row's length
        memset(j->out->data, 0, array_bytes(j->out));
    for (p.direction = 0; p.direction < r.directions; p.direction++) {
        p.backwards = r.reverse || p.direction == 1;
        p.w = w + p.direction * p.gates * r.inputs;
        p.wr = wr + p.direction * p.gates * r.states;
        p.f = &r.f[3 * p.direction];
        p.peep = r.p ? (const float *)r.p->data + p.direction * 3 * r.states : NULL;
        run_pass(&p);
    }
}
