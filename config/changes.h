/* config/changes.h: what one configuration says differently from another, key by key, from the table of keys; and
 * whether what runs by the first can go over to the second. Sections with a title are the same when their titles
 * are, in whatever order they stand. What a model inherits is told of the model, too: its rules are other ones now.
 * Thinks. */
#ifndef SLUICE_CONFIG_CHANGES_H
#define SLUICE_CONFIG_CHANGES_H

#include "base/buffer.h"
#include "config/config.h"

#define CONFIG_CHANGES_TOLD 16 // of each kind; the rest are counted

struct config_changes {
    unsigned taken, refused; // all there are
    // One after the other, with "; " between them: `model "digits": batch: max_rows: was 16, is 8`.
    struct buffer taken_text, refused_text;
    bool failed; // out of memory
};

void config_changes_find(struct config_changes *out, const struct config *was,
                         const struct config *is);
void config_changes_deinit(struct config_changes *c);

#endif
