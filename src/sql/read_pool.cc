#include "sql/read_pool.h"

#include <algorithm>

#include "base/thread_name.h"

namespace rq::sql {
namespace {
constexpr auto kLongRead = std::chrono::milliseconds(50);
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
  const auto free = [&] { return !exchanging_ && !draining_ && (!idle_.empty() || in_use_.size() < limit); };
  if (!free()) {
    if (if_none == IfNone::Fail) return fail(Errc::Busy, "all read connections are in use");
    ++waits_;
    freed_.wait(lock, [&] { return stopping_ || free(); });
  }
  if (stopping_) return fail(Errc::NotOpen);
  std::unique_ptr<Reader> reader;
  if (!idle_.empty()) {
    reader = std::move(idle_.back());
    idle_.pop_back();
    in_use_.push_back({reader.get(), exchanges_, options_.reader.clock->now()});
    return reader;
  }
  in_use_.push_back({nullptr, exchanges_, options_.reader.clock->now()});       // counts as a reader while it is opened
  lock.unlock();
  Result<std::unique_ptr<Reader>> opened = Reader::open(options_.reader);
  lock.lock();
  const auto place = std::ranges::find(in_use_, static_cast<Reader*>(nullptr), &InUse::reader);
  if (opened) {
    place->reader = opened->get();
    if (exchanging_) freed_.notify_all();
  } else {
    in_use_.erase(place);
    freed_.notify_all();
  }
  return opened;
}

void ReadPool::give_back(std::unique_ptr<Reader> reader) {
  std::unique_ptr<Reader> surplus;
  {
    const std::lock_guard lock(mutex_);
    const auto place = std::ranges::find(in_use_, reader.get(), &InUse::reader);
    const bool current = place->exchanges == exchanges_;
    in_use_.erase(place);
    if (current && idle_.size() < kIdleKept && !stopping_) idle_.push_back(std::move(reader));
    else surplus = std::move(reader);
    if (!draining_ && !exchanging_) freed_.notify_one();
    else freed_.notify_all();                       // who drains waits on it too
  }
}

void ReadPool::begin_exchange() {
  std::vector<std::unique_ptr<Reader>> closed;      // outside the lock
  std::unique_lock lock(mutex_);
  exchanging_ = true;
  ++exchanges_;
  closed.swap(idle_);
  // One that is just being opened would show either file.
  freed_.wait(lock, [this] { return std::ranges::none_of(in_use_, [](const auto& used) { return used.reader == nullptr; }); });
}

void ReadPool::end_exchange() {
  const std::lock_guard lock(mutex_);
  exchanging_ = false;
  freed_.notify_all();
}

bool ReadPool::drain(std::chrono::milliseconds within) {
  std::unique_lock lock(mutex_);
  // Who has read for so long goes on reading: waiting for it would be in vain.
  const SteadyTime long_ago = options_.reader.clock->now() - kLongRead;
  if (std::ranges::any_of(in_use_, [&](const InUse& used) { return used.since < long_ago; })) return false;
  draining_ = true;
  return freed_.wait_for(lock, within, [this] { return in_use_.empty(); });
}

void ReadPool::admit() {
  const std::lock_guard lock(mutex_);
  draining_ = false;
  freed_.notify_all();
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

void ReadPool::interrupt_readers() {
  for (const InUse& used : in_use_)
    if (used.reader != nullptr) used.reader->interrupt();
}

void ReadPool::interrupt() {
  const std::lock_guard lock(mutex_);
  interrupt_readers();
}

void ReadPool::stop() {
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    interrupt_readers();
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
  return {.connections = idle_.size() + in_use_.size(), .busy = in_use_.size(), .waiting = queue_.size(), .waits = waits_};
}

}  // namespace rq::sql
