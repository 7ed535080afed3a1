// Invariants
//   1. position_ is the state of the database: what recovery would come to if all that was written were on disk.
//   2. Between two calls the writer is in no transaction, its registers are those of position_, and no commit is armed.
//   3. Each entry makes at most one commit frame; the shim refuses any that isn't announced.
//   4. No waiter hears of an entry before its commit.
#include "executor/executor.h"

#include <google/protobuf/arena.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "base/assert.h"
#include "base/digest.h"
#include "base/log.h"
#include "executor/attempt.h"
#include "executor/checkpointer.h"
#include "executor/request_run.h"
#include "executor/settings.h"
#include "executor/writer.h"
#include "ledger/effect.h"
#include "ledger/recovery.h"
#include "ledger/shim_vfs.h"
#include "sql/image_reader.h"
#include "sql/statement_facts.h"

namespace rq::executor {
namespace {

using ledger::Position;

constexpr std::size_t kArenaBytes = 64u << 10;
constexpr std::size_t kVacuumTextMax = 4096;          // a longer text is taken for something else
constexpr std::uint64_t kSettleBytesMax = 64u << 20;  // what a stop may still have to write
constexpr std::uint64_t kRestBytesMax = 1u << 20;     // of the WAL: moved by the apply thread itself
constexpr std::chrono::milliseconds kNoGap{0}, kStuckGapMin{200}, kStuckGapMax{5000};   // between passes in vain

constexpr auto kDrainMax = std::chrono::milliseconds(20);     // how long readers are waited for, so that the WAL can begin anew
constexpr auto kDrainPause = std::chrono::seconds(1);         // behind a try in vain
constexpr std::size_t kDigestPiece = 1u << 20;

std::string encode_position(const Position& position) {
  const auto line = ledger::encode({ledger::Line::Kind::Epoch, {}, {}, position});
  return {line.data(), line.size()};
}

Result<Position> decode_position(const raft::MachineSnapshot& snapshot) {
  RQ_TRY(const ledger::Line line, ledger::decode(snapshot.data));
  if (line.position.index != snapshot.index) return fail(Errc::Corrupt, "snapshot of another index");
  return line.position;
}

// A connection that shows one state; pieces of it are asked for by several threads.
struct HeldImage {
  std::mutex mutex;
  std::unique_ptr<sql::ImageReader> reader;
};

class Interruption final : public sql::Cancellation {
 public:
  bool canceled() const override { return set_.load(std::memory_order_relaxed); }
  void set() { set_.store(true, std::memory_order_relaxed); }

 private:
  std::atomic<bool> set_ = false;
};

// Far from that of any other start.
std::uint64_t random_start() {
  std::uint64_t start = 0;
  sqlite3_randomness(sizeof start, &start);
  return start >> 1 | 1;
}

class SqlExecutor final : public Executor {
 public:
  explicit SqlExecutor(Options options)
      : options_(std::move(options)),
        paths_(ledger::paths_in(options_.dir)),
        engine_(engine_fingerprint(options_.spill_pages)),
        arena_(arena_options()) {}
  ~SqlExecutor() override { detach(); }
  Result<> attach();
  Result<> try_attach();

  Index applied_index() const override { return Index{applied_.load(std::memory_order_acquire)}; }
  Result<> apply(const raft::Group& group) override;
  Result<> skip(Index index, Term term) override;
  void idle() override;
  Result<raft::MachineSnapshot> snapshot() override;
  Result<std::string> persist(std::uint64_t id, std::uint64_t offset, std::size_t size) override;
  void release(std::uint64_t id) override;
  Result<> restore(const raft::MachineSnapshot& snapshot, const std::string& image) override;
  bool look_ahead(const raft::Group& later, Index stuck) override;

  void interrupt() override;
  Result<std::uint32_t> dry_run(const pb::Request& request, SteadyTime deadline) override;
  Index durable_index() const override;
  Status status() const override;
  std::optional<Poison> poisoned() const override;
  void allow_skip(Index poison) override { skips_.insert(poison); }
  Result<> sync() override;
  Result<> settle() override;
  Result<> make_durable() override;
  void begin_checkpoint() override;
  Result<> checkpoint() override;

