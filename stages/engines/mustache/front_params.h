/*
 * front_params -- a map of YAML as the members of a JSON object.
 *
 * Shape   yaml node -> text; plain scalars are what they are in YAML's core schema: null, true,
 *         false, numbers as JSON writes them, else text; a quoted scalar is text
 * Units   bytes
 * Owner   the text is the caller's, to be freed
 * Errors  0, -ENOMEM, MUSTACHE_E_SYNTAX with *ret_bad: the node that is none
 * Limits  FRONT_DEPTH_MAX levels; each node is written once for each time that it is named, up to
 *         PARAMS_BYTES_MAX
 */
#pragma once

#include <yaml.h>

#include "stages/engines/mustache/front.h"

#define PARAMS_BYTES_MAX 65536u

int front_params(yaml_document_t *document, const yaml_node_t *map, char **ret, uint32_t *ret_n,
                const yaml_node_t **ret_bad);
