// Strings: StringNormalizer, StringConcat, and TfIdfVectorizer, which counts runs of words or numbers.
#include "base/hash.h"
#include "base/num.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/grams.h"
#include "engine/strings.h"

#define GRAMS_WORK 1e10 // looks for one row

// ---- StringNormalizer --------------------------------------------------------------------------------

void cpu_string_normalizer(const struct job *j)
{
    size_t n = 0, kept;
    if (normalize_strings(j, j->out->data, &kept) && kept == 0 && array_count(j->out, &n) && n == 1)
        *(struct view *)j->out->data = VIEW(""); // all were stopwords
}

// ---- Cast --------------------------------------------------------------------------------------------

// Number i of x as text of at most 32 bytes; returns how many.
static unsigned number_text(const struct array *x, size_t i, char *to)
{
    const char *at = (const char *)x->data + i * dtype_bytes(x->dtype);
    double d = x->dtype == ENGINE_F32   ? (double)*(const float *)(const void *)at
               : x->dtype == ENGINE_F64 ? *(const double *)(const void *)at
                                        : 0;
    if (d != d || d - d != 0) {
        const char *text = d != d ? "NaN" : d > 0 ? "INF" : "-INF";
        memcpy(to, text, strlen(text));
        return (unsigned)strlen(text);
    }
    switch (x->dtype) {
    case ENGINE_F32:
        return num_print_f32(to, (float)d);
    case ENGINE_F64:
        return num_print_f64(to, d);
    case ENGINE_I8:
        return num_print_i64(to, *(const int8_t *)at);
    case ENGINE_I16:
        return num_print_i64(to, *(const int16_t *)(const void *)at);
    case ENGINE_I32:
        return num_print_i64(to, *(const int32_t *)(const void *)at);
    case ENGINE_I64:
        return num_print_i64(to, *(const int64_t *)(const void *)at);
    case ENGINE_U16:
        return num_print_u64(to, *(const uint16_t *)(const void *)at);
    case ENGINE_U32:
        return num_print_u64(to, *(const uint32_t *)(const void *)at);
    case ENGINE_U64:
        return num_print_u64(to, *(const uint64_t *)(const void *)at);
    default:
        return num_print_u64(to, *(const uint8_t *)at);
    }
}

// A word for a number that has no digits. False: none of them.
static bool number_word(struct view s, double *d)
{
    static const struct {
        const char *word;
        double d;
    } words[] = {{"NaN", __builtin_nan("")}, {"nan", __builtin_nan("")}, {"INF", __builtin_inf()},
                 {"+INF", __builtin_inf()},  {"inf", __builtin_inf()},   {"+inf", __builtin_inf()},
                 {"-INF", -__builtin_inf()}, {"-inf", -__builtin_inf()}};
    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (view_is(s, words[i].word)) {
            *d = words[i].d;
            return true;
        }
    }
    return false;
}

// False: the text is no number of that datatype.
static bool text_number(struct view s, const struct array *y, size_t i)
{
    double d = 0;
    float f = 0;
    int64_t v = 0;
    if (s.n > 1 && s.p[0] == '+' && s.p[1] != '+')
        s = view_of(s.p + 1, s.n - 1);
    if (y->dtype == ENGINE_F32 || y->dtype == ENGINE_F64) {
        bool word = number_word(s, &d);
        if (!word && (num_parse_f64(s, &d) == NUM_SYNTAX || num_parse_f32(s, &f) == NUM_SYNTAX))
            return false;
        if (y->dtype == ENGINE_F64)
            ((double *)y->data)[i] = d;
        else
            ((float *)y->data)[i] = word ? (float)d : f;
        return true;
    }
    if (num_parse_i64(s, &v) != NUM_OK)
        return false;
    if (y->dtype == ENGINE_I64)
        ((int64_t *)y->data)[i] = v;
    else
        ((int32_t *)y->data)[i] = (int32_t)v;
    return y->dtype == ENGINE_I64 || (v >= INT32_MIN && v <= INT32_MAX);
}

