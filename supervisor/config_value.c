/* A value against its row: is it of the right type, form and size; if not, what was wanted? */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "supervisor/address.h"
#include "supervisor/config_tree.h"

#define NAME_MAX_BYTES 32U
#define NAME_BYTES                                                                                 \
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."
#define CAPITAL_BYTES "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

/* ---- what is wanted, in words ------------------------------------------------------------ */

static const char *form_expected(enum settings_form form) {
        switch (form) {
        case SETTINGS_TEXT:
                return "a printable text";
        case SETTINGS_NAME:
                return "a name of at most 32 letters, digits, '_', '-' or '.'";
        case SETTINGS_PATH:
                return "a path";
        case SETTINGS_AUTO_PATH:
                return "auto, none or a path";
        case SETTINGS_SOCKET:
                return "an absolute path of at most 103 bytes";
        case SETTINGS_URL:
                return "http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]";
        case SETTINGS_LISTEN:
                return "IP:PORT, [IPV6]:PORT, localhost:PORT or unix:PATH";
        case SETTINGS_LISTEN_NONE:
                return "IP:PORT, [IPV6]:PORT, localhost:PORT, unix:PATH or none";
        case SETTINGS_CIDR:
                return "an address or a network ADDRESS/BITS";
        case SETTINGS_ENV:
                return "the name of an environment variable";
        case SETTINGS_ENTITY:
                return "the name of an entity, like EMAIL_ADDRESS, or core or all";
        case SETTINGS_PAIR:
                return "KEY=VALUE";
        }
        return "a text";
}

static void choices_expected(const struct settings_row *row, char *to, size_t cap) {
        size_t len = 0;

        for (uint32_t i = 0; row->choices[i] && len < cap; i++) {
                const char *before = i == 0 ? "" : row->choices[i + 1] ? ", " : " or ";

                len += (size_t)snprintf(to + len, cap - len, "%s%s", before, row->choices[i]);
        }
}

void config_expected(const struct settings_row *row, char *to, size_t cap) {
        switch (row->type) {
        case SETTINGS_SECTION:
                snprintf(to, cap, "a map");
                break;
        case SETTINGS_U64:
        case SETTINGS_AUTO_U64:
                snprintf(to, cap, "%sa whole number from %llu to %llu%s%s",
                         row->type == SETTINGS_U64 ? "" : "auto or ",
                         (unsigned long long)row->min, (unsigned long long)row->max,
                         *row->unit ? " " : "", row->unit);
                break;
        case SETTINGS_F64:
                snprintf(to, cap, "a number from %g to %g", row->min_f64, row->max_f64);
                break;
        case SETTINGS_BOOL:
                snprintf(to, cap, "true or false");
                break;
        case SETTINGS_ENUM:
                choices_expected(row, to, cap);
                break;
        case SETTINGS_STR:
                snprintf(to, cap, "%s%s", form_expected(row->form),
                         row->def_text ? "" : " or null");
                break;
        case SETTINGS_STRS:
                snprintf(to, cap, "a list of at most %u items, each %s", row->max_items,
                         form_expected(row->form));
                break;
        case SETTINGS_ENDPOINT:
                snprintf(to, cap, "null or a map with url, model, timeout_ms");
                break;
        case SETTINGS_WORKERS:
                snprintf(to, cap, "a list of 1 to %u workers", row->max_items);
                break;
        case SETTINGS_MODELS:
                snprintf(to, cap, "a map of 1 to %u model names, each with a list of workers",
                         row->max_items);
                break;
        }
}

/* ---- forms of a text --------------------------------------------------------------------- */

/* The code point at *p, which moves behind it; 0 for bytes that are no UTF-8. */
static uint32_t next_point(const unsigned char **p) {
        static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        unsigned n = **p < 0x80 ? 0 : (**p & 0xe0) == 0xc0 ? 1 : (**p & 0xf0) == 0xe0 ? 2 : 3;
        uint32_t point = n == 0 ? **p : **p & (0x3fU >> n);

        if (n == 3 && (**p & 0xf8) != 0xf0)
                return 0;
        (*p)++;
        for (unsigned i = 0; i < n; i++, (*p)++) {
                if ((**p & 0xc0) != 0x80)
                        return 0;
                point = point << 6 | (**p & 0x3f);
        }
        return point < least[n] || point > 0x10ffff ? 0 : point;
}

/* UTF-8 without control characters, and without what YAML or a terminal takes for a line end. */
static bool is_printable(const char *text) {
        const unsigned char *p = (const unsigned char *)text;

        while (*p) {
                uint32_t point = next_point(&p);

                if (point < 0x20 || (point >= 0x7f && point <= 0x9f))
                        return false;
                if (point == 0x2028 || point == 0x2029 || point == 0xfeff)
                        return false;
                if ((point >= 0xd800 && point <= 0xdfff) || (point & 0xfffe) == 0xfffe)
                        return false; /* half a pair, or no character at all */
        }
        return true;
}

