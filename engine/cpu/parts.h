/* engine/cpu/parts.h: sums and extremes of floats that stand side by side: in parts, which are vectors, and these two by
 * two in the end; one order, whatever the batch. Thinks. */
#ifndef SLUICE_ENGINE_CPU_PARTS_H
#define SLUICE_ENGINE_CPU_PARTS_H

#include <stddef.h>

#define PARTS 16

// T name(x, n, mean). expression: what an element v makes of a part s, which was `first` before; together: what two
// parts, v and s, are. mean: for the expression.
#define PARTS_OF(name, T, first, expression, together)                                             \
    static T name(const T *x, size_t n, T mean)                                                    \
    {                                                                                              \
        T part[PARTS];                                                                             \
        size_t i = 0;                                                                              \
        (void)mean;                                                                                \
        for (unsigned p = 0; p < PARTS; p++)                                                       \
            part[p] = (T)(first);                                                                  \
        for (; i + PARTS <= n; i += PARTS) {                                                       \
            for (unsigned p = 0; p < PARTS; p++) {                                                 \
                T v = x[i + p], s = part[p];                                                       \
                part[p] = (T)(expression);                                                         \
            }                                                                                      \
        }                                                                                          \
        for (unsigned p = 0; i < n; i++, p++) {                                                    \
            T v = x[i], s = part[p];                                                               \
            part[p] = (T)(expression);                                                             \
        }                                                                                          \
        for (unsigned half = PARTS / 2; half > 0; half /= 2) {                                     \
            for (unsigned p = 0; p < half; p++) {                                                  \
                T v = part[p + half], s = part[p];                                                 \
                part[p] = (T)(together);                                                           \
            }                                                                                      \
        }                                                                                          \
        return part[0];                                                                            \
    }

#endif
