// What the processor can do at best: multiply-adds out of registers, and with one load each.
#pragma once
#include "vector.h"

// `rounds` times 12 independent multiply-adds of 8 floats, none of which touches memory.
extern "C" float safs_multiply_adds(int64_t rounds) {
  v8 a[12] = {};
  const v8 x = splat(1.0000001f), y = splat(1e-9f);
  for (int64_t r = 0; r < rounds; r++)
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) a[i] = mad(a[i], x, y);
  v8 total{};
  for (int i = 0; i < 12; i++) total += a[i];
  return sum(total);
}

// `rounds` passes over `floats` (a multiple of 64) numbers, one multiply-add for each load.
extern "C" float safs_loaded_multiply_adds(const float* data, int64_t floats, int64_t rounds) {
  v8 a[8] = {};
  for (int64_t r = 0; r < rounds; r++) {
    const v8 x = splat(1.f + (float)r);
    for (int64_t i = 0; i < floats; i += 64)
#pragma GCC unroll 8
      for (int k = 0; k < 8; k++) a[k] = mad(load(data + i + 8 * k), x, a[k]);
  }
  v8 total{};
  for (int k = 0; k < 8; k++) total += a[k];
  return sum(total);
}
