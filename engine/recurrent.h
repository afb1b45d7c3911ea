/* engine/recurrent.h: what an RNN, GRU or LSTM is asked for, as its shape function checked it and its kernel needs
 * it. Names of sizes: T steps, N rows, D directions, I inputs and H states of a step, G gates. Thinks. */
#ifndef SLUICE_ENGINE_RECURRENT_H
#define SLUICE_ENGINE_RECURRENT_H

#include "engine/ops.h"

enum recurrent_kind { RECURRENT_RNN, RECURRENT_GRU, RECURRENT_LSTM };

enum activation_kind {
    ACTIVATION_AFFINE,
    ACTIVATION_ELU,
    ACTIVATION_HARD_SIGMOID,
    ACTIVATION_LEAKY_RELU,
    ACTIVATION_RELU,
    ACTIVATION_SCALED_TANH,
    ACTIVATION_SIGMOID,
    ACTIVATION_SOFTPLUS,
    ACTIVATION_SOFTSIGN,
    ACTIVATION_TANH,
    ACTIVATION_THRESHOLDED_RELU
};

struct activation {
    enum activation_kind kind;
    float alpha, beta;
};

struct recurrent {
    enum recurrent_kind kind;
    size_t steps, rows, directions, inputs, states, gates;
    bool reverse;    // the first direction is backwards
    bool rows_first; // layout 1: [N, T, ...]
    bool linear_before_reset, input_forget;
    float clip;              // INFINITY: none
    struct activation f[6];  // three a direction: gates, candidate, output
    const struct array *x;   // [T, N, I]
    const struct array *w;   // [D, G H, I]
    const struct array *r;   // [D, G H, H]
    const struct array *b;   // [D, 2 G H]; NULL: 0
    const struct array *len; // [N], int32; NULL: T
    const struct array *h;   // [D, N, H]; NULL: 0
    const struct array *c;   // the same, of LSTM
    const struct array *p;   // [D, 3 H], of LSTM: peepholes
};

// False with e: what of j cannot be.
bool recurrent_of(struct job *j, struct recurrent *r, struct engine_error *e);
bool shape_recurrent(struct job *j, struct engine_error *e);
double recurrent_work(const struct job *j);

#endif
