/* gateway/trial_file.h: records of experiments in state_dir/experiments, a file each: where they outlive the process of an
 * instance that shares them with nobody. A file is written new, synced and renamed (file_replace), and its directory synced,
 * so that it is whole whenever the machine stops. One that cannot be read is set aside, NAME.json.broken, and the section of
 * gateway.conf is in force. Does. Thread: the main thread's. */
#ifndef SLUICE_GATEWAY_TRIAL_FILE_H
#define SLUICE_GATEWAY_TRIAL_FILE_H

#include "gateway/trials.h"

extern const struct trial_keeper trial_file;
// A record, there from now on. False: why.
bool trial_file_save(struct gateway *g, const struct trial_state *s, char why[TRIAL_CAUSE]);

#endif
