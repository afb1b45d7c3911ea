#include "api/unpack.h"
#include "base/mem.h"
#include <strings.h>
#include <zlib.h>
#include <zstd.h>

#define SLICE ((size_t)64 << 10) // taken, and decompressed, at once
#define ZSTD_WINDOW_LOG 23       // 8 MiB: what a frame may ask us to remember (RFC 8878, 3.1.1.1.2)

enum coding { GZIP, DEFLATE, ZSTD, UNKNOWN };

struct unpack {
    enum coding coding;
    struct view in; // what is left
    z_stream z;
    ZSTD_DCtx *zstd;
    bool ended; // the last member, or frame, was whole
};

static bool is(struct view v, const char *name)
{
    return v.n == strlen(name) && strncasecmp(v.p, name, v.n) == 0;
}

static enum coding coding_of(struct view v)
{
    if (is(v, "gzip") || is(v, "x-gzip"))
        return GZIP;
    return is(v, "deflate") ? DEFLATE : is(v, "zstd") ? ZSTD : UNKNOWN;
}

bool unpack_knows(struct view coding)
{
    return coding_of(coding) != UNKNOWN;
}

static void *z_alloc(void *ctx, unsigned n, unsigned size)
{
    size_t bytes;
    return __builtin_mul_overflow((size_t)n, (size_t)size, &bytes) ? NULL : mem_alloc(bytes);
}

static void z_free(void *ctx, void *p)
{
    mem_free(p);
}

struct unpack *unpack_new(struct view coding, struct view packed)
{
    struct unpack *u = mem_zalloc(sizeof(*u));
    if (!u)
        return NULL;
    u->coding = coding_of(coding);
    u->in = packed;
    u->z.zalloc = z_alloc;
    u->z.zfree = z_free;
    bool ok;
    if (u->coding == ZSTD) {
        u->zstd = ZSTD_createDCtx();
        ok = u->zstd &&
             !ZSTD_isError(ZSTD_DCtx_setParameter(u->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG));
    } else { // + 16: gzip's header and check instead of zlib's
        ok = inflateInit2(&u->z, u->coding == GZIP ? 15 + 16 : 15) == Z_OK;
    }
    if (ok)
        return u;
    unpack_free(u);
    return NULL;
}

void unpack_free(struct unpack *u)
{
    if (!u)
        return;
    if (u->coding == ZSTD)
        ZSTD_freeDCtx(u->zstd);
    else
        inflateEnd(&u->z);
    mem_free(u);
}

static bool broken(struct error *e)
{
    return error_set(e, STATUS_BAD_REQUEST, "body: its compressed form is broken or cut off");
}

static bool no_memory(struct error *e)
{
    return error_set(e, STATUS_UNAVAILABLE, "out of memory");
}

static bool slice_zlib(struct unpack *u, uint8_t *out, size_t room, size_t *n, struct error *e)
{
    // RFC 1952 2.2: gzip members may follow one another.
    if (u->ended) {
        if (u->coding != GZIP || inflateReset(&u->z) != Z_OK)
            return broken(e);
        u->ended = false;
    }
    size_t in = u->in.n < SLICE ? u->in.n : SLICE;
    u->z.next_in = (unsigned char *)(uintptr_t)u->in.p;
    u->z.avail_in = (unsigned)in;
    u->z.next_out = out;
    u->z.avail_out = (unsigned)room;
    int rc = inflate(&u->z, Z_NO_FLUSH);
    size_t took = in - u->z.avail_in;
    *n = room - u->z.avail_out;
    u->in = view_of(u->in.p + took, u->in.n - took);
    u->ended = rc == Z_STREAM_END;
    if (rc == Z_MEM_ERROR)
        return no_memory(e);
    return u->ended || (rc == Z_OK && (took || *n)) || broken(e);
}

static bool slice_zstd(struct unpack *u, uint8_t *out, size_t room, size_t *n, struct error *e)
{
    ZSTD_inBuffer in = {u->in.p, u->in.n < SLICE ? u->in.n : SLICE, 0};
    ZSTD_outBuffer to = {out, room, 0};
    size_t rc = ZSTD_decompressStream(u->zstd, &to, &in);
    *n = to.pos;
    if (ZSTD_isError(rc))
        return broken(e);
    u->in = view_of(u->in.p + in.pos, u->in.n - in.pos);
    u->ended = rc == 0;
    return u->ended || in.pos || to.pos || broken(e);
}

enum oip_step unpack_step(struct unpack *u, struct buffer *out, size_t max, size_t max_bytes,
                          struct error *e)
{
    for (size_t work = 0; u->in.n || !u->ended;) {
        if (work >= max_bytes)
            return OIP_MORE;
        uint8_t *at = buffer_reserve(out, SLICE);
        size_t n = 0, before = u->in.n;
        if (!at) {
            no_memory(e);
            return OIP_ERROR;
        }
        bool ok =
            u->coding == ZSTD ? slice_zstd(u, at, SLICE, &n, e) : slice_zlib(u, at, SLICE, &n, e);
        if (!ok)
            return OIP_ERROR;
        buffer_commit(out, n);
        work += n + (before - u->in.n) + 64; // a slice that gives nothing is work, too
        if (buffer_len(out) > max) {
            error_set(e, STATUS_TOO_LARGE, "body: more than %zu bytes when decompressed", max);
            return OIP_ERROR;
        }
    }
    return OIP_DONE;
}
