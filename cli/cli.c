#include "cli/cli.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <msgpack.h>
#include <yajl/yajl_gen.h>

void cli_error(const char *command, const char *format, ...) {
        va_list args;

        fprintf(stderr, "millrace %s: ", command);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fputc('\n', stderr);
}

int cli_client_failed(const char *command, int status) {
        cli_error(command, "%s", millrace_strerror(status));
        return status == MILLRACE_E_UNREACHABLE || status == MILLRACE_E_CLOSED ? CLI_UNREACHABLE
                                                                               : CLI_FAILED;
}

int cli_connect(const char *command, const char *socket, struct millrace **ret) {
        char path[512] = "the default socket path";
        int r = millrace_connect(ret, socket);

        if (!r)
                return CLI_DONE;
        if (socket)
                snprintf(path, sizeof(path), "%s", socket);
        else
                millrace_default_socket(path, sizeof(path));
        cli_error(command, "cannot reach the daemon at %s: %s (start it with `millrace run`)", path,
                        millrace_strerror(r));
        return CLI_UNREACHABLE;
}

/* ---- JSON ---- */

static bool gen(yajl_gen g, const msgpack_object *o);

static bool gen_map(yajl_gen g, const msgpack_object_map *map) {
        bool ok = yajl_gen_map_open(g) == yajl_gen_status_ok;

        for (uint32_t i = 0; ok && i < map->size; i++)
                ok = map->ptr[i].key.type == MSGPACK_OBJECT_STR && gen(g, &map->ptr[i].key) &&
                     gen(g, &map->ptr[i].val);
        return ok && yajl_gen_map_close(g) == yajl_gen_status_ok;
}

static bool gen_array(yajl_gen g, const msgpack_object_array *array) {
        bool ok = yajl_gen_array_open(g) == yajl_gen_status_ok;

        for (uint32_t i = 0; ok && i < array->size; i++)
                ok = gen(g, &array->ptr[i]);
        return ok && yajl_gen_array_close(g) == yajl_gen_status_ok;
}

static bool gen_number(yajl_gen g, const msgpack_object *o) {
        char text[32];
        int n = o->type == MSGPACK_OBJECT_POSITIVE_INTEGER
                                ? snprintf(text, sizeof(text), "%llu",
                                                  (unsigned long long)o->via.u64)
                                : snprintf(text, sizeof(text), "%lld", (long long)o->via.i64);

        return yajl_gen_number(g, text, (size_t)n) == yajl_gen_status_ok;
}

/* The shortest that reads back as the same number. JSON has none for what is not finite. */
static bool gen_double(yajl_gen g, double value) {
        char text[40] = "null";
        int n = 4;

        if (isfinite(value)) {
                n = snprintf(text, sizeof(text), "%.15g", value);
                if (strtod(text, NULL) != value)
                        n = snprintf(text, sizeof(text), "%.17g", value);
        }
        return yajl_gen_number(g, text, (size_t)n) == yajl_gen_status_ok;
}

static bool gen(yajl_gen g, const msgpack_object *o) {
        switch (o->type) {
        case MSGPACK_OBJECT_NIL:
                return yajl_gen_null(g) == yajl_gen_status_ok;
        case MSGPACK_OBJECT_BOOLEAN:
                return yajl_gen_bool(g, o->via.boolean) == yajl_gen_status_ok;
        case MSGPACK_OBJECT_POSITIVE_INTEGER:
        case MSGPACK_OBJECT_NEGATIVE_INTEGER:
                return gen_number(g, o);
        case MSGPACK_OBJECT_FLOAT32:
        case MSGPACK_OBJECT_FLOAT64:
                return gen_double(g, o->via.f64);
        case MSGPACK_OBJECT_STR:
                return yajl_gen_string(g, (const unsigned char *)o->via.str.ptr, o->via.str.size) ==
                       yajl_gen_status_ok;
        case MSGPACK_OBJECT_BIN:
                return yajl_gen_string(g, (const unsigned char *)o->via.bin.ptr, o->via.bin.size) ==
                       yajl_gen_status_ok;
        case MSGPACK_OBJECT_ARRAY:
                return gen_array(g, &o->via.array);
        case MSGPACK_OBJECT_MAP:
                return gen_map(g, &o->via.map);
        case MSGPACK_OBJECT_EXT:
                return false;
        }
        return false;
}

bool cli_print_json(const void *bytes, size_t n) {
        msgpack_unpacked unpacked;
        const unsigned char *json;
        size_t off = 0, len;
        yajl_gen g = yajl_gen_alloc(NULL);
        bool ok = false;

        msgpack_unpacked_init(&unpacked);
        if (g && msgpack_unpack_next(&unpacked, bytes, n, &off) == MSGPACK_UNPACK_SUCCESS)
                ok = gen(g, &unpacked.data) &&
                     yajl_gen_get_buf(g, &json, &len) == yajl_gen_status_ok;
        if (ok) {
                fwrite(json, 1, len, stdout);
                fputc('\n', stdout);
                fflush(stdout);
        }
        msgpack_unpacked_destroy(&unpacked);
        if (g)
                yajl_gen_free(g);
        return ok;
}

/* ---- files ---- */

char *cli_read_stream(
                const char *command, FILE *from, const char *name, size_t most, size_t *ret_n) {
        size_t n = 0, cap = 65536;
        char *bytes = malloc(cap + 1);

        while (bytes) {
                size_t got = fread(bytes + n, 1, cap - n, from);
                n += got;
                if (n > most) {
                        cli_error(command, "%s: longer than %zu bytes", name, most);
                        break;
                }
                if (got == 0) {
                        if (ferror(from)) {
                                cli_error(command, "%s: %s", name, strerror(errno));
                                break;
                        }
                        bytes[n] = 0;
                        *ret_n = n;
                        return bytes;
                }
                if (n == cap) {
                        char *more = realloc(bytes, cap * 2 + 1);
                        if (!more)
                                break;
                        bytes = more;
                        cap *= 2;
                }
        }
        free(bytes);
        return NULL;
}

char *cli_read_file(const char *command, const char *path, size_t most, size_t *ret_n) {
        FILE *from = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
        char *bytes;

        if (!from) {
                cli_error(command, "%s: %s", path, strerror(errno));
                return NULL;
        }
        bytes = cli_read_stream(command, from, path, most, ret_n);
        if (from != stdin)
                fclose(from);
        return bytes;
}
