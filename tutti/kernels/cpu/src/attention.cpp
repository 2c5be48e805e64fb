// Attention over the paged cache, for prompts and single tokens alike.
//
// The query heads that share a KV head are folded into rows: row r of a request and KV head is query r / group, head
// r % group of the group. A tile of rows passes over the keys 64 at a time with a running softmax (Milakov & Gimelshein
// 2018; Dao et al. 2022). Both products are `micro.h`'s: keys are turned and values paired into panels as they are
// read, which costs little beside reading them and lets one path serve decoding (few rows, bound by memory) and
// prefill (many rows, bound by arithmetic):
//
//     logits [rows][64]        = queries [rows][key_dim]  x  turned keys [key_dim][64]
//     output [rows][value_dim] = weights [rows][64]       x  paired values [64][value_dim]
//
// Keys are also cut into ranges of RANGE: each is summed by itself and the sums merged in order, in one thread or in
// many. Tiles and ranges lie at fixed positions of the request, so a row's result depends neither on the batch, nor on
// the threads, nor on how the prompt was cut into chunks.
//
// Requests that decode behind a common prefix (the same blocks: one system prompt for all) have their rows in one tile:
// what they share is read once for all of them, the rest for each (Juravsky et al. 2024, Hydragen). A row meets the same
// keys in the same order as alone, so its result is the same to the last bit.
#include "attention.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <vector>

#include "memory.h"
#include "micro.h"
#include "shuffle.h"

namespace TUTTI_MODULE {

namespace {

constexpr int TILE = 64;           // keys turned at a time
constexpr int RANGE = 1024;        // keys summed by themselves
constexpr int MOST_ROWS = 128;      // rows of a tile
constexpr int LEAST_SHARED = 128;   // keys that requests must have in common to be worth a tile together
constexpr int PARTS = TILE / LANES;
constexpr float NOTHING = -std::numeric_limits<float>::infinity();
static_assert(RANGE % TILE == 0 && TILE % PANEL == 0);

int up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// What a tile of rows has gathered from some keys: softmax sums relative to the largest logit.
struct Gathered {
  float* most;    // [rows] the largest logit; -infinity: nothing seen
  float* total;   // [rows] sum of exp(logit - most)
  float* output;  // [rows][width] sum of exp(logit - most) * value

  void clear(int rows, int width) const {
    std::fill_n(most, rows, NOTHING);
    std::fill_n(total, rows, 0.0f);
    std::fill_n(output, size_t(rows) * width, 0.0f);
  }
};

float exp_one(float x) { return exp(splat(x))[0]; }

// Adds what `other` gathered from later keys.
void merge(const Gathered& into, const Gathered& other, int rows, int width) {
  for (int r = 0; r < rows; r++) {
    const float most = std::max(into.most[r], other.most[r]);
    if (most == NOTHING) continue;
    const float keep = exp_one(into.most[r] - most), add = exp_one(other.most[r] - most);
    into.most[r] = most;
    into.total[r] = into.total[r] * keep + other.total[r] * add;
    float *to = into.output + size_t(r) * width, *from = other.output + size_t(r) * width;
    for (int c = 0; c < width; c += LANES) store(to + c, load(to + c) * keep + load(from + c) * add);
  }
}

// Some rows of one KV head: of one request from its row `first` on, or the single token of each of several `members`
// (indices of requests) whose first `shared` keys are the same.
struct RowTile {
  int request, kv_head, first, count;
  int ranges;  // of keys that the last row can see
  const int* members = nullptr;
  int shared = 0;
};

// LANES words (DEPTH elements each) from `from` on, or the first `count` of them and zeros.
template <class Op, class Stored>
inline Words words_of(const Stored* from) {
  if constexpr (std::is_same_v<Op, BFloat16>)
    return load_raw<Words>(from);
  else
    return as_words(load(from));
}
template <class Op, class Stored>
inline Words words_of(const Stored* from, int count) {
  Stored padded[LANES * Op::DEPTH] = {};
  std::copy_n(from, count * Op::DEPTH, padded);
  return words_of<Op>(padded);
}

// One thread's work on tiles. Op: how products are done; Given: type of q, k, v; Stored: type in the cache.
template <class Op, class Given, class Stored>
class Worker {
  using Element = typename Op::Element;
  static constexpr int DEPTH = Op::DEPTH;

