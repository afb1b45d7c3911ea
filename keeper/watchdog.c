#include "keeper/watchdog.h"
#include <string.h>

void watchdog_reset(struct watchdog *w)
{
    memset(w, 0, sizeof(*w));
}

int watchdog_look(struct watchdog *w, const struct heartbeat_page *page, unsigned loops,
                  uint64_t limit_us, uint64_t now_us)
{
    uint64_t passed = w->last_look_us ? now_us - w->last_look_us : 0;
    int stuck = WATCHDOG_FINE;
    if (passed > 2 * WATCHDOG_TICK_US)
        passed = WATCHDOG_TICK_US; // we did not run either
    w->last_look_us = now_us;
    for (unsigned i = 0; i <= loops; i++) {
        const struct heartbeat *h = i < loops ? &page->loop[i] : &page->main;
        uint64_t turn = atomic_load_explicit(&h->turn_us, memory_order_relaxed);
        if (turn != w->seen[i] || turn == 0)
            w->still_us[i] = 0;
        else
            w->still_us[i] += passed;
        w->seen[i] = turn;
        if (w->still_us[i] >= limit_us && stuck == WATCHDOG_FINE)
            stuck = (int)i;
    }
    return stuck;
}
