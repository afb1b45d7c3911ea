#include "infer/oip_statistics.h"

#include "base/json.h"
#include "infer/oip_pb.h"

/* Triton tells the time of a batch's input, computing and output apart. Whoever asks a worker sees the whole of it, which
 * is said as computing: input and output are as many, and took nothing. */

void oip_batches_add(struct oip_batch_figures *list, unsigned *n, unsigned most, uint32_t rows,
                     struct oip_duration compute)
{
    unsigned at = 0;
    while (at < *n && list[at].rows < rows)
        at++;
    if (at == *n || list[at].rows != rows) {
        if (*n == most)
            return;
        memmove(list + at + 1, list + at, (*n - at) * sizeof(*list));
        list[at] = (struct oip_batch_figures){.rows = rows};
        ++*n;
    }
    list[at].compute.count += compute.count;
    list[at].compute.us += compute.us;
}

static struct oip_duration nothing(struct oip_duration d)
{
    return (struct oip_duration){.count = d.count};
}

// ---- JSON --------------------------------------------------------------------------------------------------

static void put_number(struct json_writer *w, struct view key, uint64_t v)
{
    json_w_key(w, key);
    json_w_u64(w, v);
}

static void put_duration(struct json_writer *w, struct view key, struct oip_duration d)
{
    json_w_key(w, key);
    json_w_object(w);
    put_number(w, VIEW("count"), d.count);
    put_number(w, VIEW("ns"), d.us * 1000);
    json_w_object_end(w);
}

static void put_compute(struct json_writer *w, struct oip_duration compute)
{
    put_duration(w, VIEW("compute_input"), nothing(compute));
    put_duration(w, VIEW("compute_infer"), compute);
    put_duration(w, VIEW("compute_output"), nothing(compute));
}

static void put_batches(struct json_writer *w, const struct oip_figures *f)
{
    json_w_key(w, VIEW("batch_stats"));
    json_w_array(w);
    for (unsigned i = 0; i < f->n_batches; i++) {
        json_w_object(w);
        put_number(w, VIEW("batch_size"), f->batches[i].rows);
        put_compute(w, f->batches[i].compute);
        json_w_object_end(w);
    }
    json_w_array_end(w);
}

static void put_figures(struct json_writer *w, const struct oip_figures *f)
{
    json_w_object(w);
    json_w_key(w, VIEW("name"));
    json_w_string(w, f->name);
    json_w_key(w, VIEW("version"));
    json_w_string(w, f->version);
    put_number(w, VIEW("last_inference"), f->last_ms);
    put_number(w, VIEW("inference_count"), f->inferences);
    put_number(w, VIEW("execution_count"), f->executions);
    json_w_key(w, VIEW("inference_stats"));
    json_w_object(w);
    put_duration(w, VIEW("success"), f->success);
    put_duration(w, VIEW("fail"), f->fail);
    put_duration(w, VIEW("queue"), f->queue);
    put_compute(w, f->compute);
    put_duration(w, VIEW("cache_hit"), f->cache_hit);
    put_duration(w, VIEW("cache_miss"), f->cache_miss);
    json_w_object_end(w);
    put_batches(w, f);
    json_w_key(w, VIEW("memory_usage"));
    json_w_array(w);
    json_w_array_end(w);
    json_w_key(w, VIEW("response_stats"));
    json_w_object(w);
    json_w_object_end(w);
    json_w_object_end(w);
}

bool oip_rest_statistics(struct buffer *out, const struct oip_statistics *s)
{
    struct json_writer w;
    json_write(&w, out);
    json_w_object(&w);
    json_w_key(&w, VIEW("model_stats"));
    json_w_array(&w);
    for (unsigned i = 0; i < s->n; i++)
        put_figures(&w, &s->models[i]);
    json_w_array_end(&w);
    json_w_object_end(&w);
    return !w.failed;
}

// ---- protobuf ----------------------------------------------------------------------------------------------

// proto3: a number that is 0 is left out.
static size_t number_size(uint32_t field, uint64_t v)
{
    return v ? pb_uint_size(field, v) : 0;
}

static uint8_t *w_number(uint8_t *at, uint32_t field, uint64_t v)
{
    return v ? pb_w_uint(at, field, v) : at;
}

static size_t duration_bytes(struct oip_duration d)
{
    return number_size(1, d.count) + number_size(2, d.us * 1000);
}

static uint8_t *w_duration(uint8_t *at, uint32_t field, struct oip_duration d)
{
    at = pb_w_len(at, field, duration_bytes(d));
    return w_number(w_number(at, 1, d.count), 2, d.us * 1000);
}

// What InferStatistics has under its numbers 1 to 8.
#define PARTS 8
static void parts_of(const struct oip_figures *f, struct oip_duration out[PARTS])
{
    out[0] = f->success;
    out[1] = f->fail;
    out[2] = f->queue;
    out[3] = out[5] = nothing(f->compute);
    out[4] = f->compute;
    out[6] = f->cache_hit;
    out[7] = f->cache_miss;
}

static size_t parts_bytes(const struct oip_figures *f)
{
    struct oip_duration part[PARTS];
    size_t n = 0;
    parts_of(f, part);
    for (uint32_t i = 0; i < PARTS; i++)
        n += pb_len_size(i + 1, duration_bytes(part[i]));
    return n;
}

static uint8_t *w_parts(uint8_t *at, const struct oip_figures *f)
{
    struct oip_duration part[PARTS];
    parts_of(f, part);
    for (uint32_t i = 0; i < PARTS; i++)
        at = w_duration(at, i + 1, part[i]);
    return at;
}

static size_t batch_bytes(const struct oip_batch_figures *b)
{
    size_t none = pb_len_size(2, duration_bytes(nothing(b->compute)));
    return number_size(1, b->rows) + 2 * none + pb_len_size(3, duration_bytes(b->compute));
}

static uint8_t *w_batch(uint8_t *at, const struct oip_batch_figures *b)
{
    at = w_number(pb_w_len(at, 7, batch_bytes(b)), 1, b->rows);
    at = w_duration(at, 2, nothing(b->compute));
    at = w_duration(at, 3, b->compute);
    return w_duration(at, 4, nothing(b->compute));
}

static size_t figures_bytes(const struct oip_figures *f)
{
    size_t n = oip_pb_text_size(1, f->name) + oip_pb_text_size(2, f->version) +
               number_size(3, f->last_ms) + number_size(4, f->inferences) +
               number_size(5, f->executions) + pb_len_size(6, parts_bytes(f));
    for (unsigned i = 0; i < f->n_batches; i++)
        n += pb_len_size(7, batch_bytes(&f->batches[i]));
    return n;
}

static uint8_t *w_figures(uint8_t *at, const struct oip_figures *f)
{
    at = pb_w_len(at, 1, figures_bytes(f));
    at = oip_pb_w_text(oip_pb_w_text(at, 1, f->name), 2, f->version);
    at = w_number(at, 3, f->last_ms);
    at = w_number(w_number(at, 4, f->inferences), 5, f->executions);
    at = w_parts(pb_w_len(at, 6, parts_bytes(f)), f);
    for (unsigned i = 0; i < f->n_batches; i++)
        at = w_batch(at, &f->batches[i]);
    return at;
}

bool oip_grpc_statistics(struct buffer *out, const struct oip_statistics *s)
{
    for (unsigned i = 0; i < s->n; i++) {
        size_t n = pb_len_size(1, figures_bytes(&s->models[i]));
        uint8_t *at = buffer_reserve(out, n);
        if (!at)
            return false;
        w_figures(at, &s->models[i]);
        buffer_commit(out, n);
    }
    return true;
}
