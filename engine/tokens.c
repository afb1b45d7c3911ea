// Texts are taken apart by what a token is (tokenexp), or by what stands between them (separators, one after the
// other; one that is empty: every character).
#include "engine/tokens.h"

#define STEPS_EACH 256 // steps of a search for each byte of a text, and some for the smallest
#define STEPS_LEAST 65536

struct taken {
    struct view *out; // NULL: they are counted only
    size_t n;
};

static void emit(const struct tokenizer *t, struct view token, struct taken *to)
{
    size_t characters = 0;
    for (size_t i = 0; i < token.n; i++)
        characters += ((unsigned char)token.p[i] & 0xc0) != 0x80;
    if (token.n == 0 || characters < t->least)
        return;
    if (to->out)
        to->out[to->n] = token;
    to->n++;
}

// Splits by separator k and those behind it.
static void split(const struct tokenizer *t, unsigned k, struct view text, struct taken *to,
                  uint64_t *steps)
{
    size_t from = 0, begin = 0;
    struct view match;
    if (k == t->n_patterns) {
        emit(t, text, to);
        return;
    }
    while (pattern_find(&t->patterns[k], text, &from, &match, steps)) {
        split(t, k + 1, view_of(text.p + begin, from - match.n - begin), to, steps);
        begin = from;
    }
    if (*steps > 0)
        split(t, k + 1, view_of(text.p + begin, text.n - begin), to, steps);
}

bool tokens_of(const struct tokenizer *t, struct view text, struct view *out, size_t *n)
{
    struct taken to = {.out = out};
    uint64_t steps = STEPS_LEAST + STEPS_EACH * (uint64_t)text.n;
    const unsigned char *at = (const unsigned char *)text.p, *end = at + text.n;
    size_t from = 0;
    struct view match;
    if (text.n == 0) {
        *n = 0;
        return true;
    }
    if (t->characters) {
        while (at < end) {
            const unsigned char *begin = at;
            utf8_next(&at, end);
            emit(t, view_of(begin, (size_t)(at - begin)), &to);
        }
    } else if (t->separators) {
        split(t, 0, text, &to, &steps);
    } else {
        while (pattern_find(&t->patterns[0], text, &from, &match, &steps))
            emit(t, match, &to);
    }
    *n = to.n;
    return steps > 0;
}

// ---- from attributes ---------------------------------------------------------------------------------

static const char *read_separators(const struct view *s, size_t n, struct tokenizer *t)
{
    t->separators = true;
    t->characters = n == 1 && s[0].n == 0;
    t->n_patterns = t->characters ? 0 : (unsigned)n;
    if (n > TOKENIZER_PATTERNS)
        return "separators: more than 8";
    for (unsigned i = 0; i < t->n_patterns; i++) {
        const char *wrong = pattern_compile(&t->patterns[i], s[i]);
        if (wrong)
            return wrong;
    }
    return NULL;
}

bool tokenizer_read(const struct node *n, struct tokenizer *t, const char **wrong)
{
    struct view expression = node_string(n, "tokenexp", VIEW(""));
    int64_t least = node_int(n, "mincharnum", 1);
    size_t separators;
    const struct view *s = node_strings(n, "separators", &separators);
    *t = (struct tokenizer){.least = (size_t)least, .pad = node_string(n, "pad_value", VIEW(""))};
    *wrong = NULL;
    if (node_int(n, "mark", 0) != 0)
        *wrong = "mark is not supported";
    else if (least < 1 || least > INT32_MAX)
        *wrong = "mincharnum: expected 1 and more";
    else if ((separators > 0) == (expression.n > 0))
        *wrong = "expected separators or tokenexp";
    else if (separators > 0)
        *wrong = read_separators(s, separators, t);
    else {
        *wrong = pattern_compile(&t->patterns[0], expression);
        t->n_patterns = 1;
    }
    return !*wrong;
}
