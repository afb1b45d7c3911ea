// Row 99 of hostile input: compressed bodies that are bombs, doubled, cut off, broken or of an unknown coding.
#include "api/unpack.h"
#include "api_kit.h"
#include <zlib.h>
#include <zstd.h>

#define MIB ((size_t)1 << 20)

static struct error err;
static struct buffer packed, plain;

static const struct {
    const char *name;
    int window; // of zlib; 0: zstd
} codings[] = {{"gzip", 15 + 16}, {"x-gzip", 15 + 16}, {"deflate", 15}, {"zstd", 0}};
#define CODINGS (sizeof(codings) / sizeof(codings[0]))

static void pack_zlib(struct view v, int window)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY), Z_OK);
    size_t room = deflateBound(&z, v.n);
    z.next_in = (unsigned char *)(uintptr_t)v.p;
    z.avail_in = (unsigned)v.n;
    z.next_out = buffer_reserve(&packed, room);
    z.avail_out = (unsigned)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    buffer_commit(&packed, room - z.avail_out);
    deflateEnd(&z);
}

// Appends v, packed, to `packed`.
static void pack(unsigned coding, struct view v)
{
    if (codings[coding].window) {
        pack_zlib(v, codings[coding].window);
        return;
    }
    ZSTD_CCtx *c = ZSTD_createCCtx();
    size_t room = ZSTD_compressBound(v.n);
    ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
    size_t n = ZSTD_compress2(c, buffer_reserve(&packed, room), room, v.p, v.n);
    assert_false(ZSTD_isError(n));
    buffer_commit(&packed, n);
    ZSTD_freeCCtx(c);
}

// From exactly so many bytes, so that ASan sees one read too many.
static enum oip_step unpack(unsigned coding, struct view in, size_t max, size_t step)
{
    char *exact = mem_must(in.n);
    if (in.n)
        memcpy(exact, in.p, in.n);
    buffer_reset(&plain);
    err = (struct error){0};
    struct unpack *u = unpack_new(view_str(codings[coding].name), view_of(exact, in.n));
    assert_non_null(u);
    enum oip_step s;
    while ((s = unpack_step(u, &plain, max, step, &err)) == OIP_MORE)
        ;
    unpack_free(u);
    mem_free(exact);
    return s;
}

static const char text[] = "{\"inputs\":[]} and again {\"inputs\":[]} and 0123456789 again";

static void whole_and_cut_anywhere(void **state)
{
    for (unsigned k = 0; k < CODINGS; k++) {
        buffer_reset(&packed);
        pack(k, VIEW(text));
        struct view v = buffer_view(&packed);
        for (size_t step = 1; step < 4096; step *= 4) {
            assert_int_equal(unpack(k, v, MIB, step), OIP_DONE);
            assert_true(view_is(buffer_view(&plain), text));
        }
        for (size_t n = 0; n < v.n; n++) {
            assert_int_equal(unpack(k, view_of(v.p, n), MIB, SIZE_MAX), OIP_ERROR);
            assert_int_equal(err.status, STATUS_BAD_REQUEST);
            assert_string_equal(err.text, "body: its compressed form is broken or cut off");
        }
    }
}

// Each byte broken in turn: refused, or (a header's free fields, padding) without effect; never other text.
static void every_byte_broken(void **state)
{
    for (unsigned k = 0; k < CODINGS; k++) {
        buffer_reset(&packed);
        pack(k, VIEW(text));
        for (size_t i = 0; i < buffer_len(&packed); i++) {
            packed.data[i] ^= 0x20;
            enum oip_step s = unpack(k, buffer_view(&packed), MIB, SIZE_MAX);
            if (s == OIP_DONE) {
                assert_true(view_is(buffer_view(&plain), text));
            } else {
                assert_int_equal(err.status, STATUS_BAD_REQUEST);
            }
            packed.data[i] ^= 0x20;
        }
        packed.data[buffer_len(&packed) - (k < 2 ? 8 : 1)] ^= 1; // CRC, Adler, checksum
        assert_int_equal(unpack(k, buffer_view(&packed), MIB, SIZE_MAX), OIP_ERROR);
    }
}

// gzip members and zstd frames may follow one another, zlib streams may not; junk behind is refused.
static void several(void **state)
{
    for (unsigned k = 0; k < CODINGS; k++) {
        bool may = k != 2;
        buffer_reset(&packed);
        pack(k, VIEW("ab"));
        pack(k, VIEW(""));
        pack(k, VIEW("c"));
        assert_int_equal(unpack(k, buffer_view(&packed), MIB, 1), may ? OIP_DONE : OIP_ERROR);
        if (may)
            assert_true(view_is(buffer_view(&plain), "abc"));
        assert_true(buffer_append(&packed, "junk", 4));
        assert_int_equal(unpack(k, buffer_view(&packed), MIB, SIZE_MAX), OIP_ERROR);
        assert_int_equal(err.status, STATUS_BAD_REQUEST);
    }
}

