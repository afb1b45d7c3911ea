/* batcher/estimate.h: the online estimate of a worker's time for b rows, t(b) = alpha + beta * b.
 * Least squares with exponential forgetting; an observation further than three mean deviations from the
 * line counts as if it were there (Huber's rule), so that one hiccup does not bend it. Beside the line it
 * follows two quantiles of observed/fitted by stochastic approximation (Robbins, Monro 1951): the 5 % one
 * says what cannot be done in time, the 95 % one when a batch must leave at the latest. Trusted only after
 * ESTIMATE_MIN_SIZES distinct sizes were seen. Thinks. */
#ifndef SLUICE_BATCHER_ESTIMATE_H
#define SLUICE_BATCHER_ESTIMATE_H

#include <stdbool.h>
#include <stdint.h>

#define ESTIMATE_MIN_SIZES 3
#define ESTIMATE_MIN_SEEN 16

struct estimate {
    double weight, x, y, xx, xy; // decayed sums
    double alpha, beta;          // microseconds, microseconds a row
    double deviation;            // mean absolute residual, microseconds
    double low, high;            // quantiles of observed / fitted
    uint32_t seen;
    uint32_t size[ESTIMATE_MIN_SIZES]; // distinct sizes, first ones
    uint32_t sizes;
};

void estimate_init(struct estimate *e);
void estimate_add(struct estimate *e, uint32_t rows, uint64_t took_us);
bool estimate_trusted(const struct estimate *e);
// Microseconds; 0 while not trusted.
uint64_t estimate_mean_us(const struct estimate *e, uint32_t rows);
uint64_t estimate_low_us(const struct estimate *e, uint32_t rows);
uint64_t estimate_high_us(const struct estimate *e, uint32_t rows);

#endif
