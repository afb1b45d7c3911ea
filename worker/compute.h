/* worker/compute.h: the threads that compute, so that the loop never does. A job is embedded in the
 * caller's object; it runs on one of the threads, in the order of submission, and then comes home by the
 * loop's mailbox. Bounded by the caller (a job a free thread: the batcher holds the rest). Does. */
#ifndef SLUICE_WORKER_COMPUTE_H
#define SLUICE_WORKER_COMPUTE_H

#include "net/loop.h"

struct compute;

struct compute_job {
    struct loop_task home;                               // first: the way back
    void (*run)(struct compute_job *j, unsigned thread); // on compute thread `thread`
    void (*done)(struct compute_job *j);                 // on the loop's thread, exactly once
    // private
    struct compute *compute;
    struct compute_job *next;
};

// NULL with errno: a thread could not be started (none is left running).
struct compute *compute_new(struct loop *l, unsigned threads);
// The loop's thread. The job is the threads' until done is called.
void compute_submit(struct compute *c, struct compute_job *j);
// Loop's thread: jobs submitted and not yet done.
unsigned compute_busy(const struct compute *c);
unsigned compute_threads(const struct compute *c);
// Jobs that have not begun are dropped without done; those that run end first. Joins the threads.
void compute_free(struct compute *c);

#endif
