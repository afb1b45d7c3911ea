/* Fuzz: the first byte says how many of the next are an expression, the rest is the text: matches lie in the text, one
 * behind the other, none is empty, and each found alone is found whole. */
#include "engine/pattern.h"
#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pattern p;
    size_t n = size > 0 ? data[0] : 0, from = 0;
    uint64_t steps = 1 << 18;
    struct view match;
    if (size < 1 || n > size - 1)
        return 0;
    struct view text = view_of(data + 1 + n, size - 1 - n);
    if (pattern_compile(&p, view_of(data + 1, n)))
        return 0;
    for (size_t before = 0; pattern_find(&p, text, &from, &match, &steps); before = from) {
        invariant(match.n > 0 && match.p >= text.p + before && match.p + match.n == text.p + from);
        size_t own = 0;
        uint64_t own_steps = 1 << 18;
        struct view again;
        invariant(p.word_begins || p.word_ends ||
                  (pattern_find(&p, match, &own, &again, &own_steps) && again.n == match.n));
    }
    return 0;
}
