#include "infer/oip_rest.h"

static bool flag(struct buffer *out, struct view key, bool v)
{
    struct json_writer w;
    json_write(&w, out);
    json_w_object(&w);
    json_w_key(&w, key);
    json_w_bool(&w, v);
    json_w_object_end(&w);
    return !w.failed;
}

static void text(struct json_writer *w, struct view key, struct view v)
{
    json_w_key(w, key);
    json_w_string(w, v);
}

bool oip_rest_error(struct buffer *out, const char *message)
{
    struct json_writer w;
    json_write(&w, out);
    json_w_object(&w);
    text(&w, VIEW("error"), view_str(message));
    json_w_object_end(&w);
    return !w.failed;
}

bool oip_rest_live(struct buffer *out, bool live)
{
    return flag(out, VIEW("live"), live);
}

bool oip_rest_ready(struct buffer *out, bool ready)
{
    return flag(out, VIEW("ready"), ready);
}

bool oip_rest_model_ready(struct buffer *out, struct view name, bool ready)
{
    struct json_writer w;
    json_write(&w, out);
    json_w_object(&w);
    text(&w, VIEW("name"), name);
    json_w_key(&w, VIEW("ready"));
    json_w_bool(&w, ready);
    json_w_object_end(&w);
    return !w.failed;
}

bool oip_rest_server(struct buffer *out, struct view name, struct view version,
                     unsigned n_extensions)
{
    struct json_writer w;
    json_write(&w, out);
    json_w_object(&w);
    text(&w, VIEW("name"), name);
    text(&w, VIEW("version"), version);
    json_w_key(&w, VIEW("extensions"));
    json_w_array(&w);
    for (unsigned i = 0; i < n_extensions; i++)
        json_w_string(&w, oip_extensions[i]);
    json_w_array_end(&w);
    json_w_object_end(&w);
    return !w.failed;
}

static void dims(struct json_writer *w, const struct tensor *t, unsigned skip)
{
    json_w_array(w);
    for (unsigned i = skip; i < t->rank; i++)
        json_w_i64(w, tensor_dim(t, i));
    json_w_array_end(w);
}

static void tensors(struct json_writer *w, struct view key, const struct tensor *list, unsigned n)
{
    json_w_key(w, key);
    json_w_array(w);
    for (unsigned i = 0; i < n; i++) {
        json_w_object(w);
        text(w, VIEW("name"), list[i].name);
        text(w, VIEW("datatype"), view_str(dtype_table[list[i].dtype].name));
        json_w_key(w, VIEW("shape"));
        dims(w, &list[i], 0);
        json_w_object_end(w);
    }
    json_w_array_end(w);
}

bool oip_rest_model(struct buffer *out, const struct model_metadata *m)
{
    struct json_writer w;
    json_write(&w, out);
    json_w_object(&w);
    text(&w, VIEW("name"), m->name);
    json_w_key(&w, VIEW("versions"));
    json_w_array(&w);
    for (unsigned i = 0; i < m->n_versions; i++)
        json_w_string(&w, m->versions[i]);
    json_w_array_end(&w);
    text(&w, VIEW("platform"), m->platform);
    tensors(&w, VIEW("inputs"), m->inputs, m->n_inputs);
    tensors(&w, VIEW("outputs"), m->outputs, m->n_outputs);
    json_w_object_end(&w);
    return !w.failed;
}

bool oip_rest_index(struct buffer *out, const struct oip_index *index)
{
    struct json_writer w;
    json_write(&w, out);
    json_w_array(&w);
    for (unsigned i = 0; i < index->n; i++) {
        const struct oip_index_model *m = &index->models[i];
        json_w_object(&w);
        text(&w, VIEW("name"), m->name);
        if (m->version.n)
            text(&w, VIEW("version"), m->version);
        if (m->state.n)
            text(&w, VIEW("state"), m->state);
        if (m->reason.n)
            text(&w, VIEW("reason"), m->reason);
        json_w_object_end(&w);
    }
    json_w_array_end(&w);
    return !w.failed;
}

// The next key, decoded; false at the end of the object, or with e.
static bool next_key(struct json_reader *r, struct json_keyset *keys, struct view *key,
                     struct error *e)
{
    e->status = STATUS_OK;
    enum json_token token = json_next(r);
    if (token == JSON_OBJECT_END)
        return false;
    if (token != JSON_KEY)
        return error_set(e, STATUS_BAD_REQUEST, "body: %s (byte %zu)", r->error, r->error_at);
    enum json_seen seen =
        json_unescape(r, keys->arena, key) ? json_keyset_add(keys, *key) : JSON_SEEN_ERROR;
    if (seen == JSON_SEEN_BEFORE)
        return error_set(e, STATUS_BAD_REQUEST, "body: duplicate key (byte %zu)", r->token_at);
    return seen == JSON_SEEN_NEW || error_set(e, STATUS_UNAVAILABLE, "out of memory");
}

bool oip_rest_read_index_request(struct arena *a, struct view body, bool *ready, struct error *e)
{
    struct json_reader r;
    struct json_keyset keys;
    struct view key;
    *ready = false;
    json_read(&r, body);
    json_keyset_init(&keys, a);
    if (body.n == 0)
        return true;
    enum json_token token = json_next(&r);
    if (token != JSON_ERROR && token != JSON_OBJECT)
        return error_set(e, STATUS_BAD_REQUEST, "body: expected an object");
    while (token != JSON_ERROR && next_key(&r, &keys, &key, e)) {
        token = json_next(&r);
        if (view_is(key, "ready") && token != JSON_ERROR) {
            if (token != JSON_TRUE && token != JSON_FALSE && token != JSON_NULL)
                return error_set(e, STATUS_BAD_REQUEST, "ready: expected true or false");
            *ready = token == JSON_TRUE;
        } else if (!json_skip(&r, token)) {
            token = JSON_ERROR;
        }
    }
    if (token != JSON_ERROR && e->status != STATUS_OK)
        return false;
    return (token != JSON_ERROR && json_next(&r) == JSON_END) ||
           error_set(e, STATUS_BAD_REQUEST, "body: %s (byte %zu)", r.error, r.error_at);
}
