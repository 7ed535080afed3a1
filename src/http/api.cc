#include "http/api.h"

#include <rapidjson/document.h>

#include <algorithm>
#include <array>
#include <atomic>

#include "base/assert.h"
#include "base/go_text.h"
#include "http/api_answers.h"
#include "http/body_parser.h"

namespace rq::http {
namespace {

constexpr auto kQueueFullWait = std::chrono::seconds(10);
constexpr auto kQueueRetry = std::chrono::milliseconds(2);
// The one place where an error becomes an HTTP status; 200: the error goes into the body, as the reference does.
int status_of(Errc code) {
  switch (code) {
    case Errc::LeaderNotFound:
    case Errc::Busy:
      return 503;
    case Errc::Unauthorized:
      return 401;
    case Errc::BadRequest:
      return 400;
    case Errc::TooLarge:
      return 413;
    default:
      return 200;
  }
}

Credentials credentials_of(std::string_view authorization) {
  constexpr std::string_view kBasic = "basic ";
  if (authorization.size() <= kBasic.size()) return {};
  for (std::size_t i = 0; i < kBasic.size(); ++i)
    if ((authorization[i] | 0x20) != kBasic[i] && authorization[i] != ' ') return {};
  const auto decoded = decode_base64(authorization.substr(kBasic.size()));
  if (!decoded) return {};
  const std::size_t colon = decoded->find(':');
  if (colon == std::string::npos) return {};
  return {decoded->substr(0, colon), decoded->substr(colon + 1)};
}

bool is_plain_text(std::string_view content_type) { return content_type.starts_with("text/plain"); }

}  // namespace

std::string header_value(std::string_view value) {
  std::string out;
  for (const char c : value)
    if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) out += c;
  return out;
}

std::string location_of(const std::string& base, std::string_view raw_path, std::string_view raw_query) {
  std::string out = "Location: " + header_value(base) + header_value(raw_path);
  if (!raw_query.empty()) out += "?" + header_value(raw_query);
  return out + "\r\n";
}

std::uint32_t render_of(const Parameters& parameters) {
  return (parameters.timings ? command::kTimings : 0u) | (parameters.associative ? command::kAssociative : 0u) |
         (parameters.blob_array ? command::kBlobArray : 0u) | (parameters.qualify_columns ? command::kQualifyColumns : 0u) |
         (parameters.raft_index ? command::kRaftIndex : 0u) | (parameters.pretty ? command::kPretty : 0u);
}

struct Api::Route {
  std::string_view path;
  bool exact;
  std::string_view methods;          // each followed by a space; empty: any
  std::vector<std::string_view> permissions;
  Handler handler;
  Opener opener = nullptr;           // of bodies that aren't collected; then there is no handler
  bool typed = true;                 // an empty refusal names a type
};

const std::vector<Api::Route>& Api::routes() {
  static const std::vector<Route> routes = {
      {"/db/execute", false, "POST ", {"execute"}, &Api::execute},
      {"/db/query", false, "GET POST ", {"query"}, &Api::query},
      {"/db/request", false, "POST ", {"query", "execute"}, &Api::request},
      {"/db/sql", false, "GET POST ", {"query"}, &Api::show_sql},
      {"/db/backup", false, "GET ", {"backup"}, &Api::backup, nullptr, false},
      {"/db/load", false, "POST ", {"load"}, nullptr, &Api::load, false},
      {"/boot", true, "POST ", {"load"}, nullptr, &Api::boot, false},
      {"/db/proof", true, "GET POST ", {"status"}, &Api::proof},
      {"/snapshot", true, "POST ", {"snapshot"}, &Api::snapshot, nullptr, false},
      {"/reap", true, "POST ", {"snapshot"}, &Api::reap},
      {"/remove", false, "DELETE ", {"remove"}, &Api::remove},
      {"/status", false, "GET ", {"status"}, &Api::status},
      {"/nodes", false, "GET ", {"status"}, &Api::nodes},
      {"/leader", true, "GET POST ", {"leader-ops"}, &Api::leader},
      {"/readyz", false, "GET ", {"ready"}, &Api::ready},
      {"/licenses", true, "GET ", {"status"}, &Api::licenses},
      {"/metrics", true, "GET ", {"status"}, &Api::prometheus},
      {"/debug/vars", true, "", {"status"}, &Api::debug_vars},
      {"/debug/pprof", false, "", {"status"}, &Api::pprof},
      {"/console", false, "GET HEAD ", {"ui"}, &Api::not_yet},
  };
  return routes;
}

