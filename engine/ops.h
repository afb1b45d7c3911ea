/* engine/ops.h: the table of operators: one row an op: name, arity, attributes, datatypes in words, shape, work. What
 * computes it is a device's (engine/device.h). Adding one is a row, its shape function, a kernel and its test. Thinks. */
#ifndef SLUICE_ENGINE_OPS_H
#define SLUICE_ENGINE_OPS_H

#include "engine/graph.h"

struct text { // where strings that kernels make lie
    struct arena *arena;
    size_t most; // bytes in it
};

struct job { // one node on its tensors
    struct node *node;
    const struct array *in[NODE_MAX_INPUTS]; // NULL: left out
    struct array *out;                       // the first output
    struct array *outs[NODE_MAX_OUTPUTS];    // all; NULL: left out
    void *scratch;                           // as many bytes as the kernel said, aligned to 64
    void *state;                             // what the kernel's open gave
    const struct text *text;                 // NULL: none can be made
    const char **failure; // NULL there, until a kernel finds that its data cannot be
};

// Input i, and its data. NULL: left out.
static inline const struct array *job_input(const struct job *j, unsigned i)
{
    return i < j->node->n_inputs ? j->in[i] : NULL;
}
static inline const void *job_data(const struct job *j, unsigned i)
{
    const struct array *a = job_input(j, i);
    return a ? a->data : NULL;
}

#define OP_ML "ai.onnx.ml"
#define OP_MICROSOFT "com.microsoft"

struct late;  // engine/late.h
struct frame; // the same

struct op_attr {
    const char *name; // NULL: behind the last
    enum attr_kind kind;
};

struct op {
    const char *name;
    const char *domain; // OP_ML, OP_MICROSOFT; NULL: ONNX's own
    uint8_t min_inputs, max_inputs;
    uint8_t optional; // those of the first min_inputs that may be left out, in bits
    uint8_t outputs;  // at most; 0: the first one only is made
    // Those that the shape function or the kernel looks at, or that mean nothing when serving. A node with
    // any other is refused: it would mean something that we do not do.
    struct op_attr attrs[24];
    bool alias;    // the output is the first input under another shape: nothing runs
    bool kept;     // its kernel works on what prepare made: never computed at load
    bool of_shape; // the output follows from the first input's shape, whatever its data
    // The inputs whose data decides the output's shape, in bits: until they are known it is not.
    uint8_t by_data;
    // Runs the node's subgraphs; then there is no kernel, and the shape function only checks the node, at load.
    // False with the run's error.
    bool (*control)(struct late *l, struct frame *f, struct node *n);
    // Fills dtype, rank and shape of the outputs from the inputs (shapes, and data where constant). Ops that
    // find out while they run how much there is give the most here; their kernels make the first dimension less.
    bool (*shape)(struct job *j, struct engine_error *e);
    // What no data can make right about the node: looked at when it is loaded and its shape has to wait for
    // data. NULL: nothing.
    bool (*check)(struct job *j, struct engine_error *e);
    // Multiplications (or looks) for each element of the output; NULL: one, or one for each that is read.
    double (*work)(const struct job *j);
    // For docs/onnx.md: datatypes, and what it does not do of what the standard says (NULL: nothing).
    const char *types, *limits;
};

extern const struct op op_table[];
extern const unsigned op_count;
size_t job_bytes(const struct job *j); // of all its outputs
double op_work(const struct job *j);   // about how many steps a run takes
// domain: as a file writes it; empty and ai.onnx are ONNX's own. NULL: not supported.
const struct op *op_find(struct view type, struct view domain);
extern const struct op
    op_port; // from 16-bit floats at an input, to them at an output; no file can name it
bool op_takes(const struct op *op, const struct attr *a);
bool op_knows(const struct op *op, struct view attribute); // of some type
// Multiplications of a convolution and looks of a pool for each element, channels first or last.
double conv_work(const struct job *j);
double pool_work(const struct job *j);

// ---- of strings (engine/shapes_text.c) -----------------------------------------------------------------
bool shape_category_mapper(struct job *j, struct engine_error *e);
bool shape_label_encoder(struct job *j, struct engine_error *e);
bool shape_one_hot_encoder(struct job *j, struct engine_error *e);
bool shape_string_concat(struct job *j, struct engine_error *e);
bool shape_string_normalizer(struct job *j, struct engine_error *e);
bool shape_tfidf(struct job *j, struct engine_error *e);
bool shape_tokenizer(struct job *j, struct engine_error *e);
bool check_tokenizer(struct job *j, struct engine_error *e);
bool shape_zip_map(struct job *j, struct engine_error *e);
double tfidf_work(const struct job *j);

