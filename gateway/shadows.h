/* gateway/shadows.h: shadows of requests (router/shadow.h): whom an experiment gives one, and what is counted and logged of
 * its answer against the one that was served. Does. Thread: the loop's, but for shadows_call_all. */
#ifndef SLUICE_GATEWAY_SHADOWS_H
#define SLUICE_GATEWAY_SHADOWS_H

#include "base/hist.h"
#include "infer/infer.h"
#include "infer/likeness.h"

#define SHADOWS_OUT 64         // of a loop, at a time
#define SHADOWS_PART 16        // of limits.bytes_in_flight, what their requests may hold
#define SHADOW_NAME_BYTES 64   // of an output's name that are kept
#define SHADOW_SAID_US 1000000 // one that differs is logged so often, by each loop

struct gateway;
struct part;
struct request;

struct
    shadow_output { // of one name; written by its loop, and complete once it is counted in shadow_counts.n
    char name[SHADOW_NAME_BYTES];
    uint8_t name_bytes;
    _Atomic uint64_t found[LIKE_KINDS];
    _Atomic uint64_t same;             // of LIKE_VALUES: all elements that were looked at are equal
    _Atomic uint64_t elements, equal;  // that were looked at
    _Atomic uint64_t max_abs, max_rel; // bits of a double: the largest ever
};

struct shadow_counts { // of one loop
    _Atomic uint64_t ends[SHADOW_ENDS];
    _Atomic uint64_t failures[STATUS_COUNT]; // of SHADOW_FAILED
    struct hist took;                        // microseconds from its lending, of SHADOW_ANSWERED
    _Atomic unsigned n;
    struct shadow_output outputs[LIKENESS_OUTPUTS]; // those that come later are not told apart
};

// The request is for m, and about to be submitted: in->shadow is set, if its experiment gives it one.
void shadows_draw(struct request *r, const struct model *m);
void shadows_told(struct infer *in);     // FX_SHADOW
void shadows_release(struct request *r); // FX_RELEASE, of one that has one
// Those of the loop are called home; those of all loops (main thread).
void shadows_call(struct part *p);
void shadows_call_all(struct gateway *g);

// Main thread: their families of the metrics page.
struct prom;
void shadows_metrics(struct prom *o, struct gateway *g);

#endif
