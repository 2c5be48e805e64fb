#include "pointwise.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

namespace TUTTI_MODULE {

namespace {

// Work of so many numbers or fewer stays on the calling thread: waking others costs more.
int threads_for(double numbers, int threads) { return numbers < 32768 ? 1 : threads; }

template <class T>
T* row_of(const Grid& grid, int outer, int inner) {
  return static_cast<T*>(grid.data) + outer * grid.outer_stride + inner * grid.inner_stride;
}

template <class T, class Weight>
void norm_row(const Norm& n, int outer, int inner) {
  const T* x = row_of<T>(n.x, outer, inner);
  Floats squares = {};
  if (n.residual.data) {
    const T* residual = row_of<T>(n.residual, outer, inner);
    T* total = row_of<T>(n.total, outer, inner);
    for (int i = 0; i < n.width; i += LANES) {
      const int count = n.width - i;
      store(total + i, load(x + i, count) + load(residual + i, count), count);
      const Floats rounded = load(total + i, count);
      squares += rounded * rounded;
    }
    x = total;
  } else {
    for (int i = 0; i < n.width; i += LANES) {
      const Floats value = load(x + i, n.width - i);
      squares += value * value;
    }
  }
  const float factor = 1.0f / std::sqrt(sum(squares) / n.width + n.eps);
  const Weight* weight = static_cast<const Weight*>(n.weight);
  T* out = row_of<T>(n.out, outer, inner);
  for (int i = 0; i < n.width; i += LANES) {
    const int count = n.width - i;
    Floats normed = load(x + i, count) * factor;
    if (weight) {
      if constexpr (std::is_same_v<T, bfloat16>)
        if (n.rounded) normed = widen(narrow(normed));
      normed *= load(weight + i, count) + n.offset;
    }
    store(out + i, normed, count);
  }
}

template <class T, class Weight>
void norm_rows(const Norm& n, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int outer = 0; outer < n.outer; outer++)
    for (int inner = 0; inner < n.inner; inner++) norm_row<T, Weight>(n, outer, inner);
}

int group_of(const Groups& groups, int row) {
  return int(std::upper_bound(groups.starts + 1, groups.starts + groups.count, row) - groups.starts) - 1;
}

// The row's own of a tensor of groups, or null.
template <class T>
const T* of_group(const void* tensor, const Groups& groups, int row) {
  return tensor ? static_cast<const T*>(tensor) + group_of(groups, row) * groups.group_stride : nullptr;
}

template <class T>
float root_mean_square(const T* x, int width, float mean, float eps) {
  Floats squares = {};
  for (int i = 0; i < width; i += LANES) {
    const int count = width - i;
    Floats value = load(x + i, count) - mean;
    if (count < LANES) value = iota() < splat(count) ? value : Floats{};
    squares += value * value;
  }
  return std::sqrt(sum(squares) / width + eps);
}

template <class T, class Weight>
void modulated_rows(const ModulatedNorm& n, int threads) {
  const Weight* weight = static_cast<const Weight*>(n.weight);
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int row = 0; row < n.rows; row++) {
    const T* x = static_cast<const T*>(n.x) + size_t(row) * n.width;
    T* out = static_cast<T*>(n.out) + size_t(row) * n.width;
    const T* scale = of_group<T>(n.scale, n.groups, row);
    const T* shift = of_group<T>(n.shift, n.groups, row);
    float mean = 0;
    if (n.centered) {
      Floats total = {};
      for (int i = 0; i < n.width; i += LANES) total += load(x + i, n.width - i);
      mean = sum(total) / n.width;
    }
    const float factor = 1.0f / root_mean_square(x, n.width, mean, n.eps);
    for (int i = 0; i < n.width; i += LANES) {
      const int count = n.width - i;
      Floats value = (load(x + i, count) - mean) * factor;
      if (weight) value *= load(weight + i, count);
      if (scale) value += value * load(scale + i, count);
      if (shift) value += load(shift + i, count);
      store(out + i, value, count);
    }
  }
}

template <class T, class Weight>
void gated_rows(const GatedSum& g, int threads) {
  const Weight* weight = static_cast<const Weight*>(g.weight);
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int row = 0; row < g.rows; row++) {
    const size_t at = size_t(row) * g.width;
    const T *x = static_cast<const T*>(g.x) + at, *y = static_cast<const T*>(g.y) + at;
    T* out = static_cast<T*>(g.out) + at;
    const T* gate = of_group<T>(g.gate, g.groups, row);
    const float factor = weight ? 1.0f / root_mean_square(y, g.width, 0, g.eps) : 1.0f;
    for (int i = 0; i < g.width; i += LANES) {
      const int count = g.width - i;
      Floats value = load(y + i, count);
      if (weight) value = value * factor * load(weight + i, count);
      if (gate) value *= load(gate + i, count);
      store(out + i, load(x + i, count) + value, count);
    }
  }
}

