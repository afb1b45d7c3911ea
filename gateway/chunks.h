/* gateway/chunks.h: records on their way from a loop to the thread that writes them: runs of bytes of one size, handed over
 * whole. Bounded by bytes. The loop never waits: where there is no room the oldest go, and are counted; but those that
 * must not go stay, and then it is the new one that finds no room.
 *
 *   chunks_room ─► filling ─ full, chunks_hand ─► slots ─ chunks_take ─► the writer's, chunk_free
 *                                                   └ no room: dropped by the loop
 *
 * One producer, one consumer, and both take from the end: a slot is read before the compare-and-swap that takes it, and
 * is written again only behind that. Thread: chunks_room to chunks_hand, and promises, on the loop's; chunks_take on the
 * writer's; the counts on any. Does no I/O. */
#ifndef SLUICE_GATEWAY_CHUNKS_H
#define SLUICE_GATEWAY_CHUNKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHUNK_BYTES 65536u // a longer record has one of its own
#define CHUNKS_MOST 16384u // that wait

struct chunk {
    uint32_t records, required; // of them those that must not go
    uint64_t used, size;        // bytes of data
    _Alignas(8) uint8_t data[];
};

struct chunks {
    _Alignas(64) _Atomic uint64_t head; // producer's
    _Atomic int64_t bytes;              // of chunks in slots
    _Atomic uint64_t records, dropped;  // that came; of them those that went. Producer's
    struct chunk *filling;
    uint64_t promised; // bytes
    _Alignas(64) _Atomic uint64_t tail;
    _Atomic uintptr_t *slot; // [CHUNKS_MOST]; its lowest bit: some must not go. NULL: never used
};

void chunks_free(struct chunks *q); // neither side uses it any more

// Room for `n` more bytes, where no more than `most` are held; promised: it has room in any case. NULL: there is none, or
// no memory: counted. Write there, then chunks_add says how many it took, and whether it must not go from then on.
uint8_t *chunks_room(struct chunks *q, size_t n, bool promised, uint64_t most);
void chunks_add(struct chunks *q, size_t n, bool required);
// What is there goes to the writer, unless that has not taken yet what it was handed before: then it fills up.
// False: it stays.
bool chunks_hand(struct chunks *q);

// So many were handed over, ever.
static inline uint64_t chunks_handed(const struct chunks *q)
{
    return atomic_load_explicit(&q->head, memory_order_relaxed);
}

// A record of `n` bytes will come, and will find room: until chunks_keep. False: it might not.
bool chunks_promise(struct chunks *q, size_t n, uint64_t most);
void chunks_keep(struct chunks *q, size_t n);

// Producer has ended: what is there is the consumer's.
void chunks_end(struct chunks *q);

// The oldest; NULL: none is there.
struct chunk *chunks_take(struct chunks *q);
void chunk_free(struct chunk *c);

#endif
