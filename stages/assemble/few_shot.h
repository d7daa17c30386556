/*
 * few_shot -- examples that stand before the conversation.
 *
 * Shape   the set of assemble.few_shot, and one for each template whose front matter names a file; all of a
 *         set, or those nearest to the question, in the order of the file either way
 * Units   bytes
 * Owner   the stage; read once when the process starts: a reload replaces it
 * Errors  0, -errno; a file that has broken since it was checked is said, and leaves prompts without
 * Limits  as examples.h
 */
#pragma once

#include "stages/common/record.h"
#include "stages/common/settings.h"
#include "stages/engines/examples/examples.h"
#include "stages/engines/mustache/folder.h"

struct few_shot_set;

struct few_shot {
        struct few_shot_set *sets; /* the first is that of the settings */
        uint32_t n_sets;
        const struct example **chosen; /* EXAMPLES_MAX */
};

/* What a prompt takes; lives until the next choice. */
struct few_shot_choice {
        const struct example *const *v;
        uint32_t n;
};

int few_shot_init(struct few_shot *few_shot, const struct settings *settings,
                const struct mustache_folder *folder);
void few_shot_close(struct few_shot *few_shot);
/* file: the template that is taken, of the same folder; NULL: the builtin one. */
struct few_shot_choice few_shot_choose(const struct few_shot *few_shot,
                const struct mustache_file *file, struct mr_view question);
