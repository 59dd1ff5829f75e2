#include "check.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

namespace rcnnkit::jpeg {
namespace {

constexpr int kPeek = 11;           // bits of a code that one look into a table decodes; longer codes are rare
constexpr int kMostScans = 500;     // progressive pictures have about ten
constexpr size_t kPadding = 4096;   // zero bytes behind the data: no MCU has more than 10 blocks of 64 codes of 31 bits
constexpr size_t kAlignment = 7;    // bytes of filling in front of a marker that encoders are known to write
constexpr uint8_t kNever = 255;
constexpr int kEndOfBlock = 128;    // steps: beyond whatever coefficients lead to
constexpr int kMostSteps = 15;      // of several codes that one look passes over

struct Huffman {
  bool given = false;
  std::array<uint16_t, 1 << kPeek> look;  // length << 8 | symbol; 0: longer, or no code
  // Of AC codes: coefficients to go on << 8 | bits, the values' too; of one code, and of all that lie in the bits.
  std::array<uint16_t, 1 << kPeek> one, all;
  std::array<int32_t, 17> first, end, index;  // of each length: its first code, the code behind its last, its symbols
  std::array<uint8_t, 256> symbols;
};

inline int step(int symbol) {
  if (symbol & 15) return (symbol >> 4) + 1;
  return symbol == 0xf0 ? 16 : kEndOfBlock;
}

// Canonical codes, T.81 annex C. False where the counts are no prefix code.
bool build(Huffman& table, const uint8_t* counts, const uint8_t* symbols, int total) {
  std::copy_n(symbols, total, table.symbols.begin());
  table.look.fill(0), table.one.fill(0);
  int32_t code = 0, k = 0;
  for (int length = 1; length <= 16; ++length, code <<= 1) {
    table.first[length] = code, table.index[length] = k;
    for (int i = 0; i < counts[length - 1]; ++i, ++code, ++k) {
      if (code >= 1 << length) return false;
      if (length > kPeek) continue;
      const int symbol = table.symbols[k], from = code << (kPeek - length), same = 1 << (kPeek - length);
      std::fill_n(table.look.begin() + from, same, uint16_t(length << 8 | symbol));
      std::fill_n(table.one.begin() + from, same, uint16_t(step(symbol) << 8 | (length + (symbol & 15))));
    }
    table.end[length] = code;
  }
  for (int bits = 0; bits < 1 << kPeek; ++bits) {
    int entry = table.one[bits];
    while (entry && (entry & 255) < kPeek && entry >> 8 < kMostSteps) {
      const int next = table.one[bits << (entry & 255) & ((1 << kPeek) - 1)];
      const int used = (entry & 255) + (next & 255), steps = (entry >> 8) + (next >> 8);
      if (!next || used > kPeek || (steps > kMostSteps && next >> 8 != kEndOfBlock)) break;
      entry = steps << 8 | used;
    }
    table.all[bits] = uint16_t(entry);
  }
  return table.given = true;
}

// One stretch of entropy-coded data up to a marker, without its stuffing.
struct Bits {
  std::vector<uint8_t> bytes;
  uint64_t at = 0, end = 0;  // bits

