/*
 * ops -- the gateway's beginning and end, and its one descriptor.
 */
#pragma once

#include "stages/gateway/gateway.h"

extern const struct stage_ops stage_gateway;

/* Settings are checked, memory is taken; nothing shared is touched. */
int gateway_init(struct worker *w);
/* Rings are found, admission recovered, the listener opens. */
int gateway_attach(struct worker *w);
void gateway_fini(struct worker *w);
/* fd -1: connections are handed over by hand (tests). */
void gateway_listen(struct gateway *gw, int fd);