// ---- shape functions (engine/shapes.c) ---------------------------------------------------------------
bool shape_same(struct job *j, struct engine_error *e);
bool shape_gelu(struct job *j, struct engine_error *e);
bool shape_several_floats(struct job *j, struct engine_error *e);
bool shape_whole(struct job *j, struct engine_error *e);
bool shape_shift(struct job *j, struct engine_error *e);
bool shape_mod(struct job *j, struct engine_error *e);
bool shape_power(struct job *j, struct engine_error *e);
bool shape_prelu(struct job *j, struct engine_error *e);
bool shape_several(struct job *j, struct engine_error *e);
// engine/control.c
bool shape_if(struct job *j, struct engine_error *e);
bool shape_loop(struct job *j, struct engine_error *e);
bool shape_scan(struct job *j, struct engine_error *e);
// engine/shapes_index.c
bool shape_shape(struct job *j, struct engine_error *e);
bool shape_size(struct job *j, struct engine_error *e);
bool shape_cast(struct job *j, struct engine_error *e);
bool shape_port(struct job *j, struct engine_error *e);
bool shape_gather(struct job *j, struct engine_error *e);
bool shape_range_of(struct job *j, struct engine_error *e);
bool shape_constant_of_shape(struct job *j, struct engine_error *e);
bool shape_expand(struct job *j, struct engine_error *e);
bool shape_compare(struct job *j, struct engine_error *e);
bool shape_logic(struct job *j, struct engine_error *e);
bool shape_where(struct job *j, struct engine_error *e);
// engine/shapes_pick.c
bool shape_nonzero(struct job *j, struct engine_error *e);
bool shape_compress(struct job *j, struct engine_error *e);
bool shape_unique(struct job *j, struct engine_error *e);
bool shape_suppression(struct job *j, struct engine_error *e);
double suppression_work(const struct job *j);
// engine/shapes_reduce.c
bool shape_reduce(struct job *j, struct engine_error *e);
bool shape_reduce_floats(struct job *j, struct engine_error *e);
bool shape_arg(struct job *j, struct engine_error *e);
// engine/shapes_image.c
bool check_resize(struct job *j, struct engine_error *e);
bool shape_resize(struct job *j, struct engine_error *e);
bool shape_conv_transpose(struct job *j, struct engine_error *e);
// engine/shapes_move.c
bool shape_split(struct job *j, struct engine_error *e);
bool shape_tile(struct job *j, struct engine_error *e);
bool shape_pad(struct job *j, struct engine_error *e);
bool shape_trilu(struct job *j, struct engine_error *e);
bool shape_depth_to_space(struct job *j, struct engine_error *e);
bool shape_space_to_depth(struct job *j, struct engine_error *e);
bool shape_gather_elements(struct job *j, struct engine_error *e);
bool shape_scatter_elements(struct job *j, struct engine_error *e);
bool shape_gather_nd(struct job *j, struct engine_error *e);
bool shape_scatter_nd(struct job *j, struct engine_error *e);
bool shape_one_hot(struct job *j, struct engine_error *e);
bool shape_eye_like(struct job *j, struct engine_error *e);
bool shape_top_k(struct job *j, struct engine_error *e);
bool shape_reverse_sequence(struct job *j, struct engine_error *e);
bool shape_cumulative(struct job *j, struct engine_error *e);
bool shape_cast_like(struct job *j, struct engine_error *e);
bool shape_is(struct job *j, struct engine_error *e);
bool shape_clip(struct job *j, struct engine_error *e);
// engine/shapes_nn.c
bool shape_layer_norm(struct job *j, struct engine_error *e);
bool shape_instance_norm(struct job *j, struct engine_error *e);
bool shape_group_norm(struct job *j, struct engine_error *e);
bool shape_lp_norm(struct job *j, struct engine_error *e);
bool shape_mean_variance(struct job *j, struct engine_error *e);
bool shape_lrn(struct job *j, struct engine_error *e);
bool shape_loss(struct job *j, struct engine_error *e);
bool shape_bias_gelu(struct job *j, struct engine_error *e);
bool shape_skip_layer_norm(struct job *j, struct engine_error *e);
bool shape_embed_layer_norm(struct job *j, struct engine_error *e);
// engine/shapes_quantized.c
bool shape_quantize(struct job *j, struct engine_error *e);
bool shape_dequantize(struct job *j, struct engine_error *e);
bool shape_dynamic_quantize(struct job *j, struct engine_error *e);
bool shape_matmul_integer(struct job *j, struct engine_error *e);
bool shape_qlinear_matmul(struct job *j, struct engine_error *e);
bool shape_qgemm(struct job *j, struct engine_error *e);
bool shape_conv_integer(struct job *j, struct engine_error *e);
bool shape_qlinear_conv(struct job *j, struct engine_error *e);
bool shape_qlinear_binary(struct job *j, struct engine_error *e);
bool shape_qlinear_unary(struct job *j, struct engine_error *e);
bool shape_matmul_to_float(struct job *j, struct engine_error *e);
// engine/shapes_attention.c
bool shape_attention(struct job *j, struct engine_error *e);
bool shape_rotary(struct job *j, struct engine_error *e);
bool shape_ms_attention(struct job *j, struct engine_error *e);
bool shape_multi_head(struct job *j, struct engine_error *e);
bool shape_fused_matmul(struct job *j, struct engine_error *e);
// engine/shapes_sample.c
bool shape_grid_sample(struct job *j, struct engine_error *e);
bool shape_affine_grid(struct job *j, struct engine_error *e);
bool shape_roi_align(struct job *j, struct engine_error *e);
bool shape_det(struct job *j, struct engine_error *e);
bool shape_einsum(struct job *j, struct engine_error *e);
bool shape_window_function(struct job *j, struct engine_error *e);
bool shape_mel_weights(struct job *j, struct engine_error *e);
bool check_dft(struct job *j, struct engine_error *e);
bool shape_dft(struct job *j, struct engine_error *e);
bool shape_stft(struct job *j, struct engine_error *e);
// engine/shapes_misc.c
bool shape_bit_cast(struct job *j, struct engine_error *e);
bool shape_tensor_scatter(struct job *j, struct engine_error *e);
bool shape_center_crop_pad(struct job *j, struct engine_error *e);
bool shape_col2im(struct job *j, struct engine_error *e);
// engine/shapes_ml.c
bool shape_tree_regressor(struct job *j, struct engine_error *e);
bool shape_tree_classifier(struct job *j, struct engine_error *e);
bool shape_tree_ensemble(struct job *j, struct engine_error *e);
bool shape_linear_regressor(struct job *j, struct engine_error *e);
bool shape_linear_classifier(struct job *j, struct engine_error *e);
bool shape_svm_regressor(struct job *j, struct engine_error *e);
bool shape_svm_classifier(struct job *j, struct engine_error *e);
bool shape_scaler(struct job *j, struct engine_error *e);
bool shape_imputer(struct job *j, struct engine_error *e);
bool shape_normalizer(struct job *j, struct engine_error *e);
bool shape_binarizer(struct job *j, struct engine_error *e);
bool shape_feature_extractor(struct job *j, struct engine_error *e);
bool shape_feature_vectorizer(struct job *j, struct engine_error *e);
bool shape_dropout(struct job *j, struct engine_error *e);
bool shape_broadcast(struct job *j, struct engine_error *e);
bool shape_gemm(struct job *j, struct engine_error *e);
bool shape_matmul(struct job *j, struct engine_error *e);
bool shape_conv(struct job *j, struct engine_error *e);
bool shape_pool(struct job *j, struct engine_error *e);
bool shape_max_pool(struct job *j, struct engine_error *e);
bool shape_max_unpool(struct job *j, struct engine_error *e);
bool shape_global_pool(struct job *j, struct engine_error *e);
bool shape_reshape(struct job *j, struct engine_error *e);
bool shape_flatten(struct job *j, struct engine_error *e);
bool shape_squeeze(struct job *j, struct engine_error *e);
bool shape_unsqueeze(struct job *j, struct engine_error *e);
bool shape_transpose(struct job *j, struct engine_error *e);
bool shape_concat(struct job *j, struct engine_error *e);
bool shape_slice(struct job *j, struct engine_error *e);
bool shape_softmax(struct job *j, struct engine_error *e);
bool shape_constant(struct job *j, struct engine_error *e);
bool shape_batchnorm(struct job *j, struct engine_error *e);

