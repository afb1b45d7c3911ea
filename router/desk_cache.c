#include "router/desk_inner.h"

#include "base/check.h"
#include "infer/copy.h"

/* A flight: tickets that ask the same at a time. One of them, its leader, is queued and sent as any other; the others wait
 * for its answer (PLACE_WAITS), each until its own origin calls it home.
 *
 *   comes ─nobody asks the same─► leads ─answered─► so are all
 *     │                            ▲ │
 *     │                            │ ├─failed, and so would the others─► so do all
 *     └─ somebody does ─► waits ───┘ └─failed for now, late, gone─► the next one leads
 *                           └─called home
 *
 *  L1  A flight's node has its leader; each of a flight has its node (ticket.flight).
 *  L2  While its leader is queued nobody of a flight is more urgent: who comes and is takes the lead.
 *  L3  A leader that is aboard stays there when its client goes, as long as one waits; and its batch is out
 *      until the last deadline of them. */

void desk_keep_in(struct desk *d, struct cache *c)
{
    d->kept = cache_join(c, &d->model->cache);
}

void desk_store_in(struct desk *d, bool stored)
{
    d->stored = stored;
}

static void counted(struct desk *d, enum cache_count what)
{
    cache_add(&d->model->cache.count[what], 1);
}

static struct cache_id id_of(const struct ticket *t)
{
    struct cache_id id = {.key = *t->cache_key, .row = t->cache_row, .rows = t->cache_rows};
    if (t->to.version.n > 0)
        id.version = hash128(t->to.version, 0);
    return id;
}

// ---- versions ----------------------------------------------------------------------------------------

static struct view version_of(const struct desk *d)
{
    return view_of(d->version, d->version_bytes);
}

static void set_version(struct desk *d, struct view v)
{
    d->version_bytes = (uint8_t)v.n;
    if (v.n > 0)
        memcpy(d->version, v.p, v.n);
}

// Do all that are up have it, ejected ones too, which come back? Who lists none says nothing against it.
static bool all_have(const struct desk *d, struct view version)
{
    for (unsigned i = 0; i < d->replicas.n; i++) {
        const struct replica *r = &d->replicas.at[i];
        if (r->up && r->facts.n_versions > 0 && !replica_has(r, version))
            return false;
    }
    return true;
}

static bool is_number(struct view v)
{
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return false;
    }
    return v.n > 0;
}

// Numbers by their value, and above names.
static bool is_higher(struct view a, struct view b)
{
    bool numbers = is_number(a);
    if (numbers != is_number(b))
        return numbers;
    if (numbers && a.n != b.n)
        return a.n > b.n;
    int order = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return order > 0 || (order == 0 && a.n > b.n);
}

// The highest that all replicas have; while none is up, as it was.
static void resolve_version(struct desk *d)
{
    const struct replica *first = NULL;
    for (unsigned i = 0; i < d->replicas.n && !first; i++)
        first = d->replicas.at[i].up ? &d->replicas.at[i] : NULL;
    if (!d->version_old || !first)
        return;
    d->version_old = false;
    struct view best = {0};
    for (unsigned i = 0; i < first->facts.n_versions; i++) {
        struct view v = first->facts.versions[i];
        if ((best.n == 0 || is_higher(v, best)) && all_have(d, v))
            best = v;
    }
    set_version(d, best);
}

void cache_replicas(struct desk *d, bool another, uint64_t now_us)
{
    d->version_old = true;
    if (another)
        d->loaded_us = now_us;
}

// May an answer of that version be given to who asked for none, or for that of its ticket?
static bool version_fits(struct desk *d, const struct ticket *t, struct view said)
{
    if (t->to.version.n > 0)
        return said.n == 0 || view_eq(said, t->to.version);
    resolve_version(d);
    return view_eq(said, version_of(d));
}

// Under which version its answer is stored.
static struct view version_asked(struct desk *d, const struct ticket *t)
{
    if (t->to.version.n > 0)
        return t->to.version;
    resolve_version(d);
    return version_of(d);
}

// As version_fits, of an answer that has just come: workers may prefer another version than the highest.
static bool version_taught(struct desk *d, const struct ticket *t, struct view said)
{
    if (version_fits(d, t, said))
        return true;
    if (t->to.version.n > 0 || said.n > MODEL_VERSION_MAX || !all_have(d, said))
        return false;
    set_version(d, said);
    return true;
}

// ---- what is kept ------------------------------------------------------------------------------------

static bool caches(const struct desk *d)
{
    return d->kept && d->model->rules.cache_ttl_us > 0;
}

static void give_kept(struct desk *d, struct ticket *t, struct answer *a, enum answer_source source,
                      uint64_t age_us, struct effects *fx)
{
    block_ref(a->block);
    t->slice = (struct slice){.answer = a};
    t->source = source;
    t->age_s = (uint32_t)desk_least(age_us / 1000000, UINT32_MAX);
    t->queue_us = t->compute_us = 0;
    ticket_answered(d, t, fx);
}

