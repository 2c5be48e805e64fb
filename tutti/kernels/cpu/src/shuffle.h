// Rearranging vectors: squares of words turned, 16-bit numbers interleaved.
//
// Patterns are written so that each is one cheap instruction (unpack or a shuffle of 128-bit quarters).
#pragma once

#include "vector.h"

namespace TUTTI_MODULE {

using Shorts = uint16_t __attribute__((vector_size(LANES * 4)));
using Longs = int64_t __attribute__((vector_size(LANES * 4)));

#if defined(__AVX512F__)

inline Words low_words(Words a, Words b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
}
inline Words high_words(Words a, Words b) {
  return __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
}
inline Words low_pairs(Words a, Words b) {
  return (Words)__builtin_shufflevector((Longs)a, (Longs)b, 0, 8, 2, 10, 4, 12, 6, 14);
}
inline Words high_pairs(Words a, Words b) {
  return (Words)__builtin_shufflevector((Longs)a, (Longs)b, 1, 9, 3, 11, 5, 13, 7, 15);
}
inline Words even_quarters(Words a, Words b) {
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
}
inline Words odd_quarters(Words a, Words b) {
  return __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}

// The 128-bit quarters of four vectors, turned: out[i] has the i-th quarter of each.
inline void turn_quarters(const Words (&in)[4], Words (&out)[4]) {
  const Words a = even_quarters(in[0], in[1]), b = odd_quarters(in[0], in[1]);
  const Words c = even_quarters(in[2], in[3]), d = odd_quarters(in[2], in[3]);
  out[0] = even_quarters(a, c), out[1] = even_quarters(b, d), out[2] = odd_quarters(a, c), out[3] = odd_quarters(b, d);
}

// The 16-bit numbers of the first (last) halves of a and b, alternating.
inline Shorts interleave_first(Shorts a, Shorts b) {
  return __builtin_shufflevector(a, b, 0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, 8, 40, 9, 41, 10, 42, 11,
                                 43, 12, 44, 13, 45, 14, 46, 15, 47);
}
inline Shorts interleave_last(Shorts a, Shorts b) {
  return __builtin_shufflevector(a, b, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55, 24, 56, 25, 57,
                                 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63);
}

#else

inline Words low_words(Words a, Words b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13); }
inline Words high_words(Words a, Words b) { return __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15); }
inline Words low_pairs(Words a, Words b) {
  return (Words)__builtin_shufflevector((Longs)a, (Longs)b, 0, 4, 2, 6);
}
inline Words high_pairs(Words a, Words b) {
  return (Words)__builtin_shufflevector((Longs)a, (Longs)b, 1, 5, 3, 7);
}

inline void turn_quarters(const Words (&in)[2], Words (&out)[2]) {
  out[0] = __builtin_shufflevector(in[0], in[1], 0, 1, 2, 3, 8, 9, 10, 11);
  out[1] = __builtin_shufflevector(in[0], in[1], 4, 5, 6, 7, 12, 13, 14, 15);
}

inline Shorts interleave_first(Shorts a, Shorts b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
inline Shorts interleave_last(Shorts a, Shorts b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

#endif

// Turns a square of LANES x LANES words: 4 x 4 words inside the quarters, then the quarters.
inline void turn(Words (&rows)[LANES]) {
  constexpr int QUARTERS = LANES / 4;
  Words inside[4][QUARTERS];  // [column within a quarter][group of four rows]
#pragma GCC unroll 4
  for (int group = 0; group < QUARTERS; group++) {
    const Words *row = rows + 4 * group;
    const Words a = low_words(row[0], row[1]), b = high_words(row[0], row[1]);
    const Words c = low_words(row[2], row[3]), d = high_words(row[2], row[3]);
    inside[0][group] = low_pairs(a, c), inside[1][group] = high_pairs(a, c);
    inside[2][group] = low_pairs(b, d), inside[3][group] = high_pairs(b, d);
  }
#pragma GCC unroll 4
  for (int column = 0; column < 4; column++) {
    Words out[QUARTERS];
    turn_quarters(inside[column], out);
#pragma GCC unroll 4
    for (int quarter = 0; quarter < QUARTERS; quarter++) rows[4 * quarter + column] = out[quarter];
  }
}

}  // namespace TUTTI_MODULE
