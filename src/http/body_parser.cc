#include "http/body_parser.h"

#include <rapidjson/error/error.h>
#include <rapidjson/reader.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <vector>

namespace rq::http {
namespace {


// Invalid UTF-8 becomes U+FFFD, one for each bad byte, as the reference's JSON reader does.
std::string valid_utf8(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto follows = [&](std::size_t i) { return (byte(i) & 0xc0) == 0x80; };
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const unsigned first = byte(i);
    std::size_t length = 0;
    if (first < 0x80) length = 1;
    else if (first >= 0xc2 && first <= 0xdf && follows(i + 1)) length = 2;
    else if (first >= 0xe0 && first <= 0xef && follows(i + 1) && follows(i + 2) && !(first == 0xe0 && byte(i + 1) < 0xa0) &&
             !(first == 0xed && byte(i + 1) > 0x9f))
      length = 3;
    else if (first >= 0xf0 && first <= 0xf4 && follows(i + 1) && follows(i + 2) && follows(i + 3) &&
             !(first == 0xf0 && byte(i + 1) < 0x90) && !(first == 0xf4 && byte(i + 1) > 0x8f))
      length = 4;
    if (length == 0) {
      out += "\xef\xbf\xbd";
      ++i;
    } else {
      out.append(text, i, length);
      i += length;
    }
  }
  return out;
}

bool is_ascii(std::string_view text) {
  return std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

std::string clean(std::string_view text) { return is_ascii(text) ? std::string(text) : valid_utf8(text); }

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
int hex_value(char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; }

// x'HEX' with white space around it, an even number of digits.
bool blob_text(std::string_view text, std::string& out) {
  constexpr std::string_view kSpace = " \t\n\r\v\f";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return false;
  text = text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
  if (text.size() < 3 || (text[0] != 'x' && text[0] != 'X') || text[1] != '\'' || text.back() != '\'') return false;
  text = text.substr(2, text.size() - 3);
  if (text.size() % 2 != 0 || !std::ranges::all_of(text, is_hex)) return false;
  out.clear();
  for (std::size_t i = 0; i < text.size(); i += 2) out += static_cast<char>(hex_value(text[i]) * 16 + hex_value(text[i + 1]));
  return true;
}

enum class Defect { None, NotJson, NotRequest, Number, Type };

// Told of the JSON text by RapidJSON; false ends the reading. Where it stands in the array decides what is allowed.
class Handler {
 public:
  Handler(pb::Request& request, bool keep_empty) : request_(request), keep_empty_(keep_empty) {}

  bool Null() { return value(nullptr, [](pb::Value&) {}, "<nil>"); }
  bool Bool(bool flag) { return value(flag ? "true" : "false", [&](pb::Value& out) { out.set_integer(flag ? 1 : 0); }, "bool"); }
  bool RawNumber(const char* text, rapidjson::SizeType size, bool) { return number({text, size}); }
  bool String(const char* text, rapidjson::SizeType size, bool) { return string({text, size}); }
  // Not called with kParseNumbersAsStringsFlag, but the reader's interface wants them.
  bool Int(int) { return false; }
  bool Uint(unsigned) { return false; }
  bool Int64(std::int64_t) { return false; }
  bool Uint64(std::uint64_t) { return false; }
  bool Double(double) { return false; }

  bool StartArray() {
    ++depth_;
    if (depth_ == 1) return true;                                   // the list of statements
    if (depth_ == 2 && !in_object_) return begin_statement_list();
    if (!parameters_began_ || in_bytes_) return type_defect("[]interface {}");
    if (depth_ == 3 + (in_object_ ? 1 : 0)) {
      in_bytes_ = true;
      bytes_.clear();
      return true;
    }
    return type_defect("[]interface {}");
  }
  bool EndArray(rapidjson::SizeType) {
    --depth_;
    if (in_bytes_) {
      in_bytes_ = false;
      pb::Value* out = next_value();
      out->set_blob(std::move(bytes_));
      bytes_.clear();
      return true;
    }
    if (depth_ == 1) {
      if (!sql_seen_) return not_request();
      end_statement();
      return true;
    }
    done_ = depth_ == 0;
    return !done_;                                                  // what follows the list is not looked at
  }
  bool StartObject() {
    ++depth_;
    if (depth_ == 1 || depth_ == 2) return not_request();
    if (in_object_ || in_bytes_) return type_defect("map[string]interface {}");
    if (!parameters_began_) return not_request();
    in_object_ = true;
    named_.clear();
    return true;
  }
  bool Key(const char* text, rapidjson::SizeType size, bool) {
    key_ = clean({text, size});
    return true;
  }
  bool EndObject(rapidjson::SizeType) {
    --depth_;
    in_object_ = false;
    return true;
  }

  bool done() const { return done_; }
  std::size_t elements() const { return elements_; }
  Defect defect() const { return defect_; }
  const std::string& detail() const { return detail_; }

 private:
  bool not_request() {
    defect_ = Defect::NotRequest;
    return false;
  }
  bool type_defect(std::string_view type) {
    if (depth_ <= 2) return not_request();
    defect_ = Defect::Type;
    detail_ = type;
    return false;
  }

  bool begin_statement_list() {
    statement_ = request_.add_statements();
    sql_seen_ = parameters_began_ = false;
    return true;
  }
  void end_statement() {
    ++elements_;
    if (statement_->sql().empty() && !keep_empty_) request_.mutable_statements()->RemoveLast();
    statement_ = nullptr;
    sql_seen_ = parameters_began_ = false;
  }

  // Where the next parameter goes; a repeated name of one object replaces the value given before.
  pb::Value* next_value() {
    if (!in_object_) return statement_->add_parameters()->mutable_value();
    const auto [place, fresh] = named_.try_emplace(key_, statement_->parameters_size());
    pb::Parameter* parameter = fresh ? statement_->add_parameters() : statement_->mutable_parameters(place->second);
    parameter->set_name(key_);
    parameter->clear_value();
    return parameter->mutable_value();
  }

  template <class Set>
  bool value(const char*, Set set, std::string_view type) {
    if (in_bytes_) return type_defect(type);
    if (!parameters_began_) return not_request();
    set(*next_value());
    return true;
  }

  bool string(std::string_view text) {
    if (depth_ == 1) {
      statement_ = request_.add_statements();
      statement_->set_sql(clean(text));
      end_statement();
      return true;
    }
    if (depth_ == 0) return not_request();
    if (depth_ == 2 && !sql_seen_) {
      statement_->set_sql(clean(text));
      sql_seen_ = parameters_began_ = true;
      return true;
    }
    if (in_bytes_) return type_defect("string");
    std::string blob;
    if (blob_text(text, blob)) next_value()->set_blob(std::move(blob));
    else next_value()->set_text(clean(text));
    return true;
  }

  bool number(std::string_view text) {
    if (in_bytes_) return byte(text);
    if (!parameters_began_) return not_request();
    std::int64_t integer = 0;
    const auto whole = std::from_chars(text.data(), text.data() + text.size(), integer);
    if (whole.ec == std::errc() && whole.ptr == text.data() + text.size()) {
      next_value()->set_integer(integer);
      return true;
    }
    double real = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), real);
    if (parsed.ec == std::errc::result_out_of_range) {
      // Too small is zero, too large is no number.
      real = std::strtod(std::string(text).c_str(), nullptr);
      if (std::isinf(real)) {
        defect_ = Defect::Number;
        detail_ = text;
        return false;
      }
    }
    next_value()->set_real(real);
    return true;
  }

