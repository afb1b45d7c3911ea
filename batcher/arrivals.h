/* batcher/arrivals.h: what auto knows of those who ask: how many rows come in a while, and which share of those
 * who were just answered come back at once (closed-loop clients do). Counting an arrival costs a few additions;
 * the rate is made up when it is read. Thinks. Thread: the home loop's. Owner: the batcher. */
#ifndef SLUICE_BATCHER_ARRIVALS_H
#define SLUICE_BATCHER_ARRIVALS_H

#include <stdbool.h>
#include <stdint.h>

#define ARRIVALS_WINDOWS 3 // after an answer: a 16th, an 8th and a quarter of alpha

struct returns {          // R5
    uint64_t answered_us; // the last answer; 0: none yet
    uint32_t answered;    // its rows
    uint32_t came;        // since then
    double back
        [ARRIVALS_WINDOWS]; // learned: rows that come within a window, as a share of those answered
};

struct arrivals { // all zero: no arrivals yet
    struct returns returns;
    // Exponentially weighted over tau; weight corrects for its start.
    double rate, weight;
    uint64_t read_us; // accounted for up to this time; 0: no arrivals yet
    uint32_t fresh;   // rows since then
    // A window is measured to its end, whatever is answered meanwhile: one at a time.
    bool measuring;
    uint64_t until_us[ARRIVALS_WINDOWS];
    uint32_t of_rows, seen[ARRIVALS_WINDOWS];
};

static inline double arrivals_window_us(double alpha, unsigned i)
{
    return alpha / (16 >> i);
}

// Rows came: before anything is decided about them, so that refused ones count.
void arrivals_came(struct arrivals *a, uint32_t rows, uint64_t now_us);
// alpha: 0 while not known.
void arrivals_answered(struct arrivals *a, uint32_t rows, double alpha, uint64_t now_us);
// Rows a microsecond.
double arrivals_rate(struct arrivals *a, double tau_us, uint64_t now_us);

#endif
