// Signals of the process (spec cluster.md section 2.2): SIGINT and SIGTERM stop it gracefully, SIGHUP reloads, SIGQUIT prints
// the stack of every thread and ends it with code 2; SIGPIPE, SIGUSR1 and SIGUSR2 have no effect.
#pragma once

#include <csignal>
#include <functional>

namespace rq::app {

class Signals {
 public:
  Signals();        // blocks them: before any thread is made, all inherit it
  // Takes them from now on, on a thread of its own. `on_stop` is called once; what comes later is only logged.
  void start(std::function<void()> on_stop, std::function<void()> on_hangup);

 private:
  sigset_t set_{};
};

// A graceful stop has five seconds, whatever hangs: then the process ends with code 1. What was acknowledged is on the disks of
// a majority by then; the next start replays the log.
void limit_the_stop();

}  // namespace rq::app
