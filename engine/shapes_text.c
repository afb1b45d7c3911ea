// Shapes of ops on strings, and of those of ai.onnx.ml that take strings or numbers. As engine/shapes.c:
// whatever a kernel relies on is checked here.
#include "engine/tokens.h"

// ---- StringNormalizer, StringConcat ------------------------------------------------------------------

// How many strings stay: with stopwords, as the data says.
static bool count_kept(struct job *j, size_t *kept, struct engine_error *e)
{
    size_t stopwords, n = 0;
    struct arena own;
    if (!array_count(j->in[0], &n))
        n = 0;
    *kept = n;
    node_strings(j->node, "stopwords", &stopwords);
    if (stopwords == 0)
        return true;
    if (!j->in[0]->data && n > 0)
        return shape_wrong(j, e, "its shape follows from data");
    arena_init(&own, 0);
    struct view *room = arena_array(&own, n + 1, sizeof(*room));
    bool ok = room && normalize_strings(j, room, kept);
    arena_deinit(&own);
    if (!ok) {
        shape_wrong(j, e, room ? *j->failure : "out of memory");
        *j->failure = NULL;
    }
    *kept = *kept > 0 ? *kept : 1; // an empty string
    return ok;
}

bool shape_string_normalizer(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    struct view change = node_string(j->node, "case_change_action", VIEW("NONE"));
    size_t kept;
    if (x->dtype != ENGINE_STRING)
        return shape_wrong(j, e, "expected strings");
    if (!view_is(change, "LOWER") && !view_is(change, "UPPER") && !view_is(change, "NONE"))
        return shape_wrong(j, e, "case_change_action: expected LOWER, UPPER or NONE");
    if (x->rank != 1 && (x->rank != 2 || x->shape[0] != 1))
        return shape_wrong(j, e, "expected [C] or [1, C]");
    int64_t shape[2] = {1, 1};
    if (!count_kept(j, &kept, e))
        return false;
    shape[x->rank - 1] = (int64_t)kept;
    return shape_make(j, ENGINE_STRING, x->rank, shape, e);
}

bool shape_string_concat(struct job *j, struct engine_error *e)
{
    int64_t shape[ENGINE_MAX_RANK];
    unsigned rank;
    if (j->in[0]->dtype != ENGINE_STRING || j->in[1]->dtype != ENGINE_STRING)
        return shape_wrong(j, e, "expected strings");
    return shape_together(j, j->in, 2, shape, &rank, e) &&
           shape_make(j, ENGINE_STRING, rank, shape, e);
}

// ---- Tokenizer ---------------------------------------------------------------------------------------

// As long as the longest text has tokens.
static bool longest_text(struct job *j, const struct tokenizer *t, size_t *most,
                         struct engine_error *e)
{
    const struct view *x = j->in[0]->data;
    size_t texts = 0, n;
    *most = 0;
    if (!array_count(j->in[0], &texts))
        texts = 0;
    for (size_t i = 0; i < texts; i++) {
        if (!tokens_of(t, x[i], NULL, &n))
            return shape_wrong(j, e, "a text takes too long to be taken apart");
        *most = n > *most ? n : *most;
    }
    return true;
}

bool check_tokenizer(struct job *j, struct engine_error *e)
{
    const char *wrong = "out of memory";
    struct arena own;
    arena_init(&own, 0);
    struct tokenizer *t = arena_alloc(&own, sizeof(*t));
    bool ok = t && tokenizer_read(j->node, t, &wrong);
    arena_deinit(&own);
    return ok || shape_wrong(j, e, wrong);
}

bool shape_tokenizer(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    const char *wrong = "out of memory";
    int64_t shape[3];
    size_t most = 0;
    struct arena own;
    if (x->dtype != ENGINE_STRING || x->rank < 1 || x->rank > 2)
        return shape_wrong(j, e, "expected strings of [C] or [N, C]");
    arena_init(&own, 0);
    struct tokenizer *t = arena_alloc(&own, sizeof(*t));
    bool ok = (t && tokenizer_read(j->node, t, &wrong)) || shape_wrong(j, e, wrong);
    ok = ok && longest_text(j, t, &most, e);
    arena_deinit(&own);
    memcpy(shape, x->shape, x->rank * sizeof(shape[0]));
    shape[x->rank] = (int64_t)most;
    return ok && shape_make(j, ENGINE_STRING, x->rank + 1, shape, e);
}

// ---- TfIdfVectorizer ---------------------------------------------------------------------------------

