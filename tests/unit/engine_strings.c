// Strings in the engine: in and out as ports have them, through the ops that move elements, and through those
// that know words. Every model runs its rows together and one by one, and gives the same.
#include "base/mem.h"
#include "engine/strings.h"
#include "tests/unit/engine_kit.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { ONNX_STRING = 8, ONNX_I32 = 6 };

#define STRINGS(node, name, ...)                                                                   \
    onnx_strings(node, name, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *),               \
                 (const char *const[]){__VA_ARGS__})

static struct msg ml_node(const char *type)
{
    struct msg n = onnx_node(type, "x", "y");
    msg_text(&n, 7, "ai.onnx.ml");
    return n;
}

// The bytes of a port: words separated by |, of any bytes else.
static struct view wire(const char *words, char room[1024])
{
    size_t n = 0;
    for (const char *at = words; *words;) {
        uint32_t len = (uint32_t)strcspn(at, "|");
        memcpy(room + n, &len, 4);
        memcpy(room + n + 4, at, len);
        n += 4 + len;
        if (!at[len])
            break;
        at += len + 1;
    }
    return view_of(room, n);
}

static struct engine_model *load(struct msg file, struct engine_error *e)
{
    struct engine_model *m = engine_model_load(engine_any(false), view_of(file.p, file.n), 8, e);
    free(file.p);
    return m;
}

// y = node(x) with both ml and the usual opset.
static struct msg model_of(struct msg node, unsigned type, const int64_t *dims, unsigned rank)
{
    struct msg g = {0}, set = {0}, m;
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", type, dims, rank));
    msg_msg(&g, GRAPH_NODES, node);
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", 1, NULL, 0));
    m = onnx_model(g, 20);
    msg_text(&set, 1, "ai.onnx.ml");
    msg_uint(&set, 2, 4);
    msg_msg(&m, 8, set);
    return m;
}

static const int64_t any2[2] = {-1, -1}, any1[1] = {-1}, row2[2] = {-1, 2};

// Runs x; the output's bytes have to be `want`.
static void runs_to(struct msg file, struct view x, const int64_t *shape, unsigned rank,
                    struct view want)
{
    struct engine_error e = {""};
    struct engine_model *m = load(file, &e);
    if (!m)
        fail_msg("refused: %s", e.text);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in = {x.p, x.n, rank, {0}}, out;
    memcpy(in.shape, shape, rank * sizeof(shape[0]));
    for (unsigned again = 0; again < 2; again++) {
        if (!engine_run(i, &in, &out, &e))
            fail_msg("%s", e.text);
        if (out.bytes != want.n || memcmp(out.data, want.p, want.n) != 0)
            fail_msg("%zu bytes, expected %zu: %.*s", out.bytes, want.n, (int)out.bytes,
                     (const char *)out.data);
    }
    engine_instance_free(i);
    engine_model_free(m);
}

static void strings_to(struct msg file, const char *x, const int64_t *shape, unsigned rank,
                       const char *want)
{
    char in[1024], out[1024];
    runs_to(file, wire(x, in), shape, rank, wire(want, out));
}

// ---- elements that move ------------------------------------------------------------------------------

static void moved(void **state)
{
    (void)state;
    int64_t shape[2] = {2, 2}, perm[2] = {1, 0};
    strings_to(model_of(onnx_node("Identity", "x", "y"), ONNX_STRING, row2, 2), "a||ccc|dd", shape,
               2, "a||ccc|dd");
    struct msg t = onnx_node("Transpose", "x", "y");
    onnx_ints(&t, "perm", 2, perm);
    strings_to(model_of(t, ONNX_STRING, row2, 2), "a|b|c|", shape, 2, "a|c|b|");
    struct msg c = onnx_node("Concat", "x,x", "y");
    onnx_int(&c, "axis", 1);
    strings_to(model_of(c, ONNX_STRING, row2, 2), "a|b|c|d", shape, 2, "a|b|a|b|c|d|c|d");
    strings_to(model_of(onnx_node("StringConcat", "x,x", "y"), ONNX_STRING, row2, 2), "a|bc||d",
               shape, 2, "aa|bcbc||dd");
    static const uint8_t same[4] = {1, 1, 1, 1};
    char in[1024];
    runs_to(model_of(onnx_node("Equal", "x,x", "y"), ONNX_STRING, row2, 2), wire("a|bc||d", in),
            shape, 2, view_of(same, 4));
}

