#include "stages/assemble/history.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "shm/doorbell.h"
#include "stages/common/thread.h"
#include "stages/engines/store/sessions.h"

#define BLOCKS 4u /* steps of the cut: so many make what may stay */

enum state { IDLE, ASKED, ANSWERED };

struct history {
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t work;
        bool started;
        int bell;
        const char *path; /* of the settings */
        uint64_t turns;
        int64_t ttl_ms;
        /* Under the lock. */
        enum state state;
        bool stop;
        bool left; /* nobody waits for this answer */
        int status; /* of it: 0, STORE_E_* */
        /* The thread's while ASKED, else the loop's. */
        struct mr_view tenant, session; /* in `names` */
        char *names;
        struct history_found found;
        char why[STORE_WHY_MAX]; /* of a status that is not 0 */
        /* The thread's own. */
        struct store store;
        bool open;
        struct stat file;
};

static void found_clear(struct history_found *found) {
        for (uint32_t i = 0; i < found->n; i++)
                free(found->v[i].bytes);
        found->n = 0;
        found->bytes = found->cut = 0;
}

/* ---- the thread ---- */

/* A file that was put into the place of ours is another. */
static int ensure_open(struct history *h) {
        struct store_options options = {.path = h->path, .read = true};
        char aside[STORE_WHY_MAX];
        struct stat now;
        int r;

        if (stat(h->path, &now) == -1) {
                snprintf(h->why, sizeof(h->why), "%s", strerror(errno));
                return errno == ENOENT ? STORE_E_NONE : STORE_E_FAILED;
        }
        if (h->open && now.st_ino == h->file.st_ino && now.st_dev == h->file.st_dev)
                return 0;
        if (h->open)
                store_close(&h->store);
        h->file = now;
        r = store_open(&options, &h->store, aside, h->why);
        h->open = r == 0;
        return r;
}

/* The oldest turn goes. */
static void drop_first(struct history_found *found) {
        uint64_t turn = found->v[0].turn;
        uint32_t n = 0;

        for (; n < found->n && found->v[n].turn == turn; n++) {
                found->bytes -= found->v[n].asked.n + found->v[n].answer.n;
                free(found->v[n].bytes);
        }
        found->n -= n;
        memmove(found->v, found->v + n, found->n * sizeof(*found->v));
}

static int add(void *ctx, const struct sessions_exchange *e) {
        struct history_found *found = ctx;
        struct history_exchange *to;
        char *bytes = malloc((size_t)e->asked.n + e->answer.n + 1);

        if (found->n == found->cap) {
                uint32_t cap = found->cap ? found->cap * 2 : 64;
                struct history_exchange *more = realloc(found->v, cap * sizeof(*more));

                if (!more) {
                        free(bytes);
                        return STORE_E_FAILED;
                }
                found->v = more;
                found->cap = cap;
        }
        if (!bytes)
                return STORE_E_FAILED;
        memcpy(bytes, e->asked.p, e->asked.n);
        memcpy(bytes + e->asked.n, e->answer.p, e->answer.n);
        to = &found->v[found->n++];
        *to = (struct history_exchange){.turn = e->turn,
                        .at = e->at,
                        .asked = {bytes, e->asked.n},
                        .answer = {bytes + e->asked.n, e->answer.n},
                        .bytes = bytes};
        found->bytes += e->asked.n + e->answer.n;
        while (found->n && found->bytes > HISTORY_BYTES_MAX)
                drop_first(found);
        return 0;
}

/* Of so many turns the first that may not stay, in whole blocks. */
static uint64_t cut_of(uint64_t turns, uint64_t most) {
        uint64_t block = most / BLOCKS ? most / BLOCKS : 1;

        return turns <= most ? 0 : (turns - most + block - 1) / block * block;
}

static int look_up(struct history *h) {
        struct sessions_session session;
        struct timespec now;
        int r = ensure_open(h);

        found_clear(&h->found);
        clock_gettime(CLOCK_REALTIME, &now);
        if (r == 0)
                r = sessions_find(&h->store,
                                (struct results_text){h->tenant.p, h->tenant.n},
                                (struct results_text){h->session.p, h->session.n},
                                now.tv_sec * 1000 + now.tv_nsec / 1000000 - h->ttl_ms, &session);
        if (r)
                return r == STORE_E_NONE ? 0 : r;
        h->found.cut = cut_of(session.turns, h->turns);
        r = sessions_exchanges(&h->store, session.n, h->found.cut, add, &h->found);
        if (r)
                found_clear(&h->found);
        return r;
}

/* 0, or `why` says why not. */
static int look_up_or_say(struct history *h) {
        int r = look_up(h);

        if (r && h->open)
                snprintf(h->why, sizeof(h->why), "%s", store_why(&h->store));
        return r;
}

