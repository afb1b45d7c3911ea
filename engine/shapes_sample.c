// Shapes of what looks into images between pixels (GridSample, RoiAlign, AffineGrid), of Einsum, Det and of
// signals. As engine/shapes.c: whatever a kernel relies on is checked here.
#include "engine/ops.h"

#include <math.h>

static bool is_float(const struct array *a)
{
    return a->dtype == ENGINE_F32 || a->dtype == ENGINE_F64;
}

// One number that is known from shapes, of int32, int64 or float32.
static bool known_number(const struct array *a, double *v)
{
    size_t n = 0;
    if (!a || !a->data || !array_count(a, &n) || n != 1)
        return false;
    if (a->dtype == ENGINE_I64)
        *v = (double)*(const int64_t *)a->data;
    else if (a->dtype == ENGINE_I32)
        *v = *(const int32_t *)a->data;
    else if (a->dtype == ENGINE_F32)
        *v = (double)*(const float *)a->data;
    else
        return false;
    return true;
}

// Which of `names` (NULL behind the last) the attribute is, names[otherwise] where it is not there; -1: none.
static int choice(const struct node *n, const char *attr, const char *const *names, int otherwise)
{
    const struct attr *a = node_attr(n, attr);
    if (!a)
        return otherwise;
    for (int i = 0; names[i]; i++) {
        if (view_is(a->s, names[i]))
            return i;
    }
    return -1;
}

// ---- images ------------------------------------------------------------------------------------------

bool grid_of(const struct node *n, struct grid *g)
{
    static const char *const modes[] = {"nearest", "linear", "cubic", "bilinear", "bicubic", NULL};
    static const char *const pads[] = {"zeros", "border", "reflection", NULL};
    int mode = choice(n, "mode", modes, 1), pad = choice(n, "padding_mode", pads, 0);
    g->mode = (enum grid_mode)(mode > 2 ? mode - 2 : mode);
    g->pad = (enum grid_pad)pad;
    g->corners = node_int(n, "align_corners", 0) != 0;
    return mode >= 0 && pad >= 0;
}

bool shape_grid_sample(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *at = j->in[1];
    int64_t shape[ENGINE_MAX_RANK];
    struct grid g;
    if (x->dtype != ENGINE_F32 || at->dtype != ENGINE_F32 || x->rank < 4 || x->rank > 5 ||
        at->rank != x->rank || at->shape[0] != x->shape[0] || at->shape[x->rank - 1] != x->rank - 2)
        return shape_wrong(j, e,
                           "expected float32 images of two or three axes, and a grid for each");
    for (unsigned i = 2; i < x->rank; i++) {
        if (x->shape[i] < 1)
            return shape_wrong(j, e, "expected images of one pixel or more");
    }
    if (!grid_of(j->node, &g))
        return shape_wrong(j, e, "mode, padding_mode: not known");
    shape[0] = x->shape[0];
    shape[1] = x->shape[1];
    for (unsigned i = 2; i < x->rank; i++)
        shape[i] = at->shape[i - 1];
    return shape_make(j, ENGINE_F32, x->rank, shape, e);
}

bool shape_affine_grid(struct job *j, struct engine_error *e)
{
    const struct array *t = j->in[0], *size = j->in[1];
    int64_t shape[ENGINE_MAX_RANK];
    if (t->dtype != ENGINE_F32 || t->rank != 3 || size->dtype != ENGINE_I64 || size->rank != 1 ||
        !size->data || size->shape[0] < 4 || size->shape[0] > 5)
        return shape_wrong(
            j, e, "expected float32 matrices, and a size of four or five, known from shapes");
    const int64_t *s = size->data, n = size->shape[0] - 2;
    if (t->shape[0] != s[0] || t->shape[1] != n || t->shape[2] != n + 1)
        return shape_wrong(j, e, "theta: expected one matrix a row, of as many axes");
    shape[0] = s[0];
    for (int64_t i = 0; i < n; i++)
        shape[1 + i] = s[2 + i];
    shape[1 + n] = n;
    return shape_make(j, ENGINE_F32, (unsigned)n + 2, shape, e);
}

