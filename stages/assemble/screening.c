#include "stages/assemble/screening.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/assemble/prompt_own.h"
#include "stages/common/pack.h"
#include "stages/engines/json/json.h"
#include "stages/engines/json/walk.h"

#define COUNTS_BYTES (REDACT_ENTITIES_MAX * (REDACT_NAME_MAX + 8u))

struct screening {
        struct screen *lists, *tripwires; /* NULL: not looked for */
        bool blocks;                      /* tripwires do */
        double score;                     /* from which on */
        char *body, *text;                /* what is looked at, and a text of it without escapes */
        uint32_t cap;
        struct screen_found by_lists, by_tripwires;
        uint8_t counts[COUNTS_BYTES];
        msgpack_object list, rows[SCREENING_DOCUMENTS];
};

int screening_new(const struct settings *settings, struct screening **ret, struct redact_why *why) {
        const struct screen_config config = {
                        .lists = settings->post.safety.mode == SETTINGS_SAFETY_OFF ? NULL : settings->post.safety.lists,
                        .actions = (const char *const *)settings->post.safety.actions.v,
                        .n_actions = settings->post.safety.actions.n,
                        .flags = settings->post.safety.mode == SETTINGS_SAFETY_FLAG,
        };
        struct screening *s;
        int r;

        if (!config.lists && settings->post.safety.tripwires == SETTINGS_SAFETY_OFF)
                return 0;
        s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        s->blocks = settings->post.safety.tripwires == SETTINGS_SAFETY_BLOCK;
        s->score = settings->post.safety.tripwire_score;
        r = screen_load(&config, &s->lists, why);
        if (r == 0 && settings->post.safety.tripwires != SETTINGS_SAFETY_OFF)
                r = screen_tripwires(&s->tripwires, why);
        if (r) {
                screening_free(s);
                return r == REDACT_E_RULES ? -EINVAL : r;
        }
        *ret = s;
        return 0;
}

struct screening *screening_free(struct screening *s) {
        if (!s)
                return NULL;
        screen_free(s->lists);
        screen_free(s->tripwires);
        free(s->body);
        free(s->text);
        free(s);
        return NULL;
}

/* ---- what the client says ---- */

static void add(struct counters_shm *counters, enum counter which, uint64_t n) {
        if (counters)
                counters_add(counters, which, n);
}

static void look_at(struct screening *s, const char *text, uint32_t n) {
        if (s->lists)
                screen_text(s->lists, text, n, &s->by_lists);
        if (s->tripwires)
                screen_text(s->tripwires, text, n, &s->by_tripwires);
}

/* A string, or what texts an array has: strings, or parts with a text. */
static void look_at_content(struct screening *s, struct json_text content) {
        struct json_walk walk = json_walk_in(json_inside(content));
        struct json_text part;
        uint32_t n = 0;

        if (content.n > 0 && content.p[0] == '"') {
                if (json_unescape(content.p, content.n, s->text, s->cap, &n) == 0)
                        look_at(s, s->text, n);
                return;
        }
        while (content.n > 0 && content.p[0] == '[' && json_walk_element(&walk, &part) == 0) {
                if (part.p[0] == '{' && !json_find(json_inside(part), "text", &part))
                        continue;
                if (part.p[0] == '"')
                        look_at_content(s, part);
        }
}

static void look_at_messages(struct screening *s, struct json_text messages) {
        struct json_walk walk = json_walk_in(json_inside(messages));
        struct json_text message, role, content;

        while (json_walk_element(&walk, &message) == 0) {
                if (json_find(json_inside(message), "role", &role) && json_key_is(role, "assistant"))
                        continue;
                if (json_find(json_inside(message), "content", &content))
                        look_at_content(s, content);
        }
}

static int room_for(struct screening *s, uint32_t n) {
        char *body, *text;

        if (n <= s->cap)
                return 0;
        body = realloc(s->body, n);
        if (body)
                s->body = body;
        text = realloc(s->text, n);
        if (text)
                s->text = text;
        if (!body || !text)
                return -ENOMEM;
        s->cap = n;
        return 0;
}

static int look_at_body(struct screening *s, const struct record *record, const struct arena_view *arena) {
        struct body_marks marks;
        struct body_span span;
        int r;

        if (!(record->has & HAS(marks)) || record->marks.n != sizeof(marks))
                return SCREENING_E_GONE;
        memcpy(&marks, record->marks.p, sizeof(marks));
        span = marks.messages.len > 0 ? marks.messages : marks.last_user; /* a completion's prompt */
        r = room_for(s, span.len + JSON_CHAR_MAX);
        if (r)
                return r;
        if (span.len > 0 && prompt_body_copy(record, arena, span.off, span.len, s->body))
                return SCREENING_E_GONE;
        if (marks.messages.len > 0)
                look_at_messages(s, (struct json_text){s->body, span.len});
        else
                look_at_content(s, (struct json_text){s->body, span.len});
        return 0;
}

