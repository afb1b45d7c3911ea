/* infer/params.h: parameters: what clients and workers say of a request, an answer, or one of their tensors, beside it. Those
 * that mean something to us are taken where they are read (infer/oip.h); the others are carried, both ways, and who has
 * other ones shares no batch. Thinks. Thread: any. Memory: an arena's; texts are views into the message. */
#ifndef SLUICE_INFER_PARAMS_H
#define SLUICE_INFER_PARAMS_H

#include "base/arena.h"
#include "base/hash.h"
#include "base/view.h"
#include <stdint.h>

// Bounds of one message: of a list; of all lists of its tensors and of the answer itself.
#define INFER_MAX_PARAMS 64
#define PARAMS_MOST 1024
#define PARAMS_BYTES_MOST ((size_t)1 << 20)
#define PARAMS_KEY_MOST 1024 // bytes of a key

enum param_type { PARAM_BOOL, PARAM_INT64, PARAM_UINT64, PARAM_DOUBLE, PARAM_STRING };
struct param {
    struct view key;
    enum param_type type;
    union {
        bool b;
        int64_t i;
        uint64_t u;
        double d;
    };
    struct view s; // PARAM_STRING
};

struct params { // a list; keys differ
    struct param *at;
    unsigned n, cap;
};

// What the lists of one message hold so far.
struct params_sum {
    unsigned n;
    size_t bytes;
};

// Into the list, which is made when there is none. NULL, or why not, for people; PARAMS_NO_MEMORY.
extern const char PARAMS_NO_MEMORY[];
const char *params_add(struct arena *a, const struct params **list, const struct param *p,
                       struct params_sum *sum);
// Of what they say, in whatever order.
struct hash128 params_hash(const struct param *at, unsigned n);
// Deep. NULL of NULL; else NULL: out of memory.
const struct params *params_copy(struct arena *a, const struct params *from);
// The key-th in the order of their keys (a map has none of its own): the one behind `last`, NULL: the first. NULL: no more.
const struct param *params_next(const struct param *at, unsigned n, const struct param *last);

#endif
