/* ctl/complain.h: what went wrong, one line on standard error, without control characters of what it quotes. Does. */
#ifndef SLUICE_CTL_COMPLAIN_H
#define SLUICE_CTL_COMPLAIN_H

#include "ctl/ask.h"
#include "ctl/commands.h"
#include <jansson.h>

// Gives `status`.
__attribute__((format(printf, 2, 3))) enum ctl_exit complain(enum ctl_exit status,
                                                             const char *format, ...);
// The listener said no with that status; answer: its body, read; NULL: no JSON.
enum ctl_exit complain_refused(const struct ask *a, long status, const json_t *answer);
// It answered, and nothing flowed.
enum ctl_exit complain_unflowed(const struct ask *a, const struct ask_flow *f);

#endif
