/* gateway/store_plan.h: the store as a configuration has it, ready to be connected to: addresses parsed, passwords and
 * authorities read. Immutable, counted: each snapshot and each loop's client hold one. Made on the main thread, where
 * files may be read; read by any. */
#ifndef SLUICE_GATEWAY_STORE_PLAN_H
#define SLUICE_GATEWAY_STORE_PLAN_H

#include "backends/redis.h"
#include "base/hash.h"
#include "config/config.h"

#define STORE_PASSWORD 1024 // bytes
#define STORE_PREFIX 80     // "sluice:DEPLOYMENT:" and its NUL
#define STORE_WHY (TLS_ERROR + 64)

struct store_plan {
    _Atomic unsigned refs;
    struct config *config; // of its texts: one reference
    struct redis_config redis;
    struct addr *addrs;
    char password[STORE_PASSWORD + 1], sentinel_password[STORE_PASSWORD + 1];
    char prefix[STORE_PREFIX];
    struct hash128 face; // of all that makes it what it is
};

// `before`, with one more reference, when it says the same (files included). NULL without a store, or with why not
// (then why[0]).
struct store_plan *store_plan_new(struct config *c, struct store_plan *before, char why[STORE_WHY]);
// One that no configuration has: its texts are c's, and stay there until it is gone. NULL: why.
struct store_plan *store_plan_of(const struct config_store *c, char why[STORE_WHY]);
// Whether one can be made of it: its files are there, and are what they should be. False: why.
bool store_plan_check(const struct config_store *c, char why[STORE_WHY]);
struct store_plan *store_plan_ref(struct store_plan *p); // NULL is fine
void store_plan_unref(struct store_plan *p);             // any thread; NULL is fine

#endif
