#include "gateway/creation_store.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/num.h"
#include "gateway/creation_pages.h"
#include <inttypes.h>
#include <stdio.h>

#define LIST_BYTES "8388608" // of the texts of one answer; REDIS_MAX_REPLY is twice that
#define LIST_MOST "4096"     // elements of it

// KEYS: the hash. ARGV: name, text, most, channel, message, what "#" is at least then. {"done"}; {"taken"}: another one of that
// name is there; {"full"}.
static const struct view create_script = VIEW(
    "local has = redis.call('HGET', KEYS[1], ARGV[1])\n"
    "if has and has ~= ARGV[2] then return {'taken'} end\n"
    "if not has then\n"
    "  if #redis.call('HGETALL', KEYS[1]) > 2 * tonumber(ARGV[3]) + 1 then return {'full'} end\n"
    "  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])\n"
    "end\n"
    "local n = redis.call('HINCRBY', KEYS[1], '#', 1)\n"
    "if n < tonumber(ARGV[6]) then redis.call('HSET', KEYS[1], '#', ARGV[6]) end\n"
    "redis.pcall('PUBLISH', ARGV[4], ARGV[5])\n"
    "return {'done'}\n");

// ARGV: name, mark, channel, message. {"done"}: it is not there; {"taken"}: another one of that name is.
static const struct view delete_script =
    VIEW("local has = redis.call('HGET', KEYS[1], ARGV[1])\n"
         "if not has then return {'done'} end\n"
         "if string.match(has, '^# sluice 1 %S+ (%x+) ') ~= ARGV[2] then return {'taken'} end\n"
         "redis.call('HDEL', KEYS[1], ARGV[1])\n"
         "redis.call('HINCRBY', KEYS[1], '#', 1)\n"
         "redis.pcall('PUBLISH', ARGV[3], ARGV[4])\n"
         "return {'done'}\n");

// ARGV: "#" as it was heard; names and marks that are known, each between newlines. {"#"}: it is the same; {"#", "all" or "more", then
// of each its name and its text}: "" if it is known, or there is more than an answer may have.
static const struct view list_script = VIEW(
    "local n = redis.call('HGET', KEYS[1], '#') or '0'\n"
    "if n == ARGV[1] then return {n} end\n"
    "local out, bytes = {n, 'all'}, 0\n"
    "local all = redis.call('HGETALL', KEYS[1])\n"
    "for i = 1, #all, 2 do\n"
    "  local name, text = all[i], all[i + 1]\n"
    "  local mark = string.match(text, '^# sluice 1 %S+ (%x+) ')\n"
    "  if name ~= '#' and #out > " LIST_MOST " then\n"
    "    out[2] = 'more'\n"
    "    break\n"
    "  elseif name ~= '#' then\n"
    "    local known = mark and string.find(ARGV[2], '\\n' .. name .. ' ' .. mark .. '\\n', 1, "
    "true)\n"
    "    if not known and bytes + #text > " LIST_BYTES " then out[2] = 'more' end\n"
    "    if known or bytes + #text > " LIST_BYTES " then text = '' end\n"
    "    bytes = bytes + #text\n"
    "    out[#out + 1], out[#out + 2] = name, text\n"
    "  end\n"
    "end\n"
    "return out\n");

static struct view created_key(const struct trial_shop *shop, char out[SHELF_KEY])
{
    int n = snprintf(out, SHELF_KEY, "%sexp-created", shop->plan->prefix);
    return view_of(out, (size_t)n);
}

// As all have it, whoever writes it.
static bool write_shared(struct buffer *out, const struct creation *it)
{
    struct creation as = *it;
    as.shared = true;
    return creation_write(out, &as);
}

// The record of another one of that name is not this one's.
static void drop(struct trial_shop *shop, struct created *c, struct view who, struct view why)
{
    trial_shelf_forget(shop, c->it.name);
    creations_drop(shop->gateway, c, who, why);
}

// ---- one that comes or goes --------------------------------------------------------------------------

struct creation_put {
    struct trial_shop *shop;
    char name[TRIAL_NAME + 1];
    struct creation it;  // to come; or, of one that goes, its mark alone
    struct exchange *ex; // a reference: of whoever waits; NULL: nobody
    bool goes;
    char who[TRIAL_WHO + 1], why[TRIAL_WHY + 1]; // of one that goes
};

static void come(struct creation_put *p)
{
    struct gateway *g = p->shop->gateway;
    char why[CREATION_WHY];
    struct created *c = creations_find(g, view_str(p->name));
    p->it.shared = true;
    bool here = c && c->it.mark == p->it.mark; // the channel was before us, or it was here first
    if (here)
        creations_share(g, c);
    else if ((here = creations_put(g, &p->it, why)))
        creations_apply(g);
    if (p->ex)
        creation_pages_end(p->ex, g, here ? CREATION_DONE : CREATION_FULL, p->name, false, why);
    trial_shop_hurry(p->shop);
}