// What macros stand for, in messages.
#define TEXT_OF(number) DIGITS_OF(number)
#define DIGITS_OF(number) #number
#define RANK_TEXT TEXT_OF(ENGINE_MAX_RANK)
#define AXES_TEXT TEXT_OF(WINDOW_AXES)
// For shape functions: fails, naming the node; fills the output, whose elements are bounded.
bool shape_wrong(struct job *j, struct engine_error *e, const char *what);
bool shape_make(struct job *j, enum engine_dtype dtype, unsigned rank, const int64_t *shape,
                struct engine_error *e);
// The same for output k; nothing where it is left out.
bool shape_make_at(struct job *j, unsigned k, enum engine_dtype dtype, unsigned rank,
                   const int64_t *shape, struct engine_error *e);

// The shape that n tensors have together when they are broadcast. False with e: none.
bool shape_together(struct job *j, const struct array *const *in, unsigned n, int64_t *shape,
                    unsigned *rank, struct engine_error *e);
// For shape functions and kernels: a list of integers that is known, an attribute (old opsets) or an input
// (int32: written to room), NULL with *n == 0: not there; which dimensions Shape gives (how many, from *first on); the attribute
// axis, counted from the front (not checked).
const int64_t *shape_list(struct job *j, const char *attr, unsigned input, unsigned *n,
                          int64_t room[ENGINE_MAX_RANK]);
