#include "engine/ops.h"
#include "engine/late.h"
#include "engine/recurrent.h"

#define OP(title, least, most, shapes, datatypes, ...)                                             \
    {                                                                                              \
        .name = title, .min_inputs = least, .max_inputs = most, .shape = shapes,                   \
        .types = datatypes, __VA_ARGS__                                                            \
    }

#define IMAGES "images of one axis to " AXES_TEXT
#define ML(title, least, most, shapes, datatypes, ...)                                             \
    OP(title, least, most, shapes, datatypes, .domain = OP_ML, __VA_ARGS__)
#define MICROSOFT(title, least, most, shapes, datatypes, ...)                                      \
    OP(title, least, most, shapes, datatypes, .domain = OP_MICROSOFT, __VA_ARGS__)

// ---- work --------------------------------------------------------------------------------------------

static double product_work(const struct job *j)
{
    const struct array *x = j->in[0];
    bool turned = node_int(j->node, "transA", 0) != 0;
    return (double)x->shape[turned ? x->rank - 2 : x->rank - 1];
}

double conv_work(const struct job *j)
{
    const int64_t *w = j->in[1]->shape;
    double n = (double)w[1];
    for (unsigned i = 2; i < j->in[1]->rank; i++)
        n *= (double)w[i];
    return n;
}

double pool_work(const struct job *j)
{
    const struct attr *kernel = node_attr(j->node, "kernel_shape");
    double n = 1;
    for (unsigned i = 0; i < kernel->n; i++)
        n *= (double)kernel->ints[i];
    return n;
}

// A whole patch of the kernel's size for each pixel and channel of the input.
static double conv_transpose_work(const struct job *j)
{
    size_t in = 0, out = 0;
    if (!array_count(j->in[0], &in) || !array_count(j->out, &out) || out == 0)
        return 0;
    return (double)in * conv_work(j) / (double)out;
}

static double resize_work(const struct job *j)
{
    (void)j;
    return 8;
}

size_t job_bytes(const struct job *j)
{
    size_t all = 0;
    for (unsigned i = 0; i < j->node->n_outputs; i++)
        all += j->outs[i] ? array_bytes(j->outs[i]) : 0;
    return all;
}

double op_work(const struct job *j)
{
    size_t n = 0, all = 0;
    if (!array_count(j->out, &all))
        return 0;
    if (j->node->op->work)
        return (double)all * j->node->op->work(j);
    for (unsigned i = 0; i < j->node->n_inputs; i++) {
        if (j->in[i] && array_count(j->in[i], &n) && n > all)
            all = n;
    }
    return (double)all;
}

// A way down each tree is at most all its nodes.
static double trees_work(const struct job *j)
{
    const struct attr *a = node_attr(j->node, "nodes_featureids");
    return a ? (double)a->n : 1;
}

static double list_work(const struct job *j, const char *name)
{
    const struct attr *a = node_attr(j->node, name);
    return a ? (double)a->n + 1 : 1;
}

static double coefficient_work(const struct job *j)
{
    return list_work(j, "coefficients");
}

static double svm_work(const struct job *j)
{
    return list_work(j, "support_vectors") + list_work(j, "coefficients");
}

static double top_k_work(const struct job *j)
{
    return (double)j->in[0]->shape[shape_axis(j, -1)];
}

static double lrn_work(const struct job *j)
{
    return (double)node_int(j->node, "size", 1);
}

static double qlinear_conv_work(const struct job *j)
{
    const struct array *w = j->in[3];
    double n = (double)w->shape[1];
    for (unsigned i = 2; i < w->rank; i++)
        n *= (double)w->shape[i];
    return n;
}

static double attention_work(const struct job *j)
{
    struct attention a;
    struct engine_error e;
    return attention_of(j, &a, &e) ? 2 * (double)a.keys + 1 : 1;
}

static double ms_attention_work(const struct job *j)
{
    return 3 * (double)j->in[1]->shape[0] + 2 * (double)j->in[0]->shape[1];
}

static double multi_head_work(const struct job *j)
{
    return 2 * (double)j->in[1]->shape[1] + 1;
}

static double grid_work(const struct job *j)
{
    return j->in[0]->rank > 4 ? 64 : 16;
}

// A region may have as many looks as its numbers say, up to 4096 an axis: 64 is more than any ought to.
static double roi_work(const struct job *j)
{
    int64_t ratio = node_int(j->node, "sampling_ratio", 0);
    return 4 * (double)(ratio > 0 ? ratio * ratio : 64);
}

static double det_work(const struct job *j)
{
    double n = (double)j->in[0]->shape[j->in[0]->rank - 1];
    return n * n * n;
}

static double einsum_work(const struct job *j)
{
    struct einsum s;
    double n = j->node->n_inputs;
    bool fits = einsum_of(j, &s);
    for (unsigned l = s.n_out; fits && l < s.n_order; l++)
        n *= (double)s.dim[s.order[l]];
    return n;
}

static double dft_work(const struct job *j)
{
    struct dft d;
    struct engine_error e;
    return dft_of(j, &d, &e) ? (double)d.n : 1;
}

static double stft_work(const struct job *j)
{
    struct stft s;
    struct engine_error e;
    return stft_of(j, &s, &e) ? (double)s.n : 1;
}

// ---- the table ---------------------------------------------------------------------------------------

// What all windows have.
#define WINDOW                                                                                     \
    {"auto_pad", ATTR_STRING}, {"kernel_shape", ATTR_INTS}, {"strides", ATTR_INTS},                \
        {"dilations", ATTR_INTS},                                                                  \
    {                                                                                              \
        "pads", ATTR_INTS                                                                          \
    }

// What operands had before opset 7.
#define BROADCAST                                                                                  \
    {                                                                                              \
        {"axis", ATTR_INT},                                                                        \
        {                                                                                          \
            "broadcast", ATTR_INT                                                                  \
        }                                                                                          \
    }

