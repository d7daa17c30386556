/* Writes docs/records.md from the tables, or holds a file against it: records_document [FILE]. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/record.h"

static const struct {
        unsigned key;
        const char *name, *kind, *by, *sentence;
} rows[] = {
#define F(key_, name_, kind_, by_, sentence_) {key_, #name_, #kind_, #by_, sentence_},
#include "stages/common/record.def"
#undef F
};

static const struct {
        const char *name;
        unsigned status, retryable;
        const char *sentence;
} errors[] = {
#define E(name_, status_, retryable_, sentence_) {#name_, status_, retryable_, sentence_},
#include "stages/common/errors.def"
#undef E
};

static void write_types(FILE *to) {
        fprintf(to, "| number | type |\n|---|---|\n");
        for (unsigned type = RECORD_REQUEST; type <= RECORD_ABSENT; type++)
                fprintf(to, "| %u | `%s` |\n", type, record_type_name((uint16_t)type));
}

static void write_fields(FILE *to) {
        fprintf(to, "| key | field | kind | added by | what it is |\n|---|---|---|---|---|\n");
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                fprintf(to, "| %u | `%s` | %s | %s | %s |\n", rows[i].key, rows[i].name,
                                rows[i].kind, rows[i].by, rows[i].sentence);
}

static void write_errors(FILE *to) {
        fprintf(to, "| number | code | status | retryable | meaning |\n|---|---|---|---|---|\n");
        for (size_t i = 1; i < sizeof(errors) / sizeof(errors[0]); i++)
                fprintf(to, "| %zu | `%s` | %u | %s | %s |\n", i, errors[i].name, errors[i].status,
                                errors[i].retryable ? "yes" : "no", errors[i].sentence);
}

static void write_document(FILE *to) {
        fprintf(to,
                        "# Records: what travels in the rings\n\n"
                        "Made from `stages/common/record.def` and `errors.def`; a test holds this "
                        "page against them.\n\n"
                        "A record is one msgpack map from small integer keys to values. Keys are "
                        "only ever added and\n"
                        "never change their meaning; a stage passes on keys that it does not know "
                        "(at most %u). A\n"
                        "record that is no such map, has a known field of another kind, a key "
                        "twice, or a value deeper\n"
                        "than 16 levels, is refused.\n\n"
                        "Kinds: UINT an unsigned integer, STR text in UTF-8, BIN bytes, RAW any "
                        "msgpack value.\n\n"
                        "## Types\n\nThe type stands in the ring's descriptor, not in the map.\n\n",
                        RECORD_UNKNOWN_MAX);
        write_types(to);
        fprintf(to, "\n## Fields\n\n");
        write_fields(to);
        fprintf(to, "\n## Error codes\n\nThe numbers of the field `code`.\n\n");
        write_errors(to);
}

static int compare(const char *path, const char *expected, size_t expected_len) {
        FILE *file = fopen(path, "re");
        char *found = malloc(expected_len + 2);
        size_t len = file && found ? fread(found, 1, expected_len + 2, file) : 0;
        int differs = len != expected_len || memcmp(found, expected, len) != 0;

        if (differs)
                fprintf(stderr,
                                "%s is not what the tables say: write it anew with\n"
                                "  build/tests/common/records_document > docs/records.md\n",
                                path);
        if (file)
                fclose(file);
        free(found);
        return differs;
}

int main(int argc, char **argv) {
        char *text = NULL;
        size_t len = 0;
        FILE *memory = open_memstream(&text, &len);

        if (!memory)
                return 1;
        write_document(memory);
        if (fclose(memory) != 0)
                return 1;
        int r = argc > 1 ? compare(argv[1], text, len) : fwrite(text, 1, len, stdout) != len;
        free(text);
        return r;
}
