/* router/guards.h: what ends an experiment by itself. Each guard of each variant beside the control is one test of
 * router/stats.h, and so is the split: all of them share the experiment's GUARDS_ALPHA, so that of experiments in which no
 * variant is worse, and requests come as they should, at most so many are ever ended or called skewed, however often somebody
 * looks. Thinks. Thread: any, one state at a time.
 *
 * What they take for granted: an outcome depends on the variant and on when it was, not on the one before. A client that
 * repeats what fails counts as often as it does. */
#ifndef SLUICE_ROUTER_GUARDS_H
#define SLUICE_ROUTER_GUARDS_H

#include "router/experiment.h"
#include "router/stats.h"

#define GUARDS_ALPHA 0.05

enum guard_kind {
    GUARD_ERRORS, // more than the control's
    GUARD_FALLBACKS,
    GUARD_REWARD,     // less of it
    GUARD_MAX_ERRORS, // more than a number
    GUARD_MAX_FALLBACKS,
    GUARD_MAX_P99,    // of answers take longer than a time
    GUARD_MIN_REWARD, // less of it than a number
    GUARD_KINDS
};
#define GUARD_PAIRS 3                             // those against the control stand first
extern const char *const guard_name[GUARD_KINDS]; // as the file's keys

struct guard_rules {
    bool on[GUARD_KINDS];
    double limit[GUARD_KINDS]; // a share, of those against a number; of GUARD_MIN_REWARD the least
    uint64_t least;            // requests of a variant before anything is said of it
    bool split;                // each request draws by itself: whom they come to is looked at
    unsigned variants;
};

// Of a variant, ever: what only grows. They may be read while they are written: what goes wrong may be seen before or after
// the request that it is one of, and counts when both have been.
struct guard_counts {
    struct stats_arm errors, fallbacks, slow;
    struct stats_arm rewards; // router/cohorts.h: bad is what they had less than the most
    uint64_t drawn;
};

struct guards {
    struct guard_rules rules;
    struct guard_counts seen[EXPERIMENT_VARIANTS];
    struct stats_pair pairs[EXPERIMENT_VARIANTS][GUARD_PAIRS];
    struct stats_bound bounds[EXPERIMENT_VARIANTS][GUARD_KINDS];
    double evidence[EXPERIMENT_VARIANTS][GUARD_KINDS]; // the most that each has had
    double weights[EXPERIMENT_VARIANTS];               // in force since `from`
    uint64_t from[EXPERIMENT_VARIANTS];                // drawn before
    double split_before, split_log_e, split_most;
};

// counts: [rules.variants], from which on they look.
void guards_begin(struct guards *g, const struct guard_rules *r, const double *weights,
                  const struct guard_counts *counts);
// Requests are dealt otherwise from here on.
void guards_weigh(struct guards *g, const double *weights, const struct guard_counts *counts);

struct guard_verdict {
    enum guard_kind kind;
    unsigned variant;
    struct stats_arm control, seen; // control: of those against it
    double limit;                   // of the others, as the rules have it
    double log_e, needed;           // natural logarithms
};
// What has come since the last look. True: a variant has to go, and why.
bool guards_look(struct guards *g, const struct guard_counts *counts, struct guard_verdict *out);
// The most evidence that there was, and what is needed: natural logarithms. A variant that such a guard watches.
double guards_evidence(const struct guards *g, enum guard_kind kind, unsigned variant);
double guards_needed(const struct guards *g);
// Requests do not come to the variants as the weights say.
bool guards_skewed(const struct guards *g);
// "errors: 43 of 412 (10.44%), control 4 of 405 (0.99%); evidence 2.1e+04 to 1, 60 to 1 needed"; of a reward it is what they had.
#define GUARD_WORDS 200
void guard_words(const struct guard_verdict *v, char out[GUARD_WORDS]);

#endif
