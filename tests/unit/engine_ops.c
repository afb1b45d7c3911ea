// ONNX's own operator tests (Debian's libonnx-testdata): every model whose ops we all have runs on its
// recorded inputs and gives the recorded outputs, once as it is and once with its parameters (the inputs
// behind the first) as constants; what is refused is refused at load with the op's name, and stands in the
// list below, so that nothing falls out of the tests unnoticed. Models with other ops: refused by name.
#include "base/pb.h"
#include "engine/graph.h"
#include "engine/ops.h"
#include "engine/small.h"
#include "tests/unit/engine_guard.h"
#include "tests/unit/engine_kit.h"
#include "tests/unit/engine_refused.h"
#include "tests/unit/file.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#define DATA "/usr/share/libonnx-testdata/data"

struct sample { // a TensorProto with its data
    struct view file, name;
    uint64_t type;
    unsigned rank;
    int64_t shape[ENGINE_MAX_RANK];
    uint8_t *data;
    size_t bytes;
};

enum { MAX_PORTS = 16 };

static struct engine *engine; // that the tests run on

static struct {
    unsigned right, constant, branch, refused, unknown, wrong;
} counts;

static size_t type_bytes(uint64_t type)
{
    static const uint8_t bytes[] = {0, 4, 1, 1, 2, 2, 4, 8, 0, 1, 2, 8, 4, 8,
                                    0, 0, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    return type < sizeof(bytes) ? bytes[type] : 0;
}

// As the engine has strings: a length, then the bytes.
static void add_string(struct sample *t, struct view v)
{
    uint32_t n = (uint32_t)v.n;
    memcpy(t->data + t->bytes, &n, 4);
    memcpy(t->data + t->bytes + 4, v.p, n);
    t->bytes += 4 + n;
}

enum { STRING = 8 };

// Numbers below 8 bits: one a byte, as at ports.
static void unpack(struct sample *t)
{
    enum engine_dtype d = dtype_from_onnx(t->type);
    size_t n = 1;
    for (unsigned i = 0; i < t->rank; i++)
        n *= (size_t)t->shape[i];
    if (!dtype_is_small(d) || t->bytes != dtype_file_bytes(d, n))
        return;
    uint8_t *to = malloc(n + 1);
    small_unpack(d, t->data, to, n);
    free(t->data);
    t->data = to;
    t->bytes = n;
}

// False: a data type that these tests do not read (sequences, optional values).
static bool read_sample(const char *path, struct sample *t)
{
    struct pb_reader r, packed;
    struct pb_field f;
    uint64_t v;
    *t = (struct sample){.file = file_read(path)};
    pb_read(&r, t->file);
    t->data = malloc(8 * t->file.n + 8);
    while (pb_next(&r, &f)) {
        if (f.number == 1 && f.wire == PB_VARINT && t->rank < ENGINE_MAX_RANK)
            t->shape[t->rank++] = (int64_t)f.value;
        else if (f.number == 1 && f.wire == PB_LEN) {
            pb_read(&packed, f.data);
            while (pb_packed_varint(&packed, &v) && t->rank < ENGINE_MAX_RANK)
                t->shape[t->rank++] = (int64_t)v;
        } else if (f.number == 2) {
            t->type = f.value;
        } else if (f.number == 8) {
            t->name = f.data;
        } else if (f.number == 6 && t->type == STRING) {
            add_string(t, f.data);
        } else if ((f.number == 9 || f.number == 4) && f.wire == PB_LEN) {
            memcpy(t->data, f.data.p, f.data.n);
            t->bytes = f.data.n;
        } else if ((f.number == 5 || f.number == 7) && f.wire == PB_LEN) { // int32_data, int64_data
            pb_read(&packed, f.data);
            for (; pb_packed_varint(&packed, &v); t->bytes += type_bytes(t->type))
                memcpy(t->data + t->bytes, &v, type_bytes(t->type));
        }
    }
    unpack(t);
    return r.error == NULL && (type_bytes(t->type) > 0 || t->type == STRING);
}

static void free_sample(struct sample *t)
{
    file_free(t->file);
    free(t->data);
}

static struct view graph_of(struct view model)
{
    struct pb_reader r;
    struct pb_field f;
    struct view g = VIEW("");
    pb_read(&r, model);
    while (pb_next(&r, &f)) {
        if (f.number == 7)
            g = f.data;
    }
    return g;
}

// The first op of the graph that the engine does not have; empty: it has all.
static struct view unknown_op(struct view graph)
{
    struct pb_reader r, n;
    struct pb_field f, g;
    pb_read(&r, graph);
    while (pb_next(&r, &f)) {
        if (f.number != GRAPH_NODES)
            continue;
        struct view type = VIEW(""), domain = VIEW("");
        pb_read(&n, f.data);
        while (pb_next(&n, &g)) {
            type = g.number == 4 ? g.data : type;
            domain = g.number == 7 ? g.data : domain;
        }
        if (!op_find(type, domain))
            return type;
    }
    return VIEW("");
}

// The name of the graph's i-th input.
static struct view input_name(struct view graph, unsigned i)
{
    struct pb_reader r, info;
    struct pb_field f, g;
    pb_read(&r, graph);
    while (pb_next(&r, &f)) {
        if (f.number != GRAPH_INPUTS || i-- > 0)
            continue;
        pb_read(&info, f.data);
        while (pb_next(&info, &g)) {
            if (g.number == 1)
                return g.data;
        }
    }
    return VIEW("");
}

// The model again, its inputs behind the first as constants.
static struct msg with_constants(struct view model, const struct sample *in, unsigned n)
{
    struct msg graph = {0}, out = {0};
    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, model);
    while (pb_next(&r, &f)) {
        if (f.number == 7) {
            msg_raw(&graph, f.data.p, f.data.n);
            for (unsigned i = 1; i < n; i++) {
                struct view name = input_name(f.data, i);
                struct msg t = {0};
                msg_raw(&t, in[i].file.p, in[i].file.n);
                msg_bytes(&t, 8, name.p, name.n); // the last one counts
                msg_msg(&graph, GRAPH_CONSTANTS, t);
            }
            msg_msg(&out, 7, graph);
            graph = (struct msg){0};
        } else if (f.wire == PB_LEN) {
            msg_bytes(&out, f.number, f.data.p, f.data.n);
        } else {
            msg_uint(&out, f.number, f.value);
        }
    }
    return out;
}

