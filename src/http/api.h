// Api: the HTTP API of a node: routes, checks in the reference's order, bodies in and out (spec http-api, cluster.md 5).
//
// Threads: handle() on net threads; completions from any. Must outlive the server that calls it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "auth/authority.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "http/backend.h"
#include "http/request_target.h"
#include "http/server.h"
#include "http/write_queue.h"

namespace rq::http {

struct ApiOptions {
  std::string version = "10";
  std::string allow_origin;                                 // empty: header absent
  std::string bind_addr, cluster_addr;                      // for /status
  std::string tls_status = "{\"enabled\":\"false\"}";       // for /status, JSON
  auth::Authority* authority = nullptr;                     // null: no auth
  QueueOptions queue;
  std::vector<std::string> command_line;
  std::function<std::string()> memstats;                    // JSON object of /debug/vars; null: {}
  std::function<void()> refresh_counters;                   // those that are looked up, not counted; null: none
  std::function<std::string()> peer_pools;                  // JSON object of /status: connections to other nodes; null: {}
  std::string licenses;
  std::function<std::optional<std::string>(std::string_view)> syntax_error;   // of one SQL text; nullopt: it can be parsed
  std::function<bool(std::string_view)> disallowed;                           // a PRAGMA that nobody may run
  std::function<void(std::string_view path, std::string_view query, ReplyFn)> pprof;   // /debug/pprof...; null: 404
  std::function<void(unsigned net_thread, std::function<void(std::string)>)> metrics;  // text of /metrics; null: 404
};

class Api final : public Service {
 public:
  Api(ApiOptions options, Backend& backend, Clock& clock, Metrics& metrics);
  ~Api() override;
  std::shared_ptr<BodySink> open(const std::shared_ptr<Exchange>& exchange) override;
  void handle(std::shared_ptr<Exchange> exchange) override;
  void stop_queue(std::chrono::milliseconds within) { queue_.stop(within); }
  const std::vector<std::unique_ptr<EndpointStats>>& stats() const { return stats_; }
  const WriteQueue& queue() const { return queue_; }

 private:
  class DbCall;
  class WaitingSink;
  class Replacement;
  struct Route;
  struct Context {
    std::shared_ptr<Exchange> exchange;
    Target target;
    Credentials credentials;
  };
  using Handler = void (Api::*)(Context&);
  using Opener = std::shared_ptr<BodySink> (Api::*)(Context&);
  // A queued write on its way into the queue.
  struct Enqueued {
    google::protobuf::RepeatedPtrField<pb::Statement> statements;
    Credentials credentials;
    SteadyTime until;                            // then a full queue is an error
    std::function<void(std::int64_t)> accepted;  // without `wait`
    WriteQueue::Done done;                       // with `wait`
    std::atomic<bool> answered{false};
  };

  static const std::vector<Route>& routes();
  static const Route* find_route(std::string_view path);
  void make_stats();
  EndpointStats& stats_of(const Route* route, const Parameters& parameters) const;
  const Route* locate(const std::shared_ptr<Exchange>& exchange, Context& context);
  static bool permitted(const auth::Caller& caller, const Route& route);
  std::optional<bool> permitted_now(const Context& context, const Route& route) const;
  using Identified = std::function<void(bool may)>;
  void permitted_later(const Context& context, const Route& route, Identified done);
  bool enter(Exchange& exchange, const Route& route, bool may);
  void respond(Exchange& exchange, int status, std::string_view type, std::string body, std::string_view extra = {}) const;
  void respond_error(Exchange& exchange, int status, std::string_view text) const;
  void respond_empty(Exchange& exchange, int status, bool json) const;
  void respond(Exchange& exchange, TextReply&& reply, std::string_view raw_path, std::string_view raw_query) const;
  ReplyFn replier(const Context& context) const;

  void execute(Context& context);
  void query(Context& context);
  void request(Context& context);
  void run_sql(Context& context, pb::Request::Kind kind);
  void enqueue(Context& context);
  void put_into_queue(const std::shared_ptr<Exchange>& exchange, const std::shared_ptr<Enqueued>& waiting);
  void show_sql(Context& context);
  void status(Context& context);
  void nodes(Context& context);
  void leader(Context& context);
  void remove(Context& context);
  void ready(Context& context);
  void proof(Context& context);
  void debug_vars(Context& context);
  void snapshot(Context& context);
  void reap(Context& context);
  void licenses(Context& context);
  void backup(Context& context);
  std::shared_ptr<BodySink> load(Context& context);
  std::shared_ptr<BodySink> boot(Context& context);
  std::shared_ptr<BodySink> replace(Context& context, bool boot);
  void redirect_to_console(Exchange& exchange, int status) const;
  void not_yet(Context& context);
  void pprof(Context& context);
  void prometheus(Context& context);
  void sql_answered(Exchange& exchange, std::uint32_t render, std::string_view type, std::string_view path, std::string_view raw_query,
                    SqlReply&& reply) const;
  std::string http_status() const;
  Routing routing(const Context& context) const;

  const ApiOptions options_;
  Backend& backend_;
  Clock& clock_;
  Metrics& metrics_;
  std::string common_headers_;
  std::vector<std::unique_ptr<EndpointStats>> stats_;         // kLevels for each route, null where it has fewer; the last one is of no route
  WriteQueue queue_;
};

}  // namespace rq::http
