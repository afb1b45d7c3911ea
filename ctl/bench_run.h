/* ctl/bench_run.h: the requests of a trace, each begun when it is due, whatever became of those before it (an open loop): what
 * waits for a server, or for one of our own connections, waits in its figures. Does (libcurl). One thread. */
#ifndef SLUICE_CTL_BENCH_RUN_H
#define SLUICE_CTL_BENCH_RUN_H

#include "ctl/bench_trace.h"

struct bench_target {
    const char *url; // "http://HOST:PORT"
    unsigned connections;
    long timeout_ms;  // of a request, from when it is begun
    double tolerance; // of numbers
};

struct bench_result {
    uint64_t took_us;                // all of it
    uint64_t equal, differ, unknown; // answers beside what was recorded
    double worst;                    // distance of two numbers
    char why[256];                   // of the last one that was not answered
};

// Fills the trace's `out` members. False: libcurl could not be had.
bool bench_run(const struct bench_target *target, struct bench_trace *t, struct bench_result *out);

#endif