// As ONNX's own runner: 1e-3 and 1e-7; 16 bits hold three digits (11 bits) and two (8 bits).
// The graph's nodes in a branch of an If, whose condition is one more input. Nothing of it is planned then: each
// node is run when its inputs are there, on memory of its own, so that what reads or writes beside it is seen
// by ASan.
static struct msg branch_graph(struct view graph)
{
    struct msg to = {0}, branch = {0}, again = {0}, n;
    struct pb_reader r, info;
    struct pb_field f, g;
    n = onnx_node("If", "the-condition", "");
    pb_read(&r, graph);
    while (pb_next(&r, &f)) {
        if (f.number == GRAPH_NODES || f.number == GRAPH_OUTPUTS)
            msg_bytes(&branch, f.number, f.data.p, f.data.n);
        if (f.number != GRAPH_NODES && f.wire == PB_LEN)
            msg_bytes(&to, f.number, f.data.p, f.data.n);
        pb_read(&info, f.number == GRAPH_OUTPUTS ? f.data : VIEW(""));
        while (pb_next(&info, &g)) {
            if (g.number == 1)
                msg_bytes(&n, 2, g.data.p, g.data.n);
        }
    }
    msg_raw(&again, branch.p, branch.n);
    onnx_graph(&n, "then_branch", branch);
    onnx_graph(&n, "else_branch", again);
    msg_msg(&to, GRAPH_NODES, n);
    msg_msg(&to, GRAPH_INPUTS, onnx_value("the-condition", 9, NULL, 0));
    return to;
}

// Is that opset_import one of ONNX's own ops?
static bool imports_own(struct view import)
{
    struct pb_reader r;
    struct pb_field f;
    bool own = true;
    pb_read(&r, import);
    while (pb_next(&r, &f))
        own &= f.number != 1 || f.data.n == 0 || view_is(f.data, "ai.onnx");
    return own;
}

