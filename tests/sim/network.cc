#include "sim/network.h"

namespace rq::sim {

Instant Network::delay() {
  Instant delay = world_.between(settings_.net_delay / 2, settings_.net_delay * 3 / 2);
  if (!calm_ && world_.below(1000) < settings_.straggle_permille) delay += world_.between(Instant{0}, milliseconds(400));
  return delay;
}

void Network::send(unsigned from, unsigned to, std::function<void()> deliver) {
  if (!calm_ && (!reaches(from, to) || world_.below(1000) < settings_.drop_permille)) return;
  if (!calm_ && world_.below(1000) < settings_.duplicate_permille) world_.after(delay() + world_.between(Instant{0}, milliseconds(100)), deliver);
  world_.after(delay(), std::move(deliver));
}

}  // namespace rq::sim