static void constants(void **state)
{
    (void)state;
    int64_t shape[2] = {2, 1}, dims[1] = {2};
    struct msg g = {0}, t = {0};
    msg_uint(&t, 1, 2);
    msg_uint(&t, 2, ONNX_STRING);
    msg_text(&t, 6, "-");
    msg_text(&t, 6, "+");
    msg_text(&t, 8, "w");
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_STRING, any2, 2));
    msg_msg(&g, GRAPH_CONSTANTS, t);
    msg_msg(&g, GRAPH_NODES, onnx_node("StringConcat", "w,w", "ww")); // folded
    msg_msg(&g, GRAPH_NODES, onnx_node("StringConcat", "x,ww", "y"));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", 1, dims, 0));
    strings_to(onnx_model(g, 20), "a|b", shape, 2, "a--|a++|b--|b++");
}

static void casts(void **state)
{
    (void)state;
    int64_t shape[1] = {3};
    static const float f[3] = {1.5f, -3, __builtin_inff()};
    static const int64_t i[3] = {7, -9000000000, 0};
    char room[1024];
    struct msg n = onnx_node("Cast", "x", "y");
    onnx_int(&n, "to", ONNX_STRING);
    runs_to(model_of(n, ONNX_F32, any1, 1), view_of(f, sizeof(f)), shape, 1,
            wire("1.5|-3|INF", room));
    n = onnx_node("Cast", "x", "y");
    onnx_int(&n, "to", ONNX_STRING);
    runs_to(model_of(n, ONNX_I64, any1, 1), view_of(i, sizeof(i)), shape, 1,
            wire("7|-9000000000|0", room));
    n = onnx_node("Cast", "x", "y");
    onnx_int(&n, "to", ONNX_F32);
    runs_to(model_of(n, ONNX_STRING, any1, 1), wire("1.5|-3|INF", room), shape, 1,
            view_of(f, sizeof(f)));
    n = onnx_node("Cast", "x", "y");
    onnx_int(&n, "to", ONNX_I64);
    runs_to(model_of(n, ONNX_STRING, any1, 1), wire("+7|-9000000000|0", room), shape, 1,
            view_of(i, sizeof(i)));
}

static void letters(void **state)
{
    (void)state;
    int64_t shape[1] = {4};
    struct msg n = onnx_node("StringNormalizer", "x", "y");
    onnx_string(&n, "case_change_action", "LOWER");
    strings_to(model_of(n, ONNX_STRING, any1, 1), "ABC|\xc3\x84\xc3\x96|\xce\xa9x|", shape, 1,
               "abc|\xc3\xa4\xc3\xb6|\xcf\x89x|");
    n = onnx_node("StringNormalizer", "x", "y");
    onnx_string(&n, "case_change_action", "UPPER");
    // U+0250 takes two bytes, its capital three.
    strings_to(model_of(n, ONNX_STRING, any1, 1), "a|\xc9\x90\xc9\x90|\xf0\x9f\x98\x80|z", shape, 1,
               "A|\xe2\xb1\xaf\xe2\xb1\xaf|\xf0\x9f\x98\x80|Z");
}

