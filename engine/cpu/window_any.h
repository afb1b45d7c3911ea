/* engine/cpu/window_any.h: convolutions of any number of axes, also of whole numbers. Thinks. */
#ifndef SLUICE_ENGINE_CPU_WINDOW_ANY_H
#define SLUICE_ENGINE_CPU_WINDOW_ANY_H

#include "engine/ops.h"

struct conv_sizes {
    int64_t images, groups, channels, outs; // channels and outs of one group
};

struct conv_sizes conv_sizes_of(const struct job *j, const struct array *k);
struct windows windows_for(const struct job *j, unsigned n, const int64_t *kernel);
int64_t windows_pixels(const struct windows *w, const int64_t *sides); // of w's in, out, kernel
// y += x under k; channels first.
void conv_any_f32(const struct windows *w, const struct conv_sizes *s, const float *x,
                  const float *k, float *y);
void conv_any_i32(const struct windows *w, const struct conv_sizes *s, const int32_t *x,
                  const int32_t *k, int32_t *y);

#endif
