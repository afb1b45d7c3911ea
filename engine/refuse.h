/* engine/refuse.h: what the engine does not do of a model, node by node, told at once: each to whoever listens to the
 * load, the first ones of each kind in the load's error. Thinks. */
#ifndef SLUICE_ENGINE_REFUSE_H
#define SLUICE_ENGINE_REFUSE_H

#include "engine/graph.h"

#define REFUSED_KINDS 32
#define REFUSED_TOLD 100 // nodes, one by one

struct refusals { // zeroed but for the graph
    const struct graph *graph;
    unsigned nodes;
    struct view types[REFUSED_KINDS]; // each named once in the error
    uint64_t whys[REFUSED_KINDS];
    unsigned n_kinds, left_out;
    bool ops_only;
    char text[216];
    size_t used;
};

// why: what about it; NULL: there is no such op here.
void refuse_node(struct refusals *r, const struct node *n, const char *why);
bool refuse_all(struct refusals *r, struct engine_error *e); // false with e: there are some

#endif
