#include "engine/cpu/device.h"

#include "base/mem.h"
#include "engine/cpu/cpu.h"
#include "engine/plan.h"
#include <stdio.h>

#ifdef __x86_64__
#include <xmmintrin.h>
#endif

struct cpu_kernel {
    struct kernel base;
    const char *op, *domain;
    void (*run)(const struct job *j);
};

#define KERNEL(title, function, ...)                                                               \
    {                                                                                              \
        .op = title, .run = function, .base = { __VA_ARGS__ }                                      \
    }

#define ML(title, function, ...)                                                                   \
    {                                                                                              \
        .op = title, .domain = OP_ML, .run = function, .base = { __VA_ARGS__ }                     \
    }
#define MICROSOFT(title, function, ...)                                                            \
    {                                                                                              \
        .op = title, .domain = OP_MICROSOFT, .run = function, .base = { __VA_ARGS__ }              \
    }

static const struct cpu_kernel kernels[] = {
    KERNEL("Compress", cpu_compress),
    KERNEL("NonMaxSuppression", cpu_suppression, .scratch = cpu_suppression_scratch),
    KERNEL("NonZero", cpu_nonzero),
    KERNEL("Unique", cpu_unique, .scratch = cpu_unique_scratch),
    KERNEL("Abs", cpu_abs),
    KERNEL("Acos", cpu_acos),
    KERNEL("Acosh", cpu_acosh),
    KERNEL("Add", cpu_add),
    KERNEL("AffineGrid", cpu_affine_grid),
    KERNEL("And", cpu_and),
    KERNEL("ArgMax", cpu_arg_max),
    KERNEL("ArgMin", cpu_arg_min),
    KERNEL("Asin", cpu_asin),
    KERNEL("Asinh", cpu_asinh),
    KERNEL("Atan", cpu_atan),
    KERNEL("Atanh", cpu_atanh),
    KERNEL("Attention", cpu_attention, .scratch = cpu_attention_scratch),
    KERNEL("AveragePool", cpu_average_pool),
    KERNEL("BatchNormalization", cpu_batchnorm),
    KERNEL("BitCast", cpu_bit_cast),
    KERNEL("BitShift", cpu_bit_shift),
    KERNEL("BitwiseAnd", cpu_bitwise_and),
    KERNEL("BitwiseNot", cpu_bitwise_not),
    KERNEL("BitwiseOr", cpu_bitwise_or),
    KERNEL("BitwiseXor", cpu_bitwise_xor),
    KERNEL("BlackmanWindow", cpu_blackman_window),
    KERNEL("Cast", cpu_cast),
    KERNEL("CastLike", cpu_cast),
    KERNEL("Ceil", cpu_ceil),
    KERNEL("Celu", cpu_celu),
    KERNEL("CenterCropPad", cpu_center_crop_pad),
    KERNEL("Clip", cpu_clip),
    KERNEL("Col2Im", cpu_col2im),
    KERNEL("Concat", cpu_concat),
    KERNEL("Constant", cpu_constant),
    KERNEL("ConstantOfShape", cpu_constant_of_shape),
    KERNEL("Conv", cpu_conv, .scratch = cpu_conv_scratch, .prepare = cpu_conv_prepare),
    KERNEL("ConvInteger", cpu_conv_integer, .scratch = cpu_conv_integer_scratch,
           .prepare = cpu_byte_conv_prepare),
    KERNEL("ConvTranspose", cpu_conv_transpose, .scratch = cpu_conv_transpose_scratch),
    KERNEL("Cos", cpu_cos),
    KERNEL("Cosh", cpu_cosh),
    KERNEL("CumProd", cpu_cum_prod),
    KERNEL("CumSum", cpu_cum_sum),
    KERNEL("DFT", cpu_dft, .scratch = cpu_dft_scratch),
    KERNEL("DepthToSpace", cpu_depth_to_space),
    KERNEL("DequantizeLinear", cpu_dequantize),
    KERNEL("Det", cpu_det, .scratch = cpu_det_scratch),
    KERNEL("Div", cpu_div),
    KERNEL("DynamicQuantizeLinear", cpu_dynamic_quantize),
    KERNEL("Einsum", cpu_einsum),
    KERNEL("Elu", cpu_elu),
    KERNEL("Equal", cpu_equal),
    KERNEL("Erf", cpu_erf),
    KERNEL("Exp", cpu_exp),
    KERNEL("Expand", cpu_expand),
    KERNEL("EyeLike", cpu_eye_like),
    KERNEL("Floor", cpu_floor),
    KERNEL("Gather", cpu_gather),
    KERNEL("GRU", cpu_recurrent, .scratch = cpu_recurrent_scratch,
           .prepare = cpu_recurrent_prepare),
    KERNEL("LSTM", cpu_recurrent, .scratch = cpu_recurrent_scratch,
           .prepare = cpu_recurrent_prepare),
    KERNEL("RNN", cpu_recurrent, .scratch = cpu_recurrent_scratch,
           .prepare = cpu_recurrent_prepare),
    KERNEL("GatherElements", cpu_gather_elements),
    KERNEL("GatherND", cpu_gather_nd),
    KERNEL("Gelu", cpu_gelu),
    KERNEL("Gemm", cpu_gemm, .scratch = cpu_gemm_scratch, .prepare = cpu_gemm_prepare),
    KERNEL("GlobalAveragePool", cpu_global_average_pool),
    KERNEL("GlobalLpPool", cpu_global_lp_pool),
    KERNEL("GlobalMaxPool", cpu_global_max_pool),
    KERNEL("Greater", cpu_greater),
    KERNEL("GreaterOrEqual", cpu_greater_or_equal),
    KERNEL("GridSample", cpu_grid_sample),
    KERNEL("GroupNormalization", cpu_group_norm),
    KERNEL("HammingWindow", cpu_hamming_window),
    KERNEL("HannWindow", cpu_hann_window),
    KERNEL("HardSigmoid", cpu_hard_sigmoid),
    KERNEL("HardSwish", cpu_hard_swish),
    KERNEL("Hardmax", cpu_hardmax),
    KERNEL("InstanceNormalization", cpu_instance_norm),
    KERNEL("IsInf", cpu_is_inf),
    KERNEL("IsNaN", cpu_is_nan),
    KERNEL("LRN", cpu_lrn),
    KERNEL("LayerNormalization", cpu_layer_norm),
    KERNEL("LeakyRelu", cpu_leaky_relu),
    KERNEL("Less", cpu_less),
    KERNEL("LessOrEqual", cpu_less_or_equal),
    KERNEL("Log", cpu_log),
    KERNEL("LogSoftmax", cpu_log_softmax),
    KERNEL("LpNormalization", cpu_lp_norm),
    KERNEL("LpPool", cpu_lp_pool),
    KERNEL("MatMul", cpu_matmul, .prepare = cpu_matmul_prepare),
    KERNEL("MatMulInteger", cpu_matmul_integer, .scratch = cpu_byte_product_scratch,
           .prepare = cpu_byte_product_prepare),
    KERNEL("Max", cpu_max),
    KERNEL("MaxPool", cpu_max_pool),
    KERNEL("MaxUnpool", cpu_max_unpool),
    KERNEL("Mean", cpu_mean),
    KERNEL("MeanVarianceNormalization", cpu_mean_variance, .scratch = cpu_mean_variance_scratch),
    KERNEL("MelWeightMatrix", cpu_mel_weights),
    KERNEL("Min", cpu_min),
    KERNEL("Mish", cpu_mish),
    KERNEL("Mod", cpu_mod),
    KERNEL("Mul", cpu_mul),
    KERNEL("Neg", cpu_neg),
    KERNEL("NegativeLogLikelihoodLoss", cpu_negative_log_likelihood),
    KERNEL("Not", cpu_not),
    KERNEL("OneHot", cpu_one_hot),
    KERNEL("Or", cpu_or),
    KERNEL("PRelu", cpu_prelu),
    KERNEL("Pad", cpu_pad),
    KERNEL("Pow", cpu_pow),
    KERNEL("QLinearConv", cpu_qlinear_conv, .scratch = cpu_qlinear_conv_scratch,
           .prepare = cpu_byte_conv_prepare),
    KERNEL("QLinearMatMul", cpu_qlinear_matmul, .scratch = cpu_byte_product_scratch,
           .prepare = cpu_byte_product_prepare),
    KERNEL("QuantizeLinear", cpu_quantize),
    KERNEL("RMSNormalization", cpu_rms_norm),
    KERNEL("Range", cpu_range),
    KERNEL("Reciprocal", cpu_reciprocal),
    KERNEL("ReduceL1", cpu_reduce_l1),
    KERNEL("ReduceL2", cpu_reduce_l2),
    KERNEL("ReduceLogSum", cpu_reduce_log_sum),
    KERNEL("ReduceLogSumExp", cpu_reduce_log_sum_exp, .scratch = cpu_reduce_log_sum_exp_scratch),
    KERNEL("ReduceMax", cpu_reduce_max),
    KERNEL("ReduceMean", cpu_reduce_mean),
    KERNEL("ReduceMin", cpu_reduce_min),
    KERNEL("ReduceProd", cpu_reduce_prod),
    KERNEL("ReduceSum", cpu_reduce_sum),
    KERNEL("ReduceSumSquare", cpu_reduce_sum_square),
    KERNEL("Relu", cpu_relu),
    KERNEL("Resize", cpu_resize, .scratch = cpu_resize_scratch),
    KERNEL("ReverseSequence", cpu_reverse_sequence),
    KERNEL("RoiAlign", cpu_roi_align),
    KERNEL("RotaryEmbedding", cpu_rotary),
    KERNEL("Round", cpu_round),
    KERNEL("STFT", cpu_stft, .scratch = cpu_stft_scratch),
    KERNEL("Scatter", cpu_scatter_elements),
    KERNEL("ScatterElements", cpu_scatter_elements),
    KERNEL("ScatterND", cpu_scatter_nd),
    KERNEL("Selu", cpu_selu),
    KERNEL("Shape", cpu_shape),
    KERNEL("Shrink", cpu_shrink),
    KERNEL("Sigmoid", cpu_sigmoid),
    KERNEL("Sign", cpu_sign),
    KERNEL("SimplifiedLayerNormalization", cpu_rms_norm),
    KERNEL("Sin", cpu_sin),
    KERNEL("Sinh", cpu_sinh),
    KERNEL("Size", cpu_size),
    KERNEL("Slice", cpu_slice),
    KERNEL("Softmax", cpu_softmax),
    KERNEL("SoftmaxCrossEntropyLoss", cpu_cross_entropy, .scratch = cpu_cross_entropy_scratch),
    KERNEL("Softplus", cpu_softplus),
    KERNEL("Softsign", cpu_softsign),
    KERNEL("SpaceToDepth", cpu_space_to_depth),
    KERNEL("Split", cpu_split),
    KERNEL("Sqrt", cpu_sqrt),
    KERNEL("Sub", cpu_sub),
    KERNEL("Sum", cpu_sum),
    KERNEL("Swish", cpu_swish),
    KERNEL("Tan", cpu_tan),
    KERNEL("Tanh", cpu_tanh),
    KERNEL("TensorScatter", cpu_tensor_scatter),
    KERNEL("ThresholdedRelu", cpu_thresholded_relu),
    KERNEL("Tile", cpu_tile),
    KERNEL("TopK", cpu_top_k, .scratch = cpu_top_k_scratch),
    KERNEL("Transpose", cpu_transpose),
    KERNEL("Trilu", cpu_trilu),
    KERNEL("Upsample", cpu_resize, .scratch = cpu_resize_scratch),
    KERNEL("Where", cpu_where),
    KERNEL("Xor", cpu_xor),
    KERNEL("a port of 16-bit floats", cpu_cast),
    KERNEL("a port of small numbers", cpu_small_port),
    KERNEL(LAST_AVERAGE_POOL, cpu_average_pool_last),
    ML("CategoryMapper", cpu_category_mapper, .prepare = cpu_category_mapper_prepare),
    ML("LabelEncoder", cpu_label_encoder, .prepare = cpu_label_encoder_prepare),
    ML("OneHotEncoder", cpu_one_hot_encoder, .prepare = cpu_one_hot_encoder_prepare),
    KERNEL("Tokenizer, TfIdfVectorizer", cpu_words, .prepare = cpu_words_prepare),
    KERNEL("Equal, Cast, MatMul", cpu_lookup),
    MICROSOFT("Tokenizer", cpu_tokenizer),
    KERNEL("StringConcat", cpu_string_concat),
    KERNEL("StringNormalizer", cpu_string_normalizer),
    KERNEL("StringNormalizer, stopwords", cpu_string_normalizer),
    KERNEL("TfIdfVectorizer", cpu_tfidf, .prepare = cpu_tfidf_prepare),
    KERNEL(LAST_CONV, cpu_conv_last, .scratch = cpu_conv_last_scratch, .open = cpu_conv_last_open,
           .forget = cpu_conv_last_forget, .close = onednn_conv_close),
    KERNEL(LAST_GLOBAL_AVERAGE_POOL, cpu_global_average_pool_last),
    KERNEL(LAST_MAX_POOL, cpu_max_pool_last),
    ML("ArrayFeatureExtractor", cpu_feature_extractor),
    ML("Binarizer", cpu_binarizer),
    ML("FeatureVectorizer", cpu_feature_vectorizer, .scratch = cpu_ml_features_scratch),
    ML("Imputer", cpu_imputer),
    ML("LinearClassifier", cpu_linear_classifier, .scratch = cpu_ml_linear_scratch),
    ML("LinearRegressor", cpu_linear_regressor, .scratch = cpu_ml_linear_scratch),
    ML("Normalizer", cpu_normalizer, .scratch = cpu_ml_features_scratch),
    ML("SVMClassifier", cpu_svm_classifier, .scratch = cpu_svm_classifier_scratch),
    ML("SVMRegressor", cpu_svm_regressor, .scratch = cpu_svm_regressor_scratch),
    ML("Scaler", cpu_scaler, .scratch = cpu_ml_features_scratch),
    ML("TreeEnsemble", cpu_trees, .scratch = cpu_trees_scratch, .prepare = cpu_trees_prepare),
    ML("TreeEnsembleClassifier", cpu_trees, .scratch = cpu_trees_scratch,
       .prepare = cpu_trees_prepare),
    ML("TreeEnsembleRegressor", cpu_trees, .scratch = cpu_trees_scratch,
       .prepare = cpu_trees_prepare),
    MICROSOFT("Attention", cpu_ms_attention, .scratch = cpu_ms_attention_scratch),
    MICROSOFT("BiasGelu", cpu_bias_gelu),
    MICROSOFT("DequantizeLinear", cpu_dequantize),
    MICROSOFT("DynamicQuantizeMatMul", cpu_matmul_to_float, .scratch = cpu_byte_product_scratch,
              .prepare = cpu_byte_product_prepare),
    MICROSOFT("EmbedLayerNormalization", cpu_embed_layer_norm),
    MICROSOFT("FastGelu", cpu_fast_gelu),
    MICROSOFT("FusedMatMul", cpu_fused_matmul, .scratch = cpu_fused_matmul_scratch),
    MICROSOFT("Gelu", cpu_gelu),
    MICROSOFT("MatMulIntegerToFloat", cpu_matmul_to_float, .scratch = cpu_byte_product_scratch,
              .prepare = cpu_byte_product_prepare),
    MICROSOFT("MultiHeadAttention", cpu_multi_head, .scratch = cpu_multi_head_scratch),
    MICROSOFT("QGemm", cpu_qgemm, .scratch = cpu_byte_product_scratch,
              .prepare = cpu_byte_product_prepare),
    MICROSOFT("QLinearAdd", cpu_qlinear_binary),
    MICROSOFT("QLinearGlobalAveragePool", cpu_qlinear_global_pool),
    MICROSOFT("QLinearLeakyRelu", cpu_qlinear_unary),
    MICROSOFT("QLinearMul", cpu_qlinear_binary),
    MICROSOFT("QLinearSigmoid", cpu_qlinear_unary),
    MICROSOFT("QLinearSoftmax", cpu_qlinear_softmax),
    MICROSOFT("QuantizeLinear", cpu_quantize),
    MICROSOFT("SkipLayerNormalization", cpu_skip_layer_norm),
    MICROSOFT("SkipSimplifiedLayerNormalization", cpu_skip_rms_norm),
};

