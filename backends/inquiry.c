#include "backends/inquiry.h"

#include "infer/oip_grpc.h"
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

enum { GRPC_NO_ANSWER = -1, GRPC_NOT_FOUND = 5, GRPC_DENIED = 7, GRPC_EXHAUSTED = 8 };
enum { GRPC_UNIMPLEMENTED = 12, GRPC_UNAVAILABLE = 14, GRPC_UNAUTHENTICATED = 16 };

struct inquiry_line { // a model, while it is asked about
    struct roster_model model;
    const struct roster_model *before; // what the last roster says of it
    uint64_t key;                      // of its name
    struct view *versions;             // that the index calls ready
    unsigned n_versions, cap_versions;
    bool ready;           // one of its versions is
    bool stateless;       // the index names it and says no more
    bool refresh;         // known, and asked again all the same
    enum inquiry_ask ask; // OVER: nothing (more)
};

void inquiry_init(struct inquiry *q, const struct view *names, unsigned n_names)
{
    *q = (struct inquiry){.names = names, .n_names = n_names};
    arena_init(&q->arena, 0);
}

void inquiry_forget(struct inquiry *q)
{
    roster_unref(q->last);
    q->last = NULL;
    q->no_index = false;
    q->ask = INQUIRY_OVER;
    q->n = 0;
    arena_deinit(&q->arena);
}

void inquiry_set_names(struct inquiry *q, const struct view *names, unsigned n_names)
{
    q->names = names;
    q->n_names = n_names;
}

void inquiry_deinit(struct inquiry *q)
{
    inquiry_forget(q);
}

// ---- reasons -----------------------------------------------------------------------------------------

// Cut between characters, not within one.
static size_t cut(const char *text, size_t n, size_t most)
{
    if (n <= most)
        return n;
    while (most > 0 && ((unsigned char)text[most] & 0xc0) == 0x80)
        most--;
    return most;
}

