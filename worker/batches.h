/* worker/batches.h: the models' queues, and the batches that are computed of them. Requests of all clients share
 * batches (a hundred gateways that each send two rows still fill one); a batch goes as soon as one of those that
 * compute has ended. Does. Thread: the loop's. */
#ifndef SLUICE_WORKER_BATCHES_H
#define SLUICE_WORKER_BATCHES_H

#include "api/serving.h"
#include "net/loop.h"
#include "worker/repository.h"

struct worker_request {     // in its exchange's arena
    struct serving serving; // first
    struct batches *batches;
    struct infer_request request;
    struct ticket ticket;
    struct served *model;
    const struct tensor **inputs; // in the model's order
    struct loop_call work;        // decoding or encoding goes on in a later turn
};

struct batches {
    struct loop *loop;
    const struct repository *repository;
    unsigned computing;        // batches; at most as many as the model with the most has instances
    unsigned waiting, running; // requests
    struct served *turn;       // whose queue is looked at next; NULL: the first
    struct wheel_timer timer;
    uint64_t wake_us; // when a batch may go, or who waits is looked at
};

void batches_init(struct batches *b, struct loop *l, const struct repository *r);
void batches_deinit(struct batches *b); // nothing runs
// Into its model's queue. It is answered or refused, and released, when its batch has been computed or its
// deadline has passed in the queue. False: e.
bool batches_add(struct batches *b, struct worker_request *r, struct error *e);
// Out of the queue, unreleased. False: its batch has gone.
bool batches_remove(struct batches *b, struct worker_request *r);
// Models take turns, until none has a batch that may go, or as many are computed as may be.
void batches_run(struct batches *b);

#endif
