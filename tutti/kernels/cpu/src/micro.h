// The inner loop of every matrix product here: a few rows of A times a panel of B, accumulated in registers.
//
// One template serves three number types, because all of them take 32 bits of A (one float, two bfloat16, four int8)
// against 32 bits of each column of B in one step:
//
//     B panel  [steps][columns]   32-bit words, columns contiguous
//     A        [rows][steps]      32-bit words, `a_stride` apart
//
// A row's sums are taken in the order of the steps whatever the number of rows: results do not depend on the batch.
#pragma once

#include "vector.h"

namespace TUTTI_MODULE {

#if defined(__AVX512F__)
constexpr int ROWS = 6, VECTORS = 4;  // 24 of 32 registers hold sums
#else
constexpr int ROWS = 4, VECTORS = 2;  // 8 of 16
#endif
constexpr int PANEL = VECTORS * LANES;  // columns

struct Float32 {
  using Element = float;
  using Sum = Floats;
  static constexpr int DEPTH = 1;  // elements of A per step
  static Sum step(Sum sum, Words a, Words b) { return sum + as_floats(a) * as_floats(b); }
};

struct BFloat16 {
  using Element = bfloat16;
  using Sum = Floats;
  static constexpr int DEPTH = 2;
  static Sum step(Sum sum, Words a, Words b) {
#if defined(__AVX512BF16__)
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
#else
    sum += as_floats(a << 16) * as_floats(b << 16);
    return sum + as_floats(a & int32_t(0xffff0000)) * as_floats(b & int32_t(0xffff0000));
#endif
  }
};

// A signed, B unsigned (the weights' codes + 128; see Int8Matrix).
struct Int8 {
  using Element = int8_t;
  using Sum = Words;
  static constexpr int DEPTH = 4;
  static Sum step(Sum sum, Words a, Words b) {
#if defined(__AVX512VNNI__)
    return reinterpret_cast<Words>(_mm512_dpbusd_epi32(
        reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(b), reinterpret_cast<__m512i>(a)));
#elif defined(__AVXVNNI__)
    return reinterpret_cast<Words>(_mm256_dpbusd_avx_epi32(
        reinterpret_cast<__m256i>(sum), reinterpret_cast<__m256i>(b), reinterpret_cast<__m256i>(a)));
#else  // 16-bit products of the even and of the odd bytes: exact, unlike vpmaddubsw, which saturates
    using Shorts = int16_t __attribute__((vector_size(LANES * 4)));
    Shorts a_even = (reinterpret_cast<Shorts>(a) << 8) >> 8, a_odd = reinterpret_cast<Shorts>(a) >> 8;
    Words b_even = b & 0x00ff00ff, b_odd = reinterpret_cast<Words>(reinterpret_cast<Unsigned>(b) >> 8) & 0x00ff00ff;
    return sum + multiply_pairs(reinterpret_cast<Words>(a_even), b_even) +
           multiply_pairs(reinterpret_cast<Words>(a_odd), b_odd);
#endif
  }

 private:
  static Words multiply_pairs(Words a, Words b) {
#if defined(__AVX512BW__)
    return reinterpret_cast<Words>(_mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#else
    return reinterpret_cast<Words>(_mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#endif
  }
};

// What `multiply` fetches ahead at each step: nothing, unless told.
struct Nothing {
  void operator()(int) const {}
};

// sums[r][v] += A[r] * B[:, v]. `a_stride` in words; `b_stride` in words between steps. `ahead(step)` may prefetch.
template <class Op, int M, int N, class Ahead = Nothing>
[[gnu::always_inline]] inline void multiply(typename Op::Sum (&sums)[M][N], const void* a, size_t a_stride,
                                            const void* b, size_t b_stride, int steps, Ahead ahead = {}) {
  const char* a_bytes = static_cast<const char*>(a);
  const char* b_bytes = static_cast<const char*>(b);
  for (int s = 0; s < steps; s++) {
    ahead(s);
    Words columns[N];
#pragma GCC unroll 8
    for (int v = 0; v < N; v++) columns[v] = load_raw<Words>(b_bytes + (s * b_stride + v * LANES) * 4);
#pragma GCC unroll 8
    for (int r = 0; r < M; r++) {
      int32_t word;
      std::memcpy(&word, a_bytes + (r * a_stride + s) * 4, 4);
      Words row = splat(word);
#pragma GCC unroll 8
      for (int v = 0; v < N; v++) sums[r][v] = Op::step(sums[r][v], row, columns[v]);
    }
  }
}

// Calls `body.template operator()<M>()` with M = rows, 1..ROWS: a run-time number of rows made a constant.
template <class Body>
inline void with_rows(int rows, Body&& body) {
  static_assert(ROWS <= 6);
  switch (rows) {
    case 1: return body.template operator()<1>();
    case 2: return body.template operator()<2>();
    case 3: return body.template operator()<3>();
    case 4: return body.template operator()<4>();
#if defined(__AVX512F__)
    case 5: return body.template operator()<5>();
    case 6: return body.template operator()<6>();
#endif
  }
}

// Splits `rows` into blocks of at most ROWS, of nearly equal size: calls body(first, count, index, blocks).
template <class Body>
inline void for_row_blocks(int rows, Body&& body) {
  const int blocks = (rows + ROWS - 1) / ROWS;
  for (int i = 0; i < blocks; i++) {
    const int first = int(int64_t(rows) * i / blocks), end = int(int64_t(rows) * (i + 1) / blocks);
    body(first, end - first, i, blocks);
  }
}

}  // namespace TUTTI_MODULE