// How many are left follows from data: these models are served singly.
static void stopwords(void **state)
{
    (void)state;
    static const struct {
        const char *action;
        int64_t sensitive;
        const char *want;
    } rows[] = {{"LOWER", 0, "cat|sat"},
                {"UPPER", 0, "CAT|SAT"},
                {"NONE", 0, "Cat|sat"},
                {"NONE", 1, "The|Cat|sat"},
                {"LOWER", 1, "the|cat|sat"}};
    int64_t shape[1] = {4}, row[2] = {1, 4};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (unsigned rank = 1; rank <= 2; rank++) {
            struct msg n = onnx_node("StringNormalizer", "x", "y");
            onnx_string(&n, "case_change_action", rows[i].action);
            onnx_int(&n, "is_case_sensitive", rows[i].sensitive);
            STRINGS(&n, "stopwords", "the", "ON");
            strings_to(model_of(n, ONNX_STRING, any2, rank), "The|Cat|sat|ON",
                       rank == 1 ? shape : row, rank, rows[i].want);
        }
    }
    struct msg n = onnx_node("StringNormalizer", "x", "y");
    STRINGS(&n, "stopwords", "a");
    static const char empty[4] = {0};
    char room[1024];
    int64_t two[1] = {2};
    runs_to(model_of(n, ONNX_STRING, any1, 1), wire("a|A", room), two, 1, view_of(empty, 4));
}

// As many strings as stopwords: each is looked up, not compared with all.
static void many_stopwords(void **state)
{
    (void)state;
    enum { N = 1 << 18, LEN = 15 };
    static const char field[2] = {9 << 3 | 2, LEN}, length[4] = {LEN};
    struct msg n = onnx_node("StringNormalizer", "x", "y"), words = {0};
    char *list = malloc(N * (2 + LEN)), *x = malloc(N * (4 + LEN)), *want = malloc(N * (4 + LEN));
    char *l = list, *in = x, *out = want, word[LEN + 1];
    int64_t shape[1] = {N};
    for (unsigned i = 0; i < N; i++, l += 2 + LEN, in += 4 + LEN) {
        snprintf(word, sizeof(word), "STOPWORDS%06x", i);
        memcpy(l, field, 2);
        memcpy(l + 2, word, LEN);
        snprintf(word, sizeof(word), "stopwords%06x", i % 2 ? i : N + i);
        memcpy(in, length, 4);
        memcpy(in + 4, word, LEN);
        memcpy(out, in, 4 + LEN);
        out += i % 2 ? 0 : 4 + LEN;
    }
    msg_text(&words, 1, "stopwords");
    msg_raw(&words, list, N * (2 + LEN));
    msg_uint(&words, 20, 8);
    msg_msg(&n, 5, words);
    runs_to(model_of(n, ONNX_STRING, any1, 1), view_of(x, N * (4 + LEN)), shape, 1,
            view_of(want, (size_t)(out - want)));
    free(list);
    free(x);
    free(want);
}

// ---- words -------------------------------------------------------------------------------------------

static struct msg tfidf(const char *mode, int64_t least, int64_t most, int64_t skips)
{
    static const int64_t counts[2] = {0, 3}, index[5] = {0, 1, 2, 4, 3};
    static const float weights[5] = {1, 2, 3, 4, 5};
    struct msg n = onnx_node("TfIdfVectorizer", "x", "y");
    onnx_string(&n, "mode", mode);
    onnx_int(&n, "min_gram_length", least);
    onnx_int(&n, "max_gram_length", most);
    onnx_int(&n, "max_skip_count", skips);
    onnx_ints(&n, "ngram_counts", 2, counts);
    onnx_ints(&n, "ngram_indexes", 5, index);
    STRINGS(&n, "pool_strings", "a", "b", "", "a", "b", "b", "a");
    onnx_floats(&n, "weights", 5, weights);
    return n;
}