static struct msg in_a_branch(struct view model)
{
    enum { OPSETS = 8, VERSION = 2 };
    struct msg out = {0}, own = {0};
    struct pb_reader r;
    struct pb_field f;
    bool imported = false;
    pb_read(&r, model);
    while (pb_next(&r, &f)) {
        imported |= f.number == OPSETS && imports_own(f.data);
        if (f.number == 7)
            msg_msg(&out, 7, branch_graph(f.data));
        else if (f.wire == PB_LEN)
            msg_bytes(&out, f.number, f.data.p, f.data.n);
        else
            msg_uint(&out, f.number, f.value);
    }
    if (!imported) { // If is one of them
        msg_uint(&own, VERSION, 13);
        msg_msg(&out, OPSETS, own);
    }
    return out;
}

static bool is_close(double a, double b, enum engine_dtype d)
{
    double of = d == ENGINE_BF16 ? 2e-2 : d == ENGINE_F16 ? 2e-3 : 1e-3;
    return fabs(a - b) <= 1e-4 + of * fabs(b) || a == b || (isnan(a) && isnan(b));
}

static bool is_float(enum engine_dtype d)
{
    return d == ENGINE_F32 || d == ENGINE_F64 || d == ENGINE_F16 || d == ENGINE_BF16;
}

static double element(const void *data, enum engine_dtype d, size_t i)
{
    float f = 0;
    double wide = 0;
    uint16_t half = 0;
    memcpy(&half, (const char *)data + 2 * i, d == ENGINE_F16 || d == ENGINE_BF16 ? 2 : 0);
    memcpy(&f, (const char *)data + 4 * i, d == ENGINE_F32 ? 4 : 0);
    memcpy(&wide, (const char *)data + 8 * i, d == ENGINE_F64 ? 8 : 0);
    return d == ENGINE_F64 ? wide : d == ENGINE_F32 ? (double)f : (double)float_of_half(d, half);
}

static bool is_right(const char *test, const struct engine_data *got, enum engine_dtype dtype,
                     const struct sample *want)
{
    bool shape = got->rank == want->rank && got->bytes == want->bytes;
    for (unsigned i = 0; shape && i < want->rank; i++)
        shape = got->shape[i] == want->shape[i];
    if (!shape) {
        print_error("%s: an output of another shape\n", test);
        return false;
    }
    for (size_t i = 0; is_float(dtype) && i < want->bytes / dtype_bytes(dtype); i++) {
        double a = element(got->data, dtype, i), b = element(want->data, dtype, i);
        if (!is_close(a, b, dtype)) {
            print_error("%s: element %zu: expected %g, got %g\n", test, i, b, a);
            return false;
        }
    }
    enum engine_dtype small = dtype_from_onnx(want->type);
    for (size_t i = 0; dtype_is_small_float(small) && i < want->bytes; i++) {
        double a = small_value(small, ((const uint8_t *)got->data)[i]),
               b = small_value(small, want->data[i]);
        if (a != b && !(isnan(a) && isnan(b))) {
            print_error("%s: element %zu: expected %g, got %g\n", test, i, b, a);
            return false;
        }
    }
    if (is_float(dtype) || dtype_is_small_float(small) ||
        memcmp(got->data, want->data, want->bytes) == 0)
        return true;
    print_error("%s: other bytes than expected\n", test);
    return false;
}

struct test {
    char name[256], path[512];
    struct sample in[MAX_PORTS], out[MAX_PORTS];
    unsigned n_in, n_out;
};

static bool is_listed(const char *const *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i], name) == 0)
            return true;
    }
    return false;
}

