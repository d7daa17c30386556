/*
 * steps -- a process that is stopped after every machine instruction, and what it shares with others.
 *
 * Shape   areas of shared memory and doorbells; a picture of all of them as they stood at one instruction
 * Units   instructions; a state is an instruction after which something shared is not as it was before
 * Owner   the test's process holds the pictures; victims are its children, held back by ptrace
 * Errors  a failed system call ends the program; steps_start(): -1 where ptrace is not allowed
 * Limits  STEPS_AREAS, STEPS_BELLS
 *
 * A kill takes effect between two instructions, and all that survives it is shared memory and what stands
 * in the bells. So a victim need not die to be looked at: it is held back, others do what they would do
 * after its death, what they changed is put back, and it takes the next instruction.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define STEPS_AREAS 8u
#define STEPS_BELLS 4u

/* Not one of Check's assertions: they report through a pipe, and a child may be killed while it writes. */
#define STEPS_REQUIRE(truth)                                                                       \
        ((truth) ? (void)0 : steps_fail(__FILE__, __LINE__, #truth))
_Noreturn void steps_fail(const char *file, int line, const char *what);

struct steps_area {
        uint8_t *live, *seen;
        uint64_t bytes;
};

struct steps {
        struct steps_area areas[STEPS_AREAS];
        uint32_t n_areas;
        int bells[STEPS_BELLS];
        uint32_t n_bells;
        uint32_t rung; /* bit i: bell i had been rung */
};

void steps_area(struct steps *steps, void *live, uint64_t bytes);
void steps_bell(struct steps *steps, int fd);
/* Another picture of the same areas and bells. */
void steps_like(struct steps *steps, const struct steps *other);
void steps_free(struct steps *steps);
/* Takes a picture; true when something is not as in the one before. */
bool steps_look(struct steps *steps);
/* Everything becomes as in the picture again. */
void steps_restore(struct steps *steps);

enum steps_event {
        STEPS_STEPPED, /* one instruction further */
        STEPS_ASLEEP,  /* it has called steps_sleep() */
        STEPS_ENDED,   /* it has left, or was ended by a signal: *ret_status of waitpid() */
};

/* A child that runs life() up to steps_mark(), and stands there. */
pid_t steps_start(void (*life)(void *ctx), void *ctx);
/* From within life(): where the stepping begins. */
void steps_mark(void);
/* From within life(): nothing is left to be done; the tracer hears of it, and may let it go on. */
void steps_sleep(void);
enum steps_event steps_one(pid_t pid, int *ret_status);
/* On, without stopping at instructions. */
enum steps_event steps_go(pid_t pid, int *ret_status);
/* The real thing: SIGKILL, and reaped. */
void steps_kill(pid_t pid);
