/* router/replicas.h: the replicas of one desk: who is up, who has credit, whom to choose. Part of the desk
 * (its state stands in struct desk). Thinks. Thread: the home loop's. */
#ifndef SLUICE_ROUTER_REPLICAS_H
#define SLUICE_ROUTER_REPLICAS_H

#include "router/desk.h"

struct replica *replicas_find(struct desk *d, uint32_t id); // NULL: never seen
// Is there a replica that is up and serves this version (empty: any)? with_credit: and may take a batch now.
bool replicas_serve(const struct desk *d, struct view version, bool with_credit, uint64_t now_us);
bool replicas_credit(const struct desk *d, uint64_t now_us); // any version
// Two of those that have credit, drawn at random, and of them the one with less to do: in-flight rows times
// the time of a batch (power of two choices: Mitzenmacher 2001). NULL: none has credit.
struct replica *replicas_choose(struct desk *d, struct view version, uint64_t now_us);
// When the first replica that refused may be asked again; UINT64_MAX: none waits for that.
uint64_t replicas_pause_ends(const struct desk *d, uint64_t now_us);

#endif
