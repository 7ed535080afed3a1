// Invariants
//   1. position_ is the state of the database: what recovery would come to if all that was written were on disk.
//   2. Between two calls the writer is in no transaction, its registers are those of position_, and no commit is armed.
//   3. Each entry makes at most one commit frame; the shim refuses any that isn't announced.
//   4. No waiter hears of an entry before its commit.
#include "executor/executor.h"

#include <google/protobuf/arena.h>

#include <algorithm>
#include <mutex>
#include <set>
#include <vector>

#include "base/assert.h"
#include "base/log.h"
#include "executor/attempt.h"
#include "executor/checkpointer.h"
#include "executor/request_run.h"
#include "executor/settings.h"
#include "executor/writer.h"
#include "ledger/recovery.h"
#include "ledger/shim_vfs.h"
#include "sql/statement_facts.h"

namespace rq::executor {
namespace {

using ledger::Position;

constexpr std::size_t kArenaBytes = 64u << 10;
constexpr std::size_t kVacuumTextMax = 4096;          // a longer text is taken for something else
constexpr std::uint64_t kRestBytesMax = 1u << 20;     // of the WAL: moved by the apply thread itself
constexpr auto kPassGap = std::chrono::milliseconds(100);

std::string encode_descriptor(const Position& position) {
  const auto line = ledger::encode({ledger::Line::Kind::Epoch, {}, {}, position});
  return {line.data(), line.size()};
}

Result<Position> decode_descriptor(const raft::SnapshotDescriptor& descriptor) {
  RQ_TRY(const ledger::Line line, ledger::decode(descriptor.data));
  if (line.position.index != descriptor.index) return fail(Errc::Corrupt, "snapshot descriptor of another index");
  return line.position;
}

class Interruption final : public sql::Cancellation {
 public:
  bool canceled() const override { return set_.load(std::memory_order_relaxed); }
  void set() { set_.store(true, std::memory_order_relaxed); }

 private:
  std::atomic<bool> set_ = false;
};

class SqlExecutor final : public Executor {
 public:
  explicit SqlExecutor(Options options)
      : options_(std::move(options)), paths_(ledger::paths_in(options_.dir)), arena_(arena_options()) {}
  ~SqlExecutor() override { detach(); }
  Result<> attach();

  Index applied_index() const override { return Index{applied_.load(std::memory_order_acquire)}; }
  Result<> apply(const raft::Group& group) override;
  Result<> skip(Index index, Term term) override;
  void idle() override;
  Result<raft::SnapshotDescriptor> snapshot() override;
  Result<> persist(const raft::SnapshotDescriptor&, const std::function<Result<>(std::string_view)>&) override {
    return fail(Errc::Unsupported, "streaming of snapshots");
  }
  void release(const raft::SnapshotDescriptor&) override {}
  Result<> restore(const raft::SnapshotDescriptor& descriptor,
                   const std::function<Result<std::string>()>& image) override;

  void interrupt() override;
  Result<std::uint32_t> dry_run(const pb::Request& request, SteadyTime deadline) override;
  Index durable_index() const override;
  Status status() const override;
  std::optional<Poison> poisoned() const override;
  void allow_skip(Index poison) override { skips_.insert(poison); }
  Result<> sync() override;
  Result<> checkpoint() override;

 private:
  enum class Work : std::uint8_t { None, Transaction, Vacuum };
  google::protobuf::ArenaOptions arena_options() {
    google::protobuf::ArenaOptions options;
    options.initial_block = arena_block_.data();
    options.initial_block_size = arena_block_.size();
    return options;
  }
  Position bootstrap() const;
  void detach();
  void flush_ledger();
  Result<> decode(const raft::Group& group);
  Work work() const;
  Result<> run_entry(const raft::Group& group, Work work);
  Result<bool> run_requests(const raft::Group& group, EntryRun& run);
  Result<> run_transaction(const raft::Group& group, Position& next);
  Result<> commit(Position& next);
  Result<> run_vacuum(const raft::Group& group, Position& next);
  Result<> give_up(const Position& before, Error error);
  bool listens(const raft::Group& group, std::size_t proposal) const;
  void take(const Position& next, bool committed);
  void answer(const raft::Group& group);
  void mind_wal();
  EntryRun entry_run();