void cpu_cast_text(const struct job *j, size_t n)
{
    const struct array *x = j->in[0], *y = j->out;
    if (x->dtype == y->dtype)
        memcpy(y->data, x->data, n * dtype_bytes(x->dtype));
    for (size_t i = 0; i < n && x->dtype != y->dtype && !*j->failure; i++) {
        if (x->dtype == ENGINE_STRING) {
            if (!text_number(((const struct view *)x->data)[i], y, i))
                *j->failure = "a string is no number of that datatype";
            continue;
        }
        char *to = job_text(j, 32);
        if (to)
            ((struct view *)y->data)[i] = view_of(to, number_text(x, i, to));
    }
}

// ---- StringConcat ------------------------------------------------------------------------------------

void cpu_string_concat(const struct job *j)
{
    size_t n = 0, counts[2] = {0}, at[2] = {0};
    const struct array *out = j->out;
    struct view *y = out->data;
    if (!array_count(out, &n) || !array_count(j->in[0], &counts[0]) ||
        !array_count(j->in[1], &counts[1]))
        return;
    for (size_t i = 0; i < n; i++) {
        for (unsigned k = 0; k < 2; k++) { // where element i is, broadcast
            const struct array *x = j->in[k];
            size_t rest = i, step = 1;
            at[k] = 0;
            for (unsigned d = 0; d < out->rank; d++) {
                size_t place = rest % (size_t)out->shape[out->rank - 1 - d];
                rest /= (size_t)out->shape[out->rank - 1 - d];
                int64_t dim = d < x->rank ? x->shape[x->rank - 1 - d] : 1;
                at[k] += dim > 1 ? place * step : 0;
                step *= (size_t)dim;
            }
        }
        struct view a = ((const struct view *)j->in[0]->data)[at[0]],
                    b = ((const struct view *)j->in[1]->data)[at[1]];
        char *to = job_text(j, a.n + b.n);
        if (!to)
            return;
        if (a.n > 0)
            memcpy(to, a.p, a.n);
        if (b.n > 0)
            memcpy(to + a.n, b.p, b.n);
        y[i] = view_of(to, a.n + b.n);
    }
}

// ---- TfIdfVectorizer ---------------------------------------------------------------------------------

// Grams as a tree of words: a place is its parent and the word that leads there.
struct gram_place {
    uint32_t parent; // 0: the root, which has no slot
    uint32_t gram;   // number of the gram that ends here + 1; 0: none does
    uint64_t number; // the word, where words are numbers
    struct view text;
};

struct grams {
    struct gram_place *places; // [1]: the first
    uint32_t *slots, n;        // 0: free
    size_t mask;
    const int64_t *index;
    const float *weights; // NULL: 1
    size_t least, most, skips;
    bool strings, count, weigh; // of what a column is made
};

struct gram_word {
    uint64_t number;
    struct view text;
};

static uint32_t *place_slot(const struct grams *g, uint32_t parent, const struct gram_word *w)
{
    struct view bytes = g->strings ? w->text : view_of(&w->number, sizeof(w->number));
    size_t at = hash64(bytes, parent) & g->mask;
    for (;; at = (at + 1) & g->mask) {
        const struct gram_place *p = &g->places[g->slots[at]];
        if (!g->slots[at] ||
            (p->parent == parent && p->number == w->number && view_eq(p->text, w->text)))
            return &g->slots[at];
    }
}

static struct gram_word pool_word(const struct grams *g, const int64_t *ints,
                                  const struct view *strings, size_t i)
{
    return g->strings ? (struct gram_word){0, strings[i]}
                      : (struct gram_word){(uint64_t)ints[i], {NULL, 0}};
}

static void add_grams(struct grams *g, const struct node *n, const int64_t *ints,
                      const struct view *strings, size_t pool)
{
    size_t lengths, gram = 0;
    const int64_t *from = node_ints(n, "ngram_counts", &lengths);
    for (size_t i = 0; i < lengths; i++) {
        size_t end = i + 1 < lengths ? (size_t)from[i + 1] : pool;
        for (size_t at = (size_t)from[i]; at < end; gram++) {
            uint32_t place = 0;
            for (size_t k = 0; k <= i; k++, at++) {
                struct gram_word w = pool_word(g, ints, strings, at);
                uint32_t *slot = place_slot(g, place, &w);
                if (!*slot) {
                    *slot = ++g->n;
                    g->places[g->n] = (struct gram_place){place, 0, w.number, w.text};
                }
                place = *slot;
            }
            g->places[place].gram = (uint32_t)gram + 1;
        }
    }
}

