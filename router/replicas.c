#include "router/replicas_inner.h"

#include "base/check.h"
#include "base/mem.h"
#include "router/desk.h"
#include "router/preference.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEADLINE_US 30000000 // of a model whose rules name none

void replicas_init(struct replicas *rs, struct desk *d, uint64_t seed, uint64_t now_us)
{
    *rs = (struct replicas){.desk = d,
                            .model = d->model,
                            .alone_since_us = now_us,
                            .look_us = UINT64_MAX,
                            .tokens = RETRY_START,
                            .tokens_us = now_us};
    for (unsigned i = 0; i <= REPLICA_RANKS; i++)
        rs->known[i] = preference_unknown();
    rand_seed(&rs->rand, seed);
}

void replicas_deinit(struct replicas *rs)
{
    for (unsigned i = 0; i < rs->n; i++) {
        mem_free(rs->at[i].server);
        mem_free(rs->at[i].version);
    }
}

struct replica *replicas_find(struct replicas *rs, uint32_t id)
{
    for (unsigned i = 0; i < rs->n; i++) {
        if (rs->at[i].id == id)
            return &rs->at[i];
    }
    return NULL;
}

static struct worker_vitals *vitals_of(struct replica *r)
{
    return r->facts.vitals ? r->facts.vitals : &r->own;
}

static void note_replica(struct replicas *rs, struct replica *r, enum note_kind kind,
                         const char *why, struct effects *fx)
{
    if (why != r->why) {
        snprintf(r->why, sizeof(r->why), "%s", why ? why : "");
        text_clean(r->why, strlen(r->why)); // it may have been cut within a character
    }
    fx_note(fx, kind, rs->model, r->id, 0);
    fx->at[fx->n - 1].note.why = r->why;
}

static void look_at(struct replicas *rs, uint64_t at_us)
{
    rs->look_us = least(rs->look_us, at_us);
}

static void ask_probe(struct replicas *rs, struct replica *r, struct effects *fx)
{
    struct fx *f = effects_add(fx, FX_PROBE);
    f->desk = rs->desk;
    f->replica = r->id;
}

static void ask_doubted(struct replicas *rs, struct replica *r, uint64_t now_us, struct effects *fx)
{
    if (r->probe_us > 0 && now_us < r->probe_us + REPLICA_PROBE_US)
        return;
    r->probe_us = now_us;
    ask_probe(rs, r, fx);
}

// ---- versions ----------------------------------------------------------------------------------------

