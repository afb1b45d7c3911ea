/* gateway/origin.h: a client's request at the loop that its connection belongs to. origin.c: its way from the
 * exchange (api/serving.h) to the flow and back. tell.c: what is counted and logged of it. Does. Thread: the loop's.
 * Memory: the exchange's arena. */
#ifndef SLUICE_GATEWAY_ORIGIN_H
#define SLUICE_GATEWAY_ORIGIN_H

#include "api/serving.h"
#include "gateway/part.h"
#include "infer/cache_key.h"

struct request {
    struct serving serving; // first
    struct part *part;
    struct snapshot *snap;     // that it began with: held until tell_end
    const struct front *front; // where it came in; on its head only, it may be gone later
    const struct experiment_place *place; // that its model's name stands for; NULL: none
    struct experiment_draw draw;          // with a place
    struct infer infer;
    int64_t charged;       // what on_charge took for it
    struct loop_call work; // decoding, making the key or encoding goes on in a later turn
    struct cache_keying
        *keying; // the key is being made: it is submitted when that is done; else NULL
    bool
        unheard; // its model is not known, and a worker that may have it has not said yet what it has
    bool keeps; // the model that its path names keeps its answers
    bool
        in_cohort; // its experiment's reward is waited for, or it will have none (router/cohorts.h)
    struct await_one awaits;       // in part->await
    struct view tenant;            // as its head names it
    struct view client;            // for the log, and for who wants it explained
    struct past_standing standing; // of its model when it was submitted
    size_t promised;               // bytes of room for its record
    struct trial *shadow;          // where its shadow is counted; NULL: it has none
    const struct config_shadow *shadow_rules;
    struct past_shadow shade; // what became of it
    uint64_t past;            // it is told of and remembered: its number there; 0: not
};

extern const struct http_server_ops origin_server_ops; // ctx: the struct front
// FX_SETTLE, FX_RELEASE.
void origin_settle(struct part *p, struct infer *in);
void origin_release(struct part *p, struct infer *in);

// It awaited its model: it goes on, or is answered, or waits on.
void origin_again(struct request *r, uint64_t now_us);

// Counts it and writes its line: it was answered (whole: the client got all of it), or the client has gone.
void tell_end(struct request *r, bool whole);
// All of its tickets are home, and it is told of already: what is remembered of it becomes whole.
void tell_home(struct request *r);
// Its shadow has ended: if it is told of already, that is remembered, too.
void tell_shadow(struct request *r);
// Refused before on_head: all that is known of it is what was answered.
void tell_refused(struct part *p, struct http_conn *c, enum status outcome, unsigned http,
                  const char *why);

#endif
