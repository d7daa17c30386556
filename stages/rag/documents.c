#include "stages/rag/documents.h"

#include "stages/engines/tokens/tokens.h"

#define CUT_BYTES_MIN 200u /* a shorter rest of a passage says nothing */

static void cell_text(msgpack_object *cell, struct index_str text) {
        cell->type = MSGPACK_OBJECT_STR;
        cell->via.str.ptr = text.data ? text.data : "";
        cell->via.str.size = (uint32_t)text.n_bytes;
}

static void cell_number(msgpack_object *cell, uint64_t n) {
        cell->type = MSGPACK_OBJECT_POSITIVE_INTEGER;
        cell->via.u64 = n;
}

/* The longest prefix of at most `bytes` bytes that cuts no character. */
static size_t cut(struct index_str text, size_t bytes) {
        if (text.n_bytes <= bytes)
                return text.n_bytes;
        while (bytes && ((uint8_t)text.data[bytes] & 0xc0) == 0x80)
                bytes--;
        return bytes;
}

uint32_t documents_make(struct documents *documents, const struct index_result *result,
                uint64_t max_tokens) {
        size_t left = DOCUMENTS_BYTES;
        uint32_t n = 0;

        for (; n < index_result_n(result) && n < DOCUMENTS_MAX; n++) {
                const struct index_hit *hit = index_result_hit(result, n);
                msgpack_object *cells = documents->cells[n];
                struct index_str text = hit->text;
                size_t names = hit->key.id.n_bytes + hit->title.n_bytes + hit->url.n_bytes + 64;
                uint64_t tokens = tokens_estimate(text.data, text.n_bytes);
                if (names > left)
                        break;
                if (tokens > max_tokens || text.n_bytes > left - names) {
                        size_t most = max_tokens * 4 < left - names ? max_tokens * 4 : left - names;
                        text.n_bytes = cut(text, most);
                        if (text.n_bytes < CUT_BYTES_MIN && n)
                                break;
                        tokens = max_tokens;
                }
                cell_text(&cells[0], hit->key.id);
                cell_text(&cells[1], hit->title);
                cell_text(&cells[2], hit->url);
                cell_number(&cells[3], hit->start);
                cell_number(&cells[4], hit->start + text.n_bytes);
                cells[5].type = MSGPACK_OBJECT_FLOAT64;
                cells[5].via.f64 = hit->score;
                cell_text(&cells[6], text);
                documents->rows[n].type = MSGPACK_OBJECT_ARRAY;
                documents->rows[n].via.array.size = DOCUMENTS_COLUMNS;
                documents->rows[n].via.array.ptr = cells;
                left -= names + text.n_bytes;
                max_tokens -= tokens;
        }
        documents->list.type = MSGPACK_OBJECT_ARRAY;
        documents->list.via.array.size = n;
        documents->list.via.array.ptr = documents->rows;
        return n;
}