 public:
  Worker(const Attention& a, int rows)  // of the largest tile
      : a_(a),
        rows_(rows),
        group_(a.heads / a.kv_heads),
        key_steps_(up(a.key_dim, DEPTH) / DEPTH),
        width_(up(a.value_dim, LANES)),
        queries_(allocate<Element>(size_t(rows) * key_steps_ * DEPTH)),
        keys_(allocate<int32_t>(size_t(up(key_steps_, LANES)) * TILE)),
        values_(allocate<int32_t>(size_t(TILE / DEPTH) * width_)),
        logits_(allocate<float>(size_t(rows) * TILE)),
        weights_(allocate<Element>(size_t(rows) * TILE)),
        sums_(allocate<float>(2 * size_t(rows) * (width_ + 2))),
        nothing_(allocate<Stored>(std::max(a.key_dim, a.value_dim))) {
    std::fill_n(nothing_.get(), std::max(a.key_dim, a.value_dim), Stored{});
  }

  // Every range of the tile, then the result.
  void whole(const RowTile& tile) {
    const Gathered total = slice(sums_.get(), tile.count), part = slice(sums_.get() + floats(), tile.count);
    load_queries(tile);
    bool first = true;
    for (int range = first_range(tile); range < tile.ranges; range++, first = false) {
      gather(tile, range, first ? total : part);
      if (!first) merge(total, part, tile.count, width_);
    }
    finish(tile, total);
  }

  // One range of the tile into memory of `floats()` numbers.
  void part(const RowTile& tile, int range, float* memory) {
    load_queries(tile);
    gather(tile, range, slice(memory, tile.count));
  }

  // Merges the parts of all ranges, `memory` apart by `floats()`, then the result.
  void join(const RowTile& tile, float* memory) const {
    const int from = first_range(tile);
    const Gathered total = slice(memory + from * floats(), tile.count);
    for (int range = from + 1; range < tile.ranges; range++)
      merge(total, slice(memory + range * floats(), tile.count), tile.count, width_);
    finish(tile, total);
  }

  size_t floats() const { return size_t(rows_) * (width_ + 2); }

  // The first range in which the tile's first row sees anything.
  int first_range(const RowTile& tile) const { return lowest_key(tile) / RANGE; }

 private:
  int lowest_key(const RowTile& tile) const { return a_.window ? std::max(0, position(tile, 0) - a_.window + 1) : 0; }

  Gathered slice(float* memory, int rows) const { return {memory, memory + rows, memory + 2 * rows}; }

  int position(const RowTile& tile, int row) const {
    if (tile.members) return a_.lengths[tile.members[row / group_]] - 1;
    const int query = a_.query_starts[tile.request + 1] - a_.query_starts[tile.request];
    return a_.lengths[tile.request] - query + (tile.first + row) / group_;
  }

  // Token and head of a row.
  size_t offset(const Heads& heads, const RowTile& tile, int row) const {
    const int token = tile.members ? a_.query_starts[tile.members[row / group_]]
                                   : a_.query_starts[tile.request] + (tile.first + row) / group_;
    const int head = tile.kv_head * group_ + (tile.first + row) % group_;
    return token * heads.token_stride + head * heads.head_stride;
  }

  void load_queries(const RowTile& tile) {
    const int dim = key_steps_ * DEPTH;
    for (int r = 0; r < tile.count; r++) {
      position_[r] = position(tile, r);
      const Given* from = static_cast<const Given*>(a_.q.data) + offset(a_.q, tile, r);
      Element* to = queries_.get() + r * dim;
      for (int i = 0; i < a_.key_dim; i += LANES) store(to + i, load(from + i, a_.key_dim - i), a_.key_dim - i);
      std::memset(static_cast<void*>(to + a_.key_dim), 0, (dim - a_.key_dim) * sizeof(Element));
    }
  }

