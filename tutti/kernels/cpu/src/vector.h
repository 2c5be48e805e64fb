// Vectors of 32-bit lanes, and how numbers of each storage type enter and leave them.
//
// Written with the compiler's vector extensions, so that one source serves AVX2 (8 lanes) and AVX-512 (16 lanes);
// intrinsics appear only where an instruction has no other spelling. Everything here is inline and has no state.
//
// TUTTI_MODULE is the name of the extension module: as a namespace it keeps the types of two modules apart in one
// process.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace TUTTI_MODULE {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif

using Floats = float __attribute__((vector_size(LANES * 4)));
using Words = int32_t __attribute__((vector_size(LANES * 4)));
using Unsigned = uint32_t __attribute__((vector_size(LANES * 4)));
using Halves = uint16_t __attribute__((vector_size(LANES * 2)));  // one 16-bit number per lane

struct bfloat16 {
  uint16_t bits;
};

// The storage types as they are named across the Python boundary.
enum class Type : int { Float32 = 0, BFloat16 = 1 };

inline Floats splat(float x) { return x - Floats{}; }
inline Words splat(int32_t x) { return x - Words{}; }

inline Words iota() {
  Words lanes;
  for (int i = 0; i < LANES; i++) lanes[i] = i;
  return lanes;
}

template <class V>
inline V load_raw(const void* from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class V>
inline void store_raw(void* to, V v) {
  std::memcpy(to, &v, sizeof v);
}

inline Words shifted(Words word, int by) { return reinterpret_cast<Words>(reinterpret_cast<Unsigned>(word) >> by); }
inline Floats as_floats(Words w) { return reinterpret_cast<Floats>(w); }
inline Words as_words(Floats f) { return reinterpret_cast<Words>(f); }

inline Floats widen(Halves h) {
#if defined(__AVX512F__)  // spelled out: GCC 12 makes five instructions of the conversion
  return reinterpret_cast<Floats>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(h)), 16));
#else
  return reinterpret_cast<Floats>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(reinterpret_cast<__m128i>(h)), 16));
#endif
}

// Round to nearest even; NaN stays NaN.
inline Halves narrow(Floats f) {
#if defined(__AVX512BF16__)
  return reinterpret_cast<Halves>(_mm512_cvtneps_pbh(f));
#else
  Unsigned u = reinterpret_cast<Unsigned>(f);
  Unsigned rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  Unsigned kept = f == f ? rounded : Unsigned{} + 0x7fc0;
  return __builtin_convertvector(kept, Halves);
#endif
}

// load and store: LANES numbers of type T, or the first `count` of them (the missing lanes read as zero).
inline Floats load(const float* from) { return load_raw<Floats>(from); }
inline Floats load(const bfloat16* from) { return widen(load_raw<Halves>(from)); }
inline void store(float* to, Floats v) { store_raw(to, v); }
inline void store(bfloat16* to, Floats v) { store_raw(to, narrow(v)); }

template <class T>
inline Floats load(const T* from, int count) {
  if (count >= LANES) return load(from);
  T padded[LANES] = {};
  for (int i = 0; i < count; i++) padded[i] = from[i];
  return load(padded);
}

template <class T>
inline void store(T* to, Floats v, int count) {
  if (count >= LANES) return store(to, v);
  T padded[LANES];
  store(padded, v);
  for (int i = 0; i < count; i++) to[i] = padded[i];
}

inline float to_float(float x) { return x; }
inline float to_float(bfloat16 x) {
  uint32_t bits = uint32_t(x.bits) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

// Where either is NaN, b.
#if defined(__AVX512F__)
inline Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
#else
inline Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
inline Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }
#endif
inline Floats abs(Floats a) { return as_floats(as_words(a) & 0x7fffffff); }

// Folds the lanes in a fixed tree, upper half onto lower, so that a sum never depends on anything but its terms.
template <class Fold>
inline float fold(Floats v, Fold both) {
#if defined(__AVX512F__)
  v = both(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15));
  v = both(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7));
  v = both(v, __builtin_shufflevector(v, v, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3));
#else
  v = both(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 4, 5, 6, 7));
  v = both(v, __builtin_shufflevector(v, v, 2, 3, 2, 3, 2, 3, 2, 3));
#endif
  return both(v, splat(v[1]))[0];
}

inline float sum(Floats v) {
  return fold(v, [](Floats a, Floats b) { return a + b; });
}

inline float largest(Floats v) {
  return fold(v, [](Floats a, Floats b) { return max(a, b); });
}

// The nearest integer, ties to even.
inline Floats round(Floats x) {
#if defined(__AVX512F__)
  return _mm512_roundscale_ps(x, 0);
#else
  return _mm256_round_ps(x, 0);
#endif
}

// p * 2^n for whole n; 0 where that is too small.
inline Floats scale(Floats p, Floats n) {
#if defined(__AVX512F__)
  return _mm512_scalef_ps(p, n);
#else
  Words exponent = __builtin_convertvector(n, Words) + 127;
  exponent = exponent > 0 ? exponent : Words{};
  return p * as_floats(exponent << 23);
#endif
}

// e^x to 2 units in the last place; 0 for -infinity, finite for x > 88, NaN for NaN.
inline Floats exp(Floats x) {
  const Floats clamped = min(splat(88.3f), max(splat(-110.0f), x));
  const Floats n = round(clamped * 1.44269504f);
  Floats r = clamped - n * 0.693359375f;  // ln 2 in two parts: x - n ln 2 without losing low bits
  r = r - n * -2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;  // minimax, Cephes' expf
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return scale(p, n);
}

inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + exp(-x)); }
inline Floats tanh(Floats x) { return 1.0f - 2.0f / (exp(2.0f * x) + 1.0f); }

}  // namespace TUTTI_MODULE
