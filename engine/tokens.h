/* engine/tokens.h: a Tokenizer of com.microsoft: how texts are taken apart. Thinks. */
#ifndef SLUICE_ENGINE_TOKENS_H
#define SLUICE_ENGINE_TOKENS_H

#include "engine/pattern.h"
#include "engine/strings.h"

#define TOKENIZER_PATTERNS 8

struct tokenizer {
    struct pattern
        patterns[TOKENIZER_PATTERNS]; // separators, one after the other; or what a token is
    unsigned n_patterns;
    bool separators, characters;
    struct view pad;
    size_t least; // characters of a token
};

// From the node's attributes. False with *wrong.
bool tokenizer_read(const struct node *n, struct tokenizer *t, const char **wrong);
// The tokens of a text: *n of them, into out (NULL: counted only). False: it takes too long.
bool tokens_of(const struct tokenizer *t, struct view text, struct view *out, size_t *n);

// TfIdfVectorizer with the Tokenizer before it, and the attributes of both (engine/fuse_text.c).
extern const struct op op_texts;

#endif
