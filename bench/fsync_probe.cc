// fsync_probe FILE COUNT: median and 99th percentile, in microseconds, of writing 4 KiB into a zero-filled file and
// fdatasync: the floor under every durable write.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const int count = std::atoi(argv[2]);
  const int fd = ::open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0644);
  const std::string block(4096, 'x');
  const std::string zeros(static_cast<std::size_t>(count) * block.size(), '\0');
  if (fd < 0 || ::write(fd, zeros.data(), zeros.size()) < 0 || ::fsync(fd) != 0) return 1;
  std::vector<double> times;
  for (int i = 0; i < count; ++i) {
    const auto begun = std::chrono::steady_clock::now();
    if (::pwrite(fd, block.data(), block.size(), static_cast<off_t>(i) * 4096) < 0 || ::fdatasync(fd) != 0) return 1;
    times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begun).count());
  }
  std::ranges::sort(times);
  std::printf("%.1f %.1f\n", times[times.size() / 2], times[times.size() * 99 / 100]);
  ::unlink(argv[1]);
}
