/*
 * compose_bounds: what a request says of how long its answer is to be, and in which form.
 */
#include <stdio.h>

#include "stages/engines/format/stops.h"
#include "stages/engines/json/walk.h"
#include "stages/gateway/compose_own.h"

void compose_bound(struct composed *made, const char *json, const struct compose_bounds *bounds, uint32_t n_answers) {
        struct json_text max = {json + bounds->max_tokens.off, bounds->max_tokens.len};
        uint64_t n;

        if (bounds->stop.len > 0)
                made->stop = (struct mr_view){json + bounds->stop.off, bounds->stop.len};
        if (max.n > 0)
                made->max_tokens = json_u64(max, &n) && n <= UINT32_MAX ? n * n_answers : 0;
}

static int bad_member(struct ask_error *error, const char *member, const char *what) {
        ask_fail(error, MR_E_invalid_request, "%s: %s", member, what);
        snprintf(error->param, sizeof(error->param), "%s", member);
        return (int)error->code;
}

int compose_bounds_check(const struct composed *made, struct ask_error *error) {
        struct stops stops;
        int r = made->stop.n > 0 ? stops_read(&stops, made->stop.p, made->stop.n) : 0;

        if (r < 0)
                return bad_member(error, "stop", "expected a string or an array of strings");
        if (r || made->stop.n > COMPOSE_STOP_MAX)
                return bad_member(error, "stop", "expected at most 16 strings of 255 bytes each");
        if (made->response_format.n > COMPOSE_FORMAT_MAX)
                return bad_member(error, "response_format", "expected at most 32768 bytes");
        return 0;
}
