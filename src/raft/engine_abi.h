/* The C ABI between raft_rs_engine.cc and the Rust crate in engine/. Flat structs only.
 *
 * Pointers handed to Rust are read during the call. Pointers handed out (rq_ready and what hangs on it) live until the
 * next rq_engine_take_ready() or rq_engine_free() of the same engine. One thread at a time uses an engine.
 * Every function that returns rq_code catches panics: the engine is poisoned from then on (RQ_INTERNAL, see
 * rq_engine_fault).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_engine rq_engine;
typedef enum { RQ_OK = 0, RQ_NOT_LEADER = 1, RQ_BUSY = 2, RQ_TRANSFER = 3, RQ_INTERNAL = 4 } rq_code;

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
  const rq_snapshot* snapshot;   /* null: none */
  uint8_t type;                  /* as raft::MessageType */
  uint8_t reject;
} rq_message;
typedef struct { uint64_t index; rq_bytes context; } rq_read;
typedef struct { uint64_t token, first, last; } rq_fetch;
typedef struct { uint64_t term, vote, commit; } rq_hard_state;
typedef struct { uint64_t id; uint8_t type; } rq_conf_step;                            /* as raft::ConfChangeType */

typedef struct {
  uint64_t number;
  const rq_message* messages;               size_t messages_size;
  const rq_message* messages_after_persist; size_t messages_after_persist_size;
  const rq_entry* entries;                  size_t entries_size;
  const rq_entry* committed;                size_t committed_size;
  const rq_read* reads;                     size_t reads_size;
  const rq_fetch* fetches;                  size_t fetches_size;
  const rq_hard_state* hard_state;          /* null: unchanged */
  const rq_snapshot* snapshot;              /* null: none */
  uint8_t must_sync, role_changed;
} rq_ready;

typedef struct {
  uint64_t id;
  uint64_t election_ticks, heartbeat_ticks;
  uint64_t seed;
  uint64_t max_message_bytes, max_inflight_messages, max_uncommitted_bytes, max_committed_bytes_per_ready, cache_bytes;
} rq_options;

typedef struct {
  rq_hard_state hard_state;
  rq_conf conf;
  uint64_t applied, first_index, last_index, snapshot_term;
  const uint64_t* term_starts;              /* pairs: first index, term */
  size_t term_starts_size;                  /* number of pairs */
  const rq_entry* entries;
  size_t entries_size;
} rq_start;

typedef struct { uint64_t id, match, next; uint8_t learner, active, paused, snapshotting; } rq_peer;
typedef struct {
  uint64_t leader, term, commit, applied, first_index, last_index, last_term, transferee;
  uint8_t role;                             /* as raft::Role */
  uint8_t has_pending_conf, own_term_committed;
} rq_status;

rq_engine* rq_engine_new(const rq_options* options);
void rq_engine_free(rq_engine* engine);
rq_bytes rq_engine_fault(const rq_engine* engine);    /* why it is poisoned; empty: it is not */
rq_code rq_engine_start(rq_engine* engine, const rq_start* start);
rq_code rq_engine_tick(rq_engine* engine);
rq_code rq_engine_step(rq_engine* engine, const rq_message* message);
rq_code rq_engine_campaign(rq_engine* engine);
rq_code rq_engine_propose(rq_engine* engine, rq_bytes payload, uint64_t* index);
rq_code rq_engine_propose_conf(rq_engine* engine, const rq_conf_step* steps, size_t steps_size, uint8_t joint,
                               rq_bytes payload, uint64_t* index);
rq_code rq_engine_apply_conf(rq_engine* engine, const rq_conf_step* steps, size_t steps_size, uint8_t joint, rq_conf* out);
rq_code rq_engine_read_index(rq_engine* engine, rq_bytes context);
rq_code rq_engine_transfer(rq_engine* engine, uint64_t to);
rq_code rq_engine_forget_leader(rq_engine* engine);
rq_code rq_engine_report(rq_engine* engine, uint64_t peer, uint8_t what);   /* 0 unreachable, 1 snapshot failed, 2 snapshot done */
rq_code rq_engine_offer_snapshot(rq_engine* engine, uint64_t peer, const rq_snapshot* snapshot);
size_t rq_engine_take_wanted(rq_engine* engine, uint64_t* out, size_t out_size);
rq_code rq_engine_fetched(rq_engine* engine, uint64_t token, const rq_entry* entries, size_t entries_size);
rq_code rq_engine_persisted(rq_engine* engine, uint64_t number);
rq_code rq_engine_snapshot_installed(rq_engine* engine, uint64_t index);
rq_code rq_engine_compact(rq_engine* engine, uint64_t first_kept, uint64_t term_before);
uint8_t rq_engine_has_ready(rq_engine* engine);
rq_code rq_engine_take_ready(rq_engine* engine, const rq_ready** out);
void rq_engine_status(const rq_engine* engine, rq_status* out);
size_t rq_engine_peers(const rq_engine* engine, rq_peer* out, size_t out_size);   /* leader only; the number there are */

#ifdef __cplusplus
}
#endif
