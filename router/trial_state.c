#include "router/trial_state.h"

#include "base/json.h"
#include "base/num.h"
#include "base/printable.h"
#include <stdarg.h>
#include <stdio.h>

const char *const trial_status_name[TRIAL_STATUSES] = {
    [TRIAL_DRAFT] = "draft",       [TRIAL_RUNNING] = "running",
    [TRIAL_PAUSED] = "paused",     [TRIAL_ROLLED_BACK] = "rolled_back",
    [TRIAL_PROMOTED] = "promoted",
};

// ---- changes -----------------------------------------------------------------------------------------

// As much as fits, without half of a character at its end.
static void put_text(char *out, size_t most, struct view text)
{
    size_t n = text.n < most ? text.n : most;
    while (n < text.n && n > 0 && ((uint8_t)text.p[n] & 0xc0) == 0x80)
        n--;
    if (n > 0)
        memcpy(out, text.p, n);
    out[n] = '\0';
}

static void put_stamp(struct trial_state *s, const struct trial_stamp *stamp)
{
    s->mark = stamp->mark;
    s->at_us = stamp->at_us;
    put_text(s->who, TRIAL_WHO, stamp->who);
    put_text(s->why, TRIAL_WHY, stamp->why);
}

static bool is_whole(const uint32_t *weights, unsigned n)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += weights[i];
    return sum == EXPERIMENT_WHOLE;
}

static bool seed_buckets(struct trial_state *s, const struct trial_section *c)
{
    buckets_init(&s->buckets);
    for (unsigned w = 0; w < c->changes; w++) {
        for (unsigned i = 0; i < c->n_variants; i++)
            s->weight[i] = c->weight[i][w];
        if (!is_whole(s->weight, c->n_variants) ||
            !buckets_change(&s->buckets, s->weight, c->n_variants))
            return false;
    }
    return c->changes > 0;
}

// The newest first; the oldest is forgotten.
static void add_seed(struct trial_state *s, struct hash128 digest)
{
    s->n_seeds += s->n_seeds < TRIAL_SEEDS;
    memmove(&s->seed[1], &s->seed[0], (s->n_seeds - 1) * sizeof(s->seed[0]));
    s->seed[0] = digest;
}

bool trial_state_seed(struct trial_state *out, const struct trial_state *before,
                      const struct trial_section *s, const struct trial_stamp *stamp)
{
    if (s->n_variants < 1 || s->n_variants > EXPERIMENT_VARIANTS ||
        !view_is_model_name(s->name, TRIAL_NAME))
        return false;
    if (out != before)
        *out = before ? *before : (struct trial_state){0};
    for (unsigned i = 0; i < s->n_variants; i++) {
        if (!view_is_model_name(s->variants[i], TRIAL_NAME))
            return false;
        put_text(out->variant[i], TRIAL_NAME, s->variants[i]);
    }
    put_text(out->name, TRIAL_NAME, s->name);
    out->n_variants = s->n_variants;
    out->status = s->draft ? TRIAL_DRAFT : TRIAL_RUNNING;
    out->promoted = 0;
    out->counts_from = ++out->revision;
    add_seed(out, s->digest);
    put_stamp(out, stamp);
    return seed_buckets(out, s);
}

static const char *weigh(struct trial_state *s, const uint32_t *weights, bool *anew)
{
    if (!is_whole(weights, s->n_variants))
        return "the weights do not add up to 100%";
    struct buckets next = s->buckets;
    *anew = !buckets_change(&next, weights, s->n_variants);
    if (*anew) {
        buckets_init(&next);
        if (!buckets_change(&next, weights, s->n_variants))
            return "the weights cannot be drawn";
    }
    s->buckets = next;
    memcpy(s->weight, weights, s->n_variants * sizeof(weights[0]));
    return NULL;
}

static const char *resume(struct trial_state *s)
{
    if (s->status == TRIAL_RUNNING)
        return "it is running";
    if (s->status != TRIAL_PAUSED)
        s->counts_from = s->revision + 1;
    s->status = TRIAL_RUNNING;
    return NULL;
}

static const char *end(struct trial_state *s, enum trial_status how, unsigned variant)
{
    if (s->status == TRIAL_DRAFT)
        return "it is a draft: it has not begun";
    if (how == TRIAL_PROMOTED && s->status == TRIAL_ROLLED_BACK)
        return "it was rolled back: resume it first";
    if (s->status == how && s->promoted == variant)
        return how == TRIAL_PROMOTED ? "that variant is promoted" : "it is rolled back";
    if (variant >= s->n_variants)
        return "it has no such variant";
    s->status = how;
    s->promoted = variant;
    return NULL;
}

