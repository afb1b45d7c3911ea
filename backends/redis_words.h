/* backends/redis_words.h: what is said between a Redis and its client beyond plain values: commands written, errors
 * and redirections read, and which slot a key has. Thinks: bytes in, values out. Thread: any.
 * Sources: redis.io, "Redis serialization protocol", "Redis cluster specification", "Redis Sentinel". */
#ifndef SLUICE_BACKENDS_REDIS_WORDS_H
#define SLUICE_BACKENDS_REDIS_WORDS_H

#include "base/view.h"
#include <stdint.h>

#define REDIS_SLOTS 16384u

// The slot of a key: CRC16 (polynomial 0x1021, from 0: XMODEM) of it, or of what stands in its first {braces} when that
// is not empty.
uint16_t redis_slot(struct view key);

// A command of n words, as an array of bulk strings. Bytes that it takes; written when out is not NULL.
size_t redis_write(char *out, const struct view *words, unsigned n);

enum redis_fault {     // what an error says
    REDIS_FAULT_OTHER, // of this command alone: WRONGTYPE, NOPERM, a syntax that it does not know
    REDIS_FAULT_AWAY,  // it cannot answer now: LOADING, CLUSTERDOWN, MASTERDOWN, BUSY, TRYAGAIN
    REDIS_FAULT_WRITE, // it takes no writes now: READONLY, OOM, MISCONF, NOREPLICAS
    REDIS_FAULT_ENTRY, // it lets us in no more: NOAUTH, WRONGPASS
    REDIS_FAULT_MOVED, // the slot is another node's, from now on
    REDIS_FAULT_ASK,   // the key may be another node's: asked there, this once
    REDIS_FAULT_SCRIPT // it does not know the script
};
enum redis_fault redis_fault(struct view error);

// "MOVED 3999 127.0.0.1:6381", "ASK 3999 node:6381". host: empty when it says "the same host, another port"
// (":6381"); else without the brackets of an IPv6 address. False: it is none.
struct redis_turn {
    uint16_t slot, port;
    struct view host;
};
bool redis_turn_read(struct view error, struct redis_turn *out);

#endif
