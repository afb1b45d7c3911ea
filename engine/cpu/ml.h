/* engine/cpu/ml.h: what the models of ai.onnx.ml share: how scores become what is answered. Thinks. */
#ifndef SLUICE_ENGINE_CPU_ML_H
#define SLUICE_ENGINE_CPU_ML_H

#include "engine/strings.h"

// One row's n scores in place.
void ml_apply(enum ml_transform t, float *scores, size_t n);
// Row `row` of a tensor of numbers as n floats: where it lies, or copied to room.
const float *ml_row(const struct array *x, size_t row, size_t n, float *room);
// The label of class `best` is row `row` of the output.
void ml_label(const struct job *j, size_t row, size_t best);
size_t ml_rows(const struct array *x, size_t *each); // a vector is one row

#endif
