// rqbench: sends the same request again and again, and says how many were answered a second and how long it took.
// Exit code 0: all were answered without an error; 1: some were not; 2: wrong flags.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/go_text.h"
#include "config/go_flags.h"
#include "measure/latencies.h"
#include "shell/client.h"
#include "shell/http_client.h"
#include "shell/json.h"

namespace {

using namespace rq;
using Steady = std::chrono::steady_clock;

constexpr const char* kUsage =
    "rqbench is a simple load testing utility for rqlite.\n"
    "Usage: rqbench [flags] <SQL statement>\n"
    "\n"
    "Each request holds the statement as many times as -b says. Errors within an answer count as errors.\n"
    "With -c several connections send at the same time, each one request after the other. Percentiles are of the time\n"
    "from a request's first byte to the last one of its answer.\n"
    "\n"
    "Flags:\n";

struct Options {
  std::string address = "localhost:4001", path = "/db/execute", oneshot, transport = "http", user;
  std::int64_t requests = 100, batch = 1, progress = 0, connections = 1;
  config::Duration duration{0};
  bool transaction = false, queued = false;
  shell::TlsOptions tls;
  bool https = false;
  std::string statement;
};

constexpr auto kPatience = std::chrono::seconds(60);      // with one request
constexpr auto kPatienceAtEnd = std::chrono::seconds(5);  // behind -d, with those under way
constexpr std::int64_t kConnectionsMax = 4096, kBatchMax = 1'000'000;

std::string problem_of(const Options& o) {
  if (o.requests < 1) return "-n must be at least 1";
  if (o.batch < 1 || o.batch > kBatchMax) return "-b must be between 1 and " + std::to_string(kBatchMax);
  if (o.progress < 0) return "-m must not be negative";
  if (o.connections < 1 || o.connections > kConnectionsMax) return "-c must be between 1 and " + std::to_string(kConnectionsMax);
  if (o.duration.count() < 0) return "-d must not be negative";
  if (o.path.empty() || o.path[0] != '/') return "-p must begin with /";
  if (o.transport != "http") return "-t must be http";
  if (o.address.find('/') != std::string::npos) return "-a is HOST:PORT, without http:// or a path (flags -s and -p)";
  if (const auto endpoint = shell::parse_host(o.address, o.https, 4001); !endpoint) return "-a: " + endpoint.error().text();
  return {};
}

std::string body_of(const std::string& statement, std::int64_t times) {
  std::string one, body = "[";
  append_json_string(one, statement);
  for (std::int64_t i = 0; i < times; ++i) {
    if (i > 0) body += ',';
    body += one;
  }
  return body + "]";
}

// What is wrong with an answer; empty: nothing. Only a body that may hold an error is parsed.
std::string error_in(const shell::HttpResponse& response) {
  if (response.status != 200) return "status " + response.status_text() + (response.body.empty() ? "" : ": " + response.body.substr(0, 200));
  if (response.body.find("\"error\"") == std::string::npos) return {};
  const auto json = shell::Json::parse(response.body);
  if (!json) return "unreadable answer: " + json.error().text();
  if (json->has("error")) return (*json)["error"].text();
  for (const shell::Json& result : (*json)["results"].elements())
    if (result.has("error")) return result["error"].text();
  return {};
}

// What all connections share.
class Bench {
 public:
  explicit Bench(const Options& options) : options_(options) {}
  int run();

 private:
  Result<std::unique_ptr<shell::HttpClient>> client() const;
  shell::HttpRequest request_for(const std::string& path, const std::string& statement, std::int64_t times) const;
  bool take_turn();
  void send_all(shell::HttpClient& http, measure::Latencies& latencies);
  void note_error(const std::string& text);