static void grams(void **state)
{
    (void)state;
    static const struct {
        const char *mode;
        int64_t least, most, skips;
        float want[10];
    } rows[] = {// a b a x, then "" b b a
                {"TF", 1, 1, 0, {2, 1, 0, 0, 0, 1, 2, 1, 0, 0}},
                {"TF", 1, 2, 0, {2, 1, 0, 1, 1, 1, 2, 1, 1, 0}},
                {"TF", 2, 2, 0, {0, 0, 0, 1, 1, 0, 0, 0, 1, 0}},
                {"TF", 1, 2, 1, {2, 1, 0, 1, 1, 1, 2, 1, 2, 0}},
                {"TF", 2, 2, 1000000000, {0, 0, 0, 1, 1, 0, 0, 0, 2, 0}},
                {"IDF", 1, 2, 0, {1, 2, 0, 5, 4, 1, 2, 3, 5, 0}},
                {"TFIDF", 1, 2, 0, {2, 2, 0, 5, 4, 1, 4, 3, 5, 0}}};
    int64_t shape[2] = {2, 4};
    char room[1024];
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        runs_to(model_of(tfidf(rows[i].mode, rows[i].least, rows[i].most, rows[i].skips),
                         ONNX_STRING, any2, 2),
                wire("a|b|a|x||b|b|a", room), shape, 2, view_of(rows[i].want, 40));
}

static void labels(void **state)
{
    (void)state;
    int64_t shape[1] = {3}, column[2] = {3, 1};
    char room[1024];
    static const int64_t numbers[3] = {5, -1, 7}, keys[2] = {5, 7}, first[3] = {0, -1, 1};
    struct msg n = ml_node("LabelEncoder");
    STRINGS(&n, "keys_strings", "a", "b");
    onnx_ints(&n, "values_int64s", 2, keys);
    runs_to(model_of(n, ONNX_STRING, any1, 1), wire("a|c|b", room), shape, 1, view_of(numbers, 24));
    n = ml_node("LabelEncoder");
    STRINGS(&n, "values_strings", "a", "b");
    onnx_ints(&n, "keys_int64s", 2, keys);
    runs_to(model_of(n, ONNX_I64, any1, 1), view_of(numbers, 24), shape, 1,
            wire("a|_Unused|b", room));
    n = ml_node("LabelEncoder"); // version 1
    STRINGS(&n, "classes_strings", "a", "b");
    runs_to(model_of(n, ONNX_STRING, any1, 1), wire("a|c|b", room), shape, 1, view_of(first, 24));
    n = ml_node("LabelEncoder");
    STRINGS(&n, "classes_strings", "a", "b");
    onnx_string(&n, "default_string", "?");
    runs_to(model_of(n, ONNX_I64, any1, 1), view_of(first, 24), shape, 1, wire("a|?|b", room));
    n = ml_node("CategoryMapper");
    STRINGS(&n, "cats_strings", "a", "b");
    onnx_ints(&n, "cats_int64s", 2, keys);
    onnx_string(&n, "default_string", "?");
    runs_to(model_of(n, ONNX_I64, any1, 1), view_of(numbers, 24), shape, 1, wire("a|?|b", room));
    static const float hot[6] = {1, 0, 0, 0, 0, 1}, nan_key[3] = {__builtin_nanf(""), 0, 2},
                       of_nan[3] = {1, 2, -0.0f}, two[2] = {1, 2},
                       nan_zero[2] = {__builtin_nanf(""), -0.0f};
    n = ml_node("OneHotEncoder");
    STRINGS(&n, "cats_strings", "a", "b");
    runs_to(model_of(n, ONNX_STRING, any2, 2), wire("a|c|b", room), column, 2, view_of(hot, 24));
    n = ml_node("LabelEncoder"); // what is not a number is found, and both zeros are one
    onnx_floats(&n, "keys_floats", 2, nan_zero);
    onnx_floats(&n, "values_floats", 2, two);
    runs_to(model_of(n, ONNX_F32, any1, 1), view_of(nan_key, 12), shape, 1, view_of(of_nan, 12));
}

