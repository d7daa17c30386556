#include "stages/engines/tokens/chat.h"

#include <stddef.h>
#include <string.h>

#define SEAM_MAX 64u
#define MESSAGES_DEPTH 2u /* of the array; a message is one deeper */

/* ---- text ------------------------------------------------------------------------------------ */

static bool is_space(char c) {
        return c == ' ' || (c >= '\t' && c <= '\r');
}

static void text_flush(struct chat_count *c, uint32_t n) {
        tokens_count(&c->count, c->text, n);
        c->n_text -= n;
        memmove(c->text, c->text + n, c->n_text);
}

/* How much of a full text to count alone: up to a white space, which goes with what follows it, else up
 * to a character. */
static uint32_t text_cut(const struct chat_count *c) {
        const uint32_t least = CHAT_TEXT_MAX / 2;
        uint32_t cut = CHAT_TEXT_MAX - 1;

        while (cut > least && !is_space(c->text[cut]))
                cut--;
        if (cut > least)
                return cut;
        cut = CHAT_TEXT_MAX - 1;
        while (cut > least && ((uint8_t)c->text[cut] & 0xc0) == 0x80)
                cut--;
        return cut > least ? cut : CHAT_TEXT_MAX;
}

static void text_keep(struct chat_count *c, const char *p, uint32_t n) {
        while (n > 0) {
                uint32_t room = CHAT_TEXT_MAX - c->n_text, part = n < room ? n : room;
                memcpy(c->text + c->n_text, p, part);
                c->n_text += part;
                p += part;
                n -= part;
                if (c->n_text == CHAT_TEXT_MAX)
                        text_flush(c, text_cut(c));
        }
}

/* Where a run of text may be parted: before a white space within so many bytes, else before a character. */
static uint32_t seam(const char *p, uint32_t n, uint32_t at) {
        for (uint32_t i = 0; i < SEAM_MAX && at + i < n; i++)
                if (is_space(p[at + i]))
                        return at + i;
        while (at < n && ((uint8_t)p[at] & 0xc0) == 0x80)
                at++;
        return at;
}

/* A long run counts where it lies, all but its end, which what follows may continue. */
static void text_put(struct chat_count *c, const char *p, uint32_t n) {
        uint32_t from = 0, to;

        if (n >= CHAT_RUN_MIN) {
                from = c->n_text ? seam(p, n, 0) : 0;
                to = seam(p, n, n - 2 * SEAM_MAX);
                text_keep(c, p, from);
                text_flush(c, c->n_text);
                if (to > from)
                        tokens_count(&c->count, p + from, to - from);
                from = to > from ? to : from;
        }
        text_keep(c, p + from, n - from);
}

static void text_put_code(struct chat_count *c, uint32_t code) {
        char to[4];
        uint32_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;

        for (uint32_t i = n - 1; i > 0; i--, code >>= 6)
                to[i] = (char)(0x80 | (code & 0x3f));
        to[0] = (char)(n == 1 ? code : code | (0xf00u >> n & 0xffu));
        text_put(c, to, n);
}

/* ---- strings --------------------------------------------------------------------------------- */

static bool key_is(const struct chat_count *c, const char *name) {
        return c->n_key == strlen(name) && memcmp(c->key, name, c->n_key) == 0;
}

static bool key_is_any(const struct chat_count *c, const char *const *names, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (key_is(c, names[i]))
                        return true;
        return false;
}

#define KEY_IS_ANY(c, names) key_is_any(c, names, sizeof(names) / sizeof((names)[0]))

static bool shows_text(const struct chat_count *c) {
        static const char *const texts[] = {"content", "text", "arguments", "name", "refusal",
                        "reasoning", "reasoning_content", "input", "thinking"};

        return c->part == CHAT_PROMPT || (c->part == CHAT_MESSAGES && KEY_IS_ANY(c, texts));
}

/* A key that ends: a part of the body at the top, a message's media below. */
static void key_end(struct chat_count *c) {
        static const char *const prompts[] = {"prompt", "input"};
        static const char *const declared[] = {"tools", "functions", "response_format"};
        static const char *const media[] = {"image_url", "input_audio", "image", "file", "video_url",
                        "audio_url", "source"};

        if (c->depth == 1)
                c->part = key_is(c, "messages")          ? CHAT_MESSAGES
                          : KEY_IS_ANY(c, prompts)       ? CHAT_PROMPT
                          : KEY_IS_ANY(c, declared)      ? CHAT_DECLARED
                                                         : CHAT_NOTHING;
        if (c->part != CHAT_MESSAGES || !KEY_IS_ANY(c, media))
                return;
        c->exact = false;
        c->count.cost[TOKENS_OTHER] += CHAT_MEDIA_COST;
}

static void string_begin(struct chat_count *c) {
        c->in_string = true;
        c->is_key = c->wants_key;
        c->counts = !c->is_key && shows_text(c);
        if (c->is_key)
                c->n_key = 0;
}

static void string_end(struct chat_count *c) {
        c->in_string = false;
        if (c->is_key)
                key_end(c);
        c->high = 0;
        if (c->counts)
                text_flush(c, c->n_text);
        c->counts = false;
}

