#include "base/date.h"

#include <string.h>

static void put(char *out, unsigned digits, uint64_t v)
{
    for (unsigned i = digits; i-- > 0; v /= 10)
        out[i] = (char)('0' + v % 10);
}

// Days to a date by years that begin in March (so that the leap day is the last); gmtime_r would take the
// C library's time zone lock on every line.
void date_print(char out[DATE_TEXT], uint64_t wall_us)
{
    uint64_t secs = wall_us / 1000000, day = secs / 86400, s = secs % 86400;
    uint64_t z = day + 719468; // days from 0000-03-01
    uint64_t era = z / 146097, doe = z % 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    uint64_t mp = (5 * doy + 2) / 153;
    uint64_t month = mp < 10 ? mp + 3 : mp - 9;
    memcpy(out, "0000-00-00T00:00:00.000000Z", DATE_TEXT);
    put(out, 4, yoe + era * 400 + (month <= 2));
    put(out + 5, 2, month);
    put(out + 8, 2, doy - (153 * mp + 2) / 5 + 1);
    put(out + 11, 2, s / 3600);
    put(out + 14, 2, s / 60 % 60);
    put(out + 17, 2, s % 60);
    put(out + 20, 6, wall_us % 1000000);
}
