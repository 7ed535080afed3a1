// The server on a real socket: order of pipelined answers, refusals, and clients that are slow on purpose.
#include "http/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mutex>
#include <vector>

namespace rq::http {
namespace {

// Answers with the path; "/later" is held until release().
class Echo final : public Service {
 public:
  void handle(std::shared_ptr<Exchange> exchange) override {
    if (exchange->request.target == "/later") {
      const std::lock_guard lock(mutex_);
      held_.push_back(std::move(exchange));
      return;
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
    for (auto& exchange : held) exchange->respond({.status = 200, .body = "late"});
    return !held.empty();
  }

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
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&addr), sizeof addr), 0);
  }
  ~Client() { ::close(fd_); }
  void send(std::string_view text) { EXPECT_EQ(::send(fd_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size())); }
  // All that comes until `wanted` is in it or the connection ends; "<closed>" is appended at the end.
  std::string read_until(std::string_view wanted) {
    std::string got;
    while (got.find(wanted) == std::string::npos) {
      pollfd poller{fd_, POLLIN, 0};
      if (::poll(&poller, 1, 10'000) <= 0) return got + "<timeout>";
      char buffer[4096];
      const ssize_t size = ::recv(fd_, buffer, sizeof buffer, 0);
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
  void start(const Limits& limits) {
    for (port_ = 15100; port_ < 15200; ++port_) {
      auto server = Server::listen("127.0.0.1:" + std::to_string(port_), 2, limits);
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

TEST_F(HttpServer, StopsThoughARequestIsHalfSent) {
  start({.drain = std::chrono::milliseconds(200)});
  Client half(port_);
  half.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
  Client held(port_);
  held.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  server_->stop();
  EXPECT_EQ(half.read_until("<never>"), "<closed>");
}

}  // namespace
}  // namespace rq::http
