/* worker/files.h: the files of a repository: opened beneath its root, whatever links lie on the way (links
 * within it are followed: Kubernetes volumes and model caches are made of them; one that leads out is an
 * error), read whole, or mapped while a model is loaded. Does. Thread: one load at a time. */
#ifndef SLUICE_WORKER_FILES_H
#define SLUICE_WORKER_FILES_H

#include "base/view.h"
#include "engine/engine.h"

// What a path is beneath: a directory, and a folder in it that names are relative to ("" or "NAME/1").
struct files_place {
    int base;
    char folder[256];
};

// The file or folder `name` of that place. -1 with errno; EXDEV: a link leads out of base.
int files_open(const struct files_place *p, const char *name, int flags);
// errno in words.
const char *files_error(int error);
// A regular file, whole; mem_free. NULL with why, which begins with the name.
char *files_read(const struct files_place *p, const char *name, size_t most, size_t *n,
                 char why[256]);

struct files_map;
// Regular files as memory, until files_unmap: as engine_files what a model refers to.
struct files_maps {
    struct engine_files files;
    const struct files_place *place;
    struct files_map *first;
    volatile bool cut; // a file became shorter while it was mapped
};

void files_maps_init(struct files_maps *m, const struct files_place *p);
bool files_map(struct files_maps *m, const char *name, struct view *all, char why[256]);
// False: a file became shorter meanwhile, and what was read of it is not what it held.
bool files_unmap(struct files_maps *m);

#endif
