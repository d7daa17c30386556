/*
 * render -- `millrace render`: the template engine of the assemble stage, alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/cli.h"
#include "stages/engines/mustache/front.h"
#include "stages/engines/mustache/mustache.h"

#define TEMPLATE_MAX ((size_t)16 << 20)
#define DATA_MAX ((size_t)256 << 20)
#define OUTPUT_MAX ((size_t)256 << 20)
#define WORK_MAX 100000000u
#define NAME_MAX_BYTES 255u

struct partial {
        struct partial *next;
        char name[NAME_MAX_BYTES + 1];
        struct mustache *t; /* NULL: there is none */
};

struct render {
        const char *file, *data_file, *partials_dir;
        int partials_fd; /* -1: there are none */
        bool has_escape;
        enum mustache_escape escape;
        struct partial *partials; /* those that were asked for */
};

static const char usage[] =
        "usage: millrace render [--data FILE.json] [--partials DIR] [--escape none|html] FILE|-\n"
        "  FILE|-               the template, with or without front matter\n"
        "  --data FILE.json     what it is rendered with: any JSON value\n"
        "  --partials DIR       where {{>NAME}} lies: DIR/NAME.mustache, else DIR/NAME\n"
        "  --escape none|html   of {{name}}; without it what the front matter says, else none\n"
        "exit: 0 rendered, 1 not, with the reason and where it lies, 2 wrong usage\n";

static void complain(const char *file, const struct mustache_error *err, int code) {
        if (code < 0)
                cli_error("render", "%s: %s", file, err->text[0] ? err->text : strerror(-code));
        else
                cli_error("render", "%s:%u:%u: %s", err->name[0] ? err->name : file, err->line,
                                err->column, err->text);
}

/* ---- templates ---- */

static int compile(const char *name, const char *text, size_t n, struct mustache_front *front,
                struct mustache **ret, struct mustache_error *err) {
        int r = mustache_front_read(text, n, front, err);

        if (r)
                snprintf(err->name, sizeof(err->name), "%.255s", name);
        else
                r = mustache_compile(name, text, n, front->body, ret, err);
        return r;
}

/* A file below the folder, whatever its name and its links say; NULL: there is none. */
static FILE *open_below(int folder, const char *path) {
        struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
                        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
        int fd = (int)syscall(SYS_openat2, folder, path, &how, sizeof(how));
        struct stat st;
        FILE *file = NULL;

        if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
                file = fdopen(fd, "r");
        if (!file && fd >= 0)
                close(fd);
        return file;
}

static int partial_read(struct render *render, const char *name, struct mustache **ret,
                struct mustache_error *err) {
        char path[NAME_MAX_BYTES + sizeof(".mustache")];
        struct mustache_front front = {0};
        FILE *file;
        size_t n;
        int r;

        snprintf(path, sizeof(path), "%s.mustache", name);
        file = open_below(render->partials_fd, path);
        if (!file) {
                path[strlen(name)] = 0;
                file = open_below(render->partials_fd, path);
        }
        if (!file)
                return 0;
        char *text = cli_read_stream("render", file, path, TEMPLATE_MAX, &n);
        fclose(file);
        if (!text) {
                snprintf(err->text, sizeof(err->text), "one of its partials cannot be read");
                return -EIO;
        }
        r = compile(path, text, n, &front, ret, err);
        mustache_front_clear(&front);
        free(text);
        return r;
}

static int find_partial(void *ctx, struct mustache_text name, const struct mustache **ret,
                struct mustache_error *err) {
        struct render *render = ctx;
        struct partial *p = render->partials;
        int r;

        if (name.n > NAME_MAX_BYTES || memchr(name.p, 0, name.n))
                return 0;
        while (p && (strlen(p->name) != name.n || memcmp(p->name, name.p, name.n) != 0))
                p = p->next;
        if (!p) {
                p = calloc(1, sizeof(*p));
                if (!p)
                        return -ENOMEM;
                memcpy(p->name, name.p, name.n);
                r = partial_read(render, p->name, &p->t, err);
                if (r) {
                        free(p);
                        return r;
                }
                p->next = render->partials;
                render->partials = p;
        }
        *ret = p->t;
        return 0;
}

static void partials_free(struct render *render) {
        while (render->partials) {
                struct partial *next = render->partials->next;
                mustache_free(render->partials->t);
                free(render->partials);
                render->partials = next;
        }
}

/* ---- the command ---- */

