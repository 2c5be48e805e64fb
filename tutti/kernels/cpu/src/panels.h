// All panels of a matrix against all rows: how `micro.h` is fed, whatever form the panels are kept in.
//
// A matrix is anything with `outputs`, `inputs`, `steps`, `panels` and
//
//     const int32_t* tile(int panel, int step, int steps, int32_t* scratch) const
//
// which gives words [steps][PANEL] of a panel, where they lie (AHEAD: what follows is worth fetching) or made in
// `scratch` of SCRATCH words. AT_ONCE is the most steps it is asked for.
#pragma once

#include <algorithm>
#include <type_traits>

#include "matrix.h"
#include "memory.h"
#include "micro.h"
#include "tiles.h"

namespace TUTTI_MODULE {

constexpr int ROWS_AT_ONCE = 192;  // rows whose sums wait for the panel's next steps
constexpr int SQUARE_STEPS = 192;  // of half a panel, that stay in the first-level cache
constexpr int NEAR_WORDS = 320 << 10;  // words of rows that stay in the second-level cache while panels pass

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
inline int threads_for(double operations, int threads) { return operations < 2e5 ? 1 : threads; }

// The lines of a panel still to come that one block of rows fetches while it works: each block takes its share, so that
// memory is read all the time and not by the first block alone.
struct Ahead {
  const char* panel;
  int first, end;     // lines of each step

