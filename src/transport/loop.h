// Loop: the transport's one thread as jobs, timers and readiness of descriptors. The only place of this folder that knows
// Asio. post() may be called from any thread; all else, and every callback, belongs to the thread inside run().
#pragma once

#include <functional>
#include <memory>

#include "base/clock.h"

namespace rq::transport {

class Loop {
 public:
  Loop();
  ~Loop();                                         // no Timer or Watch may outlive it
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void post(std::function<void()> job);
  void run();                                      // returns after finish(), when nothing is left to do
  void finish();
  void run_one();                                  // waits for one callback; before run(), on the owner's thread

  class Timer {
   public:
    explicit Timer(Loop& loop);
    ~Timer();                                      // cancels
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;
    void at(SteadyTime when, std::function<void()> job);   // replaces what was set; a replaced or canceled job is not run
    void after(SteadyTime::duration delay, std::function<void()> job) { at(std::chrono::steady_clock::now() + delay, std::move(job)); }
    void cancel();

   private:
    struct State;
    std::shared_ptr<State> state_;
  };

  // Readiness of a descriptor that somebody else owns; destroy the watch before the descriptor is closed.
  class Watch {
   public:
    Watch(Loop& loop, int descriptor, std::function<void()> readable, std::function<void()> writable);
    ~Watch();                                      // no callback comes any more
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    void wait_readable();                          // one callback (also on errors: the next operation shows them)
    void wait_writable();

   private:
    struct State;
    std::shared_ptr<State> state_;
  };

 private:
  struct Inside;
  std::unique_ptr<Inside> inside_;
};

}  // namespace rq::transport