// What all tree ensembles have.
#define TREES                                                                                      \
    {"base_values", ATTR_FLOATS}, {"base_values_as_tensor", ATTR_TENSOR},                          \
        {"nodes_falsenodeids", ATTR_INTS}, {"nodes_featureids", ATTR_INTS},                        \
        {"nodes_hitrates", ATTR_FLOATS}, {"nodes_hitrates_as_tensor", ATTR_TENSOR},                \
        {"nodes_missing_value_tracks_true", ATTR_INTS}, {"nodes_modes", ATTR_STRINGS},             \
        {"nodes_nodeids", ATTR_INTS}, {"nodes_treeids", ATTR_INTS},                                \
        {"nodes_truenodeids", ATTR_INTS}, {"nodes_values", ATTR_FLOATS},                           \
        {"nodes_values_as_tensor", ATTR_TENSOR},                                                   \
    {                                                                                              \
        "post_transform", ATTR_STRING                                                              \
    }

// What all support vectors have.
#define SVM                                                                                        \
    {"coefficients", ATTR_FLOATS}, {"kernel_params", ATTR_FLOATS}, {"kernel_type", ATTR_STRING},   \
        {"post_transform", ATTR_STRING}, {"rho", ATTR_FLOATS},                                     \
    {                                                                                              \
        "support_vectors", ATTR_FLOATS                                                             \
    }

// What all reductions have.
#define REDUCED                                                                                    \
    {                                                                                              \
        {"axes", ATTR_INTS}, {"keepdims", ATTR_INT},                                               \
        {                                                                                          \
            "noop_with_empty_axes", ATTR_INT                                                       \
        }                                                                                          \
    }

// What the recurrent ops have.
#define RECURRENT                                                                                  \
    {"activation_alpha", ATTR_FLOATS}, {"activation_beta", ATTR_FLOATS},                           \
        {"activations", ATTR_STRINGS}, {"clip", ATTR_FLOAT}, {"direction", ATTR_STRING},           \
        {"hidden_size", ATTR_INT},                                                                 \
    {                                                                                              \
        "layout", ATTR_INT                                                                         \
    }