static uint64_t age_of(uint64_t stored_us, uint64_t now_us)
{
    return now_us > stored_us ? now_us - stored_us : 0;
}

// What an answer of then is to it: SOURCE_CACHE, SOURCE_STALE where that may be given, or SOURCE_MODEL: the model has to be
// asked. Known of it is that it is of the right version.
static enum answer_source source_of(const struct desk *d, const struct ticket *t,
                                    uint64_t stored_us, uint64_t now_us)
{
    const struct model_rules *k = &d->model->rules;
    uint64_t age_us = age_of(stored_us, now_us);
    bool stale_too = t->cache == CACHE_ONLY_STALE || standing_level(d->model) >= LEVEL_PARTIAL;
    if (age_us < k->cache_ttl_us && stored_us >= d->loaded_us)
        return SOURCE_CACHE;
    return stale_too && age_us < k->cache_stale_us ? SOURCE_STALE : SOURCE_MODEL;
}

// False: it is not there, or too old.
static bool answer_kept(struct desk *d, struct ticket *t, struct cache_node *n, uint64_t now_us,
                        struct effects *fx)
{
    struct answer *a = cache_answer(n);
    if (!a || !version_fits(d, t, a->version))
        return false;
    enum answer_source source = source_of(d, t, n->stored_us, now_us);
    if (source == SOURCE_MODEL)
        return false;
    cache_touch(n);
    counted(d, source == SOURCE_CACHE ? CACHE_HITS : CACHE_STALE);
    give_kept(d, t, a, source, age_of(n->stored_us, now_us), fx);
    return true;
}

void cache_has_none(struct desk *d, struct ticket *t, struct effects *fx)
{
    ticket_failed(d, t, FAILED(STATUS_UNAVAILABLE, "not cached"), fx);
}

void cache_keep(struct desk *d, const struct ticket *t, uint64_t sent_us, uint64_t now_us,
                size_t *left, struct effects *fx)
{
    if (!caches(d) || !version_taught(d, t, t->slice.answer->version))
        return;
    size_t bytes = answer_copy_bytes(&t->slice);
    struct cache_id id = id_of(t);
    if (bytes > *left)
        return;
    *left -= bytes;
    if (cache_put(d->kept, &id, &t->slice, t->cache_epoch, sent_us, now_us, fx->blocks))
        store_keep(d, t, &id, version_asked(d, t), sent_us, fx);
}

bool store_answers(struct desk *d, struct ticket *t, struct cache_id *id, const struct slice *s,
                   uint32_t epoch, uint64_t stored_us, uint64_t now_us, struct effects *fx)
{
    if (!caches(d) || !version_fits(d, t, s->answer->version))
        return false;
    enum answer_source source = source_of(d, t, stored_us, now_us);
    if (source == SOURCE_MODEL)
        return false;
    const struct cache_node *n = cache_find(d->kept, id);
    if (!n || !cache_answer(n) || n->stored_us < stored_us) // who asks anew may have been quicker
        cache_put(d->kept, id, s, epoch, stored_us, now_us, fx->blocks);
    counted(d, CACHE_SHARED);
    give_kept(d, t, s->answer, source, age_of(stored_us, now_us), fx);
    return true;
}

// ---- flights -----------------------------------------------------------------------------------------

static void wait_in(struct desk *d, struct ticket **list, struct ticket *t)
{
    t->place = PLACE_WAITS;
    t->waits = *list;
    t->waits_prev = list;
    if (t->waits)
        t->waits->waits_prev = &t->waits;
    *list = t;
    d->followers++;
    d->followers_elsewhere += t->elsewhere;
}

static void wait_no_more(struct desk *d, struct ticket *t)
{
    if (t->waits)
        t->waits->waits_prev = t->waits_prev;
    *t->waits_prev = t->waits;
    t->place = PLACE_NONE;
    d->followers--;
    d->followers_elsewhere -= t->elsewhere;
}

static void take_lead(struct ticket *t, struct cache_node *n, struct ticket *followers)
{
    n->leader = t;
    t->flight = n;
    t->followers = followers;
    if (followers)
        followers->waits_prev = &t->followers;
}

static void follow(struct desk *d, struct ticket *t, struct cache_node *n)
{
    struct ticket *leader = n->leader;
    t->flight = n;
    if (leader->place == PLACE_ABOARD && leader->cancelled && !leader->followers)
        leader->batch->cancelled--; // L3: it is wanted again
    wait_in(d, &leader->followers, t);
    if (t->wanted_us > leader->wanted_us)
        leader->wanted_us = t->wanted_us;
    if (leader->place != PLACE_ABOARD || leader->batch->deadline_us >= leader->wanted_us)
        return;
    leader->batch->deadline_us = leader->wanted_us; // L3
    if (leader->batch->until_us < leader->wanted_us)
        leader->batch->until_us = leader->wanted_us;
}

static bool is_more_urgent(const struct ticket *a, const struct ticket *b)
{
    return a->lane < b->lane || (a->lane == b->lane && a->deadline_us < b->deadline_us);
}

