#include "engine/ops.h"

#include "engine/cpu/cpu.h"

#define OP(title, least, most, shapes, ...)                                                        \
    {                                                                                              \
        .name = title, .min_inputs = least, .max_inputs = most, .shape = shapes, __VA_ARGS__       \
    }

const struct op op_table[] = {
    OP("Add", 2, 2, shape_broadcast, .run = cpu_add),
    OP("AveragePool", 1, 1, shape_pool, .run = cpu_average_pool),
    OP("BatchNormalization", 5, 5, shape_batchnorm, .run = cpu_batchnorm),
    OP("Clip", 1, 3, shape_same, .run = cpu_clip),
    OP("Concat", 1, NODE_MAX_INPUTS, shape_concat, .run = cpu_concat),
    OP("Constant", 0, 0, shape_constant, .run = cpu_constant),
    OP("Conv", 2, 3, shape_conv, .run = cpu_conv, .scratch = cpu_conv_scratch),
    OP("Div", 2, 2, shape_broadcast, .run = cpu_div),
    OP("Dropout", 1, 3, shape_same, .alias = true),
    OP("Exp", 1, 1, shape_same, .run = cpu_exp),
    OP("Flatten", 1, 1, shape_flatten, .alias = true),
    OP("Gemm", 2, 3, shape_gemm, .run = cpu_gemm, .scratch = cpu_gemm_scratch,
       .prepare = cpu_gemm_prepare),
    OP("GlobalAveragePool", 1, 1, shape_global_pool, .run = cpu_global_average_pool),
    OP("Identity", 1, 1, shape_same, .alias = true),
    OP("MatMul", 2, 2, shape_matmul, .run = cpu_matmul, .scratch = cpu_matmul_scratch,
       .prepare = cpu_matmul_prepare),
    OP("MaxPool", 1, 1, shape_pool, .run = cpu_max_pool),
    OP("Mul", 2, 2, shape_broadcast, .run = cpu_mul),
    OP("Relu", 1, 1, shape_same, .run = cpu_relu),
    OP("Reshape", 1, 2, shape_reshape, .alias = true),
    OP("Sigmoid", 1, 1, shape_same, .run = cpu_sigmoid),
    OP("Slice", 1, 5, shape_slice, .run = cpu_slice),
    OP("Softmax", 1, 1, shape_softmax, .run = cpu_softmax),
    OP("Squeeze", 1, 2, shape_squeeze, .alias = true),
    OP("Sub", 2, 2, shape_broadcast, .run = cpu_sub),
    OP("Tanh", 1, 1, shape_same, .run = cpu_tanh),
    OP("Transpose", 1, 1, shape_transpose, .run = cpu_transpose),
    OP("Unsqueeze", 1, 2, shape_unsqueeze, .alias = true),
};
const unsigned op_count = sizeof(op_table) / sizeof(op_table[0]);

const struct op *op_find(struct view type)
{
    for (unsigned i = 0; i < op_count; i++) {
        if (view_is(type, op_table[i].name))
            return &op_table[i];
    }
    return NULL;
}

static void forget_conv(struct node *n)
{
    onednn_conv_free(n->prepared);
    n->prepared = NULL;
}

const struct op op_conv_last =
    OP("Conv", 2, 3, shape_conv_last, .run = cpu_conv_last, .scratch = cpu_conv_last_scratch,
       .forget = forget_conv, .open = cpu_conv_last_open, .close = onednn_conv_close);
const struct op op_max_pool_last = OP("MaxPool", 1, 1, shape_pool_last, .run = cpu_max_pool_last);
const struct op op_average_pool_last =
    OP("AveragePool", 1, 1, shape_pool_last, .run = cpu_average_pool_last);
const struct op op_global_average_pool_last =
    OP("GlobalAveragePool", 1, 1, shape_global_pool_last, .run = cpu_global_average_pool_last);
