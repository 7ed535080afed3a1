// Binding of a request's parameter list to the statements of one SQL string (spec http-api section 5).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "command/command.pb.h"
#include "sql/connection.h"

namespace rq::sql {

using Parameters = google::protobuf::RepeatedPtrField<pb::Parameter>;

// For a statement that has variables while the request gave no parameter at all.
enum class Missing : std::uint8_t { Null, Error };

// Hands the list out to the statements of one SQL string, in order: each takes as many values as it has variables. A
// named value takes a place, too, but goes to the variables of its name, in every statement.
// Values are bound without copy: the list must outlive the Statements (until they are reset and given back).
class ParameterFeed {
 public:
  ParameterFeed(const Parameters& parameters, Missing missing) : list_(parameters), missing_(missing) {}

  // `name "NAME" does not begin with a letter`. Call once, before the first bind.
  Result<> check_names() const;
  // `not enough args to execute query: want N got M`; also SQLite's own errors (value too big).
  Result<> bind(Statement& statement);

 private:
  enum class Names : std::uint8_t { Unknown, None, Some };
  bool has_names();
  Result<> bind_named(Statement& statement, const pb::Parameter& parameter);

  const Parameters& list_;
  Missing missing_;
  int taken_ = 0;
  Names names_ = Names::Unknown;
};

}  // namespace rq::sql
