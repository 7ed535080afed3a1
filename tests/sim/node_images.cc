// The part of a node that the keeper and the images do in the server: it cuts the log behind what is durable, and it fetches
// the image of a snapshot in pieces before Raft sees the message.
#include <algorithm>

#include "replica/replica.h"
#include "replica/snapshot_data.h"
#include "sim/node.h"

namespace rq::sim {
namespace {

const std::string kDir = "/data", kStaging = "/data/staging";
constexpr Instant kPiecePatience = milliseconds(400);
constexpr unsigned kTriesMax = 25;

}  // namespace

std::string Node::staged_image(Index index) { return kStaging + "/" + replica::staged_image_name(index); }

// ---- cutting the log

void Node::mind_log() {
  guard(milliseconds(60), [this] { mind_log(); });
  if (world_.now() < frozen_until_ || log_broken_ || apply_error_ || own_.snapshot_entries == 0) return;
  if (applied().value < log_cut_at_.value + own_.snapshot_entries) return;
  log_cut_at_ = applied();
  if (!shared_.is(Mutant::CompactAhead) && !executor_->make_durable()) return;
  const Index durable = shared_.is(Mutant::CompactAhead) ? applied() : executor_->durable_index();
  const Index needed = std::min(durable.next(), driver_->log_needed());
  const std::uint64_t trailing = own_.trailing_entries;
  const Index kept{needed.value > trailing ? std::max<std::uint64_t>(needed.value - trailing, 1) : 1};
  // Another thread does it: meanwhile the raft thread goes on.
  guard(world_.between(Instant{50}, own_.disk_delay), [this, kept, needed] {
    if (log_broken_ || !log_->compact(kept, needed, own_.log_bytes_max)) return;
    const Index first = log_->first();
    if (const auto term = log_->term_of(Index{first.value - 1})) input([this, first, term = *term] { driver_->compacted(first, term); });
    if (!apply_error_ && !shared_.is(Mutant::CompactAhead)) (void)executor_->checkpoint();
  });
}

void Node::make_snapshot() {
  guard(own_.apply_delay, [this] {
    auto made = std::make_shared<Result<raft::MachineSnapshot>>(executor_->snapshot());
    if (*made) (*made)->copied_from = copy_of_;
    images_held_ += *made ? 1 : 0;
    held_an_image_ |= made->has_value();
    input([this, made] { driver_->snapshot_made(std::move(*made)); });
  });
}

void Node::release_snapshot(std::uint64_t id) {
  executor_->release(id);
  --images_held_;
}

// ---- fetching an image

void Node::receive_snapshot(raft::Message&& message) {
  const auto data = replica::decode_snapshot_data(*message.snapshot);
  if (!data) return world_.violated("a snapshot message can't be read: " + data.error().text());
  std::vector<raft::Message> messages;
  messages.push_back(std::move(message));
  const Index index = messages.front().snapshot->index;
  if (data->machine.id == 0 || applied() >= index) return receive(std::move(messages));
  const auto note = replica::Replica::read_staged_note(*seen_disk_, staged_image(index));
  if ((note && note->index == index) || shared_.is(Mutant::InstallWithoutImage)) return receive(std::move(messages));
  if (install_ && install_->image.id == data->machine.id && install_->source == data->source) return;
  world_.note(node_id_ + " fetches the image at " + std::to_string(index.value) + ", " + std::to_string(data->machine.bytes) + " bytes");
  begin_fetch(&Node::install_, {.message = std::move(messages.front()), .source = data->source, .image = data->machine, .path = staged_image(index)});
}

void Node::cut_install() {
  for (const FetchSlot slot : {&Node::install_, &Node::state_}) {
    if (!(this->*slot)) continue;
    world_.note(node_id_ + "'s fetch of an image is cut off");
    (this->*slot).reset();
  }
}

void Node::begin_fetch(FetchSlot slot, Fetch&& fetch) {
  this->*slot = std::make_unique<Fetch>(std::move(fetch));
  (this->*slot)->number = ++fetches_;
  (void)seen_disk_->make_dirs(kStaging);
  (void)seen_disk_->remove((this->*slot)->path);
  if (slot == &Node::state_) {                 // of earlier ones nothing is needed
    adoption_.reset();
    for (const std::string& name : files(kStaging))
      if (name.starts_with("state-")) (void)seen_disk_->remove(kStaging + "/" + name);
  }
  ask_piece(slot);
}

void Node::ask_piece(FetchSlot slot) {
  Fetch& fetch = *(this->*slot);
  const std::uint64_t offset = fetch.received, number = fetch.number;
  if (++fetch.tries > kTriesMax) return (this->*slot).reset();
  const auto waits = [this, slot, number, offset] { return this->*slot && (this->*slot)->number == number && (this->*slot)->received == offset; };
  guard(kPiecePatience, [this, slot, waits] {
    if (waits()) ask_piece(slot);
  });
  Node* source = shared_.at_address(address_of(fetch.source));
  if (source == nullptr || source == this) return;
  const std::uint64_t id = fetch.image.id;
  shared_.network.send(slot_, source->slot(), [this, source, id, offset, waits, slot, life = life_, wanted = fetch.source] {
    if (!source->up() || source->raft_id() != wanted) return;
    auto piece = std::make_shared<Result<std::string>>(source->executor_->persist(id, offset, own_.piece_bytes));
    if (const auto held = source->held_states_.find(id); held != source->held_states_.end()) held->second = world_.now();
    source->input([source, id] { source->driver_->snapshot_used(id); });
    shared_.network.send(source->slot(), slot_, [this, piece, waits, slot, life, rotten = source->rotten_database()] {
      if (life != life_ || !up() || !waits()) return;
      (this->*slot)->rotten |= rotten;
      piece_came(slot, *piece);
    });
  });
}

void Node::piece_came(FetchSlot slot, const Result<std::string>& piece) {
  if (!piece) {                                // released, or its holder started anew: another is offered, or asked for
    world_.note(node_id_ + " can't have the image: " + piece.error().text());
    return (this->*slot).reset();
  }
  Fetch& fetch = *(this->*slot);
  const auto stored = [&]() -> Result<> {
    RQ_TRY(auto file, seen_disk_->open(fetch.path, io::OpenMode::CreateOrOpen));
    const bool skipped = shared_.is(Mutant::HoleInImage) && fetch.received > 0 && fetch.received % 3 != 0;
    RQ_CHECK(file->write_at(fetch.received, skipped ? std::string(piece->size(), '\0') : *piece));
    if (fetch.received + piece->size() < fetch.image.bytes) return {};
    if (!shared_.is(Mutant::ImageNotSynced)) {
      RQ_CHECK(file->sync());
    }
    RQ_CHECK(seen_disk_->sync_dir(kStaging));
    if (!fetch.message) return {};
    return replica::Replica::write_staged_note(*seen_disk_, fetch.path, *fetch.message->snapshot);
  }();
  if (!stored) return (this->*slot).reset();
  fetch.received += piece->size();
  fetch.tries = 0;
  if (fetch.received < fetch.image.bytes) {
    guard(world_.between(Instant{200}, own_.piece_delay), [this, slot, number = fetch.number] {
      if (this->*slot && (this->*slot)->number == number) ask_piece(slot);
    });
    return;
  }
  world_.note(node_id_ + " has the image at " + std::to_string(fetch.image.index.value));
  if (fetch.rotten) rotten_images_.insert(fetch.path);
  else rotten_images_.erase(fetch.path);
  const std::unique_ptr<Fetch> whole = std::move(this->*slot);
  if (!whole->message) {
    adoption_ = Adoption{whole->image, whole->path};
    adoption_->snapshot.source = whole->source;
    return begin_apply(own_.apply_delay);
  }
  std::vector<raft::Message> messages;
  messages.push_back(*std::move(whole->message));
  receive(std::move(messages));
}

// ---- taking it

Result<> Node::take_snapshot(const raft::SnapshotDescriptor& descriptor) {
  if (applied() >= descriptor.index) return {};
  RQ_TRY(const replica::SnapshotData data, replica::decode_snapshot_data(descriptor));
  RQ_CHECK(executor_->restore(data.machine, data.machine.id == 0 ? std::string() : staged_image(descriptor.index)));
  (void)seen_disk_->remove(replica::Replica::staged_note(staged_image(descriptor.index)));
  if (data.machine.id != 0) now_copy_of(data.machine);
  state_exchanged(staged_image(descriptor.index));
  world_.note(node_id_ + " took the snapshot at " + std::to_string(descriptor.index.value));
  ++images_taken;
  if (judged(descriptor.index)) shared_.found(shared_.checks.state(descriptor.index, content_hash()));
  return {};
}

// The log stands at a snapshot that the machine did not take before the process ended.
Result<> Node::finish_staged_snapshot(Index at) {
  if (executor_->applied_index() >= at) return {};
  const std::string image = staged_image(at);
  RQ_TRY(const bool there, seen_disk_->exists(image));
  if (!there) return {};
  RQ_TRY(const raft::SnapshotDescriptor descriptor, replica::Replica::read_staged_note(*seen_disk_, image));
  return take_snapshot(descriptor);
}

}  // namespace rq::sim
