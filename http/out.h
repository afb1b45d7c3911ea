/* http/out.h: what a connection has to send: a queue of runs, copied (small) or referenced (large). Thinks. */
#ifndef SLUICE_HTTP_OUT_H
#define SLUICE_HTTP_OUT_H

#include "http/http.h"

#define OUT_COPY_BELOW 4096 // smaller runs are copied: an iovec costs more than they do

struct out_item {
    const uint8_t *p; // NULL: the octets are the next n of the copy buffer
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
bool out_refer(struct out *o, const void *p, size_t n, struct block *block, void (*done)(void *),
               void *arg);
bool out_mark(struct out *o, void (*done)(void *), void *arg); // called when all before it has left
int out_gather(const struct out *o, struct iovec *iov, int max);
void out_sent(struct out *o, size_t n);
// Memory that it holds beyond what each may keep.
size_t out_held(const struct out *o);
// Nothing waits, and nothing will soon: gives back what a busy moment needed.
void out_rest(struct out *o);

#endif
