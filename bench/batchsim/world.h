/* bench/batchsim/world.h: a run of one game from inside: rows, batches on their way, servers, and what happens next. */
#ifndef SLUICE_BENCH_BATCHSIM_WORLD_H
#define SLUICE_BENCH_BATCHSIM_WORLD_H

#include "base/rand.h"
#include "batcher/batcher.h"
#include "batcher/server.h"
#include "bench/batchsim/batchsim.h"
#include <stdlib.h>

#define SERVERS 8
#define BEGIN_US 1e6
#define NEVER 1e300

struct row {
    struct infer_request request;
    struct ticket ticket;
    double came, due;
    int client; // -1: none
    struct row *next;
};

struct travel { // a batch on its way
    struct row *rows[256];
    unsigned n;
    unsigned server;
    double sent, came, began, took;
    uint64_t expected_us;
    bool quiet;
    struct travel *next;
};

enum event_kind { ROW_COMES, CLIENT_ASKS, BATCH_THERE, BATCH_DONE, BATCH_BACK, WAKE };
struct event {
    double at;
    uint64_t order;
    enum event_kind kind;
    union {
        struct travel *travel;
        int client;
    };
};

struct device {
    struct travel *running, *first, **last;
};

#define BINS 4000
struct run {
    const struct game *game;
    const struct rule *rule;
    struct rand service, coming, kinds, way;
    double now, end, warm, wake;
    struct event *heap;
    unsigned n, cap;
    uint64_t order;
    struct batcher batcher;
    struct row *first, **last; // Triton's queue
    unsigned queued;
    struct batch_server server[SERVERS];
    struct device device[SERVERS];
    struct row *spare_row;
    struct travel *spare_travel;
    double rate; // rows a microsecond
    bool burst;
    double phase_end;
    const double *trace;
    unsigned n_trace, at_trace;
    // figures
    double offered[2], good[2], late, busy_us, done_rows;
    uint32_t bin[BINS];
    double binned;
};

static inline void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

static inline uint64_t clock_us(const struct run *r)
{
    return (uint64_t)r->now;
}

// events.c: a heap by time and, at the same moment, by order.
struct event *event_post(struct run *r, double at, enum event_kind kind);
struct event event_next(struct run *r);

// arrivals.c: of open loops. The next one posts the row that comes next, if that is before the end.
void arrivals_begin(struct run *r);
void arrivals_next(struct run *r);

// world.c: a row ends, answered or not; its client may ask again.
void row_over(struct run *r, struct row *x);

// world.c: whoever made it puts rows in and sends it; the run has it then.
struct travel *travel_new(struct run *r);
void batch_send(struct run *r, struct travel *t, unsigned server);

// rules.c: sends all that the rule lets go now, ends the rows that it gives up, or asks to be woken.
void rules_ask(struct run *r);

// rules.c: ends all rows that wait.
void rules_forget(struct run *r);

#endif
