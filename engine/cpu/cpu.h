/* engine/cpu/cpu.h: the CPU device's kernels: float32, row-major, plain C that the compiler vectorises, and
 * oneDNN for convolutions (engine/cpu/onednn.c). Every kernel computes a row in an order that does not
 * depend on how many rows there are, so a row in a batch has the same bits as the row alone. Thinks. */
#ifndef SLUICE_ENGINE_CPU_CPU_H
#define SLUICE_ENGINE_CPU_CPU_H

#include "engine/cpu/device.h"
#include "engine/device.h"

// Before a loop over elements whose answer lies where its input does, or apart: each is read before it is written.
#ifdef __clang__
#pragma clang diagnostic ignored "-Wpass-failed" // it need not
#define EACH_BY_ITSELF _Pragma("clang loop vectorize(assume_safety)")
#else
#define EACH_BY_ITSELF _Pragma("GCC ivdep")
#endif

struct cpu_device {
    struct device base;
    struct cpu_options options;
};

// Elements along the axes from `from` on and before `to`: of a tensor that a plan has, whose elements are bounded.
static inline size_t count_between(const struct array *a, unsigned from, unsigned to)
{
    size_t n = 1;
    for (unsigned i = from; i < to; i++)
        n *= (size_t)a->shape[i];
    return n;
}
static inline size_t count_from(const struct array *a, unsigned axis)
{
    return count_between(a, axis, a->rank);
}
static inline size_t count_all(const struct array *a)
{
    return count_between(a, 0, a->rank);
}

// Element i of int32 or int64.
static inline int64_t integer_at(const struct array *a, size_t i)
{
    return a->dtype == ENGINE_I32 ? ((const int32_t *)a->data)[i] : ((const int64_t *)a->data)[i];
}

// Puts images channels last where the library does their convolutions (engine/cpu/layout.c).
bool cpu_layout(struct device *d, struct graph *g, const struct array *shapes, bool *changed,
                struct engine_error *e);

// The ops that it puts into a graph; no file can name them.
#define LAST_CONV "Conv, channels last"
#define LAST_MAX_POOL "MaxPool, channels last"
#define LAST_AVERAGE_POOL "AveragePool, channels last"
#define LAST_GLOBAL_AVERAGE_POOL "GlobalAveragePool, channels last"