  const Options& options_;
  shell::Endpoint endpoint_;
  Steady::time_point end_ = Steady::time_point::max();
  std::atomic<std::int64_t> begun_{0}, done_{0}, failed_{0};
  std::mutex mutex_;
  std::string first_error_;
};

Result<std::unique_ptr<shell::HttpClient>> Bench::client() const {
  shell::HttpClient::Settings settings{.tls = options_.tls};
  if (!options_.user.empty()) {
    settings.authorization = "Basic ";
    append_base64(settings.authorization, options_.user);
  }
  return shell::HttpClient::create(std::move(settings));
}

shell::HttpRequest Bench::request_for(const std::string& path, const std::string& statement, std::int64_t times) const {
  shell::HttpRequest request{.method = "POST", .target = path, .headers = {{"Content-Type", "application/json"}}, .body = body_of(statement, times)};
  return request;
}

bool Bench::take_turn() {
  const std::int64_t number = begun_.fetch_add(1) + 1;
  if (options_.duration.count() > 0) return Steady::now() < end_;
  return number <= options_.requests;
}

void Bench::note_error(const std::string& text) {
  ++failed_;
  const std::lock_guard lock(mutex_);
  if (first_error_.empty()) first_error_ = text;
}

void Bench::send_all(shell::HttpClient& http, measure::Latencies& latencies) {
  std::string target = options_.path;
  const auto parameter = [&](const char* name) { target += (target.find('?') == std::string::npos ? "?" : "&") + std::string(name); };
  if (options_.transaction) parameter("transaction");
  if (options_.queued) parameter("queue");
  const shell::HttpRequest request = request_for(target, options_.statement, options_.batch);
  constexpr int kInVainMax = 10;                     // one after the other: the server is gone
  for (int in_vain = 0; in_vain < kInVainMax && take_turn();) {
    const Steady::time_point begun = Steady::now();
    Steady::duration patience = kPatience;
    if (options_.duration.count() > 0) patience = std::min(patience, end_ - begun + kPatienceAtEnd);
    const auto response = http.exchange(endpoint_, request, {.whole = patience, .silence = {}});
    latencies.record(Steady::now() - begun);
    in_vain = response ? 0 : in_vain + 1;
    if (!response) note_error(response.error().text());
    else if (const std::string wrong = error_in(*response); !wrong.empty()) note_error(wrong);
    const std::int64_t done = ++done_;
    if (options_.progress > 0 && done % options_.progress == 0) std::printf("%lld requests completed\n", static_cast<long long>(done));
  }
}

int Bench::run() {
  const auto refuse = [](const std::string& what) {
    std::printf("failed to run benchmark: %s\n", what.c_str());
    return 1;
  };
  auto parsed = shell::parse_host(options_.address, options_.https, 4001);
  if (!parsed) return refuse(parsed.error().text());
  endpoint_ = *parsed;
  std::vector<std::unique_ptr<shell::HttpClient>> clients;
  for (std::int64_t i = 0; i < options_.connections; ++i) {
    auto made = client();
    if (!made) return refuse(made.error().text());
    clients.push_back(*std::move(made));
  }
  if (!options_.oneshot.empty()) {
    const auto response = clients[0]->exchange(endpoint_, request_for("/db/execute", options_.oneshot, 1), {.whole = kPatience, .silence = {}});
    if (!response) return refuse(response.error().text());
    if (const std::string wrong = error_in(*response); !wrong.empty()) return refuse(wrong);
  }
  std::vector<measure::Latencies> latencies(clients.size());
  const Steady::time_point begun = Steady::now();
  if (options_.duration.count() > 0) end_ = begun + options_.duration;
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < clients.size(); ++i) threads.emplace_back([&, i] { send_all(*clients[i], latencies[i]); });
  for (std::thread& thread : threads) thread.join();
  const std::chrono::nanoseconds took = Steady::now() - begun;
  for (std::size_t i = 1; i < latencies.size(); ++i) latencies[0].add(latencies[i]);

  const measure::Latencies& all = latencies[0];
  const double rate = static_cast<double>(done_.load()) / std::chrono::duration<double>(took).count();
  std::printf("Total duration: %s\n", go_duration_text(took).c_str());
  std::printf("Requests/sec: %.2f\n", rate);
  std::printf("Statements/sec: %.2f\n", rate * static_cast<double>(options_.batch));
  std::printf("Latency: mean %s, p50 %s, p90 %s, p99 %s, p99.9 %s, max %s\n", go_duration_text(all.mean()).c_str(), go_duration_text(all.percentile(0.5)).c_str(),
              go_duration_text(all.percentile(0.9)).c_str(), go_duration_text(all.percentile(0.99)).c_str(), go_duration_text(all.percentile(0.999)).c_str(),
              go_duration_text(all.largest()).c_str());
  if (failed_ == 0) return 0;
  std::printf("Errors: %lld of %lld requests, the first one: %s\n", static_cast<long long>(failed_.load()), static_cast<long long>(done_.load()), first_error_.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  config::FlagSet flags(kUsage);
  flags.text("a", options.address, "Node address");
  flags.integer("n", options.requests, "Number of requests");
  flags.integer("b", options.batch, "Statements per request");
  flags.integer("m", options.progress, "Print progress every m requests. Set to 0 to disable");
  flags.boolean("x", options.transaction, "Use explicit transaction per request");
  flags.boolean("q", options.queued, "Use queued writes");
  flags.text("t", options.transport, "Transport to use");
  flags.text("p", options.path, "Endpoint to use");
  flags.text("o", options.oneshot, "One-shot execute statement to preload");
  flags.integer("c", options.connections, "Number of connections that send at the same time");
  flags.duration("d", options.duration, "Send for this long, whatever -n says. Set to 0s to disable");
  flags.text("u", options.user, "User and password, in the form username:password");
  flags.boolean("s", options.https, "Use HTTPS");
  flags.boolean("insecure", options.tls.insecure, "Don't verify the server's certificate");
  flags.text("ca-cert", options.tls.ca_file, "Path to X.509 CA certificate to verify the server's with");
  flags.text("client-cert", options.tls.cert_file, "Path to X.509 client certificate");
  flags.text("client-key", options.tls.key_file, "Path to the client certificate's key");
  if (const auto exit = flags.parse({argv + 1, argv + argc})) {
    std::fputs(exit->text.c_str(), exit->code == 0 ? stdout : stderr);
    return exit->code;
  }
  if (flags.rest().size() != 1) {
    std::fputs(flags.usage().c_str(), stderr);
    return 2;
  }
  options.statement = flags.rest()[0];
  if (const std::string problem = problem_of(options); !problem.empty()) {
    std::fprintf(stderr, "rqbench: %s\n", problem.c_str());
    return 2;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  return Bench(options).run();
}
