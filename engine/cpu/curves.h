/* engine/cpu/curves.h: the exponential, the logistic function, the hyperbolic tangent and Relu of arrays of float32, in the
 * vectors of the machine, in place. Within 2 units of the last place; what is not a number stays so. An element's bits depend on
 * nothing but the element and the machine. Thinks. */
#ifndef SLUICE_ENGINE_CPU_CURVES_H
#define SLUICE_ENGINE_CPU_CURVES_H

#include <stddef.h>

void curve_exp(float *x, size_t n); // below 1.2e-38: 0
void curve_relu(float *x, size_t n);
void curve_sigmoid(float *x, size_t n);
void curve_tanh(float *x, size_t n);

#endif