static const char *domain_of(const char *domain)
{
    return domain ? domain : "";
}

static const struct cpu_kernel *kernel_of(const struct op *op)
{
    for (unsigned i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
        const struct cpu_kernel *k = &kernels[i];
        if (strcmp(k->op, op->name) == 0 &&
            strcmp(domain_of(k->domain), domain_of(op->domain)) == 0)
            return &kernels[i];
    }
    return NULL;
}

static const struct kernel *cpu_kernel(const struct device *d, const struct op *op)
{
    const struct cpu_kernel *k = kernel_of(op);
    (void)d;
    return k ? &k->base : NULL;
}

size_t cpu_scratch(const struct job *j)
{
    const struct cpu_kernel *k = kernel_of(j->node->op);
    return k->base.scratch ? k->base.scratch(j) : 0;
}

void cpu_run(const struct job *j)
{
    kernel_of(j->node->op)->run(j);
}

// ---- memory and the queue ----------------------------------------------------------------------------

static void *cpu_alloc(struct device *d, size_t bytes)
{
    (void)d;
    return mem_alloc_aligned(bytes, 64);
}

static void cpu_release(struct device *d, void *p)
{
    (void)d;
    mem_free(p);
}

struct queue { // never holds anything but what went wrong
    char error[160];
    bool failed;
};

