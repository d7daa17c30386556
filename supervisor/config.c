#include "supervisor/config.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "stages/engines/examples/examples.h"
#include "stages/engines/mustache/folder.h"
#include "supervisor/config_tree.h"

/* ---- load -------------------------------------------------------------------------------- */

static void freep(struct config_source **sources) {
        free(*sources);
}

static int base_tree(struct config_node **ret) {
        __attribute__((cleanup(settings_freep))) struct settings *defaults = NULL;
        int r;

        r = settings_default(&defaults);
        if (r)
                return r;
        return config_tree_from(&settings_shape, defaults, ret);
}

static int merge_file(struct config_node *root, const struct config_source *source,
                      struct config_error *err) {
        __attribute__((cleanup(config_node_freep))) struct config_node *file = NULL;
        struct config_node *own;
        int r;

        r = config_tree_read(source, &file, err);
        if (r)
                return r;
        r = config_check_map(&settings_shape, "", file, "", err);
        if (r)
                return r;
        own = file;
        file = NULL;
        return config_merge(&settings_shape, "", root, own);
}

/* Not by default only. */
static bool is_given(const struct config_node *root, const char *path) {
        return config_node_nearest(root, path)->source != NULL;
}

static int finish(struct config_node *root, bool to_run, struct settings **ret,
                  struct config_error *err) {
        __attribute__((cleanup(settings_freep))) struct settings *s = NULL;
        int r;

        r = config_complete(root, err);
        if (r)
                return r;
        r = config_store(root, &s, err);
        if (r)
                return r;
        if (!is_given(root, "assemble.enforce_context"))
                s->assemble.enforce_context = is_given(root, "assemble.context_tokens");
        r = config_check_whole(s, root, err);
        if (r == 0 && to_run)
                r = config_check_available(s, root, err);
        if (r)
                return r;
        *ret = s;
        s = NULL;
        return 0;
}

/* sources[0] is the file, one for each set follows. */
static int load(const struct config_source *sources, unsigned n_sets, bool to_run,
                struct settings **ret, struct config_error *err) {
        __attribute__((cleanup(config_node_freep))) struct config_node *root = NULL;
        int r;

        r = base_tree(&root);
        if (r)
                return r;
        if (sources[0].file) {
                root->source = &sources[0]; /* where what concerns the whole is complained of */
                root->line = 1;
                r = merge_file(root, &sources[0], err);
                if (r)
                        return r;
        }
        for (unsigned i = 1; i <= n_sets; i++) {
                r = config_set(root, &sources[i], err);
                if (r)
                        return r;
        }
        return finish(root, to_run, ret, err);
}

static int load_all(const char *path, const char *const *sets, unsigned n_sets, bool to_run,
                    struct settings **ret, struct config_error *err) {
        __attribute__((cleanup(freep))) struct config_source *sources =
                calloc((size_t)n_sets + 1, sizeof(*sources));
        int r = -ENOMEM;

        err->line[0] = '\0';
        if (sources) {
                sources[0].file = path;
                for (unsigned i = 0; i < n_sets; i++)
                        sources[i + 1].set = sets[i];
                r = load(sources, n_sets, to_run, ret, err);
        }
        if (r < 0)
                snprintf(err->line, sizeof(err->line), "%s: %s",
                         path ? path : "the configuration", strerror(-r));
        return r;
}

int config_load(const char *path, const char *const *sets, unsigned n_sets, struct settings **ret,
                struct config_error *err) {
        return load_all(path, sets, n_sets, false, ret, err);
}

int config_load_to_run(const char *path, const char *const *sets, unsigned n_sets,
                       struct settings **ret, struct config_error *err) {
        return load_all(path, sets, n_sets, true, ret, err);
}

/* ---- reload ------------------------------------------------------------------------------ */

void config_diff(const struct settings *before, const struct settings *after,
                 struct config_diff *ret) {
        *ret = (struct config_diff){0};
        for (uint32_t i = 0; i < settings_shape.n_rows; i++) {
                const struct settings_row *row = &settings_shape.rows[i];

                if (settings_row_equal(row, before, after))
                        continue;
                if (ret->n_changed < CONFIG_ROWS_MAX)
                        ret->changed[ret->n_changed++] = row;
                ret->n_restart += row->applies == SETTINGS_RESTART;
                ret->at |= row->at;
        }
}

/* Of what a file holds now; one that cannot be read is as good as an empty one. */
static uint64_t examples_digest(const char *path, uint64_t seed) {
        struct examples examples = {.v = NULL};
        struct examples_error err;
        int r = examples_load(path, &examples, &err);

        seed = XXH3_64bits_withSeed(&examples.digest, r ? 0 : sizeof(examples.digest), seed + 1);
        examples_clear(&examples);
        return seed;
}

uint32_t config_files(const struct settings *s, uint64_t *ret_digest) {
        __attribute__((cleanup(mustache_folder_clear))) struct mustache_folder folder = {0};
        uint64_t digest;
        char path[PATH_MAX];

        if (s->assemble.templates)
                (void)mustache_folder_load(s->assemble.templates, &folder); /* gone: none are left */
        digest = mustache_folder_digest(&folder);
        if (s->assemble.few_shot)
                digest = examples_digest(s->assemble.few_shot, digest);
        for (uint32_t i = 0; i < folder.n; i++) {
                if (!folder.files[i].front.few_shot)
                        continue;
                mustache_front_path(s->assemble.templates, folder.files[i].front.few_shot, path,
                                    sizeof(path));
                digest = examples_digest(path, digest);
        }
        *ret_digest = digest;
        return AT_ASSEMBLE;
}