const Api::Route* Api::find_route(std::string_view path) {
  for (const Route& route : routes())
    if (route.exact ? path == route.path : path.starts_with(route.path)) return &route;
  return nullptr;
}

Api::Api(ApiOptions options, Backend& backend, Clock& clock, Metrics& metrics)
    : options_(std::move(options)), backend_(backend), clock_(clock), metrics_(metrics), queue_(options_.queue, backend, clock, metrics) {
  const bool auth = options_.authority != nullptr;
  make_stats();
  common_headers_ = "X-Rqlite-Version: " + header_value(options_.version) + "\r\n";
  if (!options_.allow_origin.empty()) common_headers_ += "Access-Control-Allow-Origin: " + header_value(options_.allow_origin) + "\r\n";
  common_headers_ += "Access-Control-Allow-Methods: OPTIONS, GET, POST\r\n";
  common_headers_ += auth ? "Access-Control-Allow-Headers: Content-Type, Authorization\r\nAccess-Control-Allow-Credentials: true\r\n"
                            "Www-Authenticate: Basic realm=\"rqlite\"\r\n"
                          : "Access-Control-Allow-Headers: Content-Type\r\n";
}

Api::~Api() = default;

// ---- statistics

namespace {
constexpr std::size_t kLevels = 5;
constexpr std::array<const char*, kLevels> kLevelNames = {"weak", "none", "linearizable", "strong", "auto"};   // as pb::Request::Level counts
bool has_levels(std::string_view path) { return path == "/db/query" || path == "/db/request"; }
}  // namespace

void Api::make_stats() {
  for (const Route& route : routes())
    for (std::size_t level = 0; level < kLevels; ++level)
      stats_.push_back(level == 0 || has_levels(route.path)
                           ? std::make_unique<EndpointStats>(std::string(route.path), has_levels(route.path) ? kLevelNames[level] : "")
                           : nullptr);
  stats_.push_back(std::make_unique<EndpointStats>("other", ""));
}

EndpointStats& Api::stats_of(const Route* route, const Parameters& parameters) const {
  if (route == nullptr) return *stats_.back();
  const auto level = has_levels(route->path) ? static_cast<std::size_t>(parameters.level) : 0;
  return *stats_[static_cast<std::size_t>(route - routes().data()) * kLevels + std::min(level, kLevels - 1)];
}

// ---- answers

void Api::respond(Exchange& exchange, int status, std::string_view type, std::string body, std::string_view extra) const {
  if (exchange.stats != nullptr) exchange.stats->answered(status, clock_.now() - exchange.begun);
  Response response{.status = status, .headers = {}, .body = std::move(body)};
  response.headers.reserve(common_headers_.size() + type.size() + extra.size());
  response.headers.append(common_headers_).append(type).append(extra);
  exchange.respond(std::move(response));
}

void Api::respond_error(Exchange& exchange, int status, std::string_view text) const {
  respond(exchange, status, kText, std::string(text) + "\n");
}

void Api::respond_empty(Exchange& exchange, int status, bool json) const { respond(exchange, status, json ? kJson : std::string_view(), {}); }

void Api::redirect_to_console(Exchange& exchange, int status) const {
  const bool shows_body = exchange.request.method == "GET" || exchange.request.method == "HEAD";
  const std::string body = std::string("<a href=\"/console/\">") + std::string(reason_of(status)) + "</a>.\n\n";
  respond(exchange, status, shows_body ? "Content-Type: text/html; charset=utf-8\r\n" : "", shows_body ? body : std::string(), "Location: /console/\r\n");
}

