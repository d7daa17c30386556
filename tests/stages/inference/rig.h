/*
 * rig -- a world whose workers talk to the scripted backend of tests/e2e.
 *
 * Shape   one world, one answer and two workers ("gpu": openai, "spare": echo) for the test at hand
 * Owner   the suite; the backend is a child process that ends with its standard input
 * Errors  a failed check ends the test
 */
#pragma once

#include <check.h>

#include "stages/inference/routes.h"
#include "world.h"

#define RIG_KEY "sk-test-1234567890"

extern struct world world;
extern struct world_answer answer;
extern struct settings_worker workers[2];

/* Runs the suite against the backend script argv[1]; the exit code. */
int rig_main(int argc, char **argv, Suite *suite);

/* The backend's log as JSON text, to be freed; `forget`: it starts anew. */
char *backend_log(bool forget);
unsigned count(const char *text, const char *what);
unsigned log_count(const char *what);
/* Turns the world until the backend's log says something so often. */
void until_log(const char *what, unsigned times);

void setup(void);
void setup_with(struct world_setup setup);
void teardown(void);
/* Asks for a scenario; the answer is in `answer`. */
void ask(const char *scenario);
/* The answer is that of a backend that behaves. */
void expect_text(const char *scenario);
