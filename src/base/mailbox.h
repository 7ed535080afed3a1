// Mailbox: a bounded many-to-one queue whose single reader takes everything that waits in one step.
//
// Any thread posts; exactly one thread takes. A post wakes the reader only if it sleeps, so a busy reader
// costs the writers one short lock each and no system call. Closing wakes the reader for good.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

namespace rq {

template <class T>
class Mailbox {
 public:
  explicit Mailbox(std::size_t capacity = SIZE_MAX) : capacity_(capacity) {}

  // False: full or closed; the value is left with the caller.
  bool post(T&& value) {
    bool wake = false;
    {
      const std::lock_guard lock(mutex_);
      if (closed_ || items_.size() >= capacity_) return false;
      items_.push_back(std::move(value));
      wake = sleeping_;
      sleeping_ = false;
    }
    if (wake) ready_.notify_one();
    return true;
  }

  // Replaces `out` by all waiting values, oldest first. Waits until there is one, the deadline passes, or the
  // mailbox is closed. False: closed and empty.
  template <class TimePoint>
  bool take(std::vector<T>& out, TimePoint deadline) {
    out.clear();
    std::unique_lock lock(mutex_);
    while (items_.empty() && !closed_) {
      sleeping_ = true;
      if (ready_.wait_until(lock, deadline) == std::cv_status::timeout) break;
    }
    sleeping_ = false;
    out.swap(items_);
    return !(closed_ && out.empty());
  }
  bool take(std::vector<T>& out) {  // without deadline
    out.clear();
    std::unique_lock lock(mutex_);
    while (items_.empty() && !closed_) {
      sleeping_ = true;
      ready_.wait(lock);
    }
    sleeping_ = false;
    out.swap(items_);
    return !(closed_ && out.empty());
  }
  bool try_take(std::vector<T>& out) {
    out.clear();
    const std::lock_guard lock(mutex_);
    out.swap(items_);
    return !out.empty();
  }

  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    ready_.notify_all();
  }
  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return items_.size();
  }

 private:
  mutable std::mutex mutex_;  // guards all below
  std::condition_variable ready_;
  std::vector<T> items_;
  bool closed_ = false;
  bool sleeping_ = false;
  const std::size_t capacity_;
};

}  // namespace rq