void Api::respond(Exchange& exchange, TextReply&& reply, std::string_view raw_path, std::string_view raw_query) const {
  if (reply.status == 301) return respond(exchange, 301, kJson, {}, location_of(reply.redirect_to, raw_path, raw_query));
  std::string extra;
  if (!reply.served_by.empty()) extra = "X-Rqlite-Served-By: " + header_value(reply.served_by) + "\r\n";
  if (reply.type == TextReply::Type::Json) return respond(exchange, reply.status, kJson, std::move(reply.body), extra);
  if (reply.type == TextReply::Type::None) return respond(exchange, reply.status, kJson, {}, extra);
  if (reply.status >= 400 && !reply.body.starts_with("[+]")) return respond(exchange, reply.status, kText, reply.body + "\n", extra);
  respond(exchange, reply.status, "Content-Type: text/plain; charset=utf-8\r\n", std::move(reply.body), extra);
}

ReplyFn Api::replier(const Context& context) const {
  return [this, exchange = context.exchange, path = std::string(context.target.raw_path),
          query = std::string(context.target.raw_query)](TextReply&& reply) { respond(*exchange, std::move(reply), path, query); };
}

Routing Api::routing(const Context& context) const {
  const Parameters& parameters = context.target.parameters;
  return {.timeout = parameters.timeout, .retries = parameters.retries, .redirect = parameters.redirect, .credentials = context.credentials};
}

// ---- dispatch, with the checks in the reference's order

bool Api::permitted(const auth::Caller& caller, const Route& route) {
  return std::ranges::all_of(route.permissions, [&](std::string_view permission) { return caller.may(permission); });
}

// nullopt: a hash has to be computed, which is not for a net thread.
std::optional<bool> Api::permitted_now(const Context& context, const Route& route) const {
  if (options_.authority == nullptr || permitted(options_.authority->anybody(), route)) return true;
  const std::optional<auth::Caller> caller = options_.authority->identify(context.credentials.username, context.credentials.password);
  if (!caller) return std::nullopt;
  return permitted(*caller, route);
}

// `done` is called on the net thread, unless the request was answered with "busy".
void Api::permitted_later(const Context& context, const Route& route, Identified done) {
  const auto identified = [this, exchange = context.exchange, &route, done = std::move(done)](const Result<auth::Caller>& caller) {
    if (!caller) return respond_error(*exchange, 503, caller.error().text());
    exchange->on_net_thread([done, may = permitted(*caller, route)] { done(may); });
  };
  options_.authority->identify(context.credentials.username, context.credentials.password, identified);
}

// What comes before the permission. Null: answered already.
const Api::Route* Api::locate(const std::shared_ptr<Exchange>& exchange, Context& context) {
  Request& in = exchange->request;
  Result<Target> target = parse_target(in.target);
  const Route* route = target ? find_route(target->path) : nullptr;
  exchange->count_for(stats_of(route, target ? target->parameters : Parameters()), clock_.now());
  if (in.method == "OPTIONS") return respond(*exchange, 200, {}, {}), nullptr;
  if (!target) return respond_error(*exchange, 400, target.error().text()), nullptr;
  if (target->bad_parameters) return respond_error(*exchange, 400, target->bad_parameters->text()), nullptr;
  const std::string& path = target->path;
  if (path == "/" || path.empty()) return redirect_to_console(*exchange, 302), nullptr;
  if (path == "/console") return redirect_to_console(*exchange, 301), nullptr;
  if (route == nullptr) return respond(*exchange, 404, {}, {}), nullptr;
  context = {.exchange = exchange, .target = *std::move(target), .credentials = {}};
  if (options_.authority != nullptr) context.credentials = credentials_of(in.authorization);
  return route;
}

// False: refused, and answered.
bool Api::enter(Exchange& exchange, const Route& route, bool may) {
  metrics_.counter("http", may ? "auth_ok" : "auth_fail").add();
  if (!may) return respond_empty(exchange, 401, route.typed), false;
  if (route.methods.empty()) return true;
  const std::size_t at = route.methods.find(exchange.request.method + " ");
  if (at == std::string_view::npos || (at > 0 && route.methods[at - 1] != ' ')) return respond_empty(exchange, 405, route.typed), false;
  return true;
}

