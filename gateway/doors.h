/* gateway/doors.h: debug doors: what tests ask a running gateway to do to itself, so that a fault of timing
 * is a test of a few lines. Test builds only: build/sluice-doors is the product with the few files that call
 * these macros compiled with -DSLUICE_DOORS; in the product each macro is nothing. Does.
 *
 * The environment variable SLUICE_DOORS names a Unix datagram socket, which the main thread binds. One
 * command a datagram, answered with "ok" when every loop has done it, or with "error: " and why. WORKER is
 * "name/replica", or "name" for all of its replicas; MODEL is a name; LOOP an index; MS are milliseconds.
 *
 *   hold MODEL, release MODEL     answers of its calls are kept back; a call still ends with its connection
 *                                 or its cancel, as it would at a worker that computes for ever
 *   deafen WORKER, hear WORKER    its sockets are not read, nor their end seen; writing goes on
 *   drop-cancels WORKER on|off    its batches are not called back
 *   delay-cancels WORKER MS       they are called back so much later, if they still run; 0: at once again
 *   delay-keeper MS               what the keeper says from now on is heard so much later
 *   skew-probe WORKER MS          its next probe, or the time-out of the one that is out, comes so much earlier
 *   hangs WORKER PID              every loop says that this process hangs
 *   wedge LOOP MS                 that loop stands still for so long, in the middle of a turn
 *   remove-models MS              a model that its workers have no more is removed after so long; 0: as ever
 *
 * The keeper has no socket for this. It takes away the file that SLUICE_DOORS_ROTATE names, when there is one, and
 * rotates the ticket keys as if their day were over.
 *
 * Thread: as each line says. */
#ifndef SLUICE_GATEWAY_DOORS_H
#define SLUICE_GATEWAY_DOORS_H

#ifdef SLUICE_DOORS
#include "gateway/boot.h"
#include "http/http.h"

struct batch;
struct gateway;
struct part;
struct worker;

typedef void door_hear_fn(struct gateway *g, const struct boot_word *word);
typedef void door_end_fn(struct worker *w, struct http_call *call, enum http_call_end end,
                         void *user,
                         void *ctx); // as worker_ops.on_infer_end

void doors_open(struct gateway *g); // main thread, before the loops run
void doors_stop(struct part *p);    // its loop, after its last turn: what is kept back ends as lost
void doors_close(struct gateway *g); // main thread, after the loops

// Main thread. True: the word is kept, and goes to `hear` later.
bool door_keeps_word(struct gateway *g, const struct boot_word *word, door_hear_fn *hear);
// p's loop, all of these. True: the batch is not to be called back now.
bool door_keeps_cancel(struct part *p, struct batch *b);
// First thing at the end of b's call. True: it is kept, and `fn` gets it later.
bool door_keeps_end(struct part *p, struct batch *b, struct http_call *call, enum http_call_end end,
                    door_end_fn *fn, struct worker *w, void *ctx);
// The connection to replica id has ended: so do the calls that are kept back.
void door_on_down(struct part *p, unsigned id);
// The keeper. True: the ticket keys are to be rotated now.
bool door_rotates(void);
// Any loop. How long a model without workers is kept.
uint64_t door_gone_us(uint64_t us);

#define DOORS_OPEN(g) doors_open(g)
#define DOORS_STOP(p) doors_stop(p)
#define DOORS_CLOSE(g) doors_close(g)
#define DOOR_KEEPS_WORD(g, word, hear) door_keeps_word(g, word, hear)
#define DOOR_KEEPS_CANCEL(p, b) door_keeps_cancel(p, b)
#define DOOR_KEEPS_END(p, b, call, end, fn, w, ctx) door_keeps_end(p, b, call, end, fn, w, ctx)
#define DOOR_ON_DOWN(p, id) door_on_down(p, id)
#define DOOR_GONE_US(us) door_gone_us(us)
#define DOOR_ROTATES() door_rotates()
#else
#define DOORS_OPEN(g) ((void)0)
#define DOORS_STOP(p) ((void)0)
#define DOORS_CLOSE(g) ((void)0)
#define DOOR_KEEPS_WORD(g, word, hear) false
#define DOOR_KEEPS_CANCEL(p, b) false
#define DOOR_KEEPS_END(p, b, call, end, fn, w, ctx) false
#define DOOR_ON_DOWN(p, id) ((void)0)
#define DOOR_GONE_US(us) (us)
#define DOOR_ROTATES() false
#endif

#endif
