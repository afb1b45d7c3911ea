/* Fuzz: any bytes as a model file. What loads runs one row, and two when it batches, or says why not (lengths
 * that its ops cannot take, places out of range); and row 0 of the two must be the row alone, bit by bit.
 * Memory and work are held to what the fuzzer can wait for. */
#include "base/check.h"
#include "base/mem.h"
#include "engine/cpu/device.h"
#include "engine/engine.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_PORTS = 64, LENGTH = 3 /* of free dimensions but the batch's */ };
#define MOST_BYTES ((size_t)64 << 20)

static const uint8_t widths[ENGINE_DTYPES] = {
    [ENGINE_F32] = 4, [ENGINE_F64] = 8, [ENGINE_I32] = 4,  [ENGINE_I64] = 8,   [ENGINE_BOOL] = 1,
    [ENGINE_U8] = 1,  [ENGINE_I8] = 1,  [ENGINE_U16] = 2,  [ENGINE_I16] = 2,   [ENGINE_U32] = 4,
    [ENGINE_U64] = 8, [ENGINE_F16] = 2, [ENGINE_BF16] = 2, [ENGINE_STRING] = 4 /* empty ones */};

// `rows` rows of small numbers (zeros where they are whole); the caller frees each data.
static void make_inputs(const struct engine_model *m, int64_t rows, struct engine_data *in)
{
    for (unsigned k = 0; k < engine_model_inputs(m); k++) {
        const struct engine_port *p = engine_model_input(m, k);
        in[k] = (struct engine_data){.rank = p->rank, .bytes = widths[p->dtype]};
        for (unsigned d = 0; d < p->rank; d++) {
            in[k].shape[d] = p->shape[d] >= 0 ? p->shape[d] : d == 0 ? rows : LENGTH;
            if (__builtin_mul_overflow(in[k].bytes, (size_t)in[k].shape[d], &in[k].bytes))
                in[k].bytes = SIZE_MAX;
        }
        if (in[k].bytes > MOST_BYTES) { // with shorter ones it was tried; it will say so
            in[k].bytes = 0;
            in[k].shape[0] = 0;
        }
        float *x = mem_must_zero(in[k].bytes + 1);
        for (size_t i = 0; p->dtype == ENGINE_F32 && i < in[k].bytes / 4; i++)
            x[i] = ((float)(i % 13) - 6) / 4;
        in[k].data = x;
    }
}

static void free_inputs(const struct engine_model *m, struct engine_data *in)
{
    for (unsigned k = 0; k < engine_model_inputs(m); k++)
        mem_free((void *)in[k].data);
}

// Bits; of what is not a number any.
static bool same(const struct engine_model *m, unsigned output, const void *a, const void *b,
                 size_t n)
{
    const float *x = a, *y = b;
    if (engine_model_output(m, output)->dtype != ENGINE_F32)
        return n == 0 || memcmp(a, b, n) == 0;
    for (size_t i = 0; i < n / 4; i++) {
        if (memcmp(&x[i], &y[i], 4) != 0 && !(x[i] != x[i] && y[i] != y[i]))
            return false;
    }
    return true;
}

static void run(struct engine_model *m)
{
    struct engine_error e;
    struct engine_data in[MAX_PORTS], out[MAX_PORTS], both[MAX_PORTS];
    void *kept[MAX_PORTS];
    struct engine_instance *i = engine_instance_new(m, &e);
    unsigned n = engine_model_outputs(m);
    invariant(i);
    make_inputs(m, 1, in);
    e.text[0] = '\0';
    bool ran = engine_run(i, in, out, &e);
    invariant(ran || e.text[0] != '\0');
    for (unsigned k = 0; ran && k < n; k++) {
        kept[k] = mem_must(out[k].bytes + 1);
        if (out[k].bytes > 0)
            memcpy(kept[k], out[k].data, out[k].bytes);
    }
    free_inputs(m, in);
    if (ran && engine_model_max_batch(m) >= 2) {
        make_inputs(m, 2, in);
        e.text[0] = '\0';
        bool both_ran = engine_run(i, in, both, &e);
        invariant(both_ran || e.text[0] != '\0');
        for (unsigned k = 0; both_ran && k < n; k++) {
            bool text = engine_model_output(m, k)->dtype == ENGINE_STRING;
            size_t row = text ? out[k].bytes : both[k].bytes / 2;
            invariant(row <= both[k].bytes && same(m, k, both[k].data, kept[k], row));
        }
        free_inputs(m, in);
    }
    for (unsigned k = 0; ran && k < n; k++)
        mem_free(kept[k]);
    engine_instance_free(i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct engine_error e;
    static struct engine *engine;
    if (!engine)
        engine = engine_new(
            cpu_device_new((struct cpu_options){0}), NULL,
            (struct engine_limits){.bytes = (size_t)32 << 20, .work = 1 << 22, .trips = 1000}, &e);
    invariant(engine);
    struct engine_model *m = engine_model_load(engine, view_of(data, size), 4, &e);
    if (!m) {
        invariant(e.text[0] != '\0');
        return 0;
    }
    run(m);
    engine_model_free(m);
    return 0;
}
