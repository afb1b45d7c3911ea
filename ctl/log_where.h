/* ctl/log_where.h: where a prediction log lies, from the words of a command line and the gateway.conf that they name. Does. */
#ifndef SLUICE_CTL_LOG_WHERE_H
#define SLUICE_CTL_LOG_WHERE_H

#include "ctl/log_place.h"
#include "ctl/options.h"

struct log_where {
    const char *directory; // or
    struct config_store store;
    const char *password; // where the store names no file with it; NULL: none. The environment's
    struct arena arena;   // of texts
    struct config *config;
};

// environment: getenv's shape. Of a configuration that writes both streams and files: the streams, which have those of all instances.
// False: why. Either way log_where_deinit.
bool log_where_find(struct log_where *w, const struct ctl_options *o,
                    char *(*environment)(const char *name), char why[LOG_WHY]);
void log_where_deinit(struct log_where *w);

#endif
