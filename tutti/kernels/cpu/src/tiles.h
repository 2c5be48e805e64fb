// AMX: sixteen rows of A times a panel of B at a time, in the processor's eight tiles of 16 x 64 bytes.
//
// The panels of `micro.h` fit as they are: sixteen steps of sixteen columns are a tile. An instruction sums sixteen
// steps in an order of its own, so that one row alone goes through it as well: results do not depend on the batch. Sums
// of int8 products are exact, and the same as anywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "micro.h"

namespace TUTTI_MODULE {

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AMX_INT8__)
constexpr bool HAS_TILES = true;
#else
constexpr bool HAS_TILES = false;
#endif

// Whether products of this type are made in tiles.
template <class Op>
constexpr bool TILED = HAS_TILES && !std::is_same_v<Op, Float32>;

constexpr int TILE_ROWS = 16, TILE_STEPS = 16;

// Asks the system for the use of tiles, which it grants to whole processes; false: it does not.
bool permit_tiles();

// GCC's intrinsics do not say that they read and write memory, so the instructions are spelled out.
template <int T>
inline void load_tile(const void* from, size_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(T) : "memory");
}
template <int T>
inline void store_tile(void* to, size_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(T) : "memory");
}
template <int T>
inline void clear_tile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(T) : "memory");
}
template <class Op, int SUM, int A, int B>
inline void multiply_tile() {
  if constexpr (std::is_same_v<Op, BFloat16>)
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(SUM), "i"(A), "i"(B) : "memory");
  else
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(SUM), "i"(A), "i"(B) : "memory");
}

// The same of int8 on both sides.
template <int SUM, int A, int B>
inline void multiply_signed_tile() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(SUM), "i"(A), "i"(B) : "memory");
}

// One thread's tiles: 0 to 3 hold sums, 4 and 5 rows of A, 6 and 7 columns of B. They are given back at the end.
class Tiles {
 public:
  ~Tiles() {
    if (rows_) asm volatile("tilerelease" : : : "memory");
  }

  // Tiles of A and of sums have so many rows from now on, those of A and B so many steps; what is in them is lost.
  void shape(int rows, int steps = TILE_STEPS) {
    if (rows == rows_ && steps == steps_) return;
    struct alignas(64) {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    static_assert(sizeof config == 64);
    for (int tile = 0; tile < 8; tile++) {
      config.bytes[tile] = uint16_t(tile == 4 || tile == 5 ? steps * 4 : 64);
      config.rows[tile] = uint8_t(tile < 6 ? rows : steps);
    }
    asm volatile("ldtilecfg %0" : : "m"(config) : "memory");
    rows_ = rows;
    steps_ = steps;
  }

 private:
  int rows_ = 0, steps_ = 0;
};

// sums[r][v] += A[r] * B[:, v] for as many rows as the tiles have; with `fresh`, sums were zero. `steps`: whole tiles.
// `ahead(step)` may prefetch.
template <class Op, class Ahead>
inline void multiply_tiles(typename Op::Sum* sums, bool fresh, const char* a, size_t a_stride, const int32_t* b,
                           int steps, Ahead ahead) {
  static_assert(!TILED<Op> || (VECTORS == 4 && LANES == 16));
  constexpr size_t STRIDE = PANEL * 4;  // bytes, of sums and of B
  char* kept = reinterpret_cast<char*>(sums);
  if (fresh) {
    clear_tile<0>(), clear_tile<1>(), clear_tile<2>(), clear_tile<3>();
  } else {
    load_tile<0>(kept, STRIDE), load_tile<1>(kept + 64, STRIDE);
    load_tile<2>(kept + 128, STRIDE), load_tile<3>(kept + 192, STRIDE);
  }
  for (int step = 0; step < steps; step += TILE_STEPS) {
    const char* columns = reinterpret_cast<const char*>(b) + size_t(step) * STRIDE;
    for (int i = 0; i < TILE_STEPS; i++) ahead(step + i);
    load_tile<4>(a + size_t(step) * 4, a_stride * 4);
    load_tile<6>(columns, STRIDE);
    multiply_tile<Op, 0, 4, 6>();
    load_tile<7>(columns + 64, STRIDE);
    multiply_tile<Op, 1, 4, 7>();
    load_tile<6>(columns + 128, STRIDE);
    multiply_tile<Op, 2, 4, 6>();
    load_tile<7>(columns + 192, STRIDE);
    multiply_tile<Op, 3, 4, 7>();
  }
  store_tile<0>(kept, STRIDE), store_tile<1>(kept + 64, STRIDE);
  store_tile<2>(kept + 128, STRIDE), store_tile<3>(kept + 192, STRIDE);
}

// The same of twice sixteen rows and half a panel, whose two columns of tiles begin at `sums` and `b`: four loads for four
// products instead of five, and what is loaded stays in the first-level cache while many rows pass. Sums are those of
// `multiply_tiles` to the last bit. `ahead(tile)` may prefetch.
template <class Op, class Ahead>
inline void multiply_square(typename Op::Sum* sums, bool fresh, const char* a, size_t a_stride, const char* b, int steps,
                            Ahead ahead) {
  constexpr size_t STRIDE = PANEL * 4;  // bytes, of sums and of B
  char *upper = reinterpret_cast<char*>(sums), *lower = upper + TILE_ROWS * STRIDE;
  const char* below = a + TILE_ROWS * a_stride * 4;
  if (fresh) {
    clear_tile<0>(), clear_tile<1>(), clear_tile<2>(), clear_tile<3>();
  } else {
    load_tile<0>(upper, STRIDE), load_tile<1>(upper + 64, STRIDE);
    load_tile<2>(lower, STRIDE), load_tile<3>(lower + 64, STRIDE);
  }
  for (int step = 0; step < steps; step += TILE_STEPS) {
    const char* columns = b + size_t(step) * STRIDE;
    ahead(step / TILE_STEPS);
    load_tile<4>(a + size_t(step) * 4, a_stride * 4);
    load_tile<6>(columns, STRIDE);
    multiply_tile<Op, 0, 4, 6>();
    load_tile<7>(columns + 64, STRIDE);
    multiply_tile<Op, 1, 4, 7>();
    load_tile<5>(below + size_t(step) * 4, a_stride * 4);
    multiply_tile<Op, 2, 5, 6>();
    multiply_tile<Op, 3, 5, 7>();
  }
  store_tile<0>(upper, STRIDE), store_tile<1>(upper + 64, STRIDE);
  store_tile<2>(lower, STRIDE), store_tile<3>(lower + 64, STRIDE);
}

}  // namespace TUTTI_MODULE
