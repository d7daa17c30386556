#include "stages/rag/services.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/breaker.h"
#include "stages/common/clock.h"
#include "stages/common/log.h"
#include "stages/common/secret.h"

struct service {
        struct remote_conf conf;
        struct breaker breaker; /* under lock */
        char *header;
        bool usable;
        enum services_outcome last; /* the loop's: to log changes only */
};

struct services {
        pthread_mutex_t lock;
        struct service all[SERVICES_N];
        enum index_fusion fusion;
};

static const char *const names[SERVICES_N] = {
                [REMOTE_EMBEDDINGS] = "embeddings", [REMOTE_RERANK] = "rerank"};

/* ---- on the threads -------------------------------------------------------------------------- */

static bool may(void *ctx, enum remote_kind kind) {
        struct services_thread *thread = ctx;
        struct services *s = thread->services;
        bool allowed;

        pthread_mutex_lock(&s->lock);
        allowed = breaker_allow(&s->all[kind].breaker, clock_now_ns());
        pthread_mutex_unlock(&s->lock);
        if (!allowed)
                thread->said->outcome[kind] = SERVICE_SKIPPED;
        return allowed;
}

static void score(struct breaker *breaker, enum hybrid_outcome outcome) {
        switch (outcome) {
        case HYBRID_WORKED:
                breaker_success(breaker);
                return;
        case HYBRID_TIMEOUT:
        case HYBRID_FAILED:
                breaker_failure(breaker, clock_now_ns());
                return;
        case HYBRID_UNFIT:
                breaker_forget(breaker);
                return;
        }
}

static void told(void *ctx, enum remote_kind kind, enum hybrid_outcome outcome, const char *why) {
        static const enum services_outcome outcomes[] = {[HYBRID_WORKED] = SERVICE_OK,
                        [HYBRID_TIMEOUT] = SERVICE_TIMEOUT,
                        [HYBRID_FAILED] = SERVICE_ERROR,
                        [HYBRID_UNFIT] = SERVICE_UNFIT};
        struct services_thread *thread = ctx;
        struct services *s = thread->services;

        pthread_mutex_lock(&s->lock);
        score(&s->all[kind].breaker, outcome);
        pthread_mutex_unlock(&s->lock);
        thread->said->outcome[kind] = (uint8_t)outcomes[outcome];
        snprintf(thread->said->why[kind], sizeof(thread->said->why[kind]), "%s", why);
}

struct hybrid *services_hybrid(struct services_thread *thread, const char *folder) {
        const struct services *s = thread->services;
        struct hybrid *hybrid;

        thread->conf = (struct hybrid_conf){
                        .folder = folder, .may = may, .told = told, .ctx = thread};
        if (s) {
                const struct service *all = s->all;

                thread->conf.fusion = s->fusion;
                if (all[REMOTE_EMBEDDINGS].usable)
                        thread->conf.embeddings = &all[REMOTE_EMBEDDINGS].conf;
                if (all[REMOTE_RERANK].usable)
                        thread->conf.rerank = &all[REMOTE_RERANK].conf;
        }
        return hybrid_new(&thread->conf, &hybrid) == 0 ? hybrid : NULL;
}

void services_begin(struct services_thread *thread, struct services_said *said) {
        memset(said->outcome, SERVICE_UNASKED, sizeof(said->outcome));
        for (size_t i = 0; i < SERVICES_N; i++)
                said->why[i][0] = '\0';
        thread->said = said;
}

/* ---- on the loop ----------------------------------------------------------------------------- */

void services_count(struct services *s, const struct services_said *said,
                struct counters_shm *counters) {
        static const enum counter rows[SERVICES_N][SERVICE_SKIPPED + 1] = {
                        {0, COUNTER_embeddings_ok, COUNTER_embeddings_timeout,
                                        COUNTER_embeddings_error, COUNTER_embeddings_unfit,
                                        COUNTER_embeddings_skipped},
                        /* Nothing of the index's can be unfit for it. */
                        {0, COUNTER_rerank_ok, COUNTER_rerank_timeout, COUNTER_rerank_error,
                                        COUNTER_rerank_error, COUNTER_rerank_skipped}};

        for (uint32_t i = 0; s && i < SERVICES_N; i++) {
                struct service *service = &s->all[i];
                const enum services_outcome outcome = said->outcome[i];

                if (outcome == SERVICE_UNASKED)
                        continue;
                counters_add(counters, rows[i][outcome], 1);
                if (outcome == service->last || outcome == SERVICE_SKIPPED)
                        continue;
                if (outcome != SERVICE_OK)
                        log_warn("service_failed", "service=%s done_without=yes reason=\"%s\"",
                                        names[i], said->why[i]);
                else if (service->last != SERVICE_UNASKED)
                        log_info("service_works", "service=%s", names[i]);
                service->last = outcome;
        }
}

/* ---- life ------------------------------------------------------------------------------------ */

static int service_init(struct service *service, enum remote_kind kind,
                const struct settings_endpoint *endpoint) {
        char why[128] = "";
        int r;

        if (!endpoint)
                return 0;
        r = secret_header(endpoint->api_key_env, endpoint->api_key_file, why, sizeof(why),
                        &service->header);
        if (r == SECRET_E_UNUSABLE) {
                log_warn("service_unusable", "service=%s reason=\"%s\"", names[kind], why);
                return 0;
        }
        if (r < 0)
                return r;
        service->conf = (struct remote_conf){.url = endpoint->url,
                        .model = endpoint->model,
                        .header = service->header,
                        .timeout_ms = endpoint->timeout_ms};
        service->usable = true;
        return breaker_init(&service->breaker, SERVICES_FAILURES, SERVICES_WINDOW_S * NS_PER_S,
                        SERVICES_OPEN_MS * NS_PER_MS);
}

int services_new(struct services **ret, const struct settings *settings) {
        struct services *s;
        int r;

        if (!settings->rag.embeddings && !settings->rag.rerank)
                return 0;
        r = remote_begin();
        s = r == 0 ? calloc(1, sizeof(*s)) : NULL;
        if (!s)
                return r == 0 ? -ENOMEM : r;
        pthread_mutex_init(&s->lock, NULL);
        s->fusion = settings->rag.fusion == SETTINGS_FUSION_RRF ? INDEX_FUSION_RRF
                                                                : INDEX_FUSION_MIN_MAX;
        r = service_init(&s->all[REMOTE_EMBEDDINGS], REMOTE_EMBEDDINGS, settings->rag.embeddings);
        if (r == 0)
                r = service_init(&s->all[REMOTE_RERANK], REMOTE_RERANK, settings->rag.rerank);
        if (r == 0)
                *ret = s;
        return r;
}