void cpu_add(const struct job *j);
void cpu_sub(const struct job *j);
void cpu_mul(const struct job *j);
void cpu_div(const struct job *j);
void cpu_abs(const struct job *j);
void cpu_acos(const struct job *j);
void cpu_acosh(const struct job *j);
void cpu_asin(const struct job *j);
void cpu_asinh(const struct job *j);
void cpu_atan(const struct job *j);
void cpu_atanh(const struct job *j);
void cpu_ceil(const struct job *j);
void cpu_cos(const struct job *j);
void cpu_cosh(const struct job *j);
void cpu_erf(const struct job *j);
void cpu_floor(const struct job *j);
void cpu_log(const struct job *j);
void cpu_neg(const struct job *j);
void cpu_reciprocal(const struct job *j);
void cpu_round(const struct job *j);
void cpu_sign(const struct job *j);
void cpu_sin(const struct job *j);
void cpu_sinh(const struct job *j);
void cpu_softplus(const struct job *j);
void cpu_softsign(const struct job *j);
void cpu_sqrt(const struct job *j);
void cpu_tan(const struct job *j);
void cpu_hard_swish(const struct job *j);
void cpu_mish(const struct job *j);
void cpu_celu(const struct job *j);
void cpu_elu(const struct job *j);
void cpu_hard_sigmoid(const struct job *j);
void cpu_leaky_relu(const struct job *j);
void cpu_selu(const struct job *j);
void cpu_thresholded_relu(const struct job *j);
void cpu_gelu(const struct job *j);
void cpu_not(const struct job *j);
void cpu_reduce_l1(const struct job *j);
void cpu_reduce_l2(const struct job *j);
void cpu_reduce_log_sum(const struct job *j);
void cpu_reduce_max(const struct job *j);
void cpu_reduce_mean(const struct job *j);
void cpu_reduce_min(const struct job *j);
void cpu_reduce_prod(const struct job *j);
void cpu_reduce_sum(const struct job *j);
void cpu_reduce_sum_square(const struct job *j);
void cpu_arg_max(const struct job *j);
void cpu_arg_min(const struct job *j);
void cpu_global_max_pool(const struct job *j);
void cpu_log_softmax(const struct job *j);
void cpu_conv_transpose(const struct job *j);
size_t cpu_conv_transpose_scratch(const struct job *j);
void cpu_resize(const struct job *j);
size_t cpu_resize_scratch(const struct job *j);
void cpu_compress(const struct job *j);
void cpu_nonzero(const struct job *j);
void cpu_suppression(const struct job *j);
size_t cpu_suppression_scratch(const struct job *j);
void cpu_unique(const struct job *j);
size_t cpu_unique_scratch(const struct job *j);
void cpu_recurrent(const struct job *j);
size_t cpu_recurrent_scratch(const struct job *j);
bool cpu_recurrent_prepare(struct graph *g, struct node *n, struct engine_error *e);
void cpu_pow(const struct job *j);
void cpu_prelu(const struct job *j);
void cpu_max(const struct job *j);
void cpu_min(const struct job *j);
void cpu_equal(const struct job *j);
void cpu_less(const struct job *j);
void cpu_less_or_equal(const struct job *j);
void cpu_greater(const struct job *j);
void cpu_greater_or_equal(const struct job *j);
void cpu_and(const struct job *j);
void cpu_or(const struct job *j);
void cpu_xor(const struct job *j);
void cpu_trees(const struct job *j);
size_t cpu_trees_scratch(const struct job *j);
bool cpu_trees_prepare(struct graph *g, struct node *n, struct engine_error *e);
void cpu_linear_regressor(const struct job *j);
void cpu_linear_classifier(const struct job *j);
void cpu_svm_regressor(const struct job *j);
void cpu_svm_classifier(const struct job *j);
void cpu_scaler(const struct job *j);
void cpu_imputer(const struct job *j);
void cpu_normalizer(const struct job *j);
void cpu_binarizer(const struct job *j);
void cpu_feature_extractor(const struct job *j);
void cpu_feature_vectorizer(const struct job *j);
size_t cpu_ml_linear_scratch(const struct job *j);
size_t cpu_svm_regressor_scratch(const struct job *j);
size_t cpu_svm_classifier_scratch(const struct job *j);
size_t cpu_ml_features_scratch(const struct job *j);
void cpu_split(const struct job *j);
void cpu_tile(const struct job *j);
void cpu_pad(const struct job *j);
void cpu_trilu(const struct job *j);
void cpu_depth_to_space(const struct job *j);
void cpu_space_to_depth(const struct job *j);
void cpu_gather_elements(const struct job *j);
void cpu_scatter_elements(const struct job *j);
void cpu_gather_nd(const struct job *j);
void cpu_scatter_nd(const struct job *j);
void cpu_one_hot(const struct job *j);
void cpu_eye_like(const struct job *j);
void cpu_top_k(const struct job *j);
void cpu_reverse_sequence(const struct job *j);
void cpu_cum_sum(const struct job *j);
void cpu_cum_prod(const struct job *j);
void cpu_hardmax(const struct job *j);
void cpu_shrink(const struct job *j);
void cpu_is_nan(const struct job *j);
void cpu_is_inf(const struct job *j);
void cpu_swish(const struct job *j);
size_t cpu_top_k_scratch(const struct job *j);
void cpu_layer_norm(const struct job *j);
void cpu_rms_norm(const struct job *j);
void cpu_instance_norm(const struct job *j);
void cpu_group_norm(const struct job *j);
void cpu_lp_norm(const struct job *j);
void cpu_mean_variance(const struct job *j);
void cpu_lrn(const struct job *j);
void cpu_skip_layer_norm(const struct job *j);
void cpu_skip_rms_norm(const struct job *j);
void cpu_embed_layer_norm(const struct job *j);
void cpu_bias_gelu(const struct job *j);
void cpu_fast_gelu(const struct job *j);
void cpu_negative_log_likelihood(const struct job *j);
void cpu_cross_entropy(const struct job *j);
size_t cpu_mean_variance_scratch(const struct job *j);
size_t cpu_cross_entropy_scratch(const struct job *j);
void cpu_conv_any(const struct job *j);
void cpu_conv_transpose_any(const struct job *j);
void cpu_max_pool_any(const struct job *j);
void cpu_average_pool_any(const struct job *j);
void cpu_lp_pool(const struct job *j);
void cpu_global_lp_pool(const struct job *j);
void cpu_max_unpool(const struct job *j);
void cpu_quantize(const struct job *j);
void cpu_dequantize(const struct job *j);
void cpu_dynamic_quantize(const struct job *j);
void cpu_matmul_integer(const struct job *j);
void cpu_qlinear_matmul(const struct job *j);
void cpu_matmul_to_float(const struct job *j);
void cpu_conv_integer(const struct job *j);
void cpu_qlinear_conv(const struct job *j);
void cpu_qlinear_binary(const struct job *j);
void cpu_qlinear_unary(const struct job *j);
void cpu_qlinear_softmax(const struct job *j);
void cpu_qlinear_global_pool(const struct job *j);
void cpu_qgemm(const struct job *j);
size_t cpu_byte_product_scratch(const struct job *j);
bool cpu_byte_product_prepare(struct graph *g, struct node *n, struct engine_error *e);
bool cpu_byte_conv_prepare(struct graph *g, struct node *n, struct engine_error *e);
size_t cpu_conv_integer_scratch(const struct job *j);
size_t cpu_qlinear_conv_scratch(const struct job *j);
void cpu_attention(const struct job *j);
void cpu_rotary(const struct job *j);
void cpu_ms_attention(const struct job *j);
void cpu_multi_head(const struct job *j);
void cpu_fused_matmul(const struct job *j);
size_t cpu_attention_scratch(const struct job *j);
size_t cpu_ms_attention_scratch(const struct job *j);
size_t cpu_multi_head_scratch(const struct job *j);
size_t cpu_fused_matmul_scratch(const struct job *j);
void cpu_grid_sample(const struct job *j);
void cpu_affine_grid(const struct job *j);
void cpu_roi_align(const struct job *j);
void cpu_det(const struct job *j);
void cpu_einsum(const struct job *j);
void cpu_hann_window(const struct job *j);
void cpu_hamming_window(const struct job *j);
void cpu_blackman_window(const struct job *j);
void cpu_mel_weights(const struct job *j);
void cpu_dft(const struct job *j);
void cpu_stft(const struct job *j);
size_t cpu_det_scratch(const struct job *j);
size_t cpu_dft_scratch(const struct job *j);
size_t cpu_stft_scratch(const struct job *j);
void cpu_bit_cast(const struct job *j);
void cpu_tensor_scatter(const struct job *j);
void cpu_center_crop_pad(const struct job *j);
void cpu_col2im(const struct job *j);
void cpu_reduce_log_sum_exp(const struct job *j);
size_t cpu_reduce_log_sum_exp_scratch(const struct job *j);
void cpu_mod(const struct job *j);
void cpu_sum(const struct job *j);
void cpu_mean(const struct job *j);
void cpu_bit_shift(const struct job *j);
void cpu_bitwise_and(const struct job *j);
void cpu_bitwise_not(const struct job *j);
void cpu_bitwise_or(const struct job *j);
void cpu_bitwise_xor(const struct job *j);
void cpu_shape(const struct job *j);
void cpu_size(const struct job *j);
void cpu_cast(const struct job *j);
void cpu_small_port(const struct job *j);
void cpu_gather(const struct job *j);
void cpu_lookup(const struct job *j);
void cpu_range(const struct job *j);
void cpu_constant_of_shape(const struct job *j);
void cpu_expand(const struct job *j);
void cpu_where(const struct job *j);
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
// The same over [images, height, width, channels]; attributes and answers as ONNX has them otherwise.
void cpu_max_pool_last(const struct job *j);
void cpu_average_pool_last(const struct job *j);
void cpu_global_average_pool_last(const struct job *j);
// Conv there: n->prepared is a struct onednn_conv.
void cpu_conv_last(const struct job *j);
size_t cpu_conv_last_scratch(const struct job *j);
void *cpu_conv_last_open(const struct job *j);
void cpu_conv_last_forget(struct node *n);

