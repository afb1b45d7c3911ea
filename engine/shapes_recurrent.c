// RNN, GRU, LSTM: what their inputs have to be and what they give. As engine/shapes.c: whatever a kernel relies on
// is checked here.
#include "engine/recurrent.h"

#include <math.h>

// ---- activations -------------------------------------------------------------------------------------

// As ONNX's operators have them; takes: how many of alpha and beta count.
static const struct {
    const char *name;
    unsigned takes;
    float alpha, beta;
} activations[] = {
    [ACTIVATION_AFFINE] = {"Affine", 2, 1, 0},
    [ACTIVATION_ELU] = {"Elu", 1, 1, 0},
    [ACTIVATION_HARD_SIGMOID] = {"HardSigmoid", 2, 0.2f, 0.5f},
    [ACTIVATION_LEAKY_RELU] = {"LeakyRelu", 1, 0.01f, 0},
    [ACTIVATION_RELU] = {"Relu", 0, 0, 0},
    [ACTIVATION_SCALED_TANH] = {"ScaledTanh", 2, 1, 1},
    [ACTIVATION_SIGMOID] = {"Sigmoid", 0, 0, 0},
    [ACTIVATION_SOFTPLUS] = {"Softplus", 0, 0, 0},
    [ACTIVATION_SOFTSIGN] = {"Softsign", 0, 0, 0},
    [ACTIVATION_TANH] = {"Tanh", 0, 0, 0},
    [ACTIVATION_THRESHOLDED_RELU] = {"ThresholdedRelu", 1, 1, 0},
};

static bool find_activation(struct view name, struct activation *a, unsigned *takes)
{
    for (unsigned i = 0; i < sizeof(activations) / sizeof(activations[0]); i++) {
        if (!view_is(name, activations[i].name))
            continue;
        *a =
            (struct activation){(enum activation_kind)i, activations[i].alpha, activations[i].beta};
        *takes = activations[i].takes;
        return true;
    }
    return false;
}

// The next of a list for those that take one: alphas and betas stand in the order of the functions.
static void take_next(const struct attr *list, unsigned *at, float *to)
{
    if (list && *at < list->n)
        *to = list->floats[(*at)++];
}

static bool activations_of(struct job *j, struct recurrent *r, struct engine_error *e)
{
    static const char *const plain[][3] = {[RECURRENT_RNN] = {"Tanh"},
                                           [RECURRENT_GRU] = {"Sigmoid", "Tanh"},
                                           [RECURRENT_LSTM] = {"Sigmoid", "Tanh", "Tanh"}};
    const struct attr *names = node_attr(j->node, "activations"),
                      *alphas = node_attr(j->node, "activation_alpha"),
                      *betas = node_attr(j->node, "activation_beta");
    unsigned each = r->kind + 1u, takes, alpha = 0, beta = 0;
    if (names && names->n != each * r->directions)
        return shape_wrong(j, e, "activations: expected one to three for each direction");
    for (unsigned d = 0; d < r->directions; d++) {
        for (unsigned i = 0; i < each; i++) {
            struct activation *a = &r->f[3 * d + i];
            const char *usual = plain[r->kind][i];
            struct view name = names ? names->strings[d * each + i] : view_of(usual, strlen(usual));
            if (!find_activation(name, a, &takes))
                return shape_wrong(j, e, "activations: one of them is not supported");
            if (a->kind == ACTIVATION_THRESHOLDED_RELU && (!alphas || alpha >= alphas->n))
                return shape_wrong(j, e,
                                   "activations: ThresholdedRelu without its alpha, which "
                                   "runtimes disagree on");
            if (takes > 0)
                take_next(alphas, &alpha, &a->alpha);
            if (takes > 1)
                take_next(betas, &beta, &a->beta);
        }
    }
    return true;
}

// ---- inputs ------------------------------------------------------------------------------------------

static bool direction_of(struct job *j, struct recurrent *r, struct engine_error *e)
{
    const struct attr *a = node_attr(j->node, "direction");
    r->directions = a && view_is(a->s, "bidirectional") ? 2 : 1;
    r->reverse = a && view_is(a->s, "reverse");
    return !a || r->directions == 2 || r->reverse || view_is(a->s, "forward") ||
           shape_wrong(j, e, "direction: expected forward, reverse or bidirectional");
}

// Is a, if it is there, of `d` and this shape?
static bool fits(const struct array *a, enum engine_dtype d, unsigned rank, size_t s0, size_t s1,
                 size_t s2)
{
    const size_t want[3] = {s0, s1, s2};
    bool right = !a || (a->dtype == d && a->rank == rank);
    for (unsigned i = 0; a && right && i < rank; i++)
        right = a->shape[i] == (int64_t)want[i];
    return right;
}

