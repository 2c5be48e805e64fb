// Vectors of 32-bit lanes, and how numbers of each storage type enter and leave them.
//
// Written with the compiler's vector extensions, so that one source serves AVX2 (8 lanes) and AVX-512 (16 lanes);
// intrinsics appear only where an instruction has no other spelling. Everything here is inline and has no state.
//
// TUTTI_MODULE is the name of the extension module: as a namespace it keeps the types of two modules apart in one process.
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

inline Floats as_floats(Words w) { return reinterpret_cast<Floats>(w); }
inline Words as_words(Floats f) { return reinterpret_cast<Words>(f); }

inline Floats widen(Halves h) { return reinterpret_cast<Floats>(__builtin_convertvector(h, Unsigned) << 16); }

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

inline Floats max(Floats a, Floats b) { return a > b ? a : b; }
inline Floats min(Floats a, Floats b) { return a < b ? a : b; }
inline Floats abs(Floats a) { return as_floats(as_words(a) & 0x7fffffff); }

// Lanes are added in a fixed tree, so that a sum never depends on anything but its terms.
inline float sum(Floats v) {
  float lanes[LANES];
  store_raw(lanes, v);
  for (int width = LANES / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
  return lanes[0];
}

inline float largest(Floats v) {
  float lanes[LANES];
  store_raw(lanes, v);
  for (int width = LANES / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) lanes[i] = lanes[i] > lanes[i + width] ? lanes[i] : lanes[i + width];
  return lanes[0];
}

// The nearest integer, for |x| < 2^22 (adding 1.5 * 2^23 leaves it in the low bits).
inline Floats round(Floats x) {
  return (x + 12582912.0f) - 12582912.0f;
}

// e^x to 2 units in the last place; exactly 0 from about -87.7 downwards (and for -infinity), finite up to 88.
inline Floats exp(Floats x) {
  Floats clamped = min(max(x, splat(-89.0f)), splat(88.3f));
  Floats n = round(clamped * 1.44269504f);
  Floats r = clamped - n * 0.693359375f;  // ln 2 in two parts: x - n ln 2 without losing low bits
  r = r - n * -2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;  // minimax, Cephes' expf
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  Words exponent = __builtin_convertvector(n, Words) + 127;
  exponent = exponent > 0 ? exponent : Words{};  // 2^-127 and below become 0
  return p * as_floats(exponent << 23);
}

inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + exp(-x)); }
inline Floats tanh(Floats x) { return 1.0f - 2.0f / (exp(2.0f * x) + 1.0f); }

}  // namespace TUTTI_MODULE
