#include "gateway/trial_shop.h"

#include "base/check.h"
#include "base/mem.h"
#include "gateway/rewards.h"
#include <inttypes.h>
#include <stdio.h>

/* KEYS: who has flushed what; then those of the variants. ARGV: our life; the flush's number; how: "next", "force" (the next one,
 * whatever is there), "beat" (none: what is there is the last one); "open", or "closed": it is the last one; whose life it
 * is; "look": whether others have ended without saying so; then what each variant's fields grow by.
 * Who has counted nothing yet says that he lives, too: else two of them could think that they come first.
 * {"gap", last}: not the next one, nothing was done. {"added", fields that could not grow, whether another life comes first (of
 * a look), [life, number, age, whose] ...}.
 * What is written first may fail, and then nothing is; what comes behind it (a field that is no number, a key that is no
 * hash) fails by itself, once and for all. The clock is the server's. */
static const struct view flush_script = VIEW(
    "local flushed, life, number, how = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]\n"
    "local now = tonumber(redis.call('TIME')[1])\n"
    "local entry = redis.call('HGET', flushed, life)\n"
    "local last = entry and tonumber(string.match(entry, '^%d+')) or 0\n"
    "local rest = ' ' .. now .. ' ' .. ARGV[4] .. ' ' .. ARGV[5]\n"
    "local bad = 0\n"
    "if how ~= 'force' and number > last + (how == 'beat' and 0 or 1) then return {'gap', last} "
    "end\n"
    "if how ~= 'beat' and number > last then\n"
    "  redis.call('HSET', flushed, life, ARGV[2] .. rest)\n"
    "  for i = 2, #KEYS do\n"
    "    for field, n in string.gmatch(ARGV[5 + i], '(%S+) (%S+)') do\n"
    "      local add = string.find(field, '^reward_') and 'HINCRBYFLOAT' or 'HINCRBY'\n"
    "      local said = redis.pcall(add, KEYS[i], field, n)\n"
    "      if type(said) == 'table' and said.err then bad = bad + 1 end\n"
    "    end\n"
    "  end\n"
    "else\n"
    "  redis.call('HSET', flushed, life, string.format('%.0f', last) .. rest)\n"
    "end\n"
    "local out = {'added', bad, 0}\n"
    "if ARGV[6] ~= 'look' then return out end\n"
    "local all = redis.call('HGETALL', flushed)\n"
    "for i = 1, #all, 2 do\n"
    "  local n, at, state, whose = string.match(all[i + 1], '^(%d+) (%d+) (%a+) (.*)$')\n"
    "  local age = n and now - tonumber(at)\n"
    "  if all[i] == life then\n"
    "  elseif not n or (state == 'closed' and age > 60) or\n"
    "      (state == 'told' and (age > 86400 or (#all > 512 and age > 600))) then\n"
    "    redis.call('HDEL', flushed, all[i])\n"
    "  elseif state == 'open' and whose ~= ARGV[5] and age <= 15 then\n"
    "    if all[i] < life then out[3] = 1 end\n"
    "  elseif state == 'open' and (whose == ARGV[5] or age > 15) and #out < 64 then\n"
    "    redis.call('HSET', flushed, all[i], n .. ' ' .. at .. ' told ' .. whose)\n"
    "    out[#out + 1], out[#out + 2], out[#out + 3], out[#out + 4] = all[i], n, age, whose\n"
    "  end\n"
    "end\n"
    "return out\n");

#define FIXED_WORDS 7 // the first key, and what stands before the variants' texts

_Static_assert(TRIAL_REWARDS <= TRIAL_SUMS_REWARDS && CONFIG_NAME_BYTES <= TRIAL_SUMS_NAME,
               "a variant's rewards all have room");
_Static_assert(FIXED_WORDS + 2 * EXPERIMENT_VARIANTS <= REDIS_MAX_WORDS, "a flush is one command");

// ---- what has come -----------------------------------------------------------------------------------

