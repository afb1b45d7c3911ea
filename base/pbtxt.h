/* base/pbtxt.h: the text form of protobuf (https://protobuf.dev/reference/protobuf/textformat-spec/) as a
 * tree, without a schema: names, words, strings and messages, each with its line; a list is the same field
 * several times. Bounded: PBTXT_MAX_BYTES of text, PBTXT_MAX_FIELDS, PBTXT_MAX_DEPTH. Extension names and Any
 * ("[...] {") are refused: none of our messages has them. Memory: the caller's arena, views into the text
 * included. Thread: any. */
#ifndef SLUICE_BASE_PBTXT_H
#define SLUICE_BASE_PBTXT_H

#include "base/arena.h"
#include "base/view.h"
#include <stdint.h>

#define PBTXT_MAX_BYTES ((size_t)1 << 20)
#define PBTXT_MAX_FIELDS 65536
#define PBTXT_MAX_DEPTH 32

enum pbtxt_kind { PBTXT_WORD, PBTXT_STRING, PBTXT_MESSAGE };

struct pbtxt_field {
    struct view name;
    enum pbtxt_kind kind;
    struct view text;           // WORD: a number or a name, as written; STRING: its bytes
    struct pbtxt_field *fields; // MESSAGE: the first, in the text's order
    struct pbtxt_field *next;   // NULL: the last
    unsigned line;
};

struct pbtxt_error {
    unsigned line; // from 1
    const char *text;
};

// The message that the text is: a field without a name. NULL with e.
struct pbtxt_field *pbtxt_parse(struct view text, struct arena *a, struct pbtxt_error *e);

#endif