/* A key too long to be one that counts is as good as none. */
static void key_put(struct chat_count *c, const char *p, uint32_t n) {
        uint32_t room = CHAT_KEY_MAX - c->n_key;

        memcpy(c->key + c->n_key, p, n < room ? n : room);
        c->n_key += n < room ? n : room;
}

static void hex_put(struct chat_count *c, char digit) {
        uint32_t v = digit <= '9' ? (uint32_t)digit - '0' : ((uint32_t)digit | 0x20u) - 'a' + 10;

        c->code = c->code << 4 | (v & 15u);
        if (--c->hex_left > 0 || !c->counts)
                return;
        if (c->code >= 0xd800 && c->code < 0xdc00) {
                c->high = c->code;
                return;
        }
        if (c->high && c->code >= 0xdc00 && c->code < 0xe000)
                c->code = 0x10000 + ((c->high - 0xd800) << 10) + (c->code - 0xdc00);
        c->high = 0;
        text_put_code(c, c->code);
}

static void escape_put(struct chat_count *c, char letter) {
        static const char from[] = "nrtbf", to[] = "\n\r\t\b\f";
        const char *at = memchr(from, letter, sizeof(from) - 1);

        c->escaped = false;
        if (letter == 'u') {
                c->hex_left = 4;
                c->code = 0;
        } else if (c->counts) {
                text_put(c, at ? &to[at - from] : &letter, 1);
        }
}

/* As much of a string as is there. */
static uint32_t string_feed(struct chat_count *c, const char *p, uint32_t n) {
        uint32_t i = 0;

        if (c->hex_left) {
                hex_put(c, *p);
                return 1;
        }
        if (c->escaped) {
                escape_put(c, *p);
                return 1;
        }
        if (!c->counts && !c->is_key) { /* it may be a picture */
                const char *end = memchr(p, '"', n), *slash = memchr(p, '\\', end ? (size_t)(end - p) : n);
                i = slash ? (uint32_t)(slash - p) : end ? (uint32_t)(end - p) : n;
        }
        while (i < n && p[i] != '"' && p[i] != '\\')
                i++;
        if (c->is_key)
                key_put(c, p, i);
        else if (c->counts)
                text_put(c, p, i);
        if (i == n)
                return n;
        if (p[i] == '"')
                string_end(c);
        else
                c->escaped = true;
        return i + 1;
}

/* ---- what is around them --------------------------------------------------------------------- */

static void open_container(struct chat_count *c, bool object) {
        if (c->part == CHAT_MESSAGES && c->depth == MESSAGES_DEPTH && object)
                c->count.cost[TOKENS_CHAT] += CHAT_MESSAGE_COST;
        if (c->part == CHAT_MESSAGES && c->depth + 1 == MESSAGES_DEPTH && !object)
                c->count.cost[TOKENS_CHAT] += CHAT_COST;
        if (c->depth < CHAT_DEPTH_MAX) {
                c->in_object &= ~(UINT64_C(1) << c->depth);
                c->in_object |= (uint64_t)object << c->depth;
        }
        c->depth++;
        c->wants_key = object;
}

static void close_container(struct chat_count *c) {
        c->depth -= c->depth > 0;
        c->wants_key = false;
        if (c->depth == 1)
                c->part = CHAT_NOTHING;
}

static bool inside_object(const struct chat_count *c) {
        return c->depth > 0 && c->depth <= CHAT_DEPTH_MAX && c->in_object >> (c->depth - 1) & 1;
}

static void sign_feed(struct chat_count *c, char byte) {
        bool digit = byte >= '0' && byte <= '9';

        if (digit && !c->in_number && c->part == CHAT_PROMPT)
                c->count.cost[TOKENS_OTHER] += TOKENS_UNIT; /* a prompt of tokens */
        c->in_number = digit;
        switch (byte) {
        case '"':
                string_begin(c);
                return;
        case '{':
        case '[':
                open_container(c, byte == '{');
                return;
        case '}':
        case ']':
                close_container(c);
                return;
        case ',':
                c->wants_key = inside_object(c);
                if (c->depth == 1)
                        c->part = CHAT_NOTHING;
                return;
        case ':':
                c->wants_key = false;
                return;
        default:
                return;
        }
}

void chat_begin(struct chat_count *c) {
        memset(c, 0, offsetof(struct chat_count, text));
        c->exact = true;
}

void chat_feed(struct chat_count *c, const char *bytes, uint32_t n) {
        uint32_t at = 0;

        while (at < n) {
                enum chat_part part = c->part;
                uint32_t from = at;
                if (c->in_string)
                        at += string_feed(c, bytes + at, n - at);
                else
                        sign_feed(c, bytes[at++]);
                if (part == CHAT_DECLARED) {
                        text_put(c, bytes + from, at - from);
                        if (c->part != CHAT_DECLARED)
                                text_flush(c, c->n_text);
                }
        }
}

void chat_end(struct chat_count *c) {
        text_flush(c, c->n_text);
}
