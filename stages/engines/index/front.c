#include "stages/engines/index/front.h"

#include <stdbool.h>
#include <yaml.h>
#include <yajl/yajl_gen.h>

struct reading {
        yajl_gen gen;
        struct buffer key;
        struct buffer *title;
        unsigned depth; /* 1: in the map, 2: in one of its members */
        bool key_next;  /* in the map: what comes is a key */
        bool has_key;   /* and was one that can be used */
        bool in_list;   /* that member is a list that is taken */
        bool done;      /* the map has ended */
};

static void put(struct reading *r, const char *data, size_t n) {
        yajl_gen_string(r->gen, (const unsigned char *)data, n);
}

static bool is_title(const struct reading *r) {
        return r->key.n_bytes == 5 && memcmp(r->key.data, "title", 5) == 0;
}

static int on_scalar(struct reading *r, const char *data, size_t n) {
        if (r->depth == 2 && r->in_list && n > 0)
                put(r, data, n);
        if (r->depth != 1)
                return 0;
        r->key_next = !r->key_next;
        if (!r->key_next) {
                r->has_key = n > 0;
                r->key.n_bytes = 0;
                return buffer_append(&r->key, data, n);
        }
        if (!r->has_key || n == 0)
                return 0;
        put(r, r->key.data, r->key.n_bytes);
        put(r, data, n);
        if (!is_title(r) || r->title->n_bytes > 0)
                return 0;
        return buffer_append(r->title, data, n);
}

/* -EBADMSG: there is no map. */
static int on_open(struct reading *r, bool list) {
        if (r->depth == 0 && list)
                return -EBADMSG;
        if (r->depth == 0) {
                yajl_gen_map_open(r->gen);
                r->key_next = true;
        } else if (r->depth == 1 && r->key_next) {
                r->has_key = false;
        } else if (r->depth == 1 && list && r->has_key) {
                put(r, r->key.data, r->key.n_bytes);
                yajl_gen_array_open(r->gen);
                r->in_list = true;
        }
        r->depth++;
        return 0;
}

static void on_close(struct reading *r) {
        r->depth--;
        if (r->depth == 1)
                r->key_next = !r->key_next;
        if (r->depth == 1 && r->in_list)
                yajl_gen_array_close(r->gen);
        if (r->depth == 1)
                r->in_list = false;
        if (r->depth == 0)
                yajl_gen_map_close(r->gen);
        r->done = r->depth == 0;
}

static int on_event(struct reading *r, const yaml_event_t *event) {
        switch (event->type) {
        case YAML_SCALAR_EVENT:
                return on_scalar(r, (const char *)event->data.scalar.value,
                                event->data.scalar.length);
        case YAML_ALIAS_EVENT: /* of what stands elsewhere: left out */
                return on_scalar(r, "", 0);
        case YAML_SEQUENCE_START_EVENT:
                return on_open(r, true);
        case YAML_MAPPING_START_EVENT:
                return on_open(r, false);
        case YAML_SEQUENCE_END_EVENT:
        case YAML_MAPPING_END_EVENT:
                on_close(r);
                return 0;
        case YAML_DOCUMENT_END_EVENT:
        case YAML_STREAM_END_EVENT:
                return r->done ? 0 : -EBADMSG;
        case YAML_NO_EVENT:
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_START_EVENT:
                break;
        }
        return 0;
}

static int read_events(struct reading *r, struct index_str yaml) {
        yaml_parser_t parser;
        int result = 0;

        if (!yaml_parser_initialize(&parser))
                return -ENOMEM;
        yaml_parser_set_input_string(&parser, (const unsigned char *)yaml.data, yaml.n_bytes);
        yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
        while (result == 0 && !r->done) {
                yaml_event_t event;

                if (!yaml_parser_parse(&parser, &event)) {
                        result = parser.error == YAML_MEMORY_ERROR ? -ENOMEM : -EBADMSG;
                        break;
                }
                result = on_event(r, &event);
                yaml_event_delete(&event);
        }
        yaml_parser_delete(&parser);
        return result;
}

int front_read(struct index_str yaml, struct buffer *metadata, struct buffer *title) {
        struct reading r = {.gen = yajl_gen_alloc(NULL), .title = title};
        const unsigned char *json;
        size_t n;
        int result = r.gen ? 0 : -ENOMEM;

        if (result == 0)
                result = yaml.n_bytes > FRONT_BYTES_MAX ? -EBADMSG : read_events(&r, yaml);
        if (result == 0 && yajl_gen_get_buf(r.gen, &json, &n) == yajl_gen_status_ok && n > 2)
                result = buffer_append(metadata, (const char *)json, n);
        if (result == -EBADMSG) {
                title->n_bytes = 0;
                result = 0;
        }
        if (r.gen)
                yajl_gen_free(r.gen);
        buffer_clear(&r.key);
        return result;
}
