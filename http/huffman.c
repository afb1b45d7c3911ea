// The code of RFC 7541, appendix B. It is canonical: the codes of one length follow each other in the order of their
// symbols, and those of the next length follow them. So the symbols in the order of their codes, and how many codes
// each length has, are all of it.
#include "http/hpack.h"

#define SHORTEST 5u
#define LONGEST 30u
#define END_OF_TEXT 256u

static const uint16_t symbols[257] = {
    48,  49,  50,  97,  99,  101, 105, 111, 115, 116, 32,  37,  45,  46,  47,  51,  52,  53,  54,
    55,  56,  57,  61,  65,  95,  98,  100, 102, 103, 104, 108, 109, 110, 112, 114, 117, 58,  66,
    67,  68,  69,  70,  71,  72,  73,  74,  75,  76,  77,  78,  79,  80,  81,  82,  83,  84,  85,
    86,  87,  89,  106, 107, 113, 118, 119, 120, 121, 122, 38,  42,  44,  59,  88,  90,  33,  34,
    40,  41,  63,  39,  43,  124, 35,  62,  0,   36,  64,  91,  93,  126, 94,  125, 60,  96,  123,
    92,  195, 208, 128, 130, 131, 162, 184, 194, 224, 226, 153, 161, 167, 172, 176, 177, 179, 209,
    216, 217, 227, 229, 230, 129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173,
    178, 181, 185, 186, 187, 189, 190, 196, 198, 228, 232, 233, 1,   135, 137, 138, 139, 140, 141,
    143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174, 175, 180, 182, 183, 188, 191,
    197, 231, 239, 9,   142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237, 199, 207, 234, 235,
    192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255, 203, 204, 211, 212,
    214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254, 2,   3,   4,   5,
    6,   7,   8,   11,  12,  14,  15,  16,  17,  18,  19,  20,  21,  23,  24,  25,  26,  27,  28,
    29,  30,  31,  127, 220, 249, 10,  13,  22,  256};

static const uint8_t codes_of[LONGEST + 1] = {0, 0, 0, 0, 0, 10, 26, 32, 6,  0, 5,  3,  2,  6, 2, 3,
                                              0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4};

// The symbol whose code begins `bits` (from the highest bit on), and the code's length. Of text nearly all are of 5 to
// 8 bits, and told by the first byte: 10 codes of 5 bits are 80 bytes, and so on.
static unsigned symbol_of(uint64_t bits, unsigned *length)
{
    unsigned first_byte = (unsigned)(bits >> 56);
    if (first_byte < 80) {
        *length = 5;
        return symbols[first_byte >> 3];
    }
    if (first_byte < 184) {
        *length = 6;
        return symbols[10 + ((first_byte - 80) >> 2)];
    }
    if (first_byte < 248) {
        *length = 7;
        return symbols[36 + ((first_byte - 184) >> 1)];
    }
    uint32_t first = 0xf8, index = 68; // of the codes of this length
    for (unsigned n = 8; n <= LONGEST; n++) {
        uint32_t code = (uint32_t)(bits >> (64 - n));
        if (code - first < codes_of[n]) {
            *length = n;
            return symbols[index + code - first];
        }
        index += codes_of[n];
        first = (first + codes_of[n]) << 1;
    }
    *length = LONGEST;
    return END_OF_TEXT;
}

enum hpack_result huffman_read(const uint8_t *p, size_t n, struct buffer *to)
{
    const uint8_t *end = p + n;
    uint64_t held = 0; // the next bits, from the highest on
    unsigned bits = 0, length;
    uint8_t *out = buffer_room(to, n * 8 / SHORTEST + 1), *at = out;
    if (!out)
        return HPACK_NO_MEMORY;
    for (;;) {
        for (; bits <= 56 && p < end; bits += 8)
            held |= (uint64_t)*p++ << (56 - bits);
        // Behind the last byte come ones: what pads it, were it longer (5.2).
        uint64_t ones = bits < 64 ? UINT64_MAX >> bits : 0;
        unsigned symbol = symbol_of(held | ones, &length);
        if (length > bits)
            break;
        if (symbol == END_OF_TEXT)
            return HPACK_BROKEN;
        *at++ = (uint8_t)symbol;
        held <<= length;
        bits -= length;
    }
    buffer_commit(to, (size_t)(at - out));
    uint64_t padding = ~(UINT64_MAX >> bits); // bits < LONGEST
    return bits < 8 && (held & padding) == padding ? HPACK_FIELD : HPACK_BROKEN;
}