// How many blocks of QuantizeLinear's block_size an axis has, of which the last may be short. block: 1 to INT64_MAX.
int64_t quantize_blocks(int64_t dim, int64_t block);

// A product as numpy has it: matrices [rows, depth] and [depth, cols], as many as the leading axes have together;
// shape: the answer's, whose first batch_rank are those.
struct matmul {
    int64_t rows, depth, cols, batch, shape[2 * ENGINE_MAX_RANK], step[2][ENGINE_MAX_RANK];
    unsigned rank, batch_rank;
};
bool matmul_of(const struct job *j, const struct array *a, const struct array *b, struct matmul *m,
               struct engine_error *e);
// Where the matrices of the batch-th answer begin, in elements.
void matmul_place(const struct matmul *m, int64_t batch, int64_t *a, int64_t *b);
// Attention: heads and widths of queries, keys and values; keys: those of the past too.
struct attention_side {
    int64_t rows, heads, length, width;
};
struct attention {
    struct attention_side q, k, v;
    int64_t past, keys;
};
bool attention_of(const struct job *j, struct attention *a, struct engine_error *e);
struct rotary {
    struct attention_side x;
    int64_t width; // of a head, that is rotated
};
bool rotary_of(const struct job *j, struct rotary *r, struct engine_error *e);
// FusedMatMul: a and b as they are multiplied.
bool fused_of(const struct job *j, struct array *a, struct array *b, struct matmul *m,
              struct engine_error *e);
// GridSample: false: modes that are not known.
enum grid_mode { GRID_NEAREST, GRID_LINEAR, GRID_CUBIC };
enum grid_pad { GRID_ZEROS, GRID_BORDER, GRID_REFLECTION };
struct grid {
    enum grid_mode mode;
    enum grid_pad pad;
    bool corners;
};
bool grid_of(const struct node *n, struct grid *g);
// Einsum: labels are letters, and axes that stand for dots; order: the output's, then those that are summed.
#define EINSUM_INPUTS 8
#define EINSUM_HIDDEN 52
#define EINSUM_LABELS (EINSUM_HIDDEN + ENGINE_MAX_RANK)
struct einsum {
    uint8_t labels[EINSUM_INPUTS][ENGINE_MAX_RANK], out[ENGINE_MAX_RANK], order[EINSUM_LABELS];
    unsigned n_out, n_order;
    int64_t dim[EINSUM_LABELS];
};
bool einsum_of(const struct job *j,
               struct einsum *s); // false: the equation does not fit the inputs
struct dft {
    unsigned axis;
    int64_t n, outs;    // of the transform; frequencies that are kept
    bool inverse, pair; // pair: complex numbers come in
};
bool dft_of(const struct job *j, struct dft *d, struct engine_error *e);
struct stft {
    int64_t n, step, frames, outs;
};
bool stft_of(const struct job *j, struct stft *s, struct engine_error *e);
// Split: the length of output k. CumSum: its axis, from the front.
int64_t split_length(const struct job *j, unsigned k);
int64_t cumulative_axis(const struct job *j);
// Pad: what comes before and behind each axis (below 0: goes), and from where.
enum pad_mode { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE, PAD_WRAP };
struct pad {
    enum pad_mode mode;
    int64_t before[ENGINE_MAX_RANK], after[ENGINE_MAX_RANK];
};
bool pad_of(const struct job *j, struct pad *p, struct engine_error *e);

// ai.onnx.ml: what a model does with its scores in the end. False: another one.
enum ml_transform { ML_NONE, ML_SOFTMAX, ML_LOGISTIC, ML_SOFTMAX_ZERO, ML_PROBIT };
bool ml_transform_of(const struct node *n, enum ml_transform *t);
// Of a tree ensemble: how many targets or classes, how leaves are put together (enum tree_sum, or as the op of
// version 5 numbers it), what comes then. False with e.
bool trees_of(const struct node *n, int64_t *targets, unsigned *sum, enum ml_transform *t,
              struct engine_error *e);
