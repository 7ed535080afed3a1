#include "store/keeper.h"

#include <rapidjson/document.h>

#include <algorithm>

#include "base/log.h"
#include "base/thread_name.h"
#include "command/command.pb.h"

namespace rq::store {
namespace {

using std::chrono::milliseconds;
constexpr auto kLook = milliseconds(500);              // how often bytes on disk and the spare segment are looked at
constexpr auto kProposeAgain = std::chrono::seconds(60);

std::int64_t ms_of(WallTime time) { return std::chrono::duration_cast<milliseconds>(time.time_since_epoch()).count(); }
std::int64_t ms_since(SteadyTime begun, SteadyTime now) { return std::chrono::duration_cast<milliseconds>(now - begun).count(); }

}  // namespace

Keeper::Keeper(KeeperOptions options, io::Disk& disk, Clock& clock, Rng& rng, Metrics& metrics, executor::Executor& executor,
               replica::Replica& replica)
    : options_(std::move(options)), disk_(disk), clock_(clock), rng_(rng), metrics_(metrics), executor_(executor), replica_(replica) {}

void Keeper::start() {
  load_times();
  unknown_before_ = executor_.applied_index() > Index{1};
  check_at_ = clock_.now() + jittered();
  thread_ = std::thread([this] { run(); });
}

void Keeper::stop() {
  std::vector<Request> left;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    left.swap(requests_);
  }
  changed_.notify_all();
  for (const Request& request : left) request.done(fail(Errc::NotOpen));
  if (thread_.joinable()) thread_.join();
}

void Keeper::snapshot(std::uint64_t trailing, std::function<void(Result<bool>)> done) {
  {
    const std::lock_guard lock(mutex_);
    if (!stop_) {
      requests_.push_back({trailing == 0 ? options_.trailing() : trailing, std::move(done)});
      changed_.notify_all();
      return;
    }
  }
  done(fail(Errc::NotOpen));
}

Keeper::Facts Keeper::facts() const {
  const std::lock_guard lock(mutex_);
  Facts facts = facts_;
  if (options_.vacuum_every.count() > 0) {
    facts.last_vacuum = vacuum_at_;
    if (vacuum_at_) facts.next_vacuum = *vacuum_at_ + options_.vacuum_every;
  }
  return facts;
}

void Keeper::run() {
  name_this_thread("snapshot");
  std::unique_lock lock(mutex_);
  while (!stop_) {
    changed_.wait_for(lock, kLook, [this] { return stop_ || !requests_.empty() || times_changed_; });
    if (stop_) return;
    const bool times_changed = std::exchange(times_changed_, false);
    std::vector<Request> requests = std::exchange(requests_, {});
    lock.unlock();
    if (times_changed) store_times();
    work(std::move(requests));
    lock.lock();
  }
}

void Keeper::work(std::vector<Request> requests) {
  for (Request& request : requests) {
    Result<bool> taken = take(request.trailing);
    metrics_.counter("store", taken ? "num_user_snapshots" : "num_user_snapshots_failed").add(taken && !*taken ? 0 : 1);
    request.done(std::move(taken));
  }
  if (due()) {
    if (const Result<bool> taken = take(options_.trailing()); !taken && taken.error().code != Errc::NotOpen)
      log::warn("store", "snapshot failed: " + taken.error().text());
  }
  if (replica_.spare_wanted()) {
    if (const Result<> made = replica_.prepare_spare(); !made) log::warn("store", "no log segment ahead: " + made.error().text());
  }
  propose_maintenance();
}

std::chrono::nanoseconds Keeper::jittered() {
  const auto interval = static_cast<std::uint64_t>(options_.interval.count());
  return std::chrono::nanoseconds(interval + rng_.next() % std::max<std::uint64_t>(interval, 1));
}

bool Keeper::due() {
  const Index applied = executor_.applied_index();
  if (applied <= applied_taken_) return false;
  if (replica_.log_bytes() > options_.log_bytes_max / 2 && applied.value > cut_applied_.load() + 64) return true;
  const SteadyTime now = clock_.now();
  if (now < check_at_) return false;
  check_at_ = now + jittered();
  if (options_.log_entries != 0 && applied.value - applied_taken_.value >= options_.log_entries) return true;
  return options_.wal_bytes != 0 && executor_.status().wal_bytes >= options_.wal_bytes;
}

// Durable first, then the log: what is cut is in the database for good.
Result<bool> Keeper::take(std::uint64_t trailing) {
  const SteadyTime begun = clock_.now();
  const executor::Status status = executor_.status();
  // Nor is it known here what the process before had made durable.
  const bool wrote = status.commits != commits_taken_ || std::exchange(unknown_before_, false);
  const auto failed = [&](const Error& error) {
    metrics_.counter("store", "num_snapshots_failed").add();
    return fail(error);
  };
  if (const Result<> synced = executor_.make_durable(); !synced) return failed(synced.error());
  const SteadyTime synced_at = clock_.now();
  const Result<Index> first = replica_.cut_log(executor_.durable_index(), trailing, options_.log_bytes_max);
  if (!first) return failed(first.error());
  applied_taken_ = status.applied;
  cut_applied_ = status.applied.value;
  commits_taken_ = status.commits;
  if (!wrote) return false;
  replica_.on_apply_thread([this] { executor_.begin_checkpoint(); });
  metrics_.counter("store", "num_snapshots").add();
  metrics_.counter("store", "num_snapshots_incremental").add();
  metrics_.counter("store", "snapshot_sync_duration").set(ms_since(begun, synced_at));
  metrics_.counter("store", "snapshot_create_duration").set(ms_since(begun, clock_.now()));
  const std::lock_guard lock(mutex_);
  facts_.index = status.applied;
  facts_.term = replica_.applied_term();
  facts_.taken = clock_.wall();
  return true;
}

