// A Tokenizer goes into the TfIdfVectorizer behind it, where nobody else reads the tokens and what fills up their
// tensor is no word that is counted: as many columns as the longest text has tokens would make shapes follow from
// data, and rows of a batch from each other.
#include "engine/plan.h"
#include "engine/tokens.h"

static bool shape_words(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    struct array one = {.dtype = ENGINE_STRING, .rank = 2};
    struct job tokens = *j;
    one.shape[0] = x->shape[0];
    one.shape[1] = 1;
    tokens.in[0] = &one;
    if (x->dtype != ENGINE_STRING || (x->rank != 1 && (x->rank != 2 || x->shape[1] != 1)))
        return shape_wrong(j, e, "expected one text a row");
    return shape_tfidf(&tokens, e);
}

const struct op op_texts = {
    .name = "Tokenizer, TfIdfVectorizer", .min_inputs = 1, .max_inputs = 1, .shape = shape_words};

// How many strings a StringNormalizer leaves follows from data when it has stopwords, and only then.
static const struct op op_stopwords = {.name = "StringNormalizer, stopwords",
                                       .min_inputs = 1,
                                       .max_inputs = 1,
                                       .by_data = 0x01,
                                       .shape = shape_string_normalizer};

bool set_stopwords(const struct graph *g, struct node *n, struct engine_error *e)
{
    size_t stopwords;
    node_strings(n, "stopwords", &stopwords);
    return stopwords == 0 || node_set(g, n, &op_stopwords, e);
}

static struct node *only_maker(const struct graph *g, const struct node *n)
{
    const struct value *v = n->input[0] >= 0 ? &g->values[n->input[0]] : NULL;
    struct node *m = v && v->readers == 1 && v->maker >= 0 ? &g->nodes[v->maker] : NULL;
    return m && m->op ? m : NULL;
}

static bool counts_pads(const struct node *n, struct view pad)
{
    size_t words;
    const struct view *pool = node_strings(n, "pool_strings", &words);
    for (size_t i = 0; i < words; i++) {
        if (view_eq(pool[i], pad))
            return true;
    }
    return words == 0;
}

static bool join_attrs(struct graph *g, struct node *n, const struct node *t)
{
    unsigned all = n->n_attrs + t->n_attrs;
    struct attr *attrs = arena_array(&g->arena, all + 1, sizeof(*attrs));
    if (!attrs)
        return false;
    memcpy(attrs, n->attrs, n->n_attrs * sizeof(*attrs));
    memcpy(attrs + n->n_attrs, t->attrs, t->n_attrs * sizeof(*attrs));
    n->attrs = attrs;
    n->n_attrs = all;
    return true;
}

// The Tokenizer that n's words come from; *between: what stands between them, in no particular order.
static struct node *tokenizer_of(const struct graph *g, const struct node *n,
                                 struct node *between[4], unsigned *n_between)
{
    struct node *m = only_maker(g, n);
    for (*n_between = 0; m && *n_between < 4; m = only_maker(g, m)) {
        if (view_is(m->type, "Tokenizer"))
            return m;
        bool same = view_is(m->type, "Identity") ||
                    (view_is(m->type, "Flatten") && node_int(m, "axis", 1) == 1);
        if (!same)
            return NULL;
        between[(*n_between)++] = m;
    }
    return NULL;
}

bool fuse_text(struct graph *g, struct node *n, struct engine_error *e)
{
    struct node *between[4];
    unsigned n_between;
    const char *wrong = tfidf_wrong(n);
    struct node *t = wrong ? NULL : tokenizer_of(g, n, between, &n_between);
    struct tokenizer *how = t ? arena_alloc(&g->arena, sizeof(*how)) : NULL;
    if (!how || !tokenizer_read(t, how, &wrong) || counts_pads(n, how->pad))
        return true; // it stays, or its shape function will refuse it
    if (!join_attrs(g, n, t))
        return engine_fail(e, "out of memory");
    int32_t texts = t->input[0];
    g->values[texts].readers++;
    t->n_attrs = 0; // they are n's
    for (unsigned i = 0; i < n_between; i++)
        node_remove(g, between[i]);
    node_remove(g, t);
    n->input[0] = texts;
    graph_note(g, ENGINE_FUSED, "Tokenizer into TfIdfVectorizer");
    return node_set(g, n, &op_texts, e);
}
