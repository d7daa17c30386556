/*
 * index_services -- the services of a configuration, for the verbs of `millrace index` that use them.
 */
#include "cli/index_cmd.h"

#include <string.h>

#include "stages/common/secret.h"
#include "supervisor/config.h"

static int open_one(enum remote_kind kind, const struct settings_endpoint *endpoint,
                struct index_services *services, const struct remote_conf **ret_conf) {
        static const char *const names[] = {
                        [REMOTE_EMBEDDINGS] = "rag.embeddings", [REMOTE_RERANK] = "rag.rerank"};
        char why[128] = "";
        int r;

        if (!endpoint)
                return CLI_DONE;
        r = secret_header(endpoint->api_key_env, endpoint->api_key_file, why, sizeof(why),
                        &services->headers[kind]);
        if (r != 0) {
                cli_error("index", "%s: %s", names[kind], r < 0 ? strerror(-r) : why);
                return CLI_FAILED;
        }
        services->confs[kind] = (struct remote_conf){.url = endpoint->url,
                        .model = endpoint->model,
                        .header = services->headers[kind],
                        .timeout_ms = endpoint->timeout_ms};
        *ret_conf = &services->confs[kind];
        return CLI_DONE;
}

int index_services_open(const char *config, struct index_services *services) {
        struct config_error err;
        int r = config_load(config, NULL, 0, &services->settings, &err);

        if (r != 0) {
                cli_error("index", "%s", err.line);
                return r == CONFIG_E_INVALID ? CLI_USAGE : CLI_FAILED;
        }
        if (remote_begin() != 0) {
                cli_error("index", "no service can be asked: curl does not start");
                return CLI_FAILED;
        }
        services->fusion = services->settings->rag.fusion == SETTINGS_FUSION_RRF
                                           ? INDEX_FUSION_RRF
                                           : INDEX_FUSION_MIN_MAX;
        r = open_one(REMOTE_EMBEDDINGS, services->settings->rag.embeddings, services,
                        &services->embeddings);
        if (r == CLI_DONE)
                r = open_one(REMOTE_RERANK, services->settings->rag.rerank, services,
                                &services->rerank);
        return r;
}

void index_services_close(struct index_services *services) {
        for (size_t i = 0; i < sizeof(services->headers) / sizeof(services->headers[0]); i++)
                services->headers[i] = secret_free(services->headers[i]);
        services->settings = settings_free(services->settings);
}