// What is computed in float32 whatever the types of numbers and of weights are.
template <class Run>
void of_types(Type type, Type weight_type, Run run) {
  const bool wide = weight_type == Type::Float32;
  if (type == Type::Float32 && wide) return run.template operator()<float, float>();
  if (type == Type::Float32) return run.template operator()<float, bfloat16>();
  if (wide) return run.template operator()<bfloat16, float>();
  run.template operator()<bfloat16, bfloat16>();
}

// Columns i and i + half.
template <class T>
void turn_halves(T* x, const float* cos, const float* sin, int half) {
  for (int i = 0; i < half; i += LANES) {
    const int count = half - i;
    const Floats a = load(x + i, count), b = load(x + half + i, count);
    const Floats c = load(cos + i, count), s = load(sin + i, count);
    store(x + i, a * c - b * s, count);
    store(x + half + i, b * c + a * s, count);
  }
}

// Each lane's neighbour of its pair; the numbers of half a vector, each twice.
inline Floats swapped(Floats v) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
#else
  return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
#endif
}

inline Floats twice(Floats v) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(v, v, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
#else
  return __builtin_shufflevector(v, v, 0, 0, 1, 1, 2, 2, 3, 3);
#endif
}

// The upper half of the lanes, below.
inline Floats upper(Floats v) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  return __builtin_shufflevector(v, v, 4, 5, 6, 7, 4, 5, 6, 7);
#endif
}

// Columns 2i and 2i + 1.
template <class T>
void turn_pairs(T* x, const float* cos, const float* sin, int half) {
  const Floats sign = __builtin_convertvector((iota() & 1) * 2 - 1, Floats);  // the first of a pair: minus
  int i = 0;
  for (; i + LANES <= half; i += LANES) {  // two vectors of x for one of cosines
    const Floats c = load(cos + i), s = load(sin + i);
    const Floats c_high = upper(c), s_high = upper(s), low = load(x + 2 * i), high = load(x + 2 * i + LANES);
    store(x + 2 * i, low * twice(c) + swapped(low) * sign * twice(s));
    store(x + 2 * i + LANES, high * twice(c_high) + swapped(high) * sign * twice(s_high));
  }
  for (i *= 2; i < 2 * half; i += LANES) {
    const int count = 2 * half - i, pairs = std::min(count, LANES) / 2;
    const Floats v = load(x + i, count);
    store(x + i, v * twice(load(cos + i / 2, pairs)) + swapped(v) * sign * twice(load(sin + i / 2, pairs)), count);
  }
}

template <class T>
void rotate_rows(const Grid& x, int tokens, int heads, const float* cos, const float* sin, int half, bool interleaved,
                 int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int token = 0; token < tokens; token++) {
    const float *c = cos + size_t(token) * half, *s = sin + size_t(token) * half;
    for (int head = 0; head < heads; head++) {
      if (interleaved)
        turn_pairs(row_of<T>(x, token, head), c, s, half);
      else
        turn_halves(row_of<T>(x, token, head), c, s, half);
    }
  }
}

// The error function to 1.5e-7 (Abramowitz and Stegun 7.1.26).
Floats erf(Floats x) {
  const Floats size = abs(x), t = 1.0f / (1.0f + 0.3275911f * size);
  Floats p = 1.061405429f * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const Floats y = 1.0f - p * t * exp(-size * size);
  return x < 0.0f ? -y : y;
}

template <Activation A>
Floats apply(Floats x) {
  if constexpr (A == Activation::Silu) return x * sigmoid(x);
  if constexpr (A == Activation::Gelu) return 0.5f * x * (1.0f + erf(x * 0.70710678f));
  if constexpr (A == Activation::GeluTanh) return x * sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
  if constexpr (A == Activation::QuickGelu) return x * sigmoid(1.702f * x);
  if constexpr (A == Activation::Relu) return max(Floats{}, x);
  if constexpr (A == Activation::Relu2) return max(Floats{}, x) * max(Floats{}, x);
  return x;
}

template <Activation A>
Floats apply(Floats gate, Floats up) {
  if constexpr (A == Activation::SwigluClamped) {
    gate = min(splat(7.0f), gate);
    return gate * sigmoid(1.702f * gate) * (min(splat(7.0f), max(splat(-7.0f), up)) + 1.0f);
  }
  return apply<A>(gate) * up;
}