__attribute__((format(printf, 3, 4))) static void because(struct inquiry *q, struct view *why,
                                                          const char *format, ...)
{
    char text[2 * ROSTER_WHY];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    size_t whole = n < 0 ? 0 : (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
    *why = arena_copy(&q->arena, view_of(text, cut(text, whole, ROSTER_WHY - 1)));
    if (why->n == 0)
        *why = VIEW("out of memory");
}

// What a failed question says for people.
static void blame(struct inquiry *q, struct view *why, const struct inquiry_answer *a)
{
    struct view method = inquiry_method(q->ask);
    size_t slash = sizeof("/inference.GRPCInferenceService/") - 1;
    struct view name = view_of(method.p + slash, method.n - slash);
    if (a->status == GRPC_NO_ANSWER)
        because(q, why, "%.*s: %.*s", VIEW_ARG(name), VIEW_ARG(a->text));
    else
        because(q, why, "%.*s: the server says %d: %.*s", VIEW_ARG(name), a->status,
                VIEW_ARG(a->text));
}

// ---- lines -------------------------------------------------------------------------------------------

static bool is_configured(const struct inquiry *q, struct view name)
{
    for (unsigned i = 0; i < q->n_names; i++) {
        if (view_eq(q->names[i], name))
            return true;
    }
    return false;
}

// "READY", and MLServer's "State.READY".
static bool state_is_ready(struct view state)
{
    for (size_t i = state.n; i > 0; i--) {
        if (state.p[i - 1] == '.') {
            state = view_of(state.p + i, state.n - i);
            break;
        }
    }
    return state.n == 5 && strncasecmp(state.p, "READY", 5) == 0;
}

static struct inquiry_line *line_for(struct inquiry *q, struct view name)
{
    if (name.n > ROSTER_NAME)
        name.n = cut(name.p, name.n, ROSTER_NAME);
    uint64_t key = hash64(name, 0);
    for (unsigned i = 0; i < q->n; i++) {
        if (q->lines[i].key == key && view_eq(q->lines[i].model.name, name))
            return &q->lines[i];
    }
    if (q->n == ROSTER_MODELS) {
        q->left_out++;
        return NULL;
    }
    struct inquiry_line *l = &q->lines[q->n++];
    *l = (struct inquiry_line){.key = key, .before = roster_find(q->last, name)};
    l->model.name = name;
    l->model.expected = is_configured(q, name);
    return l;
}

static void add_version(struct inquiry *q, struct inquiry_line *l, struct view version)
{
    if (version.n == 0 || l->n_versions == INFER_MAX_VERSIONS)
        return;
    struct view *list =
        oip_grown(&q->arena, l->versions, l->n_versions, &l->cap_versions, sizeof(*list));
    if (!list)
        return;
    l->versions = list;
    list[l->n_versions++] = version;
}

// The same lines in another order are the same.
static void add_to_digest(struct inquiry_line *l, const struct oip_index_model *m)
{
    struct hash128 both[2] = {hash128(m->version, 1), hash128(m->state, 2)};
    struct hash128 h = hash128(view_of(both, sizeof(both)), 3);
    l->model.line.hi ^= h.hi;
    l->model.line.lo ^= h.lo;
}

// Their memory is the round's.
static void note_refusal(struct inquiry_line *l, const struct oip_index_model *m)
{
    l->model.refused = (struct roster_refusal){
        .version = view_of(m->version.p, cut(m->version.p, m->version.n, ROSTER_VERSION)),
        .state = view_of(m->state.p, cut(m->state.p, m->state.n, ROSTER_VERSION)),
        .reason = view_of(m->reason.p, cut(m->reason.p, m->reason.n, ROSTER_WHY))};
}

static void add_line(struct inquiry *q, const struct oip_index_model *m)
{
    struct inquiry_line *l = line_for(q, m->name);
    if (!l)
        return;
    add_to_digest(l, m);
    if (state_is_ready(m->state)) {
        l->ready = true;
        add_version(q, l, m->version);
    } else if (m->state.n == 0) {
        l->stateless = true;
        add_version(q, l, m->version);
    } else if (m->reason.n > 0 && !view_is(m->reason, "unloaded")) {
        l->model.expected = true;
        note_refusal(l, m);
        because(q, &l->model.why, "%.*s: %.*s", VIEW_ARG(m->state), VIEW_ARG(m->reason));
    } else if (l->model.why.n == 0) {
        note_refusal(l, m);
        because(q, &l->model.why, "%.*s", VIEW_ARG(m->state));
    }
}

// ---- what is still to be asked -----------------------------------------------------------------------

static void keep_before(struct inquiry_line *l)
{
    struct hash128 line = l->model.line;
    struct roster_refusal refused = l->model.refused;
    l->model = *l->before;
    l->model.line = line;
    l->model.refused = refused;
    l->ask = INQUIRY_OVER;
}

static bool same_as_before(const struct inquiry_line *l)
{
    return l->before && hash128_eq(l->before->line, l->model.line);
}

static bool is_paused(const struct inquiry_line *l, uint64_t now_us)
{
    return same_as_before(l) && l->before->failures > 0 && now_us < l->before->retry_us;
}

// It is ready: must its metadata be asked for?
static void settle_ready(struct inquiry_line *l, uint64_t now_us)
{
    l->model.why = (struct view){0};
    if (is_paused(l, now_us) || (same_as_before(l) && roster_usable(l->before) && !l->refresh))
        keep_before(l);
    else
        l->ask = INQUIRY_METADATA;
}

static void settle(struct inquiry *q, struct inquiry_line *l, uint64_t now_us)
{
    bool may_serve = l->ready || l->stateless;
    if (may_serve && !model_name_ok(l->model.name)) {
        l->model.expected |= l->ready;
        because(q, &l->model.why, "its name is not [A-Za-z0-9._+@~-]{1,%d}", MODEL_NAME_MAX);
    } else if (l->ready) {
        settle_ready(l, now_us);
    } else if (l->stateless && is_paused(l, now_us) && !q->no_index) {
        keep_before(l);
    } else if (l->stateless) {
        l->ask = INQUIRY_READY;
    }
}

// It could not be had, for a reason that is the server's: a pause, and then again.
static void fault(struct inquiry *q, struct inquiry_line *l, const struct inquiry_answer *a,
                  uint64_t now_us)
{
    blame(q, &l->model.why, a);
    l->model.failures = same_as_before(l) ? l->before->failures + 1 : 1;
    uint64_t pause_us = INQUIRY_PAUSE_US;
    for (unsigned i = 1; i < l->model.failures && pause_us < INQUIRY_PAUSE_MAX_US; i++)
        pause_us *= 2;
    l->model.retry_us =
        now_us + (pause_us < INQUIRY_PAUSE_MAX_US ? pause_us : INQUIRY_PAUSE_MAX_US);
    l->ask = INQUIRY_OVER;
}

// ---- a round's end -----------------------------------------------------------------------------------

static enum inquiry_ask over(struct inquiry *q)
{
    return q->ask = INQUIRY_OVER;
}

// Nothing is new but what is ours: when to ask again.
static void keep_last(struct inquiry *q, const struct roster_model *models)
{
    for (unsigned i = 0; i < q->n; i++) {
        struct roster_model *m = &q->last->models[i];
        m->line = models[i].line;
        m->retry_us = models[i].retry_us;
        m->failures = models[i].failures;
    }
}

static bool is_known(const struct inquiry *q, struct hash128 digest, struct view why)
{
    return q->last && hash128_eq(digest, q->last->digest) && q->last->left_out == q->left_out &&
           view_eq(q->last->why, why);
}

static enum inquiry_ask finish(struct inquiry *q, struct view why)
{
    struct roster_model *models = arena_array(&q->arena, q->n ? q->n : 1, sizeof(*models));
    struct roster *next = NULL;
    for (unsigned i = 0; models && i < q->n; i++)
        models[i] = q->lines[i].model;
    if (models) {
        if (is_known(q, roster_seal(models, q->n), why)) {
            keep_last(q, models);
            return over(q);
        }
        next = roster_new(models, q->n, q->left_out, why);
    }
    if (next) {
        roster_unref(q->last);
        q->last = next;
    } else {
        snprintf(q->why, sizeof(q->why), "out of memory");
    }
    return over(q);
}

static enum inquiry_ask next_question(struct inquiry *q)
{
    for (; q->at < q->n; q->at++) {
        if (q->lines[q->at].ask != INQUIRY_OVER)
            return q->ask = q->lines[q->at].ask;
    }
    return finish(q, VIEW(""));
}

static enum inquiry_ask start_on_lines(struct inquiry *q, uint64_t now_us)
{
    unsigned turn = q->rounds / INQUIRY_REFRESH;
    if (q->n > 0 && q->rounds % INQUIRY_REFRESH == 0)
        q->lines[turn % q->n].refresh = true;
    for (unsigned i = 0; i < q->n; i++)
        settle(q, &q->lines[i], now_us);
    q->at = 0;
    return next_question(q);
}

// ---- answers -----------------------------------------------------------------------------------------

static enum inquiry_ask ask_configured(struct inquiry *q, uint64_t now_us)
{
    q->no_index = true;
    for (unsigned i = 0; i < q->n_names; i++) {
        struct view name = arena_copy(&q->arena, q->names[i]); // the round may outlive the names
        struct inquiry_line *l = name.p ? line_for(q, name) : NULL;
        if (l)
            l->stateless = true;
    }
    if (q->n_names == 0)
        return finish(
            q, VIEW("the server has no index of its models (RepositoryIndex): those that a section "
                    "model of the configuration names are asked for, and there is none"));
    return start_on_lines(q, now_us);
}

// It is stopping, or something before it has lost it: nothing of it can be used until it says otherwise.
static enum inquiry_ask all_unavailable(struct inquiry *q, const struct inquiry_answer *a)
{
    struct view why;
    blame(q, &why, a);
    for (unsigned i = 0; i < q->last->n; i++) {
        struct inquiry_line *l = &q->lines[q->n++];
        *l = (struct inquiry_line){.model = q->last->models[i]};
        l->model.line = (struct hash128){0};
        l->model.failures = 0;
        l->model.expected = false;
        l->model.why = why;
    }
    q->left_out = q->last->left_out;
    return finish(q, why);
}

static enum inquiry_ask on_no_index(struct inquiry *q, const struct inquiry_answer *a,
                                    uint64_t now_us)
{
    if (a->status == GRPC_UNIMPLEMENTED || a->status == GRPC_DENIED ||
        a->status == GRPC_UNAUTHENTICATED)
        return ask_configured(q, now_us);
    if (a->status == GRPC_UNAVAILABLE && q->last)
        return all_unavailable(q, a);
    struct view why;
    blame(q, &why, a);
    snprintf(q->why, sizeof(q->why), "%.*s", VIEW_ARG(why));
    return over(q);
}

static enum inquiry_ask on_index(struct inquiry *q, const struct inquiry_answer *a, uint64_t now_us)
{
    struct oip_index index;
    if (a->status != 0)
        return on_no_index(q, a, now_us);
    struct view kept =
        a->message.n <= INQUIRY_INDEX_BYTES ? arena_copy(&q->arena, a->message) : (struct view){0};
    if (kept.n != a->message.n || !oip_grpc_read_index(&q->arena, kept, &index)) {
        snprintf(q->why, sizeof(q->why), "RepositoryIndex: %s",
                 kept.n == a->message.n ? "the answer cannot be read" : "the answer is too large");
        return over(q);
    }
    for (unsigned pass = 0; pass < 2; pass++) { // what may serve is not left out for what may not
        for (unsigned i = 0; i < index.n; i++) {
            const struct oip_index_model *m = &index.models[i];
            if ((m->state.n > 0 && !state_is_ready(m->state)) == (pass == 1))
                add_line(q, m);
        }
    }
    return start_on_lines(q, now_us);
}

// No answer is no news: what was known stays.
static bool keeps_what_is_known(struct inquiry_line *l, const struct inquiry_answer *a)
{
    if (a->status != GRPC_NO_ANSWER || !roster_usable(l->before))
        return false;
    keep_before(l);
    return true;
}

static void on_ready(struct inquiry *q, struct inquiry_line *l, const struct inquiry_answer *a,
                     uint64_t now_us)
{
    bool ready = a->status == GRPC_UNIMPLEMENTED;
    if (keeps_what_is_known(l, a))
        return;
    if (a->status == 0 && !oip_grpc_read_ready(a->message, &ready))
        ready = false;
    if (ready) {
        settle_ready(l, now_us);
        return;
    }
    fault(q, l, a, now_us);
    if (q->no_index)
        l->model.failures = 0; // few, named by people, and asked in every round
    if (a->status == 0)
        because(q, &l->model.why, "it is not ready");
    else if (a->status == GRPC_NOT_FOUND)
        because(q, &l->model.why, "the server does not know it");
}

static bool read_metadata(struct inquiry *q, struct inquiry_line *l, struct view message,
                          struct error *e)
{
    struct model_metadata *meta = &l->model.meta;
    struct view kept =
        message.n <= INQUIRY_METADATA_BYTES ? arena_copy(&q->arena, message) : (struct view){0};
    if (kept.n != message.n)
        return error_set(e, STATUS_BAD_ANSWER, "the worker's metadata: more than %zu KiB",
                         INQUIRY_METADATA_BYTES >> 10);
    if (!oip_grpc_read_metadata(&q->arena, kept, meta, e))
        return false;
    meta->name = l->model.name; // requests are sent under the name that the index gives
    if (meta->n_versions == 0) {
        meta->versions = l->versions;
        meta->n_versions = (uint16_t)l->n_versions;
    }
    return true;
}

static void on_metadata(struct inquiry *q, struct inquiry_line *l, const struct inquiry_answer *a,
                        uint64_t now_us)
{
    struct error e = {0};
    l->model.expected = true; // its server calls it ready
    if (keeps_what_is_known(l, a))
        return;
    if (a->status == 0 && read_metadata(q, l, a->message, &e)) {
        l->ask = INQUIRY_CONFIG;
        return;
    }
    fault(q, l, a, now_us);
    if (a->status == 0)
        because(q, &l->model.why, "%s", e.text);
}

static bool read_config(struct inquiry *q, struct model_metadata *meta, struct view message,
                        struct error *e)
{
    if (!oip_grpc_read_config(message, meta, e))
        return false;
    struct view kept = arena_copy(&q->arena, meta->config);
    if (meta->config.n > 0 && !kept.p)
        return error_set(e, STATUS_UNAVAILABLE, "out of memory");
    meta->config = kept;
    return true;
}

// ModelConfig is an extension: where it is not known, or cannot be read, the model is served singly.
static void on_config(struct inquiry *q, struct inquiry_line *l, const struct inquiry_answer *a,
                      uint64_t now_us)
{
    if (keeps_what_is_known(l, a))
        return;
    if (a->status == GRPC_NO_ANSWER || a->status == GRPC_NOT_FOUND || a->status == GRPC_EXHAUSTED ||
        a->status == GRPC_UNAVAILABLE) {
        fault(q, l, a, now_us);
        return;
    }
    struct error e;
    if (a->status == 0 && !read_config(q, &l->model.meta, a->message, &e))
        because(q, &l->model.config_why, "%s", e.text);
    l->model.failures = 0;
    l->ask = INQUIRY_OVER;
}

enum inquiry_ask inquiry_on_answer(struct inquiry *q, const struct inquiry_answer *a,
                                   uint64_t now_us)
{
    struct inquiry_line *l = q->at < q->n ? &q->lines[q->at] : NULL;
    switch (q->ask) {
    case INQUIRY_OVER:
        return INQUIRY_OVER;
    case INQUIRY_INDEX:
        return on_index(q, a, now_us);
    case INQUIRY_READY:
        on_ready(q, l, a, now_us);
        break;
    case INQUIRY_METADATA:
        on_metadata(q, l, a, now_us);
        break;
    case INQUIRY_CONFIG:
        on_config(q, l, a, now_us);
        break;
    }
    return next_question(q);
}

// ---- questions ---------------------------------------------------------------------------------------

enum inquiry_ask inquiry_begin(struct inquiry *q, uint64_t now_us)
{
    arena_reset(&q->arena);
    q->why[0] = '\0';
    q->n = q->at = q->left_out = 0;
    q->rounds++;
    q->lines = arena_array(&q->arena, ROSTER_MODELS, sizeof(*q->lines));
    if (!q->lines) {
        snprintf(q->why, sizeof(q->why), "out of memory");
        return over(q);
    }
    if (q->no_index)
        return ask_configured(q, now_us);
    return q->ask = INQUIRY_INDEX;
}

struct view inquiry_method(enum inquiry_ask ask)
{
#define METHOD(name) VIEW("/inference.GRPCInferenceService/" name)
    static const struct view method[] = {
        [INQUIRY_INDEX] = METHOD("RepositoryIndex"),
        [INQUIRY_READY] = METHOD("ModelReady"),
        [INQUIRY_METADATA] = METHOD("ModelMetadata"),
        [INQUIRY_CONFIG] = METHOD("ModelConfig"),
    };
    return method[ask];
}

struct view inquiry_message(struct inquiry *q)
{
    if (q->ask == INQUIRY_INDEX)
        return oip_grpc_index_request(&q->arena, false);
    return oip_grpc_model_request(&q->arena, q->lines[q->at].model.name, VIEW(""));
}