static const char *hold(struct trial_state *s)
{
    if (s->status != TRIAL_RUNNING)
        return "it is not running";
    s->status = TRIAL_PAUSED;
    return NULL;
}

const char *trial_state_change(struct trial_state *s, const struct trial_change *c, bool *anew)
{
    bool drawn_anew = false;
    const char *why = s->revision >= TRIAL_MOST    ? "it has no revisions left"
                      : c->verb == TRIAL_WEIGH     ? weigh(s, c->weights, &drawn_anew)
                      : c->verb == TRIAL_RESUME    ? resume(s)
                      : c->verb == TRIAL_PAUSE     ? hold(s)
                      : c->verb == TRIAL_ROLL_BACK ? end(s, TRIAL_ROLLED_BACK, 0)
                                                   : end(s, TRIAL_PROMOTED, c->variant);
    if (anew)
        *anew = drawn_anew;
    if (why)
        return why;
    if (s->status != TRIAL_PROMOTED)
        s->promoted = 0;
    s->revision++;
    put_stamp(s, &c->stamp);
    return NULL;
}

bool trial_state_draws(const struct trial_state *s, unsigned *whole)
{
    *whole = s->status == TRIAL_PROMOTED ? s->promoted : 0;
    return s->status == TRIAL_RUNNING;
}

// ---- rules -------------------------------------------------------------------------------------------

enum trial_order trial_state_order(const struct trial_state *here, const struct trial_state *there)
{
    if (!there || there->revision < here->revision)
        return TRIAL_OLDER;
    if (there->revision > here->revision || there->epoch > here->epoch)
        return TRIAL_NEWER;
    if (there->mark == here->mark)
        return TRIAL_SAME;
    return there->epoch < here->epoch ? TRIAL_OLDER : TRIAL_NEWER;
}

void trial_state_fence(struct trial_state *here, const struct trial_state *there)
{
    if (there && there->epoch > here->epoch)
        here->epoch = there->epoch;
    here->epoch++;
}

bool trial_state_is_seeded_by(const struct trial_state *s, struct hash128 digest,
                              const struct hash128 *last)
{
    if (hash128_eq(s->seed[0], digest))
        return false;
    if (last)
        return !hash128_eq(*last, digest);
    for (unsigned i = 1; i < s->n_seeds; i++)
        if (hash128_eq(s->seed[i], digest))
            return false;
    return true;
}

bool trial_state_fits(const struct trial_state *s, const struct trial_section *section)
{
    bool fits = s->n_variants == section->n_variants && view_is(section->name, s->name);
    for (unsigned i = 0; fits && i < s->n_variants; i++)
        fits = view_is(section->variants[i], s->variant[i]);
    return fits;
}

// ---- written -----------------------------------------------------------------------------------------

static void put_key_u64(struct json_writer *w, struct view key, uint64_t n)
{
    json_w_key(w, key);
    json_w_u64(w, n);
}

static void put_key_text(struct json_writer *w, struct view key, const char *text)
{
    json_w_key(w, key);
    json_w_string(w, view_str(text));
}

static void put_hex(struct json_writer *w, const uint64_t *n, unsigned count)
{
    char digits[32];
    for (unsigned i = 0; i < count; i++)
        num_print_hex(digits + 16 * i, n[i]);
    json_w_string(w, view_of(digits, 16 * count));
}

static void put_lists(struct json_writer *w, const struct trial_state *s)
{
    json_w_key(w, VIEW("variants"));
    json_w_array(w);
    for (unsigned i = 0; i < s->n_variants; i++) {
        json_w_object(w);
        put_key_text(w, VIEW("name"), s->variant[i]);
        put_key_u64(w, VIEW("weight"), s->weight[i]);
        json_w_object_end(w);
    }
    json_w_array_end(w);
    json_w_key(w, VIEW("runs"));
    json_w_array(w);
    for (unsigned i = 0; i < s->buckets.n; i++) {
        json_w_u64(w, s->buckets.last[i]);
        json_w_u64(w, s->buckets.of[i]);
    }
    json_w_array_end(w);
    json_w_key(w, VIEW("seeds"));
    json_w_array(w);
    for (unsigned i = 0; i < s->n_seeds; i++)
        put_hex(w, (uint64_t[]){s->seed[i].hi, s->seed[i].lo}, 2);
    json_w_array_end(w);
}

