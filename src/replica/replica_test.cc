// Three members at work with all their threads, on disks in memory, their messages carried by hand: what Replica does around the
// driver. (The same parts without threads: tests/sim. As processes: tests/cluster.)
#include "replica/replica.h"

#include <gtest/gtest.h>

#include <future>

#include "replica/group.h"
#include "replica/snapshot_data.h"
#include "support/memory_disk.h"

namespace rq::replica {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 20s;

template <class Condition>
bool reached(const Condition& condition) {
  const SteadyTime end = SystemClock().now() + kPatience;
  while (!condition()) {
    if (SystemClock().now() > end) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

// What proposals said, in order.
class Notes final : public raft::StateMachine {
  template <class Look>
  auto with(const Look& look) const {
    const std::lock_guard lock(mutex_);
    return look();
  }
 public:
  explicit Notes(io::Disk& disk) : disk_(disk) {}
  Index applied_index() const override { return with([&] { return applied_; }); }
  Result<> apply(const raft::Group& group) override {
    const std::lock_guard lock(mutex_);
    EXPECT_EQ(group.index, applied_.next());
    if (failures > 0) {
      --failures;
      return fail(failure, "on purpose");
    }
    if (group.index == poison && !shown_) return fail(Errc::Corrupt, "poison");
    for (std::size_t i = 0; i < group.proposals.size(); ++i) {
      if (group.index != poison) text_ += std::string(group.proposals[i]) + "\n";
      if (!group.waiters.empty() && group.waiters[i]) static_cast<Told&>(*group.waiters[i]).fate.set_value({});
    }
    stand_at(group.index, group.term);
    return {};
  }
  Result<> skip(Index index, Term term) override {
    const std::lock_guard lock(mutex_);
    stand_at(index, term);
    return {};
  }
  Result<raft::MachineSnapshot> snapshot() override {
    const std::lock_guard lock(mutex_);
    images_[++last_image_] = text_;
    return raft::MachineSnapshot{.index = applied_, .term = term_, .id = last_image_, .bytes = text_.size(), .data = "notes"};
  }
  Result<std::string> persist(std::uint64_t id, std::uint64_t offset, std::size_t size) override {
    const std::lock_guard lock(mutex_);
    const auto image = images_.find(id);
    if (image == images_.end()) return fail(Errc::NotFound);
    return image->second.substr(offset, size);
  }
  void release(std::uint64_t id) override {
    const std::lock_guard lock(mutex_);
    images_.erase(id);
  }
  Result<> restore(const raft::MachineSnapshot& snapshot, const std::string& image) override {
    std::string text;
    if (!image.empty()) {
      RQ_TRY(text, io::read_file(disk_, image, 1 << 20));
    }
    const std::lock_guard lock(mutex_);
    text_ = text;
    stand_at(snapshot.index, snapshot.term);
    ++restored;
    return {};
  }
  bool look_ahead(const raft::Group& later, Index stuck) override {
    const std::lock_guard lock(mutex_);
    shown_ |= stuck == poison && later.proposals.front() == "skip it";
    return shown_;
  }

  struct Told final : raft::Waiter {
    std::promise<Result<>> fate;
    void failed(const Error& error) override { fate.set_value(fail(error)); }
  };
  std::string text() const { return with([&] { return text_; }); }
  void lose_all() {
    const std::lock_guard lock(mutex_);
    text_.clear();
    applied_ = Index{1};
  }
  void spoil() {
    const std::lock_guard lock(mutex_);
    text_ += "rot\n";
  }
  std::size_t held() const { return with([&] { return images_.size(); }); }

  std::atomic<int> failures{0}, restored{0};
  Errc failure = Errc::Io;
  Index poison;

 private:
  void stand_at(Index index, Term term) {
    applied_ = index;
    term_ = term;
  }

  io::Disk& disk_;
  mutable std::mutex mutex_;
  std::string text_;
  Index applied_{1};
  Term term_{1};
  bool shown_ = false;
  std::map<std::uint64_t, std::string> images_;
  std::uint64_t last_image_ = 0;
};

class Trio;

struct Node final : Replica::Events {
  Node(Trio& trio, std::uint64_t number);
  void send(std::vector<raft::Message>&& messages) override;
  void membership_changed(const MembershipRecord& record, const raft::ConfState&) override { members = record.members.all().size(); }
  void role_changed(const raft::Status&) override {}
  void state_wanted(Index at_least) override { wanted = at_least.value; }
  Member member() const { return {.raft_id = id, .node_id = "n" + std::to_string(id.value), .raft_addr = "host" + std::to_string(id.value)}; }
  void open();
  void start() { ASSERT_TRUE(replica->start()); }
  void stop() {
    const std::lock_guard lock(mutex);
    if (replica) replica->stop();
    replica.reset();
  }

  Trio& trio;
  const RaftId id;
  test::MemoryDisk disk;
  Notes machine{disk};
  std::atomic<std::size_t> members{0};
  std::atomic<std::uint64_t> wanted{0};
  std::mutex mutex;                              // guards the pointer against messages that come in
  std::unique_ptr<Replica> replica;
};

class Trio : public ::testing::Test {
 protected:
  void SetUp() override {
    for (std::uint64_t number = 1; number <= 4; ++number) nodes.push_back(std::make_unique<Node>(*this, number));
    carrier = std::thread([this] { carry(); });
  }
  void TearDown() override {
    for (const auto& node : nodes) node->stop();
    {
      const std::lock_guard lock(mutex);
      over = true;
      changed.notify_all();
    }
    carrier.join();
  }

  void found() {
    for (std::size_t i = 0; i < 3; ++i) nodes[i]->open();
    MembershipRecord record{.cluster_id = 7};
    raft::ConfState conf;
    for (std::size_t i = 0; i < 3; ++i) {
      record.members.put(nodes[i]->member());
      conf.voters.push_back(nodes[i]->id);
    }
    ASSERT_TRUE(nodes[0]->replica->bootstrap(record, conf));
    for (std::size_t i = 0; i < 3; ++i) nodes[i]->start();
    ASSERT_TRUE(reached([&] { return leader() != nullptr; }));
  }
  Node* leader() {
    for (const auto& node : nodes)
      if (node->replica && node->replica->may_serve_weak()) return node.get();
    return nullptr;
  }
  Node& led() {
    EXPECT_TRUE(reached([&] { return leader() != nullptr; }));
    return *leader();
  }
  Node& follower() {
    Node& first = led();
    return *nodes[first.id.value == 1 ? 1 : 0];
  }

  static Result<> propose(Node& node, const std::string& text) {
    auto waiter = std::make_shared<Notes::Told>();
    auto fate = waiter->fate.get_future();
    node.replica->propose({.bytes = text, .waiter = waiter});
    if (fate.wait_for(kPatience) != std::future_status::ready) return fail(Errc::Internal, "no answer");
    return fate.get();
  }
  // By whoever leads, until it is taken.
  void write(const std::string& text) {
    ASSERT_TRUE(reached([&] { return propose(led(), text).has_value(); })) << text;
  }
  void write_many(int count) {
    for (int i = 0; i < count; ++i) write("note " + std::to_string(written++));
  }
  void all_equal(std::size_t count = 3) {
    const Node& first = led();
    for (std::size_t i = 0; i < count; ++i) {
      if (!nodes[i]->replica) continue;
      EXPECT_TRUE(reached([&] { return nodes[i]->replica->applied() >= first.replica->commit(); })) << i;
      EXPECT_TRUE(reached([&] { return nodes[i]->machine.text() == first.machine.text(); })) << i;
    }
  }
  static Result<> wait(const std::function<void(ConfDone)>& begin) {
    auto told = std::make_shared<std::promise<Result<>>>();
    auto fate = told->get_future();
    begin([told](const Result<>& result) { told->set_value(result); });
    if (fate.wait_for(kPatience) != std::future_status::ready) return fail(Errc::Internal, "no answer");
    return fate.get();
  }
  static Result<Index> wait_index(const std::function<void(ReadDone)>& begin) {
    auto told = std::make_shared<std::promise<Result<Index>>>();
    auto fate = told->get_future();
    begin([told](const Result<Index>& result) { told->set_value(result); });
    if (fate.wait_for(kPatience) != std::future_status::ready) return fail(Errc::Internal, "no answer");
    return fate.get();
  }
  static SteadyTime soon() { return SystemClock().now() + 10s; }

  // The image of a snapshot, as the transport would bring it.
  void bring_image(Node& to, const raft::SnapshotDescriptor& descriptor) {
    const auto data = decode_snapshot_data(descriptor);
    ASSERT_TRUE(data);
    if (data->machine.id == 0) return;
    const auto bytes = nodes[data->source.value - 1]->machine.persist(data->machine.id, 0, 1 << 20);
    if (!bytes) return;
    const std::string path = to.replica->staged_image(descriptor.index);
    ASSERT_TRUE(io::write_file_atomically(to.disk, path, *bytes));
    ASSERT_TRUE(Replica::write_staged_note(to.disk, path, descriptor));
  }

  void carry() {
    std::unique_lock lock(mutex);
    while (!over) {
      if (queue.empty()) {
        changed.wait(lock);
        continue;
      }
      raft::Message message = std::move(queue.front());
      queue.pop_front();
      lock.unlock();
      Node& to = *nodes[message.to.value - 1];
      {
        const std::lock_guard alive(to.mutex);
        if (to.replica) {
          if (message.snapshot) bring_image(to, *message.snapshot);
          std::vector<raft::Message> one;
          one.push_back(std::move(message));
          to.replica->step(std::move(one));
        }
      }
      lock.lock();
    }
  }

 public:
  void post(std::vector<raft::Message>&& messages) {
    const std::lock_guard lock(mutex);
    for (raft::Message& message : messages)
      if (!cut.contains(message.to) && !cut.contains(message.from)) queue.push_back(std::move(message));
    changed.notify_all();
  }
  void cut_off(RaftId id, bool off) {
    const std::lock_guard lock(mutex);
    if (off) cut.insert(id);
    else cut.erase(id);
  }

  SystemClock clock;
  SystemRng rng;

 protected:
  std::vector<std::unique_ptr<Node>> nodes;
  int written = 0;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<raft::Message> queue;
  std::set<RaftId> cut;
  bool over = false;
  std::thread carrier;
};

Node::Node(Trio& all, std::uint64_t number) : trio(all), id{number} {
  (void)disk.make_dirs("/data/raft");
  (void)disk.make_dirs("/data/staging");
}
void Node::send(std::vector<raft::Message>&& messages) { trio.post(std::move(messages)); }
void Node::open() {
  const Options options{.log_dir = "/data/raft", .staging_dir = "/data/staging", .self = id,
                        .timing = {.tick = 10ms, .election_ticks = 15, .heartbeat_ticks = 2, .leader_lease = 200ms}, .apply_queue_bytes = 200};
  auto opened = Replica::open(options, disk, trio.clock, trio.rng, machine, *this);
  ASSERT_TRUE(opened) << opened.error().text();
  const std::lock_guard lock(mutex);
  replica = *std::move(opened);
}

TEST_F(Trio, ApplyTheSameInTheSameOrder) {
  found();
  std::vector<std::future<Result<>>> fates;
  Node& first = led();
  for (int i = 0; i < 500; ++i) {
    auto waiter = std::make_shared<Notes::Told>();
    fates.push_back(waiter->fate.get_future());
    first.replica->propose({.bytes = "many " + std::to_string(i), .alone = i % 50 == 0, .waiter = waiter});
  }
  for (auto& fate : fates) EXPECT_TRUE(fate.get());
  all_equal();
  EXPECT_EQ(std::ranges::count(first.machine.text(), '\n'), 500);
  EXPECT_EQ(propose(follower(), "to a follower").error().code, Errc::NotLeader);
}

TEST_F(Trio, ReadsWaitForTheirIndex) {
  found();
  write_many(20);
  Node& first = led();
  const auto index = wait_index([&](ReadDone done) { first.replica->read_index(std::move(done), soon()); });
  ASSERT_TRUE(index) << index.error().text();
  EXPECT_GE(first.replica->applied(), *index);
  Node& second = follower();
  const auto there = wait_index([&](ReadDone done) { second.replica->wait_applied(*index, soon(), std::move(done)); });
  ASSERT_TRUE(there);
  EXPECT_GE(second.replica->applied(), *index);
  const auto never = wait_index([&](ReadDone done) { second.replica->wait_applied(Index{1'000'000}, clock.now() + 20ms, std::move(done)); });
  EXPECT_EQ(never.error().code, Errc::Timeout);
  const View view = first.replica->view();
  EXPECT_EQ(view.role, raft::Role::Leader);
  EXPECT_EQ(view.record.members.all().size(), 3u);
  std::promise<RaftId> asked;
  second.replica->fresh_view([&](const View& fresh) { asked.set_value(fresh.leader); });
  EXPECT_EQ(asked.get_future().get(), first.id);
  EXPECT_TRUE(second.replica->leader_contact());
  EXPECT_EQ(second.replica->leader(), first.id);
  EXPECT_TRUE(second.replica->caught_up_with_start());
}

TEST_F(Trio, RestartReplaysWhatTheMachineHasNotYet) {
  found();
  write_many(30);
  all_equal();
  Node& one = follower();
  const std::string before = one.machine.text();
  one.stop();
  one.machine.lose_all();
  one.open();
  EXPECT_TRUE(one.replica->has_state());
  EXPECT_EQ(one.replica->stored_record().members.all().size(), 3u);
  EXPECT_EQ(one.replica->stored_conf().voters.size(), 3u);
  one.start();
  EXPECT_TRUE(reached([&] { return one.machine.text() == before; }));
  write_many(5);
  all_equal();
  EXPECT_EQ(one.machine.restored, 0);
}

TEST_F(Trio, AMemberBehindTheLogIsFedByASnapshot) {
  found();
  write_many(5);
  all_equal();
  Node& one = follower();
  one.stop();
  write_many(200);
  for (const auto& node : nodes) {
    if (!node->replica) continue;
    ASSERT_TRUE(reached([&] { return node->replica->applied() >= led().replica->commit(); }));
    if (node->replica->spare_wanted()) {
      ASSERT_TRUE(node->replica->prepare_spare());
    }
    const auto first = node->replica->cut_log(node->replica->applied(), 0, 1 << 20);
    ASSERT_TRUE(first) << first.error().text();
    EXPECT_GT(*first, Index{1});
    EXPECT_EQ(node->replica->log_first(), *first);
    EXPECT_GT(node->replica->log_bytes(), 0u);
  }
  one.open();
  one.start();
  all_equal();
  write_many(5);
  all_equal();
  // The images are let go when nobody reads them.
  EXPECT_TRUE(reached([&] { return led().machine.held() == 0; }));
}

TEST_F(Trio, AnEntryThatFailsIsTriedUntilItWorks) {
  found();
  write_many(3);
  Node& one = follower();
  one.machine.failures = 3;
  write_many(3);
  EXPECT_TRUE(reached([&] { return one.machine.failures == 0; }));
  all_equal();
  EXPECT_TRUE(reached([&] { return !one.replica->apply_error(); }));
}

TEST_F(Trio, ALeaderWhoseApplyHangsHandsOver) {
  found();
  write_many(3);
  Node& first = led();
  first.machine.failures = 1'000'000;
  EXPECT_EQ(propose(first, "hangs").error().code, Errc::Io);
  EXPECT_TRUE(first.replica->apply_error());
  EXPECT_TRUE(reached([&] { return leader() != nullptr && leader() != &first; }));
  first.machine.failures = 0;
  write_many(3);
  all_equal();
}

TEST_F(Trio, AStateOfAnotherMemberTakesThePlaceOfADamagedOne) {
  found();
  write_many(10);
  all_equal();
  Node& first = led();
  Node& one = follower();
  one.machine.spoil();
  one.replica->reinstall("a test spoiled it");
  EXPECT_TRUE(reached([&] { return one.wanted > 0; }));
  EXPECT_TRUE(one.replica->wants_state());
  write_many(10);
  std::promise<Result<raft::MachineSnapshot>> held;
  first.replica->hold_state([&](Result<raft::MachineSnapshot> snapshot) { held.set_value(std::move(snapshot)); });
  const Result<raft::MachineSnapshot> snapshot = held.get_future().get();
  ASSERT_TRUE(snapshot);
  const auto bytes = first.machine.persist(snapshot->id, 0, 1 << 20);
  ASSERT_TRUE(bytes);
  ASSERT_TRUE(io::write_file_atomically(one.disk, "/data/staging/state", *bytes));
  one.replica->adopt_state(*snapshot, "/data/staging/state");
  first.replica->machine().release(snapshot->id);
  EXPECT_TRUE(reached([&] { return !one.replica->wants_state(); }));
  write_many(3);
  all_equal();
  EXPECT_EQ(one.machine.restored, 1);
  EXPECT_EQ(one.machine.text().find("rot"), std::string::npos);
}

TEST_F(Trio, ALaterEntrySaysWhatBecomesOfOneThatNobodyCanApply) {
  found();
  write_many(3);
  all_equal();
  const Index poison = led().replica->commit().next();
  for (std::size_t i = 0; i < 3; ++i) nodes[i]->machine.poison = poison;
  Node& first = led();
  EXPECT_EQ(propose(first, "poison").error().code, Errc::Corrupt);
  // Nobody can apply: whoever leads takes it all the same.
  EXPECT_TRUE(reached([&] {
    for (const auto& node : nodes)
      if (node->replica && node->replica->is_leader()) node->replica->propose({.bytes = "skip it", .alone = true});
    return std::ranges::all_of(nodes, [&](const auto& node) { return !node->replica || node->replica->applied() > poison; });
  }));
  write_many(3);
  all_equal();
  EXPECT_EQ(led().machine.text().find("poison"), std::string::npos);
}

TEST_F(Trio, MembersComeAndGoAndLeadershipIsHandedOver) {
  found();
  write_many(3);
  Node& fourth = *nodes[3];
  fourth.open();
  EXPECT_FALSE(fourth.replica->has_state());
  fourth.start();
  ASSERT_TRUE(reached([&] { return wait([&](ConfDone done) { led().replica->join(fourth.member(), soon(), std::move(done)); }).has_value(); }));
  EXPECT_TRUE(reached([&] { return led().replica->view().conf.is_voter(fourth.id); }));
  write_many(3);
  all_equal(4);
  EXPECT_EQ(fourth.members, 4u);
  Node& old = led();
  ASSERT_TRUE(wait([&](ConfDone done) { old.replica->transfer(fourth.id, soon(), std::move(done)); }));
  EXPECT_TRUE(reached([&] { return leader() != nullptr && leader() != &old; }));   // mostly the fourth
  ASSERT_TRUE(reached([&] { return wait([&](ConfDone done) { led().replica->remove("n1", soon(), std::move(done)); }).has_value(); }));
  nodes[0]->stop();
  write_many(3);
  all_equal(4);
  EXPECT_EQ(led().replica->view().record.members.all().size(), 3u);
}

TEST_F(Trio, ADeadLeaderIsFollowedAtOnce) {
  found();
  write_many(3);
  Node& first = led();
  cut_off(first.id, true);
  for (std::size_t i = 0; i < 3; ++i)
    if (nodes[i].get() != &first) nodes[i]->replica->peer_dead(first.id);
  EXPECT_TRUE(reached([&] { return leader() != nullptr && leader() != &first && !first.replica->may_serve_weak(); }));
  cut_off(first.id, false);
  led().replica->unreachable(first.id);
  write_many(3);
  all_equal();
}

TEST_F(Trio, AnErrorOfTheLogsDiskStopsThatMemberAlone) {
  found();
  write_many(3);
  Node& one = follower();
  one.disk.fail_call(1, Errc::Io, true);
  write_many(3);
  EXPECT_TRUE(reached([&] { return one.replica->view().broken.has_value(); }));
  one.stop();
  one.disk.heal();
  one.open();
  one.start();
  write_many(3);
  all_equal();
}

TEST_F(Trio, AFullDiskIsWaitedFor) {
  found();
  write_many(3);
  Node& one = follower();
  one.disk.leave_free(100);
  for (int i = 0; i < 60; ++i) write(std::string(4000, 'x'));
  one.disk.set_capacity(UINT64_MAX);
  write_many(3);
  all_equal();
  EXPECT_FALSE(one.replica->view().broken);
}

TEST_F(Trio, WhatIsOpenAtTheStopIsTold) {
  found();
  Node& first = led();
  for (std::size_t i = 0; i < 3; ++i)
    if (nodes[i].get() != &first) cut_off(nodes[i]->id, true);
  auto waiter = std::make_shared<Notes::Told>();
  auto fate = waiter->fate.get_future();
  first.replica->propose({.bytes = "lost", .waiter = waiter});
  std::promise<Result<Index>> read, applied;
  first.replica->read_index([&](const Result<Index>& index) { read.set_value(index); }, soon());
  first.replica->wait_applied(Index{1'000'000}, soon(), [&](const Result<Index>& index) { applied.set_value(index); });
  std::promise<void> between;
  first.replica->on_apply_thread([&] { between.set_value(); });
  between.get_future().get();
  first.stop();
  EXPECT_FALSE(fate.get());
  EXPECT_FALSE(read.get_future().get());
  EXPECT_FALSE(applied.get_future().get());
}

TEST_F(Trio, AMemberThatIsShutDownTakesNoPart) {
  found();
  write_many(3);
  Node& one = follower();
  one.replica->shut_down({Errc::Internal, "by its owner"});
  EXPECT_TRUE(reached([&] { return one.replica->view().broken.has_value(); }));
  const std::string before = one.machine.text();
  write_many(3);
  EXPECT_EQ(one.machine.text(), before);
}

TEST_F(Trio, AnotherClustersLogIsRefusedWhenTheMachineIsAhead) {
  found();
  write_many(10);
  all_equal();
  Node& one = follower();
  one.stop();
  test::MemoryDisk empty;
  (void)empty.make_dirs("/data/raft");
  // A log that ends before what the machine has: of a copied directory, say.
  Notes ahead(empty);
  for (std::uint64_t index = 2; index < 40; ++index) ASSERT_TRUE(ahead.skip(Index{index}, Term{1}));
  auto opened = Replica::open({.log_dir = "/data/raft", .staging_dir = "/data/staging", .self = one.id}, one.disk, clock, rng, ahead, one);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::Corrupt);
}

}  // namespace
}  // namespace rq::replica
