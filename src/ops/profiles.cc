#include "ops/profiles.h"

#include <malloc.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>

#include "base/thread_name.h"
#include "ops/cpu_sampler.h"
#include "ops/stacks.h"

namespace rq::ops {
namespace {

constexpr std::string_view kPrefix = "/debug/pprof";
constexpr int kSecondsDefault = 30, kSecondsMax = 600;
constexpr std::string_view kIndex =
    "/debug/pprof/\n\n"
    "cmdline       command line, words separated by NUL\n"
    "profile       processor time as collapsed stacks; ?seconds=N (30)\n"
    "heap          statistics of malloc; allocs is the same\n"
    "goroutine     stacks of all threads; threadcreate is the same\n\n"
    "Not served: block, mutex, symbol, trace.\n";

// Value of seconds=N in a query string; the default without one, nullopt when it is no positive number.
std::optional<int> seconds_of(std::string_view query) {
  std::size_t at = query.starts_with("seconds=") ? 0 : query.find("&seconds=");
  if (at == std::string_view::npos) return kSecondsDefault;
  const std::string_view text = query.substr(query.find('=', at) + 1);
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || value <= 0 || (end != text.data() + text.size() && *end != '&')) return std::nullopt;
  return std::min(value, kSecondsMax);
}

}  // namespace

std::string heap_text() {
  const struct mallinfo2 info = ::mallinfo2();
  std::string out = "allocated_bytes " + std::to_string(info.uordblks + info.hblkhd) + "\nfree_bytes " + std::to_string(info.fordblks) +
                    "\nfrom_system_bytes " + std::to_string(info.arena + info.hblkhd) + "\nmapped_bytes " + std::to_string(info.hblkhd) +
                    "\nmapped_blocks " + std::to_string(info.hblks) + "\nreleasable_bytes " + std::to_string(info.keepcost) + "\n\n";
  char* text = nullptr;
  std::size_t size = 0;
  if (FILE* stream = ::open_memstream(&text, &size)) {
    ::malloc_info(0, stream);
    std::fclose(stream);
    out.append(text, size);
    std::free(text);
  }
  return out;
}

void Profiles::handle(std::string_view path, std::string_view query, Reply reply) {
  std::string_view name = path.substr(std::min(kPrefix.size(), path.size()));
  if (name.starts_with('/')) name.remove_prefix(1);
  if (name.empty()) return reply(200, std::string(kIndex));
  if (name == "cmdline") {
    std::string line;
    for (const std::string& word : command_line_) line += (line.empty() ? "" : std::string(1, '\0')) + word;
    return reply(200, line);
  }
  if (name == "profile") return profile(query, std::move(reply));
  if (name == "heap" || name == "allocs") return reply(200, heap_text());
  if (name == "goroutine" || name == "threadcreate") {
    std::string text = stacks_text();
    if (text.empty()) return reply(503, "the stacks are being taken for someone else");
    return reply(200, std::move(text));
  }
  if (name == "block" || name == "mutex") return reply(501, "not supported: waits are not sampled; /metrics has the times of each stage");
  if (name == "symbol") return reply(501, "not supported: profiles name their functions");
  if (name == "trace") return reply(501, "not supported: there is no execution tracer");
  reply(404, "Unknown profile");
}

void Profiles::profile(std::string_view query, Reply reply) {
  const std::optional<int> seconds = seconds_of(query);
  if (!seconds) return reply(400, "seconds is not a positive number");
  const std::lock_guard lock(mutex_);
  if (stopping_) return reply(503, "node is stopping");
  if (running_) return reply(500, "Could not enable CPU profiling: cpu profiling already in use");
  auto started = CpuSampler::start();
  if (!started) return reply(500, "Could not enable CPU profiling: " + started.error().text());
  if (thread_.joinable()) thread_.join();          // of the profile before: it has answered
  running_ = true;
  thread_ = std::thread([this, sampler = std::shared_ptr<CpuSampler>(*std::move(started)), seconds = *seconds, reply = std::move(reply)] {
    name_this_thread("profile");
    {
      std::unique_lock waiting(mutex_);
      wake_.wait_for(waiting, std::chrono::seconds(seconds), [this] { return stopping_; });
    }
    std::string text = sampler->stop();
    {
      const std::lock_guard done(mutex_);
      running_ = false;
    }
    reply(200, std::move(text));
  });
}

void Profiles::stop() {
  std::thread thread;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    thread = std::move(thread_);
  }
  wake_.notify_all();
  if (thread.joinable()) thread.join();
}

}  // namespace rq::ops
