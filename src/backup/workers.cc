#include "backup/workers.h"

#include <atomic>

#include "base/thread_name.h"

namespace rq::backup {

bool Workers::post(std::function<void()> task) {
  const std::lock_guard lock(mutex_);
  if (stopping_) return false;
  tasks_.push_back(std::move(task));
  if (sleeping_ >= tasks_.size() || threads_.size() >= threads_max_) {
    ready_.notify_one();
  } else {
    threads_.emplace_back([this, number = threads_.size()] {
      name_this_thread(("backup-" + std::to_string(number)).c_str());
      run();
    });
  }
  return true;
}

void Workers::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++sleeping_;
    ready_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
    --sleeping_;
    if (tasks_.empty()) return;
    std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
}

void Workers::stop() {
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    threads.swap(threads_);
    ready_.notify_all();
  }
  for (std::thread& thread : threads) thread.join();
}

namespace {

class Stream final : public ByteSource {
 public:
  Stream(std::unique_ptr<Source> source, Workers& workers) : state_(std::make_shared<State>()), workers_(workers) { state_->source = std::move(source); }
  ~Stream() override {
    state_->given_up.store(true);
    state_->source->cancel();
    workers_.post([state = std::move(state_)]() mutable { state.reset(); });
  }
  void next(std::function<void(Result<Piece>)> done) override {
    const bool posted = workers_.post([state = state_, done] { done(state->given_up.load() ? Result<Piece>(fail(Errc::Canceled)) : state->source->next()); });
    if (!posted) done(fail(Errc::NotOpen));
  }

 private:
  struct State {
    std::unique_ptr<Source> source;
    std::atomic<bool> given_up{false};
  };
  std::shared_ptr<State> state_;
  Workers& workers_;
};

}  // namespace

std::shared_ptr<ByteSource> stream(std::unique_ptr<Source> source, Workers& workers) { return std::make_shared<Stream>(std::move(source), workers); }

}  // namespace rq::backup