bool trial_state_write(struct buffer *out, const struct trial_state *s)
{
    struct json_writer w;
    json_write(&w, out);
    json_w_object(&w);
    put_key_u64(&w, VIEW("layout"), TRIAL_LAYOUT);
    put_key_text(&w, VIEW("name"), s->name);
    put_key_u64(&w, VIEW("revision"), s->revision);
    put_key_u64(&w, VIEW("epoch"), s->epoch);
    json_w_key(&w, VIEW("mark"));
    put_hex(&w, &s->mark, 1);
    put_key_text(&w, VIEW("status"), trial_status_name[s->status]);
    put_key_u64(&w, VIEW("promoted"), s->promoted);
    put_key_u64(&w, VIEW("counts_from"), s->counts_from);
    put_lists(&w, s);
    put_key_u64(&w, VIEW("at_us"), s->at_us);
    put_key_text(&w, VIEW("who"), s->who);
    put_key_text(&w, VIEW("why"), s->why);
    json_w_object_end(&w);
    return !w.failed;
}

// ---- read --------------------------------------------------------------------------------------------

struct trial_reading {
    struct json_reader json;
    struct trial_state *out;
    char *wrong; // [TRIAL_WRONG]
};

__attribute__((format(printf, 2, 3))) static bool refuse(struct trial_reading *r,
                                                         const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(r->wrong, TRIAL_WRONG, format, ap);
    va_end(ap);
    printable(r->wrong);
    return false;
}

static bool read_number(struct trial_reading *r, const char *what, uint64_t most, uint64_t *out)
{
    if (json_next(&r->json) == JSON_NUMBER && num_parse_u64(r->json.text, out) == NUM_OK &&
        *out <= most)
        return true;
    return refuse(r, "%s: expected a whole number from 0 to %llu", what, (unsigned long long)most);
}

static bool read_text(struct trial_reading *r, const char *what, size_t most, char *out)
{
    struct arena a;
    struct view text = {NULL, 0};
    if (json_next(&r->json) != JSON_STRING)
        return refuse(r, "%s: expected a text", what);
    arena_init(&a, 0);
    bool ok = json_unescape(&r->json, &a, &text) && (text.n == 0 || text.p) && text.n <= most;
    if (ok && text.n > 0)
        memcpy(out, text.p, text.n);
    out[ok ? text.n : 0] = '\0';
    arena_deinit(&a);
    return ok || refuse(r, "%s: expected at most %zu bytes", what, most);
}

static bool read_name(struct trial_reading *r, const char *what, char out[TRIAL_NAME + 1])
{
    if (!read_text(r, what, TRIAL_NAME, out))
        return false;
    return view_is_model_name(view_str(out), TRIAL_NAME) || refuse(r, "%s: it is no name", what);
}

// Sixteen digits each.
static bool read_hex(struct trial_reading *r, const char *what, uint64_t *out, unsigned count)
{
    char digits[33];
    if (!read_text(r, what, sizeof(digits) - 1, digits))
        return false;
    if (strlen(digits) != 16 * count || strspn(digits, "0123456789abcdef") != 16 * count)
        return refuse(r, "%s: expected %u hexadecimal digits", what, 16 * count);
    for (unsigned i = 0; i < count; i++) {
        out[i] = 0;
        for (unsigned k = 0; k < 16; k++) {
            char c = digits[16 * i + k];
            out[i] = out[i] << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
        }
    }
    return true;
}

static bool read_status(struct trial_reading *r)
{
    char word[16];
    if (!read_text(r, "status", sizeof(word) - 1, word))
        return false;
    unsigned i = 0;
    while (i < TRIAL_STATUSES && strcmp(word, trial_status_name[i]) != 0)
        i++;
    r->out->status = (enum trial_status)i;
    return i < TRIAL_STATUSES || refuse(r, "status: expected one of ours");
}

