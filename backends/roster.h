/* backends/roster.h: what a server has: every model that it names, usable or not and why not. Drawn up by the
 * worker's owner (backends/inquiry.h), handed to every loop, believed by each for its own connection.
 * Immutable but for what is marked as its drawer's; counted by reference: ref and unref on any thread. Thinks. */
#ifndef SLUICE_BACKENDS_ROSTER_H
#define SLUICE_BACKENDS_ROSTER_H

#include "base/arena.h"
#include "base/hash.h"
#include "infer/request.h"
#include <stdatomic.h>

#define ROSTER_MODELS 256 // of one server; the others are counted and left out, usable ones last
#define ROSTER_NAME 256   // bytes of a name that are kept: what is longer cannot be used anyway
#define ROSTER_WHY 300    // bytes of a reason
#define ROSTER_VERSION 64 // bytes of a version or a state that is not ready

struct roster_refusal { // what an index says of a version that is not ready, in the server's words
    struct view version, state, reason; // any may be empty
};

struct roster_model {
    struct view name;
    struct roster_refusal refused; // the last such version; nothing: all are ready
    struct view why;               // why it cannot be used, for people; empty: it can
    bool expected; // not usable although it should be: its server says READY or a reason, or the
                   // configuration names it. Else it is merely not loaded
    struct view
        config_why; // usable, but its configuration is not: why, and it is served singly; empty: it is fine
    struct model_metadata meta; // usable: name, versions, inputs, outputs, max_batch, config
    struct hash128 digest; // of all the above: of equal ones the models are the same to their users

    // its drawer's, and touched by no other
    struct hash128 line; // what the index said when this was learnt
    uint64_t retry_us;   // not usable, its metadata at fault: not asked again before
    unsigned failures;   // times in a row that it could not be had
};

struct roster {
    _Atomic unsigned refs;
    struct arena arena;
    struct roster_model *models; // [n], by name
    unsigned n, n_usable;
    unsigned left_out; // more than ROSTER_MODELS
    struct view
        why; // it serves nothing at all, and that is why; empty: it is a matter of each model
    struct hash128 digest; // of all models
};

// A copy of these, sorted; digests are computed. NULL: out of memory.
struct roster *roster_new(const struct roster_model *models, unsigned n, unsigned left_out,
                          struct view why);
struct roster *roster_ref(struct roster *r); // of NULL: NULL
void roster_unref(struct roster *r);         // of NULL: nothing
const struct roster_model *roster_find(const struct roster *r, struct view name); // NULL: not named
static inline bool roster_usable(const struct roster_model *m)
{
    return m && m->why.n == 0;
}
// Sorts by name and fills in the digests; of the whole. For a draft that may equal what is known.
struct hash128 roster_seal(struct roster_model *models, unsigned n);

#endif