// Holds the first piece of a body back until it is known whose it is.
class Api::WaitingSink final : public BodySink {
 public:
  void write(std::string&& piece, std::function<void()> taken) override {
    if (sink_) return sink_->write(std::move(piece), std::move(taken));
    piece_ = std::move(piece);
    taken_ = std::move(taken);
  }
  void end() override {
    if (sink_) return sink_->end();
    ended_ = true;
  }
  // Null: answered already, the rest of the body is of no interest.
  void go_on(std::shared_ptr<BodySink> sink) {
    sink_ = std::move(sink);
    if (taken_ && sink_) sink_->write(std::move(piece_), std::exchange(taken_, nullptr));
    else if (taken_) std::exchange(taken_, nullptr)();
    if (ended_ && sink_) sink_->end();
  }

 private:
  std::shared_ptr<BodySink> sink_;
  std::string piece_;
  std::function<void()> taken_;
  bool ended_ = false;
};

// The bodies of some paths go elsewhere piece by piece. Of all others a body is collected; not for those who may not send it.
std::shared_ptr<BodySink> Api::open(const std::shared_ptr<Exchange>& exchange) {
  if (exchange->request.method == "GET" || exchange->request.method == "HEAD") return nullptr;
  const std::string_view text = exchange->request.target;
  const std::string_view path = text.substr(0, text.find('?'));
  const bool streams = path.find("/db/load") != std::string_view::npos || path.find("/boot") != std::string_view::npos || path.find('%') != std::string_view::npos;
  if (!streams && options_.authority == nullptr) return nullptr;
  const Result<Target> target = parse_target(text);
  const Route* route = target ? find_route(target->path) : nullptr;
  if (route == nullptr || target->bad_parameters) return nullptr;
  Context context{.exchange = exchange, .target = {}, .credentials = {}};
  if (options_.authority != nullptr) context.credentials = credentials_of(exchange->request.authorization);
  const std::optional<bool> may = permitted_now(context, *route);
  if (route->opener == nullptr && may != false) return nullptr;
  if (locate(exchange, context) == nullptr) return nullptr;
  if (may) return enter(*exchange, *route, *may) && route->opener != nullptr ? (this->*route->opener)(context) : nullptr;
  auto waiting = std::make_shared<WaitingSink>();
  permitted_later(context, *route, [this, context, route, weak = std::weak_ptr<WaitingSink>(waiting)](bool allowed) mutable {
    const std::shared_ptr<WaitingSink> sink = weak.lock();
    if (sink) sink->go_on(enter(*context.exchange, *route, allowed) ? (this->*route->opener)(context) : nullptr);
  });
  return waiting;
}

void Api::handle(std::shared_ptr<Exchange> exchange) {
  Context context;
  const Route* route = locate(exchange, context);
  if (route == nullptr) return;
  if (const std::optional<bool> may = permitted_now(context, *route)) {
    if (enter(*exchange, *route, *may)) (this->*route->handler)(context);
    return;
  }
  permitted_later(context, *route, [this, context, route](bool may) mutable {
    if (enter(*context.exchange, *route, may)) (this->*route->handler)(context);
  });
}

// ---- SQL

void Api::DbCall::done(SqlReply&& reply) {
  if ((request.render() & command::kTimings) != 0) reply.outcome.elapsed = api_.clock_.now() - begun_;
  // Asked to redirect, and nowhere to: the reference answers 500 then.
  if (routing.redirect && reply.failure && reply.failure->code == Errc::LeaderNotFound)
    return api_.respond_error(*exchange_, 500, reply.failure->text());
  api_.sql_answered(*exchange_, request.render(), type_, path_, query_, std::move(reply));
}

void Api::sql_answered(Exchange& exchange, std::uint32_t render, std::string_view type, std::string_view path, std::string_view raw_query,
                       SqlReply&& reply) const {
  if (reply.failure) {
    const Error& error = *reply.failure;
    if (error.code == Errc::NotLeader && !reply.redirect_to.empty())
      return respond(exchange, 301, kJson, {}, location_of(reply.redirect_to, path, raw_query));
    const int status = status_of(error.code);
    if (error.code == Errc::LeaderNotFound) metrics_.counter("http", "leader_not_found").add();
    if (status != 200) return respond_error(exchange, status, error.text());
    return respond(exchange, 200, type, command::render_body({.error = error.text(), .elapsed = reply.outcome.elapsed}, render));
  }
  std::string extra;
  if (!reply.served_by.empty()) extra = "X-Rqlite-Served-By: " + reply.served_by + "\r\n";
  std::string body = reply.rendered.empty() ? command::render_body(reply.outcome, render) : std::move(reply.rendered);
  respond(exchange, 200, type, std::move(body), extra);
}

