// oneDNN behind one door: convolutions whose image and answer stand channels last (NHWC). Debian 12 has its
// C API 2.6, Debian 13 has 3.7; the difference is the block "two versions" below and nothing else.
//
// A primitive is made for one image, once, when the model is loaded; a batch runs it image by image. So a
// row has the same bits alone and in any batch, whatever the library would choose for larger batches, and
// plans for 64 different numbers of rows share one set of kernels and one copy of the weights. Where the
// images' size is free, another size has a primitive of its own, on the same weights, which all plans share that
// have that size at a time.
//
// Library facts relied on (oneDNN's documentation, "Primitive cache", "Managing scratchpad", "Stream"):
// with a scratchpad of the caller's a primitive may run on several threads at a time; memory objects and
// streams may not be shared, so each plan has its own (struct run).
#include "base/check.h"
#include "base/mem.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/curves.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdatomic.h>

// ---- two versions ------------------------------------------------------------------------------------

#if DNNL_VERSION_MAJOR < 3
#define LAYOUT const dnnl_memory_desc_t * // how a memory descriptor is passed
struct layout {
    dnnl_memory_desc_t desc;
};
static LAYOUT layout_get(const struct layout *l)
{
    return &l->desc;
}
static bool layout_init(struct layout *l, int n, const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(&l->desc, n, dims, dnnl_f32, tag) == dnnl_success;
}
static void layout_deinit(struct layout *l)
{
    (void)l;
}
static dnnl_status_t describe(dnnl_primitive_desc_t *out, dnnl_engine_t engine, LAYOUT x, LAYOUT w,
                              LAYOUT bias, LAYOUT y, dnnl_dims_t stride, dnnl_dims_t dilation,
                              dnnl_dims_t before, dnnl_dims_t after, dnnl_primitive_attr_t attr)
{
    dnnl_convolution_desc_t d;
    dnnl_status_t s = dnnl_dilated_convolution_forward_desc_init(
        &d, dnnl_forward_inference, dnnl_convolution_direct, x, w, bias, y, stride, dilation,
        before, after);
    return s != dnnl_success ? s : dnnl_primitive_desc_create(out, &d, attr, engine, NULL);
}
#else
#define LAYOUT const_dnnl_memory_desc_t
struct layout {
    dnnl_memory_desc_t desc;
};
static LAYOUT layout_get(const struct layout *l)
{
    return l->desc;
}
static bool layout_init(struct layout *l, int n, const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(&l->desc, n, dims, dnnl_f32, tag) == dnnl_success;
}
static void layout_deinit(struct layout *l)
{
    if (l->desc)
        dnnl_memory_desc_destroy(l->desc);
}
static dnnl_status_t describe(dnnl_primitive_desc_t *out, dnnl_engine_t engine, LAYOUT x, LAYOUT w,
                              LAYOUT bias, LAYOUT y, dnnl_dims_t stride, dnnl_dims_t dilation,
                              dnnl_dims_t before, dnnl_dims_t after, dnnl_primitive_attr_t attr)
{
    return dnnl_convolution_forward_primitive_desc_create(out, engine, dnnl_forward_inference,
                                                          dnnl_convolution_direct, x, w, bias, y,
                                                          stride, dilation, before, after, attr);
}
#endif

// ---- threads -----------------------------------------------------------------------------------------

// Multiplications of one image from which on a second thread pays: waking and joining it costs some ten
// microseconds and it waits by spinning. (Measured with two threads: all convolutions of the demo model
// together took twice as long as with one, those of ultraface_rfb320 two thirds.)
#define WORTH_THREADS 4e6

static unsigned threads_for(const struct conv *c, unsigned most)
{
    const struct window *w = &c->w;
    double work = (double)(c->groups * c->outs * c->channels) * (double)(w->out[0] * w->out[1]) *
                  (double)(w->kernel[0] * w->kernel[1]);
    return work >= WORTH_THREADS ? most : 1;
}

// OpenMP keeps the number of threads with each calling thread. A build of oneDNN on another runtime has no
// such call; Debian's are OpenMP.
#if DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_OMP
extern void omp_set_num_threads(int n); // <omp.h> is the compiler's, the library is oneDNN's
static void hold_threads(unsigned n)
{
    static __thread unsigned held;
    if (held != n)
        omp_set_num_threads((int)n);
    held = n;
}
#else
static void hold_threads(unsigned n)
{
    (void)n;
}
#endif

