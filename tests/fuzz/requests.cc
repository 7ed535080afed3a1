#include "auth/credentials.h"
#include "base/assert.h"
#include "command/command.pb.h"
#include "config/flags.h"
#include "fuzz/targets.h"
#include "http/body_parser.h"
#include "http/request_target.h"
#include "sql/dates.h"
#include "sql/statement_facts.h"

#include <string>
#include <vector>

namespace rq::fuzz {

void http_target(std::string_view input) {
  const Result<http::Target> target = http::parse_target(input);
  if (!target) return;
  RQ_ASSERT(target->raw_path.empty() || (target->raw_path.data() >= input.data() && target->raw_path.data() + target->raw_path.size() <= input.data() + input.size()) ||
            target->raw_path == "/");
}

void http_body(std::string_view input) {
  for (const auto parse : {http::parse_statements, http::parse_all_statements}) {
    std::string body(input);
    pb::Request request;
    const Result<std::size_t> elements = parse(body, request);
    if (elements) RQ_ASSERT(static_cast<std::size_t>(request.statements_size()) <= *elements);
  }
}

void sql_text(std::string_view input) {
  (void)sql::examine(input);
  std::size_t end = 0;
  sql::StatementScanner scanner(input);
  for (sql::StatementFacts facts; scanner.next(facts);) {
    if (facts.text.empty()) continue;
    RQ_ASSERT(facts.text.data() >= input.data() + end);             // forward, within the text
    end = static_cast<std::size_t>(facts.text.data() - input.data()) + facts.text.size();
    RQ_ASSERT(end <= input.size());
  }
  std::string out;
  (void)sql::append_date(out, input);
}

void credentials(std::string_view input) {
  const Result<auth::CredentialStore> store = auth::CredentialStore::parse(std::string(input));
  if (!store) return;
  for (const auth::User* user : {store->find("bob"), store->everybody()})
    if (user != nullptr) (void)user->may("status");
}

// Arguments are separated by NUL bytes, as in /proc/PID/cmdline.
void flags(std::string_view input) {
  std::vector<std::string> words = {"rqlited"};
  for (std::size_t at = 0; at < input.size() && words.size() < 64;) {
    const std::size_t end = std::min(input.find('\0', at), input.size());
    words.emplace_back(input.substr(at, end - at));
    at = end + 1;
  }
  std::vector<const char*> argv;
  for (const std::string& word : words) argv.push_back(word.c_str());
  argv.push_back(nullptr);
  (void)config::parse(static_cast<int>(words.size()), argv.data(), "version");
}

}  // namespace rq::fuzz
