/* gateway/news.h: what the owner of a worker has learnt of it, where every loop finds it. A loop that wants to
 * hear (its connection came up, or an answer made it doubt) takes a number; what is published says up to which
 * number it answers, so that no loop believes what was asked before it was interested: the worker at the other
 * end may have been another then. A rare way, so a plain lock will do. Does. Thread: any. */
#ifndef SLUICE_GATEWAY_NEWS_H
#define SLUICE_GATEWAY_NEWS_H

#include "backends/roster.h"
#include <pthread.h>
#include <stdatomic.h>

struct news {
    _Atomic uint64_t wishes; // numbers taken
    pthread_mutex_t lock;
    struct roster *roster; // NULL: nothing yet
    uint64_t answers;      // wishes up to this number
    uint32_t pid;          // of the process that was asked; 0: not known
};

void news_init(struct news *n);
void news_deinit(struct news *n);
uint64_t news_wish(struct news *n); // a number: 1, 2, …
static inline uint64_t news_newest_wish(struct news *n)
{
    return atomic_load(&n->wishes);
}
// Something of what it has can be used.
bool news_serves(struct news *n);
// The owner's. False: that is what was published already. A reference is taken.
bool news_publish(struct news *n, struct roster *r, uint64_t answers, uint32_t pid);
// What answers that wish and is of that process, as a reference; NULL: there is none.
struct roster *news_take(struct news *n, uint64_t wish, uint32_t pid);

#endif
