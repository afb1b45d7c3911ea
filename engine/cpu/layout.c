// Channels last: images [N, C, H, W] become [N, H, W, C] from the first convolution that oneDNN takes on, and
// stay so through what can work on either form. The graph itself is rewritten, so that nobody after this
// file knows of layouts: a convolution or pool becomes its twin of the other form, element-wise ops take
// the other form's values, and a Transpose stands wherever the forms meet. A Transpose of the file that
// does the same falls away.
//
// Each value of the file has up to two forms: itself (`made`: some node of the new list makes it) and its
// twin (`twin[v]`, the channels-last value; -1: none). Invariant: what the new list has made so far is in
// order; a form that is missing is made from the other one by the node that first asks for it.
#include "engine/cpu/cpu.h"

// Multiplications of one image from which on a convolution is worth a call into the library. Measured: even
// the demo model's first one (4,608, an image of 8 by 8) gains; below a call costs more than the work.
#define WORTH 2000

// ---- the ops of the other form -----------------------------------------------------------------------

static bool shape_conv_last(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *k = j->in[1];
    struct window w;
    if (!window_of(j, 1, &k->shape[2], &w, e))
        return false;
    struct conv c = cpu_conv_of(j, 1);
    if (x->shape[3] != c.groups * c.channels)
        return shape_wrong(j, e, "the channels of image, kernel and group do not fit");
    if (!onednn_conv_takes(&c))
        return shape_wrong(j, e, "its images are too large");
    return shape_make(j, ENGINE_F32, 4, (int64_t[]){x->shape[0], w.out[0], w.out[1], k->shape[0]},
                      e);
}

static bool shape_pool_last(struct job *j, struct engine_error *e)
{
    const int64_t *x = j->in[0]->shape;
    struct window w;
    return pool_window(j, 1, &w, e) &&
           shape_make(j, ENGINE_F32, 4, (int64_t[]){x[0], w.out[0], w.out[1], x[3]}, e);
}

static bool shape_global_pool_last(struct job *j, struct engine_error *e)
{
    const int64_t *x = j->in[0]->shape;
    return shape_make(j, ENGINE_F32, 4, (int64_t[]){x[0], 1, 1, x[3]}, e);
}

static const struct op conv_last = {.name = LAST_CONV,
                                    .min_inputs = 2,
                                    .max_inputs = 3,
                                    .shape = shape_conv_last,
                                    .work = conv_work};
static const struct op max_pool_last = {.name = LAST_MAX_POOL,
                                        .min_inputs = 1,
                                        .max_inputs = 1,
                                        .shape = shape_pool_last,
                                        .work = pool_work};
static const struct op average_pool_last = {.name = LAST_AVERAGE_POOL,
                                            .min_inputs = 1,
                                            .max_inputs = 1,
                                            .shape = shape_pool_last,
                                            .work = pool_work};
static const struct op global_average_pool_last = {.name = LAST_GLOBAL_AVERAGE_POOL,
                                                   .min_inputs = 1,
                                                   .max_inputs = 1,
                                                   .shape = shape_global_pool_last};

// ---- the rewriting -----------------------------------------------------------------------------------

struct rewrite {
    struct graph *g;
    const struct array *arrays; // shapes for one row, by the file's values
    struct node *nodes;         // the new list
    unsigned n_nodes, cap_nodes, cap_values;
    unsigned n_old; // values of the file
    int32_t *twin;  // [n_old]
    bool *made;     // [n_old]
    bool failed;    // with e
    unsigned threads;
    struct engine_error *e;
};

static void *no_memory(struct rewrite *r)
{
    r->failed = !engine_fail(r->e, "out of memory");
    return NULL;
}

static int64_t to_last[4] = {0, 2, 3, 1}, to_first[4] = {0, 3, 1, 2};

static struct attr *perm_attr(struct rewrite *r, int64_t *perm)
{
    struct attr *a = arena_zalloc(&r->g->arena, sizeof(*a));
    if (a)
        *a = (struct attr){.name = VIEW("perm"), .kind = ATTR_INTS, .ints = perm, .n = 4};
    return a;
}

