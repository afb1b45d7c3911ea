/* router/store.h: what a desk asks of a store that other instances share, and tells it: FX_STORE_GET and FX_STORE_PUT.
 * Thinks. Memory: made by the desk; the doer's from the effect until it gives it back (desk_on_stored, store_told).
 * Thread: the home loop's.
 *
 * What is stored is named by its question, its model, the version and the doer's own epoch of the model: an answer of
 * another version, or of before a flush, has another name. The doer answers each FX_STORE_GET once, at once if the store is
 * away, and in any case by a bound of its own; what it answers with is whole and of that version. */
#ifndef SLUICE_ROUTER_STORE_H
#define SLUICE_ROUTER_STORE_H

#include "router/cache.h"

struct desk;

struct store_ask {
    struct model *model;
    struct cache_id id;
    uint32_t epoch; // of the model's figures, when it was asked or answered
    uint8_t version_bytes;
    char version[MODEL_VERSION_MAX];

    // FX_STORE_GET
    struct desk *desk;
    struct ticket *ticket;          // that waits for it; NULL: it does not any more
    struct store_ask *next, **prev; // of the desk's
    bool unheard;                   // the doer's word with desk_on_stored: nobody could say

    // FX_STORE_PUT
    struct slice slice; // one reference on its answer
    uint64_t sent_us;   // its age counts from here
    uint64_t keep_us;   // from then on it is of no use to anybody
};

static inline struct view store_version(const struct store_ask *a)
{
    return view_of(a->version, a->version_bytes);
}

// The doer has told the store, or will not. The ask is over.
void store_told(struct store_ask *a);

#endif
