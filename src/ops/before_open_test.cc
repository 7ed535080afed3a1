// A node answers HTTP before its store is open (while it recovers, or waits for its disk): every endpoint has an answer then.
#include <gtest/gtest.h>

#include <map>

#include "cluster/node.h"
#include "cluster/status.h"
#include "http/api.h"
#include "ops/counters.h"
#include "ops/metrics_page.h"
#include "transport/transport.h"

namespace rq::ops {
namespace {

class TestExchange final : public http::Exchange {
 public:
  void respond(http::Response&& response) override { answers.push_back(std::move(response)); }
  bool client_gone() const override { return false; }
  void after(std::chrono::nanoseconds, std::function<void()>) override {}
  void on_net_thread(std::function<void()> work) override { work(); }
  std::vector<http::Response> answers;
};

class BeforeOpen : public testing::Test {
 protected:
  BeforeOpen() {
    transport_ = *transport::Transport::listen({.bind_addr = "127.0.0.1:0", .advertised_addr = "127.0.0.1:0", .self = RaftId{1}}, metrics_);
    node_ = std::make_unique<cluster::Node>(cluster::Identity{.node_id = "n1", .raft_id = RaftId{1}, .raft_addr = "a:1", .api_addr = "a:2"}, *transport_, nullptr,
                                            clock_, metrics_, [](const cluster::Node& node, const store::Store* store) { return cluster::status_json({}, node, store); });
    http::ApiOptions options;
    options.memstats = memstats_json;
    options.refresh_counters = [this] { refresh_counters(metrics_, *node_); };
    api_ = std::make_unique<http::Api>(std::move(options), *node_, clock_, metrics_);
  }
  ~BeforeOpen() override {
    api_->stop_queue(std::chrono::milliseconds(0));
    node_->close();
    transport_->stop();
  }

  struct Answer {
    int status = 0;
    std::string body;
    bool operator==(const Answer&) const = default;
    friend std::ostream& operator<<(std::ostream& out, const Answer& a) { return out << a.status << " " << a.body; }
  };
  Answer ask(const std::string& method, const std::string& target, const std::string& body = {}) {
    auto exchange = std::make_shared<TestExchange>();
    exchange->request = {.method = method, .target = target, .body = body, .content_type = "application/json", .has_content_length = true};
    if (!api_->open(exchange) && exchange->answers.empty()) api_->handle(exchange);      // as the server does
    EXPECT_EQ(exchange->answers.size(), 1u) << method << " " << target;
    return exchange->answers.empty() ? Answer{} : Answer{exchange->answers[0].status, exchange->answers[0].body};
  }

  SystemClock clock_;
  Metrics metrics_;
  std::unique_ptr<transport::Transport> transport_;
  std::unique_ptr<cluster::Node> node_;
  std::unique_ptr<http::Api> api_;
};

TEST_F(BeforeOpen, SqlSaysThatTheStoreIsNotOpen) {
  const Answer not_open{200, R"({"results":[],"error":"store not open"})"};
  EXPECT_EQ(ask("POST", "/db/execute", R"x(["CREATE TABLE t(v)"])x"), not_open);
  EXPECT_EQ(ask("POST", "/db/request", R"(["SELECT 1"])"), not_open);
  for (const char* level : {"none", "weak", "strong", "linearizable", "auto"})
    EXPECT_EQ(ask("GET", std::string("/db/query?q=SELECT%201&level=") + level), not_open) << level;
  EXPECT_EQ(ask("POST", "/db/execute?queue", R"x(["CREATE TABLE t(v)"])x"), (Answer{503, "leader not found\n"}));
  const Answer queued = ask("POST", "/db/execute?queue&noleader", R"x(["CREATE TABLE t(v)"])x");
  EXPECT_EQ(queued.status, 200);
  EXPECT_TRUE(queued.body.starts_with("{\"results\":[],\"sequence_number\":")) << queued;
  EXPECT_EQ(ask("GET", "/db/sql?q=SELECT%201").status, 200);
  EXPECT_EQ(ask("POST", "/db/load", "CREATE TABLE t(v)"), not_open);
}

TEST_F(BeforeOpen, OperationsSayWhatIsMissing) {
  const std::map<std::pair<std::string, std::string>, Answer> expected = {
      {{"GET", "/nodes"}, {503, "store nodes: store not open\n"}},
      {{"GET", "/leader"}, {503, "leader not found\n"}},
      {{"POST", "/leader"}, {503, "stepdown: store not open\n"}},
      {{"POST", "/leader?wait"}, {503, "stepdown: store not open\n"}},
      {{"POST", "/snapshot"}, {503, "store not open\n"}},
      {{"POST", "/reap"}, {503, "store not open\n"}},
      {{"POST", "/boot"}, {503, "store not open\n"}},
      {{"GET", "/db/backup"}, {500, "store not open\n"}},
      {{"GET", "/readyz"}, {503, "[+]node ok\n[+]leader does not exist"}},
      {{"GET", "/readyz?sync"}, {503, "[+]node ok\n[+]leader does not exist"}},
      {{"GET", "/readyz?noleader"}, {200, "[+]node ok"}},
  };
  for (const auto& [request, answer] : expected) EXPECT_EQ(ask(request.first, request.second), answer) << request.first << " " << request.second;
  EXPECT_EQ(ask("DELETE", "/remove", R"({"id":"n2"})"), (Answer{500, "store not open\n"}));
  EXPECT_EQ(ask("DELETE", "/remove", "{}").status, 400);
}

TEST_F(BeforeOpen, StatusHasWhatIsKnown) {
  const Answer status = ask("GET", "/status");
  EXPECT_EQ(status.status, 200);
  std::vector<std::string> members;        // at top level, in order
  int depth = 0;
  for (std::size_t i = 0; i < status.body.size(); ++i) {
    const char c = status.body[i];
    if (c == '"') {
      const std::size_t end = status.body.find('"', i + 1);
      if (depth == 1 && end + 1 < status.body.size() && status.body[end + 1] == ':') members.push_back(status.body.substr(i + 1, end - i - 1));
      i = end;
    }
    depth += c == '{' ? 1 : c == '}' ? -1 : 0;
  }
  EXPECT_EQ(members, (std::vector<std::string>{"build", "http", "node", "os", "runtime", "store"}));
  EXPECT_EQ(ask("GET", "/status?key=store"), (Answer{200, "{\"open\":false}"}));
}

TEST_F(BeforeOpen, EverythingElseAnswersToo) {
  for (const char* target : {"/debug/vars", "/debug/pprof/", "/licenses", "/metrics", "/console/", "/", "/nosuch", "/debug/vars?key=http"})
    EXPECT_GT(ask("GET", target).status, 0) << target;
}

}  // namespace
}  // namespace rq::ops
