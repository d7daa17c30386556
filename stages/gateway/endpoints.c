#include "stages/gateway/endpoints.h"

#include <string.h>

#include "stages/gateway/embeddings.h"
#include "stages/gateway/http_answer.h"
#include "stages/gateway/lanes.h"

#define JSON "application/json"

/* ---- health ---- */

static void healthz(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body) {
        (void)gw;
        (void)request;
        (void)body;
        http_answer_text(c, 200, JSON, NULL, "{\"status\":\"ok\"}");
}

#define READY_RETRY_S 1
#define REASON_BYTES 64u
#define REASONS_MAX (LANES_MAX * (LANE_STAGES_N + 2) + 2)

struct reasons {
        struct json_buf b;
        bool down, degraded;
        char text[REASONS_MAX * REASON_BYTES];
};

static void put_reason(struct reasons *r, bool *why, const char *text, uint32_t lane) {
        struct json_buf *b = &r->b;

        json_put_text(b, b->len > 0 ? ",\"" : "\"");
        json_put_text(b, text);
        if (lane != UINT32_MAX)
                json_put_u64(b, lane);
        json_put(b, "\"", 1);
        *why = true;
}

/* What the supervisor says of a lane: its word, and stages that start, drain or are gone. */
static void lane_reasons(struct gateway *gw, uint32_t lane, struct reasons *r) {
        static const char *const missing[] = {[ROLE_RAG] = "rag is not ready in lane ",
                        [ROLE_ASSEMBLE] = "assemble is not ready in lane ",
                        [ROLE_INFERENCE] = "inference is not ready in lane ",
                        [ROLE_POST] = "post is not ready in lane ",
                        [ROLE_STREAM] = "stream is not ready in lane "};
        uint64_t stages = atomic_load_explicit(
                        &gw->w->topology->lane_missing[lane], memory_order_relaxed);

        if (lane_is_down(gw, lane))
                put_reason(r, &r->down, "a stage is down in lane ", lane);
        if (!lane_is_here(gw, lane))
                put_reason(r, &r->down, "its memory is made anew: lane ", lane);
        for (uint32_t stage = 0; stage < LANE_STAGES_N; stage++)
                if (stages >> stage & 1)
                        put_reason(r, &r->down, missing[stage], lane);
        if (lane_is_here(gw, lane) && log_database_failed(&gw->w->logs[lane]))
                put_reason(r, &r->degraded, "the database cannot be written by lane ", lane);
}

/* 503: nothing can be asked here, or not everywhere; degraded: all can, but for detached requests. */
static void readyz(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body) {
        struct reasons r = {.down = false};
        struct http_body answer;
        struct http_lines lines;

        (void)request;
        (void)body;
        r.b = (struct json_buf){.at = r.text, .cap = sizeof(r.text)};
        if (gw->w->draining)
                put_reason(&r, &r.down, "draining", UINT32_MAX);
        if (gw->w->closing && !gw->w->draining)
                put_reason(&r, &r.down, "this gateway is being replaced", UINT32_MAX);
        for (uint32_t lane = 0; lane < gw->n_lanes; lane++)
                lane_reasons(gw, lane, &r);
        http_lines_init(&lines);
        if (r.down)
                http_line_u64(&lines, "Retry-After", READY_RETRY_S);
        if (!http_answer_begin(&answer, c, r.down ? 503 : 200, JSON, &lines, r.b.len + REASON_BYTES))
                return;
        json_put_text(&answer.b, "{\"status\":\"");
        json_put_text(&answer.b, r.down ? "unavailable" : r.degraded ? "degraded" : "ready");
        json_put_text(&answer.b, "\",\"reasons\":[");
        json_put(&answer.b, r.text, r.b.len);
        json_put_text(&answer.b, "]}");
        http_answer_end(&answer);
        http_done(c);
}

/* ---- models ---- */

/* "*" stands for names that nobody knows. */
static bool is_named(const char *name) {
        return strcmp(name, "*") != 0;
}

static void models(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body) {
        const struct settings_models *all = &gw->w->settings->inference.models;
        struct http_body answer;
        uint32_t bound = REASON_BYTES;
        bool any = false;

        (void)request;
        (void)body;
        for (uint32_t i = 0; i < all->n; i++)
                bound += 1 + openai_model_bound(text_view(all->v[i].name));
        if (!http_answer_begin(&answer, c, 200, JSON, NULL, bound))
                return;
        json_put_text(&answer.b, "{\"object\":\"list\",\"data\":[");
        for (uint32_t i = 0; i < all->n; i++) {
                if (!is_named(all->v[i].name))
                        continue;
                if (any)
                        json_put(&answer.b, ",", 1);
                any = true;
                openai_model(&answer.b, text_view(all->v[i].name), 0);
        }
        json_put_text(&answer.b, "]}");
        http_answer_end(&answer);
        http_done(c);
}

