/*
 * page -- the main figures as one plain HTML page, for people without a Prometheus at hand.
 *
 * Shape   a complete document: no script, no style from elsewhere, nothing that clients said
 * Owner   writes into the caller's text
 * Errors  none of its own: see struct text
 * Limits  a table row for each process
 */
#pragma once

#include "stages/telemetry/figures.h"
#include "stages/telemetry/text.h"

void page_write(struct text *text, const struct figures *f);
