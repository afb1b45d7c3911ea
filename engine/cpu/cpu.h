/* engine/cpu/cpu.h: the CPU device's kernels: float32, row-major, plain C that the compiler vectorises, and
 * oneDNN for convolutions (engine/cpu/onednn.c). Every kernel computes a row in an order that does not
 * depend on how many rows there are, so a row in a batch has the same bits as the row alone. Thinks. */
#ifndef SLUICE_ENGINE_CPU_CPU_H
#define SLUICE_ENGINE_CPU_CPU_H

#include "engine/ops.h"

void cpu_add(const struct job *j);
void cpu_sub(const struct job *j);
void cpu_mul(const struct job *j);
void cpu_div(const struct job *j);
void cpu_relu(const struct job *j);
void cpu_exp(const struct job *j);
void cpu_sigmoid(const struct job *j);
void cpu_tanh(const struct job *j);
void cpu_clip(const struct job *j);
void cpu_softmax(const struct job *j);
void cpu_batchnorm(const struct job *j);
void cpu_constant(const struct job *j);
void cpu_concat(const struct job *j);
void cpu_slice(const struct job *j);
void cpu_transpose(const struct job *j);
void cpu_max_pool(const struct job *j);
void cpu_average_pool(const struct job *j);
void cpu_global_average_pool(const struct job *j);

void cpu_gemm(const struct job *j);
size_t cpu_gemm_scratch(const struct job *j);
bool cpu_gemm_prepare(struct node *n, const struct array *const *constant, struct arena *a);
void cpu_matmul(const struct job *j);
size_t cpu_matmul_scratch(const struct job *j);
bool cpu_matmul_prepare(struct node *n, const struct array *const *constant, struct arena *a);
void cpu_conv(const struct job *j);
size_t cpu_conv_scratch(const struct job *j);
bool cpu_conv_prepare(struct node *n, const struct array *const *constant, struct arena *a);

// y[rows, cols] = x[rows, depth] * w[depth, cols], each row: bias (per column, or NULL for 0) first, then
// depth in ascending order, then max(0, .) when relu. Leading dimensions in elements.
struct product {
    const float *x, *w, *bias;
    float *y;
    size_t rows, depth, cols, x_step, w_step, y_step;
    bool relu;
    bool
        padded; // w and bias are readable, and zero, up to the next multiple of PRODUCT_PAD columns
};
#define PRODUCT_PAD 16
void cpu_product(const struct product *p);

// oneDNN: true when it ran this convolution (a plain float one); false: the plain kernel must.
bool onednn_conv(const struct job *j, const struct window *w, int64_t groups);
void onednn_set_threads(unsigned n);
// For models that are loaded from now on: false leaves every op to plain C (comparisons).
void onednn_enable(bool on);
void onednn_forget(struct graph *g); // frees what it keeps with the nodes

#endif