struct grams *grams_new(const struct node *n, struct arena *a)
{
    size_t ints_n, strings_n, indexes, weights;
    const int64_t *ints = node_ints(n, "pool_int64s", &ints_n);
    const struct view *strings = node_strings(n, "pool_strings", &strings_n);
    struct view mode = node_string(n, "mode", VIEW("TF"));
    struct grams *g = arena_zalloc(a, sizeof(*g));
    size_t pool = ints_n + strings_n, size = 16;
    while (size < 2 * pool)
        size *= 2;
    if (!g)
        return NULL;
    g->places = arena_array(a, pool + 1, sizeof(*g->places));
    g->slots = arena_array(a, size, sizeof(*g->slots));
    if (!g->places || !g->slots)
        return NULL;
    memset(g->slots, 0, size * sizeof(*g->slots));
    g->mask = size - 1;
    g->strings = strings != NULL;
    g->index = node_ints(n, "ngram_indexes", &indexes);
    g->weights = node_floats(n, "weights", &weights);
    g->least = (size_t)node_int(n, "min_gram_length", 1);
    g->most = (size_t)node_int(n, "max_gram_length", 1);
    g->skips = (size_t)node_int(n, "max_skip_count", 0);
    g->count = !view_is(mode, "IDF");
    g->weigh = !view_is(mode, "TF");
    add_grams(g, n, ints, strings, pool);
    return g;
}

static struct gram_word word_at(const struct array *x, size_t i)
{
    return x->dtype == ENGINE_STRING ? (struct gram_word){0, ((const struct view *)x->data)[i]}
           : x->dtype == ENGINE_I32
               ? (struct gram_word){(uint64_t)(int64_t)((const int32_t *)x->data)[i], {NULL, 0}}
               : (struct gram_word){(uint64_t)((const int64_t *)x->data)[i], {NULL, 0}};
}

static void count_gram(const struct grams *g, uint32_t place, float *y)
{
    uint32_t gram = g->places[place].gram;
    if (gram == 0)
        return;
    float weight = g->weigh && g->weights ? g->weights[gram - 1] : 1, *to = &y[g->index[gram - 1]];
    *to = g->count ? *to + weight : weight;
}

// Grams whose words stand `step` apart, of `least` words and more.
static void count_apart(const struct grams *g, const struct array *x, size_t from, size_t n,
                        size_t step, size_t least, float *y)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t place = 0;
        for (size_t k = 1, at = i; k <= g->most && at < n; k++, at += step) {
            struct gram_word w = word_at(x, from + at);
            place = *place_slot(g, place, &w);
            if (!place)
                break;
            if (k >= least)
                count_gram(g, place, y);
        }
    }
}

bool cpu_tfidf_prepare(struct graph *g, struct node *n, struct engine_error *e)
{
    if (tfidf_wrong(n))
        return true;
    n->prepared = grams_new(n, &g->arena);
    return n->prepared ? graph_charge_arena(g, e) : engine_fail(e, "out of memory");
}

bool grams_count(const struct grams *g, const struct array *x, size_t from, size_t n, float *y)
{
    size_t skips = g->skips < n ? g->skips : n; // no gram has room for more
    if ((double)n * (double)(skips + 1) * (double)g->most > GRAMS_WORK)
        return false;
    count_apart(g, x, from, n, 1, g->least, y);
    for (size_t s = 1; s <= skips; s++) // a single word has no distance: it was counted
        count_apart(g, x, from, n, s + 1, g->least > 1 ? g->least : 2, y);
    return true;
}

void cpu_tfidf(const struct job *j)
{
    const struct array *x = j->in[0];
    const struct grams *g = j->node->prepared;
    size_t n = (size_t)x->shape[x->rank - 1], rows = x->rank == 2 ? (size_t)x->shape[0] : 1,
           columns = (size_t)j->out->shape[j->out->rank - 1];
    float *y = j->out->data;
    struct arena own;
    arena_init(&own, 0);
    if (!g && !(g = grams_new(j->node, &own))) { // of constants
        *j->failure = "out of memory";
        return;
    }
    memset(y, 0, rows * columns * sizeof(*y));
    for (size_t r = 0; r < rows; r++, y += columns) {
        if (!grams_count(g, x, r * n, n, y))
            *j->failure = "a row takes too long";
    }
    arena_deinit(&own);
}
