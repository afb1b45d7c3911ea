/* router/level.h: how far a model's service has come down, 0 (healthy) to 4 (outage), as a pure function of what it was,
 * what is seen now, and now. docs/resilience.md has the table and what each level does. Thinks. Thread: any; a state has
 * one owner (the desk).
 *
 *   HEALTHY ◄──────► LATENCY ◄──────► CAPACITY ◄──────► PARTIAL ◄──────► OUTAGE
 *      ▲                ▲   without alternatives: LATENCY ◄────────────────► │
 *      └────────────────┴──────────────── all is back ──────────────────────┘
 *
 *  L1  One step at a time, but from OUTAGE straight to HEALTHY when all is back. A model without alternatives (a chain, a
 *      cache) has no CAPACITY and PARTIAL: what they do it has not.
 *  L2  Every level is held for at least `hold`: a signal that flickers moves it once in a hold.
 *  L3  What is measured (strain, share) has to hold for `hold` before it counts, and has a gap between entering and leaving.
 *      What is known (replicas that are lost, nobody who could answer) counts at once.
 *  L4  A model that nobody has ever served is HEALTHY: it has not come down. */
#ifndef SLUICE_ROUTER_LEVEL_H
#define SLUICE_ROUTER_LEVEL_H

#include <stdbool.h>
#include <stdint.h>

#define LEVEL_SHARE_LOW 900000  // millionths: below it for `hold` capacity is short
#define LEVEL_SHARE_BACK 950000 // from it on it is not any more

enum level { LEVEL_HEALTHY, LEVEL_LATENCY, LEVEL_CAPACITY, LEVEL_PARTIAL, LEVEL_OUTAGE, LEVELS };

// Why it moved.
enum level_cause {
    LEVEL_CAUSE_NONE,
    LEVEL_CAUSE_STRAIN,   // answers come late: up
    LEVEL_CAUSE_LOST,     // a replica is lost
    LEVEL_CAUSE_SHORT,    // it cannot carry its traffic
    LEVEL_CAUSE_MOST,     // most replicas are lost
    LEVEL_CAUSE_REST,     // it cannot, and the others neither
    LEVEL_CAUSE_NOBODY,   // nobody is left that could answer
    LEVEL_CAUSE_CALM,     // answers are in time: down
    LEVEL_CAUSE_CAPACITY, // capacity is back
    LEVEL_CAUSE_SOMEBODY, // somebody can answer
    LEVEL_CAUSE_ALL,      // all is back
    LEVEL_CAUSE_RULES,    // its rules are others
    LEVEL_CAUSES
};
extern const char *const level_cause_name[LEVEL_CAUSES];

// What of its alternatives can be had.
enum level_rest { LEVEL_REST_NONE, LEVEL_REST_FULL, LEVEL_REST_ROOM };

struct level_rules {
    bool off;              // always HEALTHY
    uint64_t enter, leave; // of the strain; leave <= enter
    uint64_t hold_us;
};

struct level_signals {
    uint64_t strain;       // whatever the bounds are about; 0: nothing is known that would say so
    uint32_t ready, known; // replicas: that can answer, of all that are not given up
    uint32_t share_ppm;    // of its traffic that it can carry
    bool alternatives;
    enum level_rest rest;
};

struct level_state { // all zero: HEALTHY, since ever
    uint8_t level;
    uint8_t cause;        // of its last move
    uint64_t since_us;    // of that move; 0: it has not moved
    uint64_t strained_us; // since when strain > enter; 0: it is not
    uint64_t calm_us;     // since when strain <= leave; 0: it is not
    uint64_t short_us;    // since when the share is low; 0: it is not
};

// True: it has moved, by one step. To be called whenever something of g has changed, and while it is unsettled from time
// to time: what holds is reckoned from one call to the next.
bool level_step(
    struct level_state *s, const struct level_rules *k, const struct level_signals *g,
    uint64_t
        now_us); // Time alone may move it: it is not HEALTHY, or something has to hold for longer.
static inline bool level_unsettled(const struct level_state *s)
{
    return s->level > LEVEL_HEALTHY || s->strained_us > 0 || s->short_us > 0;
}

#endif
