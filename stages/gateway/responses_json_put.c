/*
 * responses_json_put: events and whole responses, out of what was gathered (responses_json.h).
 */
#include <string.h>

#include "stages/engines/json/walk.h"
#include "stages/gateway/openai_extra.h"
#include "stages/gateway/responses_fold.h"

#define EVENT_FIXED 512u    /* names and numbers of an event, and of its item or part */
#define RESPONSE_FIXED 1536u /* of a response */
#define ITEM_FIXED 256u
#define PART_FIXED 128u
#define IDS_EVENT 4u        /* so many ids does an event have beside its items' */

/* ---- pieces ---- */

static void put_string(struct json_buf *b, struct mr_view text) {
        json_put(b, "\"", 1);
        json_put_mended(b, text.p, text.n);
        json_put(b, "\"", 1);
}

static void put_name(struct json_buf *b, const char *name, struct mr_view text) {
        json_put_text(b, name);
        put_string(b, text);
}

static void put_number(struct json_buf *b, const char *name, uint64_t v) {
        json_put_text(b, name);
        json_put_u64(b, v);
}

static struct mr_view view_of(const struct responses_text *text) {
        return (struct mr_view){text->at, text->n};
}

static void put_item_id(struct json_buf *b, const struct responses *r, uint32_t at,
                const struct responses_answer *answer) {
        static const char *const prefixes[] = {
                        [ITEM_MESSAGE] = "\"msg_", [ITEM_REASONING] = "\"rs_", [ITEM_CALL] = "\"fc_"};

        json_put_text(b, prefixes[r->items[at].kind]);
        json_put_mended(b, answer->id.p, answer->id.n);
        put_number(b, "_", at);
        json_put(b, "\"", 1);
}

/* bare: as it begins. */
static void put_part(struct json_buf *b, const struct responses_part *part, bool bare) {
        struct mr_view text = bare ? (struct mr_view){"", 0} : view_of(&part->text);

        switch (part->kind) {
        case PART_TEXT:
                put_name(b, "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":",
                                text);
                break;
        case PART_REFUSAL:
                put_name(b, "{\"type\":\"refusal\",\"refusal\":", text);
                break;
        case PART_REASONING:
                put_name(b, "{\"type\":\"reasoning_text\",\"text\":", text);
                break;
        case PART_ARGUMENTS:
                return; /* not a part to anybody else */
        }
        json_put(b, "}", 1);
}

static void put_parts(
                struct json_buf *b, const struct responses *r, uint32_t at, bool bare) {
        const struct responses_item *item = &r->items[at];

        json_put(b, "[", 1);
        for (uint32_t i = 0; !bare && i < item->n; i++) {
                if (i > 0)
                        json_put(b, ",", 1);
                put_part(b, &r->parts[item->first + i], false);
        }
        json_put(b, "]", 1);
}

static void put_item(struct json_buf *b, const struct responses *r, uint32_t at,
                const struct responses_answer *answer, bool bare) {
        static const char *const states[] = {[ITEM_OPEN] = "in_progress",
                        [ITEM_COMPLETED] = "completed",
                        [ITEM_INCOMPLETE] = "incomplete"};
        const struct responses_item *item = &r->items[at];
        enum responses_item_state state = bare ? ITEM_OPEN : item->state;
        struct mr_view arguments = {"", 0};

        if (!bare && state == ITEM_OPEN && r->end)
                state = ITEM_INCOMPLETE;
        if (!bare && item->n > 0)
                arguments = view_of(&r->parts[item->first].text);
        json_put_text(b, "{\"id\":");
        put_item_id(b, r, at, answer);
        json_put_text(b, ",\"status\":\"");
        json_put_text(b, states[state]);
        switch (item->kind) {
        case ITEM_MESSAGE:
                json_put_text(b, "\",\"type\":\"message\",\"role\":\"assistant\",\"content\":");
                put_parts(b, r, at, bare);
                break;
        case ITEM_REASONING:
                json_put_text(b, "\",\"type\":\"reasoning\",\"summary\":[],\"content\":");
                put_parts(b, r, at, bare);
                break;
        case ITEM_CALL:
                json_put_text(b, "\",\"type\":\"function_call\",\"call_id\":");
                if (item->call_id.n > 0)
                        put_string(b, view_of(&item->call_id));
                else
                        put_item_id(b, r, at, answer);
                put_name(b, ",\"name\":", view_of(&item->name));
                put_name(b, ",\"arguments\":", arguments);
                break;
        }
        json_put(b, "}", 1);
}

