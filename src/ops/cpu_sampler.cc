#include "ops/cpu_sampler.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <set>
#include <utility>

#include "base/thread_name.h"
#include "ops/symbols.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

namespace rq::ops {
namespace {

constexpr std::size_t kRing = 2048;
constexpr std::size_t kStacksMax = 50'000;           // different ones; what comes later is counted as lost
constexpr auto kCollectEvery = std::chrono::milliseconds(100);

enum : int { kFree, kWriting, kFull };
struct Sample {
  std::atomic<int> state{kFree};
  int thread = 0;
  Stack stack;
};
Sample ring[kRing];
std::atomic<std::uint64_t> next_slot{0};
std::atomic<std::uint64_t> dropped{0};
std::atomic<bool> running{false};

void on_sample(int, siginfo_t*, void* context) {
  const int saved = errno;
  Sample& sample = ring[next_slot.fetch_add(1, std::memory_order_relaxed) % kRing];
  int expected = kFree;
  if (sample.state.compare_exchange_strong(expected, kWriting, std::memory_order_acquire)) {
    sample.thread = static_cast<int>(::syscall(SYS_gettid));
    capture_interrupted(sample.stack, context);
    sample.state.store(kFull, std::memory_order_release);
  } else {
    dropped.fetch_add(1, std::memory_order_relaxed);
  }
  errno = saved;
}

// The clock of a thread's processor time, as the kernel numbers them: the complement of its id, then "per thread, scheduler".
clockid_t clock_of_thread(int id) { return static_cast<clockid_t>((~static_cast<unsigned>(id) << 3) | 6u); }

}  // namespace

Result<std::unique_ptr<CpuSampler>> CpuSampler::start(unsigned samples_per_second) {
  if (running.exchange(true)) return fail(Errc::Busy, "cpu profiling already in use");
  prepare_capture();
  struct sigaction action {};
  action.sa_sigaction = on_sample;
  action.sa_flags = SA_RESTART | SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGPROF, &action, nullptr);
  dropped.store(0);
  return std::unique_ptr<CpuSampler>(new CpuSampler(samples_per_second));
}

CpuSampler::CpuSampler(unsigned samples_per_second) : rate_(samples_per_second), thread_([this] { run(); }) {}

CpuSampler::~CpuSampler() {
  if (thread_.joinable()) end_thread();
}

void CpuSampler::run() {
  name_this_thread("cpu-profile");
  std::unique_lock lock(mutex_);
  do {
    lock.unlock();
    watch_new_threads();
    collect();
    lock.lock();
  } while (!wake_.wait_for(lock, kCollectEvery, [this] { return stopping_; }));
}

void CpuSampler::watch_new_threads() {
  std::set<int> alive;
  for (ThreadName& thread : threads_of_process()) {
    alive.insert(thread.id);
    names_[thread.id] = thread.name;                       // a thread names itself after it began
    if (threads_.contains(thread.id) || thread.name == "cpu-profile") continue;
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGPROF;
    event.sigev_notify_thread_id = thread.id;
    timer_t timer{};
    if (::timer_create(clock_of_thread(thread.id), &event, &timer) != 0) continue;
    const timespec every{0, static_cast<long>(1'000'000'000 / rate_)};
    const itimerspec times{every, every};
    ::timer_settime(timer, 0, &times, nullptr);
    threads_.emplace(thread.id, Watched{timer, thread.name});
  }
  for (auto it = threads_.begin(); it != threads_.end();) {
    if (alive.contains(it->first)) {
      ++it;
      continue;
    }
    ::timer_delete(it->second.timer);
    it = threads_.erase(it);
  }
}

void CpuSampler::collect() {
  for (Sample& sample : ring) {
    if (sample.state.load(std::memory_order_acquire) != kFull) continue;
    std::vector<std::uintptr_t> key{static_cast<std::uintptr_t>(sample.thread)};
    key.insert(key.end(), sample.stack.addresses.begin(), sample.stack.addresses.begin() + sample.stack.depth);
    sample.state.store(kFree, std::memory_order_release);
    if (const auto known = stacks_.find(key); known != stacks_.end()) ++known->second;
    else if (stacks_.size() < kStacksMax) stacks_.emplace(std::move(key), 1);
    else ++lost_;
  }
}

void CpuSampler::end_thread() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
  for (const auto& [id, watched] : threads_) ::timer_delete(watched.timer);
  threads_.clear();
  collect();                                               // SIGPROF stays handled: one may still be on its way
  running.store(false);
}

std::string CpuSampler::stop() {
  end_thread();
  Symbols symbols;
  std::map<std::string, std::uint64_t> lines;
  for (const auto& [key, count] : stacks_) {
    const auto name = names_.find(static_cast<int>(key.front()));
    std::string line = name == names_.end() || name->second.empty() ? "thread" : name->second;
    for (std::size_t i = key.size(); i-- > 1;) line.append(";").append(symbols.name(key[i]));
    lines[line] += count;
  }
  std::string out;
  for (const auto& [line, count] : lines) out += line + " " + std::to_string(count) + "\n";
  if (const std::uint64_t lost = lost_ + dropped.load(); lost > 0) out += "[lost samples] " + std::to_string(lost) + "\n";
  return out;
}

}  // namespace rq::ops
