#include "stages/assemble/measure.h"

#include "stages/assemble/prompt_own.h"

void measure_begin(struct prompt *prompt, struct mr_view model) {
        struct calibration known;

        calibration_gather(prompt->pages, model.p, model.n, &known);
        fit_solve(&known, &prompt->fit);
}

/* The body, where it lies; NULL: nowhere. */
static const char *body_of(const struct record *record, const struct arena_view *arena,
                const struct arena_ref *ref) {
        const uint8_t *body = NULL;

        if (record->has & HAS(body))
                return record->body.p;
        return arena && arena_look(arena, ref, &body) == 0 ? (const char *)body : NULL;
}

static void feed_span(struct chat_count *chat, const char *body, uint64_t len,
                const struct body_span *span) {
        if (body && span->off <= len && span->len <= len - span->off)
                chat_feed(chat, body + span->off, span->len);
}

/* Counted in place: it may have gone meanwhile, and then its request has ended. */
static bool is_there(const struct record *record, const struct arena_view *arena,
                const struct arena_ref *ref) {
        return record->has & HAS(body) || (arena && arena_holds(arena, ref));
}

static uint64_t measured(struct prompt *prompt) {
        chat_end(&prompt->chat);
        prompt->count = prompt->chat.count;
        prompt->exact = prompt->chat.exact;
        return fit_tokens(&prompt->fit, &prompt->count);
}

uint64_t measure_body(struct prompt *prompt, const struct record *record, const struct arena_view *arena) {
        struct arena_ref ref = prompt_body_ref(record);
        const char *body = body_of(record, arena, &ref);

        chat_begin(&prompt->chat);
        feed_span(&prompt->chat, body, record->body_len,
                        &(struct body_span){0, (uint32_t)record->body_len});
        if (!body || !is_there(record, arena, &ref))
                prompt->chat.exact = false;
        return measured(prompt);
}

static void feed_pieces(struct prompt *prompt, const char *body, uint64_t len) {
        const msgpack_object_array *list = &prompt->pieces.via.array;

        for (uint32_t i = 0; i < list->size; i++) {
                const msgpack_object *piece = &list->ptr[i];
                struct body_span span;
                if (piece->type == MSGPACK_OBJECT_BIN) {
                        chat_feed(&prompt->chat, piece->via.bin.ptr, piece->via.bin.size);
                        continue;
                }
                span = (struct body_span){(uint32_t)piece->via.array.ptr[0].via.u64,
                                (uint32_t)piece->via.array.ptr[1].via.u64};
                feed_span(&prompt->chat, body, len, &span);
        }
}

uint64_t measure_pieces(struct prompt *prompt, const struct record *record,
                const struct arena_view *arena, uint32_t literal_len) {
        struct arena_ref ref = prompt_body_ref(record);
        const char *body;

        if (prompt->n_edits == 0)
                return fit_tokens(&prompt->fit, &prompt->count);
        if (record->body_len > MEASURE_WHOLE) {
                tokens_count(&prompt->count, prompt->literal, literal_len);
                prompt->exact = false;
                return fit_tokens(&prompt->fit, &prompt->count);
        }
        body = body_of(record, arena, &ref);
        chat_begin(&prompt->chat);
        feed_pieces(prompt, body, record->body_len);
        if (!body || !is_there(record, arena, &ref))
                prompt->chat.exact = false;
        return measured(prompt);
}

uint64_t measure_text(const struct prompt *prompt, const char *text, uint32_t n) {
        struct tokens_count count = {{0}};

        tokens_count(&count, text, n);
        return fit_tokens(&prompt->fit, &count);
}
