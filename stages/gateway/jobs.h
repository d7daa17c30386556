/*
 * jobs -- /v1/jobs: the native dialect over HTTP, always detached (contract, section 3).
 *
 * Shape   struct job: what the answer to one request has to know
 * Units   none of its own
 * Owner   struct http
 * Errors  a status and OpenAI's error body; in a stream of events an `error` event
 * Limits  ids ADMISSION_ID_MAX bytes
 *
 * Each request becomes a frame of the Unix socket (json_frame.h) and goes the same way from there; each
 * event is the socket's, in JSON. A stream of events ends behind the terminal one, whatever it is: `error`
 * is how a job ends. Only when the reader is cut off does the stream end without its last chunk.
 */
#pragma once

#include "shm/admission.h"
#include "stages/gateway/dialect.h"

struct conn;
struct gateway;
struct http1_request;

enum job_asks { JOB_CREATE, JOB_RESULT, JOB_EVENTS, JOB_DELETE };

struct job {
        enum job_asks asks;
        uint32_t id_len;
        char id[ADMISSION_ID_MAX];
};

/* POST /v1/jobs */
void jobs_create(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body);
/* GET /v1/jobs/ID, /v1/jobs/ID/events */
void jobs_get(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body);
/* DELETE /v1/jobs/ID */
void jobs_delete(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body);