 private:
  enum class Work : std::uint8_t { None, Transaction, Vacuum, Load };
  google::protobuf::ArenaOptions arena_options() {
    google::protobuf::ArenaOptions options;
    options.initial_block = arena_block_.data();
    options.initial_block_size = arena_block_.size();
    return options;
  }
  Position bootstrap() const;
  void detach();
  void flush_ledger();
  void learn_poison();
  Result<bool> holds(Index index);
  Result<> decode(const raft::Group& group);
  Work work() const;
  Result<> run_entry(const raft::Group& group, Work work);
  Result<bool> run_requests(const raft::Group& group, EntryRun& run);
  Result<> run_transaction(const raft::Group& group, Position& next);
  Result<RequestRun::End> run_load_text(EntryRun& run, std::uint32_t number, const pb::Request& request, command::Outcome& outcome, bool render);
  Result<> commit(Position& next);
  Result<> run_vacuum(const raft::Group& group, Position& next);
  Result<> run_load(Position& next);
  Result<> exchange(const std::string& image, const Position& position);
  Result<> give_up(const Position& before, Error error);
  bool listens(const raft::Group& group, std::size_t proposal) const;
  void take(const Position& next, bool committed);
  void answer(const raft::Group& group);
  void mind_wal();
  void note_pass(const Checkpointer::Progress& progress, SteadyTime now);
  EntryRun entry_run();

  const Options options_;
  const ledger::Paths paths_;
  const std::uint64_t engine_;
  std::mutex sync_mutex_;                         // held by make_durable(): what it uses isn't detached meanwhile
  mutable std::mutex attached_mutex_;             // guards these two against status() while restore() exchanges them
  std::unique_ptr<ledger::Ledger> ledger_;
  std::unique_ptr<ledger::ShimVfs> shim_;
  std::unique_ptr<Writer> writer_;
  std::unique_ptr<Checkpointer> checkpointer_;
  Index finished_late_;                 // apply thread: entries up to there came with an exchange that an attach finished
  std::optional<AttemptNote> attempt_;
  Interruption interruption_;
  std::set<Index> skips_;
  std::atomic<std::uint64_t> applied_{0};
  std::atomic<std::uint64_t> poison_index_{0};
  std::atomic<std::uint32_t> poison_attempts_{0};
  std::atomic<std::uint64_t> checkpoints_{0}, commits_{0};
  Position position_;
  SteadyTime next_pass_{}, drain_again_{};
  std::chrono::milliseconds pass_gap_{0};
  std::uint32_t moved_before_ = 0;                // frames, by the last pass that left some
  std::uint64_t wal_bytes_at_pass_ = 0;

  std::vector<char> arena_block_ = std::vector<char>(kArenaBytes);
  google::protobuf::Arena arena_;
  std::vector<const pb::Proposal*> proposals_;   // of the entry under way, in the arena
  std::vector<command::Outcome> outcomes_;
  std::vector<StrongRead> strong_reads_;

