#include "stages/engines/vectors/remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "stages/engines/index/buffer.h"
#include "stages/engines/json/json.h"
#include "stages/engines/vectors/reply.h"

#define BODY_HEAD_BYTES 8192u /* all of a request but its texts */

struct remote {
        const struct remote_conf *conf;
        char *url;
        CURL *easy;
        struct curl_slist *headers;
        struct buffer answer;
};

/* ---- a request's body ------------------------------------------------------------------------ */

static size_t text_bytes(struct index_str text) {
        return json_utf8_cut(text.data ? text.data : "",
                        text.n_bytes < UINT32_MAX ? (uint32_t)text.n_bytes : UINT32_MAX,
                        REMOTE_TEXT_BYTES);
}

static void put_text(struct json_buf *body, struct index_str text) {
        json_put_text(body, "\"");
        json_put_mended(body, text.data ? text.data : "", (uint32_t)text_bytes(text));
        json_put_text(body, "\"");
}

static void put_list(struct json_buf *body, const char *name, const struct index_str *texts,
                uint32_t n) {
        json_put_text(body, ",\"");
        json_put_text(body, name);
        json_put_text(body, "\":[");
        for (uint32_t i = 0; i < n; i++) {
                if (i > 0)
                        json_put_text(body, ",");
                put_text(body, texts[i]);
        }
        json_put_text(body, "]}");
}

static int body_begin(const struct remote *remote, const struct index_str *texts, uint32_t n,
                struct json_buf *ret_body) {
        const char *model = remote->conf->model;
        size_t room = BODY_HEAD_BYTES + REMOTE_TEXT_BYTES * JSON_ESCAPE_GROWTH;

        for (uint32_t i = 0; i < n; i++)
                room += text_bytes(texts[i]) * JSON_ESCAPE_GROWTH + 4;
        if (model)
                room += strlen(model) * JSON_ESCAPE_GROWTH;
        *ret_body = (struct json_buf){.at = malloc(room), .cap = (uint32_t)room};
        if (!ret_body->at)
                return -ENOMEM;
        json_put_text(ret_body, "{");
        if (model) {
                json_put_text(ret_body, "\"model\":");
                put_text(ret_body, (struct index_str){model, strlen(model)});
                json_put_text(ret_body, ",");
        }
        return 0;
}

/* ---- one exchange ---------------------------------------------------------------------------- */

static size_t on_write(char *bytes, size_t size, size_t n, void *ctx) {
        struct remote *remote = ctx;

        n *= size;
        if (remote->answer.n_bytes + n > REMOTE_ANSWER_MAX ||
                        buffer_append(&remote->answer, bytes, n) != 0)
                return CURL_WRITEFUNC_ERROR;
        return n;
}

static int judge(struct remote *remote, CURLcode code, struct index_error *err) {
        char said[400] = "";
        long status = 0;

        if (code == CURLE_OPERATION_TIMEDOUT) {
                snprintf(err->text, sizeof(err->text), "no answer in time");
                return REMOTE_E_TIMEOUT;
        }
        if (code != CURLE_OK) {
                snprintf(err->text, sizeof(err->text), "%s", curl_easy_strerror(code));
                return code == CURLE_WRITE_ERROR ? REMOTE_E_REFUSED : REMOTE_E_BUSY;
        }
        curl_easy_getinfo(remote->easy, CURLINFO_RESPONSE_CODE, &status);
        if (status == 200)
                return 0;
        reply_complaint(remote->answer.data ? remote->answer.data : "", remote->answer.n_bytes,
                        said, sizeof(said));
        snprintf(err->text, sizeof(err->text), "it answers with status %ld%s%.300s", status,
                        said[0] ? ": " : "", said);
        return status == 429 || status >= 500 ? REMOTE_E_BUSY : REMOTE_E_REFUSED;
}

/* Frees the body. */
static int exchange(struct remote *remote, struct json_buf *body, uint64_t timeout_ms,
                struct index_error *err) {
        uint64_t ms = remote->conf->timeout_ms;
        CURLcode code;

        if (timeout_ms > 0 && timeout_ms < ms)
                ms = timeout_ms;
        remote->answer.n_bytes = 0;
        curl_easy_setopt(remote->easy, CURLOPT_TIMEOUT_MS, (long)ms);
        curl_easy_setopt(remote->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->len);
        curl_easy_setopt(remote->easy, CURLOPT_POSTFIELDS, body->at);
        code = curl_easy_perform(remote->easy);
        free(body->at);
        return judge(remote, code, err);
}