void Api::execute(Context& context) {
  if (context.target.parameters.queue) return enqueue(context);
  metrics_.counter("http", "executions").add();
  run_sql(context, pb::Request::EXECUTE);
}

void Api::query(Context& context) {
  metrics_.counter("http", "queries").add();
  run_sql(context, pb::Request::QUERY);
}

void Api::request(Context& context) {
  metrics_.counter("http", "requests").add();
  run_sql(context, pb::Request::REQUEST);
}

void Api::run_sql(Context& context, pb::Request::Kind kind) {
  Exchange& exchange = *context.exchange;
  const Parameters& parameters = context.target.parameters;
  auto call = std::make_shared<DbCall>(*this, context);
  pb::Request& request = call->request;
  request.set_kind(kind);
  if (exchange.request.method == "GET") {
    if (parameters.q) request.add_statements()->set_sql(*parameters.q);
  } else if (kind != pb::Request::REQUEST && is_plain_text(exchange.request.content_type)) {
    if (!exchange.request.body.empty()) request.add_statements()->set_sql(std::move(exchange.request.body));
  } else {
    const Result<std::size_t> elements = parse_statements(exchange.request.body, request);
    if (!elements) return respond_error(exchange, 400, elements.error().text());
    if (*elements == 0) return respond_error(exchange, 400, "no statements");
  }
  static constexpr const char* kCounters[] = {"execute_stmts_rx", "query_stmts_rx", "request_stmts_rx"};
  metrics_.counter("http", kCounters[kind]).add(request.statements_size());
  request.set_transaction(parameters.transaction);
  request.set_render(render_of(parameters));
  request.set_level(parameters.level);
  request.set_db_timeout_ns(std::max<std::int64_t>(parameters.db_timeout.count(), 0));
  call->routing = routing(context);
  call->freshness = {parameters.freshness, parameters.freshness_strict};
  if (kind != pb::Request::REQUEST || parameters.linearizable_timeout.count() > 0) call->linearizable_timeout = parameters.linearizable_timeout;
  call->net_thread = exchange.net_thread;
  backend_.sql(std::move(call));
}

void Api::enqueue(Context& context) {
  Exchange& exchange = *context.exchange;
  const Parameters& parameters = context.target.parameters;
  metrics_.counter("http", "queued_executions").add();
  if (!parameters.no_leader && !backend_.has_leader()) {
    metrics_.counter("http", "leader_not_found").add();
    return respond_error(exchange, 503, "leader not found");
  }
  pb::Request request;
  const Result<std::size_t> elements = parse_statements(exchange.request.body, request);
  if (!elements) return respond_error(exchange, 400, elements.error().text());
  if (*elements == 0 && !parameters.wait) return respond_error(exchange, 400, "no statements");
  for (const pb::Statement& statement : request.statements())
    if (options_.disallowed && options_.disallowed(statement.sql()))
      return respond(exchange, 200, kJson, command::render_body({.error = Error{Errc::DisallowedPragma, {}}.text()}, render_of(parameters)));
  metrics_.counter("http", "queued_executions_num_stmts_rx").add(request.statements_size());
  const std::uint32_t render = render_of(parameters) & (command::kPretty | command::kTimings);
  const SteadyTime begun = clock_.now();
  const auto answer = [this, holder = context.exchange, render, begun](std::int64_t sequence) {
    respond(*holder, 200, kJson, command::render_body({.elapsed = clock_.now() - begun}, render, sequence));
  };
  auto waiting = std::make_shared<Enqueued>();
  waiting->statements.Swap(request.mutable_statements());
  waiting->credentials = context.credentials;
  waiting->until = begun + kQueueFullWait;
  if (!parameters.wait) {
    waiting->accepted = answer;
    return put_into_queue(context.exchange, waiting);
  }
  metrics_.counter("http", "queued_executions_wait").add();
  // Whoever comes first answers: the batch, or the end of the client's patience.
  waiting->done = [keep = waiting, answer](std::int64_t sequence) {
    if (!keep->answered.exchange(true)) answer(sequence);
  };
  exchange.after(parameters.timeout, [this, waiting, holder = context.exchange] {
    waiting->done = nullptr;                              // it holds itself
    if (waiting->answered.exchange(true)) return;
    metrics_.counter("http", "queued_executions_wait_timeout").add();
    respond_error(*holder, 408, "queue wait timeout");
  });
  put_into_queue(context.exchange, waiting);
}