static struct ticket *most_urgent(struct ticket *list)
{
    struct ticket *best = list;
    for (struct ticket *t = list; t; t = t->waits)
        best = is_more_urgent(t, best) ? t : best;
    return best;
}

// L2. It is to be queued.
static void overtake(struct desk *d, struct ticket *t, struct cache_node *n)
{
    struct ticket *leader = n->leader, *followers = leader->followers;
    batcher_remove(&d->batcher, leader);
    leader->followers = NULL;
    take_lead(t, n, followers);
    follow(d, leader, n);
}

bool cache_met(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    struct cache_id id = id_of(t);
    struct cache_node *n = caches(d) ? cache_find(d->kept, &id) : NULL;
    t->cache_epoch = atomic_load_explicit(&d->model->cache.epoch, memory_order_relaxed);
    if (n && t->cache != CACHE_RENEW && answer_kept(d, t, n, now_us, fx))
        return true;
    if (t->cache == CACHE_ONLY_STALE) {
        if (!caches(d) || !store_asked(d, t, &id, version_asked(d, t), fx))
            cache_has_none(d, t, fx);
        return true;
    }
    bool alone =
        t->elsewhere && d->replicas.n_ready == 0; // it has better to do than to wait for one
    if (!n || !n->leader || alone || t->cache != CACHE_USE) {
        if (caches(d) && t->cache == CACHE_USE && store_asked(d, t, &id, version_asked(d, t), fx))
            return true;
        if (caches(d) && t->cache == CACHE_USE)
            counted(d, CACHE_MISSES);
        return false;
    }
    counted(d, CACHE_FOLLOWERS);
    bool overtakes = n->leader->place == PLACE_QUEUED && is_more_urgent(t, n->leader);
    if (overtakes)
        overtake(d, t, n);
    else
        follow(d, t, n);
    return !overtakes;
}

bool cache_lead(struct desk *d, struct ticket *t)
{
    if (t->flight || !caches(d))
        return false;
    struct cache_id id = id_of(t);
    struct cache_node *n = cache_claim(d->kept, &id);
    if (!n || n->leader)
        return false;
    take_lead(t, n, NULL);
    return true;
}

static void answer_follower(struct desk *d, struct ticket *t, const struct ticket *leader,
                            uint64_t now_us, struct effects *fx)
{
    uint64_t took_us = now_us > t->queued_us ? now_us - t->queued_us : 0;
    t->slice = leader->slice;
    block_ref(t->slice.answer->block);
    t->source = leader->source;
    t->age_s = leader->age_s;
    t->batch_rows = leader->batch_rows;
    t->batch_reason = leader->batch_reason;
    t->compute_us = desk_least(leader->compute_us, took_us);
    t->queue_us = took_us - t->compute_us;
    ticket_answered(d, t, fx);
}

// Would it be the same for another one that asks the same?
static bool is_for_all(enum status s)
{
    return s != STATUS_CLIENT_GONE && !status_table[s].retryable;
}

static void end_flight(struct desk *d, struct ticket *leader, struct effects *fx)
{
    struct ticket *t;
    uint64_t now_us = leader->queued_us + leader->queue_us + leader->compute_us;
    while ((t = leader->followers) != NULL) {
        wait_no_more(d, t);
        t->flight = NULL;
        if (leader->error.status == STATUS_OK)
            answer_follower(d, t, leader, now_us, fx);
        else
            ticket_failed(d, t, &leader->error, fx);
    }
}

void flight_left(struct desk *d, struct ticket *t, struct effects *fx)
{
    struct cache_node *n = t->flight;
    struct ticket *next = most_urgent(t->followers);
    t->flight = NULL;
    if (n->leader != t)
        return;
    if (next && t->error.status != STATUS_OK && !is_for_all(t->error.status)) {
        wait_no_more(d, next);
        take_lead(next, n, t->followers);
        next->wanted_us = t->wanted_us > next->wanted_us ? t->wanted_us : next->wanted_us;
        t->followers = NULL;
        wait_in(d, &d->leads, next);
        return;
    }
    end_flight(d, t, fx);
    cache_release(d->kept->cache, n);
}

void flight_let_go(struct desk *d, struct ticket *leader, struct effects *fx)
{
    struct ticket *next;
    for (struct ticket *t = leader->followers; t; t = next) {
        next = t->waits;
        if (!t->elsewhere)
            continue;
        wait_no_more(d, t);
        ticket_let_go(d, t, fx);
    }
}

struct ticket *flight_next(struct desk *d)
{
    struct ticket *t = d->leads;
    if (t)
        wait_no_more(d, t);
    return t;
}

void flight_cancelled(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    struct ticket *leader = t->flight->leader;
    wait_no_more(d, t);
    ticket_failed(d, t, FAILED(STATUS_CLIENT_GONE, "cancelled"), fx);
    if (leader != t && leader->cancelled && leader->place == PLACE_ABOARD && !leader->followers)
        desk_aboard_gone(d, leader->batch, now_us, fx);
}
