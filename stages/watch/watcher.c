#include "stages/watch/watcher.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "shm/doorbell.h"
#include "stages/common/log.h"
#include "stages/common/secret.h"
#include "stages/common/thread.h"
#include "stages/engines/index/documents.h"

struct watcher {
        struct pass pass; /* the thread's, once it runs */
        struct remote_conf embeddings;
        char *header;
        int bell;
        _Atomic bool stop;
        _Atomic uint64_t counts[PASS_COUNTS];

        pthread_mutex_t lock; /* of what follows */
        pthread_cond_t work;
        bool go, done;
        struct pass_report report;
};

/* ---- the thread ------------------------------------------------------------------------------ */

static void *thread_main(void *arg) {
        struct watcher *w = arg;

        for (;;) {
                struct pass_report report;

                pthread_mutex_lock(&w->lock);
                while (!w->go)
                        pthread_cond_wait(&w->work, &w->lock);
                w->go = false;
                pthread_mutex_unlock(&w->lock);
                pass_run(&w->pass, &report);
                malloc_trim(0); /* a large file's memory is not wanted again soon */
                pthread_mutex_lock(&w->lock);
                w->report = report;
                w->done = true;
                pthread_mutex_unlock(&w->lock);
                doorbell_ring(w->bell);
        }
        return NULL;
}

/* ---- for the loop ---------------------------------------------------------------------------- */

int watcher_fd(const struct watcher *watcher) {
        return watcher->pass.tree.fd;
}

void watcher_go(struct watcher *w) {
        pthread_mutex_lock(&w->lock);
        w->go = true;
        pthread_mutex_unlock(&w->lock);
        pthread_cond_signal(&w->work);
}

bool watcher_done(struct watcher *w, struct pass_report *ret) {
        bool done;

        pthread_mutex_lock(&w->lock);
        done = w->done;
        w->done = false;
        if (done)
                *ret = w->report;
        pthread_mutex_unlock(&w->lock);
        return done;
}

uint64_t watcher_count(const struct watcher *watcher, enum pass_count which) {
        return atomic_load_explicit(&watcher->counts[which], memory_order_relaxed);
}

void watcher_stop(struct watcher *watcher) {
        atomic_store_explicit(&watcher->stop, true, memory_order_relaxed);
}

/* ---- life ------------------------------------------------------------------------------------ */

static int set_embeddings(struct watcher *w, const struct settings_endpoint *endpoint) {
        char why[128] = "";
        int r;

        if (!endpoint)
                return 0;
        r = secret_header(endpoint->api_key_env, endpoint->api_key_file, why, sizeof(why),
                        &w->header);
        if (r == SECRET_E_UNUSABLE) {
                log_warn("service_unusable", "service=embeddings reason=\"%s\"", why);
                return 0;
        }
        if (r == 0)
                r = remote_begin();
        w->embeddings = (struct remote_conf){.url = endpoint->url,
                        .model = endpoint->model,
                        .header = w->header,
                        .timeout_ms = endpoint->timeout_ms};
        w->pass.embeddings = &w->embeddings;
        return r;
}

static int set_roots(struct pass *pass, const struct settings_strs *watch) {
        char path[PATH_MAX];

        pass->roots = calloc(watch->n, sizeof(*pass->roots));
        if (!pass->roots && watch->n > 0)
                return -ENOMEM;
        for (uint32_t i = 0; i < watch->n; i++) {
                struct pass_place *root = &pass->roots[i];

                if (documents_id(watch->v[i], path, sizeof(path)) < 0)
                        return -EINVAL;
                root->path = strdup(path);
                if (!root->path)
                        return -ENOMEM;
                pass->n_roots++;
                pass_place_see(root);
                if (!root->there)
                        log_warn("folder_gone", "folder=\"%.300s\" what=\"its documents stay\"",
                                        path);
        }
        return 0;
}

/* What stands in the way is said by the first pass. */
static void make_index(const char *path) {
        struct index_writer *writer = NULL;
        struct index_reader *reader = NULL;

        if (index_reader_open(path, NULL, &reader) == INDEX_E_MISSING)
                (void)index_writer_open(path, NULL, NULL, &writer);
        index_writer_free(writer);
        index_reader_free(reader);
}

int watcher_new(struct watcher **ret, const struct settings *settings, int bell) {
        struct watcher *w = calloc(1, sizeof(*w));
        struct pass *pass;
        int r;

        if (!w)
                return -ENOMEM;
        pthread_mutex_init(&w->lock, NULL);
        pthread_cond_init(&w->work, NULL);
        w->bell = bell;
        pass = &w->pass;
        pass->stop = &w->stop;
        pass->counts = w->counts;
        pass->full = pass->vectors_due = true;
        make_index(settings->rag.index);
        pass->index.path = settings->rag.index;
        pass_place_see(&pass->index);
        r = tree_open(&pass->tree);
        if (r == 0)
                r = set_roots(pass, &settings->rag.watch);
        if (r == 0)
                r = set_embeddings(w, settings->rag.embeddings);
        *ret = w;
        return r;
}

int watcher_start(struct watcher *w) {
        pthread_t thread;
        int r = thread_start(&thread, thread_main, w);

        if (r == 0)
                pthread_detach(thread);
        return r;
}
