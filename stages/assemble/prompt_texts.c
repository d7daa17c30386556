#include "stages/assemble/prompt_texts.h"

#include <errno.h>
#include <string.h>

#include "stages/engines/json/json.h"

#define KEY_MAX 64u

enum place {
        NOWHERE,
        CHAT,
        COMPLETIONS,
        EMBEDDINGS,
        ANYONE, /* members that all three have */
        MESSAGES,
        MESSAGE,
        CONTENT,
        PART,
        CALLS,
        CALL,
        FUNCTION,
        CUSTOM,
        ARGUMENTS,
        PREDICTION,
        TEXTS,       /* a text, or texts */
        VALUES,      /* every string in it is one */
        DEFINITIONS, /* of tools and of answers */
        DESCRIPTION,
        PLACES_N
};

/* What a string means at a place, and where the elements of an array are. */
static const struct {
        bool text;
        enum place element;
} places[PLACES_N] = {
                [MESSAGES] = {.element = MESSAGE},
                [CONTENT] = {.text = true, .element = PART},
                [PART] = {.text = true},
                [CALLS] = {.element = CALL},
                [ARGUMENTS] = {.text = true, .element = VALUES},
                [TEXTS] = {.text = true, .element = TEXTS},
                [VALUES] = {.text = true, .element = VALUES},
                [DEFINITIONS] = {.element = DEFINITIONS},
                [DESCRIPTION] = {.text = true, .element = DEFINITIONS},
};

/* Which member of what is where; name NULL: any. The first row that fits counts. */
static const struct {
        enum place of;
        const char *name;
        enum place is;
} members[] = {
                {CHAT, "messages", MESSAGES},
                {CHAT, "tools", DEFINITIONS},
                {CHAT, "functions", DEFINITIONS},
                {CHAT, "response_format", DEFINITIONS},
                {CHAT, "prediction", PREDICTION},
                {COMPLETIONS, "prompt", TEXTS},
                {COMPLETIONS, "suffix", TEXTS},
                {EMBEDDINGS, "input", TEXTS},
                {ANYONE, "user", TEXTS},
                {ANYONE, "safety_identifier", TEXTS},
                {ANYONE, "prompt_cache_key", TEXTS},
                {ANYONE, "metadata", VALUES},
                {MESSAGE, "content", CONTENT},
                {MESSAGE, "refusal", TEXTS},
                {MESSAGE, "reasoning", TEXTS},
                {MESSAGE, "reasoning_content", TEXTS},
                {MESSAGE, "tool_calls", CALLS},
                {MESSAGE, "function_call", FUNCTION},
                {PART, "text", TEXTS},
                {PART, "refusal", TEXTS},
                {PART, "content", CONTENT},
                {CALL, "function", FUNCTION},
                {CALL, "custom", CUSTOM},
                {FUNCTION, "arguments", ARGUMENTS},
                {CUSTOM, "input", TEXTS},
                {PREDICTION, "content", CONTENT},
                {ARGUMENTS, NULL, VALUES},
                {VALUES, NULL, VALUES},
                {DEFINITIONS, "description", DESCRIPTION},
                {DEFINITIONS, NULL, DEFINITIONS},
                {DESCRIPTION, "description", DESCRIPTION}, /* of one that is called so */
                {DESCRIPTION, NULL, DEFINITIONS},
};

struct walking {
        prompt_text_fn *fn;
        void *ctx;
};

static bool key_is(struct json_text key, const char *name) {
        char plain[KEY_MAX];
        uint32_t n;

        if (!memchr(key.p, '\\', key.n))
                return json_key_is(key, name);
        return json_unescape(key.p, key.n, plain, sizeof(plain), &n) == 0 && n == strlen(name) &&
               memcmp(plain, name, n) == 0;
}

static enum place place_of(enum place of, struct json_text key) {
        for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
                bool fits = members[i].of == of ||
                            (members[i].of == ANYONE && of >= CHAT && of <= EMBEDDINGS);
                if (fits && (!members[i].name || key_is(key, members[i].name)))
                        return members[i].is;
        }
        return NOWHERE;
}

static int visit(const struct walking *w, struct json_text value, enum place place);

static int visit_members(const struct walking *w, struct json_text object, enum place place) {
        struct json_walk walk = json_walk_in(json_inside(object));
        struct json_text key, value;

        for (;;) {
                int r = json_walk_member(&walk, &key, &value);
                if (r)
                        return r == WALK_E_END ? 0 : r;
                r = visit(w, value, place_of(place, key));
                if (r)
                        return r;
        }
}

static int visit_elements(const struct walking *w, struct json_text array, enum place place) {
        struct json_walk walk = json_walk_in(json_inside(array));
        struct json_text value;

        for (;;) {
                int r = json_walk_element(&walk, &value);
                if (r)
                        return r == WALK_E_END ? 0 : r;
                r = visit(w, value, places[place].element);
                if (r)
                        return r;
        }
}

static int visit(const struct walking *w, struct json_text value, enum place place) {
        if (place == NOWHERE)
                return 0;
        switch (value.p[0]) {
        case '{':
                return visit_members(w, value, place);
        case '[':
                return visit_elements(w, value, place);
        case '"':
                if (!places[place].text)
                        return 0;
                return w->fn(w->ctx, value, place == ARGUMENTS ? PROMPT_TEXT_JSON : PROMPT_TEXT);
        default:
                return 0;
        }
}

int prompt_texts(struct json_text body, enum record_endpoint endpoint, prompt_text_fn *fn,
                void *ctx) {
        static const enum place roots[ENDPOINTS_N] = {[ENDPOINT_CHAT] = CHAT,
                        [ENDPOINT_COMPLETIONS] = COMPLETIONS, [ENDPOINT_EMBEDDINGS] = EMBEDDINGS};
        struct json_walk walk = json_walk_in(body);
        struct json_text whole;

        if (endpoint >= ENDPOINTS_N || json_walk_element(&walk, &whole))
                return -EPROTO;
        return visit(&(struct walking){fn, ctx}, whole, roots[endpoint]);
}
