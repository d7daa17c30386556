/*
 * compose_body: a client's own body, looked at and, where it is of the Responses API, translated; the
 * buffer for bodies that are built (compose.h).
 */
#include <stdlib.h>
#include <string.h>

#include "stages/gateway/compose_own.h"
#include "stages/gateway/responses_body.h"

/* ---- the buffer for what is built: it grows until it fits, up to the limit ---- */

int composer_begin(struct composer *composer, struct ask_error *error) {
        if (composer->built_cap > COMPOSER_KEEP) {
                free(composer->built);
                composer->built_cap = COMPOSER_KEEP;
                composer->built = malloc(COMPOSER_KEEP);
        }
        if (composer->built)
                return 0;
        composer->built_cap = 0;
        return ask_fail(error, MR_E_overloaded, "out of memory");
}

struct json_buf composer_buf(const struct composer *composer) {
        return (struct json_buf){.at = composer->built, .cap = composer->built_cap};
}

bool composer_fits(const struct composer *composer, const struct json_buf *out) {
        return !out->full && out->len <= composer->max_body_bytes;
}

int composer_more(struct composer *composer, const struct json_buf *out, const char *what,
                struct ask_error *error) {
        char *more;

        if (!out->full || composer->built_cap >= composer->max_body_bytes)
                return ask_fail(error, MR_E_too_large, "%s larger than the %llu bytes allowed", what,
                                (unsigned long long)composer->max_body_bytes);
        more = realloc(composer->built, (size_t)composer->built_cap * 2);
        if (!more)
                return ask_fail(error, MR_E_overloaded, "out of memory");
        composer->built = more;
        composer->built_cap *= 2;
        return 0;
}

/* ---- a client's own body ---- */

static int scan(struct composer *composer, enum body_kind kind, struct mr_view body,
                struct ask_error *error) {
        struct body_found *found = &composer->found;
        int r;

        if (body.n > composer->max_body_bytes)
                return ask_fail(error, MR_E_too_large,
                                "body: %u bytes, at most %llu are allowed", body.n,
                                (unsigned long long)composer->max_body_bytes);
        r = body_scan(composer->scanner, kind, body.p, body.n, found);
        if (r < 0)
                return ask_fail(error, MR_E_overloaded, "out of memory");
        if (r == 0)
                return 0;
        ask_fail(error, MR_E_invalid_request, "body: %s", found->error);
        memcpy(error->param, found->member, sizeof(error->param));
        return (int)error->code;
}

/* The chat body of a body of the Responses API that was scanned. */
static int translate(struct composer *composer, const struct ask *ask, struct mr_view *ret_body,
                struct ask_error *error) {
        const struct json_text text = {ask->text.p, ask->text.n};
        struct responses_bad bad;

        if (composer_begin(composer, error))
                return (int)error->code;
        for (;;) {
                struct json_buf out = composer_buf(composer);

                if (responses_body(&out, text, &bad)) {
                        ask_fail(error, MR_E_invalid_request, "body: %s", bad.text);
                        memcpy(error->param, bad.member, sizeof(error->param));
                        return (int)error->code;
                }
                if (composer_fits(composer, &out)) {
                        *ret_body = (struct mr_view){out.at, out.len};
                        return 0;
                }
                if (composer_more(composer, &out, "body: as a chat", error))
                        return (int)error->code;
        }
}

int compose_body(struct composer *composer, const struct ask *ask, struct composed *ret,
                struct ask_error *error) {
        const struct body_found *found = &composer->found;

        ret->body = ask->text;
        if (scan(composer, ask->kind, ask->text, error))
                return (int)error->code;
        if (ask->kind != BODY_RESPONSES)
                return 0;
        if (found->background) {
                ret->options |= OPTION_DETACH;
                ret->followed = found->stream;
        }
        ret->options |= OPTION_BODY_BUILT;
        if (translate(composer, ask, &ret->body, error))
                return (int)error->code;
        return scan(composer, BODY_CHAT, ret->body, error);
}