// A classifier whose labels are words says words.
static void classes_are_words(void **state)
{
    (void)state;
    static const float w[4] = {1, 0, 0, 1}, b[2] = {0, 0}, x[4] = {2, 1, 1, 2};
    int64_t shape[2] = {2, 2};
    char room[1024];
    struct msg n = ml_node("LinearClassifier");
    STRINGS(&n, "classlabels_strings", "left", "right");
    onnx_floats(&n, "coefficients", 4, w);
    onnx_floats(&n, "intercepts", 2, b);
    runs_to(model_of(n, ONNX_F32, row2, 2), view_of(x, sizeof(x)), shape, 2,
            wire("left|right", room));
    struct engine_error e;
    int64_t ints[2] = {1, 2};
    n = ml_node("LinearClassifier");
    STRINGS(&n, "classlabels_strings", "left", "right");
    onnx_ints(&n, "classlabels_ints", 2, ints);
    onnx_floats(&n, "coefficients", 4, w);
    onnx_floats(&n, "intercepts", 2, b);
    assert_null(load(model_of(n, ONNX_F32, row2, 2), &e));
    assert_non_null(strstr(e.text, "strings or numbers, not both"));
}

static char told[600];

static void on_note(void *ctx, enum engine_note what, const char *text)
{
    (void)ctx;
    if (what == ENGINE_CHANGED)
        snprintf(told, sizeof(told), "%s", text);
}

static void maps_are_tensors(void **state)
{
    (void)state;
    struct engine_error e;
    struct msg n = ml_node("ZipMap"), file;
    STRINGS(&n, "classlabels_strings", "no", "yes");
    file = model_of(n, ONNX_F32, row2, 2);
    struct engine_source s = {.onnx = view_of(file.p, file.n), .note = on_note};
    struct engine_model *m = engine_model_open(engine_any(false), &s, 4, &e);
    assert_non_null(m);
    assert_string_equal(told,
                        "ZipMap (node \"the-node\"): the maps are served as a tensor, a column a "
                        "label: no, yes");
    assert_int_equal(engine_model_max_batch(m), 4);
    assert_int_equal(engine_model_output(m, 0)->rank, 2);
    engine_model_free(m);
    free(file.p);
}

static unsigned n_told;

static void count_notes(void *ctx, enum engine_note what, const char *text)
{
    (void)ctx;
    n_told += what == ENGINE_REFUSED;
    assert_true(strlen(text) > 0);
}

// Each refused node is told, up to a bound.
static void refused_nodes_are_told(void **state)
{
    (void)state;
    struct engine_error e;
    struct msg g = {0}, file;
    char name[32], from[16], to[16];
    msg_msg(&g, GRAPH_INPUTS, onnx_value("v0", ONNX_F32, any1, 1));
    for (unsigned i = 0; i < 3000; i++) {
        snprintf(name, sizeof(name), "Unknown%u", i % 50);
        snprintf(from, sizeof(from), "v%u", i);
        snprintf(to, sizeof(to), "v%u", i + 1);
        msg_msg(&g, GRAPH_NODES, onnx_node(name, from, to));
    }
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("v3000", ONNX_F32, any1, 1));
    file = onnx_model(g, 17);
    struct engine_source s = {.onnx = view_of(file.p, file.n), .note = count_notes};
    n_told = 0;
    assert_null(engine_model_open(engine_any(false), &s, 4, &e));
    assert_int_equal(n_told, 100);
    assert_non_null(
        strstr(e.text, "ops that are not supported: Unknown0 (node \"the-node\"), Unknown1"));
    assert_non_null(strstr(e.text, " more"));
    free(file.p);
}

// ---- rows, parts, and what does not fit --------------------------------------------------------------