  // Clears `sums` and adds the keys of `range` that the tile's rows see.
  void gather(const RowTile& tile, int range, const Gathered& sums) {
    sums.clear(tile.count, width_);
    const int from = range * RANGE, end = from + RANGE;
    if (!tile.members) return add_keys(tile, 0, std::max(from, lowest_key(tile) / TILE * TILE), end, sums);
    // The keys that all share, for the rows of all; then the rest, for each request's own rows.
    RowTile all = tile;
    all.request = tile.members[0];
    add_keys(all, 0, from, std::min(end, tile.shared), sums);
    for (int row = 0; row < tile.count; row += group_) {
      const RowTile one = {tile.members[row / group_], tile.kv_head, 0, group_, tile.ranges};
      add_keys(one, row, std::max(from, tile.shared), end, sums);
    }
  }

  // Adds the keys `from` .. `end` that the tile's rows, which are ours from `row` on, see.
  void add_keys(const RowTile& tile, int row, int from, int end, const Gathered& sums) {
    const int last = tile.members ? end - 1 : position(tile, tile.count - 1);  // members share no part of a tile
    const int lowest = lowest_key(tile);
    end = std::min(end, last + 1);
    for (int key = from; key < end; key += TILE) {
      find(tile, key, lowest, last + 1);
      turn_keys();
      pair_values();
      multiply_keys(row, tile.count);
      const bool all = key + TILE - 1 <= position(tile, 0) && (!a_.window || key > last - a_.window);
      for (int r = row; r < row + tile.count; r++) soften(r, key, all, sums);
      multiply_values(row, tile.count, sums.output);
    }
  }

  // Where the keys and values `key` .. `key` + TILE lie: `nothing_` outside lowest .. end, which nobody sees. For the
  // keys of the tile after it, an address to fetch ahead.
  void find(const RowTile& tile, int key, int lowest, int end) {
    const int low = std::max(lowest - key, 0), high = std::min(end - key, TILE);
    locate(tile, a_.keys, key, low, high, key_at_);
    locate(tile, a_.values, key, low, high, value_at_);
    locate(tile, a_.keys, key + TILE, 0, std::min(end - key - TILE, TILE), ahead_);
  }

  void locate(const RowTile& tile, const Cache& cache, int key, int low, int high, const Stored** at) const {
    const int32_t* table = a_.block_table + tile.request * a_.table_stride;
    const Stored* base = static_cast<const Stored*>(cache.data) + tile.kv_head * cache.head_stride;
    std::fill_n(at, TILE, nothing_.get());
    for (int i = low; i < high;) {
      const int slot = (key + i) % a_.block_size, run = std::min(high - i, a_.block_size - slot);
      const Stored* row = base + table[(key + i) / a_.block_size] * cache.block_stride + slot * cache.slot_stride;
      for (int j = 0; j < run; j++) at[i + j] = row + j * cache.slot_stride;
      i += run;
    }
  }

  // Turned keys; fetches the values, which come next.
  void turn_keys() {
    for (int i = 0; i < TILE; i += LANES) {
      int step = 0;
      for (; step + LANES <= key_steps_; step += LANES)
        turn_square(i, step, [&](const Stored* key) { return words_of<Op>(key + step * DEPTH); });
      if (step < key_steps_)
        turn_square(i, step, [&](const Stored* key) { return words_of<Op>(key + step * DEPTH, key_steps_ - step); });
    }
  }

