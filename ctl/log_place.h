/* ctl/log_place.h: the place of a prediction log in a Redis, in the words of a command line:
 *
 *   redis://[USER@]HOST[:PORT][/DATABASE]       a server alone; rediss://: over TLS
 *   unix:PATH
 *   sentinel://[USER@]HOST[:PORT],.../MASTER    whoever these Sentinels say is the master of that name
 *   cluster://[USER@]HOST[:PORT],...            some nodes of a Cluster
 *
 * An IPv6 address stands in brackets. Thinks. */
#ifndef SLUICE_CTL_LOG_PLACE_H
#define SLUICE_CTL_LOG_PLACE_H

#include "base/arena.h"
#include "config/config.h"

#define LOG_WHY 512

// Else it is a directory: no scheme of these stands there, and no "://".
bool log_place_is_store(const char *place);
// Into a store of which nothing is set: where it is, its user, tls. Its texts are the arena's. False: why, in which no password
// stands, and `why` says so of one that stands in the place.
bool log_place_read(struct config_store *out, struct arena *a, const char *place,
                    char why[LOG_WHY]);
// What belongs together, as gateway.conf would be checked. password: one is known, wherever from.
bool log_place_check(const struct config_store *s, bool password, char why[LOG_WHY]);

#endif
