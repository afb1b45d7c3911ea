/* ctl/log.h: `sluicectl log export|tail|archive`: the prediction log, read where it lies; no gateway is asked. Does. */
#ifndef SLUICE_CTL_LOG_H
#define SLUICE_CTL_LOG_H

#include "ctl/commands.h"

// False: `why` says what is wrong.
bool log_check(const struct ctl_options *o, char why[OPTIONS_ERROR]);
enum ctl_exit log_run(const struct ctl_options *o);

#endif
