// Attention of whole rows in tiles, block by block of keys (Dao et al. 2022).
//
// Everything is transposed: scores are [keys][queries], sums [dims][queries]. So keys are tiles of A as they lie, softmax
// goes down columns without a sum across lanes, its results become tiles of B by putting two rows side by side, and a
// query's factor is a lane. Queries are transposed before, sums behind; keys and values become tiles once for all queries,
// and some blocks of queries pass over them together.
#include "dense_attention.h"

#include <algorithm>
#include <vector>

#include "memory.h"
#include "tiles.h"

namespace TUTTI_MODULE {

#if defined(__AMX_TILE__) && defined(__AVX512BF16__)

namespace {

constexpr int QUERIES = 32, KEYS = 256;  // of a block
constexpr int TOGETHER = 4;              // blocks of queries
constexpr int TILE = 1024;               // bytes
constexpr int WIDEST = 256;              // of a head
constexpr size_t ROW = QUERIES * 4;      // bytes of a row of scores, results or sums

// Sixteen vectors of sixteen words, rows for columns.
void transpose(__m512i v[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; i++) {  // the four quarters of each: a transpose of 4 x 4 of them
    t[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; i++) {
    v[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    v[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    v[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    v[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

const bfloat16* row_of(const Grid& grid, int token, int head) {
  return static_cast<const bfloat16*>(grid.data) + token * grid.outer_stride + head * grid.inner_stride;
}

// Thirty-two queries of a head under way.
struct Block {
  explicit Block(int dim) : queries(allocate<int32_t>(dim / 2 * QUERIES)), sums(allocate<float>(dim * QUERIES)) {}

  int first, count;
  Buffer<int32_t> queries;  // [pairs of dims][QUERIES]
  Buffer<float> sums;       // [dims][QUERIES]
  Floats most[2], total[2];
};

// A thread's memory, and the head of the row that it is at.
class Head {
 public:
  // Of rows of at most so many tokens.
  Head(const DenseAttention& over, int longest)
      : over_(over), keys_(allocate<char>(size_t(over.dim) * padded(longest) * 2)),
        values_(allocate<char>(size_t(over.dim) * padded(longest) * 2)), scores_(allocate<float>(KEYS * QUERIES)),
        results_(allocate<int32_t>(KEYS / 2 * QUERIES)) {
    for (int i = 0; i < TOGETHER; i++) blocks_.emplace_back(over.dim);
  }

  void take(int first, int tokens, int head) {
    if (first == first_ && head == head_) return;
    first_ = first, tokens_ = tokens, head_ = head, padded_ = padded(tokens);
    for (int key = 0; key < padded_; key++) pack_key(key);
    for (int key = 0; key < padded_; key += 32) transpose_values(key);
  }

  // Queries from..to.
  void look(int from, int to, Tiles& tiles) {
    tiles.shape(TILE_ROWS);
    while (from < to) {
      int count = 0;
      for (; count < TOGETHER && from < to; count++, from += QUERIES) begin(blocks_[count], from, std::min(QUERIES, to - from));
      for (int key = 0; key < padded_; key += KEYS) {
        const int keys = std::min(KEYS, padded_ - key);
        for (int i = 0; i < count; i++) {
          score(blocks_[i], key, keys);
          softmax(blocks_[i], key, keys);
          accumulate(blocks_[i], key, keys);
        }
      }
      for (int i = 0; i < count; i++) finish(blocks_[i]);
    }
  }

 private:
  static int padded(int tokens) { return (tokens + 31) / 32 * 32; }

  // Keys are tiles [16 keys][32 dims], one dim after the other; values [16 dims][32 keys], one key after the other.
  char* key_tile(int key, int dim) const { return keys_.get() + (key / 16 * (over_.dim / 32) + dim / 32) * size_t(TILE); }
  char* value_tile(int dim, int key) const { return values_.get() + (dim / 16 * (padded_ / 32) + key / 32) * size_t(TILE); }

  void pack_key(int key) {
    for (int dim = 0; dim < over_.dim; dim += 32) {
      const bool there = key < tokens_;
      const auto words = there ? _mm512_loadu_si512(row_of(over_.k, first_ + key, head_) + dim) : _mm512_setzero_si512();
      _mm512_store_si512(key_tile(key, dim) + key % 16 * 64, words);
    }
  }

  void transpose_values(int key) {
    for (int dim = 0; dim < over_.dim; dim += 16) {
      __m512i words[16];
      for (int pair = 0; pair < 16; pair++)
        words[pair] = _mm512_or_si512(value(key + 2 * pair, dim), _mm512_slli_epi32(value(key + 2 * pair + 1, dim), 16));
      transpose(words);
      for (int i = 0; i < 16; i++) _mm512_store_si512(value_tile(dim, key) + i * 64, words[i]);
    }
  }

  __m512i value(int key, int dim) const {
    if (key >= tokens_) return _mm512_setzero_si512();
    const void* at = row_of(over_.v, first_ + key, head_) + dim;
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(at)));
  }

  void begin(Block& block, int query, int count) {
    block.first = query, block.count = count;
    for (int v = 0; v < 2; v++) block.most[v] = splat(-1e30f), block.total[v] = Floats{};
    for (int group = 0; group < QUERIES; group += 16)
      for (int pair = 0; pair < over_.dim / 2; pair += 16) {
        __m512i words[16];
        for (int i = 0; i < 16; i++) {
          const bfloat16* from = row_of(over_.q, first_ + query + std::min(group + i, count - 1), head_);
          words[i] = _mm512_loadu_si512(from + 2 * pair);
        }
        transpose(words);
        for (int i = 0; i < 16; i++) _mm512_store_si512(block.queries.get() + (pair + i) * QUERIES + group, words[i]);
      }
  }

  // scores [keys][QUERIES].
  void score(const Block& block, int key, int keys) {
    for (int i = 0; i < keys; i += 32) {
      const char* b = reinterpret_cast<const char*>(block.queries.get());
      clear_tile<0>(), clear_tile<1>(), clear_tile<2>(), clear_tile<3>();
      for (int dim = 0; dim < over_.dim; dim += 32, b += 16 * ROW)
        multiply(key_tile(key + i, dim), key_tile(key + i + 16, dim), b);
      keep(reinterpret_cast<char*>(scores_.get()) + i * ROW);
    }
  }

  // The scores become results, e^(score - the largest) in pairs of keys; sums so far shrink to the new largest.
  void softmax(Block& block, int key, int keys) {
    const float factor = over_.scale * 1.44269504f;
    for (int i = tokens_ - key; i < keys; i++)  // beyond the row's end
      for (int v = 0; v < 2; v++) store(scores_.get() + i * QUERIES + v * LANES, splat(-1e30f));
    const float* scores = scores_.get();
    Floats largest[4] = {load(scores), load(scores + LANES), load(scores), load(scores + LANES)};
    for (int i = 0; i < keys; i += 2)  // four that do not wait for each other
      for (int j = 0; j < 4; j++) largest[j] = max(largest[j], load(scores + i * QUERIES + j * LANES));
    Floats shrunk[2], sum[2] = {}, beside[2] = {};
    for (int v = 0; v < 2; v++) {
      const Floats most = max(block.most[v], max(largest[v], largest[v + 2]) * factor);
      shrunk[v] = exp2(block.most[v] - most);
      block.most[v] = most;
    }
    for (int i = 0; i < keys; i += 2)
      for (int v = 0; v < 2; v++) {
        const float* at = scores + i * QUERIES + v * LANES;
        const Floats one = exp2(load(at) * factor - block.most[v]);
        const Floats other = exp2(load(at + QUERIES) * factor - block.most[v]);
        sum[v] += one, beside[v] += other;
        _mm512_store_si512(results_.get() + i / 2 * QUERIES + v * LANES, side_by_side(one, other));
      }
    for (int v = 0; v < 2; v++) block.total[v] = block.total[v] * shrunk[v] + (sum[v] + beside[v]);
    if (key == 0) return;
    for (int dim = 0; dim < over_.dim; dim++)
      for (int v = 0; v < 2; v++) {
        float* at = block.sums.get() + dim * QUERIES + v * LANES;
        store(at, load(at) * shrunk[v]);
      }
  }

  // 2^x for x of at most 0 to eleven bits, more than bfloat16 keeps. Rounded by a number so large that its last bit is 1.
  static Floats exp2(Floats x) {
    constexpr float LARGE = 12582912;
    x = max(splat(-126.0f), x);  // which keeps what is not a number
    const Floats rounded = x + LARGE, r = x - (rounded - LARGE);
    const Floats p = ((r * 5.5503e-2f + 2.40226e-1f) * r + 6.93147e-1f) * r + 1.0f;
    return as_floats(as_words(p) + (as_words(rounded) << 23));
  }

  // Two vectors as bfloat16, lane by lane beside each other.
  static __m512i side_by_side(Floats one, Floats other) {
    alignas(64) static constexpr uint16_t ORDER[32] = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
                                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(other, one));
    return _mm512_permutexvar_epi16(_mm512_load_si512(ORDER), both);
  }

  // sums [dims][QUERIES] += values * results.
  void accumulate(Block& block, int key, int keys) {
    for (int dim = 0; dim < over_.dim; dim += 32) {
      char* sums = reinterpret_cast<char*>(block.sums.get() + dim * QUERIES);
      if (key == 0) {
        clear_tile<0>(), clear_tile<1>(), clear_tile<2>(), clear_tile<3>();
      } else {
        load_tile<0>(sums, ROW), load_tile<1>(sums + 64, ROW);
        load_tile<2>(sums + 16 * ROW, ROW), load_tile<3>(sums + 16 * ROW + 64, ROW);
      }
      const char* b = reinterpret_cast<const char*>(results_.get());
      for (int i = 0; i < keys; i += 32, b += 16 * ROW)
        multiply(value_tile(dim, key + i), value_tile(dim + 16, key + i), b);
      keep(sums);
    }
  }

  // Two tiles times two that begin at `b`: into tiles 0 to 3.
  static void multiply(const char* upper, const char* lower, const char* b) {
    load_tile<4>(upper, 64);
    load_tile<6>(b, ROW);
    multiply_tile<BFloat16, 0, 4, 6>();
    load_tile<7>(b + 64, ROW);
    multiply_tile<BFloat16, 1, 4, 7>();
    load_tile<5>(lower, 64);
    multiply_tile<BFloat16, 2, 5, 6>();
    multiply_tile<BFloat16, 3, 5, 7>();
  }

  static void keep(char* to) {
    store_tile<0>(to, ROW), store_tile<1>(to + 64, ROW);
    store_tile<2>(to + 16 * ROW, ROW), store_tile<3>(to + 16 * ROW + 64, ROW);
  }

  void finish(const Block& block) {
    for (int v = 0; v < 2; v++) {
      const Floats inverse = 1.0f / block.total[v];
      for (int dim = 0; dim < over_.dim; dim += 16) {
        __m512i words[16];
        for (int i = 0; i < 16; i++)
          words[i] = reinterpret_cast<__m512i>(load(block.sums.get() + (dim + i) * QUERIES + v * LANES) * inverse);
        transpose(words);
        for (int i = 0; i < 16 && v * LANES + i < block.count; i++) {
          const bfloat16* out = row_of(over_.out, first_ + block.first + v * LANES + i, head_) + dim;
          store(const_cast<bfloat16*>(out), reinterpret_cast<Floats>(words[i]));
        }
      }
    }
  }

  const DenseAttention& over_;
  int first_ = 0, tokens_ = 0, head_ = -1, padded_ = 0;
  Buffer<char> keys_, values_;
  Buffer<float> scores_;     // [KEYS][QUERIES]
  Buffer<int32_t> results_;  // [KEYS / 2][QUERIES]
  std::vector<Block> blocks_;
};

}  // namespace

bool attends_densely(int dim) { return dim % 32 == 0 && dim <= WIDEST; }

void attend_densely(const DenseAttention& over, int threads) {
  const int heads = over.rows * over.heads;
  const int parts = std::max(1, (2 * threads + heads - 1) / std::max(1, heads));  // of a head's queries
  int longest = 0;
  for (int row = 0; row < over.rows; row++) longest = std::max(longest, over.starts[row + 1] - over.starts[row]);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    Tiles tiles;
    Head at(over, longest);
#pragma omp for schedule(dynamic)
    for (int task = 0; task < heads * parts; task++) {
      const int row = task / parts / over.heads, part = task % parts;
      const int first = over.starts[row], tokens = over.starts[row + 1] - first;
      const int blocks = (tokens + QUERIES - 1) / QUERIES;
      const int from = blocks * part / parts * QUERIES, to = std::min(tokens, blocks * (part + 1) / parts * QUERIES);
      if (from >= to) continue;
      at.take(first, tokens, task / parts % over.heads);
      at.look(from, to, tiles);
    }
  }
}

#else

bool attends_densely(int) { return false; }
void attend_densely(const DenseAttention&, int) {}

#endif

}  // namespace TUTTI_MODULE
