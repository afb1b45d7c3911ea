/* config/lex.h: the words of gateway.conf, as libConfuse's lexer sees them, but strict: no characters
 * that it would skip in silence, no environment variables, no strings over several lines.
 * Thinks; reads the text in place. Thread: any. */
#ifndef SLUICE_CONFIG_LEX_H
#define SLUICE_CONFIG_LEX_H

#include "base/view.h"

enum lex_kind { LEX_END, LEX_TEXT, LEX_OPEN, LEX_CLOSE, LEX_EQUALS, LEX_COMMA, LEX_BAD };

struct lex {
    const char *at, *end;
    unsigned line;   // of the word read last
    unsigned column; // where it begins there, in bytes, from 1; LEX_BAD: where it is bad
    enum lex_kind kind;
    struct view word; // LEX_TEXT: without its quotes, escapes as written
    const char *why;  // LEX_BAD: what is wrong, a constant; reading cannot go on
    const char *start, *line_start;
    char *wipe; // see lex_init
};

// wipe: NULL, or a copy of the text whose comments are overwritten with blanks in passing: libConfuse
// takes a comment within a list or before a brace for a syntax error.
void lex_init(struct lex *l, struct view text, char *wipe);
enum lex_kind lex_next(struct lex *l);

#endif
