/* A body that prompts are redacted in, behind a byte that says where it is cut into pieces: what it becomes does
 * not depend on the cuts, and is JSON that has its texts in the same places. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stages/assemble/prompt_own.h"
#include "stages/assemble/prompt_texts.h"
#include "stages/assemble/redact_prompt.h"

#define BODY_MAX 16384u
#define OUT_MAX (BODY_MAX * 16u)
#define PIECES 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct redact_prompt *redacting;
static struct prompt prompt;
static msgpack_object items[PIECES], spans[PIECES][2];

static void start(void) {
        static char *entities[] = {"all"};
        struct settings *settings = NULL;
        struct redact_why why;

        if (settings_default(&settings))
                abort();
        settings->post.redact.entities.v = entities;
        settings->post.redact.entities.n = 1;
        settings->post.redact.restore = true;
        if (redact_prompt_new(settings, &redacting, &why))
                abort();
        settings->post.redact.entities.v = NULL;
        settings->post.redact.entities.n = 0;
        settings_free(settings);
        prompt.literal = malloc(PROMPT_LITERAL_MAX);
        if (!prompt.literal)
                abort();
}

/* The body in n pieces, every other of them a literal. */
static void pieces_of(const char *body, uint32_t len, uint32_t n) {
        uint32_t at = 0;

        memcpy(prompt.literal, body, len);
        for (uint32_t i = 0; i < n; i++) {
                uint32_t end = i + 1 == n ? len : at + (len - at) / 2;
                spans[i][0] = (msgpack_object){.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = at};
                spans[i][1] = (msgpack_object){.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = end - at};
                items[i] = (msgpack_object){.type = MSGPACK_OBJECT_ARRAY, .via.array = {2, spans[i]}};
                if (i % 2)
                        items[i] = (msgpack_object){.type = MSGPACK_OBJECT_BIN,
                                        .via.bin = {end - at, prompt.literal + at}};
                at = end;
        }
        prompt.pieces = (msgpack_object){.type = MSGPACK_OBJECT_ARRAY, .via.array = {n, items}};
}

static uint32_t put_together(const char *body, char *to) {
        uint32_t n = 0;

        for (uint32_t i = 0; i < prompt.pieces.via.array.size; i++) {
                const msgpack_object *piece = &prompt.pieces.via.array.ptr[i];
                struct mr_view text = {NULL, 0};
                if (piece->type == MSGPACK_OBJECT_ARRAY && piece->via.array.size == 3)
                        piece = &piece->via.array.ptr[2];
                if (piece->type == MSGPACK_OBJECT_BIN)
                        text = (struct mr_view){piece->via.bin.ptr, piece->via.bin.size};
                else
                        text = (struct mr_view){body + piece->via.array.ptr[0].via.u64,
                                        (uint32_t)piece->via.array.ptr[1].via.u64};
                if (text.n > OUT_MAX - n)
                        abort();
                memcpy(to + n, text.p, text.n);
                n += text.n;
        }
        return n;
}

static int redact(const char *body, uint32_t len, uint32_t n_pieces, char *to, uint32_t *ret_len) {
        struct record record = {.has = HAS(body) | HAS(body_len), .body = {body, len}, .body_len = len};
        struct mr_view note;
        int r;

        pieces_of(body, len, n_pieces);
        r = redact_prompt(redacting, &prompt, &record, NULL, &note);
        if (r == 0)
                *ret_len = put_together(body, to);
        return r;
}

static int count(void *ctx, struct json_text value, enum prompt_text kind) {
        (void)value, (void)kind;
        ++*(uint32_t *)ctx;
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static char one[OUT_MAX], more[OUT_MAX];
        const char *body = (const char *)data + 1;
        uint32_t n = 0, n_more = 0, texts = 0, texts_after = 0;
        int r;

        if (size < 2 || size > BODY_MAX)
                return 0;
        if (!redacting)
                start();
        r = redact(body, (uint32_t)size - 1, 1, one, &n);
        if (redact(body, (uint32_t)size - 1, 2 + data[0] % (PIECES - 1), more, &n_more) != r)
                abort();
        if (r)
                return 0;
        if (n != n_more || memcmp(one, more, n) != 0)
                abort();
        if (prompt_texts((struct json_text){body, (uint32_t)size - 1}, ENDPOINT_CHAT, count, &texts) ||
                        prompt_texts((struct json_text){one, n}, ENDPOINT_CHAT, count, &texts_after) ||
                        texts != texts_after)
                abort();
        return 0;
}
