#include "rig.h"

#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct world world;
struct world_answer answer;
struct settings_worker workers[2];
static char url[128];
static unsigned port;

/* ---- the backend ---------------------------------------------------------------------------- */

static pid_t backend_start(const char *script, int *ret_stdin) {
        int in[2], out[2];
        char line[128] = "";
        pid_t pid;
        FILE *f;

        if (pipe(in) || pipe(out))
                return -1;
        pid = fork();
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                dup2(in[0], 0);
                dup2(out[1], 1);
                close(in[1]);
                close(out[0]);
                execl("/usr/bin/python3", "python3", script, (char *)NULL);
                _exit(127);
        }
        close(in[0]);
        close(out[1]);
        f = fdopen(out[0], "r");
        if (!f || !fgets(line, sizeof(line), f) ||
                        sscanf(line, "ready http://127.0.0.1:%u/", &port) != 1) {
                fprintf(stderr, "the backend does not start: %s\n", line);
                return -1;
        }
        fclose(f);
        snprintf(url, sizeof(url), "http://127.0.0.1:%u/v1", port);
        *ret_stdin = in[1];
        return pid;
}

/* The backend's log as JSON text; `forget`: it starts anew. */
char *backend_log(bool forget) {
        struct sockaddr_in address = {.sin_family = AF_INET,
                        .sin_port = htons((uint16_t)port),
                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        char *text = calloc(1, 1 << 22), *body;
        size_t n = 0, want = SIZE_MAX;
        int fd = socket(AF_INET, SOCK_STREAM, 0);

        ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        dprintf(fd, "%s /__log HTTP/1.1\r\nHost: x\r\n\r\n", forget ? "DELETE" : "GET");
        while (n < want) {
                ssize_t got = read(fd, text + n, (1 << 22) - 1 - n);
                ck_assert_int_gt(got, 0);
                n += (size_t)got;
                body = strstr(text, "\r\n\r\n");
                if (body && want == SIZE_MAX)
                        want = (size_t)(body + 4 - text) +
                               strtoul(strstr(text, "Content-Length: ") + 16, NULL, 10);
        }
        close(fd);
        return text;
}

unsigned count(const char *text, const char *what) {
        unsigned n = 0;

        for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
                n++;
        return n;
}

unsigned log_count(const char *what) {
        char *text = backend_log(false);
        unsigned n = count(text, what);

        free(text);
        return n;
}

/* Turns the world until the backend's log says something so often. */
void until_log(const char *what, unsigned times) {
        uint64_t until = world_now() + 60 * NS_PER_S;

        while (log_count(what) < times) {
                world_turn(&world);
                ck_assert_msg(world_now() < until, "the backend never logs %s", what);
        }
}

/* ---- the world ------------------------------------------------------------------------------ */

void setup_with(struct world_setup with) {
        with.workers = workers;
        if (!with.n_workers)
                with.n_workers = 1;
        answer = (struct world_answer){0};
        world_new(&world, &with);
}

void setup(void) {
        setenv("MILLRACE_TEST_KEY", RIG_KEY, 1);
        free(backend_log(true));
        workers[0] = (struct settings_worker){.name = "gpu",
                        .kind = SETTINGS_WORKER_OPENAI,
                        .base_url = url,
                        .api_key_env = (char *)"MILLRACE_TEST_KEY"};
        workers[1] = (struct settings_worker){.name = "spare", .kind = SETTINGS_WORKER_ECHO};
}

void teardown(void) {
        if (world.slab)
                world_free(&world);
        world.slab = NULL;
}

void ask(const char *scenario) {
        char text[128];

        answer = (struct world_answer){0};
        snprintf(text, sizeof(text), "@%s please", scenario);
        world_finish(&world, world_say(&world, text), &answer);
}

void expect_text(const char *scenario) {
        char want[256];

        snprintf(want, sizeof(want), "You said: @%s please", scenario);
        ck_assert_msg(strcmp(answer.text, want) == 0, "%s: \"%s\"", scenario, answer.text);
}

int rig_main(int argc, char **argv, Suite *suite) {
        int backend_in = -1, status, failed;
        pid_t backend = argc > 1 ? backend_start(argv[1], &backend_in) : -1;
        SRunner *runner = srunner_create(suite);

        if (backend < 0) {
                fprintf(stderr, "usage: %s BACKEND.py\n", argv[0]);
                return 2;
        }
        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        close(backend_in);
        waitpid(backend, &status, 0);
        return failed != 0;
}