  template <class Read>
  [[gnu::always_inline]] void turn_square(int i, int step, Read&& read) {
    Words square[LANES];
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++) square[j] = read(key_at_[i + j]);
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++) __builtin_prefetch(value_at_[i + j] + step * DEPTH, 0, 2);
    turn(square);
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++) store_raw(keys_.get() + (step + j) * TILE + i, square[j]);
  }

  // Paired values; fetches the keys of the next tile.
  void pair_values() {
    const int whole = a_.value_dim / (2 * LANES) * (2 * LANES), ahead = a_.key_dim * sizeof(Stored);
    for (int i = 0; i < TILE; i += DEPTH) {
      int32_t* to = values_.get() + i / DEPTH * width_;
      for (int j = i; j < i + DEPTH; j++)
        for (int byte = 0; byte < ahead; byte += 64)
          __builtin_prefetch(reinterpret_cast<const char*>(ahead_[j]) + byte, 0, 2);
      if constexpr (DEPTH == 1) {
        for (int c = 0; c < width_; c += LANES) store(reinterpret_cast<float*>(to) + c, value(i, c));
      } else {  // the columns of two values side by side
        for (int c = 0; c < whole; c += 2 * LANES) {
          const Shorts first = load_raw<Shorts>(value_at_[i] + c), second = load_raw<Shorts>(value_at_[i + 1] + c);
          store_raw(to + c, interleave_first(first, second));
          store_raw(to + c + LANES, interleave_last(first, second));
        }
        for (int c = whole; c < width_; c += LANES)
          store_raw(to + c, (as_words(value(i, c)) >> 16 & 0xffff) | as_words(value(i + 1, c)));
      }
    }
  }

  Floats value(int i, int c) const { return load(value_at_[i] + c, a_.value_dim - c); }

  // `count` rows from `row` on.
  void multiply_keys(int row, int count) {
    for_row_blocks(count, [&](int block, int rows, auto...) {
      block += row;
      with_rows(rows, [&]<int M>() {
        const Element* from = queries_.get() + block * key_steps_ * DEPTH;
        for (int c = 0; c < TILE; c += PANEL) {
          Floats sums[M][VECTORS] = {};
          multiply<Op>(sums, from, key_steps_, keys_.get() + c, TILE, key_steps_);
          for (int r = 0; r < M; r++)
            for (int v = 0; v < VECTORS; v++) store(logits_.get() + (block + r) * TILE + c + v * LANES, sums[r][v]);
        }
      });
    });
  }

  // Logits of a row to weights; what was gathered before shrinks to the new largest logit.
  void soften(int row, int key, bool all, const Gathered& sums) {
    const float* logits = logits_.get() + row * TILE;
    Floats parts[PARTS];
    Floats most_lanes = splat(NOTHING);
    const int at = position_[row], low = a_.window ? at - a_.window : -1;
#pragma GCC unroll 8
    for (int i = 0; i < PARTS; i++) {
      Floats logit = load(logits + i * LANES) * a_.scale;
      if (a_.softcap) logit = a_.softcap * tanh(logit / a_.softcap);
      if (!all) {
        const Words keys = iota() + (key + i * LANES);
        logit = keys <= at ? logit : splat(NOTHING);
        logit = keys > low ? logit : splat(NOTHING);
      }
      parts[i] = logit;
      most_lanes = max(most_lanes, logit);
    }
    const float before = sums.most[row], most = std::max(before, largest(most_lanes));
    const float from = most == NOTHING ? 0.0f : most;
    Floats total = {};
#pragma GCC unroll 8
    for (int i = 0; i < PARTS; i++) {
      const Floats weight = exp(parts[i] - from);
      total += weight;
      store(weights_.get() + row * TILE + i * LANES, weight);
    }
    if (most > before) {
      const float keep = exp_one(before - from);
      sums.most[row] = most;
      sums.total[row] *= keep;
      float* output = sums.output + size_t(row) * width_;
      for (int c = 0; c < width_; c += LANES) store(output + c, load(output + c) * keep);
    }
    sums.total[row] += sum(total);
  }

  void multiply_values(int row, int count, float* output) {
    for_row_blocks(count, [&](int block, int rows, auto...) {
      block += row;
      with_rows(rows, [&]<int M>() {
        int c = 0;
        for (; c + PANEL <= width_; c += PANEL) add_values<M, VECTORS>(block, c, output);
        for (; c < width_; c += LANES) add_values<M, 1>(block, c, output);
      });
    });
  }

  template <int M, int N>
  void add_values(int block, int c, float* output) {
    Floats sums[M][N];
    for (int r = 0; r < M; r++)
      for (int v = 0; v < N; v++) sums[r][v] = load(output + (block + r) * width_ + c + v * LANES);
    multiply<Op>(sums, weights_.get() + block * TILE, TILE / DEPTH, values_.get() + c, width_, TILE / DEPTH);
    for (int r = 0; r < M; r++)
      for (int v = 0; v < N; v++) store(output + (block + r) * width_ + c + v * LANES, sums[r][v]);
  }

  void finish(const RowTile& tile, const Gathered& sums) const {
    for (int r = 0; r < tile.count; r++) {
      float total = sums.total[r];
      if (a_.sinks) total += exp_one(a_.sinks[tile.kv_head * group_ + (tile.first + r) % group_] - sums.most[r]);
      const float* from = sums.output + size_t(r) * width_;
      Given* to = static_cast<Given*>(a_.out.data) + offset(a_.out, tile, r);
      for (int c = 0; c < a_.value_dim; c += LANES) store(to + c, load(from + c) / total, a_.value_dim - c);
    }
  }

  const Attention& a_;
  const int rows_, group_, key_steps_, width_;  // width_: value_dim in whole vectors
  Buffer<Element> queries_;              // [rows][key_steps]
  Buffer<int32_t> keys_, values_;        // turned [key_steps][TILE], paired [TILE / DEPTH][width]
  Buffer<float> logits_;                 // [rows][TILE]
  Buffer<Element> weights_;              // [rows][TILE]
  Buffer<float> sums_;                   // two Gathered
  Buffer<Stored> nothing_;               // zeros
  int position_[MOST_ROWS];              // of each row's query in its request
  const Stored *key_at_[TILE], *value_at_[TILE], *ahead_[TILE];
};

