/* The C ABI between raft_rs_engine.cc and the Rust crate in engine/. Flat structs only; engine/src/abi.rs mirrors them.
 *
 * Pointers handed to Rust are read during the call, except the payloads of entries and proposals: they are lent. Rust
 * gives each lent pointer back exactly once through rq_options.release, also when the call fails; empty payloads are not
 * lent. release() is called within calls of this ABI only, and must not call back into the engine.
 * Pointers handed out live until the next call of the same function, or rq_engine_free(). A payload that is handed out
 * was lent before: it is the same pointer.
 * One thread at a time uses an engine. Every function that returns rq_code catches panics: the engine is poisoned from
 * then on (RQ_INTERNAL, the reason is rq_engine_error()).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_engine rq_engine;
typedef int32_t rq_code;
enum {
  RQ_OK = 0,
  RQ_NOT_LEADER = 1,
  RQ_BUSY = 2,
  RQ_TRANSFER = 3,
  RQ_BAD_REQUEST = 4,
  RQ_CORRUPT = 5,
  RQ_INTERNAL = 6
};

typedef struct { const uint8_t* data; size_t size; } rq_bytes;
typedef struct { const uint64_t* data; size_t size; } rq_ids;
typedef struct { uint64_t index, term; rq_bytes payload; uint8_t type; } rq_entry;    /* type as raft::EntryType */
typedef struct { rq_ids voters, learners, voters_outgoing, learners_next; uint8_t auto_leave; } rq_conf;
typedef struct { uint64_t index, term; rq_conf conf; rq_bytes data; } rq_snapshot;
typedef struct {
  uint64_t from, to, term, log_term, index, commit, commit_term, reject_hint, request_snapshot;
  int64_t priority;
  rq_bytes context;
  const rq_entry* entries;
  size_t entries_size;
  const rq_snapshot* snapshot;              /* null: none */
  uint8_t type;                             /* as raft::MessageType */
  uint8_t reject;
} rq_message;
typedef struct { uint64_t index; rq_bytes context; } rq_read;
typedef struct { uint64_t first, last; } rq_fetch;
typedef struct { uint64_t term, vote, commit; } rq_hard_state;
typedef struct { uint64_t id; uint8_t type; } rq_conf_step;                            /* as raft::ConfChangeType */
typedef struct { const rq_conf_step* steps; size_t steps_size; uint8_t joint; } rq_conf_change;

typedef struct {
  uint64_t number;
  const rq_message* messages;               size_t messages_size;
  const rq_message* messages_after_persist; size_t messages_after_persist_size;
  const rq_entry* entries;                  size_t entries_size;
  const rq_entry* committed;                size_t committed_size;
  const rq_read* reads;                     size_t reads_size;
  const rq_fetch* fetches;                  size_t fetches_size;
  const rq_bytes* log;                      size_t log_size;   /* warnings, for the log */
  rq_ids wanted;                            /* peers that need rq_engine_offer_snapshot() */
  const rq_hard_state* hard_state;          /* null: unchanged */
  const rq_snapshot* snapshot;              /* null: none */
  uint8_t must_sync, role_changed;
} rq_ready;

typedef struct {
  uint64_t id, election_ticks, retry_ticks, heartbeat_ticks, seed;
  uint64_t max_message_bytes, max_inflight_messages, max_uncommitted_bytes, max_committed_bytes_per_ready, cache_bytes;
  void (*release)(void* context, const uint8_t* payload);
  void* release_context;
} rq_options;

typedef struct {
  rq_hard_state hard_state;
  rq_conf conf;
  uint64_t conf_index, applied, first_index, last_index, snapshot_term;
  const uint64_t* term_starts;              /* pairs: first index, term */
  size_t term_starts_size;                  /* number of pairs */
  const rq_entry* entries;
  size_t entries_size;
} rq_start;

typedef struct { uint64_t id, match, next; uint8_t learner, active, paused, snapshotting; } rq_peer;
typedef struct {
  uint64_t applied, first_index, last_index, last_term, transferee;
  rq_conf conf;
  const rq_peer* peers;                     /* leader only */
  size_t peers_size;
  uint8_t has_pending_conf, own_term_committed;
} rq_status;

/* True after every call; the pointer stays good until rq_engine_free(). */
typedef struct { uint64_t leader, term, commit; uint8_t role; } rq_glance;             /* role as raft::Role */

enum {                                      /* what rq_engine_signal() tells; `value` is: */
  RQ_TICK = 0,
  RQ_CAMPAIGN = 1,
  RQ_LEADER_DIED = 2,
  RQ_TRANSFER_TO = 3,                       /* the member */
  RQ_UNREACHABLE = 4,                       /* the member */
  RQ_SNAPSHOT_ARRIVED = 5,                  /* the member */
  RQ_SNAPSHOT_LOST = 6,                     /* the member */
  RQ_PERSISTED = 7,                         /* the Ready's number */
  RQ_SNAPSHOT_INSTALLED = 8                 /* its index */
};

rq_engine* rq_engine_new(const rq_options* options);
void rq_engine_free(rq_engine* engine);
const rq_glance* rq_engine_glance(const rq_engine* engine);
rq_bytes rq_engine_error(const rq_engine* engine);    /* about the last call that failed; why it is poisoned */
rq_code rq_engine_start(rq_engine* engine, const rq_start* start);
rq_code rq_engine_signal(rq_engine* engine, uint8_t what, uint64_t value);
rq_code rq_engine_step(rq_engine* engine, const rq_message* message);
rq_code rq_engine_propose(rq_engine* engine, rq_bytes payload, uint64_t* index);
rq_code rq_engine_propose_conf(rq_engine* engine, const rq_conf_change* change, rq_bytes payload, uint64_t* index);
rq_code rq_engine_apply_conf(rq_engine* engine, uint64_t index, const rq_conf_change* change, rq_conf* out);
rq_code rq_engine_read_index(rq_engine* engine, rq_bytes context);
rq_code rq_engine_offer_snapshot(rq_engine* engine, uint64_t peer, const rq_snapshot* snapshot);
rq_code rq_engine_fetched(rq_engine* engine, uint64_t first, const rq_entry* entries, size_t entries_size);
rq_code rq_engine_compact(rq_engine* engine, uint64_t first_kept, uint64_t term_before);
uint8_t rq_engine_has_ready(const rq_engine* engine);
rq_code rq_engine_take_ready(rq_engine* engine, const rq_ready** out);
rq_code rq_engine_status(rq_engine* engine, rq_status* out);

#ifdef __cplusplus
}
#endif
