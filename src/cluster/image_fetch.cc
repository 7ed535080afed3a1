#include "cluster/image_fetch.h"

#include <zstd.h>

#include <algorithm>

#include "base/digest.h"
#include "base/log.h"
#include "base/thread_name.h"
#include "cluster/cluster.pb.h"
#include "cluster/image_server.h"

namespace rq::cluster {
namespace {

constexpr std::uint64_t kWindow = 8;                    // pieces on their way
constexpr std::uint64_t kSyncEvery = 32u << 20;         // bytes: what a crash may cost, and what a sync has to write
constexpr auto kPieceTime = std::chrono::seconds(10);
constexpr auto kRetryPause = std::chrono::milliseconds(200);

}  // namespace

ImageFetch::ImageFetch(transport::Transport& transport, io::Disk& disk, const Clock& clock, ImageFetchOptions options, ImageSource source,
                       std::string path, std::function<void(Result<>)> done)
    : transport_(transport), disk_(disk), clock_(clock), options_(options), source_(std::move(source)), path_(std::move(path)), done_(std::move(done)),
      thread_([this] { run(); }) {}

void ImageFetch::stop() {
  {
    const std::lock_guard lock(arrivals_->mutex);
    arrivals_->stopped = true;
  }
  arrivals_->changed.notify_all();
  if (thread_.joinable() && thread_.get_id() != std::this_thread::get_id()) thread_.join();
}

void ImageFetch::run() {
  name_this_thread("image-fetch");
  yield_to_requests();
  const SteadyTime begun = clock_.now();
  Result<> result = fetch();
  file_.reset();
  const double seconds = std::chrono::duration<double>(clock_.now() - begun).count();
  if (result) {
    log::info("store", "image of " + std::to_string(source_.bytes) + " bytes received from " + source_.addr + " in " + std::to_string(seconds) + "s");
  } else if (result.error().code != Errc::Canceled) {
    log::warn("store", "image from " + source_.addr + " not received: " + result.error().text());
  }
  done_(std::move(result));
  over_.store(true, std::memory_order_release);
}

bool ImageFetch::pause(std::chrono::nanoseconds time) {
  std::unique_lock lock(arrivals_->mutex);
  return !arrivals_->changed.wait_for(lock, time, [this] { return arrivals_->stopped; });
}

// How much of this very image is here for good.
Result<std::uint64_t> ImageFetch::resume() {
  RQ_TRY(file_, disk_.open(path_ + ".part", io::OpenMode::CreateOrOpen));
  std::uint64_t durable = 0;
  if (const Result<std::string> text = io::read_file(disk_, note_path(), 1u << 20)) {
    const std::size_t end = text->find('\n');
    if (end != std::string::npos && text->substr(end + 1) == source_.identity) durable = std::strtoull(text->c_str(), nullptr, 10);
  }
  RQ_TRY(const std::uint64_t size, file_->size());
  if (durable > size || durable > source_.bytes) durable = 0;
  if (size != durable) RQ_CHECK(file_->truncate(durable));
  return durable;
}

Result<> ImageFetch::note(std::uint64_t durable) {
  RQ_CHECK(file_->sync());
  return io::write_file_atomically(disk_, note_path(), std::to_string(durable) + "\n" + source_.identity);
}

void ImageFetch::ask(std::uint64_t offset) {
  pb::ReadImageRequest request;
  request.mutable_reader()->set_cluster_id(options_.cluster_id);
  request.mutable_reader()->set_raft_id(options_.self.value);
  request.set_image_id(source_.image_id);
  request.set_staged(source_.staged);
  request.set_offset(offset);
  request.set_size(kImagePieceBytes);
  request.set_zstd(options_.zstd);
  transport_.call(source_.addr, transport::CallType::ReadImage, request.SerializeAsString(), clock_.now() + kPieceTime,
                  [arrivals = arrivals_, offset](Result<std::string> piece) {
                    const std::lock_guard lock(arrivals->mutex);
                    arrivals->pieces.insert_or_assign(offset, std::move(piece));
                    arrivals->changed.notify_all();
                  });
}

std::optional<Result<std::string>> ImageFetch::wait_for(std::uint64_t offset) {
  std::unique_lock lock(arrivals_->mutex);
  arrivals_->changed.wait(lock, [&] { return arrivals_->stopped || arrivals_->pieces.contains(offset); });
  if (arrivals_->stopped) return std::nullopt;
  Result<std::string> piece = std::move(arrivals_->pieces.at(offset));
  arrivals_->pieces.erase(offset);
  return piece;
}

Result<std::string> ImageFetch::unpack(std::uint64_t offset, const std::string& payload) const {
  pb::ReadImageResponse piece;
  if (!piece.ParseFromString(payload)) return fail(Errc::Corrupt, "unreadable piece");
  const std::uint64_t expected = std::min<std::uint64_t>(kImagePieceBytes, source_.bytes - offset);
  std::string bytes;
  if (piece.zstd()) {
    bytes.resize(expected);
    const std::size_t size = ZSTD_decompress(bytes.data(), bytes.size(), piece.data().data(), piece.data().size());
    if (ZSTD_isError(size) != 0 || size != expected) return fail(Errc::Corrupt, "a piece can't be unpacked");
  } else {
    bytes = std::move(*piece.mutable_data());
  }
  if (bytes.size() != expected || piece_checksum(bytes, offset) != piece.checksum())
    return fail(Errc::Corrupt, "a piece at " + std::to_string(offset) + " has a wrong checksum or size");
  return bytes;
}

Result<> ImageFetch::fetch() {
  RQ_TRY(std::uint64_t at, resume());
  if (at > 0) log::info("store", "image from " + source_.addr + " goes on at byte " + std::to_string(at));
  received_ = at;
  std::uint64_t asked = at, noted = at;
  SteadyTime progress = clock_.now(), paced_from = progress;
  std::uint64_t paced_bytes = 0;
  while (at < source_.bytes) {
    for (; asked < source_.bytes && asked < at + kWindow * kImagePieceBytes; asked += kImagePieceBytes) ask(asked);
    std::optional<Result<std::string>> arrived = wait_for(at);
    if (!arrived) return fail(Errc::Canceled);
    Result<std::string> bytes = *arrived ? unpack(at, **arrived) : std::move(*arrived);
    if (!bytes) {
      // What can't get better by asking again ends it; a source that restarts is waited for.
      const Errc code = bytes.error().code;
      if (code == Errc::NotFound || code == Errc::Unauthorized || code == Errc::BadRequest) return fail(bytes.error());
      if (clock_.now() - progress > options_.patience) return fail(Errc::Timeout, "no piece came for a while: " + bytes.error().text());
      if (!pause(kRetryPause)) return fail(Errc::Canceled);
      ask(at);
      continue;
    }
    RQ_CHECK(file_->write_at(at, *bytes));
    at += bytes->size();
    received_.store(at, std::memory_order_relaxed);
    progress = clock_.now();
    if (at - noted >= kSyncEvery && at < source_.bytes) {
      RQ_CHECK(note(at));
      noted = at;
    }
    if (options_.bytes_per_second_max == 0) continue;
    paced_bytes += bytes->size();
    const auto due = paced_from + std::chrono::nanoseconds(static_cast<std::int64_t>(1e9 * static_cast<double>(paced_bytes) /
                                                                                      static_cast<double>(options_.bytes_per_second_max)));
    if (due > progress && !pause(due - progress)) return fail(Errc::Canceled);
    if (due + std::chrono::seconds(1) < progress) {   // it was slower than allowed: no catching up
      paced_from = progress;
      paced_bytes = 0;
    }
  }
  RQ_CHECK(note(at));
  if (!source_.digest.empty()) RQ_CHECK(check_whole());
  file_.reset();
  RQ_CHECK(disk_.rename(path_ + ".part", path_));
  const std::string dir = path_.substr(0, path_.rfind('/'));
  RQ_CHECK(disk_.sync_dir(dir));
  return disk_.remove(note_path());
}

Result<> ImageFetch::check_whole() {
  Digest digest;
  for (std::uint64_t at = 0; at < source_.bytes;) {
    RQ_TRY(const std::string bytes, file_->read_at(at, kImagePieceBytes));
    if (bytes.empty()) return fail(Errc::Io, path_ + ".part ended early");
    digest.add(bytes);
    at += bytes.size();
  }
  if (digest.value() == source_.digest) return {};
  RQ_CHECK(disk_.remove(note_path()));           // begin anew next time
  return fail(Errc::Corrupt, "the image from " + source_.addr + " is not what was promised");
}

}  // namespace rq::cluster