  std::mutex images_mutex_;                       // guards the two below
  std::map<std::uint64_t, std::shared_ptr<HeldImage>> images_;
  std::uint64_t last_image_ = random_start();   // no other start may give the same ids: a receiver would go on with another image
};

// --- opening and closing

Position SqlExecutor::bootstrap() const {
  Position position{Index{1}, options_.bootstrap_term, ledger::kFirstChain, {}, engine_};
  set_foreign_keys(position.registers, options_.foreign_keys);
  return position;
}

// All of it or nothing. It may finish an exchange that failed: then the state holds entries that the caller takes for not applied.
Result<> SqlExecutor::attach() {
  const Index known = applied_index();
  Result<> attached = try_attach();
  if (!attached) detach();
  else if (known && position_.index > known) finished_late_ = position_.index;
  return attached;
}

Result<> SqlExecutor::try_attach() {
  RQ_TRY(auto ledger, ledger::recover(*options_.disk, paths_, bootstrap()));
  RQ_TRY(auto shim, ledger::ShimVfs::install(options_.base_vfs, ledger.get()));
  {
    const std::lock_guard lock(attached_mutex_);
    ledger_ = std::move(ledger);
    shim_ = std::move(shim);
  }
  position_ = ledger_->position();
  if (position_.engine != engine_) {   // what is written from now on may differ from what others wrote with theirs
    position_.engine = engine_;
    if (position_.chain != ledger::kUnknownChain || position_.gap.after == Index{}) position_.gap = {.after = position_.index, .until = {}};
    position_.chain = ledger::kUnknownChain;
    ledger_->advance(position_);
  }
  RQ_TRY(writer_, Writer::open({paths_.database, options_.clock, options_.statements_cached, options_.cache_kib, options_.spill_pages},
                               *shim_, position_.registers));
  // The name of the WAL is durable before its first frame: a missing one was removed by somebody.
  RQ_CHECK(options_.disk->sync_dir(options_.dir));
  checkpointer_ = std::make_unique<Checkpointer>(paths_.database, *shim_, options_.clock);
  if (!attempt_) {
    RQ_TRY(attempt_, AttemptNote::open(*options_.disk, options_.dir + "/apply.attempt", position_.index));
    learn_poison();
    if (poison_index_ != 0) {
      log::error("executor", "two starts died of an entry, it is not begun again: index=" + std::to_string(poison_index_));
    }
  }
  applied_.store(position_.index.value, std::memory_order_release);
  return {};
}

void SqlExecutor::flush_ledger() {
  if (auto flushed = ledger_->flush(); !flushed) log::warn("executor", "ledger: " + flushed.error().text());
}

// There may be another one behind the one that was passed over.
void SqlExecutor::learn_poison() {
  poison_attempts_ = attempt_->attempts(attempt_->poison());
  poison_index_ = attempt_->poison().value;
}

void SqlExecutor::detach() {
  if (ledger_) flush_ledger();
  checkpointer_.reset();
  const std::lock_guard in_use(sync_mutex_);
  writer_.reset();
  const std::lock_guard lock(attached_mutex_);
  shim_.reset();
  ledger_.reset();
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
  if (proposals_.size() == 1 && proposals_[0]->has_load_image()) return Work::Load;
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

// Whether the entry is among those that came with an exchange which was finished late.
Result<bool> SqlExecutor::holds(Index index) {
  if (!writer_) RQ_CHECK(attach());       // an exchange of the file failed half-way
  if (index <= finished_late_) return true;
  RQ_ASSERT(index > position_.index);
  return false;
}

Result<> SqlExecutor::apply(const raft::Group& group) {
  RQ_ASSERT(group.waiters.empty() || group.waiters.size() == group.proposals.size());
  if (interruption_.canceled()) return fail(Errc::Canceled);
  RQ_TRY(const bool there, holds(group.index));
  if (there) {
    for (const auto& waiter : group.waiters)
      if (waiter) waiter->failed({Errc::LeadershipLost, {}});
    return {};
  }
  RQ_CHECK(decode(group));
  const bool passed_over = skips_.erase(group.index) != 0;
  const Work todo = passed_over ? Work::None : work();
  if (todo == Work::None) {
    for (command::Outcome& outcome : outcomes_) outcome = {};
    const bool suspected = attempt_->suspected(group.index);
    Position next = position_;
    next.index = group.index;
    next.term = group.term;
    const pb::ProofMark mark = !passed_over && proposals_.size() == 1 ? proposals_[0]->proof() : pb::ProofMark();
    if (mark.begin_chain()) {
      if (next.chain == ledger::kUnknownChain) next.gap.until = group.index;
      next.chain = ledger::chain_anew(group.index);
    }
    take(next, false);
    if (suspected) {
      attempt_->passed(group.index);
      learn_poison();
      flush_ledger();
    }
    if (mark.scrub() && options_.on_scrub) options_.on_scrub(group.index);
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
    if (attempt_->suspected(group.index)) {
      flush_ledger();
      if (auto told = attempt_->survived(group.index); !told) log::warn("executor", "apply.attempt: " + told.error().text());
    }
  }
  if (proposals_.size() == 1 && proposals_[0]->request().maintenance() != 0 && options_.on_maintenance) {
    options_.on_maintenance(static_cast<Maintenance>(proposals_[0]->request().maintenance()), WallTime(std::chrono::milliseconds(group.wall_ms)));
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
  if (todo == Work::Load) return run_load(next);
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
    RQ_TRY(const RequestRun::End end, request.load() ? run_load_text(run, static_cast<std::uint32_t>(i), request, outcome, listens(group, i))
                                                     : RequestRun(run, static_cast<std::uint32_t>(i), request, outcome, listens(group, i)).run());
    if (end == RequestRun::End::Lost) return false;
    if (timed) outcome.elapsed = options_.clock->now() - start;
  }
  return true;
}

// Settings that the text makes (every dump begins with PRAGMA foreign_keys=OFF) end with it.
Result<RequestRun::End> SqlExecutor::run_load_text(EntryRun& run, std::uint32_t number, const pb::Request& request, command::Outcome& outcome,
                                                   bool render) {
  const ledger::Registers before = writer_->registers();
  writer_->connection().clear_cache();   // a PRAGMA writable_schema acts when it is compiled
  Result<RequestRun::End> end = [&] {
    const Guard::Loading loading(writer_->guard());
    return RequestRun(run, number, request, outcome, render).run();
  }();
  writer_->connection().clear_cache();
  ledger::Registers after = writer_->registers();
  after.settings = before.settings;
  after.analysis_limit = before.analysis_limit;
  after.max_page_count = before.max_page_count;
  writer_->restore(after);
  writer_->reload_schema();              // also switches writable_schema off
  return end;
}

Result<> SqlExecutor::commit(Position& next) {
  next.registers = writer_->registers();
  shim_->arm(next);
  const auto done = writer_->commit();
  const bool wrote = shim_->disarm();
  if (done) {
    if (wrote) next.chain = shim_->chain();
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
  if (done && wrote) next.chain = shim_->chain();
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
    ++outcome.failed;
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
    ++commits_;
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
  RQ_TRY(const bool there, holds(index));
  if (there) return {};
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

Result<> SqlExecutor::settle() {
  RQ_CHECK(sync());
  if (shim_->wal_bytes() == 0 || shim_->wal_bytes() > kSettleBytesMax) return {};
  RQ_TRY(const bool unused, checkpointer_->move_all(Checkpointer::Wal::Kept));
  if (!unused) return {};
  // From here on the WAL means nothing, whether it is emptied or not.
  RQ_CHECK(ledger_->begin_epoch({}));
  RQ_CHECK(checkpointer_->move_all(Checkpointer::Wal::Emptied));
  return {};
}

Result<> SqlExecutor::sync() {
  if (!writer_) return fail(Errc::NotOpen);
  RQ_CHECK(ledger_->flush());
  return shim_->sync_wal();
}

Result<> SqlExecutor::checkpoint() {
  // By itself a pass that a reader keeps from moving anything would sync nothing.
  RQ_CHECK(sync());
  // Readers that began before the newest commit keep its frames in the WAL, and the WAL from beginning anew. Most are
  // done within microseconds; one that isn't is left alone for a while.
  const bool drains = options_.drain_readers && options_.clock->now() >= drain_again_;
  if (drains && !options_.drain_readers(kDrainMax)) drain_again_ = options_.clock->now() + kDrainPause;
  const Result<Checkpointer::Progress> progress = checkpointer_->pass();
  if (drains) options_.admit_readers();
  if (!progress) return fail(progress.error());
  note_pass(*progress, options_.clock->now());
  ++checkpoints_;
  return {};
}

// The WAL is large: let its bulk be moved in the background; move what came meanwhile at once, so that it can begin anew.
void SqlExecutor::mind_wal() {
  const SteadyTime now = options_.clock->now();
  const bool too_large = shim_->wal_bytes() >= options_.wal_bytes_hard;
  if (auto result = checkpointer_->take_result(); result) {
    ++checkpoints_;
    if (!*result) {
      log::warn("executor", "checkpoint failed: " + result->error().text());
      next_pass_ = now + kStuckGapMax;
      return;
    }
    note_pass(**result, now);
    if (now < next_pass_) return;
    const std::uint64_t rest = shim_->wal_bytes() - std::min(shim_->wal_bytes(), wal_bytes_at_pass_);
    if (rest > kRestBytesMax && !too_large) return begin_checkpoint();
  } else if (now < next_pass_ || (checkpointer_->busy() && !too_large)) {
    return;
  } else if (!checkpointer_->busy() && !options_.checkpoint_inline) {
    return begin_checkpoint();
  }
  if (auto moved = checkpoint(); !moved) log::warn("executor", "checkpoint failed: " + moved.error().text());
}

// A reader in the past keeps frames from being moved, and the WAL from beginning anew: it is not run against all the time.
void SqlExecutor::note_pass(const Checkpointer::Progress& progress, SteadyTime now) {
  const bool whole = progress.moved == progress.frames;
  const bool stuck = !whole && progress.moved <= moved_before_;
  moved_before_ = whole ? 0 : progress.moved;
  pass_gap_ = stuck ? std::min(std::max(2 * pass_gap_, kStuckGapMin), kStuckGapMax) : kNoGap;
  next_pass_ = now + pass_gap_;
}

Result<> SqlExecutor::make_durable() {
  const std::lock_guard in_use(sync_mutex_);
  if (!writer_) return fail(Errc::NotOpen);
  return shim_->sync_wal_beside();
}

void SqlExecutor::begin_checkpoint() {
  if (!writer_ || checkpointer_->busy() || options_.checkpoint_inline) return;
  wal_bytes_at_pass_ = shim_->wal_bytes();
  checkpointer_->begin_pass();
}

Index SqlExecutor::durable_index() const {
  const std::lock_guard lock(attached_mutex_);
  return ledger_ ? ledger_->durable_index() : Index{};
}

Status SqlExecutor::status() const {
  Status status;
  status.applied = applied_index();
  status.engine = engine_;
  const std::lock_guard lock(attached_mutex_);
  if (!ledger_) return status;
  const Position position = ledger_->position();
  status.applied = position.index;
  status.chain = position.chain;
  status.gap_after = position.gap.after;
  status.gap_until = position.gap.until;
  status.durable = ledger_->durable_index();
  status.ledger_bytes = ledger_->bytes();
  status.wal_bytes = shim_->wal_bytes();
  status.checkpoints = checkpoints_;
  status.commits = commits_;
  return status;
}

std::optional<Poison> SqlExecutor::poisoned() const {
  if (poison_index_ == 0) return std::nullopt;
  return Poison{Index{poison_index_}, poison_attempts_};
}

// --- snapshots

Result<raft::MachineSnapshot> SqlExecutor::snapshot() {
  if (!writer_) RQ_CHECK(attach());
  auto image = std::make_shared<HeldImage>();
  RQ_TRY(image->reader, sql::ImageReader::open(paths_.database, options_.base_vfs, options_.clock));
  raft::MachineSnapshot snapshot{.index = position_.index, .term = position_.term, .bytes = image->reader->bytes(), .data = encode_position(position_)};
  const std::lock_guard lock(images_mutex_);
  snapshot.id = ++last_image_;
  images_[snapshot.id] = std::move(image);
  return snapshot;
}

Result<std::string> SqlExecutor::persist(std::uint64_t id, std::uint64_t offset, std::size_t size) {
  std::shared_ptr<HeldImage> image;
  {
    const std::lock_guard lock(images_mutex_);
    const auto found = images_.find(id);
    if (found == images_.end()) return fail(Errc::NotFound, "the snapshot is not held any more");
    image = found->second;
  }
  const std::lock_guard lock(image->mutex);
  return image->reader->read(offset, size);
}

void SqlExecutor::release(std::uint64_t id) {
  std::shared_ptr<HeldImage> image;   // its connection is closed outside the lock
  const std::lock_guard lock(images_mutex_);
  if (const auto found = images_.find(id); found != images_.end()) {
    image = std::move(found->second);
    images_.erase(found);
  }
}

Result<> SqlExecutor::restore(const raft::MachineSnapshot& snapshot, const std::string& image) {
  Position position{snapshot.index, snapshot.term, ledger::kFirstChain, {}, engine_};
  if (!snapshot.data.empty()) {
    RQ_TRY(position, decode_position(snapshot));
    position.term = snapshot.term;
  }
  if (!image.empty()) {
    RQ_CHECK(exchange(image, position));
  } else {
    if (snapshot.index != Index{1}) return fail(Errc::BadRequest, "a snapshot with data needs its image");
    if (options_.before_exchange) options_.before_exchange();
    detach();
    const auto done = [&]() -> Result<> {
      RQ_CHECK(ledger::reset(*options_.disk, paths_, position));
      return attach();
    }();
    if (options_.after_exchange) options_.after_exchange();
    RQ_CHECK(done);
  }
  attempt_->passed(Index{UINT64_MAX});   // with another state they may well be survived
  learn_poison();
  ++commits_;
  return {};
}

// The database file gives way to another. When this fails the old one is attached again, or the exchange is finished by
// the next attach(): mostly the one in here, and then it has not failed.
Result<> SqlExecutor::exchange(const std::string& image, const Position& position) {
  const Index before = position_.index;
  if (options_.before_exchange) options_.before_exchange();
  detach();
  const Result<> installed = ledger::install(*options_.disk, paths_, image, position);
  const Result<> attached = attach();
  if (options_.after_exchange) options_.after_exchange();
  if (attached && position_.index == position.index && position.index > before) return {};
  RQ_CHECK(installed);
  return attached;
}

namespace {

Result<std::string> digest_of(io::Disk& disk, const std::string& path, std::uint64_t size) {
  RQ_TRY(const auto file, disk.open(path, io::OpenMode::ReadOnly));
  RQ_TRY(const std::uint64_t bytes, file->size());
  if (bytes != size) return fail(Errc::NotFound, path + " is not complete");
  Digest digest;
  for (std::uint64_t at = 0; at < bytes;) {
    RQ_TRY(const std::string piece, file->read_at(at, kDigestPiece));
    if (piece.empty()) return fail(Errc::Io, path + " ended early");
    digest.add(piece);
    at += piece.size();
  }
  return digest.value();
}

}  // namespace

// Replaces the database by an image that was spread before. The settings stay, the counters of the connection don't.
Result<> SqlExecutor::run_load(Position& next) {
  const pb::LoadImage& load = proposals_[0]->load_image();
  const std::string path = staged_load_path(options_.dir, load.name());
  RQ_TRY(const bool there, options_.disk->exists(path));
  if (!there) return fail(Errc::NotFound, "the image of entry " + std::to_string(next.index.value) + " is not on this node");
  const Result<std::string> digest = digest_of(*options_.disk, path, load.size());
  if (!digest) return fail(digest.error());
  if (*digest != load.digest()) return fail(Errc::NotFound, path + " is not what entry " + std::to_string(next.index.value) + " means");
  next.registers.last_insert_rowid = next.registers.changes = next.registers.total_changes = 0;
  next.chain = ledger::chain_of_replacement(next, load.digest());
  RQ_CHECK(exchange(path, next));
  ++commits_;
  for (command::Outcome& outcome : outcomes_) outcome = {};
  return {};
}

bool SqlExecutor::look_ahead(const raft::Group& later, Index stuck) {
  for (const std::string_view bytes : later.proposals) {
    pb::Proposal proposal;
    if (!proposal.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) || proposal.skip_index() != stuck.value) continue;
    log::warn("executor", "entry " + std::to_string(stuck.value) + " is passed over, as entry " + std::to_string(later.index.value) + " says");
    allow_skip(stuck);
    return true;
  }
  return false;
}

}  // namespace

std::string staged_load_path(const std::string& dir, std::string_view name) { return dir + "/staging/" + std::string(name); }

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
