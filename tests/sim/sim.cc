// sim SEED [COUNT] [--quiet]: a cluster of three in one thread, from a seed: the real driver, engine and log on disks that
// forget what was not synced; virtual time; a network that drops, delays, repeats and cuts. Members crash and come back.
// Checked: one leader a term; every member applies the same proposals in the same order; none twice; what was acknowledged
// is there at the end; after healing all agree. The same seed gives the same run (its trace hash is compared).
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

#include "replica/driver.h"
#include "replica/group.h"
#include "support/memory_disk.h"

namespace {

using namespace rq;
using replica::Driver;
using test::MemoryDisk;
using test::SeededRng;
using std::chrono::milliseconds;

constexpr std::uint64_t kMembers = 3;
constexpr auto kStep = milliseconds(5);
const std::string kLogDir = "/raft";
bool quiet = false;

[[noreturn]] void violated(std::uint64_t seed, const std::string& what) {
  std::printf("seed %llu: %s\n1 passed, 1 failed\n", static_cast<unsigned long long>(seed), what.c_str());
  std::exit(1);
}

class SimClock final : public Clock {
 public:
  SteadyTime now() const override { return time; }
  WallTime wall() const override { return WallTime(time.time_since_epoch() + std::chrono::hours(24 * 365 * 50)); }
  SteadyTime time{};
};

class Cluster;

// A client's proposal under way.
class Client final : public raft::Waiter {
 public:
  Client(Cluster& cluster, std::uint64_t number) : cluster_(cluster), number_(number) {}
  void failed(const Error&) override {}
  void applied();

 private:
  Cluster& cluster_;
  const std::uint64_t number_;
};

class Member final : public replica::Outputs {
 public:
  Member(Cluster& cluster, std::uint64_t id) : cluster_(cluster), id_(RaftId{id}) {}

  void boot();
  void crash(MemoryDisk::Loss loss);
  bool up() const { return driver_ != nullptr; }
  void flush();
  void step(std::vector<raft::Message>&& messages) { driver_->step(std::move(messages)); }
  void run() { driver_->run(now()); }
  Driver& driver() { return *driver_; }
  const std::vector<std::uint64_t>& history() const { return history_; }
  Index applied() const { return applied_; }
  void late_work();

  void persist(replica::PersistItem&& item) override { unsynced_.push_back(std::move(item)); }
  Result<> persist_now(replica::PersistItem&& item) override;
  void send(std::vector<raft::Message>&& messages) override;
  void apply(std::vector<replica::ApplyItem>&& items) override;
  void restore(raft::SnapshotDescriptor&& descriptor) override { restoring_ = descriptor.index; }
  void reads(Index index, std::vector<replica::ReadDone>&& reads) override;
  void fetch(const raft::FetchRequest& request) override { fetches_.push_back(request); }
  void membership(const replica::MembershipRecord&, const raft::ConfState&, Index) override {}
  void role(const raft::Status& status) override;

 private:
  SteadyTime now() const;
  Result<> write(const replica::PersistItem& item) {
    return log_->append({.snapshot = item.snapshot, .entries = item.entries, .hard_state = item.hard_state, .membership = item.membership});
  }
  void apply_entry(const raft::Entry& entry, const std::vector<std::shared_ptr<raft::Waiter>>& waiters);

  Cluster& cluster_;
  const RaftId id_;
  MemoryDisk disk_;
  std::unique_ptr<wal::Log> log_;
  std::unique_ptr<Driver> driver_;
  std::vector<replica::PersistItem> unsynced_;
  std::vector<raft::FetchRequest> fetches_;
  std::optional<Index> restoring_;
  std::vector<std::uint64_t> history_;      // proposals in the order in which they were applied
  Index applied_;
  std::vector<std::pair<Index, replica::ReadDone>> reads_;
};

class Cluster {
 public:
  explicit Cluster(std::uint64_t seed_value) : seed(seed_value), rng(seed_value) {
    for (std::uint64_t id = 1; id <= kMembers; ++id) members.push_back(std::make_unique<Member>(*this, id));
  }
  std::uint64_t run();
  void note(const std::string& text) {
    for (const char c : text) trace = (trace ^ static_cast<unsigned char>(c)) * 1099511628211u;
    if (!quiet) std::printf("%8lld ms  %s\n", static_cast<long long>(std::chrono::duration_cast<milliseconds>(clock.time.time_since_epoch()).count()), text.c_str());
  }
  void send(raft::Message&& message);

