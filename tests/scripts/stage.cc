#include "scripts/stage.h"

#include <algorithm>
#include <sstream>
#include <stdexcept>

#include "replica/group.h"

namespace rq::scripts {
namespace {

const std::string kDir = "/raft";
constexpr replica::Timing kTiming{.tick = std::chrono::milliseconds(100), .election_ticks = 10, .heartbeat_ticks = 2, .leader_lease = std::chrono::milliseconds(500)};

std::string name(RaftId id) { return id ? "n" + std::to_string(id.value) : "nobody"; }

std::string names(const std::vector<RaftId>& ids) {
  std::vector<RaftId> sorted = ids;
  std::ranges::sort(sorted);
  std::string out;
  for (const RaftId id : sorted) out += " " + name(id);
  return out;
}

std::string_view role_name(raft::Role role) {
  switch (role) {
    case raft::Role::Follower: return "follows";
    case raft::Role::Candidate: return "stands";
    case raft::Role::PreCandidate: return "asks around";
    case raft::Role::Leader: return "leads";
  }
  return "?";
}

std::string_view type_name(raft::MessageType type) {
  switch (type) {
    case raft::MessageType::Append: return "append";
    case raft::MessageType::AppendResponse: return "append answer";
    case raft::MessageType::RequestVote: return "vote request";
    case raft::MessageType::RequestVoteResponse: return "vote";
    case raft::MessageType::Snapshot: return "snapshot";
    case raft::MessageType::Heartbeat: return "heartbeat";
    case raft::MessageType::HeartbeatResponse: return "heartbeat answer";
    case raft::MessageType::TransferLeader: return "transfer";
    case raft::MessageType::TimeoutNow: return "stand now";
    case raft::MessageType::ReadIndex: return "read index";
    case raft::MessageType::ReadIndexResponse: return "read index answer";
    case raft::MessageType::RequestPreVote: return "pre-vote request";
    case raft::MessageType::RequestPreVoteResponse: return "pre-vote";
  }
  return "?";
}

std::string text_of(const raft::Entry& entry) {
  if (entry.type == raft::EntryType::ConfChange) {
    const auto change = raft::decode_conf_change(*entry.payload);
    if (!change) return "unreadable change";
    std::string out = change->steps.empty() ? "leave the joint membership" : "change:";
    for (const raft::ConfChangeStep& step : change->steps) {
      static const char* const kWhat[] = {" voter ", " learner ", " without "};
      out += kWhat[static_cast<int>(step.type)] + name(step.id);
    }
    return out;
  }
  if (entry.payload->empty()) return "new term";
  const auto group = replica::read_group(*entry.payload);
  std::string out;
  for (const std::string_view proposal : group->proposals) out += (out.empty() ? "" : " ") + std::string(proposal);
  return out;
}

std::string text_of(const Result<>& result) { return result ? "done" : result.error().text(); }

class Asker final : public raft::Waiter {
 public:
  Asker(Stage& stage, std::string text) : stage_(stage), text_(std::move(text)) {}
  void failed(const Error& error) override { stage_.say(text_ + ": " + error.text()); }
  void applied(Index index) { stage_.say(text_ + ": applied at " + std::to_string(index.value)); }

