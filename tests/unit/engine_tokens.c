// Texts taken apart: expressions, tokenizers, and a Tokenizer with and without the TfIdfVectorizer that takes it in.
#include "base/mem.h"
#include "engine/pattern.h"
#include "tests/unit/engine_kit.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

// All matches, separated by |.
static void matches(const char *expression, const char *text, const char *want)
{
    struct pattern p;
    char got[512] = "";
    size_t from = 0, n = 0;
    uint64_t steps = 1000000;
    struct view m;
    const char *wrong = pattern_compile(&p, view_str(expression));
    if (wrong)
        fail_msg("%s: %s", expression, wrong);
    while (pattern_find(&p, view_str(text), &from, &m, &steps))
        n += (size_t)snprintf(got + n, sizeof(got) - n, "%s%.*s", n > 0 ? "|" : "", VIEW_ARG(m));
    if (strcmp(got, want) != 0)
        fail_msg("%s in \"%s\": want %s, got %s", expression, text, want, got);
}

static void expressions(void **state)
{
    (void)state;
    matches("[a-zA-Z0-9_]+", "The cat, sat_on 2 mats", "The|cat|sat_on|2|mats");
    matches("\\b\\w\\w+\\b", "a cat on I 22", "cat|on|22");
    matches(".", "a\nb", "a|b");
    matches("a|ab|abc", "abcab", "abc|ab"); // the longest, not the first that fits
    matches("(ab)+", "ababxab", "abab|ab");
    matches("(?:a|b){2,3}", "abababa", "aba|bab");
    matches("a{3}", "aaaaaaa", "aaa|aaa");
    matches("a{2,}", "a aa aaa", "aa|aaa");
    matches("ab?c*", "abccacab", "abcc|ac|ab");
    matches("[^a-c ]+", "xay bz", "x|y|z");
    matches("[]x]+", "a]x]b", "]x]");
    matches("[a-]+", "b-a-c", "-a-");
    matches("\\d+\\.\\d+", "1.5 and 22.75.", "1.5|22.75");
    matches("\\W+", "a, b", ", ");
    matches("[\\w-]+", "semi-solid state", "semi-solid|state");
    matches("\xc3\xa4+", "b\xc3\xa4\xc3\xa4k", "\xc3\xa4\xc3\xa4");
    matches("[\xc3\xa4-\xc3\xbc]", "a\xc3\xb6z", "\xc3\xb6");
    matches("[^x]+", "\xe6\xbc\xa2\xe5\xad\x97x", "\xe6\xbc\xa2\xe5\xad\x97");
    matches("\\t\\n", "a\t\nb", "\t\n");
    matches("a(b(c(d)?)?)?", "abd abcd a", "ab|abcd|a");
    matches("x", "", "");
    matches("a",
            "\xff"
            "a\xc3",
            "a"); // what is not UTF-8 is no character
}

static void no_expressions(void **state)
{
    (void)state;
    static const char *const rows[][2] = {{"", "nothing stands"},
                                          {"a*", "nothing stands"},
                                          {"(a|b?)", "nothing stands"},
                                          {"(a", "not closed"},
                                          {"a)", "not opened"},
                                          {"[a", "cut"},
                                          {"[b-a]", "ends before it begins"},
                                          {"a{2", "cannot be"},
                                          {"(){2}a", "repeats nothing"},
                                          {"((()|){2,}){0,2}a", "repeats nothing"},
                                          {"a{3,2}", "cannot be"},
                                          {"a{0}", "cannot be"},
                                          {"a{64}", "cannot be"},
                                          {"a{,2}", "no number"},
                                          {"a**", "lazy"},
                                          {"a+?", "lazy"},
                                          {"*a", "means nothing"},
                                          {"^a", "means nothing"},
                                          {"a$", "means nothing"},
                                          {"(?i)a", "flags"},
                                          {"(?=a)", "flags"},
                                          {"\\p{L}", "escape"},
                                          {"\\1", "escape"},
                                          {"[[:alpha:]]", "named"},
                                          {"a\\bb", "escape"},
                                          {"\\ba|b", "go together"},
                                          {"a\\", "cut"},
                                          {"\xc3", "cut"}};
    struct pattern p;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t n = strlen(rows[i][0]);
        char *exact = malloc(n + 1); // so that a read past the end is seen
        memcpy(exact, rows[i][0], n);
        const char *wrong = pattern_compile(&p, view_of(exact, n));
        if (!wrong || !strstr(wrong, rows[i][1]))
            fail_msg("%s: want %s, got %s", rows[i][0], rows[i][1], wrong);
        free(exact);
    }
    char deep[4096] = "a";
    unsigned levels = 16; // were each read as often as it says: 63^16 times the innermost
    memset(deep + 1, '(', levels);
    for (unsigned i = 0; i < levels; i++)
        memcpy(deep + 1 + levels + 5 * i, "){63}", 5);
    const char *wrong = pattern_compile(&p, view_of(deep, 1 + 6 * levels));
    assert_string_equal(wrong, "a repetition repeats nothing");
    memset(deep, '(', sizeof(deep));
    assert_non_null(pattern_compile(&p, view_of(deep, sizeof(deep))));
    memset(deep, 'a', sizeof(deep));
    assert_non_null(pattern_compile(&p, view_of(deep, sizeof(deep))));
    for (unsigned i = 0; i + 8 < sizeof(deep); i += 8)
        memcpy(deep + i, "(a{60})|", 8);
    assert_non_null(pattern_compile(&p, view_of(deep, sizeof(deep) / 8 * 8)));
}

