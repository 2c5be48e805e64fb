#include "matrix.h"

#include <type_traits>

#include "panels.h"

namespace TUTTI_MODULE {

static int round_up(int count, int multiple) { return (count + multiple - 1) / multiple * multiple; }

template <class Op>
template <class Source>
Packed<Op>::Packed(const Source* from, size_t stride, int outputs, int inputs, int threads)
    : outputs(outputs),
      inputs(inputs),
      steps(round_up((inputs + Op::DEPTH - 1) / Op::DEPTH, TILED<Op> ? TILE_STEPS : 1)),
      panels((outputs + PANEL - 1) / PANEL),
      words_(allocate<int32_t>(size_t(panels) * steps * PANEL)) {
  constexpr int RUN = 16;  // steps turned at a time: what they write stays in the first-level cache
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int panel = 0; panel < panels; panel++) {
    int32_t* to = words_.get() + size_t(panel) * steps * PANEL;
    for (int step = 0; step < steps; step += RUN) {
      const int run = std::min(RUN, steps - step);
      const int width = std::max(0, std::min(run * Op::DEPTH, inputs - step * Op::DEPTH));
      for (int c = 0; c < PANEL; c++) {
        int32_t column[RUN] = {};
        auto* elements = reinterpret_cast<Element*>(column);
        const int output = panel * PANEL + c;
        if (output < outputs) convert(from + output * stride + step * Op::DEPTH, width, elements, run * Op::DEPTH);
        for (int i = 0; i < run; i++)  // int8 codes become code + 128
          to[(step + i) * PANEL + c] = std::is_same_v<Op, Int8> ? column[i] ^ int32_t(0x80808080) : column[i];
      }
    }
  }
}

template <class Op>
FloatMatrix<Op>::FloatMatrix(const void* weight, Type type, size_t stride, int outputs, int inputs, int threads)
    : packed_(type == Type::Float32
                  ? Packed<Op>(static_cast<const float*>(weight), stride, outputs, inputs, threads)
                  : Packed<Op>(static_cast<const bfloat16*>(weight), stride, outputs, inputs, threads)) {}

template <class Op>
void FloatMatrix<Op>::multiply(const Rows& x, int rows, const float* bias, const Rows& out, int threads) const {
  multiply_floats<Op>(packed_, x, rows, bias, out, threads);
}

template <class T>
RowScale quantize_row(const T* x, int width, int8_t* codes, int padded) {
  using Bytes = int8_t __attribute__((vector_size(LANES)));
  Floats most = {}, strange = {};  // `strange`: 0, or NaN once something was not finite, which max would drop
  for (int i = 0; i < width; i += LANES) {
    const Floats value = load(x + i, width - i);
    most = max(most, abs(value));
    strange += value * 0.0f;
  }
  const float peak = largest(most), inverse = peak > 0 ? 127 / peak : 0;
  const float scale = (peak > 0 ? peak / 127 : 1) + sum(strange);
  Words total = {};
  for (int i = 0; i < width; i += LANES) {
    const Floats rounded = round(load(x + i, width - i) * inverse);
    // Of what is not finite any code: the scale says it.
    const Words code = __builtin_convertvector(min(max(rounded, splat(-127.0f)), splat(127.0f)), Words);
    total += code;
    const Bytes bytes = __builtin_convertvector(code, Bytes);
    std::memcpy(codes + i, &bytes, std::min(LANES, width - i));
  }
  std::memset(codes + width, 0, padded - width);
  int32_t sum = 0;
  for (int lane = 0; lane < LANES; lane++) sum += total[lane];
  return {scale, sum};
}

Int8Matrix::Int8Matrix(const int8_t* codes, const float* scale, int outputs, int inputs, int threads)
    : packed_(codes, inputs, outputs, inputs, threads), scale_(size_t(packed_.panels) * PANEL, 0.0f) {
  std::copy(scale, scale + outputs, scale_.begin());
}

void Int8Matrix::multiply(const Rows& x, int rows, const float* bias, const Rows& out, int threads) const {
  threads = threads_for(double(rows) * packed_.outputs * packed_.inputs, threads);
  const int width = packed_.steps * Int8::DEPTH;
  auto codes = allocate<int8_t>(size_t(rows) * width);
  auto scales = allocate<RowScale>(rows);
  with_type(out, [&](auto* to) {
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
      with_type(x, [&](auto* from) {
#pragma omp for
        for (int r = 0; r < rows; r++)
          scales[r] = quantize_row(from + r * x.stride, packed_.inputs, codes.get() + size_t(r) * width, width);
      });
      multiply_shared<Int8>(packed_, codes.get(), packed_.steps, rows, threads, [&](int row, int column, Words sum) {
        const int count = packed_.outputs - column;
        if (count <= 0) return;
        Floats value = __builtin_convertvector(sum - 128 * scales[row].sum, Floats);
        value *= scales[row].scale * load(scale_.data() + column);
        if (bias) value += load(bias + column, count);
        store(to + row * out.stride + column, value, count);
      });
    }
  });
}

void quantize_rows(const Rows& x, int rows, int width, int8_t* codes, float* scales, int threads) {
  threads = threads_for(double(rows) * width, threads);
  with_type(x, [&](auto* from) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int r = 0; r < rows; r++)
      scales[r] = quantize_row(from + r * x.stride, width, codes + size_t(r) * width, width).scale;
  });
}

template RowScale quantize_row(const float*, int, int8_t*, int);
template RowScale quantize_row(const bfloat16*, int, int8_t*, int);

template class FloatMatrix<Float32>;
template class FloatMatrix<BFloat16>;

}  // namespace TUTTI_MODULE
