#include "block.h"

#include <numeric>

namespace TUTTI_MODULE {

int outputs(const Stack& stack) {
  return std::accumulate(stack.begin(), stack.end(), 0, [](int sum, const Linear& one) { return sum + one.outputs; });
}

namespace {

size_t size_of(Type type) { return type == Type::Float32 ? 4 : 2; }

void* moved(const Rows& rows, size_t elements) { return static_cast<char*>(rows.data) + elements * size_of(rows.type); }

// Rows of one type, one after the other, in memory of their own.
class Scratch {
 public:
  Scratch(Type type, int rows, int width)
      : bytes_(allocate<char>(size_t(rows) * width * size_of(type))), type_(type), width_(size_t(width)) {}

  void* data() const { return bytes_.get(); }
  Rows rows() const { return {bytes_.get(), type_, width_}; }
  char* row(size_t index) const { return bytes_.get() + index * width_ * size_of(type_); }

 private:
  Buffer<char> bytes_;
  Type type_;
  size_t width_;
};

Grid grid(const void* data, size_t stride) { return {const_cast<void*>(data), stride, 0}; }

// out = norm(x + residual) with the sum in `total`; `residual` null: no addition.
void norm_rows(const Scaling& by, Type type, int rows, int width, const void* x, const void* residual, void* total,
               void* out, int threads) {
  const size_t stride = width;
  rms_norm({grid(x, stride), grid(residual, residual ? stride : 0), grid(total, residual ? stride : 0),
            grid(out, stride), type, rows, 1, width, by.weight, by.weight_type, by.eps, by.offset, by.offset == 0},
           threads);
}

// Each head of x [tokens, heads, dim] by itself, where it is.
void norm_heads(const Scaling& by, const Heads& x, Type type, int tokens, int heads, int dim, int threads) {
  const Grid here{x.data, x.token_stride, x.head_stride};
  rms_norm({here, {}, {}, here, type, tokens, heads, dim, by.weight, by.weight_type, by.eps, by.offset,
            by.offset == 0},
           threads);
}

template <class T>
void add_rows(const void* a, const void* b, void* out, int count) {
  for (int i = 0; i < count; i += LANES)
    store(static_cast<T*>(out) + i, load(static_cast<const T*>(a) + i, count - i) +
                                        load(static_cast<const T*>(b) + i, count - i), count - i);
}

// (norm(x + residual), x + residual); without a norm both are the sum, without a residual x begins it.
void enter(const Scaling& by, Type type, int rows, int width, const void* x, const void* residual, void* out,
           void* total, int threads) {
  const int count = rows * width;  // few rows
  if (!residual) {
    std::memcpy(total, x, count * size_of(type));
  } else if (!by.on) {
    if (type == Type::Float32) add_rows<float>(x, residual, total, count);
    else add_rows<bfloat16>(x, residual, total, count);
  }
  if (!by.on) std::memcpy(out, total, count * size_of(type));
  else norm_rows(by, type, rows, width, x, residual, total, out, threads);
}

void feed(const FeedForward& layer, const Rows& x, int rows, const Rows& out, int threads) {
  const int inner = layer.inner(), width = outputs(layer.up);
  const Scratch up(x.type, rows, width), active(x.type, rows, inner);
  multiply(layer.up, x, rows, up.rows(), threads);
  const void* second = layer.gated ? static_cast<const char*>(up.data()) + inner * size_of(x.type) : nullptr;
  activate(up.data(), second, width, active.data(), x.type, rows, inner, layer.activation, threads);
  multiply(layer.down, active.rows(), rows, out, threads);
}

// Attention over the cache: h [tokens][width] becomes what the output projection gives.
void look(const Block& block, const Step& step, const Rows& h, int threads) {
  Attention attention = step.attention;
  const int tokens = attention.tokens, dim = block.head_dim;
  const int columns = (block.heads + 2 * block.kv_heads) * dim;
  const Scratch qkv(h.type, tokens, columns), attended(h.type, tokens, block.heads * dim);
  multiply(block.qkv, h, tokens, qkv.rows(), threads);
  const auto heads_from = [&](int head) {
    return Heads{moved(qkv.rows(), size_t(head) * dim), size_t(columns), size_t(dim)};
  };
  attention.q = heads_from(0);
  attention.k = heads_from(block.heads);
  attention.v = heads_from(block.heads + block.kv_heads);
  attention.out = {attended.data(), size_t(block.heads) * dim, size_t(dim)};
  attention.type = h.type;
  attention.heads = block.heads;
  attention.kv_heads = block.kv_heads;
  attention.key_dim = attention.value_dim = dim;
  attention.scale = block.scale;
  attention.window = block.window;
  attention.softcap = block.softcap;
  attention.sinks = block.sinks;
  if (block.q_norm.on) norm_heads(block.q_norm, attention.q, h.type, tokens, block.heads, dim, threads);
  if (block.k_norm.on) norm_heads(block.k_norm, attention.k, h.type, tokens, block.kv_heads, dim, threads);
  if (step.cos)  // queries and keys lie side by side
    rotate({qkv.data(), size_t(columns), size_t(dim)}, h.type, tokens, block.heads + block.kv_heads, step.cos, step.sin,
           step.half, step.interleaved, threads);
  attend(attention, threads);
  multiply(block.out, attended.rows(), tokens, h, threads);
}

}  // namespace

void multiply(const Stack& stack, const Rows& x, int rows, const Rows& out, int threads) {
  size_t start = 0;
  for (const Linear& one : stack) {
    one.multiply(one.matrix, x, rows, one.bias, {moved(out, start), out.type, out.stride}, threads);
    start += one.outputs;
  }
}

void run(const Block& block, const Step& step, Type type, int width, const void* x, const void* residual, void* out_x,
         void* out_residual, int threads) {
  const int tokens = step.attention.tokens;
  const Scratch hidden(type, tokens, width), total(type, tokens, width);
  const auto norm_here = [&](const Scaling& by, void* rows) {
    if (by.on) norm_rows(by, type, tokens, width, rows, nullptr, nullptr, rows, threads);
  };
  enter(block.attention_norm, type, tokens, width, x, residual, hidden.data(), total.data(), threads);
  look(block, step, hidden.rows(), threads);
  norm_here(block.attention_out_norm, hidden.data());
  enter(block.feed_forward_norm, type, tokens, width, hidden.data(), total.data(), out_x, out_residual, threads);
  if (block.feed_forward.up.empty()) return;
  const Rows out{out_x, type, size_t(width)};
  feed(block.feed_forward, out, tokens, out, threads);
  norm_here(block.feed_forward_out_norm, out_x);
}

namespace {

template <class T>
void sum_places(const T* results, const float* weights, int active, int width, T* out) {
  for (int i = 0; i < width; i += LANES) {
    const int count = width - i;
    Floats total = load(results + i, count) * weights[0];
    for (int place = 1; place < active; place++) {
      total += load(results + size_t(place) * width + i, count) * weights[place];
    }
    store(out + i, total, count);
  }
}

}  // namespace

void mix(const std::vector<FeedForward>& experts, Type type, int rows, int width, int active, const void* x,
         const int64_t* chosen, const float* weights, void* out, int threads) {
  const int places = rows * active;
  const size_t row_bytes = width * size_of(type);
  std::vector<std::vector<int>> of_expert(experts.size());  // the places of each
  for (int place = 0; place < places; place++) of_expert[chosen[place]].push_back(place);
  const Scratch results(type, places, width);
  for (size_t number = 0; number < experts.size(); number++) {
    const std::vector<int>& mine = of_expert[number];
    const int count = int(mine.size());
    if (count == 0) continue;
    if (count == 1) {  // where it is, to where it goes
      const Rows from{static_cast<char*>(const_cast<void*>(x)) + mine[0] / active * row_bytes, type, size_t(width)};
      feed(experts[number], from, 1, {results.row(mine[0]), type, size_t(width)}, threads);
      continue;
    }
    const Scratch given(type, count, width), made(type, count, width);
    for (int i = 0; i < count; i++)
      std::memcpy(given.row(i), static_cast<const char*>(x) + mine[i] / active * row_bytes, row_bytes);
    feed(experts[number], given.rows(), count, made.rows(), threads);
    for (int i = 0; i < count; i++) std::memcpy(results.row(mine[i]), made.row(i), row_bytes);
  }
  for (int row = 0; row < rows; row++) {
    const size_t first = size_t(row) * width;
    const float* by = weights + size_t(row) * active;
    if (type == Type::Float32)
      sum_places(static_cast<const float*>(results.data()) + first * active, by, active, width,
                 static_cast<float*>(out) + first);
    else
      sum_places(static_cast<const bfloat16*>(results.data()) + first * active, by, active, width,
                 static_cast<bfloat16*>(out) + first);
  }
}

}  // namespace TUTTI_MODULE