static void count(const struct gateway *g, const struct trial_run *run, unsigned variant,
                  struct trial_sums *out)
{
    static struct hist took; // the main thread's; too large for its stack
    const struct trial *t = run->place->keeps[run->index].trials[variant];
    struct guard_counts c = experiments_sum(t, g->loops.n, 0, &took);
    struct cohort_sum settled = experiments_settled(t);
    *out = (struct trial_sums){.requests = c.drawn,
                               .ended = c.errors.n,
                               .errors = (uint64_t)c.errors.bad,
                               .answers = c.fallbacks.n,
                               .fallbacks = (uint64_t)c.fallbacks.bad,
                               .settled = settled.n,
                               .gained = settled.gained,
                               .took_us = took.sum};
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        out->took[i] = took.bucket[i];
    for (unsigned i = 0; i < t->n_rewards; i++)
        *trial_sums_reward(out, view_str(t->reward[i])) = rewards_sum(t, g->loops.n, i);
}

static struct view sums_key(const struct trial_shelf *s, const struct shelf_variant *it,
                            char out[SHELF_KEY])
{
    char more[TRIAL_NAME + 32];
    snprintf(more, sizeof(more), ":c:%" PRIu64 ":%s", s->counts_from, it->name);
    return shelf_key(s, more, out);
}

// The next flush, of what waits. False: nothing does, or there is no room for it now: it waits on.
static bool make_flush(struct trial_shelf *s)
{
    char key[SHELF_KEY];
    bool any = false, ok = true;
    for (unsigned v = 0; v < s->n_variants; v++)
        any |= !trial_sums_is_zero(&s->variants[v].waits);
    struct trial_flush *f = any ? trial_flushes_make(&s->flushes) : NULL;
    if (!f)
        return false;
    for (unsigned v = 0; ok && v < s->n_variants; v++) {
        struct shelf_variant *it = &s->variants[v];
        if (trial_sums_is_zero(&it->waits))
            continue;
        struct view name = sums_key(s, it, key);
        ok = buffer_append(&f->text, name.p, name.n + 1) &&
             trial_sums_write(&f->text, &it->waits) && buffer_append(&f->text, "", 1);
    }
    for (unsigned v = 0; ok && v < s->n_variants; v++)
        s->variants[v].waits = (struct trial_sums){0};
    if (!ok)
        trial_flushes_unmake(&s->flushes);
    return ok;
}

static bool is_same(const struct trial_shelf *s, const struct trial_run *run)
{
    bool same = s->variants && s->counts_from == run->state.counts_from &&
                s->n_variants == run->state.n_variants;
    for (unsigned v = 0; same && v < s->n_variants; v++)
        same = strcmp(s->variants[v].name, run->state.variant[v]) == 0;
    return same;
}

static bool anything_waits(const struct trial_shelf *s)
{
    bool any = false;
    for (unsigned v = 0; v < s->n_variants; v++)
        any |= !trial_sums_is_zero(&s->variants[v].waits);
    return any;
}

// The record counts from another revision, or its variants are others. What has been counted until now belongs to those before.
static bool begin(struct trial_shelf *s, const struct trial_run *run)
{
    const struct trial_state *now = &run->state;
    struct shelf_variant *list = mem_zalloc(now->n_variants * sizeof(*list));
    if (!list)
        return false;
    for (unsigned v = 0; v < now->n_variants; v++) {
        snprintf(list[v].name, sizeof(list[v].name), "%s", now->variant[v]);
        unsigned k = 0;
        while (k < s->n_variants && strcmp(s->variants[k].name, list[v].name) != 0)
            k++;
        if (k < s->n_variants)
            list[v].taken = s->variants[k].taken;
        else
            count(s->shop->gateway, run, v, &list[v].taken);
    }
    mem_free(s->variants);
    s->variants = list;
    s->n_variants = now->n_variants;
    s->counts_from = now->counts_from;
    return true;
}

void trial_tally_take(struct trial_shelf *s, const struct trial_run *run)
{
    struct trial_sums now, since;
    if (!is_same(s, run)) {
        make_flush(s);
        if (anything_waits(s) || !begin(s, run)) // until there is room for what was before
            return;
    }
    for (unsigned v = 0; v < s->n_variants; v++) {
        struct shelf_variant *it = &s->variants[v];
        count(s->shop->gateway, run, v, &now);
        trial_sums_since(&since, &now, &it->taken);
        trial_sums_add(&it->waits, &since);
        it->taken = now;
    }
}

