/* bench/batchsim/batchsim.h: what is played, and what comes of it.
 *
 * World: rows come one by one (Poisson, bursts, a recorded trace, or clients that ask again when they are answered),
 * each with a deadline; servers take t(b) = alpha + beta * b with a noise of 5 %, one batch in 500 four times that;
 * 50 to 150 us each way; timers up to 60 us late. Arrivals, kinds, service and transfers are drawn from streams of
 * their own, so that all rules meet the same world. Triton's rules are played here, first in, first out, with a
 * time-out as long as the deadline; they and the bound are given the truth, auto learns t(b) from what it sees.
 * Goodput is rows answered in time, as a share of what full batches on all servers carry. Times: microseconds.
 *
 *   ../batchsim.c  arguments, and the tables in their order
 *   goodput.c      tables of goodput, beside tuned Triton and the bound, and what they demand
 *   tables.c       regimes; tables of latency, closed loops and lanes
 *   world.c        one game: clients, rows, the way, servers (world.h: a run from inside)
 *   events.c       what happens next
 *   arrivals.c     when rows come: Poisson, bursts, recorded traces
 *   rules.c        the product's batcher, asked as the desk asks it, and Triton's rules
 *   bound.c        the clairvoyant bound */
#ifndef SLUICE_BENCH_BATCHSIM_BATCHSIM_H
#define SLUICE_BENCH_BATCHSIM_BATCHSIM_H

#include "batcher/policy.h"

struct regime {
    const char *name;
    double alpha, beta;
    uint32_t max_rows;
};
// Of deadlines.
enum kind { TIGHT, MEDIUM, LOOSE, MIXED };
// Of rows.
enum coming { POISSON, BURSTS, CLOSED, AZURE, MOONCAKE, COMINGS };

struct rule {
    const char *name;
    bool triton;
    struct policy policy; // not Triton's
    uint32_t pipeline;
    uint32_t most;   // Triton: largest batch as a share of max_rows: 1 / most
    double delay_us; // Triton
    double patience; // Triton: time-out as a share of the deadline
};

struct game {
    struct regime regime;
    enum kind kind;
    enum coming coming;
    double load; // of capacity
    unsigned servers, clients;
    double high; // share of the highest lane
    // What may be wrong:
    double said;                     // of its time, by the worker; 0: it says nothing
    double slow, slow_from, slow_to; // times slower between these shares of the run
};

struct figures {
    double goodput, rows_per_s, p50_us, p99_us, device_us, high, low;
};

// ---- world.c: one game

// How long a run is. Set once, before the first game.
extern struct size {
    double rows, closed_us, bound_rows; // of open loops, of closed ones, of the bound
} size;

// What a server takes for so many rows at once, without noise.
double time_of(const struct regime *g, double rows);

// From a row's coming to its deadline.
double slack_of(const struct regime *g, enum kind kind);

// Full batches on all servers, in rows a microsecond.
double capacity(const struct game *g);

struct figures game_play(struct game g, const struct rule *rule);

// Goodput of who knows all arrivals of that game beforehand. One server; deadlines in the order of arrival.
double game_bound(struct game g);

// ---- bound.c: the clairvoyant one

/* The most rows of n that anybody could answer in time on one server. come, due: [n + 1], from 1: when a row can begin, and
 * when it must have ended. */
int bound_rows(double alpha, double beta, int max_rows, const double *come, const double *due,
               int n);

// ---- rules.c: those that are compared

extern const struct rule triton0, triton1, triton5, fixed2, fixed0, automatic;

// ---- arrivals.c

extern const char *const coming_name[];

// Reads what is there of the recorded traces in that folder; says what is not.
void traces_read(const char *folder);

bool trace_is_there(enum coming coming);

void traces_free(void);

// ---- tables.c, goodput.c: what is printed

extern const struct regime tiny, cnn, gpu, xfmr, heavy;
extern const char *const kind_name[];

// Prints whether that was met.
void demand(bool met, const char *what, double value);

// How many demands were not.
unsigned demands_missed(void);

void closed_table(bool small);
void latency_table(void);
void lanes_table(void);

void goodput_table(bool small);
void uneven_tables(bool small);

// Workers that report wrong times, or become slower: what an estimate that is wrong costs.
void wrong_table(void);

// What the rows of goodput_table demand.
void goodput_demands(void);

#endif
