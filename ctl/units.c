#include "ctl/units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *units_bytes(char out[UNITS_TEXT], uint64_t bytes)
{
    static const char *const unit[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes / 1024;
    unsigned i = 0;
    if (bytes < 1024) {
        snprintf(out, UNITS_TEXT, "%u B", (unsigned)bytes);
        return out;
    }
    for (; v >= 1023.95 && i < 5; i++) // what would be printed as 1024.0
        v /= 1024;
    snprintf(out, UNITS_TEXT, "%.1f %s", v, unit[i]);
    return out;
}

char *units_duration(char out[UNITS_TEXT], uint64_t us)
{
    if (us < 1000)
        snprintf(out, UNITS_TEXT, "%uus", (unsigned)us);
    else if (us < 999950)
        snprintf(out, UNITS_TEXT, "%.1fms", (double)us / 1e3);
    else
        snprintf(out, UNITS_TEXT, "%.1fs", (double)us / 1e6);
    return out;
}

char *units_uptime(char out[UNITS_TEXT], uint64_t s)
{
    unsigned long long d = s / 86400, h = s / 3600 % 24, m = s / 60 % 60;
    if (d > 0)
        snprintf(out, UNITS_TEXT, "%llud %lluh", d, h);
    else if (h > 0)
        snprintf(out, UNITS_TEXT, "%lluh %llum", h, m);
    else if (m > 0)
        snprintf(out, UNITS_TEXT, "%llum %llus", m, (unsigned long long)s % 60);
    else
        snprintf(out, UNITS_TEXT, "%llus", (unsigned long long)s);
    return out;
}

unsigned long units_seconds(const char *text)
{
    static const struct {
        char unit;
        unsigned long s;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    size_t digits = text ? strspn(text, "0123456789") : 0;
    for (size_t i = 0; digits > 0 && digits < 8 && i < sizeof(units) / sizeof(units[0]); i++) {
        if (text[digits] == units[i].unit && !text[digits + 1])
            return strtoul(text, NULL, 10) * units[i].s;
    }
    return 0;
}
