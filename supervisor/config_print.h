/*
 * config_print -- how a text is written where quotes may be needed.
 *
 * Shape   what config_print.c shares with config_store.c and config_manual.c
 * Units   none
 * Owner   nothing is kept
 * Errors  those of the stream, asked for once at its end
 * Limits  none
 */
#pragma once

#include <stdio.h>

#include "supervisor/config_tree.h"

/* In double quotes, as JSON has it, which is also YAML. */
void config_print_text(FILE *to, const char *text);

/* A tree as JSON, without the end of the line. */
void config_print_node(FILE *to, const struct config_node *node);

/* As YAML: without quotes where no reader can take it for anything but a text. */
void config_print_word(FILE *to, const char *text);