static bool state_fits(const struct recurrent *r, const struct array *a)
{
    return r->rows_first ? fits(a, ENGINE_F32, 3, r->rows, r->directions, r->states)
                         : fits(a, ENGINE_F32, 3, r->directions, r->rows, r->states);
}

static bool inputs_of(struct job *j, struct recurrent *r, struct engine_error *e)
{
    static const size_t gates[] = {[RECURRENT_RNN] = 1, [RECURRENT_GRU] = 3, [RECURRENT_LSTM] = 4};
    r->x = j->in[0];
    r->w = j->in[1];
    r->r = j->in[2];
    r->b = job_input(j, 3);
    r->len = job_input(j, 4);
    r->h = job_input(j, 5);
    r->c = job_input(j, 6);
    r->p = job_input(j, 7);
    r->rows_first = node_int(j->node, "layout", 0) != 0;
    if (r->x->rank != 3 || r->w->rank != 3 || r->r->rank != 3)
        return shape_wrong(j, e, "X, W, R: expected three dimensions each");
    r->steps = (size_t)r->x->shape[r->rows_first];
    r->rows = (size_t)r->x->shape[!r->rows_first];
    r->inputs = (size_t)r->x->shape[2];
    r->states = (size_t)r->r->shape[2];
    r->gates = gates[r->kind];
    size_t all = r->gates * r->states;
    if (node_int(j->node, "hidden_size", (int64_t)r->states) != (int64_t)r->states ||
        !fits(r->x, ENGINE_F32, 3, (size_t)r->x->shape[0], (size_t)r->x->shape[1], r->inputs) ||
        !fits(r->w, ENGINE_F32, 3, r->directions, all, r->inputs) ||
        !fits(r->r, ENGINE_F32, 3, r->directions, all, r->states))
        return shape_wrong(j, e, "X, W, R, hidden_size: expected float32 that fit each other");
    if (!fits(r->b, ENGINE_F32, 2, r->directions, 2 * all, 0) ||
        !fits(r->p, ENGINE_F32, 2, r->directions, 3 * r->states, 0))
        return shape_wrong(j, e, "B, P: expected float32 of a bias for each gate");
    if (!fits(r->len, ENGINE_I32, 1, r->rows, 0, 0))
        return shape_wrong(j, e, "sequence_lens: expected an int32 for each row");
    return (state_fits(r, r->h) && state_fits(r, r->c)) ||
           shape_wrong(j, e, "initial_h, initial_c: expected a float32 for each state");
}

bool recurrent_of(struct job *j, struct recurrent *r, struct engine_error *e)
{
    *r = (struct recurrent){.kind = view_is(j->node->type, "LSTM")  ? RECURRENT_LSTM
                                    : view_is(j->node->type, "GRU") ? RECURRENT_GRU
                                                                    : RECURRENT_RNN,
                            .clip = node_float(j->node, "clip", INFINITY),
                            .linear_before_reset = node_int(j->node, "linear_before_reset", 0) != 0,
                            .input_forget = node_int(j->node, "input_forget", 0) != 0};
    if (j->node->opset < 7)
        return shape_wrong(j, e, "as before opset 7 it is not supported");
    if (!(r->clip > 0))
        return shape_wrong(j, e, "clip: expected more than 0");
    return direction_of(j, r, e) && activations_of(j, r, e) && inputs_of(j, r, e);
}

bool shape_recurrent(struct job *j, struct engine_error *e)
{
    struct recurrent r;
    if (!recurrent_of(j, &r, e))
        return false;
    int64_t t = (int64_t)r.steps, n = (int64_t)r.rows, d = (int64_t)r.directions,
            h = (int64_t)r.states;
    bool ok = r.rows_first ? shape_make(j, ENGINE_F32, 4, (int64_t[]){n, t, d, h}, e)
                           : shape_make(j, ENGINE_F32, 4, (int64_t[]){t, d, n, h}, e);
    for (unsigned k = 1; ok && k < 3 && k < j->node->n_outputs; k++)
        ok = shape_make_at(j, k, ENGINE_F32, 3,
                           r.rows_first ? (int64_t[]){n, d, h} : (int64_t[]){d, n, h}, e);
    return ok;
}

double recurrent_work(const struct job *j)
{
    const struct array *w = j->in[1], *r = j->in[2];
    double gates = r->shape[2] > 0 ? (double)r->shape[1] / (double)r->shape[2] : 1;
    return gates * (double)(w->shape[2] + r->shape[2]);
}
