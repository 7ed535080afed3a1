#include "app/rqlited/signals.h"

#include <time.h>
#include <unistd.h>

#include <thread>
#include <utility>

#include "base/log.h"
#include "base/thread_name.h"
#include "ops/stacks.h"

namespace rq::app {

Signals::Signals() {
  for (const int number : {SIGPIPE, SIGUSR1, SIGUSR2}) std::signal(number, SIG_IGN);
  sigemptyset(&set_);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) sigaddset(&set_, number);
  pthread_sigmask(SIG_BLOCK, &set_, nullptr);
}

void Signals::start(std::function<void()> on_stop, std::function<void()> on_hangup) {
  std::thread([this, on_stop = std::move(on_stop), on_hangup = std::move(on_hangup)] {
    name_this_thread("signals");
    for (bool told = false;;) {
      int number = 0;
      if (sigwait(&set_, &number) != 0) continue;
      switch (number) {
        case SIGHUP:
          log::info("rqlited", "received signal \"hangup\"");
          on_hangup();
          break;
        case SIGQUIT: {
          const std::string text = "SIGQUIT: quit\n\n" + ops::stacks_text();
          (void)!::write(STDERR_FILENO, text.data(), text.size());
          ::_exit(2);
        }
        default:
          log::info("rqlited", number == SIGINT ? "received signal \"interrupt\"" : "received signal \"terminated\"");
          if (!std::exchange(told, true)) on_stop();
      }
    }
  }).detach();
}

void limit_the_stop() {
  std::thread([] {
    name_this_thread("stop-limit");
    const timespec time{4, 800'000'000};
    ::nanosleep(&time, nullptr);
    log::error("rqlited", "graceful stop took too long, ending the process");
    ::_exit(1);
  }).detach();
}

}  // namespace rq::app
