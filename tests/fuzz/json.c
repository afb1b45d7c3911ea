/* Fuzz: any text through the JSON reader. What it accepts is written anew and must be read as the same
 * tokens; numbers must come back from their shortest form; the lanes must agree with the tokens. */
#include "base/json.h"
#include "base/check.h"
#include "base/num.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Prints v, reads it back: the same bits.
static void check_number(struct view text)
{
    char out[32];
    double d, d2;
    float f, f2;
    invariant(num_parse_f64(text, &d) != NUM_SYNTAX);
    if (num_parse_f64(text, &d) == NUM_OK) {
        invariant(num_parse_f64(view_of(out, num_print_f64(out, d)), &d2) == NUM_OK);
        invariant(memcmp(&d, &d2, sizeof(d)) == 0);
    }
    if (num_parse_f32(text, &f) == NUM_OK) {
        invariant(num_parse_f32(view_of(out, num_print_f32(out, f)), &f2) == NUM_OK);
        invariant(memcmp(&f, &f2, sizeof(f)) == 0);
    }
}

// One pass over the text; with w, everything is written into it. Numbers too large become null.
static enum json_token copy(struct view text, struct json_writer *w, struct arena *a,
                            uint64_t *digest)
{
    struct json_reader r;
    struct view v;
    double d;
    json_read(&r, text);
    for (;;) {
        enum json_token t = json_next(&r);
        *digest = *digest * 31 + (uint64_t)t;
        switch (t) {
        case JSON_ERROR:
            invariant(r.error && r.error_at <= text.n);
            return t;
        case JSON_END:
            return t;
        case JSON_MORE:
            invariant(!"a string is one slice here");
        case JSON_OBJECT:
            json_w_object(w);
            break;
        case JSON_OBJECT_END:
            json_w_object_end(w);
            break;
        case JSON_ARRAY:
            json_w_array(w);
            break;
        case JSON_ARRAY_END:
            json_w_array_end(w);
            break;
        case JSON_KEY:
        case JSON_STRING:
            invariant(json_unescape(&r, a, &v));
            for (size_t i = 0; i < v.n; i++)
                *digest = *digest * 31 + (uint8_t)v.p[i];
            if (t == JSON_KEY)
                json_w_key(w, v);
            else
                json_w_string(w, v);
            break;
        case JSON_NUMBER:
            check_number(r.text);
            if (num_parse_f64(r.text, &d) == NUM_OK)
                json_w_f64(w, d);
            else
                json_w_u64(w, 0);
            break;
        case JSON_TRUE:
        case JSON_FALSE:
            json_w_bool(w, t == JSON_TRUE);
            break;
        case JSON_NULL:
            json_w_null(w);
            break;
        }
    }
}

// The lane's numbers against those of the tokens, in pieces of 3.
static void check_lane(struct view text)
{
    struct json_reader lane, tokens;
    json_read(&lane, text);
    json_read(&tokens, text);
    tokens.words = true;
    if (json_next(&lane) != JSON_ARRAY)
        return;
    json_next(&tokens);
    for (;;) {
        float out[3], f;
        size_t n;
        enum json_token t = json_numbers_f32(&lane, out, 3, &n);
        for (size_t i = 0; i < n; i++) {
            enum json_token token = json_next(&tokens);
            if (token == JSON_NULL) { // null, or a word for what JSON has no number for
                invariant(out[i] - out[i] != 0);
                continue;
            }
            invariant(token == JSON_NUMBER);
            invariant(num_parse_f32(tokens.text, &f) == NUM_OK && memcmp(&f, &out[i], 4) == 0);
        }
        if (t == JSON_NULL)
            continue;
        if (t == JSON_ERROR || json_next(&tokens) != t || t == JSON_ARRAY_END)
            return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view text = view_of(data, size);
    struct arena a;
    struct buffer first, second;
    struct json_writer w;
    uint64_t digest = 0, again = 0;
    arena_init(&a, 0);
    buffer_init(&first);
    buffer_init(&second);
    json_write(&w, &first);
    if (copy(text, &w, &a, &digest) == JSON_END && memchr(data, 0, size) == NULL) {
        json_write(&w, &second);
        invariant(copy(buffer_view(&first), &w, &a, &again) == JSON_END);
        invariant(digest == again);
        invariant(view_eq(buffer_view(&first), buffer_view(&second)));
    }
    check_lane(text);
    buffer_deinit(&first);
    buffer_deinit(&second);
    arena_deinit(&a);
    return 0;
}