static void in_parts(void **state)
{
    (void)state;
    struct engine_error e = {""};
    struct engine_model *m =
        load(model_of(onnx_node("Identity", "x", "y"), ONNX_STRING, row2, 2), &e);
    assert_non_null(m);
    assert_int_equal(engine_model_max_batch(m), 8);
    assert_int_equal(engine_model_output(m, 0)->dtype, ENGINE_STRING);
    struct engine_instance *i = engine_instance_new(m, &e);
    assert_true(engine_instance_warm(i, &e));
    static const struct {
        const char *bytes;
        size_t n;
    } wrong[] = {{"", 0},
                 {"\1\0\0\0a", 5},
                 {"\1\0\0\0a\2\0\0\0b", 10},
                 {"\1\0\0\0a\0\0\0", 8},
                 {"\1\0\0\0a\0\0\0\0\0", 10},
                 {"\xff\xff\xff\xff"
                  "a",
                  5}};
    struct engine_data out;
    for (unsigned k = 0; k < sizeof(wrong) / sizeof(wrong[0]); k++) {
        void *exact = malloc(wrong[k].n + 1);
        memcpy(exact, wrong[k].bytes, wrong[k].n);
        struct engine_data in = {exact, wrong[k].n, 2, {1, 2}};
        assert_false(engine_run(i, &in, &out, &e));
        assert_string_equal(e.text, "input \"x\": its bytes do not fill its shape");
        free(exact);
    }
    engine_instance_free(i);
    engine_model_free(m);
}

static void refused(void **state)
{
    (void)state;
    struct engine_error e;
    struct msg bad[] = {onnx_node("Relu", "x", "y"), onnx_node("Add", "x,x", "y"),
                        tfidf("XX", 1, 1, 0),        tfidf("TF", 2, 1, 0),
                        tfidf("TF", 1, 3, 0),        tfidf("TF", 1, 2, -1),
                        ml_node("OneHotEncoder"),    ml_node("LabelEncoder")};
    const char *const why[] = {"strings are not supported",
                               "strings are not supported",
                               "mode: expected TF",
                               "max_gram_length",
                               "do not fit",
                               "max_skip_count",
                               "expected cats_int64s or cats_strings",
                               "expected one list of keys"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_null(load(model_of(bad[i], ONNX_STRING, any2, 2), &e));
        if (!strstr(e.text, why[i]))
            fail_msg("want \"%s\", got \"%s\"", why[i], e.text);
    }
}

// What a kernel finds wrong ends the run, and the next one is right.
static void broken_text(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "a\x80"};
    struct engine_error e = {""};
    struct msg n = onnx_node("StringNormalizer", "x", "y");
    char room[1024];
    int64_t shape[1] = {1};
    onnx_string(&n, "case_change_action", "LOWER");
    struct engine_model *m = load(model_of(n, ONNX_STRING, any1, 1), &e);
    struct engine_instance *i = engine_instance_new(m, &e);
    for (unsigned k = 0; k < sizeof(texts) / sizeof(texts[0]); k++) {
        struct view x = wire(texts[k], room);
        struct engine_data in = {x.p, x.n, 1, {shape[0]}}, out;
        assert_false(engine_run(i, &in, &out, &e));
        assert_non_null(strstr(e.text, "a string is not UTF-8"));
        x = wire("OK", room);
        in = (struct engine_data){x.p, x.n, 1, {shape[0]}};
        assert_true(engine_run(i, &in, &out, &e));
        assert_memory_equal((const char *)out.data + 4, "ok", 2);
    }
    engine_instance_free(i);
    engine_model_free(m);
}

// Each node doubles its text: the run ends when it is too much, not the process.
static void text_that_grows(void **state)
{
    (void)state;
    struct engine_error e = {""};
    struct engine *small =
        engine_with((struct cpu_options){0}, (struct engine_limits){.bytes = 4 << 20});
    struct msg g = {0};
    char names[3][16], room[1024];
    msg_msg(&g, GRAPH_INPUTS, onnx_value("v0", ONNX_STRING, any1, 1));
    for (unsigned i = 0; i < 60; i++) {
        snprintf(names[0], 16, "v%u,v%u", i, i);
        snprintf(names[1], 16, "v%u", i + 1);
        msg_msg(&g, GRAPH_NODES, onnx_node("StringConcat", names[0], names[1]));
    }
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("v60", 1, NULL, 0));
    struct msg file = onnx_model(g, 20);
    struct engine_model *m = engine_model_load(small, view_of(file.p, file.n), 1, &e);
    free(file.p);
    if (!m)
        fail_msg("%s", e.text);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct view x = wire("ab", room);
    struct engine_data in = {x.p, x.n, 1, {1}}, out;
    assert_false(engine_run(i, &in, &out, &e));
    assert_non_null(strstr(e.text, "its strings take more memory than there is"));
    engine_instance_free(i);
    engine_model_free(m);
    engine_free(small);
}

