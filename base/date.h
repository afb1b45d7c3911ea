/* base/date.h: a moment as people and JSON write it. Thinks. Thread: any. */
#ifndef SLUICE_BASE_DATE_H
#define SLUICE_BASE_DATE_H

#include <stdint.h>

#define DATE_TEXT 27 // bytes

// "2026-01-02T03:04:05.678901Z" (RFC 3339), UTC, without a NUL; microseconds since 1970.
void date_print(char out[DATE_TEXT], uint64_t wall_us);

#endif
