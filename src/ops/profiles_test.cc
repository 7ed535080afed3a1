#include "ops/profiles.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "ops/cpu_sampler.h"
#include "ops/stacks.h"

namespace rq::ops {
namespace {

struct Answer {
  int status = 0;
  std::string body;
};
Answer ask(Profiles& profiles, std::string_view path, std::string_view query = {}) {
  std::promise<Answer> answer;
  profiles.handle(path, query, [&](int status, std::string body) { answer.set_value({status, std::move(body)}); });
  return answer.get_future().get();
}

std::atomic<std::uint64_t> burnt{0};
__attribute__((noinline)) void burn_processor_time(const std::atomic<bool>& stop) {
  while (!stop.load(std::memory_order_relaxed)) burnt.fetch_add(1, std::memory_order_relaxed);
}

// A thread that does nothing but burn processor time while `work` runs.
template <class Work>
void beside_a_busy_thread(const Work& work) {
  std::atomic<bool> stop{false};
  const std::uint64_t begin = burnt.load();
  std::thread busy([&] { burn_processor_time(stop); });
  while (burnt.load() == begin) std::this_thread::yield();
  work();
  stop.store(true);
  busy.join();
}

TEST(CpuSampler, NamesTheFunctionThatBurnsTheTime) {
  beside_a_busy_thread([] {
    auto sampler = CpuSampler::start(1000);
    ASSERT_TRUE(sampler);
    EXPECT_EQ(CpuSampler::start().error().code, Errc::Busy);
    const std::uint64_t begin = burnt.load();
    while (burnt.load() < begin + 200'000'000) std::this_thread::yield();
    const std::string text = (*sampler)->stop();
    EXPECT_NE(text.find("burn_processor_time"), std::string::npos) << text;
    for (std::size_t at = 0; at < text.size();) {                 // each line: stack, blank, count
      const std::size_t end = text.find('\n', at);
      ASSERT_NE(end, std::string::npos);
      const std::string line = text.substr(at, end - at);
      EXPECT_GT(std::stoi(line.substr(line.rfind(' ') + 1)), 0) << line;
      at = end + 1;
    }
  });
  EXPECT_TRUE(CpuSampler::start());                               // and one more is possible when it is gone
}

TEST(Stacks, ListEveryThreadWithWhatItDoes) {
  beside_a_busy_thread([] {
    const std::string text = stacks_text();
    EXPECT_NE(text.find("burn_processor_time"), std::string::npos) << text;
    EXPECT_NE(text.find("stacks_text"), std::string::npos);       // the calling thread
    EXPECT_EQ(text.find("(no answer)"), std::string::npos) << text;
  });
}

TEST(Profiles, AnswerWhatTheyCanAndSayWhatTheyCannot) {
  Profiles profiles({"rqlited", "-fk", "data"});
  EXPECT_NE(ask(profiles, "/debug/pprof/").body.find("profile"), std::string::npos);
  EXPECT_EQ(ask(profiles, "/debug/pprof/cmdline").body, std::string("rqlited\0-fk\0data", 16));
  EXPECT_NE(ask(profiles, "/debug/pprof/heap").body.find("<malloc version="), std::string::npos);
  EXPECT_NE(ask(profiles, "/debug/pprof/goroutine").body.find("thread "), std::string::npos);
  EXPECT_EQ(ask(profiles, "/debug/pprof/trace").status, 501);
  EXPECT_EQ(ask(profiles, "/debug/pprof/nosuch").status, 404);
  EXPECT_EQ(ask(profiles, "/debug/pprof/profile", "seconds=x").status, 400);
  EXPECT_EQ(ask(profiles, "/debug/pprof/profile", "a=b&seconds=0").status, 400);
}

TEST(Profiles, EndARunningProfileWhenTheyAreStopped) {
  Profiles profiles({});
  std::promise<int> status;
  profiles.handle("/debug/pprof/profile", "seconds=600", [&](int code, std::string) { status.set_value(code); });
  EXPECT_EQ(ask(profiles, "/debug/pprof/profile").status, 500);   // one at a time
  profiles.stop();
  EXPECT_EQ(status.get_future().get(), 200);
  EXPECT_EQ(ask(profiles, "/debug/pprof/profile").status, 503);
}

}  // namespace
}  // namespace rq::ops
