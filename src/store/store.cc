#include "store/store.h"

#include <google/protobuf/io/coded_stream.h>

#include <algorithm>
#include <thread>

#include "base/assert.h"
#include "base/log.h"
#include "sql/statement_facts.h"
#include "store/quarantine.h"
#include "wal/log.h"

namespace rq::store {
namespace {

// Reads on a net thread are cut off here and go to the pool: about 100 microseconds of work.
constexpr std::uint64_t kInlineSteps = 4000;

// pb::Proposal{request} without copying the request into one.
std::string proposal_bytes(const pb::Request& request) {
  using google::protobuf::io::CodedOutputStream;
  const std::size_t size = request.ByteSizeLong();
  std::string bytes;
  bytes.resize(1 + CodedOutputStream::VarintSize64(size) + size);
  auto* out = reinterpret_cast<std::uint8_t*>(bytes.data());
  *out++ = 1 << 3 | 2;
  out = CodedOutputStream::WriteVarint64ToArray(size, out);
  request.SerializeWithCachedSizesToArray(out);
  return bytes;
}

}  // namespace

void SqlJob::applied(command::Outcome&& outcome) {
  if (store != nullptr) {
    const auto took = store->slow_log_.on() ? store->clock_.now() - begun : std::chrono::nanoseconds(0);
    store->note_time(*this, took, nullptr, "log", outcome.failed);
  }
  finished(std::move(outcome));
}

// The executor, with notes of when entries were sealed and applied (freshness, /status).
class Store::Machine final : public raft::StateMachine {
 public:
  Machine(Store& store, executor::Executor& executor) : store_(store), executor_(executor) {}

  Index applied_index() const override { return executor_.applied_index(); }
  Result<> apply(const raft::Group& group) override {
    store_.appended_ms_.store(group.wall_ms, std::memory_order_relaxed);
    if (Result<> done = executor_.apply(group); !done) {
      if (done.error().code == Errc::Corrupt && !executor_.poisoned()) store_.integrity_->damaged(done.error().text());
      return done;
    }
    store_.integrity_->applied(group.index, executor_.status().chain);
    store_.applied_at_ns_.store(store_.clock_.wall().time_since_epoch().count(), std::memory_order_relaxed);
    return {};
  }
  Result<> skip(Index index, Term term) override {
    RQ_CHECK(executor_.skip(index, term));
    store_.integrity_->applied(index, executor_.status().chain);
    return {};
  }
  void idle() override { executor_.idle(); }
  Result<raft::MachineSnapshot> snapshot() override {
    RQ_TRY(raft::MachineSnapshot held, executor_.snapshot());
    held.copied_from = store_.integrity_->copy_of();
    return held;
  }
  Result<std::string> persist(std::uint64_t id, std::uint64_t offset, std::size_t size) override { return executor_.persist(id, offset, size); }
  void release(std::uint64_t id) override { executor_.release(id); }
  Result<> restore(const raft::MachineSnapshot& snapshot, const std::string& image) override {
    if (!image.empty()) RQ_CHECK(store_.integrity_->will_copy(snapshot));
    RQ_CHECK(executor_.restore(snapshot, image));
    store_.integrity_->exchanged(snapshot.index, executor_.status().chain);
    return {};
  }
  bool look_ahead(const raft::Group& later, Index stuck) override { return executor_.look_ahead(later, stuck); }

 private:
  Store& store_;
  executor::Executor& executor_;
};

// While the gate is closed nobody gets one: the pool serves, when it does.
class Store::NetReader {
 public:
  NetReader(Store& store, int net_thread) : slot_(net_thread < 0 ? nullptr : store.net_readers_[static_cast<std::size_t>(net_thread)].get()) {
    if (slot_ == nullptr) return;
    slot_->busy.store(true);
    if (!store.gate_closed_.load()) {
      if (!slot_->reader) {
        if (Result<std::unique_ptr<sql::Reader>> opened = sql::Reader::open(store.inline_options_)) slot_->reader = *std::move(opened);
      }
      reader_ = slot_->reader.get();
    }
    if (reader_ == nullptr) give_back();
  }
  ~NetReader() { give_back(); }
  NetReader(const NetReader&) = delete;
  sql::Reader* get() const { return reader_; }

