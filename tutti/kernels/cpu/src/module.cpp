// The Python face of the kernels: plain functions over addresses, and the packed matrices as classes.
//
// Tensors cross as `data_ptr()` integers with their strides; whoever calls has checked shapes and types (`cpu.ops`,
// `cpu.linear`) and keeps the tensors alive. The lock of the interpreter is released while a kernel runs.
#include <nanobind/nanobind.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "attention.h"
#include "block.h"
#include "dense_attention.h"
#include "grouped.h"
#include "matrix.h"
#include "pointwise.h"
#include "snake.h"
#include "tiles.h"

namespace nb = nanobind;
using namespace TUTTI_MODULE;

namespace {

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

using Release = nb::call_guard<nb::gil_scoped_release>;

// (address, stride of the first dimension, stride of the second): three arguments each.
#define GRID(name) uintptr_t name, size_t name##_outer, size_t name##_inner
#define AS_GRID(name) Grid{at<void>(name), name##_outer, name##_inner}
#define AS_HEADS(name) Heads{at<void>(name), name##_outer, name##_inner}

template <class Matrix>
void multiply(const Matrix& self, uintptr_t x, int x_type, size_t x_stride, int rows, uintptr_t bias, uintptr_t out,
              int out_type, size_t out_stride, int threads) {
  self.multiply({at<void>(x), Type(x_type), x_stride}, rows, at<float>(bias),
                {at<void>(out), Type(out_type), out_stride}, threads);
}

// A part of a `Stack`: the matrix in any form, with its bias.
template <class Matrix>
Linear linear(const Matrix& self, uintptr_t bias, int outputs) {
  const auto multiply = [](const void* matrix, const Rows& x, int rows, const float* bias, const Rows& out,
                           int threads) { static_cast<const Matrix*>(matrix)->multiply(x, rows, bias, out, threads); };
  return {&self, multiply, at<float>(bias), outputs};
}

template <class Matrix>
void define_float_matrix(nb::module_& module, const char* name) {
  nb::class_<Matrix>(module, name)
      .def("__init__",
           [](Matrix* self, uintptr_t weight, int type, size_t stride, int outputs, int inputs, int threads) {
             nb::gil_scoped_release release;
             new (self) Matrix(at<void>(weight), Type(type), stride, outputs, inputs, threads);
           })
      .def("multiply", &multiply<Matrix>, Release())
      .def("linear", &linear<Matrix>)
      .def_prop_ro("bytes", &Matrix::bytes);
}

// (address, type, numbers of a row): a tensor of scales.
using Tensor = std::tuple<uintptr_t, int, int>;

Numbers numbers(const Tensor& tensor) {
  const auto& [address, type, count] = tensor;
  return {at<void>(address), Number(type), count};
}

void define_grouped_matrix(nb::module_& module) {
  using Matrix = GroupedMatrix;
  nb::class_<Matrix>(module, "GroupedMatrix")
      .def("__init__",
           [](Matrix* self, const Tensor& low, int low_bits, const Tensor& high, int high_bits, float zero,
              uintptr_t table, const Tensor& scale, const Tensor& coarse, const Tensor& shift,
              const Tensor& coarse_shift, int outputs, int inputs, int threads) {
             nb::gil_scoped_release release;
             new (self) Matrix({numbers(low), numbers(high), low_bits, high_bits, zero, at<float>(table),
                                numbers(scale), numbers(coarse), numbers(shift), numbers(coarse_shift), outputs,
                                inputs},
                               threads);
           })
      .def("multiply", &multiply<Matrix>, Release())
      .def("linear", &linear<Matrix>)
      .def("read",
           [](const Matrix& self, uintptr_t rows, int count, uintptr_t out, int threads) {
             self.read(at<int64_t>(rows), count, at<float>(out), threads);
           },
           Release())
      .def_prop_ro("bytes", &Matrix::bytes);
}

void norm(GRID(x), GRID(residual), GRID(total), GRID(out), int type, int outer, int inner, int width, uintptr_t weight,
          int weight_type, float eps, float offset, bool rounded, int threads) {
  rms_norm({AS_GRID(x), AS_GRID(residual), AS_GRID(total), AS_GRID(out), Type(type), outer, inner, width,
            at<void>(weight), Type(weight_type), eps, offset, rounded},
           threads);
}

void rope(GRID(x), int type, int tokens, int heads, uintptr_t cos, uintptr_t sin, int half, bool interleaved,
          int threads) {
  rotate(AS_GRID(x), Type(type), tokens, heads, at<float>(cos), at<float>(sin), half, interleaved, threads);
}

void activation(uintptr_t x, uintptr_t up, size_t x_stride, uintptr_t out, int type, int rows, int width, int which,
                int threads) {
  activate(at<void>(x), at<void>(up), x_stride, at<void>(out), Type(type), rows, width, Activation(which), threads);
}

// (address of where each group starts, how many groups, stride of tensors of groups)
#define GROUPS uintptr_t starts, int groups, size_t group_stride
#define AS_GROUPS Groups{at<int32_t>(starts), groups, group_stride}

void norm_modulated(uintptr_t x, uintptr_t scale, uintptr_t shift, uintptr_t out, int type, int rows, int width, GROUPS,
                    uintptr_t weight, int weight_type, float eps, bool centered, int threads) {
  modulated_norm({at<void>(x), at<void>(scale), at<void>(shift), at<void>(out), Type(type), rows, width, AS_GROUPS,
                  at<void>(weight), Type(weight_type), eps, centered},
                 threads);
}

void sum_gated(uintptr_t x, uintptr_t y, uintptr_t gate, uintptr_t out, int type, int rows, int width, GROUPS,
               uintptr_t weight, int weight_type, float eps, int threads) {
  gated_sum({at<void>(x), at<void>(y), at<void>(gate), at<void>(out), Type(type), rows, width, AS_GROUPS,
             at<void>(weight), Type(weight_type), eps},
            threads);
}

void dense_attention(GRID(q), GRID(k), GRID(v), GRID(out), int heads, int dim, uintptr_t starts, int rows, float scale,
                     int threads) {
  attend_densely({AS_GRID(q), AS_GRID(k), AS_GRID(v), AS_GRID(out), heads, dim, at<int32_t>(starts), rows, scale},
                 threads);
}

void paged_attention(GRID(q), GRID(k), GRID(v), GRID(out), int type, uintptr_t keys, size_t keys_block,
                     size_t keys_head, size_t keys_slot, uintptr_t values, size_t values_block, size_t values_head,
                     size_t values_slot, int cache_type, int tokens, int heads, int kv_heads, int key_dim,
                     int value_dim, int block_size, int requests, uintptr_t query_starts, uintptr_t lengths,
                     uintptr_t block_table, size_t table_stride, uintptr_t slots, float scale, int window,
                     float softcap, uintptr_t sinks, int threads) {
  attend({AS_HEADS(q), AS_HEADS(k), AS_HEADS(v), AS_HEADS(out), Type(type),
          {at<void>(keys), keys_block, keys_head, keys_slot},
          {at<void>(values), values_block, values_head, values_slot},
          Type(cache_type), tokens, heads, kv_heads, key_dim, value_dim, block_size, requests,
          at<int32_t>(query_starts), at<int32_t>(lengths), at<int32_t>(block_table), table_stride,
          at<int64_t>(slots), scale, window, softcap, at<float>(sinks)},
         threads);
}

// (is there one, address of its weight, type, eps, offset)
using ScalingTuple = std::tuple<bool, uintptr_t, int, float, float>;

Scaling scaling(const ScalingTuple& from) {
  const auto& [on, weight, type, eps, offset] = from;
  return {on, at<void>(weight), Type(type), eps, offset};
}

// (up, down, activation, gated); `up` empty: there is none.
using FeedForwardTuple = std::tuple<Stack, Stack, int, bool>;

FeedForward feed_forward(const FeedForwardTuple& from) {
  const auto& [up, down, activation, gated] = from;
  return {up, down, Activation(activation), gated};
}

void define_block(nb::module_& module) {
  nb::class_<Linear>(module, "Linear");
  nb::class_<Block>(module, "Block")
      .def("__init__",
           [](Block* self, const std::vector<ScalingTuple>& norms, const Stack& qkv, const Stack& out, int heads,
              int kv_heads, int head_dim, float scale, int window, float softcap, uintptr_t sinks,
              const FeedForwardTuple& feed) {
             new (self) Block{scaling(norms.at(0)), scaling(norms.at(1)), scaling(norms.at(2)), scaling(norms.at(3)),
                              scaling(norms.at(4)), scaling(norms.at(5)), qkv, out, heads, kv_heads, head_dim, scale,
                              window, softcap, at<float>(sinks), feed_forward(feed)};
           })
      .def(
          "run",
          [](const Block& self, uintptr_t x, uintptr_t residual, uintptr_t out_x, uintptr_t out_residual, int type,
             int width, uintptr_t cos, uintptr_t sin, int half, bool interleaved, uintptr_t keys, size_t keys_block,
             size_t keys_head, size_t keys_slot, uintptr_t values, size_t values_block, size_t values_head,
             size_t values_slot, int cache_type, int tokens, int block_size, int requests, uintptr_t query_starts,
             uintptr_t lengths, uintptr_t block_table, size_t table_stride, uintptr_t slots, int threads) {
            Attention step{};
            step.keys = {at<void>(keys), keys_block, keys_head, keys_slot};
            step.values = {at<void>(values), values_block, values_head, values_slot};
            step.cache_type = Type(cache_type);
            step.tokens = tokens;
            step.block_size = block_size;
            step.requests = requests;
            step.query_starts = at<int32_t>(query_starts);
            step.lengths = at<int32_t>(lengths);
            step.block_table = at<int32_t>(block_table);
            step.table_stride = table_stride;
            step.slots = at<int64_t>(slots);
            run(self, {step, at<float>(cos), at<float>(sin), half, interleaved}, Type(type), width, at<void>(x),
                at<void>(residual), at<void>(out_x), at<void>(out_residual), threads);
          },
          Release());
}

struct Experts {
  std::vector<FeedForward> all;
};

void define_experts(nb::module_& module) {
  nb::class_<Experts>(module, "Experts")
      .def("__init__",
           [](Experts* self, const std::vector<FeedForwardTuple>& experts) {
             new (self) Experts();
             for (const FeedForwardTuple& one : experts) self->all.push_back(feed_forward(one));
           })
      .def(
          "mix",
          [](const Experts& self, int type, int rows, int width, int active, uintptr_t x, uintptr_t chosen,
             uintptr_t weights, uintptr_t out, int threads) {
            mix(self.all, Type(type), rows, width, active, at<void>(x), at<int64_t>(chosen), at<float>(weights),
                at<void>(out), threads);
          },
          Release());
}

}  // namespace

