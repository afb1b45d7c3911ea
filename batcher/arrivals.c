#include "batcher/arrivals.h"

#include <math.h>

#define GAIN 0.1

// A share above one is one: more come than those that were answered.
static void close_measurement(struct arrivals *a)
{
    for (unsigned i = 0; i < ARRIVALS_WINDOWS; i++) {
        double share = fmin(1, (double)a->seen[i] / a->of_rows);
        a->returns.back[i] += GAIN * (share - a->returns.back[i]);
    }
    a->measuring = false;
}

void arrivals_came(struct arrivals *a, uint32_t rows, uint64_t now_us)
{
    if (a->read_us == 0)
        a->read_us = now_us; // the first one begins the time that the others are counted over
    else
        a->fresh += rows;
    a->returns.came += rows;
    for (unsigned i = ARRIVALS_WINDOWS; a->measuring && i > 0 && now_us < a->until_us[i - 1]; i--)
        a->seen[i - 1] += rows;
}

static void open_measurement(struct arrivals *a, uint32_t rows, double alpha, uint64_t now_us)
{
    a->measuring = true;
    a->of_rows = rows;
    for (unsigned i = 0; i < ARRIVALS_WINDOWS; i++) {
        a->until_us[i] = now_us + (uint64_t)ceil(arrivals_window_us(alpha, i));
        a->seen[i] = 0;
    }
}

void arrivals_answered(struct arrivals *a, uint32_t rows, double alpha, uint64_t now_us)
{
    a->returns.answered_us = now_us;
    a->returns.answered = rows;
    a->returns.came = 0;
    if (a->measuring && now_us >= a->until_us[ARRIVALS_WINDOWS - 1])
        close_measurement(a);
    if (!a->measuring && alpha > 0)
        open_measurement(a, rows, alpha, now_us);
}

double arrivals_rate(struct arrivals *a, double tau_us, uint64_t now_us)
{
    if (a->read_us > 0 && now_us > a->read_us) {
        double us = (double)(now_us - a->read_us), keep = exp(-us / tau_us);
        a->rate = a->rate * keep + (1 - keep) * (a->fresh / us);
        a->weight = a->weight * keep + (1 - keep);
        a->read_us = now_us;
        a->fresh = 0;
    }
    return a->weight > 0 ? a->rate / a->weight : 0;
}
