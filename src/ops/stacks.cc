#include "ops/stacks.h"

#include <poll.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "ops/symbols.h"

namespace rq::ops {
namespace {

_Unwind_Reason_Code note_frame(_Unwind_Context* context, void* data) {
  auto& out = *static_cast<Stack*>(data);
  int before = 0;
  const std::uintptr_t address = _Unwind_GetIPInfo(context, &before);
  if (address == 0 || out.depth >= kStackDepthMax) return _URC_END_OF_STACK;
  // A return address may lie behind the last byte of its caller.
  out.addresses[out.depth++] = before != 0 ? address : address - 1;
  return _URC_NO_REASON;
}

struct Slot {
  std::atomic<int> wanted{0};        // id of the thread that is asked
  std::atomic<bool> filled{false};
  Stack stack;
};
Slot slot;

void on_signal(int, siginfo_t*, void* context) {
  const int saved = errno;
  int self = static_cast<int>(::syscall(SYS_gettid));
  if (slot.wanted.compare_exchange_strong(self, 0)) {
    capture_interrupted(slot.stack, context);
    slot.filled.store(true, std::memory_order_release);
  }
  errno = saved;
}

const int kSignal = SIGRTMIN + 3;

void append_frames(std::string& out, const Stack& stack, Symbols& symbols) {
  for (std::uint32_t i = 0; i < stack.depth; ++i) out.append("    ").append(symbols.name(stack.addresses[i])).append("\n");
}

std::uintptr_t interrupted_address(void* context) {
  const auto* machine = static_cast<const ucontext_t*>(context);
#if defined(__x86_64__)
  return static_cast<std::uintptr_t>(machine->uc_mcontext.gregs[REG_RIP]);
#elif defined(__aarch64__)
  return machine->uc_mcontext.pc;
#else
  return (void)machine, 0;
#endif
}

}  // namespace

void capture_stack(Stack& out) {
  out.depth = 0;
  _Unwind_Backtrace(note_frame, &out);
}

// The handler's own frames and the kernel's come first: they are dropped.
void capture_interrupted(Stack& out, void* context) {
  capture_stack(out);
  const auto end = out.addresses.begin() + out.depth;
  const auto first = std::find(out.addresses.begin(), end, interrupted_address(context));
  if (first == end) return;
  std::copy(first, end, out.addresses.begin());
  out.depth = static_cast<std::uint32_t>(end - first);
}

void prepare_capture() {
  Stack stack;
  capture_stack(stack);
}

std::vector<ThreadName> threads_of_process() {
  std::vector<ThreadName> out;
  std::error_code error;
  for (std::filesystem::directory_iterator entry("/proc/self/task", error), end; !error && entry != end; entry.increment(error)) {
    std::string name;
    std::getline(std::ifstream(entry->path() / "comm"), name);
    out.push_back({std::atoi(entry->path().filename().c_str()), name});
  }
  std::ranges::sort(out, {}, &ThreadName::id);
  return out;
}

std::string stacks_text() {
  static std::mutex one_at_a_time;
  const std::unique_lock lock(one_at_a_time, std::try_to_lock);
  if (!lock) return {};
  prepare_capture();
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_RESTART | SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  ::sigaction(kSignal, &action, nullptr);
  Symbols symbols;
  std::string out;
  const int self = static_cast<int>(::syscall(SYS_gettid));
  for (const ThreadName& thread : threads_of_process()) {
    out.append("thread ").append(std::to_string(thread.id)).append(" (").append(thread.name).append(")\n");
    Stack stack;
    if (thread.id == self) {
      capture_stack(stack);
    } else {
      slot.filled.store(false);
      slot.wanted.store(thread.id);
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(1);
      bool asked = ::syscall(SYS_tgkill, ::getpid(), thread.id, kSignal) == 0;
      while (asked && !slot.filled.load(std::memory_order_acquire) && std::chrono::steady_clock::now() < deadline) ::poll(nullptr, 0, 1);
      int unanswered = thread.id;
      const bool gave_up = slot.wanted.compare_exchange_strong(unanswered, 0);
      // Who took the request at the last moment is still writing: wait for it.
      while (asked && !gave_up && !slot.filled.load(std::memory_order_acquire)) ::poll(nullptr, 0, 1);
      if (slot.filled.load(std::memory_order_acquire)) stack = slot.stack;
      else out += "    (no answer)\n";
    }
    append_frames(out, stack, symbols);
    out += '\n';
  }
  return out;
}

}  // namespace rq::ops
