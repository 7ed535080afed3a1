// Backend: what the HTTP API needs from the node. The node (store/) implements it; tests use a fake.
//
// Threads: every method is called on a net thread and must not block it. Completions (done, reply functions) may be
// called once, from any thread, also before the method returns.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_source.h"
#include "base/result.h"
#include "base/types.h"
#include "command/command.pb.h"
#include "command/outcome.h"

namespace rq::http {

struct Credentials {
  std::string username, password;  // both empty: none given
};

// Where and how an operation may be carried out for its client.
struct Routing {
  std::chrono::nanoseconds timeout = std::chrono::seconds(30);  // total, of the exchange with the leader
  std::int64_t retries = 0;
  bool redirect = false;           // don't forward: answer Errc::NotLeader with `redirect_to`
  Credentials credentials;
};

struct Freshness {
  std::chrono::nanoseconds bound{0};   // 0: off
  bool strict = false;
};

// How a SQL request ended. Exactly one of `outcome` and `failure` counts (ok() tells).
struct SqlReply {
  command::Outcome outcome;            // ran here: to be rendered
  std::string rendered;                // ran elsewhere: the body as the leader rendered it (outcome unused)
  std::optional<Error> failure;        // did not run: LeaderNotFound -> 503, Unauthorized -> 401, NotLeader -> 301 ...
  std::string served_by;               // X-RQLITE-SERVED-BY; empty: header absent
  std::string redirect_to;             // with NotLeader: scheme://host:port of the leader's API
};

// One SQL request under way. The HTTP layer derives from it; the backend keeps it alive until done() was called.
class SqlCall {
 public:
  virtual ~SqlCall() = default;
  virtual void done(SqlReply&& reply) = 0;
  // The client is gone: running reads are interrupted and the answer is dropped. Set by the net thread.
  virtual bool canceled() const = 0;

  pb::Request request;
  Routing routing;
  Freshness freshness;
  std::chrono::nanoseconds linearizable_timeout = std::chrono::seconds(10);
  unsigned net_thread = 0;             // number of the calling net thread, for inline reads
};

struct TextReply {                     // answers of operations: status, body, kind of body
  int status = 200;
  std::string body;
  enum class Type { Json, Text, None } type = Type::Json;
  std::string served_by;
  std::string redirect_to;             // with status 301
};
using ReplyFn = std::function<void(TextReply&&)>;

struct NodesQuery {
  bool non_voters = false;
  int version = 1;
  bool pretty = false;
  std::chrono::nanoseconds timeout = std::chrono::seconds(30);
};
struct ReadyQuery {
  bool no_leader = false, sync = false;
  std::chrono::nanoseconds timeout = std::chrono::seconds(30);
};

struct BackupQuery {
  enum class Format { Binary, Delete, Sql } format = Format::Binary;
  bool vacuum = false, compress = false;
  bool here = false;                   // this node's own copy, whatever its role
  std::vector<std::string> tables;     // of Format::Sql; empty: all
};
struct BackupReply {
  std::shared_ptr<ByteSource> source;  // or why not:
  std::optional<Error> failure;        // LeaderNotFound, Unauthorized, BadRequest, Busy ...
  std::string redirect_to;             // asked to redirect, and not the leader
};

// What a client sent to /db/load or /boot.
struct Upload {
  bool is_image = false;
  std::string sql;                     // otherwise
  pb::LoadImage image;                 // complete and durable in this node's staging folder
};
struct UploadOptions {
  bool gzip = false;
  bool images_only = false;
};
// Takes a body piece by piece, keeps images on disk, checks them. One call at a time, the next after its completion.
// Destroyed before finish() was answered: what was staged is removed. Errors: Corrupt (a damaged image; detail says how),
// Truncated ("EOF": images only, too short), BadRequest (no gzip), TooLarge (text), NoSpace, Io.
class UploadWriter {
 public:
  virtual ~UploadWriter() = default;
  virtual void write(std::string&& piece, std::function<void(Result<>)> done) = 0;
  virtual void finish(std::function<void(Result<Upload>)> done) = 0;
};

// /db/proof: how the nodes' databases compare; with `scrub` a comparison of whole databases is begun, with `trust` a
// node's state is declared right where no majority can tell.
struct ProofQuery {
  bool scrub = false, pretty = false;
  std::optional<std::string> trust;
};

class Backend {
 public:
  virtual ~Backend() = default;
  // Calls call->done() once. Admission: when too much waits, failure Errc::Busy.
  virtual void sql(std::shared_ptr<SqlCall> call) = 0;
  // A batch of queued writes (kind EXECUTE) as this node; retried by the caller. `credentials` are of no client.
  virtual bool has_leader() const = 0;
  virtual std::string status_json() = 0;                        // the tree without the http part, compact, keys sorted
  virtual void nodes(const NodesQuery& query, ReplyFn reply) = 0;
  virtual void leader(bool pretty, std::chrono::nanoseconds timeout, ReplyFn reply) = 0;
  virtual void step_down(std::string node_id, bool wait, const Routing& routing, ReplyFn reply) = 0;
  virtual void remove_node(std::string node_id, const Routing& routing, ReplyFn reply) = 0;
  // 200, or 204 when there is nothing new. `trailing`: log entries to keep, 0: the default.
  virtual void snapshot(std::uint64_t trailing, ReplyFn reply) = 0;
  // Moves what is in SQLite's WAL into the database file, in the background. There are no other snapshots to consolidate.
  virtual void reap(ReplyFn reply) = 0;
  virtual void ready(const ReadyQuery& query, ReplyFn reply) = 0;

  virtual void backup(const BackupQuery& query, const Routing& routing, std::function<void(BackupReply&&)> done) = 0;
  // Where the leader's API is: empty if this node leads. Errc::LeaderNotFound.
  virtual Result<std::string> leader_url() const = 0;
  virtual Result<std::shared_ptr<UploadWriter>> begin_upload(const UploadOptions& options) = 0;   // Errc::NotOpen, Busy, Io
  virtual Result<> may_boot() const = 0;                        // BadRequest "not leader", "not single-node"
  // Replaces the database on all nodes by a staged image, which belongs to the node from now on. `done`: the index of its
  // entry, and who did it (X-RQLITE-SERVED-BY). Errors: LeaderNotFound, NotLeader, Unauthorized, Busy, Timeout ...
  virtual void load_image(const pb::LoadImage& image, const Routing& routing, std::function<void(Result<Index>, std::string served_by)> done) = 0;
  virtual void proof(const ProofQuery& query, const Routing& routing, ReplyFn reply) = 0;
};

}  // namespace rq::http