static void bombs(void **state)
{
    char *zeros = mem_zalloc(64 * MIB);
    for (unsigned k = 0; k < CODINGS; k += 1 + (k == 0)) { // x-gzip is gzip
        buffer_reset(&packed);
        pack(k, view_of(zeros, 64 * MIB));
        struct view v = buffer_view(&packed);
        buffer_deinit(&plain);
        assert_int_equal(unpack(k, v, MIB, 4096), OIP_ERROR);
        assert_int_equal(err.status, STATUS_TOO_LARGE);
        assert_string_equal(err.text, "body: more than 1048576 bytes when decompressed");
        assert_true(plain.cap <= 4 * MIB);
        // The bound is exact.
        buffer_reset(&packed);
        pack(k, view_of(zeros, 300000));
        v = buffer_view(&packed);
        assert_int_equal(unpack(k, v, 300000, SIZE_MAX), OIP_DONE);
        assert_int_equal(unpack(k, v, 299999, SIZE_MAX), OIP_ERROR);
        assert_int_equal(err.status, STATUS_TOO_LARGE);
        // A bomb in a bomb is one layer only.
        char *inner = mem_must(v.n);
        memcpy(inner, v.p, v.n);
        v.p = inner;
        buffer_reset(&packed);
        pack(k, v);
        assert_int_equal(unpack(k, buffer_view(&packed), MIB, SIZE_MAX), OIP_DONE);
        assert_true(view_eq(buffer_view(&plain), v));
        mem_free(inner);
    }
    mem_free(zeros);
}

// Bytes that give nothing (empty stored blocks, empty members, empty frames, a header's long name) are work,
// too: no step takes more than it was told.
static void nothing_for_much(void **state)
{
    static const struct {
        unsigned coding;
        struct view head, each;
    } rows[] = {
        {0, {"\x1f\x8b\x08\0\0\0\0\0\0\x03", 10}, {"\0\0\0\xff\xff", 5}},
        {2, {"\x78\x9c", 2}, {"\0\0\0\xff\xff", 5}},
        {0, {"\x1f\x8b\x08\x08\0\0\0\0\0\x03", 10}, {"name", 4}},
        {0, {"", 0}, {"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0", 20}},
        {3, {"\x28\xb5\x2f\xfd\0\x58", 6}, {"\0\0\0", 3}},
        {3, {"", 0}, {"\x50\x2a\x4d\x18\1\0\0\0x", 9}},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        buffer_reset(&packed);
        buffer_append(&packed, rows[i].head.p, rows[i].head.n);
        while (buffer_len(&packed) < 4 * MIB)
            buffer_append(&packed, rows[i].each.p, rows[i].each.n);
        struct unpack *u = unpack_new(view_str(codings[rows[i].coding].name), buffer_view(&packed));
        unsigned steps = 0;
        buffer_reset(&plain);
        while (unpack_step(u, &plain, MIB, 256 << 10, &err) == OIP_MORE)
            steps++;
        unpack_free(u);
        if (steps < 14)
            fail_msg("row %u: 4 MiB in %u steps of 256 KiB", i, steps + 1);
        assert_int_equal(buffer_len(&plain), 0);
    }
}

static void unknown_codings(void **state)
{
    static const char *const names[] = {"",         "br",       "gzip, gzip", "gzip,gzip",
                                        "compress", "gz",       "gzipp",      "zstandard",
                                        "identity", "gzip;q=1", " gzip"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_false(unpack_knows(view_str(names[i])));
    assert_true(unpack_knows(VIEW("GZIP")) && unpack_knows(VIEW("Zstd")));
}

static void allocation_fails_anywhere(void **state)
{
    for (unsigned k = 0; k < CODINGS; k++) {
        buffer_reset(&packed);
        pack(k, VIEW(text));
        bool done = false;
        for (uint64_t n = 1; !done && n < 100; n++) {
            struct buffer out;
            buffer_init(&out);
            mem_fail_at(n);
            struct unpack *u = unpack_new(view_str(codings[k].name), buffer_view(&packed));
            err.status = STATUS_OK;
            done = u && unpack_step(u, &out, MIB, SIZE_MAX, &err) == OIP_DONE;
            mem_fail_at(0);
            if (u && !done)
                assert_int_equal(err.status, STATUS_UNAVAILABLE);
            unpack_free(u);
            buffer_deinit(&out);
        }
        assert_true(done);
    }
}

static int open_all(void **state)
{
    buffer_init(&packed);
    buffer_init(&plain);
    return 0;
}

static int close_all(void **state)
{
    buffer_deinit(&packed);
    buffer_deinit(&plain);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_and_cut_anywhere),
        cmocka_unit_test(every_byte_broken),
        cmocka_unit_test(several),
        cmocka_unit_test(bombs),
        cmocka_unit_test(nothing_for_much),
        cmocka_unit_test(unknown_codings),
        cmocka_unit_test(allocation_fails_anywhere),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
