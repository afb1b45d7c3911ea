// Tokenizer (com.microsoft), and TfIdfVectorizer right behind it, which needs no tensor of tokens: so its shapes do
// not follow from data, and texts share a batch.
#include "engine/cpu/grams.h"

#include "engine/cpu/cpu.h"
#include "engine/tokens.h"

#define TOO_LONG "a text takes too long to be taken apart"

// What the node was prepared to be; else made in *own.
static const struct tokenizer *tokenizer_for(const struct job *j, struct arena *own)
{
    const char *wrong;
    struct tokenizer *t = arena_alloc(own, sizeof(*t));
    if (!t || !tokenizer_read(j->node, t, &wrong)) {
        *j->failure = "out of memory";
        return NULL;
    }
    return t;
}

void cpu_tokenizer(const struct job *j)
{
    const struct array *x = j->in[0];
    size_t rows = 0, n = 0, most = (size_t)j->out->shape[j->out->rank - 1];
    struct view *y = j->out->data;
    struct arena own;
    arena_init(&own, 0);
    const struct tokenizer *t = tokenizer_for(j, &own);
    char *pad = t ? job_text(j, t->pad.n) : NULL;
    if (pad && t->pad.n > 0)
        memcpy(pad, t->pad.p, t->pad.n);
    if (!array_count(x, &rows))
        rows = 0;
    for (size_t r = 0; r < rows && pad; r++, y += most) {
        if (!tokens_of(t, ((const struct view *)x->data)[r], y, &n))
            *j->failure = TOO_LONG;
        for (; n < most; n++)
            y[n] = view_of(pad, t->pad.n);
    }
    arena_deinit(&own);
}

// ---- with TfIdfVectorizer ----------------------------------------------------------------------------

struct words { // what a node is prepared to be
    struct tokenizer tokenizer;
    struct grams *grams;
};

static struct words *words_new(const struct node *n, struct arena *a)
{
    const char *wrong;
    struct words *w = arena_alloc(a, sizeof(*w));
    if (!w || !tokenizer_read(n, &w->tokenizer, &wrong) || !(w->grams = grams_new(n, a)))
        return NULL;
    return w;
}

bool cpu_words_prepare(struct graph *g, struct node *n, struct engine_error *e)
{
    n->prepared = words_new(n, &g->arena);
    return n->prepared ? graph_charge_arena(g, e) : engine_fail(e, "out of memory");
}

// One text. False with j's failure.
static bool count_text(const struct job *j, const struct words *w, struct view text, float *y)
{
    struct arena own;
    size_t n = 0;
    arena_init(&own, 0);
    bool ok = tokens_of(&w->tokenizer, text, NULL, &n);
    struct view *tokens = ok ? arena_array(&own, n + 1, sizeof(*tokens)) : NULL;
    if (!tokens)
        *j->failure = ok ? "out of memory" : TOO_LONG;
    else if (tokens_of(&w->tokenizer, text, tokens, &n))
        ok =
            grams_count(w->grams, &(struct array){.dtype = ENGINE_STRING, .data = tokens}, 0, n, y);
    if (!ok)
        *j->failure = TOO_LONG;
    arena_deinit(&own);
    return ok && tokens;
}

void cpu_words(const struct job *j)
{
    const struct array *x = j->in[0];
    const struct words *w = j->node->prepared;
    size_t rows = 0, columns = (size_t)j->out->shape[1];
    float *y = j->out->data;
    struct arena own;
    arena_init(&own, 0);
    if (!w && !(w = words_new(j->node, &own)))
        *j->failure = "out of memory";
    if (!array_count(x, &rows))
        rows = 0;
    memset(y, 0, rows * columns * sizeof(*y));
    for (size_t r = 0; w && r < rows; r++, y += columns) {
        if (!count_text(j, w, ((const struct view *)x->data)[r], y))
            break;
    }
    arena_deinit(&own);
}
