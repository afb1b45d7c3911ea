/* engine/explain.h: what a model has become, for people: the steps of the plan of an instance's last run, where
 * their values lie, and how long each took. Views and pointers stay until the next run. Thinks. Thread: the
 * instance's, between runs. */
#ifndef SLUICE_ENGINE_EXPLAIN_H
#define SLUICE_ENGINE_EXPLAIN_H

#include "engine/engine.h"

enum engine_place { ENGINE_AT_INPUT, ENGINE_AT_CONSTANT, ENGINE_AT_KNOWN, ENGINE_AT_ARENA };

struct engine_value {
    struct view name; // as in the file; empty: made for the plan
    enum engine_dtype dtype;
    unsigned rank;
    int64_t shape[ENGINE_MAX_RANK];
    size_t bytes;
    enum engine_place place; // KNOWN: it follows from shapes alone
    size_t at;               // ARENA: bytes from its start
};

struct engine_step {
    struct view op, node;
    bool runs; // false: what it makes is its input under another shape
    bool late; // its shape follows from data: it runs by itself, behind the others
    bool relu; // a Relu was fused into it
    unsigned n_inputs, n_outputs;
    const int32_t *inputs, *outputs; // values; -1: left out
    double work;                     // about so many multiplications
    uint64_t spent_ns;               // of all runs that were watched; bodies count as their node
};

struct engine_sizes {
    unsigned values, steps, known;
    size_t constants; // bytes, with what kernels made of them, and what nodes are
    size_t arena;     // bytes, scratch included
    size_t scratch;   // the most that one kernel takes
    size_t made;      // of all values that steps make, if none shared a place
};

struct engine_sizes engine_sizes(const struct engine_instance *i);
struct engine_step engine_step_of(const struct engine_instance *i, unsigned step);
struct engine_value engine_value_of(const struct engine_instance *i, int32_t value);
// From here on runs tell how long each step takes: now_ns gives nanoseconds of a clock that does not jump.
void engine_watch(struct engine_instance *i, uint64_t (*now_ns)(void));
// The length in free dimensions behind the first one with which the model was tried at load.
int64_t engine_model_length(const struct engine_model *m);

#endif
