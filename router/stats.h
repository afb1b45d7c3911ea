/* router/stats.h: what may be said of an experiment while it runs, however often somebody looks. A fixed test that is looked
 * at again and again finds something in the end; what stands here does so with a probability of at most alpha over all of
 * time, and may be looked at after every request. Thinks. Thread: any, one state at a time.
 *
 * Guards are e-processes: products of bets against "the variant is no worse", each fair if that is so; by Ville's
 * inequality such a product exceeds 1/alpha once in 1/alpha worlds at most. All guards of an experiment share its alpha:
 * with k of them each gets alpha/k.
 *
 *  - pair: a rate (errors, fallbacks) of the variant against the control's. Turner, Ly, Gruenwald: Generic E-Variables for
 *    Exact Sequential k-Sample Tests that Allow for Optional Stopping (2021), theorem 1: in a block of n requests at the control
 *    and m at the variant each outcome is priced by its arm's rate over the mean rate (n a + m b)/(n + m). The rates are
 *    those of the blocks before, from STATS_LEARN requests of each on. Fair also where the variant's rate is lower than the control's, since only b > a is bet on and
 *    then the product's expectation falls as the variant's true rate does.
 *    It holds for outcomes that are no yes or no but a part of a whole, x in [0, 1], too: the price of x, r^x s^(1-x), is convex
 *    in x, so at most the chord x r + (1-x) s between the prices of all and nothing (Hoeffding: Probability Inequalities for
 *    Sums of Bounded Random Variables (1963), lemma 1), and what is expected of that follows from the mean of x alone. So the sums are
 *    all that is needed; of outcomes that vary less than a yes or no does, more of them are (Waudby-Smith, Ramdas: Estimating
 *    means of bounded random variables by betting (2024), have what each outcome by itself would bring).
 *  - bound: a rate against a number (a latency's quantile is one: the share of answers that take longer). A mixture, of equal
 *    parts, of likelihood ratios of some higher rates over the number (Robbins: Statistical Methods Related to the Law of the
 *    Iterated Logarithm (1970)); each of them is fair for all rates up to the number, and for parts of a whole as above. What has
 *    been seen is all that matters, however it came.
 *  - split: do as many requests come to each variant as should? Lindon, Malek: Anytime-Valid Inference for Multinomial
 *    Count Data (2022): the Dirichlet mixture's likelihood over that of the weights.
 *
 * Intervals are confidence sequences: all of them hold at once with probability 1 - alpha.
 *  - mean: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: Time-uniform central limit theory and asymptotic confidence
 *    sequences (2024), by Gaussian mixture: asymptotic, for any reward with a variance.
 *  - rate: all rates whose likelihood is more than alpha of that of a mixture over all rates, by Jeffreys's beta prior
 *    (Robbins, as above): exact from the first request on. Of few requests, or none that went wrong, the mean's says too much.
 *  - quantile: Howard, Ramdas: Sequential estimation of quantiles with applications to A/B testing and best-arm
 *    identification (2022), the closed form for one quantile. */
#ifndef SLUICE_ROUTER_STATS_H
#define SLUICE_ROUTER_STATS_H

#include "base/hist.h"
#include <stdbool.h>
#include <stdint.h>

#define STATS_MIN_REQUESTS 100 // of a variant before anything is said of it, where nobody says

struct
    stats_arm { // requests, and those of them that went wrong, each as a whole or in part: 0 <= bad <= n
    uint64_t n;
    double bad;
};

#define STATS_LEARN 30 // requests of each arm before the first bet: who knows nothing bets badly

struct stats_pair {
    struct stats_arm control, variant; // so far
    double log_e, log_e_most;          // natural logarithms; the highest that it has been
};
// The next block of both: those since the last one. Empty ones change nothing.
void stats_pair_add(struct stats_pair *p, struct stats_arm control, struct stats_arm variant);

struct stats_bound {
    double limit; // 0 < limit < 1
    struct stats_arm seen;
    double log_e, log_e_most;
};
// More of them.
void stats_bound_add(struct stats_bound *b, struct stats_arm seen);

// Is that evidence enough, at this alpha, of at least `least` requests of the variant? guards: that share alpha.
bool stats_is_worse(double log_e_most, uint64_t variant_requests, uint64_t least, double alpha,
                    unsigned guards);

// The evidence against the weights: its natural logarithm. counts, weights: [n]; the weights are positive and add up to 1.
double stats_split(const uint64_t *counts, const double *weights, unsigned n);

struct stats_sum { // of a reward
    uint64_t n;
    double sum, squares;
};
struct stats_interval {
    double low, high;
};
// Of the mean; with n < 2 all numbers. tight_at: for how many requests it should be narrowest.
struct stats_interval stats_mean(const struct stats_sum *s, double alpha, double tight_at);
// Of the difference of means, variant less control: each gets half of alpha.
struct stats_interval stats_lift(const struct stats_sum *control, const struct stats_sum *variant,
                                 double alpha, double tight_at);
// Of a rate, within 0 and 1; with n < 2 all numbers.
struct stats_interval stats_rate(struct stats_arm a, double alpha);
// Of the difference of rates, variant less control: each gets half of alpha.
struct stats_interval stats_rate_lift(struct stats_arm control, struct stats_arm variant,
                                      double alpha);
// Of quantile q of what the histogram has, in its units; where it knows too little, from 0 to the largest number.
struct stats_interval stats_quantile(const struct hist *h, double q, double alpha);

#endif
