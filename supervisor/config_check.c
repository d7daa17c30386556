/* What no row can say alone: names that must exist, files that must be there, sums that fit. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/log.h"
#include "stages/engines/examples/examples.h"
#include "stages/engines/format/words.h"
#include "stages/engines/index/documents.h"
#include "stages/engines/mustache/folder.h"
#include "stages/engines/redact/screen.h"
#include "supervisor/address.h"
#include "supervisor/config_tree.h"

#define ARENA_BLOCK_BYTES 4096U

struct check {
        const struct settings *s;
        const struct config_node *root;
        struct config_error *err;
};

/* The place that gave a value. Where the value is the default, what it disagrees with was given. */
static const struct config_node *place_of(const struct check *check, const char *path,
                                          const char *other) {
        const struct config_node *node = config_node_nearest(check->root, path);

        return node->source || !other ? node : config_node_nearest(check->root, other);
}

/* The refusal of the value at a key path, which disagrees with the one at the other (or NULL). */
#define REFUSE(check, path, other, ...) \
        config_fail((check)->err, place_of((check), (path), (other))->source, \
                    place_of((check), (path), (other))->line, (path), __VA_ARGS__)

/* ---- files ------------------------------------------------------------------------------- */

static int check_file(const struct check *check, const char *path, const char *file) {
        struct stat st;

        if (!file)
                return 0;
        if (stat(file, &st) || access(file, R_OK))
                return REFUSE(check, path, NULL, "found %.200s (%s), expected a readable file",
                              file, strerror(errno));
        if (S_ISDIR(st.st_mode))
                return REFUSE(check, path, NULL, "found %.200s (a directory), expected a file",
                              file);
        return 0;
}

static int check_folder(const struct check *check, const char *path, const char *folder) {
        struct stat st;

        if (!folder)
                return 0;
        if (stat(folder, &st) || access(folder, R_OK | X_OK))
                return REFUSE(check, path, NULL, "found %.200s (%s), expected a readable folder",
                              folder, strerror(errno));
        if (!S_ISDIR(st.st_mode))
                return REFUSE(check, path, NULL, "found %.200s (no folder), expected a folder",
                              folder);
        return 0;
}

/* path: of the map that holds both keys. */
static int check_key(const struct check *check, const char *path, const char *env,
                     const char *file) {
        char env_path[CONFIG_PATH_MAX], file_path[CONFIG_PATH_MAX];

        config_path_join(env_path, path, "api_key_env");
        config_path_join(file_path, path, "api_key_file");
        if (env && file)
                return REFUSE(check, file_path, NULL,
                              "found api_key_env as well, expected one of the two");
        if (env && !getenv(env))
                return REFUSE(check, env_path, NULL,
                              "found %.100s, which is not set in the environment, expected a "
                              "variable that holds the key",
                              env);
        if (env && !*getenv(env))
                return REFUSE(check, env_path, NULL,
                              "found %.100s, which is empty, expected a variable that holds the "
                              "key",
                              env);
        return check_file(check, file_path, file);
}

/* ---- inference --------------------------------------------------------------------------- */

static int check_kind(const struct check *check, const struct settings_worker *worker,
                      const char *path) {
        const char *missing = NULL, *kind = "exec";
        char kind_path[CONFIG_PATH_MAX];

        switch (worker->kind) {
        case SETTINGS_WORKER_OPENAI:
        case SETTINGS_WORKER_ANTHROPIC:
                missing = worker->base_url ? NULL : "base_url";
                kind = "openai or anthropic";
                break;
        case SETTINGS_WORKER_EXEC:
                missing = worker->command.n ? NULL : "command";
                break;
        case SETTINGS_WORKER_PLUGIN:
                missing = worker->plugin ? NULL : "plugin";
                kind = "plugin";
                break;
        case SETTINGS_WORKER_ECHO:
        case SETTINGS_WORKER_EXTRACT:
                break;
        }
        if (!missing)
                return 0;
        config_path_join(kind_path, path, "kind");
        return REFUSE(check, path, kind_path,
                      "found no `%s`, expected it for a worker of kind %s", missing, kind);
}

