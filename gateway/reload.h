/* gateway/reload.h: another configuration comes into force while requests run. The keeper has read and checked the
 * file, and offers its bytes; what may still fail is tried here before anything has changed.
 *
 *   offered ─► its snapshot, certificates, token and log are there ─► each loop takes it up in a turn of its own ─► told "taken"
 *      │ too many snapshots are held: it waits                  │ else: told why not, and nothing has changed
 *
 * There is no moment at which all loops go over: each does by itself, and a model's rules are its home's.
 * Operators who ask for a reload wait for the keeper's word on it. Does. Thread: the main thread's. */
#ifndef SLUICE_GATEWAY_RELOAD_H
#define SLUICE_GATEWAY_RELOAD_H

#include "gateway/boot.h"
#include "gateway/part.h"

struct exchange;

// The keeper offers a configuration: its bytes can be read from memory_fd, which is taken over.
void reload_on_offer(struct gateway *g, const struct boot_offer *offer, int memory_fd);
// The keeper says what became of a reload.
void reload_on_end(struct gateway *g, const struct boot_said *said);
// Every loop has taken up the newest snapshot: what was offered is in force.
void reload_in_force(struct gateway *g);
// A snapshot has been freed: an offer that waits may find room.
void reload_on_room(struct gateway *g);
// We drain: an offer that waits is refused.
void reload_on_drain(struct gateway *g);
// The page: asks the keeper; answers when it is over.
void reload_page(struct exchange *ex, void *gateway);
void reload_drop(struct gateway *g); // nobody will say more

#endif
