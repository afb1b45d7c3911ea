/* infer/default_answer.h: the answer that an operator wrote down for a model, given when no model of its chain answers:
 * an answer of the protocol in JSON, of one row. Whoever asks for several rows gets it as often. Thinks.
 * Memory: its own. Immutable once read; thread: any. */
#ifndef SLUICE_INFER_DEFAULT_ANSWER_H
#define SLUICE_INFER_DEFAULT_ANSWER_H

#include "infer/request.h"

#define DEFAULT_ANSWER_FILE ((size_t)1 << 20)    // bytes of its text
#define DEFAULT_ANSWER_BYTES ((size_t)256 << 20) // of all rows of one that is given

struct default_answer {
    struct arena arena;
    struct tensor *outputs;
    uint16_t n_outputs;
    bool rows; // the first dimension of each is one of rows, and 1; else it is given as it stands
};

// NULL: e. The text is copied.
struct default_answer *default_answer_read(struct view json, struct error *e);
void default_answer_free(struct default_answer *d); // NULL is fine
// Has it all that r asks for? False: *missing is the name of an output that it has not.
bool default_answer_has(const struct default_answer *d, const struct infer_request *r,
                        struct view *missing);
// So many rows of it, >= 1, in a block of o, the calling thread's: one reference is the caller's. NULL: no memory for it.
struct answer *default_answer_give(const struct default_answer *d, uint32_t rows,
                                   struct block_owner *o);

#endif
