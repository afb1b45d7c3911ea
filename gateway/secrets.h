/* gateway/secrets.h: no core file and no /proc/PID/mem while keys or a token are in memory (row 134), unless the
 * configuration wants cores. Does. Thread: the process's main one; processes that are forked inherit it. */
#ifndef SLUICE_GATEWAY_SECRETS_H
#define SLUICE_GATEWAY_SECRETS_H

#include "config/config.h"

// Before what it names is read. Secrets that were read once stay guarded: a configuration that names none changes nothing.
void secrets_guard(const struct config *c);

#endif
