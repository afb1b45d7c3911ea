/* router/step.h: one step of an infer: what is asked of one target. It is one ticket, or several where the request has
 * more rows than its worker takes at once; each has room of its own at the model, and the rules of a ticket
 * (infer/ticket.h) hold for each. A step has one outcome: answered when all of its tickets are, and else what the first
 * one says that is not. Thinks. Thread: the infer's loop's. Memory: the infer's. */
#ifndef SLUICE_ROUTER_STEP_H
#define SLUICE_ROUTER_STEP_H

#include "router/effects.h"
#include "router/table.h"

enum step_end { STEP_OUT, STEP_ANSWERED, STEP_FAILED };

// What the infer's arena takes for the parts of such a request, in bytes; 0: it is not split. To be charged before.
size_t step_memory(const struct model *m, const struct infer_request *r);
// s->to is set, everything else zero. False: in->error says why it cannot be tried (400, 413, 429, 503), and nothing is
// charged.
bool step_begin(struct step *s, struct infer *in, uint64_t deadline_us, uint64_t now_us,
                struct effects *fx);
// Likewise of a shadow's step: it takes no room, and is refused for none. e: why it cannot be tried.
bool step_begin_shadow(struct step *s, struct infer *in, uint64_t deadline_us, struct failure *e,
                       struct effects *fx);
// What would become of one row that asked now, as far as anybody can see who takes nothing: of that lane, and with left_us.
enum refusal step_foresee(struct model *m, uint16_t tenant, unsigned lane, uint64_t left_us,
                          uint64_t now_us);
// It is refused for that, and counted: demand that the model's desk never sees.
struct failure step_refuse(struct model *m, uint16_t tenant, enum refusal why, uint32_t rows,
                           struct effects *fx);
// All of its tickets leave for the model's home.
void step_lend(struct step *s, unsigned loop, struct effects *fx);
// A ticket has come home. STEP_ANSWERED: the first ticket's slice has the rows of all, with a reference on the block of
// each. STEP_FAILED: e says why, and step_give_up has to follow. What comes when it is over is dropped.
enum step_end step_on_back(struct step *s, struct ticket *t, struct failure *e, struct effects *fx);
// It is over, whatever comes of it: answers are dropped, cancels follow the tickets that are out.
void step_give_up(struct step *s, unsigned loop, struct effects *fx);
void step_on_echo(struct step *s, struct ticket *t);

#endif