  const Options options_;
  const ledger::Paths paths_;
  mutable std::mutex attached_mutex_;             // guards these two against status() while restore() exchanges them
  std::unique_ptr<ledger::Ledger> ledger_;
  std::unique_ptr<ledger::ShimVfs> shim_;
  std::unique_ptr<Writer> writer_;
  std::unique_ptr<Checkpointer> checkpointer_;
  std::optional<AttemptNote> attempt_;
  Interruption interruption_;
  std::set<Index> skips_;
  std::atomic<std::uint64_t> applied_{0};
  std::atomic<std::uint64_t> poison_index_{0};
  std::atomic<std::uint32_t> poison_attempts_{0};
  std::atomic<std::uint64_t> checkpoints_{0};
  Position position_;
  SteadyTime last_pass_{};
  std::uint64_t wal_bytes_at_pass_ = 0;

  std::vector<char> arena_block_ = std::vector<char>(kArenaBytes);
  google::protobuf::Arena arena_;
  std::vector<const pb::Proposal*> proposals_;   // of the entry under way, in the arena
  std::vector<command::Outcome> outcomes_;
  std::vector<StrongRead> strong_reads_;
};

// --- opening and closing

Position SqlExecutor::bootstrap() const {
  Position position{Index{1}, options_.bootstrap_term, 0, {}};
  set_foreign_keys(position.registers, options_.foreign_keys);
  return position;
}

Result<> SqlExecutor::attach() {
  RQ_TRY(auto ledger, ledger::recover(*options_.disk, paths_, bootstrap()));
  RQ_TRY(auto shim, ledger::ShimVfs::install(options_.base_vfs, ledger.get()));
  {
    const std::lock_guard lock(attached_mutex_);
    ledger_ = std::move(ledger);
    shim_ = std::move(shim);
  }
  position_ = ledger_->position();
  RQ_TRY(writer_, Writer::open({paths_.database, options_.clock, options_.statements_cached, options_.cache_kib}, *shim_,
                               position_.registers));
  // The name of the WAL is durable before its first frame: a missing one was removed by somebody.
  RQ_CHECK(options_.disk->sync_dir(options_.dir));
  checkpointer_ = std::make_unique<Checkpointer>(paths_.database, *shim_, options_.clock);
  RQ_TRY(attempt_, AttemptNote::open(*options_.disk, options_.dir + "/apply.attempt", position_.index));
  poison_attempts_ = attempt_->attempts();
  poison_index_ = attempt_->poison().value;
  if (poison_index_ != 0) {
    log::error("executor", "two starts died of an entry, it is not begun again: index=" + std::to_string(poison_index_));
  }
  applied_.store(position_.index.value, std::memory_order_release);
  return {};
}

void SqlExecutor::flush_ledger() {
  if (auto flushed = ledger_->flush(); !flushed) log::warn("executor", "ledger: " + flushed.error().text());
}

void SqlExecutor::detach() {
  if (ledger_) flush_ledger();
  checkpointer_.reset();
  writer_.reset();
  const std::lock_guard lock(attached_mutex_);
  shim_.reset();
  ledger_.reset();
  attempt_.reset();
}

// --- entries

Result<> SqlExecutor::decode(const raft::Group& group) {
  arena_.Reset();
  proposals_.clear();
  for (const std::string_view bytes : group.proposals) {
    auto* proposal = google::protobuf::Arena::CreateMessage<pb::Proposal>(&arena_);
    if (!proposal->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
      return fail(Errc::Corrupt, "entry " + std::to_string(group.index.value) + " holds a proposal that can't be read");
    }
    if (proposal->kind_case() == pb::Proposal::KIND_NOT_SET) {
      return fail(Errc::Unsupported, "entry " + std::to_string(group.index.value) + " needs a newer version");
    }
    proposals_.push_back(proposal);
  }
  outcomes_.resize(proposals_.size());
  return {};
}

bool runs(const pb::Proposal& proposal) { return proposal.has_request() && !proposal.request().read_only(); }

SqlExecutor::Work SqlExecutor::work() const {
  const bool any = std::any_of(proposals_.begin(), proposals_.end(), [](const auto* p) { return runs(*p); });
  if (!any) return Work::None;
  if (proposals_.size() != 1) return Work::Transaction;
  const pb::Request& request = proposals_[0]->request();
  if (request.statements_size() != 1 || request.transaction() || request.timed_out_unit() != 0) return Work::Transaction;
  const std::string& text = request.statements(0).sql();
  if (request.kind() == pb::Request::QUERY || text.size() > kVacuumTextMax) return Work::Transaction;
  const std::uint32_t facts = sql::examine(text);
  const bool alone = (facts & sql::kVacuum) != 0 && (facts & (sql::kMany | sql::kExplain)) == 0;
  return alone ? Work::Vacuum : Work::Transaction;
}

Result<> SqlExecutor::apply(const raft::Group& group) {
  RQ_ASSERT(group.index > position_.index);
  RQ_ASSERT(group.waiters.empty() || group.waiters.size() == group.proposals.size());
  if (interruption_.canceled()) return fail(Errc::Canceled);
  if (!writer_) return fail(Errc::NotOpen);
  RQ_CHECK(decode(group));
  const bool passed_over = skips_.erase(group.index) != 0;
  const Work todo = passed_over ? Work::None : work();
  if (todo == Work::None) {
    for (command::Outcome& outcome : outcomes_) outcome = {};
    if (poison_index_ == group.index.value) poison_index_ = 0;
    Position next = position_;
    next.index = group.index;
    next.term = group.term;
    take(next, false);
  } else {
    if (poison_index_ == group.index.value) {
      return fail(Errc::Corrupt, "entry " + std::to_string(group.index.value) + " was never survived, it is not begun again");
    }
    RQ_CHECK(attempt_->begin(group.index));
    if (auto done = run_entry(group, todo); !done) {
      if (auto withdrawn = attempt_->withdraw(group.index); !withdrawn) {
        log::warn("executor", "apply.attempt: " + withdrawn.error().text());
      }
      return done;
    }
    // Its success is told to the next start, however soon that comes.
    if (attempt_->suspected(group.index)) flush_ledger();
  }
  answer(group);
  if (shim_->wal_bytes() > options_.wal_bytes_soft) mind_wal();
  return {};
}

Result<> SqlExecutor::run_entry(const raft::Group& group, Work todo) {
  Position next = position_;
  next.index = group.index;
  next.term = group.term;
  shim_->set_time(group.wall_ms);
  writer_->random().set_seed(group.seed);
  const Writer::Draws draws(*writer_);
  return todo == Work::Vacuum ? run_vacuum(group, next) : run_transaction(group, next);
}

EntryRun SqlExecutor::entry_run() {
  return {*writer_, *options_.clock, options_.steps_max, &interruption_};
}

bool SqlExecutor::listens(const raft::Group& group, std::size_t proposal) const {
  return !group.waiters.empty() && group.waiters[proposal] != nullptr;
}

Result<> SqlExecutor::run_transaction(const raft::Group& group, Position& next) {
  EntryRun run = entry_run();
  for (;;) {
    if (auto begun = writer_->begin(); !begun) return give_up(position_, begun.error());
    auto whole = run_requests(group, run);
    if (!whole) return give_up(position_, whole.error());
    if (*whole) break;
    // SQLite rolled back all of it: run again without the pieces that brought it about.
    writer_->rollback();
    writer_->restore(position_.registers);
  }
  if (auto device = shim_->take_error()) return give_up(position_, *device);  // SQLite may have swallowed it
  const auto done = commit(next);
  if (run.statistics) writer_->reload_schema();
  return done;
}

// False: the transaction is gone.
Result<bool> SqlExecutor::run_requests(const raft::Group& group, EntryRun& run) {
  for (std::size_t i = 0; i < proposals_.size(); ++i) {
    command::Outcome& outcome = outcomes_[i];
    outcome.results.clear();
    outcome.error.clear();
    outcome.raft_index = group.index.value;
    outcome.elapsed = {};
    if (!runs(*proposals_[i])) continue;
    const pb::Request& request = proposals_[i]->request();
    const bool timed = (request.render() & command::kTimings) != 0;
    const SteadyTime start = timed ? options_.clock->now() : SteadyTime();
    RequestRun request_run(run, static_cast<std::uint32_t>(i), request, outcome, listens(group, i));
    RQ_TRY(const RequestRun::End end, request_run.run());
    if (end == RequestRun::End::Lost) return false;
    if (timed) outcome.elapsed = options_.clock->now() - start;
  }
  return true;
}

Result<> SqlExecutor::commit(Position& next) {
  next.registers = writer_->registers();
  shim_->arm(next);
  const auto done = writer_->commit();
  const bool wrote = shim_->disarm();
  if (done) {
    // Virtual tables write at commit (FTS5 flushes its terms), and SQLite counts it: behind the registers.
    writer_->set_counters(next.registers.last_insert_rowid, next.registers.changes, next.registers.total_changes);
    take(next, wrote);
    return {};
  }
  if (Writer::of_device(done.error())) return give_up(position_, done.error());
  // Something that is only found out at commit (a virtual table's last flush): the same on all nodes, and of all units.
  writer_->rollback();
  writer_->restore(position_.registers);
  for (command::Outcome& outcome : outcomes_) {
    outcome.results.clear();
    outcome.error = done.error().text();
  }
  next.registers = position_.registers;
  take(next, false);
  return {};
}

Result<> SqlExecutor::run_vacuum(const raft::Group& group, Position& next) {
  const pb::Request& request = proposals_[0]->request();
  command::Outcome& outcome = outcomes_[0];
  outcome = {};
  outcome.raft_index = group.index.value;
  const sql::Stopwatch watch = sql::Stopwatch::started(*options_.clock, request.render());
  sql::Connection& connection = writer_->connection();
  auto statement = writer_->prepare(request.statements(0).sql(), sql::Connection::Reuse::Fresh);
  Result<> done;
  if (statement) {
    const Guard::Vacuuming vacuuming(writer_->guard());
    connection.arm({SteadyTime::max(), options_.steps_max, &interruption_});
    shim_->arm(next);
    const int code = statement->step();
    connection.disarm();
    if ((code & 0xff) == SQLITE_AUTH) {
      done = fail(Errc::Sql, "not authorized");   // VACUUM INTO; SQLite words it otherwise here
    } else if (code != SQLITE_DONE) {
      done = fail(writer_->classify(code, connection.error(code)));
    }
    statement->reset();
  } else {
    done = fail(writer_->classify(connection.last_code(), statement.error()));
  }
  const bool wrote = shim_->disarm();
  if (done || !wrote) writer_->set_counters(position_.registers.last_insert_rowid, position_.registers.changes,
                                            position_.registers.total_changes);
  if (!done && (Writer::of_device(done.error()) || interruption_.canceled())) {
    RQ_ASSERT(!writer_->in_transaction());
    return give_up(position_, interruption_.canceled() ? Error{Errc::Canceled, ""} : done.error());
  }
  take(next, done.has_value() && wrote);
  if (!listens(group, 0)) return {};
  sql::ResultWriter results(outcome.results, request.render());
  if (done) {
    results.changes(writer_->last_insert_rowid(), writer_->changes(), watch);
  } else {
    results.error(done.error().text(), sql::ResultWriter::Failed::Other);
  }
  outcome.elapsed = std::chrono::nanoseconds(static_cast<std::int64_t>(watch.running() ? watch.seconds() * 1e9 : 0));
  return {};
}

// Nothing of the entry took effect; it may be tried again.
Result<> SqlExecutor::give_up(const Position& before, Error error) {
  shim_->disarm();
  writer_->rollback();
  writer_->restore(before.registers);
  writer_->reload_schema();
  shim_->take_error();
  return fail(std::move(error));
}

void SqlExecutor::take(const Position& next, bool committed) {
  position_ = next;
  if (committed) {
    ledger_->committed(next);
  } else {
    ledger_->advance(next);
  }
  applied_.store(next.index.value, std::memory_order_release);
}

void SqlExecutor::answer(const raft::Group& group) {
  if (group.waiters.empty()) return;
  strong_reads_.clear();
  for (std::size_t i = 0; i < proposals_.size(); ++i) {
    if (!group.waiters[i]) continue;
    auto waiter = std::static_pointer_cast<SqlWaiter>(group.waiters[i]);
    const bool read = proposals_[i]->has_request() && proposals_[i]->request().read_only();
    if (!read) {
      outcomes_[i].raft_index = group.index.value;
      waiter->applied(std::move(outcomes_[i]));
      outcomes_[i] = {};
    } else if (options_.on_strong_reads) {
      strong_reads_.push_back({&proposals_[i]->request(), std::move(waiter)});
    } else {
      waiter->failed({Errc::NotOpen, ""});
    }
  }
  if (!strong_reads_.empty()) options_.on_strong_reads(group.index, strong_reads_);
  strong_reads_.clear();
}

Result<> SqlExecutor::skip(Index index, Term term) {
  RQ_ASSERT(index > position_.index);
  if (!writer_) return fail(Errc::NotOpen);
  Position next = position_;
  next.index = index;
  next.term = term;
  take(next, false);
  return {};
}

void SqlExecutor::idle() {
  if (!writer_) return;
  flush_ledger();
  if (shim_->wal_bytes() > options_.wal_bytes_soft) mind_wal();
}

Result<std::uint32_t> SqlExecutor::dry_run(const pb::Request& request, SteadyTime deadline) {
  if (!writer_) return fail(Errc::NotOpen);
  if (interruption_.canceled()) return fail(Errc::Canceled);
  if (options_.clock->now() >= deadline) return fail(Errc::DeadlineExceeded);
  shim_->set_time(std::chrono::duration_cast<std::chrono::milliseconds>(options_.clock->wall().time_since_epoch()).count());
  writer_->random().set_seed({});
  const Writer::Draws draws(*writer_);
  EntryRun run = entry_run();
  run.deadline = deadline;
  run.dry = true;
  RQ_CHECK(writer_->begin());
  command::Outcome outcome;
  RequestRun request_run(run, 0, request, outcome, false);
  auto end = request_run.run();
  writer_->rollback();
  writer_->end_deferral();
  writer_->restore(position_.registers);
  if (run.statistics) writer_->reload_schema();
  auto device = shim_->take_error();
  if (!end) return fail(end.error());
  if (device) return fail(*device);
  return request_run.timed_out();
}

void SqlExecutor::interrupt() {
  // Polled by running statements; sqlite3_interrupt() would also hit the one after.
  interruption_.set();
}

// --- durability

Result<> SqlExecutor::sync() {
  if (!writer_) return fail(Errc::NotOpen);
  RQ_CHECK(ledger_->flush());
  return shim_->sync_wal();
}

Result<> SqlExecutor::checkpoint() {
  // By itself a pass that a reader keeps from moving anything would sync nothing.
  RQ_CHECK(sync());
  RQ_TRY(const Checkpointer::Progress progress, checkpointer_->pass());
  (void)progress;
  ++checkpoints_;
  return {};
}

// The WAL is large: let its bulk be moved in the background; move what came meanwhile at once, so that it can begin anew.
void SqlExecutor::mind_wal() {
  if (checkpointer_->busy()) {
    if (shim_->wal_bytes() < options_.wal_bytes_hard) return;
  } else if (auto result = checkpointer_->take_result(); result) {
    ++checkpoints_;
    if (!*result) {
      log::warn("executor", "checkpoint failed: " + result->error().text());
      return;
    }
    const std::uint64_t rest = shim_->wal_bytes() - std::min(shim_->wal_bytes(), wal_bytes_at_pass_);
    if (rest > kRestBytesMax && shim_->wal_bytes() < options_.wal_bytes_hard) return checkpointer_->begin_pass();
  } else if (options_.clock->now() - last_pass_ < kPassGap && shim_->wal_bytes() < options_.wal_bytes_hard) {
    return;   // a reader in the past keeps the frames: don't try all the time
  } else {
    wal_bytes_at_pass_ = shim_->wal_bytes();
    last_pass_ = options_.clock->now();
    if (!options_.checkpoint_inline) return checkpointer_->begin_pass();
  }
  if (auto moved = checkpoint(); !moved) log::warn("executor", "checkpoint failed: " + moved.error().text());
}

Index SqlExecutor::durable_index() const {
  const std::lock_guard lock(attached_mutex_);
  return ledger_ ? ledger_->durable_index() : Index{};
}

Status SqlExecutor::status() const {
  Status status;
  status.applied = applied_index();
  const std::lock_guard lock(attached_mutex_);
  if (!ledger_) return status;
  status.durable = ledger_->durable_index();
  status.ledger_bytes = ledger_->bytes();
  status.wal_bytes = shim_->wal_bytes();
  status.checkpoints = checkpoints_;
  return status;
}

std::optional<Poison> SqlExecutor::poisoned() const {
  if (poison_index_ == 0) return std::nullopt;
  return Poison{Index{poison_index_}, poison_attempts_};
}

// --- snapshots

Result<raft::SnapshotDescriptor> SqlExecutor::snapshot() {
  raft::SnapshotDescriptor descriptor;
  descriptor.index = position_.index;
  descriptor.term = position_.term;
  descriptor.data = encode_descriptor(position_);
  return descriptor;
}

Result<> SqlExecutor::restore(const raft::SnapshotDescriptor& descriptor, const std::function<Result<std::string>()>&) {
  if (descriptor.index != Index{1}) return fail(Errc::Unsupported, "installing a snapshot with data");
  Position position{descriptor.index, descriptor.term, 0, {}};
  if (!descriptor.data.empty()) {
    RQ_TRY(position, decode_descriptor(descriptor));
    position.term = descriptor.term;
  }
  detach();
  RQ_CHECK(ledger::reset(*options_.disk, paths_, position));
  return attach();
}

}  // namespace

Result<std::unique_ptr<Executor>> Executor::open(Options options) {
  RQ_ASSERT(options.disk);
  RQ_ASSERT(options.clock);
  auto executor = std::make_unique<SqlExecutor>(std::move(options));
  RQ_CHECK(executor->attach());
  return std::unique_ptr<Executor>(std::move(executor));
}

Result<> Executor::wipe(io::Disk& disk, const std::string& dir) {
  RQ_CHECK(ledger::wipe(disk, ledger::paths_in(dir)));
  if (auto removed = disk.remove(dir + "/apply.attempt"); !removed && removed.error().code != Errc::NotFound) return removed;
  return {};
}

}  // namespace rq::executor