  const std::uint64_t seed;
  SeededRng rng;
  SimClock clock;
  std::vector<std::unique_ptr<Member>> members;
  std::set<std::uint64_t> acknowledged;
  std::map<std::uint64_t, std::uint64_t> leaders;       // term -> member
  std::map<std::uint64_t, std::uint64_t> cut;           // member -> until (steps)
  std::uint64_t trace = 14695981039346656037u;
  bool calm = false;

 private:
  void tick();
  void disturb();
  void check_histories() const;
  std::multimap<SteadyTime, raft::Message> network_;
  std::uint64_t steps_ = 0, proposals_ = 0;
  std::map<std::uint64_t, std::uint64_t> down_until_;
};

void Client::applied() { cluster_.acknowledged.insert(number_); }

SteadyTime Member::now() const { return cluster_.clock.time; }

void Member::boot() {
  auto opened = wal::Log::open(disk_, kLogDir, {.segment_bytes_first = 64 << 10, .segment_bytes_max = 256 << 10});
  if (!opened) violated(cluster_.seed, "member does not start: " + opened.error().text());
  log_ = std::move(opened->log);
  const raft::Options options{.id = id_, .seed = cluster_.rng.next()};
  driver_ = std::make_unique<Driver>([options] { return raft::make_raft_engine(options); }, id_,
                                     replica::Timing{.tick = milliseconds(10), .election_ticks = 20, .heartbeat_ticks = 2, .leader_lease = milliseconds(100)},
                                     replica::Limits{}, cluster_.clock, cluster_.rng, *this);
  history_.clear();
  applied_ = Index{1};
  replica::MembershipRecord record;
  if (opened->recovered.snapshot.index) record = *replica::decode_membership_record(opened->recovered.membership.members);
  auto start = replica::prepare_start(id_, std::move(opened->recovered), std::move(record), applied_, *log_);
  if (!start) violated(cluster_.seed, "no start: " + start.error().text());
  for (Index next{2}; next <= start->handed_over;) {
    const auto entries = log_->read(next, start->handed_over, 1 << 20);
    if (!entries) violated(cluster_.seed, "log unreadable: " + entries.error().text());
    for (const raft::Entry& entry : *entries) apply_entry(entry, {});
    next = entries->back().index.next();
  }
  if (const auto started = driver_->start(*std::move(start)); !started) violated(cluster_.seed, "engine refuses: " + started.error().text());
}

void Member::crash(MemoryDisk::Loss loss) {
  driver_.reset();
  log_.reset();
  unsynced_.clear();
  fetches_.clear();
  reads_.clear();
  restoring_.reset();
  disk_.lose_power(cluster_.rng, loss);
}

void Member::flush() {
  if (unsynced_.empty()) return;
  for (const replica::PersistItem& item : unsynced_)
    if (!write(item)) violated(cluster_.seed, "append failed");
  if (!log_->sync()) violated(cluster_.seed, "sync failed");
  const auto newest = std::ranges::max_element(unsynced_, {}, &replica::PersistItem::ready_number);
  const std::uint64_t engine = newest->engine, number = newest->ready_number;
  unsynced_.clear();
  driver_->persisted(engine, number);
}

Result<> Member::persist_now(replica::PersistItem&& item) {
  // The wal thread writes in order: what was handed in before goes first. Its news comes later, as in the server.
  for (const replica::PersistItem& earlier : unsynced_) RQ_CHECK(write(earlier));
  for (replica::PersistItem& earlier : unsynced_) earlier = {.ready_number = earlier.ready_number, .engine = earlier.engine};
  RQ_CHECK(write(item));
  return log_->sync();
}

void Member::send(std::vector<raft::Message>&& messages) {
  for (raft::Message& message : messages) cluster_.send(std::move(message));
}

void Member::apply_entry(const raft::Entry& entry, const std::vector<std::shared_ptr<raft::Waiter>>& waiters) {
  if (entry.index <= applied_) return;
  if (entry.index != applied_.next()) violated(cluster_.seed, "gap in what is applied");
  applied_ = entry.index;
  if (entry.type != raft::EntryType::Normal) return;
  const auto group = replica::read_group(*entry.payload);
  if (!group) violated(cluster_.seed, "unreadable group: " + group.error().text());
  for (std::size_t i = 0; i < group->proposals.size(); ++i) {
    history_.push_back(std::strtoull(std::string(group->proposals[i]).c_str(), nullptr, 10));
    if (!waiters.empty() && waiters[i]) static_cast<Client&>(*waiters[i]).applied();
  }
}

void Member::apply(std::vector<replica::ApplyItem>&& items) {
  for (const replica::ApplyItem& item : items) apply_entry(item.entry, item.waiters);
}

void Member::reads(Index index, std::vector<replica::ReadDone>&& reads) {
  for (replica::ReadDone& done : reads) reads_.emplace_back(index, std::move(done));
}

void Member::late_work() {
  if (restoring_) driver_->restored(*std::exchange(restoring_, std::nullopt), {});
  for (const raft::FetchRequest& request : std::exchange(fetches_, {})) {
    auto entries = log_->read(request.first, request.last, 1 << 16);
    driver_->fetched(request.peer, entries ? *std::move(entries) : std::vector<raft::Entry>{});
  }
  for (auto& [index, done] : std::exchange(reads_, {})) {
    if (applied_ >= index) done(index);
    else reads_.emplace_back(index, std::move(done));
  }
}

void Member::role(const raft::Status& status) {
  if (status.role != raft::Role::Leader) return;
  const auto [place, fresh] = cluster_.leaders.emplace(status.term.value, id_.value);
  if (!fresh && place->second != id_.value) violated(cluster_.seed, "two leaders in term " + std::to_string(status.term.value));
  cluster_.note("member " + std::to_string(id_.value) + " leads term " + std::to_string(status.term.value));
}

void Cluster::send(raft::Message&& message) {
  const bool lost = !calm && (cut.contains(message.from.value) || cut.contains(message.to.value) || rng.below(50) == 0);
  if (lost) return;
  const auto delay = milliseconds(1 + rng.below(calm ? 3 : rng.below(20) == 0 ? 300 : 8));
  if (!calm && rng.below(40) == 0) network_.emplace(clock.time + delay + milliseconds(rng.below(100)), message);
  network_.emplace(clock.time + delay, std::move(message));
}

void Cluster::tick() {
  clock.time += kStep;
  ++steps_;
  std::map<std::uint64_t, std::vector<raft::Message>> due;
  while (!network_.empty() && network_.begin()->first <= clock.time) {
    due[network_.begin()->second.to.value].push_back(std::move(network_.begin()->second));
    network_.erase(network_.begin());
  }
  for (std::uint64_t id = 1; id <= kMembers; ++id) {
    Member& member = *members[id - 1];
    if (!member.up()) continue;
    if (!due[id].empty()) member.step(std::move(due[id]));
    member.run();
    if (calm || rng.below(3) != 0) member.flush();
    member.late_work();
    member.run();
    if (member.driver().broken()) violated(seed, "member broke: " + member.driver().broken()->text());
  }
}

void Cluster::disturb() {
  std::erase_if(cut, [&](const auto& item) { return item.second <= steps_; });
  for (std::uint64_t id = 1; id <= kMembers; ++id) {
    Member& member = *members[id - 1];
    if (!member.up() && down_until_[id] <= steps_) {
      note("member " + std::to_string(id) + " starts");
      member.boot();
    } else if (member.up() && rng.below(400) == 0) {
      const auto loss = static_cast<MemoryDisk::Loss>(rng.below(3));
      note("member " + std::to_string(id) + " loses power");
      member.crash(loss);
      down_until_[id] = steps_ + rng.below(200);
    }
  }
  if (rng.below(300) == 0) {
    const std::uint64_t id = 1 + rng.below(kMembers);
    cut[id] = steps_ + rng.below(300);
    note("member " + std::to_string(id) + " is cut off");
  }
}

void Cluster::check_histories() const {
  const auto longest = std::ranges::max_element(members, {}, [](const auto& member) { return member->history().size(); });
  const auto& whole = (*longest)->history();
  for (const auto& member : members)
    if (!std::equal(member->history().begin(), member->history().end(), whole.begin())) violated(seed, "members applied different things");
  std::set<std::uint64_t> once(whole.begin(), whole.end());
  if (once.size() != whole.size()) violated(seed, "a proposal was applied twice");
}

std::uint64_t Cluster::run() {
  replica::MembershipRecord record{.cluster_id = seed | 1};
  raft::ConfState conf;
  for (std::uint64_t id = 1; id <= kMembers; ++id) {
    record.members.put({.raft_id = RaftId{id}, .node_id = std::to_string(id), .raft_addr = "m" + std::to_string(id)});
    conf.voters.push_back(RaftId{id});
  }
  for (const auto& member : members) member->boot();
  if (!members[0]->driver().bootstrap(record, conf)) violated(seed, "bootstrap failed");
  constexpr std::uint64_t kStormSteps = 3000, kCalmSteps = 2000;
  while (steps_ < kStormSteps) {
    disturb();
    tick();
    for (const auto& member : members)
      if (member->up() && rng.below(6) == 0 && member->driver().engine().role() == raft::Role::Leader) {
        const std::uint64_t number = ++proposals_;
        member->driver().propose({.bytes = std::to_string(number), .waiter = std::make_shared<Client>(*this, number)});
      }
    if (steps_ % 100 == 0) check_histories();
  }
  calm = true;
  cut.clear();
  for (const auto& member : members)
    if (!member->up()) member->boot();
  const auto settled = [&] {
    return std::ranges::all_of(members, [&](const auto& member) { return member->applied() == members[0]->applied(); }) &&
           std::ranges::any_of(members, [](const auto& member) { return member->driver().engine().role() == raft::Role::Leader; });
  };
  for (std::uint64_t i = 0; i < kCalmSteps && !(i > 500 && settled()); ++i) tick();
  if (!settled()) violated(seed, "the cluster did not settle after healing");
  check_histories();
  const std::set<std::uint64_t> stored(members[0]->history().begin(), members[0]->history().end());
  for (const std::uint64_t number : acknowledged)
    if (!stored.contains(number)) violated(seed, "acknowledged proposal " + std::to_string(number) + " is lost");
  note("end: " + std::to_string(acknowledged.size()) + " acknowledged, " + std::to_string(stored.size()) + " stored, " +
       std::to_string(leaders.size()) + " terms with a leader");
  if (acknowledged.size() < 20) violated(seed, "hardly anything was acknowledged");
  return trace;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  quiet = std::erase(words, "--quiet") > 0;
  const std::uint64_t first = words.empty() ? 1 : std::strtoull(words[0].c_str(), nullptr, 10);
  const std::uint64_t count = words.size() < 2 ? 1 : std::strtoull(words[1].c_str(), nullptr, 10);
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    const std::uint64_t trace = Cluster(seed).run();
    const bool again = seed % 20 == 1;
    const bool was_quiet = std::exchange(quiet, true);
    if (again && Cluster(seed).run() != trace) violated(seed, "the same seed gave another run");
    quiet = was_quiet;
  }
  std::printf("%llu passed, 0 failed\n", static_cast<unsigned long long>(count));
}
