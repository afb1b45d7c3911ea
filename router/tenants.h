/* router/tenants.h: whose requests have how much of a model's room. A tenant is whoever a field of the request's head names;
 * at most TENANTS are told apart at a time, the rest are one. A model's room is shared by max-min: whoever wants less
 * than an equal part has what he wants, and what he leaves is the others'. Thinks.
 *
 *  N1  What a tenant holds of a model's room is an atomic of its own, charged and given back by origins as the room itself
 *      is (step.c), by one addition: who may have the next row is decided there and then, exactly, by what he holds.
 *  N2  What others want is what they held at most, or that they were refused, within the last two panes (TENANTS_PANE_US). The
 *      model's home adds it up when it looks at its standing, and tells three figures in one word: how many want something,
 *      how many of those more than their part, and what the others want in all. No message travels for it.
 *  N3  A part is at least room / tenants, at any moment. It is more as far as others want less: an old word can only be
 *      wrong about them, and who comes anew has an equal part with the next look, of what is given back from then on: what
 *      a tenant has beyond its part is not taken from it, but it gets no more until it has less.
 *  N4  Who is alone has all of the room. Where tenants share it, the room is what can be of use (tenants_room): what waits longer
 *      than half of the time that a request has left makes others late, however large the queue may be. The lowest priority gives
 *      way first: each lane leaves the last part of its tenant's to those above it.
 *
 * Threads: names and books are everybody's, by atomics; tenants_reckon is the home's. Memory: names the process', books
 * the model's. Source of max-min: Bertsekas, Gallager, Data Networks, 6.5.2. */
#ifndef SLUICE_ROUTER_TENANTS_H
#define SLUICE_ROUTER_TENANTS_H

#include "base/view.h"
#include "batcher/policy.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define TENANTS 1024
#define TENANT_NONE 0             // tenants are not tracked
#define TENANT_REST (TENANTS + 1) // those that have no place: they are one
#define TENANT_INDICES (TENANTS + 2)
#define TENANT_NAME 64          // bytes of a name that are kept, to be shown
#define TENANT_IDLE_US 60000000 // not seen for so long: his place is another's
#define TENANTS_PANE_US 1000000
#define TENANT_BATCHES 2 // of each replica, which are of use whatever the time

// ---- names: of the process ---------------------------------------------------------------------------

struct tenants;
// seed: secret, or clients could choose names that are taken for one another. NULL: out of memory.
struct tenants *tenants_new(uint64_t seed);
void tenants_free(struct tenants *t);
// 1..TENANTS, or TENANT_REST. The empty name is a tenant, too: those who say nothing.
uint16_t tenants_find(struct tenants *t, struct view name, uint64_t now_us);
// Of an index, printable and cut, into out; its length. 0: nobody has it.
unsigned tenants_name(const struct tenants *t, uint16_t index, char out[TENANT_NAME]);

// ---- books: of a model -------------------------------------------------------------------------------

struct tenant_book {
    _Atomic int32_t rows; // held now
    _Atomic int32_t most; // held at a time, since the pane began
    _Atomic int32_t
        wants; // the home's word: of the last two panes, in rows; 0: nothing; TENANT_MORE: more than its part
    _Atomic bool refused; // since the pane began
    bool was_refused;     // the home's: in the pane before
    int32_t was_most;     // likewise
};
#define TENANT_MORE INT32_MAX

struct tenant_books {
    _Alignas(64) _Atomic uint64_t
        word; // N2: tenants, of those who want more, rows of the others: 16, 16 and 32 bits
    _Atomic uint64_t until_us; // the word holds: where nobody reckons nobody wants anything
    _Atomic uint32_t used;     // indices below it have been used
    uint64_t pane_us;          // the home's: when the next pane begins
    struct tenant_book of[TENANT_INDICES];
};

// What of the model's room is of use to a request that has left_us, where several want it: what is served in half of
// that time, a few batches at least. rate: rows a second; 0: not known.
uint32_t tenants_room(uint32_t limit, uint32_t rate, uint32_t batch, uint32_t ready,
                      uint64_t left_us);
// What that tenant may hold of it when it is a request of that lane that asks. UINT32_MAX: it is alone.
uint32_t tenants_part(const struct tenant_books *b, uint16_t index, unsigned lane, uint32_t room,
                      uint64_t now_us);
// Takes rows; false: nothing was taken, its part is taken already, and that it wants more is known from now on.
bool tenants_take(struct tenant_books *b, uint16_t index, uint32_t rows, uint32_t part);
void tenants_give(struct tenant_books *b, uint16_t index, uint32_t rows);
// It was refused, for whatever bound: it wants more.
void tenants_refused(struct tenant_books *b, uint16_t index);
// The home's: what is wanted of a room of so many rows.
void tenants_reckon(struct tenant_books *b, uint32_t room, uint64_t now_us);
uint32_t tenants_active(const struct tenant_books *b);

#endif
