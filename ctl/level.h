/* ctl/level.h: `sluicectl level show|set|clear`: its words, what they ask for, and what comes back in words. Thinks. */
#ifndef SLUICE_CTL_LEVEL_H
#define SLUICE_CTL_LEVEL_H

#include "base/buffer.h"
#include "ctl/options.h"
#include <jansson.h>

// set [MODEL] N --for 10m --why TEXT; clear [MODEL]; without MODEL the instance. False: `why` says what is wrong.
bool level_check_set(const struct ctl_options *o, char why[OPTIONS_ERROR]);
bool level_check_clear(const struct ctl_options *o, char why[OPTIONS_ERROR]);
// The body of the POST, of what was checked. NULL: out of memory, or a word is not UTF-8.
json_t *level_wish_set(const struct ctl_options *o);
json_t *level_wish_clear(const struct ctl_options *o);
// As words.h has it: of GET, and of POST.
bool words_of_levels(const json_t *page, struct buffer *out);
bool words_of_pin(const json_t *answer, struct buffer *out);

#endif
