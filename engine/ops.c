#include "engine/ops.h"

#include "engine/cpu/cpu.h"

const struct op op_table[] = {
    {"Add", 2, 2, false, shape_broadcast, cpu_add, NULL, NULL},
    {"AveragePool", 1, 1, false, shape_pool, cpu_average_pool, NULL, NULL},
    {"BatchNormalization", 5, 5, false, shape_batchnorm, cpu_batchnorm, NULL, NULL},
    {"Clip", 1, 3, false, shape_same, cpu_clip, NULL, NULL},
    {"Concat", 1, NODE_MAX_INPUTS, false, shape_concat, cpu_concat, NULL, NULL},
    {"Constant", 0, 0, false, shape_constant, cpu_constant, NULL, NULL},
    {"Conv", 2, 3, false, shape_conv, cpu_conv, cpu_conv_scratch, cpu_conv_prepare},
    {"Div", 2, 2, false, shape_broadcast, cpu_div, NULL, NULL},
    {"Dropout", 1, 3, true, shape_same, NULL, NULL, NULL},
    {"Exp", 1, 1, false, shape_same, cpu_exp, NULL, NULL},
    {"Flatten", 1, 1, true, shape_flatten, NULL, NULL, NULL},
    {"Gemm", 2, 3, false, shape_gemm, cpu_gemm, cpu_gemm_scratch, cpu_gemm_prepare},
    {"GlobalAveragePool", 1, 1, false, shape_global_pool, cpu_global_average_pool, NULL, NULL},
    {"Identity", 1, 1, true, shape_same, NULL, NULL, NULL},
    {"MatMul", 2, 2, false, shape_matmul, cpu_matmul, cpu_matmul_scratch, cpu_matmul_prepare},
    {"MaxPool", 1, 1, false, shape_pool, cpu_max_pool, NULL, NULL},
    {"Mul", 2, 2, false, shape_broadcast, cpu_mul, NULL, NULL},
    {"Relu", 1, 1, false, shape_same, cpu_relu, NULL, NULL},
    {"Reshape", 1, 2, true, shape_reshape, NULL, NULL, NULL},
    {"Sigmoid", 1, 1, false, shape_same, cpu_sigmoid, NULL, NULL},
    {"Slice", 1, 5, false, shape_slice, cpu_slice, NULL, NULL},
    {"Softmax", 1, 1, false, shape_softmax, cpu_softmax, NULL, NULL},
    {"Squeeze", 1, 2, true, shape_squeeze, NULL, NULL, NULL},
    {"Sub", 2, 2, false, shape_broadcast, cpu_sub, NULL, NULL},
    {"Tanh", 1, 1, false, shape_same, cpu_tanh, NULL, NULL},
    {"Transpose", 1, 1, false, shape_transpose, cpu_transpose, NULL, NULL},
    {"Unsqueeze", 1, 2, true, shape_unsqueeze, NULL, NULL, NULL},
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