// The grams of each length stand in the pool behind each other: are there whole ones, as many as indexes?
static bool pool_fits(const struct node *n, size_t pool, size_t grams)
{
    size_t lengths, all = 0;
    const int64_t *from = node_ints(n, "ngram_counts", &lengths);
    int64_t most = node_int(n, "max_gram_length", 0);
    for (size_t i = 0; i < lengths; i++) {
        int64_t end = i + 1 < lengths ? from[i + 1] : (int64_t)pool;
        if (from[i] < 0 || end < from[i] || end > (int64_t)pool ||
            (end - from[i]) % (int64_t)(i + 1) != 0)
            return false;
        all += (size_t)(end - from[i]) / (i + 1);
    }
    return lengths > 0 && from[0] == 0 && all == grams && most <= (int64_t)lengths;
}

static int64_t tfidf_columns(const struct node *n)
{
    size_t grams;
    const int64_t *index = node_ints(n, "ngram_indexes", &grams);
    int64_t columns = 0;
    for (size_t i = 0; i < grams; i++)
        columns = index[i] >= columns ? index[i] + 1 : columns;
    return columns;
}

const char *tfidf_wrong(const struct node *n)
{
    int64_t least = node_int(n, "min_gram_length", 0), most = node_int(n, "max_gram_length", 0);
    struct view mode = node_string(n, "mode", VIEW(""));
    size_t ints, strings, weights, grams;
    node_ints(n, "pool_int64s", &ints);
    node_strings(n, "pool_strings", &strings);
    node_floats(n, "weights", &weights);
    const int64_t *index = node_ints(n, "ngram_indexes", &grams);
    if (!view_is(mode, "TF") && !view_is(mode, "IDF") && !view_is(mode, "TFIDF"))
        return "mode: expected TF, IDF or TFIDF";
    if (least < 1 || most < least || node_int(n, "max_skip_count", -1) < 0)
        return "min_gram_length, max_gram_length, max_skip_count do not fit";
    for (size_t i = 0; i < grams; i++) {
        if (index[i] < 0 || index[i] >= INT32_MAX)
            return "ngram_indexes: expected columns";
    }
    if ((ints > 0) == (strings > 0) || (weights > 0 && weights != grams) || grams == 0 ||
        !pool_fits(n, ints + strings, grams))
        return "its pool, ngram_counts, ngram_indexes and weights do not fit";
    return NULL;
}

bool shape_tfidf(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    const char *wrong = tfidf_wrong(j->node);
    size_t strings;
    node_strings(j->node, "pool_strings", &strings);
    if (wrong)
        return shape_wrong(j, e, wrong);
    bool fits =
        strings > 0 ? x->dtype == ENGINE_STRING : x->dtype == ENGINE_I32 || x->dtype == ENGINE_I64;
    if (!fits)
        return shape_wrong(j, e, "its input has another datatype than its pool");
    if (x->rank != 1 && x->rank != 2)
        return shape_wrong(j, e, "expected [C] or [N, C]");
    int64_t columns = tfidf_columns(j->node);
    int64_t shape[2] = {x->rank == 2 ? x->shape[0] : columns, columns};
    return shape_make(j, ENGINE_F32, x->rank, shape, e);
}

// A look for each word of each gram that may begin somewhere, at each distance at which one still fits.
double tfidf_work(const struct job *j)
{
    const struct array *x = j->in[0];
    double words = (double)x->shape[x->rank - 1],
           skips = (double)node_int(j->node, "max_skip_count", 0) + 1,
           columns = (double)j->out->shape[j->out->rank - 1];
    skips = skips < words ? skips : words;
    return 1 + words * skips * (double)node_int(j->node, "max_gram_length", 1) / columns;
}

// ---- labels ------------------------------------------------------------------------------------------

struct labels {              // one side of an encoder
    enum engine_dtype dtype; // ENGINE_NONE: none, or several
    size_t n;
};

static struct labels labels_of(const struct node *n, const char *const names[4])
{
    const struct attr *tensor = names[3] ? node_attr(n, names[3]) : NULL;
    size_t floats = 0, ints, strings;
    if (names[0])
        node_floats(n, names[0], &floats);
    node_ints(n, names[1], &ints);
    node_strings(n, names[2], &strings);
    unsigned lists = (floats > 0) + (ints > 0) + (strings > 0) + (tensor != NULL);
    struct labels l = {.n = floats + ints + strings};
    if (tensor && !array_count(&tensor->tensor, &l.n))
        lists = 0;
    l.dtype = lists != 1    ? ENGINE_NONE
              : tensor      ? tensor->tensor.dtype
              : floats > 0  ? ENGINE_F32
              : strings > 0 ? ENGINE_STRING
                            : ENGINE_I64;
    return l;
}

static const char *const key_names[] = {"keys_floats", "keys_int64s", "keys_strings",
                                        "keys_tensor"};
static const char *const value_names[] = {"values_floats", "values_int64s", "values_strings",
                                          "values_tensor"};
