// The table of operators in words: docs/onnx.md holds what this gives.
#include "engine/engine.h"
#include "engine/strings.h"

#include <stdio.h>

// What the table has no column for: datatypes, and what an op does not do of what the standard says (NULL: nothing).
struct op_words {
    const char *name, *domain, *types, *limits;
};

static const struct op_words op_words[] = {
    {"Abs", NULL, "all numbers", NULL},
    {"Acos", NULL, "floats", NULL},
    {"Acosh", NULL, "floats", NULL},
    {"Add", NULL, "all numbers", "numpy broadcasting; before opset 7 where it is the same"},
    {"AffineGrid", NULL, "float32", NULL},
    {"And", NULL, "bool", NULL},
    {"ArgMax", NULL, "all numbers", NULL},
    {"ArgMin", NULL, "all numbers", NULL},
    {"Asin", NULL, "floats", NULL},
    {"Asinh", NULL, "floats", NULL},
    {"Atan", NULL, "floats", NULL},
    {"Atanh", NULL, "floats", NULL},
    {"Attention", NULL, "float32", NULL},
    {"AveragePool", NULL, "float32", "images of one axis to 14"},
    {"BatchNormalization", NULL, "float32", "not in training"},
    {"BitCast", NULL, "all", "numbers of as many bits, not 16-bit floats"},
    {"BitShift", NULL, "whole numbers", NULL},
    {"BitwiseAnd", NULL, "whole numbers", NULL},
    {"BitwiseNot", NULL, "whole numbers", NULL},
    {"BitwiseOr", NULL, "whole numbers", NULL},
    {"BitwiseXor", NULL, "whole numbers", NULL},
    {"BlackmanWindow", NULL, "floats", NULL},
    {"Cast", NULL, "all", "whole numbers are held to what the type has"},
    {"CastLike", NULL, "all", "not to strings"},
    {"Ceil", NULL, "floats", NULL},
    {"Celu", NULL, "floats", NULL},
    {"CenterCropPad", NULL, "all", NULL},
    {"Clip", NULL, "all numbers", NULL},
    {"Col2Im", NULL, "float32", NULL},
    {"Compress", NULL, "all", NULL},
    {"Concat", NULL, "all", NULL},
    {"Constant", NULL, "all", "tensors, numbers, lists of numbers"},
    {"ConstantOfShape", NULL, "all", NULL},
    {"Conv", NULL, "float32", "images of one axis to 14"},
    {"ConvInteger", NULL, "int8, uint8", NULL},
    {"ConvTranspose", NULL, "float32", "images of one axis to 14"},
    {"Cos", NULL, "floats", NULL},
    {"Cosh", NULL, "floats", NULL},
    {"CumSum", NULL, "floats, int32, int64", NULL},
    {"DFT", NULL, "floats", "onesided of real numbers, not inverse"},
    {"DepthToSpace", NULL, "all", NULL},
    {"DequantizeLinear", NULL, "8 or 16 bits, int32", NULL},
    {"Det", NULL, "floats", NULL},
    {"Div", NULL, "all numbers", "numpy broadcasting; before opset 7 where it is the same"},
    {"Dropout", NULL, "all", "not in training; no mask"},
    {"DynamicQuantizeLinear", NULL, "float32", NULL},
    {"Einsum", NULL, "floats, int32, int64", "at most 8 inputs, none empty"},
    {"Elu", NULL, "floats", NULL},
    {"Equal", NULL, "all", NULL},
    {"Erf", NULL, "floats", NULL},
    {"Exp", NULL, "floats", NULL},
    {"Expand", NULL, "all", NULL},
    {"EyeLike", NULL, "all", "matrices"},
    {"Flatten", NULL, "all", NULL},
    {"Floor", NULL, "floats", NULL},
    {"GRU", NULL, "float32", "lengths of 1 or more; ThresholdedRelu with its alpha"},
    {"Gather", NULL, "all", NULL},
    {"GatherElements", NULL, "all", NULL},
    {"GatherND", NULL, "all", NULL},
    {"Gelu", NULL, "floats", NULL},
    {"Gemm", NULL, "float32", NULL},
    {"GlobalAveragePool", NULL, "float32", NULL},
    {"GlobalLpPool", NULL, "float32", NULL},
    {"GlobalMaxPool", NULL, "float32", NULL},
    {"Greater", NULL, "all", NULL},
    {"GreaterOrEqual", NULL, "all", NULL},
    {"GridSample", NULL, "float32", "images of two or three axes"},
    {"GroupNormalization", NULL, "float32", "stash_type 1"},
    {"HammingWindow", NULL, "floats", NULL},
    {"HannWindow", NULL, "floats", NULL},
    {"HardSigmoid", NULL, "floats", NULL},
    {"HardSwish", NULL, "floats", NULL},
    {"Hardmax", NULL, "floats", NULL},
    {"Identity", NULL, "all", NULL},
    {"If", NULL, "all", NULL},
    {"InstanceNormalization", NULL, "float32", NULL},
    {"IsInf", NULL, "floats", NULL},
    {"IsNaN", NULL, "floats", NULL},
    {"LRN", NULL, "float32", NULL},
    {"LSTM", NULL, "float32", "lengths of 1 or more; ThresholdedRelu with its alpha"},
    {"LayerNormalization", NULL, "float32",
     "stash_type 1; scale and bias of the shape that is normalized"},
    {"LeakyRelu", NULL, "floats", NULL},
    {"Less", NULL, "all", NULL},
    {"LessOrEqual", NULL, "all", NULL},
    {"Log", NULL, "floats", NULL},
    {"LogSoftmax", NULL, "floats", NULL},
    {"Loop", NULL, "all", "2^20 trips in one run"},
    {"LpNormalization", NULL, "float32", NULL},
    {"LpPool", NULL, "float32", "images of one axis to 14"},
    {"MatMul", NULL, "floats, int32, int64, uint32, uint64", NULL},
    {"MatMulInteger", NULL, "int8, uint8", NULL},
    {"Max", NULL, "all numbers", NULL},
    {"MaxPool", NULL, "floats, int8, uint8", "images of one axis to 14"},
    {"MaxUnpool", NULL, "float32", "no output_shape"},
    {"Mean", NULL, "floats", NULL},
    {"MeanVarianceNormalization", NULL, "float32", NULL},
    {"MelWeightMatrix", NULL, "float32", NULL},
    {"Min", NULL, "all numbers", NULL},
    {"Mish", NULL, "floats", NULL},
    {"Mod", NULL, "all numbers", "of floats fmod alone"},
    {"Mul", NULL, "all numbers", "numpy broadcasting; before opset 7 where it is the same"},
    {"Neg", NULL, "all numbers", NULL},
    {"NegativeLogLikelihoodLoss", NULL, "float32", NULL},
    {"NonMaxSuppression", NULL, "float32", NULL},
    {"NonZero", NULL, "all", "one axis or more"},
    {"Not", NULL, "bool", NULL},
    {"OneHot", NULL, "places: int32, int64, float32; values: all", NULL},
    {"Or", NULL, "bool", NULL},
    {"PRelu", NULL, "all numbers", NULL},
    {"Pad", NULL, "all", NULL},
    {"Pow", NULL, "floats, int32, int64 to all numbers",
     "whole numbers to a power of floats, int32 or int64"},
    {"QLinearConv", NULL, "int8, uint8", NULL},
    {"QLinearMatMul", NULL, "int8, uint8", NULL},
    {"QuantizeLinear", NULL, "float32, int32 to 8 or 16 bits", NULL},
    {"RMSNormalization", NULL, "float32",
     "stash_type 1; scale and bias of the shape that is normalized"},
    {"RNN", NULL, "float32", "lengths of 1 or more; ThresholdedRelu with its alpha"},
    {"Range", NULL, "floats, int32, int64", NULL},
    {"Reciprocal", NULL, "floats", NULL},
    {"ReduceL1", NULL, "floats", NULL},
    {"ReduceL2", NULL, "floats", NULL},
    {"ReduceLogSum", NULL, "floats", NULL},
    {"ReduceLogSumExp", NULL, "floats", NULL},
    {"ReduceMax", NULL, "floats, int32, int64, int8, uint8, bool", NULL},
    {"ReduceMean", NULL, "floats", NULL},
    {"ReduceMin", NULL, "floats, int32, int64, int8, uint8, bool", NULL},
    {"ReduceProd", NULL, "floats, int32, int64", NULL},
    {"ReduceSum", NULL, "floats, int32, int64", NULL},
    {"ReduceSumSquare", NULL, "floats", NULL},
    {"Relu", NULL, "all numbers", NULL},
    {"Reshape", NULL, "all", NULL},
    {"Resize", NULL, "float32", "no antialias, no tf_crop_and_resize, aspect ratios as asked"},
    {"ReverseSequence", NULL, "all", NULL},
    {"RoiAlign", NULL, "float32", "mode avg; at most 4096 looks for each answer"},
    {"RotaryEmbedding", NULL, "float32", NULL},
    {"Round", NULL, "floats", NULL},
    {"STFT", NULL, "floats", "real signals"},
    {"Scan", NULL, "all", "from opset 9 on; 2^20 trips in one run"},
    {"Scatter", NULL, "all", "reductions of numbers"},
    {"ScatterElements", NULL, "all", "reductions of numbers"},
    {"ScatterND", NULL, "all", "reductions of numbers"},
    {"Selu", NULL, "floats", NULL},
    {"Shape", NULL, "all", NULL},
    {"Shrink", NULL, "floats", NULL},
    {"Sigmoid", NULL, "floats", NULL},
    {"Sign", NULL, "all numbers", NULL},
    {"SimplifiedLayerNormalization", NULL, "float32",
     "stash_type 1; scale and bias of the shape that is normalized"},
    {"Sin", NULL, "floats", NULL},
    {"Sinh", NULL, "floats", NULL},
    {"Size", NULL, "all", NULL},
    {"Slice", NULL, "all", NULL},
    {"Softmax", NULL, "floats", NULL},
    {"SoftmaxCrossEntropyLoss", NULL, "float32", NULL},
    {"Softplus", NULL, "floats", NULL},
    {"Softsign", NULL, "floats", NULL},
    {"SpaceToDepth", NULL, "all", NULL},
    {"Split", NULL, "all", NULL},
    {"Sqrt", NULL, "floats", NULL},
    {"Squeeze", NULL, "all", NULL},
    {"StringConcat", NULL, "strings", NULL},
    {"StringNormalizer", NULL, "strings", "letters as the C library's table of Unicode has them"},
    {"Sub", NULL, "all numbers", "numpy broadcasting; before opset 7 where it is the same"},
    {"Sum", NULL, "floats", NULL},
    {"Swish", NULL, "floats", NULL},
    {"Tan", NULL, "floats", NULL},
    {"Tanh", NULL, "floats", NULL},
    {"TensorScatter", NULL, "all", "the first axis is the batch"},
    {"TfIdfVectorizer", NULL, "strings, int32, int64", NULL},
    {"ThresholdedRelu", NULL, "floats", NULL},
    {"Tile", NULL, "all", NULL},
    {"TopK", NULL, "all numbers", NULL},
    {"Transpose", NULL, "all", NULL},
    {"Trilu", NULL, "all", NULL},
    {"Unique", NULL, "all", NULL},
    {"Unsqueeze", NULL, "all", NULL},
    {"Upsample", NULL, "float32", "no antialias, no tf_crop_and_resize, aspect ratios as asked"},
    {"Where", NULL, "all", NULL},
    {"Xor", NULL, "bool", NULL},
    {"ArrayFeatureExtractor", OP_ML, "all", NULL},
    {"Binarizer", OP_ML, "floats, int32, int64", NULL},
    {"CategoryMapper", OP_ML, "strings, int64", NULL},
    {"FeatureVectorizer", OP_ML, "floats, int32, int64", NULL},
    {"Imputer", OP_ML, "floats, int32, int64", "one value, or one a feature"},
    {"LabelEncoder", OP_ML, "all", NULL},
    {"LinearClassifier", OP_ML, "floats, int32, int64",
     "NONE or, of two classes by one score, LOGISTIC"},
    {"LinearRegressor", OP_ML, "floats, int32, int64", "of one target NONE or PROBIT"},
    {"Normalizer", OP_ML, "floats, int32, int64", "L1, L2"},
    {"OneHotEncoder", OP_ML, "floats, int32, int64, strings", NULL},
    {"SVMClassifier", OP_ML, "floats, int32, int64", "NONE"},
    {"SVMRegressor", OP_ML, "floats, int32, int64", "NONE"},
    {"Scaler", OP_ML, "floats, int32, int64", "one value, or one a feature"},
    {"TreeEnsemble", OP_ML, "floats", "of one target NONE or PROBIT"},
    {"TreeEnsembleClassifier", OP_ML, "floats, int32, int64",
     "of two classes weights of one, NONE or LOGISTIC"},
    {"TreeEnsembleRegressor", OP_ML, "floats, int32, int64", "of one target NONE or PROBIT"},
    {"ZipMap", OP_ML, "float32", "a tensor, a column a label"},
    {"Attention", OP_MICROSOFT, "float32",
     "no past, no attention_bias, one width for queries, keys and values"},
    {"BiasGelu", OP_MICROSOFT, "float32", NULL},
    {"DequantizeLinear", OP_MICROSOFT, "8 or 16 bits, int32", NULL},
    {"DynamicQuantizeMatMul", OP_MICROSOFT, "float32 by int8, uint8", NULL},
    {"EmbedLayerNormalization", OP_MICROSOFT, "int32 ids, float32", NULL},
    {"FastGelu", OP_MICROSOFT, "float32", NULL},
    {"FusedMatMul", OP_MICROSOFT, "float32", "transBatchA, transBatchB 0"},
    {"Gelu", OP_MICROSOFT, "floats", NULL},
    {"MatMulIntegerToFloat", OP_MICROSOFT, "int8, uint8", NULL},
    {"MultiHeadAttention", OP_MICROSOFT, "float32",
     "no past; queries, keys and values of their own"},
    {"QLinearAdd", OP_MICROSOFT, "int8, uint8", NULL},
    {"QLinearGlobalAveragePool", OP_MICROSOFT, "int8, uint8", "channels first"},
    {"QLinearLeakyRelu", OP_MICROSOFT, "int8, uint8", NULL},
    {"QLinearMul", OP_MICROSOFT, "int8, uint8", NULL},
    {"QLinearSigmoid", OP_MICROSOFT, "int8, uint8", NULL},
    {"QuantizeLinear", OP_MICROSOFT, "float32, int32 to 8 or 16 bits", NULL},
    {"SkipLayerNormalization", OP_MICROSOFT, "float32", NULL},
    {"SkipSimplifiedLayerNormalization", OP_MICROSOFT, "float32", NULL},
    {"Tokenizer", OP_MICROSOFT, "strings", "no marks; expressions as engine/pattern.h has them"},
};