bool shape_roi_align(struct job *j, struct engine_error *e)
{
    static const char *const modes[] = {"avg", NULL}, *const places[] = {"half_pixel",
                                                                         "output_half_pixel", NULL};
    const struct array *x = j->in[0], *rois = j->in[1], *at = j->in[2];
    int64_t h = node_int(j->node, "output_height", 1), w = node_int(j->node, "output_width", 1);
    int64_t ratio = node_int(j->node, "sampling_ratio", 0);
    if (x->dtype != ENGINE_F32 || rois->dtype != ENGINE_F32 || at->dtype != ENGINE_I64 ||
        x->rank != 4 || rois->rank != 2 || rois->shape[1] != 4 || at->rank != 1 ||
        at->shape[0] != rois->shape[0] || x->shape[2] < 1 || x->shape[3] < 1)
        return shape_wrong(
            j, e, "expected float32 images, regions of four numbers, an int64 image of each");
    if (choice(j->node, "mode", modes, 0) < 0 ||
        choice(j->node, "coordinate_transformation_mode", places, j->node->opset < 16) < 0)
        return shape_wrong(j, e, "mode: expected avg; coordinate_transformation_mode: not known");
    if (h < 1 || w < 1 || h > 1 << 12 || w > 1 << 12 || ratio < 0 || ratio > 64)
        return shape_wrong(j, e, "output_height, output_width, sampling_ratio: out of range");
    return shape_make(j, ENGINE_F32, 4, (int64_t[]){rois->shape[0], x->shape[1], h, w}, e);
}

bool shape_det(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    if (!is_float(x) || x->rank < 2 || x->shape[x->rank - 1] != x->shape[x->rank - 2])
        return shape_wrong(j, e, "expected square matrices of floats");
    return shape_make(j, x->dtype, x->rank - 2, x->shape, e);
}

// ---- Einsum ------------------------------------------------------------------------------------------

struct equation {
    struct view text;
    size_t at;
};

static int next_letter(struct equation *q)
{
    while (q->at < q->text.n && q->text.p[q->at] == ' ')
        q->at++;
    return q->at < q->text.n ? (unsigned char)q->text.p[q->at++] : -1;
}

static int letter_label(int c)
{
    if (c >= 'a' && c <= 'z')
        return c - 'a';
    return c >= 'A' && c <= 'Z' ? 26 + c - 'A' : -1;
}

// "..." after a dot.
static bool read_dots(struct equation *q)
{
    int second = next_letter(q), third = next_letter(q);
    return second == '.' && third == '.';
}

// Labels of one term up to , or - or the end, which is *end. hidden: axes that stand for the dots.
static bool read_term(struct equation *q, unsigned hidden, uint8_t *labels, unsigned *n, bool *dots,
                      int *end)
{
    *n = 0;
    *dots = false;
    while ((*end = next_letter(q)) >= 0 && *end != ',' && *end != '-') {
        int label = letter_label(*end);
        if (*end == '.') {
            if (*dots || !read_dots(q) || *n + hidden > ENGINE_MAX_RANK)
                return false;
            *dots = true;
            for (unsigned i = 0; i < hidden; i++)
                labels[(*n)++] = (uint8_t)(EINSUM_HIDDEN + ENGINE_MAX_RANK - hidden + i);
        } else if (label < 0 || *n == ENGINE_MAX_RANK) {
            return false;
        } else {
            labels[(*n)++] = (uint8_t)label;
        }
    }
    return true;
}

static unsigned letters_of(struct equation q)
{
    unsigned n = 0;
    int c;
    while ((c = next_letter(&q)) >= 0 && c != ',' && c != '-')
        n += letter_label(c) >= 0;
    return n;
}

static bool bind_term(struct einsum *s, unsigned k, const struct array *a, unsigned n)
{
    if (n != a->rank)
        return false;
    for (unsigned i = 0; i < n; i++) {
        int64_t *dim = &s->dim[s->labels[k][i]];
        bool hidden = s->labels[k][i] >= EINSUM_HIDDEN; // these may be broadcast
        if (a->shape[i] == 0)
            return false;
        if (*dim != 0 && *dim != a->shape[i] && !(hidden && (*dim == 1 || a->shape[i] == 1)))
            return false;
        *dim = *dim == 0 || *dim == 1 ? a->shape[i] : *dim;
    }
    return true;
}

