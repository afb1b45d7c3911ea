/* worker/check.h: recorded inputs and outputs of a model, and whether it still gives the same. Two forms: a
 * folder of ONNX's test data (test_data_set_N/input_K.pb, output_K.pb, or one such set by itself), or a file
 * of JSON: {"cases": [{"name", "inputs": {NAME: {"dtype": "f32", "shape", "data" or "bin"}}, "outputs": {…}}]}, where
 * "bin" is a file beside it. Does. */
#ifndef SLUICE_WORKER_CHECK_H
#define SLUICE_WORKER_CHECK_H

#include "engine/engine.h"

struct check_tolerance {
    double absolute, relative; // |got - want| <= absolute + relative * |want|
};

// Prints a line for each output of each case. How many are wrong; -1: the data cannot be read (said on
// standard error).
int check_data(struct engine_model *m, struct engine_instance *i, const char *path,
               struct check_tolerance t);

#endif
