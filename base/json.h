/* base/json.h: strict RFC 8259 pull reader and a writer.
 * Reader: over a whole body at hand (one view; a byte order mark before it is ignored, RFC 8259 section 8.1); the caller pulls tokens and may stop between any two
 * (that is what makes work over large bodies resumable: the reader's state is this struct). Depth is
 * bounded (JSON_MAX_DEPTH), numbers are bounded in digits, UTF-8 is checked, duplicate keys are the
 * caller's to reject (it knows its keys; json_keyset helps for unknown ones). Errors carry a byte offset
 * and a constant text, never the input. Writer: appends to a caller's run of bytes, never fails
 * before the end: overflow is remembered and asked for once. Thread: one at a time. */
#ifndef SLUICE_BASE_JSON_H
#define SLUICE_BASE_JSON_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/view.h"
#include <stdbool.h>
#include <stdint.h>

#define JSON_MAX_DEPTH 100
#define JSON_MAX_NUMBER 400 // bytes of one number

enum json_token {
    JSON_ERROR = -1,
    JSON_END, // the whole text was one value (and white space)
    JSON_OBJECT,
    JSON_OBJECT_END,
    JSON_ARRAY,
    JSON_ARRAY_END,
    JSON_KEY,    // .text: raw between the quotes; .escaped: use json_unescape
    JSON_STRING, // likewise
    JSON_NUMBER, // .text: the number as written
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL,
    JSON_MORE, // in the middle of a string longer than a slice: call again
};

struct json_reader {
    const char *at, *end, *start;
    const char *error; // constant text, NULL while fine
    size_t error_at;   // byte offset of the error
    struct view text;  // of the last KEY/STRING/NUMBER
    bool escaped;      // text holds backslash escapes
    size_t token_at;   // byte offset of the last token
    size_t slice;      // bytes of a string that one call looks at. The caller's to set
    bool nul;          // \u0000 may stand in a string: it is data. The caller's to set
    bool
        words; // NaN, Infinity and -Infinity are values, for which JSON_NULL comes. The caller's to set
    const char *resume; // where a string goes on that a slice has cut; NULL: none is
    bool resume_key;    // it is a key
    uint8_t depth;
    uint8_t expect;        // internal state
    uint8_t expect_then;   // behind a string that a slice has cut
    uint64_t in_object[2]; // bit per depth: 1 = object
};

void json_read(struct json_reader *r, struct view text);
enum json_token json_next(struct json_reader *r);
// Skips the value whose first token was just returned (for scalars: nothing). False: error.
bool json_skip(struct json_reader *r, enum json_token first);
// Puts the last JSON_ERROR into words: caller's own error with the same offset. Without one before, the
// offset is that of the last token (a wrong type). The reader gives JSON_ERROR from now on.
enum json_token json_fail(struct json_reader *r, const char *constant_text);
// The string's bytes: a view into the body when nothing is escaped, else decoded into the arena.
// .p == NULL with n > 0 raw bytes: out of memory. Lone surrogates were refused by the reader already.
bool json_unescape(const struct json_reader *r, struct arena *a, struct view *out);
// The same into memory of the caller's, in pieces: decodes at most `max` bytes (a whole escape more) of
// [*from, end), a string's text, to *to, and moves both on. Decoding never lengthens.
void json_unescape_some(const char **from, const char *end, char **to, size_t max);
// The fast lane for tensors: with the reader just inside an array (first token pulled was JSON_ARRAY or
// in the middle of one), reads up to max numbers separated by commas, straight into out; *n says how
// many. Returns the token that ended the run: JSON_ARRAY_END (consumed), JSON_ARRAY (a nested array was
// opened, consumed), JSON_NULL when max was reached (call again), JSON_STRING (a string came: text is
// set, as after json_next), JSON_MORE (a string longer than the slice: no number), or JSON_ERROR. One function
// a type. Floats: the words NaN, Infinity and -Infinity are numbers, and so is null: NaN.
enum json_token json_numbers_f32(struct json_reader *r, float *out, size_t max, size_t *n);
enum json_token json_numbers_f64(struct json_reader *r, double *out, size_t max, size_t *n);
enum json_token json_numbers_i64(struct json_reader *r, int64_t *out, size_t max, size_t *n);
enum json_token json_numbers_u64(struct json_reader *r, uint64_t *out, size_t max, size_t *n);

// Duplicate keys of one object whose keys are not known beforehand. Keys are views that must stay.
struct json_keyset {
    struct arena *arena;
    struct view *slot; // open addressing, .p == NULL: free
    uint32_t used, cap;
};
enum json_seen { JSON_SEEN_ERROR = -1, JSON_SEEN_NEW, JSON_SEEN_BEFORE };
void json_keyset_init(struct json_keyset *s, struct arena *a); // no allocation
// JSON_SEEN_ERROR: out of memory. The key is the decoded one (json_unescape).
enum json_seen json_keyset_add(struct json_keyset *s, struct view key);

struct json_writer {
    struct buffer *out;
    bool failed; // out of memory: nothing more is written
    bool comma;  // a value stands before us in this container
};

void json_write(struct json_writer *w, struct buffer *out); // appends to out
void json_w_object(struct json_writer *w);
void json_w_object_end(struct json_writer *w);
void json_w_array(struct json_writer *w);
void json_w_array_end(struct json_writer *w);
void json_w_key(struct json_writer *w, struct view key);
void json_w_string(struct json_writer *w,
                   struct view v); // escapes; invalid UTF-8 bytes become U+FFFD
void json_w_i64(struct json_writer *w, int64_t v);
void json_w_u64(struct json_writer *w, uint64_t v);
void json_w_f64(struct json_writer *w,
                double v); // non-finite: the strings "NaN", "Infinity", "-Infinity"
void json_w_f32(struct json_writer *w, float v);
void json_w_bool(struct json_writer *w, bool v);
void json_w_null(struct json_writer *w);
void json_w_raw(struct json_writer *w, struct view value); // a whole value that another writer made
// n floats as one flat array from bytes at any alignment (little-endian): the hot path of answers.
void json_w_f32_array(struct json_writer *w, const void *bytes, size_t n);

// Members of an object.
static inline void json_put(struct json_writer *w, const char *key, uint64_t value)
{
    json_w_key(w, view_str(key));
    json_w_u64(w, value);
}
static inline void json_put_view(struct json_writer *w, const char *key, struct view value)
{
    json_w_key(w, view_str(key));
    json_w_string(w, value);
}
static inline void json_put_text(struct json_writer *w, const char *key, const char *value)
{
    json_put_view(w, key, view_str(value));
}
static inline void json_put_bool(struct json_writer *w, const char *key, bool value)
{
    json_w_key(w, view_str(key));
    json_w_bool(w, value);
}

#endif
