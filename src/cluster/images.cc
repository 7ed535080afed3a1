#include "cluster/images.h"

#include <algorithm>

#include "base/log.h"
#include "cluster/cluster.pb.h"
#include "cluster/transfers.h"
#include "replica/snapshot_data.h"

namespace rq::cluster {
namespace {

constexpr auto kStatePause = std::chrono::seconds(1);
constexpr auto kHoldTime = std::chrono::seconds(30);
constexpr auto kSpreadRetry = std::chrono::seconds(20);      // of one Stage call; made again until the load's deadline
constexpr std::size_t kLoadsMax = 2;
constexpr auto kLeftOver = std::chrono::minutes(60);

bool majority(const std::vector<RaftId>& voters, const std::map<RaftId, Result<>>& staged) {
  if (voters.empty()) return true;
  const auto has = [&](RaftId id) {
    const auto found = staged.find(id);
    return found != staged.end() && found->second;
  };
  return static_cast<std::size_t>(std::ranges::count_if(voters, has)) > voters.size() / 2;
}

}  // namespace

// A load on its way to the members.
struct Images::Spread {
  pb::LoadImage image;
  std::string source_addr;
  SteadyTime deadline, begun;
  std::mutex mutex;                     // guards the rest
  raft::ConfState conf;
  std::map<RaftId, Result<>> answers;   // of members that are done with it
  std::size_t expected = 0;
  bool proposed = false;
  Loaded done;
};

Images::Images(store::Store& store, transport::Transport& transport, const Clock& clock, Metrics& metrics, ImageOptions options,
               std::function<World()> world)
    : store_(store), transport_(transport), clock_(clock), metrics_(metrics), options_(options), world_(std::move(world)),
      server_(store, clock, [this](std::uint64_t cluster_id, RaftId reader) {
        const World here = world_();
        return cluster_id != 0 && cluster_id == here.record.cluster_id && here.record.members.find(reader) != nullptr;
      }) {}

Images::~Images() { stop(); }

void Images::stop() {
  std::vector<std::unique_ptr<ImageFetch>> fetches;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    fetches.push_back(std::move(install_));
    fetches.push_back(std::move(state_));
    for (auto& [name, fetch] : loads_) fetches.push_back(std::move(fetch));
    loads_.clear();
  }
  for (auto& fetch : fetches)
    if (fetch) fetch->stop();
  server_.stop();
}

ImageFetchOptions Images::fetch_options(std::uint64_t cluster_id) const {
  return {.cluster_id = cluster_id, .self = world_().self, .zstd = options_.zstd, .bytes_per_second_max = options_.bytes_per_second_max};
}

// ---- snapshots

void Images::receive(raft::Message&& snapshot) {
  const Result<replica::SnapshotData> data = replica::decode_snapshot_data(*snapshot.snapshot);
  if (!data) return log::warn("store", "snapshot message dropped: " + data.error().text());
  if (data->machine.id == 0) {
    std::vector<raft::Message> messages;
    messages.push_back(std::move(snapshot));
    return store_.replica().step(std::move(messages));
  }
  if (store_.replica().applied() >= snapshot.snapshot->index && !store_.replica().wants_state()) {
    std::vector<raft::Message> messages;       // old news: Raft answers how far we are
    messages.push_back(std::move(snapshot));
    return store_.replica().step(std::move(messages));
  }
  const replica::Member* source = data->record.members.find(data->source);
  if (source == nullptr) return log::warn("store", "snapshot of an unknown member dropped");
  start_install(std::move(snapshot),
                {.addr = source->raft_addr, .image_id = data->machine.id, .bytes = data->machine.bytes,
                 .identity = "snapshot " + std::to_string(data->machine.index.value) + " " + std::to_string(data->machine.bytes) + " " + data->machine.data},
                data->record.cluster_id);
}

