// Whether a JPEG file holds all of its picture. Free of torch, so that tests can run it under sanitizers.
#pragma once
#include <cstddef>
#include <cstdint>

namespace rcnnkit::jpeg {

enum class Damage : int64_t {
  kUnknown = -1,  // a kind of JPEG that is not looked into: arithmetic coding, lossless, 12 bits; or a broken header
  kNone = 0,
  kEndsEarly = 1,      // blocks are missing at the end of a scan, or between two restart markers
  kBadCode = 2,        // bits that are no Huffman code, or more coefficients than a block has
  kLeftOver = 3,       // all blocks are there, and data behind them
  kMissingScans = 4,   // a progressive picture without its later scans, or a component without any
  kTooManyScans = 5,
};

struct Verdict {
  Damage damage;
  int64_t read, blocks;  // of the scan that is damaged: MCUs that could be read, and that there should be
};

// Reads every Huffman code of a baseline or progressive JPEG and no coefficient's value, in a fraction of the time that
// decoding takes. What comes behind the end marker (other pictures, what cameras append) is not looked at.
Verdict check(const uint8_t* data, size_t size);

}  // namespace rcnnkit::jpeg
