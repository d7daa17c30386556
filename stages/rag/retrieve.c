#include "stages/rag/retrieve.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/doorbell.h"
#include "stages/common/clock.h"
#include "stages/common/thread.h"

STAILQ_HEAD(job_list, retrieve_job);

struct retrieve {
        struct slab_shm *slab;
        uint32_t n_threads; /* that have a word in it */
        pthread_mutex_t lock;
        pthread_cond_t work;
        struct job_list waiting, done; /* under lock */
        struct job_list free;          /* the loop's alone */
        struct retrieve_job *jobs;
        char *path;
        struct question_limits limits;
        struct services *services; /* NULL: none */
        int bell;
        int folder_fd; /* what was there at the start, held so that its number names no other */
        struct stat folder;
        bool there, replaced;
        uint64_t looked_ns;
};

/* The first of a list, taken out of it; NULL: it is empty. */
static struct retrieve_job *first_of(struct job_list *list) {
        struct retrieve_job *job = STAILQ_FIRST(list);

        if (job)
                STAILQ_REMOVE_HEAD(list, next);
        return job;
}

static void run(struct retrieve *r, struct hybrid *hybrid, struct retrieve_job *job) {
        struct question_view view;

        question_view(&job->question, &r->limits, &view);
        view.query.k = job->k;
        view.query.deadline_ns = job->deadline_ns;
        job->status = hybrid_run(hybrid, &view.query, &job->error, &job->result);
}

static void *thread_main(void *arg) {
        struct retrieve *r = arg;
        struct services_thread asking = {.services = r->services};
        struct hybrid *hybrid = services_hybrid(&asking, r->path);
        uint32_t self;

        pthread_mutex_lock(&r->lock);
        self = r->n_threads++;
        pthread_mutex_unlock(&r->lock);
        for (;;) {
                struct retrieve_job *job;
                pthread_mutex_lock(&r->lock);
                while (!(job = first_of(&r->waiting)))
                        pthread_cond_wait(&r->work, &r->lock);
                pthread_mutex_unlock(&r->lock);
                slab_aside(r->slab, self, job->req_id);
                services_begin(&asking, &job->said);
                if (hybrid)
                        run(r, hybrid, job);
                else
                        job->status = -ENOMEM;
                slab_aside(r->slab, self, 0);
                pthread_mutex_lock(&r->lock);
                STAILQ_INSERT_TAIL(&r->done, job, next);
                pthread_mutex_unlock(&r->lock);
                doorbell_ring(r->bell);
        }
        return NULL;
}

int retrieve_start(struct retrieve *r, struct slab_shm *slab) {
        int error = 0;

        r->slab = slab;
        for (uint32_t i = 0; i < RETRIEVE_THREADS && !error; i++) {
                pthread_t thread;
                error = thread_start(&thread, thread_main, r);
                if (!error)
                        pthread_detach(thread);
        }
        return error;
}

static void folder_hold(struct retrieve *r) {
        r->folder_fd = open(r->path, O_PATH | O_CLOEXEC);
        if (r->folder_fd != -1 && fstat(r->folder_fd, &r->folder) == -1) {
                close(r->folder_fd);
                r->folder_fd = -1;
        }
}

int retrieve_new(struct retrieve **ret, const char *index_path, const struct settings *settings,
                uint32_t n_jobs, int bell) {
        struct retrieve *r = calloc(1, sizeof(*r));

        if (!r)
                return -ENOMEM;
        r->jobs = calloc(n_jobs, sizeof(*r->jobs));
        r->path = strdup(index_path);
        if (!r->jobs || !r->path || question_limits_init(&r->limits, settings) < 0 ||
                        services_new(&r->services, settings) < 0) {
                free(r->jobs);
                free(r->path);
                free(r);
                return -ENOMEM;
        }
        pthread_mutex_init(&r->lock, NULL);
        pthread_cond_init(&r->work, NULL);
        STAILQ_INIT(&r->waiting);
        STAILQ_INIT(&r->done);
        STAILQ_INIT(&r->free);
        r->bell = bell;
        for (uint32_t i = 0; i < n_jobs; i++)
                STAILQ_INSERT_HEAD(&r->free, &r->jobs[i], next);
        folder_hold(r);
        *ret = r;
        return 0;
}

void retrieve_count(struct retrieve *r, const struct retrieve_job *job,
                struct counters_shm *counters) {
        services_count(r->services, &job->said, counters);
}

bool retrieve_available(struct retrieve *r, uint64_t now_ns) {
        if (!r->looked_ns || now_ns - r->looked_ns > NS_PER_S) {
                struct stat st;
                r->there = stat(r->path, &st) == 0;
                r->replaced = r->there && (r->folder_fd == -1 || st.st_dev != r->folder.st_dev ||
                                                          st.st_ino != r->folder.st_ino);
                r->looked_ns = now_ns;
        }
        return r->there;
}

bool retrieve_replaced(const struct retrieve *r) {
        return r->replaced;
}

struct retrieve_job *retrieve_take(struct retrieve *r) {
        struct retrieve_job *job = first_of(&r->free);

        if (!job)
                return NULL;
        job->abandoned = false;
        job->result = NULL;
        job->status = 0;
        return job;
}

void retrieve_submit(struct retrieve *r, struct retrieve_job *job) {
        pthread_mutex_lock(&r->lock);
        STAILQ_INSERT_TAIL(&r->waiting, job, next);
        pthread_mutex_unlock(&r->lock);
        pthread_cond_signal(&r->work);
}

struct retrieve_job *retrieve_done(struct retrieve *r) {
        struct retrieve_job *job;

        pthread_mutex_lock(&r->lock);
        job = first_of(&r->done);
        pthread_mutex_unlock(&r->lock);
        return job;
}

void retrieve_release(struct retrieve *r, struct retrieve_job *job) {
        job->result = index_result_free(job->result);
        STAILQ_INSERT_HEAD(&r->free, job, next);
}