static int check_workers(const struct check *check) {
        const struct settings_worker *v = check->s->inference.workers.v;
        char path[CONFIG_PATH_MAX], name_path[CONFIG_PATH_MAX];
        int r;

        for (uint32_t i = 0; i < check->s->inference.workers.n; i++) {
                snprintf(path, sizeof(path), "inference.workers.%u", i);
                config_path_join(name_path, path, "name");
                for (uint32_t k = 0; k < i; k++)
                        if (strcmp(v[i].name, v[k].name) == 0)
                                return REFUSE(check, name_path, NULL,
                                              "found `%s`, the name of inference.workers.%u, "
                                              "expected another",
                                              v[i].name, k);
                r = check_kind(check, &v[i], path);
                if (r)
                        return r;
                r = check_key(check, path, v[i].api_key_env, v[i].api_key_file);
                if (r)
                        return r;
                config_path_join(name_path, path, "plugin");
                r = check_file(check, name_path, v[i].plugin);
                if (r)
                        return r;
        }
        return 0;
}

static int check_models(const struct check *check) {
        char path[CONFIG_PATH_MAX], number[16], model_path[CONFIG_PATH_MAX];

        for (uint32_t i = 0; i < check->s->inference.models.n; i++) {
                const struct settings_model *model = &check->s->inference.models.v[i];

                config_path_join(model_path, "inference.models", model->name);
                for (uint32_t k = 0; k < model->workers.n; k++) {
                        if (settings_worker_find(check->s, model->workers.v[k]))
                                continue;
                        if (!config_node_nearest(check->root, "inference.models")->source &&
                            !config_node_nearest(check->root, model_path)->source)
                                return REFUSE(check, "inference.workers", NULL,
                                              "found no `%s`, which inference.models has by "
                                              "default, expected inference.models as well",
                                              model->workers.v[k]);
                        snprintf(number, sizeof(number), "%u", k);
                        config_path_join(path, model_path, number);
                        return REFUSE(check, path, "inference.workers",
                                      "found `%s`, expected the name of one of inference.workers",
                                      model->workers.v[k]);
                }
        }
        return 0;
}

/* ---- addresses --------------------------------------------------------------------------- */

static int check_listen(const struct check *check, const char *path, const char *text) {
        struct sockaddr_storage address;
        socklen_t len;

        if (strcmp(text, "none") == 0 || check->s->auth.keys_file)
                return 0;
        if (address_parse(text, &address, &len) == 0 && address_is_local(&address))
                return 0;
        return REFUSE(check, path, NULL,
                      "found %.120s, expected a loopback address or unix:PATH as long as "
                      "auth.keys_file is null and nobody is asked for a key",
                      text);
}

static int check_addresses(const struct check *check) {
        const struct settings_strs *listen = &check->s->http.listen;
        const char *metrics = check->s->telemetry.listen;
        char path[CONFIG_PATH_MAX];
        int r;

        for (uint32_t i = 0; i < listen->n; i++) {
                snprintf(path, sizeof(path), "http.listen.%u", i);
                r = check_listen(check, path, listen->v[i]);
                if (r)
                        return r;
                for (uint32_t k = 0; k < i; k++)
                        if (strcmp(listen->v[i], listen->v[k]) == 0)
                                return REFUSE(check, path, NULL,
                                              "found %.120s twice, expected it once",
                                              listen->v[i]);
                if (strcmp(listen->v[i], metrics) == 0)
                        return REFUSE(check, path, "telemetry.listen",
                                      "found %.120s, the address of telemetry.listen, expected "
                                      "another",
                                      listen->v[i]);
        }
        return check_listen(check, "telemetry.listen", metrics);
}

/* ---- sums -------------------------------------------------------------------------------- */

/* The log must take the largest event while every open answer keeps what it holds. */
static int check_log(const struct check *check) {
        const struct settings *s = check->s;
        uint32_t least = LOG_EXTENTS_MIN((uint32_t)s->admission.max_in_flight), extents = 0;
        uint64_t bytes = s->stream.log_bytes;

        if (bytes % LOG_EXTENT)
                return REFUSE(check, "stream.log_bytes", NULL,
                              "found %llu, expected a multiple of %u", (unsigned long long)bytes,
                              LOG_EXTENT);
        for (log_bytes(bytes, NULL, &extents); extents < least; log_bytes(bytes, NULL, &extents))
                bytes += (uint64_t)(least - extents) * LOG_EXTENT;
        if (bytes == s->stream.log_bytes)
                return 0;
        return REFUSE(check, "stream.log_bytes", "admission.max_in_flight",
                      "found %llu, expected at least %llu for an admission.max_in_flight of %llu",
                      (unsigned long long)s->stream.log_bytes, (unsigned long long)bytes,
                      (unsigned long long)s->admission.max_in_flight);
}

