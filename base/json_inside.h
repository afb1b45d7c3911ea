/* base/json_inside.h: what json_reader.c and json_numbers.c share. */
#ifndef SLUICE_BASE_JSON_INSIDE_H
#define SLUICE_BASE_JSON_INSIDE_H

#include "base/json.h"

/*          '[' '{'                    value done           ',' in array: VALUE, in object: KEY
 *  START ──────────► FIRST_VALUE ──────────────► AFTER ──────────────────────────────────────► …
 *                    FIRST_KEY ─ key ':' ► VALUE    └── ']' '}' ► AFTER, or DONE at depth 0
 */
enum json_expect {
    EXPECT_VALUE,       // at the start, after ':' and after ',' in an array
    EXPECT_FIRST_VALUE, // after '[': a value or ']'
    EXPECT_FIRST_KEY,   // after '{': a key or '}'
    EXPECT_AFTER,       // a value in a container is complete: ',' or the container's end
    EXPECT_REST,        // the remainder of a string that continues in the next slice
    EXPECT_END,         // the text's value is complete: white space only
    EXPECT_NOTHING,     // an error was returned, and always will be
};

static inline bool json_in_object(const struct json_reader *r)
{
    return r->in_object[r->depth >> 6] >> (r->depth & 63) & 1;
}

static inline bool json_is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

const char *json_space_run(const char *p, const char *end);

static inline const char *json_space(const char *p, const char *end)
{
    if (p < end && json_is_space(*p))
        p++;
    return p < end && json_is_space(*p) ? json_space_run(p, end) : p;
}

// The error is at `at`.
enum json_token json_error(struct json_reader *r, const char *at, const char *what);
// r->at stands on the opening quote. JSON_STRING: text and escaped are set. JSON_MORE: r->resume is.
enum json_token json_scan_string(struct json_reader *r);
enum json_token json_scan_rest(struct json_reader *r); // the same, behind a JSON_MORE
// Bytes of the UTF-8 sequence at p < end, or 0: it is none.
unsigned json_utf8_length(const char *p, const char *end);
// The word NaN, Infinity or -Infinity at p, for what JSON has no number: its bytes; 0: it is none.
unsigned json_word(const char *p, const char *end, double *value);
// r->at stands behind the bracket.
enum json_token json_open(struct json_reader *r, bool object);
void json_close(struct json_reader *r);

#endif
