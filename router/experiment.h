/* router/experiment.h: which variant of an experiment a request belongs to: a pure function of (experiment, sticky key).
 * A variant is a model, with its own chain and its own cache: it is drawn before the chain is chosen. The same key
 * draws the same variant on every instance and after every start. Integers only. Thinks. Immutable once made, but for
 * the pointer to what changes while it runs: any thread reads it. Views stay as long as whoever made it says.
 *
 * A draw. The key's bucket is the upper half of a keyed hash of 64 bits (XXH3, its seed made of the salt and of what
 * the draw is for), one of 2^32; each bucket is one variant's. The salt is no secret: it keeps experiments apart, and a
 * client that chooses its key may choose its variant.
 *
 * What moves. A change of weights from p to q has to move the keys of sum(max(0, q - p)) of all buckets, and no more
 * (Levin, Peres, Wilmer: Markov Chains and Mixing Times, 4.2, on coupling). Between two variants a boundary that
 * moves does just that. Among three nothing does that is a function of the weights alone: of
 * (1/2, 1/2, 0), (1/2, 0, 1/2) and (0, 1/2, 1/2) each is half away from each, and if the first two changes move half of
 * the keys, the way between the last two moves all of them (what such functions can do at best: Bavarian, Ghazi,
 * Haramaty, Kamath, Rivest, Sudan: Optimality of Correlated Sampling Strategies, Theory of Computing 16 (2020)). So
 * buckets come from the weights and those before them: each change is made to the buckets that were, and moves the least.
 *
 *  B1  Each variant has a place on the circle of buckets, i/n of it, and fills it upward from there; the first one, the
 *      control, has what no other has. So weights alone, without those before them, move the least, too, as long as
 *      nobody outgrows its n-th of the circle and the variants beside the control grow together or shrink together.
 *  B2  Who shrinks gives up what it took last; who grows takes first what others gave up, then of the control's. */
#ifndef SLUICE_ROUTER_EXPERIMENT_H
#define SLUICE_ROUTER_EXPERIMENT_H

#include "base/view.h"
#include <stdatomic.h>
#include <stdint.h>

#define EXPERIMENT_VARIANTS 16
#define EXPERIMENT_WHOLE 1000000u // weights and shares are of so many
#define BUCKETS (1ull << 32)
#define BUCKET_RUNS 512

struct buckets { // who has which: run i ends with bucket last[i] and is variant of[i]'s
    unsigned n;
    uint32_t last[BUCKET_RUNS];
    uint8_t of[BUCKET_RUNS];
};

// All are the first variant's.
void buckets_init(struct buckets *b);
// The next weights of n variants, at most EXPERIMENT_VARIANTS, which add up to EXPERIMENT_WHOLE. False: so many changes
// have cut them up that there is no room for their runs; b is of no use any more.
bool buckets_change(struct buckets *b, const uint32_t *weights, unsigned n);
unsigned buckets_find(const struct buckets *b, uint32_t bucket);
// How many of all buckets that variant has.
uint64_t buckets_of(const struct buckets *b, unsigned variant);

// What a draw is for: the same salt for two of them gives two hashes.
enum draw_for { DRAW_FOR_VARIANT, DRAW_FOR_LAYER, DRAW_FOR_HOLDOUT, DRAW_FOR_SHADOW };
uint64_t experiment_seed(struct view salt, enum draw_for what);
uint32_t experiment_bucket(struct view key, uint64_t seed);

struct experiment_variant {
    struct view name, model;
};

enum draw_how {
    DRAW_TAKEN,
    DRAW_FORCED, // a tester's signed word says so (router/force.h)
    DRAW_NO_KEY, // from here on none takes it: it has no sticky key
    DRAW_HELD_OUT,
    DRAW_OTHER_SLICE, // its layer gives its key to an experiment of another model, or to none
    DRAW_NOT_TARGETED,
    DRAW_BOUND, // it names a version, or belongs to a sequence: both are the control's
    DRAW_UNFIT, // its variant takes or gives something else, or is not known
    DRAW_DRAFT, // the experiment has not begun, stands still, or is over: the control's
    DRAW_PAUSED,
    DRAW_ROLLED_BACK,
    DRAW_PROMOTED, // it is over, and one variant is everybody's
    DRAW_HOWS
};
extern const char *const draw_how_name[DRAW_HOWS]; // as logs, metrics and `explain` say it

// What changes while an experiment runs. Immutable: another one takes its place, and a draw reads one of them.
struct experiment_live {
    enum draw_how how; // DRAW_TAKEN: it draws; else DRAW_DRAFT and beyond: all get `whole`
    uint8_t whole;
    struct buckets buckets;
};

// A model that is asked, too, what the control has answered (router/shadow.h).
struct experiment_shadow {
    struct view name, model;
    uint64_t from, to; // buckets of shadow_seed: [from, to)
};

// One trait of who asks has to have that value.
struct experiment_condition {
    unsigned trait;
    struct view value;
};

struct experiment {
    struct view name;
    uint64_t seed;
    uint64_t from, to; // buckets of its layer that are its own: [from, to); without a layer all
    uint64_t held;     // buckets of holdout_seed whose keys take no part; without a layer
    uint64_t holdout_seed;
    // In order of their traits. Of each trait that stands here one of its values must fit.
    const struct experiment_condition *conditions;
    unsigned n_conditions;
    const struct experiment_variant *variants; // [0] is the control
    unsigned n_variants;
    const _Atomic uint32_t
        *unfit; // bits of variants that take or give something else than the control
    const struct experiment_live *_Atomic live;
    uint64_t shadow_seed;
    const struct experiment_shadow *shadows; // their buckets do not overlap
    unsigned n_shadows;
};

// All that is asked under one model's name: one experiment, or several that exclude each other by a layer.
struct experiment_site {
    struct view model;   // that clients ask for
    struct view control; // that those get whom no experiment takes
    unsigned n_traits;   // of who asks, that matter here; the first is the sticky key
    bool layered;
    uint64_t layer_seed;
    const struct experiment *experiments;
    unsigned n;
};

struct experiment_draw {
    const struct experiment *experiment; // NULL: none takes it
    const struct experiment_variant *variant;
    enum draw_how how;
    struct view model; // to be asked
    struct view key;   // that it was drawn by; .n == 0: by none
};

// said: [s->n_traits]; .n == 0: it says nothing of that.
void experiment_draw(const struct experiment_site *s, const struct view *said,
                     struct experiment_draw *out);
// As experiment_draw within one experiment of the site, for whom nothing is known of but the key: targets are not looked at.
void experiment_draw_key(const struct experiment_site *s, const struct experiment *e,
                         struct view key, struct experiment_draw *out);
// Which shadow sees what was drawn so; the same key's requests are always seen by the same one. NULL: none does. Only the
// control's are compared with anything.
const struct experiment_shadow *experiment_shade(const struct experiment_draw *d);
// As if it had been drawn, also where nobody is. False: the site has no such experiment or variant.
bool experiment_force(const struct experiment_site *s, struct view experiment, struct view variant,
                      struct experiment_draw *out);

#endif