static uint64_t item_bound(const struct responses *r, uint32_t at,
                const struct responses_answer *answer) {
        const struct responses_item *item = &r->items[at];
        uint64_t bytes = ITEM_FIXED + 2ull * openai_text_piece_bound(answer->id) +
                         item->call_id.bound + item->name.bound;

        for (uint32_t i = 0; i < item->n; i++)
                bytes += PART_FIXED + r->parts[item->first + i].text.bound;
        return bytes;
}

/* ---- a response ---- */

static const char *status_of(const struct responses *r) {
        if (!r->end)
                return "in_progress";
        if (r->end_type == RECORD_DONE)
                return responses_incomplete(r->end) ? "incomplete" : "completed";
        return openai_error_of(r->end).code == MR_E_cancelled ? "cancelled" : "failed";
}

static void put_error(struct json_buf *b, const struct openai_error *error) {
        put_name(b, "{\"code\":", openai_error_code(error));
        put_name(b, ",\"message\":", error->message);
        json_put(b, "}", 1);
}

/* A number of the backend's own usage, where it has one. */
static uint64_t detail(struct json_text usage, const char *object, const char *name) {
        struct json_text at, value;
        uint64_t n;

        return json_find(json_inside(usage), object, &at) &&
                                               json_find(json_inside(at), name, &value) &&
                                               json_u64(value, &n)
                               ? n
                               : 0;
}

static void put_usage(struct json_buf *b, const struct record *done) {
        struct openai_extra extra = openai_extra_of(done);
        uint64_t in = done->has & HAS(prompt_tokens) ? done->prompt_tokens : 0;
        uint64_t out = done->has & HAS(completion_tokens) ? done->completion_tokens : 0;

        put_number(b, "{\"input_tokens\":", in);
        put_number(b, ",\"input_tokens_details\":{\"cached_tokens\":",
                        detail(extra.usage, "prompt_tokens_details", "cached_tokens"));
        put_number(b, "},\"output_tokens\":", out);
        put_number(b, ",\"output_tokens_details\":{\"reasoning_tokens\":",
                        detail(extra.usage, "completion_tokens_details", "reasoning_tokens"));
        put_number(b, "},\"total_tokens\":",
                        done->has & HAS(total_tokens) ? done->total_tokens : in + out);
        json_put(b, "}", 1);
}

static void put_ending(struct json_buf *b, const struct responses *r, bool bare) {
        const struct record *end = bare ? NULL : r->end;
        bool done = end && r->end_type == RECORD_DONE;

        json_put_text(b, ",\"error\":");
        if (end && !done) {
                struct openai_error error = openai_error_of(end);

                put_error(b, &error);
        } else {
                json_put_text(b, "null");
        }
        json_put_text(b, ",\"incomplete_details\":");
        if (done && responses_incomplete(end)) {
                json_put_text(b, "{\"reason\":\"");
                json_put_text(b, responses_incomplete(end));
                json_put_text(b, "\"}");
        } else {
                json_put_text(b, "null");
        }
        json_put_text(b, ",\"usage\":");
        if (done)
                put_usage(b, end);
        else
                json_put_text(b, "null");
        if (done)
                openai_put_sources(b, end);
}

/* bare: as it begins, with nothing in it. */
static void put_response(struct json_buf *b, const struct responses *r,
                const struct responses_answer *answer, const char *status, bool bare) {
        json_put_text(b, "{\"id\":\"resp_");
        json_put_mended(b, answer->id.p, answer->id.n);
        put_number(b, "\",\"object\":\"response\",\"created_at\":", answer->created);
        json_put_text(b, ",\"status\":\"");
        json_put_text(b, status);
        json_put_text(b, "\",\"background\":");
        json_put_text(b, answer->background ? "true" : "false");
        put_name(b, ",\"model\":", answer->model);
        json_put_text(b, ",\"output\":[");
        for (uint32_t i = 0; !bare && i < r->n_items; i++) {
                if (i > 0)
                        json_put(b, ",", 1);
                put_item(b, r, i, answer, false);
        }
        json_put(b, "]", 1);
        put_ending(b, r, bare);
        json_put_text(b, ",\"instructions\":null,\"max_output_tokens\":null,\"metadata\":{},"
                         "\"parallel_tool_calls\":true,\"previous_response_id\":null,"
                         "\"reasoning\":{\"effort\":null,\"summary\":null},\"store\":");
        json_put_text(b, answer->background ? "true" : "false");
        json_put_text(b, ",\"temperature\":null,\"text\":{\"format\":{\"type\":\"text\"}},"
                         "\"tool_choice\":\"auto\",\"tools\":[],\"top_p\":null,"
                         "\"truncation\":\"disabled\"}");
}

