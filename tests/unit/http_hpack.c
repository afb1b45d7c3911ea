/* HPACK, both ways, against nghttp2's, and where the two may differ: what RFC 7541 says itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/rand.h"
#include "http/hpack.h"
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXTS 12u
#define FIELDS_MOST 15u

struct texts {
    char bytes[TEXTS][600];
    size_t n[TEXTS];
};

static void names_draw(struct texts *t, struct rand *r)
{
    static const char *const known[] = {"content-length", "date", "x-request-id"};
    for (unsigned i = 0; i < TEXTS; i++) {
        t->n[i] = 1 + rand_below(r, 20);
        for (size_t k = 0; k < t->n[i]; k++)
            t->bytes[i][k] = "abcde-"[rand_below(r, 6)];
        if (i < 3) {
            t->n[i] = strlen(known[i]);
            memcpy(t->bytes[i], known[i], t->n[i]);
        }
    }
}

// Short and long, of letters and of any bytes.
static void values_draw(struct texts *t, struct rand *r)
{
    for (unsigned i = 0; i < TEXTS; i++) {
        t->n[i] = rand_below(r, rand_below(r, 4) ? 20 : 600);
        for (size_t k = 0; k < t->n[i]; k++)
            t->bytes[i][k] =
                (char)(rand_below(r, 3) ? 'a' + rand_below(r, 26) : rand_below(r, 256));
    }
}

struct drawn_block {
    nghttp2_nv nv[FIELDS_MOST];
    bool passing[FIELDS_MOST];
    unsigned n;
};

static void block_draw(struct drawn_block *b, struct rand *r, struct texts *names,
                       struct texts *values)
{
    b->n = (unsigned)rand_below(r, FIELDS_MOST);
    for (unsigned i = 0; i < b->n; i++) {
        size_t name = rand_below(r, TEXTS), value = rand_below(r, TEXTS);
        b->nv[i] = (nghttp2_nv){(uint8_t *)names->bytes[name], (uint8_t *)values->bytes[value],
                                names->n[name], values->n[value],
                                rand_below(r, 4) ? 0 : NGHTTP2_NV_FLAG_NO_INDEX};
        b->passing[i] = rand_below(r, 3) == 0;
    }
}

static void expect_field(const nghttp2_nv *want, struct view name, struct view value)
{
    assert_true(view_eq(name, view_of(want->name, want->namelen)));
    assert_true(view_eq(value, view_of(want->value, want->valuelen)));
}

static uint8_t wire[32768];

// Theirs is read by ours, in pieces as they may come.
static void block_read(struct hpack_reader *reader, const struct drawn_block *b, size_t n,
                       struct rand *r)
{
    const uint8_t *at = wire;
    struct hpack_field f;
    unsigned seen = 0;
    hpack_read_begin(reader);
    for (size_t there = 0;;) {
        there = rand_below(r, 2) ? n : there + rand_below(r, 50);
        there = there < n ? there : n;
        enum hpack_result got;
        uint8_t *exact = malloc(n + 1); // so that ASan sees a read past the end
        size_t part = there - (size_t)(at - wire);
        memcpy(exact, at, part);
        const uint8_t *p = exact;
        while ((got = hpack_read(reader, &p, exact + part, &f)) == HPACK_FIELD) {
            assert_true(seen < b->n);
            expect_field(&b->nv[seen++], f.name, f.value);
            assert_int_equal(f.fine, hpack_is_fine(f.name, f.value));
        }
        at += p - exact;
        free(exact);
        assert_int_equal(got, HPACK_MORE);
        if (there == n)
            break;
    }
    assert_int_equal(seen, b->n);
    assert_ptr_equal(at, wire + n);
    hpack_read_end(reader);
}

// Ours is read by theirs.
static void block_check(nghttp2_hd_inflater *theirs, const struct drawn_block *b, size_t n,
                        unsigned status)
{
    const uint8_t *p = wire;
    unsigned seen = 0;
    for (int flags = 0; !(flags & NGHTTP2_HD_INFLATE_FINAL);) {
        nghttp2_nv got;
        ssize_t used = nghttp2_hd_inflate_hd2(theirs, &got, &flags, p, (size_t)(wire + n - p), 1);
        assert_true(used >= 0);
        p += used;
        if (!(flags & NGHTTP2_HD_INFLATE_EMIT))
            continue;
        if (seen == 0)
            assert_int_equal(atoi((const char *)got.value), status);
        else
            expect_field(&b->nv[seen - 1], view_of(got.name, got.namelen),
                         view_of(got.value, got.valuelen));
        seen++;
    }
    nghttp2_hd_inflate_end_headers(theirs);
    assert_int_equal(seen, b->n + 1);
}

static void both_ways(void **state)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct rand r;
        rand_seed(&r, seed);
        static struct texts names, values;
        struct hpack_reader reader;
        struct hpack_writer writer;
        nghttp2_hd_deflater *deflater;
        nghttp2_hd_inflater *inflater;
        names_draw(&names, &r);
        values_draw(&values, &r);
        hpack_reader_init(&reader);
        hpack_writer_init(&writer);
        nghttp2_hd_deflate_new(&deflater, HPACK_TABLE_BYTES);
        nghttp2_hd_inflate_new(&inflater);
        for (unsigned k = 0; k < 30; k++) {
            struct drawn_block b;
            block_draw(&b, &r, &names, &values);
            if (rand_below(&r, 10) == 0) // both make their tables smaller and larger
                nghttp2_hd_deflate_change_table_size(deflater, rand_below(&r, 5000));
            ssize_t n = nghttp2_hd_deflate_hd(deflater, wire, sizeof(wire), b.nv, b.n);
            assert_true(n >= 0);
            block_read(&reader, &b, (size_t)n, &r);
            for (uint64_t i = rand_below(&r, 10) ? 0 : 1 + rand_below(&r, 2); i > 0; i--) {
                uint32_t size = (uint32_t)rand_below(&r, 5000);
                hpack_writer_resize(&writer, size);
                nghttp2_hd_inflate_change_table_size(inflater, size);
            }
            unsigned status = rand_below(&r, 2) ? 200 : 429;
            uint8_t *at = hpack_write_status(&writer, hpack_write_begin(&writer, wire), status);
            for (unsigned i = 0; i < b.n; i++)
                at = hpack_write(&writer, at, view_of(b.nv[i].name, b.nv[i].namelen),
                                 view_of(b.nv[i].value, b.nv[i].valuelen), b.passing[i]);
            block_check(inflater, &b, (size_t)(at - wire), status);
        }
        hpack_reader_deinit(&reader);
        hpack_writer_deinit(&writer);
        nghttp2_hd_deflate_del(deflater);
        nghttp2_hd_inflate_del(inflater);
    }
}

// RFC 7541 C.4 and C.6: requests with Huffman's code, answers with evictions.
static void the_examples_of_the_rfc(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *fields;
    } blocks[] = {
        {"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", 17,
         ":method=GET :scheme=http :path=/ :authority=www.example.com "},
        {"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf", 12,
         ":method=GET :scheme=http :path=/ :authority=www.example.com cache-control=no-cache "},
        {"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8"
         "\xb4\xbf",
         24,
         ":method=GET :scheme=https :path=/index.html :authority=www.example.com "
         "custom-key=custom-value "},
    };
    struct hpack_reader reader;
    hpack_reader_init(&reader);
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
        const uint8_t *at = (const uint8_t *)blocks[i].bytes, *end = at + blocks[i].n;
        struct hpack_field f;
        char text[400] = "";
        hpack_read_begin(&reader);
        while (hpack_read(&reader, &at, end, &f) == HPACK_FIELD)
            snprintf(text + strlen(text), sizeof(text) - strlen(text), "%.*s=%.*s ",
                     VIEW_ARG(f.name), VIEW_ARG(f.value));
        assert_ptr_equal(at, end);
        assert_string_equal(text, blocks[i].fields);
    }
    assert_int_equal(reader.table.bytes, 164); // C.4.3
    hpack_reader_deinit(&reader);
}

// A name may be that of the entry which its own insertion drives out (4.4).
static void a_name_outlives_its_entry(void **state)
{
    struct hpack_reader reader;
    struct hpack_field f;
    uint8_t bytes[4200] = {0x40, 3, 'o', 'l', 'd', 0}, *at = bytes + 6;
    const uint8_t *p = bytes;
    size_t n = HPACK_TABLE_BYTES - 32 - 3;
    hpack_reader_init(&reader);
    hpack_read_begin(&reader);
    *at++ = 0x40 | 62; // the name of the newest
    *at++ = 0x7f;
    n -= 127;
    *at++ = (uint8_t)(n | 0x80);
    *at++ = (uint8_t)(n >> 7);
    n += 127;
    memset(at, 'v', n);
    at += n;
    *at++ = 0x80 | 62;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(hpack_read(&reader, &p, at, &f), HPACK_FIELD);
        assert_true(view_is(f.name, "old"));
        assert_int_equal(f.value.n, i == 0 ? 0 : n);
    }
    assert_int_equal(reader.table.bytes, HPACK_TABLE_BYTES);
    assert_ptr_equal(p, at);
    hpack_reader_deinit(&reader);
}

static void what_http_allows(void **state)
{
    static const struct {
        const char *name, *value;
        bool fine;
    } rows[] = {
        {"x", "", true},       {":path", "/", true},  {"x-1_!#$%&'*+.^`|~", "a\tb", true},
        {"", "a", false},      {":", "a", false},     {"X", "a", false},
        {"a b", "c", false},   {"a:b", "c", false},   {"a\x7f", "c", false},
        {"a\xe4", "c", false}, {"a", " b", false},    {"a", "b ", false},
        {"a", "\tb", false},   {"a", "b\rc", false},  {"a", "b\nc", false},
        {"a", "b\x7f", false}, {"a", "b\x01", false}, {"a", "\xc3\xa4", true},
        {"a(", "b", false},    {"a", "b\"(c)", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (hpack_is_fine(view_str(rows[i].name), view_str(rows[i].value)) != rows[i].fine)
            fail_msg("%s: %s", rows[i].name, rows[i].value);
    }
    assert_false(hpack_is_fine(VIEW("a"), VIEW("b\0c")));
}

// A value larger than the table would empty it for nothing.
static void what_does_not_fit_is_not_kept(void **state)
{
    struct hpack_writer w;
    static uint8_t out[8192];
    static char large[HPACK_TABLE_BYTES];
    memset(large, 'v', sizeof(large));
    hpack_writer_init(&w);
    hpack_write(&w, out, VIEW("x-a"), VIEW("b"), false);
    assert_int_equal(w.table.next - w.table.oldest, 1);
    hpack_write(&w, out, VIEW("x-b"), view_of(large, sizeof(large)), false);
    assert_int_equal(w.table.next - w.table.oldest, 1);
    assert_ptr_equal(hpack_write(&w, out, VIEW("x-a"), VIEW("b"), false), out + 1);
    hpack_writer_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways),
        cmocka_unit_test(the_examples_of_the_rfc),
        cmocka_unit_test(a_name_outlives_its_entry),
        cmocka_unit_test(what_http_allows),
        cmocka_unit_test(what_does_not_fit_is_not_kept),
    };
    return cmocka_run_group_tests_name("http: HPACK", tests, NULL, NULL);
}
