#include "stages/inference/request_body.h"

#include <errno.h>
#include <string.h>

#include "stages/inference/inference.h"

uint32_t request_body_len(struct flight *f) {
        const struct record *record = flight_record(f);

        if (record->has & HAS(body))
                return record->body.n;
        return record->has & HAS(body_len) && record->body_len <= UINT32_MAX
                               ? (uint32_t)record->body_len
                               : 0;
}

int request_body_copy(struct flight *f, uint32_t off, uint32_t len, void *to) {
        const struct record *record = flight_record(f);
        const struct arena_view *view;
        struct arena_ref ref;
        int r;

        if (off > request_body_len(f) || len > request_body_len(f) - off)
                return -EPROTO;
        if (record->has & HAS(body)) {
                memcpy(to, record->body.p + off, len);
                return 0;
        }
        if (!(record->has & HAS(body_off)) || !(record->has & HAS(body_gen)) ||
                        !(record->has & HAS(gateway)) || record->gateway >= GATEWAY_SLOTS_MAX)
                return -EPROTO;
        view = &f->inf->w->arenas[record->gateway];
        if (!view->shm)
                return REQUEST_BODY_E_GONE;
        ref = (struct arena_ref){.slot = (uint32_t)record->gateway,
                        .len = (uint32_t)record->body_len,
                        .off = record->body_off,
                        .gen = record->body_gen};
        r = arena_copy(view, &ref, off, len, to);
        if (r == ARENA_E_GONE)
                return REQUEST_BODY_E_GONE;
        return r ? -EPROTO : 0;
}

int request_body_window(struct flight *f, uint32_t off, const uint8_t **ret, uint32_t *ret_len) {
        struct inference *inf = f->inf;
        const struct record *record = flight_record(f);
        uint32_t len = request_body_len(f), n;
        int r;

        if (off >= len)
                return -EPROTO;
        if (record->has & HAS(body)) {
                *ret = (const uint8_t *)record->body.p + off;
                *ret_len = len - off;
                return 0;
        }
        if (inf->window_slot != f->slot || off < inf->window_off ||
                        off - inf->window_off >= inf->window_len) {
                n = len - off < INFERENCE_WINDOW ? len - off : INFERENCE_WINDOW;
                inf->window_slot = SLAB_NONE;
                r = request_body_copy(f, off, n, inf->window);
                if (r)
                        return r;
                inf->window_slot = f->slot;
                inf->window_off = off;
                inf->window_len = n;
        }
        *ret = inf->window + (off - inf->window_off);
        *ret_len = inf->window_len - (off - inf->window_off);
        return 0;
}

int request_body_marks(struct flight *f, struct body_marks *ret) {
        const struct record *record = flight_record(f);

        *ret = (struct body_marks){0};
        if (!(record->has & HAS(marks)))
                return 0;
        if (record->marks.n != sizeof(*ret))
                return -EPROTO;
        memcpy(ret, record->marks.p, sizeof(*ret));
        return 0;
}

/* ---- pieces ---- */

static bool is_offset(const msgpack_object *o) {
        return o->type == MSGPACK_OBJECT_POSITIVE_INTEGER && o->via.u64 <= UINT32_MAX;
}

int request_piece(const msgpack_object *piece, struct body_span *ret_span,
                const msgpack_object **ret_literal) {
        const msgpack_object *of = piece->via.array.ptr;
        uint32_t n = piece->type == MSGPACK_OBJECT_ARRAY ? piece->via.array.size : 0;

        if (piece->type == MSGPACK_OBJECT_BIN) {
                *ret_span = (struct body_span){0, 0};
                *ret_literal = piece;
                return 0;
        }
        if (n < 2 || n > 3 || !is_offset(&of[0]) || !is_offset(&of[1]) ||
                        (n == 3 && of[2].type != MSGPACK_OBJECT_BIN))
                return -EPROTO;
        *ret_span = (struct body_span){(uint32_t)of[0].via.u64, (uint32_t)of[1].via.u64};
        *ret_literal = n == 3 ? &of[2] : NULL;
        return 0;
}

bool request_replaced(struct flight *f, uint32_t off, uint32_t *index, struct body_span *ret_span,
                struct mr_view *ret_instead) {
        const struct record *record = flight_record(f);
        const msgpack_object *list = record->has & HAS(pieces) ? record->pieces : NULL;
        uint32_t n = list && list->type == MSGPACK_OBJECT_ARRAY ? list->via.array.size : 0;

        for (; *index < n; ++*index) {
                const msgpack_object *literal;
                if (request_piece(&list->via.array.ptr[*index], ret_span, &literal) || !literal ||
                                !ret_span->len || ret_span->off < off)
                        continue;
                *ret_instead = (struct mr_view){literal->via.bin.ptr, literal->via.bin.size};
                return true;
        }
        return false;
}
