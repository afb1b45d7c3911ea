/* worker/explain.h: `sluice-worker explain MODEL`: what a model file becomes and how long it takes, or whether it
 * gives what it gave elsewhere. Does. */
#ifndef SLUICE_WORKER_EXPLAIN_H
#define SLUICE_WORKER_EXPLAIN_H

// argv[0] is "explain". The process's exit status: 0, 1 (it cannot be loaded, or gives something else), 2 (usage).
int explain_main(int argc, char **argv);

#endif