// A full queue holds the request back for a while before it says busy, as the reference holds it back for ever.
void Api::put_into_queue(const std::shared_ptr<Exchange>& exchange, const std::shared_ptr<Enqueued>& waiting) {
  const Result<std::int64_t> sequence = queue_.add(waiting->statements, waiting->credentials, waiting->done);
  if (sequence) {
    waiting->done = nullptr;                              // the queue has it now; it holds `waiting`
    if (waiting->accepted) waiting->accepted(*sequence);
    return;
  }
  if (sequence.error().code == Errc::Busy && clock_.now() < waiting->until && !exchange->client_gone())
    return exchange->after(kQueueRetry, [this, exchange, waiting] { put_into_queue(exchange, waiting); });
  if (!waiting->answered.exchange(true)) respond_error(*exchange, 503, sequence.error().text());
}

void Api::show_sql(Context& context) {
  Exchange& exchange = *context.exchange;
  const Parameters& parameters = context.target.parameters;
  metrics_.counter("http", "sql_analyze").add();
  const SteadyTime begun = clock_.now();
  pb::Request request;
  if (exchange.request.method == "GET") {
    if (!parameters.q) return respond_error(exchange, 400, "query not specified");
    request.add_statements()->set_sql(*parameters.q);
  } else {
    const Result<std::size_t> elements = parse_all_statements(exchange.request.body, request);
    if (!elements) return respond_error(exchange, 400, elements.error().text());
    if (*elements == 0) return respond_error(exchange, 400, "no statements");
  }
  command::Outcome outcome;
  for (const pb::Statement& statement : request.statements()) {
    std::string& out = outcome.results;
    out += out.empty() ? "{\"original\":" : ",{\"original\":";
    append_json_string(out, statement.sql());
    const std::optional<std::string> error = statement.sql().empty() ? std::optional<std::string>("EOF")
                                             : options_.syntax_error ? options_.syntax_error(statement.sql())
                                                                     : std::nullopt;
    out += error ? ",\"error\":" : ",\"rewritten\":";
    append_json_string(out, error ? *error : statement.sql());
    out += '}';
  }
  outcome.elapsed = clock_.now() - begun;
  respond(exchange, 200, kJson, command::render_body(outcome, render_of(parameters) & (command::kPretty | command::kTimings)));
}

// ---- operations

void Api::nodes(Context& context) {
  const Parameters& parameters = context.target.parameters;
  backend_.nodes({.non_voters = parameters.non_voters, .version = parameters.ver == "2" ? 2 : 1, .pretty = parameters.pretty,
                  .timeout = parameters.timeout},
                 replier(context));
}

namespace {
// {"id":"..."}: exactly one member, a string.
std::optional<std::string> only_id(std::string& body, std::string* parse_error) {
  rapidjson::Document document;
  document.Parse(body.data(), body.size());
  if (document.HasParseError()) {
    if (parse_error != nullptr) *parse_error = "invalid character at byte " + std::to_string(document.GetErrorOffset());
    return std::nullopt;
  }
  if (!document.IsObject() || document.MemberCount() != 1) return std::nullopt;
  const auto id = document.FindMember("id");
  if (id == document.MemberEnd() || !id->value.IsString()) return std::nullopt;
  return std::string(id->value.GetString(), id->value.GetStringLength());
}
}  // namespace