static uint64_t response_bound(const struct responses *r, const struct responses_answer *answer) {
        struct openai_answer like = {.id = answer->id, .model = answer->model};
        uint64_t bytes = RESPONSE_FIXED + openai_head_bound(&like);

        for (uint32_t i = 0; i < r->n_items; i++)
                bytes += item_bound(r, i, answer);
        if (r->end && r->end_type == RECORD_DONE)
                bytes += openai_done_bound(&like, r->end);
        if (r->end && r->end_type != RECORD_DONE) {
                struct openai_error error = openai_error_of(r->end);

                bytes += openai_error_bound(&error);
        }
        return bytes;
}

uint64_t responses_whole_bound(
                const struct responses *r, const struct responses_answer *answer) {
        return response_bound(r, answer);
}

void responses_whole(struct json_buf *b, const struct responses *r,
                const struct responses_answer *answer, enum responses_say say) {
        static const char *const words[] = {
                        [RESPONSES_QUEUED] = "queued", [RESPONSES_CANCELLED] = "cancelled"};

        put_response(b, r, answer, say == RESPONSES_AS_IT_IS || r->end ? status_of(r) : words[say],
                        false);
}

/* ---- events ---- */

/* By the kind of the part: what its deltas and their end are called. */
static const struct {
        const char *delta, *done;
} names[] = {
                [PART_TEXT] = {"response.output_text.delta", "response.output_text.done"},
                [PART_REFUSAL] = {"response.refusal.delta", "response.refusal.done"},
                [PART_REASONING] = {"response.reasoning_text.delta",
                                "response.reasoning_text.done"},
                [PART_ARGUMENTS] = {"response.function_call_arguments.delta",
                                "response.function_call_arguments.done"},
};

static const char *event_name(const struct responses *r, const struct responses_event_due *due) {
        static const char *const fixed[] = {
                        [EVENT_CREATED] = "response.created",
                        [EVENT_IN_PROGRESS] = "response.in_progress",
                        [EVENT_ITEM_ADDED] = "response.output_item.added",
                        [EVENT_PART_ADDED] = "response.content_part.added",
                        [EVENT_PART_DONE] = "response.content_part.done",
                        [EVENT_ITEM_DONE] = "response.output_item.done",
        };
        static const char *const ends[] = {"response.completed", "response.incomplete",
                        "response.failed", "response.cancelled"};

        if (due->type == EVENT_DELTA)
                return names[r->parts[due->part].kind].delta;
        if (due->type == EVENT_TEXT_DONE)
                return names[r->parts[due->part].kind].done;
        if (due->type != EVENT_END)
                return fixed[due->type];
        for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]) - 1; i++)
                if (strcmp(ends[i] + sizeof("response.") - 1, status_of(r)) == 0)
                        return ends[i];
        return ends[3];
}

static void event_begin(struct json_buf *b, const struct responses *r,
                const struct responses_answer *answer, const char *name) {
        json_put_text(b, "event: ");
        json_put_text(b, name);
        json_put_text(b, "\nid: ");
        json_put(b, answer->id.p, answer->id.n);
        put_number(b, ".", r->number);
        json_put_text(b, "\ndata: {\"type\":\"");
        json_put_text(b, name);
        put_number(b, "\",\"sequence_number\":", r->number);
}

static void event_end(struct json_buf *b) {
        json_put_text(b, "}\n\n");
}

/* ,"item_id":…,"output_index":…,"content_index":… */
static void put_place(struct json_buf *b, const struct responses *r,
                const struct responses_answer *answer, const struct responses_event_due *due) {
        json_put_text(b, ",\"item_id\":");
        put_item_id(b, r, due->item, answer);
        put_number(b, ",\"output_index\":", due->item);
        if (r->parts[due->part].kind != PART_ARGUMENTS)
                put_number(b, ",\"content_index\":", r->parts[due->part].index);
}

