#include "cluster/image_server.h"

#include <xxhash.h>
#include <zstd.h>

#include <algorithm>

#include "base/log.h"
#include "base/thread_name.h"
#include "cluster/cluster.pb.h"

namespace rq::cluster {
namespace {

constexpr std::size_t kWaitingMax = 256;
constexpr auto kHeldIdle = std::chrono::seconds(60);
constexpr auto kLook = std::chrono::seconds(5);
constexpr int kCompression = 1;                 // the network is seldom slower than that

}  // namespace

std::uint64_t piece_checksum(std::string_view bytes, std::uint64_t offset) { return XXH3_64bits_withSeed(bytes.data(), bytes.size(), offset); }

bool is_staged_name(std::string_view name) {
  const auto allowed = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  return !name.empty() && name.size() <= 100 && std::ranges::all_of(name, allowed);
}

ImageServer::ImageServer(store::Store& store, const Clock& clock, IsMember is_member)
    : store_(store), clock_(clock), is_member_(std::move(is_member)), thread_([this] { run(); }) {}

void ImageServer::stop() {
  std::deque<Request> left;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    left.swap(requests_);
  }
  changed_.notify_all();
  for (const Request& request : left) request.responder->reply(fail(Errc::Closed));
  if (thread_.joinable()) thread_.join();
}

void ImageServer::read(std::string payload, std::shared_ptr<transport::Responder> responder) {
  {
    const std::lock_guard lock(mutex_);
    if (!stop_ && requests_.size() < kWaitingMax) {
      requests_.push_back({std::move(payload), std::move(responder)});
      changed_.notify_one();
      return;
    }
  }
  responder->reply(fail(Errc::Busy, "too many wait for images"));
}

void ImageServer::hold(const std::string& payload, std::shared_ptr<transport::Responder> responder) {
  pb::HoldStateRequest message;
  if (!message.ParseFromString(payload)) return responder->reply(fail(Errc::BadRequest, "unreadable request"));
  if (!is_member_(message.reader().cluster_id(), RaftId{message.reader().raft_id()})) return responder->reply(fail(Errc::Unauthorized));
  store_.replica().hold_state([this, responder = std::move(responder)](const Result<raft::MachineSnapshot>& made) {
    if (!made) return responder->reply(fail(made.error()));
    {
      const std::lock_guard lock(mutex_);
      held_[made->id] = clock_.now();
    }
    pb::HoldStateResponse out;
    out.set_index(made->index.value);
    out.set_term(made->term.value);
    out.set_image_id(made->id);
    out.set_bytes(made->bytes);
    out.set_machine(made->data);
    for (const RaftId id : made->copied_from) out.add_copied_from(id.value);
    responder->reply(out.SerializeAsString());
  });
}

void ImageServer::run() {
  name_this_thread("images");
  yield_to_requests();
  std::unique_lock lock(mutex_);
  while (!stop_) {
    changed_.wait_for(lock, kLook, [this] { return stop_ || !requests_.empty(); });
    if (stop_) return;
    if (requests_.empty()) {
      lock.unlock();
      open_file_.reset();                       // a file that is gone frees its space
      let_go(clock_.now());
      lock.lock();
      continue;
    }
    const Request request = std::move(requests_.front());
    requests_.pop_front();
    lock.unlock();
    request.responder->reply(piece(request.payload));
    lock.lock();
  }
}

Result<std::string> ImageServer::piece(const std::string& payload) {
  pb::ReadImageRequest message;
  if (!message.ParseFromString(payload)) return fail(Errc::BadRequest, "unreadable request");
  if (!is_member_(message.reader().cluster_id(), RaftId{message.reader().raft_id()})) return fail(Errc::Unauthorized);
  if (message.size() == 0 || message.size() > kImagePieceBytes) return fail(Errc::BadRequest, "a piece is 1 MiB at most");
  std::string bytes;
  if (message.image_id() != 0) {
    RQ_TRY(bytes, store_.replica().machine().persist(message.image_id(), message.offset(), message.size()));
    store_.replica().snapshot_used(message.image_id());
    const std::lock_guard lock(mutex_);
    if (const auto held = held_.find(message.image_id()); held != held_.end()) held->second = clock_.now();
  } else {
    RQ_TRY(bytes, staged_piece(message.staged(), message.offset(), message.size()));
  }
  bytes_sent_.fetch_add(bytes.size(), std::memory_order_relaxed);
  pb::ReadImageResponse out;
  out.set_checksum(piece_checksum(bytes, message.offset()));
  if (message.zstd()) {
    std::string packed(ZSTD_compressBound(bytes.size()), '\0');
    const std::size_t size = ZSTD_compress(packed.data(), packed.size(), bytes.data(), bytes.size(), kCompression);
    if (ZSTD_isError(size) == 0 && size < bytes.size()) {
      packed.resize(size);
      out.set_zstd(true);
      bytes = std::move(packed);
    }
  }
  out.set_data(std::move(bytes));
  return out.SerializeAsString();
}

Result<std::string> ImageServer::staged_piece(const std::string& name, std::uint64_t offset, std::size_t size) {
  if (!is_staged_name(name)) return fail(Errc::BadRequest, "not the name of an image");
  if (!open_file_ || open_name_ != name) {
    open_file_.reset();
    RQ_TRY(open_file_, store_.disk().open(store_.staging_dir() + "/" + name, io::OpenMode::ReadOnly));
    open_name_ = name;
  }
  return open_file_->read_at(offset, size);
}

void ImageServer::let_go(SteadyTime now) {
  std::vector<std::uint64_t> over;
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(held_, [&](const auto& held) {
      if (now - held.second < kHeldIdle) return false;
      over.push_back(held.first);
      return true;
    });
  }
  for (const std::uint64_t id : over) store_.replica().machine().release(id);
}

}  // namespace rq::cluster
