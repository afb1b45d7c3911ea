#include "http/http.h"

bool grpc_is(const struct exchange *ex)
{
    struct view v = exchange_header(ex, "content-type");
    if (v.n < 16 || memcmp(v.p, "application/grpc", 16) != 0)
        return false;
    return v.n == 16 || v.p[16] == '+' || v.p[16] == ';';
}

// grpc/grpc doc/PROTOCOL-HTTP2.md: at most eight digits and a unit.
bool grpc_timeout_parse(struct view v, uint64_t *us)
{
    static const struct {
        char unit;
        uint64_t multiply, divide;
    } units[] = {{'H', 3600000000u, 1}, {'M', 60000000, 1}, {'S', 1000000, 1},
                 {'m', 1000, 1},        {'u', 1, 1},        {'n', 1, 1000}};
    uint64_t n = 0;
    if (v.n < 2 || v.n > 9)
        return false;
    for (size_t i = 0; i + 1 < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return false;
        n = n * 10 + (uint64_t)(v.p[i] - '0');
    }
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (v.p[v.n - 1] != units[i].unit)
            continue;
        *us = n * units[i].multiply / units[i].divide;
        if (*us == 0)
            *us = 1; // "1n": a deadline that is over, not "no deadline"
        if (*us > 1000000000000000u)
            *us = 1000000000000000u;
        return true;
    }
    return false;
}

unsigned grpc_timeout_print(char out[16], uint64_t us)
{
    static const struct {
        char unit;
        uint64_t us;
    } units[] = {{'u', 1}, {'m', 1000}, {'S', 1000000}, {'M', 60000000}, {'H', 3600000000u}};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        uint64_t n = (us + units[i].us - 1) / units[i].us;
        if (n > 99999999)
            continue;
        char digits[8];
        unsigned k = 0, length = 0;
        do {
            digits[k++] = (char)('0' + n % 10);
            n /= 10;
        } while (n > 0);
        while (k > 0)
            out[length++] = digits[--k];
        out[length++] = units[i].unit;
        out[length] = '\0';
        return length;
    }
    memcpy(out, "99999999H", 10);
    return 9;
}
