/* worker/load.h: one version of a model: its file and what lies beside it loaded, described, given its instances
 * and warmed up as its configuration says. Part of worker/repository.h. Does. */
#ifndef SLUICE_WORKER_LOAD_H
#define SLUICE_WORKER_LOAD_H

#include "config/model.h"
#include "net/log.h"
#include "worker/files.h"
#include "worker/repository.h"

struct version_wanted {
    const char *name, *version;
    struct files_place place;            // the version's folder
    const struct files_place *beside;    // the model's: "warmup" lies there
    const struct model_settings *config; // NULL: there is no config.pbtxt
    uint32_t max_batch;                  // 0: never batched
};

// NULL with why.
struct served *served_load(struct engine *engine, const struct version_wanted *w,
                           const struct repository_options *o, char why[256]);
void served_free(struct served *s);
// One event line on standard error.
void served_say(enum log_level level, const char *event, const char *model, const char *version,
                const char *why);

#endif
