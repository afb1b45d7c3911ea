/* engine/trees.h: an ensemble of decision trees as a file's attributes describe it (TreeEnsembleRegressor,
 * TreeEnsembleClassifier, TreeEnsemble), checked: every place is inside, no branch is reached twice. For kernels.
 * Thinks. Source: onnx/onnx docs/Operators-ml.md. */
#ifndef SLUICE_ENGINE_TREES_H
#define SLUICE_ENGINE_TREES_H

#include "engine/ops.h"

enum tree_mode {
    TREE_LEQ,
    TREE_LT,
    TREE_GTE,
    TREE_GT,
    TREE_EQ,
    TREE_NEQ,
    TREE_MEMBER,
    TREE_LEAF,
};

struct tree_node {
    double value;
    int32_t feature;
    // Where to go on when the comparison is true; when it is false, to the one behind it. Of a leaf: itself.
    int32_t child;
    uint8_t mode;
    bool missing_true; // what is not a number: true
    // Leaf: its weights, [first, end). TREE_MEMBER: the values of its set.
    int32_t first, end;
};

struct tree_weight {
    int32_t target;
    double weight;
};

enum tree_sum { TREE_SUM, TREE_AVERAGE, TREE_MIN, TREE_MAX };

struct trees {
    struct tree_node *nodes;
    int32_t *roots;
    struct tree_weight *weights;
    double *members;
    unsigned n_nodes, n_trees, n_targets;
    enum tree_sum sum;
    enum ml_transform transform;
    double *base;      // [n_targets], or of a classifier as many as the file gives
    unsigned n_base;   // 0: none
    bool positive;     // no weight is below 0
    int32_t one_class; // the only class that weights are of; -1: there are several
};

// In memory of the graph's. NULL with e.
struct trees *trees_read(struct graph *g, struct node *n, struct engine_error *e);
// The same of the op of version 5.
struct trees *trees_read_5(struct graph *g, struct node *n, struct engine_error *e);

#endif