static int by_text(const void *a, const void *b)
{
    const struct view *x = a, *y = b;
    int order = memcmp(x->n ? x->p : "", y->n ? y->p : "", x->n < y->n ? x->n : y->n);
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

bool replica_has(const struct replica *r, struct view version)
{
    if (version.n == 0)
        return true;
    unsigned low = 0, high = r->facts.n_versions;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        int order = by_text(&r->facts.versions[middle], &version);
        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

// ---- R6: slow start ----------------------------------------------------------------------------------

static void begin_ramp(struct replicas *rs, struct replica *r, uint64_t now_us)
{
    uint64_t until_us = now_us + rs->model->rules.slow_start_us;
    r->ramp_us = now_us;
    r->rest_us = 0;
    rs->ramp_until_us = most(rs->ramp_until_us, until_us);
}

// A batch of its has ended, which was sent then.
static void rest(const struct replicas *rs, struct replica *r, uint64_t sent_us, uint64_t now_us)
{
    uint64_t all_us = rs->model->rules.slow_start_us, since_us = now_us - r->ramp_us;
    if (now_us >= rs->ramp_until_us || since_us >= all_us)
        return;
    double weight = (double)since_us / (double)all_us;
    weight = weight > REPLICA_RAMP_FROM ? weight : REPLICA_RAMP_FROM;
    r->rest_us = now_us + (uint64_t)((double)(now_us - sent_us) * (1 / weight - 1));
}

// ---- up and down -------------------------------------------------------------------------------------

// After any change of who is up or open: the counts, and what others are to see (R5).
static void recount(struct replicas *rs, uint64_t now_us)
{
    unsigned before = rs->n_ready;
    rs->n_up = rs->n_ready = rs->n_known = 0;
    for (unsigned i = 0; i < rs->n; i++) {
        rs->n_up += rs->at[i].up;
        rs->n_known += rs->at[i].up || rs->at[i].lost;
        rs->n_ready += rs->at[i].up && rs->at[i].standing != STANDING_OPEN;
    }
    rs->bereft &= rs->n_known == 0;
    rs->n_known += rs->bereft;
    preference_lead(rs);
    if (rs->n_ready > 0)
        rs->alone_since_us = 0;
    else if (before > 0)
        rs->alone_since_us = now_us;
    atomic_store(&rs->model->ready, rs->n_ready);
    standing_doubt(&rs->desk->standing);
}

// A free slot; else one whose replica is down, with nothing on its way back. NULL: there is none.
static struct replica *find_vacated(struct replicas *rs)
{
    struct replica *down = NULL;
    for (unsigned i = 0; i < rs->n; i++) {
        struct replica *r = &rs->at[i];
        if (r->id == REPLICA_NONE)
            return r;
        if (!r->up && !r->differs && r->batches == 0)
            down = r;
    }
    return rs->n < DESK_REPLICAS ? &rs->at[rs->n++] : down;
}

static struct replica *slot_for(struct replicas *rs, uint32_t id)
{
    struct replica *r = replicas_find(rs, id);
    if (r)
        return r;
    r = find_vacated(rs);
    if (!r)
        return NULL;
    mem_free(r->server); // NULL, but for one that has gone
    mem_free(r->version);
    memset(r, 0, sizeof(*r));
    r->id = id;
    return r;
}

// Can a client ask for it? The version of a request is as short.
static bool can_be_asked_for(struct view version)
{
    return version.n > 0 && version.n <= MODEL_VERSION_MAX;
}

// Without memory it has none: it serves who names none.
static void keep_versions(struct replica *r, const struct replica_facts *facts)
{
    struct view *old = r->version, *list = NULL; // facts may be its own: it is readmitted
    unsigned n = facts->n_versions, kept = 0;
    size_t bytes = 0;
    for (unsigned i = 0; i < n; i++)
        bytes += can_be_asked_for(facts->versions[i]) ? facts->versions[i].n : 0;
    if (bytes > 0)
        list = mem_alloc(n * sizeof(*list) + bytes);
    char *at = list ? (char *)(list + n) : NULL;
    for (unsigned i = 0; list && i < n; i++) {
        struct view v = facts->versions[i];
        if (!can_be_asked_for(v))
            continue;
        memcpy(at, v.p, v.n);
        list[kept++] = view_of(at, v.n);
        at += v.n;
    }
    if (kept > 1)
        qsort(list, kept, sizeof(*list), by_text);
    mem_free(old);
    r->facts.versions = r->version = list;
    r->facts.n_versions = kept;
}

static void keep_facts(struct replica *r, const struct replica_facts *facts)
{
    struct replica_facts given = *facts;
    r->facts = given;
    keep_versions(r, &given);
}

// A new process has no past; the same one has to serve its time when it was ejected.
static void begin_standing(struct replicas *rs, struct replica *r, bool reborn)
{
    r->not_before_us = r->doubt_us = r->probe_us = 0;
    r->refusals = r->faults = 0;
    r->paused_said = false;
    if (reborn) {
        r->standing = STANDING_CLOSED;
        r->silent = false;
        r->latency_us = r->opened > 0 ? 0 : r->latency_us;
    } else if (r->standing == STANDING_OPEN) {
        look_at(rs, r->open_until_us);
    }
}

static void say_difference(struct replicas *rs, struct replica *r, struct effects *fx)
{
    char why[96] = "its inputs or outputs are not those of the replicas that are up";
    uint32_t others = preference_batch(rs, r);
    if (r->facts.max_batch != others)
        snprintf(why, sizeof(why), "max_batch_size: expected %u as at the others, got %u", others,
                 r->facts.max_batch);
    note_replica(rs, r, NOTE_REPLICA_DIFFERS, why, fx);
}

static void make_servers(struct replica *r, unsigned n)
{
    r->n_servers = n;
    if (n <= r->servers_cap)
        return;
    struct batch_server *grown = mem_must(n * sizeof(*grown));
    memset(grown, 0, n * sizeof(*grown));
    if (r->servers_cap > 0)
        memcpy(grown, r->server, r->servers_cap * sizeof(*grown));
    mem_free(r->server);
    r->server = grown;
    r->servers_cap = n;
}

void replicas_up(struct replicas *rs, uint32_t id, const struct replica_facts *facts,
                 uint64_t now_us, struct effects *fx)
{
    struct replica *r = slot_for(rs, id);
    if (!r || r->up)
        return;
    bool reborn = facts->incarnation != r->facts.incarnation;
    keep_facts(r, facts);
    begin_standing(rs, r, reborn);
    r->differs = rs->n_up > 0 && (!hash128_eq(facts->metadata, rs->metadata) ||
                                  preference_batch(rs, r) != facts->max_batch);
    if (r->differs) {
        say_difference(rs, r, fx);
        return;
    }
    r->up = true;
    r->lost = false;
    uint64_t wanted = facts->device ? 1 : most(facts->instances, 1);
    make_servers(r, (unsigned)least(wanted, REPLICA_SERVERS));
    if (facts->device && replicas_auto(rs))
        device_sit(facts->turn, &r->seat, rs->desk);
    begin_ramp(rs, r, now_us);
    rs->metadata = facts->metadata;
    recount(rs, now_us);
    atomic_store(&rs->model->single, rs->max_batch == 0);
    atomic_store(&rs->model->rowless, facts->rowless);
    note_replica(rs, r, NOTE_REPLICA_UP, "", fx);
}

// The last of those that agreed has gone: what was kept out for being different is as good as any.
static void readmit(struct replicas *rs, uint64_t now_us, struct effects *fx)
{
    for (unsigned i = 0; i < rs->n; i++) {
        struct replica *r = &rs->at[i];
        if (r->differs) {
            struct replica_facts facts = r->facts;
            replicas_up(rs, r->id, &facts, now_us, fx);
        }
    }
}

void replicas_down(struct replicas *rs, uint32_t id, uint64_t now_us, struct effects *fx)
{
    struct replica *r = replicas_find(rs, id);
    if (!r)
        return;
    r->differs = false;
    if (!r->up)
        return;
    r->up = false;
    r->lost = true;
    r->lost_us = now_us;
    r->doubt_us = 0;
    device_leave(&r->seat);
    recount(rs, now_us);
    note_replica(rs, r, NOTE_REPLICA_DOWN, "", fx);
    if (rs->n_up == 0)
        readmit(rs, now_us, fx);
}

void replicas_forget(struct replicas *rs, uint32_t id, uint64_t now_us)
{
    struct replica *r = replicas_find(rs, id);
    if (!r || !r->lost || rs->n_known == 1)
        return;
    r->lost = false;
    recount(rs, now_us);
}

void replicas_vacate(struct replicas *rs, uint32_t id, uint64_t now_us)
{
    struct replica *r = replicas_find(rs, id);
    if (!r)
        return;
    invariant(!r->up && !r->differs && r->batches == 0);
    rs->bereft |= r->lost; // if it was the last one: see recount
    mem_free(r->server);
    mem_free(r->version);
    *r = (struct replica){.id = REPLICA_NONE};
    while (rs->n > 0 && rs->at[rs->n - 1].id == REPLICA_NONE)
        rs->n--;
    recount(rs, now_us);
}

// Who was in one class and is in another may not fit there.
static void sort_out(struct replicas *rs, uint64_t now_us, struct effects *fx)
{
    for (unsigned i = 0; i < rs->n; i++) {
        struct replica *r = &rs->at[i];
        if (!r->up || preference_batch(rs, r) == r->facts.max_batch)
            continue;
        replicas_down(rs, r->id, now_us, fx);
        replicas_forget(rs, r->id, now_us);
        r->differs = true;
        say_difference(rs, r, fx);
    }
}

bool replicas_rank(struct replicas *rs, unsigned (*rank_of)(uint32_t id, void *ctx), void *ctx,
                   uint64_t now_us, struct effects *fx)
{
    uint8_t was[DESK_REPLICAS];
    bool any = false;
    for (unsigned i = 0; i < rs->n; i++) {
        struct replica *r = &rs->at[i];
        was[i] = r->facts.rank;
        if (r->id != REPLICA_NONE)
            r->facts.rank = (uint8_t)least(rank_of(r->id, ctx), REPLICA_RANKS);
        any |= was[i] != r->facts.rank;
    }
    if (!any)
        return false;
    preference_carry(rs, was);
    recount(rs, now_us);
    sort_out(rs, now_us, fx);
    return true;
}

bool replicas_absent(const struct replicas *rs)
{
    for (unsigned i = 0; i < rs->n; i++) {
        if (rs->at[i].up || rs->at[i].differs)
            return false;
    }
    return true;
}

void replicas_process_ended(struct replicas *rs, uint32_t id, uint32_t incarnation,
                            enum process_word word)
{
    struct replica *r = replicas_find(rs, id);
    if (!r)
        return;
    unsigned i = r->n_words++ % REPLICA_WORDS;
    r->word[i].incarnation = incarnation;
    r->word[i].word = word;
}

enum process_word replicas_process(const struct replica *r, uint32_t incarnation)
{
    for (unsigned i = 0; incarnation > 0 && i < REPLICA_WORDS; i++) {
        if (r->word[i].incarnation == incarnation)
            return r->word[i].word;
    }
    return PROCESS_UNKNOWN;
}

// ---- ejection ----------------------------------------------------------------------------------------

static void open_replica(struct replicas *rs, struct replica *r, const char *why, uint64_t now_us,
                         struct effects *fx)
{
    uint64_t us = REPLICA_OPEN_US;
    for (unsigned i = 0; i < r->opened && us < REPLICA_OPEN_MAX_US; i++)
        us *= 2;
    r->standing = STANDING_OPEN;
    r->opened += r->opened < UINT8_MAX;
    r->open_until_us = now_us + least(us, REPLICA_OPEN_MAX_US);
    r->faults = 0;
    look_at(rs, r->open_until_us);
    recount(rs, now_us);
    note_replica(rs, r, NOTE_REPLICA_EJECTED, why, fx);
}

static unsigned count_open(const struct replicas *rs)
{
    return rs->n_up - rs->n_ready;
}

void replicas_wrong(struct replicas *rs, uint32_t id, uint64_t now_us, struct effects *fx)
{
    struct replica *r = replicas_find(rs, id);
    bool say = r->wrong_us == 0 || now_us >= r->wrong_us + REPLICA_SAID_US;
    if (say)
        r->wrong_us = now_us;
    fx_note(fx, NOTE_WRONG_SHAPE, rs->model, id, say);
}

void replicas_fault(struct replicas *rs, uint32_t id, uint64_t now_us, struct effects *fx)
{
    struct replica *r = replicas_find(rs, id);
    if (!r || !r->up || r->standing != STANDING_CLOSED)
        return;
    r->faults += r->faults < UINT8_MAX;
    if (r->faults >= REPLICA_FAULTS && 2 * (count_open(rs) + 1) <= rs->n_up) // R3
        open_replica(rs, r, "it fails what other replicas answer", now_us, fx);
}

// ---- batches -----------------------------------------------------------------------------------------

static void earn_tokens(struct replicas *rs, uint64_t now_us)
{
    if (now_us > rs->tokens_us)
        rs->tokens += (double)(now_us - rs->tokens_us) * RETRY_A_SECOND / 1e6;
    if (rs->tokens > RETRY_MOST)
        rs->tokens = RETRY_MOST;
    rs->tokens_us = now_us;
}

bool replicas_may_retry(struct replicas *rs, struct view version, uint64_t now_us)
{
    const struct wanted any = {.version = version, .avoid = REPLICA_NONE};
    if (replicas_sibling(rs, &any, now_us))
        return true;
    earn_tokens(rs, now_us);
    if (rs->tokens < 1)
        return false;
    rs->tokens -= 1;
    return true;
}

static void server_takes(struct replicas *rs, struct replica *r, struct batch *b, uint64_t now_us)
{
    const struct batcher *q = &rs->desk->batcher;
    uint32_t rows = b->rows ? b->rows : 1;
    struct serial_device *v = r->facts.device;
    b->server = replica_soonest(r, now_us);
    b->quiet = r->server[b->server].in_flight == 0 && (!v || b->number > 0);
    b->expected_us = estimate_mean_us(preference_estimate(rs, r->facts.rank), rows);
    server_sent(&r->server[b->server], rows, b->expected_us, q->trip_us, now_us);
    if (v)
        device_sent(v, b->expected_us, now_us + q->half_us);
    b->device = v;
}

static void server_gives(struct replicas *rs, struct replica *r, struct batch *b,
                         enum replica_fate fate, uint64_t now_us)
{
    const struct batcher *q = &rs->desk->batcher;
    struct batch_server *s = &r->server[b->server];
    bool recalled = fate == REPLICA_BUSY;
    if (recalled)
        server_recalled(s, b->sent_us, b->expected_us);
    else
        server_ended(s, b->expected_us,
                     fate == REPLICA_WELL || fate == REPLICA_HEARD || fate == REPLICA_FAILED,
                     q->trip_us, now_us);
    if (b->device)
        device_ended(b->device, b->expected_us, recalled, q->half_us, now_us);
}

uint64_t replicas_took_us(struct replicas *rs, const struct batch *b, uint64_t compute_us,
                          uint64_t now_us)
{
    struct replica *r = replicas_find(rs, b->replica);
    struct batch_server s = r->server[b->server];
    if (b->device) // behind whatever model's it was
        s.answered_us = most(s.answered_us,
                             atomic_load_explicit(&vitals_of(r)->ended_us, memory_order_relaxed));
    if (s.answered_us > now_us)
        return 0; // another loop's, whose clock is ahead of ours: nobody knows when this one began
    return most(server_took_us(&s, b->sent_us, b->quiet, compute_us, now_us), 1);
}

// It was silent, and is tried: that shows soon, so a deadline is not waited for where another could have the batch.
static void doubt_tried(struct replicas *rs, struct replica *r, const struct batch *b,
                        uint64_t now_us, struct effects *fx)
{
    const struct ticket *t = b->tickets[0];
    const struct wanted w = {.version = t->to.version, .avoid = r->id, .rows = b->rows};
    if (!r->silent || r->standing != STANDING_HALF || t->request->sequence_id > 0 ||
        !replicas_sibling(rs, &w, now_us))
        return;
    r->doubt_us = now_us;
    ask_doubted(rs, r, now_us, fx);
}

void replicas_sent(struct replicas *rs, struct replica *r, struct batch *b, uint64_t now_us,
                   struct effects *fx)
{
    b->replica = r->id;
    b->rank = r->facts.rank;
    b->incarnation = r->facts.incarnation;
    b->sent_us = now_us;
    b->number = vitals_sent(vitals_of(r));
    if (r->batches++ == 0)
        r->busy_us = now_us;
    doubt_tried(rs, r, b, now_us, fx);
    if (r->doubt_us > 0)
        look_at(rs, now_us + REPLICA_SILENT_US);
    r->rows += b->rows ? b->rows : 1;
    server_takes(rs, r, b, now_us);
    rs->tokens += RETRY_SHARE;
}

static void pause_replica(struct replicas *rs, struct replica *r, uint64_t pushback_us,
                          const char *why, uint64_t now_us, struct effects *fx)
{
    if (now_us < r->not_before_us)
        return; // another of the same volley
    uint64_t us = REPLICA_PAUSE_US;
    for (unsigned i = 0; i < r->refusals && us < REPLICA_PAUSE_MAX_US; i++)
        us *= 2;
    us = most(least(us, REPLICA_PAUSE_MAX_US), least(pushback_us, REPLICA_OPEN_MAX_US));
    r->refusals += r->refusals < UINT8_MAX;
    r->not_before_us = now_us + us;
    ask_probe(rs, r, fx);
    if (!r->paused_said && (r->said_us == 0 || now_us >= r->said_us + REPLICA_SAID_US)) {
        r->paused_said = true;
        r->said_us = now_us;
        note_replica(rs, r, NOTE_REPLICA_PAUSED, why ? why : "not processed", fx);
        if (why) // all of its words: they are there while the effects run
            fx->at[fx->n - 1].note.why = why;
    }
    if (r->standing == STANDING_HALF)
        open_replica(rs, r, "it refused the batch that tried it", now_us, fx);
}

static void took(struct replica *r, const struct batch *b, uint64_t now_us)
{
    uint64_t us = now_us - b->sent_us;
    r->latency_us += (r->latency_us == 0 ? 1 : 0.1) * ((double)us - r->latency_us);
    vitals_computed(vitals_of(r), us, now_us);
}

static void went_well(struct replicas *rs, struct replica *r, uint64_t now_us, struct effects *fx)
{
    bool back = r->paused_said || r->standing == STANDING_HALF;
    r->refusals = r->faults = 0;
    r->not_before_us = r->doubt_us = 0;
    r->paused_said = r->silent = false;
    if (r->standing == STANDING_HALF) {
        r->standing = STANDING_CLOSED;
        r->opened = 0;
        begin_ramp(rs, r, now_us);
    }
    if (back)
        note_replica(rs, r, NOTE_REPLICA_BACK, "", fx);
}

void replicas_ended(struct replicas *rs, struct batch *b, enum replica_fate fate,
                    uint64_t pushback_us, const char *why, uint64_t now_us, struct effects *fx)
{
    struct replica *r = replicas_find(rs, b->replica);
    uint32_t rows = b->rows ? b->rows : 1;
    invariant(r && r->batches > 0 && r->rows >= rows);
    r->batches--;
    r->rows -= rows;
    vitals_over(vitals_of(r));
    rest(rs, r, b->sent_us, now_us);
    server_gives(rs, r, b, fate, now_us);
    switch (fate) {
    case REPLICA_WELL:
        took(r, b, now_us);
        went_well(rs, r, now_us, fx);
        break;
    case REPLICA_HEARD:
        vitals_heard(vitals_of(r), now_us);
        went_well(rs, r, now_us, fx);
        break;
    case REPLICA_FAILED:
        vitals_heard(vitals_of(r), now_us);
        r->doubt_us = 0;
        if (r->standing == STANDING_HALF)
            open_replica(rs, r, "it failed the batch that tried it", now_us, fx);
        break;
    case REPLICA_REFUSED:
        pause_replica(rs, r, pushback_us, why, now_us, fx);
        break;
    default:
        break;
    }
}

// ---- doubt and silence -------------------------------------------------------------------------------

static uint64_t slowest_us(struct replica *r)
{
    uint64_t own = (uint64_t)r->latency_us;
    return most(own, atomic_load_explicit(&vitals_of(r)->slowest_us, memory_order_relaxed));
}

void replicas_overdue(struct replicas *rs, const struct batch *b, uint64_t now_us,
                      struct effects *fx)
{
    struct replica *r = replicas_find(rs, b->replica);
    uint64_t out_us = now_us - b->sent_us;
    if (!r->up || out_us < REPLICA_FAIR_US || (double)out_us < REPLICA_FAIR_TIMES * r->latency_us)
        return;
    ask_doubted(rs, r, now_us, fx);
    r->late_us = now_us;
    if (r->doubt_us == 0 && (r->latency_us > 0 || out_us >= REPLICA_FAIR_UNKNOWN_US))
        r->doubt_us = b->sent_us;
    if (r->doubt_us > 0)
        look_at(rs, now_us);
}

static uint64_t patience_us(const struct replicas *rs, struct replica *r)
{
    uint64_t us = REPLICA_SILENT_TIMES * slowest_us(r);
    if (r->latency_us == 0)
        us = most(us, rs->model->rules.deadline_us ? rs->model->rules.deadline_us : DEADLINE_US);
    return most(us, REPLICA_SILENT_US);
}

static void eject_silent(struct replicas *rs, struct replica *r, uint64_t still_us, uint64_t now_us,
                         struct effects *fx)
{
    char why[96];
    snprintf(why, sizeof(why), "it answers probes, but no batch for %llu ms",
             (unsigned long long)still_us / 1000);
    r->doubt_us = 0;
    r->silent = true;
    open_replica(rs, r, why, now_us, fx);
    struct fx *f = effects_add(fx, FX_HANGS);
    f->desk = rs->desk;
    f->replica = r->id;
}

// Is a doubted replica silent? Its worker may be busy with others: then something of it ends. Or idle: so it
// counts how long something was in flight without a pause, or how long nothing had ended when a batch was overdue
// last (those of hurried clients are recalled, and nothing is in flight between them).
static void look_at_doubted(struct replicas *rs, struct replica *r, uint64_t now_us,
                            struct effects *fx)
{
    struct worker_vitals *v = vitals_of(r);
    uint64_t ended_us = atomic_load_explicit(&v->ended_us, memory_order_relaxed);
    uint64_t since_us = most(r->doubt_us, ended_us), patience = patience_us(rs, r);
    uint64_t busy_us = r->batches > 0 ? most(since_us, r->busy_us) + patience : UINT64_MAX;
    uint64_t probed_us = atomic_load_explicit(&v->probed_us, memory_order_relaxed);
    struct evidence e = {.seen = SEEN_OVERDUE,
                         .silent = r->late_us >= since_us + patience || now_us >= busy_us,
                         .live = probed_us >= r->probe_us ? LIVE_YES : LIVE_UNKNOWN};
    if (evidence_weigh(&e).replica == REPLICA_SILENT)
        eject_silent(rs, r, now_us - since_us, now_us, fx);
    else // silent, and its probe is out: that will be told, or its connection is replaced
        look_at(rs, e.silent ? now_us + REPLICA_FAIR_US : busy_us);
}

void replicas_look(struct replicas *rs, uint64_t now_us, struct effects *fx)
{
    if (now_us < rs->look_us)
        return;
    rs->look_us = UINT64_MAX;
    bool changed = false;
    for (unsigned i = 0; i < rs->n; i++) {
        struct replica *r = &rs->at[i];
        if (r->up && r->doubt_us > 0 && r->standing != STANDING_OPEN)
            look_at_doubted(rs, r, now_us, fx);
        if (r->standing != STANDING_OPEN)
            continue;
        changed |= now_us >= r->open_until_us;
        if (now_us >= r->open_until_us)
            r->standing = STANDING_HALF;
        else if (r->up)
            look_at(rs, r->open_until_us);
    }
    if (changed)
        recount(rs, now_us);
}