NB_MODULE(TUTTI_MODULE, module) {
  module.attr("sources") = TUTTI_SOURCES;
  module.def("permitted", &permit_tiles);
  define_float_matrix<FloatMatrix<Float32>>(module, "Float32Matrix");
  define_float_matrix<FloatMatrix<BFloat16>>(module, "BFloat16Matrix");
  define_grouped_matrix(module);
  nb::class_<Int8Matrix>(module, "Int8Matrix")
      .def("__init__",
           [](Int8Matrix* self, uintptr_t codes, uintptr_t scale, int outputs, int inputs, int threads) {
             nb::gil_scoped_release release;
             new (self) Int8Matrix(at<int8_t>(codes), at<float>(scale), outputs, inputs, threads);
           })
      .def("multiply", &multiply<Int8Matrix>, Release())
      .def("linear", &linear<Int8Matrix>)
      .def_prop_ro("bytes", &Int8Matrix::bytes);
  define_block(module);
  define_experts(module);
  module.def(
      "quantize_rows",
      [](uintptr_t x, int type, size_t stride, int rows, int width, uintptr_t codes, uintptr_t scales, int threads) {
        quantize_rows({at<void>(x), Type(type), stride}, rows, width, at<int8_t>(codes), at<float>(scales), threads);
      },
      Release());
  module.def(
      "argmax",
      [](uintptr_t x, size_t stride, uintptr_t out, int rows, int width, int threads) {
        argmax(at<float>(x), stride, at<int64_t>(out), rows, width, threads);
      },
      Release());
  module.def(
      "snake",
      [](uintptr_t x, uintptr_t speed, uintptr_t height, uintptr_t out, int rows, int channels, int64_t samples,
         uintptr_t taps, int threads) {
        snake({at<float>(x), at<float>(speed), at<float>(height), at<float>(out), rows, channels, samples,
               at<float>(taps)},
              threads);
      },
      Release());
  module.def("rms_norm", &norm, Release());
  module.def("modulated_norm", &norm_modulated, Release());
  module.def("gated_sum", &sum_gated, Release());
  module.def("rope", &rope, Release());
  module.def("activate", &activation, Release());
  module.def("attends_densely", &attends_densely);
  module.def("dense_attention", &dense_attention, Release());
  module.def("paged_attention", &paged_attention, Release());
}
