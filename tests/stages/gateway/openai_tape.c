#include "openai_tape.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/sse/chunk.h"

struct tape tape;

#define ANSWER_ID {"req_01", 6}
#define ANSWER_MODEL {"public \"name\"", 13}
const struct openai_answer chat = {OPENAI_CHAT, ANSWER_ID, ANSWER_MODEL, 1700000000, false};
const struct openai_answer chat_with_usage = {
                OPENAI_CHAT, ANSWER_ID, ANSWER_MODEL, 1700000000, true};
const struct openai_answer legacy = {
                OPENAI_COMPLETIONS, ANSWER_ID, ANSWER_MODEL, 1700000000, false};

/* ---- records ---- */

void tape_clear(void) {
        tape.n = tape.used = 0;
        tape.done = false;
}

static void *tape_keep(const void *p, size_t n) {
        char *at = tape.bytes + tape.used;

        ck_assert_uint_le(n + 16, TAPE_BYTES - tape.used);
        if (n > 0 && p)
                memcpy(at, p, n);
        tape.used += (uint32_t)(n + 15) & ~15u;
        return at;
}

struct mr_view tape_view(const char *text) {
        return (struct mr_view){tape_keep(text, strlen(text)), (uint32_t)strlen(text)};
}

static struct mr_view keep(struct chunk_str s) {
        return (struct mr_view){tape_keep(s.p, s.n), s.n};
}

struct record *tape_record(void) {
        ck_assert_uint_lt(tape.n, TAPE_RECORDS);
        tape.records[tape.n] = (struct record){0};
        return &tape.records[tape.n++];
}

static struct record *text_record(uint32_t choice, const char *kind, struct mr_view text) {
        struct record *r = tape_record();

        r->has = HAS(text) | (choice ? HAS(choice) : 0) | (kind ? HAS(delta_kind) : 0);
        r->text = text;
        r->choice = choice;
        if (kind)
                r->delta_kind = tape_view(kind);
        return r;
}

struct record *tape_text(uint32_t choice, const char *kind, const char *text) {
        return text_record(choice, kind, tape_view(text));
}

static msgpack_object str(struct mr_view v) {
        return (msgpack_object){.type = MSGPACK_OBJECT_STR, .via.str = {v.n, v.p}};
}

static struct record *tool_record(uint32_t choice, uint32_t index, struct mr_view id,
                struct mr_view name, struct mr_view arguments, struct mr_view extra) {
        const struct {
                const char *key;
                struct mr_view text;
        } texts[] = {{"id", id}, {"name", name}, {"arguments", arguments}, {"extra", extra}};
        msgpack_object_kv kv[5] = {{str(tape_view("index")),
                        {.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = index}}};
        msgpack_object map;
        struct record *r = tape_record();
        uint32_t n = 1;

        for (int i = 0; i < 4; i++)
                if (texts[i].text.n > 0)
                        kv[n++] = (msgpack_object_kv){
                                        str(tape_view(texts[i].key)), str(texts[i].text)};
        map = (msgpack_object){.type = MSGPACK_OBJECT_MAP,
                        .via.map = {n, tape_keep(kv, n * sizeof(*kv))}};
        r->has = HAS(tool) | (choice ? HAS(choice) : 0);
        r->choice = choice;
        r->tool = tape_keep(&map, sizeof(map));
        return r;
}

struct record *tape_tool(uint32_t choice, uint32_t index, const char *id, const char *name,
                const char *arguments) {
        return tool_record(choice, index, tape_view(id), tape_view(name), tape_view(arguments),
                        (struct mr_view){0});
}

