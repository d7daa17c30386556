#include "stages/stream/join.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PLAIN (HAS(text) | HAS(choice) | HAS(delta_kind))
#define LENGTH_MAX 5u /* bytes of a length */

/* Room for n bytes more; NULL: no memory. */
static uint8_t *room(struct join *join, uint64_t n) {
        uint64_t cap = join->cap ? join->cap : 4096;
        uint8_t *at;

        while (cap < join->bytes + n)
                cap *= 2;
        if (cap != join->cap) {
                at = realloc(join->at, cap);
                if (!at)
                        return NULL;
                join->at = at;
                join->cap = cap;
        }
        return join->at + join->bytes;
}

static int put(struct join *join, struct log_event_head head, const void *record) {
        uint64_t padded = layout_align(head.len, 8);
        uint8_t *to = room(join, sizeof(head) + padded);

        if (!to)
                return -ENOMEM;
        memcpy(to, &head, sizeof(head));
        memcpy(to + sizeof(head), record, head.len);
        memset(to + sizeof(head) + head.len, 0, padded - head.len);
        join->bytes += sizeof(head) + padded;
        return 0;
}

/* What has been put together so far becomes an event. */
static int flush(struct join *join) {
        struct record record = {.has = HAS(text) | HAS(cuts),
                        .text = {join->text, join->n_text},
                        .cuts = {join->text + JOIN_TEXT_MAX, join->n_cuts}};
        struct log_event_head head = {.type = RECORD_DELTA, .seq = join->seq};
        uint8_t *bytes;
        uint32_t bound;
        int r;

        if (!join->n_cuts)
                return 0;
        if (join->choice) {
                record.has |= HAS(choice);
                record.choice = join->choice;
        }
        if (join->n_kind) {
                record.has |= HAS(delta_kind);
                record.delta_kind = (struct mr_view){join->kind, join->n_kind};
        }
        bound = record_size_bound(&record);
        bytes = malloc(bound);
        if (!bytes)
                return -ENOMEM;
        r = record_encode(&record, bytes, bound, &head.len);
        if (r == 0)
                r = put(join, head, bytes);
        free(bytes);
        join->n_text = join->n_cuts = 0;
        return r;
}

static bool fits(const struct join *join, const struct record *record) {
        uint64_t choice = record->has & HAS(choice) ? record->choice : 0;
        uint32_t n = record->has & HAS(delta_kind) ? record->delta_kind.n : 0;

        return join->choice == choice && join->n_kind == n &&
               memcmp(join->kind, record->delta_kind.p ? record->delta_kind.p : "", n) == 0 &&
               join->n_text + record->text.n <= JOIN_TEXT_MAX &&
               join->n_cuts + LENGTH_MAX <= JOIN_CUTS_MAX;
}

static void begin(struct join *join, const struct record *record) {
        join->choice = record->has & HAS(choice) ? record->choice : 0;
        join->n_kind = record->has & HAS(delta_kind) ? record->delta_kind.n : 0;
        if (join->n_kind)
                memcpy(join->kind, record->delta_kind.p, join->n_kind);
}

static void add(struct join *join, const struct record *record, uint64_t seq) {
        uint8_t *cuts = (uint8_t *)join->text + JOIN_TEXT_MAX;
        uint32_t n = record->text.n;

        memcpy(join->text + join->n_text, record->text.p, n);
        join->n_text += n;
        for (; n >= 0x80; n >>= 7)
                cuts[join->n_cuts++] = (uint8_t)(n | 0x80);
        cuts[join->n_cuts++] = (uint8_t)n;
        join->seq = seq;
}

int join_event(struct join *join, const struct log_event_head *head, const void *bytes) {
        struct record record;
        int r;

        if (!join->wanted || head->type != RECORD_DELTA) {
                r = flush(join);
                return r ? r : put(join, *head, bytes);
        }
        r = record_decode(join->decoder, bytes, head->len, &record);
        if (r)
                return r;
        if (!join->text)
                join->text = malloc(JOIN_TEXT_MAX + JOIN_CUTS_MAX);
        if (!join->text)
                return -ENOMEM;
        if (!(record.has & HAS(text)) || record.has & ~(uint64_t)PLAIN || record.n_unknown ||
                        record.text.n > JOIN_TEXT_MAX ||
                        (record.has & HAS(delta_kind) && record.delta_kind.n > JOIN_KIND_MAX)) {
                r = flush(join);
                return r ? r : put(join, *head, bytes);
        }
        if (!fits(join, &record)) {
                r = flush(join);
                if (r)
                        return r;
                begin(join, &record);
        }
        add(join, &record, head->seq);
        return 0;
}

int join_end(struct join *join, uint8_t **ret, uint64_t *ret_bytes) {
        int r = flush(join);

        free(join->text);
        join->text = NULL;
        *ret = join->at;
        *ret_bytes = join->bytes;
        return r;
}
