// Weights of 2 to 8 bits, kept so, and multiplied as if they were floats.
//
//     weight = (code - zero) * scale + shift       or      table[code] * scale + shift
//
// A code's lower bits are in one plane, what is above them in another; `scale` and `shift` belong to a group of inputs,
// and may themselves be small whole numbers with a coarse factor for several groups. Everything is turned so that the
// columns of a panel lie side by side:
//
//     low, high     words    [panels][inputs * bits / 32][PANEL]      codes in order, the first in the lowest bits
//     scale, shift  numbers  [panels][inputs / group][PANEL]
//     coarse        numbers  [panels][inputs / coarse group][PANEL]
//
// A product with float32 activations makes a tile of a panel at a time in the first-level cache, in float32, and
// multiplies that (`panels.h`): what comes out equals, to the last bit, the product with all weights made floats
// beforehand. One with bfloat16 activations is made of whole numbers: see codes.cpp.
#pragma once

#include "matrix.h"

namespace TUTTI_MODULE {

// The storage types of scales as they are named across the Python boundary.
enum class Number : int { Float32 = 0, BFloat16 = 1, Float16 = 2, Int8 = 3, UInt8 = 4 };

// A tensor [outputs][count] as Python has it; `data` null: there is none.
struct Numbers {
  const void* data;
  Number type;
  int count;
};

// The same, turned: [panels][count][PANEL].
class Turned {
 public:
  Turned(const Numbers& from, int outputs, int threads);

  explicit operator bool() const { return count_ > 0; }
  size_t bytes() const { return size_; }
  // The numbers of LANES columns, as floats (as they are: `words`).
  Floats floats(int panel, int index, int vector) const;
  void floats(int panel, int index, int count, float* out) const;  // `count` times PANEL
  Words words(int panel, int index, int vector) const {
    return load_raw<Words>(bytes_.get() + (place(panel, index) + vector * LANES) * 4);
  }
  const int32_t* at(int panel, int index) const {
    return reinterpret_cast<const int32_t*>(bytes_.get() + place(panel, index) * 4);
  }
  float one(int output, int index) const;
  uint32_t word(int output, int index) const;

 private:
  template <class Body>
  auto with_type(Body&& body) const;
  size_t place(int panel, int index) const { return (size_t(panel) * count_ + index) * PANEL; }

  Number type_;
  int count_;
  size_t size_;
  Buffer<char> bytes_;
};

// What a grouped matrix is made of, with rows as Python has them.
struct Grouped {
  Numbers low, high;  // words
  int low_bits, high_bits;
  float zero;
  const float* table;  // [16], with codes of 4 bits; or null
  Numbers scale, coarse, shift, coarse_shift;
  int outputs, inputs;  // inputs: a multiple of 32; groups: of 16
};

// Of codes.cpp.
struct Codes;
class Workspace;

class GroupedMatrix {
 public:
  GroupedMatrix(const Grouped& from, int threads);

  void multiply(const Rows& x, int rows, const float* bias, const Rows& out, int threads) const;
  // The weights of the outputs rows[0..count), in float32: out [count][inputs].
  void read(const int64_t* rows, int count, float* out, int threads) const;
  size_t bytes() const;

  // See `panels.h`. A tile has half of a first-level cache.
  static constexpr int AT_ONCE = (16 << 10) / (PANEL * 4), SCRATCH = AT_ONCE * PANEL;
  static constexpr bool AHEAD = false;
  const int32_t* tile(int panel, int step, int steps, int32_t* scratch) const {
    (this->*expand_)(panel, step, steps, scratch);
    return scratch;
  }

  const int outputs, inputs, steps, panels;

 private:
  template <int LOW, int HIGH, bool TABLE, bool SHIFT>
  void expand(int panel, int first, int count, int32_t* to) const;
  using Expand = void (GroupedMatrix::*)(int, int, int, int32_t*) const;
  static Expand expansion(int low, int high, bool table, bool shift);

  // Of codes.cpp.
  void multiply_codes(const Rows& x, int rows, const float* bias, const Rows& out, int threads) const;
  template <int UNIT>
  void multiply_units(const Rows& x, int rows, const float* bias, const Rows& out, int threads) const;
  template <int UNIT>
  void multiply_panel(int panel, const Codes& x, int first, int rows, float* sums, Workspace& work) const;
  template <int UNIT>
  void unit_scales(const Turned& fine, const Turned& coarse, int panel, int first, int units, float* out) const;
  template <int LOW, int HIGH>
  void unpack(int panel, int first, int count, int minus, int32_t* to) const;
  using Unpack = void (GroupedMatrix::*)(int, int, int, int, int32_t*) const;
  static Unpack unpacking(int low, int high);
  Floats scale_of(const Turned& fine, const Turned& coarse, int panel, int input, int vector) const;
  float scale_of(const Turned& fine, const Turned& coarse, int output, int input) const;

  const int low_bits_, high_bits_;
  const float zero_;
  float table_[16];
  const bool has_table_;
  bool is_lookup_ = false;  // codes are no numbers; otherwise the table has code - zero
  int code_zero_;           // of the codes as bytes, which a lookup makes unsigned
  bool fits_signed_;        // what codes stand for is a signed byte, as tiles want it
  const Turned low_, high_, scale_, coarse_, shift_, coarse_shift_;
  const int group_, coarse_group_;  // inputs
  const Expand expand_;
  const Unpack unpack_;
};

}  // namespace TUTTI_MODULE