// On the transport's thread only.
void Images::start_install(raft::Message&& message, const ImageSource& source, std::uint64_t cluster_id) {
  std::unique_ptr<ImageFetch> old;
  const Index index = message.snapshot->index;
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return;
    const bool same = install_ && !install_->over() && install_->source().identity == source.identity &&
                      install_->source().image_id == source.image_id && install_->source().addr == source.addr;
    if (same) {
      install_message_ = std::move(message);     // the newest: its term counts
      return;
    }
    old = std::move(install_);
    install_message_.reset();
  }
  if (old) old->stop();                          // outside the lock: its end takes it
  log::info("store", "receiving a snapshot from " + source.addr + ", index=" + std::to_string(index.value) + " bytes=" + std::to_string(source.bytes));
  const std::lock_guard lock(mutex_);
  if (stopped_) return;
  install_message_ = std::move(message);
  install_ = std::make_unique<ImageFetch>(transport_, store_.disk(), clock_, fetch_options(cluster_id), source, store_.replica().staged_image(index),
                                          [this](const Result<>& result) { installed(result); });
}

// On the thread of the fetch.
void Images::installed(const Result<>& result) {
  if (!result) return;                           // the leader sends another one
  std::optional<raft::Message> message;
  {
    const std::lock_guard lock(mutex_);
    message = std::exchange(install_message_, std::nullopt);
  }
  if (!message) return;
  const std::string image = store_.replica().staged_image(message->snapshot->index);
  if (const Result<> noted = replica::Replica::write_staged_note(store_.disk(), image, *message->snapshot); !noted)
    return log::warn("store", "snapshot not taken: " + noted.error().text());
  metrics_.counter("store", "num_restores").add();
  std::vector<raft::Message> messages;
  messages.push_back(*std::move(message));
  store_.replica().step(std::move(messages));
}

// ---- states

void Images::state_wanted() {
  const World world = world_();
  replica::Member source;
  {
    const std::lock_guard lock(mutex_);
    if (stopped_ || asking_state_ || (state_ && !state_->over()) || clock_.now() < state_again_) return;
    state_again_ = clock_.now() + kStatePause;
    std::vector<const replica::Member*> others;
    const std::vector<replica::Member> all = world.record.members.all();
    for (const replica::Member& member : all) {
      if (member.raft_id == world.self) continue;
      if (member.raft_id == world.leader) others.insert(others.begin(), &member);
      else others.push_back(&member);
    }
    if (others.empty()) {
      state_again_ = clock_.now() + std::chrono::seconds(60);
      return log::error("store", "there is no other member whose state could be fetched; restore a backup");
    }
    source = *others[state_turn_++ % others.size()];
    asking_state_ = true;
  }
  fetch_state(source, world.record.cluster_id);
}

void Images::fetch_state(const replica::Member& member, std::uint64_t cluster_id) {
  const std::string addr = member.raft_addr;
  pb::HoldStateRequest request;
  request.mutable_reader()->set_cluster_id(cluster_id);
  request.mutable_reader()->set_raft_id(world_().self.value);
  transport_.call(addr, transport::CallType::HoldState, request.SerializeAsString(), clock_.now() + kHoldTime,
                  [weak = weak_from_this(), addr, cluster_id, id = member.raft_id](const Result<std::string>& response) {
                    const auto self = weak.lock();
                    if (!self) return;
                    pb::HoldStateResponse held;
                    const std::lock_guard lock(self->mutex_);
                    self->asking_state_ = false;
                    if (self->stopped_) return;
                    if (!response || !held.ParseFromString(*response)) {
                      return log::warn("store", "no state from " + addr + ": " + (response ? "unreadable answer" : response.error().text()));
                    }
                    raft::MachineSnapshot snapshot{.index = Index{held.index()}, .term = Term{held.term()}, .id = held.image_id(), .bytes = held.bytes(),
                                                   .data = held.machine(), .source = id};
                    for (const std::uint64_t from : held.copied_from()) snapshot.copied_from.push_back(RaftId{from});
                    const std::string path = self->store_.staging_dir() + "/state-" + std::to_string(held.index());
                    ImageSource source{.addr = addr, .image_id = held.image_id(), .bytes = held.bytes(),
                                       .identity = "state " + std::to_string(held.index()) + " " + std::to_string(held.bytes()) + " " + held.machine()};
                    log::info("store", "fetching the state of " + addr + ", index=" + std::to_string(held.index()) + " bytes=" + std::to_string(held.bytes()));
                    if (self->state_) self->state_->stop();   // over
                    self->state_ = std::make_unique<ImageFetch>(
                        self->transport_, self->store_.disk(), self->clock_, self->fetch_options(cluster_id), std::move(source), path,
                        [raw = self.get(), snapshot, path](const Result<>& result) {
                          if (result) raw->store_.replica().adopt_state(snapshot, path);
                        });
                  });
}

