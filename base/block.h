/* base/block.h: a reference-counted run of bytes that may be read by several loops (a worker's answer
 * whose rows belong to many requests; a large body). Life: block_new on the owner's thread (refs 1) ->
 * block_ref/unref anywhere -> the last unref frees at once on the owner's thread, and elsewhere joins
 * the owner's return list, which the owner empties with block_owner_collect. */
#ifndef SLUICE_BASE_BLOCK_H
#define SLUICE_BASE_BLOCK_H

#include "base/mpsc.h"
#include <stdint.h>

struct block_owner; // one a loop

struct block {
    struct mpsc_node node; // return list
    _Atomic uint32_t refs;
    struct block_owner *owner;
    uint8_t *data;
    size_t bytes; // capacity of data (at least what was asked for)
    void (*on_free)(struct block *b,
                    void *); // NULL, or called on the owner's thread just before free
    void *arg;
    bool apart; // block_new_apart
};

// Freed blocks of common sizes wait here for the next block_new (not under ASan).
#define BLOCK_CLASS_MIN 10 // 1 KiB
#define BLOCK_CLASSES 7    // up to 64 KiB
#define BLOCK_SPARES 16    // of each class

// Called before a block is allocated (delta > 0; false refuses it) and when one is freed (delta < 0; the result
// does not matter). Owner's thread.
typedef bool block_account_fn(void *ctx, int64_t delta_bytes);

struct block_owner {
    struct mpsc returns;
    uint64_t thread_tag;            // set by block_owner_adopt; compared to know "are we at home?"
    size_t live_blocks, live_bytes; // owner's thread only
    block_account_fn *account;      // NULL: blocks are not accounted
    void *account_ctx;
    struct block *spare[BLOCK_CLASSES]; // linked through ->arg
    uint8_t spares[BLOCK_CLASSES];
};

void block_owner_init(struct block_owner *o);
// The calling thread is the owner from now on (the simulator calls it before each step of a loop).
void block_owner_adopt(struct block_owner *o);
// Frees what came back; returns how many. Owner's thread.
unsigned block_owner_collect(struct block_owner *o);
// Collects; invariant: no block is left alive.
void block_owner_deinit(struct block_owner *o);
// Frees what waits for the next block_new. Owner's thread.
void block_owner_trim(struct block_owner *o);

// Owner's thread. NULL when out of memory, or refused by the owner's account.
struct block *block_new(struct block_owner *o, size_t bytes);
// One that the owner's account does not hear of: who makes it has charged it elsewhere, and learns of its end by on_free.
// It has the size that was asked for.
struct block *block_new_apart(struct block_owner *o, size_t bytes,
                              void (*on_free)(struct block *b, void *arg), void *arg);
// What one takes beside its data.
#define BLOCK_OVERHEAD 128
struct block *block_ref(struct block *b);
void block_ref_many(struct block *b, uint32_t n); // n references in one step
// Any thread. True when this was the last reference and the block joined the return list of another
// thread's owner that has declared sleep (the caller may wake it; it is no duty: memory, not progress).
bool block_unref(struct block *b);

#endif
