/* Records with anything in them: whatever OpenAI's dialects make of them fits its bounds and is
 * JSON. An input is a list of records: kind, choice, length (2 bytes), so many bytes. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_parse.h>

#include "stages/gateway/openai_whole.h"
#include "stages/gateway/responses_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum kind { KIND_TEXT, KIND_REASONING, KIND_REFUSAL, KIND_CALL, KIND_EXTRA, KIND_BOTH, KINDS_N };

static const yajl_callbacks nothing;

static void json_check(const struct json_buf *b) {
        yajl_handle parser = yajl_alloc(&nothing, NULL, NULL);

        assert(!b->full);
        if (!parser)
                abort();
        assert(yajl_parse(parser, (const unsigned char *)b->at, b->len) == yajl_status_ok);
        assert(yajl_complete_parse(parser) == yajl_status_ok);
        yajl_free(parser);
}

static struct json_buf buffer(uint64_t cap) {
        struct json_buf b = {.at = malloc(cap ? cap : 1), .cap = (uint32_t)cap};

        if (!b.at)
                abort();
        return b;
}

static msgpack_object text_object(const uint8_t *p, uint32_t n) {
        return (msgpack_object){
                        .type = MSGPACK_OBJECT_STR, .via.str = {n, (const char *)p}};
}

/* The record of one item; `map` and `kv` hold its tool call. */
static struct record record_of(const uint8_t item[4], const uint8_t *p, uint32_t n,
                msgpack_object *map, msgpack_object_kv kv[5]) {
        static const char *const keys[] = {"index", "id", "name", "arguments", "extra"};
        struct record r = {.has = HAS(choice), .choice = item[1]};
        enum kind kind = (enum kind)(item[0] % KINDS_N);
        struct mr_view bytes = {(const char *)p, n};

        if (kind <= KIND_REFUSAL || kind == KIND_BOTH) {
                r.has |= HAS(text);
                r.text = bytes;
        }
        if (kind == KIND_TEXT && item[0] & 128) {
                r.has |= HAS(cuts);
                r.cuts = bytes;
        }
        if (kind == KIND_REASONING || kind == KIND_REFUSAL) {
                r.has |= HAS(delta_kind);
                r.delta_kind = kind == KIND_REFUSAL ? (struct mr_view){"refusal", 7}
                                                    : (struct mr_view){"reasoning", 9};
        }
        if (kind == KIND_EXTRA || kind == KIND_BOTH) {
                r.has |= HAS(extra);
                r.extra = bytes;
        }
        if (kind == KIND_CALL) {
                for (uint32_t i = 0; i < 5; i++) {
                        kv[i].key = text_object(
                                        (const uint8_t *)keys[i], (uint32_t)strlen(keys[i]));
                        kv[i].val = text_object(p, item[0] & 64 ? n : 0);
                }
                kv[0].val = (msgpack_object){
                                .type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = item[0] / 8};
                kv[3].val = text_object(p, n);
                kv[4].val = text_object(p, item[0] & 32 ? n : 0);
                *map = (msgpack_object){.type = MSGPACK_OBJECT_MAP, .via.map = {5, kv}};
                r.has |= HAS(tool);
                r.tool = map;
        }
        return r;
}

static void chunk_check(const struct openai_answer *answer, const struct record *r) {
        struct json_buf b = buffer(openai_delta_bound(answer, r));
        struct openai_roles roles = {0};
        uint32_t choice, n = 0;

        openai_delta_chunk(&b, answer, r);
        json_check(&b);
        free(b.at);
        while (openai_role_due(&roles, r, &choice))
                assert(choice < OPENAI_CHOICES_MAX && ++n <= OPENAI_CHOICES_MAX);
}

static void end_check(const struct openai_whole *w, const struct openai_answer *answer,
                const struct record *done) {
        struct json_buf b = buffer(openai_whole_bound(w, answer, done));

        openai_whole_put(&b, w, answer, done);
        json_check(&b);
        free(b.at);
        b = buffer(openai_done_bound(answer, done));
        openai_finish_chunk(&b, answer, done);
        json_check(&b);
        b.len = 0;
        openai_usage_chunk(&b, answer, done);
        json_check(&b);
        free(b.at);
}

static void answer_check(enum openai_kind kind, const uint8_t *data, size_t size) {
        const struct openai_answer answer = {.kind = kind,
                        .id = {"id\"", 3},
                        .model = {(const char *)data, (uint32_t)(size < 20 ? size : 20)},
                        .usage_asked = size & 1};
        struct record r = {0};
        struct openai_whole *w;
        msgpack_object map;
        msgpack_object_kv kv[5];
        int e = 0;

        if (openai_whole_new(&w, size, 2 * size) < 0)
                abort();
        for (size_t at = 0; e == 0 && size - at >= 4;) {
                uint32_t n = (uint32_t)data[at + 2] << 8 | data[at + 3];

                n = n < size - at - 4 ? n : (uint32_t)(size - at - 4);
                r = record_of(data + at, data + at + 4, n, &map, kv);
                chunk_check(&answer, &r);
                e = openai_whole_add(w, &r);
                at += 4 + n;
        }
        r.has |= HAS(finish_reason);
        r.finish_reason = answer.model;
        end_check(w, &answer, &r);
        openai_whole_free(w);
}

static void event_check(struct responses *r, const struct responses_answer *answer) {
        struct json_buf b = buffer(responses_event_bound(r, answer)), data;

        responses_event(&b, r, answer);
        assert(!b.full && memcmp(b.at + b.len - 2, "\n\n", 2) == 0);
        data = (struct json_buf){.at = memmem(b.at, b.len, "data: ", 6)};
        assert(data.at);
        data.at += 6;
        data.len = (uint32_t)(b.at + b.len - 2 - data.at);
        json_check(&data);
        free(b.at);
}

static int responses_record(struct responses *r, const struct responses_answer *answer,
                enum record_type type, const struct record *record) {
        int e = responses_add(r, type, record);

        while (e == 0 && responses_due(r))
                event_check(r, answer);
        return e;
}

static void responses_check(const uint8_t *data, size_t size) {
        const struct responses_answer answer = {.id = {"id\"", 3}, .model = {"m\n", 2}};
        struct record r = {0};
        struct responses *all;
        struct json_buf b;
        msgpack_object map;
        msgpack_object_kv kv[5];
        int e = 0;

        if (responses_new(&all, 4 * size) < 0)
                abort();
        for (size_t at = 0; e == 0 && size - at >= 4;) {
                uint32_t n = (uint32_t)data[at + 2] << 8 | data[at + 3];

                n = n < size - at - 4 ? n : (uint32_t)(size - at - 4);
                r = record_of(data + at, data + at + 4, n, &map, kv);
                r.choice &= 1;
                e = responses_record(all, &answer, RECORD_DELTA, &r);
                at += 4 + n;
        }
        if (e == 0)
                e = responses_record(all, &answer, size & 1 ? RECORD_DONE : RECORD_ERROR, &r);
        b = buffer(responses_whole_bound(all, &answer));
        responses_whole(&b, all, &answer, e ? RESPONSES_QUEUED : RESPONSES_AS_IT_IS);
        json_check(&b);
        free(b.at);
        responses_free(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size > 1 << 18)
                return 0;
        responses_check(data, size);
        answer_check(OPENAI_CHAT, data, size);
        answer_check(OPENAI_COMPLETIONS, data, size);
        return 0;
}
