/* ctl/units.h: quantities as people read them. Thinks. Each writes at most UNITS_TEXT bytes with the NUL and
 * returns `out`. */
#ifndef SLUICE_CTL_UNITS_H
#define SLUICE_CTL_UNITS_H

#include <stdint.h>

#define UNITS_TEXT 32

char *units_bytes(char out[UNITS_TEXT], uint64_t bytes);    // "512 B", "2.0 MiB"
char *units_duration(char out[UNITS_TEXT], uint64_t us);    // "88us", "1.9ms", "5.0s"
char *units_uptime(char out[UNITS_TEXT], uint64_t seconds); // "59s", "4m 5s", "3h 4m", "2d 3h"

// "90s", "10m", "2h", "1d", in seconds; 0: it is none of these, or NULL.
unsigned long units_seconds(const char *text);

#endif
