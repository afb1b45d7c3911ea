/* gateway/past.h: the last requests of one loop, for whoever wants one explained: a ring of slots of one size, in
 * memory that is taken at the start, or by another configuration. What is too long for its slot is cut: a request's id never is (api_request_id).
 * Single writer, single reader: the loop's thread. Thinks. Owner: the part.
 *
 *   past_add ─► a slot with the request's texts and figures ─► past_at, its tickets came home later
 *                                    └─► past_find (the newest of that id) ─► overwritten by the n-th one after it */
#ifndef SLUICE_GATEWAY_PAST_H
#define SLUICE_GATEWAY_PAST_H

#include "base/view.h"
#include <stdint.h>

#define PAST_TICKETS 16 // of a request; of those behind them the number is known
#define PAST_ID 128     // bytes
#define PAST_NAME 64    // of each text but its id, what was tried and the reason
#define PAST_TRIED 192
#define PAST_TEXT 896 // of all: the reason has what is left, 128 and more

enum past_word {
    PAST_WORD_ID,
    PAST_WORD_CLIENT,
    PAST_WORD_ASKED,    // the model that it named
    PAST_WORD_ANSWERED, // that it went to
    PAST_WORD_EXPERIMENT,
    PAST_WORD_VARIANT,
    PAST_WORD_SHADOW,   // its name; none: it has none
    PAST_WORD_VERSION,  // of that, as the worker told it; or as it was asked for
    PAST_WORD_ATTEMPTS, // of its chain, where there was more than one
    PAST_WORD_WHY,      // it was not answered
    PAST_WORDS
};

struct past_standing { // of its model, when it was admitted; before it took room itself
    uint32_t ready;    // replicas
    uint32_t waiting, running, limit; // rows; those that may wait and run
    int64_t room;                     // rows charged
};

struct past_shadow {     // of the request's shadow (gateway/shadows.h)
    const char *end;     // constant: shadow_end_name; NULL: it has not ended yet
    const char *verdict; // constant: "same" or "differs"; NULL: the answers were not compared
    uint64_t took_us;    // from its lending to its end
    bool lent;           // it was asked: took_us is known
    uint8_t status;      // enum status: ok, or why it failed
};

struct past_ticket {
    uint64_t queue_us, compute_us, left_us; // left of its deadline when it was sent; sent > 0
    uint32_t rows;
    uint32_t batch_rows; // 0: it was not answered, and nothing is said of reason and compute_us
    uint32_t replica;    // that it was sent to last
    uint8_t reason;      // enum batch_reason
    uint8_t sent, losses, deaths, refusals;
    uint8_t outcome; // enum status
    bool called;     // home, and not answered: nobody wanted it any more
    bool out;        // it was not home yet: the rows are all that is known
};

struct past_request {
    uint64_t number;               // of the loop's, from 1; 0: no request
    uint64_t arrived_us, ended_us; // wall clock
    uint64_t parse_us, queue_us, compute_us;
    uint64_t answered_us; // until the answer was there; 0: there is none
    uint64_t total_us;    // until the client had it
    uint64_t deadline_us; // that it had in all; 0: it was not submitted
    struct past_standing standing;
    struct past_shadow shadow;
    uint32_t rows, tickets; // tickets: 0: none was lent
    uint16_t http, loop;
    uint8_t outcome;      // enum status
    bool whole;           // the client got all of the answer
    const char *protocol; // constant
    const char *source;   // constant: answer_source_name; NULL: nobody has answered
    const char *draw; // constant: draw_how_name; NULL: its model's name stands for no experiment
    bool aged;        // age_s is known: a cache has
    uint32_t age_s;
    uint16_t end[PAST_WORDS];
    char text[PAST_TEXT];
    struct past_ticket ticket[PAST_TICKETS]; // [min(tickets, PAST_TICKETS)]
};

struct past {
    struct past_request *slot; // [n]
    uint64_t *tail;            // [n] of their ids, see tail_of: a search reads few slots
    uint32_t n;                // 0: nothing is remembered
    uint64_t added;
};

// False: out of memory.
bool past_init(struct past *p, uint32_t n);
void past_deinit(struct past *p);
// So many from now on. Another number forgets what was remembered, and numbers go on. False: out of memory, as before.
bool past_resize(struct past *p, uint32_t n);
// The slot for one more request, the oldest one's, with its number and its texts: each is cut to what its kind may take.
// Of the rest it has what was there before. n > 0.
struct past_request *past_add(struct past *p, const struct view words[PAST_WORDS]);
// That request's; NULL: others have come over it, or it is forgotten.
struct past_request *past_at(struct past *p, uint64_t number);
// The newest of that id; NULL: none, or it is forgotten.
const struct past_request *past_find(const struct past *p, struct view id);
struct view past_text(const struct past_request *r, enum past_word word);

#endif