 private:
  void give_back() {
    if (slot_ != nullptr) std::exchange(slot_, nullptr)->busy.store(false);
  }
  InlineReader* slot_;
  sql::Reader* reader_ = nullptr;
};

Store::Store(const Options& options, io::Disk& disk, Clock& clock, Metrics& metrics)
    : options_(options), disk_(disk), clock_(clock),
      slow_log_(options.slow_query_log, clock, [this](const std::string& sql) { return plan_of(sql); },
                [this](std::function<void()> work) {
                  return read_pool_->submit([work = std::move(work)](sql::Reader*, const Error*) { work(); }).has_value();
                }),
      counts_{metrics.counter("db", "executions"), metrics.counter("db", "queries"), metrics.counter("db", "requests"),
              metrics.counter("db", "execution_errors"), metrics.counter("db", "query_errors"), metrics.counter("db", "execute_transactions"),
              metrics.counter("db", "query_transactions"), metrics.counter("db", "request_transactions")} {}

Store::~Store() { stop(); }

executor::Options Store::executor_options() {
  executor::Options options;
  options.disk = &disk_;
  options.clock = &clock_;
  options.dir = options_.data_dir;
  options.foreign_keys = options_.foreign_keys;
  options.cache_kib = 8 * 1024;
  if (options_.keeper.wal_bytes != 0) options.wal_bytes_soft = options_.keeper.wal_bytes;
  options.wal_bytes_hard = std::max(options.wal_bytes_hard, 4 * options.wal_bytes_soft);
  options.on_strong_reads = [this](Index index, std::span<executor::StrongRead> reads) { strong_reads(index, reads); };
  options.on_maintenance = [this](executor::Maintenance kind, WallTime sealed) {
    if (keeper_) keeper_->maintained(kind, sealed);
  };
  options.on_scrub = [this](Index index) { integrity_->scrub(index); };
  // The file is about to be exchanged: no connection of ours may be on it, or come to be, until it is.
  options.before_exchange = [this] {
    if (!read_pool_) return;
    exchange_mutex_.lock();
    read_pool_->begin_exchange();
    (void)close_gate(std::chrono::milliseconds::max());
    for (auto& slot : net_readers_) slot->reader.reset();
    facts_mutex_.lock();
    facts_connection_.reset();
  };
  options.after_exchange = [this] {
    if (!read_pool_) return;
    facts_mutex_.unlock();
    open_gate();
    read_pool_->end_exchange();
    exchange_mutex_.unlock();
  };
  options.drain_readers = [this](std::chrono::milliseconds within) {
    if (!read_pool_) return true;
    const SteadyTime begun = clock_.now();
    const bool closed = close_gate(within);
    const auto left = within - std::chrono::duration_cast<std::chrono::milliseconds>(clock_.now() - begun);
    return read_pool_->drain(std::max(left, std::chrono::milliseconds(0))) && closed;
  };
  options.admit_readers = [this] {
    if (!read_pool_) return;
    open_gate();
    read_pool_->admit();
  };
  return options;
}

// Inline reads are short; true when none runs any more.
bool Store::close_gate(std::chrono::milliseconds within) {
  gate_closed_.store(true);
  const SteadyTime until = within == std::chrono::milliseconds::max() ? SteadyTime::max() : clock_.now() + within;
  for (const auto& slot : net_readers_) {
    while (slot->busy.load()) {
      if (clock_.now() >= until) return false;
      std::this_thread::yield();
    }
  }
  return true;
}

Result<std::unique_ptr<Store>> Store::open(const Options& options, io::Disk& disk, Clock& clock, Rng& rng, Metrics& metrics,
                                           replica::Replica::Events& events) {
  std::unique_ptr<Store> store(new Store(options, disk, clock, metrics));
  RQ_CHECK(disk.make_dirs(store->staging_dir()));
  RQ_CHECK(store->open_executor());
  store->integrity_ = std::make_unique<Integrity>(options.data_dir, disk, clock, metrics, *store->executor_);
  store->machine_ = std::make_unique<Machine>(*store, *store->executor_);
  RQ_CHECK(store->open_readers());
  const replica::Options replica_options{.log_dir = options.data_dir + "/raft", .staging_dir = store->staging_dir(), .self = options.self,
                                         .timing = options.timing, .limits = options.limits};
  RQ_TRY(store->replica_, replica::Replica::open(replica_options, disk, clock, rng, *store->machine_, events));
  KeeperOptions keeper = options.keeper;
  keeper.dir = options.data_dir;
  store->keeper_ = std::make_unique<Keeper>(std::move(keeper), disk, clock, rng, metrics, *store->executor_, *store->replica_);
  metrics.counter("store", "num_restores_start_skipped").add(store->replica_->has_state() ? 1 : 0);
  return store;
}

// Files that contradict each other are no reason to stay away as long as their content can be had again.
Result<> Store::open_executor() {
  Result<std::unique_ptr<executor::Executor>> opened = executor::Executor::open(executor_options());
  if (!opened && opened.error().code == Errc::Corrupt) {
    RQ_TRY(const bool again, state_can_be_had_again());
    if (!again)
      return fail(Errc::Corrupt, opened.error().detail + "; no other member has this database: put the files back as they were, "
                                 "or start with an empty data directory and load a backup (or this db.sqlite, once you have looked at it)");
    RQ_TRY(const std::string evidence, keep_evidence(disk_, options_.data_dir, clock_.wall()));
    log::error("store", "the database can't be opened: " + opened.error().text() + "; it is kept in " + evidence + ", its state is taken from the others or the log");
    RQ_CHECK(executor::Executor::wipe(disk_, options_.data_dir));
    opened = executor::Executor::open(executor_options());
  }
  RQ_TRY(executor_, std::move(opened));
  return {};
}

// From other members, or from a log that reaches back to the empty database.
Result<bool> Store::state_can_be_had_again() {
  RQ_TRY(const wal::Log::Opened opened, wal::Log::open(disk_, options_.data_dir + "/raft", {}));
  const wal::Recovered& log = opened.recovered;
  if (log.snapshot.index.value == 0) return false;
  const raft::ConfState& conf = log.membership.conf_state;
  if (conf.voters.size() + conf.learners.size() > 1) return true;
  RQ_TRY(const replica::MembershipRecord record, replica::decode_membership_record(log.membership.members));
  return log.first.value == 2 && !record.base_conf.voters.empty();
}

Result<> Store::start() {
  const executor::Status status = executor_->status();
  integrity_->applied(status.applied, status.chain);
  RQ_CHECK(replica_->start());
  integrity_->start(*replica_);
  keeper_->start();
  return {};
}

void Store::interrupt() {
  if (executor_) executor_->interrupt();
  if (read_pool_) read_pool_->interrupt();
}

void Store::stop() {
  interrupt();
  if (keeper_) keeper_->stop();
  if (integrity_) integrity_->stop();
  if (replica_) replica_->stop();
  if (read_pool_) read_pool_->stop();
  if (!executor_) return;
  if (const Result<> synced = executor_->settle(); !synced && synced.error().code != Errc::NotOpen)
    log::warn("store", "database not synced on stop: " + synced.error().text());
}

namespace {

class LoadWaiter final : public executor::SqlWaiter {
 public:
  explicit LoadWaiter(std::function<void(Result<Index>)> done) : done_(std::move(done)) {}
  void applied(command::Outcome&& outcome) override { done_(Index{outcome.raft_index}); }
  void failed(const Error& error) override { done_(fail(error)); }