void Api::leader(Context& context) {
  Exchange& exchange = *context.exchange;
  const Parameters& parameters = context.target.parameters;
  if (exchange.request.method == "GET") return backend_.leader(parameters.pretty, parameters.timeout, replier(context));
  std::string id;
  const bool has_body = exchange.request.content_type == "application/json" && exchange.request.has_content_length && !exchange.request.body.empty();
  if (has_body) {
    std::string error;
    const auto given = only_id(exchange.request.body, &error);
    if (!error.empty()) return respond_error(exchange, 400, "invalid JSON: " + error);
    id = given.value_or("");
  }
  backend_.step_down(id, parameters.wait, routing(context), replier(context));
}

void Api::remove(Context& context) {
  Exchange& exchange = *context.exchange;
  const auto id = only_id(exchange.request.body, nullptr);
  if (!id) return respond(exchange, 400, kJson, {});
  backend_.remove_node(*id, routing(context), replier(context));
}

void Api::ready(Context& context) {
  metrics_.counter("http", "num_readyz").add();
  const Parameters& parameters = context.target.parameters;
  backend_.ready({.no_leader = parameters.no_leader, .sync = parameters.sync, .timeout = parameters.timeout}, replier(context));
}

void Api::proof(Context& context) {
  Exchange& exchange = *context.exchange;
  const Parameters& parameters = context.target.parameters;
  const bool acts = parameters.scrub || parameters.trust;
  if (acts != (exchange.request.method == "POST")) return respond_empty(exchange, 405, true);
  // To say which data is right takes more than to look.
  const auto may_trust = [&] {
    if (options_.authority == nullptr) return true;
    const std::optional<auth::Caller> caller = options_.authority->identify(context.credentials.username, context.credentials.password);
    return caller && caller->may("load");
  };
  if (parameters.trust && !may_trust()) return respond_empty(exchange, 401, true);
  backend_.proof({.scrub = parameters.scrub, .pretty = parameters.pretty, .trust = parameters.trust}, routing(context), replier(context));
}

void Api::snapshot(Context& context) {
  metrics_.counter("http", "user_snapshots").add();
  backend_.snapshot(static_cast<std::uint64_t>(std::max<std::int64_t>(context.target.parameters.trailing_logs, 0)),
                    [this, exchange = context.exchange, reply = replier(context)](TextReply&& answer) {
    if (answer.type == TextReply::Type::None) return respond(*exchange, answer.status, {}, {});
    reply(std::move(answer));
  });
}

void Api::reap(Context& context) {
  metrics_.counter("http", "user_reaps").add();
  backend_.reap(replier(context));
}

void Api::licenses(Context& context) { respond(*context.exchange, 200, "Content-Type: text/plain; charset=utf-8\r\n", options_.licenses); }

