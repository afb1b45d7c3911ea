/* base/pen.h: text written where there is room for all of it already. For short texts of many parts (a
 * line of the log, the head of an answer, header fields): one look at the room, whose bound is a sum over
 * the parts, and then no call for what is constant. Each function returns where the next byte goes.
 * Thinks. Thread: any. */
#ifndef SLUICE_BASE_PEN_H
#define SLUICE_BASE_PEN_H

#include "base/num.h"
#include "base/view.h"

#define PEN_NUMBER 32 // room for one number

static inline char *pen_view(char *at, struct view v)
{
    if (v.n)
        memcpy(at, v.p, v.n);
    return at + v.n;
}

// A string literal: its length is known to the compiler, which copies it word by word.
#define PEN_LIT(at, lit) ((char *)memcpy((at), (lit), sizeof(lit) - 1) + sizeof(lit) - 1)

static inline char *pen_u64(char *at, uint64_t v)
{
    return at + num_print_u64(at, v);
}

static inline char *pen_i64(char *at, int64_t v)
{
    return at + num_print_i64(at, v);
}

// A JSON string with its quotes: escaped, bytes that are not UTF-8 become U+FFFD. Room:
// PEN_JSON(v.n) bytes. (json_writer.c)
#define PEN_JSON(n) (6 * (n) + 2)
char *pen_json(char *at, struct view v);
// The same of a text that needs no escape: a name that was checked, a word of ours. Room: v.n + 2 bytes.
static inline char *pen_plain(char *at, struct view v)
{
    *at = '"';
    at = pen_view(at + 1, v);
    *at = '"';
    return at + 1;
}
// A number of JSON; not finite: the strings "NaN", "Infinity", "-Infinity". Room: PEN_NUMBER.
char *pen_json_f64(char *at, double v);

#endif
