#include "store/scrubber.h"

#include "base/log.h"
#include "base/thread_name.h"
#include "executor/image_digest.h"

namespace rq::store {
namespace {
constexpr std::size_t kPieceBytes = 1u << 20;
}

void Scrubber::start() {
  thread_ = std::thread([this] { run(); });
}

void Scrubber::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Scrubber::begin(Index index) {
  {
    const std::lock_guard lock(mutex_);
    if (busy_ || stop_ || !thread_.joinable()) return;
  }
  Result<raft::MachineSnapshot> held = machine_.snapshot();
  if (!held) return log::warn("scrub", "could not hold the database: " + held.error().text());
  const std::lock_guard lock(mutex_);
  state_ = {.index = index, .total = held->bytes, .begun = clock_.wall()};
  waiting_ = *std::move(held);
  busy_ = true;
  changed_.notify_all();
}

void Scrubber::forget() {
  const std::lock_guard lock(mutex_);
  state_ = {.begun = state_.begun};
}

Scrubber::State Scrubber::newest() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

bool Scrubber::pause_until(SteadyTime time) {
  std::unique_lock lock(mutex_);
  while (!stop_ && clock_.now() < time) changed_.wait_for(lock, time - clock_.now());
  return !stop_;
}

void Scrubber::run() {
  name_this_thread("scrub");
  yield_to_requests();
  for (;;) {
    raft::MachineSnapshot snapshot;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stop_ || waiting_; });
      if (!waiting_) return;
      snapshot = *std::exchange(waiting_, std::nullopt);
    }
    scrub(snapshot);
    machine_.release(snapshot.id);
    const std::lock_guard lock(mutex_);
    busy_ = false;
    if (stop_) return;
  }
}

void Scrubber::scrub(const raft::MachineSnapshot& snapshot) {
  executor::ImageDigest digest(machine_, snapshot);
  const SteadyTime begun = clock_.now();
  for (;;) {
    const Result<bool> done = digest.step(kPieceBytes);
    const std::chrono::nanoseconds due(static_cast<std::int64_t>(static_cast<double>(digest.done()) / static_cast<double>(bytes_per_second_) * 1e9));
    {
      const std::lock_guard lock(mutex_);
      if (state_.index != snapshot.index) return;      // forgotten
      state_.done = digest.done();
      if (!done) state_.error = done.error().text();
      if (done && *done) state_.value = digest.value();
    }
    if (!done) return log::warn("scrub", "ended early, index=" + std::to_string(snapshot.index.value) + ": " + done.error().text());
    if (*done) return;
    if (!pause_until(begun + due)) return;
  }
}

}  // namespace rq::store
