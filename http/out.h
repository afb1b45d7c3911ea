/* http/out.h: what a connection has to send: a queue of runs, copied (small) or referenced (large). Thinks. */
#ifndef SLUICE_HTTP_OUT_H
#define SLUICE_HTTP_OUT_H

#include "http/http.h"

#define OUT_COPY_BELOW 4096 // smaller runs are copied: an iovec costs more than they do
// What a connection's output may hold of its own, whatever its reader does: nobody else counts that, while runs that
// are referenced stay charged to whom they belong. So nothing more is begun while so many copied bytes or runs wait,
// and one answer of many small runs has no more than OUT_COPIED_MOST copied.
#define OUT_COPIED_HIGH (8u << 10)
#define OUT_COPIED_MOST (16u << 10)
#define OUT_RUNS_HIGH 128u

struct out_item {
    const uint8_t *p; // NULL: the bytes are the next n of the copy buffer
    size_t n;
    struct block *block;     // one reference, or NULL
    void (*done)(void *arg); // NULL, or called once when the run has left, or is dropped
    void *arg;
};

struct out {
    struct buffer copy;
    struct out_item *items;
    unsigned at, n, cap;
    size_t bytes; // all that waits
};

void out_init(struct out *o);
void out_deinit(struct out *o); // drops what waits: references given back, done called
// Each: false when out of memory (nothing was added; block references stay the caller's).
bool out_copy(struct out *o, const void *p, size_t n);
// Room for n bytes, to be written there at once; then how many they were.
uint8_t *out_room(struct out *o, size_t n);
bool out_commit(struct out *o, size_t n);
bool out_refer(struct out *o, const void *p, size_t n, struct block *block, void (*done)(void *),
               void *arg);
bool out_mark(struct out *o, void (*done)(void *), void *arg); // called when all before it has left
int out_gather(const struct out *o, struct iovec *iov, int max);
void out_sent(struct out *o, size_t n);
// Nothing is to be begun until some of it has left.
static inline bool out_is_full(const struct out *o)
{
    return buffer_len(&o->copy) >= OUT_COPIED_HIGH || o->n - o->at >= OUT_RUNS_HIGH;
}
// Better copied than referenced?
static inline bool out_may_copy(const struct out *o, size_t n)
{
    return n < OUT_COPY_BELOW && buffer_len(&o->copy) + n <= OUT_COPIED_MOST;
}
// Nothing waits, and nothing will soon: gives back what a busy moment needed.
void out_rest(struct out *o);

#endif
