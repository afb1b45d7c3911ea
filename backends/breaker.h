/* backends/breaker.h: whether something that answers late, or says that it cannot, is to be asked at all. A
 * failure weighs FAILED, an answer takes one off: it opens after five failures in a row, or when more than a
 * third of what was asked fails for a while. Whoever owns it finds out by questions of its own when to close
 * it. Thinks. */
#ifndef SLUICE_BACKENDS_BREAKER_H
#define SLUICE_BACKENDS_BREAKER_H

#include <stdbool.h>

#define BREAKER_FAILED 2u
#define BREAKER_OPENS 10u

struct call_breaker {
    unsigned weight;
    bool open;
};

// True: it has opened by this.
static inline bool breaker_failed(struct call_breaker *b)
{
    b->weight += b->open ? 0 : BREAKER_FAILED;
    if (b->open || b->weight < BREAKER_OPENS)
        return false;
    return b->open = true;
}
static inline void breaker_answered(struct call_breaker *b)
{
    b->weight -= b->weight > 0 && !b->open;
}
static inline void breaker_close(struct call_breaker *b)
{
    *b = (struct call_breaker){0};
}

#endif
