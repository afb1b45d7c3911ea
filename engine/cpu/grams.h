/* engine/cpu/grams.h: the runs of words that a TfIdfVectorizer counts. Thinks. */
#ifndef SLUICE_ENGINE_CPU_GRAMS_H
#define SLUICE_ENGINE_CPU_GRAMS_H

#include "engine/strings.h"

struct grams;

struct grams *grams_new(const struct node *n, struct arena *a); // NULL: out of memory
// Adds to a row's columns what n words of x from `from` on hold. False: that would take too long.
bool grams_count(const struct grams *g, const struct array *x, size_t from, size_t n, float *y);

#endif
