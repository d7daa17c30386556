#include "stages/assemble/few_shot.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/log.h"
#include "stages/engines/index/nearest.h"

struct few_shot_set {
        const struct mustache_file *file; /* whose it is; NULL: that of the settings */
        struct examples examples;
        struct nearest *nearest; /* NULL: all are taken */
        uint32_t most;
};

/* ---- reading ---- */

static void say_broken(const char *path, int r, const struct examples_error *err) {
        if (r < 0)
                log_error("few_shot", "path=\"%s\" error=\"%s\"", path, strerror(-r));
        else
                log_error("few_shot", "path=\"%s\" line=%u error=\"%s\"", path, err->line, err->text);
}

static int nearest_make(struct few_shot_set *set) {
        struct index_str *texts = calloc(set->examples.n, sizeof(*texts));
        int r;

        if (!texts)
                return -ENOMEM;
        for (uint32_t i = 0; i < set->examples.n; i++)
                texts[i] = (struct index_str){
                                set->examples.v[i].user.p, set->examples.v[i].user.n};
        r = nearest_new(texts, set->examples.n, &set->nearest);
        free(texts);
        return r ? -ENOMEM : 0;
}

static int set_read(struct few_shot_set *set, const char *path, uint64_t most) {
        struct examples_error err;
        int r = examples_load(path, &set->examples, &err);

        if (r == -ENOMEM)
                return r;
        if (r)
                say_broken(path, r, &err);
        set->most = (uint32_t)(most > EXAMPLES_MAX ? EXAMPLES_MAX : most);
        return most && set->examples.n > most ? nearest_make(set) : 0;
}

int few_shot_init(struct few_shot *fs, const struct settings *settings,
                const struct mustache_folder *folder) {
        const char *templates = settings->assemble.templates;
        char path[PATH_MAX];
        int r = 0;

        *fs = (struct few_shot){.n_sets = 1};
        fs->sets = calloc((size_t)folder->n + 1, sizeof(*fs->sets));
        fs->chosen = calloc(EXAMPLES_MAX, sizeof(struct example *));
        if (!fs->sets || !fs->chosen)
                return -ENOMEM;
        if (settings->assemble.few_shot)
                r = set_read(&fs->sets[0], settings->assemble.few_shot,
                                settings->assemble.few_shot_nearest);
        for (uint32_t i = 0; r == 0 && i < folder->n; i++) {
                const struct mustache_file *file = &folder->files[i];

                if (!file->front.few_shot)
                        continue;
                fs->sets[fs->n_sets].file = file;
                mustache_front_path(templates, file->front.few_shot, path, sizeof(path));
                r = set_read(&fs->sets[fs->n_sets++], path, file->front.few_shot_nearest);
        }
        return r;
}

void few_shot_close(struct few_shot *fs) {
        for (uint32_t i = 0; fs->sets && i < fs->n_sets; i++) {
                nearest_free(fs->sets[i].nearest);
                examples_clear(&fs->sets[i].examples);
        }
        free(fs->sets);
        free(fs->chosen);
        *fs = (struct few_shot){.n_sets = 0};
}

/* ---- choosing ---- */

static int by_number(const void *a, const void *b) {
        uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

        return x < y ? -1 : x > y;
}

struct few_shot_choice few_shot_choose(const struct few_shot *fs, const struct mustache_file *file,
                struct mr_view question) {
        const struct few_shot_set *set = fs->sets;
        uint32_t numbers[EXAMPLES_MAX], n = 0;

        if (!set)
                return (struct few_shot_choice){NULL, 0};
        for (uint32_t i = 1; file && i < fs->n_sets; i++)
                if (fs->sets[i].file == file)
                        set = &fs->sets[i];
        if (set->nearest) {
                if (nearest_find(set->nearest, (struct index_str){question.p, question.n}, set->most,
                                    numbers, &n))
                        n = 0;
                qsort(numbers, n, sizeof(numbers[0]), by_number);
        } else {
                for (; n < set->examples.n; n++)
                        numbers[n] = n;
        }
        for (uint32_t i = 0; i < n; i++)
                fs->chosen[i] = &set->examples.v[numbers[i]];
        return (struct few_shot_choice){fs->chosen, n};
}
