/* Fuzz: the room's small readers. A canonical path is its own canonical form and names no place outside; a
 * timeout that is printed is never shorter than it was; what passes for an authority or a length is one. */
#include "base/check.h"
#include "http/conn.h"
#include <ctype.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool has(struct view v, const char *what)
{
    return v.n > 0 && memmem(v.p, v.n, what, strlen(what)) != NULL;
}

static void fuzz_path(struct arena *a, struct view target)
{
    struct view path, query, again, query2;
    if (path_canonical(a, target, &path, &query))
        return;
    invariant(path.n > 0 && path.p[0] == '/' && path.n <= target.n + 1 && query.n < target.n);
    invariant(!has(path, "/../") && !has(path, "/./") && !has(path, "?") && !has(path, "#"));
    invariant(!has(path, "\\") && !has(path, "%2f") && !has(path, "%2F") && !has(path, "%00"));
    invariant(path.n < 3 || memcmp(path.p + path.n - 3, "/..", 3) != 0);
    for (size_t i = 0; i < path.n; i++)
        invariant(path.p[i] > 0x20 && path.p[i] < 0x7f);
    invariant(!path_canonical(a, path, &again, &query2) && view_eq(path, again) && query2.n == 0);
}

static void fuzz_timeout(struct view v)
{
    uint64_t us, back;
    char out[16];
    if (!grpc_timeout_parse(v, &us))
        return;
    invariant(us > 0 && us <= 1000000000000000u);
    unsigned n = grpc_timeout_print(out, us);
    invariant(n >= 2 && n <= 9 && n == strlen(out));
    invariant(grpc_timeout_parse(view_of(out, n), &back) && back >= us && back - us <= us / 1000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view v = view_of(data, size);
    struct arena a;
    int64_t length;
    arena_init(&a, 0);
    fuzz_path(&a, v);
    fuzz_timeout(v);
    if (authority_ok(v)) {
        invariant(!has(v, "@") && !has(v, "/") && !has(v, " ") && v.n <= 255);
        for (size_t i = 0; i < v.n; i++) // a Unix socket's name comes escaped
            invariant(v.p[i] != '%' || (i + 2 < v.n && isxdigit((unsigned char)v.p[i + 1]) &&
                                        isxdigit((unsigned char)v.p[i + 2])));
    }
    if (content_length_of(v, &length)) {
        invariant(length >= 0);
        for (size_t i = 0; i < v.n; i++)
            invariant(v.p[i] >= '0' && v.p[i] <= '9');
    }
    arena_deinit(&a);
    return 0;
}