static int check_sums(const struct check *check) {
        const struct settings *s = check->s;
        uint64_t ring = s->memory.ring_bytes;

        if (ring & (ring - 1))
                return REFUSE(check, "memory.ring_bytes", NULL,
                              "found %llu, expected a power of two", (unsigned long long)ring);
        if (s->admission.arena_bytes % ARENA_BLOCK_BYTES)
                return REFUSE(check, "admission.arena_bytes", NULL,
                              "found %llu, expected a multiple of %u",
                              (unsigned long long)s->admission.arena_bytes, ARENA_BLOCK_BYTES);
        if (s->admission.max_body_bytes > s->admission.arena_bytes)
                return REFUSE(check, "admission.max_body_bytes", "admission.arena_bytes",
                              "found %llu, expected no more than admission.arena_bytes (%llu)",
                              (unsigned long long)s->admission.max_body_bytes,
                              (unsigned long long)s->admission.arena_bytes);
        if (s->inference.retry.base_ms > s->inference.retry.cap_ms)
                return REFUSE(check, "inference.retry.base_ms", "inference.retry.cap_ms",
                              "found %llu, expected no more than inference.retry.cap_ms (%llu)",
                              (unsigned long long)s->inference.retry.base_ms,
                              (unsigned long long)s->inference.retry.cap_ms);
        if (s->assemble.max_output_tokens >= s->assemble.context_tokens)
                return REFUSE(check, "assemble.max_output_tokens", "assemble.context_tokens",
                              "found %llu, expected less than assemble.context_tokens (%llu)",
                              (unsigned long long)s->assemble.max_output_tokens,
                              (unsigned long long)s->assemble.context_tokens);
        return check_log(check);
}

/* It travels to each worker when that starts. */
static int check_packed(const struct check *check) {
        char *buf = malloc(SETTINGS_PACKED_MAX);
        size_t len;
        int r;

        if (!buf)
                return -ENOMEM;
        r = settings_pack(check->s, buf, SETTINGS_PACKED_MAX, &len);
        free(buf);
        if (r == 0)
                return 0;
        return REFUSE(check, "", NULL,
                      "found settings of more than %u bytes in all, expected fewer workers, "
                      "models or names",
                      SETTINGS_PACKED_MAX);
}

/* ---- the files that are named ------------------------------------------------------------ */

static bool is_served(const struct settings *s, const char *model) {
        for (uint32_t i = 0; i < s->inference.models.n; i++)
                if (strcmp(s->inference.models.v[i].name, "*") == 0 ||
                    strcmp(s->inference.models.v[i].name, model) == 0)
                        return true;
        return false;
}

/* Another template that takes this model's requests, among the first n. */
static const struct mustache_file *rival(const struct mustache_folder *folder, uint32_t n,
                                         const char *model) {
        for (uint32_t i = 0; i < n; i++)
                for (uint32_t k = 0; k < folder->files[i].front.n_models; k++)
                        if (strcmp(folder->files[i].front.models[k], model) == 0)
                                return &folder->files[i];
        return NULL;
}

/* Examples that are all taken must fit a prompt; of a template its file and its key say where. */
static int check_examples(const struct check *check, const char *path, const char *file,
                          const char *at, uint64_t nearest) {
        __attribute__((cleanup(examples_clear))) struct examples examples = {.v = NULL};
        struct examples_error err;
        uint64_t bytes = 0;
        int r = examples_load(file, &examples, &err);

        if (r < 0)
                return REFUSE(check, path, NULL, "found %s%.200s (%s), expected a readable file", at,
                              file, strerror(-r));
        if (r)
                return REFUSE(check, path, NULL, "found %s%.200s:%u: %s, expected examples", at, file,
                              err.line, err.text);
        for (uint32_t i = 0; i < examples.n; i++)
                bytes += examples.v[i].messages.n;
        if (nearest == 0 && bytes > EXAMPLES_ALL_BYTES_MAX)
                return REFUSE(check, path, NULL,
                              "found %s%.200s, whose examples take %llu bytes of each prompt, expected "
                              "at most %u or a few_shot_nearest",
                              at, file, (unsigned long long)bytes, EXAMPLES_ALL_BYTES_MAX);
        return 0;
}

static int check_template_examples(const struct check *check, const struct mustache_file *file) {
        const char *folder = check->s->assemble.templates;
        char path[PATH_MAX], at[PATH_MAX];

        if (!file->front.few_shot)
                return 0;
        mustache_front_path(folder, file->front.few_shot, path, sizeof(path));
        snprintf(at, sizeof(at), "%.200s/%.200s.mustache: few_shot: ", folder, file->name);
        return check_examples(check, "assemble.templates", path, at, file->front.few_shot_nearest);
}