static bool is_cidr(const char *text) {
        const char *slash = strchr(text, '/');
        size_t len = slash ? (size_t)(slash - text) : strlen(text);
        struct in6_addr in6;
        struct in_addr in4;
        char host[64];
        unsigned long bits = 0;
        char *end = NULL;

        if (len >= sizeof(host))
                return false;
        memcpy(host, text, len);
        host[len] = '\0';
        if (slash) {
                if (!isdigit((unsigned char)slash[1]))
                        return false;
                bits = strtoul(slash + 1, &end, 10);
                if (*end)
                        return false;
        }
        if (inet_pton(AF_INET, host, &in4) == 1)
                return bits <= 32;
        return inet_pton(AF_INET6, host, &in6) == 1 && bits <= 128;
}

static bool form_holds(enum settings_form form, const char *text) {
        struct sockaddr_storage address;
        struct address_url url;
        socklen_t len;

        if (!*text || strlen(text) > SETTINGS_TEXT_MAX || !is_printable(text))
                return false;
        switch (form) {
        case SETTINGS_TEXT:
        case SETTINGS_PATH:
        case SETTINGS_AUTO_PATH:
                return true;
        case SETTINGS_PAIR:
                return text[0] != '=' && strchr(text, '=');
        case SETTINGS_NAME:
                /* It becomes part of file names. */
                return strlen(text) <= NAME_MAX_BYTES && text[0] != '.' &&
                       text[strspn(text, NAME_BYTES)] == '\0';
        case SETTINGS_SOCKET:
                return text[0] == '/' &&
                       strlen(text) + sizeof(".ctl") <= sizeof(((struct sockaddr_un *)0)->sun_path);
        case SETTINGS_URL:
                return address_parse_url(text, &url);
        case SETTINGS_LISTEN_NONE:
                /* Nobody is told which port the kernel would choose. */
                return strcmp(text, "none") == 0 ||
                       (address_parse(text, &address, &len) == 0 &&
                        (address.ss_family == AF_UNIX || address_port(&address) != 0));
        case SETTINGS_LISTEN:
                return address_parse(text, &address, &len) == 0;
        case SETTINGS_CIDR:
                return is_cidr(text);
        case SETTINGS_ENV:
                return !isdigit((unsigned char)*text) && *text != '-' && !strpbrk(text, "-.") &&
                       text[strspn(text, NAME_BYTES)] == '\0';
        case SETTINGS_ENTITY:
                return strcmp(text, "all") == 0 || strcmp(text, "core") == 0 ||
                       text[strspn(text, CAPITAL_BYTES)] == '\0';
        }
        return false;
}

/* ---- scalars ----------------------------------------------------------------------------- */

/* Stricter than YAML's own words for a number: no sign, no octal, no unit, nothing after it. */
static bool is_u64(const struct settings_row *row, const char *text) {
        unsigned long long number;

        if (!*text || text[strspn(text, "0123456789")] || (text[0] == '0' && text[1]))
                return false;
        errno = 0;
        number = strtoull(text, NULL, 10);
        return errno == 0 && number >= row->min && number <= row->max;
}

static bool is_f64(const struct settings_row *row, const char *text) {
        char *end;
        double number;

        if (!*text || text[strspn(text, "0123456789.eE+-")])
                return false;
        number = strtod(text, &end);
        return *end == '\0' && isfinite(number) && number >= row->min_f64 &&
               number <= row->max_f64;
}

bool config_truth(const char *text, bool *ret) {
        static const char *const words[][2] = {
                {"false", "true"}, {"False", "True"}, {"FALSE", "TRUE"}, {"no", "yes"},
                {"No", "Yes"},     {"NO", "YES"},     {"off", "on"},     {"Off", "On"},
                {"OFF", "ON"},
        };

        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
                for (int truth = 0; truth < 2; truth++)
                        if (strcmp(text, words[i][truth]) == 0) {
                                *ret = truth;
                                return true;
                        }
        return false;
}

static bool is_choice(const struct settings_row *row, const char *text) {
        for (uint32_t i = 0; row->choices[i]; i++)
                if (strcmp(text, row->choices[i]) == 0)
                        return true;
        return false;
}

