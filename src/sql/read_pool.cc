#include "sql/read_pool.h"

#include <algorithm>

#include "base/thread_name.h"

namespace rq::sql {
namespace {
constexpr std::size_t kIdleKept = 8;   // connections that nobody uses
}

PinnedRead::~PinnedRead() {
  if (!reader_) return;
  reader_->end_snapshot();
  pool_->give_back(std::move(reader_));
}

Result<std::unique_ptr<Reader>> ReadPool::take_reader(IfNone if_none) {
  std::unique_lock lock(mutex_);
  const auto limit = options_.connections_max <= 0 ? SIZE_MAX : static_cast<std::size_t>(options_.connections_max);
  if (idle_.empty() && in_use_.size() >= limit) {
    if (if_none == IfNone::Fail) return fail(Errc::Busy, "all read connections are in use");
    ++waits_;
    freed_.wait(lock, [&] { return stopping_ || !idle_.empty() || in_use_.size() < limit; });
  }
  if (stopping_) return fail(Errc::NotOpen);
  std::unique_ptr<Reader> reader;
  if (!idle_.empty()) {
    reader = std::move(idle_.back());
    idle_.pop_back();
  } else {
    lock.unlock();
    RQ_TRY(reader, Reader::open(options_.reader));
    lock.lock();
  }
  in_use_.push_back(reader.get());
  return reader;
}

void ReadPool::give_back(std::unique_ptr<Reader> reader) {
  std::unique_ptr<Reader> surplus;
  const std::lock_guard lock(mutex_);
  std::erase(in_use_, reader.get());
  if (idle_.size() < kIdleKept && !stopping_) idle_.push_back(std::move(reader));
  else surplus = std::move(reader);
  freed_.notify_one();
}

Result<> ReadPool::enqueue(std::function<void(const Error*)> work) {
  const std::lock_guard lock(mutex_);
  if (stopping_) return fail(Errc::NotOpen);
  if (queue_.size() >= options_.queue_max) return fail(Errc::Busy, "too many reads wait");
  queue_.push_back(std::move(work));
  if (sleeping_ >= queue_.size() || threads_.size() >= options_.threads_max) {
    ready_.notify_one();
  } else {
    const auto number = threads_.size();
    threads_.emplace_back([this, number] {
      name_this_thread(("read-" + std::to_string(number)).c_str());
      run();
    });
  }
  return {};
}

Result<> ReadPool::submit(Job job) {
  return enqueue([this, job = std::move(job)](const Error* stopped) {
    if (stopped != nullptr) return job(nullptr, stopped);
    Result<std::unique_ptr<Reader>> reader = take_reader(IfNone::Wait);
    if (!reader) return job(nullptr, &reader.error());
    job(reader->get(), nullptr);
    give_back(*std::move(reader));
  });
}

Result<PinnedRead> ReadPool::pin() {
  RQ_TRY(std::unique_ptr<Reader> reader, take_reader(IfNone::Fail));   // the apply thread waits for no reader
  if (const Result<> begun = reader->begin_snapshot(); !begun) {
    give_back(std::move(reader));
    return fail(begun.error());
  }
  return PinnedRead(*this, std::move(reader));
}

// The job runs even while the pool stops: those who wait for it are answered.
Result<> ReadPool::submit_pinned(std::shared_ptr<PinnedRead> pinned, std::function<void(Reader&)> job) {
  return enqueue([pinned = std::move(pinned), job = std::move(job)](const Error*) mutable {
    job(pinned->reader());
    pinned.reset();
  });
}

void ReadPool::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++sleeping_;
    ready_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    --sleeping_;
    if (queue_.empty()) return;
    auto work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    static const Error kStopped{Errc::NotOpen, {}};
    work(stopping_ ? &kStopped : nullptr);
    work = nullptr;
    lock.lock();
  }
}

void ReadPool::interrupt() {
  const std::lock_guard lock(mutex_);
  for (Reader* reader : in_use_) reader->interrupt();
}

void ReadPool::stop() {
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (Reader* reader : in_use_) reader->interrupt();
    threads.swap(threads_);
    ready_.notify_all();
    freed_.notify_all();
  }
  for (std::thread& thread : threads) thread.join();
  const std::lock_guard lock(mutex_);
  idle_.clear();
}

ReadPool::Stats ReadPool::stats() const {
  const std::lock_guard lock(mutex_);
  return {.connections = idle_.size() + in_use_.size(), .busy = in_use_.size(), .waits = waits_};
}

}  // namespace rq::sql