// Looking for what is never there costs no more than was given.
static void bounded(void **state)
{
    (void)state;
    struct pattern p;
    size_t from = 0, n = 1 << 20;
    uint64_t steps = 1 << 22;
    struct view m;
    char *text = malloc(n);
    memset(text, 'a', n);
    assert_null(pattern_compile(&p, VIEW("a*b")));
    assert_false(pattern_find(&p, view_of(text, n), &from, &m, &steps));
    assert_int_equal(steps, 0);
    free(text);
}

// ---- in a model --------------------------------------------------------------------------------------

enum { ONNX_STRING = 8 };

struct how { // NULL: not said
    const char *expression, *separators[4];
    int64_t least, mark;
};

static struct msg tokenizer(const struct how *h, const char *in, const char *out)
{
    struct msg n = onnx_node("Tokenizer", in, out), a = {0};
    msg_text(&n, 7, "com.microsoft");
    onnx_string(&n, "pad_value", "#");
    onnx_int(&n, "mincharnum", h->least ? h->least : 1);
    onnx_int(&n, "mark", h->mark);
    if (h->expression) {
        onnx_string(&n, "tokenexp", h->expression);
        return n;
    }
    msg_text(&a, 1, "separators");
    for (unsigned i = 0; h->separators[i]; i++)
        msg_text(&a, 9, h->separators[i]);
    msg_uint(&a, 20, 8);
    msg_msg(&n, 5, a);
    return n;
}

static struct msg counter(const char *in, const char *out, const char *const *pool)
{
    int64_t zero[1] = {0}, index[8];
    unsigned words = 0;
    struct msg n = onnx_node("TfIdfVectorizer", in, out), a = {0};
    msg_text(&a, 1, "pool_strings");
    for (; pool[words]; words++) {
        msg_text(&a, 9, pool[words]);
        index[words] = words;
    }
    msg_uint(&a, 20, 8);
    msg_msg(&n, 5, a);
    onnx_string(&n, "mode", "TF");
    onnx_int(&n, "min_gram_length", 1);
    onnx_int(&n, "max_gram_length", 1);
    onnx_int(&n, "max_skip_count", 0);
    onnx_ints(&n, "ngram_counts", 1, zero);
    onnx_ints(&n, "ngram_indexes", words, index);
    return n;
}

static struct msg whole(struct msg graph)
{
    struct msg m = onnx_model(graph, 17), set = {0};
    msg_text(&set, 1, "com.microsoft");
    msg_uint(&set, 2, 1);
    msg_msg(&m, 8, set);
    return m;
}

static struct msg tokens_alone(const struct how *h, unsigned rank)
{
    static const int64_t any[2] = {-1, -1};
    struct msg g = {0};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_STRING, any, rank));
    msg_msg(&g, GRAPH_NODES, tokenizer(h, "x", "y"));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_STRING, NULL, 0));
    return whole(g);
}

static size_t wire(const char *words, char *room)
{
    size_t n = 0;
    for (const char *at = words;; at++) {
        uint32_t len = (uint32_t)strcspn(at, "|");
        memcpy(room + n, &len, 4);
        memcpy(room + n + 4, at, len);
        n += 4 + len;
        at += len;
        if (!*at)
            return n;
    }
}

static void runs_to(struct msg file, const char *x, int64_t rows, unsigned rank, const void *want,
                    size_t bytes)
{
    struct engine_error e = {""};
    char room[1024];
    struct engine_model *m = engine_model_load(engine_any(false), view_of(file.p, file.n), 8, &e);
    free(file.p);
    if (!m)
        fail_msg("%s", e.text);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in = {room, wire(x, room), rank, {rows, 1}}, out;
    if (!engine_run(i, &in, &out, &e))
        fail_msg("%s", e.text);
    if (out.bytes != bytes || memcmp(out.data, want, bytes) != 0)
        fail_msg("%s: %zu bytes instead of %zu: %.*s", x, out.bytes, bytes, (int)out.bytes,
                 (const char *)out.data);
    engine_instance_free(i);
    engine_model_free(m);
}

