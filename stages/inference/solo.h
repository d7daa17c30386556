/*
 * solo -- a request that this stage has died of before runs alone.
 *
 * Shape   suspects wait in a list of their own; while there are any, or one runs, nobody else begins
 * Owner   struct inference
 * Errors  none
 * Limits  who has begun goes on to its end: a suspect waits for that
 */
#pragma once

#include "stages/inference/inference.h"

/* Attach is over: what else has strikes lies in the ring. */
void solo_attach(struct inference *inf);
/* The list that a new flight waits in. */
struct flight_list *solo_list(struct inference *inf, uint32_t slot);
/* Lets the next suspect run, or everybody else. */
void solo_turn(struct inference *inf);
/* Must this one, which has not begun, let a suspect go first? */
bool solo_holds(const struct inference *inf, const struct flight *f);
/* May records be claimed? */
bool solo_may_claim(const struct inference *inf);
/* There is no room for what was to be claimed first: then it comes when it comes. */
void solo_starved(struct inference *inf);