int remote_vectors(struct remote *remote, const struct index_str *texts, uint32_t n,
                uint64_t timeout_ms, struct index_error *err, uint32_t *ret_dimension,
                float **ret_vectors) {
        struct json_buf body;
        int r = n > 0 && n <= REMOTE_TEXTS_MAX ? body_begin(remote, texts, n, &body) : -EINVAL;

        if (r != 0)
                return r;
        json_put_text(&body, "\"encoding_format\":\"float\"");
        put_list(&body, "input", texts, n);
        r = exchange(remote, &body, timeout_ms, err);
        if (r == 0)
                r = reply_vectors(remote->answer.data ? remote->answer.data : "",
                                remote->answer.n_bytes, n, err, ret_dimension, ret_vectors);
        return r == -EBADMSG ? REMOTE_E_REFUSED : r;
}

int remote_scores(struct remote *remote, struct index_str question, const struct index_str *texts,
                uint32_t n, uint64_t timeout_ms, struct index_error *err, double *ret_scores) {
        struct json_buf body;
        int r = n > 0 && n <= REMOTE_TEXTS_MAX ? body_begin(remote, texts, n, &body) : -EINVAL;

        if (r != 0)
                return r;
        json_put_text(&body, "\"query\":");
        put_text(&body, question);
        json_put_text(&body, ",\"top_n\":");
        json_put_u64(&body, n);
        put_list(&body, "documents", texts, n);
        r = exchange(remote, &body, timeout_ms, err);
        if (r == 0)
                r = reply_scores(remote->answer.data ? remote->answer.data : "",
                                remote->answer.n_bytes, n, err, ret_scores);
        return r == -EBADMSG ? REMOTE_E_REFUSED : r;
}

/* ---- life ------------------------------------------------------------------------------------ */

int remote_begin(void) {
        return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 0 : -EIO;
}

static bool is_loopback(const char *url) {
        static const char *const hosts[] = {"127.", "localhost", "[::1]"};
        const char *host = strstr(url, "://");

        for (size_t i = 0; host && i < sizeof(hosts) / sizeof(*hosts); i++)
                if (strncasecmp(host + 3, hosts[i], strlen(hosts[i])) == 0)
                        return true;
        return false;
}

static char *whole_url(const char *url, const char *word) {
        size_t n = strlen(url);
        const size_t n_word = strlen(word);
        char *whole = NULL;

        while (n > 0 && url[n - 1] == '/')
                n--;
        if (n >= n_word && strncmp(url + n - n_word, word, n_word) == 0)
                word = "";
        return asprintf(&whole, "%.*s%s", (int)n, url, word) < 0 ? NULL : whole;
}

static int headers_set(struct remote *remote) {
        const char *const lines[] = {"Content-Type: application/json", "Accept: application/json",
                        "Expect:", remote->conf->header};

        for (size_t i = 0; i < sizeof(lines) / sizeof(*lines) && lines[i]; i++) {
                struct curl_slist *more = curl_slist_append(remote->headers, lines[i]);

                if (!more)
                        return -ENOMEM;
                remote->headers = more;
        }
        return 0;
}

static int on_wait(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
        const struct remote *remote = ctx;

        (void)a;
        (void)b;
        (void)c;
        (void)d;
        return remote->conf->go_on(remote->conf->ctx) ? 0 : 1;
}

static void options_set(struct remote *remote) {
        CURL *easy = remote->easy;

        if (remote->conf->go_on) {
                curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
                curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_wait);
                curl_easy_setopt(easy, CURLOPT_XFERINFODATA, remote);
        }
        curl_easy_setopt(easy, CURLOPT_URL, remote->url);
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, remote->headers);
        curl_easy_setopt(easy, CURLOPT_USERAGENT, "millrace");
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, remote);
        if (is_loopback(remote->url))
                curl_easy_setopt(easy, CURLOPT_PROXY, "");
}

int remote_new(enum remote_kind kind, const struct remote_conf *conf, struct remote **ret_remote) {
        static const char *const words[] = {
                        [REMOTE_EMBEDDINGS] = "/embeddings", [REMOTE_RERANK] = "/rerank"};
        struct remote *remote = calloc(1, sizeof(*remote));

        if (!remote)
                return -ENOMEM;
        remote->conf = conf;
        remote->url = whole_url(conf->url, words[kind]);
        remote->easy = curl_easy_init();
        if (!remote->url || !remote->easy || headers_set(remote) < 0) {
                remote_free(remote);
                return -ENOMEM;
        }
        options_set(remote);
        *ret_remote = remote;
        return 0;
}

struct remote *remote_free(struct remote *remote) {
        if (!remote)
                return NULL;
        if (remote->easy)
                curl_easy_cleanup(remote->easy);
        curl_slist_free_all(remote->headers);
        buffer_clear(&remote->answer);
        free(remote->url);
        free(remote);
        return NULL;
}
