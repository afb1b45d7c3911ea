/* engine/cpu/labels.h: words and numbers that stand for others: a table of keys, looked up by hash. Thinks. */
#ifndef SLUICE_ENGINE_CPU_LABELS_H
#define SLUICE_ENGINE_CPU_LABELS_H

#include "engine/strings.h"

struct label_table;

// Of n keys, which stay. Of equal ones the first counts. NULL: out of memory.
struct label_table *label_table_new(struct arena *a, struct view *keys, size_t n);
// The number of the key; SIZE_MAX: there is none.
size_t label_find(const struct label_table *t, struct view key);

#endif