static bool is_scalar(const struct settings_row *row, const struct config_node *node) {
        bool truth;

        if (node->kind == CONFIG_NULL)
                return row->type == SETTINGS_STR && !row->def_text;
        if (node->kind != CONFIG_SCALAR)
                return false;
        switch (row->type) {
        case SETTINGS_AUTO_U64:
                return strcmp(node->text, "auto") == 0 ||
                       (node->plain && is_u64(row, node->text));
        case SETTINGS_U64:
                return node->plain && is_u64(row, node->text);
        case SETTINGS_F64:
                return node->plain && is_f64(row, node->text);
        case SETTINGS_BOOL:
                return node->plain && config_truth(node->text, &truth);
        case SETTINGS_ENUM:
                return is_choice(row, node->text);
        case SETTINGS_STR:
                return form_holds(row->form, node->text);
        case SETTINGS_SECTION:
        case SETTINGS_STRS:
        case SETTINGS_ENDPOINT:
        case SETTINGS_WORKERS:
        case SETTINGS_MODELS:
                return false;
        }
        return false;
}

/* ---- whole values ------------------------------------------------------------------------ */

static int fail_value(const struct settings_row *row, const struct config_node *node,
                      const char *path, struct config_error *err) {
        char expected[320] = "";

        config_expected(row, expected, sizeof(expected));
        return config_fail(err, node->source, node->line, path, "found %s, expected %s",
                           config_found(node).text, expected);
}

static int check_strs(const struct settings_row *row, const struct config_node *node,
                      const char *path, struct config_error *err) {
        char item[CONFIG_PATH_MAX], number[16];

        if (node->kind != CONFIG_LIST || node->n > row->max_items)
                return fail_value(row, node, path, err);
        for (uint32_t i = 0; i < node->n; i++) {
                const struct config_node *child = node->v[i];

                if (child->kind == CONFIG_SCALAR && form_holds(row->form, child->text))
                        continue;
                snprintf(number, sizeof(number), "%u", i);
                config_path_join(item, path, number);
                return config_fail(err, child->source, child->line, item, "found %s, expected %s",
                                   config_found(child).text, form_expected(row->form));
        }
        return 0;
}

static int check_workers(const struct settings_row *row, const struct config_node *node,
                         const char *path, struct config_error *err) {
        char item[CONFIG_PATH_MAX], number[16];
        int r;

        if (node->kind != CONFIG_LIST || node->n == 0 || node->n > row->max_items)
                return fail_value(row, node, path, err);
        for (uint32_t i = 0; i < node->n; i++) {
                snprintf(number, sizeof(number), "%u", i);
                config_path_join(item, path, number);
                r = config_check_map(&settings_worker_shape, "", node->v[i], item, err);
                if (r)
                        return r;
        }
        return 0;
}

int config_check_model(const struct config_node *node, const char *path, struct config_error *err) {
        const struct settings_row *names = settings_row_find(&settings_model_shape, "workers");

        if (!form_holds(SETTINGS_TEXT, node->key))
                return config_fail(err, node->source, node->key_line, path,
                                   "found a name with characters that cannot be printed, "
                                   "expected a printable text");
        if (node->kind == CONFIG_LIST && node->n == 0)
                return config_fail(err, node->source, node->line, path,
                                   "found an empty list, expected the names of workers");
        return check_strs(names, node, path, err);
}

static int check_models(const struct settings_row *row, const struct config_node *node,
                        const char *path, struct config_error *err) {
        char item[CONFIG_PATH_MAX];
        int r;

        if (node->kind != CONFIG_MAP || node->n == 0 || node->n > row->max_items)
                return fail_value(row, node, path, err);
        for (uint32_t i = 0; i < node->n; i++) {
                config_path_join(item, path, node->v[i]->key);
                r = config_check_model(node->v[i], item, err);
                if (r)
                        return r;
        }
        return 0;
}

int config_check_value(const struct settings_row *row, const struct config_node *node,
                       const char *path, struct config_error *err) {
        switch (row->type) {
        case SETTINGS_U64:
        case SETTINGS_AUTO_U64:
        case SETTINGS_F64:
        case SETTINGS_BOOL:
        case SETTINGS_ENUM:
        case SETTINGS_STR:
                return is_scalar(row, node) ? 0 : fail_value(row, node, path, err);
        case SETTINGS_STRS:
                return check_strs(row, node, path, err);
        case SETTINGS_ENDPOINT:
                if (node->kind == CONFIG_NULL)
                        return 0;
                if (node->kind != CONFIG_MAP)
                        return fail_value(row, node, path, err);
                return config_check_map(&settings_endpoint_shape, "", node, path, err);
        case SETTINGS_WORKERS:
                return check_workers(row, node, path, err);
        case SETTINGS_MODELS:
                return check_models(row, node, path, err);
        case SETTINGS_SECTION:
                return fail_value(row, node, path, err); /* its keys are looked at one by one */
        }
        return -EINVAL;
}
