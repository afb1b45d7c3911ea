#include "base/hash.h"
#define XXH_INLINE_ALL // short keys: the call would cost as much as the hash
#include <xxhash.h>

uint64_t hash64(struct view v, uint64_t seed)
{
    return XXH3_64bits_withSeed(v.n ? v.p : "", v.n, seed);
}

struct hash128 hash128(struct view v, uint64_t seed)
{
    XXH128_hash_t h = XXH3_128bits_withSeed(v.n ? v.p : "", v.n, seed);
    return (struct hash128){.hi = h.high64, .lo = h.low64};
}

#define ALIGNED 64u // as XXH3_state_t wants to be
_Static_assert(_Alignof(XXH3_state_t) <= ALIGNED &&
                   sizeof(XXH3_state_t) + ALIGNED <= sizeof(((struct hash_run *)0)->state),
               "it fits");

static XXH3_state_t *state_of(struct hash_run *h)
{
    size_t over = (uintptr_t)h->state % ALIGNED;
    return (XXH3_state_t *)(void *)(h->state + (over ? ALIGNED - over : 0));
}

void hash_run_begin(struct hash_run *h, uint64_t seed)
{
    XXH3_128bits_reset_withSeed(state_of(h), seed);
}

void hash_run_put(struct hash_run *h, struct view v)
{
    if (v.n > 0)
        XXH3_128bits_update(state_of(h), v.p, v.n);
}

struct hash128 hash_run_end(struct hash_run *h)
{
    XXH128_hash_t d = XXH3_128bits_digest(state_of(h));
    return (struct hash128){.hi = d.high64, .lo = d.low64};
}