// The axes of four that a Transpose moves; NULL: it is another node.
static const int64_t *moved_axes(const struct node *n)
{
    const struct attr *perm = view_is(n->type, "Transpose") ? node_attr(n, "perm") : NULL;
    return perm && perm->kind == ATTR_INTS && perm->n == 4 ? perm->ints : NULL;
}

// Where a Transpose has just made *from: *from is what that one reads, and both are one. NULL: out of memory.
static int64_t *both_moves(struct rewrite *r, int32_t *from, int64_t *perm)
{
    const struct node *last = r->n_nodes > 0 ? &r->nodes[r->n_nodes - 1] : NULL;
    const int64_t *first = last && last->output[0] == *from ? moved_axes(last) : NULL;
    if (!first)
        return perm;
    int64_t *both = arena_array(&r->g->arena, 4, sizeof(*both));
    for (unsigned i = 0; both && i < 4; i++)
        both[i] = first[perm[i]];
    *from = last->input[0];
    return both;
}

static struct node *add_node(struct rewrite *r, const struct node *like)
{
    if (r->n_nodes == r->cap_nodes)
        return no_memory(r);
    r->nodes[r->n_nodes] = *like;
    return &r->nodes[r->n_nodes++];
}

static int32_t add_value(struct rewrite *r, struct view name)
{
    struct graph *g = r->g;
    if (g->n_values == r->cap_values) {
        no_memory(r);
        return 0;
    }
    g->values[g->n_values] = (struct value){.name = name, .maker = -1};
    return (int32_t)g->n_values++;
}

static void set_op(struct rewrite *r, struct node *n, const struct op *op)
{
    r->failed |= !node_set(r->g, n, op, r->e);
}

static void transpose(struct rewrite *r, int32_t from, int32_t to, int64_t *perm)
{
    struct view name = r->g->values[from].name;
    perm = both_moves(r, &from, perm);
    struct node *n = add_node(r, &(struct node){.name = name,
                                                .type = VIEW("Transpose"),
                                                .n_inputs = 1,
                                                .n_outputs = 1,
                                                .n_attrs = 1,
                                                .attrs = perm ? perm_attr(r, perm) : NULL,
                                                .opset = r->g->opset});
    if (!n || !n->attrs) {
        no_memory(r);
        return;
    }
    set_op(r, n, op_find(VIEW("Transpose"), VIEW("")));
    n->input[0] = from;
    n->output[0] = to;
}

// ---- the two forms of a value ------------------------------------------------------------------------

static int32_t first_form(struct rewrite *r, int32_t v)
{
    if (v >= 0 && !r->made[v]) {
        r->made[v] = true;
        transpose(r, r->twin[v], v, to_first);
    }
    return v;
}

static int32_t last_form(struct rewrite *r, int32_t v)
{
    if (r->twin[v] < 0) {
        int32_t t = add_value(r, r->g->values[v].name);
        transpose(r, v, t, to_last);
        r->twin[v] = t;
    }
    return r->twin[v];
}

// n's answer in the other form: a new value.
static void answer_last(struct rewrite *r, struct node *n)
{
    int32_t y = n->output[0];
    n->output[0] = r->twin[y] = add_value(r, r->g->values[y].name);
}

// ---- convolutions ------------------------------------------------------------------------------------

static const float *constant_of(const struct rewrite *r, const struct node *n, unsigned i)
{
    return i < n->n_inputs && n->input[i] >= 0 ? r->g->values[n->input[i]].array.data : NULL;
}

static bool is_constant(const struct rewrite *r, const struct node *n, unsigned i)
{
    return i >= n->n_inputs || n->input[i] < 0 || r->g->values[n->input[i]].constant;
}

static bool is_worth_it(const struct rewrite *r, const struct node *n, const struct conv *c)
{
    const struct window *w = &c->w;
    double work = (double)c->groups * (double)c->outs * (double)c->channels * (double)w->kernel[0] *
                  (double)w->kernel[1] * (double)w->out[0] * (double)w->out[1];
    return work >= WORTH || r->twin[n->input[0]] >= 0;
}

