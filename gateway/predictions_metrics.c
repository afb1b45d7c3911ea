// What /metrics has of the prediction log.
#include "gateway/predictions.h"

#include "base/count.h"
#include "gateway/process.h"
#include "gateway/prom.h"
#include "gateway/snapshot.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

void predictions_metrics(struct prom *o, const struct gateway *g)
{
    const struct predictions *log = g->predictions;
    const struct predictions_sum s = predictions_sum(log);
    if (!g->snap->config->predictions.on && s.records == 0)
        return;
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } rows[] = {
        {"sluice_predictions_records_total", "counter", "Records of predictions that were made.",
         s.records},
        {"sluice_predictions_written_total", "counter", "Of them those that are in a file.",
         count_get(&log->written)},
        {"sluice_predictions_dropped_total", "counter",
         "Of them those that went for want of room: the oldest.", s.dropped},
        {"sluice_predictions_lost_total", "counter",
         "Of them those that could not be written before the log ended.", count_get(&log->lost)},
        {"sluice_predictions_refused_total", "counter",
         "Requests answered 503, as their records are required and had no room.", s.refused},
        {"sluice_predictions_waiting_bytes", "gauge", "Memory of records that wait for the writer.",
         s.waiting},
        {"sluice_predictions_file_bytes_total", "counter", "Bytes in files, compressed.",
         count_get(&log->files.written)},
        {"sluice_predictions_file_errors_total", "counter", "Calls on files that failed.",
         count_get(&log->files.errors)},
        {"sluice_predictions_files_closed_total", "counter", "Files that are whole.",
         count_get(&log->files.closed)},
        {"sluice_predictions_streamed_total", "counter", "Records that are in a stream.",
         count_get(&log->stream.written)},
        {"sluice_predictions_stream_there_total", "counter",
         "Of them those that were there already when they were sent again.",
         count_get(&log->stream.again_there)},
        {"sluice_predictions_stream_renewed_total", "counter",
         "Records that another id was given to, as a greater one was there.",
         count_get(&log->stream.renewed)},
        {"sluice_predictions_stream_errors_total", "counter",
         "Commands that were late, lost or refused: sent again.", count_get(&log->stream.errors)},
        {"sluice_predictions_spool_bytes", "gauge", "Bytes on the disk that wait for Redis.",
         count_get(&log->stream.spool.bytes)},
        {"sluice_predictions_spool_errors_total", "counter", "Calls on the spool that failed.",
         count_get(&log->stream.spool.errors)},
        {"sluice_predictions_files_cut_total", "counter",
         "Files of an earlier process that were cut behind their last whole frame.",
         count_get(&log->files.cut)},
        {"sluice_predictions_archived_total", "counter", "Closed files that were put into a day's.",
         count_get(&log->archiver.taken)},
        {"sluice_predictions_archive_errors_total", "counter",
         "Looks after which not all of them were; tried again.", count_get(&log->archiver.errors)},
        {"sluice_predictions_archive_days_removed_total", "counter",
         "Files of days that were removed, being old.", count_get(&log->archiver.days)},
    };
    for (unsigned i = 0; i < N(rows); i++) {
        prom_family(o, rows[i].name, rows[i].type, rows[i].help);
        prom_count(o, NULL, 0, rows[i].value);
    }
}
