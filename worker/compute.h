/* worker/compute.h: the threads that the engine's runs have, so that the loop never computes. Tasks run in the
 * order they were posted. Bounded by the caller: the worker submits a run only for an instance that is idle.
 * Does. */
#ifndef SLUICE_WORKER_COMPUTE_H
#define SLUICE_WORKER_COMPUTE_H

#include "engine/engine.h"

struct compute;

// NULL with errno: a thread could not be started (none is left running).
struct compute *compute_new(unsigned threads);
struct engine_host *compute_host(struct compute *c);
// Tasks that have not begun are dropped; those that run end first. Joins the threads; compute_free frees.
void compute_stop(struct compute *c);
void compute_free(struct compute *c); // stopped; after the engine that posts to it

#endif
