/* Those of ONNX's operator tests whose ops the engine has, and which it refuses at load all the same: other
 * datatypes than the op takes, shapes that are inputs, images of one or three axes, training, outputs beyond the first, broadcasting as
 * before opset 7, empty tensors. All that Debian 12's ONNX (1.12) or Debian 13's (1.17) comes with. Included
 * by engine_ops.c alone. */
#ifndef SLUICE_TESTS_ENGINE_REFUSED_H
#define SLUICE_TESTS_ENGINE_REFUSED_H

static const char *const refused[] = {
    "node/batchnorm_epsilon_training_mode",
    "node/batchnorm_example_training_mode",
    "node/castlike_FLOAT_to_STRING",
    "node/castlike_STRING_to_FLOAT",
    "node/constant",
    "node/dropout_default_mask",
    "node/dropout_default_mask_ratio",
    "node/identity_opt",
    "node/identity_sequence",
    "node/if_opt",
    "node/if_seq",
    "node/loop13_seq",
    "node/loop16_seq_none",
    "node/maxunpool_export_with_output_shape",
    "node/resize_tf_crop_and_resize",
    "node/resize_tf_crop_and_resize_axes_2_3",
    "node/resize_tf_crop_and_resize_axes_3_2",
    "node/resize_tf_crop_and_resize_extrapolation_value",
    "node/scan_sum",
    "node/training_dropout",
    "node/training_dropout_default",
    "node/training_dropout_default_mask",
    "node/training_dropout_mask",
    "node/training_dropout_zero_ratio",
    "node/training_dropout_zero_ratio_mask",
};

// Refused with one of the two and right with the other, whose file asks for less.
static const char *const varies[] = {
    "node/cast_BFLOAT16_to_FLOAT",
    "node/cast_FLOAT_to_BFLOAT16",
    "node/castlike_BFLOAT16_to_FLOAT",
    "node/castlike_BFLOAT16_to_FLOAT_expanded",
    "node/castlike_DOUBLE_to_FLOAT",
    "node/castlike_DOUBLE_to_FLOAT16",
    "node/castlike_DOUBLE_to_FLOAT16_expanded",
    "node/castlike_DOUBLE_to_FLOAT_expanded",
    "node/castlike_FLOAT16_to_DOUBLE",
    "node/castlike_FLOAT16_to_DOUBLE_expanded",
    "node/castlike_FLOAT16_to_FLOAT",
    "node/castlike_FLOAT16_to_FLOAT_expanded",
    "node/castlike_FLOAT_to_BFLOAT16",
    "node/castlike_FLOAT_to_BFLOAT16_expanded",
    "node/castlike_FLOAT_to_DOUBLE",
    "node/castlike_FLOAT_to_DOUBLE_expanded",
    "node/castlike_FLOAT_to_FLOAT16",
    "node/castlike_FLOAT_to_FLOAT16_expanded",
    "node/castlike_FLOAT_to_STRING_expanded",
    "node/castlike_STRING_to_FLOAT_expanded",
    "node/reduce_l1_default_axes_keepdims_example",
    "node/reduce_l1_default_axes_keepdims_random",
    "node/reduce_l2_default_axes_keepdims_example",
    "node/reduce_l2_default_axes_keepdims_random",
    "node/reduce_log_sum_default",
    "node/reduce_log_sum_exp_default_axes_keepdims_example",
    "node/reduce_log_sum_exp_default_axes_keepdims_random",
    "node/reduce_mean_default_axes_keepdims_example",
    "node/reduce_mean_default_axes_keepdims_random",
    "node/reduce_sum_negative_axes_keepdims_random",
    "node/reduce_sum_square_default_axes_keepdims_example",
    "node/reduce_sum_square_default_axes_keepdims_random",
    "node/roialign_mode_max",
};

// What ONNX 1.17 recorded for these was wrong: later releases recorded what we answer.
static const char *const mistaken[] = {
    "node/averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True",
    "node/qlinearmatmul_2D_int8_float16",
    "node/qlinearmatmul_2D_int8_float32",
    "node/qlinearmatmul_3D_int8_float16",
    "node/qlinearmatmul_3D_int8_float32",
};

// What the standard leaves open (a float beyond what 4 bits hold): these answers of 1.17's are held to the largest, later
// ones and runtimes keep the low bits, as we do.
static const char *const open_questions[] = {
    "node/cast_FLOAT16_to_INT4",
    "node/cast_FLOAT16_to_UINT4",
    "node/cast_FLOAT_to_INT4",
    "node/cast_FLOAT_to_UINT4",
};

#endif
