#include "tiles.h"

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace TUTTI_MODULE {

bool permit_tiles() {
#if defined(__linux__)
  constexpr int REQUEST = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return !HAS_TILES || syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
#else
  return !HAS_TILES;
#endif
}

}  // namespace TUTTI_MODULE
