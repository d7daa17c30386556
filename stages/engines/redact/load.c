#include "stages/engines/redact/rules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RULES_FILE_MAX 1048576u

bool redact_action_find(const char *name, size_t n, enum redact_action *ret) {
        static const char *const names[] = {
                        [REDACT_AS_TYPE] = "replace",
                        [REDACT_AS_MASK] = "mask",
                        [REDACT_AS_HASH] = "hash",
                        [REDACT_AS_NOTHING] = "drop",
                        [REDACT_BLOCKS] = "block",
        };

        for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                if (strlen(names[i]) == n && !memcmp(names[i], name, n)) {
                        *ret = (enum redact_action)i;
                        return true;
                }
        }
        return false;
}

/* The pieces that options point into. */
struct loading {
        struct redact_choice choices[REDACT_ENTITIES_MAX];
        char names[REDACT_ENTITIES_MAX][REDACT_NAME_MAX + 1];
        char *rules;
};

static int read_choices(const struct redact_config *config, struct loading *loading,
                struct redact_options *options, struct redact_why *why) {
        for (uint32_t i = 0; i < config->n_actions; i++) {
                const char *text = config->actions[i], *equals = strchr(text, '=');
                size_t n = equals ? (size_t)(equals - text) : 0;
                struct redact_choice *choice = &loading->choices[options->n_choices];

                if (i == REDACT_ENTITIES_MAX || n == 0 || n > REDACT_NAME_MAX ||
                                !redact_action_find(
                                                equals + 1, strlen(equals + 1), &choice->action)) {
                        snprintf(why->text, sizeof(why->text),
                                        "%.64s: ENTITY=ACTION was expected, the action one of "
                                        "replace, mask, hash, drop, block",
                                        text);
                        return REDACT_E_RULES;
                }
                memcpy(loading->names[i], text, n);
                choice->entity = loading->names[i];
                options->n_choices++;
        }
        options->choices = loading->choices;
        return 0;
}

int rules_text_read(const char *path, char **ret, size_t *ret_n, struct redact_why *why) {
        char *rules = malloc(RULES_FILE_MAX + 1);
        FILE *file = rules ? fopen(path, "re") : NULL;
        size_t n = 0;

        if (!rules)
                return -ENOMEM;
        if (file)
                n = fread(rules, 1, RULES_FILE_MAX + 1, file);
        if (!file || ferror(file) || n > RULES_FILE_MAX) {
                snprintf(why->text, sizeof(why->text), "%.160s: %s", path,
                                n > RULES_FILE_MAX ? "longer than 1 MiB" : strerror(errno));
                if (file)
                        fclose(file);
                free(rules);
                return REDACT_E_RULES;
        }
        fclose(file);
        *ret = rules;
        *ret_n = n;
        return 0;
}

static int read_rules(const char *path, struct loading *loading, struct redact_options *options,
                struct redact_why *why) {
        int r = path ? rules_text_read(path, &loading->rules, &options->n_rules, why) : 0;

        if (path && r == 0) {
                options->rules = loading->rules;
                options->rules_name = path;
        }
        return r;
}

static bool hashes(const struct redact_options *options) {
        for (uint32_t i = 0; i < options->n_choices; i++)
                if (options->choices[i].action == REDACT_AS_HASH)
                        return true;
        return options->action == REDACT_AS_HASH && options->n_entities > 0;
}

static int read_key(const struct redact_config *config, struct redact_options *options,
                struct redact_why *why) {
        const char *key = config->key_env ? getenv(config->key_env) : NULL;

        if (!hashes(options))
                return 0;
        if (!key || !key[0]) {
                snprintf(why->text, sizeof(why->text),
                                config->key_env ? "hashes need a key: the variable %.64s is not set"
                                                : "hashes need a key: no variable is named%.0s",
                                config->key_env ? config->key_env : "");
                return REDACT_E_RULES;
        }
        options->key = (const uint8_t *)key;
        options->n_key = (uint32_t)strlen(key);
        return 0;
}

int redact_load(const struct redact_config *config, struct redact **ret, struct redact_why *why) {
        struct redact_options options = {.entities = config->entities,
                        .n_entities = config->n_entities,
                        .min_score = config->min_score,
                        .action = config->action,
                        .numbered = config->numbered};
        struct loading *loading = calloc(1, sizeof(*loading));
        int r = loading ? 0 : -ENOMEM;

        if (r == 0)
                r = read_choices(config, loading, &options, why);
        if (r == 0)
                r = read_rules(config->rules, loading, &options, why);
        if (r == 0)
                r = read_key(config, &options, why);
        if (r == 0)
                r = redact_new(&options, ret, why);
        if (loading)
                free(loading->rules);
        free(loading);
        return r;
}