bool trial_tally_is_added(const struct trial_shelf *s)
{
    return trial_flushes_are_added(&s->flushes) && !anything_waits(s);
}

void trial_tally_free(struct trial_shelf *s)
{
    mem_free(s->variants);
    trial_flushes_deinit(&s->flushes);
}

// ---- what all have counted -----------------------------------------------------------------------------

struct sums_ask {
    struct trial_shelf *shelf;
    unsigned variant;
    uint64_t counts_from;
    struct trial_sums added;
};

// What is no number of ours counts nothing, nor does a reward that this instance does not know.
static void on_sums(const struct redis_answer *said, void *user)
{
    struct sums_ask *a = user;
    struct trial_shelf *s = a->shelf;
    struct trial_sums there = {0};
    s->out--;
    bool is_ours = said->end == REDIS_END_LIST && a->counts_from == s->counts_from &&
                   a->variant < s->n_variants;
    struct shelf_variant *it = is_ours ? &s->variants[a->variant] : NULL;
    for (unsigned i = 0; it && i < it->taken.n_rewards; i++)
        trial_sums_reward(&there, view_str(it->taken.rewards[i].name));
    for (unsigned i = 0; it && i + 1 < said->n; i += 2)
        trial_sums_take(&there, redis_item(said, i).text, redis_item(said, i + 1).text);
    if (it) {
        it->there = there;
        it->added = a->added;
        it->heard = true;
    }
    mem_free(a);
}

void trial_tally_ask(struct trial_shelf *s)
{
    char key[SHELF_KEY];
    for (unsigned v = 0; v < s->n_variants; v++) {
        const struct shelf_variant *it = &s->variants[v];
        struct view words[] = {VIEW("HGETALL"), sums_key(s, it, key)};
        struct sums_ask *a = mem_alloc(sizeof(*a));
        if (!a)
            return;
        *a = (struct sums_ask){.shelf = s, .variant = v, .counts_from = s->counts_from};
        trial_sums_since(&a->added, &it->taken, &it->waits);
        if (redis_send(s->shop->redis, words, 2, false, on_sums, a) == REDIS_SENT) {
            s->out++;
        } else {
            mem_free(a);
        }
    }
}

bool trial_tally_sums(const struct trial_shelf *s, const struct trial_run *run, unsigned variant,
                      struct trial_sums *out)
{
    const struct shelf_variant *it = is_same(s, run) ? &s->variants[variant] : NULL;
    struct trial_sums now;
    if (!it || !it->heard)
        return false;
    count(s->shop->gateway, run, variant, &now);
    trial_sums_since(out, &now, &it->added);
    trial_sums_add(out, &it->there);
    return true;
}

// ---- flushes -----------------------------------------------------------------------------------------

struct flush_ask {
    struct trial_shelf *shelf;
    bool beat, look, last;
};

static void tell_killed(struct trial_shelf *s, const struct redis_answer *said, unsigned i)
{
    int64_t age = redis_item(said, i + 2).number;
    GATEWAY_EVENT(
        s->shop->gateway, NULL, LOG_WARN, "experiment_counts_lost", LOG_CSTR("experiment", s->name),
        LOG_S("instance", redis_item(said, i + 3).text), LOG_S("life", redis_item(said, i).text),
        LOG_S("flush", redis_item(said, i + 1).text), LOG_I("age_s", age > 0 ? (uint64_t)age : 0),
        LOG_CSTR("why", "it ended without its last flush: what it had counted since the "
                        "one before is not in the sums"));
}

static void on_added(struct trial_shelf *s, const struct redis_answer *said)
{
    int64_t bad = redis_item(said, 1).number;
    if (bad > 0)
        GATEWAY_EVENT(s->shop->gateway, NULL, LOG_ERROR, "experiment_counts_refused",
                      LOG_CSTR("experiment", s->name), LOG_I("fields", (uint64_t)bad),
                      LOG_CSTR("why", "the store has something else in their place"));
    for (unsigned i = 3; i + 3 < said->n; i += 4)
        tell_killed(s, said, i);
}

