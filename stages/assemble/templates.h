/*
 * templates -- which template a request takes, and the last user message that it makes.
 *
 * Shape   a folder, read once when the process starts; a reload replaces the process
 * Units   bytes; tokens
 * Owner   the stage
 * Errors  PROMPT_E_*; the reason is for the client: places in templates, never prompt text
 * Limits  TEMPLATES_WORK_MAX steps and PROMPT_LITERAL_MAX bytes a message
 *
 * The request's own choice comes first, then the template whose front matter names the request's
 * model, then assemble.default; only chats take one. A template sees: prompt, the last user text, put in
 * as the client's own bytes; system; documents, as many as the budget has room for; history; examples; vars.
 */
#pragma once

#include "stages/assemble/prompt_own.h"
#include "stages/common/settings.h"
#include "stages/engines/mustache/folder.h"

#define TEMPLATES_WORK_MAX 1000000u

struct templates {
        struct mustache_folder folder;
        struct few_shot few_shot;
        struct mustache_text default_name;
        struct mustache_data *data;
        struct mustache_output out;
        struct mustache_marks marks;
};

/* 0 or -errno. A template that is broken is so for the requests that take it. */
int templates_init(struct templates *templates, const struct settings *settings);
void templates_close(struct templates *templates);
/* *ret is NULL: the builtin one. message: PROMPT_MESSAGE_MAX bytes. */
int templates_choose(const struct templates *templates, const struct record *record,
                const struct mustache_file **ret, char *message);
int templates_render(struct templates *templates, const struct mustache_file *file,
                struct prompt *prompt, struct json_buf *lit, const struct prompt_source *src,
                uint64_t tokens);
