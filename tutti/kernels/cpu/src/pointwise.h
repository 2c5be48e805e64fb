// Norms, rotary embedding, activations: one pass over memory each, float32 inside. See pointwise.cpp.
#pragma once

#include "vector.h"

namespace TUTTI_MODULE {

// Rows of `width` numbers addressed by two outer indices (token, head); the last dimension is contiguous.
struct Grid {
  void* data;
  size_t outer_stride, inner_stride;  // in elements
};

enum class Activation : int { Silu, Gelu, GeluTanh, QuickGelu, Relu, Relu2, SwigluClamped };

// out = x / rms(x) * (offset + weight). `weight` [width] of `weight_type`, or null. With `rounded` the normed value is
// rounded to the type before the weight multiplies it. With `residual`, x is first added to it and the sum stored in
// `total`.
struct Norm {
  Grid x, residual, total, out;  // residual.data null: no addition
  Type type;
  int outer, inner, width;
  const void* weight;
  Type weight_type;
  float eps, offset;
  bool rounded;
};
void rms_norm(const Norm& norm, int threads);

// Rows [rows, width], contiguous, in groups: group g has the rows starts[g] to starts[g + 1], and a row of its own in
// tensors of groups, whose rows are `group_stride` apart.
struct Groups {
  const int32_t* starts;
  int count;
  size_t group_stride;
};

// out = norm(x) * weight * (1 + scale) + shift, rounded once. `centered`: the mean is taken away first (a layer norm);
// else it is an RMS norm. `weight` [width], `scale` and `shift` of groups: null for nothing.
struct ModulatedNorm {
  const void *x, *scale, *shift;
  void* out;
  Type type;
  int rows, width;
  Groups groups;
  const void* weight;
  Type weight_type;
  float eps;
  bool centered;
};
void modulated_norm(const ModulatedNorm& norm, int threads);

// out = x + gate * y, rounded once; with `weight` [width] of y's RMS norm. `gate` of groups, or null for ones.
struct GatedSum {
  const void *x, *y, *gate;
  void* out;
  Type type;
  int rows, width;
  Groups groups;
  const void* weight;
  Type weight_type;
  float eps;
};
void gated_sum(const GatedSum& sum, int threads);

// Turns the first 2 * half columns of x [tokens, heads, dim] in place; cos, sin float32 [tokens, half].
void rotate(const Grid& x, Type type, int tokens, int heads, const float* cos, const float* sin, int half,
            bool interleaved, int threads);

// out [rows, width] = activation(x) * up; with `up` null: activation(x). Rows of both are `x_stride` apart.
void activate(const void* x, const void* up, size_t x_stride, void* out, Type type, int rows, int width,
              Activation activation, int threads);

// The index of the first largest number of each row of float32 x [rows, width]; the first NaN, if there is one.
void argmax(const float* x, size_t x_stride, int64_t* out, int rows, int width, int threads);

}  // namespace TUTTI_MODULE
