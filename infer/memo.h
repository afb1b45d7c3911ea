/* infer/memo.h: bodies that were asked before, and whose answers are kept (router/cache.h): what each asks, as it was decoded, its key
 * (infer/cache_key.h), and its last answer as it was printed. Who asks in the same bytes is spared decoder, key and printer, and
 * nothing else: what is recalled goes the way of what was decoded, to the model as well when its answer is not kept any more.
 *
 *  O1  What is recalled is what the decoder would make of the same parts: of all that it reads. It reads no
 *      configuration and no metadata, so that nothing that changes there can make it wrong.
 *  O2  A printed answer is given for that answer alone: kept answers have numbers, and none comes twice.
 *  O3  bytes <= bound; nothing takes longer the more is held, but a bound that is lowered.
 *
 * Found by SipHash of 128 bits with the secret of the process: who does not know it cannot make two questions that are taken for one another
 * (see infer/cache_key.h). Only questions that were answered from what is kept come in, so that what is asked once puts nothing out;
 * the oldest goes, unless it was asked since: then it goes round once more (second chance). Where no body comes twice, of clients
 * that number them, few are looked at.
 *
 * Thinks. Memory: an entry's own. Thread: a loop's; hits and bytes: all may read. */
#ifndef SLUICE_INFER_MEMO_H
#define SLUICE_INFER_MEMO_H

#include "base/siphash.h"
#include "infer/ticket.h"

#define MEMO_PARTS 6
#define MEMO_ENTRY_BYTES ((size_t)32 << 10) // of one; larger ones are not kept
#define MEMO_BUCKETS 4096
#define MEMO_ROUNDS 16 // entries that may go round for the sake of one
#define MEMO_VAIN 4096 // see vain: from then on one of MEMO_SOME requests is looked at
#define MEMO_SOME 16

struct memo_entry;
struct memo { // zeroed: nothing is kept
    uint64_t bound;
    _Atomic uint64_t bytes, hits;
    struct memo_entry **buckets; // NULL until the first one is kept
    struct memo_entry *newest, *oldest;
    // That came in, less MEMO_SOME for each one that was known (which saves five times what one in vain costs); not looked at.
    uint32_t vain, passed;
};

// A request's look at it. All but memo, secret, parts and key is zero at first.
struct memo_ask {
    struct memo *memo;
    const uint8_t *secret;         // [SIPHASH_KEY]
    struct view parts[MEMO_PARTS]; // all that the decoder reads, and whose it is; .p NULL: absent
    // Where the request has its key: written by recall; else by whoever makes it, who sets the two that follow.
    struct cache_key *key;
    bool keyed;   // *key is whole
    bool anybody; // *key has no tenant in it
    bool named;
    uint64_t name[SIPHASH_BYTES / 8]; // the hash of the parts, as long as they were there
};

// What is too much goes. 0: nothing is kept.
void memo_bound(struct memo *m, uint64_t bytes);
// True: out is the request, in the arena; its model, version and trace are the caller's to set. The parts may change afterwards.
bool memo_recall(struct memo_ask *a, struct arena *arena, struct infer_request *out);
// The outputs of that answer (answer.number) as they were printed; empty: not known. Stays until the next memo_keep.
struct view memo_printed(struct memo_ask *a, uint64_t answer);
// The request, which was answered so. printed: empty: not as JSON. Once memo_recall was asked.
void memo_keep(struct memo_ask *a, const struct infer_request *r, uint64_t answer,
               struct view printed);

#endif
