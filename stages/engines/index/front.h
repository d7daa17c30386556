/*
 * front -- the YAML that a Markdown file may begin with, as metadata.
 *
 * Shape   members of the map that are scalars become strings as they were written, lists of scalars
 *         arrays of strings; what is nested deeper, or empty, is left out
 * Units   bytes
 * Owner   the caller clears both buffers
 * Errors  0 or -ENOMEM; what is no map, or broken, gives nothing
 * Limits  FRONT_BYTES_MAX of YAML
 */
#pragma once

#include "stages/engines/index/buffer.h"
#include "stages/engines/index/index.h"

#define FRONT_BYTES_MAX 65536u

/* metadata: a JSON object, or empty; title: of its member `title`, or empty. */
int front_read(struct index_str yaml, struct buffer *metadata, struct buffer *title);
