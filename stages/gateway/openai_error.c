/*
 * openai_error: the error bodies of OpenAI's dialect (openai_json.h).
 */
#include <string.h>

#include "stages/gateway/openai_json.h"

#define ERROR_FIXED 192u

/* Contract, section 2. code NULL: millrace's own name. */
static const struct {
        const char *type, *code;
} kinds[MR_ERRORS_N] = {
                [MR_E_none] = {"server_error", NULL},
                [MR_E_invalid_request] = {"invalid_request_error", NULL},
                [MR_E_context_length_exceeded] = {"invalid_request_error", NULL},
                [MR_E_unauthorized] = {"authentication_error", "invalid_api_key"},
                [MR_E_forbidden] = {"permission_error", NULL},
                [MR_E_not_found] = {"invalid_request_error", NULL},
                [MR_E_model_not_found] = {"invalid_request_error", NULL},
                [MR_E_id_conflict] = {"invalid_request_error", NULL},
                [MR_E_gone] = {"invalid_request_error", NULL},
                [MR_E_too_large] = {"invalid_request_error", NULL},
                [MR_E_rate_limited] = {"rate_limit_error", "rate_limit_exceeded"},
                [MR_E_cancelled] = {"cancelled", NULL},
                [MR_E_internal] = {"server_error", NULL},
                [MR_E_dead_letter] = {"server_error", NULL},
                [MR_E_upstream_error] = {"server_error", NULL},
                [MR_E_overloaded] = {"server_error", NULL},
                [MR_E_draining] = {"server_error", NULL},
                [MR_E_worker_restarted] = {"server_error", NULL},
                [MR_E_deadline_exceeded] = {"server_error", NULL},
                [MR_E_upstream_timeout] = {"server_error", NULL},
                [MR_E_content_filtered] = {"invalid_request_error", "content_filter"},
};

static struct mr_view view(const char *text) {
        return (struct mr_view){text, (uint32_t)strlen(text)};
}

static enum mr_error code_of(const struct openai_error *error) {
        return error->code > MR_E_none && error->code < MR_ERRORS_N ? error->code : MR_E_internal;
}

struct openai_error openai_error_of(const struct record *error) {
        struct openai_error e = {.code = MR_E_internal};

        if (error->has & HAS(code) && error->code > MR_E_none && error->code < MR_ERRORS_N)
                e.code = (enum mr_error)error->code;
        e.message = error->has & HAS(message) ? error->message : view(mr_error_name(e.code));
        if (error->has & HAS(own_code))
                e.own_code = error->own_code;
        if (error->has & HAS(own_param))
                e.param = error->own_param;
        return e;
}

uint32_t openai_error_bound(const struct openai_error *error) {
        return ERROR_FIXED + openai_text_piece_bound(error->message) +
               openai_text_piece_bound(error->param) + openai_text_piece_bound(error->own_code);
}

static void put_string(struct json_buf *b, struct mr_view text) {
        json_put(b, "\"", 1);
        json_put_mended(b, text.p, text.n);
        json_put(b, "\"", 1);
}

struct mr_view openai_error_code(const struct openai_error *error) {
        enum mr_error code = code_of(error);

        if (error->own_code.n > 0)
                return error->own_code;
        return view(kinds[code].code ? kinds[code].code : mr_error_name(code));
}

bool openai_error_retryable(const struct openai_error *error) {
        static const char quota[] = "insufficient_quota"; /* rate_limited, but waiting does not help */

        return mr_error_retryable(code_of(error)) &&
               (error->own_code.n != sizeof(quota) - 1 ||
                               memcmp(error->own_code.p, quota, sizeof(quota) - 1) != 0);
}

void openai_error_body(struct json_buf *b, const struct openai_error *error) {
        enum mr_error code = code_of(error);

        json_put_text(b, "{\"error\":{\"message\":");
        put_string(b, error->message);
        json_put_text(b, ",\"type\":");
        put_string(b, view(kinds[code].type));
        json_put_text(b, ",\"param\":");
        if (error->param.n > 0)
                put_string(b, error->param);
        else
                json_put_text(b, "null");
        json_put_text(b, ",\"code\":");
        put_string(b, openai_error_code(error));
        json_put_text(b, "}}");
}
