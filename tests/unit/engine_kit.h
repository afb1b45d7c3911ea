/* A writer of ONNX files for tests: messages of protobuf fields, put together from the inside out. Every
 * helper frees what it was given. */
#ifndef SLUICE_TESTS_ENGINE_KIT_H
#define SLUICE_TESTS_ENGINE_KIT_H

#include "base/check.h"
#include "base/mem.h"
#include "base/rand.h"
#include "engine/cpu/device.h"
#include "engine/engine.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define KIT static __attribute__((unused))

// ---- engines -----------------------------------------------------------------------------------------

// On the CPU; the caller frees it.
KIT struct engine *engine_with(struct cpu_options o, struct engine_limits limits)
{
    struct engine_error e;
    struct engine *g = engine_new(cpu_device_new(o), NULL, limits, &e);
    invariant(g);
    return g;
}

// One for all that ask for nothing special; plain: without the library's kernels.
KIT struct engine *engine_any(bool plain)
{
    static struct engine *two[2];
    if (!two[plain])
        two[plain] = engine_with((struct cpu_options){.plain = plain}, (struct engine_limits){0});
    return two[plain];
}

// ---- protobuf ----------------------------------------------------------------------------------------

struct msg {
    uint8_t *p;
    size_t n;
};

KIT void msg_raw(struct msg *m, const void *p, size_t n)
{
    m->p = realloc(m->p, m->n + n + 1);
    if (n > 0)
        memcpy(m->p + m->n, p, n);
    m->n += n;
}

KIT void msg_varint(struct msg *m, uint64_t v)
{
    do {
        uint8_t b = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        msg_raw(m, &b, 1);
        v >>= 7;
    } while (v);
}

KIT void msg_uint(struct msg *m, uint32_t field, uint64_t v)
{
    msg_varint(m, (uint64_t)field << 3);
    msg_varint(m, v);
}

KIT void msg_float(struct msg *m, uint32_t field, float f)
{
    msg_varint(m, (uint64_t)field << 3 | 5);
    msg_raw(m, &f, 4);
}

KIT void msg_bytes(struct msg *m, uint32_t field, const void *p, size_t n)
{
    msg_varint(m, (uint64_t)field << 3 | 2);
    msg_varint(m, n);
    msg_raw(m, p, n);
}

KIT void msg_text(struct msg *m, uint32_t field, const char *s)
{
    msg_bytes(m, field, s, strlen(s));
}

KIT void msg_msg(struct msg *m, uint32_t field, struct msg inner)
{
    msg_bytes(m, field, inner.p, inner.n);
    free(inner.p);
}

// ---- ONNX --------------------------------------------------------------------------------------------

enum { ONNX_F32 = 1, ONNX_I64 = 7 };

KIT struct msg onnx_tensor(const char *name, unsigned type, const int64_t *dims, unsigned rank,
                           const void *raw, size_t bytes)
{
    struct msg t = {0};
    for (unsigned i = 0; i < rank; i++)
        msg_uint(&t, 1, (uint64_t)dims[i]);
    msg_uint(&t, 2, type);
    msg_text(&t, 8, name);
    msg_bytes(&t, 9, raw, bytes);
    return t;
}

#define ONNX_OTHER (INT64_MIN + 1)

// As a value of the graph's inputs or outputs. -1: a free dimension; ONNX_OTHER: one with another name.
KIT struct msg onnx_value(const char *name, unsigned type, const int64_t *dims, unsigned rank)
{
    struct msg v = {0}, kind = {0}, tensor = {0}, shape = {0};
    for (unsigned i = 0; i < rank; i++) {
        struct msg dim = {0};
        if (dims[i] == -1 || dims[i] == ONNX_OTHER)
            msg_text(&dim, 2, dims[i] == -1 ? "N" : "M");
        else
            msg_uint(&dim, 1, (uint64_t)dims[i]);
        msg_msg(&shape, 1, dim);
    }
    msg_uint(&tensor, 1, type);
    msg_msg(&tensor, 2, shape);
    msg_msg(&kind, 1, tensor);
    msg_text(&v, 1, name);
    msg_msg(&v, 2, kind);
    return v;
}

// Names: separated by commas; an empty one is an input left out.
KIT struct msg onnx_node(const char *type, const char *inputs, const char *outputs)
{
    struct msg n = {0};
    const char *lists[] = {inputs, outputs};
    for (unsigned k = 0; k < 2; k++) {
        for (const char *at = lists[k]; *at;) {
            size_t len = strcspn(at, ",");
            msg_bytes(&n, k + 1, at, len);
            at += len + (at[len] == ',');
        }
    }
    msg_text(&n, 3, "the-node");
    msg_text(&n, 4, type);
    return n;
}

KIT void onnx_int(struct msg *node, const char *name, int64_t v)
{
    struct msg a = {0};
    msg_text(&a, 1, name);
    msg_uint(&a, 3, (uint64_t)v);
    msg_uint(&a, 20, 2);
    msg_msg(node, 5, a);
}

