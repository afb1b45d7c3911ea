#include "engine/external.h"

#include "base/num.h"
#include "base/pb.h"

#include <stdlib.h>

#define EXTERNAL_FILES 4096 // of one model
#define LOCATION_MAX 1000

enum { ENTRY_KEY = 1, ENTRY_VALUE = 2 };

bool external_entry(struct external_ref *r, struct view message)
{
    struct pb_reader reader;
    struct pb_field f;
    struct view key = VIEW(""), value = VIEW("");
    pb_read(&reader, message);
    while (pb_next(&reader, &f)) {
        if (f.number == ENTRY_KEY)
            key = f.data;
        else if (f.number == ENTRY_VALUE)
            value = f.data;
    }
    r->n++;
    if (view_is(key, "location"))
        r->location = value;
    else if (view_is(key, "offset"))
        r->offset = value;
    else if (view_is(key, "length"))
        r->length = value;
    return reader.error == NULL; // checksum and what comes one day: not looked at
}

// Without what says only that it is meant from here: one file has one location.
static struct view location_of(struct view l)
{
    while (l.n >= 2 && memcmp(l.p, "./", 2) == 0)
        l = view_of(l.p + 2, l.n - 2);
    return l;
}

// A path below the model's own folder: no step leads upwards or stays, whatever lies there.
static bool location_ok(struct view l)
{
    size_t from = 0;
    if (l.n == 0 || l.n > LOCATION_MAX || memchr(l.p, '\0', l.n))
        return false;
    for (size_t i = 0; i <= l.n; i++) {
        if (i < l.n && l.p[i] != '/')
            continue;
        struct view part = view_of(l.p + from, i - from);
        if (part.n == 0 || view_is(part, ".") || view_is(part, ".."))
            return false;
        from = i + 1;
    }
    return true;
}

// The file's number; -1 with e.
static int file_of(struct external *x, struct graph *g, struct view tensor, struct view location,
                   struct engine_error *e)
{
    struct engine_files *files = g->source ? g->source->files : NULL;
    char why[256] = "external data is not at hand";
    for (unsigned i = 0; i < x->n_files; i++) {
        if (view_eq(x->files[i].location, location))
            return (int)i;
    }
    struct external_file f = {.location = location};
    if (x->n_files == EXTERNAL_FILES)
        engine_fail(e, "tensor \"%.*s\": external data in more than %d files", VIEW_ARG(tensor),
                    EXTERNAL_FILES);
    else if (!files || !files->map(files, location, &f.bytes, why))
        engine_fail(e, "tensor \"%.*s\": %s", VIEW_ARG(tensor), why);
    else if (!(x->files = graph_room(g, x->files, x->n_files, &x->cap_files, sizeof(f))))
        engine_fail(e, "out of memory");
    else {
        x->files[x->n_files] = f;
        return (int)x->n_files++;
    }
    return -1;
}

bool external_find(struct external *x, struct graph *g, struct view tensor,
                   const struct external_ref *r, size_t bytes, struct view *data,
                   struct engine_error *e)
{
    uint64_t offset = 0, length = bytes;
    struct view location = location_of(r->location);
    if (!location_ok(location))
        return engine_fail(e,
                           "tensor \"%.*s\": location: expected a path below the model's folder, "
                           "got \"%.*s\"",
                           VIEW_ARG(tensor), (int)(r->location.n < 80 ? r->location.n : 80),
                           r->location.n ? r->location.p : "");
    if ((r->offset.n > 0 && num_parse_u64(r->offset, &offset) != NUM_OK) ||
        (r->length.n > 0 && num_parse_u64(r->length, &length) != NUM_OK) || length != bytes)
        return engine_fail(e,
                           "tensor \"%.*s\": external data: expected an offset and a length of %zu "
                           "bytes, got \"%.*s\" and \"%.*s\"",
                           VIEW_ARG(tensor), bytes, (int)(r->offset.n < 20 ? r->offset.n : 20),
                           r->offset.n ? r->offset.p : "",
                           (int)(r->length.n < 20 ? r->length.n : 20),
                           r->length.n ? r->length.p : "");
    int file = file_of(x, g, tensor, location, e);
    if (file < 0)
        return false;
    struct view all = x->files[file].bytes;
    if (offset > all.n || bytes > all.n - offset)
        return engine_fail(e,
                           "tensor \"%.*s\": %.*s is too short: expected %zu bytes from %llu on, "
                           "the file has %zu",
                           VIEW_ARG(tensor), (int)(location.n < 80 ? location.n : 80), location.p,
                           bytes, (unsigned long long)offset, all.n);
    if (!(x->ranges = graph_room(g, x->ranges, x->n_ranges, &x->cap_ranges, sizeof(*x->ranges))))
        return engine_fail(e, "out of memory");
    if (bytes > 0)
        x->ranges[x->n_ranges++] =
            (struct external_range){(unsigned)file, offset, offset + bytes, tensor};
    *data = bytes > 0 ? view_of(all.p + offset, bytes) : VIEW("");
    return true;
}

static int by_place(const void *a, const void *b)
{
    const struct external_range *x = a, *y = b;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

bool external_check(struct external *x, struct engine_error *e)
{
    if (x->n_ranges > 0)
        qsort(x->ranges, x->n_ranges, sizeof(*x->ranges), by_place);
    for (unsigned i = 1; i < x->n_ranges; i++) {
        const struct external_range *a = &x->ranges[i - 1], *b = &x->ranges[i];
        if (a->file == b->file && b->at < a->end && (a->at != b->at || a->end != b->end))
            return engine_fail(e, "tensors \"%.*s\" and \"%.*s\": their external data overlaps",
                               (int)(a->tensor.n < 64 ? a->tensor.n : 64), a->tensor.p,
                               (int)(b->tensor.n < 64 ? b->tensor.n : 64), b->tensor.p);
    }
    return true;
}