static void tokens(void **state)
{
    (void)state;
    static const struct {
        struct how how;
        const char *text, *want;
    } rows[] = {{{.expression = "\\w+"}, "a cat|dog", "a|cat|dog|#"},
                {{.expression = "\\w+", .least = 2}, "a cat|", "cat|#"},
                {{.separators = {" "}}, "a  cat|dog ", "a|cat|dog|#"},
                {{.separators = {" ", "-"}}, "x-y z|q", "x|y|z|q|#|#"},
                {{.separators = {""}},
                 "\xc3\xa4"
                 "b|c",
                 "\xc3\xa4|b|c|#"}};
    char want[256];
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t n = wire(rows[i].want, want);
        runs_to(tokens_alone(&rows[i].how, 1), rows[i].text, 2, 1, want, n);
        runs_to(tokens_alone(&rows[i].how, 2), rows[i].text, 2, 2, want, n);
    }
}

static void wrong_tokenizers(void **state)
{
    (void)state;
    static const struct {
        struct how how;
        const char *why;
    } rows[] = {{{.expression = "a*"}, "it matches where nothing stands"},
                {{.expression = "a", .mark = 1}, "mark is not supported"},
                {{.expression = "a", .least = -1}, "mincharnum"},
                {{.separators = {NULL}}, "expected separators or tokenexp"},
                {{.separators = {" ", "("}}, "a group is not closed"}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct engine_error e = {""};
        struct msg file = tokens_alone(&rows[i].how, 1);
        assert_null(engine_model_load(engine_any(false), view_of(file.p, file.n), 8, &e));
        free(file.p);
        if (!strstr(e.text, rows[i].why))
            fail_msg("want %s, got %s", rows[i].why, e.text);
    }
}

static unsigned fused;

static void on_note(void *ctx, enum engine_note what, const char *text)
{
    (void)ctx;
    fused += what == ENGINE_FUSED && strcmp(text, "Tokenizer into TfIdfVectorizer") == 0;
}

// seen: the tokens are an output too, so that they have to be made.
static struct engine_model *counting(bool seen, const char *const *pool, unsigned rank)
{
    static const int64_t one[2] = {-1, 1};
    struct engine_error e = {""};
    struct how how = {.expression = "[a-z]+"};
    struct msg g = {0}, file;
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_STRING, one, rank));
    msg_msg(&g, GRAPH_NODES, tokenizer(&how, "x", "t"));
    msg_msg(&g, GRAPH_NODES, onnx_node("Flatten", "t", "f"));
    msg_msg(&g, GRAPH_NODES, counter("f", "y", pool));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    if (seen)
        msg_msg(&g, GRAPH_OUTPUTS, onnx_value("t", ONNX_STRING, NULL, 0));
    file = whole(g);
    struct engine_source s = {.onnx = view_of(file.p, file.n), .note = on_note};
    fused = 0;
    struct engine_model *m = engine_model_open(engine_any(false), &s, 8, &e);
    free(file.p);
    if (!m)
        fail_msg("%s", e.text);
    return m;
}

// Together or by themselves: the same counts; together it batches.
static void fused_and_not(void **state)
{
    (void)state;
    static const char *const pool[] = {"cat", "dog", "a", NULL}, *const pads[] = {"cat", "#", NULL};
    static const float want[6] = {2, 0, 1, 0, 1, 0};
    char room[256];
    size_t n = wire("a cat, cat!|dog", room);
    for (unsigned k = 0; k < 4; k++) {
        struct engine_error e = {""};
        unsigned rank = 1 + k / 2;
        struct engine_model *m = counting(k % 2, pool, rank);
        assert_int_equal(fused, k % 2 ? 0 : 1);
        assert_int_equal(engine_model_max_batch(m), k % 2 ? 0 : 8);
        struct engine_instance *i = engine_instance_new(m, &e);
        struct engine_data in = {room, n, rank, {2, 1}}, out[2];
        if (!engine_run(i, &in, out, &e))
            fail_msg("%s", e.text);
        assert_int_equal(out[0].bytes, sizeof(want));
        assert_memory_equal(out[0].data, want, sizeof(want));
        engine_instance_free(i);
        engine_model_free(m);
    }
    engine_model_free(counting(false, pads, 2)); // what fills up is counted: they stay apart
    assert_int_equal(fused, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expressions),      cmocka_unit_test(no_expressions),
        cmocka_unit_test(bounded),          cmocka_unit_test(tokens),
        cmocka_unit_test(wrong_tokenizers), cmocka_unit_test(fused_and_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