const struct op op_table[] = {
    OP("Abs", 1, 1, shape_several, "all numbers"),
    OP("Acos", 1, 1, shape_same, "floats"),
    OP("Acosh", 1, 1, shape_same, "floats"),
    OP("Add", 2, 2, shape_broadcast, "all numbers",
       .limits = "numpy broadcasting; before opset 7 where it is the same", .attrs = BROADCAST),
    OP("AffineGrid", 2, 2, shape_affine_grid, "float32", .by_data = 0x02,
       .attrs = {{"align_corners", ATTR_INT}}),
    OP("And", 2, 2, shape_logic, "bool"),
    OP("ArgMax", 1, 1, shape_arg, "all numbers",
       .attrs = {{"axis", ATTR_INT}, {"keepdims", ATTR_INT}, {"select_last_index", ATTR_INT}}),
    OP("ArgMin", 1, 1, shape_arg, "all numbers",
       .attrs = {{"axis", ATTR_INT}, {"keepdims", ATTR_INT}, {"select_last_index", ATTR_INT}}),
    OP("Asin", 1, 1, shape_same, "floats"),
    OP("Asinh", 1, 1, shape_same, "floats"),
    OP("Atan", 1, 1, shape_same, "floats"),
    OP("Atanh", 1, 1, shape_same, "floats"),
    OP("Attention", 3, 7, shape_attention, "float32", .outputs = 4, .work = attention_work,
       .attrs = {{"is_causal", ATTR_INT},
                 {"kv_num_heads", ATTR_INT},
                 {"left_window_size", ATTR_INT},
                 {"q_num_heads", ATTR_INT},
                 {"qk_matmul_output_mode", ATTR_INT},
                 {"right_window_size", ATTR_INT},
                 {"scale", ATTR_FLOAT},
                 {"softcap", ATTR_FLOAT},
                 {"softmax_precision", ATTR_INT}}),
    OP("AveragePool", 1, 1, shape_pool, "float32", .limits = IMAGES, .work = pool_work,
       .attrs = {WINDOW, {"ceil_mode", ATTR_INT}, {"count_include_pad", ATTR_INT}}),
    OP("BatchNormalization", 5, 5, shape_batchnorm, "float32", .limits = "not in training",
       .attrs = {{"epsilon", ATTR_FLOAT},
                 {"is_test", ATTR_INT},
                 {"momentum", ATTR_FLOAT},
                 {"spatial", ATTR_INT},
                 {"training_mode", ATTR_INT}}),
    OP("BitCast", 1, 1, shape_bit_cast, "all",
       .limits = "numbers of as many bits, not 16-bit floats", .attrs = {{"to", ATTR_INT}}),
    OP("BitShift", 2, 2, shape_shift, "whole numbers", .attrs = {{"direction", ATTR_STRING}}),
    OP("BitwiseAnd", 2, 2, shape_whole, "whole numbers"),
    OP("BitwiseNot", 1, 1, shape_whole, "whole numbers"),
    OP("BitwiseOr", 2, 2, shape_whole, "whole numbers"),
    OP("BitwiseXor", 2, 2, shape_whole, "whole numbers"),
    OP("BlackmanWindow", 1, 1, shape_window_function, "floats", .by_data = 0x01,
       .attrs = {{"output_datatype", ATTR_INT}, {"periodic", ATTR_INT}}),
    OP("Cast", 1, 1, shape_cast, "all", .limits = "whole numbers are held to what the type has",
       .attrs = {{"round_mode", ATTR_STRING}, {"saturate", ATTR_INT}, {"to", ATTR_INT}}),
    OP("CastLike", 2, 2, shape_cast_like, "all", .limits = "not to strings",
       .attrs = {{"round_mode", ATTR_STRING}, {"saturate", ATTR_INT}}),
    OP("Ceil", 1, 1, shape_same, "floats"),
    OP("Celu", 1, 1, shape_same, "floats", .attrs = {{"alpha", ATTR_FLOAT}}),
    OP("CenterCropPad", 2, 2, shape_center_crop_pad, "all", .by_data = 0x02,
       .attrs = {{"axes", ATTR_INTS}}),
    OP("Clip", 1, 3, shape_clip, "all numbers",
       .attrs = {{"min", ATTR_FLOAT}, {"max", ATTR_FLOAT}}),
    OP("Col2Im", 3, 3, shape_col2im, "float32", .by_data = 0x06,
       .attrs = {{"dilations", ATTR_INTS}, {"pads", ATTR_INTS}, {"strides", ATTR_INTS}}),
    OP("Compress", 2, 2, shape_compress, "all", .by_data = 0x02, .attrs = {{"axis", ATTR_INT}}),
    OP("Concat", 1, NODE_MAX_INPUTS, shape_concat, "all", .attrs = {{"axis", ATTR_INT}}),
    OP("Constant", 0, 0, shape_constant, "all", .limits = "tensors, numbers, lists of numbers",
       .attrs = {{"value", ATTR_TENSOR},
                 {"value_float", ATTR_FLOAT},
                 {"value_floats", ATTR_FLOATS},
                 {"value_int", ATTR_INT},
                 {"value_ints", ATTR_INTS}}),
    OP("ConstantOfShape", 1, 1, shape_constant_of_shape, "all", .by_data = 0x01,
       .attrs = {{"value", ATTR_TENSOR}}),
    OP("Conv", 2, 3, shape_conv, "float32", .limits = IMAGES, .work = conv_work,
       .attrs = {WINDOW, {"group", ATTR_INT}}),
    OP("ConvInteger", 2, 4, shape_conv_integer, "int8, uint8", .work = conv_work,
       .attrs = {WINDOW, {"group", ATTR_INT}}),
    OP("ConvTranspose", 2, 3, shape_conv_transpose, "float32", .limits = IMAGES,
       .work = conv_transpose_work,
       .attrs = {WINDOW,
                 {"group", ATTR_INT},
                 {"output_padding", ATTR_INTS},
                 {"output_shape", ATTR_INTS}}),
    OP("Cos", 1, 1, shape_same, "floats"),
    OP("Cosh", 1, 1, shape_same, "floats"),
    OP("CumProd", 2, 2, shape_cumulative, "floats, int32, int64", .by_data = 0x02,
       .attrs = {{"exclusive", ATTR_INT}, {"reverse", ATTR_INT}}),
    OP("CumSum", 2, 2, shape_cumulative, "floats, int32, int64", .by_data = 0x02,
       .attrs = {{"exclusive", ATTR_INT}, {"reverse", ATTR_INT}}),
    OP("DFT", 1, 3, shape_dft, "floats", .limits = "onesided of real numbers, not inverse",
       .by_data = 0x06, .check = check_dft, .work = dft_work,
       .attrs = {{"axis", ATTR_INT}, {"inverse", ATTR_INT}, {"onesided", ATTR_INT}}),
    OP("DepthToSpace", 1, 1, shape_depth_to_space, "all",
       .attrs = {{"blocksize", ATTR_INT}, {"mode", ATTR_STRING}}),
    OP("DequantizeLinear", 2, 3, shape_dequantize, "8 or 16 bits, int32",
       .attrs = {{"axis", ATTR_INT}, {"block_size", ATTR_INT}, {"output_dtype", ATTR_INT}}),
    OP("Det", 1, 1, shape_det, "floats", .work = det_work),
    OP("Div", 2, 2, shape_broadcast, "all numbers",
       .limits = "numpy broadcasting; before opset 7 where it is the same", .attrs = BROADCAST),
    OP("Dropout", 1, 3, shape_dropout, "all", .limits = "not in training; no mask", .alias = true,
       .attrs = {{"is_test", ATTR_INT}, {"ratio", ATTR_FLOAT}, {"seed", ATTR_INT}}),
    OP("DynamicQuantizeLinear", 1, 1, shape_dynamic_quantize, "float32", .outputs = 3),
    OP("Einsum", 1, EINSUM_INPUTS, shape_einsum, "floats, int32, int64",
       .limits = "at most 8 inputs, none empty", .work = einsum_work,
       .attrs = {{"equation", ATTR_STRING}}),
    OP("Elu", 1, 1, shape_same, "floats", .attrs = {{"alpha", ATTR_FLOAT}}),
    OP("Equal", 2, 2, shape_compare, "all"),
    OP("Erf", 1, 1, shape_same, "floats"),
    OP("Exp", 1, 1, shape_same, "floats"),
    OP("Expand", 2, 2, shape_expand, "all", .by_data = 0x02),
    OP("EyeLike", 1, 1, shape_eye_like, "all", .limits = "matrices", .of_shape = true,
       .attrs = {{"dtype", ATTR_INT}, {"k", ATTR_INT}}),
    OP("Flatten", 1, 1, shape_flatten, "all", .alias = true, .attrs = {{"axis", ATTR_INT}}),
    OP("Floor", 1, 1, shape_same, "floats"),
    OP("GRU", 3, 6, shape_recurrent, "float32",
       .limits = "lengths of 1 or more; ThresholdedRelu with its alpha", .outputs = 2,
       .work = recurrent_work, .attrs = {RECURRENT, {"linear_before_reset", ATTR_INT}}),
    OP("Gather", 2, 2, shape_gather, "all", .attrs = {{"axis", ATTR_INT}}),
    OP("GatherElements", 2, 2, shape_gather_elements, "all", .attrs = {{"axis", ATTR_INT}}),
    OP("GatherND", 2, 2, shape_gather_nd, "all", .attrs = {{"batch_dims", ATTR_INT}}),
    OP("Gelu", 1, 1, shape_gelu, "floats", .attrs = {{"approximate", ATTR_STRING}}),
    OP("Gemm", 2, 3, shape_gemm, "float32, float64", .work = product_work,
       .attrs = {{"alpha", ATTR_FLOAT},
                 {"beta", ATTR_FLOAT},
                 {"broadcast", ATTR_INT},
                 {"transA", ATTR_INT},
                 {"transB", ATTR_INT}}),
    OP("GlobalAveragePool", 1, 1, shape_global_pool, "float32"),
    OP("GlobalLpPool", 1, 1, shape_global_pool, "float32", .attrs = {{"p", ATTR_INT}}),
    OP("GlobalMaxPool", 1, 1, shape_global_pool, "float32"),
    OP("Greater", 2, 2, shape_compare, "all"),
    OP("GreaterOrEqual", 2, 2, shape_compare, "all"),
    OP("GridSample", 2, 2, shape_grid_sample, "float32", .limits = "images of two or three axes",
       .work = grid_work,
       .attrs = {{"align_corners", ATTR_INT},
                 {"mode", ATTR_STRING},
                 {"padding_mode", ATTR_STRING}}),
    OP("GroupNormalization", 3, 3, shape_group_norm, "float32", .limits = "stash_type 1",
       .attrs = {{"epsilon", ATTR_FLOAT}, {"num_groups", ATTR_INT}, {"stash_type", ATTR_INT}}),
    OP("HammingWindow", 1, 1, shape_window_function, "floats", .by_data = 0x01,
       .attrs = {{"output_datatype", ATTR_INT}, {"periodic", ATTR_INT}}),
    OP("HannWindow", 1, 1, shape_window_function, "floats", .by_data = 0x01,
       .attrs = {{"output_datatype", ATTR_INT}, {"periodic", ATTR_INT}}),
    OP("HardSigmoid", 1, 1, shape_same, "floats",
       .attrs = {{"alpha", ATTR_FLOAT}, {"beta", ATTR_FLOAT}}),
    OP("HardSwish", 1, 1, shape_same, "floats"),
    OP("Hardmax", 1, 1, shape_softmax, "floats", .attrs = {{"axis", ATTR_INT}}),
    OP("Identity", 1, 1, shape_same, "all", .alias = true),
    OP("If", 1, 1, shape_if, "all", .outputs = NODE_MAX_OUTPUTS, .control = control_if,
       .attrs = {{"then_branch", ATTR_GRAPH}, {"else_branch", ATTR_GRAPH}}),
    OP("InstanceNormalization", 3, 3, shape_instance_norm, "float32",
       .attrs = {{"epsilon", ATTR_FLOAT}}),
    OP("IsInf", 1, 1, shape_is, "floats",
       .attrs = {{"detect_negative", ATTR_INT}, {"detect_positive", ATTR_INT}}),
    OP("IsNaN", 1, 1, shape_is, "floats"),
    OP("LRN", 1, 1, shape_lrn, "float32", .work = lrn_work,
       .attrs =
           {{"alpha", ATTR_FLOAT}, {"beta", ATTR_FLOAT}, {"bias", ATTR_FLOAT}, {"size", ATTR_INT}}),
    OP("LSTM", 3, 8, shape_recurrent, "float32",
       .limits = "lengths of 1 or more; ThresholdedRelu with its alpha", .outputs = 3,
       .work = recurrent_work, .attrs = {RECURRENT, {"input_forget", ATTR_INT}}),
    OP("LayerNormalization", 2, 3, shape_layer_norm, "float32",
       .limits = "stash_type 1; scale and bias of the last axes", .outputs = 3,
       .attrs = {{"axis", ATTR_INT}, {"epsilon", ATTR_FLOAT}, {"stash_type", ATTR_INT}}),
    OP("LeakyRelu", 1, 1, shape_same, "floats", .attrs = {{"alpha", ATTR_FLOAT}}),
    OP("Less", 2, 2, shape_compare, "all"),
    OP("LessOrEqual", 2, 2, shape_compare, "all"),
    OP("Log", 1, 1, shape_same, "floats"),
    OP("LogSoftmax", 1, 1, shape_softmax, "floats", .attrs = {{"axis", ATTR_INT}}),
    OP("Loop", 0, NODE_MAX_INPUTS, shape_loop, "all", .limits = "2^20 trips in one run",
       .outputs = NODE_MAX_OUTPUTS, .control = control_loop, .attrs = {{"body", ATTR_GRAPH}}),
    OP("LpNormalization", 1, 1, shape_lp_norm, "float32",
       .attrs = {{"axis", ATTR_INT}, {"p", ATTR_INT}}),
    OP("LpPool", 1, 1, shape_pool, "float32", .limits = IMAGES, .work = pool_work,
       .attrs = {WINDOW, {"ceil_mode", ATTR_INT}, {"p", ATTR_INT}}),
    OP("MatMul", 2, 2, shape_matmul, "floats, int32, int64, uint32, uint64", .work = product_work),
    OP("MatMulInteger", 2, 4, shape_matmul_integer, "int8, uint8", .work = product_work),
    OP("Max", 1, NODE_MAX_INPUTS, shape_several, "all numbers"),
    OP("MaxPool", 1, 1, shape_max_pool, "floats, int8, uint8", .limits = IMAGES, .outputs = 2,
       .work = pool_work, .attrs = {WINDOW, {"ceil_mode", ATTR_INT}, {"storage_order", ATTR_INT}}),
    OP("MaxUnpool", 2, 2, shape_max_unpool, "float32", .limits = "no output_shape",
       .attrs = {{"kernel_shape", ATTR_INTS}, {"pads", ATTR_INTS}, {"strides", ATTR_INTS}}),
    OP("Mean", 1, NODE_MAX_INPUTS, shape_several_floats, "floats"),
    OP("MeanVarianceNormalization", 1, 1, shape_mean_variance, "float32",
       .attrs = {{"axes", ATTR_INTS}}),
    OP("MelWeightMatrix", 5, 5, shape_mel_weights, "float32", .by_data = 0x1f,
       .attrs = {{"output_datatype", ATTR_INT}}),
    OP("Min", 1, NODE_MAX_INPUTS, shape_several, "all numbers"),
    OP("Mish", 1, 1, shape_same, "floats"),
    OP("Mod", 2, 2, shape_mod, "all numbers", .limits = "of floats fmod alone",
       .attrs = {{"fmod", ATTR_INT}}),
    OP("Mul", 2, 2, shape_broadcast, "all numbers",
       .limits = "numpy broadcasting; before opset 7 where it is the same", .attrs = BROADCAST),
    OP("Neg", 1, 1, shape_several, "all numbers"),
    OP("NegativeLogLikelihoodLoss", 2, 3, shape_loss, "float32",
       .attrs = {{"ignore_index", ATTR_INT}, {"reduction", ATTR_STRING}}),
    OP("NonMaxSuppression", 2, 5, shape_suppression, "float32", .by_data = 0x1f,
       .work = suppression_work, .attrs = {{"center_point_box", ATTR_INT}}),
    OP("NonZero", 1, 1, shape_nonzero, "all", .limits = "one axis or more", .by_data = 0x01),
    OP("Not", 1, 1, shape_logic, "bool"),
    OP("OneHot", 3, 3, shape_one_hot, "places: int32, int64, float32; values: all", .by_data = 0x02,
       .attrs = {{"axis", ATTR_INT}}),
    OP("Or", 2, 2, shape_logic, "bool"),
    OP("PRelu", 2, 2, shape_prelu, "all numbers"),
    OP("Pad", 1, 4, shape_pad, "all", .by_data = 0x0a,
       .attrs = {{"mode", ATTR_STRING}, {"pads", ATTR_INTS}, {"value", ATTR_FLOAT}}),
    OP("Pow", 2, 2, shape_power, "floats, int32, int64 to all numbers",
       .limits = "whole numbers to a power of floats, int32 or int64", .attrs = BROADCAST),
    OP("QLinearConv", 8, 9, shape_qlinear_conv, "int8, uint8", .work = qlinear_conv_work,
       .attrs = {WINDOW, {"group", ATTR_INT}}),
    OP("QLinearMatMul", 8, 8, shape_qlinear_matmul, "int8, uint8", .work = product_work),
    OP("QuantizeLinear", 2, 3, shape_quantize, "float32, int32 to 8 or 16 bits",
       .attrs = {{"axis", ATTR_INT},
                 {"block_size", ATTR_INT},
                 {"output_dtype", ATTR_INT},
                 {"precision", ATTR_INT},
                 {"saturate", ATTR_INT}}),
    OP("RMSNormalization", 2, 2, shape_layer_norm, "float32",
       .limits = "stash_type 1; scale and bias of the last axes",
       .attrs = {{"axis", ATTR_INT}, {"epsilon", ATTR_FLOAT}, {"stash_type", ATTR_INT}}),
    OP("RNN", 3, 6, shape_recurrent, "float32",
       .limits = "lengths of 1 or more; ThresholdedRelu with its alpha", .outputs = 2,
       .work = recurrent_work, .attrs = {RECURRENT}),
    OP("Range", 3, 3, shape_range_of, "floats, int32, int64", .by_data = 0x07),
    OP("Reciprocal", 1, 1, shape_same, "floats"),
    OP("ReduceL1", 1, 2, shape_reduce_floats, "floats", .by_data = 0x02, .attrs = REDUCED),
    OP("ReduceL2", 1, 2, shape_reduce_floats, "floats", .by_data = 0x02, .attrs = REDUCED),
    OP("ReduceLogSum", 1, 2, shape_reduce_floats, "floats", .by_data = 0x02, .attrs = REDUCED),
    OP("ReduceLogSumExp", 1, 2, shape_reduce_floats, "floats", .by_data = 0x02, .attrs = REDUCED),
    OP("ReduceMax", 1, 2, shape_reduce, "floats, int32, int64, int8, uint8, bool", .by_data = 0x02,
       .attrs = REDUCED),
    OP("ReduceMean", 1, 2, shape_reduce_floats, "floats", .by_data = 0x02, .attrs = REDUCED),
    OP("ReduceMin", 1, 2, shape_reduce, "floats, int32, int64, int8, uint8, bool", .by_data = 0x02,
       .attrs = REDUCED),
    OP("ReduceProd", 1, 2, shape_reduce, "floats, int32, int64", .by_data = 0x02, .attrs = REDUCED),
    OP("ReduceSum", 1, 2, shape_reduce, "floats, int32, int64", .by_data = 0x02, .attrs = REDUCED),
    OP("ReduceSumSquare", 1, 2, shape_reduce_floats, "floats", .by_data = 0x02, .attrs = REDUCED),
    OP("Relu", 1, 1, shape_several, "all numbers"),
    OP("Reshape", 1, 2, shape_reshape, "all", .by_data = 0x02, .alias = true,
       .attrs = {{"allowzero", ATTR_INT}}),
    OP("Resize", 1, 4, shape_resize, "float32", .limits = "no tf_crop_and_resize", .by_data = 0x0e,
       .check = check_resize, .work = resize_work,
       .attrs = {{"antialias", ATTR_INT},
                 {"axes", ATTR_INTS},
                 {"coordinate_transformation_mode", ATTR_STRING},
                 {"cubic_coeff_a", ATTR_FLOAT},
                 {"exclude_outside", ATTR_INT},
                 {"extrapolation_value", ATTR_FLOAT},
                 {"keep_aspect_ratio_policy", ATTR_STRING},
                 {"mode", ATTR_STRING},
                 {"nearest_mode", ATTR_STRING}}),
    OP("ReverseSequence", 2, 2, shape_reverse_sequence, "all",
       .attrs = {{"batch_axis", ATTR_INT}, {"time_axis", ATTR_INT}}),
    OP("RoiAlign", 3, 3, shape_roi_align, "float32",
       .limits = "mode avg; at most 4096 looks for each answer", .work = roi_work,
       .attrs = {{"coordinate_transformation_mode", ATTR_STRING},
                 {"mode", ATTR_STRING},
                 {"output_height", ATTR_INT},
                 {"output_width", ATTR_INT},
                 {"sampling_ratio", ATTR_INT},
                 {"spatial_scale", ATTR_FLOAT}}),
    OP("RotaryEmbedding", 3, 4, shape_rotary, "float32",
       .attrs = {{"interleaved", ATTR_INT},
                 {"num_heads", ATTR_INT},
                 {"rotary_embedding_dim", ATTR_INT}}),
    OP("Round", 1, 1, shape_same, "floats"),
    OP("STFT", 2, 4, shape_stft, "floats", .limits = "real signals", .by_data = 0x0a,
       .work = stft_work, .attrs = {{"onesided", ATTR_INT}}),
    OP("Scan", 0, NODE_MAX_INPUTS, shape_scan, "all",
       .limits = "from opset 9 on; 2^20 trips in one run", .outputs = NODE_MAX_OUTPUTS,
       .control = control_scan,
       .attrs = {{"body", ATTR_GRAPH},
                 {"directions", ATTR_INTS},
                 {"num_scan_inputs", ATTR_INT},
                 {"scan_input_axes", ATTR_INTS},
                 {"scan_input_directions", ATTR_INTS},
                 {"scan_output_axes", ATTR_INTS},
                 {"scan_output_directions", ATTR_INTS}}),
    OP("Scatter", 3, 3, shape_scatter_elements, "all", .limits = "reductions of numbers",
       .attrs = {{"axis", ATTR_INT}}),
    OP("ScatterElements", 3, 3, shape_scatter_elements, "all", .limits = "reductions of numbers",
       .attrs = {{"axis", ATTR_INT}, {"reduction", ATTR_STRING}}),
    OP("ScatterND", 3, 3, shape_scatter_nd, "all", .limits = "reductions of numbers",
       .attrs = {{"reduction", ATTR_STRING}}),
    OP("Selu", 1, 1, shape_same, "floats", .attrs = {{"alpha", ATTR_FLOAT}, {"gamma", ATTR_FLOAT}}),
    OP("Shape", 1, 1, shape_shape, "all", .of_shape = true,
       .attrs = {{"start", ATTR_INT}, {"end", ATTR_INT}}),
    OP("Shrink", 1, 1, shape_same, "floats",
       .attrs = {{"bias", ATTR_FLOAT}, {"lambd", ATTR_FLOAT}}),
    OP("Sigmoid", 1, 1, shape_same, "floats"),
    OP("Sign", 1, 1, shape_several, "all numbers"),
    OP("SimplifiedLayerNormalization", 2, 2, shape_layer_norm, "float32",
       .limits = "stash_type 1; scale and bias of the last axes",
       .attrs = {{"axis", ATTR_INT}, {"epsilon", ATTR_FLOAT}, {"stash_type", ATTR_INT}}),
    OP("Sin", 1, 1, shape_same, "floats"),
    OP("Sinh", 1, 1, shape_same, "floats"),
    OP("Size", 1, 1, shape_size, "all", .of_shape = true),
    OP("Slice", 1, 5, shape_slice, "all", .by_data = 0x1e,
       .attrs = {{"axes", ATTR_INTS}, {"ends", ATTR_INTS}, {"starts", ATTR_INTS}}),
    OP("Softmax", 1, 1, shape_softmax, "floats", .attrs = {{"axis", ATTR_INT}}),
    OP("SoftmaxCrossEntropyLoss", 2, 3, shape_loss, "float32", .outputs = 2,
       .attrs = {{"ignore_index", ATTR_INT}, {"reduction", ATTR_STRING}}),
    OP("Softplus", 1, 1, shape_same, "floats"),
    OP("Softsign", 1, 1, shape_same, "floats"),
    OP("SpaceToDepth", 1, 1, shape_space_to_depth, "all", .attrs = {{"blocksize", ATTR_INT}}),
    OP("Split", 1, 2, shape_split, "all", .by_data = 0x02, .outputs = NODE_MAX_OUTPUTS,
       .attrs = {{"axis", ATTR_INT}, {"num_outputs", ATTR_INT}, {"split", ATTR_INTS}}),
    OP("Sqrt", 1, 1, shape_same, "floats"),
    OP("Squeeze", 1, 2, shape_squeeze, "all", .by_data = 0x02, .alias = true,
       .attrs = {{"axes", ATTR_INTS}}),
    OP("Sub", 2, 2, shape_broadcast, "all numbers",
       .limits = "numpy broadcasting; before opset 7 where it is the same", .attrs = BROADCAST),
    OP("Sum", 1, NODE_MAX_INPUTS, shape_several_floats, "floats"),
    OP("Swish", 1, 1, shape_same, "floats", .attrs = {{"alpha", ATTR_FLOAT}}),
    OP("Tan", 1, 1, shape_same, "floats"),
    OP("Tanh", 1, 1, shape_same, "floats"),
    OP("TensorScatter", 2, 3, shape_tensor_scatter, "all", .limits = "the first axis is the batch",
       .attrs = {{"axis", ATTR_INT}, {"mode", ATTR_STRING}}),
    OP("ThresholdedRelu", 1, 1, shape_same, "floats", .attrs = {{"alpha", ATTR_FLOAT}}),
    OP("Tile", 2, 2, shape_tile, "all", .by_data = 0x02),
    OP("TopK", 1, 2, shape_top_k, "all numbers", .by_data = 0x02, .outputs = 2, .work = top_k_work,
       .attrs = {{"axis", ATTR_INT}, {"k", ATTR_INT}, {"largest", ATTR_INT}, {"sorted", ATTR_INT}}),
    OP("Transpose", 1, 1, shape_transpose, "all", .attrs = {{"perm", ATTR_INTS}}),
    OP("Trilu", 1, 2, shape_trilu, "all", .attrs = {{"upper", ATTR_INT}}),
    OP("Unique", 1, 1, shape_unique, "all", .by_data = 0x01, .outputs = 4,
       .attrs = {{"axis", ATTR_INT}, {"sorted", ATTR_INT}}),
    OP("Unsqueeze", 1, 2, shape_unsqueeze, "all", .by_data = 0x02, .alias = true,
       .attrs = {{"axes", ATTR_INTS}}),
    OP("Upsample", 2, 2, shape_resize, "float32", .limits = "no tf_crop_and_resize",
       .by_data = 0x02, .check = check_resize, .work = resize_work,
       .attrs = {{"mode", ATTR_STRING}}),
    OP("Where", 3, 3, shape_where, "all"),
    OP("Xor", 2, 2, shape_logic, "bool"),
    ML("ArrayFeatureExtractor", 2, 2, shape_feature_extractor, "all"),
    ML("Binarizer", 1, 1, shape_binarizer, "floats, int32, int64",
       .attrs = {{"threshold", ATTR_FLOAT}}),
    ML("FeatureVectorizer", 1, NODE_MAX_INPUTS, shape_feature_vectorizer, "floats, int32, int64",
       .attrs = {{"inputdimensions", ATTR_INTS}}),
    ML("Imputer", 1, 1, shape_imputer, "floats, int32, int64",
       .limits = "one value, or one a feature",
       .attrs = {{"imputed_value_floats", ATTR_FLOATS},
                 {"imputed_value_int64s", ATTR_INTS},
                 {"replaced_value_float", ATTR_FLOAT},
                 {"replaced_value_int64", ATTR_INT}}),
    ML("LinearClassifier", 1, 1, shape_linear_classifier, "floats, int32, int64",
       .limits = "NONE or, of two classes by one score, LOGISTIC", .outputs = 2,
       .work = coefficient_work,
       .attrs = {{"classlabels_ints", ATTR_INTS},
                 {"classlabels_strings", ATTR_STRINGS},
                 {"coefficients", ATTR_FLOATS},
                 {"intercepts", ATTR_FLOATS},
                 {"multi_class", ATTR_INT},
                 {"post_transform", ATTR_STRING}}),
    ML("LinearRegressor", 1, 1, shape_linear_regressor, "floats, int32, int64",
       .limits = "of one target NONE or PROBIT", .work = coefficient_work,
       .attrs = {{"coefficients", ATTR_FLOATS},
                 {"intercepts", ATTR_FLOATS},
                 {"post_transform", ATTR_STRING},
                 {"targets", ATTR_INT}}),
    ML("Normalizer", 1, 1, shape_normalizer, "floats, int32, int64", .limits = "L1, L2",
       .attrs = {{"norm", ATTR_STRING}}),
    ML("SVMClassifier", 1, 1, shape_svm_classifier, "floats, int32, int64", .limits = "NONE",
       .outputs = 2, .work = svm_work,
       .attrs = {SVM,
                 {"classlabels_ints", ATTR_INTS},
                 {"classlabels_strings", ATTR_STRINGS},
                 {"prob_a", ATTR_FLOATS},
                 {"prob_b", ATTR_FLOATS},
                 {"vectors_per_class", ATTR_INTS}}),
    ML("SVMRegressor", 1, 1, shape_svm_regressor, "floats, int32, int64", .limits = "NONE",
       .work = svm_work, .attrs = {SVM, {"n_supports", ATTR_INT}, {"one_class", ATTR_INT}}),
    ML("Scaler", 1, 1, shape_scaler, "floats, int32, int64",
       .limits = "one value, or one a feature",
       .attrs = {{"offset", ATTR_FLOATS}, {"scale", ATTR_FLOATS}}),
    ML("TreeEnsemble", 1, 1, shape_tree_ensemble, "floats",
       .limits = "of one target NONE or PROBIT", .kept = true, .work = trees_work,
       .attrs = {{"aggregate_function", ATTR_INT},
                 {"leaf_targetids", ATTR_INTS},
                 {"leaf_weights", ATTR_TENSOR},
                 {"membership_values", ATTR_TENSOR},
                 {"n_targets", ATTR_INT},
                 {"nodes_falseleafs", ATTR_INTS},
                 {"nodes_falsenodeids", ATTR_INTS},
                 {"nodes_featureids", ATTR_INTS},
                 {"nodes_hitrates", ATTR_TENSOR},
                 {"nodes_missing_value_tracks_true", ATTR_INTS},
                 {"nodes_modes", ATTR_TENSOR},
                 {"nodes_splits", ATTR_TENSOR},
                 {"nodes_trueleafs", ATTR_INTS},
                 {"nodes_truenodeids", ATTR_INTS},
                 {"post_transform", ATTR_INT},
                 {"tree_roots", ATTR_INTS}}),
    ML("TreeEnsembleClassifier", 1, 1, shape_tree_classifier, "floats, int32, int64",
       .limits = "of two classes weights of one, NONE or LOGISTIC", .outputs = 2, .kept = true,
       .work = trees_work,
       .attrs = {TREES,
                 {"class_ids", ATTR_INTS},
                 {"class_nodeids", ATTR_INTS},
                 {"class_treeids", ATTR_INTS},
                 {"class_weights", ATTR_FLOATS},
                 {"class_weights_as_tensor", ATTR_TENSOR},
                 {"classlabels_int64s", ATTR_INTS},
                 {"classlabels_strings", ATTR_STRINGS}}),
    ML("TreeEnsembleRegressor", 1, 1, shape_tree_regressor, "floats, int32, int64",
       .limits = "of one target NONE or PROBIT", .kept = true, .work = trees_work,
       .attrs = {TREES,
                 {"aggregate_function", ATTR_STRING},
                 {"n_targets", ATTR_INT},
                 {"target_ids", ATTR_INTS},
                 {"target_nodeids", ATTR_INTS},
                 {"target_treeids", ATTR_INTS},
                 {"target_weights", ATTR_FLOATS},
                 {"target_weights_as_tensor", ATTR_TENSOR}}),
    MICROSOFT("Attention", 2, 7, shape_ms_attention, "float32",
              .limits = "no past, no attention_bias, one width for queries, keys and values",
              .work = ms_attention_work,
              .attrs = {{"do_rotary", ATTR_INT},
                        {"mask_filter_value", ATTR_FLOAT},
                        {"num_heads", ATTR_INT},
                        {"past_present_share_buffer", ATTR_INT},
                        {"qkv_hidden_sizes", ATTR_INTS},
                        {"scale", ATTR_FLOAT},
                        {"unidirectional", ATTR_INT}}),
    MICROSOFT("BiasGelu", 2, 2, shape_bias_gelu, "float32"),
    MICROSOFT("DequantizeLinear", 2, 3, shape_dequantize, "8 or 16 bits, int32",
              .attrs = {{"axis", ATTR_INT}}),
    MICROSOFT("DynamicQuantizeMatMul", 3, 5, shape_matmul_to_float, "float32 by int8, uint8",
              .work = product_work),
    MICROSOFT("EmbedLayerNormalization", 7, 9, shape_embed_layer_norm, "int32 ids, float32",
              .optional = 0x12, .outputs = 3,
              .attrs = {{"epsilon", ATTR_FLOAT}, {"mask_index_type", ATTR_INT}}),
    MICROSOFT("FastGelu", 1, 2, shape_bias_gelu, "float32"),
    MICROSOFT("FusedMatMul", 2, 2, shape_fused_matmul, "float32",
              .limits = "transBatchA, transBatchB 0", .work = product_work,
              .attrs = {{"alpha", ATTR_FLOAT},
                        {"transA", ATTR_INT},
                        {"transB", ATTR_INT},
                        {"transBatchA", ATTR_INT},
                        {"transBatchB", ATTR_INT}}),
    MICROSOFT("Gelu", 1, 1, shape_gelu, "floats"),
    MICROSOFT("MatMulIntegerToFloat", 4, 7, shape_matmul_to_float, "int8, uint8",
              .work = product_work),
    MICROSOFT("MultiHeadAttention", 1, 8, shape_multi_head, "float32",
              .limits = "no past; queries, keys and values of their own", .work = multi_head_work,
              .attrs = {{"mask_filter_value", ATTR_FLOAT},
                        {"num_heads", ATTR_INT},
                        {"scale", ATTR_FLOAT},
                        {"unidirectional", ATTR_INT}}),
    MICROSOFT("QGemm", 6, 9, shape_qgemm, "int8, uint8",
              .limits = "transA 0; a constant B where it is turned", .work = product_work,
              .attrs = {{"alpha", ATTR_FLOAT}, {"transA", ATTR_INT}, {"transB", ATTR_INT}}),
    MICROSOFT("QLinearAdd", 7, 8, shape_qlinear_binary, "int8, uint8", .optional = 0x24),
    MICROSOFT("QLinearGlobalAveragePool", 4, 5, shape_qlinear_unary, "int8, uint8",
              .limits = "channels first", .optional = 0x04, .attrs = {{"channels_last", ATTR_INT}}),
    MICROSOFT("QLinearLeakyRelu", 4, 5, shape_qlinear_unary, "int8, uint8", .optional = 0x04,
              .attrs = {{"alpha", ATTR_FLOAT}}),
    MICROSOFT("QLinearMul", 7, 8, shape_qlinear_binary, "int8, uint8", .optional = 0x24),
    MICROSOFT("QLinearSigmoid", 4, 5, shape_qlinear_unary, "int8, uint8", .optional = 0x04),
    MICROSOFT("QLinearSoftmax", 4, 5, shape_qlinear_unary, "int8, uint8", .optional = 0x04,
              .attrs = {{"axis", ATTR_INT}, {"opset", ATTR_INT}}),
    MICROSOFT("QuantizeLinear", 2, 3, shape_quantize, "float32, int32 to 8 or 16 bits",
              .attrs = {{"axis", ATTR_INT}}),
    MICROSOFT("SkipLayerNormalization", 3, 5, shape_skip_layer_norm, "float32", .outputs = 4,
              .attrs = {{"epsilon", ATTR_FLOAT}}),
    MICROSOFT("SkipSimplifiedLayerNormalization", 3, 4, shape_skip_layer_norm, "float32",
              .outputs = 4, .attrs = {{"epsilon", ATTR_FLOAT}}),
    MICROSOFT("Tokenizer", 1, 1, shape_tokenizer, "strings",
              .limits = "no marks; expressions as engine/pattern.h has them", .by_data = 0x01,
              .check = check_tokenizer,
              .attrs = {{"mark", ATTR_INT},
                        {"mincharnum", ATTR_INT},
                        {"pad_value", ATTR_STRING},
                        {"separators", ATTR_STRINGS},
                        {"tokenexp", ATTR_STRING}}),
    // Strings, and what labels are made of (engine/shapes_text.c).
    OP("StringConcat", 2, 2, shape_string_concat, "strings"),
    OP("StringNormalizer", 1, 1, shape_string_normalizer, "strings",
       .limits = "letters as the C library's table of Unicode has them",
       .attrs = {{"case_change_action", ATTR_STRING},
                 {"is_case_sensitive", ATTR_INT},
                 {"locale", ATTR_STRING},
                 {"stopwords", ATTR_STRINGS}}),
    OP("TfIdfVectorizer", 1, 1, shape_tfidf, "strings, int32, int64", .work = tfidf_work,
       .attrs = {{"max_gram_length", ATTR_INT},
                 {"max_skip_count", ATTR_INT},
                 {"min_gram_length", ATTR_INT},
                 {"mode", ATTR_STRING},
                 {"ngram_counts", ATTR_INTS},
                 {"ngram_indexes", ATTR_INTS},
                 {"pool_int64s", ATTR_INTS},
                 {"pool_strings", ATTR_STRINGS},
                 {"weights", ATTR_FLOATS}}),
    ML("CategoryMapper", 1, 1, shape_category_mapper, "strings, int64",
       .attrs = {{"cats_int64s", ATTR_INTS},
                 {"cats_strings", ATTR_STRINGS},
                 {"default_int64", ATTR_INT},
                 {"default_string", ATTR_STRING}}),
    ML("LabelEncoder", 1, 1, shape_label_encoder, "all",
       .attrs = {{"classes_strings", ATTR_STRINGS},
                 {"default_float", ATTR_FLOAT},
                 {"default_int64", ATTR_INT},
                 {"default_string", ATTR_STRING},
                 {"default_tensor", ATTR_TENSOR},
                 {"keys_floats", ATTR_FLOATS},
                 {"keys_int64s", ATTR_INTS},
                 {"keys_strings", ATTR_STRINGS},
                 {"keys_tensor", ATTR_TENSOR},
                 {"values_floats", ATTR_FLOATS},
                 {"values_int64s", ATTR_INTS},
                 {"values_strings", ATTR_STRINGS},
                 {"values_tensor", ATTR_TENSOR}}),
    ML("OneHotEncoder", 1, 1, shape_one_hot_encoder, "floats, int32, int64, strings",
       .attrs = {{"cats_int64s", ATTR_INTS}, {"cats_strings", ATTR_STRINGS}, {"zeros", ATTR_INT}}),
    ML("ZipMap", 1, 1, shape_zip_map, "float32", .limits = "a tensor, a column a label",
       .alias = true,
       .attrs = {{"classlabels_int64s", ATTR_INTS}, {"classlabels_strings", ATTR_STRINGS}}),
};
const struct op op_port = {
    .name = "a port of 16-bit floats", .min_inputs = 1, .max_inputs = 1, .shape = shape_port};
const unsigned op_count = sizeof(op_table) / sizeof(op_table[0]);

static bool op_is_in(const struct op *op, struct view domain)
{
    if (op->domain)
        return view_is(domain, op->domain);
    return domain.n == 0 || view_is(domain, "ai.onnx");
}

const struct op *op_find(struct view type, struct view domain)
{
    for (unsigned i = 0; i < op_count; i++) {
        if (view_is(type, op_table[i].name) && op_is_in(&op_table[i], domain))
            return &op_table[i];
    }
    return NULL;
}

bool op_knows(const struct op *op, struct view attribute)
{
    for (unsigned i = 0; i < sizeof(op->attrs) / sizeof(op->attrs[0]) && op->attrs[i].name; i++) {
        if (view_is(attribute, op->attrs[i].name))
            return true;
    }
    return false;
}

bool op_takes(const struct op *op, const struct attr *a)
{
    for (unsigned i = 0; i < sizeof(op->attrs) / sizeof(op->attrs[0]) && op->attrs[i].name; i++) {
        if (view_is(a->name, op->attrs[i].name))
            return a->kind == op->attrs[i].kind;
    }
    return false;
}