void Api::not_yet(Context& context) { respond_error(*context.exchange, 501, "not supported yet: " + context.target.path); }
void Api::prometheus(Context& context) {
  if (!options_.metrics) return respond(*context.exchange, 404, {}, {});
  options_.metrics(context.exchange->net_thread, [this, exchange = context.exchange](std::string text) {
    respond(*exchange, 200, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n", std::move(text));
  });
}

void Api::pprof(Context& context) {
  if (!options_.pprof) return respond(*context.exchange, 404, {}, {});
  options_.pprof(context.target.path, context.target.raw_query, replier(context));
}

std::string Api::http_status() const {
  std::string out = "{";
  if (!options_.allow_origin.empty()) {
    out += "\"allow_origin\":";
    append_json_string(out, options_.allow_origin);
    out += ',';
  }
  out += std::string("\"auth\":\"") + (options_.authority == nullptr ? "disabled" : "enabled") + "\",\"bind_addr\":";
  append_json_string(out, options_.bind_addr);
  out += ",\"cluster\":{";
  const std::string pools = options_.peer_pools ? options_.peer_pools() : std::string();
  if (pools.size() > 2) out += "\"conn_pool_stats\":" + pools + ",";
  out += "\"local_node_addr\":";
  append_json_string(out, options_.cluster_addr);
  out += ",\"timeout\":\"30s\"},\"queue\":{\"_default\":{\"batch_size\":" + std::to_string(options_.queue.batch_size) +
         ",\"max_size\":" + std::to_string(options_.queue.capacity) + ",\"sequence_number\":" + std::to_string(queue_.written_sequence()) +
         ",\"timeout\":\"" + go_duration_text(options_.queue.timeout) + "\"}},\"tls\":" + options_.tls_status + "}";
  return out;
}

namespace {

// The sub-tree that `key` (a.b.c) names; {} when there is none; going below a scalar gives the scalar.
std::string pick(const std::string& json, std::string_view key) {
  // Numbers stay as they are written: the text is cut out of the source.
  std::string_view rest = json;
  while (!key.empty()) {
    const std::size_t dot = std::min(key.find('.'), key.size());
    const std::string_view name = key.substr(0, dot);
    key.remove_prefix(std::min(dot + 1, key.size()));
    if (rest.empty() || rest.front() != '{') return std::string(rest);
    std::string quoted;
    append_json_string(quoted, name);
    std::size_t at = 1;
    std::optional<std::string_view> found;
    while (at < rest.size() && rest[at] != '}') {
      std::size_t end = at;
      const auto skip_value = [&](std::size_t from) {
        int depth = 0;
        bool in_string = false;
        std::size_t i = from;
        for (; i < rest.size(); ++i) {
          const char c = rest[i];
          if (in_string) {
            if (c == '\\') ++i;
            else if (c == '"') in_string = false;
            continue;
          }
          if (c == '"') in_string = true;
          else if (c == '{' || c == '[') ++depth;
          else if (c == '}' || c == ']') {
            if (depth == 0) break;
            --depth;
          } else if (c == ',' && depth == 0) break;
        }
        return i;
      };
      std::size_t colon = at + 1;
      for (; colon < rest.size() && rest[colon] != '"'; ++colon)
        if (rest[colon] == '\\') ++colon;
      ++colon;
      end = skip_value(colon + 1);
      if (rest.substr(at, colon - at) == quoted) found = rest.substr(colon + 1, end - colon - 1);
      at = end + (end < rest.size() && rest[end] == ',' ? 1 : 0);
    }
    if (!found) return "{}";
    rest = *found;
  }
  return std::string(rest);
}

}  // namespace

void Api::status(Context& context) {
  metrics_.counter("http", "num_status").add();
  const Parameters& parameters = context.target.parameters;
  std::string tree = backend_.status_json();
  // `http` stands between `extensions` and `mux`, or `build` and `node`: members are sorted by name.
  const std::string member = "\"http\":" + http_status();
  std::size_t at = tree.find(",\"mux\":");
  if (at == std::string::npos) at = tree.find(",\"node\":");
  RQ_ASSERT(at != std::string::npos);
  tree.insert(at, "," + member);
  if (!parameters.key.empty()) tree = pick(tree, parameters.key);
  respond(*context.exchange, 200, kJson, parameters.pretty ? pretty_json(tree) : std::move(tree));
}

// Layout: `{`, one member a line, `}`.
void Api::debug_vars(Context& context) {
  const std::string& key = context.target.parameters.key;
  std::map<std::string, std::string> members;
  std::string line = "[";
  for (const std::string& word : options_.command_line) {
    if (line.size() > 1) line += ',';
    append_json_string(line, word);
  }
  members["cmdline"] = line + "]";
  members["memstats"] = options_.memstats ? options_.memstats() : "{}";
  if (options_.refresh_counters) options_.refresh_counters();
  for (const auto& [map, counters] : metrics_.maps()) {
    std::string text = "{";
    for (const auto& [name, counter] : counters) {
      if (text.size() > 1) text += ", ";
      append_json_string(text, name);
      text += ": " + std::to_string(counter.value());
    }
    members[map] = text + "}";
  }
  std::string body = "{\n";
  bool first = true;
  for (const auto& [name, text] : members) {
    if (!key.empty() && key != name) continue;
    if (!first) body += ",\n";
    first = false;
    append_json_string(body, name);
    body += ": " + text;
  }
  respond(*context.exchange, 200, kJson, body + "\n}\n");
}

}  // namespace rq::http
