/* infer/cache_key.h: what is asked, as a key for its answer: a hash over all that decides the answer. Two requests with
 * an equal key are the same question, whichever protocol carried them. Of which model, and of which version of it, is its
 * ticket's target, so that one key serves every step of a request. Thinks. Thread: the origin's.
 *
 * Nobody may be able to ask something that has the key of another question: he would be given its answer, or would give
 * his to others. So the hash is one of two.
 *  - SipHash with 128 bits and a secret of the process: who does not know the secret can only try, and what he tries
 *    meets one of n answers that are kept with a chance of n / 2^128. It never leaves the process, and is cheap.
 *  - SHA-256, where a store is behind the cache: keys of all instances must be equal, so there is no secret, and what
 *    keeps others from making two questions of one key is the hash alone. */
#ifndef SLUICE_INFER_CACHE_KEY_H
#define SLUICE_INFER_CACHE_KEY_H

#include "base/sha256.h"
#include "base/siphash.h"
#include "infer/ticket.h"

// A key in the making. The request's views stay until it is done.
struct cache_keying {
    bool shared;
    union {
        struct sha256 sha; // shared
        struct siphash sip;
    };
    const struct infer_request *request;
    unsigned input; // whose bytes are next
    size_t at;      // of them
};

// False: its answer is nothing to keep: a step of a sequence depends on those before it.
bool cache_key_fits(const struct infer_request *r);
// tenant: whose question it is; empty: anybody's. secret: random, the same for all of the process; NULL: the key is one that
// other instances make, too. Names, datatypes, shapes, requested outputs and parameters go in at once.
void cache_key_begin(struct cache_keying *k, const struct infer_request *r, struct view tenant,
                     const uint8_t secret[SIPHASH_KEY]);
// Looks at about so many bytes of the inputs. True: out is the key.
bool cache_key_step(struct cache_keying *k, size_t max_bytes, struct cache_key *out);

#endif