// ---- VACUUM and optimize

void Keeper::propose_maintenance() {
  if (!replica_.may_serve_weak()) return;
  const WallTime now = clock_.wall();
  std::optional<WallTime> vacuum, optimize;
  {
    const std::lock_guard lock(mutex_);
    vacuum = vacuum_at_;
    optimize = optimize_at_;
  }
  const auto is_due = [&](std::chrono::nanoseconds every, const std::optional<WallTime>& last, SteadyTime& again) {
    if (every.count() <= 0 || !last || now - *last < every || clock_.now() < again) return false;
    again = clock_.now() + kProposeAgain;      // until its entry is applied, or was lost
    return true;
  };
  if (is_due(options_.vacuum_every, vacuum, vacuum_again_)) propose(executor::Maintenance::Vacuum);
  if (is_due(options_.optimize_every, optimize, optimize_again_)) propose(executor::Maintenance::Optimize);
}

namespace {

class MaintenanceWaiter final : public executor::SqlWaiter {
 public:
  MaintenanceWaiter(Metrics& metrics, const Clock& clock, bool vacuum) : metrics_(metrics), clock_(clock), vacuum_(vacuum), begun_(clock.now()) {}
  void applied(command::Outcome&& outcome) override {
    const bool good = outcome.error.empty() && outcome.results.find("\"error\"") == std::string::npos;
    const std::string name = vacuum_ ? "vacuum" : "optimize";
    metrics_.counter("store", "num_auto_" + name + (good ? "s" : "s_failed")).add();
    const auto took = std::chrono::duration_cast<milliseconds>(clock_.now() - begun_);
    metrics_.counter("store", "auto_" + name + "_duration").set(took.count());
    if (good) log::info("store", "database " + name + (vacuum_ ? "ed" : "d") + " in " + std::to_string(took.count()) + "ms");
    else log::warn("store", "automatic " + name + " failed: " + outcome.error + outcome.results);
  }
  void failed(const Error& error) override {
    metrics_.counter("store", vacuum_ ? "num_auto_vacuums_failed" : "num_auto_optimizes_failed").add();
    log::warn("store", std::string("automatic ") + (vacuum_ ? "vacuum" : "optimize") + " failed: " + error.text());
  }

 private:
  Metrics& metrics_;
  const Clock& clock_;
  const bool vacuum_;
  const SteadyTime begun_;
};

}  // namespace

void Keeper::propose(executor::Maintenance kind) {
  const bool vacuum = kind == executor::Maintenance::Vacuum;
  pb::Proposal proposal;
  pb::Request& request = *proposal.mutable_request();
  request.set_kind(pb::Request::EXECUTE);
  request.set_maintenance(static_cast<std::uint32_t>(kind));
  request.add_statements()->set_sql(vacuum ? "VACUUM" : "PRAGMA optimize");
  replica_.propose({.bytes = proposal.SerializeAsString(), .alone = true, .waiter = std::make_shared<MaintenanceWaiter>(metrics_, clock_, vacuum)});
}

void Keeper::maintained(executor::Maintenance kind, WallTime sealed) {
  const std::lock_guard lock(mutex_);
  (kind == executor::Maintenance::Vacuum ? vacuum_at_ : optimize_at_) = sealed;
  times_changed_ = true;
  changed_.notify_all();
}

void Keeper::load_times() {
  const std::string path = options_.dir + "/maintenance.json";
  rapidjson::Document document;
  if (const Result<std::string> text = io::read_file(disk_, path, 4096)) document.Parse(text->data(), text->size());
  const auto time = [&](const char* name) -> std::optional<WallTime> {
    if (!document.IsObject() || !document.HasMember(name) || !document[name].IsInt64()) return std::nullopt;
    return WallTime(milliseconds(document[name].GetInt64()));
  };
  const WallTime now = clock_.wall();
  const std::lock_guard lock(mutex_);
  vacuum_at_ = time("last_vacuum_ms");
  optimize_at_ = time("last_optimize_ms");
  // The period begins with the first start that has the flag; a clock that went back must not put it off for long.
  for (const auto& [every, last] : {std::pair{options_.vacuum_every, &vacuum_at_}, std::pair{options_.optimize_every, &optimize_at_}}) {
    if (every.count() <= 0 || (*last && **last <= now)) continue;
    *last = now;
    times_changed_ = true;
  }
}

void Keeper::store_times() {
  std::string text = "{";
  {
    const std::lock_guard lock(mutex_);
    if (vacuum_at_) text += "\"last_vacuum_ms\":" + std::to_string(ms_of(*vacuum_at_));
    if (vacuum_at_ && optimize_at_) text += ",";
    if (optimize_at_) text += "\"last_optimize_ms\":" + std::to_string(ms_of(*optimize_at_));
  }
  if (const Result<> written = io::write_file_atomically(disk_, options_.dir + "/maintenance.json", text + "}"); !written)
    log::warn("store", "maintenance.json: " + written.error().text());
}

}  // namespace rq::store