// NULL: loaded, ran, and every output was right. Otherwise why the model was refused (never: wrong).
static const char *attempt(const struct test *t, struct view model)
{
    static struct engine_error e;
    struct engine_data in[MAX_PORTS + 1], out[MAX_PORTS];
    struct engine_model *m = engine_model_load(engine, model, 16, &e);
    if (!m)
        return e.text;
    unsigned n = engine_model_inputs(m), own = n - (n > t->n_in);
    assert_true(own <= t->n_in);
    for (unsigned k = 0; k < own; k++) {
        if (engine_model_input(m, k)->rank != t->in[k].rank) {
            engine_model_free(m);
            return "its data does not fit its model";
        }
    }
    struct engine_instance *i = engine_instance_new(m, &e);
    in[own] = (struct engine_data){"\1", 1, 0, {0}}; // the condition
    for (unsigned k = 0; k < own; k++) {
        const struct sample *s = &t->in[k];
        in[k] = (struct engine_data){s->data, s->bytes, s->rank, {0}};
        memcpy(in[k].shape, s->shape, sizeof(s->shape));
    }
    bool right = engine_run(i, in, out, &e);
    if (!right)
        print_error("%s: loads, and does not run: %s\n", t->name, e.text);
    for (unsigned k = 0; right && k < engine_model_outputs(m) && k < t->n_out; k++)
        right = is_right(t->name, &out[k], engine_model_output(m, k)->dtype, &t->out[k]);
    counts.wrong += !right && !is_listed(mistaken, sizeof(mistaken) / sizeof(mistaken[0]), t->name);
    engine_instance_free(i);
    engine_model_free(m);
    return NULL;
}

static bool is_expected(const char *name, bool taken)
{
    return is_listed(varies, sizeof(varies) / sizeof(varies[0]), name) ||
           taken != is_listed(refused, sizeof(refused) / sizeof(refused[0]), name);
}

static void run_known(struct test *t, struct view model)
{
    struct msg constants = with_constants(model, t->in, t->n_in);
    const char *why = attempt(t, model);
    counts.right += why == NULL;
    if (!why) {
        struct msg branch = in_a_branch(model);
        const char *refusal = attempt(t, view_of(branch.p, branch.n));
        if (refusal)
            print_error("%s: in a branch: %s\n", t->name, refusal);
        counts.wrong += refusal != NULL;
        counts.branch += refusal == NULL;
        free(branch.p);
    }
    if (t->n_in > 1 || why) {
        why = attempt(t, view_of(constants.p, constants.n));
        counts.constant += why == NULL;
    }
    if (!is_expected(t->name, why == NULL)) {
        print_error("%s: %s\n", t->name, why ? why : "taken, and stands among the refused");
        counts.wrong++;
    }
    counts.refused += why != NULL;
    free(constants.p);
}

// The test's model and samples. False: there is none, or its samples cannot be read.
static bool read_test(struct test *t, const char *root, const char *suite, const char *name,
                      struct view *model)
{
    struct stat st;
    char path[600];
    bool readable = true;
    *t = (struct test){0};
    snprintf(t->name, sizeof(t->name), "%.100s/%.100s", suite, name + 5);
    snprintf(t->path, sizeof(t->path), "%.200s/%.100s/%.100s/", root, suite, name);
    snprintf(path, sizeof(path), "%smodel.onnx", t->path);
    *model = file_read(path);
    for (unsigned k = 0; k < MAX_PORTS; k++) {
        snprintf(path, sizeof(path), "%stest_data_set_0/input_%u.pb", t->path, k);
        if (stat(path, &st) == 0)
            readable &= read_sample(path, &t->in[t->n_in++]);
        snprintf(path, sizeof(path), "%stest_data_set_0/output_%u.pb", t->path, k);
        if (stat(path, &st) == 0)
            readable &= read_sample(path, &t->out[t->n_out++]);
    }
    return readable;
}

static void free_test(struct test *t, struct view model)
{
    for (unsigned k = 0; k < t->n_in; k++)
        free_sample(&t->in[k]);
    for (unsigned k = 0; k < t->n_out; k++)
        free_sample(&t->out[k]);
    file_free(model);
}

