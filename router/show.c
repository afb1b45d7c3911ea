/* What a desk and a flow say of themselves: /status, and whoever debugs, read the same lines. An object that
 * looks wrong says so. */
#include "base/json.h"
#include "router/desk.h"
#include "router/flow.h"

static void put(struct json_writer *w, const char *key, uint64_t value)
{
    json_w_key(w, view_str(key));
    json_w_u64(w, value);
}

static void put_flag(struct json_writer *w, const char *key, bool value)
{
    json_w_key(w, view_str(key));
    json_w_bool(w, value);
}

static void put_wrong(struct json_writer *w, const char *what)
{
    json_w_key(w, VIEW("wrong"));
    json_w_string(w, view_str(what));
}

static void show_replica(const struct replica *r, uint64_t now_us, struct json_writer *w)
{
    json_w_object(w);
    put(w, "id", r->id);
    put_flag(w, "up", r->up);
    put_flag(w, "differs", r->differs);
    static const char *const standing[] = {"closed", "open", "half_open"};
    json_w_key(w, VIEW("breaker"));
    json_w_string(w, view_str(standing[r->standing]));
    put(w, "rank", r->facts.rank);
    put(w, "batches", r->batches);
    put(w, "rows", r->rows);
    put(w, "latency_us", (uint64_t)r->latency_us);
    if (r->doubt_us > 0)
        put(w, "doubted_us", now_us - r->doubt_us);
    if (r->not_before_us > now_us)
        put(w, "paused_us", r->not_before_us - now_us);
    if (r->rest_us > now_us)
        put(w, "rest_us", r->rest_us - now_us);
    json_w_key(w, VIEW("versions"));
    json_w_array(w);
    for (unsigned i = 0; i < r->facts.n_versions; i++)
        json_w_string(w, r->facts.versions[i]);
    json_w_array_end(w);
    json_w_object_end(w);
}

void desk_show(const struct desk *d, uint64_t now_us, struct json_writer *w)
{
    uint64_t rows = 0;
    unsigned up = 0;
    json_w_object(w);
    json_w_key(w, VIEW("model"));
    json_w_string(w, d->model->name);
    put(w, "waiting_requests", d->batcher.count);
    put(w, "waiting_rows", d->batcher.rows);
    put(w, "waiting_bytes", d->batcher.bytes);
    put(w, "running_rows", d->running_rows);
    put(w, "suspects", d->replicas.suspects);
    put(w, "followers", d->followers);
    put(w, "shadows", d->n_shadows);
    if (d->replicas.n_ready == 0)
        put(w, "alone_us", now_us - d->replicas.alone_since_us);
    json_w_key(w, VIEW("replicas"));
    json_w_array(w);
    for (unsigned i = 0; i < d->replicas.n; i++) {
        rows += d->replicas.at[i].rows;
        up += d->replicas.at[i].up;
        if (d->replicas.at[i].id != REPLICA_NONE)
            show_replica(&d->replicas.at[i], now_us, w);
    }
    json_w_array_end(w);
    if (up != d->replicas.n_up)
        put_wrong(w, "the replicas that are up are not as many as were counted");
    else if (rows != d->running_rows)
        put_wrong(w, "the rows at the replicas do not add up to running_rows");
    json_w_object_end(w);
}

void flow_show(const struct flow *f, struct json_writer *w)
{
    json_w_object(w);
    put(w, "live", f->n_live);
    put(w, "zombies", f->n_zombies);
    put(w, "deadlines", f->wheel.count);
    put(w, "shadows", f->n_shadows);
    if (f->n_zombies > f->n_live || f->wheel.count + f->n_zombies != f->n_live + f->n_shadows)
        put_wrong(w, "every live infer has a deadline or is a zombie: these do not add up");
    json_w_object_end(w);
}