template <class Given, class Stored>
void write(const Heads& from, const Cache& cache, const Attention& a, int dim, int token) {
  const int64_t slot = a.slots[token];
  Stored* row = static_cast<Stored*>(cache.data);
  row += slot / a.block_size * cache.block_stride + slot % a.block_size * cache.slot_stride;
  const Given* given = static_cast<const Given*>(from.data) + token * from.token_stride;
  for (int head = 0; head < a.kv_heads; head++)
    for (int i = 0; i < dim; i += LANES)
      store(row + head * cache.head_stride + i, load(given + head * from.head_stride + i, dim - i), dim - i);
}

template <class Given>
void clear(const Attention& a, int token) {
  for (int head = 0; head < a.heads; head++) {
    Given* to = static_cast<Given*>(a.out.data) + token * a.out.token_stride + head * a.out.head_stride;
    std::fill_n(to, a.value_dim, Given{});
  }
}

// How many keys, in whole tiles, two requests have in the same blocks.
int shared_keys(const Attention& a, int one, int other) {
  const int32_t *mine = a.block_table + one * a.table_stride, *theirs = a.block_table + other * a.table_stride;
  const int blocks = (std::min(a.lengths[one], a.lengths[other]) - 1) / a.block_size;
  int same = 0;
  while (same < blocks && mine[same] == theirs[same]) same++;
  return same * a.block_size / TILE * TILE;
}

// Decoding requests with a common beginning, in runs that fit a tile: `order` are requests, `runs` where runs begin in it
// and how many keys they share. Requests that share nothing are left out.
struct Family {
  int first, count, shared;
};
std::vector<Family> families(const Attention& a, std::vector<int>& order) {
  if (a.window) return {};
  for (int request = 0; request < a.requests; request++)
    if (a.query_starts[request + 1] - a.query_starts[request] == 1 && a.lengths[request] > LEAST_SHARED)
      order.push_back(request);
  const auto first_block = [&](int request) { return a.block_table[request * a.table_stride]; };
  std::stable_sort(order.begin(), order.end(), [&](int x, int y) { return first_block(x) < first_block(y); });
  const int most = MOST_ROWS / (a.heads / a.kv_heads);
  std::vector<Family> found;
  for (int i = 0; i < int(order.size());) {
    int shared = std::numeric_limits<int>::max(), j = i + 1;
    for (; j < int(order.size()) && j - i < most && first_block(order[j]) == first_block(order[i]); j++) {
      const int with = std::min(shared, shared_keys(a, order[i], order[j]));
      if (with < LEAST_SHARED) break;
      shared = with;
    }
    if (j - i > 1) found.push_back({i, j - i, shared});
    i = j;
  }
  return found;
}

