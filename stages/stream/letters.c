#include "stages/stream/letters.h"

#include <stdlib.h>
#include <string.h>

#include "stages/stream/turns.h"

bool letter_cause(const struct record *error, struct response_letter *ret) {
        if (!(error->has & HAS(code)) || error->code != MR_E_dead_letter)
                return false;
        *ret = (struct response_letter){.stage = (uint8_t)error->letter_stage,
                        .strikes = (uint8_t)error->letter_strikes,
                        .signal = (uint8_t)error->letter_signal};
        return true;
}

bool letters_slot(const struct worker *w, uint64_t req_id, struct admission_slot *ret) {
        uint64_t g = req_id >> REQ_ID_SLOT_SHIFT & REQ_ID_SLOT_MASK;

        return g < GATEWAY_SLOTS_MAX && w->admissions[g].shm &&
               admission_find_request(&w->admissions[g], req_id, ret) == 0;
}

/* The request's bytes behind the letter; false: they cannot be had, or are not its any more. */
static bool copy_request(const struct worker *w, const struct admission_slot *slot,
                struct database_letter *letter) {
        const struct arena_ref *block = &slot->block;
        uint64_t record_at = admission_record_at(slot->body_len);

        if (block->slot >= GATEWAY_SLOTS_MAX || !w->arenas[block->slot].shm ||
                        record_at + slot->record_len > block->len)
                return false;
        letter->body_len = slot->body_len;
        letter->record_len = slot->record_len;
        return arena_copy(&w->arenas[block->slot], block, 0, letter->body_len, letter->bytes) == 0 &&
               arena_copy(&w->arenas[block->slot], block, (uint32_t)record_at, letter->record_len,
                               letter->bytes + letter->body_len) == 0;
}

struct database_letter *letters_make(const struct worker *w, uint32_t response) {
        const struct stream *stream = w->stage;
        const struct log_response *r = &stream->log.shm->responses[response];
        uint64_t req_id = atomic_load_explicit(&r->req_id, memory_order_relaxed);
        struct admission_slot slot = {.record_len = 0};
        bool known = letters_slot(w, req_id, &slot) && slot.record_len > 0;
        uint64_t bytes = known ? (uint64_t)slot.body_len + slot.record_len : 0;
        struct database_letter *letter = calloc(1, sizeof(*letter) + bytes);

        if (!letter)
                return NULL;
        response_log_letter(&stream->log, response, &letter->cause);
        if (!known || !copy_request(w, &slot, letter)) {
                letter->body_len = letter->record_len = 0;
                log_warn("dead_letter_bare", "req_id=%llu what=\"there is no copy of the request\"",
                                (unsigned long long)req_id);
        }
        return letter;
}

static void lost(struct worker *w, struct database_job *job) {
        if (job->letter)
                log_error("dead_letter_lost", "req_id=%llu", (unsigned long long)job->req_id);
        else
                turns_lost(w, job->req_id, "the database cannot be written");
        database_job_free(job);
}

void letters_keep(struct worker *w, struct database_job *job) {
        struct stream *stream = w->stage;

        if (stream->n_letters == STREAM_LETTERS_MAX) {
                lost(w, job);
                return;
        }
        /* What else was in the job is the log's to store again. */
        if (!job->turn || job->turn->answer) {
                free(job->events);
                job->events = NULL;
                job->events_bytes = 0;
        }
        job->result = false;
        job->response = LOG_NONE;
        STAILQ_INSERT_TAIL(&stream->letters, job, next);
        stream->n_letters++;
}

void letters_retry(struct worker *w) {
        struct stream *stream = w->stage;
        struct database_job *job;

        while ((job = STAILQ_FIRST(&stream->letters))) {
                STAILQ_REMOVE_HEAD(&stream->letters, next);
                stream->n_letters--;
                stream->n_stores++;
                database_submit(stream->database, job);
        }
}

void letters_fini(struct worker *w) {
        struct stream *stream = w->stage;
        struct database_job *job;

        while ((job = STAILQ_FIRST(&stream->letters))) {
                STAILQ_REMOVE_HEAD(&stream->letters, next);
                lost(w, job);
        }
}