static int read_data(const struct render *render, struct mustache_data *data) {
        struct mustache_error err = {0};
        char *json;
        size_t n;
        int r;

        if (!render->data_file)
                return CLI_DONE;
        json = cli_read_file("render", render->data_file, DATA_MAX, &n);
        if (!json)
                return CLI_FAILED;
        r = mustache_data_json(data, json, n, &err);
        free(json);
        if (!r)
                return CLI_DONE;
        cli_error("render", "%s:%u:%u: %s", render->data_file, err.line, err.column,
                        err.text[0] ? err.text : strerror(-r));
        return CLI_FAILED;
}

static int render_template(struct render *render, const char *text, size_t n,
                const struct mustache_data *data) {
        __attribute__((cleanup(mustache_freep))) struct mustache *t = NULL;
        __attribute__((cleanup(mustache_output_clear))) struct mustache_output out = {0};
        __attribute__((cleanup(mustache_front_clear))) struct mustache_front front = {0};
        struct mustache_error err;
        int r = compile(render->file, text, n, &front, &t, &err);

        if (!r) {
                struct mustache_options options = {
                                .escape = render->has_escape ? render->escape : front.escape,
                                .missing_is_error = front.missing_is_error,
                                .find = render->partials_fd >= 0 ? find_partial : NULL,
                                .find_ctx = render,
                                .max_bytes = OUTPUT_MAX,
                                .max_work = WORK_MAX};
                r = mustache_render(t, data, &options, &out, &err);
        }
        if (r) {
                complain(render->file, &err, r);
                return CLI_FAILED;
        }
        fwrite(out.p, 1, out.n, stdout);
        return CLI_DONE;
}

static int render_file(struct render *render) {
        __attribute__((cleanup(mustache_data_freep))) struct mustache_data *data = NULL;
        char *text;
        size_t n;
        int r;

        if (mustache_data_new(&data)) {
                cli_error("render", "%s", strerror(ENOMEM));
                return CLI_FAILED;
        }
        text = cli_read_file("render", render->file, TEMPLATE_MAX, &n);
        if (!text)
                return CLI_FAILED;
        r = read_data(render, data);
        if (!r)
                r = render_template(render, text, n, data);
        free(text);
        return r;
}

static int open_partials(struct render *render) {
        if (!render->partials_dir)
                return CLI_DONE;
        render->partials_fd = open(render->partials_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (render->partials_fd >= 0)
                return CLI_DONE;
        cli_error("render", "%s: %s", render->partials_dir, strerror(errno));
        return CLI_FAILED;
}

static bool set_escape(struct render *render, const char *word) {
        render->has_escape = true;
        render->escape = strcmp(word, "html") == 0 ? MUSTACHE_ESCAPE_HTML : MUSTACHE_ESCAPE_NONE;
        if (render->escape == MUSTACHE_ESCAPE_HTML || strcmp(word, "none") == 0)
                return true;
        cli_error("render", "--escape %s: none or html was expected", word);
        return false;
}

/* -1: go on; else the exit code. */
static int read_options(int argc, char **argv, struct render *render) {
        static const struct option names[] = {
                {"data", required_argument, NULL, 'd'}, {"escape", required_argument, NULL, 'e'},
                {"help", no_argument, NULL, 'h'},       {"partials", required_argument, NULL, 'p'},
                {0},
        };
        int c;

        optind = 0;
        while ((c = getopt_long(argc, argv, "h", names, NULL)) != -1) {
                if (c == 'h') {
                        fputs(usage, stdout);
                        return CLI_DONE;
                }
                if (c == 'd')
                        render->data_file = optarg;
                else if (c == 'p')
                        render->partials_dir = optarg;
                else if (c != 'e' || !set_escape(render, optarg)) {
                        fputs(usage, stderr);
                        return CLI_USAGE;
                }
        }
        if (argc - optind == 1) {
                render->file = argv[optind];
                return -1;
        }
        cli_error("render", "one template was expected: a FILE, or - for standard input");
        fputs(usage, stderr);
        return CLI_USAGE;
}

int cmd_render(int argc, char **argv) {
        struct render render = {.partials_fd = -1};
        int r = read_options(argc, argv, &render);

        if (r >= 0)
                return r;
        r = open_partials(&render);
        if (!r)
                r = render_file(&render);
        partials_free(&render);
        if (render.partials_fd >= 0)
                close(render.partials_fd);
        return r;
}