static void go(struct creation_put *p)
{
    struct gateway *g = p->shop->gateway;
    struct created *c = creations_find(g, view_str(p->name));
    if (c && c->it.mark == p->it.mark) {
        drop(p->shop, c, view_str(p->who), view_str(p->why));
        creations_apply(g);
    }
    creation_pages_end(p->ex, g, CREATION_DONE, p->name, true, "");
}

static void refuse_put(struct creation_put *p, enum creation_end end, const char *why)
{
    if (p->ex)
        creation_pages_end(p->ex, p->shop->gateway, end, p->name, p->goes, why);
}

static void end_put(struct creation_put *p, const struct redis_answer *said)
{
    struct view word = said->end == REDIS_END_LIST ? redis_item(said, 0).text : VIEW("");
    char why[CREATION_WHY];
    if (view_is(word, "done") && p->goes)
        go(p);
    else if (view_is(word, "done"))
        come(p);
    else if (view_is(word, "taken"))
        refuse_put(p, CREATION_TAKEN, "one of that name was created at another gateway meanwhile");
    else if (view_is(word, "full"))
        refuse_put(p, CREATION_FULL, "the store has as many as may be created: delete one first");
    else {
        snprintf(why, sizeof(why), "store: %.*s: it may have been done all the same",
                 said->end == REDIS_END_ERROR && said->text.n < 200 ? (int)said->text.n : 9,
                 said->end == REDIS_END_ERROR ? said->text.p : "no answer");
        refuse_put(p, CREATION_FULL, why);
    }
    if (said->end == REDIS_END_LIST)
        creation_store_look(p->shop);
    else if (!p->ex) // what was to go there may not have
        p->shop->creations_heard = false;
}

static void free_put(struct creation_put *p)
{
    if (p->ex)
        exchange_unref(p->ex);
    creation_deinit(&p->it);
    mem_free(p);
}

static void on_put(const struct redis_answer *said, void *user)
{
    struct creation_put *p = user;
    if (!p->shop->over)
        end_put(p, said);
    free_put(p);
}

// NULL: out of memory.
static struct creation_put *new_put(struct gateway *g, const char *name, uint64_t mark,
                                    struct exchange *ex)
{
    struct creation_put *p = mem_zalloc(sizeof(*p));
    if (!p)
        return NULL;
    p->shop = g->shop;
    p->ex = ex;
    creation_init(&p->it);
    snprintf(p->name, sizeof(p->name), "%s", name);
    p->it.mark = mark;
    if (ex)
        exchange_ref(ex);
    return p;
}

static bool send_text(struct trial_shop *shop, const struct creation *it, struct creation_put *p)
{
    struct buffer text;
    char key[SHELF_KEY], least[24], most[24];
    buffer_init(&text);
    snprintf(least, sizeof(least), "%" PRIu64, shop->creations + 1);
    snprintf(most, sizeof(most), "%u", CONFIG_MAX_CREATED);
    bool ok = write_shared(&text, it);
    struct view words[] = {created_key(shop, key), view_str(it->name),      buffer_view(&text),
                           view_str(most),         view_str(shop->channel), VIEW(CREATION_FEED),
                           view_str(least)};
    ok = ok && redis_eval(shop->redis, create_script, words, 7, 1, on_put, p) == REDIS_SENT;
    buffer_deinit(&text);
    return ok;
}

static bool refuse(char why[CREATION_WHY])
{
    snprintf(why, CREATION_WHY, "store: nobody answers there now");
    return false;
}

bool creation_store_create(struct gateway *g, struct creation *it, struct exchange *ex,
                           char why[CREATION_WHY])
{
    struct creation_put *p = g->shop ? new_put(g, it->name, it->mark, ex) : NULL;
    if (!p)
        return refuse(why);
    creation_deinit(&p->it);
    p->it = *it;
    creation_init(it);
    if (send_text(g->shop, &p->it, p))
        return true;
    free_put(p);
    return refuse(why);
}

bool creation_store_delete(struct gateway *g, const struct created *c, struct exchange *ex,
                           struct view who, struct view reason, char why[CREATION_WHY])
{
    struct creation_put *p = g->shop ? new_put(g, c->it.name, c->it.mark, ex) : NULL;
    char key[SHELF_KEY], mark[24];
    if (!p)
        return refuse(why);
    p->goes = true;
    snprintf(p->who, sizeof(p->who), "%.*s", VIEW_ARG(who));
    snprintf(p->why, sizeof(p->why), "%.*s", VIEW_ARG(reason));
    snprintf(mark, sizeof(mark), "%016" PRIx64, c->it.mark);
    struct view words[] = {created_key(g->shop, key), view_str(c->it.name), view_str(mark),
                           view_str(g->shop->channel), VIEW(CREATION_FEED)};
    if (redis_eval(g->shop->redis, delete_script, words, 5, 1, on_put, p) == REDIS_SENT)
        return true;
    free_put(p);
    return refuse(why);
}

