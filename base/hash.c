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
