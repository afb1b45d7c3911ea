/* gateway/metrics.h: what is counted. One shard a loop, written by that loop only with relaxed atomics,
 * summed when somebody looks. A model's counts are made on the first request that names it, so labels are
 * bounded by the model table; its series end with it. Whatever is counted for the process is counted apart: the
 * sum over models may fall, as a counter of Prometheus does when its process begins anew. Thread: metrics_* writers on the shard's loop; pages on the main thread. */
#ifndef SLUICE_GATEWAY_METRICS_H
#define SLUICE_GATEWAY_METRICS_H

#include "base/buffer.h"
#include "base/hist.h"
#include "http/abuse.h"
#include "router/effects.h"
#include "router/level.h"
#include "router/table.h"
#include <stdatomic.h>

struct gateway;
struct prom;
struct figures;

#define FIGURES_VERSIONS 64 // of a model, that the statistics tell apart
#define FIGURES_SIZES 64    // of batches of one version

enum metrics_stage { STAGE_TOTAL, STAGE_PARSE, STAGE_QUEUE, STAGE_COMPUTE, STAGES };

// What came of a request, as whoever plans for demand sees it: by the model that was asked for. What a client has brought
// upon itself is none.
enum demand {
    DEMAND_ITSELF,   // the model answered
    DEMAND_FALLBACK, // another one did
    DEMAND_CACHE,    // what is kept of it did, and was fresh
    DEMAND_STALE,    // and was not
    DEMAND_DEFAULT,  // the written answer did
    DEMAND_SHED,     // refused for want of room, or of anybody who could answer
    DEMAND_LATE,     // its deadline passed, or its client left before
    DEMAND_FAILED,   // by us or a worker
    DEMANDS
};
extern const char *const demand_name[DEMANDS];

struct demand_count { // one writer
    _Atomic uint64_t requests, rows;
    _Atomic uint64_t row_ns;       // rows times what a row took of a server then
    _Atomic uint64_t unknown_rows; // of the rows: when that was not known
};

struct demand_sum { // of all loops
    uint64_t requests, rows, row_ns, unknown_rows;
};

// Of the answers that other models gave for one: whose they were. As many as a chain has steps; past them (its chain was
// another one, and another) they are not told apart.
struct answered_by {
    _Atomic uint64_t n; // 0: nobody's yet
    uint8_t name_bytes;
    char name[MODEL_NAME_MAX];
};
#define ANSWERED_BY CHAIN_STEPS

struct answered_sum { // of all loops
    char name[MODEL_NAME_MAX];
    uint8_t name_bytes;
    uint64_t n;
};

struct model_metrics {
    struct demand_count demand[DEMANDS];
    // At the origin: what was answered, by who did; what was not, by outcome.
    _Atomic uint64_t answers[SOURCES], failures[STATUS_COUNT];
    _Atomic uint64_t fallbacks;             // of the answers, those that another one gave
    struct answered_by by[ANSWERED_BY];     // of those, but for what is written down
    _Atomic uint64_t steps[CHAIN_OUTCOMES]; // of chains, at this model, by what came of them
    struct hist stage[STAGES]; // microseconds; queue, compute: of what the model answered
    _Atomic uint64_t batches[BATCH_REASONS]; // at the home
    struct hist batch_rows;
    _Atomic uint64_t notes[NOTE_KINDS];
    _Atomic uint64_t moves[LEVELS];                    // to that level
    struct figures *_Atomic figures[FIGURES_VERSIONS]; // gateway/statistics.h
    _Atomic uint64_t refusals[REFUSALS];
};

struct metrics {
    struct model_metrics *_Atomic model[TABLE_MODELS];
    _Atomic uint64_t other[STATUS_COUNT]; // answers that belong to no model
    _Atomic uint64_t
        refused[STATUS_COUNT]; // bad input, answered by the HTTP room before its head was whole
    _Atomic uint64_t abused[ABUSE_KINDS][ABUSE_VERDICTS]; // connections that cost too much
    _Atomic uint64_t no_memory;     // REFUSAL_MEMORY of requests that named no model yet
    _Atomic uint64_t log_lines;     // offered to the access log
    _Atomic uint64_t streams;       // HTTP/2 requests that have begun and not ended
    _Atomic uint32_t live, zombies; // infers
};

void metrics_demand_add(struct model_metrics *mm, const struct model *m, enum demand k,
                        uint32_t rows);
struct demand_sum metrics_demand(const struct gateway *g, const struct model *m, enum demand k);
// One more that `name` answered.
void metrics_answered_by(struct model_metrics *mm, struct view name);
// Who has answered for m, all loops together. Returns how many they are.
unsigned metrics_answers(const struct gateway *g, const struct model *m,
                         struct answered_sum out[ANSWERED_BY]);
// NULL: out of memory (then it is not counted).
struct model_metrics *metrics_model(struct metrics *s, const struct model *m);
void metrics_note(struct metrics *s, const struct note *n);
void metrics_drop(struct metrics *s,
                  const struct model *m); // no loop can have found it any more; any thread
void metrics_deinit(struct metrics *s);

// Upper edges of the buckets of latencies, in microseconds.
#define METRICS_LATENCIES 17
extern const uint64_t metrics_latency_us[METRICS_LATENCIES];
struct prom_of { // what writers of families of the page have at hand
    struct prom *prom;
    struct gateway *g;
    struct hist sum; // scratch
};
// The whole page; ctx is the struct gateway.
bool metrics_page(struct buffer *out, void *ctx); // false: out of memory, it is cut

#endif
