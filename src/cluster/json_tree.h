// JsonTree: a JSON object under construction whose members come out sorted by name at every level, as /status shows
// them. Values are written as they are given; pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace rq::cluster {

class JsonTree {
 public:
  JsonTree& operator[](std::string_view name) { return members_[std::string(name)]; }   // child; makes this an object
  void set(std::string_view text);                  // a JSON string
  void set(const char* text) { set(std::string_view(text)); }
  void set(const std::string& text) { set(std::string_view(text)); }
  void set(bool value) { raw_ = value ? "true" : "false"; }
  void set(std::int64_t value) { raw_ = std::to_string(value); }
  void set(std::uint64_t value) { raw_ = std::to_string(value); }
  void set(int value) { raw_ = std::to_string(value); }
  void set_raw(std::string json) { raw_ = std::move(json); }
  template <class T>
  JsonTree& operator=(const T& value) {
    set(value);
    return *this;
  }
  void write(std::string& out) const;

 private:
  std::string raw_;                                 // a scalar or ready JSON; empty: an object
  std::map<std::string, JsonTree> members_;
};

}  // namespace rq::cluster