static bool rewrite_conv(struct rewrite *r, const struct node *n)
{
    struct array w;
    struct node copy = *n;
    struct job j = {.node = &copy, .in = {&r->arrays[n->input[0]], &w}};
    if (r->arrays[n->input[0]].rank != 4 || !is_constant(r, n, 1) || !is_constant(r, n, 2))
        return false;
    w = r->g->values[n->input[1]].array;
    struct conv c = cpu_conv_of(&j, 2);
    if (j.in[0]->shape[0] != 1 || !is_worth_it(r, n, &c))
        return false;
    copy.prepared =
        onednn_conv_new(&c, constant_of(r, n, 1), constant_of(r, n, 2), n->relu, r->threads);
    if (!copy.prepared)
        return false;
    set_op(r, &copy, &conv_last);
    struct node *to = NULL;
    int32_t x = last_form(r, n->input[0]);
    r->failed |= !graph_charge(r->g, onednn_conv_bytes(copy.prepared), r->e);
    if (!r->failed)
        to = add_node(r, &copy);
    if (!to) { // the load fails: nobody else will know of it
        onednn_conv_free(copy.prepared);
        return true;
    }
    node_release(r->g, n, 1);
    to->input[0] = x;
    answer_last(r, to);
    return true;
}

// ---- what may stand between --------------------------------------------------------------------------

static bool is_one_of(const struct node *n, const char *const *names)
{
    for (; *names; names++) {
        if (view_is(n->type, *names))
            return true;
    }
    return false;
}

static bool rewrite_unary(struct rewrite *r, const struct node *n)
{
    static const char *const same[] = {"Relu",     "Exp",         "Sigmoid",   "Tanh",      "Clip",
                                       "Identity", "HardSigmoid", "HardSwish", "LeakyRelu", "Elu",
                                       "Gelu",     "Mish",        "Sqrt",      "Abs",       "Neg",
                                       "Erf",      "Softplus",    NULL};
    const struct op *op = NULL;
    if (is_one_of(n, same))
        op = n->op;
    else if (view_is(n->type, "MaxPool") && (n->n_outputs < 2 || n->output[1] < 0))
        op = &max_pool_last;
    else if (view_is(n->type, "AveragePool") && node_int(n, "ceil_mode", 0) == 0)
        op = &average_pool_last;
    else if (view_is(n->type, "GlobalAveragePool"))
        op = &global_average_pool_last;
    if (!op || r->twin[n->input[0]] < 0)
        return false;
    for (unsigned i = 1; i < n->n_inputs; i++) // Clip's bounds
        first_form(r, n->input[i]);
    struct node *to = add_node(r, n);
    if (to) {
        set_op(r, to, op);
        to->input[0] = r->twin[n->input[0]];
        answer_last(r, to);
    }
    return true;
}

// An operand that the channels-last form of the other one can take: its twin (both have four dimensions, so
// what is broadcast in one form is in the other), or a constant that is one number, or one a channel
// ([C, 1, 1] or [1, C, 1, 1] become [C]). -1: neither.
static int32_t operand(struct rewrite *r, int32_t v, const struct array *other)
{
    const struct value *value = &r->g->values[v];
    struct array a = r->arrays[v];
    size_t n = 0;
    if (r->twin[v] >= 0)
        return r->twin[v];
    if (!value->constant || a.rank > 4 || !array_count(&a, &n))
        return -1;
    if (n == 1)
        return v;
    if (a.rank < 3 || a.shape[a.rank - 3] != other->shape[1] || n != (size_t)other->shape[1])
        return -1;
    a.rank = 1;
    a.shape[0] = (int64_t)n;
    a.data = graph_alloc(r->g, n * sizeof(float), r->e);
    if (!a.data) {
        r->failed = true;
        return -1;
    }
    memcpy(a.data, value->array.data, n * sizeof(float));
    int32_t flat = add_value(r, value->name);
    r->g->values[flat].array = a;
    r->g->values[flat].constant = true;
    return flat;
}

static bool rewrite_binary(struct rewrite *r, const struct node *n)
{
    static const char *const names[] = {"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", NULL};
    int32_t in[2];
    if (!is_one_of(n, names) || n->n_inputs != 2 ||
        (r->twin[n->input[0]] < 0 && r->twin[n->input[1]] < 0))
        return false;
    const struct array *image = &r->arrays[n->input[r->twin[n->input[0]] >= 0 ? 0 : 1]];
    for (unsigned i = 0; i < 2; i++) {
        in[i] = operand(r, n->input[i], image);
        if (in[i] < 0)
            return false;
    }
    struct node *to = add_node(r, n);
    if (to) {
        to->input[0] = in[0];
        to->input[1] = in[1];
        answer_last(r, to);
    }
    return true;
}