bool trees_of_5(const struct node *n, int64_t *targets, unsigned *sum, enum ml_transform *t,
                struct engine_error *e);

// Support vectors. w: coefficients; all as long as the file says.
enum svm_kernel { SVM_LINEAR, SVM_POLY, SVM_RBF, SVM_SIGMOID };
struct svm {
    enum svm_kernel kernel;
    float gamma, coef0, degree;
    const float *w, *rho, *vectors;
    unsigned n_w, n_rho, n_floats;
};
bool svm_of(const struct node *n, struct svm *s, struct engine_error *e); // false with e
// What Cast or CastLike is asked for: 16-bit floats too, which are float32 then.
enum engine_dtype cast_target(const struct job *j);
// The axes of a reduction as a set of bits. False with e.
bool reduce_axes(struct job *j, unsigned *set, struct engine_error *e);
int64_t shape_range(const struct job *j, int64_t *first);
int64_t shape_axis(const struct job *j, int64_t otherwise);

// What a window (convolution, pool) does along its two axes, after auto_pad.
struct window {
    int64_t kernel[2], stride[2], dilation[2], pad[2] /* before */, in[2], out[2];
};
#define WINDOW_AXES 14 // behind the first two
_Static_assert(WINDOW_AXES == ENGINE_MAX_RANK - 2, "of an image");
struct windows { // the same of n axes; behind: what is padded there
    unsigned n;
    int64_t kernel[WINDOW_AXES], stride[WINDOW_AXES], dilation[WINDOW_AXES], pad[WINDOW_AXES],
        behind[WINDOW_AXES], in[WINDOW_AXES], out[WINDOW_AXES];
};
// axis: the first of the image's n.
bool windows_of(const struct job *j, unsigned axis, unsigned n, const int64_t *kernel,
                struct windows *w, struct engine_error *e);
// Do kernels fit the images? The answer's shape.
bool conv_fits(struct job *j, const struct array *x, const struct array *k, struct engine_error *e);
bool conv_make(struct job *j, enum engine_dtype d, const struct array *k, struct engine_error *e);
// Images of one axis count as of two, of which the first has one pixel.
// axis: the first of the image's two (2, or 1 with channels last).
bool pool_window(struct job *j, unsigned axis, struct window *w, struct engine_error *e);
bool window_of(const struct job *j, unsigned axis, const int64_t *kernel, struct window *w,
               struct engine_error *e);
// Slice's start and step along each axis of the input.
bool slice_of(const struct job *j, int64_t *start, int64_t *step, int64_t *length,
              struct engine_error *e);

// What a Resize does. place: how a pixel's number becomes a place in the input's.
enum resize_mode { RESIZE_NEAREST, RESIZE_LINEAR, RESIZE_CUBIC };
enum resize_place {
    RESIZE_HALF_PIXEL,
    RESIZE_ASYMMETRIC,
    RESIZE_ALIGN_CORNERS,
    RESIZE_PYTORCH,
    RESIZE_SYMMETRIC,
    RESIZE_TF_NEAREST
};
enum resize_rounding { RESIZE_PREFER_FLOOR, RESIZE_PREFER_CEIL, RESIZE_FLOOR, RESIZE_CEIL };
enum resize_aspect { RESIZE_STRETCH, RESIZE_NOT_LARGER, RESIZE_NOT_SMALLER }; // of sizes
struct resize {
    enum resize_mode mode;
    enum resize_place place;
    enum resize_rounding rounding;
    float cubic; // the coefficient a
    bool exclude_outside, antialias;
    enum resize_aspect aspect;
    float scale[ENGINE_MAX_RANK];
    int64_t out[ENGINE_MAX_RANK];
};
bool resize_of(const struct job *j, struct resize *r, struct engine_error *e);
// What a NonMaxSuppression is asked for.
struct suppression {
    int64_t images, classes, boxes, most; // most: of a class and image
    float overlap, least; // what a box may share with a better one; scores are above `least`
    bool has_least, centers;
};
bool suppression_of(const struct job *j, struct suppression *s, struct engine_error *e);
bool array_nonzero(const struct array *a, size_t i); // element i

// A ConvTranspose's window: in is the smaller image.
bool transposed_of(const struct job *j, struct window *w, struct engine_error *e);
// Col2Im's windows over the image. CenterCropPad: where the part that stays begins in both, and its size.
bool patches_of(const struct job *j, struct windows *w, struct engine_error *e);
bool center_of(const struct job *j, int64_t *from, int64_t *to, int64_t *n, int64_t *shape);
bool transposed_windows(const struct job *j, struct windows *w, struct engine_error *e);

#endif
