#include "sim/clients.h"

#include <algorithm>

namespace rq::sim {
namespace {

constexpr Instant kPatience = milliseconds(2500);
constexpr std::int64_t kBalance = 100;
constexpr unsigned kColdRows = 120;

pb::Request request_of(pb::Request::Kind kind, const std::vector<std::string>& statements, bool transaction = false) {
  pb::Request request;
  request.set_kind(kind);
  for (const auto& sql : statements) request.add_statements()->set_sql(sql);
  request.set_transaction(transaction);
  return request;
}

bool failed_inside(const command::Outcome& outcome) { return !outcome.error.empty() || outcome.results.find("\"error\"") != std::string::npos; }

bool surely_without_effect(Errc code) {
  return code == Errc::NotLeader || code == Errc::LeaderNotFound || code == Errc::Busy || code == Errc::NotOpen || code == Errc::TransferInProgress || code == Errc::TooLarge;
}

}  // namespace

Clients::Clients(Shared& shared) : shared_(shared), workload_(shared.world.seed) {}

Node* Clients::contact() {
  // Mostly whoever says that it leads, also one that leads no more and doesn't know.
  std::vector<Node*> leaders;
  for (const auto& node : shared_.nodes)
    if (node->leads()) leaders.push_back(node.get());
  if (!leaders.empty() && world().below(3) != 0) return leaders[world().below(leaders.size())];
  return shared_.nodes[world().below(shared_.nodes.size())].get();
}

void Clients::ask(pb::Request request, Call::Way way, Done done) {
  auto call = std::make_shared<Call>();
  call->request = std::move(request);
  call->way = way;
  auto told = std::make_shared<Done>(std::move(done));
  call->done = [told](const Result<command::Outcome>& result) {
    if (auto once = std::exchange(*told, nullptr)) once(result);
  };
  world().after(kPatience, [told] {
    if (auto once = std::exchange(*told, nullptr)) once(fail(Errc::Timeout));
  });
  Node* node = contact();
  // Noticed by the operating system: nobody listens there.
  if (!node->up()) return world().after(milliseconds(5), [call] { call->failed({Errc::NotOpen, {}}); });
  node->serve(call);
}

Fate Clients::fate_of(const Result<command::Outcome>& result, const std::string& what) {
  world().trace(what);
  if (!result) {
    const bool without = surely_without_effect(result.error().code);
    const bool retried = result.error().code == Errc::LeadershipLost && shared_.is(Mutant::RetryOpenWrite);
    world().trace(without ? "refused" : "open");
    return without || retried ? Fate::Refused : Fate::Open;
  }
  world().trace(result->results);
  ++acknowledged_;
  return Fate::Acknowledged;
}

void Clients::set_up(std::function<void()> done) {
  std::vector<std::string> statements{"CREATE TABLE IF NOT EXISTS reg(k INTEGER PRIMARY KEY, v INTEGER, at REAL, r INTEGER)",
                                      "CREATE TABLE IF NOT EXISTS list(k INTEGER PRIMARY KEY, v TEXT, at TEXT)",
                                      "CREATE TABLE IF NOT EXISTS bank(id INTEGER PRIMARY KEY, b INTEGER CHECK(b >= 0))"};
  for (unsigned key = 0; key < shared_.settings.keys; ++key) {
    statements.push_back("INSERT OR IGNORE INTO reg VALUES(" + std::to_string(key) + ", 0, 0, 0)");
    statements.push_back("INSERT OR IGNORE INTO list VALUES(" + std::to_string(key) + ", '', '')");
  }
  for (unsigned id = 0; id < shared_.settings.accounts; ++id)
    statements.push_back("INSERT OR IGNORE INTO bank VALUES(" + std::to_string(id) + ", " + std::to_string(kBalance) + ")");
  if (shared_.settings.cold) {
    statements.push_back("CREATE TABLE IF NOT EXISTS cold(id INTEGER PRIMARY KEY, v TEXT)");
    statements.push_back("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " + std::to_string(kColdRows) +
                         ") INSERT OR IGNORE INTO cold SELECT i, hex(randomblob(100)) FROM n");
  }
  if (shared_.settings.noise) statements.insert(statements.end(), executor::test::kSchema.begin(), executor::test::kSchema.end());
  ask(request_of(pb::Request::EXECUTE, statements), Call::Way::Log, [this, done](const Result<command::Outcome>& result) {
    if (result) return done();
    world().after(milliseconds(50), [this, done] { set_up(done); });
  });
}

void Clients::start() {
  for (unsigned client = 0; client < shared_.settings.clients; ++client) next(client);
  if (shared_.settings.poison.count() > 0) poison();
}

void Clients::next(unsigned client) {
  if (stopped_) return;
  world().after(world().around(shared_.settings.think), [this, client] {
    if (!stopped_) act(client);
  });
}

void Clients::act(unsigned client) {
  ++operations_;
  if (shared_.settings.cold && world().one_in(12)) return write_cold(client);
  const std::uint64_t die = world().below(shared_.settings.noise ? 120 : 100);
  if (die < 22) return write_register(client);
  if (die < 32) return swap_register(client);
  if (die < 52) return read_register(client);
  if (die < 70) return append(client);
  if (die < 84) return read_list(client);
  if (die < 93) return transfer(client);
  if (die < 100) return read_bank(client);
  return noise(client);
}

void Clients::write_register(unsigned client) {
  const unsigned key = static_cast<unsigned>(world().below(shared_.settings.keys));
  const std::uint64_t value = ++values_;
  auto& history = registers_[key];
  const std::size_t place = history.size();
  history.push_back({.kind = RegisterOp::Kind::Write, .call = now(), .value = value});
  const std::string sql = "UPDATE reg SET v = " + std::to_string(value) + ", at = julianday('now'), r = random() WHERE k = " + std::to_string(key);
  ask(request_of(pb::Request::EXECUTE, {sql}), Call::Way::Log, [this, client, key, place](const Result<command::Outcome>& result) {
    RegisterOp& op = registers_[key][place];
    const Fate fate = fate_of(result, "write");
    if (fate == Fate::Acknowledged) op.end = now();
    if (fate == Fate::Refused) op = {.call = op.call};                 // an unanswered read: nothing
    if (result && failed_inside(*result)) world().violated("a write that can't fail failed: " + result->error + result->results);
    next(client);
  });
}

void Clients::swap_register(unsigned client) {
  const unsigned key = static_cast<unsigned>(world().below(shared_.settings.keys));
  const std::uint64_t value = ++values_;
  auto& history = registers_[key];
  // Mostly what was written a little while ago: it often is the present value.
  std::uint64_t expected = 0;
  for (std::size_t back = 0; back < std::min<std::size_t>(3, history.size()); ++back)
    if (const RegisterOp& op = history[history.size() - 1 - back]; op.value != 0) expected = op.value;
  const std::size_t place = history.size();
  history.push_back({.kind = RegisterOp::Kind::CompareAndSet, .call = now(), .value = value, .expected = expected});
  const std::string sql = "UPDATE reg SET v = " + std::to_string(value) + " WHERE k = " + std::to_string(key) + " AND v = " + std::to_string(expected);
  ask(request_of(pb::Request::EXECUTE, {sql}), Call::Way::Log, [this, client, key, place](const Result<command::Outcome>& result) {
    RegisterOp& op = registers_[key][place];
    const Fate fate = fate_of(result, "swap");
    if (fate == Fate::Acknowledged) {
      op.end = now();
      op.success = result->results.find("\"rows_affected\":1") != std::string::npos;
    }
    if (fate == Fate::Refused) op = {.call = op.call};
    next(client);
  });
}

void Clients::read_register(unsigned client) {
  const unsigned key = static_cast<unsigned>(world().below(shared_.settings.keys));
  const std::int64_t call = now();
  pb::Request request = request_of(pb::Request::QUERY, {"SELECT v FROM reg WHERE k = " + std::to_string(key)});
  const bool strong = world().one_in(4);
  request.set_read_only(strong);
  ask(request, strong ? Call::Way::Log : Call::Way::Linearizable, [this, client, key, call](const Result<command::Outcome>& result) {
    if (fate_of(result, "read") == Fate::Acknowledged) {
      const auto rows = first_column(result->results);
      if (!rows || rows->size() != 1) return world().violated("a read of a register answered " + result->error + result->results);
      registers_[key].push_back({.kind = RegisterOp::Kind::Read, .call = call, .end = now(), .value = std::stoull(rows->front())});
    }
    next(client);
  });
}

void Clients::append(unsigned client) {
  const unsigned key = static_cast<unsigned>(world().below(shared_.settings.keys));
  const std::uint64_t element = ++values_;
  auto& history = appends_[key];
  const std::size_t place = history.size();
  history.push_back({.element = element, .call = now()});
  const std::string sql = "UPDATE list SET v = v || '" + std::to_string(element) + ",', at = datetime('now') WHERE k = " + std::to_string(key);
  auto request = std::make_shared<pb::Request>(request_of(pb::Request::EXECUTE, {sql}));
  ask(*request, Call::Way::Log, [this, client, key, place, request](const Result<command::Outcome>& result) {
    Append& mine = appends_[key][place];
    mine.fate = fate_of(result, "append");
    mine.end = now();
    if (result && failed_inside(*result)) world().violated("an append that can't fail failed: " + result->error + result->results);
    // Refused for sure: sent again, as clients do (and as the mutant does when it isn't sure).
    if (mine.fate == Fate::Refused && shared_.is(Mutant::RetryOpenWrite) && !stopped_) {
      mine.fate = Fate::Open;
      ask(*request, Call::Way::Log, [this, client](const Result<command::Outcome>&) { next(client); });
      return;
    }
    next(client);
  });
}

void Clients::read_list(unsigned client) {
  const unsigned key = static_cast<unsigned>(world().below(shared_.settings.keys));
  const std::int64_t call = now();
  const std::uint64_t die = world().below(4);
  const Call::Way way = die == 0 ? Call::Way::Local : die == 1 ? Call::Way::Log : Call::Way::Linearizable;
  pb::Request request = request_of(pb::Request::QUERY, {"SELECT v FROM list WHERE k = " + std::to_string(key)});
  request.set_read_only(way == Call::Way::Log);
  ask(request, way, [this, client, key, call, way](const Result<command::Outcome>& result) {
    if (fate_of(result, "list") == Fate::Acknowledged) {
      const auto rows = first_column(result->results);
      if (rows && rows->size() == 1) list_reads_[key].push_back({parse_list(rows->front()), call, now(), way != Call::Way::Local});
      else if (way != Call::Way::Local) return world().violated("a read of a list answered " + result->error + result->results);
    }
    next(client);
  });
}

void Clients::transfer(unsigned client) {
  const std::uint64_t from = world().below(shared_.settings.accounts);
  const std::uint64_t to = (from + 1 + world().below(shared_.settings.accounts - 1)) % shared_.settings.accounts;
  const std::string amount = std::to_string(1 + world().below(40));
  ask(request_of(pb::Request::EXECUTE,
                 {"UPDATE bank SET b = b + " + amount + " WHERE id = " + std::to_string(to), "UPDATE bank SET b = b - " + amount + " WHERE id = " + std::to_string(from)}, true),
      Call::Way::Log, [this, client](const Result<command::Outcome>& result) {
        fate_of(result, "transfer");
        next(client);
      });
}

void Clients::read_bank(unsigned client) {
  const std::uint64_t die = world().below(3);
  const Call::Way way = die == 0 ? Call::Way::Local : die == 1 ? Call::Way::Log : Call::Way::Linearizable;
  pb::Request request = request_of(pb::Request::QUERY, {"SELECT b FROM bank ORDER BY id"});
  request.set_read_only(way == Call::Way::Log);
  ask(request, way, [this, client, way](const Result<command::Outcome>& result) {
    if (fate_of(result, "bank") == Fate::Acknowledged) {
      const auto rows = first_column(result->results);
      if (!rows && way == Call::Way::Local) return next(client);     // a node that is new
      std::vector<std::int64_t> balances;
      for (const std::string& row : rows.value_or(std::vector<std::string>{})) balances.push_back(std::stoll(row));
      const bool empty = balances.empty() && way == Call::Way::Local;
      if (!empty)
        if (const auto wrong = check_bank(balances, shared_.settings.accounts, kBalance * shared_.settings.accounts)) world().violated(*wrong);
    }
    next(client);
  });
}

void Clients::noise(unsigned client) {
  ask(workload_.request(), Call::Way::Log, [this, client](const Result<command::Outcome>& result) {
    fate_of(result, "noise");
    next(client);
  });
}

// One row, or all rows of a few pages.
void Clients::write_cold(unsigned client) {
  const std::uint64_t row = 1 + world().below(kColdRows);
  const std::string where = world().one_in(6) ? " WHERE id / 30 = " + std::to_string(row / 30) : " WHERE id = " + std::to_string(row);
  ask(request_of(pb::Request::EXECUTE, {"UPDATE cold SET v = hex(randomblob(100))" + where}), Call::Way::Log, [this, client](const Result<command::Outcome>& result) {
    fate_of(result, "cold");
    next(client);
  });
}

// Now and then somebody sends what no process survives.
void Clients::poison() {
  world().after(world().around(shared_.settings.poison), [this] {
    if (stopped_ || shared_.calm) return;
    ask(request_of(pb::Request::EXECUTE, {"UPDATE cold SET v = v || 'x' WHERE id = 1 " + std::string(kLethal)}), Call::Way::Log, [this](const Result<command::Outcome>& result) {
      if (result) world().violated("an entry that nobody survives was acknowledged");
    });
    poison();
  });
}

void Clients::probe(std::function<void()> done) {
  const std::uint64_t element = ++values_;
  appends_[0].push_back({.element = element, .call = now()});
  const std::size_t place = appends_[0].size() - 1;
  ask(request_of(pb::Request::EXECUTE, {"UPDATE list SET v = v || '" + std::to_string(element) + ",' WHERE k = 0"}), Call::Way::Log,
      [this, place, done](const Result<command::Outcome>& written) {
        Append& mine = appends_[0][place];
        mine.fate = fate_of(written, "probe");
        mine.end = now();
        if (mine.fate != Fate::Acknowledged) return world().after(milliseconds(100), [this, done] { probe(done); });
        ask(request_of(pb::Request::QUERY, {"SELECT v FROM list WHERE k = 0"}), Call::Way::Linearizable, [this, done](const Result<command::Outcome>& read) {
          if (!read) return world().after(milliseconds(100), [this, done] { probe(done); });
          done();
        });
      });
}

void Clients::check(Node& node) {
  const auto column = [&](const std::string& sql) { return node.column(sql); };
  for (unsigned key = 0; key < shared_.settings.keys; ++key) {
    const auto list = column("SELECT v FROM list WHERE k = " + std::to_string(key));
    if (list.size() != 1) return world().violated("a list is gone");
    if (const auto wrong = check_list(appends_[key], list_reads_[key], parse_list(list.front()))) return world().violated("list " + std::to_string(key) + ": " + *wrong);
    const auto value = column("SELECT v FROM reg WHERE k = " + std::to_string(key));
    if (value.size() != 1) return world().violated("a register is gone");
    std::vector<RegisterOp> history = registers_[key];
    history.push_back({.kind = RegisterOp::Kind::Read, .call = now(), .end = now() + 1, .value = std::stoull(value.front())});
    bool unjudged = false;
    if (const auto wrong = check_register(std::move(history), 1'000'000, &unjudged)) return world().violated("register " + std::to_string(key) + ": " + *wrong);
    gave_up_ |= unjudged;
  }
  std::vector<std::int64_t> balances;
  for (const std::string& row : column("SELECT b FROM bank ORDER BY id")) balances.push_back(std::stoll(row));
  if (const auto wrong = check_bank(balances, shared_.settings.accounts, kBalance * shared_.settings.accounts)) world().violated(*wrong);
}

}  // namespace rq::sim
