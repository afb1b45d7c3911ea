/* The gateway as a doer that is watched: build/sluice-contracts. The environment variable SLUICE_CONTRACTS says how
 * late it may be, in milliseconds: "turn wake call probe close". The first breach ends the process; its end prints
 * how often each contract was kept. */
#include "tests/conformance/contracts.h"

#include <stdlib.h>

static uint64_t next_us(const char **at)
{
    char *end;
    uint64_t ms = strtoull(*at, &end, 10);
    *at = end;
    return ms * 1000;
}

__attribute__((constructor)) static void watch(void)
{
    const char *at = getenv("SLUICE_CONTRACTS");
    struct doer d = {.name = "the gateway", .aborts = true};
    if (!at)
        at = "1000 1000 10000 10000 1000";
    d.turn_us = next_us(&at);
    d.wake_us = next_us(&at);
    d.call_us = next_us(&at);
    d.probe_us = next_us(&at);
    d.close_us = next_us(&at);
    d.store_us = 1000000; // store.timeout, and as late as the machine may be
    contracts_watch(&d);
}

__attribute__((destructor)) static void show(void)
{
    if (contracts[OWED_ALONE].kept > 0) // the process that had loops
        contracts_show(stderr);
}
