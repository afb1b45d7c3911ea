#include "router/bandit.h"

#include "base/rand.h"
#include <math.h>
#include <string.h>

struct belief { // of a mean
    double mean, deviation;
};

static struct belief believe(const struct stats_sum *s, double scale)
{
    double n = (double)s->n, mean = s->sum / n;
    double variance = fmax(s->squares / n - mean * mean, 0) / n;
    return (struct belief){mean, sqrt(fmax(variance, scale * scale / (n * n)))};
}

// The size of one reward, of all variants: the root of its mean square where it came.
static double reward_scale(const struct bandit_arm *arms, unsigned n)
{
    double most = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct stats_sum *s = &arms[i].reward;
        most = fmax(most, s->sum != 0 ? fabs(s->squares / s->sum) : 0);
    }
    return most;
}

// Box and Muller (1958).
static double rand_normal(struct rand *r)
{
    double u = 1 - rand_unit(r), v = rand_unit(r);
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

// How often each is the best of so many draws.
static void draw_best(const struct bandit_arm *arms, unsigned n, uint64_t seed, unsigned *best)
{
    struct belief b[EXPERIMENT_VARIANTS];
    struct rand dice;
    double scale = reward_scale(arms, n);
    rand_seed(&dice, seed);
    memset(best, 0, n * sizeof(*best));
    for (unsigned i = 0; i < n; i++)
        b[i] = believe(&arms[i].reward, scale);
    for (unsigned k = 0; k < BANDIT_DRAWS; k++) {
        unsigned top = 0;
        double most = -INFINITY;
        for (unsigned i = 0; i < n; i++) {
            double at = b[i].mean + b[i].deviation * rand_normal(&dice);
            if (at > most)
                most = at, top = i;
        }
        best[top]++;
    }
}

static uint32_t grain(double ppm)
{
    return (uint32_t)(ppm / BANDIT_GRAIN + 0.5) * BANDIT_GRAIN;
}

// D1, D2: where one is to be, by itself.
static uint32_t bounded(const struct bandit_rules *r, const struct bandit_arm *arm, uint32_t is,
                        double want)
{
    uint32_t to = grain(r->floor + want * (EXPERIMENT_WHOLE - (double)r->n * r->floor));
    uint32_t most = arm->stands ? is + r->step : is, least = is > r->step ? is - r->step : 0;
    to = to > most ? most : to;
    to = to < least ? least : to;
    return to < r->floor ? (r->floor < most ? r->floor : most) : to;
}

// Who begins below the floor rises as far as the others give way.
static uint32_t least_of(const struct bandit_rules *r, uint32_t is)
{
    return is < r->floor ? is : r->floor;
}

// What they are too few, or too many, of the whole goes to those that are farthest from it within their bounds.
static bool settle_sum(const struct bandit_rules *r, const struct bandit_arm *arms,
                       const uint32_t *is, uint32_t *out)
{
    for (;;) { // each turn brings the sum nearer by one grain, or to the whole
        uint64_t sum = 0;
        for (unsigned i = 0; i < r->n; i++)
            sum += out[i];
        if (sum == EXPERIMENT_WHOLE)
            return true;
        bool more = sum < EXPERIMENT_WHOLE;
        uint64_t by = more ? EXPERIMENT_WHOLE - sum : sum - EXPERIMENT_WHOLE;
        by = by < BANDIT_GRAIN ? by : BANDIT_GRAIN;
        unsigned at = r->n;
        for (unsigned i = 0; i < r->n; i++) {
            bool may = more ? out[i] + by <= is[i] + (arms[i].stands ? r->step : 0)
                            : out[i] >= least_of(r, is[i]) + by && out[i] + r->step >= is[i] + by;
            if (may && (at == r->n || (more ? out[i] < out[at] : out[i] > out[at])))
                at = i;
        }
        if (at == r->n)
            return false;
        out[at] = more ? out[at] + (uint32_t)by : out[at] - (uint32_t)by;
    }
}

bool bandit_weigh(const struct bandit_rules *r, const struct bandit_arm *arms,
                  const uint32_t *weights, uint64_t seed, uint32_t *out)
{
    unsigned best[EXPERIMENT_VARIANTS];
    uint64_t fewest = UINT64_MAX;
    memcpy(out, weights, r->n * sizeof(*out));
    for (unsigned i = 0; i < r->n; i++)
        fewest = arms[i].reward.n < fewest ? arms[i].reward.n : fewest;
    if (fewest < r->least || fewest < 2 || reward_scale(arms, r->n) == 0)
        return false;
    draw_best(arms, r->n, seed, best);
    for (unsigned i = 0; i < r->n; i++)
        out[i] = bounded(r, &arms[i], weights[i], (double)best[i] / BANDIT_DRAWS);
    if (!settle_sum(r, arms, weights, out)) {
        memcpy(out, weights, r->n * sizeof(*out));
        return false;
    }
    return memcmp(out, weights, r->n * sizeof(*out)) != 0;
}
