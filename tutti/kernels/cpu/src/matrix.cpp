#include "matrix.h"

#include <algorithm>
#include <type_traits>

namespace TUTTI_MODULE {

namespace {

constexpr int STEPS_AT_ONCE = (256 << 10) / (PANEL * 4);  // of a panel, so that it stays in the second-level cache
constexpr int ROWS_AT_ONCE = 192;                         // rows whose sums wait for the panel's next steps

// `count` numbers from one storage type to another; the rest up to `padded` zero.
template <class From, class To>
void convert(const From* from, int count, To* to, int padded) {
  if constexpr (std::is_same_v<From, To>) {
    std::memcpy(to, from, count * sizeof(To));
  } else {
    for (int i = 0; i < count; i += LANES) store(to + i, load(from + i, count - i), count - i);
  }
  std::memset(static_cast<void*>(to + count), 0, (padded - count) * sizeof(To));
}

// Work too small to be worth waking other threads stays on this one.
int threads_for(double operations, int threads) { return operations < 2e5 ? 1 : threads; }

// The lines of a panel still to come that one block of rows fetches while it works: each block takes its share, so that
// memory is read all the time and not by the first block alone.
struct Ahead {
  const char* panel;
  int first, end;     // lines of each step

  void operator()(int step) const {
    for (int line = first; line < end; line++) __builtin_prefetch(panel + size_t(step) * PANEL * 4 + line * 64, 0, 2);
  }
};

// One panel against rows first..first + count, with the panel taken STEPS_AT_ONCE at a time.
template <class Op, class Finish>
void multiply_panel(const Packed<Op>& packed, int panel, const void* a, size_t a_stride, int first, int count,
                    typename Op::Sum* waiting, const Finish& finish) {
  using Sum = typename Op::Sum;
  constexpr int LINES = PANEL * 4 / 64;
  const int32_t* b = packed.panel(panel);
  for (int step = 0; step < packed.steps; step += STEPS_AT_ONCE) {
    const int steps = std::min(STEPS_AT_ONCE, packed.steps - step);
    const bool last = step + steps == packed.steps;
    const void* next = b + size_t(step + steps) * PANEL;  // of this panel, or the next one
    for_row_blocks(count, [&](int block, int rows, int index, int blocks) {
      const Ahead ahead{static_cast<const char*>(next), LINES * index / blocks,
                        blocks > 1 ? LINES * (index + 1) / blocks : 0};
      with_rows(rows, [&]<int M>() {
        Sum sums[M][VECTORS] = {};
        Sum* kept = waiting + block * VECTORS;
        if (step > 0) std::memcpy(sums, kept, sizeof sums);
        const char* from = static_cast<const char*>(a) + ((first + block) * a_stride + step) * 4;
        multiply<Op>(sums, from, a_stride, b + size_t(step) * PANEL, PANEL, steps, ahead);
        if (!last) {
          std::memcpy(kept, sums, sizeof sums);
        } else {
          for (int r = 0; r < M; r++)
            for (int v = 0; v < VECTORS; v++)
              finish(first + block + r, panel * PANEL + v * LANES, sums[r][v]);
        }
      });
    });
  }
}

// All panels against all rows, inside a parallel region.
template <class Op, class Finish>
void multiply_shared(const Packed<Op>& packed, const void* a, size_t a_stride, int rows, int threads,
                     const Finish& finish) {
  const int chunks = (rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
  const bool waits = packed.steps > STEPS_AT_ONCE;
  auto waiting = allocate<typename Op::Sum>(waits ? ROWS_AT_ONCE * VECTORS : 0);
  const int tasks = packed.panels * chunks;
  const int run = std::max(1, packed.panels / (threads * 8));  // neighbouring panels: long streams of memory
#pragma omp for schedule(dynamic, run) nowait
  for (int task = 0; task < tasks; task++) {
    const int chunk = task / packed.panels, panel = task % packed.panels;
    const int first = int(int64_t(rows) * chunk / chunks), end = int(int64_t(rows) * (chunk + 1) / chunks);
    multiply_panel(packed, panel, a, a_stride, first, end - first, waiting.get(), finish);
  }
}

// Calls `body` with the rows' data as a pointer of their type.
template <class Body>
void with_type(const Rows& rows, Body&& body) {
  if (rows.type == Type::Float32) return body(static_cast<float*>(rows.data));
  body(static_cast<bfloat16*>(rows.data));
}

}  // namespace

template <class Op>
template <class Source>
Packed<Op>::Packed(const Source* from, size_t stride, int outputs, int inputs, int threads)
    : outputs(outputs),
      inputs(inputs),
      steps((inputs + Op::DEPTH - 1) / Op::DEPTH),
      panels((outputs + PANEL - 1) / PANEL),
      words_(allocate<int32_t>(size_t(panels) * steps * PANEL)) {
  constexpr int RUN = 16;  // steps turned at a time: what they write stays in the first-level cache
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int panel = 0; panel < panels; panel++) {
    int32_t* to = words_.get() + size_t(panel) * steps * PANEL;
    for (int step = 0; step < steps; step += RUN) {
      const int run = std::min(RUN, steps - step);
      const int width = std::min(run * Op::DEPTH, inputs - step * Op::DEPTH);
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
  using Element = typename Op::Element;
  const Packed<Op>& packed = packed_;
  threads = threads_for(double(rows) * packed.outputs * packed.inputs, threads);
  constexpr Type OWN = std::is_same_v<Element, float> ? Type::Float32 : Type::BFloat16;
  const bool direct = x.type == OWN && packed.inputs % Op::DEPTH == 0 && x.stride % Op::DEPTH == 0;
  const int width = packed.steps * Op::DEPTH;
  auto copy = allocate<Element>(direct ? 0 : size_t(rows) * width);
  const void* a = direct ? x.data : copy.get();
  const size_t a_stride = direct ? x.stride / Op::DEPTH : packed.steps;
  with_type(out, [&](auto* to) {
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
      if (!direct) {
        with_type(x, [&](auto* from) {
#pragma omp for
          for (int r = 0; r < rows; r++)
            convert(from + r * x.stride, packed.inputs, copy.get() + size_t(r) * width, width);
        });
      }
      multiply_shared(packed, a, a_stride, rows, threads, [&](int row, int column, Floats sum) {
        const int count = packed.outputs - column;
        if (count <= 0) return;
        if (bias) sum += load(bias + column, count);
        store(to + row * out.stride + column, sum, count);
      });
    }
  });
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
    const Words code = __builtin_convertvector(round(load(x + i, width - i) * inverse), Words);
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
      multiply_shared(packed_, codes.get(), packed_.steps, rows, threads, [&](int row, int column, Words sum) {
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

template class FloatMatrix<Float32>;
template class FloatMatrix<BFloat16>;

}  // namespace TUTTI_MODULE