static struct queue *cpu_queue_new(struct device *d)
{
    (void)d;
    return mem_zalloc(sizeof(struct queue));
}

static void cpu_queue_free(struct queue *q)
{
    mem_free(q);
}

static void cpu_upload(struct queue *q, void *to, const void *from, size_t bytes)
{
    (void)q;
    memcpy(to, from, bytes);
}

// Numbers below 1.2e-38 count as 0 while a plan runs. Trained weights hold some (pixels that are always 0
// decay to them) and clients can send them; the machine takes a hundred times as long over each.
// (Measured: the demo model digits-small, 0.2 us a row instead of 2.0.) Returns what to give to leave.
#ifdef __x86_64__
static unsigned enter_flush(void)
{
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040); // flush results, take operands for zero
    return before;
}
static void leave_flush(unsigned before)
{
    _mm_setcsr(before);
}
#else
static unsigned enter_flush(void)
{
    return 0;
}
static void leave_flush(unsigned before)
{
    (void)before;
}
#endif

static void run_failed(struct queue *q, const struct job *j, const char *why)
{
    char title[128];
    snprintf(q->error, sizeof(q->error), "%s: %.60s", node_title(j->node, title), why);
    q->failed = true;
}

static void cpu_enqueue(struct queue *q, struct plan *p)
{
    unsigned before = enter_flush();
    p->failure = NULL;
    for (unsigned s = 0; s < p->n_steps && !p->failure; s++) {
        const struct job *j = &p->steps[s].job;
        uint64_t from = p->now_ns ? p->now_ns() : 0;
        if (step_runs(&p->steps[s]))
            ((const struct cpu_kernel *)j->node->kernel)->run(j);
        if (p->now_ns)
            p->spent_ns[s] += p->now_ns() - from;
        if (p->failure)
            run_failed(q, j, p->failure);
    }
    leave_flush(before);
}

