// Weights packed for `micro.h`, and their product with rows of activations: the linear layers.
//
//     words  [panels][steps][PANEL]    panel p holds output channels p * PANEL ..; for tiles, whole tiles of steps
//
// The product of a row does not depend on the rows beside it, nor on the number of threads.
#pragma once

#include <vector>

#include "memory.h"
#include "micro.h"
#include "tiles.h"

namespace TUTTI_MODULE {

// Rows of activations or results: `stride` in elements between rows, elements of a row contiguous.
struct Rows {
  void* data;
  Type type;
  size_t stride;
};

// The layout shared by all number types.
template <class Op>
class Packed {
 public:
  using Element = typename Op::Element;

  // `from` [outputs][inputs] of type Source (float, bfloat16 or, for Int8, int8_t).
  template <class Source>
  Packed(const Source* from, size_t stride, int outputs, int inputs, int threads);

  // See `panels.h`. So many steps of a panel stay in the second-level cache.
  static constexpr int AT_ONCE = (256 << 10) / (PANEL * 4), SCRATCH = 0;
  static constexpr bool AHEAD = true;
  const int32_t* tile(int panel, int step, int, int32_t*) const {
    return words_.get() + (size_t(panel) * steps + step) * PANEL;
  }
  size_t bytes() const { return size_t(panels) * steps * PANEL * 4; }

  const int outputs, inputs;
  const int steps;   // of 32 bits
  const int panels;

 private:
  Buffer<int32_t> words_;
};

// float32 or bfloat16 weights; sums in float32.
template <class Op>
class FloatMatrix {
 public:
  FloatMatrix(const void* weight, Type type, size_t stride, int outputs, int inputs, int threads);

  // out = x W^T + bias (float32 [outputs] or null), for `rows` rows.
  void multiply(const Rows& x, int rows, const float* bias, const Rows& out, int threads) const;
  size_t bytes() const { return packed_.bytes(); }

 private:
  Packed<Op> packed_;
};

// int8 weights, symmetric, one scale per output channel. Activations are quantized per row on the way in, symmetric
// too; products are summed exactly in 32 bits. The instruction wants one unsigned side: weights are stored as
// code + 128, and 128 times the sum of a row's codes is taken away at the end.
class Int8Matrix {
 public:
  Int8Matrix(const int8_t* codes, const float* scale, int outputs, int inputs, int threads);

  void multiply(const Rows& x, int rows, const float* bias, const Rows& out, int threads) const;
  size_t bytes() const { return packed_.bytes() + scale_.size() * 4; }

 private:
  Packed<Int8> packed_;
  std::vector<float> scale_;  // [panels * PANEL]
};

// One row to int8: codes = round(x * 127 / max|x|), padded with zeros to `padded`. Gives the scale (1 for a row of
// zeros, NaN for one that is not finite) and the sum of the codes.
struct RowScale {
  float scale;
  int32_t sum;
};
template <class T>
RowScale quantize_row(const T* x, int width, int8_t* codes, int padded);

// Symmetric int8 per row, the same for tensors: codes [rows][width], scales [rows].
void quantize_rows(const Rows& x, int rows, int width, int8_t* codes, float* scales, int threads);

}  // namespace TUTTI_MODULE
