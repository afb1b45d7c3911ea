#include "batcher/estimate.h"

#include <math.h>

#define FORGET 0.99 // weight of the past at each observation: about the last hundred count
#define QUANTILE_STEP 0.02

void estimate_init(struct estimate *e)
{
    *e = (struct estimate){.low = 1, .high = 1};
}

static void note_size(struct estimate *e, uint32_t rows)
{
    for (uint32_t i = 0; i < e->sizes; i++) {
        if (e->size[i] == rows)
            return;
    }
    if (e->sizes < ESTIMATE_MIN_SIZES)
        e->size[e->sizes++] = rows;
}

static double line(const struct estimate *e, double rows)
{
    return fmax(e->alpha + e->beta * rows, 1);
}

static void fit(struct estimate *e)
{
    double d = e->weight * e->xx - e->x * e->x;
    if (d > 1e-6 * e->weight * e->xx) {
        e->beta = (e->weight * e->xy - e->x * e->y) / d;
        if (e->beta < 0) // a bigger batch is never faster: what looks so is noise
            e->beta = 0;
    } else {
        e->beta = 0; // one size only: no slope to be seen
    }
    e->alpha = (e->y - e->beta * e->x) / e->weight;
    if (e->alpha < 0) {
        e->alpha = 0;
        e->beta = e->xy / e->xx; // the line through the origin
    }
}

// Moves *q towards the p-quantile of the ratios seen: up by p when above, down by 1 - p when below.
static void follow(double *q, double ratio, double p)
{
    *q += QUANTILE_STEP * *q * (ratio > *q ? p : p - 1);
}

void estimate_add(struct estimate *e, uint32_t rows, uint64_t took_us)
{
    double x = rows, y = (double)took_us;
    note_size(e, rows);
    if (e->seen >= ESTIMATE_MIN_SEEN) {
        double fitted = line(e, x), off = y - fitted;
        follow(&e->low, y / fitted, 0.05);
        follow(&e->high, y / fitted, 0.95);
        double bound = 3 * e->deviation + 1;
        e->deviation += 0.05 * (fmin(fabs(off), 2 * bound) - e->deviation);
        if (fabs(off) > bound)
            y = fitted + copysign(bound, off);
    } else if (e->seen > 0) {
        e->deviation += (fabs(y - line(e, x)) - e->deviation) / (e->seen + 1);
    }
    e->weight = e->weight * FORGET + 1;
    e->x = e->x * FORGET + x;
    e->y = e->y * FORGET + y;
    e->xx = e->xx * FORGET + x * x;
    e->xy = e->xy * FORGET + x * y;
    if (e->seen < UINT32_MAX)
        e->seen++;
    fit(e);
}

bool estimate_trusted(const struct estimate *e)
{
    return e->seen >= ESTIMATE_MIN_SEEN && e->sizes >= ESTIMATE_MIN_SIZES;
}

static uint64_t scaled(const struct estimate *e, uint32_t rows, double factor)
{
    return estimate_trusted(e) ? (uint64_t)(line(e, rows) * factor) : 0;
}

uint64_t estimate_mean_us(const struct estimate *e, uint32_t rows)
{
    return scaled(e, rows, 1);
}

uint64_t estimate_low_us(const struct estimate *e, uint32_t rows)
{
    return scaled(e, rows, fmin(e->low, 1));
}

uint64_t estimate_high_us(const struct estimate *e, uint32_t rows)
{
    return scaled(e, rows, fmax(e->high, 1));
}
