/* ctl/experiment.h: `sluicectl experiment VERB`: its words, what they ask for, and what comes back in words. Thinks. */
#ifndef SLUICE_CTL_EXPERIMENT_H
#define SLUICE_CTL_EXPERIMENT_H

#include "base/buffer.h"
#include "ctl/options.h"
#include <jansson.h>

// Of show, pause, resume and rollback: NAME; of weights: NAME VARIANT=SHARE[,VARIANT=SHARE...]; of promote: NAME VARIANT; of list:
// none; of watch: NAME, or none: all of them. False: `why` says what is wrong.
bool experiment_check_list(const struct ctl_options *o, char why[OPTIONS_ERROR]);
bool experiment_check_name(const struct ctl_options *o, char why[OPTIONS_ERROR]);
bool experiment_check_weights(const struct ctl_options *o, char why[OPTIONS_ERROR]);
bool experiment_check_promote(const struct ctl_options *o, char why[OPTIONS_ERROR]);
bool experiment_check_watch(const struct ctl_options *o, char why[OPTIONS_ERROR]);
// The body of the POST, of what was checked. NULL: out of memory, or a word is not UTF-8.
json_t *experiment_wish(const struct ctl_options *o);
json_t *experiment_wish_weights(const struct ctl_options *o);
json_t *experiment_wish_promote(const struct ctl_options *o);
// Is that event about it; name: NULL: about any.
bool experiment_is_about(const json_t *event, const char *name);
// As words.h has it.
bool words_of_experiments(const json_t *page, struct buffer *out);
bool words_of_experiment(const json_t *page, struct buffer *out);

#endif
