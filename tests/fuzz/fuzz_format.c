/* The form of texts: a model's text, a client's stop strings and a client's schema, all foreign. However the text is
 * cut, what becomes of it is the same, and of a text that is stopped nothing is said that has a stop string in it.
 *
 * Input: a byte that seeds the cuts, then up to a zero byte what the client asks for, then the text. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/format/json_check.h"
#include "stages/engines/format/markdown.h"
#include "stages/engines/format/stops.h"
#include "stages/engines/format/trim.h"
#include "stages/engines/json/body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TEXT_MAX 4096u
#define OUT_MAX (TEXT_MAX + MARKDOWN_HELD + TRIM_HELD + STOPS_BYTES)

struct out {
        char text[OUT_MAX];
        uint32_t n;
};

/* Text in pieces: whole with seed 0, byte by byte with 1, else at random. */
static uint32_t piece(unsigned *seed, uint32_t left) {
        uint32_t n = *seed == 0 ? left : *seed == 1 ? 1 : 1 + (uint32_t)rand_r(seed) % 9;

        return n < left ? n : left;
}

static void plain(unsigned seed, const char *text, uint32_t n, struct out *out) {
        static struct markdown m;
        struct trim trim = {0};
        char between[OUT_MAX];

        out->n = 0;
        for (uint32_t at = 0, step; at < n; at += step) {
                step = piece(&seed, n - at);
                uint32_t got = markdown_feed(&m, text + at, step, between);
                assert(got <= step + MARKDOWN_HELD);
                out->n += trim_feed(&trim, between, got, out->text + out->n);
        }
        out->n += trim_feed(&trim, between, markdown_flush(&m, between), out->text + out->n);
}

static void stopped(const struct stops *stops, unsigned seed, const char *text, uint32_t n, struct out *out) {
        struct stops_state state = {{0}};
        bool over = false;

        out->n = 0;
        for (uint32_t at = 0, step; at < n && !over; at += step) {
                step = piece(&seed, n - at);
                out->n += stops_feed(stops, &state, text + at, step, out->text + out->n, &over);
        }
        if (!over)
                out->n += stops_flush(stops, &state, out->text + out->n);
        for (uint32_t i = 0; i < stops->n; i++)
                assert(!memmem(out->text, out->n, stops->v[i].text, stops->v[i].n));
}

static uint32_t right(const struct json_schema *schema, unsigned seed, const char *text, uint32_t n, const char **ret_why) {
        static struct json_check check;
        uint32_t at = 0;

        memset(&check, 0, sizeof(check));
        *ret_why = NULL;
        while (at < n && !*ret_why)
                at += json_check_feed(&check, schema, text + at, piece(&seed, n - at), ret_why);
        if (!*ret_why)
                *ret_why = json_check_end(&check, schema);
        return at;
}

static void same(const struct out *a, const struct out *b) {
        assert(a->n == b->n && !memcmp(a->text, b->text, a->n));
}

/* A schema comes out of a body that was scanned: it is JSON. */
static struct json_schema *schema_of(const char *text, uint32_t n) {
        static struct body_scanner *scanner;
        static struct body_found found;
        static const char before[] = "{\"messages\":[{\"role\":\"user\"}],\"response_format\":";
        struct json_schema *schema = NULL;
        char body[TEXT_MAX + sizeof(before) + 2];
        uint32_t len = sizeof(before) - 1;

        if (!scanner && body_scanner_new(&scanner))
                abort();
        memcpy(body, before, len);
        memcpy(body + len, text, n);
        body[len + n] = '}';
        if (body_scan(scanner, BODY_CHAT, body, len + n + 1, &found) || found.format.len == 0)
                return NULL;
        if (json_schema_of(body + found.format.off, found.format.len, &schema))
                abort();
        return schema;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static struct out whole, cut;
        static struct stops stops;
        const char *asked = (const char *)data + 1, *text, *why, *why_cut;
        struct json_schema *schema;
        uint32_t n_asked, n;

        if (size < 2 || size > TEXT_MAX)
                return 0;
        n_asked = (uint32_t)strnlen(asked, size - 1);
        n = (uint32_t)size - 1 - n_asked;
        n -= n > 0;
        text = n ? asked + n_asked + 1 : "";
        plain(0, text, n, &whole);
        for (unsigned seed = 1; seed <= 2; seed++) {
                plain(seed == 1 ? 1 : 2 + data[0], text, n, &cut);
                same(&whole, &cut);
        }
        if (stops_read(&stops, asked, n_asked) >= 0) {
                stopped(&stops, 0, text, n, &whole);
                stopped(&stops, 1, text, n, &cut);
                same(&whole, &cut);
        }
        schema = schema_of(asked, n_asked);
        if (!schema)
                return 0;
        n_asked = right(schema, 0, text, n, &why);
        assert(right(schema, 1, text, n, &why_cut) == n_asked && why == why_cut);
        assert(right(schema, 2 + data[0], text, n, &why_cut) == n_asked && why == why_cut);
        json_schema_free(schema);
        return 0;
}
