// rqlited: builds the objects of a node in the order in which they need each other, runs until a signal, stops them in
// the opposite order (spec cluster.md section 2).
#include <malloc.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <thread>

#include "app/rqlited/commands.h"
#include "app/rqlited/import.h"
#include "app/rqlited/security.h"
#include "app/rqlited/licenses.h"
#include "app/rqlited/signals.h"
#include "app/rqlited/version.h"
#include "auth/authority.h"
#include "base/go_text.h"
#include "base/log.h"
#include "base/metrics.h"
#include "cluster/formation.h"
#include "cluster/node.h"
#include "cluster/status.h"
#include "config/flags.h"
#include "http/api.h"
#include "http/server.h"
#include "io/posix_disk.h"
#include "ops/counters.h"
#include "ops/cpu_sampler.h"
#include "ops/metrics_page.h"
#include "ops/profiles.h"
#include "sql/statement_facts.h"
#include "store/node_file.h"
#include "store/recover.h"
#include "store/store.h"
#include "store/temp_folder.h"
#include "transport/transport.h"

namespace {

using namespace rq;

using app::kVersion;
constexpr std::string_view kBanner =
    "            _ _ _\n"
    "  _ __ __ _| (_) |_ ___   _     _\n"
    " | '__/ _` | | | __/ _ \\_| |_ _| |_\n"
    " | | | (_| | | | ||  __/_   _|_   _|\n"
    " |_|  \\__, |_|_|\\__\\___| |_|   |_|\n"
    "         |_|      SQLite, replicated\n\n";

[[noreturn]] void die(const std::string& text) {
  log::error("rqlited", text);
  std::exit(1);
}

replica::Timing timing_of(const config::Options& options) {
  // A tick is a twentieth of the heartbeat timeout; heartbeats go out ten times in it.
  replica::Timing timing;
  timing.tick = std::max(std::chrono::milliseconds(1), std::chrono::duration_cast<std::chrono::milliseconds>(options.raft_heartbeat_timeout / 20));
  timing.election_ticks = std::max(4, static_cast<int>(options.raft_heartbeat_timeout / timing.tick));
  timing.retry_ticks = std::max(timing.election_ticks, static_cast<int>(options.raft_election_timeout / timing.tick));
  timing.heartbeat_ticks = std::max(1, timing.election_ticks / 10);
  timing.leader_lease = std::chrono::duration_cast<std::chrono::milliseconds>(options.raft_leader_lease_timeout);
  return timing;
}

cluster::StatusFacts facts_of(const config::Options& options, const Clock& clock) {
  char path[4096] = {};
  const ssize_t size = ::readlink("/proc/self/exe", path, sizeof path - 1);
  const app::BuildInfo& build = app::build_info();
  return {.version = kVersion, .commit = std::string(build.commit), .build_time = std::string(build.date), .compiler = std::string(build.toolchain),
          .executable = size > 0 ? std::string(path, static_cast<std::size_t>(size)) : "rqlited", .mux_addr = options.raft_addr, .mux_tls = !options.node_cert.empty(),
          .started = clock.wall(), .apply_timeout = options.raft_apply_timeout, .heartbeat_timeout = options.raft_heartbeat_timeout,
          .election_timeout = options.raft_election_timeout, .commit_timeout = options.raft_commit_timeout,
          .lease_timeout = options.raft_leader_lease_timeout, .snapshot_interval = options.raft_snap_int,
          .reap_timeout = options.raft_reap_node_timeout, .reap_read_only_timeout = options.raft_reap_read_only_node_timeout,
          .snapshot_threshold = options.raft_snap, .trailing_logs = options.raft_snap + options.raft_snap / 4,
          .raft_log_level = options.raft_log_level, .foreign_keys = options.fk, .shutdown_on_remove = options.raft_remove_shutdown,
          .compress_snapshots = options.compress_snap_transport, .read_connections_max = static_cast<int>(options.db_max_ro_conns)};
}

// Whether SQLite can parse a text: compiled against an empty database, missing names are not its fault.
std::optional<std::string> syntax_error(std::string_view text) {
  thread_local sqlite3* db = [] {
    sqlite3* handle = nullptr;
    sqlite3_open_v2(":memory:", &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
    return handle;
  }();
  sql::StatementScanner scanner(text);
  for (sql::StatementFacts facts; scanner.next(facts);) {
    sqlite3_stmt* statement = nullptr;
    const int code = sqlite3_prepare_v2(db, facts.text.data(), static_cast<int>(facts.text.size()), &statement, nullptr);
    sqlite3_finalize(statement);
    if (code == SQLITE_OK) continue;
    const std::string message = sqlite3_errmsg(db);
    const bool syntax = message.find("syntax error") != std::string::npos || message.find("incomplete input") != std::string::npos ||
                        message.find("unrecognized token") != std::string::npos;
    if (syntax) return message;
  }
  return std::nullopt;
}

bool is_disallowed(std::string_view text) { return (sql::examine(text) & sql::kPragmaDisallowed) != 0; }

store::NodeFile identity_of(io::Disk& disk, const config::Options& options, bool to_import, Rng& rng) {
  Result<std::optional<store::NodeFile>> stored = store::read_node_file(disk, options.data_dir);
  if (!stored) die("failed to open store: " + stored.error().text());
  if (*stored) {
    if ((*stored)->node_id != options.node_id)
      log::warn("rqlited", "data directory belongs to node " + (*stored)->node_id + ", it goes on as node " + options.node_id);
    store::NodeFile node = **stored;
    node.node_id = options.node_id;
    return node;
  }
  store::NodeFile node{.raft_id = RaftId{rng.next() | 1}, .node_id = options.node_id};
  if (to_import) return node;                     // written with all the rest, when it is imported
  if (const Result<> written = store::write_node_file(disk, options.data_dir, node); !written) die("failed to open store: " + written.error().text());
  return node;
}

class Server {
 public:
  Server(const config::Options& options, int argc, char** argv) : options_(options), arguments_(argv, argv + argc) {}
  int run(app::Signals& signals);

 private:
  void say_what_starts() const;
  void start_profiles();
  void write_profiles();
  void show_metrics(unsigned net_thread, std::function<void(std::string)> reply);
  void prepare_directory();
  void start_edges();
  void open_store();
  Result<> form_cluster();
  int stop();
  http::Credentials join_credentials() const {
    if (options_.join_as.empty() || !authority_) return {};
    return {options_.join_as, authority_->password_of(options_.join_as)};
  }

  const config::Options options_;
  const std::vector<std::string> arguments_;
  SystemClock clock_;
  const WallTime started_ = clock_.wall();
  SystemRng rng_;
  Metrics metrics_;
  io::PosixDisk disk_;
  std::optional<io::DirectoryLock> lock_;
  store::NodeFile identity_;
  bool preexisting_ = false;
  app::PortTls node_tls_, http_tls_;
  bool to_import_ = false;
  std::unique_ptr<auth::Authority> authority_;
  std::unique_ptr<transport::Transport> transport_;
  std::unique_ptr<cluster::Node> node_;
  std::unique_ptr<http::Server> http_;
  std::unique_ptr<http::Api> api_;
  std::unique_ptr<store::Store> store_;
  std::unique_ptr<cluster::Formation> formation_;
  std::promise<void> stop_asked_;
  std::atomic<bool> stopping_{false};
  std::unique_ptr<ops::CpuSampler> cpu_sampler_;
  ops::Profiles profiles_{arguments_};
};

void Server::prepare_directory() {
  if (const Result<> made = disk_.make_dirs(options_.data_dir); !made) die("failed to open store: " + made.error().text());
  Result<io::DirectoryLock> lock = io::DirectoryLock::take(options_.data_dir);
  if (!lock) die("failed to open store: " + lock.error().text());
  lock_.emplace(*std::move(lock));
  const Result<bool> foreign = app::settle_imports(disk_, options_.data_dir, metrics_);
  if (!foreign) die("failed to open store: " + foreign.error().text());
  to_import_ = *foreign;
  const Result<> temp = store::set_temp_folder(disk_, options_.data_dir, std::getenv("SQLITE_TMPDIR"));
  if (!temp) die("failed to open store: " + temp.error().text());
  preexisting_ = to_import_ || disk_.exists(options_.data_dir + "/node.json").value_or(false);
  log::info("rqlited", (preexisting_ ? "preexisting node state detected in " : "no preexisting node state detected in ") + options_.data_dir +
                           (preexisting_ ? "" : ", node may be bootstrapping"));
  identity_ = identity_of(disk_, options_, to_import_, rng_);
  // A file of the kind beside another product's data speaks of that: the import reads it.
  const Result<bool> recovered = to_import_ ? Result<bool>(false) : store::recover_membership(disk_, options_.data_dir, identity_);
  if (!recovered) die("failed to open store: " + recovered.error().text());
  if (*recovered) metrics_.counter("store", "num_recoveries").add();
}

// Ports first: who cannot have them must not touch the data. HTTP answers before the store is open.
void Server::start_edges() {
  Result<app::PortTls> node_tls = app::node_tls(options_);
  if (!node_tls) die(node_tls.error().text());
  node_tls_ = *std::move(node_tls);
  auto transport = transport::Transport::listen({.bind_addr = options_.raft_addr, .advertised_addr = options_.raft_adv_addr, .self = identity_.raft_id,
                                                 .connect_timeout = std::chrono::duration_cast<std::chrono::milliseconds>(options_.cluster_connect_timeout),
                                                 .tls_server = node_tls_.server, .tls_client = node_tls_.client},
                                                metrics_);
  if (!transport) die(transport.error().text());
  transport_ = *std::move(transport);
  log::info("mux", std::string(node_tls_.server ? "TLS mux" : "mux") + " serving on " + options_.raft_addr + ", advertising " + options_.raft_adv_addr);
  Result<std::unique_ptr<auth::Authority>> authority = app::authority(options_);
  if (!authority) die(authority.error().text());
  authority_ = *std::move(authority);
  const cluster::Identity identity{.node_id = options_.node_id, .raft_id = identity_.raft_id, .raft_addr = options_.raft_adv_addr,
                                   .api_addr = options_.http_adv_addr, .https = !options_.http_cert.empty(), .read_replica = options_.raft_non_voter, .version = kVersion};
  node_ = std::make_unique<cluster::Node>(identity, *transport_, authority_.get(), clock_, metrics_,
                                          [facts = facts_of(options_, clock_)](const cluster::Node& node, const store::Store* store) {
                                            return cluster::status_json(facts, node, store);
                                          });
  node_->set_upkeep({.reap = {.voter = options_.raft_reap_node_timeout, .read_replica = options_.raft_reap_read_only_node_timeout},
                     .contact = options_.raft_heartbeat_timeout, .shut_down_when_removed = options_.raft_remove_shutdown});
  node_->set_image_options({.zstd = options_.compress_snap_transport, .bytes_per_second_max = options_.snap_transport_rate});
  node_->set_own_credentials([this] { return join_credentials(); });
  transport_->start(node_->handlers());
  log::info("cluster", "service listening on " + options_.raft_adv_addr);

  const unsigned net_threads = std::max(1u, std::thread::hardware_concurrency() / 2);
  Result<app::PortTls> http_tls = app::http_tls(options_);
  if (!http_tls) die(http_tls.error().text());
  http_tls_ = *std::move(http_tls);
  auto http = http::Server::listen(options_.http_addr, net_threads, {.drain = std::chrono::milliseconds(1200)}, http_tls_.server);
  if (!http) die("failed to start HTTP server: " + http.error().text());
  http_ = *std::move(http);
  http::ApiOptions api{.version = kVersion, .allow_origin = options_.http_allow_origin, .bind_addr = options_.http_addr,
                       .cluster_addr = options_.raft_adv_addr, .tls_status = app::http_tls_status(options_), .authority = authority_.get(),
                       .queue = {.capacity = static_cast<std::size_t>(options_.write_queue_capacity),
                                 .batch_size = static_cast<std::size_t>(options_.write_queue_batch_size),
                                 .timeout = options_.write_queue_timeout, .transaction = options_.write_queue_tx},
                       .command_line = arguments_,
                       .memstats = ops::memstats_json,
                       .refresh_counters = [this] { ops::refresh_counters(metrics_, *node_); },
                       .peer_pools = [this] { return ops::peer_pools_json(*node_); },
                       .licenses = std::string(app::licenses()),
                       .syntax_error = syntax_error, .disallowed = is_disallowed,
                       .pprof = [this](std::string_view path, std::string_view query, http::ReplyFn reply) {
                         profiles_.handle(path, query, [reply = std::move(reply)](int status, std::string body) {
                           reply({.status = status, .body = std::move(body), .type = http::TextReply::Type::Text});
                         });
                       },
                       .metrics = [this](unsigned net_thread, std::function<void(std::string)> reply) { show_metrics(net_thread, std::move(reply)); }};
  api_ = std::make_unique<http::Api>(std::move(api), *node_, clock_, metrics_);
  node_->set_net_poster([server = http_.get()](unsigned thread, std::function<void()> work) { server->on_net_thread(thread, std::move(work)); });
  http_->start(*api_);
  log::info("http", "execute queue processing started with capacity " + std::to_string(options_.write_queue_capacity) + ", batch size " +
                        std::to_string(options_.write_queue_batch_size) + ", timeout " + go_duration_text(options_.write_queue_timeout));
  log::info("http", "service listening on " + options_.http_addr);
}

void Server::open_store() {
  log::info("store", "opening store with node ID " + options_.node_id + ", listening on " + options_.raft_addr);
  const store::Options options{.data_dir = options_.data_dir, .self = identity_.raft_id, .timing = timing_of(options_),
                               .limits = {.enqueue_time = options_.raft_apply_timeout.count() > 0 ? options_.raft_apply_timeout : config::Duration::max()},
                               .foreign_keys = options_.fk, .read_connections_max = static_cast<int>(options_.db_max_ro_conns),
                               .net_threads = http_->net_threads(), .slow_query_log = options_.slow_query_log,
                               .keeper = {.log_entries = options_.raft_snap, .wal_bytes = options_.raft_snap_wal_size, .interval = options_.raft_snap_int,
                                          .vacuum_every = options_.auto_vacuum_int, .optimize_every = options_.auto_optimize_int}};
  Result<std::unique_ptr<store::Store>> store = store::Store::open(options, disk_, clock_, rng_, metrics_, *node_);
  if (!store) die("failed to open store: " + store.error().text());
  store_ = *std::move(store);
}

Result<> Server::form_cluster() {
  replica::Replica& replica = store_->replica();
  const bool has_state = replica.has_state();
  const bool joins = !options_.join.empty();
  const auto found = [this](replica::MembershipRecord record, raft::ConfState conf) { return store_->replica().bootstrap(std::move(record), std::move(conf)); };
  if (!joins && !has_state) {
    if (options_.raft_non_voter) return fail(Errc::BadRequest, "cannot create a new non-voting node without joining it to an existing cluster");
    log::info("rqlited", "bootstrapping single new node");
    replica::MembershipRecord record{.cluster_id = rng_.next() | 1};
    record.members.put(node_->self_member());
    RQ_CHECK(found(std::move(record), {.voters = {identity_.raft_id}}));
  }
  const raft::ConfState stored = replica.stored_conf();
  if (const Result<> started = store_->start(); !started) die("failed to open store: " + started.error().text());
  node_->set_proof_options({.scrub_interval = options_.scrub_int});
  node_->open(*store_);
  if (!joins) return {};
  cluster::JoinOptions options{.addresses = options_.join, .attempts = static_cast<int>(options_.join_attempts), .interval = options_.join_interval,
                               .bootstrap_expect = static_cast<int>(options_.bootstrap_expect),
                               .bootstrap_expect_timeout = options_.bootstrap_expect_timeout, .credentials = join_credentials()};
  formation_ = std::make_unique<cluster::Formation>(*node_, clock_, rng_, std::move(options), has_state, found);
  RQ_CHECK(formation_->probe_addresses());
  if (options_.bootstrap_expect > 0) return formation_->bootstrap();
  if (has_state && stored.voters.size() == 1 && stored.is_voter(identity_.raft_id) && stored.learners.empty())
    return fail(Errc::BadRequest, "node is the only node in a single-node cluster, joining other clusters not supported");
  return formation_->join();
}

int Server::stop() {
  int code = 0;
  log::info("http", "closing HTTP service on " + options_.http_addr);
  // Queued writes that were acknowledged are written first; then nobody new comes in. All limits together stay below five
  // seconds, also without a quorum.
  api_->stop_queue(std::chrono::milliseconds(700));
  if (store_ && options_.raft_cluster_remove_shutdown) {
    if (const Result<> removed = cluster::Formation::remove_self(*node_, join_credentials()); !removed) {
      log::error("rqlited", "failed to remove this node from cluster before shutdown: " + removed.error().text());
      code = 1;
    }
  } else if (store_ && options_.raft_shutdown_stepdown && store_->replica().is_leader() && node_->conf().voters.size() > 1) {
    log::info("rqlited", "stepping down as Leader before shutdown");
    auto done = std::make_shared<std::promise<Result<>>>();
    auto future = done->get_future();
    store_->replica().transfer(RaftId{}, clock_.now() + std::chrono::milliseconds(1500), [done](Result<> result) { done->set_value(std::move(result)); });
    if (const Result<> moved = future.get(); !moved) log::warn("rqlited", "leadership was not handed over: " + moved.error().text());
  }
  profiles_.stop();
  node_->stop_parking();
  if (store_) store_->interrupt();      // a runaway statement must not hold the drain up
  if (authority_) authority_->stop();
  http_->stop();
  formation_.reset();
  node_->close();
  transport_->stop();
  if (store_) store_->stop();
  write_profiles();
  log::info("store", "store closed with node ID " + options_.node_id);
  log::info("rqlited", "rqlite server stopped");
  return code;
}

void Server::say_what_starts() const {
  std::fwrite(kBanner.data(), 1, kBanner.size(), stdout);
  std::fflush(stdout);
  const app::BuildInfo& build = app::build_info();
  const std::string toolchain(build.toolchain), compiler(build.compiler);
  log::info("rqlited", std::string("rqlited starting, version ") + kVersion + ", SQLite " + sqlite3_libversion() + ", commit " + std::string(build.commit) +
                           ", compiler (toolchain) " + toolchain + ", compiler (command) " + compiler);
  log::info("rqlited", toolchain + ", target architecture is " + std::string(build.architecture) + ", operating system target is linux");
  std::string command;
  for (const std::string& word : arguments_) command += (command.empty() ? "" : " ") + word;
  log::info("rqlited", "launch command: " + command);
}

void Server::start_profiles() {
  for (const auto& [path, what] : {std::pair(options_.cpu_profile, "CPU"), std::pair(options_.mem_profile, "memory")}) {
    if (path.empty()) continue;
    const Result<std::unique_ptr<io::File>> made = disk_.open(std::filesystem::absolute(path).string(), io::OpenMode::CreateOrOpen);
    if (!made) die(std::string("failed to create ") + what + " profile file at " + path + ": " + made.error().text());
  }
  if (options_.cpu_profile.empty()) return;
  auto sampler = ops::CpuSampler::start();
  if (!sampler) die("failed to start CPU profiling: " + sampler.error().text());
  cpu_sampler_ = *std::move(sampler);
}

void Server::write_profiles() {
  const auto write = [this](const std::string& path, const std::string& text) {
    if (const Result<> written = io::write_file_atomically(disk_, std::filesystem::absolute(path).string(), text); !written)
      log::error("rqlited", "failed to write profile: " + written.error().text());
  };
  if (cpu_sampler_) write(options_.cpu_profile, cpu_sampler_->stop());
  if (!options_.mem_profile.empty()) write(options_.mem_profile, ops::heap_text());
}

// The raft thread says how things are now; the text is made on the net thread that asked.
void Server::show_metrics(unsigned net_thread, std::function<void(std::string)> reply) {
  const auto write = [this, reply = std::move(reply)](const std::optional<replica::View>& view) {
    ops::refresh_counters(metrics_, *node_);
    reply(ops::metrics_text({*node_, *api_, *http_, metrics_, std::string(app::build_info().commit), started_, options_.http_cert, options_.node_cert}, view));
  };
  store::Store* store = node_->open_store();
  if (store == nullptr) return write(std::nullopt);
  store->replica().fresh_view([this, net_thread, write](const replica::View& view) {
    http_->on_net_thread(net_thread, [write, view] { write(view); });
  });
}

int Server::run(app::Signals& signals) {
  say_what_starts();
  start_profiles();
  prepare_directory();
  start_edges();
  signals.start(
      [this] {
        app::limit_the_stop();
        stopping_ = true;
        node_->cancel_waits();
        stop_asked_.set_value();
      },
      [this] {
        node_tls_.reload();
        http_tls_.reload();
        if (authority_) (void)authority_->reload();
      });
  if (to_import_) {
    const Result<> imported =
        app::import_at_start(disk_, options_, node_->self_member(), rng_, clock_, metrics_, [this] { return stopping_.load(); });
    if (!imported && imported.error().code != Errc::Canceled) die("failed to open store: import: " + imported.error().text());
    if (!imported) {
      log::info("import", "stopped before its end, the next start begins again");
      return stop();
    }
  }
  open_store();
  auto stop_asked = stop_asked_.get_future();
  if (const Result<> formed = form_cluster(); !formed) {
    log::error("rqlited", "clustering failure: " + formed.error().text());
    (void)stop();
    return 1;
  }
  const std::string url = (options_.http_cert.empty() ? "http://" : "https://") + options_.http_adv_addr;
  log::info("rqlited", "node HTTP API available at " + url);
  const std::size_t colon = options_.http_adv_addr.rfind(':');
  log::info("rqlited", "connect using the command-line tool via 'rqlite -H " + options_.http_adv_addr.substr(0, colon) + " -p " +
                           options_.http_adv_addr.substr(colon + 1) + "'");
  log::info("rqlited", "visit the rqlite console for this node at " + url + "/console/");
  stop_asked.wait();
  return stop();
}

// Connections are files: as many as the system grants. Go's runtime does the same.
void raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int main(int argc, char** argv) {
  ::setenv("TZ", "UTC", 1);            // stored times are UTC whatever the machine says (SQL's localtime too)
  ::mallopt(M_ARENA_MAX, 2);
  if (const std::optional<int> code = app::run_command(argc, argv)) return *code;
  auto parsed = config::parse(argc, argv, app::version_line());
  if (const auto* exit = std::get_if<config::Exit>(&parsed)) {
    std::fputs(exit->text.c_str(), stderr);
    return exit->code;
  }
  const auto& options = std::get<config::Options>(parsed);
  log::set_level(log::parse_level(options.log_level).value_or(log::Level::Info));
  log::set_raft_level(log::parse_level(options.raft_log_level).value_or(log::Level::Info));      // as the reference takes unknown words
  log::set_format(options.log_format == "json" ? log::Format::Json : log::Format::Text);
  raise_file_limit();
  app::Signals signals;
  const int code = Server(options, argc, argv).run(signals);
  std::fflush(nullptr);
  ::_exit(code);                       // detached: the signal thread
}
