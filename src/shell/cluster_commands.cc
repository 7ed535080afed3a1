#include <algorithm>
#include <charconv>

#include "base/go_text.h"
#include "shell/files.h"
#include "shell/session.h"

namespace rq::shell {
namespace {

std::string milliseconds(std::chrono::steady_clock::duration duration) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.1f", std::chrono::duration<double, std::milli>(duration).count());
  return text;
}

struct NodeState {
  std::string id, role, address, version, latency, problem;
  std::optional<std::uint64_t> applied;
};

std::optional<std::uint64_t> number_of(const Json& value) {
  std::uint64_t number = 0;
  const std::string& text = value.text();
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || read.ec != std::errc() || read.ptr != text.data() + text.size()) return std::nullopt;
  return number;
}

std::string role_of(const Json& node) {
  if (node["leader"].truth()) return "leader";
  return node["voter"].truth() ? "voter" : "read replica";
}

// Asks the node itself; what it cannot tell stays empty.
void ask_node(Client& client, NodeState& state) {
  const auto endpoint = client.endpoint_of(state.address);
  if (!endpoint) {
    state.problem = "no API address";
    return;
  }
  const auto begin = std::chrono::steady_clock::now();
  const auto response = client.ask(*endpoint, "/status");
  if (!response) {
    state.problem = response.error().text();
    return;
  }
  state.latency = milliseconds(std::chrono::steady_clock::now() - begin);
  if (response->status != 200) {
    state.problem = response->status_text();
    return;
  }
  const auto status = Json::parse(response->body);
  if (!status) {
    state.problem = status.error().text();
    return;
  }
  state.applied = number_of((*status)["store"]["raft"]["applied_index"]);
  if (!state.applied) state.applied = number_of((*status)["store"]["db_applied_index"]);
  if (const std::string& version = (*status)["build"]["version"].text(); !version.empty()) state.version = version;
}

}  // namespace

void Session::run_cluster(const std::string&) {
  const auto nodes = request_json({.method = "GET", .target = "nodes?nonvoters&ver=2"}, StatusForm::WithBody);
  if (!nodes) return;
  std::vector<NodeState> states;
  for (const Json& node : (*nodes)["nodes"].elements()) {
    NodeState state{.id = node["id"].text(), .role = role_of(node), .address = node["api_addr"].text(), .version = node["version"].text()};
    if (node["reachable"].is(Json::Kind::Boolean) && !node["reachable"].truth()) state.problem = "unreachable";
    else ask_node(client_, state);
    states.push_back(std::move(state));
  }
  std::uint64_t newest = 0;
  for (const NodeState& state : states)
    if (state.applied) newest = std::max(newest, *state.applied);
  Rows rows{.columns = {"id", "role", "api_addr", "version", "applied", "lag", "latency_ms", "state"}};
  const auto text = [](const std::string& value) { return value.empty() ? Json() : Json::string(value); };
  for (const NodeState& state : states) {
    const Json applied = state.applied ? Json::number(std::to_string(*state.applied)) : Json();
    const Json lag = state.applied ? Json::number(std::to_string(newest - *state.applied)) : Json();
    rows.values.push_back({text(state.id), text(state.role), text(state.address), text(state.version), applied, lag,
                           state.latency.empty() ? Json() : Json::number(state.latency), text(state.problem.empty() ? "ok" : state.problem)});
  }
  show_rows(rows);
}

void Session::run_sysdump(const std::string& argument) {
  if (argument.empty()) return error("please specify an output file for the sysdump");
  const auto response = client_.send({.method = "GET", .target = "nodes"});
  if (!response) return error(response.error());
  // The status of this answer isn't looked at: a refusal shows as a body that is no JSON.
  if (response->body.empty()) return error("EOF");
  const auto nodes = Json::parse(response->body);
  if (!nodes) return error(nodes.error().text());
  auto file = WholeFile::create(argument);
  if (!file) return error(file.error());
  for (const auto& [id, node] : nodes->members()) {
    const std::string& address = node["api_addr"].text();
    const auto endpoint = client_.endpoint_of(address);
    for (const char* page : {"/status?pretty", "/nodes?pretty", "/readyz", "/debug/vars"}) {
      std::string part = "\n" + std::string(41, '=') + "\nURL: " + address + page + "\nStatus: ";
      const auto answer = endpoint ? client_.ask(*endpoint, page) : Result<HttpResponse>(fail(endpoint.error()));
      part += answer ? answer->status_text() : answer.error().text();
      part += "\n\n";
      if (answer && answer->status == 200) part += answer->body;
      if (auto written = (*file)->write(part); !written) return error(written.error());
    }
  }
  if (auto finished = (*file)->finish(); !finished) error(finished.error());
}

}  // namespace rq::shell
