/*
 * program -- what compiling makes of a template.
 *
 * Shape   operations in the order of the text; one with a body is followed by it and knows its end
 * Units   offsets into the template's own copy of the file
 * Owner   struct mustache
 * Errors  none
 * Limits  UINT32_MAX bytes and operations
 */
#pragma once

#include "stages/engines/mustache/mustache.h"

enum op_kind {
        OP_TEXT,     /* text; with OP_LINE an indentation comes first */
        OP_INDENT,   /* a line begins with a tag */
        OP_VARIABLE, /* OP_RAW: not escaped */
        OP_SECTION,  /* body */
        OP_INVERTED, /* body */
        OP_PARTIAL,  /* OP_DYNAMIC: the name is where the name stands */
        OP_PARENT,   /* likewise; its body holds blocks only */
        OP_BLOCK,    /* body */
};

enum op_flag {
        OP_LINE = 1,        /* text: it begins a line; block: its body begins on a line of its own */
        OP_RAW = 2,         /* variable */
        OP_DYNAMIC = 4,     /* partial, parent */
        OP_STANDALONE = 8,  /* partial, parent, block: alone on its line, of which nothing is left */
};

struct op {
        uint8_t kind, flags;
        uint32_t at;                 /* of the tag, for messages */
        uint32_t end;                /* of the body: the first operation behind it */
        struct mustache_text text;   /* or name */
        struct mustache_text indent; /* what its body's or partial's lines are indented by */
};

struct mustache {
        char *file;
        size_t n_file;
        struct op *ops;
        uint32_t n_ops, cap;
        char name[256];
};