static void on_gap(struct trial_shelf *s, const struct redis_answer *said)
{
    int64_t last = redis_item(said, 1).number;
    uint64_t lost = trial_flushes_gap(&s->flushes, last > 0 ? (uint64_t)last : 0);
    s->shop->lost += lost;
    if (lost > 0)
        GATEWAY_EVENT(s->shop->gateway, NULL, LOG_ERROR, "experiment_counts_lost",
                      LOG_CSTR("experiment", s->name), LOG_CSTR("instance", s->shop->whose),
                      LOG_CSTR("life", s->shop->life), LOG_I("flushes", lost),
                      LOG_CSTR("why", "the store has gone back further than is remembered"));
}

static void on_flushed(const struct redis_answer *said, void *user)
{
    struct flush_ask *a = user;
    struct trial_shelf *s = a->shelf;
    bool list = said->end == REDIS_END_LIST && said->n >= 2;
    struct view word = list ? redis_item(said, 0).text : view_of(NULL, 0);
    s->out--;
    if (view_is(word, "gap")) {
        on_gap(s, said);
    } else if (view_is(word, "added")) {
        on_added(s, said);
        if (a->look)
            s->follows = redis_item(said, 2).number > 0;
        if (a->beat)
            trial_flushes_unsent(&s->flushes);
        else
            trial_flushes_added(&s->flushes);
        s->shop->flushed += !a->beat;
        s->ended |= a->last;
    } else {
        trial_flushes_unsent(&s->flushes);
    }
    bool more = word.n > 0 && !trial_flushes_are_added(&s->flushes);
    mem_free(a);
    if (more)
        trial_tally_flush(s);
    else if (word.n > 0)
        trial_tally_ask(s);
}

// Its keys and texts, one after the other. How many pairs.
static unsigned read_pairs(const struct trial_flush *f, struct view keys[EXPERIMENT_VARIANTS],
                           struct view texts[EXPERIMENT_VARIANTS])
{
    struct view rest = f ? buffer_view(&f->text) : view_of(NULL, 0);
    unsigned n = 0;
    while (rest.n > 0 && n < EXPERIMENT_VARIANTS) {
        keys[n] = view_str(rest.p);
        texts[n] = view_str(rest.p + keys[n].n + 1);
        size_t gone = keys[n].n + texts[n].n + 2;
        rest = view_of(rest.p + gone, rest.n - gone);
        n++;
    }
    return n;
}

// f NULL: nothing is added; it is said that we live, or end.
static bool send_flush(struct trial_shelf *s, const struct trial_flush *f, bool last)
{
    struct trial_shop *shop = s->shop;
    struct view words[FIXED_WORDS + 2 * EXPERIMENT_VARIANTS], texts[EXPERIMENT_VARIANTS];
    char key[SHELF_KEY], number[24];
    struct flush_ask *a = mem_alloc(sizeof(*a));
    if (!a)
        return false;
    *a = (struct flush_ask){.shelf = s, .beat = f == NULL, .look = s->ticks == 0, .last = last};
    snprintf(number, sizeof(number), "%" PRIu64, f ? f->number : s->flushes.next - 1);
    words[0] = shelf_key(s, ":flushed", key);
    unsigned n = read_pairs(f, &words[1], texts), at = 1 + n;
    words[at++] = view_str(shop->life);
    words[at++] = view_str(number);
    words[at++] = !f ? VIEW("beat") : s->flushes.forced ? VIEW("force") : VIEW("next");
    words[at++] = last ? VIEW("closed") : VIEW("open");
    words[at++] = view_str(shop->whose);
    words[at++] = s->ticks == 0 ? VIEW("look") : VIEW("-");
    memcpy(&words[at], texts, n * sizeof(texts[0]));
    if (redis_eval(shop->redis, flush_script, words, at + n, 1 + n, on_flushed, a) == REDIS_SENT) {
        s->out++;
        return true;
    }
    mem_free(a);
    return false;
}

void trial_tally_flush(struct trial_shelf *s)
{
    bool ends = s->shop->ends_us > 0;
    if (s->flushes.out || s->ended)
        return;
    make_flush(s);
    struct trial_flush *f = trial_flushes_send(&s->flushes);
    bool last = ends && !anything_waits(s) && (!f || f->number == s->flushes.newest);
    if (!f && s->ticks > 0 && !last)
        return;
    s->flushes.out = true;
    if (!send_flush(s, f, last))
        trial_flushes_unsent(&s->flushes);
}