static void run_case(const char *suite, const char *name)
{
    static struct test t;
    struct view model;
    bool readable = read_test(&t, DATA, suite, name, &model);
    if (model.n == 0)
        return;
    struct view op = unknown_op(graph_of(model));
    if (op.n > 0) {
        struct engine_error e;
        char name_of[64];
        snprintf(name_of, sizeof(name_of), "%.*s", VIEW_ARG(op));
        assert_null(engine_model_load(engine, model, 16, &e));
        // By its name; a graph of a type, rank or opset that we do not read, or a node before this one,
        // may be refused first.
        bool said = strstr(e.text, name_of) || strstr(e.text, "put") || strstr(e.text, "value ") ||
                    strstr(e.text, "tensor") || strstr(e.text, "opset") ||
                    strstr(e.text, "graph") || strstr(e.text, "attribute");
        if (!said)
            print_error("%s: does not name %s: %s\n", t.name, name_of, e.text);
        counts.wrong += !said;
        counts.unknown++;
    } else if (readable && !is_listed(open_questions,
                                      sizeof(open_questions) / sizeof(open_questions[0]), t.name)) {
        run_known(&t, model);
    }
    free_test(&t, model);
}

static int is_test(const struct dirent *d)
{
    return strncmp(d->d_name, "test_", 5) == 0;
}

static const char *const suites[] = {"node", "pytorch-converted", "pytorch-operator", "simple"};

static void run_suites(struct engine *on)
{
    memset(&counts, 0, sizeof(counts));
    engine = on;
    for (unsigned s = 0; s < sizeof(suites) / sizeof(suites[0]); s++) {
        struct dirent **names;
        char path[300];
        snprintf(path, sizeof(path), DATA "/%s", suites[s]);
        int n = scandir(path, &names, is_test, alphasort);
        if (n < 0) {
            print_message("skipped: no %s (Debian's libonnx-testdata)\n", path);
            skip();
        }
        for (int i = 0; i < n; i++) {
            run_case(suites[s], names[i]->d_name);
            free(names[i]);
        }
        free(names);
    }
    print_message("%u right as they are, %u in a branch, %u with constants; %u refused; %u with "
                  "ops we do not "
                  "have\n",
                  counts.right, counts.branch, counts.constant, counts.refused, counts.unknown);
    assert_int_equal(counts.wrong, 0);
    assert_true(counts.right >= 150 && counts.constant > 0);
}

static void with_library(void **state)
{
    (void)state;
    run_suites(engine_any(false));
}

static void plain(void **state)
{
    (void)state;
    run_suites(engine_any(true));
}

static void between_guard_pages(void **state)
{
    struct engine_error e;
    struct engine *g = engine_new(guard_device_new(), NULL, (struct engine_limits){0}, &e);
    (void)state;
    run_suites(g);
    engine_free(g);
}

// ---- the whole suite, as a table ---------------------------------------------------------------------

enum { MAX_OPS = 512 };

// Why a model is refused, in one word.
static const char *class_of(const char *why)
{
    static const struct {
        const char *part, *is;
    } classes[] = {{"not read by this test", "test"},
                   {"does not fit its model", "test"},
                   {"Sequence", "sequences"},
                   {"Optional", "optional values"},
                   {"subgraph", "control flow"},
                   {"Loop (", "control flow"},
                   {"If (", "control flow"},
                   {"Scan (", "control flow"},
                   {"String", "strings"},
                   {"TfIdf", "strings"},
                   {"Regex", "strings"},
                   {"STRING", "strings"},
                   {"its data type is not", "strings, sequences, optional values"},
                   {"Momentum", "training"},
                   {"Ada", "training"},
                   {"Gradient", "training"},
                   {"training", "training"},
                   {"is not supported", "operator"},
                   {"ops that are not", "operator"},
                   {"known from shapes", "follows from data"},
                   {"dimensions of 1 or more", "empty tensors"},
                   {"attribute", "attribute"},
                   {"no node makes it", "further outputs"}};
    for (unsigned i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        if (strstr(why, classes[i].part))
            return classes[i].is;
    }
    return "datatype or shape";
}

struct tally { // of the tests whose first op it is
    char op[64], why[160];
    unsigned passed, refused, wrong;
};

static struct tally tallies[MAX_OPS];
static struct engine *guarded; // whatever is right is run once more, between guard pages
static unsigned n_tallies;