KIT void onnx_ints(struct msg *node, const char *name, unsigned n, const int64_t *v)
{
    struct msg a = {0};
    msg_text(&a, 1, name);
    for (unsigned i = 0; i < n; i++)
        msg_uint(&a, 8, (uint64_t)v[i]);
    msg_uint(&a, 20, 7);
    msg_msg(node, 5, a);
}

KIT void onnx_string(struct msg *node, const char *name, const char *v)
{
    struct msg a = {0};
    msg_text(&a, 1, name);
    msg_text(&a, 4, v);
    msg_uint(&a, 20, 3);
    msg_msg(node, 5, a);
}

KIT void onnx_float(struct msg *node, const char *name, float v)
{
    struct msg a = {0};
    msg_text(&a, 1, name);
    msg_float(&a, 2, v);
    msg_uint(&a, 20, 1);
    msg_msg(node, 5, a);
}

KIT void onnx_floats(struct msg *node, const char *name, unsigned n, const float *v)
{
    struct msg a = {0};
    msg_text(&a, 1, name);
    for (unsigned i = 0; i < n; i++)
        msg_float(&a, 7, v[i]);
    msg_uint(&a, 20, 6);
    msg_msg(node, 5, a);
}

KIT void onnx_strings(struct msg *node, const char *name, unsigned n, const char *const *v)
{
    struct msg a = {0};
    msg_text(&a, 1, name);
    for (unsigned i = 0; i < n; i++)
        msg_text(&a, 9, v[i]);
    msg_uint(&a, 20, 8);
    msg_msg(node, 5, a);
}

KIT void onnx_graph(struct msg *node, const char *name, struct msg graph)
{
    struct msg a = {0};
    msg_text(&a, 1, name);
    msg_msg(&a, 6, graph);
    msg_uint(&a, 20, 5);
    msg_msg(node, 5, a);
}

enum { GRAPH_NODES = 1, GRAPH_CONSTANTS = 5, GRAPH_INPUTS = 11, GRAPH_OUTPUTS = 12 };

KIT void graph_node(struct msg *graph, const char *type, const char *in, const char *out)
{
    msg_msg(graph, GRAPH_NODES, onnx_node(type, in, out));
}

// A constant of n int64, of rank 0 or 1.
KIT void graph_integers(struct msg *graph, const char *name, unsigned rank, unsigned n,
                        const int64_t *v)
{
    msg_msg(graph, GRAPH_CONSTANTS,
            onnx_tensor(name, ONNX_I64, (int64_t[]){n}, rank, v, n * sizeof(*v)));
}

// n floats from -0.5 to 0.5; the caller frees them.
KIT float *noise(struct rand *dice, size_t n)
{
    float *x = malloc((n + 1) * sizeof(*x));
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rand_unit(dice) - 0.5f;
    return x;
}

// A constant of them.
KIT void graph_noise(struct msg *graph, const char *name, unsigned rank, const int64_t *dims,
                     struct rand *dice)
{
    size_t n = 1;
    for (unsigned i = 0; i < rank; i++)
        n *= (size_t)dims[i];
    float *x = noise(dice, n);
    msg_msg(graph, GRAPH_CONSTANTS, onnx_tensor(name, ONNX_F32, dims, rank, x, n * 4));
    free(x);
}

KIT struct msg onnx_model(struct msg graph, int64_t opset)
{
    struct msg m = {0}, set = {0};
    msg_uint(&m, 1, 8);
    msg_msg(&m, 7, graph);
    msg_uint(&set, 2, (uint64_t)opset);
    msg_msg(&m, 8, set);
    return m;
}

// ---- what every loader is owed -----------------------------------------------------------------------

// m: what the engine gave for a file that cannot be; got: its reason.
KIT void expect_refusal(const struct engine_model *m, const char *got, const char *why)
{
    if (m)
        fail_msg("taken; expected: %s", why);
    if (!strstr(got, why))
        fail_msg("expected \"%s\", got \"%s\"", why, got);
}

// Loads the file and runs it on `in`; the n-th allocation fails, for every n until none does (before `most`):
// refused with a reason, at least `least` times, or the first output has `bytes`; never a crash, never a leak.
// Frees the file.
KIT void expect_without_memory(struct msg file, const struct engine_data *in, size_t bytes,
                               unsigned least, uint64_t most)
{
    struct engine *engine = engine_any(false);
    unsigned failed = 0;
    bool reached = true;
    for (uint64_t n = 1; reached; n++) {
        struct engine_data out[2];
        struct engine_error e = {""};
        uint64_t before = mem_count();
        assert_true(n < most);
        mem_fail_at(n);
        struct engine_model *m = engine_model_load(engine, view_of(file.p, file.n), 8, &e);
        struct engine_instance *i = m ? engine_instance_new(m, &e) : NULL;
        bool ran = i && engine_run(i, in, out, &e);
        reached = mem_count() - before >= n;
        mem_fail_at(0);
        failed += !ran;
        assert_true(ran ? out[0].bytes == bytes : e.text[0] != '\0');
        engine_instance_free(i);
        engine_model_free(m);
    }
    assert_true(failed >= least);
    free(file.p);
}

#endif