static int find_partial(void *ctx, struct mustache_text name, const struct mustache **ret,
                        struct mustache_error *err) {
        const struct mustache_file *file = mustache_folder_find(ctx, name);

        (void)err;
        *ret = file ? file->t : NULL;
        return file && !file->t ? MUSTACHE_E_SYNTAX : 0; /* it is there, and refused by itself */
}

static int check_template(const struct check *check, const struct mustache_folder *folder,
                          uint32_t i) {
        const char *path = check->s->assemble.templates;
        const struct mustache_file *file = &folder->files[i];
        struct mustache_folder partials = *folder;
        struct mustache_error at;
        int r = 0;

        if (!file->t)
                return REFUSE(check, "assemble.templates", NULL,
                              "found %.200s/%.200s.mustache:%u:%u: %s, expected templates", path,
                              file->name, file->err.line, file->err.column, file->err.text);
        if (mustache_lacks(file->t, find_partial, &partials, &at))
                return REFUSE(check, "assemble.templates", NULL,
                              "found %.200s/%.200s.mustache:%u:%u: there is no %.64s.mustache, expected "
                              "each partial that is named",
                              path, file->name, at.line, at.column, at.name);
        r = check_template_examples(check, file);
        if (r)
                return r;
        if (file->front.model && !is_served(check->s, file->front.model))
                return REFUSE(check, "assemble.templates", NULL,
                              "found %.200s/%.200s.mustache: model: %.64s, expected one of "
                              "inference.models",
                              path, file->name, file->front.model);
        for (uint32_t k = 0; k < file->front.n_models; k++)
                if (rival(folder, i, file->front.models[k]))
                        return REFUSE(check, "assemble.templates", NULL,
                                      "found %.200s/%.200s.mustache: models: %.64s, which %.64s "
                                      "has too, expected one template a model",
                                      path, file->name, file->front.models[k],
                                      rival(folder, i, file->front.models[k])->name);
        return 0;
}

static int check_folder_of_templates(const struct check *check, const char *path) {
        __attribute__((cleanup(mustache_folder_clear))) struct mustache_folder folder = {0};
        int r = mustache_folder_load(path, &folder);

        if (r < 0)
                return REFUSE(check, "assemble.templates", NULL,
                              "found %.200s (%s), expected a folder of templates", path,
                              strerror(-r));
        for (uint32_t i = 0; r == 0 && i < folder.n; i++)
                r = check_template(check, &folder, i);
        return r;
}

static int check_templates(const struct check *check) {
        const char *folder = check->s->assemble.templates;
        const char *name = check->s->assemble.default_template;
        char file[SETTINGS_TEXT_MAX + 64];
        int r;

        r = check_folder(check, "assemble.templates", folder);
        if (r == 0 && folder)
                r = check_folder_of_templates(check, folder);
        if (r)
                return r;
        if (strcmp(name, "builtin") == 0)
                return 0;
        if (!folder)
                return REFUSE(check, "assemble.default", NULL,
                              "found `%s`, expected builtin as long as assemble.templates is null",
                              name);
        snprintf(file, sizeof(file), "%s/%s.mustache", folder, name);
        return check_file(check, "assemble.default", file);
}

static int check_endpoint(const struct check *check, const char *path,
                          const struct settings_endpoint *endpoint) {
        return endpoint ? check_key(check, path, endpoint->api_key_env, endpoint->api_key_file) : 0;
}