 private:
  Stage& stage_;
  const std::string text_;
};

}  // namespace

// ---- one member

replica::Member Actor::member() const { return {.raft_id = id_, .node_id = name(id_), .raft_addr = name(id_) + ":" + std::to_string(4002 + moves)}; }

void Actor::start() {
  auto opened = wal::Log::open(disk_, kDir, {.segment_bytes_first = 64 << 10, .segment_bytes_max = 64 << 10});
  if (!opened) return stage_.say(name(id_) + " does not start: " + opened.error().text());
  log_ = std::move(opened->log);
  const raft::Options options{.id = id_, .election_ticks = kTiming.election_ticks, .heartbeat_ticks = kTiming.heartbeat_ticks, .seed = id_.value};
  driver_ = std::make_unique<replica::Driver>([options] { return raft::make_raft_engine(options); }, id_, kTiming, replica::Limits{}, clock, stage_.rng, *this);
  replica::MembershipRecord record;
  if (opened->recovered.snapshot.index) record = *replica::decode_membership_record(opened->recovered.membership.members);
  applied_ = Index{1};                          // the machine is empty and applies the log again
  auto start = replica::prepare_start(id_, std::move(opened->recovered), std::move(record), applied_, *log_);
  if (start) applied_ = std::max(applied_, start->handed_over);
  const Result<> started = start ? driver_->start(*std::move(start)) : fail(start.error());
  if (!started) stage_.say(name(id_) + " does not start: " + started.error().text());
}

void Actor::stop() {
  driver_.reset();
  log_.reset();
  writing_.clear();
  later_.clear();
  reads_waiting_.clear();
  holds_writes = false;
  disk_.lose_power(stage_.rng, test::MemoryDisk::Loss::All);
}

void Actor::run() {
  driver_->run(clock.now());
  for (int i = 0; i < 100 && (!later_.empty() || (!writing_.empty() && !holds_writes)); ++i) {
    if (!holds_writes) write();
    for (auto& work : std::exchange(later_, {})) work();
    driver_->run(clock.now());
  }
}

void Actor::write() {
  if (writing_.empty()) return;
  const auto items = std::exchange(writing_, {});
  for (const replica::PersistItem& item : items) (void)append(item);
  (void)log_->sync();
  driver_->persisted(items.back().engine, items.back().ready_number);
}

void Actor::persist(replica::PersistItem&& item) { writing_.push_back(std::move(item)); }

Result<> Actor::persist_now(replica::PersistItem&& item) {
  for (replica::PersistItem& earlier : writing_) {
    RQ_CHECK(append(earlier));
    earlier = {.ready_number = earlier.ready_number, .engine = earlier.engine};
  }
  RQ_CHECK(append(item));
  return log_->sync();
}

void Actor::send(std::vector<raft::Message>&& messages) {
  for (raft::Message& message : messages) stage_.post(std::move(message));
}

void Actor::apply(std::vector<replica::ApplyItem>&& items) {
  for (const replica::ApplyItem& item : items) {
    if (item.entry.index <= applied_) continue;
    applied_ = item.entry.index;
    for (const auto& waiter : item.waiters)
      if (waiter) static_cast<Asker&>(*waiter).applied(applied_);
  }
  for (auto& [index, done] : std::exchange(reads_waiting_, {})) {
    if (index <= applied_) done(index);
    else reads_waiting_.emplace_back(index, std::move(done));
  }
}

void Actor::restore(raft::SnapshotDescriptor&& descriptor) {
  stage_.say(name(id_) + " takes the snapshot at " + std::to_string(descriptor.index.value));
  applied_ = descriptor.index;
  later_.push_back([this, index = descriptor.index] { driver_->restored(index); });
}

void Actor::reads(Index index, std::vector<replica::ReadDone>&& reads) {
  for (replica::ReadDone& done : reads) {
    if (applied_ >= index) done(index);
    else reads_waiting_.emplace_back(index, std::move(done));
  }
}

void Actor::fetch(const raft::FetchRequest& request) {
  later_.push_back([this, request] {
    auto entries = log_->read(request.first, request.last, 1 << 20);
    driver_->fetched(request.peer, entries ? *std::move(entries) : std::vector<raft::Entry>{});
  });
}

void Actor::role(const raft::Status& status) {
  std::string text = name(id_) + " " + std::string(role_name(status.role));
  if (status.role == raft::Role::Follower) text += " " + name(status.leader);
  stage_.say(text + " in term " + std::to_string(status.term.value));
}

std::string Actor::line() const {
  if (!up()) return name(id_) + " is down";
  const raft::Status status = driver_->status();
  const raft::ConfState& conf = driver_->conf();
  std::string out = name(id_) + " " + std::string(role_name(status.role)) + (status.role == raft::Role::Follower ? " " + name(status.leader) : "") +
                    ", term " + std::to_string(status.term.value) + ", log to " + std::to_string(status.last_index.value) + ", committed " + std::to_string(status.commit.value) +
                    ", voters" + names(conf.voters);
  if (!conf.learners.empty()) out += ", learners" + names(conf.learners);
  if (conf.joint()) out += ", outgoing" + names(conf.voters_outgoing);
  return out;
}

std::string Actor::log_text() const {
  std::string out;
  for (Index next = log_->first(); next <= log_->last();) {
    const auto entries = log_->read(next, log_->last(), 1 << 20);
    if (!entries) return out + entries.error().text() + "\n";
    for (const raft::Entry& entry : *entries)
      out += name(id_) + " " + std::to_string(entry.index.value) + ": term " + std::to_string(entry.term.value) + ", " + text_of(entry) + "\n";
    next = entries->back().index.next();
  }
  return out;
}

// ---- all of them

Actor& Stage::at(std::uint64_t id) {
  if (!actors_.contains(id)) throw std::invalid_argument("no member n" + std::to_string(id));
  return *actors_.at(id);
}

void Stage::cluster(std::uint64_t count) {
  replica::MembershipRecord record{.cluster_id = 1};
  raft::ConfState conf;
  for (std::uint64_t id = 1; id <= count; ++id) {
    Actor& actor = *(actors_[id] = std::make_unique<Actor>(*this, id));
    record.members.put(actor.member());
    conf.voters.push_back(RaftId{id});
  }
  for (const auto& [id, actor] : actors_) actor->start();
  for (const auto& [id, actor] : actors_)
    if (const Result<> founded = actor->driver().bootstrap(record, conf); !founded) say(founded.error().text());
}

bool Stage::deliver_one() {
  if (wire_.empty()) return false;
  raft::Message message = std::move(wire_.front());
  wire_.pop_front();
  Actor* to = actor(message.to.value);
  if (to == nullptr || !to->up() || cuts_.contains({message.from.value, message.to.value})) return true;
  std::vector<raft::Message> one;
  one.push_back(std::move(message));
  to->driver().step(std::move(one));
  to->run();
  return true;
}

void Stage::run_all() {
  for (const auto& [id, actor] : actors_)
    if (actor->up()) actor->run();
}

void Stage::settle() {
  run_all();
  for (int i = 0; i < 100'000 && deliver_one(); ++i)
    if (wire_.empty()) run_all();
}

void Stage::tick(std::uint64_t id, std::uint64_t times) {
  for (; times > 0; --times) {
    for (const auto& [other, actor] : actors_) {
      if (id != 0 && id != other) continue;
      actor->clock.time += kTiming.tick;
      if (actor->up()) actor->run();
    }
    if (id == 0) settle();
  }
}

// Its clock alone goes on until it stands for election.
void Stage::elect(std::uint64_t id) {
  for (int i = 0; i < 200 && at(id).driver().engine().role() != raft::Role::Leader; ++i) {
    tick(id, 1);
    settle();
  }
}

std::string Stage::play(const std::string& command) {
  said_.clear();
  std::istringstream in(command);
  std::string verb;
  in >> verb;
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  const auto number = [&](std::size_t i) -> std::uint64_t {
    if (i >= words.size()) throw std::invalid_argument("a number is missing");
    return std::stoull(words[i][0] == 'n' || words[i][0] == 'x' ? words[i].substr(1) : words[i]);
  };
  const auto deadline = [this](std::uint64_t id) { return at(id).clock.now() + std::chrono::seconds(5); };
  const auto told = [this, command](const Result<>& result) { say(command + ": " + text_of(result)); };
  try {
    if (verb == "cluster") cluster(number(0));
    else if (verb == "tick" && words.at(0) == "all") tick(0, words.size() > 1 ? number(1) : 1);
    else if (verb == "tick") tick(number(0), words.size() > 1 ? number(1) : 1);
    else if (verb == "elect") elect(number(0));
    else if (verb == "settle") settle();
    else if (verb == "deliver") for (std::uint64_t i = 0; i < number(0) && deliver_one();) ++i;
    else if (verb == "drop") wire_.clear();
    else if (verb == "isolate") for (const auto& [id, other] : actors_) cuts_.insert({number(0), id}), cuts_.insert({id, number(0)});
    else if (verb == "cut") cuts_.insert({number(0), number(1)});
    else if (verb == "heal") cuts_.clear();
    else if (verb == "crash") at(number(0)).stop();
    else if (verb == "restart") at(number(0)).start();
    else if (verb == "hold") at(number(0)).holds_writes = true;
    else if (verb == "write") at(number(0)).holds_writes = false, at(number(0)).run();
    else if (verb == "propose") at(number(0)).driver().propose({.bytes = words.at(1), .waiter = std::make_shared<Asker>(*this, command)}), at(number(0)).run();
    else if (verb == "read") at(number(0)).driver().read_index([this, command](const Result<Index>& index) {
      say(command + ": " + (index ? "as of " + std::to_string(index->value) : index.error().text()));
    }, deadline(number(0))), at(number(0)).run();
    else if (verb == "join") {
      if (!actors_.contains(number(1))) (actors_[number(1)] = std::make_unique<Actor>(*this, number(1)))->start();
      at(number(0)).driver().join(at(number(1)).member(), deadline(number(0)), told);
      at(number(0)).run();
    }
    else if (verb == "move") ++at(number(0)).moves;
    else if (verb == "remove") at(number(0)).driver().remove(words.at(1), deadline(number(0)), told), at(number(0)).run();
    else if (verb == "transfer") at(number(0)).driver().transfer(words.size() > 1 ? RaftId{number(1)} : RaftId{}, deadline(number(0)), told), at(number(0)).run();
    else if (verb == "dead") at(number(0)).driver().peer_dead(RaftId{number(1)}), at(number(0)).run();
    else if (verb == "show") { for (const auto& [id, other] : actors_) say(other->line()); }
    else if (verb == "log") said_ += at(number(0)).log_text();
    else if (verb == "messages") {
      for (const raft::Message& message : wire_) {
        std::string text = name(message.from) + " -> " + name(message.to) + " " + std::string(type_name(message.type)) + ", term " + std::to_string(message.term.value);
        if (message.type == raft::MessageType::Append) text += ", behind " + std::to_string(message.index.value) + ", " + std::to_string(message.entries.size()) + " entries";
        if (message.type == raft::MessageType::AppendResponse) text += ", index " + std::to_string(message.index.value);
        say(text + (message.reject ? ", refused" : ""));
      }
    }
    else say("unknown command: " + command);
  } catch (const std::exception& error) {
    say(command + "? " + error.what());
  }
  return said_;
}

}  // namespace rq::scripts