template <Activation A, class T>
void activate_rows(const T* x, const T* up, size_t x_stride, T* out, int rows, int width, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int row = 0; row < rows; row++) {
    const T *from = x + row * x_stride, *other = up ? up + row * x_stride : nullptr;
    T* to = out + size_t(row) * width;
    for (int i = 0; i < width; i += LANES) {
      const int count = width - i;
      const Floats value = load(from + i, count);
      store(to + i, other ? apply<A>(value, load(other + i, count)) : apply<A>(value), count);
    }
  }
}

template <class T>
void activate_as(const void* x, const void* up, size_t x_stride, void* out, int rows, int width,
                 Activation activation, int threads) {
  const auto run = [&]<Activation A>() {
    activate_rows<A>(static_cast<const T*>(x), static_cast<const T*>(up), x_stride, static_cast<T*>(out), rows, width,
                     threads);
  };
  switch (activation) {
    case Activation::Silu: return run.template operator()<Activation::Silu>();
    case Activation::Gelu: return run.template operator()<Activation::Gelu>();
    case Activation::GeluTanh: return run.template operator()<Activation::GeluTanh>();
    case Activation::QuickGelu: return run.template operator()<Activation::QuickGelu>();
    case Activation::Relu: return run.template operator()<Activation::Relu>();
    case Activation::Relu2: return run.template operator()<Activation::Relu2>();
    case Activation::SwigluClamped: return run.template operator()<Activation::SwigluClamped>();
  }
}

int64_t argmax_row(const float* x, int width) {
  Floats most = splat(-std::numeric_limits<float>::infinity());
  Words where = {}, strange = {}, at = iota();  // of each lane; `strange`: it met a NaN
  int i = 0;
  for (; i + LANES <= width; i += LANES, at += LANES) {
    const Floats value = load(x + i);
    where = value > most ? at : where;
    most = max(value, most);  // keeps `most` beside a NaN
    strange |= value != value;
  }
  float best = -std::numeric_limits<float>::infinity();
  int64_t found = 0;
  bool any = false;
  for (int lane = 0; lane < LANES; lane++) {
    any |= strange[lane] != 0;
    if (most[lane] > best || (most[lane] == best && where[lane] < found)) best = most[lane], found = where[lane];
  }
  for (; i < width; i++) {
    any |= x[i] != x[i];
    if (x[i] > best) best = x[i], found = i;
  }
  if (any)
    for (found = 0; x[found] == x[found];) found++;
  return found;
}

}  // namespace

void argmax(const float* x, size_t x_stride, int64_t* out, int rows, int width, int threads) {
  threads = threads_for(double(rows) * width, threads);
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int row = 0; row < rows; row++) out[row] = argmax_row(x + row * x_stride, width);
}

void rms_norm(const Norm& norm, int threads) {
  threads = threads_for(double(norm.outer) * norm.inner * norm.width, threads);
  of_types(norm.type, norm.weight_type, [&]<class T, class Weight>() { norm_rows<T, Weight>(norm, threads); });
}

void modulated_norm(const ModulatedNorm& norm, int threads) {
  threads = threads_for(double(norm.rows) * norm.width, threads);
  of_types(norm.type, norm.weight_type, [&]<class T, class Weight>() { modulated_rows<T, Weight>(norm, threads); });
}

void gated_sum(const GatedSum& sum, int threads) {
  threads = threads_for(double(sum.rows) * sum.width, threads);
  of_types(sum.type, sum.weight_type, [&]<class T, class Weight>() { gated_rows<T, Weight>(sum, threads); });
}

void rotate(const Grid& x, Type type, int tokens, int heads, const float* cos, const float* sin, int half,
            bool interleaved, int threads) {
  threads = threads_for(2.0 * tokens * heads * half, threads);
  if (type == Type::Float32) return rotate_rows<float>(x, tokens, heads, cos, sin, half, interleaved, threads);
  rotate_rows<bfloat16>(x, tokens, heads, cos, sin, half, interleaved, threads);
}

void activate(const void* x, const void* up, size_t x_stride, void* out, Type type, int rows, int width,
              Activation activation, int threads) {
  threads = threads_for(4.0 * rows * width, threads);
  if (type == Type::Float32) return activate_as<float>(x, up, x_stride, out, rows, width, activation, threads);
  activate_as<bfloat16>(x, up, x_stride, out, rows, width, activation, threads);
}

}  // namespace TUTTI_MODULE