// ---- a convolution -----------------------------------------------------------------------------------

struct sized { // for images of one size
    struct window w;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    size_t image, answer; // elements of one image, in and out
    size_t scratch;       // bytes
    void *weights; // in the form that it wants, where that is another one; NULL: the convolution's
    struct sized *next;
    unsigned users; // plans; under the convolution's lock
};

struct onednn_conv {
    dnnl_engine_t engine; // its own: no global object
    struct sized first;   // for the images that it was loaded with
    void *weights, *bias; // as the primitive wants them; bias NULL: none
    size_t bytes;         // of weights and bias
    unsigned threads;
    bool relu;
    atomic_flag busy;     // held for a look at the list, never while a primitive is made
    struct sized *others; // sizes that plans have now
};

struct run { // what a plan needs of its own
    struct onednn_conv *conv;
    struct sized *sized;
    dnnl_stream_t stream;
    dnnl_memory_t memory[5];
    dnnl_exec_arg_t args[5];
    int n;
};

// What oneDNN's integers hold with room to spare; everything beyond stays on the plain kernels.
bool onednn_conv_takes(const struct conv *c)
{
    for (unsigned a = 0; a < 2; a++) {
        const struct window *w = &c->w;
        if (w->in[a] < 1 || w->in[a] > 1 << 13 || w->out[a] < 1 || w->out[a] > 1 << 13 ||
            w->kernel[a] > 31 || w->stride[a] > 16 || w->dilation[a] > 32 ||
            w->pad[a] > (w->kernel[a] - 1) * w->dilation[a])
            return false;
    }
    return c->groups <= 1 << 13 && c->channels <= 1 << 13 && c->outs <= 1 << 13 &&
           c->groups * c->channels <= 1 << 13 && c->groups * c->outs <= 1 << 13;
}

// A line that stands upright lies down: channels last the bytes are the same, and the library's kernels work on several
// pixels of a row at a time (a kernel of 5 over 512 pixels and 256 channels: 31 ms upright, 6 ms so).
static struct conv lying(const struct conv *upright)
{
    struct conv c = *upright;
    struct window *w = &c.w;
    const struct window *u = &upright->w;
    if (u->in[1] != 1 || u->out[1] != 1 || u->kernel[1] != 1 || u->in[0] == 1)
        return c;
    for (unsigned a = 0; a < 2; a++) {
        w->kernel[a] = u->kernel[1 - a];
        w->stride[a] = u->stride[1 - a];
        w->dilation[a] = u->dilation[1 - a];
        w->pad[a] = u->pad[1 - a];
        w->in[a] = u->in[1 - a];
        w->out[a] = u->out[1 - a];
    }
    return c;
}

struct layouts {
    struct layout x, w, plain_w, bias, y;
};

static bool layouts_init(struct layouts *l, const struct conv *c, bool bias)
{
    int64_t ins = c->groups * c->channels, outs = c->groups * c->outs;
    const struct window *w = &c->w;
    dnnl_dims_t x = {1, ins, w->in[0], w->in[1]}, y = {1, outs, w->out[0], w->out[1]}, b = {outs};
    dnnl_dims_t one = {outs, ins, w->kernel[0], w->kernel[1]};
    dnnl_dims_t grouped = {c->groups, c->outs, c->channels, w->kernel[0], w->kernel[1]};
    bool g = c->groups > 1;
    memset(l, 0, sizeof(*l));
    return layout_init(&l->x, 4, x, dnnl_nhwc) && layout_init(&l->y, 4, y, dnnl_nhwc) &&
           layout_init(&l->w, g ? 5 : 4, g ? grouped : one, dnnl_format_tag_any) &&
           layout_init(&l->plain_w, g ? 5 : 4, g ? grouped : one, g ? dnnl_goihw : dnnl_oihw) &&
           (!bias || layout_init(&l->bias, 1, b, dnnl_a));
}

static void layouts_deinit(struct layouts *l)
{
    layout_deinit(&l->x);
    layout_deinit(&l->w);
    layout_deinit(&l->plain_w);
    layout_deinit(&l->bias);
    layout_deinit(&l->y);
}