void tape_chunk(const char *json) {
        static const char *const kinds[] = {
                        [CHUNK_TEXT] = NULL, [CHUNK_REASONING] = "reasoning", "refusal"};
        static struct chunk_parser *parser;
        struct record *first = NULL, *r;
        struct chunk chunk;

        if (!parser)
                ck_assert_int_eq(chunk_new(&parser), 0);
        ck_assert_msg(chunk_parse(parser, json, (uint32_t)strlen(json), false, &chunk) == 0, "%s",
                        json);
        for (uint32_t i = 0; i < chunk.n_parts; i++) {
                const struct chunk_part *p = &chunk.parts[i];

                r = p->kind == CHUNK_TOOL ? tool_record(p->choice, p->tool_index, keep(p->tool_id),
                                                            keep(p->tool_name), keep(p->text),
                                                            keep(p->tool_extra))
                                          : text_record(p->choice, kinds[p->kind], keep(p->text));
                first = first ? first : r;
        }
        if (chunk.extra.n == 0)
                return;
        r = first ? first : tape_record();
        r->has |= HAS(extra);
        r->extra = keep(chunk.extra);
}

struct record *tape_done(const char *finish_reason) {
        struct record *r = tape_record();

        r->has = HAS(finish_reason) | HAS(prompt_tokens) | HAS(completion_tokens) |
                 HAS(total_tokens);
        r->finish_reason = tape_view(finish_reason);
        r->prompt_tokens = 11;
        r->completion_tokens = 7;
        r->total_tokens = 18;
        tape.done = true;
        return r;
}

void tape_sources(struct record *done, uint32_t n) {
        msgpack_object row[7] = {{.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = 1},
                        str(tape_view("doc-1")), str(tape_view("A \"title\"")),
                        {.type = MSGPACK_OBJECT_NIL},
                        {.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = 5},
                        {.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = 90},
                        {.type = MSGPACK_OBJECT_BOOLEAN, .via.boolean = true}};
        msgpack_object *rows = tape_keep(NULL, n * sizeof(*rows));
        msgpack_object list = {.type = MSGPACK_OBJECT_ARRAY, .via.array = {n, rows}};

        for (uint32_t i = 0; i < n; i++)
                rows[i] = (msgpack_object){.type = MSGPACK_OBJECT_ARRAY,
                                .via.array = {7, tape_keep(row, sizeof(row))}};
        done->has |= HAS(sources);
        done->sources = tape_keep(&list, sizeof(list));
}

/* ---- what comes out ---- */

struct call {
        enum { DELTA, ROLE, FINISH, USAGE, FAILURE } what;
        const struct openai_answer *answer;
        const struct record *record;
        const struct openai_error *error;
        uint32_t choice;
};

static uint32_t bound_of(const struct call *call) {
        switch (call->what) {
        case DELTA:
                return openai_delta_bound(call->answer, call->record);
        case ROLE:
                return openai_head_bound(call->answer);
        case FINISH:
        case USAGE:
                return openai_done_bound(call->answer, call->record);
        case FAILURE:
                return openai_error_bound(call->error);
        }
        return 0;
}

static void write_call(struct json_buf *b, const struct call *call) {
        switch (call->what) {
        case DELTA:
                openai_delta_chunk(b, call->answer, call->record);
                break;
        case ROLE:
                openai_role_chunk(b, call->answer, call->choice);
                break;
        case FINISH:
                openai_finish_chunk(b, call->answer, call->record);
                break;
        case USAGE:
                openai_usage_chunk(b, call->answer, call->record);
                break;
        case FAILURE:
                openai_error_body(b, call->error);
                break;
        }
}

static const char *written(const struct call *call) {
        static char *out;
        uint32_t bound = bound_of(call);
        struct json_buf b = {.cap = bound};

        free(out);
        out = malloc((size_t)bound + 1); /* exactly: a sanitizer sees more */
        ck_assert_ptr_nonnull(out);
        b.at = out;
        write_call(&b, call);
        ck_assert_msg(!b.full, "%u bytes were not enough", bound);
        bound = b.len;
        b = (struct json_buf){.at = out, .cap = bound - 1};
        write_call(&b, call);
        ck_assert(b.full);
        b = (struct json_buf){.at = out, .cap = bound};
        write_call(&b, call);
        ck_assert(!b.full && b.len == bound);
        out[bound] = '\0';
        (void)json_tree(out);
        return out;
}

