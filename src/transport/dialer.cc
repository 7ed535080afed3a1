#include "transport/dialer.h"

#include <sys/socket.h>

#include <cerrno>

namespace rq::transport {

class Dialer::Dial {
 public:
  Dial(Dialer& owner, std::uint64_t id, std::string addr, SteadyTime deadline, Done done)
      : owner_(owner), id_(id), addr_(std::move(addr)), deadline_(deadline), done_(std::move(done)), timer_(owner.loop_) {}

  void begin() {
    const Result<HostPort> target = split_host_port(addr_);
    if (!target) return finish(nullptr, {.text = "dial tcp: " + target.error().detail});
    timer_.at(deadline_, [this] { finish(nullptr, {.text = "dial tcp: lookup " + addr_ + ": i/o timeout"}); });
    owner_.resolver_->resolve(target->host, target->port, [&owner = owner_, id = id_](Result<std::vector<Endpoint>> found) {
      if (const auto here = owner.dials_.find(id); here != owner.dials_.end()) here->second->resolved(std::move(found));
    });
  }

 private:
  void resolved(Result<std::vector<Endpoint>>&& found) {
    if (!found) return finish(nullptr, {.text = "dial tcp: " + found.error().detail});
    endpoints_ = *std::move(found);
    try_next();
  }

  void try_next() {
    watch_.reset();
    if (at_ == endpoints_.size()) return finish(nullptr, {.refused = all_refused_, .text = first_error_});
    const Endpoint& endpoint = endpoints_[at_];
    fd_ = Descriptor(::socket(endpoint.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd_) return failed(errno);
    if (::connect(fd_.get(), endpoint.raw(), endpoint.size) != 0 && errno != EINPROGRESS) return failed(errno);
    const SteadyTime now = std::chrono::steady_clock::now();
    const auto left = static_cast<std::int64_t>(endpoints_.size() - at_);
    timer_.at(now + std::max(deadline_ - now, SteadyTime::duration{}) / left, [this] { failed(ETIMEDOUT); });
    watch_ = std::make_unique<Loop::Watch>(owner_.loop_, fd_.get(), nullptr, [this] { connected(); });
    watch_->wait_writable();
  }

  void connected() {
    int error = 0;
    socklen_t size = sizeof error;
    if (::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    if (error != 0) return failed(error);
    watch_.reset();
    auto socket = std::make_unique<Socket>(owner_.loop_, std::move(fd_));
    // A dial of a free local port can meet itself (TCP's simultaneous open): nobody listens there.
    if (socket->local() == socket->remote()) {
      socket.reset();
      return failed(ECONNREFUSED);
    }
    finish(std::move(socket), {});
  }

  void failed(int error) {
    watch_.reset();
    fd_.reset();
    const std::string where = "dial tcp " + text_of(endpoints_[at_]) + ": ";
    if (first_error_.empty()) first_error_ = where + (error == ETIMEDOUT ? "" : "connect: ") + errno_text(error);
    all_refused_ = all_refused_ && error == ECONNREFUSED;
    ++at_;
    try_next();
  }

  void finish(std::unique_ptr<Socket> socket, const DialError& error) {
    const auto self = owner_.dials_.extract(id_);  // lives until we return
    timer_.cancel();
    done_(std::move(socket), error);
  }

  Dialer& owner_;
  const std::uint64_t id_;
  const std::string addr_;
  const SteadyTime deadline_;
  const Done done_;
  Loop::Timer timer_;
  std::vector<Endpoint> endpoints_;
  std::size_t at_ = 0;
  Descriptor fd_;
  std::unique_ptr<Loop::Watch> watch_;             // behind fd_: goes first
  bool all_refused_ = true;
  std::string first_error_;
};

Dialer::Dialer(Loop& loop) : loop_(loop), resolver_(make_resolver(loop)) {}
Dialer::~Dialer() = default;

void Dialer::dial(const std::string& addr, std::chrono::milliseconds timeout, Done done) {
  const std::uint64_t id = ++last_id_;
  dials_.emplace(id, std::make_unique<Dial>(*this, id, addr, std::chrono::steady_clock::now() + timeout, std::move(done)));
  loop_.post([this, id] {
    if (const auto dial = dials_.find(id); dial != dials_.end()) dial->second->begin();
  });
}

void Dialer::cancel() {
  dials_.clear();
  resolver_->cancel();
}

}  // namespace rq::transport
