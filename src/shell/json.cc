#include "shell/json.h"

#include <rapidjson/error/en.h>
#include <rapidjson/reader.h>

namespace rq::shell {

// RapidJSON's events made into a tree. Depth is bounded by RapidJSON's iterative parser and this stack, not by recursion.
class JsonBuilder : public rapidjson::BaseReaderHandler<rapidjson::UTF8<>, JsonBuilder> {
 public:
  bool Null() { return add(Json()); }
  bool Bool(bool value) { return add(Json::boolean(value)); }
  bool RawNumber(const char* text, rapidjson::SizeType size, bool) { return add(Json::number(std::string(text, size))); }
  bool String(const char* text, rapidjson::SizeType size, bool) { return add(Json::string(std::string(text, size))); }
  bool Key(const char* text, rapidjson::SizeType size, bool) {
    open_.back().key.assign(text, size);
    return true;
  }
  bool StartObject() { return begin(Json::Kind::Object); }
  bool StartArray() { return begin(Json::Kind::Array); }
  bool EndObject(rapidjson::SizeType) { return end(); }
  bool EndArray(rapidjson::SizeType) { return end(); }

  Json take() { return std::move(root_); }

 private:
  struct Open {
    Json value;
    std::string key;   // of the member that comes next
  };

  bool begin(Json::Kind kind) {
    if (open_.size() >= kDepthMax) return false;
    open_.push_back({Json(kind, {}), {}});
    return true;
  }
  bool end() {
    Json done = std::move(open_.back().value);
    open_.pop_back();
    return add(std::move(done));
  }
  bool add(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().value.kind_ == Json::Kind::Array) {
      open_.back().value.elements_.push_back(std::move(value));
    } else {
      open_.back().value.members_.emplace_back(std::move(open_.back().key), std::move(value));
    }
    return true;
  }

  // Trees are walked and destroyed recursively.
  static constexpr std::size_t kDepthMax = 1000;
  std::vector<Open> open_;
  Json root_;
};

namespace {

const Json kNull;

std::string quoted(char c) {
  if (c == '\'') return "'\\''";
  return std::string("'") + c + "'";
}

std::string defect(rapidjson::ParseErrorCode code, std::string_view text, std::size_t at) {
  switch (code) {
    case rapidjson::kParseErrorDocumentEmpty: return "unexpected end of JSON input";
    case rapidjson::kParseErrorDocumentRootNotSingular: return "invalid character " + quoted(text[at]) + " after top-level value";
    case rapidjson::kParseErrorTermination: return "exceeded max depth";
    default: break;
  }
  if (at >= text.size()) return "unexpected end of JSON input";
  if (code == rapidjson::kParseErrorValueInvalid) return "invalid character " + quoted(text[at]) + " looking for beginning of value";
  return std::string(rapidjson::GetParseError_En(code)) + " at byte " + std::to_string(at);
}

}  // namespace

Result<Json> Json::parse(std::string_view text) {
  JsonBuilder builder;
  rapidjson::Reader reader;
  rapidjson::MemoryStream bytes(text.data(), text.size());
  rapidjson::EncodedInputStream<rapidjson::UTF8<>, rapidjson::MemoryStream> stream(bytes);
  constexpr unsigned kFlags = rapidjson::kParseNumbersAsStringsFlag | rapidjson::kParseIterativeFlag;
  if (const auto done = reader.Parse<kFlags>(stream, builder); done.IsError()) return fail(Errc::BadRequest, defect(done.Code(), text, done.Offset()));
  return builder.take();
}

Json Json::array(std::vector<Json> elements) {
  Json result(Kind::Array, {});
  result.elements_ = std::move(elements);
  return result;
}

Json Json::object(std::vector<Member> members) {
  Json result(Kind::Object, {});
  result.members_ = std::move(members);
  return result;
}

const Json& Json::operator[](std::string_view name) const {
  for (auto member = members_.rbegin(); member != members_.rend(); ++member)
    if (member->first == name) return member->second;
  return kNull;
}

bool Json::has(std::string_view name) const {
  for (const Member& member : members_)
    if (member.first == name) return true;
  return false;
}

}  // namespace rq::shell