// ---- calls of other members

void Images::on_call(transport::CallType type, std::string payload, std::shared_ptr<transport::Responder> responder) {
  if (type == transport::CallType::ReadImage) return server_.read(std::move(payload), std::move(responder));
  if (type == transport::CallType::HoldState) return server_.hold(payload, std::move(responder));
  stage(std::move(payload), std::move(responder));
}

void Images::stage(std::string payload, std::shared_ptr<transport::Responder> responder) {
  pb::StageRequest message;
  if (!message.ParseFromString(payload) || !is_staged_name(message.image().name())) return responder->reply(fail(Errc::BadRequest, "unreadable request"));
  const World world = world_();
  if (message.reader().cluster_id() != world.record.cluster_id || world.record.members.find(RaftId{message.reader().raft_id()}) == nullptr)
    return responder->reply(fail(Errc::Unauthorized));
  stage_here(message.image(), message.source_addr(), [responder](Result<> result) {
    if (result) responder->reply(std::string());
    else responder->reply(fail(result.error()));
  });
}

void Images::stage_here(const pb::LoadImage& image, const std::string& source_addr, std::function<void(Result<>)> done) {
  const std::string path = store_.staging_dir() + "/" + image.name();
  const Result<std::uint64_t> free = store_.disk().free_bytes(store_.staging_dir());
  if (free && *free < image.size()) return done(fail(Errc::NoSpace, "no space for an image of " + std::to_string(image.size()) + " bytes"));
  const std::lock_guard lock(mutex_);
  if (stopped_) return done(fail(Errc::NotOpen));
  collect_over();
  if (loads_.contains(image.name())) return load_waiters_[image.name()].push_back(std::move(done));
  if (store_.disk().exists(path).value_or(false)) return done({});   // complete: it has this name only then
  if (loads_.size() >= kLoadsMax) return done(fail(Errc::Busy, "other images are being loaded"));
  load_waiters_[image.name()].push_back(std::move(done));
  ImageSource source{.addr = source_addr, .staged = image.name(), .bytes = image.size(), .identity = "load " + image.name() + " " + image.digest(),
                     .digest = image.digest()};
  loads_[image.name()] = std::make_unique<ImageFetch>(transport_, store_.disk(), clock_, fetch_options(world_().record.cluster_id), std::move(source), path,
                                                      [this, name = image.name()](const Result<>& result) {
                                                        std::vector<std::function<void(Result<>)>> waiters;
                                                        {
                                                          const std::lock_guard inner(mutex_);
                                                          waiters = std::exchange(load_waiters_[name], {});
                                                          load_waiters_.erase(name);
                                                        }
                                                        for (const auto& waiter : waiters) waiter(result);
                                                      });
}

void Images::collect_over() {
  std::erase_if(loads_, [](const auto& item) { return item.second->over(); });
}

// ---- loads, at the leader

void Images::load(const pb::LoadImage& image, const std::string& source_addr, RaftId source, SteadyTime deadline, Loaded done) {
  const World world = world_();
  auto spread = std::make_shared<Spread>();
  spread->image = image;
  spread->source_addr = source_addr;
  spread->deadline = deadline;
  spread->begun = clock_.now();
  spread->conf = world.conf;
  spread->done = std::move(done);
  const std::vector<replica::Member> members = world.record.members.all();
  spread->expected = members.size();
  spread->answers.emplace(source, Result<>());
  for (const replica::Member& member : members) {
    if (member.raft_id == source) continue;
    if (member.raft_id != world.self) {
      spread_to(spread, member.raft_id, member.raft_addr);
      continue;
    }
    stage_here(image, source_addr, [weak = weak_from_this(), spread, id = world.self](const Result<>& result) {
      if (const auto self = weak.lock()) self->spread_one(spread, id, result);
    });
  }
  spread_one(spread, source, {});
}

