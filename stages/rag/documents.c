#include "stages/rag/documents.h"

#include "stages/engines/tokens/tokens.h"
#include "stages/rag/plain.h"

#define CUT_BYTES_MIN 200u /* a shorter rest of a passage says nothing */

/* What is left of the two budgets. */
struct room {
        char *plain;
        size_t bytes;
        uint64_t tokens;
};

static void cell_text(msgpack_object *cell, struct index_str text) {
        cell->type = MSGPACK_OBJECT_STR;
        cell->via.str.ptr = text.data ? text.data : "";
        cell->via.str.size = (uint32_t)text.n_bytes;
}

static void cell_plain(msgpack_object *cell, struct index_str text, struct room *room) {
        const size_t n = text.n_bytes > 0 ? plain_copy(room->plain, text.data, text.n_bytes) : 0;

        cell_text(cell, (struct index_str){room->plain, n});
        room->plain += n;
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

/* False: it does not fit any more. */
static bool document_make(
                msgpack_object *cells, const struct index_hit *hit, bool first, struct room *room) {
        const size_t names = hit->key.id.n_bytes + hit->title.n_bytes + hit->url.n_bytes +
                             hit->path.n_bytes + 64;
        struct index_str text = hit->text;
        uint64_t tokens = tokens_estimate(text.data, text.n_bytes);

        if (names > room->bytes)
                return false;
        room->bytes -= names;
        if (tokens > room->tokens || text.n_bytes > room->bytes) {
                text.n_bytes = cut(text, room->tokens * 4 < room->bytes ? room->tokens * 4
                                                                       : room->bytes);
                if (text.n_bytes < CUT_BYTES_MIN && !first)
                        return false;
                tokens = room->tokens;
        }
        cell_text(&cells[0], hit->key.id);
        cell_plain(&cells[1], hit->title, room);
        cell_text(&cells[2], hit->url);
        cell_number(&cells[3], hit->start);
        cell_number(&cells[4], hit->start + text.n_bytes);
        cells[5].type = MSGPACK_OBJECT_FLOAT64;
        cells[5].via.f64 = hit->score;
        cell_plain(&cells[6], text, room);
        cell_plain(&cells[7], hit->path, room);
        room->bytes -= text.n_bytes;
        room->tokens -= tokens;
        return true;
}

uint32_t documents_wanted(uint32_t top_k) {
        return top_k + top_k / 2 + 1 < DOCUMENTS_MAX ? top_k + top_k / 2 + 1 : DOCUMENTS_MAX;
}

uint32_t documents_make(struct documents *documents, const struct index_result *result,
                uint32_t top_k, uint64_t max_tokens) {
        struct room room = {documents->plain, sizeof(documents->plain), max_tokens};
        uint32_t n = 0;

        documents->duplicates.n_texts = 0;
        for (size_t i = 0; i < index_result_n(result) && n < top_k && n < DOCUMENTS_MAX; i++) {
                const struct index_hit *hit = index_result_hit(result, i);
                msgpack_object *cells = documents->cells[n];

                if (duplicates_has(&documents->duplicates, hit->text.data, hit->text.n_bytes))
                        continue;
                if (!document_make(cells, hit, n == 0, &room))
                        break;
                documents->rows[n].type = MSGPACK_OBJECT_ARRAY;
                documents->rows[n].via.array.size = DOCUMENTS_COLUMNS;
                documents->rows[n++].via.array.ptr = cells;
        }
        documents->list.type = MSGPACK_OBJECT_ARRAY;
        documents->list.via.array.size = n;
        documents->list.via.array.ptr = documents->rows;
        return n;
}
