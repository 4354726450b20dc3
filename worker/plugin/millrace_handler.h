/* What a plugin of a Millrace worker exports, and what it is given: the interface of so:FILE.
 *
 *   #include <millrace/millrace_handler.h>
 *
 *   static int run(void* state, millrace_job* job) {
 *     return millrace_done(job, job->payload, job->payload_size);
 *   }
 *   static const millrace_handler kHandler = {MILLRACE_HANDLER_ABI, 0, run, 0};
 *   const millrace_handler* millrace_handler_get(void) { return &kHandler; }
 *
 * Shape:   open once → run for each job → close once
 * Errors:  open may refuse; run answers with millrace_fail(). What run returns without an answer is
 *          a retryable failure.
 * Owns:    the job and all that it points to is the worker's and lives until run returns; answers
 *          are copied before the call returns
 * Threads: run is called by many threads at once; open and close by one
 * Version: a worker loads plugins of its own MILLRACE_HANDLER_ABI only. It changes whenever an
 *          existing field does; fields may be added at the end of millrace_job without a change.
 */
#ifndef MILLRACE_HANDLER_H
#define MILLRACE_HANDLER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MILLRACE_HANDLER_ABI 1u

/* How a job ended; run returns what millrace_done() or millrace_fail() have returned. */
#define MILLRACE_DONE 0
#define MILLRACE_RETRYABLE 1
#define MILLRACE_PERMANENT 2

typedef struct millrace_job millrace_job;
struct millrace_job {
  const char* id; /* the same for each attempt: the idempotency key */
  const char* queue;
  uint64_t epoch;   /* grows with each attempt: the fence */
  uint64_t attempt; /* from 1 */
  const void* payload;
  size_t payload_size;
  size_t max_result; /* bytes; a larger result is a permanent failure */
  int wants_result;  /* 0: a result is not sent to anybody */

  /* Use the functions below. */
  void* worker;
  void (*answer)(millrace_job* job, int end, const void* bytes, size_t size);
  int (*should_stop)(const millrace_job* job);
};

typedef struct millrace_handler {
  uint32_t abi; /* MILLRACE_HANDLER_ABI */
  /* May be null. Sets *state, which is handed to the others; returns 0, or writes why not. */
  int (*open)(void** state, char* why, size_t why_size);
  int (*run)(void* state, millrace_job* job);
  void (*close)(void* state); /* may be null */
} millrace_handler;

/* The one function that a plugin exports. What it returns lives as long as the plugin. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const millrace_handler*
millrace_handler_get(void);

static inline int millrace_done(millrace_job* job, const void* result, size_t size) {
  job->answer(job, MILLRACE_DONE, result, size);
  return MILLRACE_DONE;
}

/* kind is MILLRACE_RETRYABLE or MILLRACE_PERMANENT; the error is for people, and ends with a 0. */
static inline int millrace_fail(millrace_job* job, int kind, const char* error) {
  size_t size = 0;
  while (error[size]) ++size;
  job->answer(job, kind, error, size);
  return kind;
}

/* Not 0 once nobody waits for this job: it timed out, was cancelled, or the worker stops. */
static inline int millrace_should_stop(const millrace_job* job) { return job->should_stop(job); }

#ifdef __cplusplus
}
#endif

#endif