// A Transpose from one form to the other is what we have already.
static bool rewrite_transpose(struct rewrite *r, const struct node *n)
{
    const int64_t *perm = moved_axes(n);
    int32_t x = n->input[0], y = n->output[0];
    if (!perm)
        return false;
    if (memcmp(perm, to_first, sizeof(to_first)) == 0) {
        r->twin[y] = first_form(r, x);
        return true;
    }
    if (memcmp(perm, to_last, sizeof(to_last)) != 0 || r->twin[x] < 0)
        return false;
    struct node *to = add_node(r, n);
    if (to) {
        set_op(r, to, op_find(VIEW("Identity"), VIEW("")));
        to->type = VIEW("Identity");
        to->input[0] = r->twin[x];
        r->made[y] = true;
    }
    return true;
}

// ---- the whole graph ---------------------------------------------------------------------------------

static void copy_as_it_is(struct rewrite *r, const struct node *n)
{
    for (unsigned i = 0; i < n->n_inputs; i++)
        first_form(r, n->input[i]);
    for (unsigned i = 0; i < n->n_captures; i++)
        first_form(r, n->captures[i]);
    add_node(r, n);
    for (unsigned i = 0; i < n->n_outputs; i++) {
        if (n->output[i] >= 0)
            r->made[n->output[i]] = true;
    }
}

static bool rewrite_begin(struct rewrite *r)
{
    struct graph *g = r->g;
    r->n_old = g->n_values;
    r->cap_nodes = 3 * g->n_nodes + g->n_inputs; // a node, and both forms of what it makes
    r->cap_values = g->n_values + 3 * g->n_nodes + g->n_inputs;
    struct value *values = arena_array(&g->arena, r->cap_values + 1, sizeof(*values));
    r->nodes = arena_array(&g->arena, r->cap_nodes + 1, sizeof(*r->nodes));
    r->twin = arena_array(&g->arena, r->n_old + 1, sizeof(*r->twin));
    r->made = arena_zalloc(&g->arena, r->n_old + 1);
    if (!values || !r->nodes || !r->twin || !r->made)
        return false;
    memcpy(values, g->values, g->n_values * sizeof(*values));
    g->values = values;
    for (unsigned v = 0; v < r->n_old; v++) {
        r->twin[v] = -1;
        r->made[v] = values[v].constant;
    }
    for (unsigned i = 0; i < g->n_inputs; i++)
        r->made[g->inputs[i]] = true;
    return true;
}

// Is there anything to gain? Most models have no convolution.
static bool has_conv(const struct graph *g)
{
    for (unsigned i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].op && view_is(g->nodes[i].type, "Conv"))
            return true;
    }
    return false;
}

// The new list, in r; true when the library does any convolution in it.
static bool rewrite_all(struct rewrite *r)
{
    bool any = false;
    for (unsigned i = 0; i < r->g->n_nodes && !r->failed; i++) {
        const struct node *n = &r->g->nodes[i];
        if (!n->op)
            continue; // folded or fused
        if (view_is(n->type, "Conv") && rewrite_conv(r, n))
            any = true;
        else if (!rewrite_unary(r, n) && !rewrite_binary(r, n) && !rewrite_transpose(r, n))
            copy_as_it_is(r, n);
    }
    for (unsigned i = 0; i < r->g->n_outputs && !r->failed; i++)
        first_form(r, r->g->outputs[i]);
    return any;
}

bool cpu_layout(struct device *d, struct graph *g, const struct array *shapes, bool *changed,
                struct engine_error *e)
{
    const struct cpu_device *cpu = (const struct cpu_device *)d;
    struct rewrite r = {.g = g, .arrays = shapes, .threads = cpu->options.threads, .e = e};
    *changed = false;
    if (cpu->options.plain || !has_conv(g))
        return true;
    if (!rewrite_begin(&r))
        return engine_fail(e, "out of memory");
    *changed = rewrite_all(&r);
    g->nodes = r.nodes; // owned by the graph from here on, also when this load fails
    g->n_nodes = r.n_nodes;
    if (!r.failed)
        graph_readers(g);
    return !r.failed;
}
