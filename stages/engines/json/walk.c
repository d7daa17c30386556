#include "stages/engines/json/walk.h"

#include <errno.h>
#include <string.h>

static bool is_space(char c) {
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

static uint32_t skip_space(const char *p, uint32_t n, uint32_t at) {
        while (at < n && is_space(p[at]))
                at++;
        return at;
}

/* ---- values: the end of what starts at `at`, 0 when it is not what it should be ---- */

static bool is_hex4(const char *p) {
        for (int i = 0; i < 4; i++)
                if (!is_digit(p[i]) && !((p[i] | 32) >= 'a' && (p[i] | 32) <= 'f'))
                        return false;
        return true;
}

static uint32_t string_end(const char *p, uint32_t n, uint32_t at) {
        if (at >= n || p[at] != '"')
                return 0;
        for (at++; at < n && p[at] != '"'; at++) {
                if ((unsigned char)p[at] < 0x20)
                        return 0;
                if (p[at] != '\\')
                        continue;
                at++;
                if (at >= n || !p[at] || !strchr("\"\\/bfnrtu", p[at]))
                        return 0;
                if (p[at] != 'u')
                        continue;
                if (n - at < 5 || !is_hex4(p + at + 1))
                        return 0;
                at += 4;
        }
        return at < n ? at + 1 : 0;
}

static uint32_t digits_end(const char *p, uint32_t n, uint32_t at) {
        uint32_t from = at;

        while (at < n && is_digit(p[at]))
                at++;
        return at > from ? at : 0;
}

static uint32_t number_end(const char *p, uint32_t n, uint32_t at) {
        if (p[at] == '-')
                at++;
        if (at < n && p[at] == '0')
                at++;
        else
                at = digits_end(p, n, at);
        if (at && at < n && p[at] == '.')
                at = digits_end(p, n, at + 1);
        if (at && at < n && (p[at] | 32) == 'e') {
                at++;
                if (at < n && (p[at] == '+' || p[at] == '-'))
                        at++;
                at = digits_end(p, n, at);
        }
        return at;
}

static uint32_t word_end(const char *p, uint32_t n, uint32_t at) {
        static const char *const words[] = {"true", "false", "null"};

        for (int i = 0; i < 3; i++) {
                uint32_t len = (uint32_t)strlen(words[i]);

                if (n - at >= len && memcmp(p + at, words[i], len) == 0)
                        return at + len;
        }
        return 0;
}

static uint32_t scalar_end(const char *p, uint32_t n, uint32_t at) {
        if (p[at] == '"')
                return string_end(p, n, at);
        if (p[at] == '-' || is_digit(p[at]))
                return number_end(p, n, at);
        return word_end(p, n, at);
}

/* A key and its colon: where the value starts. */
static uint32_t key_end(const char *p, uint32_t n, uint32_t at) {
        at = string_end(p, n, at);
        if (!at)
                return 0;
        at = skip_space(p, n, at);
        return at < n && p[at] == ':' ? skip_space(p, n, at + 1) : 0;
}

/* What follows a value: closes what ends here. *depth is 0 when nothing is open any more; else the
 * next value starts at what is returned. */
static uint32_t next_value(const char *p, uint32_t n, uint32_t at, uint64_t *objects,
                uint32_t *depth) {
        while (*depth > 0) {
                bool object = *objects >> (*depth - 1) & 1;

                at = skip_space(p, n, at);
                if (at >= n)
                        return 0;
                if (p[at] == ',') {
                        at = skip_space(p, n, at + 1);
                        return object ? key_end(p, n, at) : at;
                }
                if (p[at] != (object ? '}' : ']'))
                        return 0;
                at++;
                --*depth;
        }
        return at;
}

/* One value; `objects` has a bit for each level that is an object. */
static uint32_t value_end(const char *p, uint32_t n, uint32_t at) {
        uint64_t objects = 0;
        uint32_t depth = 0;

        do {
                bool object;

                if (at >= n)
                        return 0;
                object = p[at] == '{';
                if (!object && p[at] != '[') {
                        at = scalar_end(p, n, at);
                } else {
                        if (depth == WALK_DEPTH_MAX)
                                return 0;
                        objects = (objects & ~(1ull << depth)) | (uint64_t)object << depth;
                        depth++;
                        at = skip_space(p, n, at + 1);
                        if (at >= n || p[at] != (object ? '}' : ']')) {
                                at = object ? key_end(p, n, at) : at;
                                if (!at)
                                        return 0;
                                continue;
                        }
                        depth--;
                        at++;
                }
                if (at)
                        at = next_value(p, n, at, &objects, &depth);
        } while (at && depth > 0);
        return at;
}

/* ---- walking ---- */

struct json_text json_inside(struct json_text value) {
        if (value.n < 2 || (value.p[0] != '{' && value.p[0] != '['))
                return (struct json_text){0};
        return (struct json_text){value.p + 1, value.n - 2};
}

/* To the start of the next one: behind its comma unless it is the first. */
static int step(struct json_walk *w) {
        uint32_t at = skip_space(w->p, w->n, w->at);

        if (at == w->n)
                return WALK_E_END;
        if (w->begun) {
                if (w->p[at] != ',')
                        return -EPROTO;
                at = skip_space(w->p, w->n, at + 1);
        }
        w->begun = true;
        w->at = at;
        return 0;
}

int json_walk_element(struct json_walk *w, struct json_text *ret_value) {
        int r = step(w);
        uint32_t end;

        if (r)
                return r;
        end = value_end(w->p, w->n, w->at);
        if (!end)
                return -EPROTO;
        *ret_value = (struct json_text){w->p + w->at, end - w->at};
        w->at = end;
        return 0;
}

int json_walk_member(struct json_walk *w, struct json_text *ret_key, struct json_text *ret_value) {
        int r = step(w);
        uint32_t key, value, end;

        if (r)
                return r;
        key = string_end(w->p, w->n, w->at);
        value = key ? key_end(w->p, w->n, w->at) : 0;
        end = value ? value_end(w->p, w->n, value) : 0;
        if (!end)
                return -EPROTO;
        *ret_key = (struct json_text){w->p + w->at, key - w->at};
        *ret_value = (struct json_text){w->p + value, end - value};
        w->at = end;
        return 0;
}

bool json_is_members(struct json_text inside) {
        struct json_walk w = json_walk_in(inside);
        struct json_text key, value;
        int r;

        do
                r = json_walk_member(&w, &key, &value);
        while (r == 0);
        return r == WALK_E_END;
}

bool json_key_is(struct json_text key, const char *name) {
        uint32_t n = (uint32_t)strlen(name);

        return key.n == n + 2 && memcmp(key.p + 1, name, n) == 0;
}

bool json_find(struct json_text inside, const char *name, struct json_text *ret) {
        struct json_walk w = json_walk_in(inside);
        struct json_text key, value;
        bool found = false;

        while (json_walk_member(&w, &key, &value) == 0) {
                if (!json_key_is(key, name))
                        continue;
                *ret = value;
                found = true;
        }
        return found;
}

bool json_u64(struct json_text value, uint64_t *ret) {
        uint64_t v = 0;

        if (value.n == 0 || value.n > 19)
                return false;
        for (uint32_t i = 0; i < value.n; i++) {
                if (!is_digit(value.p[i]))
                        return false;
                v = v * 10 + (uint64_t)(value.p[i] - '0');
        }
        *ret = v;
        return true;
}