/* ---- what was retrieved ---- */

/* Whether a document is to be left out. */
static bool trips(struct screening *s, const msgpack_object *row, struct counters_shm *counters) {
        struct screen_found found = {.any = false};
        struct mr_view text;

        if (!prompt_is_document(row))
                return false;
        text = prompt_column(row, DOCUMENT_TEXT);
        screen_text(s->tripwires, text.p, text.n, &found);
        if (!found.any)
                return false;
        add(counters, COUNTER_injections, 1);
        for (uint32_t i = 0; i < REDACT_ENTITIES_MAX; i++)
                s->by_tripwires.n[i] += found.n[i];
        s->by_tripwires.any = true;
        if (found.score > s->by_tripwires.score)
                s->by_tripwires.score = found.score;
        return s->blocks && found.score >= s->score;
}

static void look_at_documents(struct screening *s, struct record *record, struct counters_shm *counters) {
        const msgpack_object *list = record->documents;
        uint32_t n = 0;

        if (!s->tripwires || !(record->has & HAS(documents)) || list->type != MSGPACK_OBJECT_ARRAY)
                return;
        for (uint32_t i = 0; i < list->via.array.size && n < SCREENING_DOCUMENTS; i++)
                if (!trips(s, &list->via.array.ptr[i], counters))
                        s->rows[n++] = list->via.array.ptr[i];
        s->list = (msgpack_object){.type = MSGPACK_OBJECT_ARRAY, .via.array = {n, s->rows}};
        record->documents = &s->list;
        if (n == 0)
                record->has &= ~HAS(documents);
}

/* ---- what it comes to ---- */

static uint32_t n_found(const struct screen_found *found) {
        uint32_t n = 0;

        for (uint32_t i = 0; i < REDACT_ENTITIES_MAX; i++)
                n += found->n[i] > 0;
        return n;
}

static void put_found(struct pack_buf *w, const struct screen *screen, const struct screen_found *found) {
        for (uint32_t i = 0; i < REDACT_ENTITIES_MAX; i++) {
                if (!found->n[i])
                        continue;
                const char *name = redact_name(screen->engine, i);
                pack_str(w, (struct mr_view){name, (uint32_t)strlen(name)});
                pack_uint(w, found->n[i]);
        }
}

static void say(struct screening *s, struct record *record, struct record_decoder *decoder) {
        struct pack_buf w;

        if (!s->by_lists.any && !s->by_tripwires.any)
                return;
        pack_buf_init(&w, s->counts, sizeof(s->counts));
        pack_map(&w, n_found(&s->by_lists) + n_found(&s->by_tripwires));
        put_found(&w, s->lists, &s->by_lists);
        put_found(&w, s->tripwires, &s->by_tripwires);
        if (!w.full && record_raw_parse(decoder, s->counts, w.len, &record->safety) == 0)
                record->has |= HAS(safety);
        if (!s->by_tripwires.any)
                return;
        record->has |= HAS(tripwire);
        record->tripwire = (uint64_t)(s->by_tripwires.score * 1000 + 0.5);
}

int screening_run(struct screening *s, struct record *record, const struct arena_view *arena,
                struct record_decoder *decoder, struct counters_shm *counters) {
        bool refused;
        int r;

        memset(&s->by_lists, 0, sizeof(s->by_lists));
        memset(&s->by_tripwires, 0, sizeof(s->by_tripwires));
        if (record->has & HAS(system))
                look_at(s, record->system.p, record->system.n);
        r = look_at_body(s, record, arena);
        if (r)
                return r;
        refused = s->by_lists.blocked || (s->blocks && s->by_tripwires.any && s->by_tripwires.score >= s->score);
        for (uint32_t i = 0; i < REDACT_ENTITIES_MAX; i++)
                add(counters, COUNTER_safety_found, s->by_lists.n[i]);
        add(counters, COUNTER_injections, s->by_tripwires.any);
        add(counters, COUNTER_safety_refused, refused);
        if (!refused)
                look_at_documents(s, record, counters);
        say(s, record, decoder);
        return refused ? SCREENING_E_REFUSED : 0;
}
