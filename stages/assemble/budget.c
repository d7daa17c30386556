#include "stages/assemble/budget.h"

#include "stages/engines/json/walk.h"

#define SAFETY_MARGIN_PERCENT 10u /* the estimate's */
#define NUMBER_MAX 20u

/* What the request says of its answer; 0: nothing. params, beside a client's own body, count last. */
static int asked_output(const struct prompt_source *src, uint64_t *ret) {
        const struct record *record = src->record;
        const struct body_span *span = &src->marks->max_tokens;
        struct json_text value;
        char digits[NUMBER_MAX];
        int r;

        *ret = 0;
        if (record->has & HAS(params) &&
                        json_find((struct json_text){record->params.p, record->params.n}, "max_tokens",
                                        &value) &&
                        json_u64(value, ret))
                return 0;
        if (!span->len || span->len > NUMBER_MAX)
                return 0;
        r = prompt_body_copy(record, src->arena, span->off, span->len, digits);
        if (r)
                return r;
        (void)json_u64((struct json_text){digits, span->len}, ret); /* what is no number says nothing */
        return 0;
}

int budget_of(struct prompt_budget *ret, const struct prompt_budget *settings,
                const struct mustache_file *file, const struct prompt_source *src) {
        uint64_t asked;
        int r = asked_output(src, &asked);

        *ret = *settings;
        if (file && file->front.context_tokens) {
                ret->context_tokens = file->front.context_tokens;
                ret->enforce = true;
        }
        if (file && file->front.max_output_tokens)
                ret->max_output_tokens = file->front.max_output_tokens;
        if (file && file->front.document_tokens)
                ret->document_tokens = file->front.document_tokens;
        if (asked)
                ret->max_output_tokens = asked;
        return r;
}

/* ---- what is free ---- */

uint64_t budget_allowed(const struct prompt_budget *budget) {
        return budget->context_tokens > budget->max_output_tokens
                               ? budget->context_tokens - budget->max_output_tokens
                               : 0;
}

uint64_t budget_room(const struct prompt_budget *budget, uint64_t used) {
        uint64_t room = budget->context_tokens * (100 - SAFETY_MARGIN_PERCENT) / 100;

        return room > budget->max_output_tokens + used ? room - budget->max_output_tokens - used
                                                       : 0;
}

uint64_t budget_room_for_documents(const struct prompt_budget *budget, uint64_t used) {
        uint64_t room = budget_room(budget, used);

        return room > budget->document_tokens ? budget->document_tokens : room;
}