static void *thread_main(void *arg) {
        struct history *h = arg;

        pthread_mutex_lock(&h->lock);
        for (;;) {
                while (h->state != ASKED && !h->stop)
                        pthread_cond_wait(&h->work, &h->lock);
                if (h->stop)
                        break;
                pthread_mutex_unlock(&h->lock);
                int r = look_up_or_say(h);
                pthread_mutex_lock(&h->lock);
                h->status = r;
                h->state = h->left ? IDLE : ANSWERED;
                doorbell_ring(h->bell);
        }
        pthread_mutex_unlock(&h->lock);
        if (h->open)
                store_close(&h->store);
        return NULL;
}

/* ---- the loop's side ---- */

int history_new(struct history **ret, const struct settings *settings, int bell) {
        const char *path = settings->stream.database;
        struct history *h;

        *ret = NULL;
        if (!settings->sessions.history_turns || !path || strcmp(path, "none") == 0)
                return 0;
        h = calloc(1, sizeof(*h));
        if (!h)
                return -ENOMEM;
        pthread_mutex_init(&h->lock, NULL);
        pthread_cond_init(&h->work, NULL);
        h->bell = bell;
        h->path = path;
        h->turns = settings->sessions.history_turns;
        h->ttl_ms = (int64_t)settings->sessions.ttl_s * 1000;
        *ret = h;
        return 0;
}

int history_start(struct history *h) {
        int r = thread_start(&h->thread, thread_main, h);

        h->started = r == 0;
        return r;
}

struct history *history_free(struct history *h) {
        if (!h)
                return NULL;
        pthread_mutex_lock(&h->lock);
        h->stop = true;
        pthread_mutex_unlock(&h->lock);
        pthread_cond_signal(&h->work);
        if (h->started)
                pthread_join(h->thread, NULL);
        pthread_cond_destroy(&h->work);
        pthread_mutex_destroy(&h->lock);
        found_clear(&h->found);
        free(h->found.v);
        free(h->names);
        free(h);
        return NULL;
}

static enum state state_of(struct history *h) {
        enum state state;

        pthread_mutex_lock(&h->lock);
        state = h->state;
        pthread_mutex_unlock(&h->lock);
        return state;
}

bool history_ask(struct history *h, struct mr_view tenant, struct mr_view session) {
        if (state_of(h) == ASKED)
                return false;
        free(h->names);
        h->names = malloc((size_t)tenant.n + session.n + 1);
        if (!h->names)
                return false;
        memcpy(h->names, tenant.p, tenant.n);
        memcpy(h->names + tenant.n, session.p, session.n);
        h->tenant = (struct mr_view){h->names, tenant.n};
        h->session = (struct mr_view){h->names + tenant.n, session.n};
        pthread_mutex_lock(&h->lock);
        h->state = ASKED;
        h->left = false;
        pthread_mutex_unlock(&h->lock);
        pthread_cond_signal(&h->work);
        return true;
}

bool history_is_there(struct history *h) {
        return state_of(h) == ANSWERED;
}

const struct history_found *history_take(struct history *h, const char **ret_why) {
        int status;

        pthread_mutex_lock(&h->lock);
        status = h->status;
        h->state = IDLE;
        pthread_mutex_unlock(&h->lock);
        *ret_why = h->why;
        return status == 0 ? &h->found : NULL;
}

void history_leave(struct history *h) {
        pthread_mutex_lock(&h->lock);
        h->left = true;
        pthread_mutex_unlock(&h->lock);
}

/* ---- what fits ---- */

/* May the cut lie before this exchange? It begins a turn, and a block of them. */
static bool is_step(const struct history_found *found, uint32_t i, uint64_t step) {
        uint32_t before = i;

        if (i == 0)
                return found->v[0].turn == found->cut + 1;
        if (found->v[i].turn == found->v[i - 1].turn)
                return false;
        for (before = i - 1; before > 0 && found->v[before - 1].turn == found->v[before].turn; before--)
                ;
        return found->v[i].at / step != found->v[before].at / step;
}

static uint64_t cost_of(const struct history_exchange *e, const struct fit *fit) {
        struct tokens_count count = {{0}};

        tokens_count(&count, e->asked.p, e->asked.n);
        tokens_count(&count, e->answer.p, e->answer.n);
        return fit_tokens(fit, &count);
}

uint64_t history_tokens(struct history_slice slice, const struct fit *fit) {
        uint64_t n = 0;

        for (uint32_t i = 0; i < slice.n; i++)
                n += cost_of(&slice.v[i], fit);
        return n;
}

struct history_slice history_fit(
                const struct history_found *found, uint64_t context, uint64_t tokens,
                const struct fit *fit) {
        uint64_t step = context < HISTORY_BYTES_MAX / BLOCKS ? context : HISTORY_BYTES_MAX / BLOCKS;
        uint32_t at_turn = found->n, at_step = found->n, i = found->n;
        uint64_t used = 0;

        if (!found->n)
                return (struct history_slice){NULL, 0};
        while (i > 0) {
                used += cost_of(&found->v[--i], fit);
                if (used > tokens)
                        break;
                if (i == 0 || found->v[i - 1].turn != found->v[i].turn)
                        at_turn = i;
                if (is_step(found, i, step ? step : 1))
                        at_step = i;
        }
        i = at_step < found->n ? at_step : at_turn;
        return (struct history_slice){found->v + i, found->n - i};
}
