/* gateway/trial_shop.h: what the files behind gateway/trial_store.h know of one another. Private to them.
 *
 *   trial_store.c  the connection, records and their rules
 *   trial_tally.c  what is counted, in flushes
 *   creation_store.c  which ones have been created
 *
 * Thread: the main thread's. */
#ifndef SLUICE_GATEWAY_TRIAL_SHOP_H
#define SLUICE_GATEWAY_TRIAL_SHOP_H

#include "backends/redis.h"
#include "gateway/store_plan.h"
#include "gateway/trial_store.h"
#include "router/trial_sums.h"

#define SHELF_KEY (STORE_PREFIX + 2 * TRIAL_NAME + 64) // bytes of a key, and its NUL
#define SHELF_VERSION 64                               // of "REVISION:EPOCH:MARK", likewise
#define SHELF_LOOKS 5                                  // ticks between two looks for them
#define SHELF_WHOSE 96                                 // of "HOST:PID", likewise

struct shelf_variant {
    char name[TRIAL_NAME + 1];
    struct trial_sums taken; // of what the loops have counted, as it was last seen
    struct trial_sums waits; // not in a flush yet
    bool heard;
    struct trial_sums there; // of all instances, as the store said it last
    struct trial_sums added; // of `taken`, what is in that
};

struct trial_shelf { // of one experiment
    struct trial_shop *shop;
    struct trial_shelf *next;
    char name[TRIAL_NAME + 1];
    unsigned out; // commands: it stays as long

    bool heard;                  // what the store has is known
    char version[SHELF_VERSION]; // of that; "": it has none
    bool asked, putting;
    bool odd; // what it has cannot be in force here, and that was said

    uint64_t counts_from;
    unsigned n_variants;
    struct shelf_variant *variants; // NULL: nothing was counted yet
    struct trial_flushes flushes;
    unsigned ticks; // 0: those who have ended are looked for
    bool follows;   // another life comes first
    bool ended;     // the last flush has come home, and said so
};

struct trial_shop {
    struct gateway *gateway;
    struct store_plan *plan;    // a reference
    struct redis_config config; // the plan's, with more time for an answer
    struct redis *redis;
    struct redis_stats stats;
    enum redis_state told; // in the event log; REDIS_STATES: nothing yet
    char why[160];
    char channel[STORE_PREFIX + 16];
    char whose[SHELF_WHOSE]; // which instance
    char life[33];           // of it
    struct wheel_timer tick;
    struct trial_shelf *shelves;
    uint64_t creations;     // that have come or gone, as it was last heard (creation_store.c)
    bool creations_heard;   // since it is connected
    bool creations_refused; // it was said that the store does not tell
    bool lists;             // it is asked
    bool over;              // nobody is told anything any more
    uint64_t ends_us; // the process ends: by then it is not waited for any more; 0: it does not
    uint64_t flushed, lost,
        fenced; // flushes that were added, and lost; records written over others
};

struct view shelf_key(const struct trial_shelf *s, const char *more, char out[SHELF_KEY]);

// What the store has of that name is another life's: it is heard anew.
void trial_shelf_forget(const struct trial_shop *shop, const char *name);
void trial_shop_hurry(struct trial_shop *shop); // experiments have come: they are looked at soon

// trial_tally.c. run: NULL: the experiment is gone.
void trial_tally_take(struct trial_shelf *s, const struct trial_run *run); // what has come since
void trial_tally_flush(struct trial_shelf *s);
void trial_tally_ask(struct trial_shelf *s); // what all instances have counted
bool trial_tally_sums(const struct trial_shelf *s, const struct trial_run *run, unsigned variant,
                      struct trial_sums *out);
void trial_tally_free(struct trial_shelf *s);
bool trial_tally_is_added(const struct trial_shelf *s); // all of it

#endif
