#include "stages/engines/format/json_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum json_at {
        AT_VALUE,   /* one must come */
        AT_ELEMENT, /* one, or the end of the array that has just begun */
        AT_MEMBER,  /* a key, or the end of the object that has just begun */
        AT_KEY,
        AT_COLON,
        AT_NEXT, /* a comma, or the end of what is open */
        AT_DONE,
        AT_STRING,
        AT_NAME, /* in a key */
        AT_NUMBER,
        AT_WORD
};

#define ESCAPED 5u /* of json_check.escape: a backslash has come; 1..4: so many hex digits are to come */

static const char not_json[] = "it is not JSON";
static const char not_schema[] = "it is not what the schema asks for";
static const char too_deep[] = "it is nested too deep";
static const char cut[] = "it ends within the document";

struct checking {
        struct json_check *check;
        const struct json_schema *schema;
};

/* ---- values against the schema ---- */

static bool same_value(const struct checking *c, const struct schema_value *value, enum json_type type, double number) {
        const struct json_check *check = c->check;

        if (value->type != type)
                return false;
        if (type == JSON_NUMBER)
                return !(value->number < number) && !(value->number > number);
        return type != JSON_STRING || (!check->over && value->n == check->n &&
                                                      !memcmp(c->schema->text + value->text, check->text, check->n));
}

static bool allowed(const struct checking *c, const struct schema_node *node, enum json_type type, double number) {
        for (uint32_t i = 0; i < node->n_values; i++)
                if (same_value(c, &c->schema->values[node->value + i], type, number))
                        return true;
        return !node->has_values;
}

static bool number_fits(const struct schema_node *node, double v) {
        if (node->whole && (v < floor(v) || v > floor(v)))
                return false;
        if (node->exclusive_low ? v <= node->low : v < node->low)
                return false;
        return !(node->exclusive_high ? v >= node->high : v > node->high);
}

static bool string_fits(const struct checking *c, const struct schema_node *node) {
        const struct json_check *check = c->check;

        if (check->length < node->low_length || check->length > node->high_length)
                return false;
        return !node->pattern || check->over ||
               pcre2_match(node->pattern, (PCRE2_SPTR)check->text, check->n, 0, PCRE2_NO_UTF_CHECK, c->schema->match,
                               c->schema->matching) != PCRE2_ERROR_NOMATCH;
}

/* Whether a value of that type, a scalar whole, may stand here; what else holds for it is looked at as well. */
static bool fits(const struct checking *c, enum json_type type, double number) {
        uint16_t at = c->check->node;

        for (unsigned steps = 0; steps < SCHEMA_DEPTH; steps++) {
                const struct schema_node *node = &c->schema->nodes[at];
                if (!(node->types >> type & 1) || !allowed(c, node, type, number))
                        return false;
                if (type == JSON_NUMBER && !number_fits(node, number))
                        return false;
                if (type == JSON_STRING && !string_fits(c, node))
                        return false;
                at = node->by_type[type];
                if (at == JSON_SCHEMA_ANY)
                        return true;
        }
        return true;
}

/* The node that says what is in a container. */
static uint16_t inside_of(const struct checking *c, enum json_type type) {
        uint16_t at = c->check->node;

        for (unsigned steps = 0; steps < SCHEMA_DEPTH && !c->schema->nodes[at].structured; steps++)
                at = c->schema->nodes[at].by_type[type];
        return at;
}

/* ---- containers ---- */

static const char *value_over(struct json_check *check) {
        check->at = check->depth == 0 ? AT_DONE : AT_NEXT;
        return NULL;
}

static const char *open(struct checking *c, bool object) {
        struct json_check *check = c->check;
        enum json_type type = object ? JSON_OBJECT : JSON_ARRAY;

        if (!fits(c, type, 0))
                return not_schema;
        if (check->depth == JSON_CHECK_DEPTH)
                return too_deep;
        check->level[check->depth++] = (struct json_check_level){.node = inside_of(c, type), .object = object};
        check->at = object ? AT_MEMBER : AT_ELEMENT;
        return NULL;
}

/* The next element begins: what it must be. */
static const char *element(struct checking *c) {
        struct json_check_level *level = &c->check->level[c->check->depth - 1];
        const struct schema_node *node = &c->schema->nodes[level->node];

        c->check->node = level->n < node->n_prefix ? c->schema->prefix[node->prefix + level->n] : node->items;
        c->check->at = AT_VALUE;
        return ++level->n > node->high_items ? not_schema : NULL;
}

