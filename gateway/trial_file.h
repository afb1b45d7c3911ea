/* gateway/trial_file.h: records of experiments in state_dir/experiments, a file each: where they outlive the process of an
 * instance that shares them with nobody. A file is written new, synced and renamed (file_replace), and its directory synced,
 * so that it is whole whenever the machine stops. One that cannot be read is set aside, NAME.json.broken, and the section of
 * gateway.conf is in force. Beside them, NAME.conf, the texts of those that were created (router/creation.h). Does. Thread: the
 * main thread's. */
#ifndef SLUICE_GATEWAY_TRIAL_FILE_H
#define SLUICE_GATEWAY_TRIAL_FILE_H

#include "gateway/trials.h"
#include "router/creation.h"

extern const struct trial_keeper trial_file;
// A record, there from now on. False: why.
bool trial_file_save(struct gateway *g, const struct trial_state *s, char why[TRIAL_CAUSE]);
// Creations that are there, one after the other; `take` may take its text over. Those that cannot be read are set aside.
void trial_file_creations(struct gateway *g, void (*take)(struct gateway *g, struct creation *it));
// One, there from now on; or gone, and its record with it, which may be another's. False: why.
bool trial_file_save_creation(struct gateway *g, const struct creation *c, char why[TRIAL_CAUSE]);
bool trial_file_drop_creation(struct gateway *g, const char *name, bool record,
                              char why[TRIAL_CAUSE]);

#endif
