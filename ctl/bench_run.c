#include "ctl/bench_run.h"

#include "base/mem.h"
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define URL_BYTES 1024
#define SPIN_US 1500 // before a request is due: sleeps are by the millisecond

struct bench_slot { // one connection's worth
    CURL *easy;
    struct bench_request *request; // NULL: none is under way
    struct buffer answer;
    char url[URL_BYTES];
    struct curl_slist *fields; // of that request; NULL: those of all
    struct bench_slot *next;   // free ones
};

struct bench_world {
    const struct bench_target *target;
    struct bench_trace *trace;
    struct bench_result *result;
    CURLM *multi;
    struct curl_slist *fields;
    struct bench_slot *slots, *spare;
    size_t next; // of the trace
    unsigned running;
    uint64_t begin_us;
};

static uint64_t clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t since(const struct bench_world *w)
{
    return clock_us() - w->begin_us;
}

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
    struct bench_slot *s = ctx;
    return buffer_append(&s->answer, p, size * n) ? size * n : 0;
}

// What every request says of itself, and those of its own.
static struct curl_slist *make_fields(const json_t *own)
{
    struct curl_slist *all = curl_slist_append(NULL, "Content-Type: application/json");
    bool ok = all && curl_slist_append(all, "Expect:");
    for (size_t i = 0; ok && i < json_array_size(own); i++)
        ok = curl_slist_append(all, json_string_value(json_array_get(own, i))) != NULL;
    if (ok)
        return all;
    curl_slist_free_all(all);
    return NULL;
}

static bool begin(struct bench_world *w, struct bench_request *r)
{
    struct bench_slot *s = w->spare;
    const char *body = r->body ? r->body : w->trace->body;
    snprintf(s->url, sizeof(s->url), "%s/v2/models/%s/infer", w->target->url, r->model);
    buffer_reset(&s->answer);
    curl_easy_setopt(s->easy, CURLOPT_URL, s->url);
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDS, body);
    if (json_array_size(r->fields) > 0 && !(s->fields = make_fields(r->fields)))
        return false;
    curl_easy_setopt(s->easy, CURLOPT_HTTPHEADER, s->fields ? s->fields : w->fields);
    if (curl_multi_add_handle(w->multi, s->easy) != CURLM_OK)
        return false;
    s->request = r;
    w->spare = s->next;
    w->running++;
    return true;
}

static void judge(struct bench_world *w, struct bench_slot *s)
{
    struct bench_result *out = w->result;
    uint64_t *count[] = {[BENCH_EQUAL] = &out->equal,
                         [BENCH_DIFFERS] = &out->differ,
                         [BENCH_UNKNOWN] = &out->unknown};
    if (s->request->outputs && s->request->status == 200)
        ++*count[bench_compare(s->request->outputs, buffer_view(&s->answer), w->target->tolerance,
                               &out->worst)];
}

static void end(struct bench_world *w, const CURLMsg *m)
{
    struct bench_slot *s = NULL;
    long status = 0;
    curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &s);
    if (m->data.result == CURLE_OK)
        curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
    else
        snprintf(w->result->why, sizeof(w->result->why), "%s", curl_easy_strerror(m->data.result));
    s->request->status = (int)status;
    s->request->took_us = since(w) - s->request->due_us;
    judge(w, s);
    curl_multi_remove_handle(w->multi, s->easy);
    curl_slist_free_all(s->fields);
    s->fields = NULL;
    s->request = NULL;
    s->next = w->spare;
    w->spare = s;
    w->running--;
}

static bool begin_due(struct bench_world *w)
{
    while (w->next < w->trace->n && w->spare && w->trace->at[w->next].due_us <= since(w))
        if (!begin(w, &w->trace->at[w->next++]))
            return false;
    return true;
}

// Until the next one is due, or something comes.
static void rest(struct bench_world *w)
{
    uint64_t now_us = since(w);
    bool more = w->next < w->trace->n && w->spare;
    uint64_t left_us = more ? w->trace->at[w->next].due_us : now_us + 100000;
    left_us = left_us > now_us ? left_us - now_us : 0;
    curl_multi_poll(w->multi, NULL, 0,
                    left_us > SPIN_US ? (int)((left_us - SPIN_US) / 1000 + 1) : 0, NULL);
}

static bool run(struct bench_world *w)
{
    int still, queued;
    w->begin_us = clock_us();
    while (w->next < w->trace->n || w->running > 0) {
        if (!begin_due(w) || curl_multi_perform(w->multi, &still) != CURLM_OK)
            return false;
        for (CURLMsg *m; (m = curl_multi_info_read(w->multi, &queued));)
            if (m->msg == CURLMSG_DONE)
                end(w, m);
        rest(w);
    }
    w->result->took_us = since(w);
    return true;
}

static bool make_slot(struct bench_world *w, struct bench_slot *s)
{
    buffer_init(&s->answer);
    s->easy = curl_easy_init();
    if (!s->easy)
        return false;
    curl_easy_setopt(s->easy, CURLOPT_PRIVATE, s);
    curl_easy_setopt(s->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(s->easy, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(s->easy, CURLOPT_TIMEOUT_MS, w->target->timeout_ms);
    curl_easy_setopt(s->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(s->easy, CURLOPT_PROXY, ""); // nothing of the environment is followed
    s->next = w->spare;
    w->spare = s;
    return true;
}

bool bench_run(const struct bench_target *target, struct bench_trace *t, struct bench_result *out)
{
    struct bench_world w = {.target = target, .trace = t, .result = out};
    unsigned n = 0;
    *out = (struct bench_result){0};
    w.fields = make_fields(NULL);
    w.multi = curl_multi_init();
    w.slots = mem_zalloc(target->connections * sizeof(*w.slots));
    bool ok = w.fields && w.multi && w.slots;
    while (ok && n < target->connections)
        ok = make_slot(&w, &w.slots[n++]);
    if (ok)
        curl_multi_setopt(w.multi, CURLMOPT_MAXCONNECTS, (long)target->connections);
    ok = ok && run(&w);
    for (unsigned i = 0; i < n; i++) {
        if (w.slots[i].request)
            curl_multi_remove_handle(w.multi, w.slots[i].easy);
        curl_easy_cleanup(w.slots[i].easy);
        curl_slist_free_all(w.slots[i].fields);
        buffer_deinit(&w.slots[i].answer);
    }
    curl_multi_cleanup(w.multi);
    curl_slist_free_all(w.fields);
    mem_free(w.slots);
    return ok;
}