static bool make_desc(struct sized *s, dnnl_engine_t engine, const struct conv *c,
                      const struct layouts *l, LAYOUT weights, bool bias)
{
    dnnl_dims_t stride, dilation, before, after;
    dnnl_primitive_attr_t attr = NULL;
    for (unsigned a = 0; a < 2; a++) {
        const struct window *w = &c->w;
        stride[a] = w->stride[a];
        dilation[a] = w->dilation[a] - 1;
        before[a] = w->pad[a];
        // What it takes for out[a] windows; below 0 when the last pixels are never looked at.
        after[a] = (w->out[a] - 1) * w->stride[a] + (w->kernel[a] - 1) * w->dilation[a] + 1 -
                   w->in[a] - w->pad[a];
        after[a] = after[a] > 0 ? after[a] : 0;
    }
    bool ok =
        dnnl_primitive_attr_create(&attr) == dnnl_success &&
        dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) == dnnl_success &&
        describe(&s->desc, engine, layout_get(&l->x), weights, bias ? layout_get(&l->bias) : NULL,
                 layout_get(&l->y), stride, dilation, before, after, attr) == dnnl_success;
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return ok;
}

static LAYOUT wanted(const struct sized *s, dnnl_query_t what)
{
    return dnnl_primitive_desc_query_md(s->desc, what, 0);
}

// Kernels made for this machine only ("jit:avx2", "brgconv:avx512_core", "brdgmm_dw:..."): the library's
// portable loops ("ref...") and its detour over a matrix product are slower than ours.
static bool is_fast(const struct sized *s)
{
    const char *name = NULL;
    return dnnl_primitive_desc_query(s->desc, dnnl_query_impl_info_str, 0, (void *)&name) ==
               dnnl_success &&
           name && !strstr(name, "ref") && !strstr(name, "gemm");
}

// A copy in another form; NULL: out of memory.
static void *reorder(dnnl_engine_t engine, LAYOUT from, const void *data, LAYOUT to)
{
    size_t bytes = dnnl_memory_desc_get_size(to);
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t primitive = NULL;
    dnnl_memory_t from_memory = NULL, to_memory = NULL;
    dnnl_stream_t stream = NULL;
    void *copy = mem_alloc_aligned(bytes ? bytes : 1, 64);
    bool ok =
        copy &&
        dnnl_reorder_primitive_desc_create(&desc, from, engine, to, engine, NULL) == dnnl_success &&
        dnnl_primitive_create(&primitive, desc) == dnnl_success &&
        dnnl_memory_create(&from_memory, from, engine, (void *)data) == dnnl_success &&
        dnnl_memory_create(&to_memory, to, engine, copy) == dnnl_success &&
        dnnl_stream_create(&stream, engine, dnnl_stream_default_flags) == dnnl_success;
    if (ok) {
        dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from_memory}, {DNNL_ARG_TO, to_memory}};
        ok = dnnl_primitive_execute(primitive, stream, 2, args) == dnnl_success &&
             dnnl_stream_wait(stream) == dnnl_success;
    }
    if (stream)
        dnnl_stream_destroy(stream);
    if (from_memory)
        dnnl_memory_destroy(from_memory);
    if (to_memory)
        dnnl_memory_destroy(to_memory);
    if (primitive)
        dnnl_primitive_destroy(primitive);
    if (desc)
        dnnl_primitive_desc_destroy(desc);
    if (!ok)
        mem_free(copy);
    return ok ? copy : NULL;
}

static bool keep_weights(struct onednn_conv *o, const struct layouts *l, const float *weights)
{
    LAYOUT to = wanted(&o->first, dnnl_query_weights_md);
    o->weights = reorder(o->engine, layout_get(&l->plain_w), weights, to);
    o->bytes += dnnl_memory_desc_get_size(to);
    return o->weights != NULL;
}

static bool keep_bias(struct onednn_conv *o, const struct conv *c, const float *bias)
{
    size_t bytes = (size_t)(c->groups * c->outs) * sizeof(float);
    if (!bias)
        return true;
    o->bias = mem_alloc_aligned(bytes, 64);
    o->bytes += bytes;
    if (o->bias)
        memcpy(o->bias, bias, bytes);
    return o->bias != NULL;
}

static void sized_deinit(struct sized *s)
{
    if (s->primitive)
        dnnl_primitive_destroy(s->primitive);
    if (s->desc)
        dnnl_primitive_desc_destroy(s->desc);
    mem_free(s->weights);
}

