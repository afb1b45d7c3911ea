#include "base/rand.h"

// xoshiro256** and splitmix64: D. Blackman, S. Vigna, "Scrambled linear pseudorandom number generators".

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

void rand_seed(struct rand *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        r->s[i] = z ^ (z >> 31);
    }
}

uint64_t rand_u64(struct rand *r)
{
    uint64_t *s = r->s;
    uint64_t out = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return out;
}

// D. Lemire, "Fast random integer generation in an interval" (2019): the high half of x * n, with the
// few x refused whose low half would favour some results.
uint64_t rand_below(struct rand *r, uint64_t n)
{
    unsigned __int128 m = (unsigned __int128)rand_u64(r) * n;
    if ((uint64_t)m < n) {
        uint64_t refuse = -n % n;
        while ((uint64_t)m < refuse)
            m = (unsigned __int128)rand_u64(r) * n;
    }
    return (uint64_t)(m >> 64);
}

double rand_unit(struct rand *r)
{
    return (double)(rand_u64(r) >> 11) * 0x1p-53;
}
