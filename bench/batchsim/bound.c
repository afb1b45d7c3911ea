/* bench/batchsim/bound: the most rows that anybody could answer in time on one server, who knows all arrivals
 * beforehand. Exact for t(b) = alpha + beta * b and deadlines in order of arrival: batches are then runs of
 * neighbours (an exchange argument), so that the earliest end of a schedule that has answered c rows, the last of
 * them row l, follows from the one that has answered c - b up to row l - b. */
#include "bench/batchsim/batchsim.h"
#include <math.h>
#include <stdlib.h>

struct bound {
    double alpha, beta;
    int max_rows, n;
    const double *come, *due; // [n + 1], from 1: when it can begin, when it must have ended
    double *end; // [max_rows + 1][n + 1]: ring by l; end[l][c] over all last rows up to l
    int best;
};

static double *bound_row(const struct bound *b, int l)
{
    return b->end + (size_t)(l % (b->max_rows + 1)) * (size_t)(b->n + 1);
}

// The earliest end with row l as the last of c answered.
static double bound_with(const struct bound *b, int l, int c)
{
    double best = INFINITY;
    for (int k = 1; k <= b->max_rows && k <= c && l - k >= c - k; k++) {
        double start = fmax(bound_row(b, l - k)[c - k], b->come[l]);
        double end = start + b->alpha + b->beta * k;
        if (end <= b->due[l - k + 1] && end < best)
            best = end;
    }
    return best;
}

// Fewer than `lo` answered by row l cannot be made good within a deadline.
static void bound_step(struct bound *b, int l, int lo)
{
    double *row = bound_row(b, l), *before = bound_row(b, l - 1);
    for (int c = 0; c <= b->n; c++)
        row[c] = before[c];
    for (int c = lo < 1 ? 1 : lo; c <= l && c <= b->best + 1; c++) {
        double end = bound_with(b, l, c);
        row[c] = fmin(row[c], end);
        if (row[c] < INFINITY && c > b->best)
            b->best = c;
    }
}

int bound_rows(double alpha, double beta, int max_rows, const double *come, const double *due,
               int n)
{
    struct bound b = {
        .alpha = alpha, .beta = beta, .max_rows = max_rows, .n = n, .come = come, .due = due};
    b.end = malloc(sizeof(double) * (size_t)(max_rows + 1) * (size_t)(n + 1));
    if (!b.end)
        abort();
    for (int i = 0; i < (max_rows + 1) * (n + 1); i++)
        b.end[i] = INFINITY;
    bound_row(&b, 0)[0] = 0;
    int reach = (int)(max_rows * ((due[1] - come[1]) / (alpha + beta * max_rows) + 3));
    for (int l = 1; l <= n; l++)
        bound_step(&b, l, b.best - reach);
    free(b.end);
    return b.best;
}