// The primitive of a described convolution, and what it needs.
static bool sized_make(struct sized *s, const struct conv *c)
{
    s->w = c->w;
    s->image = (size_t)(c->groups * c->channels * c->w.in[0] * c->w.in[1]);
    s->answer = (size_t)(c->groups * c->outs * c->w.out[0] * c->w.out[1]);
    s->scratch = dnnl_memory_desc_get_size(wanted(s, dnnl_query_scratchpad_md));
    return dnnl_primitive_create(&s->primitive, s->desc) == dnnl_success;
}

struct onednn_conv *onednn_conv_new(const struct conv *upright, const float *weights,
                                    const float *bias, bool relu, unsigned threads)
{
    const struct conv lies = lying(upright), *c = &lies;
    struct layouts l;
    struct onednn_conv *o = onednn_conv_takes(c) ? mem_zalloc(sizeof(*o)) : NULL;
    if (!o)
        return NULL;
    o->threads = threads_for(c, threads);
    o->relu = relu;
    hold_threads(o->threads);
    dnnl_set_primitive_cache_capacity(0); // what a model made goes with the model
    bool ok = layouts_init(&l, c, bias != NULL) &&
              dnnl_engine_create(&o->engine, dnnl_cpu, 0) == dnnl_success &&
              make_desc(&o->first, o->engine, c, &l, layout_get(&l.w), bias != NULL) &&
              is_fast(&o->first) && keep_weights(o, &l, weights) && keep_bias(o, c, bias) &&
              sized_make(&o->first, c);
    layouts_deinit(&l);
    if (!ok) {
        onednn_conv_free(o);
        return NULL;
    }
    return o;
}

void onednn_conv_free(struct onednn_conv *o)
{
    if (!o)
        return;
    sized_deinit(&o->first);
    if (o->engine)
        dnnl_engine_destroy(o->engine);
    mem_free(o->weights);
    mem_free(o->bias);
    mem_free(o);
}

size_t onednn_conv_bytes(const struct onednn_conv *o)
{
    return o->bytes;
}

size_t onednn_conv_scratch(const void *state)
{
    return ((const struct run *)state)->sized->scratch;
}

// ---- running -----------------------------------------------------------------------------------------

static bool bind(struct run *r, const struct onednn_conv *o, int arg, dnnl_query_t what, int index,
                 void *data)
{
    LAYOUT l = dnnl_primitive_desc_query_md(r->sized->desc, what, index);
    if (dnnl_memory_create(&r->memory[r->n], l, o->engine, data) != dnnl_success)
        return false;
    r->args[r->n] = (dnnl_exec_arg_t){arg, r->memory[r->n]};
    r->n++;
    return true;
}

// On the weights as they are, when the library has a fast kernel for them so.
static bool resize_as_it_is(struct sized *s, const struct onednn_conv *o, const struct conv *c,
                            const struct layouts *l)
{
    LAYOUT have = wanted(&o->first, dnnl_query_weights_md);
    if (make_desc(s, o->engine, c, l, have, o->bias != NULL) && is_fast(s))
        return true;
    if (s->desc)
        dnnl_primitive_desc_destroy(s->desc);
    s->desc = NULL;
    return false;
}

// On a copy of the weights in the form that its kernel wants. By way of the file's form: from one of its own to another
// the library goes element by element (192 by 192: 1.9 ms instead of 0.1).
static bool resize_with_copy(struct sized *s, const struct onednn_conv *o, const struct conv *c,
                             const struct layouts *l)
{
    LAYOUT have = wanted(&o->first, dnnl_query_weights_md);
    LAYOUT plain = layout_get(&l->plain_w);
    if (!make_desc(s, o->engine, c, l, layout_get(&l->w), o->bias != NULL))
        return false;
    void *between = reorder(o->engine, have, o->weights, plain);
    if (between)
        s->weights = reorder(o->engine, plain, between, wanted(s, dnnl_query_weights_md));
    mem_free(between);
    return s->weights != NULL;
}

static void sized_free(struct sized *s)
{
    sized_deinit(s);
    mem_free(s);
}

// For images of another size than the first; NULL: out of memory.
static struct sized *sized_new(const struct onednn_conv *o, const struct conv *c)
{
    struct layouts l;
    struct sized *s = mem_zalloc(sizeof(*s));
    if (!s)
        return NULL;
    bool ok = layouts_init(&l, c, o->bias != NULL) &&
              (resize_as_it_is(s, o, c, &l) || resize_with_copy(s, o, c, &l)) && sized_make(s, c);
    layouts_deinit(&l);
    if (ok)
        return s;
    sized_free(s);
    return NULL;
}

