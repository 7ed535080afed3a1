#include "transport/loop.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#pragma GCC diagnostic pop

#include <optional>

#include "base/assert.h"

namespace rq::transport {

namespace net = boost::asio;
using boost::system::error_code;
using Executor = net::io_context::executor_type;

struct Loop::Inside {
  net::io_context context{1};
  std::optional<net::executor_work_guard<Executor>> work{context.get_executor()};
};

Loop::Loop() : inside_(std::make_unique<Inside>()) {}
Loop::~Loop() = default;
void Loop::post(std::function<void()> job) { net::post(inside_->context, std::move(job)); }
void Loop::run() { inside_->context.run(); }
void Loop::finish() { inside_->work.reset(); }
void Loop::run_one() { inside_->context.run_one(); }

// ---- timers

struct Loop::Timer::State {
  explicit State(net::io_context& context) : timer(context.get_executor()) {}
  net::basic_waitable_timer<std::chrono::steady_clock, net::wait_traits<std::chrono::steady_clock>, Executor> timer;
  std::function<void()> job;
  std::uint64_t round = 0;                         // a completion of an earlier round is void
};

Loop::Timer::Timer(Loop& loop) : state_(std::make_shared<State>(loop.inside_->context)) {}
Loop::Timer::~Timer() { cancel(); }

void Loop::Timer::at(SteadyTime when, std::function<void()> job) {
  state_->job = std::move(job);
  const std::uint64_t round = ++state_->round;
  state_->timer.expires_at(when);
  state_->timer.async_wait([state = state_, round](const error_code&) {
    if (state->round != round) return;
    const std::function<void()> due = std::exchange(state->job, nullptr);
    due();
  });
}

void Loop::Timer::cancel() {
  ++state_->round;
  state_->job = nullptr;
  state_->timer.cancel();
}

// ---- descriptors

struct Loop::Watch::State {
  State(net::io_context& context, int fd) : descriptor(context.get_executor(), fd) {}
  net::posix::basic_descriptor<Executor> descriptor;
  std::function<void()> readable, writable;
  bool open = true;
};

Loop::Watch::Watch(Loop& loop, int descriptor, std::function<void()> readable, std::function<void()> writable)
    : state_(std::make_shared<State>(loop.inside_->context, descriptor)) {
  state_->readable = std::move(readable);
  state_->writable = std::move(writable);
}

Loop::Watch::~Watch() {
  state_->open = false;
  (void)state_->descriptor.release();
}

void Loop::Watch::wait_readable() {
  state_->descriptor.async_wait(net::posix::descriptor_base::wait_read, [state = state_](const error_code&) {
    if (state->open) state->readable();
  });
}

void Loop::Watch::wait_writable() {
  state_->descriptor.async_wait(net::posix::descriptor_base::wait_write, [state = state_](const error_code&) {
    if (state->open) state->writable();
  });
}

}  // namespace rq::transport
