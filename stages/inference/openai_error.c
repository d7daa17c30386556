#include "stages/inference/openai_error.h"

#include <string.h>
#include <strings.h>

#include "stages/engines/json/json.h"

/* Words in a backend's `type` or `code`; the first that is found decides. */
static const struct {
        const char *word;
        enum mr_error code;
        bool final; /* trying again cannot help */
} words[] = {
                {"context_length", MR_E_context_length_exceeded, true},
                {"exceed_context", MR_E_context_length_exceeded, true},
                {"content_filter", MR_E_content_filtered, true},
                {"content_policy", MR_E_content_filtered, true},
                {"model_not_found", MR_E_model_not_found, true},
                {"insufficient_quota", MR_E_rate_limited, true},
                {"rate_limit", MR_E_rate_limited, false},
                {"slow_down", MR_E_rate_limited, false},
                {"too_many_requests", MR_E_rate_limited, false},
                {"overloaded", MR_E_overloaded, false},
                {"service_unavailable", MR_E_overloaded, false},
                {"unavailable_error", MR_E_overloaded, false},
                {"timeout", MR_E_upstream_timeout, false},
                {"authentication", MR_E_upstream_error, true},
                {"permission", MR_E_upstream_error, true},
                {"api_key", MR_E_upstream_error, true},
                {"invalid_request", MR_E_invalid_request, true},
                {"badrequest", MR_E_invalid_request, true},
};

/* The same as numbers, where `code` is one. */
static const struct {
        const char *number;
        enum mr_error code;
        bool final;
} numbers[] = {
                {"400", MR_E_invalid_request, true},
                {"401", MR_E_upstream_error, true},
                {"403", MR_E_upstream_error, true},
                {"404", MR_E_model_not_found, true},
                {"413", MR_E_too_large, true},
                {"422", MR_E_invalid_request, true},
                {"429", MR_E_rate_limited, false},
                {"503", MR_E_overloaded, false},
                {"504", MR_E_upstream_timeout, false},
                {"529", MR_E_overloaded, false},
};

static bool has_word(const struct chunk_str *s, const char *word) {
        size_t n = strlen(word);

        for (size_t i = 0; s->p && i + n <= s->n; i++)
                if (strncasecmp(s->p + i, word, n) == 0)
                        return true;
        return false;
}

static bool is_text(const struct chunk_str *s, const char *text) {
        return s->p && strlen(text) == s->n && memcmp(s->p, text, s->n) == 0;
}

/* The class that the backend's words name; MR_E_none: none. */
static enum mr_error class_of(
                const struct chunk_failure *failure, bool with_numbers, bool *ret_final) {
        for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
                if (has_word(&failure->code, words[i].word) ||
                                has_word(&failure->type, words[i].word)) {
                        *ret_final = words[i].final;
                        return words[i].code;
                }
        }
        for (size_t i = 0; with_numbers && i < sizeof(numbers) / sizeof(*numbers); i++) {
                if (is_text(&failure->code, numbers[i].number)) {
                        *ret_final = numbers[i].final;
                        return numbers[i].code;
                }
        }
        return MR_E_none;
}

/* What follows from a class: whose fault, and who might do better. */
static struct attempt_failure failure_of(enum mr_error code, bool final) {
        struct attempt_failure f = {.code = code};

        switch (code) {
        case MR_E_invalid_request:
        case MR_E_context_length_exceeded:
        case MR_E_content_filtered:
        case MR_E_too_large:
                return f; /* the request's own fault: nobody else would like it either */
        case MR_E_model_not_found:
                f.fall_back = true;
                return f;
        default:
                f.fall_back = true;
                f.retry = !final;
                f.blame = code != MR_E_rate_limited;
                return f;
        }
}

static enum mr_error class_of_400(const struct chunk_failure *failure) {
        bool final;
        enum mr_error code = class_of(failure, false, &final);

        if (code == MR_E_context_length_exceeded || code == MR_E_content_filtered ||
                        code == MR_E_model_not_found)
                return code;
        return MR_E_invalid_request;
}

struct attempt_failure openai_http_failure(
                unsigned status, const struct chunk_failure *failure, uint64_t retry_after_ms) {
        bool final = false;
        enum mr_error code = class_of(failure, false, &final);
        struct attempt_failure f;

        if (status == 400 || status == 422)
                f = failure_of(class_of_400(failure), true);
        else if (status == 413)
                f = failure_of(MR_E_too_large, true);
        else if (status == 404)
                f = failure_of(code == MR_E_model_not_found || has_word(&failure->message, "model")
                                                ? MR_E_model_not_found
                                                : MR_E_upstream_error,
                                true);
        else if (status == 429)
                f = failure_of(MR_E_rate_limited, code == MR_E_rate_limited && final);
        else if (status == 408)
                f = failure_of(MR_E_upstream_timeout, false);
        else if (status >= 500 && code == MR_E_overloaded)
                f = failure_of(MR_E_overloaded, false);
        else
                f = failure_of(MR_E_upstream_error, status < 500 || status == 501);
        f.retry_after_ms = retry_after_ms;
        return f;
}

struct attempt_failure openai_stream_failure(const struct chunk_failure *failure) {
        bool final = false;
        enum mr_error code = class_of(failure, true, &final);

        return failure_of(code == MR_E_none ? MR_E_upstream_error : code, final);
}

static bool has_secret(const struct chunk_str *s, const char *secret) {
        return secret && *secret && s->n && memmem(s->p, s->n, secret, strlen(secret));
}

static bool is_printable(const struct chunk_str *s) {
        for (uint32_t i = 0; i < s->n; i++)
                if ((unsigned char)s->p[i] < 0x20 || s->p[i] == 0x7f)
                        return false;
        return json_utf8_bad(s->p, s->n) == s->n;
}

static void own_word(const struct chunk_str *s, const char *secret, char to[static ATTEMPT_OWN_MAX]) {
        if (!s->p || s->n >= ATTEMPT_OWN_MAX || !is_printable(s) || has_secret(s, secret))
                return;
        memcpy(to, s->p, s->n);
        to[s->n] = '\0';
}

void openai_own(const struct chunk_failure *failure, const char *secret, struct attempt_failure *to) {
        switch (to->code) {
        case MR_E_invalid_request:
        case MR_E_context_length_exceeded:
        case MR_E_content_filtered:
        case MR_E_rate_limited:
                own_word(&failure->code, secret, to->own.code);
                own_word(&failure->param, secret, to->own.param);
                if (strspn(to->own.code, "-0123456789") == strlen(to->own.code))
                        to->own.code[0] = '\0';
                return;
        default:
                return; /* what is wrong behind the door is told in millrace's words */
        }
}

void openai_message(const struct chunk_failure *failure, const char *secret,
                char to[static OPENAI_MESSAGE_MAX]) {
        const struct chunk_str *message = &failure->message;
        uint32_t n = message->p ? message->n : 0, valid;

        to[0] = '\0';
        if (n == 0 || has_secret(message, secret))
                return;
        n = json_utf8_cut(message->p, n, OPENAI_MESSAGE_MAX - 1);
        valid = json_utf8_bad(message->p, n);
        if (valid < n)
                n = valid;
        for (uint32_t i = 0; i < n; i++)
                to[i] = (unsigned char)message->p[i] < 0x20 || message->p[i] == 0x7f
                                        ? ' '
                                        : message->p[i];
        to[n] = '\0';
}