static void lock(struct onednn_conv *o)
{
    while (atomic_flag_test_and_set_explicit(&o->busy, memory_order_acquire))
        ;
}

static void unlock(struct onednn_conv *o)
{
    atomic_flag_clear_explicit(&o->busy, memory_order_release);
}

// The one that another plan has; NULL: none has.
static struct sized *sized_find(struct onednn_conv *o, const struct window *w)
{
    lock(o);
    struct sized *s = o->others;
    while (s && memcmp(&s->w, w, sizeof(*w)) != 0)
        s = s->next;
    if (s)
        s->users++;
    unlock(o);
    return s;
}

// Two threads may make the same at a time; then there are two.
static struct sized *sized_take(struct onednn_conv *o, const struct conv *c)
{
    if (memcmp(&c->w, &o->first.w, sizeof(c->w)) == 0)
        return &o->first;
    struct sized *s = sized_find(o, &c->w);
    if (s || !(s = sized_new(o, c)))
        return s;
    s->users = 1;
    lock(o);
    s->next = o->others;
    o->others = s;
    unlock(o);
    return s;
}

static void sized_give(struct onednn_conv *o, struct sized *s)
{
    if (s == &o->first)
        return;
    lock(o);
    bool last = --s->users == 0;
    struct sized **at = &o->others;
    while (last && *at != s)
        at = &(*at)->next;
    if (last)
        *at = s->next;
    unlock(o);
    if (last)
        sized_free(s);
}

enum { RUN_X, RUN_Y, RUN_SCRATCH }; // the first of a run's memory: bound anew at each run

void *onednn_conv_open(struct onednn_conv *o, const struct conv *upright)
{
    const struct conv c = lying(upright);
    struct run *r = mem_zalloc(sizeof(*r));
    if (!r)
        return NULL;
    hold_threads(o->threads);
    r->conv = o;
    r->sized = sized_take(o, &c);
    if (r->sized &&
        dnnl_stream_create(&r->stream, o->engine, dnnl_stream_default_flags) == dnnl_success &&
        bind(r, o, DNNL_ARG_SRC, dnnl_query_src_md, 0, NULL) &&
        bind(r, o, DNNL_ARG_DST, dnnl_query_dst_md, 0, NULL) &&
        bind(r, o, DNNL_ARG_SCRATCHPAD, dnnl_query_scratchpad_md, 0, NULL) &&
        bind(r, o, DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0,
             r->sized->weights ? r->sized->weights : o->weights) &&
        (!o->bias || bind(r, o, DNNL_ARG_BIAS, dnnl_query_weights_md, 1, o->bias)))
        return r;
    onednn_conv_close(r);
    return NULL;
}

void onednn_conv_close(void *state)
{
    struct run *r = state;
    for (int i = 0; i < r->n; i++)
        dnnl_memory_destroy(r->memory[i]);
    if (r->stream)
        dnnl_stream_destroy(r->stream);
    if (r->sized)
        sized_give(r->conv, r->sized);
    mem_free(r);
}

static void aim(struct run *r, int which, const void *at)
{
    dnnl_status_t s = dnnl_memory_set_data_handle(r->memory[which], (void *)at);
    invariant(s == dnnl_success);
}

void onednn_conv_run(const struct onednn_conv *o, void *state, const float *x, float *y,
                     size_t images, void *scratch)
{
    struct run *r = state;
    hold_threads(o->threads);
    aim(r, RUN_SCRATCH, scratch);
    for (size_t i = 0; i < images; i++) {
        aim(r, RUN_X, x + i * r->sized->image);
        aim(r, RUN_Y, y + i * r->sized->answer);
        // Everything it needs was taken when the model was loaded: what fails here is a bug.
        dnnl_status_t s = dnnl_primitive_execute(r->sized->primitive, r->stream, r->n, r->args);
        invariant(s == dnnl_success);
        dnnl_stream_wait(r->stream);
        if (o->relu) // the library's own makes 0 of what is not a number: an answer that looks right
            curve_relu(y + i * r->sized->answer, r->sized->answer);
    }
}
