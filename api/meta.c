#include "api/meta.h"
#include "base/check.h"
#include "base/pen.h"

/* On the way of every answer: plain copies and integers, no printf. The text's bound is the sum of its
 * holders: model and version, experiment and variant, fallback are cut at META_NAME_MAX each; the rest is
 * short. */
_Static_assert(META_TEXT >= 5 * META_NAME_MAX + 64 + 32 + 160 + 320, "see above");

// A name from outside or from the configuration: what a field value may hold, cut.
static char *put_name(char *at, struct view v)
{
    size_t n = v.n < META_NAME_MAX ? v.n : META_NAME_MAX;
    for (size_t i = 0; i < n; i++)
        *at++ = v.p[i] > 0x20 && v.p[i] < 0x7f ? v.p[i] : '?';
    return at;
}

static void add_header(struct meta_fields *f, struct view name, struct view value)
{
    f->headers[f->n_headers++] = (struct http_header){name, value};
}

static void add_text(struct meta_fields *f, struct view key, struct view value)
{
    add_header(f, key, value);
    f->params[f->n_params++] = (struct param){.key = key, .type = PARAM_STRING, .s = value};
}

static void add_number(struct meta_fields *f, struct view key, uint64_t v)
{
    f->params[f->n_params++] = (struct param){.key = key, .type = PARAM_INT64, .i = (int64_t)v};
}

// Microseconds as milliseconds: 1234567 -> 1234.567. At most 24 bytes.
static char *put_ms(char *at, uint64_t us)
{
    uint64_t ms = us / 1000;
    unsigned rest = (unsigned)(us % 1000);
    at += num_print_u64(at, ms);
    if (rest == 0)
        return at;
    *at++ = '.';
    *at++ = (char)('0' + rest / 100);
    if (rest % 100 == 0)
        return at;
    *at++ = (char)('0' + rest / 10 % 10);
    if (rest % 10)
        *at++ = (char)('0' + rest % 10);
    return at;
}

static char *put_model(struct meta_fields *f, char *at, const struct answer_meta *m)
{
    char *from = at;
    at = put_name(at, m->model);
    if (m->version.n)
        at = put_name(PEN_LIT(at, ";version="), m->version);
    add_header(f, VIEW("sluice-model"), view_of(from, (size_t)(at - from)));
    return at;
}

static char *put_pair(struct meta_fields *f, char *at, const struct answer_meta *m)
{
    char *from = at;
    at = put_name(at, m->experiment);
    *at++ = '/';
    at = put_name(at, m->variant);
    add_text(f, VIEW("sluice-experiment"), view_of(from, (size_t)(at - from)));
    return at;
}

static char *put_fallback(struct meta_fields *f, char *at, const struct answer_meta *m)
{
    char *from = at;
    at = put_name(at, m->fallback);
    add_text(f, VIEW("sluice-fallback"), view_of(from, (size_t)(at - from)));
    return at;
}

static char *put_batch(struct meta_fields *f, char *at, const struct answer_meta *m)
{
    char *from = at;
    at += num_print_u64(at, m->batch_rows);
    if (m->batch_reason) {
        size_t n = strlen(m->batch_reason);
        at = pen_view(PEN_LIT(at, ";reason="), view_of(m->batch_reason, n < 32 ? n : 32));
    }
    add_text(f, VIEW("sluice-batch"), view_of(from, (size_t)(at - from)));
    return at;
}

// RFC 9111, section 5.1.
static char *put_age(struct meta_fields *f, char *at, const struct answer_meta *m)
{
    char *from = at;
    at += num_print_u64(at, m->age_s);
    add_header(f, VIEW("age"), view_of(from, (size_t)(at - from)));
    add_number(f, VIEW("age_s"), m->age_s);
    return at;
}

static char *put_timing(struct meta_fields *f, char *at, const struct answer_meta *m)
{
    char *from = at;
    at = put_ms(PEN_LIT(at, "parse;dur="), m->parse_us);
    at = put_ms(PEN_LIT(at, ", queue;dur="), m->queue_us);
    at = put_ms(PEN_LIT(at, ", compute;dur="), m->compute_us);
    at = put_ms(PEN_LIT(at, ", total;dur="), m->total_us);
    add_header(f, VIEW("server-timing"), view_of(from, (size_t)(at - from)));
    return at;
}

void meta_write(struct meta_fields *f, const struct answer_meta *m)
{
    static const char digits[] = "01234";
    f->n_headers = f->n_params = 0;
    if (!m)
        return;
    if (m->request_id.n)
        add_header(f, VIEW("x-request-id"), m->request_id);
    if (m->hidden)
        return;
    char *at = f->text;
    if (m->model.n && m->source != answer_source_name[SOURCE_DEFAULT]) // that no model gave
        at = put_model(f, at, m);
    if (m->source) {
        unsigned level = m->degradation < 4 ? m->degradation : 4;
        add_text(f, VIEW("sluice-source"), view_str(m->source));
        add_text(f, VIEW("sluice-degradation"), view_of(digits + level, 1));
    }
    if (m->aged)
        at = put_age(f, at, m);
    if (m->fallback.n)
        at = put_fallback(f, at, m);
    if (m->attempts.n)
        add_text(f, VIEW("sluice-attempts"), m->attempts);
    if (m->experiment.n)
        at = put_pair(f, at, m);
    if (m->batch_rows)
        at = put_batch(f, at, m);
    if (m->total_us || m->compute_us)
        at = put_timing(f, at, m);
    if (m->source || m->compute_us) {
        add_number(f, VIEW("queue_us"), m->queue_us);
        add_number(f, VIEW("compute_us"), m->compute_us);
    }
    debug_invariant(at <= f->text + sizeof(f->text));
}

struct view api_request_id(const struct exchange *ex, const uint64_t random[2], char out[32])
{
    for (unsigned i = 0; i < ex->n_headers; i++) {
        const struct http_header *h = &ex->headers[i];
        if (h->name.n != 12 || memcmp(h->name.p, "x-request-id", 12) != 0)
            continue;
        bool ok = h->value.n >= 1 && h->value.n <= 128;
        for (size_t k = 0; ok && k < h->value.n; k++)
            ok = h->value.p[k] > 0x20 && h->value.p[k] < 0x7f;
        if (ok)
            return h->value;
    }
    num_print_hex(out, random[0]);
    num_print_hex(out + 16, random[1]);
    return view_of(out, 32);
}