static const struct op_words *words_of(const struct op *op)
{
    static const struct op_words none = {.types = "\u2013"};
    for (unsigned i = 0; i < sizeof(op_words) / sizeof(op_words[0]); i++) {
        const struct op_words *w = &op_words[i];
        bool same = w->domain && op->domain ? strcmp(w->domain, op->domain) == 0
                                            : !w->domain && !op->domain;
        if (same && strcmp(w->name, op->name) == 0)
            return w;
    }
    return &none;
}

static const char *kind_of(enum attr_kind k)
{
    static const char *const names[] = {"int",   "float",  "text",  "ints", "floats",
                                        "texts", "tensor", "graph", "other"};
    return names[k];
}

static size_t attributes(const struct op *op, char *out, size_t room)
{
    size_t at = 0;
    for (unsigned i = 0; i < sizeof(op->attrs) / sizeof(op->attrs[0]) && op->attrs[i].name; i++)
        at += (size_t)snprintf(at < room ? out + at : NULL, at < room ? room - at : 0, "%s%s (%s)",
                               i ? ", " : "", op->attrs[i].name, kind_of(op->attrs[i].kind));
    if (at == 0 && room > 0)
        snprintf(out, room, "\u2013");
    return at;
}

bool engine_op_line(unsigned i, char *out, size_t room)
{
    char attrs[1024], inputs[32];
    unsigned outputs;
    if (i >= op_count)
        return false;
    const struct op *op = &op_table[i];
    const struct op_words *words = words_of(op);
    outputs = op->outputs > 1 ? op->outputs : 1;
    attributes(op, attrs, sizeof(attrs));
    if (op->max_inputs == op->min_inputs)
        snprintf(inputs, sizeof(inputs), "%u", op->min_inputs);
    else
        snprintf(inputs, sizeof(inputs), "%u to %u", op->min_inputs, op->max_inputs);
    bool strings = op_takes_strings(op) && !strstr(words->types, "strings");
    snprintf(out, room, "| %s%s%s | %s | %u | %s | %s%s | %s |", op->domain ? op->domain : "",
             op->domain ? "." : "", op->name, inputs, outputs, attrs, words->types,
             strings ? ", strings" : "", words->limits ? words->limits : "\u2013");
    return true;
}