// One text, which stands in memory once, is written for each element of an output: so outputs have a bound of their
// own.
static void text_that_is_repeated(void **state)
{
    (void)state;
    enum { LENGTH = 1 << 16, FIT = 15, LIMIT = 1 << 20 }; // 16 do not: each has its length in front
    struct engine_error e = {""};
    struct engine *small =
        engine_with((struct cpu_options){0}, (struct engine_limits){.bytes = LIMIT});
    const uint32_t length = LENGTH;
    char *x = calloc(1, 4 + LENGTH);
    memcpy(x, &length, 4);
    for (unsigned outputs = 1; outputs <= 2; outputs++) {
        struct msg g = {0};
        msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_STRING, any1, 1));
        msg_msg(&g, GRAPH_INPUTS, onnx_value("s", ONNX_I64, (const int64_t[]){1}, 1));
        msg_msg(&g, GRAPH_NODES, onnx_node("Expand", "x,s", "y"));
        msg_msg(&g, GRAPH_NODES, onnx_node("Identity", "y", "z"));
        msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", 1, NULL, 0));
        if (outputs == 2)
            msg_msg(&g, GRAPH_OUTPUTS, onnx_value("z", 1, NULL, 0));
        struct msg file = onnx_model(g, 20);
        struct engine_model *m = engine_model_load(small, view_of(file.p, file.n), 1, &e);
        free(file.p);
        if (!m)
            fail_msg("%s", e.text);
        struct engine_instance *i = engine_instance_new(m, &e);
        for (int64_t times = 1; times <= 4096; times++) {
            struct engine_data in[2] = {{x, 4 + LENGTH, 1, {1}}, {&times, 8, 1, {1}}}, out[2];
            bool ok = engine_run(i, in, out, &e);
            if (times * outputs <= FIT) {
                assert_true(ok);
                assert_int_equal(out[outputs - 1].bytes, (4 + LENGTH) * (size_t)times);
            } else {
                assert_false(ok);
                assert_string_equal(e.text, times > FIT
                                                ? "output \"y\": its strings take more than 1 MiB"
                                                : "output \"z\": its strings take more than 1 MiB");
                times = 2 * times; // and one more
            }
        }
        engine_instance_free(i);
        engine_model_free(m);
    }
    free(x);
    engine_free(small);
    // A length has four bytes; none of these is read.
    struct view long_one = {"", (size_t)UINT32_MAX}, longer[2] = {long_one, {"", long_one.n + 1}};
    size_t bytes = 0;
    assert_true(strings_bytes(&long_one, 1, SIZE_MAX, &bytes));
    assert_int_equal(bytes, 4 + (size_t)UINT32_MAX);
    assert_false(strings_bytes(longer, 2, SIZE_MAX, &bytes));
    assert_false(strings_bytes(&long_one, 1, 3 + (size_t)UINT32_MAX, &bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moved),
        cmocka_unit_test(constants),
        cmocka_unit_test(casts),
        cmocka_unit_test(letters),
        cmocka_unit_test(stopwords),
        cmocka_unit_test(many_stopwords),
        cmocka_unit_test(grams),
        cmocka_unit_test(labels),
        cmocka_unit_test(maps_are_tensors),
        cmocka_unit_test(classes_are_words),
        cmocka_unit_test(refused_nodes_are_told),
        cmocka_unit_test(in_parts),
        cmocka_unit_test(refused),
        cmocka_unit_test(broken_text),
        cmocka_unit_test(text_that_grows),
        cmocka_unit_test(text_that_is_repeated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
