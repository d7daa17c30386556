#include "stages/engines/redact/screen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/redact/rules.h"

static bool action_find(const char *name, enum screen_action *ret) {
        static const char *const names[] = {
                        [SCREEN_BLOCK] = "block", [SCREEN_END] = "end", [SCREEN_FLAG] = "flag"};

        for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                if (strcmp(names[i], name) != 0)
                        continue;
                *ret = (enum screen_action)i;
                return true;
        }
        return false;
}

/* What options point into. */
struct choosing {
        struct redact_choice choices[REDACT_ENTITIES_MAX];
        enum screen_action actions[REDACT_ENTITIES_MAX];
        char names[REDACT_ENTITIES_MAX][REDACT_NAME_MAX + 1];
};

static int choose(const struct screen_config *config, struct choosing *to, struct redact_options *options,
                struct redact_why *why) {
        for (uint32_t i = 0; i < config->n_actions; i++) {
                const char *text = config->actions[i], *equals = strchr(text, '=');
                size_t n = equals ? (size_t)(equals - text) : 0;

                if (i == REDACT_ENTITIES_MAX || n == 0 || n > REDACT_NAME_MAX ||
                                !action_find(equals + 1, &to->actions[i])) {
                        snprintf(why->text, sizeof(why->text),
                                        "%.64s: CATEGORY=ACTION was expected, the action one of block, end, flag", text);
                        return REDACT_E_RULES;
                }
                memcpy(to->names[i], text, n);
                to->choices[i] = (struct redact_choice){.entity = to->names[i],
                                .action = config->flags || to->actions[i] == SCREEN_FLAG ? REDACT_AS_IS
                                                                                         : REDACT_BLOCKS};
                options->n_choices++;
        }
        options->choices = to->choices;
        return 0;
}

static void keep_actions(struct screen *screen, const struct screen_config *config, const struct choosing *from) {
        uint32_t n = redact_entities(screen->engine);

        for (uint32_t i = 0; i < n; i++) {
                screen->actions[i] = config->flags ? SCREEN_FLAG : SCREEN_BLOCK;
                for (uint32_t k = 0; k < config->n_actions && !config->flags; k++)
                        if (!strcmp(from->names[k], redact_name(screen->engine, i)))
                                screen->actions[i] = (uint8_t)from->actions[k];
        }
}

static int make(struct redact_options *options, struct screen **ret, struct redact_why *why) {
        struct screen *screen = calloc(1, sizeof(*screen));
        int r = screen ? redact_new(options, &screen->engine, why) : -ENOMEM;

        if (r) {
                free(screen);
                return r;
        }
        *ret = screen;
        return 0;
}

int screen_load(const struct screen_config *config, struct screen **ret, struct redact_why *why) {
        struct redact_options options = {
                        .action = config->flags ? REDACT_AS_IS : REDACT_BLOCKS, .rules_name = config->lists};
        struct choosing *choosing;
        char *rules = NULL;
        int r;

        *ret = NULL;
        if (!config->lists)
                return 0;
        choosing = calloc(1, sizeof(*choosing));
        r = choosing ? choose(config, choosing, &options, why) : -ENOMEM;
        if (r == 0)
                r = rules_text_read(config->lists, &rules, &options.n_rules, why);
        options.rules = rules;
        if (r == 0)
                r = make(&options, ret, why);
        if (r == 0)
                keep_actions(*ret, config, choosing);
        free(rules);
        free(choosing);
        return r;
}

int screen_tripwires(struct screen **ret, struct redact_why *why) {
        static const char rules[] =
#define TRIPWIRE(score, pattern) "pattern PROMPT_INJECTION " #score " " pattern "\n"
#include "stages/engines/redact/tripwires.def"
#undef TRIPWIRE
                        ;
        struct redact_options options = {.action = REDACT_AS_IS,
                        .rules = rules,
                        .n_rules = sizeof(rules) - 1,
                        .rules_name = "tripwires.def"};

        return make(&options, ret, why);
}

struct screen *screen_free(struct screen *screen) {
        if (!screen)
                return NULL;
        redact_free(screen->engine);
        free(screen);
        return NULL;
}

static void note(void *ctx, const struct redact_piece *piece) {
        struct screen_found *found = ctx;

        if (piece->entity == REDACT_PLAIN)
                return;
        found->any = true;
        found->n[piece->entity]++;
        if (piece->score > found->score)
                found->score = piece->score;
        found->blocked |= piece->blocked;
}

void screen_text(struct screen *screen, const char *text, size_t n, struct screen_found *found) {
        struct redact_stream *stream = calloc(1, sizeof(*stream));

        if (!stream) { /* what cannot be looked at does not pass */
                found->blocked = true;
                return;
        }
        redact_feed(screen->engine, stream, text, n, true, &(struct redact_sink){note, found, NULL});
        free(stream);
}