// What stands once, in the alphabet's order, behind the dots. False: it is more than there may be.
static bool implicit_output(struct einsum *s, const unsigned *seen, unsigned hidden)
{
    for (unsigned i = 0; i < hidden; i++)
        s->out[s->n_out++] = (uint8_t)(EINSUM_HIDDEN + ENGINE_MAX_RANK - hidden + i);
    static const char order[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for (unsigned i = 0; order[i]; i++) {
        int label = letter_label(order[i]);
        if (seen[label] != 1)
            continue;
        if (s->n_out == ENGINE_MAX_RANK)
            return false;
        s->out[s->n_out++] = (uint8_t)label;
    }
    return true;
}

bool einsum_of(const struct job *job, struct einsum *s)
{
    struct job *j = (struct job *)job;
    const struct attr *text = node_attr(j->node, "equation");
    struct equation q = {.text = text ? text->s : VIEW("")};
    unsigned hidden_most = 0, n, seen[EINSUM_LABELS] = {0};
    int end = ',';
    bool dots;
    memset(s, 0, sizeof(*s));
    if (j->node->n_inputs > EINSUM_INPUTS)
        return false;
    for (unsigned k = 0; k < j->node->n_inputs; k++) {
        unsigned letters = letters_of(q), rank = j->in[k]->rank;
        unsigned hidden = rank > letters ? rank - letters : 0;
        if (end != ',' || !read_term(&q, hidden, s->labels[k], &n, &dots, &end) ||
            !bind_term(s, k, j->in[k], n))
            return false;
        hidden_most = dots && hidden > hidden_most ? hidden : hidden_most;
        for (unsigned i = 0; i < n; i++)
            seen[s->labels[k][i]]++;
    }
    if (end == '-') {
        if (next_letter(&q) != '>' || !read_term(&q, hidden_most, s->out, &s->n_out, &dots, &end) ||
            end >= 0)
            return false;
    } else if (end == ',' || !implicit_output(s, seen, hidden_most)) {
        return false;
    }
    unsigned placed[EINSUM_LABELS] = {0};
    for (unsigned i = 0; i < s->n_out; i++) {
        if (seen[s->out[i]] == 0 || placed[s->out[i]]++)
            return false;
        s->order[s->n_order++] = s->out[i];
    }
    for (unsigned l = 0; l < EINSUM_LABELS; l++) { // then what is summed
        if (seen[l] && !placed[l])
            s->order[s->n_order++] = (uint8_t)l;
    }
    return true;
}

bool shape_einsum(struct job *j, struct engine_error *e)
{
    enum engine_dtype d = j->in[0]->dtype;
    int64_t shape[ENGINE_MAX_RANK];
    struct einsum s;
    if (d != ENGINE_F32 && d != ENGINE_F64 && d != ENGINE_I32 && d != ENGINE_I64)
        return shape_wrong(j, e, "expected floats, int32 or int64");
    for (unsigned i = 0; i < j->node->n_inputs; i++) {
        if (!j->in[i] || j->in[i]->dtype != d)
            return shape_wrong(j, e, "expected inputs of one datatype");
    }
    if (!einsum_of(j, &s))
        return shape_wrong(
            j, e,
            "equation: does not fit the inputs, or its answer has more than " RANK_TEXT
            " dimensions");
    for (unsigned i = 0; i < s.n_out; i++)
        shape[i] = s.dim[s.out[i]];
    return shape_make(j, d, s.n_out, shape, e);
}

// ---- signals -----------------------------------------------------------------------------------------

bool shape_window_function(struct job *j, struct engine_error *e)
{
    int64_t to = node_int(j->node, "output_datatype", 1);
    enum engine_dtype d = to > 0 ? dtype_inside(dtype_from_onnx((uint64_t)to)) : ENGINE_NONE;
    double n;
    if (!known_number(j->in[0], &n) || !(n >= 0 && n <= INT32_MAX) || j->in[0]->dtype == ENGINE_F32)
        return shape_wrong(j, e, "size: expected a number that is known from shapes");
    if (d != ENGINE_F32 && d != ENGINE_F64)
        return shape_wrong(j, e, "output_datatype: expected floats");
    return shape_make(j, d, 1, &(int64_t){(int64_t)n}, e);
}

bool shape_mel_weights(struct job *j, struct engine_error *e)
{
    double v[5];
    int64_t to = node_int(j->node, "output_datatype", 1);
    if (to != 1)
        return shape_wrong(j, e, "output_datatype: expected float32");
    for (unsigned i = 0; i < 5; i++) {
        if (!known_number(j->in[i], &v[i]))
            return shape_wrong(j, e, "expected five numbers that are known from shapes");
    }
    if (!(v[0] >= 1 && v[0] <= 1 << 16) || !(v[1] >= 1 && v[1] <= 1 << 24) || !(v[2] >= 1) ||
        !(v[3] >= 0) || !(v[4] > v[3]) || v[4] > v[2] / 2)
        return shape_wrong(j, e, "expected bins, a length, a rate, and edges below half of it");
    return shape_make(j, ENGINE_F32, 2, (int64_t[]){(int64_t)v[1] / 2 + 1, (int64_t)v[0]}, e);
}

bool dft_of(const struct job *job, struct dft *d, struct engine_error *e)
{
    struct job *j = (struct job *)job;
    const struct array *x = j->in[0], *length = job_input(j, 1), *axis = job_input(j, 2);
    double n, a = j->node->opset < 20 ? (double)node_int(j->node, "axis", 1) : -2;
    bool one = node_int(j->node, "onesided", 0) != 0;
    d->inverse = node_int(j->node, "inverse", 0) != 0;
    if (!is_float(x) || x->rank < 2 || (x->shape[x->rank - 1] != 1 && x->shape[x->rank - 1] != 2))
        return shape_wrong(
            j, e, "expected floats whose last axis is one number, or two of a complex one");
    if ((axis && !known_number(axis, &a)) || a != floor(a) || a < -(double)x->rank ||
        a >= (double)x->rank)
        return shape_wrong(j, e,
                           "axis: expected a number that is known from shapes, within the input");
    d->axis = (unsigned)(a < 0 ? a + x->rank : a);
    d->pair = x->shape[x->rank - 1] == 2;
    if (d->axis == x->rank - 1 || (one && (d->inverse || d->pair)))
        return shape_wrong(
            j, e, "axis: expected another one; onesided: expected real numbers, not inverse");
    n = (double)x->shape[d->axis];
    if (length && (!known_number(length, &n) || n != floor(n)))
        return shape_wrong(j, e, "dft_length: expected a number that is known from shapes");
    if (!(n >= 1 && n <= 1 << 20))
        return shape_wrong(j, e, "dft_length: expected 1 to 2^20");
    d->n = (int64_t)n;
    d->outs = one ? d->n / 2 + 1 : d->n;
    return true;
}

bool check_dft(struct job *j, struct engine_error *e)
{
    return node_int(j->node, "onesided", 0) == 0 || node_int(j->node, "inverse", 0) == 0 ||
           shape_wrong(j, e, "onesided: expected real numbers, not inverse");
}

bool shape_dft(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    int64_t shape[ENGINE_MAX_RANK];
    struct dft d;
    if (!dft_of(j, &d, e))
        return false;
    memcpy(shape, x->shape, sizeof(shape));
    shape[d.axis] = d.outs;
    shape[x->rank - 1] = 2;
    return shape_make(j, x->dtype, x->rank, shape, e);
}

bool stft_of(const struct job *job, struct stft *s, struct engine_error *e)
{
    struct job *j = (struct job *)job;
    const struct array *x = j->in[0], *window = job_input(j, 2);
    double step, length = 0;
    bool one = node_int(j->node, "onesided", 1) != 0;
    if (!is_float(x) || x->rank != 3 || x->shape[2] != 1)
        return shape_wrong(j, e, "expected real signals, [rows, length, 1], of floats");
    if (!known_number(j->in[1], &step) || !(step >= 1 && step <= INT32_MAX) || step != floor(step))
        return shape_wrong(j, e, "frame_step: expected a number that is known from shapes");
    if (window && (window->rank != 1 || window->dtype != x->dtype))
        return shape_wrong(j, e, "window: expected a vector of the input's datatype");
    length = window ? (double)window->shape[0] : 0;
    if (job_input(j, 3) && !known_number(j->in[3], &length))
        return shape_wrong(j, e, "frame_length: expected a number that is known from shapes");
    if (!(length >= 1 && length <= 1 << 20) || length > (double)x->shape[1] ||
        length != floor(length) || (window && (double)window->shape[0] != length))
        return shape_wrong(j, e, "frame_length: expected the window's, within the signal");
    s->n = (int64_t)length;
    s->step = (int64_t)step;
    s->frames = (x->shape[1] - s->n) / s->step + 1;
    s->outs = one ? s->n / 2 + 1 : s->n;
    return true;
}

bool shape_stft(struct job *j, struct engine_error *e)
{
    struct stft s;
    return stft_of(j, &s, e) && shape_make(j, j->in[0]->dtype, 4,
                                           (int64_t[]){j->in[0]->shape[0], s.frames, s.outs, 2}, e);
}