static struct view first_op(struct view graph)
{
    struct pb_reader r, n;
    struct pb_field f, g;
    struct view type = VIEW("no node");
    pb_read(&r, graph);
    while (pb_next(&r, &f)) {
        if (f.number != GRAPH_NODES)
            continue;
        pb_read(&n, f.data);
        while (pb_next(&n, &g))
            type = g.number == 4 ? g.data : type;
        return type;
    }
    return type;
}

// What a test named after an op is about; a test of a function written out is about the function.
static struct tally *tally_of(struct view op)
{
    for (unsigned i = 0; i < n_tallies; i++) {
        if (view_is(op, tallies[i].op))
            return &tallies[i];
    }
    assert_true(n_tallies < MAX_OPS);
    snprintf(tallies[n_tallies].op, sizeof(tallies[0].op), "%.*s", VIEW_ARG(op));
    return &tallies[n_tallies++];
}

static void tally_case(const char *root, const char *suite, const char *name, bool each)
{
    static struct test t;
    struct view model;
    bool readable = read_test(&t, root, suite, name, &model);
    if (model.n == 0)
        return;
    struct tally *a = tally_of(first_op(graph_of(model)));
    unsigned wrong = counts.wrong;
    const char *why = attempt(&t, model);
    struct msg constants = with_constants(model, t.in, t.n_in);
    if (why && t.n_in > 1 && readable && !attempt(&t, view_of(constants.p, constants.n)))
        why = NULL;
    if (!why) {
        struct engine *usual = engine;
        engine = guarded;
        (void)attempt(&t, model);
        engine = usual;
    }
    if (!readable && !why)
        why = "not read by this test";
    free(constants.p);
    if (counts.wrong > wrong)
        a->wrong++;
    else if (why)
        a->refused++;
    else
        a->passed++;
    if (why)
        snprintf(a->why, sizeof(a->why), "%s", why);
    if (why && each)
        printf("%s: %s\n", t.name, why);
    free_test(&t, model);
}

static void tally_suite(const char *root, const char *suite, bool each)
{
    struct dirent **names;
    char path[300];
    snprintf(path, sizeof(path), "%.200s/%.90s", root, suite);
    int n = scandir(path, &names, is_test, alphasort);
    for (int i = 0; i < n; i++) {
        tally_case(root, suite, names[i]->d_name, each);
        free(names[i]);
    }
    if (n >= 0)
        free(names);
}

static int by_op(const void *a, const void *b)
{
    return strcmp(((const struct tally *)a)->op, ((const struct tally *)b)->op);
}

// engine_ops --suite [--each] DIR: passed, refused and wrong by op, of DIR/{node,...}; 1: some were wrong.
static int print_suite(const char *root, bool each)
{
    struct tally all = {0};
    struct engine_error e;
    engine = engine_any(false);
    guarded = engine_new(guard_device_new(), NULL, (struct engine_limits){0}, &e);
    for (unsigned s = 0; s < sizeof(suites) / sizeof(suites[0]); s++)
        tally_suite(root, suites[s], each);
    qsort(tallies, n_tallies, sizeof(tallies[0]), by_op);
    printf("%-32s passed refused wrong\n", "first op");
    for (unsigned i = 0; i < n_tallies; i++) {
        const struct tally *a = &tallies[i];
        printf("%-32s %6u %7u %5u  %s%s%s\n", a->op, a->passed, a->refused, a->wrong,
               a->refused ? class_of(a->why) : "", a->refused ? ": " : "",
               a->refused ? a->why : "");
        all.passed += a->passed;
        all.refused += a->refused;
        all.wrong += a->wrong;
    }
    engine_free(guarded);
    printf("%-32s %6u %7u %5u  in %s\n", "all", all.passed, all.refused, all.wrong, root);
    return all.wrong > 0;
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "--suite") == 0)
        return print_suite(argv[argc - 1], strcmp(argv[2], "--each") == 0);
    const struct CMUnitTest tests[] = {cmocka_unit_test(with_library), cmocka_unit_test(plain),
                                       cmocka_unit_test(between_guard_pages)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