// Of strings (engine/cpu/text.c, labels.c).
void cpu_string_normalizer(const struct job *j);
void cpu_string_concat(const struct job *j);
void cpu_cast_text(const struct job *j, size_t n); // of n elements: strings to numbers, or back
void cpu_tfidf(const struct job *j);
bool cpu_tfidf_prepare(struct graph *g, struct node *n, struct engine_error *e);
void cpu_tokenizer(const struct job *j);
void cpu_words(const struct job *j);
bool cpu_words_prepare(struct graph *g, struct node *n, struct engine_error *e);
void cpu_label_encoder(const struct job *j);
bool cpu_label_encoder_prepare(struct graph *g, struct node *n, struct engine_error *e);
void cpu_category_mapper(const struct job *j);
bool cpu_category_mapper_prepare(struct graph *g, struct node *n, struct engine_error *e);
void cpu_one_hot_encoder(const struct job *j);
bool cpu_one_hot_encoder_prepare(struct graph *g, struct node *n, struct engine_error *e);

void cpu_gemm(const struct job *j);
size_t cpu_gemm_scratch(const struct job *j);
bool cpu_gemm_prepare(struct graph *g, struct node *n, struct engine_error *e);
void cpu_matmul(const struct job *j);

bool cpu_matmul_prepare(struct graph *g, struct node *n, struct engine_error *e);
void cpu_conv(const struct job *j);
bool cpu_conv_prepare(struct graph *g, struct node *n, struct engine_error *e);
void cpu_lines(const struct job *j); // Conv over one axis, prepared
size_t cpu_lines_scratch(const struct job *j);
size_t cpu_conv_scratch(const struct job *j);
struct conv;
struct conv cpu_conv_of(const struct job *j, unsigned axis); // of the image's first axis