  bool byte(std::string_view text) {
    unsigned number = 256;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || number > 255) return type_defect(text);
    bytes_ += static_cast<char>(number);
    return true;
  }

  pb::Request& request_;
  const bool keep_empty_;
  pb::Statement* statement_ = nullptr;
  std::size_t elements_ = 0;
  int depth_ = 0;
  bool sql_seen_ = false, parameters_began_ = false, in_object_ = false, in_bytes_ = false, done_ = false;
  std::string key_, bytes_, detail_;
  std::map<std::string, int> named_;
  Defect defect_ = Defect::None;
};

// Escapes of lone surrogates can't be read as UTF-16; the reference makes them U+FFFD.
void mend_surrogates(std::string& body) {
  const auto unit = [&](std::size_t at) -> int {
    if (at + 6 > body.size() || body[at] != '\\' || body[at + 1] != 'u') return -1;
    int value = 0;
    for (std::size_t i = at + 2; i < at + 6; ++i) {
      if (!is_hex(body[i])) return -1;
      value = value * 16 + hex_value(body[i]);
    }
    return value;
  };
  for (std::size_t at = body.find("\\"); at != std::string::npos; at = body.find("\\", at)) {
    const int first = unit(at);
    if (first < 0) {
      at += 2;
      continue;
    }
    const bool high = first >= 0xd800 && first <= 0xdbff;
    const int second = high ? unit(at + 6) : -1;
    if (high && second >= 0xdc00 && second <= 0xdfff) {
      at += 12;
      continue;
    }
    if (first >= 0xd800 && first <= 0xdfff) body.replace(at, 6, "\\ufffd");
    at += 6;
  }
}

// The number that ends at or behind `at`.
std::string number_at(const std::string& body, std::size_t at) {
  const auto of_number = [&](std::size_t i) { return i < body.size() && std::string_view("0123456789+-.eE").find(body[i]) != std::string_view::npos; };
  std::size_t begin = std::min(at, body.size() - 1);
  while (begin > 0 && !of_number(begin)) --begin;
  std::size_t end = begin + 1;
  while (begin > 0 && of_number(begin - 1)) --begin;
  while (of_number(end)) ++end;
  return body.substr(begin, end - begin);
}

Result<std::size_t> parse(std::string& body, pb::Request& request, bool keep_empty) {
  using namespace rapidjson;
  if (body.find("\\u") != std::string::npos || body.find("\\U") != std::string::npos) mend_surrogates(body);
  Handler handler(request, keep_empty);
  Reader reader;
  InsituStringStream stream(body.data());
  constexpr unsigned kFlags = kParseInsituFlag | kParseNumbersAsStringsFlag | kParseStopWhenDoneFlag | kParseIterativeFlag;
  const ParseResult parsed = reader.Parse<kFlags>(stream, handler);
  if (handler.done()) return handler.elements();
  if (!parsed.IsError()) return fail(Errc::BadRequest, "invalid request");
  if (parsed.Code() == kParseErrorNumberTooBig) return fail(Errc::BadRequest, "invalid number " + number_at(body, parsed.Offset()));
  switch (handler.defect()) {
    case Defect::NotRequest: return fail(Errc::BadRequest, "invalid request");
    case Defect::Number: return fail(Errc::BadRequest, "invalid number " + handler.detail());
    case Defect::Type: return fail(Errc::BadRequest, "unsupported type " + handler.detail());
    case Defect::None:
    case Defect::NotJson: break;
  }
  return fail(Errc::BadRequest, "invalid JSON body");
}

}  // namespace

Result<std::size_t> parse_statements(std::string& body, pb::Request& request) { return parse(body, request, false); }
Result<std::size_t> parse_all_statements(std::string& body, pb::Request& request) { return parse(body, request, true); }

}  // namespace rq::http