/* A key is whole: what its value must be. */
static const char *member(struct checking *c) {
        struct json_check *check = c->check;
        struct json_check_level *level = &check->level[check->depth - 1];
        const struct schema_node *node = &c->schema->nodes[level->node];
        const struct schema_property *p = &c->schema->properties[node->property];

        check->node = node->additional;
        check->at = AT_COLON;
        for (uint32_t i = 0; i < node->n_properties; i++, p++) {
                if (check->over || p->n_name != check->n || memcmp(c->schema->text + p->name, check->text, check->n) != 0)
                        continue;
                check->node = p->node;
                if (i < node->n_required)
                        level->seen |= 1ull << i;
                break;
        }
        if (check->node == JSON_SCHEMA_NONE)
                return not_schema;
        return ++level->n > node->high_members ? not_schema : NULL;
}

static const char *close(struct checking *c, bool object) {
        struct json_check *check = c->check;
        const struct json_check_level *level;
        const struct schema_node *node;
        uint64_t all;

        if (check->depth == 0 || check->level[check->depth - 1].object != object)
                return not_json;
        level = &check->level[--check->depth];
        node = &c->schema->nodes[level->node];
        all = node->n_required == 64 ? UINT64_MAX : (1ull << node->n_required) - 1;
        if (object ? (level->seen & all) != all || level->n < node->low_members : level->n < node->low_items)
                return not_schema;
        return value_over(check);
}

/* ---- strings ---- */

static void begin_text(struct json_check *check, enum json_at at) {
        check->at = (uint8_t)at;
        check->n = 0;
        check->over = check->escape = 0;
        check->high = 0;
        check->length = 0;
}

static void keep(struct json_check *check, const char *p, uint32_t n) {
        if (check->over || check->n + n > JSON_CHECK_TEXT) {
                check->over = 1;
                return;
        }
        memcpy(check->text + check->n, p, n);
        check->n = (uint16_t)(check->n + n);
}

static void keep_character(struct json_check *check, uint32_t v) {
        char utf8[4];
        uint32_t n = v < 0x80 ? 1 : v < 0x800 ? 2 : v < 0x10000 ? 3 : 4;

        for (uint32_t i = n - 1; i > 0; i--, v >>= 6)
                utf8[i] = (char)(0x80 | (v & 0x3f));
        utf8[0] = (char)(n == 1 ? v : (0xf00u >> n & 0xffu) | v);
        keep(check, utf8, n);
        check->length++;
}

/* Half a pair that no other half follows stands for no character. */
static void half_over(struct json_check *check) {
        if (check->high)
                keep_character(check, 0xfffd);
        check->high = 0;
}

static void unit_over(struct json_check *check) {
        uint32_t unit = check->unit;

        if (check->high && unit >= 0xdc00 && unit <= 0xdfff) {
                keep_character(check, 0x10000 + ((check->high - 0xd800u) << 10) + (unit - 0xdc00));
                check->high = 0;
                return;
        }
        half_over(check);
        if (unit >= 0xd800 && unit <= 0xdbff)
                check->high = (uint16_t)unit;
        else
                keep_character(check, unit >= 0xdc00 && unit <= 0xdfff ? 0xfffd : unit);
}