 private:
  std::function<void(Result<Index>)> done_;
};

}  // namespace

void Store::propose_skip(Index index) {
  pb::Proposal proposal;
  proposal.set_skip_index(index.value);
  replica_->propose({.bytes = proposal.SerializeAsString(), .alone = true, .waiter = nullptr});
}

void Store::load_image(const pb::LoadImage& image, std::function<void(Result<Index>)> done) {
  if (!replica_->is_leader()) return done(fail(no_leader_here()));
  pb::Proposal proposal;
  *proposal.mutable_load_image() = image;
  replica_->propose({.bytes = proposal.SerializeAsString(), .alone = true, .waiter = std::make_shared<LoadWaiter>(std::move(done))});
}

void Store::propose_proof(const pb::ProofMark& mark, std::function<void(Result<Index>)> done) {
  if (!replica_->is_leader()) return done(fail(no_leader_here()));
  pb::Proposal proposal;
  *proposal.mutable_proof() = mark;
  replica_->propose({.bytes = proposal.SerializeAsString(), .alone = true, .waiter = std::make_shared<LoadWaiter>(std::move(done))});
}

// The log may stand at a snapshot whose state isn't installed yet: its membership is known by then.
bool Store::ready() const {
  if (!replica_->caught_up_with_start() || replica_->wants_state() || integrity_->quarantined()) return false;
  const replica::View view = replica_->view();
  return !view.broken && replica_->applied() >= view.conf_index;
}

std::optional<WallTime> Store::last_appended() const {
  const std::int64_t ms = appended_ms_.load(std::memory_order_relaxed);
  if (ms == 0) return std::nullopt;
  return WallTime(std::chrono::milliseconds(ms));
}

std::optional<WallTime> Store::last_applied_at() const {
  const std::int64_t ns = applied_at_ns_.load(std::memory_order_relaxed);
  if (ns == 0) return std::nullopt;
  return WallTime(std::chrono::nanoseconds(ns));
}

Error Store::no_leader_here() const { return {replica_->leader() ? Errc::NotLeader : Errc::LeaderNotFound, {}}; }

// ---- which way a request takes

void Store::run(const std::shared_ptr<SqlJob>& job) {
  if (integrity_->quarantined()) {      // whoever leads answers in its stead, reads of level none too
    if (!replica_->is_leader() && replica_->leader()) return job->finished(fail(Errc::NotLeader));
    return job->finished(fail(Errc::Busy, "this node is in quarantine: its database differs from that of the others"));
  }
  const std::uint32_t facts = sql::examine(job->request);
  if ((facts & sql::kPragmaDisallowed) != 0) return job->finished(fail(Errc::DisallowedPragma));
  job->store = this;
  count(job->request);
  job->alone = (facts & (sql::kTransactionControl | sql::kVacuum | sql::kPragmaSetting)) != 0;
  switch (job->request.kind()) {
    case pb::Request::QUERY:
      return read(job);
    case pb::Request::REQUEST:
      return classify_then_run(job);
    default:
      return write(job, false);
  }
}

void Store::read(const std::shared_ptr<SqlJob>& job) {
  switch (job->request.level()) {
    case pb::Request::NONE:
      return read_local(job);
    case pb::Request::LINEARIZABLE:
      return read_linearizable(job);
    case pb::Request::STRONG:
      return write(job, true);
    case pb::Request::AUTO:
      // A read replica answers itself; /db/request at this level does so on every node.
      if (job->request.kind() == pb::Request::REQUEST || !replica_->view().conf.is_voter(options_.self)) return read_local(job);
      return read_weak(job);
    default:
      return read_weak(job);
  }
}

// ---- writes and strong reads: through the log

void Store::write(const std::shared_ptr<SqlJob>& job, bool read_only) {
  if (!replica_->is_leader()) return job->finished(fail(no_leader_here()));
  if (!read_only) {
    if (auto refused = integrity_->writes_refused()) return job->finished(fail(*std::move(refused)));
  }
  pb::Request& request = job->request;
  request.set_read_only(read_only);
  if (!read_only && request.db_timeout_ns() > 0) return decide_timeout_then_write(job);
  propose(job);
}

void Store::propose(const std::shared_ptr<SqlJob>& job) {
  const bool alone = job->alone && !job->request.read_only();
  replica_->propose({.bytes = proposal_bytes(job->request), .alone = alone, .waiter = job, .begun = job->begun});
}

// Whether the request fits its time is decided once, here, on the writer between two entries, before the log.
void Store::decide_timeout_then_write(const std::shared_ptr<SqlJob>& job) {
  const SteadyTime deadline = clock_.now() + std::chrono::nanoseconds(job->request.db_timeout_ns());
  replica_->on_apply_thread([this, job, deadline] {
    const Result<std::uint32_t> decision = executor_->dry_run(job->request, deadline);
    if (!decision) return job->finished(fail(decision.error()));
    job->request.set_timed_out_unit(*decision);
    propose(job);
  });
}

// ---- reads

Result<> Store::open_readers() {
  const sql::ReaderOptions reader{.path = options_.data_dir + "/db.sqlite", .clock = &clock_, .foreign_keys = options_.foreign_keys,
                                 .on_damage = [this] { integrity_->suspect(); }};
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  read_pool_ = std::make_unique<sql::ReadPool>(
      sql::ReadPool::Options{.reader = reader, .connections_max = options_.read_connections_max, .threads_max = std::max(4u, 2 * cores)});
  inline_options_ = reader;
  inline_options_.busy_timeout_ms = 0;           // a net thread waits for nobody: the pool does
  for (unsigned i = 0; i < options_.net_threads; ++i) net_readers_.push_back(std::make_unique<InlineReader>());
  RQ_TRY(net_readers_.front()->reader, sql::Reader::open(inline_options_));   // what can't be read is said now
  return {};
}

sql::Connection* Store::facts_connection() const {
  if (!facts_connection_) {
    auto opened = sql::Connection::open({.path = options_.data_dir + "/db.sqlite", .read_only = true, .clock = &clock_, .cache_kib = 64, .statements_cached = 16});
    if (opened) facts_connection_ = *std::move(opened);
  }
  return facts_connection_.get();
}

DatabaseFacts Store::database_facts() const {
  DatabaseFacts facts{.version = sqlite3_libversion()};
  const std::lock_guard lock(facts_mutex_);
  sql::Connection* connection = facts_connection();
  if (connection == nullptr) return facts;
  const auto number = [&](const char* pragma) { return connection->number(pragma).value_or(0); };
  facts.page_count = number("PRAGMA page_count");
  facts.page_size = number("PRAGMA page_size");
  facts.freelist_count = number("PRAGMA freelist_count");
  facts.max_page_count = number("PRAGMA max_page_count");
  facts.cache_size = -2000;
  for (int i = 0; const char* option = sqlite3_compileoption_get(i); ++i) facts.compile_options.emplace_back(option);
  std::ranges::sort(facts.compile_options);
  return facts;
}

void Store::count(const pb::Request& request) {
  const auto add = [&](Counter& statements, Counter& transactions) {
    statements.add(request.statements_size());
    if (request.transaction()) transactions.add();
  };
  switch (request.kind()) {
    case pb::Request::EXECUTE: return add(counts_.executions, counts_.execute_transactions);
    case pb::Request::QUERY: return add(counts_.queries, counts_.query_transactions);
    default: return add(counts_.requests, counts_.request_transactions);
  }
}

void Store::note_time(const SqlJob& job, std::chrono::nanoseconds took, Histogram* times, std::string_view where, std::uint32_t failed) {
  if (times != nullptr) times->record(took);
  if (failed > 0) (job.request.kind() == pb::Request::QUERY ? counts_.query_errors : counts_.execution_errors).add(failed);
  slow_log_.took(job.request, took, where);
}

std::string Store::plan_of(const std::string& sql) const {
  const std::string text = "EXPLAIN QUERY PLAN " + sql;
  std::string plan;
  const std::lock_guard lock(facts_mutex_);
  sql::Connection* connection = facts_connection();
  if (connection == nullptr) return plan;
  Result<sql::Statement> statement = connection->prepare(text, sql::Connection::Reuse::Fresh);
  if (!statement || statement->empty()) return plan;          // not of a kind that has a plan
  while (statement->step() == SQLITE_ROW) {
    const auto* detail = reinterpret_cast<const char*>(sqlite3_column_text(statement->handle(), 3));
    if (detail != nullptr) plan += (plan.empty() ? "" : "; ") + std::string(detail);
  }
  return plan;
}

// Whether a /db/request is all reads is judged by compiling it: on the net thread's connection where there is one.
void Store::classify_then_run(const std::shared_ptr<SqlJob>& job) {
  std::optional<sql::Access> access;
  {
    const NetReader reader(*this, job->net_thread);
    if (reader.get() != nullptr) access = reader.get()->classify(job->request);
  }
  if (access) return run_classified(job, *access == sql::Access::Reads);
  const Result<> queued = read_pool_->submit([this, job](sql::Reader* reader, const Error* error) {
    if (error != nullptr) return job->finished(fail(*error));
    run_classified(job, reader->classify(job->request) == sql::Access::Reads);
  });
  if (!queued) job->finished(fail(queued.error()));
}

void Store::run_classified(const std::shared_ptr<SqlJob>& job, bool only_reads) {
  if (!only_reads) return write(job, false);
  read(job);
}

bool Store::is_stale(const SqlJob& job) const {
  if (job.freshness.count() <= 0 || replica_->is_leader()) return false;
  const std::optional<SteadyTime> contact = replica_->leader_contact();
  if (!contact || clock_.now() - *contact > job.freshness) return true;
  if (!job.freshness_strict || replica_->commit() <= replica_->applied()) return false;
  const auto appended = last_appended();
  const auto applied = last_applied_at();
  return appended && applied && *applied - *appended > job.freshness;
}

void Store::read_local(const std::shared_ptr<SqlJob>& job) {
  const bool checks_freshness = job->request.level() == pb::Request::NONE || job->request.level() == pb::Request::AUTO;
  if (checks_freshness && is_stale(*job)) return job->finished(fail(Errc::StaleRead));
  read_now(job);
}

void Store::read_weak(const std::shared_ptr<SqlJob>& job) {
  if (!replica_->is_leader()) return job->finished(fail(no_leader_here()));
  if (replica_->may_serve_weak()) return read_now(job);
  // Just elected: what was acknowledged before is shown only when the own term's first entry is applied (ReadIndex waits for it).
  read_linearizable(job);
}

void Store::read_linearizable(const std::shared_ptr<SqlJob>& job) {
  if (!replica_->is_leader()) return job->finished(fail(no_leader_here()));
  const SteadyTime deadline = clock_.now() + job->linearizable_timeout;
  replica_->read_index(
      [this, job](const Result<Index>& index) {
        if (!index) {
          if (index.error().code == Errc::Timeout) return job->finished(fail(Errc::LeaderNotFound));
          return job->finished(fail(index.error()));
        }
        if (!job->on_net_thread([this, job] { read_now(job); })) read_in_pool(job);
      },
      deadline);
}

// Short reads run where they are; what takes longer, or has to wait for somebody, goes to the pool.
void Store::read_now(const std::shared_ptr<SqlJob>& job) {
  if (job->net_thread < 0) return read_in_pool(job);
  command::Outcome outcome;
  {
    const NetReader borrowed(*this, job->net_thread);
    sql::Reader* reader = borrowed.get();
    if (reader == nullptr || reader->known_long(job->request) ||
        reader->run(job->request, outcome, {.max_steps = kInlineSteps}) == sql::Reader::Ran::Exceeded) {
      return read_in_pool(job);
    }
  }
  outcome.elapsed = clock_.now() - job->begun;
  note_time(*job, outcome.elapsed, &read_times_.inline_reads, "net", outcome.failed);
  job->finished(std::move(outcome));
}

namespace {
class JobCancellation final : public sql::Cancellation {
 public:
  explicit JobCancellation(const SqlJob& job) : job_(job) {}
  bool canceled() const override { return job_.canceled(); }

