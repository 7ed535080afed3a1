// The server on a real socket: order of pipelined answers, refusals, and clients that are slow on purpose.
#include "http/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <vector>

#include "tls/test_certificates.h"

namespace rq::http {
namespace {

// Pieces made here; what is left of them when nobody wants more is told by `given_up`.
class Pieces final : public ByteSource {
 public:
  Pieces(int count, std::size_t bytes, bool fails, std::atomic<bool>& given_up) : left_(count), bytes_(bytes), fails_(fails), given_up_(given_up) {}
  ~Pieces() override { given_up_ = left_ > 0; }
  void next(std::function<void(Result<Piece>)> done) override {
    if (--left_ < 0) return done(fail(Errc::Io, "broken"));
    ++pulled;
    done(Piece{std::string(bytes_, static_cast<char>('a' + left_ % 26)), left_ == 0 && !fails_});
  }
  static inline std::atomic<int> pulled{0};

 private:
  int left_;
  const std::size_t bytes_;
  const bool fails_;
  std::atomic<bool>& given_up_;
};

// Answers with what came and in how many bytes at most at once. Holds each piece until next() when `held`.
class Collector final : public BodySink {
 public:
  Collector(std::shared_ptr<Exchange> exchange, std::atomic<int>& pieces, std::atomic<bool>& dropped, bool refuses)
      : exchange_(std::move(exchange)), pieces_(pieces), dropped_(dropped), refuses_(refuses) {}
  ~Collector() override { dropped_ = !ended_; }
  void write(std::string&& piece, std::function<void()> taken) override {
    ++pieces_;
    bytes_ += piece.size();
    if (refuses_) exchange_->respond({.status = 503, .body = "no more"});
    taken();
  }
  void end() override {
    ended_ = true;
    exchange_->respond({.status = 200, .body = "took " + std::to_string(bytes_)});
  }