/* Folders that are there now; one that goes later is waited for. */
static int check_watched(const struct check *check) {
        const struct settings_strs *watch = &check->s->rag.watch;
        char path[CONFIG_PATH_MAX], name[SETTINGS_TEXT_MAX + 1];
        int r = 0;

        if (watch->n > 0 && strcmp(check->s->rag.index, "none") == 0)
                return REFUSE(check, "rag.watch", "rag.index",
                              "found folders, expected none as long as rag.index is none and there "
                              "is no index to keep them in");
        for (uint32_t i = 0; i < watch->n && r == 0; i++) {
                snprintf(path, sizeof(path), "rag.watch.%u", i);
                if (documents_id(watch->v[i], name, sizeof(name)) < 0 || !*name ||
                    strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
                        return REFUSE(check, path, NULL,
                                      "found %.200s, expected a folder by its name or its absolute "
                                      "path: documents are called by it",
                                      watch->v[i]);
                r = check_folder(check, path, watch->v[i]);
                for (uint32_t k = 0; k < i && r == 0; k++)
                        if (strcmp(watch->v[i], watch->v[k]) == 0)
                                r = REFUSE(check, path, NULL,
                                           "found %.200s twice, expected it once", watch->v[i]);
        }
        return r;
}

static int check_files(const struct check *check) {
        int r;

        r = check_file(check, "auth.keys_file", check->s->auth.keys_file);
        if (r)
                return r;
        r = check_endpoint(check, "rag.embeddings", check->s->rag.embeddings);
        if (r)
                return r;
        r = check_endpoint(check, "rag.rerank", check->s->rag.rerank);
        if (r)
                return r;
        r = check_watched(check);
        if (r)
                return r;
        r = check_file(check, "assemble.few_shot", check->s->assemble.few_shot);
        if (r == 0 && check->s->assemble.few_shot)
                r = check_examples(check, "assemble.few_shot", check->s->assemble.few_shot, "",
                                   check->s->assemble.few_shot_nearest);
        if (r)
                return r;
        return check_templates(check);
}

/* The rules are compiled as post will compile them. */
static int check_redaction(const struct check *check) {
        const struct redact_config config = REDACT_CONFIG(&check->s->post.redact);
        struct redact *engine = NULL;
        struct redact_why why = {""};
        int r = redact_load(&config, &engine, &why);

        redact_free(engine);
        return r == REDACT_E_RULES ? REFUSE(check, "post.redact", NULL, "%s", why.text) : r;
}

static int check_safety(const struct check *check) {
        const struct screen_config config = {
                .lists = check->s->post.safety.lists,
                .actions = (const char *const *)check->s->post.safety.actions.v,
                .n_actions = check->s->post.safety.actions.n,
        };
        struct screen *screen = NULL;
        struct redact_why why = {""};
        int r;

        if (check->s->post.safety.mode != SETTINGS_SAFETY_OFF && !config.lists)
                return REFUSE(check, "post.safety.mode", NULL, "found no `lists`, expected post.safety.lists as well");
        r = screen_load(&config, &screen, &why);
        screen_free(screen);
        return r == REDACT_E_RULES ? REFUSE(check, "post.safety", NULL, "%s", why.text) : r;
}

static int check_format(const struct check *check) {
        const struct settings_strs *format = &check->s->post.format;
        struct words_why why = {.index = 0};
        struct words words;
        char path[CONFIG_PATH_MAX];

        if (words_read(&words, (const char *const *)format->v, format->n, &why) == 0)
                return 0;
        snprintf(path, sizeof(path), "post.format.%u", why.index);
        return REFUSE(check, path, NULL, "found %.100s, expected %s", format->v[why.index], why.text);
}

/* ---- what this version does not do yet: refused, not ignored ------------------------------- */

static int check_available(const struct check *check) {
        static const char *const later[] = {
                "auth.keys_file", "inference.cache.enabled",
                "telemetry.otlp",
        };
        struct settings *plain;
        int r = settings_default(&plain);

        if (r)
                return r;
        for (size_t i = 0; i < sizeof(later) / sizeof(later[0]) && !r; i++) {
                const struct settings_row *row = settings_row_find(&settings_shape, later[i]);
                if (!settings_row_equal(row, check->s, plain))
                        r = REFUSE(check, later[i], NULL, "found a value, but this version of millrace "
                                "cannot do that yet; expected the default");
        }
        settings_free(plain);
        for (uint32_t i = 0; i < check->s->inference.workers.n && !r; i++) {
                enum settings_worker_kind kind = check->s->inference.workers.v[i].kind;
                char path[CONFIG_PATH_MAX];
                if (kind <= SETTINGS_WORKER_OPENAI)
                        continue;
                snprintf(path, sizeof(path), "inference.workers.%u.kind", i);
                r = REFUSE(check, path, NULL, "found a kind that this version of millrace cannot do yet; "
                        "expected echo, extract or openai");
        }
        return r;
}

int config_check_whole(const struct settings *s, const struct config_node *root,
                       struct config_error *err) {
        static int (*const steps[])(const struct check *) = {
                check_workers, check_models, check_addresses, check_sums,
                check_files,   check_redaction, check_safety, check_format, check_packed,
        };
        const struct check check = {.s = s, .root = root, .err = err};
        int r;

        for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
                r = steps[i](&check);
                if (r)
                        return r;
        }
        return 0;
}

int config_check_available(const struct settings *s, const struct config_node *root,
                           struct config_error *err) {
        return check_available(&(const struct check){.s = s, .root = root, .err = err});
}
