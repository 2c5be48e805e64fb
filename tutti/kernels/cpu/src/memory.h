// Memory for packed weights (huge pages) and for scratch (uninitialised, aligned).
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace TUTTI_MODULE {

struct Free {
  void operator()(void* p) const { std::free(p); }
};

template <class T>
using Buffer = std::unique_ptr<T[], Free>;

// `count` uninitialised elements, aligned to a cache line. From two megabytes on: to huge pages, which the kernel is
// asked for (weights read from 4 KiB pages cost up to twice the time).
template <class T>
Buffer<T> allocate(size_t count) {
  constexpr size_t HUGE_PAGE = size_t(2) << 20;
  const size_t bytes = count * sizeof(T) + 64;
  const bool huge = bytes >= HUGE_PAGE;
  void* p = nullptr;
  if (posix_memalign(&p, huge ? HUGE_PAGE : 64, bytes) != 0) throw std::bad_alloc();
  if (huge) madvise(p, bytes & ~(HUGE_PAGE - 1), MADV_HUGEPAGE);  // advice: refused where huge pages are off
  return Buffer<T>(static_cast<T*>(p));
}

}  // namespace TUTTI_MODULE
