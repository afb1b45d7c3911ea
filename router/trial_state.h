/* router/trial_state.h: an experiment as it is live: what operators, guards and ramps have made of what gateway.conf says,
 * as one record that is kept in a file or in a store that instances share, and the rules by which one record takes the
 * place of another. Thinks. Memory: the caller's, no pointers in it. Thread: any, one at a time.
 *
 *   draft ──resume──► running ◄──resume── paused          Weights may change in every status.
 *                      │    └───pause────►   │            Of a draft, a paused and a rolled-back one
 *                      └─rollback, promote───┘            all get the control; of a promoted one all
 *                       ▼               ▼                 get that variant.
 *                  rolled_back       promoted ──resume, rollback──► ...
 *                      └──resume──► running
 *
 *  R1  Each change has the next revision, and a mark of its own: a random number, by which two changes are told apart
 *      that had the same revision before them.
 *  R2  The greater revision wins; of two equal ones the greater epoch; of two equal epochs the one that is stored, since
 *      the store takes one change alone of each revision.
 *  R3  A store that has less than an instance has gone back (a failover, a restart without its last second): what it has
 *      is not taken, and the instance's is written over it, with the next epoch. So a promotion does not come undone.
 *  R4  The section seeds. What was changed live wins until the section changes; then the section, as a new revision. A
 *      section is known by its digest: an instance whose own section has changed since it looked last seeds; one that
 *      has just come, and does not know what it was, seeds with a section that the record does not come from, and never
 *      did: one that it came from before belongs to an instance that has an older file. */
#ifndef SLUICE_ROUTER_TRIAL_STATE_H
#define SLUICE_ROUTER_TRIAL_STATE_H

#include "base/buffer.h"
#include "base/hash.h"
#include "router/experiment.h"

#define TRIAL_NAME 128 // bytes
#define TRIAL_WHO 64
#define TRIAL_WHY 256
#define TRIAL_SEEDS 8                  // sections that it came from, the newest first
#define TRIAL_TEXT (64u * 1024)        // bytes of a record as JSON
#define TRIAL_WRONG 160                // bytes of what is wrong with one, and its NUL
#define TRIAL_LAYOUT 1                 // of the JSON
#define TRIAL_MOST (UINT64_C(1) << 53) // revisions, epochs, times: exact in any reader of JSON

enum trial_status {
    TRIAL_DRAFT,
    TRIAL_RUNNING,
    TRIAL_PAUSED,
    TRIAL_ROLLED_BACK,
    TRIAL_PROMOTED,
    TRIAL_STATUSES
};
extern const char *const trial_status_name[TRIAL_STATUSES];

struct trial_state {
    char name[TRIAL_NAME + 1];
    uint64_t revision; // from 1
    uint64_t epoch;    // how often one was written over a store that had gone back
    uint64_t mark;
    enum trial_status status;
    unsigned promoted;    // TRIAL_PROMOTED: that variant
    uint64_t counts_from; // the revision that what is counted of its variants counts from
    unsigned n_variants;  // 1 to EXPERIMENT_VARIANTS
    char variant[EXPERIMENT_VARIANTS][TRIAL_NAME + 1];
    uint32_t weight[EXPERIMENT_VARIANTS]; // in millionths, as they are
    struct buckets buckets;               // of all weights so far
    unsigned n_seeds;                     // 1 to TRIAL_SEEDS
    struct hash128 seed[TRIAL_SEEDS];
    uint64_t at_us; // wall clock of whoever made the last change
    char who[TRIAL_WHO + 1], why[TRIAL_WHY + 1];
};

// ---- changes -----------------------------------------------------------------------------------------

struct trial_section { // of gateway.conf
    struct view name;
    const struct view *variants;   // [n_variants]
    const uint32_t *const *weight; // [n_variants][changes], in millionths; the last one is in force
    unsigned n_variants, changes;
    bool draft; // it does not run of itself
    struct hash128 digest;
};

enum trial_verb {
    TRIAL_WEIGH,
    TRIAL_RESUME,
    TRIAL_PAUSE,
    TRIAL_ROLL_BACK,
    TRIAL_PROMOTE,
};

struct trial_stamp { // of a change; texts that are too long are cut
    uint64_t mark, at_us;
    struct view who, why;
};

struct trial_change {
    enum trial_verb verb;
    const uint32_t *weights; // TRIAL_WEIGH: [n_variants]
    unsigned variant;        // TRIAL_PROMOTE
    struct trial_stamp stamp;
};

// The first record (before NULL), or the one that takes that one's place since the section is another one. What is
// counted counts from here. False: names or weights that cannot be; out is of no use then. out may be before.
bool trial_state_seed(struct trial_state *out, const struct trial_state *before,
                      const struct trial_section *s, const struct trial_stamp *stamp);
// The next revision. NULL: done; else why it cannot be (constant), and s is as it was. A resume of what was rolled back or
// promoted counts anew. *anew, of TRIAL_WEIGH: so many changes had cut the buckets up that they were drawn from these
// weights alone, and more keys moved than had to.
const char *trial_state_change(struct trial_state *s, const struct trial_change *c, bool *anew);
// Who gets what: DRAW_TAKEN as the buckets say; else all of them *whole. (See the drawing.)
bool trial_state_draws(const struct trial_state *s, unsigned *whole);

// ---- rules -------------------------------------------------------------------------------------------

enum trial_order {
    TRIAL_SAME,
    TRIAL_NEWER, // what is there takes the place of what is here
    TRIAL_OLDER  // it has gone back, or is none: what is here is written over it
};
// R2, R3. there: in the store; NULL: none is.
enum trial_order trial_state_order(const struct trial_state *here, const struct trial_state *there);
// What is here, as it is to be written over what is there (NULL: none).
void trial_state_fence(struct trial_state *here, const struct trial_state *there);
// R4. last: the digest of this instance's section when it looked last; NULL: not known.
bool trial_state_is_seeded_by(const struct trial_state *s, struct hash128 digest,
                              const struct hash128 *last);
// Whether its variants are those, in that order: else an instance with that section can do nothing with it.
bool trial_state_fits(const struct trial_state *s, const struct trial_section *section);

// ---- as JSON -----------------------------------------------------------------------------------------

// Appended. False: out of memory.
bool trial_state_write(struct buffer *out, const struct trial_state *s);
// Whole and sound, or nothing: then wrong, printable. Members that are not known are passed over: a later release's.
bool trial_state_read(struct trial_state *out, struct view text, char wrong[TRIAL_WRONG]);

#endif
