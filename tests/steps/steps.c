#include "tests/steps/steps.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/doorbell.h"

#define EXIT_FORBIDDEN 9 /* of a child that may not be traced */

void steps_fail(const char *file, int line, const char *what) {
        fprintf(stderr, "%s:%d: %s does not hold (errno %d)\n", file, line, what, errno);
        abort();
}

/* ---- pictures ----------------------------------------------------------------------------------- */

void steps_area(struct steps *steps, void *live, uint64_t bytes) {
        struct steps_area *area = &steps->areas[steps->n_areas];

        STEPS_REQUIRE(steps->n_areas++ < STEPS_AREAS);
        *area = (struct steps_area){.live = live, .seen = malloc(bytes), .bytes = bytes};
        STEPS_REQUIRE(area->seen);
        memcpy(area->seen, live, bytes);
}

void steps_bell(struct steps *steps, int fd) {
        STEPS_REQUIRE(steps->n_bells < STEPS_BELLS);
        steps->bells[steps->n_bells++] = fd;
}

void steps_like(struct steps *steps, const struct steps *other) {
        *steps = (struct steps){.n_areas = 0};
        for (uint32_t i = 0; i < other->n_areas; i++)
                steps_area(steps, other->areas[i].live, other->areas[i].bytes);
        for (uint32_t i = 0; i < other->n_bells; i++)
                steps_bell(steps, other->bells[i]);
        (void)steps_look(steps);
}

void steps_free(struct steps *steps) {
        for (uint32_t i = 0; i < steps->n_areas; i++)
                free(steps->areas[i].seen);
        *steps = (struct steps){.n_areas = 0};
}

/* What stands in a bell counts for nobody: it has been rung, or not. */
static uint32_t bells_rung(const struct steps *steps) {
        struct pollfd wait[STEPS_BELLS];
        uint32_t rung = 0;

        for (uint32_t i = 0; i < steps->n_bells; i++)
                wait[i] = (struct pollfd){.fd = steps->bells[i], .events = POLLIN};
        if (steps->n_bells > 0)
                STEPS_REQUIRE(poll(wait, steps->n_bells, 0) >= 0);
        for (uint32_t i = 0; i < steps->n_bells; i++)
                rung |= (uint32_t)((wait[i].revents & POLLIN) != 0) << i;
        return rung;
}

bool steps_look(struct steps *steps) {
        uint32_t rung = bells_rung(steps);
        bool changed = rung != steps->rung;

        steps->rung = rung;
        for (uint32_t i = 0; i < steps->n_areas; i++) {
                struct steps_area *area = &steps->areas[i];
                if (memcmp(area->seen, area->live, area->bytes) == 0)
                        continue;
                memcpy(area->seen, area->live, area->bytes);
                changed = true;
        }
        return changed;
}

void steps_restore(struct steps *steps) {
        uint32_t differs = bells_rung(steps) ^ steps->rung;

        for (uint32_t i = 0; i < steps->n_areas; i++)
                memcpy(steps->areas[i].live, steps->areas[i].seen, steps->areas[i].bytes);
        for (uint32_t i = 0; i < steps->n_bells; i++) {
                if (!(differs >> i & 1))
                        continue;
                if (steps->rung >> i & 1)
                        doorbell_ring(steps->bells[i]);
                else
                        doorbell_clear(steps->bells[i]);
        }
}

/* ---- processes ---------------------------------------------------------------------------------- */

pid_t steps_start(void (*life)(void *ctx), void *ctx) {
        pid_t pid = fork();
        int status;

        STEPS_REQUIRE(pid >= 0);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                life(ctx);
                _exit(0);
        }
        STEPS_REQUIRE(waitpid(pid, &status, 0) == pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FORBIDDEN)
                return -1;
        STEPS_REQUIRE(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
        return pid;
}

void steps_mark(void) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1)
                _exit(EXIT_FORBIDDEN);
        raise(SIGSTOP);
}

void steps_sleep(void) {
        raise(SIGUSR1); /* never delivered: the tracer takes it */
}

static enum steps_event run(pid_t pid, bool one, int *ret_status) {
        for (;;) {
                int status;
                STEPS_REQUIRE(ptrace(one ? PTRACE_SINGLESTEP : PTRACE_CONT, pid, NULL, NULL) == 0);
                STEPS_REQUIRE(waitpid(pid, &status, __WALL) == pid);
                *ret_status = status;
                if (!WIFSTOPPED(status))
                        return STEPS_ENDED;
                switch (WSTOPSIG(status)) {
                case SIGTRAP:
                        if (one)
                                return STEPS_STEPPED;
                        break;
                case SIGUSR1:
                        return STEPS_ASLEEP;
                case SIGSTOP:
                case SIGCONT:
                case SIGCHLD:
                case SIGALRM:
                        break;
                default: /* an assertion, a fault: it would end it */
                        steps_kill(pid);
                        return STEPS_ENDED;
                }
        }
}

enum steps_event steps_one(pid_t pid, int *ret_status) {
        return run(pid, true, ret_status);
}

enum steps_event steps_go(pid_t pid, int *ret_status) {
        return run(pid, false, ret_status);
}

void steps_kill(pid_t pid) {
        int status;

        kill(pid, SIGKILL);
        while (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status))
                continue;
}
