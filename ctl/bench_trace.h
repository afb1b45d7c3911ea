/* ctl/bench_trace.h: what sluice-bench asks, and when: the records of a prediction log in the rhythm in which they came, or one
 * body again and again at random. Thinks. */
#ifndef SLUICE_CTL_BENCH_TRACE_H
#define SLUICE_CTL_BENCH_TRACE_H

#include "base/buffer.h"
#include <jansson.h>

struct bench_request {
    uint64_t due_us; // since the begin
    char *model;
    char *body;      // NULL: the trace's
    json_t *fields;  // lines for its head, "NAME: VALUE"; NULL: none
    json_t *outputs; // as they were recorded; NULL: they were not
    // out
    uint64_t took_us; // from due_us to the end of the answer
    int status;       // HTTP; 0: none came
};

struct bench_trace {
    struct bench_request *at; // [n], ascending
    size_t n, room;
    char *body; // of those that have none of their own
    uint64_t
        passed_over; // records without all that was asked, or of a request that was not answered
};

struct bench_again {   // how records are asked again; NULL: as they say
    const char *model; // in place of their own
    const char
        *tenant_header; // header field that the recorded tenant is sent in; NULL: it is not sent
};

// A field of a head that can be sent: no end of a line in it. Names: as HTTP has them (RFC 9110, 5.6.2).
bool bench_is_field_name(const char *name);

// A record of the log (sluicectl log export). What cannot be asked again is passed over; of its headers those that belong to
// the connection and the body are not sent, as these are others. False: out of memory, or it is no record.
bool bench_trace_add(struct bench_trace *t, struct view line, const struct bench_again *how);
// After the last one: in the order of their time, from the first one on, so many times as fast.
void bench_trace_sort(struct bench_trace *t, double speed);
// n requests for that body at `rate` a second, with exponential gaps (a Poisson process). False: out of memory.
bool bench_trace_poisson(struct bench_trace *t, size_t n, double rate, uint64_t seed,
                         const char *model, struct view body);
void bench_trace_free(struct bench_trace *t);

enum bench_verdict {
    BENCH_EQUAL,
    BENCH_DIFFERS,
    BENCH_UNKNOWN
}; // UNKNOWN: one of them cannot be compared
// An answer beside what was recorded: the same outputs, of the same shapes, and numbers no further apart than `tolerance`
// (absolute, or of the greater one). *worst: raised to the largest distance.
enum bench_verdict bench_compare(const json_t *recorded, struct view answer, double tolerance,
                                 double *worst);

#endif