// Its first token has been read.
static bool read_variant(struct trial_reading *r)
{
    struct trial_state *s = r->out;
    uint64_t weight = EXPERIMENT_WHOLE + 1;
    enum json_token t;
    if (s->n_variants == EXPERIMENT_VARIANTS)
        return refuse(r, "variants: more than %u", EXPERIMENT_VARIANTS);
    char *name = s->variant[s->n_variants];
    name[0] = '\0';
    while ((t = json_next(&r->json)) == JSON_KEY) {
        if (view_is(r->json.text, "name") && !name[0]) {
            if (!read_name(r, "variants: name", name))
                return false;
        } else if (view_is(r->json.text, "weight") && weight > EXPERIMENT_WHOLE) {
            if (!read_number(r, "variants: weight", EXPERIMENT_WHOLE, &weight))
                return false;
        } else if (!json_skip(&r->json, json_next(&r->json))) {
            return refuse(r, "variants: expected a value");
        }
    }
    if (t != JSON_OBJECT_END || !name[0] || weight > EXPERIMENT_WHOLE)
        return refuse(r, "variants: expected objects with name and weight");
    s->weight[s->n_variants++] = (uint32_t)weight;
    return true;
}

static bool read_variants(struct trial_reading *r)
{
    enum json_token t;
    if (json_next(&r->json) != JSON_ARRAY)
        return refuse(r, "variants: expected a list");
    while ((t = json_next(&r->json)) == JSON_OBJECT)
        if (!read_variant(r))
            return false;
    return t == JSON_ARRAY_END || refuse(r, "variants: expected objects");
}

static bool read_runs(struct trial_reading *r)
{
    struct buckets *b = &r->out->buckets;
    uint64_t flat[2 * BUCKET_RUNS + 1];
    size_t n;
    if (json_next(&r->json) != JSON_ARRAY ||
        json_numbers_u64(&r->json, flat, 2 * BUCKET_RUNS + 1, &n) != JSON_ARRAY_END)
        return refuse(r, "runs: expected a list of at most %u whole numbers", 2 * BUCKET_RUNS);
    if (n == 0 || n % 2 || n > 2 * BUCKET_RUNS)
        return refuse(r, "runs: expected pairs, 1 to %u", BUCKET_RUNS);
    for (b->n = 0; b->n < n / 2; b->n++) {
        uint64_t last = flat[2 * b->n], of = flat[2 * b->n + 1];
        if (last > UINT32_MAX || of >= EXPERIMENT_VARIANTS ||
            (b->n > 0 && last <= b->last[b->n - 1]))
            return refuse(r, "runs: expected buckets that grow, and variants");
        b->last[b->n] = (uint32_t)last;
        b->of[b->n] = (uint8_t)of;
    }
    return b->last[b->n - 1] == UINT32_MAX || refuse(r, "runs: the last bucket is nobody's");
}

static bool read_seeds(struct trial_reading *r)
{
    struct trial_state *s = r->out;
    if (json_next(&r->json) != JSON_ARRAY)
        return refuse(r, "seeds: expected a list");
    for (;;) {
        struct json_reader ahead = r->json;
        uint64_t n[2];
        if (json_next(&ahead) == JSON_ARRAY_END) {
            r->json = ahead;
            return true;
        }
        if (s->n_seeds == TRIAL_SEEDS)
            return refuse(r, "seeds: more than %u", TRIAL_SEEDS);
        if (!read_hex(r, "seeds", n, 2))
            return false;
        s->seed[s->n_seeds++] = (struct hash128){.hi = n[0], .lo = n[1]};
    }
}

enum member {
    LAYOUT,
    NAME,
    REVISION,
    EPOCH,
    MARK,
    STATUS,
    PROMOTED,
    COUNTS_FROM,
    VARIANTS,
    RUNS,
    SEEDS,
    AT,
    WHO,
    WHY,
    MEMBERS
};
static const char *const member_name[MEMBERS] = {
    "layout",      "name",     "revision", "epoch", "mark",  "status", "promoted",
    "counts_from", "variants", "runs",     "seeds", "at_us", "who",    "why"};

static bool read_layout(struct trial_reading *r)
{
    uint64_t layout;
    return read_number(r, "layout", UINT32_MAX, &layout) &&
           (layout == TRIAL_LAYOUT || refuse(r, "layout: another release's (%llu, expected %u)",
                                             (unsigned long long)layout, TRIAL_LAYOUT));
}

static bool read_promoted(struct trial_reading *r)
{
    uint64_t n = 0;
    bool ok = read_number(r, "promoted", EXPERIMENT_VARIANTS - 1, &n);
    r->out->promoted = (unsigned)n;
    return ok;
}

