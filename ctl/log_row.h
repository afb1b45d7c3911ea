/* ctl/log_row.h: one record of a prediction log, read; and as a row of CSV (RFC 4180). Thinks. */
#ifndef SLUICE_CTL_LOG_ROW_H
#define SLUICE_CTL_LOG_ROW_H

#include "base/arena.h"
#include "base/buffer.h"

#define LOG_COLUMNS 28

struct log_row {
    struct view
        value[LOG_COLUMNS]; // a text, decoded; else JSON as it stands. .p NULL: there is none
    bool text[LOG_COLUMNS];
};

// Views into the line, or the arena. What it has that is no column is passed over. False: it is no record.
bool log_row_read(struct log_row *r, struct arena *a, struct view line);
struct view log_row_value(const struct log_row *r, const char *column); // .p NULL: it has none

// The names of the columns. False: out of memory.
bool log_row_head(struct buffer *out);
// A cell that a spreadsheet would take for a formula begins with "'".
bool log_row_print(const struct log_row *r, struct buffer *out);

#endif