// `order` holds the members that tiles point to.
std::vector<RowTile> cut(const Attention& a, std::vector<int>& order) {
  std::vector<RowTile> tiles;
  const int group = a.heads / a.kv_heads;
  std::vector<bool> taken(a.requests);
  for (const Family& family : families(a, order)) {
    int longest = 0;
    for (int i = family.first; i < family.first + family.count; i++) {
      taken[order[i]] = true;
      longest = std::max(longest, int(a.lengths[order[i]]));
    }
    for (int head = 0; head < a.kv_heads; head++)
      tiles.push_back({order[family.first], head, 0, family.count * group, (longest - 1) / RANGE + 1,
                       order.data() + family.first, family.shared});
  }
  for (int request = 0; request < a.requests; request++) {
    if (taken[request]) continue;
    const int query = a.query_starts[request + 1] - a.query_starts[request];
    const int before = a.lengths[request] - query, rows = query * group;
    for (int first = 0; first < rows; first += MOST_ROWS) {
      const int count = std::min(MOST_ROWS, rows - first);
      const int last = before + (first + count - 1) / group;
      for (int head = 0; head < a.kv_heads; head++) tiles.push_back({request, head, first, count, last / RANGE + 1});
    }
  }
  return tiles;
}

template <class Op, class Given, class Stored>
void run(const Attention& a, int threads) {
  std::vector<int> order;
  const std::vector<RowTile> tiles = cut(a, order);
  const int count = int(tiles.size());
  int ranges = 1, rows = 1;
  for (const RowTile& tile : tiles) ranges = std::max(ranges, tile.ranges), rows = std::max(rows, tile.count);
  const bool apart = ranges > 1 && count < 2 * threads;  // long and few: the ranges are shared out too
  const size_t floats = size_t(rows) * (up(a.value_dim, LANES) + 2);
  auto parts = allocate<float>(apart ? floats * ranges * count : 0);
  if (count <= 1 && !apart) threads = 1;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
#pragma omp for
    for (int token = 0; token < a.tokens; token++) {
      write<Given, Stored>(a.k, a.keys, a, a.key_dim, token);
      if (a.v.data) write<Given, Stored>(a.v, a.values, a, a.value_dim, token);
      if (token < a.query_starts[0] || token >= a.query_starts[a.requests]) clear<Given>(a, token);
    }
    Worker<Op, Given, Stored> worker(a, rows);
    if (apart) {
#pragma omp for schedule(dynamic)
      for (int i = 0; i < count * ranges; i++) {
        const RowTile& tile = tiles[i / ranges];
        const int range = i % ranges;
        const bool seen = range >= worker.first_range(tile) && range < tile.ranges;
        if (seen) worker.part(tile, range, parts.get() + i * floats);
      }
    }
#pragma omp for schedule(dynamic) nowait
    for (int i = 0; i < count; i++) {
      if (apart)
        worker.join(tiles[i], parts.get() + i * ranges * floats);
      else
        worker.whole(tiles[i]);
    }
  }
}

}  // namespace

void attend(const Attention& a, int threads) {
  const bool given_wide = a.type == Type::Float32, stored_wide = a.cache_type == Type::Float32;
  if (given_wide && stored_wide) return run<Float32, float, float>(a, threads);
  if (given_wide) return run<Float32, float, bfloat16>(a, threads);
  if (stored_wide) return run<Float32, bfloat16, float>(a, threads);
  run<BFloat16, bfloat16, bfloat16>(a, threads);
}

}  // namespace TUTTI_MODULE