void Images::spread_to(const std::shared_ptr<Spread>& spread, RaftId member, const std::string& addr) {
  const World world = world_();
  pb::StageRequest request;
  request.mutable_reader()->set_cluster_id(world.record.cluster_id);
  request.mutable_reader()->set_raft_id(world.self.value);
  *request.mutable_image() = spread->image;
  request.set_source_addr(spread->source_addr);
  // A member that works at it for longer is asked again: it goes on meanwhile.
  transport_.call(addr, transport::CallType::Stage, request.SerializeAsString(), std::min(spread->deadline, clock_.now() + kSpreadRetry),
                  [weak = weak_from_this(), spread, member, addr](const Result<std::string>& response) {
                    const auto self = weak.lock();
                    if (!self) return;
                    const bool again = !response && (response.error().code == Errc::Timeout || response.error().code == Errc::Closed) &&
                                       self->clock_.now() < spread->deadline;
                    if (again) return self->spread_to(spread, member, addr);
                    self->spread_one(spread, member, response ? Result<>() : Result<>(fail(response.error())));
                  });
}

// Proposed when a majority has it and all others have it too, or can't.
void Images::spread_one(const std::shared_ptr<Spread>& spread, RaftId member, const Result<>& result) {
  Loaded done;
  Error why;
  bool propose = false;
  {
    const std::lock_guard lock(spread->mutex);
    if (spread->proposed) return;
    spread->answers.insert_or_assign(member, result);
    if (spread->answers.size() < spread->expected) return;
    spread->proposed = true;
    done = std::move(spread->done);
    propose = majority(spread->conf.voters, spread->answers) && majority(spread->conf.voters_outgoing, spread->answers);
    for (const auto& [id, answer] : spread->answers)
      if (!answer) why = answer.error();
  }
  if (!propose) return done(fail(Errc::Unreachable, "the image could not be brought to a majority of the nodes: " + why.text()));
  if (why.code != Errc::Internal || !why.detail.empty()) log::warn("store", "not all nodes have the image to be loaded, they will fetch the state behind it: " + why.text());
  store_.load_image(spread->image, std::move(done));
}

// ---- left over

void Images::tidy() {
  const Result<std::vector<std::string>> names = store_.disk().list(store_.staging_dir());
  if (!names) return;
  const Index applied = store_.replica().applied();
  const SteadyTime now = clock_.now();
  const std::lock_guard lock(mutex_);
  collect_over();
  std::map<std::string, SteadyTime> seen;
  for (const std::string& name : *names) {
    if (Transfers::keeps(name)) continue;
    bool remove = false;
    const bool installing = install_ && !install_->over();
    const bool fetching = state_ && !state_->over();
    for (const std::string_view kind : {"snapshot-", "state-"}) {
      if (!name.starts_with(kind)) continue;
      const std::uint64_t index = std::strtoull(name.c_str() + kind.size(), nullptr, 10);
      remove |= index <= applied.value && !store_.replica().wants_state() && !(kind == "snapshot-" ? installing : fetching);
    }
    const auto since = seen_.contains(name) ? seen_[name] : now;
    const bool loading = loads_.contains(name.substr(0, name.find('.')));
    remove |= now - since > kLeftOver && !loading && !installing && !fetching && store_.ready();
    if (!remove) {
      seen[name] = since;
      continue;
    }
    log::info("store", "removing a left-over image: " + name);
    if (const Result<> removed = store_.disk().remove(store_.staging_dir() + "/" + name); !removed) log::warn("store", removed.error().text());
  }
  seen_ = std::move(seen);
}

std::vector<Images::Progress> Images::progress() const {
  const std::lock_guard lock(mutex_);
  std::vector<Progress> out;
  const auto add = [&](const char* what, const std::unique_ptr<ImageFetch>& fetch) {
    if (fetch && !fetch->over()) out.push_back({what, fetch->source().addr, fetch->source().bytes, fetch->received()});
  };
  add("snapshot", install_);
  add("state", state_);
  for (const auto& [name, fetch] : loads_) add("load", fetch);
  return out;
}

}  // namespace rq::cluster
