// Each question has a c-ares channel of its own: a changed resolv.conf counts at once, and no answer waits for another's.
#include "transport/resolver.h"

#include <ares.h>
#include <netdb.h>

#include <cstring>
#include <map>

namespace rq::transport {
namespace {

constexpr int kTryMs = 2000;
constexpr int kTries = 3;

bool library_ready() {
  static const bool ready = ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS;
  return ready;
}

std::vector<Endpoint> endpoints_of(const ares_addrinfo& info) {
  std::vector<Endpoint> out;
  for (const ares_addrinfo_node* node = info.nodes; node != nullptr; node = node->ai_next) {
    Endpoint one;
    if (node->ai_addrlen > sizeof one.storage) continue;
    std::memcpy(&one.storage, node->ai_addr, node->ai_addrlen);
    one.size = node->ai_addrlen;
    out.push_back(one);
  }
  return out;
}

class Query {
 public:
  // `done` is called when the channel may be destroyed again, that is, not from inside a callback of c-ares.
  Query(Loop& loop, std::string host, Resolver::Done done) : loop_(loop), timer_(loop), host_(std::move(host)), done_(std::move(done)) {}
  ~Query() {
    closing_ = true;
    if (channel_ != nullptr) ares_destroy(channel_);
  }
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;

  void begin(std::uint16_t port) {
    ares_options options{};
    options.timeout = kTryMs;
    options.tries = kTries;
    options.sock_state_cb = [](void* self, ares_socket_t fd, int readable, int writable) {
      static_cast<Query*>(self)->watch(fd, readable != 0, writable != 0);
    };
    options.sock_state_cb_data = this;
    const int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
    if (!library_ready() || ares_init_options(&channel_, &options, mask) != ARES_SUCCESS) return answer(ARES_ENOMEM, nullptr);
    ares_addrinfo_hints hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = ARES_AI_NUMERICSERV;
    ares_getaddrinfo(channel_, host_.c_str(), std::to_string(port).c_str(), &hints,
                     [](void* self, int status, int, ares_addrinfo* info) { static_cast<Query*>(self)->answer(status, info); }, this);
    arm_timer();
  }

 private:
  struct Watched {
    std::unique_ptr<Loop::Watch> watch;
    bool read = false, write = false;              // wanted
    bool read_waits = false, write_waits = false;
  };

  void answer(int status, ares_addrinfo* info) {
    std::vector<Endpoint> found;
    if (info != nullptr) {
      found = endpoints_of(*info);
      ares_freeaddrinfo(info);
    }
    if (closing_) return;
    Result<std::vector<Endpoint>> result = std::move(found);
    if (status == ARES_ETIMEOUT) result = fail(Errc::Timeout, "lookup " + host_ + ": i/o timeout");
    else if (status != ARES_SUCCESS || result->empty()) result = fail(Errc::NotFound, "lookup " + host_ + ": no such host");
    loop_.post([done = std::move(done_), result = std::move(result)]() mutable { done(std::move(result)); });
  }

  void watch(int fd, bool read, bool write) {
    if (!read && !write) {                         // about to be closed
      watched_.erase(fd);
      return;
    }
    Watched& one = watched_[fd];
    if (!one.watch)
      one.watch = std::make_unique<Loop::Watch>(loop_, fd, [this, fd] { ready(fd, true); }, [this, fd] { ready(fd, false); });
    one.read = read;
    one.write = write;
    arm(one);
  }

  static void arm(Watched& one) {
    if (one.read && !std::exchange(one.read_waits, true)) one.watch->wait_readable();
    if (one.write && !std::exchange(one.write_waits, true)) one.watch->wait_writable();
  }

  void ready(int fd, bool readable) {
    Watched& one = watched_.at(fd);
    (readable ? one.read_waits : one.write_waits) = false;
    ares_process_fd(channel_, readable ? fd : ARES_SOCKET_BAD, readable ? ARES_SOCKET_BAD : fd);
    if (const auto still = watched_.find(fd); still != watched_.end()) arm(still->second);
    arm_timer();
  }

  void arm_timer() {
    timeval wait{};
    if (ares_timeout(channel_, nullptr, &wait) == nullptr) return timer_.cancel();
    timer_.after(std::chrono::seconds(wait.tv_sec) + std::chrono::microseconds(wait.tv_usec), [this] {
      ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
      arm_timer();
    });
  }

  Loop& loop_;
  Loop::Timer timer_;
  const std::string host_;
  Resolver::Done done_;
  ares_channel channel_ = nullptr;
  std::map<int, Watched> watched_;
  bool closing_ = false;
};

class CaresResolver final : public Resolver {
 public:
  explicit CaresResolver(Loop& loop) : loop_(loop) {}

  void resolve(const std::string& host, std::uint16_t port, Done done) override {
    const std::uint64_t id = ++last_id_;
    if (std::optional<std::vector<Endpoint>> known = without_asking(host, port)) {
      queries_.emplace(id, nullptr);
      return loop_.post([this, id, known = *std::move(known), done = std::move(done)]() mutable { finished(id, done, std::move(known)); });
    }
    auto query = std::make_unique<Query>(loop_, host, [this, id, done = std::move(done)](Result<std::vector<Endpoint>> result) {
      finished(id, done, std::move(result));
    });
    Query& begun = *query;
    queries_.emplace(id, std::move(query));
    begun.begin(port);
  }
  void cancel() override { queries_.clear(); }

 private:
  static std::optional<std::vector<Endpoint>> without_asking(const std::string& host, std::uint16_t port) {
    if (const auto numeric = numeric_endpoint(host, port)) return std::vector{*numeric};
    if (host.empty() || host == "localhost") return std::vector{*numeric_endpoint("127.0.0.1", port), *numeric_endpoint("::1", port)};
    return std::nullopt;
  }
  void finished(std::uint64_t id, const Done& done, Result<std::vector<Endpoint>>&& result) {
    if (queries_.erase(id) == 1) done(std::move(result));
  }

  Loop& loop_;
  std::map<std::uint64_t, std::unique_ptr<Query>> queries_;
  std::uint64_t last_id_ = 0;
};

}  // namespace

std::unique_ptr<Resolver> make_resolver(Loop& loop) { return std::make_unique<CaresResolver>(loop); }

}  // namespace rq::transport
