/*
 * plain -- a document's text without what nobody sees.
 *
 * Shape   pure function; what is taken out: control characters but tab and line ends, bidirectional
 *         controls, zero-width and other invisible characters, variation selectors, tag characters
 *         (Unicode 15.1, default ignorable and others): with them a text says one thing to a reader
 *         and another to a model
 * Units   bytes
 * Owner   the caller's buffers, which may be one
 * Errors  none; bytes that are no UTF-8 stay as they are
 */
#pragma once

#include <stddef.h>

/* Copies n bytes without them; how many are left. */
size_t plain_copy(char *to, const char *text, size_t n);
