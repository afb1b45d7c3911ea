/* gateway/statistics.h: what Triton's statistics extension tells, counted since this process began: by model and version,
 * in one shard a loop as all metrics are (gateway/metrics.h), and with their model's end. Does.
 * Thread: figures_* the shard's loop; statistics_* any loop, within a turn that has found the model in the table: the
 * shards are freed when each loop has had a turn after the model left it. */
#ifndef SLUICE_GATEWAY_STATISTICS_H
#define SLUICE_GATEWAY_STATISTICS_H

#include "gateway/part.h"
#include "infer/oip_statistics.h"

struct figures_tally {
    _Atomic uint64_t n, us;
};

// Of one version of a model; version "" is what belongs to none: other versions' answers, and what never came to one.
struct figures {
    char version[MODEL_VERSION_MAX];
    uint8_t version_bytes;
    struct figures_tally success, fail, queue, compute, cache_hit; // requests, at their origins
    _Atomic uint64_t inferences, executions, last_ms;              // at the model's home
    _Atomic uint32_t n_sizes;
    struct {
        uint32_t rows;
        struct figures_tally compute;
    } size
        [FIGURES_SIZES]; // [n_sizes], by their first batch; what comes when it is full is not told apart
};

// A request of that model was answered: by a model, its own or not, or from what is kept; or it failed.
void figures_answered(struct model_metrics *mm, struct view version, const struct answer_meta *meta,
                      enum answer_source source, uint64_t total_us);
void figures_failed(struct model_metrics *mm, struct model *m, struct view version,
                    uint64_t total_us);
// A batch of so many rows was computed by that version.
void figures_batch(struct part *p, const struct model *m, struct view version, uint32_t rows,
                   uint64_t compute_us);

// Of one model, of that version (empty: of all that it has), or of all models (m NULL). Names lie in the arena. False: out
// of memory.
bool statistics_tell(struct gateway *g, struct model *m, struct view version, struct arena *a,
                     struct oip_statistics *out);

#endif
