// The surviving weights of one layer, and their copies in the orders of the lists.
#pragma once
#include <cstdint>

// Survivors of one layer: `value` and `gradient` in the order of the mask, `sums` in the order of
// the weight gradient's list, `forward` and `backward` in those of the two convolutions' lists.
struct Weights {
  const float* value;
  float *gradient, *sums, *forward, *backward;
  const int32_t *of_sums, *of_forward, *of_backward;  // list position to mask position
  int64_t count, n_sums, n_forward, n_backward, stride;  // from a group's sums to the next one's
};

static void refresh(const Weights& w) {
  for (int64_t i = 0; i < w.n_forward; i++) w.forward[i] = w.value[w.of_forward[i]];
  for (int64_t i = 0; i < w.n_backward; i++) w.backward[i] = w.value[w.of_backward[i]];
}

static void collect(const Weights& w, int64_t groups) {
  for (int64_t i = 0; i < w.n_sums; i++) {
    float total = 0;
    for (int64_t g = 0; g < groups; g++) {
      total += w.sums[g * w.stride + i];
      w.sums[g * w.stride + i] = 0;
    }
    w.gradient[w.of_sums[i]] = total;
  }
}
