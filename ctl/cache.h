/* ctl/cache.h: `sluicectl cache flush [MODEL]`: its words and what they ask for. What comes back is put into words by
 * words.h. Thinks. */
#ifndef SLUICE_CTL_CACHE_H
#define SLUICE_CTL_CACHE_H

#include "ctl/options.h"
#include <jansson.h>

// False: `why` says what is wrong.
bool cache_check_flush(const struct ctl_options *o, char why[OPTIONS_ERROR]);
// The body of the POST for one model. NULL: of all: none; out of memory, or the word is not UTF-8.
json_t *cache_wish_flush(const struct ctl_options *o);

#endif
