/* ctl/log_archive.h: closed files of a prediction log put together, one file for each day that is over (UTC). Does. */
#ifndef SLUICE_CTL_LOG_ARCHIVE_H
#define SLUICE_CTL_LOG_ARCHIVE_H

#include "ctl/commands.h"

/* From `directory` to TO/YYYYMMDD.jsonl.zst, whose files are those of the day one behind the other, each after a
 * skippable frame (RFC 8878, 3.1.2) with its name. A day's file is written anew, synced and renamed; only then what went
 * into it is removed. So whenever it is ended, the next run goes on, and takes nothing twice: what a day's file has
 * already is removed alone. */
enum ctl_exit log_archive(const char *directory, const char *to);

#endif
