/* Fuzz: what a Redis may say to us. The first byte tells which: 0, an error (its kind, a redirection); 1, a key (its slot,
 * and the command that asks for it); else a value of the cache, once as it came and once with a checksum that fits, so
 * that what lies behind it is reached. An answer that comes of it can be written, and is read as the same again. */
#include "backends/redis_words.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"
#include "infer/stored.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t key[STORED_KEY] = "0123456789abcdef0123456789abcde";

static void look_at_error(struct view v)
{
    struct redis_turn turn;
    enum redis_fault fault = redis_fault(v);
    if (!redis_turn_read(v, &turn))
        return;
    invariant(fault == REDIS_FAULT_MOVED || fault == REDIS_FAULT_ASK);
    invariant(turn.slot < REDIS_SLOTS && turn.port > 0);
    invariant(turn.host.n < v.n);
}

static void look_at_key(struct view v)
{
    struct view words[] = {VIEW("GET"), v};
    size_t n = redis_write(NULL, words, 2);
    char *text = mem_must(n);
    invariant(redis_slot(v) < REDIS_SLOTS);
    invariant(redis_write(text, words, 2) == n && memcmp(text + n - 2, "\r\n", 2) == 0);
    mem_free(text);
}

static void write_again(struct block_owner *owner, struct answer *a, struct stored *it)
{
    struct slice s = {.answer = a, .rows = a->rows};
    struct buffer out;
    enum stored_fault fault;
    buffer_init(&out);
    if (stored_write(&out, it, &s)) {
        struct answer *again = stored_answer(owner, buffer_view(&out), it, &fault);
        invariant(again && again->n_outputs == a->n_outputs && again->rows == a->rows);
        block_unref(again->block);
    }
    buffer_deinit(&out);
}

static void look_at_value(struct view v)
{
    struct block_owner owner;
    enum stored_fault fault;
    size_t version = v.n > STORED_HEADER ? (uint8_t)v.p[6] : 0;
    if (version > v.n - (v.n > STORED_HEADER ? STORED_HEADER : 0))
        version = 0;
    struct stored it = {.key = key,
                        .model = VIEW("m"),
                        .version = view_of(v.p + (version ? STORED_HEADER : 0), version)};
    block_owner_init(&owner);
    block_owner_adopt(&owner);
    struct answer *a = stored_answer(&owner, v, &it, &fault);
    invariant((a != NULL) == (fault == STORED_FITS));
    if (a) {
        write_again(&owner, a, &it);
        block_unref(a->block);
    }
    block_owner_deinit(&owner);
}

static void look_behind_checksum(struct view v)
{
    if (v.n < STORED_HEADER)
        return;
    char *mended = mem_must(v.n);
    memcpy(mended, v.p, v.n);
    memcpy(mended, "SlSt\1", 6);
    memcpy(mended + 16, key, STORED_KEY);
    uint32_t message = (uint32_t)v.n - STORED_HEADER - (uint8_t)v.p[6];
    mended[7] = 0;
    memcpy(mended + 60, &message, 4);
    uint64_t sum = hash64(view_of(mended + 16, v.n - 16), STORED_LAYOUT);
    memcpy(mended + 8, &sum, 8);
    look_at_value(view_of(mended, v.n));
    mem_free(mended);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct view v = view_of(data + 1, size - 1);
    if (data[0] == 0) {
        look_at_error(v);
    } else if (data[0] == 1) {
        look_at_key(v);
    } else {
        look_at_value(v);
        look_behind_checksum(v);
    }
    return 0;
}