const char *delta_chunk(const struct openai_answer *answer, const struct record *delta) {
        return written(&(struct call){.what = DELTA, .answer = answer, .record = delta});
}

const char *role_chunk(const struct openai_answer *answer, uint32_t choice) {
        return written(&(struct call){.what = ROLE, .answer = answer, .choice = choice});
}

const char *finish_chunk(const struct openai_answer *answer, const struct record *done) {
        return written(&(struct call){.what = FINISH, .answer = answer, .record = done});
}

const char *usage_chunk(const struct openai_answer *answer, const struct record *done) {
        return written(&(struct call){.what = USAGE, .answer = answer, .record = done});
}

const char *error_body(const struct openai_error *error) {
        return written(&(struct call){.what = FAILURE, .error = error});
}

const char *whole_answer(const struct openai_answer *answer) {
        static char *out;
        struct openai_whole *w;
        struct json_buf b;
        uint64_t bound;

        ck_assert(tape.done);
        ck_assert_int_eq(openai_whole_new(&w, 0, TAPE_BYTES), 0);
        for (uint32_t i = 0; i < tape.n; i++)
                ck_assert_int_eq(openai_whole_add(w, &tape.records[i]), 0);
        bound = openai_whole_bound(w, answer, &tape.records[tape.n - 1]);
        ck_assert_uint_lt(bound, OUT_BYTES);
        free(out);
        out = malloc(bound + 1);
        ck_assert_ptr_nonnull(out);
        b = (struct json_buf){.at = out, .cap = (uint32_t)bound};
        openai_whole_put(&b, w, answer, &tape.records[tape.n - 1]);
        ck_assert(!b.full);
        out[b.len] = '\0';
        openai_whole_free(w);
        (void)json_tree(out);
        return out;
}

/* ---- JSON as another parser sees it ---- */

yajl_val json_tree(const char *text) {
        static yajl_val kept[4];
        static unsigned turn;
        char words[256];
        yajl_val *at = &kept[turn++ % 4];

        yajl_tree_free(*at);
        *at = yajl_tree_parse(text, words, sizeof(words));
        ck_assert_msg(*at, "%s: %s", words, text);
        return *at;
}

yajl_val json_at(yajl_val from, const char *path) {
        while (from && *path) {
                uint32_t n = (uint32_t)strcspn(path, ".");
                char name[64];

                ck_assert_uint_lt(n, sizeof(name));
                memcpy(name, path, n);
                name[n] = '\0';
                path += n + (path[n] == '.');
                if (YAJL_IS_ARRAY(from)) {
                        size_t i = (size_t)strtoul(name, NULL, 10);
                        from = i < from->u.array.len ? from->u.array.values[i] : NULL;
                } else {
                        from = yajl_tree_get(from, (const char *[]){name, NULL}, yajl_t_any);
                }
        }
        return from;
}

void expect_string(yajl_val from, const char *path, const char *want) {
        const char *got = YAJL_GET_STRING(json_at(from, path));

        ck_assert_msg(got && strcmp(got, want) == 0, "%s: got %s, want %s", path,
                        got ? got : "no string", want);
}

void expect_number(yajl_val from, const char *path, const char *want) {
        yajl_val v = json_at(from, path);
        const char *got = YAJL_IS_NUMBER(v) ? YAJL_GET_NUMBER(v) : NULL;

        ck_assert_msg(got && strcmp(got, want) == 0, "%s: got %s, want %s", path,
                        got ? got : "no number", want);
}

void expect_null(yajl_val from, const char *path) {
        yajl_val v = json_at(from, path);

        ck_assert_msg(v && YAJL_IS_NULL(v), "%s: not null", path);
}

void expect_absent(yajl_val from, const char *path) {
        ck_assert_msg(!json_at(from, path), "%s: there", path);
}