// All n places of x, the largest number's first; of equal ones the first; what is not a number before all.
void cpu_largest(const float *x, size_t *places, size_t n);
// y[rows, cols] = x[rows, depth] * w[depth, cols], each row: bias (per column, or NULL for 0) first, then
// depth in ascending order, then max(0, .) when relu. Leading dimensions in elements.
struct product {
    const float *x, *w, *bias;
    float *y;
    size_t rows, depth, cols, x_step, w_step, y_step;
    bool relu;
    // w and bias are readable, and zero, up to the next multiple of PRODUCT_PAD columns
    bool padded;
};
#define PRODUCT_PAD 16
void cpu_product(const struct product *p);

// ---- oneDNN (engine/cpu/onednn.c) --------------------------------------------------------------------

struct conv {
    int64_t groups, channels, outs; // channels and outs of one group
    struct window w;
};

// Convolutions of images that stand channels last, [images, height, width, channels]. Weights as in the
// file, [outs, channels, kernel]; copied. threads: that it may use, from some size on. NULL: not one that the library does fast (the plain kernel does).
struct onednn_conv;
struct onednn_conv *onednn_conv_new(const struct conv *c, const float *weights, const float *bias,
                                    bool relu, unsigned threads);
void onednn_conv_free(struct onednn_conv *o);
size_t onednn_conv_bytes(const struct onednn_conv *o); // of its copies of weights and bias
size_t onednn_conv_scratch(const void *state);         // of what is open
bool onednn_conv_takes(const struct conv *c);          // of a moderate size
// What each plan has of its own, c: with the images as they are there; NULL: out of memory. Any number of
// plans may open, run and close one convolution at a time; those with images of one size share its kernel.
void *onednn_conv_open(struct onednn_conv *o, const struct conv *c);
void onednn_conv_close(void *state);
void onednn_conv_run(const struct onednn_conv *o, void *state, const float *x, float *y,
                     size_t images, void *scratch);

#endif