 private:
  const std::shared_ptr<Exchange> exchange_;
  std::atomic<int>& pieces_;
  std::atomic<bool>& dropped_;
  const bool refuses_;
  std::size_t bytes_ = 0;
  bool ended_ = false;
};

// Answers with the path; "/later" is held until release(). Bodies of "/sink" and "/sink-refuses" go to a Collector;
// "/refused" is answered before its body; "/stream" and "/broken" are answered in pieces.
class Echo final : public Service {
 public:
  std::shared_ptr<BodySink> open(const std::shared_ptr<Exchange>& exchange) override {
    const std::string& target = exchange->request.target;
    if (target == "/refused") exchange->respond({.status = 401, .body = "refused"});
    if (!target.starts_with("/sink")) return nullptr;
    return std::make_shared<Collector>(exchange, pieces, sink_dropped, target == "/sink-refuses");
  }
  std::atomic<int> pieces{0};
  std::atomic<bool> sink_dropped{false}, given_up{false};
  void handle(std::shared_ptr<Exchange> exchange) override {
    if (exchange->request.target == "/later") {
      const std::lock_guard lock(mutex_);
      held_.push_back(std::move(exchange));
      return;
    }
    if (exchange->request.target == "/stream" || exchange->request.target == "/broken") {
      const bool fails = exchange->request.target == "/broken";
      return exchange->respond({.status = 200, .body = "first", .more = std::make_shared<Pieces>(fails ? 2 : 200, 100'000, fails, given_up)});
    }
    std::string body = exchange->request.method + exchange->request.target + exchange->request.body;
    exchange->respond({.status = 200, .body = std::move(body)});
  }
  bool release() {
    std::vector<std::shared_ptr<Exchange>> held;
    {
      const std::lock_guard lock(mutex_);
      held.swap(held_);
    }
    for (auto& exchange : held) exchange->respond({.status = 200, .body = "late" + std::string(late_bytes, '.')});
    return !held.empty();
  }
  std::size_t late_bytes = 0;

 private:
  std::mutex mutex_;   // guards held_
  std::vector<std::shared_ptr<Exchange>> held_;
};

class Client {
 public:
  explicit Client(int port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in addr{};
    addr.sin_family = AF_INET;
    addr.sin_port = htons(static_cast<std::uint16_t>(port));
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int small = 64 << 10;
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&addr), sizeof addr), 0);
  }
  ~Client() { ::close(fd_); }
  void send(std::string_view text) { EXPECT_EQ(::send(fd_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size())); }
  void finish() { ::shutdown(fd_, SHUT_WR); }
  static void wait_for_any(const Client& one, const Client& other) {   // until one of them has something to read
    pollfd pollers[2] = {{one.fd_, POLLIN, 0}, {other.fd_, POLLIN, 0}};
    EXPECT_GT(::poll(pollers, 2, 10'000), 0);
  }
  std::string read_some() {   // empty: closed, or nothing came in time
    pollfd poller{fd_, POLLIN, 0};
    char buffer[65536];
    if (::poll(&poller, 1, 10'000) <= 0) return {};
    const ssize_t size = ::recv(fd_, buffer, sizeof buffer, 0);
    return size <= 0 ? std::string() : std::string(buffer, static_cast<std::size_t>(size));
  }
  // All that comes until `wanted` is in it or the connection ends; "<closed>" is appended at the end.
  std::string read_until(std::string_view wanted) {
    std::string got;
    std::size_t looked_at = 0;
    while (got.find(wanted, looked_at) == std::string::npos) {
      looked_at = got.size() < wanted.size() ? 0 : got.size() - wanted.size();
      pollfd poller{fd_, POLLIN, 0};
      if (::poll(&poller, 1, 10'000) <= 0) return got + "<timeout>";
      char buffer[65536];
      const ssize_t size = ::recv(fd_, buffer, sizeof buffer, 0);
      if (size < 0 && errno == ECONNRESET) return got + "<reset>";
      if (size <= 0) return got + "<closed>";
      got.append(buffer, static_cast<std::size_t>(size));
    }
    return got;
  }

 private:
  const int fd_;
};

class HttpServer : public ::testing::Test {
 protected:
  void start(const Limits& limits, const std::shared_ptr<tls::Config>& config = nullptr) {
    for (port_ = 15100; port_ < 15200; ++port_) {
      auto server = Server::listen("127.0.0.1:" + std::to_string(port_), 2, limits, config);
      if (!server) continue;
      server_ = *std::move(server);
      server_->start(echo_);
      return;
    }
    FAIL() << "no free port";
  }
  void TearDown() override {
    if (server_) server_->stop();
  }
  Echo echo_;
  std::unique_ptr<Server> server_;
  int port_ = 0;
};

TEST_F(HttpServer, AnswersPipelinedRequestsInTheirOrder) {
  start({});
  Client client(port_);
  client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\nPOST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nxyz");
  while (!echo_.release()) ::usleep(100);
  const std::string got = client.read_until("POST/cxyz");
  EXPECT_LT(got.find("late"), got.find("GET/b"));
  EXPECT_LT(got.find("GET/b"), got.find("POST/cxyz"));
}

TEST_F(HttpServer, AnswersTheLastRequestOfAConnectionFromAnotherThread) {
  start({});
  Client client(port_);
  client.send("GET /later HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  while (!echo_.release()) ::usleep(100);
  const std::string got = client.read_until("<never>");
  EXPECT_TRUE(got.starts_with("HTTP/1.1 200 OK")) << got;
  EXPECT_TRUE(got.ends_with("late<closed>")) << got;
}

TEST_F(HttpServer, TakesARequestByteByByteAndChunks) {
  start({});
  Client client(port_);
  for (const char c : std::string("POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")) client.send({&c, 1});
  EXPECT_NE(client.read_until("POST/xabc").find("200 OK"), std::string::npos);
}

TEST_F(HttpServer, RefusesWhatIsNotHttp) {
  start({});
  const std::pair<const char*, const char*> cases[] = {
      {"GET / HTTP/1.1\r\n\r\n", "400 Bad Request: missing required Host header"},
      {"garbage\r\n\r\n", "HTTP/1.1 400 Bad Request"},
      {"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 Bad Request"},
      {"GET / HTTP/3.0\r\nHost: x\r\n\r\n", "HTTP/1.1 505"},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: z\r\n\r\n", "HTTP/1.1 400 Bad Request"},
  };
  for (const auto& [sent, wanted] : cases) {
    Client client(port_);
    client.send(sent);
    const std::string got = client.read_until("<never>");
    EXPECT_NE(got.find(wanted), std::string::npos) << sent << " -> " << got;
    EXPECT_TRUE(got.ends_with("<closed>"));
  }
}

TEST_F(HttpServer, CutsOffHalfHeadersAndStalledBodies) {
  start({.header_time = std::chrono::seconds(1), .body_stall = std::chrono::seconds(1)});
  Client header(port_), body(port_), fine(port_);
  header.send("GET / HTTP/1.1\r\nHo");
  body.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(header.read_until("<never>"), "<closed>");
  EXPECT_EQ(body.read_until("<never>"), "<closed>");
  fine.send("GET /ok HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(fine.read_until("GET/ok").find("200"), std::string::npos);
}

TEST_F(HttpServer, BoundsHeadersBodiesAndConnections) {
  start({.header_bytes = 1000, .body_bytes = 100, .connections = 2});
  {
    Client client(port_);
    client.send("GET / HTTP/1.1\r\nHost: x\r\nX: " + std::string(5000, 'x'));
    EXPECT_NE(client.read_until("<never>").find("431"), std::string::npos);
  }
  {
    Client client(port_);
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n");
    EXPECT_NE(client.read_until("<never>").find("413"), std::string::npos);
  }
}

TEST_F(HttpServer, WritesAnswersWholeThoughTheyComeWhileOneIsBeingWritten) {
  echo_.late_bytes = 4 << 20;
  start({});
  Client client(port_);
  client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  while (!echo_.release()) ::usleep(100);
  client.read_until("late");                             // the rest of it is stuck: nobody reads
  for (int i = 0; i < 2; ++i) {
    client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    while (!echo_.release()) ::usleep(100);
  }
  client.send("GET /end HTTP/1.1\r\nHost: x\r\n\r\n");
  const std::string got = client.read_until("GET/end");
  EXPECT_GT(got.size(), 2 * echo_.late_bytes);
  EXPECT_TRUE(got.ends_with("GET/end")) << got.size();
}

TEST_F(HttpServer, StreamsAnswersAndAsksOnlyForWhatTheClientTakes) {
  start({});
  Client client(port_);
  Pieces::pulled = 0;
  client.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n");
  std::string got = client.read_until("first");
  ::usleep(50'000);
  EXPECT_LT(Pieces::pulled, 150);                        // 20 MB in all; sockets hold some
  got += client.read_until("GET/b");
  EXPECT_NE(got.find("Transfer-Encoding: chunked\r\n"), std::string::npos);
  EXPECT_EQ(got.find("Content-Length"), got.rfind("Content-Length"));   // of /b alone
  EXPECT_NE(got.find("\r\n\r\n5\r\nfirst\r\n186a0\r\n"), std::string::npos);
  EXPECT_NE(got.find("a\r\n0\r\n\r\nHTTP/1.1 200"), std::string::npos);
  EXPECT_GT(got.size(), 200u * 100'000);
  EXPECT_FALSE(echo_.given_up);
}

TEST_F(HttpServer, CutsOffAnAnswerWhoseSourceFails) {
  start({});
  for (const std::string version : {"1.1", "1.0"}) {
    Client client(port_);
    client.send("GET /broken HTTP/" + version + "\r\nHost: x\r\n\r\n");
    std::string got = client.read_until("<reset>");
    EXPECT_TRUE(got.ends_with("<reset>")) << got.size();
    EXPECT_EQ(got.find("0\r\n\r\n"), std::string::npos);
  }
}

TEST_F(HttpServer, GivesTheSourceUpWhenTheClientGoes) {
  start({});
  {
    Client client(port_);
    client.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    client.read_until("first");
  }
  while (!echo_.given_up) ::usleep(100);
}

TEST_F(HttpServer, HandsBodiesToTheSinkPieceByPiece) {
  start({.body_bytes = 1000});                           // is not for sinks
  Client client(port_);
  client.send("POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n" + std::string(2'000'000, 'x') + "GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(client.read_until("GET/b").find("took 2000000"), std::string::npos);
  EXPECT_GT(echo_.pieces, 3);
  client.send("POST /sink HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
  EXPECT_NE(client.read_until("took 3").find("200 OK"), std::string::npos);
  client.send("POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  client.read_until("took 0");
  client.send("POST /sink HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  client.read_until("HTTP/1.1 100 Continue\r\n\r\n");
  client.send("ab");
  client.read_until("took 2");
}

TEST_F(HttpServer, ThrowsTheRestOfARefusedBodyAwayUpToALimit) {
  start({.body_bytes = 100'000});
  Client client(port_);
  for (const char* path : {"/refused", "/sink-refuses"}) {
    client.send(std::string("POST ") + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n" + std::string(90'000, 'x'));
    client.read_until(path[1] == 'r' ? "refused" : "no more");
  }
  while (!echo_.sink_dropped) ::usleep(100);
  client.send("GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
  client.read_until("GET/b");
  Client patient(port_);                                 // sends nothing before it is asked to: the connection ends
  patient.send("POST /refused HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 50\r\n\r\n");
  EXPECT_NE(patient.read_until("<closed>").find("401 Unauthorized"), std::string::npos);
  Client endless(port_);
  endless.send("POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n" + std::string(200'000, 'x'));
  EXPECT_NE(endless.read_until("<never>").find("refused"), std::string::npos);
}

TEST_F(HttpServer, DropsTheSinkOfAClientThatGoesOrStalls) {
  start({.body_stall = std::chrono::seconds(1)});
  {
    Client client(port_);
    client.send("POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
    while (echo_.pieces == 0) ::usleep(100);
  }
  while (!echo_.sink_dropped) ::usleep(100);
  echo_.sink_dropped = false;
  Client client(port_);
  client.send("POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(client.read_until("<never>"), "<closed>");
  while (!echo_.sink_dropped) ::usleep(100);
}

TEST_F(HttpServer, StopsThoughARequestIsHalfSent) {
  start({.drain = std::chrono::milliseconds(200)});
  Client half(port_);
  half.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
  Client held(port_);
  held.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  server_->stop();
  const std::string end = half.read_until("<never>");
  EXPECT_TRUE(end == "<closed>" || end == "<reset>") << end;
}

TEST_F(HttpServer, BoundsWhatIsComingInOnAllConnections) {
  start({.collected_bytes = 300'000});
  const std::string head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
  Client a(port_), b(port_), small(port_);
  a.send(head + std::string(250'000, 'a'));
  b.send(head + std::string(250'000, 'b'));
  // One of the two is too much, which one is open.
  small.send("POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" + std::string(60'000, 's'));
  EXPECT_NE(small.read_until("sss").find("200"), std::string::npos);
  Client::wait_for_any(a, b);              // else both may end before the server has read what is too much
  a.finish(), b.finish();
  const std::string ends = a.read_until("<never>") + b.read_until("<never>");
  EXPECT_NE(ends.find("503 Service Unavailable"), std::string::npos) << ends;
  Client after(port_);                     // their bytes are free again
  after.send("POST /after HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + std::string(200'000, 'c'));
  EXPECT_NE(after.read_until("ccc").find("200"), std::string::npos);
}

TEST_F(HttpServer, ALongIdleConnectionMakesRoomForANewOne) {
  start({.connections = 4});
  std::vector<std::unique_ptr<Client>> idle;
  for (int i = 0; i < 4; ++i) {
    idle.push_back(std::make_unique<Client>(port_));
    idle.back()->send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_NE(idle.back()->read_until("GET/a").find("200"), std::string::npos);
  }
  Client fresh(port_);
  fresh.send("GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(fresh.read_until("GET/b").find("200"), std::string::npos);
  EXPECT_EQ(idle[0]->read_until("<never>"), "<closed>");
}

// HTTPS.
class HttpsServer : public HttpServer {
 protected:
  void SetUp() override { certificates_.issue("server"); }
  std::shared_ptr<tls::Config> config() {
    return *tls::Config::server({.cert_file = certificates_.path("server.pem"), .key_file = certificates_.path("server.key"), .protocol = "http/1.1"});
  }
  // Speaks TLS over a Client.
  class Secure {
   public:
    Secure(const std::string& ca, int port) : plain_(port), session_((*tls::Config::client({.ca_file = ca}))->session("localhost")) {
      session_->begin();
      while (!session_->established() && pump()) {
      }
    }
    bool established() const { return session_->established(); }
    void send(std::string_view text) {
      EXPECT_TRUE(session_->send(text));
      plain_.send(std::exchange(session_->out(), {}));
    }
    std::string read_until(std::string_view wanted) {
      for (std::size_t at = 0; got_.find(wanted, at) == std::string::npos; at = got_.size() - std::min(got_.size(), wanted.size()))
        if (!pump()) break;
      return got_;
    }
    const std::string& end() const { return session_->error(); }

   private:
    bool pump() {
      if (!session_->out().empty()) plain_.send(std::exchange(session_->out(), {}));
      const std::string bytes = plain_.read_some();
      return !bytes.empty() && session_->receive(bytes, got_);
    }
    Client plain_;
    std::unique_ptr<tls::Session> session_;
    std::string got_;
  };
  std::string ca() const { return certificates_.path("ca.pem"); }
  tls::TestCertificates certificates_;
};

TEST_F(HttpsServer, AnswersPipelinedRequestsInTheirOrder) {
  start({}, config());
  Secure client(ca(), port_);
  client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\nPOST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nxyz");
  while (!echo_.release()) ::usleep(100);
  const std::string got = client.read_until("POST/cxyz");
  EXPECT_LT(got.find("late"), got.find("GET/b"));
  EXPECT_LT(got.find("GET/b"), got.find("POST/cxyz"));
}

TEST_F(HttpsServer, CarriesLargeBodiesBothWays) {
  start({}, config());
  Secure client(ca(), port_);
  const std::string body(8'000'000, 'b');
  client.send("POST /big HTTP/1.1\r\nHost: x\r\nContent-Length: 8000003\r\n\r\n" + body + "end");
  const std::string got = client.read_until("bend");
  EXPECT_GT(got.size(), body.size());
  client.send("GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_NE(client.read_until("<never>").find("GET/next"), std::string::npos);
  EXPECT_EQ(client.end(), "EOF");        // an orderly end
}

TEST_F(HttpsServer, TellsPlainClientsSo) {
  start({}, config());
  Client client(port_);
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.read_until("<never>"), "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n<closed>");
  Client noise(port_);
  noise.send("\x01\x02\x03\x04\x05\x06");
  EXPECT_TRUE(noise.read_until("<never>").ends_with("<closed>"));
}

TEST_F(HttpsServer, CutsOffHandshakesThatTakeTooLong) {
  start({.handshake_time = std::chrono::seconds(1)}, config());
  Client silent(port_), half(port_);
  half.send("\x16\x03\x01\x02");
  EXPECT_EQ(silent.read_until("<never>"), "<closed>");
  EXPECT_EQ(half.read_until("<never>"), "<closed>");
}

TEST_F(HttpsServer, SilentHandshakesMakeRoom) {
  start({.handshakes = 4}, config());
  std::vector<std::unique_ptr<Client>> silent;
  for (int i = 0; i < 30; ++i) silent.push_back(std::make_unique<Client>(port_));
  Secure client(ca(), port_);
  client.send("GET /in HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(client.read_until("GET/in").find("200"), std::string::npos);
  EXPECT_EQ(silent[0]->read_until("<never>"), "<closed>");
}

}  // namespace
}  // namespace rq::http
