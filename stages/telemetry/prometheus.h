/*
 * prometheus -- the metrics as text, in Prometheus's format 0.0.4 or as OpenMetrics 1.0.0.
 *
 * Shape   # HELP, # TYPE, then the samples of that family, family after family; OpenMetrics ends
 *         in # EOF
 * Units   seconds and bytes; histograms have the buckets of shm/counters.h
 * Owner   writes into the caller's text
 * Errors  none of its own: see struct text
 * Limits  about 130 KiB for eight lanes
 *
 * docs/metrics.md has the same table for people; a test holds one against the other.
 */
#pragma once

#include "stages/telemetry/figures.h"
#include "stages/telemetry/text.h"

enum prometheus_format { PROMETHEUS_TEXT, PROMETHEUS_OPENMETRICS };

const char *prometheus_content_type(enum prometheus_format format);
/* What an Accept header asks for; OpenMetrics when it is at least as welcome as plain text. */
enum prometheus_format prometheus_negotiate(const char *accept, uint32_t n);
void prometheus_write(struct text *text, const struct figures *f, enum prometheus_format format);