static bool read_member(struct trial_reading *r, enum member m)
{
    struct trial_state *s = r->out;
    switch (m) {
    case LAYOUT:
        return read_layout(r);
    case NAME:
        return read_name(r, "name", s->name);
    case REVISION:
        return read_number(r, "revision", TRIAL_MOST, &s->revision);
    case EPOCH:
        return read_number(r, "epoch", TRIAL_MOST, &s->epoch);
    case MARK:
        return read_hex(r, "mark", &s->mark, 1);
    case STATUS:
        return read_status(r);
    case PROMOTED:
        return read_promoted(r);
    case COUNTS_FROM:
        return read_number(r, "counts_from", TRIAL_MOST, &s->counts_from);
    case VARIANTS:
        return read_variants(r);
    case RUNS:
        return read_runs(r);
    case SEEDS:
        return read_seeds(r);
    case AT:
        return read_number(r, "at_us", TRIAL_MOST, &s->at_us);
    case WHO:
        return read_text(r, "who", TRIAL_WHO, s->who);
    case WHY:
        return read_text(r, "why", TRIAL_WHY, s->why);
    case MEMBERS:
        break;
    }
    return json_skip(&r->json, json_next(&r->json)) || refuse(r, "expected a value");
}

static enum member find_member(struct view key)
{
    unsigned m = 0;
    while (m < MEMBERS && !view_is(key, member_name[m]))
        m++;
    return (enum member)m;
}

static bool read_members(struct trial_reading *r)
{
    unsigned has = 0;
    enum json_token t;
    if (json_next(&r->json) != JSON_OBJECT)
        return refuse(r, "expected an object");
    while ((t = json_next(&r->json)) == JSON_KEY) {
        enum member m = find_member(r->json.text);
        if (m < MEMBERS && has >> m & 1)
            return refuse(r, "%s: twice", member_name[m]);
        has |= 1u << m;
        if (!read_member(r, m))
            return false;
    }
    if (t != JSON_OBJECT_END || json_next(&r->json) != JSON_END)
        return refuse(r, "%s", r->json.error ? r->json.error : "expected one object");
    for (unsigned m = 0; m < MEMBERS; m++)
        if (!(has >> m & 1))
            return refuse(r, "%s: missing", member_name[m]);
    return true;
}

// The buckets are what the weights say, but for what rounding takes.
static bool buckets_are_weights(const struct trial_state *s)
{
    for (unsigned i = 0; i < EXPERIMENT_VARIANTS; i++) {
        uint64_t want = i < s->n_variants ? s->weight[i] * BUCKETS / EXPERIMENT_WHOLE : 0;
        uint64_t has = buckets_of(&s->buckets, i), off = has > want ? has - want : want - has;
        if (off > (i < s->n_variants ? EXPERIMENT_VARIANTS : 0))
            return false;
    }
    return true;
}

static bool check(struct trial_reading *r)
{
    const struct trial_state *s = r->out;
    if (s->revision == 0 || s->counts_from == 0 || s->counts_from > s->revision)
        return refuse(r, "revision, counts_from: expected 1 and more, the latter not beyond");
    if (s->n_variants < 1 || s->n_seeds == 0)
        return refuse(r, "expected a variant and more, and a seed");
    for (unsigned i = 0; i < s->n_variants; i++)
        for (unsigned k = 0; k < i; k++)
            if (strcmp(s->variant[i], s->variant[k]) == 0)
                return refuse(r, "variants: two of one name");
    if (!is_whole(s->weight, s->n_variants))
        return refuse(r, "variants: the weights do not add up to %u", EXPERIMENT_WHOLE);
    if (s->status == TRIAL_PROMOTED ? s->promoted >= s->n_variants : s->promoted != 0)
        return refuse(r, "promoted: no such variant, or none was promoted");
    return buckets_are_weights(s) || refuse(r, "runs: not what the weights say");
}

bool trial_state_read(struct trial_state *out, struct view text, char wrong[TRIAL_WRONG])
{
    struct trial_reading r = {.out = out, .wrong = wrong};
    wrong[0] = '\0';
    *out = (struct trial_state){0};
    if (text.n > TRIAL_TEXT)
        return refuse(&r, "longer than %u bytes", TRIAL_TEXT);
    json_read(&r.json, text);
    return read_members(&r) && check(&r);
}
