#include "router/force.h"

#include "base/hmac.h"
#include "base/num.h"

// What stands before the first `at` of *text, which then begins behind it. False: there is none.
static bool split_at(struct view *text, char at, struct view *before)
{
    const char *p = text->n ? memchr(text->p, at, text->n) : NULL;
    if (!p)
        return false;
    *before = view_of(text->p, (size_t)(p - text->p));
    *text = view_of(p + 1, text->n - before->n - 1);
    return true;
}

bool force_read(struct view text, struct force *out, struct error *e)
{
    struct view rest = text, expires;
    bool whole = split_at(&rest, '/', &out->experiment) && split_at(&rest, ';', &out->variant) &&
                 split_at(&rest, ';', &expires);
    if (!whole || num_parse_u64(expires, &out->expires_s) != NUM_OK)
        return error_set(e, STATUS_BAD_REQUEST,
                         "sluice-variant: expected NAME/VARIANT;EXPIRES;SIGNATURE");
    out->signature = rest;
    out->word = view_of(text.p, text.n - rest.n - 1);
    return true;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(struct view text, uint8_t out[HMAC_BYTES])
{
    if (text.n != 2 * HMAC_BYTES)
        return false;
    for (size_t i = 0; i < HMAC_BYTES; i++) {
        int high = digit_of(text.p[2 * i]), low = digit_of(text.p[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

bool force_holds(const struct force *f, struct view key, uint64_t now_s, struct error *e)
{
    uint8_t signed_with[HMAC_BYTES], should_be[HMAC_BYTES];
    if (!read_hex(f->signature, signed_with))
        return error_set(e, STATUS_UNAUTHENTICATED,
                         "sluice-variant: expected a signature of 64 hexadecimal digits");
    if (!hmac_sha256(key, f->word, should_be) || !hmac_eq(signed_with, should_be))
        return error_set(e, STATUS_UNAUTHENTICATED,
                         "sluice-variant: the signature is not of the experiment's key");
    if (now_s >= f->expires_s)
        return error_set(e, STATUS_UNAUTHENTICATED, "sluice-variant: it has expired");
    return true;
}
