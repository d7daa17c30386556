#include "stages/stream/turns.h"

#include <stdlib.h>
#include <string.h>

#include "stages/engines/json/marks.h"
#include "stages/stream/letters.h"

bool turns_wanted(const struct stream *stream, uint32_t response, uint64_t outcome) {
        return stream->database && outcome == LOG_OUTCOME_DONE &&
               log_response_in_session(&stream->log.view, response);
}

/* The gateway's record of an open request. */
static uint8_t *record_copy(const struct worker *w, const struct admission_slot *slot) {
        const struct arena_ref *block = &slot->block;
        uint64_t at = admission_record_at(slot->body_len);
        uint8_t *bytes;

        if (!slot->record_len || block->slot >= GATEWAY_SLOTS_MAX || !w->arenas[block->slot].shm ||
                        at + slot->record_len > block->len)
                return NULL;
        bytes = malloc(slot->record_len);
        if (bytes && arena_copy(&w->arenas[block->slot], block, (uint32_t)at, slot->record_len, bytes)) {
                free(bytes);
                return NULL;
        }
        return bytes;
}

/* The messages, from the record or the arena, into the turn. */
static bool asked_copy(const struct worker *w, const struct admission_slot *slot,
                const struct record *record, const struct body_span *from, char *to) {
        if (!(record->has & HAS(body)))
                return (uint64_t)from->off + from->len <= slot->body_len &&
                       arena_copy(&w->arenas[slot->block.slot], &slot->block, from->off, from->len,
                                       to) == 0;
        if ((uint64_t)from->off + from->len > record->body.n)
                return false;
        memcpy(to, record->body.p + from->off, from->len);
        return true;
}

static struct database_turn *turn_of(const struct worker *w, const struct admission_slot *slot,
                const struct record *record) {
        struct body_marks marks;
        struct database_turn *turn;

        if (!(record->has & HAS(session)) || record->marks.n != sizeof(marks))
                return NULL;
        memcpy(&marks, record->marks.p, sizeof(marks));
        turn = calloc(1, sizeof(*turn) + record->session.n + marks.conversation.len);
        if (!turn)
                return NULL;
        turn->goes_on = marks.goes_on;
        turn->name_len = record->session.n;
        turn->asked_len = marks.conversation.len;
        memcpy(turn->bytes, record->session.p, record->session.n);
        if (asked_copy(w, slot, record, &marks.conversation, turn->bytes + turn->name_len))
                return turn;
        free(turn);
        return NULL;
}

struct database_turn *turns_make(struct worker *w, uint32_t response) {
        const struct stream *stream = w->stage;
        const struct log_response *r = &stream->log.shm->responses[response];
        uint64_t req_id = atomic_load_explicit(&r->req_id, memory_order_relaxed);
        struct database_turn *turn = NULL;
        struct admission_slot slot;
        struct record record;
        uint8_t *bytes = letters_slot(w, req_id, &slot) ? record_copy(w, &slot) : NULL;

        if (bytes && record_decode(&w->decoder, bytes, slot.record_len, &record) == 0)
                turn = turn_of(w, &slot, &record);
        free(bytes);
        return turn;
}

void turns_lost(struct worker *w, uint64_t req_id, const char *why) {
        counters_add(w->counters, COUNTER_turns_lost, 1);
        log_warn("turn_lost", "req_id=%llu why=\"%s\"", (unsigned long long)req_id, why);
}
