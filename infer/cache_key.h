/* infer/cache_key.h: what is asked, as a key for its answer: SHA-256 over all that decides the answer. Two requests with
 * an equal key are the same question, whichever protocol carried them. Of which model, and of which version of it, is its
 * ticket's target, so that one key serves every step of a request. Thinks. Thread: the origin's. */
#ifndef SLUICE_INFER_CACHE_KEY_H
#define SLUICE_INFER_CACHE_KEY_H

#include "base/sha256.h"
#include "infer/ticket.h"

// A key in the making. The request's views stay until it is done.
struct cache_keying {
    struct sha256 sha;
    const struct infer_request *request;
    unsigned input; // whose bytes are next
    size_t at;      // of them
};

// False: its answer is nothing to keep: a step of a sequence depends on those before it.
bool cache_key_fits(const struct infer_request *r);
// tenant: whose question it is; empty: anybody's. Names, datatypes, shapes, requested outputs and parameters go in at once.
void cache_key_begin(struct cache_keying *k, const struct infer_request *r, struct view tenant);
// Looks at about so many bytes of the inputs. True: out is the key.
bool cache_key_step(struct cache_keying *k, size_t max_bytes, struct cache_key *out);

#endif
