// Stacks: where threads are. A signal makes each thread note its own stack; nothing is stopped.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace rq::ops {

inline constexpr std::size_t kStackDepthMax = 48;
struct Stack {
  std::uint32_t depth = 0;
  std::array<std::uintptr_t, kStackDepthMax> addresses{};        // innermost first
};

void capture_stack(Stack& out);                       // of the calling thread
// In a signal handler (SA_SIGINFO; its third argument): the stack of what it interrupted. Safe there.
void capture_interrupted(Stack& out, void* context);
// Once before handlers use capture_stack(): the first use of the unwinder may allocate.
void prepare_capture();

struct ThreadName {
  int id;
  std::string name;
};
std::vector<ThreadName> threads_of_process();

// All threads with their stacks as text, innermost function first. A thread that doesn't answer within a second is listed
// without one. One caller at a time; others get an empty text.
std::string stacks_text();

}  // namespace rq::ops
