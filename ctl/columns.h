/* ctl/columns.h: text in columns, for people at a terminal. Thinks. Owner: whoever embeds the table. One thread.
 *
 *   columns_init -> columns_cell, columns_cellf: row by row, cell by cell -> columns_print -> columns_deinit
 *
 * Cells may hold what strangers have named: a control character, which could move the terminal, is printed as
 * '?'. A column is as wide as its longest cell counted in characters of UTF-8; two spaces stand between columns,
 * none at the end of a line. */
#ifndef SLUICE_CTL_COLUMNS_H
#define SLUICE_CTL_COLUMNS_H

#include "base/buffer.h"
#include "base/view.h"

#define COLUMNS_MOST 12

struct columns {
    const char *heads[COLUMNS_MOST]; // constant texts; ">X": a column of numbers, at the right
    unsigned n;                      // columns
    unsigned cells;                  // so far, the heads not counted
    struct buffer text;              // each cell with its NUL
    bool failed;                     // out of memory: nothing is printed
};

// heads: NULL-terminated, at most COLUMNS_MOST.
void columns_init(struct columns *t, const char *const *heads);
void columns_deinit(struct columns *t);
void columns_cell(struct columns *t, const char *text); // NULL or "": "-"
__attribute__((format(printf, 2, 3))) void columns_cellf(struct columns *t, const char *format,
                                                         ...);
// The heads and all whole rows; nothing when there is no row. False: out of memory.
bool columns_print(const struct columns *t, struct buffer *out);
// Text as a cell shows it. False: out of memory.
bool columns_clean(struct buffer *out, struct view text);

#endif
