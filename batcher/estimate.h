/* batcher/estimate.h: the online estimate of a worker's time for b rows, t(b) = alpha + beta * b.
 *
 * Under load nearly all batches are full. Least squares with forgetting would then see one point, and its
 * slope would wander. So there is a mean time for each octave of sizes (1, 2 and 3, 4 to 7, ...), which no
 * batch of another size pushes out, and the line is the weighted least squares through these means; errors
 * are taken as relative. A worker that has changed is noticed in one octave first: the others follow it
 * slowly, and count less the longer they were not seen, but never nothing. A single batch counts as at most twice the line, so that one hiccup does not bend it.
 *
 * Beside the line stand two quantiles of observed / fitted by stochastic approximation (Robbins, Monro 1951):
 * the 5 % one says what cannot be done in time, the 95 % one when a batch must leave at the latest. They are
 * the only margin. Trusted after ESTIMATE_MIN_SEEN batches, of one size if need be: then t is the same for
 * all sizes and the low quantile is 0, for what less takes is not known. Thinks. */
#ifndef SLUICE_BATCHER_ESTIMATE_H
#define SLUICE_BATCHER_ESTIMATE_H

#include <stdbool.h>
#include <stdint.h>

#define ESTIMATE_OCTAVES 12 // the last one holds 2,048 rows and more
#define ESTIMATE_MIN_SEEN 8

struct estimate {
    struct {
        double n;      // batches seen
        double weight; // in the fit: up to ten, and it fades to one while others are seen
        double rows;   // mean size
        double us;     // mean time
    } octave[ESTIMATE_OCTAVES];
    double alpha, beta; // microseconds, microseconds a row
    double low, high;   // quantiles of observed / fitted
    uint32_t seen;
    uint32_t octaves; // in which anything was seen
    bool raised;      // by the last one
};

void estimate_init(struct estimate *e);
void estimate_add(struct estimate *e, uint32_t rows, uint64_t took_us);
// A batch that took longer than thought after others that were not waited for: the whole line is raised to it, and lowered
// again to the next one if that took less.
void estimate_raise(struct estimate *e, uint32_t rows, uint64_t took_us);
bool estimate_trusted(const struct estimate *e);
// What the policy may plan with: never more optimistic than the mean, and no refusal on a guess.
double estimate_low(const struct estimate *e);  // 0 .. 1; 0: not known
double estimate_high(const struct estimate *e); // >= 1
// Microseconds; 0 while not trusted.
uint64_t estimate_mean_us(const struct estimate *e, uint32_t rows);
uint64_t estimate_low_us(const struct estimate *e, uint32_t rows);
uint64_t estimate_high_us(const struct estimate *e, uint32_t rows);

#endif