  // At most 57 bits, from the top.
  uint64_t window() const {
    uint64_t word;
    std::memcpy(&word, bytes.data() + (at >> 3), sizeof word);
    if constexpr (std::endian::native == std::endian::little) word = __builtin_bswap64(word);
    return word << (at & 7);
  }
  uint32_t take(int count) {  // 1 to 16
    const auto value = uint32_t(window() >> (64 - count));
    at += count;
    return value;
  }
  bool out() const { return at > end; }
};

// The next symbol, or -1 where the bits are no code.
inline int decode(Bits& bits, const Huffman& table) {
  const uint64_t window = bits.window();
  if (const uint16_t entry = table.look[window >> (64 - kPeek)]) {
    bits.at += entry >> 8;
    return entry & 255;
  }
  for (int length = kPeek + 1; length <= 16; ++length) {
    const auto code = int32_t(window >> (64 - length));
    if (code < table.end[length] && code >= table.first[length]) {
      bits.at += length;
      return table.symbols[table.index[length] + code - table.first[length]];
    }
  }
  return -1;
}

struct Component {
  int id, h, v;
  int64_t across, down, stride;  // blocks; `stride` with those that fill the last MCU
  std::array<uint8_t, 64> low;   // the lowest bit of each coefficient that scans have brought; kNever: none
  std::vector<uint64_t> nonzero;  // progressive: which coefficients of each block are not zero
};

struct Scan {
  struct Part {
    Component* component;
    const Huffman *dc, *ac;
  };
  std::vector<Part> parts;
  int first, last, high, low;
};

class Checker {
 public:
  Checker(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  Verdict run() {
    if (size_ < 4 || data_[0] != 0xff || data_[1] != 0xd8) return kStrange;
    at_ = 2;
    int scans = 0;
    for (;;) {
      const int marker = next_marker();
      if (marker == 0xd9 || marker < 0) break;
      if (marker == 0x01 || (marker >= 0xd0 && marker <= 0xd7)) continue;
      if (at_ + 2 > size_) break;
      const size_t length = size_t(data_[at_] << 8 | data_[at_ + 1]);
      if (length < 2 || at_ + length > size_) break;
      const uint8_t* body = data_ + at_ + 2;
      const size_t bytes = length - 2;
      at_ += length;
      if (marker == 0xc0 || marker == 0xc1 || marker == 0xc2) {
        if (!components_.empty() || !frame(body, bytes)) return kStrange;
        progressive_ = marker == 0xc2;
      } else if (marker == 0xc4) {
        if (!tables(body, bytes)) return kStrange;
      } else if ((marker > 0xc2 && marker <= 0xcf) || marker == 0xdc) {  // other codings; DNL
        return kStrange;
      } else if (marker == 0xdd) {
        if (bytes < 2) return kStrange;
        restart_ = body[0] << 8 | body[1];
      } else if (marker == 0xda) {
        if (++scans > kMostScans) return {Damage::kTooManyScans, 0, 0};
        Scan scan;
        if (!header(scan, body, bytes)) return kStrange;
        const Verdict verdict = read(scan);
        if (verdict.damage != Damage::kNone) return verdict;
      }
    }
    if (components_.empty()) return kStrange;
    for (const Component& component : components_)
      for (uint8_t low : component.low)
        if (low != 0) return {Damage::kMissingScans, scans, 0};
    return {Damage::kNone, 0, 0};
  }

 private:
  static constexpr Verdict kStrange{Damage::kUnknown, 0, 0};

  // Moves behind the next marker; -1 at the end of the file. What lies in front of it is passed over.
  int next_marker() {
    while (at_ < size_) {
      const void* found = std::memchr(data_ + at_, 0xff, size_ - at_);
      if (!found) break;
      at_ = size_t(static_cast<const uint8_t*>(found) - data_);
      while (at_ < size_ && data_[at_] == 0xff) ++at_;
      if (at_ < size_ && data_[at_++] != 0) return data_[at_ - 1];
    }
    at_ = size_;
    return -1;
  }

  bool frame(const uint8_t* body, size_t bytes) {
    if (bytes < 6 || body[0] != 8) return false;
    const int64_t height = body[1] << 8 | body[2], width = body[3] << 8 | body[4];
    const size_t count = body[5];
    if (!height || !width || count < 1 || count > 4 || bytes < 6 + 3 * count) return false;
    int most_h = 1, most_v = 1;
    for (size_t i = 0; i < count; ++i) {
      const int h = body[7 + 3 * i] >> 4, v = body[7 + 3 * i] & 15;
      if (h < 1 || h > 4 || v < 1 || v > 4) return false;
      components_.push_back({body[6 + 3 * i], h, v, 0, 0, 0, {}, {}});
      components_.back().low.fill(kNever);
      most_h = std::max(most_h, h), most_v = std::max(most_v, v);
    }
    const auto ceil = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
    mcus_across_ = ceil(width, 8 * most_h), mcus_down_ = ceil(height, 8 * most_v);
    for (Component& c : components_) {
      c.across = ceil(ceil(width * c.h, most_h), 8), c.down = ceil(ceil(height * c.v, most_v), 8);
      c.stride = mcus_across_ * c.h;
    }
    return true;
  }

  bool tables(const uint8_t* body, size_t bytes) {
    while (bytes >= 17) {
      const int kind = body[0] >> 4, slot = body[0] & 15;
      int total = 0;
      for (int i = 1; i <= 16; ++i) total += body[i];
      if (kind > 1 || slot > 3 || total > 256 || bytes < size_t(17 + total)) return false;
      if (!build(huffman_[kind][slot], body + 1, body + 17, total)) return false;
      body += 17 + total, bytes -= size_t(17 + total);
    }
    return bytes == 0;
  }

  bool header(Scan& scan, const uint8_t* body, size_t bytes) {
    const size_t count = bytes ? body[0] : 0;
    if (count < 1 || count > 4 || bytes < 4 + 2 * count) return false;
    const uint8_t* rest = body + 1 + 2 * count;
    scan.first = rest[0], scan.last = rest[1], scan.high = rest[2] >> 4, scan.low = rest[2] & 15;
    if (!progressive_) scan.first = 0, scan.last = 63, scan.high = scan.low = 0;  // as libjpeg takes them
    if (scan.first > scan.last || scan.last > 63 || (progressive_ && scan.first == 0 && scan.last != 0)) return false;
    if (scan.first > 0 && count > 1) return false;
    int blocks = 0;
    for (size_t i = 0; i < count; ++i) {
      const int id = body[1 + 2 * i], dc = body[2 + 2 * i] >> 4, ac = body[2 + 2 * i] & 15;
      const auto found = std::find_if(components_.begin(), components_.end(), [&](auto& c) { return c.id == id; });
      if (found == components_.end() || dc > 3 || ac > 3) return false;
      scan.parts.push_back({&*found, &huffman_[0][dc], &huffman_[1][ac]});
      const bool needs_dc = scan.first == 0 && scan.high == 0, needs_ac = scan.last > 0;
      if ((needs_dc && !huffman_[0][dc].given) || (needs_ac && !huffman_[1][ac].given)) return false;
      blocks += found->h * found->v;
      if (progressive_ && scan.first > 0) found->nonzero.resize(size_t(found->stride * mcus_down_ * found->v));
      std::fill(found->low.begin() + scan.first, found->low.begin() + scan.last + 1, uint8_t(scan.low));
    }
    return count == 1 || blocks <= 10;
  }

  // The data up to the next marker, and that marker, behind which it moves unless it is none of a scan's own.
  int segment(Bits& bits) {
    bits.bytes.clear(), bits.at = 0;
    for (;;) {
      const void* found = at_ < size_ ? std::memchr(data_ + at_, 0xff, size_ - at_) : nullptr;
      const size_t stop = found ? size_t(static_cast<const uint8_t*>(found) - data_) : size_;
      bits.bytes.insert(bits.bytes.end(), data_ + at_, data_ + stop);
      size_t behind = stop;
      while (behind < size_ && data_[behind] == 0xff) ++behind;
      if (behind >= size_ || data_[behind] != 0) {  // a marker, or the end of the file
        const int marker = behind < size_ ? data_[behind] : -1;
        at_ = marker >= 0xd0 && marker <= 0xd7 ? behind + 1 : std::min(stop, size_);
        bits.end = 8 * uint64_t(bits.bytes.size());
        bits.bytes.resize(bits.bytes.size() + kPadding);
        return marker;
      }
      bits.bytes.insert(bits.bytes.end(), behind - stop, 0xff);  // stuffed
      at_ = behind + 1;
    }
  }

  Verdict read(Scan& scan) {
    const bool alone = scan.parts.size() == 1;
    Component& only = *scan.parts[0].component;
    const int64_t across = alone ? only.across : mcus_across_, down = alone ? only.down : mcus_down_;
    const int64_t total = across * down;
    Bits bits;
    for (int64_t done = 0, interval = 0; done < total; ++interval) {
      const int marker = segment(bits);
      const int64_t stop = restart_ ? std::min(total, done + restart_) : total;
      run_ = 0;
      for (; done < stop; ++done) {
        bool sound = true;
        if (alone) {
          sound = block(bits, scan, scan.parts[0], done / across * only.stride + done % across);
        } else {
          for (const Scan::Part& part : scan.parts)
            for (int i = part.component->h * part.component->v; i > 0 && sound; --i) sound = block(bits, scan, part, 0);
        }
        if (bits.out()) return {Damage::kEndsEarly, done, total};
        if (!sound) return {Damage::kBadCode, done, total};
      }
      const size_t used = size_t((bits.at + 7) / 8), there = size_t(bits.end / 8);
      const auto padding = [](uint8_t byte) { return byte == 0 || byte == 0xff; };
      const auto rest = bits.bytes.begin() + std::ptrdiff_t(used), end = bits.bytes.begin() + std::ptrdiff_t(there);
      if (there - used > kAlignment || !std::all_of(rest, end, padding)) return {Damage::kLeftOver, done, total};
      if (done < total && marker != 0xd0 + interval % 8) return {Damage::kEndsEarly, done, total};
    }
    return {Damage::kNone, total, total};
  }

  // Passes over a block's codes in the scan; false where they are none. `place` is its number in its component.
  bool block(Bits& bits, const Scan& scan, const Scan::Part& part, int64_t place) {
    if (scan.first == 0) {
      if (scan.high) {
        bits.at += 1;
        return true;
      }
      const int size = decode(bits, *part.dc);
      if (size < 0 || size > 15) return false;
      bits.at += size;
      return progressive_ || coefficients(bits, *part.ac);
    }
    uint64_t& nonzero = part.component->nonzero[size_t(place)];
    return scan.high ? refine(bits, scan, *part.ac, nonzero) : begin(bits, scan, *part.ac, nonzero);
  }

  // The inner loop of all. Two looks take 54 bits at most, which one window has.
  static bool coefficients(Bits& bits, const Huffman& table) {
    int k = 1;
    while (k < 64) {
      uint64_t window = bits.window();
      int entry = (k < 64 - kMostSteps ? table.all : table.one)[window >> (64 - kPeek)];
      int used = entry & 255;
      k += entry >> 8;
      if (entry && k < 64) {
        window <<= used;
        entry = (k < 64 - kMostSteps ? table.all : table.one)[window >> (64 - kPeek)];
        used += entry & 255;
        k += entry >> 8;
      }
      bits.at += used;
      if (!entry) {
        const int symbol = decode(bits, table);
        if (symbol < 0) return false;
        bits.at += symbol & 15;
        k += step(symbol);
      }
    }
    return k == 64 || k >= kEndOfBlock;
  }

  bool begin(Bits& bits, const Scan& scan, const Huffman& table, uint64_t& nonzero) {
    if (run_) return --run_, true;
    for (int k = scan.first; k <= scan.last; ++k) {
      const int symbol = decode(bits, table), size = symbol & 15, zeros = symbol >> 4;
      if (symbol < 0) return false;
      if (size) {
        bits.at += size;
        if ((k += zeros) > scan.last) return false;
        nonzero |= uint64_t(1) << k;
      } else if (zeros == 15) {
        k += 15;
      } else {
        run_ = (1 << zeros) - 1 + (zeros ? int(bits.take(zeros)) : 0);
        break;
      }
    }
    return true;
  }

  bool refine(Bits& bits, const Scan& scan, const Huffman& table, uint64_t& nonzero) {
    int k = scan.first;
    if (!run_) {
      for (; k <= scan.last; ++k) {
        const int symbol = decode(bits, table), size = symbol & 15;
        int zeros = symbol >> 4;
        if (symbol < 0 || size > 1) return false;
        if (size) {
          bits.at += 1;
        } else if (zeros != 15) {
          run_ = (1 << zeros) + (zeros ? int(bits.take(zeros)) : 0);
          break;
        }
        for (; k <= scan.last; ++k) {  // over so many zeros; what is not zero gets its next bit
          if (nonzero >> k & 1) {
            bits.at += 1;
          } else if (--zeros < 0) {
            break;
          }
        }
        if (size) {
          if (k > scan.last) return false;
          nonzero |= uint64_t(1) << k;
        }
      }
    }
    if (run_) {
      for (; k <= scan.last; ++k) bits.at += nonzero >> k & 1;
      --run_;
    }
    return true;
  }

  const uint8_t* data_;
  size_t size_, at_ = 0;
  bool progressive_ = false;
  int restart_ = 0;  // MCUs between two restart markers; 0: none
  int run_ = 0;      // progressive: blocks left without further coefficients
  int64_t mcus_across_ = 0, mcus_down_ = 0;
  std::vector<Component> components_;
  std::array<std::array<Huffman, 4>, 2> huffman_;  // DC, AC
};

}  // namespace

Verdict check(const uint8_t* data, size_t size) { return Checker(data, size).run(); }

}  // namespace rcnnkit::jpeg
