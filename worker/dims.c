#include "worker/dims.h"

#include <inttypes.h>
#include <stdio.h>

bool dims_count(const struct dims *d, uint64_t *count)
{
    uint64_t n = 1;
    for (unsigned i = 0; i < d->rank; i++) {
        if (d->at[i] < 0 || __builtin_mul_overflow(n, (uint64_t)d->at[i], &n))
            return false;
    }
    *count = n;
    return true;
}

const char *dims_text(char out[96], const struct dims *d)
{
    size_t n = (size_t)snprintf(out, 96, "[");
    for (unsigned i = 0; i < d->rank && n < 72; i++)
        n += (size_t)snprintf(out + n, 96 - n, "%s%" PRId64, i > 0 ? "," : "", d->at[i]);
    snprintf(out + n, 96 - n, "]");
    return out;
}

bool dims_alike(const struct dims *a, const struct dims *b)
{
    const struct dims *both[2] = {a, b};
    uint64_t count[2] = {0, 0};
    unsigned open[2] = {0, 0};
    for (unsigned k = 0; k < 2; k++) {
        struct dims fixed = *both[k];
        for (unsigned i = 0; i < fixed.rank; i++) {
            open[k] += fixed.at[i] < 0;
            fixed.at[i] = fixed.at[i] < 0 ? 1 : fixed.at[i];
        }
        if (!dims_count(&fixed, &count[k]))
            return false;
    }
    return open[0] == open[1] && count[0] == count[1];
}

void dims_change(const struct dims *from, const int64_t *shape, const struct dims *to,
                 int64_t *to_shape)
{
    unsigned at = 0;
    for (unsigned i = 0; i < to->rank; i++) {
        to_shape[i] = to->at[i];
        while (to->at[i] < 0 && at < from->rank && from->at[at] >= 0)
            at++;
        if (to->at[i] < 0)
            to_shape[i] = at < from->rank ? shape[at++] : 1;
    }
}