static const char *const category_names[] = {NULL, "cats_int64s", "cats_strings", NULL};

static const char *encoder_wrong(const struct node *n)
{
    struct labels keys = labels_of(n, key_names), values = labels_of(n, value_names);
    const struct attr *otherwise = node_attr(n, "default_tensor");
    size_t classes, one = 1;
    node_strings(n, "classes_strings", &classes);
    if (classes > 0) // version 1: between strings and their numbers
        return keys.n + values.n == 0 && !otherwise ? NULL : "expected classes, or keys and values";
    if (keys.dtype == ENGINE_NONE || values.dtype == ENGINE_NONE || keys.n != values.n)
        return "expected one list of keys, and one of as many values";
    if (otherwise && (otherwise->tensor.dtype != values.dtype ||
                      !array_count(&otherwise->tensor, &one) || one != 1))
        return "default_tensor: expected one value of the values' datatype";
    return NULL;
}

const char *labels_wrong(const struct node *n)
{
    size_t ints, strings;
    if (view_is(n->type, "LabelEncoder"))
        return encoder_wrong(n);
    node_ints(n, "cats_int64s", &ints);
    node_strings(n, "cats_strings", &strings);
    if (view_is(n->type, "CategoryMapper"))
        return ints == strings && ints > 0 ? NULL : "expected as many cats_int64s as cats_strings";
    return (ints > 0) != (strings > 0) ? NULL : "expected cats_int64s or cats_strings";
}

// Between strings and numbers, as the input is.
static bool shape_other_kind(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    if (x->dtype != ENGINE_STRING && x->dtype != ENGINE_I64)
        return shape_wrong(j, e, "expected strings or int64");
    return shape_make(j, x->dtype == ENGINE_STRING ? ENGINE_I64 : ENGINE_STRING, x->rank, x->shape,
                      e);
}

bool shape_category_mapper(struct job *j, struct engine_error *e)
{
    const char *wrong = labels_wrong(j->node);
    return wrong ? shape_wrong(j, e, wrong) : shape_other_kind(j, e);
}

bool shape_label_encoder(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    const char *wrong = labels_wrong(j->node);
    size_t classes;
    if (wrong)
        return shape_wrong(j, e, wrong);
    if (node_strings(j->node, "classes_strings", &classes))
        return shape_other_kind(j, e);
    if (x->dtype != labels_of(j->node, key_names).dtype)
        return shape_wrong(j, e, "its input has another datatype than its keys");
    return shape_make(j, labels_of(j->node, value_names).dtype, x->rank, x->shape, e);
}

bool shape_one_hot_encoder(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    const char *wrong = labels_wrong(j->node);
    struct labels cats = labels_of(j->node, category_names);
    int64_t shape[ENGINE_MAX_RANK] = {0};
    if (wrong)
        return shape_wrong(j, e, wrong);
    bool fits = cats.dtype == ENGINE_STRING ? x->dtype == ENGINE_STRING
                                            : x->dtype == ENGINE_I64 || x->dtype == ENGINE_I32 ||
                                                  x->dtype == ENGINE_F32 || x->dtype == ENGINE_F64;
    if (!fits)
        return shape_wrong(j, e, "its input has another datatype than its categories");
    if (x->rank >= ENGINE_MAX_RANK)
        return shape_wrong(j, e, "its input has too many dimensions");
    memcpy(shape, x->shape, x->rank * sizeof(shape[0]));
    shape[x->rank] = (int64_t)cats.n;
    return shape_make(j, ENGINE_F32, x->rank + 1, shape, e);
}

size_t class_labels(const struct node *n, enum engine_dtype *d)
{
    size_t ints, older, strings;
    node_ints(n, "classlabels_int64s", &ints);
    node_ints(n, "classlabels_ints", &older);
    node_strings(n, "classlabels_strings", &strings);
    if (d)
        *d = strings == 0 ? ENGINE_I64 : ints + older == 0 ? ENGINE_STRING : ENGINE_NONE;
    return ints + older + strings;
}

// A map for each row, from label to number: we give the numbers, in the labels' order.
bool shape_zip_map(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    size_t ints, strings;
    node_ints(j->node, "classlabels_int64s", &ints);
    node_strings(j->node, "classlabels_strings", &strings);
    if (x->dtype != ENGINE_F32 || x->rank < 1 || x->rank > 2)
        return shape_wrong(j, e, "expected float32 of [C] or [N, C]");
    if ((ints > 0) == (strings > 0) || x->shape[x->rank - 1] != (int64_t)(ints + strings))
        return shape_wrong(j, e, "expected a label for each column");
    return shape_make(j, ENGINE_F32, x->rank, x->shape, e);
}
