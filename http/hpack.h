/* http/hpack.h: inside of the room: header compression (RFC 7541) for one connection, each direction by itself. Thinks.
 * Memory: a table holds its entries and at most twice HPACK_TABLE_BYTES of their text. Thread: the connection's loop. */
#ifndef SLUICE_HTTP_HPACK_H
#define SLUICE_HTTP_HPACK_H

#include "base/buffer.h"
#include "base/view.h"
#include <stdint.h>

#define HPACK_TABLE_BYTES 4096u // of either side's table: the default, and the most we use
#define HPACK_ENTRIES (HPACK_TABLE_BYTES / 32) // each counts as 32 bytes more than its text (4.1)
#define HPACK_BUCKETS 64u

struct hpack_entry {
    uint32_t at; // its text, counted from the first byte that the table ever held
    uint32_t hash, next_field, next_name; // writer: of those with the same hash the ones before it
    uint16_t name_n, value_n;
    bool fine; // reader: what hpack_is_fine said
};

struct hpack_table {
    struct buffer text;                      // names and values, oldest first
    struct hpack_entry entry[HPACK_ENTRIES]; // number n lies at n % HPACK_ENTRIES
    uint32_t oldest, next;                   // numbers
    uint32_t bytes, limit;                   // as 4.1 counts
};

// ---- reading

struct hpack_reader {
    struct hpack_table table;
    struct buffer name, value; // texts that were coded, or would not outlive their entry
    bool begun;                // a field of this block was read: no size may change any more (4.2)
};

struct hpack_field {
    struct view name, value; // until the next call
    bool fine;               // see hpack_is_fine
};

enum hpack_result {
    HPACK_FIELD,
    HPACK_MORE, // what is left is not a whole field
    HPACK_BROKEN,
    HPACK_NO_MEMORY,
};

void hpack_reader_init(struct hpack_reader *r);
void hpack_reader_deinit(struct hpack_reader *r);
void hpack_read_begin(struct hpack_reader *r);
// The next field of a block: *at moves behind it. MORE, BROKEN: *at stays.
enum hpack_result hpack_read(struct hpack_reader *r, const uint8_t **at, const uint8_t *end,
                             struct hpack_field *f);
// At the end of a block: gives back what a large one needed.
void hpack_read_end(struct hpack_reader *r);
// Bytes that HTTP allows (RFC 9113 8.2.1): a name of token characters in lower case, or ':' before them; a value
// without control characters, that neither begins nor ends with a blank.
bool hpack_is_fine(struct view name, struct view value);

// ---- writing

struct hpack_writer {
    struct hpack_table table;
    uint32_t by_field[HPACK_BUCKETS],
        by_name[HPACK_BUCKETS]; // numbers; stale ones are told by their age
    uint32_t least;             // the smallest limit since the last block
    bool resized;
};

#define HPACK_BEGIN_ROOM 12u // bytes, at most, of what hpack_write_begin writes
#define HPACK_FIELD_ROOM 18u // and of a field beside its name and value

void hpack_writer_init(struct hpack_writer *w);
void hpack_writer_deinit(struct hpack_writer *w);
// The peer's SETTINGS_HEADER_TABLE_SIZE.
void hpack_writer_resize(struct hpack_writer *w, uint32_t bytes);
// Each writes at `at`, where there is room, and returns the end of it.
uint8_t *hpack_write_begin(struct hpack_writer *w, uint8_t *at);
uint8_t *hpack_write_status(struct hpack_writer *w, uint8_t *at, unsigned status);
// passing: no other block repeats this value. Then it goes into the table once, for its name, and not again as long
// as that is there: it would only drive others out. Out of memory: the table is not used.
uint8_t *hpack_write(struct hpack_writer *w, uint8_t *at, struct view name, struct view value,
                     bool passing);

// ---- Huffman's code (RFC 7541 5.2 and appendix B)

// Appends n decoded bytes to `to`. BROKEN: the end of text within, or a padding that is none.
enum hpack_result huffman_read(const uint8_t *p, size_t n, struct buffer *to);

#endif
