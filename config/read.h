/* config/read.h: the second reading of gateway.conf: libConfuse takes the text apart, the table of keys
 * says what each value means. And the checks between keys. Used by config.c alone. Thinks. */
#ifndef SLUICE_CONFIG_READ_H
#define SLUICE_CONFIG_READ_H

#include "config/outline.h"

// Fills c (arena ready, all else zero) from the text, whose outline was found clean. text ends in NUL
// and holds no comments. Adds what is wrong to errors.
void config_read(struct config *c, const char *text, const struct outline *o, struct arena *scratch,
                 struct config_errors *errors);
// The one section that the outline of an experiment's text has, behind the experiments that are there.
void config_read_experiment(struct config *c, const char *text, const struct outline *o,
                            struct arena *scratch, struct config_errors *errors);
// What one key alone cannot know; also completes values that follow from others.
void config_check(struct config *c, const struct outline *o, struct config_errors *errors);
// The index-th experiment, whose section s is: config_check's.
void config_check_experiment(struct config *c, const struct outline_section *s, unsigned index,
                             struct config_errors *errors);
// And what is asked of one that is created: start: that it runs of itself.
void config_check_created(const struct config *c, const struct outline_section *s, unsigned index,
                          bool start, struct config_errors *errors);

#endif
