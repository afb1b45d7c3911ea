/* backends/worker_inner.h: what the files of a worker share: worker.c (connection, models, calls), worker_ask.c
 * (the small questions: probes, and the owner's rounds), worker_show.c. Used nowhere else. Thread: its loop's. */
#ifndef SLUICE_BACKENDS_WORKER_INNER_H
#define SLUICE_BACKENDS_WORKER_INNER_H

#include "backends/backoff.h"
#include "backends/inquiry.h"
#include "backends/worker.h"

#define QUESTION_BYTES 160 // of a message: it names one model, of at most MODEL_NAME_MAX bytes
#define PROBES_OUT                                                                                 \
    4 // probes that are open at a time: a slow server may still answer the one before

struct question {          // a small call that is open; it lends its own bytes
    struct question *next; // newest first
    struct http_call *call;
    bool is_probe;
    uint8_t message[QUESTION_BYTES];
};

struct worker {
    struct loop *loop;
    struct peer *peer;
    struct worker_config config;
    const struct worker_ops *ops;
    void *ctx;
    enum worker_state state;
    uint64_t since_us, up_us;
    uint32_t pid;
    struct backoff backoff;
    struct wheel_timer reconnect;
    struct roster *believed; // while up; NULL: nothing
    struct question *questions;
    bool draining;         // the server has said GOAWAY (W4)
    const char *dying;     // why the connection is being given up; NULL: it is not
    struct loop_call bury; // gives it up at the next turn: we may be inside one of its callbacks
    struct loop_call withdraw; // likewise: W4 begins

    struct probe probe;
    struct wheel_timer probe_timer; // at probe.due_us
    bool probe_owed;                // no stream was free for it: sent when a call has ended

    // the owner's
    struct inquiry inquiry;
    struct question *asking;              // the inquiry's, open
    struct wheel_timer round, patience;   // the next round; the end of waiting for `asking`
    struct backoff hungry;                // between rounds while nothing is served
    uint64_t wish, round_wish, told_wish; // the newest; of the round that runs; of what is known

    struct worker_stats stats;
    char name[144]; // a title and a number
};

// worker.c
void worker_give_up(struct worker *w, const char *why); // at the next turn
// The connection's client, if calls can be made on it now. Sees a GOAWAY (W4).
struct http_client *worker_line(struct worker *w);

// worker_ask.c
void ask_up(struct worker *w);   // its connection is up
void ask_stop(struct worker *w); // no more questions: those that are open end without a word
void ask_down(struct worker *w); // it is gone, and nothing is known of who comes next
void ask_free(struct worker *w);
bool ask_on_end(struct worker *w, struct http_call *call,
                enum http_call_end end); // false: not ours
void ask_owed(struct worker *w);         // a stream may be free again
void ask_init(struct worker *w);
void ask_rules(struct worker *w); // config.rules are others

#endif
