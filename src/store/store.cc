#include "store/store.h"

#include <google/protobuf/io/coded_stream.h>

#include "base/assert.h"
#include "base/log.h"
#include "sql/statement_facts.h"

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

void SqlJob::applied(command::Outcome&& outcome) { finished(std::move(outcome)); }

// The executor, with notes of when entries were sealed and applied (freshness, /status).
class Store::Machine final : public raft::StateMachine {
 public:
  Machine(Store& store, executor::Executor& executor) : store_(store), executor_(executor) {}

  Index applied_index() const override { return executor_.applied_index(); }
  Result<> apply(const raft::Group& group) override {
    store_.appended_ms_.store(group.wall_ms, std::memory_order_relaxed);
    RQ_CHECK(executor_.apply(group));
    store_.applied_at_ns_.store(store_.clock_.wall().time_since_epoch().count(), std::memory_order_relaxed);
    return {};
  }
  Result<> skip(Index index, Term term) override { return executor_.skip(index, term); }
  void idle() override { executor_.idle(); }
  Result<raft::SnapshotDescriptor> snapshot() override { return executor_.snapshot(); }
  Result<> persist(const raft::SnapshotDescriptor& descriptor, const std::function<Result<>(std::string_view)>& sink) override {
    return executor_.persist(descriptor, sink);
  }
  void release(const raft::SnapshotDescriptor& descriptor) override { executor_.release(descriptor); }
  Result<> restore(const raft::SnapshotDescriptor& descriptor, const std::function<Result<std::string>()>& image) override {
    return executor_.restore(descriptor, image);
  }

 private:
  Store& store_;
  executor::Executor& executor_;
};

Store::Store(const Options& options, Clock& clock, Metrics&) : options_(options), clock_(clock) {}

Store::~Store() { stop(); }

Result<std::unique_ptr<Store>> Store::open(const Options& options, io::Disk& disk, Clock& clock, Rng& rng, Metrics& metrics,
                                           replica::Replica::Events& events) {
  std::unique_ptr<Store> store(new Store(options, clock, metrics));
  executor::Options executor_options;
  executor_options.disk = &disk;
  executor_options.clock = &clock;
  executor_options.dir = options.data_dir;
  executor_options.foreign_keys = options.foreign_keys;
  executor_options.cache_kib = 8 * 1024;
  executor_options.on_strong_reads = [raw = store.get()](Index index, std::span<executor::StrongRead> reads) {
    raw->strong_reads(index, reads);
  };
  RQ_TRY(store->executor_, executor::Executor::open(std::move(executor_options)));
  store->machine_ = std::make_unique<Machine>(*store, *store->executor_);
  RQ_CHECK(store->open_readers());
  const replica::Options replica_options{
      .log_dir = options.data_dir + "/raft", .self = options.self, .timing = options.timing, .limits = options.limits};
  RQ_TRY(store->replica_, replica::Replica::open(replica_options, disk, clock, rng, *store->machine_, events));
  return store;
}

Result<> Store::start() { return replica_->start(); }

void Store::stop() {
  executor_->interrupt();
  if (replica_) replica_->stop();
  if (read_pool_) read_pool_->stop();
  if (const Result<> synced = executor_->sync(); !synced) log::warn("store", "database not synced on stop: " + synced.error().text());
}

bool Store::ready() const { return replica_->caught_up_with_start() && !replica_->view().broken; }

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
  pb::Request& request = job->request;
  for (const pb::Statement& statement : request.statements())
    if (sql::is_disallowed_pragma(statement.sql())) return job->finished(fail(Errc::DisallowedPragma));
  switch (request.kind()) {
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
  pb::Request& request = job->request;
  request.set_read_only(read_only);
  if (!read_only && request.db_timeout_ns() > 0) return decide_timeout_then_write(job);
  propose(job);
}

void Store::propose(const std::shared_ptr<SqlJob>& job) {
  bool alone = false;
  if (!job->request.read_only())
    for (const pb::Statement& statement : job->request.statements()) alone |= sql::must_be_alone(statement.sql());
  replica_->propose({.bytes = proposal_bytes(job->request), .alone = alone, .waiter = job});
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

}  // namespace rq::store
