#include "router/stats.h"

#include <math.h>

// ---- guards ------------------------------------------------------------------------------------------

// Pulled a little toward the middle (Krichevsky, Trofimov): a rate of 0 is no certainty.
static double rate_of(struct stats_arm a)
{
    return (a.bad + 0.5) / ((double)a.n + 1);
}

// What the bets on an arm's outcomes bring: its rate over the fair price, or what is left of both.
static double price(struct stats_arm seen, double rate, double fair)
{
    return seen.bad * log(rate / fair) + ((double)seen.n - seen.bad) * log((1 - rate) / (1 - fair));
}

static void add_arm(struct stats_arm *to, struct stats_arm seen)
{
    to->n += seen.n;
    to->bad += seen.bad;
}

void stats_pair_add(struct stats_pair *p, struct stats_arm control, struct stats_arm variant)
{
    double a = rate_of(p->control), b = rate_of(p->variant);
    bool learned = p->control.n >= STATS_LEARN && p->variant.n >= STATS_LEARN;
    if (learned && b > a && control.n > 0 && variant.n > 0) {
        double n = (double)control.n, m = (double)variant.n;
        double fair = (n * a + m * b) / (n + m);
        p->log_e += price(control, a, fair) + price(variant, b, fair);
        p->log_e_most = fmax(p->log_e_most, p->log_e);
    }
    add_arm(&p->control, control);
    add_arm(&p->variant, variant);
}

void stats_bound_add(struct stats_bound *b, struct stats_arm seen)
{
    static const double times[] = {1.2, 1.5, 2, 3, 5, 10, 30};
    enum { RATES = sizeof(times) / sizeof(times[0]) };
    double parts[RATES], most = -INFINITY, sum = 0;
    add_arm(&b->seen, seen);
    for (unsigned i = 0; i < RATES; i++) { // odds so many times as high: rates stay below 1
        double odds = times[i] * b->limit / (1 - b->limit);
        parts[i] = price(b->seen, odds / (1 + odds), b->limit);
        most = fmax(most, parts[i]);
    }
    for (unsigned i = 0; i < RATES; i++)
        sum += exp(parts[i] - most);
    b->log_e = most + log(sum / RATES);
    b->log_e_most = fmax(b->log_e_most, b->log_e);
}

bool stats_is_worse(double log_e_most, uint64_t variant_requests, uint64_t least, double alpha,
                    unsigned guards)
{
    return variant_requests >= least && log_e_most >= log(guards / alpha);
}

// ---- the split ---------------------------------------------------------------------------------------

#define SPLIT_TRUST 100 // how much the mixture believes in the weights, in requests

static double log_gamma(double x)
{
    int sign;
    return lgamma_r(x, &sign);
}

double stats_split(const uint64_t *counts, const double *weights, unsigned n)
{
    double sum = 0, log_e = log_gamma(SPLIT_TRUST);
    for (unsigned i = 0; i < n; i++) {
        double prior = SPLIT_TRUST * weights[i], seen = (double)counts[i];
        log_e += log_gamma(prior + seen) - log_gamma(prior) - seen * log(weights[i]);
        sum += seen;
    }
    return log_e - log_gamma(SPLIT_TRUST + sum);
}

// ---- intervals ---------------------------------------------------------------------------------------

// rho is the one that is narrowest at about tight_at requests.
static double mean_radius(double n, double variance, double alpha, double tight_at)
{
    double two = -2 * log(alpha), rho2 = (two + log(two) + 1) / tight_at, at = n * rho2 + 1;
    return sqrt(variance) * sqrt(2 * at / (n * n * rho2) * log(sqrt(at) / alpha));
}

struct stats_interval stats_mean(const struct stats_sum *s, double alpha, double tight_at)
{
    if (s->n < 2)
        return (struct stats_interval){-INFINITY, INFINITY};
    double n = (double)s->n, mean = s->sum / n;
    double radius = mean_radius(n, fmax(s->squares / n - mean * mean, 0), alpha, tight_at);
    return (struct stats_interval){mean - radius, mean + radius};
}

struct stats_interval stats_lift(const struct stats_sum *control, const struct stats_sum *variant,
                                 double alpha, double tight_at)
{
    struct stats_interval a = stats_mean(control, alpha / 2, tight_at),
                          b = stats_mean(variant, alpha / 2, tight_at);
    return (struct stats_interval){b.low - a.high, b.high - a.low};
}

static double log_beta(double a, double b)
{
    return log_gamma(a) + log_gamma(b) - log_gamma(a + b);
}

// The natural logarithm of what the mixture is worth over the rate p.
static double mixture_over(struct stats_arm a, double p)
{
    double bad = a.bad, good = (double)a.n - bad;
    double at_p = (bad > 0 ? bad * log(p) : 0) + (good > 0 ? good * log1p(-p) : 0);
    return log_beta(bad + 0.5, good + 0.5) - log_beta(0.5, 0.5) - at_p;
}

// Where that passes log(1 / alpha) between the rate that was seen and `end`, which it does once: it is convex.
static double rate_edge(struct stats_arm a, double end, double alpha)
{
    double in = a.bad / (double)a.n, out = end;
    for (unsigned i = 0; i < 50 && in != end; i++) {
        double half = (in + out) / 2;
        if (mixture_over(a, half) < -log(alpha))
            in = half;
        else
            out = half;
    }
    return out;
}

struct stats_interval stats_rate(struct stats_arm a, double alpha)
{
    if (a.n < 2)
        return (struct stats_interval){-INFINITY, INFINITY};
    return (struct stats_interval){rate_edge(a, 0, alpha), rate_edge(a, 1, alpha)};
}

struct stats_interval stats_rate_lift(struct stats_arm control, struct stats_arm variant,
                                      double alpha)
{
    struct stats_interval a = stats_rate(control, alpha / 2), b = stats_rate(variant, alpha / 2);
    return (struct stats_interval){b.low - a.high, b.high - a.low};
}

struct stats_interval stats_quantile(const struct hist *h, double q, double alpha)
{
    double n = (double)atomic_load_explicit(&h->count, memory_order_relaxed);
    struct stats_interval all = {0, INFINITY};
    if (n < 2)
        return all;
    double l = (1.4 * log(log(2.1 * n)) + log(10 / alpha)) / n;
    double f = 1.5 * sqrt(q * (1 - q) * l) + 0.8 * l;
    if (q - f > 0)
        all.low = (double)hist_quantile(h, q - f);
    if (q + f < 1)
        all.high = (double)hist_quantile(h, q + f);
    return all;
}
