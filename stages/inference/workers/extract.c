/*
 * extract -- answers with the best sentences of the retrieved documents, and cites them.
 *
 * A real answer without any model, and the last resort when every backend is down. Each sentence is
 * followed by the number of its document, as post and clients know it.
 */
#include <stdio.h>
#include <string.h>

#include "stages/engines/extract/extract.h"
#include "stages/inference/emit.h"
#include "stages/inference/inference.h"

#define DOCUMENTS_MAX 64u
#define DOCUMENT_TITLE 1u /* its place in a row of rag */
#define DOCUMENT_TEXT 6u
#define PIECE_BYTES 1024u

static_assert(EXTRACT_PICKS == EXTRACT_PICKS_MAX, "one place for each sentence");

static const char no_documents[] =
                "I have no documents to answer from. Add some with `millrace index add "
                "PATH` and ask again.";

static const char not_in_documents[] = "The answer is not in the documents.";

static bool is_space(char c) {
        return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The next word with its space before it, or the mark that cites a sentence. 0: nothing left. */
static uint32_t next_piece(struct extract_state *x, char to[static PIECE_BYTES]) {
        uint32_t n = 0;

        if (x->pick == x->n_picks)
                return 0;
        const char *p = x->picks[x->pick].p;
        uint32_t len = x->picks[x->pick].n, number = x->picks[x->pick].number;
        if (x->pick || x->at)
                to[n++] = ' ';
        if (x->at < len) {
                while (x->at < len && !is_space(p[x->at]) && n < PIECE_BYTES)
                        to[n++] = p[x->at++];
                while (x->at < len && is_space(p[x->at]))
                        x->at++;
                if (x->at < len || number)
                        return n;
        } else {
                n += (uint32_t)snprintf(to + n, PIECE_BYTES - n, "[%u]", number);
        }
        x->pick++;
        x->at = 0;
        return n;
}

static void extract_resume(struct flight *f) {
        char piece[PIECE_BYTES];

        for (uint32_t i = 0; i < WORKER_SLICE; i++) {
                struct extract_state before = f->u.extract;
                uint32_t n = next_piece(&f->u.extract, piece);
                if (n == 0) {
                        flight_done(f, "stop", 4);
                        return;
                }
                if (emit_delta(f, &(struct emit_delta){.text = {piece, n}})) {
                        f->u.extract = before;
                        flight_wait(f);
                        return;
                }
        }
        flight_yield(f);
}

static struct extract_text column(const msgpack_object *row, uint32_t i) {
        const msgpack_object *cell = NULL;

        if (row->type == MSGPACK_OBJECT_ARRAY && row->via.array.size > i)
                cell = &row->via.array.ptr[i];
        if (!cell || cell->type != MSGPACK_OBJECT_STR)
                return (struct extract_text){"", 0};
        return (struct extract_text){cell->via.str.ptr, cell->via.str.size};
}

/* The documents that are in the prompt. */
static uint32_t read_documents(
                const struct record *record, struct extract_document docs[DOCUMENTS_MAX]) {
        uint32_t n = 0, limit = DOCUMENTS_MAX;

        if (!(record->has & HAS(documents)) || record->documents->type != MSGPACK_OBJECT_ARRAY)
                return 0;
        if (record->has & HAS(n_documents) && record->n_documents < limit)
                limit = (uint32_t)record->n_documents;
        for (; n < record->documents->via.array.size && n < limit; n++) {
                const msgpack_object *row = &record->documents->via.array.ptr[n];
                docs[n] = (struct extract_document){
                                column(row, DOCUMENT_TEXT), column(row, DOCUMENT_TITLE)};
        }
        return n;
}

static void extract_start(struct flight *f) {
        const struct record *record = flight_record(f);
        struct extract_state *x = &f->u.extract;
        struct extract_document docs[DOCUMENTS_MAX];
        struct extract_text question = {"", 0};
        struct extract_pick picks[EXTRACT_PICKS_MAX];
        uint32_t n_docs = read_documents(record, docs);

        if (record->has & HAS(query))
                question = (struct extract_text){record->query.p, record->query.n};
        x->n_picks = extract_best(&question, docs, n_docs, picks);
        for (uint32_t i = 0; i < x->n_picks; i++) {
                x->picks[i].p = docs[picks[i].document].text.p + picks[i].from;
                x->picks[i].n = picks[i].to - picks[i].from;
                x->picks[i].number = picks[i].document + 1;
        }
        if (x->n_picks == 0) {
                /* Retrieval found nothing: there is a list, and nothing in it. */
                const bool looked = record->has & HAS(documents);
                x->picks[0].p = looked ? not_in_documents : no_documents;
                x->picks[0].n = (looked ? sizeof(not_in_documents) : sizeof(no_documents)) - 1;
                x->picks[0].number = 0;
                x->n_picks = 1;
        }
        extract_resume(f);
}

static void extract_cancel(struct flight *f) {
        (void)f; /* nothing runs between its slices */
}

const struct worker_kind worker_extract = {
                .name = "extract",
                .start = extract_start,
                .resume = extract_resume,
                .cancel = extract_cancel,
};
