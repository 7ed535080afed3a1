// What the units of Api share: headers, and the call behind /db/execute and its like. Private to this folder.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "http/api.h"

namespace rq::http {

inline constexpr std::string_view kJson = "Content-Type: application/json; charset=utf-8\r\n";
inline constexpr std::string_view kText = "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n";

std::string header_value(std::string_view value);   // without what would end a header line
std::string location_of(const std::string& base, std::string_view raw_path, std::string_view raw_query);   // a whole line
std::uint32_t render_of(const Parameters& parameters);

class Api::DbCall final : public SqlCall {
 public:
  // `type`: the Content-Type line of the answer.
  DbCall(const Api& api, const Context& context, std::string_view type = kJson)
      : api_(api), exchange_(context.exchange), type_(type), path_(context.target.raw_path), query_(context.target.raw_query), begun_(api.clock_.now()) {}
  void done(SqlReply&& reply) override;
  bool canceled() const override { return exchange_->client_gone(); }

 private:
  const Api& api_;
  const std::shared_ptr<Exchange> exchange_;
  const std::string_view type_;
  const std::string_view path_, query_;      // into the exchange's target
  const SteadyTime begun_;
};

}  // namespace rq::http
