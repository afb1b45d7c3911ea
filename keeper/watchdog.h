/* keeper/watchdog.h: is a loop of the gateway stuck? Thinks: reads the shared page, is told the time.
 * It counts only time in which the keeper itself was seen running: when the whole machine (or both
 * processes) stood still, the first look afterwards counts for one tick, not for the hours between. */
#ifndef SLUICE_KEEPER_WATCHDOG_H
#define SLUICE_KEEPER_WATCHDOG_H

#include "gateway/boot.h"

#define WATCHDOG_TICK_US 1000000ull // looks are due so often

struct watchdog {
    uint64_t last_look_us;                 // 0: none yet
    uint64_t seen[BOOT_MAX_LOOPS + 1];     // value at the last look; [loops]: the main thread
    uint64_t still_us[BOOT_MAX_LOOPS + 1]; // observed time since it changed
};

#define WATCHDOG_FINE (-1)
// A new gateway process has been started.
void watchdog_reset(struct watchdog *w);
// One look. WATCHDOG_FINE, or the index of a loop that has stood still for limit_us (loops: the main
// thread). A line that is 0 has not begun or has ended in order.
int watchdog_look(struct watchdog *w, const struct heartbeat_page *page, unsigned loops,
                  uint64_t limit_us, uint64_t now_us);

#endif