static const char *escape(struct json_check *check, char c) {
        static const char letters[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
        const char *letter;
        uint32_t digit;

        if (check->escape == ESCAPED) {
                check->escape = c == 'u' ? 4 : 0;
                check->unit = 0;
                letter = c ? strchr(letters, c) : NULL;
                if (letter) {
                        half_over(check);
                        keep_character(check, (uint32_t)means[letter - letters]);
                }
                return c == 'u' || letter ? NULL : not_json;
        }
        if (c >= '0' && c <= '9')
                digit = (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
                digit = (uint32_t)((c | 0x20) - 'a') + 10;
        else
                return not_json;
        check->unit = (uint16_t)(check->unit << 4 | digit);
        if (--check->escape == 0)
                unit_over(check);
        return NULL;
}

static const char *in_string(struct checking *c, char ch) {
        struct json_check *check = c->check;

        if (check->escape)
                return escape(check, ch);
        if (ch == '\\') {
                check->escape = ESCAPED;
                return NULL;
        }
        half_over(check);
        if ((uint8_t)ch < 0x20)
                return not_json;
        if (ch != '"') {
                keep(check, &ch, 1);
                check->length += ((uint8_t)ch & 0xc0) != 0x80;
                return NULL;
        }
        if (check->at == AT_NAME)
                return member(c);
        return fits(c, JSON_STRING, 0) ? value_over(check) : not_schema;
}

/* ---- numbers and words ---- */

static uint32_t digits(const char *p, uint32_t at, uint32_t n) {
        while (at < n && p[at] >= '0' && p[at] <= '9')
                at++;
        return at;
}

/* Where the number ends that text begins with; n: it is one to its end. */
static uint32_t number_end(const char *p, uint32_t n) {
        uint32_t at = n > 0 && p[0] == '-', from = at;

        at = digits(p, at, n);
        if (at == from || (p[from] == '0' && at > from + 1))
                return UINT32_MAX;
        if (at < n && p[at] == '.') {
                from = at + 1;
                at = digits(p, from, n);
                if (at == from)
                        return UINT32_MAX;
        }
        if (at < n && (p[at] | 0x20) == 'e') {
                at++;
                at += at < n && (p[at] == '+' || p[at] == '-');
                from = at;
                at = digits(p, from, n);
                if (at == from)
                        return UINT32_MAX;
        }
        return at;
}

static const char *number_over(struct checking *c) {
        struct json_check *check = c->check;

        if (check->over || check->n == JSON_CHECK_TEXT || number_end(check->text, check->n) != check->n)
                return not_json;
        check->text[check->n] = '\0';
        return fits(c, JSON_NUMBER, strtod(check->text, NULL)) ? value_over(check) : not_schema;
}

static const char *in_word(struct checking *c, char ch) {
        static const struct {
                const char *word;
                enum json_type type;
        } words[] = {{"null", JSON_NULL}, {"true", JSON_TRUE}, {"false", JSON_FALSE}};
        struct json_check *check = c->check;

        keep(check, &ch, 1);
        for (unsigned i = 0; i < 3; i++) {
                if (strncmp(words[i].word, check->text, check->n) != 0)
                        continue;
                if (words[i].word[check->n])
                        return NULL;
                return fits(c, words[i].type, 0) ? value_over(check) : not_schema;
        }
        return not_json;
}

/* ---- between values ---- */

static const char *begin_value(struct checking *c, char ch) {
        struct json_check *check = c->check;

        if (check->at == AT_ELEMENT) {
                const char *why = ch == ']' ? NULL : element(c);
                if (ch == ']' || why)
                        return ch == ']' ? close(c, false) : why;
        }
        if (ch == '{' || ch == '[')
                return open(c, ch == '{');
        if (ch == '"') {
                begin_text(check, AT_STRING);
                return NULL;
        }
        if (ch == '-' || (ch >= '0' && ch <= '9')) {
                begin_text(check, AT_NUMBER);
                keep(check, &ch, 1);
                return NULL;
        }
        begin_text(check, AT_WORD);
        return in_word(c, ch);
}

static const char *next(struct checking *c, char ch) {
        struct json_check *check = c->check;
        bool object = check->level[check->depth - 1].object;

        if (ch == '}' || ch == ']')
                return close(c, ch == '}');
        if (ch != ',')
                return not_json;
        if (!object)
                return element(c);
        check->at = AT_KEY;
        return NULL;
}

static const char *between(struct checking *c, char ch) {
        struct json_check *check = c->check;

        if (ch == ' ' || ch == '\n' || ch == '\t' || ch == '\r')
                return NULL;
        switch ((enum json_at)check->at) {
        case AT_VALUE:
        case AT_ELEMENT:
                return begin_value(c, ch);
        case AT_MEMBER:
        case AT_KEY:
                if (ch == '}' && check->at == AT_MEMBER)
                        return close(c, true);
                begin_text(check, AT_NAME);
                return ch == '"' ? NULL : not_json;
        case AT_COLON:
                check->at = AT_VALUE;
                return ch == ':' ? NULL : not_json;
        case AT_NEXT:
                return next(c, ch);
        case AT_DONE:
        case AT_STRING:
        case AT_NAME:
        case AT_NUMBER:
        case AT_WORD:
                break;
        }
        return not_json;
}

/* ---- a text ---- */

static bool of_number(char c) {
        return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || (c | 0x20) == 'e';
}

static const char *step(struct checking *c, char ch) {
        struct json_check *check = c->check;
        const char *why;

        if (check->at == AT_STRING || check->at == AT_NAME)
                return in_string(c, ch);
        if (check->at == AT_WORD)
                return in_word(c, ch);
        if (check->at != AT_NUMBER)
                return between(c, ch);
        if (of_number(ch)) {
                keep(check, &ch, 1);
                return NULL;
        }
        why = number_over(c);
        return why ? why : between(c, ch);
}

/* The root's node is the first that is looked at. */
static struct checking checking_of(struct json_check *check, const struct json_schema *schema) {
        if (check->at == AT_VALUE && check->depth == 0)
                check->node = (uint16_t)schema->root;
        return (struct checking){check, schema};
}

uint32_t json_check_feed(struct json_check *check, const struct json_schema *schema, const char *text, uint32_t n,
                const char **ret_why) {
        struct checking c = checking_of(check, schema);

        *ret_why = NULL;
        for (uint32_t i = 0; i < n; i++) {
                *ret_why = step(&c, text[i]);
                if (*ret_why)
                        return i;
        }
        return n;
}

const char *json_check_end(struct json_check *check, const struct json_schema *schema) {
        struct checking c = checking_of(check, schema);
        const char *why = check->at == AT_NUMBER ? number_over(&c) : NULL;

        if (why)
                return why;
        return check->at == AT_DONE ? NULL : cut;
}