// S2.
static void push(struct trial_shop *shop, const struct created *c)
{
    struct creation_put *p = new_put(shop->gateway, c->it.name, c->it.mark, NULL);
    if (p && !send_text(shop, &c->it, p))
        free_put(p);
}

// ---- what is there -----------------------------------------------------------------------------------

static bool put_known(const struct gateway *g, struct buffer *out)
{
    char line[TRIAL_NAME + 24];
    bool ok = buffer_append(out, "\n", 1);
    for (const struct created *c = g->creations.first; ok && c; c = c->next) {
        snprintf(line, sizeof(line), "%s %016" PRIx64 "\n", c->it.name, c->it.mark);
        ok = buffer_append(out, line, strlen(line));
    }
    return ok;
}

static void tell_not_taken(struct gateway *g, struct view name, struct view why)
{
    GATEWAY_EVENT(g, NULL, LOG_ERROR, "experiment_not_taken", LOG_S("experiment", name),
                  LOG_S("why", why));
}

// One that is there and was not known as it is, when it was asked for. False: nothing has changed.
static bool take(struct trial_shop *shop, struct view name, struct view text)
{
    struct gateway *g = shop->gateway;
    char why[CREATION_WHY], wrong[TRIAL_WRONG];
    struct creation it;
    creation_init(&it);
    bool ok = creation_read(&it, text, wrong);
    snprintf(why, sizeof(why), "%s", wrong);
    it.shared = true;
    if (ok && !view_is(name, it.name)) {
        snprintf(why, sizeof(why), "what is stored as created is another experiment's");
        ok = false;
    }
    struct created *c = ok ? creations_find(g, name) : NULL;
    bool known = c && c->it.mark == it.mark; // by now
    if (known) {
        c->there = true;
        creations_share(g, c);
    } else if (ok) {
        trial_shelf_forget(shop, it.name);
        ok = creations_put(g, &it, why);
    }
    if (!ok)
        tell_not_taken(g, name, view_str(why));
    creation_deinit(&it);
    return ok && !known;
}

// What is known here and not there. back: S2.
static bool settle_absent(struct trial_shop *shop, bool back)
{
    struct gateway *g = shop->gateway;
    bool gone = false;
    for (struct created *c = g->creations.first, *next; c; c = next) {
        next = c->next;
        if (!c->there && (back || !c->it.shared)) {
            push(shop, c);
        } else if (!c->there) {
            drop(shop, c, VIEW("store"), VIEW("at another gateway"));
            gone = true;
        }
    }
    return gone;
}

static void hear(struct trial_shop *shop, const struct redis_answer *said, uint64_t n)
{
    struct gateway *g = shop->gateway;
    bool all = view_is(redis_item(said, 1).text, "all"), some = false;
    bool back = n < shop->creations || n == 0;
    for (struct created *c = g->creations.first; c; c = c->next)
        c->there = false;
    for (unsigned i = 2; i + 1 < said->n; i += 2) {
        struct view name = redis_item(said, i).text, text = redis_item(said, i + 1).text;
        struct created *c = creations_find(g, name);
        if (text.n > 0)
            some |= take(shop, name, text);
        else if (c) {
            c->there = true;
            creations_share(g, c);
        }
    }
    if (all)
        some |= settle_absent(shop, back);
    if (all || !some) { // else the rest is asked for
        shop->creations = n;
        shop->creations_heard = true;
    }
    if (some) {
        creations_apply(g);
        trial_shop_hurry(shop);
    }
}

static void on_list(const struct redis_answer *said, void *user)
{
    struct trial_shop *shop = user;
    uint64_t n;
    shop->lists = false;
    if (said->end == REDIS_END_ERROR && !shop->over && !shop->creations_refused) {
        shop->creations_refused = true;
        tell_not_taken(shop->gateway, VIEW(CREATION_FEED), said->text);
    }
    if (shop->over || said->end != REDIS_END_LIST || said->n < 1 ||
        num_parse_u64(redis_item(said, 0).text, &n) != NUM_OK)
        return;
    if (said->n >= 2)
        hear(shop, said, n);
}

void creation_store_look(struct trial_shop *shop)
{
    struct buffer known;
    char key[SHELF_KEY], n[24];
    if (shop->gateway->creations.stale)
        creations_apply(shop->gateway);
    if (shop->lists)
        return;
    buffer_init(&known);
    snprintf(n, sizeof(n), "%" PRIu64, shop->creations);
    struct view words[] = {
        created_key(shop, key), shop->creations_heard ? view_str(n) : VIEW(""), {0}};
    if (put_known(shop->gateway, &known)) {
        words[2] = buffer_view(&known);
        shop->lists =
            redis_eval(shop->redis, list_script, words, 3, 1, on_list, shop) == REDIS_SENT;
    }
    buffer_deinit(&known);
}