 private:
  const SqlJob& job_;
};
}  // namespace

void Store::read_in_pool(const std::shared_ptr<SqlJob>& job) {
  const Result<> queued = read_pool_->submit([this, job](sql::Reader* reader, const Error* error) {
    if (error != nullptr) return job->finished(fail(*error));
    const JobCancellation cancellation(*job);
    command::Outcome outcome;
    (void)reader->run(job->request, outcome, {.cancellation = &cancellation});
    outcome.elapsed = clock_.now() - job->begun;
    note_time(*job, outcome.elapsed, &read_times_.pool_reads, "pool", outcome.failed);
    job->finished(std::move(outcome));
  });
  if (!queued) job->finished(fail(queued.error()));
}

// On the apply thread, right after the commit of their entry: the state that they must see is held fast, the reads
// themselves run elsewhere.
void Store::strong_reads(Index index, std::span<executor::StrongRead> reads) {
  std::vector<std::shared_ptr<SqlJob>> jobs;
  for (executor::StrongRead& read : reads) jobs.push_back(std::static_pointer_cast<SqlJob>(read.waiter));
  const auto fail_all = [&](const Error& error) {
    for (const auto& job : jobs) job->finished(fail(error));
  };
  Result<sql::PinnedRead> pinned = read_pool_->pin();
  if (!pinned) return fail_all(pinned.error());
  auto shared = std::make_shared<sql::PinnedRead>(*std::move(pinned));
  const Result<> queued = read_pool_->submit_pinned(std::move(shared), [this, index, jobs](sql::Reader& reader) {
    for (const auto& job : jobs) {
      const JobCancellation cancellation(*job);
      command::Outcome outcome;
      (void)reader.run(job->request, outcome, {.cancellation = &cancellation, .keep_transaction = true});
      outcome.raft_index = index.value;
      outcome.elapsed = clock_.now() - job->begun;
      note_time(*job, outcome.elapsed, &read_times_.strong_reads, "log", outcome.failed);
      job->finished(std::move(outcome));
    }
  });
  if (!queued) fail_all(queued.error());
}

}  // namespace rq::store
