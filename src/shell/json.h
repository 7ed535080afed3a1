// Json: a JSON value as the server sent it. Numbers keep their text, so that no integer ever passes through a double;
// members keep their order. For answers of the HTTP API; pure.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace rq::shell {

class Json {
 public:
  enum class Kind { Null, Boolean, Number, String, Array, Object };
  using Member = std::pair<std::string, Json>;

  // Exactly one value with white space around it. The error says what is wrong, in the words of Go's decoder where clients
  // of the reference have seen them.
  static Result<Json> parse(std::string_view text);

  static Json number(std::string text) { return Json(Kind::Number, std::move(text)); }
  static Json string(std::string text) { return Json(Kind::String, std::move(text)); }
  static Json boolean(bool value) { return Json(Kind::Boolean, value ? "true" : "false"); }
  static Json array(std::vector<Json> elements);
  static Json object(std::vector<Member> members);
  Json() = default;

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  // A string's content, a number's text, "true" or "false"; empty for the others.
  const std::string& text() const { return text_; }
  const std::vector<Json>& elements() const { return elements_; }
  const std::vector<Member>& members() const { return members_; }

  // The member of this name (the last one if there are several); null when there is none, or this is no object.
  const Json& operator[](std::string_view name) const;
  bool has(std::string_view name) const;
  bool truth() const { return kind_ == Kind::Boolean && text_ == "true"; }

 private:
  friend class JsonBuilder;
  Json(Kind kind, std::string text) : kind_(kind), text_(std::move(text)) {}

  Kind kind_ = Kind::Null;
  std::string text_;
  std::vector<Json> elements_;
  std::vector<Member> members_;
};

}  // namespace rq::shell
