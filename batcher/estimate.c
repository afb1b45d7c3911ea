#include "batcher/estimate.h"

#include <math.h>

#define GAIN 0.1      // of a new batch in the mean of its octave, once ten were seen
#define COUPLING 0.02 // how far the other octaves follow what one sees
#define FOLLOW_MIN 0.5
#define FOLLOW_MAX 1.5
#define HICCUP 2  // times the line: more says nothing
#define SETTLED 5 // batches of an octave: from then on hiccups are known as such
#define WEIGHT_MOST 10
#define WEIGHT_FADES 0.95
#define QUANTILE_STEP 0.02

void estimate_init(struct estimate *e)
{
    *e = (struct estimate){.low = 1, .high = 1};
}

static unsigned octave_of(uint32_t rows)
{
    unsigned k = rows > 1 ? 31 - (unsigned)__builtin_clz(rows) : 0;
    return k < ESTIMATE_OCTAVES ? k : ESTIMATE_OCTAVES - 1;
}

static double line(const struct estimate *e, double rows)
{
    return fmax(e->alpha + e->beta * rows, 1);
}

static void fit(struct estimate *e)
{
    double w = 0, x = 0, y = 0, xx = 0, xy = 0;
    for (unsigned i = 0; i < ESTIMATE_OCTAVES; i++) {
        double rows = e->octave[i].rows, us = e->octave[i].us;
        double weight = e->octave[i].weight / fmax(us * us, 1);
        w += weight;
        x += weight * rows;
        y += weight * us;
        xx += weight * rows * rows;
        xy += weight * rows * us;
    }
    double d = w * xx - x * x;
    // One octave shows no slope; and a bigger batch is never faster: what looks so is noise.
    e->beta = e->octaves > 1 && d > 0 ? fmax((w * xy - x * y) / d, 0) : 0;
    e->alpha = (y - e->beta * x) / w;
    if (e->alpha < 0) {
        e->alpha = 0;
        e->beta = xy / xx; // the line through the origin
    }
}

// Moves *q towards the p-quantile of the ratios seen: up by p when above, down by 1 - p when below.
static void follow(double *q, double ratio, double p)
{
    *q += QUANTILE_STEP * *q * (ratio > *q ? p : p - 1);
}

// A worker that becomes slower or faster does so for all batch sizes: each octave moves the others a little.
static void couple(struct estimate *e, unsigned k, double ratio)
{
    double excess = fmin(fmax(ratio, FOLLOW_MIN), FOLLOW_MAX) - 1;
    for (unsigned i = 0; i < ESTIMATE_OCTAVES; i++)
        e->octave[i].us *= i == k ? 1 : 1 + COUPLING * excess;
}

static void weigh(struct estimate *e, unsigned k)
{
    for (unsigned i = 0; i < ESTIMATE_OCTAVES; i++) {
        double *w = &e->octave[i].weight;
        *w = i == k ? fmin(*w + 1, WEIGHT_MOST) : *w > 1 ? fmax(*w * WEIGHT_FADES, 1) : *w;
    }
}

static void add(struct estimate *e, uint32_t rows, uint64_t took_us)
{
    unsigned k = octave_of(rows);
    double us = fmax((double)took_us, 1);
    if (e->seen >= ESTIMATE_MIN_SEEN) {
        double fitted = line(e, rows), ratio = us / fitted;
        follow(&e->low, ratio, 0.05);
        follow(&e->high, ratio, 0.95);
        couple(e, k, ratio);
        if (e->octave[k].n >= SETTLED)
            us = fmin(us, HICCUP * fitted);
    }
    e->octaves += e->octave[k].n == 0;
    e->octave[k].n++;
    double gain = fmax(1 / e->octave[k].n, GAIN);
    e->octave[k].rows += gain * (rows - e->octave[k].rows);
    e->octave[k].us += gain * (us - e->octave[k].us);
    if (e->seen < UINT32_MAX)
        e->seen++;
    weigh(e, k);
    fit(e);
}

static void scale(struct estimate *e, double by)
{
    for (unsigned i = 0; i < ESTIMATE_OCTAVES; i++)
        e->octave[i].us *= by;
    fit(e);
}

void estimate_add(struct estimate *e, uint32_t rows, uint64_t took_us)
{
    double ratio = fmax((double)took_us, 1) / line(e, rows);
    if (e->raised && ratio < 1)
        scale(e, ratio);
    e->raised = false;
    add(e, rows, took_us);
}

void estimate_raise(struct estimate *e, uint32_t rows, uint64_t took_us)
{
    double ratio = (double)took_us / line(e, rows);
    e->raised = ratio > 1 && e->seen > 0;
    if (e->raised)
        scale(e, ratio);
    add(e, rows, took_us);
}

bool estimate_trusted(const struct estimate *e)
{
    return e->seen >= ESTIMATE_MIN_SEEN;
}

double estimate_low(const struct estimate *e)
{
    return e->octaves > 1 ? fmin(e->low, 1) : 0;
}

double estimate_high(const struct estimate *e)
{
    return fmax(e->high, 1);
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
    return scaled(e, rows, estimate_low(e));
}

uint64_t estimate_high_us(const struct estimate *e, uint32_t rows)
{
    return scaled(e, rows, estimate_high(e));
}