  void operator()(int step) const {
    for (int line = first; line < end; line++) __builtin_prefetch(panel + size_t(step) * PANEL * 4 + line * 64, 0, 2);
  }
};

// One panel against rows first..first + count, with the panel taken AT_ONCE steps at a time.
template <class Op, class Matrix, class Finish>
void multiply_panel(const Matrix& matrix, int panel, const void* a, size_t a_stride, int first, int count,
                    typename Op::Sum* waiting, int32_t* scratch, const Finish& finish) {
  using Sum = typename Op::Sum;
  constexpr int LINES = Matrix::AHEAD ? PANEL * 4 / 64 : 0;
  for (int step = 0; step < matrix.steps; step += Matrix::AT_ONCE) {
    const int steps = std::min(Matrix::AT_ONCE, matrix.steps - step);
    const bool last = step + steps == matrix.steps;
    const int32_t* b = matrix.tile(panel, step, steps, scratch);
    const void* next = b + size_t(steps) * PANEL;  // of this panel, or the next one
    for_row_blocks(count, [&](int block, int rows, int index, int blocks) {
      const Ahead ahead{static_cast<const char*>(next), LINES * index / blocks,
                        blocks > 1 ? LINES * (index + 1) / blocks : 0};
      with_rows(rows, [&]<int M>() {
        Sum sums[M][VECTORS] = {};
        Sum* kept = waiting + block * VECTORS;
        if (step > 0) std::memcpy(sums, kept, sizeof sums);
        const char* from = static_cast<const char*>(a) + ((first + block) * a_stride + step) * 4;
        multiply<Op>(sums, from, a_stride, b, PANEL, steps, ahead);
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

// The same in tiles, sixteen rows at a time. `waiting` holds the sums of as many rows as there are.
template <class Op, class Matrix, class Finish>
void multiply_panel_tiled(const Matrix& matrix, int panel, const void* a, size_t a_stride, int first, int count,
                          typename Op::Sum* waiting, int32_t* scratch, Tiles& tiles, const Finish& finish) {
  constexpr int LINES = Matrix::AHEAD ? PANEL * 4 / 64 : 0;
  static_assert(Matrix::AT_ONCE % TILE_STEPS == 0);
  const int blocks = (count + TILE_ROWS - 1) / TILE_ROWS, pairs = count / (2 * TILE_ROWS);
  const auto rows_at = [&](int block, int step) {
    return static_cast<const char*>(a) + ((first + block * TILE_ROWS) * a_stride + step) * 4;
  };
  for (int step = 0; step < matrix.steps; step += Matrix::AT_ONCE) {
    const int steps = std::min(Matrix::AT_ONCE, matrix.steps - step);
    const bool last = step + steps == matrix.steps;
    const int32_t* b = matrix.tile(panel, step, steps, scratch);
    const auto hand_over = [&](int block, int rows, int vector, int vectors) {  // while the sums are in the first-level cache
      for (int r = block * TILE_ROWS; r < block * TILE_ROWS + rows; r++)
        for (int v = vector; v < vector + vectors; v++)
          finish(first + r, panel * PANEL + v * LANES, waiting[r * VECTORS + v]);
    };
    const auto share = [&](int at, int index, int count) {  // of what comes after `at` steps
      const char* next = reinterpret_cast<const char*>(b + size_t(at) * PANEL);
      return Ahead{next, LINES * index / count, count > 1 ? LINES * (index + 1) / count : 0};
    };
    if (pairs > 0) tiles.shape(TILE_ROWS);
    for (int at = 0; pairs > 0 && at < steps; at += SQUARE_STEPS) {
      const int run = std::min(SQUARE_STEPS, steps - at);
      const char* columns = reinterpret_cast<const char*>(b + size_t(at) * PANEL);
      for (int half = 0; half < 2; half++)
        for (int pair = 0; pair < pairs; pair++) {
          // What comes next is as long as this, and each call fetches its part of it.
          const int call = pair + half * pairs;
          const char* next = columns + size_t(run) * PANEL * 4 * (2 * pairs + call) / (2 * pairs) / 64 * 64;
          const int lines = LINES ? run * LINES / (2 * pairs) : 0, tiles_run = run / TILE_STEPS;
          multiply_square<Op>(waiting + 2 * pair * TILE_ROWS * VECTORS + 2 * half, step + at == 0,
                              rows_at(2 * pair, step + at), a_stride, columns + 128 * half, run, [&](int tile) {
                                for (int i = lines * tile / tiles_run; i < lines * (tile + 1) / tiles_run; i++)
                                  __builtin_prefetch(next + i * 64, 0, 2);
                              });
          if (last && at + run == steps) hand_over(2 * pair, 2 * TILE_ROWS, 2 * half, 2);
        }
    }
    for (int block = 2 * pairs; block < blocks; block++) {
      const int rows = std::min(TILE_ROWS, count - block * TILE_ROWS);
      tiles.shape(rows);
      multiply_tiles<Op>(waiting + block * TILE_ROWS * VECTORS, step == 0, rows_at(block, step), a_stride, b, steps,
                         share(steps, block, blocks));
      if (last) hand_over(block, rows, 0, VECTORS);
    }
  }
}

// How the rows are parted. In tiles: as many at a time as stay near, since each part reads the whole matrix; and where
// there are several parts, as many for each thread, so that a thread's rows are its own.
template <class Op>
int parts_of(int rows, int steps, int threads) {
  if constexpr (!TILED<Op>) return (rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
  const int near = std::max(2 * TILE_ROWS, NEAR_WORDS / steps);
  const int parts = (rows + near - 1) / near;
  return parts > 1 ? (parts + threads - 1) / threads * threads : parts;
}

// All panels against all rows, inside a parallel region.
template <class Op, class Matrix, class Finish>
void multiply_shared(const Matrix& matrix, const void* a, size_t a_stride, int rows, int threads,
                     const Finish& finish) {
  const int parts = parts_of<Op>(rows, matrix.steps, threads);
  const bool waits = TILED<Op> || matrix.steps > Matrix::AT_ONCE;
  auto waiting = allocate<typename Op::Sum>(waits && parts ? size_t((rows + parts - 1) / parts + 1) * VECTORS : 0);
  auto scratch = allocate<int32_t>(Matrix::SCRATCH);
  const int tasks = matrix.panels * parts;
  Tiles tiles;
  const auto run_task = [&](int task) {
    const int part = task / matrix.panels, panel = task % matrix.panels;
    const int first = int(int64_t(rows) * part / parts), end = int(int64_t(rows) * (part + 1) / parts);
    if constexpr (TILED<Op>)
      multiply_panel_tiled<Op>(matrix, panel, a, a_stride, first, end - first, waiting.get(), scratch.get(), tiles,
                               finish);
    else
      multiply_panel<Op>(matrix, panel, a, a_stride, first, end - first, waiting.get(), scratch.get(), finish);
  };
  if (TILED<Op> && parts > 1) {
#pragma omp for schedule(static) nowait
    for (int task = 0; task < tasks; task++) run_task(task);
  } else {
    const int run = std::max(1, matrix.panels / (threads * 8));  // neighbouring panels: long streams of memory
#pragma omp for schedule(dynamic, run) nowait
    for (int task = 0; task < tasks; task++) run_task(task);
  }
}

// Calls `body` with the rows' data as a pointer of their type.
template <class Body>
void with_type(const Rows& rows, Body&& body) {
  if (rows.type == Type::Float32) return body(static_cast<float*>(rows.data));
  body(static_cast<bfloat16*>(rows.data));
}

// out = x W^T + bias for a matrix of float32 or bfloat16 panels; sums in float32.
template <class Op, class Matrix>
void multiply_floats(const Matrix& matrix, const Rows& x, int rows, const float* bias, const Rows& out, int threads) {
  using Element = typename Op::Element;
  threads = threads_for(double(rows) * matrix.outputs * matrix.inputs, threads);
  constexpr Type OWN = std::is_same_v<Element, float> ? Type::Float32 : Type::BFloat16;
  const int width = matrix.steps * Op::DEPTH;
  const bool direct = x.type == OWN && matrix.inputs == width && x.stride % Op::DEPTH == 0;
  auto copy = allocate<Element>(direct ? 0 : size_t(rows) * width);
  const void* a = direct ? x.data : copy.get();
  const size_t a_stride = direct ? x.stride / Op::DEPTH : matrix.steps;
  with_type(out, [&](auto* to) {
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
      if (!direct) {
        with_type(x, [&](auto* from) {
#pragma omp for
          for (int r = 0; r < rows; r++)
            convert(from + r * x.stride, matrix.inputs, copy.get() + size_t(r) * width, width);
        });
      }
      multiply_shared<Op>(matrix, a, a_stride, rows, threads, [&](int row, int column, Floats sum) {
        const int count = matrix.outputs - column;
        if (count <= 0) return;
        if (bias) sum += load(bias + column, count);
        store(to + row * out.stride + column, sum, count);
      });
    }
  });
}

}  // namespace TUTTI_MODULE