static void cpu_step(struct queue *q, const struct job *j)
{
    unsigned before = enter_flush();
    (void)q;
    ((const struct cpu_kernel *)j->node->kernel)->run(j);
    leave_flush(before);
}

static const char *cpu_sync(struct queue *q)
{
    bool failed = q->failed;
    q->failed = false;
    return failed ? q->error : NULL;
}

static void cpu_event(struct queue *q, void (*fn)(void *ctx, const char *error), void *ctx)
{
    fn(ctx, cpu_sync(q));
}

// ---- the device --------------------------------------------------------------------------------------

static void cpu_free(struct device *d)
{
    mem_free(d);
}

static const struct device_ops cpu_ops = {
    .name = "cpu",
    .shared = true,
    .kernel = cpu_kernel,
    .layout = cpu_layout,
    .free = cpu_free,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .queue_new = cpu_queue_new,
    .queue_free = cpu_queue_free,
    .upload = cpu_upload,
    .enqueue = cpu_enqueue,
    .step = cpu_step,
    .event = cpu_event,
    .sync = cpu_sync,
};

struct device *cpu_device_new(struct cpu_options o)
{
    struct cpu_device *d = mem_alloc(sizeof(*d));
    if (!d)
        return NULL;
    o.threads = o.threads > 0 ? o.threads : 1;
    *d = (struct cpu_device){.base = {.ops = &cpu_ops}, .options = o};
    return &d->base;
}