/* Ids with a slash in them come in either form. */
bool endpoint_decode(struct mr_view path, char *to, uint32_t cap, uint32_t *ret_n) {
        static const char hex[] = "0123456789abcdef";
        uint32_t n = 0;

        for (uint32_t i = 0; i < path.n; i++) {
                const char *high, *low;

                if (n == cap)
                        return false;
                if (path.p[i] != '%') {
                        to[n++] = path.p[i];
                        continue;
                }
                if (i + 2 >= path.n)
                        return false;
                high = strchr(hex, path.p[i + 1] | 0x20);
                low = strchr(hex, path.p[i + 2] | 0x20);
                if (!high || !low || !*high || !*low)
                        return false;
                to[n++] = (char)((high - hex) << 4 | (low - hex));
                i += 2;
        }
        for (uint32_t i = 0; i < n; i++)
                if ((unsigned char)to[i] < 0x20 || to[i] == 0x7f)
                        return false; /* no name has them, and it may become a line of the answer's head */
        *ret_n = n;
        return n > 0;
}

static void model(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body) {
        const struct settings_models *all = &gw->w->settings->inference.models;
        uint32_t prefix = sizeof("/v1/models/") - 1;
        struct http_body answer;
        char name[ASK_NAME_MAX];
        uint32_t n = 0;

        (void)body;
        if (!endpoint_decode((struct mr_view){request->path.p + prefix, request->path.n - prefix}, name,
                            sizeof(name), &n))
                n = 0;
        for (uint32_t i = 0; n > 0 && i < all->n; i++) {
                struct mr_view one = text_view(all->v[i].name);

                if (!is_named(one.p) || one.n != n || memcmp(one.p, name, n) != 0)
                        continue;
                if (!http_answer_begin(&answer, c, 200, JSON, NULL, openai_model_bound(one)))
                        return;
                openai_model(&answer.b, one, 0);
                http_answer_end(&answer);
                http_done(c);
                return;
        }
        http_refuse(c, 0, MR_E_model_not_found, "no model of this name is listed here", NULL);
}

/* ---- the table ---- */

static const struct endpoint table[] = {
                {"GET", "/healthz", healthz},
                {"GET", "/readyz", readyz},
                {"GET", "/v1/models", models},
                {"GET", "/v1/models/", model},
                {"POST", "/v1/chat/completions", chat_run},
                {"POST", "/v1/completions", chat_run},
                {"POST", "/v1/embeddings", embeddings_run},
                {"POST", "/v1/responses", responses_run},
                {"GET", "/v1/responses/*", responses_run},
                {"POST", "/v1/responses/*/cancel", responses_run},
                {"POST", "/v1/jobs", jobs_create},
                {"GET", "/v1/jobs/", jobs_get},
                {"DELETE", "/v1/jobs/", jobs_delete},
};

static bool path_is(const struct endpoint *e, struct mr_view path) {
        const char *star = strchr(e->path, '*');
        uint32_t n = (uint32_t)strlen(e->path), before;

        if (e->path[n - 1] == '/')
                return path.n > n && memcmp(path.p, e->path, n) == 0;
        if (!star)
                return path.n == n && memcmp(path.p, e->path, n) == 0;
        before = (uint32_t)(star - e->path);
        n -= before + 1; /* behind the star */
        return path.n > before + n && memcmp(path.p, e->path, before) == 0 &&
               memcmp(path.p + path.n - n, star + 1, n) == 0 &&
               !memchr(path.p + before, '/', path.n - before - n);
}

int endpoint_find(const struct http1_request *request, const struct endpoint **ret,
                char ret_allow[static ENDPOINT_ALLOW_MAX]) {
        struct json_buf allow = {.at = ret_allow, .cap = ENDPOINT_ALLOW_MAX - 1};

        if (http1_is(request->path, "*"))
                json_put_text(&allow, HTTP_RULES_METHODS);
        for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
                const struct endpoint *e = &table[i];
                bool get = strcmp(e->method, "GET") == 0;

                if (!path_is(e, request->path))
                        continue;
                if (http1_is(request->method, e->method) ||
                                (get && http1_is(request->method, "HEAD"))) {
                        *ret = e;
                        return 0;
                }
                json_put_text(&allow, allow.len > 0 ? ", " : "");
                json_put_text(&allow, get ? "GET, HEAD" : e->method);
        }
        ret_allow[allow.len] = '\0';
        return allow.len > 0 ? ENDPOINT_E_METHOD : ENDPOINT_E_PATH;
}
