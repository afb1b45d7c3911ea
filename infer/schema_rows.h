/* infer/schema_rows.h: messages as .proto files define them, as rows: of this room alone. schema.c writes descriptors from
 * them, model_config.c reads and tells a ModelConfig by them. Source of their numbers: descriptor.proto. */
#ifndef SLUICE_INFER_SCHEMA_ROWS_H
#define SLUICE_INFER_SCHEMA_ROWS_H

#include <stddef.h>
#include <stdint.h>

enum schema_kind { END, MESSAGE, INSIDE, ONEOF, FIELD, MAP, ENUM, VALUE, SERVICE, METHOD };

// FieldDescriptorProto.Type
enum schema_type {
    DOUBLE = 1,
    FLOAT = 2,
    INT64 = 3,
    UINT64 = 4,
    INT32 = 5,
    BOOL = 8,
    STRING = 9,
    GROUP_OF = 11, // a message
    BYTES = 12,
    UINT32 = 13,
    ENUM_OF = 14
};

enum { ONE, MANY, CHOICE, BOTH_STREAM, ANSWERS_STREAM }; // of a field; of a method

// END closes what MESSAGE, ENUM and SERVICE open. Names of messages and enums are as within their package.
struct schema_row {
    enum schema_kind kind;
    const char *name;
    uint8_t number, type, how; // of a map: its values' type, its keys' type
    const char *of, *answer;   // a field's type, a map's value; a method's request and answer
    const struct schema_row
        *links; // the rows of what INSIDE, a field or a map refers to; NULL: by its name
};

// clang-format off
#define ROW(...) {__VA_ARGS__}
#define OPEN(kind, name) ROW(kind, name, 0, 0, 0, NULL, NULL, NULL)
#define CLOSE ROW(END, NULL, 0, 0, 0, NULL, NULL, NULL)
#define HOLDS_ROWS(rows) ROW(INSIDE, NULL, 0, 0, 0, NULL, NULL, rows)
#define HAS(name, number, type, how) ROW(FIELD, name, number, type, how, NULL, NULL, NULL)
#define REFERS(name, number, type, how, of) ROW(FIELD, name, number, type, how, of, NULL, NULL)
#define PART(name, number, how, rows) ROW(FIELD, name, number, GROUP_OF, how, NULL, NULL, rows)
#define WORD(name, number, rows) ROW(FIELD, name, number, ENUM_OF, ONE, NULL, NULL, rows)
#define MAPS(name, number, of) ROW(MAP, name, number, GROUP_OF, STRING, of, NULL, NULL)
#define MAPS_TO(name, number, key, rows) ROW(MAP, name, number, GROUP_OF, key, NULL, NULL, rows)
#define MAPS_TEXT(name, number) ROW(MAP, name, number, STRING, STRING, NULL, NULL, NULL)
#define IS(name, number) ROW(VALUE, name, number, 0, 0, NULL, NULL, NULL)
// clang-format on

extern const struct schema_row schema_config[]; // ModelConfig
extern const struct schema_row
    schema_config_file[]; // the file that has it and all that it refers to

#endif