static void put_logprobs(struct json_buf *b, const struct responses_part *part) {
        if (part->kind == PART_TEXT)
                json_put_text(b, ",\"logprobs\":[]");
}

static void put_text_done(struct json_buf *b, const struct responses *r,
                const struct responses_event_due *due) {
        static const char *const members[] = {[PART_TEXT] = ",\"text\":",
                        [PART_REFUSAL] = ",\"refusal\":",
                        [PART_REASONING] = ",\"text\":",
                        [PART_ARGUMENTS] = ",\"arguments\":"};
        const struct responses_part *part = &r->parts[due->part];

        if (part->kind == PART_ARGUMENTS)
                put_name(b, ",\"name\":", view_of(&r->items[due->item].name));
        put_name(b, members[part->kind], view_of(&part->text));
        put_logprobs(b, part);
}

static void put_due(struct json_buf *b, const struct responses *r,
                const struct responses_answer *answer, const struct responses_event_due *due) {
        switch (due->type) {
        case EVENT_CREATED:
        case EVENT_IN_PROGRESS:
                json_put_text(b, ",\"response\":");
                put_response(b, r, answer, "in_progress", true);
                return;
        case EVENT_ITEM_ADDED:
        case EVENT_ITEM_DONE:
                put_number(b, ",\"output_index\":", due->item);
                json_put_text(b, ",\"item\":");
                put_item(b, r, due->item, answer, due->type == EVENT_ITEM_ADDED);
                return;
        case EVENT_PART_ADDED:
        case EVENT_PART_DONE:
                put_place(b, r, answer, due);
                json_put_text(b, ",\"part\":");
                put_part(b, &r->parts[due->part], due->type == EVENT_PART_ADDED);
                return;
        case EVENT_DELTA:
                put_place(b, r, answer, due);
                put_name(b, ",\"delta\":", due->text);
                put_logprobs(b, &r->parts[due->part]);
                return;
        case EVENT_TEXT_DONE:
                put_place(b, r, answer, due);
                put_text_done(b, r, due);
                return;
        case EVENT_END:
                json_put_text(b, ",\"response\":");
                put_response(b, r, answer, status_of(r), false);
                return;
        }
}

static uint64_t due_bound(const struct responses *r, const struct responses_answer *answer,
                const struct responses_event_due *due) {
        switch (due->type) {
        case EVENT_CREATED:
        case EVENT_IN_PROGRESS:
        case EVENT_END:
                return response_bound(r, answer);
        case EVENT_ITEM_ADDED:
        case EVENT_ITEM_DONE:
                return item_bound(r, due->item, answer);
        case EVENT_DELTA:
                return openai_text_piece_bound(due->text);
        case EVENT_PART_ADDED:
        case EVENT_PART_DONE:
        case EVENT_TEXT_DONE:
                return r->parts[due->part].text.bound + r->items[due->item].name.bound;
        }
        return 0;
}

uint64_t responses_event_bound(
                const struct responses *r, const struct responses_answer *answer) {
        return EVENT_FIXED + IDS_EVENT * openai_text_piece_bound(answer->id) +
               due_bound(r, answer, &r->due[r->written]);
}

void responses_event(
                struct json_buf *b, struct responses *r, const struct responses_answer *answer) {
        const struct responses_event_due *due = &r->due[r->written];

        event_begin(b, r, answer, event_name(r, due));
        put_due(b, r, answer, due);
        event_end(b);
        responses_pass(r);
}

uint32_t responses_error_bound(
                const struct responses_answer *answer, const struct openai_error *error) {
        return EVENT_FIXED + IDS_EVENT * openai_text_piece_bound(answer->id) +
               openai_error_bound(error);
}

void responses_error(struct json_buf *b, const struct responses *r,
                const struct responses_answer *answer, const struct openai_error *error) {
        event_begin(b, r, answer, "error");
        put_name(b, ",\"code\":", openai_error_code(error));
        put_name(b, ",\"message\":", error->message);
        if (error->param.n > 0)
                put_name(b, ",\"param\":", error->param);
        else
                json_put_text(b, ",\"param\":null");
        event_end(b);
}
