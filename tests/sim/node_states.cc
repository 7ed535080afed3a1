// The part of a node that Replica, store/integrity and cluster/images do in the server when a state is no good: it is compared,
// given up, and another member's taken; and entries that nobody survives.
#include <algorithm>
#include <array>
#include <cctype>

#include "executor/image_digest.h"
#include "replica/group.h"
#include "sim/node.h"
#include "store/quarantine.h"

namespace rq::sim {
namespace {

const std::string kDir = "/data", kStaging = "/data/staging";
constexpr Instant kStatePatience = milliseconds(500), kHeldIdle = milliseconds(1500);
constexpr std::size_t kChainsKept = 2048, kPageBytes = 4096;

}  // namespace

// ---- comparing

void Node::note_chain(Index index, std::uint64_t chain) {
  chains_[index] = chain;
  if (chains_.size() > kChainsKept) chains_.erase(chains_.begin());
}

// In the server a thread does it, slowly; here the entry waits.
void Node::scrub(Index index) {
  const auto snapshot = executor_->snapshot();
  if (!snapshot) return;
  executor::ImageDigest digest(*executor_, *snapshot);
  Result<bool> done = false;
  while (done && !*done) done = digest.step(1 << 20);
  if (done) scrubbed_ = {index, digest.value()};
  executor_->release(snapshot->id);
}

void Node::quarantine(const std::string& why) {
  if (quarantined_ || !up() || shared_.is(Mutant::NoQuarantine)) return;
  world_.note(node_id_ + " goes into quarantine: " + why);
  quarantined_ = true;
  if (!store::write_quarantine_mark(*seen_disk_, kDir, why)) world_.note(node_id_ + " can't write the mark");
  (void)store::keep_evidence(*seen_disk_, kDir, clock_.wall());
  wait_for_state(applied());
}

// ---- another member's state

void Node::wait_for_state(Index at_least) {
  world_.note(node_id_ + " waits for another member's state");
  wants_state_ = true;
  wanted_ = at_least;
  if (!apply_error_) input([this] { driver_->apply_stalled(true); });
  apply_error_ = Error{Errc::NotFound, "the state must come from another member"};
  begin_apply(kStatePatience / 10);
}

void Node::ask_state() {
  if (asking_state_ || state_) return;
  std::vector<RaftId> others;
  for (const replica::Member& member : driver_->record().members.all()) {
    if (member.raft_id == raft_id_) continue;
    if (member.raft_id == driver_->engine().leader()) others.insert(others.begin(), member.raft_id);
    else others.push_back(member.raft_id);
  }
  if (others.empty()) return;
  const RaftId source = others[states_asked_++ % others.size()];
  Node* target = shared_.at_address(address_of(source));
  if (target == nullptr || target == this) return;
  asking_state_ = true;
  guard(kStatePatience, [this, asked = states_asked_] {
    if (asked == states_asked_) asking_state_ = false;
  });
  shared_.network.send(slot_, target->slot(), [this, target, source, life = life_, asked = states_asked_] {
    if (!target->up() || target->raft_id() != source) return;
    target->begin_hold([this, target, source, life, asked](const raft::MachineSnapshot& held) {
      shared_.network.send(target->slot(), slot_, [this, held, source, life, asked] {
        if (life != life_ || !up() || asked != states_asked_ || !std::exchange(asking_state_, false)) return;
        world_.note(node_id_ + " fetches the state at " + std::to_string(held.index.value));
        begin_fetch(&Node::state_, {.message = {}, .source = source, .image = held, .path = kStaging + "/state-" + std::to_string(held.index.value)});
      });
    });
  });
}

void Node::begin_hold(const std::function<void(const raft::MachineSnapshot&)>& done) {
  guard(own_.apply_delay, [this, done] {
    if (wants_state_) return;
    auto held = executor_->snapshot();
    if (!held) return;
    held->copied_from = copy_of_;
    held_states_[held->id] = world_.now();
    ++images_held_;
    held_an_image_ = true;
    done(*held);
  });
}

void Node::let_states_go() {
  guard(kHeldIdle / 3, [this] { let_states_go(); });
  std::erase_if(held_states_, [this](const auto& held) {
    if (world_.now() - held.second < kHeldIdle) return false;
    executor_->release(held.first);
    --images_held_;
    return true;
  });
}

// True: the machine stands at a state of another member now.
bool Node::take_adoption() {
  if (!adoption_) return false;
  if (adoption_->snapshot.index > handed_over_) return false;
  const Adoption adoption = *std::exchange(adoption_, std::nullopt);
  const Index index = adoption.snapshot.index;
  const bool forward = index > applied() || (wants_state_ && index >= applied());
  if (!forward && !shared_.is(Mutant::AdoptOlderState)) return false;
  if (const Result<> restored = executor_->restore(adoption.snapshot, adoption.path); !restored) {
    world_.note(node_id_ + " can't take the state: " + restored.error().text());
    return false;
  }
  world_.note(node_id_ + " took another member's state at " + std::to_string(index.value));
  now_copy_of(adoption.snapshot);
  state_exchanged(adoption.path);
  ++images_taken;
  applied_until(index);
  return true;
}

void Node::now_copy_of(const raft::MachineSnapshot& image) {
  copy_of_ = {image.source};
  copy_of_.insert(copy_of_.end(), image.copied_from.begin(), image.copied_from.end());
}

void Node::state_exchanged(const std::string& image) {
  rotten_since_.reset();
  if (rotten_images_.erase(image) > 0) rotten_since_ = applied();
  poisoned_ = false;
  chains_.clear();
  scrubbed_ = {};
  (void)store::remove_quarantine_mark(*seen_disk_, kDir);
  if (std::exchange(quarantined_, false)) world_.note(node_id_ + " is healed");
}

// ---- entries that nobody survives

Index Node::stuck_at_lethal() const {
  if (!up()) return {};
  const auto poison = executor_->poisoned();
  return poison && shared_.lethal.contains(poison->index) ? poison->index : Index{};
}

// The process dies behind the note that it begins the entry, somewhere in the entry's work.
Result<> Node::apply_lethal(const raft::Group& group) {
  const auto poison = executor_->poisoned();
  if (passed_over_.contains(group.index) || (poison && poison->index == group.index)) return executor_->apply(group);
  shared_.lethal.insert(group.index);
  world_.note(node_id_ + " dies of the entry at " + std::to_string(group.index.value));
  faulty_disk = true;
  disk_->fail_call(2, Errc::Io, true);
  const Result<> ended = executor_->apply(group);
  if (ended) world_.violated(node_id_ + " survived a lethal entry");
  guard(Instant{0}, [this] { shared_.died(*this); });
  return fail(Errc::Io, "dying");
}

void Node::propose(const pb::Proposal& proposal) {
  input([this, bytes = proposal.SerializeAsString()] { driver_->propose({.bytes = bytes, .alone = true, .waiter = nullptr}); });
}

// Whether a later committed entry says what to do with the one that can't be applied.
bool Node::shown_ahead(Index stuck) {
  if (shared_.settings.poison.count() == 0) return false;
  for (Index next = std::max(stuck.next(), shown_to_.next()); next <= handed_over_; next = next.next()) {
    const auto entries = log_->read(next, next, 1);
    if (!entries) return false;
    shown_to_ = next;
    const raft::Entry& entry = entries->front();
    if (entry.type != raft::EntryType::Normal || entry.payload->empty()) continue;
    const auto view = replica::read_group(*entry.payload);
    if (!view || !executor_->look_ahead({.index = entry.index, .term = entry.term, .proposals = view->proposals}, stuck)) continue;
    passed_over_.insert(stuck);
    poisoned_ = false;
    return true;
  }
  return false;
}

// ---- what the nemesis does to files

// One byte in a page of the table `cold`: in a row's text, or in the page's first byte, which makes it malformed.
void Node::rot_database(std::uint64_t chance) {
  const std::vector<std::string> pages = column("SELECT pageno FROM dbstat WHERE name='cold' AND pagetype='leaf'");
  if (pages.empty()) return;
  const std::size_t begin = (std::stoull(pages[chance % pages.size()]) - 1) * kPageBytes;
  const Index until = applied();
  kill(test::MemoryDisk::Loss::None, false);
  std::string bytes = disk_->contents(kDir + "/db.sqlite");
  if (bytes.size() < begin + kPageBytes || bytes[begin] != 13) return;      // it is in the WAL as yet
  const auto is_text = [&](std::size_t at) { return std::isxdigit(static_cast<unsigned char>(bytes[at])) != 0; };
  std::size_t at = begin;
  if (chance >> 32 & 3) {
    at = begin + kPageBytes / 2 + (chance >> 8) % (kPageBytes / 2 - 16);
    if (!std::ranges::all_of(std::array<std::size_t, 5>{at - 8, at - 4, at, at + 4, at + 8}, is_text)) return;
  }
  bytes[at] = static_cast<char>(bytes[at] ^ static_cast<char>(1u << (chance >> 40) % 3));
  disk_->overwrite(kDir + "/db.sqlite", bytes);
  rotten_since_ = until;
  world_.note(node_id_ + "'s database rots at byte " + std::to_string(at));
}

// A write of the drive went astray, some time ago: sectors of one place of the log lie at another one, whole as they are.
void Node::misdirect(const std::string& from, const std::string& to, std::uint64_t chance) {
  constexpr std::size_t kSector = 512, kYoung = 8192;
  const std::string source = disk_->contents(from);
  std::string target = disk_->contents(to);
  const auto used = [](const std::string& bytes) { return bytes.find_last_not_of('\0') == std::string::npos ? 0 : bytes.find_last_not_of('\0') + 1; };
  if (used(source) < kYoung + 2 * kSector || used(target) < kYoung + 2 * kSector) return;
  const std::size_t sectors = 1 + chance % 8;
  const auto place = [&](const std::string& bytes, std::uint64_t any) { return any % ((used(bytes) - kYoung) / kSector) * kSector; };
  const std::size_t source_at = place(source, chance >> 8), target_at = place(target, chance >> 24);
  const std::string moved = source.substr(source_at, sectors * kSector);
  if (target.compare(target_at, moved.size(), moved) == 0) return;
  target.replace(target_at, moved.size(), moved);
  disk_->overwrite(to, target);
  rotten = true;
  world_.note(node_id_ + "'s disk put " + std::to_string(sectors) + " sectors of " + from + " at " + std::to_string(source_at) + " into " + to + " at " +
              std::to_string(target_at));
}

}  // namespace rq::sim
